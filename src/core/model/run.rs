//! Runs and attempts: requests to execute, and the tries they take.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::confinement::Usage;
use super::handle::Handle;
use super::history::Notes;
use super::job::Job;
use super::part::{Part, Parts};
use super::stored::extended;
use crate::ids::{
    ActionKey, AttemptKey, BackfillId, Incarnation, JobId, Revision, RunId, Token, WorkerId,
};
use crate::mutants::{self, Mutant};
use crate::time::UtcMillis;

/// One request to execute a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its number.
    pub id: RunId,
    /// What asked for it.
    pub kind: RunKind,
    /// What is executed.
    pub job: JobId,
    /// Definition pinned at creation, retries included.
    pub revision: Revision,
    /// The action it executes, or stands for: none for a manual run unless that was asked
    /// for.
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
    /// Parameters of this run alone: over those of triggers and job.
    pub params: BTreeMap<String, String>,
    /// The back-fill that it belongs to.
    pub backfill: Option<BackfillId>,
    /// Its wait to begin counts from here, and not from `ready_at`: a pause has ended.
    pub waits_from: Option<UtcMillis>,
    /// The attempt that is ended because its worker is drained, and its time is over.
    pub drained: Option<u32>,
    /// What people and others did to it.
    pub notes: Notes,
    /// What its attempts used, by number, where their workers counted.
    pub usage: BTreeMap<u32, Usage>,
    /// What its attempts began elsewhere, by number.
    pub handles: BTreeMap<u32, Vec<Handle>>,
    /// Of which run it is a part, if it is one.
    pub part: Option<Part>,
    /// Its own parts, once it was split.
    pub parts: Option<Parts>,
}

extended! {
    Run (RunId)
    [id kind job revision action nominal state priority catch_up created ready_at retries losses
        cancel_requested attempts]
    [1 params 2 backfill 3 notes 4 drained 8 waits_from 22 usage 31 handles 51 part 52 parts]
}

impl Run {
    /// Worker-loss reruns allowed; one more loss fails the run.
    pub const MAX_LOSSES: u32 = 3;
    /// Older attempts than these are dropped from the record.
    pub const MAX_ATTEMPTS_KEPT: usize = 16;

    /// One of a job as it is now, that waits to be dispatched from now on.
    #[must_use]
    pub fn new(id: RunId, kind: RunKind, job: &Job, nominal: UtcMillis, now: UtcMillis) -> Self {
        Self {
            id,
            kind,
            job: job.id,
            revision: job.revision,
            action: None,
            nominal,
            state: RunState::Queued,
            priority: job.spec.priority,
            catch_up: false,
            created: now,
            ready_at: now,
            retries: 0,
            losses: 0,
            cancel_requested: false,
            attempts: Vec::new(),
            params: BTreeMap::new(),
            backfill: None,
            waits_from: None,
            drained: None,
            notes: Notes::default(),
            usage: BTreeMap::new(),
            handles: BTreeMap::new(),
            part: None,
            parts: None,
        }
    }

    /// The action whose state follows from this run's: one that somebody asked for beside
    /// the plan changes none, nor does a part of a run.
    #[must_use]
    pub fn decides(&self) -> Option<ActionKey> {
        let decides = match self.kind {
            RunKind::Manual => mutants::on(Mutant::ManualTells),
            RunKind::Debug => mutants::on(Mutant::DebugSetsState),
            _ => true,
        };
        self.action.filter(|_| decides && self.part.is_none())
    }

    /// True if its live attempt is to be ended: somebody asked for that, or its worker is
    /// drained and the time for it is over.
    #[must_use]
    pub fn must_end(&self) -> bool {
        self.is_drained() || (self.cancel_requested && self.live_attempt().is_some())
    }

