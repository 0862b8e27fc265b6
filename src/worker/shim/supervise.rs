//! Runs the job and ends it: lease, time-out, cancel.
//!
//! One loop over one channel decides; the threads only report. The first reason
//! to end a job is the one that is recorded, later ones can only hasten it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use horai_core::machine::command::EndReport;
use horai_core::model::run::EndKind;
use horai_core::mutants::{self, Mutant};
use horai_core::time::UtcMillis;
use rustix::process::{WaitOptions, wait};

use super::dir::{self, Spec};
use super::kill;
use super::launch::Means;
use super::output::Output;
use crate::worker::clock::boot_ms;

/// A lease that has ended leaves less grace than a cancel: the cluster counts on it.
const LEASE_GRACE_MS: u64 = 2_000;
/// What a job leaves behind may end by itself for this long.
const LEFTOVER_MS: u64 = 200;
/// How long to wait for the pipe's end once every descendant is gone.
const OUTPUT_WAIT: Duration = Duration::from_secs(2);
/// The longest sleep, so that a suspended machine notices passed deadlines.
const MAX_WAIT_MS: u64 = 1_000;
/// Between two looks for processes that must be gone.
const KILL_STEP_MS: u64 = 10;

enum Event {
    Exited(ExitStatus),
    NoChildren,
    Extend(u64),
    Cancel(u64),
}

/// Runs the job of `spec` to its end, descendants included.
///
/// # Errors
/// Why it could not be started.
pub(super) fn supervise(dir: &Path, spec: &Spec, means: Means) -> io::Result<EndReport> {
    let (events, inbox) = sync_channel(64);
    listen(&dir.join(dir::CONTROL), events.clone())?;
    let started = boot_ms();
    let cluster = |ms: u64| Some(UtcMillis(spec.cluster_offset_ms.saturating_add_unsigned(ms)));
    if started >= spec.deadline_ms.saturating_add(spec.keep_for_ms) {
        let how = EndKind::LeaseExpired;
        let ended = cluster(started);
        return Ok(EndReport { how, started: None, ended, output_bytes: 0, output_crc: 0 });
    }
    let Means { argv, env, script, masker, is_private } = means;
    let output = Output::new(dir, spec.output_limit, spec.cluster_offset_ms, masker);
    let (program, arguments) =
        argv.split_first().ok_or_else(|| io::Error::other("no program is given"))?;
    let (stdout, stdout_end) = io::pipe()?;
    let (stderr, stderr_end) = io::pipe()?;
    let job = {
        // The command holds the pipe's writing ends: gone at the end of this block.
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(&env)
            .current_dir(dir.join(dir::WORK))
            .stdin(Stdio::null())
            .stdout(stdout_end)
            .stderr(stderr_end)
            .process_group(0);
        let shown = if is_private { "its program" } else { program };
        command.spawn().map_err(|e| io::Error::new(e.kind(), format!("{shown}: {e}")))?
    };
    // The job has them now, and nothing else here needs them.
    drop((script, env));
    if let Some(process) = kill::Process::of(job.id()) {
        fs::write(dir.join(dir::JOB), process.to_string())?;
    }
    let (copied, output_end) = sync_channel(1);
    let copier = output.clone();
    std::thread::spawn(move || {
        copier.copy(stdout, stderr);
        // The receiver may have given up waiting.
        let _ = copied.send(());
    });
    let main = i32::try_from(job.id()).map_err(io::Error::other)?;
    std::thread::spawn(move || reap(main, &events));

    let how = Supervisor::new(spec, started).run(&inbox);
    let ended = boot_ms();
    // Only a process that is no descendant could still hold the pipe.
    let _ = output_end.recv_timeout(OUTPUT_WAIT);
    let total = output.close();
    Ok(EndReport {
        how,
        started: cluster(started),
        ended: cluster(ended),
        output_bytes: total.bytes,
        output_crc: total.crc,
    })
}

