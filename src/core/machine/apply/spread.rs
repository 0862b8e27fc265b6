//! Runs that are split over all workers of their group, and what becomes of them when their
//! parts are over.
//!
//! The workers are those of one moment, and so is the number of parts: who comes later has
//! no part in that run. Each part waits for its own worker, however long that is away, until
//! the limits of the run end it or the worker is removed.

use std::collections::BTreeMap;

use super::super::outcome::{Event, Outcome, Reject};
use super::super::state::State;
use super::room_for;
use crate::ids::{RunId, WorkerId};
use crate::model::action::ActionState;
use crate::model::history::Notes;
use crate::model::part::{Part, Parts};
use crate::model::run::{Run, RunResult, RunState};

/// A run that is over with the last of its parts, and how.
pub(super) type Whole = (Run, RunResult);

impl State {
    /// Splits a run: it has a part for each worker of its group from now on.
    pub(super) fn spread(&mut self, id: RunId, ev: &mut Vec<Event>) -> Result<Outcome, Reject> {
        let run = self.runs.get(&id).ok_or(Reject::NoSuchRun(id))?;
        if !run.is_live() {
            return Err(Reject::RunOver(id));
        }
        let now = self.meta.now;
        let spec = self.spec(run.job, run.revision).ok_or(Reject::NotDispatchable(id))?;
        let demand = self.demand_of(run);
        let is_late = spec.limits.run_ends(run).is_some_and(|end| end <= now);
        if !demand.is_for_all() || !self.is_to_go(run) || is_late {
            return Err(Reject::NotDispatchable(id));
        }
        let crew = self.crew_of_all(&spec.worker_group, &demand, now);
        let crew: Vec<WorkerId> = crew.map(|worker| worker.id).collect();
        if crew.is_empty() {
            return Err(Reject::NotDispatchable(id));
        }
        let mut run = run.clone();
        if crew.len() > self.limits.parts {
            self.finish_run(run, RunResult::TooManyWorkers, ev);
            return Ok(Outcome::Done);
        }
        room_for("live runs", self.index.live_runs + crew.len(), self.limits.live_runs)?;
        let total = u32::try_from(crew.len()).unwrap_or(u32::MAX);
        let first = self.meta.last_run.next();
        for (index, worker) in (0..total).zip(crew) {
            let part = Part { of: id, index, total, worker: Some(worker) };
            self.put_part(&run, part, ev);
        }
        run.state = RunState::Spread;
        run.parts = Some(Parts { first, total, over: 0, at: now });
        let action = run.decides();
        self.put_run(run);
        if let Some(key) = action {
            self.edit_action(key, |a| a.state = ActionState::Running);
            ev.push(Event::Action(key));
        }
        ev.push(Event::Run(id));
        Ok(Outcome::Done)
    }

    /// Makes a part: like its run, and in its place in the queue, but it waits from now.
    fn put_part(&mut self, whole: &Run, part: Part, ev: &mut Vec<Event>) {
        let id = self.meta.last_run.next();
        self.meta.last_run = id;
        let run = Run {
            id,
            part: Some(part),
            waits_from: Some(self.meta.now),
            // Read where its run is.
            params: BTreeMap::new(),
            notes: Notes::default(),
            ..whole.clone()
        };
        self.put_run(run);
        ev.push(Event::Ready(id));
    }

    /// A part is over; says how its run ended, if it was the last.
    pub(super) fn part_over(&mut self, of: RunId) -> Option<Whole> {
        let mut whole = self.runs.get(&of)?.clone();
        let parts = whole.parts.as_mut()?;
        parts.over += 1;
        if parts.over >= parts.total {
            let result = self.result_of_parts(&whole);
            return Some((whole, result));
        }
        self.put_run(whole);
        None
    }

    /// What a run came to of which all parts are over.
    fn result_of_parts(&self, whole: &Run) -> RunResult {
        let results = || {
            self.parts_of(whole).filter_map(|part| match part.state {
                RunState::Finished { result, .. } => Some(result),
                _ => None,
            })
        };
        let is_done = |result| matches!(result, RunResult::Success | RunResult::Skipped);
        if whole.cancel_requested && !results().all(is_done) {
            return RunResult::Cancelled;
        }
        if results().any(RunResult::is_failure) {
            // A time-out of the run itself ends all that is left of it.
            let is_late = results().any(|result| result == RunResult::RunTimedOut);
            return if is_late { RunResult::RunTimedOut } else { RunResult::Failed };
        }
        for result in [RunResult::Cancelled, RunResult::Deleted, RunResult::Success] {
            if results().any(|found| found == result) {
                return result;
            }
        }
        RunResult::Skipped
    }

    /// Asks for the end of all parts of a run that is to end. Says how it ended, if that was
    /// all there was to it.
    pub(super) fn cancel_parts(&mut self, id: RunId, ev: &mut Vec<Event>) -> Option<Whole> {
        let parts = self.runs.get(&id)?.parts?;
        let mut over = None;
        for id in parts.ids() {
            let found = self.runs.get(&id).filter(|part| part.is_live());
            let Some(mut part) = found.cloned() else { continue };
            part.cancel_requested = true;
            let waits = part.state != RunState::Running;
            if waits {
                let (result, at) = (RunResult::Cancelled, self.meta.now);
                part.state = RunState::Finished { result, at };
            }
            let of = part.part.map(|part| part.of);
            self.put_run(part);
            ev.push(Event::Run(id));
            if waits {
                over = of.and_then(|of| self.part_over(of));
            }
        }
        over
    }

    /// A worker is gone for good: nobody else may run what was for it.
    pub(super) fn fail_parts_for(&mut self, worker: WorkerId, ev: &mut Vec<Event>) {
        for id in self.parts_for(worker).collect::<Vec<_>>() {
            // One may end others with its run.
            let found = self.runs.get(&id).filter(|part| part.is_live());
            if let Some(part) = found.cloned() {
                self.finish_run(part, RunResult::WorkerRemoved, ev);
            }
        }
    }
}
