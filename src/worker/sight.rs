//! A close look at what runs on this machine, for whoever asks: what each attempt
//! takes now, and the busiest processes.
//!
//! It is not part of heartbeats, because it reads about every process of the machine,
//! twice; an idle worker must cost next to nothing. Which attempt a process belongs to
//! is read from its environment, or from that of its nearest ancestor who tells.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use horai_core::ids::{AttemptKey, Token};
use horai_proto::worker as pb;
use sysinfo::{Process, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

use super::executor::marks;
use super::wire;

/// Between the two readings that the use of processors is the difference of.
const APART: Duration = Duration::from_millis(500);
/// Attempts that are told of: as many as a frame may hold.
pub(super) const MAX_ATTEMPTS: usize = 256;
/// The busiest processes that are told.
const BUSIEST: usize = 10;
/// Characters of a process's name.
const NAME: usize = 64;
/// Generations in which an ancestor that tells its attempt is looked for.
const GENERATIONS: usize = 64;

/// An attempt that may be running here.
pub(super) struct Running {
    pub(super) key: AttemptKey,
    pub(super) token: Token,
    /// Its own. Workers of two clusters may share a machine, and their attempts' names and
    /// tokens may be equal.
    pub(super) folder: PathBuf,
}

/// One process.
struct Seen {
    parent: Option<u32>,
    /// Its place in [`Running`].
    attempt: Option<usize>,
    name: String,
    cpu_ms: u64,
    cpu_permille: u32,
    rss: u64,
}

/// Looks for as long as it takes, a good half second. Blocks. Empty where a system tells
/// nothing of its processes.
pub(super) fn look(number: u64, running: &[Running]) -> pb::Sight {
    let Ok(mut system) = System::new() else {
        return pb::Sight { number, ..pb::Sight::default() };
    };
    let what = ProcessRefreshKind::nothing().without_tasks().with_cpu().with_memory();
    let once = what.with_environ(UpdateKind::OnlyIfNotSet);
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, once);
    let (begun, before) = (Instant::now(), used(&system));
    thread::sleep(APART);
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, once);
    let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);

    let marks: Vec<Marks> = running.iter().map(Marks::of).collect();
    let seen = |(pid, process): (&sysinfo::Pid, &Process)| {
        let cpu_ms = process.accumulated_cpu_time();
        // One that began between the readings has used all it has used since.
        let lately = cpu_ms.saturating_sub(before.get(&pid.as_u32()).copied().unwrap_or(0));
        let seen = Seen {
            parent: process.parent().map(sysinfo::Pid::as_u32),
            attempt: marks.iter().position(|marks| marks.are_in(process.environ())),
            name: process.name().to_string_lossy().chars().take(NAME).collect(),
            cpu_ms,
            cpu_permille: u32::try_from(lately.saturating_mul(1_000) / took).unwrap_or(u32::MAX),
            rss: process.memory(),
        };
        (pid.as_u32(), seen)
    };
    told(number, running, &system.processes().iter().map(seen).collect())
}

fn used(system: &System) -> BTreeMap<u32, u64> {
    let of =
        |(pid, process): (&sysinfo::Pid, &Process)| (pid.as_u32(), process.accumulated_cpu_time());
    system.processes().iter().map(of).collect()
}

/// By what an attempt's processes are known.
struct Marks {
    words: [String; 2],
    /// What a variable that names a file of the attempt begins with.
    below: Vec<u8>,
}

impl Marks {
    fn of(running: &Running) -> Self {
        let words = marks(running.key, running.token);
        Self {
            words: words.map(|(name, value)| format!("{name}={value}")),
            below: [b"HORAI_OUTPUT=", running.folder.as_os_str().as_bytes(), b"/"].concat(),
        }
    }

    fn are_in(&self, environment: &[OsString]) -> bool {
        environment.iter().any(|entry| entry.as_bytes().starts_with(&self.below))
            && self.words.iter().all(|word| environment.iter().any(|entry| entry == word.as_str()))
    }
}

/// Whose process it is.
fn attempt_of(pid: u32, seen: &BTreeMap<u32, Seen>) -> Option<usize> {
    let mut at = seen.get(&pid);
    for _ in 0..GENERATIONS {
        if let Some(attempt) = at?.attempt {
            return Some(attempt);
        }
        at = seen.get(&at?.parent?);
    }
    None
}

