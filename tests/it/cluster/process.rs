//! One node or worker as a process, and what may be done to it.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use horai::worker::cgroup::group::remove_all_of;
use rustix::process::{Pid, Signal, kill_process};

use super::{HORAI, until};

/// Ports given to a test of this run.
static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
/// Below what the system gives to outgoing connections, so that none of them
/// takes the port of a process that is down for a moment.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Three ports that nobody listens on.
pub(super) fn free_ports() -> [u16; 3] {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    [(); 3].map(|()| {
        until("a free port", || {
            let port = rand::random_range(PORTS);
            let is_free = !taken.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok();
            is_free.then(|| {
                taken.insert(port);
                port
            })
        })
    })
}

/// A node or worker.
pub(crate) struct Process {
    /// Starts what follows it in its own place.
    wrapper: &'static [&'static str],
    role: &'static str,
    config: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    is_frozen: bool,
}

impl Process {
    pub(crate) fn spawn(role: &'static str, config: &Path) -> Self {
        Self::spawn_by(&[], role, config)
    }

    pub(crate) fn spawn_by(
        wrapper: &'static [&'static str],
        role: &'static str,
        config: &Path,
    ) -> Self {
        let mut process = Self {
            wrapper,
            role,
            config: config.to_owned(),
            log: config.with_extension("log"),
            child: None,
            is_frozen: false,
        };
        process.start();
        process
    }

    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.config.display());
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let words: Vec<&str> = self.wrapper.iter().copied().chain([HORAI, self.role]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg("--config").arg(&self.config);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// An address of a node's file.
    pub(crate) fn address(&self, which: &str) -> String {
        let text = std::fs::read_to_string(&self.config).unwrap();
        let start = format!("{which} = \"");
        let line = text.lines().find_map(|line| line.strip_prefix(&start)).unwrap();
        line.trim_end_matches('"').to_owned()
    }

    pub(crate) fn pid(&self) -> Pid {
        let child = self.child.as_ref().expect("the process is started");
        Pid::from_raw(child.id().cast_signed()).unwrap()
    }

    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// False once it has ended by itself; then [`Process::wait`] tells its exit code.
    pub(crate) fn still_runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// True if it may answer.
    pub(crate) fn is_up(&self) -> bool {
        self.child.is_some() && !self.is_frozen
    }

    /// kill -9, and gone when this returns.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            self.is_frozen = false;
        }
    }

    /// Asks it to stop, and waits until it has.
    #[track_caller]
    pub(crate) fn terminate(&mut self) {
        if self.child.is_none() {
            return;
        }
        kill_process(self.pid(), Signal::TERM).unwrap();
        self.wait();
    }

    /// Waits until it has ended by itself; the answer is its exit code.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("the process is started");
        until(&format!("the end of {}", self.config.display()), || child.try_wait().unwrap()).code()
    }

    pub(crate) fn freeze(&mut self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
        self.is_frozen = true;
    }

    pub(crate) fn thaw(&mut self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
        self.is_frozen = false;
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    #[allow(clippy::print_stderr)] // for whoever reads a failed test
    pub(super) fn show_log(&self) {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        eprintln!("--- {}", self.log.display());
        for line in &lines[lines.len().saturating_sub(40)..] {
            eprintln!("{line}");
        }
    }
}

/// Processes that were started with something below the folder.
pub(crate) fn is_someone_left(folder: &Path) -> Vec<Pid> {
    let needle = folder.as_os_str().as_encoded_bytes();
    let has = |text: &[u8]| text.windows(needle.len()).any(|part| part == needle);
    let own = std::process::id();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != own)
        .filter(|pid| {
            let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}"));
            // One that ended while we looked has neither.
            ["cmdline", "environ"].iter().any(|file| read(file).is_ok_and(|text| has(&text)))
        })
        .filter_map(|pid| Pid::from_raw(pid.cast_signed()))
        .collect()
}

/// For tests that failed, and for groups of jobs that were killed with their shims: the next
/// one must not suffer.
pub(super) fn kill_everyone_left(folder: &Path) {
    for pid in is_someone_left(folder) {
        let _ = kill_process(pid, Signal::KILL);
    }
    remove_all_of(folder);
}
