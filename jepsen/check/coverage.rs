//! Whether a test was worth anything: the evidence is whole, the faults that were
//! asked for were there and did what they are for, the clients got something done
//! meanwhile, and no process panicked.

use std::collections::{BTreeMap, BTreeSet};

use super::Checked;
use crate::store::{Evidence, Stage};

/// So many lines of jobs may be cut short, and one in a hundred.
const FEW: usize = 20;

/// Marks of a process that ended by its own fault.
const PANICS: [&str; 3] = ["panicked at", "fatal runtime error", "stack overflow"];

/// What each workload must have done at least once in its main phase.
const MUST_SUCCEED: [(&str, &[&str]); 9] = [
    ("cron-fires", &["apply"]),
    ("set", &["add", "read"]),
    ("lock", &["acquire", "release", "access"]),
    ("register", &["reg-read", "reg-write", "reg-cas"]),
    ("dag", &[]),
    ("retries", &[]),
    ("cancel", &["trigger", "cancel"]),
    ("logs", &["trigger", "tail"]),
    ("api-fuzz", &["fuzz"]),
];

/// The verdict.
pub(crate) fn check(evidence: &Evidence) -> Checked {
    let promise = "the evidence is whole, the faults were there, and no process panicked";
    let mut checked = Checked::new("coverage", promise);
    if !evidence.test.harness_error.is_empty() {
        checked.damaged(evidence.test.harness_error.clone());
    }
    if !evidence.test.busy.is_empty() {
        checked.unknown(evidence.test.busy.clone());
    }
    checked.count("lines cut short by kills", evidence.cut);
    if evidence.cut > FEW + evidence.witness.len() / 100 {
        checked.damaged(format!("{} lines of jobs are cut short", evidence.cut));
    }
    for line in evidence.damaged.iter().take(10) {
        checked.damaged(line.clone());
    }
    if evidence.ops.is_empty() {
        checked.damaged("there is no history");
    }
    judge_faults(&mut checked, evidence);
    judge_leaders(&mut checked, evidence);
    judge_operations(&mut checked, evidence);
    judge_exits(&mut checked, evidence);
    for (name, log) in &evidence.logs {
        for line in log.lines().filter(|line| PANICS.iter().any(|mark| line.contains(mark))) {
            let told: String = line.chars().take(300).collect();
            checked.wrong("panic", name, told, 0);
        }
    }
    checked
}

/// Processes that ended without a fault of ours, or did not start again after a kill
/// or a power cut. On a disk that cannot be written nobody can start.
fn judge_exits(checked: &mut Checked, evidence: &Evidence) {
    let exits = ["node-exit", "node-refused", "worker-exit"];
    let rows = evidence.faults.iter().filter(|row| row.stage == Stage::Installed);
    for row in rows.filter(|row| exits.contains(&row.op.as_str())) {
        let who = row.args["who"][0].as_str().unwrap_or_default();
        if row.op == "node-refused" && has_no_disk(evidence, who, row.t) {
            checked.count("refused while their disks were broken", 1);
            continue;
        }
        checked.wrong(&row.op, who, row.detail.to_string(), row.t);
    }
}

fn has_no_disk(evidence: &Evidence, who: &str, t: u64) -> bool {
    let broken = ["disk-readonly", "disk-dead"];
    let mut bands = evidence.bands.iter().filter(|band| broken.contains(&band.op.as_str()));
    bands.any(|band| {
        let is_of = band.args["who"].as_array().is_some_and(|all| all.iter().any(|n| n == who));
        is_of && band.from <= t && t <= band.to
    })
}

