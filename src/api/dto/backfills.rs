//! Back-fills, and runs that somebody asks for beside the plan.

use std::collections::BTreeMap;

use horai_core::ids::BackfillId;
use horai_core::machine::state::State;
use horai_core::model::backfill::{Backfill, BackfillInstant};
use horai_core::time::UtcMillis;
use serde::{Deserialize, Serialize};

use super::jobs::job_name;
use super::text::{ActionRef, BackfillRef, HoursText, RunRef, Time};

/// What is asked for, of one job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackfillRequest {
    /// The first instant that may be in it: RFC 3339, or a day or a time of day in the
    /// job's zone, such as `2026-11-01` or `2026-11-01T03:00`.
    pub from: String,
    /// Up to before this instant; a day is in it as a whole.
    pub to: String,
    /// Which instants: `skip` leaves out all that have run, `failed` (default) those that
    /// have succeeded, `all` none.
    #[serde(default)]
    pub existing: Option<String>,
    /// The last instant goes first.
    #[serde(default)]
    pub newest_first: bool,
    /// Runs that may be live at once, 1 to 100; 1 if nothing is said.
    #[serde(default)]
    pub concurrency: Option<u32>,
    /// When runs may begin, in the job's zone: `22:00-06:00`.
    #[serde(default)]
    pub hours: Option<HoursText>,
    /// Actions that are there have the result as their own, and tell their dependants.
    #[serde(default)]
    pub downstream: bool,
    /// Over those of triggers and job.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    /// 9 goes first; 2 if nothing is said.
    #[serde(default)]
    pub priority: Option<u8>,
    /// An earlier definition than that of now.
    #[serde(default)]
    pub revision: Option<u64>,
}

/// What would be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillPreview {
    /// Whose instants.
    pub job: String,
    /// How many.
    pub total: u32,
    /// How many of the range are left out, because they have run or are live.
    pub passed_over: u32,
    /// The first of them, ascending; at most 100.
    pub instants: Vec<Time>,
}

impl BackfillPreview {
    /// The most instants that are shown.
    pub const SHOWN: usize = 100;
}

/// A back-fill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillDto {
    /// `b-3`.
    pub id: BackfillRef,
    /// Whose instants.
    pub job: String,
    /// The definition that all its runs are pinned to.
    pub revision: u64,
    /// `running paused stopped done`.
    pub state: String,
    /// It may begin runs at this time of day.
    pub open: bool,
    /// All instants.
    pub total: u32,
    /// No run was made for them yet.
    pub waiting: u32,
    /// Their runs are not over.
    pub live: u32,
    /// They have succeeded.
    pub success: u32,
    /// They have failed.
    pub failed: u32,
    /// Their runs were cancelled.
    pub cancelled: u32,
    /// There was nothing to do, or something else ran for them.
    pub skipped: u32,
    /// Instants of the range that were left out.
    pub passed_over: u32,
    /// The last instant goes first.
    pub newest_first: bool,
    /// Runs that may be live at once.
    pub concurrency: u32,
    /// When runs may begin.
    pub hours: Option<HoursText>,
    /// Actions have the result as their own.
    pub downstream: bool,
    /// Over those of triggers and job.
    pub params: BTreeMap<String, String>,
    /// 9 goes first.
    pub priority: u8,
    /// The back-fill whose failures are run again.
    pub again: Option<BackfillRef>,
    /// Who asked for it.
    pub by: String,
    /// When it was asked for.
    pub created: Time,
    /// When the last of it was over.
    pub finished: Option<Time>,
}

impl BackfillDto {
    /// A back-fill as it stands.
    #[must_use]
    pub fn of(state: &State, backfill: &Backfill) -> Self {
        let counts = backfill.counts;
        Self {
            id: BackfillRef(backfill.id),
            job: job_name(state, backfill.job),
            revision: backfill.revision.0,
            state: backfill.state.word().to_owned(),
            open: backfill.is_open,
            total: counts.total,
            waiting: counts.waiting(),
            live: counts.live,
            success: counts.success,
            failed: counts.failed,
            cancelled: counts.cancelled,
            skipped: counts.skipped,
            passed_over: counts.passed_over,
            newest_first: backfill.newest_first,
            concurrency: backfill.concurrency,
            hours: backfill.hours.map(HoursText),
            downstream: backfill.downstream,
            params: backfill.params.clone(),
            priority: backfill.priority,
            again: backfill.again.map(BackfillRef),
            by: backfill.by.clone(),
            created: Time(backfill.created),
            finished: backfill.finished.map(Time),
        }
    }
}

/// One instant of a back-fill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillInstantDto {
    /// Which.
    pub nominal: Time,
    /// `waiting live success failed cancelled deleted skipped elsewhere`.
    pub state: String,
    /// Its run, once there is one.
    pub run: Option<RunRef>,
}

impl BackfillInstantDto {
    /// An instant as it stands.
    #[must_use]
    pub fn of(nominal: UtcMillis, instant: &BackfillInstant) -> Self {
        let state = instant.state.word().to_owned();
        Self { nominal: Time(nominal), state, run: instant.run.map(RunRef) }
    }
}

/// A back-fill was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedBackfill {
    /// Which.
    pub backfill: BackfillRef,
}

impl From<BackfillId> for StartedBackfill {
    fn from(id: BackfillId) -> Self {
        Self { backfill: BackfillRef(id) }
    }
}

/// What may be said of a run that is asked for beside the plan.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    /// To try something out: no retries, and no other run waits for it.
    #[serde(default)]
    pub debug: bool,
    /// The action that it stands for, and changes nothing of.
    #[serde(default)]
    pub action: Option<ActionRef>,
    /// The instant that it stands for, without an action; now if neither is given.
    #[serde(default)]
    pub nominal: Option<Time>,
    /// An earlier definition than that of now.
    #[serde(default)]
    pub revision: Option<u64>,
    /// Over those of triggers and job.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    /// 9 goes first; the job's if nothing is said.
    #[serde(default)]
    pub priority: Option<u8>,
}
