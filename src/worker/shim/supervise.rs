//! Runs the job and ends it: lease, time-out, cancel.
//!
//! It is over when nothing of it is left, neither a descendant of the shim nor anybody in its
//! group: also after a normal end, when what it left behind is given a moment and then ended.
//!
//! One loop over one channel decides; the threads only report. The first reason
//! to end a job is the one that is recorded, later ones can only hasten it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use horai_core::machine::command::EndReport;
use horai_core::model::confinement::{Power, Usage};
use horai_core::model::handle::{Handle, HandleEnd};
use horai_core::model::run::EndKind;
use horai_core::mutants::{self, Mutant};
use horai_core::time::UtcMillis;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use rustix::io::ioctl_fionread;
use rustix::process::{WaitOptions, wait};

use super::dir::{self, Spec, Step};
use super::handles::Found;
use super::kill;
use super::launch::{Means, Part, opened};
use super::launcher::{self, Failure, Order};
use super::output::Output;
use super::user;
use super::watch::{Event, KILL_STEP_MS, Supervisor};
use crate::worker::cgroup::group::Group;
use crate::worker::clock::boot_ms;

/// How long to wait for the pipe's end once every descendant is gone.
const OUTPUT_WAIT: Duration = Duration::from_secs(2);
/// How long an empty group may take to go.
const GROUP_WAIT: Duration = Duration::from_secs(2);
/// What steps after the main part know of its end.
const EXIT_CODE: &str = "HORAI_EXIT_CODE";
/// How long a command may take that ends what was begun elsewhere,
const KILL_MS: u64 = 30_000;
/// and all of them together.
const KILLS_MS: u64 = 60_000;

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
    let Means { parts, env, masker, is_private } = means;
    let found = Found::new(dir, &spec.handles);
    let (limit, offset_ms) = (spec.output_limit, spec.cluster_offset_ms);
    let output = Output::looked_through(dir, limit, offset_ms, masker, found.clone());
    let group = Held::make(spec)?;
    let (stdout, stdout_end) = io::pipe()?;
    let (stderr, stderr_end) = io::pipe()?;
    let (copied, output_end) = sync_channel(1);
    let copier = output.clone();
    std::thread::spawn(move || {
        copier.copy(stdout, stderr);
        // The receiver may have given up waiting.
        let _ = copied.send(());
    });
    let ends = [stdout_end, stderr_end];
    let stage = Stage { dir, spec, env, is_private, ends, events, inbox };
    let mut supervisor = Supervisor::new(spec, started);
    if let Some(found) = &found {
        stage.clear_up(found, &mut supervisor);
    }
    let how = stage.play(parts, &mut supervisor)?;
    if let Some(found) = &found
        && !how.is_success()
    {
        stage.end_handles(found, &how, &mut supervisor);
    }
    // Nobody writes any more.
    drop(stage);
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

/// Where the parts of an attempt run, one after the other: each is over, with all that it
/// left behind, before the next begins.
struct Stage<'a> {
    dir: &'a Path,
    spec: &'a Spec,
    env: BTreeMap<String, String>,
    is_private: bool,
    /// Held, so that the output ends with the last part.
    ends: [io::PipeWriter; 2],
    events: SyncSender<Event>,
    inbox: Receiver<Event>,
}

