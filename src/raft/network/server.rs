//! What other nodes ask of this one.
//!
//! Every header is checked against cluster, target and the store that the
//! membership knows before its payload is read. Raft's own calls go straight to
//! openraft; what concerns the product (proposals, reads, joins) goes to the
//! [`Desk`], which the node implements.

use std::io;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, ready};
use futures_util::stream::BoxStream;
use horai_proto::raft as pb;
use horai_proto::raft::raft_link_server::{RaftLink, RaftLinkServer};
use openraft::Raft;
use openraft::alias::SnapshotOf;
use openraft::async_runtime::WatchReceiver;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::client::SNAPSHOT_CHUNK;
use super::{Error, MAX_MESSAGE, RETIRED, Shared, decode, encode};
use crate::snapshot_store::{SnapshotHandle, SnapshotStore};
use crate::state_machine::{Machine, StateMachine};
use crate::types::{SnapshotMeta, TypeConfig, Vote};

/// A silent snapshot sender is given up after this.
const SNAPSHOT_IDLE: Duration = Duration::from_secs(10);
/// Replies waiting for the connection, as many as openraft has requests in work.
const REPLIES_AHEAD: usize = 64;
/// No caller's patience counts for more than this.
const LONGEST_CALL: Duration = Duration::from_secs(60);

/// Why the desk did not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Somebody else leads, if known who.
    #[error("this node does not lead")]
    NotLeader(Option<u64>),
    /// The commands may have been committed or not.
    #[error("the outcome is unknown")]
    OutcomeUnknown,
    /// For another reason, with its remedy; nothing was committed.
    #[error("{0}")]
    Other(String),
}

/// Committed commands: each outcome encoded, in order, and the index of the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// One per command.
    pub outcomes: Vec<Bytes>,
    /// Applied up to here.
    pub index: u64,
}

/// What the node does for others. Nothing of it is forwarded on.
pub trait Desk: Send + Sync + 'static {
    /// Commits encoded commands, if this node leads.
    fn propose(
        &self,
        commands: Vec<Bytes>,
        limit: Duration,
    ) -> BoxFuture<'_, Result<Committed, Refusal>>;

    /// The index a linearizable read must wait for, if this node leads.
    fn read_index(&self, limit: Duration) -> BoxFuture<'_, Result<u64, Refusal>>;

    /// Gives a new node its number, if this node leads.
    fn join(&self, request: pb::JoinRequest, limit: Duration) -> BoxFuture<'_, pb::JoinReply>;

    /// Makes an admitted node a voter, if this node leads. Its header was checked.
    fn enter(&self, request: pb::EnterRequest, limit: Duration) -> BoxFuture<'_, pb::ChangeReply>;

    /// Removes a node or transfers leadership, if this node leads.
    fn change(&self, request: pb::ChangeRequest, limit: Duration)
    -> BoxFuture<'_, pb::ChangeReply>;

    /// Whether a node was taken out for good, as far as this node knows.
    fn is_retired(&self, node: u64) -> bool;

    /// The cluster knows another store under this node's number.
    fn disowned(&self, problem: String);
}

/// The service on the Raft port.
pub struct Server<M: Machine> {
    shared: Arc<Shared>,
    raft: Raft<TypeConfig, StateMachine<M>>,
    snapshots: Arc<SnapshotStore>,
    desk: Arc<dyn Desk>,
}

// Derived, it would ask for a state machine that can be cloned.
impl<M: Machine> Clone for Server<M> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            raft: self.raft.clone(),
            snapshots: Arc::clone(&self.snapshots),
            desk: Arc::clone(&self.desk),
        }
    }
}

