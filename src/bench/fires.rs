//! Durable fires a second, and what they cost: planned, dispatched, completed,
//! each step committed by a majority and synced.
//!
//! The load is found by a ramp, then held for the whole window; what is counted
//! are runs whose end was committed inside it. Afterwards every action of the
//! window is checked against the API.

use std::io::Write;
use std::time::{Duration, Instant};

use horai_core::time::UtcMillis;
use serde::Serialize;

use super::balance::Balance;
use super::bed::{Bed, Cost, Fire, Usages, seconds_of};
use super::stats::Times;
use super::{Error, Options, progress};

/// Jobs of the ramp's first step, and by how much each step is larger.
const RAMP_FROM: u32 = 1_000;
const RAMP_PERCENT: u32 = 130;
/// The last step.
const RAMP_TO: u32 = 13_000;
/// A window has no more fires than this: the cluster keeps the last 500,000 runs,
/// and each of the window is looked at afterwards.
const CHECKED: u64 = 400_000;
/// New jobs are left alone for this long before anything is counted.
const WARM_UP: Duration = Duration::from_secs(5);
/// Length of a step of the ramp.
const STEP: Duration = Duration::from_secs(6);
/// A step is kept up with if at least this share was completed.
const KEPT_UP_PERCENT: f64 = 97.0;

/// One step of the ramp.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Step {
    /// Fires due in a second.
    pub(super) offered: u32,
    /// Fires completed in a second.
    pub(super) completed: f64,
}

impl Step {
    fn is_kept_up(self) -> bool {
        self.completed * 100.0 >= f64::from(self.offered) * KEPT_UP_PERCENT
    }
}

/// The figures.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Fires {
    /// How the load was found; empty if it was given.
    pub(super) ramp: Vec<Step>,
    /// True if the ramp ended because the cluster could not keep up; false if it
    /// ended at its own last step.
    pub(super) saturated: bool,
    /// Noop jobs, each due every second.
    pub(super) jobs: u32,
    /// Length of the window.
    pub(super) seconds: f64,
    /// Runs completed in the window.
    pub(super) completed: u64,
    /// The same in a second.
    pub(super) fires_per_second: f64,
    /// CPU time of all nodes and workers in the window.
    pub(super) cpu_seconds: f64,
    /// Completed runs for each second of that.
    pub(super) fires_per_cpu_second: f64,
    /// CPU time of the measuring process, which is not in it.
    pub(super) own_cpu_seconds: f64,
    /// Runs waiting at the window's end, less those at its begin.
    pub(super) backlog_growth: i64,
    /// From due to started, of what was completed.
    pub(super) lateness: Option<Times>,
    /// Was each action of the window run exactly once?
    pub(super) balance: Balance,
    /// False if runs were still waiting a minute after the last was due.
    pub(super) drained: bool,
    /// Each process in the window.
    pub(super) processes: Vec<Cost>,
    /// Each process before there were jobs.
    pub(super) idle: Vec<Cost>,
}

/// Measures on a fresh cluster.
pub(super) async fn measure(
    options: &Options,
    bed: &mut Bed,
    log: &mut impl Write,
) -> Result<Fires, Error> {
    let before = bed.usages();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (idle, _) = bed.usages().since(&before);
    let (ramp, jobs) = match options.jobs {
        Some(jobs) => {
            bed.jobs(jobs).await?;
            (Vec::new(), jobs)
        }
        None => find_load(bed, log).await?,
    };
    tokio::time::sleep(WARM_UP).await;
    let length = window_length(options.fires_for(), jobs);
    if length < options.fires_for() {
        let seconds = length.as_secs();
        progress(log, &format!("the window is {seconds} s: each of its fires is to be checked"))?;
    }
    let window = Window::hold(bed, length).await?;
    progress(log, &format!("checked what {jobs} jobs did"))?;
    Ok(window.figures(ramp, jobs, idle))
}

/// As long as was asked for, or as long as all its fires can still be looked at.
pub(super) fn window_length(asked: Duration, fires_per_second: u32) -> Duration {
    asked.min(Duration::from_secs(CHECKED / u64::from(fires_per_second.max(1))))
}

