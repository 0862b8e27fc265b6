//! One node: built in order, run until it is told to stop, stopped in order.
//!
//! The only place that knows all parts. Ports are bound before anything is
//! opened, so that a wrong address costs nothing; Raft runs on threads of its own,
//! so that no request delays a heartbeat.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use horai_core::ids::NodeId;
use horai_core::machine::state::State;
use horai_raft::node::{Options, RaftNode};
use horai_raft::types::Member;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

use crate::config::NodeConfig;
use crate::founding;
use crate::leader::events::EventHub;
use crate::leader::{self, Counters};
use crate::session::{Node, Sessions};

/// A worker that does not answer this long after it was silent this long is gone:
/// together a second.
const STREAM_SILENT: Duration = Duration::from_millis(300);
const STREAM_ANSWER: Duration = Duration::from_millis(700);
/// Bytes that may be under way on a worker's connection.
const STREAM_WINDOW: u32 = 1 << 20;
/// All of stopping together,
const GRACE: Duration = Duration::from_secs(10);
/// of which the leader may use so much to hand over.
const HAND_OVER: Duration = Duration::from_secs(2);

/// Why a node does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port is taken, or not of this machine.
    #[error("cannot listen on {address} (node.{service}): free it, or choose another")]
    Bind {
        /// `http`, `grpc` or `raft`.
        service: &'static str,
        /// As configured.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The store cannot be trusted, or is not there.
    #[error("the node's store cannot be used")]
    Store(#[from] horai_raft::open::Error),
    /// Raft does not start.
    #[error("raft does not start")]
    Raft(#[from] horai_raft::node::Error),
    /// The first start cannot be completed.
    #[error("the cluster cannot be founded")]
    Founding(#[from] founding::Error),
    /// A port that was served is not any more.
    #[error("the {service} port failed")]
    Port {
        /// `http` or `grpc`.
        service: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Where a node can be reached, as it tells others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Its number.
    pub node: NodeId,
    /// `host:port` of the API.
    pub http: String,
    /// `host:port` for workers.
    pub grpc: String,
    /// `host:port` for other nodes.
    pub raft: String,
}

/// Runs a node until `stop`; `ready` is called once everything is served.
///
/// # Errors
/// [`Error`] if it cannot start, or cannot go on.
pub async fn run(
    config: &NodeConfig,
    stop: CancellationToken,
    ready: impl FnOnce(&Ready),
) -> Result<(), Error> {
    let ports = Ports::bind(config)?;
    let stores = horai_raft::open::open(&founding::store_dir(config))?;
    let identity = stores.identity.get();
    let me = ports.member(config, identity.store.as_u128());
    let events = EventHub::new();
    let options = Options {
        heartbeat: Duration::from_millis(config.raft.heartbeat_ms),
        election_min: Duration::from_millis(config.raft.election_min_ms),
        election_max: Duration::from_millis(config.raft.election_max_ms),
        observer: Some(events.observer()),
    };
    let node = RaftNode::open(stores, State::default(), ports.raft, &options).await?;
    let node: Arc<Node> = Arc::new(node);
    let sessions = Sessions::new(Arc::clone(&node));
    let ends = Ends::default();
    let mut grpc = serve_workers(&sessions, ports.grpc, ends.streams.clone())?;
    let leads = tokio::spawn(leader::run(
        Arc::clone(&node),
        Arc::clone(&sessions),
        events,
        Arc::new(Counters::default()),
        ends.leading.clone(),
    ));
    let found = founding::complete(config, &node, me.clone());
    let began = tokio::select! {
        done = found => done.map_err(Error::from),
        () = stop.cancelled() => Ok(()),
    };
    let ran = match began {
        Ok(()) => {
            ready(&Ready {
                node: NodeId(identity.node),
                http: me.http_addr,
                grpc: me.grpc_addr,
                raft: me.raft_addr,
            });
            tokio::select! {
                () = stop.cancelled() => Ok(()),
                failed = &mut grpc => Err(port_failed("grpc", failed)),
            }
        }
        failed => failed,
    };
    let deadline = Instant::now() + GRACE;
    hand_over(&node, deadline.min(Instant::now() + HAND_OVER)).await;
    ends.leading.cancel();
    if tokio::time::timeout_at(deadline, leads).await.is_err() {
        tracing::warn!("leader services did not stop in time");
    }
    sessions.close();
    ends.streams.cancel();
    if ran.is_ok() && tokio::time::timeout_at(deadline, grpc).await.is_err() {
        tracing::warn!("worker port did not stop in time");
    }
    drop(sessions);
    match Arc::try_unwrap(node) {
        Ok(node) => {
            if tokio::time::timeout_at(deadline, node.shutdown()).await.is_err() {
                tracing::warn!("raft did not stop in time");
            }
        }
        // Whoever still holds it loses it with the process.
        Err(_) => tracing::debug!("the node is still in use at its end"),
    }
    tracing::info!("node stopped");
    ran
}

/// What ends which part.
#[derive(Default)]
struct Ends {
    leading: CancellationToken,
    streams: CancellationToken,
}

/// The three ports, bound.
struct Ports {
    http: TcpListener,
    grpc: TcpListener,
    raft: TcpListener,
}

impl Ports {
    fn bind(config: &NodeConfig) -> Result<Self, Error> {
        let bind = |service, address| {
            let listener = TcpListener::bind(address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                Ok(listener)
            });
            listener.map_err(|source| Error::Bind { service, address, source })
        };
        let node = &config.node;
        Ok(Self {
            http: bind("http", node.http)?,
            grpc: bind("grpc", node.grpc)?,
            raft: bind("raft", node.raft)?,
        })
    }

    /// How others reach this node.
    fn member(&self, config: &NodeConfig, store_uuid: u128) -> Member {
        let node = &config.node;
        let shown = |told: &Option<String>, listener: &TcpListener, configured: SocketAddr| {
            // Port 0 was replaced by the system; asking may fail, the rest cannot.
            let bound = listener.local_addr().unwrap_or(configured);
            told.clone().unwrap_or_else(|| bound.to_string())
        };
        Member {
            raft_addr: shown(&node.advertise_raft, &self.raft, node.raft),
            http_addr: shown(&node.advertise_http, &self.http, node.http),
            grpc_addr: shown(&node.advertise_grpc, &self.grpc, node.grpc),
            store_uuid,
        }
    }
}

type Served = JoinHandle<Result<(), tonic::transport::Error>>;

fn serve_workers(
    sessions: &Arc<Sessions>,
    listener: TcpListener,
    end: CancellationToken,
) -> Result<Served, Error> {
    let listener = tokio::net::TcpListener::from_std(listener)
        .map_err(|source| Error::Port { service: "grpc", source: source.into() })?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(STREAM_SILENT))
        .http2_keepalive_timeout(Some(STREAM_ANSWER))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW)
        .add_service(sessions.service());
    Ok(tokio::spawn(server.serve_with_incoming_shutdown(incoming, end.cancelled_owned())))
}

fn port_failed<E: std::error::Error + Send + Sync + 'static>(
    service: &'static str,
    ended: Result<Result<(), E>, tokio::task::JoinError>,
) -> Error {
    let source = match ended {
        Ok(Ok(())) => "it ended by itself".into(),
        Ok(Err(error)) => error.into(),
        Err(error) => error.into(),
    };
    Error::Port { service, source }
}

/// A leader that stops lets another voter lead first, so that nobody waits for an
/// election.
async fn hand_over(node: &Node, deadline: Instant) {
    let status = node.status();
    if status.leadership.own.is_none() {
        return;
    }
    let others = status.members.iter().filter(|(id, (_, votes))| *votes && **id != status.node);
    for (other, _) in others {
        match tokio::time::timeout_at(deadline, node.transfer(*other)).await {
            Ok(Ok(())) => {
                tracing::info!(to = %other, "leadership handed over");
                return;
            }
            Ok(Err(error)) => tracing::debug!(to = %other, %error, "leadership not taken"),
            Err(_) => break,
        }
    }
    if !status.members.is_empty() {
        tracing::debug!("nobody took over");
    }
}
