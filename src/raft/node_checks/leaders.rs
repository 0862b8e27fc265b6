//! Leadership moves, on purpose and by loss.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use horai_core::ids::NodeId;
use horai_core::machine::command;
use horai_core::machine::outcome::Outcome;
use openraft::Membership;
use openraft::async_runtime::WatchReceiver;

use super::support::{LIMIT, Trace, leads, three, tick, until};
use crate::types::{EntryPayload, Member};

/// How often a race is run.
const ROUNDS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn after_a_transfer_the_old_leader_may_leave_at_once() {
    for round in 0..ROUNDS {
        let dir = tempfile::tempdir().unwrap();
        let [one, two, three] = three::<Trace>(dir.path()).await;
        one.propose(&tick("before"), LIMIT).await.unwrap();
        let began = Instant::now();
        // Two may be silent for a while, on a machine that does other things.
        while let Err(error) = one.transfer(NodeId(2)).await {
            assert!(matches!(error, crate::Error::Refused(_)), "{error:?}");
            assert!(began.elapsed() < LIMIT, "still {error:?}");
        }
        leads(&two).await;
        one.shutdown().await;
        // Without a second try: who says that it leads takes proposals.
        let command = Bytes::from(command::encode(&tick("after")).unwrap());
        let deadline = tokio::time::Instant::now() + LIMIT;
        let done = two.inner.intake.submit(vec![command], true, deadline).await;
        assert!(matches!(done[..], [Ok((Outcome::Done, _))]), "round {round}: {done:?}");
        two.shutdown().await;
        three.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_leader_is_replaced_and_proposals_go_on() {
    for graceful in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let [one, two, three] = three::<Trace>(dir.path()).await;
        one.propose(&tick("before"), LIMIT).await.unwrap();
        let began = Instant::now();
        if graceful {
            one.shutdown().await
        } else {
            drop(one)
        }
        for (node, name) in [(&two, "two"), (&three, "three")] {
            // A forward that broke is asked again, as a client with a request id would.
            while let Err(error) = node.propose(&tick(name), LIMIT).await {
                assert!(matches!(error, crate::Error::OutcomeUnknown), "{error:?}");
                assert!(began.elapsed() < LIMIT, "still {error:?}");
            }
        }
        assert!(began.elapsed() < LIMIT / 2, "took {:?}", began.elapsed());
        three.linearize(LIMIT).await.unwrap();
        let names = three.read(Trace::names);
        for name in ["before", "two", "three"] {
            assert!(names.iter().any(|found| found == name), "{name} is not in {names:?}");
        }
        two.shutdown().await;
        three.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_finishes_a_change_of_members() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two, three] = three::<Trace>(dir.path()).await;
    // As if the leader died after the first half of taking node 3 out.
    let joint = {
        let metrics = one.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.membership();
        let nodes = members.nodes().map(|(id, member)| (*id, member.clone()));
        let nodes: BTreeMap<u64, Member> = nodes.collect();
        Membership::new(vec![[1, 2, 3].into(), [1, 2].into()], nodes).unwrap()
    };
    one.inner.raft.append_membership(joint, EntryPayload::Blank, []).await.unwrap();
    one.inner.raft.trigger().transfer_leader(2).await.unwrap();
    leads(&two).await;
    until("node 3 to be out", || {
        [&one, &two].iter().all(|node| {
            let metrics = node.inner.raft.metrics();
            let metrics = metrics.borrow_watched();
            let configs = metrics.membership_config.membership().get_joint_config().clone();
            configs == [[1, 2].into()]
        })
    })
    .await;
    for node in [one, two, three] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_stop_hands_over_first() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two, three] = three::<Trace>(dir.path()).await;
    one.hand_over().await.unwrap();
    let leader = two.leadership().borrow().leader.or(three.leadership().borrow().leader);
    assert!(leader.is_some_and(|leader| leader != NodeId(1)), "{leader:?}");
    // Whoever does not lead has nothing to hand over.
    one.hand_over().await.unwrap();
    one.shutdown().await;
    two.propose(&tick("after"), LIMIT).await.unwrap();
    two.shutdown().await;
    three.shutdown().await;

    let dir = tempfile::tempdir().unwrap();
    let (only, member) = super::support::node::<Trace>(dir.path(), 1).await;
    only.init(member).await.unwrap();
    leads(&only).await;
    only.hand_over().await.unwrap();
    assert!(only.leadership().borrow().own.is_some());
    only.shutdown().await;
}
