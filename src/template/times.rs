//! Times in templates: `nominal` and `due`, in the job's zone.
//!
//! - Printed, or by `iso()`: RFC 3339 with the zone's offset.
//! - `format("yyyy-MM-dd HH:mm:ss")` by Java's letters, or `format("%Y-%m-%d")` by those
//!   of strftime if the pattern has a `%`; names of months and days are English.
//! - `add(years=, months=, weeks=, days=, hours=, minutes=, seconds=)`, and each alone as
//!   `add_days(-1)`. Days and longer are counted on the clock, hours and shorter are
//!   exact, as [`horai_core::timing::local`] says.
//! - `start_of("hour")`, `"day"`, `"week"` (from Monday), `"month"`, `"year"`.
//! - `in_zone("Asia/Shanghai")`: the same instant on that clock.
//! - `unix()` and `unix_ms()`: since 1970, in seconds and in milliseconds.
//! - `.year`, `.month`, `.day`, `.hour`, `.minute`, `.second`, `.weekday` (Monday is 1) and
//!   `.day_of_year`: numbers.
//!
//! Times compare by their instants. There is none that says what time it is now.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use horai_core::model::edge::PeriodUnit;
use horai_core::timing::local::{LocalTime, Shift, StartOf};
use horai_core::timing::zone::Zone;
use minijinja::value::{DynObject, Kwargs, Object, ObjectRepr, Value, from_args};
use minijinja::{Error, ErrorKind, State};

use super::error::{suggest, write_one_of};
use super::patterns;

/// What a time has without being called.
pub(super) const ATTRIBUTES: [&str; 8] =
    ["year", "month", "day", "hour", "minute", "second", "weekday", "day_of_year"];

/// What `add` can be told, and what `add_…` there is.
pub(super) const UNITS: [&str; 7] =
    ["years", "months", "weeks", "days", "hours", "minutes", "seconds"];

/// What `start_of` can be told.
pub(super) const STARTS: [(&str, StartOf); 5] = [
    ("hour", StartOf::Period(PeriodUnit::Hour)),
    ("day", StartOf::Period(PeriodUnit::Day)),
    ("week", StartOf::Period(PeriodUnit::Week)),
    ("month", StartOf::Period(PeriodUnit::Month)),
    ("year", StartOf::Year),
];

/// What may be called, and what it takes.
pub(super) const METHODS: [(&str, Takes); 14] = [
    ("add", Takes::Units),
    ("add_years", Takes::Number),
    ("add_months", Takes::Number),
    ("add_weeks", Takes::Number),
    ("add_days", Takes::Number),
    ("add_hours", Takes::Number),
    ("add_minutes", Takes::Number),
    ("add_seconds", Takes::Number),
    ("start_of", Takes::Start),
    ("in_zone", Takes::Zone),
    ("format", Takes::Pattern),
    ("iso", Takes::Nothing),
    ("unix", Takes::Nothing),
    ("unix_ms", Takes::Nothing),
];

/// What stands between the parentheses of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// `days=1`, and others of [`UNITS`].
    Units,
    /// How many.
    Number,
    /// One of [`STARTS`].
    Start,
    /// A zone's name.
    Zone,
    /// A pattern.
    Pattern,
    /// Nothing, and what comes is no time.
    Nothing,
}

impl Takes {
    /// True if what comes is a time again.
    pub(super) fn gives_time(self) -> bool {
        match self {
            Self::Units | Self::Number | Self::Start | Self::Zone => true,
            Self::Pattern | Self::Nothing => false,
        }
    }
}

/// A time as the engine's value.
pub(super) struct Time(pub(super) LocalTime);

/// What is wrong with a method's argument, and how to mend it.
pub(super) type Refusal = (String, String);

/// The unit of that name.
pub(super) fn start(word: &str) -> Result<StartOf, Refusal> {
    let found = STARTS.iter().find(|(name, _)| *name == word).map(|(_, start)| *start);
    found.ok_or_else(|| {
        let remedy = suggest(word, STARTS.map(|(name, _)| name), write_one_of);
        (format!("nothing begins with each `{word}`"), remedy)
    })
}

