//! `jepsen test` and `jepsen replay`: builds a cluster, asks it, breaks it, heals it,
//! and gives what was recorded to the judge.
//!
//! Phases: *bootstrap* (the cluster stands, workloads set up), *main* (load and
//! faults), *heal* (load goes on, everything is mended), *converge* (until all nodes
//! agree), *drain* and *final* (nothing new; everything is read on every node). If
//! the harness itself cannot do its part, the verdict is `harness-failure`.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::canary::Canary;
use crate::check::Verdict;
use crate::client::Client;
use crate::cluster::{Cluster, Server, Settings};
use crate::env::namespaces::PRIVATE;
use crate::env::processes::{bounded, said};
use crate::env::{self, witness};
use crate::error::{Failure, chain};
use crate::history::Writer;
use crate::judge;
use crate::nemesis::Nemesis;
use crate::nemesis::ops::{Kind, kinds, named};
use crate::nemesis::schedule::{Schedule, chosen, draw, draw_core};
use crate::poll::Poller;
use crate::store::{Phases, Regime, TestInfo, gather_witness, write_row, write_test};
use crate::workload::{Ctx, Load, Workload};

/// The load goes on for so long after the faults, while everything is mended.
const TAIL: Duration = Duration::from_secs(4);
/// How long everything may take to be as before.
const CONVERGE: Duration = Duration::from_secs(60);
/// Between two looks at the cluster when nothing is broken any more.
const LOOK: Duration = Duration::from_millis(100);
/// How long what is planned may take to end.
const DRAIN: Duration = Duration::from_secs(90);
/// How long the program under test may take to say its version.
const VERSION: Duration = Duration::from_secs(60);
/// A lying clock moves cluster time by so many thousandths of its speed.
const SLEW: u64 = 10;

/// Which test.
#[derive(Debug, Clone, clap::Args, Serialize, Deserialize)]
pub(crate) struct Options {
    /// Workloads that run side by side, or mixed for all of them
    #[arg(long, default_value = "cron-fires,set,lock")]
    workload: String,
    /// Faults: kinds, packages of them, all, or none
    #[arg(long, value_delimiter = ',', default_value = "none")]
    nemesis: Vec<String>,
    /// Everything random comes from it; drawn and printed if it is not given
    #[arg(long)]
    seed: Option<u64>,
    /// Length of the main phase, in seconds
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(5..=86_400))]
    time: u64,
    /// The program under test
    #[arg(long, env = "JEPSEN_HORAI")]
    horai: PathBuf,
    /// Where folders of tests are made
    #[arg(long, default_value = "target/jepsen")]
    store: PathBuf,
    /// Nodes of the cluster
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
    /// Workers of the cluster
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=9))]
    workers: u8,
    /// What the faults may take away, and so what is judged
    #[arg(long, value_enum, default_value_t)]
    regime: Regime,
    /// How much is asked, in percent
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Mean milliseconds from one fault of a package to the next
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1_000..=600_000))]
    interval: u64,
    /// Attempts that each worker runs at once
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    slots: u32,
    /// Shortest wait before an election, in milliseconds; the longest is twice that
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(100..=10_000))]
    election: u64,
    /// A fire that no fault delays may be so many milliseconds late; a busy machine needs more
    #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    #[serde(default = "late_by_default")]
    late: u64,
    /// An instant that is planned so many milliseconds too late is a misfire
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1_000..=86_400_000))]
    #[serde(default = "misfire_by_default")]
    misfire: u64,
    /// Size of each machine's disk, in MiB
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(64..=65_536))]
    disk: u64,
}

fn late_by_default() -> u64 {
    3_000
}

/// Of tests that were run before there was the option.
fn misfire_by_default() -> u64 {
    60_000
}

/// What is stored beside the evidence, to run the same again.
const OPTIONS: &str = "options.json";
const SCHEDULE: &str = "schedule.json";

/// Runs a test and judges it. Every way out says a verdict on the last line.
pub(crate) fn test(options: &Options, out: &mut impl Write) -> Result<Verdict, Failure> {
    let mut options = options.clone();
    options.seed = Some(options.seed.unwrap_or_else(|| rand::random_range(1..1_000_000)));
    let schedule = options.plan()?;
    perform(&options, &schedule, out)
}

impl Options {
    /// The faults that are planned for these options.
    pub(crate) fn plan(&self) -> Result<Schedule, Failure> {
        let kinds = chosen(&self.nemesis, self.regime == Regime::Brutal, self.nodes)?;
        let (seed, length_ms) = (self.seed.unwrap_or(0), self.time * 1000);
        let drawn = draw(&kinds, seed, length_ms, self.interval);
        let ends = self.regime == Regime::Brutal && !drawn.faults.is_empty();
        let core = if ends { draw_core(seed, length_ms, self.nodes) } else { None };
        Ok(drawn.ending_with(core, length_ms))
    }
}

