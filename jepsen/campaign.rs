//! `jepsen soak` and `jepsen table`: rounds of tests until every goal is met, and
//! what came of them.
//!
//! Each round is a test with a fresh seed in a process of its own; one line of
//! `campaign.jsonl` is appended for it, so that a campaign may be stopped at any time
//! and goes on where it was. Only rounds of the same source count towards the goals:
//! a change of the product begins anew. Evidence of rounds with nothing wrong is
//! thinned out; the rest is kept whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::check::Verdict;
use crate::env::processes::bounded;
use crate::error::{Failure, chain};
use crate::judge;
use crate::store::{Band, Evidence, Said, load, read_rows, write_row};
use crate::time::MS;

/// One line a round.
const ROUNDS: &str = "campaign.jsonl";
/// A round takes minutes: one that is not over by then hangs.
const ROUND: Duration = Duration::from_secs(2 * 3600);
/// What is left of a round in which nothing is wrong.
const KEPT: [&str; 6] =
    ["test.json", "options.json", "schedule.json", "nemesis.jsonl", "results.json", "report.html"];

/// What a campaign must have seen.
struct Goal {
    name: &'static str,
    /// Arguments of `jepsen test`.
    arguments: &'static str,
    /// Faults that must have been installed so often in its rounds; a name ends in a
    /// hyphen if it stands for all kinds that begin so.
    faults: &'static [(&'static str, u64)],
    /// And seconds of main phases.
    seconds: u64,
}

/// The goals, the most telling first.
const GOALS: [Goal; 10] = [
    Goal {
        name: "kill-leader",
        arguments: "--workload cron-fires --nemesis kill-leader --rate 2000 --time 120 --interval 6000",
        faults: &[("kill-leader", 100)],
        seconds: 0,
    },
    Goal {
        name: "power-all",
        arguments: "--workload cron-fires,set,lock --nemesis power-all --regime brutal --time 90 --interval 8000",
        faults: &[("power-all", 30)],
        seconds: 0,
    },
    Goal {
        name: "partition",
        arguments: "--workload cron-fires,set,lock --nemesis partition --time 120 --interval 8000",
        faults: &[
            ("partition-leader", 20),
            ("partition-one", 20),
            ("partition-halves", 20),
            ("partition-bridge", 20),
            ("partition-out", 20),
            ("partition-in", 20),
            ("partition-edge", 20),
            ("partition-flap", 20),
            ("partition-workers", 20),
        ],
        seconds: 0,
    },
    Goal {
        name: "partition-ring",
        arguments: "--workload cron-fires,set,lock --nemesis partition-ring --nodes 5 --time 90 --interval 8000",
        faults: &[("partition-ring", 20)],
        seconds: 0,
    },
    Goal {
        name: "freeze-leader",
        arguments: "--workload cron-fires,set,lock --nemesis freeze-leader --time 90 --interval 8000",
        faults: &[("freeze-leader", 30)],
        seconds: 0,
    },
    Goal {
        name: "worker",
        arguments: "--workload cron-fires,set,lock --nemesis worker --time 120 --interval 10000",
        faults: &[
            ("worker-kill", 20),
            ("worker-machine", 20),
            ("worker-freeze", 20),
            ("worker-power", 20),
            ("worker-partition", 20),
        ],
        seconds: 0,
    },
    Goal {
        name: "disk",
        arguments: "--workload cron-fires,set,lock --nemesis disk --time 120 --interval 10000",
        faults: &[("disk-", 60)],
        seconds: 0,
    },
    Goal {
        name: "clock",
        arguments: "--workload cron-fires,set,lock --nemesis clock --time 120 --interval 10000",
        faults: &[("clock-", 40)],
        seconds: 0,
    },
    Goal {
        name: "member",
        arguments: "--workload cron-fires,set,lock --nemesis member,admin --time 120 --interval 12000",
        faults: &[("member-replace", 10), ("member-remove", 10), ("admin-transfer", 10)],
        seconds: 0,
    },
    Goal {
        name: "mixed-brutal",
        arguments: "--workload mixed --nemesis partition,packets,kill,freeze,power,disk,worker \
                    --regime brutal --time 300 --interval 12000",
        faults: &[],
        seconds: 3600,
    },
];

