//! Runs and their attempts.

use std::collections::BTreeMap;

use horai_core::ids::{ActionKey, WorkerId};
use horai_core::machine::state::State;
use horai_core::model::confinement::Usage;
use horai_core::model::handle::Handle;
use horai_core::model::run::{Attempt, AttemptEnd, EndKind, Run, RunResult, RunState};
use serde::{Deserialize, Serialize};

use super::history::HistoryDto;
use super::jobs::{batch_of, job_name};
use super::shards::{ShardCounts, ShardDto};
use super::text::{ActionRef, AttemptRef, BackfillRef, RunRef, Time};

/// A run was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedRun {
    /// Which.
    pub run: RunRef,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunDto {
    /// `r-17`.
    pub id: RunRef,
    /// What asked for it: `schedule dependency manual recover super_recover debug backfill`.
    pub kind: String,
    /// What is executed.
    pub job: String,
    /// Definition pinned at creation.
    pub revision: u64,
    /// The action it executes, or stands for.
    pub action: Option<ActionRef>,
    /// The instant it stands for.
    pub nominal: Time,
    /// The batch key of that instant.
    #[serde(default)]
    pub batch: String,
    /// `queued backoff running success failed cancelled deleted skipped`.
    pub state: String,
    /// Which limit of its job it has passed, `run_timeout` or `queue_timeout`, or why else it
    /// failed without an attempt: `worker_removed`, `too_many_workers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// 9 goes first, 0 last.
    #[serde(default)]
    pub priority: u8,
    /// When it was committed.
    pub created: Time,
    /// When it may be dispatched.
    pub ready_at: Time,
    /// When it was over.
    pub finished: Option<Time>,
    /// Retries used up.
    pub retries: u32,
    /// Workers lost on the way.
    pub losses: u32,
    /// Someone asked to end it.
    pub cancel_requested: bool,
    /// Parameters of this run alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// The back-fill that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill: Option<BackfillRef>,
    /// What it put out, by key; left out in lists.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, String>,
    /// It put something out, and that gave way to newer outputs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outputs_dropped: bool,
    /// Its tries, oldest first.
    pub attempts: Vec<AttemptDto>,
    /// Which shard of the run it is, from 0, if one shard was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<u32>,
    /// How many shards it has, once it was split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard_counts: Option<ShardCounts>,
    /// Each of them; left out in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<ShardDto>,
    /// Every change of it, oldest first; empty where many runs are listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryDto>,
}

impl RunDto {
    /// The words of `kind`.
    pub const KINDS: [&'static str; 7] =
        ["schedule", "dependency", "manual", "recover", "super_recover", "debug", "backfill"];
    /// The words of `state`.
    pub const STATES: [&'static str; 8] =
        ["queued", "backoff", "running", "success", "failed", "cancelled", "deleted", "skipped"];

    /// A run as it stands.
    #[must_use]
    pub fn of(state: &State, run: &Run) -> Self {
        let (reason, finished) = match run.state {
            RunState::Finished { result, at } => (result.reason(), Some(Time(at))),
            RunState::Queued | RunState::Backoff { .. } | RunState::Running | RunState::Spread => {
                (None, None)
            }
        };
        let stands_for = ActionKey { job: run.job, nominal: run.nominal };
        Self {
            id: RunRef(run.part.map_or(run.id, |part| part.of)),
            kind: run.kind.word().to_owned(),
            job: job_name(state, run.job),
            revision: run.revision.0,
            action: run.action.map(|key| ActionRef::of(state, key)),
            nominal: Time(run.nominal),
            batch: batch_of(state, stands_for, Some(run.revision)),
            state: state_word(run).to_owned(),
            reason: reason.map(str::to_owned),
            priority: run.priority,
            created: Time(run.created),
            ready_at: Time(run.ready_at),
            finished,
            retries: run.retries,
            losses: run.losses,
            cancel_requested: run.cancel_requested,
            params: state.whole_of(run).params.clone(),
            backfill: run.backfill.map(BackfillRef),
            outputs: BTreeMap::new(),
            outputs_dropped: state.outputs(run.id).is_some_and(|outputs| outputs.dropped),
            attempts: run.attempts.iter().map(|a| AttemptDto::of(state, run, a)).collect(),
            shard: run.part.map(|part| part.index),
            shard_counts: ShardCounts::of(run),
            shards: Vec::new(),
            history: Vec::new(),
        }
    }

    /// The same with what it put out, and its history.
    #[must_use]
    pub fn told(state: &State, run: &Run) -> Self {
        let outputs = state.outputs(run.id).map(|outputs| outputs.values.clone());
        Self {
            outputs: outputs.unwrap_or_default(),
            shards: ShardDto::all(state, run),
            history: HistoryDto::of_run(state, run),
            ..Self::of(state, run)
        }
    }

    /// True if it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.finished.is_some()
    }
}

/// Where a run stands, in a word.
pub(crate) fn state_word(run: &Run) -> &'static str {
    match run.state {
        RunState::Queued => "queued",
        RunState::Backoff { .. } => "backoff",
        RunState::Running | RunState::Spread => "running",
        RunState::Finished { result, .. } => result.word(),
    }
}

