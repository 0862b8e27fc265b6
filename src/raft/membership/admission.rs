//! A node that does not exist yet asks to be let in, and gets its number.
//!
//! Asked with a token, over the Raft port of any node, before there is a store.
//! The number belongs to the store id of the request: asking again with the
//! same one gives the same number, so that an answer that got lost costs
//! nothing. The token is in the request only, never in a log or an error.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use horai_core::ids::NodeId;
use horai_core::machine::command::{self, Actor, Command, Envelope};
use horai_core::machine::outcome::{Outcome, Reject};
use horai_core::model::access::TokenHash;
use horai_proto::raft as pb;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use uuid::Uuid;

use crate::host::Host;
use crate::inner::Inner;
use crate::network::channels::{self, Client, own};
use crate::node::Error;
use crate::state_machine::Machine;

/// Between two rounds over all seeds.
const ROUND: Duration = Duration::from_millis(200);
/// One node's time to answer.
const CALL: Duration = Duration::from_secs(5);
/// Hints to a leader followed in one round.
const HINTS: usize = 4;

/// SHA-256 of a token's text: all that the cluster keeps of a token.
#[must_use]
pub fn token_hash(text: &str) -> TokenHash {
    Sha256::digest(text.as_bytes()).into()
}

/// The node may make its store and start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// The cluster it belongs to.
    pub cluster: Uuid,
    /// Its number, for ever.
    pub node: NodeId,
}

/// Why nobody let the node in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// There was nobody to ask.
    #[error("no seed is given: name the raft address (host:port) of a running node")]
    NoSeeds,
    /// The cluster refused, for good.
    #[error("the cluster refused the node: {0}")]
    Refused(String),
    /// The token lets nobody in.
    #[error("the cluster did not let the node in: {0}")]
    Denied(String),
    /// No leader answered.
    #[error("no node let this one in within {limit:?}; last answer: {last}")]
    NoAnswer {
        /// How long it was tried.
        limit: Duration,
        /// What came last.
        last: String,
    },
}

/// Asks the cluster behind `seeds` for a number. `store` is the random id of the
/// store that will be made with [`crate::open::create_as`].
///
/// # Errors
/// [`AskError::Refused`] and [`AskError::Denied`] at once; everything else is tried until `limit`.
pub async fn ask(
    host: &dyn Host,
    seeds: &[String],
    token: &str,
    store: Uuid,
    replaces: Option<NodeId>,
    limit: Duration,
) -> Result<Admitted, AskError> {
    let dial = host.dial();
    if seeds.is_empty() {
        return Err(AskError::NoSeeds);
    }
    let deadline = Instant::now() + limit;
    let mut last = "nobody answered".to_owned();
    loop {
        let mut addresses: VecDeque<String> = seeds.iter().cloned().collect();
        let mut hints = HINTS;
        while let Some(address) = addresses.pop_front() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(AskError::NoAnswer { limit, last });
            }
            let client = own(&address, dial.as_ref());
            match ask_one(client, token, store, replaces, left.min(CALL)).await {
                Told::Admitted(admitted) => return Ok(admitted),
                Told::Never(why) => return Err(why),
                Told::Elsewhere(leader) if hints > 0 => {
                    hints -= 1;
                    last = format!("{address} does not lead");
                    addresses.push_front(leader);
                }
                Told::Elsewhere(_) => {}
                Told::Nothing(text) => last = format!("{address}: {text}"),
            }
        }
        tokio::time::sleep(ROUND.min(deadline.saturating_duration_since(Instant::now()))).await;
    }
}

enum Told {
    Admitted(Admitted),
    Never(AskError),
    Elsewhere(String),
    Nothing(String),
}

