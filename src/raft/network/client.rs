//! What openraft calls to reach another node.
//!
//! Every call has a deadline from openraft's own limit; a stream has one for
//! being opened and is watched by keepalive after that. A peer that is not
//! there is `Unreachable`, so that openraft waits before it tries again; a call
//! that broke or took too long is a `NetworkError`, tried again at once.

use std::future::{Future, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use horai_core::mutants::{self, Mutant};
use horai_proto::raft as pb;
use openraft::OptionalSend;
use openraft::alias::SnapshotOf;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Response, Status};

use super::channels::{CONNECT_TIMEOUT, Channels, Client};
use super::{Shared, decode, encode};
use crate::snapshot_store::SnapshotHandle;
use crate::types::{Member, TypeConfig, Vote};

/// The most bytes of a snapshot in one message.
pub const SNAPSHOT_CHUNK: usize = 256 << 10;
/// Chunks read ahead of the connection.
const CHUNKS_AHEAD: usize = 8;

/// Makes [`Link`]s.
#[derive(Debug)]
pub struct Links {
    shared: Arc<Shared>,
    channels: Arc<Channels>,
}

impl Links {
    /// Links that speak as `shared` says.
    #[must_use]
    pub fn new(shared: Arc<Shared>, channels: Arc<Channels>) -> Self {
        Self { shared, channels }
    }

