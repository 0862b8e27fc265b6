//! What a job was meant to do, and when: its definitions in order, from the history
//! of those who changed it, its group, its calendars or the whole cluster.
//!
//! A change takes effect somewhere between its first request and the first answer
//! that says so. Outside these windows there is one definition to judge by; and a
//! trigger that a change leaves as it was is judged by it within the window, too.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::spans::{Spans, Stand};
use crate::history::{Kind, Op};
use crate::rules::{Rule, RuleError};
use crate::store::Evidence;

/// What a job is at a time.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Meant {
    /// False before its creation and after its deletion.
    pub(crate) exists: bool,
    /// It was paused by itself.
    pub(crate) paused: bool,
    /// A group that it is in is paused.
    pub(crate) in_paused_group: bool,
    /// The whole cluster is.
    pub(crate) frozen: bool,
    /// Triggers that are paused by themselves.
    pub(crate) paused_triggers: BTreeSet<String>,
    /// When it fires by itself.
    pub(crate) triggers: Vec<Rule>,
    /// What it waits for.
    pub(crate) depends_on: Vec<String>,
    /// The definition as sent.
    pub(crate) definition: Value,
}

impl Meant {
    /// True if it starts nothing new because it, a group or a trigger of it is paused.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused || self.in_paused_group || !self.paused_triggers.is_empty()
    }

    /// True if instants become actions.
    #[cfg(test)]
    pub(crate) fn fires(&self) -> bool {
        self.exists && !self.paused && !self.in_paused_group && !self.frozen
    }

    /// How each of its triggers stands.
    fn stands(&self) -> Vec<Stand> {
        let held = self.paused || self.in_paused_group || self.frozen;
        let stand = |rule: &Rule| Stand {
            rule: rule.clone(),
            held: held || self.paused_triggers.contains(&rule.name),
        };
        if self.exists { self.triggers.iter().map(stand).collect() } else { Vec::new() }
    }
}

/// When something happened: not before, and not after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// Wall clock, milliseconds.
    pub(crate) from: i64,
    /// `i64::MAX` if nobody knows whether it happened.
    pub(crate) to: i64,
}

impl Window {
    /// True if it certainly happened.
    pub(crate) fn is_known(self) -> bool {
        self.to < i64::MAX
    }
}

/// A change of a job.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    /// Such as `apply`, `pause`, `freeze` or `calendar`.
    pub(crate) f: String,
    /// When.
    pub(crate) at: Window,
    /// What the job is afterwards.
    pub(crate) after: Meant,
}

/// The life of one job.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Life {
    /// In order; their windows do not overlap while all of them are known.
    pub(crate) changes: Vec<Change>,
    /// When which of its triggers gave instants.
    pub(crate) spans: Spans,
}

impl Life {
    /// The definition in force at a time, if nobody was changing it just then.
    #[cfg(test)]
    pub(crate) fn at(&self, utc: i64) -> Option<&Meant> {
        let last = self.changes.iter().rev().find(|change| change.at.from <= utc)?;
        (last.at.to <= utc).then_some(&last.after)
    }

    /// Every definition that may have been in force at a time.
    pub(crate) fn possible(&self, utc: i64) -> Vec<&Meant> {
        let Some(mut at) = self.changes.iter().rposition(|change| change.at.from <= utc) else {
            return Vec::new();
        };
        let mut found = vec![&self.changes[at].after];
        while self.changes[at].at.to > utc && at > 0 {
            at -= 1;
            found.push(&self.changes[at].after);
        }
        found
    }

    /// True if its triggers wait for the end of their last action.
    pub(crate) fn has_delay(&self) -> bool {
        let mut all = self.changes.iter().flat_map(|change| &change.after.triggers);
        all.any(|rule| rule.delay().is_some())
    }
}

/// Why the history cannot be read as changes of jobs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LifeError {
    /// A workload used a rule that the judge does not know.
    #[error("job {job}: a trigger cannot be judged")]
    Rule {
        /// Which job.
        job: String,
        /// Why.
        source: RuleError,
    },
    /// Two clients changed one job at once: then nobody knows what it was.
    #[error("job {0} was changed twice at once")]
    Twice(String),
}

/// A change and all requests that insisted on it.
struct Insisted<'a> {
    f: &'a str,
    key: &'a str,
    v: &'a Value,
    /// The job's own part of `v`.
    definition: &'a Value,
    from: i64,
    /// The first answer that it was done.
    done: Option<i64>,
    /// A request whose outcome nobody knows.
    open: bool,
}

/// What one change is about.
const OF_JOBS: [&str; 6] =
    ["apply", "pause", "resume", "delete", "pause-trigger", "resume-trigger"];
const SHARED: [&str; 5] = ["pause-group", "resume-group", "freeze", "unfreeze", "calendar"];

