//! A trigger's definition, read: its rule, its zone and what bounds it. What the
//! planner keeps for each trigger, so that texts are parsed once a revision.

use jiff::Timestamp;
use jiff::tz::AmbiguousOffset;

use super::calendar::{Calendar, CalendarError, Verdict};
use super::cron::{CronError, CronExpr, CronRule, Spread};
use super::daily_window::DailyWindow;
use super::interval::{CalendarRate, FixedRate, is_usable, whole_second};
use super::next_fire;
use super::zone::{Zone, ZoneError};
use crate::ids::{JobId, Name, TriggerName};
use crate::model::calendar::CalendarDef;
use crate::model::job::{TriggerKind, TriggerSpec};
use crate::model::trigger::{DstPolicy, RuleSpec, TriggerRule};
use crate::time::{Span, UtcMillis};

/// A rule that gives instants, in a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    rule: Rule,
    zone: Zone,
    dst: DstPolicy,
    start: Option<UtcMillis>,
    end: Option<UtcMillis>,
    calendars: Vec<Calendar>,
    jitter: Span,
    seed: u64,
}

/// The kinds of triggers, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Cron(CronExpr),
    FixedRate(FixedRate),
    CalendarRate(CalendarRate),
    DailyWindow(DailyWindow),
    /// A while after the last action's end; see [`Schedule::next_after`].
    FixedDelay(Span),
    /// One instant.
    One(UtcMillis),
}

/// Why a trigger cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Its expression.
    #[error(transparent)]
    Cron(CronError),
    /// Its zone, or the one it inherits.
    #[error(transparent)]
    Zone(ZoneError),
    /// One of its calendars.
    #[error(transparent)]
    Calendar(CalendarError),
    /// Another field.
    #[error("{value:?} {problem}")]
    Field {
        /// Which, as it is written in a definition.
        field: &'static str,
        /// What stands there.
        value: String,
        /// What is wrong, and what would be right.
        problem: &'static str,
    },
}

impl ScheduleError {
    /// The field at fault, as it is written in a definition.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::Cron(_) => "cron",
            Self::Zone(_) => "zone",
            Self::Calendar(_) => "calendars",
            Self::Field { field, .. } => field,
        }
    }
}

/// Whose trigger is read, and what it inherits.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The job's number.
    pub job: JobId,
    /// The job's zone.
    pub job_zone: Option<&'a str>,
    /// The cluster's zone.
    pub default_zone: &'a str,
    /// What rates without a start are counted from where the machine has not
    /// filled that in: in definitions that are only checked.
    pub anchor: UtcMillis,
    /// Finds calendars.
    pub calendars: &'a dyn Fn(&Name) -> Option<&'a CalendarDef>,
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("job", &self.job).finish_non_exhaustive()
    }
}

/// Excluded instants looked at for one that is allowed: more than a year of
/// minutes. A calendar that excludes longer than that excludes for ever.
const MAX_EXCLUDED: u32 = 550_000;
/// A fixed delay is put off so many times, from one end of an excluded stretch to the
/// next; calendars that leave nothing allowed between them allow nothing ever.
const MAX_PUT_OFF: u32 = 20_000;

/// So many are passed over, and then no more.
pub(super) fn at_most(mut count: u32) -> impl FnMut(UtcMillis) -> bool {
    move |_| {
        let goes_on = count > 0;
        count = count.saturating_sub(1);
        goes_on
    }
}

/// What a search for the next instant came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is this one.
    At(UtcMillis),
    /// None up to and with this one; further was not looked.
    NoneUpTo(UtcMillis),
    /// There is no more.
    Never,
}

impl Schedule {
    /// A cron expression in a zone.
    #[must_use]
    pub fn cron(expression: CronExpr, zone: Zone) -> Self {
        Self::new(Rule::Cron(expression), zone)
    }

    fn new(rule: Rule, zone: Zone) -> Self {
        Self {
            rule,
            zone,
            dst: DstPolicy::Smart,
            start: None,
            end: None,
            calendars: Vec::new(),
            jitter: Span::ZERO,
            seed: 0,
        }
    }

