//! Which actions there must be, from what users committed and the calendar of
//! this folder: each due instant once, none missing, none early, none that nobody
//! asked for. Nothing of the product's planning is called.
//!
//! The one thing taken from the product is how far a source was planned when an
//! edit cut it off: what lay before that edit and was not planned yet is given up
//! by design. It excuses only what a disturbance explains.

use std::collections::{BTreeMap, BTreeSet};

use horai_core::ids::{ActionKey, JobId, RunId};
use horai_core::machine::command::PlanSource;
use horai_core::machine::state::State;
use horai_core::model::action::{Action, ActionState, Missed, MissedReason};
use horai_core::model::job::{JobSpec, MisfirePolicy, TriggerSpec};

use super::calendar::{Cron, Zone};
use super::replicas::Problem;

/// Later than this is a misfire: the cluster's setting in these worlds.
const MISFIRE_AFTER: i64 = 60_000;
const DAY: i64 = 86_400_000;
/// A new leader plans what is missing within this time.
const PATIENCE: i64 = 5_000;

/// Where instants come from, between two changes of a job.
#[derive(Debug, Clone, PartialEq)]
enum Source {
    Trigger(Box<TriggerSpec>, Cron, Zone),
    Upstream(Vec<JobId>),
}

#[derive(Debug, Clone)]
struct Epoch {
    source: Source,
    /// Instants after this, up to `until`.
    since: i64,
    until: Option<i64>,
    /// Instants after this, up to `until`, may be there or not.
    maybe: Option<i64>,
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
}

#[derive(Debug, Default)]
struct Book {
    spec: Option<JobSpec>,
    is_paused: bool,
    epochs: Vec<Epoch>,
    seen: BTreeMap<i64, Seen>,
    missed: Vec<Missed>,
    /// When the definition or pause changed last, true time.
    changed: i64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Fires {
    books: BTreeMap<JobId, Book>,
    /// Every expression that was ever written.
    pub(super) crons: BTreeMap<String, Cron>,
    /// Since when nothing has disturbed the planner, true time.
    pub(super) calm_since: i64,
}

fn zone(name: Option<&str>) -> Zone {
    let found = Zone::ALL.into_iter().find(|zone| Some(zone.name()) == name);
    found.unwrap_or(Zone::Utc)
}

impl Fires {
    pub(super) fn seen(&self, key: ActionKey) -> Option<&Seen> {
        self.books.get(&key.job)?.seen.get(&key.nominal.0)
    }

    fn sources(&self, spec: &JobSpec) -> Vec<Source> {
        let edges: Vec<JobId> = spec.depends_on.iter().map(|edge| edge.job).collect();
        if spec.triggers.is_empty() && !edges.is_empty() {
            return vec![Source::Upstream(edges)];
        }
        let source = |trigger: &TriggerSpec| {
            let horai_core::model::job::TriggerKind::Cron { expression } = &trigger.kind else {
                panic!("the worlds' triggers are crons: {trigger:?}");
            };
            let zone = zone(trigger.zone.as_deref().or(spec.zone.as_deref()));
            Source::Trigger(Box::new(trigger.clone()), self.crons[expression].clone(), zone)
        };
        spec.triggers.iter().filter(|t| t.enabled).map(source).collect()
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
        let sources = self.sources(spec);
        let old = self.books.entry(job).or_default().spec.replace(spec.clone());
        let old_edges = old.map_or(Vec::new(), |old| old.depends_on);
        let has_new_edges = old_edges != spec.depends_on;
        let stays = |source: &Source| sources.contains(source) && !has_new_edges;
        self.close(job, !old_edges.is_empty(), before, at, now, stays)?;
        let book = self.books.entry(job).or_default();
        book.changed = now;
        if !book.is_paused {
            for source in sources {
                let is_open = |e: &Epoch| e.until.is_none() && e.source == source;
                if !book.epochs.iter().any(is_open) {
                    book.epochs.push(Epoch { source, since: at, until: None, maybe: None });
                }
            }
        }
        Ok(())
    }

    /// A job was paused, or deleted.
    pub(super) fn on_end(
        &mut self,
        job: JobId,
        before: &State,
        at: i64,
        now: i64,
    ) -> Result<(), Problem> {
        let Some(book) = self.books.get_mut(&job).filter(|book| !book.is_paused) else {
            return Ok(());
        };
        book.is_paused = true;
        book.changed = now;
        let has_edges = book.spec.as_ref().is_none_or(|spec| !spec.depends_on.is_empty());
        self.close(job, has_edges, before, at, now, |_| false)
    }

