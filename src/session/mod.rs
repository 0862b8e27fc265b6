//! The nodes' end of the workers' streams.
//!
//! Every worker keeps a stream to every node. On the node that leads, the stream
//! carries orders, results and acknowledged heartbeats; on the others only the
//! worker's load. Output has streams of its own (`crate::logs`). It decides nothing: what is
//! to run, and what counts as done, is the replicated state's to say, and nothing
//! is told to a worker before it is committed.
//!
//! Reading order: `registry` (who is there), `stream` (one stream's life), `hello`
//! (attachment), then `start` with `texts`, `beats` and `results`.

pub(crate) mod access;
mod beats;
mod handles;
mod hello;
mod origin;
mod registry;
mod results;
mod sight;
mod start;
mod stream;
pub(crate) mod texts;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use horai_core::ids::{Incarnation, LeaderId, RunId, WorkerId};
use horai_core::machine::state::State;
use horai_core::placement::load::Load;
use horai_core::time::{Span, UtcMillis};
use horai_proto::worker as pb;
use horai_proto::worker::to_worker::Body as Say;
use horai_proto::worker::worker_link_server::WorkerLinkServer;
use horai_raft::node::RaftNode;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::server::{Connected, TcpIncoming};

pub use registry::WorkerLoad;
pub use sight::{AttemptUse, ProcessUse, Sight};
pub use stream::Link;

use crate::secrets::Keyring;
use origin::Here;
use registry::{Leading, Registry, StreamId};
use results::Finished;
use sight::Questions;
use texts::Unrendered;

/// The replicated node that everything here reads and proposes to.
pub type Node = RaftNode<State>;

/// Items in one frame.
const FRAME: usize = 256;
/// The largest message taken from a worker, in bytes.
const MAX_FRAME: usize = 1 << 20;
/// Starts go into one frame up to so many bytes; a single one may be larger.
const START_BYTES: usize = 256 << 10;
/// A connection that was silent this long is asked for a sign of life,
const SILENT: Duration = Duration::from_millis(300);
/// and is broken without an answer in this time: together a second.
const ANSWER: Duration = Duration::from_millis(700);
/// Bytes that may be under way on one connection.
const WINDOW: u32 = 1 << 20;
/// How often a change of members is looked for.
const MEMBERS_ROUND: Duration = Duration::from_millis(500);
/// How long a worker may take to tell what runs there.
const LOOK: Duration = Duration::from_secs(3);
/// The most heartbeats and results that wait to be proposed.
const WAITING: usize = 16_384;

/// The streams of this node's workers.
pub struct Sessions {
    node: Arc<Node>,
    registry: Mutex<Registry>,
    runtime: Handle,
    keys: Arc<Keyring>,
    /// How far a worker's clock may be from cluster time.
    clock_limit: Option<Span>,
    questions: Questions,
}

impl Sessions {
    /// Without a stream. Work of its own runs on the current runtime.
    ///
    /// # Panics
    /// Outside a runtime.
    #[must_use]
    pub fn new(node: Arc<Node>) -> Arc<Self> {
        Self::with_keys(node, Arc::new(Keyring::none()))
    }

    /// The same with keys of secrets.
    ///
    /// # Panics
    /// Outside a runtime.
    #[must_use]
    pub fn with_keys(node: Arc<Node>, keys: Arc<Keyring>) -> Arc<Self> {
        Self::strict(node, keys, None)
    }

    /// The same; a worker whose clock is further from cluster time than `clock_limit` is
    /// refused, if nothing is lost by that.
    ///
    /// # Panics
    /// Outside a runtime.
    #[must_use]
    pub fn strict(node: Arc<Node>, keys: Arc<Keyring>, clock_limit: Option<Span>) -> Arc<Self> {
        let registry = Mutex::new(Registry::default());
        let (runtime, questions) = (Handle::current(), Questions::default());
        Arc::new(Self { node, registry, runtime, keys, clock_limit, questions })
    }

    /// What a worker must be of.
    fn here(&self) -> Here {
        let cluster = self.node.read(|state| state.settings().map_or(0, |s| s.uuid));
        Here { cluster, now: self.time(), clock_limit: self.clock_limit }
    }