impl<M: Machine> Server<M> {
    /// Ready to be added to a tonic router.
    pub fn service(
        shared: Arc<Shared>,
        raft: Raft<TypeConfig, StateMachine<M>>,
        snapshots: Arc<SnapshotStore>,
        desk: Arc<dyn Desk>,
    ) -> RaftLinkServer<Self> {
        RaftLinkServer::new(Self { shared, raft, snapshots, desk })
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    fn check<'h>(&self, header: Option<&'h pb::Header>) -> Result<&'h pb::Header, Status> {
        let known = |node: u64| {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.get_node(&node).map(|member| member.store_uuid)
        };
        let header = self.shared.check(header, known).map_err(|error| {
            if matches!(error, Error::Store { node, .. } if node == self.shared.local.node) {
                self.desk.disowned(error.to_string());
            }
            status(&error)
        })?;
        let from = header.from_node;
        // Members are asked for first: this is on every message's way.
        if known(from).is_none() && self.desk.is_retired(from) {
            return Err(status(&Error::Retired(from)));
        }
        Ok(header)
    }

    /// Checked and unpacked, with who sent it.
    fn open<T: DeserializeOwned>(&self, message: &pb::Message) -> Result<(u64, T), Status> {
        let header = self.check(message.header.as_ref())?;
        let body = decode(&message.body).map_err(|error| status(&error))?;
        Ok((header.from_node, body))
    }

    fn reply<T: Serialize>(&self, to: u64, value: &T) -> Result<pb::Message, Status> {
        let body = encode(value).map_err(|error| status(&error))?;
        Ok(pb::Message { header: Some(self.shared.header(to)), body })
    }

    /// Takes a snapshot's parts in and gives the whole to openraft.
    async fn receive(&self, mut parts: Streaming<pb::SnapshotPart>) -> Result<pb::Message, Status> {
        use pb::snapshot_part::Part;
        let first = self.next_part(&mut parts).await?;
        let from = self.check(first.header.as_ref())?.from_node;
        let Some(Part::Begin(begin)) = first.part else {
            return Err(Status::invalid_argument("a snapshot must begin with its meta"));
        };
        let (vote, meta): (Vote, SnapshotMeta) = decode(&begin).map_err(|e| status(&e))?;
        let mut writer = self.snapshots.writer(false);
        let (mut length, mut crc) = (0_u64, 0_u32);
        loop {
            let part = self.next_part(&mut parts).await?;
            self.check(part.header.as_ref())?;
            match part.part {
                Some(Part::Chunk(chunk)) => {
                    let whole = chunk.data.len() <= SNAPSHOT_CHUNK
                        && chunk.offset == length
                        && chunk.crc32c == crc32c::crc32c(&chunk.data);
                    if !whole {
                        let text = format!("snapshot chunk at {length} is damaged or misplaced");
                        return Err(Status::data_loss(text));
                    }
                    length += chunk.data.len() as u64;
                    crc = crc32c::crc32c_append(crc, &chunk.data);
                    let push = move || {
                        writer.write(&chunk.data)?;
                        Ok(writer)
                    };
                    writer = self.blocking(push).await?;
                }
                Some(Part::End(end)) if end.length == length && end.crc32c == crc => break,
                Some(Part::End(_) | Part::Begin(_)) | None => {
                    return Err(Status::data_loss("snapshot ends in the wrong place"));
                }
            }
        }
        let snapshot = self.blocking(move || writer.finish()).await?;
        let snapshot: SnapshotOf<TypeConfig, SnapshotHandle> =
            openraft::storage::Snapshot { meta, snapshot };
        let answer = self.raft.install_full_snapshot(vote, snapshot).await.map_err(fatal)?;
        self.reply(from, &answer)
    }

    /// Storage work on a thread that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, Status> {
        let done = self.snapshots.blocking(work).await;
        done.map_err(|error| Status::internal(format!("snapshot cannot be kept: {error}")))
    }

    async fn next_part(
        &self,
        parts: &mut Streaming<pb::SnapshotPart>,
    ) -> Result<pb::SnapshotPart, Status> {
        match tokio::time::timeout(SNAPSHOT_IDLE, parts.message()).await {
            Ok(part) => part?.ok_or_else(|| Status::aborted("the snapshot broke off")),
            Err(_) => Err(Status::deadline_exceeded("the snapshot's sender went silent")),
        }
    }
}

fn status(error: &Error) -> Status {
    match error {
        Error::Retired(_) => {
            let mut status = Status::permission_denied(error.to_string());
            status.metadata_mut().insert(RETIRED, MetadataValue::from_static("1"));
            status
        }
        Error::Store { .. } | Error::Stranger(_) => Status::permission_denied(error.to_string()),
        Error::Cluster { .. } | Error::Target { .. } | Error::Newer(_) => {
            Status::failed_precondition(error.to_string())
        }
        Error::Empty | Error::Damaged(_) | Error::Header => {
            Status::invalid_argument(error.to_string())
        }
    }
}

