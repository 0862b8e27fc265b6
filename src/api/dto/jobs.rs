//! Jobs and their actions.

use std::collections::BTreeMap;

use horai_core::ids::{ActionKey, JobId, Revision};
use horai_core::machine::state::State;
use horai_core::model::action::{Action, ActionState, Missed, MissedReason, Upstream, WaitReason};
use horai_core::model::edge::Condition;
use horai_core::model::job::{Job, TriggerKind, TriggerSpec};
use horai_core::model::run::RunState;
use horai_core::model::trigger::{Dialect, TriggerRule};
use horai_core::timing::batch;
use horai_core::timing::cron::{CronRule, Spread};
use horai_core::timing::zone::Zone;
use serde::{Deserialize, Serialize};

use super::history::HistoryDto;
use super::text::{ActionRef, RunRef, Time};
use crate::api::definition_parts::{misfire_word, word_of};
use crate::api::job_definition::JobDefinition;
use crate::api::trigger_definition::TriggerDefinition;

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// Where the next page begins: give it back as it is; none after the last.
    pub next: Option<String>,
}

/// Several jobs, applied as one set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSet {
    /// In any order: upstream jobs are applied first.
    pub jobs: Vec<JobDefinition>,
}

/// What applying a set did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedJobs {
    /// In the order of the request.
    pub jobs: Vec<AppliedJob>,
}

/// What applying one definition did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedJob {
    /// Which job.
    pub name: String,
    /// Its number, never given twice.
    pub number: u64,
    /// Its revision now.
    pub revision: u64,
    /// False if the definition was the same already.
    pub changed: bool,
    /// What was not taken as it is written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobDto {
    /// Its name.
    pub name: String,
    /// Its number, never given twice.
    pub number: u64,
    /// Counts the definitions that differed, from 1; also the `ETag`.
    pub revision: u64,
    /// True while it starts nothing new, because it or a group above it is paused.
    pub paused: bool,
    /// The nearest group above it that is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_group: Option<String>,
    /// Triggers that are paused by themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paused_triggers: Vec<String>,
    /// Triggers whose next instant is counted from the end of an action.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting_triggers: Vec<WaitingTrigger>,
    /// What its triggers say, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub means: Vec<TriggerMeaning>,
    /// When it was first applied.
    pub created: Time,
    /// When this revision was applied.
    pub updated: Time,
    /// What the user wrote; values left out have their defaults.
    pub definition: JobDefinition,
}

/// What a trigger says, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerMeaning {
    /// Which.
    pub trigger: String,
    /// Such as `at 03:00 on the last weekday of each month, Europe/Berlin`.
    pub means: String,
}

impl TriggerMeaning {
    fn of(state: &State, job: &Job, trigger: &TriggerSpec) -> Self {
        let usual = state.settings().map_or("UTC", |settings| settings.default_zone.as_str());
        let zone = trigger.zone.as_deref().or(job.spec.zone.as_deref()).unwrap_or(usual);
        let (expression, dialect) = match &trigger.kind {
            TriggerKind::Cron { expression } => (Some(expression), Dialect::Quartz),
            TriggerKind::Rule(rule) => match &rule.rule {
                TriggerRule::Cron { expression, dialect } => (Some(expression), *dialect),
                _ => (None, Dialect::Quartz),
            },
        };
        let spread = Spread::of(job.id, &trigger.name);
        let read = expression.and_then(|text| CronRule::parse(text, dialect, spread).ok());
        let means = match read {
            Some(CronRule::Clock(cron)) => format!("{}, {zone}", cron.describe()),
            Some(CronRule::Every(every)) => format!("every {every} of elapsed time"),
            None => TriggerDefinition::of_spec(trigger).to_string(),
        };
        Self { trigger: trigger.name.to_string(), means }
    }
}

/// A trigger that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingTrigger {
    /// Which.
    pub trigger: String,
    /// Why: a word of the closed list of reasons.
    pub reason: String,
    /// For the end of this action.
    pub action: ActionRef,
}

impl WaitingTrigger {
    fn of(state: &State, job: &Job, trigger: &TriggerSpec) -> Option<Self> {
        trigger.kind.fixed_delay()?;
        let action = state.unfinished_of(job.id, &trigger.name)?;
        Some(Self {
            trigger: trigger.name.to_string(),
            reason: WaitReason::FixedDelay.word().to_owned(),
            action: ActionRef::of(state, action),
        })
    }
}

