//! Tables for both sides of a change of the clocks, and a comparison with the
//! plain definition: look at every second.

use std::collections::BTreeSet;

use jiff::tz::AmbiguousOffset;
use jiff::{Timestamp, civil};
use proptest::prelude::*;

use super::cron::CronExpr;
use super::next_fire::{fires_after, next_after};
use super::zone::Zone;
use crate::model::trigger::DstPolicy;
use crate::time::UtcMillis;

fn seconds(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_second()
}

fn millis(text: &str) -> UtcMillis {
    UtcMillis(seconds(text) * 1000)
}

fn parse(cron: &str, zone: &str) -> (CronExpr, Zone) {
    (CronExpr::parse(cron).unwrap(), Zone::parse(zone).unwrap())
}

fn check(cron: &str, zone: &str, after: &str, wanted: &[&str]) {
    check_dst(DstPolicy::Smart, cron, zone, after, wanted);
}

fn check_dst(dst: DstPolicy, cron: &str, zone: &str, after: &str, wanted: &[&str]) {
    let (expr, tz) = parse(cron, zone);
    let found: Vec<String> = fires_after(&expr, &tz, dst, millis(after))
        .take(wanted.len())
        .map(|t| t.to_string())
        .collect();
    assert_eq!(found, wanted, "{cron} in {zone} after {after} by {dst:?}");
}

#[test]
fn fixed_crons_keep_to_their_hour() {
    // Berlin, 2024-03-31: 02:00 becomes 03:00 at 01:00 UTC.
    let spring = ["2024-03-30T01:30:00Z", "2024-03-31T01:00:00Z", "2024-04-01T00:30:00Z"];
    check("0 30 2 * * ?", "Europe/Berlin", "2024-03-30T00:00:00Z", &spring);
    // Several in the gap, and one at its end, are one.
    let one = ["2024-03-31T00:45:00Z", "2024-03-31T01:00:00Z", "2024-03-31T01:15:00Z"];
    check("0 0/15 1-3 * * ?", "Europe/Berlin", "2024-03-31T00:30:00Z", &one);
    // 2024-10-27: 03:00 becomes 02:00 at 01:00 UTC; the first pass counts.
    let autumn = ["2024-10-26T00:30:00Z", "2024-10-27T00:30:00Z", "2024-10-28T01:30:00Z"];
    check("0 30 2 * * ?", "Europe/Berlin", "2024-10-26T00:00:00Z", &autumn);
    check("0 30 2 * * ?", "Europe/Berlin", "2024-10-27T01:10:00Z", &autumn[2..]);
    // A day that did not exist: Apia had no 2011-12-30.
    let apia = ["2011-12-29T13:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T13:00:00Z"];
    check("0 0 3 * * ?", "Pacific/Apia", "2011-12-29T12:00:00Z", &apia);
}

#[test]
fn running_crons_follow_the_clock_on_the_wall() {
    let spring = ["2024-03-31T00:30:00Z", "2024-03-31T01:00:00Z", "2024-03-31T01:30:00Z"];
    check("0 0/30 * * * ?", "Europe/Berlin", "2024-03-31T00:00:00Z", &spring);
    let autumn = ["2024-10-27T00:00:00Z", "2024-10-27T00:30:00Z", "2024-10-27T01:00:00Z"];
    check("0 0/30 * * * ?", "Europe/Berlin", "2024-10-26T23:30:00Z", &autumn);
    // Half an hour back in Lord Howe: 01:45 comes twice.
    let half = ["2024-04-06T14:45:00Z", "2024-04-06T15:15:00Z", "2024-04-06T16:15:00Z"];
    check("0 45 * * * ?", "Australia/Lord_Howe", "2024-04-06T14:00:00Z", &half);
}