/// The highest step that the cluster keeps up with, or the first if none.
async fn find_load(bed: &mut Bed, log: &mut impl Write) -> Result<(Vec<Step>, u32), Error> {
    let (mut steps, mut offered, mut good) = (Vec::new(), RAMP_FROM, None);
    loop {
        bed.jobs(offered).await?;
        tokio::time::sleep(WARM_UP).await;
        let completed = step(bed).await?;
        steps.push(Step { offered, completed });
        progress(log, &format!("ramp: {offered} due a second, {completed:.0} completed"))?;
        let kept_up = Step { offered, completed }.is_kept_up();
        if kept_up {
            good = Some(offered);
        }
        let next = (offered * RAMP_PERCENT / 100).min(RAMP_TO);
        if !kept_up || next == offered {
            break;
        }
        offered = next;
    }
    let jobs = good.unwrap_or(RAMP_FROM);
    if jobs < offered {
        // Back to what it kept up with; the backlog is not the window's.
        bed.pause(jobs).await?;
        bed.drain().await?;
    }
    Ok((steps, jobs))
}

/// Completed runs in a second: what was created, less what piled up.
async fn step(bed: &Bed) -> Result<f64, Error> {
    let look = async || -> Result<_, Error> {
        let (last, queued) = (bed.last_run().await?, bed.queued().await?);
        Ok((Instant::now(), last.0.0.saturating_sub(queued)))
    };
    // From the middle of a second to the middle of another: what is due in one
    // is done by then, unless it piles up.
    middle_of_a_second(bed).await?;
    let (begun, before) = look().await?;
    tokio::time::sleep(STEP).await;
    let (ended, after) = look().await?;
    let seconds = ended.duration_since(begun).as_secs_f64();
    Ok(seconds_of(after.saturating_sub(before) * 1000) / seconds)
}

async fn middle_of_a_second(bed: &Bed) -> Result<(), Error> {
    let phase = bed.time().await?.0.rem_euclid(1000);
    let wait = (1_700 - phase).rem_euclid(1000);
    tokio::time::sleep(Duration::from_millis(u64::try_from(wait).unwrap_or(0))).await;
    Ok(())
}

/// A load that was held, and all that is known of it.
pub(super) struct Window {
    from: UtcMillis,
    to: UtcMillis,
    fires: Vec<Fire>,
    costs: Vec<Cost>,
    cpu_seconds: f64,
    own_cpu_seconds: f64,
    backlog_growth: i64,
    drained: bool,
}

impl Window {
    /// Lets the load run for `length`, stops it, and reads what it did.
    pub(super) async fn hold(bed: &mut Bed, length: Duration) -> Result<Self, Error> {
        let first = bed.last_run().await?;
        // Runs of the window have later numbers than those of the second before it.
        tokio::time::sleep(Duration::from_secs(1)).await;
        middle_of_a_second(bed).await?;
        let (queued, from) = (bed.queued().await?, bed.time().await?);
        let (own, before) = (Usages::own()?, bed.usages());
        tokio::time::sleep(length).await;
        let (after, own_after) = (bed.usages(), Usages::own()?);
        let (to, queued_after) = (bed.time().await?, bed.queued().await?);
        let (costs, cpu_seconds) = after.since(&before);
        bed.check()?;
        bed.pause(0).await?;
        let drained = bed.drain().await?;
        let fires = bed.fires(first).await?;
        Ok(Self {
            from,
            to,
            fires,
            costs,
            cpu_seconds,
            own_cpu_seconds: seconds_of(own_after.saturating_sub(own)),
            backlog_growth: difference(queued_after, queued),
            drained,
        })
    }

    fn completed(&self) -> impl Iterator<Item = &Fire> {
        let inside = move |at: UtcMillis| self.from < at && at <= self.to;
        let done = move |fire: &&Fire| fire.successes > 0 && fire.finished.is_some_and(inside);
        self.fires.iter().filter(done)
    }

