//! Nodes that die, freeze and come back while jobs fire: nothing is lost, and
//! nothing is done twice.

use std::time::Duration;

use crate::cluster::judge::{Expect, JOBS, Judge};
use crate::cluster::locks::LockUser;
use crate::cluster::{Cluster, until};

/// The longest time that a leader's lease lasts, by the default settings.
const RAFT_LEASE: Duration = Duration::from_millis(400);
/// Of the jobs.
const WORKER_LEASE: Duration = Duration::from_secs(5);

/// Waits until another node than this leads.
fn wait_for_other_leader(cluster: &Cluster, than: usize) -> usize {
    until("another leader", || cluster.leader().filter(|leader| *leader != than))
}

/// Waits until jobs that were not there before have run.
fn wait_for_fires(cluster: &Cluster, judge: &Judge) {
    let before = judge.ended(cluster);
    until("jobs to fire", || (judge.ended(cluster) > before + JOBS).then_some(()));
}

#[test]
fn a_leader_killed_five_times_loses_and_doubles_nothing() {
    let mut cluster = Cluster::start(3, 2);
    let judge = Judge::begin(&cluster, "rerun");
    let locks = LockUser::begin(&cluster);
    wait_for_fires(&cluster, &judge);
    for _ in 0..5 {
        let leader = cluster.wait_for_leader();
        cluster.nodes[leader].kill();
        wait_for_other_leader(&cluster, leader);
        wait_for_fires(&cluster, &judge);
        cluster.nodes[leader].start();
        cluster.wait_for_all_to_follow();
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
    wait_for_fires(&cluster, &judge);
    for pause in [RAFT_LEASE * 2, WORKER_LEASE * 2] {
        let leader = cluster.wait_for_leader();
        cluster.nodes[leader].freeze();
        // The fault's own length, not a wait for something.
        std::thread::sleep(pause);
        cluster.nodes[leader].thaw();
        cluster.wait_for_leader();
        wait_for_fires(&cluster, &judge);
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
    wait_for_fires(&cluster, &judge);
    cluster.stop_all_nodes_for(Duration::from_secs(10));
    wait_for_fires(&cluster, &judge);
    judge.end(&cluster, Expect::Success);
    locks.end();
    cluster.end();
}

/// With every policy: attempts are ended by their shims or kept, and what follows
/// is what the policy says.
fn outage_longer_than_the_lease(on_worker_lost: &str, expect: Expect) {
    let mut cluster = Cluster::start(3, 2);
    let judge = Judge::begin(&cluster, on_worker_lost);
    wait_for_fires(&cluster, &judge);
    cluster.stop_all_nodes_for(WORKER_LEASE + Duration::from_secs(20));
    wait_for_fires(&cluster, &judge);
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
