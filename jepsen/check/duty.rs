//! Workers that an operator gives nothing more: nothing is given to them meanwhile, and
//! what a drain ends is gone when its time is over.
//!
//! That nothing is lost or doubled by it, and nothing late while others work, is for the
//! checkers of fires and attempts to say: a cordon excuses nothing there.

use std::collections::BTreeSet;

use super::Checked;
use super::attempts::lived;
use super::policy::{TOLD_MS, gone_by};
use super::records::Records;
use crate::store::{DUTY, Evidence, Fault, Stage};
use crate::time::MS;

/// Cluster time may differ by so much from the clock of the commands.
const OFF_MS: i64 = 2_000;
/// What a job that says nothing has to end by itself, once it is asked to.
const GRACE_MS: u64 = 10_000;

/// A stretch in which a worker was given nothing: from an acknowledged command to the
/// first request that ends it.
struct Stretch<'a> {
    worker: &'a str,
    from: &'a Fault,
    to: Option<&'a Fault>,
    /// Milliseconds until what still runs there is ended.
    deadline: Option<u64>,
}

fn stretches<'a>(evidence: &'a Evidence) -> Vec<Stretch<'a>> {
    let rows = evidence.faults.iter().enumerate().filter(|(_, row)| row.op.starts_with(DUTY));
    let begun = rows.filter(|(_, row)| row.stage == Stage::Installed);
    let stretch = |(at, from): (usize, &'a Fault)| -> Option<Stretch<'a>> {
        let ends = |row: &&Fault| row.op == from.op && row.args == from.args;
        let to = evidence.faults[at + 1..].iter().find(ends);
        let deadline = from.args["fault"]["drain"][1].as_u64();
        Some(Stretch { worker: from.args["who"][0].as_str()?, from, to, deadline })
    };
    begun.filter_map(stretch).collect()
}

/// The verdict.
pub(crate) fn check(evidence: &Evidence, records: &Records) -> Checked {
    let promise = "a worker that is cordoned or drained is given nothing, and a drain empties it";
    let mut checked = Checked::new("duty", promise);
    for what in ["given work", "not empty"] {
        checked.count(what, 0);
    }
    let (mut kept_away, mut is_judged) = (0, false);
    for stretch in stretches(evidence) {
        checked.count(&format!("stretches of {}", stretch.from.op), 1);
        judge_empty(&mut checked, evidence, &stretch);
        // By clocks that lie nobody can say what was given when.
        if evidence.has_fault("clock") {
            checked.count("stretches without a clock to judge by", 1);
            continue;
        }
        is_judged = true;
        let from = stretch.from.utc.saturating_add(OFF_MS);
        let to = stretch.to.map_or(i64::MAX, |to| to.utc.saturating_sub(OFF_MS));
        for run in records.runs.values() {
            let given = run
                .attempts
                .iter()
                .filter(|attempt| attempt.given.is_some_and(|given| (from..to).contains(&given)));
            for attempt in given {
                if attempt.worker != stretch.worker {
                    kept_away += 1;
                    continue;
                }
                let late = attempt.given.unwrap_or(from).saturating_sub(stretch.from.utc);
                let id = format!("{}.{}", run.id, attempt.number);
                let told = format!(
                    "{} was given it after {late} ms of {}",
                    stretch.worker, stretch.from.op
                );
                checked.wrong("given work", id, told, stretch.from.t);
            }
        }
    }
    checked.count("given to others meanwhile", kept_away);
    if is_judged && kept_away == 0 {
        checked.unknown("nothing was given to anybody while a worker was kept from work");
    }
    checked
}

