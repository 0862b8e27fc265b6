//! Back-fills: ranges of the past are run again, several at once, in either order and so
//! many at a time, while somebody pauses, resumes and stops them and runs again what
//! failed. Others stand for actions that are there, and tell those that wait or do not.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use rand::Rng;
use rand_chacha::ChaCha12Rng;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Ctx, Error, Process, apply_set, finals, page};
use crate::client::{Outcome, Request};
use crate::time::{Stamp, millis, shown};

/// A job's name, how long an attempt lasts, and what its witness does besides.
type Past = (&'static str, u64, &'static [(&'static str, &'static str)]);
const PAST: [Past; 3] = [
    ("bf-plain", 300, &[]),
    ("bf-fails", 200, &[("first", "7,3")]),
    ("bf-retry", 150, &[("exit", "1,0")]),
];
/// A job that fires now, and one that waits for it.
pub(crate) const LIVE: &str = "bf-live";
pub(crate) const BELOW: &str = "bf-below";
/// Clients of the past.
const CLIENTS: u32 = 2;
/// The past that there is, in minutes before the test.
const MINUTES: i64 = 300;
/// How long the rest of all back-fills may take when everything is mended.
const PATIENCE: Duration = Duration::from_secs(90);
const MINUTE_MS: i64 = 60_000;

/// Creates the jobs.
pub(super) async fn setup(ctx: &Ctx) -> Result<(), Error> {
    let now = Stamp::now().utc;
    let (start, end) = (shown(whole(now) - MINUTES * MINUTE_MS), shown(whole(now) - MINUTE_MS));
    let past = |(name, ms, more): &Past| {
        let mut options = vec![("ms", ms.to_string()), ("tick", "100".to_owned())];
        options.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        json!({
            "name": name,
            "exec": ctx.exec(&options),
            "retries": {"count": u32::from(*name == "bf-retry"), "backoff": "1s"},
            "triggers": [{"name": "t", "cron": "0 * * * * ?", "start": start, "end": end}],
            "lease": "10s",
        })
    };
    let mut jobs: Vec<Value> = PAST.iter().map(past).collect();
    let options = [("ms", "100".to_owned()), ("first", "7,1".to_owned())];
    jobs.push(json!({
        "name": LIVE,
        "exec": ctx.exec(&options),
        "triggers": [{"name": "t", "cron": "4/10 * * * * ?"}],
        "lease": "10s",
    }));
    let options = [("ms", "100".to_owned())];
    jobs.push(json!({
        "name": BELOW, "exec": ctx.exec(&options), "depends_on": [LIVE], "lease": "10s",
    }));
    apply_set(ctx, "backfill", jobs).await
}

fn whole(ms: i64) -> i64 {
    ms - ms.rem_euclid(MINUTE_MS)
}

/// Asks for back-fills and steers them.
pub(super) async fn main(ctx: &Ctx, until: Instant) -> Result<(), Error> {
    let past = try_join_all((0..CLIENTS).map(|client| fill(ctx, client, until)));
    let (past, live) = tokio::join!(past, stand_for_actions(ctx, until));
    past?;
    live
}

async fn fill(ctx: &Ctx, client: u32, until: Instant) -> Result<(), Error> {
    let mut rng = ctx.stream(&format!("backfill-{client}"));
    let mut process = Process::new(ctx);
    let first = whole(Stamp::now().utc);
    while Instant::now() < until {
        let (job, ..) = PAST[rng.random_range(0..PAST.len())];
        let count = rng.random_range(5..30);
        let from = first - rng.random_range(count + 2..MINUTES) * MINUTE_MS;
        let body = json!({
            "from": shown(from),
            "to": shown(from + count * MINUTE_MS),
            "existing": "all",
            "newest_first": rng.random_bool(0.4),
            "concurrency": rng.random_range(1..5),
        });
        let path = format!("jobs/{job}/backfills");
        let request = Request::post(&path, body.clone());
        let made = process.insist(("backfill", job, body), request, until).await?;
        let Some(id) = made.body().and_then(|body| body["backfill"].as_str()) else { continue };
        steer(ctx, &mut process, id, &mut rng, until).await?;
        // What failed runs again.
        if rng.random_bool(0.6) {
            let path = format!("backfills/{id}/rerun");
            let request = Request::new(Method::POST, &path);
            let what = ("backfill-rerun", id, json!({}));
            let made = process.insist(what, request, until).await?;
            if let Some(id) = made.body().and_then(|body| body["backfill"].as_str()) {
                steer(ctx, &mut process, id, &mut rng, until).await?;
            }
        }
        tokio::time::sleep(ctx.pause(1.0, &mut rng)).await;
    }
    Ok(())
}

