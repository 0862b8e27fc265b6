//! Cron fires: jobs from once a second to once a minute, whose definitions are
//! edited, paused, resumed and deleted while they fire.
//!
//! One client at a time changes one job, and insists under one idempotency key
//! until it knows the outcome; so every instant outside the time of a change has
//! one definition that it is judged by. Deleted names are not used again.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha12Rng;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Ctx, Error, Process, page, set_up};
use crate::client::{Outcome, Request};

/// Jobs at 100 percent; about ten fires a second.
const JOBS: u32 = 18;
/// Of them, so many at the end of the list are changed in the main phase.
const CHANGED: u32 = 8;
/// Clients that change jobs; each has its own.
const EDITORS: u32 = 2;

/// More jobs than these do nothing and are judged by the cluster's record: processes
/// by the hundred would measure this machine.
const WITNESSED: u32 = 48;

/// Expressions, the frequent ones more often.
const CRONS: [&str; 8] = [
    "* * * * * ?",
    "* * * * * ?",
    "0/2 * * * * ?",
    "1/2 * * * * ?",
    "0/5 * * * * ?",
    "3/10 * * * * ?",
    "0,7,31 * * * * ?",
    "30 * * * * ?",
];
const ZONES: [Option<&str>; 4] =
    [None, Some("Europe/Berlin"), Some("Asia/Kolkata"), Some("America/New_York")];
/// How long a job runs, in milliseconds; the longest is longer than many intervals.
const LIVES: [u64; 5] = [0, 0, 0, 300, 2_500];

fn job_name(n: u32) -> String {
    format!("cron-{n:03}")
}

fn definition(ctx: &Ctx, name: &str, witnessed: bool, rng: &mut ChaCha12Rng) -> Value {
    let pick = |rng: &mut ChaCha12Rng, from: &[&'static str]| {
        from.choose(rng).copied().unwrap_or("* * * * * ?")
    };
    let ms = LIVES.choose(rng).copied().unwrap_or(0);
    let options = [("ms", ms.to_string()), ("tick", "100".to_owned())];
    let mut triggers = vec![json!({"cron": pick(rng, &CRONS)})];
    if rng.random_bool(0.2) {
        // Two on one instant make one action.
        triggers.push(json!({"cron": pick(rng, &CRONS), "name": "second"}));
    }
    let mut job = json!({
        "name": name,
        "triggers": triggers,
        "on_worker_lost": "rerun",
    });
    if witnessed {
        job["exec"] = ctx.exec(&options);
    } else {
        job["noop"] = json!(true);
    }
    if rng.random_bool(0.3) {
        // The shortest there is: a lost worker is noticed within a test.
        job["lease"] = json!("10s");
    }
    if let Some(zone) = ZONES.choose(rng).copied().flatten() {
        job["zone"] = json!(zone);
    }
    job
}

fn put<'a>(path: &'a str, definition: &Value) -> Request<'a> {
    Request::new(Method::PUT, path).body(definition.clone())
}

/// Creates the jobs.
pub(super) async fn setup(ctx: &Ctx) -> Result<(), Error> {
    let count = (JOBS * ctx.rate / 100).max(CHANGED + 2);
    let mut rng = ctx.stream("cron-setup");
    for n in 0..count {
        let name = job_name(n);
        let witnessed = n < WITNESSED || n >= count - CHANGED;
        let definition = definition(ctx, &name, witnessed, &mut rng);
        let path = format!("jobs/{name}");
        set_up(ctx, ("apply", &name, json!({"definition": definition})), put(&path, &definition))
            .await?;
    }
    Ok(())
}

/// Changes jobs.
pub(super) async fn main(ctx: &Ctx, until: Instant) -> Result<(), Error> {
    try_join_all((0..EDITORS).map(|editor| edit(ctx, editor, until))).await.map(drop)
}

/// A job that an editor changes.
struct Edited {
    name: String,
    paused: bool,
}

async fn edit(ctx: &Ctx, editor: u32, until: Instant) -> Result<(), Error> {
    let mut rng = ctx.stream(&format!("cron-edit-{editor}"));
    let mut process = Process::new(ctx);
    let count = (JOBS * ctx.rate / 100).max(CHANGED + 2);
    let mut jobs: Vec<Edited> = (count - CHANGED..count)
        .filter(|n| n % EDITORS == editor)
        .map(|n| Edited { name: job_name(n), paused: false })
        .collect();
    let mut created = 0;
    loop {
        tokio::time::sleep(ctx.pause(0.4, &mut rng)).await;
        if Instant::now() >= until || jobs.is_empty() {
            return Ok(());
        }
        let at = rng.random_range(0..jobs.len());
        let job = &mut jobs[at];
        let path = format!("jobs/{}", job.name);
        let draw = rng.random_range(0..10);
        let outcome = if job.paused && draw < 6 {
            job.paused = false;
            let path = format!("{path}/resume");
            let request = Request::new(Method::POST, &path);
            process.insist(("resume", &job.name, json!({})), request, until).await?
        } else if draw < 3 && !job.paused {
            job.paused = true;
            let path = format!("{path}/pause");
            let request = Request::new(Method::POST, &path);
            process.insist(("pause", &job.name, json!({})), request, until).await?
        } else if draw == 9 {
            let request = Request::new(Method::DELETE, &path);
            let outcome = process.insist(("delete", &job.name, json!({})), request, until).await?;
            jobs.swap_remove(at);
            let name = format!("cron-new-{editor}-{created}");
            created += 1;
            let definition = definition(ctx, &name, true, &mut rng);
            let path = format!("jobs/{name}");
            let what = ("apply", name.as_str(), json!({"definition": definition}));
            match process.insist(what, put(&path, &definition), until).await? {
                Outcome::Done(_) => jobs.push(Edited { name, paused: false }),
                Outcome::Refused(..) | Outcome::Unknown(..) => ctx.abandon(&name),
            }
            outcome
        } else {
            let definition = definition(ctx, &job.name, true, &mut rng);
            let what = ("apply", job.name.as_str(), json!({"definition": definition}));
            process.insist(what, put(&path, &definition), until).await?
        };
        if !matches!(outcome, Outcome::Done(_)) {
            // Nobody knows how this job stands: it is left alone, and judged so.
            let name = path.trim_start_matches("jobs/").to_owned();
            ctx.abandon(&name);
            jobs.retain(|job| job.name != name);
        }
    }
}

/// Long enough for an instant of every second to pass after the last change.
const TAIL: Duration = Duration::from_secs(3);
/// How long the cluster may take to answer when it is healed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Resumes what is paused, so that what waits can end, and lets some more instants
/// pass on a healthy cluster.
pub(super) async fn settle(ctx: &Ctx) -> Result<(), Error> {
    let until = Instant::now() + PATIENCE;
    let mut process = Process::new(ctx);
    let query = Request::get("jobs").query("limit", 1000).query("after", "cron-");
    let jobs = page(ctx, query, until).await;
    for job in jobs.iter().filter(|job| job["paused"] == true) {
        let name = job["name"].as_str().unwrap_or_default();
        if name.starts_with("cron-") && !ctx.is_abandoned(name) {
            let path = format!("jobs/{name}/resume");
            let request = Request::new(Method::POST, &path);
            process.insist(("resume", name, json!({})), request, until).await?;
        }
    }
    tokio::time::sleep(TAIL).await;
    Ok(())
}
