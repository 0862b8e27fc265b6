//! One scheduler node of the simulation: its disks across restarts, and the program
//! that its machine runs.
//!
//! Everything from the Raft port upwards is the product's own code: stores, raft,
//! membership, sessions and leader services, put together as `server.rs` does it,
//! without HTTP. Asks of clients come in where its API would hand them on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use horai::leader::events::EventHub;
use horai::leader::{self, Counters};
use horai::session::{Node, Sessions};
use horai_core::ids::{Name, NodeId};
use horai_core::machine::command::{Actor, Command, Envelope, Request};
use horai_core::machine::outcome::Outcome;
use horai_core::machine::state::State;
use horai_core::model::access::{AccessToken, TokenPurpose};
use horai_core::model::cluster::ClusterSettings;
use horai_core::time::{Span, UtcMillis};
use horai_raft::host::Host;
use horai_raft::identity::{Identity, IdentityFile};
use horai_raft::membership::admission;
use horai_raft::sim_disk::SimDisk;
use horai_raft::{Error, Member, Options, RaftNode, SnapshotOptions, disk::SmallFile, open};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use uuid::Uuid;

use crate::world::{Exit, SimHost};

/// The cluster's id.
const CLUSTER: Uuid = Uuid::from_u128(0xC1);
/// Opens everything.
pub(crate) const ADMIN: &str = "admin-token-of-the-simulation";
/// Lets nodes in.
const JOIN: &str = "join-token-of-the-simulation";
/// Raft's port, and the workers'.
const RAFT: u16 = 7602;
pub(crate) const GRPC: u16 = 7601;

/// What lies on a node's disks.
#[derive(Clone, Default)]
pub(crate) struct Disks {
    pub(crate) log: SimDisk,
    pub(crate) snapshots: SimDisk,
    pub(crate) identity: SimDisk,
}

/// What a client asks of a node.
pub(crate) enum Ask {
    Propose(Box<Envelope>, Duration, oneshot::Sender<Result<Outcome, Error>>),
    /// Which of these requests are remembered, read linearizably.
    Read(Vec<String>, Duration, oneshot::Sender<Result<Vec<bool>, Error>>),
    Remove(NodeId, oneshot::Sender<Result<(), Error>>),
    Transfer(NodeId, oneshot::Sender<Result<(), Error>>),
}

/// A running process, as the test sees it from outside.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) node: Weak<Node>,
    pub(crate) asks: mpsc::UnboundedSender<Ask>,
}

/// One node's place: a machine, disks, and what runs there now.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) host: SimHost,
    pub(crate) disks: Disks,
    pub(crate) store: Uuid,
    /// The node whose place it takes.
    pub(crate) replaces: Option<NodeId>,
    pub(crate) is_founder: bool,
    /// Whose store it takes up again, if somebody puts an empty one in its place.
    pub(crate) number: Option<NodeId>,
    /// Raft addresses of the first nodes.
    pub(crate) seeds: Vec<String>,
    pub(crate) snapshots: SnapshotOptions,
    pub(crate) live: Arc<Mutex<Option<Live>>>,
}

impl Place {
    fn slot(&self) -> MutexGuard<'_, Option<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the process: it ended.
    pub(crate) fn clear(&self) {
        self.slot().take();
    }

    /// What runs there.
    pub(crate) fn live(&self) -> Option<Live> {
        self.slot().clone()
    }

    /// What its identity file says, once it has one.
    pub(crate) fn identity(&self) -> Option<Identity> {
        let file = Box::new(self.disks.identity.clone());
        Some(IdentityFile::load(file).ok()??.get())
    }

    /// A store that is not the one that the cluster knows under this number must hold
    /// nothing that others could count on.
    ///
    /// # Errors
    /// If it does.
    pub(crate) fn must_not_take_part(&self, number: NodeId) -> Result<(), String> {
        let Some(node) = self.live().and_then(|live| live.node.upgrade()) else { return Ok(()) };
        let status = node.status();
        if status.last_log == 0 && status.applied == 0 {
            return Ok(());
        }
        let (name, last) = (&self.name, status.last_log);
        Err(format!(
            "{name} takes part as node {number}, whose store is lost: it has {last} entries"
        ))
    }

