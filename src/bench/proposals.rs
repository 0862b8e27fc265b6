//! Proposals a second: small writes that are each acknowledged after a majority
//! has synced them.
//!
//! A proposal is one `POST /locks/NAME/renew`, sent to the leader over a
//! connection that is kept; each client has a lock of its own and sends the next
//! when the last is answered. So the figure holds HTTP and JSON too, and the
//! clients' own CPU time is taken from the same machine.

use std::time::{Duration, Instant};

use horai_core::time::Span;
use serde::Serialize;
use tokio::task::JoinSet;

use super::bed::Bed;
use super::stats::{Times, median};
use super::{Error, System};
use crate::api::dto::{AcquireRequest, LeaseDto, SpanText};
use crate::cli::client::{ApiError, Client};
use crate::error::ErrorCode;

/// How many clients at once.
const CLIENTS: [usize; 3] = [1, 16, 256];
/// Runs for each, and their length.
const RUNS: usize = 3;
const RUN: Duration = Duration::from_secs(5);

/// The figures for one number of clients.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Proposals {
    /// Clients at once.
    pub(super) clients: usize,
    /// Runs; the rate is their median.
    pub(super) runs: usize,
    /// Seconds of each run.
    pub(super) run_seconds: u64,
    /// Acknowledged in a second.
    pub(super) per_second: f64,
    /// From asked to acknowledged, over all runs.
    pub(super) times: Times,
}

/// Measures on a fresh cluster.
pub(super) async fn measure(bed: &Bed) -> Result<Vec<Proposals>, Error> {
    let leader = bed.cluster.leader().await.ok_or(Error::NoLeader)?;
    let client = bed.cluster.node_client(leader)?.with_timeout(Duration::from_secs(10));
    let mut all = Vec::new();
    for clients in CLIENTS {
        let (mut rates, mut times) = (Vec::new(), Vec::new());
        for run in 0..RUNS {
            let (rate, of_run) = one_run(&client, clients, run).await?;
            rates.push(rate);
            times.extend(of_run);
        }
        let none = || std::io::Error::other("no proposal was acknowledged");
        all.push(Proposals {
            clients,
            runs: RUNS,
            run_seconds: RUN.as_secs(),
            per_second: median(&rates).ok_or_else(none)?,
            times: Times::of(&times).ok_or_else(none)?,
        });
    }
    Ok(all)
}

async fn one_run(client: &Client, clients: usize, run: usize) -> Result<(f64, Vec<f64>), Error> {
    let mut tokens = Vec::new();
    for n in 0..clients {
        let name = format!("bench-{clients}-{run}-{n}");
        tokens.push((acquire(client, &name).await?, name));
    }
    let begun = Instant::now();
    let mut tasks: JoinSet<Result<Vec<f64>, ApiError>> = JoinSet::new();
    for (token, name) in tokens {
        let client = client.clone();
        tasks.spawn(async move {
            let mut times = Vec::new();
            while begun.elapsed() < RUN {
                let one = Instant::now();
                client.renew(&name, token).await?;
                times.push(one.elapsed().as_secs_f64() * 1000.0);
            }
            Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.extend(joined(done)??);
    }
    let seconds = begun.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss)] // far below 2^52
    Ok((times.len() as f64 / seconds, times))
}

fn joined<T>(done: Result<T, tokio::task::JoinError>) -> System<T> {
    done.map_err(std::io::Error::other)
}

async fn acquire(client: &Client, name: &str) -> Result<u64, ApiError> {
    let ask = AcquireRequest {
        owner: name.to_owned(),
        ttl: SpanText(Span::secs(600)),
        slots: None,
        wait: None,
    };
    match client.acquire(name, &ask).await? {
        LeaseDto::Held { token, .. } => Ok(token),
        LeaseDto::Queued { .. } => {
            let detail = format!("lock {name} of a fresh cluster is taken");
            Err(ApiError::new(ErrorCode::LockTaken, detail, "report this"))
        }
    }
}
