//! Calendars: written, removed, and what a change means to the plans that rest
//! on them. What a calendar says is checked before it is proposed; here it is
//! only kept whole: no base that is missing, no circle, none taken from under a
//! trigger.
//!
//! A change comes to the jobs that rest on it one after the other, so many a command:
//! none may take long. Until its turn a job keeps the plan it has, and gets no more;
//! its turn is one commit, as an edit of it would be.

use std::collections::BTreeSet;

use super::super::command::{PlanBatch, PlanSource};
use super::super::outcome::{Event, Outcome, Reject};
use super::super::state::State;
use super::job::check_revision;
use super::{at_most, invalid, room_for};
use crate::ids::{JobId, Name, Revision, TriggerName};
use crate::model::calendar::{CalendarDef, CalendarRule, Replan, StoredCalendar};
use crate::model::job::{Job, JobSpec};
use crate::model::trigger::RuleSpec;
use crate::mutants::{self, Mutant};
use crate::time::UtcMillis;

impl State {
    pub(super) fn put_calendar(
        &mut self,
        def: &CalendarDef,
        expected: Option<Revision>,
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        let old = self.calendars.shared(&def.name);
        check_revision(expected, old.as_deref().map_or(Revision(0), |c| c.revision))?;
        check_def(def)?;
        self.check_chain(def)?;
        if old.is_none() {
            room_for("calendars", self.calendars.len() + 1, self.limits.calendars)?;
        }
        let (now, index) = (self.meta.now, self.meta.applied_index);
        let (revision, created) = match old.as_deref() {
            Some(old) if old.def == *def => {
                let revision = old.revision;
                return Ok(Outcome::Calendar { revision, changed: false, replanned: 0 });
            }
            Some(old) => (old.revision.next(), old.created),
            None => (Revision(1), now),
        };
        let calendar = StoredCalendar { def: def.clone(), revision, created, updated: now, index };
        self.index.calendar_changed(old.as_deref(), Some(&calendar));
        self.calendars.put(def.name.clone(), calendar);
        let replanned = self.begin_replan(&def.name, ev);
        Ok(Outcome::Calendar { revision, changed: true, replanned })
    }

    pub(super) fn delete_calendar(
        &mut self,
        name: &Name,
        expected: Option<Revision>,
    ) -> Result<Outcome, Reject> {
        let old =
            self.calendars.shared(name).ok_or_else(|| Reject::NoSuchCalendar(name.clone()))?;
        check_revision(expected, old.revision)?;
        let jobs = self.names_of(self.jobs_with_calendar(name));
        let calendars: Vec<Name> = self.calendars_based_on(name).take(Reject::MOST_NAMED).collect();
        if !jobs.is_empty() || !calendars.is_empty() {
            return Err(Reject::CalendarInUse { name: name.clone(), jobs, calendars });
        }
        self.index.calendar_changed(Some(&old), None);
        self.calendars.remove(name);
        self.replans.remove(name);
        Ok(Outcome::Done)
    }

    /// The base exists, does not lead back, and the longest chain through this
    /// calendar stays within its bound.
    fn check_chain(&self, def: &CalendarDef) -> Result<(), Reject> {
        let mut path = vec![def.name.clone()];
        let mut next = def.base.clone();
        while let Some(name) = next {
            path.push(name.clone());
            if name == def.name {
                return Err(Reject::CalendarCycle { path });
            }
            let base = self.calendars.get(&name).ok_or(Reject::NoSuchCalendar(name))?;
            next = base.def.base.clone();
            at_most("chain of calendars", path.len(), CalendarDef::MAX_CHAIN)?;
        }
        let mut level: Vec<Name> = self.calendars_based_on(&def.name).collect();
        let mut length = path.len();
        while !level.is_empty() {
            length += 1;
            at_most("chain of calendars", length, CalendarDef::MAX_CHAIN)?;
            level = level.iter().flat_map(|name| self.calendars_based_on(name)).collect();
        }
        Ok(())
    }

    /// A calendar was changed: it comes to the first jobs that rest on it now, to all
    /// others with the next commands. If that is under way for an earlier change, it
    /// begins anew.
    fn begin_replan(&mut self, name: &Name, ev: &mut Vec<Event>) -> u32 {
        self.replans.put(name.clone(), Replan::default());
        self.replan_users(name, ev)
    }

