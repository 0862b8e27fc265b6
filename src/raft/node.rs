//! A running Raft node, with openraft's types kept inside.
//!
//! Commands are gathered into batches, stamped with cluster time and committed;
//! a node that does not lead hands its batch to the leader once. Raft, its
//! transport and the batcher run on threads of their own, so that no request
//! of a user delays a heartbeat. It never decides what a command means.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use horai_core::ids::{LeaderId, NodeId};
use horai_core::machine::command::{self, Envelope};
use horai_core::machine::outcome::Outcome;
use horai_core::mutants::{self, Mutant};
use horai_core::time::UtcMillis;
use openraft::async_runtime::WatchReceiver;
use openraft::{Config, Raft, SnapshotPolicy};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

use crate::batcher;
use crate::growth::{Growth, SnapshotOptions};
use crate::host::Port;
use crate::inner::Inner;
use crate::network::channels::Channels;
use crate::network::client::Links;
use crate::network::server::{Desk, Server};
use crate::network::{Local, Shared};
use crate::open::Stores;
use crate::priority;
use crate::state_machine::{Machine, Observer, StateMachine};
use crate::types::{MAX_COMMAND, Member};

/// Between two tries of a read while nobody is known to lead.
const RETRY: Duration = Duration::from_millis(10);

/// Threads that do not end in this time are left behind.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// Why a node did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command cannot be written down.
    #[error("the command cannot be encoded")]
    Encode(#[from] postcard::Error),
    /// Larger than an entry.
    #[error("a command of {0} bytes is larger than {MAX_COMMAND}: split it")]
    TooLarge(usize),
    /// Nobody leads, or somebody else does and cannot be reached. Nothing was committed.
    #[error("no leader can be reached (last known: {0:?}): try again")]
    NoLeader(Option<u64>),
    /// The cluster has no time: see the clock alarms.
    #[error(
        "the cluster has no time yet: wait for a quorum of clocks, or confirm the time by hand"
    )]
    NoTime,
    /// It may have been committed or not.
    #[error("the outcome is unknown: ask again with the same request id")]
    OutcomeUnknown,
    /// More is proposed than this node gets committed. Nothing was committed.
    #[error("this node has more proposals than it gets committed: try again later")]
    Busy,
    /// This node's Raft has stopped.
    #[error("this node's raft has stopped: restart the node")]
    Stopped,
    /// It is still being written.
    #[error("the snapshot up to index {applied} is not on the disk after {limit:?}")]
    SnapshotLate {
        /// What it is to cover.
        applied: u64,
        /// How long it was waited for.
        limit: Duration,
    },
    /// For another reason.
    #[error("refused: {0}")]
    Refused(String),
    /// Sockets or threads.
    #[error("the node cannot run")]
    Io(#[from] std::io::Error),
}

/// How a node behaves.
#[derive(Clone)]
pub struct Options {
    /// Between a leader's heartbeats.
    pub heartbeat: Duration,
    /// Shortest wait before an election.
    pub election_min: Duration,
    /// Longest wait before an election; also the leader's lease.
    pub election_max: Duration,
    /// When snapshots are taken and how much log is kept.
    pub snapshots: SnapshotOptions,
    /// Hears what is applied on this node.
    pub observer: Option<Observer>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { heartbeat, election_min, election_max, snapshots, observer } = self;
        f.debug_struct("Options")
            .field("heartbeat", heartbeat)
            .field("election_min", election_min)
            .field("election_max", election_max)
            .field("snapshots", snapshots)
            .field("observer", &observer.is_some())
            .finish()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(50),
            election_min: Duration::from_millis(200),
            election_max: Duration::from_millis(400),
            snapshots: SnapshotOptions::default(),
            observer: None,
        }
    }
}

impl Options {
    pub(crate) fn config(&self) -> Result<Arc<Config>, Error> {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let config = Config {
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election_min),
            election_timeout_max: millis(self.election_max),
            // A cut that lets only one way through must not stall the cluster.
            quorum_loss_probe_interval: Some(millis(self.election_max) * 4),
            enable_pre_vote: Some(true),
            // The committed index is saved lazily: a restarted leader must be elected.
            enable_leader_restore: Some(false),
            // Counted in commands and bytes instead, and purged from there.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            // For the whole of it, over a slow disk: keepalive finds a dead peer sooner.
            install_snapshot_timeout: 600_000,
            backoff: "50ms 50ms 50ms".to_owned(),
            ..Config::default()
        };
        let config = config.validate().map_err(|e| Error::Refused(e.to_string()))?;
        Ok(Arc::new(config))
    }
}