#[cfg(test)]
impl Options {
    /// The same with another seed.
    pub(crate) fn with_seed(self, seed: u64) -> Self {
        Self { seed: Some(seed), ..self }
    }
}

/// The options alone, for tests of what gives them.
#[cfg(test)]
#[derive(clap::Parser)]
pub(crate) struct Line {
    #[command(flatten)]
    pub(crate) options: Options,
}

/// Runs the same again: the same parameters, the same faults at the same times.
pub(crate) fn replay(
    store: &Path,
    horai: Option<PathBuf>,
    out: &mut impl Write,
) -> Result<Verdict, Failure> {
    let read = |name: &str| -> Result<Vec<u8>, Failure> {
        let path = store.join(name);
        fs::read(&path).map_err(|e| format!("{} cannot be read: {e}", path.display()).into())
    };
    let mut options: Options = serde_json::from_slice(&read(OPTIONS)?)?;
    let schedule: Schedule = serde_json::from_slice(&read(SCHEDULE)?)?;
    if let Some(horai) = horai {
        options.horai = horai;
    }
    perform(&options, &schedule, out)
}

fn perform(
    options: &Options,
    schedule: &Schedule,
    out: &mut impl Write,
) -> Result<Verdict, Failure> {
    let mut test = describe(options)?;
    let folder = new_folder(options, &test)?;
    fs::write(folder.join(OPTIONS), serde_json::to_vec_pretty(options)?)?;
    fs::write(folder.join(SCHEDULE), serde_json::to_vec_pretty(schedule)?)?;
    writeln!(out, "test {} of seed {} in {}", test.name, test.seed, folder.display())?;
    writeln!(out, "{} faults in {} s; again: {}", schedule.faults.len(), test.seconds, test.rerun)?;
    out.flush()?;
    // Whatever happens from here on is in the store, and the judge sees it.
    test.harness_error = "the test did not come to its end".to_owned();
    write_test(&folder, &test)?;
    let done = conduct(options, schedule, &folder, &mut test, out);
    test.harness_error = done.as_ref().err().map_or_else(String::new, |error| chain(&**error));
    gather_witness(&folder)?;
    write_test(&folder, &test)?;
    judge::check(&folder, out)
}

fn describe(options: &Options) -> Result<TestInfo, Failure> {
    let workloads = Workload::parse_list(&options.workload)?;
    let seed = options.seed.unwrap_or(0);
    let version = version(&options.horai)?;
    let lying = kinds().any(|kind| {
        kind.needs_clocks() && options.nemesis.iter().any(|n| n == kind.name || n == kind.package())
    });
    let defaults = TestInfo::default();
    let bound = defaults.clock_bound_ms + if lying { options.time * SLEW } else { 0 };
    Ok(TestInfo {
        name: format!("{}+{}", options.workload, options.nemesis.join(",")),
        workloads: workloads.iter().map(|workload| workload.name().to_owned()).collect(),
        nemesis: options.nemesis.clone(),
        required: required(&options.nemesis),
        seed,
        seconds: options.time,
        regime: options.regime,
        version,
        commit: commit(),
        nodes: (1..=options.nodes).map(|n| format!("n{n}")).collect(),
        workers: (1..=options.workers).map(|n| format!("w{n}")).collect(),
        election_max_ms: options.election * 2,
        clock_bound_ms: bound,
        late_ms: options.late,
        misfire_after_ms: options.misfire,
        rerun: rerun(options),
        ..defaults
    })
}

/// The command that runs the same again.
fn rerun(options: &Options) -> String {
    let Options { workload, time, horai, nodes, workers, regime, .. } = options;
    let Options { rate, interval, slots, election, late, misfire, disk, .. } = options;
    let (nemesis, seed) = (options.nemesis.join(","), options.seed.unwrap_or(0));
    format!(
        "jepsen test --workload {workload} --nemesis {nemesis} --seed {seed} --time {time} \
         --nodes {nodes} --workers {workers} --regime {regime} --rate {rate} --interval \
         {interval} --slots {slots} --election {election} --late {late} --misfire {misfire} --disk {disk} --horai {}",
        horai.display()
    )
}

