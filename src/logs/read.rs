//! Reads an output from wherever it is: this node's disk first, then the others'.
//!
//! One window after another, as the reader takes them: whoever reads slowly holds up
//! nobody, and whoever leaves costs one window. The end is known from the replicated
//! state, which says how long the output of an attempt is that is over; what was not
//! delivered yet is waited for, so that nobody takes a part for the whole.

use std::sync::Arc;
use std::time::Duration;

use horai_core::ids::{AttemptKey, NodeId};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::{Known, Logs, known};
use crate::chunks::Piece;
use crate::chunks::piece::unpack;
use crate::error::ErrorCode;

/// Bytes read at once.
const WINDOW: u64 = 256 << 10;
/// Parts that wait for the caller.
const PARTS: usize = 8;
/// Between two looks, if nothing comes to this node.
const LOOK: Duration = Duration::from_millis(300);
/// How long bytes that must exist may be on their way.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 20 });

/// Which bytes of which attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRequest {
    /// The attempt.
    pub key: AttemptKey,
    /// First byte.
    pub offset: u64,
    /// Stay until the attempt has ended.
    pub follow: bool,
    /// Only what this node's own disk holds from the first byte on, and no waiting.
    pub local: bool,
}

/// Parts of a log, in order; the last is an end or a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogPart {
    /// Bytes, or that some are left out.
    Piece(Piece),
    /// All that was asked for was sent.
    End {
        /// Where the output ends, or ended when it was looked at.
        total: u64,
    },
    /// It broke off here; reading may go on from the next byte.
    Failed(LogError),
}

/// Why a log cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// No node that answers has these bytes.
    #[error(
        "bytes {from} to {to} of the output are on no node that answers: their worker has not \
         delivered them, or too many nodes are away"
    )]
    Missing {
        /// The first of them.
        from: u64,
        /// Behind the last.
        to: u64,
    },
    /// Those that answer hold nothing more, and are too few to know.
    #[error(
        "too few nodes answer to know how the output goes on behind byte {from}: a majority is \
         needed"
    )]
    TooFew {
        /// What was read ends here.
        from: u64,
    },
    /// Dropped for want of room, or for its age.
    #[error("the output was dropped: it was old, or took too much room")]
    Dropped,
}

impl LogError {
    /// The row of the table of errors.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Missing { .. } | Self::TooFew { .. } => ErrorCode::Unavailable,
            Self::Dropped => ErrorCode::NotFound,
        }
    }
}

/// The first window is read before this returns, so that most errors come as errors.
pub(super) async fn read(
    logs: Arc<Logs>,
    request: LogRequest,
) -> Result<mpsc::Receiver<LogPart>, LogError> {
    let changed = logs.store.changed();
    let mut reader = Reader { logs, request, changed, progress: Instant::now(), asked: None };
    let first = reader.step().await?;
    let (to, parts) = mpsc::channel(PARTS);
    let end = reader.logs.end.clone();
    tokio::spawn(async move {
        // A node that ends does not wait for those who follow.
        end.run_until_cancelled(reader.serve(first, to)).await;
    });
    Ok(parts)
}

/// What the nodes say to hold from a byte on.
struct Found {
    pieces: Vec<Piece>,
    /// A majority was asked: what was acknowledged cannot have been missed.
    is_all: bool,
    /// Some node wants nothing of it any more.
    dropped: bool,
}

enum Step {
    Pieces(Vec<Piece>),
    Wait,
    End,
}

struct Reader {
    logs: Arc<Logs>,
    /// Moves on as windows are read.
    request: LogRequest,
    changed: watch::Receiver<u64>,
    /// When something was read last.
    progress: Instant,
    /// When other nodes were asked last.
    asked: Option<Instant>,
}

