//! Runs as their own lines tell: what each of a workload's runs lived for, and on which
//! workers. For checkers that compare runs with one another.
//!
//! A run lived at least from its first line to its last one, waits between its attempts
//! included. That is less than its life, so that two that meet did meet.

use std::collections::BTreeMap;

use super::attempts::lived;
use super::records::number_of;
use crate::store::Evidence;

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Try {
    /// Where.
    pub(crate) worker: String,
    /// Monotonic time of its first line.
    pub(crate) start: u64,
    /// Monotonic time of its last line.
    pub(crate) last: u64,
    /// What it was about to exit with.
    pub(crate) exit: Option<i32>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ran {
    /// `r-17`.
    pub(crate) run: String,
    /// 17: runs are numbered in the order in which they are made.
    pub(crate) number: u64,
    /// Whose.
    pub(crate) job: String,
    /// The instant it stands for, milliseconds.
    pub(crate) nominal: i64,
    /// False for a run that stands for no instant of a plan.
    pub(crate) has_action: bool,
    /// Monotonic time of its first line.
    pub(crate) start: u64,
    /// Monotonic time of its last line.
    pub(crate) last: u64,
    /// Its attempts in order.
    pub(crate) tries: Vec<Try>,
}

impl Ran {
    /// When it said that it ended well, if it did.
    pub(crate) fn success(&self) -> Option<u64> {
        self.tries.iter().find(|one| one.exit == Some(0)).map(|one| one.last)
    }

    /// True if it was seen to live when something else began, and could have been ended.
    pub(crate) fn lives_at(&self, evidence: &Evidence, at: u64) -> bool {
        self.start < at && at <= self.last && !self.outlived(evidence, at)
    }

    /// True if its worker was frozen with all that ends attempts: then only a resource
    /// that checks tokens is safe, as documented.
    pub(crate) fn outlived(&self, evidence: &Evidence, at: u64) -> bool {
        let is_it =
            |one: &Try| one.last >= at && evidence.outlived_lease(&one.worker, one.start, one.last);
        self.tries.iter().any(is_it)
    }
}

/// Runs of jobs whose names begin so, in the order in which they began.
pub(crate) fn ran(evidence: &Evidence, prefix: &str) -> Vec<Ran> {
    let mut of: BTreeMap<&str, (&str, i64, bool)> = BTreeMap::new();
    for line in evidence.witness.iter().filter(|line| line.job.starts_with(prefix)) {
        let nominal = line.nominal_ms().unwrap_or(i64::MIN);
        of.entry(&line.run).or_insert((&line.job, nominal, !line.action.is_empty()));
    }
    let mut all = Vec::new();
    for ((run, _), attempts) in lived(&evidence.witness) {
        let Some((job, nominal, has_action)) = of.get(run.as_str()) else { continue };
        let tries: Vec<Try> = (attempts.into_values())
            .map(|a| Try { worker: a.worker, start: a.start, last: a.last, exit: a.exit })
            .collect();
        let start = tries.iter().map(|one| one.start).min().unwrap_or(0);
        let last = tries.iter().map(|one| one.last).max().unwrap_or(0);
        let (number, job, nominal) = (number_of(&run), (*job).to_owned(), *nominal);
        let has_action = *has_action;
        all.push(Ran { run, number, job, nominal, has_action, start, last, tries });
    }
    all.sort_by_key(|ran| (ran.start, ran.number));
    all
}
