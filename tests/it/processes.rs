//! Hostile scripts, as real processes in real groups: what they try, what they get, and that
//! nothing of them is left.
//!
//! They need root and cgroups: a machine without these fails here and says what it lacks.

mod attached;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use horai::worker::cgroup::group::Group;
use horai::worker::cgroup::home::{Found, Home};
use horai::worker::clock::boot_ms;
use horai::worker::ending::Ending;
use horai::worker::shim::dir::Spec;
use horai::worker::shim::kill::Process;
use horai_core::model::confinement::{Confinement, Rlimit};
use horai_core::model::run::EndKind;

use crate::cluster::{PATIENCE, until};
use crate::worker::{Attempt, is_alive, spec};

fn home() -> Home {
    let Found { home, isolation } = Found::here();
    let all = Confinement {
        memory: Some(1 << 30),
        cpu: Some(1_000),
        pids: Some(100),
        run_as: Some("nobody".into()),
        ..Confinement::default()
    };
    let lacking = isolation.lacks(&all.needs());
    assert!(lacking.is_empty(), "this machine lacks {lacking:?}: {}", isolation.note);
    home.expect("what has all powers has a home")
}

/// A job in a group of its own that is found by its run's name.
struct Hostile {
    attempt: Attempt,
    group: Group,
    run: String,
}

impl Hostile {
    /// Where its groups are.
    fn folders(&self) -> Vec<&Path> {
        match &self.group {
            Group::V2 { folder, .. } => vec![folder],
            Group::V1 { folders } => folders.values().map(PathBuf::as_path).collect(),
        }
    }

    fn start(script: &str, confinement: Confinement, also: impl FnOnce(&mut Spec)) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let run = format!("r-{}-{number}", std::process::id());
        let group = home().group(&format!("horai-test-{run}"), &confinement);
        let mut spec = Spec { confinement, group: Some(group.clone()), ..spec(script) };
        spec.env.insert("HORAI_RUN_ID".into(), run.clone());
        spec.grace_ms = 100;
        also(&mut spec);
        Self { attempt: Attempt::start(&spec), group, run }
    }

    /// Its end; nothing of it is there any more then.
    fn ending(&mut self) -> Ending {
        let ending = self.attempt.ending();
        assert_eq!(of_run(&self.run, None), [] as [u32; 0], "left after {:?}", ending.report.how);
        assert!(self.folders().iter().all(|folder| !folder.exists()));
        ending
    }

    fn file(&self, v1: (&str, &str), v2: &str) -> PathBuf {
        match &self.group {
            Group::V2 { folder, .. } => folder.join(v2),
            Group::V1 { folders } => {
                let folder = folders.values().find(|f| f.to_str().unwrap().contains(v1.0));
                folder.unwrap().join(v1.1)
            }
        }
    }
}

/// Living processes of a run; of one cluster's, if a folder is given.
fn of_run(run: &str, folder: Option<&Path>) -> Vec<u32> {
    let mark = format!("HORAI_RUN_ID={run}");
    let below = folder.map(|folder| format!("HORAI_OUTPUT={}", folder.display()));
    let entries = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
    let pids = entries.filter_map(|name| name.to_str()?.parse::<u32>().ok());
    let is_of = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let has = |test: &dyn Fn(&[u8]) -> bool| environment.split(|b| *b == 0).any(test);
        has(&|entry| entry == mark.as_bytes())
            && below.as_ref().is_none_or(|below| has(&|e| e.starts_with(below.as_bytes())))
    };
    // A zombie has no environment any more.
    pids.filter(is_of).collect()
}

fn none() -> Confinement {
    Confinement::default()
}

/// Twice forked, in a session of its own, deaf to SIGTERM, and holding the output open.
const HIDDEN: &str =
    "(setsid sh -c 'trap \"\" TERM; (trap \"\" TERM; echo $$ > hidden; sleep 600) & wait' &) ; ";
const DEAF: &str = "trap '' TERM; echo > ready; while :; do sleep 0.05; done";

