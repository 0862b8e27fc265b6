//! Replication: openraft over sled.

pub mod cluster_clock;
