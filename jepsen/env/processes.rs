//! Programs on a machine: started in its namespace and groups, killed, frozen.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Error, Machine, at};

/// How long a killed process may take to be gone: one in a hung disk takes long.
const GONE: Duration = Duration::from_secs(20);
/// How long a process may take to stop, or to go on.
const HALT: Duration = Duration::from_secs(2);
/// How long a command that is run to its end may take.
const COMMAND: Duration = Duration::from_secs(90);
/// What `timeout` exits with where the program had to be ended: asked, or killed.
const ENDED: [i32; 2] = [124, 137];
/// Enters the groups named before `--`, then becomes the program.
const ENTER: &str =
    r#"while [ "$1" != -- ]; do echo $$ > "$1" || exit 98; shift; done; shift; exec "$@""#;

/// A program that runs on a machine.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// How it ended, once it has.
    ended: Option<ExitStatus>,
}

/// A command that does not outlive the limit, whatever it waits for.
pub(crate) fn bounded(program: impl AsRef<OsStr>, limit: Duration) -> Command {
    let mut command = Command::new("timeout");
    command.args(bounds(limit)).arg(program).stdin(Stdio::null());
    command
}

fn bounds(limit: Duration) -> [String; 3] {
    // In the foreground: a Ctrl-C is for the program too.
    ["--foreground".into(), "--kill-after=5".into(), limit.as_secs().to_string()]
}

/// What a bounded command said, unless it had to be ended.
pub(crate) fn said(mut command: Command, what: &str) -> Result<Output, Error> {
    let out = command.output().map_err(at(&format!("run {what}")))?;
    match out.status.code() {
        Some(code) if ENDED.contains(&code) => {
            Err(Error::Misuse(format!("{what} took too long, and was ended")))
        }
        _ => Ok(out),
    }
}

fn command(
    machine: &Machine,
    program: &Path,
    arguments: &[&str],
    clock: bool,
    limit: Option<Duration>,
) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", ENTER, "enter"]).args(machine.group.entrances()).arg("--");
    if let Some(limit) = limit {
        command.arg("timeout").args(bounds(limit));
    }
    if clock {
        // Only for the program: a preloaded library should not meet the shell.
        command.arg("/usr/bin/env");
        let vars = machine.clock.environment();
        command.args(vars.map(|(name, value)| format!("{name}={value}")));
    }
    command.arg(program).args(arguments).stdin(Stdio::null());
    command
}

impl Process {
    /// Starts a program; what it says goes to the end of `log`.
    pub(crate) fn start(
        machine: &Machine,
        program: &Path,
        arguments: &[&str],
        log: &Path,
        clock: bool,
    ) -> Result<Self, Error> {
        let what = log.display().to_string();
        let out = File::options().create(true).append(true).open(log).map_err(at(&what))?;
        let also = out.try_clone().map_err(at(&what))?;
        let mut command = command(machine, program, arguments, clock, None);
        command.stdout(also).stderr(out);
        let child = machine.namespace.within(move || command.spawn())?;
        let child = child.map_err(at(&format!("start {}", program.display())))?;
        Ok(Self { child, ended: None })
    }

    /// Runs a command on a machine until it ends, which it does in time.
    pub(crate) fn run(
        machine: &Machine,
        program: &Path,
        arguments: &[&str],
        clock: bool,
    ) -> Result<Output, Error> {
        let command = command(machine, program, arguments, clock, Some(COMMAND));
        let what = program.display().to_string();
        machine.namespace.within(move || said(command, &what))?
    }

    fn pid(&self) -> Result<Pid, Error> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        pid.ok_or_else(|| Error::Misuse("a process without a number".into()))
    }

    /// How it ended; none while it runs.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().map_err(at("look at a process"))?;
        }
        Ok(self.ended)
    }

    /// Sends it a signal, if it still runs.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<(), Error> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        // Its number is ours until we have waited for it.
        kill_process(self.pid()?, signal).map_err(|e| at("signal a process")(e.into()))
    }

    /// Stops it, or lets it go on; done once the kernel says so.
    pub(crate) fn halt(&mut self, stopped: bool) -> Result<(), Error> {
        self.signal(if stopped { Signal::STOP } else { Signal::CONT })?;
        let file = format!("/proc/{}/stat", self.child.id());
        let end = Instant::now() + HALT;
        while self.ended()?.is_none() {
            let text = std::fs::read_to_string(&file).map_err(at(&format!("read {file}")))?;
            // Its name stands before it, in brackets.
            let state = text.rsplit(") ").next().and_then(|rest| rest.chars().next());
            if (state == Some('T')) == stopped {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(Error::Misuse(format!("{file} says {state:?} after a signal")));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Waits until it has ended; none if it has not in time.
    pub(crate) fn wait(&mut self, patience: Duration) -> Result<Option<ExitStatus>, Error> {
        let end = Instant::now() + patience;
        loop {
            let ended = self.ended()?;
            if ended.is_some() || Instant::now() > end {
                return Ok(ended);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// kill -9, and gone when this returns.
    pub(crate) fn kill(&mut self) -> Result<(), Error> {
        self.signal(Signal::KILL)?;
        match self.wait(GONE)? {
            Some(_) => Ok(()),
            None => Err(Error::Misuse(format!("process {} survives a kill", self.child.id()))),
        }
    }
}

/// How a process ended, in words.
pub(crate) fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_ends_in_time_or_is_ended() {
        let mut good = bounded("/bin/sh", Duration::from_secs(60));
        good.args(["-c", "echo done; exit 3"]);
        let out = said(good, "sh").unwrap();
        assert_eq!((out.status.code(), out.stdout.as_slice()), (Some(3), &b"done\n"[..]));
        let mut slow = bounded("sleep", Duration::from_secs(1));
        slow.arg("1000");
        let begun = Instant::now();
        let told = said(slow, "sleep").unwrap_err().to_string();
        assert_eq!(told, "sleep took too long, and was ended");
        assert!(begun.elapsed() < Duration::from_secs(500));
    }
}
