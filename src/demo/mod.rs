//! `horai demo`: a cluster of real processes, shown at work.
//!
//! Starts nodes and workers as children, loads the jobs of `config/demo`, tells
//! what happens, starts again what is killed, and in the end draws a ledger of
//! what should have happened against what did. It is a client like any other:
//! all it knows it learns from the API, from its children and from the files
//! that the jobs wrote.

mod jobs;
mod ledger;
#[cfg(test)]
mod ledger_tests;
mod print;
mod show;
mod watch;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use horai_core::time::Span;

pub use ledger::PlanError;

use crate::cli::client::ApiError;
use crate::error::exit;
use crate::launch;

/// What may be chosen.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// End after this long, such as 30s; without it, at Ctrl-C
    #[arg(long = "for", value_name = "TIME")]
    pub run_for: Option<Span>,
    /// Keep everything in this empty or new folder, instead of a temporary one
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// HTTP port of the first node; each node needs this, the next two, and 10 more for the next
    #[arg(long, value_name = "PORT", default_value_t = 7600)]
    pub base_port: u16,
    /// Scheduler nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
    pub nodes: u32,
    /// Workers
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub workers: u32,
}

/// Why the demo cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No cluster.
    #[error("the demo's cluster cannot be run")]
    Launch(#[from] launch::Error),
    /// The cluster refuses.
    #[error("the demo's cluster refuses")]
    Api(#[from] ApiError),
    /// The demo's own jobs are wrong.
    #[error("the demo's jobs cannot be planned")]
    Plan(#[from] PlanError),
    /// Something of the operating system.
    #[error("the demo cannot use {what}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Launch(error) => error.hint(),
            Self::Api(error) => error.problem.remedy.clone(),
            Self::Plan(_) => "correct config/demo/jobs.yaml and build again".to_owned(),
            Self::System { .. } => "check the machine's limits and free space".to_owned(),
        }
    }

    /// The exit code that tells a program what kind of failure it is.
    #[must_use]
    pub fn exit(&self) -> u8 {
        match self {
            Self::Launch(launch::Error::BasePort { .. } | launch::Error::NotEmpty { .. }) => {
                exit::USAGE
            }
            Self::Launch(_) | Self::Api(_) | Self::Plan(_) | Self::System { .. } => exit::FAILED,
        }
    }
}

/// Runs the demo to its end. The code is a failure if anything was lost or doubled.
///
/// # Errors
/// [`Error`]; nothing is left running then either.
pub fn run(options: &Options, out: &mut impl Write, colour: bool) -> Result<ExitCode, Error> {
    let system = |what| move |source| Error::System { what, source };
    let (folder, remove) = match &options.data_dir {
        Some(folder) => (folder.clone(), false),
        None => {
            let made = tempfile::Builder::new().prefix("horai-demo-").tempdir();
            // The guard removes it, even if this process cannot.
            (made.map_err(system("a temporary folder"))?.keep(), true)
        }
    };
    let cluster = launch::Options {
        folder,
        remove,
        base_port: options.base_port,
        nodes: options.nodes,
        workers: options.workers,
        slots: 16,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(system("threads"))?;
    let printer = print::Printer::new(out, colour);
    let clean = runtime.block_on(show::show(options, &cluster, printer))?;
    Ok(ExitCode::from(if clean { exit::OK } else { exit::FAILED }))
}
