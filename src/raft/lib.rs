//! Replication: openraft over sled.
