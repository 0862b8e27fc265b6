//! Daily time intervals.

use super::java;
use super::rate::div_up;
use super::{FOR_EVER, QuartzTrigger};
use crate::model::trigger::{CalendarUnit, TimeOfDay, Weekdays};
use crate::timing::wall;

impl QuartzTrigger {
    pub(super) fn daily_after(
        &self,
        (interval, unit): (i64, CalendarUnit),
        (from, to): (TimeOfDay, Option<TimeOfDay>),
        weekdays: Weekdays,
        after: i64,
    ) -> Option<i64> {
        if self.repeat_count != FOR_EVER && self.times_triggered > self.repeat_count {
            return None;
        }
        let zone = &self.zone;
        let after = (after + 1000).max(self.start);
        let is_past = match to {
            Some(to) => after > java::time_on_day_of(zone, after, to)?,
            None => false,
        };
        let at = self.to_weekday(from, weekdays, after, is_past)?;
        let close = java::time_on_day_of(zone, at, to.unwrap_or(TimeOfDay::LAST))?;
        let open = java::time_on_day_of(zone, at, from)?;
        if at < open {
            return Some(open);
        }
        let seconds = (at - open) / 1000;
        let steps = div_up(seconds, interval.checked_mul(java::elapsed(unit)? / 1000)?)?;
        let at = java::add(zone, open, steps.checked_mul(interval)?, unit)?;
        if at <= close {
            return Some(at);
        }
        let is_same_day = java::local(zone, at)?.date() == java::local(zone, close)?.date();
        let day = self.to_weekday(from, weekdays, at, is_same_day)?;
        java::time_on_day_of(zone, day, from)
    }

    /// `at` itself on a chosen day, else the opening of the next one.
    fn to_weekday(
        &self,
        from: TimeOfDay,
        weekdays: Weekdays,
        at: i64,
        is_past: bool,
    ) -> Option<i64> {
        let zone = &self.zone;
        let is_chosen = |at: i64| Some(weekdays.has(wall::weekday(java::local(zone, at)?.date())));
        let mut found = at;
        let mut day = java::time_on_day_of(zone, at, from)?;
        if is_past || !is_chosen(day)? {
            for _ in 0..7 {
                day = java::add(zone, day, 1, CalendarUnit::Day)?;
                if is_chosen(day)? {
                    found = day;
                    break;
                }
            }
        }
        Some(found).filter(|at| self.end.is_none_or(|end| *at <= end))
    }

    pub(super) fn daily_last(&self, to: Option<TimeOfDay>) -> Option<i64> {
        let end = self.end?;
        let Some(to) = to else { return Some(end) };
        Some(end.max(java::time_on_day_of(&self.zone, end, to)?))
    }
}
