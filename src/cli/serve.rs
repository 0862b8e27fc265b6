//! Processes that stay: `horai node` and `horai worker`.
//!
//! One line on standard output says that it is ready; all else is the log, on
//! standard error.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use horai_core::model::resources::{Amounts, Resources};
use regex::Regex;
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use crate::config::{self, Amount, HandleSection, NodeConfig, WorkerConfig, WorkerSection};
use crate::error::{chain, exit};
use crate::server;
use crate::shutdown::Stop;
use crate::telemetry;
use crate::worker;
use crate::worker::agent;
use crate::worker::interpreters::{Interpreter, Interpreters, RemoteHandle};

/// Runs a node until it is told to stop.
pub(super) fn node(file: &Path, out: &mut impl Write) -> Result<(), Failure> {
    let config: NodeConfig = config::load(file, config::environment())?;
    telemetry::start(&config.log);
    run(async |stop| {
        let ready = |ready: &server::Ready| {
            let server::Ready { node, http, grpc, raft } = ready;
            // Whoever started it and does not listen needs no line.
            let _ = writeln!(out, "node {node} ready http={http} grpc={grpc} raft={raft}");
            let _ = out.flush();
        };
        server::run(&config, stop, ready).await.map_err(|error| Failure::of_server(&error))
    })
}

/// Runs a worker until it is told to stop and what runs there has had its time.
pub(super) fn worker(file: &Path, out: &mut impl Write) -> Result<(), Failure> {
    let config: WorkerConfig = config::load(file, config::environment())?;
    telemetry::start(&config.log);
    let interpreters = interpreters(&config)?;
    let config = config.worker;
    let token = config::read_token(&config.token_file).map_err(|error| {
        let hint = "copy the token file of the cluster's first node there, with mode 600";
        Failure::new(chain(&error), hint, exit::BAD_CONFIG)
    })?;
    let amounts = amounts(&config);
    let config = worker::Config {
        name: config.name,
        data_dir: config.data_dir,
        nodes: config.nodes.iter().map(|node| format!("http://{node}")).collect(),
        groups: config.groups,
        labels: config.labels,
        slots: config.slots,
        amounts,
        token: token.text().to_owned(),
        shim_program: None,
        heartbeat: Duration::from_millis(config.heartbeat_ms),
        stop_after: Duration::from_millis(config.stop_after_ms),
        disk_reserve: config.disk_reserve_mib << 20,
        interpreters,
    };
    run(async |stop| {
        let name = config.name.clone();
        let ready = || {
            // Whoever started it and does not listen needs no line.
            let _ = writeln!(out, "worker {name} ready");
            let _ = out.flush();
        };
        agent::run_with(config, stop, ready).await.map_err(|error| {
            let hint = match error {
                agent::Error::InUse { .. } => "each worker needs a data_dir of its own",
                agent::Error::Journal(_) | agent::Error::Fence(_) | agent::Error::Io { .. } => {
                    "its attempts go on under their shims; start it again once this is put right"
                }
            };
            Failure::new(chain(&error), hint, exit::FAILED)
        })
    })
}

/// What is ready, with what is configured over it.
fn interpreters(config: &WorkerConfig) -> Result<Interpreters, Failure> {
    let ready = Interpreters::ready();
    let mut own = Vec::new();
    for (name, section) in &config.interpreters {
        let base = ready.named(name.as_str());
        let command = section.command.clone().or_else(|| base.map(|base| base.command.clone()));
        let Some(command) = command else {
            let said = format!("interpreters.{name} has no command");
            let hint = "write command = [\"PROGRAM\", \"{script}\"]";
            return Err(Failure::new(said, hint, exit::BAD_CONFIG));
        };
        let handles = match &section.remote_handles {
            Some(handles) => handles.iter().map(handle).collect::<Result<_, _>>()?,
            None => base.map(|base| base.handles.clone()).unwrap_or_default(),
        };
        let interpreter = Interpreter { command, handles };
        own.push((name.clone(), interpreter));
    }
    let all = ready.with(own);
    let at_hand = all.at_hand();
    for name in config.interpreters.keys().filter(|name| !at_hand.contains(name)) {
        tracing::warn!(interpreter = %name, "its program is not here: no job that needs it comes");
    }
    Ok(all)
}

fn handle(section: &HandleSection) -> Result<RemoteHandle, Failure> {
    // It was checked with the file.
    let pattern = Regex::new(&section.pattern)
        .map_err(|error| Failure::new(error.to_string(), "correct it", exit::BAD_CONFIG))?;
    Ok(RemoteHandle { pattern, kill: section.kill.clone() })
}

/// What attempts may reserve beside slots: as configured, else what the machine has.
fn amounts(config: &WorkerSection) -> Amounts {
    let (memory, cpu) = worker::machine();
    let fits = |memory: u64| memory.min(Resources::MAX_MEMORY);
    Amounts {
        memory: config.memory.map_or(fits(memory), |Amount(memory)| memory.0),
        cpu: config.cpu.map_or(cpu.min(Resources::MAX_CPU), |Amount(cpu)| cpu.0),
        counts: config.counts.clone(),
    }
}

/// Runs on a runtime of its own; a second signal ends it as it is.
fn run(work: impl AsyncFnOnce(CancellationToken) -> Result<(), Failure>) -> Result<(), Failure> {
    let io = |error: std::io::Error| {
        Failure::new(format!("the process cannot run: {error}"), "free resources", exit::FAILED)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(io)?;
    let done = runtime.block_on(async {
        let stop = Stop::on_signals().map_err(io)?;
        tokio::select! {
            done = work(stop.kindly) => done,
            () = stop.at_once.cancelled() => {
                let hint = "what was not finished is taken up at the next start";
                Err(Failure::new("stopped at once by a second signal", hint, exit::FAILED))
            }
        }
    });
    // What is still there has had its time.
    runtime.shutdown_background();
    done
}
