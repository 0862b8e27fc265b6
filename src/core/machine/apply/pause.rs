//! Pauses, and their end. A pause always succeeds: what is planned and not due is
//! withdrawn, what is due and has not started is held, what runs goes on. Of
//! several pauses over one job the last that ends says what becomes of the
//! instants between.

use std::collections::BTreeSet;

use super::super::command::{Actor, PlanSource};
use super::super::outcome::{Event, Outcome, Reject};
use super::super::state::State;
use crate::ids::{JobId, RunId, TriggerName};
use crate::model::action::{Missed, MissedReason};
use crate::model::job::Job;
use crate::model::pause::{AfterPause, Pause, PauseTarget};
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
        if self.pauses.contains(target) {
            return Ok(Outcome::Done);
        }
        let limit = self.limits.pauses;
        if self.pauses.len() >= limit {
            return Err(Reject::Full { what: "pauses".to_owned(), limit: limit as u64 });
        }
        let under = self.jobs_under(target);
        let free: Vec<JobId> = under.iter().filter(|id| !self.is_held(**id)).copied().collect();
        for id in &free {
            match target {
                PauseTarget::Trigger(_, trigger) => {
                    self.withdraw(*id, Some(&BTreeSet::from([trigger.clone()])), ev);
                    self.rewind(*id, PlanSource::Trigger(trigger.clone()));
                }
                PauseTarget::Cluster | PauseTarget::Group(_) | PauseTarget::Job(_) => {
                    self.withdraw(*id, None, ev);
                    self.rewind_cursors(*id);
                }
            }
            ev.push(Event::Job(*id));
        }
        let runs = self.runs_placed_by(target, &under);
        let pause = Pause { since: self.meta.now, by: by(actor) };
        self.move_places(&runs, |state| state.pauses.put(target.clone(), pause));
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
        let jobs = self.jobs_under(target);
        let runs = self.runs_placed_by(target, &jobs);
        self.move_places(&runs, |state| {
            state.pauses.remove(target);
        });
        for id in jobs.into_iter().filter(|id| !self.is_held(*id)).collect::<Vec<_>>() {
            match target {
                PauseTarget::Trigger(_, trigger) => self.trigger_goes_on(id, trigger, after, ev),
                PauseTarget::Cluster | PauseTarget::Group(_) | PauseTarget::Job(_) => {
                    self.go_on(id, after, ev);
                }
            }
        }
        ev.extend(runs.into_iter().map(Event::Ready));
        if *target == PauseTarget::Cluster {
            // One is enough to make the dispatcher look at the queue.
            ev.extend(self.index.queue.get_min().map(|first| Event::Ready(first.run)));
        }
        Ok(Outcome::Done)
    }

    pub(super) fn pause_job(&mut self, id: JobId, ev: &mut Vec<Event>) -> Result<Outcome, Reject> {
        let job = self.jobs.shared(&id).ok_or(Reject::NoSuchJob(id))?;
        if !job.paused {
            self.withdraw(id, None, ev);
            self.rewind_cursors(id);
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
        if !self.is_held(id) {
            self.go_on(id, after, ev);
        }
        for run in self.live_runs_of(id) {
            ev.push(Event::Ready(run));
        }
        ev.push(Event::Job(id));
        Ok(Outcome::Done)
    }

    /// Nothing holds the job any more.
    pub(super) fn go_on(&mut self, id: JobId, after: AfterPause, ev: &mut Vec<Event>) {
        for (source, cursor) in self.cursors_of(id) {
            if !self.is_source_paused(id, &source) {
                self.end_gap(id, source, cursor, after);
            }
        }
        for key in self.live_actions_of(id).collect::<Vec<_>>() {
            self.reconsider(key, ev);
        }
        ev.push(Event::Job(id));
    }

    /// The same for one trigger. Its job was planned without it, and so were those
    /// that depend on it: they go back, as after an edit that brings a trigger.
    fn trigger_goes_on(
        &mut self,
        id: JobId,
        trigger: &TriggerName,
        after: AfterPause,
        ev: &mut Vec<Event>,
    ) {
        let source = PlanSource::Trigger(trigger.clone());
        if let Some(cursor) = self.cursor(id, &source) {
            self.end_gap(id, source.clone(), cursor, after);
        }
        self.withdraw(id, Some(&BTreeSet::from([trigger.clone()])), ev);
        if let Some(cursor) = self.cursor(id, &source) {
            self.dependants_back_to(id, cursor, ev);
        }
        for key in self.live_actions_of(id).collect::<Vec<_>>() {
            self.reconsider(key, ev);
        }
        ev.push(Event::Job(id));
    }

    /// Instants between cursor and now: left out and recorded, or left to the
    /// planner, as far as it could still tell an old one from a new one.
    fn end_gap(&mut self, job: JobId, source: PlanSource, cursor: UtcMillis, after: AfterPause) {
        let now = self.meta.now;
        let is_skipped = after == AfterPause::Skip && !mutants::on(Mutant::ResumeReplays);
        let floor = self.floor(job).unwrap_or(UtcMillis(i64::MIN));
        let to = if is_skipped { now } else { floor.min(now) };
        if cursor >= to {
            return;
        }
        if let PlanSource::Trigger(trigger) = source.clone() {
            // Which instants lie between, only the planner could count.
            let (count, reason) = (0, MissedReason::Paused);
            self.put_missed(Missed { job, trigger, from: cursor, to, count, reason, at: now });
        }
        self.cursors.put((job, source), to);
    }

    /// Derived jobs below one may get instants behind their cursors: from `to` on.
    fn dependants_back_to(&mut self, id: JobId, to: UtcMillis, ev: &mut Vec<Event>) {
        let mut seen = BTreeSet::from([id]);
        let mut work = vec![id];
        while let Some(up) = work.pop() {
            for down in self.dependants_of(up).collect::<Vec<_>>() {
                if !seen.insert(down) {
                    continue;
                }
                let source = PlanSource::Dependencies;
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

    /// Jobs that a pause is about.
    fn jobs_under(&self, target: &PauseTarget) -> Vec<JobId> {
        match target {
            PauseTarget::Cluster => self.jobs.iter().map(|(id, _)| *id).collect(),
            PauseTarget::Group(group) => self.jobs_in(group).collect(),
            PauseTarget::Job(id) | PauseTarget::Trigger(id, _) => vec![*id],
        }
    }

    /// Runs whose place in the queue follows from this pause. A frozen cluster
    /// keeps its queue: nobody takes from it.
    fn runs_placed_by(&self, target: &PauseTarget, jobs: &[JobId]) -> Vec<RunId> {
        match target {
            PauseTarget::Cluster => Vec::new(),
            PauseTarget::Group(_) | PauseTarget::Job(_) | PauseTarget::Trigger(..) => {
                jobs.iter().flat_map(|id| self.live_runs_of(*id)).collect()
            }
        }
    }

    fn is_held(&self, id: JobId) -> bool {
        self.jobs.get(&id).is_some_and(|job| self.hold_of(job).is_some())
    }

    /// A definition was written: it may lie in another group now, and pauses of
    /// triggers that it no longer has are over.
    pub(super) fn after_edit(&mut self, id: JobId, was_held: bool, ev: &mut Vec<Event>) {
        self.drop_pauses(id, |job, name| job.spec.trigger(name).is_none());
        match (was_held, self.is_held(id)) {
            (false, true) => {
                self.withdraw(id, None, ev);
                self.rewind_cursors(id);
            }
            (true, false) => self.go_on(id, AfterPause::Skip, ev),
            (false, false) | (true, true) => {}
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
    }
}

fn by(actor: &Actor) -> String {
    match actor {
        Actor::User(name) => name.chars().take(MAX_BY / 4).collect(),
        Actor::Leader(leader) => format!("leader {leader}"),
        Actor::Worker(worker) => format!("worker {worker}"),
    }
}