    pub(super) fn balance(&self, jobs: u32) -> Balance {
        Balance::draw(&self.fires, jobs, self.from, self.to)
    }

    /// From due to started.
    pub(super) fn lateness(&self) -> Option<Times> {
        let late = |fire: &Fire| Some(seconds_of(fire.started?.since(fire.nominal).0) * 1000.0);
        Times::of(&self.completed().filter_map(late).collect::<Vec<_>>())
    }

    /// From due to the commit of the end.
    pub(super) fn done_after(&self) -> Option<Times> {
        let late = |fire: &Fire| Some(seconds_of(fire.finished?.since(fire.nominal).0) * 1000.0);
        Times::of(&self.completed().filter_map(late).collect::<Vec<_>>())
    }

    pub(super) fn seconds(&self) -> f64 {
        seconds_of(self.to.since(self.from).0)
    }

    pub(super) fn costs(&self) -> Vec<Cost> {
        self.costs.clone()
    }

    pub(super) fn drained(&self) -> bool {
        self.drained
    }

    fn figures(&self, ramp: Vec<Step>, jobs: u32, idle: Vec<Cost>) -> Fires {
        let completed = self.completed().count() as u64;
        let fires_per_second = seconds_of(completed * 1000) / self.seconds();
        Fires {
            saturated: ramp.last().is_some_and(|step| !step.is_kept_up()),
            ramp,
            jobs,
            seconds: self.seconds(),
            completed,
            fires_per_second,
            cpu_seconds: self.cpu_seconds,
            fires_per_cpu_second: seconds_of(completed * 1000) / self.cpu_seconds.max(0.001),
            own_cpu_seconds: self.own_cpu_seconds,
            backlog_growth: self.backlog_growth,
            lateness: self.lateness(),
            balance: self.balance(jobs),
            drained: self.drained,
            processes: self.costs(),
            idle,
        }
    }
}

fn difference(after: u64, before: u64) -> i64 {
    let signed = |n| i64::try_from(n).unwrap_or(i64::MAX);
    signed(after) - signed(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fire(due: i64, started: i64, finished: i64) -> Fire {
        let at = |ms| Some(UtcMillis(ms));
        Fire {
            job: 0,
            nominal: UtcMillis(due),
            dispatched: at(started),
            started: at(started),
            finished: at(finished),
            successes: 1,
            attempts: 1,
        }
    }

    #[test]
    fn a_window_is_no_longer_than_its_fires_are_kept() {
        let asked = Duration::from_secs(60);
        assert_eq!(window_length(asked, 1_000), asked);
        assert_eq!(window_length(asked, 10_000), Duration::from_secs(40));
    }

    #[test]
    fn only_what_was_completed_inside_the_window_counts() {
        let window = Window {
            from: UtcMillis(10_500),
            to: UtcMillis(12_500),
            fires: vec![
                fire(10_000, 10_010, 10_400), // before it
                fire(10_000, 10_030, 10_600), // due before it, completed inside
                fire(11_000, 11_020, 11_040),
                fire(12_000, 12_040, 12_060),
                Fire { successes: 0, ..fire(12_000, 12_001, 12_002) },
                fire(12_000, 12_001, 12_501), // after it
            ],
            costs: Vec::new(),
            cpu_seconds: 1.5,
            own_cpu_seconds: 0.0,
            backlog_growth: 0,
            drained: true,
        };
        let ramp =
            vec![Step { offered: 100, completed: 99.0 }, Step { offered: 130, completed: 101.0 }];
        assert!(!window.figures(ramp[..1].to_vec(), 1, Vec::new()).saturated);
        assert!(window.figures(ramp, 1, Vec::new()).saturated);
        let figures = window.figures(Vec::new(), 1, Vec::new());
        assert_eq!(figures.completed, 3);
        assert!((figures.fires_per_second - 1.5).abs() < 1e-9);
        assert!((figures.fires_per_cpu_second - 2.0).abs() < 1e-9);
        let times = figures.lateness.unwrap();
        assert!((times.p50_ms - 30.0).abs() < 1e-9 && (times.max_ms - 40.0).abs() < 1e-9);
    }
}