/// The Raft core has stopped: for the peer this node is down.
#[allow(clippy::needless_pass_by_value, reason = "used as a function in map_err")]
fn fatal(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("this node's Raft has stopped: {error}"))
}

fn patience(millis: u64) -> Duration {
    Duration::from_millis(millis).min(LONGEST_CALL)
}

#[tonic::async_trait]
impl<M: Machine> RaftLink for Server<M> {
    type AppendStreamStream = BoxStream<'static, Result<pb::Message, Status>>;

    async fn append_stream(
        &self,
        request: Request<Streaming<pb::Message>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let server = self.clone();
        // Requests end at the first bad one; its refusal follows the replies to the good ones.
        let refusal = Arc::new(OnceLock::new());
        let peer = Arc::new(OnceLock::new());
        let (refused, from) = (Arc::clone(&refusal), Arc::clone(&peer));
        let requests = request.into_inner().map(move |message| {
            let opened = message.and_then(|message| {
                let (node, body) = server.open(&message)?;
                if let Some(header) = &message.header {
                    server.shared.learn(header);
                }
                from.get_or_init(|| node);
                Ok(body)
            });
            opened.map_err(|status| refused.get_or_init(|| status).code()).ok()
        });
        let requests = requests.take_while(|body| ready(body.is_some())).filter_map(ready);
        let (replies, outgoing) = mpsc::channel(REPLIES_AHEAD);
        let server = self.clone();
        // openraft's stream borrows its handle, a response must own what it reads:
        // this task stands between, and ends with either of them.
        tokio::spawn(async move {
            let mut answers = pin!(server.raft.stream_append(requests));
            while let Some(answer) = answers.next().await {
                let to = peer.get().copied().unwrap_or(0);
                let reply = answer.map_err(fatal).and_then(|answer| server.reply(to, &answer));
                if replies.send(reply).await.is_err() {
                    return;
                }
            }
            if let Some(status) = refusal.get() {
                // Nobody listens any more if this fails: there is nobody to tell.
                let _ = replies.send(Err(status.clone())).await;
            }
        });
        let replies = ReceiverStream::new(outgoing);
        Ok(Response::new(replies.boxed()))
    }

    async fn append(&self, request: Request<pb::Message>) -> Result<Response<pb::Message>, Status> {
        let message = request.into_inner();
        let (from, body) = self.open(&message)?;
        if let Some(header) = &message.header {
            self.shared.learn(header);
        }
        let answer = self.raft.append_entries(body).await.map_err(fatal)?;
        Ok(Response::new(self.reply(from, &answer)?))
    }

    async fn vote(&self, request: Request<pb::Message>) -> Result<Response<pb::Message>, Status> {
        let (from, body) = self.open(request.get_ref())?;
        let answer = self.raft.vote(body).await.map_err(fatal)?;
        Ok(Response::new(self.reply(from, &answer)?))
    }

    /// openraft refuses here while it hears a live leader.
    async fn pre_vote(
        &self,
        request: Request<pb::Message>,
    ) -> Result<Response<pb::Message>, Status> {
        let (from, body) = self.open(request.get_ref())?;
        let answer = self.raft.pre_vote(body).await.map_err(fatal)?;
        Ok(Response::new(self.reply(from, &answer)?))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::Message>,
    ) -> Result<Response<pb::Message>, Status> {
        let (from, body) = self.open(request.get_ref())?;
        let answer = self.raft.handle_transfer_leader(body).await.map_err(fatal)?;
        Ok(Response::new(self.reply(from, &answer)?))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotPart>>,
    ) -> Result<Response<pb::Message>, Status> {
        self.receive(request.into_inner()).await.map(Response::new)
    }

