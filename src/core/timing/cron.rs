//! Cron expressions in Quartz's form: text to sets of numbers.
//!
//! Six fields (seconds, minutes, hours, day of month, month, day of week) and
//! an optional seventh, the year. The `cron` crate reads the plain fields; the
//! year is read here, because the crate ends at 2100. Nothing here knows zones
//! or instants: [`super::next_fire`] does.
//!
//! Each field is given to the crate alone, between stars, for two reasons: an
//! error can then name its field, and the crate, which needs no space between
//! fields, cannot read `5*` as two of them.

use std::fmt;
use std::str::FromStr;

use ::cron::{Schedule, TimeUnitSpec};

/// A parsed expression: which numbers each field matches.
#[derive(Clone, PartialEq, Eq)]
pub struct CronExpr {
    text: String,
    seconds: u64,
    minutes: u64,
    hours: u64,
    days_of_month: u64,
    months: u64,
    days_of_week: u64,
    years: Years,
}

/// The fields, in the order of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// 0 to 59.
    Seconds,
    /// 0 to 59.
    Minutes,
    /// 0 to 23.
    Hours,
    /// 1 to 31.
    DayOfMonth,
    /// 1 to 12, or JAN to DEC.
    Month,
    /// 1 to 7 from Sunday, or SUN to SAT.
    DayOfWeek,
    /// 1970 to 2299; may be left out.
    Year,
}

impl Field {
    const ALL: [Self; 7] = [
        Self::Seconds,
        Self::Minutes,
        Self::Hours,
        Self::DayOfMonth,
        Self::Month,
        Self::DayOfWeek,
        Self::Year,
    ];

    /// What may stand in this field.
    #[must_use]
    pub fn expected(self) -> &'static str {
        match self {
            Self::Seconds | Self::Minutes => "0 to 59",
            Self::Hours => "0 to 23",
            Self::DayOfMonth => "1 to 31, or ?",
            Self::Month => "1 to 12 or JAN to DEC",
            Self::DayOfWeek => "1 (Sunday) to 7 (Saturday) or SUN to SAT, or ?",
            Self::Year => "1970 to 2299",
        }
    }
}

/// The name used in messages.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Seconds => "seconds",
            Self::Minutes => "minutes",
            Self::Hours => "hours",
            Self::DayOfMonth => "day of month",
            Self::Month => "month",
            Self::DayOfWeek => "day of week",
            Self::Year => "year",
        })
    }
}

/// Why a text is not a cron expression: which field, which value, what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Longer than any sensible expression.
    #[error("the cron expression has {length} bytes: at most {} are read", CronExpr::MAX_LEN)]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Not six or seven fields.
    #[error(
        "{text:?} has {found} fields: write 6 or 7 (seconds minutes hours day-of-month month \
         day-of-week, then perhaps year), such as 0 30 5 * * ?"
    )]
    FieldCount {
        /// The expression.
        text: String,
        /// Fields found.
        found: usize,
    },
    /// A value that its field cannot have.
    #[error(
        "{field} {value:?} (at column {column}) is not understood: expected {}, alone, in lists \
         (1,5), ranges (1-5) or steps (0/15)",
        field.expected()
    )]
    Value {
        /// Which field.
        field: Field,
        /// What stands there.
        value: String,
        /// Where the field begins, counted from 1 in characters.
        column: usize,
    },
    /// A range whose end lies before its start.
    #[error(
        "{field} {value:?} (at column {column}) runs backwards: write the two parts as a list, \
         such as 22-23,0-2 for 22-2"
    )]
    Backwards {
        /// Which field.
        field: Field,
        /// What stands there.
        value: String,
        /// Where the field begins, counted from 1 in characters.
        column: usize,
    },
    /// Quartz grammar that this version does not have.
    #[error(
        "{field} {value:?} (at column {column}): {sign} is not supported by this version; \
         expected {}",
        field.expected()
    )]
    Unsupported {
        /// Which field.
        field: Field,
        /// What stands there.
        value: String,
        /// Where the field begins, counted from 1 in characters.
        column: usize,
        /// The sign that has no meaning here.
        sign: char,
    },
    /// Day of month and day of week both given, or neither.
    #[error(
        "day of month {day_of_month:?} and day of week {day_of_week:?}: exactly one of the two \
         must be ?, such as 0 0 3 * * ? or 0 0 3 ? * MON"
    )]
    Days {
        /// The fourth field.
        day_of_month: String,
        /// The sixth field.
        day_of_week: String,
    },
}

