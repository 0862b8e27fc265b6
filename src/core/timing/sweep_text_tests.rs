//! Random expressions of both dialects, each as a text and as the times and days
//! that a person finds in it: nothing here asks the parser.

use jiff::civil::Date;

use super::{DAY, FROM, TO};
use crate::model::trigger::Dialect;

/// Splitmix: the same numbers for a seed everywhere.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, below: u64) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        i64::try_from((mixed ^ (mixed >> 31)) % below).unwrap()
    }

    /// One in so many times.
    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

/// A field of numbers: the least, the most, and names for them, if it has any.
#[derive(Clone, Copy)]
struct Numbers {
    least: i64,
    most: i64,
    names: &'static [&'static str],
}

const SIXTY: Numbers = Numbers { least: 0, most: 59, names: &[] };
const HOURS: Numbers = Numbers { least: 0, most: 23, names: &[] };
const DAYS: Numbers = Numbers { least: 1, most: 31, names: &[] };
const MONTHS: Numbers = Numbers {
    least: 1,
    most: 12,
    names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
};
const WEEKDAYS: Numbers =
    Numbers { least: 1, most: 7, names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"] };

/// A field's text, and bit n for each number n in it.
type Read = (String, u64);

impl Numbers {
    fn size(self) -> u64 {
        u64::try_from(self.most - self.least + 1).unwrap()
    }

    fn any(self, random: &mut Random) -> i64 {
        self.least + random.below(self.size())
    }

    /// A number as it is or by its name.
    fn shown(self, random: &mut Random, number: i64) -> String {
        let place = usize::try_from(number - self.least).unwrap();
        match self.names.get(place) {
            Some(name) if random.one_in(2) => (*name).to_owned(),
            _ => number.to_string(),
        }
    }

    /// Each `step`-th of `length` numbers behind `from`, perhaps around the end.
    fn walk(self, from: i64, length: i64, step: i64) -> u64 {
        let walked = (0..=length).step_by(usize::try_from(step).unwrap());
        walked.fold(0, |set, by| {
            let number = from + by;
            let wrapped =
                if number > self.most { number - (self.most - self.least + 1) } else { number };
            set | 1 << wrapped
        })
    }

    fn star(self) -> Read {
        ("*".to_owned(), self.walk(self.least, self.most - self.least, 1))
    }

    fn item(self, random: &mut Random) -> Read {
        let from = self.any(random);
        let step = 1 + random.below(self.size() - 1);
        // Short, so that not every expression fires each second; some go around the end.
        let length = random.below(self.size().div_ceil(3) + 1);
        let to = self.least + (from + length - self.least) % (self.most - self.least + 1);
        match random.below(8) {
            0..=2 => (self.shown(random, from), 1 << from),
            3 => (format!("{from}/{step}"), self.walk(from, self.most - from, step)),
            4 => (format!("*/{step}"), self.walk(self.least, self.most - self.least, step)),
            5 => (format!("{from}-{to}/{step}"), self.walk(from, length, step)),
            _ => {
                let range = format!("{}-{}", self.shown(random, from), self.shown(random, to));
                // Both ends of the one kind: Quartz takes no others.
                let is_mixed = range.starts_with(|c: char| c.is_ascii_digit())
                    != range.ends_with(|c: char| c.is_ascii_digit());
                let text = if is_mixed { format!("{from}-{to}") } else { range };
                (text, self.walk(from, length, 1))
            }
        }
    }

    /// A star as often as that, else a list.
    fn field(self, random: &mut Random, star_one_in: u64) -> Read {
        if random.one_in(star_one_in) { self.star() } else { self.list(random) }
    }

    /// One item, two or three.
    fn list(self, random: &mut Random) -> Read {
        let more = if random.one_in(3) { 1 + random.below(2) } else { 0 };
        (0..more).fold(self.item(random), |(text, set), _| {
            let (item, numbers) = self.item(random);
            (format!("{text},{item}"), set | numbers)
        })
    }
}

/// What an item of the fields for days asks for.
#[derive(Clone, Copy)]
enum Days {
    /// Of the month, as bits.
    Numbers(u64),
    /// So many days before the last one.
    FromLast(i64),
    /// The day from Monday to Friday that is nearest to that one.
    Near(i64),
    /// The one that is nearest to so many days before the last one.
    NearFromLast(i64),
    /// Bit 0 is Sunday.
    Weekdays(u64),
    Nth(i64, i64),
    LastOf(i64),
}

impl Days {
    /// An item for days of the month in Quartz's dialect.
    fn of_month(random: &mut Random) -> (String, Self) {
        let (day, back) = (DAYS.any(random), 1 + random.below(30));
        match random.below(8) {
            0 => ("L".to_owned(), Self::FromLast(0)),
            1 => (format!("L-{back}"), Self::FromLast(back)),
            2 => (format!("{day}W"), Self::Near(day)),
            3 => ("LW".to_owned(), Self::NearFromLast(0)),
            4 => (format!("L-{back}W"), Self::NearFromLast(back)),
            _ => {
                let (text, set) = DAYS.item(random);
                (text, Self::Numbers(set))
            }
        }
    }

    /// The field for days of the week in Quartz's dialect.
    fn of_week(random: &mut Random) -> (String, Self) {
        let weekday = random.below(7);
        let shown = WEEKDAYS.shown(random, weekday + 1);
        match random.below(5) {
            0 => {
                let nth = 1 + random.below(5);
                (format!("{shown}#{nth}"), Self::Nth(weekday, nth))
            }
            1 => (format!("{shown}L"), Self::LastOf(weekday)),
            _ => {
                let (text, set) = WEEKDAYS.list(random);
                (text, Self::Weekdays(set >> 1))
            }
        }
    }

    fn has(self, day: Date) -> bool {
        let (number, length) = (i64::from(day.day()), i64::from(day.days_in_month()));
        let weekday = |day: Date| i64::from(day.weekday().to_sunday_zero_offset());
        let is_near = |n: i64| {
            if !(1..=length).contains(&n) {
                return false;
            }
            let target = Date::new(day.year(), day.month(), i8::try_from(n).unwrap()).unwrap();
            let candidates: &[i64] = match weekday(target) {
                6 => &[-1, 2],
                0 => &[1, -2],
                _ => &[0],
            };
            let nearest = candidates.iter().map(|by| n + by).find(|n| (1..=length).contains(n));
            nearest == Some(number)
        };
        match self {
            Self::Numbers(set) => set & 1 << number != 0,
            Self::FromLast(back) => number == length - back,
            Self::Near(n) => is_near(n),
            Self::NearFromLast(back) => is_near(length - back),
            Self::Weekdays(set) => set & 1 << weekday(day) != 0,
            Self::Nth(wanted, nth) => weekday(day) == wanted && (number - 1) / 7 + 1 == nth,
            Self::LastOf(wanted) => weekday(day) == wanted && number + 7 > length,
        }
    }
}

/// An expression as text and as sets.
pub(super) struct Wanted {
    pub(super) text: String,
    pub(super) dialect: Dialect,
    /// Each second of a day.
    times: Vec<bool>,
    /// Those of them that match, ascending.
    pub(super) seconds: Vec<i64>,
    /// Each day from [`FIRST_DAY`] on.
    days: Vec<bool>,
    pub(super) is_running: bool,
}

/// Some days more than the two years on both sides.
const FIRST_DAY: i64 = FROM / DAY - 15;
const LAST_DAY: i64 = TO / DAY + 15;

pub(super) fn date(day: i64) -> Date {
    Date::constant(1970, 1, 1).checked_add(jiff::Span::new().days(day)).unwrap()
}

impl Wanted {
    /// Two of five in the Unix dialect.
    pub(super) fn random(random: &mut Random) -> Self {
        if random.below(5) < 2 { Self::unix(random) } else { Self::quartz(random) }
    }

    fn quartz(random: &mut Random) -> Self {
        let (second, seconds) = SIXTY.field(random, 10);
        let (minute, minutes) = SIXTY.field(random, 5);
        let (hour, hours) = HOURS.field(random, 4);
        let (month, months) = MONTHS.field(random, 2);
        let mut days = Vec::new();
        let (of_month, of_week) = match random.below(6) {
            0 => {
                days.push(Days::Numbers(u64::MAX));
                if random.one_in(2) {
                    ("*".to_owned(), "?".to_owned())
                } else {
                    ("?".to_owned(), "*".to_owned())
                }
            }
            1 | 2 => {
                let (text, item) = Days::of_week(random);
                days.push(item);
                ("?".to_owned(), text)
            }
            _ => {
                let mut texts = Vec::new();
                for _ in 0..=random.below(3) {
                    let (text, item) = Days::of_month(random);
                    texts.push(text);
                    days.push(item);
                }
                (texts.join(","), "?".to_owned())
            }
        };
        let (year, years): (&str, fn(i16) -> bool) = match random.below(12) {
            0 => (" 2025/1", |year| year >= 2025),
            1 => (" 2024/2", |year| year % 2 == 0),
            2 => (" 1999,2020-2025/5", |year| year == 2025),
            _ => ("", |_| true),
        };
        let text = format!("{second} {minute} {hour} {of_month} {month} {of_week}{year}");
        let has_day = |day: Date| {
            months & 1 << day.month() != 0
                && years(day.year())
                && days.iter().any(|item| item.has(day))
        };
        Self::new(text, Dialect::Quartz, [seconds, minutes, hours], has_day)
    }

    fn unix(random: &mut Random) -> Self {
        let (minute, minutes) = SIXTY.field(random, 5);
        let (hour, hours) = HOURS.field(random, 4);
        let (of_month, days) = DAYS.field(random, 2);
        let (month, months) = MONTHS.field(random, 2);
        let (of_week, weekdays) = unix_weekdays(random);
        let text = format!("{minute} {hour} {of_month} {month} {of_week}");
        // The crontab of Linux: both fields must match as soon as one begins with a star.
        let both = of_month.starts_with('*') || of_week.starts_with('*');
        let has_day = |day: Date| {
            let (by_month, by_week) =
                (Days::Numbers(days).has(day), Days::Weekdays(weekdays).has(day));
            months & 1 << day.month() != 0
                && if both { by_month && by_week } else { by_month || by_week }
        };
        Self::new(text, Dialect::Unix, [1, minutes, hours], has_day)
    }

    fn new(
        text: String,
        dialect: Dialect,
        [seconds, minutes, hours]: [u64; 3],
        has_day: impl Fn(Date) -> bool,
    ) -> Self {
        let has = |set: u64, number: i64| set & 1 << number != 0;
        let times: Vec<bool> = (0..DAY)
            .map(|at| has(seconds, at % 60) && has(minutes, at / 60 % 60) && has(hours, at / 3600))
            .collect();
        Self {
            text,
            dialect,
            seconds: (0..DAY).zip(&times).filter(|(_, has)| **has).map(|(at, _)| at).collect(),
            times,
            days: (FIRST_DAY..LAST_DAY).map(|day| has_day(date(day))).collect(),
            is_running: hours == (1 << 24) - 1,
        }
    }

    /// `day` counts from 1970-01-01.
    pub(super) fn has_day(&self, day: i64) -> bool {
        self.days[usize::try_from(day - FIRST_DAY).unwrap()]
    }

    pub(super) fn has_second(&self, local: i64) -> bool {
        self.times[usize::try_from(local.rem_euclid(DAY)).unwrap()]
            && self.has_day(local.div_euclid(DAY))
    }
}

/// Weekdays from 0 to 7, both being Sunday; bit 0 is Sunday in what is read.
fn unix_weekdays(random: &mut Random) -> Read {
    let item = |random: &mut Random| {
        let (from, to) = (random.below(8), random.below(8));
        let step = 1 + random.below(3);
        let length = if to < from { to + 7 - from } else { to - from };
        let walk = |step: i64| {
            let walked = (from..=from + length).step_by(usize::try_from(step).unwrap());
            walked.fold(0_u64, |set, day| set | 1 << (day % 7))
        };
        let name = |day: i64| WEEKDAYS.names[usize::try_from(day % 7).unwrap()];
        match random.below(6) {
            0 => (from.to_string(), 1 << (from % 7)),
            1 => (name(from).to_owned(), 1 << (from % 7)),
            2 => (format!("*/{step}"), WEEKDAYS.walk(1, 6, step) >> 1),
            3 => (format!("{from}-{to}/{step}"), walk(step)),
            // By name the week ends on Saturday: a 7 is a 0.
            4 if from < 7 && to < 7 => (format!("{}-{}", name(from), name(to)), walk(1)),
            _ => (format!("{from}-{to}"), walk(1)),
        }
    };
    if random.one_in(2) {
        return ("*".to_owned(), 0x7f);
    }
    let more = if random.one_in(3) { 1 + random.below(2) } else { 0 };
    (0..more).fold(item(random), |(text, set), _| {
        let (next, days) = item(random);
        (format!("{text},{next}"), set | days)
    })
}
