//! The processes of a local cluster: started, watched, killed, restarted, stopped.
//!
//! Blocking calls here are short (a fork, a look at a child); everything that
//! waits for the cluster is async. Stopping has an order: workers, what they
//! left running, nodes, folder.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::files::Folder;
use super::guard::Guard;
use super::ports::{self, Ports};
use super::steps::Steps;
use super::sweep::{Which, sweep};
use super::{Error, Role};
use crate::api::dto::ClusterDto;
use crate::cli::client::Client;
use crate::config;

/// How long the whole may take to be ready.
const READY: Duration = Duration::from_secs(60);
/// How long one question may take while the cluster starts.
const ASK: Duration = Duration::from_secs(3);
/// Between two looks.
const STEP: Duration = Duration::from_millis(20);
/// How long a process may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(8);

/// What to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// An empty or new folder for all of it.
    pub folder: PathBuf,
    /// Remove the folder in the end.
    pub remove: bool,
    /// HTTP port of the first node.
    pub base_port: u16,
    /// How many nodes.
    pub nodes: u32,
    /// How many workers.
    pub workers: u32,
    /// Attempts that each worker runs at once.
    pub slots: u32,
}

/// One process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// What it is.
    pub role: Role,
    /// Its process number.
    pub pid: u32,
    /// Where its HTTP API listens, if it is a node.
    pub http: Option<SocketAddr>,
}

/// A process that ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// Which.
    pub role: Role,
    /// Its process number.
    pub pid: u32,
    /// How.
    pub status: ExitStatus,
}

/// A cluster of child processes. Dropping it leaves the clearing up to the guard.
pub struct LocalCluster {
    steps: Steps,
    ports: Vec<Ports>,
    token: String,
    client: Client,
    children: BTreeMap<Role, Child>,
    remove: bool,
    guard: Guard,
}

impl LocalCluster {
    /// Makes a cluster and waits until all nodes vote and all workers are attached.
    ///
    /// # Errors
    /// [`Error`]; what was started is then stopped and removed.
    pub async fn start(options: &Options) -> Result<Self, Error> {
        let ports = ports::assign(options.base_port, options.nodes)?;
        ports::check(&ports)?;
        let folder = Folder::create(&options.folder)?;
        let program = std::env::current_exe()
            .map_err(|source| Error::Spawn { what: "this program".to_owned(), source })?;
        let guard = Guard::start(&program, &folder.0, options.remove)?;
        let steps = Steps { program, folder };
        for (n, ports) in (1..).zip(&ports) {
            steps.folder.write_node(n, ports)?;
        }
        for n in 1..=options.workers {
            steps.folder.write_worker(n, &ports, options.slots)?;
        }
        // The one that is there is taken by the first node.
        let token = config::make_token(&steps.folder.token())?.text().to_owned();
        steps.init()?;
        let urls = ports.iter().map(|p| format!("http://{}", p.http)).collect();
        let client = Client::new(urls, token.as_str())?;
        let children = BTreeMap::new();
        let remove = options.remove;
        let mut cluster = Self { steps, ports, token, client, children, remove, guard };
        cluster.bring_up(options).await?;
        Ok(cluster)
    }

    async fn bring_up(&mut self, options: &Options) -> Result<(), Error> {
        let until = Instant::now() + READY;
        self.spawn(Role::Node(1))?;
        let founder = self.node_client(1)?;
        let (children, folder) = (&mut self.children, &self.steps.folder);
        let missing = "node 1 does not answer";
        wait(children, folder, until, missing, async || founder.readyz().await.is_ok()).await?;
        // Workers look for nodes until they find them: they start meanwhile.
        for n in 1..=options.workers {
            self.spawn(Role::Worker(n))?;
        }
        for n in 2..=options.nodes {
            let token = founder.join_token(None).await?.token;
            self.steps.join(n, self.ports[0].raft, &token)?;
            self.spawn(Role::Node(n))?;
        }
        self.ready(until).await
    }

    /// Waits until all nodes vote, one leads and all workers are attached.
    ///
    /// # Errors
    /// [`Error::NotReady`] names what is missing; [`Error::Ended`] a process that is gone.
    pub async fn ready(&mut self, until: Instant) -> Result<(), Error> {
        let client = self.client.clone().with_timeout(ASK);
        let nodes = self.ports.len();
        let workers = self.children.keys().filter(|r| matches!(r, Role::Worker(_))).count();
        let each = (1..).take(nodes).map(|n| self.node_client(n)).collect::<Result<Vec<_>, _>>()?;
        let voters = |cluster: &ClusterDto| cluster.members.iter().filter(|m| m.voter).count();
        let (children, folder) = (&mut self.children, &self.steps.folder);
        wait(children, folder, until, "not all nodes vote", async || {
            client.cluster().await.is_ok_and(|c| c.leader.is_some() && voters(&c) == nodes)
        })
        .await?;
        // Each node has its own streams from the workers: the leader's are what counts.
        wait(children, folder, until, "not all workers are attached to the leader", async || {
            let leader = client.cluster().await.ok().and_then(|c| c.leader).map_or(0, |l| l.node);
            let index = usize::try_from(leader).ok().and_then(|n| n.checked_sub(1));
            let Some(leader) = index.and_then(|i| each.get(i)) else { return false };
            let seen = leader.workers(None).await;
            seen.is_ok_and(|page| page.items.iter().filter(|w| w.connected).count() == workers)
        })
        .await
    }

