//! One item of a list in Quartz's dialect, read as Quartz reads it.
//!
//! Quartz reads an item from its beginning and stops where it has understood
//! enough: `5*` is 5, and `15WL` is 15W. What it accepts is accepted here with
//! the same meaning, and what it did not look at is reported as a notice.
//! Refused beyond Quartz are numbers that it forgot to check: 0W, 8#1 and the
//! marks 98 and 99 that it uses inside.

use super::error::{Fault, Idle};
use super::field::Field;
use super::years::Years;

/// What the items of one field add up to.
#[derive(Debug, Clone)]
pub(super) struct Collected {
    /// Numbers as bits; years stand apart.
    pub(super) set: u64,
    /// Years.
    pub(super) years: Years,
    /// True if there was a question mark.
    pub(super) any: bool,
    /// Bit n: `L-n` of the days of the month.
    pub(super) before_last: u64,
    /// Bit n: `nW`.
    pub(super) near: u64,
    /// Bit n: `L-nW`.
    pub(super) near_before_last: u64,
    /// `#n`.
    pub(super) nth: Option<u32>,
    /// True if a weekday had an L.
    pub(super) last_weekday: bool,
}

impl Collected {
    pub(super) fn new() -> Self {
        Self {
            set: 0,
            years: Years::NONE,
            any: false,
            before_last: 0,
            near: 0,
            near_before_last: 0,
            nth: None,
            last_weekday: false,
        }
    }

    /// Adds `from` to `to`, wrapping around the field's end if need be.
    fn range(&mut self, field: Field, from: u32, to: u32, step: u32) -> Result<(), Fault> {
        if field == Field::Year {
            if to < from {
                return Err(Fault::Backwards);
            }
            self.years.add(from, to, step);
            return Ok(());
        }
        let (least, most) = field.bounds();
        if from < least || from > most || to > most {
            return Err(Fault::OutOfRange);
        }
        // How many numbers the field has; those that begin with 1 have no 0.
        let size = most + 1 - least;
        let to = if to < from { to + size } else { to };
        for number in (from..=to).step_by(step.max(1) as usize) {
            self.set |= 1 << if number > most { number - size } else { number };
        }
        Ok(())
    }

    fn one(&mut self, field: Field, number: u32) -> Result<(), Fault> {
        self.range(field, number, number, 1)
    }

    fn all(&mut self, field: Field, step: u32) -> Result<(), Fault> {
        let (from, to) = field.bounds();
        self.range(field, from, to, step)
    }

    /// Reads one item in capitals.
    pub(super) fn read(&mut self, field: Field, item: &str) -> Result<Option<Idle>, Fault> {
        let bytes = item.as_bytes();
        let read = match bytes.first() {
            None => 0,
            Some(b'L') if is_last(item) => self.last(field, item)?,
            Some(b'A'..=b'Z') => self.named(field, item)?,
            Some(b'?') => self.question(field, item)?,
            Some(b'*' | b'/') => return self.star(field, item),
            Some(b'0'..=b'9') => self.number(field, item)?,
            Some(_) => return Err(Fault::NotUnderstood),
        };
        Ok(rest(item, read))
    }

    /// `L`, `L-3`, `LW`, `L-3W`; a word of their own in every field, though only
    /// days have a last one.
    fn last(&mut self, field: Field, item: &str) -> Result<usize, Fault> {
        match field {
            Field::DayOfWeek => {
                self.one(field, 7)?;
                Ok(1)
            }
            Field::DayOfMonth => {
                let mut read = 1;
                let mut offset = 0;
                if item.as_bytes().get(1) == Some(&b'-') {
                    let digits = digits(item, 2);
                    read = 2 + digits.len();
                    // L-W is LW, and L- nothing.
                    offset = match (digits, item.len()) {
                        ("", 2) => return Err(Fault::Offset),
                        ("", _) => 0,
                        (digits, _) => digits.parse().map_err(|_| Fault::Offset)?,
                    };
                    if offset > 30 {
                        return Err(Fault::Offset);
                    }
                }
                if item.as_bytes().get(read) == Some(&b'W') {
                    self.near_before_last |= 1 << offset;
                    return Ok(read + 1);
                }
                self.before_last |= 1 << offset;
                Ok(read)
            }
            _ => Ok(0),
        }
    }

