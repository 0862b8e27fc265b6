//! A cluster on the machines of the environment: founded, joined, started and
//! stopped with the product's own commands, as an operator does it.
//!
//! Nodes are machines `n1…`, workers `w1…`. What is running, what should be, and
//! which number a node has in the cluster is known here; what is broken is not.

mod server;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::env::links::Host;
use crate::env::namespaces::PRIVATE;
use crate::env::network::address;
use crate::env::processes::{Process, bounded, how, said};
use crate::env::{Env, Error, Plan, at};

pub(crate) use server::{DATA, Server};

/// Host of the first worker; nodes begin at 1.
const FIRST_WORKER: Host = 101;
pub(crate) const HTTP: u16 = 7600;
const GRPC: u16 = 7601;
const RAFT: u16 = 7602;
/// How long founding and joining may take.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long one request of ours may take.
const REQUEST: Duration = Duration::from_secs(2);

/// How to build a cluster.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The program under test.
    pub(crate) horai: PathBuf,
    /// How many nodes.
    pub(crate) nodes: u8,
    /// How many workers.
    pub(crate) workers: u8,
    /// Attempts that each worker runs at once.
    pub(crate) slots: u32,
    /// Milliseconds between heartbeats of a leader.
    pub(crate) heartbeat_ms: u64,
    /// Shortest and longest wait before an election, in milliseconds.
    pub(crate) election_ms: (u64, u64),
    /// Milliseconds after which an instant that was not planned is a misfire.
    pub(crate) misfire_ms: u64,
    /// Size of each disk.
    pub(crate) disk_mib: u64,
    /// On which file system the bytes of the disks are.
    pub(crate) disk_folder: PathBuf,
    /// Whether the nodes' disks have caches that a power cut tears.
    pub(crate) tearing: bool,
    /// Whether clocks can be set: programs then ask them at a price.
    pub(crate) clocks: bool,
    /// For what the network draws.
    pub(crate) seed: u64,
    /// Logs of all processes go below this.
    pub(crate) logs: PathBuf,
}

/// The cluster, and the environment it runs in.
pub(crate) struct Cluster {
    pub(crate) env: Env,
    pub(crate) nodes: Vec<Server>,
    pub(crate) workers: Vec<Server>,
    /// The admin token.
    pub(crate) token: String,
    pub(crate) settings: Settings,
    http: reqwest::Client,
    runtime: tokio::runtime::Handle,
}

impl Cluster {
    /// Builds the environment, founds a cluster in it and attaches workers.
    pub(crate) fn found(
        settings: Settings,
        runtime: tokio::runtime::Handle,
    ) -> Result<Self, Error> {
        let nodes = (1..=settings.nodes).map(|n| (format!("n{n}"), n));
        let workers = (1..=settings.workers).map(|n| (format!("w{n}"), FIRST_WORKER + n - 1));
        let tearing: Vec<Host> = (1..=settings.nodes).filter(|_| settings.tearing).collect();
        let plan = Plan {
            machines: nodes.chain(workers).collect(),
            tearing: &tearing,
            disk_mib: settings.disk_mib,
            disk_folder: &settings.disk_folder,
            seed: settings.seed,
        };
        let env = Env::build(&plan)?;
        let http = reqwest::Client::builder().timeout(REQUEST).no_proxy().build();
        let http = http.map_err(|e| Error::Misuse(format!("no HTTP client: {e}")))?;
        let mut cluster = Self {
            env,
            nodes: Vec::new(),
            workers: Vec::new(),
            token: String::new(),
            settings,
            http,
            runtime,
        };
        for machine in 0..cluster.env.machines.len() {
            let folder = cluster.settings.logs.join(&cluster.env.machines[machine].name);
            std::fs::create_dir_all(&folder).map_err(at(&folder.display().to_string()))?;
        }
        cluster.start_nodes()?;
        cluster.start_workers()?;
        Ok(cluster)
    }