/// What the program under test says that it is.
fn version(horai: &Path) -> Result<String, Failure> {
    let mut command = bounded(horai, VERSION);
    command.arg("version");
    let out = said(command, &format!("{} version", horai.display()))?;
    if !out.status.success() {
        return Err(format!("--horai {} is not the program under test", horai.display()).into());
    }
    let text = String::from_utf8_lossy(&out.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// What must have been there at least once. Of all, some that always can be.
fn required(names: &[String]) -> Vec<String> {
    let some = |name: &String| match name.as_str() {
        "all" => ["partition", "kill", "freeze"].map(str::to_owned).to_vec(),
        _ => vec![name.clone()],
    };
    names.iter().flat_map(some).collect()
}

/// The commit of the working tree we are in, if it is one.
fn commit() -> String {
    let said = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let good = said.ok().filter(|out| out.status.success());
    good.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default()
}

fn new_folder(options: &Options, test: &TestInfo) -> Result<PathBuf, Failure> {
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let name = test.name.replace(',', "-");
    let folder = options.store.join(name).join(format!("{now}-{}", test.seed));
    let cannot = |e: std::io::Error| format!("--store: {} cannot be made: {e}", folder.display());
    fs::create_dir_all(folder.join("witness")).map_err(cannot)?;
    Ok(folder.canonicalize()?)
}

fn settings(options: &Options, folder: &Path) -> Settings {
    let needs = |need: fn(&Kind) -> bool| {
        let kinds = options.nemesis.iter().flat_map(|name| named(name));
        kinds.into_iter().any(need)
    };
    Settings {
        horai: options.horai.canonicalize().unwrap_or_else(|_| options.horai.clone()),
        nodes: options.nodes,
        workers: options.workers,
        slots: options.slots,
        heartbeat_ms: (options.election / 5).clamp(10, 1000),
        election_ms: (options.election, options.election * 2),
        misfire_ms: options.misfire,
        disk_mib: options.disk,
        disk_folder: folder.to_owned(),
        clocks: needs(Kind::needs_clocks),
        tearing: needs(Kind::tears),
        seed: options.seed.unwrap_or(0),
        logs: folder.join("nodes"),
    }
}

fn conduct(
    options: &Options,
    schedule: &Schedule,
    folder: &Path,
    test: &mut TestInfo,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (begun, mut phases) = (Instant::now(), Phases::begin(test));
    let program = witness::build(Path::new(PRIVATE))?;
    let mut cluster = Cluster::found(settings(options, folder), runtime.handle().clone())?;
    writeln!(out, "cluster of {} nodes up after {:.1?}", options.nodes, begun.elapsed())?;
    let canary = Canary::start(&program, &folder.join("canary"))?;
    let nodes = cluster.nodes.iter().map(|node| (node.name.as_str(), node.url()));
    let file = folder.join("nodes.jsonl");
    let poller = Poller::start(nodes, &cluster.token, &file, runtime.handle())?;
    let rows = File::create(folder.join("nemesis.jsonl"))?;
    let mut nemesis = Nemesis::new(rows, options.regime == Regime::Safe);
    let asking = Asking {
        runtime: &runtime,
        load: Load::new(Workload::parse_list(&options.workload)?),
        ctx: clients(options, &cluster, program, folder)?,
    };

    runtime.block_on(asking.load.setup(&asking.ctx))?;
    phases.ended("bootstrap");
    asking.ctx.writer.enter("main");
    writeln!(out, "workloads set up after {:.1?}", begun.elapsed())?;
    out.flush()?;

    let length = Duration::from_secs(options.time);
    asking.while_broken(&mut cluster, &mut nemesis, schedule, length, &mut phases)?;
    phases.ended("heal");

    asking.ctx.writer.enter("converge");
    let converged = converge(&mut cluster, &mut nemesis)?;
    let how = if converged { "converged" } else { "did NOT converge" };
    writeln!(out, "{how} after {:.1?}", phases.elapsed())?;
    phases.ended("converge");

    asking.finish(&mut cluster, &mut nemesis)?;
    phases.ended("final");
    phases.test.busy = canary.stop();
    runtime.block_on(poller.stop())?;
    write_network(&cluster, folder)?;
    cluster.stop()?;
    Ok(())
}

/// What all clients share.
fn clients(
    options: &Options,
    cluster: &Cluster,
    witness: PathBuf,
    folder: &Path,
) -> Result<Ctx, Failure> {
    let client = |node: &Server| Client::new(&node.name, &node.url(), &cluster.token);
    let clients = cluster.nodes.iter().map(client).collect::<Result<Vec<_>, _>>()?;
    let writer = Arc::new(Writer::create(&folder.join("history.jsonl"))?);
    let seed = options.seed.unwrap_or(0);
    let mut ctx = Ctx::new(clients, writer, seed, witness, folder.join("witness"));
    ctx.rate = options.rate;
    ctx.may_freeze = Workload::may_freeze(&Workload::parse_list(&options.workload)?);
    Ok(ctx)
}

/// Those who ask, while the cluster is in the hands of the nemesis.
struct Asking<'a> {
    runtime: &'a Runtime,
    load: Load,
    ctx: Ctx,
}

impl Asking<'_> {
    /// Load and faults side by side; then everything is mended while the load goes on.
    fn while_broken(
        &self,
        cluster: &mut Cluster,
        nemesis: &mut Nemesis,
        schedule: &Schedule,
        length: Duration,
        phases: &mut Phases<'_>,
    ) -> Result<(), Failure> {
        let start = Instant::now();
        let (asked, broken) = std::thread::scope(|scope| {
            let breaking = scope.spawn(|| -> Result<(), Failure> {
                let alone = schedule.core.map_or(0, |core| core.lasts_ms);
                let broken = length.saturating_sub(Duration::from_millis(alone));
                nemesis.run(cluster, schedule, start, broken)?;
                if let Some(core) = &schedule.core {
                    nemesis.leave_alone(cluster, core, start, length)?;
                }
                phases.ended("main");
                self.ctx.writer.enter("heal");
                Ok(nemesis.heal_all(cluster)?)
            });
            let asked = self.runtime.block_on(self.load.main(&self.ctx, start + length + TAIL));
            (asked, breaking.join())
        });
        broken.map_err(|_| "the nemesis panicked")??;
        Ok(asked?)
    }

    /// The last reads, while processes that end are looked after.
    fn finish(&self, cluster: &mut Cluster, nemesis: &mut Nemesis) -> Result<(), Failure> {
        let over = AtomicBool::new(false);
        let (read, tended) = std::thread::scope(|scope| {
            let tending = scope.spawn(|| {
                while !over.load(Ordering::Acquire) {
                    nemesis.look_after(cluster)?;
                    std::thread::sleep(LOOK);
                }
                Ok::<(), env::Error>(())
            });
            let read = self.runtime.block_on(self.load.finish(&self.ctx, DRAIN));
            over.store(true, Ordering::Release);
            (read, tending.join())
        });
        tended.map_err(|_| "the look after processes panicked")??;
        Ok(read?)
    }
}

