//! One worker of the simulation: its folder and jobs across restarts, and the
//! program that its machine runs, which is the product's agent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use horai::worker::place::Place;
use horai::worker::{Config, agent};
use horai_core::ids::Name;
use horai_core::model::resources::Amounts;
use tokio_util::sync::CancellationToken;

use super::jobs::{Idle, Jobs, SimFolder};
use super::node::{ADMIN, GRPC};
use crate::world::{Exit, SimHost};

/// Attempts of one worker at once.
const SLOTS: u32 = 8;

/// A worker's machine and what lies there.
#[derive(Clone)]
pub(crate) struct Seat {
    pub(crate) name: String,
    pub(crate) host: SimHost,
    pub(crate) folder: SimFolder,
    pub(crate) jobs: Jobs,
    /// Names of the first nodes.
    pub(crate) nodes: Vec<String>,
}

impl Seat {
    /// The process that the machine runs.
    pub(crate) async fn run(self) -> Exit {
        let name = Name::new(&self.name).map_err(|e| e.to_string())?;
        let config = Config {
            name,
            data_dir: "unused".into(),
            nodes: self.nodes.iter().map(|node| format!("http://{node}:{GRPC}")).collect(),
            groups: vec![Name::new("default").map_err(|e| e.to_string())?],
            labels: BTreeMap::new(),
            slots: SLOTS,
            amounts: Amounts::default(),
            token: ADMIN.to_owned(),
            shim_program: None,
            heartbeat: Duration::from_millis(500),
            stop_after: Duration::ZERO,
            disk_reserve: Config::DISK_RESERVE,
            interpreters: horai::worker::interpreters::Interpreters::ready(),
        };
        let place = Place {
            host: Arc::new(self.host.clone()),
            folder: Arc::new(self.folder.clone()),
            jobs: Arc::new(self.jobs.clone()),
            load: Box::new(Idle),
            boot_id: self.host.boot_id(),
            lock: None,
        };
        let ran = agent::run_at(place, config, CancellationToken::new(), || ()).await;
        ran.map_err(|e| format!("worker: {e}"))
    }
}
