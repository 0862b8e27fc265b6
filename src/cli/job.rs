//! `horai job`: definitions and what a person does with them.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::check;
use super::client::{Held, pages};
use super::failure::Failure;
use super::hold::{self, AfterPause};
use super::job_state::StateArgs;
use super::named_values;
use super::output::{Format, data, note, print};
use super::remote::{Remote, wait};
use crate::api::dto::{ActionRef, JobSet, RemovedDto, RunRequest, StartedRun, Time};
use crate::api::job_definition::JobDefinition;

/// Jobs.
#[derive(Debug, Args)]
pub(super) struct JobArgs {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: JobCommand,
}

#[derive(Debug, Subcommand)]
enum JobCommand {
    /// Create or change the jobs of files, as one set
    Apply {
        /// Files of jobs: .yaml, .yml, .toml or .json
        #[arg(short, long = "file", value_name = "FILE", required = true, num_args = 1..)]
        files: Vec<PathBuf>,
    },
    /// List jobs by name
    List {
        /// At most so many
        #[arg(long, default_value_t = 10_000)]
        limit: usize,
    },
    /// Show a job; as YAML, it is what apply takes
    Get {
        /// Its name
        name: String,
    },
    /// Write the content of one of a job's files to standard output
    File {
        /// The job's name
        name: String,
        /// The file's name, as in the job's definition
        file: String,
        /// Of an earlier definition of the job
        #[arg(long)]
        revision: Option<u64>,
    },
    /// Say of each trigger why it gives no action at present
    Explain {
        /// Its name
        name: String,
    },
    /// Remove a job that no other job depends on; past runs stay, live ones go on
    Delete {
        /// Its name
        name: String,
        /// Only if it has this revision
        #[arg(long)]
        revision: Option<u64>,
        /// Even if others depend on it: they do so no longer
        #[arg(long)]
        force: bool,
        /// End its live runs
        #[arg(long)]
        cancel: bool,
        /// Tell what would happen, and do nothing
        #[arg(long, conflicts_with = "revision")]
        preview: bool,
    },
    /// Run a job now, outside its plan; no action changes by that, and nobody is told
    Trigger(Box<TriggerArgs>),
    /// Show script, arguments and variables as a run for an action would have them
    Render {
        /// Such as load@20261121T030000Z, whether or not there is such an action
        action: ActionRef,
        /// By an earlier definition of the job
        #[arg(long)]
        revision: Option<u64>,
    },
    /// Show what a job keeps for its next run (keep_state), or change it
    State(StateArgs),
    /// Start nothing new of a job until it is resumed; what runs goes on
    Pause {
        /// Its name
        name: String,
        /// One of its triggers alone
        #[arg(long)]
        trigger: Option<String>,
        #[command(flatten)]
        with: With,
    },
    /// End a pause
    Resume {
        /// Its name
        name: String,
        /// One of its triggers alone
        #[arg(long)]
        trigger: Option<String>,
        #[command(flatten)]
        with: With,
        /// What becomes of the instants of the pause
        #[arg(long, value_enum, default_value_t)]
        missed: AfterPause,
    },
    /// Check job files without a cluster: fields, cron, zones, dependencies
    Check {
        /// Files of jobs: .yaml, .yml, .toml or .json
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

/// Which jobs besides the one that is named.
#[derive(Debug, Args)]
struct With {
    /// With all that it depends on, directly or not
    #[arg(long, conflicts_with_all = ["trigger", "downstream"])]
    upstream: bool,
    /// With all that depend on it, directly or not
    #[arg(long, conflicts_with = "trigger")]
    downstream: bool,
}

impl With {
    /// The word that the API takes.
    fn word(&self) -> Option<&'static str> {
        match (self.upstream, self.downstream) {
            (true, _) => Some("upstream"),
            (false, true) => Some("downstream"),
            (false, false) => None,
        }
    }
}

/// Does what was asked.
pub(super) fn run(args: JobArgs, out: &mut impl Write) -> Result<(), Failure> {
    let JobArgs { remote, verb } = args;
    let format = remote.output.output;
    if let JobCommand::Check { files } = &verb {
        return check::jobs(files, out);
    }
    match &verb {
        JobCommand::Pause { name, trigger, with } => {
            let held = held(name, trigger.as_deref());
            return match with.word() {
                Some(with) => hold::pause_with(&remote, name, with, out),
                None => hold::pause(&remote, held, out),
            };
        }
        JobCommand::Resume { name, trigger, with, missed } => {
            let held = held(name, trigger.as_deref());
            return match with.word() {
                Some(with) => hold::resume_with(&remote, name, with, *missed, out),
                None => hold::resume(&remote, held, *missed),
            };
        }
        _ => {}
    }
    // Before anybody is asked: a file that cannot be read changes nothing.
    let jobs = match &verb {
        JobCommand::Apply { files } => check::read_all(files)?,
        _ => Vec::new(),
    };
    let client = remote.client()?;
    wait(async {
        match verb {
            JobCommand::Apply { .. } => {
                let definitions: Vec<JobDefinition> =
                    jobs.iter().map(|(_, job)| job.clone()).collect();
                let applied = client.apply(&definitions).await.map_err(|mut error| {
                    for field in &mut error.problem.errors {
                        if let Some((index, place)) = place(&jobs, &field.field) {
                            // The place names the job already, as a person finds it.
                            let detail =
                                error.problem.detail.replace(&format!("jobs[{index}]."), "");
                            error.problem.detail = format!("{place}: {detail}");
                            break;
                        }
                    }
                    error
                })?;
                for job in &applied.jobs {
                    for notice in &job.notices {
                        note(format, &format!("job {}: {notice}", job.name))?;
                    }
                }
                print(out, format, &applied)
            }
            JobCommand::List { limit } => {
                let jobs =
                    pages::first(limit, async |size, after| client.jobs(Some(size), after).await);
                print(out, format, &jobs.await?)
            }
            JobCommand::Get { name } => {
                let job = client.job(&name).await?;
                match format {
                    Format::Yaml => data(out, format, &JobSet { jobs: vec![job.definition] }),
                    _ => print(out, format, &job),
                }
            }
            JobCommand::File { name, file, revision } => {
                Ok(out.write_all(&client.job_file(&name, &file, revision).await?)?)
            }
            JobCommand::Explain { name } => print(out, format, &client.explain_job(&name).await?),
            JobCommand::Delete { name, force, cancel, preview: true, .. } => {
                print(out, format, &client.removal(&name, force, cancel).await?)
            }
            JobCommand::Delete { name, revision, force: false, cancel: false, .. } => {
                client.delete_job(&name, revision).await?;
                note(format, &format!("job {name} is deleted"))?;
                match format {
                    // Whoever reads it as data gets the same form however it is asked for.
                    Format::Json | Format::Yaml => data(out, format, &RemovedDto::alone(name)),
                    Format::Table | Format::Quiet => Ok(()),
                }
            }
            JobCommand::Delete { name, revision, force, cancel, .. } => {
                let removed = client.remove_job(&name, revision, (force, cancel)).await?;
                note(format, &format!("job {name} is deleted"))?;
                print(out, format, &removed)
            }
            JobCommand::Trigger(asked) if asked.preview => {
                print(out, format, &client.trigger_preview(&asked.name, &asked.request()?).await?)
            }
            JobCommand::Trigger(asked) => {
                let run = client.trigger_job(&asked.name, &asked.request()?).await?;
                print(out, format, &StartedRun { run })
            }
            JobCommand::State(state) => state.run(&client, format, out).await,
            JobCommand::Render { action, revision } => {
                print(out, format, &client.render(&action, revision).await?)
            }
            // Done above.
            JobCommand::Pause { .. } | JobCommand::Resume { .. } | JobCommand::Check { .. } => {
                Ok(())
            }
        }
    })
}

/// What is asked of a run.
#[derive(Debug, Args)]
struct TriggerArgs {
    /// The job's name
    name: String,
    /// Try it out: no retries, and no other run waits for it
    #[arg(long)]
    debug: bool,
    /// As this action of the job, such as load@20261121T030000Z
    #[arg(long, conflicts_with = "nominal")]
    action: Option<ActionRef>,
    /// As if it were this time: 2026-11-21T03:00:00Z
    #[arg(long)]
    nominal: Option<Time>,
    /// A parameter, as NAME=VALUE; over the job's
    #[arg(long = "param", value_name = "NAME=VALUE")]
    params: Vec<String>,
    /// 9 goes first; the job's if nothing is said
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: Option<u8>,
    /// With an earlier definition of the job
    #[arg(long)]
    revision: Option<u64>,
    /// Only show the run that would be made
    #[arg(long)]
    preview: bool,
}

impl TriggerArgs {
    fn request(&self) -> Result<RunRequest, Failure> {
        Ok(RunRequest {
            debug: self.debug,
            action: self.action.clone(),
            nominal: self.nominal,
            revision: self.revision,
            params: named_values("--param", &self.params)?,
            priority: self.priority,
        })
    }
}

fn held<'a>(job: &'a str, trigger: Option<&'a str>) -> Held<'a> {
    trigger.map_or(Held::Job(job), |trigger| Held::Trigger(job, trigger))
}

/// The file and job that `jobs[3].…` of a request is of.
fn place<'a>(jobs: &'a [(String, JobDefinition)], field: &str) -> Option<(usize, &'a str)> {
    let (index, _) = field.strip_prefix("jobs[")?.split_once(']')?;
    let index: usize = index.parse().ok()?;
    jobs.get(index).map(|(place, _)| (index, place.as_str()))
}
