//! The test bed: a fresh local cluster for each measurement, its jobs, and what
//! the API tells of their runs afterwards.
//!
//! A cluster of its own for each, so that no measurement carries another's state.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use horai_core::ids::RunId;
use horai_core::time::UtcMillis;

use super::{Error, Options, System};
use crate::api::dto::{RunDto, RunRef};
use crate::api::job_definition::{JobDefinition, TriggerDefinition};
use crate::cli::client::{Client, Held, RunsQuery};
use crate::launch::{self, LocalCluster, Role, procs};

/// Nodes and workers of every measurement.
pub(super) const NODES: u32 = 3;
pub(super) const WORKERS: u32 = 2;
/// Attempts that one worker runs at once.
pub(super) const SLOTS: u32 = 4_000;
/// Jobs in one request.
const SET: usize = 250;
/// Requests under way at once while jobs are paused.
const PARALLEL: usize = 32;
/// Runs in one answer.
const PAGE: u32 = 1_000;
/// How long what is due may take to finish once nothing new comes.
const DRAIN: Duration = Duration::from_secs(60);

/// One measurement's cluster.
pub(super) struct Bed {
    pub(super) cluster: LocalCluster,
    pub(super) client: Client,
    jobs: u32,
}

/// What the figures need of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fire {
    /// The job's number in this measurement, from 0.
    pub(super) job: u32,
    /// When it was due.
    pub(super) nominal: UtcMillis,
    /// When its last attempt's dispatch was committed.
    pub(super) dispatched: Option<UtcMillis>,
    /// When its first attempt started.
    pub(super) started: Option<UtcMillis>,
    /// When its end was committed.
    pub(super) finished: Option<UtcMillis>,
    /// Attempts that ended well.
    pub(super) successes: u32,
    /// All attempts.
    pub(super) attempts: u32,
}

/// CPU time and memory of a process over a span.
#[derive(Debug, Clone, serde::Serialize)]
pub(super) struct Cost {
    /// Which process.
    pub(super) process: String,
    /// CPU time over wall time, in per cent of one core.
    pub(super) cpu_percent: f64,
    /// Memory at the end of the span.
    pub(super) rss_mib: f64,
    /// The most memory it ever had.
    pub(super) peak_mib: f64,
}

/// All children's usage at one moment.
pub(super) struct Usages(Instant, BTreeMap<Role, (u32, procs::Usage)>);

impl Bed {
    /// A cluster below `folder`, which is removed in the end.
    pub(super) async fn start(options: &Options, folder: &Path, name: &str) -> Result<Self, Error> {
        let launch = launch::Options {
            folder: folder.join(name),
            remove: true,
            base_port: options.base_port,
            nodes: NODES,
            workers: WORKERS,
            slots: SLOTS,
        };
        let cluster = LocalCluster::start(&launch).await?;
        let client = cluster.client().clone().with_timeout(Duration::from_secs(60));
        Ok(Self { cluster, client, jobs: 0 })
    }

    /// Ends it. An error if something is left.
    pub(super) async fn stop(self) -> Result<(), Error> {
        let folder = self.cluster.folder().to_owned();
        if self.cluster.stop().await { Ok(()) } else { Err(Error::Left { folder }) }
    }

    /// Adds noop jobs that fire each second until there are `count`.
    pub(super) async fn jobs(&mut self, count: u32) -> Result<(), Error> {
        let new: Vec<JobDefinition> = (self.jobs..count).map(job).collect();
        self.apply(&new).await?;
        self.jobs = self.jobs.max(count);
        Ok(())
    }

    /// Creates jobs, many in one request.
    pub(super) async fn apply(&self, jobs: &[JobDefinition]) -> Result<(), Error> {
        for set in jobs.chunks(SET) {
            self.client.apply(set).await?;
        }
        Ok(())
    }

    /// Stops the plan of jobs `from` and later.
    pub(super) async fn pause(&mut self, from: u32) -> Result<(), Error> {
        let client = &self.client;
        let names = (from..self.jobs).map(job_name);
        stream::iter(names)
            .map(|name| async move { client.pause(Held::Job(&name)).await.map(drop) })
            .buffer_unordered(PARALLEL)
            .try_collect::<()>()
            .await?;
        Ok(())
    }