#[test]
fn a_process_that_hides_dies_with_its_attempt_however_that_ends() {
    let script = format!("{HIDDEN} {DEAF}");
    let deadline = |spec: &mut Spec| spec.deadline_ms = boot_ms() + 1_500;
    let timeout = |spec: &mut Spec| spec.timeout_ms = Some(1_500);
    let mut cancelled = Hostile::start(&script, none(), |_| ());
    let mut late = Hostile::start(&script, none(), timeout);
    let mut lost = Hostile::start(&script, none(), deadline);
    let leaving = format!("{HIDDEN} while [ ! -s hidden ]; do sleep 0.01; done; echo said");
    let mut leaving = Hostile::start(&leaving, none(), |_| ());
    let all = [&cancelled, &late, &lost];
    let hidden: Vec<Process> =
        all.iter().map(|hostile| hostile.attempt.process("hidden")).collect();
    cancelled.attempt.line("ready");
    cancelled.attempt.tell("cancel 100");
    assert_eq!(cancelled.ending().report.how, EndKind::Cancelled);
    assert_eq!(late.ending().report.how, EndKind::TimedOut);
    assert_eq!(lost.ending().report.how, EndKind::LeaseExpired);
    assert!(hidden.into_iter().all(|process| !is_alive(process)));
    // What holds the output open does not hold up the end of a job that is over.
    assert_eq!(leaving.ending().report.how, EndKind::Exited { code: 0 });
    assert_eq!(leaving.attempt.output(), "said\n");
}

/// There is always somebody of it, and nobody is there for long.
fn comet(then: &str) -> String {
    let flight = format!(
        "use POSIX; $SIG{{TERM}} = 'IGNORE'; open(my $f, '>', 'ready'); print $f \"$$\\n\"; \
         close $f; while (1) {{ exit if fork; {then} }}"
    );
    format!("setsid perl -e '{}' & wait; {DEAF}", flight.replace('\'', "'\\''"))
}

#[test]
fn a_job_that_forks_while_it_is_killed_is_killed() {
    let mut flying = Hostile::start(&comet("POSIX::setsid()"), none(), |_| ());
    flying.attempt.line("ready");
    flying.attempt.tell("cancel 50");
    assert_eq!(flying.ending().report.how, EndKind::Cancelled);
    // Without a group it may not leave its session every time.
    let mut flying = Hostile::start(&comet(""), none(), |spec| spec.group = None);
    flying.attempt.line("ready");
    flying.attempt.tell("cancel 50");
    assert_eq!(flying.ending().report.how, EndKind::Cancelled);
}

/// Nobody's descendant: a failed test leaves it to nobody.
struct Stranger(Child);

