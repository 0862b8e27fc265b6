//! Replication: openraft over sled.
//!
//! The only package that sees openraft or sled, so that their generics compile
//! once. It stores and sends commands and never decides what they mean: that is
//! the core's work, reached through [`state_machine::Machine`].
//!
//! Reading order: [`types`], the storage seam [`disk`] with its two
//! implementations, the seam to the machine, [`host`], [`log_store`], [`identity`]
//! and [`open`], then snapshots and the state machine's adapter.

mod answers;
mod batcher;
pub mod cluster_clock;
#[cfg(test)]
mod cluster_clock_tests;
pub mod core_machine;
pub mod disk;
pub mod entry;
mod flusher;
mod growth;
pub mod host;
pub mod identity;
mod inner;
pub mod log_store;
pub mod membership;
pub mod network;
pub mod node;
pub mod open;
mod peers;
mod priority;
mod reserve;
pub mod sim_disk;
pub mod sled_disk;
pub mod snapshot_store;
pub mod state_machine;
pub mod types;

pub use growth::SnapshotOptions;
pub use membership::Closed;
pub use membership::admission::{Admitted, AskError, ask};
pub use node::{Error, Leadership, Options, RaftNode, Status};
pub use state_machine::{Heard, Machine, Observer};
pub use types::Member;

#[cfg(test)]
mod checks;
#[cfg(test)]
mod node_checks;
