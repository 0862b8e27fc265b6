//! Logs: output is followed while it is written, and in the end read again, from every
//! node's own disk alone. Every byte of it is known beforehand, so that a reader needs
//! nobody to compare with.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use rand::Rng;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Ctx, Error, Process, apply_set, page};
use crate::client::{Client, Request};
use crate::history::Came;
use crate::time::MS;

use tape::{Tape, events, expected};

#[path = "logs_tape.rs"]
mod tape;

/// A job: its name, the lines of a run, how long it writes in milliseconds, and how many
/// runs a second are started.
type Writes = (&'static str, u64, u64, f64);
/// One that is followed, one that is over before anybody looks, one that lives through
/// leaders and leases, and one that writes all at once.
const JOBS: [Writes; 4] = [
    ("logs-writer", 300, 4_000, 0.5),
    ("logs-short", 40, 300, 2.0),
    ("logs-long", 2_000, 45_000, 0.08),
    ("logs-flood", 40_000, 0, 0.08),
];
/// Clients of the first.
const READERS: u32 = 2;
/// Runs of each job that are read again in the end.
const READ_AGAIN: usize = 15;
/// The longest a reader waits for one run, or for a list of them.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long all nodes may take to hold the same once nothing is broken any more.
const REPAIRED: Duration = Duration::from_secs(90);
/// Between two looks whether they do.
const LOOK: Duration = Duration::from_millis(700);
/// How long all of that may take.
const READING: Duration = Duration::from_secs(150);
/// So often an output that nodes differ in is read again, of all together.
const AGAIN: u32 = 8;
/// So many looks in a row must say so.
const SURE: u32 = 3;
/// The most bytes of output that are asked for at a random place.
const FROM: u64 = 3_000;

/// Creates the jobs.
pub(super) async fn setup(ctx: &Ctx) -> Result<(), Error> {
    let job = |(name, lines, ms, _): &Writes| {
        let mut options = vec![("ms", ms.to_string()), ("lines", lines.to_string())];
        // Whether it is alive beside another attempt is told by itself.
        options.extend((*ms > 10_000).then(|| ("tick", "200".to_owned())));
        json!({"name": name, "exec": ctx.exec(&options), "lease": "10s"})
    };
    apply_set(ctx, "logs", JOBS.iter().map(job).collect()).await
}

/// Starts runs, and follows some.
pub(super) async fn main(ctx: &Ctx, until: Instant) -> Result<(), Error> {
    let [followed, others @ ..] = &JOBS;
    let readers = (0..READERS).map(|reader| start(ctx, followed, reader, until));
    let writers = others.iter().map(|job| start(ctx, job, READERS, until));
    try_join_all(readers.chain(writers)).await.map(drop)
}

async fn start(
    ctx: &Ctx,
    (job, lines, _, rate): &Writes,
    client: u32,
    until: Instant,
) -> Result<(), Error> {
    let mut rng = ctx.stream(&format!("{job}-{client}"));
    let mut process = Process::new(ctx);
    let path = format!("jobs/{job}/trigger");
    while Instant::now() < until {
        let request = Request::new(Method::POST, &path);
        let made = process.insist(("trigger", job, json!({})), request, until).await?;
        let run = made.body().and_then(|body| body["run"].as_str());
        if let Some(run) = run.filter(|_| client < READERS) {
            // Sometimes from a place in the middle, as one that comes back does.
            let offset = if rng.random_bool(0.3) { rng.random_range(0..FROM) } else { 0 };
            let read = Read { run, attempt: None, lines: *lines, offset, how: How::Follow };
            read.write_down(ctx.any(), &mut process).await?;
        }
        tokio::time::sleep(ctx.pause(*rate, &mut rng)).await;
    }
    Ok(())
}

/// The last runs, all their attempts, from each node's own disk; and through any node as a
/// reader gets them.
pub(super) async fn finish(ctx: &Ctx) -> Result<(), Error> {
    await_repair(ctx).await?;
    let (mut process, mut again) = (Process::new(ctx), AGAIN);
    let end = Instant::now() + READING;
    for (job, lines, ..) in &JOBS {
        let query = Request::get("runs").query("job", job).query("limit", 100);
        let runs = page(ctx, query, Instant::now() + PATIENCE).await;
        for run in runs.iter().take(READ_AGAIN) {
            // What is gone is waited for long each time, and a few of them say enough.
            if Instant::now() > end {
                return Ok(());
            }
            let id = run["id"].as_str().unwrap_or_default();
            let whole = Read { run: id, attempt: None, lines: *lines, offset: 0, how: How::Any };
            whole.write_down(ctx.any(), &mut process).await?;
            for number in run["attempts"].as_array().into_iter().flatten() {
                let attempt = number["number"].as_u64();
                let own = Read { attempt, how: How::Local, ..whole };
                own.on_each_node(ctx, &mut process, &mut again).await?;
            }
        }
    }
    Ok(())
}

/// Waits until whoever leads says again and again that no voter lacks anything, and writes
/// down what each node says last of its own.
async fn await_repair(ctx: &Ctx) -> Result<(), Error> {
    let end = Instant::now() + REPAIRED;
    let (mut sure, mut told) = (0, Vec::new());
    let begun = Instant::now();
    while sure < SURE && Instant::now() < end {
        tokio::time::sleep(LOOK).await;
        told.clear();
        for client in ctx.clients.iter() {
            let said = client.send(Request::get("cluster/logs")).await;
            told.push((client.node.clone(), said.body().cloned().unwrap_or_default()));
        }
        let mut behind = told.iter().filter_map(|(_, said)| said["behind"].as_u64());
        sure = if behind.next() == Some(0) && behind.next().is_none() { sure + 1 } else { 0 };
    }
    let after_ms = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX) / MS;
    let mut process = Process::new(ctx);
    let result = json!({"done": sure >= SURE, "after_ms": after_ms});
    let work = async || (Came::ok(result), ());
    process.whole("harness", ("logs-repaired", "", Value::Null), work).await?;
    for (node, said) in told {
        let work = async || (Came::ok(said), ());
        process.whole(&node, ("logs-stats", &node, Value::Null), work).await?;
    }
    Ok(())
}

