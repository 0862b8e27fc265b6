//! What a zone's clock shows at an instant, and arithmetic as people mean it.
//!
//! Days and longer units are counted on the clock: a day later it shows the same
//! time. Where it never shows that, the result is the first instant after the gap;
//! where it shows it twice, the first pass. Hours and shorter units are exact.

use jiff::civil::{Date, DateTime};
use jiff::fmt::strtime;

use super::period::Periods;
use super::wall;
use super::zone::Zone;
use crate::model::edge::PeriodUnit;
use crate::model::trigger::DstPolicy;
use crate::time::UtcMillis;

/// An instant on the clock of a zone. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalTime {
    zone: Zone,
    at: UtcMillis,
    shown: DateTime,
}

/// How far to move: first by what is counted on the clock, then by what is exact.
/// Negative is earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shift {
    /// Calendar years; 29 February becomes the 28th where there is no 29th.
    pub years: i64,
    /// Calendar months; a day that the month lacks becomes its last.
    pub months: i64,
    /// Seven days each.
    pub weeks: i64,
    /// Calendar days, of 23 to 25 hours where clocks change.
    pub days: i64,
    /// 3,600 seconds each.
    pub hours: i64,
    /// 60 seconds each.
    pub minutes: i64,
    /// Seconds.
    pub seconds: i64,
    /// Milliseconds.
    pub millis: i64,
}

/// What a time can be cut down to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartOf {
    /// Of one period; a week begins on Monday.
    Period(PeriodUnit),
    /// 1 January.
    Year,
}

impl LocalTime {
    /// What the clock shows; none outside the years -9999 to 9999.
    #[must_use]
    pub fn new(zone: &Zone, at: UtcMillis) -> Option<Self> {
        Some(Self { zone: zone.clone(), at, shown: wall::local(zone, at)? })
    }

    /// The instant.
    #[must_use]
    pub fn at(&self) -> UtcMillis {
        self.at
    }

    /// Whose clock it is.
    #[must_use]
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The year, -9999 to 9999.
    #[must_use]
    pub fn year(&self) -> i64 {
        self.shown.year().into()
    }

    /// The month, 1 to 12.
    #[must_use]
    pub fn month(&self) -> i64 {
        self.shown.month().into()
    }

    /// The day of the month, 1 to 31.
    #[must_use]
    pub fn day(&self) -> i64 {
        self.shown.day().into()
    }

    /// The hour, 0 to 23.
    #[must_use]
    pub fn hour(&self) -> i64 {
        self.shown.hour().into()
    }

    /// The minute, 0 to 59.
    #[must_use]
    pub fn minute(&self) -> i64 {
        self.shown.minute().into()
    }

    /// The second, 0 to 59.
    #[must_use]
    pub fn second(&self) -> i64 {
        self.shown.second().into()
    }

    /// The millisecond, 0 to 999.
    #[must_use]
    pub fn millisecond(&self) -> i64 {
        self.shown.millisecond().into()
    }

    /// The day of the week, Monday being 1 and Sunday 7.
    #[must_use]
    pub fn weekday(&self) -> i64 {
        self.shown.date().weekday().to_monday_one_offset().into()
    }

    /// The day of the year, 1 to 366.
    #[must_use]
    pub fn day_of_year(&self) -> i64 {
        self.shown.date().day_of_year().into()
    }

    /// How far the clock is ahead of UTC, in seconds.
    #[must_use]
    pub fn offset_seconds(&self) -> i64 {
        let at = jiff::Timestamp::from_millisecond(self.at.0).unwrap_or_default();
        self.zone.rules().to_offset(at).seconds().into()
    }

    /// The same instant on another clock.
    #[must_use]
    pub fn in_zone(&self, zone: &Zone) -> Option<Self> {
        Self::new(zone, self.at)
    }

