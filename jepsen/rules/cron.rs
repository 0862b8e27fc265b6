//! An evaluator of cron expressions that shares nothing with the product's.
//!
//! It looks at every second of a stretch and asks whether the local time matches,
//! which is slow, simple and therefore fit to judge. It knows plain fields (numbers,
//! names, lists, ranges, steps) of both dialects and refuses everything else.
//!
//! `H` stands for a number that nobody knows and that never changes: an expression
//! with it is read as all the expressions that it may be.

use chrono::{DateTime, Datelike, Duration, NaiveDateTime, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

use super::{Dst, RuleError};

/// A field: bit n stands for the value n.
type Bits = u64;

/// An expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cron {
    second: Bits,
    minute: Bits,
    hour: Bits,
    day: Bits,
    month: Bits,
    /// 0 is Sunday.
    weekday: Bits,
    /// One of the two fields for days is enough.
    either: bool,
}

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const ALL_HOURS: Bits = (1 << 24) - 1;

/// What a field may say.
struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
    /// The largest value that `H` may stand for.
    spread: u32,
}

const fn plain(name: &'static str, least: u32, most: u32) -> Field {
    Field { name, least, most, names: &[], spread: most }
}

const SECOND: Field = plain("second", 0, 59);
const MINUTE: Field = plain("minute", 0, 59);
const HOUR: Field = plain("hour", 0, 23);
/// A day that every month has.
const DAY: Field = Field { spread: 28, ..plain("day", 1, 31) };
const MONTH: Field = Field { names: &MONTHS, ..plain("month", 1, 12) };
/// From 1, Sunday.
const WEEKDAY: Field = Field { names: &DAYS, ..plain("weekday", 1, 7) };
/// From 0, Sunday; 7 is Sunday again.
const UNIX_WEEKDAY: Field = Field { names: &DAYS, spread: 6, ..plain("weekday", 0, 7) };

/// The words for whole expressions of the Unix dialect.
const WORDS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

impl Cron {
    /// Reads six fields.
    pub(super) fn quartz(text: &str) -> Result<Self, RuleError> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [second, minute, hour, day, month, weekday] = fields[..] else {
            return Err(RuleError::Fields(text.to_owned(), "six"));
        };
        Ok(Self {
            second: SECOND.read(second)?,
            minute: MINUTE.read(minute)?,
            hour: HOUR.read(hour)?,
            day: DAY.read(day)?,
            month: MONTH.read(month)?,
            weekday: WEEKDAY.read(weekday)? >> 1,
            either: false,
        })
    }

    /// Reads five fields, or a word for them: all expressions that they may be.
    pub(super) fn unix(text: &str) -> Result<Vec<Self>, RuleError> {
        let word = WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(text.trim()));
        let text = word.map_or(text, |(_, fields)| fields);
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(RuleError::Fields(text.to_owned(), "five"));
        };
        let spreads = fields.iter().filter(|field| field.contains(['H', 'h'])).count();
        if spreads > 1 {
            return Err(RuleError::Unknown("cron", text.to_owned()));
        }
        let either = !day.starts_with('*') && !weekday.starts_with('*');
        let mut found =
            vec![Self { second: 1, minute: 0, hour: 0, day: 0, month: 0, weekday: 0, either }];
        let mut with = |all: Vec<Bits>, set: fn(&mut Self, Bits)| {
            let one = |(cron, bits): (&Self, &Bits)| {
                let mut cron = cron.clone();
                set(&mut cron, *bits);
                cron
            };
            let pairs = found.iter().flat_map(|cron| all.iter().map(move |bits| (cron, bits)));
            found = pairs.map(one).collect();
        };
        with(MINUTE.possible(minute)?, |cron, bits| cron.minute = bits);
        with(HOUR.possible(hour)?, |cron, bits| cron.hour = bits);
        with(DAY.possible(day)?, |cron, bits| cron.day = bits);
        with(MONTH.possible(month)?, |cron, bits| cron.month = bits);
        let weekdays = UNIX_WEEKDAY.possible(weekday)?;
        with(weekdays, |cron, bits| cron.weekday = (bits | bits >> 7) & 0x7f);
        Ok(found)
    }

    /// All instants in `[from, to]`, in milliseconds since 1970.
    pub(super) fn between(&self, zone: Tz, dst: Dst, from: i64, to: i64) -> Vec<i64> {
        let first = from.div_euclid(1000) + i64::from(from.rem_euclid(1000) != 0);
        let fires = |s: &i64| self.fires_at(zone, dst, *s);
        (first..=to.div_euclid(1000)).filter(fires).map(|s| s * 1000).collect()
    }

    fn fires_at(&self, zone: Tz, dst: Dst, second: i64) -> bool {
        let Some(utc) = DateTime::<Utc>::from_timestamp(second, 0) else { return false };
        let local = utc.with_timezone(&zone).naive_local();
        let matches = self.matches(local);
        let shown = zone.from_local_datetime(&local);
        let is_first = shown.earliest().is_none_or(|first| first.timestamp() == second);
        let is_last = shown.latest().is_none_or(|last| last.timestamp() == second);
        match dst {
            Dst::Twice => matches,
            Dst::Quartz => matches && is_last,
            Dst::Skip => matches && is_first,
            Dst::Smart if self.hour == ALL_HOURS => matches,
            Dst::Smart if matches => is_first,
            Dst::Smart => self.is_left_out_before(zone, second, local),
        }
    }

    /// True if the clock jumped forward right here, over a time that matches.
    fn is_left_out_before(&self, zone: Tz, second: i64, local: NaiveDateTime) -> bool {
        let Some(before) = DateTime::<Utc>::from_timestamp(second - 1, 0) else { return false };
        let mut at = before.with_timezone(&zone).naive_local() + Duration::seconds(1);
        while at < local {
            if self.matches(at) {
                return true;
            }
            at += Duration::seconds(1);
        }
        false
    }

    /// True if a clock on the wall that shows this time is in the expression.
    pub(super) fn matches(&self, at: NaiveDateTime) -> bool {
        let has = |bits: Bits, value: u32| bits & (1 << value) != 0;
        let day = has(self.day, at.day());
        let weekday = has(self.weekday, at.weekday().num_days_from_sunday());
        has(self.second, at.second())
            && has(self.minute, at.minute())
            && has(self.hour, at.hour())
            && has(self.month, at.month())
            && if self.either { day || weekday } else { day && weekday }
    }
}

