//! Configuration of a node and of a worker: what may be set, in which unit and
//! range, with which default.
//!
//! Read and checked as a whole before any port is bound or file is made. It
//! holds only what this process needs to start; what the cluster must agree on
//! is replicated and set by commands.

mod amount;
mod interpreter;
mod load;
mod token;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use horai_core::ids::Name;
use horai_core::model::resources::{Amounts, Bytes, Cores};
use horai_core::model::worker::WorkerProfile;
use serde::Deserialize;

pub use amount::Amount;
pub use interpreter::{HandleSection, InterpreterSection};
pub use load::{ConfigError, environment, load};
pub use token::{Token, TokenError, make_token, read_token};

use load::Problem;

/// One node's file: `config/node.toml` shows every setting.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Where it keeps data and listens.
    pub node: NodeSection,
    /// Timing of elections.
    #[serde(default)]
    pub raft: RaftSection,
    /// Keys of secrets.
    #[serde(default)]
    pub secrets: SecretsSection,
    /// What is kept of the output of jobs.
    #[serde(default)]
    pub logs: LogsSection,
    /// What it logs.
    #[serde(default)]
    pub log: LogSection,
}

/// Where a node keeps data and listens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSection {
    /// Folder of this node alone; made if it is missing.
    pub data_dir: PathBuf,
    /// HTTP API and console; default 127.0.0.1:7600.
    #[serde(default = "default_http")]
    pub http: SocketAddr,
    /// Workers attach here; default 127.0.0.1:7601.
    #[serde(default = "default_grpc")]
    pub grpc: SocketAddr,
    /// Other nodes talk here; default 127.0.0.1:7602.
    #[serde(default = "default_raft")]
    pub raft: SocketAddr,
    /// `host:port` at which others reach `http`; needed if that is 0.0.0.0 or `[::]`.
    pub advertise_http: Option<String>,
    /// The same for `grpc`.
    pub advertise_grpc: Option<String>,
    /// The same for `raft`.
    pub advertise_raft: Option<String>,
    /// File that holds the bearer token, readable by its owner alone.
    pub token_file: PathBuf,
    /// A worker whose clock is further from cluster time, in milliseconds, is refused; 0: none
    /// is; default 30,000.
    #[serde(default = "default_worker_clock_ms")]
    pub worker_clock_ms: u64,
}

/// Timing of elections, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RaftSection {
    /// Between heartbeats of a leader, 10 to 1,000; default 50.
    pub heartbeat_ms: u64,
    /// Shortest wait before an election, at least three heartbeats; default 200.
    pub election_min_ms: u64,
    /// Longest wait before an election, more than the shortest, at most 10,000; default 400.
    pub election_max_ms: u64,
}

impl Default for RaftSection {
    fn default() -> Self {
        Self { heartbeat_ms: 50, election_min_ms: 200, election_max_ms: 400 }
    }
}

/// Keys of the secrets that jobs use.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecretsSection {
    /// File that holds the keys, a line each, the first for encrypting; readable by its
    /// owner alone, and the same on every node. None: secrets are refused.
    pub key_file: Option<PathBuf>,
}

/// What a node keeps of the output of jobs, in its `data_dir`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogsSection {
    /// MiB on the disk, 128 to 16,777,216; default 4,096. Beyond it the logs of the oldest
    /// runs that are over are dropped.
    pub max_mib: u64,
    /// Days after a run's end, 1 to 3,650; default 30.
    pub max_age_days: u64,
}

impl Default for LogsSection {
    fn default() -> Self {
        Self { max_mib: 4_096, max_age_days: 30 }
    }
}

