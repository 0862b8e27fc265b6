//! Dag: jobs that wait for others: chains, diamonds, a large fan-in, jobs that fail for a
//! while, for good, or now and then; every rule that says which actions are waited for,
//! every condition, and edges that lead from a job to itself. Some are drawn.

use rand::Rng;
use rand_chacha::ChaCha12Rng;
use serde_json::{Value, json};

use super::{Ctx, Error, apply_set};
use crate::time::{Stamp, shown};

/// Roots; all fire at the same instants.
const ROOTS: u32 = 3;
/// Layers below the roots.
const LAYERS: u32 = 3;
/// Jobs of each layer.
const WIDTH: u32 = 4;
/// Waits for so many.
const FAN_IN: u32 = 12;
/// Jobs whose edges are drawn.
const DRAWN: usize = 10;
/// Zones whose hours begin at different minutes; none changes its clocks.
const ZONES: [(&str, i64); 4] =
    [("UTC", 0), ("Asia/Kathmandu", 15), ("Asia/Kolkata", 30), ("Australia/Eucla", 15)];
/// A job says with this exit code that there was nothing to do.
const NOTHING: u8 = 9;

fn job(ctx: &Ctx, name: &str, more: &[(&str, &str)], depends_on: Value) -> Value {
    let mut options = vec![("ms", "100".to_owned())];
    options.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    let mut job = json!({
        "name": name,
        "exec": ctx.exec(&options),
        "retries": {"count": 2, "backoff": "1s"},
        "skip_exit_codes": [NOTHING],
    });
    if depends_on.as_array().is_some_and(|edges| !edges.is_empty()) {
        job["depends_on"] = depends_on;
    }
    job
}

fn fires(ctx: &Ctx, name: &str, more: &[(&str, &str)], trigger: Value) -> Value {
    let mut job = job(ctx, name, more, json!([]));
    job["triggers"] = json!([trigger]);
    job
}

/// Creates them in one request; nothing is asked afterwards.
pub(super) async fn setup(ctx: &Ctx) -> Result<(), Error> {
    let mut rng = ctx.stream("dag");
    let mut jobs = layers(ctx, &mut rng);
    jobs.extend(sources(ctx));
    jobs.extend(rules(ctx, next_hour()));
    jobs.extend(drawn(ctx, &mut rng));
    apply_set(ctx, "dag", jobs).await
}

/// Diamonds and a fan-in of jobs that all fire at the same instants.
fn layers(ctx: &Ctx, rng: &mut ChaCha12Rng) -> Vec<Value> {
    let mut jobs = Vec::new();
    let mut above: Vec<String> = Vec::new();
    for n in 0..ROOTS + FAN_IN {
        let name = if n < ROOTS { format!("dag-root-{n}") } else { format!("dag-leaf-{n}") };
        let exits = if n == 0 { "1,0" } else { "0" };
        jobs.push(fires(ctx, &name, &[("exit", exits)], json!({"cron": "2/10 * * * * ?"})));
        if n < ROOTS {
            above.push(name);
        }
    }
    let leaves: Vec<String> = (ROOTS..ROOTS + FAN_IN).map(|n| format!("dag-leaf-{n}")).collect();
    jobs.push(job(ctx, "dag-fan-in", &[], json!(leaves)));
    jobs.push(job(ctx, "dag-after-fan-in", &[], json!(["dag-fan-in"])));
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
            jobs.push(job(ctx, &name, &[("exit", exits)], json!(ups)));
            here.push(name);
        }
        above = here;
    }
    jobs
}

/// Jobs of different rates: one fails each third time, one has nothing to do each second
/// time, one fires for a while, one once.
fn sources(ctx: &Ctx) -> Vec<Value> {
    let now = Stamp::now().utc;
    let from_now = |seconds: i64| shown(now - now.rem_euclid(1000) + seconds * 1_000);
    let while_ = json!({"cron": "0/6 * * * * ?", "start": from_now(8), "end": from_now(38)});
    vec![
        fires(ctx, "dag-a", &[("when", "30,2,3")], json!({"cron": "2/10 * * * * ?"})),
        fires(ctx, "dag-b", &[("when", "30,15,9")], json!({"cron": "0/15 * * * * ?"})),
        fires(ctx, "dag-c", &[("exit", "1,0")], json!({"cron": "2/20 * * * * ?"})),
        fires(ctx, "dag-d", &[], json!({"cron": "5/30 * * * * ?"})),
        fires(ctx, "dag-while", &[], while_),
        fires(ctx, "dag-once", &[], json!({"once": from_now(20)})),
    ]
}

/// The zone in which the next hour begins first, so that a test sees two periods if any
/// does.
fn next_hour() -> &'static str {
    let minute = Stamp::now().utc.div_euclid(60_000).rem_euclid(60);
    let wait = |(_, begins): &(&str, i64)| (begins - minute - 1).rem_euclid(60);
    ZONES.iter().min_by_key(|zone| wait(zone)).map_or("UTC", |(zone, _)| zone)
}

