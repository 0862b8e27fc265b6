//! `horai worker …`: who runs jobs, and who is given nothing more. To run a worker is
//! another file's.

use std::io::Write;
use std::time::Duration;

use clap::Subcommand;

use super::client::{Client, pages};
use super::failure::Failure;
use super::output::{Format, Show, View, moment, note, or_dash, print, tenths, text_or_dash};
use super::remote::{Remote, wait};
use super::worker_group::{self, WorkerGroupArgs};
use crate::api::dto::{AttemptUseDto, DrainRequest, ProcessUseDto, SpanText, WorkerDto};

/// Between two looks at a worker that is being emptied.
const LOOK: Duration = Duration::from_millis(500);

/// What can be asked about workers.
#[derive(Debug, Subcommand)]
pub(super) enum WorkerCommand {
    /// List workers
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Show a worker, its load, what its attempts use now and its busiest processes
    Show {
        #[command(flatten)]
        remote: Remote,
        /// Its name
        name: String,
    },
    /// Give a worker nothing new; what runs there goes on
    Cordon {
        #[command(flatten)]
        remote: Remote,
        /// Its name
        name: String,
    },
    /// Give a worker work again: ends a cordon or a drain
    Uncordon {
        #[command(flatten)]
        remote: Remote,
        /// Its name
        name: String,
    },
    /// Give a worker nothing new, and wait until nothing runs there any more
    Drain {
        #[command(flatten)]
        remote: Remote,
        /// Its name
        name: String,
        /// After this, such as 10m, what still runs is ended and runs again elsewhere, as if
        /// the worker were lost; jobs with `on_worker_lost: keep` are never ended
        #[arg(long)]
        deadline: Option<SpanText>,
        /// Do not wait: the drain goes on by itself
        #[arg(long)]
        detach: bool,
    },
    /// Say how a worker of a group is chosen, and look at worker groups
    Group(WorkerGroupArgs),
    /// Forget a worker that is stopped and empty
    Remove {
        #[command(flatten)]
        remote: Remote,
        /// Its name
        name: String,
        /// Even if jobs may run there, as far as is known: they run again elsewhere. Only
        /// if its machine is gone for good
        #[arg(long)]
        force: bool,
    },
}

/// Does what was asked.
pub(super) fn run(verb: WorkerCommand, out: &mut impl Write) -> Result<(), Failure> {
    match verb {
        WorkerCommand::List { remote } => {
            let client = remote.client()?;
            let workers = pages::all(async |after| client.workers(after).await);
            let workers = wait(async { Ok(workers.await?) })?;
            print(out, remote.output.output, &workers)
        }
        WorkerCommand::Show { remote, name } => {
            let client = remote.client()?;
            let worker = wait(async { Ok(client.worker_and_sight(&name).await?) })?;
            print(out, remote.output.output, &worker)
        }
        WorkerCommand::Cordon { remote, name } => {
            let client = remote.client()?;
            wait(async { Ok(client.cordon_worker(&name, "cordon").await?) })?;
            note(remote.output.output, &format!("worker {name} is given nothing new"))
        }
        WorkerCommand::Uncordon { remote, name } => {
            let client = remote.client()?;
            wait(async { Ok(client.cordon_worker(&name, "uncordon").await?) })?;
            note(remote.output.output, &format!("worker {name} is given work again"))
        }
        WorkerCommand::Drain { remote, name, deadline, detach } => {
            let (client, format) = (remote.client()?, remote.output.output);
            let asked = DrainRequest { deadline };
            wait(async {
                client.drain_worker(&name, &asked).await?;
                if detach {
                    return note(format, &format!("worker {name} is being drained"));
                }
                empty(&client, &name, format).await
            })
        }
        WorkerCommand::Group(args) => worker_group::run(args, out),
        WorkerCommand::Remove { remote, name, force } => {
            let client = remote.client()?;
            wait(async { Ok(client.remove_worker(&name, force).await?) })?;
            note(remote.output.output, &format!("worker {name} is forgotten"))
        }
    }
}

