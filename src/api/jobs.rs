//! Jobs: list, apply, read, run now. How one is deleted is told in `removal`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use horai_core::ids::{Name, Revision};
use horai_core::machine::command::Command;
use horai_core::machine::outcome::Outcome;
use horai_core::machine::state::State as CoreState;
use horai_core::model::job::Job;
use horai_core::model::run::RunOrder;

use super::Api;
use super::apply::Definitions;
use super::dto::{
    ActionRef, AppliedJobs, ExplainDto, JobDto, Page, RunRef, RunRequest, StartedRun, Time,
};
use super::params::{Params, Segment, page};
use super::problem::Fault;
use super::revisions::{stored, tagged};
use super::write::{Write, odd};
use crate::error::FieldError;

pub(super) async fn list(
    State(api): State<Api>,
    params: Params,
) -> Result<Json<Page<JobDto>>, Fault> {
    let (limit, after) = api.part::<Name>(params).await?;
    let page = api.read(|state| {
        let jobs = state.jobs_by_name_after(after);
        page(jobs, limit, |job| job.spec.name.to_string(), |job| JobDto::of(state, job))
    });
    Ok(Json(page))
}

pub(super) async fn apply(
    State(api): State<Api>,
    write: Write,
) -> Result<Json<AppliedJobs>, Fault> {
    if write.is_conditional() {
        let remedy = "send one job with PUT /api/v1/jobs/NAME";
        let problem = "a revision can be asked for of one job alone";
        return Err(FieldError::invalid("If-Match", "", problem, remedy).into());
    }
    let definitions = Definitions::read(&write)?;
    Ok(Json(api.apply(&write, &definitions, None).await?))
}

pub(super) async fn show(
    State(api): State<Api>,
    name: Segment,
    params: Params,
) -> Result<Response, Fault> {
    let (name, params) = (name.name()?, params.only(&[])?);
    api.fresh(&params).await?;
    let job = api.read(|state| find(state, &name).map(|job| JobDto::of(state, job)))?;
    Ok(tagged(job.revision, job))
}

/// `GET /jobs/NAME/explain`: of each trigger, why it gives no action at present.
pub(super) async fn explain(
    State(api): State<Api>,
    name: Segment,
    params: Params,
) -> Result<Json<Page<ExplainDto>>, Fault> {
    let (name, params) = (name.name()?, params.only(&[])?);
    api.fresh(&params).await?;
    let items = api.read(|state| {
        let job = find(state, &name)?;
        let told =
            job.spec.triggers.iter().map(|trigger| ExplainDto::of_trigger(state, job, trigger));
        Ok::<_, Fault>(told.collect())
    })?;
    Ok(Json(Page { items, next: None }))
}

pub(super) async fn put(
    State(api): State<Api>,
    name: Segment,
    write: Write,
) -> Result<Response, Fault> {
    let name = name.name()?;
    let definitions = Definitions::of_job(&write, &name)?;
    if write.must_exist() {
        api.node.linearize(super::READ_LIMIT).await?;
        let is_known = api.read(|state| {
            definitions.served(&write, state).is_some() || state.job_by_name(&name).is_some()
        });
        if !is_known {
            return Err(Fault::absent_named("job", &name));
        }
    }
    let applied = api.apply(&write, &definitions, write.revision()).await?;
    let applied = applied.jobs.into_iter().next();
    let applied = applied.ok_or_else(|| odd(&Outcome::Done))?;
    Ok(stored(applied.revision, applied.changed, applied))
}

pub(super) async fn trigger(
    State(api): State<Api>,
    name: Segment,
    write: Write,
) -> Result<(StatusCode, Json<StartedRun>), Fault> {
    let name = name.name()?;
    let request = if write.is_empty() { RunRequest::default() } else { write.json()? };
    let make = |state: &CoreState| {
        let job = find(state, &name)?.id;
        if request == RunRequest::default() {
            return Ok(Command::TriggerJob { job });
        }
        Ok(Command::RunJob { job, order: Box::new(order(&name, &request)?) })
    };
    match api.write(&write, make).await? {
        Outcome::Run { run } => Ok((StatusCode::CREATED, Json(StartedRun { run: RunRef(run) }))),
        other => Err(odd(&other)),
    }
}

/// What is asked of a run, as the machine takes it.
pub(super) fn order(job: &Name, request: &RunRequest) -> Result<RunOrder, Fault> {
    if let Some(action) = request.action.as_ref().filter(|action| action.job != job.as_str()) {
        let remedy = format!("write {}", ActionRef { job: job.to_string(), ..action.clone() });
        let problem = format!("this is no action of {job}");
        return Err(FieldError::invalid("action", action, problem, remedy).into());
    }
    Ok(RunOrder {
        debug: request.debug,
        action: request.action.as_ref().map(|action| action.nominal),
        nominal: request.nominal.map(|Time(at)| at),
        revision: request.revision.map(Revision),
        params: request.params.clone(),
        priority: request.priority,
    })
}

/// The job of that name.
pub(super) fn find<'a>(state: &'a CoreState, name: &Name) -> Result<&'a Job, Fault> {
    state.job_by_name(name).ok_or_else(|| Fault::not_found("job", name))
}
