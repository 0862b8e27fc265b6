//! `jepsen drive`: workloads against a cluster that someone else started and nobody
//! breaks.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::check::Verdict;
use crate::client::Client;
use crate::error::Failure;
use crate::history::Writer;
use crate::judge;
use crate::poll::Poller;
use crate::store::{Phases, TestInfo, gather_witness, write_test};
use crate::workload::{Ctx, Load, Workload};

/// How long everything may take to end.
const DRAIN: Duration = Duration::from_secs(60);

/// What to do to which cluster.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Address of each node, such as http://127.0.0.1:7600
    #[arg(long, value_delimiter = ',', required = true)]
    url: Vec<String>,
    /// The admin token
    #[arg(long, env = "HORAI_TOKEN", hide_env_values = true)]
    token: String,
    /// Workloads: mixed, or some of them
    #[arg(long, default_value = "mixed")]
    workload: String,
    /// Everything random comes from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Length of the main phase, in seconds
    #[arg(long, default_value_t = 30)]
    time: u64,
    /// How much is asked, in percent
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// The witness program, built static, on a path that workers see
    #[arg(long)]
    witness: PathBuf,
    /// A new folder for what is recorded
    #[arg(long)]
    store: PathBuf,
}

/// Runs workloads and judges them.
///
/// # Errors
/// The harness failed.
pub(crate) fn run(options: &Options, out: &mut impl Write) -> Result<Verdict, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(drive(options))?;
    judge::check(&options.store, out)
}

async fn drive(options: &Options) -> Result<(), Failure> {
    let workloads = Workload::parse_list(&options.workload)?;
    fs::create_dir_all(options.store.join("witness"))?;
    let witness = options.witness.canonicalize()?;
    let mut test = TestInfo {
        name: "drive".to_owned(),
        workloads: workloads.iter().map(|workload| workload.name().to_owned()).collect(),
        seed: options.seed,
        seconds: options.time,
        nodes: (1..=options.url.len()).map(|n| format!("n{n}")).collect(),
        ..TestInfo::default()
    };
    let pairs = test.nodes.iter().zip(&options.url);
    let clients: Result<Vec<Client>, _> =
        pairs.map(|(name, url)| Client::new(name, url, &options.token)).collect();
    let writer = Arc::new(Writer::create(&options.store.join("history.jsonl"))?);
    let to = options.store.join("witness").canonicalize()?;
    let mut ctx = Ctx::new(clients?, writer, options.seed, witness, to);
    ctx.rate = options.rate;
    ctx.may_freeze = Workload::may_freeze(&workloads);
    let nodes = test.nodes.iter().map(String::as_str).zip(options.url.iter().cloned());
    let file = options.store.join("nodes.jsonl");
    let poller = Poller::start(nodes, &options.token, &file, &Handle::current())?;
    let load = Load::new(workloads);
    let mut phases = Phases::begin(&mut test);
    load.setup(&ctx).await?;
    phases.ended("bootstrap");
    ctx.writer.enter("main");
    load.main(&ctx, Instant::now() + Duration::from_secs(options.time)).await?;
    phases.ended("main");
    load.finish(&ctx, DRAIN).await?;
    phases.ended("final");
    poller.stop().await?;
    gather_witness(&options.store)?;
    Ok(write_test(&options.store, &test)?)
}
