//! What people ask for beside the plan: runs by hand of an action, recoveries, back-fills.
//!
//! The oracle's part of it: a run keeps its kind and its waits, one beside the plan changes
//! no action, whoever waits for a success is told, a recovery of all below visits each
//! action once, and a back-fill runs each instant once. Worlds have such events only where
//! they are asked for: `HORAI_SIM_FOCUS=beside`.

use std::collections::{BTreeMap, BTreeSet};

use horai_core::ids::{ActionKey, BackfillId, JobId, RunId};
use horai_core::machine::command::{Command, Envelope};
use horai_core::machine::outcome::Outcome;
use horai_core::machine::state::State;
use horai_core::model::action::ActionState;
use horai_core::model::backfill::{BackfillOrder, Steer};
use horai_core::model::edge::Condition;
use horai_core::model::run::{Run, RunKind, RunOrder, RunState};
use horai_core::time::UtcMillis;

use super::clients::job_name;
use super::replicas::Problem;
use super::rng::Rng;
use super::script::{Event, Setup, Step};
use super::world::World;

/// One thing that is asked for, of the job in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// A run that stands for its last action; true: only to try something out.
    Run(u64, bool),
    /// Its last action that is over, once more; true: with all that follows from it.
    Again(u64, bool),
    /// A back-fill of so many of its last actions, so many at once.
    Fill(u64, usize, u32),
    /// The oldest back-fill that is not over waits, or goes on.
    Steer(bool),
}

/// Adds such events to a list that is not in order yet.
pub(super) fn add(setup: &Setup, length: i64, steps: &mut Vec<Step>) {
    let rng = &mut Rng::new(setup.seed, 4);
    let unit = setup.scale.unit();
    for _ in 0..6 {
        let slot = rng.below(3);
        for asked in [Asked::Run(slot, rng.chance(500)), Asked::Again(slot, rng.chance(600))] {
            steps.push(Step { at: rng.up_to(length), event: Event::Beside(asked) });
        }
    }
    for _ in 0..3 {
        let at = rng.up_to(length);
        let one_after_the_other = Asked::Fill(rng.below(3), 8, 1);
        let steered = [one_after_the_other, Asked::Steer(true), Asked::Steer(false)];
        for (asked, later) in steered.into_iter().zip([0, 2, 5]) {
            let at = at + later * unit + rng.up_to(unit);
            steps.push(Step { at, event: Event::Beside(asked) });
        }
    }
}

impl World {
    /// Somebody asks, if there is something to ask of.
    pub(super) fn on_asked(&mut self, asked: Asked) {
        if let Some(command) = self.asked(asked) {
            self.user(command);
        }
    }

    fn asked(&self, asked: Asked) -> Option<Command> {
        let state = &self.replicas.truth;
        let job = |slot: u64| Some(state.job_by_name(&job_name(slot))?.id);
        let over = |job: JobId| {
            let all = state.actions_of(job, UtcMillis(i64::MIN), UtcMillis::MAX);
            all.filter(|(_, action)| action.state.is_final()).map(|(key, _)| key)
        };
        match asked {
            Asked::Run(slot, debug) => {
                let job = job(slot)?;
                let action = Some(over(job).next_back()?.nominal);
                let order = RunOrder { debug, action, ..RunOrder::default() };
                Some(Command::RunJob { job, order: Box::new(order) })
            }
            Asked::Again(slot, below) => {
                let job = job(slot)?;
                // Delays are counted from the first end, by the books of instants.
                let counts = state.job(job)?.spec.has_fixed_delay();
                let action = over(job).next_back().filter(|_| !counts)?;
                Some(Command::Rerun { action, below })
            }
            Asked::Fill(slot, count, concurrency) => {
                let job = job(slot)?;
                let all: Vec<UtcMillis> = over(job).map(|key| key.nominal).collect();
                let instants = all[all.len().saturating_sub(count)..].to_vec();
                (!instants.is_empty()).then(|| {
                    Command::StartBackfill(Box::new(BackfillOrder {
                        job,
                        revision: None,
                        instants,
                        passed_over: 0,
                        newest_first: false,
                        concurrency,
                        hours: None,
                        downstream: false,
                        params: BTreeMap::new(),
                        priority: None,
                        again: None,
                    }))
                })
            }
            Asked::Steer(waits) => {
                let backfill = state.live_backfills().next()?.id;
                let to = if waits { Steer::Pause } else { Steer::Resume };
                Some(Command::SteerBackfill { backfill, to })
            }
        }
    }
}

