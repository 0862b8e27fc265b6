//! What became of a run or an action, from the first to the last: every change with
//! its replicated time and who made it.
//!
//! Nothing is written down for this but what people did ([`crate::model::history`]):
//! a run's record says by itself when it was made, given to a worker, ended and tried
//! again, and whose doing each of that is. So a run that nobody touched costs no byte
//! and no time for its history. Reading only; nothing here decides anything.

use crate::ids::{ActionKey, AttemptKey, RunId, TriggerName, WorkerId};
use crate::machine::state::State;
use crate::model::action::{Action, ActionState, SkipReason, Upstream};
use crate::model::edge::Standing;
use crate::model::history::{Cause, Note, Notes};
use crate::model::run::{
    Attempt, AttemptCause, AttemptEnd, EndKind, Run, RunKind, RunResult, RunState,
};
use crate::time::UtcMillis;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// When it was committed; of an attempt's begin, when its worker saw it.
    pub at: UtcMillis,
    /// What changed.
    pub what: What,
    /// Who made it.
    pub by: By,
}

/// Who made a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// A service of whichever node led.
    Leader,
    /// A worker, by its report.
    Worker(WorkerId),
    /// Somebody, as people read it.
    Said(String),
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// An action's time came.
    Due,
    /// What an action waits for ended as it must, by this run or without one.
    Met(ActionKey, Option<RunId>),
    /// The action got this run.
    RunMade(RunId, RunKind),
    /// A run was made, for instants of these triggers if its action has any.
    Created(RunKind, Vec<TriggerName>),
    /// A run waits to be dispatched.
    Queued(AttemptCause),
    /// A pause has ended, and the wait to begin counts anew.
    WaitsAnew,
    /// Attempts before this one are not kept.
    NotKept(AttemptKey),
    /// So many notes before the next one are not kept.
    NotesNotKept(u32),
    /// An attempt was given to a worker.
    Dispatched(AttemptKey, WorkerId, AttemptCause),
    /// Its process began.
    Began(AttemptKey),
    /// It ended.
    Ended(AttemptKey, EndKind),
    /// It was lost with its worker.
    Lost(AttemptKey, EndKind),
    /// The run waits before retry number so and so; until then, where that is known.
    Backoff(u32, Option<UtcMillis>),
    /// Somebody did this.
    Noted(Cause),
    /// The run was split into so many parts.
    Split(u32),
    /// The run is over.
    Finished(RunResult),
    /// The action is over.
    Settled(ActionState),
    /// The action is a success without a run: its job has nothing to do in this area.
    Elsewhere,
}

/// The changes of a run, oldest first.
#[must_use]
pub fn of_run(state: &State, run: &Run) -> Vec<Change> {
    let mut found = Changes::default();
    found.begin(state, run);
    if let Some(parts) = run.parts {
        found.add(parts.at, What::Split(parts.total), By::Leader);
    }
    found.attempts(state, run);
    found.notes(&run.notes);
    if let RunState::Finished { result, at } = run.state {
        found.add(at, What::Finished(result), ender(run, result));
    }
    found.in_order()
}

/// The changes of an action, oldest first: those of its runs are theirs.
#[must_use]
pub fn of_action(state: &State, key: ActionKey, action: &Action) -> Vec<Change> {
    let mut found = Changes::default();
    if action.due <= state.now() {
        found.add(action.due, What::Due, By::Leader);
    }
    for up in &action.upstream {
        let met = up.met.map(|(at, run)| (at, Some(run))).or(up.passed.map(|at| (at, None)));
        // A success has forgotten; what it waited for tells it, unless that has run again.
        if let Some((at, run)) = met.or_else(|| met_before(state, action, up)) {
            found.add(at, What::Met(up.action, run), By::Leader);
        }
    }
    found.notes(&action.notes);
    let run = action.run.and_then(|id| state.run(id));
    if let Some(run) = run {
        found.add(run.created, What::RunMade(run.id, run.kind), asker(state, run));
    }
    if let Some(at) = action.finished {
        let last = || action.notes.iter().next_back().map(|note| By::Said(note.by.clone()));
        let by = match action.state {
            ActionState::Skipped(SkipReason::Deleted | SkipReason::Person) => last(),
            _ if action.forced => last(),
            _ => run.and_then(|run| match run.state {
                RunState::Finished { result, .. } if run.action == Some(key) => {
                    Some(ender(run, result))
                }
                _ => None,
            }),
        };
        let is_elsewhere = action.by_area && action.state == ActionState::Success;
        let what = if is_elsewhere { What::Elsewhere } else { What::Settled(action.state) };
        found.add(at, what, by.unwrap_or(By::Leader));
    }
    found.in_order()
}

