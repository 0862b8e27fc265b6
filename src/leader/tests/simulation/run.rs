//! One world from beginning to end: its script, the time in which all trouble
//! ends by itself, and the rest until nothing is left to do.

use std::panic::{AssertUnwindSafe, catch_unwind};

use horai_core::machine::command::Command;
use horai_core::model::pause::AfterPause;
use horai_core::model::run::RunState;

use super::replicas::Problem;
use super::script::{LONGEST, Setup, Step};
use super::world::World;

/// More than the longest outage of a script, in units of its scale.
const OUTAGES: i64 = LONGEST + 10;
/// After this, in the same units, nothing may be left to do: more than an action
/// may wait for an upstream one, and than a kept attempt may be away.
const REST: i64 = 4_000;
/// A world that takes more steps does not come to rest.
const STEPS: usize = 4_000_000;

/// What a world came to, if nothing was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) commands: u64,
    pub(super) actions: usize,
    pub(super) attempts: usize,
    pub(super) processes: usize,
    /// Sums up every command and what it did.
    pub(super) trace: u64,
}

/// Runs a world; says what was wrong first, and when.
pub(super) fn run(setup: &Setup, script: &[Step]) -> Result<Report, Problem> {
    let mut world = World::new(setup.clone(), script.to_vec());
    // A panic of the product's is a find like any other.
    let ended = catch_unwind(AssertUnwindSafe(|| world.live()));
    let ended = ended.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(format!("panic: {}", text.unwrap_or_default()))
    });
    let at = world.now();
    ended.map_err(|problem| format!("after {at} ms: {problem}"))?;
    let (processes, actions, attempts) = world.oracle.counts();
    let (commands, trace) = (world.replicas.index, world.replicas.trace);
    Ok(Report { commands, actions, attempts, processes, trace })
}

impl World {
    fn live(&mut self) -> Result<(), Problem> {
        let unit = self.setup.scale.unit();
        let last = self.script.iter().map(|step| step.at).max().unwrap_or(0);
        let mut steps = 0;
        self.until(last + OUTAGES * unit, &mut steps)?;
        self.end_triggers();
        let rest = self.now() + REST * unit;
        while self.now() < rest {
            self.until(self.now() + 5 * unit, &mut steps)?;
            if self.unfinished().is_none() {
                return self.oracle.check_all(&self.replicas.truth);
            }
        }
        Err(format!("something is left to do: {}", self.unfinished().unwrap_or_default()))
    }

    fn until(&mut self, end: i64, steps: &mut usize) -> Result<(), Problem> {
        while self.agenda.next_at().is_some_and(|at| at <= end) {
            *steps += 1;
            if *steps > STEPS {
                return Err(format!("does not come to rest in {STEPS} steps"));
            }
            self.step()?;
        }
        self.agenda.now = self.agenda.now.max(end);
        Ok(())
    }

    /// No instants from now on; what is held goes on.
    fn end_triggers(&mut self) {
        let pauses = self.replicas.truth.pauses().map(|(target, _)| target.clone());
        for target in pauses.collect::<Vec<_>>() {
            self.user(Command::Resume { target, missed: AfterPause::Skip });
        }
        let jobs: Vec<_> = self.replicas.truth.jobs_after(None).cloned().collect();
        for job in jobs {
            self.user(Command::ResumeJob { job: job.id });
            let mut spec = job.spec;
            for trigger in &mut spec.triggers {
                trigger.enabled = false;
            }
            self.user(Command::ApplyJob { spec: Box::new(spec), expected: None });
        }
    }

    /// What is still to be done, if anything.
    fn unfinished(&self) -> Option<String> {
        let state = &self.replicas.truth;
        let is_live = |state: RunState| !matches!(state, RunState::Finished { .. });
        let run = state.runs_after(None).find(|run| is_live(run.state));
        if let Some(run) = run {
            let worker = run.live_attempt().map(|attempt| attempt.worker);
            let workers: Vec<String> = self.workers.iter().map(|w| w.describe()).collect();
            return Some(format!("run {run:?} on {worker:?}; {}", workers.join("; ")));
        }
        let mut jobs = state.jobs_after(None);
        if let Some(key) = jobs.find_map(|job| state.live_actions_of(job.id).next()) {
            return Some(format!("action {key}: {:?}", state.action(key)));
        }
        if let Some(worker) = self.workers.iter().find(|worker| !worker.is_idle()) {
            return Some(worker.describe());
        }
        if let Some(lock) = state.locks_after(None).next() {
            return Some(format!("{lock:?}"));
        }
        let client = self.clients.iter().find(|client| !client.is_over());
        client.map(|client| format!("{client:?}"))
    }
}
