//! Retries: after each attempt follows what its job says of its exit code, as often as
//! the job says and not sooner; and not later either, whoever leads meanwhile.

use serde_json::Value;

use super::Checked;
use super::attempts::{Attempts, lived};
use super::claims::millis_of;
use super::deadlines::deadline;
use super::raft::behind_ms;
use super::records::{AttemptRecord, Records, RunRecord};
use super::timeline::lives;
use crate::rules::span;
use crate::store::Evidence;
use crate::time::MS;

/// A wait may be this much shorter: two clocks and a commit.
const SHORTER_MS: i64 = 50;
/// And by this share, because cluster time may be brought up to the clocks meanwhile.
const SHORTER_SHARE: i64 = 50;
/// The cluster keeps no more attempts of a run.
const MOST_RECORDED: usize = 16;
/// Lost workers, which cost no retry.
const LOST: [&str; 3] = ["worker_lost", "gone", "lease_expired"];
/// Ended because its worker was to be empty: costs neither a retry nor a loss.
const DRAINED: &str = "drained";
/// A run goes on after so many, and fails with the next.
const MOST_LOSSES: u64 = 3;

/// What a job says of its retries.
struct Policy {
    count: u64,
    /// Milliseconds before the first retry.
    first: i64,
    /// The wait doubles up to this.
    cap: Option<i64>,
    /// And is up to so much longer.
    jitter: i64,
    only: Vec<i64>,
    never: Vec<i64>,
    nothing: Vec<i64>,
}

/// What follows from an exit code.
#[derive(Debug, PartialEq, Eq)]
enum Then {
    Again,
    Fail,
    Skip,
}

impl Policy {
    fn of(definition: &Value) -> Self {
        let retries = &definition["retries"];
        let length = |field: &str| retries[field].as_str().and_then(|text| span(text).ok());
        let codes = |value: &Value| -> Vec<i64> {
            value.as_array().into_iter().flatten().filter_map(Value::as_i64).collect()
        };
        Self {
            count: retries["count"].as_u64().unwrap_or(0),
            first: length("backoff").unwrap_or(10_000),
            cap: length("backoff_cap"),
            jitter: length("jitter").unwrap_or(0),
            only: codes(&retries["retry_on"]),
            never: codes(&retries["never_on"]),
            nothing: codes(&definition["skip_exit_codes"]),
        }
    }

    fn after(&self, code: i64) -> Then {
        let is_never =
            self.never.contains(&code) || (!self.only.is_empty() && !self.only.contains(&code));
        match () {
            () if self.nothing.contains(&code) => Then::Skip,
            () if is_never => Then::Fail,
            () => Then::Again,
        }
    }

    /// Before retry number `number`, counted from 1: the least and the most.
    fn wait(&self, number: u64) -> (i64, i64) {
        let doubled = || {
            let factor = 1_i64.checked_shl(u32::try_from(number).unwrap_or(63).saturating_sub(1));
            self.first.saturating_mul(factor.filter(|f| *f > 0).unwrap_or(i64::MAX))
        };
        let wait = self.cap.map_or(self.first, |cap| doubled().min(cap));
        (wait, wait.saturating_add(self.jitter))
    }
}

/// The verdict.
pub(crate) fn check(evidence: &Evidence, records: &Records) -> Checked {
    let promise = "a failed attempt is tried again as often and as late as its job says";
    let mut checked = Checked::new("retries", promise);
    for what in ["too many retries", "too few retries", "too early", "too late"] {
        checked.count(what, 0);
    }
    let Some(lives) = checked.taken(lives(evidence)) else { return checked };
    let runs = lived(&evidence.witness);
    for record in records.runs.values().filter(|run| run.job.starts_with("retry-")) {
        let Some(life) = lives.get(&record.job) else { continue };
        let Some(definition) = life.changes.first().map(|c| &c.after.definition) else { continue };
        let policy = Policy::of(definition);
        checked.count("runs", 1);
        let attempts = runs.get(&(record.id.clone(), 0)).cloned().unwrap_or_default();
        judge_record(&mut checked, record, &policy);
        let has_success = attempts.values().any(|a| a.exit == Some(0));
        if record.state == "failed" && has_success && record.losses == 0 {
            let told = "an attempt succeeded, and the run failed".to_owned();
            checked.wrong("success not taken", &record.id, told, 0);
        }
        judge_waits(&mut checked, evidence, record, &policy, &attempts);
    }
    if checked.counted("retries") == 0 {
        checked.unknown("nothing was tried again");
    }
    checked
}

