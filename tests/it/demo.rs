//! The demo as a person runs it: real processes, killed from outside.

use std::io::{BufRead, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cluster::{HORAI, PATIENCE, until};

/// Stands for a job of a worker in `folder`.
fn job(folder: &Path) -> Child {
    Command::new("/bin/sleep")
        .arg("600")
        .env("HORAI_OUTPUT", folder.join("worker-1/attempts/1-0-1/output"))
        .process_group(0)
        .spawn()
        .unwrap()
}

#[test]
fn the_guard_waits_for_its_starters_end_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().canonicalize().unwrap().join("cluster");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("node-1.log"), "words").unwrap();
    let mut job = job(&folder);
    let mut guard = Command::new(HORAI)
        .arg("guard")
        .arg(&folder)
        .arg("--remove")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // While its input stands it does nothing.
    std::thread::sleep(Duration::from_millis(200));
    assert!(job.try_wait().unwrap().is_none() && guard.try_wait().unwrap().is_none());
    drop(guard.stdin.take());
    until("the guard's end", || guard.try_wait().unwrap());
    assert!(guard.wait().unwrap().success());
    assert!(!job.wait().unwrap().success());
    assert!(!folder.exists());
}

#[test]
fn a_taken_port_is_named_and_nothing_is_started() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let Some(base) = port.checked_sub(11) else { return };
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("demo");
    let mut demo = Command::new(HORAI)
        .args(["demo", "--for", "1s", "--base-port", &base.to_string(), "--data-dir"])
        .arg(&folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    demo.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(1));
    assert!(said.contains("--base-port"), "{said}");
    assert!(!folder.exists());
}

/// A demo that runs, and what it has said so far.
struct Demo {
    process: Child,
    lines: std::sync::mpsc::Receiver<String>,
    said: Vec<String>,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(HORAI)
            .args(["demo", "--base-port", &free_base().to_string()])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = process.stdout.take().unwrap();
        let (to, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in std::io::BufReader::new(out).lines() {
                if to.send(line.unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { process, lines, said: Vec::new() }
    }

    /// Reads on to a line that holds `text`.
    fn line(&mut self, text: &str) -> String {
        self.lines_in_any_order(&[text])
    }

    /// Reads on until each of `texts` was in a line; the last such line.
    fn lines_in_any_order(&mut self, texts: &[&str]) -> String {
        let end = Instant::now() + PATIENCE;
        let mut missing = texts.to_vec();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no line with {missing:?} after\n{}", self.said.join("\n"));
            };
            self.said.push(line.clone());
            missing.retain(|text| !line.contains(text));
            if missing.is_empty() {
                return line;
            }
        }
    }

    /// The numbers of all processes, the leader's first.
    fn pids(&mut self) -> Vec<u32> {
        let hint = self.line("kill -9");
        let after = |line: &str, word: &str| {
            let rest = line.split_once(word).unwrap().1;
            rest.split_whitespace().next().unwrap().parse::<u32>().unwrap()
        };
        let leader = after(&hint, "kill -9");
        let lines = self.said.iter().filter(|line| line.contains(" pid "));
        let others = lines.map(|line| after(line, " pid ")).filter(|pid| *pid != leader);
        std::iter::once(leader).chain(others).collect()
    }
}

/// A port with enough free ones above it, as the system sees it.
fn free_base() -> u16 {
    loop {
        let base = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let needed = [0, 1, 2, 10, 11, 12, 20, 21, 22];
        let is_free = |n: &u16| {
            let port = base.checked_add(*n);
            port.is_some_and(|port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok())
        };
        if needed.iter().all(is_free) {
            return base;
        }
    }
}

fn kill_hard(pid: u32) {
    let killed = Command::new("kill").arg("-9").arg(pid.to_string()).status().unwrap();
    assert!(killed.success());
}

fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[test]
fn the_leaders_death_is_shown_and_loses_nothing() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("demo");
    let mut demo = Demo::start(&["--for", "15s", "--data-dir", folder.to_str().unwrap()]);
    let pids = demo.pids();
    assert_eq!(pids.len(), 5, "{:?}", demo.said);
    demo.line("fire");
    kill_hard(pids[0]);
    let killed = demo.line("killed");
    assert!(killed.contains("the leader") && killed.contains("signal 9"), "{killed}");
    demo.line("election");
    // The killed node may be back before anything is due.
    demo.lines_in_any_order(&["fire", "restart"]);
    let ledger = demo.line("ledger:");
    assert!(ledger.ends_with("lost=0 double=0"), "{}", demo.said.join("\n"));
    assert!(!ledger.contains("expected=0"), "{ledger}");
    assert!(demo.lines.recv().is_err(), "the ledger is the last line");
    assert!(demo.process.wait().unwrap().success());
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
    // A folder that was named is kept, with what the jobs did.
    assert!(folder.join("files/report.md").exists());
}

#[test]
fn a_killed_demo_leaves_neither_process_nor_file() {
    let mut demo = Demo::start(&[]);
    let folder = demo.line("starting").split_whitespace().next_back().unwrap().to_owned();
    let pids = demo.pids();
    assert!(Path::new(&folder).join("token").exists(), "{folder}");
    demo.line("fire");
    kill_hard(demo.process.id());
    demo.process.wait().unwrap();
    until("the end of all processes", || pids.iter().all(|pid| !is_alive(*pid)).then_some(()));
    until("the end of the folder", || (!Path::new(&folder).exists()).then_some(()));
}
