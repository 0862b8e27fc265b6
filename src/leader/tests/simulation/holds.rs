//! What else bounds a job's instants, worked out here alone: calendars, the end
//! of a fixed delay's last action, and pauses of groups and of the cluster.

use std::collections::{BTreeMap, BTreeSet};

use horai_core::ids::{GroupPath, JobId, Name, TriggerName};
use horai_core::machine::command::PlanSource;
use horai_core::machine::state::State;
use horai_core::model::calendar::{CalendarDef, CalendarRule};
use horai_core::model::job::{JobSpec, MisfirePolicy, TriggerKind, TriggerSpec};
use horai_core::model::pause::PauseTarget;
use horai_core::model::trigger::TriggerRule;
use horai_core::time::UtcMillis;

use super::calendar::{Cron, Zone};
use super::fires::Fires;

/// When a trigger fires, if nothing bounds it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum When {
    Cron(Cron),
    /// From that time on, each so many milliseconds.
    Each {
        start: i64,
        every: i64,
    },
}

/// A rule in its zone, without what calendars leave out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Timed {
    pub(super) trigger: TriggerSpec,
    pub(super) when: When,
    pub(super) zone: Zone,
    pub(super) without: Vec<CalendarDef>,
}

impl Timed {
    pub(super) fn instants(&self, after: i64, until: i64) -> Vec<i64> {
        let mut found = match &self.when {
            When::Each { start, every } => {
                let first = (after - start).div_euclid(*every) + 1;
                let nth = |n: i64| start + n * every;
                (first.max(0)..).map(nth).take_while(|at| *at <= until).collect()
            }
            When::Cron(cron) => cron.instants(self.zone, after, until),
        };
        found.retain(|at| !self.without.iter().any(|calendar| has(calendar, self.zone, *at)));
        found
    }

    pub(super) fn is_due_at(&self, at: i64) -> bool {
        self.instants(at - 1, at) == [at]
    }

    pub(super) fn names(&self, calendar: &Name) -> bool {
        self.without.iter().any(|without| without.name == *calendar)
    }
}

/// True if the time is in the calendar.
fn has(calendar: &CalendarDef, own: Zone, at: i64) -> bool {
    let zone = if calendar.zone.is_some() { Zone::Utc } else { own };
    let (weekday, second) = zone.wall(at);
    match &calendar.rule {
        CalendarRule::Weekly(days) => days.0 >> weekday & 1 == 1,
        CalendarRule::Daily(ranges) => ranges.iter().any(|(from, to)| {
            let (from, to) = (i64::from(from.seconds()), i64::from(to.seconds()));
            if from <= to { (from..to).contains(&second) } else { second >= from || second < to }
        }),
        other => panic!("the worlds have no such calendar: {other:?}"),
    }
}

/// Where instants come from, between two changes of a job.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Source {
    Trigger(Box<Timed>),
    /// So long after the end of its last action.
    Delay(Box<TriggerSpec>, i64),
    Upstream(Vec<JobId>),
}

impl Source {
    pub(super) fn plan_source(&self) -> PlanSource {
        match self.trigger() {
            Some(trigger) => PlanSource::Trigger(trigger.name.clone()),
            None => PlanSource::Dependencies,
        }
    }

    pub(super) fn trigger(&self) -> Option<&TriggerSpec> {
        match self {
            Self::Trigger(timed) => Some(&timed.trigger),
            Self::Delay(trigger, _) => Some(trigger),
            Self::Upstream(_) => None,
        }
    }

    pub(super) fn is_of(&self, trigger: &TriggerName) -> bool {
        self.trigger().is_some_and(|own| own.name == *trigger)
    }
}

/// What a trigger gives, by every expression and calendar that was ever written.
pub(super) fn source_of(
    trigger: &TriggerSpec,
    spec: &JobSpec,
    crons: &BTreeMap<String, Cron>,
    calendars: &BTreeMap<Name, CalendarDef>,
) -> Source {
    if let Some(delay) = trigger.kind.fixed_delay() {
        return Source::Delay(Box::new(trigger.clone()), i64::try_from(delay.0).unwrap());
    }
    let when = match &trigger.kind {
        TriggerKind::Cron { expression } => When::Cron(crons[expression].clone()),
        TriggerKind::Rule(rule) => match (&rule.rule, rule.start) {
            (TriggerRule::Cron { expression, .. }, _) => When::Cron(crons[expression].clone()),
            (TriggerRule::Interval { every, .. }, Some(start)) => {
                When::Each { start: start.0, every: i64::try_from(every.0).unwrap() }
            }
            other => panic!("the worlds have no such trigger: {other:?}"),
        },
    };
    let zone = zone(trigger.zone.as_deref().or(spec.zone.as_deref()));
    let names = trigger.kind.rule().map_or(&[][..], |rule| &rule.calendars);
    let without = names.iter().map(|name| calendars[name].clone()).collect();
    Source::Trigger(Box::new(Timed { trigger: trigger.clone(), when, zone, without }))
}

/// From where a source goes on that was planned to some place.
pub(super) fn since(job: JobId, source: &Source, before: &State, at: i64) -> i64 {
    before.cursor(job, &source.plan_source()).map_or(at, |cursor| cursor.0.min(at))
}

