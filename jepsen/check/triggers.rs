//! Runs by hand: a client that insists under one key gets one run, however often it
//! asks; every run has someone who asked for it; and no acknowledged one is gone.

use std::collections::{BTreeMap, BTreeSet};

use super::Checked;
use super::records::Records;
use crate::history::{Kind, Op};
use crate::store::Evidence;

/// What became of one key.
#[derive(Default)]
struct Asked<'a> {
    job: &'a str,
    runs: BTreeSet<&'a str>,
    t: u64,
    /// Some request may have been taken.
    possible: bool,
}

/// The verdict.
pub(crate) fn check(evidence: &Evidence, records: &Records) -> Checked {
    let promise = "one request by hand makes one run, however often it is sent";
    let mut checked = Checked::new("triggers", promise);
    for what in ["doubled", "gone"] {
        checked.count(what, 0);
    }
    let mut keys: BTreeMap<&str, Asked<'_>> = BTreeMap::new();
    for op in evidence.ops_of("trigger") {
        let key = op.ask.v["key"].as_str().unwrap_or_default();
        let asked = keys.entry(key).or_default();
        asked.job = &op.ask.k;
        asked.t = op.ask.t;
        asked.possible |= op.kind() != Kind::Fail;
        if op.kind() == Kind::Ok
            && let Some(run) = op.result()["run"].as_str()
        {
            asked.runs.insert(run);
        }
    }
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for (key, asked) in &keys {
        checked.count("requests", 1);
        if asked.runs.len() > 1 {
            let told = format!("one key got {:?}", asked.runs);
            checked.wrong("doubled", asked.job, told, asked.t);
        }
        for run in &asked.runs {
            if let Some(other) = owners.insert(run, key) {
                let told = format!("{run} was given to {other} and {key}");
                checked.wrong("shared", asked.job, told, asked.t);
            }
        }
    }
    judge_runs(&mut checked, records, &keys, &owners);
    let is_open = |run: &str| evidence.ops_of("open-run").any(|op: &Op| op.ask.k == run);
    let ended = evidence.horizon().is_some();
    for (key, asked) in keys.iter().filter(|_| ended) {
        for run in asked.runs.iter().filter(|run| !records.runs.contains_key(**run)) {
            if !is_open(run) {
                let told = format!("{run} was acknowledged for {key}, and nobody ever saw it");
                checked.wrong("gone", asked.job, told, asked.t);
            }
        }
    }
    checked
}

/// No more runs by hand than requests that may have been taken.
fn judge_runs(
    checked: &mut Checked,
    records: &Records,
    keys: &BTreeMap<&str, Asked<'_>>,
    owners: &BTreeMap<&str, &str>,
) {
    let mut unknown: BTreeMap<&str, i64> = BTreeMap::new();
    for asked in keys.values().filter(|asked| asked.runs.is_empty() && asked.possible) {
        *unknown.entry(asked.job).or_default() += 1;
    }
    let asked_for: BTreeSet<&str> = keys.values().map(|asked| asked.job).collect();
    for record in records.runs.values().filter(|run| run.kind == "manual") {
        if owners.contains_key(record.id.as_str()) || !asked_for.contains(record.job.as_str()) {
            continue;
        }
        let left = unknown.entry(&record.job).or_default();
        *left -= 1;
        if *left < 0 {
            let told = format!("{} was made, and nobody asked for it", record.id);
            checked.wrong("doubled", &record.job, told, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::planted::Planted;
    use super::*;

    fn trigger(planted: &mut Planted, key: &str, run: Option<&str>, kind: Kind) {
        let result = run.map_or(Value::Null, |run| json!({"run": run}));
        planted.op(1_000, Some(1_010), "trigger", "j", json!({"key": key}), kind, result);
    }

    fn found(planted: &mut Planted, runs: &[&str]) -> Vec<String> {
        let run = |id: &&str| {
            json!({"id": id, "job": "j", "kind": "manual", "state": "success",
            "nominal": "2026-11-21T10:00:01Z", "attempts": []})
        };
        let runs = json!(runs.iter().map(run).collect::<Vec<_>>());
        planted.op(8_000, Some(8_001), "horizon", "", json!(null), Kind::Ok, json!({"utc": 1}));
        planted.op(9_000, Some(9_001), "runs", "", json!(null), Kind::Ok, runs);
        let evidence = planted.evidence();
        let checked = check(&evidence, &Records::of(&evidence));
        checked.findings.into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn one_request_makes_one_run() {
        let mut planted = Planted::new();
        trigger(&mut planted, "a", None, Kind::Info);
        trigger(&mut planted, "a", Some("r-1"), Kind::Ok);
        trigger(&mut planted, "b", None, Kind::Info);
        assert_eq!(found(&mut planted, &["r-1", "r-2"]), Vec::<String>::new());
    }

    #[test]
    fn a_request_taken_twice_is_found() {
        let mut planted = Planted::new();
        trigger(&mut planted, "a", Some("r-1"), Kind::Ok);
        trigger(&mut planted, "a", Some("r-2"), Kind::Ok);
        assert_eq!(found(&mut planted, &["r-1", "r-2"]), ["doubled"]);
        // The second one was never told of.
        let mut planted = Planted::new();
        trigger(&mut planted, "a", None, Kind::Info);
        trigger(&mut planted, "a", Some("r-1"), Kind::Ok);
        assert_eq!(found(&mut planted, &["r-1", "r-2"]), ["doubled"]);
        let mut planted = Planted::new();
        trigger(&mut planted, "a", None, Kind::Fail);
        assert_eq!(found(&mut planted, &["r-1"]), ["doubled"]);
    }

    #[test]
    fn a_run_that_is_gone_or_shared_is_found() {
        let mut planted = Planted::new();
        trigger(&mut planted, "a", Some("r-1"), Kind::Ok);
        assert_eq!(found(&mut planted, &[]), ["gone"]);
        let mut planted = Planted::new();
        trigger(&mut planted, "a", Some("r-1"), Kind::Ok);
        trigger(&mut planted, "b", Some("r-1"), Kind::Ok);
        assert_eq!(found(&mut planted, &["r-1"]), ["shared"]);
    }
}
