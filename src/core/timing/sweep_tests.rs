//! Brute force: two years, a hundred random expressions, ten zones, judged by a
//! second evaluation that knows only how far clocks are from UTC.
//!
//! Around each change of the clocks and on some days every second is looked at;
//! on all others the first instant of the day and what follows its last one.
//! A usual run judges each expression in two of the zones; all pairs, and more
//! seeds, with `HORAI_SWEEP_SEEDS=n`, as `scripts/time-sweep` does.

use jiff::Timestamp;
use jiff::civil::Date;

use super::cron::CronExpr;
use super::next_fire::{fires_after, next_after};
use super::zone::Zone;
use crate::model::trigger::DstPolicy;
use crate::time::UtcMillis;

const DAY: i64 = 86_400;
/// 2024-01-01 and 2026-01-01.
const FROM: i64 = 1_704_067_200;
const TO: i64 = 1_767_225_600;
/// Seconds looked at on both sides of a change.
const AROUND: i64 = DAY;
const EXPRESSIONS: u64 = 100;
const RANDOM_DAYS: u64 = 20;
/// Changes of an hour, half an hour, two hours, at midnight, in the south, and none.
const ZONES: [&str; 10] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "Antarctica/Troll",
    "America/Santiago",
    "Asia/Kathmandu",
    "Pacific/Chatham",
    "America/St_Johns",
    "UTC",
];
const POLICIES: [DstPolicy; 4] =
    [DstPolicy::Smart, DstPolicy::Quartz, DstPolicy::Skip, DstPolicy::Twice];

/// Splitmix: the same numbers for a seed everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        i64::try_from((mixed ^ (mixed >> 31)) % below).unwrap()
    }
}

/// Which days an expression asks for, as a person would look them up.
#[derive(Debug, Clone, Copy)]
enum Days {
    Every,
    Numbers(i64, i64),
    FromLast(i64),
    Near(i64),
    NearLast,
    Weekdays(i64, i64),
    Nth(i64, i64),
    LastOf(i64),
}

/// An expression as text and as sets.
struct Wanted {
    text: String,
    /// Each second of a day.
    times: Vec<bool>,
    hours: [bool; 24],
    months: [bool; 13],
    days: Days,
    first_year: i16,
}

/// A field of numbers from `least` to `most`: its text, and which are in it.
fn field<const N: usize>(random: &mut Random, least: i64, most: i64) -> (String, [bool; N]) {
    let mut set = [false; N];
    let size = u64::try_from(most - least + 1).unwrap();
    let (a, b) = (least + random.below(size), least + random.below(size));
    let step = 1 + random.below(size - 1);
    let (text, from, length, step) = match random.below(8) {
        0 | 1 => ("*".to_owned(), least, most - least, 1),
        2 | 3 => (a.to_string(), a, 0, 1),
        4 => (format!("{a}/{step}"), a, most - a, step),
        5 => (format!("*/{step}"), least, most - least, step),
        // Perhaps around the end.
        _ => (format!("{a}-{b}"), a, (b - a).rem_euclid(most - least + 1), 1),
    };
    for offset in (0..=length).step_by(usize::try_from(step).unwrap()) {
        let number = from + offset;
        let wrapped = if number > most { number - (most - least + 1) } else { number };
        set[usize::try_from(wrapped).unwrap()] = true;
    }
    (text, set)
}

fn wanted(random: &mut Random) -> Wanted {
    let (second, seconds) = field::<60>(random, 0, 59);
    let (minute, minutes) = field::<60>(random, 0, 59);
    let (hour, hours) = field(random, 0, 23);
    let (month, months) =
        if random.below(2) == 0 { ("*".to_owned(), [true; 13]) } else { field(random, 1, 12) };
    let day = 1 + random.below(31);
    let weekday = random.below(7);
    let (days, of_month, of_week) = match random.below(9) {
        0 | 1 => (Days::Every, "*".to_owned(), "?".to_owned()),
        2 => {
            let to = 1 + random.below(31);
            (Days::Numbers(day, to), format!("{day}-{to}"), "?".to_owned())
        }
        3 => {
            let back = random.below(31);
            let text = if back == 0 { "L".to_owned() } else { format!("L-{back}") };
            (Days::FromLast(back), text, "?".to_owned())
        }
        4 => (Days::Near(day), format!("{day}W"), "?".to_owned()),
        5 => (Days::NearLast, "LW".to_owned(), "?".to_owned()),
        6 => {
            let to = random.below(7);
            let text = format!("{}-{}", weekday + 1, to + 1);
            (Days::Weekdays(weekday, to), "?".to_owned(), text)
        }
        7 => {
            let nth = 1 + random.below(5);
            (Days::Nth(weekday, nth), "?".to_owned(), format!("{}#{nth}", weekday + 1))
        }
        _ => (Days::LastOf(weekday), "?".to_owned(), format!("{}L", weekday + 1)),
    };
    let (year, first_year) = if random.below(4) == 0 { (" 2025/1", 2025) } else { ("", 0) };
    let text = format!("{second} {minute} {hour} {of_month} {month} {of_week}{year}");
    let times = (0..24 * 60 * 60)
        .map(|at| seconds[at % 60] && minutes[at / 60 % 60] && hours[at / 3600])
        .collect();
    Wanted { text, times, hours, months, days, first_year }
}

