//! Which actions there must be, from what users committed and the calendar of
//! this folder: each due instant once, none missing, none early, none that nobody
//! asked for. Nothing of the product's planning is called.
//!
//! The one thing taken from the product is how far a source was planned when an
//! edit cut it off: what lay before that edit and was not planned yet is given up
//! by design. It excuses only what a disturbance explains.

use std::collections::{BTreeMap, BTreeSet};

use horai_core::ids::{ActionKey, JobId, Name, RunId, TriggerName};
use horai_core::machine::state::State;
use horai_core::model::action::{Action, ActionState, Missed, MissedReason};
use horai_core::model::calendar::CalendarDef;
use horai_core::model::job::{JobSpec, MisfirePolicy, TriggerSpec};
use horai_core::model::pause::{AfterPause, PauseTarget};
use horai_core::time::UtcMillis;

use super::calendar::Cron;
use super::holds::{Pauses, Source, after, may_run, since, source_of};
use super::replicas::Problem;

/// Later than this is a misfire: the cluster's setting in these worlds.
const MISFIRE_AFTER: i64 = 60_000;
const DAY: i64 = 86_400_000;
/// A new leader plans what is missing within this time.
const PATIENCE: i64 = 5_000;

#[derive(Debug, Clone)]
pub(super) struct Epoch {
    pub(super) source: Source,
    /// Instants after this, up to `until`.
    pub(super) since: i64,
    pub(super) until: Option<i64>,
    /// Instants after this, up to `until`, may be there or not.
    pub(super) maybe: Option<i64>,
    /// Those up to this, too: what they would wait for may have been dropped.
    pub(super) unsure: Option<i64>,
}

/// An action as it was seen last.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) state: ActionState,
    pub(super) run: Option<RunId>,
    /// Withdrawn before it was due.
    pub(super) is_gone: bool,
    /// What its job depended on when it was planned.
    pub(super) edges: Vec<JobId>,
    triggers: Vec<TriggerName>,
}

#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) spec: Option<JobSpec>,
    /// The job itself.
    is_paused: bool,
    /// Those of its triggers that are.
    paused: BTreeSet<TriggerName>,
    /// It, its group or the cluster: then no epoch is open.
    is_held: bool,
    /// Of a fixed delay, when its last action was over, or was left out.
    ends: BTreeMap<TriggerName, i64>,
    pub(super) epochs: Vec<Epoch>,
    seen: BTreeMap<i64, Seen>,
    missed: Vec<Missed>,
    /// When the definition or pause changed last, true time.
    pub(super) changed: i64,
    /// What calendars said before a change that has not come to the job yet.
    pub(super) before: BTreeMap<Name, CalendarDef>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Fires {
    pub(super) books: BTreeMap<JobId, Book>,
    /// Every expression that was ever written.
    pub(super) crons: BTreeMap<String, Cron>,
    /// Since when nothing has disturbed the planner, true time.
    pub(super) calm_since: i64,
    pub(super) calendars: BTreeMap<Name, CalendarDef>,
    /// How many steps changes of calendars may still take.
    pub(super) steps: usize,
    /// Actions that somebody opened again: they may go back, and run at any time.
    pub(super) reopened: BTreeSet<ActionKey>,
    pauses: Pauses,
}

impl Book {
    /// The action of a trigger that is not over.
    fn unfinished(&self, trigger: &TriggerName) -> Option<(&i64, &Seen)> {
        let is_open = |seen: &Seen| !seen.is_gone && !seen.state.is_final();
        self.seen.iter().find(|(_, seen)| is_open(seen) && seen.triggers.contains(trigger))
    }

    /// From when a delay is counted.
    fn delay_base(&self, epoch: &Epoch, trigger: &TriggerSpec) -> i64 {
        self.ends.get(&trigger.name).map_or(epoch.since, |end| epoch.since.max(*end))
    }
}