    /// True if its live attempt is to be ended because its worker is drained.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.live_attempt().is_some_and(|live| self.drained == Some(live.key.number))
    }

    /// True while it is not over.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !matches!(self.state, RunState::Finished { .. })
    }

    /// True if it is over and has done what it should.
    #[must_use]
    pub fn has_succeeded(&self) -> bool {
        matches!(self.state, RunState::Finished { result: RunResult::Success, .. })
    }

    /// True while another run of the job must wait, where its definition says so.
    #[must_use]
    pub fn has_turn(&self) -> bool {
        let waits = matches!(self.state, RunState::Backoff { .. });
        self.is_live()
            && self.part.is_none()
            && self.kind.takes_turns()
            && !(waits && mutants::on(Mutant::BackoffLetsOthers))
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
    /// A person who tries something out: no retries, and in nobody's way.
    Debug,
    /// An instant of the past that somebody wants to be run.
    Backfill,
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
            Self::Debug => "debug",
            Self::Backfill => "backfill",
        }
    }

    /// True if a job's `overlap` speaks of such runs.
    #[must_use]
    pub fn takes_turns(self) -> bool {
        match self {
            Self::Schedule
            | Self::Dependency
            | Self::Manual
            | Self::Recover
            | Self::SuperRecover => true,
            Self::Debug | Self::Backfill => false,
        }
    }

    /// True if what such runs put out is kept as the state of a job that keeps any: runs by
    /// which the job's own plan goes on, and not what somebody asked for beside it.
    #[must_use]
    pub fn keeps_state(self) -> bool {
        match self {
            Self::Schedule | Self::Dependency | Self::Recover | Self::SuperRecover => true,
            Self::Manual | Self::Debug | Self::Backfill => false,
        }
    }

    /// True if a pause of the job does not hold such runs.
    #[must_use]
    pub fn ignores_pauses(self) -> bool {
        self == Self::Backfill
    }
}

/// What a person who asks for a run may say of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RunOrder {
    /// To try something out: [`RunKind::Debug`], else [`RunKind::Manual`].
    pub debug: bool,
    /// The instant of an action that it stands for, and changes nothing of.
    pub action: Option<UtcMillis>,
    /// The instant it stands for, without an action; now, if neither is said.
    pub nominal: Option<UtcMillis>,
    /// Another definition than that of now: one of the last [`Job::KEPT_REVISIONS`].
    pub revision: Option<Revision>,
    /// Over those of triggers and job.
    pub params: BTreeMap<String, String>,
    /// 9 goes first; the job's, if nothing is said.
    pub priority: Option<u8>,
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
    /// It was split, and not all of its parts are over.
    Spread,
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
    /// It took longer than a run of its job may take, retries included.
    RunTimedOut,
    /// It waited longer in the queue than a run of its job may wait.
    QueueTimedOut,
    /// The one worker that could run this part of it was removed.
    WorkerRemoved,
    /// It would have had more parts than a run may have.
    TooManyWorkers,
}

impl RunResult {
    /// The word in API and CLI.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed
            | Self::RunTimedOut
            | Self::QueueTimedOut
            | Self::WorkerRemoved
            | Self::TooManyWorkers => "failed",
            Self::Cancelled => "cancelled",
            Self::Deleted => "deleted",
            Self::Skipped => "skipped",
        }
    }

    /// True if its action has failed.
    #[must_use]
    pub fn is_failure(self) -> bool {
        match self {
            Self::Failed
            | Self::RunTimedOut
            | Self::QueueTimedOut
            | Self::WorkerRemoved
            | Self::TooManyWorkers => true,
            Self::Success | Self::Cancelled | Self::Deleted | Self::Skipped => false,
        }
    }

    /// Why it failed, where no attempt of it says that: the field of the definition, or a
    /// word.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::RunTimedOut => Some("run_timeout"),
            Self::QueueTimedOut => Some("queue_timeout"),
            Self::WorkerRemoved => Some("worker_removed"),
            Self::TooManyWorkers => Some("too_many_workers"),
            Self::Success | Self::Failed | Self::Cancelled | Self::Deleted | Self::Skipped => None,
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

