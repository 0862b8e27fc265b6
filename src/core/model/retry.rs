//! What an exit code means beyond "0 is success", how waits before retries spread, and
//! on which worker a retry is made.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::run::EndKind;
use crate::ids::RunId;
use crate::time::Span;

/// Rules that a job may add to its count of retries.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RetryRules {
    /// Only these exit codes are tried again, if there are any.
    pub retry_on: Vec<i32>,
    /// These are not.
    pub never_on: Vec<i32>,
    /// These end the action as skipped: the job says that there is nothing to do.
    pub skip_on: Vec<i32>,
    /// Each wait is up to so much longer, by a share that the run's number decides.
    pub jitter: Span,
}

/// On which worker a run is tried again. A wish, not a demand: a retry waits for no
/// worker while another one is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum RetryWorker {
    /// Whichever's turn it is.
    #[default]
    Any,
    /// The one of the try before, while it is attached and has not begun anew.
    Same,
    /// One that has not tried this run yet, as far as its attempts are kept.
    Another,
}

impl RetryWorker {
    /// Each with its word in definitions; the first is the default.
    pub const ALL: [(&'static str, Self); 3] =
        [("any", Self::Any), ("same", Self::Same), ("another", Self::Another)];
}

/// What follows from an attempt that did not succeed and is the job's own affair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// Another try, if there is one left.
    Retry,
    /// The run has failed.
    Fail,
    /// The action is skipped by its job.
    Skip,
}

/// An exit code that cannot stand where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeProblem {
    /// Which list, by its name in a definition.
    pub list: &'static str,
    /// Which code of it.
    pub code: i32,
    /// What is wrong with it.
    pub problem: &'static str,
    /// What to write instead.
    pub remedy: &'static str,
}

impl RetryRules {
    /// The most exit codes of one list.
    pub const MAX_CODES: usize = 64;
    /// The longest jitter.
    pub const MAX_JITTER: Span = Span::secs(86_400);

    /// What an end means. Only an exit code is the job's own word: time-outs and signals
    /// are tried again as ever. So is what its worker could not hold to its limits: another
    /// worker is preferred then.
    #[must_use]
    pub fn judge(&self, end: &EndKind) -> AfterFailure {
        let code = match end {
            EndKind::Exited { code } => code,
            // The same text and values would give the same.
            EndKind::Unrendered { .. } => return AfterFailure::Fail,
            _ => return AfterFailure::Retry,
        };
        if self.skip_on.contains(code) {
            AfterFailure::Skip
        } else if self.never_on.contains(code)
            || (!self.retry_on.is_empty() && !self.retry_on.contains(code))
        {
            AfterFailure::Fail
        } else {
            AfterFailure::Retry
        }
    }

    /// How much longer the wait before a run's retry `number` is: the same on every node.
    #[must_use]
    pub fn jitter_of(&self, run: RunId, number: u32) -> Span {
        let mut seed = [0; 12];
        seed[..8].copy_from_slice(&run.0.to_le_bytes());
        seed[8..].copy_from_slice(&number.to_le_bytes());
        Span(xxh3_64(&seed) % self.jitter.0.saturating_add(1))
    }

    /// The first list in which a code stands that is in another list, too, or is none.
    #[must_use]
    pub fn problem(&self) -> Option<CodeProblem> {
        let lists = [
            ("retry_on", &self.retry_on),
            ("never_on", &self.never_on),
            ("skip_exit_codes", &self.skip_on),
        ];
        for (place, (name, codes)) in lists.iter().enumerate() {
            for code in *codes {
                let wrong = |problem, remedy| {
                    Some(CodeProblem { list: name, code: *code, problem, remedy })
                };
                if !(1..=255).contains(code) {
                    return wrong("no failure has this exit code", "write 1 to 255");
                }
                if lists[..place].iter().any(|(_, others)| others.contains(code)) {
                    return wrong("it stands in another list, too", "name it in one");
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_the_jobs_own_word() {
        let exit = |code| EndKind::Exited { code };
        let rules = RetryRules { never_on: vec![2], skip_on: vec![99], ..RetryRules::default() };
        assert_eq!(rules.judge(&exit(1)), AfterFailure::Retry);
        assert_eq!(rules.judge(&exit(2)), AfterFailure::Fail);
        assert_eq!(rules.judge(&exit(99)), AfterFailure::Skip);
        let only = RetryRules { retry_on: vec![75], ..RetryRules::default() };
        assert_eq!(only.judge(&exit(75)), AfterFailure::Retry);
        assert_eq!(only.judge(&exit(1)), AfterFailure::Fail);
        for end in [EndKind::TimedOut, EndKind::Signaled { signal: 9 }] {
            assert_eq!(only.judge(&end), AfterFailure::Retry);
        }
        assert_eq!(rules.judge(&EndKind::unrendered("no such name")), AfterFailure::Fail);
    }

    #[test]
    fn a_code_stands_in_one_list_and_is_a_failure() {
        let rules = |retry_on: &[i32], never_on: &[i32], skip_on: &[i32]| RetryRules {
            retry_on: retry_on.to_vec(),
            never_on: never_on.to_vec(),
            skip_on: skip_on.to_vec(),
            jitter: Span::ZERO,
        };
        let list = |rules: RetryRules| rules.problem().map(|wrong| (wrong.list, wrong.code));
        assert_eq!(list(rules(&[1], &[2], &[3])), None);
        assert_eq!(list(rules(&[0], &[], &[])), Some(("retry_on", 0)));
        assert_eq!(list(rules(&[], &[256], &[])), Some(("never_on", 256)));
        assert_eq!(list(rules(&[1], &[], &[1])), Some(("skip_exit_codes", 1)));
    }

    #[test]
    fn jitter_is_stable_and_spreads() {
        let rules = RetryRules { jitter: Span(1_000), ..RetryRules::default() };
        let of = |run| rules.jitter_of(RunId(run), 1).0;
        assert!((1..100).all(|run| of(run) <= 1_000 && of(run) == of(run)));
        let mean = (1..1_000).map(of).sum::<u64>() / 999;
        assert!((450..550).contains(&mean), "{mean}");
        assert_eq!(RetryRules::default().jitter_of(RunId(7), 3), Span::ZERO);
    }
}
