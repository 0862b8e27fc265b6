//! `jepsen doctor`: does each fault, and sees whether it is one.
//!
//! A harness whose faults do nothing finds nothing. So nothing is looked up or
//! assumed here: packets are counted, files are lost, processes die, clocks are
//! read. One line an ability; the answer is whether all of them work.

mod disks;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::env::clocks::Clock;
use crate::env::links::{Host, Link, between, on, one_way, ring};
use crate::env::namespaces::PRIVATE;
use crate::env::network::{HARNESS, address};
use crate::env::processes::Process;
use crate::env::{Env, Error, Machine, Plan, at, witness};
use crate::error::chain;

/// Enough for every shape of a partition.
const MACHINES: Host = 5;
const HOSTS: [Host; 6] = [1, 2, 3, 4, 5, HARNESS];
const DISK_MIB: u64 = 48;
/// The machine whose disk has a cache.
const TEARING: Host = 5;
/// Where a machine listens, and how long its connections wait.
const STREAM_PORT: u16 = 7098;
const STREAM: Duration = Duration::from_secs(5);
const SHELL: &str = "/bin/sh";

/// How often an ability is tried before it counts as missing.
const TRIES: u32 = 3;

type Check = fn(&mut Trial) -> Result<String, Error>;

/// What is checked, in this order.
const CHECKS: [(&str, Check); 29] = [
    ("witness: static, and true under a false clock", static_witness),
    ("network: all hear all", |t| shape(t, &[])),
    ("partition: one alone", |t| shape(t, &between(&[1], &[2, 3, 4, 5]))),
    ("partition: majority and minority", |t| shape(t, &between(&[1, 2], &[3, 4, 5]))),
    ("partition: majorities on a ring", |t| shape(t, &ring(&[1, 2, 3, 4, 5]))),
    ("partition: two halves and a bridge", |t| shape(t, &between(&[1, 2], &[4, 5]))),
    ("partition: one way out", |t| shape(t, &one_way(&[1], &[2, 3, 4, 5]))),
    ("partition: one way in", |t| shape(t, &one_way(&[2, 3, 4, 5], &[1]))),
    ("partition: one directed edge", |t| shape(t, &one_way(&[1], &[2]))),
    ("packets: delay", delay),
    ("packets: loss", loss),
    ("packets: duplication", duplication),
    ("packets: slow link", slow_link),
    ("packets: long ones vanish", short_packets),
    ("packets: connections reset", reset_connections),
    ("disk: power cut", disks::power_cut),
    ("disk: power cut tears what was not flushed", disks::torn_sectors),
    ("disk: one that lies about flushes is found out", disks::lying_disk),
    ("disk: full", disks::full_disk),
    ("disk: hung", disks::hung_disk),
    ("disk: slow", disks::slow_disk),
    ("disk: read-only", disks::read_only_disk),
    ("disk: dead", disks::dead_disk),
    ("disk: bits turned over", disks::turned_bits),
    ("processes: freeze and kill", freeze_and_kill),
    ("processes: one stopped, its children not", halt),
    ("processes: no more than a few", few_processes),
    ("processes: little processor", little_processor),
    ("clocks: set off, and back", clocks),
];

struct Trial {
    env: Env,
    witness: Option<PathBuf>,
    folder: PathBuf,
}

impl Trial {
    fn build() -> Result<Self, Error> {
        let folder = Path::new(PRIVATE).join("doctor");
        fs::create_dir_all(&folder).map_err(at(&folder.display().to_string()))?;
        let machines = (1..=MACHINES).map(|host| (format!("n{host}"), host)).collect();
        let disk_folder = std::env::temp_dir();
        let plan = Plan {
            machines,
            tearing: &[TEARING],
            disk_mib: DISK_MIB,
            disk_folder: &disk_folder,
            seed: 1,
        };
        Ok(Self { env: Env::build(&plan)?, witness: None, folder })
    }

    fn machine(&mut self) -> &mut Machine {
        &mut self.env.machines[0]
    }

    fn shell(&self, script: &str, clock: bool) -> Result<String, Error> {
        let machine = &self.env.machines[0];
        let out = Process::run(machine, Path::new(SHELL), &["-c", script], clock)?;
        if !out.status.success() {
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            return Err(Error::Misuse(format!("{script:?} on a machine failed: {said}")));
        }
        Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    }
}

