//! Each way in which the balance can be wrong must show in it.

use std::collections::{BTreeMap, BTreeSet};

use horai_core::time::UtcMillis;

use super::ledger::{Ledger, Record, Seen, Witness, expected};
use crate::api::dto::{ActionRef, RunDto};
use crate::api::job_definition::JobDefinition;

const T0: i64 = 1_795_230_000_000; // 2026-11-21T03:00:00Z

fn at(seconds: i64) -> UtcMillis {
    UtcMillis(T0 + seconds * 1000)
}

fn action(job: &str, seconds: i64) -> ActionRef {
    ActionRef { job: job.to_owned(), nominal: at(seconds) }
}

fn job(name: &str, crons: &[&str], upstream: &[&str]) -> JobDefinition {
    let triggers: Vec<_> = crons.iter().map(|c| serde_json::json!({ "cron": c })).collect();
    let job = serde_json::json!({
        "name": name, "noop": true, "triggers": triggers, "depends_on": upstream,
    });
    serde_json::from_value(job).unwrap()
}

/// A world in which all went well: `a` at 5 and 10 s.
struct World {
    expected: BTreeSet<ActionRef>,
    seen: BTreeMap<ActionRef, Seen>,
    witness: Witness,
}

impl World {
    fn good() -> Self {
        let expected: BTreeSet<_> = [action("a", 5), action("a", 10)].into();
        let fine = |a: &ActionRef| Seen {
            due: a.nominal,
            started: Some(UtcMillis(a.nominal.0 + 1000)),
            runs: 1,
            successes: 1,
            failed: false,
        };
        let seen = expected.iter().map(|a| (a.clone(), fine(a))).collect();
        let mut witness = Witness::default();
        witness.read("a", "a@20261121T030005Z,0.5,100\na@20261121T030010Z,0.5,100\n");
        Self { expected, seen, witness }
    }

    fn draw(&self) -> Ledger {
        Ledger::draw(&self.expected, &self.seen, &self.witness, (at(0), at(12)))
    }

    fn line(&self) -> String {
        self.draw().to_string()
    }
}

#[test]
fn all_well_is_clean() {
    let world = World::good();
    assert_eq!(world.line(), "ledger: expected=2 fired=2 late=0 lost=0 double=0");
    assert!(world.draw().is_clean());
}

#[test]
fn what_did_not_happen_is_lost() {
    let key = action("a", 10);
    // Never made.
    let mut world = World::good();
    world.seen.remove(&key);
    assert_eq!(world.line(), "ledger: expected=2 fired=1 late=0 lost=1 double=0");
    assert!(!world.draw().is_clean());
    // Made, and never finished.
    let mut world = World::good();
    world.seen.get_mut(&key).unwrap().successes = 0;
    assert_eq!(world.draw().lost, [key.clone()].into());
    // Called a success, and left nothing.
    let mut world = World::good();
    world.witness.lines.remove(&key);
    assert_eq!(world.draw().lost, [key].into());
}

#[test]
fn a_job_that_failed_by_itself_was_fired() {
    let mut world = World::good();
    let seen = world.seen.get_mut(&action("a", 5)).unwrap();
    (seen.successes, seen.failed) = (0, true);
    let ledger = world.draw();
    assert_eq!((ledger.fired, ledger.failed, ledger.lost.len()), (2, 1, 0));
}

#[test]
fn what_happened_twice_is_double() {
    let key = action("a", 5);
    let twice: [&dyn Fn(&mut World); 3] = [
        &|world| world.seen.get_mut(&key).unwrap().successes = 2,
        &|world| world.seen.get_mut(&key).unwrap().runs = 2,
        &|world| world.witness.read("a", "a@20261121T030005Z,0.7,99\n"),
    ];
    for double in twice {
        let mut world = World::good();
        double(&mut world);
        assert_eq!(world.line(), "ledger: expected=2 fired=2 late=0 lost=0 double=1");
        assert!(!world.draw().is_clean());
    }
    // Beyond the span, and still double.
    let mut world = World::good();
    world.witness.read("a", "a@20261121T030015Z\na@20261121T030015Z\n");
    assert_eq!(world.draw().double, [action("a", 15)].into());
}

#[test]
fn late_is_more_than_a_second_after_due() {
    let mut world = World::good();
    world.seen.get_mut(&action("a", 5)).unwrap().started = Some(UtcMillis(T0 + 6_001));
    assert_eq!(world.line(), "ledger: expected=2 fired=2 late=1 lost=0 double=0");
    assert!(world.draw().is_clean());
    // A start that nobody saw is not called punctual.
    world.seen.get_mut(&action("a", 5)).unwrap().started = None;
    assert_eq!(world.draw().late, 1);
}

