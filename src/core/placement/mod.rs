//! Where: which waiting run goes to which worker, and why one waits. Pure, and only read by the leader.

pub mod explain;
pub mod pools;

use crate::ids::{Name, RunId, WorkerId};
use crate::machine::state::State;
use crate::model::retry::RetryWorker;
use crate::model::run::{EndKind, Run, RunState};
use crate::model::worker::{Duty, Worker};

/// Chooses a worker for a run that may be dispatched: the first after `last`
/// (the group's choice before, so that work goes round), and the lowest if
/// none follows, that is open, serves the run's group, can hold it to what its job asks
/// for, and has a slot that neither a live attempt takes nor `reserved` counts (dispatches
/// that are proposed and not committed yet). A retry goes to one that its job prefers, if
/// such a one has a slot, and one that a worker could not begin within its limits to
/// another; it does not wait for it, so that no run holds up those behind it.
///
/// `connected` are the workers whose streams the leader holds, ascending.
#[must_use]
pub fn choose(
    state: &State,
    run: RunId,
    connected: &[WorkerId],
    last: Option<WorkerId>,
    reserved: &dyn Fn(WorkerId) -> u32,
) -> Option<WorkerId> {
    let run = state.run(run).filter(|r| r.state == RunState::Queued)?;
    let spec = state.spec(run.job, run.revision)?;
    let group = &spec.worker_group;
    let start = last.map_or(0, |last| connected.partition_point(|id| *id <= last));
    let (before, after) = connected.split_at(start);
    let is_able = |w: &Worker| w.profile.isolation.lacks(&spec.confinement).is_empty();
    let is_free = |id: &WorkerId| {
        takes_more(state, *id, group, reserved) && state.worker(*id).is_some_and(is_able)
    };
    let free = || after.iter().chain(before).copied().filter(is_free);
    let end = run.attempts.last().and_then(|attempt| attempt.end.as_ref());
    let wish = match end.map(|end| &end.how) {
        Some(EndKind::LimitsUnsupported { .. }) => RetryWorker::Another,
        _ => spec.retry_on_worker,
    };
    let preferred = match wish {
        RetryWorker::Same => free().find(|id| is_of_last_try(state, run, *id)),
        RetryWorker::Another => free().find(|id| run.attempts.iter().all(|a| a.worker != *id)),
        RetryWorker::Any => None,
    };
    preferred.or_else(|| free().next())
}

/// True if a worker of the group would take another run, of a job that asks for nothing that
/// not every worker can do.
#[must_use]
pub fn has_room(
    state: &State,
    group: &Name,
    connected: &[WorkerId],
    reserved: &dyn Fn(WorkerId) -> u32,
) -> bool {
    connected.iter().any(|id| takes_more(state, *id, group, reserved))
}

fn takes_more(
    state: &State,
    id: WorkerId,
    group: &Name,
    reserved: &dyn Fn(WorkerId) -> u32,
) -> bool {
    let serves = |w: &Worker| w.duty == Duty::Open && w.profile.groups.contains(group);
    state.worker(id).is_some_and(serves) && state.free_slots(id) > reserved(id)
}

/// True if the run was tried there last, and the worker has not begun anew since.
fn is_of_last_try(state: &State, run: &Run, worker: WorkerId) -> bool {
    let attempt = run.attempts.last().filter(|attempt| attempt.worker == worker);
    let attached = state.worker(worker).map(|worker| worker.profile.incarnation);
    attempt.is_some_and(|attempt| Some(attempt.incarnation) == attached)
}

#[cfg(test)]
mod explain_tests;
#[cfg(test)]
mod tests;
