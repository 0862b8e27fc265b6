//! One node: its file, its process, and where it is.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;

use super::{Cluster, GRPC, HTTP, RAFT, endpoint, token_file};
use crate::env::links::Host;
use crate::env::namespaces::PRIVATE;
use crate::env::processes::Process;
use crate::env::{Error, at};

/// How long a node may take to stop when it is asked to.
const GENTLE: Duration = Duration::from_secs(20);
/// Below the machine's disk.
pub(crate) const DATA: &str = "data";

/// A node of the cluster.
#[derive(Debug)]
pub(crate) struct Node {
    /// `n1`
    pub(crate) name: String,
    /// Its number in the cluster; another one after a replacement.
    pub(crate) number: u64,
    /// Its place among the machines.
    pub(crate) machine: usize,
    /// On the switch.
    pub(crate) host: Host,
    pub(crate) config: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

impl Node {
    /// Writes its file; nothing runs yet.
    pub(super) fn prepare(cluster: &Cluster, n: usize) -> Result<Self, Error> {
        let (machine, settings) = (&cluster.env.machines[n], &cluster.settings);
        let config = PathBuf::from(PRIVATE).join(format!("{}.toml", machine.name));
        let text = format!(
            "[node]\ndata_dir = {:?}\nhttp = {:?}\ngrpc = {:?}\nraft = {:?}\ntoken_file = {:?}\n\n\
             [raft]\nheartbeat_ms = {}\nelection_min_ms = {}\nelection_max_ms = {}\n",
            machine.disk.at().join(DATA),
            endpoint(machine.host, HTTP),
            endpoint(machine.host, GRPC),
            endpoint(machine.host, RAFT),
            token_file(),
            settings.heartbeat_ms,
            settings.election_ms.0,
            settings.election_ms.1,
        );
        std::fs::write(&config, text).map_err(at(&config.display().to_string()))?;
        Ok(Self {
            name: machine.name.clone(),
            number: 0,
            machine: n,
            host: machine.host,
            config,
            log: settings.logs.join(&machine.name).join("log"),
            process: None,
        })
    }

    /// Where its API is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", endpoint(self.host, HTTP))
    }

    pub(super) fn raft(&self) -> String {
        endpoint(self.host, RAFT)
    }

    pub(super) fn grpc(&self) -> String {
        endpoint(self.host, GRPC)
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

    /// Sends its process a signal, if it has one.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<(), Error> {
        self.process.as_mut().map_or(Ok(()), |process| process.signal(signal))
    }

    /// kill -9, and gone when this returns.
    pub(crate) fn kill(&mut self) -> Result<(), Error> {
        self.process.take().map_or(Ok(()), |mut process| process.kill())
    }

    /// Asks it to stop, and kills it if it does not.
    pub(crate) fn terminate(&mut self) -> Result<(), Error> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.signal(Signal::TERM)?;
        match process.wait(GENTLE)? {
            Some(_) => Ok(()),
            None => process.kill(),
        }
    }

    /// Waits until it has ended by itself; none if it has not in time.
    pub(crate) fn wait(&mut self, patience: Duration) -> Result<Option<ExitStatus>, Error> {
        self.process.as_mut().map_or(Ok(None), |process| process.wait(patience))
    }
}

impl Cluster {
    /// Starts a node that is in the cluster.
    pub(crate) fn start_node(&mut self, n: usize) -> Result<(), Error> {
        let node = &self.nodes[n];
        if node.is_up() {
            return Ok(());
        }
        let config = node.config.display().to_string();
        let process = Process::start(
            &self.env.machines[node.machine],
            &self.settings.horai,
            &["node", "--config", &config],
            &node.log,
            self.settings.clocks,
        )?;
        self.nodes[n].process = Some(process);
        Ok(())
    }
}
