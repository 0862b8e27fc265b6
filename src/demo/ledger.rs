//! What should have happened, against what did.
//!
//! The expected side is computed here from the definitions, with the same
//! calendar as the planner's but without asking the cluster; the other side is
//! what the API reports and what the jobs themselves wrote down. So a fire that
//! the cluster forgot to plan is as visible as one that it ran twice. Pure: it
//! asks nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use horai_core::ids::{JobId, Name};
use horai_core::time::{Span, UtcMillis};
use horai_core::timing::schedule::Schedule;

use crate::api::dto::{ActionRef, RunDto, RunRef};
use crate::api::job_definition::JobDefinition;

/// An action that starts later than this after its due time is late.
pub(crate) const LATE_AFTER: Span = Span::secs(1);

/// The zone of jobs that name none.
const DEFAULT_ZONE: &str = "UTC";

/// A definition that gives no instants.
#[derive(Debug, thiserror::Error)]
#[error("the plan of job {job} cannot be computed")]
pub struct PlanError {
    /// Which.
    job: String,
    /// Why.
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Every action that must exist with `from < nominal ≤ to`: the instants of a
/// job's triggers, and of a job without any those that all its upstream jobs have.
pub(crate) fn expected(
    jobs: &[JobDefinition],
    from: UtcMillis,
    to: UtcMillis,
) -> Result<BTreeSet<ActionRef>, PlanError> {
    let mut instants: BTreeMap<&str, BTreeSet<UtcMillis>> = BTreeMap::new();
    // Upstream jobs first, whatever the order in the file; a circle never comes free.
    let mut left: Vec<&JobDefinition> = jobs.iter().collect();
    while !left.is_empty() {
        let before = left.len();
        let mut waiting = Vec::new();
        for job in left {
            let of_job = if job.triggers.is_empty() {
                let upstream: Option<Vec<_>> =
                    job.depends_on.iter().map(|up| instants.get(up.job.as_str())).collect();
                let Some(upstream) = upstream else {
                    waiting.push(job);
                    continue;
                };
                let all = upstream.into_iter().cloned();
                all.reduce(|a, b| a.intersection(&b).copied().collect()).unwrap_or_default()
            } else {
                of_triggers(job, from, to)?
            };
            instants.insert(&job.name, of_job);
        }
        if waiting.len() == before {
            let source = "its upstream jobs are missing or wait for it".into();
            return Err(PlanError { job: waiting[0].name.clone(), source });
        }
        left = waiting;
    }
    let actions = instants.into_iter().flat_map(|(job, instants)| {
        instants.into_iter().map(move |nominal| ActionRef { job: job.to_owned(), nominal })
    });
    Ok(actions.collect())
}

fn of_triggers(
    job: &JobDefinition,
    from: UtcMillis,
    to: UtcMillis,
) -> Result<BTreeSet<UtcMillis>, PlanError> {
    // Numbers of upstream jobs do not matter to instants.
    let spec = job
        .to_spec(|_: &Name| Some(JobId(1)))
        .map_err(|e| PlanError { job: job.name.clone(), source: e.into() })?;
    let mut instants = BTreeSet::new();
    for trigger in spec.triggers.iter().filter(|trigger| trigger.enabled) {
        let schedule = Schedule::of(trigger, spec.zone.as_deref(), DEFAULT_ZONE)
            .map_err(|e| PlanError { job: job.name.clone(), source: e.into() })?;
        instants.extend(schedule.after(from).take_while(|t| *t <= to));
    }
    Ok(instants)
}

/// What is known of one action that exists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// When it should have started: its nominal time; of a dependent job, when
    /// its upstream actions were done.
    pub(crate) due: UtcMillis,
    /// When its first attempt started.
    pub(crate) started: Option<UtcMillis>,
    /// Runs that execute it by plan: one, or something is wrong.
    pub(crate) runs: u32,
    /// Attempts that ended well: at most one, or something is wrong.
    pub(crate) successes: u32,
    /// The job itself failed for good: it was fired.
    pub(crate) failed: bool,
}

/// What is known of runs, by the action that they execute.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record(BTreeMap<(ActionRef, RunRef), Seen>);

