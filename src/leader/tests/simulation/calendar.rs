//! When a cron is due, worked out here alone: an own calendar and own rules for
//! the changes of the clocks, so that a fault of the product's is not shared.
//!
//! Slow and plain on purpose: days are walked through one by one, local times
//! are turned into instants by trying both offsets. The product's rule for
//! changes of the clocks is restated, not called: a cron whose hours are all 24
//! follows the wall, any other fires once for each local time, one that is
//! skipped at the end of the gap, one that comes twice in the first pass.

use std::fmt::Write as _;

const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;

/// A zone with rules that are simple enough to be written down again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Zone {
    Utc,
    Berlin,
    NewYork,
    /// Moves its clocks by half an hour, in the south.
    LordHowe,
    /// Never moves them, and is half an hour off.
    Kolkata,
}

impl Zone {
    pub(super) const ALL: [Self; 5] =
        [Self::Utc, Self::Berlin, Self::NewYork, Self::LordHowe, Self::Kolkata];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Utc => "UTC",
            Self::Berlin => "Europe/Berlin",
            Self::NewYork => "America/New_York",
            Self::LordHowe => "Australia/Lord_Howe",
            Self::Kolkata => "Asia/Kolkata",
        }
    }

    /// Standard and summer offset in seconds.
    fn offsets(self) -> (i64, i64) {
        match self {
            Self::Utc => (0, 0),
            Self::Berlin => (HOUR, 2 * HOUR),
            Self::NewYork => (-5 * HOUR, -4 * HOUR),
            Self::LordHowe => (10 * HOUR + HOUR / 2, 11 * HOUR),
            Self::Kolkata => (5 * HOUR + HOUR / 2, 5 * HOUR + HOUR / 2),
        }
    }

    /// Start and end of summer time in a year, in seconds since 1970.
    fn summer(self, year: i64) -> Option<(i64, i64)> {
        let (standard, summer) = self.offsets();
        match self {
            Self::Utc | Self::Kolkata => None,
            Self::Berlin => {
                let last = |month| sunday_from(year, month, 25) * DAY + HOUR;
                Some((last(3), last(10)))
            }
            Self::NewYork => Some((
                sunday_from(year, 3, 8) * DAY + 2 * HOUR - standard,
                sunday_from(year, 11, 1) * DAY + 2 * HOUR - summer,
            )),
            Self::LordHowe => Some((
                sunday_from(year, 10, 1) * DAY + 2 * HOUR - standard,
                sunday_from(year, 4, 1) * DAY + 2 * HOUR - summer,
            )),
        }
    }

    /// The lowest and the highest offset around a stretch of time.
    fn offsets_between(self, first: i64, last: i64) -> (i64, i64) {
        // Clocks do not change twice in so short a time.
        let is_short = last - first < 20 * DAY;
        let (before, behind) = (self.offset_at(first - 3 * HOUR), self.offset_at(last + 3 * HOUR));
        if is_short && before == behind { (before, before) } else { self.offsets() }
    }

    fn offset_at(self, at: i64) -> i64 {
        let (standard, summer) = self.offsets();
        let (year, ..) = civil(at.div_euclid(DAY));
        let Some((start, end)) = self.summer(year) else { return standard };
        let is_summer =
            if start < end { (start..end).contains(&at) } else { !(end..start).contains(&at) };
        if is_summer { summer } else { standard }
    }

    /// Day of the week, from 0, Sunday, and second of the day on the wall.
    pub(super) fn wall(self, at: i64) -> (i64, i64) {
        let second = at.div_euclid(1000);
        let local = second + self.offset_at(second);
        ((local.div_euclid(DAY) + 4).rem_euclid(7), local.rem_euclid(DAY))
    }

    /// The instants that a local time stands for, ascending: none, one or two.
    fn instants(self, local: i64) -> Vec<i64> {
        let (standard, summer) = self.offsets();
        let mut found: Vec<i64> = [summer, standard]
            .into_iter()
            .filter(|offset| self.offset_at(local - offset) == *offset)
            .map(|offset| local - offset)
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The end of the gap that a local time lies in.
    fn gap_end(self, local: i64) -> i64 {
        let (standard, summer) = self.offsets();
        let (year, ..) = civil(local.div_euclid(DAY));
        let starts = (year - 1..=year + 1).filter_map(|year| self.summer(year)).map(|s| s.0);
        let around = |start: &i64| (start + standard..start + summer).contains(&local);
        starts.into_iter().find(around).expect("a local time without instants lies in a gap")
    }
}