/// Who leads, as far as this node knows. A hint, not a fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leadership {
    /// The node that leads.
    pub leader: Option<NodeId>,
    /// Set while this node itself leads and an entry of its own term is applied.
    pub own: Option<LeaderId>,
}

/// One node's view of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// This node.
    pub node: NodeId,
    /// Who leads.
    pub leadership: Leadership,
    /// Raft term.
    pub term: u64,
    /// Last index of the log.
    pub last_log: u64,
    /// Applied up to here.
    pub applied: u64,
    /// The last snapshot covers the log up to here.
    pub snapshot: u64,
    /// The log up to here is gone.
    pub purged: u64,
    /// Members, and whether each votes.
    pub members: BTreeMap<NodeId, (Member, bool)>,
}

/// A running node.
pub struct RaftNode<M: Machine> {
    pub(crate) inner: Arc<Inner<M>>,
    runtime: std::sync::Mutex<Option<Runtime>>,
}

impl<M: Machine> RaftNode<M> {
    /// Starts a node on checked stores. `port` is the Raft port.
    ///
    /// # Errors
    /// If its options, threads or storage do not work.
    pub async fn open(
        stores: Stores,
        machine: M,
        port: impl Into<Port>,
        options: &Options,
    ) -> Result<Self, Error> {
        let (config, port) = (options.config()?, port.into());
        if !stores.host.has_threads() {
            let inner = start(stores, machine, port, config, options.clone()).await?;
            return Ok(Self { inner, runtime: std::sync::Mutex::new(None) });
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("raft")
            .on_thread_start(|| {
                // Not allowed is no fault: then they go like all others.
                let _allowed = priority::raise();
            })
            .enable_all()
            .build()?;
        let started = runtime.spawn(start(stores, machine, port, config, options.clone()));
        match started.await {
            Ok(Ok(inner)) => {
                let runtime = std::sync::Mutex::new(Some(runtime));
                Ok(Self { inner, runtime })
            }
            failed => {
                runtime.shutdown_background();
                match failed {
                    Ok(Err(error)) => Err(error),
                    Ok(Ok(_)) | Err(_) => Err(Error::Stopped),
                }
            }
        }
    }

    /// Begins the cluster's life with this node as its only voter. Once, ever.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is a cluster already.
    pub async fn init(&self, me: Member) -> Result<(), Error> {
        let local = self.inner.shared.local;
        let members = BTreeMap::from([(local.node, Member { store_uuid: local.store, ..me })]);
        let done = self.inner.raft.initialize(members).await;
        done.map_err(|e| Error::Refused(e.to_string()))
    }

    /// Whether this node has ever been part of a cluster. Asks Raft itself: just
    /// after a start, [`RaftNode::status`] may know no members yet.
    ///
    /// # Errors
    /// [`Error::Stopped`] if Raft has ended.
    pub async fn is_founded(&self) -> Result<bool, Error> {
        if mutants::on(Mutant::FoundsAgain) {
            return Ok(!self.status().members.is_empty());
        }
        self.inner.raft.is_initialized().await.map_err(|_| Error::Stopped)
    }

    /// Commits one command, through the leader if need be, and says what it did.
    ///
    /// # Errors
    /// Only [`Error::OutcomeUnknown`] leaves open whether it was committed.
    pub async fn propose(&self, envelope: &Envelope, limit: Duration) -> Result<Outcome, Error> {
        let command = [Bytes::from(command::encode(envelope)?)];
        let mut answers = self.inner.propose(&command, true, Instant::now() + limit).await;
        Ok(answers.pop().unwrap_or(Err(Error::OutcomeUnknown))?.0)
    }

    /// Commits commands in the order given, through the leader if need be, and
    /// says of each what it did.
    ///
    /// They travel as one group: one queue place, one trip, and one entry if
    /// they fit. One that cannot be encoded leaves the others alone. After a
    /// failure the later ones are not sent; each answer says what is certain.
    pub async fn propose_all(
        &self,
        envelopes: Vec<Envelope>,
        limit: Duration,
    ) -> Vec<Result<Outcome, Error>> {
        let mut commands = Vec::with_capacity(envelopes.len());
        let mut bad = BTreeMap::new();
        let count = envelopes.len();
        for (at, envelope) in envelopes.iter().enumerate() {
            match command::encode(envelope) {
                Ok(command) if command.len() > MAX_COMMAND => {
                    bad.insert(at, Error::TooLarge(command.len()));
                }
                Ok(command) => commands.push(Bytes::from(command)),
                Err(error) => {
                    bad.insert(at, Error::Encode(error));
                }
            }
        }
        let answers = self.inner.propose(&commands, true, Instant::now() + limit).await;
        let mut answers = answers.into_iter();
        let mut next = |at| match bad.remove(&at) {
            Some(error) => Err(error),
            None => Ok(answers.next().unwrap_or(Err(Error::OutcomeUnknown))?.0),
        };
        (0..count).map(&mut next).collect()
    }

    /// Looks at this node's state, which may be behind: [`RaftNode::linearize`] first.
    pub fn read<T>(&self, look: impl FnOnce(&M) -> T) -> T {
        self.inner.state.read(look)
    }

    /// Waits until everything committed before this call is applied here.
    ///
    /// # Errors
    /// [`Error::NoLeader`] if that cannot be known within `limit`.
    pub async fn linearize(&self, limit: Duration) -> Result<(), Error> {
        if mutants::on(Mutant::LocalReads) {
            return Ok(());
        }
        let wait = async {
            // A read may be asked again: an election in between only costs time.
            let index = loop {
                match self.inner.committed_index(limit).await {
                    Err(Error::NoLeader(_)) => tokio::time::sleep(RETRY).await,
                    done => break done?,
                }
            };
            let mut applied = self.inner.state.applied();
            let reached = applied.wait_for(|id| id.is_some_and(|id| id.index >= index)).await;
            reached.map(|_| ()).map_err(|_| Error::Stopped)
        };
        let waited = tokio::time::timeout(limit, wait).await;
        waited.unwrap_or_else(|_| Err(Error::NoLeader(self.inner.leader())))
    }

    /// Waits until this node's state is as `holds` says; false if it is not within `limit`.
    pub async fn wait_until(&self, limit: Duration, holds: impl Fn(&M) -> bool) -> bool {
        let mut applied = self.inner.state.applied();
        // What is applied is published behind the state, so nothing is overslept.
        let wait = applied.wait_for(|_| self.inner.state.read(&holds));
        matches!(tokio::time::timeout(limit, wait).await, Ok(Ok(_)))
    }

    /// Follows who leads.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Cluster time, if it is known.
    #[must_use]
    pub fn cluster_now(&self) -> Option<UtcMillis> {
        self.inner.shared.clock(|clock, boot| clock.read(boot)).map(|now| now.millis())
    }

    /// An operator vouches for the time after a full stop; it must not lie before
    /// what is applied here.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is a time, or it would go back.
    pub fn confirm_time(&self, time: UtcMillis) -> Result<(), Error> {
        let committed = self.read(Machine::now);
        let done = self.inner.shared.clock(|clock, boot| clock.confirm(time, committed, boot));
        done.map_err(|e| Error::Refused(e.to_string()))
    }

    /// What a person should know of the clocks, as the leader sees it; nothing
    /// elsewhere.
    #[must_use]
    pub fn alarms(&self) -> Vec<String> {
        self.inner.alarms.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What this node knows of the cluster.
    #[must_use]
    pub fn status(&self) -> Status {
        let members = self.inner.members();
        let members = members.into_iter().map(|(id, member)| (NodeId(id), member)).collect();
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        Status {
            node: NodeId(self.inner.shared.local.node),
            leadership: *self.inner.leadership.borrow(),
            term: metrics.current_term,
            last_log: metrics.last_log_index.unwrap_or(0),
            applied: metrics.last_applied.map_or(0, |id| id.index),
            snapshot: metrics.snapshot.map_or(0, |id| id.index),
            purged: metrics.purged.map_or(0, |id| id.index),
            members,
        }
    }

    /// Stops Raft, its port and its threads. When it returns, the store can be
    /// opened again; what is asked of this node from then on is refused.
    pub async fn shutdown(&self) {
        self.inner.end_leadership();
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "raft core did not stop cleanly");
        }
        // A snapshot being written would hold the store for as long as it takes.
        if let Some(snapshots) = self.inner.snapshots.upgrade() {
            snapshots.close();
        }
        let Some(runtime) = self.take_runtime() else { return };
        // Threads are waited for, and a runtime must not wait on another's thread.
        let (ended, end) = oneshot::channel();
        let wait = move || {
            runtime.shutdown_timeout(SHUTDOWN);
            // Nobody listens if the caller gave up.
            let _ = ended.send(());
        };
        match std::thread::Builder::new().name("raft-end".to_owned()).spawn(wait) {
            Ok(_) => drop(end.await),
            Err(error) => tracing::warn!(%error, "no thread to wait for the raft threads"),
        }
    }

