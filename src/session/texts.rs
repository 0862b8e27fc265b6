//! The texts of an order, with the values of the attempt in place.
//!
//! Rendered when an order is sent, for each attempt anew and never under the lock of the
//! state. What cannot be rendered is no order: the attempt is over before it began, and
//! is not tried again, because the same text and values would give the same.
//!
//! Here alone secrets are decrypted: what holds them is sent, and is never part of an
//! entry, an error or a line of the log. An order whose secrets this node cannot decrypt
//! is none either, but that is no fault of the job: the attempt counts as lost before it
//! began, and its run waits for a leader that has the key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use horai_core::ids::{ActionKey, AttemptKey, JobId, Name, Token, TriggerName};
use horai_core::machine::command::EndReport;
use horai_core::machine::state::State;
use horai_core::model::job::JobSpec;
use horai_core::model::output::Values;
use horai_core::model::params::{Params, in_force};
use horai_core::model::run::{EndKind, Run};
use horai_core::model::secret::Sealed;
use horai_core::model::syntax::Syntax;
use horai_core::time::UtcMillis;
use horai_core::timing::batch;
use horai_core::timing::zone::Zone;
use horai_proto::worker as pb;

use crate::secrets::{Keyring, OpenError};
use crate::template::{self, Context, TemplateError};

/// An order whose texts are as the job wrote them.
pub(super) struct Draft {
    pub(super) start: pb::Start,
    pub(super) key: AttemptKey,
    pub(super) token: Token,
    /// None if there is nothing to replace.
    pub(super) texts: Option<(Syntax, Context)>,
    /// What the texts name, as it is stored; none if it is not there any more.
    pub(super) sealed: Vec<(Name, Option<Sealed>)>,
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
    params: Params,
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
        Self { params: Params::new(), outputs: named.collect(), state: kept }
    }

    /// The same with parameters.
    pub(crate) fn with(self, params: Params) -> Self {
        Self { params, ..self }
    }
}

/// What the job's runs before one of this definition have kept; none if it keeps nothing.
pub(super) fn kept(state: &State, spec: &JobSpec, job: JobId) -> Option<Values> {
    let values = || state.job_state(job).map(|kept| kept.values.clone());
    spec.keep_state.then(|| values().unwrap_or_default())
}

/// The values of an attempt of a job; `times` are when it stands for, and when it was due.
/// What its groups give is that of now, as whatever is not part of a definition.
pub(crate) fn context_of(
    state: &State,
    spec: &JobSpec,
    attempt: AttemptKey,
    (nominal, due): (UtcMillis, UtcMillis),
    known: Known,
) -> Context {
    let zone = zone_of(state, spec);
    let batch = batch::key_of(spec, &zone, nominal);
    let (area, vars) = (state.area().map(ToString::to_string), state.group_params(spec));
    let Known { params, outputs, state } = known;
    let plain = Context::new(spec.name.clone(), attempt, nominal, zone);
    Context { due, area, batch, params, vars, outputs, state, ..plain }
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
    let with_run = &state.whole_of(run).params;
    params_given(state, spec, action.map_or(&[], |action| &action.triggers), with_run)
}

impl Draft {
    /// The order as it is sent.
    pub(super) fn finish(self, keys: &Keyring) -> Result<pb::Start, Unrendered> {
        let Self { mut start, key, token, texts, sealed } = self;
        let Some((syntax, mut context)) = texts else { return Ok(start) };
        let opened = open(sealed, keys, &mut context);
        let put = opened.and_then(|()| {
            let put = put_values(&mut start, syntax, &Arc::new(context));
            put.map_err(|(field, error)| EndKind::unrendered(&format!("{field}: {error}")))
        });
        put.map(|()| start).map_err(|how| {
            let report =
                EndReport { how, started: None, ended: None, output_bytes: 0, output_crc: 0 };
            Unrendered { key, token, report }
        })
    }
}

