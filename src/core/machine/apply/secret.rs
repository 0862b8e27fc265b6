//! Secrets: set, sealed anew, removed, and who cannot open which.
//!
//! Nothing here reads a value. A secret is not taken from under a job that names it: its
//! runs could only fail.

use std::collections::BTreeSet;

use super::super::outcome::{Outcome, Reject};
use super::super::state::State;
use super::job::check_revision;
use super::{at_most, invalid, room_for};
use crate::ids::{Name, NodeId, Revision};
use crate::model::job::JobSpec;
use crate::model::secret::{Sealed, StoredSecret};

impl State {
    pub(super) fn put_secret(
        &mut self,
        name: &Name,
        sealed: &Sealed,
        description: Option<&str>,
        expected: Option<Revision>,
    ) -> Result<Outcome, Reject> {
        let old = self.secrets.shared(name);
        check_revision(expected, old.as_deref().map_or(Revision(0), |secret| secret.revision))?;
        check_sealed(sealed)?;
        let given = description.unwrap_or_default();
        at_most("description", given.len(), StoredSecret::MAX_DESCRIPTION)?;
        if old.is_none() {
            room_for("secrets", self.secrets.len() + 1, self.limits.secrets)?;
        }
        let now = self.meta.now;
        let (revision, created, before) = match old.as_deref() {
            Some(old) => (old.revision.next(), old.created, old.description.as_str()),
            None => (Revision(1), now, ""),
        };
        let secret = StoredSecret {
            sealed: sealed.clone(),
            description: description.unwrap_or(before).to_owned(),
            revision,
            created,
            updated: now,
            closed_to: self.closed_to(old.as_deref(), sealed),
        };
        self.put_stored_secret(name, secret);
        Ok(Outcome::Secret { revision })
    }

    /// The same value under another key: for people nothing has changed.
    pub(super) fn reseal_secret(
        &mut self,
        name: &Name,
        sealed: &Sealed,
        expected: Revision,
    ) -> Result<Outcome, Reject> {
        let old = self.secrets.shared(name).ok_or_else(|| Reject::NoSuchSecret(name.clone()))?;
        check_revision(Some(expected), old.revision)?;
        check_sealed(sealed)?;
        let closed_to = self.closed_to(Some(&old), sealed);
        let secret = StoredSecret { sealed: sealed.clone(), closed_to, ..(*old).clone() };
        self.put_stored_secret(name, secret);
        Ok(Outcome::Secret { revision: old.revision })
    }

    /// Who cannot open it is known as long as its key is the same; of another key, what
    /// nodes have said of other secrets under it.
    fn closed_to(&self, old: Option<&StoredSecret>, sealed: &Sealed) -> Vec<NodeId> {
        if let Some(old) = old.filter(|old| old.sealed.key == sealed.key) {
            return old.closed_to.clone();
        }
        let mut beside = self.secrets.iter().filter(|(_, other)| other.sealed.key == sealed.key);
        beside.next().map(|(_, other)| other.closed_to.clone()).unwrap_or_default()
    }

    pub(super) fn delete_secret(
        &mut self,
        name: &Name,
        expected: Option<Revision>,
    ) -> Result<Outcome, Reject> {
        let old = self.secrets.shared(name).ok_or_else(|| Reject::NoSuchSecret(name.clone()))?;
        check_revision(expected, old.revision)?;
        let jobs = self.names_of(self.jobs_with_secret(name));
        if !jobs.is_empty() {
            return Err(Reject::SecretInUse { name: name.clone(), jobs });
        }
        self.index.secrets.changed(Some(&old), None);
        self.secrets.remove(name);
        Ok(Outcome::Done)
    }

    /// A node says which secrets it cannot open, and by that, that it can open all others.
    pub(super) fn close_secrets(&mut self, node: NodeId, closed: &[Name]) -> Outcome {
        let closed: BTreeSet<&Name> = closed.iter().collect();
        let is_new = |(name, secret): &(&Name, &StoredSecret)| {
            closed.contains(name) != secret.closed_to.contains(&node)
        };
        let changed = self.secrets.iter().filter(is_new);
        let changed: Vec<(Name, StoredSecret)> =
            changed.map(|(name, secret)| (name.clone(), secret.clone())).collect();
        for (name, mut secret) in changed {
            match secret.closed_to.binary_search(&node) {
                Ok(place) => drop(secret.closed_to.remove(place)),
                Err(place) => secret.closed_to.insert(place, node),
            }
            self.put_stored_secret(&name, secret);
        }
        Outcome::Done
    }

    fn put_stored_secret(&mut self, name: &Name, secret: StoredSecret) {
        self.index.secrets.changed(self.secrets.get(name), Some(&secret));
        self.secrets.put(name.clone(), secret);
    }

    /// The secrets that a definition names exist, and are not too many.
    pub(super) fn check_secrets(&self, spec: &JobSpec) -> Result<(), Reject> {
        at_most("secrets", spec.secrets.len(), JobSpec::MAX_SECRETS)?;
        match spec.secrets.iter().find(|name| !self.secrets.contains(name)) {
            None => Ok(()),
            Some(name) => {
                let problem = format!(
                    "secret {name} does not exist; horai secret set {name}, or correct the name"
                );
                Err(invalid("secrets", problem))
            }
        }
    }
}

fn check_sealed(sealed: &Sealed) -> Result<(), Reject> {
    at_most("ciphertext", sealed.ciphertext.len(), Sealed::MAX_BYTES)
}
