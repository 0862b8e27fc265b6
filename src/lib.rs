//! Horai: a self-hosted, highly available job scheduler.
//!
//! `src/README.md` is the map of this crate. Suggested reading order: the
//! words of [`api`], the codes of [`error`], what [`config`] holds, then what
//! a [`leader`] does, the [`worker`], and [`cli`], which a person meets first.

pub mod api;
pub mod error;
pub mod config;
pub mod leader;
pub mod worker;
pub mod cli;
