//! An evaluator of cron expressions that shares nothing with the product's.
//!
//! It looks at every second of a stretch and asks whether the local time matches,
//! which is slow, simple and therefore fit to judge. It knows plain fields (numbers,
//! names, lists, ranges, steps) and refuses everything else. Zones come from another
//! library than the product's.
//!
//! Changes of the clocks, as promised: an expression whose hours are all 24 follows
//! the clock on the wall; any other fires once for each local time, one in a gap at
//! the first instant after it, one in an overlap in the first pass.

use chrono::{DateTime, Datelike, Duration, NaiveDateTime, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

/// Why an expression cannot be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CronError {
    /// Not six fields.
    #[error("{0:?} has not six fields")]
    Fields(String),
    /// A field that this evaluator does not know.
    #[error("{field} {text:?} is not plain: numbers, names, lists, ranges and steps are")]
    Field {
        /// Its name.
        field: &'static str,
        /// Its text.
        text: String,
    },
    /// Not a zone.
    #[error("{0:?} is no zone")]
    Zone(String),
}

/// A field: bit n stands for the value n.
type Bits = u64;

/// An expression in a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cron {
    second: Bits,
    minute: Bits,
    hour: Bits,
    day: Bits,
    month: Bits,
    /// 1 is Sunday.
    weekday: Bits,
    zone: Tz,
}

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const ALL_HOURS: Bits = (1 << 24) - 1;

impl Cron {
    /// Reads an expression; the zone is UTC if none is given.
    ///
    /// # Errors
    /// [`CronError`]
    pub(crate) fn parse(text: &str, zone: Option<&str>) -> Result<Self, CronError> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [second, minute, hour, day, month, weekday] = fields[..] else {
            return Err(CronError::Fields(text.to_owned()));
        };
        let name = zone.unwrap_or("UTC");
        Ok(Self {
            second: field("second", second, 0, 59, &[])?,
            minute: field("minute", minute, 0, 59, &[])?,
            hour: field("hour", hour, 0, 23, &[])?,
            day: field("day", day, 1, 31, &[])?,
            month: field("month", month, 1, 12, &MONTHS)?,
            weekday: field("weekday", weekday, 1, 7, &DAYS)?,
            zone: name.parse().map_err(|_| CronError::Zone(name.to_owned()))?,
        })
    }

    /// All instants in `[from, to]`, in milliseconds since 1970.
    pub(crate) fn between(&self, from: i64, to: i64) -> Vec<i64> {
        let first = from.div_euclid(1000) + i64::from(from.rem_euclid(1000) != 0);
        (first..=to.div_euclid(1000)).filter(|s| self.fires_at(*s)).map(|s| s * 1000).collect()
    }

    fn fires_at(&self, second: i64) -> bool {
        let Some(utc) = DateTime::<Utc>::from_timestamp(second, 0) else { return false };
        let local = utc.with_timezone(&self.zone).naive_local();
        let matches = self.matches(local);
        if self.hour == ALL_HOURS {
            return matches;
        }
        if matches {
            // The second pass of an overlap was served by the first.
            let latest = self.zone.from_local_datetime(&local);
            let is_second = latest.earliest().is_some_and(|first| first.timestamp() < second);
            return !is_second;
        }
        let Some(before) = DateTime::<Utc>::from_timestamp(second - 1, 0) else { return false };
        let mut at = before.with_timezone(&self.zone).naive_local() + Duration::seconds(1);
        // Empty unless the clock jumped forward right here.
        while at < local {
            if self.matches(at) {
                return true;
            }
            at += Duration::seconds(1);
        }
        false
    }

    fn matches(&self, at: NaiveDateTime) -> bool {
        let has = |bits: Bits, value: u32| bits & (1 << value) != 0;
        has(self.second, at.second())
            && has(self.minute, at.minute())
            && has(self.hour, at.hour())
            && has(self.day, at.day())
            && has(self.month, at.month())
            && has(self.weekday, at.weekday().num_days_from_sunday() + 1)
    }
}

