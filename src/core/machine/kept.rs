//! What runs put out and jobs keep: reading it, and the part of the index that says
//! which of it may be dropped.
//!
//! Outputs are needed while somebody may still read them: those of the newest run of an
//! action that a live action waits, or waited, for, and those of a job's newest success,
//! which an action that is planned tomorrow may follow. All others are spare, and the
//! oldest of those go first when the cluster holds too much.

use std::collections::BTreeMap;

use imbl::OrdSet;

use super::index::Index;
use super::state::{HIGHEST, LOWEST, State, all_of};
use crate::ids::{ActionKey, JobId, RunId};
use crate::model::job::Job;
use crate::model::output::{JobState, RunOutputs, Values, bytes_of};

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct KeptIndex {
    /// Counted for the outputs of all runs, in bytes.
    bytes: usize,
    /// Keys and values of the states of all jobs, in bytes.
    state_bytes: usize,
    /// Runs that hold outputs and set the state of an action.
    of_action: OrdSet<(ActionKey, RunId)>,
    /// Runs that hold outputs which nobody needs, the oldest first.
    spare: OrdSet<RunId>,
    /// All jobs: the success of one that is gone is followed by nothing.
    jobs: OrdSet<JobId>,
}

impl KeptIndex {
    /// Counted for the outputs of all runs, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keys and values of the states of all jobs, in bytes.
    pub(super) fn state_bytes(&self) -> usize {
        self.state_bytes
    }

    /// The run whose outputs go first.
    pub(super) fn first_to_drop(&self) -> Option<RunId> {
        self.spare.get_min().copied()
    }

    /// The newest run of an action that holds outputs.
    fn newest_of(&self, key: ActionKey) -> Option<RunId> {
        let all = (key, RunId(0))..=(key, RunId(u64::MAX));
        self.of_action.range(all).next_back().map(|(_, run)| *run)
    }

    /// A job's state is written, or removed.
    pub(super) fn state_changed(&mut self, old: Option<&JobState>, new: Option<&JobState>) {
        let bytes = |state: Option<&JobState>| state.map_or(0, |state| bytes_of(&state.values));
        self.state_bytes = self.state_bytes.saturating_sub(bytes(old)) + bytes(new);
    }
}

impl Index {
    /// Outputs are written, dropped or removed; `of` is the action that their run decides.
    pub(super) fn outputs_changed(
        &mut self,
        (run, of): (RunId, Option<ActionKey>),
        old: Option<&RunOutputs>,
        new: Option<&RunOutputs>,
    ) {
        let held = |outputs: Option<&RunOutputs>| outputs.map_or(0, RunOutputs::held);
        let kept = &mut self.kept;
        kept.bytes = kept.bytes.saturating_sub(held(old)) + held(new);
        match (held(old) > 0, held(new) > 0) {
            (false, true) => {
                kept.spare.insert(run);
                if let Some(key) = of {
                    kept.spare.extend(kept.newest_of(key));
                    kept.of_action.insert((key, run));
                    self.need_changed(key);
                }
            }
            (true, false) => {
                kept.spare.remove(&run);
                if let Some(key) = of {
                    kept.of_action.remove(&(key, run));
                    self.need_changed(key);
                }
            }
            (true, true) | (false, false) => {}
        }
    }

    /// A live action waits for another one no longer.
    pub(super) fn awaits_no_longer(&mut self, up: ActionKey, down: ActionKey) {
        self.upstream.remove(&(up, down));
        self.need_changed(up);
    }

    /// An action has become a success, or is none any more.
    pub(super) fn success_changed(&mut self, key: ActionKey, is_success: bool) {
        // Most clusters' runs put nothing out.
        let newest = |index: &Self| {
            if index.kept.of_action.is_empty() { None } else { index.newest_success(key.job) }
        };
        let before = newest(self);
        if is_success {
            self.successes.insert(key);
        } else {
            self.successes.remove(&key);
        }
        let after = newest(self);
        if before != after {
            for key in [before, after].into_iter().flatten() {
                self.need_changed(key);
            }
        }
    }

    /// A job is there, or gone.
    pub(super) fn job_known(&mut self, old: Option<&Job>, new: Option<&Job>) {
        match (old, new) {
            (None, Some(job)) => drop(self.kept.jobs.insert(job.id)),
            (Some(job), None) => {
                self.kept.jobs.remove(&job.id);
                if let Some(key) = self.newest_success(job.id) {
                    self.need_changed(key);
                }
            }
            _ => {}
        }
    }

    /// Who may need the outputs of an action has changed.
    pub(super) fn need_changed(&mut self, key: ActionKey) {
        let Some(run) = self.kept.newest_of(key) else { return };
        if self.is_needed(key) {
            self.kept.spare.remove(&run);
        } else {
            self.kept.spare.insert(run);
        }
    }

    fn is_needed(&self, key: ActionKey) -> bool {
        let is_awaited = self.upstream.range((key, LOWEST)..=(key, HIGHEST)).next().is_some();
        is_awaited
            || (self.kept.jobs.contains(&key.job) && self.newest_success(key.job) == Some(key))
    }

    fn newest_success(&self, job: JobId) -> Option<ActionKey> {
        self.successes.range(all_of(job)).next_back().copied()
    }
}

impl State {
    /// What a run put out; none if that was nothing.
    #[must_use]
    pub fn outputs(&self, run: RunId) -> Option<&RunOutputs> {
        self.outputs.get(&run)
    }

    /// True if somebody may still read what a run put out.
    pub(super) fn outputs_are_needed(&self, run: RunId) -> bool {
        let held = self.outputs.get(&run).is_some_and(|outputs| outputs.held() > 0);
        held && !self.index.kept.spare.contains(&run)
    }

    /// By the upstream job, what the run put out by which an action's edge is satisfied; where
    /// that is forgotten, as after a success, what the upstream action's newest success put
    /// out, so that the action may run again. Of an edge to several actions it is that of the
    /// newest of them; a job whose run put out nothing is left out.
    #[must_use]
    pub fn outputs_above(&self, key: ActionKey) -> BTreeMap<JobId, &Values> {
        let Some(action) = self.actions.get(&key) else { return BTreeMap::new() };
        let mut newest: BTreeMap<JobId, (ActionKey, RunId)> = BTreeMap::new();
        for up in &action.upstream {
            let by = up.met.map(|(_, run)| run).or_else(|| self.newest_success_of(up.action));
            let Some(run) = by.filter(|run| self.has_succeeded(*run)) else { continue };
            if newest.get(&up.action.job).is_none_or(|(key, _)| *key < up.action) {
                newest.insert(up.action.job, (up.action, run));
            }
        }
        let found = newest.into_iter().filter_map(|(job, (_, run))| {
            let outputs = self.outputs.get(&run).filter(|outputs| !outputs.dropped)?;
            Some((job, &outputs.values))
        });
        found.collect()
    }

    /// The run that made an action a success, or, while it runs again, the newest one that
    /// put something out.
    fn newest_success_of(&self, key: ActionKey) -> Option<RunId> {
        let behind = self.actions.get(&key)?.run_behind();
        let behind = behind.filter(|run| self.has_succeeded(*run));
        behind.or_else(|| self.index.kept.newest_of(key))
    }

    fn has_succeeded(&self, run: RunId) -> bool {
        self.runs.get(&run).is_some_and(|run| run.has_succeeded())
    }

    /// What a job keeps for its next run; none if that is nothing.
    #[must_use]
    pub fn job_state(&self, job: JobId) -> Option<&JobState> {
        self.job_states.get(&job)
    }
}
