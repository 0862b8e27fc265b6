//! Triggers: the rules that give a job its instants, as people write them.
//!
//! Plain data, checked and computed by [`crate::timing`]; nothing here knows
//! zones or clocks. Fields and variants are only ever appended.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::Name;
use crate::time::{Span, UtcMillis};

/// A rule with everything that people may say about when it fires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleSpec {
    /// When it fires.
    pub rule: TriggerRule,
    /// No instant lies before it.
    pub start: Option<UtcMillis>,
    /// Every instant lies before it: the end itself does not fire.
    pub end: Option<UtcMillis>,
    /// An instant must be allowed by each of these calendars.
    pub calendars: Vec<Name>,
    /// What becomes of local times that the clock skips or shows twice.
    pub dst: DstPolicy,
    /// Its actions start up to this much later, each by its own stable share.
    pub jitter: Span,
    /// 9 goes first, 0 last; the job's where none is given.
    pub priority: Option<u8>,
    /// Parameters that its actions get, over the job's own.
    pub params: BTreeMap<String, String>,
    /// The time of the commit that first held the rule: rates without a start
    /// are counted from it. The machine's to fill in.
    pub anchor: Option<UtcMillis>,
}

impl RuleSpec {
    /// The most calendars one trigger may name.
    pub const MAX_CALENDARS: usize = 16;
    /// The longest jitter.
    pub const MAX_JITTER: Span = Span::secs(24 * 60 * 60);

    /// This rule with nothing else said.
    #[must_use]
    pub fn new(rule: TriggerRule) -> Self {
        Self {
            rule,
            start: None,
            end: None,
            calendars: Vec::new(),
            dst: DstPolicy::Smart,
            jitter: Span::ZERO,
            priority: None,
            params: BTreeMap::new(),
            anchor: None,
        }
    }

    /// True if it says the same, whenever it was first committed.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        Self { anchor: None, ..self.clone() } == Self { anchor: None, ..other.clone() }
    }
}

/// The kinds of triggers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TriggerRule {
    /// By the clock on the wall of its zone.
    Cron {
        /// The expression as written.
        expression: String,
        /// The grammar it is written in.
        dialect: Dialect,
    },
    /// At a fixed rate of elapsed time, from its start.
    Interval {
        /// From one instant to the next.
        every: Span,
        /// How often after the first time; for ever where none is given.
        repeats: Option<u64>,
    },
    /// A while after the last action has ended with all its retries. At most
    /// one action is unfinished; the machine makes the next one.
    FixedDelay {
        /// From an end to the next instant.
        delay: Span,
    },
    /// Each so many seconds to years from its start, by the calendar of its zone.
    CalendarInterval {
        /// How many units lie between two instants.
        every: u32,
        /// Of what.
        unit: CalendarUnit,
    },
    /// Again and again between two times of day, on chosen days of the week.
    DailyWindow {
        /// From one instant to the next, in elapsed time.
        every: Span,
        /// The first instant of a day.
        from: TimeOfDay,
        /// The last possible one; on the next day if it is earlier than `from`.
        to: TimeOfDay,
        /// The days on which a window begins.
        weekdays: Weekdays,
    },
    /// Once.
    Once {
        /// Then.
        at: UtcMillis,
    },
}

/// The grammar of a cron expression. A property of the trigger, never guessed:
/// the same text can be right in both and mean something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Dialect {
    /// Six or seven fields from seconds to year; weekdays count from 1, Sunday.
    #[default]
    Quartz,
    /// Five fields from minutes on; weekdays count from 0, Sunday. Also
    /// `@daily` and its like, `@every 90s`, and `H` for a stable spread.
    Unix,
}

