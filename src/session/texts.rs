//! The texts of an order, with the values of the attempt in place.
//!
//! Rendered when an order is sent, for each attempt anew and never under the lock of the
//! state. What cannot be rendered is no order: the attempt is over before it began, and
//! is not tried again, because the same text and values would give the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use horai_core::ids::{ActionKey, AttemptKey, JobId, Token};
use horai_core::machine::command::EndReport;
use horai_core::machine::state::State;
use horai_core::model::job::JobSpec;
use horai_core::model::output::Values;
use horai_core::model::run::{EndKind, Run};
use horai_core::model::syntax::Syntax;
use horai_core::time::UtcMillis;
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

/// What the cluster knows of a run beside its times.
#[derive(Debug, Default)]
pub(crate) struct Known {
    params: Values,
    /// By the upstream job's name.
    outputs: BTreeMap<String, Values>,
    state: Values,
}

impl Known {
    /// Of a run of the job, without parameters: `action` is the one that it stands for, and
    /// has edges. Jobs whose texts name no outputs get none, which may be long.
    pub(crate) fn of(state: &State, spec: &JobSpec, job: JobId, action: Option<ActionKey>) -> Self {
        let names_some = spec.texts().any(|(_, text)| text.contains("outputs"));
        let above = action.filter(|_| names_some).map(|key| state.outputs_above(key));
        let named = above.into_iter().flatten().filter_map(|(job, values)| {
            let job = state.job(job)?;
            Some((job.spec.name.to_string(), values.clone()))
        });
        let kept = kept(state, spec, job).unwrap_or_default();
        Self { params: Values::new(), outputs: named.collect(), state: kept }
    }

    /// The same with parameters.
    pub(crate) fn with(self, params: Values) -> Self {
        Self { params, ..self }
    }
}

/// What the job's runs before one of this definition have kept; none if it keeps nothing.
pub(super) fn kept(state: &State, spec: &JobSpec, job: JobId) -> Option<Values> {
    let values = || state.job_state(job).map(|kept| kept.values.clone());
    spec.keep_state.then(|| values().unwrap_or_default())
}

/// The values of an attempt of a job; `times` are when it stands for, and when it was due.
pub(crate) fn context_of(
    state: &State,
    spec: &JobSpec,
    attempt: AttemptKey,
    (nominal, due): (UtcMillis, UtcMillis),
    known: Known,
) -> Context {
    let default = state.settings().map(|settings| settings.default_zone.as_str());
    let zone = Zone::either(spec.zone.as_deref(), default);
    let Known { params, outputs, state } = known;
    let own = Context::new(spec.name.clone(), attempt, nominal, zone);
    Context { due, params, outputs, state, ..own }
}

/// The parameters of a run: its own over those of its triggers and its job.
pub(super) fn params_of(state: &State, spec: &JobSpec, run: &Run) -> BTreeMap<String, String> {
    let action = run.action.and_then(|key| state.action(key));
    let params = spec.params_of(action.map_or(&[], |action| &action.triggers));
    params.into_iter().chain(run.params.clone()).collect()
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
