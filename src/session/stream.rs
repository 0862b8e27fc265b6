//! One stream's life: opened, read until it breaks, taken out.
//!
//! The reader waits where its frames must wait (an attachment's commit, a full
//! queue of results), which holds back this worker and no other.

use std::sync::Arc;

use futures_util::stream::{self, BoxStream, StreamExt};
use horai_core::ids::Name;
use horai_core::model::access::TokenHash;
use horai_proto::worker as pb;
use horai_proto::worker::from_worker::Body as Said;
use horai_proto::worker::worker_link_server::WorkerLink;
use tonic::{Request, Response, Status, Streaming};

use super::access::{self, Refusal};
use super::beats::Beat;
use super::hello::Parts;
use super::registry::{Opened, StreamId, WorkerLoad};
use super::results::Finished;
use super::{FRAME, Sessions};
use crate::error::ErrorCode;
use crate::worker::wire;

/// Of a worker's reason to take nothing, so many characters are kept.
const MAX_REASON: usize = 256;

/// Serves the worker port.
pub struct Link {
    sessions: Arc<Sessions>,
}

impl Link {
    pub(super) fn new(sessions: Arc<Sessions>) -> Self {
        Self { sessions }
    }
}

#[tonic::async_trait]
impl WorkerLink for Link {
    type AttachStream = BoxStream<'static, Result<pb::ToWorker, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<pb::FromWorker>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let sessions = &self.sessions;
        let caller = access::caller(request.metadata());
        let name = caller.as_ref().ok().map(|caller| caller.name.clone());
        let opened = caller.and_then(|caller| {
            sessions.node.read(|state| access::permit(state, &caller.token))?;
            let lead = |leader| sessions.lead_frame(leader);
            let opened = sessions.registry().open(caller.name, caller.incarnation, lead)?;
            Ok((opened, caller.token))
        });
        match opened {
            Ok((opened, token)) => {
                let Opened { id, inbox, gone, cut } = opened;
                let reader = Arc::clone(sessions).read(id, token, request.into_inner());
                let reader = async move { gone.run_until_cancelled(reader).await };
                let owner = Arc::clone(sessions);
                sessions.runtime.spawn(async move {
                    reader.await;
                    owner.registry().remove(id);
                });
                let frames = stream::unfold(inbox, |mut inbox| async {
                    inbox.next().await.map(|frame| (Ok(frame), inbox))
                });
                Ok(Response::new(frames.take_until(cut.cancelled_owned()).boxed()))
            }
            Err(refusal) => {
                sessions.log_refusal(name, &refusal);
                let frame = pb::ToWorker { body: Some(refusal.frame()) };
                Ok(Response::new(stream::iter([Ok(frame)]).boxed()))
            }
        }
    }
}

impl Sessions {
    /// Reads until the stream ends or is not to be served any more.
    async fn read(
        self: Arc<Self>,
        id: StreamId,
        token: TokenHash,
        mut from: Streaming<pb::FromWorker>,
    ) {
        let mut parts = Parts::default();
        loop {
            match from.message().await {
                Ok(Some(pb::FromWorker { body: Some(body) })) => {
                    if let Err(refusal) = self.on_said(id, &token, &mut parts, body).await {
                        let name = self.registry().identity(id).map(|(name, _)| name);
                        self.log_refusal(name, &refusal);
                        self.registry().send(id, refusal.frame());
                        return;
                    }
                }
                Ok(Some(pb::FromWorker { body: None })) => {}
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(stream = id, %error, "worker's stream broke");
                    return;
                }
            }
        }
    }

    /// A worker that is refused comes again each second: it is logged once.
    fn log_refusal(&self, worker: Option<Name>, refusal: &Refusal) {
        let (code, message) = (refusal.code, &refusal.message);
        match worker {
            Some(worker) if self.registry().is_news(&worker, message) => {
                tracing::warn!(%worker, %code, reason = message, "worker refused");
            }
            Some(_) | None => tracing::debug!(%code, message, "stream refused"),
        }
    }

    async fn on_said(
        self: &Arc<Self>,
        id: StreamId,
        token: &TokenHash,
        parts: &mut Parts,
        body: Said,
    ) -> Result<(), Refusal> {
        match body {
            Said::Hello(hello) => self.on_hello(id, parts, hello).await,
            Said::Heartbeat(beat) => {
                // A token that was dropped or has expired ends what it opened.
                self.node.read(|state| access::permit(state, token))?;
                self.on_heartbeat(id, &beat);
                Ok(())
            }
            Said::Handles(handles) => self.on_handles(id, &handles).await,
            Said::Results(results) => {
                at_most_a_frame("results", results.results.len())?;
                let results = results.results.iter().map(wire::report).collect::<Result<_, _>>();
                let results = results.map_err(|e| Refusal::new(ErrorCode::Malformed, e))?;
                self.on_results(id, results).await;
                Ok(())
            }
            Said::Sight(sight) => {
                self.on_sight(id, sight);
                Ok(())
            }
        }
    }

    fn on_heartbeat(&self, id: StreamId, beat: &pb::Heartbeat) {
        let load = WorkerLoad {
            memory_total: beat.memory_total,
            memory_available: beat.memory_available,
            load_per_core_permille: beat.load_per_core_permille,
            cpu_permille: beat.cpu_permille,
            disk_total: beat.disk_total,
            disk_available: beat.disk_available,
            slots_free: beat.slots_free,
            closed: beat.closed.chars().take(MAX_REASON).collect(),
        };
        let mut registry = self.registry();
        registry.set_load(id, load);
        if let Some((worker, incarnation, leading)) = registry.attachment(id) {
            let beat = Beat { stream: id, worker, incarnation, seq: beat.seq };
            // If that many wait, the next heartbeat will do.
            let _ = leading.beats.try_send(beat);
        }
    }

    /// Hands results on to be committed; on a stream that is not attached they are
    /// ignored, because the next Hello brings them again.
    pub(super) async fn on_results(&self, id: StreamId, results: Vec<Reported>) {
        let found = {
            let registry = self.registry();
            registry.attachment(id).map(|(worker, _, leading)| (worker, leading.results.clone()))
        };
        let Some((worker, queue)) = found else { return };
        for (key, token, ending) in results {
            let finished = Finished { stream: id, worker, key, token, ending };
            if queue.send(finished).await.is_err() {
                // The leadership ended.
                return;
            }
        }
    }
}

/// Attempt, token, and how it ended.
pub(crate) type Reported =
    (horai_core::ids::AttemptKey, horai_core::ids::Token, crate::worker::ending::Ending);

/// Refuses a longer list than the protocol allows.
pub(super) fn at_most_a_frame(what: &str, len: usize) -> Result<(), Refusal> {
    if len <= FRAME {
        return Ok(());
    }
    let message = format!("a frame with {len} {what}, at most {FRAME}: upgrade the worker");
    Err(Refusal::new(ErrorCode::TooLarge, message))
}