impl Fires {
    pub(super) fn seen(&self, key: ActionKey) -> Option<&Seen> {
        self.books.get(&key.job)?.seen.get(&key.nominal.0)
    }

    fn sources(&self, spec: &JobSpec, book: &Book) -> Vec<Source> {
        let edges: Vec<JobId> = spec.depends_on.iter().map(|edge| edge.job).collect();
        if spec.triggers.is_empty() && !edges.is_empty() {
            return vec![Source::Upstream(edges)];
        }
        let mut calendars = self.calendars.clone();
        calendars.extend(book.before.clone());
        let source = |trigger| source_of(trigger, spec, &self.crons, &calendars);
        let is_paused = |t: &&TriggerSpec| book.paused.contains(&t.name);
        let enabled = spec.triggers.iter().filter(|t| t.enabled);
        enabled.filter(|t| !is_paused(t)).map(source).collect()
    }

    /// A definition was committed, at cluster time `at`. `before` is the state before.
    pub(super) fn on_job(
        &mut self,
        job: JobId,
        spec: &JobSpec,
        before: &State,
        at: i64,
        now: i64,
    ) -> Result<(), Problem> {
        let book = self.books.entry(job).or_default();
        book.paused.retain(|name| spec.trigger(name).is_some());
        let sources = self.sources(spec, &self.books[&job]);
        let is_held = self.pauses.hold(spec);
        let old = self.books.entry(job).or_default().spec.replace(spec.clone());
        if old.is_none() {
            self.books.entry(job).or_default().is_held = is_held;
        }
        let old_edges = old.map_or(Vec::new(), |old| old.depends_on);
        let has_new_edges = old_edges != spec.depends_on;
        let stays = |source: &Source| sources.contains(source) && !has_new_edges;
        self.close(job, !old_edges.is_empty(), before, at, now, stays)?;
        let book = self.books.entry(job).or_default();
        book.changed = now;
        if !book.is_held {
            for source in sources {
                let is_open = |e: &Epoch| e.until.is_none() && e.source == source;
                if !book.epochs.iter().any(is_open) {
                    book.epochs.push(Epoch {
                        source,
                        since: at,
                        until: None,
                        maybe: None,
                        unsure: None,
                    });
                }
            }
        }
        // It may lie in another group now.
        self.set_held(job, AfterPause::Skip, before, at, now)
    }

    /// The cluster or a group was paused, or goes on.
    pub(super) fn on_pause(
        &mut self,
        target: &PauseTarget,
        goes_on: Option<AfterPause>,
        before: &State,
        (at, now): (i64, i64),
    ) -> Result<(), Problem> {
        self.pauses.set(target, goes_on.is_none());
        let jobs: Vec<JobId> = self.books.keys().copied().collect();
        let held: Vec<JobId> = jobs.iter().copied().filter(|job| self.is_held(*job)).collect();
        for job in jobs {
            self.set_held(job, goes_on.unwrap_or_default(), before, at, now)?;
        }
        if goes_on == Some(AfterPause::Misfire) {
            for job in held {
                self.made_up_for_below(job, before, at);
            }
        }
        Ok(())
    }

    /// Opens or closes what the job gives, as it is held or not.
    fn set_held(
        &mut self,
        job: JobId,
        after: AfterPause,
        before: &State,
        at: i64,
        now: i64,
    ) -> Result<(), Problem> {
        let book = &self.books[&job];
        let is_held =
            book.is_paused || book.spec.as_ref().is_none_or(|spec| self.pauses.hold(spec));
        if is_held == book.is_held {
            return Ok(());
        }
        let has_edges = book.spec.as_ref().is_none_or(|spec| !spec.depends_on.is_empty());
        let all = |spec: &JobSpec| self.sources(spec, book);
        let sources = book.spec.as_ref().map_or(Vec::new(), all);
        let book = self.books.entry(job).or_default();
        (book.is_held, book.changed) = (is_held, now);
        if is_held {
            return self.close(job, has_edges, before, at, now, |_| false);
        }
        for source in sources {
            let since = match after {
                AfterPause::Skip => at,
                AfterPause::Misfire => since(job, &source, before, at),
            };
            // Retention may have dropped actions that a derived job would be made up from.
            let has_lost = |up: &JobId| before.floor(*up).is_some_and(|floor| floor.0 > since);
            let is_unsure =
                matches!(&source, Source::Upstream(edges) if edges.iter().any(has_lost));
            let unsure = is_unsure.then_some(at);
            book.epochs.push(Epoch { source, since, until: None, maybe: None, unsure });
        }
        Ok(())
    }

