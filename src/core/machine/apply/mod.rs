//! One command at a time, from state to state.
//!
//! The order is fixed: a request that was answered before is answered the same
//! again; then replicated time moves and, if the leader says so, what is due is
//! released; then the command itself. Nothing here can fail: what cannot be done
//! is a rejection and leaves everything but time as it was.

mod access;
mod area;
mod backfill;
mod calendar;
mod delete;
mod duty;
mod file;
mod group;
mod handle;
mod job;
mod limits;
mod lock;
mod manual;
mod note;
mod output;
mod overlap;
mod pause;
mod plan;
mod pool;
mod put;
mod rerun;
mod run;
mod secret;
mod spread;
mod tick;
mod upstream;
mod worker;
mod worker_group;

use super::command::{Actor, Command, Entry, Envelope, Request};
use super::outcome::{Applied, Event, Outcome, Reject};
use super::state::{Remembered, State};
use crate::model::confinement::Usage;
use crate::model::output::Values;
use crate::model::pause::AfterPause;
use crate::model::run::RunOrder;
use crate::mutants::{self, Mutant};

impl State {
    /// Applies one command.
    pub fn apply(&mut self, entry: Entry<'_>) -> Applied {
        let mut events = Vec::new();
        self.meta.applied_index = self.meta.applied_index.max(entry.index);
        let request = entry.command.request.as_ref();
        if let Some(outcome) = request.and_then(|r| self.recall(r)) {
            return Applied { outcome, events };
        }
        self.meta.now = self.meta.now.max(entry.now);
        if self.is_by_leader(entry.command) {
            self.release_due(&mut events);
        }
        let outcome =
            self.permit(entry.command).and_then(|()| self.execute(entry.command, &mut events));
        let outcome = outcome.unwrap_or_else(Outcome::Rejected);
        if let Some(request) = request {
            self.remember(request, &outcome);
        }
        Applied { outcome, events }
    }

    /// Only the newest leader's own commands release what is due. Its term begins
    /// by letting all leases run anew; what anybody else writes before that, at a
    /// time that may have been set anew since, must let nothing expire.
    fn is_by_leader(&self, envelope: &Envelope) -> bool {
        matches!(envelope.actor, Actor::Leader(leader) if leader == self.meta.leader)
    }

    /// A leader that was followed by another decides nothing any more, whichever
    /// way its command came here.
    fn permit(&self, envelope: &Envelope) -> Result<(), Reject> {
        match (&envelope.actor, &envelope.command) {
            (_, Command::LeaderStarted(_)) => Ok(()),
            (Actor::Leader(leader), _)
                if *leader != self.meta.leader && !mutants::on(Mutant::StaleLeaderObeyed) =>
            {
                Err(Reject::StaleLeader(*leader))
            }
            (Actor::Leader(_) | Actor::Worker(_) | Actor::User(_), _) => Ok(()),
        }
    }

