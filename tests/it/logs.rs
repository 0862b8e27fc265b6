//! Output that outlives machines: leaders and workers that die while it is followed,
//! disks that are lost one after the other, and jobs that write more than is kept.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{Cluster, HORAI, until, until_within};

/// Longer than any delivery here takes.
const PATIENCE: Duration = Duration::from_secs(120);

fn begin(cluster: &Cluster, job: &str) -> String {
    cluster.run_ok(&["job", "trigger", job, "-o", "quiet"]).trim().to_owned()
}

fn wait_for_success(cluster: &Cluster, run: &str) -> Value {
    until_within(PATIENCE, &format!("{run} to succeed"), || {
        let shown = cluster.get(&format!("runs/{run}"));
        (shown["state"] == "success").then_some(shown)
    })
}

/// What one node alone serves; it may ask others for it.
fn served(cluster: &Cluster, node: usize, arguments: &[&str]) -> String {
    let out = Command::new(HORAI)
        .args(["run", "logs"])
        .args(arguments)
        .env("HORAI_URL", format!("http://{}", cluster.nodes[node].address("http")))
        .env("HORAI_TOKEN", cluster.token())
        .output()
        .unwrap();
    assert!(out.status.success(), "node {node}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// An attempt's name in events.
struct AttemptId<'a>(&'a str, u32);

impl AttemptId<'_> {
    /// The events behind a byte, as one node sends them.
    fn events_behind(&self, cluster: &Cluster, node: usize, byte: u64) -> String {
        let Self(run, number) = self;
        let address = cluster.nodes[node].address("http");
        let request = reqwest::Client::new()
            .get(format!("http://{address}/api/v1/runs/{run}/logs?follow=true"))
            .bearer_auth(cluster.token())
            .header("accept", "text/event-stream")
            .header("last-event-id", format!("{run}.{number}@{byte}"));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async { request.send().await.unwrap().text().await.unwrap() })
    }
}

/// Waits until every voter holds everything, as the leader knows.
fn wait_until_repaired(cluster: &Cluster, attempts: u64) {
    until_within(PATIENCE, "every node to hold all logs", || {
        let leader = cluster.leader()?;
        let up = (0..cluster.nodes.len()).filter(|node| cluster.nodes[*node].is_up());
        let held = |node: usize| {
            let (_, stats) = cluster.ask(node, "GET", "cluster/logs", None, None)?;
            stats["attempts"].as_u64()
        };
        let (_, stats) = cluster.ask(leader, "GET", "cluster/logs", None, None)?;
        let all_have = up.map(held).all(|held| held == Some(attempts));
        (stats["behind"] == 0 && all_have).then_some(())
    });
}

