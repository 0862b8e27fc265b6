//! A job's texts as templates: which syntax they have, whether they can be rendered, and
//! what one action makes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use horai_core::ids::{AttemptKey, GroupPath, Name, Revision};
use horai_core::machine::state::State as CoreState;
use horai_core::model::job::JobSpec;
use horai_core::model::params::{Params, plain_name};
use horai_core::model::syntax::Syntax;

use super::Api;
use super::definition_parts::word;
use super::dto::{ActionRef, RenderedDto, Time};
use super::jobs;
use super::params::Segment;
use super::problem::Fault;
use crate::error::FieldError;
use crate::session::texts::{Known, context_of, params_given};
use crate::template::{self, Names, Secret, TemplateError};

/// What a preview shows of a secret.
const MASK: &str = "***";

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
    let upstream = upstream.map(str::to_owned).collect();
    check(spec, asked, &names(spec, Some(upstream), None))?;
    if let Some(circle) = template::circle_of(&spec.params, asked) {
        let field = format!("params.{}", circle[0]);
        let problem = format!("the values lead back to themselves: {}", circle.join(" → "));
        let remedy = "take one of these references away";
        return Err(FieldError::invalid(field, &spec.params[circle[0]], problem, remedy));
    }
    Ok(asked)
}

/// Looks whether what a definition's texts name is there: parameters of its groups, and
/// secrets.
///
/// # Errors
/// The first text that names something else, with the line and the column.
pub(super) fn check_names(spec: &JobSpec, state: &CoreState) -> Result<(), FieldError> {
    let rests_on_state = spec.group.is_some() || !spec.secrets.is_empty();
    if spec.syntax == Syntax::Plain || !rests_on_state {
        return Ok(());
    }
    check(spec, spec.syntax, &names(spec, None, Some(state)))
}

/// Jobs of a group, up to so many, whose texts name what a change of it takes away:
/// `before` and `after` are the states without it and with it.
pub(super) fn losers(
    before: &CoreState,
    after: &CoreState,
    group: &GroupPath,
    most: usize,
) -> Vec<Name> {
    let specs = before.jobs_in(group).filter_map(|job| Some(&before.job(job)?.spec));
    let loses =
        |spec: &&JobSpec| check_names(spec, after).is_err() && check_names(spec, before).is_ok();
    specs.filter(loses).take(most).map(|spec| spec.name.clone()).collect()
}

fn check(spec: &JobSpec, syntax: Syntax, known: &Names) -> Result<(), FieldError> {
    spec.texts().try_for_each(|(field, text)| {
        template::check(text, syntax, known).map_err(|error| field_error(field, text, &error))
    })
}

/// The word that gives a definition's syntax again; none if it is the usual one.
pub(super) fn word_of(spec: &JobSpec) -> Option<&'static str> {
    match spec.syntax {
        Syntax::Jinja => None,
        Syntax::Hera => Some("hera"),
        Syntax::Plain => spec.texts().any(|(_, text)| Syntax::Jinja.marks(text)).then_some("none"),
    }
}

/// What a definition's texts may name. What its groups give, and which secrets there are,
/// is known with a state alone; on which jobs it depends, where it is written.
fn names(spec: &JobSpec, upstream: Option<BTreeSet<String>>, state: Option<&CoreState>) -> Names {
    let rules = spec.triggers.iter().filter_map(|trigger| trigger.kind.rule());
    let own = spec.params.keys().chain(rules.flat_map(|rule| rule.params.keys()));
    // Which area it will be is not asked: a definition is written for many.
    let known = |name: &String| [name.clone(), plain_name(name).to_owned()];
    let own: BTreeSet<String> = own.flat_map(known).collect();
    let vars: Option<BTreeSet<String>> = match (&spec.group, state) {
        (None, _) => Some(BTreeSet::new()),
        (Some(_), None) => None,
        (group, Some(state)) => {
            let groups = state.groups_over(group.as_ref());
            Some(groups.flat_map(|group| group.def.params.keys()).flat_map(known).collect())
        }
    };
    Names {
        params: vars.as_ref().map(|vars| own.union(vars).cloned().collect()),
        vars,
        upstream,
        state: Some(spec.keep_state),
        secrets: state
            .map(|state| state.secrets_after(None).map(|(name, _)| name.to_string()).collect()),
    }
}

/// The secrets that a definition's texts name.
///
/// # Errors
/// A name that no secret can have, or too many of them.
pub(super) fn secrets_of(spec: &JobSpec) -> Result<BTreeSet<Name>, FieldError> {
    let mut secrets = BTreeSet::new();
    for (field, text) in spec.texts() {
        let found = template::secrets_of(text, spec.syntax)
            .map_err(|error| field_error(field.clone(), text, &error))?;
        for name in found {
            let name = Name::new(name).map_err(|error| {
                let remedy = "correct the name: horai secret list";
                FieldError::invalid(&field, name, format!("no such secret: {error}"), remedy)
            })?;
            secrets.insert(name);
        }
        if secrets.len() > JobSpec::MAX_SECRETS {
            let problem = format!("the texts name {} secrets", secrets.len());
            let remedy = format!("name at most {}", JobSpec::MAX_SECRETS);
            return Err(FieldError::invalid(&field, secrets.len(), problem, remedy));
        }
    }
    Ok(secrets)
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
    params: super::params::Params,
) -> Result<Json<RenderedDto>, Fault> {
    let (name, params) = (name.name()?, params.only(&["nominal", "revision"])?);
    let revision = params.parse::<u64>("revision")?.map(Revision);
    let nominal = params.parse::<Time>("nominal")?.map(|Time(at)| at);
    api.fresh(&params).await?;
    // Rendering takes what it takes: not while applying waits.
    let state = api.read(Clone::clone);
    let job = jobs::find(&state, &name)?;
    let revision = revision.unwrap_or(job.revision);
    let spec = state.spec(job.id, revision).ok_or_else(|| {
        let problem = format!("the job has revision {}, and that one is not kept", job.revision);
        FieldError::invalid("revision", revision, problem, "leave it out, or ask for another one")
    })?;
    let nominal = nominal.unwrap_or_else(|| state.now());
    let key = horai_core::ids::ActionKey { job: job.id, nominal };
    let action = state.action(key);
    let triggers = action.map_or(&[][..], |action| &action.triggers);
    // A preview has no run.
    let attempt = AttemptKey { run: horai_core::ids::RunId(0), shard: 0, number: 1 };
    let due = action.map_or(nominal, |action| action.due);
    let values = params_given(&state, spec, triggers, &Params::new());
    let known = Known::of(&state, spec, job.id, Some(key)).with(values);
    let mut context = context_of(&state, spec, attempt, (nominal, due), known);
    let masked = |name: &Name| (name.to_string(), Secret::new(MASK));
    context.secrets = spec.secrets.iter().map(masked).collect();
    let context = Arc::new(context);
    let mut texts = BTreeMap::new();
    for (field, text) in spec.texts() {
        let rendered = template::render(text, spec.syntax, &context)
            .map_err(|error| field_error(field.clone(), text, &error))?;
        texts.insert(field, rendered.text.into_owned());
    }
    let action = ActionRef { job: name.to_string(), nominal };
    Ok(Json(RenderedDto { action, revision: revision.0, texts }))
}
