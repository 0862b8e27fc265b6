//! Locks and pools: named leases with owners, and tokens that only grow.
//!
//! A pool is a lock with more than one slot. A lease alone does not exclude a
//! holder that was paused: the protected resource must check the token.

use serde::{Deserialize, Serialize};

use crate::ids::{Name, Token};
use crate::time::{DRIFT, Span, UtcMillis};

/// A lock (one slot) or pool (more).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Its name.
    pub name: Name,
    /// How many may hold it at once, 1 to 10,000; fixed while anyone holds or waits.
    pub slots: u32,
    /// Who holds it, oldest grant first.
    pub holders: Vec<Holder>,
    /// Who waits, first come first served; at most [`Lock::MAX_WAITERS`].
    pub waiters: Vec<Waiter>,
}

impl Lock {
    /// The most waiters of one lock.
    pub const MAX_WAITERS: usize = 1_000;
}

/// One granted lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Chosen by the client, 1 to 200 bytes.
    pub owner: String,
    /// Larger than any token given before.
    pub token: Token,
    /// Length of the lease, renewed in full.
    pub ttl: Span,
    /// Until when its holder may count on it, unless renewed. See [`Holder::ends`].
    pub expires: UtcMillis,
    /// When it was granted.
    pub acquired: UtcMillis,
}

impl Holder {
    /// When others may have it, so that its holder, who counts the length by its own
    /// clock from before it asked, has certainly stopped counting on it.
    #[must_use]
    pub fn ends(&self) -> UtcMillis {
        self.expires.plus(Span(self.ttl.0 / DRIFT))
    }
}

/// One who waits for a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiter {
    /// Chosen by the client, 1 to 200 bytes.
    pub owner: String,
    /// Lease it will get.
    pub ttl: Span,
    /// It gives up at this replicated time.
    pub until: UtcMillis,
}
