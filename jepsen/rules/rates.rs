//! Rates and windows, counted out step by step. Times on the wall come from another
//! zone library than the product's.

use chrono::{DateTime, Datelike, Duration, MappedLocalTime, Months, NaiveDateTime};
use chrono::{NaiveDate, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;

use super::Dst;

/// What a calendar interval counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// So many milliseconds.
    Elapsed(i64),
    Days(i64),
    Months(u32),
}

impl Unit {
    /// By its name, in one or many.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name.strip_suffix('s').unwrap_or(name) {
            "second" => Self::Elapsed(1_000),
            "minute" => Self::Elapsed(60_000),
            "hour" => Self::Elapsed(3_600_000),
            "day" => Self::Days(1),
            "week" => Self::Days(7),
            "month" => Self::Months(1),
            "year" => Self::Months(12),
            _ => return None,
        })
    }
}

/// The clock on the wall at an instant.
pub(super) fn local(zone: Tz, at: i64) -> Option<NaiveDateTime> {
    let utc = DateTime::<Utc>::from_timestamp_millis(at)?;
    Some(utc.with_timezone(&zone).naive_local())
}

/// The instants that a time on the wall stands for.
fn instants(zone: Tz, local: NaiveDateTime, dst: Dst) -> Vec<i64> {
    let found = match zone.from_local_datetime(&local) {
        MappedLocalTime::Single(only) => vec![only],
        MappedLocalTime::Ambiguous(first, second) => match dst {
            Dst::Smart | Dst::Skip => vec![first],
            Dst::Quartz => vec![second],
            Dst::Twice => vec![first, second],
        },
        MappedLocalTime::None if dst == Dst::Smart => {
            let mut at = local;
            // No gap is longer than a day.
            let after = (0..86_400).find_map(|_| {
                at += Duration::seconds(1);
                zone.from_local_datetime(&at).earliest()
            });
            after.into_iter().collect()
        }
        MappedLocalTime::None => Vec::new(),
    };
    found.into_iter().map(|at| at.timestamp_millis()).collect()
}

/// Every so much elapsed time from an anchor on.
pub(super) fn elapsed(
    anchor: i64,
    every: i64,
    repeats: Option<u64>,
    (from, to): (i64, i64),
) -> Vec<i64> {
    let before = (from.saturating_sub(anchor)).div_euclid(every).max(0);
    (before..)
        .take_while(|n| repeats.is_none_or(|most| u64::try_from(*n).is_ok_and(|n| n <= most)))
        .map(|n| anchor + n * every)
        .take_while(|at| *at <= to)
        .filter(|at| *at >= from)
        .collect()
}

/// Every so many units of the calendar from an anchor on, at its time of day. Each is
/// counted from the anchor, so that a short month shortens no other.
pub(super) fn units(
    anchor: i64,
    (every, unit): (u32, Unit),
    (zone, dst): (Tz, Dst),
    (from, to): (i64, i64),
) -> Vec<i64> {
    if let Unit::Elapsed(ms) = unit {
        return elapsed(anchor, ms * i64::from(every), None, (from, to));
    }
    let Some(first) = local(zone, anchor) else { return Vec::new() };
    let nth = |n: u32| match unit {
        Unit::Elapsed(_) => None,
        Unit::Days(days) => {
            let days = Duration::try_days(days * i64::from(every) * i64::from(n))?;
            first.checked_add_signed(days)
        }
        // The last day of a month that is too short.
        Unit::Months(months) => first.checked_add_months(Months::new(months * every * n)),
    };
    let mut found = Vec::new();
    for n in 0..1_000_000 {
        let at = match n {
            0 => vec![anchor],
            n => nth(n).map_or_else(Vec::new, |at| instants(zone, at, dst)),
        };
        found.extend(at.iter().copied().filter(|at| (from..=to).contains(at)));
        // The clock may go back, but not by two days.
        if nth(n).is_none_or(|at| at.and_utc().timestamp_millis() > to.saturating_add(172_800_000))
        {
            break;
        }
    }
    found
}

/// Again and again between two times of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) every: i64,
    pub(super) open: NaiveTime,
    pub(super) close: NaiveTime,
    /// Bit 0 is Sunday.
    pub(super) weekdays: u8,
}

impl Window {
    pub(super) fn between(&self, zone: Tz, dst: Dst, (from, to): (i64, i64)) -> Vec<i64> {
        let day = |at: i64| local(zone, at).map(|local| local.date());
        let (Some(first), Some(last)) = (day(from), day(to)) else { return Vec::new() };
        let mut found = Vec::new();
        let mut day = first - Duration::days(2);
        while day <= last {
            found.extend(self.of_day(zone, dst, day).into_iter().flatten());
            day += Duration::days(1);
        }
        found.retain(|at| (from..=to).contains(at));
        found.sort_unstable();
        found
    }

