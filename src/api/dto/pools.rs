//! Pools of slots that runs take.

use horai_core::machine::state::State;
use horai_core::model::pool::Pool;
use serde::{Deserialize, Serialize};

use super::jobs::job_name;
use super::text::Time;

/// Jobs of a pool that are named.
const JOBS: usize = 100;

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolDto {
    /// Its name.
    pub name: String,
    /// Counts the definitions that differed, from 1; also the `ETag`.
    pub revision: u64,
    /// How many there are.
    pub slots: u32,
    /// How many running runs take: more than there are, after it was made smaller.
    pub used: u32,
    /// How many runs in the queue ask for some.
    pub waiting: u32,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// When it was made.
    pub created: Time,
    /// When this revision was made.
    pub updated: Time,
    /// Jobs that name it, up to 100.
    pub jobs: Vec<String>,
}

impl PoolDto {
    /// A pool as it stands.
    #[must_use]
    pub fn of(state: &State, pool: &Pool) -> Self {
        let name = &pool.def.name;
        let mut jobs: Vec<String> =
            state.jobs_with_pool(name, 0).take(JOBS).map(|job| job_name(state, job)).collect();
        jobs.sort_unstable();
        Self {
            name: name.to_string(),
            revision: pool.revision.0,
            slots: pool.def.slots,
            used: state.pool_used(name),
            waiting: state.pool_waiting(name),
            description: pool.def.description.clone(),
            created: Time(pool.created),
            updated: Time(pool.updated),
            jobs,
        }
    }
}

/// What setting a pool did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetPool {
    /// Which pool.
    pub name: String,
    /// Its revision now.
    pub revision: u64,
    /// False if it was the same already.
    pub changed: bool,
}