    async fn propose(
        &self,
        request: Request<pb::ProposeRequest>,
    ) -> Result<Response<pb::ProposeReply>, Status> {
        use pb::propose_reply::Result as Answer;
        let request = request.into_inner();
        let from = self.check(request.header.as_ref())?.from_node;
        if request.hops != 1 {
            let text = format!("{} hops: a proposal is forwarded once", request.hops);
            return Err(Status::invalid_argument(text));
        }
        let done = self.desk.propose(request.commands, patience(request.deadline_ms)).await;
        let result = match done {
            Ok(Committed { outcomes, index }) => Answer::Done(pb::ProposeDone { outcomes, index }),
            Err(Refusal::NotLeader(leader)) => Answer::NotLeader(not_leader(leader)),
            // The caller takes any broken call for an unknown outcome.
            Err(refusal @ Refusal::OutcomeUnknown) => {
                return Err(Status::unknown(refusal.to_string()));
            }
            Err(Refusal::Other(text)) => Answer::Refused(text),
        };
        let header = Some(self.shared.header(from));
        Ok(Response::new(pb::ProposeReply { header, result: Some(result) }))
    }

    async fn read_index(
        &self,
        request: Request<pb::ReadIndexRequest>,
    ) -> Result<Response<pb::ReadIndexReply>, Status> {
        use pb::read_index_reply::Result as Answer;
        let request = request.into_inner();
        let from = self.check(request.header.as_ref())?.from_node;
        let result = match self.desk.read_index(patience(request.deadline_ms)).await {
            Ok(index) => Answer::Index(index),
            Err(Refusal::NotLeader(leader)) => Answer::NotLeader(not_leader(leader)),
            // The caller takes any broken call for an unknown outcome.
            Err(refusal @ Refusal::OutcomeUnknown) => {
                return Err(Status::unknown(refusal.to_string()));
            }
            Err(Refusal::Other(text)) => Answer::Refused(text),
        };
        let header = Some(self.shared.header(from));
        Ok(Response::new(pb::ReadIndexReply { header, result: Some(result) }))
    }

    async fn join(
        &self,
        request: Request<pb::JoinRequest>,
    ) -> Result<Response<pb::JoinReply>, Status> {
        // A joining node has no id yet; its token is the desk's to check.
        let request = request.into_inner();
        let limit = patience(request.deadline_ms);
        Ok(Response::new(self.desk.join(request, limit).await))
    }

    async fn enter(
        &self,
        request: Request<pb::EnterRequest>,
    ) -> Result<Response<pb::ChangeReply>, Status> {
        let mut request = request.into_inner();
        // A seed's address is known, its number is not.
        if let Some(header) = request.header.as_mut().filter(|header| header.to_node == 0) {
            header.to_node = self.shared.local.node;
        }
        if let Err(refused) = self.check(request.header.as_ref()) {
            if refused.metadata().contains_key(RETIRED) {
                return Err(refused);
            }
            // An answer, not a broken call: asking again would change nothing.
            let text = refused.message().to_owned();
            let result = Some(pb::change_reply::Result::Refused(text));
            return Ok(Response::new(pb::ChangeReply { result }));
        }
        let limit = patience(request.deadline_ms);
        Ok(Response::new(self.desk.enter(request, limit).await))
    }

    async fn change(
        &self,
        request: Request<pb::ChangeRequest>,
    ) -> Result<Response<pb::ChangeReply>, Status> {
        let request = request.into_inner();
        self.check(request.header.as_ref())?;
        let limit = patience(request.deadline_ms);
        Ok(Response::new(self.desk.change(request, limit).await))
    }

    async fn retire(
        &self,
        request: Request<pb::RetireNotice>,
    ) -> Result<Response<pb::RetireReply>, Status> {
        self.check(request.get_ref().header.as_ref())?;
        self.shared.retire();
        Ok(Response::new(pb::RetireReply {}))
    }

    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusReply>, Status> {
        let from = self.check(request.get_ref().header.as_ref())?.from_node;
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        Ok(Response::new(pb::StatusReply {
            header: Some(self.shared.header(from)),
            wall_ms: self.shared.host.wall_time().0,
            term: metrics.current_term,
            leader: metrics.current_leader.unwrap_or(0),
            last_log_index: metrics.last_log_index.unwrap_or(0),
            applied_index: metrics.last_applied.map_or(0, |id| id.index()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }
}

fn not_leader(leader: Option<u64>) -> pb::NotLeader {
    pb::NotLeader { leader: leader.unwrap_or(0) }
}