impl CronExpr {
    /// The longest expression, in bytes.
    pub const MAX_LEN: usize = 500;
    /// The first year that can match.
    pub const FIRST_YEAR: i16 = 1970;
    /// The last year that can match.
    pub const LAST_YEAR: i16 = 2299;

    /// Reads an expression.
    ///
    /// # Errors
    /// [`CronError`], with the field and what would be right.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        if text.len() > Self::MAX_LEN {
            return Err(CronError::TooLong { length: text.len() });
        }
        let values: Vec<&str> = text.split_whitespace().collect();
        if !matches!(values.len(), 6 | 7) {
            return Err(CronError::FieldCount { text: text.to_owned(), found: values.len() });
        }
        let places = Field::ALL.into_iter().zip(&values).map(|(field, value)| Place {
            field,
            value,
            column: column_of(text, value),
        });
        let mut sets = [0_u64; 6];
        let mut years = Years::all();
        for place in places {
            if place.field == Field::Year {
                years = place.years()?;
            } else {
                sets[place.field as usize] = place.ordinals()?;
            }
        }
        let [seconds, minutes, hours, days_of_month, months, days_of_week] = sets;
        if (values[3] == "?") == (values[5] == "?") {
            return Err(CronError::Days {
                day_of_month: values[3].to_owned(),
                day_of_week: values[5].to_owned(),
            });
        }
        Ok(Self {
            text: values.join(" "),
            seconds,
            minutes,
            hours,
            days_of_month,
            months,
            days_of_week,
            years,
        })
    }

    /// The expression with single spaces.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
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
        let weekdays = self.days_of_week >> 1;
        let mut by_week = 0;
        for weekday in (0..7).filter(|w| weekdays & (1 << w) != 0) {
            // The first such weekday of the month, then each seventh day.
            let day = 1 + (weekday + 7 - first) % 7;
            by_week |= 0x1020_4081_u64 << day;
        }
        by_week & self.days_of_month & ((1 << (length + 1)) - 1)
    }

    /// The first matching year from `year` on.
    pub(super) fn year_from(&self, year: i16) -> Option<i16> {
        (year.max(Self::FIRST_YEAR)..=Self::LAST_YEAR).find(|y| self.years.has(*y))
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

/// Years as bits from [`CronExpr::FIRST_YEAR`].
#[derive(Debug, Clone, PartialEq, Eq)]
struct Years([u64; 6]);

impl Years {
    fn all() -> Self {
        Self([u64::MAX; 6])
    }

    fn has(&self, year: i16) -> bool {
        usize::try_from(year - CronExpr::FIRST_YEAR)
            .is_ok_and(|bit| self.0.get(bit / 64).is_some_and(|word| word & (1 << (bit % 64)) != 0))
    }

    /// Years after the last that can match are let in and never reached, as in Quartz.
    fn add(&mut self, year: u32) {
        let bit = year as usize - CronExpr::FIRST_YEAR as usize;
        if let Some(word) = self.0.get_mut(bit / 64) {
            *word |= 1 << (bit % 64);
        }
    }
}

/// One field of a text.
struct Place<'a> {
    field: Field,
    value: &'a str,
    column: usize,
}

