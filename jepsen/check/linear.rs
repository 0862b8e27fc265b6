//! Registers: some order of all operations, each between its question and its
//! answer, explains what every client saw.
//!
//! The search is porcupine's. Beside it a cheap rule that names its case: one
//! revision of one job has one value, for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use porcupine_rs::{CheckResult, Model, Operation};

use super::Checked;
use crate::history::{Kind, Op};
use crate::store::Evidence;

/// How long the search may take for one job.
const SEARCH: Duration = Duration::from_secs(10);
/// A search over more is hopeless.
const MOST: usize = 2_000;

/// A job: revision and value; none before its creation.
type Register = Option<(u64, u64)>;

/// What was asked and seen of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// What stood there.
    Read(Register),
    /// A value, and the revision it got if that is known.
    Write(u64, Option<u64>),
    /// A value in the place of a revision; what it became if that is known.
    Cas { value: u64, expects: u64, got: Option<u64> },
    /// Refused, because another revision stood there.
    Mismatch { expects: u64 },
}

#[derive(Clone)]
struct Job;

impl Model for Job {
    type State = Register;
    type Op = Step;
    type Metadata = ();

    fn init() -> Self::State {
        None
    }

    fn step(state: &Self::State, step: &Self::Op) -> (bool, Self::State) {
        let next = state.map_or(1, |(revision, _)| revision + 1);
        match step {
            Step::Read(seen) => (state == seen, *state),
            Step::Write(value, got) => {
                // The same definition again makes no revision.
                let same = state.filter(|(_, stood)| stood == value).map(|(revision, _)| revision);
                let revision = same.unwrap_or(next);
                (got.is_none_or(|got| got == revision), Some((revision, *value)))
            }
            Step::Cas { value, expects, got } => {
                let fits = state.is_some_and(|(revision, _)| revision == *expects);
                match got {
                    // Nobody knows whether it was in time.
                    None if !fits => (true, *state),
                    _ => (fits && got.is_none_or(|got| got == next), Some((next, *value))),
                }
            }
            Step::Mismatch { expects } => {
                (state.is_none_or(|(revision, _)| revision != *expects), *state)
            }
        }
    }
}

/// The step of an operation; none if it says nothing.
fn step(op: &Op) -> Option<Step> {
    let (asked, result) = (&op.ask.v, op.result());
    let is_gone = |code: &str| {
        op.end.as_ref().and_then(|end| end.err.as_ref()).is_some_and(|why| why.starts_with(code))
    };
    match (op.ask.f.as_str(), op.kind()) {
        ("reg-read", Kind::Ok) => {
            Some(Step::Read(Some((result["revision"].as_u64()?, result["value"].as_u64()?))))
        }
        ("reg-read", Kind::Fail) if is_gone("404") => Some(Step::Read(None)),
        ("reg-write", Kind::Ok) => {
            Some(Step::Write(asked["value"].as_u64()?, result["revision"].as_u64()))
        }
        ("reg-write", Kind::Info) => Some(Step::Write(asked["value"].as_u64()?, None)),
        ("reg-cas", Kind::Ok | Kind::Info) => Some(Step::Cas {
            value: asked["value"].as_u64()?,
            expects: asked["expects"].as_u64()?,
            got: result["revision"].as_u64(),
        }),
        ("reg-cas", Kind::Fail) if is_gone("412") => {
            Some(Step::Mismatch { expects: asked["expects"].as_u64()? })
        }
        _ => None,
    }
}