/// How an output is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// While it is written, until its attempt is over.
    Follow,
    /// What is there, wherever that is.
    Any,
    /// What one node has on its own disk.
    Local,
}

#[derive(Clone, Copy)]
struct Read<'a> {
    run: &'a str,
    /// None: the last one.
    attempt: Option<u64>,
    /// Of a whole output.
    lines: u64,
    offset: u64,
    how: How,
}

impl Read<'_> {
    /// Reads it on each node, and again if they differ: a worker that was away may have
    /// brought the rest just now.
    async fn on_each_node(
        &self,
        ctx: &Ctx,
        process: &mut Process<'_>,
        again: &mut u32,
    ) -> Result<(), Error> {
        loop {
            let mut ends = BTreeSet::new();
            for client in ctx.clients.iter() {
                ends.insert(self.write_down(client, process).await?);
            }
            if ends.len() == 1 || *again == 0 {
                return Ok(());
            }
            *again -= 1;
            tokio::time::sleep(LOOK * 3).await;
        }
    }

    /// Reads, and says how what came differs from what it should be; the answer is how far
    /// it was served.
    async fn write_down(
        &self,
        client: &Client,
        process: &mut Process<'_>,
    ) -> Result<Option<u64>, Error> {
        let Self { run, offset, .. } = *self;
        let f = match self.how {
            How::Follow => "tail",
            How::Any => "read-log",
            How::Local => "read-own",
        };
        let what = (f, run, json!({"offset": offset, "attempt": self.attempt}));
        let end = Instant::now() + PATIENCE;
        let work = async || {
            let mut came = self.read(client).await;
            // At rest whoever is not answered now asks again, as the remedy says.
            let later = |came: &Came| came.err.as_ref().is_some_and(|why| !why.starts_with('4'));
            while self.how != How::Follow && later(&came) && Instant::now() < end {
                tokio::time::sleep(LOOK).await;
                came = self.read(client).await;
            }
            let to = came.v["to"].as_u64();
            (came, to)
        };
        process.whole(&client.node, what, work).await
    }

    async fn read(&self, client: &Client) -> Came {
        let path = format!("runs/{}/logs", self.run);
        let mut request = Request::get(&path)
            .query("offset", self.offset)
            .query("follow", self.how == How::Follow)
            .query("local", self.how == How::Local)
            .header("accept", "text/event-stream");
        if self.how == How::Local {
            // Nobody else is asked anything.
            request = request.query("consistency", "stale");
        }
        if let Some(attempt) = self.attempt {
            request = request.query("attempt", attempt);
        }
        let answer = match client.open(request).await {
            Ok(answer) if answer.status().is_success() => answer,
            Ok(answer) => {
                let status = answer.status();
                return Came::fail(format!("{status} {}", answer.text().await.unwrap_or_default()));
            }
            Err(error) => return Came::fail(error.to_string()),
        };
        let attempt = answer.headers().get("horai-attempt").and_then(|value| value.to_str().ok());
        let attempt = attempt.unwrap_or_default().to_owned();
        let mut tape = Tape::new(expected(&attempt, self.lines), self.offset);
        let (mut broken, mut rest, mut ended) = (None::<String>, Vec::new(), false);
        let mut parts = answer.bytes_stream();
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            match tokio::time::timeout_at(until, parts.next()).await {
                Ok(Some(Ok(part))) => {
                    rest.extend_from_slice(&part);
                    for event in events(&mut rest) {
                        ended |= tape.take(&event);
                    }
                }
                Ok(Some(Err(error))) => broken = Some(error.to_string()),
                Ok(None) if ended => {}
                Ok(None) => broken = Some("it ended without its end".to_owned()),
                Err(_) => broken = Some("it did not end in time".to_owned()),
            }
            if broken.is_some() || ended {
                break;
            }
        }
        let mut told = tape.told();
        told["attempt"] = json!(attempt);
        told["broken"] = json!(broken);
        Came::ok(told)
    }
}
