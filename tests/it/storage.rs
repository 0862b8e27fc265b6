//! What nodes keep, on real disks: written before it is answered, bounded,
//! refused when it cannot be trusted, and back soon after a start.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::cluster::small_disk::SmallDisk;
use crate::cluster::trace::Trace;
use crate::cluster::{Cluster, HORAI, until, until_within};
use crate::durability::same_state_everywhere;

/// A script nearly as large as a definition may be.
const LARGE: usize = 250_000;

/// Folder of a node's store.
fn store(cluster: &Cluster, n: usize) -> PathBuf {
    cluster.path(&format!("node{n}")).join("raft")
}

/// What the node's identity file says.
#[track_caller]
fn identity(cluster: &Cluster, n: usize) -> Value {
    // It is replaced as a whole: whatever is read is one of them.
    let text = std::fs::read_to_string(store(cluster, n).join("identity")).unwrap();
    serde_json::from_str(text.split_once('\n').unwrap().1).unwrap()
}

/// Makes the job `large-N`, or writes it anew, with a script of that size.
#[track_caller]
fn write_large(cluster: &Cluster, n: usize, round: usize, size: usize) {
    let script = format!("# {round}\n{}", "echo 0123456789abcdef\n".repeat(size / 22));
    cluster.post("jobs", &json!({"name": format!("large-{n}"), "shell": script}));
}

#[track_caller]
fn assert_no_blobs(cluster: &Cluster, n: usize) {
    for part in ["log", "snapshots"] {
        let blobs = store(cluster, n).join(part).join("blobs");
        // Made with the store: one that is not there would prove nothing.
        let count = std::fs::read_dir(&blobs).unwrap().count();
        assert_eq!(count, 0, "{} is not empty", blobs.display());
    }
}

#[test]
fn what_is_answered_was_synced_before() {
    const WRITES: usize = 10;
    let cluster = Cluster::start(1, 0);
    let calls = "pwrite64,fdatasync,write,writev,sendto,sendmsg";
    let trace = Trace::of(cluster.nodes[0].pid(), calls, &cluster.path("trace"));
    let names: Vec<String> = (0..WRITES).map(|n| format!("synced-{n}-of-{WRITES}")).collect();
    for name in &names {
        cluster.post("jobs", &json!({"name": name, "noop": true}));
    }
    let calls = trace.end();
    let file = "raft/log/db>";
    for name in &names {
        let mine = |name: &str, text: &str| text.contains(name);
        let answer = calls
            .iter()
            .find(|call| mine(name, &call.text) && call.text.contains("HTTP/1.1 20"))
            .unwrap_or_else(|| panic!("no answer for {name} among {} calls", calls.len()));
        let written = calls
            .iter()
            .filter(|call| call.name == "pwrite64" && call.text.contains(file))
            .find(|call| mine(name, &call.text))
            .unwrap_or_else(|| panic!("{name} was never written to the log"));
        assert!(written.ended < answer.began, "{name} was answered before it was written");
        let synced = calls.iter().any(|call| {
            call.name == "fdatasync"
                && call.text.contains(file)
                && call.result.trim() == "0"
                && call.began > written.ended
                && call.ended < answer.began
        });
        assert!(synced, "no fdatasync between the write of {name} and its answer");
    }
    cluster.end();
}

#[test]
fn a_new_store_is_synced_with_its_folders_before_it_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let config = place("node.toml");
    let (data, token) = (place("data"), place("token"));
    let text = format!("[node]\ndata_dir = {data:?}\ntoken_file = {token:?}\n");
    std::fs::write(&config, text).unwrap();
    let arguments = ["cluster", "init", "--config", config.to_str().unwrap()];
    let calls = "fsync,fdatasync,write";
    let calls = Trace::of_command(HORAI, &arguments, calls, &place("trace"));
    let said = calls
        .iter()
        .find(|call| call.name == "write" && call.text.starts_with("1<"))
        .expect("it says what it founded");
    let data = data.to_str().unwrap();
    for part in [
        "/raft/log/db>",
        "/raft/log/conf>",
        "/raft/log>",
        "/raft/snapshots/db>",
        "/raft/snapshots/conf>",
        "/raft/snapshots>",
        "/raft/identity.tmp>",
        "/raft>",
        ">",
    ] {
        let file = format!("<{data}{part}");
        let synced = calls.iter().any(|call| {
            call.name.ends_with("sync") && call.text.contains(&file) && call.ended < said.began
        });
        assert!(synced, "{data}{part} was not synced");
    }
}

