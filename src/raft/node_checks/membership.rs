//! Nodes come, go and take each other's place, while proposals go on.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use horai_core::ids::{Name, NodeId};
use horai_core::machine::command::Command;
use horai_core::machine::outcome::Outcome;
use horai_core::machine::state::State;
use horai_core::model::access::{AccessToken, TokenPurpose};
use horai_core::model::cluster::ClusterSettings;
use horai_core::time::UtcMillis;
use uuid::Uuid;

use super::support::{LIMIT, ask, calm, leads, node, store_dir, until};
use crate::Closed;
use crate::host::OsHost;
use crate::membership::admission::{self, AskError, token_hash};
use crate::node::{Error, RaftNode};
use crate::open;
use crate::types::Member;

const TOKEN: &str = "let-me-in";

/// A change of members, on a busy machine.
const LONG: Duration = Duration::from_secs(30);

/// A node with the address that others know it by.
struct Peer {
    node: RaftNode<State>,
    member: Member,
}

/// A founded cluster with a token that lets nodes in.
async fn found(dir: &Path) -> Peer {
    let (one, member) = node::<State>(dir, 1).await;
    one.init(member.clone()).await.unwrap();
    leads(&one).await;
    let token = AccessToken {
        purpose: TokenPurpose::Join,
        hash: token_hash(TOKEN),
        expires: None,
        created: UtcMillis(0),
    };
    let group = vec![
        ask(Command::InitCluster(ClusterSettings::new(9))),
        ask(Command::PutToken { name: Name::new("join").unwrap(), token }),
    ];
    for answer in one.propose_all(group, LIMIT).await {
        assert_eq!(answer.unwrap(), Outcome::Done);
    }
    Peer { node: one, member }
}

/// Lets a node in and starts it; it is no voter yet.
async fn start(dir: &Path, seeds: &[String], replaces: Option<NodeId>) -> Peer {
    let store = Uuid::new_v4();
    let admitted = admission::ask(&OsHost, seeds, TOKEN, store, replaces, LONG).await.unwrap();
    let id = admitted.node.0;
    let stores = open::create_as(&store_dir(dir, id), admitted.cluster, id, store).unwrap();
    run(stores).await
}

async fn run(stores: open::Stores) -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let member = Member {
        raft_addr: listener.local_addr().unwrap().to_string(),
        store_uuid: stores.identity.get().store.as_u128(),
        ..Member::default()
    };
    let node = RaftNode::open(stores, State::default(), listener, &calm()).await.unwrap();
    Peer { node, member }
}

async fn enter(peer: &Peer, seeds: &[String]) -> Result<(), Error> {
    let entered = peer.node.enter(seeds, peer.member.clone());
    tokio::time::timeout(LONG, entered).await.expect("the node enters in time")
}

/// Lets a node in, starts it and waits until it votes.
async fn join(dir: &Path, seeds: &[String], replaces: Option<NodeId>) -> Peer {
    let peer = start(dir, seeds, replaces).await;
    enter(&peer, seeds).await.unwrap();
    peer
}

fn voters(node: &RaftNode<State>) -> Vec<u64> {
    let members = node.status().members;
    members.into_iter().filter(|(_, (_, votes))| *votes).map(|(id, _)| id.0).collect()
}

async fn sees_voters(node: &RaftNode<State>, expected: &[u64]) {
    until(&format!("voters {expected:?}"), || voters(node) == expected).await;
}

async fn closes(node: &RaftNode<State>) -> Closed {
    let mut closed = node.closed();
    let reason = tokio::time::timeout(LONG, closed.wait_for(Option::is_some)).await;
    reason.expect("the node closes in time").unwrap().clone().unwrap()
}

/// Proposes through one node until told to stop; every refusal must be certain
/// or honest about being unknown.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

