//! The worker: runs attempts for whoever leads the cluster.
//!
//! It decides nothing about jobs: the replicated state does. Its duties are to
//! start an attempt at most once per token, to end it when its lease ends even
//! if the worker itself is gone (the shim does that), and to keep every result
//! until the leader says that it is committed.

pub mod clock;
pub mod fence;
pub mod files;
pub mod journal;
pub mod shim;
