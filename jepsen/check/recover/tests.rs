//! Histories made by hand, right ones and wrong ones, for each rule of the checker.

use serde_json::{Value, json};

use super::super::planted::{BASE_UTC, Planted};
use super::*;
use crate::store::Said;

/// One instant of `rec-1`, whose left job fails at first, at 10 s.
struct Case {
    planted: Planted,
    runs: Vec<Value>,
    tree: &'static str,
    last: u64,
}

const NOMINAL: i64 = 10_000;

impl Case {
    fn new(tree: &'static str) -> Self {
        let mut planted = Planted::new();
        let job = |(node, ups): &(&str, &[&str])| {
            let ups: Vec<String> = ups.iter().map(|up| format!("{tree}-{up}")).collect();
            json!({"name": format!("{tree}-{node}"), "depends_on": ups})
        };
        let jobs = json!({"jobs": NODES.iter().map(job).collect::<Vec<_>>()});
        planted.op(1_000, Some(1_010), "apply-set", "x", jobs, Kind::Ok, json!({}));
        Self { planted, runs: Vec::new(), tree, last: 0 }
    }

    /// A run of 100 ms.
    fn ran(mut self, node: &str, kind: &str, at: i64, good: bool) -> Self {
        self.last += 1;
        let (job, number) = (format!("{}-{node}", self.tree), self.last);
        self.planted.line(at, Said::Start, &job, Some(NOMINAL), number, 1);
        let end = self.planted.line(at + 100, Said::End, &job, Some(NOMINAL), number, 1);
        end.exit = Some(if good { 0 } else { 9 });
        let state = if good { "success" } else { "failed" };
        self.runs.push(json!({"id": format!("r-{number}"), "job": job, "kind": kind,
            "state": state, "nominal": shown(BASE_UTC + NOMINAL), "action": "x@x",
            "attempts": [{"number": 1, "end": {"how": "exited", "code": 9}}]}));
        self
    }

    fn asked(mut self, op: &str, node: &str, at: i64, run: u64) -> Self {
        let k = format!("{}-{node}@20261121T100010Z", self.tree);
        let key = json!({"key": format!("{op}-{at}")});
        let run = json!({"run": format!("r-{run}")});
        self.planted.op(at, Some(at + 10), op, &k, key, Kind::Ok, run);
        self
    }

    fn found(mut self) -> Vec<String> {
        let utc = json!({"utc": BASE_UTC + 30_000});
        self.planted.op(30_000, Some(30_001), "horizon", "", json!(null), Kind::Ok, utc);
        let runs = json!(self.runs);
        self.planted.op(30_002, Some(30_003), "runs", "", json!(null), Kind::Ok, runs);
        let evidence = self.planted.evidence();
        let checked = check(&evidence, &Records::of(&evidence));
        checked.findings.into_iter().map(|finding| finding.what).collect()
    }

    /// Root, left that fails, and right.
    fn failed() -> Self {
        let case = Self::new("rec-1").ran("root", "schedule", 10_000, true);
        case.ran("left", "dependency", 10_200, false).ran("right", "dependency", 10_210, true)
    }
}

const NONE: [&str; 0] = [];

fn recovered() -> Case {
    let case = Case::failed().asked("recover", "left", 12_000, 4);
    case.ran("left", "recover", 12_100, true).ran("join", "dependency", 12_300, true)
}

#[test]
fn what_is_told_once_and_in_order_is_accepted() {
    assert_eq!(Case::failed().found(), NONE);
    assert_eq!(recovered().ran("leaf", "dependency", 12_500, true).found(), NONE);
}

#[test]
fn each_breach_of_a_recovery_is_found() {
    assert_eq!(recovered().found(), ["not told"]);
    let twice = recovered().ran("leaf", "dependency", 12_500, true);
    assert_eq!(twice.ran("right", "recover", 12_600, true).found(), ["ran too often"]);
    let early = Case::failed().asked("recover", "left", 12_000, 4);
    let early = early.ran("left", "recover", 12_100, true).ran("join", "dependency", 12_150, true);
    assert_eq!(early.ran("leaf", "dependency", 12_500, true).found(), ["before what it follows"]);
    let kind = recovered().ran("leaf", "schedule", 12_500, true);
    assert_eq!(kind.found(), ["another run"]);
    // A manual run that told its dependants.
    let told = Case::failed().ran("join", "dependency", 13_000, true);
    assert_eq!(told.found(), ["ran too often"]);
    let other = Case::failed().asked("recover", "left", 12_000, 1);
    assert!(other.found().contains(&"another run".to_owned()));
}

#[test]
fn a_recovery_of_all_below_that_visits_twice_is_found() {
    let again = |kind| {
        let case = Case::failed().asked("super-recover", "left", 12_000, 4);
        let case = case.ran("left", kind, 12_100, true).ran("join", "super_recover", 12_300, true);
        case.ran("leaf", "super_recover", 12_500, true)
    };
    assert_eq!(again("super_recover").found(), NONE);
    let twice = again("super_recover").ran("leaf", "super_recover", 12_700, true);
    assert_eq!(twice.found(), ["ran too often"]);
    let restless = |times: usize| {
        let case = Case::new(RESTLESS).ran("root", "schedule", 10_000, true);
        let case = case.asked("super-recover", "root", 12_000, 2);
        (0..times).fold(case, |case, n| {
            case.ran("root", "super_recover", 12_100 + 200 * i64::try_from(n).unwrap(), true)
        })
    };
    assert_eq!(restless(1).found(), NONE);
    assert_eq!(restless(2).found(), ["ran too often"]);
}

#[test]
fn two_runs_of_one_action_at_once_are_found() {
    let case = Case::new(RESTLESS).ran("root", "schedule", 10_000, true);
    let case = case.asked("recover", "root", 10_020, 2).ran("root", "recover", 10_050, true);
    assert_eq!(case.found(), ["two at once"]);
}
