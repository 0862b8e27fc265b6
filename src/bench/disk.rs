//! How fast the disk itself is: what every durable write has to wait for.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::stats::{Times, median};

/// Bytes of one append.
const BLOCK: usize = 4096;
/// Runs, each this long.
const RUNS: u32 = 3;
const RUN: Duration = Duration::from_secs(2);

/// Appends with an fdatasync after each.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Disk {
    /// Bytes of each append.
    pub(super) block_bytes: usize,
    /// Runs; the rate is their median.
    pub(super) runs: u32,
    /// Seconds of each run.
    pub(super) run_seconds: u64,
    /// Appends with fdatasync in a second.
    pub(super) syncs_per_second: f64,
    /// Of one append with fdatasync, over all runs.
    pub(super) times: Times,
}

/// Measures in `folder`.
pub(super) fn measure(folder: &Path) -> io::Result<Disk> {
    let path = folder.join("disk-probe");
    let mut file = OpenOptions::new().create_new(true).append(true).open(&path)?;
    let block = [0x5a; BLOCK];
    let (mut rates, mut times) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let begun = Instant::now();
        let mut syncs = 0_u32;
        while begun.elapsed() < RUN {
            let one = Instant::now();
            file.write_all(&block)?;
            file.sync_data()?;
            times.push(one.elapsed().as_secs_f64() * 1000.0);
            syncs += 1;
        }
        rates.push(f64::from(syncs) / begun.elapsed().as_secs_f64());
    }
    drop(file);
    std::fs::remove_file(&path)?;
    let none = || io::Error::other("the disk took no write in time");
    Ok(Disk {
        block_bytes: BLOCK,
        runs: RUNS,
        run_seconds: RUN.as_secs(),
        syncs_per_second: median(&rates).ok_or_else(none)?,
        times: Times::of(&times).ok_or_else(none)?,
    })
}
