//! Attempts: one at a time, numbered without holes, tokens that grow, one success.
//!
//! A job's own lines say when it was certainly alive: from `start` to the last line.
//! That is less than its life, so that an overlap found this way is an overlap.

use std::collections::BTreeMap;

use super::Checked;
use super::records::{Records, RunRecord};
use crate::store::{Evidence, Line, Said};
use crate::time::MS;

/// The witness's own way to say that it could not write.
const WITNESS_FAILED: i64 = 97;
/// The cluster keeps no more attempts of a run.
const MOST_RECORDED: usize = 16;

/// What one attempt wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lived {
    /// Its token.
    pub(crate) token: u64,
    /// Why there is this try.
    pub(crate) cause: String,
    /// Where.
    pub(crate) worker: String,
    /// Monotonic time of its first line.
    pub(crate) start: u64,
    /// Monotonic time of its last line.
    pub(crate) last: u64,
    /// What it was about to exit with.
    pub(crate) exit: Option<i32>,
    /// How often it said that it began.
    pub(crate) starts: u32,
    /// True if all its lines carry one token.
    pub(crate) is_one: bool,
}

/// Attempts by number, of one run and part.
pub(crate) type Attempts = BTreeMap<u32, Lived>;

/// All attempts of all runs, as the jobs wrote them.
pub(crate) fn lived(lines: &[Line]) -> BTreeMap<(String, u64), Attempts> {
    let mut runs: BTreeMap<(String, u64), Attempts> = BTreeMap::new();
    for line in lines {
        let attempts = runs.entry((line.run.clone(), line.shard)).or_default();
        let lived = attempts.entry(line.attempt).or_insert_with(|| Lived {
            token: line.token,
            cause: line.cause.clone(),
            worker: line.worker.clone(),
            start: line.t,
            last: line.t,
            exit: None,
            starts: 0,
            is_one: true,
        });
        lived.start = lived.start.min(line.t);
        lived.is_one &= lived.token == line.token;
        // What a job left behind is judged where a job is ended.
        if line.e != Said::Child {
            lived.last = lived.last.max(line.t);
        }
        lived.starts += u32::from(line.e == Said::Start);
        lived.exit = lived.exit.or(line.exit);
    }
    runs
}

/// The verdict.
pub(crate) fn check(evidence: &Evidence, records: &Records) -> Checked {
    let promise = "one attempt of a run lives at a time, tokens grow, one success is recorded";
    let mut checked = Checked::new("attempts", promise);
    for what in ["overlap", "two successes"] {
        checked.count(what, 0);
    }
    let runs = lived(&evidence.witness);
    for ((run, shard), attempts) in &runs {
        checked.count("runs", 1);
        checked.count("attempts", attempts.len());
        let key = if *shard == 0 { run.clone() } else { format!("{run}/{shard}") };
        judge_lines(&mut checked, evidence, &key, attempts);
        if let Some(record) = records.runs.get(run) {
            judge_record(&mut checked, record, attempts);
        }
    }
    for run in &records.changed {
        let told = "its record differs between two reads after it had ended".to_owned();
        checked.wrong("record changed", run, told, 0);
    }
    for record in records.runs.values() {
        judge_successes(&mut checked, evidence, record, runs.get(&(record.id.clone(), 0)));
    }
    judge_resource(&mut checked, evidence);
    checked
}

