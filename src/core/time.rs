//! Instants and spans as integers, in milliseconds.
//!
//! Replicated time is a number that the leader stamps into every entry; the
//! core compares such numbers and never asks a clock. Arithmetic saturates, so
//! that an absurd value in a definition cannot stop a node.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Two machines' clocks run less than 1 % apart, and cluster time leans by up to 1 %
/// against the leader's: by the clock of any machine, less than one part in this.
pub(crate) const DRIFT: u64 = 48;

/// An instant: milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct UtcMillis(pub i64);

impl UtcMillis {
    /// Later than anything that is ever planned.
    pub const MAX: Self = Self(i64::MAX);

    /// This instant moved later by `span`.
    #[must_use]
    pub fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add_unsigned(span.0))
    }

    /// This instant moved earlier by `span`.
    #[must_use]
    pub fn minus(self, span: Span) -> Self {
        Self(self.0.saturating_sub_unsigned(span.0))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Span {
        Span(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// `20261121T030000Z`, with `.250` before the `Z` where there are milliseconds.
    #[must_use]
    pub fn compact(self) -> String {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => {
                let civil = t.to_zoned(jiff::tz::TimeZone::UTC).datetime();
                let millis = self.0.rem_euclid(1000);
                let seconds = civil.strftime("%Y%m%dT%H%M%S");
                if millis == 0 { format!("{seconds}Z") } else { format!("{seconds}.{millis:03}Z") }
            }
            Err(_) => format!("{}ms", self.0),
        }
    }
}

/// RFC 3339 in UTC.
impl fmt::Display for UtcMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => f.pad(&t.to_string()),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

/// A length of time in milliseconds.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Span(pub u64);

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// From whole seconds.
    #[must_use]
    pub const fn secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// `factor` times this.
    #[must_use]
    pub fn times(self, factor: u64) -> Self {
        Self(self.0.saturating_mul(factor))
    }
}

/// The largest unit that divides it: `90s`, `2m`, `1h`, `250ms`.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] =
            [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
        let (unit, suffix) = UNITS
            .into_iter()
            .find(|(ms, _)| self.0 >= *ms && self.0.is_multiple_of(*ms))
            .unwrap_or((1, "ms"));
        f.pad(&format!("{}{suffix}", self.0 / unit))
    }
}

/// Not a span: which text, and how to write one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a length of time: write a whole number with ms, s, m, h or d, such as 90s")]
pub struct SpanError(String);

impl std::str::FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let wrong = || SpanError(text.chars().take(40).collect());
        let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(split);
        let factor = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        number.checked_mul(factor).map(Self).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_print_as_they_are_read() {
        for text in ["0ms", "90s", "2m", "1h", "3d", "250ms", "36h"] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span, "{text}");
        }
        assert_eq!("90s".parse::<Span>().unwrap().to_string(), "90s");
        for bad in ["", "5", "s", "-1s", "1.5s", "5 s", "9999999999999999999d", "1w"] {
            assert!(bad.parse::<Span>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn instants_print_in_both_forms() {
        let t = UtcMillis(1_795_230_000_000);
        assert_eq!(t.to_string(), "2026-11-21T03:00:00Z");
        assert_eq!(t.compact(), "20261121T030000Z");
        assert_eq!(UtcMillis(t.0 + 250).compact(), "20261121T030000.250Z");
        assert_eq!(UtcMillis(5).since(UtcMillis(9)), Span::ZERO);
    }
}
