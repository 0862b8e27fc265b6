//! Ends that a job did not choose: it is killed for its limits if it oversteps them and only
//! then, and an attempt is given back only by a worker that could not take it.

use super::Checked;
use super::claims::millis_of;
use super::records::{AttemptRecord, Records, RunRecord};
use crate::store::Evidence;
use crate::workload::{LIMITS_MEMORY, LIMITS_PIDS, LIMITS_REFUSED, LIMITS_WITHIN};

/// Faults under which a worker may be unable to begin anything.
const NO_ROOM: [&str; 3] = ["journal-full", "journal-hung", "worker-pids"];
/// An order may have met a fault so long before its attempt was over; clocks may be off, too.
const NEAR_MS: u64 = 15_000;

/// The verdict.
pub(super) fn check(evidence: &Evidence, records: &Records) -> Checked {
    let promise = "limits end what oversteps them and nothing else; what is given back had no room";
    let mut checked = Checked::new("ends", promise);
    for what in ["killed within its limits", "limit not kept", "given back without a reason"] {
        checked.count(what, 0);
    }
    for run in records.runs.values() {
        for attempt in &run.attempts {
            judge(&mut checked, evidence, run, attempt);
        }
    }
    checked
}

fn judge(checked: &mut Checked, evidence: &Evidence, run: &RunRecord, attempt: &AttemptRecord) {
    let AttemptRecord { how, worker, code, .. } = attempt;
    let id = format!("{}.{}", run.id, attempt.number);
    let at = attempt.over.map_or(0, |over| evidence.mono_of_utc(over));
    let job = run.job.as_str();
    let is_own = ["exited", "signaled"].contains(&how.as_str());
    match how.as_str() {
        "oom_killed" if job == LIMITS_MEMORY => checked.count("killed for their memory", 1),
        "oom_killed" | "limits_unsupported" => {
            let told = format!("{job} on {worker} ended as {how}");
            checked.wrong("killed within its limits", id, told, at);
        }
        "declined" => {
            checked.count("given back", 1);
            if !had_no_room(evidence, attempt) {
                let told = format!("{job}: {worker} had room, and said: {}", attempt.message);
                checked.wrong("given back without a reason", id, told, at);
            }
        }
        _ if job == LIMITS_MEMORY && is_own => {
            let told = format!("it took more memory than it may have, and {how} {code:?}");
            checked.wrong("limit not kept", id, told, at);
        }
        _ if job == LIMITS_PIDS && is_own => {
            if *code == Some(LIMITS_REFUSED) && attempt.refused_forks > 0 {
                checked.count("held to their processes", 1);
                return;
            }
            let refused = attempt.refused_forks;
            let told = format!("it {how} {code:?}, and {refused} processes were refused");
            checked.wrong("limit not kept", id, told, at);
        }
        _ if job == LIMITS_WITHIN && is_own => {
            checked.count("within their limits", 1);
            // Where its worker may begin no process, it may not either.
            if *code != Some(0) && !had_no_room(evidence, attempt) {
                let told = format!("it {how} {code:?}");
                checked.wrong("killed within its limits", id, told, at);
            }
        }
        _ => {}
    }
}

fn had_no_room(evidence: &Evidence, attempt: &AttemptRecord) -> bool {
    let near = millis_of(NEAR_MS);
    let from = attempt.given.map_or(i64::MIN, |given| given.saturating_sub(near));
    let to = attempt.over.map_or(i64::MAX, |over| over.saturating_add(near));
    let (from, to) = (evidence.mono_of_utc(from), evidence.mono_of_utc(to));
    // By clocks that lie nobody can say when it was.
    let is_near =
        |from_to: (u64, u64)| evidence.has_fault("clock") || from_to.0 <= to && from_to.1 >= from;
    evidence.bands.iter().any(|band| {
        NO_ROOM.contains(&band.op.as_str())
            && band.hits(&attempt.worker)
            && is_near((band.from, band.to))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::planted::{BASE_UTC, Planted};
    use super::*;
    use crate::history::Kind;
    use crate::time::shown;

    /// An attempt on `w1` that was given at 40 s and ended at once.
    fn found(planted: &mut Planted, job: &str, end: Value, refused: u64) -> Vec<String> {
        let at = shown(BASE_UTC + 40_000);
        let mut end = end;
        end["at"] = json!(at);
        let run = json!([{"id": "r-1", "job": job, "state": "failed", "nominal": at,
            "attempts": [{"number": 1, "token": 1, "worker": "w1", "dispatched": at, "end": end,
                "usage": {"refused_forks": refused}}]}]);
        planted.op(1, Some(2), "x", "", json!(null), Kind::Ok, json!(null));
        planted.op(90_000, Some(90_001), "runs", "", json!(null), Kind::Ok, run);
        let evidence = planted.evidence();
        let checked = check(&evidence, &Records::of(&evidence));
        checked.findings.into_iter().map(|finding| finding.what).collect()
    }

    fn ended(job: &str, end: Value, refused: u64) -> Vec<String> {
        found(&mut Planted::new(), job, end, refused)
    }

    #[test]
    fn limits_end_what_oversteps_them_and_nothing_else() {
        let oom = || json!({"how": "oom_killed"});
        let exited = |code: i64| json!({"how": "exited", "code": code});
        assert!(ended(LIMITS_MEMORY, oom(), 0).is_empty());
        assert_eq!(ended(LIMITS_MEMORY, exited(0), 0), ["limit not kept"]);
        assert_eq!(ended(LIMITS_MEMORY, json!({"how": "signaled"}), 0), ["limit not kept"]);
        assert!(ended(LIMITS_MEMORY, json!({"how": "worker_lost"}), 0).is_empty());
        assert!(ended(LIMITS_PIDS, exited(LIMITS_REFUSED), 12).is_empty());
        assert_eq!(ended(LIMITS_PIDS, exited(LIMITS_REFUSED), 0), ["limit not kept"], "not told");
        assert_eq!(ended(LIMITS_PIDS, exited(0), 0), ["limit not kept"]);
        assert!(ended(LIMITS_WITHIN, exited(0), 0).is_empty());
        for other in [LIMITS_WITHIN, "j"] {
            assert_eq!(ended(other, oom(), 0), ["killed within its limits"], "{other}");
        }
        assert_eq!(
            ended("j", json!({"how": "limits_unsupported"}), 0),
            ["killed within its limits"]
        );
        assert!(ended("j", exited(7), 0).is_empty());
    }

    #[test]
    fn what_is_given_back_had_no_room() {
        let declined = |op: &str, who: &str, from: i64| {
            let mut planted = Planted::new();
            planted.fault_on(from, Some(from + 5_000), op, json!({"who": [who]}));
            found(&mut planted, "j", json!({"how": "declined", "message": "full"}), 0)
        };
        let wrong = ["given back without a reason"];
        for op in NO_ROOM {
            assert!(declined(op, "w1", 36_000).is_empty(), "{op}");
            assert!(declined(op, "w1", 28_000).is_empty(), "{op}: just before");
            assert_eq!(declined(op, "w1", 10_000), wrong, "{op}: long before");
            assert_eq!(declined(op, "w2", 36_000), wrong, "{op}: another worker");
        }
        assert_eq!(declined("worker-kill", "w1", 36_000), wrong);
    }
}