/// Decrypts what the texts name; says how the attempt ends if that cannot be done.
fn open(
    sealed: Vec<(Name, Option<Sealed>)>,
    keys: &Keyring,
    context: &mut Context,
) -> Result<(), EndKind> {
    for (name, sealed) in sealed {
        let Some(sealed) = sealed else {
            return Err(EndKind::unrendered(&format!("secret {name} does not exist any more")));
        };
        let secret = keys.open(&name, &sealed).map_err(|error| match error {
            OpenError::NoKey(key) => {
                tracing::warn!(secret = %name, %key, "no key: the run waits for another leader");
                EndKind::Gone
            }
            OpenError::Damaged(_) => EndKind::unrendered(&format!("secret {name}: {error}")),
        })?;
        context.secrets.insert(name.to_string(), secret);
    }
    Ok(())
}

/// Renders each text where it stands, and notes which secrets went into it; says which
/// one cannot be.
fn put_values(
    start: &mut pb::Start,
    syntax: Syntax,
    context: &Arc<Context>,
) -> Result<(), (String, TemplateError)> {
    let mut secrets = BTreeSet::new();
    let mut put = |field: String, text: &mut String| {
        let mut is_secret = false;
        if syntax.marks(text) {
            let rendered = template::render(text, syntax, context).map_err(|e| (field, e))?;
            is_secret = !rendered.secrets.is_empty();
            secrets.extend(rendered.secrets.into_iter().map(|(_, secret)| secret));
            *text = rendered.text.into_owned();
        }
        Ok(is_secret)
    };
    start.secret_script = put_in_executor(start.executor.as_mut(), &mut put)?;
    for (field, scripts) in [("pre", &mut start.pre), ("post", &mut start.post)] {
        for (i, text) in scripts.iter_mut().enumerate() {
            put(format!("{field}[{i}]"), text)?;
        }
    }
    // Parameters are values, and are not read as texts.
    let own = start.env.iter_mut().filter(|(key, _)| !key.starts_with("HORAI_"));
    for (key, text) in own {
        put(format!("env.{key}"), text)?;
    }
    start.secrets = secrets.iter().map(|secret| secret.expose().to_owned()).collect();
    Ok(())
}

/// A text and the field that it stands in; true if a secret went into it.
type Put<'a> = &'a mut dyn FnMut(String, &mut String) -> Result<bool, (String, TemplateError)>;

/// True if what becomes a file holds a secret.
fn put_in_executor(
    executor: Option<&mut pb::start::Executor>,
    put: Put<'_>,
) -> Result<bool, (String, TemplateError)> {
    use pb::start::Executor;
    fn all(put: Put<'_>, field: &str, texts: &mut [String]) -> Result<(), (String, TemplateError)> {
        let mut texts = texts.iter_mut().enumerate();
        texts.try_for_each(|(i, text)| put(format!("{field}[{i}]"), text).map(drop))
    }
    match executor {
        Some(Executor::Shell(shell)) => {
            let is_secret = put("shell".to_owned(), &mut shell.script)?;
            all(put, "interpreter", &mut shell.interpreter)?;
            Ok(is_secret)
        }
        Some(Executor::Python(python)) => {
            let is_secret = put("python".to_owned(), &mut python.script)?;
            all(put, "interpreter", &mut python.interpreter)?;
            Ok(is_secret)
        }
        Some(Executor::Interpreted(interpreted)) => {
            let is_secret = put("script".to_owned(), &mut interpreted.script)?;
            all(put, "args", &mut interpreted.args)?;
            Ok(is_secret)
        }
        Some(Executor::Exec(exec)) => all(put, "exec", &mut exec.argv).map(|()| false),
        // The whole request is one file.
        Some(Executor::Http(http)) => {
            let mut is_secret = put("http.url".to_owned(), &mut http.url)?;
            for (name, text) in &mut http.headers {
                is_secret |= put(format!("http.headers.{name}"), text)?;
            }
            if let Some(body) = &mut http.body {
                is_secret |= put("http.body".to_owned(), body)?;
            }
            Ok(is_secret)
        }
        Some(Executor::Noop(_)) | None => Ok(false),
    }
}

#[cfg(test)]
#[path = "texts_tests.rs"]
mod tests;