fn judge_lines(checked: &mut Checked, evidence: &Evidence, run: &str, attempts: &Attempts) {
    let mut before: Option<(u32, &Lived)> = None;
    for (number, lived) in attempts {
        let id = format!("{run}.{number}");
        if lived.starts > 1 {
            let told = format!("it began {} times", lived.starts);
            checked.wrong("started twice", &id, told, lived.start);
        }
        if !lived.is_one {
            checked.wrong("two tokens", &id, "its lines carry two tokens".to_owned(), lived.start);
        }
        if let Some((earlier, other)) = before {
            if lived.token <= other.token {
                let told = format!("token {} after {} of .{earlier}", lived.token, other.token);
                checked.wrong("token did not grow", &id, told, lived.start);
            }
            if lived.start <= other.last
                && evidence.outlived_lease(&other.worker, other.start, other.last)
            {
                // The lease's own process was frozen too: only a resource that checks
                // tokens is safe then, as documented.
                checked.count("overlaps of a frozen worker", 1);
            } else if lived.start <= other.last {
                let ms = (other.last - lived.start) / MS;
                let told = format!("it began while .{earlier} lived on for {ms} ms");
                checked.wrong("overlap", &id, told, lived.start);
            }
            if other.exit == Some(0) && lived.cause == "retry" {
                let told = format!("a retry after .{earlier} had succeeded");
                checked.wrong("retry after success", &id, told, lived.start);
            }
        }
        if lived.cause == "worker_lost" {
            checked.count("reruns after a lost worker", 1);
            let other = number.checked_sub(1).and_then(|before| attempts.get(&before));
            if !was_parted(evidence, other, lived) {
                let told = "its worker was given up, and nothing had parted it".to_owned();
                checked.wrong("rerun without a fault", &id, told, lived.start);
            }
        }
        if lived.cause == "drained" {
            checked.count("reruns after a drain", 1);
            let drains = || evidence.bands.iter().filter(|band| band.op == "duty-drain");
            if !drains().any(|band| band.from <= lived.start) {
                let told = "no worker was to be empty".to_owned();
                checked.wrong("rerun without a drain", &id, told, lived.start);
            }
        }
        // An attempt whose worker reported nothing may have lived long: compare with
        // the one that lived longest.
        before = match before {
            Some((earlier, other)) if other.last > lived.last => Some((earlier, other)),
            _ => Some((*number, lived)),
        };
    }
}

/// True if a fault may have parted the worker of the attempt before from the cluster until
/// there was another. One that wrote nothing may have been given to any worker.
fn was_parted(evidence: &Evidence, before: Option<&Lived>, next: &Lived) -> bool {
    let workers = || evidence.test.workers.iter().map(String::as_str);
    let mut bands = evidence.bands.iter().filter(|band| match before {
        Some(before) => band.meets(before.start, next.start),
        None => band.from <= next.start,
    });
    let is_parted = bands.any(|band| match before {
        Some(before) => evidence.parts(band, &before.worker),
        None => workers().any(|worker| evidence.parts(band, worker)),
    });
    // A machine that lets nobody run is none of the faults, and parts as they do.
    is_parted || evidence.stood_still(before.map_or(0, |before| before.start), next.start)
}

fn judge_record(checked: &mut Checked, record: &RunRecord, attempts: &Attempts) {
    let numbers: Vec<u32> = record.attempts.iter().map(|attempt| attempt.number).collect();
    let is_whole = numbers.len() < MOST_RECORDED;
    if is_whole && numbers.iter().zip(1_u32..).any(|(number, expected)| *number != expected) {
        let told = format!("recorded attempts are {numbers:?}");
        checked.wrong("numbers with holes", &record.id, told, 0);
    }
    for (number, lived) in attempts {
        let recorded = record.attempts.iter().find(|attempt| attempt.number == *number);
        let id = format!("{}.{number}", record.id);
        match recorded {
            None if is_whole => {
                let told = "it ran, and the cluster does not know it".to_owned();
                checked.wrong("ghost", id, told, lived.start);
            }
            None => {}
            Some(recorded) if recorded.token != lived.token => {
                let told = format!("it ran with token {}, not {}", lived.token, recorded.token);
                checked.wrong("another token", id, told, lived.start);
            }
            Some(recorded) => {
                if recorded.code == Some(WITNESS_FAILED) {
                    checked.damaged(format!("the witness of {id} could not write"));
                }
                let (code, exit) = (recorded.code, lived.exit.map(i64::from));
                if recorded.how == "exited" && code != exit {
                    let told = format!("recorded as {code:?}, and it said {exit:?}");
                    checked.wrong("another exit", id, told, lived.last);
                }
            }
        }
    }
}

