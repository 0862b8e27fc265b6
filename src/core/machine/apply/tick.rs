//! Time: what is due is released, what is too old is dropped.

use std::ops::Bound;

use super::super::index::{Ended, Owner, Timer};
use super::super::outcome::{Event, Outcome, Reject};
use super::super::state::{HIGHEST, LOWEST, State, all_of};
use super::invalid;
use crate::ids::{ActionKey, LeaderId, RunId};
use crate::model::action::{ActionState, SkipReason};
use crate::model::cluster::ClusterSettings;
use crate::model::run::{EndKind, Run, RunState};
use crate::mutants::{self, Mutant};
use crate::time::{Span, UtcMillis};

/// Old records looked at each time one is added: more than one, so that a bound
/// that was passed is reached again, and few, so that no command takes long.
const RETENTION_STEPS: usize = 64;
/// The same while no bound is passed, to find what is too old.
const SWEEP_STEPS: usize = 4;

impl State {
    pub(super) fn init_cluster(&mut self, settings: &ClusterSettings) -> Result<Outcome, Reject> {
        if self.meta.settings.is_some() {
            return Err(Reject::AlreadyInitialised);
        }
        let day = Span::secs(86_400);
        if settings.lease_margin > day || settings.misfire_after > day {
            return Err(invalid("settings", "margins are at most 1d"));
        }
        if settings.default_zone.is_empty() || settings.default_zone.len() > 64 {
            return Err(invalid("default_zone", "give an IANA name of at most 64 bytes"));
        }
        self.meta.settings = Some(settings.clone());
        // The margin is part of time-outs. There is next to nothing at this point.
        self.index = self.rebuilt_index();
        Ok(Outcome::Done)
    }

    pub(super) fn leader_started(&mut self, leader: LeaderId) -> Result<Outcome, Reject> {
        if leader < self.meta.leader {
            return Err(Reject::StaleLeader(leader));
        }
        if leader > self.meta.leader {
            let running: Vec<RunId> = self.index.running.iter().map(|(_, run)| *run).collect();
            self.move_places(&running, |state| {
                state.meta.leader = leader;
                state.meta.lease_floor = state.meta.now;
            });
            self.take_over_wrongly();
        }
        Ok(Outcome::Done)
    }

    /// What a leader must not do when it takes over.
    fn take_over_wrongly(&mut self) {
        let now = self.meta.now;
        if mutants::on(Mutant::PlansFromNow) {
            for job in self.jobs.iter().map(|(id, _)| *id).collect::<Vec<_>>() {
                for (source, cursor) in self.cursors_of(job) {
                    self.cursors.put((job, source), cursor.max(now));
                }
            }
        }
        if mutants::on(Mutant::BackoffBeginsAnew) {
            let waits = |run: &&Run| matches!(run.state, RunState::Backoff { .. });
            let all = self.runs.iter().map(|(_, run)| run).filter(waits);
            for run in all.cloned().collect::<Vec<Run>>() {
                let spec = self.spec(run.job, run.revision);
                let wait = spec.map_or(Span::ZERO, |spec| spec.retries.backoff.delay(run.retries));
                self.put_run(Run { state: RunState::Backoff { until: now.plus(wait) }, ..run });
            }
        }
        if mutants::on(Mutant::RedispatchAtTakeover) {
            for run in self.runs.iter().map(|(id, _)| *id).collect::<Vec<_>>() {
                self.give_up(run, EndKind::Gone, &mut Vec::new());
            }
        }
    }

    /// Releases what is due, up to a bound; the rest is due still, and comes
    /// with the next command.
    pub(super) fn release_due(&mut self, ev: &mut Vec<Event>) {
        self.sweep(ev);
        self.replan_some(ev);
        for _ in 0..self.limits.timers {
            let Some((at, timer)) = self.index.timers.get_min() else { break };
            if *at > self.meta.now {
                break;
            }
            match timer.clone() {
                Timer::ActionDue(key) => self.action_due(key, ev),
                Timer::ActionExpiry(key) => {
                    self.settle(key, ActionState::Skipped(SkipReason::Expired), ev);
                    self.retain(Owner::Job(key.job));
                }
                Timer::Backoff(run) => self.backoff_over(run, ev),
                Timer::Limit(run) => self.limit_passed(run, ev),
                Timer::Timeout(run) => self.give_up(run, EndKind::TimedOut, ev),
                Timer::Worker(worker) => self.check_worker(worker, ev),
                Timer::Lock(name) => self.check_lock(&name, ev),
                Timer::Drain(worker) => self.drain_time_over(worker, ev),
            }
        }
        self.forget_requests();
    }

