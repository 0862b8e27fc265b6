//! What holds jobs back, and the calendars that bound their triggers: reading
//! only. Who may start is decided by these few functions and nowhere else.

use crate::ids::{ActionKey, GroupPath, JobId, Name, TriggerName};
use crate::model::action::{Action, WaitReason};
use crate::model::calendar::StoredCalendar;
use crate::model::job::Job;
use crate::model::pause::{Pause, PauseTarget};
use crate::model::run::Run;

use super::command::PlanSource;
use super::state::{State, above};

impl State {
    /// Since when the whole cluster starts nothing new.
    #[must_use]
    pub fn frozen(&self) -> Option<&Pause> {
        self.pauses.get(&PauseTarget::Cluster)
    }

    /// Pauses of the cluster, of groups and of triggers; those of jobs are with the jobs.
    pub fn pauses(&self) -> impl Iterator<Item = (&PauseTarget, &Pause)> {
        self.pauses.iter()
    }

    /// The pause of one trigger.
    #[must_use]
    pub fn trigger_pause(&self, job: JobId, trigger: &TriggerName) -> Option<&Pause> {
        // Most clusters have none, and no name need be copied to find that out.
        if self.pauses.len() == 0 {
            return None;
        }
        self.pauses.get(&PauseTarget::Trigger(job, trigger.clone()))
    }

    /// The nearest group above a job that is paused.
    #[must_use]
    pub fn paused_group(&self, job: &Job) -> Option<GroupPath> {
        if self.pauses.len() == 0 {
            return None;
        }
        let is_paused =
            |group: &GroupPath| self.pauses.contains(&PauseTarget::Group(group.clone()));
        job.spec.group.as_ref()?.and_above().find(is_paused)
    }

    /// True if the job itself or a group above it is paused.
    #[must_use]
    pub fn is_paused(&self, job: &Job) -> bool {
        job.paused || self.paused_group(job).is_some()
    }

    /// Why nothing new of a job starts, if that is so.
    #[must_use]
    pub fn hold_of(&self, job: &Job) -> Option<WaitReason> {
        if self.is_paused(job) {
            Some(WaitReason::Paused)
        } else {
            self.frozen().map(|_| WaitReason::Frozen)
        }
    }

    /// True if this source of a job's instants is paused by itself.
    #[must_use]
    pub fn is_source_paused(&self, job: JobId, source: &PlanSource) -> bool {
        match source {
            PlanSource::Trigger(trigger) => self.trigger_pause(job, trigger).is_some(),
            PlanSource::Dependencies => false,
        }
    }

    /// True if every trigger whose instant this is has been paused.
    #[must_use]
    pub fn is_action_paused(&self, job: JobId, action: &Action) -> bool {
        let is_paused = |trigger: &TriggerName| self.trigger_pause(job, trigger).is_some();
        !action.triggers.is_empty() && action.triggers.iter().all(is_paused)
    }

    /// True if a run may not be dispatched because its job or triggers are paused;
    /// a frozen cluster is asked for apart.
    pub(super) fn is_run_held(&self, run: &Run) -> bool {
        let action = |key: ActionKey| self.actions.get(&key).map(|action| (key.job, action));
        self.jobs.get(&run.job).is_some_and(|job| self.is_paused(job))
            || run.action.and_then(action).is_some_and(|(job, a)| self.is_action_paused(job, a))
    }

    /// Jobs of a group and of the groups in it.
    pub fn jobs_in(&self, group: &GroupPath) -> impl Iterator<Item = JobId> {
        // What begins with the path lies together, but `a-b` before `a/b`.
        let all = self.index.group_jobs.range((group.clone(), JobId(0))..);
        let prefix = group.clone();
        let begins = move |path: &GroupPath| path.as_str().starts_with(prefix.as_str());
        let group = group.clone();
        all.take_while(move |(path, _)| begins(path))
            .filter(move |(path, _)| path.is_within(&group))
            .map(|(_, job)| *job)
    }

    /// A calendar.
    #[must_use]
    pub fn calendar(&self, name: &Name) -> Option<&StoredCalendar> {
        self.calendars.get(name)
    }

    /// Calendars by name, after one (from the first if none is given).
    pub fn calendars_after(&self, after: Option<Name>) -> impl Iterator<Item = &StoredCalendar> {
        self.calendars.range(above(after)).map(|(_, calendar)| calendar)
    }

    /// Jobs with a trigger that names this calendar.
    pub fn jobs_with_calendar(&self, name: &Name) -> impl Iterator<Item = JobId> {
        let range = (name.clone(), JobId(0))..=(name.clone(), JobId(u64::MAX));
        self.index.calendar_users.range(range).map(|(_, job)| *job)
    }

    /// Calendars that are based on this one directly.
    pub fn calendars_based_on(&self, name: &Name) -> impl Iterator<Item = Name> {
        let all = self.index.calendar_bases.range((name.clone(), first_name())..);
        let name = name.clone();
        all.take_while(move |(base, _)| *base == name).map(|(_, calendar)| calendar.clone())
    }

    /// Log index of the last change of a calendar: what was planned by an older
    /// view rests on something else.
    #[must_use]
    pub fn calendars_changed(&self) -> u64 {
        self.calendars.iter().map(|(_, calendar)| calendar.index).max().unwrap_or(0)
    }
}

/// No name sorts before it.
fn first_name() -> Name {
    Name::new("0").expect("a digit is a name")
}
