//! Why something has not run yet: the first true reason, from the replicated
//! state and from what only the leader knows: which workers are connected, and how busy they are.

use super::load::Load;
use super::pools::{first_to_go, is_full};
use crate::ids::{ActionKey, Name, RunId, WorkerId};
use crate::machine::state::State;
use crate::model::action::{Action, ActionState, Upstream, WaitReason};
use crate::model::demand::Demand;
use crate::model::job::{Job, TriggerSpec};
use crate::model::resources::Resources;
use crate::model::run::{Run, RunState};
use crate::model::worker::Worker;

/// Which workers are connected to whoever is asked, and how busy they are.
pub type Sight<'a> = &'a dyn Fn(WorkerId) -> Option<Load>;

/// What is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// An action.
    Action(ActionKey),
    /// A run.
    Run(RunId),
}

/// The reason; none if it is over, is being executed, or does not exist.
#[must_use]
pub fn explain(state: &State, what: Subject, sight: Sight<'_>) -> Option<WaitReason> {
    match what {
        Subject::Run(id) => explain_run(state, state.run(id)?, sight),
        Subject::Action(key) => {
            let action = state.action(key)?;
            match action.state {
                ActionState::Planned if action.due > state.now() => Some(WaitReason::NotDue),
                ActionState::Planned | ActionState::Waiting => explain_wait(state, key, action),
                ActionState::Ready | ActionState::Running => {
                    explain_run(state, state.run(action.run?)?, sight)
                }
                _ => None,
            }
        }
    }
}

/// Why a trigger gives no action at present: it is held, or waits for the end of its
/// last action, or its time has not come; none if it is disabled.
#[must_use]
pub fn explain_trigger(state: &State, job: &Job, trigger: &TriggerSpec) -> Option<WaitReason> {
    if !trigger.enabled {
        return None;
    }
    if state.trigger_pause(job.id, &trigger.name).is_some() {
        return Some(WaitReason::Paused);
    }
    let hold = state.hold_of(job);
    let is_delayed = || awaited_by(state, job, trigger).is_some();
    hold.or_else(|| is_delayed().then_some(WaitReason::FixedDelay)).or(Some(WaitReason::NotDue))
}

/// The action whose end a trigger with a fixed delay waits for, if its time has come.
#[must_use]
pub fn awaited_by(state: &State, job: &Job, trigger: &TriggerSpec) -> Option<ActionKey> {
    trigger.kind.fixed_delay()?;
    let key = state.unfinished_of(job.id, &trigger.name)?;
    let action = state.action(key)?;
    let is_ahead = action.state == ActionState::Planned && action.due > state.now();
    (!is_ahead).then_some(key)
}

fn explain_wait(state: &State, key: ActionKey, action: &Action) -> Option<WaitReason> {
    let unmet = || action.upstream.iter().filter(|u| !u.is_met());
    // What an edge did not find cannot fail, nor be let go.
    let awaited = || unmet().filter_map(Upstream::awaited);
    let has_failed = |key| {
        let state = state.action(key).map(|a| a.state);
        matches!(state, Some(ActionState::Failed | ActionState::Cancelled))
    };
    let hold = |key: ActionKey| state.job(key.job).and_then(|job| state.hold_of(job));
    let is_paused = |key: ActionKey| {
        let action = state.action(key).is_some_and(|a| state.is_action_paused(key.job, a));
        action || hold(key) == Some(WaitReason::Paused)
    };
    let is_held = |key: ActionKey| {
        // One that a worker has goes on to its end, and what is over is held by nobody.
        let state = state.action(key).map(|a| a.state);
        is_paused(key) && state.is_none_or(|s| !s.is_final() && s != ActionState::Running)
    };
    // One that failed outweighs one that may come yet: someone has to act on it.
    if awaited().any(has_failed) {
        Some(WaitReason::UpstreamFailed)
    } else if awaited().any(is_held) {
        Some(WaitReason::UpstreamPaused)
    } else if unmet().next().is_some() {
        Some(WaitReason::Upstream)
    } else if is_paused(key) {
        Some(WaitReason::Paused)
    } else if hold(key).is_some() {
        Some(WaitReason::Frozen)
    } else if state.is_overlapped(key.job) {
        Some(WaitReason::Overlap)
    } else {
        // Nothing holds it: the next command releases it.
        Some(WaitReason::Dispatching)
    }
}

