//! Dependencies: which job's actions an action waits for, and in what period.
//!
//! Plain data, as people write it. What an edge finds is computed by
//! [`crate::derivation`]; nothing here knows instants. Fields and variants are
//! only ever appended.

use serde::{Deserialize, Serialize};

use super::action::ActionState;
use super::job::JobSpec;
use super::stored::extended;
use crate::ids::JobId;

/// "Wait for that job's actions": which ones, `matching` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeSpec {
    /// The upstream job. A number, so that renames do not break edges.
    pub job: JobId,
    /// Which of its actions.
    pub matching: Matching,
    /// True if the dependant has one action for each action of this job.
    pub base: bool,
    /// What becomes of an action for which there is none; the rule's own way
    /// where nothing is said.
    pub on_no_match: Option<OnNoMatch>,
    /// How that job's action must end.
    pub condition: Condition,
    /// True if it must only be over, however it ends, and need not be at all.
    pub soft: bool,
}

extended! {
    EdgeSpec (JobId)
    [job]
    [1 matching 2 base 3 on_no_match 4 condition 5 soft]
}

impl EdgeSpec {
    /// In a definition that is written: the job itself, which may have no number yet.
    pub const OWN: JobId = JobId(0);

    /// An edge of which nothing is said but its job.
    #[must_use]
    pub fn new(job: JobId) -> Self {
        Self {
            job,
            matching: Matching::default(),
            base: false,
            on_no_match: None,
            condition: Condition::default(),
            soft: false,
        }
    }

    /// True if an action needs exactly one upstream action of its own period: only such
    /// an edge may be chosen as the base, and without a match there is no action.
    #[must_use]
    pub fn needs_one(&self) -> bool {
        self.matching.needs_one() && !self.soft
    }
}

/// How an upstream action must end for those that wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Condition {
    /// Well. One that failed may be run again, so it is waited for.
    #[default]
    Success,
    /// In failure.
    Failure,
    /// In whatever way.
    Done,
    /// Well, or skipped.
    SkippedOk,
}

impl Condition {
    /// Each with its word in definitions; the first is the default.
    pub const ALL: [(&'static str, Self); 4] = [
        ("success", Self::Success),
        ("failure", Self::Failure),
        ("done", Self::Done),
        ("skipped_ok", Self::SkippedOk),
    ];

    /// What the state of an upstream action means to one that waits for it.
    #[must_use]
    pub fn judge(self, state: ActionState) -> Standing {
        use ActionState as State;
        match (self, state) {
            (_, State::Planned | State::Waiting | State::Ready | State::Running) => Standing::Open,
            (Self::Done, _)
            | (Self::Success | Self::SkippedOk, State::Success)
            | (Self::SkippedOk, State::Skipped(_))
            | (Self::Failure, State::Failed) => Standing::Passed,
            (Self::Failure, State::Success)
            | (Self::Success | Self::Failure, State::Skipped(_)) => Standing::Closed,
            // It may be run again.
            (Self::Success | Self::SkippedOk, State::Failed | State::Cancelled)
            | (Self::Failure, State::Cancelled) => Standing::Open,
        }
    }
}

/// How an action stands to an upstream one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It waits.
    Open,
    /// It waits for it no longer.
    Passed,
    /// It never will be let go: it is skipped.
    Closed,
}

/// Which actions of an upstream job an action waits for. All but the last look at
/// true time; all are seen from the action's own instant and from the dependant's
/// period that holds it, whatever the upstream job's zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Matching {
    /// The one of the period that is nearest in time; of two as near the earlier one.
    #[default]
    Nearest,
    /// The one of the same instant.
    SameTime,
    /// The newest one that is not later, of any period.
    LatestBefore,
    /// All of the period.
    AllInPeriod,
    /// All of the period before.
    PreviousPeriod,
    /// The one that hera would take: nearest by the difference of 18-digit numbers
    /// that are made of local time and hera's number of the job. For migration.
    Hera,
}

