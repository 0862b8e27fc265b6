//! The texts of an order, with the values of the attempt in place.
//!
//! Rendered when an order is sent, for each attempt anew and never under the lock of the
//! state. What cannot be rendered is no order: the attempt is over before it began, and
//! is not tried again, because the same text and values would give the same.

use std::sync::Arc;

use horai_core::ids::{AttemptKey, Token, TriggerName};
use horai_core::machine::command::EndReport;
use horai_core::machine::state::State;
use horai_core::model::job::JobSpec;
use horai_core::model::params::{Params, in_force};
use horai_core::model::run::{EndKind, Run};
use horai_core::model::syntax::Syntax;
use horai_core::time::UtcMillis;
use horai_core::timing::batch;
use horai_core::timing::zone::Zone;
use horai_proto::worker as pb;

use crate::template::{self, Context, TemplateError};

/// An order whose texts are as the job wrote them.
pub(super) struct Draft {
    pub(super) start: pb::Start,
    pub(super) key: AttemptKey,
    pub(super) token: Token,
    /// None if there is nothing to replace.
    pub(super) texts: Option<(Syntax, Context)>,
}

/// An attempt that nothing can be started for.
pub(super) struct Unrendered {
    pub(super) key: AttemptKey,
    pub(super) token: Token,
    pub(super) report: EndReport,
}

/// The values of an attempt of a job; `times` are when it stands for, and when it was due.
/// What its groups give is that of now, as whatever is not part of a definition.
pub(crate) fn context_of(
    state: &State,
    spec: &JobSpec,
    attempt: AttemptKey,
    (nominal, due): (UtcMillis, UtcMillis),
    params: Params,
) -> Context {
    let zone = zone_of(state, spec);
    let batch = batch::key_of(spec, &zone, nominal);
    let (area, vars) = (state.area().map(ToString::to_string), state.group_params(spec));
    let plain = Context::new(spec.name.clone(), attempt, nominal, zone);
    Context { due, area, batch, params, vars, ..plain }
}

/// The job's zone, or the cluster's. Both were checked when they were written.
pub(super) fn zone_of(state: &State, spec: &JobSpec) -> Zone {
    let default = state.settings().map(|settings| settings.default_zone.as_str());
    Zone::either(spec.zone.as_deref(), default)
}

/// The parameters of a run of these triggers, those of its groups apart: what is given
/// with it goes before what its triggers give, and that before what the job does.
pub(crate) fn params_given(
    state: &State,
    spec: &JobSpec,
    triggers: &[TriggerName],
    with_run: &Params,
) -> Params {
    in_force([with_run, &spec.trigger_params(triggers), &spec.params], state.area())
}

/// The same for a run that there is.
pub(super) fn params_of(state: &State, spec: &JobSpec, run: &Run) -> Params {
    let action = run.action.and_then(|key| state.action(key));
    params_given(state, spec, action.map_or(&[], |action| &action.triggers), &run.params)
}

impl Draft {
    /// The order as it is sent.
    pub(super) fn finish(self) -> Result<pb::Start, Unrendered> {
        let Self { mut start, key, token, texts } = self;
        let Some((syntax, context)) = texts else { return Ok(start) };
        match put_values(&mut start, syntax, &Arc::new(context)) {
            Ok(()) => Ok(start),
            Err((field, error)) => {
                let how = EndKind::unrendered(&format!("{field}: {error}"));
                let report =
                    EndReport { how, started: None, ended: None, output_bytes: 0, output_crc: 0 };
                Err(Unrendered { key, token, report })
            }
        }
    }
}

/// Renders each text where it stands; says which one cannot be.
fn put_values(
    start: &mut pb::Start,
    syntax: Syntax,
    context: &Arc<Context>,
) -> Result<(), (String, TemplateError)> {
    let put = |field: String, text: &mut String| {
        if syntax.marks(text) {
            let rendered = template::render(text, syntax, context).map_err(|e| (field, e))?;
            *text = rendered.text.into_owned();
        }
        Ok(())
    };
    match &mut start.executor {
        Some(pb::start::Executor::Shell(shell)) => {
            put("shell".to_owned(), &mut shell.script)?;
            for (i, text) in shell.interpreter.iter_mut().enumerate() {
                put(format!("interpreter[{i}]"), text)?;
            }
        }
        Some(pb::start::Executor::Exec(exec)) => {
            for (i, text) in exec.argv.iter_mut().enumerate() {
                put(format!("exec[{i}]"), text)?;
            }
        }
        Some(pb::start::Executor::Noop(_)) | None => {}
    }
    // Parameters are values, and are not read as texts.
    let own = start.env.iter_mut().filter(|(key, _)| !key.starts_with("HORAI_"));
    for (key, text) in own {
        put(format!("env.{key}"), text)?;
    }
    Ok(())
}
