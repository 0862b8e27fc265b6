//! What holds jobs back, and the calendars that bound their triggers: reading
//! only. Who may start is decided by these few functions and nowhere else.

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::ids::{ActionKey, GroupPath, JobId, Name, RunId, TriggerName};
use crate::model::action::{Action, WaitReason};
use crate::model::calendar::StoredCalendar;
use crate::model::job::Job;
use crate::model::pause::{Pause, PauseEnd, PauseTarget, Sweep, SweepKind};
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

    /// The nearest group above a job that is paused, or whose pause has ended and not
    /// for this job yet.
    #[must_use]
    pub fn paused_group(&self, job: &Job) -> Option<GroupPath> {
        if self.pauses.len() == 0 && self.sweeps.len() == 0 {
            return None;
        }
        let is_paused = |group: &GroupPath| {
            let target = PauseTarget::Group(group.clone());
            self.pauses.contains(&target) || self.is_held_still(&target, job)
        };
        job.spec.group.as_ref()?.and_above().find(is_paused)
    }

    /// True if the end of that pause has not come to this job.
    fn is_held_still(&self, target: &PauseTarget, job: &Job) -> bool {
        let sweep = self.sweeps.get(target);
        sweep.is_some_and(|s| s.what != SweepKind::Withdraw && !is_done(s, target, job))
    }

    /// If all pauses over a job have ended, and some have not come to it: the last end.
    pub(super) fn pending_end(&self, id: JobId) -> Option<PauseEnd> {
        let job = self.jobs.get(&id).filter(|job| !job.paused)?;
        let groups = job.spec.group.iter().flat_map(GroupPath::and_above);
        let mut last: Option<PauseEnd> = None;
        for target in groups.map(PauseTarget::Group).chain([PauseTarget::Cluster]) {
            let is_on = self.pauses.contains(&target);
            match self.sweeps.get(&target).map(Sweep::last) {
                Some(SweepKind::GoOn(end)) if is_on || self.is_held_still(&target, job) => {
                    last = Some(last.filter(|last| last.at > end.at).unwrap_or(end));
                }
                _ if is_on => return None,
                _ => {}
            }
        }
        last
    }

    /// True if the job's runs are out of the queue because of a group. For a moment a
    /// job can be paused and its runs still be there; then nobody may take them.
    fn is_out_of_queue(&self, job: &Job) -> bool {
        if self.pauses.len() == 0 && self.sweeps.len() == 0 {
            return false;
        }
        let is_out = |group: GroupPath| {
            let target = PauseTarget::Group(group);
            match self.sweeps.get(&target) {
                // The pause comes to the jobs, or its end does: one after the other.
                Some(sweep) => is_done(sweep, &target, job) == (sweep.what == SweepKind::Withdraw),
                None => self.pauses.contains(&target),
            }
        };
        job.spec.group.as_ref().is_some_and(|group| group.and_above().any(is_out))
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
            let cluster = &PauseTarget::Cluster;
            let is_frozen = self.frozen().is_some() || self.is_held_still(cluster, job);
            is_frozen.then_some(WaitReason::Frozen)
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
    #[must_use]
    pub fn is_run_held(&self, run: &Run) -> bool {
        let is_held = |job: &Job| self.is_paused(job);
        !run.kind.ignores_pauses()
            && (self.jobs.get(&run.job).is_some_and(is_held) || self.is_run_of_paused(run))
    }

    /// True if a run stands in the queue, and must be passed over all the same: a pause is
    /// on its way to the jobs of a group, and has not come to all of them.
    #[must_use]
    pub fn is_queued_in_vain(&self, run: RunId) -> bool {
        self.sweeps.len() > 0 && self.runs.get(&run).is_some_and(|run| self.is_run_held(run))
    }

    /// True if a run has no place in the queue because its job or triggers are paused.
    pub(super) fn is_run_out(&self, run: &Run) -> bool {
        let is_out = |job: &Job| job.paused || self.is_out_of_queue(job);
        !run.kind.ignores_pauses()
            && (self.jobs.get(&run.job).is_some_and(is_out) || self.is_run_of_paused(run))
    }

    /// True if all triggers of its action are paused by themselves.
    fn is_run_of_paused(&self, run: &Run) -> bool {
        let action = |key: ActionKey| self.actions.get(&key).map(|action| (key.job, action));
        run.decides().and_then(action).is_some_and(|(job, a)| self.is_action_paused(job, a))
    }

    /// Jobs of a group and of the groups in it.
    pub fn jobs_in(&self, group: &GroupPath) -> impl Iterator<Item = JobId> {
        self.jobs_in_after(group, None)
    }

    /// The same, after one of them.
    pub(super) fn jobs_in_after(
        &self,
        group: &GroupPath,
        after: Option<(GroupPath, JobId)>,
    ) -> impl Iterator<Item = JobId> {
        let from = match after {
            Some(place) => Bound::Excluded(place),
            None => Bound::Included((group.clone(), JobId(0))),
        };
        // What begins with the path lies together, but `a-b` before `a/b`.
        let all = self.index.group_jobs.range((from, Bound::Unbounded));
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

    /// A calendar and all that are based on it, directly or not.
    pub(super) fn calendars_under(&self, name: &Name) -> BTreeSet<Name> {
        let mut found = BTreeSet::from([name.clone()]);
        let mut work = vec![name.clone()];
        while let Some(base) = work.pop() {
            for child in self.calendars_based_on(&base) {
                if found.insert(child.clone()) {
                    work.push(child);
                }
            }
        }
        found
    }

    /// How many jobs rest on a calendar, directly or through others.
    #[must_use]
    pub fn jobs_under(&self, name: &Name) -> usize {
        let calendars = self.calendars_under(name);
        let jobs: BTreeSet<JobId> =
            calendars.iter().flat_map(|name| self.jobs_with_calendar(name)).collect();
        jobs.len()
    }

    /// True while a change of this calendar has not come to all jobs that rest on it.
    #[must_use]
    pub fn is_replanning(&self, name: &Name) -> bool {
        self.replans.contains(name)
    }

    /// True if nothing is planned for this source of a job's instants at present: it is
    /// paused by itself, or a change of its calendar has not come to it yet. Until then
    /// its plan stands as it was.
    #[must_use]
    pub fn is_source_at_rest(&self, job: &Job, source: &PlanSource) -> bool {
        self.is_source_paused(job.id, source) || self.awaits_replan(job, source)
    }

    /// True if a change of its calendar has not come to it yet.
    #[must_use]
    pub fn awaits_replan(&self, job: &Job, source: &PlanSource) -> bool {
        if self.replans.len() == 0 {
            return false;
        }
        let PlanSource::Trigger(trigger) = source else { return false };
        let rule = job.spec.trigger(trigger).and_then(|trigger| trigger.kind.rule());
        rule.is_some_and(|rule| rule.calendars.iter().any(|name| self.is_old_to(name, job.id)))
    }

    /// True if a change of the calendar, or of one that it rests on, has not come to
    /// the job.
    fn is_old_to(&self, name: &Name, job: JobId) -> bool {
        let place = (name.clone(), job);
        let comes_later = |name: &Name| {
            let replan = self.replans.get(name);
            replan.is_some_and(|r| r.done.as_ref().is_none_or(|done| *done < place))
        };
        let base = |name: &&Name| self.calendars.get(*name)?.def.base.as_ref();
        std::iter::successors(Some(name), base).any(comes_later)
    }

    /// Who rests on some calendars, in the order in which a change comes to them.
    pub(super) fn calendar_users_after(
        &self,
        calendars: &BTreeSet<Name>,
        done: Option<&(Name, JobId)>,
        most: usize,
    ) -> Vec<(Name, JobId)> {
        let users = |name: &Name| {
            let from = match done {
                Some(done) if *done >= (name.clone(), JobId(0)) => Bound::Excluded(done.clone()),
                _ => Bound::Included((name.clone(), JobId(0))),
            };
            let to = Bound::Included((name.clone(), JobId(u64::MAX)));
            self.index.calendar_users.range((from, to)).cloned()
        };
        let rest = calendars.iter().filter(|name| done.is_none_or(|(last, _)| *name >= last));
        rest.flat_map(users).take(most).collect()
    }

    /// Log index of the last change of a calendar: what was planned by an older
    /// view rests on something else.
    #[must_use]
    pub fn calendars_changed(&self) -> u64 {
        self.calendars.iter().map(|(_, calendar)| calendar.index).max().unwrap_or(0)
    }
}

/// Where a job stands in the order in which a pause comes to many.
pub(super) fn place_in(target: &PauseTarget, job: &Job) -> (Option<GroupPath>, JobId) {
    let group = match target {
        PauseTarget::Group(_) => job.spec.group.clone(),
        PauseTarget::Cluster | PauseTarget::Job(_) | PauseTarget::Trigger(..) => None,
    };
    (group, job.id)
}

/// True if it has been this job's turn.
fn is_done(sweep: &Sweep, target: &PauseTarget, job: &Job) -> bool {
    sweep.done.as_ref().is_some_and(|done| place_in(target, job) <= *done)
}

/// No name sorts before it.
fn first_name() -> Name {
    Name::new("0").expect("a digit is a name")
}