/// Opened for reading and writing, so that it never ends when a worker closes it.
fn listen(path: &Path, events: SyncSender<Event>) -> io::Result<()> {
    let fifo: File = OpenOptions::new().read(true).write(true).open(path)?;
    std::thread::spawn(move || {
        for line in BufReader::new(fifo).lines() {
            let Ok(line) = line else { return };
            let event = match line.split_once(' ').map(|(word, n)| (word, n.parse())) {
                Some(("extend", Ok(until))) => Event::Extend(until),
                Some(("cancel", Ok(grace))) => Event::Cancel(grace),
                _ => continue,
            };
            if events.send(event).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Reaps everything, adopted orphans included, until there is no child left.
fn reap(main: i32, events: &SyncSender<Event>) {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == main => {
                let status = ExitStatus::from_raw(status.as_raw());
                if events.send(Event::Exited(status)).is_err() {
                    return;
                }
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => {
                // The supervisor may have left already.
                let _ = events.send(Event::NoChildren);
                return;
            }
        }
    }
}

struct Supervisor<'a> {
    spec: &'a Spec,
    started: u64,
    deadline: u64,
    /// How it will be recorded, once known.
    how: Option<EndKind>,
    /// When SIGTERM is due for what is left behind.
    terminate_at: Option<u64>,
    /// When SIGKILL is due; then repeated.
    kill_at: Option<u64>,
}

impl<'a> Supervisor<'a> {
    fn new(spec: &'a Spec, started: u64) -> Self {
        let deadline = spec.deadline_ms;
        Self { spec, started, deadline, how: None, terminate_at: None, kill_at: None }
    }

    fn run(mut self, inbox: &Receiver<Event>) -> EndKind {
        loop {
            let now = boot_ms();
            self.check(now);
            let wait = Duration::from_millis(self.next(now));
            match inbox.recv_timeout(wait) {
                Ok(Event::Exited(status)) => {
                    self.exited(status, boot_ms());
                    if mutants::on(Mutant::ChildrenSurvive) {
                        return self.how.unwrap_or(EndKind::Gone);
                    }
                }
                Ok(Event::NoChildren) | Err(RecvTimeoutError::Disconnected) => {
                    return self.how.unwrap_or(EndKind::Gone);
                }
                Ok(Event::Extend(until)) => self.deadline = self.deadline.max(until),
                Ok(Event::Cancel(grace)) => self.end(EndKind::Cancelled, grace, boot_ms()),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn lease_end(&self) -> u64 {
        self.deadline.saturating_add(self.spec.keep_for_ms)
    }

    fn timeout_end(&self) -> Option<u64> {
        self.spec.timeout_ms.map(|ms| self.started.saturating_add(ms))
    }

    /// Does what is due.
    fn check(&mut self, now: u64) {
        if now >= self.lease_end() {
            self.end(EndKind::LeaseExpired, self.spec.grace_ms.min(LEASE_GRACE_MS), now);
        }
        if self.how.is_none() && self.timeout_end().is_some_and(|end| now >= end) {
            self.end(EndKind::TimedOut, self.spec.grace_ms, now);
        }
        if self.terminate_at.is_some_and(|at| now >= at) {
            self.terminate_at = None;
            kill::terminate_descendants();
        }
        if self.kill_at.is_some_and(|at| now >= at) {
            kill::kill_descendants();
            self.kill_at = Some(now + KILL_STEP_MS);
        }
    }

    /// Milliseconds until something is due.
    fn next(&self, now: u64) -> u64 {
        let lease = self.kill_at.is_none().then(|| self.lease_end());
        let timeout = self.timeout_end().filter(|_| self.how.is_none());
        [lease, timeout, self.terminate_at, self.kill_at]
            .into_iter()
            .flatten()
            .map(|at| at.saturating_sub(now))
            .fold(MAX_WAIT_MS, u64::min)
    }

    /// Ends the job for `how` unless it is ending already; the kill may only come sooner.
    fn end(&mut self, how: EndKind, grace: u64, now: u64) {
        let kill_at = now.saturating_add(grace);
        if self.kill_at.is_none() {
            self.terminate_at = None;
            kill::terminate_descendants();
        }
        self.how.get_or_insert(how);
        self.kill_at = Some(self.kill_at.map_or(kill_at, |at| at.min(kill_at)));
    }

    /// The job itself is over; what it left behind is given a moment, then ended too.
    fn exited(&mut self, status: ExitStatus, now: u64) {
        if self.how.is_none() {
            self.how = Some(match (status.code(), status.signal()) {
                (Some(code), _) => EndKind::Exited { code },
                (None, signal) => EndKind::Signaled { signal: signal.unwrap_or(0) },
            });
            self.terminate_at = Some(now + LEFTOVER_MS);
            self.kill_at = Some(now.saturating_add(LEFTOVER_MS).saturating_add(self.spec.grace_ms));
        }
    }
}
