//! What the deletion of a job does to others.

use serde::{Deserialize, Serialize};

/// A job was deleted together with what others had to do with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedDto {
    /// Which.
    pub job: String,
    /// Jobs that depended on it, and do so no longer.
    pub dependants: Vec<String>,
    /// Those of them for which nothing is planned any more: it alone gave them instants.
    pub unplanned: Vec<String>,
    /// Live runs of it that are asked to end.
    pub cancelled: u32,
}

impl RemovedDto {
    /// A job that nobody depended on, and whose runs go on.
    #[must_use]
    pub fn alone(job: String) -> Self {
        Self { job, dependants: Vec::new(), unplanned: Vec::new(), cancelled: 0 }
    }
}

/// What deleting a job would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalDto {
    /// Which.
    pub job: String,
    /// Why it would be refused; none if it would be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Jobs that depend on it; up to 1,000.
    pub dependants: Vec<String>,
    /// How many there are.
    pub dependant_count: u64,
    /// Those of them for which nothing would be planned any more.
    pub unplanned: Vec<String>,
    /// Its actions that would be withdrawn or skipped.
    pub dropped_actions: u64,
    /// Its runs that wait for a worker or a retry, and would be over.
    pub dropped_runs: u64,
    /// Its runs that would be asked to end.
    pub cancelled: u32,
    /// Its runs that would go on to their ends.
    pub left_running: u64,
}
