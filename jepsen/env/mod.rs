//! The world that a cluster is tested in: machines with a network, a disk, a clock
//! and processes of their own, each of which can be made to fail.
//!
//! It knows nothing of what runs on the machines. Every fault is installed by one
//! call and undone by another, and says so if it could not be.

pub(crate) mod cgroups;
pub(crate) mod clocks;
pub(crate) mod disks;
pub(crate) mod links;
pub(crate) mod namespaces;
pub(crate) mod network;
pub(crate) mod processes;
mod sys;
mod tcp;
pub(crate) mod torn;
pub(crate) mod witness;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cgroups::Group;
use clocks::Clock;
use disks::Disk;
use links::Host;
use namespaces::{Namespace, PRIVATE};
use network::Network;
use torn::{Tear, Torn};

/// The environment could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A call to the system failed.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// A tool of the system is not installed.
    #[error("{tool} cannot be run: install the Debian package {package}")]
    Missing {
        /// Which.
        tool: String,
        /// What has it.
        package: String,
        /// What the system said.
        source: io::Error,
    },
    /// A tool of the system failed.
    #[error("{command} failed ({how}): {said}")]
    Failed {
        /// The command.
        command: String,
        /// How it ended.
        how: String,
        /// What it said.
        said: String,
    },
    /// Namespaces, mounts and interfaces need rights.
    #[error("the harness makes namespaces, mounts and interfaces: run it as root")]
    NotRoot,
    /// It cannot be done here or now.
    #[error("{0}")]
    Misuse(String),
}

impl Error {
    fn missing(tool: &str, package: &str, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::NotFound {
            Self::Missing { tool: tool.to_owned(), package: package.to_owned(), source }
        } else {
            Self::Io { what: format!("run {tool}"), source }
        }
    }

    fn failed(command: &str, out: &Output) -> Self {
        let mut said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
        if said.is_empty() {
            said = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        }
        Self::Failed { command: command.to_owned(), how: processes::how(out.status), said }
    }
}

/// Makes an error of a failed call, for `map_err`.
pub(crate) fn at(what: &str) -> impl FnOnce(io::Error) -> Error + use<> {
    let what = what.to_owned();
    move |source| Error::Io { what, source }
}

/// The tools of the system that the environment uses, and who has them.
pub(crate) const TOOLS: [(&str, &str); 7] = [
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("mount", "mount"),
    ("umount", "mount"),
    ("fsfreeze", "util-linux"),
    ("mkfs.ext4", "e2fsprogs"),
    ("e2fsck", "e2fsprogs"),
];

/// Runs a tool of the system and answers what it printed.
pub(crate) fn tool(program: &str, arguments: &[&str]) -> Result<String, Error> {
    let package = TOOLS.iter().find(|(tool, _)| *tool == program).map_or("", |(_, p)| p);
    let out = Command::new(program).args(arguments).output();
    let out = out.map_err(|source| Error::missing(program, package, source))?;
    if !out.status.success() {
        return Err(Error::failed(&format!("{program} {}", arguments.join(" ")), &out));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// One machine: whatever is started on it shares its fate.
#[derive(Debug)]
pub(crate) struct Machine {
    /// `n1` or `w2`.
    pub(crate) name: String,
    /// Its place on the switch.
    pub(crate) host: Host,
    pub(crate) namespace: Namespace,
    pub(crate) group: Group,
    pub(crate) clock: Clock,
    pub(crate) disk: Disk,
}

impl Machine {
    /// The processes on it, wherever they hid.
    pub(crate) fn pids(&self) -> Result<Vec<u32>, Error> {
        self.group.pids()
    }

    /// All processes end at once; the disk keeps what the system had of them.
    pub(crate) fn kill(&self) -> Result<(), Error> {
        self.group.kill()
    }

    /// Ends what is frozen and lets the next processes run.
    fn power_off(&self) -> Result<(), Error> {
        self.group.kill()?;
        self.group.freeze(false).map(drop)
    }
}

/// What to build.
#[derive(Debug, Clone)]
pub(crate) struct Plan<'a> {
    /// Names and places of the machines.
    pub(crate) machines: Vec<(String, Host)>,
    /// Those whose disk has a cache that a power cut tears.
    pub(crate) tearing: &'a [Host],
    /// Size of each disk.
    pub(crate) disk_mib: u64,
    /// On which file system the bytes of the disks are.
    pub(crate) disk_folder: &'a Path,
    /// For what the network draws.
    pub(crate) seed: u64,
}

/// All machines and what connects them. It ends with the process: see
/// [`namespaces`].
pub(crate) struct Env {
    pub(crate) network: Network,
    pub(crate) machines: Vec<Machine>,
}

impl Env {
    /// Builds it; only inside the harness's namespaces.
    pub(crate) fn build(plan: &Plan<'_>) -> Result<Self, Error> {
        let private = Path::new(PRIVATE);
        if !private.exists() {
            return Err(Error::Misuse(format!("{PRIVATE} is not there: not in the namespaces")));
        }
        let mut machines = Vec::new();
        for (name, host) in &plan.machines {
            let on = machine_folder(name);
            machines.push(Machine {
                name: name.clone(),
                host: *host,
                namespace: Namespace::make(name)?,
                group: Group::make(&namespaces::group(), name)?,
                clock: Clock::make(private, name)?,
                disk: Disk::make(
                    plan.disk_folder,
                    &on,
                    plan.disk_mib,
                    plan.tearing.contains(host),
                )?,
            });
        }
        let ports: Vec<_> = machines.iter().map(|m| (m.host, &m.namespace)).collect();
        let network = Network::build(&ports, plan.seed)?;
        Ok(Self { network, machines })
    }

    /// The power of machines goes, of all at once: processes end, and what was not synced
    /// is gone. Disks with caches are torn as is said, or not at all. Answers by place.
    pub(crate) fn cut_power(
        &mut self,
        places: &[usize],
        tear: Option<Tear>,
    ) -> Result<Vec<Torn>, Error> {
        let plain = places.iter().any(|place| self.machines[*place].disk.cache().is_none());
        if plain && tear.is_some() {
            return Err(Error::Misuse("a disk without a cache cannot tear".into()));
        }
        // These stop in the middle of what they do, and answer nobody any more.
        for (place, nth) in places.iter().zip(0..) {
            let tear = tear.unwrap_or(Tear::NOTHING);
            let tear = Tear { seed: tear.seed.wrapping_add(nth), ..tear };
            let cache = self.machines[*place].disk.cache();
            cache.map_or(Ok(()), |cache| cache.begin_cut(tear))?;
        }
        let mut torn = Vec::new();
        for place in places {
            let cache = self.machines[*place].disk.cache();
            torn.push(cache.map_or(Ok(Torn::default()), torn::TornDisk::end_cut)?);
        }
        // Nobody may see the disk fail: a machine without power does not look. Who waits
        // for a disk that does not answer cannot be frozen, but is as good as killed.
        for place in places {
            let machine = &mut self.machines[*place];
            match machine.disk.cache() {
                Some(cache) => {
                    machine.group.strike()?;
                    cache.power_off()?;
                }
                None => machine.group.freeze(true).map(drop)?,
            }
        }
        for place in places {
            self.machines[*place].disk.shut_down()?;
        }
        for place in places {
            self.machines[*place].power_off()?;
        }
        for place in places {
            self.machines[*place].disk.unmount()?;
        }
        Ok(torn)
    }
}

/// Where a machine's disk is mounted. The witness finds the worker's name in it.
pub(crate) fn machine_folder(name: &str) -> PathBuf {
    Path::new(PRIVATE).join("machines").join(name)
}
