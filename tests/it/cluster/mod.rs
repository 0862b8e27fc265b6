//! A cluster of real processes on real disks, for tests that break it.
//!
//! Everything lives in one temporary folder and ends with the test: nodes,
//! workers, shims and jobs, whatever happened to them. Only two such clusters
//! run at a time: more of them would test how a machine of two cores chokes.

mod asks;
pub(crate) mod judge;
pub(crate) mod locks;
mod process;
pub(crate) mod small_disk;
pub(crate) mod trace;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) use process::{Process, is_someone_left};

pub(crate) const HORAI: &str = env!("CARGO_BIN_EXE_horai");
/// Nothing here takes this long on a healthy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(3);

static LANES: [Mutex<()>; 2] = [const { Mutex::new(()) }; 2];
static NEXT_LANE: AtomicUsize = AtomicUsize::new(0);

/// Waits for a place to run a cluster.
fn lane() -> MutexGuard<'static, ()> {
    let free = LANES.iter().find_map(|lane| match lane.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    });
    free.unwrap_or_else(|| {
        let lane = NEXT_LANE.fetch_add(1, Ordering::Relaxed) % LANES.len();
        LANES[lane].lock().unwrap_or_else(PoisonError::into_inner)
    })
}

/// Waits for something to be true, and says what it was if it never is.
#[track_caller]
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, look)
}

