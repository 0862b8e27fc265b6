//! Who runs what: labels of workers, how one of a group is chosen, and what runs take of it.

use serde_json::{Value, json};

use crate::cluster::{Cluster, until};

fn trigger(cluster: &Cluster, job: &str) -> String {
    let started = cluster.post(&format!("jobs/{job}/trigger"), &json!({}));
    started["run"].as_str().unwrap().to_owned()
}

/// The worker that ran it, once it is over.
fn worker_of(cluster: &Cluster, run: &str) -> String {
    until("the run to succeed", || {
        let shown = cluster.get(&format!("runs/{run}"));
        let worker = || shown["attempts"][0]["worker"].as_str().unwrap().to_owned();
        (shown["state"] == "success").then(worker)
    })
}

fn explained(cluster: &Cluster, run: &str) -> Value {
    cluster.get(&format!("runs/{run}/explain"))
}

#[test]
fn jobs_go_to_workers_with_their_labels() {
    let mut cluster = Cluster::start(1, 0);
    cluster.add_worker("[worker.labels]\nzone = \"a\"\n");
    cluster.add_worker("[worker.labels]\nzone = \"b\"\nssd = \"yes\"\n");
    let job = |name: &str, workers: &str| json!({"name": name, "noop": true, "workers": workers});
    let jobs = [job("fast", "ssd"), job("slow", "!ssd"), job("gpu", "gpu && zone in ['a', 'b']")];
    cluster.post("jobs", &json!({ "jobs": jobs }));
    let stuck = trigger(&cluster, "gpu");
    for (job, worker) in [("fast", "w2"), ("slow", "w1"), ("fast", "w2"), ("slow", "w1")] {
        let run = trigger(&cluster, job);
        assert_eq!(worker_of(&cluster, &run), worker, "{job}");
    }
    let why = explained(&cluster, &stuck);
    assert_eq!(why["reason"], "no_worker", "{why}");
    // It waits until there is one.
    cluster.add_worker("[worker.labels]\nzone = \"a\"\ngpu = \"1\"\n");
    assert_eq!(worker_of(&cluster, &stuck), "w3");
    cluster.end();
}

#[test]
fn a_worker_group_says_how_its_workers_are_chosen() {
    let cluster = Cluster::start(1, 2);
    cluster.post("jobs", &json!({"jobs": [{"name": "j", "noop": true}]}));
    let workers_of_next = |cluster: &Cluster, count: usize| -> Vec<String> {
        (0..count).map(|_| worker_of(cluster, &trigger(cluster, "j"))).collect()
    };
    let in_turns = workers_of_next(&cluster, 4);
    assert!(in_turns.windows(2).all(|pair| pair[0] != pair[1]), "{in_turns:?}");
    let file = cluster.path("groups.yaml");
    let apply = |cluster: &Cluster, text: &str| {
        std::fs::write(&file, format!("worker_groups:\n  - {{name: default, {text}}}\n")).unwrap();
        cluster.run_ok(&["worker", "group", "apply", "-f", file.to_str().unwrap()])
    };
    apply(&cluster, "strategy: sticky");
    let same = workers_of_next(&cluster, 4);
    assert!(same.windows(2).all(|pair| pair[0] == pair[1]), "{same:?}");
    // No machine has so little to do.
    apply(&cluster, "thresholds: {memory: 0.001, load: 0.001}");
    let run = trigger(&cluster, "j");
    until("it to be told that all are too busy", || {
        (explained(&cluster, &run)["reason"] == "load").then_some(())
    });
    let shown = cluster.run_ok(&["worker", "group", "show", "default", "-o", "yaml"]);
    assert!(shown.contains("memory: 0.001"), "{shown}");
    cluster.run_ok(&["worker", "group", "delete", "default"]);
    worker_of(&cluster, &run);
    let listed = cluster.run_ok(&["worker", "group", "list"]);
    assert!(listed.contains("round_robin"), "{listed}");
    cluster.end();
}

#[test]
fn what_runs_take_is_theirs_alone_and_what_is_missing_is_told() {
    let mut cluster = Cluster::start(1, 0);
    cluster.add_worker("memory = \"1GiB\"\ncpu = \"auto\"\ncounts = { gpu = 1 }\n");
    let job =
        |name: &str, takes: Value| json!({"name": name, "shell": "sleep 600", "resources": takes});
    let jobs = [
        job("holder", json!({"gpu": 1, "memory": "600MiB"})),
        job("next", json!({"gpu": 1})),
        job("huge", json!({"memory": "2GiB", "slots": 2})),
        json!({"name": "plain", "noop": true}),
    ];
    cluster.post("jobs", &json!({ "jobs": jobs }));
    let holder = trigger(&cluster, "holder");
    until("it to run", || {
        (cluster.get(&format!("runs/{holder}"))["state"] == "running").then_some(())
    });
    let (next, huge) = (trigger(&cluster, "next"), trigger(&cluster, "huge"));
    worker_of(&cluster, &trigger(&cluster, "plain"));
    for (run, part) in [
        (&next, "w1 lacks 1 gpu"),
        (&huge, "even if nothing else ran there: w1 lacks 1GiB of memory"),
    ] {
        let why = explained(&cluster, run);
        assert_eq!(why["reason"], "resource", "{why}");
        assert!(why["detail"].as_str().unwrap().contains(part), "{why}");
    }
    let shown = cluster.get("workers/w1");
    assert_eq!(shown["reserved"], json!({"slots": 1, "memory": "600MiB", "gpu": 1}), "{shown}");
    cluster.run_ok(&["run", "cancel", &holder]);
    until("its turn", || {
        (cluster.get(&format!("runs/{next}"))["state"] == "running").then_some(())
    });
    for run in [&next, &huge] {
        cluster.run_ok(&["run", "cancel", run]);
    }
    until("nothing to be reserved", || {
        (cluster.get("workers/w1")["reserved"] == json!({"slots": 0})).then_some(())
    });
    cluster.end();
}
