//! Outlives whoever started a local cluster, and clears up after it.
//!
//! A process of its own that waits for the end of its standard input. The pipe
//! ends when the starter ends, however that happens, `kill -9` included: the
//! guard then kills what is left of the cluster and removes its folder. It
//! starts nothing and listens to nobody else.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use super::Error;
use super::sweep::{Which, sweep};

/// How long processes may resist SIGKILL.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a normal end waits for the guard.
const JOIN: Duration = Duration::from_secs(15);

/// The guard's whole life.
#[must_use]
pub fn main(folder: &Path, remove: bool) -> ExitCode {
    // An error on a pipe means what its end means.
    let _ = io::copy(&mut io::stdin().lock().take(u64::MAX), &mut io::sink());
    let gone = sweep(folder, Which::All, PATIENCE);
    if gone && remove && fs::remove_dir_all(folder).is_err() && folder.exists() {
        return ExitCode::FAILURE;
    }
    if gone { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The starter's end: dropping it, or ending, calls the guard.
pub(super) struct Guard(Option<Child>);

impl Guard {
    /// Starts a guard over `folder`, which it removes in the end if `remove`.
    pub(super) fn start(program: &PathBuf, folder: &Path, remove: bool) -> Result<Self, Error> {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(program);
        command.arg("guard").arg(folder);
        if remove {
            command.arg("--remove");
        }
        // Not in the terminal's group: Ctrl-C is for the starter.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null());
        let child = command.stderr(Stdio::null()).spawn();
        let child = child
            .map_err(|source| Error::Spawn { what: "the guard process".to_owned(), source })?;
        Ok(Self(Some(child)))
    }

    /// Calls the guard and waits for it. False if it did not finish its work.
    pub(super) fn call(&mut self) -> bool {
        let Some(mut child) = self.0.take() else { return true };
        drop(child.stdin.take());
        let until = Instant::now() + JOIN;
        while Instant::now() < until {
            match child.try_wait() {
                Ok(Some(status)) => return status.success(),
                Ok(None) => thread::sleep(Duration::from_millis(10)),
                Err(_) => return false,
            }
        }
        false
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // On the way out of a failure: nothing of the cluster may outlive it.
        let _ = self.call();
    }
}
