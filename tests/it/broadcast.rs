//! Jobs on all workers: each runs them once, whoever dies meanwhile.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::cluster::{Cluster, until};

/// A cluster and a job on all workers, whose script is this one.
fn start(nodes: usize, script: &str, more: &Value) -> Cluster {
    let cluster = Cluster::start(nodes, 3);
    let mut job = json!({"name": "all", "run_on": "all_workers", "lease": "5s", "shell": script});
    for (key, value) in more.as_object().unwrap() {
        job[key] = value.clone();
    }
    cluster.post("jobs", &json!({ "jobs": [job] }));
    cluster
}

/// What a shard writes down about itself.
fn witness(cluster: &Cluster) -> String {
    let file = cluster.path("ran");
    format!(
        "echo $HORAI_RUN_ID $HORAI_ATTEMPT $HORAI_SHARD_INDEX/$HORAI_SHARD_TOTAL >> {}",
        file.display()
    )
}

fn lines(cluster: &Cluster) -> Vec<String> {
    let text = fs::read_to_string(cluster.path("ran")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn show(cluster: &Cluster, run: &str) -> Value {
    cluster.get(&format!("runs/{run}"))
}

fn shards(cluster: &Cluster, run: &str) -> Vec<Value> {
    show(cluster, run)["shards"].as_array().cloned().unwrap_or_default()
}

/// Waits until each shard has a live attempt.
fn until_all_run(cluster: &Cluster, run: &str) {
    until("all shards to run", || {
        let shards = shards(cluster, run);
        let is_on = |shard: &Value| shard["state"] == "running";
        (shards.len() == 3 && shards.iter().all(is_on)).then_some(())
    });
}

fn apply(cluster: &Cluster, script: &str) {
    let job = json!({"name": "all", "run_on": "all_workers", "lease": "5s", "shell": script});
    cluster.post("jobs", &json!({ "jobs": [job] }));
}

#[test]
fn each_of_three_workers_runs_it_once_and_each_shard_has_its_output() {
    let cluster = start(1, "true", &json!({}));
    let script = format!("{}; echo I am shard $HORAI_SHARD_INDEX", witness(&cluster));
    apply(&cluster, &script);
    let run = cluster.trigger("all");
    let over = cluster.wait_for_end(&run);
    assert_eq!(over["state"], "success", "{over}");
    assert_eq!(over["shard_counts"], json!({"total": 3, "over": 3}));
    let ran: BTreeSet<String> = lines(&cluster).into_iter().collect();
    let wanted = [0, 1, 2].map(|shard| format!("{run} {run}/{shard}.1 {shard}/3"));
    assert_eq!(ran, wanted.into_iter().collect::<BTreeSet<_>>());
    assert_eq!(lines(&cluster).len(), 3, "none of them twice");
    // By their numbers, which they have in the order in which they came.
    let shards = shards(&cluster, &run);
    let workers: BTreeSet<&str> = shards.iter().map(|s| s["worker"].as_str().unwrap()).collect();
    assert_eq!(workers, BTreeSet::from(["w1", "w2", "w3"]));
    for shard in ["0", "1", "2"] {
        let told = cluster.run_ok(&["run", "logs", &run, "--shard", shard]);
        assert_eq!(told, format!("I am shard {shard}\n"));
    }
    let refused = cluster.run(&["run", "logs", &run]);
    assert!(!refused.status.success());
    let shown = cluster.run_ok(&["run", "show", &run]);
    assert!(shown.contains("3, 3 over") && shown.contains(&format!("{run}/2.1")), "{shown}");
    let listed = cluster.get("runs");
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed}");
    let missing = cluster.run(&["run", "explain", &run, "--shard", "3"]);
    assert_eq!(missing.status.code(), Some(3), "{missing:?}");
    cluster.end();
}

#[test]
fn a_cancel_ends_all_of_it_or_one_shard() {
    let cluster = start(1, "sleep 600", &json!({"grace": "1s"}));
    let run = cluster.trigger("all");
    until_all_run(&cluster, &run);
    cluster.run_ok(&["run", "cancel", &run, "--shard", "1"]);
    until("one shard to end", || (shards(&cluster, &run)[1]["state"] == "cancelled").then_some(()));
    let others = [0, 2].map(|shard| shards(&cluster, &run)[shard]["state"].clone());
    assert_eq!(others, ["running", "running"]);
    cluster.run_ok(&["run", "cancel", &run]);
    assert_eq!(cluster.wait_for_end(&run)["state"], "cancelled");
    cluster.end();
}

#[test]
fn a_leader_killed_in_the_middle_changes_nothing() {
    let mut cluster = start(3, "true", &json!({}));
    let go = cluster.path("go");
    let script =
        format!("{}; until [ -e {} ]; do sleep 0.1; done", witness(&cluster), go.display());
    apply(&cluster, &script);
    let run = cluster.trigger("all");
    until("all shards to have begun", || (lines(&cluster).len() == 3).then_some(()));
    let killed = cluster.kill_leader();
    cluster.wait_for_other_leader(killed);
    fs::write(&go, "").unwrap();
    let over = cluster.wait_for_end(&run);
    assert_eq!(over["state"], "success", "{over}");
    assert_eq!(lines(&cluster).len(), 3, "none of them twice");
    // What begins under the new leader runs on all of them, too.
    let next = cluster.trigger("all");
    assert_eq!(cluster.wait_for_end(&next)["shard_counts"]["total"], 3);
    assert_eq!(lines(&cluster).len(), 6);
    cluster.end();
}

#[test]
fn a_worker_killed_in_the_middle_is_waited_for() {
    let mut cluster = start(1, "true", &json!({}));
    let go = cluster.path("go");
    let script =
        format!("{}; until [ -e {} ]; do sleep 0.1; done", witness(&cluster), go.display());
    apply(&cluster, &script);
    let run = cluster.trigger("all");
    until_all_run(&cluster, &run);
    let of_w2 = |shard: &Value| shard["worker"] == "w2";
    let lost = shards(&cluster, &run).iter().position(of_w2).unwrap();
    cluster.workers[1].kill();
    // Its shim ends the attempt with the lease, and nobody else runs it.
    until("the lost attempt", || {
        let shard = &shards(&cluster, &run)[lost];
        (shard["state"] == "queued").then_some(())
    });
    let why = cluster.run_ok(&["run", "explain", &run, "--shard", &lost.to_string()]);
    assert!(why.contains("no_worker") && why.contains("w2"), "{why}");
    fs::write(&go, "").unwrap();
    until("the others", || (show(&cluster, &run)["shard_counts"]["over"] == 2).then_some(()));
    cluster.workers[1].start();
    let over = cluster.wait_for_end(&run);
    assert_eq!(over["state"], "success", "{over}");
    let tries = shards(&cluster, &run)[lost]["attempts"].as_array().unwrap().len();
    assert_eq!((tries, lines(&cluster).len()), (2, 4));
    cluster.end();
}
