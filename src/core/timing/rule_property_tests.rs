//! Rules, calendars and bounds against their definitions: what fires is what is
//! counted out, from whatever moment it is looked for, and never that moment.

use std::collections::BTreeSet;

use jiff::Timestamp;
use proptest::prelude::*;

use super::super::*;
use crate::model::calendar::{CalendarDate, CalendarRule};
use crate::model::trigger::{CalendarUnit, Dialect, TimeOfDay, Weekdays};

#[path = "rule_count_tests.rs"]
mod count;

use count::{CRONS, Case, Clock, allows, civil};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// A change of the clocks, and its zone: an hour, half an hour, two hours, a day, at
/// midnight, and none.
const CHANGES: [(&str, &str); 12] = [
    ("Europe/Berlin", "2024-03-31T01:00:00Z"),
    ("Europe/Berlin", "2024-10-27T01:00:00Z"),
    ("America/New_York", "2025-03-09T07:00:00Z"),
    ("America/New_York", "2025-11-02T06:00:00Z"),
    ("Australia/Lord_Howe", "2024-04-06T15:00:00Z"),
    ("Australia/Lord_Howe", "2024-10-05T15:30:00Z"),
    ("Africa/Cairo", "2024-04-25T22:00:00Z"),
    ("Africa/Cairo", "2024-10-31T21:00:00Z"),
    ("Antarctica/Troll", "2024-03-31T01:00:00Z"),
    ("Antarctica/Troll", "2024-10-27T01:00:00Z"),
    ("Pacific/Apia", "2011-12-30T10:00:00Z"),
    ("Asia/Kolkata", "2024-03-31T01:00:00Z"),
];

/// Quarters of an hour, and some seconds; the hours in which clocks change come often.
fn any_time() -> impl Strategy<Value = TimeOfDay> {
    let hour = prop_oneof![0..4_u32, 0..24_u32];
    let second = prop_oneof![3 => Just(0_u32), 1 => 0..60_u32];
    (hour, 0..4_u32, second)
        .prop_map(|(hour, quarter, second)| TimeOfDay::new(hour, quarter * 15, second).unwrap())
}

fn any_weekdays() -> impl Strategy<Value = Weekdays> {
    prop_oneof![Just(Weekdays::ALL), (1..0x80_u8).prop_map(Weekdays)]
}

fn any_rule(change: i64) -> impl Strategy<Value = TriggerRule> {
    let interval = (97..200_000_u64, prop::option::of(0..60_u64))
        .prop_map(|(every, repeats)| TriggerRule::Interval { every: Span::secs(every), repeats });
    let units = prop::sample::select(CalendarUnit::ALL.map(|(_, unit)| unit).to_vec());
    let calendar = (1..40_u32, units).prop_map(|(every, unit)| {
        let every = match unit {
            CalendarUnit::Second => every * 311,
            CalendarUnit::Minute => every * 7,
            CalendarUnit::Year => 1 + every % 4,
            _ => every,
        };
        TriggerRule::CalendarInterval { every, unit }
    });
    let every = prop_oneof![Just(900_u64), Just(3_600), 97..86_400_u64];
    let window =
        (every, any_time(), any_time(), any_weekdays()).prop_map(|(every, from, to, weekdays)| {
            TriggerRule::DailyWindow { every: Span::secs(every), from, to, weekdays }
        });
    let once = (-2 * DAY..2 * DAY)
        .prop_map(move |by| TriggerRule::Once { at: UtcMillis((change + by) * 1000) });
    prop_oneof![3 => interval, 6 => calendar, 6 => window, 1 => once]
}

fn any_calendar(change: i64) -> impl Strategy<Value = CalendarDef> {
    let near = civil(change).0;
    let days = prop::collection::btree_set(-8..8_i64, 1..5);
    let days = days.prop_map(move |days| -> Vec<CalendarDate> {
        let day = |by| CalendarDate::from(near.checked_add(jiff::Span::new().days(by)).unwrap());
        days.into_iter().map(day).collect()
    });
    let ranges = prop::collection::vec((any_time(), any_time()), 1..3)
        .prop_filter_map("a range has two ends", |ranges| {
            ranges.iter().all(|(from, to)| from != to).then_some(CalendarRule::Daily(ranges))
        });
    let rule = prop_oneof![
        1 => days.clone().prop_map(|days| CalendarRule::Dates(days.into_iter().collect())),
        1 => any_weekdays().prop_map(CalendarRule::Weekly),
        1 => days.clone().prop_map(|days| CalendarRule::Monthly(days.iter().map(|d| d.day).collect())),
        1 => days.prop_map(|days| {
            CalendarRule::Annual(days.iter().map(|date| (date.month, date.day)).collect())
        }),
        2 => ranges,
        2 => prop::sample::select(CRONS.to_vec()).prop_map(|(text, _)| CalendarRule::Cron {
            expression: text.to_owned(),
            dialect: Dialect::Quartz,
        }),
    ];
    let zones = vec![None, None, Some("UTC"), Some("Asia/Kathmandu"), Some("Europe/Berlin")];
    (rule, prop::sample::select(zones), any::<bool>()).prop_map(|(rule, zone, include_only)| {
        CalendarDef {
            name: Name::new("c").unwrap(),
            description: String::new(),
            zone: zone.map(str::to_owned),
            rule,
            include_only,
            base: None,
        }
    })
}

