//! Jobs of every kind of trigger and with every misfire policy, while all nodes
//! are down: what was planned ahead fires late under its own nominal time, what
//! was held by a pause is what the policies say, and all of it is accounted for.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cluster::{Cluster, until, until_within};

/// From one instant to the next, in seconds.
const EVERY: i64 = 5;
/// An instant planned later than this is a misfire, by the default settings.
const MISFIRE_AFTER: i64 = 60;
/// Between what the leader's clock shows and what a test sees.
const SLACK: i64 = 8;
const POLICIES: [&str; 3] = ["fire_all", "fire_now", "skip"];
/// The group that is paused before the outage, and resumed after it.
const HELD: &str = "held/inner";

/// What gives a job its instants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Cron,
    Unix,
    Interval,
    CalendarInterval,
    DailyWindow,
    FixedDelay,
    Once,
}

const KINDS: [Kind; 7] = [
    Kind::Cron,
    Kind::Unix,
    Kind::Interval,
    Kind::CalendarInterval,
    Kind::DailyWindow,
    Kind::FixedDelay,
    Kind::Once,
];

impl Kind {
    /// Each but the last two at the same instants: every so many seconds from `start`.
    fn trigger(self, start: i64, once: i64) -> Value {
        let start = at(start).to_string();
        match self {
            Self::Cron => json!({"cron": "0/5 * * * * ?", "start": start}),
            Self::Unix => json!({"cron": "@every 5s", "dialect": "unix", "start": start}),
            Self::Interval => json!({"interval": "5s", "start": start}),
            Self::CalendarInterval => json!({"calendar_interval": "5 seconds", "start": start}),
            Self::DailyWindow => json!({"daily_window": {"every": "5s"}, "start": start}),
            Self::FixedDelay => json!({"fixed_delay": "5s"}),
            Self::Once => json!({"once": at(once).to_string()}),
        }
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn now() -> i64 {
    Timestamp::now().as_second()
}

fn millis(value: &Value) -> i64 {
    value.as_str().unwrap().parse::<Timestamp>().unwrap().as_millisecond()
}

struct Job {
    name: String,
    kind: Kind,
    policy: &'static str,
    is_held: bool,
}

/// Every kind with every policy, once in the group and once outside.
fn jobs() -> Vec<Job> {
    let mut jobs = Vec::new();
    for is_held in [false, true] {
        for kind in KINDS {
            for policy in POLICIES {
                let where_ = if is_held { "held" } else { "free" };
                let name = format!("{kind:?}-{policy}-{where_}").to_lowercase();
                jobs.push(Job { name, kind, policy, is_held });
            }
        }
    }
    jobs
}

fn apply(cluster: &Cluster, jobs: &[&Job], start: i64, once: i64) {
    let definitions: Vec<Value> = jobs
        .iter()
        .map(|job| {
            let mut trigger = job.kind.trigger(start, once);
            trigger["name"] = "t".into();
            trigger["misfire"] = job.policy.into();
            let group = if job.is_held { HELD } else { "free" };
            json!({"name": job.name, "noop": true, "group": group, "triggers": [trigger]})
        })
        .collect();
    cluster.post("jobs", &json!({ "jobs": definitions }));
}

/// Nominal time and end of every action so far that is due, in milliseconds.
fn actions(cluster: &Cluster, job: &Job, until: i64) -> Vec<(i64, Option<i64>)> {
    let list = cluster.get(&format!("jobs/{}/actions?limit=1000&to={}", job.name, at(until)));
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|action| {
            let end = (action["state"] == "success").then(|| millis(&action["finished"]));
            (millis(&action["nominal"]), end)
        })
        .collect()
}

/// First, last and number of instants that a policy left out.
fn missed(cluster: &Cluster, job: &Job) -> Vec<(i64, i64, u64)> {
    let list = cluster.get(&format!("jobs/{}/missed", job.name));
    let items = list["items"].as_array().unwrap().clone();
    let of = |item: &Value| {
        assert_eq!(item["reason"], "misfire", "{item}");
        (millis(&item["from"]), millis(&item["to"]), item["count"].as_u64().unwrap())
    };
    items.iter().map(of).collect()
}

/// Waits until every action up to an instant has succeeded.
fn wait_for_success(cluster: &Cluster, jobs: &[Job], until_second: i64) {
    for job in jobs {
        until_within(Duration::from_secs(90), &format!("the actions of {}", job.name), || {
            let actions = actions(cluster, job, until_second);
            actions.iter().all(|(_, end)| end.is_some()).then_some(())
        });
    }
}

/// Each next instant is the first whole second five seconds after the last end.
fn check_delays(job: &Job, actions: &[(i64, Option<i64>)]) {
    for pair in actions.windows(2) {
        let end = pair[0].1.unwrap();
        let next = (end + EVERY * 1000 + 999) / 1000 * 1000;
        assert_eq!(pair[1].0, next, "{}: {pair:?}", job.name);
    }
}

/// What was never paused has all of its instants, and nothing was left out.
fn check_free(cluster: &Cluster, job: &Job, (start, end): (i64, i64), once: i64) {
    let actions = actions(cluster, job, end);
    assert_eq!(missed(cluster, job), [], "{}", job.name);
    let nominals: Vec<i64> = actions.iter().map(|(nominal, _)| nominal / 1000).collect();
    match job.kind {
        Kind::FixedDelay => {
            assert!(actions.len() > 3, "{}: {actions:?}", job.name);
            check_delays(job, &actions);
        }
        Kind::Once => assert_eq!(nominals, [once], "{}", job.name),
        _ => {
            let expected: Vec<i64> =
                (0..).map(|n| start + n * EVERY).take_while(|at| *at <= end).collect();
            assert_eq!(nominals, expected, "{}", job.name);
        }
    }
}

/// What was paused from `paused` to `resumed`: each instant is run or recorded, as
/// its policy says, and none is both.
fn check_held(
    cluster: &Cluster,
    job: &Job,
    (start, end): (i64, i64),
    (paused, resumed): (i64, i64),
    once: i64,
) {
    let name = &job.name;
    let actions = actions(cluster, job, end);
    let missed = missed(cluster, job);
    let nominals: Vec<i64> = actions.iter().map(|(nominal, _)| nominal / 1000).collect();
    let is_skip = job.policy == "skip";
    match job.kind {
        Kind::FixedDelay => {
            // The one that came next was late for more than a minute.
            let gap: Vec<&i64> =
                nominals.iter().filter(|at| (paused + 1..resumed).contains(at)).collect();
            assert_eq!((gap.len(), missed.len()), if is_skip { (0, 1) } else { (1, 0) }, "{name}");
            let since = actions.partition_point(|(nominal, _)| *nominal / 1000 <= paused);
            check_delays(job, &actions[..since]);
            check_delays(job, &actions[since..]);
            return;
        }
        Kind::Once => {
            let expected = if is_skip { vec![] } else { vec![once] };
            assert_eq!((nominals, missed.len()), (expected, usize::from(is_skip)), "{name}");
            return;
        }
        _ => {}
    }
    let is_missed =
        |at: i64| missed.iter().any(|(from, to, _)| (*from..=*to).contains(&(at * 1000)));
    let expected: Vec<i64> = (0..)
        .map(|n| start + n * EVERY)
        .take_while(|at| *at <= end)
        .filter(|at| !is_missed(*at))
        .collect();
    assert_eq!(nominals, expected, "{name}, without {missed:?}");
    if job.policy == "fire_all" {
        assert_eq!(missed, [], "{name}");
        return;
    }
    // One range, from the pause up to what is late by a minute, or to the one before.
    let [(from, to, count)] = missed[..] else { panic!("{name}: {missed:?}") };
    assert!(from / 1000 > paused && from / 1000 <= paused + EVERY + SLACK, "{name}: {missed:?}");
    assert_eq!(count, u64::try_from((to - from) / 1000 / EVERY + 1).unwrap(), "{name}");
    let late = resumed - to / 1000;
    let least = if is_skip { MISFIRE_AFTER } else { MISFIRE_AFTER + EVERY };
    assert!((least - SLACK..least + EVERY + SLACK).contains(&late), "{name}: {late} s, {missed:?}");
}

/// Half of the jobs are paused before the nodes go, and resumed by their policies.
fn outage(pause: Duration) {
    let mut cluster = Cluster::start(3, 1);
    let jobs = jobs();
    let (once_jobs, rates): (Vec<&Job>, Vec<&Job>) =
        jobs.iter().partition(|job| job.kind == Kind::Once);
    let start = (now() + 10) / EVERY * EVERY + EVERY;
    apply(&cluster, &rates, start, 0);
    until("the first fires", || (now() > start + 2 * EVERY).then_some(()));
    // In the first half of the outage, so that the longer one makes it a misfire.
    let once = now() + 8;
    apply(&cluster, &once_jobs, start, once);
    let paused = now();
    cluster.run_ok(&["group", "pause", "held"]);
    cluster.stop_all_nodes_for(pause);
    cluster.run_ok(&["group", "resume", "held", "--missed", "misfire"]);
    let resumed = now();
    let end = resumed + 3 * EVERY;
    until("the last fires", || (now() > end + 1).then_some(()));
    wait_for_success(&cluster, &jobs, end);
    let is_long = pause.as_secs() > MISFIRE_AFTER.unsigned_abs();
    for job in &jobs {
        if job.is_held && is_long {
            check_held(&cluster, job, (start, end), (paused, resumed), once);
        } else if job.is_held && job.kind == Kind::FixedDelay {
            // The pause counts the delay anew.
            assert_eq!(missed(&cluster, job), [], "{}", job.name);
        } else {
            check_free(&cluster, job, (start, end), once);
        }
    }
    cluster.end();
}

#[test]
fn ten_seconds_without_nodes_are_no_misfire() {
    outage(Duration::from_secs(10));
}

#[test]
fn what_ninety_seconds_without_nodes_left_out_is_what_the_policies_say() {
    outage(Duration::from_secs(90));
}

const CALENDARS: &str = "
calendars:
  - {name: workdays, weekly: 'SAT,SUN', base: holidays}
  - {name: holidays, dates: ['2026-12-25'], zone: Europe/Berlin}
";

/// The second trigger never fires: it holds on to the calendar.
const PARAMETERS: &str = r#"
[[jobs]]
name = "told"
group = "etl/nightly"
shell = 'printf "%s %s\n" "$HORAI_PARAM_A" "$HORAI_PARAM_B"'
params = { A = "job", B = "job" }
[[jobs.triggers]]
name = "again"
fixed_delay = "1s"
priority = 9
params = { B = "trigger" }
misfire = "DO_NOTHING"
[[jobs.triggers]]
cron = "0 0 0 1 1 ? 2099"
calendars = ["workdays"]
enabled = false
[[jobs]]
name = "alone"
noop = true
[[jobs.triggers]]
cron = "0 0 3 * * ?"
[[jobs]]
name = "after"
noop = true
depends_on = ["alone"]
"#;

#[test]
fn what_people_type_about_time_does_what_it_says() {
    let cluster = Cluster::start(1, 1);
    let out = |arguments: &[&str]| cluster.run_ok(arguments);
    let data = |arguments: &[&str]| cluster.data(arguments);
    let file = |name: &str, content: &str| {
        let path = cluster.path(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    // Calendars, whatever their order in the file, and what is shown can be applied.
    let applied = data(&["calendar", "apply", "-f", &file("calendars.yaml", CALENDARS)]);
    let names: Vec<&str> =
        applied.as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["holidays", "workdays"]);
    assert_eq!(out(&["calendar", "list", "-o", "quiet"]), "holidays\nworkdays\n");
    let shown = out(&["calendar", "show", "workdays", "-o", "yaml"]);
    let again = data(&["calendar", "apply", "-f", &file("again.yaml", &shown)]);
    assert_eq!((&again[0]["name"], &again[0]["changed"]), (&json!("workdays"), &json!(false)));
    // A job that says all there is to say, in Quartz's word for misfires.
    let applied = cluster.run(&["job", "apply", "-f", &file("jobs.toml", PARAMETERS)]);
    let told = String::from_utf8(applied.stderr).unwrap();
    assert!(applied.status.success() && told.contains("DO_NOTHING is taken as skip"), "{told}");
    for calendar in ["workdays", "holidays"] {
        let refused = cluster.run(&["calendar", "delete", calendar]);
        let told = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(4), "{told}");
        assert!(told.contains("in use by") && told.contains("\nhint: "), "{told}");
    }
    // Its runs have their parameters, and follow one another by a second at least.
    let runs = until("three runs", || {
        let runs = data(&["run", "list", "--job", "told"]);
        let done = runs.as_array()?.iter().filter(|run| run["state"] == "success").count();
        (done >= 3).then_some(runs)
    });
    let last = runs.as_array().unwrap().iter().find(|run| run["state"] == "success").unwrap();
    assert_eq!(out(&["run", "logs", last["id"].as_str().unwrap()]), "job trigger\n");
    assert_eq!(last["priority"], 9, "{last}");
    let told_job = |name: &str| Job {
        name: name.to_owned(),
        kind: Kind::FixedDelay,
        policy: "skip",
        is_held: false,
    };
    let ends: Vec<(i64, Option<i64>)> = actions(&cluster, &told_job("told"), now())
        .into_iter()
        .filter(|(_, end)| end.is_some())
        .collect();
    for pair in ends.windows(2) {
        assert!(pair[1].0 >= pair[0].1.unwrap() + 1000, "{pair:?}");
    }
    // Pauses of every size, and whom they hold up.
    let paused = data(&["job", "pause", "alone"]);
    assert_eq!(paused["dependants"], json!(["after"]));
    out(&["job", "pause", "told", "--trigger", "again"]);
    out(&["group", "pause", "etl"]);
    out(&["freeze"]);
    assert_eq!(out(&["pauses", "-o", "quiet"]), "etl\nagain\n");
    assert!(out(&["cluster", "status"]).contains("frozen since"));
    let job = data(&["job", "get", "told"]);
    assert_eq!((&job["paused_group"], &job["paused_triggers"]), (&json!("etl"), &json!(["again"])));
    let count = || data(&["run", "list", "--job", "told"]).as_array().unwrap().len();
    let before = count();
    out(&["unfreeze", "--missed", "misfire"]);
    out(&["group", "resume", "etl"]);
    out(&["job", "resume", "alone", "--missed", "skip"]);
    assert_eq!(count(), before, "its trigger is paused still");
    out(&["job", "resume", "told", "--trigger", "again"]);
    until("another run", || (count() > before).then_some(()));
    assert_eq!(data(&["pauses"]), json!([]));
    out(&["job", "delete", "told"]);
    out(&["calendar", "delete", "workdays"]);
    out(&["calendar", "delete", "holidays"]);
    cluster.end();
}