fn explain_run(state: &State, run: &Run, sight: Sight<'_>) -> Option<WaitReason> {
    match run.state {
        RunState::Finished { .. } | RunState::Running | RunState::Spread => return None,
        RunState::Backoff { .. } => return Some(WaitReason::Backoff),
        RunState::Queued => {}
    }
    if state.is_run_held(run) {
        return Some(WaitReason::Paused);
    }
    if state.frozen().is_some() {
        return Some(WaitReason::Frozen);
    }
    if !state.closed_secrets(run).is_empty() {
        return Some(WaitReason::Secret);
    }
    let group = &state.spec(run.job, run.revision)?.worker_group;
    let demand = state.demand_of(run);
    let crew: Vec<(&Worker, Load)> = crew(state, group, &demand, sight).collect();
    if crew.is_empty() {
        return Some(WaitReason::NoWorker);
    }
    let open: Vec<_> = crew.into_iter().filter(|(w, _)| w.is_open()).collect();
    if open.is_empty() {
        return Some(WaitReason::Cordoned);
    }
    if demand.is_for_all() {
        // It is split as soon as all of them had time to attach to a new leader.
        return Some(WaitReason::Dispatching);
    }
    if !open.iter().any(|(worker, _)| demand.is_understood_by(&worker.profile)) {
        return Some(WaitReason::Interpreter);
    }
    if !open.iter().any(|(worker, _)| demand.is_safe_on(&worker.profile)) {
        return Some(WaitReason::Limits);
    }
    if !open.iter().any(|(worker, _)| demand.suits(worker)) {
        // Whoever goes first: none of them is large enough.
        return Some(WaitReason::Resource);
    }
    if is_full(state, &demand) {
        return Some(WaitReason::Pool);
    }
    let none = Resources::slots(0);
    let is_free = |worker: &Worker| state.has_room(worker, demand.resources(), &none);
    let free: Vec<_> = open.iter().copied().filter(|(worker, _)| is_free(worker)).collect();
    let thresholds = state.thresholds_of(group);
    let fit: Vec<_> = free.iter().copied().filter(|(_, load)| load.allows(thresholds)).collect();
    let (contested, reason) = match (free.is_empty(), fit.is_empty()) {
        (true, _) => (open, WaitReason::Resource),
        (false, true) => (free, WaitReason::Load),
        (false, false) => (fit, WaitReason::Dispatching),
    };
    // Who asks for other workers takes none from it.
    let is_rival = |other: &Demand| contested.iter().any(|(w, _)| other.suits(w));
    let is_first = first_to_go(state, group, &is_rival) == Some(run.id);
    Some(if is_first { reason } else { behind(run) })
}

/// Others go first: because it came late, or because they are before it.
fn behind(run: &Run) -> WaitReason {
    if run.catch_up { WaitReason::CatchUp } else { WaitReason::Queue }
}

/// Connected workers that serve a group and have the labels that are asked for, and how busy
/// they are.
pub fn crew<'a>(
    state: &'a State,
    group: &'a Name,
    demand: &'a Demand,
    sight: Sight<'a>,
) -> impl Iterator<Item = (&'a Worker, Load)> {
    let serves = |worker: &&Worker| worker.profile.groups.contains(group) && demand.takes(worker);
    let seen = |worker: &'a Worker| Some((worker, sight(worker.id)?));
    state.workers_after(None).filter(serves).filter_map(seen)
}