impl Drop for Stranger {
    fn drop(&mut self) {
        // It should be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn who_leaves_the_group_and_who_comes_into_it_go_with_the_attempt() {
    let script = "for up in $UP; do echo $$ > $up/cgroup.procs; done; setsid sleep 600 & \
                  echo $! > left; while :; do sleep 1; done";
    let mut job = Hostile::start(script, none(), |spec| {
        let group = spec.group.clone().unwrap();
        let up = |folder: &Path| folder.parent().unwrap().to_str().unwrap().to_owned();
        let all: BTreeSet<String> = match &group {
            Group::V2 { folder, .. } => [up(folder)].into(),
            Group::V1 { folders } => folders.values().map(|folder| up(folder)).collect(),
        };
        let all: Vec<String> = all.into_iter().collect();
        spec.env.insert("UP".into(), all.join(" "));
    });
    let left = job.attempt.process("left");
    assert!(job.group.is_empty(), "they have left it");
    let mut stranger = Stranger(Command::new("sleep").arg("600").spawn().unwrap());
    for folder in job.folders() {
        fs::write(folder.join("cgroup.procs"), stranger.0.id().to_string()).unwrap();
    }
    job.attempt.tell("cancel 50");
    assert_eq!(job.ending().report.how, EndKind::Cancelled);
    assert!(!is_alive(left));
    assert_eq!(stranger.0.wait().unwrap().signal(), Some(9));
}

#[test]
fn a_fork_bomb_gets_its_pids_and_goes() {
    let pids = Confinement { pids: Some(30), ..none() };
    // A shell that cannot fork would end by itself.
    let script = "exec perl -e '$SIG{TERM} = q(IGNORE); while (1) { fork }'";
    let mut bomb = Hostile::start(script, pids, |_| ());
    let events = bomb.file(("pids", "pids.events"), "pids.events");
    until("the bomb to meet its limit", || {
        let text = fs::read_to_string(&events).unwrap_or_default();
        text.lines()
            .find_map(|line| line.strip_prefix("max ")?.parse::<u64>().ok())
            .filter(|n| *n > 0)
    });
    bomb.attempt.tell("cancel 100");
    let ending = bomb.ending();
    assert_eq!(ending.report.how, EndKind::Cancelled);
    assert!(ending.usage.refused_forks > 0, "{ending:?}");
}

#[test]
fn a_memory_hog_is_killed_at_its_limit_and_that_is_told() {
    let memory = Confinement { memory: Some(64 << 20), ..none() };
    let mut hog = Hostile::start("tail /dev/zero; exit $?", memory, |_| ());
    let ending = hog.ending();
    assert_eq!(ending.report.how, EndKind::OomKilled);
    let peak = ending.usage.peak_memory_kib;
    assert!((32 << 10..=64 << 10).contains(&peak), "{peak} KiB at most");
    assert!(ending.usage.oom_kills > 0);
    // One that can do without what was killed is not to blame; of version 2 all are killed.
    let memory = Confinement { memory: Some(64 << 20), ..none() };
    let mut hog = Hostile::start("tail /dev/zero; exit 0", memory, |_| ());
    let ending = hog.ending();
    let wanted = match hog.group {
        Group::V1 { .. } => EndKind::Exited { code: 0 },
        Group::V2 { .. } => EndKind::OomKilled,
    };
    assert_eq!(ending.report.how, wanted);
    assert!(ending.usage.oom_kills > 0);
}

#[test]
fn a_burner_gets_its_share_of_a_core_and_no_more() {
    let cpu = Confinement { cpu: Some(200), ..none() };
    let burn = "while :; do :; done & while :; do :; done";
    let mut burner = Hostile::start(burn, cpu, |_| ());
    let stat = burner.file(("cpu/", "cpu.stat"), "cpu.stat");
    until("the kernel to hold it back", || {
        let text = fs::read_to_string(&stat).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("nr_throttled "));
        count?.parse::<u64>().ok().filter(|n| *n >= 10)
    });
    burner.attempt.tell("cancel 0");
    let ending = burner.ending();
    assert_eq!(ending.report.how, EndKind::Cancelled);
    let (started, ended) = (ending.report.started.unwrap(), ending.report.ended.unwrap());
    let share = ended.since(started).0 / 5;
    let used = ending.usage.cpu_ms;
    assert!(used > 0 && used <= share + share / 4 + 100, "{used} ms of CPU, {share} were due");
}

