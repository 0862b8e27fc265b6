//! Calendars, read: does one allow an instant, and from when will it?

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::civil::Date;

use super::cron::{CronError, CronExpr, CronRule, Spread};
use super::daily_window::at;
use super::next_fire::{self, matches, matches_day};
use super::wall;
use super::zone::{Zone, ZoneError};
use crate::ids::Name;
use crate::model::calendar::{CalendarDate, CalendarDef, CalendarRule};
use crate::model::trigger::{DstPolicy, TimeOfDay, Weekdays};
use crate::time::UtcMillis;

/// A calendar with those that it is based on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    zone: Zone,
    rule: Rule,
    include_only: bool,
    base: Option<Arc<Calendar>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Dates(BTreeSet<CalendarDate>),
    Weekly(Weekdays),
    Monthly(BTreeSet<u8>),
    Annual(BTreeSet<(u8, u8)>),
    Daily(Vec<(TimeOfDay, TimeOfDay)>),
    Cron(CronExpr),
}

/// What a calendar says of an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may fire.
    Allowed,
    /// It may not, and nothing may before this; then it must be asked again.
    ExcludedUntil(UtcMillis),
    /// It may not, and nothing may ever again.
    ExcludedForEver,
}

/// Why a calendar cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// There is none of that name.
    #[error("calendar {0} does not exist: create it first, or take the name away")]
    Unknown(Name),
    /// A chain of bases that comes back, or is too long.
    #[error(
        "calendar {0} is based on itself, or on a chain of more than {max}: take a base away",
        max = CalendarDef::MAX_CHAIN
    )]
    Chain(Name),
    /// Nothing is in it, or something that no year has.
    #[error("calendar {name} {problem}: {remedy}")]
    Content {
        /// Which.
        name: Name,
        /// What is wrong.
        problem: &'static str,
        /// What would be right.
        remedy: &'static str,
    },
    /// Its expression.
    #[error("the expression of calendar {name} is not valid")]
    Cron {
        /// Which.
        name: Name,
        /// What is wrong with it.
        source: Box<CronError>,
    },
    /// Its zone.
    #[error("the zone of calendar {name} is not valid")]
    Zone {
        /// Which.
        name: Name,
        /// What is wrong with it.
        source: ZoneError,
    },
}

/// Longer than any gap between two days that a weekly, monthly or annual
/// calendar names: 29 February comes within eight years.
const DAYS_LOOKED_AT: u32 = 9 * 366;
/// More than there are quarters of an hour in the two days and some hours that an
/// expression can match in a row if it leaves out one hour of each day.
const STEPS: u32 = 400;