    /// A step of what is under way.
    pub(super) fn replan_some(&mut self, ev: &mut Vec<Event>) {
        let first = self.replans.iter().next().map(|(name, _)| name.clone());
        if let Some(name) = first {
            self.replan_users(&name, ev);
        }
    }

    /// Withdraws what is planned by triggers that this calendar bounds, directly
    /// or through others, and lets their cursors go back: the planner does them
    /// again. What is due already stays. So many jobs at once, and no more than that
    /// if each of them has much.
    fn replan_users(&mut self, name: &Name, ev: &mut Vec<Event>) -> u32 {
        let Some(mut done) = self.replans.get(name).map(|replan| replan.done.clone()) else {
            return 0;
        };
        let calendars = self.calendars_under(name);
        let (limit, begun) = (self.limits.sweep, ev.len());
        let users = self.calendar_users_after(&calendars, done.as_ref(), limit + 1);
        let (mut replanned, mut is_over) = (0, true);
        for (nth, user) in users.into_iter().enumerate() {
            // Each withdrawn action and each cursor that goes back is an event.
            if nth == limit || ev.len() - begun >= PlanBatch::MAX_ACTIONS {
                is_over = mutants::on(Mutant::ReplanStopsHalfWay);
                break;
            }
            self.replan_user(user.1, &calendars, ev);
            done = Some(user);
            replanned += 1;
        }
        if is_over {
            self.replans.remove(name);
        } else {
            self.replans.put(name.clone(), Replan { done });
        }
        replanned
    }

    fn replan_user(&mut self, id: JobId, calendars: &BTreeSet<Name>, ev: &mut Vec<Event>) {
        let Some(job) = self.jobs.get(&id) else { return };
        let is_bound = |rule: &RuleSpec| rule.calendars.iter().any(|c| calendars.contains(c));
        let bound = job.spec.triggers.iter().filter(|t| t.kind.rule().is_some_and(is_bound));
        let bound: BTreeSet<TriggerName> = bound.map(|t| t.name.clone()).collect();
        let back_to: Vec<(TriggerName, UtcMillis)> =
            bound.iter().map(|name| (name.clone(), self.back_for_calendar(job, name))).collect();
        self.withdraw(id, Some(&bound), ev);
        for (trigger, to) in back_to {
            self.rewind(id, PlanSource::Trigger(trigger), to);
        }
        ev.push(Event::Job(id));
    }

    /// Where a trigger is planned from when its calendar has changed: from now, and a
    /// fixed delay from where it was counted, so that it does not begin anew. Of one that
    /// the old calendar put off that is not known: it is counted so that it comes no
    /// earlier than planned.
    fn back_for_calendar(&self, job: &Job, name: &TriggerName) -> UtcMillis {
        let now = self.meta.now;
        let delay = job.spec.trigger(name).and_then(|trigger| trigger.kind.fixed_delay());
        let Some(delay) = delay else { return now };
        let planned = self.unfinished_of(job.id, name).map(|key| key.nominal);
        let ahead = planned.filter(|nominal| *nominal > now);
        ahead.map_or(now, |nominal| nominal.minus(delay).min(now))
    }

    /// The calendars that a definition names exist.
    pub(super) fn check_calendars(&self, spec: &JobSpec) -> Result<(), Reject> {
        for (place, trigger) in spec.triggers.iter().enumerate() {
            let Some(rule) = trigger.kind.rule() else { continue };
            let field = format!("triggers[{place}].calendars");
            at_most(&field, rule.calendars.len(), RuleSpec::MAX_CALENDARS)?;
            for name in &rule.calendars {
                if !self.calendars.contains(name) {
                    let problem = format!(
                        "calendar {name} does not exist; apply the calendar first, or correct the name"
                    );
                    return Err(invalid(&field, problem));
                }
            }
        }
        Ok(())
    }
}

fn check_def(def: &CalendarDef) -> Result<(), Reject> {
    at_most("description", def.description.len(), CalendarDef::MAX_DESCRIPTION)?;
    if let CalendarRule::Cron { expression, .. } = &def.rule {
        at_most("cron", expression.len(), CalendarDef::MAX_DESCRIPTION)?;
    }
    at_most("entries", def.rule.entries(), CalendarDef::MAX_ENTRIES)?;
    at_most("zone", def.zone.as_ref().map_or(0, String::len), 64)
}