#[test]
fn a_followed_log_has_no_gap_and_no_double_when_the_leader_and_then_the_worker_die() {
    const LINES: usize = 200;
    let mut cluster = Cluster::start(3, 1);
    let script = format!(
        "for ((i = 0; i < {LINES}; i++)); do echo \"line $i\"; echo \"oops $i\" >&2; sleep 0.1; done"
    );
    let job = json!({"name": "talks", "shell": script, "interpreter": ["/bin/bash"]});
    cluster.post("jobs", &job);
    let run = begin(&cluster, "talks");
    let urls: Vec<String> =
        cluster.nodes.iter().map(|n| format!("http://{}", n.address("http"))).collect();
    let follower = Command::new(HORAI)
        .args(["run", "logs", "-f", &run, "--timeout", "60s", "-o", "json"])
        .env("HORAI_URL", urls.join(","))
        .env("HORAI_TOKEN", cluster.token())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let wrote = |cluster: &Cluster, line: &str| {
        let leader = cluster.wait_for_leader();
        let text = format!("{line}\n");
        until(line, || served(cluster, leader, &[&run]).contains(&text).then_some(()));
    };
    wrote(&cluster, "line 30");
    let leader = cluster.wait_for_leader();
    cluster.nodes[leader].kill();
    until("another leader", || cluster.leader().filter(|other| *other != leader));
    wrote(&cluster, "line 70");
    cluster.workers[0].kill();
    // The job goes on under its shim, and is taken over.
    cluster.workers[0].start();
    let shown = wait_for_success(&cluster, &run);
    assert_eq!(shown["attempts"].as_array().unwrap().len(), 1, "{shown}");
    let out = follower.wait_with_output().unwrap();
    assert!(out.status.success());
    let events: Vec<Value> = String::from_utf8(out.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (mut at, mut last) = (0, String::new());
    let mut texts = [String::new(), String::new()];
    for event in &events {
        assert_eq!(event["from"], at, "no gap and no double");
        at = event["to"].as_u64().unwrap();
        let time = event["at"].as_str().unwrap();
        // Cluster time is slewed, and does not jump.
        assert!(time >= last.as_str(), "{last} {event}");
        last = time.to_owned();
        texts[usize::from(event["stream"] == "stderr")].push_str(event["text"].as_str().unwrap());
    }
    let wanted = |word: &str| (0..LINES).map(|i| format!("{word} {i}\n")).collect::<String>();
    assert_eq!(texts, [wanted("line"), wanted("oops")]);
    assert_eq!(shown["attempts"][0]["output_bytes"], at);
    cluster.nodes[leader].start();
    cluster.wait_for_all_to_follow();
    wait_until_repaired(&cluster, 1);
    let whole = served(&cluster, 0, &[&run]);
    assert_eq!(whole.len() as u64, at);
    for node in 1..3 {
        assert_eq!(served(&cluster, node, &[&run]), whole);
    }
    let some = served(&cluster, 1, &[&run, "--grep", "line 17", "--timestamps", "--attempt", "1"]);
    // 17 and 170 to 179.
    assert_eq!(some.lines().count(), 11, "{some}");
    assert!(some.lines().all(|line| line.contains("Z stdout line 17")), "{some}");
    let end = served(&cluster, 2, &[&run, "--since-offset", &(at - 5).to_string()]);
    assert_eq!(end, whole[whole.len() - 5..]);
    // Over HTTP, who comes back with an event's id goes on behind it at any node.
    let id = AttemptId(&run, 1);
    let told: Vec<String> = (0..3).map(|node| id.events_behind(&cluster, node, at - 5)).collect();
    assert!(told[0].ends_with(&format!("data: {{\"total\":{at}}}\n\n")), "{}", told[0]);
    assert!(told[0].contains(&format!("\"to\":{at},")) && !told[0].contains("line 17"));
    assert!(told.iter().all(|other| *other == told[0]), "{told:?}");
    cluster.end();
}

#[test]
fn what_was_acknowledged_survives_disks_that_are_lost_one_after_the_other() {
    const RUNS: usize = 4;
    let mut cluster = Cluster::start(3, 1);
    let script = "for i in $(seq 1 20000); do echo \"$HORAI_RUN_ID line $i\"; done";
    cluster.post("jobs", &json!({"name": "writes", "shell": script}));
    let runs: Vec<String> = (0..RUNS).map(|_| begin(&cluster, "writes")).collect();
    let texts: Vec<String> = runs
        .iter()
        .map(|run| {
            wait_for_success(&cluster, run);
            served(&cluster, 0, &[run])
        })
        .collect();
    for (run, text) in runs.iter().zip(&texts) {
        let wanted: String = (1..=20_000).map(|i| format!("{run} line {i}\n")).collect();
        assert!(*text == wanted, "{run} is not what was written");
        // The worker has let go of what a majority holds.
        let folder = format!("worker1/attempts/{}-0-1", run.trim_start_matches("r-"));
        let folder = cluster.path(&folder);
        until("the worker to let go", || (!folder.exists()).then_some(()));
    }
    wait_until_repaired(&cluster, RUNS as u64);
    cluster.workers[0].kill();
    let same_everywhere = |cluster: &Cluster| {
        for node in (0..cluster.nodes.len()).filter(|node| cluster.nodes[*node].is_up()) {
            for (run, text) in runs.iter().zip(&texts) {
                assert!(served(cluster, node, &[run]) == *text, "{run} at {node}");
            }
        }
    };
    same_everywhere(&cluster);
    // One disk is lost, and a new node takes its place.
    cluster.nodes[2].kill();
    std::fs::remove_dir_all(cluster.path("node3")).unwrap();
    let lost = cluster.nodes.remove(2);
    cluster.join(3, &["3"]);
    cluster.wait_for_voters(3);
    drop(lost);
    wait_until_repaired(&cluster, RUNS as u64);
    // Then the next one, and its place stays empty.
    cluster.nodes[1].kill();
    std::fs::remove_dir_all(cluster.path("node2")).unwrap();
    cluster.wait_for_leader();
    same_everywhere(&cluster);
    cluster.end();
}

#[test]
fn a_node_that_is_alone_gives_what_it_has_and_does_not_say_that_it_is_all() {
    let mut cluster = Cluster::start(3, 1);
    cluster.post("jobs", &json!({"name": "says", "shell": "echo hello; sleep 600"}));
    let run = begin(&cluster, "says");
    until("the output", || (served(&cluster, 0, &[&run]) == "hello\n").then_some(()));
    wait_until_repaired(&cluster, 1);
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    let address = cluster.nodes[0].address("http");
    let request = reqwest::Client::new()
        .get(format!("http://{address}/api/v1/runs/{run}/logs?consistency=stale"))
        .bearer_auth(cluster.token());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        assert_eq!(answer.chunk().await.unwrap().as_deref(), Some(&b"hello\n"[..]));
        let rest = answer.chunk().await;
        assert!(rest.is_err(), "more of it may be with the others: {rest:?}");
    });
    cluster.nodes[1].start();
    cluster.nodes[2].start();
    cluster.wait_for_all_to_follow();
    assert_eq!(served(&cluster, 0, &[&run]), "hello\n");
    cluster.run_ok(&["run", "cancel", &run]);
    cluster.wait_for_end(&run);
    cluster.end();
}

