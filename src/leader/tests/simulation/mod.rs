//! The core under a virtual clock: a pure simulation of machine, planner,
//! dispatcher, sessions and modelled workers. No threads, no tasks, no I/O: one
//! seed is one world, the same for ever.
//!
//! A seed draws jobs, edits, clock behaviour, changes of leader at any entry and
//! losses of workers into one explicit list of events ([`script`]). The [`world`]
//! runs it; every decision in it is the product's own code (machine, plan book,
//! picker, readings of answers, the comparison at attachment, cluster clock), and
//! what is modelled is time, the log's order, streams and machines. After every
//! command the machine's invariants are checked as a whole on two replicas, and an
//! [`oracle`] with its own calendar ([`calendar`], [`fires`]) says what had to
//! happen. A world that fails is run again with fewer events until none can be
//! left out, and that list is printed.
//!
//! `HORAI_SIM_SEED=N` runs one seed, `HORAI_SIM_SEEDS=N` so many fresh ones,
//! `HORAI_SIM_FROM=N` beginning there; `HORAI_SIM_QUICK=1` ends with the first that
//! fails, as it is; `HORAI_SIM_FOCUS=elect,lock` makes worlds of these events.

mod agenda;
mod beside;
mod calendar;
mod clients;
mod extras;
mod fires;
mod holds;
mod lead;
mod links;
mod oracle;
mod replicas;
mod rng;
mod run;
mod scenarios;
mod script;
mod sessions;
mod shim;
mod shrink;
mod trouble;
mod turns;
mod worker;
mod world;

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use run::{Report, run};
use script::{Focus, draw};

/// Seeds that are run each time.
const PINNED: std::ops::Range<u64> = 0..32;
/// Fresh ones that found a fault, of the product or of this oracle, stay for ever, each
/// with what its world was about.
const FOUND: [(u64, &str); 6] = [
    (20_026, ""),
    (20_144, ""),
    (30_024, ""),
    (20_006_025, "stall"),
    (20_006_068, "stall"),
    (20_006_137, "stall"),
];
/// Worlds in which people ask for more than the plan has.
const BESIDE: std::ops::Range<u64> = 500..508;
/// Fresh seeds are tried for this long each time.
const FRESH: Duration = Duration::from_secs(2);

/// A failing list is cut down for this long.
const SHRINK: Duration = Duration::from_secs(60);

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: write a number")))
}

/// Runs a seed; a failure is cut down and told in full.
fn check(seed: u64, focus: &str) -> Result<Report, String> {
    let focus = Focus::named(focus);
    let (setup, script) = draw(seed, &focus);
    let problem = match run(&setup, &script) {
        Ok(report) => return Ok(report),
        Err(problem) => problem,
    };
    tell(&format!("seed {seed} fails: {problem}"));
    if setting("HORAI_SIM_QUICK").is_some() {
        return Err(format!("seed {seed}, {:?}: {problem}", setup.scale));
    }
    // The shorter list may well fail in another way: that is as good a find.
    let began = Instant::now();
    let least =
        shrink::shrink(&script, |script| began.elapsed() < SHRINK && run(&setup, script).is_err());
    let left = run(&setup, &least).err().unwrap_or_default();
    let mut told = format!("seed {seed}, {:?}: {problem}\n", setup.scale);
    let (all, kept) = (script.len(), least.len());
    let _ = writeln!(told, "of {all} events {kept} are enough for: {left}");
    for step in &least {
        let _ = writeln!(told, "  {:>12} ms  {:?}", step.at, step.event);
    }
    Err(told)
}

fn tell(text: &str) {
    // Where there is nobody to read it, nothing is lost.
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[test]
fn every_world_keeps_its_promises() {
    let focus = std::env::var("HORAI_SIM_FOCUS").unwrap_or_default();
    if let Some(seed) = setting("HORAI_SIM_SEED") {
        let report = check(seed, &focus).unwrap_or_else(|told| panic!("{told}"));
        return tell(&format!("seed {seed}: {report:?}"));
    }
    let mut actions = 0;
    let is_fresh_only = setting("HORAI_SIM_SEEDS").is_some();
    let pinned = PINNED.map(|seed| (seed, "")).chain(FOUND);
    let pinned = pinned.chain(BESIDE.map(|seed| (seed, "beside")));
    for (seed, focus) in pinned.filter(|_| !is_fresh_only) {
        let report = check(seed, focus).unwrap_or_else(|told| panic!("{told}"));
        actions += report.processes;
    }
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let first =
        setting("HORAI_SIM_FROM").unwrap_or_else(|| u64::try_from(clock % 1_000_000_007).unwrap());
    let (most, began) = (setting("HORAI_SIM_SEEDS"), Instant::now());
    let goes_on = |done: u64| most.map_or(began.elapsed() < FRESH, |most| done < most);
    let mut failures = Vec::new();
    let mut done = 0;
    while goes_on(done) {
        let seed = first + done;
        match check(seed, &focus) {
            Ok(report) => {
                actions += report.processes;
                tell(&format!("seed {seed}: {report:?}"));
            }
            Err(told) => {
                tell(&told);
                failures.push(seed);
                if setting("HORAI_SIM_QUICK").is_some() {
                    break;
                }
            }
        }
        done += 1;
    }
    assert!(failures.is_empty(), "of {done} fresh seeds these failed: {failures:?}");
    assert!(actions > 0, "nothing ever ran");
}

#[test]
fn a_seed_is_one_world() {
    for seed in [1, 3] {
        let (setup, script) = draw(seed, &Focus::default());
        let (first, second) = (run(&setup, &script), run(&setup, &script));
        assert_eq!(first, second);
        assert!(first.is_ok_and(|report| report.commands > 100 && report.processes > 10));
    }
}
