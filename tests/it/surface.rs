//! What a person touches, with the real program: commands against a cluster of
//! processes, bad input through them, output that is followed while nodes die,
//! and signals.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::cluster::{Cluster, HORAI, until};

fn said(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn urls(cluster: &Cluster) -> String {
    let urls = cluster.nodes.iter().map(|node| format!("http://{}", node.address("http")));
    urls.collect::<Vec<_>>().join(",")
}

/// A command that must fail with that exit code, print nothing, and say all of
/// `words` with a hint.
#[track_caller]
fn refused(out: &Output, code: i32, words: &[&str]) {
    let told = said(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{told}");
    assert_eq!(said(&out.stdout), "", "standard output is for data: {told}");
    assert!(told.starts_with("error: ") && told.contains("\nhint: "), "{told}");
    for word in words {
        assert!(told.contains(word), "{word:?} is missing in {told}");
    }
}

#[test]
fn every_verb_answers_in_every_form() {
    let cluster = Cluster::start(1, 1);
    let out = |arguments: &[&str]| cluster.run_ok(arguments);
    let data = |arguments: &[&str]| cluster.data(arguments);

    // Nothing is there: that is said to people, and data stays empty.
    for (noun, nothing) in [("job", "no jobs"), ("run", "no runs"), ("lock", "no lock")] {
        let list = cluster.run(&[noun, "list"]);
        assert!(list.status.success() && list.stdout.is_empty(), "{noun}");
        assert!(said(&list.stderr).starts_with(nothing), "{noun}: {}", said(&list.stderr));
        assert_eq!(data(&[noun, "list"]), json!([]));
        assert_eq!(out(&[noun, "list", "-o", "quiet"]), "");
    }

    let applied = cluster.try_apply("jobs: [{name: hello, shell: 'echo hello; echo oops >&2'}]");
    assert!(said(&applied.stdout).contains("hello  1         created"), "{applied:?}");
    let list = out(&["job", "list"]);
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 2, "{list}");
    assert_eq!(lines[0].find("STATE"), lines[1].find("active"), "columns stand under titles");
    assert_eq!(out(&["job", "list", "-o", "quiet"]), "hello\n");
    assert_eq!(data(&["job", "get", "hello"])["revision"], 1);

    // What get prints as YAML is what apply takes.
    let yaml = out(&["job", "get", "hello", "-o", "yaml"]);
    let again = cluster.try_apply(&yaml);
    assert!(said(&again.stdout).contains("unchanged"), "{again:?}");

    for (verb, state) in [("pause", "paused"), ("resume", "active")] {
        let done = cluster.run(&["job", verb, "hello"]);
        assert!(said(&done.stderr).contains(state) && done.stdout.is_empty(), "{done:?}");
        assert!(out(&["job", "list"]).contains(state));
    }

    let run = out(&["job", "trigger", "hello", "-o", "quiet"]);
    let run = run.trim();
    assert_eq!(out(&["run", "logs", "-f", run]), "hello\noops\n");
    until("the run's end", || (data(&["run", "show", run])["state"] == "success").then_some(()));
    assert!(out(&["run", "show", run]).contains("exited 0"));
    assert!(out(&["run", "list", "--job", "hello"]).contains(run));
    assert!(out(&["run", "explain", run]).contains("it is over"));
    assert_eq!(out(&["run", "list", "-o", "yaml"]).lines().next(), Some(&*format!("- id: {run}")));

    let worker = out(&["worker", "list", "-o", "quiet"]);
    assert_eq!(data(&["worker", "show", worker.trim()])["connected"], true);
    let lease = out(&["lock", "acquire", "l", "--owner", "me", "--ttl", "1m", "-o", "quiet"]);
    let lease = lease.trim();
    refused(
        &cluster.run(&["lock", "acquire", "l", "--owner", "you", "--wait", "300ms"]),
        4,
        &["lock l", "300ms"],
    );
    assert_eq!(data(&["lock", "renew", "l", lease])["state"], "held");
    assert_eq!(data(&["lock", "list"])[0]["holders"][0]["owner"], "me");
    out(&["lock", "release", "l", lease]);
    refused(&cluster.run(&["lock", "release", "l", lease]), 3, &["lock l is not held"]);

    let status = data(&["cluster", "status"]);
    assert_eq!((&status["node"], &status["leader"]["node"]), (&json!(1), &json!(1)));
    assert!(out(&["cluster", "status"]).contains("leader"));
    let applied = status["applied_index"].as_u64().unwrap();
    let taken = data(&["cluster", "snapshot"]);
    assert!(taken["node"] == 1 && taken["index"].as_u64().unwrap() >= applied, "{taken}");
    assert!(out(&["cluster", "snapshot"]).contains("the log up to index"));
    let again: u64 = out(&["cluster", "snapshot", "-o", "quiet"]).trim().parse().unwrap();
    assert!(again >= applied);
    assert!(data(&["cluster", "token"])["token"].as_str().unwrap().starts_with("hj-"));
    let after = cluster.try_apply("jobs: [{name: after, noop: true, depends_on: [hello]}]");
    assert!(after.status.success(), "{after:?}");
    assert_eq!(out(&["job", "pause", "hello", "--downstream", "-o", "quiet"]), "after\nhello\n");
    assert_eq!(out(&["job", "resume", "after", "--upstream", "-o", "quiet"]), "hello\nafter\n");
    refused(&cluster.run(&["job", "delete", "hello"]), 4, &["1 job depends on it: after"]);
    let preview = out(&["job", "delete", "hello", "--force", "--preview"]);
    assert!(preview.contains("after      none any more"), "{preview}");
    assert_eq!(data(&["job", "delete", "hello", "--force"])["unplanned"], json!(["after"]));
    out(&["job", "delete", "after"]);
    refused(&cluster.run(&["job", "get", "hello"]), 3, &["hello"]);
    cluster.end();
}

#[test]
fn bad_input_changes_nothing_and_says_what_would_be_right() {
    let cluster = Cluster::start(1, 0);
    assert!(cluster.try_apply("jobs: [{name: kept, noop: true}]").status.success());
    let good = "{name: good, noop: true}";
    for (bad, code, words) in [
        ("{name: bad, noop: true, corn: 1}", 2, &["jobs[1].corn", "no such field"][..]),
        ("{name: bad, noop: true, zoen: UTC}", 2, &["jobs[1].zoen", "did you mean zone?"]),
        (
            "{name: bad, noop: true, triggers: [{cron: '61 * * * * ?'}]}",
            2,
            &["jobs[1] (bad)", "triggers[0].cron", "\n61 * * * * ?\n^^\n", "0 to 59"],
        ),
        ("{name: bad, noop: true, zone: Mars/Base}", 2, &["zone", "Mars/Base", "Europe/Berlin"]),
        (
            "{name: bad, noop: true, depends_on: [bad]}",
            2,
            &["depends_on[0].match", "previous_period"],
        ),
        ("{name: bad, noop: true, depends_on: [nowhere]}", 2, &["depends_on[0]", "nowhere"]),
        ("{name: 'B A D', noop: true}", 2, &["name", "B A D", "a-z"]),
        ("{name: bad}", 2, &["shell", "exec", "noop"]),
        ("{name: bad, noop: true, timeout: soon}", 2, &["timeout", "soon"]),
        ("{name: bad, noop: true, priority: 10}", 2, &["priority", "10"]),
    ] {
        refused(&cluster.try_apply(&format!("jobs: [{good}, {bad}]")), code, words);
        assert_eq!(cluster.run_ok(&["job", "list", "-o", "quiet"]), "kept\n", "after {bad}");
    }
    let large = format!("jobs: [{good}, {{name: bad, shell: '{}'}}]", "x".repeat(2 << 20));
    refused(&cluster.try_apply(&large), 2, &["bad", "at most"]);
    refused(&cluster.try_apply("jobs: ["), 2, &["jobs.yaml", "line 1"]);
    refused(&cluster.run(&["job", "delete", "kept", "--revision", "7"]), 4, &["revision 1"]);
    refused(&cluster.run(&["job", "trigger", "gone"]), 3, &["job gone"]);
    refused(&cluster.run(&["run", "show", "r-77"]), 3, &["r-77"]);
    refused(&cluster.run(&["run", "explain", "x"]), 2, &["\"x\"", "r-17"]);
    refused(&cluster.run(&["cluster", "remove", "9"]), 3, &["node 9"]);
    refused(&cluster.run(&["cluster", "token", "--expires-in", "90d"]), 2, &["90d", "30d"]);
    refused(
        &cluster.run(&["lock", "acquire", "l", "--owner", "o", "--ttl", "2d"]),
        2,
        &["ttl", "2d", "1d"],
    );
    assert_eq!(cluster.run_ok(&["job", "list", "-o", "quiet"]), "kept\n");

    // The same straight over HTTP: 4xx with code, field, value and remedy.
    for (body, status, code, field) in [
        (json!({"name": "bad", "noop": true, "corn": 1}), 400, "unknown_field", "corn"),
        (
            json!({"name": "bad", "noop": true, "triggers": [{"cron": "x"}]}),
            400,
            "bad_cron",
            "triggers[0].cron",
        ),
        (json!({"name": "bad", "noop": true, "zone": "No/Where"}), 400, "unknown_zone", "zone"),
        (
            json!({"name": "bad", "noop": true, "depends_on": ["nowhere"]}),
            422,
            "missing_upstream",
            "depends_on[0]",
        ),
        (
            json!({"name": "bad", "noop": true, "depends_on": ["bad"]}),
            400,
            "invalid_value",
            "depends_on[0].match",
        ),
    ] {
        let (got, problem) = cluster.ask(0, "POST", "jobs", Some(&body), None).unwrap();
        assert_eq!((got, &problem["code"]), (status, &json!(code)), "{problem}");
        let error = &problem["errors"][0];
        assert_eq!(error["field"], field, "{problem}");
        for part in ["value", "problem", "remedy"] {
            assert_ne!(error[part].as_str().unwrap_or_default(), "", "{part}: {problem}");
        }
    }
    let calendar = json!({"name": "bad", "cron": "0 0 25 * * ?"});
    let (_, problem) = cluster.ask(0, "PUT", "calendars/bad", Some(&calendar), None).unwrap();
    assert_eq!(problem["errors"][0]["caret"], "0 0 25 * * ?\n    ^^", "{problem}");
    assert_eq!(cluster.run_ok(&["job", "list", "-o", "quiet"]), "kept\n");
    cluster.end();
}

#[test]
fn a_wrong_address_or_token_and_a_lost_quorum_are_told_apart() {
    let mut cluster = Cluster::start(3, 0);
    let token = cluster.token().to_owned();
    let horai = |url: &str, token: Option<&str>, arguments: &[&str]| {
        let mut command = Command::new(HORAI);
        command.args(arguments).args(["--timeout", "4s"]).env("HORAI_URL", url);
        command.env_remove("HORAI_TOKEN");
        if let Some(token) = token {
            command.env("HORAI_TOKEN", token);
        }
        command.output().unwrap()
    };
    let url = urls(&cluster);
    let list = ["job", "list"];
    refused(&horai(&url, None, &list), 5, &["no token", "HORAI_TOKEN"]);
    refused(&horai(&url, Some("wrong-but-long-enough"), &list), 5, &["does not know this token"]);
    refused(&horai("http://127.0.0.1:1", Some(&token), &list), 6, &["127.0.0.1:1", "refused"]);
    let raft = format!("http://{}", cluster.nodes[0].address("raft"));
    refused(&horai(&raft, Some(&token), &list), 6, &["HTTP port"]);
    refused(&horai("127.0.0.1:7600", Some(&token), &list), 2, &["http://HOST:PORT"]);
    // A file named on the line goes before the variable.
    let file = cluster.path("token");
    let with_file = [&list[..], &["--token-file", file.to_str().unwrap()]].concat();
    assert!(horai(&url, Some("wrong-but-long-enough"), &with_file).status.success());

    // One node of three is left: it answers what it knows, and takes nothing.
    let leader = cluster.wait_for_leader();
    cluster.nodes[leader].kill();
    let other = (leader + 1) % 3;
    cluster.nodes[other].kill();
    let left = format!("http://{}", cluster.nodes[(leader + 2) % 3].address("http"));
    let status = horai(&left, Some(&token), &["cluster", "status", "-o", "json"]);
    assert_eq!(status.status.code(), Some(6), "{status:?}");
    assert!(said(&status.stderr).contains("2 of 3 voters"), "{}", said(&status.stderr));
    let known: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(known["members"].as_array().unwrap().len(), 3);
    refused(&horai(&left, Some(&token), &["job", "trigger", "x"]), 6, &["majority"]);
    cluster.nodes[leader].start();
    cluster.nodes[other].start();
    cluster.wait_for_leader();
    cluster.end();
}

/// Lines that the followed job writes, a tenth of a second apart.
const LINES: usize = 250;

fn follow(cluster: &Cluster, first: usize, run: &str) -> (Child, std::thread::JoinHandle<String>) {
    // The node to be broken is asked first.
    let mut urls: Vec<String> =
        cluster.nodes.iter().map(|n| format!("http://{}", n.address("http"))).collect();
    urls.swap(0, first);
    let mut child = Command::new(HORAI)
        .args(["run", "logs", "-f", run, "--timeout", "30s"])
        .env("HORAI_URL", urls.join(","))
        .env("HORAI_TOKEN", cluster.token())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let copy = cluster.path(&format!("followed-{first}"));
    let reader = std::thread::spawn(move || {
        let mut file = std::fs::File::create(copy).unwrap();
        let (mut all, mut part) = (Vec::new(), [0; 4096]);
        loop {
            let n = out.read(&mut part).unwrap();
            if n == 0 {
                return String::from_utf8(all).unwrap();
            }
            all.extend_from_slice(&part[..n]);
            file.write_all(&part[..n]).unwrap();
        }
    });
    (child, reader)
}

#[test]
fn followed_output_goes_on_at_the_same_byte_whichever_node_is_lost() {
    let mut cluster = Cluster::start(3, 1);
    let script = format!("for ((i = 0; i < {LINES}; i++)); do echo \"line $i\"; sleep 0.1; done");
    let job = json!({"name": "talks", "shell": script, "interpreter": ["/bin/bash"]});
    cluster.post("jobs", &job);
    let run = cluster.post("jobs/talks/trigger", &json!({}))["run"].as_str().unwrap().to_owned();
    let leader = cluster.wait_for_leader();
    let followers: Vec<usize> = (0..3).filter(|n| *n != leader).collect();
    // One reads at the leader, one at the node that freezes, one at the one that is stopped.
    let mut readers: Vec<_> = [leader, followers[0], followers[1]]
        .into_iter()
        .map(|n| (n, follow(&cluster, n, &run)))
        .collect();
    let heard = |cluster: &Cluster, n: usize| {
        let text = std::fs::read_to_string(cluster.path(&format!("followed-{n}")));
        text.unwrap_or_default().lines().count()
    };
    until("all to hear something", || {
        for (_, (child, _)) in &mut readers {
            if let Some(status) = child.try_wait().unwrap() {
                let mut told = String::new();
                child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
                panic!("a reader ended ({status}): {told}");
            }
        }
        readers.iter().all(|(n, _)| heard(&cluster, *n) > 5).then_some(())
    });
    cluster.nodes[leader].kill();
    let goal = (heard(&cluster, leader) + 10).min(LINES);
    until("the output to go on elsewhere", || (heard(&cluster, leader) >= goal).then_some(()));
    cluster.bring_back(leader);
    // A node that stops kindly does not claim that the output has ended.
    cluster.nodes[followers[1]].terminate();
    cluster.nodes[followers[1]].start();
    until("the stopped node to be back", || cluster.status(followers[1]));
    // A node that answers nothing any more, and breaks no connection either.
    cluster.nodes[followers[0]].freeze();
    until("the output to be read past a frozen node", || {
        (heard(&cluster, followers[0]) == LINES).then_some(())
    });
    cluster.nodes[followers[0]].thaw();
    let whole: String = (0..LINES).map(|i| format!("line {i}\n")).collect();
    for (n, (child, reader)) in readers {
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.success(), "reader at {n}: {}", said(&ended.stderr));
        assert_eq!(reader.join().unwrap(), whole, "reader at {n}: a gap or a repetition");
    }
    cluster.end();
}