/// The day number of the first Sunday on or after a date.
fn sunday_from(year: i64, month: i64, day: i64) -> i64 {
    let from = days(year, month, day);
    // 1970-01-01 was a Thursday.
    from + (7 - (from + 4).rem_euclid(7)) % 7
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn month_length(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01.
pub(super) fn days(year: i64, month: i64, day: i64) -> i64 {
    let leaps = |y: i64| y / 4 - y / 100 + y / 400;
    let years = (year - 1970) * 365 + leaps(year - 1) - leaps(1969);
    let months: i64 = (1..month).map(|m| month_length(year, m)).sum();
    years + months + day - 1
}

/// Year, month and day of a day number after 1970.
fn civil(day: i64) -> (i64, i64, i64) {
    let mut year = 1970 + day / 366;
    while days(year + 1, 1, 1) <= day {
        year += 1;
    }
    let mut rest = day - days(year, 1, 1);
    let mut month = 1;
    while rest >= month_length(year, month) {
        rest -= month_length(year, month);
        month += 1;
    }
    (year, month, rest + 1)
}

/// One field of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    Any,
    /// From the first number on, each so many-th.
    Step(i64, i64),
    List(&'static [i64]),
    Range(i64, i64),
}

impl Field {
    fn matches(&self, value: i64) -> bool {
        match self {
            Self::Any => true,
            Self::Step(from, every) => value >= *from && (value - from) % every == 0,
            Self::List(values) => values.contains(&value),
            Self::Range(from, to) => (*from..=*to).contains(&value),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Any => "*".to_owned(),
            Self::Step(from, every) => format!("{from}/{every}"),
            Self::Range(from, to) => format!("{from}-{to}"),
            Self::List(values) => {
                let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
                texts.join(",")
            }
        }
    }
}

/// A cron as sets of numbers; the product gets it as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cron {
    pub(super) second: Field,
    pub(super) minute: Field,
    pub(super) hour: Field,
    /// Of the month, from 1; only one of the two kinds of days.
    pub(super) day: Option<Field>,
    pub(super) month: Field,
    /// From 1, a Sunday.
    pub(super) weekday: Option<Field>,
    pub(super) years: Option<Field>,
}

impl Cron {
    pub(super) fn text(&self) -> String {
        let day = |field: &Option<Field>| field.as_ref().map_or_else(|| "?".into(), Field::text);
        let mut text = format!(
            "{} {} {} {} {} {}",
            self.second.text(),
            self.minute.text(),
            self.hour.text(),
            // One of the two must be a question mark, and not both.
            if self.day.is_none() && self.weekday.is_none() { "*".into() } else { day(&self.day) },
            self.month.text(),
            day(&self.weekday),
        );
        if let Some(years) = &self.years {
            let _ = write!(text, " {}", years.text());
        }
        text
    }

    fn follows_the_wall(&self) -> bool {
        (0..24).all(|hour| self.hour.matches(hour))
    }

    fn matches_day(&self, day: i64) -> bool {
        let (year, month, of_month) = civil(day);
        let weekday = (day + 4).rem_euclid(7) + 1;
        self.years.as_ref().is_none_or(|f| f.matches(year))
            && self.month.matches(month)
            && self.day.as_ref().is_none_or(|f| f.matches(of_month))
            && self.weekday.as_ref().is_none_or(|f| f.matches(weekday))
    }

    /// All instants in `(after, until]`, in milliseconds, ascending.
    pub(super) fn instants(&self, zone: Zone, after: i64, until: i64) -> Vec<i64> {
        let mut found = Vec::new();
        if until <= after {
            return found;
        }
        let (first, last) = (after.div_euclid(1000), until.div_euclid(1000));
        // What a local time stands for lies between these of it, in a gap too.
        let (low, high) = zone.offsets_between(first, last);
        let may_lie =
            |local: i64, length: i64| local + length - low >= first && local - high <= last;
        for day in (first + low).div_euclid(DAY)..=(last + high).div_euclid(DAY) {
            if !self.matches_day(day) {
                continue;
            }
            for hour in (0..24).filter(|hour| self.hour.matches(*hour)) {
                let start = day * DAY + hour * HOUR;
                if !may_lie(start, HOUR) {
                    continue;
                }
                for minute in (0..60).filter(|minute| self.minute.matches(*minute)) {
                    let start = start + minute * 60;
                    if !may_lie(start, 60) {
                        continue;
                    }
                    let seconds = (0..60).filter(|second| self.second.matches(*second));
                    for local in seconds.map(|second| start + second).filter(|l| may_lie(*l, 0)) {
                        self.add(zone, local, &mut found);
                    }
                }
            }
        }
        let mut found: Vec<i64> = found.into_iter().map(|at| at * 1000).collect();
        found.retain(|at| *at > after && *at <= until);
        found.sort_unstable();
        found.dedup();
        found
    }

    fn add(&self, zone: Zone, local: i64, found: &mut Vec<i64>) {
        let instants = zone.instants(local);
        if self.follows_the_wall() {
            found.extend(instants);
        } else {
            found.push(instants.first().copied().unwrap_or_else(|| zone.gap_end(local)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(year: i64, month: i64, day: i64, hour: i64, minute: i64) -> i64 {
        (days(year, month, day) * DAY + hour * HOUR + minute * 60) * 1000
    }

    fn daily(hour: Field, minute: i64) -> Cron {
        Cron {
            second: Field::Step(0, 60),
            minute: Field::Range(minute, minute),
            hour,
            day: None,
            month: Field::Any,
            weekday: None,
            years: None,
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2000, 3, 1), 11_017);
        for day in [0, 58, 59, 11_016, 20_000, 30_000, 47_540] {
            let (y, m, d) = civil(day);
            assert_eq!(days(y, m, d), day);
        }
        assert_eq!(civil(days(2028, 2, 29)), (2028, 2, 29));
        assert_eq!(civil(sunday_from(2027, 3, 25)), (2027, 3, 28));
    }

    #[test]
    fn clocks_change_as_on_the_wall() {
        let half_past_two = daily(Field::Range(2, 2), 30);
        let of = |zone, from, to| half_past_two.instants(zone, from, to);
        // A gap: at its end. An overlap: once, in the first pass.
        let spring = of(Zone::Berlin, at(2027, 3, 28, 0, 0), at(2027, 3, 28, 12, 0));
        assert_eq!(spring, [at(2027, 3, 28, 1, 0)]);
        let autumn = of(Zone::Berlin, at(2027, 10, 30, 12, 0), at(2027, 10, 31, 12, 0));
        assert_eq!(autumn, [at(2027, 10, 31, 0, 30)]);
        let york = of(Zone::NewYork, at(2027, 3, 14, 0, 0), at(2027, 3, 14, 12, 0));
        assert_eq!(york, [at(2027, 3, 14, 7, 0)]);
        let wall = daily(Field::Any, 15);
        let night = wall.instants(Zone::LordHowe, at(2027, 4, 3, 13, 0), at(2027, 4, 3, 17, 0));
        let expected = [(13, 15), (14, 15), (15, 45), (16, 45)];
        assert_eq!(night, expected.map(|(h, m)| at(2027, 4, 3, h, m)));
    }
}