    /// One trigger was paused, or goes on: from now, or from where it stopped.
    pub(super) fn on_trigger(
        &mut self,
        (job, name): (JobId, &TriggerName),
        after: Option<AfterPause>,
        before: &State,
        (at, now): (i64, i64),
    ) -> Result<(), Problem> {
        let goes_on = after.is_some();
        let Some(book) = self.books.get_mut(&job) else { return Ok(()) };
        let is_new =
            if goes_on { book.paused.remove(name) } else { book.paused.insert(name.clone()) };
        book.changed = now;
        if !is_new || book.is_held {
            return Ok(());
        }
        let Some(spec) = book.spec.clone() else { return Ok(()) };
        if !goes_on {
            let has_edges = !spec.depends_on.is_empty();
            return self.close(job, has_edges, before, at, now, |source| !source.is_of(name));
        }
        if after == Some(AfterPause::Misfire) {
            self.made_up_for_below(job, before, at);
        }
        let sources = self.sources(&spec, &self.books[&job]);
        let book = self.books.entry(job).or_default();
        for source in sources.into_iter().filter(|source| source.is_of(name)) {
            let since = match after {
                Some(AfterPause::Misfire) => since(job, &source, before, at),
                Some(AfterPause::Skip) | None => at,
            };
            let (until, maybe, unsure) = (None, None, None);
            book.epochs.push(Epoch { source, since, until, maybe, unsure });
        }
        Ok(())
    }

    /// True if an action of these triggers may not start.
    pub(super) fn is_action_held(&self, job: JobId, triggers: &[TriggerName]) -> bool {
        let is_paused = |book: &Book| triggers.iter().all(|name| book.paused.contains(name));
        self.is_held(job) || (!triggers.is_empty() && self.books.get(&job).is_some_and(is_paused))
    }

    /// True if nothing new of the job may start.
    pub(super) fn is_held(&self, job: JobId) -> bool {
        self.books.get(&job).is_none_or(|book| book.is_held)
    }

    /// A job was paused, or deleted.
    pub(super) fn on_end(
        &mut self,
        job: JobId,
        before: &State,
        at: i64,
        now: i64,
    ) -> Result<(), Problem> {
        let Some(book) = self.books.get_mut(&job) else { return Ok(()) };
        book.is_paused = true;
        self.set_held(job, AfterPause::Skip, before, at, now)
    }

    pub(super) fn on_resume(
        &mut self,
        job: JobId,
        after: AfterPause,
        before: &State,
        at: i64,
        now: i64,
    ) -> Result<(), Problem> {
        let Some(book) = self.books.get_mut(&job) else { return Ok(()) };
        book.is_paused = false;
        self.set_held(job, after, before, at, now)?;
        if after == AfterPause::Misfire {
            self.made_up_for_below(job, before, at);
        }
        Ok(())
    }

