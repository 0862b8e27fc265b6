//! `horai backfill`: runs of a job for instants of the past.

use std::io::Write;

use clap::{Args, Subcommand, ValueEnum};

use super::failure::Failure;
use super::named_values;
use super::output::{Show, View, moment, note, or_dash, print};
use super::remote::{Remote, wait};
use crate::api::dto::{
    BackfillDto, BackfillInstantDto, BackfillPreview, BackfillRef, BackfillRequest, HoursText,
};

/// Back-fills.
#[derive(Debug, Args)]
pub(super) struct BackfillArgs {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: BackfillCommand,
}

#[derive(Debug, Subcommand)]
enum BackfillCommand {
    /// Run a job for all its instants between two moments that have passed
    Start(Box<StartArgs>),
    /// List back-fills, newest first
    List {
        /// Of this job alone
        #[arg(long)]
        job: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
    },
    /// Show how far a back-fill has come
    Show {
        /// Such as b-3
        id: BackfillRef,
    },
    /// List the instants of a back-fill, with their runs
    Instants {
        /// Such as b-3
        id: BackfillRef,
        /// Those in this state alone, such as failed
        #[arg(long)]
        state: Option<String>,
    },
    /// Begin no more runs for now; what runs goes on
    Pause {
        /// Such as b-3
        id: BackfillRef,
    },
    /// Go on after a pause
    Resume {
        /// Such as b-3
        id: BackfillRef,
    },
    /// Begin no more runs at all; what runs goes on
    Stop {
        /// Such as b-3
        id: BackfillRef,
    },
    /// Run again what failed, with the definition of now
    Rerun {
        /// Such as b-3
        id: BackfillRef,
    },
}

/// What is asked for.
#[derive(Debug, Args)]
struct StartArgs {
    /// Whose instants
    job: String,
    /// The first moment, in the job's zone: 2026-11-01, or 2026-11-01T03:00
    #[arg(long)]
    from: String,
    /// Up to before this moment; a day is in it as a whole
    #[arg(long)]
    to: String,
    /// What to do with instants that have run
    #[arg(long, value_enum, default_value_t)]
    existing: Existing,
    /// Begin with the last instant
    #[arg(long)]
    newest_first: bool,
    /// Runs at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    concurrency: u32,
    /// Begin runs only in these hours, in the job's zone: 22:00-06:00
    #[arg(long)]
    hours: Option<HoursText>,
    /// Let actions have the result as their own, and tell those that wait for them
    #[arg(long)]
    downstream: bool,
    /// A parameter, as NAME=VALUE; over the job's
    #[arg(long = "param", value_name = "NAME=VALUE")]
    params: Vec<String>,
    /// 9 goes first; 2 if nothing is said
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: Option<u8>,
    /// With an earlier definition of the job
    #[arg(long)]
    revision: Option<u64>,
    /// Only show what would run
    #[arg(long)]
    preview: bool,
}

/// Which instants of the range are run.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Existing {
    /// Leave out all that have run
    Skip,
    /// Run again those that have failed
    #[default]
    Failed,
    /// Run all again
    All,
}

impl StartArgs {
    fn request(&self) -> Result<BackfillRequest, Failure> {
        let existing = match self.existing {
            Existing::Skip => Some("skip"),
            Existing::Failed => None,
            Existing::All => Some("all"),
        };
        Ok(BackfillRequest {
            from: self.from.clone(),
            to: self.to.clone(),
            existing: existing.map(str::to_owned),
            newest_first: self.newest_first,
            concurrency: Some(self.concurrency),
            hours: self.hours,
            downstream: self.downstream,
            params: named_values("--param", &self.params)?,
            priority: self.priority,
            revision: self.revision,
        })
    }
}

