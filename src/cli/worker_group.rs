//! `horai worker group`: how a worker of a group is chosen.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::client::pages;
use super::failure::Failure;
use super::files::read_file;
use super::output::{Format, Show, View, data, moment, note, or_dash, print, result};
use super::remote::{Remote, wait};
use crate::api::dto::{SetWorkerGroup, WorkerGroupDto};
use crate::api::worker_group_definition::WorkerGroupDefinition;

/// Worker groups.
#[derive(Debug, Args)]
pub(super) struct WorkerGroupArgs {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: WorkerGroupCommand,
}

#[derive(Debug, Subcommand)]
enum WorkerGroupCommand {
    /// Give the worker groups of files their definitions
    Apply {
        /// Files of worker groups: .yaml, .yml, .toml or .json
        #[arg(short, long = "file", value_name = "FILE", required = true, num_args = 1..)]
        files: Vec<PathBuf>,
    },
    /// List worker groups, with who serves them and how many runs wait
    List,
    /// Show a worker group; as YAML, it is what apply takes
    Show {
        /// Its name
        name: String,
    },
    /// Take a worker group's definition away: workers and jobs that name it go on with the
    /// defaults, in turns and however busy they are
    Delete {
        /// Its name
        name: String,
        /// Only if it has this revision
        #[arg(long)]
        revision: Option<u64>,
    },
}

/// What a file of worker groups should be.
const FILE_HINT: &str =
    "a file of worker groups holds a list under 'worker_groups', with name and strategy";

/// A file of worker groups.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkerGroupFile {
    worker_groups: Vec<WorkerGroupDefinition>,
}

/// Does what was asked.
pub(super) fn run(args: WorkerGroupArgs, out: &mut impl Write) -> Result<(), Failure> {
    let WorkerGroupArgs { remote, verb } = args;
    let format = remote.output.output;
    // Before anybody is asked: a file that cannot be read changes nothing.
    let mut groups = Vec::new();
    if let WorkerGroupCommand::Apply { files } = &verb {
        for path in files {
            groups.extend(read_file::<WorkerGroupFile>(path, FILE_HINT)?.worker_groups);
        }
        for group in &groups {
            let place = format!("worker group {}", group.name);
            group.to_def().map_err(|error| Failure::of_field(&place, &error))?;
        }
    }
    let client = remote.client()?;
    wait(async {
        match verb {
            WorkerGroupCommand::Apply { .. } => {
                let mut applied: Vec<SetWorkerGroup> = Vec::new();
                for group in groups {
                    applied.push(client.put_worker_group(&group).await?);
                }
                print(out, format, &applied)
            }
            WorkerGroupCommand::List => {
                let groups = pages::all(async |after| client.worker_groups(after).await).await?;
                print(out, format, &groups)
            }
            WorkerGroupCommand::Show { name } => {
                let group = client.worker_group(&name).await?;
                match format {
                    Format::Yaml => data(
                        out,
                        format,
                        &WorkerGroupFile { worker_groups: vec![group.definition] },
                    ),
                    _ => print(out, format, &group),
                }
            }
            WorkerGroupCommand::Delete { name, revision } => {
                client.delete_worker_group(&name, revision).await?;
                note(format, &format!("worker group {name} has no definition any more"))
            }
        }
    })
}

fn strategy(group: &WorkerGroupDto) -> String {
    group.definition.strategy.clone().unwrap_or_else(|| "round_robin".to_owned())
}

/// `memory 0.7, load 1 per core`.
fn thresholds(group: &WorkerGroupDto) -> Option<String> {
    let limits = group.definition.thresholds?;
    let memory = limits.memory.map(|memory| format!("memory {memory}"));
    let load = limits.load.map(|load| format!("load {load} per core"));
    Some(memory.into_iter().chain(load).collect::<Vec<_>>().join(", "))
}

impl Show for Vec<SetWorkerGroup> {
    fn view(&self) -> View {
        let row = |group: &SetWorkerGroup| {
            let result = result(group.changed, group.revision).to_owned();
            vec![group.name.clone(), group.revision.to_string(), result]
        };
        let titles = vec!["name", "revision", "result"];
        View { titles, rows: self.iter().map(row).collect(), ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.iter().map(|group| group.name.clone()).collect()
    }

    fn none(&self) -> Option<&'static str> {
        self.is_empty().then_some("the files hold no worker groups")
    }
}

impl Show for Vec<WorkerGroupDto> {
    fn view(&self) -> View {
        let row = |group: &WorkerGroupDto| {
            vec![
                group.name.clone(),
                strategy(group),
                or_dash(thresholds(group)),
                group.worker_count.to_string(),
                format!("{} of {}", group.used, group.slots),
                group.waiting.to_string(),
            ]
        };
        let titles = vec!["name", "strategy", "thresholds", "workers", "slots used", "waiting"];
        View { titles, rows: self.iter().map(row).collect(), ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.iter().map(|group| group.name.clone()).collect()
    }

    fn none(&self) -> Option<&'static str> {
        self.is_empty().then_some("no worker has attached, and no worker group has a definition")
    }
}

impl Show for WorkerGroupDto {
    fn view(&self) -> View {
        let workers = (!self.workers.is_empty()).then(|| self.workers.join(", "));
        let mut facts = vec![
            ("name", self.name.clone()),
            ("revision", self.revision.to_string()),
            ("strategy", strategy(self)),
            ("thresholds", thresholds(self).unwrap_or_else(|| "none".to_owned())),
            ("workers", or_dash(workers)),
            ("slots", format!("{} of {} used", self.used, self.slots)),
            ("waiting", self.waiting.to_string()),
        ];
        facts.extend(self.created.map(|at| ("created", moment(at))));
        facts.extend(self.updated.map(|at| ("updated", moment(at))));
        View { facts, ..View::default() }.described(&self.definition.description)
    }

    fn ids(&self) -> Vec<String> {
        vec![self.name.clone()]
    }
}
