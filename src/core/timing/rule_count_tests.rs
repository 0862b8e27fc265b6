//! When rules fire and what calendars allow, counted out by their definitions. All of
//! it rests on how far a clock is from UTC, and counts days and months by hand; of
//! the rules' own code it uses nothing.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::{Date, date};

use super::super::super::*;
use super::{DAY, HOUR};
use crate::model::calendar::{CalendarDate, CalendarRule};
use crate::model::job::MisfirePolicy;
use crate::model::trigger::CalendarUnit;

/// A zone's clock as it is far from UTC, in seconds.
pub(super) struct Clock(Zone);

impl Clock {
    pub(super) fn of(zone: &str) -> Self {
        Self(Zone::parse(zone).unwrap())
    }

    fn offset(&self, at: i64) -> i64 {
        i64::from(self.0.rules().to_offset(Timestamp::from_second(at).unwrap()).seconds())
    }

    /// What it shows, counted as if it were UTC.
    fn local(&self, at: i64) -> i64 {
        at + self.offset(at)
    }

    /// When it shows that: twice in an overlap, never in a gap.
    fn shown(&self, local: i64) -> BTreeSet<i64> {
        let offsets = [local - DAY, local + DAY].map(|at| self.offset(at));
        let instants = offsets.map(|offset| local - offset);
        instants.into_iter().filter(|at| self.local(*at) == local).collect()
    }

    /// The first instant behind the gap that a local time lies in.
    fn end_of_gap(&self, local: i64) -> i64 {
        let quarter = local.div_euclid(900) * 900;
        let mut around = (quarter - 2 * DAY..quarter + 2 * DAY).step_by(900);
        around.find(|at| self.offset(at - 1) < self.offset(*at)).unwrap()
    }

    /// When a local time fires, by the words of each policy.
    fn fires(&self, local: i64, dst: DstPolicy) -> Vec<i64> {
        let shown: Vec<i64> = self.shown(local).into_iter().collect();
        match (dst, &shown[..]) {
            (DstPolicy::Smart, []) => vec![self.end_of_gap(local)],
            (DstPolicy::Smart | DstPolicy::Skip, [first, ..]) => vec![*first],
            (DstPolicy::Quartz, [.., last]) => vec![*last],
            _ => shown,
        }
    }
}

pub(super) fn civil(local: i64) -> (Date, i64) {
    let days = jiff::Span::new().days(local.div_euclid(DAY));
    (date(1970, 1, 1).checked_add(days).unwrap(), local.rem_euclid(DAY))
}

fn days_since_1970(day: Date) -> i64 {
    i64::from(date(1970, 1, 1).until(day).unwrap().get_days())
}

/// So many months later; the end of a month that is too short.
fn months_later(local: i64, months: i64) -> i64 {
    let (day, time) = civil(local);
    let month = i64::from(day.year()) * 12 + i64::from(day.month()) - 1 + months;
    let (year, month) = (month.div_euclid(12), month.rem_euclid(12) + 1);
    let first = date(year.try_into().unwrap(), month.try_into().unwrap(), 1);
    let number = i64::from(day.day().min(first.days_in_month()));
    (days_since_1970(first) + number - 1) * DAY + time
}

/// What an expression of the calendars here has in it.
pub(super) type InCron = (&'static str, fn(Date, i64) -> bool);

pub(super) const CRONS: [InCron; 6] = [
    ("* * 0-1,18-23 ? * *", |_, time| !(2 * HOUR..18 * HOUR).contains(&time)),
    ("* * 2 * * ?", |_, time| time / HOUR == 2),
    ("* 0-29 * * * ?", |_, time| time / 60 % 60 < 30),
    ("0-10 0/5 * * * ?", |_, time| time % 60 <= 10 && time / 60 % 5 == 0),
    ("* * * ? * SAT,SUN", |day, _| matches!(day.weekday().to_sunday_zero_offset(), 0 | 6)),
    ("* * * 28-31 * ? 2020-2024", |day, _| day.day() >= 28 && (2020..=2024).contains(&day.year())),
];

/// True if a calendar has by itself nothing against an instant of its clock.
pub(super) fn allows(def: &CalendarDef, clock: &Clock, at: i64) -> bool {
    let (day, time) = civil(clock.local(at));
    let [month, number] = [day.month(), day.day()].map(i8::unsigned_abs);
    let is_in = match &def.rule {
        CalendarRule::Dates(dates) => dates.contains(&CalendarDate::from(day)),
        CalendarRule::Weekly(days) => days.0 & 1 << day.weekday().to_sunday_zero_offset() != 0,
        CalendarRule::Monthly(days) => days.contains(&number),
        CalendarRule::Annual(days) => days.contains(&(month, number)),
        CalendarRule::Daily(ranges) => ranges.iter().any(|(from, to)| {
            let [from, to] = [from, to].map(|time| i64::from(time.seconds()));
            if from < to { (from..to).contains(&time) } else { !(to..from).contains(&time) }
        }),
        CalendarRule::Cron { expression, .. } => {
            let known = CRONS.iter().find(|(text, _)| text == expression);
            known.unwrap().1(day, time)
        }
    };
    is_in == def.include_only
}

/// A trigger near a change of the clocks, and when it is looked at.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) zone: &'static str,
    pub(super) spec: RuleSpec,
    /// The time of its commit.
    pub(super) anchor: i64,
    pub(super) calendars: Vec<CalendarDef>,
    pub(super) from: i64,
    pub(super) to: i64,
    /// Moments to look from, in milliseconds after `from`.
    pub(super) probes: Vec<i64>,
}

