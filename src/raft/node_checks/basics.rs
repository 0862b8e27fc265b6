//! A cluster elects, commits, forwards and restarts.

use std::net::TcpListener;

use horai_core::ids::Name;
use horai_core::machine::command::Command;
use horai_core::machine::outcome::Outcome;
use horai_core::machine::state::State;
use horai_core::model::cluster::ClusterSettings;
use horai_core::model::job::JobSpec;

use super::support::{LIMIT, Trace, ask, leads, node, store_dir, three, tick};
use crate::node::{Options, RaftNode};

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_elect_commit_and_forward() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two, three] = three::<Trace>(dir.path()).await;
    for through in [&one, &two, &three] {
        let mut hears = through.leadership();
        let heard = tokio::time::timeout(LIMIT, hears.wait_for(|now| now.leader.is_some())).await;
        heard.unwrap().unwrap();
        assert_eq!(through.propose(&tick("x"), LIMIT).await.unwrap(), Outcome::Done);
    }
    for reader in [&one, &two, &three] {
        reader.linearize(LIMIT).await.unwrap();
        assert_eq!(reader.read(|stamps| stamps.0.len()), 3);
    }
    let stamps = three.read(|trace| trace.0.as_ref().clone());
    let stamps: Vec<i64> = stamps.iter().map(|(stamp, _)| *stamp).collect();
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
    assert!(!one.is_founded().await.unwrap());
    one.init(member).await.unwrap();
    leads(&one).await;
    let job = Name::new("load").unwrap();
    let init = ask(Command::InitCluster(ClusterSettings::new(9)));
    assert_eq!(one.propose(&init, LIMIT).await.unwrap(), Outcome::Done);
    let spec = Box::new(JobSpec::noop(job.clone()));
    let apply = ask(Command::ApplyJob { spec, expected: None });
    let answer = one.propose(&apply, LIMIT).await.unwrap();
    assert!(matches!(answer, Outcome::Job { changed: true, .. }), "{answer:?}");
    let (hash, now) = one.read(|state| (state.hash(), state.now()));
    one.shutdown().await;

    // Nothing of the store is held any more.
    let stores = crate::open::open(&store_dir(dir.path(), 1)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = RaftNode::open(stores, State::default(), listener, &Options::default()).await;
    let one = one.unwrap();
    // At once, before the metrics know any member.
    assert!(one.is_founded().await.unwrap());
    leads(&one).await;
    one.linearize(LIMIT).await.unwrap();
    assert!(one.read(|state| state.job_by_name(&job).is_some()));
    assert_eq!(one.read(State::hash), hash);
    assert!(one.cluster_now().unwrap() >= now, "cluster time went back");
    one.shutdown().await;
}
