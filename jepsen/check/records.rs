//! What the cluster recorded, put together from everything that clients read. It is
//! compared with what the jobs wrote themselves, and is never the only evidence.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::store::Evidence;
use crate::time::millis;

/// An attempt as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttemptRecord {
    /// From 1.
    pub(crate) number: u32,
    /// Fencing token.
    pub(crate) token: u64,
    /// Where.
    pub(crate) worker: String,
    /// `first retry worker_lost`.
    pub(crate) cause: String,
    /// `exited signaled timed_out …`; empty while it may be alive.
    pub(crate) how: String,
    /// Exit code.
    pub(crate) code: Option<i64>,
    /// When it was given to a worker, milliseconds.
    pub(crate) given: Option<i64>,
    /// When it began, milliseconds, by the worker; else when it was given to one.
    pub(crate) started: Option<i64>,
    /// When its end was committed, milliseconds.
    pub(crate) over: Option<i64>,
}

impl AttemptRecord {
    /// True if it ended well.
    pub(crate) fn succeeded(&self) -> bool {
        self.how == "exited" && self.code == Some(0)
    }
}

/// A run as recorded when it had ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunRecord {
    /// `r-17`.
    pub(crate) id: String,
    /// Whose.
    pub(crate) job: String,
    /// `schedule dependency manual`.
    pub(crate) kind: String,
    /// `success failed cancelled deleted`.
    pub(crate) state: String,
    /// The instant it stands for, milliseconds.
    pub(crate) nominal: i64,
    /// False for a run by hand.
    pub(crate) has_action: bool,
    /// Retries used up.
    pub(crate) retries: u64,
    /// Workers lost.
    pub(crate) losses: u64,
    /// Its tries, oldest first.
    pub(crate) attempts: Vec<AttemptRecord>,
}

/// Instants that were recorded as not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MissedRecord {
    /// Of which trigger.
    pub(crate) trigger: String,
    /// First, milliseconds.
    pub(crate) from: i64,
    /// Last.
    pub(crate) to: i64,
    /// How many, where somebody counted them.
    pub(crate) count: Option<u64>,
    /// When that was decided, milliseconds.
    pub(crate) at: i64,
    /// `misfire` or `paused`.
    pub(crate) reason: String,
}

/// Everything recorded.
#[derive(Debug, Default)]
pub(crate) struct Records {
    /// Runs that have ended, by their id.
    pub(crate) runs: BTreeMap<String, RunRecord>,
    /// Runs whose record differed between two reads after they had ended.
    pub(crate) changed: Vec<String>,
    /// Ranges that were not run, by job.
    pub(crate) missed: BTreeMap<String, Vec<MissedRecord>>,
    /// Actions at the end, by job: nominal time and state.
    pub(crate) actions: BTreeMap<String, BTreeMap<i64, String>>,
}

fn instant(value: &Value) -> Option<i64> {
    value.as_str().and_then(millis)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn run(value: &Value) -> Option<RunRecord> {
    let attempt = |value: &Value| AttemptRecord {
        number: value["number"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
        token: value["token"].as_u64().unwrap_or(0),
        worker: text(&value["worker"]),
        cause: text(&value["cause"]),
        how: text(&value["end"]["how"]),
        code: value["end"]["code"].as_i64(),
        given: instant(&value["dispatched"]),
        over: instant(&value["end"]["at"]),
        started: instant(&value["started"]).or_else(|| instant(&value["dispatched"])),
    };
    Some(RunRecord {
        id: value["id"].as_str()?.to_owned(),
        job: text(&value["job"]),
        kind: text(&value["kind"]),
        state: text(&value["state"]),
        nominal: instant(&value["nominal"])?,
        has_action: !value["action"].is_null(),
        retries: value["retries"].as_u64().unwrap_or(0),
        losses: value["losses"].as_u64().unwrap_or(0),
        attempts: value["attempts"].as_array().into_iter().flatten().map(attempt).collect(),
    })
}

impl Records {
    /// From all reads.
    pub(crate) fn of(evidence: &Evidence) -> Self {
        let mut records = Self::default();
        for op in evidence.ops.iter().filter(|op| op.is_ok()) {
            let items = || op.result().as_array().into_iter().flatten();
            match op.ask.f.as_str() {
                "runs" => items().filter_map(run).for_each(|run| records.add(run)),
                "final-missed" => {
                    let range = |value: &Value| {
                        Some(MissedRecord {
                            trigger: text(&value["trigger"]),
                            count: value["count"].as_u64(),
                            at: instant(&value["at"])?,
                            from: instant(&value["from"])?,
                            to: instant(&value["to"])?,
                            reason: text(&value["reason"]),
                        })
                    };
                    let ranges = items().filter_map(range).collect();
                    records.missed.insert(op.ask.k.clone(), ranges);
                }
                "final-actions" => {
                    let state =
                        |value: &Value| Some((instant(&value["nominal"])?, text(&value["state"])));
                    let states = items().filter_map(state).collect();
                    records.actions.insert(op.ask.k.clone(), states);
                }
                _ => {}
            }
        }
        records
    }

    fn add(&mut self, run: RunRecord) {
        // A deleted job's runs lose its name, which changes nothing of theirs.
        let is_same = |old: &RunRecord| {
            (&old.state, &old.attempts, old.nominal) == (&run.state, &run.attempts, run.nominal)
        };
        match self.runs.get(&run.id) {
            Some(old) if is_same(old) => {}
            Some(_) => self.changed.push(run.id.clone()),
            None => {
                self.runs.insert(run.id.clone(), run);
            }
        }
    }

    /// Ranges of one trigger that were not run, for that reason.
    pub(crate) fn missed_of<'a>(
        &'a self,
        job: &str,
        trigger: &'a str,
        reason: &'a str,
    ) -> impl Iterator<Item = &'a MissedRecord> {
        let all = self.missed.get(job).into_iter().flatten();
        all.filter(move |range| range.trigger == trigger && range.reason == reason)
    }

    /// True if the instant of that trigger was recorded as not run, for that reason.
    pub(crate) fn is_in(&self, job: &str, trigger: &str, reason: &str, nominal: i64) -> bool {
        let mut ranges = self.missed_of(job, trigger, reason);
        ranges.any(|range| (range.from..=range.to).contains(&nominal))
    }

    /// True if the policy of any trigger left it out.
    pub(crate) fn is_missed(&self, job: &str, nominal: i64) -> bool {
        let all = self.missed.get(job).into_iter().flatten();
        let mut all = all.filter(|range| range.reason == "misfire");
        all.any(|range| (range.from..=range.to).contains(&nominal))
    }
}
