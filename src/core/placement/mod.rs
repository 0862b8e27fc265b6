//! Where: which waiting run goes to which worker, and why one waits. Pure, and only read by the leader.

pub mod explain;
pub mod pools;

use crate::ids::{RunId, WorkerId};
use crate::machine::state::State;
use crate::model::run::RunState;

/// Chooses a worker for a run that may be dispatched: the first after `last`
/// (the group's choice before, so that work goes round), and the lowest if
/// none follows, that serves the run's group and has a slot that neither a live
/// attempt takes nor `reserved` counts (dispatches that are proposed and not
/// committed yet).
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
    let group = &state.spec(run.job, run.revision)?.worker_group;
    let start = last.map_or(0, |last| connected.partition_point(|id| *id <= last));
    let (before, after) = connected.split_at(start);
    after.iter().chain(before).copied().find(|id| {
        let serves = state.worker(*id).is_some_and(|w| w.profile.groups.contains(group));
        serves && state.free_slots(*id) > reserved(*id)
    })
}

#[cfg(test)]
mod tests;