    /// This time moved; none outside the years -9999 to 9999.
    #[must_use]
    pub fn shift(&self, by: &Shift) -> Option<Self> {
        // Units of both signs at once: a span of jiff has one sign for all of its own.
        let months = by.years.checked_mul(12)?.checked_add(by.months)?;
        let days = by.weeks.checked_mul(7)?.checked_add(by.days)?;
        let mut at = self.at;
        if (months, days) != (0, 0) {
            let span = jiff::Span::new();
            let (months, days) = (span.try_months(months).ok()?, span.try_days(days).ok()?);
            let moved = self.shown.checked_add(months).ok()?.checked_add(days).ok()?;
            at = self.resolve(moved)?;
        }
        let exact = [(by.hours, 3_600_000), (by.minutes, 60_000), (by.seconds, 1000)];
        let millis = exact.into_iter().try_fold(by.millis, |sum, (count, length)| {
            sum.checked_add(count.checked_mul(length)?)
        })?;
        Self::new(&self.zone, UtcMillis(at.0.checked_add(millis)?))
    }

    /// The same day at another time of the clock; none if there is no such time.
    #[must_use]
    pub fn with_time(&self, hour: i64, minute: i64, second: i64, millis: i64) -> Option<Self> {
        let nanos = i32::try_from(millis.checked_mul(1_000_000)?).ok()?;
        let part = |given: i64| i8::try_from(given).ok();
        let time = jiff::civil::Time::new(part(hour)?, part(minute)?, part(second)?, nanos).ok()?;
        Self::new(&self.zone, self.resolve(self.shown.date().to_datetime(time))?)
    }

    /// Where what it lies in began.
    #[must_use]
    pub fn start_of(&self, unit: StartOf) -> Option<Self> {
        let begin = |unit| {
            let periods = Periods::new(self.zone.clone(), unit);
            periods.bounds(periods.holding(self.at)?).map(|(begin, _)| begin)
        };
        let at = match unit {
            StartOf::Period(unit) => begin(unit)?,
            StartOf::Year => {
                // Of the month first: it knows what a clock shows for the second time.
                let year = wall::local(&self.zone, begin(PeriodUnit::Month)?)?.year();
                let first = Date::new(year, 1, 1).ok()?.at(0, 0, 0, 0);
                wall::first_at(&self.zone, first, UtcMillis(i64::MIN))?
            }
        };
        Self::new(&self.zone, at)
    }

    /// The time by a pattern such as `%Y-%m-%d %H:%M`.
    ///
    /// # Errors
    /// What is wrong with the pattern, in words.
    pub fn strftime(&self, pattern: &str) -> Result<String, String> {
        let at = jiff::Timestamp::from_millisecond(self.at.0).unwrap_or_default();
        let zoned = at.to_zoned(self.zone.rules().clone());
        strtime::format(pattern, &zoned).map_err(|error| error.to_string())
    }

    /// The instant of a time of the clock, with its milliseconds.
    fn resolve(&self, local: DateTime) -> Option<UtcMillis> {
        let second = local.with().subsec_nanosecond(0).build().ok()?;
        let [found, _] = wall::instants(&self.zone, second, DstPolicy::Smart);
        let found = found?;
        // The end of a gap is an instant of its own: no part of a second is added.
        let in_gap = wall::local(&self.zone, found)? != second;
        let millis = if in_gap { 0 } else { i64::from(local.millisecond()) };
        Some(UtcMillis(found.0.checked_add(millis)?))
    }
}

