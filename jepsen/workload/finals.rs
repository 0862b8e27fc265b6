//! What the cluster says of itself: runs while they happen and at the end, actions,
//! missed instants, and why something still waits.
//!
//! The cluster forgets old runs, so that they are read all the time. These records
//! are compared with what the jobs themselves wrote; they are never the only
//! evidence.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Ctx, Error, MOST_PAGES, Process};
use crate::client::{Client, Outcome, Request};
use crate::history::Came;
use crate::time::{Stamp, millis, shown};

/// Between two looks at the list of runs.
const LOOK: Duration = Duration::from_secs(3);
/// The most waiting actions that are asked about.
const MOST_EXPLAINED: usize = 300;
/// So few open runs are asked why they wait, each time.
const FEW: usize = 10;
/// Between two looks at something that waits.
const AGAIN: Duration = Duration::from_secs(5);
/// How long one read is tried over all nodes.
const PATIENCE: Duration = Duration::from_secs(30);

/// All items of a list, page by page.
async fn items(
    client: &Client,
    path: &str,
    query: &[(&str, String)],
    cursor: &str,
) -> Result<Vec<Value>, String> {
    let mut found = Vec::new();
    let mut next: Option<String> = None;
    for _ in 0..MOST_PAGES {
        let mut request = Request::get(path);
        if !path.ends_with("/missed") {
            request = request.query("limit", 1000);
        }
        for (name, value) in query {
            if *name != cursor || next.is_none() {
                request = request.query(name, value);
            }
        }
        if let Some(next) = &next {
            request = request.query(cursor, next);
        }
        let page = match client.send(request).await {
            Outcome::Done(answer) => answer.body,
            Outcome::Refused(_, why) | Outcome::Unknown(_, why) => return Err(why),
        };
        let Some(some) = page["items"].as_array() else { return Err(format!("no items: {page}")) };
        found.extend(some.iter().cloned());
        match page["next"].as_str() {
            Some(more) => next = Some(more.to_owned()),
            None => return Ok(found),
        }
    }
    Err(format!("{path}: after {MOST_PAGES} pages there is no end"))
}

