//! An attempt's folder: the contract between worker and shim.
//!
//! The worker writes the spec before it spawns, the shim writes the result before
//! it ends; both by rename, so that a reader sees all or nothing.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use horai_core::model::confinement::Confinement;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::worker::cgroup::group::Group;
use crate::worker::ending::Ending;

/// The shim holds a lock on this while it lives.
pub const LOCK: &str = "lock";
/// The shim's pid and start time.
pub const PID: &str = "pid";
/// The job's pid, which is its process group, and start time.
pub const JOB: &str = "job";
/// What to run.
pub const SPEC: &str = "spec.json";
/// How it ended.
pub const RESULT: &str = "result.json";
/// FIFO for orders.
pub const CONTROL: &str = "control";
/// What the job puts out for those that follow it: it writes to this.
pub const OUTPUTS: &str = "outputs";
/// What the job's runs before this one kept, for the job to read.
pub const STATE: &str = "state";
/// A shell job's script.
pub const SCRIPT: &str = "script";
/// A step's script: of the one before the main part at that place, from 0.
#[must_use]
pub fn pre(place: usize) -> String {
    format!("pre-{place}")
}
/// A step's script: of the one after the main part at that place, from 0.
#[must_use]
pub fn post(place: usize) -> String {
    format!("post-{place}")
}
/// What the job began elsewhere, as far as its output named it.
pub const HANDLES: &str = "handles.json";
/// The job's working folder.
pub const WORK: &str = "work";

/// A shell script before or after the main part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Program and arguments; the last is where the script is, or would be.
    pub argv: Vec<String>,
    /// The script, if it is not in the folder.
    #[serde(default)]
    pub script: Option<String>,
}

/// What to run and until when. Written by one program version, perhaps read by
/// the next: fields are only added, with defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Program and arguments; none if they come by [`Private`].
    pub argv: Vec<String>,
    /// The job's whole environment; none if it comes by [`Private`].
    pub env: BTreeMap<String, String>,
    /// Longest life; none means no limit.
    pub timeout_ms: Option<u64>,
    /// Between SIGTERM and SIGKILL.
    pub grace_ms: u64,
    /// End of the lease, in milliseconds since boot.
    pub deadline_ms: u64,
    /// Length of the lease, for a worker that adopts this attempt.
    #[serde(default)]
    pub lease_ms: u64,
    /// How long past the lease's end the job may go on; 0 for most.
    pub keep_for_ms: u64,
    /// Bytes of output on the disk: beyond that, some in the middle is left out.
    pub output_limit: u64,
    /// Cluster time minus time since boot, as the worker knew it.
    pub cluster_offset_ms: i64,
    /// What to run holds secrets, and comes by the shim's standard input.
    #[serde(default)]
    pub private: bool,
    /// What its processes may use, and as whom they run.
    #[serde(default)]
    pub confinement: Confinement,
    /// The group that its shim makes for it; none where the machine has none.
    #[serde(default)]
    pub group: Option<Group>,
    /// Run before it, one after the other; none if they come by [`Private`].
    #[serde(default)]
    pub pre: Vec<Step>,
    /// Run after it, in the same way.
    #[serde(default)]
    pub post: Vec<Step>,
    /// How its output names what it begins elsewhere.
    #[serde(default)]
    pub handles: Vec<HandlePattern>,
    /// What attempts before it began elsewhere, with the commands that end it: run first.
    #[serde(default)]
    pub left: Vec<(String, Vec<String>)>,
}

/// How an output names what a job begins elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandlePattern {
    /// A regular expression.
    pub pattern: String,
    /// Program and arguments, with the numbers of groups in braces.
    pub kill: Vec<String>,
}

/// What to run, where that holds secrets: handed to the shim by its standard input, and
/// never on disk.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Private {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The job's whole environment.
    pub env: BTreeMap<String, String>,
    /// A script that holds secrets itself: where an argument says where it would be, it
    /// becomes where it is.
    pub script: Option<String>,
    /// What is taken out of the output.
    pub secrets: Vec<String>,
    /// Run before it, one after the other.
    #[serde(default)]
    pub pre: Vec<Step>,
    /// Run after it, in the same way.
    #[serde(default)]
    pub post: Vec<Step>,
}

/// Without anything of it.
impl std::fmt::Debug for Private {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Private").finish_non_exhaustive()
    }
}

/// The form that [`read_private`] reads.
///
/// # Errors
/// Only if memory cannot be had.
pub fn write_private(private: &Private) -> io::Result<Vec<u8>> {
    serde_json::to_vec(private).map_err(io::Error::other)
}

/// Reads it to the end of the stream: what a worker that was killed could not say in
/// full is an error.
///
/// # Errors
/// The system's, or that it is not one; without a word of what was read.
pub fn read_private(mut from: impl io::Read) -> io::Result<Private> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes)?;
    serde_json::from_slice(&bytes).map_err(|_| io::Error::other("what to run was cut short"))
}

/// Reads the spec.
///
/// # Errors
/// The system's, or that it is not one.
pub fn read_spec(dir: &Path) -> io::Result<Spec> {
    serde_json::from_slice(&std::fs::read(dir.join(SPEC))?).map_err(io::Error::other)
}

/// Writes the spec durably.
///
/// # Errors
/// The system's.
pub fn write_spec(dir: &Path, spec: &Spec) -> io::Result<()> {
    files::write_durably(&dir.join(SPEC), &serde_json::to_vec(spec).map_err(io::Error::other)?)
}

/// Reads the result, if there is one.
///
/// # Errors
/// The system's, or that it is not one.
pub fn read_result(dir: &Path) -> io::Result<Option<Ending>> {
    files::read_optional(&dir.join(RESULT))?
        .map(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::other))
        .transpose()
}

/// Writes the result durably.
///
/// # Errors
/// The system's.
pub fn write_result(dir: &Path, ending: &Ending) -> io::Result<()> {
    files::write_durably(&dir.join(RESULT), &serde_json::to_vec(ending).map_err(io::Error::other)?)
}