impl Calendar {
    /// Reads the calendar of that name with its bases; `zone` is the trigger's.
    ///
    /// # Errors
    /// [`CalendarError`] for the first one in the chain that is not valid.
    pub fn read<'a>(
        name: &Name,
        zone: &Zone,
        lookup: &dyn Fn(&Name) -> Option<&'a CalendarDef>,
    ) -> Result<Self, CalendarError> {
        let mut chain = Vec::new();
        let mut next = Some(name);
        while let Some(name) = next {
            let def = lookup(name).ok_or_else(|| CalendarError::Unknown(name.clone()))?;
            chain.push(def);
            if chain.len() > CalendarDef::MAX_CHAIN {
                return Err(CalendarError::Chain(name.clone()));
            }
            next = def.base.as_ref();
        }
        let mut base = None;
        for def in chain.into_iter().rev() {
            base = Some(Arc::new(Self::read_one(def, zone, base)?));
        }
        let read = base.expect("the chain holds at least the calendar itself");
        Ok(Arc::unwrap_or_clone(read))
    }

    fn read_one(
        def: &CalendarDef,
        zone: &Zone,
        base: Option<Arc<Self>>,
    ) -> Result<Self, CalendarError> {
        let zone = match &def.zone {
            Some(own) => Zone::parse(own)
                .map_err(|source| CalendarError::Zone { name: def.name.clone(), source })?,
            None => zone.clone(),
        };
        let wrong = |problem, remedy| {
            Err(CalendarError::Content { name: def.name.clone(), problem, remedy })
        };
        let entries = def.rule.entries();
        if entries == 0 {
            return wrong("has nothing in it", "name at least one day or time");
        }
        if entries > CalendarDef::MAX_ENTRIES {
            return wrong("has more than 10000 entries", "split it and chain the parts");
        }
        let rule = match &def.rule {
            CalendarRule::Dates(dates) => Rule::Dates(dates.clone()),
            CalendarRule::Weekly(days) => Rule::Weekly(*days),
            CalendarRule::Monthly(days) => {
                if days.iter().any(|day| !(1..=31).contains(day)) {
                    return wrong("names a day that no month has", "write 1 to 31");
                }
                Rule::Monthly(days.clone())
            }
            CalendarRule::Annual(days) => {
                // A leap year has all of them.
                let exists = |(month, day): &(u8, u8)| {
                    let (month, day) = (i8::try_from(*month), i8::try_from(*day));
                    matches!((month, day), (Ok(m), Ok(d)) if Date::new(2024, m, d).is_ok())
                };
                if !days.iter().all(exists) {
                    return wrong("names a day that no year has", "write month and day");
                }
                Rule::Annual(days.clone())
            }
            CalendarRule::Daily(ranges) => {
                if ranges.iter().any(|(from, to)| from == to) {
                    return wrong("has a range that ends where it begins", "move one end");
                }
                Rule::Daily(ranges.clone())
            }
            CalendarRule::Cron { expression, dialect } => {
                let refused = |source| CalendarError::Cron {
                    name: def.name.clone(),
                    source: Box::new(source),
                };
                let spread = Spread::default();
                match CronRule::parse(expression, *dialect, spread).map_err(refused)? {
                    CronRule::Clock(cron) => Rule::Cron(cron),
                    CronRule::Every(_) => {
                        return wrong(
                            "needs times on the clock",
                            "write fields: @every has no times",
                        );
                    }
                }
            }
        };
        Ok(Self { zone, rule, include_only: def.include_only, base })
    }

    /// An error for an expression of its own that does something else than it seems to
    /// say: what a calendar is refused for, and what was committed is not. `name` is its.
    ///
    /// # Errors
    /// [`CalendarError::Cron`], with the place and what would be right.
    pub fn strict(self, name: &Name) -> Result<Self, CalendarError> {
        if let Rule::Cron(cron) = &self.rule {
            let wrong =
                |source| CalendarError::Cron { name: name.clone(), source: Box::new(source) };
            cron.clone().strict().map_err(wrong)?;
        }
        Ok(self)
    }

    /// What it says of an instant.
    #[must_use]
    pub fn ask(&self, at: UtcMillis) -> Verdict {
        match self.own(at) {
            Verdict::Allowed => self.base.as_ref().map_or(Verdict::Allowed, |base| base.ask(at)),
            excluded => excluded,
        }
    }

    fn own(&self, at: UtcMillis) -> Verdict {
        let Some(local) = wall::local(&self.zone, at) else { return Verdict::ExcludedForEver };
        let is_in = match &self.rule {
            Rule::Daily(ranges) => in_ranges(ranges, local.time()),
            Rule::Cron(cron) => matches(cron, local),
            rule => rule.has_day(local.date()),
        };
        if is_in == self.include_only {
            return Verdict::Allowed;
        }
        let until = match &self.rule {
            Rule::Daily(ranges) => self.end_of_ranges(ranges, at),
            Rule::Cron(cron) if self.include_only => {
                next_fire::next_after(cron, &self.zone, DstPolicy::Twice, at)
            }
            Rule::Cron(cron) => self.end_of_match(cron, at),
            rule => rule
                .day_after(local.date(), self.include_only)
                .and_then(|day| wall::first_at(&self.zone, day.at(0, 0, 0, 0), at)),
        };
        until.map_or(Verdict::ExcludedForEver, Verdict::ExcludedUntil)
    }

    /// The first instant after `at` that is on the other side of the ranges: where one
    /// begins or ends, or where clocks are changed and go back into one or out of it.
    fn end_of_ranges(
        &self,
        ranges: &[(TimeOfDay, TimeOfDay)],
        at_now: UtcMillis,
    ) -> Option<UtcMillis> {
        let mut day = wall::local(&self.zone, at_now)?.date();
        // A day on the clock can lack a time, but not two days running.
        for _ in 0..4 {
            let mut ends: Vec<UtcMillis> = ranges
                .iter()
                .flat_map(|(from, to)| [*from, *to])
                .filter_map(|time| wall::first_at(&self.zone, at(day, time)?, at_now))
                .collect();
            let tomorrow =
                wall::first_at(&self.zone, at(day.tomorrow().ok()?, TimeOfDay::MIDNIGHT)?, at_now);
            let change = wall::change_after(&self.zone, at_now);
            ends.extend(change.filter(|change| tomorrow.is_some_and(|end| *change <= end)));
            ends.sort_unstable();
            let found = ends.into_iter().find(|end| {
                wall::local(&self.zone, *end)
                    .is_some_and(|local| in_ranges(ranges, local.time()) == self.include_only)
            });
            if found.is_some() {
                return found;
            }
            day = day.tomorrow().ok()?;
        }
        None
    }

    /// The first second after `at` that the expression does not match, or a day up to
    /// which it matches all: by the smallest unit of which it leaves some out.
    fn end_of_match(&self, cron: &CronExpr, at: UtcMillis) -> Option<UtcMillis> {
        let unit =
            match (is_full(cron.seconds(), 60), is_full(cron.minutes(), 60), cron.is_running()) {
                (false, _, _) => 1,
                (true, false, _) => 60,
                // Hours begin at quarters of UTC's in some zones.
                (true, true, false) => 900,
                (true, true, true) => return self.end_of_days(cron, at),
            };
        let mut second = at.0.div_euclid(1000);
        for _ in 0..STEPS {
            second = (second.div_euclid(unit) + 1).checked_mul(unit)?;
            let next = UtcMillis(second.checked_mul(1000)?);
            if !matches(cron, wall::local(&self.zone, next)?) {
                return Some(next);
            }
        }
        None
    }

    /// The same for an expression that matches whole days.
    fn end_of_days(&self, cron: &CronExpr, at: UtcMillis) -> Option<UtcMillis> {
        let mut day = wall::local(&self.zone, at)?.date();
        let first_year = day.year();
        let mut ends = false;
        for _ in 0..DAYS_LOOKED_AT {
            day = day.tomorrow().ok()?;
            ends = !matches_day(cron, day);
            if ends {
                break;
            }
        }
        // In so many years all days there are have come: what is left is the years.
        let is_for_ever = || (first_year..=cron.last_year()).all(|y| cron.year_from(y) == Some(y));
        if !ends && is_for_ever() {
            return None;
        }
        wall::first_at(&self.zone, day.at(0, 0, 0, 0), at)
    }
}

