//! May an action start while another run of its job is live? What a job says of that is
//! looked at when the action is ready, over runs of all kinds but debug and back-fill. Who
//! asks for a run beside the plan gets one all the same; who has an action run again is
//! told if it would not even wait.
//!
//! Nothing here settles an action: what is skipped or cancelled on the way is handed
//! back, because chains of jobs may be longer than a stack.

use super::super::outcome::Event;
use super::super::state::{State, all_of};
use crate::ids::{ActionKey, JobId};
use crate::model::action::{ActionState, SkipReason};
use crate::model::history::Cause;
use crate::model::job::Overlap;
use crate::model::run::{RunResult, RunState};
use crate::mutants::{self, Mutant};
use crate::time::UtcMillis;

/// Actions that are to be settled, each with what it came to.
pub(super) type Settled = Vec<(ActionKey, ActionState)>;

const REPLACED: ActionState = ActionState::Skipped(SkipReason::Overlap);

impl State {
    /// True if a run of the job is not over, of a kind that others wait for.
    #[must_use]
    pub fn has_live_run(&self, job: JobId) -> bool {
        self.index.turns.contains_key(&job)
    }

    fn overlap_of(&self, job: JobId) -> Overlap {
        self.jobs.get(&job).map_or(Overlap::Allow, |job| job.spec.overlap)
    }

    /// Starts a waiting action if nothing holds it any more.
    pub(super) fn reconsider(&mut self, key: ActionKey, ev: &mut Vec<Event>) {
        let settled = self.let_go(key, ev);
        self.settle_all(settled, ev);
    }

    /// The same, for those that settle what comes of it.
    pub(super) fn let_go(&mut self, key: ActionKey, ev: &mut Vec<Event>) -> Settled {
        let is_free = self.actions.get(&key).is_some_and(|action| {
            action.state == ActionState::Waiting && self.may_start(key, action)
        });
        if is_free { self.start(key, self.meta.now, ev) } else { Settled::new() }
    }

    /// An action is ready: it starts, unless its job says otherwise, or has nothing to do
    /// in this area.
    pub(super) fn start(
        &mut self,
        key: ActionKey,
        ready_at: UtcMillis,
        ev: &mut Vec<Event>,
    ) -> Settled {
        if self.is_job_elsewhere(key.job) {
            return self.pass_by_area(key);
        }
        let overlap = self.overlap_of(key.job);
        if overlap == Overlap::Allow || !self.has_live_run(key.job) {
            self.start_run(key, ready_at, ev);
            return Settled::new();
        }
        let mut settled = Settled::new();
        match overlap {
            Overlap::Skip => return vec![(key, REPLACED)],
            Overlap::QueueOne | Overlap::CancelRunning => {
                let waiting: Vec<ActionKey> =
                    self.in_line(key.job).filter(|other| *other != key).collect();
                if !waiting.is_empty() && mutants::on(Mutant::QueueOneKeepsOldest) {
                    return vec![(key, REPLACED)];
                }
                if waiting.last().is_some_and(|newest| newest.nominal > key.nominal) {
                    return vec![(key, REPLACED)];
                }
                settled.extend(waiting.into_iter().map(|older| (older, REPLACED)));
            }
            Overlap::Allow | Overlap::QueueAll => {}
        }
        if overlap == Overlap::CancelRunning {
            settled.extend(self.cancel_live(key, ev));
            if !self.has_live_run(key.job) {
                self.start_run(key, ready_at, ev);
                return settled;
            }
        }
        self.edit_action(key, |action| action.state = ActionState::Waiting);
        ev.push(Event::Action(key));
        settled
    }

    /// True unless the action, if it were ready now, would be left out for another one.
    pub(super) fn may_have_turn(&self, key: ActionKey) -> bool {
        if !self.has_live_run(key.job) {
            return true;
        }
        match self.overlap_of(key.job) {
            Overlap::Allow | Overlap::QueueAll => true,
            Overlap::Skip => false,
            Overlap::QueueOne | Overlap::CancelRunning => {
                self.in_line(key.job).all(|other| other.nominal <= key.nominal)
            }
        }
    }

    /// A run of the job is over: the first of those that waited for that starts.
    pub(super) fn next_in_line(&mut self, job: JobId, ev: &mut Vec<Event>) -> Settled {
        if self.overlap_of(job) == Overlap::Allow || self.has_live_run(job) {
            return Settled::new();
        }
        if self.jobs.get(&job).is_none_or(|job| self.hold_of(job).is_some()) {
            // Nobody may start, however long the line.
            return Settled::new();
        }
        let first = self.in_line(job).next();
        first.map(|key| self.let_go(key, ev)).unwrap_or_default()
    }

    /// Actions of the job that wait for nothing but its live run, ascending.
    fn in_line(&self, job: JobId) -> impl Iterator<Item = ActionKey> {
        let met = self.index.in_line.range(all_of(job)).copied();
        met.filter(|key| self.actions.get(key).is_some_and(|a| self.may_start(*key, a)))
    }

    /// Asks for the end of the job's live runs, in whose place this one is to run. Those that
    /// are not with a worker are over at once, and their actions are to be settled.
    fn cancel_live(&mut self, next: ActionKey, ev: &mut Vec<Event>) -> Settled {
        let mut settled = Settled::new();
        for id in self.live_runs_of(next.job) {
            let found = self.runs.get(&id).filter(|run| run.has_turn());
            let Some(mut run) = found.cloned() else { continue };
            run.cancel_requested = true;
            run.notes.add(self.own_note(Cause::Displaced(next)));
            if run.state == RunState::Spread {
                let key = run.decides();
                self.put_run(run);
                if let Some((mut whole, result)) = self.cancel_parts(id, ev) {
                    settled.extend(key.map(|key| (key, ActionState::Cancelled)));
                    whole.state = RunState::Finished { result, at: self.meta.now };
                    self.put_run(whole);
                }
            } else if run.state == RunState::Running {
                self.put_run(run);
            } else {
                let (result, at) = (RunResult::Cancelled, self.meta.now);
                settled.extend(run.decides().map(|key| (key, ActionState::Cancelled)));
                run.state = RunState::Finished { result, at };
                self.put_run(run);
            }
            ev.push(Event::Run(id));
        }
        settled
    }

    /// True if an action waits only because another run of its job is live.
    #[must_use]
    pub fn is_overlapped(&self, job: JobId) -> bool {
        self.overlap_of(job) != Overlap::Allow && self.has_live_run(job)
    }
}
