//! The other nodes: one connection and one queue to each, bounded in bytes.
//!
//! Pieces for a node wait here and go together, one call at a time: the other side syncs
//! once for all of them. A queue that is full takes nothing, and a call that fails drops
//! what it held; both are told to whoever asked, and repaired later. So a node that is slow
//! holds up nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use horai_core::ids::{AttemptKey, NodeId};
use horai_core::model::file::Digest;
use horai_proto::logs as pb;
use horai_proto::logs::node_logs_client::NodeLogsClient;
use tokio::sync::mpsc;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::Logs;
use crate::chunks::Ranges;
use crate::chunks::content::{digest_in, file_ref};
use crate::chunks::piece::{attempt_key, attempt_ref, key_of};
use crate::session::Node;

/// Who calls: see [`horai_raft::RaftNode::credentials`].
pub(super) const CREDENTIALS: &str = "horai-node-bin";
/// The largest message on either side, in bytes.
pub(super) const MAX_MESSAGE: usize = 16 << 20;
/// Pieces in one call, by their bytes,
const AT_ONCE: usize = 4 << 20;
/// and by their number.
const MOST: usize = 1_024;
/// Pieces that wait for one node.
const WAITING: usize = 4_096;
/// Bytes that wait for one node.
const WAITING_BYTES: usize = 8 << 20;
/// How long a call may take: some syncs of a slow disk.
const LIMIT: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_millis(500);
const KEEP_ALIVE: Duration = Duration::from_secs(1);

type Client = NodeLogsClient<Channel>;

/// What a node holds of an attempt's output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) ranges: Ranges,
    /// It wants nothing of it any more.
    pub(super) dropped: bool,
}

impl Held {
    pub(super) fn of(held: &pb::Held) -> (AttemptKey, Self) {
        let mut ranges = Ranges::default();
        for range in &held.ranges {
            ranges.insert(range.from, range.to);
        }
        (attempt_key(held.attempt), Self { ranges, dropped: held.dropped })
    }

    pub(super) fn message(&self, key: AttemptKey) -> pb::Held {
        let range = |range: std::ops::Range<u64>| pb::Range { from: range.start, to: range.end };
        let ranges = self.ranges.iter().map(range).collect();
        pb::Held { attempt: Some(attempt_ref(key)), ranges, dropped: self.dropped }
    }

    /// Everything below this byte is there, or not wanted.
    pub(super) fn below(&self) -> u64 {
        if self.dropped { u64::MAX } else { self.ranges.prefix() }
    }
}

/// See the module.
pub(super) struct Peers {
    node: Arc<Node>,
    clients: Mutex<BTreeMap<NodeId, (String, Client)>>,
    queues: Mutex<BTreeMap<NodeId, Queue>>,
}

/// Pieces on their way to one node.
struct Queue {
    to: mpsc::Sender<pb::Piece>,
    bytes: Arc<std::sync::atomic::AtomicUsize>,
}