    /// The process that the machine runs.
    pub(crate) async fn run(self) -> Exit {
        let host: Arc<dyn Host> = Arc::new(self.host.clone());
        let port = self.host.listen(RAFT);
        let stores = self.stores(&host).await?;
        let me = Member {
            raft_addr: format!("{}:{RAFT}", self.name),
            http_addr: format!("{}:7600", self.name),
            grpc_addr: format!("{}:{GRPC}", self.name),
            store_uuid: self.store.as_u128(),
        };
        let events = EventHub::new();
        let options = Options {
            snapshots: self.snapshots,
            observer: Some(events.observer()),
            ..Options::default()
        };
        let node = RaftNode::open(stores, State::default(), port, &options).await;
        let node: Arc<Node> = Arc::new(node.map_err(|e| format!("raft: {e}"))?);
        let sessions = Sessions::new(Arc::clone(&node));
        let counters = Arc::new(Counters::default());
        let (asks, mut asked) = mpsc::unbounded_channel();
        *self.slot() = Some(Live { node: Arc::downgrade(&node), asks });
        let end = CancellationToken::new();
        let grpc =
            Arc::clone(&sessions).serve_on(self.host.listen(GRPC), Routes::default(), end.clone());
        tokio::spawn(grpc);
        let orders = Arc::clone(&sessions);
        tokio::spawn(leader::run(Arc::clone(&node), orders, events, counters, end.clone()));
        let mut closed = node.closed();
        let (own, seeds) = (Arc::clone(&node), self.seeds.clone());
        let goes_on = async {
            if self.is_founder {
                found(&own, me.clone()).await?;
            }
            match own.enter(&seeds, me).await {
                Ok(()) | Err(Error::Stopped) => {}
                Err(error) => return Err(format!("not taken: {error}")),
            }
            std::future::pending().await
        };
        tokio::select! {
            biased;
            reason = closed.wait_for(Option::is_some) => {
                Err(reason.map_or_else(|e| e.to_string(), |r| format!("{:?}", r.as_ref())))
            }
            failed = goes_on => failed,
            () = sessions.follow_members() => Ok(()),
            () = async { while let Some(ask) = asked.recv().await { answer(&node, ask) } } => Ok(()),
        }
    }

    async fn stores(&self, host: &Arc<dyn Host>) -> Result<open::Stores, String> {
        let Disks { log, snapshots, identity } = &self.disks;
        let (host, file) = (Arc::clone(host), Box::new(identity.clone()));
        let log_disk = Arc::new(log.clone());
        let snapshot_disk = Arc::new(snapshots.clone());
        let is_new = identity.load().map_err(|e| e.to_string())?.is_none();
        if !is_new {
            return open::open_on(host, log_disk, snapshot_disk, file)
                .map_err(|e| format!("store: {e}"));
        }
        // What a crash left of a store that was being made holds nothing.
        log.wipe();
        snapshots.wipe();
        let node = if let Some(number) = self.number {
            number.0
        } else if self.is_founder {
            1
        } else {
            let limit = Duration::from_secs(60);
            let (seeds, store) = (&self.seeds, self.store);
            let asked = admission::ask(&*host, seeds, JOIN, store, self.replaces, limit).await;
            asked.map_err(|e| format!("join: {e}"))?.node.0
        };
        let identity = Identity::new(CLUSTER, node, self.store);
        open::create_on(host, log_disk, snapshot_disk, file, identity)
            .map_err(|e| format!("store: {e}"))
    }
}

fn answer(node: &Arc<Node>, ask: Ask) {
    let node = Arc::clone(node);
    // Whoever asked may have gone: then nobody wants the answer.
    tokio::spawn(async move {
        match ask {
            Ask::Propose(envelope, limit, reply) => {
                let _ = reply.send(node.propose(&envelope, limit).await);
            }
            Ask::Read(requests, limit, reply) => {
                let done = node.linearize(limit).await.map(|()| {
                    node.read(|state| {
                        requests.iter().map(|id| state.remembered(id).is_some()).collect()
                    })
                });
                let _ = reply.send(done);
            }
            Ask::Remove(who, reply) => {
                let _ = reply.send(node.remove(who).await);
            }
            Ask::Transfer(who, reply) => {
                let _ = reply.send(node.transfer(who).await);
            }
        }
    });
}

/// What the founder's first start commits; again changes nothing.
async fn found(node: &Node, me: Member) -> Exit {
    if !node.is_founded().await.map_err(|e| e.to_string())? {
        node.init(me).await.map_err(|e| e.to_string())?;
    }
    let mut settings = ClusterSettings::new(CLUSTER.as_u128());
    settings.lease_margin = Span::secs(2);
    commit(node, "init", Command::InitCluster(settings)).await;
    for (text, purpose) in [(ADMIN, TokenPurpose::Admin), (JOIN, TokenPurpose::Join)] {
        let hash = Sha256::digest(text.as_bytes()).into();
        let token = AccessToken { purpose, hash, expires: None, created: UtcMillis(0) };
        let name = Name::new(text).map_err(|e| e.to_string())?;
        commit(node, text, Command::PutToken { name, token }).await;
    }
    Ok(())
}

async fn commit(node: &Node, step: &str, command: Command) {
    let request = Request { id: format!("founding-{step}"), body_hash: 0, issued: None };
    let actor = Actor::User("founder".to_owned());
    let envelope = Envelope { actor, request: Some(request), command };
    while node.propose(&envelope, Duration::from_secs(5)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
