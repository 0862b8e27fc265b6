//! Worker groups: how a worker of a group is chosen, and when one is too busy for it.
//!
//! A group is there as soon as a worker serves it or a job names it; what is written here is
//! said of it beyond that. Without it, work goes round, however busy the workers are. Plain
//! data: the choice is [`crate::placement`]'s.

use serde::{Deserialize, Serialize};

use crate::ids::{Name, Revision};
use crate::time::UtcMillis;

/// What is said of a worker group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerGroupDef {
    /// As workers and jobs name it.
    pub name: Name,
    /// How one of its workers is chosen.
    pub strategy: Strategy,
    /// Workers above these get nothing new; none: however busy they are.
    pub thresholds: Option<Thresholds>,
    /// For people; up to 1,000 bytes.
    pub description: String,
}

impl WorkerGroupDef {
    /// The longest description, in bytes.
    pub const MAX_DESCRIPTION: usize = 1_000;
}

/// How one of several workers is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Strategy {
    /// In turns.
    #[default]
    RoundRobin,
    /// By chance, each as likely as the others.
    Random,
    /// The least busy: whose most used resource (slots, memory, load) is the least used.
    LeastLoaded,
    /// The one that ran the job last, while it may; else in turns.
    Sticky,
}

impl Strategy {
    /// Each with its word in definitions; the first is the default.
    pub const ALL: [(&'static str, Self); 4] = [
        ("round_robin", Self::RoundRobin),
        ("random", Self::Random),
        ("least_loaded", Self::LeastLoaded),
        ("sticky", Self::Sticky),
    ];
}

/// How busy a worker may be and still get work, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Share of its memory in use, 1 to 1,000.
    pub memory_permille: u32,
    /// Load of the last minute for each core, 1 to 1,000,000.
    pub load_permille: u32,
}

impl Thresholds {
    /// The highest load that can be asked for.
    pub const MAX_LOAD_PERMILLE: u32 = 1_000_000;
}

/// As in hera.
impl Default for Thresholds {
    fn default() -> Self {
        Self { memory_permille: 700, load_permille: 1_000 }
    }
}

/// A worker group's definition as the cluster holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerGroup {
    /// What the user wrote.
    pub def: WorkerGroupDef,
    /// Counts the definitions that differed, from 1.
    pub revision: Revision,
    /// When the first revision was committed.
    pub created: UtcMillis,
    /// When this revision was committed.
    pub updated: UtcMillis,
}
