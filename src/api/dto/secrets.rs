//! Secrets. What is sent holds a value, what is answered never does.

use std::fmt;

use horai_core::ids::Name;
use horai_core::machine::state::State;
use horai_core::model::secret::StoredSecret;
use serde::{Deserialize, Serialize};

use super::jobs::job_name;
use super::text::Time;

/// Jobs of a secret that are named.
const JOBS: usize = 100;

/// A value for a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetSecret {
    /// The value: 3 bytes to 8 KiB of text.
    pub value: String,
    /// For people; what there is stays if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Without the value.
impl fmt::Debug for SetSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetSecret").field("description", &self.description).finish_non_exhaustive()
    }
}

/// What setting a secret did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSet {
    /// Which secret.
    pub name: String,
    /// Its revision now.
    pub revision: u64,
}

/// A secret, as far as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretDto {
    /// Its name.
    pub name: String,
    /// Counts the values that were set, from 1; also the `ETag`.
    pub revision: u64,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// When the first value was set.
    pub created: Time,
    /// When this one was.
    pub updated: Time,
    /// Names the key that the value is encrypted with.
    pub key: String,
    /// Jobs whose texts name it, up to 100.
    pub jobs: Vec<String>,
    /// Nodes that have not the key: while one of them leads, runs that need it wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed_to: Vec<u64>,
}

impl SecretDto {
    /// A secret as it stands.
    #[must_use]
    pub fn of(state: &State, name: &Name, secret: &StoredSecret) -> Self {
        let jobs = state.jobs_with_secret(name).take(JOBS);
        let mut jobs: Vec<String> = jobs.map(|job| job_name(state, job)).collect();
        jobs.sort_unstable();
        Self {
            name: name.to_string(),
            revision: secret.revision.0,
            description: secret.description.clone(),
            created: Time(secret.created),
            updated: Time(secret.updated),
            key: secret.sealed.key.to_string(),
            jobs,
            closed_to: secret.closed_to.iter().map(|node| node.0).collect(),
        }
    }
}

/// What writing all secrets under one key did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RekeyedDto {
    /// Names the key: the first one of the node that answers.
    pub key: String,
    /// How many secrets were written anew.
    pub resealed: u64,
    /// How many were under it before.
    pub kept: u64,
    /// Secrets that the node that answers cannot open, and left as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
}