/// Waits until nothing runs there any more, and tells what is left.
async fn empty(client: &Client, name: &str, format: Format) -> Result<(), Failure> {
    let mut told = None;
    loop {
        let worker = client.worker(name).await?;
        if worker.duty != "draining" {
            let problem = format!("somebody else has changed worker {name}: it is {}", worker.duty);
            let hint = format!("look at it with horai worker show {name}, or drain it again");
            return Err(Failure::new(problem, hint, crate::error::exit::CONFLICT));
        }
        if worker.used == 0 {
            return note(format, &format!("worker {name} is empty"));
        }
        if told != Some(worker.used) {
            told = Some(worker.used);
            let until = worker.drain_until.map(|at| format!(", until {}", moment(at)));
            let left = format!("{} attempts still run there", worker.used);
            note(format, &format!("{left}{}", until.unwrap_or_default()))?;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What an attempt takes, in a line. A no-op has no processes.
fn attempt_use(used: &AttemptUseDto) -> String {
    let AttemptUseDto { attempt, processes, cpu_ms, cpu_permille, rss } = used;
    let time = format!("{} s in all", tenths(*cpu_ms, 1_000));
    let (share, mib) = (share(*cpu_permille), mib(*rss));
    format!("{attempt}: {processes} processes, {share} of a core, {time}, {mib} MiB")
}

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

fn share(permille: u32) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

impl Show for Vec<WorkerDto> {
    fn view(&self) -> View {
        let titles =
            vec!["name", "state", "used", "slots", "groups", "isolation", "host", "last heartbeat"];
        let row = |worker: &WorkerDto| {
            vec![
                worker.name.clone(),
                state(worker),
                worker.used.to_string(),
                worker.slots.to_string(),
                worker.groups.join(", "),
                worker.isolation.clone(),
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
            ("state", state(self)),
            ("slots", format!("{} of {} used", self.used, self.slots)),
            ("groups", self.groups.join(", ")),
            ("labels", text_or_dash(&labels.join(", "))),
            ("isolation", self.isolation.clone()),
            ("enforces", text_or_dash(&self.enforces.join(", "))),
            ("interpreters", text_or_dash(&self.interpreters.join(", "))),
            ("host", self.host.clone()),
            ("version", self.version.clone()),
            ("incarnation", self.incarnation.clone()),
            ("registered", moment(self.registered)),
            ("last heartbeat", moment(self.last_heartbeat)),
        ];
        facts.push(("has", self.has.to_string()));
        facts.push(("reserved", self.reserved.to_string()));
        if !self.isolation_note.is_empty() {
            facts.push(("warning", self.isolation_note.clone()));
        }
        if let Some(load) = &self.load {
            let ratio = |permille: u32| format!("{}.{:02}", permille / 1000, permille % 1000 / 10);
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
            facts.extend(load.closed.as_ref().map(|why| ("takes nothing", why.clone())));
        }
        let Some(sight) = &self.sight else { return View { facts, ..View::default() } };
        facts.extend(sight.attempts.iter().map(|used| ("runs", attempt_use(used))));
        let titles = vec!["pid", "process", "cpu", "memory", "attempt"];
        let row = |process: &ProcessUseDto| {
            vec![
                process.pid.to_string(),
                process.name.clone(),
                share(process.cpu_permille),
                format!("{} MiB", mib(process.rss)),
                or_dash(process.attempt.as_ref()),
            ]
        };
        View { facts, titles, rows: sight.processes.iter().map(row).collect() }
    }

    fn ids(&self) -> Vec<String> {
        vec![self.name.clone()]
    }
}

fn state(worker: &WorkerDto) -> String {
    let connected = if worker.connected { "connected" } else { "away" };
    let until = worker.drain_until.map(|at| format!(" until {}", moment(at)));
    match worker.duty.as_str() {
        // A node of an earlier version does not say.
        "open" | "" => connected.to_owned(),
        duty => format!("{connected}, {duty}{}", until.unwrap_or_default()),
    }
}
