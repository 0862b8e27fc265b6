//! Calendars: times at which triggers that name them do not fire.
//!
//! Plain data, read and asked by [`crate::timing::calendar`]. Fields and
//! variants are only ever appended.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::trigger::{Dialect, TimeOfDay, Weekdays};
use crate::ids::{JobId, Name, Revision};
use crate::time::UtcMillis;

/// A named set of times, which triggers leave out or keep to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalendarDef {
    /// Unique in the cluster.
    pub name: Name,
    /// For people; up to 1,000 bytes.
    pub description: String,
    /// IANA zone of its days and times; the trigger's where none is given.
    pub zone: Option<String>,
    /// The times.
    pub rule: CalendarRule,
    /// False: nothing fires at these times. True: only at these.
    pub include_only: bool,
    /// Another calendar that must allow an instant too.
    pub base: Option<Name>,
}

impl CalendarDef {
    /// The most calendars in a chain of bases.
    pub const MAX_CHAIN: usize = 16;
    /// The most dates, days or ranges in one.
    pub const MAX_ENTRIES: usize = 10_000;
    /// The longest description, in bytes.
    pub const MAX_DESCRIPTION: usize = 1_000;
}

/// A calendar as the cluster holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredCalendar {
    /// What the user wrote.
    pub def: CalendarDef,
    /// Counts the definitions that differed, from 1.
    pub revision: Revision,
    /// When the first revision was committed.
    pub created: UtcMillis,
    /// When this revision was committed.
    pub updated: UtcMillis,
    /// Log index of this revision: plans that were made before it are refused.
    pub index: u64,
}

/// A change of a calendar that comes to the jobs that rest on it one after the other:
/// so many a command, so that no command takes long.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Replan {
    /// The last one that it has come to: by the calendar that the job names, which may
    /// be based on the changed one, and by its number.
    pub done: Option<(Name, JobId)>,
}

/// The kinds of calendars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CalendarRule {
    /// These days, such as public holidays.
    Dates(BTreeSet<CalendarDate>),
    /// These days of each week.
    Weekly(Weekdays),
    /// These days of each month, 1 to 31.
    Monthly(BTreeSet<u8>),
    /// These days of each year: month and day.
    Annual(BTreeSet<(u8, u8)>),
    /// These times of each day: from the first up to before the second, over
    /// midnight if that is earlier.
    Daily(Vec<(TimeOfDay, TimeOfDay)>),
    /// Each second that an expression matches.
    Cron {
        /// The expression as written.
        expression: String,
        /// The grammar it is written in.
        dialect: Dialect,
    },
}

impl CalendarRule {
    /// How many days or times it names; one, if it is an expression or names days of the
    /// week.
    #[must_use]
    pub fn entries(&self) -> usize {
        match self {
            Self::Dates(dates) => dates.len(),
            Self::Weekly(days) => usize::from(!days.is_empty()),
            Self::Monthly(days) => days.len(),
            Self::Annual(days) => days.len(),
            Self::Daily(ranges) => ranges.len(),
            Self::Cron { .. } => 1,
        }
    }
}

/// A day of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CalendarDate {
    /// 1970 to 2299.
    pub year: i16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
}

/// `2026-12-25`.
impl std::fmt::Display for CalendarDate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{:04}-{:02}-{:02}", self.year, self.month, self.day))
    }
}

/// Not a day: which text, and how to write one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a day: write it as 2026-12-25, with a year from 1970 to 2299")]
pub struct CalendarDateError(String);

impl std::str::FromStr for CalendarDate {
    type Err = CalendarDateError;

    fn from_str(text: &str) -> Result<Self, CalendarDateError> {
        let wrong = || CalendarDateError(text.chars().take(40).collect());
        let date: jiff::civil::Date = text.parse().map_err(|_| wrong())?;
        let is_plain = text.len() == 10 && (1970..=2299).contains(&date.year());
        is_plain.then(|| Self::from(date)).ok_or_else(wrong)
    }
}

impl From<jiff::civil::Date> for CalendarDate {
    fn from(date: jiff::civil::Date) -> Self {
        Self {
            year: date.year(),
            month: date.month().unsigned_abs(),
            day: date.day().unsigned_abs(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_print_as_they_are_read() {
        for text in ["2026-12-25", "1970-01-01", "2024-02-29"] {
            assert_eq!(text.parse::<CalendarDate>().unwrap().to_string(), text);
        }
        for bad in ["", "2026-02-29", "25.12.2026", "1969-12-31", "2026-12-25T00:00:00", "20261225"]
        {
            assert!(bad.parse::<CalendarDate>().is_err(), "{bad:?}");
        }
    }
}
