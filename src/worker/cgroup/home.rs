//! Where a worker may make groups, and what it can limit there.
//!
//! Looked for once, at its start, by trying: rights are told by no file. In a delegated
//! subtree of version 2 the worker itself must not stand where it makes groups, so it moves
//! into a leaf if it has to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use horai_core::model::confinement::{Confinement, Isolation, IsolationKind, Power};
use rustix::fs::getxattr;
use rustix::process::geteuid;

use super::group::Group;
use super::mounts::Own;
use super::{Controller, put};

/// The leaf that a worker moves into, to make room for groups beside it.
const LEAF: &str = "horai-worker";
/// How long what is left of an earlier worker's attempt may resist.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where groups of attempts are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Home {
    /// In a subtree of version 2.
    V2 {
        /// Below this.
        folder: PathBuf,
        /// With these.
        controllers: BTreeSet<Controller>,
    },
    /// In hierarchies of version 1.
    V1 {
        /// Below these.
        folders: BTreeMap<Controller, PathBuf>,
    },
}

/// What a worker has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// None: there is none to be had.
    pub home: Option<Home>,
    /// What it says of itself.
    pub isolation: Isolation,
}

impl Found {
    /// What this machine gives to this process. Blocks.
    #[must_use]
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let own = Own::read(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        let mut why = Vec::new();
        let v2 = own.v2.as_deref().and_then(|own| match delegated(own) {
            Ok(home) => Some(home),
            Err(reason) => {
                why.push(format!("cgroup2: {reason}"));
                None
            }
        });
        let home = v2.or_else(|| {
            let (home, reason) = writable(&own.v1);
            why.extend(reason.map(|reason| format!("cgroup1: {reason}")));
            home
        });
        Self::of(home, &why.join("; "))
    }

    /// With that home, and why it is no better.
    fn of(home: Option<Home>, why: &str) -> Self {
        let mut powers = BTreeSet::from([Power::Process, Power::Files]);
        if geteuid().is_root() {
            powers.insert(Power::RunAs);
        }
        let kind = home.as_ref().map_or(IsolationKind::ProcessGroup, Home::kind);
        let limits = [
            (Controller::Memory, Power::Memory),
            (Controller::Cpu, Power::Cpu),
            (Controller::Pids, Power::Pids),
        ];
        let mut lacking = Vec::new();
        for (controller, power) in limits {
            if home.as_ref().is_some_and(|home| home.has(controller)) {
                powers.insert(power);
            } else {
                lacking.push(power.word());
            }
        }
        let note = if lacking.is_empty() {
            String::new()
        } else {
            format!("it cannot enforce {} ({why})", lacking.join(", "))
        };
        let cut = (0..=Isolation::MAX_NOTE.min(note.len())).rev();
        let cut = cut.into_iter().find(|i| note.is_char_boundary(*i)).unwrap_or(0);
        Self { home, isolation: Isolation { kind, powers, note: note[..cut].to_owned() } }
    }
}

impl Home {
    fn kind(&self) -> IsolationKind {
        match self {
            Self::V2 { .. } => IsolationKind::Cgroup2,
            Self::V1 { .. } => IsolationKind::Cgroup1,
        }
    }

    fn has(&self, controller: Controller) -> bool {
        match self {
            Self::V2 { controllers, .. } => controllers.contains(&controller),
            Self::V1 { folders } => folders.contains_key(&controller),
        }
    }

    /// The group of that name, with what its limits need: of version 1 each hierarchy more
    /// costs a few microseconds, and at times milliseconds.
    #[must_use]
    pub fn group(&self, name: &str, limits: &Confinement) -> Group {
        match self {
            Self::V2 { folder, controllers } => {
                Group::V2 { folder: folder.join(name), controllers: controllers.clone() }
            }
            Self::V1 { folders } => {
                let is_used = |controller: &Controller| match controller {
                    Controller::Memory | Controller::Cpuacct | Controller::Freezer => true,
                    Controller::Cpu => limits.cpu.is_some(),
                    Controller::Pids => limits.pids.is_some(),
                };
                let used = folders.iter().filter(|(controller, _)| is_used(controller));
                Group::V1 { folders: used.map(|(c, at)| (*c, at.join(name))).collect() }
            }
        }
    }