    /// Ends what the job planned by until now. With edges (`has_edges`) it was planned
    /// no further than what it waits for.
    pub(super) fn close(
        &mut self,
        job: JobId,
        has_edges: bool,
        before: &State,
        at: i64,
        now: i64,
        stays: impl Fn(&Source) -> bool,
    ) -> Result<(), Problem> {
        let calm = now - self.calm_since;
        let Some(book) = self.books.get_mut(&job) else { return Ok(()) };
        let is_calm = calm > PATIENCE && now - book.changed > PATIENCE;
        for epoch in book.epochs.iter_mut().filter(|e| e.until.is_none() && !stays(&e.source)) {
            epoch.until = Some(at);
            let source = epoch.source.plan_source();
            let planned = before.cursor(job, &source).map_or(i64::MIN, |cursor| cursor.0);
            if planned >= at {
                continue;
            }
            epoch.maybe = Some(planned);
            if let Source::Trigger(timed) = &epoch.source
                && is_calm
                && !has_edges
            {
                let due = timed.instants(planned.max(epoch.since), at);
                if let Some(first) = due.first() {
                    return Err(format!(
                        "job {job}, trigger {:?}: {first} was not planned by {at}, and nothing \
                         disturbed the planner for {calm} ms",
                        timed.trigger.name.0
                    ));
                }
            }
        }
        Ok(())
    }

    /// Looks at an action that a command may have changed.
    pub(super) fn on_action(
        &mut self,
        key: ActionKey,
        state: &State,
        now: i64,
    ) -> Result<(), Problem> {
        let at = state.now().0;
        let old = self.seen(key).cloned();
        let Some(action) = state.action(key) else {
            let Some(old) = old.filter(|old| !old.is_gone && !old.state.is_final()) else {
                return Ok(());
            };
            // Ended and dropped by one command, where a job has all it may keep.
            let is_dropped = state.floor(key.job).is_none_or(|floor| floor >= key.nominal);
            let has_expired = key.nominal.plus(state.limits().max_wait).0 <= at;
            if is_dropped && (old.run.is_some() || has_expired || state.job(key.job).is_none()) {
                self.note_end(key.job, &old.triggers, at);
                let book = self.books.entry(key.job).or_default();
                if let Some(seen) = book.seen.get_mut(&key.nominal.0) {
                    // However it ended: it is over.
                    seen.state = ActionState::Success;
                }
                return Ok(());
            }
            if key.nominal.0 <= at || old.run.is_some() {
                return Err(format!("action {key} is gone, but was {:?}", old.state));
            }
            if let Some(seen) = self.books.entry(key.job).or_default().seen.get_mut(&key.nominal.0)
            {
                seen.is_gone = true;
            }
            return Ok(());
        };
        let is_reopened = self.reopened.contains(&key);
        let edges = match &old {
            Some(old) if !old.is_gone && is_reopened => old.edges.clone(),
            Some(old) if !old.is_gone => {
                if old.state.is_final() && old.state != action.state {
                    return Err(format!("{key} was {:?}, is {:?}", old.state, action.state));
                }
                if old.run.is_some() && old.run != action.run {
                    return Err(format!("{key} had run {:?}, has {:?}", old.run, action.run));
                }
                old.edges.clone()
            }
            Some(old) if old.run.is_some() => {
                return Err(format!("{key} is planned again after run {:?}", old.run));
            }
            _ => self.check_new(key, action, state, now)?,
        };
        let is_started = action.run.is_some() && old.as_ref().is_none_or(|old| old.run.is_none());
        let is_held = self.is_action_held(key.job, &action.triggers);
        if is_started && !is_reopened && (at < key.nominal.0 || is_held) {
            return Err(format!("{key} is started at {at}, its job is held: {is_held}"));
        }
        if action.state.is_final() && old.is_none_or(|old| !old.state.is_final()) {
            self.note_end(key.job, &action.triggers, at);
        }
        let triggers = action.triggers.clone();
        let seen = Seen { state: action.state, run: action.run, is_gone: false, edges, triggers };
        self.books.entry(key.job).or_default().seen.insert(key.nominal.0, seen);
        Ok(())
    }