    /// Reads a trigger of a job that names no calendars, and whose number does
    /// not matter. The nearest zone holds: the trigger's, the job's, the cluster's.
    ///
    /// # Errors
    /// [`ScheduleError`] for the first field that is not valid.
    pub fn of(
        trigger: &TriggerSpec,
        job_zone: Option<&str>,
        default_zone: &str,
    ) -> Result<Self, ScheduleError> {
        let (job, anchor) = (JobId(0), UtcMillis(0));
        let context = Context { job, job_zone, default_zone, anchor, calendars: &|_| None };
        Self::read(trigger, context)
    }

    /// Reads a trigger of a job with everything that bounds it.
    ///
    /// # Errors
    /// [`ScheduleError`] for the first field that is not valid.
    pub fn read(trigger: &TriggerSpec, context: Context<'_>) -> Result<Self, ScheduleError> {
        let zone = trigger.zone.as_deref().or(context.job_zone).unwrap_or(context.default_zone);
        let zone = Zone::parse(zone).map_err(ScheduleError::Zone)?;
        match &trigger.kind {
            TriggerKind::Cron { expression } => {
                let cron = CronExpr::parse(expression).map_err(ScheduleError::Cron)?;
                Ok(Self::cron(cron, zone))
            }
            TriggerKind::Rule(rule) => Self::read_bounded(&trigger.name, rule, zone, context),
        }
    }

    fn read_bounded(
        name: &TriggerName,
        trigger: &RuleSpec,
        zone: Zone,
        context: Context<'_>,
    ) -> Result<Self, ScheduleError> {
        let bounds = [("start", trigger.start), ("end", trigger.end)];
        for (field, at) in bounds.into_iter().filter_map(|(f, at)| Some((f, at?))) {
            check_instant(field, at)?;
        }
        if let (Some(start), Some(end)) = (trigger.start, trigger.end)
            && end <= start
        {
            return Err(field_error("end", end, "is not after the start: nothing would fire"));
        }
        if trigger.jitter > RuleSpec::MAX_JITTER {
            return Err(field_error("jitter", trigger.jitter, "is too long: at most 24h"));
        }
        if trigger.calendars.len() > RuleSpec::MAX_CALENDARS {
            let count = trigger.calendars.len();
            return Err(field_error("calendars", count, "are too many: at most 16, or chain them"));
        }
        let rule = Self::read_rule(name, trigger, context)?;
        let calendars = trigger
            .calendars
            .iter()
            .map(|name| Calendar::read(name, &zone, context.calendars))
            .collect::<Result<_, _>>()
            .map_err(ScheduleError::Calendar)?;
        Ok(Self {
            dst: trigger.dst,
            start: trigger.start,
            end: trigger.end,
            calendars,
            jitter: trigger.jitter,
            seed: seed(context.job, name),
            ..Self::new(rule, zone)
        })
    }

    fn read_rule(
        name: &TriggerName,
        trigger: &RuleSpec,
        context: Context<'_>,
    ) -> Result<Rule, ScheduleError> {
        let held_since = trigger.anchor.unwrap_or(context.anchor);
        let anchor = trigger.start.unwrap_or(whole_second(held_since));
        let rate = |field, every: Span, repeats| {
            let wrong = |problem| Err(field_error(field, every, problem));
            if every.0 == 0 || !every.0.is_multiple_of(1000) {
                return wrong("must be whole seconds, at least 1s");
            }
            if every > MAX_EVERY {
                return wrong("is too long: at most 36500d");
            }
            Ok(FixedRate { anchor, every, repeats })
        };
        Ok(match &trigger.rule {
            TriggerRule::Cron { expression, dialect } => {
                let spread = Spread::of(context.job, name);
                match CronRule::parse(expression, *dialect, spread).map_err(ScheduleError::Cron)? {
                    CronRule::Clock(cron) => Rule::Cron(cron),
                    CronRule::Every(every) => Rule::FixedRate(rate("cron", every, None)?),
                }
            }
            TriggerRule::Interval { every, repeats } => {
                Rule::FixedRate(rate("interval", *every, *repeats)?)
            }
            TriggerRule::FixedDelay { delay } => {
                Rule::FixedDelay(rate("fixed_delay", *delay, None)?.every)
            }
            TriggerRule::CalendarInterval { every, unit } => {
                if !(1..=MAX_UNITS).contains(every) {
                    return Err(field_error(
                        "calendar_interval",
                        every,
                        "must be 1 to 1000000 units",
                    ));
                }
                Rule::CalendarRate(CalendarRate { anchor, every: *every, unit: *unit })
            }
            TriggerRule::DailyWindow { every, from, to, weekdays } => {
                let every = rate("daily_window.every", *every, None)?.every;
                if every > Span::secs(86_400) {
                    return Err(field_error(
                        "daily_window.every",
                        every,
                        "is too long: at most 24h",
                    ));
                }
                if weekdays.is_empty() {
                    let problem = "names no weekday: name at least one";
                    return Err(field_error("daily_window.weekdays", "", problem));
                }
                Rule::DailyWindow(DailyWindow { every, from: *from, to: *to, weekdays: *weekdays })
            }
            TriggerRule::Once { at } => {
                check_instant("once", *at)?;
                Rule::One(*at)
            }
        })
    }

