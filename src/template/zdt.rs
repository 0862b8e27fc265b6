//! hera's `${zdt.…}`: a chain of calls on the nominal time.

use horai_core::time::UtcMillis;
use horai_core::timing::local::{LocalTime, Shift};
use horai_core::timing::zone::Zone;

use super::error::{Fault, TemplateError, shown, suggest, write_one_of};
use super::patterns;

/// How a chain begins; without the dot it is a name like any other.
pub(super) const BEGIN: &str = "${zdt.";

/// Calls in one chain.
const MAX_CALLS: usize = 32;

const METHODS: [&str; 7] = ["addDay", "add", "set", "get", "getTime", "getMillis", "format"];

/// Fields that `add`, `set` and `get` know, by the numbers of Java's calendar.
const ADDED: &[i64] = &[1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14];
const SET: &[i64] = &[1, 2, 5, 6, 10, 11, 12, 13, 14];
const READ: &[i64] = &[1, 2, 5, 6, 7, 10, 11, 12, 13, 14];

const WHOLE: &str = "write it as ${zdt.addDay(-1).format(\"yyyy-MM-dd\")}";

/// One call of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call<'t> {
    Add(i64, i64),
    Set(i64, i64),
    Get(i64),
    Time,
    Millis,
    Format(&'t str),
}

/// What `${zdt.…}` asks for.
pub(super) struct Chain<'t> {
    /// Each with its place.
    calls: Vec<(usize, Call<'t>)>,
    /// Behind its brace.
    pub(super) end: usize,
}

impl Chain<'_> {
    /// The text that it becomes.
    pub(super) fn written(
        &self,
        text: &str,
        nominal: Option<LocalTime>,
    ) -> Result<String, TemplateError> {
        let mut now = nominal;
        for (at, call) in &self.calls {
            let time = now.as_ref().ok_or_else(|| out_of_reach(text, *at))?;
            now = match *call {
                Call::Add(field, count) => time.shift(&shift(field, count)),
                Call::Set(field, value) => set(time, field, value),
                Call::Get(field) => return Ok(get(time, field).unwrap_or_default().to_string()),
                Call::Time => return Ok(time.at().0.div_euclid(1000).to_string()),
                Call::Millis => return Ok(time.at().0.to_string()),
                Call::Format(pattern) => {
                    return patterns::java(time, pattern).map_err(|error| error.at(text, *at));
                }
            };
            if now.is_none() {
                return Err(out_of_reach(text, *at));
            }
        }
        Err(TemplateError::at(text, self.end, Fault::Syntax, "the time is not written", WHOLE))
    }
}

fn out_of_reach(text: &str, at: usize) -> TemplateError {
    let message = "there is no such time";
    TemplateError::at(text, at, Fault::BadValue, message, "see what its numbers are")
}

impl patterns::PatternError {
    fn at(self, text: &str, at: usize) -> TemplateError {
        TemplateError::at(text, at, Fault::BadValue, self.message, self.remedy)
    }
}

/// Reads the chain that begins there.
pub(super) fn chain(text: &str, begin: usize) -> Result<Chain<'_>, TemplateError> {
    let mut reader = Reader { text, at: begin + BEGIN.len() - 1 };
    let mut calls: Vec<(usize, Call<'_>)> = Vec::new();
    loop {
        let before = reader.skip_space();
        if reader.take("}") {
            break;
        }
        let is_time =
            calls.last().is_none_or(|(_, call)| matches!(call, Call::Add(..) | Call::Set(..)));
        if !is_time || !reader.take(".") || calls.len() >= MAX_CALLS {
            return Err(reader.fault(before, "here `}` must stand", WHOLE));
        }
        calls.push(reader.call()?);
    }
    match calls.last() {
        Some((_, Call::Get(_) | Call::Time | Call::Millis | Call::Format(_))) => {
            Ok(Chain { calls, end: reader.at })
        }
        _ => Err(reader.fault(reader.at - 1, "the time is not written", WHOLE)),
    }
}

