//! What must have happened, against what did: the jobs' own witness file, and
//! the cluster's record.
//!
//! Each attempt appends lines to one file: its action, its number, its token and
//! what it is doing. Short lines appended by one write keep their order, so the
//! file tells whether two attempts of one action were ever alive at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Cluster, until};

/// Jobs that fire each second.
const JOBS: usize = 50;
/// Of their attempts.
pub(crate) const LEASE: Duration = Duration::from_secs(5);
/// One in so many takes seconds rather than no time.
const SLOW: usize = 10;

/// A shorter time says nothing.
const LEAST_SECONDS: i64 = 6;

/// What a job does: writes that it started, lives for a while, writes that it ended.
const SCRIPT: &str = r#"
say() { printf '%s %s %s %s\n' "$HORAI_ACTION_ID" "$HORAI_ATTEMPT" "$HORAI_FENCING_TOKEN" "$1" >> "$WITNESS"; }
say start
for ((i = 0; i < ${STEPS:-0}; i++)); do sleep 0.1; say alive; done
say end
"#;

/// Watches one set of jobs from their creation on.
pub(crate) struct Judge {
    jobs: Vec<String>,
    created: i64,
}

/// What the cluster must have recorded of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Every action succeeded.
    Success,
    /// Actions may have failed too, because workers were lost: but each once, and for that alone.
    SuccessOrLoss,
}

impl Judge {
    /// Creates jobs that fire each second, and some that take long.
    pub(crate) fn begin(cluster: &Cluster, on_worker_lost: &str) -> Self {
        let witness = cluster.path("witness");
        std::fs::write(&witness, "").unwrap();
        let jobs: Vec<Value> = (0..JOBS)
            .map(|n| {
                let slow = n % SLOW == 0;
                let mut job = json!({
                    "name": format!("j{n}"),
                    "triggers": [{"cron": if slow { "0/5 * * * * ?" } else { "* * * * * ?" }}],
                    "shell": SCRIPT,
                    "interpreter": ["/bin/bash"],
                    "env": {"WITNESS": witness, "STEPS": if slow { "30" } else { "0" }},
                    "lease": format!("{}s", LEASE.as_secs()),
                    "on_worker_lost": on_worker_lost,
                });
                if on_worker_lost == "keep" {
                    job["keep_for"] = "10m".into();
                }
                job
            })
            .collect();
        cluster.post("jobs", &json!({ "jobs": jobs }));
        let names = (0..JOBS).map(|n| format!("j{n}")).collect();
        Self { jobs: names, created: Timestamp::now().as_second() }
    }

    /// How many attempts have written that they ended.
    pub(crate) fn ended(&self, cluster: &Cluster) -> usize {
        lines(cluster).iter().filter(|line| line.what == "end").count()
    }

    /// Waits until jobs that were not there before have run.
    #[track_caller]
    pub(crate) fn wait_for_fires(&self, cluster: &Cluster) {
        let before = self.ended(cluster);
        until("jobs to fire", || (self.ended(cluster) > before + JOBS).then_some(()));
    }

    /// Waits until all that was due has ended, judges it, and lets no more fire.
    #[track_caller]
    pub(crate) fn end(self, cluster: &Cluster, expect: Expect) {
        // Two seconds after the answer: the first instant may lie on the other side of it.
        let from = self.created + 2;
        let until_second = until("time enough to judge", || {
            let last = Timestamp::now().as_second() - 1;
            (last >= from + LEAST_SECONDS).then_some(last)
        });
        let mut faults = Vec::new();
        let mut attempts = BTreeSet::new();
        for (n, job) in self.jobs.iter().enumerate() {
            let step = if n % SLOW == 0 { 5 } else { 1 };
            let due: BTreeSet<String> = (from..=until_second)
                .filter(|second| second % step == 0)
                .map(|second| Timestamp::from_second(second).unwrap().to_string())
                .collect();
            let actions = self.finished_actions(cluster, job, from, until_second);
            let mut seen = BTreeSet::new();
            for action in &actions {
                let nominal: Timestamp = action["nominal"].as_str().unwrap().parse().unwrap();
                if !seen.insert(nominal.to_string()) {
                    faults.push(format!("{job}: two actions at {nominal}"));
                }
            }
            for missing in due.difference(&seen) {
                faults.push(format!("{job}: nothing at {missing}"));
            }
            for extra in seen.difference(&due) {
                faults.push(format!("{job}: nothing was due at {extra}"));
            }
            let runs = cluster.get(&format!("runs?job={job}&limit=1000"));
            let runs: BTreeMap<&str, &Value> = (runs["items"].as_array().unwrap().iter())
                .map(|run| (run["id"].as_str().unwrap(), run))
                .collect();
            for action in &actions {
                faults.extend(judge_action(action, &runs, expect, &mut attempts));
            }
        }
        for job in &self.jobs {
            cluster.post(&format!("jobs/{job}/pause"), &json!({}));
        }
        faults.extend(judge_witness(&lines(cluster), &attempts));
        let shown = faults.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
        assert!(faults.is_empty(), "{} faults:\n{shown}", faults.len());
    }

