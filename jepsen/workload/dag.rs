//! Dag: jobs that wait for others of the same instant: chains, diamonds, a large
//! fan-in, some that fail at first and some that fail for good.

use rand::Rng;
use serde_json::{Value, json};

use super::{Ctx, Error, apply_set};

/// Roots; all fire at the same instants.
const ROOTS: u32 = 3;
/// Layers below the roots.
const LAYERS: u32 = 3;
/// Jobs of each layer.
const WIDTH: u32 = 4;
/// Waits for so many.
const FAN_IN: u32 = 12;

fn job(ctx: &Ctx, name: &str, exits: &str, depends_on: &[String]) -> Value {
    let options = [("ms", "100".to_owned()), ("exit", exits.to_owned())];
    let mut job = json!({
        "name": name,
        "exec": ctx.exec(&options),
        "retries": {"count": 2, "backoff": "1s"},
    });
    if depends_on.is_empty() {
        job["triggers"] = json!([{"cron": "2/10 * * * * ?"}]);
    } else {
        job["depends_on"] = json!(depends_on);
    }
    job
}

/// Creates them in one request; nothing is asked afterwards.
pub(super) async fn setup(ctx: &Ctx) -> Result<(), Error> {
    let mut rng = ctx.stream("dag");
    let mut jobs = Vec::new();
    let mut above: Vec<String> = Vec::new();
    for n in 0..ROOTS + FAN_IN {
        let name = if n < ROOTS { format!("dag-root-{n}") } else { format!("dag-leaf-{n}") };
        let exits = if n == 0 { "1,0" } else { "0" };
        jobs.push(job(ctx, &name, exits, &[]));
        if n < ROOTS {
            above.push(name);
        }
    }
    let leaves: Vec<String> = (ROOTS..ROOTS + FAN_IN).map(|n| format!("dag-leaf-{n}")).collect();
    jobs.push(job(ctx, "dag-fan-in", "0", &leaves));
    jobs.push(job(ctx, "dag-after-fan-in", "0", &["dag-fan-in".to_owned()]));
    for layer in 1..=LAYERS {
        let mut here = Vec::new();
        for n in 0..WIDTH {
            let mut ups: Vec<String> =
                above.iter().filter(|_| rng.random_bool(0.5)).cloned().collect();
            if ups.is_empty() {
                ups.extend(above.first().cloned());
            }
            let name = format!("dag-{layer}-{n}");
            // One fails for good: what waits for it must never run.
            let exits = match (layer, n) {
                (2, 0) => "3",
                (_, 1) => "1,1,0",
                _ => "0",
            };
            jobs.push(job(ctx, &name, exits, &ups));
            here.push(name);
        }
        above = here;
    }
    apply_set(ctx, "dag", jobs).await
}
