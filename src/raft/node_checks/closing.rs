//! A node whose storage fails stops by itself and says why.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::support::{LIMIT, Trace, calm, leads, tick};
use crate::Closed;
use crate::host::OsHost;
use crate::identity::Identity;
use crate::node::RaftNode;
use crate::open;
use crate::sim_disk::{FailMode, SimDisk};
use crate::types::Member;

/// Log, snapshots and identity, each on its own disk.
#[derive(Default)]
struct Disks([SimDisk; 3]);

impl Disks {
    fn create(&self) -> open::Stores {
        let [log, snapshots, file] = self.0.clone();
        let identity = Identity::new(Uuid::from_u128(9), 1, Uuid::from_u128(91));
        open::create_on(
            Arc::new(OsHost),
            Arc::new(log),
            Arc::new(snapshots),
            Box::new(file),
            identity,
        )
        .unwrap()
    }

    fn open(&self) -> Result<open::Stores, open::Error> {
        let [log, snapshots, file] = self.0.clone();
        open::open_on(Arc::new(OsHost), Arc::new(log), Arc::new(snapshots), Box::new(file))
    }
}

async fn run(stores: open::Stores) -> (RaftNode<Trace>, Member) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let raft_addr = listener.local_addr().unwrap().to_string();
    let node = RaftNode::open(stores, Trace::default(), listener, &calm()).await.unwrap();
    (node, Member { raft_addr, ..Member::default() })
}

/// The call of the log's disk that fails.
#[derive(Debug, Clone, Copy)]
enum Call {
    Write,
    Read,
}

/// Runs a node until its log's disk fails with `kind`, and gives the reason.
async fn broken_by(call: Call, kind: io::ErrorKind) -> (Disks, String) {
    let disks = Disks::default();
    let (node, member) = run(disks.create()).await;
    node.init(member).await.unwrap();
    leads(&node).await;
    node.propose(&tick("before"), LIMIT).await.unwrap();
    let mut closed = node.closed();
    match call {
        Call::Write => disks.0[0].fail_at(disks.0[0].calls() + 1, FailMode::Before, kind),
        Call::Read => disks.0[0].fail_reads(kind),
    }
    let refused = node.propose(&tick("after"), Duration::from_secs(2)).await;
    assert!(refused.is_err(), "acknowledged on a broken disk");
    let reason = tokio::time::timeout(LIMIT, closed.wait_for(Option::is_some)).await;
    let reason = reason.expect("it closes").unwrap().clone();
    let Some(Closed::StorageFailed(text)) = reason else { panic!("closed by {reason:?}") };
    assert!(node.leadership().borrow().leader.is_none());
    // Whoever reads is told to ask another node, not that the request was wrong.
    let read = node.linearize(Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(read, crate::node::Error::NoLeader(_)), "{read}");
    node.shutdown().await;
    drop(node);
    disks.0[0].crash(0);
    (disks, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_the_node_until_there_is_space() {
    // sled may tell a reader first.
    for call in [Call::Write, Call::Read] {
        let (disks, text) = broken_by(call, io::ErrorKind::StorageFull).await;
        assert!(text.contains("free space"), "{call:?}: {text}");
        let (node, _) = run(disks.open().unwrap()).await;
        leads(&node).await;
        node.propose(&tick("again"), LIMIT).await.unwrap();
        let names = node.read(Trace::names);
        assert_eq!(names.first().map(String::as_str), Some("before"), "{names:?}");
        assert_eq!(names.last().map(String::as_str), Some("again"), "{names:?}");
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_disk_stops_the_node_for_good() {
    for call in [Call::Write, Call::Read] {
        let (disks, text) = broken_by(call, io::ErrorKind::Other).await;
        assert!(!text.contains("free space"), "{call:?}: {text}");
        let Err(refused) = disks.open() else { panic!("it was opened") };
        assert!(matches!(refused, open::Error::Suspect { .. }), "{refused}");
    }
}
