//! What holds after every command. Checked by tests, and cheap enough to be
//! checked by an operator on a node's state; it changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::state::State;
use crate::ids::{ActionKey, RunId};
use crate::model::action::{Action, ActionState, SkipReason};
use crate::model::backfill::{BackfillCounts, InstantState};
use crate::model::edge::Standing;
use crate::model::output;
use crate::model::pause::PauseTarget;
use crate::model::run::{Attempt, Run, RunKind, RunResult, RunState};

/// Says what is wrong, if anything is.
///
/// # Errors
/// The first rule that does not hold, with the records concerned.
pub fn check(state: &State) -> Result<(), String> {
    if state.index != state.rebuilt_index() {
        return Err("the index differs from what the records give".to_owned());
    }
    if state.hash() != state.full_hash() {
        return Err("the hash kept along the way differs from the whole".to_owned());
    }
    check_runs(state)?;
    check_parts(state)?;
    check_actions(state)?;
    check_locks(state)?;
    for (key, _) in state.specs.iter() {
        let is_current = state.jobs.get(&key.0).is_some_and(|j| j.revision == key.1);
        ensure(!is_current && state.is_spec_kept(*key), || {
            format!("definition {key:?} is kept for no run")
        })?;
    }
    check_fixed_delays(state)?;
    check_backfills(state)?;
    check_outputs(state)?;
    for (name, calendar) in state.calendars.iter() {
        let base = calendar.def.base.as_ref();
        ensure(base.is_none_or(|base| state.calendars.contains(base)), || {
            format!("calendar {name} has lost its base")
        })?;
    }
    for (name, _) in state.replans.iter() {
        ensure(state.calendars.contains(name), || format!("calendar {name} changes and is gone"))?;
    }
    for (name, job) in &state.index.calendar_users {
        ensure(state.calendars.contains(name), || format!("job {job} has lost calendar {name}"))?;
    }
    check_pools(state)?;
    for (name, job) in state.index.secrets.users() {
        ensure(state.secrets.contains(name), || format!("job {job} has lost secret {name}"))?;
    }
    for (name, secret) in state.secrets.iter() {
        let is_ordered = secret.closed_to.windows(2).all(|pair| pair[0] < pair[1]);
        ensure(is_ordered, || format!("secret {name} is closed to nodes out of order"))?;
    }
    for (target, _) in state.pauses() {
        if let PauseTarget::Trigger(job, trigger) = target {
            let is_there = state.job(*job).is_some_and(|j| j.spec.trigger(trigger).is_some());
            ensure(is_there, || format!("a pause of no trigger: {target:?}"))?;
        }
    }
    for ((job, source), _) in state.cursors.iter() {
        ensure(state.jobs.contains(job), || format!("cursor {source:?} of no job {job}"))?;
    }
    Ok(())
}

fn ensure(holds: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem()) }
}

/// What a back-fill counts is what its instants say, and who is live has a run that is.
fn check_backfills(state: &State) -> Result<(), String> {
    for (id, backfill) in state.backfills.iter() {
        let mut counts =
            BackfillCounts { passed_over: backfill.counts.passed_over, ..Default::default() };
        for (at, instant) in state.backfill_instants(*id, None) {
            counts.total += 1;
            let run = instant.run.and_then(|run| state.run(run));
            match instant.state {
                InstantState::Waiting => {}
                InstantState::Live => counts.live += 1,
                InstantState::Over(RunResult::Success) => counts.success += 1,
                InstantState::Over(
                    RunResult::Failed
                    | RunResult::RunTimedOut
                    | RunResult::QueueTimedOut
                    | RunResult::WorkerRemoved
                    | RunResult::TooManyWorkers,
                ) => counts.failed += 1,
                InstantState::Over(RunResult::Skipped) | InstantState::Elsewhere => {
                    counts.skipped += 1;
                }
                InstantState::Over(RunResult::Cancelled | RunResult::Deleted) => {
                    counts.cancelled += 1;
                }
            }
            let is_live = run.is_some_and(Run::is_live);
            ensure(is_live == (instant.state == InstantState::Live), || {
                format!("instant {at} of back-fill {id} is {:?}, its run {run:?}", instant.state)
            })?;
        }
        ensure(counts == backfill.counts, || {
            format!("back-fill {id} counts {:?}, and has {counts:?}", backfill.counts)
        })?;
        ensure(backfill.is_live() || counts.live == 0, || format!("back-fill {id} is over"))?;
    }
    let orphan = state.backfill_instants.iter().find(|((id, _), _)| !state.backfills.contains(id));
    ensure(orphan.is_none(), || format!("an instant of no back-fill: {orphan:?}"))
}

/// What a definition takes of a pool is there, though perhaps taken.
fn check_pools(state: &State) -> Result<(), String> {
    let pinned = state.specs.iter().filter(|(pin, _)| state.index.pins.contains_key(*pin));
    let pinned = pinned.map(|(_, spec)| spec);
    for spec in state.jobs.iter().map(|(_, job)| &job.spec).chain(pinned) {
        for (name, slots) in &spec.pools {
            let has = state.pool(name).map(|pool| pool.def.slots);
            ensure(has.is_some_and(|has| has >= *slots), || {
                format!("job {} takes {slots} slots of pool {name}: {has:?}", spec.name)
            })?;
        }
    }
    Ok(())
}

