//! How long a run may take as a whole, and how long it may wait to begin. What passes
//! is decided by replicated time alone; the time-out of one attempt is the job's own
//! field and is held by the shim.

use serde::{Deserialize, Serialize};

use super::run::{Attempt, Run};
use crate::time::{Span, UtcMillis};

/// Limits of a job's runs; none where nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RunLimits {
    /// From a run's creation through all its retries and the waits between them: 1 s to
    /// 366 days.
    pub run: Option<Span>,
    /// In the queue, before the first attempt: 1 s to 366 days.
    pub queue: Option<Span>,
}

impl RunLimits {
    /// The shortest of either.
    pub const MIN: Span = Span::secs(1);
    /// The longest of either.
    pub const MAX: Span = Span::secs(366 * 86_400);

    /// When a run must be over.
    #[must_use]
    pub fn run_ends(&self, run: &Run) -> Option<UtcMillis> {
        self.run.map(|limit| run.created.plus(limit))
    }

    /// When a run has waited too long to begin; none once it was tried. What was planned
    /// late is not late for that: its wait counts from its creation.
    #[must_use]
    pub fn wait_ends(&self, run: &Run) -> Option<UtcMillis> {
        let limit = self.queue.filter(|_| run.attempts.is_empty())?;
        let ready = run.ready_at.max(run.created);
        Some(run.waits_from.map_or(ready, |from| from.max(ready)).plus(limit))
    }

    /// What is left of a run for an attempt that begins at `from`, but not before its
    /// dispatch.
    #[must_use]
    pub fn left(&self, run: &Run, attempt: &Attempt, from: UtcMillis) -> Option<Span> {
        self.run_ends(run).map(|end| end.since(from.max(attempt.dispatched)))
    }
}
