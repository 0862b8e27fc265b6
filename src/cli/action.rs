//! `horai action`: one version of a job: run again, counted as a success, or skipped.

use std::io::Write;

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::output::{Show, View, moment, note, or_dash, print, text_or_dash};
use super::remote::{Remote, wait};
use crate::api::dto::{ActionDto, ActionRef, HistoryDto, UpstreamDto};

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
    /// Show an action: where it stands, what it waits for or waited for, and its history
    Show {
        /// Such as load@20261121T030000Z
        action: ActionRef,
    },
    /// Run it again; what waits for it goes on when it succeeds
    Recover {
        /// Such as load@20261121T030000Z
        action: ActionRef,
        /// Run again all that follows from it, too, each action once
        #[arg(long)]
        downstream: bool,
        /// Only show what would run, and what waits for that
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
            ActionCommand::Show { action } => print(out, format, &client.action(&action).await?),
            ActionCommand::Recover { action, downstream, preview: true } => {
                print(out, format, &client.recover_preview(&action, downstream).await?)
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
            vec![
                action.id.to_string(),
                state(action),
                moment(action.due),
                or_dash(batch(action)),
                or_dash(action.run.as_ref()),
                text_or_dash(&waits_for(action)),
            ]
        };
        let mut titles = vec!["id", "state", "due", "batch", "run", "waits for"];
        let mut rows: Vec<_> = self.iter().map(row).collect();
        let missing: Vec<String> = self.iter().map(no_upstream).collect();
        // Few have one, and most tables are wide enough.
        if missing.iter().any(|jobs| !jobs.is_empty()) {
            titles.push("no upstream");
            for (row, jobs) in rows.iter_mut().zip(&missing) {
                row.push(text_or_dash(jobs));
            }
        }
        View { titles, rows, ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.iter().map(|action| action.id.to_string()).collect()
    }

    fn none(&self) -> Option<&'static str> {
        self.is_empty().then_some("no actions yet")
    }
}

/// Where it stands, and why if that is not all.
fn state(action: &ActionDto) -> String {
    match &action.reason {
        Some(reason) => format!("{} ({reason})", action.state),
        None => action.state.clone(),
    }
}

/// The batch key, unless it is only the action's name.
fn batch(action: &ActionDto) -> Option<&String> {
    Some(&action.batch).filter(|batch| **batch != action.id.to_string())
}

/// What holds it up; nothing if it is over.
fn waits_for(action: &ActionDto) -> String {
    let upstream = action.upstream.iter().filter(|_| !action.is_over());
    let waits: Vec<String> = upstream.filter_map(UpstreamDto::awaited).collect();
    waits.join(" ")
}

/// Jobs of which its edges found no action, and did not mind.
fn no_upstream(action: &ActionDto) -> String {
    let missing = action.upstream.iter().filter(|up| up.no_match.as_deref() == Some("no_upstream"));
    missing.map(|up| up.job.as_str()).collect::<Vec<_>>().join(" ")
}

impl Show for ActionDto {
    fn view(&self) -> View {
        let mut facts = vec![
            ("action", self.id.to_string()),
            ("state", state(self)),
            ("nominal", moment(self.nominal)),
            ("due", moment(self.due)),
            ("batch", or_dash(batch(self))),
            ("revision", self.revision.to_string()),
            ("triggers", text_or_dash(&self.triggers.join(", "))),
            ("run", or_dash(self.run.as_ref())),
            ("finished", or_dash(self.finished.map(moment))),
        ];
        facts.extend(self.history.iter().map(|change| {
            let HistoryDto { at, what, by, detail } = change;
            ("history", format!("{} {what} by {by}: {detail}", moment(*at)))
        }));
        let row = |up: &UpstreamDto| {
            let none = up.no_match.as_deref().map(|word| format!("none of {} ({word})", up.job));
            vec![
                up.action.as_ref().map(ToString::to_string).or(none).unwrap_or_default(),
                up.condition.clone().unwrap_or_else(|| "success".to_owned()),
                or_dash(up.met.map(moment)),
                or_dash(up.by.as_ref()),
            ]
        };
        let rows: Vec<_> = self.upstream.iter().map(row).collect();
        let titles = vec!["upstream", "must be", "met", "by"];
        let titles = if rows.is_empty() { Vec::new() } else { titles };
        View { facts, titles, rows }
    }

    fn ids(&self) -> Vec<String> {
        vec![self.id.to_string()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Format;

    fn printed(what: &impl Show) -> String {
        let mut out = Vec::new();
        print(&mut out, Format::Table, what).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn action(state: &str, upstream: serde_json::Value) -> ActionDto {
        let whole = serde_json::json!({
            "id": "report@20261121T030000Z", "job": "report", "revision": 2,
            "nominal": "2026-11-21T03:00:00Z", "due": "2026-11-21T03:00:00Z", "state": state,
            "reason": (state == "skipped").then_some("upstream"), "batch": "2026-11-21",
            "triggers": [], "upstream": upstream, "run": null, "catch_up": false,
            "finished": null, "history": [{"at": "2026-11-21T03:00:01Z", "what": "finished",
            "by": "leader", "detail": "skipped (upstream)"}],
        });
        serde_json::from_value(whole).unwrap()
    }

    fn edges() -> serde_json::Value {
        serde_json::json!([
            {"job": "load", "action": "load@20261121T030000Z", "met": null, "by": null},
            {"job": "late", "action": null, "no_match": "wait", "met": null, "by": null},
            {"job": "ok", "action": "ok@20261121T030000Z", "condition": "done",
             "met": "2026-11-21T03:00:01Z", "by": "r-7"},
        ])
    }

    #[test]
    fn what_is_over_waits_for_nothing_and_what_waits_names_it() {
        let waiting = printed(&vec![action("waiting", edges())]);
        let row = waiting.lines().nth(1).unwrap();
        assert!(row.ends_with("load@20261121T030000Z late (none found)"), "{waiting}");
        assert!(!waiting.contains("NO UPSTREAM"), "{waiting}");
        let over = printed(&vec![action("skipped", edges())]);
        assert!(!over.contains("load@"), "{over}");
        assert!(over.contains("skipped (upstream)"), "{over}");
        let none = serde_json::json!([{"job": "load", "action": null,
            "no_match": "no_upstream", "met": null, "by": null}]);
        let none = printed(&vec![action("success", none), action("planned", edges())]);
        assert!(none.lines().next().unwrap().ends_with("NO UPSTREAM"), "{none}");
        assert!(
            none.lines()
                .nth(1)
                .unwrap()
                .ends_with(" -    -                                        load"),
            "{none}"
        );
    }

    #[test]
    fn an_action_is_shown_with_its_edges_and_its_history() {
        let shown = printed(&action("skipped", edges()));
        for line in [
            "state     skipped (upstream)\n",
            "history   2026-11-21 03:00:01Z finished by leader: skipped (upstream)\n",
            "load@20261121T030000Z  success  -                     -\n",
            "none of late (wait)    success  -                     -\n",
            "ok@20261121T030000Z    done     2026-11-21 03:00:01Z  r-7\n",
        ] {
            assert!(shown.contains(line), "{line:?} is missing in\n{shown}");
        }
    }
}
