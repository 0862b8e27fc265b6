//! Which actions a job has in a period, and which upstream actions each waits for.
//!
//! A pure function of definitions, calendars, zones and the period: never of what
//! happens to be stored, of the order in which jobs were made, or of what was asked
//! before. It decides nothing about cursors, pauses and what has passed; the leader
//! does, and the machine must not import it, for the reason of [`crate::timing`].
//!
//! The rule. A job with triggers takes its instants from them alone. Another one
//! takes those of its *base*: the edge that is marked, else hera's choice among the
//! edges that need one action of the period (`nearest`, `same_time`, `hera`): the one
//! with the fewest actions in the job's period, of several the one whose first action
//! is the latest; else the first edge. Then every edge is matched from each instant.
//! Where an edge needs one and finds none, there is no action.
//!
//! Two layers, because looking back must not lead from period to period for ever.
//! [`plans`] computes instants. They rest on upstream instants of the same stretch of
//! time alone, so that each job's plan of a period is computed once, whatever the
//! depth. [`edges`] then matches, and may look at earlier instants, back to
//! [`LOOK_BACK`].
//!
//! Reading order: `matching`, the rules on lists of instants; `reading`, what is
//! kept of a job; [`plans`]; [`edges`]. [`order`] puts jobs behind those they need.

pub mod edges;
mod matching;
pub mod order;
pub mod plans;
mod reading;

use std::sync::Arc;

use crate::ids::{JobId, Name};
use crate::model::calendar::CalendarDef;
use crate::model::edge::NoMatch;
use crate::model::job::JobSpec;
use crate::time::{Span, UtcMillis};
use crate::timing::schedule::ScheduleError;
use crate::timing::zone::ZoneError;

/// `latest_before` looks no further back than this before the period: a year and a
/// month, so that what comes once a year is found.
pub const LOOK_BACK: Span = Span::secs(400 * 86_400);
/// Nor through more periods than this of an upstream job whose instants others decide,
/// because for each of them all that it rests on is planned: more days than a month
/// has, or more months than there are in [`LOOK_BACK`], or 40 hours.
pub const LOOK_BACK_PERIODS: usize = 40;
/// The most instants of one job in one period: a trigger that fires each second has
/// 86,400 in a day.
pub const MAX_INSTANTS: usize = 100_000;

/// A definition, and from when its rates count where they say nothing of it.
#[derive(Debug, Clone, Copy)]
pub struct Definition<'a> {
    /// What it says.
    pub spec: &'a JobSpec,
    /// Of a job that is made, the time of that.
    pub anchor: UtcMillis,
}

/// Where definitions are found.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// Jobs by number.
    pub jobs: &'a dyn Fn(JobId) -> Option<Definition<'a>>,
    /// Calendars by name.
    pub calendars: &'a dyn Fn(&Name) -> Option<&'a CalendarDef>,
    /// The zone of jobs that have none.
    pub default_zone: &'a str,
}

impl std::fmt::Debug for World<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("default_zone", &self.default_zone).finish_non_exhaustive()
    }
}

/// An action as it is computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DerivedAction {
    /// The instant it stands for.
    pub nominal: UtcMillis,
    /// When it may start: of a derived one, when its base action may.
    pub due: UtcMillis,
    /// What it waits for: the base first, then the other edges as they are written.
    pub edges: Vec<EdgeMatch>,
}

/// What an edge found for an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeMatch {
    /// The upstream job.
    pub job: JobId,
    /// Its actions.
    pub found: Found,
}

/// See [`EdgeMatch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The actions of these instants, ascending, at least one.
    These(Arc<[UtcMillis]>),
    /// None, and what that means.
    None(NoMatch),
}

/// Why a plan cannot be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A number that no job has.
    #[error("job {0} does not exist: apply it first, or take the dependency away")]
    NoSuchJob(JobId),
    /// One of its triggers.
    #[error("job {job}: trigger {trigger:?} is not valid")]
    Trigger {
        /// Whose.
        job: Name,
        /// Which.
        trigger: String,
        /// What is wrong with it.
        source: Box<ScheduleError>,
    },
    /// The zone in which it thinks.
    #[error("the zone of job {job} is not valid")]
    Zone {
        /// Whose.
        job: Name,
        /// What is wrong with it.
        source: ZoneError,
    },
    /// One of its edges.
    #[error("job {job}: depends_on[{edge}] is not valid: {problem}: {remedy}")]
    Edge {
        /// Whose.
        job: Name,
        /// Which, counted from 0.
        edge: usize,
        /// What is wrong with it.
        problem: &'static str,
        /// What would be right.
        remedy: &'static str,
    },
    /// Jobs that wait for each other.
    #[error("{} wait for each other: take one of these dependencies away", shown(path))]
    Cycle {
        /// Each depends on the next; the last one is the first.
        path: Vec<Name>,
    },
    /// More than can be planned.
    #[error(
        "job {job} has more than {MAX_INSTANTS} instants in the period of {period}: let it fire \
         less often, or give it a shorter period"
    )]
    TooMany {
        /// Whose.
        job: Name,
        /// When the period begins, by the clock of the job's zone.
        period: String,
    },
    /// No calendar reaches there.
    #[error("job {0} has no period there: ask for a day of the years 1970 to 2299")]
    OutOfRange(Name),
}

fn shown(path: &[Name]) -> String {
    path.iter().map(Name::as_str).collect::<Vec<_>>().join(" → ")
}

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tests;
