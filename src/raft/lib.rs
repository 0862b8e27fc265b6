//! Replication: openraft over sled.
//!
//! The only package that sees openraft or sled, so that their generics compile
//! once. It stores and sends commands and never decides what they mean: that is
//! the core's work, reached through [`state_machine::Machine`].
//!
//! Reading order: [`types`], the storage seam [`disk`] with its two
//! implementations, [`log_store`], [`identity`] and [`open`], then snapshots and
//! the state machine's adapter, and [`cluster_clock`], which keeps the time that
//! entries carry.

pub mod types;
pub mod entry;
pub mod disk;
pub mod sled_disk;
pub mod sim_disk;
mod flusher;
pub mod log_store;
pub mod identity;
pub mod open;
pub mod snapshot_store;
pub mod state_machine;
pub mod cluster_clock;

#[cfg(test)]
mod checks;