    /// The job's actions of that time, once all of them are final.
    #[track_caller]
    fn finished_actions(&self, cluster: &Cluster, job: &str, from: i64, to: i64) -> Vec<Value> {
        let time = |second| Timestamp::from_second(second).unwrap();
        let route = format!("jobs/{job}/actions?from={}&to={}&limit=1000", time(from), time(to));
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let actions = cluster.get(&route)["items"].as_array().unwrap().clone();
            let is_open = |a: &&Value| {
                matches!(a["state"].as_str().unwrap(), "planned" | "waiting" | "ready" | "running")
            };
            let Some(open) = actions.iter().find(is_open) else { return actions };
            assert!(Instant::now() < end, "waited in vain for the end of {open}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn judge_action(
    action: &Value,
    runs: &BTreeMap<&str, &Value>,
    expect: Expect,
    attempts: &mut BTreeSet<String>,
) -> Vec<String> {
    let mut faults = Vec::new();
    let id = action["id"].as_str().unwrap();
    let Some(run) = action["run"].as_str().and_then(|run| runs.get(run)) else {
        return vec![format!("{id} is {} and its run is not there", action["state"])];
    };
    let mut good = 0;
    for attempt in run["attempts"].as_array().unwrap() {
        attempts.insert(attempt["id"].as_str().unwrap().to_owned());
        let end = &attempt["end"];
        match end["how"].as_str() {
            Some("exited") if end["code"] == 0 => good += 1,
            Some("lease_expired" | "gone" | "worker_lost") => {}
            _ => faults.push(format!("{id}: an attempt ended as {end}")),
        }
    }
    let state = action["state"].as_str().unwrap();
    let lost = expect == Expect::SuccessOrLoss && state == "failed" && good == 0;
    if !(state == "success" && good == 1 || lost) {
        faults.push(format!("{id} is {state} with {good} successes: {run}"));
    }
    faults
}

struct Line {
    action: String,
    attempt: String,
    token: u64,
    what: String,
}

fn lines(cluster: &Cluster) -> Vec<Line> {
    parsed(&std::fs::read_to_string(cluster.path("witness")).unwrap())
}

/// Whole lines. Jobs go on writing meanwhile, and a line that crosses a page of the
/// file becomes visible in two steps: the last one may be there in part.
fn parsed(text: &str) -> Vec<Line> {
    let parse = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let [action, attempt, token, what] = words[..] else {
            panic!("torn line in the witness file: {line:?}");
        };
        let (action, attempt) = (action.to_owned(), attempt.to_owned());
        Line { action, attempt, token: token.parse().unwrap(), what: what.to_owned() }
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(parse).collect()
}

#[test]
fn a_line_that_is_being_written_is_not_read_yet() {
    let told = |text| parsed(text).iter().map(|line| line.what.clone()).collect::<Vec<_>>();
    assert_eq!(told("a r-1.1 7 start\nj30@20261121T120155Z r-396"), ["start"]);
    assert_eq!(told("a r-1.1 7 start\na r-1.1 7 end\n"), ["start", "end"]);
    assert!(told("a r-1.1").is_empty());
}

/// No two attempts of one action alive at once, none that the cluster does not
/// know of, and tokens that grow.
fn judge_witness(lines: &[Line], known: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut now: BTreeMap<&str, (&str, u64)> = BTreeMap::new();
    let mut past: BTreeSet<&str> = BTreeSet::new();
    let mut started: BTreeSet<&str> = BTreeSet::new();
    for line in lines {
        if past.contains(line.attempt.as_str()) {
            faults.push(format!("{} was alive beside a later attempt", line.attempt));
        }
        if line.what == "start" && !started.insert(&line.attempt) {
            faults.push(format!("{} started twice", line.attempt));
        }
        match now.insert(&line.action, (&line.attempt, line.token)) {
            Some((before, token)) if before != line.attempt => {
                past.insert(before);
                if line.token <= token {
                    faults.push(format!("{} has no larger token than {before}", line.attempt));
                }
            }
            Some(_) | None => {}
        }
    }
    // Attempts outside the judged time are not in `known`, but those of a judged
    // action are: an attempt that the cluster never recorded is a ghost.
    let judged: BTreeSet<&str> = known.iter().filter_map(|id| id.split('.').next()).collect();
    for attempt in started {
        let run = attempt.split('.').next().unwrap_or_default();
        if judged.contains(run) && !known.contains(attempt) {
            faults.push(format!("{attempt} ran, and the cluster does not know it"));
        }
    }
    faults
}

#[test]
fn the_judge_sees_what_it_is_there_for() {
    let line = |attempt: &str, token, what: &str| Line {
        action: "a@1".into(),
        attempt: attempt.into(),
        token,
        what: what.into(),
    };
    let known = BTreeSet::from(["r-1.1".to_owned(), "r-1.2".to_owned()]);
    let good = [line("r-1.1", 1, "start"), line("r-1.2", 2, "start"), line("r-1.2", 2, "end")];
    assert_eq!(judge_witness(&good, &known), Vec::<String>::new());
    let overlap = [line("r-1.1", 1, "start"), line("r-1.2", 2, "start"), line("r-1.1", 1, "end")];
    assert!(judge_witness(&overlap, &known)[0].contains("alive beside"));
    let twice = [line("r-1.1", 1, "start"), line("r-1.1", 1, "start")];
    assert!(judge_witness(&twice, &known)[0].contains("started twice"));
    let ghost = [line("r-1.1", 1, "start"), line("r-1.3", 3, "start")];
    assert!(judge_witness(&ghost, &known)[0].contains("does not know"));
    let stale = [line("r-1.1", 5, "start"), line("r-1.2", 4, "start")];
    assert!(judge_witness(&stale, &known)[0].contains("no larger token"));
}