    /// What the window gives that opens on a day; one over midnight belongs to it, too.
    fn of_day(&self, zone: Tz, dst: Dst, day: NaiveDate) -> Option<Vec<i64>> {
        if self.weekdays >> day.weekday().num_days_from_sunday() & 1 == 0 {
            return None;
        }
        let open = *instants(zone, day.and_time(self.open), dst).first()?;
        let end = if self.close < self.open { day + Duration::days(1) } else { day };
        // The last time that the clock shows it; what it leaves out is just after.
        let shown = instants(zone, end.and_time(self.close), Dst::Twice);
        let moved = || instants(zone, end.and_time(self.close), Dst::Smart);
        let close = shown.last().copied().or_else(|| moved().first().copied())?;
        Some(elapsed(open, self.every, None, (open, close)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<DateTime<Utc>>().unwrap().timestamp_millis()
    }

    fn shown(found: &[i64]) -> Vec<String> {
        let show = |at: &i64| DateTime::<Utc>::from_timestamp_millis(*at).unwrap().to_rfc3339();
        found.iter().map(|at| show(at)[..19].to_owned()).collect()
    }

    #[test]
    fn elapsed_time_counts_from_the_anchor() {
        assert_eq!(elapsed(10, 5, None, (0, 22)), [10, 15, 20]);
        assert_eq!(elapsed(10, 5, None, (20, 30)), [20, 25, 30]);
        assert_eq!(elapsed(10, 5, Some(2), (0, 100)), [10, 15, 20]);
        assert_eq!(elapsed(10, 5, Some(2), (21, 100)), Vec::<i64>::new());
    }

    #[test]
    fn months_end_as_people_mean() {
        let month = (1, Unit::named("month").unwrap());
        let reach = (ms("2024-01-01T00:00:00Z"), ms("2024-05-01T00:00:00Z"));
        let found = units(ms("2024-01-31T09:00:00Z"), month, (Tz::UTC, Dst::Smart), reach);
        assert_eq!(
            shown(&found),
            [
                "2024-01-31T09:00:00",
                "2024-02-29T09:00:00",
                "2024-03-31T09:00:00",
                "2024-04-30T09:00:00"
            ]
        );
        let year = (1, Unit::named("years").unwrap());
        let reach = (ms("2025-01-01T00:00:00Z"), ms("2028-12-01T00:00:00Z"));
        let found = units(ms("2024-02-29T00:00:00Z"), year, (Tz::UTC, Dst::Smart), reach);
        let days: Vec<String> = shown(&found).iter().map(|at| at[..10].to_owned()).collect();
        assert_eq!(days, ["2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"]);
        assert_eq!(Unit::named("fortnight"), None);
    }

    #[test]
    fn days_keep_their_time_of_day_and_hours_do_not() {
        let zone: Tz = "Europe/Berlin".parse().unwrap();
        // On 2026-03-29 02:00 becomes 03:00.
        let reach = (ms("2026-03-28T00:00:00Z"), ms("2026-03-30T12:00:00Z"));
        let anchor = ms("2026-03-28T01:30:00Z");
        let day = (1, Unit::named("day").unwrap());
        let smart = units(anchor, day, (zone, Dst::Smart), reach);
        let times = ["2026-03-28T01:30:00", "2026-03-29T01:00:00", "2026-03-30T00:30:00"];
        assert_eq!(shown(&smart), times);
        assert_eq!(units(anchor, day, (zone, Dst::Skip), reach).len(), 2);
        let hours = units(anchor, (24, Unit::named("hours").unwrap()), (zone, Dst::Smart), reach);
        assert_eq!(shown(&hours)[1], "2026-03-29T01:30:00");
    }

    #[test]
    fn windows_open_on_their_days_and_over_midnight() {
        let time = |h, m| NaiveTime::from_hms_opt(h, m, 0).unwrap();
        // 2026-11-21 is a Saturday.
        let reach = (ms("2026-11-20T00:00:00Z"), ms("2026-11-23T00:00:00Z"));
        let saturdays = 1 << 6;
        let day =
            Window { every: 3_600_000, open: time(9, 0), close: time(11, 30), weekdays: saturdays };
        let found = shown(&day.between(Tz::UTC, Dst::Smart, reach));
        assert_eq!(found, ["2026-11-21T09:00:00", "2026-11-21T10:00:00", "2026-11-21T11:00:00"]);
        let night = Window { open: time(23, 0), close: time(1, 0), ..day };
        let found = shown(&night.between(Tz::UTC, Dst::Smart, reach));
        assert_eq!(found, ["2026-11-21T23:00:00", "2026-11-22T00:00:00", "2026-11-22T01:00:00"]);
        // The clock shows the end twice: the last time counts.
        let zone: Tz = "Europe/Berlin".parse().unwrap();
        let reach = (ms("2026-10-24T12:00:00Z"), ms("2026-10-25T12:00:00Z"));
        let late = Window { open: time(1, 30), close: time(2, 30), weekdays: 0x7f, ..day };
        assert_eq!(late.between(zone, Dst::Smart, reach).len(), 3);
    }
}