impl JobDto {
    /// A job as it stands.
    #[must_use]
    pub fn of(state: &State, job: &Job) -> Self {
        Self {
            name: job.spec.name.to_string(),
            number: job.id.0,
            revision: job.revision.0,
            paused: state.is_paused(job),
            paused_group: state.paused_group(job).map(|group| group.to_string()),
            paused_triggers: job
                .spec
                .triggers
                .iter()
                .filter(|t| state.trigger_pause(job.id, &t.name).is_some())
                .map(|t| t.name.to_string())
                .collect(),
            waiting_triggers: job
                .spec
                .triggers
                .iter()
                .filter_map(|t| WaitingTrigger::of(state, job, t))
                .collect(),
            means: job.spec.triggers.iter().map(|t| TriggerMeaning::of(state, job, t)).collect(),
            created: Time(job.created),
            updated: Time(job.updated),
            definition: JobDefinition::of_spec(&job.spec, |id| job_name(state, id)),
        }
    }
}

/// The batch key of an action, or of what stands for it: by that definition of its job if it
/// is kept, else by the job's own.
pub(crate) fn batch_of(state: &State, key: ActionKey, revision: Option<Revision>) -> String {
    let pinned = revision.and_then(|revision| state.spec(key.job, revision));
    let spec = pinned.or_else(|| state.job(key.job).map(|job| &job.spec));
    let Some(spec) = spec else { return ActionRef::of(state, key).to_string() };
    // Most have none, and no zone need be looked for.
    let zone = spec.batch.map_or(Zone::UTC, |_| {
        let usual = state.settings().map(|settings| settings.default_zone.as_str());
        Zone::either(spec.zone.as_deref(), usual)
    });
    batch::key_of(spec, &zone, key.nominal)
}

/// The batch key of an action: by the definition that its run is pinned to, or that a run
/// of it would be.
pub(crate) fn batch_of_action(state: &State, key: ActionKey, action: &Action) -> String {
    let run = action.run.and_then(|run| state.run(run));
    batch_of(state, key, run.map(|run| run.revision))
}

/// The name of a job, or `#` and its number if it is deleted.
pub(crate) fn job_name(state: &State, job: JobId) -> String {
    state.job(job).map_or_else(|| format!("#{job}"), |job| job.spec.name.to_string())
}

impl ActionRef {
    /// An action with its job's name.
    #[must_use]
    pub fn of(state: &State, key: ActionKey) -> Self {
        Self { job: job_name(state, key.job), nominal: key.nominal }
    }
}

/// An action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionDto {
    /// `JOB@TIME`.
    pub id: ActionRef,
    /// Whose.
    pub job: String,
    /// Definition it was planned from.
    pub revision: u64,
    /// The instant it stands for.
    pub nominal: Time,
    /// When it may start.
    pub due: Time,
    /// `planned waiting ready running success failed cancelled skipped`.
    pub state: String,
    /// Why it was skipped, or which limit of its job its run has passed; `area` if it
    /// succeeded without a run, because its job has nothing to do in this area.
    pub reason: Option<String>,
    /// Its batch key.
    #[serde(default)]
    pub batch: String,
    /// Triggers whose instant this is.
    pub triggers: Vec<String>,
    /// What it waits for, or waited for.
    pub upstream: Vec<UpstreamDto>,
    /// Its run of kind schedule or dependency.
    pub run: Option<RunRef>,
    /// Planned late: goes behind what is due now.
    pub catch_up: bool,
    /// When it reached a final state.
    pub finished: Option<Time>,
    /// Every change of it, oldest first; empty where many actions are listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryDto>,
}

/// An upstream action of an action, or that an edge found none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamDto {
    /// The upstream job.
    pub job: String,
    /// Its action; none if the edge found none.
    pub action: Option<ActionRef>,
    /// What it means that there is none: `no_upstream` (the edge is satisfied), `wait`
    /// or `skip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_match: Option<String>,
    /// How it must end, if not well: `failure`, `done`, `skipped_ok`, or `soft`: it must
    /// only be over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// When it ended so.
    pub met: Option<Time>,
    /// The run that did.
    pub by: Option<RunRef>,
}

