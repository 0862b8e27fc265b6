//! What a job was meant to do, and when: its definitions in order, from the history
//! of those who changed it.
//!
//! A change takes effect somewhere between its first request and the first answer
//! that says so. Outside these windows there is one definition to judge by.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cron::{Cron, CronError};
use crate::history::{Kind, Op};
use crate::store::Evidence;

/// A trigger as written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trigger {
    /// Its instants.
    pub(crate) cron: Cron,
    /// `fire_all fire_now skip`.
    pub(crate) misfire: String,
}

/// What a job is at a time.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Meant {
    /// False before its creation and after its deletion.
    pub(crate) exists: bool,
    /// It starts nothing.
    pub(crate) paused: bool,
    /// When it fires by itself.
    pub(crate) triggers: Vec<Trigger>,
    /// What it waits for.
    pub(crate) depends_on: Vec<String>,
    /// The definition as sent.
    pub(crate) definition: Value,
}

impl Meant {
    /// True if instants become actions.
    pub(crate) fn fires(&self) -> bool {
        self.exists && !self.paused
    }

    /// Instants in `[from, to]`, ascending, each once.
    pub(crate) fn instants(&self, from: i64, to: i64) -> Vec<i64> {
        let mut all: Vec<i64> =
            self.triggers.iter().flat_map(|trigger| trigger.cron.between(from, to)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// A change of a job.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    /// `apply pause resume delete`.
    pub(crate) f: String,
    /// Wall clock, milliseconds: not before.
    pub(crate) from: i64,
    /// Not after; `i64::MAX` if nobody knows whether it happened.
    pub(crate) to: i64,
    /// What the job is afterwards.
    pub(crate) after: Meant,
}

/// The life of one job.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Life {
    /// In order; their windows do not overlap.
    pub(crate) changes: Vec<Change>,
}

impl Life {
    /// The definition in force at a time, if nobody was changing it just then.
    #[cfg(test)]
    pub(crate) fn at(&self, utc: i64) -> Option<&Meant> {
        let last = self.changes.iter().rev().find(|change| change.from <= utc)?;
        (last.to <= utc).then_some(&last.after)
    }

    /// Every definition that may have been in force at a time.
    pub(crate) fn possible(&self, utc: i64) -> Vec<&Meant> {
        let Some(at) = self.changes.iter().rposition(|change| change.from <= utc) else {
            return Vec::new();
        };
        let mut found = vec![&self.changes[at].after];
        if self.changes[at].to > utc && at > 0 {
            found.push(&self.changes[at - 1].after);
        }
        found
    }
}

/// Why the history cannot be read as changes of jobs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LifeError {
    /// A workload used an expression that the judge does not know.
    #[error("job {job}: the expression cannot be judged")]
    Cron {
        /// Which job.
        job: String,
        /// Why.
        source: CronError,
    },
    /// Two clients changed one job at once: then nobody knows what it was.
    #[error("job {0} was changed twice at once")]
    Twice(String),
}

/// A change and all requests that insisted on it.
struct Insisted<'a> {
    f: &'a str,
    definition: &'a Value,
    from: i64,
    /// The first answer that it was done.
    done: Option<i64>,
    /// A request whose outcome nobody knows.
    open: bool,
}

/// The lives of all jobs that were applied.
///
/// # Errors
/// [`LifeError`]: a fault of the harness.
pub(crate) fn lives(evidence: &Evidence) -> Result<BTreeMap<String, Life>, LifeError> {
    let mut changes: BTreeMap<String, Vec<Insisted<'_>>> = BTreeMap::new();
    let mut by_key: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for op in &evidence.ops {
        let f = op.ask.f.as_str();
        match f {
            "apply" | "pause" | "resume" | "delete" => {
                enter(&mut changes, &mut by_key, op, f, &op.ask.k, &op.ask.v["definition"]);
            }
            "apply-set" => {
                for job in op.ask.v["jobs"].as_array().into_iter().flatten() {
                    let name = job["name"].as_str().unwrap_or_default();
                    enter(&mut changes, &mut by_key, op, "apply", name, job);
                }
            }
            _ => {}
        }
    }
    let mut lives = BTreeMap::new();
    for (job, insisted) in changes {
        lives.insert(job.clone(), life(&job, insisted)?);
    }
    Ok(lives)
}

