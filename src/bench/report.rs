//! All figures with their parameters, as a table for people and JSON for programs.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::balance::Balance;
use super::bed::{Cost, NODES, SLOTS, WORKERS};
use super::disk::Disk;
use super::failover::Failover;
use super::fires::Fires;
use super::lateness::Lateness;
use super::planning::Planning;
use super::proposals::Proposals;
use super::stats::Times;
use super::{Options, What};

/// Everything that was measured; what was not asked for is absent.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    version: &'static str,
    /// True if this program was compiled without optimisation.
    debug_build: bool,
    cores: usize,
    kernel: String,
    /// Load of the machine over the last minute, when it began.
    load_before: String,
    folder: String,
    nodes: u32,
    workers: u32,
    slots_per_worker: u32,
    not_measured: Vec<String>,
    pub(super) disk: Option<Disk>,
    pub(super) fires: Option<Fires>,
    pub(super) lateness: Option<Lateness>,
    pub(super) proposals: Option<Vec<Proposals>>,
    pub(super) planning: Option<Planning>,
    pub(super) failover: Option<Failover>,
}

impl Report {
    pub(super) fn new(options: &Options, folder: &Path) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let all = [
            What::Disk,
            What::Fires,
            What::Lateness,
            What::Proposals,
            What::Planning,
            What::Failover,
        ];
        let left_out = all.iter().filter(|what| !options.wants(**what));
        let mut not_measured: Vec<String> =
            left_out.map(|what| format!("{what:?}: not asked for").to_lowercase()).collect();
        not_measured.push("several machines: all processes share this one".to_owned());
        not_measured.push("power cuts: only processes are killed".to_owned());
        Self {
            version: env!("CARGO_PKG_VERSION"),
            debug_build: cfg!(debug_assertions),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            folder: folder.parent().unwrap_or(folder).display().to_string(),
            nodes: NODES,
            workers: WORKERS,
            slots_per_worker: SLOTS,
            not_measured,
            disk: None,
            fires: None,
            lateness: None,
            proposals: None,
            planning: None,
            failover: None,
        }
    }

    /// False if a fire was lost or doubled.
    pub(super) fn is_clean(&self) -> bool {
        let fires = self.fires.as_ref().is_none_or(|f| f.drained && f.balance.is_clean());
        let late = self.lateness.as_ref().is_none_or(|l| l.drained && l.balance.is_clean());
        let over = self.failover.as_ref().is_none_or(|f| f.drained && f.balance.is_clean());
        fires && late && over
    }

    pub(super) fn table(&self, out: &mut impl Write) -> io::Result<()> {
        let build = if self.debug_build { " DEBUG BUILD: figures mean nothing" } else { "" };
        writeln!(out, "horai bench, version {}{build}", self.version)?;
        let Self { cores, kernel, load_before, folder, .. } = self;
        writeln!(out, "machine     {cores} cores, Linux {kernel}, load {load_before} before")?;
        let Self { nodes, workers, slots_per_worker, .. } = self;
        writeln!(
            out,
            "cluster     {nodes} nodes, {workers} workers of {slots_per_worker} slots and the load on this machine, data in {folder}"
        )?;
        if let Some(disk) = &self.disk {
            writeln!(
                out,
                "disk        {:.0} appends of {} B with fdatasync a second; {} (median of {} runs of {} s)",
                disk.syncs_per_second,
                disk.block_bytes,
                times(Some(&disk.times)),
                disk.runs,
                disk.run_seconds
            )?;
        }
        if let Some(fires) = &self.fires {
            table_of_fires(fires, out)?;
        }
        if let Some(late) = &self.lateness {
            writeln!(
                out,
                "lateness    at {} fires/s, all due at the begin of each second, {:.0} s: started {}; completed {}",
                late.rate,
                late.seconds,
                times(late.started.as_ref()),
                times(late.completed.as_ref())
            )?;
            balance(&late.balance, late.drained, out)?;
            costs("processes", &late.processes, out)?;
        }
        for proposals in self.proposals.iter().flatten() {
            writeln!(
                out,
                "proposals   {:>6.0}/s with {:>3} clients; {} (lock renewals over HTTP at the leader, median of {} runs of {} s)",
                proposals.per_second,
                proposals.clients,
                times(Some(&proposals.times)),
                proposals.runs,
                proposals.run_seconds
            )?;
        }
        if let Some(planning) = &self.planning {
            writeln!(
                out,
                "planning    {:.1} s until {} hourly triggers of {} jobs have their next action; {:.1} CPU-seconds of nodes and workers (median of {} thaws)",
                planning.seconds,
                planning.triggers,
                planning.jobs,
                planning.cpu_seconds,
                planning.rounds
            )?;
        }
        if let Some(over) = &self.failover {
            writeln!(
                out,
                "failover    {} times kill -9 of the leader at {} fires/s",
                over.kills.len(),
                over.rate
            )?;
            writeln!(
                out,
                "            to the first fire due after it: {}",
                times(over.first_fire.as_ref())
            )?;
            writeln!(out, "            to another leader: {}", times(over.leader.as_ref()))?;
            balance(&over.balance, over.drained, out)?;
        }
        writeln!(out, "not measured: {}", self.not_measured.join("; "))
    }
}

fn table_of_fires(fires: &Fires, out: &mut impl Write) -> io::Result<()> {
    for step in &fires.ramp {
        writeln!(
            out,
            "ramp        {:>6} due a second, {:>6.0} completed",
            step.offered, step.completed
        )?;
    }
    if !fires.ramp.is_empty() && !fires.saturated {
        writeln!(out, "            the ramp ended at its last step: the cluster kept up with all")?;
    }
    writeln!(
        out,
        "fires       {:.0}/s durable, {:.0} per CPU-second ({} noop jobs, {:.0} s; {:.1} CPU-seconds of nodes and workers, {:.1} of the load's own apart; backlog {:+})",
        fires.fires_per_second,
        fires.fires_per_cpu_second,
        fires.jobs,
        fires.seconds,
        fires.cpu_seconds,
        fires.own_cpu_seconds,
        fires.backlog_growth
    )?;
    writeln!(out, "            started {}", times(fires.lateness.as_ref()))?;
    balance(&fires.balance, fires.drained, out)?;
    costs("processes", &fires.processes, out)?;
    costs("idle", &fires.idle, out)
}

fn times(times: Option<&Times>) -> String {
    times.map_or_else(
        || "nothing to measure".to_owned(),
        |t| {
            let Times { p50_ms, p99_ms, max_ms, samples } = t;
            format!("p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms, max {max_ms:.1} ms of {samples}")
        },
    )
}

fn balance(balance: &Balance, drained: bool, out: &mut impl Write) -> io::Result<()> {
    let Balance { expected, succeeded, lost, double, repeated } = balance;
    let waits = if drained { "" } else { "; runs were still waiting in the end" };
    writeln!(
        out,
        "            expected {expected}, succeeded {succeeded}, lost {lost}, double {double}, repeated {repeated}{waits}"
    )
}

fn costs(name: &str, costs: &[Cost], out: &mut impl Write) -> io::Result<()> {
    for cost in costs {
        let Cost { process, cpu_percent, rss_mib, peak_mib } = cost;
        writeln!(
            out,
            "  {name:<9} {process:<9} {cpu_percent:>5.1} % of a core, {rss_mib:>6.1} MiB, at most {peak_mib:>6.1} MiB"
        )?;
    }
    Ok(())
}
