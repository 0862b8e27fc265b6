//! The command line as a person meets it: the real binary, its two streams and
//! its exit code.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output};

use horai::api::calendar_definition::CalendarDefinition;
use horai::api::worker_group_definition::WorkerGroupDefinition;
use horai_core::model::calendar::CalendarDef;

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
    refuses(
        &["job", "check", &bad],
        2,
        &["cron.yaml", "(a)", "triggers[0].cron", "\n0 61 * * * ?\n  ^^\n"],
    );
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
    refuses(&["job", "check", &bad], 2, &["cycle.yaml: jobs[0] (a)", "a → b → a"]);
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
fn a_variable_that_is_no_text_ends_no_command() {
    let folder = tempfile::tempdir().unwrap();
    let file = job_file(folder.path(), "node.toml", "[node]\nnonsense = 1\n");
    for arguments in [
        &["config", "check", "node", &file][..],
        &["cluster", "init", "--config", &file],
        &["cluster", "join", "--config", &file, "--to", "127.0.0.1:1", "--token", "t"],
        &["node", "--config", &file],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_horai"))
            .args(arguments)
            .env("SOMEBODYS_VARIABLE", OsStr::from_bytes(b"\xff"))
            .output()
            .unwrap();
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {told}");
        assert!(told.contains("nonsense"), "{arguments:?}: {told}");
    }
}

