//! Runs that a person asks for beside the plan. They change no action and tell no
//! dependant, whatever they stand for: who wants that recovers an action instead.

use super::super::command::Actor;
use super::super::outcome::{Event, Outcome, Reject};
use super::super::state::State;
use super::job::check_params;
use super::{invalid, room_for, within};
use crate::ids::{ActionKey, JobId, Revision};
use crate::model::history::Cause;
use crate::model::job::{Job, JobSpec};
use crate::model::run::{Run, RunKind, RunOrder};

impl State {
    pub(super) fn run_job(
        &mut self,
        id: JobId,
        order: &RunOrder,
        actor: &Actor,
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        let job = self.jobs.get(&id).ok_or(Reject::NoSuchJob(id))?;
        check_params("params", &order.params)?;
        if let Some(priority) = order.priority {
            within("priority", u64::from(priority), 0, u64::from(JobSpec::MAX_PRIORITY), "")?;
        }
        let action = order.action.map(|nominal| ActionKey { job: id, nominal });
        if let Some(key) = action {
            if order.nominal.is_some_and(|nominal| nominal != key.nominal) {
                return Err(invalid(
                    "nominal",
                    "an action is given, and has another; leave it out",
                ));
            }
            let named = self.actions.get(&key).map(|action| action.revision);
            named.ok_or(Reject::NoSuchAction(key))?;
        }
        let spec = self.kept_spec(job, order.revision)?;
        let priority = order.priority.unwrap_or(spec.priority);
        self.room_for_run()?;
        let now = self.meta.now;
        let nominal = order.action.or(order.nominal).unwrap_or(now);
        let kind = if order.debug { RunKind::Debug } else { RunKind::Manual };
        let mut run = Run::new(self.meta.last_run.next(), kind, job, nominal, now);
        run.revision = order.revision.unwrap_or(run.revision);
        (run.action, run.priority, run.params) = (action, priority, order.params.clone());
        if !matches!(actor, Actor::Leader(_)) {
            // Whose doing a run is that nobody asked for is known.
            run.notes.add(self.note(actor, Cause::Asked));
        }
        self.meta.last_run = run.id;
        let outcome = Outcome::Run { run: run.id };
        ev.push(Event::Ready(run.id));
        self.put_run(run);
        Ok(outcome)
    }

    /// The definition that a run is to be pinned to: the job's own if none is named. Of an
    /// earlier one the pools may be gone.
    pub(super) fn kept_spec<'a>(
        &'a self,
        job: &'a Job,
        revision: Option<Revision>,
    ) -> Result<&'a JobSpec, Reject> {
        let Some(asked) = revision else { return Ok(&job.spec) };
        let spec = self.spec(job.id, asked).ok_or_else(|| {
            let first = self.specs.range((job.id, Revision(0))..=(job.id, job.revision)).next();
            let first = first.map_or(job.revision, |((_, revision), _)| *revision);
            let problem = format!("{asked} is not kept; use {first} to {}", job.revision);
            invalid("revision", problem)
        })?;
        self.check_pools(spec)?;
        Ok(spec)
    }

    /// Refuses one more live run than the cluster may hold.
    pub(super) fn room_for_run(&self) -> Result<(), Reject> {
        room_for("live runs", self.index.live_runs + 1, self.limits.live_runs)
    }
}
