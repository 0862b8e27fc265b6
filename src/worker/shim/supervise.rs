//! Runs the job and ends it: lease, time-out, cancel.
//!
//! It is over when nothing of it is left, neither a descendant of the shim nor anybody in its
//! group: also after a normal end, when what it left behind is given a moment and then ended.
//!
//! One loop over one channel decides; the threads only report. The first reason
//! to end a job is the one that is recorded, later ones can only hasten it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use horai_core::machine::command::EndReport;
use horai_core::model::confinement::{Power, Usage};
use horai_core::model::run::EndKind;
use horai_core::mutants::{self, Mutant};
use horai_core::time::UtcMillis;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use rustix::process::{WaitOptions, wait};

use super::dir::{self, Spec};
use super::kill;
use super::launch::Means;
use super::launcher::{self, Failure, Order};
use super::output::Output;
use super::user;
use crate::worker::cgroup::group::Group;
use crate::worker::clock::boot_ms;

/// A lease that has ended leaves less grace than a cancel: the cluster counts on it.
const LEASE_GRACE_MS: u64 = 2_000;
/// What a job leaves behind may end by itself for this long.
const LEFTOVER_MS: u64 = 200;
/// How long to wait for the pipe's end once every descendant is gone.
const OUTPUT_WAIT: Duration = Duration::from_secs(2);
/// The longest sleep, so that a suspended machine notices passed deadlines.
const MAX_WAIT_MS: u64 = 1_000;
/// How long an empty group may take to go.
const GROUP_WAIT: Duration = Duration::from_secs(2);
/// Between two looks for processes that must be gone.
const KILL_STEP_MS: u64 = 10;

enum Event {
    Exited(ExitStatus),
    NoChildren,
    Extend(u64),
    Cancel(u64),
}

/// Runs the job of `spec` to its end, descendants included; also says what it used.
///
/// # Errors
/// Why it could not be started.
pub(super) fn supervise(
    dir: &Path,
    spec: &Spec,
    means: Means,
) -> Result<(EndReport, Usage), Failure> {
    let (events, inbox) = sync_channel(64);
    listen(&dir.join(dir::CONTROL), events.clone())?;
    let started = boot_ms();
    let cluster = |ms: u64| Some(UtcMillis(spec.cluster_offset_ms.saturating_add_unsigned(ms)));
    if started >= spec.deadline_ms.saturating_add(spec.keep_for_ms) {
        let how = EndKind::LeaseExpired;
        let ended = cluster(started);
        let report = EndReport { how, started: None, ended, output_bytes: 0, output_crc: 0 };
        return Ok((report, Usage::default()));
    }
    let Means { argv, env, script, masker, is_private } = means;
    let output = Output::new(dir, spec.output_limit, spec.cluster_offset_ms, masker);
    let group = Held::make(spec)?;
    let (stdout, stdout_end) = io::pipe()?;
    let (stderr, stderr_end) = io::pipe()?;
    let shown = if is_private { "its program" } else { argv.first().map_or("", String::as_str) };
    let shown = shown.to_owned();
    let ends = [stdout_end, stderr_end];
    let job = begin(dir, spec, Order { shown, ..order(dir, spec, argv, env) }, ends)?;
    // The job has it now, and nothing else here needs it.
    drop(script);
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
    let usage = group.end();
    let ended = boot_ms();
    let how =
        if usage.oom_kills > 0 && is_its_own_failure(&how) { EndKind::OomKilled } else { how };
    // Only a process that is no descendant could still hold the pipe.
    let _ = output_end.recv_timeout(OUTPUT_WAIT);
    let total = output.close();
    let report = EndReport {
        how,
        started: cluster(started),
        ended: cluster(ended),
        output_bytes: total.bytes,
        output_crc: total.crc,
    };
    Ok((report, usage))
}

/// What becomes the job, but for what an error calls it.
fn order(dir: &Path, spec: &Spec, argv: Vec<String>, env: BTreeMap<String, String>) -> Order {
    Order {
        argv,
        env,
        work: dir.join(dir::WORK),
        group: spec.group.clone(),
        user: None,
        umask: spec.confinement.umask,
        rlimits: spec.confinement.rlimits.clone(),
        shown: String::new(),
    }
}

/// Starts the job, as whom it is to run.
fn begin(
    dir: &Path,
    spec: &Spec,
    mut order: Order,
    output: [io::PipeWriter; 2],
) -> Result<Child, Failure> {
    if let Some(name) = &spec.confinement.run_as {
        let user = user::find(name)?;
        user::tell(&mut order.env, &user);
        if !user.is_own() {
            user::hand_over(dir, &user)?;
            order.user = Some(user);
        }
    }
    launcher::start(&order, output)
}

/// A nonzero exit or a signal, and nobody's order.
fn is_its_own_failure(how: &EndKind) -> bool {
    match how {
        EndKind::Exited { code } => *code != 0,
        EndKind::Signaled { .. } => true,
        _ => false,
    }
}

/// The attempt's group, which goes with it however that ends.
struct Held<'a>(Option<&'a Group>);

impl<'a> Held<'a> {
    /// Makes it. What its job asks for and no group here can limit is refused.
    fn make(spec: &'a Spec) -> Result<Self, Failure> {
        let unsupported = |why: String| Failure::Unsupported(why);
        let Some(group) = &spec.group else {
            let wanted = spec.confinement.needs();
            let limits = [Power::Memory, Power::Cpu, Power::Pids];
            return match limits.iter().find(|power| wanted.contains(power)) {
                Some(power) => {
                    let word = power.word();
                    Err(unsupported(format!("{word}: this worker has no cgroups: see its log")))
                }
                None => Ok(Self(None)),
            };
        };
        if let Some(power) = group.lacks(&spec.confinement) {
            let word = power.word();
            return Err(unsupported(format!("{word}: this worker's cgroups cannot limit it")));
        }
        match group.create(&spec.confinement) {
            Ok(()) => Ok(Self(Some(group))),
            Err(error) => Err(unsupported(format!("its cgroup cannot be made: {error}"))),
        }
    }

    /// Waits until nobody is in it, and says what was used.
    fn end(self) -> Usage {
        let by_descent = of_descendants();
        let Some(group) = self.0 else { return by_descent };
        // Descendants are gone. Who came in from elsewhere goes with them.
        while !mutants::on(Mutant::ChildrenSurvive) && !group.kill_all(GROUP_WAIT) {}
        // Not every kernel counts all of it, nor has every machine all hierarchies.
        let counted = |n: u64, instead: u64| if n == 0 { instead } else { n };
        let used = group.usage();
        Usage {
            peak_memory_kib: counted(used.peak_memory_kib, by_descent.peak_memory_kib),
            cpu_ms: counted(used.cpu_ms, by_descent.cpu_ms),
            ..used
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // What stays is removed when the worker starts the next time.
        let _ = self.0.map(|group| group.remove(GROUP_WAIT));
    }
}

/// What descendants used that are over: the largest process, and all their CPU time.
fn of_descendants() -> Usage {
    let Ok(used) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return Usage::default() };
    let number = |n: i64| u64::try_from(n).unwrap_or(0);
    let cpu = used.user_time() + used.system_time();
    Usage {
        peak_memory_kib: number(used.max_rss()),
        cpu_ms: number(cpu.num_milliseconds()),
        ..Usage::default()
    }
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
        if now >= self.lease_end() && !mutants::on(Mutant::LeaseNeverEnds) {
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
            // At once, before what a list of processes misses has forked again.
            if let Some(group) = &self.spec.group
                && !mutants::on(Mutant::ChildrenSurvive)
            {
                group.kill();
            }
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