/// What a process logs, on standard error.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSection {
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`, for parts of the program
    /// also as in `info,horai::session=debug`; default `info`.
    pub level: String,
    /// Default `text`.
    pub format: LogFormat,
}

impl Default for LogSection {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// One worker's file: `config/worker.toml` shows every setting.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerConfig {
    /// Who it is, what it serves, whom it attaches to.
    pub worker: WorkerSection,
    /// What it gives scripts to, by the names that jobs use.
    #[serde(default)]
    pub interpreters: BTreeMap<Name, InterpreterSection>,
    /// What it logs.
    #[serde(default)]
    pub log: LogSection,
}

/// Who a worker is, what it serves, whom it attaches to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerSection {
    /// Unique in the cluster.
    pub name: Name,
    /// Folder of this worker alone: journal and output of attempts.
    pub data_dir: PathBuf,
    /// gRPC addresses of all nodes, as `host:port`; at least one.
    pub nodes: Vec<String>,
    /// Groups it serves; default `["default"]`.
    #[serde(default = "default_groups")]
    pub groups: Vec<Name>,
    /// Free facts about it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Attempts it runs at once, 1 to 10,000; default 16.
    #[serde(default = "default_slots")]
    pub slots: u32,
    /// Memory that attempts may reserve, such as `64GiB`; default what the machine has.
    #[serde(default, deserialize_with = "amount::read")]
    pub memory: Option<Amount<Bytes>>,
    /// Cores that attempts may reserve, such as `7.5`; default what the machine has.
    #[serde(default, deserialize_with = "amount::read")]
    pub cpu: Option<Amount<Cores>>,
    /// Anything else that they may, by name and how many there are: `{gpu = 2}`.
    #[serde(default)]
    pub counts: BTreeMap<Name, u32>,
    /// File that holds the bearer token.
    pub token_file: PathBuf,
    /// Milliseconds between heartbeats, 100 to 10,000; default 2,000.
    #[serde(default = "default_heartbeat_ms")]
    pub heartbeat_ms: u64,
    /// When it is told to stop: milliseconds that what runs there has to end, up to
    /// 604,800,000; 0: it stops at once, and its jobs go on; default 30,000.
    #[serde(default = "default_stop_after_ms")]
    pub stop_after_ms: u64,
    /// MiB of the disk of its folder that stay free, and of a small disk a tenth: with less
    /// it takes nothing new; up to 1,048,576; default 64.
    #[serde(default = "default_disk_reserve_mib")]
    pub disk_reserve_mib: u64,
}

fn default_http() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7600))
}

fn default_grpc() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7601))
}

fn default_raft() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7602))
}

fn default_groups() -> Vec<Name> {
    vec![horai_core::model::job::default_group()]
}

fn default_slots() -> u32 {
    16
}

fn default_worker_clock_ms() -> u64 {
    30_000
}

fn default_disk_reserve_mib() -> u64 {
    64
}

fn default_stop_after_ms() -> u64 {
    30_000
}

fn default_heartbeat_ms() -> u64 {
    2_000
}

/// Rules that one field alone cannot state.
pub trait Check {
    /// # Errors
    /// The first field that cannot be taken as it is.
    fn check(&self) -> Result<(), Problem>;
}

impl Check for NodeConfig {
    fn check(&self) -> Result<(), Problem> {
        let RaftSection { heartbeat_ms, election_min_ms, election_max_ms } = self.raft;
        if !(10..=1_000).contains(&heartbeat_ms) {
            return Err(Problem::new("raft.heartbeat_ms", heartbeat_ms, "write 10 to 1000"));
        }
        if election_min_ms < 3 * heartbeat_ms {
            let remedy = format!("write at least three heartbeats, {}", 3 * heartbeat_ms);
            return Err(Problem::new("raft.election_min_ms", election_min_ms, remedy));
        }
        if election_max_ms <= election_min_ms || election_max_ms > 10_000 {
            let remedy =
                format!("write more than election_min_ms ({election_min_ms}), at most 10000");
            return Err(Problem::new("raft.election_max_ms", election_max_ms, remedy));
        }
        let LogsSection { max_mib, max_age_days } = self.logs;
        if !(128..=16 << 20).contains(&max_mib) {
            return Err(Problem::new("logs.max_mib", max_mib, "write 128 to 16777216"));
        }
        if !(1..=3_650).contains(&max_age_days) {
            return Err(Problem::new("logs.max_age_days", max_age_days, "write 1 to 3650"));
        }
        let NodeSection { http, grpc, raft, .. } = &self.node;
        for (field, here, other) in
            [("node.grpc", grpc, http), ("node.raft", raft, grpc), ("node.raft", raft, http)]
        {
            // Port 0 asks the system for a free one, each time another.
            if here == other && here.port() != 0 {
                return Err(Problem::new(field, here, "give each service a port of its own"));
            }
        }
        let NodeSection { advertise_http, advertise_grpc, advertise_raft, .. } = &self.node;
        for (service, listen, advertised) in [
            ("http", http, advertise_http),
            ("grpc", grpc, advertise_grpc),
            ("raft", raft, advertise_raft),
        ] {
            match advertised {
                None if listen.ip().is_unspecified() => {
                    let remedy = format!(
                        "others cannot reach it there: set advertise_{service} to this \
                         machine's host:port, or listen on one of its addresses"
                    );
                    return Err(Problem::new(&format!("node.{service}"), listen, remedy));
                }
                Some(text) if !is_host_and_port(text) || text.ends_with(":0") => {
                    let field = format!("node.advertise_{service}");
                    return Err(Problem::new(&field, text, "write it as host:port"));
                }
                None | Some(_) => {}
            }
        }
        self.log.check()
    }
}

impl Check for LogSection {
    fn check(&self) -> Result<(), Problem> {
        // Without a level a part's name would mean "all of it", and so would a typing error.
        let is_level = |part: &str| {
            let level = part.rsplit('=').next().unwrap_or_default().trim();
            ["off", "error", "warn", "info", "debug", "trace"].contains(&level)
        };
        let parses = self.level.parse::<tracing_subscriber::filter::Targets>().is_ok();
        if parses && self.level.split(',').all(is_level) {
            return Ok(());
        }
        let remedy = "write off, error, warn, info, debug or trace, for parts part=level";
        Err(Problem::new("log.level", &self.level, remedy))
    }
}

impl Check for WorkerConfig {
    fn check(&self) -> Result<(), Problem> {
        let worker = &self.worker;
        if worker.nodes.is_empty() {
            return Err(Problem::new("worker.nodes", "[]", "list the gRPC address of every node"));
        }
        if let Some(node) = worker.nodes.iter().find(|node| !is_host_and_port(node)) {
            return Err(Problem::new("worker.nodes", node, "write it as host:port"));
        }
        if worker.groups.is_empty() {
            return Err(Problem::new(
                "worker.groups",
                "[]",
                "list at least one group, or leave it out",
            ));
        }
        if !(1..=10_000).contains(&worker.slots) {
            return Err(Problem::new("worker.slots", worker.slots, "write 1 to 10000"));
        }
        let amounts = Amounts {
            memory: worker.memory.map_or(0, |Amount(memory)| memory.0),
            cpu: worker.cpu.map_or(0, |Amount(cpu)| cpu.0),
            counts: worker.counts.clone(),
        };
        if let Some((field, right)) = amounts.problem() {
            let is_counted = !["memory", "cpu", "counts"].contains(&field.as_str());
            let field =
                if is_counted { "worker.counts".to_owned() } else { format!("worker.{field}") };
            return Err(Problem::new(&field, "too much or 0", format!("write {right}")));
        }
        let longest = WorkerProfile::MAX_STOP.0;
        if worker.stop_after_ms > longest {
            let remedy = format!("write at most {longest}");
            return Err(Problem::new("worker.stop_after_ms", worker.stop_after_ms, remedy));
        }
        if worker.disk_reserve_mib > 1 << 20 {
            let remedy = "write at most 1048576, which is 1 TiB";
            return Err(Problem::new("worker.disk_reserve_mib", worker.disk_reserve_mib, remedy));
        }
        if !(100..=10_000).contains(&worker.heartbeat_ms) {
            let remedy = "write 100 to 10000";
            return Err(Problem::new("worker.heartbeat_ms", worker.heartbeat_ms, remedy));
        }
        interpreter::check(&self.interpreters)?;
        self.log.check()
    }
}

fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}
