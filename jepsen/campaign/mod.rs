//! `jepsen soak` and `jepsen table`: rounds of tests until every goal is met, and
//! what came of them.
//!
//! Each round is a test with a fresh seed in a process of its own; one line of
//! `campaign.jsonl` is appended for it, so that a campaign may be stopped at any time
//! and goes on where it was. Only rounds of the same source count towards the goals:
//! a change of the product begins anew. Evidence of rounds with nothing wrong is
//! thinned out; the rest is kept whole. A goal whose rounds bring it no nearer is set
//! aside, and given up in the end: a campaign never goes on for nothing.

mod again;
mod goals;
mod rounds;
mod table;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::statvfs;

use crate::check::Verdict;
use crate::env::processes::bounded;
use crate::error::{Failure, chain};
use crate::judge;
use crate::store::{Band, Evidence, Said, load};
use crate::time::MS;
use goals::{GOALS, Goal};
use rounds::{Round, append, mend, rounds};
pub(crate) use table::table;

/// Held by the one campaign that works in a store.
const LOCK: &str = "lock";
/// Folders of evidence are below it.
const EVIDENCE: &str = "rounds";
/// After so many rounds in a row that brought it no nearer a goal is set aside.
const FRUITLESS: u32 = 3;
/// When nothing but goals that were set aside so often is left, it is over.
const SET_ASIDE: u32 = 2;
/// What is left of a round in which nothing is wrong.
const KEPT: [&str; 6] =
    ["test.json", "options.json", "schedule.json", "nemesis.jsonl", "results.json", "report.html"];

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
    /// Stop when fewer MiB are free for a round: a full disk looks like a broken cluster
    #[arg(long, default_value_t = 4096)]
    free: u64,
    /// Keep the evidence of every round whole, whatever its verdict
    #[arg(long)]
    whole: bool,
    /// First judge every round again whose evidence is whole, not only those found wrong
    #[arg(long)]
    again: bool,
    /// Only these goals
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// What the program was built from: rounds of another source do not count
    #[arg(long, default_value = "")]
    source: String,
    /// The commit it was built from; that of the working tree if not given
    #[arg(long, default_value = "")]
    commit: String,
}

/// Runs rounds until the goals are met or the time is over.
pub(crate) fn soak(options: &Options, out: &mut impl Write) -> Result<Verdict, Failure> {
    fs::create_dir_all(&options.store)?;
    let _lock = prepare(&options.store)?;
    again::judge_again(options, out)?;
    let unknown = options.only.iter().find(|name| GOALS.iter().all(|goal| goal.name != **name));
    if let Some(name) = unknown {
        let known: Vec<&str> = GOALS.iter().map(|goal| goal.name).collect();
        return Err(format!("--only {name}: the goals are {}", known.join(", ")).into());
    }
    let goals: Vec<&Goal> = GOALS
        .iter()
        .filter(|goal| options.only.is_empty() || options.only.iter().any(|n| n == goal.name))
        .collect();
    let (begun, limit) = (Instant::now(), Duration::from_secs_f64(options.hours * 3600.0));
    let (mut worst, mut done) = (Verdict::Valid, 0);
    // Of this run: whoever starts a campaign again wants all goals to be tried.
    let mut fruitless: BTreeMap<&str, u32> = BTreeMap::new();
    while begun.elapsed() < limit && options.rounds.is_none_or(|most| done < most) {
        let before = rounds(&options.store)?;
        let goal = match next(&goals, &before, &options.source, &fruitless) {
            Next::Met => {
                writeln!(out, "every goal is met")?;
                break;
            }
            Next::GivenUp(names) => {
                writeln!(out, "given up, since no round brings them nearer: {}", names.join(", "))?;
                worst = worst.min(Verdict::Unknown);
                break;
            }
            Next::Goal(goal) => goal,
        };
        enough_space(options)?;
        let share = goal.reached(&before, &options.source);
        write!(out, "{} ({}.{} %): ", goal.name, share / 10, share % 10)?;
        out.flush()?;
        let round = play(goal, options, before.len())?;
        append(&options.store, &round)?;
        writeln!(out, "{} · {}", round.verdict, round.rerun)?;
        if round.verdict == Verdict::Invalid {
            worst = worst.min(Verdict::Invalid);
        }
        let progress = |rounds: &[Round]| goal.progress(rounds, &options.source);
        let in_vain = progress(&rounds(&options.store)?) == progress(&before);
        let count = fruitless.entry(goal.name).or_default();
        *count = if in_vain { *count + 1 } else { 0 };
        done += 1;
    }
    Ok(worst)
}