    /// A client of node `n` alone.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn node_client(&self, n: u32) -> Result<Client, Error> {
        Ok(Client::new(vec![self.url(n)], self.token.as_str())?.with_timeout(ASK))
    }

    /// The node that leads, as the nodes that answer know.
    pub async fn leader(&self) -> Option<u32> {
        let cluster = self.client.clone().with_timeout(ASK).cluster().await.ok()?;
        u32::try_from(cluster.leader?.node).ok()
    }

    fn spawn(&mut self, role: Role) -> Result<u32, Error> {
        let child = self.steps.spawn(role)?;
        let pid = child.id();
        self.children.insert(role, child);
        Ok(pid)
    }

    /// The address of node `n`'s HTTP API.
    #[must_use]
    pub fn url(&self, n: u32) -> String {
        let ports = usize::try_from(n).ok().and_then(|n| self.ports.get(n.checked_sub(1)?));
        ports.map_or_else(String::new, |ports| format!("http://{}", ports.http))
    }

    /// The admin token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// A client of all nodes.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Where everything is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.steps.folder.0
    }

    /// The processes that were started and not reaped, nodes first.
    pub fn members(&self) -> impl Iterator<Item = Member> + '_ {
        self.children.iter().map(|(role, child)| {
            let index = match role {
                Role::Node(n) => usize::try_from(*n).ok().and_then(|n| n.checked_sub(1)),
                Role::Worker(_) => None,
            };
            let http = index.and_then(|i| self.ports.get(i)).map(|ports| ports.http);
            Member { role: *role, pid: child.id(), http }
        })
    }

    /// The end of what a process wrote.
    #[must_use]
    pub fn tail(&self, role: Role) -> String {
        self.steps.folder.tail(role)
    }

    /// Takes out the processes that have ended.
    pub fn reap(&mut self) -> Vec<Ended> {
        let mut ended = Vec::new();
        for (role, child) in &mut self.children {
            if let Ok(Some(status)) = child.try_wait() {
                ended.push(Ended { role: *role, pid: child.id(), status });
            }
        }
        for Ended { role, .. } in &ended {
            self.children.remove(role);
        }
        ended
    }

    /// Starts a process again that has ended.
    ///
    /// # Errors
    /// [`Error::Spawn`] if that is impossible.
    pub fn restart(&mut self, role: Role) -> Result<u32, Error> {
        self.spawn(role)
    }

    /// Ends a process as a power cut would, and reaps it.
    ///
    /// # Errors
    /// [`Error::Spawn`] if it is not there.
    pub fn kill(&mut self, role: Role) -> Result<(), Error> {
        let missing = |source| Error::Spawn { what: format!("the end of {role}"), source };
        let Some(mut child) = self.children.remove(&role) else {
            return Err(missing(std::io::Error::from(std::io::ErrorKind::NotFound)));
        };
        child.kill().and_then(|()| child.wait().map(drop)).map_err(missing)
    }

    /// Stops everything in order, and removes the folder if it was made for this.
    /// False if something is left.
    pub async fn stop(mut self) -> bool {
        self.end(|role| matches!(role, Role::Worker(_))).await;
        // A worker that ends leaves its attempts to the next one: there is none.
        let folder = self.folder().to_owned();
        let attempts = tokio::task::spawn_blocking({
            let folder = folder.clone();
            move || sweep(&folder, Which::Attempts, GRACE)
        });
        let attempts_gone = attempts.await.unwrap_or(false);
        self.end(|role| matches!(role, Role::Node(_))).await;
        let mut guard = self.guard;
        let remove = self.remove;
        let rest = tokio::task::spawn_blocking(move || {
            let done = guard.call() || sweep(&folder, Which::All, GRACE);
            done && (!remove || !folder.exists() || std::fs::remove_dir_all(&folder).is_ok())
        });
        attempts_gone && rest.await.unwrap_or(false)
    }

    /// Asks the chosen to end, and ends those that do not.
    async fn end(&mut self, chosen: impl Fn(Role) -> bool) {
        let all = std::mem::take(&mut self.children);
        let (waited, rest): (BTreeMap<_, _>, _) = all.into_iter().partition(|(r, _)| chosen(*r));
        self.children = rest;
        let mut waited: Vec<Child> = waited.into_values().collect();
        for child in &waited {
            if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                // Fails only if it has ended.
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        let until = Instant::now() + GRACE;
        loop {
            waited.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
            if waited.is_empty() || Instant::now() > until {
                break;
            }
            tokio::time::sleep(STEP).await;
        }
        for mut child in waited {
            // Fails only if it has ended; then waiting reaps it.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Looks again and again until it is done, the time is over, or a child has ended.
async fn wait(
    children: &mut BTreeMap<Role, Child>,
    folder: &Folder,
    until: Instant,
    missing: &str,
    done: impl AsyncFn() -> bool,
) -> Result<(), Error> {
    let begun = Instant::now();
    while !done().await {
        for (role, child) in children.iter_mut() {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(Error::Ended { role: *role, status, said: folder.tail(*role) });
            }
        }
        if Instant::now() > until {
            let (seconds, missing) = (begun.elapsed().as_secs(), missing.to_owned());
            return Err(Error::NotReady { seconds, missing });
        }
        tokio::time::sleep(STEP).await;
    }
    Ok(())
}
