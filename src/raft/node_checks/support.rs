//! A small machine, and nodes to run it.

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use horai_core::machine::command::{Actor, Command, Envelope};
use horai_core::machine::outcome::Applied;
use horai_core::time::UtcMillis;
use uuid::Uuid;

use crate::node::{Options, RaftNode};
use crate::snapshot_store::Records;
use crate::state_machine::Machine;
use crate::types::Member;

/// Nothing in these checks may take longer.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// Remembers each command's stamp and who proposed it.
#[derive(Clone, Default)]
pub(super) struct Trace(pub(super) Arc<Vec<(i64, String)>>);

impl Trace {
    pub(super) fn names(&self) -> Vec<String> {
        self.0.iter().map(|(_, name)| name.clone()).collect()
    }
}

impl Machine for Trace {
    type View = Self;

    fn apply(&mut self, _: u64, now: UtcMillis, command: &Envelope) -> Applied {
        let name = match &command.actor {
            Actor::User(name) => name.clone(),
            other => format!("{other:?}"),
        };
        Arc::make_mut(&mut self.0).push((now.0, name));
        Applied::default()
    }

    fn now(&self) -> UtcMillis {
        UtcMillis(self.0.last().map_or(0, |(stamp, _)| *stamp))
    }

    fn view(&self) -> Self {
        self.clone()
    }

    fn write(view: &Self, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        view.0
            .iter()
            .try_for_each(|record| sink(&postcard::to_stdvec(record).map_err(io::Error::other)?))
    }

    fn restore(records: &mut Records) -> io::Result<Self> {
        let read =
            |record: io::Result<Vec<u8>>| postcard::from_bytes(&record?).map_err(io::Error::other);
        Ok(Self(Arc::new(records.map(read).collect::<io::Result<_>>()?)))
    }
}

/// A command of nobody in particular.
pub(super) fn ask(command: Command) -> Envelope {
    tagged("test", command)
}

/// A tick that [`Trace`] tells from others.
pub(super) fn tick(name: impl Into<String>) -> Envelope {
    tagged(name, Command::Tick)
}

fn tagged(name: impl Into<String>, command: Command) -> Envelope {
    Envelope { actor: Actor::User(name.into()), request: None, command }
}

pub(super) fn store_dir(dir: &Path, id: u64) -> PathBuf {
    dir.join(id.to_string())
}

/// Makes a node, with its address as a member.
pub(super) async fn node<M: Machine + Default>(dir: &Path, id: u64) -> (RaftNode<M>, Member) {
    node_with(dir, id, &calm()).await
}

/// Patient with a machine that runs many tests at once.
pub(super) fn calm() -> Options {
    Options {
        heartbeat: Duration::from_millis(100),
        election_min: Duration::from_millis(500),
        election_max: Duration::from_millis(1_000),
        ..Options::default()
    }
}

pub(super) async fn node_with<M: Machine + Default>(
    dir: &Path,
    id: u64,
    options: &Options,
) -> (RaftNode<M>, Member) {
    let stores = crate::open::create(&store_dir(dir, id), Uuid::from_u128(9), id).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let member = Member {
        raft_addr: listener.local_addr().unwrap().to_string(),
        store_uuid: stores.identity.get().store.as_u128(),
        ..Member::default()
    };
    (RaftNode::open(stores, M::default(), listener, options).await.unwrap(), member)
}

/// Nodes 1, 2 and 3, all voters; node 1 leads. Made directly, because a small
/// machine lets nobody in.
pub(super) async fn three<M: Machine + Default>(dir: &Path) -> [RaftNode<M>; 3] {
    three_with(dir, &calm()).await
}

pub(super) async fn three_with<M: Machine + Default>(
    dir: &Path,
    options: &Options,
) -> [RaftNode<M>; 3] {
    let (one, first) = node_with::<M>(dir, 1, options).await;
    let (two, second) = node_with::<M>(dir, 2, options).await;
    let (three, third) = node_with::<M>(dir, 3, options).await;
    one.init(first).await.unwrap();
    leads(&one).await;
    for (id, member) in [(2, second), (3, third)] {
        one.inner.raft.add_learner(id, member, true).await.unwrap();
        let voter = openraft::ChangeMembers::AddVoterIds([id].into());
        one.inner.raft.change_membership(voter, false).await.unwrap();
    }
    [one, two, three]
}

/// Waits until a node leads and knows the time.
pub(super) async fn leads<M: Machine>(node: &RaftNode<M>) {
    let mut watch = node.leadership();
    let led = tokio::time::timeout(LIMIT, watch.wait_for(|now| now.own.is_some())).await;
    led.unwrap().unwrap();
    until("cluster time", || node.cluster_now().is_some()).await;
}

/// Waits for a condition.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, wait).await.is_ok(), "waited {LIMIT:?} for {what}");
}
