//! What nodes answer to nonsense, and whether it keeps to the contract.

use super::Checked;
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
    use serde_json::json;

    use super::super::Verdict;
    use super::super::planted::Planted;
    use super::*;

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
