//! Pauses: what starts nothing new until someone resumes it.

use serde::{Deserialize, Serialize};

use crate::ids::{GroupPath, JobId, TriggerName};
use crate::time::UtcMillis;

/// What can be paused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PauseTarget {
    /// Every job.
    Cluster,
    /// The jobs of a group and of the groups in it, those that come later included.
    Group(GroupPath),
    /// One job.
    Job(JobId),
    /// One trigger of a job.
    Trigger(JobId, TriggerName),
}

/// A pause of anything but a job, which holds its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// When it began.
    pub since: UtcMillis,
    /// Who asked for it, as people read it; at most 200 bytes.
    pub by: String,
}

/// A pause of many jobs that has begun or ended, and comes to one after the other: so
/// many a command, so that no command takes long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// What is done for each job.
    pub what: SweepKind,
    /// The last job that it was done for: its group, where the pause is of one, and its
    /// number.
    pub done: Option<(Option<GroupPath>, JobId)>,
    /// What was asked for meanwhile, and is done when this is over: at most two.
    pub next: Vec<SweepKind>,
}

impl Sweep {
    /// How all will stand in the end.
    #[must_use]
    pub fn last(&self) -> SweepKind {
        self.next.last().copied().unwrap_or(self.what)
    }
}

/// What a sweep does for each job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SweepKind {
    /// What is planned is withdrawn.
    Withdraw,
    /// What was held goes on.
    GoOn(PauseEnd),
}

/// How a pause ended. That is one moment for all that it held, whenever their turn comes:
/// who was told at that time that they go on loses nothing that comes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseEnd {
    /// When.
    pub at: UtcMillis,
    /// What becomes of the instants between.
    pub missed: AfterPause,
}

/// What becomes of the instants of a pause when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum AfterPause {
    /// They are recorded and not run.
    #[default]
    Skip,
    /// They are planned late: each trigger's misfire policy says what follows.
    Misfire,
}

impl AfterPause {
    /// Each with its word.
    pub const ALL: [(&'static str, Self); 2] = [("skip", Self::Skip), ("misfire", Self::Misfire)];
}
