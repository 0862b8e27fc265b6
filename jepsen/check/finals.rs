//! Everything was read at the end: what nobody could read is no evidence, and those who
//! judge by it would find nothing wrong in it either.

use std::collections::BTreeMap;

use super::Checked;
use crate::history::Op;
use crate::store::Evidence;

/// Reads that are tried until one is answered, or asked twice: of each of their keys one
/// must have been.
const READS: [&str; 7] = [
    "final-workers",
    "final-locks",
    "final-jobs",
    "final-missed",
    "final-actions",
    "open-run",
    "open-action",
];

/// The verdict.
pub(crate) fn check(evidence: &Evidence) -> Checked {
    let promise = "everything could be read when the test was over";
    let mut checked = Checked::new("finals", promise);
    let Some(horizon) = evidence.ops_of("horizon").last() else {
        checked.unknown("the test did not come to its end");
        return checked;
    };
    let after = |f| evidence.ops_of(f).filter(|op| op.ask.i > horizon.ask.i);
    // What is open is known from the last look at runs: an earlier one may be of a time
    // when others were open.
    match after("runs").last() {
        Some(op) if !op.is_ok() => checked.unknown(format!("the last look at runs {}", why(op))),
        Some(_) => checked.count("looks at runs", after("runs").filter(|op| op.is_ok()).count()),
        None => checked.unknown("nobody looked at runs when the test was over"),
    }
    for f in READS {
        let mut read: BTreeMap<&str, (bool, &Op)> = BTreeMap::new();
        for op in after(f) {
            let known = read.entry(&op.ask.k).or_insert((false, op));
            *known = (known.0 || op.is_ok(), op);
        }
        checked.count("reads", read.values().filter(|(was_read, _)| *was_read).count());
        for (key, (_, op)) in read.iter().filter(|(_, (was_read, _))| !was_read) {
            checked.count("reads in vain", 1);
            checked.unknown(format!("{f} {key} {}", why(op)));
        }
        if f == "final-jobs" && read.is_empty() {
            checked.unknown("nobody read the jobs when the test was over");
        }
    }
    checked
}

fn why(op: &Op) -> String {
    let why = op.end.as_ref().and_then(|end| end.err.as_deref()).unwrap_or("no answer");
    format!("was not answered: {why}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Verdict;
    use super::super::planted::Planted;
    use super::*;
    use crate::history::Kind;

    /// The reads of a whole test; those of this name are answered so, one by one.
    fn verdict(f: &str, answers: &[Kind]) -> Verdict {
        let mut planted = Planted::new();
        let mut read = |f: &str, k: &str, kind: Kind| {
            planted.op(1_000, Some(1_001), f, k, json!(null), kind, json!([]));
        };
        read("runs", "", Kind::Fail);
        read("horizon", "", Kind::Ok);
        for (name, key) in [
            ("runs", ""),
            ("final-jobs", ""),
            ("final-missed", "j"),
            ("final-missed", "k"),
            ("final-actions", "j"),
            ("open-run", "r-1"),
        ] {
            let all: &[Kind] = if name == f { answers } else { &[Kind::Ok] };
            all.iter().for_each(|kind| read(name, key, *kind));
        }
        check(&planted.evidence()).verdict
    }

    #[test]
    fn what_nobody_could_read_makes_a_test_unknown() {
        assert_eq!(verdict("", &[]), Verdict::Valid);
        for f in ["runs", "final-jobs", "final-missed", "final-actions", "open-run"] {
            assert_eq!(verdict(f, &[Kind::Fail, Kind::Ok]), Verdict::Valid, "{f}");
            assert_eq!(verdict(f, &[Kind::Fail, Kind::Info]), Verdict::Unknown, "{f}");
        }
        // Read once, it is known; but who looked at runs last saw nothing.
        assert_eq!(verdict("final-missed", &[Kind::Ok, Kind::Fail]), Verdict::Valid);
        assert_eq!(verdict("runs", &[Kind::Ok, Kind::Fail]), Verdict::Unknown);
        for f in ["runs", "final-jobs"] {
            assert_eq!(verdict(f, &[]), Verdict::Unknown, "{f}");
        }
    }

    #[test]
    fn a_test_that_did_not_end_says_nothing() {
        assert_eq!(check(&Planted::new().evidence()).verdict, Verdict::Unknown);
    }
}