#[test]
fn a_second_signal_ends_a_node_at_once() {
    for second in [Signal::INT, Signal::TERM] {
        let mut cluster = Cluster::start(1, 0);
        // A request whose body does not come keeps a kind end waiting.
        let mut request = TcpStream::connect(cluster.nodes[0].address("http")).unwrap();
        let token = cluster.token();
        write!(
            request,
            "POST /api/v1/jobs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             expect: 100-continue\r\ncontent-length: 100\r\n\r\n"
        )
        .unwrap();
        let mut answer = [0; 12];
        request.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 100", "the handler waits for the body");
        kill_process(cluster.nodes[0].pid(), Signal::TERM).unwrap();
        until("the first signal to be heard", || {
            cluster.nodes[0].log().contains("SIGTERM received").then_some(())
        });
        let begun = Instant::now();
        kill_process(cluster.nodes[0].pid(), second).unwrap();
        assert_eq!(cluster.nodes[0].wait(), Some(1));
        assert!(begun.elapsed() < Duration::from_secs(5), "took {:?}", begun.elapsed());
        let log = cluster.nodes[0].log();
        assert!(log.contains("error: stopped at once by a second signal\nhint: "), "{log}");
        // Nothing was lost by it.
        cluster.nodes[0].start();
        cluster.wait_for_leader();
        cluster.end();
    }
}

