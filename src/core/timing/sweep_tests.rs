//! Brute force: two years, a hundred random expressions of both dialects, ten
//! zones, judged by a second evaluation that knows only how far clocks are from UTC.
//!
//! Around each change of the clocks and on twenty random days every second is
//! judged; on all other days the first instant of the day and what follows its
//! last one. More seeds than the first with `HORAI_SWEEP_SEEDS=n`, as
//! `scripts/time-sweep` has it.

use jiff::Timestamp;

use super::cron::{CronExpr, CronRule, Spread};
use super::next_fire::{fires_after, next_after};
use super::zone::Zone;
use crate::model::trigger::DstPolicy;
use crate::time::UtcMillis;

#[path = "sweep_text_tests.rs"]
mod text;

use text::{Random, Wanted, date};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// 2024-01-01 and 2026-01-01.
const FROM: i64 = 1_704_067_200;
const TO: i64 = 1_767_225_600;
/// Each second is judged so long before and after a change; days that begin or end
/// [`NEAR`] it lie wholly within.
const AROUND: i64 = DAY + NEAR;
/// More than any of the zones' changes are long.
const NEAR: i64 = 3 * HOUR;
const EXPRESSIONS: u64 = 100;
const RANDOM_DAYS: usize = 20;
/// Changes of an hour, half an hour, two hours, at midnight, in the south, and none.
/// Two halves, for two cores, and in each how many changes there are.
const ZONES: [([&str; 5], usize); 2] = [
    (
        [
            "Europe/Berlin",
            "Australia/Lord_Howe",
            "Antarctica/Troll",
            "Asia/Kathmandu",
            "America/St_Johns",
        ],
        16,
    ),
    (["America/New_York", "Africa/Cairo", "America/Santiago", "Pacific/Chatham", "UTC"], 16),
];
const POLICIES: [DstPolicy; 4] =
    [DstPolicy::Smart, DstPolicy::Quartz, DstPolicy::Skip, DstPolicy::Twice];

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

    /// When a day begins by this clock, unless the clock changes in it or near it.
    fn midnight(&self, day: i64) -> Option<i64> {
        let midnight = day * DAY - self.offset(day * DAY);
        let span = midnight - NEAR..=midnight + DAY + NEAR;
        let is_steady = self.offset(*span.start()) == self.offset(*span.end());
        let is_far = !self.changes.iter().any(|(change, _, _)| span.contains(change));
        (is_steady && is_far).then_some(midnight)
    }
}

