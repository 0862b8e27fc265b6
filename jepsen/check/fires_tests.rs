//! Planted fires: good ones accepted, each kind of bad one found.

use serde_json::json;

use super::Verdict;
use super::fires::Fires;
use super::planted::{BASE_UTC, Planted};
use super::records::Records;
use crate::history::Kind;
use crate::store::{Evidence, Said};
use crate::time::shown;

/// A job that fires every second from 1.1 s on, judged up to 20 s.
fn job() -> Planted {
    let mut planted = Planted::new();
    let definition = json!({"definition": {"name": "j", "triggers": [{"cron": "* * * * * ?"}]}});
    planted.op(1_000, Some(1_020), "apply", "j", definition, Kind::Ok, json!({}));
    planted
}

fn fire(planted: &mut Planted, second: i64, run: u64) {
    planted.line(second * 1_000 + 12, Said::Start, "j", Some(second * 1_000), run, 1);
    planted.line(second * 1_000 + 13, Said::End, "j", Some(second * 1_000), run, 1);
}

fn evidence(mut planted: Planted) -> Evidence {
    planted.op(
        20_500,
        Some(20_501),
        "horizon",
        "",
        json!(null),
        Kind::Ok,
        json!({
            "utc": BASE_UTC + 20_500
        }),
    );
    planted.op(28_000, Some(28_001), "runs", "", json!(null), Kind::Ok, json!([]));
    let mut evidence = planted.evidence();
    evidence.test.late_ms = 3_000;
    evidence.test.workloads = vec!["fires alone".to_owned()];
    evidence
}

#[track_caller]
fn found(planted: Planted) -> Vec<String> {
    let evidence = evidence(planted);
    let checked = Fires::of(&evidence, &Records::of(&evidence)).check(&evidence);
    let expected = if checked.findings.is_empty() { Verdict::Valid } else { Verdict::Invalid };
    assert_eq!(checked.verdict, expected);
    checked.findings.into_iter().map(|finding| finding.what).collect()
}

#[test]
fn fires_as_promised_are_accepted() {
    let mut planted = job();
    (2..=21).for_each(|second| fire(&mut planted, second, second as u64));
    let evidence = evidence(planted);
    let checked = Fires::of(&evidence, &Records::of(&evidence)).check(&evidence);
    assert_eq!(checked.verdict, Verdict::Valid, "{checked:?}");
    assert_eq!((checked.counted("expected"), checked.counted("ran")), (19, 19));
    assert_eq!(checked.counted("lateness p99 ms"), 12);
}

#[test]
fn a_missed_fire_is_found() {
    let mut planted = job();
    (2..=20).filter(|s| *s != 7).for_each(|second| fire(&mut planted, second, second as u64));
    assert_eq!(found(planted), ["missed"]);
}

#[test]
fn a_doubled_fire_is_found() {
    let mut planted = job();
    (2..=20).for_each(|second| fire(&mut planted, second, second as u64));
    planted.line(7_400, Said::Start, "j", Some(7_000), 99, 1);
    assert_eq!(found(planted), ["doubled"]);
}

#[test]
fn another_attempt_of_one_run_is_no_second_fire() {
    let mut planted = job();
    (2..=20).for_each(|second| fire(&mut planted, second, second as u64));
    planted.line(7_400, Said::Start, "j", Some(7_000), 7, 2);
    assert_eq!(found(planted), Vec::<String>::new());
}

#[test]
fn early_and_phantom_fires_are_found() {
    let mut planted = job();
    (2..=20).filter(|s| *s != 9).for_each(|second| fire(&mut planted, second, second as u64));
    planted.line(8_970, Said::Start, "j", Some(9_000), 9, 1);
    planted.line(10_700, Said::Start, "j", Some(10_500), 77, 1);
    let mut what = found(planted);
    what.sort();
    assert_eq!(what, ["early", "phantom"]);
    let mut stranger = job();
    (2..=20).for_each(|second| fire(&mut stranger, second, second as u64));
    stranger.line(5_000, Said::Start, "other", Some(5_000), 50, 1);
    assert_eq!(found(stranger), ["phantom"]);
}