fn enter<'a>(
    changes: &mut BTreeMap<String, Vec<Insisted<'a>>>,
    by_key: &mut BTreeMap<(&'a str, &'a str), usize>,
    op: &'a Op,
    f: &'a str,
    job: &'a str,
    definition: &'a Value,
) {
    let all = changes.entry(job.to_owned()).or_default();
    let key = op.ask.v["key"].as_str();
    let known = key.and_then(|key| by_key.get(&(job, key)).copied());
    let at = known.unwrap_or_else(|| {
        all.push(Insisted { f, definition, from: op.ask.utc, done: None, open: false });
        if let Some(key) = key {
            by_key.insert((job, key), all.len() - 1);
        }
        all.len() - 1
    });
    let entry = &mut all[at];
    match op.kind() {
        Kind::Ok => entry.done = Some(entry.done.unwrap_or(i64::MAX).min(op.known_utc())),
        Kind::Fail => {}
        Kind::Info | Kind::Invoke => entry.open = true,
    }
}

fn life(job: &str, insisted: Vec<Insisted<'_>>) -> Result<Life, LifeError> {
    let mut life = Life::default();
    let mut now = Meant::default();
    for change in insisted {
        if change.done.is_none() && !change.open {
            continue;
        }
        if life.changes.last().is_some_and(|last| last.to > change.from) {
            return Err(LifeError::Twice(job.to_owned()));
        }
        match change.f {
            "pause" => now.paused = true,
            "resume" => now.paused = false,
            "delete" => now = Meant::default(),
            _ => now = applied(job, &now, change.definition)?,
        }
        life.changes.push(Change {
            f: change.f.to_owned(),
            from: change.from,
            to: change.done.unwrap_or(i64::MAX),
            after: now.clone(),
        });
    }
    Ok(life)
}

fn applied(job: &str, before: &Meant, definition: &Value) -> Result<Meant, LifeError> {
    let wrong = |source| LifeError::Cron { job: job.to_owned(), source };
    let zone = definition["zone"].as_str();
    let mut triggers = Vec::new();
    for trigger in definition["triggers"].as_array().into_iter().flatten() {
        if trigger["enabled"] == false {
            continue;
        }
        let text = trigger["cron"].as_str().unwrap_or_default();
        let zone = trigger["zone"].as_str().or(zone);
        let cron = Cron::parse(text, zone).map_err(wrong)?;
        let misfire = trigger["misfire"].as_str().unwrap_or("fire_all").to_owned();
        triggers.push(Trigger { cron, misfire });
    }
    let names = definition["depends_on"].as_array().into_iter().flatten();
    let depends_on = names.filter_map(Value::as_str).map(str::to_owned).collect();
    let (paused, definition) = (before.paused, definition.clone());
    Ok(Meant { exists: true, paused, triggers, depends_on, definition })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::planted::Planted;
    use super::*;

    #[test]
    fn a_change_lasts_from_its_first_request_to_its_first_answer() {
        let mut planted = Planted::new();
        let job = json!({"definition": {"triggers": [{"cron": "* * * * * ?"}]}, "key": "a"});
        planted.op(1_000, Some(1_100), "apply", "j", job, Kind::Ok, json!({}));
        let pause = json!({"key": "b"});
        planted.op(5_000, Some(5_200), "pause", "j", pause.clone(), Kind::Info, json!(null));
        planted.op(5_300, Some(5_400), "pause", "j", pause, Kind::Ok, json!(null));
        let refused = json!({"key": "c"});
        planted.op(6_000, Some(6_100), "delete", "j", refused, Kind::Fail, json!(null));
        let evidence = planted.evidence();
        let base = planted.base();
        let lives = lives(&evidence).unwrap();
        let windows: Vec<_> =
            lives["j"].changes.iter().map(|c| (c.from - base, c.to - base)).collect();
        assert_eq!(windows, [(1_000, 1_100), (5_000, 5_400)]);
        assert!(lives["j"].at(base + 2_000).unwrap().fires());
        assert!(lives["j"].at(base + 5_100).is_none());
        assert_eq!(lives["j"].possible(base + 5_100).len(), 2);
        assert!(!lives["j"].at(base + 7_000).unwrap().fires());
    }

    #[test]
    fn what_cannot_be_judged_is_said() {
        let mut planted = Planted::new();
        let job = json!({"definition": {"triggers": [{"cron": "0 0 0 L * ?"}]}});
        planted.op(1_000, Some(1_100), "apply", "j", job, Kind::Ok, json!({}));
        assert!(matches!(lives(&planted.evidence()), Err(LifeError::Cron { .. })));
        let mut planted = Planted::new();
        planted.op(1_000, None, "pause", "j", json!({}), Kind::Info, json!(null));
        planted.op(1_500, Some(1_600), "resume", "j", json!({}), Kind::Ok, json!(null));
        assert!(matches!(lives(&planted.evidence()), Err(LifeError::Twice(_))));
    }
}
