//! A job's texts as templates: which syntax they have, whether they can be rendered, and
//! what one action makes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use horai_core::ids::AttemptKey;
use horai_core::model::job::JobSpec;
use horai_core::model::syntax::Syntax;

use super::Api;
use super::definition_parts::word;
use super::dto::{ActionRef, RenderedDto, Time};
use super::jobs;
use super::params::{Params, Segment};
use super::problem::Fault;
use crate::error::FieldError;
use crate::session::texts::{Known, context_of};
use crate::template::{self, Names, TemplateError};

/// The syntax of a definition's texts; plain, if nothing in them would be replaced.
///
/// # Errors
/// The first text that cannot be rendered, with the line and the column.
pub(super) fn syntax_of<'a>(
    spec: &JobSpec,
    written: Option<&str>,
    upstream: impl Iterator<Item = &'a str>,
) -> Result<Syntax, FieldError> {
    let asked = match written {
        Some(text) => word("syntax", text, &Syntax::ALL)?,
        None => Syntax::Jinja,
    };
    if !spec.texts().any(|(_, text)| asked.marks(text)) {
        return Ok(Syntax::Plain);
    }
    let known = names(spec, upstream);
    for (field, text) in spec.texts() {
        template::check(text, asked, &known).map_err(|error| field_error(field, text, &error))?;
    }
    Ok(asked)
}

/// The word that gives a definition's syntax again; none if it is the usual one.
pub(super) fn word_of(spec: &JobSpec) -> Option<&'static str> {
    match spec.syntax {
        Syntax::Jinja => None,
        Syntax::Hera => Some("hera"),
        Syntax::Plain => spec.texts().any(|(_, text)| Syntax::Jinja.marks(text)).then_some("none"),
    }
}

/// What a definition's texts may name; it depends on these jobs.
fn names<'a>(spec: &JobSpec, upstream: impl Iterator<Item = &'a str>) -> Names {
    let rules = spec.triggers.iter().filter_map(|trigger| trigger.kind.rule());
    let params = spec.params.keys().chain(rules.flat_map(|rule| rule.params.keys()));
    Names {
        params: Some(params.cloned().collect()),
        upstream: Some(upstream.map(str::to_owned).collect()),
        state: Some(spec.keep_state),
        // Nothing gives these yet.
        vars: Some(BTreeSet::new()),
        secrets: Some(BTreeSet::new()),
    }
}

fn field_error(field: String, text: &str, error: &TemplateError) -> FieldError {
    let line = text.lines().nth(error.line.saturating_sub(1) as usize).unwrap_or_default();
    let shown: String = line.trim().chars().take(200).collect();
    let problem = format!("{} (line {}, column {})", error.message, error.line, error.column);
    FieldError::invalid(field, shown, problem, error.remedy.clone())
}

/// `GET /jobs/NAME/render?nominal=TIME`: what a run for that instant would start.
pub(super) async fn render(
    State(api): State<Api>,
    name: Segment,
    params: Params,
) -> Result<Json<RenderedDto>, Fault> {
    let (name, params) = (name.name()?, params.only(&["nominal"])?);
    let nominal = params.parse::<Time>("nominal")?.map(|Time(at)| at);
    api.fresh(&params).await?;
    // Rendering takes what it takes: not while applying waits.
    let state = api.read(Clone::clone);
    let job = jobs::find(&state, &name)?;
    let nominal = nominal.unwrap_or_else(|| state.now());
    let key = horai_core::ids::ActionKey { job: job.id, nominal };
    let action = state.action(key);
    let triggers = action.map_or(&[][..], |action| &action.triggers);
    // A preview has no run.
    let attempt = AttemptKey { run: horai_core::ids::RunId(0), shard: 0, number: 1 };
    let due = action.map_or(nominal, |action| action.due);
    let values = job.spec.params_of(triggers);
    let known = Known::of(&state, &job.spec, job.id, Some(key)).with(values);
    let context = Arc::new(context_of(&state, &job.spec, attempt, (nominal, due), known));
    let mut texts = BTreeMap::new();
    for (field, text) in job.spec.texts() {
        let rendered = template::render(text, job.spec.syntax, &context)
            .map_err(|error| field_error(field.clone(), text, &error))?;
        texts.insert(field, rendered.text.into_owned());
    }
    let action = ActionRef { job: name.to_string(), nominal };
    Ok(Json(RenderedDto { action, revision: job.revision.0, texts }))
}