/// The zone of that name; UTC where none is given.
fn zone(name: Option<&str>) -> Zone {
    let found = Zone::ALL.into_iter().find(|zone| Some(zone.name()) == name);
    found.unwrap_or(Zone::Utc)
}

/// The whole second in which a delay that began at `since` is over.
pub(super) fn after(since: i64, delay: i64) -> i64 {
    (since + delay + 999).div_euclid(1000) * 1000
}

/// True if a policy may run an instant that was planned so late: `later` says
/// whether another one, late as well, lies behind it.
pub(super) fn may_run(policy: MisfirePolicy, late: i64, later: impl FnOnce() -> bool) -> bool {
    const DAY: i64 = 86_400_000;
    match policy {
        MisfirePolicy::FireAll => late <= DAY + 60_000,
        MisfirePolicy::FireNow => !later(),
        MisfirePolicy::Skip => false,
    }
}

/// Who is paused, apart from single jobs.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    is_frozen: bool,
    groups: BTreeMap<GroupPath, bool>,
}

impl Pauses {
    pub(super) fn set(&mut self, target: &PauseTarget, is_on: bool) {
        match target {
            PauseTarget::Cluster => self.is_frozen = is_on,
            PauseTarget::Group(group) => {
                self.groups.insert(group.clone(), is_on);
            }
            other => panic!("the worlds have no such pause: {other:?}"),
        }
    }

    pub(super) fn hold(&self, spec: &JobSpec) -> bool {
        let on = |group: &GroupPath| {
            let path = format!("{}/", group.as_str());
            let is_in = |over: &GroupPath| path.starts_with(&format!("{}/", over.as_str()));
            self.groups.iter().any(|(over, is_on)| *is_on && is_in(over))
        };
        self.is_frozen || spec.group.as_ref().is_some_and(on)
    }
}

impl Fires {
    /// A job makes up for a pause. Those that depend on it waited for it: of their other
    /// upstream jobs retention may have dropped actions meanwhile. Or they were planned
    /// without one of its triggers, and go back to where that stopped, but not to before
    /// they were written.
    pub(super) fn made_up_for_below(&mut self, job: JobId, before: &State, at: i64) {
        if self.is_held(job) {
            return;
        }
        let triggers = self.books[&job].spec.iter().flat_map(|spec| &spec.triggers);
        let cursor = |t: &TriggerSpec| before.cursor(job, &PlanSource::Trigger(t.name.clone()));
        let to = triggers.filter_map(cursor).min().unwrap_or(UtcMillis::MAX);
        let most = before.limits().ended_per_job;
        let below = self.below(job);
        // Whoever depended on it before an edit does not get what it has only now.
        let epochs = self.books.values_mut().flat_map(|book| &mut book.epochs);
        for epoch in epochs.filter(|epoch| epoch.until.is_some_and(|until| until > to.0)) {
            let is_over = |up: &JobId| *up == job || below.contains(up);
            if matches!(&epoch.source, Source::Upstream(edges) if edges.iter().any(is_over)) {
                epoch.unsure = Some(at);
            }
        }
        for id in below {
            let Some(cursor) = before.cursor(id, &PlanSource::Dependencies) else { continue };
            let to_come: BTreeMap<JobId, usize> =
                self.books.keys().map(|up| (*up, self.to_come(*up, cursor.0, at))).collect();
            let may_lose = |up: &JobId| {
                let late = before.actions_of(*up, cursor, UtcMillis(at)).take(most).count();
                // Some end until the planner has come to it.
                2 * (late + to_come[up]) >= most
                    || before.floor(*up).is_some_and(|floor| floor > cursor)
            };
            let written = before.job(id).map_or(UtcMillis(at), |job| job.updated);
            for epoch in &mut self.books.entry(id).or_default().epochs {
                let Source::Upstream(edges) = &epoch.source else { continue };
                let is_open = epoch.until.is_none();
                if to < cursor || (is_open && edges.iter().any(may_lose)) {
                    epoch.unsure = Some(at);
                }
                if to < cursor && is_open {
                    epoch.since = epoch.since.min(to.max(written).0);
                }
            }
        }
    }

    /// How many instants a job may have between two times.
    fn to_come(&self, job: JobId, after: i64, until: i64) -> usize {
        let open = self.books[&job].epochs.iter().filter(|epoch| epoch.until.is_none());
        open.map(|epoch| match &epoch.source {
            Source::Trigger(timed) => timed.instants(after, until).len(),
            Source::Delay(..) => 0,
            Source::Upstream(edges) => {
                edges.iter().map(|up| self.to_come(*up, after, until)).max().unwrap_or(0)
            }
        })
        .sum()
    }

    /// All that depend on a job, through whatever others.
    fn below(&self, job: JobId) -> BTreeSet<JobId> {
        let mut below = BTreeSet::from([job]);
        let mut is_more = true;
        while std::mem::take(&mut is_more) {
            for (id, book) in &self.books {
                let edges = book.spec.iter().flat_map(|spec| &spec.depends_on);
                if edges.map(|edge| edge.job).any(|up| below.contains(&up)) {
                    is_more |= below.insert(*id);
                }
            }
        }
        below.remove(&job);
        below
    }
}