fn judge_successes(
    checked: &mut Checked,
    evidence: &Evidence,
    record: &RunRecord,
    attempts: Option<&Attempts>,
) {
    let good: Vec<u32> = (record.attempts.iter())
        .filter(|attempt| attempt.succeeded())
        .map(|attempt| attempt.number)
        .collect();
    checked.count("recorded runs", 1);
    if good.len() > 1 {
        let told = format!("attempts {good:?} of {} succeeded", record.job);
        checked.wrong("two successes", &record.id, told, 0);
    }
    if (record.state == "success") != (good.len() == 1) && good.len() <= 1 {
        let told = format!("the run is {} with {} good attempts", record.state, good.len());
        checked.wrong("result without an attempt", &record.id, told, 0);
    }
    if let Some(attempts) = attempts {
        for number in good {
            if attempts.get(&number).is_none_or(|lived| lived.exit != Some(0)) {
                let told = format!("attempt {number} is recorded as good and never said so");
                checked.wrong("success without an end", &record.id, told, 0);
            }
        }
    } else if record.state == "success" && runs_witness(evidence, &record.job) {
        let told = format!("{} is recorded as good and wrote nothing at all", record.job);
        checked.wrong("success without a run", &record.id, told, 0);
    }
}

/// True if the job's program is the witness, so that it must have written something.
fn runs_witness(evidence: &Evidence, job: &str) -> bool {
    evidence.ops.iter().any(|op| {
        let has = |definition: &serde_json::Value| {
            definition["name"] == job && definition["exec"].is_array()
        };
        match op.ask.f.as_str() {
            "apply" => op.ask.k == job && has(&op.ask.v["definition"]),
            "apply-set" => op.ask.v["jobs"].as_array().into_iter().flatten().any(has),
            _ => false,
        }
    })
}