    fn take_runtime(&self) -> Option<Runtime> {
        self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<M: Machine> Drop for RaftNode<M> {
    fn drop(&mut self) {
        self.inner.end_leadership();
        // A runtime must not be dropped on another runtime's thread.
        if let Some(runtime) = self.take_runtime() {
            runtime.shutdown_background();
        }
    }
}

async fn start<M: Machine>(
    stores: Stores,
    machine: M,
    port: Port,
    config: Arc<Config>,
    options: Options,
) -> Result<Arc<Inner<M>>, Error> {
    let identity = stores.identity.get();
    let local = Local {
        cluster: identity.cluster.as_u128(),
        node: identity.node,
        store: identity.store.as_u128(),
    };
    let channels = Arc::new(Channels::new(stores.host.dial()));
    let shared = Arc::new(Shared::new(local, stores.host));
    let machine = StateMachine::new(machine, Arc::clone(&stores.snapshots), options.observer);
    let state = machine.handle();
    let keep_bytes = options.snapshots.keep_bytes;
    state.growth(|growth| *growth = Growth::for_keeping(keep_bytes));
    let links = Links::new(Arc::clone(&shared), Arc::clone(&channels));
    let raft = Raft::new(local.node, config, links, stores.log, machine).await;
    let raft = raft.map_err(|_| Error::Stopped)?;
    let (intake, queue) = batcher::queue();
    let (led, leadership) = watch::channel(Leadership::default());
    let stop = CancellationToken::new();
    let inner = Arc::new(Inner {
        raft,
        state,
        shared,
        channels,
        intake,
        led,
        leadership,
        closed: watch::Sender::new(None),
        broken: watch::Sender::new(None),
        identity: stores.identity,
        snapshots: Arc::downgrade(&stores.snapshots),
        changing: Mutex::new(()),
        alarms: std::sync::Mutex::default(),
        lease: options.election_max,
        stop,
    });
    let service = Server::service(
        Arc::clone(&inner.shared),
        inner.raft.clone(),
        stores.snapshots,
        Arc::clone(&inner) as Arc<dyn Desk>,
    );
    let stopped = inner.stop.clone().cancelled_owned();
    let router = tonic::transport::Server::builder().add_service(service);
    let served = match port {
        Port::Tcp(listener) => {
            listener.set_nonblocking(true)?;
            let incoming = TcpIncoming::from(TcpListener::from_std(listener)?);
            // The server's own setting does not reach connections that are handed in.
            let incoming = incoming.with_nodelay(Some(true));
            router.serve_with_incoming_shutdown(incoming, stopped).boxed()
        }
        Port::Other(incoming) => router.serve_with_incoming_shutdown(incoming, stopped).boxed(),
    };
    tokio::spawn(async move {
        if let Err(error) = served.await {
            tracing::error!(error = &error as &dyn std::error::Error, "raft port failed");
        }
    });
    // Outside the loop below: it is what cancels the others.
    tokio::spawn(Inner::guard(Arc::clone(&inner)));
    for work in [
        Inner::batch(Arc::clone(&inner), queue).boxed(),
        Inner::follow(Arc::clone(&inner)).boxed(),
        Inner::keep_time(Arc::clone(&inner)).boxed(),
        Inner::keep_log_short(Arc::clone(&inner), options.snapshots).boxed(),
    ] {
        let stop = inner.stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(work).await });
    }
    Ok(inner)
}