/// Which limit a run that is over has passed, or what else its result says, in a sentence.
pub(super) fn passed_limit(run: &Run) -> Option<&'static str> {
    match run.state {
        RunState::Finished { result: RunResult::RunTimedOut, .. } => {
            Some("it is over: its tries took as long as the job's run_timeout allows")
        }
        RunState::Finished { result: RunResult::QueueTimedOut, .. } => {
            Some("it is over: it waited to begin for as long as the job's queue_timeout allows")
        }
        RunState::Finished { result: RunResult::WorkerRemoved, .. } => {
            Some("it is over: the one worker that could run this shard was removed")
        }
        RunState::Finished { result: RunResult::TooManyWorkers, .. } => {
            Some("it is over: it would have had more shards than the 1,000 that a run may have")
        }
        _ => None,
    }
}

/// One try on one worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptDto {
    /// `r-17.2`.
    pub id: AttemptRef,
    /// Counts the tries from 1.
    pub number: u32,
    /// Its fencing token.
    pub token: u64,
    /// Where it runs.
    pub worker: String,
    /// Why there is this try: `first retry worker_lost`.
    pub cause: String,
    /// When the dispatch was committed.
    pub dispatched: Time,
    /// When the worker started it, by the worker's estimate.
    pub started: Option<Time>,
    /// When the worker saw it end, by the worker's estimate.
    pub ended: Option<Time>,
    /// How it ended; none while it may be alive.
    pub end: Option<EndDto>,
    /// Bytes of output that the worker holds; none while it may be alive.
    pub output_bytes: Option<u64>,
    /// What it used, if its worker counted that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageDto>,
    /// What it began elsewhere, and what became of that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub handles: Vec<HandleDto>,
}

/// What an attempt used; what is 0 may not have been counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageDto {
    /// The most memory at any time, in bytes: of all its processes together in a cgroup,
    /// with what was cached for them, else of the largest one.
    pub peak_memory: u64,
    /// CPU time of all its processes, in milliseconds.
    pub cpu_ms: u64,
    /// Processes that were killed because there was no memory left.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub oom_kills: u64,
    /// Processes that were refused because there were as many as `limits.pids` allows.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refused_forks: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature is serde's
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl UsageDto {
    fn of(usage: Usage) -> Self {
        let Usage { peak_memory_kib, cpu_ms, oom_kills, refused_forks } = usage;
        let peak_memory = peak_memory_kib.saturating_mul(1024);
        Self { peak_memory, cpu_ms, oom_kills, refused_forks }
    }
}

/// What an attempt began elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandleDto {
    /// As its output named it.
    pub text: String,
    /// True if the last command that should end it succeeded; not there if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<bool>,
    /// That command, and what it came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl HandleDto {
    fn of(handle: &Handle) -> Self {
        let end = handle.end.as_ref();
        Self {
            text: handle.text.clone(),
            ended: end.map(|end| end.done),
            by: end.map(|end| end.said.clone()),
        }
    }
}

impl AttemptDto {
    pub(super) fn of(state: &State, run: &Run, attempt: &Attempt) -> Self {
        let end = attempt.end.as_ref();
        Self {
            id: AttemptRef(attempt.key),
            number: attempt.key.number,
            token: attempt.token.0,
            worker: worker_name(state, attempt.worker),
            cause: attempt.cause.word().to_owned(),
            dispatched: Time(attempt.dispatched),
            started: end.and_then(|end| end.started).map(Time),
            ended: end.and_then(|end| end.ended).map(Time),
            end: end.map(EndDto::of),
            output_bytes: end.map(|end| end.output_bytes),
            usage: run.usage.get(&attempt.key.number).copied().map(UsageDto::of),
            handles: run
                .handles
                .get(&attempt.key.number)
                .into_iter()
                .flatten()
                .map(HandleDto::of)
                .collect(),
        }
    }
}

/// The name of a worker, or `#` and its number if it is not known any more.
pub(crate) fn worker_name(state: &State, worker: WorkerId) -> String {
    let known = state.worker(worker);
    known.map_or_else(|| format!("#{worker}"), |known| known.profile.name.to_string())
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndDto {
    /// `exited signaled timed_out cancelled lease_expired not_started gone worker_lost
    /// unrendered drained bad_output oom_killed limits_unsupported declined`.
    pub how: String,
    /// The exit code, if it exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Why it could not be started, its texts not be rendered, its outputs not be taken, or
    /// its limits not be kept, or why its worker gave it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When that was committed.
    pub at: Time,
}

impl EndDto {
    fn of(end: &AttemptEnd) -> Self {
        let (code, signal, message) = match &end.how {
            EndKind::Exited { code } => (Some(*code), None, None),
            EndKind::Signaled { signal } => (None, Some(*signal), None),
            EndKind::NotStarted { message }
            | EndKind::Unrendered { message }
            | EndKind::BadOutput { message }
            | EndKind::LimitsUnsupported { message }
            | EndKind::Declined { message } => (None, None, Some(message.clone())),
            _ => (None, None, None),
        };
        Self { how: end.how.word().to_owned(), code, signal, message, at: Time(end.at) }
    }

    /// An end with its number or message.
    pub(super) fn said(how: &EndKind) -> String {
        let word = how.word();
        match how {
            EndKind::Exited { code: number } | EndKind::Signaled { signal: number } => {
                format!("{word} {number}")
            }
            EndKind::NotStarted { message }
            | EndKind::Unrendered { message }
            | EndKind::LimitsUnsupported { message } => format!("{word}: {message}"),
            _ => word.to_owned(),
        }
    }
}
