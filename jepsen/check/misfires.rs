//! What was left out was to be left out, and is recorded: by the policy of its trigger
//! after an outage or a pause, or because a pause was to be passed over.
//!
//! A record excuses an instant only if the record itself is right: of instants that
//! there were, as many as it says, old enough, and as the policy says.

use std::collections::{BTreeMap, BTreeSet};

use super::Checked;
use super::claims::{Claim, earliest, edge, millis_of};
use super::fires::Fires;
use super::records::{MissedRecord, Records};
use super::timeline::{Life, lives};
use crate::rules::Policy;
use crate::store::Evidence;
use crate::time::shown;

/// More late instants than this are left out by every policy, and so are older ones.
const MOST: usize = 1_000;
const OLDEST_MS: i64 = 86_400_000;

/// The verdict.
pub(crate) fn check(evidence: &Evidence, records: &Records, fires: &Fires) -> Checked {
    let promise = "what was left out was to be left out, and is recorded";
    let mut checked = Checked::new("misfires", promise);
    for what in ["in spite of the policy", "false record", "not recorded", "left out"] {
        checked.count(what, 0);
    }
    let Some(lives) = checked.taken(lives(evidence)) else { return checked };
    let empty = BTreeMap::new();
    for (job, life) in &lives {
        let claims = fires.claims.get(job).unwrap_or(&empty);
        judge_runs(&mut checked, fires, job, claims, evidence);
        // Of jobs that are gone nothing was read.
        if !records.missed.contains_key(job) {
            continue;
        }
        judge_pauses(&mut checked, records, job, life, evidence);
        for (trigger, claims) in claims {
            for record in records.missed_of(job, trigger, "misfire") {
                checked.count("ranges of misfires", 1);
                checked.count("left out", record.count.unwrap_or(0));
                if let Some(fault) = fault_of(record, claims, evidence) {
                    let told = format!(
                        "{trigger}: {} to {}, {} of them: {fault}",
                        shown(record.from),
                        shown(record.to),
                        record.count.unwrap_or(0)
                    );
                    checked.wrong("false record", job, told, evidence.mono_of_utc(record.at));
                }
            }
        }
    }
    checked
}

/// What passed in a pause long before its end ran after it only if a policy says so.
fn judge_runs(
    checked: &mut Checked,
    fires: &Fires,
    job: &str,
    claims: &BTreeMap<String, BTreeMap<i64, Claim>>,
    evidence: &Evidence,
) {
    let never: BTreeSet<i64> = claims
        .values()
        .flat_map(|of| of.iter().filter(|(_, claim)| claim.never).map(|(at, _)| *at))
        .filter(|at| claims.values().filter_map(|of| of.get(at)).all(|claim| claim.never))
        .collect();
    checked.count("instants that no policy runs", never.len());
    let Some(of) = fires.jobs.get(job) else { return };
    for start in of.starts.iter().filter(|start| never.contains(&start.nominal)) {
        let told = format!("{} ran for {}", start.run, shown(start.nominal));
        checked.wrong("in spite of the policy", job, told, evidence.mono_of_utc(start.at));
    }
}

/// What a pause was to pass over is in a range.
fn judge_pauses(
    checked: &mut Checked,
    records: &Records,
    job: &str,
    life: &Life,
    evidence: &Evidence,
) {
    // A delay is counted from the end of what ran when the pause began.
    let left_out = life.spans.left_out.iter().filter(|_| !life.has_delay());
    for left in left_out {
        // Of a pause that may have lasted for no time there need be nothing.
        let from = left.from.to.saturating_add(edge(evidence));
        // By cluster time, which may be behind, it ended earlier.
        let to = earliest(evidence, left.to.from, left.to.to);
        if from >= to || !left.to.is_known() {
            continue;
        }
        checked.count("pauses passed over", 1);
        let mut ranges = records.missed_of(job, &left.trigger, "paused");
        if !ranges.any(|range| range.from <= from && range.to >= to) {
            let told = format!(
                "{}: no range from {} to {} in which it was paused",
                left.trigger,
                shown(from),
                shown(to)
            );
            checked.wrong("not recorded", job, told, evidence.mono_of_utc(to));
        }
    }
}

