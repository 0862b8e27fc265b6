//! What nodes serve: output byte by byte, and answers within the contract.

use std::collections::BTreeMap;

use super::Checked;
use super::records::Records;
use crate::history::{Kind, Op};
use crate::store::Evidence;

/// The published codes of refusals.
const CODES: [&str; 20] = [
    "malformed",
    "invalid_value",
    "unknown_field",
    "bad_cron",
    "unknown_zone",
    "dependency_cycle",
    "missing_upstream",
    "request_reused",
    "request_expired",
    "too_large",
    "unauthenticated",
    "denied",
    "method_not_allowed",
    "not_found",
    "wrong_revision",
    "conflict",
    "lock_taken",
    "limit_reached",
    "unavailable",
    "outcome_unknown",
];

/// The verdict on output.
pub(crate) fn logs(evidence: &Evidence, records: &Records) -> Checked {
    let promise = "output is served as it was written: no byte wrong, none missing, none gone";
    let mut checked = Checked::new("logs", promise);
    for what in ["wrong byte", "cut short", "gone"] {
        checked.count(what, 0);
    }
    // Where each attempt's output had been served to.
    let mut served: BTreeMap<String, u64> = BTreeMap::new();
    for f in ["tail", "read-log"] {
        for op in evidence.ops_of(f) {
            judge_read(&mut checked, evidence, records, op, &mut served);
        }
    }
    if checked.counted("bytes served") == 0 {
        checked.unknown("nothing was served");
    }
    checked
}

fn judge_read(
    checked: &mut Checked,
    evidence: &Evidence,
    records: &Records,
    op: &Op,
    served: &mut BTreeMap<String, u64>,
) {
    let run = &op.ask.k;
    let record = records.runs.get(run);
    let is_final = op.ask.f == "read-log";
    if !op.is_ok() {
        checked.count("reads refused", 1);
        // What no majority has yet is on the worker alone, and lost with its disk.
        let is_lost = evidence.has_fault("journal");
        let is_there = record.is_some_and(|r| r.state == "success") && !is_lost;
        if is_final && is_there {
            let why = op.end.as_ref().and_then(|end| end.err.clone()).unwrap_or_default();
            checked.wrong("gone", run, format!("it cannot be read: {why}"), op.ask.t);
        }
        return;
    }
    let told = op.result();
    let attempt = told["attempt"].as_str().unwrap_or_default();
    let offset = op.ask.v["offset"].as_u64().unwrap_or(0);
    let bytes = told["bytes"].as_u64().unwrap_or(0);
    let whole = told["whole"].as_u64().unwrap_or(0);
    checked.count("bytes served", bytes);
    if let Some(at) = told["wrong_at"].as_u64() {
        let told = format!("{attempt}: another byte at {at} of {whole}");
        checked.wrong("wrong byte", run, told, op.ask.t);
        return;
    }
    let to = if bytes == 0 { 0 } else { offset + bytes };
    let before = served.get(attempt).copied().unwrap_or(0);
    if told["broken"].is_null() {
        let number = attempt.rsplit('.').next().and_then(|n| n.parse::<u32>().ok());
        let mut attempts = record.into_iter().flat_map(|record| &record.attempts);
        let is_good = attempts.any(|a| Some(a.number) == number && a.succeeded());
        if is_good && offset < whole && to < whole {
            let told = format!("{attempt}: it ended well, and only {to} of {whole} were served");
            checked.wrong("cut short", run, told, op.ask.t);
        } else if is_final && to < before {
            let told = format!("{attempt}: {before} bytes were served before, {to} now");
            checked.wrong("gone", run, told, op.ask.t);
        }
    } else {
        checked.count("reads broken off", 1);
    }
    served.insert(attempt.to_owned(), before.max(to));
}

/// The verdict on answers to nonsense, and on errors of everybody's answers.
pub(crate) fn answers(evidence: &Evidence) -> Checked {
    let promise = "every answer keeps to the contract, whatever was asked";
    let mut checked = Checked::new("answers", promise);
    for op in &evidence.ops {
        let why = op.end.as_ref().and_then(|end| end.err.as_deref()).unwrap_or_default();
        if why.starts_with("500 ") {
            checked.wrong("internal error", &op.ask.f, why.to_owned(), op.ask.t);
        }
        if op.ask.f == "fuzz" {
            checked.count("nonsense asked", 1);
            judge_answer(&mut checked, evidence, op);
        }
    }
    checked
}