/// The table of [`DstPolicy`], row by row.
#[test]
fn each_policy_does_as_its_table_says() {
    use DstPolicy::{Quartz, Skip, Smart, Twice};
    let daily = "0 30 2 * * ?";
    let often = "0 0/30 * * * ?";
    let (spring, autumn) = ("2024-03-30T12:00:00Z", "2024-10-26T12:00:00Z");
    for (dst, fires) in [
        (Smart, ["2024-03-31T01:00:00Z", "2024-04-01T00:30:00Z"]),
        (Quartz, ["2024-04-01T00:30:00Z", "2024-04-02T00:30:00Z"]),
        (Skip, ["2024-04-01T00:30:00Z", "2024-04-02T00:30:00Z"]),
        (Twice, ["2024-04-01T00:30:00Z", "2024-04-02T00:30:00Z"]),
    ] {
        check_dst(dst, daily, "Europe/Berlin", spring, &fires);
        let fires = ["2024-03-31T00:30:00Z", "2024-03-31T01:00:00Z", "2024-03-31T01:30:00Z"];
        check_dst(dst, often, "Europe/Berlin", "2024-03-31T00:00:00Z", &fires);
    }
    for (dst, fires) in [
        (Smart, ["2024-10-27T00:30:00Z", "2024-10-28T01:30:00Z"]),
        (Quartz, ["2024-10-27T01:30:00Z", "2024-10-28T01:30:00Z"]),
        (Skip, ["2024-10-27T00:30:00Z", "2024-10-28T01:30:00Z"]),
        (Twice, ["2024-10-27T00:30:00Z", "2024-10-27T01:30:00Z"]),
    ] {
        check_dst(dst, daily, "Europe/Berlin", autumn, &fires);
    }
    let passes = |first: bool, second: bool| {
        let mut fires = vec!["2024-10-26T23:30:00Z"];
        fires.extend(
            first.then_some(["2024-10-27T00:00:00Z", "2024-10-27T00:30:00Z"]).into_iter().flatten(),
        );
        fires.extend(
            second
                .then_some(["2024-10-27T01:00:00Z", "2024-10-27T01:30:00Z"])
                .into_iter()
                .flatten(),
        );
        fires.extend(["2024-10-27T02:00:00Z", "2024-10-27T02:30:00Z"]);
        fires
    };
    for (dst, first, second) in
        [(Smart, true, true), (Quartz, false, true), (Skip, true, false), (Twice, true, true)]
    {
        check_dst(dst, often, "Europe/Berlin", "2024-10-26T23:00:00Z", &passes(first, second));
    }
    // Quartz looks by the time on the wall: from 02:45 of the first pass on,
    // 02:30 of the second is past.
    let fires = ["2024-10-28T01:30:00Z"];
    check_dst(Quartz, daily, "Europe/Berlin", "2024-10-27T00:45:00Z", &fires);
}

#[test]
fn rare_and_exhausted_expressions_end_quickly() {
    check("0 0 0 29 2 ? 2096", "UTC", "1970-01-01T00:00:00Z", &["2096-02-29T00:00:00Z"]);
    let berlin = ["2096-02-28T23:59:00Z"];
    check("0 59 * 29 2 ? 2096", "Europe/Berlin", "1999-01-01T00:00:00Z", &berlin);
    check("59 59 23 31 12 ?", "UTC", "2125-12-31T00:00:00Z", &["2125-12-31T23:59:59Z"]);
    for (cron, after) in [
        ("0 0 0 30 2 ?", "2024-01-01T00:00:00Z"),
        ("0 0 * 31 2,4,6,9,11 ?", "2024-01-01T00:00:00Z"),
        ("0 0 * * * ? 2023", "2024-01-02T00:00:00Z"),
        ("0 0 0 * * ? 2023", "2024-01-02T00:00:00Z"),
        ("* * * * * ?", "2126-01-02T00:00:00Z"),
        ("L 30 * * * ?", "2024-01-01T00:00:00Z"),
    ] {
        for zone in ["UTC", "America/New_York", "Asia/Kathmandu"] {
            let (cron, zone) = parse(cron, zone);
            assert_eq!(
                next_after(&cron, &zone, DstPolicy::Smart, millis(after)),
                None,
                "{cron} in {zone}"
            );
        }
    }
    let (cron, zone) = parse("* * * * * ?", "Europe/Berlin");
    assert_eq!(next_after(&cron, &zone, DstPolicy::Smart, UtcMillis::MAX), None);
    assert_eq!(
        next_after(&cron, &Zone::UTC, DstPolicy::Smart, UtcMillis(i64::MIN)),
        Some(UtcMillis(0))
    );
    assert!(next_after(&cron, &zone, DstPolicy::Smart, UtcMillis(i64::MIN)).is_some());
}

