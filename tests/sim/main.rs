//! A whole cluster in one deterministic process, run for many seeds.
//!
//! `cargo test --test sim -- --seeds 20` starts itself once a seed, because what
//! one run leaves in a process (counters of libraries, for one) would change the
//! next. `-- --seed 4711` runs that seed again, `--trace FILE` writes down all that
//! happened. `-- --one --seed 4711 --faults power,kill` runs it with other faults than
//! the seed draws. Every seed is printed before it runs. Without arguments: the pinned
//! seeds, one of them twice with the same trace, and 20 fresh ones.
//!
//! Randomness and clocks that nobody handed in come from the seed, too: the symbols
//! that libraries call for them are replaced in this binary.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod cluster;
mod runner;
mod world;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use rand_seeded::SeedableRng;
use rand_seeded::rngs::StdRng;

use cluster::faults::Kind;
use world::trace::Trace;

/// What is asked for.
#[derive(Debug, Default)]
struct Arguments {
    seeds: Option<u64>,
    seed: Option<u64>,
    trace: Option<PathBuf>,
    /// Only these kinds of faults.
    faults: Vec<Kind>,
    /// This process is the one for a seed.
    one: bool,
    /// A test filter that is not meant for this binary.
    is_other: bool,
}

impl Arguments {
    fn read() -> Result<Self, String> {
        let mut read = Self::default();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut number = || {
                let value = words.next().unwrap_or_default();
                value.parse::<u64>().map_err(|e| format!("{word} {value:?}: {e}"))
            };
            match word.as_str() {
                "--seeds" => read.seeds = Some(number()?),
                "--seed" => read.seed = Some(number()?),
                "--one" => read.one = true,
                "--faults" => {
                    let named = |name: &str| Kind::named(name).ok_or(format!("no fault {name}"));
                    let names = words.next().unwrap_or_default();
                    read.faults = names.split(',').map(named).collect::<Result<_, _>>()?;
                }
                "--trace" => read.trace = words.next().map(PathBuf::from),
                // What cargo and the usual harness know.
                "--nocapture" | "--quiet" | "-q" | "--exact" | "--include-ignored" => {}
                "--list" => read.is_other = true,
                other if other.starts_with('-') => return Err(format!("unknown: {other}")),
                filter => read.is_other |= !"sim".contains(filter),
            }
        }
        Ok(read)
    }
}

fn main() -> ExitCode {
    let mut out = io::stdout();
    let done = match Arguments::read() {
        Err(error) => Err(error),
        Ok(Arguments { is_other: true, .. }) => return ExitCode::SUCCESS,
        Ok(Arguments { seed: Some(seed), trace, faults, one: true, .. }) => {
            one(&mut out, seed, &faults, trace)
        }
        Ok(Arguments { seed: Some(seed), trace, .. }) => {
            runner::replay(&mut out, seed, trace).map_err(|e| e.to_string())
        }
        Ok(Arguments { seeds, .. }) => runner::many(&mut out, seeds).map_err(|e| e.to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If nobody reads it, the exit code tells.
            let _ = writeln!(out, "{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one seed in this process.
fn one(
    out: &mut dyn Write,
    seed: u64,
    faults: &[Kind],
    file: Option<PathBuf>,
) -> Result<(), String> {
    mad_turmoil::rand::set_rng(StdRng::seed_from_u64(seed));
    let clocks = mad_turmoil::time::SimClocksGuard::init();
    let trace = match file {
        Some(file) => Trace::to_file(&file).map_err(|e| format!("{}: {e}", file.display()))?,
        None => Trace::default(),
    };
    let log = std::env::var("SIM_LOG").ok();
    if let Some(filter) = &log {
        let filter = tracing_subscriber::EnvFilter::new(filter);
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    }
    let report = cluster::run(seed, faults, trace.clone());
    drop(clocks);
    match report {
        Ok(report) => {
            let (sum, lines) = report.sum;
            writeln!(out, "ok {sum:016x} {lines} {}", report.line).map_err(|e| e.to_string())
        }
        Err(what) => {
            let events = trace.recent().join("\n  ");
            let (sum, lines) = trace.sum();
            Err(format!("FAILED {sum:016x} {lines} {what}\n  {events}"))
        }
    }
}
