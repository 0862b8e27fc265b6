//! Changes of calendars, worked out here alone: a change comes to the jobs that rest on
//! it one after the other, a few with each of a leader's commands, and to all of them
//! soon. Until its turn a job fires by what the calendar said before.
//!
//! Whose turn has come is taken from the product; that it comes in time, and what must
//! stand and what must be gone afterwards, is said here.

use horai_core::ids::{ActionKey, JobId, Name};
use horai_core::machine::command::PlanSource;
use horai_core::machine::state::State;
use horai_core::model::action::ActionState;
use horai_core::model::calendar::CalendarDef;
use horai_core::model::job::{JobSpec, TriggerSpec};

use super::fires::{Epoch, Fires};
use super::holds::{Source, Timed, since};
use super::replicas::Problem;

/// The triggers that name a calendar.
fn names<'a>(spec: &'a JobSpec, calendar: &'a Name) -> impl Iterator<Item = &'a TriggerSpec> {
    spec.triggers.iter().filter(move |trigger| {
        trigger.kind.rule().is_some_and(|rule| rule.calendars.contains(calendar))
    })
}

impl Fires {
    /// A calendar was committed. Every job that rests on it is to be planned anew: in
    /// so many steps that each job could have one for each calendar.
    pub(super) fn on_calendar(&mut self, def: &CalendarDef, now: i64) {
        self.steps = 2 * self.books.len() + 2;
        let Some(old) = self.calendars.insert(def.name.clone(), def.clone()) else { return };
        for book in self.books.values_mut() {
            let is_bound = |spec: &JobSpec| names(spec, &def.name).next().is_some();
            if book.spec.as_ref().is_some_and(is_bound) {
                // Of two changes that have not come to it, both are of no concern yet.
                book.before.entry(def.name.clone()).or_insert_with(|| old.clone());
                book.changed = now;
            }
        }
    }

    /// After each command: whom a change has come to is planned by it from here, or from
    /// where it was planned to.
    pub(super) fn take_turns(
        &mut self,
        (before, state): (&State, &State),
        is_leaders: bool,
        now: i64,
    ) -> Result<(), Problem> {
        let mut waiting: Vec<(JobId, Name)> = Vec::new();
        for (job, book) in &self.books {
            waiting.extend(book.before.keys().map(|name| (*job, name.clone())));
        }
        for (job, name) in &waiting {
            let awaits = |trigger: &TriggerSpec| {
                let source = PlanSource::Trigger(trigger.name.clone());
                state.job(*job).is_some_and(|job| state.awaits_replan(job, &source))
            };
            let spec = state.job(*job).map(|job| &job.spec);
            if spec.is_none_or(|spec| !names(spec, name).any(awaits)) {
                self.take_turn(*job, name, (before, state), now)?;
            } else if self.steps == 0 {
                return Err(format!("job {job} is still planned by what calendar {name} said"));
            }
        }
        if is_leaders {
            self.steps = self.steps.saturating_sub(1);
        }
        Ok(())
    }

    fn take_turn(
        &mut self,
        job: JobId,
        name: &Name,
        (before, state): (&State, &State),
        now: i64,
    ) -> Result<(), Problem> {
        let at = state.now().0;
        let def = self.calendars[name].clone();
        let Some(book) = self.books.get_mut(&job) else { return Ok(()) };
        book.before.remove(name);
        let is_bound =
            |source: &Source| matches!(source, Source::Trigger(timed) if timed.names(name));
        let is_open = |e: &&Epoch| e.until.is_none() && is_bound(&e.source);
        let open: Vec<Source> =
            book.epochs.iter().filter(is_open).map(|e| e.source.clone()).collect();
        let has_edges = book.spec.as_ref().is_none_or(|spec| !spec.depends_on.is_empty());
        self.close(job, has_edges, before, at, now, |source| !is_bound(source))?;
        let book = self.books.entry(job).or_default();
        for source in open {
            let since = since(job, &source, before, at);
            let Source::Trigger(mut timed) = source else { continue };
            timed.without = vec![def.clone()];
            stands_by(job, &timed, state)?;
            let source = Source::Trigger(timed);
            book.epochs.push(Epoch { source, since, until: None, maybe: None, unsure: None });
            book.changed = now;
        }
        Ok(())
    }
}

/// What the trigger has ahead is what it gives by the calendar as it is now.
fn stands_by(job: JobId, timed: &Timed, state: &State) -> Result<(), Problem> {
    let trigger = &timed.trigger.name;
    let is_ahead = |key: &ActionKey| {
        let action = state.action(*key);
        key.nominal > state.now()
            && action
                .is_some_and(|a| a.state == ActionState::Planned && a.triggers == [trigger.clone()])
    };
    let wrong = |key: &ActionKey| is_ahead(key) && !timed.is_due_at(key.nominal.0);
    match state.live_actions_of(job).find(wrong) {
        None => Ok(()),
        Some(key) => Err(format!("{key} stands, and its calendar leaves it out now")),
    }
}
