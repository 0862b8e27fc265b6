//! Pools: how many runs may do the same kind of thing at once.
//!
//! A pool is a name and a number of slots. Nobody holds a slot by a record of
//! its own: a run takes what its definition says exactly while an attempt of it
//! is live. So what is in use follows from the runs, and no slot can be lost.
//! Plain data; what is in use is counted in [`crate::machine`].

use serde::{Deserialize, Serialize};

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
