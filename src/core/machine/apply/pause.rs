//! Pauses, and their end. A pause always succeeds: what is planned and not due is
//! withdrawn, what is due and has not started is held, what runs goes on. Of
//! several pauses over one job the last that ends says what becomes of the
//! instants between.
//!
//! A pause of a group or of the cluster holds all its jobs from its commit on. What
//! follows for each of them is done job by job, so many a command: none may take long.

use std::collections::BTreeSet;

use super::super::command::{Actor, PlanBatch, PlanSource};
use super::super::holds::place_in;
use super::super::outcome::{Event, Outcome, Reject};
use super::super::state::State;
use super::room_for;
use crate::ids::{GroupPath, JobId, TriggerName};
use crate::model::action::{Missed, MissedReason};
use crate::model::job::Job;
use crate::model::pause::{AfterPause, Pause, PauseEnd, PauseTarget, Sweep, SweepKind};
use crate::mutants::{self, Mutant};
use crate::time::UtcMillis;

/// The longest name of who paused, in bytes.
const MAX_BY: usize = 200;

impl State {
    pub(super) fn pause(
        &mut self,
        target: &PauseTarget,
        actor: &Actor,
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        match target {
            PauseTarget::Job(job) => return self.pause_job(*job, ev),
            PauseTarget::Trigger(job, trigger) => self.check_trigger(*job, trigger)?,
            PauseTarget::Group(_) | PauseTarget::Cluster => {}
        }
        let under_way = self.sweeps.get(target).cloned();
        let is_paused = self.pauses.contains(target);
        if let Some(mut sweep) = under_way.clone().filter(|sweep| is_paused && ends(sweep)) {
            // An end that was put off will not be.
            sweep.next.pop();
            self.sweeps.put(target.clone(), sweep);
        }
        if is_paused {
            return Ok(Outcome::Done);
        }
        room_for("pauses", self.pauses.len() + 1, self.limits.pauses)?;
        let pause = Pause { since: self.meta.now, by: by(actor) };
        if let PauseTarget::Trigger(id, trigger) = target {
            if !self.is_held(*id) {
                self.withdraw(*id, Some(&BTreeSet::from([trigger.clone()])), ev);
                self.rewind(*id, PlanSource::Trigger(trigger.clone()), self.meta.now);
                ev.push(Event::Job(*id));
            }
            let runs = self.live_runs_of(*id);
            self.move_places(&runs, |state| state.pauses.put(target.clone(), pause));
            return Ok(Outcome::Done);
        }
        if let Some(mut sweep) = under_way {
            // All are held from now on; what goes on just now is withdrawn after that.
            sweep.next.push(SweepKind::Withdraw);
            self.sweeps.put(target.clone(), sweep);
            self.pauses.put(target.clone(), pause);
        } else {
            self.begin_sweep(target, SweepKind::Withdraw, Vec::new());
            self.pauses.put(target.clone(), pause);
            self.sweep_one(target, ev);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn resume(
        &mut self,
        target: &PauseTarget,
        after: AfterPause,
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        match target {
            PauseTarget::Job(job) => return self.resume_job(*job, after, ev),
            PauseTarget::Trigger(job, trigger) => self.check_trigger(*job, trigger)?,
            PauseTarget::Group(_) | PauseTarget::Cluster => {}
        }
        if !self.pauses.contains(target) {
            return Ok(Outcome::Done);
        }
        let end = PauseEnd { at: self.meta.now, missed: after };
        if let PauseTarget::Trigger(id, trigger) = target {
            let runs = self.live_runs_of(*id);
            self.move_places(&runs, |state| drop(state.pauses.remove(target)));
            if !self.is_held(*id) {
                self.trigger_goes_on(*id, trigger, end, ev);
            } else if self.pending_end(*id).is_some() {
                self.end_gap(*id, PlanSource::Trigger(trigger.clone()), end, ev);
            }
            ev.extend(runs.into_iter().map(Event::Ready));
            return Ok(Outcome::Done);
        }
        if let Some(mut sweep) = self.sweeps.get(target).cloned() {
            // It ends when it has come to all.
            if !ends(&sweep) {
                sweep.next.push(SweepKind::GoOn(end));
                self.sweeps.put(target.clone(), sweep);
            }
        } else {
            self.end_of_many(target, end, Vec::new(), ev);
        }
        Ok(Outcome::Done)
    }

    /// A pause of many jobs begins or ends: it comes to each in its turn, to the first
    /// ones now, to all others with the next commands.
    fn begin_sweep(&mut self, target: &PauseTarget, what: SweepKind, next: Vec<SweepKind>) {
        self.sweeps.put(target.clone(), Sweep { what, done: None, next });
    }

    fn end_of_many(
        &mut self,
        target: &PauseTarget,
        end: PauseEnd,
        next: Vec<SweepKind>,
        ev: &mut Vec<Event>,
    ) {
        let is_over = next.is_empty();
        self.begin_sweep(target, SweepKind::GoOn(end), next);
        if is_over {
            self.pauses.remove(target);
        }
        self.sweep_one(target, ev);
        if *target == PauseTarget::Cluster {
            // One is enough to make the dispatcher look at the queue.
            ev.extend(self.index.queue.any().map(Event::Ready));
        }
    }

    /// A step of what is under way.
    pub(super) fn sweep(&mut self, ev: &mut Vec<Event>) {
        if self.sweeps.len() == 0 {
            return;
        }
        let first = self.sweeps.iter().next().map(|(target, _)| target.clone());
        if let Some(target) = first {
            self.sweep_one(&target, ev);
        }
    }

    fn sweep_one(&mut self, target: &PauseTarget, ev: &mut Vec<Event>) {
        let Some(sweep) = self.sweeps.get(target).cloned() else { return };
        let jobs = self.after_place(target, sweep.done.clone(), self.limits.sweep + 1);
        let (limit, mut actions) = (self.limits.sweep, 0);
        let mut is_over = true;
        for (nth, id) in jobs.iter().enumerate() {
            if nth == limit || actions >= PlanBatch::MAX_ACTIONS {
                is_over = mutants::on(Mutant::PauseStopsHalfWay);
                break;
            }
            actions += self.live_actions_of(*id).take(PlanBatch::MAX_ACTIONS).count();
            self.sweep_job(target, &sweep, *id, ev);
        }
        if !is_over {
            return;
        }
        self.sweeps.remove(target);
        let mut next = sweep.next;
        if next.is_empty() {
            return;
        }
        match next.remove(0) {
            SweepKind::Withdraw => self.begin_sweep(target, SweepKind::Withdraw, next),
            SweepKind::GoOn(end) => self.end_of_many(target, end, next, ev),
        }
    }

    /// It is one job's turn.
    fn sweep_job(&mut self, target: &PauseTarget, sweep: &Sweep, id: JobId, ev: &mut Vec<Event>) {
        let Some(job) = self.jobs.shared(&id) else { return };
        if sweep.what == SweepKind::Withdraw {
            self.withdraw(id, None, ev);
            self.rewind_cursors(id, self.pending_end(id).map_or(self.meta.now, |end| end.at));
            ev.push(Event::Job(id));
        }
        let runs = if *target == PauseTarget::Cluster {
            // A frozen cluster keeps its queue: nobody takes from it.
            Vec::new()
        } else {
            self.live_runs_of(id)
        };
        let done = Some(place_in(target, &job));
        self.move_places(&runs, |state| {
            state.sweeps.put(target.clone(), Sweep { done, ..sweep.clone() });
        });
        if let SweepKind::GoOn(end) = sweep.what {
            self.pause_ended(id, end, ev);
            ev.extend(runs.into_iter().map(Event::Ready));
        }
    }

    /// Jobs that a pause is about, in the order in which it comes to them.
    fn after_place(
        &self,
        target: &PauseTarget,
        done: Option<(Option<GroupPath>, JobId)>,
        most: usize,
    ) -> Vec<JobId> {
        match target {
            PauseTarget::Cluster => {
                let jobs = self.jobs_after(done.map(|(_, id)| id));
                jobs.take(most).map(|job| job.id).collect()
            }
            PauseTarget::Group(group) => {
                let from = done.and_then(|(path, id)| Some((path?, id)));
                self.jobs_in_after(group, from).take(most).collect()
            }
            PauseTarget::Job(id) | PauseTarget::Trigger(id, _) => vec![*id],
        }
    }

    pub(super) fn pause_job(&mut self, id: JobId, ev: &mut Vec<Event>) -> Result<Outcome, Reject> {
        let job = self.jobs.shared(&id).ok_or(Reject::NoSuchJob(id))?;
        if !job.paused {
            self.withdraw(id, None, ev);
            self.rewind_cursors(id, self.meta.now);
            self.put_job_and_queue(Job { paused: true, ..(*job).clone() });
            ev.push(Event::Job(id));
        }
        Ok(Outcome::Done)
    }

    pub(super) fn resume_job(
        &mut self,
        id: JobId,
        after: AfterPause,
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        let job = self.jobs.shared(&id).ok_or(Reject::NoSuchJob(id))?;
        if !job.paused {
            return Ok(Outcome::Done);
        }
        self.put_job_and_queue(Job { paused: false, ..(*job).clone() });
        self.pause_ended(id, PauseEnd { at: self.meta.now, missed: after }, ev);
        for run in self.live_runs_of(id) {
            ev.push(Event::Ready(run));
        }
        ev.push(Event::Job(id));
        Ok(Outcome::Done)
    }

    /// A pause of the job has ended. The others may have, too, and not have come to it:
    /// then this one says already what becomes of the instants up to its own end.
    fn pause_ended(&mut self, id: JobId, end: PauseEnd, ev: &mut Vec<Event>) {
        if !self.is_held(id) {
            self.go_on(id, end, ev);
        } else if self.pending_end(id).is_some() {
            self.end_gaps(id, end, ev);
        }
    }

    /// Says from where the first of the job's sources goes on.
    fn end_gaps(&mut self, id: JobId, end: PauseEnd, ev: &mut Vec<Event>) -> UtcMillis {
        let mut from = UtcMillis::MAX;
        for (source, _) in self.cursors_of(id) {
            if !self.is_source_paused(id, &source) {
                from = self.end_gap(id, source, end, ev).map_or(from, |to| from.min(to));
            }
        }
        from
    }

    /// Nothing holds the job any more.
    fn go_on(&mut self, id: JobId, end: PauseEnd, ev: &mut Vec<Event>) {
        let from = self.end_gaps(id, end, ev);
        // A trigger that was paused alone before, and freed meanwhile: derived jobs were
        // planned without it.
        self.goes_on_from(id, from, ev);
    }

    /// The same for one trigger. Its job was planned without it, and so were those
    /// that depend on it: they go back, as after an edit that brings a trigger.
    fn trigger_goes_on(
        &mut self,
        id: JobId,
        trigger: &TriggerName,
        end: PauseEnd,
        ev: &mut Vec<Event>,
    ) {
        let from = self.end_gap(id, PlanSource::Trigger(trigger.clone()), end, ev);
        self.withdraw(id, Some(&BTreeSet::from([trigger.clone()])), ev);
        self.goes_on_from(id, from.unwrap_or(UtcMillis::MAX), ev);
    }

    /// What a job has waiting goes on, and instants may come again from there on.
    fn goes_on_from(&mut self, id: JobId, from: UtcMillis, ev: &mut Vec<Event>) {
        self.dependants_back_to(id, from, ev);
        self.job_waits_anew(id);
        for key in self.live_actions_of(id).collect::<Vec<_>>() {
            self.reconsider(key, ev);
        }
        ev.push(Event::Job(id));
    }

    /// Instants between cursor and the pause's end: left out and recorded, or left to
    /// the planner, as far as it could still tell an old one from a new one. Says from
    /// where the source goes on, if there is one.
    fn end_gap(
        &mut self,
        job: JobId,
        source: PlanSource,
        end: PauseEnd,
        ev: &mut Vec<Event>,
    ) -> Option<UtcMillis> {
        let cursor = self.cursor(job, &source)?;
        let is_skipped = end.missed == AfterPause::Skip && !mutants::on(Mutant::ResumeReplays);
        let floor = self.floor(job).unwrap_or(UtcMillis(i64::MIN));
        let to = if is_skipped { end.at } else { floor.min(end.at) };
        if cursor >= to {
            return Some(cursor);
        }
        if let PlanSource::Trigger(trigger) = source.clone() {
            // Which instants lie between, only the planner could count.
            let (count, reason, at) = (0, MissedReason::Paused, self.meta.now);
            self.put_missed(Missed { job, trigger, from: cursor, to, count, reason, at });
        }
        let before = self.decided_through(job);
        self.cursors.put((job, source), to);
        self.decided_on(job, before, ev);
        Some(to)
    }

    /// Derived jobs below one may get instants behind their cursors: from `to` on, but
    /// none from before their definitions.
    fn dependants_back_to(&mut self, id: JobId, to: UtcMillis, ev: &mut Vec<Event>) {
        let mut seen = BTreeSet::from([id]);
        let mut work = vec![id];
        while let Some(up) = work.pop() {
            for down in self.dependants_of(up).collect::<Vec<_>>() {
                if !seen.insert(down) {
                    continue;
                }
                let source = PlanSource::Dependencies;
                let to = self.jobs.get(&down).map_or(to, |job| to.max(job.updated));
                if self.cursor(down, &source).is_some_and(|cursor| cursor > to) {
                    self.cursors.put((down, source), to);
                    ev.push(Event::Job(down));
                    work.push(down);
                }
            }
        }
    }

    fn check_trigger(&self, id: JobId, name: &TriggerName) -> Result<(), Reject> {
        let job = self.jobs.get(&id).ok_or(Reject::NoSuchJob(id))?;
        if job.spec.trigger(name).is_some() {
            return Ok(());
        }
        let trigger = name.0.chars().take(TriggerName::MAX_LEN).collect();
        Err(Reject::NoSuchTrigger { job: job.spec.name.clone(), trigger })
    }

    fn is_held(&self, id: JobId) -> bool {
        self.jobs.get(&id).is_some_and(|job| self.hold_of(job).is_some())
    }

    /// How what holds a job now ends if the job is taken out of it by an edit; nothing
    /// if nothing holds it.
    pub(super) fn end_by_edit(&self, id: JobId) -> Option<PauseEnd> {
        let by_edit = PauseEnd { at: self.meta.now, missed: AfterPause::Skip };
        self.is_held(id).then(|| self.pending_end(id).unwrap_or(by_edit))
    }

    /// A definition was written: it may lie in another group now, and pauses of
    /// triggers that it no longer has are over. `held` is what
    /// [`State::end_by_edit`] said before.
    pub(super) fn after_edit(&mut self, id: JobId, held: Option<PauseEnd>, ev: &mut Vec<Event>) {
        self.drop_pauses(id, |job, name| job.spec.trigger(name).is_none());
        match (held, self.is_held(id)) {
            (None, true) => {
                self.withdraw(id, None, ev);
                self.rewind_cursors(id, self.meta.now);
            }
            (Some(end), false) => self.go_on(id, end, ev),
            (Some(_), true) if self.sweeps.len() > 0 => {
                // It may have moved to where a pause that has just begun has been.
                self.withdraw(id, None, ev);
                self.rewind_cursors(id, self.meta.now);
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    /// Ends pauses of a job's triggers without a word.
    pub(super) fn drop_pauses(&mut self, id: JobId, is_over: impl Fn(&Job, &TriggerName) -> bool) {
        if self.pauses.len() == 0 {
            return;
        }
        let Some(job) = self.jobs.shared(&id) else { return };
        let from = PauseTarget::Trigger(id, TriggerName("".into()));
        let of_job = |target: &PauseTarget| match target {
            PauseTarget::Trigger(of, name) if *of == id => Some(name.clone()),
            _ => None,
        };
        let names: Vec<TriggerName> =
            self.pauses.range(from..).map_while(|(target, _)| of_job(target)).collect();
        let over: Vec<TriggerName> = names.into_iter().filter(|n| is_over(&job, n)).collect();
        if over.is_empty() {
            return;
        }
        let runs = self.live_runs_of(id);
        self.move_places(&runs, |state| {
            for name in over {
                state.pauses.remove(&PauseTarget::Trigger(id, name));
            }
        });
        self.wait_anew(&runs);
    }
}

/// True if what is under way and what follows it ends the pause.
fn ends(sweep: &Sweep) -> bool {
    sweep.last() != SweepKind::Withdraw
}

pub(super) fn by(actor: &Actor) -> String {
    match actor {
        Actor::User(name) => name.chars().take(MAX_BY / 4).collect(),
        Actor::Leader(leader) => format!("leader {leader}"),
        Actor::Worker(worker) => format!("worker {worker}"),
    }
}