/// When an action that has succeeded since had met an upstream action, and by which run.
fn met_before(state: &State, action: &Action, up: &Upstream) -> Option<(UtcMillis, Option<RunId>)> {
    let run = action.run.filter(|_| action.state == ActionState::Success)?;
    let above = state.action(up.awaited()?)?;
    let at = above.finished.filter(|_| up.judge(above.state) == Standing::Passed)?;
    (at <= state.run(run)?.created).then(|| (at, above.run_behind()))
}

/// Who asked for a run: the leader, if nobody did.
fn asker(state: &State, run: &Run) -> By {
    let asked = run.notes.iter().find(|note| note.cause == Cause::Asked);
    let backfill = run.backfill.and_then(|id| state.backfill(id));
    let said = asked.map(|note| &note.by).or(backfill.map(|backfill| &backfill.by));
    said.map_or(By::Leader, |by| By::Said(by.clone()))
}

/// Who ended a run: who asked for it, or who reported the end of its last attempt; the
/// leader, if it was time that passed.
fn ender(run: &Run, result: RunResult) -> By {
    let asked = |is_it: fn(&Note) -> bool| {
        run.notes.iter().rev().find(|note| is_it(note)).map(|note| By::Said(note.by.clone()))
    };
    let reported = || {
        let attempt = run.attempts.last()?;
        Some(reporter(attempt, attempt.end.as_ref()?))
    };
    let by = match result {
        RunResult::Cancelled => {
            asked(|note| matches!(note.cause, Cause::CancelAsked | Cause::Displaced(_)))
                .or_else(reported)
        }
        RunResult::Deleted => asked(|note| note.cause == Cause::JobDeleted),
        RunResult::RunTimedOut
        | RunResult::QueueTimedOut
        | RunResult::WorkerRemoved
        | RunResult::TooManyWorkers => None,
        RunResult::Success | RunResult::Failed | RunResult::Skipped => reported(),
    };
    by.unwrap_or(By::Leader)
}

/// Who said that an attempt is over. A worker tells when it saw that; the backstop of a
/// time-out knows neither begin nor end.
fn reporter(attempt: &Attempt, end: &AttemptEnd) -> By {
    let is_seen = end.started.is_some() || end.ended.is_some();
    match end.how {
        EndKind::WorkerLost | EndKind::Unrendered { .. } => By::Leader,
        EndKind::TimedOut if !is_seen => By::Leader,
        _ => By::Worker(attempt.worker),
    }
}

/// Changes on the way to a list.
#[derive(Default)]
struct Changes(Vec<Change>);

impl Changes {
    fn add(&mut self, at: UtcMillis, what: What, by: By) {
        self.0.push(Change { at, what, by });
    }

    /// By time; of one commit, as they were added.
    fn in_order(mut self) -> Vec<Change> {
        self.0.sort_by_key(|change| change.at);
        self.0
    }

    /// How it came to be, and into the queue.
    fn begin(&mut self, state: &State, run: &Run) {
        let action = run.decides().and_then(|key| state.action(key));
        let triggers = action.map(|action| action.triggers.clone()).unwrap_or_default();
        let is_planned = run.kind == RunKind::Schedule;
        let triggers = if is_planned { triggers } else { Vec::new() };
        let asked = run.notes.iter().find(|note| note.cause == Cause::Asked);
        let earlier = asked.filter(|note| note.at < run.created);
        if let Some(note) = earlier {
            self.add(note.at, What::Noted(note.cause), By::Said(note.by.clone()));
        }
        let by = if earlier.is_some() { By::Leader } else { asker(state, run) };
        self.add(run.created, What::Created(run.kind, triggers), by);
        if let Some(first) = run.attempts.first().filter(|first| first.key.number > 1) {
            self.add(first.dispatched, What::NotKept(first.key), By::Leader);
        } else {
            self.add(run.created, What::Queued(AttemptCause::First), By::Leader);
        }
        // A part does so from the moment at which its run was split.
        if let Some(at) = run.waits_from.filter(|_| run.part.is_none()) {
            self.add(at, What::WaitsAnew, By::Leader);
        }
    }