/// What a campaign does now.
enum Next<'a> {
    Goal(&'a Goal),
    Met,
    /// Goals of which enough was tried.
    GivenUp(Vec<&'a str>),
}

/// The goal of which least is done, of those that were set aside least often.
fn next<'a>(
    goals: &[&'a Goal],
    rounds: &[Round],
    source: &str,
    fruitless: &BTreeMap<&str, u32>,
) -> Next<'a> {
    let tried = |goal: &Goal| fruitless.get(goal.name).copied().unwrap_or(0) / FRUITLESS;
    let open = |goal: &&&'a Goal| goal.reached(rounds, source) < 1000;
    let open: Vec<&'a Goal> = goals.iter().filter(open).copied().collect();
    let best = open.iter().min_by_key(|goal| (tried(goal), goal.reached(rounds, source)));
    match best {
        None => Next::Met,
        Some(goal) if tried(goal) < SET_ASIDE => Next::Goal(goal),
        Some(_) => Next::GivenUp(open.iter().map(|goal| goal.name).collect()),
    }
}

/// A store that is ours. It is let go by word: a process that is just being started has
/// the file, too, until it runs its own program.
#[derive(Debug)]
struct Hold(File);

impl Drop for Hold {
    fn drop(&mut self) {
        // Closing the file does it, if this cannot.
        let _ = self.0.unlock();
    }
}

