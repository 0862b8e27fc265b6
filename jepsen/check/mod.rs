//! Judgement: pure functions from evidence to findings.
//!
//! Four verdicts that are never mixed. *invalid*: a promise was broken, and the
//! finding names it. *harness-failure*: the evidence itself is damaged, so that
//! nothing it says can be trusted. *unknown*: nothing is wrong, but too little was
//! done to say that all is well. *valid*: none of these.

pub(crate) mod attempts;
mod backfills;
pub(crate) mod calendars;
pub(crate) mod claims;
pub(crate) mod coverage;
mod deadlines;
mod delays;
mod duty;
pub(crate) mod effects;
mod ends;
pub(crate) mod finals;
pub(crate) mod fires;
#[cfg(test)]
mod fires_tests;
pub(crate) mod graph;
mod guard;
mod healed;
pub(crate) mod linear;
pub(crate) mod locks;
mod logs;
pub(crate) mod matching;
pub(crate) mod misfires;
pub(crate) mod output;
mod overlap;
pub(crate) mod policy;
mod pools;
pub(crate) mod raft;
mod ran;
pub(crate) mod records;
mod recover;
pub(crate) mod recovery;
mod retries;
pub(crate) mod set_full;
pub(crate) mod spans;
pub(crate) mod stuck;
pub(crate) mod timeline;
pub(crate) mod triggers;

#[cfg(test)]
pub(crate) mod planted;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::chain;
use crate::store::{DUTY, Evidence};

/// The most findings of one checker that are written down; all are counted.
const MOST_FINDINGS: usize = 100;

/// What is said of a test, from bad to good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// The evidence is damaged, or there is none.
    #[default]
    HarnessFailure,
    /// A promise was broken.
    Invalid,
    /// Too little was seen.
    Unknown,
    /// Everything that was promised was kept.
    Valid,
}

impl Verdict {
    /// The exit code of the process.
    pub(crate) fn exit(self) -> u8 {
        match self {
            Self::Valid => 0,
            Self::Invalid => 1,
            Self::Unknown => 3,
            Self::HarnessFailure => 4,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::HarnessFailure => "harness-failure",
            Self::Invalid => "invalid",
            Self::Unknown => "unknown",
            Self::Valid => "valid",
        })
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    /// Which kind, such as `missed`.
    pub(crate) what: String,
    /// Of whom: a job, a run, a lock.
    pub(crate) key: String,
    /// In words.
    pub(crate) detail: String,
    /// When, in monotonic nanoseconds; 0 if that makes no sense.
    pub(crate) t: u64,
}

/// What one checker says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Checked {
    /// Its name.
    pub(crate) name: String,
    /// What it checks, in a sentence.
    pub(crate) promise: String,
    /// What it says.
    pub(crate) verdict: Verdict,
    /// What was counted.
    pub(crate) counts: BTreeMap<String, i64>,
    /// What is wrong; the first ones.
    pub(crate) findings: Vec<Finding>,
    /// How many things are wrong.
    pub(crate) wrong: usize,
    /// Why it is unknown or failed.
    pub(crate) reason: String,
}

impl Checked {
    /// Nothing wrong so far.
    pub(crate) fn new(name: &str, promise: &str) -> Self {
        Self {
            name: name.to_owned(),
            promise: promise.to_owned(),
            verdict: Verdict::Valid,
            counts: BTreeMap::new(),
            findings: Vec::new(),
            wrong: 0,
            reason: String::new(),
        }
    }

    /// A promise was broken.
    pub(crate) fn wrong(&mut self, what: &str, key: impl fmt::Display, detail: String, t: u64) {
        self.worsen(Verdict::Invalid);
        self.count(what, 1);
        self.wrong += 1;
        if self.findings.len() < MOST_FINDINGS {
            let (what, key) = (what.to_owned(), key.to_string());
            self.findings.push(Finding { what, key, detail, t });
        }
    }

    /// Something was not done, or not often enough.
    pub(crate) fn unknown(&mut self, reason: impl Into<String>) {
        self.worsen(Verdict::Unknown);
        self.say(reason.into());
    }

    /// The evidence is damaged.
    pub(crate) fn damaged(&mut self, reason: impl Into<String>) {
        self.worsen(Verdict::HarnessFailure);
        self.say(reason.into());
    }

    /// What could be read of the evidence; nothing if that is damaged.
    pub(crate) fn taken<T, E>(&mut self, read: Result<T, E>) -> Option<T>
    where
        E: std::error::Error,
    {
        read.map_err(|error| self.damaged(chain(&error))).ok()
    }

    /// Counts something. What is too large to be counted is as much as can be.
    pub(crate) fn count(&mut self, what: &str, by: impl TryInto<i64>) {
        let sum = self.counts.entry(what.to_owned()).or_default();
        *sum = sum.saturating_add(by.try_into().unwrap_or(i64::MAX));
    }

