//! Horai: a self-hosted, highly available job scheduler.
//!
//! `src/README.md` is the map of this crate. Suggested reading order: the
//! words of [`api`], the codes of [`error`], what [`config`] holds, the
//! [`worker`] and the nodes' end of its streams, [`session`], what a node does
//! while it leads, [`leader`], then [`server`], which builds a node of all of it,
//! and [`cli`], which a person meets first; [`launch`] starts whole clusters for
//! [`demo`] and [`mod@bench`]. [`offline`] answers questions that need no cluster,
//! [`template`] puts an attempt's values into a job's texts, and [`secrets`] holds the
//! keys of those that nobody may read.

pub mod api;
pub mod chunks;
pub mod error;
pub mod files;
pub mod config;
pub mod worker;
pub mod session;
pub mod leader;
pub mod logs;
pub mod telemetry;
pub mod shutdown;
pub mod founding;
pub mod joining;
pub mod offline;
pub mod template;
pub mod secrets;
pub mod server;
pub mod cli;
pub mod launch;
pub mod demo;
pub mod bench;
