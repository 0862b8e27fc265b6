//! `jepsen mutants`: the tests of the tests. Faults are put into the product and
//! into this harness one at a time, and each must be found in nine of ten runs of
//! the tier that it belongs to; runs without a fault must raise no alarm.
//!
//! Each run is a process of its own with `HORAI_MUTANT` in its environment. Its
//! outcome is appended to `mutants.jsonl`; the same source goes on where it was.

pub(crate) mod harness;
mod programs;
mod tiers;
mod told;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use crate::check::Verdict;
use crate::error::Failure;
use programs::Programs;
use tiers::{Case, Tier, Where};
use told::{Row, Said};

/// The rows, in the folder of the build.
const ROWS: &str = "mutants.jsonl";
/// Worlds of one clean run of L0: about what each `cargo test` tries.
const WORLDS: &str = "24";
/// With a fault in them, at most: it ends with the first that shows it.
const WORLDS_WITH_A_FAULT: &str = "240";
/// Clusters of one run of L1 with a fault, at most; a clean one is one cluster.
const CLUSTERS_WITH_A_FAULT: u64 = 8;
/// The test of L0 that draws worlds.
const EVERY_WORLD: &str = "leader::tests::simulation::every_world_keeps_its_promises";
/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(20);

/// Which faults, and how often.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Only these mutants or tiers, such as ack-before-sync,L0
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// At most so many of the gate's seeds for each mutant
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=10))]
    seeds: u8,
    /// Runs without a fault in each tier
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u8).range(0..=100))]
    clean: u8,
    /// The folder of the sources
    #[arg(long, default_value = ".")]
    workspace: PathBuf,
    /// Where it is built, apart from programs without faults [default: target/mutants there]
    #[arg(long)]
    target_dir: Option<PathBuf>,
    /// Runs at once, in the tiers that keep to themselves
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
    /// The longest run, in seconds
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(10..=7_200))]
    limit: u64,
    /// Forget what earlier runs of the same source said
    #[arg(long)]
    fresh: bool,
    /// Run nothing: show what came of it so far
    #[arg(long)]
    table: bool,
}

/// A run that is to be made.
#[derive(Debug, Clone, Copy)]
struct Task {
    tier: Tier,
    /// None: a clean one.
    case: Option<Case>,
    seed: u64,
    with: &'static str,
}

/// Runs the gate. The last line says what came of it.
pub(crate) fn run(options: &Options, out: &mut impl Write) -> Result<Verdict, Failure> {
    let cases = told::chosen(&options.only)?;
    let workspace = options.workspace.canonicalize()?;
    let target = options.target_dir.clone().unwrap_or_else(|| workspace.join("target/mutants"));
    std::fs::create_dir_all(&target)?;
    let sources = sources(&workspace)?;
    let path = target.join(ROWS);
    let mut rows = if options.fresh { Vec::new() } else { known(&path, &sources)? };
    let wanted = tasks(&cases, options);
    let is_done = |task: &Task| rows.iter().any(|row| task.is(row));
    let open: VecDeque<Task> = wanted.iter().filter(|task| !is_done(task)).copied().collect();
    if !options.table && !open.is_empty() {
        writeln!(out, "{} runs of {} are to be made", open.len(), wanted.len())?;
        let programs = Programs::build(&workspace, &target, &open, out)?;
        let mut file = File::options().append(true).create(true).open(&path)?;
        let (alone, together): (VecDeque<Task>, VecDeque<Task>) =
            open.into_iter().partition(|task| task.tier == Tier::L2);
        for (tasks, jobs) in [(together, options.jobs), (alone, 1)] {
            let limit = Duration::from_secs(options.limit);
            let done = |row: Row| -> Result<(), Failure> {
                writeln!(file, "{}", serde_json::to_string(&row)?)?;
                writeln!(out, "{}", line(&row))?;
                out.flush()?;
                rows.push(row);
                Ok(())
            };
            work(tasks, jobs, (&programs, &sources, limit), done)?;
        }
    }
    rows.retain(|row| wanted.iter().any(|task| task.is(row)));
    writeln!(out, "\n{}\n{}", told::table(&cases, &rows), told::waiting())?;
    let verdict = told::verdict(&cases, &rows, wanted.len());
    writeln!(out, "verdict: {verdict} ({} of {} runs)", rows.len(), wanted.len())?;
    Ok(verdict)
}

impl Task {
    /// True if the row is what came of it.
    fn is(&self, row: &Row) -> bool {
        row.tier == self.tier.name()
            && row.mutant == self.mutant()
            && row.seed == self.seed
            && row.with == self.with
    }

