//! The command line as a person meets it: the real binary, its two streams and
//! its exit code.

use std::path::Path;
use std::process::{Command, Output};

fn horai(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_horai"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The command must fail with `code`, say nothing on standard output, and
/// mention all of `words` and a hint on standard error.
fn refuses(arguments: &[&str], code: i32, words: &[&str]) {
    let output = horai(arguments);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
    assert!(output.stdout.is_empty(), "{arguments:?} printed {:?}", text(&output.stdout));
    assert!(told.lines().any(|line| line.starts_with("hint: ")), "no hint in {told}");
    for word in words {
        assert!(told.contains(word), "{word:?} is missing in {told}");
    }
}

fn job_file(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn sample_files_pass_their_checks() {
    for arguments in [
        &["job", "check", "config/demo/jobs.yaml"][..],
        &["config", "check", "node", "config/node.toml"],
        &["job", "check", "config/first.yaml"],
        &["config", "check", "worker", "config/worker.toml"],
        &["config", "check", "node", "config/local/node-1.toml"],
        &["config", "check", "node", "config/local/node-2.toml"],
        &["config", "check", "node", "config/local/node-3.toml"],
        &["config", "check", "worker", "config/local/worker-1.toml"],
        &["config", "check", "worker", "config/local/worker-2.toml"],
        &["version"],
    ] {
        let output = horai(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn bad_jobs_are_refused_by_file_job_and_field() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| job_file(folder.path(), name, content);

    let bad =
        file("cron.yaml", "jobs: [{name: a, noop: true, triggers: [{cron: '0 61 * * * ?'}]}]");
    refuses(&["job", "check", &bad], 2, &["cron.yaml", "(a)", "triggers[0].cron", "61"]);
    let bad = file("zone.yaml", "jobs: [{name: a, noop: true, zone: Europe/Berlyn}]");
    refuses(&["job", "check", &bad], 2, &["zone", "Europe/Berlyn"]);
    let bad = file("field.json", r#"{"jobs": [{"name": "a", "noop": true, "corn": 1}]}"#);
    refuses(&["job", "check", &bad], 2, &["field.json", "corn"]);
    let bad = file("up.toml", "[[jobs]]\nname = \"a\"\nnoop = true\ndepends_on = [\"b\"]\n");
    refuses(&["job", "check", &bad], 2, &["depends_on[0]", "\"b\""]);
    let bad = file(
        "cycle.yaml",
        "jobs: [{name: a, noop: true, depends_on: [b]}, {name: b, noop: true, depends_on: [a]}]",
    );
    refuses(&["job", "check", &bad], 2, &["a, b"]);
    let twice = file("twice.yaml", "jobs: [{name: a, noop: true}, {name: a, noop: true}]");
    refuses(&["job", "check", &twice], 2, &["jobs[1]", "same name"]);
    let odd = file("jobs.txt", "jobs: []");
    refuses(&["job", "check", &odd], 2, &["jobs.txt", ".yaml"]);
    refuses(&["job", "check", "no-such.yaml"], 3, &["no-such.yaml"]);
}

#[test]
fn bad_configuration_ends_with_64() {
    let folder = tempfile::tempdir().unwrap();
    let bad = job_file(
        folder.path(),
        "node.toml",
        "[node]\ndata_dir = \"d\"\ntoken_file = \"t\"\n[raft]\nheartbeat_ms = 5\n",
    );
    refuses(&["config", "check", "node", &bad], 64, &["node.toml:5", "raft.heartbeat_ms"]);
    refuses(&["config", "check", "node", "no-such.toml"], 64, &["no-such.toml"]);
}

#[test]
fn wrong_usage_ends_with_2() {
    for arguments in [&["frobnicate"][..], &["job"], &["job", "check"], &[]] {
        assert_eq!(horai(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

/// The words of a command in README, taken from its code blocks.
fn printed_commands() -> Vec<Vec<String>> {
    let readme = include_str!("../../README.md");
    let blocks = readme.split("```").skip(1).step_by(2);
    let lines = blocks.flat_map(str::lines).filter(|line| line.starts_with("horai "));
    let words = |line: &str| {
        let command = line.split('#').next().unwrap_or_default();
        command.split_whitespace().filter(|word| *word != "&").map(str::to_owned).collect()
    };
    lines.map(words).collect()
}

#[test]
fn every_command_that_the_readme_prints_is_one() {
    let commands = printed_commands();
    assert!(commands.len() >= 12, "{commands:?}");
    for command in commands {
        for file in command.iter().filter(|word| word.starts_with("config/")) {
            assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(file).is_file(), "{file}");
        }
        // Help is printed only for a noun and verb that exist.
        let verb: Vec<&str> = command[1..].iter().map(String::as_str).take(2).collect();
        let verb = if verb[1].starts_with('-') { &verb[..1] } else { &verb[..] };
        let output = horai(&[verb, &["--help"]].concat());
        assert!(output.status.success(), "{command:?}");
        let help = text(&output.stdout);
        for option in command.iter().filter(|word| word.starts_with('-')) {
            assert!(help.contains(option.as_str()), "{option} of {command:?} is not in\n{help}");
        }
    }
}

#[test]
fn the_jobs_that_the_readme_prints_are_well_formed() {
    let readme = include_str!("../../README.md");
    let yaml = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = job_file(folder.path(), "readme.yaml", yaml);
    let output = horai(&["job", "check", &file]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "2 jobs are well formed\n");
}