#[test]
fn ten_milliseconds_before_its_time_is_what_clocks_may_differ() {
    let mut planted = job();
    (2..=20).filter(|s| *s != 9).for_each(|second| fire(&mut planted, second, second as u64));
    planted.line(8_990, Said::Start, "j", Some(9_000), 9, 1);
    assert_eq!(found(planted), Vec::<String>::new());
}

#[test]
fn late_is_late_unless_a_fault_was_there() {
    let late = |fault: bool| {
        let mut planted = job();
        (2..=20).filter(|s| *s != 9).for_each(|second| fire(&mut planted, second, second as u64));
        planted.line(14_000, Said::Start, "j", Some(9_000), 9, 1);
        if fault {
            planted.fault(8_500, 11_000, "kill-leader");
        }
        found(planted)
    };
    assert_eq!(late(false), ["late"]);
    assert_eq!(late(true), Vec::<String>::new());
}

#[test]
fn a_name_that_lies_is_found() {
    let mut planted = job();
    (2..=20).filter(|s| *s != 9).for_each(|second| fire(&mut planted, second, second as u64));
    planted.line(3_500, Said::Start, "j", Some(9_000), 9, 1);
    assert_eq!(found(planted), ["early"]);
}

#[test]
fn what_a_change_may_have_caught_may_but_need_not_run() {
    for has_fire in [true, false] {
        let mut planted = job();
        let other = json!({"definition": {"name": "j", "triggers": [{"cron": "0/5 * * * * ?"}]}});
        planted.op(9_900, Some(11_100), "apply", "j", other, Kind::Ok, json!({}));
        (2..=9).for_each(|second| fire(&mut planted, second, second as u64));
        if has_fire {
            fire(&mut planted, 10, 10);
            fire(&mut planted, 11, 11);
        }
        fire(&mut planted, 15, 15);
        fire(&mut planted, 20, 20);
        assert_eq!(found(planted), Vec::<String>::new(), "{has_fire}");
    }
    let mut planted = job();
    let other = json!({"definition": {"name": "j", "triggers": [{"cron": "0/5 * * * * ?"}]}});
    planted.op(9_900, Some(11_100), "apply", "j", other, Kind::Ok, json!({}));
    (2..=9).for_each(|second| fire(&mut planted, second, second as u64));
    // An old instant after the change was acknowledged.
    [13, 15, 20].into_iter().for_each(|second| fire(&mut planted, second, second as u64));
    assert_eq!(found(planted), ["phantom"]);
}

#[test]
fn a_change_takes_hold_earlier_where_cluster_time_was_behind() {
    let told = |behind: i64| {
        let mut planted = job();
        let other = json!({"definition": {"name": "j", "triggers": [{"cron": "0/5 * * * * ?"}]}});
        planted.op(1_500, Some(1_510), "apply", "j", other, Kind::Ok, json!({}));
        let each = json!({"definition": {"name": "j", "triggers": [{"cron": "* * * * * ?"}]}});
        planted.op(8_600, Some(8_650), "apply", "j", each, Kind::Ok, json!({}));
        for at in (0..20).map(|n| n * 1_000 + 7) {
            planted.poll(at, "n1", 3, 7, "h");
        }
        let polls = planted.polls.iter_mut();
        polls.for_each(|poll| poll.time = shown(poll.utc - behind).into());
        // The eighth instant was over, by true time, when each second was asked for.
        [5, 8]
            .into_iter()
            .chain(9..=21)
            .for_each(|second| fire(&mut planted, second, second as u64));
        found(planted)
    };
    assert_eq!(told(0), ["phantom"]);
    assert_eq!(told(300), Vec::<String>::new());
}

#[test]
fn nothing_runs_in_a_pause_and_nothing_is_lost_around_it() {
    let paused = |seconds: &[i64]| {
        let mut planted = job();
        planted.op(7_500, Some(7_510), "pause", "j", json!({"key": "p"}), Kind::Ok, json!(null));
        planted.op(15_500, Some(15_510), "resume", "j", json!({"key": "r"}), Kind::Ok, json!(null));
        seconds.iter().for_each(|second| fire(&mut planted, *second, *second as u64));
        found(planted)
    };
    let good = [2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20];
    assert_eq!(paused(&good), Vec::<String>::new());
    assert_eq!(paused(&[&good[..], &[10]].concat()), ["phantom"]);
    assert_eq!(paused(&good[1..]), ["missed"]);
}

