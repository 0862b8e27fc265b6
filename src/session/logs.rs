//! Output of attempts, read from the worker that holds it.
//!
//! A reader asks for one window after another, so that the worker never sends
//! more than was asked for: whoever reads slowly holds up nobody, and whoever
//! leaves costs one window. The end of a followed log is known from the
//! replicated state: the attempt was over before the last window was asked for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use horai_core::ids::{AttemptKey, RunId, WorkerId};
use horai_core::machine::state::State;
use horai_proto::worker as pb;
use tokio::sync::mpsc;

use super::Sessions;
use super::access::Refusal;
use crate::error::ErrorCode;

/// Bytes asked for at once.
const WINDOW: u64 = 256 << 10;
/// Chunks of one window that may wait: more than a worker makes of it.
const CHUNKS: usize = 64;
/// Parts that wait for the caller.
const PARTS: usize = 8;
/// Between two looks at a log that is followed.
const FOLLOW: Duration = Duration::from_millis(200);
/// How long a worker may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which bytes of which attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRequest {
    /// The run.
    pub run: RunId,
    /// Its shard; 0 if it has only one.
    pub shard: u32,
    /// Which attempt, from 1.
    pub number: u32,
    /// First byte.
    pub offset: u64,
    /// How many at most; none: to the end.
    pub max_bytes: Option<u64>,
    /// Stay until the attempt has ended.
    pub follow: bool,
}

impl LogRequest {
    fn attempt(&self) -> AttemptKey {
        AttemptKey { run: self.run, shard: self.shard, number: self.number }
    }
}

/// Parts of a log, in order; the last is an end or a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogPart {
    /// Bytes.
    Data {
        /// Of the first of them.
        offset: u64,
        /// The bytes.
        data: Bytes,
    },
    /// All that was asked for was sent.
    End {
        /// Bytes that the worker holds of this attempt.
        total: u64,
    },
    /// It broke off here; reading may go on from the next byte.
    Failed(LogError),
}

/// Why a log cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// No stream to the worker stands on this node.
    #[error("worker {0} is not connected to this node: its output can be read when it is back")]
    NotConnected(WorkerId),
    /// The worker refused: it does not hold the output, or not these bytes.
    #[error("the worker does not give the output: {0}")]
    Refused(String),
    /// Too many read the worker's logs.
    #[error("{0}")]
    Busy(String),
    /// The stream broke, or the worker does not answer.
    #[error("the worker did not answer in time: read on from the last byte received")]
    Broken,
}

impl LogError {
    /// The row of the table of errors.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotConnected(_) | Self::Broken => ErrorCode::Unavailable,
            Self::Refused(_) => ErrorCode::NotFound,
            Self::Busy(_) => ErrorCode::LimitReached,
        }
    }
}

/// The first window is read before this returns, so that most errors come as errors.
pub(super) async fn read(
    sessions: Arc<Sessions>,
    worker: WorkerId,
    request: LogRequest,
) -> Result<mpsc::Receiver<LogPart>, LogError> {
    let mut reader = Reader { sessions, worker, request, total: 0 };
    let first = reader.window().await?;
    let (to, parts) = mpsc::channel(PARTS);
    let runtime = reader.sessions.runtime.clone();
    runtime.spawn(reader.serve(first, to));
    Ok(parts)
}

struct Reader {
    sessions: Arc<Sessions>,
    worker: WorkerId,
    /// Moves on as windows are read.
    request: LogRequest,
    total: u64,
}

/// One window's bytes.
struct Window {
    offset: u64,
    data: Vec<Bytes>,
    /// Nothing more will come.
    is_last: bool,
}

impl Reader {
    async fn serve(mut self, first: Window, to: mpsc::Sender<LogPart>) {
        let mut window = first;
        loop {
            let is_empty = window.data.is_empty();
            let mut offset = window.offset;
            for data in window.data {
                let next = offset + data.len() as u64;
                if to.send(LogPart::Data { offset, data }).await.is_err() {
                    return;
                }
                offset = next;
            }
            if window.is_last {
                let _ = to.send(LogPart::End { total: self.total }).await;
                return;
            }
            if is_empty {
                tokio::select! {
                    () = to.closed() => return,
                    () = tokio::time::sleep(FOLLOW) => {}
                }
            }
            window = match self.window().await {
                Ok(window) => window,
                Err(error) => {
                    // The caller may have gone too.
                    let _ = to.send(LogPart::Failed(error)).await;
                    return;
                }
            };
        }
    }

    async fn window(&mut self) -> Result<Window, LogError> {
        let request = self.request;
        let wanted = request.max_bytes.unwrap_or(WINDOW).min(WINDOW);
        if wanted == 0 {
            return Ok(Window { offset: request.offset, data: Vec::new(), is_last: true });
        }
        // Asked before reading: what is then read is all there will be.
        let (name, is_over) = self.sessions.node.read(|state| {
            let name = state.worker(self.worker).map(|w| w.profile.name.clone());
            (name, is_over(state, request.attempt()))
        });
        let (to, mut chunks) = mpsc::channel(CHUNKS);
        {
            let registry = &mut *self.sessions.registry();
            let stream = name.and_then(|name| registry.by_name(&name));
            let stream = stream.ok_or(LogError::NotConnected(self.worker))?;
            let ask = pb::LogRead {
                request_id: 0,
                run: request.run.0,
                shard: request.shard,
                number: request.number,
                offset: request.offset,
                max_bytes: wanted,
                follow: false,
            };
            registry.ask_log(stream, ask, to).map_err(of_refusal)?;
        }
        let mut window = Window { offset: request.offset, data: Vec::new(), is_last: false };
        let mut next = request.offset;
        loop {
            let chunk = tokio::time::timeout(PATIENCE, chunks.recv()).await;
            let Ok(Some(chunk)) = chunk else { return Err(LogError::Broken) };
            if !chunk.error.is_empty() && !is_over && request.offset == 0 && next == 0 {
                // Dispatched, and not begun at its worker: there is no output yet.
                window.is_last = !request.follow;
                return Ok(window);
            }
            if !chunk.error.is_empty() {
                return Err(LogError::Refused(chunk.error));
            }
            let len = chunk.data.len() as u64;
            if chunk.offset != next || next.saturating_add(len) > request.offset + wanted {
                return Err(LogError::Refused(format!(
                    "byte {} came where byte {next} was due",
                    chunk.offset
                )));
            }
            next += len;
            self.total = chunk.total;
            if len > 0 {
                window.data.push(chunk.data);
            }
            if chunk.end {
                break;
            }
        }
        let read = next - request.offset;
        self.request.offset = next;
        self.request.max_bytes = request.max_bytes.map(|max| max - read);
        let is_whole = next >= self.total && (is_over || !request.follow);
        window.is_last = is_whole || self.request.max_bytes == Some(0);
        Ok(window)
    }
}

/// True if an attempt has ended, or is not known any more.
fn is_over(state: &State, key: AttemptKey) -> bool {
    let attempts = state.run(key.run).map(|run| run.attempts.as_slice()).unwrap_or_default();
    attempts.iter().find(|a| a.key == key).is_none_or(|a| a.end.is_some())
}

fn of_refusal(refusal: Refusal) -> LogError {
    match refusal.code {
        ErrorCode::LimitReached => LogError::Busy(refusal.message),
        _ => LogError::Broken,
    }
}
