//! One node: built in order, run until it is told to stop, stopped in order.
//!
//! The only place that knows all parts. Ports are bound before anything is
//! opened, so that a wrong address costs nothing; Raft runs on threads of its own,
//! so that no request delays a heartbeat.

use std::future::IntoFuture;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt;
use horai_core::ids::NodeId;
use horai_core::machine::state::State;
use horai_core::time::Span;
use horai_raft::membership::Closed;
use horai_raft::node::{Options, RaftNode};
use horai_raft::types::Member;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::{self, ApiState};
use crate::chunks::{Limits, Store};
use crate::config::NodeConfig;
use crate::founding;
use crate::joining;
use crate::leader::events::EventHub;
use crate::leader::{self, Counters};
use crate::logs::{Keep, Logs};
use crate::secrets::{self, KeyFileError, Keyring};
use crate::session::{Node, Sessions};

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
    /// What was noted when the node joined.
    #[error("the node cannot enter its cluster")]
    Joining(#[from] joining::Error),
    /// The cluster will never take it.
    #[error("the cluster does not take this node")]
    NotTaken(#[source] horai_raft::node::Error),
    /// It stopped by itself.
    #[error("the node cannot go on")]
    Closed(#[source] Closed),
    /// The keys of secrets cannot be read.
    #[error("the keys of secrets cannot be used")]
    Secrets(#[from] KeyFileError),
    /// The folder of the logs.
    #[error("the store of logs cannot be used: {}", path.display())]
    Logs {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
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
    let keys = match &config.secrets.key_file {
        Some(file) => Keyring::read(file)?,
        None => Keyring::none(),
    };
    let keys = Arc::new(keys);
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
        ..Options::default()
    };
    let node = RaftNode::open(stores, State::default(), ports.raft, &options).await?;
    let node: Arc<Node> = Arc::new(node);
    let clock_limit = Some(config.node.worker_clock_ms).filter(|ms| *ms > 0).map(Span);
    let sessions = Sessions::strict(Arc::clone(&node), Arc::clone(&keys), clock_limit);
    let logs = Logs::new(Arc::clone(&node), open_logs(config)?, keep(config));
    let ends = Ends::default();
    let grpc = listener("grpc", ports.grpc)?;
    let served = Arc::clone(&sessions).serve(grpc, logs.routes(), ends.streams.clone());
    let mut grpc = tokio::spawn(served);
    let http = listener("http", ports.http)?.tap_io(|connection| {
        // Without it answers are only later.
        let _ = connection.set_nodelay(true);
    });
    let router = api::router(ApiState {
        node: Arc::clone(&node),
        sessions: Arc::clone(&sessions),
        logs: Arc::clone(&logs),
    });
    let http = axum::serve(http, router).with_graceful_shutdown(ends.api.clone().cancelled_owned());
    let mut http = tokio::spawn(http.into_future());
    let leads = tokio::spawn(leader::run(
        Arc::clone(&node),
        Arc::clone(&sessions),
        events,
        Arc::new(Counters::default()),
        ends.leading.clone(),
    ));
    let mut closed = node.closed();
    let goes_on = async {
        founding::complete(config, &node, me.clone()).await?;
        ready(&Ready {
            node: NodeId(identity.node),
            http: me.http_addr.clone(),
            grpc: me.grpc_addr.clone(),
            raft: me.raft_addr.clone(),
        });
        enter(config, &node, me.clone()).await?;
        std::future::pending().await
    };
    let (mut http_ended, mut grpc_ended) = (false, false);
    let ran = tokio::select! {
        () = stop.cancelled() => Ok(()),
        failed = goes_on => failed,
        () = sessions.follow_members() => Ok(()),
        () = logs.run() => Ok(()),
        () = secrets::announce(&node, NodeId(identity.node), &keys) => Ok(()),
        reason = closed.wait_for(Option::is_some) => Err(closed_error(reason.ok().as_deref())),
        failed = &mut http => {
            http_ended = true;
            Err(port_failed("http", failed))
        }
        failed = &mut grpc => {
            grpc_ended = true;
            Err(port_failed("grpc", failed))
        }
    };
    let deadline = Instant::now() + GRACE;
    ends.api.cancel();
    hand_over(&node, deadline.min(Instant::now() + HAND_OVER)).await;
    ends.leading.cancel();
    if tokio::time::timeout_at(deadline, leads).await.is_err() {
        tracing::warn!("leader services did not stop in time");
    }
    sessions.close();
    logs.close();
    ends.streams.cancel();
    if !grpc_ended && tokio::time::timeout_at(deadline, grpc).await.is_err() {
        tracing::warn!("worker port did not stop in time");
    }
    if !http_ended && tokio::time::timeout_at(deadline, &mut http).await.is_err() {
        tracing::warn!("requests did not end in time");
        http.abort();
    }
    drop((sessions, logs));
    if tokio::time::timeout_at(deadline, node.shutdown()).await.is_err() {
        tracing::warn!("raft did not stop in time");
    }
    tracing::info!("node stopped");
    ran
}

/// Beside Raft's store, and no part of it: it may be lost and is filled again.
fn open_logs(config: &NodeConfig) -> Result<Arc<Store>, Error> {
    let path = config.node.data_dir.join("logs");
    let store = Store::open(&path, Limits::default());
    Ok(Arc::new(store.map_err(|source| Error::Logs { path, source })?))
}

fn keep(config: &NodeConfig) -> Keep {
    let max_age = Span::secs(config.logs.max_age_days.saturating_mul(86_400));
    Keep { max_bytes: config.logs.max_mib << 20, max_age }
}

/// What ends which part.
#[derive(Default)]
struct Ends {
    api: CancellationToken,
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

/// Announces the node until it votes, and a new address whenever it starts.
async fn enter(config: &NodeConfig, node: &Node, me: Member) -> Result<(), Error> {
    let seeds = joining::seeds(config)?;
    match node.enter(&seeds, me).await {
        Ok(()) => {}
        // Why it stopped is told by the node itself, a moment later.
        Err(horai_raft::node::Error::Stopped) => std::future::pending().await,
        Err(error) => return Err(Error::NotTaken(error)),
    }
    tracing::info!("node votes");
    Ok(joining::entered(config)?)
}

fn closed_error(reason: Option<&Option<Closed>>) -> Error {
    match reason {
        Some(Some(closed)) => Error::Closed(closed.clone()),
        Some(None) | None => Error::Raft(horai_raft::node::Error::Stopped),
    }
}

fn listener(service: &'static str, bound: TcpListener) -> Result<tokio::net::TcpListener, Error> {
    let listener = tokio::net::TcpListener::from_std(bound);
    listener.map_err(|source| Error::Port { service, source: source.into() })
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
    if node.status().leadership.own.is_none() {
        return;
    }
    match tokio::time::timeout_at(deadline, node.hand_over()).await {
        Ok(Ok(())) => tracing::info!("leadership handed over"),
        Ok(Err(error)) => tracing::debug!(%error, "nobody took over"),
        Err(_) => tracing::debug!("nobody took over in time"),
    }
}