/// Checks everything and says so, line by line. True if all of it works.
pub(crate) fn run(out: &mut impl Write) -> std::io::Result<bool> {
    let (begun, mut broken) = (Instant::now(), 0);
    let mut trial = match Trial::build() {
        Ok(trial) => trial,
        Err(error) => {
            writeln!(out, "FAIL environment: {}", chain(&error))?;
            return Ok(false);
        }
    };
    for (name, check) in CHECKS {
        let mut done = check(&mut trial);
        // On a busy machine a measure of time may fail by chance; a fault that is none
        // fails each time.
        for _ in 1..TRIES {
            if done.is_err() {
                done = check(&mut trial);
            }
        }
        match done {
            Ok(said) => writeln!(out, "ok   {name}: {said}")?,
            Err(error) => {
                broken += 1;
                writeln!(out, "FAIL {name}: {}", chain(&error))?;
            }
        }
    }
    let took = begun.elapsed().as_secs_f32();
    match broken {
        0 => writeln!(out, "doctor: all {} abilities work ({took:.1} s)", CHECKS.len())?,
        n => writeln!(out, "doctor: {n} of {} abilities do not work ({took:.1} s)", CHECKS.len())?,
    }
    Ok(broken == 0)
}

/// Builds everything, says so, and waits to be killed: to see what stays behind.
pub(crate) fn hold(out: &mut impl Write) -> std::io::Result<bool> {
    let held = Trial::build().and_then(|mut trial| {
        let log = trial.folder.join("log");
        let start = |machine: &Machine, script: &str| {
            Process::start(machine, Path::new(SHELL), &["-c", script], &log, false)
        };
        let sleeper = start(&trial.env.machines[0], "setsid sleep 1000 & exec sleep 1000")?;
        // Who waits for a disk that does not answer cannot be killed until it does.
        let tearing = &mut trial.env.machines[usize::from(TEARING) - 1];
        let waiting = tearing.disk.at().join("waiting").display().to_string();
        let writes = format!("while :; do dd if=/dev/zero of={waiting} count=9 conv=fsync; done");
        let writer = start(tearing, &writes)?;
        let end = Instant::now() + STREAM;
        while !Path::new(&waiting).exists() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
        tearing.disk.stop_answering()?;
        Ok((trial, sleeper, writer))
    });
    match held {
        Ok(_) => {
            writeln!(out, "holding {}", crate::env::namespaces::group())?;
            out.flush()?;
            loop {
                std::thread::park();
            }
        }
        Err(error) => {
            writeln!(out, "FAIL environment: {}", chain(&error))?;
            Ok(false)
        }
    }
}

fn ensure(is: bool, otherwise: impl FnOnce() -> String) -> Result<(), Error> {
    if is { Ok(()) } else { Err(Error::Misuse(otherwise())) }
}

fn static_witness(trial: &mut Trial) -> Result<String, Error> {
    Clock::check()?;
    let program = witness::build(&trial.folder)?;
    let (folder, path) = (trial.folder.display().to_string(), program.display().to_string());
    trial.machine().clock.set(3_600_000, 1000)?;
    trial.shell(&format!("{path} --to {folder}"), true)?;
    trial.machine().clock.set(0, 1000)?;
    let file = trial.folder.join("unknown.jsonl");
    let line = fs::read_to_string(&file).map_err(at(&file.display().to_string()))?;
    let line: serde_json::Value = line
        .lines()
        .find(|line| !line.is_empty())
        .and_then(|line| serde_json::from_str(line).ok())
        .ok_or_else(|| Error::Misuse("the witness wrote no line".into()))?;
    let told = i128::from(line["utc_ns"].as_u64().unwrap_or(0)) / 1_000_000_000;
    let off = told - i128::from(jiff::Timestamp::now().as_second());
    ensure(off.abs() < 60, || format!("a preloaded clock put it off by {off} s"))?;
    trial.witness = Some(program);
    Ok("told true time".into())
}

fn shape(trial: &mut Trial, cut: &[(Host, Host)]) -> Result<String, Error> {
    let network = &trial.env.network;
    network.lay(1, on(cut.iter().copied(), Link::CUT));
    let found = network.verify(&HOSTS)?;
    let heard = network.reach(&HOSTS)?.len();
    network.lift(1);
    ensure(found.is_empty(), || found.join(", "))?;
    let pairs = HOSTS.len() * (HOSTS.len() - 1);
    ensure(heard == pairs - cut.len(), || format!("{heard} of {pairs} pairs hear each other"))?;
    let healed = network.verify(&HOSTS)?;
    ensure(healed.is_empty(), || format!("after healing: {}", healed.join(", ")))?;
    Ok(format!("{heard} of {pairs} pairs hear each other"))
}