    /// Ends and removes what earlier workers left: groups whose names begin with `prefix`
    /// and that `is_wanted` does not know. Blocks.
    pub fn clear(&self, prefix: &str, is_wanted: impl Fn(&str) -> bool) {
        let all = Confinement { cpu: Some(1), pids: Some(1), ..Confinement::default() };
        for name in self.names(prefix) {
            if is_wanted(&name) {
                continue;
            }
            let group = self.group(&name, &all);
            let gone = group.kill_all(PATIENCE);
            match group.remove(PATIENCE) {
                Ok(()) => tracing::info!(group = name, "removed the group of a lost attempt"),
                Err(error) => tracing::warn!(group = name, gone, %error, "a group stays"),
            }
        }
    }

    fn names(&self, prefix: &str) -> BTreeSet<String> {
        let parents: BTreeSet<&Path> = match self {
            Self::V2 { folder, .. } => [folder.as_path()].into(),
            Self::V1 { folders } => folders.values().map(PathBuf::as_path).collect(),
        };
        let entries = parents.into_iter().filter_map(|parent| fs::read_dir(parent).ok()).flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|name| name.starts_with(prefix)).collect()
    }
}

/// The subtree of version 2 that is this process's to use, with its controllers on; else why
/// there is none.
fn delegated(own: &Path) -> Result<Home, String> {
    let Some(folder) = handed(own).filter(|folder| can_make(folder).is_ok()) else {
        return Err(format!("{} is not delegated; systemd: Delegate=yes", own.display()));
    };
    let wanted = [Controller::Memory, Controller::Cpu, Controller::Pids];
    let there = listed(folder, "cgroup.controllers");
    let missing: Vec<_> = Controller::ALL
        .iter()
        .filter(|(_, controller)| wanted.contains(controller) && !there.contains(controller))
        .map(|(word, _)| *word)
        .collect();
    if !missing.is_empty() {
        return Err(format!("{} has no {}", folder.display(), missing.join(", ")));
    }
    if !wanted.iter().all(|c| listed(folder, "cgroup.subtree_control").contains(c)) {
        enable(folder).map_err(|error| error.to_string())?;
    }
    Ok(Home::V2 { folder: folder.to_owned(), controllers: wanted.into() })
}

/// Turns the controllers on for groups below, for which nobody may stand in `folder` itself.
fn enable(folder: &Path) -> io::Result<()> {
    // The root alone has no type, and is exempt.
    if folder.join("cgroup.type").exists() {
        let leaf = folder.join(LEAF);
        fs::create_dir_all(&leaf)?;
        for pid in fs::read_to_string(folder.join("cgroup.procs"))?.lines() {
            put(&leaf, "cgroup.procs", pid)?;
        }
    }
    put(folder, "cgroup.subtree_control", "+memory +cpu +pids")
}

/// The folder that was handed to this process. First that with the mark that systemd leaves:
/// its own, or the one above, if the manager has put it into a leaf of what it delegates
/// (there nobody else may make groups, or the manager could not start it there again). Else
/// its own, if it is alone with the whole tree, or not root: root may write everywhere, who
/// else may was given it.
fn handed(own: &Path) -> Option<&Path> {
    let is_group = |folder: &&Path| folder.join("cgroup.controllers").exists();
    let parent = own.parent().filter(is_group);
    let marked = [Some(own), parent].into_iter().flatten().find(|folder| is_marked(folder));
    marked.or_else(|| (parent.is_none() || !geteuid().is_root()).then_some(own))
}

fn is_marked(folder: &Path) -> bool {
    ["trusted.delegate", "user.delegate"].iter().any(|name| {
        let mut value = [0; 8];
        getxattr(folder, *name, &mut value[..]).is_ok_and(|len| value[..len] == *b"1")
    })
}

/// The hierarchies of version 1 in which groups can be made, and why others are not among
/// them.
fn writable(own: &BTreeMap<Controller, PathBuf>) -> (Option<Home>, Option<String>) {
    let mut folders = BTreeMap::new();
    let mut refused = own.is_empty().then(|| "not mounted".to_owned());
    for (controller, folder) in own {
        match can_make(folder) {
            Ok(()) => {
                folders.insert(*controller, folder.clone());
            }
            Err(error) => refused = Some(format!("{}: {error}", folder.display())),
        }
    }
    ((!folders.is_empty()).then_some(Home::V1 { folders }), refused)
}

/// Tries it. Others may do so in the same place, threads of this process too.
fn can_make(folder: &Path) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let probe = folder.join(format!("{LEAF}-probe-{}-{number}", std::process::id()));
    fs::create_dir(&probe)?;
    fs::remove_dir(&probe)
}