impl Wanted {
    fn has_day(&self, day: Date) -> bool {
        let (number, length) = (i64::from(day.day()), i64::from(day.days_in_month()));
        let weekday = |day: Date| i64::from(day.weekday().to_sunday_zero_offset());
        // The number of the day from Monday to Friday nearest to the n-th.
        let near = |n: i64| {
            let target = Date::new(day.year(), day.month(), i8::try_from(n).unwrap()).unwrap();
            let candidates: &[i64] = match weekday(target) {
                6 => &[-1, 2],
                0 => &[1, -2],
                _ => &[0],
            };
            candidates.iter().map(|by| n + by).find(|n| (1..=length).contains(n)).unwrap()
        };
        let matches = match self.days {
            Days::Every => true,
            Days::Numbers(from, to) if from <= to => (from..=to).contains(&number),
            Days::Numbers(from, to) => number >= from || number <= to,
            Days::FromLast(back) => number == length - back,
            Days::Near(n) => n <= length && number == near(n),
            Days::NearLast => number == near(length),
            Days::Weekdays(from, to) => {
                (weekday(day) - from).rem_euclid(7) <= (to - from).rem_euclid(7)
            }
            Days::Nth(wanted, nth) => weekday(day) == wanted && (number - 1) / 7 + 1 == nth,
            Days::LastOf(wanted) => weekday(day) == wanted && number + 7 > length,
        };
        let month = usize::try_from(day.month()).unwrap();
        matches && self.months[month] && day.year() >= self.first_year
    }

    fn has_time(&self, second_of_day: i64) -> bool {
        self.times[usize::try_from(second_of_day).unwrap()]
    }

    fn is_running(&self) -> bool {
        self.hours.iter().all(|hour| *hour)
    }
}

/// A zone's clock as it is far from UTC: a change and the offsets on both sides.
struct Clock {
    changes: Vec<(i64, i64, i64)>,
    first_offset: i64,
}

impl Clock {
    fn of(zone: &Zone) -> Self {
        let offset = |at: i64| {
            i64::from(zone.rules().to_offset(Timestamp::from_second(at).unwrap()).seconds())
        };
        let (from, to) = (FROM - 10 * DAY, TO + 10 * DAY);
        let mut changes = Vec::new();
        // All of them lie on whole quarters of an hour.
        for at in (from..to).step_by(900) {
            let (before, after) = (offset(at - 1), offset(at));
            if before != after {
                changes.push((at, before, after));
            }
        }
        Self { changes, first_offset: offset(from) }
    }

    fn offset(&self, at: i64) -> i64 {
        let before = self.changes.iter().rev().find(|(change, _, _)| *change <= at);
        before.map_or(self.first_offset, |(_, _, offset)| *offset)
    }

    /// 1 and 2 in the passes of an overlap, else 0.
    fn pass(&self, at: i64) -> u8 {
        for (change, before, after) in &self.changes {
            let overlap = before - after;
            if (change - overlap..*change).contains(&at) {
                return 1;
            }
            if (*change..change + overlap).contains(&at) {
                return 2;
            }
        }
        0
    }

    /// The local seconds that the clock leaves out at this instant.
    fn gap_before(&self, at: i64) -> std::ops::Range<i64> {
        let change =
            self.changes.iter().find(|(change, before, after)| *change == at && after > before);
        change.map_or(0..0, |(change, before, after)| change + before..change + after)
    }
}

/// What fires in `[from, to)`, second by second, by the words of each policy.
fn enumerate(wanted: &Wanted, clock: &Clock, dst: DstPolicy, from: i64, to: i64) -> Vec<i64> {
    let epoch = Date::constant(1970, 1, 1);
    let mut day_known = (i64::MIN, false);
    let mut has = |local: i64| {
        let day = local.div_euclid(DAY);
        if !wanted.has_time(local.rem_euclid(DAY)) {
            return false;
        }
        if day_known.0 != day {
            let date = epoch.checked_add(jiff::Span::new().days(day)).unwrap();
            day_known = (day, wanted.has_day(date));
        }
        day_known.1
    };
    let follows = dst == DstPolicy::Twice || (dst == DstPolicy::Smart && wanted.is_running());
    // Stretches on which the clock stays as far from UTC.
    let mut ends: Vec<i64> = clock.changes.iter().map(|(change, _, _)| *change).collect();
    ends.retain(|change| (from + 1..to).contains(change));
    ends.push(to);
    let mut fires = Vec::new();
    let mut start = from;
    for end in ends {
        let offset = clock.offset(start);
        for at in start..end {
            let shown = has(at + offset);
            let fires_here = match dst {
                _ if follows => shown,
                DstPolicy::Quartz => shown && clock.pass(at) != 1,
                DstPolicy::Skip => shown && clock.pass(at) != 2,
                _ => {
                    (shown && clock.pass(at) != 2)
                        || (at == start && clock.gap_before(at).any(&mut has))
                }
            };
            if fires_here {
                fires.push(at);
            }
        }
        start = end;
    }
    fires
}