/// Gives the command lines and returns what it answers.
fn answers(arguments: &[&str], lines: &str) -> Vec<String> {
    use std::io::Write;
    use std::process::Stdio;
    let mut child = Command::new(env!("CARGO_BIN_EXE_horai"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let lines = lines.to_owned();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn what_if_questions_are_answered_line_by_line() {
    let cases = include_str!("../golden/cron_next.jsonl");
    let question = |line: &str| -> String {
        let mut case: serde_json::Value = serde_json::from_str(line).unwrap();
        case["dst"] = "quartz".into();
        if !case["valid"].is_null() {
            case = serde_json::json!({ "cron": case["cron"] });
        }
        case.to_string() + "\n"
    };
    let lines =
        answers(&["cron", "next", "--stdin"], &cases.lines().map(question).collect::<String>());
    assert_eq!(lines.len(), 592);
    for (case, answer) in cases.lines().zip(lines) {
        let case: serde_json::Value = serde_json::from_str(case).unwrap();
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        match case["valid"].as_bool() {
            Some(valid) => assert_eq!(answer["error"].is_null(), valid, "{case}"),
            None => assert_eq!(answer["next"], case["next"], "{case}"),
        }
    }
    let cases = include_str!("../golden/trigger.jsonl");
    let lines = answers(&["trigger", "simulate", "--stdin"], cases);
    assert_eq!(lines.len(), 55);
    assert!(lines.iter().all(|line| !line.contains("\"error\"")), "{lines:#?}");
}

/// A golden case of hera as a file of jobs.
fn case_file(case: &serde_json::Value) -> serde_json::Value {
    let name = |id: &serde_json::Value| format!("j{id}");
    let job = |job: &serde_json::Value| {
        let mut written = serde_json::json!({ "name": name(&job["id"]), "legacy_id": job["id"] });
        if !job["cron"].is_null() {
            written["triggers"] = serde_json::json!([{ "cron": job["cron"] }]);
        }
        if let Some(ups) = job["deps"].as_array() {
            written["depends_on"] = ups.iter().map(name).collect::<Vec<_>>().into();
        }
        written
    };
    let jobs: Vec<_> = case["jobs"].as_array().unwrap().iter().map(job).collect();
    serde_json::json!({ "jobs": jobs })
}

#[test]
fn a_day_is_planned_as_hera_plans_it() {
    let folder = tempfile::tempdir().unwrap();
    // `202403150530000030` of job 30 at 05:30.
    let version = |of: &serde_json::Value| {
        let digits: String =
            of["nominal"].as_str().unwrap()[..16].chars().filter(char::is_ascii_digit).collect();
        format!("{digits}{:0>6}", &of["job"].as_str().unwrap()[1..])
    };
    for line in include_str!("../golden/derivation.jsonl").lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let file = job_file(folder.path(), "case.json", &case_file(&case).to_string());
        let rule = case["match"].as_str().unwrap();
        let output = horai(&[
            "plan",
            "simulate",
            "-f",
            &file,
            "--day",
            "2024-03-15",
            "--tz",
            "UTC",
            "--match",
            rule,
            "-o",
            "json",
        ]);
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let of = format!("j{}", case["of"]);
        let actions = plan["actions"].as_array().unwrap().iter().filter(|a| a["job"] == of);
        let shown: Vec<String> = actions
            .map(|action| {
                let upstream = action["upstream"].as_array().unwrap().iter().map(version);
                let all: Vec<String> = std::iter::once(version(action)).chain(upstream).collect();
                all.join(" ")
            })
            .collect();
        assert_eq!(serde_json::json!(shown), case["versions"], "{line}");
    }
}

#[test]
fn what_cannot_be_planned_is_named_with_its_file_and_place() {
    let folder = tempfile::tempdir().unwrap();
    let ask = |file: &str, parts: &[&str]| {
        refuses(&["plan", "simulate", "-f", file, "--day", "2024-03-15"], 2, parts);
    };
    let file = |content: &str| job_file(folder.path(), "jobs.yaml", content);
    ask(&file("jobs:\n  - name: a\n    corn: x\n"), &["jobs.yaml", "corn", "line 3"]);
    ask(&file("jobs: [{name: a, depends_on: [b]}]"), &["jobs[0] (a)", "depends_on[0]", "\"b\""]);
    ask(
        &file("jobs: [{name: a, depends_on: [{job: a, match: closest}]}]"),
        &["depends_on[0].match", "nearest or same_time or"],
    );
    ask(
        &file(
            "jobs: [{name: a, depends_on: [c]}, {name: b, depends_on: [a]}, \
             {name: c, depends_on: [{job: b, match: previous_period}]}]",
        ),
        &["jobs[0] (a)", "a → c → b → a"],
    );
    ask(
        &file("jobs: [{name: a, triggers: [{cron: '0 0 24 * * ?'}]}]"),
        &["triggers[0].cron", "^^"],
    );
    ask(
        &file("jobs: [{name: a, triggers: [{cron: '0 0 3 * * ?', calendars: [x]}]}]"),
        &["triggers[0].calendars", "calendar x does not exist"],
    );
}

#[test]
fn people_see_when_an_expression_fires() {
    let output = horai(&[
        "cron",
        "next",
        "0 0 3 LW * ?",
        "--tz",
        "Asia/Shanghai",
        "-n",
        "10",
        "--after",
        "2026-11-21T00:00:00Z",
    ]);
    assert!(output.status.success() && output.stderr.is_empty());
    let shown = text(&output.stdout);
    assert!(shown.contains("at 03:00 on the last weekday of each month, Asia/Shanghai"), "{shown}");
    assert!(shown.contains("2026-11-30 03:00:00+08:00  Mon  2026-11-29 19:00:00Z"), "{shown}");
    assert_eq!(shown.lines().count(), 14, "{shown}");
    let output = horai(&["cron", "explain", "30 2 * * *", "--dialect", "unix", "-o", "json"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["meaning"], "at 02:30 every day, UTC");
    refuses(&["cron", "next", "0 0 24 * * ?"], 2, &["hours \"24\"", "0 0 24 * * ?\n    ^^"]);
    refuses(&["cron", "explain", "0 0 3 * * ?", "--tz", "Berlin"], 2, &["Europe/Berlin"]);
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
    let blocks: Vec<&str> = readme.split("```yaml\n").skip(1).collect();
    let folder = tempfile::tempdir().unwrap();
    let yaml: Vec<&str> = blocks.iter().map(|b| b.split("```").next().unwrap()).collect();
    let (calendars, jobs): (Vec<&str>, Vec<&str>) =
        yaml.into_iter().partition(|yaml| yaml.starts_with("calendars:"));
    let (groups, jobs): (Vec<&str>, Vec<&str>) =
        jobs.into_iter().partition(|yaml| yaml.starts_with("worker_groups:"));
    let groups: BTreeMap<String, Vec<WorkerGroupDefinition>> =
        serde_saphyr::from_str(groups[0]).unwrap();
    assert!(groups["worker_groups"].iter().all(|group| group.to_def().is_ok()), "{groups:?}");
    // What one of them brings along.
    std::fs::write(folder.path().join("load.sh"), "true").unwrap();
    for yaml in &jobs {
        let file = job_file(folder.path(), "readme.yaml", yaml);
        let output = horai(&["job", "check", &file]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stdout).ends_with(" jobs are well formed\n"), "{file}");
    }
    let mut known: Vec<CalendarDef> = Vec::new();
    let read: BTreeMap<String, Vec<CalendarDefinition>> =
        serde_saphyr::from_str(calendars[0]).unwrap();
    for calendar in &read["calendars"] {
        let def = calendar.to_def(&|name| known.iter().find(|def| def.name == *name)).unwrap();
        known.push(def);
    }
    assert_eq!((jobs.len(), calendars.len(), known.len()), (4, 1, 4));
}

#[test]
fn a_reader_that_has_read_enough_is_no_mistake() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_horai"));
    let output = command.args(["cron", "next", "0 0 3 * * ?"]).stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), ""));
    // A disk without space is one.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command.stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("error: cannot write the answer"));
}
