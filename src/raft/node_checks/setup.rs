//! How openraft is set up, and what it is told of peers that do not answer.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use openraft::SnapshotPolicy;
use openraft::errors::RPCError;
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::VoteRequest;

use super::support::{LIMIT, Trace, leads, node, tick};
use crate::host::OsHost;
use crate::network::channels::Channels;
use crate::network::client::Links;
use crate::network::{Local, Shared};
use crate::node::{Error, Options};
use crate::types::{Member, TypeConfig, Vote};

#[test]
fn openraft_is_set_up_as_its_pitfalls_ask() {
    let options = Options::default();
    let config = options.config().unwrap();
    // The committed mark is lazy: whoever restarts must be elected.
    assert_eq!(config.enable_leader_restore, Some(false));
    // A follower whose log went back was wiped, and is not to be taken back.
    assert_ne!(config.allow_log_reversion, Some(true));
    assert_eq!(config.enable_pre_vote, Some(true));
    // The lease is the longest election time-out; a one-way cut ends after both.
    let longest = u64::try_from(options.election_max.as_millis()).unwrap();
    assert_eq!(config.election_timeout_max, longest);
    assert_eq!(config.quorum_loss_probe_interval, Some(4 * longest));
    // Both suppress what the timing above counts on.
    assert_eq!(config.heartbeat_min_interval.unwrap_or(0), 0);
    assert!(!config.broadcast_submitted_on_append.unwrap_or(false));
    // Snapshots and purges are triggered by commands and bytes, not by entries.
    assert_eq!(config.snapshot_policy, SnapshotPolicy::Never);
    assert_eq!(config.max_in_snapshot_log_to_keep, u64::MAX);
    assert_eq!(config.backoff, "50ms 50ms 50ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_begins_once() {
    let dir = tempfile::tempdir().unwrap();
    let (one, member) = node::<Trace>(dir.path(), 1).await;
    one.init(member.clone()).await.unwrap();
    leads(&one).await;
    one.propose(&tick("first"), LIMIT).await.unwrap();
    let again = one.init(member).await;
    assert!(matches!(again, Err(Error::Refused(_))), "{again:?}");
    one.shutdown().await;
}

#[tokio::test]
async fn a_peer_that_is_down_is_unreachable_and_a_silent_one_costs_its_deadline() {
    const HARD: Duration = Duration::from_millis(400);
    let local = Local { cluster: 9, node: 1, store: 91 };
    let shared = Arc::new(Shared::new(local, Arc::new(OsHost)));
    let mut links = Links::new(shared, Arc::new(Channels::default()));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = |listener: &TcpListener| Member {
        raft_addr: listener.local_addr().unwrap().to_string(),
        ..Member::default()
    };
    let down = at(&TcpListener::bind("127.0.0.1:0").unwrap());
    let request = || VoteRequest::<TypeConfig>::new(Vote::new(2, 1), None);

    let mut link = links.new_heartbeat_client(2, &down).await;
    let refused = link.vote(request(), RPCOption::new(HARD)).await;
    assert!(matches!(refused, Err(RPCError::Unreachable(_))), "{refused:?}");
    let mut link = links.new_heartbeat_client(3, &at(&silent)).await;
    // The earlier deadline comes first however late both of them are seen.
    let late = tokio::time::timeout(HARD, link.vote(request(), RPCOption::new(HARD))).await;
    let late = late.expect("openraft would have given up first");
    assert!(matches!(late, Err(RPCError::Network(_))), "{late:?}");
}
