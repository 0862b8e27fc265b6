//! Where: which waiting run goes to which worker, and why one waits. Pure, and only read by the leader.

pub mod explain;
pub mod load;
pub mod pools;

use crate::ids::{RunId, WorkerId};
use crate::machine::state::State;
use crate::model::demand::Demand;
use crate::model::resources::Resources;
use crate::model::retry::RetryWorker;
use crate::model::run::{EndKind, Run, RunState};
use crate::model::worker::Worker;
use crate::model::worker_group::Strategy;
use load::Load;

/// Runs before one that are looked at for the worker that its job ran on last.
const LOOK_BACK: usize = 32;

/// What a choice rests on beside the state: it differs from moment to moment and from node
/// to node.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Workers whose streams the leader holds, ascending.
    pub connected: &'a [WorkerId],
    /// What dispatches will take of a worker that are proposed and not committed yet.
    pub reserved: &'a dyn Fn(WorkerId) -> Resources,
    /// How busy a worker is.
    pub load: &'a dyn Fn(WorkerId) -> Load,
}

/// Chooses a worker for a run that may be dispatched: one that is open, serves the run's
/// group, has the labels and can enforce the limits that its job asks for, is not busier than the group allows, and
/// has as much left as it takes. Of several it takes one as the group's strategy says; `last` is the
/// group's choice before, behind which work that goes round goes on, and `chance` any
/// number. A retry goes to one that its job prefers, and one that a worker could not begin
/// within its limits to another, if such a one has room; it does not wait for it, so that no
/// run holds up those behind it.
#[must_use]
pub fn choose(
    state: &State,
    run: RunId,
    view: &View<'_>,
    last: Option<WorkerId>,
    chance: u64,
) -> Option<WorkerId> {
    let run = state.run(run).filter(|r| r.state == RunState::Queued)?;
    let spec = state.spec(run.job, run.revision)?;
    let (group, demand) = (&spec.worker_group, Demand::of(spec, run));
    let rules = state.worker_group(group).map(|group| &group.def);
    let thresholds = rules.and_then(|rules| rules.thresholds);
    let start = last.map_or(0, |last| view.connected.partition_point(|id| *id <= last));
    let (before, after) = view.connected.split_at(start);
    let is_free = |id: &WorkerId| {
        let serves = |w: &Worker| {
            w.is_open()
                && w.profile.groups.contains(group)
                && demand.suits(w)
                && state.has_room(w, demand.resources(), &(view.reserved)(*id))
        };
        state.worker(*id).is_some_and(serves) && (view.load)(*id).allows(thresholds)
    };
    if let Some(only) = demand.only() {
        return view.connected.binary_search(&only).ok().map(|_| only).filter(is_free);
    }
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
    let by_strategy = || match rules.map_or(Strategy::RoundRobin, |rules| rules.strategy) {
        Strategy::RoundRobin => free().next(),
        Strategy::Random => {
            let all: Vec<WorkerId> = free().collect();
            let place = chance.checked_rem(all.len() as u64)?;
            all.get(usize::try_from(place).ok()?).copied()
        }
        Strategy::LeastLoaded => free().min_by_key(|id| busyness(state, view, *id)),
        Strategy::Sticky => {
            let known = worker_before(state, run).filter(|id| view.connected.contains(id));
            known.filter(is_free).or_else(|| free().next())
        }
    };
    preferred.or_else(by_strategy)
}

/// How much of a worker's most used resource is used, and of its slots, in thousandths.
/// Slots are known at once, while what it measures is told every other second only.
fn busyness(state: &State, view: &View<'_>, id: WorkerId) -> (u64, u64) {
    let slots = state.worker(id).map_or(1, |worker| worker.profile.slots.max(1));
    let used = state.used_slots(id).saturating_add((view.reserved)(id).slots);
    let share = u64::from(used) * 1_000 / u64::from(slots);
    (share.max(u64::from((view.load)(id).worst())), share)
}

/// The worker that the run's job ran on last, as far as the runs before this one tell.
fn worker_before(state: &State, run: &Run) -> Option<WorkerId> {
    let earlier = state.runs_of_job(run.job, Some(run.id)).take(LOOK_BACK);
    let attempt = std::iter::once(run).chain(earlier).find_map(|run| run.attempts.last());
    attempt.map(|attempt| attempt.worker)
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