    /// Its tries, and what was between them.
    fn attempts(&mut self, state: &State, run: &Run) {
        let spec = state.spec(run.job, run.revision);
        let waits_from = match run.state {
            RunState::Backoff { until } => Some(until),
            RunState::Queued => Some(run.ready_at),
            RunState::Running | RunState::Spread | RunState::Finished { .. } => None,
        };
        // Retries are counted from behind: older attempts may be gone.
        let is_retry = |pair: &[Attempt]| pair[0].rerun_cause().is_none();
        let between = run.attempts.windows(2).filter(|pair| is_retry(pair)).count();
        let last = run.attempts.last();
        let is_again =
            waits_from.is_some() && last.is_some_and(|last| last.rerun_cause().is_none());
        let counted = u32::try_from(between + usize::from(is_again)).unwrap_or(u32::MAX);
        let mut retry = run.retries.saturating_sub(counted);
        for (place, attempt) in run.attempts.iter().enumerate() {
            let (key, worker) = (attempt.key, attempt.worker);
            let given = What::Dispatched(key, worker, attempt.cause);
            self.add(attempt.dispatched, given, By::Leader);
            let Some(end) = &attempt.end else { continue };
            if let Some(started) = end.started {
                self.add(started, What::Began(key), By::Worker(worker));
            }
            let is_loss = end.how.is_loss();
            let ended = if is_loss { What::Lost } else { What::Ended };
            self.add(end.at, ended(key, end.how.clone()), reporter(attempt, end));
            let next = run.attempts.get(place + 1);
            if next.is_none() && waits_from.is_none() {
                continue;
            }
            if let Some(cause) = attempt.rerun_cause() {
                self.add(end.at, What::Queued(cause), By::Leader);
                continue;
            }
            retry = retry.saturating_add(1);
            let until = match next {
                None => waits_from,
                // What the machine reckoned when that attempt ended.
                Some(_) => spec.map(|spec| spec.retry_at(run.id, retry, end.at)),
            };
            self.retry(run, end.at, retry, until);
        }
    }

    /// The wait before a retry, if there was one, and its end if that has come.
    fn retry(&mut self, run: &Run, ended: UtcMillis, retry: u32, until: Option<UtcMillis>) {
        if until != Some(ended) {
            self.add(ended, What::Backoff(retry, until), By::Leader);
        }
        let is_over =
            !matches!(run.state, RunState::Backoff { until: last } if until == Some(last));
        if let Some(until) = until.filter(|_| is_over) {
            self.add(until, What::Queued(AttemptCause::Retry), By::Leader);
        }
    }

    /// Behind what there is, unless it is known to have come before: an attempt ends as
    /// cancelled because somebody asked for that, be it in the same millisecond.
    fn place_of(&self, note: &Note) -> usize {
        let asks = matches!(note.cause, Cause::CancelAsked | Cause::Displaced(_));
        let is_answer = |change: &Change| {
            asks && change.at == note.at
                && matches!(change.what, What::Ended(_, EndKind::Cancelled))
        };
        self.0.iter().position(is_answer).unwrap_or(self.0.len())
    }

    /// What somebody did; also that some of it is not kept. Who asked for a run is told
    /// where it begins.
    fn notes(&mut self, notes: &Notes) {
        for (place, note) in notes.iter().enumerate() {
            if place == 1 && notes.left_out() > 0 {
                self.add(note.at, What::NotesNotKept(notes.left_out()), By::Leader);
            }
            if note.cause != Cause::Asked {
                let (what, by) = (What::Noted(note.cause), By::Said(note.by.clone()));
                self.0.insert(self.place_of(note), Change { at: note.at, what, by });
            }
        }
    }
}
