//! Why something has not run yet: the first true reason, from the replicated
//! state and from what only the leader knows, which workers are connected.

use super::pools::{first_to_go, is_full};
use crate::ids::{ActionKey, Name, RunId, WorkerId};
use crate::machine::state::State;
use crate::model::action::{Action, ActionState, WaitReason};
use crate::model::run::{Run, RunState};

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
pub fn explain(
    state: &State,
    what: Subject,
    is_connected: &dyn Fn(WorkerId) -> bool,
) -> Option<WaitReason> {
    match what {
        Subject::Run(id) => explain_run(state, state.run(id)?, is_connected),
        Subject::Action(key) => {
            let action = state.action(key)?;
            match action.state {
                ActionState::Planned if action.due > state.now() => Some(WaitReason::NotDue),
                ActionState::Planned | ActionState::Waiting => explain_wait(state, key, action),
                ActionState::Ready | ActionState::Running => {
                    explain_run(state, state.run(action.run?)?, is_connected)
                }
                _ => None,
            }
        }
    }
}

fn explain_wait(state: &State, key: ActionKey, action: &Action) -> Option<WaitReason> {
    let unmet = || action.upstream.iter().filter(|u| !u.is_met()).map(|u| u.action);
    let has_failed = |key| {
        let state = state.action(key).map(|a| a.state);
        matches!(state, Some(ActionState::Failed | ActionState::Cancelled))
    };
    let hold = |key: ActionKey| state.job(key.job).and_then(|job| state.hold_of(job));
    let is_paused = |key: ActionKey| {
        let action = state.action(key).is_some_and(|a| state.is_action_paused(key.job, a));
        action || hold(key) == Some(WaitReason::Paused)
    };
    // One that failed outweighs one that may come yet: someone has to act on it.
    if unmet().any(has_failed) {
        Some(WaitReason::UpstreamFailed)
    } else if unmet().any(is_paused) {
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

fn explain_run(
    state: &State,
    run: &Run,
    is_connected: &dyn Fn(WorkerId) -> bool,
) -> Option<WaitReason> {
    match run.state {
        RunState::Finished { .. } | RunState::Running => return None,
        RunState::Backoff { .. } => return Some(WaitReason::Backoff),
        RunState::Queued => {}
    }
    let hold = state.job(run.job).and_then(|job| state.hold_of(job));
    let action = run.decides().and_then(|key| state.action(key));
    if action.is_some_and(|action| state.is_action_paused(run.job, action)) {
        return Some(WaitReason::Paused);
    }
    if hold.is_some() {
        return hold;
    }
    let group = &state.spec(run.job, run.revision)?.worker_group;
    let serving = || serving(state, group, is_connected);
    if serving().next().is_none() {
        return Some(WaitReason::NoWorker);
    }
    if is_full(state, &state.demand_of(run)) {
        return Some(WaitReason::Pool);
    }
    let is_first = first_to_go(state, group) == Some(run.id);
    if serving().any(|id| state.free_slots(id) > 0) {
        return Some(if is_first { WaitReason::Dispatching } else { behind(run) });
    }
    Some(if is_first { WaitReason::Resource } else { behind(run) })
}

/// Others go first: because it came late, or because they are before it.
fn behind(run: &Run) -> WaitReason {
    if run.catch_up { WaitReason::CatchUp } else { WaitReason::Queue }
}

fn serving<'a>(
    state: &'a State,
    group: &'a Name,
    is_connected: &'a dyn Fn(WorkerId) -> bool,
) -> impl Iterator<Item = WorkerId> + 'a {
    let workers = state.workers_after(None).filter(|w| w.profile.groups.contains(group));
    workers.map(|w| w.id).filter(|id| is_connected(*id))
}