fn any_case() -> impl Strategy<Value = Case> {
    prop::sample::select(CHANGES.to_vec()).prop_flat_map(|(zone, at)| {
        let change = at.parse::<Timestamp>().unwrap().as_second();
        let dst = prop::sample::select(DstPolicy::ALL.map(|(_, dst)| dst).to_vec());
        // Times of day at which clocks change come often.
        let start =
            (-900..3_i64, -2 * HOUR..2 * HOUR).prop_map(move |(day, by)| change + day * DAY + by);
        let end = prop::option::weighted(0.2, (-DAY..3 * DAY).prop_map(move |by| change + by));
        let calendars = prop_oneof![
            2 => Just(Vec::new()),
            1 => prop::collection::vec(any_calendar(change), 1..3),
        ];
        let probes = prop::collection::vec(0..5 * DAY * 1000, 1..40);
        let span = (0..3 * DAY, DAY..4 * DAY);
        (
            any_rule(change),
            dst,
            prop::option::of(start.clone()),
            start,
            end,
            calendars,
            span,
            probes,
        )
            .prop_map(
                move |(rule, dst, start, anchor, end, mut calendars, span, probes)| {
                    for (number, def) in calendars.iter_mut().enumerate() {
                        def.name = Name::new(&format!("c{number}")).unwrap();
                    }
                    let millis = |at: i64| UtcMillis(at * 1000);
                    // An end before the start is refused.
                    let end = end.filter(|end| start.is_none_or(|start| start < *end)).map(millis);
                    let mut names: Vec<Name> =
                        calendars.iter().map(|def| def.name.clone()).collect();
                    // Half of the pairs are a calendar and its base.
                    if let ([first, second], true) = (&mut calendars[..], anchor % 2 == 0) {
                        second.base = Some(first.name.clone());
                        names.remove(0);
                    }
                    let start = start.map(millis);
                    let spec =
                        RuleSpec { start, end, dst, calendars: names, ..RuleSpec::new(rule) };
                    let is_slow = matches!(
                        spec.rule,
                        TriggerRule::CalendarInterval {
                            unit: CalendarUnit::Week | CalendarUnit::Month | CalendarUnit::Year,
                            ..
                        }
                    );
                    let (before, length) = if is_slow { (90 * span.0, 150 * span.1) } else { span };
                    let (from, to) = (change - before, change - before + length);
                    let scale = if is_slow { 150 } else { 1 };
                    let probes = probes.into_iter().map(|probe| probe * scale).collect();
                    Case { zone, spec, anchor, calendars, from, to, probes }
                },
            )
    })
}