/// Until it is over: sometimes it is paused for a while, or stopped.
async fn steer(
    ctx: &Ctx,
    process: &mut Process<'_>,
    id: &str,
    rng: &mut ChaCha12Rng,
    until: Instant,
) -> Result<(), Error> {
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(rng.random_range(300..1_500))).await;
        let path = format!("backfills/{id}");
        let answer = ctx.any().send(Request::get(&path)).await;
        let Some(body) = answer.body() else { continue };
        if is_over(body) {
            return Ok(());
        }
        match rng.random_range(0..20) {
            0..3 => {
                ask(process, id, "pause", until).await?;
                tokio::time::sleep(Duration::from_millis(rng.random_range(500..6_000))).await;
                ask(process, id, "resume", until).await?;
            }
            3 => ask(process, id, "stop", until).await?,
            _ => {}
        }
    }
    Ok(())
}

fn is_over(backfill: &Value) -> bool {
    ["done", "stopped"].iter().any(|state| backfill["state"] == **state) && backfill["live"] == 0
}

async fn ask(
    process: &mut Process<'_>,
    id: &str,
    to: &'static str,
    until: Instant,
) -> Result<(), Error> {
    let path = format!("backfills/{id}/{to}");
    let request = Request::new(Method::POST, &path);
    process.insist(("backfill-steer", id, json!({"to": to})), request, until).await.map(drop)
}

/// Runs again what has failed just before, by a back-fill of one instant.
async fn stand_for_actions(ctx: &Ctx, until: Instant) -> Result<(), Error> {
    let mut rng = ctx.stream("backfill-live");
    let mut process = Process::new(ctx);
    let mut next = Stamp::now().utc;
    let actions = format!("jobs/{LIVE}/actions");
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(rng.random_range(500..1_500))).await;
        let now = shown(Stamp::now().utc);
        let request = Request::get(&actions).query("from", shown(next)).query("to", now);
        let answer = ctx.any().send(request.query("limit", 1)).await;
        let Some(action) = answer.body().and_then(|body| body["items"].get(0)) else { continue };
        let nominal = action["nominal"].as_str().and_then(millis);
        let Some(nominal) = nominal.filter(|_| action["state"] == "failed") else { continue };
        next = nominal + 1;
        let body = json!({
            "from": shown(nominal),
            "to": shown(nominal + 1_000),
            "downstream": rng.random_bool(0.5),
        });
        let path = format!("jobs/{LIVE}/backfills");
        let request = Request::post(&path, body.clone());
        if !matches!(
            process.insist(("backfill", LIVE, body), request, until).await?,
            Outcome::Done(_)
        ) {
            continue;
        }
    }
    Ok(())
}

/// What was paused goes on: nobody else would resume it.
pub(super) async fn settle(ctx: &Ctx) -> Result<(), Error> {
    let until = Instant::now() + PATIENCE;
    let mut process = Process::new(ctx);
    for backfill in page(ctx, Request::get("backfills").query("limit", 1000), until).await {
        if backfill["state"] == "paused"
            && let Some(id) = backfill["id"].as_str()
        {
            ask(&mut process, id, "resume", until).await?;
        }
    }
    Ok(())
}

/// Waits until all are over, and reads them with all their instants.
pub(super) async fn finish(ctx: &Ctx) -> Result<(), Error> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let all = page(ctx, Request::get("backfills").query("limit", 1000), until).await;
        if all.iter().all(is_over) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    finals::read_backfills(ctx).await
}