    fn note_end(&mut self, job: JobId, triggers: &[TriggerName], at: i64) {
        let book = self.books.entry(job).or_default();
        for trigger in triggers {
            book.ends.insert(trigger.clone(), at);
        }
    }

    /// A new action is an instant of its job, and one that its policy runs.
    fn check_new(
        &self,
        key: ActionKey,
        action: &Action,
        state: &State,
        now: i64,
    ) -> Result<Vec<JobId>, Problem> {
        let at = state.now().0;
        let nominal = key.nominal.0;
        let Some(book) = self.books.get(&key.job) else {
            return Err(format!("{key} is planned, and there is no such job"));
        };
        let open = book.epochs.iter().filter(|e| e.until.is_none() && e.since < nominal);
        let is_calm = now - self.calm_since > PATIENCE;
        let is_late = at - nominal > MISFIRE_AFTER + PATIENCE;
        let mut is_due = false;
        for epoch in open {
            match &epoch.source {
                Source::Trigger(timed) => {
                    let trigger = &timed.trigger;
                    let is_this = action.triggers.contains(&trigger.name);
                    if !is_this || !timed.is_due_at(nominal) {
                        continue;
                    }
                    let later =
                        || !timed.instants(nominal, at - MISFIRE_AFTER - PATIENCE).is_empty();
                    if is_calm && is_late && !may_run(trigger.misfire, at - nominal, later) {
                        let policy = trigger.misfire;
                        return Err(format!("{key} is planned at {at} in spite of {policy:?}"));
                    }
                    is_due = true;
                }
                Source::Delay(trigger, delay) => {
                    if !action.triggers.contains(&trigger.name) {
                        continue;
                    }
                    if let Some((other, _)) = book.unfinished(&trigger.name) {
                        return Err(format!(
                            "{key} {action:?} is planned while {other} is not over"
                        ));
                    }
                    // A record of the same commit, which is looked at after this, or of the
                    // job's turn to go on after a pause of many.
                    let missed = state.missed_of(key.job);
                    let missed = missed.filter(|missed| missed.trigger == trigger.name);
                    let is_pause = |missed: &Missed| missed.reason == MissedReason::Paused;
                    let gone_on = |m: &Missed| if is_pause(m) { m.to.0 } else { m.at.0 };
                    let left_out = missed.map(gone_on).max().unwrap_or(epoch.since);
                    is_due |=
                        nominal == after(book.delay_base(epoch, trigger).max(left_out), *delay);
                    let is_skipped = trigger.misfire == MisfirePolicy::Skip;
                    if is_calm && is_late && is_skipped {
                        return Err(format!("{key} is planned at {at}, and is to be left out"));
                    }
                }
                Source::Upstream(edges) => {
                    is_due |= edges.iter().all(|up| self.is_there(*up, nominal));
                }
            }
        }
        if !is_due {
            return Err(format!("{key} is planned at {at}, and no rule of its job gives it"));
        }
        // Of jobs whose instants nobody knows ahead it is the newest that was there.
        let edges = book.spec.iter().flat_map(|spec| &spec.depends_on);
        Ok(edges.filter(|edge| !state.looks_at_actions(edge)).map(|edge| edge.job).collect())
    }

    fn is_there(&self, job: JobId, nominal: i64) -> bool {
        let seen = self.books.get(&job).and_then(|book| book.seen.get(&nominal));
        seen.is_some_and(|seen| !seen.is_gone)
    }