fn judge_faults(checked: &mut Checked, evidence: &Evidence) {
    let mut installed: BTreeMap<&str, i64> = BTreeMap::new();
    for band in evidence.bands.iter().filter(|band| band.installed) {
        *installed.entry(&band.op).or_default() += 1;
    }
    for (op, times) in &installed {
        checked.count(&format!("installed {op}"), *times);
    }
    let test = &evidence.test;
    // What was asked for by name, where nothing more exact is required.
    let required: &Vec<String> =
        if test.required.is_empty() { &test.nemesis } else { &test.required };
    let is_there = |kind: &str| installed.keys().any(|op| op.starts_with(kind));
    for kind in required.iter().filter(|kind| *kind != "none" && !is_there(kind)) {
        let skipped = evidence.faults.iter().find(|fault| {
            fault.op.starts_with(kind.as_str())
                && matches!(fault.stage, Stage::Skipped | Stage::Indeterminate)
        });
        let why = skipped.map_or_else(String::new, |fault| format!(" ({})", fault.detail));
        checked.unknown(format!("no fault {kind} was installed{why}"));
    }
}

/// Faults after which another node leads, whatever happens.
const DEPOSING: [&str; 2] = ["kill-leader", "kill-all"];

/// Who led was changed about as often as it was asked for.
fn judge_leaders(checked: &mut Checked, evidence: &Evidence) {
    let told = evidence.polls.iter().filter(|poll| poll.ok);
    let seen: BTreeSet<(u64, u64)> =
        told.filter_map(|poll| Some((poll.term, poll.leader?))).collect();
    let changes = seen.len().saturating_sub(1);
    checked.count("changes of the leader", changes);
    let is_one = |op: &str| DEPOSING.contains(&op);
    let asked = evidence.bands.iter().filter(|band| band.installed && is_one(&band.op)).count();
    // Several may fall on one election.
    if changes < asked / 2 {
        checked.unknown(format!("{asked} leaders were killed, and {changes} times another led"));
    }
}

