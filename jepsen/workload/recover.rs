//! Recover: trees of actions with diamonds, parts of which fail at first. When a tree is
//! at rest somebody recovers an action of it, or all below one, says what one came to, or
//! runs one beside the plan; then it is left alone until it is at rest again. Another
//! tree is given no rest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use rand::Rng;
use rand_chacha::ChaCha12Rng;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Ctx, Error, Process, apply_set, finals};
use crate::client::{Outcome, Request};
use crate::time::{Stamp, millis, shown};

/// Jobs of a tree and what they wait for; the first is the root.
pub(crate) const NODES: [(&str, &[&str]); 5] = [
    ("root", &[]),
    ("left", &["root"]),
    ("right", &["root"]),
    ("join", &["left", "right"]),
    // The long way and the short one.
    ("leaf", &["join", "root"]),
];
/// Trees, and which of their jobs fails when it first runs for an instant.
pub(crate) const TREES: [(&str, &str); 3] = [("rec-0", "root"), ("rec-1", "left"), ("rec-2", "")];
/// The tree that is given no rest.
pub(crate) const RESTLESS: &str = "rec-3";
/// Instants of all trees.
const INSTANTS: &str = "7/15 * * * * ?";
/// The job whose every run is tried twice.
const RETRIED: &str = "right";
/// With this code a job fails that is to fail.
const CODE: u8 = 9;
/// What is asked for in a tree, step after step: an operation and the job of its action.
type Plan = &'static [(&'static str, &'static str)];
const PLANS: [(&str, &[Plan]); 3] = [
    (
        "rec-0",
        &[
            &[("recover", "root")],
            &[("super-recover", "root")],
            &[("force-success", "root")],
            &[("skip-action", "root")],
            &[("manual", "root"), ("recover", "root")],
            &[("debug", "root"), ("super-recover", "root")],
            &[("manual", "root"), ("force-success", "root")],
            &[("skip-action", "root"), ("recover", "root")],
            &[("recover", "join"), ("recover", "root")],
            &[("force-success", "left"), ("recover", "root")],
            &[("recover", "root"), ("super-recover", "left")],
        ],
    ),
    (
        "rec-1",
        &[
            &[("recover", "left")],
            &[("super-recover", "left")],
            &[("super-recover", "root")],
            &[("force-success", "left")],
            &[("skip-action", "left")],
            &[("recover", "root")],
            &[("recover", "right")],
            &[("manual", "left"), ("debug", "left")],
            &[("manual", "left"), ("recover", "left")],
            &[("recover", "right"), ("recover", "left")],
        ],
    ),
    (
        "rec-2",
        &[
            &[("super-recover", "root")],
            &[("super-recover", "left")],
            &[("recover", "root")],
            &[("recover", "join")],
            &[("manual", "leaf"), ("super-recover", "join")],
            &[("force-success", "join")],
            &[("super-recover", "root"), ("super-recover", "root")],
        ],
    ),
];
/// How long somebody waits for a tree to come to rest.
const PATIENCE: Duration = Duration::from_secs(60);

fn jobs(ctx: &Ctx, tree: &str, fails: &str, ms: u64) -> Vec<Value> {
    let job = |(node, ups): &(&str, &[&str])| {
        let mut options = vec![("ms", ms.to_string()), ("tick", "100".to_owned())];
        if *node == fails {
            options.push(("first", format!("{CODE},1")));
        }
        if *node == RETRIED {
            options.push(("exit", "1,0".to_owned()));
        }
        let mut job = json!({
            "name": format!("{tree}-{node}"),
            "exec": ctx.exec(&options),
            "lease": "10s",
            "on_worker_lost": "rerun",
            "retries": {"count": u32::from(*node == RETRIED), "backoff": "500ms"},
        });
        if ups.is_empty() {
            job["triggers"] = json!([{"name": "t", "cron": INSTANTS}]);
        } else {
            job["depends_on"] = ups.iter().map(|up| json!(format!("{tree}-{up}"))).collect();
        }
        job
    };
    NODES.iter().map(job).collect()
}

/// Creates the trees.
pub(super) async fn setup(ctx: &Ctx) -> Result<(), Error> {
    let all = TREES.iter().flat_map(|(tree, fails)| jobs(ctx, tree, fails, 200));
    let all = all.chain(jobs(ctx, RESTLESS, "", 700)).collect();
    apply_set(ctx, "recover", all).await
}

/// Asks.
pub(super) async fn main(ctx: &Ctx, until: Instant) -> Result<(), Error> {
    let at_rest = try_join_all(PLANS.iter().map(|(tree, plans)| visit(ctx, tree, plans, until)));
    let (at_rest, restless) = tokio::join!(at_rest, give_no_rest(ctx, until));
    at_rest?;
    restless
}

/// One instant of a tree after the other.
async fn visit(ctx: &Ctx, tree: &str, plans: &[Plan], until: Instant) -> Result<(), Error> {
    let mut rng = ctx.stream(tree);
    let mut process = Process::new(ctx);
    let mut next = Stamp::now().utc;
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(rng.random_range(100..700))).await;
        let Some(nominal) = first_after(ctx, &format!("{tree}-root"), next).await else { continue };
        next = nominal + 1;
        for (op, node) in plans[rng.random_range(0..plans.len())] {
            if !comes_to_rest(ctx, tree, nominal, until).await {
                break;
            }
            let job = format!("{tree}-{node}");
            if !matches!(ask(&mut process, op, &job, nominal, until).await?, Asked::Answered) {
                break;
            }
        }
    }
    Ok(())
}

/// What came of a request.
enum Asked {
    Answered,
    Unknown,
}

