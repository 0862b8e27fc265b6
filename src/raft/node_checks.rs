//! Three real nodes in one process, on real disks and sockets.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use horai_core::ids::Name;
use horai_core::machine::command::{Actor, Command, Envelope};
use horai_core::machine::outcome::{Applied, Outcome};
use horai_core::machine::state::State;
use horai_core::model::cluster::ClusterSettings;
use horai_core::model::job::JobSpec;
use horai_core::time::UtcMillis;
use uuid::Uuid;

use crate::node::{Options, RaftNode};
use crate::snapshot_store::Records;
use crate::state_machine::Machine;
use crate::types::Member;

/// Remembers each command's stamp.
#[derive(Clone, Default)]
struct Stamps(Arc<Vec<i64>>);

impl Machine for Stamps {
    type View = Self;

    fn apply(&mut self, _: u64, now: UtcMillis, _: &Envelope) -> Applied {
        Arc::make_mut(&mut self.0).push(now.0);
        Applied::default()
    }

    fn now(&self) -> UtcMillis {
        UtcMillis(self.0.last().copied().unwrap_or(0))
    }

    fn view(&self) -> Self {
        self.clone()
    }

    fn write(view: &Self, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        view.0.iter().try_for_each(|stamp| sink(&stamp.to_le_bytes()))
    }

    fn restore(records: &mut Records) -> io::Result<Self> {
        let read = |record: io::Result<Vec<u8>>| {
            let bytes = record?.try_into().map_err(|_| io::Error::other("not a stamp"))?;
            Ok(i64::from_le_bytes(bytes))
        };
        Ok(Self(Arc::new(records.map(read).collect::<io::Result<_>>()?)))
    }
}

const LIMIT: Duration = Duration::from_secs(10);

async fn node<M: Machine + Default>(dir: &std::path::Path, id: u64) -> (RaftNode<M>, Member) {
    let stores = crate::open::create(&dir.join(id.to_string()), Uuid::from_u128(9), id).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let member = Member {
        raft_addr: listener.local_addr().unwrap().to_string(),
        store_uuid: stores.identity.get().store.as_u128(),
        ..Member::default()
    };
    let options = Options::default();
    (RaftNode::open(stores, M::default(), listener, &options).await.unwrap(), member)
}

async fn leads<M: Machine>(node: &RaftNode<M>) {
    let mut watch = node.leadership();
    let led = tokio::time::timeout(LIMIT, watch.wait_for(|now| now.own.is_some())).await;
    led.unwrap().unwrap();
    tokio::time::timeout(LIMIT, async {
        while node.cluster_now().is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_elect_commit_and_forward() {
    let dir = tempfile::tempdir().unwrap();
    let (one, first) = node::<Stamps>(dir.path(), 1).await;
    let (two, second) = node::<Stamps>(dir.path(), 2).await;
    let (three, third) = node::<Stamps>(dir.path(), 3).await;
    one.init(first).await.unwrap();
    leads(&one).await;
    for (id, member) in [(2, second), (3, third)] {
        one.add_learner(horai_core::ids::NodeId(id), member).await.unwrap();
        one.promote(horai_core::ids::NodeId(id)).await.unwrap();
    }
    let tick =
        Envelope { actor: Actor::User("test".to_owned()), request: None, command: Command::Tick };
    for through in [&one, &two, &three] {
        let mut hears = through.leadership();
        let heard = tokio::time::timeout(LIMIT, hears.wait_for(|now| now.leader.is_some())).await;
        heard.unwrap().unwrap();
        assert_eq!(through.propose(&tick, LIMIT).await.unwrap(), Outcome::Done);
    }
    for reader in [&one, &two, &three] {
        reader.linearize(LIMIT).await.unwrap();
        assert_eq!(reader.read(|stamps| stamps.0.len()), 3);
    }
    let stamps = three.read(|stamps| stamps.0.as_ref().clone());
    assert_eq!(stamps.len(), 3);
    assert!(stamps.is_sorted(), "{stamps:?}");
    assert_eq!(three.status().members.len(), 3);
    one.shutdown().await;
    two.shutdown().await;
    three.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (one, member) = node::<State>(dir.path(), 1).await;
    one.init(member).await.unwrap();
    leads(&one).await;
    let ask = |command| Envelope { actor: Actor::User("test".to_owned()), request: None, command };
    let job = Name::new("load").unwrap();
    let init = ask(Command::InitCluster(ClusterSettings::new(9)));
    assert_eq!(one.propose(&init, LIMIT).await.unwrap(), Outcome::Done);
    let spec = Box::new(JobSpec::noop(job.clone()));
    let apply = ask(Command::ApplyJob { spec, expected: None });
    let answer = one.propose(&apply, LIMIT).await.unwrap();
    assert!(matches!(answer, Outcome::Job { changed: true, .. }), "{answer:?}");
    let (hash, now) = one.read(|state| (state.hash(), state.now()));
    one.shutdown().await;

    // The last handles go with threads that end soon after the shutdown.
    let stores = tokio::time::timeout(LIMIT, async {
        loop {
            match crate::open::open(&dir.path().join("1")) {
                Err(crate::open::Error::InUse(_)) => tokio::task::yield_now().await,
                other => break other.unwrap(),
            }
        }
    });
    let stores = stores.await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = RaftNode::open(stores, State::default(), listener, &Options::default()).await;
    let one = one.unwrap();
    leads(&one).await;
    one.linearize(LIMIT).await.unwrap();
    assert!(one.read(|state| state.job_by_name(&job).is_some()));
    assert_eq!(one.read(State::hash), hash);
    assert!(one.cluster_now().unwrap() >= now, "cluster time went back");
    one.shutdown().await;
}