/// Does what was asked.
pub(super) fn run(args: BackfillArgs, out: &mut impl Write) -> Result<(), Failure> {
    let BackfillArgs { remote, verb } = args;
    let format = remote.output.output;
    let client = remote.client()?;
    wait(async {
        match verb {
            BackfillCommand::Start(start) if start.preview => {
                let preview = client.preview_backfill(&start.job, &start.request()?).await?;
                print(out, format, &preview)
            }
            BackfillCommand::Start(start) => {
                let id = client.start_backfill(&start.job, &start.request()?).await?;
                print(out, format, &client.backfill(id).await?)
            }
            BackfillCommand::List { job, limit } => {
                print(out, format, &client.backfills(job.as_deref(), Some(limit)).await?.items)
            }
            BackfillCommand::Show { id } => print(out, format, &client.backfill(id).await?),
            BackfillCommand::Instants { id, state } => {
                print(out, format, &client.backfill_instants(id, state.as_deref()).await?)
            }
            BackfillCommand::Pause { id } => {
                client.steer_backfill(id, "pause").await?;
                note(format, &format!("back-fill {id} begins no more runs until it is resumed"))
            }
            BackfillCommand::Resume { id } => {
                client.steer_backfill(id, "resume").await?;
                note(format, &format!("back-fill {id} goes on"))
            }
            BackfillCommand::Stop { id } => {
                client.steer_backfill(id, "stop").await?;
                note(format, &format!("back-fill {id} begins no more runs"))
            }
            BackfillCommand::Rerun { id } => {
                let again = client.rerun_backfill(id).await?;
                print(out, format, &client.backfill(again).await?)
            }
        }
    })
}

/// Where it stands, in a few words.
fn progress(backfill: &BackfillDto) -> String {
    let over = backfill.total - backfill.waiting - backfill.live;
    let mut told = format!("{over} of {}", backfill.total);
    if backfill.failed > 0 {
        told.push_str(&format!(", {} failed", backfill.failed));
    }
    told
}

fn state(backfill: &BackfillDto) -> String {
    if backfill.state == "running" && !backfill.open {
        return "running, outside its hours".to_owned();
    }
    backfill.state.clone()
}

impl Show for Vec<BackfillDto> {
    fn view(&self) -> View {
        let titles = vec!["id", "job", "state", "progress", "live", "created", "finished"];
        let row = |backfill: &BackfillDto| {
            vec![
                backfill.id.to_string(),
                backfill.job.clone(),
                state(backfill),
                progress(backfill),
                backfill.live.to_string(),
                moment(backfill.created),
                or_dash(backfill.finished.map(moment)),
            ]
        };
        View { titles, rows: self.iter().map(row).collect(), ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.iter().map(|backfill| backfill.id.to_string()).collect()
    }

    fn none(&self) -> Option<&'static str> {
        self.is_empty().then_some("no back-fills yet")
    }
}

impl Show for BackfillDto {
    fn view(&self) -> View {
        let order = if self.newest_first { "newest first" } else { "oldest first" };
        let facts = vec![
            ("back-fill", self.id.to_string()),
            ("job", format!("{}, revision {}", self.job, self.revision)),
            ("state", state(self)),
            ("progress", progress(self)),
            ("live", format!("{} of {} at once", self.live, self.concurrency)),
            ("waiting", self.waiting.to_string()),
            ("success", self.success.to_string()),
            ("failed", self.failed.to_string()),
            ("cancelled", self.cancelled.to_string()),
            ("skipped", self.skipped.to_string()),
            ("passed over", self.passed_over.to_string()),
            ("order", order.to_owned()),
            ("hours", or_dash(self.hours)),
            ("downstream", if self.downstream { "told" } else { "not told" }.to_owned()),
            ("again", or_dash(self.again)),
            ("created", format!("{} by {}", moment(self.created), self.by)),
            ("finished", or_dash(self.finished.map(moment))),
        ];
        View { facts, ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        vec![self.id.to_string()]
    }
}

impl Show for Vec<BackfillInstantDto> {
    fn view(&self) -> View {
        let row = |instant: &BackfillInstantDto| {
            vec![moment(instant.nominal), instant.state.clone(), or_dash(instant.run)]
        };
        let titles = vec!["nominal", "state", "run"];
        View { titles, rows: self.iter().map(row).collect(), ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.iter().filter_map(|instant| instant.run.as_ref()).map(ToString::to_string).collect()
    }

    fn none(&self) -> Option<&'static str> {
        self.is_empty().then_some("no such instants")
    }
}

impl Show for BackfillPreview {
    fn view(&self) -> View {
        let facts = vec![
            ("job", self.job.clone()),
            ("instants", self.total.to_string()),
            ("passed over", self.passed_over.to_string()),
        ];
        let mut rows: Vec<_> = self.instants.iter().map(|at| vec![moment(*at)]).collect();
        if rows.len() < self.total as usize {
            rows.push(vec![format!("and {} more", self.total as usize - rows.len())]);
        }
        View { facts, titles: vec!["nominal"], rows }
    }

    fn ids(&self) -> Vec<String> {
        self.instants.iter().map(ToString::to_string).collect()
    }
}
