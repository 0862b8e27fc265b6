//! The fields of an expression: their bounds and names, in both dialects.

use std::fmt;

/// The fields, in the order of Quartz's text.
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
    /// From Sunday: 1 to 7 in Quartz, 0 to 6 (or 7) in Unix, or SUN to SAT.
    DayOfWeek,
    /// 1970 to 2299; may be left out.
    Year,
}

/// The names of months, January first.
const MONTHS: [&str; 12] = [
    "JANUARY",
    "FEBRUARY",
    "MARCH",
    "APRIL",
    "MAY",
    "JUNE",
    "JULY",
    "AUGUST",
    "SEPTEMBER",
    "OCTOBER",
    "NOVEMBER",
    "DECEMBER",
];
/// The names of weekdays, Sunday first.
const WEEKDAYS: [&str; 7] =
    ["SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY"];

impl Field {
    /// All of them, in the order of the text.
    pub const ALL: [Self; 7] = [
        Self::Seconds,
        Self::Minutes,
        Self::Hours,
        Self::DayOfMonth,
        Self::Month,
        Self::DayOfWeek,
        Self::Year,
    ];

    /// The numbers that Quartz takes, except of years.
    pub(super) fn bounds(self) -> (u32, u32) {
        match self {
            Self::Seconds | Self::Minutes => (0, 59),
            Self::Hours => (0, 23),
            Self::DayOfMonth => (1, 31),
            Self::Month => (1, 12),
            Self::DayOfWeek => (1, 7),
            Self::Year => (super::FIRST_YEAR as u32, super::LAST_YEAR as u32),
        }
    }

    /// The longest step; years have none.
    pub(super) fn longest_step(self) -> u32 {
        match self {
            Self::Year => u32::MAX,
            _ => self.bounds().1,
        }
    }

    /// The place of a name among this field's, from 0. Only the first three
    /// letters count.
    pub(super) fn name(self, three: &str) -> Option<u32> {
        let names: &[&str] = match self {
            Self::Month => &MONTHS,
            Self::DayOfWeek => &WEEKDAYS,
            _ => return None,
        };
        let place = names.iter().position(|name| name[..3].eq_ignore_ascii_case(three))?;
        u32::try_from(place).ok()
    }

    /// The name at `place`, in capitals.
    pub(super) fn long_name(self, place: u32) -> &'static str {
        let names: &[&'static str] = match self {
            Self::Month => &MONTHS,
            Self::DayOfWeek => &WEEKDAYS,
            _ => &[],
        };
        names.get(place as usize).copied().unwrap_or_default()
    }

    /// What may stand in this field in Quartz's dialect.
    #[must_use]
    pub fn expected(self) -> &'static str {
        match self {
            Self::Seconds | Self::Minutes => "0 to 59",
            Self::Hours => "0 to 23",
            Self::DayOfMonth => "1 to 31, L, L-3, LW, 15W, or ?",
            Self::Month => "1 to 12 or JAN to DEC",
            Self::DayOfWeek => "1 (Sunday) to 7 (Saturday) or SUN to SAT, 6L, 6#3, or ?",
            Self::Year => "1970 to 2299",
        }
    }

    /// What may stand in this field in the Unix dialect.
    #[must_use]
    pub fn expected_unix(self) -> &'static str {
        match self {
            Self::DayOfMonth => "1 to 31",
            Self::DayOfWeek => "0 (Sunday) to 6 (Saturday), 7 (Sunday) or SUN to SAT",
            _ => self.expected(),
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
