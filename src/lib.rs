//! Horai: a self-hosted, highly available job scheduler.

pub mod worker;
