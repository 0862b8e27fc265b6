//! One attempt's group: made, entered, killed, counted and removed.
//!
//! Nothing of it is kept in memory: whoever knows its folders, as the spec of an attempt
//! says them, can end it, also when the shim that made it is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use horai_core::model::confinement::{Confinement, Power, Usage};
use serde::{Deserialize, Serialize};

use super::{Controller, number, number_of, put};
use crate::worker::shim::dir;
use crate::worker::shim::kill::Process;

/// Who is in a group.
const PROCS: &str = "cgroup.procs";
/// In which a quota of CPU time is given, in microseconds.
const PERIOD_US: u64 = 100_000;
/// How long a group may take to stand still before its processes are killed as they run.
const FREEZE: Duration = Duration::from_millis(50);
/// How long killed processes may take to leave a group.
const LEAVE: Duration = Duration::from_millis(500);
/// Between two looks.
const STEP: Duration = Duration::from_millis(2);

/// One attempt's group, or its groups of several hierarchies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Of version 2.
    V2 {
        /// Where it is.
        folder: PathBuf,
        /// What is limited there.
        controllers: BTreeSet<Controller>,
    },
    /// Of version 1: a folder in each hierarchy.
    V1 {
        /// Where they are.
        folders: BTreeMap<Controller, PathBuf>,
    },
}

impl Group {
    /// The first limit that cannot be set here.
    #[must_use]
    pub fn lacks(&self, limits: &Confinement) -> Option<Power> {
        [
            (limits.memory.is_some(), Controller::Memory, Power::Memory),
            (limits.cpu.is_some(), Controller::Cpu, Power::Cpu),
            (limits.pids.is_some(), Controller::Pids, Power::Pids),
        ]
        .into_iter()
        .find(|(is_wanted, controller, _)| *is_wanted && self.of(*controller).is_none())
        .map(|(.., power)| power)
    }

    /// Makes it and sets its limits.
    ///
    /// # Errors
    /// The system's, with the file: nothing is left then.
    pub fn create(&self, limits: &Confinement) -> io::Result<()> {
        let made = self.folders().into_iter().try_for_each(|folder| {
            let told =
                |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", folder.display()));
            match fs::create_dir(folder) {
                // Of an earlier shim of this attempt, that started nothing.
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(told(error)),
                _ => Ok(()),
            }
        });
        made.and_then(|()| self.limit(limits)).inspect_err(|_| {
            // What was made holds nobody yet.
            let _ = self.remove(Duration::ZERO);
        })
    }

    fn limit(&self, limits: &Confinement) -> io::Result<()> {
        let quota = |milli: u32| u64::from(milli) * PERIOD_US / 1_000;
        if let Some(folder) = self.of(Controller::Memory) {
            match (self, limits.memory) {
                (Self::V2 { .. }, Some(bytes)) => {
                    put(folder, "memory.max", &bytes.to_string())?;
                    // A job that is killed is killed whole. Neither file is on every kernel.
                    let _ = put(folder, "memory.swap.max", "0");
                    let _ = put(folder, "memory.oom.group", "1");
                }
                (Self::V1 { .. }, Some(bytes)) => {
                    put(folder, "memory.limit_in_bytes", &bytes.to_string())?;
                    // Without accounting of swap there is no such file.
                    let _ = put(folder, "memory.memsw.limit_in_bytes", &bytes.to_string());
                }
                (_, None) => {}
            }
        }
        if let (Some(folder), Some(milli)) = (self.of(Controller::Cpu), limits.cpu) {
            match self {
                Self::V2 { .. } => {
                    put(folder, "cpu.max", &format!("{} {PERIOD_US}", quota(milli)))?;
                }
                Self::V1 { .. } => {
                    put(folder, "cpu.cfs_period_us", &PERIOD_US.to_string())?;
                    put(folder, "cpu.cfs_quota_us", &quota(milli).to_string())?;
                }
            }
        }
        if let (Some(folder), Some(most)) = (self.of(Controller::Pids), limits.pids) {
            put(folder, "pids.max", &most.to_string())?;
        }
        Ok(())
    }

    /// Puts the calling process into it, and so all that it starts.
    ///
    /// # Errors
    /// The system's, with the file.
    pub fn enter(&self) -> io::Result<()> {
        self.folders().into_iter().try_for_each(|folder| put(folder, PROCS, "0"))
    }

