//! The Unix dialect: five fields, words with an `@`, and `H`.
//!
//! Minutes, hours, day of month, month, day of week. A day matches if *either*
//! of the two fields for days does; if one of them begins with `*`, both must,
//! as in the cron that Linux has. Ranges may wrap around (`22-2`, `FRI-MON`).
//! `H` is a number of the field's own that differs from trigger to trigger and
//! never changes: `H` alone, `H/15`, `H(0-29)`, `H(8-17)/2`.

use super::days::{Days, MonthDays, WeekDays};
use super::error::{CronError, Fault, Place};
use super::field::Field;
use super::years::Years;
use super::{CronExpr, CronRule, Spread, Word, words};
use crate::model::trigger::Dialect;
use crate::time::Span;

/// The fields, in the order of the text.
const FIELDS: [Field; 5] =
    [Field::Minutes, Field::Hours, Field::DayOfMonth, Field::Month, Field::DayOfWeek];

/// The words for whole expressions.
const MACROS: [(&str, &str); 7] = [
    ("@YEARLY", "0 0 1 1 *"),
    ("@ANNUALLY", "0 0 1 1 *"),
    ("@MONTHLY", "0 0 1 * *"),
    ("@WEEKLY", "0 0 * * 0"),
    ("@DAILY", "0 0 * * *"),
    ("@MIDNIGHT", "0 0 * * *"),
    ("@HOURLY", "0 * * * *"),
];

pub(super) fn parse(text: &str, spread: Spread) -> Result<CronRule, CronError> {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let upper = one_line.to_ascii_uppercase();
    let fault = |place: Option<Place>, fault| CronError {
        place: place.map(|place| Box::new(place.written_in(&one_line))),
        text: one_line.clone(),
        dialect: Dialect::Unix,
        fault,
    };
    if let Some(every) = upper.strip_prefix("@EVERY ") {
        let usable = length(&every.to_ascii_lowercase())
            .filter(|span| span.0 >= 1000 && span.0.is_multiple_of(1000));
        return usable.map(CronRule::Every).ok_or_else(|| fault(None, Fault::Every));
    }
    if upper == "@EVERY" {
        return Err(fault(None, Fault::Every));
    }
    let expression = if upper.starts_with('@') {
        let known = MACROS.into_iter().find(|(word, _)| *word == upper);
        known.ok_or_else(|| fault(None, Fault::Macro))?.1
    } else {
        &upper
    };
    let fields = words(expression);
    if fields.len() != FIELDS.len() {
        return Err(fault(None, Fault::FieldCount(fields.len())));
    }
    let mut sets = [0_u64; 5];
    for ((field, word), set) in FIELDS.into_iter().zip(&fields).zip(&mut sets) {
        for item in word.value.split(',').scan(word.column, |column, value| {
            let item = Word { value, column: *column };
            *column += value.chars().count() + 1;
            Some(item)
        }) {
            *set |= read(field, item.value, spread)
                .map_err(|kind| fault(Some(item.place(field)), kind))?;
        }
    }
    let [minutes, hours, days, months, weekdays] = sets;
    // Sunday is 0 and 7.
    let weekdays = u8::try_from((weekdays | weekdays >> 7) & 0x7f).unwrap_or(0);
    let days = Days {
        by_month: Some(MonthDays { days, ..MonthDays::default() }),
        by_week: Some(WeekDays::Each(weekdays)),
        either: ![&fields[2], &fields[4]].iter().any(|word| word.value.starts_with('*')),
    };
    Ok(CronRule::Clock(CronExpr {
        text: one_line,
        dialect: Dialect::Unix,
        seconds: 1,
        minutes,
        hours,
        months,
        days,
        years: Years::ALL,
        notices: Vec::new(),
    }))
}

/// A length of time, perhaps of several parts: `90s`, `1h30m`.
fn length(text: &str) -> Option<Span> {
    let mut sum = Span::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let unit = rest.find(|c: char| !c.is_ascii_digit())?;
        let behind = &rest[unit..];
        let end = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        sum = sum.plus(rest[..unit + end].parse().ok()?);
        rest = &behind[end..];
    }
    Some(sum)
}

