//! Again and again between two times of day, on chosen days of the week.

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime};

use super::wall;
use super::zone::Zone;
use crate::model::trigger::{DstPolicy, TimeOfDay, Weekdays};
use crate::time::{Span, UtcMillis};

/// A window that opens on each chosen day and counts elapsed time from its
/// first instant. A window over midnight belongs to the day it opens on.
///
/// A change of the clocks within a window changes how many instants fit into
/// it; both ends stay where the clock says. The policy decides about ends that
/// the clock leaves out or shows twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DailyWindow {
    pub(super) every: Span,
    pub(super) from: TimeOfDay,
    pub(super) to: TimeOfDay,
    pub(super) weekdays: Weekdays,
}

impl DailyWindow {
    pub(super) fn next_after(
        &self,
        zone: &Zone,
        dst: DstPolicy,
        after: UtcMillis,
    ) -> Option<UtcMillis> {
        // The window of the day before may still be open.
        let mut day = wall::local(zone, after)?.date().yesterday().ok()?;
        // Two weeks and a day: a chosen weekday comes in each, even if the
        // clock leaves its window out once.
        for _ in 0..16 {
            let found = self.of_day(zone, dst, day, after);
            let next_day = day.tomorrow().ok()?;
            if let Some(found) = found {
                // Where the clock goes back, the next window may open before this one ends.
                let next = self.of_day(zone, dst, next_day, after);
                return Some(next.map_or(found, |next| next.min(found)));
            }
            day = next_day;
        }
        None
    }

    /// The first instant after `after` of the day's window, if it has one.
    fn of_day(
        &self,
        zone: &Zone,
        dst: DstPolicy,
        day: Date,
        after: UtcMillis,
    ) -> Option<UtcMillis> {
        if !self.weekdays.has(wall::weekday(day)) {
            return None;
        }
        let [open, _] = wall::instants(zone, at(day, self.from)?, dst);
        let open = open?;
        let last_day = if self.to < self.from { day.tomorrow().ok()? } else { day };
        // The last time that the clock shows the end.
        let [first, second] = wall::instants(zone, at(last_day, self.to)?, DstPolicy::Twice);
        let close = second
            .or(first)
            .or_else(|| wall::instants(zone, at(last_day, self.to)?, DstPolicy::Smart)[0])?;
        let number =
            if after < open { 0 } else { after.since(open).0.checked_div(self.every.0)? + 1 };
        let offset = number.checked_mul(self.every.0)?;
        Some(open.plus(Span(offset))).filter(|found| *found <= close)
    }
}

/// A day's time of day on the clock.
pub(super) fn at(day: Date, time: TimeOfDay) -> Option<DateTime> {
    let midnight = day.at(0, 0, 0, 0);
    midnight.checked_add(SignedDuration::from_secs(i64::from(time.seconds()))).ok()
}
