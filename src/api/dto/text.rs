//! Ids, times and spans as text on the wire, and typed in the program.

use std::fmt;
use std::str::FromStr;

use horai_core::ids::{AttemptKey, BackfillId, IdError, RunId, parse_run};
use horai_core::model::backfill::Hours;
use horai_core::time::{Span, SpanError, UtcMillis};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Not an instant.
    #[error("{0:?} is not a time: write RFC 3339, such as 2026-11-21T03:00:00.000Z")]
    Time(String),
    /// Not an action.
    #[error("{0:?} is not an action: write JOB@TIME, such as load@20261121T030000Z")]
    Action(String),
    /// Not a run or an attempt.
    #[error(transparent)]
    Id(#[from] IdError),
    /// Not a length of time.
    #[error(transparent)]
    Span(#[from] SpanError),
    /// Not a back-fill.
    #[error("{0:?} is not a back-fill: write it as b-3")]
    Backfill(String),
    /// Not hours of a day.
    #[error("{0:?} are no hours of a day: write two different times, such as 22:00-06:00")]
    Hours(String),
}

/// The form that errors show: long texts are cut.
fn shown(text: &str) -> String {
    text.chars().take(200).collect()
}

/// An instant: RFC 3339 in UTC with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub UtcMillis);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0.0) {
            Ok(t) => f.pad(&t.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()),
            Err(_) => f.pad(if self.0.0 < 0 { EARLIEST } else { LATEST }),
        }
    }
}

/// Stands for every instant before it.
const EARLIEST: &str = "-009999-01-02T01:59:59.000Z";
/// Stands for every instant after it.
const LATEST: &str = "9999-12-30T22:00:00.000Z";

impl FromStr for Time {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let parsed: jiff::Timestamp = text.parse().map_err(|_| TextError::Time(shown(text)))?;
        Ok(Self(UtcMillis(parsed.as_millisecond())))
    }
}

/// A length of time such as `30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SpanText(pub Span);

impl fmt::Display for SpanText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SpanText {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        Ok(Self(text.parse()?))
    }
}

/// A run: `r-17`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunRef(pub RunId);

impl fmt::Display for RunRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("r-{}", self.0))
    }
}

impl FromStr for RunRef {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        Ok(Self(parse_run(text)?))
    }
}

/// A back-fill: `b-3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackfillRef(pub BackfillId);

impl fmt::Display for BackfillRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("b-{}", self.0))
    }
}

impl FromStr for BackfillRef {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let number = text.strip_prefix("b-").filter(|n| n.bytes().all(|b| b.is_ascii_digit()));
        let number = number.and_then(|number| number.parse().ok());
        let number = number.ok_or_else(|| TextError::Backfill(shown(text)))?;
        Ok(Self(BackfillId(number)))
    }
}

/// Hours of a day: `22:00-06:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoursText(pub Hours);

impl fmt::Display for HoursText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        f.pad(&format!("{}-{}", clock(self.0.from), clock(self.0.until)))
    }
}

impl FromStr for HoursText {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let minute = |text: &str| {
            let (hour, minute) = text.trim().split_once(':')?;
            let is_two = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
            let (hour, minute) = Some((hour, minute)).filter(|(h, m)| is_two(h) && is_two(m))?;
            let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
            (hour < 24 && minute < 60).then_some(hour * 60 + minute)
        };
        let both = text.split_once('-').and_then(|(a, b)| Some((minute(a)?, minute(b)?)));
        let (from, until) = both
            .filter(|(from, until)| from != until)
            .ok_or_else(|| TextError::Hours(shown(text)))?;
        Ok(Self(Hours { from, until }))
    }
}

/// An attempt: `r-17.2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptRef(pub AttemptKey);

impl fmt::Display for AttemptRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

impl FromStr for AttemptRef {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        Ok(Self(text.parse()?))
    }
}

/// An action: `JOB@20261121T030000Z`. The job is its name, or `#` and its
/// number if the job is deleted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionRef {
    /// Whose.
    pub job: String,
    /// The instant it stands for.
    pub nominal: UtcMillis,
}

impl fmt::Display for ActionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}@{}", self.job, self.nominal.compact()))
    }
}

impl FromStr for ActionRef {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let wrong = || TextError::Action(shown(text));
        let (job, nominal) = text.rsplit_once('@').ok_or_else(wrong)?;
        let Time(nominal) = nominal.parse().map_err(|_| wrong())?;
        Ok(Self { job: job.to_owned(), nominal })
    }
}

/// On the wire, these are their texts.
macro_rules! as_text {
    ($($name:ident)*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    )*};
}
as_text!(Time SpanText RunRef BackfillRef HoursText AttemptRef ActionRef);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_as_they_are_written() {
        let at = UtcMillis(1_795_230_000_250);
        assert_eq!(Time(at).to_string(), "2026-11-21T03:00:00.250Z");
        assert_eq!("2026-11-21T04:00:00.25+01:00".parse::<Time>().unwrap(), Time(at));
        for nominal in [at, UtcMillis(at.0 - 250)] {
            let action = ActionRef { job: "load".to_owned(), nominal };
            assert_eq!(action.to_string().parse::<ActionRef>().unwrap(), action);
        }
        assert_eq!("#7@20261121T030000Z".parse::<ActionRef>().unwrap().job, "#7");
        for bad in ["load", "load@", "load@now", ""] {
            assert!(bad.parse::<ActionRef>().is_err(), "{bad}");
        }
        let json = serde_json::to_string(&(RunRef(RunId(9)), SpanText(Span::secs(90)))).unwrap();
        assert_eq!(json, r#"["r-9","90s"]"#);
        let read: (RunRef, SpanText) = serde_json::from_str(&json).unwrap();
        assert_eq!(read, (RunRef(RunId(9)), SpanText(Span::secs(90))));
    }

    #[test]
    fn every_instant_has_a_text_that_is_read_again() {
        for millis in [i64::MIN, -1, 0, i64::MAX] {
            let text = Time(UtcMillis(millis)).to_string();
            assert!(text.parse::<Time>().is_ok(), "{text}");
        }
    }
}
