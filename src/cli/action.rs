//! `horai action`: one version of a job: run again, counted as a success, or skipped.

use std::io::Write;

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::output::{Show, View, moment, note, or_dash, print, text_or_dash};
use super::remote::{Remote, wait};
use crate::api::dto::{ActionDto, ActionRef};

/// Actions.
#[derive(Debug, Args)]
pub(super) struct ActionArgs {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: ActionCommand,
}

#[derive(Debug, Subcommand)]
enum ActionCommand {
    /// List a job's actions, oldest first
    List {
        /// Whose
        job: String,
        /// Those of this batch key alone, such as 2024-01-30
        #[arg(long, value_name = "KEY")]
        batch: Option<String>,
        /// At most so many of the latest
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
    },
    /// Run it again; what waits for it goes on when it succeeds
    Recover {
        /// Such as load@20261121T030000Z
        action: ActionRef,
        /// Run again all that follows from it, too, each action once
        #[arg(long)]
        downstream: bool,
        /// Only show what would run
        #[arg(long)]
        preview: bool,
    },
    /// Tell every change of it: when it was, and who made it
    History {
        /// Such as load@20261121T030000Z
        action: ActionRef,
    },
    /// Let it count as a success, without a run
    ForceSuccess {
        /// Such as load@20261121T030000Z
        action: ActionRef,
        /// Only show what would follow
        #[arg(long)]
        preview: bool,
    },
    /// Skip it, and with it what waits for its success
    Skip {
        /// Such as load@20261121T030000Z
        action: ActionRef,
        /// Only show what would follow
        #[arg(long)]
        preview: bool,
    },
}

/// What became of an action that was to run again, and has no run for it.
pub(super) const NOT_HERE: &str = "has no run of its own yet: it waits for another run of its \
     job; or its job has nothing to do in this area, and it counts as a success";

/// Does what was asked.
pub(super) fn run(args: ActionArgs, out: &mut impl Write) -> Result<(), Failure> {
    let ActionArgs { remote, verb } = args;
    let format = remote.output.output;
    let client = remote.client()?;
    wait(async {
        match verb {
            ActionCommand::List { job, batch, limit } => {
                let mut actions = client.all_actions(&job, batch.as_deref()).await?;
                actions.drain(..actions.len().saturating_sub(limit as usize));
                print(out, format, &actions)
            }
            ActionCommand::Recover { action, downstream, preview: true } => {
                let mut would = vec![client.action(&action).await?];
                if downstream {
                    would.extend(client.downstream(&action).await?.items);
                }
                print(out, format, &would)
            }
            ActionCommand::Recover { action, downstream, preview: false } => {
                match client.recover(&action, downstream).await? {
                    Some(run) => print(out, format, &client.run(run).await?),
                    None => {
                        note(format, &format!("{action} {NOT_HERE}"))?;
                        print(out, format, &vec![client.action(&action).await?])
                    }
                }
            }
            ActionCommand::History { action } => {
                print(out, format, &client.action_history(&action).await?)
            }
            ActionCommand::ForceSuccess { action, preview: true } => {
                print(out, format, &client.settle_preview(&action, "force-success").await?)
            }
            ActionCommand::Skip { action, preview: true } => {
                print(out, format, &client.settle_preview(&action, "skip").await?)
            }
            ActionCommand::ForceSuccess { action, preview: false } => {
                client.settle_action(&action, "force-success").await?;
                note(format, &format!("{action} counts as a success"))
            }
            ActionCommand::Skip { action, preview: false } => {
                client.settle_action(&action, "skip").await?;
                note(format, &format!("{action} is skipped"))
            }
        }
    })
}

impl Show for Vec<ActionDto> {
    fn view(&self) -> View {
        let row = |action: &ActionDto| {
            let state = match &action.reason {
                Some(reason) => format!("{} ({reason})", action.state),
                None => action.state.clone(),
            };
            let waits = action.upstream.iter().filter(|up| up.met.is_none());
            let waits: Vec<String> =
                waits.filter_map(|up| up.action.as_ref().map(ToString::to_string)).collect();
            vec![
                action.id.to_string(),
                state,
                moment(action.due),
                or_dash(Some(&action.batch).filter(|batch| **batch != action.id.to_string())),
                or_dash(action.run.as_ref()),
                text_or_dash(&waits.join(" ")),
            ]
        };
        let titles = vec!["id", "state", "due", "batch", "run", "waits for"];
        View { titles, rows: self.iter().map(row).collect(), ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.iter().map(|action| action.id.to_string()).collect()
    }

    fn none(&self) -> Option<&'static str> {
        self.is_empty().then_some("no actions yet")
    }
}
