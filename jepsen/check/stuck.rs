//! Nothing is stuck: after everything has healed, what is not over says why it
//! waits, and the reason is true.
//!
//! A reason is checked against what clients wrote and what was read, not believed.

use std::collections::BTreeMap;

use super::Checked;
use super::records::Records;
use super::timeline::{Life, lives};
use crate::history::Op;
use crate::store::Evidence;
use crate::time::millis;

/// The closed list.
const REASONS: [&str; 17] = [
    "not_due",
    "upstream",
    "upstream_failed",
    "upstream_paused",
    "paused",
    "frozen",
    "overlap",
    "pool",
    "backoff",
    "catch_up",
    "queue",
    "no_worker",
    "cordoned",
    "resource",
    "load",
    "dispatching",
    "fixed_delay",
];

/// The verdict.
pub(crate) fn check(evidence: &Evidence, records: &Records) -> Checked {
    let promise = "after healing everything ends, or waits for a reason that is true";
    let mut checked = Checked::new("stuck", promise);
    let Some(lives) = checked.taken(lives(evidence)) else { return checked };
    let Some(horizon) = evidence.horizon() else {
        checked.unknown("the test did not come to its end");
        return checked;
    };
    // The last look at each counts: the ones before may have been just before its end.
    let mut open: BTreeMap<(&str, &str), &Op> = BTreeMap::new();
    for f in ["open-run", "open-action"] {
        for op in evidence.ops_of(f).filter(|op| op.is_ok()) {
            open.insert((f, &op.ask.k), op);
        }
    }
    for ((f, id), op) in open {
        let state = op.result()["state"].as_str().unwrap_or_default();
        let over = ["success", "failed", "cancelled", "deleted", "skipped"];
        let nominal = op.ask.v["nominal"].as_str().and_then(millis).unwrap_or(i64::MIN);
        if over.contains(&state) || nominal > horizon {
            continue;
        }
        checked.count("open at the end", 1);
        let reason = op.result()["reason"].as_str();
        if let Some(fault) = fault_of(f, reason, op, (nominal, horizon), &lives, records) {
            let told = format!("{state}, {}: {fault}", reason.unwrap_or("no reason"));
            checked.wrong("stuck", id, told, op.ask.t);
        }
    }
    checked
}

