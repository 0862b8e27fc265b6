//! Starts this binary once for each seed, and says what came of it.
//!
//! Clocks of this binary stand still outside of a simulation, so nothing here
//! measures time; sleeping works.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The first is run twice. 4: a founder that starts again after all lost their power
/// took itself for pristine. 2,388,000,401: a leader that was cut off refused for good a
/// node that another one had let in.
const PINNED: [u64; 3] = [1, 4, 2_388_000_401];
/// Fresh seeds without an argument.
const FRESH: u64 = 20;
/// Seeds at once.
const AT_ONCE: usize = 2;
/// A seed that takes longer hangs; in looks.
const PATIENCE: u32 = 2_400;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

struct Seed {
    number: u64,
    child: Child,
    looks: u32,
}

fn start(seed: u64, trace: Option<&PathBuf>) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--one", "--seed", &seed.to_string()]);
    if let Some(trace) = trace {
        command.arg("--trace").arg(trace);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()
}

/// Runs one seed again and shows what it says.
///
/// # Errors
/// If it fails.
pub(crate) fn replay(out: &mut dyn Write, seed: u64, trace: Option<PathBuf>) -> io::Result<()> {
    writeln!(out, "seed {seed}")?;
    let done = start(seed, trace.as_ref())?.wait_with_output()?;
    out.write_all(&done.stdout)?;
    if done.status.success() { Ok(()) } else { Err(failed(seed)) }
}

/// Runs pinned seeds, one of them twice, and fresh ones.
///
/// # Errors
/// If one fails, or the same seed gives two traces.
pub(crate) fn many(out: &mut dyn Write, fresh: Option<u64>) -> io::Result<()> {
    let mut seeds: Vec<u64> = Vec::new();
    if fresh.is_none() {
        seeds.extend(PINNED);
        seeds.push(PINNED[0]);
    }
    seeds.extend((0..fresh.unwrap_or(FRESH)).map(|_| uuid::Uuid::new_v4().as_u64_pair().1 >> 32));
    seeds.reverse();
    let mut running: Vec<Seed> = Vec::new();
    let mut done: Vec<(u64, bool, String)> = Vec::new();
    while !seeds.is_empty() || !running.is_empty() {
        while running.len() < AT_ONCE
            && let Some(number) = seeds.pop()
        {
            writeln!(out, "seed {number}")?;
            running.push(Seed { number, child: start(number, None)?, looks: 0 });
        }
        std::thread::sleep(LOOK);
        for mut seed in std::mem::take(&mut running) {
            seed.looks += 1;
            if seed.looks > PATIENCE {
                seed.child.kill()?;
            } else if seed.child.try_wait()?.is_none() {
                running.push(seed);
                continue;
            }
            let ended = seed.child.wait_with_output()?;
            let text = String::from_utf8_lossy(&ended.stdout).into_owned();
            writeln!(out, "seed {}: {}", seed.number, text.trim_end())?;
            done.push((seed.number, ended.status.success(), text));
        }
    }
    let bad: Vec<u64> = done.iter().filter(|(_, good, _)| !good).map(|(seed, ..)| *seed).collect();
    if let Some(seed) = bad.first() {
        writeln!(out, "{} of {} seeds failed: {bad:?}", bad.len(), done.len())?;
        return Err(failed(*seed));
    }
    for (at, (seed, _, text)) in done.iter().enumerate() {
        if done[..at].iter().any(|(other, _, theirs)| other == seed && theirs != text) {
            return Err(io::Error::other(format!("seed {seed} gave two different traces")));
        }
    }
    writeln!(out, "{} seeds are good", done.len())
}

fn failed(seed: u64) -> io::Error {
    io::Error::other(format!("seed {seed} failed; again: cargo test --test sim -- --seed {seed}"))
}
