//! Who runs what: labels of workers.

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
