//! The system calls of a running node, in the order in which they happened.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::until;

/// Long enough for a whole write of the log.
const LONGEST: &str = "1000000";

/// One call: its text, the lines at which it began and ended, and what it returned.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) began: usize,
    pub(crate) ended: usize,
    pub(crate) result: String,
}

/// `strace` on a process.
pub(crate) struct Trace {
    child: Child,
    file: PathBuf,
}

impl Trace {
    /// Follows all threads of a process; only the calls named.
    #[track_caller]
    pub(crate) fn of(pid: Pid, calls: &str, file: &Path) -> Self {
        let said = file.with_extension("said");
        let child = Command::new("strace")
            .args(["-f", "-y", "-s", LONGEST, "-e", &format!("trace={calls}"), "-o"])
            .arg(file)
            .args(["-p", &pid.as_raw_nonzero().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&said).unwrap())
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => panic!("cannot run strace, which this test needs: {error}. Install it"),
        };
        until("strace to follow the process", || {
            let said = std::fs::read_to_string(&said).unwrap();
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "strace must be allowed to follow processes: {said}");
            said.contains("attached").then_some(())
        });
        Self { child, file: file.to_owned() }
    }

    /// Runs a command to its end; the calls that it made.
    #[track_caller]
    pub(crate) fn of_command(
        program: &str,
        arguments: &[&str],
        calls: &str,
        file: &Path,
    ) -> Vec<Call> {
        let ran = Command::new("strace")
            .args(["-f", "-y", "-e", &format!("trace={calls}"), "-o"])
            .arg(file)
            .arg(program)
            .args(arguments)
            .output();
        let out = ran.unwrap_or_else(|error| {
            panic!("cannot run strace, which this test needs: {error}. Install it")
        });
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        parse(&String::from_utf8_lossy(&std::fs::read(file).unwrap()))
    }

    /// Lets the process go on alone; the calls so far.
    #[track_caller]
    pub(crate) fn end(mut self) -> Vec<Call> {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        until("the end of strace", || self.child.try_wait().unwrap());
        // What is sent need not be text.
        let text = String::from_utf8_lossy(&std::fs::read(&self.file).unwrap()).into_owned();
        parse(&text)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines are `PID call(arguments) = result`; a call during which another thread
/// made one is cut in two.
fn parse(text: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut open: HashMap<&str, usize> = HashMap::new();
    for (at, line) in text.lines().enumerate() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        let result = rest.rsplit_once(" = ").map_or("", |(_, result)| result).to_owned();
        if rest.starts_with("<... ") {
            if let Some(call) = open.remove(pid).and_then(|index| calls.get_mut(index)) {
                call.ended = at;
                call.result = result;
            }
        } else if let Some((name, text)) = rest.split_once('(') {
            let unfinished = text.ends_with("<unfinished ...>");
            let ended = if unfinished { usize::MAX } else { at };
            let (name, text) = (name.to_owned(), text.to_owned());
            calls.push(Call { name, text, began: at, ended, result });
            if unfinished {
                open.insert(pid, calls.len() - 1);
            }
        }
    }
    calls
}

#[test]
fn calls_that_were_cut_in_two_are_joined() {
    let text = "7  pwrite64(5</a/db>, \"x = 1\", 5, 0 <unfinished ...>\n\
                8  fdatasync(6</b/db>) = 0\n\
                7  <... pwrite64 resumed>) = 5\n";
    let calls = parse(text);
    let shown: Vec<_> =
        calls.iter().map(|c| (c.name.as_str(), c.began, c.ended, c.result.as_str())).collect();
    assert_eq!(shown, [("pwrite64", 0, 2, "5"), ("fdatasync", 1, 1, "0")]);
}
