//! Small files that jobs bring along, in clusters of processes: nodes and disks that are lost
//! lose none, and a run has those of its own revision.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, HORAI, until_within};

/// Longer than any repair here takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Writes a file beside the jobs' own.
fn beside(cluster: &Cluster, name: &str, content: &[u8]) {
    let path = cluster.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Applies the jobs of a file that lies in the cluster's folder.
fn apply(cluster: &Cluster, jobs: &str) -> std::process::Output {
    beside(cluster, "jobs.yaml", jobs.as_bytes());
    cluster.run(&["job", "apply", "-f", cluster.path("jobs.yaml").to_str().unwrap(), "-o", "json"])
}

fn applied(cluster: &Cluster, jobs: &str) -> Value {
    let out = apply(cluster, jobs);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let answer: Value = serde_json::from_slice(&out.stdout).unwrap();
    answer["jobs"].clone()
}

/// What a run of the job writes.
fn said(cluster: &Cluster, arguments: &[&str]) -> String {
    let run = cluster.over(arguments);
    assert_eq!(run["state"], "success", "{run}");
    cluster.run_ok(&["run", "logs", run["id"].as_str().unwrap()])
}

/// Waits until every node that is up holds so many contents.
fn wait_until_repaired(cluster: &Cluster, files: u64) {
    until_within(PATIENCE, "every node to hold all files", || {
        let up = (0..cluster.nodes.len()).filter(|node| cluster.nodes[*node].is_up());
        let held = |node: usize| {
            let (_, stats) = cluster.ask(node, "GET", "cluster/logs", None, None)?;
            stats["files"].as_u64()
        };
        up.map(held).all(|held| held == Some(files)).then_some(())
    });
}

const READS: &str = "jobs:\n- name: reads\n  shell: 'cat lookup.csv; lib/run'\n  files:\n    \
                     lookup.csv: {path: ./data/lookup.csv}\n    \
                     lib/run: {text: \"#!/bin/sh\\necho ran\\n\", mode: '0755'}\n    \
                     raw: {path: data/raw, mode: '0400'}\n";

#[test]
fn a_script_reads_the_files_beside_its_definition_and_each_revision_keeps_its_own() {
    let mut cluster = Cluster::start(3, 1);
    beside(&cluster, "data/lookup.csv", b"one\n");
    beside(&cluster, "data/raw", &[0xff, 0, 1]);
    let first = applied(&cluster, READS);
    assert_eq!(first[0]["revision"], 1);
    // Committed and with a majority: the leader may go.
    let leader = cluster.kill_leader();
    cluster.wait_for_other_leader(leader);
    assert_eq!(said(&cluster, &["job", "trigger", "reads"]), "one\nran\n");
    cluster.bring_back(leader);
    wait_until_repaired(&cluster, 3);
    let same = applied(&cluster, READS);
    assert_eq!((&same[0]["revision"], &same[0]["changed"]), (&json!(1), &json!(false)));
    // What is shown may be applied again, and means the same.
    let shown = cluster.run_ok(&["job", "get", "reads", "-o", "yaml"]);
    assert!(shown.contains("sha256") && !shown.contains("one"), "{shown}");
    assert_eq!(applied(&cluster, &shown)[0]["changed"], false);
    assert_eq!(cluster.run(&["job", "file", "reads", "raw"]).stdout, [0xff, 0, 1]);
    beside(&cluster, "data/lookup.csv", b"two\n");
    assert_eq!(applied(&cluster, READS)[0]["revision"], 2);
    let again = cluster.run_ok(&["job", "get", "reads", "-o", "yaml"]);
    assert!(again != shown, "a changed hash is shown");
    assert_eq!(said(&cluster, &["job", "trigger", "reads"]), "two\nran\n");
    let old = ["job", "trigger", "reads", "--revision", "1"];
    assert_eq!(said(&cluster, &old), "one\nran\n");
    assert_eq!(cluster.run_ok(&["job", "file", "reads", "lookup.csv"]), "two\n");
    let old = ["job", "file", "reads", "lookup.csv", "--revision", "1"];
    assert_eq!(cluster.run_ok(&old), "one\n");
    assert_eq!(cluster.run(&["job", "file", "reads", "none"]).status.code(), Some(3));
    cluster.end();
}

#[test]
fn files_survive_disks_that_are_lost_one_after_the_other() {
    let mut cluster = Cluster::start(3, 1);
    beside(&cluster, "data/lookup.csv", b"kept\n");
    beside(&cluster, "data/raw", b"raw");
    applied(&cluster, READS);
    wait_until_repaired(&cluster, 3);
    cluster.nodes[2].kill();
    fs::remove_dir_all(cluster.path("node3")).unwrap();
    let lost = cluster.nodes.remove(2);
    cluster.join(3, &["3"]);
    cluster.wait_for_voters(3);
    drop(lost);
    wait_until_repaired(&cluster, 3);
    cluster.nodes[1].kill();
    fs::remove_dir_all(cluster.path("node2")).unwrap();
    cluster.wait_for_leader();
    // A worker that never saw them.
    cluster.workers[0].kill();
    cluster.workers[0].start();
    assert_eq!(said(&cluster, &["job", "trigger", "reads"]), "kept\nran\n");
    assert_eq!(cluster.run_ok(&["job", "file", "reads", "lookup.csv"]), "kept\n");
    cluster.end();
}

#[test]
fn what_cannot_be_taken_is_refused_by_its_field_before_anything_is_stored() {
    let cluster = Cluster::start(1, 0);
    beside(&cluster, "large", &[b'x'; 256 * 1024 + 1]);
    beside(&cluster, "half", &[b'x'; 128 * 1024 + 1]);
    let many: Vec<String> = (0..33).map(|n| format!("f{n}: {{text: '{n}'}}")).collect();
    for (files, field, told) in [
        ("a: {path: ./none}", "files.a.path", "none"),
        ("a: {path: large}", "files.a.path", "262145"),
        ("a: {path: half}, b: {path: half}", "files", "262146 bytes"),
        (many.join(", ").as_str(), "files", "33"),
        ("../a: {text: x}", "files.../a", "working folder"),
        ("/a: {text: x}", "files./a", "relative"),
        ("a: {text: x}, a/b: {text: x}", "files.a/b", "a is a file"),
        ("a: {text: x, mode: '4755'}", "files.a.mode", "4755"),
        ("a: {text: x, path: half}", "files.a", "exactly one"),
        ("a: {text: x, owner: me}", "files.a", "owner"),
    ] {
        let out = apply(&cluster, &format!("jobs: [{{name: a, shell: x, files: {{{files}}}}}]"));
        let error = String::from_utf8(out.stderr).unwrap();
        assert!(!out.status.success(), "{files}");
        assert!(error.contains(field) && error.contains(told), "{field}: {error}");
        assert!(error.contains("hint: "), "{error}");
    }
    // A type that is wrong is told with its place.
    let out = apply(&cluster, "jobs:\n- name: a\n  shell: x\n  files:\n    a: {size: many}\n");
    let error = String::from_utf8(out.stderr).unwrap();
    assert!(error.contains("line 5") && error.contains("files.a.size"), "{error}");
    let unknown = format!("a: {{sha256: '{}', size: 3}}", "0".repeat(64));
    let out = apply(&cluster, &format!("jobs: [{{name: a, shell: x, files: {{{unknown}}}}}]"));
    let error = String::from_utf8(out.stderr).unwrap();
    assert!(error.contains("files.a.sha256") && error.contains("no content"), "{error}");
    let (_, stats) = cluster.ask(0, "GET", "cluster/logs", None, None).unwrap();
    assert_eq!(stats["files"], 0, "{stats}");
    let out = std::process::Command::new(HORAI)
        .args(["job", "check", cluster.path("jobs.yaml").to_str().unwrap()])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    cluster.end();
}

#[test]
fn without_its_files_nothing_runs_and_with_them_it_does() {
    let mut cluster = Cluster::start(1, 1);
    applied(&cluster, "jobs: [{name: a, shell: 'cat a', files: {a: {text: here}}}]");
    // The disk has lost what was on it: nobody has the content.
    cluster.nodes[0].kill();
    fs::remove_dir_all(cluster.path("node1/logs")).unwrap();
    cluster.nodes[0].start();
    cluster.wait_for_workers(1);
    let run = cluster.trigger("a");
    let end = until_within(PATIENCE, "an attempt that is given back", || {
        let shown = cluster.get(&format!("runs/{run}"));
        Some(shown["attempts"][0]["end"].clone()).filter(|end| end["how"] == "declined")
    });
    assert!(end["message"].as_str().unwrap().contains("file a cannot be had"), "{end}");
    // Applied again, the content is there again.
    applied(&cluster, "jobs: [{name: a, shell: 'cat a', files: {a: {text: here}}}]");
    until_within(PATIENCE, "the run to succeed", || {
        (cluster.get(&format!("runs/{run}"))["state"] == "success").then_some(())
    });
    assert_eq!(cluster.run_ok(&["run", "logs", &run]), "here");
    cluster.end();
}

#[test]
fn files_belong_to_whom_the_job_runs_as() {
    let cluster = Cluster::start(1, 1);
    // Its own folder is closed to others, and the script is in it.
    fs::set_permissions(cluster.path(""), fs::Permissions::from_mode(0o711)).unwrap();
    let text = "jobs:\n- name: a\n  run_as: nobody\n  shell: 'stat -c \"%U %a\" . b/c; cat b/c; \
                echo more >> b/c'\n  files:\n    b/c: {text: \"x\\n\", mode: '0600'}\n";
    applied(&cluster, text);
    assert_eq!(said(&cluster, &["job", "trigger", "a"]), "nobody 700\nnobody 600\nx\n");
    cluster.end();
}
