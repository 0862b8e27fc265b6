//! Changes that are about many jobs at once: pauses of groups and of the cluster, and
//! calendars.
//!
//! While one is under way no job is changed by itself, and the other way round, so that
//! each change has one time for every job. What nobody knows the outcome of is insisted
//! on when the cluster is healed, under the same key.

use std::time::Instant;

use rand::Rng;
use rand_chacha::ChaCha12Rng;
use reqwest::Method;
use serde_json::{Value, json};

use super::super::{Ctx, Error, Process, page, set_up};
use super::draw;
use crate::client::{Outcome, Request};

/// At higher rates, in percent, nothing pauses many jobs at once: of what a pause held,
/// or what is made up for, 200 start in a second, which would take longer than a start
/// may be late.
const MOST_HELD: u32 = 300;

/// A change of many jobs.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    f: &'static str,
    k: String,
    v: Value,
    method: Method,
    path: String,
    body: Option<Value>,
    key: String,
}

impl Change {
    fn of(ctx: &Ctx, (f, k, v): (&'static str, &str, Value), method: Method, path: &str) -> Self {
        let key = format!("{f}-{}-{}", k.replace('/', "."), ctx.writer.process());
        let (k, path) = (k.to_owned(), path.to_owned());
        Self { f, k, v, method, path, body: None, key }
    }

    fn with(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    fn calendar(ctx: &Ctx, definition: Value) -> Self {
        let name = definition["name"].as_str().unwrap_or_default().to_owned();
        let v = json!({"definition": definition});
        let change =
            Self::of(ctx, ("calendar", &name, v), Method::PUT, &format!("calendars/{name}"));
        change.with(definition)
    }

    /// Pauses a group, or the cluster.
    fn hold(ctx: &Ctx, group: Option<&str>) -> Self {
        match group {
            None => Self::of(ctx, ("freeze", "", json!({})), Method::POST, "cluster/freeze"),
            Some(group) => {
                let path = format!("groups/{}/pause", group.replace('/', "%2F"));
                Self::of(ctx, ("pause-group", group, json!({})), Method::POST, &path)
            }
        }
    }

    fn go_on(ctx: &Ctx, group: Option<&str>, missed: &str) -> Self {
        let body = json!({"missed": missed});
        let change = match group {
            None => {
                let what = ("unfreeze", "", body.clone());
                Self::of(ctx, what, Method::POST, "cluster/unfreeze")
            }
            Some(group) => {
                let path = format!("groups/{}/resume", group.replace('/', "%2F"));
                Self::of(ctx, ("resume-group", group, body.clone()), Method::POST, &path)
            }
        };
        change.with(body)
    }

    /// Asks until the outcome is known or the time is over; then it is left for later.
    async fn insist(self, ctx: &Ctx, until: Instant) -> Result<bool, Error> {
        let _alone = ctx.changes.write().await;
        if Instant::now() >= until {
            return Ok(false);
        }
        let mut request = Request::new(self.method.clone(), &self.path);
        if let Some(body) = &self.body {
            request = request.body(body.clone());
        }
        let what = (self.f, self.k.as_str(), self.v.clone());
        let outcome = Process::new(ctx).insist_as(what, &self.key, request, until).await?;
        let is_known = match &outcome {
            Outcome::Done(_) => true,
            Outcome::Refused(answer, _) => answer.is_some(),
            Outcome::Unknown(..) => false,
        };
        if !is_known {
            ctx.leave_unsettled(self);
        }
        Ok(is_known)
    }
}

/// Creates the calendars.
pub(super) async fn setup(ctx: &Ctx, rng: &mut ChaCha12Rng) -> Result<(), Error> {
    for name in draw::CALENDARS {
        let definition = draw::calendar(name, rng);
        let path = format!("calendars/{name}");
        let request = Request::new(Method::PUT, &path).body(definition.clone());
        set_up(ctx, ("calendar", name, json!({"definition": definition})), request).await?;
    }
    Ok(())
}

/// Pauses and resumes, changes calendars, and tries to delete them.
pub(super) async fn main(ctx: &Ctx, until: Instant) -> Result<(), Error> {
    let mut rng = ctx.stream("cron-shared");
    let mut created = 0;
    loop {
        tokio::time::sleep(Ctx::seldom(0.25, &mut rng)).await;
        if Instant::now() >= until {
            return Ok(());
        }
        match rng.random_range(0..10) {
            0..6 if ctx.rate <= MOST_HELD => {
                let group = match rng.random_range(0..3) {
                    0 if ctx.may_freeze => None,
                    1 => Some("etl/nightly"),
                    _ => Some("etl"),
                };
                pause(ctx, group, until, &mut rng).await?;
            }
            0..9 => {
                let name = draw::CALENDARS[rng.random_range(0..draw::CALENDARS.len())];
                let definition = draw::calendar(name, &mut rng);
                Change::calendar(ctx, definition).insist(ctx, until).await?;
            }
            _ => {
                delete(ctx, draw::CALENDARS[rng.random_range(0..2)], true, until).await?;
                let name = format!("cal-new-{created}");
                created += 1;
                let mut definition = draw::calendar("cal-days", &mut rng);
                definition["name"] = json!(name);
                if Change::calendar(ctx, definition).insist(ctx, until).await? {
                    delete(ctx, &name, false, until).await?;
                }
            }
        }
    }
}

async fn pause(
    ctx: &Ctx,
    group: Option<&'static str>,
    until: Instant,
    rng: &mut ChaCha12Rng,
) -> Result<(), Error> {
    if !Change::hold(ctx, group).insist(ctx, until).await? {
        return Ok(());
    }
    tokio::time::sleep(draw::pause(rng)).await;
    let missed = if rng.random_bool(0.5) { "misfire" } else { "skip" };
    Change::go_on(ctx, group, missed).insist(ctx, until).await.map(drop)
}

async fn delete(ctx: &Ctx, name: &str, used: bool, until: Instant) -> Result<(), Error> {
    let path = format!("calendars/{name}");
    let request = Request::new(Method::DELETE, &path);
    let what = ("calendar-delete", name, json!({"used": used}));
    Process::new(ctx).insist(what, request, until).await.map(drop)
}

/// What is not known yet is found out, and what is paused goes on.
pub(super) async fn settle(ctx: &Ctx, until: Instant) -> Result<(), Error> {
    for change in ctx.unsettled() {
        change.insist(ctx, until).await?;
    }
    for pause in page(ctx, Request::get("pauses").query("limit", 1000), until).await {
        let change = match (pause["what"].as_str(), pause["group"].as_str()) {
            (Some("cluster"), _) => Change::go_on(ctx, None, "skip"),
            (Some("group"), Some(group)) => Change::go_on(ctx, Some(group), "skip"),
            _ => continue,
        };
        change.insist(ctx, until).await?;
    }
    Ok(())
}