fn is_full(set: u64, size: u32) -> bool {
    set.count_ones() == size
}

fn in_ranges(ranges: &[(TimeOfDay, TimeOfDay)], time: jiff::civil::Time) -> bool {
    let [hour, minute, second] =
        [time.hour(), time.minute(), time.second()].map(|n| u32::from(n.unsigned_abs()));
    let Some(now) = TimeOfDay::new(hour, minute, second) else { return false };
    ranges.iter().any(|(from, to)| {
        if from < to { (*from..*to).contains(&now) } else { now >= *from || now < *to }
    })
}

impl Rule {
    fn has_day(&self, day: Date) -> bool {
        let date = CalendarDate::from(day);
        match self {
            Self::Dates(dates) => dates.contains(&date),
            Self::Weekly(days) => days.has(wall::weekday(day)),
            Self::Monthly(days) => days.contains(&date.day),
            Self::Annual(days) => days.contains(&(date.month, date.day)),
            Self::Daily(_) | Self::Cron(_) => false,
        }
    }

    /// The first day after `day` that is in the set, or is not.
    fn day_after(&self, day: Date, is_in: bool) -> Option<Date> {
        if let (Self::Dates(dates), true) = (self, is_in) {
            // May be far away.
            let next = dates.iter().find(|date| **date > CalendarDate::from(day))?;
            let (month, day) = (i8::try_from(next.month).ok()?, i8::try_from(next.day).ok()?);
            return Date::new(next.year, month, day).ok();
        }
        let mut day = day;
        for _ in 0..DAYS_LOOKED_AT {
            day = day.tomorrow().ok()?;
            if self.has_day(day) == is_in {
                return Some(day);
            }
        }
        // Dates end; the others would have come round.
        None
    }
}

#[cfg(test)]
#[path = "calendar_tests.rs"]
mod tests;
