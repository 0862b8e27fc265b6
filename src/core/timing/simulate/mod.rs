//! Quartz's triggers with all their habits, in milliseconds: which instants they
//! have and what a misfire does to them.
//!
//! For what-if questions alone, such as whether a schedule that moves here
//! fires as it did there. Live triggers are read by [`super::schedule`], which
//! has no such habits: here month ends drift, a day without its hour can move
//! every later one, and the last fire told may lie behind the end.

mod daily;
mod java;
mod misfire;
mod rate;

use super::calendar::{Calendar, Verdict};
use super::cron::CronExpr;
use super::next_fire;
use super::zone::Zone;
use crate::model::trigger::{CalendarUnit, DstPolicy, TimeOfDay, Weekdays};
use crate::time::UtcMillis;

pub use misfire::{After, Instruction};

/// A trigger of Quartz. Times are milliseconds since 1970.
#[derive(Debug, Clone)]
pub struct QuartzTrigger {
    /// What it is.
    pub kind: QuartzKind,
    /// The zone of its calendar; Quartz's daily triggers have the machine's.
    pub zone: Zone,
    /// Its start.
    pub start: i64,
    /// Its end.
    pub end: Option<i64>,
    /// How often after the first time; -1 for ever. Not of crons and calendar
    /// intervals.
    pub repeat_count: i64,
    /// How often it has fired.
    pub times_triggered: i64,
}

/// The kinds of Quartz's triggers.
#[derive(Debug, Clone)]
pub enum QuartzKind {
    /// Elapsed time.
    Simple {
        /// Milliseconds; at least 1 unless it fires once.
        interval: i64,
    },
    /// An expression.
    Cron(Box<CronExpr>),
    /// Units of the calendar.
    CalendarInterval {
        /// How many, at least 1.
        interval: i64,
        /// Of what.
        unit: CalendarUnit,
        /// Put the hour back that a change of the clocks has moved.
        preserve_hour: bool,
        /// With that: leave days out that lack the hour.
        skip_day: bool,
    },
    /// Again and again between two times of day.
    Daily {
        /// How many units, at least 1.
        interval: i64,
        /// Seconds, minutes or hours.
        unit: CalendarUnit,
        /// The first instant of a day.
        from: TimeOfDay,
        /// The last possible one.
        to: Option<TimeOfDay>,
        /// The days.
        weekdays: Weekdays,
    },
}

/// Quartz gives up a hundred years ahead.
const LAST_YEAR: i16 = 2125;
/// Instants that a calendar is asked about for one answer.
const MAX_EXCLUDED: usize = 1_000_000;
/// For ever.
const FOR_EVER: i64 = -1;

impl QuartzTrigger {
    /// The first instants, as a scheduler would fire them, at most `count`.
    #[must_use]
    pub fn fires(&self, calendar: Option<&Calendar>, count: usize) -> Vec<i64> {
        let mut trigger = self.clone();
        let mut fires = Vec::new();
        let first = match &trigger.kind {
            QuartzKind::Simple { .. } | QuartzKind::CalendarInterval { .. } => Some(trigger.start),
            QuartzKind::Cron(_) | QuartzKind::Daily { .. } => trigger.after(trigger.start - 1000),
        };
        let mut left = MAX_EXCLUDED;
        let mut next = trigger.allowed(first, calendar, &mut left);
        while let Some(at) = next.filter(|_| fires.len() < count) {
            fires.push(at);
            trigger.times_triggered += 1;
            next = trigger.allowed(trigger.after(at), calendar, &mut left);
        }
        fires
    }

    /// The first of these that the calendar allows.
    fn allowed(
        &self,
        first: Option<i64>,
        calendar: Option<&Calendar>,
        left: &mut usize,
    ) -> Option<i64> {
        let mut at = first?;
        let Some(calendar) = calendar else { return Some(at) };
        while *left > 0 {
            *left -= 1;
            match calendar.ask(UtcMillis(at)) {
                Verdict::Allowed => return Some(at),
                Verdict::ExcludedForEver => return None,
                Verdict::ExcludedUntil(_) => at = self.after(at)?,
            }
            if java::year(&self.zone, at)? > LAST_YEAR {
                return None;
            }
        }
        None
    }

    /// The first instant after `after`.
    #[must_use]
    pub fn after(&self, after: i64) -> Option<i64> {
        match &self.kind {
            QuartzKind::Simple { interval } => self.simple_after(*interval, after),
            QuartzKind::Cron(cron) => self.cron_after(cron, after),
            QuartzKind::CalendarInterval { interval, unit, preserve_hour, skip_day } => {
                if self.end.is_some_and(|end| end <= after) {
                    return None;
                }
                let found =
                    self.calendar_after((*interval, *unit), *preserve_hour, *skip_day, after)?;
                Some(found).filter(|at| self.end.is_none_or(|end| *at < end))
            }
            QuartzKind::Daily { interval, unit, from, to, weekdays } => {
                self.daily_after((*interval, *unit), (*from, *to), *weekdays, after)
            }
        }
    }

    fn cron_after(&self, cron: &CronExpr, after: i64) -> Option<i64> {
        let after = if self.start > after { self.start - 1000 } else { after };
        if self.end.is_some_and(|end| after >= end) {
            return None;
        }
        let next = next_fire::next_after(cron, &self.zone, DstPolicy::Quartz, UtcMillis(after))?.0;
        Some(next).filter(|at| self.end.is_none_or(|end| *at <= end))
    }

    /// What Quartz says is the last instant; none if it goes on for ever.
    #[must_use]
    pub fn last(&self) -> Option<i64> {
        match &self.kind {
            QuartzKind::Simple { interval } => self.simple_last(*interval),
            QuartzKind::Cron(_) => None,
            QuartzKind::CalendarInterval { interval, unit, preserve_hour, skip_day } => {
                self.calendar_last((*interval, *unit), *preserve_hour, *skip_day)
            }
            QuartzKind::Daily { to, .. } => self.daily_last(*to),
        }
    }
}