/// What the attempts ended with leads to the next one, or to what the run came to.
fn judge_record(checked: &mut Checked, record: &RunRecord, policy: &Policy) {
    if record.attempts.len() >= MOST_RECORDED {
        return;
    }
    let (mut used, mut losses) = (0, 0);
    let mut wanted = None;
    for (place, attempt) in record.attempts.iter().enumerate() {
        wanted = what_follows(attempt, policy, &mut used, &mut losses);
        let is_last = place + 1 == record.attempts.len();
        match wanted {
            Some(state) if !is_last => {
                let told =
                    format!("after attempt {} it was {state}, and another followed", place + 1);
                return checked.wrong("too many retries", &record.id, told, 0);
            }
            None if is_last => {
                let told = format!(
                    "{} after {} attempts, {used} retries of {}",
                    record.state,
                    place + 1,
                    policy.count
                );
                return checked.wrong("too few retries", &record.id, told, 0);
            }
            _ => {}
        }
    }
    if let Some(state) = wanted.filter(|state| *state != record.state) {
        let told = format!("its last attempt makes it {state}, and it is {}", record.state);
        checked.wrong("another end", &record.id, told, 0);
    }
    if record.retries != used {
        let told = format!("{} retries are counted, and there were {used}", record.retries);
        checked.wrong("counted wrong", &record.id, told, 0);
    }
}

/// What a run came to with an attempt; none if another must follow.
fn what_follows(
    attempt: &AttemptRecord,
    policy: &Policy,
    used: &mut u64,
    losses: &mut u64,
) -> Option<&'static str> {
    if LOST.contains(&attempt.how.as_str()) {
        *losses += 1;
        return (*losses > MOST_LOSSES).then_some("failed");
    }
    if attempt.how == DRAINED {
        return None;
    }
    let code = attempt.code.filter(|_| attempt.how == "exited");
    match code.map_or(Then::Again, |code| policy.after(code)) {
        _ if code == Some(0) => Some("success"),
        Then::Skip => Some("skipped"),
        Then::Again if *used < policy.count => {
            *used += 1;
            None
        }
        Then::Again | Then::Fail => Some("failed"),
    }
}

