//! Writes that keep the index in step with the records.
//!
//! Everything in [`super`] that changes an indexed record does it here, and
//! nothing here decides anything.

use super::super::index::{Timer, count};
use super::super::places::RunPlace;
use super::super::state::{State, Watch};
use crate::ids::{ActionKey, JobId, Name, Revision, RunId, WorkerId};
use crate::model::action::{Action, Missed, Upstream};
use crate::model::job::{Job, JobSpec};
use crate::model::lock::Lock;
use crate::model::output::{JobState, RunOutputs};
use crate::model::part::Parts;
use crate::model::run::Run;
use crate::model::worker::Worker;
use crate::time::UtcMillis;

impl State {
    pub(super) fn put_job(&mut self, job: Job) {
        let (id, before) = (job.id, self.max_wait_of(job.id));
        self.index.job_changed(self.jobs.get(&id), Some(&job));
        self.jobs.put(id, job);
        let after = self.max_wait_of(id);
        if before == after {
            return;
        }
        for key in self.live_actions_of(id).collect::<Vec<_>>() {
            if let Some(action) = self.actions.get(&key) {
                self.index.wait_changed(key, action, before, after);
            }
        }
    }

    pub(super) fn put_action(&mut self, key: ActionKey, action: Action) {
        let old = self.actions.get(&key);
        self.index.action_changed(key, old, Some(&action), self.max_wait_of(key.job));
        self.actions.put(key, action);
    }

    /// Changes an action that exists.
    pub(super) fn edit_action(&mut self, key: ActionKey, edit: impl FnOnce(&mut Action)) {
        if let Some(old) = self.actions.get(&key) {
            let mut action = old.clone();
            edit(&mut action);
            self.put_action(key, action);
        }
    }

    pub(super) fn remove_action(&mut self, key: ActionKey) {
        if let Some(old) = self.actions.remove(&key) {
            self.index.action_changed(key, Some(&old), None, self.max_wait_of(key.job));
        }
    }

    pub(super) fn put_run(&mut self, run: Run) {
        let place = self.place_of(&run);
        let old = self.runs.get(&run.id);
        let old_place = old.map_or_else(RunPlace::default, |old| self.place_of(old));
        self.index.run_changed((old, old_place), (Some(&run), place));
        let (is_over, pin) = (!run.is_live(), (run.job, run.revision));
        self.runs.put(run.id, run);
        self.pins_changed(pin);
        if is_over {
            self.drop_spec(pin);
        }
    }

    /// Keeps a definition beside the job's own: somebody is pinned to it, or may be.
    pub(super) fn keep_spec(&mut self, pin: (JobId, Revision), spec: JobSpec) {
        if let Some(old) = self.specs.get(&pin) {
            self.index.files.spec_changed(old, false);
        }
        self.index.files.spec_changed(&spec, true);
        self.specs.put(pin, spec);
        self.pins_changed(pin);
    }

    /// Who is pinned to a definition has changed: it counts as a user of its pools while
    /// somebody is.
    pub(super) fn pins_changed(&mut self, pin: (JobId, Revision)) {
        if let Some(spec) = self.specs.get(&pin) {
            self.index.spec_pinned(pin, spec);
        }
    }

    /// Drops an earlier definition that no run needs and nobody may ask for any more.
    pub(super) fn drop_spec(&mut self, pin: (JobId, Revision)) {
        if self.is_spec_kept(pin) {
            return;
        }
        if let Some(spec) = self.specs.remove(&pin) {
            self.index.spec_pinned(pin, &spec);
            self.index.files.spec_changed(&spec, false);
        }
    }

    /// True if a live run is pinned to the definition, or it is one of the last few.
    pub(in crate::machine) fn is_spec_kept(&self, (job, revision): (JobId, Revision)) -> bool {
        let newest = self.jobs.get(&job).map(|job| job.revision.0);
        self.index.pins.contains_key(&(job, revision))
            || newest.is_some_and(|newest| revision.0.saturating_add(Job::KEPT_REVISIONS) >= newest)
    }

    pub(super) fn put_worker(&mut self, worker: Worker) {
        self.index.worker_changed(self.workers.get(&worker.id), Some(&worker));
        self.workers.put(worker.id, worker);
    }

    /// Only for workers on which nothing runs.
    pub(super) fn remove_worker_record(&mut self, id: WorkerId) {
        self.put_watch(id, Watch::default());
        self.watches.remove(&id);
        if let Some(old) = self.workers.remove(&id) {
            self.index.worker_changed(Some(&old), None);
        }
    }

    /// Only for finished runs; their parts go with them.
    pub(super) fn remove_run(&mut self, id: RunId) {
        self.put_outputs(id, None);
        let parts = self.runs.get(&id).and_then(|run| run.parts);
        for part in parts.into_iter().flat_map(Parts::ids) {
            self.remove_run(part);
        }
        if let Some(old) = self.runs.remove(&id) {
            let place = self.place_of(&old);
            self.index.run_changed((Some(&old), place), (None, RunPlace::default()));
        }
    }

