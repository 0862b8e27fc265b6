//! Logs: output is followed while it is written and read again afterwards. Every
//! byte of it is known beforehand, so that a reader needs nobody to compare with.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use rand::Rng;
use reqwest::Method;
use serde_json::json;

use super::{Ctx, Error, Process, apply_set, page};
use crate::client::{Client, Request};
use crate::history::Came;

const JOB: &str = "logs-writer";
/// Lines of a run.
pub(crate) const LINES: u64 = 300;
/// How long it writes.
const LIFE_MS: u64 = 4_000;
/// Clients.
const READERS: u32 = 2;
/// Runs that are read again in the end.
const READ_AGAIN: usize = 20;
/// The longest a reader waits for one run, or for a list of them.
const PATIENCE: Duration = Duration::from_secs(30);

/// What an attempt of that name prints, whole.
pub(crate) fn expected(attempt: &str) -> String {
    (0..LINES).fold(String::new(), |mut text, n| {
        let body = format!("{attempt} {n}");
        text.push_str(&format!("{body} {:08x}\n", crc(&body)));
        text
    })
}

/// CRC-32 as the witness computes it.
fn crc(text: &str) -> u32 {
    let step = |crc: u32, byte: u8| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 }
        })
    };
    !text.bytes().fold(!0, step)
}

/// Creates the job.
pub(super) async fn setup(ctx: &Ctx) -> Result<(), Error> {
    let options = [("ms", LIFE_MS.to_string()), ("lines", LINES.to_string())];
    apply_set(ctx, "logs", vec![json!({"name": JOB, "exec": ctx.exec(&options)})]).await
}

/// Starts runs and follows them.
pub(super) async fn main(ctx: &Ctx, until: Instant) -> Result<(), Error> {
    try_join_all((0..READERS).map(|reader| start_and_follow(ctx, reader, until))).await.map(drop)
}

async fn start_and_follow(ctx: &Ctx, reader: u32, until: Instant) -> Result<(), Error> {
    let mut rng = ctx.stream(&format!("logs-{reader}"));
    let mut process = Process::new(ctx);
    let path = format!("jobs/{JOB}/trigger");
    while Instant::now() < until {
        let request = Request::new(Method::POST, &path);
        let made = process.insist(("trigger", JOB, json!({})), request, until).await?;
        if let Some(run) = made.body().and_then(|body| body["run"].as_str()) {
            // Sometimes from a place in the middle, as one that comes back does.
            let offset = if rng.random_bool(0.3) { rng.random_range(0..3_000) } else { 0 };
            tail(ctx.any(), &mut process, "tail", run, offset, true).await?;
        }
        tokio::time::sleep(ctx.pause(0.5, &mut rng)).await;
    }
    Ok(())
}

/// The last runs, read whole on every node.
pub(super) async fn finish(ctx: &Ctx) -> Result<(), Error> {
    let mut process = Process::new(ctx);
    let query = Request::get("runs").query("job", JOB).query("limit", 100);
    let runs = page(ctx, query, Instant::now() + PATIENCE).await;
    for run in runs.iter().take(READ_AGAIN) {
        let id = run["id"].as_str().unwrap_or_default();
        for client in ctx.clients.iter() {
            tail(client, &mut process, "read-log", id, 0, false).await?;
        }
    }
    Ok(())
}

/// Reads, and says how what came differs from what it should be.
async fn tail(
    client: &Client,
    process: &mut Process<'_>,
    f: &'static str,
    run: &str,
    offset: u64,
    follow: bool,
) -> Result<(), Error> {
    let what = (f, run, json!({"offset": offset, "follow": follow}));
    let work = async || (read(client, run, offset, follow).await, ());
    process.whole(&client.node, what, work).await
}

async fn read(client: &Client, run: &str, offset: u64, follow: bool) -> Came {
    let path = format!("runs/{run}/logs");
    let request = Request::get(&path).query("offset", offset).query("follow", follow);
    let answer = match client.open(request).await {
        Ok(answer) if answer.status().is_success() => answer,
        Ok(answer) => return Came::fail(format!("{}", answer.status())),
        Err(error) => return Came::fail(error.to_string()),
    };
    let attempt = answer.headers().get("horai-attempt").and_then(|value| value.to_str().ok());
    let attempt = attempt.unwrap_or_default().to_owned();
    let whole = expected(&attempt);
    let rest = whole.as_bytes().get(usize::try_from(offset).unwrap_or(usize::MAX)..);
    let mut rest = rest.unwrap_or_default();
    let (mut bytes, mut wrong, mut broken) = (0_u64, None::<u64>, None::<String>);
    let mut parts = answer.bytes_stream();
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let part = match tokio::time::timeout_at(until, parts.next()).await {
            Ok(Some(Ok(part))) => part,
            Ok(Some(Err(error))) => {
                broken = Some(error.to_string());
                break;
            }
            Ok(None) => break,
            Err(_) => {
                broken = Some("it did not end in time".to_owned());
                break;
            }
        };
        let same = part.iter().zip(rest).take_while(|(a, b)| a == b).count();
        if wrong.is_none() && same < part.len() {
            wrong = Some(offset + bytes + same as u64);
        }
        rest = rest.get(part.len()..).unwrap_or_default();
        bytes += part.len() as u64;
    }
    Came::ok(json!({
        "attempt": attempt,
        "bytes": bytes,
        "whole": whole.len(),
        "wrong_at": wrong,
        "broken": broken,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_known_beforehand() {
        assert_eq!(crc("123456789"), 0xcbf4_3926);
        let text = expected("r-7.1");
        assert_eq!(text.lines().count() as u64, LINES);
        assert!(text.starts_with(&format!("r-7.1 0 {:08x}\n", crc("r-7.1 0"))));
    }
}