fn judge_seconds(
    (wanted, cron): (&Wanted, &CronExpr),
    (zone, clock): (&Zone, &Clock),
    dst: DstPolicy,
    (from, to): (i64, i64),
) {
    let found: Vec<i64> = fires_after(cron, zone, dst, UtcMillis(from * 1000 - 1))
        .map(|at| at.0 / 1000)
        .take_while(|at| *at < to)
        .collect();
    let expected = enumerate(wanted, clock, dst, from, to);
    assert_eq!(found, expected, "{} in {zone} by {dst:?} from {from}", wanted.text);
}

/// On days far from changes: nothing before the first time of a matching day,
/// nothing between its last one and the next day, nothing on other days.
fn judge_days((wanted, cron): (&Wanted, &CronExpr), (zone, clock): (&Zone, &Clock)) {
    let times: Vec<i64> = (0..DAY).filter(|second| wanted.has_time(*second)).collect();
    let (first, last) = (times[0], times[times.len() - 1]);
    let next = |after: i64| {
        next_after(cron, zone, DstPolicy::Smart, UtcMillis(after * 1000)).map(|at| at.0 / 1000)
    };
    let epoch = Date::constant(1970, 1, 1);
    for day in FROM / DAY..TO / DAY {
        let midnight = day * DAY - clock.offset(day * DAY);
        let is_far = clock.changes.iter().all(|(change, _, _)| (change - midnight).abs() > 2 * DAY);
        if !is_far {
            continue;
        }
        let date = epoch.checked_add(jiff::Span::new().days(day)).unwrap();
        let tomorrow = midnight + DAY;
        let found = next(midnight - 1);
        if wanted.has_day(date) {
            assert_eq!(found, Some(midnight + first), "{} in {zone} on {date}", wanted.text);
            let behind = next(midnight + last);
            assert!(behind.is_none_or(|at| at >= tomorrow), "{} in {zone} on {date}", wanted.text);
        } else {
            assert!(found.is_none_or(|at| at >= tomorrow), "{} in {zone} on {date}", wanted.text);
        }
    }
}

#[test]
fn two_years_are_as_they_are_counted_out() {
    let seeds = seeds();
    let clocks: Vec<(Zone, Clock)> = ZONES
        .iter()
        .map(|name| Zone::parse(name).unwrap())
        .map(|zone| (zone.clone(), Clock::of(&zone)))
        .collect();
    assert_eq!(clocks.iter().map(|(_, clock)| clock.changes.len()).sum::<usize>(), 32);
    for seed in 0..seeds.unwrap_or(1) {
        let mut random = Random(seed);
        for number in 0..EXPRESSIONS {
            let wanted = wanted(&mut random);
            let cron = CronExpr::parse(&wanted.text).unwrap();
            assert!(cron.notices().is_empty(), "{}", wanted.text);
            for (place, (zone, clock)) in clocks.iter().enumerate() {
                let distance = (place as u64 + 10 - number % 10) % 10;
                if seeds.is_none() && distance != 0 && distance != 3 {
                    continue;
                }
                let of = (&wanted, &cron);
                judge_days(of, (zone, clock));
                for dst in POLICIES {
                    // Elsewhere the policies are the same walk: one day each.
                    let day = FROM + random.below(730) * DAY;
                    judge_seconds(of, (zone, clock), dst, (day, day + DAY));
                    for (change, _, _) in &clock.changes {
                        let span = (change - AROUND, change + AROUND);
                        judge_seconds(of, (zone, clock), dst, span);
                    }
                }
                for _ in 0..if seeds.is_none() { 2 } else { RANDOM_DAYS } {
                    let day = FROM + random.below(730) * DAY;
                    judge_seconds(of, (zone, clock), DstPolicy::Smart, (day, day + DAY));
                }
            }
        }
    }
}

/// More than a usual run, if asked for.
#[expect(clippy::disallowed_methods, reason = "a test, asked by a script")]
fn seeds() -> Option<u64> {
    std::env::var("HORAI_SWEEP_SEEDS").ok().map(|text| text.parse().unwrap())
}