#[test]
fn logs_go_with_their_runs() {
    // Of a job's runs that are over, so many are kept.
    const KEPT: u64 = 200;
    let cluster = Cluster::start(1, 1);
    cluster.post("jobs", &json!({"name": "says", "shell": "echo $HORAI_RUN_ID"}));
    let mut last = Value::Null;
    for _ in 0..KEPT + 20 {
        last = cluster.post("jobs/says/trigger", &json!({}))["run"].clone();
    }
    let last = last.as_str().unwrap();
    wait_for_success(&cluster, last);
    assert_eq!(served(&cluster, 0, &[last]), format!("{last}\n"));
    until_within(PATIENCE, "the first logs to go", || {
        let runs = cluster.get("runs?limit=1000")["items"].as_array()?.len() as u64;
        let stats = cluster.get("cluster/logs");
        (runs < KEPT + 20 && stats["attempts"] == runs).then_some(())
    });
    assert_eq!(served(&cluster, 0, &[last]), format!("{last}\n"));
    cluster.end();
}

#[test]
fn a_flood_is_cut_in_the_middle_and_slows_nobody() {
    const BYTES: u64 = 1_000_000_000;
    let cluster = Cluster::start(3, 1);
    let flood = format!("yes 0123456789abcde | head -c {BYTES}; echo the end");
    cluster.post("jobs", &json!({"name": "floods", "shell": flood}));
    cluster.post("jobs", &json!({"name": "neighbour", "shell": "echo hello"}));
    let leader = cluster.wait_for_leader();
    let term = cluster.status(leader).unwrap()["leader"]["term"].clone();
    let run = begin(&cluster, "floods");
    // Somebody reads it, and does not go on reading.
    let mut slow = Command::new(HORAI)
        .args(["run", "logs", "-f", &run])
        .env("HORAI_URL", format!("http://{}", cluster.nodes[0].address("http")))
        .env("HORAI_TOKEN", cluster.token())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut slowest = Duration::ZERO;
    let shown = until_within(PATIENCE, "the flood to end", || {
        let begun = Instant::now();
        let other = begin(&cluster, "neighbour");
        assert_eq!(cluster.run_ok(&["run", "logs", "-f", &other]), "hello\n");
        slowest = slowest.max(begun.elapsed());
        let shown = cluster.get(&format!("runs/{run}"));
        (shown["state"] == "success").then_some(shown)
    });
    assert_eq!(shown["attempts"][0]["output_bytes"], BYTES + 8);
    let text = until_within(PATIENCE, "the end of the output", || {
        let read = cluster.run(&["run", "logs", &run, "--timeout", "60s"]);
        read.status.success().then(|| String::from_utf8(read.stdout).unwrap())
    });
    assert!(text.starts_with("0123456789abcde\n") && text.ends_with("the end\n"));
    assert_eq!(text.matches("[horai: ").count(), 1, "one stretch is left out");
    let kept = text.len() as u64;
    assert!((40 << 20..70 << 20).contains(&kept), "{kept}");
    for node in 0..3 {
        let (_, stats) = cluster.ask(node, "GET", "cluster/logs", None, None).unwrap();
        assert!(stats["bytes"].as_u64().unwrap() < 256 << 20, "{stats}");
        assert_eq!(stats["shut"], Value::Null);
    }
    let after = cluster.wait_for_leader();
    assert_eq!(cluster.status(after).unwrap()["leader"]["term"], term, "nobody was elected");
    // Dispatch, process, delivery and reading of a run, on a machine that is busy.
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    slow.kill().unwrap();
    slow.wait().unwrap();
    cluster.end();
}

