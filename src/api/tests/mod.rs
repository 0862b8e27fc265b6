//! The API in one process, against a real node that is alone in its cluster.

mod bad_input;
mod resources;
mod support;
