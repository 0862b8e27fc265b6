//! Finds and kills every process that belongs to a local cluster's folder.
//!
//! By what the kernel tells of a process, not by a list of our own: a list has
//! always missed the one that was just being started. A node, worker or shim
//! names the folder in its arguments, a job in its environment, and what these
//! forked are their descendants.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::worker::cgroup::group::remove_all_of;
use crate::worker::shim::kill::{self, Process};

/// Subcommands whose processes are ours. An editor that shows a log is not.
const OURS: [&[u8]; 4] = [b"node", b"worker", b"shim", b"cluster"];
/// Between two looks.
const STEP: Duration = Duration::from_millis(10);

/// Which processes of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Shims and jobs: what a stopped worker leaves running.
    Attempts,
    /// All.
    All,
}

/// Kills them until none is left, and removes the groups they were in. False if some were
/// still there after `patience`.
pub(super) fn sweep(folder: &Path, which: Which, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    loop {
        let left = find(folder, which);
        if left.is_empty() {
            remove_all_of(folder);
            return true;
        }
        if Instant::now() > until {
            return false;
        }
        for process in left {
            process.kill();
        }
        std::thread::sleep(STEP);
    }
}

/// Living processes of `folder`, and all that descend from them.
pub(super) fn find(folder: &Path, which: Which) -> Vec<Process> {
    let me = std::process::id();
    let living = kill::living();
    let mut found: BTreeSet<u32> = living
        .iter()
        .map(|seen| seen.process.pid)
        .filter(|pid| *pid != me && belongs(*pid, folder, which))
        .collect();
    // Parents may stand after children in the list: until nothing is added.
    loop {
        let before = found.len();
        let children = living.iter().filter(|seen| found.contains(&seen.parent));
        let children: Vec<u32> = children.map(|seen| seen.process.pid).collect();
        found.extend(children);
        if found.len() == before {
            break;
        }
    }
    living.iter().map(|seen| seen.process).filter(|p| found.contains(&p.pid)).collect()
}

fn belongs(pid: u32, folder: &Path, which: Which) -> bool {
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let arguments = read("cmdline");
    let mut arguments = arguments.split(|b| *b == 0);
    let verb = arguments.nth(1).unwrap_or_default();
    let wanted = match which {
        Which::Attempts => verb == b"shim",
        Which::All => OURS.contains(&verb),
    };
    if wanted && arguments.any(|argument| is_below(argument, folder)) {
        return true;
    }
    read("environ")
        .split(|b| *b == 0)
        .filter_map(|entry| entry.strip_prefix(b"HORAI_OUTPUT="))
        .any(|path| is_below(path, folder))
}

fn is_below(path: &[u8], folder: &Path) -> bool {
    path.strip_prefix(folder.as_os_str().as_bytes()).is_some_and(|rest| rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn until(what: &str, mut done: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < end, "{what} did not happen");
            std::thread::sleep(STEP);
        }
    }

    /// A job with a grandchild in a session of its own.
    fn job(folder: &Path) -> std::process::Child {
        Command::new("/bin/sh")
            .args(["-c", "setsid sleep 600 & echo up > up; wait"])
            .env("HORAI_OUTPUT", folder.join("worker-1/attempts/1-0-1/output"))
            .current_dir(folder)
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    #[test]
    fn a_folders_jobs_die_with_all_they_forked_and_others_live() {
        let (ours, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (ours, other) =
            (ours.path().canonicalize().unwrap(), other.path().canonicalize().unwrap());
        let mut job_here = job(&ours);
        let mut job_there = job(&other);
        until("both jobs", || [&ours, &other].iter().all(|f| find(f, Which::Attempts).len() == 2));
        assert!(sweep(&ours, Which::All, PATIENCE));
        assert!(!job_here.wait().unwrap().success());
        assert!(job_there.try_wait().unwrap().is_none());
        assert_eq!(find(&other, Which::Attempts).len(), 2);
        assert!(sweep(&other, Which::Attempts, PATIENCE));
        job_there.wait().unwrap();
    }

    #[test]
    fn only_our_commands_with_the_folder_in_their_arguments_belong() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().canonicalize().unwrap();
        let log = folder.join("node-1.log");
        // Shell scripts with these names stand for programs with these verbs.
        let scripts = tempfile::tempdir().unwrap();
        let run = |verb: &str, path: &Path| {
            fs::write(scripts.path().join(verb), "read line").unwrap();
            let mut command = Command::new("/bin/sh");
            command.arg(verb).arg(path).current_dir(scripts.path()).stdin(Stdio::piped());
            command.spawn().unwrap()
        };
        let mut worker = run("worker", &log);
        let mut reader = run("less", &log);
        let mut stranger = run("worker", Path::new("/elsewhere/x"));
        until("the worker", || find(&folder, Which::All).len() == 1);
        assert!(find(&folder, Which::Attempts).is_empty());
        assert!(sweep(&folder, Which::All, PATIENCE));
        worker.wait().unwrap();
        assert!(reader.try_wait().unwrap().is_none() && stranger.try_wait().unwrap().is_none());
        for child in [&mut reader, &mut stranger] {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }
}
