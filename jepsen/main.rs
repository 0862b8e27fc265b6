//! Breaks running Horai clusters, and judges what they recorded.
//!
//! This file holds the verbs only. `env` is the world that is broken, `cluster` what
//! runs in it, `nemesis` what breaks it and when, `workload` what is asked of it
//! meanwhile, `history` and `store` what is written down, `check` what must hold of
//! that, `rules` when triggers fire, `judge` and `report` how it is shown.

mod campaign;
mod canary;
mod check;
mod client;
mod cluster;
mod doctor;
mod drive;
mod env;
mod error;
mod export;
mod history;
mod judge;
mod mutants;
mod nemesis;
mod poll;
mod report;
mod rules;
mod run;
mod store;
mod time;
mod workload;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use check::Verdict;
use clap::Parser;
use error::chain;

#[derive(clap::Parser)]
#[command(name = "jepsen", about = "Breaks running Horai clusters and judges what they recorded")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Do each fault on machines made for it, and see whether it is one
    Doctor {
        /// Build everything and wait to be killed
        #[arg(long, hide = true)]
        hold: bool,
    },
    /// Found a cluster, ask it, break it, and judge what was recorded
    Test(Box<run::Options>),
    /// Do a test again: the same parameters, the same faults at the same times
    Replay {
        /// The folder of one test
        store: PathBuf,
        /// Another program than the test had
        #[arg(long)]
        horai: Option<PathBuf>,
    },
    /// Run tests of all kinds until the goals of a campaign are met
    Soak(campaign::Options),
    /// Show what came of a campaign, as Markdown
    Table {
        /// The folders of the campaign, one for each that ran beside others
        #[arg(required = true)]
        stores: Vec<PathBuf>,
        /// Only rounds of this source
        #[arg(long, default_value = "")]
        source: String,
    },
    /// Put faults into the product and into the harness, and see whether they are found
    Mutants(mutants::Options),
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
    /// Write the history of a store in the form of Jepsen's own, as EDN
    Export {
        /// The folder of one test
        store: PathBuf,
    },
    /// Serve a disk with a cache from an image; the harness starts it itself
    #[command(name = env::torn::VERB, hide = true)]
    ServeDisk {
        /// The file with the bytes
        image: PathBuf,
        /// Where the disk is shown
        at: PathBuf,
    },
    /// Measure what the machine lets a program do; the harness starts it itself
    #[command(name = canary::VERB, hide = true)]
    Canary {
        /// The program that is started again and again
        witness: PathBuf,
        /// Where it writes
        folder: PathBuf,
    },
    /// Run workloads against a cluster that runs already, without breaking it
    Drive(drive::Options),
}

impl Verb {
    /// Whether it breaks things, and so works in namespaces of its own.
    fn needs_namespaces(&self) -> bool {
        matches!(self, Self::Doctor { .. } | Self::Test(_) | Self::Replay { .. })
    }
}

fn main() -> ExitCode {
    let verb = Cli::parse().verb;
    let mut out = io::stdout();
    let told = |out: &mut io::Stdout, text: String| {
        // Nowhere else to say it if this cannot be written.
        let _ = writeln!(out, "verdict: {} ({text})", Verdict::HarnessFailure);
        ExitCode::from(Verdict::HarnessFailure.exit())
    };
    if verb.needs_namespaces() {
        match env::namespaces::descend() {
            Ok(None) => {}
            Ok(Some(code)) => return code,
            Err(error) => return told(&mut out, chain(&error)),
        }
    }
    let done = match verb {
        Verb::Doctor { hold } => {
            let done = if hold { doctor::hold(&mut out) } else { doctor::run(&mut out) };
            done.map(|well| if well { Verdict::Valid } else { Verdict::HarnessFailure })
                .map_err(Into::into)
        }
        Verb::Test(options) => run::test(&options, &mut out),
        Verb::Replay { store, horai } => run::replay(&store, horai, &mut out),
        Verb::Soak(options) => campaign::soak(&options, &mut out),
        Verb::Table { stores, source } => campaign::table(&stores, &source, &mut out),
        Verb::Mutants(options) => mutants::run(&options, &mut out),
        Verb::Check { store } => judge::check(&store, &mut out),
        Verb::Report { store } => judge::report(&store, &mut out),
        Verb::Export { store } => export::export(&store, &mut out).map(|()| Verdict::Valid),
        Verb::ServeDisk { image, at } => {
            let served = env::torn::serve(&image, &at, &mut out);
            served.map(|()| Verdict::Valid).map_err(Into::into)
        }
        Verb::Canary { witness, folder } => {
            let measured = canary::measure(&witness, &folder, &mut out);
            measured.map(|()| Verdict::Valid).map_err(Into::into)
        }
        Verb::Drive(options) => drive::run(&options, &mut out),
    };
    match done {
        Ok(verdict) => verdict.exit().into(),
        Err(error) => told(&mut out, chain(&*error)),
    }
}