fn judge_answer(checked: &mut Checked, evidence: &Evidence, op: &Op) {
    let asked = || format!("{} {}: ", op.ask.v["method"].as_str().unwrap_or(""), op.ask.k);
    match op.kind() {
        Kind::Ok => {}
        Kind::Info | Kind::Invoke => {
            // With faults about, connections break.
            if evidence.bands.is_empty() && op.end.is_some() {
                let why = op.end.as_ref().and_then(|end| end.err.clone()).unwrap_or_default();
                checked.wrong("no answer", &op.ask.node, asked() + &why, op.ask.t);
            }
            return;
        }
        Kind::Fail => return,
    }
    let result = op.result();
    let status = result["status"].as_u64().unwrap_or(0);
    if (200..300).contains(&status) {
        checked.count("nonsense done", 1);
        return;
    }
    let code = result["code"].as_str().unwrap_or_default();
    let is_problem = result["content"].as_str().unwrap_or_default() == "application/problem+json";
    if status >= 500 && status != 503 {
        checked.wrong("internal error", &op.ask.node, asked() + &status.to_string(), op.ask.t);
    } else if !(400..600).contains(&status) || !is_problem || !CODES.contains(&code) {
        let told = format!("{}{status} {code:?} as {}", asked(), result["content"]);
        checked.wrong("outside the contract", &op.ask.node, told, op.ask.t);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::Verdict;
    use super::super::planted::Planted;
    use super::*;

    fn log(reads: &[(&str, Value)]) -> Vec<String> {
        let mut planted = Planted::new();
        for (f, result) in reads {
            let v = json!({"offset": 0});
            let kind = if result.is_null() { Kind::Fail } else { Kind::Ok };
            planted.op(1_000, Some(2_000), f, "r-1", v, kind, result.clone());
        }
        let run = json!([{"id": "r-1", "job": "l", "state": "success",
            "nominal": "2026-11-21T10:00:01Z",
            "attempts": [{"number": 1, "token": 1, "end": {"how": "exited", "code": 0}}]}]);
        planted.op(9_000, Some(9_001), "runs", "", json!(null), Kind::Ok, run);
        let evidence = planted.evidence();
        let checked = logs(&evidence, &Records::of(&evidence));
        checked.findings.into_iter().map(|f| f.what).collect()
    }

    fn read(bytes: u64, wrong_at: Option<u64>, broken: bool) -> Value {
        json!({"attempt": "r-1.1", "bytes": bytes, "whole": 900, "wrong_at": wrong_at,
            "broken": broken.then_some("cut")})
    }

    #[test]
    fn output_is_judged_byte_by_byte() {
        let whole = || ("read-log", read(900, None, false));
        assert_eq!(log(&[("tail", read(500, None, true)), whole()]), Vec::<String>::new());
        assert_eq!(log(&[("tail", read(500, Some(70), false)), whole()]), ["wrong byte"]);
        assert_eq!(log(&[("tail", read(500, None, false)), whole()]), ["cut short"]);
        assert_eq!(log(&[whole(), ("read-log", Value::Null)]), ["gone"]);
        let other = json!({"attempt": "r-1.2", "bytes": 900, "whole": 900});
        let less = json!({"attempt": "r-1.2", "bytes": 800, "whole": 900});
        assert_eq!(log(&[("tail", other), ("read-log", less)]), ["gone"]);
    }

    fn answer(status: u64, code: &str, content: &str) -> Vec<String> {
        let mut planted = Planted::new();
        let result = json!({"status": status, "code": code, "content": content});
        planted.op(1, Some(2), "fuzz", "jobs", json!({"method": "GET"}), Kind::Ok, result);
        let checked = answers(&planted.evidence());
        assert_eq!(checked.verdict == Verdict::Valid, checked.findings.is_empty());
        checked.findings.into_iter().map(|f| f.what).collect()
    }

    #[test]
    fn answers_must_keep_to_the_contract() {
        const PROBLEM: &str = "application/problem+json";
        assert_eq!(answer(200, "", "application/json"), Vec::<String>::new());
        assert_eq!(answer(404, "not_found", PROBLEM), Vec::<String>::new());
        assert_eq!(answer(503, "unavailable", PROBLEM), Vec::<String>::new());
        assert_eq!(answer(500, "internal", PROBLEM), ["internal error"]);
        assert_eq!(answer(404, "lost", PROBLEM), ["outside the contract"]);
        assert_eq!(answer(400, "malformed", "text/plain"), ["outside the contract"]);
        assert_eq!(answer(302, "", ""), ["outside the contract"]);
    }

    #[test]
    fn errors_of_ours_and_broken_answers_are_found() {
        let mut planted = Planted::new();
        planted.op(1, Some(2), "add", "set", json!(1), Kind::Info, json!(null));
        planted.because("500 internal: x");
        let v = json!({"method": "GET"});
        planted.op(1, Some(2), "fuzz", "jobs", v, Kind::Info, json!(null));
        let what: Vec<String> =
            answers(&planted.evidence()).findings.into_iter().map(|f| f.what).collect();
        assert_eq!(what, ["internal error", "no answer"]);
        planted.fault(0, 5, "kill-one");
        assert_eq!(answers(&planted.evidence()).findings.len(), 1);
    }
}