fn field(
    name: &'static str,
    text: &str,
    least: u32,
    most: u32,
    names: &[&str],
) -> Result<Bits, CronError> {
    let wrong = || CronError::Field { field: name, text: text.to_owned() };
    let value = |word: &str| -> Result<u32, CronError> {
        let named = names.iter().position(|known| known.eq_ignore_ascii_case(word));
        let found = match named {
            Some(at) => u32::try_from(at).ok().map(|at| at + least),
            None => word.parse().ok(),
        };
        found.filter(|value| (least..=most).contains(value)).ok_or_else(wrong)
    };
    let mut bits = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse().ok().filter(|s: &u32| *s > 0)),
            None => (part, Some(1)),
        };
        let step = step.ok_or_else(wrong)?;
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (value(from)?, value(to)?),
            None if range == "*" || range == "?" => (least, most),
            // `5/10` runs to the end of the field, `5` is itself alone.
            None => (value(range)?, if part.contains('/') { most } else { value(range)? }),
        };
        if from > to {
            return Err(wrong());
        }
        for value in (from..=to).step_by(step as usize) {
            bits |= 1 << value;
        }
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(cron: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
        let ms = |text: &str| text.parse::<DateTime<Utc>>().unwrap().timestamp_millis();
        let cron = Cron::parse(cron, Some(zone)).unwrap();
        let found = cron.between(ms(from), ms(to));
        let show = |at: &i64| DateTime::<Utc>::from_timestamp_millis(*at).unwrap().to_rfc3339();
        found.iter().map(|at| show(at).replace("+00:00", "Z")).collect()
    }

    #[test]
    fn plain_fields_fire_when_they_say() {
        let (from, to) = ("2026-11-21T10:00:00.001Z", "2026-11-21T10:01:00Z");
        let found = between("5/20 * * * * ?", "UTC", from, to);
        let seconds: Vec<&str> = found.iter().map(|at| &at[11..19]).collect();
        assert_eq!(seconds, ["10:00:05", "10:00:25", "10:00:45"]);
        assert_eq!(between("* * * * * ?", "UTC", from, to).len(), 60);
        // A Saturday.
        assert_eq!(between("0 0-1 * ? * SAT", "UTC", from, to).len(), 1);
        assert_eq!(between("0 0-1 * ? * MON-FRI", "UTC", from, to).len(), 0);
        assert_eq!(between("0 1 11 21 NOV ?", "Europe/Berlin", from, to).len(), 1);
    }

    #[test]
    fn changes_of_the_clocks() {
        // Berlin, 2026-03-29: 02:00 becomes 03:00 at 01:00 UTC.
        let (from, to) = ("2026-03-29T00:00:00Z", "2026-03-29T03:00:00Z");
        let gap = between("0 30 2 * * ?", "Europe/Berlin", from, to);
        assert_eq!(gap, ["2026-03-29T01:00:00Z"]);
        assert_eq!(between("0 30 * * * ?", "Europe/Berlin", from, to).len(), 3);
        // 2026-10-25: 03:00 becomes 02:00 at 01:00 UTC.
        let (from, to) = ("2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z");
        let overlap = between("0 30 2 * * ?", "Europe/Berlin", from, to);
        assert_eq!(overlap, ["2026-10-25T00:30:00Z"]);
        assert_eq!(between("0 30 * * * ?", "Europe/Berlin", from, to).len(), 2);
    }

    #[test]
    fn what_is_not_plain_is_refused() {
        for text in ["* * * * *", "0 0 0 L * ?", "60 * * * * ?", "0/0 * * * * ?", "5-1 * * * * ?"] {
            assert!(Cron::parse(text, None).is_err(), "{text}");
        }
        assert!(Cron::parse("* * * * * ?", Some("Mars/Base")).is_err());
    }
}
