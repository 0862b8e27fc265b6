//! Cancel: long runs are started by hand and cancelled at some moment of their life,
//! by a client that insists; some leave a process behind, some ignore the first
//! signal, some are never cancelled.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use rand::Rng;
use reqwest::Method;
use serde_json::json;

use super::{Ctx, Error, Process, apply_set};
use crate::client::{Outcome, Request};

/// Clients.
const CLIENTS: u32 = 2;
/// Name and what its witness does besides.
const JOBS: [(&str, &[(&str, &str)]); 3] = [
    ("cancel-plain", &[]),
    ("cancel-child", &[("fork", "yes")]),
    ("cancel-stubborn", &[("stubborn", "yes")]),
];
/// How long a run lasts if nobody ends it.
const LIFE_MS: u64 = 5_000;
/// Between the signal that asks and the one that ends.
pub(crate) const GRACE_MS: u64 = 1_000;

/// Creates the jobs.
pub(super) async fn setup(ctx: &Ctx) -> Result<(), Error> {
    let mut jobs = Vec::new();
    for (name, more) in JOBS {
        let mut options = vec![("ms", LIFE_MS.to_string()), ("tick", "100".to_owned())];
        options.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let grace = format!("{GRACE_MS}ms");
        jobs.push(json!({"name": name, "exec": ctx.exec(&options), "grace": grace}));
    }
    apply_set(ctx, "cancel", jobs).await
}

/// Starts and cancels.
pub(super) async fn main(ctx: &Ctx, until: Instant) -> Result<(), Error> {
    try_join_all((0..CLIENTS).map(|client| start_and_cancel(ctx, client, until))).await.map(drop)
}

async fn start_and_cancel(ctx: &Ctx, client: u32, until: Instant) -> Result<(), Error> {
    let mut rng = ctx.stream(&format!("cancel-{client}"));
    let mut process = Process::new(ctx);
    while Instant::now() < until {
        let (job, _) = JOBS[rng.random_range(0..JOBS.len())];
        let wait = Duration::from_millis(rng.random_range(0..LIFE_MS + 1_000));
        let cancels = rng.random_bool(0.85);
        let path = format!("jobs/{job}/trigger");
        let request = Request::new(Method::POST, &path);
        let made = process.insist(("trigger", job, json!({})), request, until).await?;
        let run = made.body().and_then(|body| body["run"].as_str()).map(str::to_owned);
        if let Some(run) = run.filter(|_| cancels && matches!(made, Outcome::Done(_))) {
            tokio::time::sleep(wait).await;
            let path = format!("runs/{run}/cancel");
            let request = Request::new(Method::POST, &path);
            process.insist(("cancel", &run, json!({})), request, until).await?;
        }
        tokio::time::sleep(ctx.pause(0.5, &mut rng)).await;
    }
    Ok(())
}
