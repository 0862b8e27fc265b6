//! The nouns and their states. Plain data: rules that need more than one
//! record live in [`crate::machine`].
//!
//! Every type here is stored, so fields and variants are only ever appended,
//! and `tests/golden` decodes the bytes of every release.

pub mod access;
pub mod action;
pub mod calendar;
pub mod cluster;
pub mod job;
pub mod lock;
pub mod run;
pub mod trigger;
pub mod worker;
