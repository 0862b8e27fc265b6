//! Nodes that die, freeze and come back while jobs fire: nothing is lost, and
//! nothing is done twice.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::judge::{Expect, Judge, LEASE};
use crate::cluster::locks::LockUser;
use crate::cluster::{Cluster, until, until_within};

/// The longest time that a leader's lease lasts, by the default settings.
const RAFT_LEASE: Duration = Duration::from_millis(400);

#[test]
fn a_leader_killed_five_times_loses_and_doubles_nothing() {
    let mut cluster = Cluster::start(3, 2);
    let judge = Judge::begin(&cluster, "rerun");
    let locks = LockUser::begin(&cluster);
    judge.wait_for_fires(&cluster);
    for _ in 0..5 {
        let killed = cluster.kill_leader();
        judge.wait_for_fires(&cluster);
        cluster.bring_back(killed);
    }
    judge.end(&cluster, Expect::Success);
    locks.end();
    cluster.end();
}

#[test]
fn a_frozen_leader_is_followed_and_decides_nothing_when_it_wakes() {
    let mut cluster = Cluster::start(3, 2);
    let judge = Judge::begin(&cluster, "rerun");
    let locks = LockUser::begin(&cluster);
    judge.wait_for_fires(&cluster);
    for pause in [RAFT_LEASE * 2, LEASE * 2] {
        let leader = cluster.wait_for_leader();
        cluster.nodes[leader].freeze();
        // The fault's own length, not a wait for something.
        std::thread::sleep(pause);
        // The short pause may be over before anybody misses it.
        if pause > LEASE {
            cluster.wait_for_other_leader(leader);
        }
        cluster.nodes[leader].thaw();
        cluster.wait_for_leader();
        judge.wait_for_fires(&cluster);
        cluster.wait_for_all_to_follow();
    }
    judge.end(&cluster, Expect::Success);
    locks.end();
    cluster.end();
}

#[test]
fn ten_seconds_without_any_node_are_caught_up() {
    let mut cluster = Cluster::start(3, 2);
    let judge = Judge::begin(&cluster, "rerun");
    let locks = LockUser::begin(&cluster);
    judge.wait_for_fires(&cluster);
    cluster.stop_all_nodes_for(Duration::from_secs(10));
    judge.wait_for_fires(&cluster);
    judge.end(&cluster, Expect::Success);
    locks.end();
    cluster.end();
}

/// With every policy: attempts are ended by their shims or kept, and what follows
/// is what the policy says.
fn outage_longer_than_the_lease(on_worker_lost: &str, expect: Expect) {
    let mut cluster = Cluster::start(3, 2);
    let judge = Judge::begin(&cluster, on_worker_lost);
    judge.wait_for_fires(&cluster);
    cluster.stop_all_nodes_for(LEASE + Duration::from_secs(20));
    judge.wait_for_fires(&cluster);
    judge.end(&cluster, expect);
    cluster.end();
}

#[test]
fn an_outage_longer_than_the_lease_reruns() {
    outage_longer_than_the_lease("rerun", Expect::Success);
}

#[test]
fn an_outage_longer_than_the_lease_fails_where_asked() {
    outage_longer_than_the_lease("fail", Expect::SuccessOrLoss);
}

#[test]
fn an_outage_longer_than_the_lease_keeps_where_asked() {
    outage_longer_than_the_lease("keep", Expect::Success);
}

#[test]
fn a_leader_killed_with_a_thousand_ready_runs_loses_and_doubles_none() {
    const RUNS: usize = 1_000;
    let mut cluster = Cluster::start(3, 2);
    let witness = cluster.path("witness");
    let jobs: Vec<Value> = (0..RUNS)
        .map(|n| {
            let env = json!({"WITNESS": witness});
            // Two workers have forty slots: so it takes them some seconds.
            let script = "sleep 0.2; echo \"$HORAI_RUN_ID $HORAI_ACTION_ID\" >> \"$WITNESS\"";
            json!({"name": format!("j{n}"), "env": env, "shell": script})
        })
        .collect();
    for jobs in jobs.chunks(250) {
        cluster.post("jobs", &json!({ "jobs": jobs }));
    }
    // So all of them are there before the first one begins.
    cluster.run_ok(&["freeze"]);
    let runs: Vec<String> = (0..RUNS)
        .map(|n| {
            let begun = cluster.post(&format!("jobs/j{n}/trigger"), &json!({}));
            begun["run"].as_str().unwrap().to_owned()
        })
        .collect();
    let written = || std::fs::read_to_string(&witness).unwrap_or_default();
    let lines = || written().lines().count();
    cluster.run_ok(&["unfreeze"]);
    for least in [RUNS / 2, 1] {
        let leader = cluster.wait_for_leader();
        let queued = cluster.status(leader).unwrap()["counts"]["queued"].as_u64().unwrap();
        assert!(queued >= least as u64, "{queued} wait");
        let before = lines();
        let killed = cluster.kill_leader();
        until("more of them to end", || (lines() > before).then_some(()));
        cluster.bring_back(killed);
    }
    until_within(Duration::from_secs(180), "all of them to end", || {
        (lines() >= RUNS).then_some(())
    });
    let mut seen: Vec<String> =
        written().lines().filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect();
    seen.sort_unstable();
    let mut wanted = runs.clone();
    wanted.sort_unstable();
    assert_eq!(seen, wanted, "each once");
    for run in [&runs[0], &runs[RUNS / 2], &runs[RUNS - 1]] {
        until("its end to be known", || {
            let shown = cluster.get(&format!("runs/{run}"));
            (shown["state"] == "success" && shown["attempts"].as_array()?.len() == 1).then_some(())
        });
    }
    cluster.end();
}