impl Matching {
    /// Each with its word in definitions; the first is the default.
    pub const ALL: [(&'static str, Self); 6] = [
        ("nearest", Self::Nearest),
        ("same_time", Self::SameTime),
        ("latest_before", Self::LatestBefore),
        ("all_in_period", Self::AllInPeriod),
        ("previous_period", Self::PreviousPeriod),
        ("hera", Self::Hera),
    ];

    /// True if it finds exactly one upstream action of the same period, or none.
    #[must_use]
    pub fn needs_one(self) -> bool {
        match self {
            Self::Nearest | Self::SameTime | Self::Hera => true,
            Self::LatestBefore | Self::AllInPeriod | Self::PreviousPeriod => false,
        }
    }

    /// True if a job may wait for actions of its own in this way: for earlier ones.
    #[must_use]
    pub fn looks_back(self) -> bool {
        match self {
            Self::LatestBefore | Self::PreviousPeriod => true,
            Self::Nearest | Self::SameTime | Self::AllInPeriod | Self::Hera => false,
        }
    }
}

/// What becomes of an action for which an edge finds nothing. Without a word of it
/// the edge is satisfied, and shown as `no_upstream`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum OnNoMatch {
    /// It waits, as for an upstream action that does not come.
    Wait,
    /// It is skipped.
    Skip,
}

impl OnNoMatch {
    /// Each with its word in definitions.
    pub const ALL: [(&'static str, Self); 2] = [("wait", Self::Wait), ("skip", Self::Skip)];
}

/// What it means for an action that one of its edges found nothing to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NoMatch {
    /// The edge is satisfied.
    Satisfied,
    /// It waits, until somebody lets it go or it has waited too long.
    Waits,
    /// It is skipped.
    Skips,
}

impl NoMatch {
    /// The word shown to people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Satisfied => "no_upstream",
            Self::Waits => "wait",
            Self::Skips => "skip",
        }
    }
}

impl From<Option<OnNoMatch>> for NoMatch {
    fn from(said: Option<OnNoMatch>) -> Self {
        match said {
            None => Self::Satisfied,
            Some(OnNoMatch::Wait) => Self::Waits,
            Some(OnNoMatch::Skip) => Self::Skips,
        }
    }
}

/// How long the stretch of local time is in which a job's actions belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum PeriodUnit {
    /// From one full hour on the clock to the next.
    Hour,
    /// From midnight to midnight.
    #[default]
    Day,
    /// From Monday to Monday.
    Week,
    /// From the first of a month to the next.
    Month,
}

impl PeriodUnit {
    /// Each with its word in definitions.
    pub const ALL: [(&'static str, Self); 4] =
        [("hour", Self::Hour), ("day", Self::Day), ("week", Self::Week), ("month", Self::Month)];
}

/// What is wrong with a job's edges, whatever the other jobs are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeProblem {
    /// Which edge, counted from 0.
    pub edge: usize,
    /// Its field at fault; empty for the edge as a whole.
    pub field: &'static str,
    /// What is wrong.
    pub problem: &'static str,
    /// What would be right.
    pub remedy: &'static str,
}

impl JobSpec {
    /// Checks the edges of the job `own` among themselves; that their jobs exist and
    /// lead back to no job is for those who know all jobs.
    ///
    /// # Errors
    /// [`EdgeProblem`] for the first edge that cannot be what it says.
    pub fn check_edges(&self, own: Option<JobId>) -> Result<(), EdgeProblem> {
        let wrong =
            |edge, field, problem, remedy| Err(EdgeProblem { edge, field, problem, remedy });
        let mut has_base = false;
        for (place, edge) in self.depends_on.iter().enumerate() {
            if edge.soft && edge.condition != Condition::default() {
                let problem = "a soft edge does not ask how an action ends";
                return wrong(place, "condition", problem, "leave one of condition and soft out");
            }
            if edge.soft && edge.base {
                let problem = "a soft edge only orders what has instants already";
                return wrong(place, "base", problem, "leave one of base and soft out");
            }
            if edge.on_no_match.is_some() && edge.needs_one() {
                return wrong(
                    place,
                    "on_no_match",
                    "where nearest, same_time or hera finds nothing, there is no action",
                    "leave it out, or match latest_before, all_in_period or previous_period",
                );
            }
            if edge.base && !self.triggers.is_empty() {
                let problem = "a job with triggers takes its actions from them alone";
                return wrong(place, "base", problem, "leave it out, or take the triggers away");
            }
            if edge.base && has_base {
                return wrong(place, "base", "another edge is the base", "mark one edge");
            }
            has_base |= edge.base;
            if edge.job != EdgeSpec::OWN && own != Some(edge.job) {
                continue;
            }
            if !edge.matching.looks_back() {
                return wrong(
                    place,
                    "match",
                    "a job can wait for earlier actions of its own, and for no others",
                    "match previous_period or latest_before",
                );
            }
            if self.triggers.is_empty() && self.base_edge() == Some(place) {
                return wrong(
                    place,
                    "",
                    "a job cannot take its actions from itself",
                    "give it a trigger, or mark another edge with base: true",
                );
            }
        }
        Ok(())
    }