    pub(super) fn on_resume(&mut self, job: JobId, at: i64, now: i64) {
        let Some(book) = self.books.get(&job).filter(|book| book.is_paused) else { return };
        let sources = book.spec.as_ref().map_or(Vec::new(), |spec| self.sources(spec));
        let book = self.books.entry(job).or_default();
        (book.is_paused, book.changed) = (false, now);
        let epoch = |source| Epoch { source, since: at, until: None, maybe: None };
        book.epochs.extend(sources.into_iter().map(epoch));
    }

    /// Ends what the job planned by until now. With edges (`has_edges`) it was planned
    /// no further than what it waits for.
    fn close(
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
            let source = match &epoch.source {
                Source::Trigger(trigger, ..) => PlanSource::Trigger(trigger.name.clone()),
                Source::Upstream(_) => PlanSource::Dependencies,
            };
            let planned = before.cursor(job, &source).map_or(i64::MIN, |cursor| cursor.0);
            if planned >= at {
                continue;
            }
            epoch.maybe = Some(planned);
            if let Source::Trigger(trigger, cron, zone) = &epoch.source
                && is_calm
                && !has_edges
            {
                let due = cron.instants(*zone, planned.max(epoch.since), at);
                if let Some(first) = due.first() {
                    return Err(format!(
                        "job {job}, trigger {:?}: {first} was not planned by {at}, and nothing \
                         disturbed the planner for {calm} ms",
                        trigger.name.0
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
        let edges = match &old {
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
            _ => self.check_new(key, action, at, now)?,
        };
        let is_started = action.run.is_some() && old.is_none_or(|old| old.run.is_none());
        let is_held = state.job(key.job).is_none_or(|job| job.paused);
        if is_started && (at < key.nominal.0 || is_held) {
            return Err(format!("{key} is started at {at}, its job is held: {is_held}"));
        }
        let seen = Seen { state: action.state, run: action.run, is_gone: false, edges };
        self.books.entry(key.job).or_default().seen.insert(key.nominal.0, seen);
        Ok(())
    }

    /// A new action is an instant of its job, and one that its policy runs.
    fn check_new(
        &self,
        key: ActionKey,
        action: &Action,
        at: i64,
        now: i64,
    ) -> Result<Vec<JobId>, Problem> {
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
                Source::Trigger(trigger, cron, zone) => {
                    let is_this = action.triggers.contains(&trigger.name);
                    if !is_this || !cron.is_due_at(*zone, nominal) {
                        continue;
                    }
                    let later = || cron.instants(*zone, nominal, at - MISFIRE_AFTER - PATIENCE);
                    let may_run = !is_calm
                        || !is_late
                        || match trigger.misfire {
                            MisfirePolicy::FireAll => at - nominal <= DAY + MISFIRE_AFTER,
                            MisfirePolicy::FireNow => later().is_empty(),
                            MisfirePolicy::Skip => false,
                        };
                    if !may_run {
                        let policy = trigger.misfire;
                        return Err(format!("{key} is planned at {at} in spite of {policy:?}"));
                    }
                    is_due = true;
                }
                Source::Upstream(edges) => {
                    is_due |= edges.iter().all(|up| self.is_there(*up, nominal));
                }
            }
        }
        if !is_due {
            return Err(format!("{key} is planned at {at}, and no rule of its job gives it"));
        }
        let spec = book.spec.as_ref();
        Ok(spec.map_or(Vec::new(), |spec| spec.depends_on.iter().map(|e| e.job).collect()))
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
        let of_it = book.epochs.iter().rfind(|e| match &e.source {
            Source::Trigger(trigger, ..) => trigger.name == missed.trigger && e.until.is_none(),
            Source::Upstream(_) => false,
        });
        let Some(Epoch { source: Source::Trigger(trigger, cron, zone), since, .. }) = of_it else {
            return Err(format!("{missed:?} of a trigger that is not there"));
        };
        let (from, to, at) = (missed.from.0, missed.to.0, missed.at.0);
        let instants = cron.instants(*zone, (from - 1).max(*since), to);
        if instants.len() as u64 != missed.count {
            return Err(format!("{missed:?}, but there are {} instants", instants.len()));
        }
        let misfires = cron.instants(*zone, to, at - MISFIRE_AFTER);
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
            Source::Trigger(_, cron, zone) => cron.instants(*zone, epoch.since, until),
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
                let is_of_it = matches!(&epoch.source, Source::Trigger(trigger, ..)
                    if trigger.name == missed.trigger);
                is_of_it && (missed.from.0..=missed.to.0).contains(&t)
            })
        };
        let is_maybe = |t: i64| epoch.maybe.is_some_and(|from| t > from);
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
                horai_core::time::UtcMillis(*first),
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
