//! Runs: list, read, cancel, explain.

use std::str::FromStr;

use axum::Json;
use axum::extract::{Request, State};
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
use crate::error::{ErrorCode, FieldError};

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
        run.part.is_none()
            && kind.is_none_or(|kind| run.kind.word() == kind)
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
    let is_all = kind.is_none() && in_state.is_none();
    let page = match api.read(|state| (is_all && !state.has_parts()).then(|| show_page(state))) {
        Some(page) => page?,
        // Few of many may be meant: not while applying waits.
        None => show_page(&api.read(CoreState::clone))?,
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
    let (RunRef(id), params) = (id.parse("id")?, params.only(&["shard"])?);
    let shard = params.parse("shard")?;
    api.fresh(&params).await?;
    let told = |state: &CoreState| find_part(state, id, shard).map(|run| RunDto::told(state, run));
    Ok(Json(api.read(told)?))
}

pub(super) async fn cancel(
    State(api): State<Api>,
    id: Segment,
    request: Request,
) -> Result<StatusCode, Fault> {
    let (write, params) = Write::with_params(request, &["shard"]).await?;
    write.empty()?;
    let RunRef(run) = id.parse("id")?;
    match params.parse::<u32>("shard")? {
        None => api.commit(&write.envelope(Command::CancelRun { run })).await?,
        shard => {
            let of = |part: &Run| Command::CancelRun { run: part.id };
            api.write(&write, |state| find_part(state, run, shard).map(of)).await?
        }
    };
    Ok(StatusCode::ACCEPTED)
}

pub(super) async fn explain(
    State(api): State<Api>,
    id: Segment,
    params: Params,
) -> Result<Json<ExplainDto>, Fault> {
    let (RunRef(id), params) = (id.parse("id")?, params.only(&["shard"])?);
    let shard = params.parse("shard")?;
    api.fresh(&params).await?;
    let sight = api.sight();
    api.read(|state| {
        let found = find_part(state, id, shard)?;
        let sight = |id| sight.get(&id).copied();
        let reason = reason_of(state, Subject::Run(found.id), &sight);
        Ok(Json(ExplainDto::of_run(state, found, reason, &sight)))
    })
}

/// The run of that number.
pub(super) fn find(state: &CoreState, id: RunId) -> Result<&Run, Fault> {
    state.run(id).ok_or_else(|| Fault::not_found("run", RunRef(id)))
}

/// The same, or one shard of it.
pub(super) fn find_part(state: &CoreState, id: RunId, shard: Option<u32>) -> Result<&Run, Fault> {
    let run = find(state, id)?;
    let Some(shard) = shard else { return Ok(run) };
    state.part(id, shard).ok_or_else(|| {
        let problem = match run.parts {
            Some(parts) => format!("run {} has shards 0 to {}", RunRef(id), parts.total - 1),
            None => format!("run {} has no shards, or none yet", RunRef(id)),
        };
        let remedy = "see which there are: horai run show";
        FieldError::invalid("shard", shard, problem, remedy).with_code(ErrorCode::NotFound).into()
    })
}