/// What is wrong with a range, if anything is.
fn fault_of(
    record: &MissedRecord,
    claims: &BTreeMap<i64, Claim>,
    evidence: &Evidence,
) -> Option<String> {
    let misfire = millis_of(evidence.test.misfire_after_ms);
    if record.at - record.to <= misfire {
        return Some(format!("the last one was only {} ms old", record.at - record.to));
    }
    let within = || claims.range(record.from..=record.to);
    let policy = within().next().map(|(_, claim)| claim.policy)?;
    let (least, most) = (within().filter(|(_, c)| c.sure || c.never).count(), within().count());
    let count = record.count.and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    if !(least..=most).contains(&count) {
        return Some(format!("there were {least} to {most} instants"));
    }
    // Those that were as late and not left out.
    let last = record.at - misfire - 1;
    let later = |sure: bool| {
        let later = claims.range(record.to + 1..=last.max(record.to));
        later.filter(|(_, claim)| !sure || claim.sure || claim.never).count()
    };
    let (least, most) = (later(true), later(false));
    match policy {
        Policy::All if record.at - record.to > OLDEST_MS || most >= MOST => None,
        Policy::All => Some("the policy is to run all".to_owned()),
        Policy::Now if most == 0 => Some("the policy is to run the latest".to_owned()),
        Policy::Now if least > 1 => Some(format!("{least} later ones were left to run")),
        Policy::Skip if least > 0 => Some(format!("{least} later ones were left to run")),
        Policy::Now | Policy::Skip => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::Verdict;
    use super::super::planted::{BASE_UTC, Planted};
    use super::*;
    use crate::history::Kind;
    use crate::store::Said;

    /// A job that fires every second, paused from 5.5 to 20.5 s, with a misfire after
    /// 5 s; `runs` are the seconds that it ran for, `ranges` what was recorded.
    fn judged(policy: &str, missed: &str, runs: &[i64], ranges: &Value) -> (Vec<String>, Verdict) {
        let mut planted = Planted::new();
        let trigger = json!({"name": "t", "cron": "* * * * * ?", "misfire": policy});
        let job = json!({"definition": {"name": "j", "triggers": [trigger]}, "key": "a"});
        planted.op(1_000, Some(1_010), "apply", "j", job, Kind::Ok, json!({}));
        planted.op(5_500, Some(5_510), "pause", "j", json!({"key": "p"}), Kind::Ok, json!(null));
        let resume = json!({"key": "r", "missed": missed});
        planted.op(20_500, Some(20_510), "resume", "j", resume, Kind::Ok, json!(null));
        for second in (2..=5).chain(runs.iter().copied()).chain(21..=25) {
            let at = if (6..=20).contains(&second) { 20_600 } else { second * 1_000 + 10 };
            let run = second.unsigned_abs();
            planted.line(at, Said::Start, "j", Some(second * 1_000), run, 1);
        }
        let utc = json!({"utc": BASE_UTC + 25_500});
        planted.op(25_500, Some(25_501), "horizon", "", json!(null), Kind::Ok, utc);
        let ranges = ranges.clone();
        planted.op(29_000, Some(29_001), "final-missed", "j", json!(null), Kind::Ok, ranges);
        let mut evidence = planted.evidence();
        evidence.test.misfire_after_ms = 5_000;
        let records = Records::of(&evidence);
        let fires = Fires::of(&evidence, &records);
        let checked = check(&evidence, &records, &fires);
        let mut found: Vec<String> = checked.findings.iter().map(|f| f.what.clone()).collect();
        found.extend(fires.check(&evidence).findings.into_iter().map(|f| f.what));
        (found, checked.verdict)
    }

    fn range(reason: &str, from: i64, to: i64, count: Option<u64>, at: i64) -> Value {
        let shown = |second: i64| crate::time::shown(BASE_UTC + second);
        json!({"job": "j", "trigger": "t", "reason": reason, "count": count,
            "from": shown(from), "to": shown(to), "at": shown(at)})
    }

    fn misfire(from: i64, to: i64, count: u64) -> Value {
        range("misfire", from * 1_000, to * 1_000, Some(count), 20_505)
    }

    #[track_caller]
    fn found(policy: &str, runs: &[i64], ranges: &Value) -> Vec<String> {
        judged(policy, "misfire", runs, ranges).0
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn policies_that_are_kept_are_accepted() {
        let all: Vec<i64> = (6..=20).collect();
        assert_eq!(found("fire_all", &all, &json!([])), NONE);
        assert_eq!(found("skip", &all[10..], &json!([misfire(6, 15, 10)])), NONE);
        assert_eq!(found("fire_now", &all[9..], &json!([misfire(6, 14, 9)])), NONE);
        let paused = json!([range("paused", 5_505, 20_505, None, 20_505)]);
        assert_eq!(judged("fire_all", "skip", &[], &paused), (Vec::new(), Verdict::Valid));
    }

    #[test]
    fn what_a_policy_does_not_run_is_found() {
        let all: Vec<i64> = (6..=20).collect();
        // Run in spite of it; a record of the rest excuses nothing.
        let ran = found("skip", &all[9..], &json!([misfire(6, 14, 9)]));
        assert_eq!(ran, ["false record"], "{ran:?}");
        let ran = found("skip", &all, &json!([]));
        // Those that were certainly late, whatever the clocks.
        assert_eq!(ran, ["in spite of the policy"; 8]);
        let ran = found("fire_now", &all[6..], &json!([misfire(6, 11, 6)]));
        assert!(ran.contains(&"in spite of the policy".to_owned()), "{ran:?}");
        assert!(ran.contains(&"false record".to_owned()), "{ran:?}");
    }

    #[test]
    fn what_a_policy_runs_and_did_not_run_is_found() {
        let all: Vec<i64> = (6..=20).collect();
        let lost = found("fire_all", &all[1..], &json!([]));
        assert_eq!(lost, ["missed"]);
        let left = found("fire_all", &all[3..], &json!([misfire(6, 8, 3)]));
        assert_eq!(left, ["false record"]);
        // The latest of them is among those left out.
        assert_eq!(found("fire_now", &all[10..], &json!([misfire(6, 15, 10)])), ["false record"]);
        // Left out, and nobody wrote it down.
        assert!(
            found("fire_now", &all[10..], &json!([misfire(6, 14, 9)]))
                .contains(&"missed".to_owned())
        );
        assert!(!found("skip", &all[12..], &json!([misfire(6, 15, 10)])).is_empty());
    }

    #[test]
    fn records_that_are_not_true_are_found() {
        let all: Vec<i64> = (6..=20).collect();
        assert_eq!(found("skip", &all[10..], &json!([misfire(6, 15, 9)])), ["false record"]);
        // Not late enough to be left out.
        assert_eq!(found("skip", &all[13..], &json!([misfire(6, 18, 13)])), ["false record"]);
    }

    /// A job that fires every second, paused from 9.5 s to 20.5 s and passed over; it ran
    /// up to second `last`, and there is a range from `from` on.
    fn before_a_pause(fault: bool, last: i64, from: i64) -> Vec<String> {
        let mut planted = Planted::new();
        if fault {
            planted.fault(5_200, 9_000, "kill-leader");
        }
        passed_over(planted, last, from)
    }

    /// The same, and instead of a fault a pause from 5.5 s on, made up for when it ended
    /// at `end`.
    fn after_a_pause(end: i64, last: i64, from: i64) -> Vec<String> {
        let mut planted = Planted::new();
        let first = json!({"key": "p0"});
        planted.op(5_500, Some(5_510), "pause", "j", first, Kind::Ok, json!(null));
        let misfire = json!({"key": "r0", "missed": "misfire"});
        planted.op(end, Some(end + 10), "resume", "j", misfire, Kind::Ok, json!(null));
        passed_over(planted, last, from)
    }

    fn passed_over(mut planted: Planted, last: i64, from: i64) -> Vec<String> {
        let job = json!({"definition": {"name": "j", "triggers": [
            {"name": "t", "cron": "* * * * * ?"}]}, "key": "a"});
        planted.op(1_000, Some(1_010), "apply", "j", job, Kind::Ok, json!({}));
        planted.op(9_500, Some(9_510), "pause", "j", json!({"key": "p"}), Kind::Ok, json!(null));
        planted.op(20_500, Some(20_510), "resume", "j", json!({"key": "r"}), Kind::Ok, json!(null));
        for second in (2..=last).chain(21..=25) {
            let (run, at) = (second.unsigned_abs(), second * 1_000 + 10);
            planted.line(at, Said::Start, "j", Some(second * 1_000), run, 1);
        }
        let utc = json!({"utc": BASE_UTC + 25_500});
        planted.op(25_500, Some(25_501), "horizon", "", json!(null), Kind::Ok, utc);
        let ranges = json!([range("paused", from, 20_505, None, 20_505)]);
        planted.op(29_000, Some(29_001), "final-missed", "j", json!(null), Kind::Ok, ranges);
        let mut evidence = planted.evidence();
        evidence.test.late_ms = 300;
        let records = Records::of(&evidence);
        let fires = Fires::of(&evidence, &records);
        let mut found = check(&evidence, &records, &fires).findings;
        found.extend(fires.check(&evidence).findings);
        found.into_iter().map(|f| f.what).collect()
    }

    #[test]
    fn what_a_fault_kept_from_being_planned_before_a_pause_may_be_recorded_with_it() {
        assert_eq!(before_a_pause(true, 5, 5_000), NONE);
        // Without a fault nothing explains it, and without a record it is lost.
        assert_eq!(before_a_pause(false, 7, 7_500), ["missed"]);
        assert_eq!(before_a_pause(true, 5, 9_505), ["missed"; 3]);
    }

    #[test]
    fn what_an_earlier_pause_kept_from_being_planned_may_be_recorded_with_the_next() {
        assert_eq!(after_a_pause(9_300, 5, 5_500), NONE);
        // There was time to plan it between the pauses, or there is no record.
        assert_eq!(after_a_pause(8_500, 5, 5_500), ["missed"; 3]);
        assert_eq!(after_a_pause(9_300, 5, 9_505), ["missed"; 3]);
    }

    #[test]
    fn a_pause_that_was_passed_over_without_a_record_is_found() {
        let none = json!([]);
        assert_eq!(judged("fire_all", "skip", &[], &none).0, ["not recorded"]);
        let half = json!([range("paused", 5_505, 12_000, None, 20_505)]);
        assert_eq!(judged("fire_all", "skip", &[], &half).0, ["not recorded"]);
    }
}