    /// A range that will not run was recorded.
    pub(super) fn on_missed(&mut self, missed: &Missed) -> Result<(), Problem> {
        let Some(book) = self.books.get_mut(&missed.job) else { return Ok(()) };
        if book.missed.contains(missed) {
            return Ok(());
        }
        book.missed.push(missed.clone());
        if missed.reason == MissedReason::Paused {
            return Ok(());
        }
        let is_of_it = |e: &&Epoch| e.source.is_of(&missed.trigger) && e.until.is_none();
        let of_it = book.epochs.iter().rfind(|e| is_of_it(e)).cloned();
        let (from, to, at) = (missed.from.0, missed.to.0, missed.at.0);
        let (timed, since) = match of_it {
            Some(Epoch { source: Source::Trigger(timed), since, .. }) => (timed, since),
            Some(Epoch { source: Source::Delay(trigger, _), .. }) => {
                book.ends.insert(trigger.name.clone(), at);
                let is_right = trigger.misfire == MisfirePolicy::Skip
                    && at - to > MISFIRE_AFTER
                    && (from == to && missed.count == 1);
                return if is_right { Ok(()) } else { Err(format!("{missed:?} of {trigger:?}")) };
            }
            _ => return Err(format!("{missed:?} of a trigger that is not there")),
        };
        let trigger = &timed.trigger;
        let instants = timed.instants((from - 1).max(since), to);
        if instants.len() as u64 != missed.count {
            return Err(format!("{missed:?}, but there are {} instants", instants.len()));
        }
        let misfires = timed.instants(to, at - MISFIRE_AFTER);
        let is_right = at - to > MISFIRE_AFTER
            && match trigger.misfire {
                MisfirePolicy::FireAll => at - to > DAY || misfires.len() >= 1_000,
                MisfirePolicy::FireNow => !misfires.is_empty(),
                MisfirePolicy::Skip => true,
            };
        if is_right { Ok(()) } else { Err(format!("{missed:?} in spite of {:?}", trigger.misfire)) }
    }

    /// Everything that was due up to cluster time `end` is there.
    pub(super) fn check_all(&self, end: i64) -> Result<(), Problem> {
        for (job, book) in &self.books {
            for epoch in &book.epochs {
                self.check_epoch(*job, book, epoch, end)?;
            }
        }
        Ok(())
    }

    fn check_epoch(&self, job: JobId, book: &Book, epoch: &Epoch, end: i64) -> Result<(), Problem> {
        let until = epoch.until.unwrap_or(end).min(end);
        let due: Vec<i64> = match &epoch.source {
            Source::Trigger(timed) => timed.instants(epoch.since, until),
            Source::Delay(trigger, delay) => {
                // The next one, if the last one is over.
                let next = after(book.delay_base(epoch, trigger), *delay);
                let is_expected = epoch.until.is_none() && book.unfinished(&trigger.name).is_none();
                Some(next).filter(|next| is_expected && *next <= until).into_iter().collect()
            }
            Source::Upstream(edges) => {
                let first = edges.first().and_then(|first| self.books.get(first));
                let seen = first.into_iter().flat_map(|book| book.seen.keys().copied());
                seen.filter(|t| *t > epoch.since && *t <= until)
                    .filter(|t| edges.iter().all(|up| self.is_there(*up, *t)))
                    .collect()
            }
        };
        let is_missed = |t: i64| {
            book.missed.iter().any(|missed| {
                epoch.source.is_of(&missed.trigger) && (missed.from.0..=missed.to.0).contains(&t)
            })
        };
        let is_maybe = |t: i64| {
            epoch.maybe.is_some_and(|from| t > from) || epoch.unsure.is_some_and(|to| t <= to)
        };
        let absent: BTreeSet<i64> = due
            .iter()
            .copied()
            .filter(|t| !self.is_there(job, *t) && !is_maybe(*t) && !is_missed(*t))
            .collect();
        if let Some(first) = absent.first() {
            return Err(format!(
                "job {job}: of {} instants {} have no action and no record, the first is {first} \
                 ({}), by {:?} from {} to {until}",
                due.len(),
                absent.len(),
                UtcMillis(*first),
                epoch.source,
                epoch.since,
            ));
        }
        Ok(())
    }

    /// How many actions were ever seen.
    pub(super) fn count(&self) -> usize {
        self.books.values().map(|book| book.seen.len()).sum()
    }
}