/// What runs put out and jobs keep stays within its bounds, and has whom it is of.
fn check_outputs(state: &State) -> Result<(), String> {
    for (id, outputs) in state.outputs.iter() {
        let is_success = state.run(*id).is_some_and(Run::has_succeeded);
        ensure(is_success, || format!("outputs of run {id}, which is no success"))?;
        ensure(outputs.dropped == outputs.values.is_empty(), || {
            format!("outputs of run {id} are {outputs:?}")
        })?;
    }
    let bytes = state.index.kept.bytes();
    ensure(bytes <= state.limits.output_bytes, || format!("{bytes} bytes of outputs"))?;
    for (id, kept) in state.job_states.iter() {
        ensure(state.jobs.contains(id), || format!("a state of no job {id}"))?;
        let problem = output::check(&kept.values).err();
        ensure(problem.is_none(), || format!("state of job {id}: {problem:?}"))?;
    }
    let bytes = state.index.kept.state_bytes();
    ensure(bytes <= state.limits.state_bytes, || format!("{bytes} bytes of states"))
}

fn check_fixed_delays(state: &State) -> Result<(), String> {
    for job in state.jobs_after(None).filter(|job| job.spec.has_fixed_delay()) {
        for trigger in job.spec.triggers.iter().filter(|t| t.kind.fixed_delay().is_some()) {
            let is_of_it = |key: &ActionKey| {
                // Those of an earlier definition are of a trigger of another kind, perhaps; and
                // who has an earlier one run again does not wait for the end of the last.
                state.action(*key).is_some_and(|a| {
                    let is_again = a.notes.iter().any(|note| note.cause.asks_for_a_run());
                    a.revision == job.revision && a.triggers.contains(&trigger.name) && !is_again
                })
            };
            let count = state.live_actions_of(job.id).filter(is_of_it).count();
            ensure(count <= 1, || {
                format!("trigger {:?} of job {} has {count} unfinished", trigger.name.0, job.id)
            })?;
        }
    }
    Ok(())
}

fn check_runs(state: &State) -> Result<(), String> {
    let mut tokens = BTreeSet::new();
    let mut of_action: BTreeMap<ActionKey, RunId> = BTreeMap::new();
    for (id, run) in state.runs.iter() {
        let live = run.attempts.iter().filter(|a| a.end.is_none()).count();
        let is_running = run.state == RunState::Running;
        ensure(
            live == usize::from(is_running) && run.live_attempt().is_some() == is_running,
            || format!("run {id} is {:?} with {live} live attempts", run.state),
        )?;
        let mut last = None;
        for attempt in &run.attempts {
            ensure(tokens.insert(attempt.token), || format!("token {} twice", attempt.token))?;
            let is_later = last.is_none_or(|(number, token)| {
                attempt.key.number == number + 1 && attempt.token > token
            });
            ensure(is_later, || format!("attempts of run {id} out of order"))?;
            ensure(attempt.token <= state.meta.last_token, || {
                format!("token {} from the future", attempt.token)
            })?;
            last = Some((attempt.key.number, attempt.token));
            ensure(in_order(attempt), || format!("times of attempt {} out of order", attempt.key))?;
        }
        ensure(run.losses <= Run::MAX_LOSSES, || format!("run {id}: {} losses", run.losses))?;
        let is_over = !run.is_live();
        if let Some(key) = run.decides() {
            // The first run of an action, and those that somebody asked for later.
            if matches!(run.kind, RunKind::Schedule | RunKind::Dependency) {
                let other = of_action.insert(key, *id);
                ensure(other.is_none(), || format!("action {key} has runs {other:?} and {id}"))?;
            }
            ensure(is_over || state.action(key).and_then(|a| a.run) == Some(*id), || {
                format!("run {id} and action {key} do not name each other")
            })?;
        }
        if !is_over {
            ensure(state.spec(run.job, run.revision).is_some(), || {
                format!("run {id} has lost its definition")
            })?;
        }
    }
    Ok(())
}

/// A run that was split and its parts tell the same story, and each part is for a worker of
/// its own.
fn check_parts(state: &State) -> Result<(), String> {
    for (id, run) in state.runs.iter() {
        for attempt in &run.attempts {
            let is_its_own = attempt.key == State::key_of(run, attempt.key.number)
                && run.part.and_then(|part| part.worker).is_none_or(|w| w == attempt.worker);
            ensure(is_its_own, || format!("attempt {attempt:?} is not one of run {id}"))?;
        }
        if let Some(part) = run.part {
            let whole = state.run(part.of);
            let parts = whole.and_then(|whole| whole.parts);
            let is_known = parts.is_some_and(|parts| {
                parts.id(part.index) == Some(*id) && parts.total == part.total
            });
            ensure(is_known && run.parts.is_none(), || format!("part {id} is none of {whole:?}"))?;
            ensure(!run.is_live() || whole.is_some_and(Run::is_live), || {
                format!("part {id} has outlived its run")
            })?;
        }
        let is_spread = run.state == RunState::Spread;
        let Some(parts) = run.parts else {
            ensure(!is_spread, || format!("run {id} was split into nothing"))?;
            continue;
        };
        let all: Vec<&Run> = state.parts_of(run).collect();
        let over = all.iter().filter(|part| !part.is_live()).count();
        ensure((all.len(), over) == (parts.total as usize, parts.over as usize), || {
            format!("run {id} has {} parts, {over} of them over, and counts {parts:?}", all.len())
        })?;
        // It is over exactly when they are.
        ensure(run.attempts.is_empty() && is_spread == (parts.over < parts.total), || {
            format!("run {id} is {:?} with {parts:?}", run.state)
        })?;
        let workers: Vec<_> = all.iter().map(|part| part.part.and_then(|p| p.worker)).collect();
        ensure(workers.is_sorted_by(|a, b| a < b), || format!("run {id} is for {workers:?}"))?;
    }
    Ok(())
}

