//! `horai worker list` and `show`: who runs jobs. To run a worker is another file's.

use std::io::Write;

use clap::Subcommand;

use super::failure::Failure;
use super::output::{Show, View, moment, print};
use super::remote::{Remote, wait};
use crate::api::dto::WorkerDto;

/// What can be asked about workers.
#[derive(Debug, Subcommand)]
pub(super) enum WorkerCommand {
    /// List workers
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Show a worker and its load
    Show {
        #[command(flatten)]
        remote: Remote,
        /// Its name
        name: String,
    },
}

/// Does what was asked.
pub(super) fn run(verb: WorkerCommand, out: &mut impl Write) -> Result<(), Failure> {
    match verb {
        WorkerCommand::List { remote } => {
            let client = remote.client()?;
            let workers = wait(async {
                let mut workers: Vec<WorkerDto> = Vec::new();
                let mut after: Option<String> = None;
                loop {
                    let page = client.workers(after.as_deref()).await?;
                    workers.extend(page.items);
                    after = page.next;
                    if after.is_none() {
                        return Ok(workers);
                    }
                }
            })?;
            print(out, remote.output.output, &workers)
        }
        WorkerCommand::Show { remote, name } => {
            let client = remote.client()?;
            let worker = wait(async { Ok(client.worker(&name).await?) })?;
            print(out, remote.output.output, &worker)
        }
    }
}

impl Show for Vec<WorkerDto> {
    fn view(&self) -> View {
        let titles = vec!["name", "state", "used", "slots", "groups", "host", "last heartbeat"];
        let row = |worker: &WorkerDto| {
            vec![
                worker.name.clone(),
                state(worker).to_owned(),
                worker.used.to_string(),
                worker.slots.to_string(),
                worker.groups.join(", "),
                worker.host.clone(),
                moment(worker.last_heartbeat),
            ]
        };
        View { titles, rows: self.iter().map(row).collect(), ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.iter().map(|worker| worker.name.clone()).collect()
    }

    fn none(&self) -> Option<&'static str> {
        self.is_empty().then_some("no worker has attached yet: horai worker --config FILE runs one")
    }
}

impl Show for WorkerDto {
    fn view(&self) -> View {
        let labels: Vec<String> =
            self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let mut facts = vec![
            ("name", self.name.clone()),
            ("number", self.number.to_string()),
            ("state", state(self).to_owned()),
            ("slots", format!("{} of {} used", self.used, self.slots)),
            ("groups", self.groups.join(", ")),
            ("labels", if self.labels.is_empty() { "-".to_owned() } else { labels.join(", ") }),
            ("host", self.host.clone()),
            ("version", self.version.clone()),
            ("incarnation", self.incarnation.clone()),
            ("registered", moment(self.registered)),
            ("last heartbeat", moment(self.last_heartbeat)),
        ];
        if let Some(load) = &self.load {
            let mib = |bytes: u64| bytes >> 20;
            let ratio = |permille: u32| format!("{}.{:02}", permille / 1000, permille % 1000 / 10);
            let share = |permille: u32| format!("{}.{} %", permille / 10, permille % 10);
            facts.extend([
                ("cpu", share(load.cpu_permille)),
                ("load per core", ratio(load.load_per_core_permille)),
                (
                    "memory free",
                    format!("{} of {} MiB", mib(load.memory_available), mib(load.memory_total)),
                ),
                (
                    "disk free",
                    format!("{} of {} MiB", mib(load.disk_available), mib(load.disk_total)),
                ),
            ]);
        }
        View { facts, ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        vec![self.name.clone()]
    }
}

fn state(worker: &WorkerDto) -> &'static str {
    if worker.connected { "connected" } else { "away" }
}