impl Place<'_> {
    /// What the `cron` crate makes of the field, as bits.
    fn ordinals(&self) -> Result<u64, CronError> {
        let value = self.value;
        if let Some(sign) = self.unsupported_sign() {
            return Err(CronError::Unsupported {
                field: self.field,
                value: value.to_owned(),
                column: self.column,
                sign,
            });
        }
        // The crate takes ? as one item of a list; in Quartz it stands alone.
        if value.contains('?') && value != "?" {
            return Err(self.not_understood());
        }
        let mut fields = ["*"; 7];
        fields[self.field as usize] = value;
        let parsed = Schedule::from_str(&fields.join(" ")).map_err(|_| self.why_not())?;
        let bits = |set: &dyn Fn() -> Vec<u32>| set().iter().fold(0_u64, |b, n| b | (1 << n));
        Ok(match self.field {
            Field::Seconds => bits(&|| parsed.seconds().iter().collect()),
            Field::Minutes => bits(&|| parsed.minutes().iter().collect()),
            Field::Hours => bits(&|| parsed.hours().iter().collect()),
            Field::DayOfMonth => bits(&|| parsed.days_of_month().iter().collect()),
            Field::Month => bits(&|| parsed.months().iter().collect()),
            // The crate counts weekdays as Quartz does: 1 is Sunday.
            Field::DayOfWeek => bits(&|| parsed.days_of_week().iter().collect()),
            // Read by `years`: the crate ends too early.
            Field::Year => return Err(self.not_understood()),
        })
    }

    /// Reads `*`, `2024`, `2024-2030`, `2024/2` and lists of them.
    fn years(&self) -> Result<Years, CronError> {
        if self.value == "*" {
            return Ok(Years::all());
        }
        let wrong = || self.not_understood();
        let number = |text: &str| -> Result<u32, CronError> {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten().ok_or_else(wrong)
        };
        let year = |text: &str| {
            number(text).and_then(|y| if (1970..=9999).contains(&y) { Ok(y) } else { Err(wrong()) })
        };
        let last = CronExpr::LAST_YEAR as u32;
        let mut years = Years([0; 6]);
        for item in self.value.split(',') {
            let (base, step) = match item.split_once('/') {
                Some((base, step)) => (base, Some(number(step)?)),
                None => (item, None),
            };
            let (from, to) = match base.split_once('-') {
                Some((from, to)) => (year(from)?, year(to)?),
                None if base == "*" => (CronExpr::FIRST_YEAR as u32, last),
                None if step.is_some() => (year(base)?, last),
                None => (year(base)?, year(base)?),
            };
            if from > to && base.contains('-') {
                return Err(self.backwards());
            }
            let step = match step {
                None => 1,
                Some(0) => return Err(wrong()),
                Some(step) => step as usize,
            };
            (from..=to).step_by(step).for_each(|y| years.add(y));
        }
        Ok(years)
    }

    /// The first sign of Quartz's grammar that is not read yet. Names contain
    /// the letters too (JUL, WED), so they are taken out first.
    fn unsupported_sign(&self) -> Option<char> {
        let mut rest = self.value.to_ascii_uppercase();
        match self.field {
            Field::DayOfMonth => {}
            Field::DayOfWeek => {
                for name in ["WEDNESDAY", "WED"] {
                    rest = rest.replace(name, "");
                }
            }
            _ => return None,
        }
        rest.chars().find(|c| matches!(c, 'L' | 'W' | '#'))
    }

    fn why_not(&self) -> CronError {
        let backwards = self.value.split(',').any(|item| {
            let range = item.split('/').next().unwrap_or(item);
            range.split_once('-').is_some_and(|(from, to)| {
                matches!((from.parse::<u32>(), to.parse::<u32>()), (Ok(a), Ok(b)) if a > b)
            })
        });
        if backwards { self.backwards() } else { self.not_understood() }
    }

    fn backwards(&self) -> CronError {
        CronError::Backwards {
            field: self.field,
            value: self.value.to_owned(),
            column: self.column,
        }
    }

    fn not_understood(&self) -> CronError {
        CronError::Value { field: self.field, value: self.value.to_owned(), column: self.column }
    }
}

/// Where `part`, a slice of `text`, begins, in characters from 1.
fn column_of(text: &str, part: &str) -> usize {
    let offset = part.as_ptr().addr().saturating_sub(text.as_ptr().addr());
    text.get(..offset).map_or(1, |before| before.chars().count() + 1)
}

#[cfg(test)]
#[path = "cron_tests.rs"]
mod tests;
