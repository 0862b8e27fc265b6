//! Pools: how many runs may do the same kind of thing at once.
//!
//! A pool is a name and a number of slots. Nobody holds a slot by a record of
//! its own: a run takes what its definition says exactly while an attempt of it
//! is live. So what is in use follows from the runs, and no slot can be lost.
//! Plain data; what is in use is counted in [`crate::machine`].

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::job::JobSpec;
use crate::ids::{Name, Revision};
use crate::time::UtcMillis;

/// A named number of slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolDef {
    /// Unique among pools.
    pub name: Name,
    /// How many there are, 1 to 10,000.
    pub slots: u32,
    /// For people; up to 1,000 bytes.
    pub description: String,
}

impl PoolDef {
    /// The most slots of a pool.
    pub const MAX_SLOTS: u32 = 10_000;
    /// The longest description, in bytes.
    pub const MAX_DESCRIPTION: usize = 1_000;
}

/// A pool as the cluster holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// What the user wrote.
    pub def: PoolDef,
    /// Counts the definitions that differed, from 1.
    pub revision: Revision,
    /// When the first revision was committed.
    pub created: UtcMillis,
    /// When this revision was committed.
    pub updated: UtcMillis,
}

/// What a run takes of pools, by their names. Cheap to clone: it is part of each
/// waiting run's place in the queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Demand(Option<Arc<BTreeMap<Name, u32>>>);

impl Demand {
    /// What runs of that definition take.
    #[must_use]
    pub fn of(spec: &JobSpec) -> Self {
        Self((!spec.pools.is_empty()).then(|| Arc::new(spec.pools.clone())))
    }

    /// True if it takes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Pools and how many slots of each, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, u32)> {
        self.0.iter().flat_map(|pools| pools.iter()).map(|(name, slots)| (name, *slots))
    }
}
