//! The integration tests, as one binary: linking costs more than running.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod agent;
mod cli;
mod demo;
mod server;
mod session;
mod tidy;
mod worker;
