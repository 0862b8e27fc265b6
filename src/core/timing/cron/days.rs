//! Which days of a month match: numbers, last days, working days, weekdays.
//!
//! A month is asked as a whole and answers with a set of days, so that the next
//! day of any expression costs a few operations a month.

/// What the two fields for days ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Days {
    /// The field for days of the month; none if it says nothing.
    pub(super) by_month: Option<MonthDays>,
    /// The field for days of the week; none if it says nothing.
    pub(super) by_week: Option<WeekDays>,
    /// With both given: either is enough, or both must match.
    pub(super) either: bool,
}

/// Days by their place in the month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct MonthDays {
    /// Bit n: the n-th.
    pub(super) days: u64,
    /// Bit n: n days before the last.
    pub(super) before_last: u64,
    /// Bit n: the working day nearest to the n-th.
    pub(super) near: u64,
    /// Bit n: the working day nearest to the n-th before the last.
    pub(super) near_before_last: u64,
}

/// Days by their place in the week. Bit 0 is Sunday.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WeekDays {
    /// Each of these.
    Each(u8),
    /// The last of the month.
    Last(u8),
    /// The n-th of the month, from 1.
    Nth(u8, u32),
}

/// A month: the weekday of its first day (Sunday is 0), and its length.
#[derive(Debug, Clone, Copy)]
pub(super) struct Month {
    pub(super) first: u32,
    pub(super) length: u32,
}

impl Month {
    fn all(self) -> u64 {
        (1 << (self.length + 1)) - 2
    }

    fn weekday(self, day: u32) -> u32 {
        (self.first + day + 6) % 7
    }

    /// The days of these weekdays.
    fn of_weekdays(self, weekdays: u8) -> u64 {
        let mut found = 0;
        for weekday in (0..7).filter(|w| weekdays & (1 << w) != 0) {
            // The first such weekday of the month, then each seventh day.
            found |= 0x1020_4081_u64 << (1 + (weekday + 7 - self.first) % 7);
        }
        found & self.all()
    }

    /// The day from Monday to Friday nearest to `day`, within the month.
    fn working_day(self, day: u32) -> u32 {
        match self.weekday(day) {
            6 if day == 1 => 3,
            6 => day - 1,
            0 if day == self.length => day - 2,
            0 => day + 1,
            _ => day,
        }
    }
}

impl Days {
    /// The matching days, the first being bit 1.
    pub(super) fn of(&self, month: Month) -> u64 {
        match (&self.by_month, &self.by_week) {
            (Some(days), None) => days.of(month),
            (None, Some(week)) => week.of(month),
            (Some(days), Some(week)) if self.either => days.of(month) | week.of(month),
            (Some(days), Some(week)) => days.of(month) & week.of(month),
            (None, None) => month.all(),
        }
    }
}

/// Bits 1 to 31.
pub(super) const ALL_DAYS: u64 = 0xffff_fffe;

impl MonthDays {
    fn of(&self, month: Month) -> u64 {
        let mut found = self.days;
        for back in bits(self.before_last).filter(|back| *back < month.length) {
            found |= 1 << (month.length - back);
        }
        for day in bits(self.near).filter(|day| (1..=month.length).contains(day)) {
            found |= 1 << month.working_day(day);
        }
        for back in bits(self.near_before_last).filter(|back| *back < month.length) {
            found |= 1 << month.working_day(month.length - back);
        }
        found & month.all()
    }
}

impl WeekDays {
    fn of(self, month: Month) -> u64 {
        match self {
            Self::Each(weekdays) => month.of_weekdays(weekdays),
            Self::Last(weekdays) => {
                // Of the last seven days each weekday is there once.
                let last_week = month.all() & !((1 << (month.length - 6)) - 1);
                month.of_weekdays(weekdays) & last_week
            }
            Self::Nth(weekdays, nth) => {
                let week = 0xfe_u64 << (7 * (nth - 1));
                month.of_weekdays(weekdays) & week
            }
        }
    }
}

/// The places of the bits that are set, ascending.
pub(super) fn bits(set: u64) -> impl Iterator<Item = u32> {
    std::iter::successors((set != 0).then_some(set), |rest| {
        let rest = rest & (rest - 1);
        (rest != 0).then_some(rest)
    })
    .map(u64::trailing_zeros)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// June 2024 begins on a Saturday, September 2024 on a Sunday and February
    /// 2032 ends on one.
    const JUNE: Month = Month { first: 6, length: 30 };
    const SEPTEMBER: Month = Month { first: 0, length: 30 };
    const FEBRUARY: Month = Month { first: 0, length: 29 };

    fn days(month: Month, what: MonthDays) -> Vec<u32> {
        bits(what.of(month)).collect()
    }

    #[test]
    fn working_days_stay_in_their_month() {
        let near = |set: u64| MonthDays { near: set, ..Default::default() };
        assert_eq!(days(JUNE, near(1 << 1)), [3]);
        assert_eq!(days(JUNE, near(1 << 2)), [3]);
        assert_eq!(days(JUNE, near(1 << 30)), [28]);
        assert_eq!(days(JUNE, near(1 << 31)), [0_u32; 0]);
        assert_eq!(days(SEPTEMBER, near(1 << 1)), [2]);
        assert_eq!(days(SEPTEMBER, near(1 << 7 | 1 << 9)), [6, 9]);
        assert_eq!(days(FEBRUARY, near(1 << 29)), [27]);
    }

    #[test]
    fn days_are_counted_from_the_end() {
        let what = MonthDays { before_last: 1 | 1 << 3 | 1 << 29 | 1 << 30, ..Default::default() };
        assert_eq!(days(JUNE, what), [1, 27, 30]);
        assert_eq!(days(FEBRUARY, what), [26, 29]);
        let what = MonthDays { near_before_last: 1 | 1 << 28, ..Default::default() };
        assert_eq!(days(FEBRUARY, what), [2, 27]);
        assert_eq!(days(JUNE, what), [3, 28]);
    }

    #[test]
    fn weekdays_are_counted_in_their_month() {
        let of = |week: WeekDays| bits(week.of(JUNE)).collect::<Vec<_>>();
        assert_eq!(of(WeekDays::Each(1)), [2, 9, 16, 23, 30]);
        assert_eq!(of(WeekDays::Last(1)), [30]);
        assert_eq!(of(WeekDays::Last(1 << 1)), [24]);
        assert_eq!(of(WeekDays::Nth(1, 1)), [2]);
        assert_eq!(of(WeekDays::Nth(1 << 6, 5)), [29]);
        assert_eq!(of(WeekDays::Nth(1 << 1, 5)), [0_u32; 0]);
        assert_eq!(of(WeekDays::Nth(1 << 6, 1)), [1]);
    }

    #[test]
    fn either_field_may_be_enough() {
        let both = |either| Days {
            by_month: Some(MonthDays { days: 1 << 3 | 1 << 9, ..Default::default() }),
            by_week: Some(WeekDays::Each(1)),
            either,
        };
        assert_eq!(bits(both(true).of(JUNE)).collect::<Vec<_>>(), [2, 3, 9, 16, 23, 30]);
        assert_eq!(bits(both(false).of(JUNE)).collect::<Vec<_>>(), [9]);
    }
}
