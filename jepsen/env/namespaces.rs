//! Where the harness lives, so that nothing of it outlives it.
//!
//! The program starts itself again in layers. The *outer* one only holds a pipe
//! open. Behind `unshare` comes the *first* process of a new process namespace,
//! with mounts and network of its own; it starts the real harness and reaps
//! orphans. When the outer one dies, however it dies, the pipe ends, the first
//! process leaves, and the kernel kills all others and takes the namespaces, mounts,
//! interfaces and loop devices away. Only control groups are outside namespaces: a
//! *guard* waits at another such pipe and removes them.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;

use rustix::process::{Pid, WaitOptions, wait};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{Error, at, cgroups, tool};

/// Which layer this process is.
const LAYER: &str = "JEPSEN_LAYER";
/// The control group of the whole harness.
const GROUP: &str = "JEPSEN_GROUP";

/// In memory, seen by the harness alone: mount points, namespaces, small files.
pub(crate) const PRIVATE: &str = "/run/jepsen";

/// Steps down into the namespaces. `None` inside them: go on. `Some` in the other
/// layers, whose work is done when this returns.
pub(crate) fn descend() -> Result<Option<ExitCode>, Error> {
    match std::env::var(LAYER).as_deref() {
        Ok("guard") => guard().map(Some),
        Ok("first") => first().map(Some),
        Ok("inside") => Ok(None),
        _ => outer().map(Some),
    }
}

/// The name of the harness's control group.
pub(crate) fn group() -> String {
    std::env::var(GROUP).unwrap_or_else(|_| format!("jepsen-{}", std::process::id()))
}

/// Variables of a process to be started.
type Vars = [(&'static str, String); 2];

fn again(layer: &str, group: &str) -> Result<(PathBuf, Vars), Error> {
    let me = std::env::current_exe().map_err(at("find the own program"))?;
    Ok((me, [(LAYER, layer.to_owned()), (GROUP, group.to_owned())]))
}

fn outer() -> Result<ExitCode, Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let group = format!("jepsen-{}", std::process::id());
    cgroups::sweep();
    let (me, vars) = again("guard", &group)?;
    let mut guard = Command::new(&me);
    guard.args(std::env::args_os().skip(1));
    // In a process group of its own: a Ctrl-C is not for the guard.
    guard.envs(vars).stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
    let mut guard = guard.spawn().map_err(at("start the guard"))?;
    let (me, vars) = again("first", &group)?;
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount", "--propagation", "private", "--pid", "--fork"]);
    unshare.args(["--kill-child", "--mount-proc", "--"]).arg(me).args(std::env::args_os().skip(1));
    let mut child = unshare
        .envs(vars)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|source| Error::missing("unshare", "util-linux", source))?;
    // Not `wait` of the standard library, which would close the pipe first.
    let pipe = child.stdin.take();
    let code = child.wait().map_err(at("wait for the harness"))?;
    drop(pipe);
    drop(guard.stdin.take());
    // The guard has nothing to say: what it could not remove the next start will.
    let _ = guard.wait();
    Ok(ExitCode::from(code.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(4)))
}

/// Blocks until whoever holds the other end of standard input is gone.
fn until_the_pipe_ends() {
    let mut sink = [0; 64];
    while matches!(std::io::stdin().read(&mut sink), Ok(1..)) {}
}

fn guard() -> Result<ExitCode, Error> {
    until_the_pipe_ends();
    cgroups::remove(&group());
    Ok(ExitCode::SUCCESS)
}

fn first() -> Result<ExitCode, Error> {
    tool("mount", &["-t", "tmpfs", "-o", "mode=0755", "jepsen", "/run"])?;
    for folder in [PRIVATE, "/run/netns"] {
        std::fs::create_dir_all(folder).map_err(at(folder))?;
    }
    let (me, vars) = again("inside", &group())?;
    let mut harness = Command::new(me);
    harness.args(std::env::args_os().skip(1)).envs(vars).stdin(Stdio::null());
    let harness = harness.spawn().map_err(at("start the harness"))?;
    let (tell, told) = mpsc::channel();
    let of_pipe = tell.clone();
    std::thread::spawn(move || {
        until_the_pipe_ends();
        // If nobody listens any more, the namespace is ending already.
        let _ = of_pipe.send(4);
    });
    std::thread::spawn(move || {
        // As above: the pipe may have ended first.
        let _ = tell.send(reap_until(&harness));
    });
    // Leaving ends the namespace and everybody in it.
    Ok(ExitCode::from(told.recv().unwrap_or(4)))
}

/// Reaps whoever was left to the first process, until the harness itself ends.
fn reap_until(harness: &Child) -> u8 {
    let mine = Pid::from_raw(harness.id().cast_signed());
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if Some(pid) == mine => {
                let code = status.exit_status().and_then(|code| u8::try_from(code).ok());
                return code.unwrap_or(4);
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return 4,
        }
    }
}

/// A network namespace: what makes processes one machine.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Makes one; it ends with the harness.
    pub(crate) fn make(name: &str) -> Result<Self, Error> {
        tool("ip", &["netns", "add", name])?;
        let path = Path::new("/run/netns").join(name);
        let file = File::open(&path).map_err(at(&path.display().to_string()))?;
        Ok(Self { name: name.to_owned(), file })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Does something in the namespace: what is opened or started there stays there.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        // A thread of its own, since a thread that moved is not moved back.
        let moved = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok::<T, rustix::io::Errno>(work())
            });
            thread.join()
        });
        match moved {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(errno)) => Err(at(&format!("enter the namespace {}", self.name))(errno.into())),
            Err(_) => Err(Error::Misuse(format!("a thread in {} panicked", self.name))),
        }
    }
}