fn delay(trial: &mut Trial) -> Result<String, Error> {
    let network = &trial.env.network;
    network.lay(1, on(between(&[1], &[2]), Link { delay_us: 50_000, ..Link::default() }));
    let there = network.trip(1, 2)?.unwrap_or_default();
    let other = network.trip(1, 3)?.unwrap_or_default();
    network.lift(1);
    let slow = Duration::from_millis(100)..Duration::from_millis(400);
    ensure(slow.contains(&there), || format!("50 ms each way made {there:?}"))?;
    ensure(other < slow.start, || format!("another link took {other:?}"))?;
    Ok(format!("50 ms each way made {there:.1?}, another link took {other:.1?}"))
}

fn loss(trial: &mut Trial) -> Result<String, Error> {
    let network = &trial.env.network;
    network.lay(1, on(one_way(&[1], &[2]), Link { loss: 300, ..Link::default() }));
    let arrived = network.count_arrivals(1, 2, 1000, 8)?;
    let back = network.count_arrivals(2, 1, 1000, 8)?;
    network.lift(1);
    ensure((600..800).contains(&arrived), || format!("at 30 % loss {arrived} of 1000 arrived"))?;
    ensure(back == 1000, || format!("the other way only {back} of 1000 arrived"))?;
    Ok(format!("at 30 % {arrived} of 1000 arrived, the other way all"))
}

fn duplication(trial: &mut Trial) -> Result<String, Error> {
    let network = &trial.env.network;
    network.lay(1, on(one_way(&[1], &[2]), Link { twice: 500, ..Link::default() }));
    let arrived = network.count_arrivals(1, 2, 400, 8)?;
    network.lift(1);
    ensure((520..680).contains(&arrived), || format!("of 400 at 50 % came {arrived}"))?;
    Ok(format!("of 400 at 50 % came {arrived}"))
}

fn slow_link(trial: &mut Trial) -> Result<String, Error> {
    let network = &trial.env.network;
    network.lay(1, on(one_way(&[1], &[2]), Link { rate: 8_000, ..Link::default() }));
    // A datagram of 9 bytes is a packet of 37: 37 ms at 8 kbit/s.
    let took = network.trip(1, 2)?.unwrap_or_default();
    network.lift(1);
    let right = Duration::from_millis(37)..Duration::from_millis(400);
    ensure(right.contains(&took), || format!("37 bytes at 8 kbit/s took {took:?}"))?;
    Ok(format!("37 bytes at 8 kbit/s took {took:.1?}"))
}

fn short_packets(trial: &mut Trial) -> Result<String, Error> {
    let network = &trial.env.network;
    network.lay(1, on(one_way(&[1], &[2]), Link { longest: 500, ..Link::default() }));
    let (short, long) =
        (network.count_arrivals(1, 2, 20, 100)?, network.count_arrivals(1, 2, 20, 1000)?);
    network.lift(1);
    ensure((short, long) == (20, 0), || format!("{short} short and {long} long of 20 arrived"))?;
    Ok("short ones arrived, long ones did not".into())
}

fn reset_connections(trial: &mut Trial) -> Result<String, Error> {
    let at_server = SocketAddr::from((address(2), STREAM_PORT));
    let [client, server] = [&trial.env.machines[0], &trial.env.machines[1]];
    let listener = server.namespace.within(|| TcpListener::bind(at_server))?;
    let listener = listener.map_err(at("listen on a machine"))?;
    let connect = || client.namespace.within(|| TcpStream::connect_timeout(&at_server, STREAM));
    let mut asks = connect()?.map_err(at("connect two machines"))?;
    let (mut answers, _) = listener.accept().map_err(at("accept a connection"))?;
    for end in [&asks, &answers] {
        end.set_read_timeout(Some(STREAM)).map_err(at("prepare a connection"))?;
    }
    let network = &trial.env.network;
    network.lay(1, on(one_way(&[1], &[2]), Link { reset: true, ..Link::default() }));
    let sent = asks.write_all(b"x");
    let seen = [&mut asks, &mut answers].map(|end| end.read(&mut [0]).map_err(|e| e.kind()));
    let again = connect()?.map(drop).map_err(|e| e.kind());
    network.lift(1);
    sent.map_err(at("send to another machine"))?;
    let over = Err(ErrorKind::ConnectionReset);
    ensure(seen == [over, over], || format!("the two ends of a connection saw {seen:?}"))?;
    let refused = Err(ErrorKind::ConnectionRefused);
    ensure(again == refused, || format!("a new connection was {again:?}"))?;
    connect()?.map_err(at("connect after healing"))?;
    Ok("both ends told, new ones refused".into())
}

