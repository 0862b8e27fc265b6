//! Cron fires: jobs with every kind of trigger, from once a second to once a day, whose
//! definitions are edited, paused, resumed and deleted while they fire, alone, with
//! their group or with all others, under calendars that change.
//!
//! One client at a time changes one job, and insists under one idempotency key
//! until it knows the outcome; so every instant outside the time of a change has
//! one definition that it is judged by. Deleted names are not used again.

mod draw;
mod shared;

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use rand::Rng;
use rand_chacha::ChaCha12Rng;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Ctx, Error, Process, page, set_up};
use crate::client::{Outcome, Request};

pub(super) use shared::Change as SharedChange;

/// Jobs at 100 percent; about ten fires a second.
const JOBS: u32 = 26;
/// Of them, so many at the end of the list are changed in the main phase.
const CHANGED: u32 = 8;
/// Clients that change jobs; each has its own.
const EDITORS: u32 = 2;

/// More jobs than these do nothing and are judged by the cluster's record: processes
/// by the hundred would measure this machine.
const WITNESSED: u32 = 48;

/// Jobs that run again so long after their last end; the last one is changed.
const DELAYED: u32 = 4;
/// Jobs that nobody changes, one for each calendar: so each is in use.
const BOUND: usize = draw::CALENDARS.len();

fn job_name(n: u32) -> String {
    format!("cron-{n:03}")
}

fn put<'a>(path: &'a str, definition: &Value) -> Request<'a> {
    Request::new(Method::PUT, path).body(definition.clone())
}

/// How many jobs there are that have no fixed delay.
fn count(ctx: &Ctx) -> u32 {
    (JOBS * ctx.rate / 100).max(CHANGED + 2)
}

fn delay_name(n: u32) -> String {
    format!("delay-{n}")
}

/// Creates the calendars and the jobs.
pub(super) async fn setup(ctx: &Ctx) -> Result<(), Error> {
    let mut rng = ctx.stream("cron-setup");
    shared::setup(ctx, &mut rng).await?;
    let count = count(ctx);
    let mut jobs = Vec::new();
    for n in 0..count {
        let witnessed = n < WITNESSED || n >= count - CHANGED;
        jobs.push(draw::job(ctx, &job_name(n), draw::group(n), witnessed, &mut rng));
    }
    for (n, calendar) in (0..BOUND).zip(draw::CALENDARS) {
        let name = format!("cron-bound-{n}");
        let trigger = json!({"name": "t0", "cron": "0/3 * * * * ?", "calendars": [calendar]});
        let exec = ctx.exec(&[("ms", "0".to_owned())]);
        jobs.push(json!({"name": name, "triggers": [trigger], "exec": exec}));
    }
    for n in 0..DELAYED {
        jobs.push(draw::delayed(ctx, &delay_name(n), draw::group(n), &mut rng));
    }
    for definition in jobs {
        let name = definition["name"].as_str().unwrap_or_default().to_owned();
        let path = format!("jobs/{name}");
        set_up(ctx, ("apply", &name, json!({"definition": definition})), put(&path, &definition))
            .await?;
    }
    Ok(())
}

/// Changes jobs, one by one and many at once.
pub(super) async fn main(ctx: &Ctx, until: Instant) -> Result<(), Error> {
    let edits = try_join_all((0..EDITORS).map(|editor| edit(ctx, editor, until)));
    tokio::try_join!(edits, shared::main(ctx, until)).map(drop)
}

/// A job that an editor changes.
struct Edited {
    name: String,
    group: Option<&'static str>,
    has_delay: bool,
    paused: bool,
    /// Its first trigger is.
    trigger_paused: bool,
}

impl Edited {
    fn new(name: String, group: Option<&'static str>, has_delay: bool) -> Self {
        Self { name, group, has_delay, paused: false, trigger_paused: false }
    }

    fn drawn(&self, ctx: &Ctx, rng: &mut ChaCha12Rng) -> Value {
        if self.has_delay {
            draw::delayed(ctx, &self.name, self.group, rng)
        } else {
            draw::job(ctx, &self.name, self.group, true, rng)
        }
    }
}

