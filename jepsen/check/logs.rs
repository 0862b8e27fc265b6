//! Output of jobs: every byte that a reader was served, or that a worker was told to be
//! safe, is served again by every later read, and in the end by every node from its own
//! disk; in order, none twice, none of another attempt, and all of it if it ended well.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Checked;
use super::records::{AttemptRecord, Records};
use crate::history::Op;
use crate::store::Evidence;

/// What a worker's log says of a part of an output that a majority has.
const SAFE: &str = "output is safe attempt=";
/// Faults of a worker by which it may lose output that nobody has yet, or be unable to
/// keep it.
const LOSES: [&str; 2] = ["journal-", "worker-power"];
/// More than any output: what is said of those that nobody wants.
const NO_OFFSET: u64 = 1 << 50;

/// The verdict.
pub(crate) fn check(evidence: &Evidence, records: &Records) -> Checked {
    let promise = "output is served as it was written: no byte wrong, none missing, none gone";
    let mut checked = Checked::new("logs", promise);
    let kinds = ["wrong byte", "torn", "left out", "cut short", "gone", "not on all nodes"];
    kinds.iter().for_each(|what| checked.count(what, 0));
    let safe = acknowledged(evidence);
    checked.count("attempts acknowledged", safe.len());
    safe.values().for_each(|below| checked.count("bytes acknowledged", *below));
    let mut judge =
        Judge { evidence, records, known: safe, own: BTreeMap::new(), shut: shut(evidence) };
    for f in ["tail", "read-log", "read-own"] {
        evidence.ops_of(f).for_each(|op| judge.read(&mut checked, op));
    }
    judge.nodes(&mut checked);
    if checked.counted("bytes served") == 0 {
        checked.unknown("nothing was served");
    }
    checked
}

/// What workers were told that a majority has: of each attempt all below a byte.
fn acknowledged(evidence: &Evidence) -> BTreeMap<String, u64> {
    let mut safe: BTreeMap<String, u64> = BTreeMap::new();
    for line in evidence.logs.values().flat_map(|log| log.lines()) {
        let Some((attempt, below)) = line
            .split_once(SAFE)
            .and_then(|(_, told)| told.split_once(" below="))
            .and_then(|(attempt, below)| Some((attempt, below.trim().parse::<u64>().ok()?)))
        else {
            continue;
        };
        if (1..NO_OFFSET).contains(&below) {
            let known = safe.entry(attempt.to_owned()).or_default();
            *known = below.max(*known);
        }
    }
    safe
}

/// Nodes whose store of logs takes nothing any more since its disk failed.
fn shut(evidence: &Evidence) -> BTreeSet<&str> {
    let told = evidence.ops_of("logs-stats").filter(|op| op.result()["shut"].is_string());
    told.map(|op| op.ask.node.as_str()).collect()
}

struct Judge<'a> {
    evidence: &'a Evidence,
    records: &'a Records,
    /// Of each attempt how much of it is known to be there.
    known: BTreeMap<String, u64>,
    /// The last that each node told to have itself: of each attempt up to where.
    own: BTreeMap<String, BTreeMap<&'a str, u64>>,
    shut: BTreeSet<&'a str>,
}

