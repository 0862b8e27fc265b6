//! The services on a real node of one: log, disk, clock and events are real.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use horai_core::ids::*;
use horai_core::machine::command::*;
use horai_core::machine::outcome::Outcome;
use horai_core::machine::state::State;
use horai_core::model::cluster::ClusterSettings;
use horai_raft::{Member, Options, RaftNode};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::support::*;
use crate::leader::events::EventHub;
use crate::leader::{Counters, run};

const LIMIT: Duration = Duration::from_secs(10);

async fn user(node: &RaftNode<State>, command: Command) -> Outcome {
    let envelope = Envelope { actor: Actor::User("test".to_owned()), request: None, command };
    node.propose(&envelope, LIMIT).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_node_fires_and_dispatches_once() {
    let dir = tempfile::tempdir().unwrap();
    let stores = horai_raft::open::create(dir.path(), Uuid::from_u128(9), 1).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let member = Member {
        raft_addr: listener.local_addr().unwrap().to_string(),
        store_uuid: stores.identity.get().store.as_u128(),
        ..Member::default()
    };
    let hub = EventHub::new();
    let options = Options { observer: Some(hub.observer()), ..Options::default() };
    let node = RaftNode::open(stores, State::default(), listener, &options).await.unwrap();
    let node = Arc::new(node);
    node.init(member).await.unwrap();
    let (told, counters) = (Told::new(), Arc::new(Counters::default()));
    let stop = CancellationToken::new();
    let services = tokio::spawn(run(
        Arc::clone(&node),
        told.clone(),
        hub,
        Arc::clone(&counters),
        stop.clone(),
    ));
    until("leading", || !told.leads().is_empty()).await;
    user(&node, Command::InitCluster(ClusterSettings::new(9))).await;
    let attach = Command::AttachWorker(Box::new(profile("w", &["default"], 10_000)));
    let Outcome::Worker { worker } = user(&node, attach).await else { panic!("no worker") };
    told.connect(worker);
    let mut jobs = Vec::new();
    for n in 0..20 {
        let spec = Box::new(spec(&format!("j{n}"), &["* * * * * ?"], &[]));
        match user(&node, Command::ApplyJob { spec, expected: None }).await {
            Outcome::Job { job, .. } => jobs.push(job),
            other => panic!("{other:?}"),
        }
    }
    until("three fires each", || told.starts().len() >= 60).await;
    // A crowd by hand, in groups: more than is under way at once.
    let crowd: Vec<Envelope> = (0..5_000)
        .map(|n: usize| Envelope {
            actor: Actor::User("test".to_owned()),
            request: None,
            command: Command::TriggerJob { job: jobs[n % jobs.len()] },
        })
        .collect();
    for group in crowd.chunks(500) {
        let made = node.propose_all(group.to_vec(), LIMIT).await;
        assert!(made.iter().all(|m| matches!(m, Ok(Outcome::Run { .. }))), "{:?}", made.first());
    }
    until("all of the crowd", || {
        node.read(|state| state.queue_len() == 0) && told.starts().len() >= 5_060
    })
    .await;
    stop.cancel();
    services.await.unwrap();
    let starts = told.starts();
    let runs: BTreeSet<RunId> = starts.iter().map(|(_, run)| *run).collect();
    assert_eq!(runs.len(), starts.len(), "each run is told once");
    assert_eq!(counters.duplicates.load(Relaxed), 0);
    assert_eq!(counters.restarts.load(Relaxed), 0);
    node.read(|state| {
        let untold = state.running_on(worker).filter(|run| !runs.contains(&run.id)).count();
        assert_eq!(untold, 0, "committed and not told");
        for job in jobs {
            let fires: Vec<i64> = state
                .runs_of_job(job, None)
                .filter_map(|run| Some(run.action?.nominal.0 / 1000))
                .collect();
            let gaps = fires.windows(2).filter(|pair| pair[0] != pair[1] + 1).count();
            assert!(fires.len() >= 3 && gaps == 0, "job {job}: {fires:?}");
        }
    });
}