    fn link(&self, target: u64, member: &Member, purpose: Purpose) -> Link {
        Link {
            shared: Arc::clone(&self.shared),
            channels: Arc::clone(&self.channels),
            target,
            address: member.raft_addr.clone(),
            store: member.store_uuid,
            purpose,
            bulk: None,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Links {
    type Network = Link;

    async fn new_client(&mut self, target: u64, node: &Member) -> Link {
        self.link(target, node, Purpose::Bulk)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> Link {
        self.link(target, node, Purpose::Heartbeat)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Replication or a snapshot: a connection of its own, made when first used.
    Bulk,
    /// Single calls on the shared connection.
    Heartbeat,
}

/// One way to one node.
#[derive(Debug)]
pub struct Link {
    shared: Arc<Shared>,
    channels: Arc<Channels>,
    target: u64,
    /// When the link was made; a member that moved since is looked up.
    address: String,
    /// What the membership says: a reply of another store is refused.
    store: u128,
    purpose: Purpose,
    bulk: Option<(String, Client)>,
}

type Rpc<T> = Result<T, RPCError<TypeConfig>>;

impl Link {
    fn address(&self) -> String {
        self.channels.address(self.target).unwrap_or_else(|| self.address.clone())
    }

    fn quick(&self) -> Rpc<Client> {
        let address = self.address();
        self.channels.quick(self.target, &address).map_err(|e| Unreachable::new(&e).into())
    }

    fn bulk(&mut self) -> Rpc<Client> {
        let address = self.address();
        if let Some((known, client)) = &self.bulk
            && *known == address
        {
            return Ok(client.clone());
        }
        let client = self.channels.own(&address).map_err(|e| Unreachable::new(&e))?;
        self.bulk = Some((address, client.clone()));
        Ok(client)
    }

    /// One request, one reply, within `limit`.
    async fn call<Q, A, F>(
        &self,
        request: &Q,
        limit: Duration,
        send: impl FnOnce(Client, tonic::Request<pb::Message>) -> F,
    ) -> Rpc<A>
    where
        Q: Serialize,
        A: DeserializeOwned,
        F: Future<Output = Result<Response<pb::Message>, Status>>,
    {
        let client = self.quick()?;
        let body = encode(request).map_err(|e| NetworkError::new(&e))?;
        let header = Some(self.shared.header_for(self.target, self.store));
        let mut message = tonic::Request::new(pb::Message { header, body });
        if !mutants::on(Mutant::NoDeadlines) {
            message.set_timeout(limit);
        }
        let sent = async {
            send(client, message).await.inspect_err(|status| {
                self.shared.heed(status);
            })
        };
        let reply = within(limit, sent).await?.into_inner();
        unpack(&self.shared, self.store, &reply)
    }
}

/// A reply's content, if it is of the node that was asked.
fn unpack<A: DeserializeOwned>(shared: &Shared, store: u128, reply: &pb::Message) -> Rpc<A> {
    let known = shared.check_reply(reply.header.as_ref(), store);
    known.map_err(|error| Unreachable::new(&error))?;
    Ok(decode(&reply.body).map_err(|error| NetworkError::new(&error))?)
}

/// Waits for `call`, but not longer than `limit`.
async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Rpc<Response<T>> {
    if mutants::on(Mutant::NoDeadlines) {
        return call.await.map_err(|status| rpc_error(&status));
    }
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map_err(|status| rpc_error(&status)),
        Err(_) => Err(NetworkError::from_string(format!("no answer within {limit:?}")).into()),
    }
}

/// A refusal is as lasting as a peer that is down: both are worth a pause.
fn rpc_error(status: &Status) -> RPCError<TypeConfig> {
    match status.code() {
        Code::Unavailable | Code::FailedPrecondition | Code::PermissionDenied => {
            Unreachable::new(status).into()
        }
        _ => NetworkError::new(status).into(),
    }
}

impl RaftNetworkV2<TypeConfig> for Link {
    type SnapshotData = SnapshotHandle;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<TypeConfig>> {
        let limit = option.soft_ttl();
        self.call(&rpc, limit, |mut c, m| async move { c.append(m).await }).await
    }

    fn stream_append<'s, I>(
        &'s mut self,
        input: I,
        option: RPCOption,
    ) -> BoxFuture<'s, Rpc<BoxStream<'s, Rpc<StreamAppendResult<TypeConfig>>>>>
    where
        I: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        // A heartbeat is one request: a call with a deadline tells more than a stream.
        if self.purpose == Purpose::Heartbeat {
            return stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            // openraft's pause after a failure is in front of the first request: without
            // waiting for that, a node that is down would be called thousands of times
            // a second.
            let mut input = input.peekable();
            Pin::new(&mut input).peek().await;
            let mut client = self.bulk()?;
            let (shared, target, store) = (Arc::clone(&self.shared), self.target, self.store);
            let messages = input
                .map(move |request| {
                    let body = encode(&request).ok()?;
                    let header = Some(shared.header_for(target, store));
                    Some(pb::Message { header, body })
                })
                // What cannot be encoded ends the stream; openraft opens another.
                .take_while(|message| ready(message.is_some()))
                .filter_map(ready);
            let limit = option.soft_ttl().max(CONNECT_TIMEOUT);
            let replies = within(limit, client.append_stream(messages)).await?.into_inner();
            let shared = Arc::clone(&self.shared);
            let replies = replies.map(move |reply| {
                let reply = reply.map_err(|status| rpc_error(&status))?;
                unpack(&shared, store, &reply)
            });
            Ok(replies.boxed())
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        let limit = option.soft_ttl();
        self.call(&rpc, limit, |mut c, m| async move { c.vote(m).await }).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        let limit = option.soft_ttl();
        self.call(&rpc, limit, |mut c, m| async move { c.pre_vote(m).await }).await
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<TypeConfig>> {
        let limit = option.soft_ttl();
        self.call(&rpc, limit, |mut c, m| async move { c.transfer_leader(m).await }).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotHandle>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let mut client = self.bulk()?;
        let begin = encode(&(vote, &snapshot.meta)).map_err(|e| NetworkError::new(&e))?;
        let header = self.shared.header_for(self.target, self.store);
        let (parts, outgoing) = mpsc::channel(CHUNKS_AHEAD);
        let data = snapshot.snapshot;
        // Dropping the receiver, by cancel or deadline, ends this task's work.
        tokio::spawn(async move {
            if let Err(error) = send_parts(&data, begin, &header, &parts).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "snapshot not sent");
            }
        });
        let call = client.snapshot(ReceiverStream::new(outgoing));
        let reply = tokio::select! {
            closed = cancel => return Err(closed.into()),
            reply = within(option.soft_ttl(), call) => reply?,
        };
        let reply = reply.into_inner();
        let known = self.shared.check_reply(reply.header.as_ref(), self.store);
        known.map_err(|error| Unreachable::new(&error))?;
        Ok(decode(&reply.body).map_err(|error| NetworkError::new(&error))?)
    }
}

/// Cuts a snapshot into messages. Without its end the receiver throws it away,
/// so every failure just stops.
async fn send_parts(
    data: &SnapshotHandle,
    begin: Bytes,
    header: &pb::Header,
    parts: &mpsc::Sender<pb::SnapshotPart>,
) -> io::Result<()> {
    use pb::snapshot_part::Part;
    let send = async |part| {
        let part = pb::SnapshotPart { header: Some(header.clone()), part: Some(part) };
        parts.send(part).await.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    };
    send(Part::Begin(begin)).await?;
    let (mut length, mut crc) = (0_u64, 0_u32);
    for index in 0..data.shape().chunks {
        let mut rest = data.read_chunk(index).await?;
        while !rest.is_empty() {
            let data = rest.split_to(rest.len().min(SNAPSHOT_CHUNK));
            crc = crc32c::crc32c_append(crc, &data);
            let crc32c = crc32c::crc32c(&data);
            let offset = length;
            length += data.len() as u64;
            send(Part::Chunk(pb::SnapshotChunk { offset, data, crc32c })).await?;
        }
    }
    send(Part::End(pb::SnapshotEnd { length, crc32c: crc })).await
}
