//! Keeps one stream to one node alive, for ever: connect, pass frames both ways,
//! reconnect with growing pauses. It does not look into the frames.

use std::time::Duration;

use horai_proto::worker as pb;
use horai_proto::worker::worker_link_client::WorkerLinkClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::transport::Endpoint;

/// Frames that may wait for the network.
pub(super) const FRAMES: usize = 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const KEEP_ALIVE: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What happened on the stream to one node.
pub(super) enum Event {
    /// It stands; frames for the node go here.
    Up(mpsc::Sender<pb::FromWorker>),
    /// The node said something.
    Frame(pb::ToWorker),
    /// It broke.
    Down,
}

/// Runs until the agent is gone.
pub(super) async fn keep(
    node: usize,
    address: String,
    token: String,
    events: mpsc::Sender<(usize, Event)>,
) {
    let mut pause = FIRST_PAUSE;
    while !events.is_closed() {
        let error = match once(node, &address, &token, &events, &mut pause).await {
            Ok(()) => "the node closed the stream".to_owned(),
            Err(error) => error.to_string(),
        };
        tracing::debug!(%address, %error, "no stream to node");
        if events.send((node, Event::Down)).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn once(
    node: usize,
    address: &str,
    token: &str,
    events: &mpsc::Sender<(usize, Event)>,
    pause: &mut Duration,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let channel = Endpoint::from_shared(address.to_owned())?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .connect()
        .await?;
    let (frames, queue) = mpsc::channel(FRAMES);
    let mut request = Request::new(ReceiverStream::new(queue));
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    let mut answers = WorkerLinkClient::new(channel).attach(request).await?.into_inner();
    *pause = FIRST_PAUSE;
    events.send((node, Event::Up(frames))).await?;
    while let Some(frame) = answers.message().await? {
        events.send((node, Event::Frame(frame))).await?;
    }
    Ok(())
}
