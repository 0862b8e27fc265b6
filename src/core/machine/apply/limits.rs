//! Runs that take too long as a whole, or wait too long to begin. One that no worker
//! has is over at once; a live attempt is ended by its shim, which was told what is left
//! of the run, and what comes after that is decided where attempts end.
//!
//! A pause or freeze does not count as waiting in the queue: when it ends, the wait to
//! begin counts anew. It does count for the run as a whole.

use super::super::outcome::Event;
use super::super::state::State;
use crate::ids::{JobId, Revision, RunId};
use crate::model::job::JobSpec;
use crate::model::run::{EndKind, Run, RunResult, RunState};

impl State {
    /// A limit of a run that waits for a worker has passed.
    pub(super) fn limit_passed(&mut self, id: RunId, ev: &mut Vec<Event>) {
        let Some(run) = self.runs.get(&id).filter(|r| r.state == RunState::Queued) else { return };
        let Some(spec) = self.spec(run.job, run.revision) else { return };
        let now = self.meta.now;
        if spec.limits.run_ends(run).is_some_and(|end| end <= now) {
            let run = run.clone();
            return self.finish_run(run, RunResult::RunTimedOut, ev);
        }
        let is_frozen = self.jobs.get(&run.job).is_some_and(|job| self.hold_of(job).is_some());
        if is_frozen || self.is_run_held(run) {
            // A frozen cluster keeps its queue, timers included; it says when that ends.
            return self.wait_anew(&[id]);
        }
        let run = run.clone();
        self.finish_run(run, RunResult::QueueTimedOut, ev);
    }

    /// Nothing holds the job's runs any more.
    pub(super) fn job_waits_anew(&mut self, job: JobId) {
        // Most jobs have none, and all of a cluster may come by here.
        let all = (job, Revision(0))..=(job, Revision(u64::MAX));
        if self.index.pins.range(all).next().is_some() {
            let runs = self.live_runs_of(job);
            self.wait_anew(&runs);
        }
    }

    /// Those of the runs that wait to begin, and must not wait for ever, do so from now.
    pub(super) fn wait_anew(&mut self, runs: &[RunId]) {
        for id in runs {
            let Some(run) = self.runs.get(id).filter(|r| r.state == RunState::Queued) else {
                continue;
            };
            let spec = self.spec(run.job, run.revision);
            if spec.is_some_and(|spec| spec.limits.wait_ends(run).is_some()) {
                let waits_from = Some(self.meta.now);
                let run = Run { waits_from, ..run.clone() };
                self.put_run(run);
            }
        }
    }

    /// True if the live attempt of a run was ended because the run's time is over, not
    /// its own. Clocks differ by a little: by this one, there may be some time left.
    pub(super) fn is_cut_by_run(&self, run: &Run, spec: &JobSpec, how: &EndKind) -> bool {
        let Some(attempt) = run.live_attempt().filter(|_| *how == EndKind::TimedOut) else {
            return false;
        };
        let left = spec.limits.left(run, attempt, attempt.dispatched);
        left.is_some_and(|left| spec.timeout.is_none_or(|timeout| left <= timeout))
    }
}
