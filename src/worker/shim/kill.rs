//! Finding and killing a job's processes, wherever they hid.
//!
//! A process group alone is not enough: `setsid` leaves it. The shim is a
//! subreaper, so everything its job ever forked stays among its descendants; when
//! the shim itself is gone, the attempt's token in the environment finds them.
//! A signal goes through a pidfd whose process was checked to be the one seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use horai_core::mutants::{self, Mutant};
use rustix::process::{
    Pid, PidfdFlags, Signal, getpgrp, kill_process_group, pidfd_open, pidfd_send_signal,
};

/// A process: its number may be reused, number and start time are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Start time in clock ticks since boot.
    pub start: u64,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pid, self.start)
    }
}

/// Not `<pid> <start>`.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a process: expected its pid and start time")]
pub struct NotAProcess(String);

impl FromStr for Process {
    type Err = NotAProcess;

    fn from_str(text: &str) -> Result<Self, NotAProcess> {
        let parts = text.trim().split_once(' ');
        let read = parts.and_then(|(pid, start)| {
            Some(Self { pid: pid.parse().ok()?, start: start.parse().ok()? })
        });
        read.ok_or_else(|| NotAProcess(text.chars().take(40).collect()))
    }
}

/// What `/proc/<pid>/stat` says.
#[derive(Debug, Clone, Copy)]
struct Stat {
    process: Process,
    parent: u32,
    group: u32,
    zombie: bool,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(pid: u32, text: &str) -> Option<Stat> {
    // The name in parentheses may hold anything, a parenthesis too.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        zombie: matches!(*fields.first()?, "Z" | "X"),
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        process: Process { pid, start: fields.get(19)?.parse().ok()? },
    })
}

impl Process {
    /// The process that has this number now.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        stat(pid).map(|s| s.process)
    }

    /// A handle that becomes readable when it ends; none if it is gone.
    #[must_use]
    pub fn open(self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        let fd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // The number may have been reused before the handle was opened.
        (Self::of(self.pid) == Some(self)).then_some(fd)
    }

    /// Ends it at once.
    pub fn kill(self) {
        self.signal(Signal::KILL);
    }

    fn signal(self, signal: Signal) {
        if let Some(fd) = self.open() {
            // Fails only if it has just ended.
            let _ = pidfd_send_signal(fd, signal);
        }
    }
}

fn all() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(stat)
        .collect()
}

/// A process and who started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Which.
    pub process: Process,
    /// Its parent's number.
    pub parent: u32,
}

/// All living processes of the machine.
#[must_use]
pub fn living() -> Vec<Seen> {
    let living = all().into_iter().filter(|stat| !stat.zombie);
    living.map(|stat| Seen { process: stat.process, parent: stat.parent }).collect()
}

/// Living descendants of this process.
#[must_use]
pub fn descendants() -> Vec<Process> {
    living_descendants().into_iter().map(|stat| stat.process).collect()
}

fn living_descendants() -> Vec<Stat> {
    let all = all();
    let mut children: BTreeMap<u32, Vec<Stat>> = BTreeMap::new();
    for stat in &all {
        children.entry(stat.parent).or_default().push(*stat);
    }
    let mut found: Vec<Stat> = Vec::new();
    let mut todo = vec![std::process::id()];
    while let Some(pid) = todo.pop() {
        for child in children.get(&pid).into_iter().flatten() {
            if !mutants::on(Mutant::ChildrenSurvive) {
                todo.push(child.process.pid);
            }
            if !child.zombie {
                found.push(*child);
            }
        }
    }
    found
}

/// Asks all descendants to end.
pub fn terminate_descendants() {
    for process in descendants() {
        process.signal(Signal::TERM);
    }
}

/// Kills all descendants once; call it again until none are left, because they
/// may fork meanwhile.
///
/// A process that is gone before it is its turn, because it forks and ends all the time,
/// dies with its process group: the kernel kills a whole one while nobody in it can fork.
pub fn kill_descendants() {
    let descendants = living_descendants();
    let own = getpgrp().as_raw_nonzero().get().unsigned_abs();
    // They were seen just now: a number that is in use is not given to others.
    let groups: BTreeSet<u32> = descendants.iter().map(|stat| stat.group).collect();
    for group in groups.into_iter().filter(|group| *group != own && *group > 1) {
        if let Some(group) = i32::try_from(group).ok().and_then(Pid::from_raw)
            && !mutants::on(Mutant::ChildrenSurvive)
        {
            // Fails only if it has just ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
    for stat in descendants {
        stat.process.signal(Signal::KILL);
    }
}

/// Kills what is left of an attempt whose shim is gone: members of the job's
/// group, and processes that carry all of `marks` in their environment, and are told of a
/// file below the attempt's `folder`: workers of two clusters may share a machine, and
/// their attempts' names and tokens may be equal. Returns false if some were still alive
/// after `patience`.
pub fn kill_orphans(
    job: Option<Process>,
    marks: &[(&str, String)],
    folder: &Path,
    patience: Duration,
) -> bool {
    let marks: Vec<String> = marks.iter().map(|(name, value)| format!("{name}={value}")).collect();
    // Which file was another one in earlier versions.
    let below = [b"HORAI_OUTPUT=", folder.as_os_str().as_bytes(), b"/"].concat();
    let until = Instant::now() + patience;
    loop {
        let left: Vec<Process> = all()
            .into_iter()
            .filter(|s| !s.zombie && (is_marked(s.process.pid, &marks, &below) || in_group(s, job)))
            .map(|s| s.process)
            .collect();
        if left.is_empty() {
            return true;
        }
        if Instant::now() > until {
            return false;
        }
        for process in left {
            process.signal(Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The group's number belongs to the job only as long as no later process has it.
fn in_group(stat: &Stat, job: Option<Process>) -> bool {
    job.is_some_and(|job| {
        stat.group == job.pid && Process::of(job.pid).is_some_and(|leader| leader == job)
    })
}

fn is_marked(pid: u32, marks: &[String], below: &[u8]) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    let entries = environment.split(|b| *b == 0);
    entries.clone().any(|entry| entry.starts_with(below))
        && marks.iter().all(|mark| entries.clone().any(|entry| entry == mark.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_move_the_fields() {
        let text = "42 (a) b) c) S 7 9 9 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0";
        let stat = parse_stat(42, text).unwrap();
        assert_eq!((stat.parent, stat.group, stat.process.start), (7, 9, 12345));
        assert!(!stat.zombie);
    }

    #[test]
    fn a_process_prints_as_it_is_read_and_a_reused_number_is_another() {
        let me = Process::of(std::process::id()).unwrap();
        assert_eq!(me.to_string().parse::<Process>().unwrap(), me);
        assert!(me.open().is_some());
        assert!(Process { start: me.start + 1, ..me }.open().is_none());
        assert!("7".parse::<Process>().is_err());
    }
}