impl Stage<'_> {
    /// Runs all parts that are to be run, and says how the attempt ended: as the first part
    /// that did not succeed. A step before the main part that fails is its end; those after
    /// it are run however it ended, within the grace if it was told to end.
    ///
    /// # Errors
    /// Why the first part could not be started.
    fn play(
        &self,
        parts: Vec<(Part, Step)>,
        supervisor: &mut Supervisor<'_>,
    ) -> Result<EndKind, Failure> {
        let mut how = EndKind::Exited { code: 0 };
        let mut code = None;
        let posts = parts.iter().filter(|(part, _)| matches!(part, Part::Post(_))).count();
        let count = parts.len();
        if let Some(order) = supervisor.order().cloned() {
            return Ok(order);
        }
        for (i, (part, step)) in parts.into_iter().enumerate() {
            let is_post = matches!(part, Part::Post(_));
            if is_post && code.is_none() {
                break;
            }
            if is_post && supervisor.is_out_of_time(boot_ms()) {
                self.note(part, "is left out: the grace is over");
                continue;
            }
            supervisor.next_part(part == Part::Main && posts > 0, i + 1 == count);
            let ended = match self.run(part, step, code, supervisor) {
                Ok(ended) => ended,
                Err(failure) if i == 0 && self.spec.left.is_empty() => return Err(failure),
                Err(failure) => failure.end(),
            };
            if part == Part::Main {
                code = Some(supervisor.code());
            }
            if !ended.is_success() {
                self.tell(part, &ended);
                if how.is_success() {
                    how = ended;
                }
                if matches!(part, Part::Pre(_)) {
                    break;
                }
            }
        }
        Ok(how)
    }

    /// Ends what attempts before this one began elsewhere. It begins in any case: what could
    /// not be ended is recorded, and tried again before the next.
    fn clear_up(&self, found: &Found, supervisor: &mut Supervisor<'_>) {
        for (text, _) in &self.spec.left {
            found.take_over(text);
        }
        self.kill(found, &self.spec.left, supervisor);
    }

    /// Ends what this attempt began elsewhere, as it did not succeed. One that has lost its
    /// lease leaves that to the next: the cluster counts on its end.
    fn end_handles(&self, found: &Found, how: &EndKind, supervisor: &mut Supervisor<'_>) {
        // What the job wrote last may be on its way still.
        let is_waiting = |end: &io::PipeWriter| ioctl_fionread(end).is_ok_and(|bytes| bytes > 0);
        let until = Instant::now() + OUTPUT_WAIT;
        loop {
            let waits = self.ends.iter().any(is_waiting);
            // Also for who has read it, and does not hold it yet.
            std::thread::sleep(Duration::from_millis(KILL_STEP_MS));
            if !waits || Instant::now() > until {
                break;
            }
        }
        found.close();
        if *how != EndKind::LeaseExpired {
            self.kill(found, &found.left(), supervisor);
        }
    }

    /// One after the other, each bounded, and all together.
    fn kill(&self, found: &Found, left: &[(String, Vec<String>)], supervisor: &mut Supervisor<'_>) {
        let until = boot_ms().saturating_add(KILLS_MS);
        for (text, argv) in left {
            let shown = argv.join(" ");
            let now = boot_ms();
            let how = if argv.is_empty() {
                Err("this worker's interpreter knows no command that ends it".to_owned())
            } else if now >= until || supervisor.has_lost_its_lease(now) {
                Err("left out: there is no time left".to_owned())
            } else {
                supervisor.next_kill(now.saturating_add(KILL_MS).min(until));
                let step = Step { argv: argv.clone(), script: None };
                self.run(Part::Kill, step, None, supervisor).map_err(|failure| match failure {
                    Failure::Unsupported(why) | Failure::Failed(why) => why,
                })
            };
            let done = how.as_ref().is_ok_and(EndKind::is_success);
            let came_to = match how {
                Ok(EndKind::Exited { code }) => format!("exit {code}"),
                Ok(EndKind::Signaled { signal: 9 }) => format!("no end in {} s", KILL_MS / 1_000),
                Ok(other) => other.word().to_owned(),
                Err(why) => why,
            };
            let said = Handle::cut(&format!("{shown} -> {came_to}"));
            let _ = writeln!(&self.ends[1], "horai: {text}: {said}");
            found.ended(text, HandleEnd { done, said });
        }
        supervisor.end_kills();
    }

    /// Runs one part to its end, descendants included.
    fn run(
        &self,
        part: Part,
        step: Step,
        code: Option<i32>,
        supervisor: &mut Supervisor<'_>,
    ) -> Result<EndKind, Failure> {
        let (argv, script) = opened(self.dir, part, step)?;
        let shown =
            if self.is_private { "its program" } else { argv.first().map_or("", String::as_str) };
        let (shown, mut env) = (shown.to_owned(), self.env.clone());
        env.extend(code.map(|code| (EXIT_CODE.to_owned(), code.to_string())));
        let [stdout, stderr] = &self.ends;
        let ends = [stdout.try_clone()?, stderr.try_clone()?];
        let order = Order { shown, ..order(self.dir, self.spec, argv, env) };
        let job = begin(self.dir, self.spec, order, ends)?;
        // The job has it now, and nothing else here needs it.
        drop(script);
        if let Some(process) = kill::Process::of(job.id()) {
            fs::write(self.dir.join(dir::JOB), process.to_string())?;
        }
        let main = i32::try_from(job.id()).map_err(io::Error::other)?;
        let events = self.events.clone();
        std::thread::spawn(move || reap(main, &events));
        Ok(supervisor.run(&self.inbox))
    }

    /// Says in the output what a step has come to: the attempt's end does not name it.
    fn tell(&self, part: Part, how: &EndKind) {
        let said = match how {
            EndKind::Exited { code } => format!("exited with {code}"),
            EndKind::Signaled { signal } => format!("was ended by signal {signal}"),
            EndKind::NotStarted { message } | EndKind::LimitsUnsupported { message } => {
                format!("could not be started: {message}")
            }
            // Who was told to end says that as a whole.
            _ => return,
        };
        self.note(part, &said);
    }

    fn note(&self, part: Part, said: &str) {
        if let Some(field) = part.field() {
            // The copier never stops reading.
            let _ = writeln!(&self.ends[1], "horai: {field} {said}");
        }
    }
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