    /// Writes what a run put out, or removes it.
    pub(super) fn put_outputs(&mut self, id: RunId, outputs: Option<RunOutputs>) {
        let of = self.runs.get(&id).and_then(Run::decides);
        self.index.outputs_changed((id, of), self.outputs.get(&id), outputs.as_ref());
        match outputs {
            Some(outputs) => self.outputs.put(id, outputs),
            None => drop(self.outputs.remove(&id)),
        }
    }

    /// Writes what a job keeps, or removes it.
    pub(super) fn put_job_state(&mut self, id: JobId, state: Option<JobState>) {
        self.index.kept.state_changed(self.job_states.get(&id), state.as_ref());
        match state {
            Some(state) => self.job_states.put(id, state),
            None => drop(self.job_states.remove(&id)),
        }
    }

    /// Live runs of a job, oldest first.
    pub(super) fn live_runs_of(&self, job: JobId) -> Vec<RunId> {
        let range = (job, RunId(0))..=(job, RunId(u64::MAX));
        let ids = self.index.job_runs.range(range).map(|(_, id)| *id);
        ids.filter(|id| self.runs.get(id).is_some_and(Run::is_live)).collect()
    }

    /// Writes a job whose pause or definition moves places in the queue.
    pub(super) fn put_job_and_queue(&mut self, job: Job) {
        let runs = self.live_runs_of(job.id);
        self.move_places(&runs, |state| state.put_job(job));
    }

    /// Makes a change that moves runs in queue and time, and moves them.
    pub(super) fn move_places(&mut self, runs: &[RunId], change: impl FnOnce(&mut Self)) {
        let place = |state: &Self, id: &RunId| {
            state.runs.get(id).map_or_else(RunPlace::default, |run| state.place_of(run))
        };
        let old: Vec<RunPlace> = runs.iter().map(|id| place(self, id)).collect();
        change(self);
        for (id, old_place) in runs.iter().zip(old) {
            let new_place = place(self, id);
            let run = self.runs.get(id);
            self.index.run_changed((run, old_place), (run, new_place));
        }
    }

    pub(super) fn put_watch(&mut self, worker: WorkerId, watch: Watch) {
        let timer = |w: Option<&Watch>| Some((w?.check?, Timer::Worker(worker)));
        self.index.set_timer(timer(self.watches.get(&worker)), timer(Some(&watch)));
        self.watches.put(worker, watch);
    }

    /// Writes a lock, or removes it once nobody holds or waits.
    pub(super) fn put_lock(&mut self, name: &Name, lock: Lock) {
        let old = self.locks.get(name);
        if lock.holders.is_empty() && lock.waiters.is_empty() {
            self.index.lock_changed(old, None);
            self.locks.remove(name);
        } else {
            self.index.lock_changed(old, Some(&lock));
            self.locks.put(name.clone(), lock);
        }
    }

    /// Another entry, or none, in the place of an upstream action that a live one waits for.
    pub(super) fn replace_upstream(
        &mut self,
        down: ActionKey,
        up: ActionKey,
        new: Option<Upstream>,
    ) {
        self.index.awaits_no_longer(up, down);
        self.edit_action(down, |action| {
            let place = action.upstream.iter().position(|u| u.awaited() == Some(up));
            if let Some(place) = place {
                action.upstream.splice(place..=place, new);
            }
        });
    }

    /// Records a missed range; the oldest of the job gives way.
    pub(super) fn put_missed(&mut self, missed: Missed) {
        let job = missed.job;
        self.meta.last_missed += 1;
        self.missed.put((job, self.meta.last_missed), missed);
        let held = count(&mut self.index.missed_count, &job, true);
        if held as usize > self.limits.missed_per_job {
            let oldest = self.missed.range((job, 0)..=(job, u64::MAX)).next().map(|(key, _)| *key);
            if let Some(key) = oldest {
                self.missed.remove(&key);
                count(&mut self.index.missed_count, &job, false);
            }
        }
    }

    /// Records what the planner left out behind a cursor. A long outage is worked off in
    /// several batches: what each of them leaves out is one range with what the one
    /// before did.
    pub(super) fn put_or_extend_missed(&mut self, cursor: UtcMillis, missed: &Missed) {
        let held = self.missed.range((missed.job, 0)..=(missed.job, u64::MAX)).rev();
        let before =
            held.take(JobSpec::MAX_TRIGGERS).find(|(_, before)| before.trigger == missed.trigger);
        let goes_on = |before: &Missed| before.to == cursor && before.reason == missed.reason;
        match before.filter(|(_, before)| goes_on(before)) {
            Some((&key, &Missed { from, count, .. })) => {
                let count = count.saturating_add(missed.count);
                self.missed.put(key, Missed { from, count, ..missed.clone() });
            }
            None => self.put_missed(missed.clone()),
        }
    }

    /// Drops the missed ranges of a job: bounded by job, they must go with it.
    pub(super) fn drop_missed(&mut self, job: JobId) {
        let held = self.missed.range((job, 0)..=(job, u64::MAX)).map(|(key, _)| *key);
        for key in held.collect::<Vec<_>>() {
            self.missed.remove(&key);
        }
        self.index.missed_count.remove(&job);
    }
}
