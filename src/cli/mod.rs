//! The command line: what a person types, and what comes back.
//!
//! Standard output carries data only; errors go to standard error and end with
//! a `hint:`. Every command ends with one of [`exit`]'s codes. It speaks to
//! nodes over HTTP and never touches their files; what-if questions ask nobody.

mod action;
mod backfill;
mod calendar;
mod check;
pub mod client;
mod cluster;
mod cron;
mod failure;
mod files;
mod group;
mod hold;
mod job;
mod job_state;
mod job_view;
mod lock;
mod logs;
mod output;
mod plan;
mod pool;
mod remote;
mod removal;
mod run;
mod secret;
mod serve;
mod trial;
mod trigger;
mod worker;
mod worker_group;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::error::exit;
use failure::Failure;

/// A self-hosted, highly available job scheduler.
#[derive(Debug, Parser)]
#[command(name = "horai", version, arg_required_else_help = true, after_help = MORE)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What a newcomer needs next.
const MORE: &str = "\
Try it:    horai demo
By hand:   horai cluster init --config config/local/node-1.toml, then horai node --config ...
A job:     horai job apply -f config/first.yaml, then horai run list
Set once:  HORAI_URL (nodes' HTTP addresses, with commas) and HORAI_TOKEN
Exit code: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict, 5 denied,
           6 unavailable, 64 configuration";

#[derive(Debug, Subcommand)]
enum Command {
    /// Found a cluster, let nodes in and out, see who leads
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Apply, list, trigger and pause jobs
    Job(job::JobArgs),
    /// Apply, list and delete calendars, which bound triggers
    Calendar(calendar::CalendarArgs),
    /// Set, list and delete pools, whose slots runs take
    Pool(pool::PoolArgs),
    /// Set, list and delete parameters of groups of jobs; pause and resume groups
    Group(group::GroupArgs),
    /// Start nothing new in the whole cluster; what runs goes on
    Freeze(hold::FreezeArgs),
    /// Let the cluster start what is due
    Unfreeze(hold::UnfreezeArgs),
    /// List pauses of the cluster, of groups and of triggers
    Pauses(hold::PausesArgs),
    /// List a job's actions; run one again, or say what it came to
    Action(action::ActionArgs),
    /// Run a job for instants of the past, and see how far that has come
    Backfill(backfill::BackfillArgs),
    /// List, show and cancel runs, read their output, see why they wait
    Run(run::RunArgs),
    /// Set, list and delete values that jobs use and nobody reads; change their keys
    Secret(secret::SecretArgs),
    /// Take and give back locks, of one slot or of more
    Lock(lock::LockArgs),
    /// When a cron expression fires, and what it means; needs no cluster
    Cron(cron::CronArgs),
    /// What a set of jobs does on a day; needs no cluster
    Plan(plan::PlanArgs),
    /// What triggers of other schedulers do; needs no cluster
    #[command(subcommand)]
    Trigger(trigger::TriggerCommand),
    /// Check configuration files
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Run a scheduler node until it is told to stop
    Node {
        /// Its configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Run a worker until it is told to stop, or list workers
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Worker {
        /// The configuration file of the worker to run
        #[arg(long, value_name = "FILE", required = true)]
        config: Option<PathBuf>,
        #[command(subcommand)]
        verb: Option<worker::WorkerCommand>,
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
    /// Asks what an attempt's file says over HTTP; started by shims, not by people
    #[command(hide = true)]
    Http {
        /// The file
        request: PathBuf,
    },
    /// Becomes an attempt's program; started by shims, not by people
    #[command(hide = true)]
    Become,
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
            if !error.use_stderr() {
                // Nothing can be told to a person whose terminal is gone.
                let printed = error.print().is_ok();
                return ExitCode::from(if printed { exit::OK } else { exit::FAILED });
            }
            return failure::report_usage(&error, &mut io::stderr().lock());
        }
    };
    let mut out = io::stdout().lock();
    match execute(arguments.command, &mut out) {
        Ok(code) => code,
        Err(failure) => {
            drop(out);
            failure.report(&mut io::stderr().lock())
        }
    }
}

fn execute(command: Command, out: &mut impl Write) -> Result<ExitCode, Failure> {
    match command {
        Command::Cluster(verb) => cluster::run(verb, out)?,
        Command::Job(args) => job::run(args, out)?,
        Command::Calendar(args) => calendar::run(args, out)?,
        Command::Pool(args) => pool::run(args, out)?,
        Command::Group(args) => group::run(args, out)?,
        Command::Freeze(args) => hold::freeze(&args, out)?,
        Command::Unfreeze(args) => hold::unfreeze(&args)?,
        Command::Pauses(args) => hold::pauses(&args, out)?,
        Command::Action(args) => action::run(args, out)?,
        Command::Backfill(args) => backfill::run(args, out)?,
        Command::Run(args) => run::run(args, out)?,
        Command::Secret(args) => secret::run(args, out)?,
        Command::Lock(args) => lock::run(args, out)?,
        Command::Cron(args) => cron::run(args, out)?,
        Command::Plan(args) => plan::run(args, out)?,
        Command::Trigger(verb) => trigger::run(&verb, out)?,
        Command::Config(ConfigCommand::Check { kind: ConfigKind::Node, file }) => {
            check::node_config(&file, out)?;
        }
        Command::Config(ConfigCommand::Check { kind: ConfigKind::Worker, file }) => {
            check::config::<crate::config::WorkerConfig>(&file, out)?;
        }
        Command::Node { config } => serve::node(&config, out)?,
        Command::Worker { verb: Some(verb), .. } => worker::run(verb, out)?,
        Command::Worker { config, verb: None } => {
            // The parser asks for it where no verb is given.
            serve::worker(&config.unwrap_or_default(), out)?;
        }
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
        Command::Http { request } => return Ok(crate::worker::http::main(&request)),
        Command::Become => return Ok(crate::worker::shim::launcher::main()),
    }
    Ok(ExitCode::from(exit::OK))
}

/// Colours are for people who watch and do not object.
fn has_colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// What a flag that may be given often says, as `NAME=VALUE`.
fn named_values(flag: &str, values: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut named = BTreeMap::new();
    for given in values {
        let Some((name, value)) = given.split_once('=') else {
            let hint = format!("write {flag} NAME=VALUE");
            return Err(Failure::new(format!("{flag} {given:?} has no ="), hint, exit::USAGE));
        };
        if named.insert(name.to_owned(), value.to_owned()).is_some() {
            let text = format!("{flag} {name} is given twice");
            return Err(Failure::new(text, "give it once", exit::USAGE));
        }
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    #[test]
    fn named_values_are_read_once_each() {
        let read = |given: &[&str]| {
            let given: Vec<String> = given.iter().map(|text| (*text).to_owned()).collect();
            super::named_values("--param", &given)
        };
        let named = read(&["DAY=1", "WHERE=a=b", "NONE="]).unwrap();
        assert_eq!((named["DAY"].as_str(), named["WHERE"].as_str()), ("1", "a=b"));
        assert_eq!((named["NONE"].as_str(), named.len()), ("", 3));
        assert!(read(&["DAY"]).is_err() && read(&["A=1", "A=1"]).is_err());
    }

    #[test]
    fn the_arguments_are_well_formed() {
        super::Arguments::command().debug_assert();
    }

    #[test]
    fn commands_are_read_as_they_are_documented() {
        for line in [
            "cluster init --config n.toml --default-zone Europe/Berlin --misfire-after 5m",
            "cluster join --config n.toml --to a:7602 --token t",
            "cluster replace 2 --config n.toml --to a:7602 --to b:7602 --token t -o json",
            "cluster status --url http://a:1 --url http://b:2 --token t -o json",
            "cluster remove 2",
            "cluster transfer 3 --token-file f",
            "cluster snapshot --url http://a:1 -o quiet",
            "cluster token --expires-in 2h",
            "cluster confirm-time --time 2026-11-21T03:00:00Z",
            "job apply -f a.yaml b.yaml",
            "job apply -f a.yaml -f b.yaml -o quiet",
            "job --url http://a:1 list",
            "job get load -o yaml",
            "job delete load --revision 3",
            "job trigger load",
            "job pause load",
            "job resume load",
            "job pause load --trigger nightly",
            "job resume load --trigger nightly --missed misfire",
            "calendar apply -f a.yaml b.toml",
            "calendar list -o json",
            "calendar show holidays",
            "calendar delete holidays --revision 3",
            "cluster init --config n.toml --area EU",
            "cluster area",
            "cluster area EU -o json",
            "cluster area --none",
            "group list -o quiet",
            "group show etl/nightly",
            "group set etl --param DAY=1 --param EU.WHERE=here --unset X --revision 3",
            "group delete etl --revision 3",
            "action list load --batch 2024-01-30",
            "action show load@20261121T030000Z -o json",
            "group pause etl/nightly",
            "group resume etl --missed skip",
            "freeze --url http://a:1",
            "unfreeze --missed misfire",
            "pauses",
            "job check a.yaml b.yaml",
            "secret set db-password --description d --revision 0",
            "secret --url http://a:1 list -o json",
            "secret delete db-password",
            "secret rekey",
            "secret keygen --out secrets.key",
            "job state load -o json",
            "job state load --clear --set A=1 --set B=2 --unset C",
            "run outputs r-17 -o json",
            "run list --job load --limit 5",
            "run show r-17",
            "run logs -f r-17 --attempt 2",
            "run cancel r-17",
            "run rerun r-17 --preview",
            "run list --job #79 --kind manual --state failed",
            "job render load@20261121T030000Z --revision 2",
            "group delete etl --force",
            "group set etl --unset X --force",
            "run explain load@20261121T030000Z",
            "worker --config w.toml",
            "worker list --url http://a:1,http://b:2",
            "worker show w1",
            "worker group apply -f groups.yaml",
            "worker group list",
            "worker group delete etl --revision 2",
            "lock acquire l --owner me --ttl 30s --wait 1m",
            "lock renew l 7",
            "lock release l 7",
            "lock list --timeout 3s",
            "node --config n.toml",
            "cron next --stdin",
            "cron next 0/5_*_*_*_*_? --tz Asia/Shanghai -n 10 -o json",
            "cron explain @daily --dialect unix --dst twice --job 3 --trigger t",
            "trigger simulate --stdin",
            "plan simulate -f a.yaml b.yaml --day 2024-03-15 --tz UTC --match hera -o json",
            "plan simulate -f a.yaml --calendars c.yaml --day 2024-03-15",
        ] {
            let words = std::iter::once("horai").chain(line.split(' '));
            if let Err(error) = super::Arguments::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
        for line in [
            "worker",
            "run show 17",
            "lock acquire l",
            "cluster remove",
            "cluster area E/U",
            "cluster area EU --none",
            "job list --timeout 3",
            "cron next",
            "cron next x --stdin",
            "trigger simulate",
            "plan simulate -f a.yaml",
            "plan simulate -f a.yaml --day today",
            "unfreeze --missed now",
            "calendar apply",
            "backfill start a",
            "backfill start a --from 2026-11-01 --to 2026-11-02 --hours 25:00-06:00",
            "backfill show 3",
            "job trigger a --action x",
            "run list --kind often",
            "secret set db-password hunter2",
        ] {
            let words = std::iter::once("horai").chain(line.split(' '));
            assert!(super::Arguments::try_parse_from(words).is_err(), "{line}");
        }
    }
}
