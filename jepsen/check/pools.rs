//! Pools: what runs at once, by the jobs' own lines, never takes more slots than there
//! are; what waits is let in; and at rest all slots are free.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Checked;
use super::ran::{Ran, Try, ran};
use super::records::Records;
use super::timeline::lives;
use crate::history::Kind;
use crate::store::Evidence;

/// One attempt and what it takes.
struct Taken<'a> {
    run: &'a Ran,
    one: &'a Try,
    slots: u64,
}

/// The verdict.
pub(crate) fn check(evidence: &Evidence, records: &Records) -> Checked {
    let promise = "runs never take more slots of a pool than it has, and give all of them back";
    let mut checked = Checked::new("pools", promise);
    for what in ["too many slots", "not given back", "not let in"] {
        checked.count(what, 0);
    }
    let Some(lives) = checked.taken(lives(evidence)) else { return checked };
    let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
    for op in evidence.ops_of("pool").filter(|op| op.kind() != Kind::Fail) {
        let slots = op.ask.v["slots"].as_u64().unwrap_or(0);
        let known = sizes.entry(&op.ask.k).or_default();
        *known = slots.max(*known);
    }
    let takes: BTreeMap<&String, BTreeMap<String, u64>> = (lives.iter())
        .filter_map(|(job, life)| Some((job, takes(&life.changes.first()?.after.definition))))
        .collect();
    let all = ran(evidence, "pool-");
    for (pool, size) in &sizes {
        let mut taken: Vec<Taken<'_>> = Vec::new();
        for run in &all {
            let slots = takes.get(&run.job).and_then(|takes| takes.get(*pool));
            let Some(slots) = slots.copied() else { continue };
            taken.extend(run.tries.iter().map(|one| Taken { run, one, slots }));
        }
        taken.sort_by_key(|taken| taken.one.start);
        judge_slots(&mut checked, evidence, pool, *size, &taken);
    }
    judge_rest(&mut checked, evidence);
    judge_runs(&mut checked, evidence, records);
    if checked.counted("attempts") == 0 || checked.counted("attempts that filled a pool") == 0 {
        checked.unknown("no pool was ever full");
    }
    checked
}

/// What a run of the job takes.
fn takes(definition: &Value) -> BTreeMap<String, u64> {
    if let Some(pool) = definition["pool"].as_str() {
        let slots = definition["slots"].as_u64().unwrap_or(1);
        return BTreeMap::from([(pool.to_owned(), slots)]);
    }
    let pools = definition["pools"].as_object().into_iter().flatten();
    pools.map(|(pool, slots)| (pool.clone(), slots.as_u64().unwrap_or(0))).collect()
}