    fn mutant(&self) -> &'static str {
        self.case.map_or("", |case| case.name)
    }
}

/// What each tier is made of, by its name: a change of one leaves what others said.
type Sources = BTreeMap<&'static str, String>;

fn sources(workspace: &Path) -> Result<Sources, Failure> {
    let of = |tier: Tier| Ok((tier.name(), programs::source(workspace, tier)?));
    Tier::ALL.into_iter().map(of).collect()
}

/// Rows of these sources.
fn known(path: &Path, sources: &Sources) -> Result<Vec<Row>, Failure> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(path)?;
    // A line that was being written when the gate was stopped is run again.
    let rows = text.lines().filter_map(|line| serde_json::from_str::<Row>(line).ok());
    Ok(rows.filter(|row| sources.get(row.tier.as_str()) == Some(&row.source)).collect())
}

/// Every run that the gate wants. All are tried once before any is tried again, so
/// that a gate which is stopped has seen something of everything.
fn tasks(cases: &[Case], options: &Options) -> Vec<Task> {
    let mut tasks = Vec::new();
    for round in 0..usize::from(options.seeds) {
        for case in cases {
            if let Some(seed) = case.tier.seeds().get(round) {
                let case_of = Some(*case);
                tasks.push(Task { tier: case.tier, case: case_of, seed: *seed, with: case.with });
            }
        }
    }
    for tier in Tier::ALL {
        let mut kinds: Vec<&'static str> =
            cases.iter().filter(|case| case.tier == tier).map(|case| case.with).collect();
        kinds.dedup();
        if tier != Tier::L2 && !kinds.is_empty() {
            // Whatever is drawn, as in every other test.
            kinds.push("");
        }
        let clean = kinds.into_iter().cycle().zip(7_001..);
        for (with, seed) in clean.take(usize::from(options.clean)) {
            tasks.push(Task { tier, case: None, seed, with });
        }
    }
    tasks
}