    /// True if nobody is in it, or it is not there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.folders().into_iter().all(|folder| members(folder).is_empty())
    }

    /// Kills everybody in it, all at once as far as the kernel can: again until it is empty,
    /// because what the kernel cannot stop at once may fork meanwhile.
    pub fn kill(&self) {
        if let Self::V2 { folder, .. } = self {
            if put(folder, "cgroup.kill", "1").is_ok() {
                return;
            }
            // A kernel before 5.14.
            let _ = put(folder, "cgroup.freeze", "1");
            let frozen = || number_of(folder, "cgroup.events", "frozen") == Some(1);
            wait_for(FREEZE, frozen);
            self.kill_members();
            let _ = put(folder, "cgroup.freeze", "0");
            return;
        }
        let freezer = self.of(Controller::Freezer);
        if let Some(folder) = freezer {
            let state = || fs::read_to_string(folder.join("freezer.state")).unwrap_or_default();
            let _ = put(folder, "freezer.state", "FROZEN");
            wait_for(FREEZE, || state().trim() == "FROZEN");
        }
        self.kill_members();
        if let Some(folder) = freezer {
            // Only what is thawed can die.
            let _ = put(folder, "freezer.state", "THAWED");
        }
    }

    /// Kills until nobody is in it; false if somebody was after `patience`.
    #[must_use]
    pub fn kill_all(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while !self.is_empty() {
            if Instant::now() > until {
                return false;
            }
            self.kill();
            std::thread::sleep(STEP);
        }
        true
    }

    fn kill_members(&self) {
        for folder in self.folders() {
            for pid in members(folder) {
                let Some(process) = Process::of(pid) else { continue };
                // Still there: the number was not given to somebody else meanwhile.
                if members(folder).contains(&pid) {
                    process.kill();
                }
            }
        }
    }

    /// What was used there. Reads what there is.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let read = |controller, file| self.of(controller).and_then(|at| number(at, file));
        let count = |controller, file, word| {
            let at: Option<&Path> = self.of(controller);
            at.and_then(|at| number_of(at, file, word)).unwrap_or(0)
        };
        let refused_forks = count(Controller::Pids, "pids.events", "max");
        match self {
            Self::V2 { folder, .. } => Usage {
                peak_memory_kib: read(Controller::Memory, "memory.peak").unwrap_or(0) / 1024,
                cpu_ms: number_of(folder, "cpu.stat", "usage_usec").unwrap_or(0) / 1_000,
                oom_kills: count(Controller::Memory, "memory.events", "oom_kill"),
                refused_forks,
            },
            Self::V1 { .. } => Usage {
                peak_memory_kib: read(Controller::Memory, "memory.max_usage_in_bytes").unwrap_or(0)
                    / 1024,
                cpu_ms: read(Controller::Cpuacct, "cpuacct.usage").unwrap_or(0) / 1_000_000,
                oom_kills: count(Controller::Memory, "memory.oom_control", "oom_kill"),
                refused_forks,
            },
        }
    }

    /// What is used there now: milliseconds of CPU so far, and bytes of memory.
    #[must_use]
    pub fn use_now(&self) -> (u64, u64) {
        let file = match self {
            Self::V2 { .. } => "memory.current",
            Self::V1 { .. } => "memory.usage_in_bytes",
        };
        let memory = self.of(Controller::Memory).and_then(|at| number(at, file));
        (self.usage().cpu_ms, memory.unwrap_or(0))
    }

    /// Removes it once it is empty, with groups that the job made in it.
    ///
    /// # Errors
    /// The system's, if somebody is still there after `patience`.
    pub fn remove(&self, patience: Duration) -> io::Result<()> {
        let until = Instant::now() + patience;
        loop {
            let done = self.folders().into_iter().try_for_each(remove_tree);
            if done.is_ok() || Instant::now() >= until {
                return done;
            }
            std::thread::sleep(STEP);
        }
    }

    /// Its folders, each once.
    pub(super) fn folders(&self) -> BTreeSet<&Path> {
        match self {
            Self::V2 { folder, .. } => [folder.as_path()].into(),
            Self::V1 { folders } => folders.values().map(PathBuf::as_path).collect(),
        }
    }

    fn of(&self, controller: Controller) -> Option<&Path> {
        match self {
            Self::V2 { folder, controllers } => {
                controllers.contains(&controller).then_some(folder.as_path())
            }
            Self::V1 { folders } => folders.get(&controller).map(PathBuf::as_path),
        }
    }
}