/// What came of one round.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Round {
    /// When it ended, RFC 3339.
    at: String,
    goal: String,
    /// Which source the program was built from.
    source: String,
    commit: String,
    version: String,
    seed: u64,
    seconds: u64,
    verdict: Verdict,
    /// The folder of its evidence, below the store.
    folder: String,
    /// Faults that were there, by kind.
    installed: BTreeMap<String, u64>,
    /// `checker: count` as the checkers have it.
    counts: BTreeMap<String, i64>,
    /// Milliseconds from a fault of that kind to the next acknowledged write.
    write_after_ms: BTreeMap<String, Vec<u64>>,
    /// Milliseconds from a fault of that kind to the next start of a job.
    start_after_ms: BTreeMap<String, Vec<u64>>,
    rerun: String,
}

/// A campaign.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// The program under test
    #[arg(long, env = "JEPSEN_HORAI")]
    horai: PathBuf,
    /// Where rounds and their evidence are kept; a campaign goes on where it was
    #[arg(long, default_value = "target/campaign")]
    store: PathBuf,
    /// Stop after so many hours, even if goals are open
    #[arg(long, default_value_t = 12.0)]
    hours: f64,
    /// Stop after so many rounds
    #[arg(long)]
    rounds: Option<u64>,
    /// Only these goals
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// What the program was built from: rounds of another source do not count
    #[arg(long, default_value = "")]
    source: String,
}

/// Runs rounds until the goals are met or the time is over.
pub(crate) fn soak(options: &Options, out: &mut impl Write) -> Result<Verdict, Failure> {
    fs::create_dir_all(&options.store)?;
    let goals: Vec<&Goal> = GOALS
        .iter()
        .filter(|goal| options.only.is_empty() || options.only.iter().any(|n| n == goal.name))
        .collect();
    let unknown = options.only.iter().find(|name| GOALS.iter().all(|goal| goal.name != **name));
    if let Some(name) = unknown {
        let known: Vec<&str> = GOALS.iter().map(|goal| goal.name).collect();
        return Err(format!("--only {name}: the goals are {}", known.join(", ")).into());
    }
    let (begun, limit) = (Instant::now(), Duration::from_secs_f64(options.hours * 3600.0));
    let (mut worst, mut done) = (Verdict::Valid, 0);
    while begun.elapsed() < limit && options.rounds.is_none_or(|most| done < most) {
        let rounds = rounds(&options.store)?;
        let open = goals.iter().map(|goal| (reached(goal, &rounds, &options.source), goal));
        let next = open.filter(|(share, _)| *share < 1000).min_by_key(|(share, _)| *share);
        let Some((share, goal)) = next else {
            writeln!(out, "every goal is met")?;
            break;
        };
        write!(out, "{} ({}.{} %): ", goal.name, share / 10, share % 10)?;
        out.flush()?;
        let round = play(goal, options, rounds.len())?;
        append(&options.store, &round)?;
        writeln!(out, "{} · {}", round.verdict, round.rerun)?;
        if round.verdict == Verdict::Invalid {
            worst = worst.min(Verdict::Invalid);
        }
        done += 1;
    }
    Ok(worst)
}

/// All rounds of a store.
fn rounds(store: &Path) -> Result<Vec<Round>, Failure> {
    let read = read_rows::<Round>(&store.join(ROUNDS))?;
    match read.damaged.first() {
        None => Ok(read.rows),
        Some(line) => Err(format!("{} holds a line that is no round: {line}", ROUNDS).into()),
    }
}

fn append(store: &Path, round: &Round) -> Result<(), Failure> {
    let mut file = File::options().create(true).append(true).open(store.join(ROUNDS))?;
    write_row(&mut file, round)?;
    Ok(file.sync_data()?)
}