#[test]
fn large_definitions_make_no_blobs_and_a_node_far_behind_comes_up_by_a_snapshot() {
    const NAMES: usize = 20;
    /// 64 MiB make a snapshot, and as much is kept for those who lag behind.
    const MOST: usize = 1_500;
    let mut cluster = Cluster::start(3, 0);
    // Around the size at which a value is cut into parts, and well over it.
    let sizes = [40_000, 47_000, 48_000, 48_900, 49_000, 49_100, 49_300, 60_000, LARGE];
    for (n, size) in sizes.into_iter().enumerate() {
        write_large(&cluster, n, 0, size);
    }
    cluster.wait_for_all_to_follow();
    cluster.nodes[2].terminate();
    let behind = identity(&cluster, 3)["synced"].as_u64().unwrap();
    let purged = |n| identity(&cluster, n)["purged"].as_u64().unwrap_or(0);
    let mut round = 0;
    while purged(1) <= behind || purged(2) <= behind {
        round += 1;
        assert!(round < MOST, "the log is still there after {round} large definitions");
        write_large(&cluster, round % NAMES, round, LARGE);
    }
    for n in 1..=3 {
        assert_no_blobs(&cluster, n);
    }
    cluster.nodes[2].start();
    until("node 3 to answer", || cluster.status(2));
    cluster.wait_for_all_to_follow();
    same_state_everywhere(&cluster);
    let snapshot = identity(&cluster, 3)["snapshot"].as_u64();
    assert!(snapshot > Some(behind), "it came up by the log: {snapshot:?}, {behind}");
    for n in 1..=3 {
        assert_no_blobs(&cluster, n);
    }
    cluster.end();
}

#[test]
fn a_full_disk_stops_its_node_alone_and_space_brings_it_back() {
    const DISK: u64 = 256;
    const TAKEN: usize = 128;
    const NAMES: usize = 10;
    const MOST: usize = 1_000;
    let mut cluster = Cluster::start(2, 0);
    let disk = SmallDisk::mount(&cluster.path("node3"), DISK);
    disk.take("taken", TAKEN);
    cluster.join(3, &[]);
    cluster.wait_for_voters(3);
    let mut round = 0;
    while cluster.nodes[2].still_runs() {
        round += 1;
        assert!(round < MOST, "the disk is not full after {round} large definitions");
        write_large(&cluster, round % NAMES, round, LARGE);
    }
    assert_eq!(cluster.nodes[2].wait(), Some(1), "it did not stop cleanly");
    let said = cluster.nodes[2].log();
    for word in ["error: ", "hint: ", "storage of this node failed", "free space"] {
        assert!(said.contains(word), "{word:?} is not in its log");
    }
    assert!(!said.contains("panicked"), "it panicked");
    assert_eq!(identity(&cluster, 3)["suspect"], Value::Null, "a full disk is no damage");
    // The others go on.
    for round in 0..5 {
        write_large(&cluster, round, 0, LARGE);
    }
    // Still full: it says so, and how much is needed.
    disk.fill("rest");
    cluster.nodes[2].start();
    assert_eq!(cluster.nodes[2].wait(), Some(1));
    let said = cluster.nodes[2].log();
    assert!(said.contains("is full: free 16 MiB or more and start the node again"), "{said}");
    disk.free("rest");
    disk.free("taken");
    cluster.nodes[2].start();
    until("node 3 to answer", || cluster.status(2));
    write_large(&cluster, 0, 1, LARGE);
    cluster.wait_for_all_to_follow();
    same_state_everywhere(&cluster);
    cluster.nodes[2].terminate();
    drop(disk);
    cluster.end();
}

/// Instants of the jobs below: some minutes ahead, so that none of them comes
/// while the test runs, and near enough to be planned.
fn minutes_ahead() -> String {
    let now = Timestamp::now().to_zoned(TimeZone::UTC).minute();
    let minutes: Vec<String> = (4..14).map(|m| ((now + m) % 60).to_string()).collect();
    minutes.join(",")
}

#[test]
fn a_restart_with_two_hundred_thousand_actions_is_short() {
    const ACTIONS: u64 = 200_000;
    const A_JOB: usize = 64 * 10;
    /// 3 s are promised for a release build; tests are built without optimisation, and
    /// a machine that runs them all is busy.
    const LIMIT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 20 } else { 3 });
    let mut cluster = Cluster::start(1, 0);
    let minutes = minutes_ahead();
    let triggers: Vec<Value> = minutes
        .split(',')
        .map(|m| json!({"name": format!("m{m}"), "cron": format!("* {m} * * * ?")}))
        .collect();
    // A trigger has at most 60 instants in its minute.
    let names: Vec<usize> =
        (0..usize::try_from(ACTIONS).unwrap() / (A_JOB / 64 * 60) + 1).collect();
    for chunk in names.chunks(50) {
        let jobs: Vec<Value> = chunk
            .iter()
            .map(|n| json!({"name": format!("dense-{n}"), "noop": true, "triggers": triggers}))
            .collect();
        cluster.post("jobs", &json!({ "jobs": jobs }));
    }
    let live = until_within(Duration::from_secs(180), "all actions to be planned", || {
        let live = cluster.get("cluster")["counts"]["live_actions"].as_u64()?;
        (live >= ACTIONS).then_some(live)
    });
    let before = cluster.status(0).unwrap();
    cluster.nodes[0].kill();
    let began = Instant::now();
    cluster.nodes[0].start();
    let after = until("the node to answer with all it had", || {
        let now = cluster.status(0)?;
        (now["applied_index"].as_u64() >= before["applied_index"].as_u64()).then_some(now)
    });
    let took = began.elapsed();
    assert!(after["counts"]["live_actions"].as_u64() >= Some(live), "{after}");
    assert!(took < LIMIT, "a restart with {live} actions took {took:?}");
    report(&format!("restart with {live} actions: {took:?}"));
    cluster.end();
}

/// A figure for whoever runs the test with `--nocapture`.
#[allow(clippy::print_stderr)]
fn report(figure: &str) {
    eprintln!("{figure}");
}