#[test]
fn umask_and_rlimits_are_the_jobs() {
    let rlimits = [(Rlimit::Nofile, 64), (Rlimit::Core, 0), (Rlimit::Fsize, 4096)].into();
    let confinement = Confinement { umask: Some(0o027), rlimits, ..none() };
    let script =
        "umask; ulimit -n; ulimit -H -n; ulimit -c; exec dd if=/dev/zero of=big bs=8192 count=1";
    let mut job = Hostile::start(script, confinement, |_| ());
    assert_eq!(job.ending().report.how, EndKind::Signaled { signal: 25 });
    let output = job.attempt.output();
    assert!(output.starts_with("0027\n64\n64\n0\n"), "{output}");
    let mode = job.attempt.work("big").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn who_uses_up_its_cpu_time_is_told_from_who_is_killed() {
    let confinement = Confinement { rlimits: [(Rlimit::Cpu, 1)].into(), ..none() };
    let mut burner = Hostile::start("ulimit -S -t; while :; do :; done", confinement, |_| ());
    let ending = burner.ending();
    assert_eq!(ending.report.how, EndKind::Signaled { signal: 24 });
    assert_eq!(burner.attempt.output(), "1\n");
    // What it used before it was in its group counts for the limit alone.
    assert!((300..3_000).contains(&ending.usage.cpu_ms), "{ending:?}");
}

#[test]
fn a_job_runs_as_who_it_should_and_sees_no_more_than_that() {
    let nobody = Confinement { run_as: Some("nobody".into()), ..none() };
    let script = "id -un; id -Gn; echo $USER; touch mine && echo A=1 > ../outputs; \
                  cat ../spec.json; echo x > ../spec.json; rm ../output-00000000000000000000; echo end";
    let mut job = Hostile::start(script, nobody, |_| ());
    let ending = job.ending();
    assert_eq!(ending.report.how, EndKind::Exited { code: 0 }, "{}", job.attempt.output());
    assert_eq!(ending.outputs["A"], "1");
    let output = job.attempt.output();
    assert!(output.starts_with("nobody\nnogroup\nnobody\n"), "{output}");
    assert!(output.contains("\nend\n") && !output.contains("argv"), "{output}");
    assert_eq!(output.matches("ermission denied").count(), 3, "{output}");
    let root = Confinement { run_as: Some("root".into()), ..none() };
    let mut job = Hostile::start("id -un; echo $HOME $USER $LOGNAME", root, |spec| {
        spec.env.insert("USER".into(), "said".into());
    });
    assert_eq!(job.ending().report.how, EndKind::Exited { code: 0 });
    assert_eq!(job.attempt.output(), "root\n/root said root\n");
    // Nothing of the worker's rights is left when the program is looked for.
    let closed = tempfile::tempdir().unwrap();
    fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(closed.path().join("x"), "").unwrap();
    let nobody = Confinement { run_as: Some("nobody".into()), ..none() };
    let mut job = Hostile::start("true", nobody, |spec| {
        spec.argv = vec![closed.path().join("x").to_str().unwrap().to_owned()];
    });
    let how = job.ending().report.how;
    assert!(
        matches!(&how, EndKind::NotStarted { message } if message.contains("denied")),
        "{how:?}"
    );
}

#[test]
fn what_cannot_be_held_to_its_limits_is_not_started() {
    let told = |confinement, also: fn(&mut Spec)| {
        let mut job = Hostile::start("echo started", confinement, also);
        let EndKind::LimitsUnsupported { message } = job.ending().report.how else {
            panic!("it was started")
        };
        assert!(
            !fs::read_to_string(job.attempt.path("output")).unwrap_or_default().contains("started")
        );
        message
    };
    let memory = Confinement { memory: Some(1 << 30), ..none() };
    let why = told(memory, |spec| spec.group = None);
    assert!(why.starts_with("limits.memory: this worker has no cgroups"), "{why}");
    let stranger = Confinement { run_as: Some("no-such-user".into()), ..none() };
    let why = told(stranger, |_| ());
    assert_eq!(why, "run_as: this machine has no user no-such-user");
    // More than the kernel gives anybody.
    let files = Confinement { rlimits: [(Rlimit::Nofile, 1 << 40)].into(), ..none() };
    let why = told(files, |_| ());
    assert!(why.starts_with("rlimits.nofile: 1099511627776: "), "{why}");
}

/// Version 2 has its own way to kill, which machines with version 1 have too.
#[test]
fn a_group_of_version_2_is_killed_whole() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let mount = mount.expect("this machine has no cgroup2 mounted").split(' ').nth(4).unwrap();
    let folder = Path::new(mount).join(format!("horai-test-{}", std::process::id()));
    let group = Group::V2 { folder: folder.clone(), controllers: BTreeSet::new() };
    group.create(&none()).unwrap();
    let script =
        "mkdir $0/inner; echo $$ > $0/inner/cgroup.procs; setsid sleep 600 & echo up; wait";
    let mut job = Command::new("/bin/sh")
        .args(["-c", script, folder.to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    until("its processes", || {
        let inner = fs::read_to_string(folder.join("inner/cgroup.procs")).unwrap_or_default();
        (inner.lines().count() == 2).then_some(())
    });
    assert!(!group.is_empty() && group.remove(Duration::ZERO).is_err());
    assert!(group.kill_all(PATIENCE));
    assert!(!job.wait().unwrap().success());
    group.remove(PATIENCE).unwrap();
    assert!(!folder.exists() && group.is_empty());
}