#[test]
fn milliseconds_are_rounded_up() {
    let (cron, zone) = parse("* * * * * ?", "UTC");
    for (after, next) in [(0, 1000), (1, 1000), (999, 1000), (1000, 2000), (-1, 0)] {
        assert_eq!(
            next_after(&cron, &zone, DstPolicy::Smart, UtcMillis(after)),
            Some(UtcMillis(next)),
            "{after}"
        );
    }
}

/// The definition, second by second: what fires in `[from, to)`.
fn enumerate(cron: &CronExpr, zone: &Zone, from: i64, to: i64) -> BTreeSet<i64> {
    let mut fires = BTreeSet::new();
    let rules = zone.rules();
    if cron.is_running() {
        for second in from..to {
            if matches(cron, rules.to_datetime(Timestamp::from_second(second).unwrap())) {
                fires.insert(second);
            }
        }
        return fires;
    }
    // All local times that the clock shows or leaves out in the window.
    let offsets = [from, to].map(|at| rules.to_offset(Timestamp::from_second(at).unwrap()));
    let [least, most] =
        [offsets.iter().min(), offsets.iter().max()].map(|o| i64::from(o.unwrap().seconds()));
    for wall in from + least..to + most {
        let local =
            Timestamp::from_second(wall).unwrap().to_zoned(jiff::tz::TimeZone::UTC).datetime();
        if !matches(cron, local) {
            continue;
        }
        let ambiguous = rules.to_ambiguous_timestamp(local);
        let instant = match ambiguous.offset() {
            AmbiguousOffset::Gap { after, .. } => {
                // Walk to the first second that the clock shows after the gap.
                let start = after.to_timestamp(local).unwrap().as_second();
                let old = rules.to_offset(Timestamp::from_second(start).unwrap());
                (start..).find(|s| rules.to_offset(Timestamp::from_second(*s).unwrap()) != old)
            }
            AmbiguousOffset::Fold { before, .. } => {
                Some(before.to_timestamp(local).unwrap().as_second())
            }
            AmbiguousOffset::Unambiguous { offset } => {
                Some(offset.to_timestamp(local).unwrap().as_second())
            }
        };
        let instant = instant.unwrap();
        if (from..to).contains(&instant) {
            fires.insert(instant);
        }
    }
    fires
}

fn matches(cron: &CronExpr, local: civil::DateTime) -> bool {
    let has = |bits: u64, n: i8| bits & (1 << n) != 0;
    let first = local.date().first_of_month().weekday().to_sunday_zero_offset();
    let days = cron.days(first as u32, local.date().days_in_month() as u32);
    has(cron.seconds(), local.second())
        && has(cron.minutes(), local.minute())
        && has(cron.hours(), local.hour())
        && has(days, local.day())
        && has(cron.months(), local.month())
        && cron.year_from(local.year()) == Some(local.year())
}

/// A change of the clocks, and its zone: an hour, half an hour, two hours, a
/// day, at midnight, and none.
const CHANGES: [(&str, &str); 12] = [
    ("Europe/Berlin", "2024-03-31T01:00:00Z"),
    ("Europe/Berlin", "2024-10-27T01:00:00Z"),
    ("America/New_York", "2024-03-10T07:00:00Z"),
    ("America/New_York", "2024-11-03T06:00:00Z"),
    ("Australia/Lord_Howe", "2024-04-06T15:00:00Z"),
    ("Australia/Lord_Howe", "2024-10-05T15:30:00Z"),
    ("Africa/Cairo", "2024-04-25T22:00:00Z"),
    ("Africa/Cairo", "2024-10-31T21:00:00Z"),
    ("Antarctica/Troll", "2024-03-31T01:00:00Z"),
    ("Antarctica/Troll", "2024-10-27T01:00:00Z"),
    ("Pacific/Apia", "2011-12-30T10:00:00Z"),
    ("Asia/Kolkata", "2024-03-31T01:00:00Z"),
];

