//! Workers that an operator takes out of the cluster and gives back, as processes.

use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::cluster::{Cluster, until};

/// The attempts of a run: on which worker, and how each ended.
fn attempts(cluster: &Cluster, run: &str) -> Vec<(String, Value)> {
    let shown = cluster.get(&format!("runs/{run}"));
    let of = |attempt: &Value| {
        (attempt["worker"].as_str().unwrap().to_owned(), attempt["end"]["how"].clone())
    };
    shown["attempts"].as_array().unwrap().iter().map(of).collect()
}

fn wait_for(cluster: &Cluster, run: &str, state: &str) {
    until(&format!("{run} is {state}"), || {
        (cluster.get(&format!("runs/{run}"))["state"] == state).then_some(())
    });
}

#[test]
fn a_worker_is_drained_under_load_and_nothing_is_lost() {
    let cluster = Cluster::start(1, 2);
    let witness = cluster.path("witness");
    cluster.apply(&format!(
        "jobs: [{{name: load, shell: 'sleep 1; echo $HORAI_RUN_ID >> {}'}}]",
        witness.display()
    ));
    let mut runs: Vec<String> = (0..20).map(|_| cluster.trigger("load")).collect();
    until("both to work", || {
        let used = |name: &str| cluster.get(&format!("workers/{name}"))["used"].as_u64();
        (used("w1")? > 0 && used("w2")? > 0).then_some(())
    });
    cluster.run_ok(&["worker", "drain", "w1"]);
    let shown = cluster.get("workers/w1");
    assert_eq!((&shown["used"], &shown["duty"]), (&json!(0), &json!("draining")), "{shown}");
    let after: Vec<String> = (0..10).map(|_| cluster.trigger("load")).collect();
    for run in &after {
        wait_for(&cluster, run, "success");
        assert_eq!(attempts(&cluster, run), [("w2".to_owned(), json!("exited"))]);
    }
    runs.extend(after);
    for run in &runs {
        wait_for(&cluster, run, "success");
    }
    let mut seen: Vec<String> =
        std::fs::read_to_string(&witness).unwrap().lines().map(str::to_owned).collect();
    seen.sort_unstable();
    runs.sort_unstable();
    assert_eq!(seen, runs, "each once");

    // Nobody is left: a run says so, and goes on when one is given work again.
    cluster.run_ok(&["worker", "cordon", "w2"]);
    let waiting = cluster.trigger("load");
    until("the reason", || {
        (cluster.get(&format!("runs/{waiting}/explain"))["reason"] == "cordoned").then_some(())
    });
    cluster.run_ok(&["worker", "uncordon", "w1"]);
    wait_for(&cluster, &waiting, "success");
    assert_eq!(attempts(&cluster, &waiting)[0].0, "w1");
    cluster.end();
}

#[test]
fn a_drain_with_a_deadline_ends_what_may_run_again_elsewhere() {
    let mut cluster = Cluster::start(3, 2);
    let go = cluster.path("go");
    let script = "if [ $HORAI_ATTEMPT_CAUSE = first ]; then exec sleep 300; fi";
    cluster.apply(&format!(
        "jobs:\n- {{name: again, shell: '{script}'}}\n\
         - {{name: keeps, shell: 'until [ -e {go} ]; do sleep 0.1; done', \
             on_worker_lost: keep, keep_for: 1h}}\n",
        go = go.display()
    ));
    cluster.run_ok(&["worker", "cordon", "w2"]);
    let (again, keeps) = (cluster.trigger("again"), cluster.trigger("keeps"));
    for run in [&again, &keeps] {
        wait_for(&cluster, run, "running");
    }
    cluster.run_ok(&["worker", "uncordon", "w2"]);
    let begun = Instant::now();
    cluster.run_ok(&["worker", "drain", "w1", "--deadline", "3s", "--detach"]);
    // Another leader knows of the deadline, and carries it out.
    let killed = cluster.kill_leader();
    wait_for(&cluster, &again, "success");
    assert!(begun.elapsed() >= Duration::from_secs(3));
    let wanted = [("w1".to_owned(), json!("drained")), ("w2".to_owned(), json!("exited"))];
    assert_eq!(attempts(&cluster, &again), wanted);
    let shown = cluster.get(&format!("runs/{again}"));
    assert_eq!((&shown["losses"], &shown["retries"]), (&json!(0), &json!(0)), "{shown}");
    // Past the deadline, it is left to its end.
    assert_eq!(cluster.get(&format!("runs/{keeps}"))["state"], "running");
    std::fs::write(&go, "").unwrap();
    wait_for(&cluster, &keeps, "success");
    assert_eq!(attempts(&cluster, &keeps), [("w1".to_owned(), json!("exited"))]);
    cluster.bring_back(killed);
    cluster.end();
}