impl Peers {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self { node, clients: Mutex::default(), queues: Mutex::default() }
    }

    fn client(&self, node: NodeId) -> Result<Client, Status> {
        let address = self.node.status().members.remove(&node).map(|(member, _)| member.grpc_addr);
        let address = address.ok_or_else(|| Status::not_found("not a member"))?;
        let clients = &mut *lock(&self.clients);
        if let Some((known, client)) = clients.get(&node)
            && *known == address
        {
            return Ok(client.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}"));
        let endpoint = endpoint.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let channel = endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .tcp_nodelay(true)
            .connect_lazy();
        let client = Client::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        clients.insert(node, (address, client.clone()));
        Ok(client)
    }

    fn request<T>(&self, node: NodeId, content: T) -> Result<Request<T>, Status> {
        let credentials = self.node.credentials(node);
        let credentials = credentials.ok_or_else(|| Status::not_found("not a member"))?;
        let mut request = Request::new(content);
        let value = MetadataValue::from_bytes(&credentials);
        request.metadata_mut().insert_bin(CREDENTIALS, value);
        request.set_timeout(LIMIT);
        Ok(request)
    }

    /// Has a node store pieces; what it then holds of their attempts.
    pub(super) async fn put(
        &self,
        node: NodeId,
        pieces: Vec<pb::Piece>,
    ) -> Result<Vec<(AttemptKey, Held)>, Status> {
        let request = self.request(node, pb::Pieces { pieces, dropped: false })?;
        let answer = within(self.client(node)?.put(request)).await?;
        Ok(answer.held.iter().map(Held::of).collect())
    }

    /// What a node holds of these attempts; those that it has nothing of are left out.
    pub(super) async fn held(
        &self,
        node: NodeId,
        attempts: &BTreeSet<AttemptKey>,
    ) -> Result<BTreeMap<AttemptKey, Held>, Status> {
        let attempts: Vec<_> = attempts.iter().map(|key| attempt_ref(*key)).collect();
        if attempts.is_empty() {
            return Ok(BTreeMap::new());
        }
        let request = self.request(node, pb::HeldRequest { attempts, ..Default::default() })?;
        let answer = within(self.client(node)?.held(request)).await?;
        Ok(answer.held.iter().map(Held::of).collect())
    }

    /// What a node holds of the runs from `from_run` on, about `limit` attempts; and where
    /// the next page begins, if there is one.
    pub(super) async fn page(
        &self,
        node: NodeId,
        from_run: u64,
        limit: u32,
    ) -> Result<(BTreeMap<AttemptKey, Held>, Option<u64>), Status> {
        let ask = pb::HeldRequest { attempts: Vec::new(), from_run, limit };
        let answer = within(self.client(node)?.held(self.request(node, ask)?)).await?;
        let next = Some(answer.next_run).filter(|next| *next > 0);
        Ok((answer.held.iter().map(Held::of).collect(), next))
    }

    /// A number that another start of the node changes.
    pub(super) async fn epoch(&self, node: NodeId) -> Result<u64, Status> {
        let ask = pb::HeldRequest { attempts: Vec::new(), from_run: u64::MAX, limit: 1 };
        Ok(within(self.client(node)?.held(self.request(node, ask)?)).await?.epoch)
    }

    /// Bytes of an attempt's output from `offset` on, as far as a node holds them.
    pub(super) async fn read(
        &self,
        node: NodeId,
        key: AttemptKey,
        offset: u64,
        max_bytes: u64,
    ) -> Result<pb::Pieces, Status> {
        let ask = pb::ReadRequest { attempt: Some(attempt_ref(key)), offset, max_bytes };
        within(self.client(node)?.read(self.request(node, ask)?)).await
    }

    /// Has a node store contents of files.
    pub(super) async fn put_files(
        &self,
        node: NodeId,
        contents: Vec<pb::Content>,
    ) -> Result<(), Status> {
        let request = self.request(node, pb::Contents { contents })?;
        within(self.client(node)?.put_files(request)).await.map(drop)
    }

    /// Which of these a node holds; with none, all that it holds.
    pub(super) async fn held_files(
        &self,
        node: NodeId,
        digests: &[Digest],
    ) -> Result<BTreeSet<Digest>, Status> {
        let files = digests.iter().map(|digest| file_ref(*digest)).collect();
        let request = self.request(node, pb::FileList { files })?;
        let answer = within(self.client(node)?.held_files(request)).await?;
        Ok(answer.files.iter().filter_map(|file| digest_in(&file.digest).ok()).collect())
    }

    /// A content that a node holds.
    pub(super) async fn read_file(
        &self,
        node: NodeId,
        digest: Digest,
    ) -> Result<pb::Content, Status> {
        within(self.client(node)?.read_file(self.request(node, file_ref(digest))?)).await
    }

    /// Queues a piece for a node; false if that many wait already.
    pub(super) fn offer(&self, logs: &Arc<Logs>, node: NodeId, piece: pb::Piece) -> bool {
        use std::sync::atomic::Ordering::AcqRel;
        let queues = &mut *lock(&self.queues);
        let queue = queues.entry(node).or_insert_with(|| {
            let (to, queue) = mpsc::channel(WAITING);
            let bytes = Arc::default();
            tokio::spawn(send(Arc::downgrade(logs), node, queue, Arc::clone(&bytes)));
            Queue { to, bytes }
        });
        let len = piece.data.len();
        let waiting = queue.bytes.fetch_add(len, AcqRel);
        let taken = waiting < WAITING_BYTES && queue.to.try_send(piece).is_ok();
        if !taken {
            queue.bytes.fetch_sub(len, AcqRel);
        }
        taken
    }
}

/// Sends what is queued for a node, until this node ends.
async fn send(
    logs: Weak<Logs>,
    node: NodeId,
    mut queue: mpsc::Receiver<pb::Piece>,
    bytes: Arc<std::sync::atomic::AtomicUsize>,
) {
    let mut next = None;
    while let Some(first) = match next.take() {
        Some(piece) => Some(piece),
        None => queue.recv().await,
    } {
        let mut size = first.data.len();
        let mut pieces = vec![first];
        while pieces.len() < MOST
            && let Ok(piece) = queue.try_recv()
        {
            if size + piece.data.len() > AT_ONCE {
                next = Some(piece);
                break;
            }
            size += piece.data.len();
            pieces.push(piece);
        }
        let Some(logs) = logs.upgrade() else { return };
        let attempts: BTreeSet<AttemptKey> = pieces.iter().map(key_of).collect();
        let put = logs.peers.put(node, pieces).await;
        bytes.fetch_sub(size, std::sync::atomic::Ordering::AcqRel);
        match put {
            Ok(held) => logs.holds(node, held),
            Err(error) => {
                tracing::debug!(%node, %error, "logs are not handed on, for now");
                logs.is_behind(attempts);
            }
        }
    }
}

async fn within<T>(
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(LIMIT, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("no answer in time")),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Maps are whole at every step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