    fn execute(&mut self, envelope: &Envelope, ev: &mut Vec<Event>) -> Result<Outcome, Reject> {
        match &envelope.command {
            Command::Tick => Ok(Outcome::Done),
            Command::InitCluster(settings) => self.init_cluster(settings),
            Command::LeaderStarted(leader) => self.leader_started(*leader),
            Command::ApplyJob { spec, expected } => self.apply_job(spec, *expected, ev),
            Command::DeleteJob { job, expected } => self
                .remove_job(*job, *expected, (false, false), &envelope.actor, ev)
                .map(|_| Outcome::Done),
            Command::RemoveJob { job, expected, force, cancel } => {
                self.remove_job(*job, *expected, (*force, *cancel), &envelope.actor, ev)
            }
            Command::PauseJob { job } => self.pause_job(*job, ev),
            Command::ResumeJob { job } => self.resume_job(*job, AfterPause::Skip, ev),
            Command::PlanActions(batches) => self.plan_actions(batches, ev),
            Command::TriggerJob { job } => {
                self.run_job(*job, &RunOrder::default(), &envelope.actor, ev)
            }
            Command::RunJob { job, order } => self.run_job(*job, order, &envelope.actor, ev),
            Command::StartBackfill(order) => self.start_backfill(order, &envelope.actor, ev),
            Command::SteerBackfill { backfill, to } => self.steer_backfill(*backfill, *to, ev),
            Command::OpenBackfill { backfill, open } => self.open_backfill(*backfill, *open, ev),
            Command::Rerun { action, below } => self.rerun(*action, *below, &envelope.actor, ev),
            Command::SettleAction { action, success } => {
                self.settle_by_hand(*action, *success, &envelope.actor, ev)
            }
            Command::CancelRun { run } => self.cancel_run(*run, &envelope.actor, ev),
            Command::Dispatch { run, number, worker, incarnation } => {
                self.dispatch(*run, *number, *worker, *incarnation, ev)
            }
            Command::Complete { attempt, token, report } => {
                self.complete(*attempt, *token, report, &Values::new(), Usage::default(), ev)
            }
            Command::CompleteWith { attempt, token, report, outputs } => {
                self.complete(*attempt, *token, report, outputs, Usage::default(), ev)
            }
            Command::CompleteUsing { attempt, token, report, outputs, usage } => {
                self.complete(*attempt, *token, report, outputs, *usage, ev)
            }
            Command::NoteHandles { attempt, token, handles } => {
                self.note_handles(*attempt, *token, handles, ev)
            }
            Command::EditState { job, clear, set, unset } => {
                self.edit_state(*job, *clear, set, unset, ev)
            }
            Command::AttachWorker(profile) => self.attach_worker(profile, ev),
            Command::WorkersAlive(alive) => Ok(self.workers_alive(alive, ev)),
            Command::AcquireLock { name, owner, ttl, slots, wait } => {
                self.acquire_lock(name, owner, *ttl, *slots, *wait, ev)
            }
            Command::RenewLock { name, token } => self.renew_lock(name, *token),
            Command::ReleaseLock { name, token } => self.release_lock(name, *token, ev),
            Command::LeaveLock { name, owner } => self.leave_lock(name, owner, ev),
            Command::PutToken { name, token } => self.put_token(name, token),
            Command::DropToken { name } => self.drop_token(name),
            Command::AdmitNode { token_hash, store, replaces } => {
                self.admit_node(token_hash, *store, *replaces)
            }
            Command::RetireNode { node } => self.retire_node(*node),
            Command::PutCalendar { def, expected } => self.put_calendar(def, *expected, ev),
            Command::DeleteCalendar { name, expected } => self.delete_calendar(name, *expected),
            Command::PlanUnder { seen, batches } => self.plan_under(*seen, batches, ev),
            Command::Pause { target } => self.pause(target, &envelope.actor, ev),
            Command::Resume { target, missed } => self.resume(target, *missed, ev),
            Command::PutPool { def, expected } => self.put_pool(def, *expected, ev),
            Command::DeletePool { name, expected } => self.delete_pool(name, *expected),
            Command::PutSecret { name, sealed, description, expected } => {
                self.put_secret(name, sealed, description.as_deref(), *expected)
            }
            Command::ResealSecret { name, sealed, expected } => {
                self.reseal_secret(name, sealed, *expected)
            }
            Command::DeleteSecret { name, expected } => self.delete_secret(name, *expected),
            Command::CloseSecrets { node, closed } => Ok(self.close_secrets(*node, closed)),
            Command::SetArea { area } => self.set_area(area.as_ref()),
            Command::PutGroup { def, expected } => self.put_group(def, *expected),
            Command::DeleteGroup { path, expected } => self.delete_group(path, *expected),
            Command::SetDuty { worker, duty } => self.set_duty(*worker, *duty, ev),
            Command::RemoveWorker { worker, force } => self.remove_worker(*worker, *force, ev),
            Command::NoteFiles { files } => self.note_files(files),
            Command::PutWorkerGroup { def, expected } => self.put_worker_group(def, *expected, ev),
            Command::DeleteWorkerGroup { name, expected } => {
                self.delete_worker_group(name, *expected, ev)
            }
            Command::Spread { run } => self.spread(*run, ev),
        }
    }

    /// The answer to a request that needs no execution.
    fn recall(&self, request: &Request) -> Option<Outcome> {
        let length = request.id.len();
        if length == 0 || length > Request::MAX_LEN {
            let problem = format!("{length} bytes; use 1 to {}", Request::MAX_LEN);
            return Some(Outcome::Rejected(invalid("request id", problem)));
        }
        if mutants::on(Mutant::RequestsForgotten) {
            return None;
        }
        let known = self.index.request_ids.get(&request.id);
        if let Some(old) = known.and_then(|seq| self.requests.get(seq)) {
            return Some(if old.body_hash == request.body_hash {
                old.outcome.clone()
            } else {
                Outcome::Rejected(Reject::RequestReused(request.id.clone()))
            });
        }
        let floor = self.meta.request_floor.max(self.meta.now.minus(self.limits.request_age));
        let too_old = request.issued.is_some_and(|issued| issued < floor);
        too_old.then(|| Outcome::Rejected(Reject::RequestExpired(request.id.clone())))
    }

    fn remember(&mut self, request: &Request, outcome: &Outcome) {
        self.meta.last_request += 1;
        let seq = self.meta.last_request;
        self.index.request_ids.insert(request.id.clone(), seq);
        let remembered = Remembered {
            id: request.id.clone(),
            body_hash: request.body_hash,
            at: self.meta.now,
            outcome: outcome.clone(),
        };
        self.requests.put(seq, remembered);
        self.forget_requests();
    }
}

/// A value that the machine cannot hold.
fn invalid(field: &str, problem: impl Into<String>) -> Reject {
    Reject::Invalid { field: field.to_owned(), problem: problem.into() }
}

/// Refuses what is longer than allowed.
fn at_most(what: &str, actual: usize, limit: usize) -> Result<(), Reject> {
    if actual <= limit {
        return Ok(());
    }
    Err(Reject::TooLarge { what: what.to_owned(), actual: actual as u64, limit: limit as u64 })
}

/// Refuses what the cluster has no room for: `count` is how many there would be.
fn room_for(what: &str, count: usize, limit: usize) -> Result<(), Reject> {
    if count <= limit {
        return Ok(());
    }
    Err(Reject::Full { what: what.to_owned(), limit: limit as u64 })
}

/// Refuses a number outside its bounds.
fn within(field: &str, actual: u64, least: u64, most: u64, unit: &str) -> Result<(), Reject> {
    if (least..=most).contains(&actual) {
        return Ok(());
    }
    Err(invalid(field, format!("{actual} {unit}; use {least} to {most}")))
}