#[test]
fn a_node_leaves_only_when_what_it_holds_is_elsewhere() {
    let mut cluster = Cluster::start(3, 1);
    cluster.post("jobs", &json!({"name": "says", "shell": "echo hello"}));
    cluster.nodes[1].kill();
    cluster.wait_for_leader();
    let run = begin(&cluster, "says");
    wait_for_success(&cluster, &run);
    until("the output", || (served(&cluster, 0, &[&run]) == "hello\n").then_some(()));
    // One copy of two would go, and one of those that stay cannot say what it has.
    let refused = cluster.run(&["cluster", "remove", "3"]);
    let why = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && why.contains("logs could be lost"), "{why}");
    assert!(why.contains("--lose-logs"), "{why}");
    cluster.nodes[1].start();
    cluster.wait_for_all_to_follow();
    wait_until_repaired(&cluster, 1);
    cluster.run_ok(&["cluster", "remove", "3"]);
    cluster.wait_for_voters(2);
    cluster.workers[0].kill();
    for node in 0..2 {
        assert_eq!(served(&cluster, node, &[&run]), "hello\n");
    }
    cluster.end();
}

/// For how long they write; 60 is what is promised.
fn seconds() -> u64 {
    std::env::var("HORAI_LOGS_SECONDS").map_or(8, |seconds| seconds.parse().unwrap())
}

#[test]
fn two_hundred_attempts_write_a_megabyte_a_second_and_no_byte_is_lost() {
    const WRITERS: usize = 200;
    let seconds = seconds();
    let mut cluster = Cluster::start(3, 0);
    cluster.add_worker(&format!("slots = {WRITERS}"));
    let go = cluster.path("go");
    let script = format!(
        "until [ -e {go:?} ]; do sleep 1; done; block=$(echo {{10000..10832}})\n\
         for ((i = 0; i < {seconds}; i++)); do echo \"$HORAI_RUN_ID $i $block\"; sleep 1; done"
    );
    let job = json!({
        "name": "writes", "shell": script, "interpreter": ["/bin/bash"], "overlap": "allow",
    });
    cluster.post("jobs", &job);
    let trigger = |_| cluster.post("jobs/writes/trigger", &json!({}))["run"].clone();
    let runs: Vec<String> =
        (0..WRITERS).map(trigger).map(|run| run.as_str().unwrap().to_owned()).collect();
    until_within(PATIENCE, "all to write at once", || {
        let shown = cluster.get("workers/w1");
        (shown["used"] == WRITERS).then_some(())
    });
    std::fs::write(&go, "").unwrap();
    let block: Vec<String> = (10_000..=10_832).map(|n| n.to_string()).collect();
    let block = block.join(" ");
    for (n, run) in runs.iter().enumerate() {
        let shown = wait_for_success(&cluster, run);
        assert_eq!(shown["attempts"].as_array().unwrap().len(), 1, "{shown}");
        let wanted: String = (0..seconds).map(|i| format!("{run} {i} {block}\n")).collect();
        let text = served(&cluster, n % 3, &[run]);
        assert!(text == wanted, "{run}: {} bytes of {}", text.len(), wanted.len());
    }
    wait_until_repaired(&cluster, WRITERS as u64);
    cluster.end();
}
