//! What must be so in the end: nothing hangs, nothing acknowledged is lost, every
//! instant has fired.

use horai_core::ids::ActionKey;
use horai_core::machine::state::State;
use horai_core::model::job::Executor;
use horai_core::model::run::{Run, RunResult, RunState};
use horai_core::time::UtcMillis;

use super::load::Load;
use super::{Cluster, Doom};

/// What was planned so long before the end must be over: lease, margin, retries; in
/// milliseconds.
const DUE: i64 = 15_000;

impl Cluster {
    /// What still keeps the cluster from being settled.
    pub(super) fn is_settled(&self) -> Result<(), String> {
        if !self.load.is_quiet() || !self.moves.is_empty() {
            return Err("asks are not answered".to_owned());
        }
        let mut seen = None;
        for (place, process) in self.places.iter().zip(&self.processes) {
            if process.is_gone || process.is_leaving {
                continue;
            }
            if let Some(Doom::Lost(number)) = process.doom {
                return Err(format!("{} runs as {number} without its store", place.name));
            }
            let node = place.live().and_then(|live| live.node.upgrade());
            let node = node.ok_or_else(|| format!("{} does not run", place.name))?;
            let status = node.status();
            let votes = status.members.get(&status.node).is_some_and(|(_, votes)| *votes);
            let leader = status.leadership.leader;
            if !votes || leader.is_none() {
                return Err(format!("{}: votes {votes}, leader {leader:?}", place.name));
            }
            let first = seen.get_or_insert((leader, status.applied));
            if first.0 != leader || first.1.abs_diff(status.applied) > 20 {
                return Err(format!("{}: {leader:?}, {first:?} elsewhere", place.name));
            }
            node.read(|state| self.nothing_stuck(state))
                .map_err(|stuck| format!("{}: {stuck}", place.name))?;
        }
        seen.map(|_| ()).ok_or_else(|| "nobody is there".to_owned())
    }

    fn nothing_stuck(&self, state: &State) -> Result<(), String> {
        let due = state.now().0 - DUE;
        // A run of a paused job waits for a true reason.
        let is_held = |job| state.job(job).is_some_and(|job| job.paused);
        let stuck = state.runs_after(None).find(|run| {
            !matches!(run.state, RunState::Finished { .. })
                && run.created.0 < due
                && !is_held(run.job)
        });
        match stuck {
            Some(run) => Err(format!("run {run:?} is stuck at {}", state.now())),
            None => Ok(()),
        }
    }

    /// The verdict, on every node's state.
    pub(super) fn judge(&self) -> Result<(), String> {
        for (place, process) in self.places.iter().zip(&self.processes) {
            let Some(node) = place.live().and_then(|live| live.node.upgrade()) else { continue };
            if process.is_leaving {
                continue;
            }
            node.read(|state| {
                self.load.judge(&place.name, state)?;
                self.fires(&place.name, state)
            })?;
        }
        Ok(())
    }

    /// Every instant of a steady job has one action, and that is over. What is said to
    /// have succeeded was seen to start, by the jobs themselves.
    fn fires(&self, name: &str, state: &State) -> Result<(), String> {
        let until = UtcMillis(state.now().0 - DUE);
        let started = self.witness.runs();
        for steady in self.load.steady.values() {
            let job = state.job(steady.job).ok_or_else(|| format!("{name}: {steady:?} is gone"))?;
            for nominal in Load::instants(*steady, job.created, until) {
                let action = state.action(ActionKey { job: steady.job, nominal });
                match action {
                    None => return Err(format!("{name}: {steady:?} has no fire at {nominal}")),
                    Some(action) if !action.state.is_final() => {
                        return Err(format!("{name}: {steady:?} at {nominal}: {action:?}"));
                    }
                    Some(_) => {}
                }
            }
            let runs = state.runs_of_job(steady.job, None);
            let good = |run: &&Run| {
                matches!(run.state, RunState::Finished { result: RunResult::Success, .. })
            };
            // Definitions before, whose answers were lost, may have run nothing.
            let is_seen = matches!(job.spec.executor, Executor::Exec { .. });
            let runs = runs.filter(|run| is_seen && run.revision == job.revision);
            if let Some(ghost) = runs.filter(good).find(|run| !started.contains(&run.id)) {
                return Err(format!("{name}: {ghost:?} succeeded, and nothing was started"));
            }
        }
        Ok(())
    }
}
