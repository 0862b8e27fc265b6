//! Three real nodes in one process, on real disks and sockets.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use horai_core::machine::command::{Actor, Command, Envelope};
use horai_core::machine::outcome::{Applied, Outcome};
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

async fn node(dir: &std::path::Path, id: u64) -> (RaftNode<Stamps>, Member) {
    let stores = crate::open::create(&dir.join(id.to_string()), Uuid::from_u128(9), id).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let member = Member {
        raft_addr: listener.local_addr().unwrap().to_string(),
        store_uuid: stores.identity.get().store.as_u128(),
        ..Member::default()
    };
    let options = Options::default();
    (RaftNode::open(stores, Stamps::default(), listener, &options).await.unwrap(), member)
}

async fn leads(node: &RaftNode<Stamps>) {
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
    let (one, first) = node(dir.path(), 1).await;
    let (two, second) = node(dir.path(), 2).await;
    let (three, third) = node(dir.path(), 3).await;
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