/// The lives of all jobs that were applied.
///
/// # Errors
/// [`LifeError`]: a fault of the harness.
pub(crate) fn lives(evidence: &Evidence) -> Result<BTreeMap<String, Life>, LifeError> {
    let mut book = Book::default();
    for insisted in insisted(evidence) {
        if insisted.done.is_some() || insisted.open {
            book.enter(&insisted)?;
        }
    }
    let close = |(job, mut draft): (String, Draft)| {
        draft.life.spans.close();
        (job, draft.life)
    };
    Ok(book.jobs.into_iter().map(close).collect())
}

/// Changes as they are read.
#[derive(Default)]
struct Reading<'a> {
    all: Vec<Insisted<'a>>,
    /// By what is done, to whom, and under which key.
    known: BTreeMap<(&'a str, &'a str, &'a str), usize>,
}

impl<'a> Reading<'a> {
    fn enter(&mut self, op: &'a Op, f: &'a str, key: &'a str, definition: &'a Value) {
        let v = &op.ask.v;
        let id = v["key"].as_str().map(|id| (f, key, id));
        let known = id.and_then(|id| self.known.get(&id).copied());
        let at = known.unwrap_or_else(|| {
            let from = op.ask.utc;
            self.all.push(Insisted { f, key, v, definition, from, done: None, open: false });
            self.all.len() - 1
        });
        if let Some(id) = id {
            self.known.insert(id, at);
        }
        let entry = &mut self.all[at];
        match op.kind() {
            Kind::Ok => entry.done = Some(entry.done.unwrap_or(i64::MAX).min(op.known_utc())),
            Kind::Fail => {}
            Kind::Info | Kind::Invoke => entry.open = true,
        }
    }
}

/// All changes, each with all its requests, in the order in which they began.
fn insisted(evidence: &Evidence) -> Vec<Insisted<'_>> {
    let mut reading = Reading::default();
    for op in &evidence.ops {
        let f = op.ask.f.as_str();
        if OF_JOBS.contains(&f) || SHARED.contains(&f) {
            reading.enter(op, f, &op.ask.k, &op.ask.v["definition"]);
        } else if f == "apply-set" {
            for job in op.ask.v["jobs"].as_array().into_iter().flatten() {
                reading.enter(op, "apply", job["name"].as_str().unwrap_or_default(), job);
            }
        }
    }
    reading.all.sort_by_key(|insisted| insisted.from);
    reading.all
}

#[derive(Default)]
struct Draft {
    life: Life,
    now: Meant,
}

/// Everything that changes have made so far.
#[derive(Default)]
struct Book {
    jobs: BTreeMap<String, Draft>,
    groups: BTreeSet<String>,
    is_frozen: bool,
    calendars: BTreeMap<String, Value>,
}

impl Book {
    fn enter(&mut self, change: &Insisted<'_>) -> Result<(), LifeError> {
        let at = Window { from: change.from, to: change.done.unwrap_or(i64::MAX) };
        let goes_late = change.v["missed"] == "misfire";
        match change.f {
            "pause-group" => drop(self.groups.insert(change.key.to_owned())),
            "resume-group" => drop(self.groups.remove(change.key)),
            "freeze" => self.is_frozen = true,
            "unfreeze" => self.is_frozen = false,
            "calendar" => {
                self.calendars.insert(change.key.to_owned(), change.definition.clone());
            }
            _ => {
                let before = self.jobs.get(change.key).map(|draft| draft.now.clone());
                let after = self.changed(change, before.unwrap_or_default())?;
                return self.put(change.key, change.f, at, after, goes_late);
            }
        }
        for job in self.jobs.keys().cloned().collect::<Vec<_>>() {
            let before = self.jobs[&job].now.clone();
            let after = self.within(&job, before.clone())?;
            if before.exists && before != after {
                self.put(&job, change.f, at, after, goes_late)?;
            }
        }
        Ok(())
    }

    /// A job after a change that is its own.
    fn changed(&self, change: &Insisted<'_>, mut now: Meant) -> Result<Meant, LifeError> {
        let trigger = change.v["trigger"].as_str().unwrap_or_default();
        match change.f {
            "pause" => now.paused = true,
            "resume" => now.paused = false,
            "pause-trigger" => drop(now.paused_triggers.insert(trigger.to_owned())),
            "resume-trigger" => drop(now.paused_triggers.remove(trigger)),
            "delete" => return Ok(Meant::default()),
            _ => {
                now.exists = true;
                now.definition = change.definition.clone();
                let names = now.definition["depends_on"].as_array().into_iter().flatten();
                let name = |edge: &Value| edge.as_str().or(edge["job"].as_str()).map(str::to_owned);
                now.depends_on = names.filter_map(name).collect();
            }
        }
        self.within(change.key, now)
    }

