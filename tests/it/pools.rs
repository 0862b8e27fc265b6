//! Pools in a cluster of processes: never more at once than there are slots, by what
//! the jobs themselves wrote down, while leaders and workers are killed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, until};

const JOBS: usize = 30;
const SLOTS: usize = 2;
const LEASE: Duration = Duration::from_secs(5);
/// Beyond the lease, by default.
const MARGIN: Duration = Duration::from_secs(10);

/// One line when it begins, one before it ends: appended whole, so they keep their order.
const SCRIPT: &str = r#"
echo "$HORAI_ACTION_ID$HORAI_RUN_ID start" >> "$WITNESS"
eval "$WORK"
echo "$HORAI_ACTION_ID$HORAI_RUN_ID end" >> "$WITNESS"
"#;

/// A job that does `work` between its two lines.
fn job(cluster: &Cluster, name: &str, work: &str) -> Value {
    json!({
        "name": name,
        "shell": SCRIPT,
        "env": {"WITNESS": cluster.path("witness"), "WORK": work},
        "lease": format!("{}s", LEASE.as_secs()),
        "pool": "warehouse",
    })
}

fn witness(cluster: &Cluster) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(cluster.path("witness")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(id, what)| (id.to_owned(), what.to_owned())).collect()
}

fn ended(cluster: &Cluster) -> usize {
    witness(cluster).iter().filter(|(_, what)| what == "end").count()
}

fn pool(cluster: &Cluster) -> Value {
    cluster.get("pools/warehouse")
}

#[test]
fn thirty_jobs_of_a_pool_of_two_never_run_more_than_two_at_once_while_leaders_die() {
    let mut cluster = Cluster::start(3, 2);
    cluster.run_ok(&["pool", "set", "warehouse", "--slots", &SLOTS.to_string()]);
    let names: Vec<String> = (0..JOBS).map(|n| format!("j{n}")).collect();
    let jobs: Vec<Value> = names.iter().map(|name| job(&cluster, name, "sleep 0.4")).collect();
    cluster.post("jobs", &json!({ "jobs": jobs }));
    for name in &names {
        cluster.post(&format!("jobs/{name}/trigger"), &json!({}));
    }
    for goal in [4, 14] {
        until("some of them to end", || (ended(&cluster) >= goal).then_some(()));
        let killed = cluster.kill_leader();
        // Work goes on before it is back.
        let before = ended(&cluster);
        until("more of them to end", || (ended(&cluster) > before).then_some(()));
        cluster.bring_back(killed);
    }
    until("all of them to end", || (ended(&cluster) >= JOBS).then_some(()));
    until("nothing to be in use", || (pool(&cluster)["used"] == 0).then_some(()));
    assert_eq!(pool(&cluster)["waiting"], 0);

    let (mut live, mut most) = (BTreeSet::new(), 0);
    let mut starts: BTreeMap<String, usize> = BTreeMap::new();
    for (id, what) in witness(&cluster) {
        if what == "start" {
            *starts.entry(id.clone()).or_default() += 1;
            assert!(live.insert(id), "{live:?}");
        } else {
            assert!(live.remove(&id), "{id} ended twice");
        }
        most = most.max(live.len());
        assert!(most <= SLOTS, "at once: {live:?}");
    }
    assert_eq!(most, SLOTS, "it is used to the full");
    assert_eq!((starts.len(), starts.values().sum::<usize>()), (JOBS, JOBS), "{starts:?}");
    cluster.end();
}

#[test]
fn a_job_that_outlives_its_worker_keeps_its_slot_until_its_result() {
    let mut cluster = Cluster::start(1, 2);
    cluster.run_ok(&["pool", "set", "warehouse", "--slots", "1"]);
    let go = cluster.path("go");
    let work = format!("until [ -e {} ]; do sleep 0.1; done", go.display());
    let mut kept = job(&cluster, "kept", &work);
    kept["on_worker_lost"] = "keep".into();
    kept["keep_for"] = "10m".into();
    let next = job(&cluster, "next", ":");
    cluster.post("jobs", &json!({ "jobs": [kept, next] }));
    let run = cluster.post("jobs/kept/trigger", &json!({}))["run"].as_str().unwrap().to_owned();
    until("the long one to begin", || (witness(&cluster).len() == 1).then_some(()));
    let waiting = cluster.post("jobs/next/trigger", &json!({}))["run"].as_str().unwrap().to_owned();
    let shown = cluster.get(&format!("runs/{run}"));
    let worker = shown["attempts"][0]["worker"].as_str().unwrap();
    let place = usize::from(worker == "w2");
    cluster.workers[place].kill();
    // The fault's own length: any other attempt would be lost by now.
    std::thread::sleep(LEASE + MARGIN + Duration::from_secs(2));
    let shown = pool(&cluster);
    assert_eq!((&shown["used"], &shown["waiting"]), (&json!(1), &json!(1)), "{shown}");
    let why = cluster.get(&format!("runs/{waiting}/explain"));
    assert_eq!(why["reason"], "pool", "{why}");
    assert_eq!(witness(&cluster).len(), 1);
    cluster.workers[place].start();
    cluster.wait_for_workers(2);
    assert_eq!(pool(&cluster)["used"], 1, "the job still runs");
    std::fs::write(&go, "").unwrap();
    until("the next one to end", || (ended(&cluster) == 2).then_some(()));
    until("nothing to be in use", || (pool(&cluster)["used"] == 0).then_some(()));
    cluster.end();
}
