//! Settings that hold for the whole cluster, replicated so that every node
//! decides alike.

use serde::{Deserialize, Serialize};

use crate::time::Span;

/// Given once by `cluster init`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSettings {
    /// Random id of this cluster, never changed.
    pub uuid: u128,
    /// Zone of jobs that name none; an IANA name.
    pub default_zone: String,
    /// Waited beyond a worker's lease before its attempts are given up:
    /// covers a late shim and clocks that run up to 1 % apart. Default 10 s.
    pub lease_margin: Span,
    /// An instant planned later than this after it was due is a misfire. Default 60 s.
    pub misfire_after: Span,
}

impl ClusterSettings {
    /// The settings of a cluster that asked for nothing special.
    #[must_use]
    pub fn new(uuid: u128) -> Self {
        Self {
            uuid,
            default_zone: "UTC".to_owned(),
            lease_margin: Span::secs(10),
            misfire_after: Span::secs(60),
        }
    }
}