fn freeze_and_kill(trial: &mut Trial) -> Result<String, Error> {
    let counter = trial.folder.join("counter");
    let log = trial.folder.join("log");
    // A child that left its parent's session must freeze and die with it.
    let work = format!("while :; do echo >> {}; sleep 0.01; done", counter.display());
    let script = format!("setsid sh -c '{work}' & wait");
    let machine = &trial.env.machines[0];
    let mut process = Process::start(machine, Path::new(SHELL), &["-c", &script], &log, false)?;
    let grows = |within| grows(&counter, within);
    ensure(grows(Duration::from_secs(5)), || "the process did nothing".into())?;
    let frozen = machine.group.freeze(true)?;
    ensure(frozen && !grows(Duration::from_millis(300)), || "a frozen process went on".into())?;
    machine.group.freeze(false)?;
    ensure(grows(Duration::from_secs(5)), || "it did not go on when thawed".into())?;
    let count = machine.pids()?.len();
    machine.kill()?;
    ensure(!grows(Duration::from_millis(200)), || "a killed process went on".into())?;
    ensure(process.wait(Duration::from_secs(5))?.is_some(), || "it is still there".into())?;
    Ok(format!("{count} processes, one in a session of its own"))
}

/// True if a file becomes longer within this time.
fn grows(file: &Path, within: Duration) -> bool {
    let size = || fs::metadata(file).map_or(0, |m| m.len());
    let (end, first) = (Instant::now() + within, size());
    while Instant::now() < end {
        if size() > first {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

fn halt(trial: &mut Trial) -> Result<String, Error> {
    let [own, childs] = ["own", "childs"].map(|name| trial.folder.join(name));
    let write = |to: &Path| format!("while :; do echo >> {}; sleep 0.01; done", to.display());
    let script = format!("{} & {}", write(&childs), write(&own));
    let (machine, log) = (&trial.env.machines[0], trial.folder.join("log"));
    let mut process = Process::start(machine, Path::new(SHELL), &["-c", &script], &log, false)?;
    let (soon, short) = (Duration::from_secs(5), Duration::from_millis(300));
    ensure(grows(&own, soon) && grows(&childs, soon), || "the processes did nothing".into())?;
    process.halt(true)?;
    let (stopped, went_on) = (!grows(&own, short), grows(&childs, soon));
    process.halt(false)?;
    let again = grows(&own, soon);
    machine.kill()?;
    process.wait(soon)?;
    ensure(stopped && went_on && again, || {
        format!("stopped: {stopped}, its child went on: {went_on}, and it itself later: {again}")
    })?;
    Ok("its child went on, and it itself later".into())
}

fn few_processes(trial: &mut Trial) -> Result<String, Error> {
    let script = "sleep 0.1 & sleep 0.1 & sleep 0.1 & sleep 0.1 & sleep 0.1 & wait; echo all";
    let most = trial.machine().group.process_limit(Some(4))?;
    let few = trial.shell(script, false);
    trial.machine().group.process_limit(None)?;
    ensure(few.is_err(), || format!("with {most:?} allowed 7 processes began"))?;
    trial.shell(script, false)?;
    Ok("with 4 allowed 7 could not begin, then they could".into())
}

fn little_processor(trial: &mut Trial) -> Result<String, Error> {
    let script = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done";
    let timed = |trial: &Trial| -> Result<Duration, Error> {
        let begun = Instant::now();
        trial.shell(script, false)?;
        Ok(begun.elapsed())
    };
    let fast = timed(trial)?;
    let before = trial.machine().group.throttled()?;
    trial.machine().group.processor_limit(Some(50))?;
    let slow = timed(trial);
    trial.machine().group.processor_limit(None)?;
    let (slow, waited) = (slow?, trial.machine().group.throttled()? - before);
    ensure(waited > 0, || format!("{fast:.1?}, and {slow:.1?} with 5 % of a processor"))?;
    Ok(format!("{fast:.1?}, and {slow:.1?} with 5 % of a processor, {waited} times held"))
}

fn clocks(trial: &mut Trial) -> Result<String, Error> {
    Clock::check()?;
    let off = |trial: &Trial| -> Result<i64, Error> {
        let told = trial.shell("date +%s", true)?;
        let told: i64 = told.parse().map_err(|_| Error::Misuse(format!("date said {told:?}")))?;
        Ok(told - jiff::Timestamp::now().as_second())
    };
    trial.machine().clock.set(120_000, 1000)?;
    let ahead = off(trial)?;
    trial.machine().clock.set(-45_000, 1000)?;
    let behind = off(trial)?;
    trial.machine().clock.set(0, 1000)?;
    let right = off(trial)?;
    // The harness's own clock is the machine's, and nobody may ever set that.
    let apart = |seen: i64, wanted: i64| (seen - wanted).abs() <= 2;
    ensure(apart(ahead, 120) && apart(behind, -45) && apart(right, 0), || {
        format!("set to +120, -45 and 0 s it was off by {ahead}, {behind} and {right} s")
    })?;
    Ok(format!("off by {ahead}, {behind} and {right} s"))
}
