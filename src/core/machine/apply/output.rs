//! What runs put out: taken with their success, kept as the state of jobs that keep any,
//! and dropped when the cluster holds too much of it.
//!
//! A success whose outputs cannot be kept as its job asks is no success: its attempt
//! ends with `bad_output`, and what follows is for the job's retries to say. Outputs that
//! give way to newer ones are no error of anybody: the run says that they were dropped.

use super::super::outcome::{Event, Outcome, Reject};
use super::super::state::State;
use super::{at_most, invalid, room_for};
use crate::ids::{JobId, RunId};
use crate::model::job::JobSpec;
use crate::model::output::{self, JobState, MAX_BYTES, MAX_KEYS, RunOutputs, Values, bytes_of};
use crate::model::run::EndKind;

impl State {
    /// Takes what a successful attempt put out; says how it ended with that.
    pub(super) fn keep_outputs(&mut self, id: RunId, how: &EndKind, outputs: &Values) -> EndKind {
        if outputs.is_empty() {
            return how.clone();
        }
        if self.runs.get(&id).is_some_and(|run| run.part.is_some()) {
            return EndKind::bad_output("one of several shards of a run cannot put anything out");
        }
        let state = match self.state_with(id, outputs) {
            Ok(state) => state,
            Err(why) => return EndKind::bad_output(&why),
        };
        let values = outputs.clone();
        self.put_outputs(id, Some(RunOutputs { values, dropped: false }));
        if let Some((job, state)) = state {
            self.put_job_state(job, Some(state));
        }
        how.clone()
    }

    /// What the state of the run's job becomes with its outputs, if that keeps any; why
    /// they cannot be taken, if they cannot.
    fn state_with(&self, id: RunId, outputs: &Values) -> Result<Option<(JobId, JobState)>, String> {
        output::check(outputs)?;
        let Some(run) = self.runs.get(&id).filter(|run| run.kind.keeps_state()) else {
            return Ok(None);
        };
        let job = run.job;
        let keeps = self.spec(job, run.revision).is_some_and(|spec| spec.keep_state);
        if !keeps || !self.jobs.contains(&job) {
            return Ok(None);
        }
        let mut values = self.job_state(job).map(|state| state.values.clone()).unwrap_or_default();
        values.extend(outputs.clone());
        output::check(&values).map_err(|why| format!("the job's state would have {why}"))?;
        self.room_for_state(job, &values).map_err(|_| {
            let limit = self.limits.state_bytes;
            format!("the states of all jobs would have more than {limit} bytes")
        })?;
        Ok(Some((job, JobState { updated: self.meta.now, run: Some(id), values })))
    }

    /// What takes less than before always has room.
    fn room_for_state(&self, job: JobId, values: &Values) -> Result<(), Reject> {
        let old = self.job_state(job).map_or(0, |state| bytes_of(&state.values));
        let new = bytes_of(values);
        let others = self.index.kept.state_bytes().saturating_sub(old);
        if new <= old {
            return Ok(());
        }
        room_for("bytes of jobs' states", others + new, self.limits.state_bytes)
    }

    /// Drops outputs that nobody needs, the oldest first, until the cluster holds no more
    /// than it may. If all that is left is needed, it is those of `id` that nobody gets.
    pub(super) fn bound_outputs(&mut self, id: RunId) {
        while self.index.kept.bytes() > self.limits.output_bytes {
            let spare = self.index.kept.first_to_drop();
            let dropped = RunOutputs { values: Values::new(), dropped: true };
            self.put_outputs(spare.unwrap_or(id), Some(dropped));
            if spare.is_none() {
                return;
            }
        }
    }

    pub(super) fn edit_state(
        &mut self,
        id: JobId,
        clear: bool,
        set: &Values,
        unset: &[String],
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        let job = self.jobs.get(&id).ok_or(Reject::NoSuchJob(id))?;
        if !set.is_empty() && !job.spec.keep_state {
            let problem =
                format!("job {} keeps none; apply it with keep_state: true", job.spec.name);
            return Err(invalid("state", problem));
        }
        let old = self.job_state(id).map(|state| &state.values);
        let mut values = old.filter(|_| !clear).cloned().unwrap_or_default();
        values.retain(|key, _| !unset.contains(key));
        if let Some(key) = set.keys().find(|key| !JobSpec::is_param_name(key)) {
            let shown: String = key.chars().take(64).collect();
            let problem = "use letters, digits and _, at most 64, no digit first";
            return Err(invalid(&format!("state.{shown}"), problem));
        }
        values.extend(set.clone());
        if old.unwrap_or(&Values::new()) == &values {
            return Ok(Outcome::Done);
        }
        at_most("state", values.len(), MAX_KEYS)?;
        at_most("state", bytes_of(&values), MAX_BYTES)?;
        self.room_for_state(id, &values)?;
        let state = JobState { updated: self.meta.now, run: None, values };
        self.put_job_state(id, Some(state).filter(|state| !state.values.is_empty()));
        ev.push(Event::Job(id));
        Ok(Outcome::Done)
    }
}