/// An argument as it stands.
enum Argument<'t> {
    Number(i64),
    Text(&'t str),
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) -> usize {
        self.at += self.rest().len() - self.rest().trim_start().len();
        self.at
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = self.rest().starts_with(sign);
        self.at += if found { sign.len() } else { 0 };
        found
    }

    fn fault(&self, at: usize, message: impl Into<String>, remedy: &str) -> TemplateError {
        TemplateError::at(self.text, at, Fault::Syntax, message, remedy)
    }

    fn word(&mut self, more: fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let word = &rest[..rest.find(|c| !more(c)).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    fn argument(&mut self) -> Result<Argument<'t>, TemplateError> {
        let at = self.skip_space();
        for quote in ["\"", "'"] {
            if self.take(quote) {
                let Some((given, _)) = self.rest().split_once(quote) else {
                    return Err(self.fault(at, "a quote is not closed", WHOLE));
                };
                self.at += given.len() + 1;
                return Ok(Argument::Text(given));
            }
        }
        let word = self.word(|c| c.is_ascii_digit() || c == '-');
        let message = "here a whole number or a text in quotes must stand";
        word.parse().map(Argument::Number).map_err(|_| self.fault(at, message, WHOLE))
    }

    fn call(&mut self) -> Result<(usize, Call<'t>), TemplateError> {
        let at = self.skip_space();
        let name = self.word(|c| c.is_ascii_alphanumeric() || c == '_');
        if !METHODS.contains(&name) {
            let message = format!("zdt has no `{}`", shown(name));
            let remedy = match name {
                "getNowMillis" => "write getMillis(): there is no now".to_owned(),
                "getToday" => "write format(\"yyyy-MM-dd\"): there is no now".to_owned(),
                _ => suggest(name, METHODS, write_one_of),
            };
            let fault = Fault::Undefined { name: shown(name) };
            return Err(TemplateError::at(self.text, at, fault, message, remedy));
        }
        let mut arguments = Vec::new();
        self.skip_space();
        if !self.take("(") {
            return Err(self.fault(self.at, "here `(` must stand", WHOLE));
        }
        self.skip_space();
        while !self.take(")") {
            if arguments.len() > 1 || (!arguments.is_empty() && !self.take(",")) {
                return Err(self.fault(self.at, "here `)` must stand", WHOLE));
            }
            arguments.push(self.argument()?);
            self.skip_space();
        }
        use Argument::{Number, Text};
        let call = match (name, arguments.as_slice()) {
            ("addDay", [Number(days)]) => Call::Add(6, *days),
            ("add", [Number(field), Number(count)]) => Call::Add(*field, *count),
            ("set", [Number(field), Number(value)]) => Call::Set(*field, *value),
            ("get", [Number(field)]) => Call::Get(*field),
            ("getTime", []) => Call::Time,
            ("getMillis", []) => Call::Millis,
            ("format", [Text(pattern)]) => Call::Format(pattern),
            _ => {
                let remedy = match name {
                    "addDay" => "write addDay(-1)",
                    "add" => "write add(2, -1) for a month earlier",
                    "set" => "write set(5, 1) for the first of the month",
                    "get" => "write get(1) for the year",
                    "format" => "write format(\"yyyy-MM-dd\")",
                    _ => "write nothing between the parentheses",
                };
                return Err(self.fault(at, format!("`{name}` takes something else"), remedy));
            }
        };
        self.checked(at, call).map(|call| (at, call))
    }

    /// Refuses fields and patterns that do not exist.
    fn checked(&self, at: usize, call: Call<'t>) -> Result<Call<'t>, TemplateError> {
        let (field, known) = match call {
            Call::Add(field, _) => (field, ADDED),
            Call::Set(field, _) => (field, SET),
            Call::Get(field) => (field, READ),
            Call::Time | Call::Millis => return Ok(call),
            Call::Format(pattern) => {
                let some = LocalTime::new(&Zone::UTC, UtcMillis(0));
                let wrong = some.and_then(|some| patterns::java(&some, pattern).err());
                return wrong.map_or(Ok(call), |error| Err(error.at(self.text, at)));
            }
        };
        if known.contains(&field) {
            return Ok(call);
        }
        let message = format!("there is no field {field} of a calendar for this");
        let remedy = "write 1 year, 2 month, 5 day, 11 hour, 12 minute, 13 second, 14 millisecond";
        Err(self.fault(at, message, remedy))
    }
}

/// So many of a field of Java's calendar.
fn shift(field: i64, count: i64) -> Shift {
    let mut shift = Shift::default();
    let part = match field {
        1 => &mut shift.years,
        2 => &mut shift.months,
        3 | 4 => &mut shift.weeks,
        5..=7 => &mut shift.days,
        10 | 11 => &mut shift.hours,
        12 => &mut shift.minutes,
        13 => &mut shift.seconds,
        _ => &mut shift.millis,
    };
    *part = count;
    shift
}

/// The time with another value of a field.
fn set(time: &LocalTime, field: i64, value: i64) -> Option<LocalTime> {
    let (hour, minute) = (time.hour(), time.minute());
    let (second, millis) = (time.second(), time.millisecond());
    match field {
        10 if (0..12).contains(&value) => {
            time.with_time(hour / 12 * 12 + value, minute, second, millis)
        }
        11 => time.with_time(value, minute, second, millis),
        12 => time.with_time(hour, value, second, millis),
        13 => time.with_time(hour, minute, value, millis),
        14 => time.with_time(hour, minute, second, value),
        10 => None,
        _ => time.shift(&shift(field, value.checked_sub(get(time, field)?)?)),
    }
}

/// The value of a field, months counted from 0 and weekdays from Sunday, which is 1.
fn get(time: &LocalTime, field: i64) -> Option<i64> {
    Some(match field {
        1 => time.year(),
        2 => time.month() - 1,
        5 => time.day(),
        6 => time.day_of_year(),
        7 => time.weekday() % 7 + 1,
        10 => time.hour() % 12,
        11 => time.hour(),
        12 => time.minute(),
        13 => time.second(),
        14 => time.millisecond(),
        _ => return None,
    })
}
