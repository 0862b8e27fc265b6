//! Secrets: values that jobs use and that nobody reads.
//!
//! What is replicated is what nodes wrote under a key of their own, which stands in a
//! file beside each of them: whoever has the state, a snapshot or a log has none of the
//! values. The machine cannot read one, and decides nothing by it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{NodeId, Revision};
use crate::time::UtcMillis;

/// Names a key without telling anything of it: the beginning of a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyId(pub [u8; 8]);

/// Sixteen hexadecimal digits.
impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A value as it is stored and sent: encrypted, and bound to the secret's name.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// What it was encrypted with.
    pub key: KeyId,
    /// Drawn by the node that encrypted it, for this value alone.
    pub nonce: [u8; 12],
    /// The value and 16 bytes that prove it: at most [`Sealed::MAX_BYTES`].
    pub ciphertext: Vec<u8>,
}

impl Sealed {
    /// The longest value, in bytes.
    pub const MAX_VALUE: usize = 8 * 1024;
    /// Bytes by which a value grows.
    pub const PROOF: usize = 16;
    /// The longest ciphertext, in bytes.
    pub const MAX_BYTES: usize = Self::MAX_VALUE + Self::PROOF;
}

/// Without what is of no use to a reader.
impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes under {})", self.ciphertext.len(), self.key)
    }
}

/// A secret as the cluster holds it, under its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSecret {
    /// The value.
    pub sealed: Sealed,
    /// For people; up to 1,000 bytes.
    pub description: String,
    /// Counts the values that were set, from 1.
    pub revision: Revision,
    /// When the first value was set.
    pub created: UtcMillis,
    /// When this one was.
    pub updated: UtcMillis,
    /// Nodes that have said that they do not have the key, ascending: while one of them
    /// leads, runs that need the secret wait.
    pub closed_to: Vec<NodeId>,
}

impl StoredSecret {
    /// The longest description, in bytes.
    pub const MAX_DESCRIPTION: usize = 1_000;
}