fn load(node: &Arc<Peer>) -> Load {
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (halt, count, node) = (Arc::clone(&stop), Arc::clone(&done), Arc::clone(node));
    let task = tokio::spawn(async move {
        while !halt.load(Ordering::SeqCst) {
            match node.node.propose(&ask(Command::Tick), LIMIT).await {
                Ok(_) => drop(count.fetch_add(1, Ordering::SeqCst)),
                Err(Error::OutcomeUnknown) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    });
    Load { stop, done, task }
}

impl Load {
    /// Waits until more was committed than before this call.
    async fn goes_on(&self) {
        let before = self.done.load(Ordering::SeqCst);
        until("more proposals", || self.done.load(Ordering::SeqCst) > before + 5).await;
    }

    async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_grows_to_five_and_shrinks_to_three_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let one = found(dir.path()).await;
    let seeds = [one.member.raft_addr.clone()];
    let two = Arc::new(join(dir.path(), &seeds, None).await);
    let load = load(&two);
    let mut others = Vec::new();
    for _ in 0..3 {
        // Through a node that does not lead, too.
        let seed = [two.member.raft_addr.clone()];
        others.push(join(dir.path(), &seed, None).await);
    }
    sees_voters(&two.node, &[1, 2, 3, 4, 5]).await;
    load.goes_on().await;

    // The leader itself goes, asked of another node.
    others[0].node.remove(NodeId(1)).await.unwrap();
    assert_eq!(closes(&one.node).await, Closed::Removed);
    load.goes_on().await;
    let last = others.pop().unwrap();
    last.node.remove(NodeId(5)).await.unwrap();
    assert_eq!(closes(&last.node).await, Closed::Removed);
    load.goes_on().await;
    load.end().await;

    two.node.linearize(LIMIT).await.unwrap();
    sees_voters(&two.node, &[2, 3, 4]).await;
    assert!(two.node.read(|state| {
        [1, 5].iter().all(|id| state.node_record(NodeId(*id)).is_some_and(|r| r.retired.is_some()))
    }));
    let refused = two.node.propose(&ask(Command::Tick), LIMIT).await;
    assert!(refused.is_ok(), "{refused:?}");
    // What was removed says so when it is started again.
    one.node.shutdown().await;
    last.node.shutdown().await;
    for id in [1, 5] {
        let again = open::open(&store_dir(dir.path(), id));
        let Err(refused) = again else { panic!("node {id} started again") };
        assert!(matches!(refused, open::Error::Retired(node) if node == id), "{refused:?}");
        assert!(refused.to_string().contains("horai cluster join"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_node_is_replaced_under_load_and_cannot_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let one = found(dir.path()).await;
    let seeds = [one.member.raft_addr.clone()];
    let two = Arc::new(join(dir.path(), &seeds, None).await);
    let three = join(dir.path(), &seeds, None).await;
    let load = load(&two);
    let lost = three.member.clone();
    three.node.shutdown().await;

    let four = join(dir.path(), &seeds, Some(NodeId(3))).await;
    load.goes_on().await;
    load.end().await;
    sees_voters(&four.node, &[1, 2, 4]).await;
    four.node.linearize(LIMIT).await.unwrap();
    assert!(four.node.read(|state| {
        state.node_record(NodeId(3)).is_some_and(|record| record.retired.is_some())
    }));

    // It was away when it was replaced, and learns it when it comes back.
    let stores = open::open(&store_dir(dir.path(), 3)).unwrap();
    let back = run(stores).await;
    assert_eq!(back.member.store_uuid, lost.store_uuid);
    // Whether or not it got to know that it was a voter, it announces itself.
    let refused = enter(&back, &seeds).await.unwrap_err();
    assert!(!matches!(refused, Error::NoLeader(_)), "{refused:?}");
    assert_eq!(closes(&back.node).await, Closed::Removed);
    assert_eq!(voters(&one.node), [1, 2, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_twice_gives_the_same_number_and_strangers_get_none() {
    let dir = tempfile::tempdir().unwrap();
    let one = found(dir.path()).await;
    let seeds = ["127.0.0.1:1".to_owned(), one.member.raft_addr.clone()];
    let store = Uuid::new_v4();
    let first = admission::ask(&OsHost, &seeds, TOKEN, store, None, LIMIT).await.unwrap();
    let again = admission::ask(&OsHost, &seeds, TOKEN, store, None, LIMIT).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(first.node, NodeId(2));
    let other = admission::ask(&OsHost, &seeds, TOKEN, Uuid::new_v4(), None, LIMIT).await.unwrap();
    assert_eq!(other.node, NodeId(3));

    let wrong =
        admission::ask(&OsHost, &seeds, "wrong", Uuid::new_v4(), None, LIMIT).await.unwrap_err();
    assert!(matches!(&wrong, AskError::Denied(text) if text.contains("token")), "{wrong}");
    assert!(!wrong.to_string().contains("wrong"), "{wrong}");
    let nobody = Some(NodeId(77));
    let wrong =
        admission::ask(&OsHost, &seeds, TOKEN, Uuid::new_v4(), nobody, LIMIT).await.unwrap_err();
    assert!(matches!(&wrong, AskError::Refused(text) if text.contains("77")), "{wrong}");
    let limit = Duration::from_millis(300);
    let silent = ["127.0.0.1:1".to_owned()];
    let wrong = admission::ask(&OsHost, &silent, TOKEN, store, None, limit).await.unwrap_err();
    assert!(matches!(wrong, AskError::NoAnswer { .. }), "{wrong}");
    let wrong = admission::ask(&OsHost, &[], TOKEN, store, None, limit).await.unwrap_err();
    assert_eq!(wrong, AskError::NoSeeds);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_another_store_or_without_admission_does_not_enter() {
    let dir = tempfile::tempdir().unwrap();
    let one = found(dir.path()).await;
    let seeds = [one.member.raft_addr.clone()];
    let two = join(dir.path(), &seeds, None).await;
    sees_voters(&one.node, &[1, 2]).await;

    // For good only from a leader that a quorum follows: another may have let it in.
    let cluster = Uuid::from_u128(9);
    let stranger = run(open::create(&dir.path().join("stranger"), cluster, 9).unwrap()).await;
    let refused = enter(&stranger, &seeds).await.unwrap_err();
    assert!(refused.to_string().contains("horai cluster join"), "{refused}");
    two.node.shutdown().await;

    let wiped = run(open::create(&dir.path().join("wiped"), cluster, 2).unwrap()).await;
    let refused = enter(&wiped, &seeds).await.unwrap_err();
    assert!(refused.to_string().contains("horai cluster replace 2"), "{refused}");

    let elsewhere = Uuid::from_u128(8);
    let foreign = run(open::create(&dir.path().join("foreign"), elsewhere, 3).unwrap()).await;
    let refused = enter(&foreign, &seeds).await.unwrap_err();
    assert!(refused.to_string().contains("check addresses"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_would_break_the_quorum_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let one = found(dir.path()).await;
    let refused = one.node.remove(NodeId(1)).await.unwrap_err();
    assert!(refused.to_string().contains("last voter"), "{refused}");
    let refused = one.node.remove(NodeId(7)).await.unwrap_err();
    assert!(refused.to_string().contains("no member"), "{refused}");

    let seeds = [one.member.raft_addr.clone()];
    let two = join(dir.path(), &seeds, None).await;
    let three = join(dir.path(), &seeds, None).await;
    three.node.shutdown().await;
    // Node 3 stops being heard after a while; until then the answer may be another.
    let refused = loop {
        let gone = one.node.transfer(NodeId(3)).await.unwrap_err().to_string();
        if gone.contains("does not answer") {
            break one.node.remove(NodeId(2)).await.unwrap_err();
        }
    };
    assert!(refused.to_string().contains("voters must answer"), "{refused}");
    two.node.remove(NodeId(3)).await.unwrap();
    sees_voters(&two.node, &[1, 2]).await;
    let learner = start(dir.path(), &seeds, None).await;
    let refused = one.node.transfer(NodeId(4)).await.unwrap_err();
    assert!(refused.to_string().contains("node 4 is no member"), "{refused}");
    learner.node.shutdown().await;
    two.node.transfer(NodeId(2)).await.unwrap();
    assert_eq!(two.node.leadership().borrow().leader, Some(NodeId(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_moved_tells_its_new_address() {
    let dir = tempfile::tempdir().unwrap();
    let one = found(dir.path()).await;
    let seeds = [one.member.raft_addr.clone()];
    let two = join(dir.path(), &seeds, None).await;
    let three = join(dir.path(), &seeds, None).await;
    let old = three.member.raft_addr.clone();
    three.node.shutdown().await;
    let stores = open::open(&store_dir(dir.path(), 3)).unwrap();
    let three = run(stores).await;
    assert_ne!(three.member.raft_addr, old);
    enter(&three, &seeds).await.unwrap();
    two.node.propose(&ask(Command::Tick), LIMIT).await.unwrap();
    // It follows at its new address: without node 2, it is needed for the quorum.
    two.node.shutdown().await;
    one.node.propose(&ask(Command::Tick), LIMIT).await.unwrap();
    three.node.linearize(LIMIT).await.unwrap();
    let now = three.node.status().members[&NodeId(3)].0.clone();
    assert_eq!(now, three.member);
}
