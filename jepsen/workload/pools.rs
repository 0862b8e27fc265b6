//! Pools: more runs than there are slots ask for some of one pool, or of two, by hand and
//! all the time; some fail at first, and must not hold their slots until they are tried
//! again.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use rand::Rng;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Ctx, Error, Process, apply_set, finals, set_up};
use crate::client::Request;

/// The pools and their slots.
pub(crate) const POOLS: [(&str, u64); 2] = [("pool-a", 3), ("pool-b", 2)];
/// A job's name, what a run takes, how long an attempt lasts and how it exits.
type Takes = (&'static str, &'static [(&'static str, u64)], u64, &'static str);
const JOBS: [Takes; 6] = [
    ("pool-one", &[("pool-a", 1)], 900, "0"),
    ("pool-two", &[("pool-a", 2)], 700, "0"),
    ("pool-all", &[("pool-a", 3)], 400, "0"),
    ("pool-both", &[("pool-a", 1), ("pool-b", 1)], 800, "0"),
    ("pool-b-retry", &[("pool-b", 1)], 500, "1,0"),
    ("pool-b-two", &[("pool-b", 2)], 600, "0"),
];
/// Clients that start runs.
const CLIENTS: u32 = 2;
/// How long slots may take to be free again when everything is mended.
const PATIENCE: Duration = Duration::from_secs(90);

fn job(ctx: &Ctx, name: &str, takes: &[(&str, u64)], ms: u64, exits: &str) -> Value {
    let options = [("ms", ms.to_string()), ("tick", "50".to_owned()), ("exit", exits.to_owned())];
    let mut job = json!({
        "name": name,
        "exec": ctx.exec(&options),
        "retries": {"count": 3, "backoff": "1s"},
        "lease": "10s",
    });
    match takes {
        [(pool, slots)] => {
            job["pool"] = json!(pool);
            job["slots"] = json!(slots);
        }
        _ => job["pools"] = takes.iter().map(|(pool, n)| ((*pool).to_owned(), json!(n))).collect(),
    }
    job
}

/// Creates pools and jobs.
pub(super) async fn setup(ctx: &Ctx) -> Result<(), Error> {
    for (pool, slots) in POOLS {
        let path = format!("pools/{pool}");
        let body = json!({"slots": slots});
        let request = Request::new(Method::PUT, &path).body(body.clone());
        set_up(ctx, ("pool", pool, body), request).await?;
    }
    let jobs = JOBS.iter().map(|(name, takes, ms, exits)| job(ctx, name, takes, *ms, exits));
    apply_set(ctx, "pools", jobs.collect()).await
}

/// Starts runs, often several at once.
pub(super) async fn main(ctx: &Ctx, until: Instant) -> Result<(), Error> {
    try_join_all((0..CLIENTS).map(|client| start(ctx, client, until))).await.map(drop)
}

async fn start(ctx: &Ctx, client: u32, until: Instant) -> Result<(), Error> {
    let mut rng = ctx.stream(&format!("pools-{client}"));
    let mut process = Process::new(ctx);
    while Instant::now() < until {
        for _ in 0..rng.random_range(1..4) {
            let (job, ..) = JOBS[rng.random_range(0..JOBS.len())];
            let path = format!("jobs/{job}/trigger");
            let request = Request::new(Method::POST, &path);
            process.insist(("trigger", job, json!({})), request, until).await?;
        }
        // About as fast as the slots allow, so that there is nearly always somebody who
        // waits, and few when everything ends.
        tokio::time::sleep(Ctx::seldom(0.4, &mut rng)).await;
    }
    Ok(())
}

/// At rest nothing is in use.
pub(super) async fn finish(ctx: &Ctx) -> Result<(), Error> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let pools = super::page(ctx, Request::get("pools"), until).await;
        if pools.iter().all(|pool| pool["used"] == 0 && pool["waiting"] == 0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    finals::read_pools(ctx).await
}
