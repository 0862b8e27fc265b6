//! The worker: runs attempts for whoever leads the cluster.
//!
//! It decides nothing about jobs: the replicated state does. Its duties are to
//! start an attempt at most once per token, to end it when its lease ends even
//! if the worker itself is gone (the shim does that), to keep every result until the
//! leader says that it is committed, and every output until a majority of nodes has it. What it takes from its machine is
//! in [`place`]: clocks and connections, its small files, and what jobs run as.

pub mod agent;
mod attach;
pub(crate) mod attempts;
mod bring;
pub mod cgroup;
pub mod clock;
pub mod ending;
mod executor;
mod failure;
pub mod fence;
pub mod folder;
mod hello;
mod home;
pub(crate) mod http;
mod intake;
pub mod interpreters;
pub mod jobs;
pub mod journal;
mod kills;
mod links;
pub mod load;
pub mod mask;
pub mod output;
pub mod place;
mod retention;
pub mod shim;
mod shims;
mod sight;
mod uplink;
pub mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use horai_core::ids::Name;
use horai_core::model::resources::Amounts;

use interpreters::Interpreters;

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
    /// What attempts may reserve beside slots.
    pub amounts: Amounts,
    /// Bearer token of the cluster.
    pub token: String,
    /// Program whose `shim` verb runs attempts; none means this program.
    pub shim_program: Option<PathBuf>,
    /// Between two heartbeats; 2 s unless tests say otherwise.
    pub heartbeat: Duration,
    /// When it is told to stop: how long what runs there has to end. Zero: it stops at once,
    /// and its jobs go on.
    pub stop_after: Duration,
    /// Bytes of the disk of its folder that stay free: with less it takes nothing new. Of a
    /// small disk a tenth.
    pub disk_reserve: u64,
    /// What it gives scripts to that name an interpreter.
    pub interpreters: Interpreters,
}

/// Memory in bytes and CPU in thousandths of a core that this machine, or the group of
/// processes that it is confined to, has; 0 where the system does not say.
#[must_use]
pub fn machine() -> (u64, u32) {
    let memory = sysinfo::System::new().ok().map_or(0, |mut system| {
        system.refresh_memory();
        let limit = system.cgroup_limits().map_or(u64::MAX, |limits| limits.total_memory);
        system.total_memory().min(limit)
    });
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    (memory, u32::try_from(cores).unwrap_or(u32::MAX).saturating_mul(1_000))
}

impl Config {
    /// What usually stays free of the disk, in bytes.
    pub const DISK_RESERVE: u64 = 64 << 20;
    /// The usual time between heartbeats.
    pub const HEARTBEAT: Duration = Duration::from_secs(2);
}