fn judge_operations(checked: &mut Checked, evidence: &Evidence) {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    // Setting up and reading at the end is done while nothing is broken.
    let main = evidence.test.phases.iter().find(|phase| phase.name == "main");
    let is_in_main = |t: u64| main.is_none_or(|main| (main.from..=main.to).contains(&t));
    for op in &evidence.ops {
        checked.count("operations", 1);
        let what = match op.kind() {
            crate::history::Kind::Ok => {
                if is_in_main(op.ask.t) {
                    done.insert(&op.ask.f);
                }
                continue;
            }
            crate::history::Kind::Fail => "operations that failed",
            _ => "operations of unknown outcome",
        };
        checked.count(what, 1);
    }
    for (workload, operations) in MUST_SUCCEED {
        for f in operations.iter().filter(|f| evidence.ran(workload) && !done.contains(*f)) {
            checked.unknown(format!("{workload}: no {f} was done in the main phase"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Verdict;
    use super::super::planted::{Planted, t};
    use super::*;
    use crate::history::Kind;
    use crate::store::{Phase, Poll, bands};

    fn evidence(planted: &Planted) -> Evidence {
        let mut evidence = planted.evidence();
        evidence.test.workloads = vec!["set".to_owned()];
        evidence.test.nemesis = vec!["partition".to_owned()];
        evidence
    }

    fn good() -> Planted {
        let mut planted = Planted::new();
        planted.op(1, Some(2), "add", "set", json!(1), Kind::Ok, json!(1));
        planted.op(3, Some(4), "read", "set", json!(null), Kind::Ok, json!([]));
        planted.fault(5, 9, "partition-ring");
        planted
    }

    #[test]
    fn a_test_that_did_what_it_was_to_do_counts() {
        let checked = check(&evidence(&good()));
        assert_eq!(checked.verdict, Verdict::Valid, "{}", checked.reason);
        assert_eq!(checked.counted("installed partition-ring"), 1);
    }

    #[test]
    fn without_its_faults_or_operations_it_says_nothing() {
        let mut no_fault = evidence(&good());
        no_fault.bands.clear();
        assert_eq!(check(&no_fault).verdict, Verdict::Unknown);
        let mut not_seen = evidence(&good());
        not_seen.bands[0].installed = false;
        assert_eq!(check(&not_seen).verdict, Verdict::Unknown);
        let mut other = evidence(&good());
        other.test.required = vec!["power".to_owned()];
        assert_eq!(check(&other).verdict, Verdict::Unknown);
        let mut idle = evidence(&good());
        idle.test.workloads.push("lock".to_owned());
        assert_eq!(check(&idle).verdict, Verdict::Unknown);
    }

    #[test]
    fn what_was_done_before_anything_was_broken_does_not_count() {
        let mut evidence = evidence(&good());
        let main = |from| Phase { name: "main".to_owned(), from: t(from), to: t(60_000) };
        evidence.test.phases = vec![main(1)];
        assert_eq!(check(&evidence).verdict, Verdict::Valid);
        evidence.test.phases = vec![main(2)];
        let checked = check(&evidence);
        assert_eq!((checked.verdict, checked.reason.contains("no add")), (Verdict::Unknown, true));
    }

    #[test]
    fn leaders_that_were_killed_are_followed_by_others() {
        let mut planted = good();
        for at in [100, 200, 300, 400] {
            planted.fault(at, at + 9, "kill-leader");
        }
        let mut evidence = evidence(&planted);
        let led = |at, term, leader| Poll {
            t: t(at),
            ok: true,
            term,
            leader: Some(leader),
            ..Poll::default()
        };
        evidence.polls = vec![led(90, 1, 1), led(150, 2, 2), led(160, 2, 2)];
        let checked = check(&evidence);
        assert_eq!(checked.verdict, Verdict::Unknown);
        assert_eq!(checked.counted("changes of the leader"), 1);
        evidence.polls.push(led(350, 3, 1));
        assert_eq!(check(&evidence).verdict, Verdict::Valid);
    }

    #[test]
    fn damaged_evidence_is_a_failure_of_the_harness() {
        let mut torn = evidence(&good());
        torn.damaged.push("witness.jsonl:7: torn".to_owned());
        assert_eq!(check(&torn).verdict, Verdict::HarnessFailure);
        let mut broken = evidence(&good());
        broken.test.harness_error = "no disk".to_owned();
        assert_eq!(check(&broken).verdict, Verdict::HarnessFailure);
    }

    #[test]
    fn a_machine_that_was_too_busy_proves_nothing() {
        let mut busy = evidence(&good());
        busy.test.busy = "too busy".to_owned();
        assert_eq!(check(&busy).verdict, Verdict::Unknown);
        assert!(!busy.test.judges_times());
    }

    #[test]
    fn a_panic_is_found() {
        let mut panicked = evidence(&good());
        let log = "INFO ok\nthread 'main' panicked at src/x.rs:1:1:\n".to_owned();
        panicked.logs.insert("n2".to_owned(), log);
        let checked = check(&panicked);
        assert_eq!((checked.verdict, checked.counted("panic")), (Verdict::Invalid, 1));
    }

    #[test]
    fn nobody_starts_on_a_disk_that_is_broken() {
        let wrong = |refused: i64, who: &str| {
            let mut planted = good();
            planted.fault(10, 50, "disk-readonly");
            planted.fault(refused, refused, "node-refused");
            let mut evidence = evidence(&planted);
            for row in &mut evidence.faults {
                let of = if row.op == "node-refused" { who } else { "n1" };
                row.args = json!({"who": [of]});
            }
            evidence.bands = bands(&evidence.faults);
            check(&evidence).counted("node-refused")
        };
        assert_eq!((wrong(30, "n1"), wrong(60, "n1"), wrong(30, "n2")), (0, 1, 1));
    }

    #[test]
    fn processes_that_end_by_themselves_are_found() {
        for op in ["node-exit", "node-refused", "worker-exit"] {
            let mut planted = good();
            planted.fault(6, 7, op);
            let checked = check(&evidence(&planted));
            assert_eq!((checked.verdict, checked.counted(op)), (Verdict::Invalid, 1));
        }
    }
}