fn installed(round: &Round, name: &str) -> u64 {
    let counts = |op: &str| if name.ends_with('-') { op.starts_with(name) } else { op == name };
    round.installed.iter().filter(|(op, _)| counts(op)).map(|(_, count)| count).sum()
}

/// How much of a goal is done, in thousandths: the least of all it asks for.
fn reached(goal: &Goal, rounds: &[Round], source: &str) -> u64 {
    let good: Vec<&Round> = rounds
        .iter()
        .filter(|round| round.goal == goal.name && round.source == source)
        .filter(|round| matches!(round.verdict, Verdict::Valid | Verdict::Invalid))
        .collect();
    let share = |have: u64, need: u64| (have * 1000).checked_div(need).unwrap_or(1000);
    let faults = goal
        .faults
        .iter()
        .map(|(name, need)| share(good.iter().map(|round| installed(round, name)).sum(), *need));
    let seconds = share(good.iter().map(|round| round.seconds).sum(), goal.seconds);
    faults.chain([seconds]).min().unwrap_or(1000).min(1000)
}

fn play(goal: &Goal, options: &Options, number: usize) -> Result<Round, Failure> {
    let seed: u64 = rand::random_range(1..1_000_000);
    let evidence = options.store.join("rounds").join(format!("{number:05}-{}", goal.name));
    fs::create_dir_all(&evidence)?;
    let log = File::create(evidence.join("log"))?;
    let status = bounded(std::env::current_exe()?, ROUND)
        .arg("test")
        .args(goal.arguments.split_ascii_whitespace())
        .args(["--seed", &seed.to_string(), "--horai"])
        .arg(&options.horai)
        .arg("--store")
        .arg(&evidence)
        .stdout(log.try_clone()?)
        .stderr(log)
        .status()?;
    let mut round = Round {
        at: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        goal: goal.name.to_owned(),
        source: options.source.clone(),
        seed,
        verdict: Verdict::HarnessFailure,
        folder: evidence.strip_prefix(&options.store)?.display().to_string(),
        ..Round::default()
    };
    let Some(folder) = folder_of_test(&evidence) else {
        round.rerun = format!("no evidence ({status}); see {}", evidence.join("log").display());
        return Ok(round);
    };
    match summarise(&folder, &mut round) {
        Ok(()) if status.success() => thin(&folder)?,
        Ok(()) => {}
        // A round that was cut short tells nothing, and the next one may.
        Err(error) => {
            round.verdict = Verdict::HarnessFailure;
            round.rerun = format!("{} ({status}: {})", round.rerun, chain(&*error));
        }
    }
    Ok(round)
}

/// `EVIDENCE/NAME/TIME-SEED`
fn folder_of_test(evidence: &Path) -> Option<PathBuf> {
    let folder = |path: &Path| {
        fs::read_dir(path).ok()?.flatten().map(|e| e.path()).find(|path| path.is_dir())
    };
    folder(&folder(evidence)?)
}

fn summarise(folder: &Path, round: &mut Round) -> Result<(), Failure> {
    let evidence = load(folder)?;
    round.commit.clone_from(&evidence.test.commit);
    round.version.clone_from(&evidence.test.version);
    round.seconds = evidence.test.seconds;
    round.rerun.clone_from(&evidence.test.rerun);
    for band in evidence.bands.iter().filter(|band| band.installed) {
        *round.installed.entry(band.op.clone()).or_default() += 1;
        let (write, start) = recovery(&evidence, band);
        let note = |times: &mut BTreeMap<String, Vec<u64>>, ms: Option<u64>| {
            if let Some(ms) = ms {
                times.entry(band.op.clone()).or_default().push(ms);
            }
        };
        note(&mut round.write_after_ms, write);
        note(&mut round.start_after_ms, start);
    }
    let results = judge::results(folder)?;
    round.verdict = results.verdict;
    for checked in &results.checkers {
        let counts = checked.counts.iter();
        round.counts.extend(counts.map(|(what, n)| (format!("{}: {what}", checked.name), *n)));
    }
    Ok(())
}

/// Writes that a client asks for and is told of.
const WRITES: [&str; 4] = ["add", "apply", "acquire", "reg-write"];