#[test]
fn a_deleted_job_may_drop_what_waited_and_fires_no_more() {
    let deleted = |seconds: &[i64]| {
        let mut planted = job();
        planted.op(12_500, Some(12_510), "delete", "j", json!({"key": "d"}), Kind::Ok, json!(null));
        seconds.iter().for_each(|second| fire(&mut planted, *second, *second as u64));
        found(planted)
    };
    assert_eq!(deleted(&[2, 3, 4, 5, 6, 7, 8, 9, 10, 11]), Vec::<String>::new());
    assert_eq!(deleted(&[2, 3, 4, 5, 6, 7, 9, 10, 11, 12]), ["missed"]);
    assert_eq!(deleted(&[2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14]), ["phantom"]);
}

#[test]
fn an_edit_that_nobody_knows_of_makes_the_rest_possible() {
    let mut planted = job();
    planted.op(9_500, Some(9_600), "delete", "j", json!({"key": "d"}), Kind::Info, json!(null));
    (2..=6).for_each(|second| fire(&mut planted, second, second as u64));
    fire(&mut planted, 13, 13);
    assert_eq!(found(planted), Vec::<String>::new());
}

#[test]
fn a_test_without_fires_is_unknown() {
    let mut evidence = evidence(job());
    evidence.test.workloads = vec!["cron-fires".to_owned()];
    evidence.ops.retain(|op| op.ask.f == "horizon");
    let checked = Fires::of(&evidence, &Records::of(&evidence)).check(&evidence);
    assert_eq!(checked.verdict, Verdict::Unknown);
}

/// A rate that is counted from its commit, in the third second; it is paused, a calendar
/// that bounds it changes meanwhile, and it goes on late. Judged up to 20 s.
fn counted_from_its_commit(seconds: &[i64]) -> Vec<String> {
    let mut planted = Planted::new();
    let weekly = |days: &str| json!({"definition": {"name": "c", "weekly": days}});
    planted.op(500, Some(510), "calendar", "c", weekly("SUN"), Kind::Ok, json!({}));
    let trigger = json!({"name": "t", "interval": "3s", "calendars": ["c"]});
    let job = json!({"definition": {"name": "j", "triggers": [trigger]}, "key": "a"});
    planted.op(1_600, Some(2_900), "apply", "j", job, Kind::Ok, json!({}));
    planted.op(8_600, Some(11_400), "pause", "j", json!({"key": "p"}), Kind::Ok, json!(null));
    planted.op(12_000, Some(12_010), "calendar", "c", weekly("MON"), Kind::Ok, json!({}));
    let resume = json!({"key": "r", "missed": "misfire"});
    planted.op(12_500, Some(12_510), "resume", "j", resume, Kind::Ok, json!(null));
    seconds.iter().for_each(|second| fire(&mut planted, *second, *second as u64));
    found(planted)
}

#[test]
fn where_nothing_ran_a_record_says_from_when_a_rate_is_counted() {
    let told = |left_out: &[i64]| {
        let mut planted = Planted::new();
        let trigger = json!({"name": "t", "interval": "8s", "misfire": "skip"});
        let job = json!({"definition": {"name": "j", "triggers": [trigger]}, "key": "a"});
        planted.op(1_100, Some(2_100), "apply", "j", job, Kind::Ok, json!({}));
        let time = |second: &i64| json!(shown(BASE_UTC + second * 1_000));
        let range = |at: &i64| {
            json!({"job": "j", "trigger": "t", "from": time(at), "to": time(at), "count": 1,
                "reason": "misfire", "policy": "skip", "at": time(&(at + 5))})
        };
        let ranges: Vec<_> = left_out.iter().map(range).collect();
        let none = json!(null);
        planted.op(29_000, Some(29_001), "final-missed", "j", none, Kind::Ok, json!(ranges));
        found(planted)
    };
    // It was committed in the second second, or in the third.
    assert_eq!(told(&[9, 17]), Vec::<String>::new());
    assert_eq!(told(&[10, 18]), Vec::<String>::new());
    assert_eq!(told(&[9]), ["missed"]);
}