#[test]
fn a_node_that_is_taken_out_says_so_and_ends() {
    let mut cluster = Cluster::start(3, 0);
    let leader = cluster.wait_for_leader();
    let out = (leader + 1) % 3;
    let number = cluster.status(out).unwrap()["node"].to_string();
    let done = cluster.run(&["cluster", "remove", &number]);
    assert!(done.status.success(), "{}", said(&done.stderr));
    assert!(said(&done.stderr).contains(&format!("node {number} is out")));
    assert_eq!(cluster.nodes[out].wait(), Some(1));
    let log = cluster.nodes[out].log();
    assert!(log.contains("error: the node cannot go on: this node was removed"), "{log}");
    assert!(log.contains("hint: ") && log.contains("horai cluster join"), "{log}");
    // It does not come back by being started again, nor under its number.
    cluster.nodes[out].start();
    assert_eq!(cluster.nodes[out].wait(), Some(1));
    let seed = cluster.nodes[leader].address("raft");
    let config = cluster.path(&format!("node{}.toml", out + 1));
    let back = ["cluster", "replace", &number, "--to", &seed, "--config"];
    let back = cluster.run(&[&back[..], &[config.to_str().unwrap()]].concat());
    refused(&back, 4, &["cannot come back", "horai cluster join"]);
    cluster.end();
}

#[test]
fn a_set_of_jobs_that_need_each_other_is_applied_through_a_follower() {
    const LENGTH: usize = 12;
    let cluster = Cluster::start(3, 0);
    let leader = cluster.wait_for_leader();
    cluster.wait_for_all_to_follow();
    let follower = (leader + 1) % cluster.nodes.len();
    for chain in 0..5 {
        // Each needs the one before, so that each goes in a trip of its own.
        let job = |n: usize| {
            let mut job = json!({"name": format!("chain-{chain}-{n}"), "noop": true});
            if n > 0 {
                job["depends_on"] = json!([format!("chain-{chain}-{}", n - 1)]);
            }
            job
        };
        let body = json!({"jobs": (0..LENGTH).map(job).collect::<Vec<_>>()});
        let id = format!("chain-{chain}");
        let said = until("the chain to be applied", || {
            let (status, said) = cluster.ask(follower, "POST", "jobs", Some(&body), Some(&id))?;
            assert!(status == 200 || status >= 500, "{status} {said}");
            (status == 200).then_some(said)
        });
        assert_eq!(said["jobs"].as_array().unwrap().len(), LENGTH);
    }
    cluster.end();
}