/// One job for each rule and each condition.
fn rules(ctx: &Ctx, zone: &str) -> Vec<Value> {
    let edge = |job: &str, matching: &str| json!({"job": job, "match": matching});
    let base = |job: &str| json!({"job": job, "base": true});
    let done = |job: &str| json!({"job": job, "base": true, "condition": "done"});
    let made = |name: &str, period: &str, edges: Value| {
        let mut job = job(ctx, name, &[], edges);
        job["period"] = json!(period);
        if period == "hour" {
            job["zone"] = json!(zone);
        }
        job
    };
    let if_ends = |job: &str, how: &str| json!([{"job": job, "condition": how}]);
    let no_match = |word: &str| json!([base("dag-d"), {"job": "dag-once", "match": "latest_before", "on_no_match": word}]);
    let mut own = fires(ctx, "dag-own", &[], json!({"cron": "9/20 * * * * ?"}));
    own["depends_on"] = json!([edge("dag-own", "latest_before")]);
    let mut hour = fires(ctx, "dag-own-hour", &[], json!({"cron": "11/20 * * * * ?"}));
    hour["depends_on"] = json!([edge("dag-own-hour", "previous_period")]);
    (hour["period"], hour["zone"]) = (json!("hour"), json!(zone));
    let mut waits = made("dag-no-match-waits", "hour", no_match("wait"));
    waits["wait_limit"] = json!("20s");
    let mut hera = made("dag-hera", "day", json!([base("dag-d"), edge("dag-a", "hera")]));
    hera["legacy_id"] = json!(4_711);
    vec![
        own,
        hour,
        waits,
        hera,
        made("dag-nearest", "hour", json!([done("dag-a"), edge("dag-d", "nearest"), "dag-c"])),
        made("dag-chosen", "hour", json!(["dag-c", edge("dag-d", "nearest")])),
        made("dag-same", "day", json!([done("dag-a"), edge("dag-c", "same_time")])),
        made("dag-latest", "hour", json!([base("dag-d"), edge("dag-c", "latest_before")])),
        made("dag-all", "hour", json!([base("dag-once"), edge("dag-while", "all_in_period")])),
        made("dag-each", "day", json!([edge("dag-while", "all_in_period")])),
        made("dag-previous", "hour", json!([base("dag-d"), edge("dag-c", "previous_period")])),
        made("dag-no-match-skips", "hour", no_match("skip")),
        made("dag-if-failed", "hour", if_ends("dag-a", "failure")),
        made("dag-if-good", "hour", if_ends("dag-a", "success")),
        made("dag-if-done", "hour", if_ends("dag-a", "done")),
        made("dag-if-skipped", "hour", if_ends("dag-b", "skipped_ok")),
        made("dag-if-not-skipped", "hour", if_ends("dag-b", "success")),
        made(
            "dag-soft",
            "hour",
            json!([base("dag-d"), {"job": "dag-a", "match": "latest_before", "soft": true}]),
        ),
        made("dag-below-skipped", "hour", if_ends("dag-if-not-skipped", "done")),
    ]
}

/// Jobs with up to three edges to jobs before them.
fn drawn(ctx: &Ctx, rng: &mut ChaCha12Rng) -> Vec<Value> {
    let mut names: Vec<String> = ["dag-a", "dag-b", "dag-c", "dag-d"].map(str::to_owned).into();
    let mut jobs = Vec::new();
    for n in 0..DRAWN {
        let mut edges: Vec<Value> = Vec::new();
        let mut ups: Vec<&String> = Vec::new();
        for _ in 0..rng.random_range(1..4) {
            let up = &names[rng.random_range(0..names.len())];
            if ups.contains(&up) {
                continue;
            }
            ups.push(up);
            edges.push(edge(up, edges.is_empty(), rng));
        }
        let name = format!("dag-drawn-{n}");
        let when = format!("{},{},5", 20 * rng.random_range(1..4), rng.random_range(0..20));
        let mut job = job(ctx, &name, &[("when", &when)], json!(edges));
        let (zone, _) = ZONES[rng.random_range(0..ZONES.len())];
        (job["zone"], job["period"]) =
            (json!(zone), json!(if rng.random_bool(0.7) { "hour" } else { "day" }));
        if rng.random_bool(0.3) {
            job["legacy_id"] = json!(1_000 + n);
        }
        jobs.push(job);
        names.push(name);
    }
    jobs
}

/// Not all of an hour, which would not end in a test.
fn edge(up: &str, first: bool, rng: &mut ChaCha12Rng) -> Value {
    let matching = ["nearest", "same_time", "latest_before", "previous_period", "hera"];
    let mut edge = json!({"job": up, "match": matching[rng.random_range(0..matching.len())]});
    if first && rng.random_bool(0.4) {
        edge["base"] = json!(true);
    } else if rng.random_bool(0.15) {
        edge["soft"] = json!(true);
    }
    let condition = ["success", "success", "done", "done", "failure", "skipped_ok"];
    if edge["soft"].is_null() {
        edge["condition"] = json!(condition[rng.random_range(0..condition.len())]);
    }
    edge
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::history::Writer;
    use crate::rules::graph::Graph;

    #[test]
    fn all_that_is_made_can_be_judged_and_every_word_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let writer = Arc::new(Writer::create(&folder.path().join("h")).unwrap());
        let mut words = BTreeSet::new();
        for seed in 0..6 {
            let ctx = Ctx::new(Vec::new(), writer.clone(), seed, "w".into(), "t".into());
            let mut rng = ctx.stream("dag");
            let mut graph = Graph::default();
            let all = [rules(&ctx, next_hour()), sources(&ctx), drawn(&ctx, &mut rng)].concat();
            for job in all.iter().chain(&layers(&ctx, &mut rng)) {
                let name = job["name"].as_str().unwrap();
                graph.add(name, job).unwrap_or_else(|e| panic!("{job}: {e}"));
            }
            for job in &all {
                for edge in graph.edges(job["name"].as_str().unwrap()) {
                    words.extend([edge.matching.word(), edge.must.word()]);
                }
            }
            let now = Stamp::now().utc;
            for job in &all {
                let name = job["name"].as_str().unwrap();
                for at in graph.between(name, now, now + 60_000) {
                    assert!(graph.action(name, at).is_some(), "{name}");
                }
            }
        }
        assert_eq!(words.len(), 6 + 5, "{words:?}");
    }
}