    /// How many of that were counted.
    pub(crate) fn counted(&self, what: &str) -> i64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    fn worsen(&mut self, to: Verdict) {
        self.verdict = self.verdict.min(to);
    }

    fn say(&mut self, reason: String) {
        // Enough to see what is wrong; not all of what may be thousands of lines.
        if self.reason.len() < 2_000 {
            if !self.reason.is_empty() {
                self.reason.push_str("; ");
            }
            self.reason.push_str(&reason);
        }
    }
}

/// What is said of a whole test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    /// The worst of all checkers.
    pub(crate) verdict: Verdict,
    /// In a fixed order.
    pub(crate) checkers: Vec<Checked>,
}

impl Results {
    fn of(checkers: Vec<Checked>) -> Self {
        let verdict = checkers.iter().map(|checked| checked.verdict).min();
        Self { verdict: verdict.unwrap_or(Verdict::Unknown), checkers }
    }

    /// The last line of a test: the verdict and what it rests on.
    pub(crate) fn line(&self) -> String {
        let bad: Vec<String> = (self.checkers.iter())
            .filter(|checked| checked.verdict != Verdict::Valid)
            .map(|checked| match checked.verdict {
                Verdict::Invalid => format!("{}: {} wrong", checked.name, checked.wrong),
                _ => format!("{}: {}", checked.name, checked.reason),
            })
            .collect();
        let told = if bad.is_empty() {
            format!("{} checkers", self.checkers.len())
        } else {
            bad.join(", ")
        };
        format!("verdict: {} ({told})", self.verdict)
    }
}

/// All checkers that the test's workloads give something to do.
pub(crate) fn all(evidence: &Evidence) -> Results {
    let records = records::Records::of(evidence);
    let mut checkers = vec![coverage::check(evidence), effects::check(evidence)];
    let fires = fires::Fires::of(evidence, &records);
    checkers.push(fires.check(evidence));
    checkers.push(attempts::check(evidence, &records));
    if evidence.ran("cron-fires") {
        checkers.push(misfires::check(evidence, &records, &fires));
        checkers.push(delays::check(evidence, &records));
        checkers.push(calendars::check(evidence));
    }
    if evidence.ran("set") {
        checkers.push(set_full::check(evidence));
    }
    if evidence.ran("lock") {
        checkers.push(locks::check(evidence));
    }
    if evidence.ran("register") {
        checkers.push(linear::check(evidence));
    }
    if evidence.ran("dag") {
        checkers.push(graph::check(evidence, &records));
    }
    if evidence.ran("retries") {
        checkers.push(retries::check(evidence, &records));
    }
    if evidence.ran("overlap") {
        checkers.push(overlap::check(evidence, &records, &fires));
    }
    if evidence.ran("pools") {
        checkers.push(pools::check(evidence, &records));
    }
    if evidence.ran("recover") {
        checkers.push(recover::check(evidence, &records));
    }
    if evidence.ran("backfill") {
        checkers.push(backfills::check(evidence, &records));
    }
    if evidence.ran("cancel") {
        checkers.push(policy::cancels(evidence, &records));
    }
    if evidence.ran("logs") {
        checkers.push(logs::check(evidence, &records));
    }
    if ["cancel", "limits", "logs", "overlap", "pools", "recover"].iter().any(|w| evidence.ran(w)) {
        checkers.push(triggers::check(evidence, &records));
    }
    if evidence.has_fault(DUTY) {
        checkers.push(duty::check(evidence, &records));
    }
    checkers.push(ends::check(evidence, &records));
    checkers.push(output::answers(evidence));
    checkers.push(recovery::check(evidence, &fires));
    checkers.push(raft::check(evidence));
    checkers.push(stuck::check(evidence, &records));
    checkers.push(finals::check(evidence));
    let judges = guard::check(evidence, &mut checkers);
    checkers.push(judges);
    Results::of(checkers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_verdict_wins_and_none_is_hidden() {
        let mut bad = Checked::new("fires", "");
        bad.wrong("missed", "j", "x".to_owned(), 0);
        bad.unknown("little");
        assert_eq!(bad.verdict, Verdict::Invalid);
        let mut few = Checked::new("coverage", "");
        few.unknown("no partition");
        let good = Checked::new("set", "");
        assert_eq!(Results::of(vec![good.clone()]).verdict, Verdict::Valid);
        assert_eq!(Results::of(vec![good.clone(), few.clone()]).verdict, Verdict::Unknown);
        let all = Results::of(vec![good.clone(), few, bad.clone()]);
        assert_eq!(all.verdict, Verdict::Invalid);
        assert_eq!(all.line(), "verdict: invalid (coverage: no partition, fires: 1 wrong)");
        bad.damaged("torn");
        assert_eq!(Results::of(vec![good, bad]).verdict, Verdict::HarnessFailure);
        assert_eq!(Results::of(Vec::new()).verdict, Verdict::Unknown);
    }
}
