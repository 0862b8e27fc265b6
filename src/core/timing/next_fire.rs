//! The next instant of a cron expression in a zone, in whole seconds.
//!
//! Years, months and days that cannot match are skipped by their fields, and
//! stretches without a change of the clocks by the zone's own list of changes,
//! so that the next 29 February of a far year costs what tomorrow costs.
//!
//! What a change of the clocks does is said by a [`DstPolicy`]. Two walks serve
//! all four: one by instants, which fires whatever the clock shows, and one by
//! the matching local times, each of which becomes at most one instant.

use jiff::civil::{Date, DateTime, date};
use jiff::tz::{AmbiguousOffset, Offset};
use jiff::{SignedDuration, Timestamp};

use super::cron::{CronExpr, FIRST_YEAR, LAST_YEAR};
use super::wall;
use super::zone::Zone;
use crate::model::trigger::DstPolicy;
use crate::time::UtcMillis;

/// More than any zone was ever moved, and any two offsets differ.
const TWO_DAYS: i64 = 2 * 86_400;

/// The first instant of `cron` in `zone` strictly after `after`; none if it
/// never fires again up to its last year.
#[must_use]
pub fn next_after(
    cron: &CronExpr,
    zone: &Zone,
    dst: DstPolicy,
    after: UtcMillis,
) -> Option<UtcMillis> {
    // Nothing matches before 1970 anywhere, so earlier is not asked about.
    let after = after.0.div_euclid(1000).max(-TWO_DAYS);
    let found = match dst {
        DstPolicy::Twice => next_shown(cron, zone, after),
        DstPolicy::Smart if cron.is_running() => next_shown(cron, zone, after),
        DstPolicy::Smart => next_local_once(cron, zone, after, Gap::Moves, Overlap::First),
        DstPolicy::Skip => next_local_once(cron, zone, after, Gap::Skips, Overlap::First),
        DstPolicy::Quartz => next_local_once(cron, zone, after, Gap::Skips, Overlap::Second),
    };
    found.map(|seconds| UtcMillis(seconds * 1000))
}

/// All instants of `cron` in `zone` after `after`, ascending.
pub fn fires_after<'a>(
    cron: &'a CronExpr,
    zone: &'a Zone,
    dst: DstPolicy,
    after: UtcMillis,
) -> impl Iterator<Item = UtcMillis> + 'a {
    std::iter::successors(next_after(cron, zone, dst, after), move |last| {
        next_after(cron, zone, dst, *last)
    })
}

/// What a local time that the clock leaves out becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gap {
    /// The first instant after the gap.
    Moves,
    /// Nothing.
    Skips,
}

/// What a local time that the clock shows twice becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Overlap {
    /// The first of the two instants.
    First,
    /// The second; after a moment in the first pass only later times on the
    /// wall are looked for.
    Second,
}

/// An instant fires if its local time matches.
fn next_shown(cron: &CronExpr, zone: &Zone, after: i64) -> Option<i64> {
    let rules = zone.rules();
    // Nothing fires in (after, at): true at the start of every round.
    let mut at = after.checked_add(1)?;
    loop {
        let timestamp = Timestamp::from_second(at).ok()?;
        let offset = rules.to_offset(timestamp);
        let change = next_change(zone, timestamp);
        let local = offset.to_datetime(timestamp);
        let candidate = next_local(cron, local);
        if let Some(seconds) = candidate.and_then(|c| seconds_at(c, offset))
            && change.is_none_or(|change| seconds < change)
        {
            return Some(seconds);
        }
        let change = change?;
        // Beyond two days from here the clock cannot come back to before
        // `local`, so nothing fires until near the candidate.
        at = if change - at < TWO_DAYS {
            change
        } else {
            change.max(seconds_at(candidate?, offset)? - TWO_DAYS)
        };
    }
}

/// Each matching local time fires at most once. What it maps to never runs
/// backwards, so the first match whose instant is late enough is the answer.
fn next_local_once(
    cron: &CronExpr,
    zone: &Zone,
    after: i64,
    gap: Gap,
    overlap: Overlap,
) -> Option<i64> {
    let rules = zone.rules();
    let local = rules.to_datetime(Timestamp::from_second(after).ok()?);
    // One second later on the wall, not in real time: at the last second
    // before a gap that is the gap's first one, which maps to its end.
    let mut from = local.checked_add(SignedDuration::from_secs(1)).ok()?;
    loop {
        let candidate = next_local(cron, from)?;
        match rules.to_ambiguous_timestamp(candidate).offset() {
            AmbiguousOffset::Unambiguous { offset } => {
                let seconds = seconds_at(candidate, offset)?;
                if seconds > after {
                    return Some(seconds);
                }
                from = candidate.checked_add(SignedDuration::from_secs(1)).ok()?;
            }
            AmbiguousOffset::Gap { after: later, .. } => {
                // By the offset after it, a time in the gap lies before the change.
                let before = Timestamp::from_second(seconds_at(candidate, later)?).ok()?;
                let change = next_change(zone, before)?;
                if gap == Gap::Moves && change > after {
                    return Some(change);
                }
                // Go on where the clock does.
                from = later.to_datetime(Timestamp::from_second(change).ok()?);
            }
            AmbiguousOffset::Fold { before, after: later } => {
                let offset = if overlap == Overlap::First { before } else { later };
                let seconds = seconds_at(candidate, offset)?;
                if seconds > after {
                    return Some(seconds);
                }
                // `after` is past the first pass: go on where the overlap ends.
                let first_pass = Timestamp::from_second(seconds_at(candidate, before)?).ok()?;
                let change = Timestamp::from_second(next_change(zone, first_pass)?).ok()?;
                from = before.to_datetime(change);
            }
        }
    }
}