/// Makes runs, so many at once, and hands each on as it ends.
fn work(
    tasks: VecDeque<Task>,
    jobs: u8,
    (programs, sources, limit): (&Programs, &Sources, Duration),
    mut done: impl FnMut(Row) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let tasks = Mutex::new(tasks);
    std::thread::scope(|scope| {
        let (ended, rows) = mpsc::channel();
        for _ in 0..jobs {
            let (tasks, ended) = (&tasks, ended.clone());
            scope.spawn(move || {
                loop {
                    let next = tasks.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(task) = next else { return };
                    // Nobody listens if a row could not be written.
                    if ended.send(make(task, programs, sources, limit)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(ended);
        rows.into_iter().try_for_each(&mut done)
    })
}

/// Another process that shows a fault, tried if the one before did not.
type Other = fn(Task, &Programs) -> Result<Command, Failure>;

fn make(task: Task, programs: &Programs, sources: &Sources, limit: Duration) -> Row {
    let began = Instant::now();
    let run =
        |command: Result<Command, Failure>, read: &dyn Fn(Option<i32>, &str) -> Said| match command
            .and_then(|command| watch(command, limit))
        {
            Err(error) => Said::Broken(error.to_string()),
            Ok(None) => Said::Broken("it did not end in time".to_owned()),
            Ok(Some((status, text))) => read(status, &text),
        };
    let once = |seed| run(command(task, seed, programs), &|s, text| told::read(task.tier, s, text));
    let mut said = Said::Well;
    let by_hand = task.case.is_some_and(|case| case.is_by_hand());
    if by_hand {
        said = run(beside(task, programs), &told::rest);
    }
    if let Some(tests) = task.case.and_then(|case| case.fence()) {
        said = run(fence(task, tests, programs), &told::rest);
    }
    if said == Said::Well {
        said = once(task.seed);
    }
    if task.tier == Tier::L1 && task.case.is_some() {
        let more = task.seed + 1..task.seed + CLUSTERS_WITH_A_FAULT;
        said = more.fold(said, |said, seed| if said == Said::Well { once(seed) } else { said });
    }
    // Worlds written by hand, and the decisions one at a time, are tried as well.
    let others: &[Other] = match task.tier {
        Tier::L0 if by_hand => &[rules],
        Tier::L0 => &[beside, rules],
        Tier::L1 => &[clocks],
        Tier::L2 => &[],
    };
    for other in others {
        if said == Said::Well {
            said = run(other(task, programs), &told::rest);
        }
    }
    Row {
        source: sources.get(task.tier.name()).cloned().unwrap_or_default(),
        tier: task.tier.name().to_owned(),
        mutant: task.mutant().to_owned(),
        seed: task.seed,
        with: task.with.to_owned(),
        said,
        seconds: began.elapsed().as_secs(),
    }
}

/// The process of a run.
fn command(task: Task, seed: u64, programs: &Programs) -> Result<Command, Failure> {
    let mut command = match task.tier {
        Tier::L0 => {
            let mut command = Command::new(programs.core()?);
            command.args([EVERY_WORLD, "--exact", "--nocapture"]);
            command.env("HORAI_SIM_FROM", seed.to_string());
            let worlds = if task.case.is_some() { WORLDS_WITH_A_FAULT } else { WORLDS };
            command.env("HORAI_SIM_SEEDS", worlds).env("HORAI_SIM_FOCUS", task.with);
            command.env("HORAI_SIM_QUICK", "1");
            command
        }
        Tier::L1 => {
            let mut command = Command::new(programs.cluster()?);
            command.args(["--one", "--seed", &seed.to_string()]);
            if !task.with.is_empty() {
                command.args(["--faults", task.with]);
            }
            command
        }
        Tier::L2 => {
            let mut command = Command::new(programs.jepsen()?);
            command.args(["test", "--seed", &seed.to_string(), "--late", "15000"]);
            command.arg("--horai").arg(programs.product()?);
            command.arg("--store").arg(programs.store());
            command.args(task.with.split_whitespace());
            command
        }
    };
    let is_product = task.case.is_none_or(|case| case.place == Where::Product);
    let (product, harness) = if is_product { (task.mutant(), "") } else { ("", task.mutant()) };
    command.env("HORAI_MUTANT", product).env("JEPSEN_MUTANT", harness);
    Ok(command)
}

/// The other tests of what a leader does.
fn beside(task: Task, programs: &Programs) -> Result<Command, Failure> {
    let mut command = Command::new(programs.core()?);
    command.args(["leader::tests::", "--skip", EVERY_WORLD]).env("HORAI_MUTANT", task.mutant());
    Ok(command)
}

/// The tests of one fence, which are in the same program.
fn fence(task: Task, tests: &str, programs: &Programs) -> Result<Command, Failure> {
    let mut command = Command::new(programs.core()?);
    command.arg(tests).env("HORAI_MUTANT", task.mutant());
    Ok(command)
}

/// The tests of the core's rules: what its callers never ask for is only seen there.
fn rules(task: Task, programs: &Programs) -> Result<Command, Failure> {
    let mut command = Command::new(programs.machine()?);
    command.arg("machine::").env("HORAI_MUTANT", task.mutant());
    Ok(command)
}

/// The tests of cluster time: simulated machines that stand still take their own clock
/// along, so that what was read before is not old to them.
fn clocks(task: Task, programs: &Programs) -> Result<Command, Failure> {
    let mut command = Command::new(programs.raft()?);
    command.arg("cluster_clock").env("HORAI_MUTANT", task.mutant());
    Ok(command)
}

/// Exit code and output.
type Ended = (Option<i32>, String);

/// Waits for a process that may hang; its exit code, unless a signal ended it, and what
/// it wrote; nothing if it was too late.
fn watch(mut command: Command, limit: Duration) -> Result<Option<Ended>, Failure> {
    // A file, because a pipe that nobody reads fills up.
    let mut output = tempfile()?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?);
    let (mut child, began) = (command.spawn()?, Instant::now());
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status.code();
        }
        if began.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    };
    output.rewind()?;
    let mut text = Vec::new();
    output.read_to_end(&mut text)?;
    Ok(Some((status, String::from_utf8_lossy(&text).into_owned())))
}

/// A file without a name.
fn tempfile() -> Result<File, Failure> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::APPEND;
    let file = open(std::env::temp_dir(), flags, Mode::RUSR | Mode::WUSR)?;
    Ok(file.into())
}

/// One line for a person who waits.
fn line(row: &Row) -> String {
    let Row { tier, mutant, seed, said, seconds, .. } = row;
    let mutant = if mutant.is_empty() { "(none)" } else { mutant };
    let said = match said {
        Said::Well => "nothing is wrong".to_owned(),
        Said::Wrong(how) => format!("WRONG {how}"),
        Said::Unknown(how) => format!("unknown {how}"),
        Said::Broken(how) => format!("BROKEN {how}"),
    };
    format!("{tier} {mutant} {seed} {seconds} s: {said}")
}