impl Reader {
    async fn serve(mut self, first: Step, to: mpsc::Sender<LogPart>) {
        let mut step = first;
        loop {
            match step {
                Step::Pieces(pieces) => {
                    for piece in pieces {
                        if to.send(LogPart::Piece(piece)).await.is_err() {
                            return;
                        }
                    }
                    self.progress = Instant::now();
                }
                Step::Wait => tokio::select! {
                    () = to.closed() => return,
                    _ = timeout(LOOK, self.changed.changed()) => {}
                },
                Step::End => {
                    // The caller may have gone too.
                    let _ = to.send(LogPart::End { total: self.request.offset }).await;
                    return;
                }
            }
            step = match self.step().await {
                Ok(step) => step,
                Err(error) => {
                    let _ = to.send(LogPart::Failed(error)).await;
                    return;
                }
            };
        }
    }

    async fn step(&mut self) -> Result<Step, LogError> {
        let LogRequest { key, offset, follow, local } = self.request;
        // Asked before reading: what is then read is all there will be.
        let known = self.logs.node.read(|state| known(state, key));
        if let Known::Over(Some(total)) = known
            && offset >= total
        {
            return Ok(Step::End);
        }
        self.changed.mark_unchanged();
        let pieces = self.logs.stored(key, offset, WINDOW).await;
        let mut found = Found { pieces, is_all: false, dropped: false };
        if local && found.pieces.is_empty() {
            return match self.logs.store.shut() {
                // That there is nothing is said only by who knows.
                Some(_) => Err(LogError::TooFew { from: offset }),
                None if self.logs.store.is_gone(key.run) => Err(LogError::Dropped),
                None => Ok(Step::End),
            };
        }
        // While it grows, what this node lacks is mostly on its way here.
        let is_early = self.asked.is_some_and(|asked| asked.elapsed() < LOOK);
        if found.pieces.is_empty() && !(is_early && follow && known == Known::Alive) {
            self.asked = Some(Instant::now());
            found = self.elsewhere().await;
        }
        let Found { pieces, .. } = &found;
        if let Some(last) = pieces.last() {
            self.request.offset = last.to;
            return Ok(Step::Pieces(found.pieces));
        }
        let waits = self.progress.elapsed() < PATIENCE;
        match known {
            Known::Alive if follow => Ok(Step::Wait),
            _ if !found.is_all && waits => Ok(Step::Wait),
            _ if !found.is_all => Err(LogError::TooFew { from: offset }),
            Known::Alive => Ok(Step::End),
            _ if found.dropped => Err(LogError::Dropped),
            Known::Over(None) | Known::Gone => Ok(Step::End),
            Known::Over(Some(_)) if waits => Ok(Step::Wait),
            Known::Over(Some(total)) => Err(LogError::Missing { from: offset, to: total }),
        }
    }

    /// What other nodes hold; the one that leads is asked first.
    async fn elsewhere(&self) -> Found {
        let (logs, LogRequest { key, offset, .. }) = (&self.logs, self.request);
        let status = logs.node.status();
        let leader = status.leadership.leader;
        let mut nodes: Vec<NodeId> = status.members.keys().copied().collect();
        nodes.retain(|node| *node != status.node);
        nodes.sort_by_key(|node| Some(*node) != leader);
        let votes = |node: &NodeId| status.members.get(node).is_some_and(|(_, votes)| *votes);
        let mut answer = usize::from(logs.store.shut().is_none() && votes(&status.node));
        let mut dropped = logs.store.is_gone(key.run);
        for node in nodes {
            let Ok(read) = logs.peers.read(node, key, offset, WINDOW).await else { continue };
            answer += usize::from(votes(&node));
            dropped |= read.dropped;
            // Only what joins on: where a node lacks something, nothing is left out.
            let mut at = offset;
            let mut pieces = Vec::new();
            for piece in read.pieces.iter().filter_map(|piece| unpack(piece).ok()) {
                if piece.key != key || piece.from != at {
                    break;
                }
                at = piece.to;
                pieces.push(piece);
            }
            if !pieces.is_empty() {
                return Found { pieces, is_all: false, dropped };
            }
        }
        let voters = status.members.values().filter(|(_, votes)| *votes).count();
        Found { pieces: Vec::new(), is_all: answer * 2 > voters, dropped }
    }
}
