//! Who may speak to the cluster: tokens, and the nodes that were let in.
//!
//! Only hashes are kept. A token's text is shown once, when it is made, and
//! travels in requests; whoever reads the state or a snapshot learns none.

use serde::{Deserialize, Serialize};

use crate::ids::NodeId;
use crate::time::UtcMillis;

/// SHA-256 of a token's text.
pub type TokenHash = [u8; 32];

/// A token as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessToken {
    /// What it opens.
    pub purpose: TokenPurpose,
    /// SHA-256 of its text.
    pub hash: TokenHash,
    /// Worthless from this replicated time on; none: until it is dropped.
    pub expires: Option<UtcMillis>,
    /// When it was made.
    pub created: UtcMillis,
}

/// What a token opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TokenPurpose {
    /// Everything: API, workers, and letting nodes in.
    Admin,
    /// Letting nodes in, nothing else.
    Join,
}

/// A node that was let in, kept for ever: its number is never given again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Random id of its store. 0 for the founder, which nobody let in.
    pub store: u128,
    /// When it was let in.
    pub admitted: UtcMillis,
    /// The lost node whose place it takes.
    pub replaces: Option<NodeId>,
    /// When it was taken out; it cannot come back.
    pub retired: Option<UtcMillis>,
}