/// Milliseconds from a fault to the next write that was asked for after it, and to
/// the next start of a job.
fn recovery(evidence: &Evidence, band: &Band) -> (Option<u64>, Option<u64>) {
    let writes = evidence.ops.iter().filter(|op| WRITES.contains(&op.ask.f.as_str()));
    let after = writes.filter(|op| op.is_ok() && op.ask.t >= band.from).map(|op| op.known_at());
    let starts = evidence.witness.iter().filter(|line| line.e == Said::Start);
    let start = starts.map(|line| line.t).filter(|t| *t >= band.from).min();
    let ms = |t: u64| (t - band.from) / MS;
    (after.min().map(ms), start.map(ms))
}

/// Keeps of a folder what tells the story, without the raw evidence.
fn thin(folder: &Path) -> Result<(), Failure> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let keep = KEPT.iter().any(|name| entry.file_name() == *name);
        match (keep, path.is_dir()) {
            (true, _) => {}
            (false, true) => fs::remove_dir_all(path)?,
            (false, false) => fs::remove_file(path)?,
        }
    }
    Ok(())
}

/// Rows of the table: what is promised, and the counts that tell of it.
const TOTALS: [(&str, &[&str]); 9] = [
    ("fires expected", &["fires: expected"]),
    ("fires lost", &["fires: missed"]),
    ("fires doubled", &["fires: doubled", "fires: phantom"]),
    ("fires early", &["fires: early"]),
    ("fires late beyond the deadline", &["fires: late"]),
    ("attempts that overlapped", &["attempts: overlap", "attempts: two successes"]),
    (
        "locks violated",
        &["locks: two holders", "locks: token did not grow", "locks: fenced while holding"],
    ),
    ("acknowledged writes", &["set: acknowledged"]),
    ("acknowledged writes lost", &["set: lost", "set: stale"]),
];

/// Writes the state of a campaign as a table for people.
pub(crate) fn table(store: &Path, source: &str, out: &mut impl Write) -> Result<Verdict, Failure> {
    let all = rounds(store)?;
    let rounds: Vec<&Round> =
        all.iter().filter(|r| source.is_empty() || r.source == source).collect();
    let Some(last) = rounds.last() else {
        return Err(format!("{} holds no round of this source", store.display()).into());
    };
    let hours = rounds.iter().map(|round| round.seconds).sum::<u64>() as f64 / 3600.0;
    let date = last.at.split('T').next().unwrap_or_default();
    writeln!(
        out,
        "{} rounds with {hours:.1} hours of faults, of {} at commit {}, until {date}:\n",
        rounds.len(),
        last.version,
        last.commit
    )?;
    writeln!(out, "| what | count |\n|---|---|")?;
    for verdict in [Verdict::Valid, Verdict::Invalid, Verdict::Unknown, Verdict::HarnessFailure] {
        let count = rounds.iter().filter(|round| round.verdict == verdict).count();
        writeln!(out, "| rounds {verdict} | {count} |")?;
    }
    for (what, names) in TOTALS {
        let of = |round: &&Round| names.iter().filter_map(|name| round.counts.get(*name)).sum();
        let count: i64 = rounds.iter().map(|round| -> i64 { of(round) }).sum();
        writeln!(out, "| {what} | {count} |")?;
    }
    writeln!(
        out,
        "\n| fault | installed | next acknowledged write, ms (median, worst) | next start of a job, ms \
         (median, worst) |\n|---|---|---|---|"
    )?;
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    for (op, count) in rounds.iter().flat_map(|round| &round.installed) {
        *kinds.entry(op).or_default() += count;
    }
    for (op, count) in kinds {
        let write = spread(rounds.iter().filter_map(|round| round.write_after_ms.get(op)));
        let start = spread(rounds.iter().filter_map(|round| round.start_after_ms.get(op)));
        writeln!(out, "| {op} | {count} | {write} | {start} |")?;
    }
    let wrong = rounds.iter().any(|round| round.verdict == Verdict::Invalid);
    Ok(if wrong { Verdict::Invalid } else { Verdict::Valid })
}