/// What becomes of local times that a change of the clocks leaves out or
/// repeats.
///
/// Spring in Europe/Berlin, 2024-03-31: after 01:59:59 the clock shows
/// 03:00:00. Autumn, 2024-10-27: after the first 02:59:59 it shows 02:00:00.
///
/// | policy | cron | spring | autumn |
/// |---|---|---|---|
/// | `smart` | `0 30 2 * * ?` | 03:00 (moved) | 02:30, first pass |
/// | `smart` | `0 0/30 * * * ?` | … 01:30, 03:00 … | 02:00, 02:30 in both passes |
/// | `quartz` | `0 30 2 * * ?` | not at all | 02:30, second pass |
/// | `quartz` | `0 0/30 * * * ?` | … 01:30, 03:00 … | 02:00, 02:30 in the second pass |
/// | `skip` | `0 30 2 * * ?` | not at all | 02:30, first pass |
/// | `skip` | `0 0/30 * * * ?` | … 01:30, 03:00 … | 02:00, 02:30 in the first pass |
/// | `twice` | `0 30 2 * * ?` | not at all | 02:30 in both passes |
/// | `twice` | `0 0/30 * * * ?` | … 01:30, 03:00 … | 02:00, 02:30 in both passes |
///
/// All four agree on every day without a change. The nominal time of an action
/// is always the instant that fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum DstPolicy {
    /// A cron whose hours are all 24 is *running*: it fires whenever the clock
    /// shows a time that matches. Every other rule is *fixed*: a time in the
    /// gap moves to the first instant after it (several that land there are
    /// one), and one in the overlap fires in the first pass only.
    #[default]
    Smart,
    /// As Quartz: a time in the gap does not fire, one in the overlap fires in
    /// the second pass, and what comes next is looked for by the time on the
    /// wall.
    Quartz,
    /// A time in the gap does not fire, one in the overlap fires in the first
    /// pass.
    Skip,
    /// Whatever the clock shows fires: nothing in the gap, both passes of the
    /// overlap.
    Twice,
}

impl Dialect {
    /// Each with its word in definitions.
    pub const ALL: [(&'static str, Self); 2] = [("quartz", Self::Quartz), ("unix", Self::Unix)];
}

impl DstPolicy {
    /// Each with its word in definitions.
    pub const ALL: [(&'static str, Self); 4] = [
        ("smart", Self::Smart),
        ("quartz", Self::Quartz),
        ("skip", Self::Skip),
        ("twice", Self::Twice),
    ];
}

impl CalendarUnit {
    /// Each with its word in definitions.
    pub const ALL: [(&'static str, Self); 7] = [
        ("second", Self::Second),
        ("minute", Self::Minute),
        ("hour", Self::Hour),
        ("day", Self::Day),
        ("week", Self::Week),
        ("month", Self::Month),
        ("year", Self::Year),
    ];
}

/// What a calendar interval counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CalendarUnit {
    /// Elapsed seconds.
    Second,
    /// Elapsed minutes.
    Minute,
    /// Elapsed hours.
    Hour,
    /// Days of the zone's calendar, at the same time of day.
    Day,
    /// Weeks of the zone's calendar.
    Week,
    /// Months; a day that a month lacks is its last one, and the next month
    /// has the day again: 31 January, 29 February, 31 March.
    Month,
    /// Years; 29 February is the 28th where there is none.
    Year,
}

/// A time on the clock, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TimeOfDay(u32);

impl TimeOfDay {
    /// 00:00:00.
    pub const MIDNIGHT: Self = Self(0);
    /// 23:59:59.
    pub const LAST: Self = Self(86_399);

    /// None if there is no such time.
    #[must_use]
    pub const fn new(hour: u32, minute: u32, second: u32) -> Option<Self> {
        if hour < 24 && minute < 60 && second < 60 {
            Some(Self(hour * 3600 + minute * 60 + second))
        } else {
            None
        }
    }

    /// Seconds after midnight by the clock, below 86,400.
    #[must_use]
    pub const fn seconds(self) -> u32 {
        self.0
    }
}

/// `HH:MM`, or `HH:MM:SS` where there are seconds.
impl std::fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (hour, minute, second) = (self.0 / 3600, self.0 / 60 % 60, self.0 % 60);
        f.pad(&if second == 0 {
            format!("{hour:02}:{minute:02}")
        } else {
            format!("{hour:02}:{minute:02}:{second:02}")
        })
    }
}

/// Not a time of day: which text, and how to write one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time of day: write 00:00 to 23:59, with seconds if they matter")]
pub struct TimeOfDayError(String);

impl std::str::FromStr for TimeOfDay {
    type Err = TimeOfDayError;

