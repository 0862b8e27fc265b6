//! Periods: stretches of local time as half-open intervals of instants.
//!
//! A period begins at the first instant at which the clock shows its beginning or
//! later, and ends where the next one begins. So there is no instant that lies in
//! none or in two, whatever the clocks do: a day can have 23 or 25 hours, and one
//! that the clocks skip is empty.

use jiff::Span;
use jiff::civil::{Date, DateTime};

use super::wall;
use super::zone::Zone;
use crate::model::calendar::CalendarDate;
use crate::model::edge::PeriodUnit;
use crate::time::UtcMillis;

/// One period, named by the local time at which it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(DateTime);

impl Period {
    /// The day of that date.
    #[must_use]
    pub fn day(date: CalendarDate) -> Option<Self> {
        let (month, day) = (i8::try_from(date.month).ok()?, i8::try_from(date.day).ok()?);
        Date::new(date.year, month, day).ok().map(|date| Self(midnight(date)))
    }
}

/// Without the seconds, where there are any.
impl std::fmt::Display for Period {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0.strftime("%Y-%m-%d %H:%M").to_string())
    }
}

/// All periods of one length in one zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Periods {
    zone: Zone,
    unit: PeriodUnit,
}

/// The clocks skip no more labels in a row than the hours of two days.
const MAX_EMPTY: usize = 48;

impl Periods {
    /// Of that length.
    #[must_use]
    pub fn new(zone: Zone, unit: PeriodUnit) -> Self {
        Self { zone, unit }
    }

    /// The zone.
    #[must_use]
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The one that holds the instant; none where no calendar reaches.
    #[must_use]
    pub fn holding(&self, at: UtcMillis) -> Option<Period> {
        let local = wall::local(&self.zone, at)?;
        let mut found = Period(match self.unit {
            PeriodUnit::Hour => local.date().at(local.hour(), 0, 0, 0),
            PeriodUnit::Day => midnight(local.date()),
            PeriodUnit::Week => {
                let days = i64::from(local.date().weekday().to_monday_zero_offset());
                midnight(local.date().checked_sub(Span::new().days(days)).ok()?)
            }
            PeriodUnit::Month => midnight(local.date().first_of_month()),
        });
        // Where the clock goes back over the beginning of a period, the time that it
        // shows for the second time belongs to what has begun already.
        loop {
            let next = self.next(found)?;
            if self.begin(next)? > at {
                return Some(found);
            }
            found = next;
        }
    }

    /// Its first instant, and the first one behind it.
    #[must_use]
    pub fn bounds(&self, period: Period) -> Option<(UtcMillis, UtcMillis)> {
        Some((self.begin(period)?, self.begin(self.next(period)?)?))
    }

    /// The one that follows.
    #[must_use]
    pub fn next(&self, period: Period) -> Option<Period> {
        period.0.checked_add(self.length()).ok().map(Period)
    }

    /// The one before, of those that the clocks do not skip.
    #[must_use]
    pub fn before(&self, period: Period) -> Option<Period> {
        let begin = self.begin(period)?;
        let mut found = period;
        for _ in 0..MAX_EMPTY {
            found = Period(found.0.checked_sub(self.length()).ok()?);
            if self.begin(found)? < begin {
                return Some(found);
            }
        }
        None
    }

    /// What the clock shows, as a number `yyyyMMddHHmm`.
    #[must_use]
    pub fn minute_number(&self, at: UtcMillis) -> Option<i64> {
        let local = wall::local(&self.zone, at)?;
        let parts = [local.month(), local.day(), local.hour(), local.minute()];
        Some(
            parts
                .iter()
                .fold(i64::from(local.year()), |number, part| number * 100 + i64::from(*part)),
        )
    }

    fn length(&self) -> Span {
        match self.unit {
            PeriodUnit::Hour => Span::new().hours(1),
            PeriodUnit::Day => Span::new().days(1),
            PeriodUnit::Week => Span::new().weeks(1),
            PeriodUnit::Month => Span::new().months(1),
        }
    }

    fn begin(&self, period: Period) -> Option<UtcMillis> {
        wall::first_at(&self.zone, period.0, UtcMillis(i64::MIN))
    }
}

