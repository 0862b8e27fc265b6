//! What each kind of calendar excludes, for how long, and which are refused.

use super::*;
use crate::model::trigger::Dialect;

fn millis(text: &str) -> UtcMillis {
    UtcMillis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn def(rule: CalendarRule) -> CalendarDef {
    CalendarDef {
        name: name("c"),
        description: String::new(),
        zone: None,
        rule,
        include_only: false,
        base: None,
    }
}

fn time(text: &str) -> TimeOfDay {
    text.parse().unwrap()
}

fn cron(text: &str) -> CalendarRule {
    CalendarRule::Cron { expression: text.to_owned(), dialect: Dialect::Quartz }
}

fn read(def: &CalendarDef) -> Result<Calendar, CalendarError> {
    let zone = Zone::parse("Europe/Berlin").unwrap();
    Calendar::read(&def.name, &zone, &|_| Some(def))
}

/// `at` and the answer in Berlin's time; `-` is allowed, `never` for ever.
fn check(def: &CalendarDef, cases: &[(&str, &str)]) {
    let calendar = read(def).unwrap();
    let zone = Zone::parse("Europe/Berlin").unwrap();
    for (at, wanted) in cases {
        let found = match calendar.ask(millis(at)) {
            Verdict::Allowed => "-".to_owned(),
            Verdict::ExcludedForEver => "never".to_owned(),
            Verdict::ExcludedUntil(until) => zone.rfc3339(until),
        };
        assert_eq!(&found, wanted, "{at} {def:?}");
    }
}

#[test]
fn days_are_excluded_from_midnight_to_midnight() {
    let dates = ["2024-12-24", "2024-12-25", "2024-12-27"].map(|d| d.parse().unwrap());
    let holidays = def(CalendarRule::Dates(dates.into()));
    check(
        &holidays,
        &[
            ("2024-12-23T23:59:59+01:00", "-"),
            ("2024-12-24T00:00:00+01:00", "2024-12-26T00:00:00+01:00"),
            ("2024-12-26T12:00:00+01:00", "-"),
            ("2024-12-27T12:00:00+01:00", "2024-12-28T00:00:00+01:00"),
        ],
    );
    let only = CalendarDef { include_only: true, ..holidays };
    check(
        &only,
        &[
            ("2024-06-01T12:00:00+02:00", "2024-12-24T00:00:00+01:00"),
            ("2024-12-25T12:00:00+01:00", "-"),
            ("2024-12-28T12:00:00+01:00", "never"),
        ],
    );
    check(
        &def(CalendarRule::Weekly(Weekdays::WEEKEND)),
        &[
            ("2024-06-01T12:00:00+02:00", "2024-06-03T00:00:00+02:00"),
            ("2024-06-03T00:00:00+02:00", "-"),
        ],
    );
    check(&def(CalendarRule::Weekly(Weekdays::ALL)), &[("2024-06-01T12:00:00+02:00", "never")]);
    check(
        &def(CalendarRule::Monthly([30, 31, 1].into())),
        &[("2024-05-30T12:00:00+02:00", "2024-06-02T00:00:00+02:00")],
    );
    let leap = def(CalendarRule::Annual([(2, 29)].into()));
    check(&leap, &[("2024-02-29T12:00:00+01:00", "2024-03-01T00:00:00+01:00")]);
    let leap = CalendarDef { include_only: true, ..leap };
    check(&leap, &[("2097-01-01T12:00:00+01:00", "2104-02-29T00:00:00+01:00")]);
}

#[test]
fn times_of_day_are_excluded_by_the_clock() {
    let lunch_and_night = def(CalendarRule::Daily(vec![
        (time("12:00"), time("13:00")),
        (time("22:00"), time("06:00")),
        (time("06:00"), time("06:30")),
    ]));
    check(
        &lunch_and_night,
        &[
            ("2024-06-01T11:59:59+02:00", "-"),
            ("2024-06-01T12:00:00+02:00", "2024-06-01T13:00:00+02:00"),
            ("2024-06-01T13:00:00+02:00", "-"),
            ("2024-06-01T23:00:00+02:00", "2024-06-02T06:30:00+02:00"),
            ("2024-06-01T05:00:00+02:00", "2024-06-01T06:30:00+02:00"),
        ],
    );
    let only = CalendarDef { include_only: true, ..lunch_and_night };
    check(&only, &[("2024-06-01T13:00:00+02:00", "2024-06-01T22:00:00+02:00")]);
    let all = def(CalendarRule::Daily(vec![
        (time("00:00"), time("12:00")),
        (time("12:00"), time("00:00")),
    ]));
    check(&all, &[("2024-06-01T13:00:00+02:00", "never")]);
    // The end lies in the gap, and in the overlap it is passed twice.
    let small = def(CalendarRule::Daily(vec![(time("01:00"), time("02:30"))]));
    check(
        &small,
        &[
            ("2024-03-31T01:30:00+01:00", "2024-03-31T03:00:00+02:00"),
            ("2024-10-27T02:10:00+02:00", "2024-10-27T02:30:00+02:00"),
            ("2024-10-27T02:40:00+02:00", "-"),
            ("2024-10-27T02:10:00+01:00", "2024-10-27T02:30:00+01:00"),
        ],
    );
    // Clocks go back into a range, or out of it.
    let only = CalendarDef { include_only: true, ..small };
    check(&only, &[("2024-10-27T02:40:00+02:00", "2024-10-27T02:00:00+01:00")]);
    let late = def(CalendarRule::Daily(vec![(time("02:30"), time("05:00"))]));
    check(&late, &[("2024-10-27T02:45:00+02:00", "2024-10-27T02:00:00+01:00")]);
    let night = def(CalendarRule::Daily(vec![(time("23:00"), time("02:15"))]));
    let night = CalendarDef { include_only: true, ..night };
    check(&night, &[("2024-10-27T02:40:00+02:00", "2024-10-27T02:00:00+01:00")]);
}

#[test]
fn seconds_of_an_expression_are_excluded() {
    let night = def(cron("* * 0-7,18-23 ? * *"));
    check(
        &night,
        &[
            ("2024-06-03T17:59:59+02:00", "-"),
            ("2024-06-03T18:00:00+02:00", "2024-06-04T08:00:00+02:00"),
        ],
    );
    let night = CalendarDef { include_only: true, ..night };
    check(&night, &[("2024-06-03T12:00:00+02:00", "2024-06-03T18:00:00+02:00")]);
    check(
        &def(cron("* * * ? * SAT,SUN")),
        &[("2024-06-01T12:00:00+02:00", "2024-06-03T00:00:00+02:00")],
    );
    check(
        &def(cron("0-10 0/5 * * * ?")),
        &[("2024-06-01T12:05:03+02:00", "2024-06-01T12:05:11+02:00")],
    );
    check(
        &def(cron("* 0-29 * * * ?")),
        &[("2024-06-01T12:05:03+02:00", "2024-06-01T12:30:00+02:00")],
    );
    check(
        &def(cron("* * * 29 2 ? 2024")),
        &[("2024-02-29T12:00:00+01:00", "2024-03-01T00:00:00+01:00")],
    );
    check(&def(cron("* * * * * ?")), &[("2024-02-29T12:00:00+01:00", "never")]);
    let past = CalendarDef { include_only: true, ..def(cron("* * * * * ? 2023")) };
    check(&past, &[("2024-02-29T12:00:00+01:00", "never")]);
}

#[test]
fn hours_of_an_expression_end_where_the_zone_has_them_end() {
    let two = CalendarDef { zone: Some("Asia/Kolkata".to_owned()), ..def(cron("* * 2 * * ?")) };
    check(
        &two,
        &[
            ("2024-02-29T01:59:59+05:30", "-"),
            ("2024-02-29T02:00:00+05:30", "2024-02-28T22:30:00+01:00"),
            ("2024-02-29T02:45:00+05:30", "2024-02-28T22:30:00+01:00"),
            ("2024-02-29T03:00:00+05:30", "-"),
        ],
    );
    let nights =
        CalendarDef { zone: Some("Asia/Kathmandu".to_owned()), ..def(cron("* * 22-5 * * ?")) };
    check(&nights, &[("2024-02-29T22:10:00+05:45", "2024-03-01T01:15:00+01:00")]);
}

#[test]
fn an_expression_that_matches_for_years_excludes_no_longer() {
    let years = def(cron("* * * * * ? 2027-2028"));
    check(
        &years,
        &[
            ("2026-12-31T23:59:59+01:00", "-"),
            ("2027-01-01T00:00:00+01:00", "2029-01-01T00:00:00+01:00"),
            ("2028-12-31T12:00:00+01:00", "2029-01-01T00:00:00+01:00"),
        ],
    );
    // Many years are looked at in pieces.
    let long = read(&def(cron("* * * * * ? 2027-2050"))).unwrap();
    let (mut at, mut asked) = (millis("2027-06-01T00:00:00Z"), 0);
    while let Verdict::ExcludedUntil(until) = long.ask(at) {
        assert!(until > at);
        (at, asked) = (until, asked + 1);
    }
    assert_eq!(at, millis("2051-01-01T00:00:00+01:00"));
    assert!(asked < 5);
}

#[test]
fn bases_must_allow_too() {
    let mut night = def(cron("* * 0-7 ? * *"));
    night.base = Some(name("weekend"));
    let mut weekend = def(CalendarRule::Weekly(Weekdays::WEEKEND));
    weekend.name = name("weekend");
    weekend.zone = Some("UTC".to_owned());
    let lookup = |wanted: &Name| match wanted.as_str() {
        "c" => Some(&night),
        "weekend" => Some(&weekend),
        _ => None,
    };
    let zone = Zone::parse("Europe/Berlin").unwrap();
    let calendar = Calendar::read(&name("c"), &zone, &lookup).unwrap();
    assert_eq!(
        calendar.ask(millis("2024-06-01T12:00:00+02:00")),
        Verdict::ExcludedUntil(millis("2024-06-03T00:00:00Z"))
    );
    assert_eq!(
        calendar.ask(millis("2024-06-03T01:00:00Z")),
        Verdict::ExcludedUntil(millis("2024-06-03T06:00:00Z"))
    );
    assert_eq!(calendar.ask(millis("2024-06-03T06:00:00Z")), Verdict::Allowed);
    let missing = Calendar::read(&name("holidays"), &zone, &lookup).unwrap_err().to_string();
    assert!(missing.contains("holidays does not exist"), "{missing}");
}

#[test]
fn errors_say_what_would_be_right() {
    let mut circle = def(CalendarRule::Weekly(Weekdays::WEEKEND));
    circle.base = Some(name("c"));
    let mut zone = def(CalendarRule::Weekly(Weekdays::WEEKEND));
    zone.zone = Some("Nowhere".to_owned());
    let unix = CalendarRule::Cron { expression: "@every 5m".to_owned(), dialect: Dialect::Unix };
    for (def, part) in [
        (circle, "is based on itself"),
        (zone, "the zone of calendar c"),
        (def(CalendarRule::Weekly(Weekdays(0))), "has nothing in it"),
        (def(CalendarRule::Dates(BTreeSet::new())), "has nothing in it"),
        (def(CalendarRule::Monthly([32].into())), "write 1 to 31"),
        (def(CalendarRule::Annual([(2, 30)].into())), "no year has"),
        (def(CalendarRule::Daily(vec![(time("12:00"), time("12:00"))])), "ends where it begins"),
        (def(cron("* * *")), "the expression of calendar c"),
        (def(unix), "@every has no times"),
    ] {
        let error = read(&def).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}