    /// The edge to a job: there is one at most.
    #[must_use]
    pub fn edge_to(&self, job: JobId) -> Option<&EdgeSpec> {
        self.depends_on.iter().find(|edge| edge.job == job)
    }

    /// True if each instant of the job is one of all its upstream jobs', and waits for
    /// their actions of that instant: there is nothing to compute from a period.
    #[must_use]
    pub fn copies_instants(&self) -> bool {
        let same = |edge: &EdgeSpec| edge.matching == Matching::SameTime && !edge.soft;
        let is_one = matches!(&self.depends_on[..], [only] if only.needs_one());
        self.triggers.is_empty() && (is_one || self.depends_on.iter().all(same))
    }

    /// The edge that is the base if no rule has to choose one: the one that is marked,
    /// or the first where none may be chosen.
    #[must_use]
    pub fn base_edge(&self) -> Option<usize> {
        let marked = self.depends_on.iter().position(|edge| edge.base);
        let is_chosen = self.depends_on.iter().any(EdgeSpec::needs_one);
        marked.or_else(|| (!is_chosen && !self.depends_on.is_empty()).then_some(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Name, TriggerName};
    use crate::model::job::{MisfirePolicy, TriggerKind, TriggerSpec};

    #[test]
    fn an_edge_that_says_nothing_new_keeps_its_bytes() {
        let bytes = |edge: &EdgeSpec| postcard::to_stdvec(edge).unwrap();
        assert_eq!(bytes(&EdgeSpec::new(JobId(300))), postcard::to_stdvec(&JobId(300)).unwrap());
        let full = EdgeSpec {
            matching: Matching::PreviousPeriod,
            base: true,
            on_no_match: Some(OnNoMatch::Skip),
            ..EdgeSpec::new(JobId(7))
        };
        for edge in [EdgeSpec::new(JobId(1)), EdgeSpec { base: true, ..full.clone() }, full] {
            assert_eq!(postcard::from_bytes::<EdgeSpec>(&bytes(&edge)).unwrap(), edge);
        }
    }

    #[test]
    fn edges_that_contradict_themselves_are_refused() {
        let edge = |job| EdgeSpec::new(JobId(job));
        let back = |job| EdgeSpec { matching: Matching::PreviousPeriod, ..edge(job) };
        let base = |edge| EdgeSpec { base: true, ..edge };
        let skip = |edge| EdgeSpec { on_no_match: Some(OnNoMatch::Skip), ..edge };
        let check = |has_trigger: bool, edges: &[EdgeSpec]| {
            let mut spec = JobSpec::noop(Name::new("j").unwrap());
            spec.depends_on = edges.to_vec();
            if has_trigger {
                spec.triggers.push(TriggerSpec {
                    name: TriggerName("t".into()),
                    kind: TriggerKind::Cron { expression: "0 0 3 * * ?".to_owned() },
                    zone: None,
                    misfire: MisfirePolicy::FireAll,
                    enabled: true,
                });
            }
            spec.check_edges(Some(JobId(9))).map_err(|problem| (problem.edge, problem.field))
        };
        assert_eq!(check(false, &[edge(1), base(edge(2)), skip(back(3)), back(9)]), Ok(()));
        assert_eq!(check(true, &[back(9), edge(1)]), Ok(()));
        assert_eq!(check(false, &[skip(edge(1))]), Err((0, "on_no_match")));
        assert_eq!(check(true, &[edge(1), base(edge(2))]), Err((1, "base")));
        assert_eq!(check(false, &[base(edge(1)), base(edge(2))]), Err((1, "base")));
        assert_eq!(check(true, &[edge(9)]), Err((0, "match")));
        assert_eq!(check(false, &[back(9), back(1)]), Err((0, "")));
        assert_eq!(check(false, &[edge(1), base(back(9))]), Err((1, "")));
    }
}