    /// A name of three letters, perhaps with more of its own behind it.
    fn named(&mut self, field: Field, item: &str) -> Result<usize, Fault> {
        let sign = item.chars().next().unwrap_or_default();
        let first = match field {
            // January is 1 and Sunday is 1.
            Field::Month | Field::DayOfWeek => name(field, item, 0)? + 1,
            _ if item.bytes().all(|b| matches!(b, b'L' | b'W' | b'H')) || item.len() == 1 => {
                return Err(Fault::NotHere(sign));
            }
            _ => return Err(Fault::NotUnderstood),
        };
        match item.as_bytes().get(3) {
            Some(b'-') => {
                let last = name(field, item, 4)? + 1;
                self.range(field, first, last, 1)?;
                Ok(long_name(field, last, item, 4))
            }
            Some(b'#') if field == Field::DayOfWeek => {
                self.nth(item, 4)?;
                self.one(field, first)?;
                Ok(item.len())
            }
            Some(b'L') if field == Field::DayOfWeek => {
                self.last_weekday = true;
                self.one(field, first)?;
                Ok(4)
            }
            _ => {
                self.one(field, first)?;
                Ok(long_name(field, first, item, 0))
            }
        }
    }

    fn question(&mut self, field: Field, item: &str) -> Result<usize, Fault> {
        if item.len() > 2 {
            return Err(Fault::QuestionMark);
        }
        if !matches!(field, Field::DayOfMonth | Field::DayOfWeek) {
            return Err(Fault::NotHere('?'));
        }
        self.any = true;
        Ok(1)
    }

    /// `*`, `*/5` and `/5`.
    fn star(&mut self, field: Field, item: &str) -> Result<Option<Idle>, Fault> {
        let behind = item.strip_prefix('*').unwrap_or(item);
        let Some(step) = behind.strip_prefix('/') else {
            self.all(field, 1)?;
            return Ok(rest(item, 1));
        };
        if step.is_empty() {
            return Err(Fault::NoStep);
        }
        let step: i64 = step.parse().map_err(|_| Fault::NotUnderstood)?;
        if step > i64::from(field.longest_step()) {
            return Err(Fault::LongStep);
        }
        let used = u32::try_from(step).unwrap_or(0).max(1);
        self.all(field, used)?;
        Ok((step < 1).then(|| Idle::Step { read: "*".to_owned() }))
    }

    /// What begins with a digit.
    fn number(&mut self, field: Field, item: &str) -> Result<usize, Fault> {
        let from_text = digits(item, 0);
        let from = number(from_text)?;
        let at = from_text.len();
        match item.as_bytes().get(at) {
            Some(b'L') => {
                if field != Field::DayOfWeek {
                    return Err(Fault::NotHere('L'));
                }
                self.last_weekday = true;
                self.one(field, from)?;
                Ok(at + 1)
            }
            Some(b'W') => {
                if field != Field::DayOfMonth {
                    return Err(Fault::NotHere('W'));
                }
                if !(1..=31).contains(&from) {
                    return Err(Fault::OutOfRange);
                }
                self.near |= 1 << from;
                Ok(at + 1)
            }
            Some(b'#') => {
                if field != Field::DayOfWeek {
                    return Err(Fault::NotHere('#'));
                }
                self.nth(item, at + 1)?;
                self.one(field, from)?;
                Ok(item.len())
            }
            Some(b'-') => self.numbers(field, item, from, at + 1),
            Some(b'/') => self.steps(field, item, from, at + 1),
            _ => {
                self.one(field, from)?;
                Ok(at)
            }
        }
    }