fn told(number: u64, running: &[Running], seen: &BTreeMap<u32, Seen>) -> pb::Sight {
    let id = |of: &Running| Some(wire::attempt_id(of.key, of.token));
    let mut attempts: Vec<pb::AttemptUse> = running
        .iter()
        .map(|attempt| pb::AttemptUse { attempt: id(attempt), ..pb::AttemptUse::default() })
        .collect();
    let mut processes = Vec::with_capacity(seen.len());
    for (pid, process) in seen {
        let attempt = attempt_of(*pid, seen);
        if let Some(of) = attempt.and_then(|at| attempts.get_mut(at)) {
            of.processes += 1;
            of.cpu_ms = of.cpu_ms.saturating_add(process.cpu_ms);
            of.cpu_permille = of.cpu_permille.saturating_add(process.cpu_permille);
            of.rss_bytes = of.rss_bytes.saturating_add(process.rss);
        }
        processes.push(pb::ProcessUse {
            pid: *pid,
            name: process.name.clone(),
            cpu_permille: process.cpu_permille,
            rss_bytes: process.rss,
            attempt: attempt.and_then(|at| running.get(at)).and_then(id),
        });
    }
    processes.sort_by_key(|process| Reverse((process.cpu_permille, process.rss_bytes)));
    processes.truncate(BUSIEST);
    pb::Sight { number, attempts, processes }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use horai_core::ids::RunId;

    use super::*;

    fn attempt(run: u64, folder: &str) -> Running {
        let key = AttemptKey { run: RunId(run), shard: 0, number: 1 };
        Running { key, token: Token(run), folder: folder.into() }
    }

    #[test]
    fn what_an_attempt_started_is_its_own_even_without_its_environment() {
        // The second has the same name in another cluster.
        let (known, other) = (attempt(71_001, "/a/71001"), attempt(71_001, "/b/71001"));
        // A busy child that has no environment of its own, under a parent that has.
        let mut shell = Command::new("/bin/sh")
            .args(["-c", "env -i /bin/sh -c 'echo begun; while :; do :; done' & wait"])
            .envs(marks(known.key, known.token))
            .env("HORAI_OUTPUT", "/a/71001/outputs")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = shell.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
        let sight = look(9, &[other, known]);
        let busy = sight.processes.iter().find(|p| p.pid != shell.id() && p.attempt.is_some());
        if let Some(child) = busy.and_then(|p| super::super::shim::kill::Process::of(p.pid)) {
            child.kill();
        }
        shell.wait().unwrap();
        assert_eq!(sight.number, 9);
        let [second, first] = &sight.attempts[..] else { panic!("{sight:?}") };
        assert_eq!((first.processes, second.processes), (2, 0), "{sight:?}");
        assert!(first.cpu_permille > 0 && first.rss_bytes > 0, "{sight:?}");
        assert!(busy.is_some_and(|p| p.name == "sh" && p.cpu_permille > 0), "{sight:?}");
    }

    #[test]
    fn the_busiest_come_first_and_no_more_than_are_told() {
        let process = |cpu_permille, parent, attempt| Seen {
            parent,
            attempt,
            name: "job".into(),
            cpu_ms: 5,
            cpu_permille,
            rss: 7,
        };
        let mut seen: BTreeMap<u32, Seen> =
            (100..130).map(|pid| (pid, process(pid, Some(1), None))).collect();
        seen.insert(1, process(0, None, None));
        seen.insert(200, process(900, Some(1), Some(0)));
        seen.insert(201, process(50, Some(200), None));
        // Numbers that are used again may make a circle.
        seen.insert(300, process(1, Some(301), None));
        seen.insert(301, process(1, Some(300), None));
        let sight = told(1, &[attempt(1, "/a")], &seen);
        let pids: Vec<u32> = sight.processes.iter().map(|p| p.pid).collect();
        assert_eq!(pids, [200, 129, 128, 127, 126, 125, 124, 123, 122, 121]);
        let [only] = &sight.attempts[..] else { panic!("{sight:?}") };
        assert_eq!(
            (only.processes, only.cpu_permille, only.cpu_ms, only.rss_bytes),
            (2, 950, 10, 14)
        );
    }
}