#[test]
fn what_nobody_planned_is_not_clean() {
    let mut world = World::good();
    world.seen.insert(action("a", 7), Seen { runs: 1, ..Seen::default() });
    assert!(!world.draw().is_clean());
    // Outside the span nothing is known of the plan.
    let mut world = World::good();
    world.seen.insert(action("a", 15), Seen { runs: 1, ..Seen::default() });
    assert!(world.draw().is_clean());
}

#[test]
fn instants_come_from_triggers_or_from_all_upstream_jobs() {
    // In an order in which upstream jobs come last.
    let jobs = [
        job("last", &[], &["both"]),
        job("both", &[], &["five", "ten"]),
        job("ten", &["0/10 * * * * ?"], &[]),
        job("five", &["*/5 * * * * ?"], &[]),
    ];
    let found = expected(&jobs, at(0), at(20)).unwrap();
    let of = |name: &str| -> Vec<i64> {
        let of_job = found.iter().filter(|a| a.job == name);
        of_job.map(|a| (a.nominal.0 - T0) / 1000).collect()
    };
    // After `from`, up to `to`.
    assert_eq!(of("five"), [5, 10, 15, 20]);
    assert_eq!(of("ten"), [10, 20]);
    assert_eq!((of("both"), of("last")), (vec![10, 20], vec![10, 20]));
    let circle = [job("x", &[], &["y"]), job("y", &[], &["x"])];
    assert!(expected(&circle, at(0), at(20)).is_err());
    assert!(expected(&[job("x", &["nonsense"], &[])], at(0), at(20)).is_err());
}

fn gather(runs: &[RunDto]) -> Seen {
    let mut record = Record::default();
    for run in runs {
        record.note(run);
    }
    record.by_action().remove(&action("a", 5)).unwrap()
}

fn run(kind: &str, state: &str, ends: &[serde_json::Value]) -> RunDto {
    let attempts: Vec<_> = (1..)
        .zip(ends)
        .map(|(n, end)| {
            serde_json::json!({
                "id": format!("r-7.{n}"), "number": n, "token": n, "worker": "worker-1",
                "cause": "first", "dispatched": "2026-11-21T03:00:05.003Z",
                "started": format!("2026-11-21T03:00:0{}.010Z", 4 + n),
                "ended": null, "end": end, "output_bytes": 0,
            })
        })
        .collect();
    serde_json::from_value(serde_json::json!({
        "id": "r-7", "kind": kind, "job": "a", "revision": 1, "action": "a@20261121T030005Z",
        "nominal": "2026-11-21T03:00:05.000Z", "state": state,
        "created": "2026-11-21T03:00:05.001Z", "ready_at": "2026-11-21T03:00:05.002Z",
        "finished": null, "retries": 0, "losses": 0, "cancel_requested": false,
        "attempts": attempts,
    }))
    .unwrap()
}

#[test]
fn runs_are_read_as_they_ended() {
    let exited = |code: i32| serde_json::json!({"how": "exited", "code": code, "at": "2026-11-21T03:00:09.000Z"});
    let gone = serde_json::json!({"how": "gone", "at": "2026-11-21T03:00:09.000Z"});
    let one = |run: RunDto| gather(&[run]);

    let retried = one(run("schedule", "success", &[exited(1), exited(0)]));
    assert_eq!((retried.successes, retried.runs, retried.failed), (1, 1, false));
    assert_eq!((retried.due, retried.started), (at(5), Some(UtcMillis(T0 + 5_010))));
    assert_eq!(one(run("dependency", "success", &[exited(0)])).due, UtcMillis(T0 + 5_002));
    assert!(one(run("schedule", "failed", &[exited(1), exited(3)])).failed);
    // A lost worker is no doing of the job's.
    assert!(!one(run("schedule", "failed", &[exited(1), gone])).failed);
    // Two runs of one action, and one run that was told of twice.
    let first = run("schedule", "success", &[exited(0)]);
    let second = RunDto { id: "r-8".parse().unwrap(), ..first.clone() };
    let both = gather(&[first.clone(), second]);
    assert_eq!((both.runs, both.successes), (2, 2));
    let again = gather(&[run("schedule", "running", &[]), first]);
    assert_eq!((again.runs, again.successes), (1, 1));
}

#[test]
fn the_witness_counts_lines_by_action() {
    let mut witness = Witness::default();
    witness.read("a", "a@20261121T030005Z,1\nb@20261121T030005Z,1\n\na@20261121T030005Z,2\n");
    assert_eq!(witness.lines, [(action("a", 5), 2)].into());
    assert_eq!(witness.unreadable, 2);
}