/// The first instant after `at` whose offset differs from the one before it.
/// The zone's list also has changes of name alone, which move no clock.
pub(super) fn next_change(zone: &Zone, at: Timestamp) -> Option<i64> {
    let mut offset = zone.rules().to_offset(at);
    for change in zone.rules().following(at) {
        if change.offset() != offset {
            return Some(change.timestamp().as_second());
        }
        offset = change.offset();
        if offset_is_past_the_end(change.timestamp()) {
            break;
        }
    }
    None
}

/// A zone's rules go on for ever; what follows the last year is never asked for.
fn offset_is_past_the_end(at: Timestamp) -> bool {
    Offset::UTC.to_datetime(at).year() > LAST_YEAR + 1
}

pub(super) fn seconds_at(local: DateTime, offset: Offset) -> Option<i64> {
    offset.to_timestamp(local).ok().map(Timestamp::as_second)
}

/// The first matching local time at or after `from`, whatever zone it is in.
pub(super) fn next_local(cron: &CronExpr, from: DateTime) -> Option<DateTime> {
    let first = date(FIRST_YEAR, 1, 1).at(0, 0, 0, 0);
    let from = from.max(first);
    let day = from.date();
    if matches_day(cron, day)
        && let Some((hour, minute, second)) = next_time(cron, from)
    {
        return Some(day.at(hour, minute, second, 0));
    }
    let day = next_day(cron, day.tomorrow().ok()?)?;
    let (hour, minute, second) =
        (lowest(cron.hours(), 0)?, lowest(cron.minutes(), 0)?, lowest(cron.seconds(), 0)?);
    Some(day.at(hour, minute, second, 0))
}

/// The first matching time of day at or after that of `from`.
fn next_time(cron: &CronExpr, from: DateTime) -> Option<(i8, i8, i8)> {
    let first_minute = lowest(cron.minutes(), 0)?;
    let first_second = lowest(cron.seconds(), 0)?;
    let hour = lowest(cron.hours(), from.hour())?;
    if hour > from.hour() {
        return Some((hour, first_minute, first_second));
    }
    if let Some(minute) = lowest(cron.minutes(), from.minute()) {
        if minute > from.minute() {
            return Some((hour, minute, first_second));
        }
        if let Some(second) = lowest(cron.seconds(), from.second()) {
            return Some((hour, minute, second));
        }
        if let Some(minute) = lowest(cron.minutes(), minute + 1) {
            return Some((hour, minute, first_second));
        }
    }
    lowest(cron.hours(), hour + 1).map(|hour| (hour, first_minute, first_second))
}

/// True if the clock shows a time that matches.
pub(super) fn matches(cron: &CronExpr, local: DateTime) -> bool {
    let has = |bits: u64, n: i8| bits & (1 << n) != 0;
    has(cron.seconds(), local.second())
        && has(cron.minutes(), local.minute())
        && has(cron.hours(), local.hour())
        && matches_day(cron, local.date())
}

/// True if it matches some time of that day.
pub(super) fn matches_day(cron: &CronExpr, day: Date) -> bool {
    cron.year_from(day.year()) == Some(day.year())
        && cron.months() & (1 << day.month()) != 0
        && month_days(cron, day) & (1 << day.day()) != 0
}

/// The first matching day at or after `from`: by years, then months, then a
/// set of days.
fn next_day(cron: &CronExpr, from: Date) -> Option<Date> {
    let mut from = from;
    loop {
        let year = cron.year_from(from.year())?;
        if year > from.year() {
            from = date(year, 1, 1);
        }
        let found = lowest(cron.months(), from.month());
        let Some(month) = found else {
            from = date(year + 1, 1, 1);
            continue;
        };
        if month > from.month() {
            from = date(year, month, 1);
        }
        if let Some(day) = lowest(month_days(cron, from), from.day()) {
            return Some(date(year, month, day));
        }
        from = from.last_of_month().tomorrow().ok()?;
    }
}

/// The matching days of the month that `day` is in.
fn month_days(cron: &CronExpr, day: Date) -> u64 {
    // Never negative: 28..=31.
    let length = day.days_in_month().unsigned_abs();
    cron.days(wall::weekday(day.first_of_month()), u32::from(length))
}

/// The lowest bit at or above `from`.
fn lowest(bits: u64, from: i8) -> Option<i8> {
    let from = u32::from(from.unsigned_abs());
    let rest = bits.checked_shr(from)?;
    let place = from + rest.trailing_zeros();
    (rest != 0).then_some(i8::try_from(place).expect("a bit's place is below 64"))
}
