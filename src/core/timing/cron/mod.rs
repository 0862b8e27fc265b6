//! Cron expressions: text to sets of numbers.
//!
//! Two dialects, of which each trigger names one. Quartz's has six fields
//! (seconds, minutes, hours, day of month, month, day of week) and perhaps a
//! year; it is read exactly as Quartz reads it, with a [`Notice`] wherever that
//! differs from what the text seems to say. Unix's has five, and some words of
//! its own. Nothing here knows zones or instants: [`super::next_fire`] does.

use std::fmt;
use std::str::FromStr;

use jiff::civil::date;

use super::next_fire;
use crate::ids::{JobId, TriggerName};
use crate::model::trigger::Dialect;
use crate::time::Span;

mod days;
mod error;
mod explain;
mod field;
mod item;
mod quartz;
mod unix;
mod years;

pub use error::{CronError, Fault, Idle, Notice, Place};
pub use field::Field;

use days::{Days, Month};
use years::Years;

/// The first year that can match.
pub(super) const FIRST_YEAR: i16 = 1970;
/// The last year that is read.
pub(super) const LAST_YEAR: i16 = 2299;
/// The last year in which Quartz's dialect fires.
const LAST_QUARTZ_YEAR: i16 = 2125;

/// A parsed expression: which numbers each field matches.
#[derive(Clone, PartialEq, Eq)]
pub struct CronExpr {
    text: String,
    dialect: Dialect,
    seconds: u64,
    minutes: u64,
    hours: u64,
    months: u64,
    days: Days,
    years: Years,
    notices: Vec<Notice>,
}

/// What a text of the Unix dialect asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CronRule {
    /// Times on the clock.
    Clock(CronExpr),
    /// `@every`: a fixed rate of elapsed time.
    Every(Span),
}

/// What `H` is spread by: the same for a trigger of a job for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spread(u64);

impl Spread {
    /// By the job's number and the trigger's name.
    #[must_use]
    pub fn of(job: JobId, trigger: &TriggerName) -> Self {
        Self(xxhash_rust::xxh3::xxh3_64_with_seed(trigger.0.as_bytes(), job.0))
    }

    /// A number below `below`, differing from field to field.
    fn pick(self, field: Field, below: u32) -> u32 {
        let mut bytes = [0; 9];
        bytes[..8].copy_from_slice(&self.0.to_le_bytes());
        bytes[8] = field as u8;
        let picked = xxhash_rust::xxh3::xxh3_64(&bytes) % u64::from(below.max(1));
        u32::try_from(picked).unwrap_or(0)
    }
}

impl CronRule {
    /// Reads an expression of either dialect.
    ///
    /// # Errors
    /// [`CronError`], with the place and what would be right.
    pub fn parse(text: &str, dialect: Dialect, spread: Spread) -> Result<Self, CronError> {
        check_length(text, dialect)?;
        match dialect {
            Dialect::Quartz => quartz::parse(text).map(Self::Clock),
            Dialect::Unix => unix::parse(text, spread),
        }
    }
}

fn check_length(text: &str, dialect: Dialect) -> Result<(), CronError> {
    if text.len() <= CronExpr::MAX_LEN {
        return Ok(());
    }
    Err(CronError {
        text: text.chars().take(40).collect(),
        dialect,
        place: None,
        fault: Fault::TooLong(text.len()),
    })
}

impl CronExpr {
    /// The longest expression, in bytes.
    pub const MAX_LEN: usize = 500;

    /// Reads an expression of Quartz's dialect.
    ///
    /// # Errors
    /// [`CronError`], with the place and what would be right.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        check_length(text, Dialect::Quartz)?;
        quartz::parse(text)
    }

    /// The expression with single spaces.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The grammar it was written in.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Parts that do not do what they seem to say. Only Quartz's dialect has any.
    #[must_use]
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// An error for the first part that does not do what it seems to say, and
    /// for an expression that no day of any year matches: what a definition is
    /// checked with.
    ///
    /// # Errors
    /// [`CronError`], with the place and what would be right.
    pub fn strict(self) -> Result<Self, CronError> {
        if let Some(notice) = self.notices.first() {
            let Notice { place, idle } = notice.clone();
            return Err(CronError {
                text: self.text,
                dialect: self.dialect,
                place: Some(Box::new(place)),
                fault: Fault::Idle(idle),
            });
        }
        if next_fire::next_local(&self, date(FIRST_YEAR, 1, 1).at(0, 0, 0, 0)).is_none() {
            let (text, dialect) = (self.text, self.dialect);
            return Err(CronError { text, dialect, place: None, fault: Fault::NoDay });
        }
        Ok(self)
    }

    /// True if its hours are all 24: such a cron runs through a change of the
    /// clocks, every other keeps to its hour.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.hours == (1 << 24) - 1
    }

    /// Matching seconds as bits from 0.
    pub(super) fn seconds(&self) -> u64 {
        self.seconds
    }

    /// Matching minutes as bits from 0.
    pub(super) fn minutes(&self) -> u64 {
        self.minutes
    }

    /// Matching hours as bits from 0.
    pub(super) fn hours(&self) -> u64 {
        self.hours
    }

    /// Matching months as bits; January is bit 1.
    pub(super) fn months(&self) -> u64 {
        self.months
    }

    /// Matching days of a month as bits; the first is bit 1. `first` is the
    /// weekday of the first, Sunday being 0.
    pub(super) fn days(&self, first: u32, length: u32) -> u64 {
        self.days.of(Month { first, length })
    }

    /// The last year in which it can fire.
    pub(super) fn last_year(&self) -> i16 {
        match self.dialect {
            Dialect::Quartz => LAST_QUARTZ_YEAR,
            Dialect::Unix => LAST_YEAR,
        }
    }

    /// The first matching year from `year` on.
    pub(super) fn year_from(&self, year: i16) -> Option<i16> {
        (year.max(FIRST_YEAR)..=self.last_year()).find(|y| self.years.has(*y))
    }
}

impl fmt::Display for CronExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for CronExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CronExpr").field(&self.text).finish()
    }
}

impl FromStr for CronExpr {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        Self::parse(text)
    }
}

/// A field of a text.
#[derive(Debug, Clone, Copy)]
struct Word<'a> {
    value: &'a str,
    column: usize,
}

/// The fields of a text, with where they stand on one line.
fn words(text: &str) -> Vec<Word<'_>> {
    let mut column = 1;
    text.split_whitespace()
        .map(|value| {
            let word = Word { value, column };
            column += value.chars().count() + 1;
            word
        })
        .collect()
}

impl<'a> Word<'a> {
    /// The items of the field's list, empty ones left out.
    fn items(self) -> impl Iterator<Item = Word<'a>> {
        let mut column = self.column;
        self.value.split(',').filter_map(move |value| {
            let word = Word { value, column };
            column += value.chars().count() + 1;
            (!value.is_empty()).then_some(word)
        })
    }

    fn place(self, field: Field) -> Place {
        Place { field, value: self.value.to_owned(), column: self.column }
    }
}

#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod tests;