/// The first instant from there that is over its time, if its action is there.
async fn first_after(ctx: &Ctx, job: &str, from: i64) -> Option<i64> {
    let path = format!("jobs/{job}/actions");
    let now = Stamp::now().utc;
    let request = Request::get(&path).query("from", shown(from)).query("to", shown(now));
    let answer = ctx.any().send(request.query("limit", 1)).await;
    let first = answer.body()?["items"].as_array()?.first()?.clone();
    first["nominal"].as_str().and_then(millis)
}

/// True once nothing of the tree happens by itself any more.
async fn comes_to_rest(ctx: &Ctx, tree: &str, nominal: i64, until: Instant) -> bool {
    let until = until.min(Instant::now() + PATIENCE);
    while Instant::now() < until {
        if is_at_rest(ctx, tree, nominal).await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    false
}

async fn is_at_rest(ctx: &Ctx, tree: &str, nominal: i64) -> bool {
    let mut states: BTreeMap<&str, String> = BTreeMap::new();
    for (node, _) in NODES {
        let path = format!("actions/{tree}-{node}@{}", compact(nominal));
        let answer = ctx.any().send(Request::get(&path)).await;
        let Some(state) = answer.body().and_then(|body| body["state"].as_str()) else {
            return false;
        };
        states.insert(node, state.to_owned());
    }
    rests(&states)
}

/// What waits rests if something that it waits for has failed, or rests itself.
fn rests(states: &BTreeMap<&str, String>) -> bool {
    let mut held: BTreeSet<&str> = BTreeSet::new();
    NODES.iter().all(|(node, ups)| match states.get(node).map_or("", String::as_str) {
        "success" | "skipped" => true,
        "failed" | "cancelled" => held.insert(node),
        "waiting" => ups.iter().any(|up| held.contains(up)) && held.insert(node),
        _ => false,
    })
}

fn compact(ms: i64) -> String {
    shown(ms).replace(['-', ':'], "")
}

async fn ask(
    process: &mut Process<'_>,
    op: &str,
    job: &str,
    nominal: i64,
    until: Instant,
) -> Result<Asked, Error> {
    let action = format!("{job}@{}", compact(nominal));
    let verb = if op == "skip-action" { "skip" } else { op };
    let outcome = match known(op) {
        Some(f) => {
            let path = format!("actions/{action}/{verb}");
            let request = Request::new(Method::POST, &path);
            process.insist((f, &action, json!({})), request, until).await?
        }
        None => {
            let body = json!({"action": action, "debug": op == "debug"});
            let path = format!("jobs/{job}/trigger");
            let request = Request::post(&path, body.clone());
            process.insist(("trigger", job, body), request, until).await?
        }
    };
    Ok(match outcome {
        Outcome::Done(_) => Asked::Answered,
        Outcome::Refused(Some(answer), _) if answer.status != 429 => Asked::Answered,
        Outcome::Refused(..) | Outcome::Unknown(..) => Asked::Unknown,
    })
}

/// The operation's name in the history; none for runs beside the plan.
fn known(op: &str) -> Option<&'static str> {
    ["recover", "super-recover", "force-success", "skip-action"].into_iter().find(|f| *f == op)
}

/// Recoveries at any moment: what is queued or running then is left alone.
async fn give_no_rest(ctx: &Ctx, until: Instant) -> Result<(), Error> {
    let mut rng: ChaCha12Rng = ctx.stream(RESTLESS);
    let mut process = Process::new(ctx);
    while Instant::now() < until {
        tokio::time::sleep(Ctx::seldom(1.0, &mut rng)).await;
        let back = rng.random_range(0..40_000);
        let root = format!("{RESTLESS}-root");
        let Some(nominal) = first_after(ctx, &root, Stamp::now().utc - back).await else {
            continue;
        };
        let (node, _) = NODES[rng.random_range(0..NODES.len())];
        let op = if rng.random_bool(0.7) { "super-recover" } else { "recover" };
        ask(&mut process, op, &format!("{RESTLESS}-{node}"), nominal, until).await?;
    }
    Ok(())
}

/// Waits until all trees have come to rest.
pub(super) async fn finish(ctx: &Ctx) -> Result<(), Error> {
    // What waits in vain is at rest, too: only what is ready or running is waited for.
    let trees = TREES.iter().map(|(tree, _)| *tree).chain([RESTLESS]);
    let names: Vec<String> =
        trees.flat_map(|tree| NODES.map(|(node, _)| format!("{tree}-{node}"))).collect();
    finals::await_runs(ctx, &names, PATIENCE).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_rests_when_only_somebody_can_move_it() {
        let states = |all: [&str; 5]| {
            let names = NODES.iter().map(|(node, _)| *node);
            rests(&names.zip(all.map(str::to_owned)).collect())
        };
        assert!(states(["success"; 5]));
        assert!(states(["failed", "waiting", "waiting", "waiting", "waiting"]));
        assert!(states(["success", "failed", "success", "waiting", "waiting"]));
        assert!(states(["skipped"; 5]));
        assert!(!states(["success", "success", "success", "waiting", "waiting"]));
        assert!(!states(["success", "success", "running", "waiting", "waiting"]));
        assert!(!states(["planned", "waiting", "waiting", "waiting", "waiting"]));
    }

    #[test]
    fn every_plan_is_of_a_tree_and_its_jobs() {
        for ((tree, plans), (name, _)) in PLANS.iter().zip(TREES) {
            assert_eq!(*tree, name);
            for (op, node) in plans.iter().flat_map(|plan| plan.iter()) {
                assert!(NODES.iter().any(|(known, _)| known == node), "{node}");
                assert!(known(op).is_some() || ["manual", "debug"].contains(op), "{op}");
            }
        }
        assert_eq!(compact(1_795_255_207_000), "20261121T100007Z");
    }
}
