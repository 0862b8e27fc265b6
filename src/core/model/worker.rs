//! Workers as the cluster knows them. Load and connection are not here: they
//! change too often to be replicated, and only the leader acts on them. What an operator
//! says of a worker is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::confinement::Isolation;
use super::stored::extended;
use crate::ids::{Incarnation, Name, WorkerId};
use crate::time::UtcMillis;

/// A worker that has attached at least once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Its number.
    pub id: WorkerId,
    /// Declared when it last attached.
    pub profile: WorkerProfile,
    /// Replicated time of the last heartbeat; its attempts' leases run from here.
    pub last_heartbeat: UtcMillis,
    /// When the name first attached.
    pub registered: UtcMillis,
    /// Whether it is given anything.
    pub duty: Duty,
}

extended! {
    Worker (WorkerId)
    [id profile last_heartbeat registered]
    [1 duty]
}

/// What a worker is given, as an operator wants it. What runs there goes on in any case,
/// but for a drain whose time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Duty {
    /// Whatever fits.
    #[default]
    Open,
    /// Nothing new.
    Cordoned,
    /// Nothing new, and somebody waits until nothing runs there any more.
    Draining {
        /// When what still runs is ended, to run again elsewhere; none: whenever it ends.
        until: Option<UtcMillis>,
    },
}

impl Duty {
    /// The word in API and CLI.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Cordoned => "cordoned",
            Self::Draining { .. } => "draining",
        }
    }
}

/// What a worker declares when it attaches.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// How it keeps attempts apart, and what it can hold them to.
    pub isolation: Box<Isolation>,
}

extended! {
    WorkerProfile (Name)
    [name incarnation boot_id groups labels slots host version]
    [1 isolation]
}