impl Attempt {
    /// Why its run is tried again after it, where that is no retry. What its worker gave
    /// back has not begun, so the next one stands in its place.
    #[must_use]
    pub fn rerun_cause(&self) -> Option<AttemptCause> {
        match &self.end.as_ref()?.how {
            EndKind::Declined { .. } => Some(self.cause),
            how => how.rerun_cause(),
        }
    }
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
    /// The worker of the one before was drained.
    Drained,
}

impl AttemptCause {
    /// The word in `HORAI_ATTEMPT_CAUSE` and the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Retry => "retry",
            Self::WorkerLost => "worker_lost",
            Self::Drained => "drained",
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
    /// A text of its job could not be rendered, so that there was nothing to start.
    Unrendered {
        /// Why; at most 256 bytes.
        message: String,
    },
    /// Its worker was drained, the time for that was over, and it was ended.
    Drained,
    /// The process ended with 0, and what it put out cannot be taken.
    BadOutput {
        /// Why; at most 256 bytes.
        message: String,
    },
    /// The kernel killed a process of it because there was no memory left, and it did not
    /// end with 0.
    OomKilled,
    /// Its worker cannot hold it to what its job asks for, so that nothing was started.
    LimitsUnsupported {
        /// Why; at most 256 bytes.
        message: String,
    },
    /// Its worker could not take it, and gave it back: nothing of it began.
    Declined {
        /// Why; at most 256 bytes.
        message: String,
    },
}

impl EndKind {
    /// It could not be started: `why`, cut to the 256 bytes that are kept.
    #[must_use]
    pub fn not_started(why: &str) -> Self {
        Self::NotStarted { message: Self::cut(why) }
    }

    /// A text could not be rendered: `why`, cut in the same way.
    #[must_use]
    pub fn unrendered(why: &str) -> Self {
        Self::Unrendered { message: Self::cut(why) }
    }

    /// What it put out cannot be taken: `why`, cut in the same way.
    #[must_use]
    pub fn bad_output(why: &str) -> Self {
        Self::BadOutput { message: Self::cut(why) }
    }

    /// Its worker cannot hold it to its limits: `why`, cut in the same way.
    #[must_use]
    pub fn limits_unsupported(why: &str) -> Self {
        Self::LimitsUnsupported { message: Self::cut(why) }
    }

    /// Its worker gave it back: `why`, cut in the same way.
    #[must_use]
    pub fn declined(why: &str) -> Self {
        Self::Declined { message: Self::cut(why) }
    }

    fn cut(why: &str) -> String {
        const MAX: usize = 256;
        let cut = (0..=MAX.min(why.len())).rev().find(|i| why.is_char_boundary(*i)).unwrap_or(0);
        why[..cut].to_owned()
    }

    /// True for the one end that makes a run succeed.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Exited { code: 0 })
    }

    /// True if the worker was lost rather than the job at fault.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        self.rerun_cause() == Some(AttemptCause::WorkerLost)
    }

    /// Why its run is tried again after such an end, where that is no retry: it was its
    /// worker's end, and not the job's. See [`Attempt::rerun_cause`].
    fn rerun_cause(&self) -> Option<AttemptCause> {
        match self {
            Self::LeaseExpired | Self::Gone | Self::WorkerLost => Some(AttemptCause::WorkerLost),
            Self::Drained => Some(AttemptCause::Drained),
            Self::Exited { .. }
            | Self::Signaled { .. }
            | Self::TimedOut
            | Self::Cancelled
            | Self::NotStarted { .. }
            | Self::Unrendered { .. }
            | Self::BadOutput { .. }
            | Self::OomKilled
            | Self::LimitsUnsupported { .. }
            | Self::Declined { .. } => None,
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
            Self::Unrendered { .. } => "unrendered",
            Self::Drained => "drained",
            Self::BadOutput { .. } => "bad_output",
            Self::OomKilled => "oom_killed",
            Self::LimitsUnsupported { .. } => "limits_unsupported",
            Self::Declined { .. } => "declined",
        }
    }
}
