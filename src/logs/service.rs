//! What other nodes and workers ask of this node's logs, on the worker port.

use std::sync::Arc;

use futures_util::stream::{BoxStream, StreamExt};
use horai_core::ids::{AttemptKey, RunId};
use horai_core::model::file::Digest;
use horai_proto::logs as pb;
use horai_proto::logs::node_logs_server::{NodeLogs, NodeLogsServer};
use horai_proto::logs::worker_files_server::{WorkerFiles, WorkerFilesServer};
use horai_proto::logs::worker_logs_server::{WorkerLogs, WorkerLogsServer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use super::peers::{CREDENTIALS, Held, MAX_MESSAGE};
use super::{Logs, intake};
use crate::chunks::content::{digest_in, file_ref};
use crate::chunks::piece::{attempt_key, key_of, pack};
use crate::chunks::{Error, Piece};
use crate::session::access;

/// The most bytes of one answer to a read.
const MAX_READ: u64 = 4 << 20;
/// The most attempts in one answer.
const MAX_PAGE: usize = 10_000;
/// Answers that wait for a worker.
const ANSWERS: usize = 4_096;

/// All services.
pub(super) fn routes(logs: &Arc<Logs>) -> Routes {
    let nodes = NodeLogsServer::new(Service(Arc::clone(logs)))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    Routes::new(nodes)
        .add_service(WorkerLogsServer::new(Service(Arc::clone(logs))))
        .add_service(WorkerFilesServer::new(Service(Arc::clone(logs))))
}

struct Service(Arc<Logs>);

impl Service {
    fn admit<T>(&self, request: Request<T>) -> Result<T, Status> {
        let credentials = request.metadata().get_bin(CREDENTIALS);
        let credentials = credentials.and_then(|value| value.to_bytes().ok());
        let credentials =
            credentials.ok_or_else(|| Status::unauthenticated("the call names no node"))?;
        let admitted = self.0.node.admit(&credentials);
        admitted.map_err(|error| Status::permission_denied(error.to_string()))?;
        Ok(request.into_inner())
    }

    /// Whether a worker may ask.
    fn permit(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let permitted = access::caller(metadata)
            .and_then(|caller| self.0.node.read(|state| access::permit(state, &caller.token)));
        permitted.map_err(|refusal| Status::permission_denied(refusal.message))
    }
}

fn status(error: Error) -> Status {
    match error {
        Error::Conflict { .. } => Status::already_exists(error.to_string()),
        Error::Bad(_) | Error::BadContent(_) => Status::invalid_argument(error.to_string()),
        Error::Full => Status::resource_exhausted(error.to_string()),
        Error::Broken(_) | Error::Opening | Error::Closed => Status::unavailable(error.to_string()),
    }
}

#[tonic::async_trait]
impl NodeLogs for Service {
    async fn put(&self, request: Request<pb::Pieces>) -> Result<Response<pb::HeldList>, Status> {
        let pieces = self.admit(request)?.pieces;
        let mut keys: Vec<AttemptKey> = pieces.iter().map(key_of).collect();
        keys.sort_unstable();
        keys.dedup();
        self.0.store.put(pieces).await.map_err(status)?;
        let held = keys.into_iter().map(|key| self.0.own(key).message(key)).collect();
        Ok(Response::new(pb::HeldList { held, next_run: 0, epoch: self.0.epoch }))
    }

    async fn held(
        &self,
        request: Request<pb::HeldRequest>,
    ) -> Result<Response<pb::HeldList>, Status> {
        let ask = self.admit(request)?;
        if let Some(error) = self.0.store.shut() {
            return Err(status(error));
        }
        if !ask.attempts.is_empty() {
            let keys = ask.attempts.into_iter().take(MAX_PAGE).map(|key| attempt_key(Some(key)));
            let held = keys.map(|key| self.0.own(key).message(key)).collect();
            return Ok(Response::new(pb::HeldList { held, next_run: 0, epoch: self.0.epoch }));
        }
        let limit = usize::try_from(ask.limit).unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
        let (page, next) = self.0.store.page(RunId(ask.from_run), limit);
        let held = |(key, ranges)| Held { ranges, dropped: false }.message(key);
        let held = page.into_iter().map(held).collect();
        Ok(Response::new(pb::HeldList {
            held,
            next_run: next.map_or(0, |run| run.0),
            epoch: self.0.epoch,
        }))
    }

    async fn read(
        &self,
        request: Request<pb::ReadRequest>,
    ) -> Result<Response<pb::Pieces>, Status> {
        let ask = self.admit(request)?;
        let (key, max) = (attempt_key(ask.attempt), ask.max_bytes.min(MAX_READ));
        let pieces: Vec<_> = self.0.stored(key, ask.offset, max).await.iter().map(pack).collect();
        // That there is nothing is said only by who knows.
        if let Some(error) = self.0.store.shut().filter(|_| pieces.is_empty()) {
            return Err(status(error));
        }
        Ok(Response::new(pb::Pieces { pieces, dropped: self.0.store.is_gone(key.run) }))
    }

    async fn put_files(
        &self,
        request: Request<pb::Contents>,
    ) -> Result<Response<pb::FileList>, Status> {
        let contents = self.admit(request)?.contents;
        self.0.store.put_contents(contents).await.map_err(status)?;
        Ok(Response::new(pb::FileList::default()))
    }

    async fn held_files(
        &self,
        request: Request<pb::FileList>,
    ) -> Result<Response<pb::FileList>, Status> {
        let ask = self.admit(request)?;
        if let Some(error) = self.0.store.shut() {
            return Err(status(error));
        }
        let digests = ask.files.iter().map(digest).collect::<Result<Vec<_>, _>>()?;
        let files = self.0.own_files(&digests).into_iter().map(file_ref).collect();
        Ok(Response::new(pb::FileList { files }))
    }

    async fn read_file(
        &self,
        request: Request<pb::FileRef>,
    ) -> Result<Response<pb::Content>, Status> {
        let digest = digest(&self.admit(request)?)?;
        match self.0.own_file(digest).await {
            Some((content, _)) => Ok(Response::new(content)),
            // That there is nothing is said only by who knows.
            None => Err(self
                .0
                .store
                .shut()
                .map_or_else(|| Status::not_found("this node does not hold it"), status)),
        }
    }
}

fn digest(file: &pb::FileRef) -> Result<Digest, Status> {
    digest_in(&file.digest).map_err(|error| Status::invalid_argument(error.to_string()))
}

#[tonic::async_trait]
impl WorkerFiles for Service {
    async fn fetch(&self, request: Request<pb::FileRef>) -> Result<Response<pb::Content>, Status> {
        self.permit(request.metadata())?;
        let digest = digest(request.get_ref())?;
        match self.0.file(digest).await {
            Ok((content, _)) => Ok(Response::new(content)),
            Err(error) if error.is_final() => Err(Status::not_found(error.to_string())),
            Err(error) => Err(Status::unavailable(error.to_string())),
        }
    }
}

impl Logs {
    /// What this node itself holds from `offset` on.
    pub(super) async fn stored(&self, key: AttemptKey, offset: u64, max: u64) -> Vec<Piece> {
        let store = Arc::clone(&self.store);
        let read = tokio::task::spawn_blocking(move || store.read(key, offset, max)).await;
        // A panic of it was told; the bytes are asked for elsewhere.
        read.unwrap_or_default()
    }
}

#[tonic::async_trait]
impl WorkerLogs for Service {
    type DeliverStream = BoxStream<'static, Result<pb::ToWorker, Status>>;

    async fn deliver(
        &self,
        request: Request<Streaming<pb::FromWorker>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        let logs = Arc::clone(&self.0);
        self.permit(request.metadata())?;
        let (answers, queue) = mpsc::channel(ANSWERS);
        let from = request.into_inner();
        let end = logs.end.clone();
        tokio::spawn(async move {
            end.run_until_cancelled(intake::serve(logs, from, answers)).await;
        });
        Ok(Response::new(ReceiverStream::new(queue).map(Ok).boxed()))
    }
}
