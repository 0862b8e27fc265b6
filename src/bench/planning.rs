//! Planning: how soon 100,000 hourly triggers have their next action, proposed by
//! the leader, synced by a majority and applied.
//!
//! A frozen cluster has nothing planned; the clock runs from its thaw until every
//! trigger has an action. None of them is due before the measurement is over, since a
//! freeze keeps what is due. What the computation of the instants alone takes is
//! measured apart, by `cargo bench -p horai-core`.

use std::io::Write;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::bed::{Bed, hourly_job};
use super::stats::median;
use super::{Error, progress};
use crate::cli::client::Held;

/// Jobs, and triggers of each.
const JOBS: u32 = 10_000;
const TRIGGERS: u32 = 10;
/// Freezes and thaws; the figures are their medians.
const ROUNDS: usize = 3;
/// Between two looks at how many actions there are.
const LOOK: Duration = Duration::from_millis(20);
/// The first of them is due so long after the measurement begins, the last 20 min later.
const AHEAD: Duration = Duration::from_secs(1200);
/// More than this is no figure but a fault.
const LIMIT: Duration = Duration::from_secs(300);

/// The figures.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Planning {
    /// Hourly triggers, each with an action in the end.
    pub(super) triggers: u32,
    /// Jobs that they belong to.
    pub(super) jobs: u32,
    /// Thaws.
    pub(super) rounds: usize,
    /// From the thaw until all have an action.
    pub(super) seconds: f64,
    /// CPU time of all nodes and workers meanwhile.
    pub(super) cpu_seconds: f64,
}

/// Measures on a fresh cluster.
pub(super) async fn measure(bed: &mut Bed, log: &mut impl Write) -> Result<Planning, Error> {
    bed.client.pause(Held::Cluster).await?;
    let from = second_of_hour(SystemTime::now() + AHEAD);
    let jobs = (0..JOBS).map(|number| hourly_job(number, TRIGGERS, from));
    bed.apply(&jobs.collect::<Vec<_>>()).await?;
    let triggers = JOBS * TRIGGERS;
    let (mut seconds, mut cpu_seconds) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        until(bed, |live| live == 0).await?;
        let (before, begun) = (bed.usages(), Instant::now());
        bed.client.resume(Held::Cluster, Some("skip")).await?;
        until(bed, |live| live >= u64::from(triggers)).await?;
        seconds.push(begun.elapsed().as_secs_f64());
        cpu_seconds.push(bed.usages().since(&before).1);
        progress(log, &format!("planned {triggers} triggers, {round} of {ROUNDS}"))?;
        bed.client.pause(Held::Cluster).await?;
    }
    let none = || std::io::Error::other("nothing was planned");
    Ok(Planning {
        triggers,
        jobs: JOBS,
        rounds: ROUNDS,
        seconds: median(&seconds).ok_or_else(none)?,
        cpu_seconds: median(&cpu_seconds).ok_or_else(none)?,
    })
}

fn second_of_hour(at: SystemTime) -> u32 {
    // Before 1970 any second will do.
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    u32::try_from(since % 3600).unwrap_or(0)
}

/// Waits for a number of live actions.
async fn until(bed: &Bed, is_it: impl Fn(u64) -> bool) -> Result<(), Error> {
    let begun = Instant::now();
    loop {
        let live = bed.client.cluster().await?.counts.live_actions;
        if is_it(live) {
            return Ok(());
        }
        if begun.elapsed() > LIMIT {
            return Err(Error::NotPlanned { live, seconds: LIMIT.as_secs() });
        }
        tokio::time::sleep(LOOK).await;
    }
}
