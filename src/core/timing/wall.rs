//! Local times of fixed rules as instants: what a [`DstPolicy`] makes of one.
//!
//! For rules that give one local time after another, such as each month at
//! 02:30. Cron expressions have walks of their own in [`super::next_fire`].

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::AmbiguousOffset;

use super::next_fire::{next_change, seconds_at};
use super::zone::Zone;
use crate::model::trigger::DstPolicy;
use crate::time::UtcMillis;

/// The instants, ascending, at which a local time fires: none in a gap that is
/// skipped, two where both passes count.
pub(super) fn instants(zone: &Zone, local: DateTime, dst: DstPolicy) -> [Option<UtcMillis>; 2] {
    let at = |seconds: Option<i64>| seconds.and_then(|s| s.checked_mul(1000)).map(UtcMillis);
    match zone.rules().to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => [at(seconds_at(local, offset)), None],
        AmbiguousOffset::Gap { after, .. } => match dst {
            DstPolicy::Smart => [at(end_of_gap(zone, seconds_at(local, after))), None],
            DstPolicy::Quartz | DstPolicy::Skip | DstPolicy::Twice => [None, None],
        },
        AmbiguousOffset::Fold { before, after } => {
            let (first, second) = (at(seconds_at(local, before)), at(seconds_at(local, after)));
            match dst {
                DstPolicy::Smart | DstPolicy::Skip => [first, None],
                DstPolicy::Quartz => [second, None],
                DstPolicy::Twice => [first, second],
            }
        }
    }
}

/// The change of the clocks behind a time in its gap; by the later offset such
/// a time lies before the change.
fn end_of_gap(zone: &Zone, before: Option<i64>) -> Option<i64> {
    next_change(zone, Timestamp::from_second(before?).ok()?)
}

/// What the clock shows.
pub(super) fn local(zone: &Zone, at: UtcMillis) -> Option<DateTime> {
    Some(zone.rules().to_datetime(Timestamp::from_millisecond(at.0).ok()?))
}

/// The day's place in its week, Sunday being 0.
pub(super) fn weekday(day: Date) -> u32 {
    u32::from(day.weekday().to_sunday_zero_offset().unsigned_abs())
}

/// When clocks are changed next.
pub(super) fn change_after(zone: &Zone, after: UtcMillis) -> Option<UtcMillis> {
    let change = next_change(zone, Timestamp::from_millisecond(after.0).ok()?)?;
    Some(UtcMillis(change.checked_mul(1000)?))
}

/// The first instant at which the clock shows `local` or later, being later
/// than `after`.
pub(super) fn first_at(zone: &Zone, local: DateTime, after: UtcMillis) -> Option<UtcMillis> {
    let later = |dst| instants(zone, local, dst)[0].filter(|at| *at > after);
    later(DstPolicy::Smart).or_else(|| later(DstPolicy::Quartz))
}
