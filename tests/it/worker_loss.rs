//! Workers that die or freeze while jobs fire: attempts of one action never
//! overlap, and each action succeeds once.

use crate::cluster::judge::{Expect, Judge, LEASE};
use crate::cluster::{Cluster, is_someone_left, until};
use rustix::process::{Pid, Signal, kill_process};

/// Shims and jobs of a worker.
fn children_of(cluster: &Cluster, worker: usize) -> Vec<Pid> {
    let folder = cluster.path(&format!("worker{}", worker + 1));
    let own = cluster.workers[worker].is_running().then(|| cluster.workers[worker].pid());
    is_someone_left(&folder).into_iter().filter(|pid| Some(*pid) != own).collect()
}

#[test]
fn shims_of_a_dead_worker_end_their_jobs_at_the_lease() {
    let mut cluster = Cluster::start(3, 2);
    let judge = Judge::begin(&cluster, "rerun");
    judge.wait_for_fires(&cluster);
    until("a job of worker 1", || (!children_of(&cluster, 0).is_empty()).then_some(()));
    cluster.workers[0].kill();
    // Nobody tells the shims: their own clock does.
    until("the shims to end", || children_of(&cluster, 0).is_empty().then_some(()));
    // The fault's own length, not a wait for something; and so is the one below.
    std::thread::sleep(LEASE);
    cluster.workers[0].start();
    cluster.wait_for_workers(2);
    judge.wait_for_fires(&cluster);
    judge.end(&cluster, Expect::Success);
    cluster.end();
}

#[test]
fn a_worker_back_within_the_lease_adopts_its_shims() {
    let mut cluster = Cluster::start(3, 2);
    let judge = Judge::begin(&cluster, "rerun");
    judge.wait_for_fires(&cluster);
    for _ in 0..3 {
        until("a job of worker 1", || (!children_of(&cluster, 0).is_empty()).then_some(()));
        cluster.workers[0].kill();
        cluster.workers[0].start();
        cluster.wait_for_workers(2);
        judge.wait_for_fires(&cluster);
    }
    judge.end(&cluster, Expect::Success);
    // One that was killed between its acceptance and its shim is gone, and says so:
    // but then its job never began.
    let witness = std::fs::read_to_string(cluster.path("witness")).unwrap();
    let runs = cluster.get("runs?limit=1000");
    let attempts = runs["items"].as_array().unwrap().iter().flat_map(|run| {
        run["attempts"].as_array().unwrap().iter().filter(|a| a["end"]["how"] == "gone")
    });
    for attempt in attempts {
        let word = format!(" {} ", attempt["id"].as_str().unwrap());
        assert!(!witness.contains(&word), "{attempt} was given up although its job began");
    }
    cluster.end();
}

#[test]
fn a_frozen_worker_is_replaced_and_wakes_to_nothing() {
    let mut cluster = Cluster::start(3, 2);
    let judge = Judge::begin(&cluster, "rerun");
    judge.wait_for_fires(&cluster);
    for with_jobs in [false, true] {
        until("a job of worker 1", || (!children_of(&cluster, 0).is_empty()).then_some(()));
        cluster.workers[0].freeze();
        let mut frozen = Vec::new();
        if with_jobs {
            frozen = children_of(&cluster, 0);
            signal(&frozen, Signal::STOP);
        }
        std::thread::sleep(LEASE * 2);
        // Shims that wake past their deadline must end their jobs before these act.
        signal(&frozen, Signal::CONT);
        cluster.workers[0].thaw();
        cluster.wait_for_workers(2);
        judge.wait_for_fires(&cluster);
    }
    judge.end(&cluster, Expect::Success);
    cluster.end();
}

fn signal(processes: &[Pid], signal: Signal) {
    for pid in processes {
        // Some end by themselves meanwhile.
        let _ = kill_process(*pid, signal);
    }
}
