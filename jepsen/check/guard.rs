//! Whether the judge judged: every checker that the workloads call for is there, and
//! had something to look at. A checker that was left out finds nothing wrong either.

use super::Checked;
use crate::mutants::harness::{Fault, on};
use crate::store::Evidence;

/// Checkers of every test.
const ALWAYS: [&str; 10] = [
    "coverage", "effects", "fires", "attempts", "ends", "answers", "recovery", "raft", "stuck",
    "finals",
];

/// Checkers that a workload calls for.
const OF_WORKLOADS: [(&str, &str); 14] = [
    ("cron-fires", "misfires"),
    ("cron-fires", "delays"),
    ("cron-fires", "calendars"),
    ("set", "set"),
    ("lock", "locks"),
    ("register", "register"),
    ("dag", "dependencies"),
    ("retries", "retries"),
    ("overlap", "overlap"),
    ("pools", "pools"),
    ("recover", "recover"),
    ("backfill", "backfills"),
    ("cancel", "cancel"),
    ("logs", "logs"),
];

/// What a checker must have counted for its word to mean anything, if a workload ran.
const SEEN: [(&str, &str, &str); 17] = [
    ("cron-fires", "delays", "delays"),
    ("cron-fires", "fires", "expected"),
    ("cron-fires", "attempts", "attempts"),
    ("set", "set", "acknowledged"),
    ("lock", "locks", "grants"),
    ("dag", "dependencies", "edges"),
    ("retries", "retries", "retries"),
    ("overlap", "overlap", "instants"),
    ("pools", "pools", "attempts"),
    ("recover", "recover", "trees judged"),
    ("backfill", "backfills", "instants"),
    ("cancel", "cancel", "cancelled"),
    ("limits", "ends", "killed for their memory"),
    ("limits", "ends", "held to their processes"),
    ("limits", "ends", "within their limits"),
    ("logs", "logs", "attempts acknowledged"),
    ("logs", "logs", "attempts compared on all nodes"),
];

/// The verdict on the judges themselves.
pub(super) fn check(evidence: &Evidence, checkers: &mut Vec<Checked>) -> Checked {
    let promise = "every promise that the test is about was looked at";
    if on(Fault::CheckerOff) {
        checkers.retain(|checked| checked.name != "fires");
    }
    if on(Fault::CheckerBlind) {
        for checked in checkers.iter_mut().filter(|checked| checked.name == "fires") {
            *checked = Checked::new("fires", promise);
        }
    }
    let mut judged = Checked::new("judges", promise);
    let wanted = OF_WORKLOADS.iter().filter(|(workload, _)| evidence.ran(workload));
    let wanted = ALWAYS.into_iter().chain(wanted.map(|(_, name)| *name));
    for name in wanted.filter(|name| checkers.iter().all(|checked| checked.name != *name)) {
        judged.unknown(format!("nobody looked at {name}"));
    }
    for (workload, name, what) in SEEN.into_iter().filter(|seen| evidence.ran(seen.0)) {
        let blind = |checked: &&Checked| {
            checked.name == name && checked.counts.get(what).copied().unwrap_or(0) == 0
        };
        if checkers.iter().any(|checked| blind(&checked)) {
            judged.unknown(format!("{name}: no {what} of {workload} was looked at"));
        }
    }
    judged.count("checkers", i64::try_from(checkers.len()).unwrap_or(i64::MAX));
    judged
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn evidence(workloads: &[&str]) -> Evidence {
        let mut evidence = Evidence::default();
        evidence.test.workloads = workloads.iter().map(|name| (*name).to_owned()).collect();
        evidence
    }

    fn checkers() -> Vec<Checked> {
        let mut all: Vec<Checked> = ALWAYS
            .iter()
            .chain(&["set", "misfires", "delays", "calendars"])
            .map(|name| Checked::new(name, ""))
            .collect();
        for checked in &mut all {
            for (_, name, what) in SEEN {
                if checked.name == name {
                    checked.count(what, 3);
                }
            }
        }
        all
    }

    #[test]
    fn judges_that_looked_are_believed() {
        let judged = check(&evidence(&["cron-fires", "set"]), &mut checkers());
        assert_eq!(judged.verdict, Verdict::Valid, "{}", judged.reason);
    }

    #[test]
    fn a_judge_that_is_missing_or_blind_makes_the_test_unknown() {
        let test = evidence(&["cron-fires", "set"]);
        for at in 0..checkers().len() {
            let mut few = checkers();
            let gone = few.remove(at);
            assert_eq!(check(&test, &mut few).verdict, Verdict::Unknown, "{}", gone.name);
        }
        for (_, name, what) in SEEN.into_iter().filter(|seen| test.ran(seen.0)) {
            let mut blind = checkers();
            let checked = blind.iter_mut().find(|checked| checked.name == name).unwrap();
            checked.counts.insert(what.to_owned(), 0);
            assert_eq!(check(&test, &mut blind).verdict, Verdict::Unknown, "{name}");
        }
        let quiet = evidence(&["set"]);
        assert_eq!(check(&quiet, &mut checkers()).verdict, Verdict::Valid);
    }
}
