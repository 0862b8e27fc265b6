//! Locks, of one slot or of more.

use horai_core::model::lock::{Holder, Lock, Waiter};
use serde::{Deserialize, Serialize};

use super::text::{SpanText, Time};

/// A lock, of one slot or of more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockDto {
    /// Its name.
    pub name: String,
    /// How many may hold it at once.
    pub slots: u32,
    /// Who holds it, oldest grant first.
    pub holders: Vec<HolderDto>,
    /// Who waits, first come first served; the first 100.
    pub waiters: Vec<WaiterDto>,
    /// How many wait.
    pub waiting: u64,
}

/// The most waiters shown of one lock.
const MAX_WAITERS_SHOWN: usize = 100;

impl LockDto {
    /// A lock as it stands.
    #[must_use]
    pub fn of(lock: &Lock) -> Self {
        Self {
            name: lock.name.to_string(),
            slots: lock.slots,
            holders: lock.holders.iter().map(HolderDto::of).collect(),
            waiters: lock.waiters.iter().take(MAX_WAITERS_SHOWN).map(WaiterDto::of).collect(),
            waiting: lock.waiters.len() as u64,
        }
    }
}

/// One granted lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderDto {
    /// Who.
    pub owner: String,
    /// Shown to the protected resource.
    pub token: u64,
    /// Length of the lease.
    pub ttl: SpanText,
    /// When it ends unless renewed.
    pub expires: Time,
    /// When it was granted.
    pub acquired: Time,
}

impl HolderDto {
    fn of(holder: &Holder) -> Self {
        Self {
            owner: holder.owner.clone(),
            token: holder.token.0,
            ttl: SpanText(holder.ttl),
            expires: Time(holder.expires),
            acquired: Time(holder.acquired),
        }
    }
}

/// One who waits for a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaiterDto {
    /// Who.
    pub owner: String,
    /// Lease it will get.
    pub ttl: SpanText,
    /// It gives up then.
    pub until: Time,
}

impl WaiterDto {
    fn of(waiter: &Waiter) -> Self {
        Self { owner: waiter.owner.clone(), ttl: SpanText(waiter.ttl), until: Time(waiter.until) }
    }
}

/// Asks for a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcquireRequest {
    /// Who, 1 to 200 bytes. Asking again while holding changes nothing.
    pub owner: String,
    /// Length of the lease, `1s` to `1d`, by your own clock from before you ask.
    pub ttl: SpanText,
    /// Slots it has; default 1, a lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// How long to stay in the queue if it is taken; default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<SpanText>,
}

/// Names a lease by its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockTokenRequest {
    /// The token that was given.
    pub token: u64,
}

/// What asking for a lock, or renewing it, came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum LeaseDto {
    /// It is held.
    Held {
        /// Shown to the protected resource; grows with every grant.
        token: u64,
        /// When the lease ends unless renewed.
        expires: Time,
    },
    /// Others hold it; ask again to learn when it is granted.
    Queued {
        /// 1 is next.
        position: u32,
    },
}
