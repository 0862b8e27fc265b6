//! The integration tests, as one binary: linking costs more than running.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod agent;
mod areas;
mod backfill;
mod broadcast;
mod cli;
mod cluster;
mod demo;
mod durability;
mod executors;
mod failover;
mod files;
mod fuzz;
mod fuzz_inputs;
mod logs;
mod membership;
mod outputs;
mod placement;
mod pools;
mod processes;
mod recovery;
mod refusals;
mod secrets;
mod server;
mod session;
mod storage;
mod surface;
mod templates;
mod tidy;
mod time;
mod worker;
mod worker_loss;