/// How many packets passed and did not, between which machines.
fn write_network(cluster: &Cluster, folder: &Path) -> Result<(), Failure> {
    let mut file = File::create(folder.join("network.jsonl"))?;
    for ((from, to), (passed, lost)) in cluster.env.network.counts() {
        let row = serde_json::json!({"from": from, "to": to, "passed": passed, "lost": lost});
        write_row(&mut file, &row)?;
    }
    Ok(())
}

/// Waits until there is one leader, all nodes vote and have applied what it has, and
/// all workers are there.
fn converge(cluster: &mut Cluster, nemesis: &mut Nemesis) -> Result<bool, Failure> {
    let end = Instant::now() + CONVERGE;
    loop {
        nemesis.look_after(cluster)?;
        if is_whole(cluster) == Some(true) {
            return Ok(true);
        }
        if Instant::now() > end {
            return Ok(false);
        }
        std::thread::sleep(LOOK);
    }
}

fn is_whole(cluster: &Cluster) -> Option<bool> {
    let applied = |n: usize| cluster.status(n)?["applied_index"].as_u64();
    let goal = applied(cluster.leader()?)?;
    let follow = (0..cluster.nodes.len()).all(|n| applied(n).is_some_and(|index| index >= goal));
    let voters = cluster.voters()? == cluster.nodes.len();
    let workers = cluster.connected_workers()? == cluster.workers.len();
    Some(follow && voters && workers)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn the_command_that_runs_again_names_every_option() {
        let words = "jepsen --workload set,lock --nemesis kill,packets --seed 9 --time 40 --horai \
            /x/horai --nodes 5 --workers 3 --regime brutal --rate 50 --interval 2000 --slots 7 \
            --election 300 --late 900 --misfire 9000 --disk 128";
        let options = Line::try_parse_from(words.split_whitespace()).unwrap().options;
        let again = rerun(&options);
        let again = again.strip_prefix("jepsen test ").unwrap();
        let words = ["jepsen"].into_iter().chain(again.split(' '));
        let read = Line::try_parse_from(words).unwrap().options;
        let shown = |options: &Options| serde_json::to_value(options).unwrap();
        let mut expected = shown(&options);
        // The folder belongs to whoever runs it.
        expected["store"] = shown(&read)["store"].clone();
        assert_eq!(shown(&read), expected);
    }
}