/// Makes a store ready to go on in: nobody else works in it, and what was cut short is
/// put right. The store is ours while the answer is held.
fn prepare(store: &Path) -> Result<Hold, Failure> {
    let lock = File::create(store.join(LOCK))?;
    if lock.try_lock().is_err() {
        return Err(format!("another campaign works in {}", store.display()).into());
    }
    let lock = Hold(lock);
    mend(store)?;
    // Evidence of no round: its test did not come to its end, and nobody was told of it.
    let known: Vec<PathBuf> = rounds(store)?.iter().map(|r| store.join(&r.folder)).collect();
    let evidence = store.join(EVIDENCE);
    fs::create_dir_all(&evidence)?;
    for entry in fs::read_dir(&evidence)? {
        let path = entry?.path();
        if !known.contains(&path) {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(lock)
}

fn enough_space(options: &Options) -> Result<(), Failure> {
    let (system, least) = (statvfs(&options.store)?, options.free);
    let free = system.f_bavail.saturating_mul(system.f_frsize) >> 20;
    if free >= least {
        return Ok(());
    }
    let store = options.store.display();
    Err(format!("{store} has {free} MiB free, and a round needs --free {least}").into())
}

fn play(goal: &Goal, options: &Options, number: usize) -> Result<Round, Failure> {
    let seed: u64 = rand::random_range(1..1_000_000);
    let evidence = options.store.join(EVIDENCE).join(format!("{number:05}-{}", goal.name));
    // One that is there already holds another round: that must not be taken for this one.
    fs::create_dir(&evidence)?;
    let log = File::create(evidence.join("log"))?;
    let status = bounded(std::env::current_exe()?, goal.longest())
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
        commit: options.commit.clone(),
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
        Ok(()) => thin_out(options, &round, &folder)?,
        // A round that was cut short tells nothing, and the next one may.
        Err(error) => {
            round.verdict = Verdict::HarnessFailure;
            round.rerun = format!("{} ({status}: {})", round.rerun, chain(&*error));
        }
    }
    Ok(round)
}

/// Thins evidence out of a round in which nothing is wrong: why it may tell nothing is in
/// its results.
fn thin_out(options: &Options, round: &Round, folder: &Path) -> Result<(), Failure> {
    match round.verdict {
        Verdict::Valid | Verdict::Unknown if !options.whole => thin(folder),
        _ => Ok(()),
    }
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
    if round.commit.is_empty() {
        round.commit.clone_from(&evidence.test.commit);
    }
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

#[cfg(test)]
mod tests {
    use super::rounds::ROUNDS;
    use super::*;

    pub(super) fn round(goal: &str, verdict: Verdict, faults: &[(&str, u64)]) -> Round {
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

    pub(super) fn goal(name: &str) -> &'static Goal {
        GOALS.iter().find(|goal| goal.name == name).unwrap()
    }

    #[test]
    fn rounds_are_appended_and_told_in_a_table() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path();
        let stores = [store.to_owned()];
        assert!(table(&stores, "", &mut Vec::new()).is_err());
        append(store, &round("disk", Verdict::Valid, &[("disk-full", 2)])).unwrap();
        append(store, &round("disk", Verdict::Invalid, &[("disk-full", 1)])).unwrap();
        assert_eq!(rounds(store).unwrap().len(), 2);
        let mut text = Vec::new();
        assert_eq!(table(&stores, "s", &mut text).unwrap(), Verdict::Invalid);
        let text = String::from_utf8(text).unwrap();
        for line in [
            "| fires expected | 200 |",
            "| fires lost | 2 |",
            "| disk-full | 3 | 9, 9 | – |",
            "| disk | disk- | 60 | 3 | no |",
            "| mixed-brutal | seconds | 3600 | 0 | no |",
        ] {
            assert!(text.contains(line), "{text}");
        }
        fs::write(store.join(ROUNDS), "{\n").unwrap();
        assert!(rounds(store).unwrap_err().to_string().contains("no round"));
    }

    #[test]
    fn what_a_round_that_tells_nothing_counted_is_in_no_total() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path();
        append(store, &round("disk", Verdict::Valid, &[("disk-full", 2)])).unwrap();
        append(store, &round("disk", Verdict::Unknown, &[("disk-full", 5)])).unwrap();
        append(store, &round("disk", Verdict::HarnessFailure, &[("disk-dead", 1)])).unwrap();
        let stores = [store.to_owned()];
        let mut text = Vec::new();
        assert_eq!(table(&stores, "s", &mut text).unwrap(), Verdict::Valid);
        let text = String::from_utf8(text).unwrap();
        for line in ["1 rounds that count", "| rounds unknown | 1 |", "| fires expected | 100 |"] {
            assert!(text.contains(line), "{text}");
        }
        assert!(text.contains("| disk-full | 2 |") && !text.contains("disk-dead"), "{text}");
    }

    #[test]
    fn a_goal_that_comes_no_nearer_is_set_aside_and_in_the_end_given_up() {
        let goals = [goal("disk"), goal("clock")];
        let mut fruitless = BTreeMap::new();
        let mut played = Vec::new();
        let names = loop {
            match next(&goals, &[], "s", &fruitless) {
                Next::Goal(goal) => {
                    *fruitless.entry(goal.name).or_default() += 1;
                    played.push(goal.name);
                }
                Next::GivenUp(names) => break names,
                Next::Met => panic!("no goal is met"),
            }
        };
        assert_eq!(names, ["disk", "clock"]);
        assert_eq!(played[..6], ["disk", "disk", "disk", "clock", "clock", "clock"]);
        assert_eq!(played.len(), 2 * (FRUITLESS * SET_ASIDE) as usize);

        // One that is near its end waits for one that is far, and what is met is left alone.
        let far = [round("disk", Verdict::Valid, &[("disk-full", 59)])];
        let nearer = |rounds: &[Round]| match next(&goals, rounds, "s", &BTreeMap::new()) {
            Next::Goal(goal) => goal.name,
            Next::Met | Next::GivenUp(_) => "none",
        };
        assert_eq!(nearer(&far), "clock");
        let met = ["disk", "clock"]
            .map(|name| round(name, Verdict::Valid, &[("disk-full", 60), ("clock-jump", 40)]));
        assert_eq!(nearer(&met[1..]), "disk");
        assert!(matches!(next(&goals, &met, "s", &fruitless), Next::Met));
    }

    #[test]
    fn a_campaign_that_was_cut_short_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path();
        let mut kept = round("disk", Verdict::Valid, &[]);
        kept.folder = "rounds/00000-disk".to_owned();
        for name in ["00000-disk", "00001-disk"] {
            fs::create_dir_all(store.join(EVIDENCE).join(name).join("some-test")).unwrap();
        }
        append(store, &kept).unwrap();
        let mut file = File::options().append(true).open(store.join(ROUNDS)).unwrap();
        file.write_all(b"{\"at\": \"20").unwrap();
        assert!(rounds(store).is_err());
        let lock = prepare(store).unwrap();
        assert_eq!(rounds(store).unwrap().len(), 1);
        // A folder of a test that nobody was told of would be taken for the next one's.
        assert!(store.join("rounds/00000-disk").exists());
        assert!(!store.join("rounds/00001-disk").exists());
        append(store, &kept).unwrap();
        assert_eq!(rounds(store).unwrap().len(), 2);
        let told = prepare(store).unwrap_err().to_string();
        assert!(told.contains("another campaign"), "{told}");
        drop(lock);
        prepare(store).unwrap();
    }

    /// With a program in the place of the one under test that cannot be tested.
    pub(super) fn options(store: &Path) -> Options {
        Options {
            horai: "/bin/false".into(),
            store: store.to_owned(),
            hours: 1.0,
            rounds: None,
            free: 0,
            whole: false,
            again: false,
            only: vec!["disk".to_owned()],
            source: "s".to_owned(),
            commit: "c".to_owned(),
        }
    }

    #[test]
    fn a_campaign_whose_rounds_all_fail_ends() {
        let folder = tempfile::tempdir().unwrap();
        let mut text = Vec::new();
        // Here the program is the one with these tests, which knows no `test` to do.
        let verdict = soak(&options(folder.path()), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(verdict, Verdict::Unknown, "{text}");
        assert!(text.contains("given up") && text.contains("disk"), "{text}");
        let full = Options { free: u64::MAX, ..options(folder.path()) };
        let told = soak(&full, &mut Vec::new()).unwrap_err().to_string();
        assert!(told.contains("MiB free"), "{told}");
        let rounds = rounds(folder.path()).unwrap();
        assert_eq!(rounds.len(), (FRUITLESS * SET_ASIDE) as usize);
        assert!(rounds.iter().all(|round| round.verdict == Verdict::HarnessFailure));
    }
}