    /// An error for an expression that does something else than it seems to say:
    /// what a definition is refused for, and what was committed is not.
    ///
    /// # Errors
    /// [`ScheduleError`], with the place and what would be right.
    pub fn strict(self) -> Result<Self, ScheduleError> {
        if let Rule::Cron(cron) = &self.rule {
            cron.clone().strict().map_err(ScheduleError::Cron)?;
        }
        Ok(self)
    }

    /// The zone whose wall clock it follows.
    #[must_use]
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The first instant strictly after `after`; none if there is no more.
    ///
    /// A fixed delay is counted from `after` itself, as if the last action had
    /// ended then, unless its start is still to come.
    #[must_use]
    pub fn next_after(&self, after: UtcMillis) -> Option<UtcMillis> {
        match self.look_after(after, UtcMillis::MAX, at_most(MAX_EXCLUDED)) {
            Next::At(at) => Some(at),
            Next::NoneUpTo(_) | Next::Never => None,
        }
    }

    /// The same for those who must not wait long: looks no further than `until`, and
    /// only as long as `passes` is true of the excluded instants that it comes by. A
    /// fixed delay is looked for to its end.
    #[must_use]
    pub fn look_after(
        &self,
        after: UtcMillis,
        until: UtcMillis,
        mut passes: impl FnMut(UtcMillis) -> bool,
    ) -> Next {
        if let Rule::FixedDelay(delay) = &self.rule {
            return self.next_after_end(after, *delay).map_or(Next::Never, Next::At);
        }
        // The start itself may fire.
        let mut from = self.start.map_or(after, |start| after.max(UtcMillis(start.0 - 1)));
        loop {
            let Some(found) = self.next_of_rule(from) else { return Next::Never };
            if self.end.is_some_and(|end| found >= end) {
                return Next::Never;
            }
            if found > until {
                return Next::NoneUpTo(until);
            }
            match self.allowed_from(found) {
                Some(at) if at == found => return Next::At(found),
                // An instant that is excluded is left out, not put off.
                Some(later) => from = UtcMillis(later.0 - 1),
                None => return Next::Never,
            }
            if !passes(found) {
                return Next::NoneUpTo(from.min(until));
            }
        }
    }

    fn next_of_rule(&self, after: UtcMillis) -> Option<UtcMillis> {
        match &self.rule {
            Rule::Cron(cron) => {
                let after = self.past_first_pass(after);
                next_fire::next_after(cron, &self.zone, self.dst, after)
            }
            Rule::FixedRate(rate) => rate.next_after(after),
            Rule::CalendarRate(rate) => rate.next_after(&self.zone, self.dst, after),
            Rule::DailyWindow(window) => window.next_after(&self.zone, self.dst, after),
            Rule::One(at) => Some(*at).filter(|at| *at > after),
            Rule::FixedDelay(delay) => Some(after.plus(*delay)),
        }
    }