/// A calendar, and an instant near a change of the clocks of the trigger's zone.
fn any_question() -> impl Strategy<Value = (&'static str, i64, CalendarDef)> {
    prop::sample::select(CHANGES.to_vec()).prop_flat_map(|(zone, at)| {
        let change = at.parse::<Timestamp>().unwrap().as_second();
        let near = (-2 * DAY..2 * DAY).prop_map(move |by| change + by);
        (Just(zone), near, any_calendar(change))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn rules_fire_as_they_are_counted_out_from_any_moment(case in any_case()) {
        let schedule = case.schedule();
        let expected = case.enumerate();
        // Not beyond: calendars that leave nothing between them are asked for long.
        let next_after = |after: i64| {
            let until = UtcMillis(case.to * 1000 - 1);
            match schedule.look_after(UtcMillis(after), until, |_| true) {
                Next::At(next) => Some(next.0),
                Next::NoneUpTo(_) | Next::Never => None,
            }
        };
        let first = next_after(case.from * 1000 - 1);
        let stepped = std::iter::successors(first, |last| next_after(*last));
        let stepped: BTreeSet<i64> = stepped.map(|at| at / 1000).collect();
        prop_assert_eq!(&stepped, &expected);
        // From each fire, from moments beside it, and from any other.
        let fires = expected.iter().take(40).flat_map(|at| [-1, 0, 1].map(|by| at * 1000 + by));
        let others = case.probes.iter().map(|probe| case.from * 1000 + probe);
        for moment in fires.chain(others).filter(|at| (case.from * 1000..case.to * 1000).contains(at)) {
            let next = next_after(moment);
            prop_assert!(next.is_none_or(|next| next > moment), "{next:?} after {moment}");
            let wanted = expected.range(moment.div_euclid(1000) + 1..).next();
            prop_assert_eq!(next.map(|next| next / 1000), wanted.copied(), "after {}", moment);
            if case.calendars.is_empty() {
                let whole = schedule.next_after(UtcMillis(moment)).map(|next| next.0);
                prop_assert_eq!(whole.filter(|next| *next < case.to * 1000), next);
            }
        }
    }

    #[test]
    fn a_search_in_pieces_of_any_length_finds_the_same(
        case in any_case(), piece in 1..20_000_u64, passes in 0..9_u32,
    ) {
        let schedule = case.schedule();
        let (mut at, to) = (UtcMillis(case.from * 1000 - 1), UtcMillis(case.to * 1000 - 1));
        let mut found = BTreeSet::new();
        // No more than some hundred of them.
        let piece = Span::secs(piece.max(to.since(at).0 / 200_000));
        while at < to {
            let until = at.plus(piece).min(to);
            match schedule.look_after(at, until, at_most(passes)) {
                Next::At(next) => {
                    prop_assert!(next > at && next <= until);
                    found.insert(next.0 / 1000);
                    at = next;
                }
                Next::NoneUpTo(none) => {
                    prop_assert!(none > at && none <= until, "{none} after {at} up to {until}");
                    at = none;
                }
                Next::Never => break,
            }
        }
        prop_assert_eq!(found, case.enumerate());
    }

    #[test]
    fn a_calendar_excludes_all_up_to_what_it_says((zone, at, def) in any_question()) {
        let read = Calendar::read(&def.name, &Zone::parse(zone).unwrap(), &|_| Some(&def)).unwrap();
        let clock = Clock::of(def.zone.as_deref().unwrap_or(zone));
        let is_allowed = |second: i64| allows(&def, &clock, second);
        match read.ask(UtcMillis(at * 1000)) {
            Verdict::Allowed => prop_assert!(is_allowed(at)),
            Verdict::ExcludedUntil(until) => {
                let until = until.0.div_euclid(1000);
                prop_assert!(!is_allowed(at) && until > at);
                // Each second of a day, of more some; and the last ones.
                let step = usize::try_from((until - at) / DAY).unwrap() + 1;
                let ends = (until - 9).max(at)..until;
                let wrong = (at..until).step_by(step).chain(ends).find(|second| is_allowed(*second));
                prop_assert_eq!(wrong, None, "in {} up to {}", zone, until);
            }
            Verdict::ExcludedForEver => {
                let wrong = (at..at + 400 * DAY).step_by(577).find(|second| is_allowed(*second));
                prop_assert_eq!(wrong, None, "in {}", zone);
            }
        }
    }

    #[test]
    fn a_delay_is_put_off_to_the_first_allowed_second(
        case in any_case(), delay in 1..100_000_u64,
    ) {
        let mut case = case;
        case.spec.rule = TriggerRule::FixedDelay { delay: Span::secs(delay) };
        let schedule = case.schedule();
        let is_allowed = case.is_allowed();
        for probe in case.probes.iter().take(2) {
            let ended = UtcMillis(case.from * 1000 + probe % (5 * DAY * 1000));
            let next = schedule.next_after(ended).map(|at| at.0 / 1000);
            let due = match case.spec.start {
                Some(start) if start > ended => start.0 / 1000,
                _ => ended.plus(Span::secs(delay)).plus(Span(999)).0.div_euclid(1000),
            };
            prop_assert!(next.is_none_or(|next| next * 1000 > ended.0));
            let horizon = due + 2 * DAY;
            let end = case.spec.end.map_or(i64::MAX, |end| end.0 / 1000);
            let wanted = (due..horizon.min(end)).find(|second| is_allowed(*second));
            let found = next.filter(|at| *at < horizon);
            prop_assert_eq!(found, wanted, "ended {}", ended);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn words_of_definitions_print_as_they_are_read(
        span in prop_oneof![any::<u64>(), 0..10_000_000_u64, (0..100_000_u64).prop_map(|s| s * 1000)],
        second in 0..86_400_u32, weekdays in 1..0x80_u8, day in 0..120_000_i64,
    ) {
        let span = Span(span);
        prop_assert_eq!(span.to_string().parse::<Span>(), Ok(span));
        let time = TimeOfDay::new(second / 3600, second / 60 % 60, second % 60).unwrap();
        prop_assert_eq!(time.to_string().parse::<TimeOfDay>(), Ok(time));
        prop_assert_eq!(i64::from(time.seconds()), i64::from(second));
        let weekdays = Weekdays(weekdays);
        prop_assert_eq!(weekdays.to_string().parse::<Weekdays>(), Ok(weekdays));
        let day = CalendarDate::from(civil(day * DAY).0);
        prop_assert_eq!(day.to_string().parse::<CalendarDate>(), Ok(day));
    }

    #[test]
    fn rules_and_calendars_are_stored_as_they_are(
        case in any_case(), delay in any::<Option<u64>>(),
    ) {
        let mut spec = case.spec;
        if let Some(delay) = delay {
            spec.rule = TriggerRule::FixedDelay { delay: Span(delay) };
        }
        let bytes = postcard::to_stdvec(&spec).unwrap();
        prop_assert_eq!(postcard::from_bytes::<RuleSpec>(&bytes), Ok(spec));
        for def in case.calendars {
            let bytes = postcard::to_stdvec(&def).unwrap();
            prop_assert_eq!(postcard::from_bytes::<CalendarDef>(&bytes), Ok(def));
        }
    }
}