/// The same with a patience of its own.
#[track_caller]
pub(crate) fn until_within<T>(
    patience: Duration,
    what: &str,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {patience:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Nodes and workers as processes.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Process>,
    pub(crate) workers: Vec<Process>,
    token: String,
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    folder: tempfile::TempDir,
    _lane: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Founds a cluster of `nodes` and attaches `workers`.
    pub(crate) fn start(nodes: usize, workers: usize) -> Self {
        let lane = lane();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let http = reqwest::Client::builder().timeout(REQUEST).build().unwrap();
        let mut cluster = Self {
            nodes: Vec::new(),
            workers: Vec::new(),
            token: String::new(),
            http,
            runtime,
            folder: tempfile::tempdir().unwrap(),
            _lane: lane,
        };
        let founder = cluster.node_config(1);
        cluster.run_ok(&["cluster", "init", "--config", path(&founder)]);
        cluster.token = std::fs::read_to_string(cluster.path("token")).unwrap().trim().to_owned();
        cluster.nodes.push(Process::spawn("node", &founder));
        cluster.wait_for_leader();
        for n in 2..=nodes {
            cluster.join(n, &[]);
        }
        cluster.wait_for_voters(nodes);
        for n in 1..=workers {
            let config = cluster.worker_config(n);
            cluster.workers.push(Process::spawn("worker", &config));
        }
        cluster.wait_for_workers(workers);
        cluster
    }

    /// Attaches a worker that sees no cgroups.
    pub(crate) fn attach_without_cgroups(&mut self) {
        const BLIND: [&str; 5] = [
            "unshare",
            "--mount",
            "sh",
            "-c",
            "umount --recursive /sys/fs/cgroup && exec \"$0\" \"$@\"",
        ];
        let n = self.workers.len() + 1;
        let config = self.worker_config(n);
        self.workers.push(Process::spawn_by(&BLIND, "worker", &config));
        self.wait_for_workers(n);
    }

    /// Lets another node in and starts it; `more` goes to the command.
    pub(crate) fn join(&mut self, n: usize, more: &[&str]) {
        let config = self.node_config(n);
        let verb = if more.is_empty() { "join" } else { "replace" };
        let seeds: Vec<String> = self.nodes.iter().map(|node| node.address("raft")).collect();
        let mut arguments = vec!["cluster", verb];
        arguments.extend(more);
        arguments.extend(["--config", path(&config), "--token", &self.token]);
        for seed in &seeds {
            arguments.extend(["--to", seed]);
        }
        self.run_ok(&arguments);
        self.nodes.push(Process::spawn("node", &config));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn node_config(&self, n: usize) -> PathBuf {
        let [http, grpc, raft] = process::free_ports();
        let config = self.path(&format!("node{n}.toml"));
        let text = format!(
            "[node]\ndata_dir = {:?}\nhttp = \"127.0.0.1:{http}\"\ngrpc = \"127.0.0.1:{grpc}\"\n\
             raft = \"127.0.0.1:{raft}\"\ntoken_file = {:?}\n",
            self.path(&format!("node{n}")),
            self.path("token"),
        );
        std::fs::write(&config, text).unwrap();
        config
    }

    /// Starts a worker of whose configuration `more` is the end, in place of lines with the
    /// same keys.
    pub(crate) fn add_worker(&mut self, more: &str) {
        let config = self.worker_config(self.workers.len() + 1);
        let usual = std::fs::read_to_string(&config).unwrap();
        let key = |line: &str| line.split_once(" = ").map(|(key, _)| key.to_owned());
        let said: Vec<Option<String>> = more.lines().map(key).collect();
        let usual = usual.lines().filter(|line| key(line).is_none() || !said.contains(&key(line)));
        let text: Vec<&str> = usual.chain(more.lines()).collect();
        std::fs::write(&config, text.join("\n")).unwrap();
        self.workers.push(Process::spawn("worker", &config));
        self.wait_for_workers(self.workers.len());
    }

    fn worker_config(&self, n: usize) -> PathBuf {
        let config = self.path(&format!("worker{n}.toml"));
        let nodes: Vec<String> = self.nodes.iter().map(|node| node.address("grpc")).collect();
        let text = format!(
            "[worker]\nname = \"w{n}\"\ndata_dir = {:?}\nnodes = {nodes:?}\nslots = 20\n\
             heartbeat_ms = 500\nstop_after_ms = 0\ntoken_file = {:?}\n",
            self.path(&format!("worker{n}")),
            self.path("token"),
        );
        std::fs::write(&config, text).unwrap();
        config
    }

    /// Runs a command of the program against this cluster.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The same with something on standard input.
    pub(crate) fn run_fed(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let urls: Vec<String> =
            self.nodes.iter().map(|n| format!("http://{}", n.address("http"))).collect();
        let mut command = Command::new(HORAI);
        command.args(arguments);
        command.env("HORAI_URL", urls.join(",")).env("HORAI_TOKEN", &self.token);
        command
    }

    #[track_caller]
    pub(crate) fn run_ok(&self, arguments: &[&str]) -> String {
        let out = self.run(arguments);
        let (said, err) = (String::from_utf8(out.stdout), String::from_utf8(out.stderr));
        assert!(out.status.success(), "{arguments:?}: {said:?} {err:?}");
        said.unwrap()
    }

    /// One request to one node; none if it gave no answer in time.
    pub(crate) fn ask(
        &self,
        node: usize,
        method: &str,
        route: &str,
        body: Option<&Value>,
        request_id: Option<&str>,
    ) -> Option<(u16, Value)> {
        let url = format!("http://{}/api/v1/{route}", self.nodes[node].address("http"));
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.http.request(method, url).bearer_auth(&self.token);
        if let Some(id) = request_id {
            request = request.header("Idempotency-Key", id);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        self.runtime.block_on(async {
            let answer = request.send().await.ok()?;
            let status = answer.status().as_u16();
            let text = answer.text().await.ok()?;
            Some((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
        })
    }

    /// Reads from whichever node answers.
    #[track_caller]
    pub(crate) fn get(&self, route: &str) -> Value {
        until(route, || {
            (0..self.nodes.len()).filter(|n| self.nodes[*n].is_up()).find_map(|n| {
                let (status, body) = self.ask(n, "GET", route, None, None)?;
                assert!(status == 200 || status >= 500, "GET {route}: {status} {body}");
                (status == 200).then_some(body)
            })
        })
    }

    /// Writes through whichever node answers, once, whatever breaks meanwhile.
    #[track_caller]
    pub(crate) fn post(&self, route: &str, body: &Value) -> Value {
        let id = uuid::Uuid::new_v4().to_string();
        until(route, || {
            (0..self.nodes.len()).filter(|n| self.nodes[*n].is_up()).find_map(|n| {
                let (status, said) = self.ask(n, "POST", route, Some(body), Some(&id))?;
                assert!(!(300..500).contains(&status), "POST {route}: {status} {said}");
                (status < 300).then_some(said)
            })
        })
    }

    /// The place in `nodes` of the one that says it leads.
    pub(crate) fn leader(&self) -> Option<usize> {
        (0..self.nodes.len()).filter(|n| self.nodes[*n].is_up()).find(|n| {
            let said = self.ask(*n, "GET", "cluster?consistency=stale", None, None);
            said.is_some_and(|(_, c)| c["leader"]["node"] == c["node"] && c["node"].is_u64())
        })
    }

    /// What a node says of itself and the cluster.
    pub(crate) fn status(&self, node: usize) -> Option<Value> {
        let (status, body) = self.ask(node, "GET", "cluster?consistency=stale", None, None)?;
        (status == 200).then_some(body)
    }

    /// Kills the node that leads, and waits until another one does. Tells which was killed.
    #[track_caller]
    pub(crate) fn kill_leader(&mut self) -> usize {
        let leader = self.wait_for_leader();
        self.nodes[leader].kill();
        self.wait_for_other_leader(leader);
        leader
    }

    /// Starts a node that was killed, and waits until all nodes have what the leader has.
    #[track_caller]
    pub(crate) fn bring_back(&mut self, node: usize) {
        self.nodes[node].start();
        self.wait_for_all_to_follow();
    }

    /// Kills all nodes, and starts them again after so long.
    pub(crate) fn stop_all_nodes_for(&mut self, pause: Duration) {
        for node in &mut self.nodes {
            node.kill();
        }
        // The fault's own length, not a wait for something.
        std::thread::sleep(pause);
        for node in &mut self.nodes {
            node.start();
        }
        self.wait_for_leader();
    }

    #[track_caller]
    pub(crate) fn wait_for_leader(&self) -> usize {
        until("a leader", || self.leader())
    }

    #[track_caller]
    pub(crate) fn wait_for_other_leader(&self, than: usize) -> usize {
        until("another leader", || self.leader().filter(|leader| *leader != than))
    }

    #[track_caller]
    pub(crate) fn wait_for_voters(&self, count: usize) {
        until(&format!("{count} voters"), || {
            let status = self.status(self.leader()?)?;
            let members = status["members"].as_array()?.clone();
            (members.len() == count && members.iter().all(|m| m["voter"] == true)).then_some(())
        });
    }

    #[track_caller]
    pub(crate) fn wait_for_workers(&self, count: usize) {
        until(&format!("{count} workers"), || {
            let workers = self.get("workers");
            let items = workers["items"].as_array()?.clone();
            (items.iter().filter(|w| w["connected"] == true).count() == count).then_some(())
        });
    }

    /// Waits until all nodes have applied what the leader has.
    #[track_caller]
    pub(crate) fn wait_for_all_to_follow(&self) {
        until("every node to catch up", || {
            let goal = self.status(self.leader()?)?["applied_index"].as_u64()?;
            let follows = |n: usize| self.status(n)?["applied_index"].as_u64();
            (0..self.nodes.len()).all(|n| follows(n).is_some_and(|i| i >= goal)).then_some(())
        });
    }

    /// Stops everything gently and checks that no process of the cluster is left.
    #[track_caller]
    pub(crate) fn end(mut self) {
        for process in self.workers.iter_mut().chain(&mut self.nodes) {
            process.terminate();
        }
        until("every process of the cluster to end", || {
            is_someone_left(self.folder.path()).is_empty().then_some(())
        });
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in self.workers.iter_mut().chain(&mut self.nodes) {
            process.kill();
        }
        if std::thread::panicking() {
            // The folder is gone afterwards: show what the processes said last.
            for process in self.nodes.iter().chain(&self.workers) {
                process.show_log();
            }
        }
        process::kill_everyone_left(self.folder.path());
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