    /// Drops remembered requests that are too old or too many, a few at a time.
    pub(super) fn forget_requests(&mut self) {
        for _ in 0..RETENTION_STEPS {
            let Some((seq, oldest)) = self.requests.iter().next() else { return };
            let is_old = oldest.at.plus(self.limits.request_age) < self.meta.now;
            if !is_old && self.requests.len() <= self.limits.requests {
                return;
            }
            let (seq, id, at) = (*seq, oldest.id.clone(), oldest.at);
            self.meta.request_floor = self.meta.request_floor.max(at);
            self.requests.remove(&seq);
            self.index.request_ids.remove(&id);
        }
    }

    /// Drops what is over beyond the bounds: of the cluster, then of a job or back-fill.
    ///
    /// The cluster's bound comes first, even before a young failure; it goes
    /// round, so that records which must stay cannot hold it up.
    pub(super) fn retain(&mut self, owner: Owner) {
        let is_over = self.kept_records() > self.limits.ended;
        let steps = if is_over { RETENTION_STEPS } else { SWEEP_STEPS };
        let aged = self.meta.now.minus(self.limits.ended_age);
        let from = self.meta.swept.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.index.ended.range((from, Bound::Unbounded)).take(steps);
        let next: Vec<(UtcMillis, Ended)> = next.copied().collect();
        self.meta.swept = next.last().copied().filter(|_| next.len() == steps);
        for (at, ended) in next {
            if self.kept_records() <= self.limits.ended && at >= aged {
                // All that follow are younger.
                self.meta.swept = None;
                break;
            }
            let before = self.index.parts.len();
            self.drop_ended(ended);
            if self.index.parts.len() < before {
                // One that had many parts is enough for one command.
                self.meta.swept = Some((at, ended));
                break;
            }
        }
        let young = self.meta.now.minus(self.limits.failure_age);
        for failed in [false, true] {
            let held = |s: &Self| s.index.ended_count.get(&owner).copied().unwrap_or(0) as usize;
            if held(self) <= self.limits.ended_per_job {
                return;
            }
            let first = Ended::Run(RunId(0));
            let last = if failed { young } else { UtcMillis::MAX };
            let range = (owner, failed, UtcMillis(i64::MIN), first)
                ..=(owner, failed, last, Ended::Action(HIGHEST));
            let oldest = self.index.ended_by_owner.range(range).take(RETENTION_STEPS);
            for ended in oldest.map(|(.., ended)| *ended).collect::<Vec<_>>() {
                if held(self) <= self.limits.ended_per_job {
                    break;
                }
                self.drop_ended(ended);
            }
        }
    }

    /// Runs and actions that are over, with all parts of runs.
    fn kept_records(&self) -> usize {
        self.index.ended.len() + self.index.parts.len()
    }

    fn drop_ended(&mut self, ended: Ended) {
        let key =
            match ended {
                Ended::Action(key) => Some(key),
                // An action goes with its newest run.
                Ended::Run(run) => self.runs.get(&run).and_then(|r| r.action).filter(|key| {
                    self.actions.get(key).is_some_and(|action| action.run == Some(run))
                }),
            };
        if let Ended::Run(run) = ended
            && self.outputs_are_needed(run)
        {
            return;
        }
        if let Some(key) = key {
            if self.is_kept(key) {
                return;
            }
            let floor = self.floor(key.job).map_or(key.nominal, |f| f.max(key.nominal));
            self.remove_action(key);
            if mutants::on(Mutant::CursorGoesBack) {
                for (source, _) in self.cursors_of(key.job) {
                    self.cursors.put((key.job, source), key.nominal.minus(Span(1)));
                }
            } else if self.jobs.contains(&key.job) {
                self.floors.put(key.job, floor);
            }
        }
        if let Ended::Run(run) = ended {
            self.remove_run(run);
        }
    }

    /// True for what retention must not touch: a job's newest action and newest
    /// success, what a live action refers to, and what a cursor has not passed,
    /// because the floor would swallow instants that are still to be planned.
    fn is_kept(&self, key: ActionKey) -> bool {
        let newest = self.actions.range(all_of(key.job)).next_back().map(|(k, _)| *k);
        let success = self.index.successes.range(all_of(key.job)).next_back().copied();
        newest == Some(key)
            || success == Some(key)
            || self.index.upstream.range((key, LOWEST)..=(key, HIGHEST)).next().is_some()
            || key.nominal > self.meta.now
            || self.cursors_of(key.job).iter().any(|(source, cursor)| {
                // A trigger may be paused for ever.
                *cursor < key.nominal && !self.is_source_paused(key.job, source)
            })
    }
}
