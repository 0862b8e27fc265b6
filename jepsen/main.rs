//! `jepsen`: breaks running clusters and judges what they recorded.
//!
//! Only the verbs are here: what they do is in the modules.

mod check;
mod client;
mod cron;
mod drive;
mod history;
mod report;
mod store;
mod workload;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use check::Verdict;

#[derive(clap::Parser)]
#[command(name = "jepsen", about = "Breaks running Horai clusters and judges what they recorded")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Judge a store again
    Check {
        /// The folder of one test
        store: PathBuf,
    },
    /// Draw the report of a store
    Report {
        /// The folder of one test
        store: PathBuf,
    },
    /// Run workloads against a cluster that runs already, without breaking it
    Drive(drive::Options),
}

fn main() -> ExitCode {
    let cli = <Cli as clap::Parser>::parse();
    let mut out = io::stdout().lock();
    let done = match cli.verb {
        Verb::Check { store } => drive::check(&store, &mut out),
        Verb::Report { store } => drive::report(&store, &mut out),
        Verb::Drive(options) => drive::run(&options, &mut out),
    };
    match done {
        Ok(verdict) => verdict.exit().into(),
        Err(error) => {
            let told = check::chain(&*error);
            // Nowhere else to say it if this cannot be written.
            let _ = writeln!(out, "verdict: {} ({told})", Verdict::HarnessFailure);
            Verdict::HarnessFailure.exit().into()
        }
    }
}