    /// Waits until nothing is queued. False if it still is after a minute.
    pub(super) async fn drain(&self) -> Result<bool, Error> {
        let until = Instant::now() + DRAIN;
        while Instant::now() < until {
            if self.client.cluster().await?.counts.queued == 0 {
                // What was dispatched last is on its way back.
                tokio::time::sleep(Duration::from_secs(1)).await;
                return Ok(self.client.cluster().await?.counts.queued == 0);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(false)
    }

    /// The latest run.
    pub(super) async fn last_run(&self) -> Result<RunRef, Error> {
        let query = RunsQuery { limit: Some(1), ..RunsQuery::default() };
        let page = self.client.runs(query).await?;
        Ok(page.items.first().map_or(RunRef(RunId(0)), |run| run.id))
    }

    /// Runs that wait for a worker.
    pub(super) async fn queued(&self) -> Result<u64, Error> {
        Ok(self.client.cluster().await?.counts.queued)
    }

    /// The cluster's time.
    pub(super) async fn time(&self) -> Result<UtcMillis, Error> {
        let time = self.client.cluster().await?.time;
        time.map(|time| time.0).ok_or(Error::NoTime)
    }

    /// Every run after `after` that executes an action.
    pub(super) async fn fires(&self, after: RunRef) -> Result<Vec<Fire>, Error> {
        let mut fires = Vec::new();
        let mut last = after;
        loop {
            let query = RunsQuery { limit: Some(PAGE), after: Some(last), ..RunsQuery::default() };
            let page = self.client.runs(query).await?;
            let Some(latest) = page.items.last() else { return Ok(fires) };
            if last == after
                && let Some(dropped) = dropped_between(after, page.items.first().map(|run| run.id))
            {
                return Err(Error::Dropped { dropped });
            }
            last = latest.id;
            fires.extend(page.items.iter().filter_map(Fire::of));
        }
    }

    /// What all children have used so far.
    pub(super) fn usages(&self) -> Usages {
        let of = |m: launch::Member| Some((m.role, (m.pid, procs::usage(m.pid)?)));
        Usages(Instant::now(), self.cluster.members().filter_map(of).collect())
    }

    /// An error if a process has ended by itself.
    pub(super) fn check(&mut self) -> Result<(), Error> {
        match self.cluster.reap().first() {
            None => Ok(()),
            Some(ended) => Err(Error::Launch(launch::Error::Ended {
                role: ended.role,
                status: ended.status,
                said: self.cluster.tail(ended.role),
            })),
        }
    }
}

/// Runs have consecutive numbers: how many after `known` the cluster keeps no more.
fn dropped_between(known: RunRef, oldest: Option<RunRef>) -> Option<u64> {
    let dropped = oldest?.0.0.saturating_sub(known.0.0.saturating_add(1));
    (dropped > 0).then_some(dropped)
}

impl Usages {
    /// What each process cost since `before`; one that was started since is left out.
    pub(super) fn since(&self, before: &Self) -> (Vec<Cost>, f64) {
        let seconds = self.0.duration_since(before.0).as_secs_f64();
        let mut total = 0.0;
        let costs = self.1.iter().filter_map(|(role, (pid, now))| {
            let (old_pid, old) = before.1.get(role)?;
            if old_pid != pid {
                return None;
            }
            let cpu = seconds_of(now.cpu_ms.saturating_sub(old.cpu_ms));
            total += cpu;
            Some(Cost {
                process: role.to_string(),
                cpu_percent: 100.0 * cpu / seconds,
                rss_mib: mib(now.rss),
                peak_mib: mib(now.peak),
            })
        });
        (costs.collect(), total)
    }

    /// The usage of this very process, for comparison.
    pub(super) fn own() -> System<u64> {
        let usage = procs::usage(std::process::id());
        usage.map(|usage| usage.cpu_ms).ok_or_else(|| std::io::Error::other("no /proc"))
    }
}

#[allow(clippy::cast_precision_loss)] // far below 2^52
pub(super) fn seconds_of(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

#[allow(clippy::cast_precision_loss)] // far below 2^52
fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

impl Fire {
    fn of(run: &RunDto) -> Option<Self> {
        let action = run.action.as_ref()?;
        let job = action.job.strip_prefix(PREFIX)?.parse().ok()?;
        let good = run.attempts.iter().filter_map(|attempt| attempt.end.as_ref());
        let good = good.filter(|end| end.how == "exited" && end.code == Some(0)).count();
        Some(Self {
            job,
            nominal: run.nominal.0,
            dispatched: run.attempts.last().map(|attempt| attempt.dispatched.0),
            started: run.attempts.iter().filter_map(|a| a.started).min().map(|time| time.0),
            finished: run.finished.map(|time| time.0),
            successes: u32::try_from(good).unwrap_or(u32::MAX),
            attempts: u32::try_from(run.attempts.len()).unwrap_or(u32::MAX),
        })
    }
}

const PREFIX: &str = "bench-";

fn job_name(number: u32) -> String {
    format!("{PREFIX}{number:05}")
}

/// A job that does nothing, each second.
fn job(number: u32) -> JobDefinition {
    with_triggers(number, vec![TriggerDefinition::of_cron("* * * * * ?")])
}

/// A job that does nothing, so often an hour, at moments that are spread over a third of
/// the hour from second `from` of it.
pub(super) fn hourly_job(number: u32, triggers: u32, from: u32) -> JobDefinition {
    const SPREAD: u32 = 1200;
    let trigger = |nth: u32| {
        let second = (from + (number * 7 + nth * SPREAD / triggers) % SPREAD) % 3600;
        TriggerDefinition::of_cron(&format!("{} {} * * * ?", second % 60, second / 60))
    };
    with_triggers(number, (0..triggers).map(trigger).collect())
}

fn with_triggers(number: u32, triggers: Vec<TriggerDefinition>) -> JobDefinition {
    JobDefinition {
        name: job_name(number),
        description: String::new(),
        zone: None,
        triggers,
        depends_on: Vec::new(),
        shell: None,
        interpreter: None,
        exec: None,
        noop: true,
        env: BTreeMap::new(),
        worker_group: None,
        workers: None,
        run_on: None,
        resources: None,
        priority: None,
        retries: None,
        timeout: None,
        grace: None,
        lease: None,
        on_worker_lost: None,
        keep_for: None,
        group: None,
        params: BTreeMap::new(),
        period: None,
        legacy_id: None,
        skip_exit_codes: Vec::new(),
        wait_limit: None,
        overlap: None,
        syntax: None,
        run_timeout: None,
        queue_timeout: None,
        retry_on_worker: None,
        pools: BTreeMap::new(),
        keep_state: false,
        pool: None,
        slots: None,
        areas: Vec::new(),
        batch: None,
        limits: None,
        run_as: None,
        umask: None,
        rlimits: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use horai_core::ids::JobId;

    use super::*;

    #[test]
    fn runs_that_are_kept_no_more_are_noticed() {
        let run = |id| RunRef(RunId(id));
        assert_eq!(dropped_between(run(7), None), None, "there was none");
        assert_eq!(dropped_between(run(7), Some(run(8))), None);
        assert_eq!(dropped_between(run(7), Some(run(10))), Some(2));
    }

    #[test]
    fn jobs_are_valid_and_their_numbers_come_back() {
        let spec = job(17).to_spec(|_| Some(JobId(1))).unwrap();
        assert_eq!(spec.name.as_str(), "bench-00017");
        let hourly = hourly_job(9_999, 10, 3_599).to_spec(|_| Some(JobId(1))).unwrap();
        assert_eq!(hourly.triggers.len(), 10);
        let run: RunDto = serde_json::from_value(serde_json::json!({
            "id": "r-7", "kind": "schedule", "job": "bench-00017", "revision": 1,
            "action": "bench-00017@20261121T030005Z", "nominal": "2026-11-21T03:00:05.000Z",
            "state": "success", "created": "2026-11-21T03:00:05.001Z",
            "ready_at": "2026-11-21T03:00:05.002Z", "finished": "2026-11-21T03:00:05.020Z",
            "retries": 0, "losses": 0, "cancel_requested": false,
            "attempts": [{
                "id": "r-7.1", "number": 1, "token": 1, "worker": "w", "cause": "first",
                "dispatched": "2026-11-21T03:00:05.003Z", "started": "2026-11-21T03:00:05.010Z",
                "ended": null, "output_bytes": 0,
                "end": {"how": "exited", "code": 0, "at": "2026-11-21T03:00:05.020Z"},
            }],
        }))
        .unwrap();
        let fire = Fire::of(&run).unwrap();
        assert_eq!((fire.job, fire.successes, fire.attempts), (17, 1, 1));
        assert_eq!(fire.started.unwrap().since(fire.nominal).0, 10);
        assert!(Fire::of(&RunDto { action: None, ..run }).is_none());
    }

    #[test]
    fn cost_is_the_difference_and_a_restarted_process_has_none() {
        let usage = |cpu_ms| procs::Usage { cpu_ms, rss: 3 << 20, peak: 4 << 20 };
        let (one, two) = (Role::Node(1), Role::Node(2));
        let begun = Instant::now();
        let before = Usages(begun, [(one, (10, usage(1_000))), (two, (11, usage(500)))].into());
        let after = Usages(
            begun + Duration::from_secs(2),
            [(one, (10, usage(2_000))), (two, (12, usage(100)))].into(),
        );
        let (costs, total) = after.since(&before);
        assert_eq!(costs.len(), 1);
        assert!((costs[0].cpu_percent - 50.0).abs() < 0.01 && (total - 1.0).abs() < 0.001);
        assert!((costs[0].rss_mib - 3.0).abs() < 0.001 && (costs[0].peak_mib - 4.0).abs() < 0.001);
    }
}