    fn start_nodes(&mut self) -> Result<(), Error> {
        for n in 0..usize::from(self.settings.nodes) {
            let node = Server::node(self, n)?;
            self.nodes.push(node);
            if n == 0 {
                let config = self.nodes[0].config.display().to_string();
                let misfire = format!("{}ms", self.settings.misfire_ms);
                let arguments = ["cluster", "init", "--config", &config];
                self.run_on(0, &[&arguments[..], &["--misfire-after", &misfire]].concat())?;
                let file = token_file();
                let token = std::fs::read_to_string(&file);
                self.token = token.map_err(at(&file.display().to_string()))?.trim().to_owned();
                self.start_node(0)?;
                self.until("a leader", |c| Ok(c.status(0).is_some_and(|s| leads(&s))))?;
            } else {
                self.enter(n, None)?;
                self.start_node(n)?;
            }
            self.learn_number(n)?;
        }
        let count = self.nodes.len();
        self.until(&format!("{count} voters"), |cluster| Ok(cluster.voters() == Some(count)))
    }

    fn start_workers(&mut self) -> Result<(), Error> {
        for n in 0..usize::from(self.settings.workers) {
            let worker = Server::worker(self, n)?;
            self.workers.push(worker);
            self.start_worker(n)?;
        }
        let count = self.workers.len();
        self.until(&format!("{count} workers"), |c| Ok(c.connected_workers() == Some(count)))
    }

    /// Starts a node that is in the cluster, unless it is up.
    pub(crate) fn start_node(&mut self, n: usize) -> Result<(), Error> {
        self.nodes[n].start(&self.env, &self.settings)
    }

    /// Starts a worker, unless it is up.
    pub(crate) fn start_worker(&mut self, n: usize) -> Result<(), Error> {
        self.workers[n].start(&self.env, &self.settings)
    }

