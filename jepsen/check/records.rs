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
    /// Bytes that it wrote, once it is over.
    pub(crate) output: Option<u64>,
    /// Why it could not be begun, in its worker's words.
    pub(crate) message: String,
    /// Processes of it that were refused because there were as many as it may have.
    pub(crate) refused_forks: u64,
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
    /// `schedule dependency manual recover super_recover debug backfill`.
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
    /// When it was made, milliseconds of cluster time.
    pub(crate) created: i64,
    /// When it was over, milliseconds of cluster time.
    pub(crate) finished: Option<i64>,
    /// The back-fill that it is of; empty if it is of none.
    pub(crate) backfill: String,
    /// Its tries, oldest first.
    pub(crate) attempts: Vec<AttemptRecord>,
}

impl RunRecord {
    /// Runs get their numbers in the order in which they are made.
    pub(crate) fn number(&self) -> u64 {
        number_of(&self.id)
    }

    /// True if its action has what it came to: not so of runs beside the plan.
    pub(crate) fn is_of_plan(&self) -> bool {
        self.has_action && !BESIDE_PLAN.contains(&self.kind.as_str())
    }
}

/// Kinds of runs that say nothing of an action, whatever they stand for.
const BESIDE_PLAN: [&str; 3] = ["manual", "debug", "backfill"];

/// The number in `r-17`; 0 if it is none.
pub(crate) fn number_of(run: &str) -> u64 {
    run.strip_prefix("r-").and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// An upstream action that an action names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UpstreamRecord {
    /// The upstream job.
    pub(crate) job: String,
    /// Its instant, milliseconds; none if the edge found none.
    pub(crate) nominal: Option<i64>,
    /// What it means that there is none: `no_upstream wait skip`.
    pub(crate) no_match: String,
}

/// An action as it was read at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ActionRecord {
    /// `planned waiting ready running success failed cancelled skipped`.
    pub(crate) state: String,
    /// Why it was skipped.
    pub(crate) reason: String,
    /// When that was so, milliseconds of cluster time.
    pub(crate) finished: Option<i64>,
    /// What it waits for.
    pub(crate) upstream: Vec<UpstreamRecord>,
}

impl ActionRecord {
    fn of(value: &Value) -> Self {
        let up = |value: &Value| UpstreamRecord {
            job: text(&value["job"]),
            nominal: value["action"].as_str().and_then(nominal_of),
            no_match: text(&value["no_match"]),
        };
        Self {
            state: text(&value["state"]),
            reason: text(&value["reason"]),
            finished: instant(&value["finished"]),
            upstream: value["upstream"].as_array().into_iter().flatten().map(up).collect(),
        }
    }

    /// True if nothing more happens by itself.
    pub(crate) fn is_over(&self) -> bool {
        ["success", "failed", "cancelled", "skipped"].contains(&self.state.as_str())
    }
}

/// The instant in `JOB@20261121T030000Z`, milliseconds.
pub(crate) fn nominal_of(action: &str) -> Option<i64> {
    action.rsplit_once('@').and_then(|(_, at)| millis(at))
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
    /// The same with all that was read of them.
    pub(crate) details: BTreeMap<String, BTreeMap<i64, ActionRecord>>,
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
        output: value["output_bytes"].as_u64(),
        message: text(&value["end"]["message"]),
        refused_forks: value["usage"]["refused_forks"].as_u64().unwrap_or(0),
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
        created: instant(&value["created"]).unwrap_or(i64::MIN),
        finished: instant(&value["finished"]),
        backfill: text(&value["backfill"]),
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
                    let whole = |value: &Value| {
                        Some((instant(&value["nominal"])?, ActionRecord::of(value)))
                    };
                    let all = items().filter_map(whole).collect();
                    records.details.insert(op.ask.k.clone(), all);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_actions_and_runs_are_read() {
        assert_eq!(nominal_of("a.b@20261121T100005Z"), millis("2026-11-21T10:00:05Z"));
        assert_eq!(nominal_of("a@20261121T100005.250Z"), millis("2026-11-21T10:00:05.250Z"));
        assert_eq!((nominal_of("a"), number_of("r-17"), number_of("x")), (None, 17, 0));
    }
}