/// An attempt lives at least from its first line to its last one.
fn judge_slots(
    checked: &mut Checked,
    evidence: &Evidence,
    pool: &str,
    size: u64,
    taken: &[Taken<'_>],
) {
    for (at, begun) in taken.iter().enumerate() {
        let start = begun.one.start;
        let beside = taken[..at].iter().filter(|other| other.one.last >= start);
        let (mut used, mut names) = (begun.slots, Vec::new());
        for other in beside {
            // The lease's own process was frozen too: only a resource that checks tokens
            // is safe then, as documented.
            if other.run.outlived(evidence, start) {
                checked.count("beside one of a frozen worker", 1);
                continue;
            }
            used += other.slots;
            names.push(other.run.run.as_str());
        }
        checked.count("attempts", 1);
        checked.count("attempts that filled a pool", i64::from(used == size));
        if used > size {
            let told = format!("{} began beside {names:?}: {used} slots of {size}", begun.run.run);
            checked.wrong("too many slots", pool, told, start);
        }
    }
}

/// At rest every node says that nothing is in use.
fn judge_rest(checked: &mut Checked, evidence: &Evidence) {
    for op in evidence.ops_of("final-pools").filter(|op| op.is_ok()) {
        for pool in op.result().as_array().into_iter().flatten() {
            checked.count("pools looked at", 1);
            let (used, waiting) = (&pool["used"], &pool["waiting"]);
            let name = pool["name"].as_str().unwrap_or_default();
            if *used != 0 {
                let told = format!("{used} slots are in use on {}, and nothing runs", op.ask.k);
                checked.wrong("not given back", name, told, op.ask.t);
            }
            if *waiting != 0 {
                let told = format!("{waiting} runs wait on {}", op.ask.k);
                checked.wrong("not let in", name, told, op.ask.t);
            }
        }
    }
}

/// Whoever was asked for ran to an end of its own.
fn judge_runs(checked: &mut Checked, evidence: &Evidence, records: &Records) {
    let Some(_) = evidence.horizon() else { return };
    let asked = evidence.ops_of("trigger").filter(|op| op.is_ok());
    for op in asked.filter(|op| op.ask.k.starts_with("pool-")) {
        checked.count("runs asked for", 1);
        let run = op.result()["run"].as_str().unwrap_or_default();
        match records.runs.get(run).map(|record| record.state.as_str()) {
            Some("success") => {}
            // Its workers were lost: that is judged with the attempts.
            Some("failed") => checked.count("runs that failed", 1),
            Some(other) => {
                let told = format!("{run} is {other}");
                checked.wrong("not let in", &op.ask.k, told, op.ask.t);
            }
            None => {
                let told = format!("{run} never ended");
                checked.wrong("not let in", &op.ask.k, told, op.ask.t);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::planted::{BASE_UTC, Planted};
    use super::*;
    use crate::store::Said;

    /// A pool of three: jobs that take one and two, with runs that begin as told.
    fn found(runs: &[(&str, i64, i64)], used: u64, ended: usize) -> Vec<String> {
        let mut planted = Planted::new();
        planted.op(10, Some(20), "pool", "pool-a", json!({"slots": 3}), Kind::Ok, json!({}));
        let jobs = json!({"jobs": [{"name": "pool-one", "pool": "pool-a"},
            {"name": "pool-two", "pools": {"pool-a": 2}}]});
        planted.op(30, Some(40), "apply-set", "x", jobs, Kind::Ok, json!({}));
        let mut records = Vec::new();
        for ((job, from, to), number) in runs.iter().zip(1_u64..) {
            let made = json!({"run": format!("r-{number}")});
            let key = json!({"key": format!("k{number}")});
            planted.op(from - 5, Some(from - 3), "trigger", job, key, Kind::Ok, made);
            planted.line(*from, Said::Start, job, None, number, 1);
            planted.line(*to, Said::End, job, None, number, 1);
            records.push(json!({"id": format!("r-{number}"), "job": job, "kind": "manual",
                "state": "success", "nominal": "2026-11-21T10:00:01Z", "attempts": []}));
        }
        records.truncate(ended);
        let utc = json!({"utc": BASE_UTC + 20_000});
        planted.op(20_000, Some(20_001), "horizon", "", json!(null), Kind::Ok, utc);
        planted.op(20_002, Some(20_003), "runs", "", json!(null), Kind::Ok, json!(records));
        let pools = json!([{"name": "pool-a", "used": used, "waiting": 0}]);
        planted.op(20_004, Some(20_005), "final-pools", "n1", json!(null), Kind::Ok, pools);
        let evidence = planted.evidence();
        let checked = check(&evidence, &Records::of(&evidence));
        checked.findings.into_iter().map(|finding| finding.what).collect()
    }

    const FULL: [(&str, i64, i64); 3] =
        [("pool-one", 100, 500), ("pool-two", 200, 600), ("pool-one", 510, 900)];

    #[test]
    fn a_pool_that_is_full_and_empties_is_accepted() {
        assert_eq!(found(&FULL, 0, 3), Vec::<String>::new());
    }

    #[test]
    fn each_breach_is_found() {
        let mut over = FULL;
        over[2].1 = 490;
        assert_eq!(found(&over, 0, 3), ["too many slots"]);
        assert_eq!(found(&FULL, 1, 3), ["not given back"]);
        assert_eq!(found(&FULL, 0, 2), ["not let in"]);
    }
}
