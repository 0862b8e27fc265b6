//! The keys that secrets are encrypted with, and what a node does with them.
//!
//! A value is encrypted by the node that takes it, before it becomes part of a command,
//! and decrypted by the node that leads, when an attempt's order is sent: in between it
//! is in logs, snapshots and on other nodes' disks as ciphertext alone. ChaCha20-Poly1305
//! with a random nonce for each value; the secret's name is authenticated with it, so that
//! one secret's value cannot be put under another's name. Nothing here logs a value, and
//! no type here shows one.

mod announce;
mod file;

use std::fmt;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce};
use horai_core::ids::Name;
use horai_core::model::secret::{KeyId, Sealed};
use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};

pub use announce::announce;
pub use file::{KeyFileError, make, new_key};

use crate::template::Secret;

/// The shortest value, in bytes: what is shorter cannot be taken out of an output.
pub const MIN_VALUE: usize = 3;

/// Bytes of a key.
const KEY: usize = 32;
/// Hashed before a key, to name it.
const NAMING: &[u8] = b"horai: a key of secrets\0";
/// Authenticated before a secret's name.
const BINDING: &[u8] = b"horai secret 1\0";

/// Why a value cannot be encrypted.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The node has no key.
    #[error("this node has no key for secrets")]
    NoKey,
    /// The system gives no random bytes, or the cipher failed.
    #[error("the value could not be encrypted")]
    Failed,
}

/// Why a value cannot be decrypted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The node lacks this key.
    #[error("this node does not have the key {0}")]
    NoKey(KeyId),
    /// The key is right and the ciphertext is not.
    #[error("what is stored is not what was written under key {0}: set the secret again")]
    Damaged(KeyId),
}

/// The keys of a node: the first encrypts, all of them decrypt.
#[derive(Clone, Default)]
pub struct Keyring {
    keys: Vec<(KeyId, ChaCha20Poly1305)>,
}

impl Keyring {
    /// Without a key: secrets are refused, all else works.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    fn of(keys: &[[u8; KEY]]) -> Self {
        let named = |key: &[u8; KEY]| (id_of(key), ChaCha20Poly1305::new(key.into()));
        Self { keys: keys.iter().map(named).collect() }
    }

    /// The key that encrypts; none if there is no key.
    #[must_use]
    pub fn first(&self) -> Option<KeyId> {
        self.keys.first().map(|(id, _)| *id)
    }

    /// All keys, the one that encrypts first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys.iter().map(|(id, _)| *id)
    }

    /// True if values under that key can be decrypted.
    #[must_use]
    pub fn has(&self, key: KeyId) -> bool {
        self.keys.iter().any(|(id, _)| *id == key)
    }

    /// Encrypts a value for a secret of that name.
    ///
    /// # Errors
    /// [`SealError`]
    pub fn seal(&self, name: &Name, value: &str) -> Result<Sealed, SealError> {
        let (key, cipher) = self.keys.first().ok_or(SealError::NoKey)?;
        let mut nonce = [0; 12];
        OsRng.try_fill_bytes(&mut nonce).map_err(|_| SealError::Failed)?;
        let aad = bound_to(name);
        let payload = Payload { msg: value.as_bytes(), aad: &aad };
        let ciphertext = cipher.encrypt(Nonce::from_slice(&nonce), payload);
        let ciphertext = ciphertext.map_err(|_| SealError::Failed)?;
        Ok(Sealed { key: *key, nonce, ciphertext })
    }

    /// Decrypts the value of a secret of that name.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn open(&self, name: &Name, sealed: &Sealed) -> Result<Secret, OpenError> {
        let Sealed { key, nonce, ciphertext } = sealed;
        let found = self.keys.iter().find(|(id, _)| id == key);
        let (_, cipher) = found.ok_or(OpenError::NoKey(*key))?;
        let aad = bound_to(name);
        let payload = Payload { msg: ciphertext, aad: &aad };
        let value = cipher.decrypt(Nonce::from_slice(nonce), payload).ok();
        let value = value.and_then(|value| String::from_utf8(value).ok());
        value.map(Secret::new).ok_or(OpenError::Damaged(*key))
    }
}

/// Names alone.
impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids().map(|id| id.to_string())).finish()
    }
}

fn id_of(key: &[u8; KEY]) -> KeyId {
    let hash: [u8; 32] = Sha256::new().chain_update(NAMING).chain_update(key).finalize().into();
    let mut id = [0; 8];
    id.copy_from_slice(&hash[..8]);
    KeyId(id)
}

fn bound_to(name: &Name) -> Vec<u8> {
    [BINDING, name.as_str().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn what_is_sealed_is_opened_with_its_key_and_name_alone() {
        let (old, new) = (Keyring::of(&[[1; KEY]]), Keyring::of(&[[2; KEY], [1; KEY]]));
        let sealed = old.seal(&name("db"), "hunter2").unwrap();
        assert_eq!(sealed.ciphertext.len(), "hunter2".len() + Sealed::PROOF);
        assert_eq!(old.open(&name("db"), &sealed).unwrap().expose(), "hunter2");
        assert_eq!(new.open(&name("db"), &sealed).unwrap().expose(), "hunter2");
        let again = new.seal(&name("db"), "hunter2").unwrap();
        assert_eq!(Some(again.key), new.first());
        assert_eq!(old.open(&name("db"), &again).unwrap_err(), OpenError::NoKey(again.key));
        let damaged = OpenError::Damaged(sealed.key);
        assert_eq!(old.open(&name("other"), &sealed).unwrap_err(), damaged);
        let mut bent = sealed.clone();
        bent.ciphertext[0] ^= 1;
        assert_eq!(old.open(&name("db"), &bent).unwrap_err(), damaged);
        let twice = old.seal(&name("db"), "hunter2").unwrap();
        assert_ne!((twice.nonce, twice.ciphertext), (sealed.nonce, sealed.ciphertext));
        assert!(matches!(Keyring::none().seal(&name("db"), "x"), Err(SealError::NoKey)));
    }

    #[test]
    fn a_key_is_named_alike_for_ever_and_never_shown() {
        let keys = Keyring::of(&[[7; KEY]]);
        assert_eq!(keys.first().unwrap().to_string(), "90b97f70fb51e0d4");
        assert_eq!(format!("{keys:?}"), "[\"90b97f70fb51e0d4\"]");
    }
}
