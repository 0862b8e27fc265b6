//! Back-fills: instants of the past that a job runs for, with a definition and a list
//! that are fixed when it is asked for. Each instant's result is in a record of its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::run::RunResult;
use crate::ids::{BackfillId, JobId, Revision, RunId};
use crate::time::UtcMillis;

/// What is asked for. The instants were computed by who asks: the machine knows no rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillOrder {
    /// Whose instants.
    pub job: JobId,
    /// The definition they run with; that of now, if none is named.
    pub revision: Option<Revision>,
    /// Ascending, each once; 1 to [`Backfill::MAX_INSTANTS`].
    pub instants: Vec<UtcMillis>,
    /// Instants of the same range that were left out, because they had run.
    pub passed_over: u32,
    /// The last instant goes first.
    pub newest_first: bool,
    /// Runs that may be live at once, 1 to [`Backfill::MAX_CONCURRENCY`].
    pub concurrency: u32,
    /// When runs may begin; at any time if none are given.
    pub hours: Option<Hours>,
    /// Actions that are there have the result as their own, and tell their dependants.
    pub downstream: bool,
    /// Over those of triggers and job.
    pub params: BTreeMap<String, String>,
    /// 9 goes first; [`Backfill::DEFAULT_PRIORITY`] if nothing is said.
    pub priority: Option<u8>,
    /// The back-fill whose failures are run again.
    pub again: Option<BackfillId>,
}

/// From one minute of the day until before another, in the job's zone; over midnight if
/// the first is the later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hours {
    /// The first minute, 0 to 1439.
    pub from: u16,
    /// The minute that is outside again, 0 to 1439, another than the first.
    pub until: u16,
}

impl Hours {
    /// Minutes of a day.
    pub const DAY: u16 = 24 * 60;

    /// True if a minute of the day is inside.
    #[must_use]
    pub fn contain(self, minute: u16) -> bool {
        if self.from <= self.until {
            (self.from..self.until).contains(&minute)
        } else {
            minute >= self.from || minute < self.until
        }
    }
}

/// A back-fill, without its instants: those have records of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backfill {
    /// Its number.
    pub id: BackfillId,
    /// Whose instants.
    pub job: JobId,
    /// The definition that all its runs are pinned to.
    pub revision: Revision,
    /// Where it stands.
    pub state: BackfillState,
    /// The last instant goes first.
    pub newest_first: bool,
    /// Runs that may be live at once.
    pub concurrency: u32,
    /// When runs may begin.
    pub hours: Option<Hours>,
    /// It is such a time now, as the leader said last.
    pub is_open: bool,
    /// Actions have the result as their own, and tell their dependants.
    pub downstream: bool,
    /// Over those of triggers and job.
    pub params: BTreeMap<String, String>,
    /// 9 goes first.
    pub priority: u8,
    /// The back-fill whose failures are run again.
    pub again: Option<BackfillId>,
    /// The last instant that was taken up; all before it, in its order, were.
    pub cursor: Option<UtcMillis>,
    /// What became of its instants.
    pub counts: BackfillCounts,
    /// When it was asked for.
    pub created: UtcMillis,
    /// By whom, as people read it; at most 200 bytes.
    pub by: String,
    /// When the last of it was over.
    pub finished: Option<UtcMillis>,
}

impl Backfill {
    /// The most instants of one.
    pub const MAX_INSTANTS: usize = 20_000;
    /// The most runs of one that may be live at once.
    pub const MAX_CONCURRENCY: u32 = 100;
    /// Behind what jobs have by themselves.
    pub const DEFAULT_PRIORITY: u8 = 2;

    /// True while instants of it are still to be taken up, if there are any.
    #[must_use]
    pub fn begins_more(&self) -> bool {
        matches!(self.state, BackfillState::Running | BackfillState::Paused)
    }

    /// True while runs of it are live, or may begin.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.finished.is_none()
    }
}

/// How many instants came to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BackfillCounts {
    /// All of them.
    pub total: u32,
    /// Their runs are live.
    pub live: u32,
    /// They have succeeded.
    pub success: u32,
    /// They have failed.
    pub failed: u32,
    /// Their runs were cancelled, or deleted with their job.
    pub cancelled: u32,
    /// Their runs said that there is nothing to do, or something else ran for them.
    pub skipped: u32,
    /// Instants of the range that were left out, because they had run before.
    pub passed_over: u32,
}

impl BackfillCounts {
    /// Instants that no run was made for.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        let taken = self.live + self.success + self.failed + self.cancelled + self.skipped;
        self.total.saturating_sub(taken)
    }
}

/// Where a back-fill stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BackfillState {
    /// It takes up one instant after the other.
    Running,
    /// It takes up nothing; what runs goes on.
    Paused,
    /// It takes up nothing any more.
    Stopped,
    /// All its instants were taken up.
    Done,
}

impl BackfillState {
    /// The word in API and CLI.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Done => "done",
        }
    }
}

/// What a person asks of a back-fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Steer {
    /// Take up nothing for now.
    Pause,
    /// Go on.
    Resume,
    /// Take up nothing any more.
    Stop,
}

/// One instant of a back-fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillInstant {
    /// What became of it.
    pub state: InstantState,
    /// Its run, once there is one.
    pub run: Option<RunId>,
}

/// What became of an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum InstantState {
    /// It has not been taken up.
    Waiting,
    /// Its run is not over.
    Live,
    /// Its run is over.
    Over(RunResult),
    /// Its action was queued or running already when its turn came.
    Elsewhere,
}

impl InstantState {
    /// The word in API and CLI.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Live => "live",
            Self::Over(result) => result.word(),
            Self::Elsewhere => "elsewhere",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_may_go_over_midnight() {
        let night = Hours { from: 22 * 60, until: 6 * 60 };
        let day = Hours { from: 6 * 60, until: 22 * 60 };
        for minute in 0..Hours::DAY {
            let is_day = (6 * 60..22 * 60).contains(&minute);
            assert_eq!((day.contain(minute), night.contain(minute)), (is_day, !is_day));
        }
    }
}
