//! The API in one process, against a real node that is alone in its cluster.

mod bad_input;
mod holds;
mod resources;
mod support;
