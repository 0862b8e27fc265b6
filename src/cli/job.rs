//! `horai job`: definitions and what a person does with them.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::check;
use super::client::{Held, pages};
use super::failure::Failure;
use super::hold::{self, AfterPause};
use super::job_state::{StateArgs, brief};
use super::named_values;
use super::output::{Format, Show, View, data, moment, note, print, result, text_or_dash};
use super::remote::{Remote, wait};
use crate::api::dto::{
    ActionRef, AppliedJobs, JobDto, JobSet, RemovedDto, RenderedDto, RunRequest, StartedRun, Time,
};
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

impl Show for RenderedDto {
    fn view(&self) -> View {
        let title = format!("{}, revision {}", self.action, self.revision);
        let mut rows = Vec::new();
        for (field, text) in &self.texts {
            for (i, line) in text.lines().enumerate() {
                let field = if i == 0 { field.as_str() } else { "" };
                rows.push(vec![field.to_owned(), line.to_owned()]);
            }
        }
        View { facts: vec![("action", title)], titles: vec!["field", "text"], rows }
    }

    fn ids(&self) -> Vec<String> {
        vec![self.action.to_string()]
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

impl Show for AppliedJobs {
    fn view(&self) -> View {
        let row = |job: &crate::api::dto::AppliedJob| {
            let result = result(job.changed, job.revision).to_owned();
            vec![job.name.clone(), job.revision.to_string(), result]
        };
        let rows = self.jobs.iter().map(row).collect();
        View { titles: vec!["name", "revision", "result"], rows, ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.jobs.iter().map(|job| job.name.clone()).collect()
    }

    fn none(&self) -> Option<&'static str> {
        self.jobs.is_empty().then_some("the files hold no jobs")
    }
}

impl Show for Vec<JobDto> {
    fn view(&self) -> View {
        let titles = vec!["name", "revision", "state", "triggers", "depends on", "updated"];
        let row = |job: &JobDto| {
            vec![
                job.name.clone(),
                job.revision.to_string(),
                state(job).to_owned(),
                triggers(&job.definition),
                edges(&job.definition),
                moment(job.updated),
            ]
        };
        View { titles, rows: self.iter().map(row).collect(), ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.iter().map(|job| job.name.clone()).collect()
    }

    fn none(&self) -> Option<&'static str> {
        self.is_empty().then_some("no jobs: horai job apply -f FILE makes some")
    }
}

impl Show for JobDto {
    fn view(&self) -> View {
        let job = &self.definition;
        let what = match (&job.shell, &job.exec) {
            (Some(script), _) => match script.lines().count() {
                0 | 1 => format!("shell: {}", script.trim()),
                lines => format!("shell, {lines} lines: -o yaml shows them"),
            },
            (None, Some(argv)) => format!("exec {}", argv.join(" ")),
            (None, None) => "noop".to_owned(),
        };
        let mut facts = vec![
            ("name", self.name.clone()),
            ("number", self.number.to_string()),
            ("revision", self.revision.to_string()),
            ("state", state(self).to_owned()),
            ("runs", what),
            ("triggers", triggers(job)),
        ];
        facts.extend(self.means.iter().map(|trigger| ("means", trigger.means.clone())));
        facts.extend([
            ("depends on", edges(job)),
            ("zone", job.zone.clone().unwrap_or_else(|| "the cluster's".to_owned())),
            ("workers", or_default(job.worker_group.as_ref(), "default")),
            ("priority", or_default(job.priority.as_ref(), "5")),
            ("retries", retries(job)),
            ("time-out", or_default(job.timeout.as_ref(), "none")),
            ("of a run", or_default(job.run_timeout.as_ref(), "none")),
            ("in the queue", or_default(job.queue_timeout.as_ref(), "none")),
            ("lease", or_default(job.lease.as_ref(), "1m")),
            ("group", or_default(job.group.as_ref(), "none")),
            ("worker lost", or_default(job.on_worker_lost.as_ref(), "rerun")),
            ("created", moment(self.created)),
            ("updated", moment(self.updated)),
        ]);
        if !job.areas.is_empty() {
            facts.push(("areas", job.areas.join(", ")));
        }
        facts.extend(job.batch.as_ref().map(|batch| ("batch", batch.to_string())));
        facts.extend(unusual(job));
        if job.keep_state {
            facts.push(("keeps", format!("a state: horai job state {}", self.name)));
        }
        if let Some(group) = &self.paused_group {
            facts.push(("paused by", format!("group {group}")));
        }
        if !self.paused_triggers.is_empty() {
            facts.push(("paused triggers", self.paused_triggers.join(", ")));
        }
        for wait in &self.waiting_triggers {
            facts.push(("waits", format!("{} for the end of {}", wait.trigger, wait.action)));
        }
        View { facts, ..View::default() }.described(&job.description)
    }

    fn ids(&self) -> Vec<String> {
        vec![self.name.clone()]
    }
}

impl Show for StartedRun {
    fn view(&self) -> View {
        View { facts: vec![("run", self.run.to_string())], ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        vec![self.run.to_string()]
    }
}

/// What most definitions leave as it is, where this one does not.
fn unusual(job: &JobDefinition) -> Vec<(&'static str, String)> {
    let codes = |codes: &[i32]| {
        let codes: Vec<String> = codes.iter().map(ToString::to_string).collect();
        (!codes.is_empty()).then(|| codes.join(", "))
    };
    let retries = job.retries.as_ref();
    let said = [
        ("overlap", job.overlap.clone()),
        ("wait limit", job.wait_limit.clone()),
        ("period", job.period.clone()),
        ("grace", job.grace.clone()),
        ("retried", retries.and_then(|retries| codes(&retries.retry_on))),
        ("not retried", retries.and_then(|retries| codes(&retries.never_on))),
        ("jitter", retries.and_then(|retries| retries.jitter.clone())),
        ("skips by", codes(&job.skip_exit_codes)),
        ("syntax", job.syntax.clone()),
        ("hera's number", job.legacy_id.map(|id| id.to_string())),
    ];
    let said = said.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let pool = job.pool.iter().map(|pool| (pool, job.slots.unwrap_or(1)));
    let pools = job.pools.iter().map(|(pool, slots)| (pool, *slots)).chain(pool);
    let pools = pools.map(|(pool, slots)| ("takes", format!("{slots} of pool {pool}")));
    let params = job.params.iter().map(|(key, value)| ("param", brief(key, value)));
    let env = job.env.iter().map(|(key, value)| ("env", brief(key, value)));
    said.chain(pools).chain(params).chain(env).collect()
}

fn or_default(value: Option<&impl ToString>, default: &str) -> String {
    value.map_or_else(|| default.to_owned(), ToString::to_string)
}

fn retries(job: &JobDefinition) -> String {
    let Some(retries) = &job.retries else { return "none".to_owned() };
    let wait = retries.backoff.as_deref().unwrap_or("10s");
    let told = match &retries.backoff_cap {
        Some(cap) => format!("{}, after {wait}, doubled up to {cap}", retries.count),
        None => format!("{}, after {wait} each", retries.count),
    };
    match job.retry_on_worker.as_deref() {
        Some(worker) => format!("{told}, on {worker} worker"),
        None => told,
    }
}

fn state(job: &JobDto) -> &'static str {
    if job.paused { "paused" } else { "active" }
}

fn triggers(job: &JobDefinition) -> String {
    let shown = |t: &crate::api::job_definition::TriggerDefinition| match t.enabled {
        true => told(t),
        false => format!("({})", told(t)),
    };
    text_or_dash(&job.triggers.iter().map(shown).collect::<Vec<_>>().join(", "))
}

/// An expression alone, and other rules in words.
fn told(trigger: &crate::api::job_definition::TriggerDefinition) -> String {
    trigger.cron.clone().unwrap_or_else(|| trigger.to_string())
}

fn edges(job: &JobDefinition) -> String {
    let edges: Vec<String> = job.depends_on.iter().map(ToString::to_string).collect();
    text_or_dash(&edges.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::dto::Time;

    #[test]
    fn a_job_shows_what_it_does_otherwise_than_most() {
        let shown = |yaml: &str| {
            let definition: JobDefinition = serde_saphyr::from_str(yaml).unwrap();
            let mut out = Vec::new();
            let job = serde_json::json!({
                "name": "a", "number": 1, "revision": 1, "paused": false,
                "created": Time::default(), "updated": Time::default(),
                "definition": definition,
            });
            let job: JobDto = serde_json::from_value(job).unwrap();
            print(&mut out, Format::Table, &job).unwrap();
            String::from_utf8(out).unwrap()
        };
        let plain = shown("{name: a, noop: true}");
        for word in ["overlap", "wait limit", "period", "param", "env ", "takes", "hera's number"] {
            assert!(!plain.contains(word), "{word}: {plain}");
        }
        let other = shown(
            "{name: a, noop: true, overlap: skip, wait_limit: 1h, period: week, legacy_id: 7,
              skip_exit_codes: [99], retries: {count: 1, retry_on: [75], never_on: [2]},
              params: {A: '1'}, env: {B: x}, pools: {wh: 2},
              depends_on: [{job: b, match: all_in_period, on_no_match: wait}]}",
        );
        for (name, value) in [
            ("overlap", "skip"),
            ("wait limit", "1h"),
            ("period", "week"),
            ("hera's number", "7"),
            ("skips by", "99"),
            ("retried", "75"),
            ("not retried", "2"),
            ("param", "A=1"),
            ("env", "B=x"),
            ("takes", "2 of pool wh"),
            ("depends on", "b (all_in_period, on_no_match: wait)"),
        ] {
            let line = other.lines().find(|line| line.starts_with(name));
            assert!(line.is_some_and(|line| line.ends_with(value)), "{name} {value}:\n{other}");
        }
    }
}
