//! Fixed rates: by elapsed time, and by the units of a calendar.

use jiff::civil::DateTime;
use jiff::{Span as CivilSpan, Unit};

use super::wall;
use super::zone::Zone;
use crate::model::trigger::{CalendarUnit, DstPolicy};
use crate::time::{Span, UtcMillis};

/// Every so much elapsed time from an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FixedRate {
    pub(super) anchor: UtcMillis,
    pub(super) every: Span,
    /// How often after the anchor itself.
    pub(super) repeats: Option<u64>,
}

impl FixedRate {
    pub(super) fn next_after(&self, after: UtcMillis) -> Option<UtcMillis> {
        if after < self.anchor {
            return Some(self.anchor);
        }
        let number = after.since(self.anchor).0.checked_div(self.every.0)? + 1;
        if self.repeats.is_some_and(|repeats| number > repeats) {
            return None;
        }
        let offset = i64::try_from(number.checked_mul(self.every.0)?).ok()?;
        self.anchor.0.checked_add(offset).map(UtcMillis)
    }
}

/// Every so many days, weeks, months or years from an anchor, at its time of
/// day. Each instant is counted from the anchor, so that the end of a short
/// month does not shorten the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CalendarRate {
    pub(super) anchor: UtcMillis,
    pub(super) every: u32,
    pub(super) unit: CalendarUnit,
}

impl CalendarRate {
    pub(super) fn next_after(
        &self,
        zone: &Zone,
        dst: DstPolicy,
        after: UtcMillis,
    ) -> Option<UtcMillis> {
        if let Some(every) = self.elapsed() {
            let rate = FixedRate { anchor: self.anchor, every, repeats: None };
            return rate.next_after(after);
        }
        if after < self.anchor {
            return Some(self.anchor);
        }
        let first = wall::local(zone, self.anchor)?;
        let now = wall::local(zone, after)?;
        // Two before what the calendar says: a change of the clocks moves an
        // instant by less than a unit, and a short month by less than another.
        let mut number = self.units_between(first, now)?.saturating_sub(2);
        loop {
            let candidate = self.local(first, number)?;
            let found = if number == 0 {
                [Some(self.anchor), None]
            } else {
                wall::instants(zone, candidate, dst)
            };
            if let Some(next) = found.into_iter().flatten().find(|at| *at > after) {
                return Some(next);
            }
            number += 1;
        }
    }

    /// The units that do not care for clocks.
    fn elapsed(&self) -> Option<Span> {
        let seconds = match self.unit {
            CalendarUnit::Second => 1,
            CalendarUnit::Minute => 60,
            CalendarUnit::Hour => 3600,
            CalendarUnit::Day | CalendarUnit::Week | CalendarUnit::Month | CalendarUnit::Year => {
                return None;
            }
        };
        Some(Span::secs(seconds).times(u64::from(self.every)))
    }

    /// The `number`-th local time; the end of a month that is too short.
    fn local(&self, first: DateTime, number: i64) -> Option<DateTime> {
        let units = number.checked_mul(i64::from(self.every))?;
        let span = CivilSpan::new();
        let span = match self.unit {
            CalendarUnit::Week => span.try_weeks(units),
            CalendarUnit::Month => span.try_months(units),
            CalendarUnit::Year => span.try_years(units),
            _ => span.try_days(units),
        };
        first.checked_add(span.ok()?).ok()
    }

    /// How many whole steps lie between two local times.
    fn units_between(&self, first: DateTime, now: DateTime) -> Option<i64> {
        let unit = match self.unit {
            CalendarUnit::Week => Unit::Week,
            CalendarUnit::Month => Unit::Month,
            CalendarUnit::Year => Unit::Year,
            _ => Unit::Day,
        };
        let span = first.until((unit, now)).ok()?;
        let units = match self.unit {
            CalendarUnit::Week => i64::from(span.get_weeks()),
            CalendarUnit::Month => i64::from(span.get_months()),
            CalendarUnit::Year => i64::from(span.get_years()),
            _ => i64::from(span.get_days()),
        };
        Some((units / i64::from(self.every.max(1))).max(0))
    }
}

/// The second that an instant lies in: live triggers fire at whole seconds.
pub(super) fn whole_second(at: UtcMillis) -> UtcMillis {
    UtcMillis(at.0 - at.0.rem_euclid(1000))
}

/// Where the years end for which calendars and zones are computed with: 2300.
const YEARS_END: i64 = 10_413_792_000_000;

/// True if it is an instant of the years 1970 to 2299.
pub(super) fn is_usable(at: UtcMillis) -> bool {
    (0..YEARS_END).contains(&at.0)
}
