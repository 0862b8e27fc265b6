//! Shards of a run: its parts, as people see them.

use horai_core::ids::WorkerId;
use horai_core::machine::state::State;
use horai_core::model::run::{Run, RunResult, RunState};
use serde::{Deserialize, Serialize};

use super::runs::{AttemptDto, state_word, worker_name};
use super::text::{RunRef, Time};

/// Shards that a sentence names.
const SHOWN: usize = 10;

/// How many shards a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardCounts {
    /// All of them.
    pub total: u32,
    /// Those that are over.
    pub over: u32,
}

impl ShardCounts {
    pub(super) fn of(run: &Run) -> Option<Self> {
        run.parts.map(|parts| Self { total: parts.total, over: parts.over })
    }
}

/// One shard of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardDto {
    /// Its index, from 0.
    pub shard: u32,
    /// The worker that runs it, if no other may.
    pub worker: Option<String>,
    /// As of a run.
    pub state: String,
    /// Why it failed, where no attempt says that: `run_timeout`, `queue_timeout` or
    /// `worker_removed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was over.
    pub finished: Option<Time>,
    /// Retries used up.
    pub retries: u32,
    /// Times that its worker was lost.
    pub losses: u32,
    /// Someone asked to end it.
    pub cancel_requested: bool,
    /// Its tries, oldest first.
    pub attempts: Vec<AttemptDto>,
}

impl ShardDto {
    /// All shards of a run, by index.
    pub(super) fn all(state: &State, run: &Run) -> Vec<Self> {
        state.parts_of(run).filter_map(|part| Self::of(state, part)).collect()
    }

    fn of(state: &State, run: &Run) -> Option<Self> {
        let part = run.part?;
        let (reason, finished) = match run.state {
            RunState::Finished { result, at } => (result.reason(), Some(Time(at))),
            _ => (None, None),
        };
        Some(Self {
            shard: part.index,
            worker: part.worker.map(|worker| worker_name(state, worker)),
            state: state_word(run).to_owned(),
            reason: reason.map(str::to_owned),
            finished,
            retries: run.retries,
            losses: run.losses,
            cancel_requested: run.cancel_requested,
            attempts: run.attempts.iter().map(|a| AttemptDto::of(state, run, a)).collect(),
        })
    }
}

/// What people call a run: `r-12`, or a shard of it `r-12/3`.
pub(super) fn name_of(run: &Run) -> String {
    match run.part {
        Some(part) => format!("{}/{}", RunRef(part.of), part.index),
        None => RunRef(run.id).to_string(),
    }
}

/// How far a run is that was split, and where there is more to know.
pub(super) fn under_way(run: &Run) -> Option<String> {
    let parts = run.parts.filter(|_| run.is_live())?;
    let id = RunRef(run.id);
    Some(format!(
        "it runs on {} workers, and {} of its shards are over: horai run show {id} tells of each, \
         horai run explain {id} --shard N why one waits",
        parts.total, parts.over
    ))
}

/// Which shards a run failed with, if it was split.
pub(super) fn failed(state: &State, run: &Run) -> Option<String> {
    run.parts?;
    let is_failed = |part: &&Run| match part.state {
        RunState::Finished { result, .. } => result.is_failure() || result == RunResult::Cancelled,
        _ => false,
    };
    let failed = state.parts_of(run).filter(is_failed).filter_map(|run| Some(run.part?.index));
    let failed: Vec<u32> = failed.collect();
    let shown: Vec<String> = failed.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = match failed.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let id = RunRef(run.id);
    (!failed.is_empty()).then(|| {
        let shown = shown.join(", ");
        format!("it is over: shards {shown}{more} did not succeed, see horai run show {id}")
    })
}

/// That a shard waits for its own worker, and why.
pub(super) fn waits_for(state: &State, worker: WorkerId, why: String) -> String {
    let worker = worker_name(state, worker);
    format!(
        "it waits for worker {worker}, which alone may run this shard ({why}); one that is gone \
         for good ends it: horai worker remove {worker}"
    )
}
