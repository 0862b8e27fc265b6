//! Leadership moves, on purpose and by loss.

use std::time::Instant;

use bytes::Bytes;
use horai_core::ids::NodeId;
use horai_core::machine::command;
use horai_core::machine::outcome::Outcome;

use super::support::{LIMIT, Trace, leads, three, tick};

/// How often a race is run.
const ROUNDS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn after_a_transfer_the_old_leader_may_leave_at_once() {
    for round in 0..ROUNDS {
        let dir = tempfile::tempdir().unwrap();
        let [one, two, three] = three::<Trace>(dir.path()).await;
        one.propose(&tick("before"), LIMIT).await.unwrap();
        one.transfer(NodeId(2)).await.unwrap();
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
            let done = node.propose(&tick(name), LIMIT).await;
            if let Err(error) = &done {
                assert!(matches!(error, crate::Error::OutcomeUnknown), "{error:?}");
                node.propose(&tick(name), LIMIT).await.unwrap();
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
