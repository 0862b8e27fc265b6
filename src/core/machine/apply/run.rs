//! Runs: dispatched, ended, retried, cancelled.

use super::super::command::{Actor, EndReport};
use super::super::index::Owner;
use super::super::outcome::{Event, Outcome, Reject};
use super::super::state::State;
use crate::ids::{AttemptKey, Incarnation, RunId, Token, WorkerId};
use crate::model::action::{ActionState, SkipReason};
use crate::model::confinement::Usage;
use crate::model::demand::Demand;
use crate::model::history::Cause;
use crate::model::job::{JobSpec, OnWorkerLost};
use crate::model::output::Values;
use crate::model::resources::Resources;
use crate::model::retry::AfterFailure;
use crate::model::run::{
    Attempt, AttemptCause, AttemptEnd, EndKind, Run, RunKind, RunResult, RunState,
};
use crate::mutants::{self, Mutant};
use crate::time::{Span, UtcMillis};

/// What follows an attempt.
enum Next {
    /// Another one, not before then.
    Again(UtcMillis),
    /// Nothing: the run is over.
    Over(RunResult),
}

impl State {
    pub(super) fn dispatch(
        &mut self,
        id: RunId,
        number: u32,
        worker: WorkerId,
        incarnation: Incarnation,
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        let run = self.dispatchable(id, number, worker, incarnation)?;
        let now = self.meta.now;
        let allowance = self.allowance(run);
        let token = self.meta.last_token.next();
        let mut run = run.clone();
        let cause = run.attempts.last().map_or(AttemptCause::First, |before| {
            before.rerun_cause().unwrap_or(AttemptCause::Retry)
        });
        if run.attempts.len() >= Run::MAX_ATTEMPTS_KEPT {
            let dropped = run.attempts.remove(0);
            run.usage.remove(&dropped.key.number);
            run.handles.remove(&dropped.key.number);
        }
        let key = Self::key_of(&run, number);
        run.attempts.push(Attempt {
            key,
            token,
            worker,
            incarnation,
            cause,
            dispatched: now,
            end: None,
        });
        run.state = RunState::Running;
        let action = run.decides();
        self.meta.last_token = token;
        self.put_run(run);
        self.watch_until(worker, now.plus(allowance));
        if let Some(key) = action {
            self.edit_action(key, |a| a.state = ActionState::Running);
            ev.push(Event::Action(key));
        }
        ev.push(Event::Run(id));
        Ok(Outcome::Dispatched { token })
    }

    /// True if a run waits for its turn in the queue, and nothing holds it.
    pub(super) fn is_to_go(&self, run: &Run) -> bool {
        let is_held = (self.is_run_held(run) || self.frozen().is_some())
            && !mutants::on(Mutant::PauseDoesNotHold);
        run.state == RunState::Queued && !is_held
    }

    /// The run, if its try of that number may begin on that worker now.
    fn dispatchable(
        &self,
        id: RunId,
        number: u32,
        worker_id: WorkerId,
        incarnation: Incarnation,
    ) -> Result<&Run, Reject> {
        let run = self.runs.get(&id).ok_or(Reject::NoSuchRun(id))?;
        if !run.is_live() {
            return Err(Reject::RunOver(id));
        }
        let next = run.attempts.last().map_or(1, |a| a.key.number.saturating_add(1));
        if !self.is_to_go(run) || number != next {
            return Err(Reject::NotDispatchable(id));
        }
        let spec = self.spec(run.job, run.revision).ok_or(Reject::NotDispatchable(id))?;
        if spec.limits.run_ends(run).is_some_and(|end| end <= self.meta.now) {
            return Err(Reject::NotDispatchable(id));
        }
        let worker = self.workers.get(&worker_id).filter(|w| w.profile.incarnation == incarnation);
        let worker = worker.ok_or(Reject::NoSuchWorker(worker_id))?;
        let demand = Demand::of(spec, run);
        if !worker.profile.groups.contains(&spec.worker_group) || !demand.suits(worker) {
            return Err(Reject::NotDispatchable(id));
        }
        if !worker.is_open() {
            return Err(Reject::NotOpen { worker: worker_id, duty: worker.given() });
        }
        let wanted = demand.resources();
        if self.free_slots(worker_id) < wanted.slots {
            return Err(Reject::NoSlot(worker_id));
        }
        if !self.has_room(worker, wanted, &Resources::slots(0)) {
            return Err(Reject::NoRoom(worker_id));
        }
        match self.full_pool(&demand) {
            Some(pool) => Err(Reject::PoolFull(pool)),
            None => Ok(run),
        }
    }