/// RFC 3339 with the zone's offset.
impl std::fmt::Display for LocalTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.zone.rfc3339(self.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(zone: &str, at: &str) -> LocalTime {
        let at = UtcMillis(at.parse::<jiff::Timestamp>().unwrap().as_millisecond());
        LocalTime::new(&Zone::parse(zone).unwrap(), at).unwrap()
    }

    fn days(days: i64) -> Shift {
        Shift { days, ..Shift::default() }
    }

    fn months(months: i64) -> Shift {
        Shift { months, ..Shift::default() }
    }

    fn hours(hours: i64) -> Shift {
        Shift { hours, ..Shift::default() }
    }

    #[test]
    fn days_and_longer_are_counted_on_the_clock() {
        for (zone, from, by, wanted) in [
            // The last day of a shorter month; a leap day.
            ("UTC", "2024-01-31T10:00:00Z", months(1), "2024-02-29T10:00:00+00:00"),
            ("UTC", "2023-03-31T10:00:00Z", months(-1), "2023-02-28T10:00:00+00:00"),
            (
                "UTC",
                "2024-02-29T10:00:00Z",
                Shift { years: 1, ..Shift::default() },
                "2025-02-28T10:00:00+00:00",
            ),
            // 23 and 25 hours later the clock shows the same.
            ("Europe/Berlin", "2024-03-30T11:00:00Z", days(1), "2024-03-31T12:00:00+02:00"),
            ("Europe/Berlin", "2024-10-26T10:00:00Z", days(1), "2024-10-27T12:00:00+01:00"),
            // 02:30 is skipped: the first instant after; shown twice: the first pass.
            ("Europe/Berlin", "2024-03-30T01:30:00.250Z", days(1), "2024-03-31T03:00:00+02:00"),
            ("Europe/Berlin", "2024-10-26T00:30:00Z", days(1), "2024-10-27T02:30:00+02:00"),
            ("UTC", "2024-10-26T00:30:00.250Z", days(-1), "2024-10-25T00:30:00.250+00:00"),
            ("UTC", "1969-12-31T23:59:59.750Z", days(-1), "1969-12-30T23:59:59.750+00:00"),
            // Exact: through both passes, and over the gap.
            ("Europe/Berlin", "2024-10-27T00:30:00Z", hours(1), "2024-10-27T02:30:00+01:00"),
            ("Europe/Berlin", "2024-03-31T00:30:00Z", hours(1), "2024-03-31T03:30:00+02:00"),
            ("Europe/Berlin", "2024-10-27T01:30:00Z", hours(0), "2024-10-27T02:30:00+01:00"),
            // The clock first, then what is exact.
            (
                "Europe/Berlin",
                "2024-03-30T11:00:00Z",
                Shift { weeks: 1, days: -6, hours: -10, minutes: 30, ..Shift::default() },
                "2024-03-31T01:30:00+01:00",
            ),
        ] {
            let moved = time(zone, from).shift(&by).unwrap();
            assert_eq!(moved.to_string(), wanted, "{from} {by:?}");
        }
    }

    #[test]
    fn what_no_calendar_reaches_is_none() {
        let now = time("UTC", "2024-01-31T10:00:00Z");
        for by in [days(i64::MAX), months(-999_999), hours(i64::MAX), hours(i64::MIN)] {
            assert_eq!(now.shift(&by), None, "{by:?}");
        }
        assert_eq!(LocalTime::new(&Zone::UTC, UtcMillis::MAX), None);
        assert_eq!(now.with_time(24, 0, 0, 0), None);
        assert_eq!(now.with_time(0, 0, 0, i64::MAX), None);
    }

    #[test]
    fn times_are_cut_down_to_where_a_period_began() {
        use PeriodUnit::{Day, Hour, Month, Week};
        let now = time("Europe/Berlin", "2024-03-31T12:34:56.789Z");
        for (unit, wanted) in [
            (StartOf::Period(Hour), "2024-03-31T14:00:00+02:00"),
            (StartOf::Period(Day), "2024-03-31T00:00:00+01:00"),
            (StartOf::Period(Week), "2024-03-25T00:00:00+01:00"),
            (StartOf::Period(Month), "2024-03-01T00:00:00+01:00"),
            (StartOf::Year, "2024-01-01T00:00:00+01:00"),
        ] {
            assert_eq!(now.start_of(unit).unwrap().to_string(), wanted);
        }
        assert_eq!(now.with_time(0, 5, 0, 7).unwrap().to_string(), "2024-03-31T00:05:00.007+01:00");
    }

    #[test]
    fn fields_are_what_the_clock_shows() {
        let now = time("Asia/Shanghai", "2024-03-14T19:00:01.002Z");
        let fields = [now.year(), now.month(), now.day(), now.hour(), now.minute(), now.second()];
        assert_eq!(fields, [2024, 3, 15, 3, 0, 1]);
        assert_eq!((now.millisecond(), now.weekday(), now.day_of_year()), (2, 5, 75));
        assert_eq!((now.offset_seconds(), now.zone().name()), (28_800, "Asia/Shanghai"));
        assert_eq!(now.in_zone(&Zone::UTC).unwrap().hour(), 19);
        assert_eq!(now.strftime("%Y%m%d %H:%M %a").unwrap(), "20240315 03:00 Fri");
        assert!(now.strftime("%").is_err());
    }
}