#[test]
fn a_worker_is_forgotten_once_it_is_stopped() {
    let mut cluster = Cluster::start(1, 2);
    let refused = cluster.run(&["worker", "remove", "w1"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(4), "{told}");
    assert!(told.contains("is alive") && told.contains("hint: stop it first"), "{told}");
    cluster.run_ok(&["worker", "drain", "w1"]);
    cluster.workers[0].terminate();
    until("it to be forgotten", || {
        cluster.run(&["worker", "remove", "w1"]).status.success().then_some(())
    });
    let left = cluster.data(&["worker", "list"]);
    let names: Vec<&str> =
        left.as_array().unwrap().iter().map(|w| w["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["w2"]);
    let gone = cluster.run(&["worker", "drain", "w1"]);
    assert_eq!(gone.status.code(), Some(3), "{gone:?}");
    // It comes back as a new one, and is given work.
    cluster.workers[0].start();
    cluster.wait_for_workers(2);
    assert_eq!(cluster.get("workers/w1")["duty"], "open");
    cluster.end();
}

#[test]
fn a_worker_that_is_stopped_lets_its_jobs_end_and_the_rest_run_again_elsewhere() {
    let mut cluster = Cluster::start(1, 0);
    cluster.add_worker("stop_after_ms = 5000\n");
    cluster.add_worker("stop_after_ms = 600000\n");
    let script = "if [ $HORAI_ATTEMPT_CAUSE = first ]; then exec sleep 300; fi";
    cluster.apply(&format!(
        "jobs:\n- {{name: short, shell: 'sleep 2'}}\n- {{name: long, shell: '{script}'}}\n\
         - {{name: next, noop: true}}\n"
    ));
    cluster.run_ok(&["worker", "cordon", "w2"]);
    let (short, long) = (cluster.trigger("short"), cluster.trigger("long"));
    for run in [&short, &long] {
        wait_for(&cluster, run, "running");
    }
    let begun = Instant::now();
    kill_process(cluster.workers[0].pid(), Signal::TERM).unwrap();
    until("it to be known", || (cluster.get("workers/w1")["duty"] == "stopping").then_some(()));
    let next = cluster.trigger("next");
    until("nobody to be left for it", || {
        (cluster.get(&format!("runs/{next}/explain"))["reason"] == "cordoned").then_some(())
    });
    cluster.run_ok(&["worker", "uncordon", "w2"]);
    assert_eq!(cluster.workers[0].wait(), Some(0), "{}", cluster.workers[0].log());
    assert!(begun.elapsed() >= Duration::from_secs(5), "it had its time");
    for run in [&short, &long, &next] {
        wait_for(&cluster, run, "success");
    }
    let ended = |worker: &str, how: &str| (worker.to_owned(), json!(how));
    assert_eq!(attempts(&cluster, &short), [ended("w1", "exited")]);
    assert_eq!(attempts(&cluster, &long), [ended("w1", "drained"), ended("w2", "exited")]);
    let shown = cluster.get(&format!("runs/{long}"));
    assert_eq!((&shown["losses"], &shown["retries"]), (&json!(0), &json!(0)), "{shown}");
    // One that has nothing to do goes at once; and whoever comes back is given work.
    cluster.workers[1].terminate();
    cluster.workers[0].start();
    until("it to be back", || (cluster.get("workers/w1")["duty"] == "open").then_some(()));
    let again = cluster.trigger("next");
    wait_for(&cluster, &again, "success");
    assert_eq!(attempts(&cluster, &again)[0].0, "w1");
    cluster.end();
}

#[test]
fn a_worker_of_another_cluster_is_refused_on_both_sides() {
    let mut cluster = Cluster::start(1, 1);
    let file = cluster.path("worker1").join("cluster");
    // The cluster knows it before it knows the cluster.
    let own = until("it to know its cluster", || std::fs::read_to_string(&file).ok());
    assert_eq!(own.len(), 32, "{own}");
    cluster.workers[0].terminate();
    std::fs::write(&file, "0123456789abcdef0123456789abcdef").unwrap();
    cluster.workers[0].start();
    let words = "belongs to cluster 0123456789abcdef0123456789abcdef, and this is cluster";
    until("both to say so", || {
        let logs = [cluster.workers[0].log(), cluster.nodes[0].log()];
        logs.iter().all(|log| log.contains(words) && log.contains(&own)).then_some(())
    });
    let told = cluster.nodes[0].log().matches(words).count();
    assert_eq!(told, 1, "it comes again and again, and is told once");
    cluster.workers[0].terminate();
    std::fs::write(&file, own).unwrap();
    cluster.workers[0].start();
    cluster.wait_for_workers(1);
    cluster.end();
}