/// A read of a list as one operation, on any node that answers.
async fn read_somewhere(
    ctx: &Ctx,
    what: (&'static str, &str),
    path: &str,
    query: &[(&str, String)],
    cursor: &str,
) -> Result<Option<Vec<Value>>, Error> {
    let until = Instant::now() + PATIENCE;
    loop {
        let client = ctx.any();
        let work = async || match items(client, path, query, cursor).await {
            Ok(found) => (Came::ok(json!(found)), Some(found)),
            Err(why) => (Came::fail(why), None),
        };
        let (f, k) = what;
        let found = Process::new(ctx).whole(&client.node, (f, k, Value::Null), work).await?;
        if found.is_some() || Instant::now() >= until {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Reads runs until the time is over, so that none is forgotten before it was seen
/// to end.
pub(super) async fn watch_runs(ctx: &Ctx, until: Instant) -> Result<(), Error> {
    let mut watch = Watch::default();
    while Instant::now() < until {
        tokio::time::sleep(LOOK.min(until.saturating_duration_since(Instant::now()))).await;
        watch.look(ctx, ctx.any()).await?;
    }
    Ok(())
}

/// Which runs were seen, and which of them have not ended.
#[derive(Default)]
struct Watch {
    /// Highest number of a run before which all have ended.
    passed: u64,
    /// Those after it that have ended.
    ended: BTreeSet<u64>,
}

fn run_number(run: &Value) -> Option<u64> {
    run["id"].as_str()?.strip_prefix("r-")?.parse().ok()
}

fn is_open(run: &Value) -> bool {
    run["finished"].is_null()
}

impl Watch {
    /// Writes down every run that has ended since; the answer is those that are open.
    async fn look(&mut self, ctx: &Ctx, client: &Client) -> Result<Option<Vec<Value>>, Error> {
        let after = [("after", format!("r-{}", self.passed))];
        let work = async || match items(client, "runs", &after, "after").await {
            Ok(runs) => {
                let new = |run: &&Value| {
                    run_number(run).is_some_and(|n| !self.ended.contains(&n)) && !is_open(run)
                };
                let ended: Vec<Value> = runs.iter().filter(new).cloned().collect();
                (Came::ok(json!(ended)), Some(runs))
            }
            Err(why) => (Came::fail(why), None),
        };
        let mut process = Process::new(ctx);
        let runs = process.whole(&client.node, ("runs", "", Value::Null), work).await?;
        let Some(runs) = runs else { return Ok(None) };
        let (open, ended): (Vec<Value>, Vec<Value>) = runs.into_iter().partition(is_open);
        self.ended.extend(ended.iter().filter_map(run_number));
        let first_open = open.iter().filter_map(run_number).min();
        let last = self.ended.last().copied().unwrap_or(self.passed);
        // Runs get their numbers in order, so that nothing can appear below.
        self.passed = first_open.map_or(last, |first| first.saturating_sub(1)).max(self.passed);
        let passed = self.passed;
        self.ended.retain(|n| *n > passed);
        Ok(Some(open))
    }
}

/// Writes down the last instant that is judged.
pub(super) async fn mark_horizon(ctx: &Ctx) -> Result<(), Error> {
    let at = Stamp::now().utc;
    let work = async || (Came::ok(json!({"utc": at})), ());
    Process::new(ctx).whole("harness", ("horizon", "", Value::Null), work).await
}

/// Waits until no run is open that stands for an instant before now, then says why
/// the others wait.
pub(super) async fn drain(ctx: &Ctx, patience: Duration) -> Result<(), Error> {
    let (horizon, until) = (Stamp::now().utc, Instant::now() + patience);
    let mut watch = Watch::default();
    let is_old = |run: &Value| {
        run["nominal"].as_str().and_then(millis).is_none_or(|nominal| nominal <= horizon)
    };
    // Instants just before now are due, and may not have a run yet.
    tokio::time::sleep(Duration::from_secs(2)).await;
    loop {
        let open = watch.look(ctx, ctx.any()).await?;
        let old: Option<Vec<Value>> = open.map(|open| open.into_iter().filter(is_old).collect());
        if old.as_ref().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        let held = match &old {
            Some(old) if old.len() <= FEW => are_paused(ctx, old).await,
            _ => false,
        };
        if held || Instant::now() >= until {
            // Twice, so that what moves is told from what is stuck.
            let old = old.unwrap_or_default();
            explain_runs(ctx, &old).await?;
            tokio::time::sleep(AGAIN).await;
            return explain_runs(ctx, &old).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Waits until no action of these jobs is open whose instant has come by now: such as
/// have no run yet are seen by nobody else.
pub(super) async fn await_actions(
    ctx: &Ctx,
    jobs: &[String],
    patience: Duration,
) -> Result<(), Error> {
    await_none_in(ctx, jobs, &["planned", "waiting", "ready", "running"], patience).await
}

/// The same, but for what waits.
pub(super) async fn await_runs(
    ctx: &Ctx,
    jobs: &[String],
    patience: Duration,
) -> Result<(), Error> {
    await_none_in(ctx, jobs, &["ready", "running"], patience).await
}

async fn await_none_in(
    ctx: &Ctx,
    jobs: &[String],
    states: &[&str],
    patience: Duration,
) -> Result<(), Error> {
    let (until, now) = (Instant::now() + patience, shown(Stamp::now().utc));
    for job in jobs {
        let path = format!("jobs/{job}/actions");
        loop {
            let query = [("to", now.clone())];
            let found = items(ctx.any(), &path, &query, "from").await.unwrap_or_default();
            let is_open = |action: &Value| states.iter().any(|state| action["state"] == **state);
            if (!found.is_empty() && !found.iter().any(is_open)) || Instant::now() >= until {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    Ok(())
}

/// True if all of them wait because their job is paused: they will not end.
async fn are_paused(ctx: &Ctx, runs: &[Value]) -> bool {
    for run in runs {
        let path = format!("runs/{}/explain", run["id"].as_str().unwrap_or_default());
        let told = ctx.any().send(Request::get(&path)).await;
        if told.body().is_none_or(|body| body["reason"] != "paused") {
            return false;
        }
    }
    true
}

async fn explain_runs(ctx: &Ctx, runs: &[Value]) -> Result<(), Error> {
    for run in runs.iter().take(MOST_EXPLAINED) {
        let id = run["id"].as_str().unwrap_or_default();
        let path = format!("runs/{id}/explain");
        let what = ("open-run", id, json!({"job": run["job"], "nominal": run["nominal"]}));
        let ask = Request::get(&path);
        Process::new(ctx).ask(ctx.any(), what, ask, |answer| answer.body.clone()).await?;
    }
    Ok(())
}

/// Every back-fill, and what became of each of its instants.
pub(super) async fn read_backfills(ctx: &Ctx) -> Result<(), Error> {
    let what = ("final-backfills", "");
    let all = read_somewhere(ctx, what, "backfills", &[], "before").await?;
    for id in all.iter().flatten().filter_map(|backfill| backfill["id"].as_str()) {
        let path = format!("backfills/{id}/instants");
        read_somewhere(ctx, ("final-instants", id), &path, &[], "after").await?;
    }
    Ok(())
}

/// Every pool, and what of it is in use, on every node.
pub(super) async fn read_pools(ctx: &Ctx) -> Result<(), Error> {
    for client in ctx.clients.iter() {
        let what = ("final-pools", client.node.as_str(), Value::Null);
        let ask = Request::get("pools");
        Process::new(ctx).ask(client, what, ask, |answer| answer.body["items"].clone()).await?;
    }
    Ok(())
}

/// Every node's own view, and everything that is known of every job.
pub(super) async fn read_everything(ctx: &Ctx) -> Result<(), Error> {
    for client in ctx.clients.iter() {
        let request = Request::get("cluster");
        let what = ("final-cluster", client.node.as_str(), Value::Null);
        Process::new(ctx).ask(client, what, request, |answer| answer.body.clone()).await?;
    }
    read_somewhere(ctx, ("final-workers", ""), "workers", &[], "after").await?;
    read_somewhere(ctx, ("final-locks", ""), "locks", &[], "after").await?;
    let jobs = read_somewhere(ctx, ("final-jobs", ""), "jobs", &[], "after").await?;
    for job in jobs.unwrap_or_default() {
        let Some(name) = job["name"].as_str() else { continue };
        let definition = &job["definition"];
        if definition["triggers"].is_null() && definition["depends_on"].is_null() {
            continue;
        }
        let path = format!("jobs/{name}/missed");
        read_somewhere(ctx, ("final-missed", name), &path, &[], "after").await?;
        let path = format!("jobs/{name}/actions");
        let actions = read_somewhere(ctx, ("final-actions", name), &path, &[], "from").await?;
        let waits = |action: &&Value| action["state"] == "waiting";
        let actions = actions.unwrap_or_default();
        for action in actions.iter().filter(waits).take(MOST_EXPLAINED) {
            let id = action["id"].as_str().unwrap_or_default();
            let path = format!("actions/{id}/explain");
            let what = ("open-action", id, json!({"job": name, "nominal": action["nominal"]}));
            let ask = Request::get(&path);
            Process::new(ctx).ask(ctx.any(), what, ask, |answer| answer.body.clone()).await?;
        }
    }
    Ok(())
}