    fn from_str(text: &str) -> Result<Self, TimeOfDayError> {
        let wrong = || TimeOfDayError(text.chars().take(40).collect());
        let mut parts = [0_u32; 3];
        let mut count = 0;
        for part in text.split(':') {
            let is_number = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
            *parts.get_mut(count).ok_or_else(wrong)? =
                is_number.then(|| part.parse().ok()).flatten().ok_or_else(wrong)?;
            count += 1;
        }
        let [hour, minute, second] = parts;
        if count < 2 {
            return Err(wrong());
        }
        Self::new(hour, minute, second).ok_or_else(wrong)
    }
}

/// A set of weekdays: bit 0 is Sunday, bit 6 Saturday.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Weekdays(pub u8);

impl Weekdays {
    /// All seven.
    pub const ALL: Self = Self(0x7f);
    /// Monday to Friday.
    pub const WORKDAYS: Self = Self(0x3e);
    /// Saturday and Sunday.
    pub const WEEKEND: Self = Self(0x41);

    /// `sunday_zero` counts from 0, Sunday.
    #[must_use]
    pub const fn has(self, sunday_zero: u32) -> bool {
        sunday_zero < 7 && self.0 & (1 << sunday_zero) != 0
    }

    /// True if no day of a week is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 & Self::ALL.0 == 0
    }
}

/// The names of weekdays, Sunday first.
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// `MON,TUE,SUN`: from Monday on.
impl std::fmt::Display for Weekdays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let chosen = [1, 2, 3, 4, 5, 6, 0].into_iter().filter(|day| self.has(*day));
        f.pad(&chosen.map(|day| WEEKDAYS[day as usize]).collect::<Vec<_>>().join(","))
    }
}

/// Not weekdays: which text, and how to write them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no weekdays: write SUN to SAT in lists and ranges, such as MON-FRI,SUN")]
pub struct WeekdaysError(String);

impl std::str::FromStr for Weekdays {
    type Err = WeekdaysError;

    fn from_str(text: &str) -> Result<Self, WeekdaysError> {
        let wrong = || WeekdaysError(text.chars().take(40).collect());
        let day = |name: &str| {
            WEEKDAYS.iter().position(|day| day.eq_ignore_ascii_case(name.trim())).ok_or_else(wrong)
        };
        let mut set = 0_u8;
        for item in text.split(',') {
            let (from, to) = item.split_once('-').unwrap_or((item, item));
            let (from, to) = (day(from)?, day(to)?);
            // Around the end of the week where need be.
            for offset in 0..=(to + 7 - from) % 7 {
                set |= 1 << ((from + offset) % 7);
            }
        }
        Ok(Self(set))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_day_print_as_they_are_read() {
        for text in ["00:00", "23:59:59", "08:05", "17:00:01"] {
            assert_eq!(text.parse::<TimeOfDay>().unwrap().to_string(), text);
        }
        assert_eq!("08:05:00".parse::<TimeOfDay>().unwrap().to_string(), "08:05");
        for bad in ["", "8:05", "24:00", "12:60", "12:00:60", "12", "12:00:00:00", "+1:00"] {
            assert!(bad.parse::<TimeOfDay>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn weekdays_count_from_sunday() {
        assert!(Weekdays::WEEKEND.has(0) && Weekdays::WEEKEND.has(6) && !Weekdays::WEEKEND.has(1));
        for (text, set, printed) in [
            ("MON-FRI", Weekdays::WORKDAYS, "MON,TUE,WED,THU,FRI"),
            ("sat, sun", Weekdays::WEEKEND, "SAT,SUN"),
            ("FRI-MON,wed", Weekdays(0x6b), "MON,WED,FRI,SAT,SUN"),
        ] {
            let read: Weekdays = text.parse().unwrap();
            assert_eq!((read, read.to_string().as_str()), (set, printed));
            assert_eq!(printed.parse::<Weekdays>().unwrap(), set);
        }
        for bad in ["", "MONDAY", "1-5", "MON-", "MON,,TUE"] {
            assert!(bad.parse::<Weekdays>().is_err(), "{bad:?}");
        }
        assert!(!Weekdays::ALL.has(7) && Weekdays(0x80).is_empty());
    }
}
