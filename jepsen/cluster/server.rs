//! One server of the cluster, a node or a worker: its file, its process, and where
//! it is.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;

use super::{Cluster, GRPC, HTTP, RAFT, Settings, endpoint, token_file};
use crate::env::links::Host;
use crate::env::namespaces::PRIVATE;
use crate::env::processes::Process;
use crate::env::{Env, Error, at};

/// How long a server may take to stop when it is asked to.
const GENTLE: Duration = Duration::from_secs(20);
/// Milliseconds between a worker's heartbeats.
const HEARTBEAT_MS: u64 = 500;
/// What workers log: also how far their output is safe, which the judge reads.
const LEVEL: &str = "info,horai::worker::uplink=debug";
/// Lines of a log that are its last words.
const LAST_WORDS: usize = 5;
/// Below the machine's disk.
pub(crate) const DATA: &str = "data";

/// A node or a worker.
#[derive(Debug)]
pub(crate) struct Server {
    /// What the program runs as: `node` or `worker`.
    verb: &'static str,
    /// `n1` or `w1`
    pub(crate) name: String,
    /// A node's number in the cluster, another one after a replacement; 0 for a node
    /// that has not entered, and for a worker.
    pub(crate) number: u64,
    /// Its place among the machines.
    pub(crate) machine: usize,
    /// On the switch.
    pub(crate) host: Host,
    pub(super) config: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

impl Server {
    /// Node `n`, from 0. Writes its file; nothing runs yet.
    pub(super) fn node(cluster: &Cluster, n: usize) -> Result<Self, Error> {
        let (machine, settings) = (&cluster.env.machines[n], &cluster.settings);
        let text = format!(
            "[node]\ndata_dir = {:?}\nhttp = {:?}\ngrpc = {:?}\nraft = {:?}\ntoken_file = {:?}\n\
             worker_clock_ms = 0\n\n[raft]\nheartbeat_ms = {}\nelection_min_ms = {}\nelection_max_ms = {}\n",
            machine.disk.at().join(DATA),
            endpoint(machine.host, HTTP),
            endpoint(machine.host, GRPC),
            endpoint(machine.host, RAFT),
            token_file(),
            settings.heartbeat_ms,
            settings.election_ms.0,
            settings.election_ms.1,
        );
        Self::prepare(cluster, "node", n, &text)
    }

    /// Worker `n`, from 0; all nodes must be known. Writes its file; nothing runs yet.
    pub(super) fn worker(cluster: &Cluster, n: usize) -> Result<Self, Error> {
        let place = cluster.nodes.len() + n;
        let machine = &cluster.env.machines[place];
        let nodes: Vec<String> =
            cluster.nodes.iter().map(|node| endpoint(node.host, GRPC)).collect();
        let text = format!(
            "[worker]\nname = {:?}\ndata_dir = {:?}\nnodes = {nodes:?}\nslots = {}\n\
             heartbeat_ms = {HEARTBEAT_MS}\nstop_after_ms = 0\ntoken_file = {:?}\n\n\
             [log]\nlevel = {LEVEL:?}\n",
            machine.name,
            machine.disk.at().join(DATA),
            cluster.settings.slots,
            token_file(),
        );
        Self::prepare(cluster, "worker", place, &text)
    }

    fn prepare(
        cluster: &Cluster,
        verb: &'static str,
        place: usize,
        text: &str,
    ) -> Result<Self, Error> {
        let machine = &cluster.env.machines[place];
        let config = PathBuf::from(PRIVATE).join(format!("{}.toml", machine.name));
        std::fs::write(&config, text).map_err(at(&config.display().to_string()))?;
        Ok(Self {
            verb,
            name: machine.name.clone(),
            number: 0,
            machine: place,
            host: machine.host,
            config,
            log: cluster.settings.logs.join(&machine.name).join("log"),
            process: None,
        })
    }

    /// Where a node's API is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", endpoint(self.host, HTTP))
    }

    /// Where nodes speak to a node.
    pub(super) fn raft(&self) -> String {
        endpoint(self.host, RAFT)
    }

    /// Starts it, unless it is up.
    pub(super) fn start(&mut self, env: &Env, settings: &Settings) -> Result<(), Error> {
        if self.is_up() {
            return Ok(());
        }
        let config = self.config.display().to_string();
        self.process = Some(Process::start(
            &env.machines[self.machine],
            &settings.horai,
            &[self.verb, "--config", &config],
            &self.log,
            settings.clocks,
        )?);
        Ok(())
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

    /// Stops its process or lets it go on, and sees that it is so; those that it started are
    /// not touched.
    pub(crate) fn halt(&mut self, stopped: bool) -> Result<(), Error> {
        self.process.as_mut().map_or(Ok(()), |process| process.halt(stopped))
    }

    /// kill -9, and gone when this returns. Of a worker its shims and jobs go on.
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

    /// The end of its log, on one line.
    pub(crate) fn last_words(&self) -> String {
        let bytes = match std::fs::read(&self.log) {
            Ok(bytes) => bytes,
            Err(error) => return format!("{} cannot be read: {error}", self.log.display()),
        };
        let text = String::from_utf8_lossy(&bytes);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(LAST_WORDS)..].join(" | ")
    }
}