fn spread<'a>(times: impl Iterator<Item = &'a Vec<u64>>) -> String {
    let mut all: Vec<u64> = times.flatten().copied().collect();
    all.sort_unstable();
    match all.last() {
        Some(worst) => format!("{}, {worst}", all[all.len() / 2]),
        None => "–".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(goal: &str, verdict: Verdict, faults: &[(&str, u64)]) -> Round {
        Round {
            at: "2026-11-21T03:00:00Z".into(),
            goal: goal.into(),
            source: "s".into(),
            seconds: 60,
            verdict,
            installed: faults.iter().map(|(op, n)| ((*op).to_owned(), *n)).collect(),
            counts: [("fires: expected".to_owned(), 100), ("fires: missed".to_owned(), 1)].into(),
            write_after_ms: faults.iter().map(|(op, _)| ((*op).to_owned(), vec![5, 9])).collect(),
            ..Round::default()
        }
    }

    fn goal(name: &str) -> &'static Goal {
        GOALS.iter().find(|goal| goal.name == name).unwrap()
    }

    #[test]
    fn only_rounds_that_tell_something_count_towards_a_goal() {
        let disk = goal("disk");
        let mut rounds = vec![round("disk", Verdict::Valid, &[("disk-full", 6), ("disk-dead", 6)])];
        assert_eq!(reached(disk, &rounds, "s"), 200);
        assert_eq!(reached(disk, &rounds, "other"), 0);
        rounds.push(round("disk", Verdict::Unknown, &[("disk-full", 60)]));
        rounds.push(round("mixed-brutal", Verdict::Valid, &[("disk-full", 60)]));
        assert_eq!(reached(disk, &rounds, "s"), 200);
        rounds.push(round("disk", Verdict::Invalid, &[("disk-full", 600)]));
        assert_eq!(reached(disk, &rounds, "s"), 1000);
        // Every shape is asked for: the rarest decides.
        let worker = [round("worker", Verdict::Valid, &[("worker-kill", 20), ("worker-power", 1)])];
        assert_eq!(reached(goal("worker"), &worker, "s"), 0);
        assert_eq!(reached(goal("mixed-brutal"), &rounds, "s"), 60 * 1000 / 3600);
    }

    #[test]
    fn rounds_are_appended_and_told_in_a_table() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path();
        assert!(table(store, "", &mut Vec::new()).is_err());
        append(store, &round("disk", Verdict::Valid, &[("disk-full", 2)])).unwrap();
        append(store, &round("disk", Verdict::Invalid, &[("disk-full", 1)])).unwrap();
        assert_eq!(rounds(store).unwrap().len(), 2);
        let mut text = Vec::new();
        assert_eq!(table(store, "s", &mut text).unwrap(), Verdict::Invalid);
        let text = String::from_utf8(text).unwrap();
        for line in
            ["| fires expected | 200 |", "| fires lost | 2 |", "| disk-full | 3 | 9, 9 | – |"]
        {
            assert!(text.contains(line), "{text}");
        }
        fs::write(store.join(ROUNDS), "{\n").unwrap();
        assert!(rounds(store).unwrap_err().to_string().contains("no round"));
    }

    #[test]
    fn every_goal_can_be_asked_for() {
        for goal in &GOALS {
            let words = goal.arguments.split_ascii_whitespace();
            let all = ["jepsen", "--horai", "x"].into_iter().chain(words);
            let parsed = <crate::run::Line as clap::Parser>::try_parse_from(all);
            let planned = parsed.unwrap_or_else(|e| panic!("{}: {e}", goal.name)).options.plan();
            let schedule = planned.unwrap_or_else(|e| panic!("{}: {e}", goal.name));
            for (fault, _) in goal.faults {
                let is_of = |op: &str| op.starts_with(fault);
                assert!(schedule.faults.iter().any(|f| is_of(&f.op)) || goal.faults.len() > 1);
            }
            assert!(!schedule.faults.is_empty());
        }
    }
}
