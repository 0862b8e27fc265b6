//! What became of a run or an action, in words.

use horai_core::history::{By, Change, What, of_action, of_run};
use horai_core::ids::ActionKey;
use horai_core::machine::state::State;
use horai_core::model::action::{Action, ActionState};
use horai_core::model::history::{Before, Cause};
use horai_core::model::run::{AttemptCause, Run, RunResult};
use serde::{Deserialize, Serialize};

use super::runs::{EndDto, worker_name};
use super::text::{ActionRef, AttemptRef, BackfillRef, RunRef, Time};

/// One change of a run or an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryDto {
    /// When it was committed; of an attempt's begin, when its worker saw it.
    pub at: Time,
    /// One word: `created queued split dispatched began ended lost backoff finished`, for
    /// actions `due met run finished`, what somebody did (`asked cancel_asked displaced
    /// job_deleted recovered super_recovered revived backfilled forced skipped`), and
    /// `resumed` or `not_kept`.
    pub what: String,
    /// Who made it: `leader`, `worker w1`, or who asked, such as `token:admin`.
    pub by: String,
    /// The same for people.
    pub detail: String,
}

impl HistoryDto {
    /// All changes of a run that are known, oldest first.
    #[must_use]
    pub fn of_run(state: &State, run: &Run) -> Vec<Self> {
        of_run(state, run).iter().map(|change| Self::of(state, change)).collect()
    }

    /// The same of an action; what its runs did is told by them.
    #[must_use]
    pub fn of_action(state: &State, key: ActionKey, action: &Action) -> Vec<Self> {
        of_action(state, key, action).iter().map(|change| Self::of(state, change)).collect()
    }

    fn of(state: &State, change: &Change) -> Self {
        let by = match &change.by {
            By::Leader => "leader".to_owned(),
            By::Worker(worker) => format!("worker {}", worker_name(state, *worker)),
            By::Said(by) => by.clone(),
        };
        let (what, detail) = told(state, &change.what);
        Self { at: Time(change.at), what: what.to_owned(), by, detail }
    }
}

/// The word and the sentence.
fn told(state: &State, what: &What) -> (&'static str, String) {
    let action = |key: &ActionKey| ActionRef::of(state, *key);
    match what {
        What::Due => ("due", "its time came".to_owned()),
        What::Met(up, Some(run)) => ("met", format!("{} by {}", action(up), RunRef(*run))),
        What::Met(up, None) => ("met", format!("{}, without a run of it", action(up))),
        What::RunMade(run, kind) => ("run", format!("{} ({})", RunRef(*run), kind.word())),
        What::Created(kind, triggers) if triggers.is_empty() => ("created", kind.word().to_owned()),
        What::Created(kind, triggers) => {
            let names: Vec<&str> = triggers.iter().map(|trigger| trigger.0.as_ref()).collect();
            ("created", format!("{}, of trigger {}", kind.word(), names.join(", ")))
        }
        What::Queued(AttemptCause::First) => ("queued", "it waits to be dispatched".to_owned()),
        What::Queued(AttemptCause::Retry) => ("queued", "for a retry".to_owned()),
        What::Queued(AttemptCause::WorkerLost) => {
            ("queued", "again, because its worker was lost".to_owned())
        }
        What::Queued(AttemptCause::Drained) => {
            ("queued", "again, because its worker was drained".to_owned())
        }
        What::WaitsAnew => {
            ("resumed", "a pause has ended: its wait to begin counts anew".to_owned())
        }
        What::NotKept(first) => {
            ("not_kept", format!("earlier attempts than {} are not kept", AttemptRef(*first)))
        }
        What::NotesNotKept(count) => {
            ("not_kept", format!("{count} of what was asked between are not kept"))
        }
        What::Dispatched(key, worker, cause) => {
            let worker = worker_name(state, *worker);
            ("dispatched", format!("{} to worker {worker} ({})", AttemptRef(*key), cause.word()))
        }
        What::Began(key) => ("began", AttemptRef(*key).to_string()),
        What::Ended(key, how) => ("ended", format!("{} {}", AttemptRef(*key), EndDto::said(how))),
        What::Lost(key, how) => ("lost", format!("{} {}", AttemptRef(*key), EndDto::said(how))),
        What::Backoff(retry, Some(until)) => {
            ("backoff", format!("until {}, before retry {retry}", Time(*until)))
        }
        What::Backoff(retry, None) => ("backoff", format!("before retry {retry}")),
        What::Noted(cause) => (cause.word(), noted(state, *cause)),
        What::Split(total) => ("split", format!("over {total} workers")),
        What::Finished(result) => ("finished", finished(*result)),
        What::Settled(ActionState::Skipped(reason)) => {
            ("finished", format!("skipped ({})", reason.word()))
        }
        What::Settled(state) => ("finished", state.word().to_owned()),
        What::Elsewhere => ("finished", "success (area)".to_owned()),
    }
}

fn finished(result: RunResult) -> String {
    match result.reason() {
        Some(reason) => format!("{} ({reason})", result.word()),
        None => result.word().to_owned(),
    }
}

/// What somebody did, and what the action was before.
fn noted(state: &State, cause: Cause) -> String {
    let action = |key| ActionRef::of(state, key);
    let did = match cause {
        Cause::Asked => "a run of its action was asked for".to_owned(),
        Cause::CancelAsked => "its end was asked for".to_owned(),
        Cause::Displaced(by) => format!("{} is to run in its place", action(by)),
        Cause::JobDeleted => "its job was deleted".to_owned(),
        Cause::Recovered(_) => "it is run again".to_owned(),
        Cause::RecoveredBelow(root, _) => {
            format!("it is run again with all that follows from {}", action(root))
        }
        Cause::Revived(up, _) => format!("it is run again: {} has succeeded now", action(up)),
        Cause::Backfilled(backfill, _) => {
            format!("back-fill {} runs it", BackfillRef(backfill))
        }
        Cause::Forced(_) => "it counts as a success without a run".to_owned(),
        Cause::Skipped(_) => "it is not to run".to_owned(),
    };
    match cause.before() {
        Some(before) => format!("{did}; it was {}", was(before)),
        None => did,
    }
}

fn was(before: Before) -> String {
    let state = match before.state {
        ActionState::Skipped(reason) => format!("skipped ({})", reason.word()),
        other => other.word().to_owned(),
    };
    let since = before.since.map(|at| format!(" since {}", Time(at))).unwrap_or_default();
    let run = before.run.map(|run| format!(", run {}", RunRef(run))).unwrap_or_default();
    format!("{state}{since}{run}")
}