impl Case {
    pub(super) fn schedule(&self) -> Schedule {
        let spec = TriggerSpec {
            name: TriggerName("t".into()),
            kind: TriggerKind::Rule(Box::new(self.spec.clone())),
            zone: Some(self.zone.to_owned()),
            misfire: MisfirePolicy::FireAll,
            enabled: true,
        };
        let context = Context {
            job: JobId(7),
            job_zone: None,
            default_zone: "UTC",
            anchor: UtcMillis(self.anchor * 1000 + 250),
            calendars: &|name| self.calendars.iter().find(|def| def.name == *name),
        };
        Schedule::read(&spec, context).unwrap()
    }

    /// True of what all calendars allow: those that are named, or are bases of such.
    pub(super) fn is_allowed(&self) -> impl Fn(i64) -> bool + '_ {
        let clock = |def: &CalendarDef| Clock::of(def.zone.as_deref().unwrap_or(self.zone));
        let clocks: Vec<Clock> = self.calendars.iter().map(clock).collect();
        move |at| self.calendars.iter().zip(&clocks).all(|(def, clock)| allows(def, clock, at))
    }

    /// All that fires in `[from, to)`, counted out.
    pub(super) fn enumerate(&self) -> BTreeSet<i64> {
        let start = self.spec.start.map(|at| at.0 / 1000);
        let end = self.spec.end.map_or(i64::MAX, |at| at.0 / 1000).min(self.to);
        let all = self.instants(start.unwrap_or(self.anchor));
        let from = self.from.max(start.unwrap_or(i64::MIN));
        let is_allowed = self.is_allowed();
        all.into_iter().filter(|at| (from..end).contains(at) && is_allowed(*at)).collect()
    }

    /// What the rule alone gives up to `to`, and perhaps somewhat more.
    fn instants(&self, anchor: i64) -> BTreeSet<i64> {
        let clock = Clock::of(self.zone);
        let seconds = |span: Span| i64::try_from(span.0 / 1000).unwrap();
        match &self.spec.rule {
            TriggerRule::Interval { every, repeats } => {
                let all = (anchor..self.to).step_by(usize::try_from(seconds(*every)).unwrap());
                let most = repeats.map_or(usize::MAX, |n| usize::try_from(n).unwrap() + 1);
                all.take(most).collect()
            }
            TriggerRule::CalendarInterval { every, unit } => {
                let first = clock.local(anchor);
                let local = |number: i64| {
                    let units = number * i64::from(*every);
                    match unit {
                        CalendarUnit::Day => first + units * DAY,
                        CalendarUnit::Week => first + units * 7 * DAY,
                        CalendarUnit::Month => months_later(first, units),
                        CalendarUnit::Year => months_later(first, 12 * units),
                        _ => panic!("it is elapsed time"),
                    }
                };
                let elapsed = match unit {
                    CalendarUnit::Second => 1,
                    CalendarUnit::Minute => 60,
                    CalendarUnit::Hour => HOUR,
                    _ => {
                        let locals = (1..).map(local).take_while(|at| *at < self.to + 2 * DAY);
                        let later = locals.flat_map(|at| clock.fires(at, self.spec.dst));
                        return std::iter::once(anchor).chain(later).collect();
                    }
                };
                (anchor..self.to)
                    .step_by(usize::try_from(elapsed).unwrap() * *every as usize)
                    .collect()
            }
            TriggerRule::DailyWindow { every, from, to, weekdays } => {
                let mut found = BTreeSet::new();
                for day in self.from.div_euclid(DAY) - 3..self.to.div_euclid(DAY) + 2 {
                    let weekday = civil(day * DAY).0.weekday().to_sunday_zero_offset();
                    let [opens, closes] =
                        [from, to].map(|time| day * DAY + i64::from(time.seconds()));
                    let closes = if to < from { closes + DAY } else { closes };
                    let open = clock.fires(opens, self.spec.dst);
                    let (Some(open), true) = (open.first(), weekdays.0 & 1 << weekday != 0) else {
                        continue;
                    };
                    // The clock's last word on the end.
                    let close = clock.shown(closes).last().copied();
                    let close = close.unwrap_or_else(|| clock.end_of_gap(closes));
                    found
                        .extend((*open..=close).step_by(usize::try_from(seconds(*every)).unwrap()));
                }
                found
            }
            TriggerRule::Once { at } => [at.0 / 1000].into(),
            TriggerRule::Cron { .. } | TriggerRule::FixedDelay { .. } => panic!("not counted out"),
        }
    }
}
