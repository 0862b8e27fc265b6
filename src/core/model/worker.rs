//! Workers as the cluster knows them. Load and connection are not here: they
//! change too often to be replicated, and only the leader acts on them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{Incarnation, Name, WorkerId};
use crate::time::UtcMillis;

/// A worker that has attached at least once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Its number.
    pub id: WorkerId,
    /// Declared when it last attached.
    pub profile: WorkerProfile,
    /// Replicated time of the last heartbeat; its attempts' leases run from here.
    pub last_heartbeat: UtcMillis,
    /// When the name first attached.
    pub registered: UtcMillis,
}

/// What a worker declares when it attaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerProfile {
    /// Unique in the cluster.
    pub name: Name,
    /// Kept with its journal; another one means that the journal was lost.
    pub incarnation: Incarnation,
    /// The machine's boot id; another one proves that all its processes are gone.
    pub boot_id: u128,
    /// Groups it serves, at least one.
    pub groups: Vec<Name>,
    /// Free facts about it.
    pub labels: BTreeMap<String, String>,
    /// Attempts it runs at once.
    pub slots: u32,
    /// Where it runs, for people.
    pub host: String,
    /// Version of its program, for people.
    pub version: String,
}