/// The zone of that name.
pub(super) fn zone(name: &str) -> Result<Zone, Refusal> {
    Zone::parse(name).map_err(|error| {
        let remedy = "write a name such as Europe/Berlin or UTC".to_owned();
        (error.to_string(), remedy)
    })
}

/// A shift by one of [`UNITS`].
fn shift_by(unit: &str, count: i64, shift: &mut Shift) {
    let field = match unit {
        "years" => &mut shift.years,
        "months" => &mut shift.months,
        "weeks" => &mut shift.weeks,
        "days" => &mut shift.days,
        "hours" => &mut shift.hours,
        "minutes" => &mut shift.minutes,
        _ => &mut shift.seconds,
    };
    *field = count;
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

fn refused((message, remedy): Refusal) -> Error {
    bad(format!("{message}; {remedy}"))
}

impl Time {
    fn moved(&self, shift: &Shift) -> Result<Value, Error> {
        let moved = self.0.shift(shift).ok_or_else(|| bad("no calendar reaches that time"))?;
        Ok(Value::from_object(Self(moved)))
    }

    fn add(&self, args: &[Value]) -> Result<Value, Error> {
        let (given,): (Kwargs,) = from_args(args)?;
        let mut shift = Shift::default();
        for unit in UNITS {
            if let Some(count) = given.get::<Option<i64>>(unit)? {
                shift_by(unit, count, &mut shift);
            }
        }
        given.assert_all_used()?;
        self.moved(&shift)
    }

    fn answer(&self, method: &str, takes: Takes, args: &[Value]) -> Result<Value, Error> {
        match takes {
            Takes::Units => self.add(args),
            Takes::Number => {
                let (count,): (i64,) = from_args(args)?;
                let mut shift = Shift::default();
                shift_by(method.trim_start_matches("add_"), count, &mut shift);
                self.moved(&shift)
            }
            Takes::Start => {
                let (word,): (&str,) = from_args(args)?;
                let start = start(word).map_err(refused)?;
                let cut = self.0.start_of(start);
                cut.map(|time| Value::from_object(Self(time)))
                    .ok_or_else(|| bad("no calendar reaches that time"))
            }
            Takes::Zone => {
                let (name,): (&str,) = from_args(args)?;
                let zone = zone(name).map_err(refused)?;
                let moved = self.0.in_zone(&zone);
                moved
                    .map(|time| Value::from_object(Self(time)))
                    .ok_or_else(|| bad("no calendar reaches that time"))
            }
            Takes::Pattern => {
                let (pattern,): (&str,) = from_args(args)?;
                let text = patterns::format(&self.0, pattern);
                text.map(Value::from).map_err(|error| refused((error.message, error.remedy)))
            }
            Takes::Nothing => {
                let () = from_args(args)?;
                Ok(match method {
                    "unix" => Value::from(self.0.at().0.div_euclid(1000)),
                    "unix_ms" => Value::from(self.0.at().0),
                    _ => Value::from(self.0.to_string()),
                })
            }
        }
    }
}

impl Object for Time {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let time = &self.0;
        Some(Value::from(match key.as_str()? {
            "year" => time.year(),
            "month" => time.month(),
            "day" => time.day(),
            "hour" => time.hour(),
            "minute" => time.minute(),
            "second" => time.second(),
            "weekday" => time.weekday(),
            "day_of_year" => time.day_of_year(),
            _ => return None,
        }))
    }

    fn call_method(
        self: &Arc<Self>,
        _: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        match METHODS.iter().find(|(name, _)| *name == method) {
            Some((_, takes)) => self.answer(method, *takes, args),
            None => {
                Err(Error::new(ErrorKind::UnknownMethod, format!("a time has no `{method}()`")))
            }
        }
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        Some(self.0.at().cmp(&other.downcast_ref::<Self>()?.0.at()))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
