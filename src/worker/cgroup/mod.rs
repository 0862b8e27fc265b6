//! Control groups: what keeps an attempt's processes together, limits and counts them.
//!
//! [`home::Home`] is where a worker may make groups, of version 2 if a subtree is delegated
//! to it, else of the hierarchies of version 1 that it can write to. [`group::Group`] is one
//! attempt's: made by its shim before the job is started, entered by the job before it is
//! the job's program, killed as a whole, and removed once it is empty. Where there is
//! neither, descent alone keeps processes together, and nothing is limited.
//!
//! It knows neither leases nor results, and it is not what an attempt is found by alone: a
//! job that runs as root can leave its group, and is then still a descendant of its shim.

pub mod group;
pub mod home;
mod mounts;

use std::fs;
use std::io;
use std::path::Path;

/// What a hierarchy or subtree can do.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Controller {
    /// Memory, limited and counted.
    Memory,
    /// CPU time, limited.
    Cpu,
    /// CPU time, counted; version 1 only.
    Cpuacct,
    /// The number of processes, limited.
    Pids,
    /// Stopping all at once; version 1 only.
    Freezer,
}

impl Controller {
    /// Each with the kernel's word for it.
    const ALL: [(&'static str, Self); 5] = [
        ("memory", Self::Memory),
        ("cpu", Self::Cpu),
        ("cpuacct", Self::Cpuacct),
        ("pids", Self::Pids),
        ("freezer", Self::Freezer),
    ];

    /// The controller that the kernel calls so.
    fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == word).map(|(_, controller)| *controller)
    }
}

/// Writes one value; an error names the file.
fn put(folder: &Path, file: &str, value: &str) -> io::Result<()> {
    let path = folder.join(file);
    fs::write(&path, value)
        .map_err(|e| io::Error::new(e.kind(), format!("{value} into {}: {e}", path.display())))
}

/// The number that a file holds, if it does.
fn number(folder: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok()
}

/// The number behind a word in a file of lines `word number`.
fn number_of(folder: &Path, file: &str, word: &str) -> Option<u64> {
    let text = fs::read_to_string(folder.join(file)).ok()?;
    text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' ')?.trim().parse().ok())
}
