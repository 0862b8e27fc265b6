//! Snapshots are taken, the log behind them goes, and nobody loses anything.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use horai_core::ids::Name;
use horai_core::machine::command::Command;
use horai_core::machine::outcome::Outcome;
use horai_core::machine::state::State;
use horai_core::model::cluster::ClusterSettings;
use horai_core::model::job::JobSpec;

use super::support::{LIMIT, ask, calm, leads, store_dir, three_with, until};
use crate::growth::SnapshotOptions;
use crate::node::{Error, Options, RaftNode};
use crate::state_machine::Heard;

/// Snapshots often, and keeps little log.
fn often() -> Options {
    let snapshots = SnapshotOptions {
        commands: 300,
        bytes: 1 << 20,
        every: Duration::from_millis(100),
        keep_bytes: 8 << 10,
    };
    Options { snapshots, ..calm() }
}

async fn write_jobs(node: &RaftNode<State>, from: usize, count: usize) {
    for chunk in (from..from + count).collect::<Vec<_>>().chunks(50) {
        let group = chunk
            .iter()
            .map(|n| {
                let spec = Box::new(JobSpec::noop(Name::new(&format!("job-{n}")).unwrap()));
                ask(Command::ApplyJob { spec, expected: None })
            })
            .collect();
        for answer in node.propose_all(group, LIMIT).await {
            assert!(matches!(answer.unwrap(), Outcome::Job { changed: true, .. }));
        }
    }
}

async fn reopen(dir: &Path, id: u64, addr: &str, options: &Options) -> RaftNode<State> {
    let stores = crate::open::open(&store_dir(dir, id)).unwrap();
    let listener = TcpListener::bind(addr).unwrap();
    RaftNode::open(stores, State::default(), listener, options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_far_behind_and_a_restart_come_up_from_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two, three] = three_with::<State>(dir.path(), &often()).await;
    let init = ask(Command::InitCluster(ClusterSettings::new(9)));
    assert_eq!(one.propose(&init, LIMIT).await.unwrap(), Outcome::Done);
    write_jobs(&one, 0, 100).await;
    let members = one.status().members;
    let address = |id| members[&horai_core::ids::NodeId(id)].0.raft_addr.clone();
    three.linearize(LIMIT).await.unwrap();
    three.shutdown().await;
    let seen = three.status().last_log;

    write_jobs(&one, 100, 1_000).await;
    until("the log to be purged", || [&one, &two].iter().all(|node| node.status().purged > seen))
        .await;
    let status = one.status();
    assert!(status.snapshot >= status.purged, "{status:?}");

    let replaced = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&replaced);
    let observer = Arc::new(move |news: Heard<'_>| {
        if matches!(news, Heard::Replaced) {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let options = Options { observer: Some(observer), ..often() };
    let three = reopen(dir.path(), 3, &address(3), &options).await;
    until("a leader", || three.status().leadership.leader.is_some()).await;
    write_jobs(&three, 1_100, 50).await;
    three.linearize(LIMIT).await.unwrap();
    assert!(replaced.load(Ordering::SeqCst) > 0, "it came up by the log");
    one.linearize(LIMIT).await.unwrap();
    let hash = one.read(State::hash);
    assert_eq!(three.read(State::hash), hash);
    assert_eq!(one.read(|state| state.jobs_after(None).count()), 1_150);

    // All of them restart at once, from snapshot and log.
    for node in [&one, &two, &three] {
        node.shutdown().await;
    }
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(reopen(dir.path(), id, &address(id), &often()).await);
    }
    for node in &nodes {
        node.linearize(LIMIT).await.unwrap();
        assert_eq!(node.read(State::hash), hash, "node {}", node.status().node);
    }
    for node in nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_asked_for_covers_what_is_applied_and_outlives_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let (one, member) = super::support::node_with::<State>(dir.path(), 1, &calm()).await;
    let early = one.take_snapshot(LIMIT).await.unwrap_err();
    assert!(matches!(&early, Error::Refused(text) if text.contains("nothing")), "{early}");

    one.init(member.clone()).await.unwrap();
    leads(&one).await;
    let init = ask(Command::InitCluster(ClusterSettings::new(9)));
    one.propose(&init, LIMIT).await.unwrap();
    write_jobs(&one, 0, 100).await;
    assert_eq!(one.status().snapshot, 0, "none is taken by itself yet");
    let applied = one.status().applied;
    // Asked for by many at once, it is one and the same.
    let (some, other) = tokio::join!(one.take_snapshot(LIMIT), one.take_snapshot(LIMIT));
    let (some, other) = (some.unwrap(), other.unwrap());
    assert!(some >= applied && other >= applied, "{some} and {other}, {applied} applied");
    assert_eq!(one.take_snapshot(LIMIT).await.unwrap(), some.max(other), "nothing new to cover");
    assert_eq!(one.status().purged, 0, "the log behind it is kept as before");

    write_jobs(&one, 100, 50).await;
    // No time is too little, and does not stop what was begun.
    let late = one.take_snapshot(Duration::ZERO).await.unwrap_err();
    assert!(matches!(late, Error::SnapshotLate { .. }), "{late}");
    let covered = one.take_snapshot(LIMIT).await.unwrap();
    assert!(covered >= one.status().applied && covered > some);
    write_jobs(&one, 150, 10).await;
    let hash = one.read(State::hash);
    one.shutdown().await;
    let ended = one.take_snapshot(LIMIT).await.unwrap_err();
    assert!(matches!(ended, Error::Stopped), "{ended}");

    let one = reopen(dir.path(), 1, &member.raft_addr, &calm()).await;
    leads(&one).await;
    one.linearize(LIMIT).await.unwrap();
    assert!(one.status().snapshot >= covered, "{:?}", one.status());
    assert_eq!(one.read(State::hash), hash);
    one.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_free_as_soon_as_the_node_is_shut_down() {
    let dir = tempfile::tempdir().unwrap();
    let (one, member) = super::support::node_with::<State>(dir.path(), 1, &often()).await;
    one.init(member.clone()).await.unwrap();
    leads(&one).await;
    let init = ask(Command::InitCluster(ClusterSettings::new(9)));
    one.propose(&init, LIMIT).await.unwrap();
    let mut node = one;
    for round in 0..5 {
        // Enough for a snapshot to be under way.
        write_jobs(&node, round * 300, 300).await;
        node.shutdown().await;
        node = reopen(dir.path(), 1, &member.raft_addr, &often()).await;
        leads(&node).await;
        node.linearize(LIMIT).await.unwrap();
        assert_eq!(node.read(|state| state.jobs_after(None).count()), (round + 1) * 300);
    }
    node.shutdown().await;
}