impl<'a> Judge<'a> {
    fn record(&self, run: &str, attempt: &str) -> Option<&'a AttemptRecord> {
        let number: u32 = attempt.rsplit('.').next()?.parse().ok()?;
        self.records.runs.get(run)?.attempts.iter().find(|record| record.number == number)
    }

    /// True if nobody knows whether a read that did not come to its end would have, with time.
    fn is_busy(&self) -> bool {
        !self.evidence.test.busy.is_empty()
    }

    /// True if its worker may have lost some of it that no node had.
    fn may_lack(&self, record: Option<&AttemptRecord>) -> bool {
        let Some(record) = record else { return true };
        let from = self.evidence.mono_of_utc(record.given.unwrap_or(i64::MIN));
        self.evidence.bands.iter().any(|band| {
            let loses = LOSES.iter().any(|op| band.op.starts_with(op));
            loses && band.hits(&record.worker) && band.to >= from
        })
    }

    fn read(&mut self, checked: &mut Checked, op: &'a Op) {
        let (run, told) = (&op.ask.k, op.result());
        let is_final = op.ask.f != "tail";
        let asked = op.ask.v["attempt"].as_u64().map(|number| format!("{run}.{number}"));
        let last = || {
            let last = self.records.runs.get(run)?.attempts.last()?;
            Some(format!("{run}.{}", last.number))
        };
        let attempt = told["attempt"].as_str().map(str::to_owned).or(asked).or_else(last);
        let attempt = attempt.unwrap_or_default();
        let known = self.known.get(&attempt).copied().unwrap_or(0);
        let record = self.record(run, &attempt);
        let is_good = record.is_some_and(AttemptRecord::succeeded);
        let whole_is_due = is_good && !self.may_lack(record);
        let node = op.ask.node.as_str();
        if op.ask.f == "read-own" && self.shut.contains(node) {
            checked.count("reads of a node whose store of logs had failed", 1);
            return;
        }
        let why = op.end.as_ref().and_then(|end| end.err.clone());
        if !op.is_ok() {
            checked.count("reads refused", 1);
            if is_final && !self.is_busy() && (known > 0 || whole_is_due) {
                let why = why.unwrap_or_default();
                let told =
                    format!("{node}: {attempt}: {known} bytes are known, and none are told: {why}");
                checked.wrong("gone", run, told, op.ask.t);
            }
            return;
        }
        let number = |name: &str| told[name].as_u64();
        let (from, to) = (number("from").unwrap_or(0), number("to").unwrap_or(0));
        let whole = number("whole").unwrap_or(0);
        checked.count("bytes served", number("bytes").unwrap_or(0));
        for (what, at) in [("wrong byte", "wrong_at"), ("torn", "torn_at")] {
            if let Some(at) = number(at) {
                let told = format!("{node}: {attempt}: at {at} of {whole}");
                checked.wrong(what, run, told, op.ask.t);
            }
        }
        let gaps = told["gaps"].as_array().map_or(&[][..], Vec::as_slice);
        checked.count("stretches left out", gaps.len());
        if !gaps.is_empty() && !self.may_lack(record) {
            let told = format!("{node}: {attempt}: {} are left out of {whole}", Value::from(gaps));
            checked.wrong("left out", run, told, op.ask.t);
        }
        let is_broken = !told["broken"].is_null();
        checked.count("reads broken off", i64::from(is_broken));
        // Who asked for what comes behind a part that is not there was told of nothing.
        if to > from && op.ask.f != "read-own" {
            let known = self.known.entry(attempt.clone()).or_default();
            *known = to.max(*known);
        }
        if op.ask.f == "read-own" {
            checked.count("read from one node alone", 1);
            self.own.entry(attempt.clone()).or_default().insert(node, to);
        } else if !is_broken || (is_final && !self.is_busy()) {
            self.length(checked, op, (&attempt, from, to, whole), (known, whole_is_due));
        }
    }

    /// Whether as much was served as must be there.
    fn length(
        &self,
        checked: &mut Checked,
        op: &Op,
        (attempt, from, to, whole): (&str, u64, u64, u64),
        (known, whole_is_due): (u64, bool),
    ) {
        let (run, node) = (&op.ask.k, &op.ask.node);
        if whole_is_due && from < whole && to < whole {
            let told =
                format!("{node}: {attempt}: it ended well, and only {to} of {whole} were served");
            checked.wrong("cut short", run, told, op.ask.t);
        } else if op.ask.f != "tail" && to < known {
            let told = format!("{node}: {attempt}: {known} bytes are known, and {to} are served");
            checked.wrong("gone", run, told, op.ask.t);
        }
    }

    /// What the nodes hold themselves, once nothing is left to copy.
    fn nodes(&self, checked: &mut Checked) {
        let Some(repaired) = self.evidence.ops_of("logs-repaired").last() else { return };
        let after = repaired.result()["after_ms"].as_u64().unwrap_or(0);
        checked.count("milliseconds until all nodes held the same", after);
        let calm = self.shut.is_empty() && !self.is_busy();
        if repaired.result()["done"] != true && calm {
            let told = format!("after {after} ms some voter lacks something still");
            checked.wrong("not on all nodes", "repair", told, repaired.ask.t);
        }
        for (attempt, own) in &self.own {
            let run = attempt.rsplit_once('.').map_or("", |(run, _)| run);
            let record = self.record(run, attempt);
            let whole = record.filter(|record| record.succeeded() && !self.may_lack(Some(record)));
            let whole = whole.and_then(|record| record.output).unwrap_or(0);
            let must = self.known.get(attempt).copied().unwrap_or(0).max(whole);
            checked.count("attempts compared on all nodes", 1);
            let (least, most) = (own.values().min(), own.values().max());
            if least != most || least.is_some_and(|least| *least < must) {
                let told = format!("{must} bytes must be there, and they have {own:?}");
                checked.wrong("not on all nodes", attempt, told, repaired.ask.t);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::planted::{BASE_UTC, Planted};
    use super::*;
    use crate::history::Kind;
    use crate::time::shown;

    /// Reads of the only attempt of a run that ended well, and wrote 900 bytes on `w1`: each
    /// by which operation, on which node, and what was told.
    fn evidence(reads: &[(&str, &str, Value)]) -> Evidence {
        let mut planted = Planted::new();
        for (f, _, result) in reads {
            let v = json!({"offset": 0, "attempt": (*f == "read-own").then_some(1)});
            let kind = if result.is_null() { Kind::Fail } else { Kind::Ok };
            planted.op(1_000, Some(2_000), f, "r-1", v, kind, result.clone());
        }
        let done = json!({"done": true, "after_ms": 3});
        planted.op(8_000, Some(8_001), "logs-repaired", "", json!(null), Kind::Ok, done);
        let run = json!([{"id": "r-1", "job": "l", "state": "success", "nominal": shown(BASE_UTC),
            "attempts": [{"number": 1, "token": 1, "worker": "w1", "output_bytes": 900,
                "dispatched": shown(BASE_UTC + 900), "end": {"how": "exited", "code": 0}}]}]);
        planted.op(9_000, Some(9_001), "runs", "", json!(null), Kind::Ok, run);
        let mut evidence = planted.evidence();
        for (op, (_, node, _)) in evidence.ops.iter_mut().zip(reads) {
            op.ask.node = (*node).to_owned();
        }
        evidence
    }

    fn found(evidence: &Evidence) -> Vec<String> {
        let checked = check(evidence, &Records::of(evidence));
        checked.findings.into_iter().map(|f| f.what).collect()
    }

    fn log(reads: &[(&str, &str, Value)]) -> Vec<String> {
        found(&evidence(reads))
    }

    fn read(to: u64) -> Value {
        json!({"attempt": "r-1.1", "from": 0, "to": to, "bytes": to, "whole": 900, "gaps": [],
            "total": to, "wrong_at": null, "torn_at": null, "broken": null})
    }

    fn with(to: u64, field: &str, value: Value) -> Value {
        let mut read = read(to);
        read[field] = value;
        read
    }

    #[test]
    fn output_is_judged_byte_by_byte() {
        let whole = || ("read-log", "n1", read(900));
        let tail = |told: Value| log(&[("tail", "n1", told), whole()]);
        assert_eq!(tail(with(500, "broken", json!("cut"))), Vec::<String>::new());
        assert_eq!(tail(with(900, "wrong_at", json!(70))), ["wrong byte"]);
        assert_eq!(tail(with(900, "torn_at", json!(70))), ["torn"]);
        assert_eq!(tail(with(900, "gaps", json!([[3, 9]]))), ["left out"]);
        assert_eq!(tail(read(500)), ["cut short"]);
        assert_eq!(log(&[whole(), ("read-log", "n2", Value::Null)]), ["gone"]);
        assert_eq!(
            log(&[("read-log", "n2", with(500, "broken", json!("missing")))]),
            ["cut short"]
        );
        let other = |to| with(to, "attempt", json!("r-1.2"));
        assert_eq!(log(&[("tail", "n1", other(800)), ("read-log", "n1", other(700))]), ["gone"]);
    }

    #[test]
    fn what_a_worker_was_told_to_be_safe_must_be_served() {
        let judged = |attempt: &str, told: Value| {
            let mut evidence = evidence(&[("read-log", "n1", told)]);
            let line =
                format!("2026-11-21T10:00:00Z DEBUG horai::worker::uplink: {SAFE}{attempt} below=");
            let log = format!("{line}300\n{line}700\n{line}18446744073709551615\n");
            evidence.logs.insert("w1".to_owned(), log);
            found(&evidence)
        };
        let other = |to| with(to, "attempt", json!("r-1.2"));
        assert_eq!(judged("r-1.2", other(700)), Vec::<String>::new());
        assert_eq!(judged("r-1.2", other(699)), ["gone"]);
        assert_eq!(judged("r-1.3", other(699)), Vec::<String>::new(), "of another");
    }

    #[test]
    fn each_node_must_hold_it_itself() {
        let own = |tos: [u64; 3]| {
            let nodes = ["n1", "n2", "n3"].into_iter().zip(tos);
            let reads: Vec<_> = nodes.map(|(node, to)| ("read-own", node, read(to))).collect();
            evidence(&reads)
        };
        assert_eq!(found(&own([900, 900, 900])), Vec::<String>::new());
        assert_eq!(found(&own([900, 500, 900])), ["not on all nodes"]);
        assert_eq!(found(&own([500, 500, 500])), ["not on all nodes"], "they agree, and lack it");
        // One whose disk failed says so.
        let mut failed = own([900, 500, 900]);
        let mut stats = failed.ops[0].clone();
        (stats.ask.f, stats.ask.node) = ("logs-stats".to_owned(), "n2".to_owned());
        stats.end.as_mut().unwrap().v = json!({"shut": "no disk"});
        failed.ops.push(stats);
        assert_eq!(found(&failed), Vec::<String>::new());
        let mut slow = own([900, 900, 900]);
        let repaired = slow.ops.iter_mut().find(|op| op.ask.f == "logs-repaired").unwrap();
        repaired.end.as_mut().unwrap().v = json!({"done": false, "after_ms": 90_000});
        assert_eq!(found(&slow), ["not on all nodes"]);
    }

    #[test]
    fn a_worker_that_lost_its_disk_may_lack_what_no_node_had() {
        let judged = |op: &str, who: &str, from: i64| {
            let mut evidence = evidence(&[("read-log", "n1", read(500))]);
            let mut planted = Planted::new();
            planted.fault_on(from, Some(from + 1), op, json!({"who": [who]}));
            evidence.bands = planted.evidence().bands;
            found(&evidence)
        };
        assert_eq!(judged("journal-wiped", "w1", 2_000), Vec::<String>::new());
        assert_eq!(judged("worker-power", "w1", 2_000), Vec::<String>::new());
        assert_eq!(judged("journal-wiped", "w2", 2_000), ["cut short"], "another one");
        assert_eq!(judged("worker-kill", "w1", 2_000), ["cut short"], "its disk is there");
        assert_eq!(judged("journal-wiped", "w1", 100), ["cut short"], "long before");
    }
}
