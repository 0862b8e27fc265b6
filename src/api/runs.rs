//! Runs: list, read, cancel, explain.

use std::str::FromStr;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use horai_core::ids::{IdError, JobId, Name, RunId};
use horai_core::machine::command::Command;
use horai_core::machine::state::State as CoreState;
use horai_core::model::run::Run;
use horai_core::placement::explain::{Subject, explain as reason_of};

use super::Api;
use super::dto::{ExplainDto, Page, RunDto, RunRef, state_word};
use super::jobs;
use super::params::{Params, Segment, page};
use super::problem::Fault;
use super::write::Write;
use crate::error::FieldError;

/// A job by its name, or by `#` and its number, which one that is deleted still has.
#[derive(Debug)]
enum JobRef {
    Named(Name),
    Numbered(JobId),
}

impl FromStr for JobRef {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match text.strip_prefix('#').and_then(|number| number.parse().ok()) {
            Some(number) => Ok(Self::Numbered(JobId(number))),
            None => Name::new(text).map(Self::Named),
        }
    }
}

impl JobRef {
    fn number(&self, state: &CoreState) -> Result<JobId, Fault> {
        match self {
            Self::Named(name) => jobs::find(state, name).map(|job| job.id),
            Self::Numbered(number) => Ok(*number),
        }
    }
}

pub(super) async fn list(
    State(api): State<Api>,
    params: Params,
) -> Result<Json<Page<RunDto>>, Fault> {
    let params = params.only(&["job", "kind", "state", "limit", "before", "after"])?;
    let (kind, in_state) =
        (one_of(&params, "kind", &RunDto::KINDS)?, one_of(&params, "state", &RunDto::STATES)?);
    let (job, limit) = (params.parse::<JobRef>("job")?, params.limit()?);
    let before = params.parse::<RunRef>("before")?.map(|RunRef(run)| run);
    let after = params.parse::<RunRef>("after")?.map(|RunRef(run)| run);
    if let (Some(_), Some(after)) = (before, after) {
        let problem = "'before' is given too";
        let remedy = "give 'before' (newest first) or 'after' (oldest first)";
        return Err(FieldError::invalid("after", RunRef(after), problem, remedy).into());
    }
    api.fresh(&params).await?;
    let is_meant = |run: &&Run| {
        kind.is_none_or(|kind| run.kind.word() == kind)
            && in_state.is_none_or(|word| state_word(run) == word)
    };
    let show_page = |state: &CoreState| {
        let key = |run: &&Run| RunRef(run.id).to_string();
        let show = |run: &Run| RunDto::of(state, run);
        let job = job.as_ref().map(|job| job.number(state)).transpose()?;
        Ok::<_, Fault>(match (job, after) {
            (None, None) => page(state.runs_before(before).filter(is_meant), limit, key, show),
            (None, Some(_)) => page(state.runs_after(after).filter(is_meant), limit, key, show),
            (Some(job), None) => {
                page(state.runs_of_job(job, before).filter(is_meant), limit, key, show)
            }
            (Some(job), Some(_)) => {
                page(state.runs_of_job_after(job, after).filter(is_meant), limit, key, show)
            }
        })
    };
    let page = if kind.is_none() && in_state.is_none() {
        api.read(show_page)?
    } else {
        // Few of many may be meant: not while applying waits.
        show_page(&api.read(CoreState::clone))?
    };
    Ok(Json(page))
}

/// A parameter that is one of some words.
fn one_of<'p>(params: &'p Params, name: &str, words: &[&str]) -> Result<Option<&'p str>, Fault> {
    match params.get(name) {
        Some(text) if !words.contains(&text) => {
            let remedy = format!("write {}", words.join(" or "));
            Err(FieldError::invalid(name, text, "there is no such word", remedy).into())
        }
        given => Ok(given),
    }
}

pub(super) async fn show(
    State(api): State<Api>,
    id: Segment,
    params: Params,
) -> Result<Json<RunDto>, Fault> {
    let (RunRef(id), params) = (id.parse("id")?, params.only(&[])?);
    api.fresh(&params).await?;
    Ok(Json(api.read(|state| find(state, id).map(|run| RunDto::told(state, run)))?))
}

pub(super) async fn cancel(
    State(api): State<Api>,
    id: Segment,
    write: Write,
) -> Result<StatusCode, Fault> {
    write.empty()?;
    let RunRef(run) = id.parse("id")?;
    api.commit(&write.envelope(Command::CancelRun { run })).await?;
    Ok(StatusCode::ACCEPTED)
}

pub(super) async fn explain(
    State(api): State<Api>,
    id: Segment,
    params: Params,
) -> Result<Json<ExplainDto>, Fault> {
    let (RunRef(id), params) = (id.parse("id")?, params.only(&[])?);
    api.fresh(&params).await?;
    let connected = api.connected();
    api.read(|state| {
        let found = find(state, id)?;
        let reason = reason_of(state, Subject::Run(id), &|id| connected.contains(&id));
        Ok(Json(ExplainDto::of_run(state, found, reason)))
    })
}

/// The run of that number.
pub(super) fn find(state: &CoreState, id: RunId) -> Result<&Run, Fault> {
    state.run(id).ok_or_else(|| Fault::not_found("run", RunRef(id)))
}
