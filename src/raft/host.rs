//! What a node or a worker takes from the machine that it runs on.
//!
//! One seam for everything that a simulation must own to run a whole cluster in
//! one thread, again and again with the same outcome:
//!
//! - **clocks**: time since boot and wall time, which may differ from node to node;
//! - **connections**: made with [`Host::dial`], accepted from a [`Port`];
//! - **threads**: runtimes, the flusher, and work that blocks. A host without
//!   threads of its own has all of it done as tasks of the caller's runtime, and
//!   says how long a sync takes there.
//!
//! What is stored has its own seam, [`crate::disk`]; random ids are handed in by
//! whoever makes a store. tokio's own clock needs no seam: a runtime can be paused.
//!
//! The product has one host, [`OsHost`], and its path through here is a plain call:
//! connections are the operating system's TCP, not boxed. Nothing here decides
//! anything.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::TryFutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use horai_core::time::UtcMillis;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::cluster_clock::BootTime;
use crate::priority;

/// The machine under a node or worker.
pub trait Host: fmt::Debug + Send + Sync + 'static {
    /// Time since boot, suspension included; never set.
    fn boot_time(&self) -> BootTime;

    /// The wall clock, which sets cluster time only after a full stop.
    fn wall_time(&self) -> UtcMillis;

    /// How connections are made; none: over TCP, as the operating system does.
    fn dial(&self) -> Option<Dial> {
        None
    }

    /// Whether threads may be started. Without, everything runs as tasks of the
    /// caller's runtime.
    fn has_threads(&self) -> bool {
        true
    }

    /// How long the next sync of a disk takes; asked only without threads, where
    /// nothing blocks.
    fn sync_takes(&self) -> Duration {
        Duration::ZERO
    }
}

/// The operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsHost;

impl Host for OsHost {
    fn boot_time(&self) -> BootTime {
        let at = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let secs = u64::try_from(at.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(at.tv_nsec).unwrap_or(0);
        BootTime(Duration::new(secs, nanos))
    }

    fn wall_time(&self) -> UtcMillis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UtcMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// Both ways of a connection.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that is not the operating system's.
pub struct Connection(Box<dyn Stream>);

impl Connection {
    /// Of anything that reads and writes.
    pub fn new(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self(Box::new(stream))
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

/// Connects to `host:port`.
pub type Dial = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Connection>> + Send + Sync>;

/// Connections that others make.
pub type Incoming = BoxStream<'static, io::Result<Connection>>;

/// Where others connect to.
pub enum Port {
    /// A bound TCP port.
    Tcp(std::net::TcpListener),
    /// Anything else.
    Other(Incoming),
}

impl From<std::net::TcpListener> for Port {
    fn from(listener: std::net::TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<Incoming> for Port {
    fn from(incoming: Incoming) -> Self {
        Self::Other(incoming)
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => f.debug_tuple("Tcp").field(listener).finish(),
            Self::Other(_) => f.write_str("Other"),
        }
    }
}

/// What connects through `dial`.
fn connector(
    dial: Dial,
) -> impl tower::Service<
    Uri,
    Response = TokioIo<Connection>,
    Error = io::Error,
    Future = impl Future<Output = io::Result<TokioIo<Connection>>> + Send,
> + Send
+ 'static {
    service_fn(move |uri: Uri| {
        let address = uri.authority().map(ToString::to_string).unwrap_or_default();
        dial(address).map_ok(TokioIo::new)
    })
}

/// A channel that connects when it is first used.
#[must_use]
pub fn connect_lazy(endpoint: &Endpoint, dial: Option<&Dial>) -> Channel {
    match dial {
        None => endpoint.connect_lazy(),
        Some(dial) => endpoint.connect_with_connector_lazy(connector(Arc::clone(dial))),
    }
}

/// A channel that is connected.
///
/// # Errors
/// If no connection can be made.
pub async fn connect(
    endpoint: &Endpoint,
    dial: Option<&Dial>,
) -> Result<Channel, tonic::transport::Error> {
    match dial {
        None => endpoint.connect().await,
        Some(dial) => endpoint.connect_with_connector(connector(Arc::clone(dial))).await,
    }
}

/// Does work that blocks: on a thread for such work, or right here if there are no
/// threads. A panic becomes an error.
///
/// # Errors
/// Those of the work.
pub async fn blocking<T: Send + 'static>(
    host: &dyn Host,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    if !host.has_threads() {
        return work();
    }
    priority::blocking(work).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_clocks_run() {
        let (boot, wall) = (OsHost.boot_time(), OsHost.wall_time());
        assert!(boot.0 > Duration::ZERO && OsHost.boot_time() >= boot);
        assert!(wall.0 > 1_700_000_000_000);
    }

    #[tokio::test]
    async fn blocking_work_that_panics_is_an_error() {
        assert_eq!(blocking(&OsHost, || Ok(7)).await.unwrap(), 7);
        assert!(blocking::<()>(&OsHost, || panic!("as planned")).await.is_err());
    }
}