/// The wait before each retry, by the jobs' own lines; and how much later it came.
fn judge_waits(
    checked: &mut Checked,
    evidence: &Evidence,
    record: &RunRecord,
    policy: &Policy,
    attempts: &Attempts,
) {
    let mut retries = 0;
    for (number, attempt) in attempts {
        if attempt.cause != "retry" {
            continue;
        }
        checked.count("retries", 1);
        // Retries before this one, those included that wrote nothing.
        let earlier = record.attempts.iter().filter(|a| a.number < *number && a.cause == "retry");
        retries = earlier.count().max(retries) + 1;
        let (least, most) = policy.wait(retries as u64);
        let before = number.checked_sub(1).and_then(|n| attempts.get(&n));
        let Some(before) = before else { continue };
        let (ended, began) =
            (evidence.utc_of_mono(before.last), evidence.utc_of_mono(attempt.start));
        let shorter = SHORTER_MS + least / SHORTER_SHARE + behind_ms(evidence, ended..=began);
        if began - ended + shorter < least {
            let told = format!("attempt {number} after {} ms instead of {least}", began - ended);
            checked.wrong("too early", &record.id, told, attempt.start);
        }
        // It counts from when the end was known, which others tell; that is judged first.
        let of_record = record.attempts.iter().find(|a| a.number + 1 == *number);
        let Some(known) = of_record.and_then(|a| a.over) else { continue };
        if !evidence.test.judges_times() || evidence.stood_still(before.last, attempt.start) {
            continue;
        }
        if known > deadline(evidence, ended) {
            let told =
                format!("the end of attempt {} was known {} ms later", number - 1, known - ended);
            checked.wrong("told late", &record.id, told, before.last);
        }
        checked.count("waits", 1);
        let due = known.max(ended).saturating_add(most);
        if began > deadline(evidence, due) {
            let (waited, late) = (began - ended, millis_of(evidence.test.late_ms));
            let told =
                format!("attempt {number} after {waited} ms instead of {most}, and {late} at most");
            checked.wrong("too late", &record.id, told, attempt.start.max(MS));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::planted::{BASE_UTC, Planted};
    use super::*;
    use crate::history::Kind;
    use crate::store::Said;
    use crate::time::shown;

    /// Two retries after a second each.
    fn usual() -> Value {
        json!({"retries": {"count": 2, "backoff": "1s"}})
    }

    fn retry(job: Value, exits: &[i32], waits: &[i64], state: &str, used: u64) -> Vec<String> {
        retry_in(Planted::new(), job, exits, waits, state, used)
    }

    fn retry_in(
        mut planted: Planted,
        mut job: Value,
        exits: &[i32],
        waits: &[i64],
        state: &str,
        used: u64,
    ) -> Vec<String> {
        job["name"] = json!("retry-1");
        let jobs = json!({"jobs": [job]});
        planted.op(1, Some(2), "apply-set", "x", jobs, Kind::Ok, json!({}));
        let mut at = 5_000;
        let mut attempts = Vec::new();
        let waits = waits.iter().chain(std::iter::repeat(waits.last().unwrap_or(&0)));
        for ((number, exit), wait) in (1..).zip(exits).zip(waits) {
            planted.line(at, Said::Start, "retry-1", Some(5_000), 1, number);
            let end = planted.line(at + 50, Said::End, "retry-1", Some(5_000), 1, number);
            end.exit = Some(*exit);
            let cause = if number == 1 { "first" } else { "retry" };
            attempts.push(json!({"number": number, "token": 100 + number, "cause": cause,
                "end": {"how": "exited", "code": exit, "at": shown(BASE_UTC + at + 60)}}));
            at += 50 + wait;
        }
        let run = json!([{"id": "r-1", "job": "retry-1", "state": state, "retries": used,
            "nominal": "2026-11-21T10:00:05Z", "attempts": attempts}]);
        planted.op(90_000, Some(90_001), "runs", "", json!(null), Kind::Ok, run);
        let mut evidence = planted.evidence();
        evidence.test.late_ms = 3_000;
        let checked = check(&evidence, &Records::of(&evidence));
        checked.findings.into_iter().map(|f| f.what).collect()
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn retries_as_the_job_says_are_accepted_and_others_found() {
        assert_eq!(retry(usual(), &[1, 1, 0], &[1_100], "success", 2), NONE);
        assert_eq!(retry(usual(), &[1, 1, 1], &[1_100], "failed", 2), NONE);
        assert_eq!(retry(usual(), &[1, 1, 1, 1], &[1_100], "failed", 3), ["too many retries"]);
        assert_eq!(retry(usual(), &[1, 1], &[1_100], "failed", 1), ["too few retries"]);
        assert_eq!(retry(usual(), &[1, 1, 0], &[300], "success", 2), ["too early", "too early"]);
        let failed = retry(usual(), &[1, 1, 0], &[1_100], "failed", 2);
        assert_eq!(failed, ["another end", "success not taken"]);
        assert_eq!(retry(usual(), &[1, 0], &[1_100], "success", 0), ["counted wrong"]);
        assert_eq!(retry(usual(), &[0, 0], &[1_100], "success", 0), ["too many retries"]);
    }

    #[test]
    fn exit_codes_mean_what_the_job_says() {
        let never = json!({"retries": {"count": 3, "backoff": "1s", "never_on": [4]}});
        assert_eq!(retry(never.clone(), &[1, 4], &[1_100], "failed", 1), NONE);
        assert_eq!(retry(never, &[1, 4, 0], &[1_100], "success", 2), ["too many retries"]);
        let only = json!({"retries": {"count": 3, "backoff": "1s", "retry_on": [1]}});
        assert_eq!(retry(only.clone(), &[1, 2], &[1_100], "failed", 1), NONE);
        assert_eq!(retry(only, &[1], &[0], "failed", 0), ["too few retries"]);
        let skip = json!({"retries": {"count": 3, "backoff": "1s"}, "skip_exit_codes": [9]});
        assert_eq!(retry(skip.clone(), &[1, 9], &[1_100], "skipped", 1), NONE);
        assert_eq!(retry(skip, &[1, 9], &[1_100], "failed", 1), ["another end"]);
    }

    #[test]
    fn waits_grow_and_end_and_spread_as_the_job_says() {
        let grows = json!({"retries": {"count": 5, "backoff": "1s", "backoff_cap": "3s"}});
        let all = [1, 1, 1, 1, 0];
        assert_eq!(retry(grows.clone(), &all, &[1_050, 2_050, 3_050, 3_050], "success", 4), NONE);
        let early = retry(grows, &all, &[1_050, 1_050, 3_050, 3_050], "success", 4);
        assert_eq!(early, ["too early"]);
        let spread = json!({"retries": {"count": 2, "backoff": "1s", "jitter": "2s"}});
        assert_eq!(retry(spread.clone(), &[1, 0], &[5_900], "success", 1), NONE);
        assert_eq!(retry(spread, &[1, 0], &[6_200], "success", 1), ["too late"]);
    }

    #[test]
    fn a_wait_that_begins_anew_with_a_leader_is_found() {
        let long = json!({"retries": {"count": 1, "backoff": "20s"}});
        assert_eq!(retry(long.clone(), &[1, 0], &[20_100], "success", 1), NONE);
        let killed = |from: i64, wait: i64| {
            let mut planted = Planted::new();
            planted.fault(from, from + 2_000, "kill-leader");
            retry_in(planted, long.clone(), &[1, 0], &[wait], "success", 1)
        };
        assert_eq!(killed(15_000, 30_000), ["too late"]);
        assert_eq!(killed(25_500, 30_000), NONE, "it was in the way when the wait was over");
    }
}
