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
