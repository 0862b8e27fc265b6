//! The environment from outside: every ability works, and nothing stays behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const JEPSEN: &str = env!("CARGO_BIN_EXE_jepsen");
const PATIENCE: Duration = Duration::from_secs(60);

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn every_fault_of_the_environment_is_one() {
    let out = Command::new(JEPSEN).arg("doctor").output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success(),
        "an ability of the environment is missing; it must run as root, with the Debian packages \
         iproute2, e2fsprogs and libfaketime:\n{said}\n{}",
        String::from_utf8_lossy(&out.stderr)
    );
    assert!(said.contains("doctor: all"), "{said}");
    for control in ["power cut tears what was not flushed", "lies about flushes is found out"] {
        let line = said.lines().find(|line| line.contains(control));
        assert!(line.is_some_and(|line| line.starts_with("ok ")), "{control}: {said}");
    }
}

/// Processes that belong to one harness: its name is in their environment.
fn members(group: &str) -> Vec<u32> {
    let mark = format!("JEPSEN_GROUP={group}");
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let vars = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        vars.split(|byte| *byte == 0).any(|var| var == mark.as_bytes())
    })
    .collect()
}

/// States, as `ps` shows them, of those among them whose arguments name a word.
fn states(group: &str, word: &str) -> String {
    let of = |pid: &u32| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let state = status.lines().find_map(|line| line.strip_prefix("State:\t"))?.chars().next();
        String::from_utf8_lossy(&arguments).contains(word).then_some(state?)
    };
    members(group).iter().filter_map(of).collect()
}

/// Loop devices whose file has no name any more, as those of the harness.
fn unnamed_loops() -> Vec<String> {
    let out = Command::new("losetup").args(["-a"]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    text.lines().filter(|line| line.contains(".disk-")).map(str::to_owned).collect()
}

fn group_folders(group: &str) -> Vec<String> {
    ["unified", "blkio", "cpu", ""]
        .map(|tree| Path::new("/sys/fs/cgroup").join(tree).join(group))
        .into_iter()
        .filter(|folder| folder.exists())
        .map(|folder| folder.display().to_string())
        .collect()
}

#[test]
fn a_killed_harness_leaves_nothing_behind() {
    let mut harness = Command::new(JEPSEN)
        .args(["doctor", "--hold"])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(harness.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let group = said.trim().strip_prefix("holding ").unwrap_or_else(|| panic!("{said}")).to_owned();
    // Two layers below it, the guard, the two sleepers on a machine, the process behind a
    // disk that answers nobody, and one that waits for it.
    until("its processes", || members(&group).len() >= 8);
    assert_eq!(states(&group, "serve-disk").len(), 1);
    until("one to wait for a disk", || states(&group, "conv=fsync").contains('D'));
    assert!(!group_folders(&group).is_empty());
    let loops = unnamed_loops();
    assert!(loops.len() >= 5, "{loops:?}");
    harness.kill().unwrap();
    harness.wait().unwrap();
    until("all its processes to end", || members(&group).is_empty());
    until("its control groups to go", || group_folders(&group).is_empty());
    // Other harnesses may run beside this one, with disks of their own.
    until("its loop devices to go", || {
        let now = unnamed_loops();
        now.iter().filter(|device| loops.contains(device)).count() <= loops.len() - 5
    });
}
