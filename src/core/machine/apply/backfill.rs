//! Back-fills: one instant after the other, so many at once, each once. What is left is
//! what lies behind the cursor, so that a new leader, or an end of a pause, goes on
//! exactly where it was.
//!
//! Nothing here computes an instant or an hour: the list comes with the order, and the
//! leader says when the allowed hours begin and end.

use std::collections::BTreeSet;

use super::super::command::Actor;
use super::super::outcome::{Event, Outcome, Reject};
use super::super::state::State;
use super::job::check_params;
use super::pause::by;
use super::{at_most, invalid, room_for, within};
use crate::ids::{ActionKey, BackfillId, JobId};
use crate::model::action::ActionState;
use crate::model::backfill::{
    Backfill, BackfillCounts, BackfillInstant, BackfillOrder, BackfillState, Hours, InstantState,
    Steer,
};
use crate::model::history::{Cause, Note};
use crate::model::job::JobSpec;
use crate::model::run::{Run, RunKind, RunResult};
use crate::mutants::{self, Mutant};
use crate::time::UtcMillis;

/// Instants taken up by one command: no command takes long.
const STEPS: usize = 200;

impl State {
    pub(super) fn start_backfill(
        &mut self,
        order: &BackfillOrder,
        actor: &Actor,
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        let job = self.jobs.shared(&order.job).ok_or(Reject::NoSuchJob(order.job))?;
        check_order(order)?;
        self.kept_spec(&job, order.revision)?;
        let mut instants = order.instants.clone();
        let in_hand = self.instants_in_hand(job.id);
        instants.retain(|at| !in_hand.contains(at));
        let left_out = order.instants.len() - instants.len();
        if instants.is_empty() {
            let problem = "another back-fill is about to run them all; wait for it, or stop it";
            return Err(invalid("instants", problem));
        }
        self.room_for_backfill(instants.len())?;
        // The newest one is never dropped before another is made, so no number comes again.
        let last = self.backfills.iter().next_back().map(|(id, _)| *id);
        let id = last.unwrap_or_default().next();
        let total = u32::try_from(instants.len()).unwrap_or(u32::MAX);
        let left_out = u32::try_from(left_out).unwrap_or(u32::MAX);
        let passed_over = order.passed_over.saturating_add(left_out);
        for at in instants {
            let waiting = BackfillInstant { state: InstantState::Waiting, run: None };
            self.backfill_instants.put((id, at), waiting);
        }
        self.put_backfill(Backfill {
            id,
            job: job.id,
            revision: order.revision.unwrap_or(job.revision),
            state: BackfillState::Running,
            newest_first: order.newest_first,
            concurrency: order.concurrency,
            hours: order.hours,
            is_open: order.hours.is_none(),
            downstream: order.downstream,
            params: order.params.clone(),
            priority: order.priority.unwrap_or(Backfill::DEFAULT_PRIORITY),
            again: order.again,
            cursor: None,
            counts: BackfillCounts { total, passed_over, ..BackfillCounts::default() },
            created: self.meta.now,
            by: by(actor),
            finished: None,
        });
        self.keep_filling(id, ev);
        Ok(Outcome::Backfill { backfill: id })
    }

