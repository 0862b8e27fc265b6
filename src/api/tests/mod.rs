//! The API in one process, against a real node that is alone in its cluster.

mod backfills;
mod bad_input;
mod definitions;
mod holds;
mod pools;
mod queries;
mod removal;
mod resources;
mod support;