/// What fires in `[from, to)`, by the words of each policy: the clock's days one
/// after the other, and in those that match each second that does.
fn enumerate(wanted: &Wanted, clock: &Clock, dst: DstPolicy, from: i64, to: i64) -> Vec<i64> {
    let follows = dst == DstPolicy::Twice || (dst == DstPolicy::Smart && wanted.is_running);
    // Stretches on which the clock stays as far from UTC.
    let mut ends: Vec<i64> = clock.changes.iter().map(|(change, _, _)| *change).collect();
    ends.retain(|change| (from + 1..to).contains(change));
    ends.push(to);
    let mut fires = Vec::new();
    let mut start = from;
    for end in ends {
        let offset = clock.offset(start);
        let moves = dst == DstPolicy::Smart && !follows;
        if moves && clock.gap_before(start).any(|local| wanted.has_second(local)) {
            fires.push(start);
        }
        for day in (start + offset).div_euclid(DAY)..=(end - 1 + offset).div_euclid(DAY) {
            if !wanted.has_day(day) {
                continue;
            }
            for at in wanted.seconds.iter().map(|second| day * DAY + second - offset) {
                let fires_here = match dst {
                    _ if follows => true,
                    DstPolicy::Quartz => clock.pass(at) != 1,
                    _ => clock.pass(at) != 2,
                };
                // What has moved to the end of a gap may be there already.
                if fires_here && (start..end).contains(&at) && fires.last() != Some(&at) {
                    fires.push(at);
                }
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
    if found != expected {
        let place = found.iter().zip(&expected).take_while(|(a, b)| a == b).count();
        panic!(
            "{} in {zone} by {dst:?} from {from}: {:?} and not {:?}, after {place} that are right",
            wanted.text,
            found.get(place),
            expected.get(place)
        );
    }
}

/// On days far from changes: nothing before the first time of a matching day,
/// nothing between its last one and the next day, nothing on other days. There all
/// policies are alike; they take turns.
fn judge_days((wanted, cron): (&Wanted, &CronExpr), (zone, clock): (&Zone, &Clock)) {
    let (first, last) = (wanted.seconds[0], wanted.seconds[wanted.seconds.len() - 1]);
    let mut near = 0;
    for (day, dst) in (FROM / DAY..TO / DAY).zip(POLICIES.into_iter().cycle()) {
        let Some(midnight) = clock.midnight(day) else {
            near += 1;
            continue;
        };
        let next =
            |after: i64| next_after(cron, zone, dst, UtcMillis(after * 1000)).map(|at| at.0 / 1000);
        let told = || format!("{} in {zone} by {dst:?} on {}", wanted.text, date(day));
        let tomorrow = midnight + DAY;
        let found = next(midnight - 1);
        if wanted.has_day(day) {
            assert_eq!(found, Some(midnight + first), "{}", told());
            let behind = next(midnight + last);
            assert!(behind.is_none_or(|at| at >= tomorrow), "{}", told());
        } else {
            assert!(found.is_none_or(|at| at >= tomorrow), "{}", told());
        }
    }
    assert!(near <= 3 * clock.changes.len(), "{near} days are near changes in {zone}");
}

fn judge(of: (&Wanted, &CronExpr), at: (&Zone, &Clock), random: &mut Random) {
    let (_, clock) = at;
    judge_days(of, at);
    for dst in POLICIES {
        for (change, _, _) in &clock.changes {
            judge_seconds(of, at, dst, (change - AROUND, change + AROUND));
        }
    }
    for dst in POLICIES.into_iter().cycle().take(RANDOM_DAYS) {
        let day = FROM + random.below(730) * DAY;
        // Quartz looks by the time on the wall: between two passes it has begun with the first.
        let dst = if clock.pass(day) == 1 { DstPolicy::Smart } else { dst };
        judge_seconds(of, at, dst, (day, day + DAY));
    }
}

fn sweep((names, changes): ([&str; 5], usize)) {
    let clocks: Vec<(Zone, Clock)> = names
        .iter()
        .map(|name| Zone::parse(name).unwrap())
        .map(|zone| (zone.clone(), Clock::of(&zone)))
        .collect();
    assert_eq!(clocks.iter().map(|(_, clock)| clock.changes.len()).sum::<usize>(), changes);
    for seed in 0..seeds() {
        let (mut random, mut days) = (Random(seed), Random(!seed));
        for _ in 0..EXPRESSIONS {
            let wanted = Wanted::random(&mut random);
            let read = CronRule::parse(&wanted.text, wanted.dialect, Spread::default());
            let Ok(CronRule::Clock(cron)) = read else { panic!("{}: {read:?}", wanted.text) };
            assert!(cron.notices().is_empty(), "{}: {:?}", wanted.text, cron.notices());
            for (zone, clock) in &clocks {
                judge((&wanted, &cron), (zone, clock), &mut days);
            }
        }
    }
}

#[test]
fn two_years_are_as_they_are_counted_out_in_five_zones() {
    sweep(ZONES[0]);
}

#[test]
fn two_years_are_as_they_are_counted_out_in_five_more() {
    sweep(ZONES[1]);
}

/// How many seeds: more than one, if asked for.
#[expect(clippy::disallowed_methods, reason = "a test, asked by a script")]
fn seeds() -> u64 {
    std::env::var("HORAI_SWEEP_SEEDS").map_or(1, |text| text.parse().unwrap())
}