    /// Instants of a job that a back-fill runs, or is about to: no other takes them up.
    #[must_use]
    pub fn instants_in_hand(&self, job: JobId) -> BTreeSet<UtcMillis> {
        let all = (job, BackfillId(0))..=(job, BackfillId(u64::MAX));
        let all = self.index.job_backfills.range(all).filter_map(|(_, id)| self.backfill(*id));
        let of = |backfill: &'_ Backfill| {
            let begins_more = backfill.begins_more();
            let all = self.backfill_instants(backfill.id, None);
            let in_hand = all.filter(move |(_, instant)| match instant.state {
                InstantState::Live => true,
                InstantState::Waiting => begins_more,
                InstantState::Over(_) | InstantState::Elsewhere => false,
            });
            in_hand.map(|(at, _)| at).collect::<Vec<_>>()
        };
        all.filter(|backfill| backfill.is_live()).flat_map(of).collect()
    }

    /// Drops the oldest that are over until there is room for one of so many instants.
    fn room_for_backfill(&mut self, instants: usize) -> Result<(), Reject> {
        let limits = self.limits;
        loop {
            let held = self.backfill_instants.len().saturating_add(instants);
            let room = room_for("back-fills", self.backfills.len() + 1, limits.backfills)
                .and_then(|()| room_for("instants of back-fills", held, limits.backfill_instants));
            let Err(full) = room else { return Ok(()) };
            let newest = self.backfills.iter().next_back().map(|(id, _)| *id);
            let oldest = self.backfills.iter().find(|(_, backfill)| !backfill.is_live());
            let oldest = oldest.map(|(id, _)| *id).filter(|id| Some(*id) != newest);
            let Some(id) = oldest else { return Err(full) };
            self.drop_backfill(id);
        }
    }

    fn drop_backfill(&mut self, id: BackfillId) {
        let instants: Vec<UtcMillis> = self.backfill_instants(id, None).map(|(at, _)| at).collect();
        for at in instants {
            self.backfill_instants.remove(&(id, at));
        }
        if let Some(old) = self.backfills.remove(&id) {
            self.index.backfill_changed(Some(&old), None);
            self.pins_changed((old.job, old.revision));
        }
    }

    fn put_backfill(&mut self, backfill: Backfill) {
        let pin = (backfill.job, backfill.revision);
        self.index.backfill_changed(self.backfills.get(&backfill.id), Some(&backfill));
        self.backfills.put(backfill.id, backfill);
        self.pins_changed(pin);
    }

    pub(super) fn steer_backfill(
        &mut self,
        id: BackfillId,
        to: Steer,
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        let mut backfill = self.backfills.get(&id).ok_or(Reject::NoSuchBackfill(id))?.clone();
        backfill.state = match (backfill.state, to) {
            (BackfillState::Done | BackfillState::Stopped, Steer::Stop) => {
                return Ok(Outcome::Done);
            }
            (BackfillState::Done | BackfillState::Stopped, _) => {
                return Err(Reject::BackfillOver(id));
            }
            (_, Steer::Pause) => BackfillState::Paused,
            (_, Steer::Resume) => BackfillState::Running,
            (_, Steer::Stop) => BackfillState::Stopped,
        };
        if to == Steer::Resume && mutants::on(Mutant::BackfillRepeats) {
            backfill.cursor = None;
        }
        self.put_backfill(backfill);
        self.keep_filling(id, ev);
        Ok(Outcome::Done)
    }

    /// Its hours begin or end; or it is asked to look again whether there is room.
    pub(super) fn open_backfill(
        &mut self,
        id: BackfillId,
        open: bool,
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        let backfill = self.backfills.get(&id).ok_or(Reject::NoSuchBackfill(id))?;
        if !backfill.is_live() {
            return Err(Reject::BackfillOver(id));
        }
        if backfill.is_open != open {
            self.put_backfill(Backfill { is_open: open, ..backfill.clone() });
        }
        self.keep_filling(id, ev);
        Ok(Outcome::Done)
    }

    /// Its job goes away: nothing of it begins any more.
    pub(super) fn stop_backfills_of(&mut self, job: JobId) {
        let all = (job, BackfillId(0))..=(job, BackfillId(u64::MAX));
        let all: Vec<BackfillId> = self.index.job_backfills.range(all).map(|(_, id)| *id).collect();
        for id in all {
            let Some(found) = self.backfills.get(&id).filter(|found| found.is_live()) else {
                continue;
            };
            let stopped = Backfill { state: BackfillState::Stopped, ..found.clone() };
            self.put_backfill(stopped);
            self.keep_filling(id, &mut Vec::new());
        }
    }

    /// A run of it is over.
    pub(super) fn backfill_run_over(
        &mut self,
        id: BackfillId,
        at: UtcMillis,
        result: RunResult,
        ev: &mut Vec<Event>,
    ) {
        let Some(instant) = self.backfill_instants.get(&(id, at)).copied() else { return };
        let Some(mut backfill) = self.backfills.get(&id).cloned() else { return };
        if instant.state != InstantState::Live {
            return;
        }
        let over = BackfillInstant { state: InstantState::Over(result), ..instant };
        self.backfill_instants.put((id, at), over);
        let counts = &mut backfill.counts;
        counts.live = counts.live.saturating_sub(1);
        match result {
            RunResult::Success => counts.success += 1,
            RunResult::Failed
            | RunResult::RunTimedOut
            | RunResult::QueueTimedOut
            | RunResult::WorkerRemoved
            | RunResult::TooManyWorkers => counts.failed += 1,
            RunResult::Cancelled | RunResult::Deleted => counts.cancelled += 1,
            RunResult::Skipped => counts.skipped += 1,
        }
        self.put_backfill(backfill);
        self.keep_filling(id, ev);
    }

    /// Takes up as many instants as may run, and ends it when there is none left.
    fn keep_filling(&mut self, id: BackfillId, ev: &mut Vec<Event>) {
        let Some(mut backfill) = self.backfills.get(&id).cloned() else { return };
        for _ in 0..STEPS {
            let may_start = backfill.state == BackfillState::Running
                && backfill.is_open
                && backfill.counts.live < backfill.concurrency
                && self.room_for_run().is_ok();
            if !may_start {
                break;
            }
            let Some(at) = self.next_instant(&backfill) else { break };
            self.take_up(&mut backfill, at, ev);
        }
        if backfill.counts.live == 0 {
            if backfill.begins_more() && self.next_instant(&backfill).is_none() {
                backfill.state = BackfillState::Done;
            }
            if !backfill.begins_more() {
                backfill.finished.get_or_insert(self.meta.now);
            }
        }
        let pin = (backfill.job, backfill.revision);
        self.put_backfill(backfill);
        self.drop_spec(pin);
    }

    /// The next in its order that was not taken up.
    fn next_instant(&self, backfill: &Backfill) -> Option<UtcMillis> {
        let (id, cursor) = (backfill.id, backfill.cursor);
        if !backfill.newest_first {
            return self.backfill_instants(id, cursor).next().map(|(at, _)| at);
        }
        let first = (id, UtcMillis(i64::MIN));
        let last = (id, cursor.map_or(UtcMillis::MAX, |at| UtcMillis(at.0.saturating_sub(1))));
        self.backfill_instants.range(first..=last).next_back().map(|((_, at), _)| *at)
    }

    /// Makes the run of an instant, unless its action is under way by itself.
    fn take_up(&mut self, backfill: &mut Backfill, at: UtcMillis, ev: &mut Vec<Event>) {
        backfill.cursor = Some(at);
        let key = ActionKey { job: backfill.job, nominal: at };
        let state = self.actions.get(&key).map(|action| action.state);
        if state.is_some_and(|state| !state.is_final()) {
            backfill.counts.skipped += 1;
            let elsewhere = BackfillInstant { state: InstantState::Elsewhere, run: None };
            self.backfill_instants.put((backfill.id, at), elsewhere);
            return;
        }
        let pinned = self.spec(backfill.job, backfill.revision);
        if pinned.is_some_and(|spec| self.is_elsewhere(spec)) {
            return self.pass_instant(backfill, key, ev);
        }
        let Some(job) = self.jobs.get(&backfill.job) else { return };
        let id = self.meta.last_run.next();
        let mut run = Run::new(id, RunKind::Backfill, job, at, self.meta.now);
        run.revision = backfill.revision;
        run.priority = backfill.priority;
        run.params = backfill.params.clone();
        run.backfill = Some(backfill.id);
        let tells = backfill.downstream || mutants::on(Mutant::BackfillTells);
        run.action = state.filter(|_| tells).map(|_| key);
        self.meta.last_run = id;
        if let Some(key) = run.action {
            self.take_action(backfill, key, ev);
            self.edit_action(key, |action| {
                action.state = ActionState::Ready;
                action.run = Some(id);
            });
        }
        self.put_run(run);
        ev.push(Event::Ready(id));
        backfill.counts.live += 1;
        let live = BackfillInstant { state: InstantState::Live, run: Some(id) };
        self.backfill_instants.put((backfill.id, at), live);
    }

    /// What an action came to is for the back-fill to say now.
    fn take_action(&mut self, backfill: &Backfill, key: ActionKey, ev: &mut Vec<Event>) {
        let cause = Cause::Backfilled(backfill.id, self.before(key));
        let note = Note { at: self.meta.now, by: backfill.by.clone(), cause };
        self.reopen(key, None, note, ev);
    }

    /// An instant of a job that has nothing to do in this area: a success without a run.
    fn pass_instant(&mut self, backfill: &mut Backfill, key: ActionKey, ev: &mut Vec<Event>) {
        backfill.counts.success += 1;
        let state = InstantState::Over(RunResult::Success);
        let over = BackfillInstant { state, run: None };
        self.backfill_instants.put((backfill.id, key.nominal), over);
        if backfill.downstream && self.actions.contains(&key) {
            self.take_action(backfill, key, ev);
            let passed = self.pass_by_area(key);
            self.settle_all(passed, ev);
        }
    }
}

/// What an order must keep to, whatever there is.
fn check_order(order: &BackfillOrder) -> Result<(), Reject> {
    if order.instants.is_empty() {
        return Err(invalid("instants", "there is none in that range; choose another"));
    }
    at_most("instants", order.instants.len(), Backfill::MAX_INSTANTS)?;
    if !order.instants.is_sorted_by(|a, b| a < b) {
        return Err(invalid("instants", "give each once, ascending"));
    }
    let most = u64::from(Backfill::MAX_CONCURRENCY);
    within("concurrency", u64::from(order.concurrency), 1, most, "runs")?;
    check_params("params", &order.params)?;
    if let Some(priority) = order.priority {
        within("priority", u64::from(priority), 0, u64::from(JobSpec::MAX_PRIORITY), "")?;
    }
    let is_day = |hours: Hours| {
        hours.from < Hours::DAY && hours.until < Hours::DAY && hours.from != hours.until
    };
    match order.hours {
        Some(hours) if !is_day(hours) => {
            Err(invalid("hours", "give two different minutes of a day, 00:00 to 23:59"))
        }
        Some(_) | None => Ok(()),
    }
}
