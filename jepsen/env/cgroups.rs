//! Control groups: to end, freeze or starve a machine's processes whatever they do.
//!
//! Each machine has one group in the unified tree (kill and freeze) and one in each
//! of the older trees, where these exist: to starve it, and because the product makes the
//! groups of its jobs in the group that it runs in, where no other harness may meet them.
//! They are the one thing of the harness outside its namespaces; [`remove`] takes them
//! away, from the guard and, should that be killed too, at the next start.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Error, at};

const ROOT: &str = "/sys/fs/cgroup";
/// Where the unified tree is: beside the older ones, or alone.
const UNIFIED: [&str; 2] = ["unified", ""];
const OLDER: [&str; 2] = ["blkio", "cpu"];
/// In these the harness stays in the group that it was put into, with all its machines.
const WITHIN: [&str; 4] = ["pids", "memory", "freezer", "cpuacct"];
/// Which group a process is in, tree by tree.
const OWN: &str = "/proc/self/cgroup";
/// How long the kernel may take until a killed group is empty.
const EMPTY: Duration = Duration::from_secs(10);

fn unified() -> Option<PathBuf> {
    let trees = UNIFIED.map(|tree| Path::new(ROOT).join(tree));
    trees.into_iter().find(|tree| tree.join("cgroup.controllers").exists())
}

fn trees() -> impl Iterator<Item = PathBuf> {
    let older = OLDER.iter().map(|tree| Path::new(ROOT).join(tree));
    let told = std::fs::read_to_string(OWN).unwrap_or_default();
    let within = WITHIN.into_iter().filter_map(move |tree| {
        let own = own_group(&told, tree)?;
        Some(Path::new(ROOT).join(tree).join(own.trim_start_matches('/')))
    });
    let all = older.chain(within).filter(|tree| tree.join("cgroup.procs").exists());
    unified().into_iter().chain(all)
}

/// The group of a tree in lines such as `4:memory:/a/b`.
fn own_group<'a>(told: &'a str, tree: &str) -> Option<&'a str> {
    told.lines().find_map(|line| {
        let (trees, group) = line.split_once(':')?.1.split_once(':')?;
        trees.split(',').any(|known| known == tree).then_some(group)
    })
}

/// One machine's groups.
#[derive(Debug)]
pub(crate) struct Group {
    folders: Vec<PathBuf>,
}

impl Group {
    /// Makes them, inside the harness's own.
    pub(crate) fn make(harness: &str, machine: &str) -> Result<Self, Error> {
        let unified = unified().ok_or_else(|| {
            Error::Misuse(format!("{ROOT} has no unified tree (cgroup v2) to work in"))
        })?;
        let mut folders = Vec::new();
        for tree in trees() {
            let folder = tree.join(harness).join(machine);
            std::fs::create_dir_all(&folder).map_err(at(&folder.display().to_string()))?;
            folders.push(folder);
        }
        let kill = unified.join(harness).join(machine).join("cgroup.kill");
        if !kill.exists() {
            return Err(Error::Misuse(
                "the kernel has no cgroup.kill: 5.14 or later is needed".into(),
            ));
        }
        Ok(Self { folders })
    }

    /// Where a process enters: its own number goes into each.
    pub(crate) fn entrances(&self) -> impl Iterator<Item = PathBuf> {
        self.folders.iter().map(|folder| folder.join("cgroup.procs"))
    }

    /// A file of that name in the first of the groups that has one.
    fn existing(&self, name: &str) -> Result<PathBuf, Error> {
        let mut files = self.folders.iter().map(|folder| folder.join(name));
        let found = files.find(|file| file.exists());
        found.ok_or_else(|| Error::Misuse(format!("no control group here has {name}")))
    }

    fn write(&self, name: &str, value: &str) -> Result<(), Error> {
        let file = self.existing(name)?;
        std::fs::write(&file, value).map_err(at(&format!("{} = {value}", file.display())))
    }

    fn read(&self, name: &str) -> Result<String, Error> {
        let file = self.existing(name)?;
        std::fs::read_to_string(&file).map_err(at(&format!("read {}", file.display())))
    }

