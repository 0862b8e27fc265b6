//! Overlap: jobs of every policy whose instants come in bursts, faster than their runs
//! end, with some runs by hand in between. Between two bursts there is time for all of
//! them to end.

use std::time::{Duration, Instant};

use rand::Rng;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Ctx, Error, Process, apply_set, finals};
use crate::client::Request;

/// Name, policy, how long an attempt lasts and how it exits.
pub(crate) const JOBS: [(&str, &str, u64, &str); 8] = [
    ("overlap-allow", "allow", 3_000, "0"),
    ("overlap-skip", "skip", 3_000, "0"),
    ("overlap-skip-retry", "skip", 500, "1,0"),
    ("overlap-one", "queue_one", 3_000, "0"),
    ("overlap-one-retry", "queue_one", 500, "1,0"),
    ("overlap-all", "queue_all", 2_000, "0"),
    ("overlap-all-retry", "queue_all", 300, "1,0"),
    ("overlap-cancel", "cancel_running", 3_000, "0"),
];
/// Four instants in six seconds, twice a minute.
const BURSTS: &str = "0,2,4,6,30,32,34,36 * * * * ?";
/// Clients that start runs by hand.
const CLIENTS: u32 = 1;
/// How long what waits for others may take when everything is mended.
const PATIENCE: Duration = Duration::from_secs(90);

fn job(ctx: &Ctx, (name, policy, ms, exits): (&str, &str, u64, &str)) -> Value {
    let options = [("ms", ms.to_string()), ("tick", "100".to_owned()), ("exit", exits.to_owned())];
    json!({
        "name": name,
        "triggers": [{"name": "bursts", "cron": BURSTS}],
        "exec": ctx.exec(&options),
        "overlap": policy,
        "retries": {"count": 3, "backoff": "2s"},
        "lease": "10s",
        "grace": "1s",
    })
}

/// Creates the jobs.
pub(super) async fn setup(ctx: &Ctx) -> Result<(), Error> {
    let jobs = JOBS.into_iter().map(|one| job(ctx, one)).collect();
    apply_set(ctx, "overlap", jobs).await
}

/// Starts runs by hand, which nothing holds up and which hold up others.
pub(super) async fn main(ctx: &Ctx, until: Instant) -> Result<(), Error> {
    for client in 0..CLIENTS {
        let mut rng = ctx.stream(&format!("overlap-{client}"));
        let mut process = Process::new(ctx);
        while Instant::now() < until {
            tokio::time::sleep(Ctx::seldom(0.25, &mut rng)).await;
            let (job, ..) = JOBS[rng.random_range(0..JOBS.len())];
            let path = format!("jobs/{job}/trigger");
            let request = Request::new(Method::POST, &path);
            process.insist(("trigger", job, json!({})), request, until).await?;
        }
    }
    Ok(())
}

/// Waits until what waits for others is over.
pub(super) async fn finish(ctx: &Ctx) -> Result<(), Error> {
    let names: Vec<String> = JOBS.iter().map(|(name, ..)| (*name).to_owned()).collect();
    finals::await_actions(ctx, &names, PATIENCE).await
}