    /// `1-5` and `1-5/2`, from behind the dash.
    fn numbers(&mut self, field: Field, item: &str, from: u32, at: usize) -> Result<usize, Fault> {
        let to_text = digits(item, at);
        let to = number(to_text)?;
        let read = at + to_text.len();
        if item.as_bytes().get(read) != Some(&b'/') {
            self.range(field, from, to, 1)?;
            return Ok(read);
        }
        let step_text = digits(item, read + 1);
        if step_text.is_empty() {
            return Err(Fault::NoStep);
        }
        match number(step_text)? {
            0 => {
                // Both ends are still checked.
                Self::new().range(field, from, to, 1)?;
                self.one(field, from)?;
                Ok(from.to_string().len())
            }
            step => {
                self.range(field, from, to, step)?;
                Ok(read + 1 + step_text.len())
            }
        }
    }

    /// `0/15`, from behind the stroke.
    fn steps(&mut self, field: Field, item: &str, from: u32, at: usize) -> Result<usize, Fault> {
        let step_text = digits(item, at);
        let read = at + step_text.len();
        if step_text.is_empty() {
            return Err(Fault::NoStep);
        }
        // Behind a single digit Quartz looks on.
        if step_text.len() == 1 && read < item.len() {
            return Err(Fault::NotUnderstood);
        }
        let step = number(step_text)?;
        if step > field.longest_step() {
            return Err(Fault::LongStep);
        }
        if step == 0 {
            self.one(field, from)?;
            return Ok(at - 1);
        }
        let last = field.bounds().1;
        if field == Field::Year && from > last {
            return Ok(read);
        }
        self.range(field, from, last, step)?;
        Ok(read)
    }

    fn nth(&mut self, item: &str, at: usize) -> Result<(), Fault> {
        let nth: i32 = item.get(at..).and_then(|text| text.parse().ok()).ok_or(Fault::Nth)?;
        self.nth = Some(u32::try_from(nth).ok().filter(|n| (1..=5).contains(n)).ok_or(Fault::Nth)?);
        Ok(())
    }
}

/// `L`, `LW`, `L-3`, `L-3W`: no names.
fn is_last(item: &str) -> bool {
    let Some(offset) = item.strip_prefix("L-") else {
        return matches!(item, "L" | "LW");
    };
    offset.strip_suffix('W').unwrap_or(offset).bytes().all(|b| b.is_ascii_digit())
}

/// The name at `at`, counted from 0.
fn name(field: Field, item: &str, at: usize) -> Result<u32, Fault> {
    item.get(at..at + 3).and_then(|three| field.name(three)).ok_or(Fault::UnknownName)
}

/// Where the name at `at` ends: behind all of it if it is written out.
fn long_name(field: Field, number: u32, item: &str, at: usize) -> usize {
    let written_out = item.get(at..) == Some(field.long_name(number - 1));
    if written_out { item.len() } else { at + 3 }
}

/// The digits from `at` on.
fn digits(item: &str, at: usize) -> &str {
    let behind = item.get(at..).unwrap_or_default();
    let end = behind.find(|c: char| !c.is_ascii_digit()).unwrap_or(behind.len());
    &behind[..end]
}

/// A number as Java's int, which ends at 2,147,483,647.
fn number(digits: &str) -> Result<u32, Fault> {
    if digits.is_empty() {
        return Err(Fault::NotUnderstood);
    }
    digits.parse::<i32>().ok().and_then(|n| u32::try_from(n).ok()).ok_or(Fault::OutOfRange)
}

/// What is behind the part that was read.
fn rest(item: &str, read: usize) -> Option<Idle> {
    let (read, rest) = item.split_at_checked(read)?;
    match (read, rest) {
        (_, "") => None,
        ("", _) => Some(Idle::Nothing),
        _ => Some(Idle::Rest { read: read.to_owned(), rest: rest.to_owned() }),
    }
}