fn midnight(date: Date) -> DateTime {
    date.at(0, 0, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> UtcMillis {
        UtcMillis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    /// The period that holds an instant, with its bounds in its zone.
    fn holding(zone: &str, unit: PeriodUnit, at: &str) -> String {
        let periods = Periods::new(Zone::parse(zone).unwrap(), unit);
        let period = periods.holding(millis(at)).unwrap();
        let (begin, end) = periods.bounds(period).unwrap();
        assert!(begin <= millis(at) && millis(at) < end);
        let [begin, end] = [begin, end].map(|at| periods.zone().rfc3339(at));
        format!("{begin} {end}")
    }

    #[test]
    fn periods_begin_where_the_clock_first_shows_it() {
        use PeriodUnit::{Day, Hour, Month, Week};
        for (zone, unit, at, wanted) in [
            (
                "UTC",
                Day,
                "2024-03-15T23:59:59Z",
                "2024-03-15T00:00:00+00:00 2024-03-16T00:00:00+00:00",
            ),
            (
                "Asia/Tokyo",
                Week,
                "2024-03-17T15:00:00Z",
                "2024-03-18T00:00:00+09:00 2024-03-25T00:00:00+09:00",
            ),
            (
                "UTC",
                Month,
                "2024-02-29T12:00:00Z",
                "2024-02-01T00:00:00+00:00 2024-03-01T00:00:00+00:00",
            ),
            // 23 and 25 hours.
            (
                "Europe/Berlin",
                Day,
                "2024-03-31T12:00:00Z",
                "2024-03-31T00:00:00+01:00 2024-04-01T00:00:00+02:00",
            ),
            (
                "Europe/Berlin",
                Day,
                "2024-10-27T12:00:00Z",
                "2024-10-27T00:00:00+02:00 2024-10-28T00:00:00+01:00",
            ),
            // The hour that comes twice is one period.
            (
                "Europe/Berlin",
                Hour,
                "2024-10-27T01:30:00Z",
                "2024-10-27T02:00:00+02:00 2024-10-27T03:00:00+01:00",
            ),
            // Midnight does not exist: the clock goes from 23:59 to 01:00.
            (
                "Africa/Cairo",
                Day,
                "2024-04-26T12:00:00Z",
                "2024-04-26T01:00:00+03:00 2024-04-27T00:00:00+03:00",
            ),
            // At one minute past midnight it goes back to 23:01: the day has begun.
            (
                "America/St_Johns",
                Day,
                "2010-11-07T03:00:00Z",
                "2010-11-07T00:00:00-02:30 2010-11-08T00:00:00-03:30",
            ),
        ] {
            assert_eq!(holding(zone, unit, at), wanted, "{zone} {at}");
        }
    }

    #[test]
    fn the_day_before_is_one_that_there_was() {
        let apia = Periods::new(Zone::parse("Pacific/Apia").unwrap(), PeriodUnit::Day);
        let after = apia.holding(millis("2011-12-30T12:00:00Z")).unwrap();
        assert_eq!(after.to_string(), "2011-12-31 00:00");
        assert_eq!(apia.before(after).unwrap().to_string(), "2011-12-29 00:00");
        let skipped = Period::day("2011-12-30".parse().unwrap()).unwrap();
        let (begin, end) = apia.bounds(skipped).unwrap();
        assert_eq!(begin, end, "nobody lived through it");
        assert_eq!(Period::day(CalendarDate { year: 2024, month: 2, day: 30 }), None);
    }

    #[test]
    fn every_instant_lies_in_one_period() {
        for zone in ["Europe/Berlin", "Africa/Cairo", "America/St_Johns", "Australia/Lord_Howe"] {
            for (_, unit) in PeriodUnit::ALL {
                let periods = Periods::new(Zone::parse(zone).unwrap(), unit);
                let mut period = periods.holding(millis("2010-01-15T00:00:00Z")).unwrap();
                for _ in 0..400 {
                    let next = periods.next(period).unwrap();
                    let (begin, end) = periods.bounds(period).unwrap();
                    assert_eq!(periods.bounds(next).unwrap().0, end);
                    if begin < end {
                        for at in [begin, UtcMillis(end.0 - 1)] {
                            assert_eq!(periods.holding(at), Some(period), "{zone} {unit:?} {at}");
                        }
                    }
                    period = next;
                }
            }
        }
    }
}
