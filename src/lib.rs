//! Horai: a self-hosted, highly available job scheduler.
//!
//! `src/README.md` is the map of this crate. Suggested reading order: the
//! words of [`api`], the codes of [`error`], what [`config`] holds, the
//! [`worker`] and the nodes' end of its streams, [`session`], then [`cli`],
//! which a person meets first; [`launch`] starts whole clusters for [`demo`]
//! and [`bench`].

pub mod api;
pub mod error;
pub mod config;
pub mod worker;
pub mod session;
pub mod cli;
pub mod launch;
pub mod demo;
pub mod bench;
