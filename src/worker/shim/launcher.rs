//! Between shim and job: the process that becomes the job.
//!
//! What a process may only do to itself (enter a group, give up rights, set its limits) is
//! done here, in the job's own process, before it is the job's program. What to do comes
//! through its standard input, so that a secret is neither in arguments nor on a disk; what
//! goes wrong goes back the same way, and the end of the stream says that the program runs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};

use horai_core::model::confinement::{Confinement, Rlimit};
use horai_core::model::run::EndKind;
use rustix::fs::Mode;
use rustix::process::{Gid, Resource, Rlimit as Limits, Uid, getrlimit, setrlimit, umask};
use rustix::stdio::dup2_stdin;
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use serde::{Deserialize, Serialize};

use crate::worker::cgroup::group::Group;

/// Variables by which processes of an attempt are found; nothing of them is secret.
const MARKS: [&str; 4] = ["HORAI_ATTEMPT", "HORAI_FENCING_TOKEN", "HORAI_OUTPUT", "HORAI_RUN_ID"];

/// What to become.
#[derive(Serialize, Deserialize)]
pub(super) struct Order {
    /// Program and arguments.
    pub(super) argv: Vec<String>,
    /// The whole environment.
    pub(super) env: BTreeMap<String, String>,
    /// Where to stand.
    pub(super) work: PathBuf,
    /// In which group.
    pub(super) group: Option<Group>,
    /// As whom, if not as the shim.
    pub(super) user: Option<User>,
    pub(super) umask: Option<u32>,
    pub(super) rlimits: BTreeMap<Rlimit, u64>,
    /// What an error calls the program.
    pub(super) shown: String,
}

/// Whom to become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

/// Why the program does not run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Failure {
    /// This worker cannot hold it to what its job asks for.
    Unsupported(String),
    /// Anything else.
    Failed(String),
}

impl Failure {
    /// As an attempt's end.
    pub(super) fn end(self) -> EndKind {
        match self {
            Self::Unsupported(why) => EndKind::limits_unsupported(&why),
            Self::Failed(why) => EndKind::not_started(&why),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Starts a process that becomes what `order` says, with its standard output and error into
/// `output`. Returns once the program runs.
pub(super) fn start(order: &Order, output: [io::PipeWriter; 2]) -> Result<Child, Failure> {
    let (mut ours, theirs) = UnixStream::pair()?;
    let [stdout, stderr] = output;
    // This very program, even if an upgrade has taken its name away.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("become")
        .env_clear()
        // By these it is found if the shim dies before it is the job.
        .envs(order.env.iter().filter(|(name, _)| MARKS.contains(&name.as_str())))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(stdout)
        .stderr(stderr)
        .process_group(0);
    let child = command.spawn()?;
    // It holds the other ends: gone here.
    drop(command);
    let told = serde_json::to_vec(order).map_err(io::Error::other)?;
    // One that is killed before it has read this tells by its end.
    if ours.write_all(&told).and_then(|()| ours.shutdown(Shutdown::Write)).is_err() {
        return Ok(child);
    }
    let mut answer = Vec::new();
    ours.read_to_end(&mut answer)?;
    match serde_json::from_slice(&answer) {
        Ok(failure) => Err(failure),
        Err(_) => Ok(child),
    }
}

/// The life of that process, until it is another program.
#[must_use]
pub(crate) fn main() -> ExitCode {
    // A copy that is closed when the program runs: its end is the good news.
    let Ok(back) = io::stdin().as_fd().try_clone_to_owned() else { return ExitCode::FAILURE };
    let mut back = UnixStream::from(back);
    let failure = run(&mut back);
    if let Ok(told) = serde_json::to_vec(&failure) {
        // A shim that is gone has no use for it.
        let _ = back.write_all(&told);
    }
    ExitCode::FAILURE
}

/// Returns only if it fails.
fn run(from: &mut UnixStream) -> Failure {
    let order = match read(from) {
        Ok(order) => order,
        Err(error) => return error.into(),
    };
    if let Err(failure) = confine(&order) {
        return failure;
    }
    let Some((program, arguments)) = order.argv.split_first() else {
        return Failure::Failed("no program is given".to_owned());
    };
    let error = Command::new(program).args(arguments).env_clear().envs(&order.env).exec();
    Failure::Failed(format!("{}: {error}", order.shown))
}

fn read(from: &mut UnixStream) -> io::Result<Order> {
    let mut told = Vec::new();
    from.read_to_end(&mut told)?;
    let order = serde_json::from_slice(&told)
        .map_err(|_| io::Error::other("what to become was cut short"))?;
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(order)
}

/// Rights go last: what comes before may need them.
fn confine(order: &Order) -> Result<(), Failure> {
    if let Some(group) = &order.group {
        group.enter().map_err(|error| Failure::Unsupported(format!("its cgroup: {error}")))?;
    }
    if let Some(mask) = order.umask {
        umask(Mode::from_raw_mode(mask));
    }
    for (of, value) in &order.rlimits {
        limit(*of, *value)?;
    }
    std::env::set_current_dir(&order.work)?;
    let Some(user) = &order.user else { return Ok(()) };
    become_user(user).map_err(|error| {
        Failure::Unsupported(format!("run_as: it cannot become {}: {error}", user.name))
    })?;
    std::fs::metadata(&order.work).map(drop).map_err(|error| {
        let (name, work) = (&user.name, order.work.display());
        Failure::Unsupported(format!(
            "run_as: {name} cannot get to {work} ({error}): let others pass through the \
             worker's data_dir and the folders above it, as with chmod o+x"
        ))
    })
}

fn limit(of: Rlimit, value: u64) -> Result<(), Failure> {
    let resource = match of {
        Rlimit::As => Resource::As,
        Rlimit::Core => Resource::Core,
        Rlimit::Cpu => Resource::Cpu,
        Rlimit::Data => Resource::Data,
        Rlimit::Fsize => Resource::Fsize,
        Rlimit::Memlock => Resource::Memlock,
        Rlimit::Nofile => Resource::Nofile,
        Rlimit::Nproc => Resource::Nproc,
        Rlimit::Stack => Resource::Stack,
    };
    let value = (value != Confinement::UNLIMITED).then_some(value);
    let most = getrlimit(resource).maximum;
    let maximum = match of {
        // At the hard limit of CPU time the signal would be SIGKILL, which does not say why.
        Rlimit::Cpu => value.map(|value| most.unwrap_or(u64::MAX).min(value + 1).max(value)),
        _ => value,
    };
    setrlimit(resource, Limits { current: value, maximum }).map_err(|error| {
        let shown = |n: Option<u64>| n.map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
        let most = shown(most);
        let (word, value) = (of.word(), shown(value));
        Failure::Unsupported(format!(
            "rlimits.{word}: {value}: {error}; the worker's own hard limit is {most}"
        ))
    })
}

/// This process has one thread, so that what is a thread's is its own.
fn become_user(user: &User) -> io::Result<()> {
    let groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}