/// The verdict.
pub(crate) fn check(evidence: &Evidence) -> Checked {
    let promise = "one order of all operations explains what every client saw";
    let mut checked = Checked::new("register", promise);
    for what in ["not linearizable", "two values of one revision"] {
        checked.count(what, 0);
    }
    let mut jobs: BTreeMap<&str, Vec<Operation<Job>>> = BTreeMap::new();
    let mut values: BTreeMap<(&str, u64), u64> = BTreeMap::new();
    for op in evidence.ops.iter().filter(|op| op.ask.f.starts_with("reg-")) {
        let Some(step) = step(op) else { continue };
        checked.count("operations", 1);
        let known = match &step {
            Step::Read(seen) => *seen,
            Step::Write(value, Some(got)) => Some((*got, *value)),
            Step::Cas { value, got: Some(got), .. } => Some((*got, *value)),
            _ => None,
        };
        if let Some((revision, value)) = known {
            let first = *values.entry((&op.ask.k, revision)).or_insert(value);
            if first != value {
                let told = format!("revision {revision} is {first} and {value}");
                checked.wrong("two values of one revision", &op.ask.k, told, op.ask.t);
            }
        }
        jobs.entry(&op.ask.k).or_default().push(Operation {
            client_id: Some(op.ask.p),
            call_time: i64::try_from(op.ask.t).unwrap_or(i64::MAX),
            return_time: i64::try_from(op.known_at()).unwrap_or(i64::MAX),
            op: step,
            metadata: None,
        });
    }
    for (job, history) in &jobs {
        if history.len() > MOST {
            checked.unknown(format!("{job}: {} operations are too many", history.len()));
            continue;
        }
        match porcupine_rs::check_operations_timeout(history, SEARCH) {
            CheckResult::Ok => checked.count("jobs explained", 1),
            CheckResult::Illegal => {
                let told = format!("no order of its {} operations is possible", history.len());
                let t = history.first().and_then(|op| u64::try_from(op.call_time).ok());
                checked.wrong("not linearizable", job, told, t.unwrap_or(0));
            }
            CheckResult::Unknown => {
                checked.unknown(format!("{job}: the search took too long"));
            }
        }
    }
    if checked.counted("operations") < 20 {
        checked.unknown("fewer than 20 operations");
    }
    checked
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::planted::Planted;
    use super::*;

    fn read(planted: &mut Planted, from: i64, revision: u64, value: u64) {
        let seen = json!({"revision": revision, "value": value});
        planted.op(from, Some(from + 10), "reg-read", "r", json!(null), Kind::Ok, seen);
    }

    fn write(planted: &mut Planted, from: i64, value: u64, got: Option<u64>) {
        let kind = if got.is_some() { Kind::Ok } else { Kind::Info };
        let (v, result) = (json!({"value": value}), json!({"revision": got}));
        planted.op(from, Some(from + 10), "reg-write", "r", v, kind, result);
    }

    fn cas(planted: &mut Planted, from: i64, expects: u64, value: u64, got: Option<u64>) {
        let kind = if got.is_some() { Kind::Ok } else { Kind::Info };
        let v = json!({"value": value, "expects": expects});
        let result = json!({"revision": got});
        planted.op(from, Some(from + 10), "reg-cas", "r", v, kind, result);
    }

    fn mismatch(planted: &mut Planted, from: i64, expects: u64) {
        let v = json!({"value": 0, "expects": expects});
        planted.op(from, Some(from + 10), "reg-cas", "r", v, Kind::Fail, json!(null));
        planted.because("412 wrong_revision");
    }

    fn found(planted: &Planted) -> Vec<String> {
        check(&planted.evidence()).findings.into_iter().map(|f| f.what).collect()
    }

    fn good() -> Planted {
        let mut planted = Planted::new();
        write(&mut planted, 0, 5, Some(1));
        read(&mut planted, 20, 1, 5);
        cas(&mut planted, 40, 1, 6, Some(2));
        mismatch(&mut planted, 60, 1);
        // Nobody knows; it shows itself later.
        cas(&mut planted, 80, 2, 7, None);
        read(&mut planted, 100, 2, 6);
        read(&mut planted, 120, 3, 7);
        // Nobody knows, and it never was.
        cas(&mut planted, 140, 1, 9, None);
        write(&mut planted, 160, 8, Some(4));
        planted
    }

    #[test]
    fn what_an_order_explains_is_accepted() {
        assert_eq!(found(&good()), Vec::<String>::new());
    }

    #[test]
    fn a_stale_read_a_lost_and_a_doubled_write_are_found() {
        let mut stale = good();
        read(&mut stale, 200, 3, 7);
        assert_eq!(found(&stale), ["not linearizable"]);
        let mut lost = good();
        cas(&mut lost, 200, 4, 10, Some(5));
        cas(&mut lost, 220, 4, 11, Some(5));
        assert_eq!(found(&lost), ["two values of one revision", "not linearizable"]);
        let mut refused = good();
        mismatch(&mut refused, 200, 4);
        assert_eq!(found(&refused), ["not linearizable"]);
        let mut twice = good();
        read(&mut twice, 200, 5, 8);
        assert_eq!(found(&twice), ["not linearizable"]);
    }

    #[test]
    fn a_job_that_was_there_cannot_be_gone() {
        let mut gone = good();
        gone.op(200, Some(210), "reg-read", "r", json!(null), Kind::Fail, json!(null));
        gone.because("404 not_found");
        assert_eq!(found(&gone), ["not linearizable"]);
    }
}