    /// Quartz goes on by the clock on the wall, and after a moment in the first pass of
    /// an overlap does without earlier times of the second, the only one that fires for
    /// it. A plan may be taken up at any moment, and must not lose those: then all that
    /// the overlap shows is looked at.
    fn past_first_pass(&self, after: UtcMillis) -> UtcMillis {
        let begin = || {
            let at = Timestamp::from_millisecond(after.0).ok()?;
            let local = self.zone.rules().to_datetime(at);
            let fold = self.zone.rules().to_ambiguous_timestamp(local).offset();
            let AmbiguousOffset::Fold { before, after: later } = fold else { return None };
            if self.zone.rules().to_offset(at) != before {
                return None;
            }
            let change = next_fire::next_change(&self.zone, at)?;
            let length = i64::from(before.seconds() - later.seconds());
            Some(UtcMillis((change - length - 1).checked_mul(1000)?))
        };
        let is_quartz = self.dst == DstPolicy::Quartz;
        is_quartz.then(begin).flatten().map_or(after, |begin| begin.min(after))
    }

    /// `at` if all calendars allow it, else the first moment to ask again.
    fn allowed_from(&self, at: UtcMillis) -> Option<UtcMillis> {
        let mut latest = at;
        for calendar in &self.calendars {
            match calendar.ask(at) {
                Verdict::Allowed => {}
                Verdict::ExcludedUntil(until) => latest = latest.max(until),
                Verdict::ExcludedForEver => return None,
            }
        }
        Some(latest)
    }

    /// The first whole second after the delay, and not before the start, that the
    /// calendars allow: unlike other rules, this one can be put off.
    fn next_after_end(&self, ended: UtcMillis, delay: Span) -> Option<UtcMillis> {
        let mut at = match self.start {
            Some(start) if start > ended => start,
            _ => whole_second(ended.plus(delay).plus(Span(999))),
        };
        for _ in 0..MAX_PUT_OFF {
            if self.end.is_some_and(|end| at >= end) || !is_usable(at) {
                return None;
            }
            match self.allowed_from(at)? {
                allowed if allowed == at => return Some(at),
                later => at = whole_second(later.plus(Span(999))),
            }
        }
        None
    }

    /// When an action for `nominal` may start: later by a share of the jitter
    /// that is always the same, and before the next instant.
    #[must_use]
    pub fn due(&self, nominal: UtcMillis) -> UtcMillis {
        if self.jitter == Span::ZERO {
            return nominal;
        }
        let latest = nominal.plus(self.jitter).plus(Span(1));
        let gap = match self.look_after(nominal, latest, at_most(MAX_EXCLUDED)) {
            Next::At(next) => next.since(nominal).0,
            Next::NoneUpTo(_) | Next::Never => u64::MAX,
        };
        // The jitter itself may be drawn, the next instant may not.
        let choices = self.jitter.0.saturating_add(1).min(gap).max(1);
        let bytes = nominal.0.to_le_bytes();
        let share = xxhash_rust::xxh3::xxh3_64_with_seed(&bytes, self.seed) % choices;
        nominal.plus(Span(share))
    }

    /// All instants after `after`, ascending.
    pub fn after(&self, after: UtcMillis) -> impl Iterator<Item = UtcMillis> + '_ {
        std::iter::successors(self.next_after(after), |last| self.next_after(*last))
    }
}

/// Longer rates would pass the last year at once.
const MAX_EVERY: Span = Span::secs(36_500 * 86_400);
/// The most units of a calendar interval.
const MAX_UNITS: u32 = 1_000_000;

/// Instants are named by their second.
fn check_instant(field: &'static str, at: UtcMillis) -> Result<(), ScheduleError> {
    if !is_usable(at) {
        return Err(field_error(field, at, "is not an instant of the years 1970 to 2299"));
    }
    if at != whole_second(at) {
        return Err(field_error(field, at, "must be a whole second: leave its fraction out"));
    }
    Ok(())
}

fn field_error(field: &'static str, value: impl ToString, problem: &'static str) -> ScheduleError {
    ScheduleError::Field { field, value: value.to_string(), problem }
}

/// What a trigger's jitter is drawn by.
fn seed(job: JobId, trigger: &TriggerName) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(trigger.0.as_bytes(), job.0.rotate_left(32))
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
