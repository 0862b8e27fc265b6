//! Api-fuzz: requests that make no sense. Each must be refused with a code of the
//! published table, or do what it says; none may end a node or an answer.

use std::time::Instant;

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha12Rng;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Ctx, Error, Process};
use crate::client::Request;
use crate::error::chain;
use crate::history::Came;

const METHODS: [Method; 5] =
    [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH];
/// Nothing here may move leadership, stop a node or delete what others use.
const PATHS: [&str; 14] = [
    "jobs/fuzz-a",
    "jobs/fuzz-b/trigger",
    "jobs/fuzz-b/pause",
    "jobs/fuzz-c/actions",
    "runs/r-999999999",
    "runs/r--1/cancel",
    "runs/%FF/logs",
    "actions/x@y/explain",
    "locks/fuzz/acquire",
    "locks/fuzz/release",
    "workers/%00",
    "nothing/here",
    "jobs/..%2f..%2fetc",
    "cluster/nowhere",
];
const TEXTS: [&str; 10] = [
    "",
    "\u{0}",
    "0 0 0 30 2 ?",
    "* * * * * ? 2099-1970",
    "99999999999999999999s",
    "-1s",
    "Europe/Atlantis",
    "fuzz-a",
    "\u{202e}\u{1f4a9}",
    "'; DROP TABLE jobs; --",
];
const NAMES: [&str; 12] = [
    "name",
    "triggers",
    "depends_on",
    "shell",
    "noop",
    "retries",
    "timeout",
    "lease",
    "owner",
    "ttl",
    "token",
    "unheard_of",
];

/// Asks nonsense until the time is over.
pub(super) async fn main(ctx: &Ctx, until: Instant) -> Result<(), Error> {
    let mut rng = ctx.stream("fuzz");
    while Instant::now() < until {
        let method = METHODS.choose(&mut rng).cloned().unwrap_or(Method::GET);
        let path = PATHS.choose(&mut rng).copied().unwrap_or("jobs");
        let body = rng.random_bool(0.7).then(|| nonsense(&mut rng, 0));
        let v = json!({"method": method.as_str(), "body": body});
        let mut request = Request::new(method, path);
        if let Some(body) = body {
            request = request.body(body);
        }
        if rng.random_bool(0.2) {
            request = request.query(NAMES.choose(&mut rng).copied().unwrap_or("limit"), "x");
        }
        if rng.random_bool(0.2) {
            let header = if rng.random_bool(0.5) { "If-Match" } else { "Idempotency-Key" };
            request = request.header(header, "\"0\"");
        }
        let client = ctx.any();
        let work = async || (answered(client.raw(request).await), ());
        Process::new(ctx).whole(&client.node, ("fuzz", path, v), work).await?;
        tokio::time::sleep(ctx.pause(5.0, &mut rng)).await;
    }
    Ok(())
}

fn nonsense(rng: &mut ChaCha12Rng, depth: u32) -> Value {
    match rng.random_range(0..if depth < 3 { 8 } else { 5 }) {
        0 => Value::Null,
        1 => json!(rng.random::<i64>()),
        2 => json!(rng.random_bool(0.5)),
        3 => json!("x".repeat(rng.random_range(0..3_000))),
        4 => json!(TEXTS.choose(rng).copied().unwrap_or("")),
        5 => {
            json!((0..rng.random_range(0..4)).map(|_| nonsense(rng, depth + 1)).collect::<Vec<_>>())
        }
        _ => {
            let fields = rng.random_range(0..5);
            let field = |_| {
                let name = NAMES.choose(rng).copied().unwrap_or("name");
                (name.to_owned(), nonsense(rng, depth + 1))
            };
            Value::Object((0..fields).map(field).collect())
        }
    }
}

/// An answer is an answer, whatever it says: the checker knows what it may say.
fn answered(sent: Result<crate::client::Answer, reqwest::Error>) -> Came {
    match sent {
        Ok(answer) => Came::ok(json!({
            "status": answer.status,
            "code": answer.body["code"],
            "content": answer.content,
        })),
        Err(error) if error.is_connect() => Came::fail(chain(&error)),
        Err(error) => Came::info(chain(&error)),
    }
}
