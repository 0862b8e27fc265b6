//! Secrets: reading only. Who uses which, and which runs wait because the leader has
//! not the key.

use imbl::{OrdMap, OrdSet};

use super::index::count;
use super::state::{State, above};
use crate::ids::{JobId, Name};
use crate::model::job::Job;
use crate::model::run::Run;
use crate::model::secret::{KeyId, StoredSecret};

/// What can be derived of secrets, kept by [`super::index`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SecretIndex {
    /// (secret, job whose texts name it).
    users: OrdSet<(Name, JobId)>,
    /// How many secrets are under each key.
    keys: OrdMap<KeyId, u32>,
    /// How many some node cannot open.
    closed: usize,
}

impl SecretIndex {
    /// A secret is written, or removed.
    pub(super) fn changed(&mut self, old: Option<&StoredSecret>, new: Option<&StoredSecret>) {
        let is_closed = |secret: Option<&StoredSecret>| {
            usize::from(secret.is_some_and(|secret| !secret.closed_to.is_empty()))
        };
        self.closed = (self.closed + is_closed(new)).saturating_sub(is_closed(old));
        let key = |secret: Option<&StoredSecret>| secret.map(|secret| secret.sealed.key);
        if key(old) == key(new) {
            return;
        }
        if let Some(key) = key(old) {
            count(&mut self.keys, &key, false);
        }
        if let Some(key) = key(new) {
            count(&mut self.keys, &key, true);
        }
    }

    /// A job is written, or removed.
    pub(super) fn job_changed(&mut self, job: &Job, is_there: bool) {
        for name in &job.spec.secrets {
            if is_there {
                self.users.insert((name.clone(), job.id));
            } else {
                self.users.remove(&(name.clone(), job.id));
            }
        }
    }

    /// Every use of a secret.
    pub(super) fn users(&self) -> impl Iterator<Item = &(Name, JobId)> {
        self.users.iter()
    }
}

impl State {
    /// A secret, as it is stored.
    #[must_use]
    pub fn secret(&self, name: &Name) -> Option<&StoredSecret> {
        self.secrets.get(name)
    }

    /// Secrets by name, after one.
    pub fn secrets_after(
        &self,
        after: Option<Name>,
    ) -> impl Iterator<Item = (&Name, &StoredSecret)> {
        self.secrets.range(above(after))
    }

    /// Jobs whose texts name a secret.
    pub fn jobs_with_secret(&self, name: &Name) -> impl Iterator<Item = JobId> {
        let range = (name.clone(), JobId(0))..=(name.clone(), JobId(u64::MAX));
        self.index.secrets.users.range(range).map(|(_, job)| *job)
    }

    /// The keys that secrets are under, ascending.
    pub fn secret_keys(&self) -> impl Iterator<Item = KeyId> {
        self.index.secrets.keys.iter().map(|(key, _)| *key)
    }

    /// The secrets that a run names and its leader cannot open, as that has said: it waits
    /// until another node leads, or this one gets the key.
    #[must_use]
    pub fn closed_secrets(&self, run: &Run) -> Vec<Name> {
        if self.index.secrets.closed == 0 {
            return Vec::new();
        }
        let leader = self.meta.leader.node;
        let is_closed = |name: &&Name| {
            self.secrets.get(name).is_some_and(|secret| secret.closed_to.contains(&leader))
        };
        let spec = self.spec(run.job, run.revision);
        let named = spec.iter().flat_map(|spec| &spec.secrets);
        named.filter(is_closed).cloned().collect()
    }
}