/// A resource that checks tokens, as jobs that use one must: what it took must have
/// grown. Lines are in the order in which it decided.
fn judge_resource(checked: &mut Checked, evidence: &Evidence) {
    let mut largest: BTreeMap<&str, u64> = BTreeMap::new();
    for line in evidence.witness.iter().filter(|line| line.e == Said::Token) {
        checked.count("tokens shown", 1);
        let seen = largest.entry(&line.job).or_default();
        if line.accepted == Some(true) && line.token < *seen {
            let told = format!("token {} was taken after {seen}", line.token);
            checked.wrong("stale token taken", &line.run, told, line.t);
        }
        checked.count("tokens refused", i64::from(line.accepted == Some(false)));
        if line.accepted == Some(true) {
            *seen = (*seen).max(line.token);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Verdict;
    use super::super::planted::{self, Planted};
    use super::*;
    use crate::history::Kind;
    use crate::store::Stall;

    fn record(state: &str, attempts: &[(u32, u64, Option<i64>)]) -> serde_json::Value {
        let attempts: Vec<_> = attempts
            .iter()
            .map(|(number, token, code)| match code {
                Some(code) => json!({"number": number, "token": token, "cause": "first",
                    "end": {"how": "exited", "code": code}}),
                None => json!({"number": number, "token": token, "end": {"how": "worker_lost"}}),
            })
            .collect();
        json!([{"id": "r-1", "job": "j", "kind": "schedule", "state": state, "action": "j@x",
            "nominal": "2026-11-21T10:00:05Z", "attempts": attempts}])
    }

    #[track_caller]
    fn found(planted: &Planted) -> Vec<String> {
        let evidence = planted.evidence();
        let checked = check(&evidence, &Records::of(&evidence));
        checked.findings.into_iter().map(|finding| finding.what).collect()
    }

    fn good() -> Planted {
        let mut planted = Planted::new();
        planted.line(5_000, Said::Start, "j", Some(5_000), 1, 1);
        planted.line(5_500, Said::Tick, "j", Some(5_000), 1, 1);
        planted.line(6_000, Said::Start, "j", Some(5_000), 1, 2);
        planted.line(6_500, Said::End, "j", Some(5_000), 1, 2);
        planted
    }

    fn read(planted: &mut Planted, runs: serde_json::Value) {
        planted.op(8_000, Some(8_001), "runs", "", json!(null), Kind::Ok, runs);
    }

    #[test]
    fn attempts_one_after_the_other_are_accepted() {
        let mut planted = good();
        read(&mut planted, record("success", &[(1, 101, None), (2, 102, Some(0))]));
        assert_eq!(found(&planted), Vec::<String>::new());
        let evidence = planted.evidence();
        let checked = check(&evidence, &Records::of(&evidence));
        assert_eq!((checked.verdict, checked.counted("attempts")), (Verdict::Valid, 2));
    }

    #[test]
    fn an_overlap_is_found() {
        let mut planted = good();
        planted.line(6_100, Said::Tick, "j", Some(5_000), 1, 1);
        assert_eq!(found(&planted), ["overlap"]);
        // Also with one in between that said little.
        let mut planted = good();
        planted.line(7_500, Said::Tick, "j", Some(5_000), 1, 1);
        planted.line(7_000, Said::Start, "j", Some(5_000), 1, 3);
        assert_eq!(found(&planted), ["overlap", "overlap"]);
    }

    #[test]
    fn an_overlap_is_excused_only_where_the_lease_could_not_be_kept() {
        let frozen = |who: &str, lasts: i64| {
            let mut planted = Planted::new();
            planted.line(1_000, Said::Start, "j", Some(1_000), 1, 1);
            planted.line(30_000, Said::Start, "j", Some(1_000), 1, 2);
            planted.line(34_010, Said::Tick, "j", Some(1_000), 1, 1);
            planted.edit_lines(|line| {
                line.worker = if line.attempt == 1 { "w1" } else { "w2" }.to_owned();
            });
            planted.fault_on(34_000 - lasts, Some(34_000), "worker-freeze", json!({"who": [who]}));
            found(&planted)
        };
        assert_eq!(frozen("w1", 32_000), Vec::<String>::new());
        assert_eq!(frozen("w2", 32_000), ["overlap"], "the one that was not frozen");
        assert_eq!(frozen("w1", 5_000), ["overlap"], "not for longer than the margin");
        let mut planted = Planted::new();
        planted.line(1_000, Said::Start, "j", Some(1_000), 1, 1);
        planted.line(30_000, Said::Start, "j", Some(1_000), 1, 2);
        planted.line(34_000, Said::Tick, "j", Some(1_000), 1, 1);
        planted.fault(2_000, 34_000, "worker-partition");
        assert_eq!(found(&planted), ["overlap"]);
    }

    #[test]
    fn a_second_beginning_and_old_tokens_are_found() {
        let mut planted = good();
        planted.line(6_200, Said::Start, "j", Some(5_000), 1, 2);
        assert_eq!(found(&planted), ["started twice"]);
        let mut planted = good();
        planted.line(7_000, Said::Start, "j", Some(5_000), 1, 3).token = 5;
        assert_eq!(found(&planted), ["token did not grow", "retry after success"]);
        let mut planted = good();
        planted.line(6_600, Said::Tick, "j", Some(5_000), 1, 2).token = 7;
        assert_eq!(found(&planted), ["two tokens"]);
    }

    #[test]
    fn two_successes_holes_and_ghosts_are_found() {
        let mut planted = good();
        planted.line(5_600, Said::End, "j", Some(5_000), 1, 1);
        read(&mut planted, record("success", &[(1, 101, Some(0)), (2, 102, Some(0))]));
        assert_eq!(found(&planted), ["retry after success", "two successes"]);
        let mut planted = good();
        read(&mut planted, record("success", &[(2, 102, Some(0))]));
        assert_eq!(found(&planted), ["numbers with holes", "ghost"]);
        let mut planted = good();
        read(&mut planted, record("success", &[(1, 101, None), (2, 200, Some(0))]));
        assert_eq!(found(&planted), ["another token"]);
    }

    #[test]
    fn results_that_nobody_produced_are_found() {
        let mut planted = Planted::new();
        planted.line(5_000, Said::Start, "j", Some(5_000), 1, 1);
        read(&mut planted, record("success", &[(1, 101, Some(0))]));
        assert_eq!(found(&planted), ["another exit", "success without an end"]);
        let mut planted = good();
        read(&mut planted, record("failed", &[(1, 101, None), (2, 102, Some(0))]));
        assert_eq!(found(&planted), ["result without an attempt"]);
        let mut planted = Planted::new();
        let job = json!({"definition": {"name": "j", "exec": ["witness"]}});
        planted.op(1, Some(2), "apply", "j", job, Kind::Ok, json!({}));
        read(&mut planted, record("success", &[(1, 101, Some(0))]));
        assert_eq!(found(&planted), ["success without a run"]);
    }

    #[test]
    fn a_record_that_changes_after_the_end_is_found() {
        let mut planted = good();
        read(&mut planted, record("success", &[(1, 101, None), (2, 102, Some(0))]));
        read(&mut planted, record("failed", &[(1, 101, None), (2, 102, Some(0))]));
        assert_eq!(found(&planted), ["record changed"]);
    }

    #[test]
    fn a_worker_given_up_without_a_fault_of_its_own_is_found() {
        let given_up = |op: &str, who: &str, at: i64| {
            let mut planted = good();
            planted.line(7_000, Said::Start, "j", Some(5_000), 1, 3).cause =
                "worker_lost".to_owned();
            planted.edit_lines(|line| line.worker = "w1".to_owned());
            planted.fault_on(at, Some(at + 500), op, json!({"who": [who]}));
            found(&planted)
        };
        assert_eq!(given_up("worker-kill", "w1", 6_200), Vec::<String>::new());
        assert_eq!(given_up("partition-workers", "n1", 6_200), Vec::<String>::new());
        let told = ["rerun without a fault"];
        assert_eq!(given_up("worker-kill", "w2", 6_200), told, "another worker");
        assert_eq!(given_up("kill-leader", "n1", 6_200), told, "a node");
        assert_eq!(given_up("worker-kill", "w1", 1_000), told, "long before");
        let mut nothing = good();
        nothing.line(7_000, Said::Start, "j", Some(5_000), 1, 3).cause = "worker_lost".to_owned();
        assert_eq!(found(&nothing), told);
    }

    #[test]
    fn a_machine_that_let_nobody_run_explains_a_worker_that_is_given_up() {
        let stalled = |count: usize, at: i64| {
            let mut planted = good();
            planted.line(300_000, Said::Start, "j", Some(300_000), 2, 1);
            planted.line(301_000, Said::Start, "j", Some(300_000), 2, 2).cause =
                "worker_lost".to_owned();
            let mut evidence = planted.evidence();
            let (from, to) = (planted::t(at), planted::t(at + 2_000));
            evidence.stalls = vec![Stall { worker: "w2".to_owned(), from, to }; count];
            check(&evidence, &Records::of(&evidence)).findings.len()
        };
        assert_eq!(stalled(3, 299_500), 0);
        assert_eq!(stalled(3, 290_000), 0, "a lease may have run out");
        assert_eq!(stalled(3, 100_000), 1, "long before");
        assert_eq!(stalled(2, 299_500), 1, "a hiccup");
    }

    #[test]
    fn a_stale_token_that_a_resource_took_is_found() {
        let mut planted = Planted::new();
        planted.line(1_000, Said::Start, "j", Some(1_000), 1, 1);
        planted.line(1_001, Said::Token, "j", Some(1_000), 1, 1).accepted = Some(true);
        planted.line(2_000, Said::Start, "j", Some(1_000), 1, 2);
        planted.line(2_001, Said::Token, "j", Some(1_000), 1, 2).accepted = Some(true);
        assert_eq!(found(&planted), Vec::<String>::new());
        let late = planted.line(1_900, Said::Token, "j", Some(1_000), 1, 1);
        (late.accepted, late.t) = (Some(true), super::super::planted::t(2_500));
        assert!(found(&planted).contains(&"stale token taken".to_owned()));
    }
}