impl Field {
    /// The sets that a text with one `H` may stand for; one set without.
    fn possible(&self, text: &str) -> Result<Vec<Bits>, RuleError> {
        let Some(rest) = text.strip_prefix(['H', 'h']) else { return Ok(vec![self.read(text)?]) };
        if rest.is_empty() {
            return Ok((self.least..=self.spread).map(|value| 1 << value).collect());
        }
        let step = rest.strip_prefix('/').and_then(|step| step.parse::<u32>().ok());
        let step = step.filter(|step| *step > 0).ok_or_else(|| self.wrong(text))?;
        let set = |first: u32| {
            (first..=self.spread).step_by(step as usize).fold(0, |bits, value| bits | 1 << value)
        };
        let last = self.spread.min(self.least + step - 1);
        Ok((self.least..=last).map(set).collect())
    }

    fn wrong(&self, text: &str) -> RuleError {
        RuleError::Unknown(self.name, text.to_owned())
    }

    fn read(&self, text: &str) -> Result<Bits, RuleError> {
        let wrong = || self.wrong(text);
        let value = |word: &str| -> Result<u32, RuleError> {
            let named = self.names.iter().position(|known| known.eq_ignore_ascii_case(word));
            let found = match named {
                Some(at) => u32::try_from(at).ok().map(|at| at + self.least),
                None => word.parse().ok(),
            };
            found.filter(|value| (self.least..=self.most).contains(value)).ok_or_else(wrong)
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
                None if range == "*" || range == "?" => (self.least, self.most),
                // `5/10` runs to the end of the field, `5` is itself alone.
                None => (value(range)?, if part.contains('/') { self.most } else { value(range)? }),
            };
            // Around the end of the field where need be.
            let size = self.most - self.least + 1;
            let length = if to < from { to + size - from } else { to - from };
            for offset in (0..=length).step_by(step as usize) {
                bits |= 1 << (self.least + (from - self.least + offset) % size);
            }
        }
        Ok(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<DateTime<Utc>>().unwrap().timestamp_millis()
    }

    fn of(cron: &Cron, zone: &str, dst: Dst, from: &str, to: &str) -> Vec<String> {
        let found = cron.between(zone.parse().unwrap(), dst, ms(from), ms(to));
        let show = |at: &i64| DateTime::<Utc>::from_timestamp_millis(*at).unwrap().to_rfc3339();
        found.iter().map(|at| show(at).replace("+00:00", "Z")).collect()
    }

