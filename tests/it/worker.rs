//! Shims as real processes: what they start, end and leave behind.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use horai::chunks::{Content, Piece};
use horai::worker::clock::boot_ms;
use horai::worker::ending::Ending;
use horai::worker::output::{Reader, files};
use horai::worker::shim::dir::{self, Spec};
use horai::worker::shim::kill::{self, Process};
use horai_core::ids::{AttemptKey, RunId};
use horai_core::machine::command::EndReport;
use horai_core::model::confinement::Confinement;
use horai_core::model::run::EndKind;

use crate::cluster::{HORAI, PATIENCE, until};

pub(crate) struct Attempt {
    pub(crate) folder: tempfile::TempDir,
    shim: Child,
    control: File,
}

pub(crate) fn spec(script: &str) -> Spec {
    Spec {
        argv: vec!["/bin/sh".into(), "-c".into(), script.into()],
        env: BTreeMap::from([("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())]),
        timeout_ms: None,
        grace_ms: 5_000,
        deadline_ms: boot_ms() + 60_000,
        lease_ms: 60_000,
        keep_for_ms: 0,
        output_limit: 1 << 20,
        cluster_offset_ms: 1_000_000,
        private: false,
        confinement: Confinement::default(),
        group: None,
        pre: Vec::new(),
        post: Vec::new(),
        handles: Vec::new(),
        left: Vec::new(),
    }
}

impl Attempt {
    pub(crate) fn start(spec: &Spec) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join(dir::CONTROL);
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let control = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        std::fs::write(folder.path().join(dir::OUTPUTS), "").unwrap();
        dir::write_spec(folder.path(), spec).unwrap();
        let shim = spawn_shim(folder.path());
        Self { folder, shim, control }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn work(&self, name: &str) -> PathBuf {
        self.path(dir::WORK).join(name)
    }

    pub(crate) fn tell(&mut self, order: &str) {
        writeln!(self.control, "{order}").unwrap();
    }

    /// Waits for `name` in the job's folder to hold a line.
    pub(crate) fn line(&self, name: &str) -> String {
        until(name, || {
            let text = std::fs::read_to_string(self.work(name)).ok()?;
            text.strip_suffix('\n').map(ToOwned::to_owned)
        })
    }

    pub(crate) fn process(&self, name: &str) -> Process {
        Process::of(self.line(name).parse().unwrap()).unwrap()
    }

    pub(crate) fn ending(&mut self) -> Ending {
        until("the shim's end", || self.shim.try_wait().unwrap());
        dir::read_result(self.folder.path()).unwrap().expect("a result")
    }

    pub(crate) fn result(&mut self) -> EndReport {
        self.ending().report
    }

    /// All that it wrote, in its order.
    fn pieces(&self) -> Vec<Piece> {
        let key = AttemptKey { run: RunId(1), shard: 0, number: 1 };
        let mut reader = Reader::new(key, self.folder.path().to_owned(), 0);
        std::iter::from_fn(|| reader.next(1 << 20).unwrap()).collect()
    }

    /// Standard output, then standard error.
    fn streams(&self) -> [String; 2] {
        let mut streams = [String::new(), String::new()];
        for piece in self.pieces() {
            let Content::Data { bytes, marks } = &piece.content else { panic!("a gap") };
            let ends = marks.iter().skip(1).map(|mark| mark.at).chain([piece.to]);
            for (mark, end) in marks.iter().zip(ends) {
                let place = |at: u64| usize::try_from(at - piece.from).unwrap();
                let text = std::str::from_utf8(&bytes[place(mark.at)..place(end)]).unwrap();
                streams[mark.stream as usize].push_str(text);
            }
        }
        streams
    }

    /// Standard output, and then standard error.
    pub(crate) fn output(&self) -> String {
        self.streams().concat()
    }

    fn sum(&self) -> u32 {
        self.pieces().iter().fold(0, |sum, piece| match &piece.content {
            Content::Data { bytes, .. } => crc32c::crc32c_append(sum, bytes),
            Content::Gap => panic!("a gap"),
        })
    }
}

/// A failed test leaves no job behind.
impl Drop for Attempt {
    fn drop(&mut self) {
        let _ = writeln!(self.control, "cancel 0");
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end && matches!(self.shim.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn spawn_shim(folder: &Path) -> Child {
    Command::new(HORAI).arg("shim").arg(folder).stdin(Stdio::null()).spawn().unwrap()
}

pub(crate) fn is_alive(process: Process) -> bool {
    process.open().is_some()
        && std::fs::read_to_string(format!("/proc/{}/stat", process.pid))
            .is_ok_and(|s| !s.rsplit_once(')').is_some_and(|(_, r)| r.starts_with(" Z")))
}

#[test]
fn exit_code_output_order_and_sum_are_recorded_and_the_environment_is_clean() {
    let script = "for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done; env | sort; exit 7";
    let mut attempt = Attempt::start(&spec(script));
    let report = attempt.result();
    assert_eq!(report.how, EndKind::Exited { code: 7 });
    let [out, err] = attempt.streams();
    let expected = |word: &str| (1..=5).map(|i| format!("{word} {i}\n")).collect::<String>();
    let environment = out.strip_prefix(&expected("out")).expect("order is kept");
    assert_eq!(err, expected("err"));
    let mut names: Vec<&str> =
        environment.lines().filter_map(|l| Some(l.split_once('=')?.0)).collect();
    // A shell sets these itself.
    names.retain(|name| !matches!(*name, "PWD" | "_" | "SHLVL" | "OLDPWD"));
    assert_eq!(names, ["PATH"]);
    assert_eq!(report.output_bytes, (out.len() + err.len()) as u64);
    assert_eq!(report.output_crc, attempt.sum());
    let (started, ended) = (report.started.unwrap(), report.ended.unwrap());
    assert!(started <= ended && started.0 > 1_000_000);
}

#[test]
fn a_program_that_does_not_exist_is_not_started() {
    let mut no_program = spec("");
    no_program.argv = vec!["/no/such/program".into()];
    let report = Attempt::start(&no_program).result();
    let EndKind::NotStarted { message } = report.how else { panic!("{:?}", report.how) };
    assert!(message.contains("/no/such/program"), "{message}");
}

#[test]
fn a_signal_is_told_from_an_exit() {
    let report = Attempt::start(&spec("kill -USR1 $$; sleep 60")).result();
    assert_eq!(report.how, EndKind::Signaled { signal: 10 });
}

/// Leaves the group and the parent: only the subreaper's view finds it.
const GRANDCHILD: &str = "(setsid sh -c 'trap \"\" TERM; echo $$ > hidden; exec sleep 600' &) ; ";

#[test]
fn the_end_of_the_lease_kills_a_grandchild_in_its_own_session() {
    let mut short = spec(&format!("{GRANDCHILD} trap '' TERM; while :; do sleep 1; done"));
    short.deadline_ms = boot_ms() + 700;
    short.grace_ms = 100;
    let mut attempt = Attempt::start(&short);
    let hidden = attempt.process("hidden");
    assert_eq!(attempt.result().how, EndKind::LeaseExpired);
    assert!(!is_alive(hidden));
    assert!(boot_ms() >= short.deadline_ms);
}

#[test]
fn what_a_finished_job_leaves_behind_is_ended_too() {
    let mut leaving =
        spec(&format!("{GRANDCHILD} while [ ! -s hidden ]; do sleep 0.01; done; exit 0"));
    leaving.grace_ms = 100;
    let mut attempt = Attempt::start(&leaving);
    let hidden = attempt.process("hidden");
    assert_eq!(attempt.result().how, EndKind::Exited { code: 0 });
    assert!(!is_alive(hidden));
}

#[test]
fn an_extended_lease_lets_the_job_finish_and_keep_outlives_it() {
    let script = "echo > ready; while [ ! -e go ]; do sleep 0.02; done";
    for keep_for_ms in [0, 60_000] {
        let mut short = spec(script);
        short.deadline_ms = boot_ms() + 1_500;
        short.keep_for_ms = keep_for_ms;
        let mut attempt = Attempt::start(&short);
        if keep_for_ms == 0 {
            attempt.tell(&format!("extend {}", boot_ms() + 60_000));
        }
        attempt.line("ready");
        until("the first deadline", || (boot_ms() > short.deadline_ms + 300).then_some(()));
        std::fs::write(attempt.work("go"), "").unwrap();
        assert_eq!(attempt.result().how, EndKind::Exited { code: 0 });
    }
}

#[test]
fn a_cancelled_job_may_clean_up_within_its_grace() {
    let script = "trap 'echo cleaned; exit 0' TERM; echo > ready; while :; do sleep 0.02; done";
    let mut attempt = Attempt::start(&spec(script));
    attempt.line("ready");
    attempt.tell("cancel 20000");
    assert_eq!(attempt.result().how, EndKind::Cancelled);
    assert!(attempt.streams()[0].ends_with("cleaned\n"));
}

#[test]
fn a_cancelled_job_that_will_not_end_is_killed_after_its_grace() {
    let script = "trap '' TERM; echo $$ > ready; while :; do sleep 0.02; done";
    let mut attempt = Attempt::start(&spec(script));
    let job = attempt.process("ready");
    let asked = Instant::now();
    attempt.tell("cancel 300");
    assert_eq!(attempt.result().how, EndKind::Cancelled);
    assert!(asked.elapsed() >= Duration::from_millis(300));
    assert!(!is_alive(job));
}

#[test]
fn a_job_that_runs_too_long_is_timed_out() {
    let mut limited = spec("sleep 600");
    limited.timeout_ms = Some(200);
    let mut attempt = Attempt::start(&limited);
    assert_eq!(attempt.result().how, EndKind::TimedOut);
}

#[test]
fn what_a_job_puts_out_is_written_down_with_its_end() {
    // The file is the shim's to read, whatever the environment says of it.
    let mut attempt = Attempt::start(&spec("printf 'A=1\\nB<<E\\nx\\ny\\nE\\n' > ../outputs"));
    let ending = attempt.ending();
    assert_eq!(ending.report.how, EndKind::Exited { code: 0 });
    assert_eq!((ending.outputs["A"].as_str(), ending.outputs["B"].as_str()), ("1", "x\ny"));
    let mut attempt = Attempt::start(&spec("echo A=1 > ../outputs; exit 3"));
    assert!(attempt.ending().outputs.is_empty());
    let mut attempt = Attempt::start(&spec("rm ../outputs && mkfifo ../outputs"));
    assert_eq!(attempt.result().how, EndKind::bad_output("it is no file any more"));
}

#[test]
fn a_lease_that_is_over_starts_nothing() {
    let mut late = spec("echo started");
    late.deadline_ms = boot_ms().saturating_sub(1);
    let mut attempt = Attempt::start(&late);
    assert_eq!(attempt.result().how, EndKind::LeaseExpired);
    assert!(files(attempt.folder.path()).unwrap().is_empty());
}

#[test]
fn a_second_shim_of_one_attempt_does_nothing() {
    let script = "echo run >> runs; while [ ! -e go ]; do sleep 0.02; done";
    let mut attempt = Attempt::start(&spec(script));
    attempt.line("runs");
    assert!(!spawn_shim(attempt.folder.path()).wait().unwrap().success());
    std::fs::write(attempt.work("go"), "").unwrap();
    assert_eq!(attempt.result().how, EndKind::Exited { code: 0 });
    assert!(spawn_shim(attempt.folder.path()).wait().unwrap().success());
    assert_eq!(attempt.line("runs"), "run");
}

#[test]
fn what_a_killed_shim_leaves_is_found_by_its_token() {
    let mut marked = spec(&format!("{GRANDCHILD} sleep 600"));
    // Unique per test process, so that nothing else can be meant.
    let token = u64::from(std::process::id()) << 20;
    let marks = [("HORAI_ATTEMPT", "r-9.1".to_owned()), ("HORAI_FENCING_TOKEN", token.to_string())];
    marked.env.extend(marks.clone().map(|(name, value)| (name.into(), value)));
    marked.env.insert("HORAI_OUTPUT".into(), "/a/outputs".into());
    let mut attempt = Attempt::start(&marked);
    let hidden = attempt.process("hidden");
    let job: Process = std::fs::read_to_string(attempt.path(dir::JOB)).unwrap().parse().unwrap();
    attempt.shim.kill().unwrap();
    attempt.shim.wait().unwrap();
    assert!(is_alive(hidden) && is_alive(job));
    // The same attempt of another cluster on this machine is none of this worker's.
    assert!(kill::kill_orphans(None, &marks, Path::new("/b"), PATIENCE));
    assert!(is_alive(hidden) && is_alive(job));
    assert!(kill::kill_orphans(Some(job), &marks, Path::new("/a"), PATIENCE));
    assert!(!is_alive(hidden) && !is_alive(job));
    assert_eq!(dir::read_result(attempt.folder.path()).unwrap(), None);
}