async fn edit(ctx: &Ctx, editor: u32, until: Instant) -> Result<(), Error> {
    let mut rng = ctx.stream(&format!("cron-edit-{editor}"));
    let mut process = Process::new(ctx);
    let count = count(ctx);
    let mut jobs: Vec<Edited> = (count - CHANGED..count)
        .filter(|n| n % EDITORS == editor)
        .map(|n| Edited::new(job_name(n), draw::group(n), false))
        .collect();
    if editor == 0 {
        let n = DELAYED - 1;
        jobs.push(Edited::new(delay_name(n), draw::group(n), true));
    }
    let mut created = 0;
    loop {
        tokio::time::sleep(ctx.pause(0.4, &mut rng)).await;
        if Instant::now() >= until || jobs.is_empty() {
            return Ok(());
        }
        let at = rng.random_range(0..jobs.len());
        // Not while something is done to many.
        let _shared = ctx.changes.read().await;
        if Instant::now() >= until {
            return Ok(());
        }
        let job = &mut jobs[at];
        let (name, path) = (job.name.clone(), format!("jobs/{}", job.name));
        let draw = rng.random_range(0..10);
        let outcome = if job.paused && draw < 6 {
            job.paused = false;
            go_on(&mut process, ("resume", &name, &path), None, until, &mut rng).await?
        } else if job.trigger_paused && draw < 6 {
            job.trigger_paused = false;
            let path = format!("{path}/triggers/t0");
            let what = ("resume-trigger", name.as_str(), path.as_str());
            go_on(&mut process, what, Some("t0"), until, &mut rng).await?
        } else if draw < 3 && !job.paused {
            job.paused = true;
            let path = format!("{path}/pause");
            let request = Request::new(Method::POST, &path);
            process.insist(("pause", &name, json!({})), request, until).await?
        } else if draw < 5 && !job.trigger_paused {
            job.trigger_paused = true;
            let path = format!("{path}/triggers/t0/pause");
            let request = Request::new(Method::POST, &path);
            let what = ("pause-trigger", name.as_str(), json!({"trigger": "t0"}));
            process.insist(what, request, until).await?
        } else if draw == 9 && !job.has_delay {
            let request = Request::new(Method::DELETE, &path);
            let outcome = process.insist(("delete", &name, json!({})), request, until).await?;
            let group = jobs.swap_remove(at).group;
            let new = Edited::new(format!("cron-new-{editor}-{created}"), group, false);
            created += 1;
            match apply(ctx, &mut process, &new, until, &mut rng).await? {
                Outcome::Done(_) => jobs.push(new),
                Outcome::Refused(..) | Outcome::Unknown(..) => ctx.abandon(&new.name),
            }
            outcome
        } else {
            apply(ctx, &mut process, job, until, &mut rng).await?
        };
        if !matches!(outcome, Outcome::Done(_)) {
            // Nobody knows how this job stands: it is left alone, and judged so.
            ctx.abandon(&name);
            jobs.retain(|job| job.name != name);
        }
    }
}

async fn apply(
    ctx: &Ctx,
    process: &mut Process<'_>,
    job: &Edited,
    until: Instant,
    rng: &mut ChaCha12Rng,
) -> Result<Outcome, Error> {
    let definition = job.drawn(ctx, rng);
    let path = format!("jobs/{}", job.name);
    let what = ("apply", job.name.as_str(), json!({"definition": definition}));
    process.insist(what, put(&path, &definition), until).await
}

/// Ends a pause of a job or of its trigger.
async fn go_on(
    process: &mut Process<'_>,
    (f, name, path): (&'static str, &str, &str),
    trigger: Option<&str>,
    until: Instant,
    rng: &mut ChaCha12Rng,
) -> Result<Outcome, Error> {
    let path = format!("{path}/resume");
    let missed = if rng.random_bool(0.5) { "misfire" } else { "skip" };
    let request = Request::post(&path, json!({"missed": missed}));
    let what = (f, name, json!({"missed": missed, "trigger": trigger}));
    process.insist(what, request, until).await
}

/// Long enough for an instant of every second to pass after the last change.
const TAIL: Duration = Duration::from_secs(3);
/// How long the cluster may take to answer when it is healed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Resumes what is paused, so that what waits can end, and lets some more instants
/// pass on a healthy cluster.
pub(super) async fn settle(ctx: &Ctx) -> Result<(), Error> {
    let until = Instant::now() + PATIENCE;
    shared::settle(ctx, until).await?;
    let mut process = Process::new(ctx);
    for pause in page(ctx, Request::get("pauses").query("limit", 1000), until).await {
        let (Some(job), Some(trigger)) = (pause["job"].as_str(), pause["trigger"].as_str()) else {
            continue;
        };
        if !ctx.is_abandoned(job) {
            let path = format!("jobs/{job}/triggers/{trigger}/resume");
            let what = ("resume-trigger", job, json!({"trigger": trigger}));
            process.insist(what, Request::new(Method::POST, &path), until).await?;
        }
    }
    let jobs = page(ctx, Request::get("jobs").query("limit", 1000), until).await;
    for job in jobs.iter().filter(|job| job["paused"] == true) {
        let name = job["name"].as_str().unwrap_or_default();
        let is_ours = name.starts_with("cron-") || name.starts_with("delay-");
        if is_ours && !ctx.is_abandoned(name) {
            let path = format!("jobs/{name}/resume");
            let request = Request::new(Method::POST, &path);
            process.insist(("resume", name, json!({})), request, until).await?;
        }
    }
    tokio::time::sleep(TAIL).await;
    Ok(())
}
