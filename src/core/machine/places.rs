//! Where a run stands: in the queue, in time, and what it holds of pools and its worker. Each follows from
//! the run and the definition that it is pinned to; nothing is written here.

use super::index::Timer;
use super::queue::Place;
use super::state::State;
use crate::model::demand::Demand;
use crate::model::job::JobSpec;
use crate::model::run::{Attempt, Run, RunState};
use crate::time::{Span, UtcMillis};

/// Where a run stands in queue and time, and what it holds; needs its definition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RunPlace {
    pub(super) queue: Option<Place>,
    pub(super) timer: Option<(UtcMillis, Timer)>,
    pub(super) holds: Demand,
}

impl State {
    /// Until when an attempt may begin at latest: whoever counts its time-out from
    /// its start ends it before the cluster's own backstop does. And none begins when
    /// its run must be over.
    #[must_use]
    pub fn begin_by(&self, run: &Run, attempt: &Attempt, spec: &JobSpec) -> UtcMillis {
        let by_lease = self.dispatch_counts_from(attempt).plus(spec.lease);
        spec.limits.run_ends(run).map_or(by_lease, |end| end.min(by_lease))
    }

    /// How long an attempt may live if it begins at `from`: its own time-out, or what
    /// is left of its run's.
    #[must_use]
    pub fn time_out_of(
        &self,
        run: &Run,
        attempt: &Attempt,
        spec: &JobSpec,
        from: UtcMillis,
    ) -> Option<Span> {
        spec.timeout.into_iter().chain(spec.limits.left(run, attempt, from)).min()
    }

    /// Its dispatch, or anew the begin of each leader: cluster time may have been set
    /// anew.
    pub(super) fn dispatch_counts_from(&self, attempt: &Attempt) -> UtcMillis {
        attempt.dispatched.max(self.meta.lease_floor)
    }

    /// The place of a run, as job and definition are now.
    pub(super) fn place_of(&self, run: &Run) -> RunPlace {
        let Some(spec) = self.spec(run.job, run.revision) else { return RunPlace::default() };
        match run.state {
            RunState::Queued => {
                let queue = (!self.is_run_out(run)).then(|| Place::of(run, spec));
                let waits = spec.limits.wait_ends(run).filter(|_| queue.is_some());
                let end = spec.limits.run_ends(run).into_iter().chain(waits).min();
                let timer = end.map(|at| (at, Timer::Limit(run.id)));
                RunPlace { queue, timer, ..RunPlace::default() }
            }
            RunState::Backoff { until } => {
                RunPlace { timer: Some((until, Timer::Backoff(run.id))), ..RunPlace::default() }
            }
            RunState::Running => {
                // The shim counts from the start, which comes at latest at
                // `State::begin_by`; this is only the backstop behind it.
                let timer = run.live_attempt().and_then(|attempt| {
                    let timeout = self.time_out_of(run, attempt, spec, attempt.dispatched)?;
                    let span = self.outlasting(spec.lease.plus(timeout)).plus(spec.grace);
                    Some((self.dispatch_counts_from(attempt).plus(span), Timer::Timeout(run.id)))
                });
                RunPlace { queue: None, timer, holds: Demand::of(spec, run) }
            }
            // Each part of it has a place of its own.
            RunState::Spread | RunState::Finished { .. } => RunPlace::default(),
        }
    }
}