    /// Waits for something, while all processes must live.
    pub(crate) fn until(
        &mut self,
        what: &str,
        mut is: impl FnMut(&mut Self) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let end = Instant::now() + PATIENCE;
        while !is(self)? {
            let mut dead = String::new();
            for node in &mut self.nodes {
                if let Some(status) = node.has_ended()? {
                    dead = format!("; {} ended: {}", node.name, how(status));
                }
            }
            if Instant::now() > end || !dead.is_empty() {
                return Err(Error::Misuse(format!("waited in vain for {what}{dead}")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Lets a node into the cluster, in the place of a lost one if that is named.
    pub(crate) fn enter(&mut self, n: usize, lost: Option<u64>) -> Result<(), Error> {
        let config = self.nodes[n].config.display().to_string();
        let number = lost.map(|number| number.to_string());
        let token = self.token.clone();
        let mut arguments = vec!["cluster", if lost.is_some() { "replace" } else { "join" }];
        arguments.extend(number.as_deref());
        arguments.extend(["--config", &config, "--token", &token]);
        let seeds: Vec<String> = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(other, node)| *other != n && node.is_up())
            .map(|(_, node)| node.raft())
            .collect();
        for seed in &seeds {
            arguments.extend(["--to", seed]);
        }
        self.run_on(n, &arguments)
    }

    /// Runs a command of the program on a node's machine.
    fn run_on(&self, machine: usize, arguments: &[&str]) -> Result<(), Error> {
        let machine = &self.env.machines[machine];
        let out = Process::run(machine, &self.settings.horai, arguments, self.settings.clocks)?;
        let shown: Vec<&str> = arguments.iter().copied().filter(|a| *a != self.token).collect();
        if out.status.success() { Ok(()) } else { Err(failed(&shown, &out)) }
    }

    /// Runs a command of the program as an operator does, from the harness.
    pub(crate) fn operate(&self, arguments: &[&str]) -> Result<String, Error> {
        let urls: Vec<String> = self.nodes.iter().filter(|n| n.is_up()).map(Server::url).collect();
        self.operate_at(&urls.join(","), arguments)
    }

    fn operate_at(&self, urls: &str, arguments: &[&str]) -> Result<String, Error> {
        let mut command = bounded(&self.settings.horai, PATIENCE);
        command.args(arguments).env("HORAI_URL", urls).env("HORAI_TOKEN", &self.token);
        let out = said(command, &format!("horai {}", arguments.join(" ")))?;
        if out.status.success() {
            Ok(String::from_utf8_lossy(&out.stdout).into_owned())
        } else {
            Err(failed(arguments, &out))
        }
    }

    /// Runs a command as an operator does who asks this one node.
    pub(crate) fn operate_on(&self, n: usize, arguments: &[&str]) -> Result<String, Error> {
        self.operate_at(&self.nodes[n].url(), arguments)
    }

    /// What a node says of itself and the cluster; none if it says nothing in time.
    pub(crate) fn status(&self, n: usize) -> Option<Value> {
        self.ask(&format!("{}/api/v1/cluster?consistency=stale", self.nodes[n].url()))
    }

    fn ask(&self, url: &str) -> Option<Value> {
        let request = self.http.get(url).bearer_auth(&self.token);
        self.runtime.block_on(async {
            let answer = request.send().await.ok()?.error_for_status().ok()?;
            answer.json().await.ok()
        })
    }

    /// The place of the node that says it leads, in the largest term.
    pub(crate) fn leader(&self) -> Option<usize> {
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        self.leader_among(&all)
    }

    /// The same among some: one that is frozen would keep us waiting.
    pub(crate) fn leader_among(&self, nodes: &[usize]) -> Option<usize> {
        let said = nodes.iter().copied().filter(|n| self.nodes[*n].is_up());
        let said = said.filter_map(|n| Some((n, self.status(n)?)));
        let leaders = said.filter(|(_, status)| leads(status));
        leaders.max_by_key(|(_, status)| status["leader"]["term"].as_u64()).map(|(n, _)| n)
    }

    /// How many nodes vote, if all that are members do.
    pub(crate) fn voters(&self) -> Option<usize> {
        let status = self.status(self.leader()?)?;
        let members = status["members"].as_array()?;
        members.iter().all(|m| m["voter"] == true).then_some(members.len())
    }

    /// How many outputs some voter lacks something of, as the leader knows.
    pub(crate) fn logs_behind(&self) -> Option<u64> {
        let url = self.nodes[self.leader()?].url();
        self.ask(&format!("{url}/api/v1/cluster/logs"))?["behind"].as_u64()
    }

    /// How many workers the cluster sees.
    pub(crate) fn connected_workers(&self) -> Option<usize> {
        let up = self.nodes.iter().find(|node| node.is_up())?;
        let said = self.ask(&format!("{}/api/v1/workers", up.url()))?;
        let items = said["items"].as_array()?;
        Some(items.iter().filter(|worker| worker["connected"] == true).count())
    }

    /// Asks a node for its number in the cluster; it has just entered.
    pub(crate) fn learn_number(&mut self, n: usize) -> Result<(), Error> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(number) = self.status(n).and_then(|status| status["node"].as_u64()) {
                self.nodes[n].number = number;
                return Ok(());
            }
            if Instant::now() > end || self.nodes[n].has_ended()?.is_some() {
                let name = &self.nodes[n].name;
                return Err(Error::Misuse(format!("{name} does not tell its number")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops everything gently, workers first, so that logs are whole.
    pub(crate) fn stop(&mut self) -> Result<(), Error> {
        for server in self.workers.iter_mut().chain(&mut self.nodes) {
            server.terminate()?;
        }
        for machine in &self.env.machines {
            machine.kill()?;
        }
        Ok(())
    }
}

fn failed(arguments: &[&str], out: &std::process::Output) -> Error {
    let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
    let command = format!("horai {}", arguments.join(" "));
    Error::Failed { command, how: how(out.status), said }
}

fn leads(status: &Value) -> bool {
    status["node"].is_u64() && status["leader"]["node"] == status["node"]
}

/// The admin token: each real machine would have its copy.
fn token_file() -> PathBuf {
    Path::new(PRIVATE).join("token")
}

fn endpoint(host: Host, port: u16) -> String {
    format!("{}:{port}", address(host))
}