    /// How long an attempt of this run may stay without contact before it counts as lost.
    pub(super) fn allowance(&self, run: &Run) -> Span {
        let Some(spec) = self.spec(run.job, run.revision) else { return self.lease_margin() };
        match spec.on_worker_lost {
            OnWorkerLost::Rerun | OnWorkerLost::Fail if mutants::on(Mutant::NoLeaseMargin) => {
                spec.lease
            }
            OnWorkerLost::Rerun | OnWorkerLost::Fail => self.outlasting(spec.lease),
            OnWorkerLost::Keep { keep_for } => keep_for,
        }
    }

    pub(super) fn complete(
        &mut self,
        attempt: AttemptKey,
        token: Token,
        report: &EndReport,
        outputs: &Values,
        usage: Usage,
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        let run = self.run_of(attempt).ok_or(Reject::StaleAttempt(attempt))?;
        let (id, live) = (run.id, run.live_attempt());
        let is_late = mutants::on(Mutant::LateResultTaken) && live.is_some();
        if !is_late && !live.is_some_and(|a| a.key == attempt && a.token == token) {
            return Err(Reject::StaleAttempt(attempt));
        }
        // A worker's estimate of cluster time lags as its leader's messages do, and
        // nothing begins before it is dispatched nor ends after that is known.
        let now = self.meta.now;
        let dispatched = live.map_or(now, |attempt| attempt.dispatched).min(now);
        let started = report.started.map(|at| at.clamp(dispatched, now));
        let ended = report.ended.map(|at| at.clamp(started.unwrap_or(dispatched), now));
        let how = match &report.how {
            EndKind::NotStarted { message } => EndKind::not_started(message),
            EndKind::Unrendered { message } => EndKind::unrendered(message),
            EndKind::BadOutput { message } => EndKind::bad_output(message),
            EndKind::Declined { message } => EndKind::declined(message),
            EndKind::LimitsUnsupported { message } => EndKind::limits_unsupported(message),
            how if how.is_success() => self.keep_outputs(id, how, outputs),
            how => how.clone(),
        };
        let end = AttemptEnd {
            at: now,
            how,
            started,
            ended,
            output_bytes: report.output_bytes,
            output_crc: report.output_crc,
        };
        self.end_attempt(id, end, usage, ev);
        self.bound_outputs(id);
        Ok(Outcome::Done)
    }

    /// Ends an attempt of which nothing is known but that it is over.
    pub(super) fn give_up(&mut self, id: RunId, how: EndKind, ev: &mut Vec<Event>) {
        let end = AttemptEnd {
            at: self.meta.now,
            how,
            started: None,
            ended: None,
            output_bytes: 0,
            output_crc: 0,
        };
        self.end_attempt(id, end, Usage::default(), ev);
    }

    /// Ends the live attempt, and does what follows.
    fn end_attempt(&mut self, id: RunId, mut end: AttemptEnd, usage: Usage, ev: &mut Vec<Event>) {
        let Some(old) = self.runs.get(&id).filter(|r| r.live_attempt().is_some()) else { return };
        let Some(spec) = self.spec(old.job, old.revision) else { return };
        let is_last = self.is_cut_by_run(old, spec, &end.how);
        if end.how == EndKind::Cancelled && old.is_drained() && !old.cancel_requested {
            end.how = EndKind::Drained;
        }
        let how = end.how.clone();
        let mut run = old.clone();
        if let Some(attempt) = run.attempts.last_mut() {
            attempt.end = Some(end);
            if usage != Usage::default() {
                run.usage.insert(attempt.key.number, usage);
            }
        }
        match self.after_attempt(&mut run, spec, &how, is_last) {
            Next::Again(until) => self.wait_again(run, until, ev),
            Next::Over(result) => self.finish_run(run, result, ev),
        }
    }

