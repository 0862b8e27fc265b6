//! Runs and attempts: requests to execute, and the tries they take.

use serde::{Deserialize, Serialize};

use crate::ids::{ActionKey, AttemptKey, Incarnation, JobId, Revision, RunId, Token, WorkerId};
use crate::time::UtcMillis;

/// One request to execute a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its number.
    pub id: RunId,
    /// What asked for it.
    pub kind: RunKind,
    /// What is executed.
    pub job: JobId,
    /// Definition pinned at creation, retries included.
    pub revision: Revision,
    /// The action it executes; none for a manual run.
    pub action: Option<ActionKey>,
    /// The instant it stands for.
    pub nominal: UtcMillis,
    /// Where it stands.
    pub state: RunState,
    /// 9 goes first, 0 last.
    pub priority: u8,
    /// Behind what is due now.
    pub catch_up: bool,
    /// When it was committed.
    pub created: UtcMillis,
    /// When it may be dispatched; orders the queue.
    pub ready_at: UtcMillis,
    /// Retries used up, worker losses not counted.
    pub retries: u32,
    /// Worker losses, at most [`Run::MAX_LOSSES`].
    pub losses: u32,
    /// Someone asked to end it.
    pub cancel_requested: bool,
    /// Its tries, oldest first; at most the last [`Run::MAX_ATTEMPTS_KEPT`].
    pub attempts: Vec<Attempt>,
}

impl Run {
    /// Worker-loss reruns allowed; one more loss fails the run.
    pub const MAX_LOSSES: u32 = 3;
    /// Older attempts than these are dropped from the record.
    pub const MAX_ATTEMPTS_KEPT: usize = 16;

    /// True if nothing follows any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, RunState::Finished { .. })
    }

    /// The attempt that is dispatched and has not ended.
    #[must_use]
    pub fn live_attempt(&self) -> Option<&Attempt> {
        self.attempts.last().filter(|a| a.end.is_none())
    }
}

/// What asked for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RunKind {
    /// A trigger.
    Schedule,
    /// Upstream successes.
    Dependency,
    /// A person.
    Manual,
    /// An action is run again, and its dependants are told.
    Recover,
    /// The same, with everything below it.
    SuperRecover,
}

impl RunKind {
    /// The word in API, CLI and environment.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Dependency => "dependency",
            Self::Manual => "manual",
            Self::Recover => "recover",
            Self::SuperRecover => "super_recover",
        }
    }
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunState {
    /// Waits to be dispatched.
    Queued,
    /// Waits before a retry.
    Backoff {
        /// When it is queued again.
        until: UtcMillis,
    },
    /// Its last attempt is dispatched and has not ended.
    Running,
    /// Over.
    Finished {
        /// How.
        result: RunResult,
        /// When.
        at: UtcMillis,
    },
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RunResult {
    /// An attempt succeeded.
    Success,
    /// No tries left.
    Failed,
    /// Someone ended it.
    Cancelled,
    /// Its job was deleted before it started.
    Deleted,
    /// Its exit code says that there was nothing to do.
    Skipped,
}

impl RunResult {
    /// The word in API and CLI.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Deleted => "deleted",
            Self::Skipped => "skipped",
        }
    }
}

/// One try on one worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Which try of which run.
    pub key: AttemptKey,
    /// Grows with every attempt of the cluster; a result with another is refused.
    pub token: Token,
    /// Where.
    pub worker: WorkerId,
    /// The worker's incarnation at dispatch.
    pub incarnation: Incarnation,
    /// Why there is this try.
    pub cause: AttemptCause,
    /// When the dispatch was committed.
    pub dispatched: UtcMillis,
    /// How it ended; none while it may be alive.
    pub end: Option<AttemptEnd>,
}

/// Why an attempt was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttemptCause {
    /// The first.
    First,
    /// The one before failed.
    Retry,
    /// The worker of the one before was lost.
    WorkerLost,
}

impl AttemptCause {
    /// The word in `HORAI_ATTEMPT_CAUSE` and the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Retry => "retry",
            Self::WorkerLost => "worker_lost",
        }
    }
}

/// How and when an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptEnd {
    /// When that was committed.
    pub at: UtcMillis,
    /// What happened.
    pub how: EndKind,
    /// When the worker started it, by the worker's estimate of cluster time: not
    /// before its dispatch, not after `at`.
    pub started: Option<UtcMillis>,
    /// When the worker saw it end, by the same estimate: between `started` and `at`.
    pub ended: Option<UtcMillis>,
    /// Bytes of output that the worker holds.
    pub output_bytes: u64,
    /// CRC32C of that output.
    pub output_crc: u32,
}

/// What happened to an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndKind {
    /// The process ended by itself; 0 is success.
    Exited {
        /// Exit code.
        code: i32,
    },
    /// A signal ended the process, not sent by Horai.
    Signaled {
        /// Signal number.
        signal: i32,
    },
    /// It ran longer than its time-out, and was ended.
    TimedOut,
    /// Someone asked, and it was ended.
    Cancelled,
    /// It lost contact for longer than its lease, and its shim ended it.
    LeaseExpired,
    /// It could not be started.
    NotStarted {
        /// Why; at most 256 bytes.
        message: String,
    },
    /// The worker holds no process and no result of it any more.
    Gone,
    /// Nothing was heard of its worker for lease and margin.
    WorkerLost,
}

impl EndKind {
    /// It could not be started: `why`, cut to the 256 bytes that are kept.
    #[must_use]
    pub fn not_started(why: &str) -> Self {
        const MAX: usize = 256;
        let cut = (0..=MAX.min(why.len())).rev().find(|i| why.is_char_boundary(*i)).unwrap_or(0);
        Self::NotStarted { message: why[..cut].to_owned() }
    }

    /// True for the one end that makes a run succeed.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Exited { code: 0 })
    }

    /// True if the worker was lost rather than the job at fault.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        match self {
            Self::LeaseExpired | Self::Gone | Self::WorkerLost => true,
            Self::Exited { .. }
            | Self::Signaled { .. }
            | Self::TimedOut
            | Self::Cancelled
            | Self::NotStarted { .. } => false,
        }
    }

    /// The word in API and CLI, without the number.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Exited { .. } => "exited",
            Self::Signaled { .. } => "signaled",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::LeaseExpired => "lease_expired",
            Self::NotStarted { .. } => "not_started",
            Self::Gone => "gone",
            Self::WorkerLost => "worker_lost",
        }
    }
}