fn listed(folder: &Path, file: &str) -> BTreeSet<Controller> {
    let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
    text.split_whitespace().filter_map(Controller::of).collect()
}

#[cfg(test)]
mod tests {
    use rustix::fs::{XattrFlags, setxattr};

    use super::*;

    /// A plain folder in the kernel's place.
    fn tree(controllers: &str, members: &str) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        let put = |file: &str, text: &str| fs::write(home.path().join(file), text).unwrap();
        put("cgroup.controllers", controllers);
        put("cgroup.subtree_control", "");
        put("cgroup.procs", members);
        put("cgroup.type", "domain\n");
        home
    }

    #[test]
    fn a_delegated_subtree_is_made_ready_and_the_worker_moves_into_a_leaf() {
        let home = tree("cpuset cpu io memory pids\n", "77\n");
        let found = delegated(home.path()).unwrap();
        let read = |file: &str| fs::read_to_string(home.path().join(file)).unwrap();
        assert_eq!(read("cgroup.subtree_control"), "+memory +cpu +pids");
        assert_eq!(read("horai-worker/cgroup.procs"), "77");
        assert!(
            [Controller::Memory, Controller::Cpu, Controller::Pids].map(|c| found.has(c))
                == [true; 3]
        );
        let Home::V2 { folder, .. } = &found else { panic!("{found:?}") };
        assert_eq!(folder, home.path());
    }

    /// Tests run as root, to whom all is writable.
    #[test]
    fn what_a_manager_marked_is_used_and_its_leaf_left_alone() {
        let unit = tree("cpu memory pids\n", "");
        let leaf = unit.path().join("worker");
        fs::create_dir(&leaf).unwrap();
        fs::write(leaf.join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        assert_eq!(handed(unit.path()), Some(unit.path()), "it is the whole tree");
        let unmarked = if geteuid().is_root() { None } else { Some(leaf.as_path()) };
        assert_eq!(handed(&leaf), unmarked);
        setxattr(unit.path(), "user.delegate", b"1", XattrFlags::empty()).unwrap();
        assert_eq!(handed(&leaf), Some(unit.path()));
        let Home::V2 { folder, .. } = delegated(&leaf).unwrap() else { unreachable!() };
        assert_eq!(folder, unit.path());
    }

    #[test]
    fn a_subtree_without_the_controllers_is_none_and_says_so() {
        let home = tree("cpu hugetlb\n", "");
        let error = delegated(home.path()).unwrap_err();
        assert!(error.ends_with("has no memory, pids"), "{error}");
        let found = Found::of(None, "cgroup2: it is not delegated");
        assert_eq!(found.isolation.kind, IsolationKind::ProcessGroup);
        let note = found.isolation.note;
        assert!(note.contains("limits.memory, limits.cpu, limits.pids (cgroup2:"), "{note}");
        assert!(Found::of(None, &"x".repeat(999)).isolation.note.len() <= Isolation::MAX_NOTE);
    }

    #[test]
    fn hierarchies_that_cannot_be_written_to_are_left_out() {
        let home = tempfile::tempdir().unwrap();
        let own = BTreeMap::from([
            (Controller::Memory, home.path().to_owned()),
            (Controller::Pids, home.path().join("none")),
        ]);
        let (home, why) = writable(&own);
        let home = home.unwrap();
        assert!(why.unwrap().contains("none: No such file"), "it says which and why");
        assert!(home.has(Controller::Memory) && !home.has(Controller::Pids));
        let found = Found::of(Some(home), "why");
        assert_eq!(found.isolation.kind, IsolationKind::Cgroup1);
        assert!(found.isolation.powers.contains(&Power::Memory));
        assert!(found.isolation.note.contains("limits.cpu, limits.pids (why)"));
        assert_eq!(writable(&BTreeMap::new()), (None, Some("not mounted".to_owned())));
    }

    #[test]
    fn names_of_lost_attempts_are_found_by_their_prefix() {
        let home = tempfile::tempdir().unwrap();
        for name in ["horai-w-1-0-1", "horai-w-2-0-1", "horai-v-1-0-1", "other"] {
            fs::create_dir(home.path().join(name)).unwrap();
        }
        let place =
            Home::V1 { folders: BTreeMap::from([(Controller::Memory, home.path().to_owned())]) };
        place.clear("horai-w-", |name| name == "horai-w-2-0-1");
        let left = place.names("horai-");
        assert_eq!(left, ["horai-v-1-0-1", "horai-w-2-0-1"].map(str::to_owned).into());
    }
}
