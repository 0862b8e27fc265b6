//! The API in one process, against a real node that is alone in its cluster.

mod areas;
mod backfills;
mod bad_input;
mod definitions;
mod explain;
mod files;
mod groups;
mod history;
mod holds;
mod logs;
mod outputs;
mod placement;
mod pools;
mod queries;
mod removal;
mod resources;
mod secrets;
mod support;
