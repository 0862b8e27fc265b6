//! `drive`: workloads against a cluster that someone else started and nobody breaks,
//! and `check`: judgement of a store.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::check::{self, Verdict};
use crate::client::{Client, Outcome, Request};
use crate::error::Failure;
use crate::history::Writer;
use crate::store::{Phase, Poll, TestInfo, gather_witness, load, write_test};
use crate::time::Stamp;
use crate::workload::{Ctx, Load, Workload};

/// Between two polls of a node.
const POLL: Duration = Duration::from_millis(200);
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

/// Judges a store and writes `results.json` and `report.html` beside the evidence.
///
/// # Errors
/// The store cannot be read, or the results not be written.
pub(crate) fn check(store: &Path, out: &mut impl Write) -> Result<Verdict, Failure> {
    let evidence = load(store)?;
    let results = check::all(&evidence);
    fs::write(store.join("results.json"), serde_json::to_vec_pretty(&results)?)?;
    crate::report::write(store, &evidence, &results)?;
    for checked in &results.checkers {
        writeln!(out, "{:<16} {:<16} {}", checked.verdict, checked.name, checked.promise)?;
        for (what, count) in &checked.counts {
            writeln!(out, "{:>34}  {what}", count)?;
        }
        for finding in checked.findings.iter().take(10) {
            writeln!(out, "    {} {}: {}", finding.what, finding.key, finding.detail)?;
        }
    }
    writeln!(out, "{}", results.line())?;
    Ok(results.verdict)
}

/// Draws the report of a store anew; the verdict is judged anew too.
///
/// # Errors
/// The store cannot be read, or the report not be written.
pub(crate) fn report(store: &Path, out: &mut impl Write) -> Result<Verdict, Failure> {
    let evidence = load(store)?;
    let results = check::all(&evidence);
    crate::report::write(store, &evidence, &results)?;
    writeln!(out, "{}", store.join("report.html").display())?;
    writeln!(out, "{}", results.line())?;
    Ok(results.verdict)
}

/// Runs workloads and judges them.
///
/// # Errors
/// The harness failed.
pub(crate) fn run(options: &Options, out: &mut impl Write) -> Result<Verdict, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(drive(options))?;
    check(&options.store, out)
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
    let over = Arc::new(AtomicBool::new(false));
    let poller = tokio::spawn(poll(ctx.clone(), options.store.join("nodes.jsonl"), over.clone()));
    let load = Load::new(workloads);
    let mut phase = |name: &str, from: Stamp| {
        let (name, to) = (name.to_owned(), Stamp::now().t);
        test.phases.push(Phase { name, from: from.t, to });
    };
    let begun = Stamp::now();
    load.setup(&ctx).await?;
    phase("bootstrap", begun);
    ctx.writer.enter("main");
    let begun = Stamp::now();
    load.main(&ctx, Instant::now() + Duration::from_secs(options.time)).await?;
    phase("main", begun);
    let begun = Stamp::now();
    load.finish(&ctx, DRAIN).await?;
    phase("final", begun);
    over.store(true, Ordering::Release);
    poller.await??;
    gather_witness(&options.store)?;
    Ok(write_test(&options.store, &test)?)
}

async fn poll(ctx: Ctx, path: PathBuf, over: Arc<AtomicBool>) -> Result<(), Failure> {
    let mut file = fs::File::create(path)?;
    while !over.load(Ordering::Acquire) {
        for client in ctx.clients.iter() {
            let asked = client.send(Request::get("cluster").query("consistency", "stale")).await;
            let at = Stamp::now();
            let mut poll =
                Poll { t: at.t, utc: at.utc, node: client.node.clone(), ..Poll::default() };
            match asked {
                Outcome::Done(answer) => {
                    let body = answer.body;
                    poll.ok = true;
                    poll.leader = body["leader"]["node"].as_u64();
                    poll.term = body["leader"]["term"].as_u64().unwrap_or(0);
                    poll.applied = body["applied_index"].as_u64().unwrap_or(0);
                    poll.state_hash = body["state_hash"].as_str().unwrap_or_default().to_owned();
                    poll.counts = body["counts"].clone();
                    let members = body["members"].as_array().map_or(0, Vec::len);
                    poll.members = json!(members);
                }
                Outcome::Refused(_, why) | Outcome::Unknown(_, why) => poll.error = Some(why),
            }
            serde_json::to_writer(&mut file, &poll)?;
            file.write_all(b"\n")?;
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
