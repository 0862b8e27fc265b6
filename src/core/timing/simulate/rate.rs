//! Simple triggers and calendar intervals.

use super::java;
use super::{FOR_EVER, LAST_YEAR, QuartzTrigger};
use crate::model::trigger::CalendarUnit;

impl QuartzTrigger {
    pub(super) fn simple_after(&self, interval: i64, after: i64) -> Option<i64> {
        let is_bounded = self.repeat_count != FOR_EVER;
        if is_bounded && self.times_triggered > self.repeat_count {
            return None;
        }
        if self.repeat_count == 0 && after >= self.start {
            return None;
        }
        if self.end.is_some_and(|end| end <= after) {
            return None;
        }
        if after < self.start {
            return Some(self.start);
        }
        let number = (after - self.start).checked_div(interval)? + 1;
        if is_bounded && number > self.repeat_count {
            return None;
        }
        let at = self.start.checked_add(number.checked_mul(interval)?)?;
        Some(at).filter(|at| self.end.is_none_or(|end| *at < end))
    }

    pub(super) fn simple_last(&self, interval: i64) -> Option<i64> {
        if interval == 0 {
            return Some(self.start);
        }
        // The end itself counts here, although it does not fire.
        let before_end = |end: i64| {
            (end >= self.start).then(|| self.start + (end - self.start) / interval * interval)
        };
        if self.repeat_count == FOR_EVER {
            return before_end(self.end?);
        }
        let last = self.start.checked_add(self.repeat_count.checked_mul(interval)?)?;
        match self.end {
            Some(end) if last >= end => before_end(end),
            _ => Some(last),
        }
    }

    /// Without a look at the end.
    pub(super) fn calendar_after(
        &self,
        (interval, unit): (i64, CalendarUnit),
        preserve_hour: bool,
        skip_day: bool,
        after: i64,
    ) -> Option<i64> {
        if after < self.start {
            return Some(self.start);
        }
        let seconds = 1 + (after - self.start) / 1000;
        if let Some(millis) = java::elapsed(unit) {
            let steps = div_up(seconds, interval.checked_mul(millis / 1000)?)?;
            return java::add(&self.zone, self.start, steps.checked_mul(interval)?, unit);
        }
        let step =
            |at: i64, count: i64| java::add(&self.zone, at, interval.checked_mul(count)?, unit);
        let goes_on = |at: i64| java::year(&self.zone, at).is_some_and(|year| year < LAST_YEAR);
        let hour = java::local(&self.zone, self.start)?.hour();
        let mut at = self.start;
        let days = match unit {
            CalendarUnit::Day => Some(1),
            CalendarUnit::Week => Some(7),
            _ => None,
        };
        if let Some(days) = days {
            let jumps = seconds.checked_div(interval.checked_mul(days * 86_400)?)?;
            if let Some(most) = most_of(jumps) {
                at = step(at, most)?;
            }
        }
        while at <= after && goes_on(at) {
            at = step(at, 1)?;
        }
        while preserve_hour && goes_on(at) {
            if java::local(&self.zone, at)?.hour() == hour {
                break;
            }
            at = java::with_hour(&self.zone, at, hour)?;
            let is_there = java::local(&self.zone, at)?.hour() == hour;
            let goes_on = if is_there { at <= after } else { skip_day };
            if !goes_on {
                break;
            }
            at = step(at, 1)?;
        }
        Some(at)
    }

    pub(super) fn calendar_last(
        &self,
        (interval, unit): (i64, CalendarUnit),
        preserve_hour: bool,
        skip_day: bool,
    ) -> Option<i64> {
        let end = self.end?;
        let next = self.calendar_after((interval, unit), preserve_hour, skip_day, end - 1000)?;
        if next == end {
            return Some(next);
        }
        java::add(&self.zone, next, -interval, unit)
    }
}

/// Quartz leaps over most of a long way.
fn most_of(jumps: i64) -> Option<i64> {
    let percent = match jumps {
        ..=20 => return None,
        21..50 => 80,
        50..500 => 90,
        _ => 95,
    };
    Some(jumps * percent / 100)
}

pub(super) fn div_up(number: i64, by: i64) -> Option<i64> {
    Some(number.checked_div(by)? + i64::from(number.checked_rem(by)? != 0))
}