    fn between(cron: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
        of(&Cron::quartz(cron).unwrap(), zone, Dst::Smart, from, to)
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
        assert_eq!(between("0 0-1 * ? * FRI-SUN", "UTC", from, to).len(), 1);
        assert_eq!(between("0 1 11 21 NOV ?", "Europe/Berlin", from, to).len(), 1);
        let around: Vec<String> = between("58-1 * * * * ?", "UTC", from, to);
        assert_eq!(around.len(), 4, "{around:?}");
    }

    #[test]
    fn five_fields_and_their_words() {
        let (from, to) = ("2026-11-21T10:00:00.001Z", "2026-11-21T12:00:00Z");
        let unix = |text: &str| {
            let [only] = &Cron::unix(text).unwrap()[..] else { panic!("{text} is not one") };
            of(only, "UTC", Dst::Smart, from, to).len()
        };
        assert_eq!(unix("*/15 * * * *"), 8);
        assert_eq!(unix("@hourly"), 2);
        assert_eq!(unix("@daily"), 0);
        // The first of the month or a Saturday; Sunday is 0 and 7.
        assert_eq!(unix("0 11 1 * 6"), 1);
        assert_eq!(unix("0 11 1 * 0,7"), 0);
        assert_eq!(unix("0 11 * * SUN"), 0);
        assert!(Cron::unix("0 0 3 * * ?").is_err() && Cron::unix("@sometimes").is_err());
    }

    #[test]
    fn a_spread_is_one_of_all_that_it_may_be() {
        let all = Cron::unix("H/2 * * * *").unwrap();
        let (from, to) = ("2026-11-21T10:00:00Z", "2026-11-21T10:03:59Z");
        let found: Vec<_> = all.iter().map(|c| of(c, "UTC", Dst::Smart, from, to)).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], ["2026-11-21T10:00:00Z", "2026-11-21T10:02:00Z"]);
        assert_eq!(found[1], ["2026-11-21T10:01:00Z", "2026-11-21T10:03:00Z"]);
        assert_eq!(Cron::unix("H * * * *").unwrap().len(), 60);
        assert_eq!(Cron::unix("0 0 H * *").unwrap().len(), 28);
        assert!(Cron::unix("H H * * *").is_err(), "too many to look at");
    }

    #[test]
    fn changes_of_the_clocks_by_every_policy() {
        let spring = ("2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z");
        let autumn = ("2026-10-25T00:00:00Z", "2026-10-25T01:59:59Z");
        // Berlin: 02:00 becomes 03:00, and 03:00 becomes 02:00, at 01:00 UTC.
        let times = |text: &str, dst: Dst, (from, to): (&str, &str)| -> Vec<String> {
            let found = of(&Cron::quartz(text).unwrap(), "Europe/Berlin", dst, from, to);
            found.into_iter().map(|at| at[11..16].to_owned()).collect()
        };
        let (fixed, running) = ("0 30 2 * * ?", "0 0/30 * * * ?");
        for (dst, gap, overlap) in [
            (Dst::Smart, &["01:00"][..], &["00:30"][..]),
            (Dst::Quartz, &[], &["01:30"]),
            (Dst::Skip, &[], &["00:30"]),
            (Dst::Twice, &[], &["00:30", "01:30"]),
        ] {
            assert_eq!(times(fixed, dst, spring), gap, "{dst:?}");
            assert_eq!(times(fixed, dst, autumn), overlap, "{dst:?}");
        }
        for (dst, overlap) in [
            (Dst::Smart, &["00:00", "00:30", "01:00", "01:30"][..]),
            (Dst::Quartz, &["01:00", "01:30"]),
            (Dst::Skip, &["00:00", "00:30"]),
            (Dst::Twice, &["00:00", "00:30", "01:00", "01:30"]),
        ] {
            let gap = times(running, dst, spring);
            assert_eq!(gap, ["00:00", "00:30", "01:00", "01:30", "02:00"], "{dst:?}");
            assert_eq!(times(running, dst, autumn), overlap, "{dst:?}");
        }
        let several = times("0 0/20 2 * * ?", Dst::Smart, spring);
        assert_eq!(several, ["01:00"], "several that land there are one");
    }

    #[test]
    fn what_is_not_plain_is_refused() {
        for text in ["0 0 0 L * ?", "0 0 0 ? * 2#1", "0 0 0 * *", "61 * * * * ?", "0 0 0 15W * ?"] {
            assert!(Cron::quartz(text).is_err(), "{text}");
        }
    }
}
