//! Keeps one stream to one node alive, for ever: connect, pass frames both ways,
//! reconnect with growing pauses. It does not look into the frames.

use std::time::Duration;

use horai_core::ids::{Incarnation, Name};
use horai_proto::worker as pb;
use horai_proto::worker::worker_link_client::WorkerLinkClient;
use horai_raft::host::{self, Dial};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::transport::Endpoint;

/// Frames that may wait for the network.
pub(super) const FRAMES: usize = 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const KEEP_ALIVE: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The largest frame taken: one order with the largest definition of a job, and room.
const MAX_FRAME: usize = 4 << 20;
/// Bytes that may be under way in one direction.
const WINDOW: u32 = 1 << 20;

/// What happened on the stream to one node.
pub(super) enum Event {
    /// It stands; frames for the node go here.
    Up(mpsc::Sender<pb::FromWorker>),
    /// The node said something.
    Frame(pb::ToWorker),
    /// It broke.
    Down,
}

/// Who the streams are of: sent when each is opened, so that also a node that does
/// not lead knows whom it may ask for logs.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) name: Name,
    pub(super) incarnation: Incarnation,
    pub(super) token: String,
    /// How connections are made; none: over TCP.
    pub(super) dial: Option<Dial>,
}

/// Runs until the agent is gone.
pub(super) async fn keep(
    node: usize,
    address: String,
    identity: Identity,
    events: mpsc::Sender<(usize, Event)>,
) {
    let mut pause = FIRST_PAUSE;
    while !events.is_closed() {
        let begun = Instant::now();
        let error = match once(node, &address, &identity, &events).await {
            Ok(()) => "the node closed the stream".to_owned(),
            Err(error) => error.to_string(),
        };
        tracing::debug!(%address, %error, "no stream to node");
        if events.send((node, Event::Down)).await.is_err() {
            return;
        }
        // A stream that stood for a while was good: its node may be back at once.
        if begun.elapsed() > CONNECT_TIMEOUT {
            pause = FIRST_PAUSE;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn once(
    node: usize,
    address: &str,
    identity: &Identity,
    events: &mpsc::Sender<(usize, Event)>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let endpoint = Endpoint::from_shared(address.to_owned())?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .tcp_nodelay(true);
    let channel = host::connect(&endpoint, identity.dial.as_ref()).await?;
    let (frames, queue) = mpsc::channel(FRAMES);
    let request = identified(identity, ReceiverStream::new(queue))?;
    let mut client = WorkerLinkClient::new(channel).max_decoding_message_size(MAX_FRAME);
    let mut answers = client.attach(request).await?.into_inner();
    events.send((node, Event::Up(frames))).await?;
    while let Some(frame) = answers.message().await? {
        events.send((node, Event::Frame(frame))).await?;
    }
    Ok(())
}

/// A request that says who makes it.
pub(super) fn identified<T>(
    identity: &Identity,
    content: T,
) -> Result<Request<T>, tonic::metadata::errors::InvalidMetadataValue> {
    let mut request = Request::new(content);
    let metadata = request.metadata_mut();
    metadata.insert("authorization", format!("Bearer {}", identity.token).parse()?);
    metadata.insert("horai-worker", identity.name.as_str().parse()?);
    metadata.insert("horai-incarnation", identity.incarnation.to_string().parse()?);
    Ok(request)
}