/// What was asked for beside the plan, and what came of it.
#[derive(Default)]
pub(super) struct Beside {
    kinds: BTreeMap<RunId, RunKind>,
    /// Until when a run waits before each of its retries.
    waits: BTreeMap<(RunId, u32), UtcMillis>,
    /// How many recoveries of all below reach an action, and the runs that they made of it.
    reached: BTreeMap<ActionKey, usize>,
    visits: BTreeMap<ActionKey, BTreeSet<RunId>>,
    /// The run of each instant of a back-fill.
    filled: BTreeMap<(BackfillId, UtcMillis), RunId>,
}

impl Beside {
    /// A command was committed; the answer is what it may have opened again.
    pub(super) fn on_commit(
        &mut self,
        (before, state): (&State, &State),
        envelope: &Envelope,
        outcome: &Outcome,
    ) -> Result<Vec<ActionKey>, Problem> {
        let run = match &envelope.command {
            Command::Dispatch { run, .. } => Some(*run),
            Command::Complete { attempt, .. } => Some(attempt.run),
            _ => None,
        };
        if let Some(run) = run.and_then(|run| before.run(run)).filter(|run| is_beside(run)) {
            let key = ActionKey { job: run.job, nominal: run.nominal };
            let (old, new) = (before.action(key), state.action(key));
            if let (Some(old), Some(new)) = (old, new)
                && old != new
            {
                return Err(format!("{:?} run {} changed {key}: {new:?}", run.kind, run.id));
            }
        }
        let (Command::Rerun { action, below }, Outcome::Run { .. }) = (&envelope.command, outcome)
        else {
            return Ok(Vec::new());
        };
        let tree = downstream(before, *action);
        if *below {
            for key in &tree {
                *self.reached.entry(*key).or_default() += 1;
            }
        }
        Ok(tree.into_iter().collect())
    }

    /// A run was changed.
    pub(super) fn on_run(&mut self, run: &Run, state: &State) -> Result<(), Problem> {
        let id = run.id;
        if run.part.is_some() {
            // It decides nothing: the whole run tells.
            return Ok(());
        }
        let kind = *self.kinds.entry(id).or_insert(run.kind);
        if kind != run.kind {
            return Err(format!("run {id} was of kind {kind:?}, is of {:?}", run.kind));
        }
        if let RunState::Backoff { until } = run.state {
            let first = *self.waits.entry((id, run.retries)).or_insert(until);
            if first != until {
                return Err(format!("run {id} waited until {first}, and now until {until}"));
            }
        }
        if let (RunKind::SuperRecover, Some(key)) = (run.kind, run.action) {
            let visits = self.visits.entry(key).or_default();
            visits.insert(id);
            let reached = self.reached.get(&key).copied().unwrap_or(0);
            if visits.len() > reached {
                return Err(format!("{key} was visited by {visits:?}, asked for {reached} times"));
            }
        }
        if let Some(backfill) = run.backfill {
            let first = *self.filled.entry((backfill, run.nominal)).or_insert(id);
            if first != id {
                return Err(format!("back-fill {backfill:?}: {first} and {id} are of one instant"));
            }
        }
        check_told(run, state)
    }
}

/// True if no action may hear of it: back-fills of these worlds tell nobody.
fn is_beside(run: &Run) -> bool {
    matches!(run.kind, RunKind::Manual | RunKind::Debug | RunKind::Backfill)
}

/// An action and all that follow from it.
fn downstream(state: &State, root: ActionKey) -> BTreeSet<ActionKey> {
    let (mut found, mut work) = (BTreeSet::from([root]), vec![root]);
    while let Some(up) = work.pop() {
        for job in state.jobs_after(None) {
            let all = state.actions_of(job.id, UtcMillis(i64::MIN), UtcMillis::MAX);
            let waits = all.filter(|(_, a)| a.upstream.iter().any(|u| u.awaited() == Some(up)));
            work.extend(waits.map(|(key, _)| key).filter(|key| found.insert(*key)));
        }
    }
    found
}

/// Whoever waits for the success of an action that has succeeded knows of it.
fn check_told(run: &Run, state: &State) -> Result<(), Problem> {
    let action = run.action.filter(|_| !is_beside(run));
    let is_good = |key: &ActionKey| {
        state.action(*key).is_some_and(|action| action.state == ActionState::Success)
    };
    let Some(key) = action.filter(is_good) else { return Ok(()) };
    for job in state.jobs_after(None) {
        for down in state.live_actions_of(job.id) {
            let action = state.action(down).filter(|a| a.state == ActionState::Waiting);
            let mut edges = action.into_iter().flat_map(|action| &action.upstream);
            let waits = edges.any(|up| {
                up.awaited() == Some(key)
                    && (up.condition == Condition::Success && !up.soft)
                    && !up.is_met()
            });
            if waits {
                return Err(format!("{down} waits for {key}, which has succeeded"));
            }
        }
    }
    Ok(())
}