#[test]
fn what_ran_says_from_when_a_rate_is_counted() {
    assert_eq!(counted_from_its_commit(&[5, 8, 11, 14, 17, 20]), Vec::<String>::new());
    assert_eq!(counted_from_its_commit(&[4, 7, 10, 13, 16, 19]), Vec::<String>::new());
    assert_eq!(counted_from_its_commit(&[5, 8, 11, 14, 20]), ["missed"]);
    let mut shifted = counted_from_its_commit(&[5, 8, 10, 13, 16, 19]);
    shifted.dedup();
    assert!(!shifted.is_empty(), "one rate from beginning to end");
    assert!(counted_from_its_commit(&[]).contains(&"missed".to_owned()));
}

/// All fires but that of second 8, whose run failed with so many workers lost; each was
/// given to `w1`, two seconds after the one before, while `op` was done to `who`.
fn lost(attempts: u32, losses: u64, op: &str, who: &str) -> Vec<String> {
    let mut planted = job();
    let others = (2..=21).filter(|second| *second != 8);
    others.for_each(|second| fire(&mut planted, second, second as u64));
    let at = |ms: i64| shown(BASE_UTC + ms);
    let attempt = |number: u32| {
        let given = 8_000 + i64::from(number) * 2_000;
        json!({"number": number, "token": number, "worker": "w1", "dispatched": at(given),
            "end": {"how": "worker_lost", "at": at(given + 1_500)}})
    };
    let attempts: Vec<_> = (1..=attempts).map(attempt).collect();
    let run = json!([{"id": "r-8", "job": "j", "state": "failed", "losses": losses,
        "action": "j@x", "nominal": at(8_000), "attempts": attempts}]);
    planted.op(27_000, Some(27_001), "runs", "", json!(null), Kind::Ok, run);
    for from in [10_000, 12_000, 14_000, 16_000] {
        planted.fault_on(from, Some(from + 500), op, json!({"who": [who]}));
    }
    found(planted)
}

#[test]
fn a_run_is_lost_with_its_workers_only_as_often_as_is_promised_and_by_faults_of_theirs() {
    assert_eq!(lost(4, 3, "worker-kill", "w1"), Vec::<String>::new());
    assert_eq!(lost(3, 2, "worker-kill", "w1"), ["missed"], "given up too soon");
    assert_eq!(lost(0, 0, "worker-kill", "w1"), ["missed"], "nobody ever had it");
    assert_eq!(lost(4, 3, "worker-kill", "w2"), ["missed"], "another worker");
    assert_eq!(lost(4, 3, "kill-one", "n1"), ["missed"], "a node");
    assert_eq!(lost(4, 3, "partition-workers", "n1"), Vec::<String>::new());
}

/// All fires; the only run of second 8 is of this kind, or stands beside one of the plan.
fn asked_for(kind: &str, beside: bool) -> Vec<String> {
    let mut planted = job();
    (2..=21).for_each(|second| fire(&mut planted, second, second as u64));
    let run = |id: &str, kind: &str| {
        json!({"id": id, "job": "j", "state": "success", "kind": kind, "action": "j@x",
            "nominal": shown(BASE_UTC + 8_000), "attempts": []})
    };
    let mut runs = vec![run("r-8", kind)];
    if beside {
        runs.push(run("r-7", "schedule"));
    }
    planted.op(27_000, Some(27_001), "runs", "", json!(null), Kind::Ok, json!(runs));
    found(planted)
}

#[test]
fn whoever_asks_first_gets_the_fire_and_nobody_else_makes_one() {
    assert_eq!(asked_for("super_recover", false), Vec::<String>::new());
    assert_eq!(asked_for("super_recover", true), ["missed"], "it was asked for afterwards");
    assert_eq!(asked_for("manual", false), ["missed"], "beside the plan");
}