/// Removes the groups of killed shims, of all workers whose folders lie in `folder`: for who
/// clears up after a whole cluster.
pub fn remove_all_of(folder: &Path) {
    let workers = below(folder).into_iter().map(|worker| worker.join("attempts"));
    for attempt in workers.flat_map(|attempts| below(&attempts)) {
        if let Some(group) = dir::read_spec(&attempt).ok().and_then(|spec| spec.group) {
            // Somebody may be in it still: it is not theirs to say that the cluster is gone.
            let _ = group.remove(LEAVE);
        }
    }
}

fn wait_for(patience: Duration, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + patience;
    while !done() && Instant::now() < until {
        std::thread::sleep(STEP);
    }
}

/// Groups below a folder; a job that may can make some.
fn below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let folders = entries.filter_map(Result::ok);
    folders.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// Numbers of the processes in a group and in those below it.
fn members(folder: &Path) -> Vec<u32> {
    let text = fs::read_to_string(folder.join(PROCS)).unwrap_or_default();
    let mut pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    for inner in below(folder) {
        pids.extend(members(&inner));
    }
    pids
}

fn remove_tree(folder: &Path) -> io::Result<()> {
    for inner in below(folder) {
        remove_tree(&inner)?;
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Confinement {
        let (memory, cpu, pids) = (Some(1 << 29), Some(1_500), Some(100));
        Confinement { memory, cpu, pids, ..Confinement::default() }
    }

    /// A plain folder takes what would be the kernel's.
    #[test]
    fn limits_of_version_2_are_what_its_files_are_told() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("a");
        let controllers = [Controller::Memory, Controller::Cpu, Controller::Pids].into();
        let group = Group::V2 { folder: folder.clone(), controllers };
        group.create(&limits()).unwrap();
        let told = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
        let all = ["memory.max", "memory.swap.max", "memory.oom.group", "cpu.max", "pids.max"];
        assert_eq!(all.map(told), ["536870912", "0", "1", "150000 100000", "100"]);
        for (file, text) in [
            ("memory.peak", "4194304\n"),
            ("memory.events", "low 0\noom 3\noom_kill 2\n"),
            ("cpu.stat", "usage_usec 1234567\nuser_usec 1\n"),
            ("pids.events", "max 7\n"),
        ] {
            fs::write(folder.join(file), text).unwrap();
        }
        let wanted = Usage { peak_memory_kib: 4096, cpu_ms: 1234, oom_kills: 2, refused_forks: 7 };
        assert_eq!(group.usage(), wanted);
        fs::write(folder.join(PROCS), "").unwrap();
        assert!(group.is_empty());
    }

    #[test]
    fn limits_of_version_1_go_to_their_hierarchies() {
        let home = tempfile::tempdir().unwrap();
        let place = |controller: &str| home.path().join(controller);
        let folders = [
            (Controller::Memory, place("memory")),
            (Controller::Cpu, place("cpu")),
            (Controller::Cpuacct, place("cpu")),
            (Controller::Pids, place("pids")),
        ];
        let group = Group::V1 { folders: folders.into() };
        group.create(&limits()).unwrap();
        let told = |file: &str| fs::read_to_string(home.path().join(file)).unwrap();
        assert_eq!(told("memory/memory.limit_in_bytes"), "536870912");
        assert_eq!(told("cpu/cpu.cfs_quota_us"), "150000");
        assert_eq!(told("pids/pids.max"), "100");
        fs::write(place("cpu").join("cpuacct.usage"), "5000000\n").unwrap();
        fs::write(place("memory").join("memory.oom_control"), "under_oom 0\noom_kill 1\n").unwrap();
        assert_eq!((group.usage().cpu_ms, group.usage().oom_kills), (5, 1));
    }

    #[test]
    fn what_cannot_be_made_is_named_and_leaves_nothing() {
        let home = tempfile::tempdir().unwrap();
        let folders = [
            (Controller::Cpuacct, home.path().join("there")),
            (Controller::Memory, home.path().join("no/such")),
        ];
        let group = Group::V1 { folders: folders.into() };
        let error = group.create(&limits()).unwrap_err();
        assert!(error.to_string().contains("no/such"), "{error}");
        assert!(!home.path().join("there").exists());
    }
}
