//! One worker: its file and its process.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;

use super::{Cluster, Node, token_file};
use crate::env::links::Host;
use crate::env::namespaces::PRIVATE;
use crate::env::processes::Process;
use crate::env::{Error, at};

/// How long a worker may take to stop when it is asked to.
const GENTLE: Duration = Duration::from_secs(20);
/// Milliseconds between its heartbeats.
const HEARTBEAT_MS: u64 = 500;

/// A worker of the cluster.
#[derive(Debug)]
pub(crate) struct Worker {
    /// `w1`
    pub(crate) name: String,
    /// Its place among the machines.
    pub(crate) machine: usize,
    /// On the switch.
    pub(crate) host: Host,
    config: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

impl Worker {
    /// Writes its file; nothing runs yet.
    pub(super) fn prepare(cluster: &Cluster, n: usize) -> Result<Self, Error> {
        let at_machine = cluster.nodes.len() + n;
        let (machine, settings) = (&cluster.env.machines[at_machine], &cluster.settings);
        let config = PathBuf::from(PRIVATE).join(format!("{}.toml", machine.name));
        let nodes: Vec<String> = cluster.nodes.iter().map(Node::grpc).collect();
        let text = format!(
            "[worker]\nname = {:?}\ndata_dir = {:?}\nnodes = {nodes:?}\nslots = {}\n\
             heartbeat_ms = {HEARTBEAT_MS}\ntoken_file = {:?}\n",
            machine.name,
            machine.disk.at().join(super::node::DATA),
            settings.slots,
            token_file(),
        );
        std::fs::write(&config, text).map_err(at(&config.display().to_string()))?;
        Ok(Self {
            name: machine.name.clone(),
            machine: at_machine,
            host: machine.host,
            config,
            log: settings.logs.join(&machine.name).join("log"),
            process: None,
        })
    }

    /// True if it was started and not stopped by us.
    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// How it ended, if it did so by itself.
    pub(crate) fn has_ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.process.as_mut().map_or(Ok(None), Process::ended)
    }

    /// Forgets a process that has ended.
    pub(crate) fn forget(&mut self) {
        self.process = None;
    }

    /// kill -9 of the worker alone: its shims and jobs go on.
    pub(crate) fn kill(&mut self) -> Result<(), Error> {
        self.process.take().map_or(Ok(()), |mut process| process.kill())
    }

    /// Asks it to stop, and kills it if it does not.
    pub(super) fn terminate(&mut self) -> Result<(), Error> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.signal(Signal::TERM)?;
        match process.wait(GENTLE)? {
            Some(_) => Ok(()),
            None => process.kill(),
        }
    }
}

impl Cluster {
    /// Starts a worker.
    pub(crate) fn start_worker(&mut self, n: usize) -> Result<(), Error> {
        let worker = &self.workers[n];
        if worker.is_up() {
            return Ok(());
        }
        let config = worker.config.display().to_string();
        let process = Process::start(
            &self.env.machines[worker.machine],
            &self.settings.horai,
            &["worker", "--config", &config],
            &worker.log,
            self.settings.clocks,
        )?;
        self.workers[n].process = Some(process);
        Ok(())
    }
}
