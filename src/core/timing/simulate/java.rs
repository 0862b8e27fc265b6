//! Arithmetic of Java's calendar, which Quartz's triggers inherit.
//!
//! A local time in a gap is moved on by the gap's length, one in an overlap is
//! the later of its two instants, and a whole day is added to the instant, not
//! to the time on the clock: it ends up an hour early in a gap.

use jiff::civil::{Date, DateTime};
use jiff::tz::AmbiguousOffset;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::super::zone::Zone;
use crate::model::trigger::{CalendarUnit, TimeOfDay};

/// What the clock shows.
pub(super) fn local(zone: &Zone, at: i64) -> Option<DateTime> {
    Some(zone.rules().to_datetime(Timestamp::from_millisecond(at).ok()?))
}

pub(super) fn year(zone: &Zone, at: i64) -> Option<i16> {
    local(zone, at).map(DateTime::year)
}

/// The instant of a local time.
pub(super) fn instant(zone: &Zone, local: DateTime) -> Option<i64> {
    let offset = match zone.rules().to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset,
        AmbiguousOffset::Gap { before, .. } => before,
        AmbiguousOffset::Fold { after, .. } => after,
    };
    offset.to_timestamp(local).ok().map(Timestamp::as_millisecond)
}

/// A time of day on the day of `at`.
pub(super) fn time_on_day_of(zone: &Zone, at: i64, time: TimeOfDay) -> Option<i64> {
    instant(zone, on(local(zone, at)?.date(), time)?)
}

fn on(day: Date, time: TimeOfDay) -> Option<DateTime> {
    let since_midnight = SignedDuration::from_secs(i64::from(time.seconds()));
    day.at(0, 0, 0, 0).checked_add(since_midnight).ok()
}

/// The same day at another hour.
pub(super) fn with_hour(zone: &Zone, at: i64, hour: i8) -> Option<i64> {
    instant(zone, local(zone, at)?.with().hour(hour).build().ok()?)
}

/// Milliseconds of a unit that is elapsed time.
pub(super) fn elapsed(unit: CalendarUnit) -> Option<i64> {
    match unit {
        CalendarUnit::Second => Some(1000),
        CalendarUnit::Minute => Some(60_000),
        CalendarUnit::Hour => Some(3_600_000),
        CalendarUnit::Day | CalendarUnit::Week | CalendarUnit::Month | CalendarUnit::Year => None,
    }
}

/// So many units later, or earlier.
pub(super) fn add(zone: &Zone, at: i64, count: i64, unit: CalendarUnit) -> Option<i64> {
    match unit {
        CalendarUnit::Day => add_days(zone, at, count),
        CalendarUnit::Week => add_days(zone, at, count.checked_mul(7)?),
        CalendarUnit::Month => {
            let months = jiff::Span::new().try_months(count).ok()?;
            instant(zone, local(zone, at)?.checked_add(months).ok()?)
        }
        CalendarUnit::Year => {
            let years = jiff::Span::new().try_years(count).ok()?;
            instant(zone, local(zone, at)?.checked_add(years).ok()?)
        }
        _ => at.checked_add(elapsed(unit)?.checked_mul(count)?),
    }
}

fn add_days(zone: &Zone, at: i64, days: i64) -> Option<i64> {
    let offset = |at: i64| {
        let at = Timestamp::from_millisecond(at).ok()?;
        Some(i64::from(zone.rules().to_offset(at).seconds()) * 1000)
    };
    let day = local(zone, at)?.date().checked_add(i32::try_from(days).ok()?.days()).ok()?;
    let by_old_offset = at.checked_add(days.checked_mul(86_400_000)?)?;
    let moved = by_old_offset + offset(at)? - offset(by_old_offset)?;
    let stays = local(zone, moved)?.date() == day;
    Some(if stays { moved } else { by_old_offset })
}