/// Why it should not be open, if it should not.
fn fault_of(
    f: &str,
    reason: Option<&str>,
    op: &Op,
    (nominal, horizon): (i64, i64),
    lives: &BTreeMap<String, Life>,
    records: &Records,
) -> Option<String> {
    let job = op.ask.v["job"].as_str().unwrap_or_default();
    let life = lives.get(job);
    let Some(reason) = reason else {
        return Some("it should have ended long ago".to_owned());
    };
    if !REASONS.contains(&reason) {
        return Some("this is no reason of the closed list".to_owned());
    }
    let is_paused = |job: &str| {
        let life = lives.get(job);
        life.is_some_and(|life| life.possible(op.ask.utc).iter().any(|meant| meant.is_paused()))
    };
    let is_frozen =
        || life.is_some_and(|life| life.possible(op.ask.utc).iter().any(|meant| meant.frozen));
    let upstream = || {
        let meant = life.into_iter().flat_map(|life| life.possible(op.ask.utc));
        meant.flat_map(|meant| meant.depends_on.iter()).map(String::as_str).collect::<Vec<_>>()
    };
    let state = |job: &str, at: i64| records.actions.get(job).and_then(|all| all.get(&at));
    let own = records.details.get(job).and_then(|all| all.get(&nominal));
    // What it names, which `dependencies` judges; where nobody read that, the same instant.
    let named = own.into_iter().flat_map(|own| &own.upstream);
    let named: Vec<(&str, i64)> =
        named.filter_map(|up| Some((up.job.as_str(), up.nominal?))).collect();
    let waits_for: Vec<(&str, i64)> = if named.is_empty() {
        upstream().into_iter().map(|up| (up, nominal)).collect()
    } else {
        named
    };
    let has = |what: &[&str]| {
        let mut all = waits_for.iter().filter_map(|(job, at)| state(job, *at));
        all.any(|state| what.contains(&state.as_str()))
    };
    // An edge that found none may have to wait, and what is not due yet is waited for.
    let waits_in_vain = own.is_some_and(|own| own.upstream.iter().any(|up| up.no_match == "wait"));
    let is_ahead = waits_for.iter().any(|(_, at)| *at > horizon);
    let is_true = match reason {
        "paused" => is_paused(job),
        "frozen" => is_frozen(),
        "upstream_paused" => upstream().iter().any(|up| is_paused(up)),
        // What was open when it was read may have failed before the reason was asked
        // for; an open one is judged itself.
        "upstream_failed" => {
            f == "open-action"
                && has(&["failed", "cancelled", "planned", "waiting", "ready", "running"])
        }
        // It waits for one that waits itself, whose reason is judged too.
        "upstream" => has(&["waiting", "ready", "running"]) || waits_in_vain || is_ahead,
        // All others pass by themselves on a healthy cluster, and had the time to.
        _ => false,
    };
    (!is_true).then(|| "the reason is not true, or had to pass".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::Verdict;
    use super::super::planted::{BASE_UTC, Planted};
    use super::*;
    use crate::history::Kind;

    const AT: &str = "2026-11-21T10:00:05Z";

    fn judged(planted: &mut Planted) -> Checked {
        let utc = json!({"utc": BASE_UTC + 20_000});
        planted.op(20_000, Some(20_001), "horizon", "", json!(null), Kind::Ok, utc);
        let evidence = planted.evidence();
        check(&evidence, &Records::of(&evidence))
    }

    fn open(planted: &mut Planted, f: &str, state: &str, reason: Value) {
        let v = json!({"job": "j", "nominal": AT});
        let told = json!({"state": state, "reason": reason});
        planted.op(30_000, Some(30_001), f, "x", v, Kind::Ok, told);
    }

    fn apply(planted: &mut Planted) {
        let job = json!({"definition": {"name": "j", "depends_on": ["up"]}});
        planted.op(1, Some(2), "apply", "j", job, Kind::Ok, json!({}));
    }

    fn upstream_is(planted: &mut Planted, state: &str) {
        let actions = json!([{"nominal": AT, "state": state}]);
        planted.op(31_000, Some(31_001), "final-actions", "up", json!(null), Kind::Ok, actions);
    }

    #[test]
    fn true_reasons_are_accepted() {
        let mut planted = Planted::new();
        apply(&mut planted);
        open(&mut planted, "open-action", "waiting", json!("upstream_failed"));
        upstream_is(&mut planted, "failed");
        assert_eq!(judged(&mut planted).verdict, Verdict::Valid);
        let mut planted = Planted::new();
        apply(&mut planted);
        planted.op(3, Some(4), "pause", "j", json!({}), Kind::Ok, json!(null));
        open(&mut planted, "open-run", "queued", json!("paused"));
        assert_eq!(judged(&mut planted).verdict, Verdict::Valid);
        // It failed between two reads.
        let mut planted = Planted::new();
        apply(&mut planted);
        open(&mut planted, "open-action", "waiting", json!("upstream_failed"));
        upstream_is(&mut planted, "running");
        assert_eq!(judged(&mut planted).verdict, Verdict::Valid);
        // Over at the second look.
        let mut planted = Planted::new();
        open(&mut planted, "open-run", "queued", json!("queue"));
        open(&mut planted, "open-run", "success", json!(null));
        assert_eq!(judged(&mut planted).verdict, Verdict::Valid);
    }

    #[test]
    fn reasons_that_are_not_true_are_found() {
        let cases = [
            ("open-run", "running", json!(null)),
            ("open-run", "queued", json!("dispatching")),
            ("open-run", "queued", json!("no_worker")),
            ("open-run", "queued", json!("paused")),
            ("open-run", "queued", json!("bad luck")),
            ("open-action", "waiting", json!("upstream_failed")),
            ("open-action", "waiting", json!("upstream")),
        ];
        for (f, state, reason) in cases {
            let mut planted = Planted::new();
            apply(&mut planted);
            upstream_is(&mut planted, "success");
            open(&mut planted, f, state, reason.clone());
            assert_eq!(judged(&mut planted).counted("stuck"), 1, "{f} {state} {reason}");
        }
    }

    #[test]
    fn a_test_that_did_not_end_says_nothing() {
        let evidence = Planted::new().evidence();
        assert_eq!(check(&evidence, &Records::of(&evidence)).verdict, Verdict::Unknown);
    }
}
