//! Runs in several parts, one a shard: where a job runs on all workers of its group.
//!
//! When such a run would be dispatched it is split instead: it gets a part for each
//! worker, and is over when they are. A part is a run of its own number, so that queue,
//! attempts, retries, losses and limits are those of any run; but it decides nothing. Of
//! which action the run is, whose turn it is, who waits for it and what becomes of it is the
//! whole run's alone. People see a part as a shard of its run, `r-12/3`, and its attempts
//! as `r-12/3.1`.

use serde::{Deserialize, Serialize};

use crate::ids::{RunId, WorkerId};
use crate::time::{Span, UtcMillis};

/// On how many workers a run of a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum RunOn {
    /// On one of those that may run it.
    #[default]
    OneWorker,
    /// Once on each of those that may run it.
    AllWorkers,
}

impl RunOn {
    /// Each with its word in definitions; the first is the default.
    pub const ALL: [(&'static str, Self); 2] =
        [("one_worker", Self::OneWorker), ("all_workers", Self::AllWorkers)];
    /// Who was heard of within this time is there when a run is split: two of the slowest
    /// heartbeats.
    pub const THERE: Span = Span::secs(20);
    /// No run is split before a leader has led for this long: all workers attach to it anew,
    /// and after a stop of the whole cluster one of them is the first.
    pub const SETTLED: Span = Span::secs(5);
}

/// Of which run a run is a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Part {
    /// The whole run.
    pub of: RunId,
    /// Its shard, from 0: in the order of the workers' numbers.
    pub index: u32,
    /// How many there are.
    pub total: u32,
    /// The one worker that may run it.
    pub worker: Option<WorkerId>,
}

/// The parts of a run that was split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Parts {
    /// That of shard 0; the others have the numbers behind it.
    pub first: RunId,
    /// How many there are.
    pub total: u32,
    /// How many of them are over.
    pub over: u32,
    /// When it was split.
    pub at: UtcMillis,
}

impl Parts {
    /// The part that is this shard.
    #[must_use]
    pub fn id(self, index: u32) -> Option<RunId> {
        (index < self.total).then(|| RunId(self.first.0.saturating_add(u64::from(index))))
    }

    /// All of them, by shard.
    pub fn ids(self) -> impl Iterator<Item = RunId> {
        (0..self.total).filter_map(move |index| self.id(index))
    }
}
