//! Deletion of a job: refused while others depend on it, or by force, with the list of
//! those whose dependency is dropped. A preview is the same command, carried out by the
//! machine's own code on a copy of the state; nothing here decides what follows from it.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use horai_core::ids::{JobId, Name, Revision};
use horai_core::machine::command::Command;
use horai_core::machine::outcome::Outcome;
use horai_core::machine::state::State as CoreState;
use horai_core::model::action::ActionState;
use horai_core::model::run::RunState;

use super::dto::{RemovalDto, RemovedDto, job_name};
use super::jobs::find;
use super::params::{Params, Segment};
use super::problem::{Fault, has_dependants};
use super::trial::carry_out;
use super::write::{Write, odd};
use super::{Api, READ_LIMIT};

/// Dependants that a preview names.
const NAMED: usize = 1_000;

/// How a job is to be deleted.
#[derive(Clone, Copy)]
struct Ask {
    force: bool,
    cancel: bool,
}

impl Ask {
    const PARAMS: [&str; 2] = ["force", "cancel"];

    fn read(params: &Params) -> Result<Self, Fault> {
        Ok(Self { force: params.flag("force")?, cancel: params.flag("cancel")? })
    }

    /// The oldest command that does it: nodes of a version before know that one.
    fn command(self, job: JobId, expected: Option<Revision>) -> Command {
        match self {
            Self { force: false, cancel: false } => Command::DeleteJob { job, expected },
            Self { force, cancel } => Command::RemoveJob { job, expected, force, cancel },
        }
    }
}

/// `DELETE /jobs/NAME`
pub(super) async fn delete(
    State(api): State<Api>,
    name: Segment,
    request: Request,
) -> Result<Response, Fault> {
    let (write, params) = Write::with_params(request, &Ask::PARAMS).await?;
    write.empty()?;
    let (ask, name, expected) = (Ask::read(&params)?, name.name()?, write.revision());
    let outcome = api
        .write(&write, |state| {
            let job = find(state, &name)?.id;
            refuse(state, job, ask)?;
            Ok(ask.command(job, expected))
        })
        .await?;
    match outcome {
        Outcome::Done => Ok(StatusCode::NO_CONTENT.into_response()),
        Outcome::Removed { freed, cancelled } => {
            // A follower applies what it has just handed to the leader a little later.
            api.node.linearize(READ_LIMIT).await?;
            let job = name.to_string();
            let answer = api.read(|state| RemovedDto {
                job,
                dependants: names(state, &freed, usize::MAX),
                unplanned: unplanned(state, &freed),
                cancelled,
            });
            Ok(Json(answer).into_response())
        }
        other => Err(odd(&other)),
    }
}

/// `GET /jobs/NAME/removal`
pub(super) async fn preview(
    State(api): State<Api>,
    name: Segment,
    params: Params,
) -> Result<Json<RemovalDto>, Fault> {
    let (name, params) = (name.name()?, params.only(&Ask::PARAMS)?);
    let ask = Ask::read(&params)?;
    api.fresh(&params).await?;
    let state = api.read(CoreState::clone);
    would(&state, &name, ask).map(Json)
}

/// Tries it out.
fn would(state: &CoreState, name: &Name, ask: Ask) -> Result<RemovalDto, Fault> {
    let job = find(state, name)?.id;
    let dependants: Vec<JobId> = dependants(state, job).collect();
    let mut after = state.clone();
    let refused = match refuse(state, job, ask)
        .and_then(|()| carry_out(&mut after, ask.command(job, None)).map(drop))
    {
        Ok(()) => None,
        Err(fault) => Some(fault.detail().to_owned()),
    };
    let is_done = refused.is_none();
    let runs = |is_it: &dyn Fn(RunState) -> bool| {
        let whole = state.runs_of_job(job, None).filter(|run| run.part.is_none());
        let runs = whole.filter(|run| is_it(run.state)).count();
        if is_done { runs as u64 } else { 0 }
    };
    let running = runs(&|run| matches!(run, RunState::Running | RunState::Spread));
    let cancelled = if ask.cancel { running } else { 0 };
    let is_dropped = |key: &_| {
        let state = state.action(*key).map(|action| action.state);
        matches!(state, Some(ActionState::Planned | ActionState::Waiting))
    };
    let dropped = state.live_actions_of(job).filter(is_dropped).count();
    Ok(RemovalDto {
        job: name.to_string(),
        refused,
        dependant_count: dependants.len() as u64,
        unplanned: if is_done { unplanned(&after, &dependants) } else { Vec::new() },
        dependants: names(state, &dependants, NAMED),
        dropped_actions: if is_done { dropped as u64 } else { 0 },
        dropped_runs: runs(&|run| matches!(run, RunState::Queued | RunState::Backoff { .. })),
        cancelled: u32::try_from(cancelled).unwrap_or(u32::MAX),
        left_running: running - cancelled,
    })
}

/// Says how many jobs depend on it: the machine would name some of them, and does not
/// count further.
fn refuse(state: &CoreState, job: JobId, ask: Ask) -> Result<(), Fault> {
    let count = if ask.force { 0 } else { dependants(state, job).count() };
    if count == 0 {
        return Ok(());
    }
    let some = dependants(state, job).take(NAMED).filter_map(|down| state.job(down));
    let some: Vec<Name> = some.map(|down| down.spec.name.clone()).collect();
    Err(has_dependants(&some, count))
}

fn dependants(state: &CoreState, job: JobId) -> impl Iterator<Item = JobId> {
    state.dependants_of(job).filter(move |down| *down != job)
}

fn names(state: &CoreState, jobs: &[JobId], most: usize) -> Vec<String> {
    // One that was deleted since is named by its number.
    jobs.iter().take(most).map(|job| job_name(state, *job)).collect()
}

/// Those of the jobs that have no source of instants left.
fn unplanned(state: &CoreState, jobs: &[JobId]) -> Vec<String> {
    let found = jobs.iter().filter_map(|job| state.job(*job));
    let without = found.filter(|j| j.spec.triggers.is_empty() && j.spec.depends_on.is_empty());
    without.map(|job| job.spec.name.to_string()).collect()
}
