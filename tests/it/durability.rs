//! Nodes killed under load and nodes whose disk is lost: what was acknowledged stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::judge::{Expect, Judge};
use crate::cluster::{Cluster, until};

const KILLS: usize = 30;
const WRITERS: usize = 4;

/// Creates jobs one after the other through any node; the answer is the names
/// whose creation was acknowledged.
async fn write_jobs(
    writer: usize,
    urls: Vec<String>,
    token: String,
    stop: Arc<AtomicBool>,
) -> Vec<String> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(2)).build().unwrap();
    let mut acknowledged = Vec::new();
    let mut n = 0_usize;
    while !stop.load(Ordering::Acquire) {
        n += 1;
        let name = format!("w{writer}-{n}");
        let url = format!("http://{}/api/v1/jobs", urls[(writer + n) % urls.len()]);
        let body = json!({"name": name, "noop": true});
        let sent = client.post(url).bearer_auth(&token).json(&body).send().await;
        match sent {
            Ok(answer) if answer.status().is_success() => acknowledged.push(name),
            // Not acknowledged: it may be there or not.
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    acknowledged
}

fn all_job_names(cluster: &Cluster) -> std::collections::BTreeSet<String> {
    let mut names = std::collections::BTreeSet::new();
    let mut after = String::new();
    loop {
        let page = cluster.get(&format!("jobs?limit=1000{after}"));
        let items = page["items"].as_array().unwrap();
        names.extend(items.iter().map(|job| job["name"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return names,
        }
    }
}

#[test]
fn thirty_kills_under_load_lose_no_acknowledged_write() {
    let mut cluster = Cluster::start(3, 0);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let urls: Vec<String> = cluster.nodes.iter().map(|node| node.address("http")).collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|w| {
            let token = cluster.token().to_owned();
            runtime.spawn(write_jobs(w, urls.clone(), token, Arc::clone(&stop)))
        })
        .collect();
    for round in 0..KILLS {
        let before = cluster.get("cluster")["counts"]["jobs"].as_u64().unwrap();
        until("writes to go on", || {
            (cluster.get("cluster")["counts"]["jobs"].as_u64()? > before + 5).then_some(())
        });
        // The leader each third time, and now and then a second node with it.
        let leader = cluster.wait_for_leader();
        let victim = if round % 3 == 0 { leader } else { round % 3 };
        cluster.nodes[victim].kill();
        if round % 5 == 4 {
            let other = (victim + 1) % 3;
            cluster.nodes[other].kill();
            cluster.nodes[other].start();
        }
        cluster.nodes[victim].start();
        until("the killed node to be back", || cluster.status(victim));
    }
    stop.store(true, Ordering::Release);
    let acknowledged: Vec<String> =
        writers.into_iter().flat_map(|writer| runtime.block_on(writer).unwrap()).collect();
    assert!(acknowledged.len() > KILLS, "only {} writes", acknowledged.len());
    cluster.wait_for_all_to_follow();
    let there = all_job_names(&cluster);
    let lost: Vec<&String> = acknowledged.iter().filter(|name| !there.contains(*name)).collect();
    assert!(lost.is_empty(), "{} acknowledged writes are lost: {lost:?}", lost.len());
    same_state_everywhere(&cluster);
    cluster.end();
}

/// Every node has the same hash at the same index.
pub(crate) fn same_state_everywhere(cluster: &Cluster) {
    until("equal states", || {
        let states: Option<Vec<Value>> =
            (0..cluster.nodes.len()).map(|n| cluster.status(n)).collect();
        let seen = |s: &Value| (s["applied_index"].clone(), s["state_hash"].clone());
        let states: Vec<_> = states?.iter().map(seen).collect();
        let same_index = states.windows(2).all(|w| w[0].0 == w[1].0);
        same_index.then(|| assert!(states.windows(2).all(|w| w[0].1 == w[1].1), "{states:?}"))
    });
}

#[test]
fn members_come_and_go_while_jobs_fire() {
    let mut cluster = Cluster::start(3, 2);
    let judge = Judge::begin(&cluster, "rerun");
    cluster.join(4, &[]);
    cluster.join(5, &[]);
    cluster.wait_for_voters(5);
    for _ in 0..2 {
        let leader = cluster.wait_for_leader();
        let number = cluster.status(leader).unwrap()["node"].to_string();
        cluster.run_ok(&["cluster", "remove", &number]);
        // Removal ends the node.
        cluster.nodes[leader].wait();
        cluster.nodes.remove(leader);
    }
    cluster.wait_for_voters(3);
    judge.end(&cluster, Expect::Success);
    cluster.end();
}

#[test]
fn a_lost_disk_is_replaced_by_one_command_while_jobs_fire() {
    let mut cluster = Cluster::start(3, 2);
    let judge = Judge::begin(&cluster, "rerun");
    cluster.nodes[2].kill();
    std::fs::remove_dir_all(cluster.path("node3")).unwrap();
    let lost = cluster.nodes.remove(2);
    cluster.join(3, &["3"]);
    until("the new node in the place of the lost one", || {
        let members = cluster.get("cluster")["members"].as_array()?.clone();
        let numbers: Vec<u64> = members.iter().filter_map(|m| m["node"].as_u64()).collect();
        (numbers == [1, 2, 4] && members.iter().all(|m| m["voter"] == true)).then_some(())
    });
    drop(lost);
    judge.end(&cluster, Expect::Success);
    cluster.end();
}

#[test]
fn a_node_without_its_store_says_how_to_come_back() {
    let mut cluster = Cluster::start(3, 0);
    cluster.nodes[1].kill();
    std::fs::remove_dir_all(cluster.path("node2")).unwrap();
    cluster.nodes[1].start();
    assert_eq!(cluster.nodes[1].wait(), Some(1), "{}", cluster.nodes[1].log());
    let said = cluster.nodes[1].log();
    assert!(said.contains("hint:") && said.contains("cluster replace"), "{said}");
    cluster.end();
}