/// What ran on a drained worker is gone when its time, its grace and what faults cost are
/// over. Whoever gives it work again before has ended nothing.
fn judge_empty(checked: &mut Checked, evidence: &Evidence, stretch: &Stretch<'_>) {
    let Some(deadline) = stretch.deadline else { return };
    let at = stretch.from.t.saturating_add(deadline * MS);
    let soon = at.saturating_add((GRACE_MS + TOLD_MS) * MS);
    if stretch.to.is_none_or(|to| to.t <= at.saturating_add(TOLD_MS * MS)) {
        return;
    }
    checked.count("drains whose time was over", 1);
    for ((run, _), attempts) in lived(&evidence.witness) {
        let there = attempts.iter().filter(|(_, attempt)| attempt.worker == stretch.worker);
        for (number, attempt) in there.filter(|(_, attempt)| attempt.start <= at) {
            if attempt.last <= at {
                continue;
            }
            checked.count("ended by a drain", 1);
            let workers = BTreeSet::from([stretch.worker]);
            let (end, _) = gone_by(evidence, &workers, attempt.start, at, soon);
            if attempt.last > end {
                let late = (attempt.last - at) / MS;
                let told = format!("it lived {late} ms longer than {} had", stretch.worker);
                checked.wrong("not empty", format!("{run}.{number}"), told, attempt.last);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::planted::{BASE_UTC, Planted};
    use super::super::{Verdict, planted};
    use super::*;
    use crate::history::Kind;
    use crate::store::Said;
    use crate::time::shown;

    /// `w1` is given nothing from 2 to 40 s; a run is given to `worker` at `given`, and writes
    /// until `last`; another one goes to `w2` at 20 s.
    fn judged(op: &str, worker: &str, given: i64, last: i64) -> Checked {
        let mut planted = Planted::new();
        let fault = if op == "duty-drain" {
            json!({"drain": [{"worker": 0}, 1_000]})
        } else {
            json!({"cordon": {"worker": 0}})
        };
        planted.fault_on(2_000, Some(40_000), op, json!({"who": ["w1"], "fault": fault}));
        planted.line(given, Said::Start, "j", Some(given), 1, 1);
        planted.line(last, Said::Tick, "j", Some(given), 1, 1);
        planted.edit_lines(|line| line.worker = worker.to_owned());
        let run = |id: &str, worker: &str, given: i64| -> Value {
            json!({"id": id, "job": "j", "state": "success", "nominal": shown(BASE_UTC + given),
                "attempts": [{"number": 1, "token": 1, "worker": worker,
                    "dispatched": shown(BASE_UTC + given), "end": {"how": "exited", "code": 0}}]})
        };
        let runs = json!([run("r-1", worker, given), run("r-2", "w2", 20_000)]);
        planted.op(90_000, Some(90_001), "runs", "", json!(null), Kind::Ok, runs);
        let mut evidence = planted.evidence();
        evidence.test.workers = vec!["w1".to_owned(), "w2".to_owned()];
        check(&evidence, &Records::of(&evidence))
    }

    fn found(checked: &Checked) -> Vec<&str> {
        checked.findings.iter().map(|finding| finding.what.as_str()).collect()
    }

    #[test]
    fn a_worker_that_is_kept_from_work_is_given_none() {
        for op in ["duty-cordon", "duty-drain"] {
            assert_eq!(found(&judged(op, "w1", 10_000, 10_100)), ["given work"], "{op}");
            assert!(found(&judged(op, "w2", 10_000, 10_100)).is_empty(), "another one");
            assert!(found(&judged(op, "w1", 1_000, 1_100)).is_empty(), "before");
            assert!(found(&judged(op, "w1", 41_000, 41_100)).is_empty(), "after");
        }
    }

    #[test]
    fn a_drain_whose_time_is_over_leaves_nothing_alive() {
        assert_eq!(found(&judged("duty-drain", "w1", 1_000, 30_000)), ["not empty"]);
        let ended = judged("duty-drain", "w1", 1_000, 9_000);
        assert!(found(&ended).is_empty(), "its grace");
        assert_eq!(ended.counted("ended by a drain"), 1);
        assert!(found(&judged("duty-cordon", "w1", 1_000, 30_000)).is_empty(), "a cordon waits");
        assert!(found(&judged("duty-drain", "w2", 1_000, 30_000)).is_empty(), "another one");
    }

    #[test]
    fn a_stretch_in_which_nobody_was_given_anything_says_nothing() {
        let mut planted = planted::Planted::new();
        let args = json!({"who": ["w1"], "fault": {"cordon": {"worker": 0}}});
        planted.fault_on(2_000, Some(40_000), "duty-cordon", args);
        let evidence = planted.evidence();
        assert_eq!(check(&evidence, &Records::of(&evidence)).verdict, Verdict::Unknown);
    }
}
