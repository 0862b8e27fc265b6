//! `horai bench`: what a cluster of this build does on this machine.
//!
//! Three nodes and two workers, real processes on a real disk, all on one
//! machine together with the load. Every figure is printed with its parameters
//! and beside the disk's raw rate; what was not measured is said.

mod balance;
mod bed;
mod disk;
mod failover;
mod fires;
mod lateness;
mod planning;
mod proposals;
mod report;
mod stats;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use horai_core::time::Span;

use crate::cli::client::ApiError;
use crate::error::exit;
use crate::launch;

use bed::Bed;
use report::Report;

/// New jobs are left alone for this long before anything is counted.
const SETTLE: Duration = Duration::from_secs(8);

/// What may be chosen.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Length of the windows of fires and lateness
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub fires_for: Span,
    /// Fires a second while lateness is measured
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub rate: u32,
    /// How often the leader is killed
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub kills: u32,
    /// Jobs that fire each second; without it, the most that a ramp finds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub jobs: Option<u32>,
    /// Measure only these
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    pub only: Vec<What>,
    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Folder on the disk to measure; without it, a temporary one
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// HTTP port of the first node; each node needs this, the next two, and 10 more for the next
    #[arg(long, value_name = "PORT", default_value_t = 7700)]
    pub base_port: u16,
}

impl Options {
    fn fires_for(&self) -> Duration {
        Duration::from_millis(self.fires_for.0)
    }

    fn wants(&self, what: What) -> bool {
        self.only.is_empty() || self.only.contains(&what)
    }
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Raw appends with fdatasync
    Disk,
    /// Durable fires a second, and their CPU time
    Fires,
    /// From due to started, at a given rate
    Lateness,
    /// Writes a second over HTTP
    Proposals,
    /// The next action of 100,000 triggers
    Planning,
    /// Death of the leader
    Failover,
}

/// How the result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Why nothing can be measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No cluster.
    #[error("the cluster to be measured cannot be run")]
    Launch(#[from] launch::Error),
    /// The cluster refuses.
    #[error("the cluster to be measured refuses")]
    Api(#[from] ApiError),
    /// Nobody leads.
    #[error("the cluster to be measured has no leader")]
    NoLeader,
    /// Nobody knows the time.
    #[error("no node knows the cluster's time")]
    NoTime,
    /// Nobody can say what became of the runs.
    #[error("{dropped} runs of the window are kept no more: none of them could be looked at")]
    Dropped {
        /// So many.
        dropped: u64,
    },
    /// The planner stands still.
    #[error("there were {live} live actions after {seconds} s, and others were expected")]
    NotPlanned {
        /// Actions that are not over.
        live: u64,
        /// How long it was waited for.
        seconds: u64,
    },
    /// Ctrl-C.
    #[error("stopped before the end")]
    Stopped,
    /// Something could not be cleared up.
    #[error("something of the cluster in {} is left", folder.display())]
    Left {
        /// Where.
        folder: PathBuf,
    },
    /// The operating system.
    #[error("the measurement cannot use the machine")]
    System(#[from] io::Error),
}

/// What the operating system answers.
type System<T> = Result<T, io::Error>;

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Launch(error) => error.hint(),
            Self::Api(error) => error.problem.remedy.clone(),
            Self::NoLeader | Self::NoTime | Self::NotPlanned { .. } => {
                "the machine may be too busy: measure on a quiet one".to_owned()
            }
            Self::Dropped { .. } => {
                "the disk takes too long to stop so many jobs: measure with fewer --jobs".to_owned()
            }
            Self::Stopped => "measure less with --only, --fires-for or --kills".to_owned(),
            Self::Left { .. } => "look at its processes and remove the folder".to_owned(),
            Self::System(_) => "check free space, permissions and limits".to_owned(),
        }
    }

    /// The exit code that tells a program what kind of failure it is.
    #[must_use]
    pub fn exit(&self) -> u8 {
        match self {
            Self::Launch(launch::Error::BasePort { .. }) => exit::USAGE,
            _ => exit::FAILED,
        }
    }
}

/// Measures what was asked for and prints it. The code is a failure if a fire
/// was lost or doubled. What goes on is told to `log`.
///
/// # Errors
/// [`Error`]; nothing is left running then either.
pub fn run(
    options: &Options,
    out: &mut impl Write,
    log: &mut impl Write,
) -> Result<ExitCode, Error> {
    let (mut builder, parent) = (tempfile::Builder::new(), options.data_dir.as_deref());
    builder.prefix("horai-bench-");
    let folder = match parent {
        Some(parent) => {
            std::fs::create_dir_all(parent)?;
            builder.tempdir_in(parent)?
        }
        None => builder.tempdir()?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        tokio::select! {
            report = measure(options, folder.path(), log) => report,
            // Half a measurement is none; dropping it clears up.
            stopped = tokio::signal::ctrl_c() => Err(stopped.map_or_else(Error::from, |()| Error::Stopped)),
        }
    })?;
    match options.output {
        Output::Table => report.table(out)?,
        Output::Json => {
            serde_json::to_writer_pretty(&mut *out, &report).map_err(io::Error::other)?;
            writeln!(out)?;
        }
    }
    Ok(ExitCode::from(if report.is_clean() { exit::OK } else { exit::FAILED }))
}

async fn measure(options: &Options, folder: &Path, log: &mut impl Write) -> Result<Report, Error> {
    let mut report = Report::new(options, folder);
    if options.wants(What::Disk) {
        progress(log, "raw appends with fdatasync")?;
        report.disk = Some(disk::measure(folder)?);
    }
    if options.wants(What::Proposals) {
        progress(log, "proposals")?;
        let bed = Bed::start(options, folder, "proposals").await?;
        report.proposals = Some(proposals::measure(&bed).await?);
        bed.stop().await?;
    }
    if options.wants(What::Planning) {
        progress(log, "planning")?;
        let mut bed = Bed::start(options, folder, "planning").await?;
        report.planning = Some(planning::measure(&mut bed, log).await?);
        bed.stop().await?;
    }
    if options.wants(What::Lateness) {
        progress(log, &format!("lateness at {} fires a second", options.rate))?;
        let mut bed = Bed::start(options, folder, "lateness").await?;
        report.lateness = Some(lateness::measure(options, &mut bed).await?);
        bed.stop().await?;
    }
    if options.wants(What::Fires) {
        progress(log, "fires")?;
        let mut bed = Bed::start(options, folder, "fires").await?;
        report.fires = Some(fires::measure(options, &mut bed, log).await?);
        bed.stop().await?;
    }
    if options.wants(What::Failover) {
        progress(log, &format!("failover, {} kills", options.kills))?;
        let mut bed = Bed::start(options, folder, "failover").await?;
        report.failover = Some(failover::measure(options, &mut bed, log).await?);
        bed.stop().await?;
    }
    Ok(report)
}

/// Tells what goes on.
fn progress(log: &mut impl Write, what: &str) -> System<()> {
    writeln!(log, "bench: {what}")?;
    log.flush()
}
