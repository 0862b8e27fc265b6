//! Limits: jobs that overstep what they may have of memory or processes, and jobs that
//! stay within it.

use std::time::Instant;

use rand::Rng;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Ctx, Error, Process, apply_set};
use crate::client::Request;

/// It takes more memory than it may have, and is killed for it.
pub(crate) const MEMORY: &str = "limits-memory";
/// It asks for more processes than it may have, is refused some, and exits with [`REFUSED`].
pub(crate) const PIDS: &str = "limits-pids";
/// It does both within its limits, and succeeds.
pub(crate) const WITHIN: &str = "limits-within";
/// What the witness exits with that was refused a process.
pub(crate) const REFUSED: i64 = 3;

/// Creates the jobs.
pub(super) async fn setup(ctx: &Ctx) -> Result<(), Error> {
    let job = |name: &str, mib: u64, processes: u64, limits: Value| {
        let options = [
            ("ms", "300".to_owned()),
            ("memory", mib.to_string()),
            ("processes", processes.to_string()),
        ];
        json!({"name": name, "exec": ctx.exec(&options), "limits": limits, "lease": "10s"})
    };
    let jobs = vec![
        job(MEMORY, 96, 0, json!({"memory": "32MiB"})),
        job(PIDS, 0, 20, json!({"pids": 8})),
        job(WITHIN, 8, 3, json!({"memory": "64MiB", "pids": 20})),
    ];
    apply_set(ctx, "limits", jobs).await
}

/// Starts runs of them.
pub(super) async fn main(ctx: &Ctx, until: Instant) -> Result<(), Error> {
    let mut rng = ctx.stream("limits");
    let mut process = Process::new(ctx);
    while Instant::now() < until {
        let job = [MEMORY, PIDS, WITHIN][rng.random_range(0..3)];
        let path = format!("jobs/{job}/trigger");
        let request = Request::new(Method::POST, &path);
        process.insist(("trigger", job, json!({})), request, until).await?;
        tokio::time::sleep(ctx.pause(1.5, &mut rng)).await;
    }
    Ok(())
}