    /// What follows an attempt that ended in such a way. If it is another one, that is
    /// counted in `run`.
    fn after_attempt(&self, run: &mut Run, spec: &JobSpec, how: &EndKind, is_last: bool) -> Next {
        let now = self.meta.now;
        let run_ends = spec.limits.run_ends(run);
        let is_too_late = |until| run_ends.is_some_and(|end| end <= until);
        if how.is_success() {
            return Next::Over(RunResult::Success);
        }
        if run.cancel_requested || *how == EndKind::Cancelled {
            return Next::Over(RunResult::Cancelled);
        }
        let last = run.attempts.last();
        if last.is_some_and(|last| last.rerun_cause().is_some()) {
            let is_declined = matches!(how, EndKind::Declined { .. });
            let is_loss = how.is_loss();
            let is_one_too_many = is_loss && run.losses >= Run::MAX_LOSSES;
            if is_too_late(now) {
                return Next::Over(RunResult::RunTimedOut);
            }
            // Of what was declined nothing began: no policy of losses is asked.
            let reruns = is_declined || spec.on_worker_lost == OnWorkerLost::Rerun;
            if !reruns || is_one_too_many {
                return Next::Over(RunResult::Failed);
            }
            run.losses += u32::from(is_loss);
            return Next::Again(now);
        }
        match spec.retry_rules.judge(how) {
            _ if is_last => return Next::Over(RunResult::RunTimedOut),
            AfterFailure::Skip => return Next::Over(RunResult::Skipped),
            AfterFailure::Retry
                if run.retries < spec.retries.count && run.kind != RunKind::Debug => {}
            AfterFailure::Retry | AfterFailure::Fail => return Next::Over(RunResult::Failed),
        }
        let retry = run.retries + u32::from(!mutants::on(Mutant::RetriesNotCounted));
        let until = spec.retry_at(run.id, retry, now);
        if is_too_late(until) {
            // Nobody waits for a try that would have no time.
            return Next::Over(RunResult::RunTimedOut);
        }
        run.retries = retry;
        if mutants::on(Mutant::RetryIsSchedule) {
            run.kind = RunKind::Schedule;
        }
        Next::Again(until)
    }

    /// Puts a run back: into the queue, or into backoff before it.
    fn wait_again(&mut self, mut run: Run, until: UtcMillis, ev: &mut Vec<Event>) {
        let (id, action) = (run.id, run.decides());
        run.state = if until > self.meta.now {
            RunState::Backoff { until }
        } else {
            run.ready_at = self.meta.now;
            ev.push(Event::Ready(id));
            RunState::Queued
        };
        self.put_run(run);
        if let Some(key) = action {
            self.edit_action(key, |a| a.state = ActionState::Ready);
            ev.push(Event::Action(key));
        }
        ev.push(Event::Run(id));
    }

    /// The wait before a retry is over.
    pub(super) fn backoff_over(&mut self, id: RunId, ev: &mut Vec<Event>) {
        let Some(old) = self.runs.get(&id) else { return };
        let mut run = old.clone();
        if let RunState::Backoff { until } = run.state {
            run.state = RunState::Queued;
            run.ready_at = until;
            if mutants::on(Mutant::ApplyLooksAround) {
                run.ready_at.0 += i64::from(mutants::around() % 3 == 1);
            }
            self.put_run(run);
            ev.push(Event::Ready(id));
        }
    }

    pub(super) fn finish_run(&mut self, mut run: Run, result: RunResult, ev: &mut Vec<Event>) {
        let (id, job, owner) = (run.id, run.job, Owner::of(&run));
        let (backfill, nominal) = (run.backfill, run.nominal);
        let part = run.part;
        run.state = RunState::Finished { result, at: self.meta.now };
        self.put_run(run);
        ev.push(Event::Run(id));
        if let Some(part) = part {
            if let Some((whole, result)) = self.part_over(part.of) {
                self.finish_run(whole, result, ev);
            }
            return;
        }
        let state = match result {
            RunResult::Success => ActionState::Success,
            RunResult::Failed
            | RunResult::RunTimedOut
            | RunResult::QueueTimedOut
            | RunResult::WorkerRemoved
            | RunResult::TooManyWorkers => ActionState::Failed,
            RunResult::Cancelled => ActionState::Cancelled,
            RunResult::Deleted => ActionState::Skipped(SkipReason::Deleted),
            RunResult::Skipped => ActionState::Skipped(SkipReason::Job),
        };
        self.settle_run(id, state, ev);
        // Behind its dependants: one of them may be of the same job, and its turn is first.
        let settled = self.next_in_line(job, ev);
        self.settle_all(settled, ev);
        if let Some(backfill) = backfill {
            self.backfill_run_over(backfill, nominal, result, ev);
        }
        self.retain(owner);
    }

    pub(super) fn cancel_run(
        &mut self,
        id: RunId,
        actor: &Actor,
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        let run = self.runs.get(&id).ok_or(Reject::NoSuchRun(id))?;
        let mut run = run.clone();
        run.notes.add(self.note(actor, Cause::CancelAsked));
        match run.state {
            RunState::Finished { .. } => return Err(Reject::RunOver(id)),
            RunState::Queued | RunState::Backoff { .. } => {
                run.cancel_requested = true;
                self.finish_run(run, RunResult::Cancelled, ev);
            }
            RunState::Running | RunState::Spread => {
                run.cancel_requested = true;
                self.put_run(run);
                ev.push(Event::Run(id));
                if let Some((whole, result)) = self.cancel_parts(id, ev) {
                    self.finish_run(whole, result, ev);
                }
            }
        }
        Ok(Outcome::Done)
    }
}