    /// The processes in it.
    pub(crate) fn pids(&self) -> Result<Vec<u32>, Error> {
        Ok(self.read("cgroup.procs")?.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// All of them are as good as dead: none takes another step of its own.
    pub(crate) fn strike(&self) -> Result<(), Error> {
        self.write("cgroup.kill", "1")
    }

    /// Ends all of them at once, those that changed their session too.
    pub(crate) fn kill(&self) -> Result<(), Error> {
        self.strike()?;
        let end = Instant::now() + EMPTY;
        loop {
            let alive = self.pids()?;
            if alive.is_empty() {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(Error::Misuse(format!("processes survive a kill: {alive:?}")));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Stops or continues all of them; true once the kernel says so.
    pub(crate) fn freeze(&self, frozen: bool) -> Result<bool, Error> {
        self.write("cgroup.freeze", if frozen { "1" } else { "0" })?;
        let want = if frozen { "frozen 1" } else { "frozen 0" };
        let end = Instant::now() + Duration::from_secs(2);
        loop {
            if self.read("cgroup.events")?.contains(want) {
                return Ok(true);
            }
            if Instant::now() > end {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Lets a block device be written so fast; none is as fast as it goes.
    pub(crate) fn write_limit(&self, device: &str, bytes: Option<u64>) -> Result<(), Error> {
        let line = format!("{device} {}", bytes.unwrap_or(0));
        self.write("blkio.throttle.write_bps_device", &line)
    }

    /// Leaves the machine so many thousandths of a processor; none is all of it.
    pub(crate) fn processor_limit(&self, thousandths: Option<u64>) -> Result<(), Error> {
        let quota = thousandths.map_or_else(|| "-1".to_owned(), |t| (t * 100).to_string());
        self.write("cpu.cfs_quota_us", &quota)
    }

    /// Lets so many processes and threads be begun beside those that are there; none is as
    /// many as anybody likes. The answer is how many there may be.
    pub(crate) fn process_limit(&self, more: Option<u32>) -> Result<Option<u64>, Error> {
        let Some(more) = more else { return self.write("pids.max", "max").map(|()| None) };
        let there = self.read("pids.current")?;
        let there: u64 = there.trim().parse().map_err(|_| Error::Misuse(there.clone()))?;
        let most = there + u64::from(more);
        self.write("pids.max", &most.to_string()).map(|()| Some(most))
    }

    /// How often the machine had to wait because its share of a processor was used up.
    pub(crate) fn throttled(&self) -> Result<u64, Error> {
        // The unified tree may have a file of that name, without this line.
        for folder in &self.folders {
            let file = folder.join("cpu.stat");
            let text = match std::fs::read_to_string(&file) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                read => read.map_err(at(&format!("read {}", file.display())))?,
            };
            let told = text.lines().find_map(|line| line.strip_prefix("nr_throttled "));
            if let Some(count) = told.and_then(|count| count.parse().ok()) {
                return Ok(count);
            }
        }
        Err(Error::Misuse("no control group here counts how often it was throttled".into()))
    }
}

/// Takes away all groups of one harness. What does not go is tried again until it
/// does: the processes in it are being killed.
pub(super) fn remove(harness: &str) {
    let end = Instant::now() + EMPTY;
    for tree in trees() {
        let top = tree.join(harness);
        while top.exists() && Instant::now() < end {
            remove_folders(&top);
            if top.exists() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// Takes away groups of harnesses that no longer run.
pub(super) fn sweep() {
    for tree in trees() {
        let Ok(entries) = std::fs::read_dir(&tree) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name.strip_prefix("jepsen-").and_then(|pid| pid.parse::<u32>().ok());
            if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                remove_folders(&entry.path());
            }
        }
    }
}

/// Removes a group and those in it; its files are the kernel's and go with it.
fn remove_folders(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        remove_folders(&entry.path());
    }
    // It may still hold processes that are being killed: the caller tries again.
    let _ = std::fs::remove_dir(folder);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found() {
        let told = "9:name=systemd:/\n4:memory:/a/b\n3:cpu,cpuacct:/c:d\n0::/e\n";
        let own = |tree: &str| own_group(told, tree);
        assert_eq!((own("memory"), own("cpuacct")), (Some("/a/b"), Some("/c:d")));
        assert_eq!((own("cpu"), own("pids")), (Some("/c:d"), None));
    }
}
