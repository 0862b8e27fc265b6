//! Register: the description of a job as a register, read, written and compared and
//! set by its revision, through any node, by several clients at once.
//!
//! Values are unique, so that a read says which write it saw. A job serves for a
//! bounded time, so that the search for an order stays short.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use rand::Rng;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Ctx, Error, Process};
use crate::client::{Answer, Outcome, Request};

/// Clients.
const CLIENTS: u32 = 5;
/// Jobs at a time.
const KEYS: u32 = 2;
/// A job serves so long.
const ERA: Duration = Duration::from_secs(12);

fn definition(name: &str, value: u64) -> Value {
    json!({"name": name, "description": value.to_string(), "noop": true})
}

/// What a read saw: the value and the revision.
fn seen(answer: &Answer) -> Value {
    let value = answer.body["definition"]["description"].as_str();
    let value = value.and_then(|text| text.parse::<u64>().ok());
    json!({"value": value, "revision": answer.body["revision"]})
}

fn written(answer: &Answer) -> Value {
    json!({"revision": answer.body["revision"]})
}

/// Reads, writes, compares and sets.
pub(super) async fn main(ctx: &Ctx, until: Instant) -> Result<(), Error> {
    let begun = Instant::now();
    try_join_all((0..CLIENTS).map(|client| use_jobs(ctx, client, begun, until))).await.map(drop)
}

async fn use_jobs(ctx: &Ctx, client: u32, begun: Instant, until: Instant) -> Result<(), Error> {
    let mut rng = ctx.stream(&format!("register-{client}"));
    let mut process = Process::new(ctx);
    let mut count = 0_u64;
    let mut known: Option<(String, u64)> = None;
    while Instant::now() < until {
        let era = begun.elapsed().as_secs() / ERA.as_secs();
        let name = format!("reg-{era}-{}", rng.random_range(0..KEYS));
        let path = format!("jobs/{name}");
        count += 1;
        let value = count * u64::from(CLIENTS) + u64::from(client);
        let draw = rng.random_range(0..10);
        let revision = known.as_ref().filter(|(of, _)| *of == name).map(|(_, revision)| *revision);
        let outcome = match (draw, revision) {
            (0..4, _) | (5..10, None) => {
                let what = ("reg-read", name.as_str(), Value::Null);
                process.ask(ctx.any(), what, Request::get(&path), seen).await?
            }
            (4, _) => {
                let what = ("reg-write", name.as_str(), json!({"value": value}));
                let request = Request::new(Method::PUT, &path).body(definition(&name, value));
                process.ask(ctx.any(), what, request, written).await?
            }
            (_, Some(revision)) => {
                let what = ("reg-cas", name.as_str(), json!({"value": value, "expects": revision}));
                let request = Request::new(Method::PUT, &path)
                    .header("If-Match", format!("\"{revision}\""))
                    .body(definition(&name, value));
                process.ask(ctx.any(), what, request, written).await?
            }
            (_, None) => continue,
        };
        if let Some(revision) = outcome.body().and_then(|body| body["revision"].as_u64()) {
            known = Some((name, revision));
        } else if matches!(&outcome, Outcome::Refused(Some(answer), _) if answer.status == 412) {
            known = None;
        }
        tokio::time::sleep(ctx.pause(3.0, &mut rng)).await;
    }
    Ok(())
}
