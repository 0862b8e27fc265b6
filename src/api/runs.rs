//! Runs: list, read, cancel, explain.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use horai_core::ids::{Name, RunId};
use horai_core::machine::command::Command;
use horai_core::machine::state::State as CoreState;
use horai_core::model::run::Run;
use horai_core::placement::explain::{Subject, explain as reason_of};

use super::Api;
use super::dto::{ExplainDto, Page, RunDto, RunRef};
use super::jobs;
use super::params::{Params, Segment, page};
use super::problem::Fault;
use super::write::Write;
use crate::error::FieldError;

pub(super) async fn list(
    State(api): State<Api>,
    params: Params,
) -> Result<Json<Page<RunDto>>, Fault> {
    let params = params.only(&["job", "limit", "before", "after"])?;
    let (job, limit) = (params.parse::<Name>("job")?, params.limit()?);
    let before = params.parse::<RunRef>("before")?.map(|RunRef(run)| run);
    let after = params.parse::<RunRef>("after")?.map(|RunRef(run)| run);
    if let (Some(_), Some(after)) = (before, after) {
        let problem = "'before' is given too";
        let remedy = "give 'before' (newest first) or 'after' (oldest first)";
        return Err(FieldError::invalid("after", RunRef(after), problem, remedy).into());
    }
    api.fresh(&params).await?;
    let page = api.read(|state| {
        let key = |run: &&Run| RunRef(run.id).to_string();
        let show = |run: &Run| RunDto::of(state, run);
        let job = job.as_ref().map(|name| jobs::find(state, name)).transpose()?;
        Ok::<_, Fault>(match (job, after) {
            (None, None) => page(state.runs_before(before), limit, key, show),
            (None, Some(_)) => page(state.runs_after(after), limit, key, show),
            (Some(job), None) => page(state.runs_of_job(job.id, before), limit, key, show),
            (Some(job), Some(_)) => page(state.runs_of_job_after(job.id, after), limit, key, show),
        })
    })?;
    Ok(Json(page))
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