fn check_actions(state: &State) -> Result<(), String> {
    for (key, action) in state.actions.iter() {
        let run = action.run.and_then(|id| state.run(id));
        ensure(agree(action, run), || {
            format!("action {key} is {:?}, its run {:?}", action.state, run.map(|r| r.state))
        })?;
        ensure(action.finished.is_some() == action.state.is_final(), || {
            format!("action {key} is {:?}, finished {:?}", action.state, action.finished)
        })?;
        ensure(!action.by_area || action.state == ActionState::Success, || {
            format!("action {key} is {:?}, by its area", action.state)
        })?;
        ensure(action.due >= key.nominal, || format!("action {key} is due before its time"))?;
        if action.state.is_final() {
            continue;
        }
        for up in &action.upstream {
            let Some(above) = up.awaited() else {
                // A recovery of the tree may pass it over, but there is nothing to be met.
                ensure(up.met.is_none(), || format!("action {key} met nothing: {up:?}"))?;
                continue;
            };
            let above = state.action(above);
            // What was met stays so while that one is run again, or because a person said it,
            // and when that one is forgotten before this one is run again.
            let is_passed = above.is_some_and(|a| up.judge(a.state) == Standing::Passed);
            ensure(up.is_met() || (state.may_come(up.action) && !is_passed), || {
                format!("action {key} is wrong about {}", up.action)
            })?;
        }
    }
    let live = state.live_actions();
    ensure(live <= state.limits.live_actions, || format!("{live} live actions"))
}

/// True if action and run tell the same story.
fn agree(action: &Action, run: Option<&Run>) -> bool {
    let result = |wanted| match run.map(|r| r.state) {
        Some(RunState::Finished { result, .. }) => result == wanted,
        _ => false,
    };
    if action.forced && action.state.is_final() {
        return run.is_none_or(|r| matches!(r.state, RunState::Finished { .. }));
    }
    match action.state {
        ActionState::Planned | ActionState::Waiting => action.run.is_none(),
        ActionState::Ready => {
            run.is_some_and(|r| matches!(r.state, RunState::Queued | RunState::Backoff { .. }))
        }
        ActionState::Running => {
            run.is_some_and(|r| matches!(r.state, RunState::Running | RunState::Spread))
        }
        ActionState::Success if action.by_area => action.run.is_none(),
        ActionState::Success => result(RunResult::Success),
        ActionState::Failed => match run.map(|r| r.state) {
            Some(RunState::Finished { result, .. }) => result.is_failure(),
            _ => false,
        },
        ActionState::Cancelled => result(RunResult::Cancelled),
        ActionState::Skipped(SkipReason::Job) => result(RunResult::Skipped),
        ActionState::Skipped(_) => action.run.is_none() || result(RunResult::Deleted),
    }
}

fn check_locks(state: &State) -> Result<(), String> {
    for (name, lock) in state.locks.iter() {
        let (held, slots) = (lock.holders.len(), lock.slots as usize);
        ensure(held <= slots, || format!("lock {name}: {held} holders, {slots} slots"))?;
        ensure(held > 0, || format!("lock {name} is held by nobody"))?;
        ensure(held == slots || lock.waiters.is_empty(), || {
            format!("lock {name} has a free slot and waiters")
        })?;
        let is_known = lock.holders.iter().all(|h| h.token <= state.meta.last_token);
        let is_ordered = lock.holders.windows(2).all(|w| w[0].token < w[1].token);
        ensure(is_known && is_ordered, || format!("tokens of lock {name} do not grow"))?;
        let owners = lock.holders.iter().map(|h| &h.owner);
        let owners: BTreeSet<_> = owners.chain(lock.waiters.iter().map(|w| &w.owner)).collect();
        ensure(owners.len() == held + lock.waiters.len(), || format!("lock {name}: owner twice"))?;
    }
    Ok(())
}

/// Nothing starts before it is dispatched nor ends before it starts, and all of it is
/// over when the end is committed.
fn in_order(attempt: &Attempt) -> bool {
    let Some(end) = &attempt.end else { return true };
    let times = [Some(attempt.dispatched), end.started, end.ended, Some(end.at)];
    times.into_iter().flatten().is_sorted()
}
