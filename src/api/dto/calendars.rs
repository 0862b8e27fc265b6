//! Calendars and pauses.

use horai_core::machine::state::State;
use horai_core::model::calendar::StoredCalendar;
use horai_core::model::pause::{Pause, PauseTarget};
use serde::{Deserialize, Serialize};

use super::jobs::job_name;
use super::text::Time;
use crate::api::calendar_definition::CalendarDefinition;

/// Users of a calendar that are named.
const USERS: usize = 100;

/// A calendar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalendarDto {
    /// Its name.
    pub name: String,
    /// Counts the definitions that differed, from 1; also the `ETag`.
    pub revision: u64,
    /// When it was first applied.
    pub created: Time,
    /// When this revision was applied.
    pub updated: Time,
    /// What the user wrote; values left out have their defaults.
    pub definition: CalendarDefinition,
    /// Jobs with a trigger that names it, up to 100.
    pub jobs: Vec<String>,
    /// Calendars that are based on it, up to 100.
    pub calendars: Vec<String>,
}

impl CalendarDto {
    /// A calendar as it stands.
    #[must_use]
    pub fn of(state: &State, calendar: &StoredCalendar) -> Self {
        let name = &calendar.def.name;
        let jobs = state.jobs_with_calendar(name).take(USERS);
        let calendars = state.calendars_based_on(name).take(USERS);
        Self {
            name: name.to_string(),
            revision: calendar.revision.0,
            created: Time(calendar.created),
            updated: Time(calendar.updated),
            definition: CalendarDefinition::of_def(&calendar.def),
            jobs: jobs.map(|job| job_name(state, job)).collect(),
            calendars: calendars.map(|name| name.to_string()).collect(),
        }
    }
}

/// What applying a calendar did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedCalendar {
    /// Which calendar.
    pub name: String,
    /// Its revision now.
    pub revision: u64,
    /// False if the definition was the same already.
    pub changed: bool,
    /// How many jobs are planned anew.
    pub replanned: u32,
}

/// A pause of the cluster, a group or a trigger; a job's own is with the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseDto {
    /// `cluster`, `group` or `trigger`.
    pub what: String,
    /// The group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The trigger's job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The trigger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// When it began.
    pub since: Time,
    /// Who asked for it.
    pub by: String,
}

impl PauseDto {
    /// A pause as it stands.
    #[must_use]
    pub fn of(state: &State, target: &PauseTarget, pause: &Pause) -> Self {
        let (what, group, job, trigger) = match target {
            PauseTarget::Cluster => ("cluster", None, None, None),
            PauseTarget::Group(group) => ("group", Some(group.to_string()), None, None),
            PauseTarget::Job(job) => ("job", None, Some(job_name(state, *job)), None),
            PauseTarget::Trigger(job, trigger) => {
                ("trigger", None, Some(job_name(state, *job)), Some(trigger.to_string()))
            }
        };
        let (what, since, by) = (what.to_owned(), Time(pause.since), pause.by.clone());
        Self { what, group, job, trigger, since, by }
    }
}

/// What a pause holds up besides what was named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PausedDto {
    /// Jobs that depend on what was paused, directly or through others, and are not
    /// paused themselves; up to 1,000.
    pub dependants: Vec<String>,
    /// How many there are.
    pub dependant_count: u64,
    /// All that was paused together, in the order in which that was done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<String>,
}

/// What was resumed together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumedDto {
    /// All of it, in the order in which that was done.
    pub jobs: Vec<String>,
    /// Those of them that start nothing still: a group above them is paused.
    pub still_paused: Vec<String>,
}

/// How a pause ends.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeRequest {
    /// What becomes of the instants of the pause: `skip` (default), or `misfire` for
    /// each trigger's misfire policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<String>,
}