impl Record {
    /// Keeps what the ledger needs of a run; the latest that is told of it holds.
    /// Runs without an action, such as manual ones, do not count.
    pub(crate) fn note(&mut self, run: &RunDto) {
        let Some(action) = &run.action else { return };
        let due = if run.kind == "dependency" { run.ready_at.0 } else { run.nominal.0 };
        let started = run.attempts.iter().filter_map(|a| a.started).min().map(|time| time.0);
        let ends = || run.attempts.iter().filter_map(|attempt| attempt.end.as_ref());
        let good = ends().filter(|end| end.how == "exited" && end.code == Some(0)).count();
        // Its own doing, not the loss of a worker: then it was fired, and failed.
        let by_itself = ends()
            .next_back()
            .is_some_and(|e| matches!(&*e.how, "exited" | "signaled" | "timed_out"));
        let seen = Seen {
            due,
            started,
            runs: 1,
            successes: u32::try_from(good).unwrap_or(u32::MAX),
            failed: run.state == "failed" && by_itself,
        };
        self.0.insert((action.clone(), run.id), seen);
    }

    /// Several runs of one action as one.
    pub(crate) fn by_action(&self) -> BTreeMap<ActionRef, Seen> {
        let mut all: BTreeMap<ActionRef, Seen> = BTreeMap::new();
        for ((action, _), run) in &self.0 {
            let seen = all
                .entry(action.clone())
                .or_insert_with(|| Seen { due: run.due, ..Seen::default() });
            seen.due = seen.due.min(run.due);
            seen.started = seen.started.into_iter().chain(run.started).min();
            seen.runs += run.runs;
            seen.successes += run.successes;
            seen.failed |= run.failed;
        }
        all
    }
}

/// What jobs wrote down: how many lines for which action, of the jobs that write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Witness {
    /// Jobs that write a line each time they succeed.
    pub(crate) jobs: BTreeSet<String>,
    /// Lines found.
    pub(crate) lines: BTreeMap<ActionRef, u32>,
    /// Lines that name no action.
    pub(crate) unreadable: u32,
}

impl Witness {
    /// Reads what `job` wrote: the first field of each line is the action.
    pub(crate) fn read(&mut self, job: &str, text: &str) {
        self.jobs.insert(job.to_owned());
        for line in text.lines() {
            match line.split(',').next().unwrap_or_default().parse::<ActionRef>() {
                Ok(action) if action.job == job => *self.lines.entry(action).or_default() += 1,
                _ => self.unreadable += 1,
            }
        }
    }
}

/// The balance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// Actions that should have been fired.
    pub(crate) expected: usize,
    /// Of these, those that were: with a success, or a failure of the job's own.
    pub(crate) fired: usize,
    /// Of these, those that started more than [`LATE_AFTER`] after they were due.
    pub(crate) late: usize,
    /// Expected, and not fired.
    pub(crate) lost: BTreeSet<ActionRef>,
    /// Fired more than once, expected or not.
    pub(crate) double: BTreeSet<ActionRef>,
    /// Fired in the span that was looked at, though no definition says so.
    pub(crate) unplanned: BTreeSet<ActionRef>,
    /// Fired, and failed for good.
    pub(crate) failed: usize,
}

impl Ledger {
    /// Draws the balance of `from < nominal ≤ to`.
    pub(crate) fn draw(
        expected: &BTreeSet<ActionRef>,
        seen: &BTreeMap<ActionRef, Seen>,
        witness: &Witness,
        (from, to): (UtcMillis, UtcMillis),
    ) -> Self {
        let mut ledger = Self { expected: expected.len(), ..Self::default() };
        for action in expected {
            let lines = witness.lines.get(action).copied().unwrap_or(0);
            let unseen = witness.jobs.contains(&action.job) && lines == 0;
            match seen.get(action) {
                // A success that left nothing behind is none.
                Some(found) if found.successes > 0 && !unseen => ledger.fire(found),
                Some(found) if found.successes == 0 && found.failed => {
                    ledger.failed += 1;
                    ledger.fire(found);
                }
                Some(_) | None => {
                    ledger.lost.insert(action.clone());
                }
            }
        }
        let twice = seen.iter().filter(|(_, found)| found.successes > 1 || found.runs > 1);
        ledger.double.extend(twice.map(|(action, _)| action.clone()));
        let lines = witness.lines.iter().filter(|(_, lines)| **lines > 1);
        ledger.double.extend(lines.map(|(action, _)| action.clone()));
        let inside = seen.keys().filter(|a| from < a.nominal && a.nominal <= to);
        ledger.unplanned.extend(inside.filter(|a| !expected.contains(*a)).cloned());
        ledger
    }

    fn fire(&mut self, found: &Seen) {
        self.fired += 1;
        let late = found.started.is_none_or(|started| started.since(found.due) > LATE_AFTER);
        self.late += usize::from(late);
    }

    /// True if nothing was lost, doubled, or fired for no reason.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.double.is_empty() && self.unplanned.is_empty()
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expected, fired, late, .. } = self;
        let (lost, double) = (self.lost.len(), self.double.len());
        write!(
            f,
            "ledger: expected={expected} fired={fired} late={late} lost={lost} double={double}"
        )
    }
}
