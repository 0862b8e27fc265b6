//! The demo as a person runs it: real processes, killed from outside.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const HORAI: &str = env!("CARGO_BIN_EXE_horai");
const PATIENCE: Duration = Duration::from_secs(30);

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

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
    until("the guard's end", || guard.try_wait().unwrap().is_some());
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