fn any_cron() -> impl Strategy<Value = String> {
    let small = prop_oneof![
        Just("0".to_owned()),
        (0..60u8).prop_map(|s| s.to_string()),
        (0..60u8, 7..50u8).prop_map(|(s, step)| format!("{s}/{step}")),
    ];
    let minutes = prop_oneof![Just("*".to_owned()), small.clone(), Just("15-45/5".to_owned())];
    let hours = prop_oneof![
        Just("*".to_owned()),
        (0..24u8).prop_map(|h| h.to_string()),
        (0..12u8, 0..12u8).prop_map(|(h, n)| format!("{h}-{}", h + n)),
        Just("0-4".to_owned()),
        Just("0/2".to_owned()),
    ];
    let days = prop_oneof![
        Just("* * ?".to_owned()),
        Just("? * SUN,MON,FRI,SAT".to_owned()),
        Just("27-31 * ?".to_owned()),
        Just("*/2 3,10-12 ?".to_owned()),
    ];
    (small, minutes, hours, days).prop_map(|(s, m, h, d)| format!("{s} {m} {h} {d}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..Default::default() })]

    #[test]
    fn stepping_equals_enumerating(
        text in any_cron(), change in 0..CHANGES.len(), shift in -9000..9000i64,
    ) {
        let (zone, at) = CHANGES[change];
        let (cron, zone) = parse(&text, zone);
        let from = seconds(at) + shift - 7200;
        let to = from + 14_400;
        let stepped: BTreeSet<i64> = fires_after(&cron, &zone, DstPolicy::Smart, UtcMillis(from * 1000 - 1))
            .map(|t| t.0 / 1000)
            .take_while(|t| *t < to)
            .collect();
        prop_assert_eq!(stepped, enumerate(&cron, &zone, from, to), "{} in {}", text, zone);
    }

    #[test]
    fn policies_agree_far_from_changes(
        text in any_cron(), change in 0..CHANGES.len(), early in 0..3_000_000i64,
    ) {
        let (cron, zone) = parse(&text, CHANGES[change].0);
        // From the middle of May to July: no zone of the list changes its clock.
        let from = seconds("2024-05-10T00:00:00Z") + early;
        let to = seconds("2024-07-20T00:00:00Z");
        let of = |dst| -> Vec<UtcMillis> {
            fires_after(&cron, &zone, dst, UtcMillis(from * 1000))
                .take_while(|at| at.0 < to * 1000)
                .take(500)
                .collect()
        };
        let wanted = of(DstPolicy::Smart);
        for dst in [DstPolicy::Quartz, DstPolicy::Skip, DstPolicy::Twice] {
            prop_assert_eq!(of(dst), wanted.clone(), "{} in {} by {:?}", text, zone, dst);
        }
    }

    #[test]
    fn next_is_strictly_after_and_monotone(
        text in any_cron(), change in 0..CHANGES.len(),
        early in 0..4_000_000_000_000i64, gap in 0..200_000_000i64,
    ) {
        let (cron, zone) = parse(&text, CHANGES[change].0);
        let (early, late) = (UtcMillis(early), UtcMillis(early + gap));
        let first = next_after(&cron, &zone, DstPolicy::Smart, early).unwrap();
        let second = next_after(&cron, &zone, DstPolicy::Smart, late).unwrap();
        prop_assert!(first > early && second > late);
        prop_assert!(first <= second);
        // Nothing lies between: the next is the same from anywhere before it.
        prop_assert!(first <= late || first == second);
        prop_assert_eq!(next_after(&cron, &zone, DstPolicy::Smart, UtcMillis(first.0 - 1)), Some(first));
    }
}