    /// The keys of secrets that this node has.
    #[must_use]
    pub fn keys(&self) -> &Keyring {
        &self.keys
    }

    /// What the worker port serves.
    #[must_use]
    pub fn service(self: &Arc<Self>) -> WorkerLinkServer<Link> {
        WorkerLinkServer::new(Link::new(Arc::clone(self))).max_decoding_message_size(MAX_FRAME)
    }

    /// Serves the worker port until `end`, and then what the open streams still
    /// hold: [`Self::close`] ends them. With `more`, what else is served there.
    ///
    /// # Errors
    /// If the port fails.
    pub async fn serve(
        self: Arc<Self>,
        port: TcpListener,
        more: Routes,
        end: CancellationToken,
    ) -> Result<(), tonic::transport::Error> {
        let incoming = TcpIncoming::from(port).with_nodelay(Some(true));
        self.serve_on(incoming, more, end).await
    }

    /// [`Self::serve`] on connections of any kind.
    ///
    /// # Errors
    /// If accepting them fails.
    pub async fn serve_on<C>(
        self: Arc<Self>,
        incoming: impl Stream<Item = io::Result<C>>,
        more: Routes,
        end: CancellationToken,
    ) -> Result<(), tonic::transport::Error>
    where
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(SILENT))
            .http2_keepalive_timeout(Some(ANSWER))
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .add_routes(more.add_service(self.service()))
            .serve_with_incoming_shutdown(incoming, end.cancelled_owned())
            .await
    }

    /// This node leads, and its state holds all that was committed before: asks
    /// every worker to attach. Again for the same leader changes nothing.
    pub fn lead(self: &Arc<Self>, leader: LeaderId) {
        let (beats, heard) = mpsc::channel(WAITING);
        let (results, ended) = mpsc::channel(WAITING);
        let stop = CancellationToken::new();
        let leading = Leading { id: leader, beats, results, stop: stop.clone() };
        let frame = self.lead_frame(leader);
        if !self.registry().lead(leading, &frame) {
            return;
        }
        for work in [
            self.runtime.spawn(beats::run(Arc::clone(self), leader, heard, stop.clone())),
            self.runtime.spawn(handles::run(Arc::clone(self), stop.clone())),
            self.runtime.spawn(results::run(Arc::clone(self), ended, stop)),
        ] {
            // They end with the leadership.
            drop(work);
        }
    }

    /// From now on this node gives no orders, and takes no results or heartbeats.
    pub fn stop_leading(&self, leader: LeaderId) {
        self.registry().stop_leading(leader);
    }

    /// Workers that are attached under the current leadership and whose stream
    /// stands, ascending.
    #[must_use]
    pub fn connected(&self) -> Vec<WorkerId> {
        self.registry().attached()
    }

    /// Changes its number when [`Self::connected`] changes.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.registry().changed()
    }

    /// Tells a worker to start the live attempts of these runs, as committed. What
    /// cannot be told is not lost: it is told when the worker attaches.
    pub fn start(&self, worker: WorkerId, runs: Vec<RunId>) {
        let Some((stream, incarnation, leader)) = self.registry().order_to(worker) else { return };
        let starts = self.build(&runs, worker, incarnation, leader);
        for starts in start::frames(starts) {
            if !self.registry().send(stream, Say::Starts(pb::Starts { starts })) {
                return;
            }
        }
    }

    /// Orders for those of the runs whose live attempt is this worker's.
    fn build(
        &self,
        runs: &[RunId],
        worker: WorkerId,
        incarnation: Incarnation,
        leader: LeaderId,
    ) -> Vec<pb::Start> {
        let (mut starts, mut drafts) = (Vec::with_capacity(runs.len()), Vec::new());
        for runs in runs.chunks(start::AT_ONCE) {
            self.node.read(|state| {
                let draft = |run| start::draft(state, run, worker, incarnation, leader);
                drafts.extend(runs.iter().filter_map(|run| draft(*run)));
            });
            for draft in drafts.drain(..) {
                match draft.finish(&self.keys) {
                    Ok(start) => starts.push(start),
                    Err(failed) => self.report_unrendered(worker, failed),
                }
            }
        }
        starts
    }

    /// An attempt ends before its worker hears of it.
    fn report_unrendered(&self, worker: WorkerId, failed: Unrendered) {
        let queue = {
            let registry = self.registry();
            let Some((stream, ..)) = registry.order_to(worker) else { return };
            registry.attachment(stream).map(|(_, _, leading)| (stream, leading.results.clone()))
        };
        // Whoever leads next builds the order again, and finds the same.
        let Some((stream, queue)) = queue else { return };
        let Unrendered { key, token, report } = failed;
        let finished = Finished { stream, worker, key, token, ending: report.into() };
        self.runtime.spawn(async move { queue.send(finished).await });
    }

    /// Tells the worker of a run's live attempt to end it.
    pub fn cancel(&self, run: RunId) {
        let of = |state: &State| Some(state.run(run)?.live_attempt()?.worker);
        let Some(worker) = self.node.read(of) else { return };
        let Some((stream, incarnation, _)) = self.registry().order_to(worker) else { return };
        let order = |state: &State| start::cancel(state, run, worker, incarnation);
        if let Some(cancel) = self.node.read(order) {
            self.registry().send(stream, Say::Cancels(pb::Cancels { cancels: vec![cancel] }));
        }
    }

    /// True while a stream of the worker stands here, on whatever node.
    #[must_use]
    pub fn is_connected(&self, worker: WorkerId) -> bool {
        let name = self.node.read(|state| state.worker(worker).map(|w| w.profile.name.clone()));
        name.is_some_and(|name| self.registry().by_name(&name).is_some())
    }

    /// What the worker's last heartbeat on this node said; none without a stream.
    #[must_use]
    pub fn load(&self, worker: WorkerId) -> Option<WorkerLoad> {
        let name = self.node.read(|state| state.worker(worker).map(|w| w.profile.name.clone()))?;
        self.registry().load(&name)
    }

    /// What runs at the worker now; it takes a good half second. None if no stream of it
    /// stands here, or it does not answer within 3 s: it is frozen, or of an earlier version.
    pub async fn look(&self, worker: WorkerId) -> Option<Sight> {
        let name = self.node.read(|state| state.worker(worker).map(|w| w.profile.name.clone()))?;
        let stream = self.registry().by_name(&name)?;
        let (question, answer) = self.questions.ask(stream);
        let look = pb::Look { number: question.number() };
        if !self.registry().send(stream, Say::Look(look)) {
            return None;
        }
        tokio::time::timeout(LOOK, answer).await.ok()?.ok()
    }

    fn on_sight(&self, stream: StreamId, sight: pb::Sight) {
        self.questions.answer(stream, sight);
    }

    /// What attached workers said last of how busy they are.
    #[must_use]
    pub fn loads(&self) -> Vec<(WorkerId, Load)> {
        let said = self.registry().loads();
        said.into_iter().map(|(worker, load)| (worker, load.seen())).collect()
    }

    /// Keeps every worker told of the cluster's nodes, so that it attaches to those
    /// that came later too. Looks again and again, until dropped.
    pub async fn follow_members(&self) {
        let mut round = tokio::time::interval(MEMBERS_ROUND);
        loop {
            round.tick().await;
            let members = self.node.status().members;
            let nodes = members.into_values().map(|(member, _)| member.grpc_addr);
            self.registry().set_nodes(nodes.take(FRAME).collect());
        }
    }

    /// Ends all streams and takes no more.
    pub fn close(&self) {
        self.registry().close();
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        // Its methods leave it whole at every step.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The best this node knows: its clock, or the time of what it applied last.
    fn time(&self) -> UtcMillis {
        self.node.cluster_now().unwrap_or_else(|| self.node.read(State::now))
    }

    fn lead_frame(&self, leader: LeaderId) -> Say {
        let cluster_time_ms = self.time().0;
        Say::Lead(pb::Lead { term: leader.term, node: leader.node.0, cluster_time_ms })
    }
}

/// The pure parts, for whoever simulates sessions with the code that serves them.
#[cfg(test)]
pub(crate) mod pure {
    pub(crate) use super::hello::{Parts, compare};
    pub(crate) use super::results::{Finished, Step, envelope, is_known};
    pub(crate) use super::start::{build, cancel};
}
