//! The nouns and their states. Plain data: rules that need more than one
//! record live in [`crate::machine`].
//!
//! Every type here is stored, so variants are only ever appended, fields added as
//! `stored` says, and `tests/golden` decodes the bytes of every release.

pub mod access;
pub mod action;
pub mod area;
pub mod backfill;
pub mod batch;
pub mod calendar;
pub mod cluster;
pub mod confinement;
pub mod demand;
pub mod edge;
pub mod file;
pub mod executor;
pub mod group;
pub mod handle;
pub mod history;
pub mod job;
pub mod limits;
pub mod lock;
pub mod output;
pub mod params;
pub mod part;
pub mod pause;
pub mod pool;
pub mod resources;
pub mod retry;
pub mod run;
#[cfg(test)]
mod run_tests;
pub mod secret;
pub mod selector;
pub(crate) mod stored;
pub mod syntax;
pub mod trigger;
pub mod worker;
pub mod worker_group;