impl UpstreamDto {
    fn of(state: &State, upstream: &Upstream) -> Self {
        Self {
            job: job_name(state, upstream.action.job),
            action: upstream.awaited().map(|key| ActionRef::of(state, key)),
            no_match: upstream.none.map(|none| none.word().to_owned()),
            condition: match upstream.condition {
                _ if upstream.soft => Some("soft".to_owned()),
                Condition::Success => None,
                other => Some(word_of(other, &Condition::ALL).to_owned()),
            },
            met: upstream.met.map(|(at, _)| at).or(upstream.passed).map(Time),
            by: upstream.met.map(|(_, run)| RunRef(run)),
        }
    }
}

/// Why an action ended as it did, in a word, where its state does not say it all.
pub(super) fn ended_by(state: &State, action: &Action) -> Option<&'static str> {
    match action.state {
        ActionState::Skipped(reason) => Some(reason.word()),
        ActionState::Success if action.by_area => Some("area"),
        ActionState::Failed => {
            let run = action.run_behind().and_then(|run| state.run(run));
            run.and_then(|run| match run.state {
                RunState::Finished { result, .. } => result.reason(),
                _ => None,
            })
        }
        _ => None,
    }
}

impl UpstreamDto {
    /// What holds the action up, for people: the upstream action, or that there is none of
    /// the job; nothing once it is as it must be.
    #[must_use]
    pub fn awaited(&self) -> Option<String> {
        match (&self.action, self.no_match.as_deref(), self.met) {
            (Some(action), _, None) => Some(action.to_string()),
            (None, Some("wait"), _) => Some(format!("{} (none found)", self.job)),
            _ => None,
        }
    }
}

impl ActionDto {
    /// True if nothing will change it by itself: then it waits for nothing.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state.as_str(), "success" | "failed" | "cancelled" | "skipped")
    }

    /// An action as it stands.
    #[must_use]
    pub fn of(state: &State, key: ActionKey, action: &Action) -> Self {
        Self {
            id: ActionRef::of(state, key),
            job: job_name(state, key.job),
            revision: action.revision.0,
            nominal: Time(key.nominal),
            due: Time(action.due),
            state: action.state.word().to_owned(),
            reason: ended_by(state, action).map(str::to_owned),
            batch: batch_of_action(state, key, action),
            triggers: action.triggers.iter().map(ToString::to_string).collect(),
            upstream: action.upstream.iter().map(|up| UpstreamDto::of(state, up)).collect(),
            run: action.run.map(RunRef),
            catch_up: action.catch_up,
            finished: action.finished.map(Time),
            history: Vec::new(),
        }
    }

    /// The same with its history.
    #[must_use]
    pub fn told(state: &State, key: ActionKey, action: &Action) -> Self {
        let history = HistoryDto::of_action(state, key, action);
        Self { history, ..Self::of(state, key, action) }
    }
}

/// Instants of one trigger that were not run, kept as one range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissedDto {
    /// Whose.
    pub job: String,
    /// Which trigger's.
    pub trigger: String,
    /// First instant not run.
    pub from: Time,
    /// Last instant not run.
    pub to: Time,
    /// How many; none where nobody counted them, as in a pause.
    pub count: Option<u64>,
    /// `misfire` or `paused`.
    pub reason: String,
    /// The policy that left them out of a misfire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// When that was decided.
    pub at: Time,
}

impl MissedDto {
    /// A range as it is kept.
    #[must_use]
    pub fn of(state: &State, missed: &Missed) -> Self {
        let reason = match missed.reason {
            MissedReason::Paused => "paused",
            MissedReason::Misfire
            | MissedReason::FireAll
            | MissedReason::FireNow
            | MissedReason::Skip => "misfire",
        };
        Self {
            job: job_name(state, missed.job),
            trigger: missed.trigger.to_string(),
            from: Time(missed.from),
            to: Time(missed.to),
            count: Some(missed.count).filter(|count| *count > 0),
            reason: reason.to_owned(),
            policy: missed.reason.policy().map(|policy| misfire_word(policy).to_owned()),
            at: Time(missed.at),
        }
    }
}

/// What a run for an instant would start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenderedDto {
    /// The action it stands for, whether or not there is one.
    pub action: ActionRef,
    /// Of the definition.
    pub revision: u64,
    /// The job's texts with their values, by the fields they stand in.
    pub texts: BTreeMap<String, String>,
}
