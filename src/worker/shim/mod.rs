//! The shim: one process per attempt, between worker and job.
//!
//! It outlives the worker, holds the attempt's lease deadline itself, and leaves
//! the result on disk, so that neither a worker's crash nor a cut network can
//! let a job run on past its lease. It talks to nobody: its orders come through
//! a FIFO, its answer is a file. While it lives it holds a lock on
//! [`dir::LOCK`]: who gets that lock knows that no shim is there, and none will
//! start the job later, because a shim that finds a result does nothing.

pub mod dir;
pub(super) mod handles;
pub mod kill;
mod launch;
pub(crate) mod launcher;
mod output;
mod supervise;
mod user;
mod watch;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use horai_core::machine::command::EndReport;
use horai_core::model::confinement::Usage;
use rustix::process::{getpid, set_child_subreaper, setsid};

use crate::files;
use crate::worker::ending::Ending;

/// The shim's whole life, for the attempt whose folder is `dir`.
#[must_use]
pub fn main(dir: &Path) -> ExitCode {
    match run(dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => {
            // Nobody reads a shim's words: without a result the worker reports "gone".
            ExitCode::FAILURE
        }
    }
}

fn run(dir: &Path) -> io::Result<()> {
    // Fails only if this already leads a group, which then is its own anyway.
    let _ = setsid();
    set_child_subreaper(Some(getpid()))?;
    let lock = File::options().create(true).append(true).mode(0o600).open(dir.join(dir::LOCK))?;
    lock.try_lock().map_err(|e| io::Error::other(e.to_string()))?;
    if dir::read_result(dir)?.is_some() {
        return Ok(());
    }
    let me = kill::Process::of(std::process::id())
        .ok_or_else(|| io::Error::other("/proc shows no such process"))?;
    files::write_durably(&dir.join(dir::PID), me.to_string().as_bytes())?;
    let mut spec = dir::read_spec(dir)?;
    let private = if spec.private { Some(dir::read_private(io::stdin())?) } else { None };
    fs::create_dir_all(dir.join(dir::WORK))?;
    let means = launch::Means::of(&mut spec, private);
    let masker = means.masker.clone();
    let (report, usage) = supervise::supervise(dir, &spec, means).unwrap_or_else(|failure| {
        let how = failure.end();
        let report = EndReport { how, started: None, ended: None, output_bytes: 0, output_crc: 0 };
        (report, Usage::default())
    });
    let mut ending = Ending::of(report, &dir.join(dir::OUTPUTS)).using(usage);
    if let Some(masker) = masker {
        ending.mask(&masker);
    }
    dir::write_result(dir, &ending)
}
