//! The worker: runs attempts for whoever leads the cluster.
//!
//! It decides nothing about jobs: the replicated state does. Its duties are to
//! start an attempt at most once per token, to end it when its lease ends even
//! if the worker itself is gone (the shim does that), and to keep every result
//! until the leader says that it is committed. What it takes from its machine is
//! in [`place`]: clocks and connections, its small files, and what jobs run as.

pub mod agent;
mod attach;
pub(crate) mod attempts;
pub mod cgroup;
pub mod clock;
pub mod ending;
mod executor;
pub mod fence;
pub mod folder;
mod hello;
pub mod jobs;
pub mod journal;
mod links;
pub mod load;
pub mod mask;
pub mod output;
pub mod place;
mod retention;
pub mod shim;
mod shims;
pub mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use horai_core::ids::Name;

/// What a worker is told at its start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Unique in the cluster.
    pub name: Name,
    /// Its own folder: journal, fence, attempts.
    pub data_dir: PathBuf,
    /// gRPC addresses of all nodes, such as `http://10.0.0.1:7601`.
    pub nodes: Vec<String>,
    /// Worker groups it serves, at least one.
    pub groups: Vec<Name>,
    /// Free facts about it.
    pub labels: BTreeMap<String, String>,
    /// Attempts it runs at once.
    pub slots: u32,
    /// Bearer token of the cluster.
    pub token: String,
    /// Program whose `shim` verb runs attempts; none means this program.
    pub shim_program: Option<PathBuf>,
    /// Between two heartbeats; 2 s unless tests say otherwise.
    pub heartbeat: Duration,
}

impl Config {
    /// The usual time between heartbeats.
    pub const HEARTBEAT: Duration = Duration::from_secs(2);
}