async fn ask_one(
    client: Result<Client, channels::Error>,
    token: &str,
    store: Uuid,
    replaces: Option<NodeId>,
    limit: Duration,
) -> Told {
    use pb::join_reply::Result as Answer;
    let mut client = match client {
        Ok(client) => client,
        Err(error) => return Told::Nothing(error.to_string()),
    };
    let mut request = tonic::Request::new(pb::JoinRequest {
        cluster: Bytes::new(),
        token: token.to_owned(),
        store: store.as_u128().to_be_bytes().to_vec().into(),
        replaces: replaces.map_or(0, |node| node.0),
        deadline_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
    });
    request.set_timeout(limit);
    let reply = match tokio::time::timeout(limit, client.join(request)).await {
        Ok(Ok(reply)) => reply.into_inner(),
        Ok(Err(status)) => return Told::Nothing(format!("cannot be asked: {}", status.message())),
        Err(_) => return Told::Nothing(format!("no answer within {limit:?}")),
    };
    match reply.result {
        Some(Answer::Done(done)) => match <[u8; 16]>::try_from(done.cluster.as_ref()) {
            Ok(cluster) => Told::Admitted(Admitted {
                cluster: Uuid::from_u128(u128::from_be_bytes(cluster)),
                node: NodeId(done.node),
            }),
            Err(_) => Told::Nothing("answered with a damaged cluster id".to_owned()),
        },
        Some(Answer::Refused(text)) => Told::Never(AskError::Refused(text)),
        Some(Answer::Denied(text)) => Told::Never(AskError::Denied(text)),
        Some(Answer::NotLeader(at)) if !at.raft_address.is_empty() => {
            Told::Elsewhere(at.raft_address)
        }
        Some(Answer::NotLeader(_)) => Told::Nothing("no leader is known there".to_owned()),
        None => Told::Nothing("not known whether the node was let in".to_owned()),
    }
}

impl<M: Machine> Inner<M> {
    /// The leader's side of [`ask`].
    pub(crate) async fn admit(&self, request: pb::JoinRequest, limit: Duration) -> pb::JoinReply {
        use pb::join_reply::Result as Answer;
        let refused = |text: &str| pb::JoinReply { result: Some(Answer::Refused(text.to_owned())) };
        if !self.leads() {
            let at = self.not_leader_at(self.leader());
            return pb::JoinReply { result: Some(Answer::NotLeader(at)) };
        }
        let mine = self.shared.local.cluster.to_be_bytes();
        if !request.cluster.is_empty() && *request.cluster != mine[..] {
            return refused("this is another cluster: check the addresses of the seeds");
        }
        let Ok(store) = <[u8; 16]>::try_from(request.store.as_ref()) else {
            return refused("the store id has not 16 bytes");
        };
        let envelope = Envelope {
            actor: Actor::User("cluster join".to_owned()),
            request: None,
            command: Command::AdmitNode {
                token_hash: token_hash(&request.token),
                store: u128::from_be_bytes(store),
                replaces: (request.replaces != 0).then_some(NodeId(request.replaces)),
            },
        };
        let result = match self.propose_here(&envelope, Instant::now() + limit).await {
            Ok(Outcome::Node { node }) => {
                let cluster = mine.to_vec().into();
                Some(Answer::Done(pb::JoinDone { cluster, node: node.0 }))
            }
            Ok(Outcome::Rejected(reject @ Reject::NotAdmitted)) => {
                Some(Answer::Denied(reject.to_string()))
            }
            Ok(Outcome::Rejected(reject)) => Some(Answer::Refused(reject.to_string())),
            Err(Error::NoLeader(leader)) => Some(Answer::NotLeader(self.not_leader_at(leader))),
            // Asked again, it gets the same number.
            Ok(_) | Err(_) => None,
        };
        pb::JoinReply { result }
    }

    /// Commits a command of this leader's own, without forwarding it.
    pub(crate) async fn propose_here(
        &self,
        envelope: &Envelope,
        deadline: Instant,
    ) -> Result<Outcome, Error> {
        let command = Bytes::from(command::encode(envelope)?);
        let mut answers = self.intake.submit(vec![command], false, deadline).await;
        Ok(answers.pop().unwrap_or(Err(Error::OutcomeUnknown))?.0)
    }
}
