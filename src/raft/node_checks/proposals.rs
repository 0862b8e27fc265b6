//! Groups of commands: order, size, and who hears of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use horai_core::ids::Name;
use horai_core::machine::command::Command;
use horai_core::machine::outcome::Outcome;
use horai_core::machine::state::State;
use horai_core::model::cluster::ClusterSettings;
use horai_core::model::job::JobSpec;

use super::support::{LIMIT, Trace, ask, calm, leads, node, node_with, three, tick};
use crate::node::{Error, Options};
use crate::state_machine::Heard;

#[tokio::test(flavor = "multi_thread")]
async fn a_group_keeps_its_order_through_any_node() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = three::<Trace>(dir.path()).await;
    let mut expected = Vec::new();
    // One entry, several entries, and more entries than may be in flight.
    for (node, count) in [(0, 10), (1, 10), (0, 1_000), (1, 1_000), (0, 20_000)] {
        let names: Vec<String> = (0..count).map(|n| format!("{node}-{count}-{n}")).collect();
        let group = names.iter().map(|name| tick(name.as_str())).collect();
        let answers = nodes[node].propose_all(group, LIMIT).await;
        assert_eq!(answers.len(), count);
        for answer in answers {
            assert_eq!(answer.unwrap(), Outcome::Done);
        }
        expected.extend(names);
    }
    for node in &nodes {
        node.linearize(LIMIT).await.unwrap();
        assert_eq!(node.read(Trace::names), expected);
    }
    for node in nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_share_entries_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let (one, member) = node::<Trace>(dir.path(), 1).await;
    one.init(member).await.unwrap();
    leads(&one).await;
    let before = one.status().applied;
    let one = Arc::new(one);
    let callers: Vec<_> = (0..64)
        .map(|caller| {
            let one = Arc::clone(&one);
            tokio::spawn(async move {
                for n in 0..20 {
                    one.propose(&tick(format!("{caller}-{n}")), LIMIT).await.unwrap();
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let entries = one.status().applied - before;
    assert_eq!(one.read(|trace| trace.0.len()), 64 * 20);
    assert!(entries < 64 * 20 / 4, "{entries} entries for 1280 commands");
    Arc::into_inner(one).unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_too_large_command_leaves_the_others_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (one, member) = node::<Trace>(dir.path(), 1).await;
    one.init(member).await.unwrap();
    leads(&one).await;
    let large = "x".repeat(crate::types::MAX_COMMAND);
    let answers = one.propose_all(vec![tick("a"), tick(large), tick("b")], LIMIT).await;
    assert!(matches!(answers[0], Ok(Outcome::Done)), "{:?}", answers[0]);
    assert!(matches!(answers[1], Err(Error::TooLarge(_))), "{:?}", answers[1]);
    assert!(matches!(answers[2], Ok(Outcome::Done)), "{:?}", answers[2]);
    assert_eq!(one.read(Trace::names), ["a", "b"]);
    assert!(one.propose_all(Vec::new(), LIMIT).await.is_empty());
    one.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_leader_a_proposal_waits_for_its_limit_and_is_certain() {
    let dir = tempfile::tempdir().unwrap();
    let (one, _) = node::<Trace>(dir.path(), 1).await;
    let limit = Duration::from_millis(200);
    let began = Instant::now();
    let refused = one.propose(&tick("a"), limit).await;
    assert!(matches!(refused, Err(Error::NoLeader(None))), "{refused:?}");
    assert!(began.elapsed() >= limit / 2, "gave up after {:?}", began.elapsed());
    one.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_hears_events_after_they_are_applied() {
    let dir = tempfile::tempdir().unwrap();
    let heard = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&heard);
    let options = Options {
        observer: Some(Arc::new(move |news: Heard<'_>| {
            if let Heard::Events(index, events) = news {
                assert!(!events.is_empty());
                told.fetch_max(index, Ordering::SeqCst);
            }
        })),
        ..calm()
    };
    let (one, member) = node_with::<State>(dir.path(), 1, &options).await;
    one.init(member).await.unwrap();
    leads(&one).await;
    let spec = Box::new(JobSpec::noop(Name::new("load").unwrap()));
    let group = vec![
        ask(Command::InitCluster(ClusterSettings::new(9))),
        ask(Command::ApplyJob { spec, expected: None }),
    ];
    for answer in one.propose_all(group, LIMIT).await {
        assert!(!matches!(answer.unwrap(), Outcome::Rejected(_)));
    }
    let applied = one.inner.state.applied().borrow().map(|id| id.index);
    assert_eq!(Some(heard.load(Ordering::SeqCst)), applied);
    one.shutdown().await;
}
