//! Deletion of jobs. The plan is withdrawn, what waits is skipped, live runs go on to
//! their ends unless they are cancelled with it, and history stays.
//!
//! A job that others depend on is deleted by force alone. Then each of them is edited
//! as if somebody took the edge out of its definition, and its actions wait for the
//! deleted job no longer, whatever that did. One that had its instants from there alone
//! stays, and nothing is planned for it. Edits are refused here where they would be
//! otherwise; and so many jobs a command, because none may take long.

use super::super::command::Actor;
use super::super::outcome::{Event, Outcome, Reject};
use super::super::state::State;
use super::invalid;
use super::job::check_revision;
use super::plan::sources_of;
use crate::ids::{ActionKey, JobId, Revision};
use crate::model::action::{ActionState, SkipReason, Upstream};
use crate::model::history::Cause;
use crate::model::job::JobSpec;
use crate::model::run::{RunResult, RunState};
use crate::time::UtcMillis;

impl State {
    /// The most jobs that lose an edge with one deletion.
    pub const MAX_FREED: usize = 1_000;

    pub(super) fn remove_job(
        &mut self,
        id: JobId,
        expected: Option<Revision>,
        (force, cancel): (bool, bool),
        actor: &Actor,
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        let job = self.jobs.get(&id).ok_or(Reject::NoSuchJob(id))?;
        check_revision(expected, job.revision)?;
        if !force {
            self.refuse_dependants(id)?;
        }
        let freed: Vec<JobId> = self.dependants_of(id).filter(|down| *down != id).collect();
        if freed.len() > Self::MAX_FREED {
            let problem = format!(
                "{} jobs depend on it directly, and {} lose that at once; apply some of them \
                 without it first",
                freed.len(),
                Self::MAX_FREED
            );
            return Err(invalid("force", problem));
        }
        let specs: Result<Vec<JobSpec>, Reject> =
            freed.iter().map(|down| self.without_edge(*down, id)).collect();
        // Nothing is refused from here on.
        for (down, spec) in freed.iter().zip(specs?) {
            self.free_from(*down, id, &spec, ev);
        }
        let cancelled = if cancel { self.cancel_running(id, actor, ev) } else { 0 };
        self.drop_job(id, actor, ev);
        Ok(Outcome::Removed { freed, cancelled })
    }

    fn refuse_dependants(&self, id: JobId) -> Result<(), Reject> {
        let dependants = self.names_of(self.dependants_of(id).filter(|down| *down != id));
        if dependants.is_empty() { Ok(()) } else { Err(Reject::HasDependants { dependants }) }
    }

    /// What is left of a definition without its edge to a job. Others that lose theirs
    /// with it can only make more of it possible.
    fn without_edge(&self, id: JobId, up: JobId) -> Result<JobSpec, Reject> {
        let job = self.jobs.get(&id).ok_or(Reject::NoSuchJob(id))?;
        let mut spec = job.spec.clone();
        spec.depends_on.retain(|edge| edge.job != up);
        let refused = |problem: &str| {
            let name = &job.spec.name;
            invalid("force", format!("job {name} cannot be without it: {problem}"))
        };
        if let Err(wrong) = spec.check_edges(Some(id)) {
            return Err(refused(&format!("{}; apply it otherwise first", wrong.problem)));
        }
        self.check_unforeseen(id, &spec).map_err(|reject| match reject {
            Reject::Invalid { problem, .. } => refused(&problem),
            other => other,
        })?;
        Ok(spec)
    }

    /// Takes an edge out of a definition, and what actions wait for through it.
    fn free_from(&mut self, id: JobId, up: JobId, spec: &JobSpec, ev: &mut Vec<Event>) {
        let Some(old) = self.jobs.shared(&id) else { return };
        self.edit_job(&old, spec, ev);
        for key in self.live_actions_of(id).collect::<Vec<_>>() {
            if self.wait_no_longer(key, up) {
                ev.push(Event::Action(key));
                self.reconsider(key, ev);
            }
        }
    }

    /// Takes out of an action what it waits for of a job; says whether there was any.
    fn wait_no_longer(&mut self, key: ActionKey, up: JobId) -> bool {
        let is_open = |upstream: &Upstream| upstream.action.job == up && !upstream.is_met();
        let Some(action) = self.actions.get(&key) else { return false };
        let open: Vec<Upstream> = action.upstream.iter().filter(|u| is_open(u)).copied().collect();
        for above in open.iter().filter_map(Upstream::awaited) {
            self.index.awaits_no_longer(above, key);
        }
        if !open.is_empty() {
            self.edit_action(key, |action| action.upstream.retain(|u| !is_open(u)));
        }
        !open.is_empty()
    }

    /// Asks for the end of the job's runs that are with a worker.
    fn cancel_running(&mut self, id: JobId, actor: &Actor, ev: &mut Vec<Event>) -> u32 {
        let mut cancelled = 0;
        for id in self.live_runs_of(id) {
            let Some(run) = self.runs.get(&id).filter(|run| run.part.is_none()) else { continue };
            if matches!(run.state, RunState::Running | RunState::Spread) {
                let mut run = run.clone();
                run.cancel_requested = true;
                run.notes.add(self.note(actor, Cause::CancelAsked));
                self.put_run(run);
                ev.push(Event::Run(id));
                cancelled += 1;
                if let Some((whole, result)) = self.cancel_parts(id, ev) {
                    self.finish_run(whole, result, ev);
                }
            }
        }
        cancelled
    }

    /// Removes a job on which no other depends.
    fn drop_job(&mut self, id: JobId, actor: &Actor, ev: &mut Vec<Event>) {
        let Some(job) = self.jobs.shared(&id) else { return };
        self.withdraw(id, None, ev);
        self.stop_backfills_of(id);
        // Actions before runs: the end of a run may be another action's turn.
        for key in self.live_actions_of(id).collect::<Vec<_>>() {
            if self.actions.get(&key).is_some_and(|a| a.run.is_none()) {
                let note = self.note(actor, Cause::JobDeleted);
                self.edit_action(key, |action| action.notes.add(note));
                self.settle(key, ActionState::Skipped(SkipReason::Deleted), ev);
            }
        }
        for run in self.live_runs_of(id) {
            let Some(found) = self.runs.get(&run) else { continue };
            if matches!(found.state, RunState::Queued | RunState::Backoff { .. }) {
                let mut found = found.clone();
                found.notes.add(self.note(actor, Cause::JobDeleted));
                self.finish_run(found, RunResult::Deleted, ev);
            }
        }
        if self.index.pins.contains_key(&(id, job.revision)) {
            self.keep_spec((id, job.revision), job.spec.clone());
        }
        for source in sources_of(&job.spec) {
            self.cursors.remove(&(id, source));
        }
        self.drop_missed(id);
        self.put_job_state(id, None);
        self.drop_pauses(id, |_, _| true);
        // Its number is never given again, so nothing can be planned for it.
        self.floors.remove(&id);
        self.index.job_changed(Some(&job), None);
        self.jobs.remove(&id);
        self.drop_old_specs(id);
        // Actions that were planned when an edge still led here.
        self.decided_on(id, UtcMillis(i64::MIN), ev);
        ev.push(Event::Job(id));
    }
}