/// The numbers of a field: weekdays from 0 to 7.
fn bounds(field: Field) -> (u32, u32) {
    if field == Field::DayOfWeek { (0, 7) } else { field.bounds() }
}

/// One item of a list, in capitals.
fn read(field: Field, item: &str, spread: Spread) -> Result<u64, Fault> {
    let (least, most) = bounds(field);
    let (base, step) = match item.split_once('/') {
        Some((_, "")) => return Err(Fault::NoStep),
        Some((base, step)) => (base, Some(number(step).ok_or(Fault::NotUnderstood)?)),
        None => (item, None),
    };
    match step {
        Some(0) => return Err(Fault::NotUnderstood),
        Some(step) if step > field.longest_step() => return Err(Fault::LongStep),
        _ => {}
    }
    let (from, to) = if base == "*" {
        // Without the second Sunday.
        (least, if field == Field::DayOfWeek { 6 } else { most })
    } else if let Some(within) = base.strip_prefix('H') {
        return hashed(field, within, step, spread);
    } else if let Some((from, to)) = base.split_once('-') {
        (value(field, from)?, value(field, to)?)
    } else {
        let from = value(field, base)?;
        (from, if step.is_some() { most } else { from })
    };
    Ok(range(field, from, to, step.unwrap_or(1)))
}

/// A range, wrapping around the field's end if need be.
fn range(field: Field, from: u32, to: u32, step: u32) -> u64 {
    let (least, most) = field_size(field);
    let size = most + 1 - least;
    let to = if to < from { to + size } else { to };
    (from..=to).step_by(step.max(1) as usize).fold(0, |set, number| {
        set | 1 << if number > bounds(field).1 { number - size } else { number }
    })
}

/// The numbers that differ: weekdays are seven.
fn field_size(field: Field) -> (u32, u32) {
    if field == Field::DayOfWeek { (0, 6) } else { field.bounds() }
}

/// `H`, from behind it.
fn hashed(field: Field, within: &str, step: Option<u32>, spread: Spread) -> Result<u64, Fault> {
    let (from, to) = if within.is_empty() {
        let (least, most) = field_size(field);
        // A day that every month has.
        (least, if field == Field::DayOfMonth { 28 } else { most })
    } else {
        let inner = within.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        let (from, to) = inner.and_then(|r| r.split_once('-')).ok_or(Fault::NotUnderstood)?;
        (value(field, from)?, value(field, to)?)
    };
    if to < from {
        return Err(Fault::NotUnderstood);
    }
    let size = to - from + 1;
    match step {
        None => Ok(1 << (from + spread.pick(field, size))),
        Some(step) => Ok(range(field, from + spread.pick(field, step.min(size)), to, step)),
    }
}

/// A number or a name of the field.
fn value(field: Field, text: &str) -> Result<u32, Fault> {
    let (least, most) = bounds(field);
    if let Some(number) = number(text) {
        return if (least..=most).contains(&number) { Ok(number) } else { Err(Fault::OutOfRange) };
    }
    if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
        return Err(Fault::OutOfRange);
    }
    // Names count from 0; January is 1.
    let shift = u32::from(field == Field::Month);
    if let Some(place) = text.get(..3).and_then(|three| field.name(three))
        && (text.len() == 3 || text == field.long_name(place))
    {
        return Ok(place + shift);
    }
    let sign = text.chars().find(|c| matches!(c, '?' | '#' | 'L' | 'W'));
    let is_name = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphabetic());
    match sign {
        Some(sign) if !is_name || text.len() < 3 => Err(Fault::NotHere(sign)),
        _ if is_name && matches!(field, Field::Month | Field::DayOfWeek) => Err(Fault::UnknownName),
        _ => Err(Fault::NotUnderstood),
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = matches!(text.len(), 1..=4) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}