    /// A job among the groups and calendars that there are.
    fn within(&self, job: &str, mut now: Meant) -> Result<Meant, LifeError> {
        let group = format!("{}/", now.definition["group"].as_str().unwrap_or_default());
        now.in_paused_group = self.groups.iter().any(|path| group.starts_with(&format!("{path}/")));
        now.frozen = self.is_frozen;
        let zone = now.definition["zone"].as_str();
        let triggers = now.definition["triggers"].as_array().into_iter().flatten();
        now.triggers = triggers
            .filter(|trigger| trigger["enabled"] != false)
            .map(|trigger| Rule::read(trigger, zone, &self.calendars))
            .collect::<Result<_, _>>()
            .map_err(|source| LifeError::Rule { job: job.to_owned(), source })?;
        let names: BTreeSet<&String> = now.triggers.iter().map(|rule| &rule.name).collect();
        now.paused_triggers.retain(|name| names.contains(name));
        Ok(now)
    }

    fn put(
        &mut self,
        job: &str,
        f: &str,
        mut at: Window,
        after: Meant,
        goes_late: bool,
    ) -> Result<(), LifeError> {
        let draft = self.jobs.entry(job.to_owned()).or_default();
        if let Some(last) = draft.life.changes.last().filter(|last| last.at.to > at.from) {
            // Nobody knows how a job stands that was left alone; what is done to all is
            // done to it, too.
            if last.at.is_known() || OF_JOBS.contains(&f) {
                return Err(LifeError::Twice(job.to_owned()));
            }
            at.to = i64::MAX;
        }
        draft.life.spans.change(at, &after.stands(), goes_late);
        draft.now = after.clone();
        draft.life.changes.push(Change { f: f.to_owned(), at, after });
        Ok(())
    }
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
            lives["j"].changes.iter().map(|c| (c.at.from - base, c.at.to - base)).collect();
        assert_eq!(windows, [(1_000, 1_100), (5_000, 5_400)]);
        assert!(lives["j"].at(base + 2_000).unwrap().fires());
        assert!(lives["j"].at(base + 5_100).is_none());
        assert_eq!(lives["j"].possible(base + 5_100).len(), 2);
        assert!(!lives["j"].at(base + 7_000).unwrap().fires());
    }

    #[test]
    fn what_is_done_to_many_is_done_to_each() {
        let mut planted = Planted::new();
        let mut op = |at: i64, f: &str, k: &str, v: Value| {
            planted.op(at, Some(at + 10), f, k, v, Kind::Ok, json!(null));
        };
        let job = |group: &str| {
            json!({"definition": {"group": group,
                "triggers": [{"cron": "* * * * * ?", "calendars": ["c"]}]}})
        };
        op(100, "calendar", "c", json!({"definition": {"weekly": "SUN"}}));
        op(200, "apply", "in", job("etl/nightly"));
        op(300, "apply", "beside", job("etl-2"));
        op(1_000, "pause-group", "etl", json!({"key": "p"}));
        op(2_000, "apply", "later", job("etl"));
        op(3_000, "freeze", "", json!({"key": "f"}));
        op(4_000, "resume-group", "etl", json!({"key": "r"}));
        op(5_000, "unfreeze", "", json!({"key": "u"}));
        op(6_000, "calendar", "c", json!({"definition": {"weekly": "MON"}}));
        let lives = lives(&planted.evidence()).unwrap();
        let base = planted.base();
        let fires = |job: &str, at: i64| lives[job].at(base + at).unwrap().fires();
        assert!(!fires("in", 1_500) && fires("beside", 1_500) && !fires("later", 2_500));
        assert!(!fires("in", 3_500) && !fires("beside", 3_500) && !fires("in", 4_500));
        assert!(fires("in", 5_500) && fires("later", 5_500));
        assert_eq!(lives["in"].changes.len(), 6);
        assert_eq!(lives["beside"].changes.len(), 4);
    }

    #[test]
    fn what_cannot_be_judged_is_said() {
        let mut planted = Planted::new();
        let job = json!({"definition": {"triggers": [{"cron": "0 0 0 L * ?"}]}});
        planted.op(1_000, Some(1_100), "apply", "j", job, Kind::Ok, json!({}));
        assert!(matches!(lives(&planted.evidence()), Err(LifeError::Rule { .. })));
        let mut planted = Planted::new();
        planted.op(1_000, None, "pause", "j", json!({}), Kind::Info, json!(null));
        planted.op(1_500, Some(1_600), "resume", "j", json!({}), Kind::Ok, json!(null));
        assert!(matches!(lives(&planted.evidence()), Err(LifeError::Twice(_))));
    }

    #[test]
    fn a_job_that_was_left_alone_hears_of_what_is_done_to_all() {
        let mut planted = Planted::new();
        let job = json!({"definition": {"triggers": [{"cron": "* * * * * ?"}]}});
        planted.op(1_000, Some(1_100), "apply", "j", job, Kind::Ok, json!({}));
        planted.op(2_000, None, "pause", "j", json!({"key": "p"}), Kind::Info, json!(null));
        planted.op(3_000, Some(3_010), "freeze", "", json!({"key": "f"}), Kind::Ok, json!(null));
        let lives = lives(&planted.evidence()).unwrap();
        assert_eq!(lives["j"].changes.len(), 3);
        assert!(!lives["j"].changes[2].at.is_known());
    }
}
