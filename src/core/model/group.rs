//! Groups of jobs: folders, which need no record to be there. One that has a record gives
//! its jobs, and those of the groups in it, parameters.
//!
//! What a group says holds for each attempt that is sent from then on: runs are pinned to
//! a definition of their job, not to what is around it.

use serde::{Deserialize, Serialize};

use super::params::Params;
use crate::ids::{GroupPath, Revision};
use crate::time::UtcMillis;

/// What a user writes of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupDef {
    /// Where it lies, and its name.
    pub path: GroupPath,
    /// For people; up to 1,000 bytes.
    pub description: String,
    /// What jobs in it get, unless something nearer says otherwise; as many and as long
    /// as a job's own.
    pub params: Params,
}

impl GroupDef {
    /// The longest description, in bytes.
    pub const MAX_DESCRIPTION: usize = 1_000;
    /// The largest definition, encoded, in bytes.
    pub const MAX_BYTES: usize = 256 * 1024;
}

/// A group as the cluster holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredGroup {
    /// What the user wrote.
    pub def: GroupDef,
    /// Counts the definitions that differed, from 1.
    pub revision: Revision,
    /// When the first revision was committed.
    pub created: UtcMillis,
    /// When this revision was committed.
    pub updated: UtcMillis,
}
