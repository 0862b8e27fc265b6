//! The command line: what a person types, and what comes back.
//!
//! Standard output carries data only; errors go to standard error and end with
//! a `hint:`. Every command ends with one of [`exit`]'s codes. It speaks to
//! nodes over HTTP and never touches their files.

mod check;
pub mod client;
mod failure;
mod serve;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::error::exit;
use failure::Failure;

/// A self-hosted, highly available job scheduler.
#[derive(Debug, Parser)]
#[command(name = "horai", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Jobs as files
    #[command(subcommand)]
    Job(JobCommand),
    /// Configuration files
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Run a scheduler node
    Node {
        /// Its configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Run a worker
    Worker {
        /// Its configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Versions of the program and of the time zone data in it
    Version,
    /// Start a whole cluster here and see it work
    Demo(crate::demo::Options),
    /// Start a whole cluster here and measure it
    Bench(crate::bench::Options),
    /// Clears up after a demo that was killed; started by the demo, not by people
    #[command(hide = true)]
    Guard {
        /// The cluster's folder
        folder: PathBuf,
        /// Remove it
        #[arg(long)]
        remove: bool,
    },
    /// Supervises one attempt; started by workers, not by people
    #[command(hide = true)]
    Shim {
        /// The attempt's folder
        dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum JobCommand {
    /// Check job files without a cluster: fields, cron, zones, dependencies
    Check {
        /// Files of jobs: .yaml, .yml, .toml or .json
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check a configuration file as the process would, and bind nothing
    Check {
        /// Whose file it is
        kind: ConfigKind,
        /// The file
        file: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ConfigKind {
    Node,
    Worker,
}

/// Reads the arguments and does what they say.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { exit::USAGE } else { exit::OK };
            // Nothing can be told to a person whose terminal is gone.
            return ExitCode::from(if error.print().is_ok() { code } else { exit::FAILED });
        }
    };
    let mut out = io::stdout().lock();
    match run(arguments.command, &mut out) {
        Ok(code) => code,
        Err(failure) => {
            drop(out);
            failure.report(&mut io::stderr().lock())
        }
    }
}

fn run(command: Command, out: &mut impl Write) -> Result<ExitCode, Failure> {
    match command {
        Command::Job(JobCommand::Check { files }) => check::jobs(&files, out)?,
        Command::Config(ConfigCommand::Check { kind: ConfigKind::Node, file }) => {
            check::config::<crate::config::NodeConfig>(&file, out)?;
        }
        Command::Config(ConfigCommand::Check { kind: ConfigKind::Worker, file }) => {
            check::config::<crate::config::WorkerConfig>(&file, out)?;
        }
        Command::Node { config } => serve::node(&config, out)?,
        Command::Worker { config } => serve::worker(&config, out)?,
        Command::Version => {
            writeln!(out, "horai {}", env!("CARGO_PKG_VERSION"))?;
            writeln!(out, "tzdb {}", horai_core::timing::zone::tzdb_version())?;
        }
        Command::Demo(options) => return Ok(crate::demo::run(&options, out, has_colour())?),
        Command::Bench(options) => {
            return Ok(crate::bench::run(&options, out, &mut io::stderr())?);
        }
        Command::Guard { folder, remove } => {
            return Ok(crate::launch::guard::main(&folder, remove));
        }
        Command::Shim { dir } => return Ok(crate::worker::shim::main(&dir)),
    }
    Ok(ExitCode::from(exit::OK))
}

/// Colours are for people who watch and do not object.
fn has_colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_well_formed() {
        super::Arguments::command().debug_assert();
    }
}
