//! Every kind of trigger, what bounds it, and which are refused.

use std::sync::Arc;

use super::*;
use crate::model::calendar::CalendarRule;
use crate::model::job::MisfirePolicy;
use crate::model::trigger::{CalendarUnit, Dialect, TimeOfDay, Weekdays};

#[path = "rule_property_tests.rs"]
mod properties;

fn millis(text: &str) -> UtcMillis {
    UtcMillis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

/// The commit that first held the trigger.
const ANCHOR: &str = "2024-01-31T02:30:00.750Z";

/// A rule in a zone of its own, or the job's.
#[derive(Debug, Clone)]
struct Trigger {
    zone: Option<String>,
    spec: RuleSpec,
}

impl std::ops::Deref for Trigger {
    type Target = RuleSpec;

    fn deref(&self) -> &RuleSpec {
        &self.spec
    }
}

impl std::ops::DerefMut for Trigger {
    fn deref_mut(&mut self) -> &mut RuleSpec {
        &mut self.spec
    }
}

fn trigger(rule: TriggerRule) -> Trigger {
    Trigger { zone: None, spec: RuleSpec::new(rule) }
}

fn weekend() -> CalendarDef {
    CalendarDef {
        name: Name::new("weekend").unwrap(),
        description: String::new(),
        zone: None,
        rule: CalendarRule::Weekly(Weekdays::WEEKEND),
        include_only: false,
        base: None,
    }
}

fn read(trigger: &Trigger) -> Result<Schedule, ScheduleError> {
    let weekend = weekend();
    let weekdays = CalendarDef { include_only: true, ..self::weekend() };
    let spec = TriggerSpec {
        name: TriggerName(Arc::from("t")),
        kind: TriggerKind::Rule(Box::new(trigger.spec.clone())),
        zone: trigger.zone.clone(),
        misfire: MisfirePolicy::FireAll,
        enabled: true,
    };
    Schedule::read(
        &spec,
        Context {
            job: JobId(7),
            job_zone: Some("Europe/Berlin"),
            default_zone: "UTC",
            anchor: millis(ANCHOR),
            calendars: &|name| match name.as_str() {
                "weekend" => Some(&weekend),
                "weekdays" => Some(&weekdays),
                _ => None,
            },
        },
    )
}

fn check(trigger: &Trigger, after: &str, wanted: &[&str]) {
    let schedule = read(trigger).unwrap();
    let found: Vec<String> = schedule
        .after(millis(after))
        .take(wanted.len())
        .map(|at| schedule.zone().rfc3339(at))
        .collect();
    assert_eq!(found, wanted, "{trigger:?}");
}

fn ends(trigger: &Trigger, after: &str, wanted: &[&str]) {
    check(trigger, after, wanted);
    assert_eq!(read(trigger).unwrap().after(millis(after)).count(), wanted.len());
}

#[test]
fn intervals_count_elapsed_time() {
    let rule = |repeats| TriggerRule::Interval { every: Span::secs(5400), repeats };
    // From the commit's second, which itself is past.
    check(
        &trigger(rule(None)),
        ANCHOR,
        &["2024-01-31T05:00:00+01:00", "2024-01-31T06:30:00+01:00"],
    );
    let mut from_start = trigger(rule(Some(2)));
    from_start.start = Some(millis("2024-03-30T23:30:00Z"));
    ends(
        &from_start,
        "2024-01-01T00:00:00Z",
        &["2024-03-31T00:30:00+01:00", "2024-03-31T03:00:00+02:00", "2024-03-31T04:30:00+02:00"],
    );
    // An end that is met does not fire.
    from_start.end = Some(millis("2024-03-31T02:30:00Z"));
    ends(&from_start, "2024-03-30T23:30:00Z", &["2024-03-31T03:00:00+02:00"]);
    let every =
        trigger(TriggerRule::Cron { expression: "@every 90m".to_owned(), dialect: Dialect::Unix });
    check(&every, ANCHOR, &["2024-01-31T05:00:00+01:00"]);
}

#[test]
fn calendar_intervals_end_months_as_people_do() {
    let rule = |every, unit| trigger(TriggerRule::CalendarInterval { every, unit });
    let mut monthly = rule(1, CalendarUnit::Month);
    monthly.start = Some(millis("2024-01-31T09:00:00+01:00"));
    check(
        &monthly,
        "2024-01-31T08:00:00Z",
        &[
            "2024-02-29T09:00:00+01:00",
            "2024-03-31T09:00:00+02:00",
            "2024-04-30T09:00:00+02:00",
            "2024-05-31T09:00:00+02:00",
        ],
    );
    check(&monthly, "2099-02-01T08:00:00Z", &["2099-02-28T09:00:00+01:00"]);
    let mut yearly = rule(1, CalendarUnit::Year);
    yearly.start = Some(millis("2024-02-29T09:00:00+01:00"));
    check(
        &yearly,
        "2026-12-01T08:00:00Z",
        &["2027-02-28T09:00:00+01:00", "2028-02-29T09:00:00+01:00"],
    );
    let mut weekly = rule(2, CalendarUnit::Week);
    weekly.start = Some(millis("2024-03-20T09:00:00+01:00"));
    check(
        &weekly,
        "2024-03-01T00:00:00Z",
        &["2024-03-20T09:00:00+01:00", "2024-04-03T09:00:00+02:00"],
    );
    check(&rule(36, CalendarUnit::Hour), ANCHOR, &["2024-02-01T15:30:00+01:00"]);
    // Steps, wherever they are begun, are the same.
    let schedule = read(&monthly).unwrap();
    let all: Vec<UtcMillis> = schedule.after(UtcMillis(0)).take(400).collect();
    for pair in all.windows(2) {
        for early in [pair[0].0, pair[0].0 + 1, (pair[0].0 + pair[1].0) / 2, pair[1].0 - 1] {
            assert_eq!(schedule.next_after(UtcMillis(early)), Some(pair[1]));
        }
    }
}

#[test]
fn calendar_intervals_obey_the_policy() {
    let mut daily = trigger(TriggerRule::CalendarInterval { every: 1, unit: CalendarUnit::Day });
    daily.start = Some(millis("2024-03-01T02:30:00+01:00"));
    for (dst, spring, autumn) in [
        (DstPolicy::Smart, "2024-03-31T03:00:00+02:00", "2024-10-27T02:30:00+02:00"),
        (DstPolicy::Quartz, "2024-04-01T02:30:00+02:00", "2024-10-27T02:30:00+01:00"),
        (DstPolicy::Skip, "2024-04-01T02:30:00+02:00", "2024-10-27T02:30:00+02:00"),
        (DstPolicy::Twice, "2024-04-01T02:30:00+02:00", "2024-10-27T02:30:00+02:00"),
    ] {
        daily.dst = dst;
        check(&daily, "2024-03-30T12:00:00Z", &[spring]);
        check(&daily, "2024-10-26T12:00:00Z", &[autumn]);
        let second = match dst {
            DstPolicy::Twice | DstPolicy::Quartz => "2024-10-27T02:30:00+01:00",
            DstPolicy::Smart | DstPolicy::Skip => "2024-10-28T02:30:00+01:00",
        };
        check(&daily, "2024-10-27T00:30:00Z", &[second]);
    }
}

#[test]
fn windows_open_on_chosen_days() {
    let window = |every, from: &str, to: &str, weekdays| {
        trigger(TriggerRule::DailyWindow {
            every: Span::secs(every),
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            weekdays,
        })
    };
    let office = window(4 * 3600, "08:30", "17:00", Weekdays::WORKDAYS);
    check(
        &office,
        "2024-05-31T10:00:00Z",
        &["2024-05-31T12:30:00+02:00", "2024-05-31T16:30:00+02:00", "2024-06-03T08:30:00+02:00"],
    );
    let night = window(3600, "22:30", "01:30", Weekdays(1 << 6));
    check(
        &night,
        "2024-06-01T21:00:00Z",
        &[
            "2024-06-01T23:30:00+02:00",
            "2024-06-02T00:30:00+02:00",
            "2024-06-02T01:30:00+02:00",
            "2024-06-08T22:30:00+02:00",
        ],
    );
    // Both ends stay by the clock: an hour less in spring, one more in autumn.
    let early = window(3600, "01:00", "04:00", Weekdays::ALL);
    check(
        &early,
        "2024-03-30T23:00:00Z",
        &[
            "2024-03-31T01:00:00+01:00",
            "2024-03-31T03:00:00+02:00",
            "2024-03-31T04:00:00+02:00",
            "2024-04-01T01:00:00+02:00",
        ],
    );
    check(
        &early,
        "2024-10-26T22:00:00Z",
        &[
            "2024-10-27T01:00:00+02:00",
            "2024-10-27T02:00:00+02:00",
            "2024-10-27T02:00:00+01:00",
            "2024-10-27T03:00:00+01:00",
            "2024-10-27T04:00:00+01:00",
            "2024-10-28T01:00:00+01:00",
        ],
    );
    // A window that opens in the gap.
    let mut gap = window(1800, "02:15", "03:30", Weekdays::ALL);
    check(
        &gap,
        "2024-03-30T23:00:00Z",
        &["2024-03-31T03:00:00+02:00", "2024-03-31T03:30:00+02:00"],
    );
    gap.dst = DstPolicy::Skip;
    check(&gap, "2024-03-30T23:00:00Z", &["2024-04-01T02:15:00+02:00"]);
    // One instant a day.
    let noon = window(86_400, "12:00", "12:00", Weekdays::ALL);
    check(&noon, "2024-06-01T10:00:00Z", &["2024-06-02T12:00:00+02:00"]);
}

#[test]
fn once_is_once_and_a_delay_begins_once() {
    let once = trigger(TriggerRule::Once { at: millis("2024-06-01T10:00:00Z") });
    ends(&once, "2024-06-01T09:59:59.999Z", &["2024-06-01T12:00:00+02:00"]);
    ends(&once, "2024-06-01T10:00:00Z", &[]);
    let mut delay = trigger(TriggerRule::FixedDelay { delay: Span::secs(60) });
    // Counted from the commit, and then as if each action took no time.
    check(&delay, ANCHOR, &["2024-01-31T03:31:01+01:00", "2024-01-31T03:32:01+01:00"]);
    let again = |trigger: &Trigger, ended: &str| {
        let schedule = read(trigger).unwrap();
        schedule.next_after(millis(ended)).map(|at| at.to_string())
    };
    assert_eq!(again(&delay, "2024-05-31T12:00:00.001Z").unwrap(), "2024-05-31T12:01:01Z");
    // Put off to the end of what is excluded, in Berlin's time.
    delay.calendars = vec![Name::new("weekend").unwrap()];
    assert_eq!(again(&delay, "2024-05-31T21:59:30Z").unwrap(), "2024-06-02T22:00:00Z");
    delay.end = Some(millis("2024-06-02T22:00:00Z"));
    assert_eq!(again(&delay, "2024-05-31T21:59:30Z"), None);
    // A start that is still to come is the first instant, without a delay.
    (delay.end, delay.start) = (None, Some(millis("2024-06-05T08:00:00Z")));
    assert_eq!(again(&delay, "2024-06-05T07:59:59Z").unwrap(), "2024-06-05T08:00:00Z");
    assert_eq!(again(&delay, "2024-06-05T08:00:00Z").unwrap(), "2024-06-05T08:01:00Z");
}

#[test]
fn windows_of_two_days_may_lie_in_one_another() {
    // At 03:00 of this day the clock goes back by an hour.
    let window = trigger(TriggerRule::DailyWindow {
        every: Span::secs(25 * 60),
        from: "02:30".parse().unwrap(),
        to: "02:15".parse().unwrap(),
        weekdays: Weekdays::ALL,
    });
    check(
        &window,
        "2024-10-27T00:15:00Z",
        &[
            "2024-10-27T02:30:00+02:00",
            "2024-10-27T02:40:00+02:00",
            "2024-10-27T02:55:00+02:00",
            "2024-10-27T02:05:00+01:00",
        ],
    );
}

#[test]
fn a_plan_taken_up_in_the_first_pass_has_the_second() {
    let mut halves = trigger(TriggerRule::Cron {
        expression: "0 0/30 * * * ?".to_owned(),
        dialect: Dialect::Quartz,
    });
    halves.dst = DstPolicy::Quartz;
    let rest =
        ["2024-10-27T02:00:00+01:00", "2024-10-27T02:30:00+01:00", "2024-10-27T03:00:00+01:00"];
    for after in ["2024-10-26T23:30:00Z", "2024-10-27T00:00:00Z", "2024-10-27T00:45:00Z"] {
        check(&halves, after, &rest);
    }
    check(&halves, "2024-10-27T01:00:00Z", &rest[1..]);
}

#[test]
fn calendars_that_allow_nothing_between_them_end_a_delay() {
    let mut delay = trigger(TriggerRule::FixedDelay { delay: Span::secs(60) });
    delay.calendars = vec![Name::new("weekend").unwrap(), Name::new("weekdays").unwrap()];
    ends(&delay, ANCHOR, &[]);
}

#[test]
fn calendars_leave_instants_out() {
    let mut daily = trigger(TriggerRule::Cron {
        expression: "0 0 0,12 * * ?".to_owned(),
        dialect: Dialect::Quartz,
    });
    daily.calendars = vec![Name::new("weekend").unwrap()];
    check(
        &daily,
        "2024-05-31T00:00:00Z",
        &["2024-05-31T12:00:00+02:00", "2024-06-03T00:00:00+02:00", "2024-06-03T12:00:00+02:00"],
    );
    let mut never = trigger(TriggerRule::Cron {
        expression: "0 0 0 ? * SAT".to_owned(),
        dialect: Dialect::Quartz,
    });
    never.calendars = vec![Name::new("weekend").unwrap()];
    ends(&never, "2024-05-31T00:00:00Z", &[]);
}

#[test]
fn a_search_in_pieces_finds_what_one_finds() {
    let mut hourly = trigger(TriggerRule::Cron {
        expression: "0 0/20 * * * ?".to_owned(),
        dialect: Dialect::Quartz,
    });
    hourly.calendars = vec![Name::new("weekend").unwrap()];
    hourly.end = Some(millis("2024-06-04T00:00:00Z"));
    let schedule = read(&hourly).unwrap();
    for pieces in [0, 1, 5] {
        let mut at = millis("2024-05-31T00:00:00Z");
        let mut found = Vec::new();
        loop {
            let until = at.plus(Span::secs(7_000));
            let before = at;
            match schedule.look_after(at, until, at_most(pieces)) {
                Next::At(next) => {
                    assert!(next <= until);
                    found.push(next);
                    at = next;
                }
                Next::NoneUpTo(to) => {
                    assert!(to > before && to <= until, "{to}");
                    at = to;
                }
                Next::Never => break,
            }
        }
        let whole: Vec<UtcMillis> = schedule.after(millis("2024-05-31T00:00:00Z")).collect();
        assert_eq!(found, whole);
        assert!(found.len() > 100);
    }
}

#[test]
fn jitter_is_stable_and_below_the_gap() {
    let mut cron = trigger(TriggerRule::Cron {
        expression: "0 0/10 * * * ?".to_owned(),
        dialect: Dialect::Quartz,
    });
    cron.jitter = Span::secs(3600);
    let schedule = read(&cron).unwrap();
    let mut shares = std::collections::BTreeSet::new();
    for nominal in schedule.after(millis(ANCHOR)).take(500) {
        let due = schedule.due(nominal);
        assert!(due >= nominal && due < nominal.plus(Span::secs(600)), "{nominal} {due}");
        assert_eq!(due, schedule.due(nominal));
        shares.insert(due.since(nominal).0 / 60_000);
    }
    assert_eq!(shares.len(), 10, "all parts of the gap are used: {shares:?}");
    cron.jitter = Span::secs(5);
    let schedule = read(&cron).unwrap();
    let most = schedule.after(millis(ANCHOR)).take(500).map(|n| schedule.due(n).since(n).0).max();
    assert!((4_000..=5_000).contains(&most.unwrap()), "{most:?}");
    cron.jitter = Span::ZERO;
    let schedule = read(&cron).unwrap();
    assert!(schedule.after(millis(ANCHOR)).take(5).all(|n| schedule.due(n) == n));
}

#[test]
fn errors_name_field_and_remedy() {
    let window = |every, weekdays| TriggerRule::DailyWindow {
        every: Span(every),
        from: TimeOfDay::MIDNIGHT,
        to: TimeOfDay::LAST,
        weekdays,
    };
    let with = |change: &dyn Fn(&mut Trigger)| {
        let mut changed = trigger(TriggerRule::Interval { every: Span::secs(1), repeats: None });
        change(&mut changed);
        changed
    };
    let cases = [
        (
            trigger(TriggerRule::Interval { every: Span(1500), repeats: None }),
            "\"1500ms\" must be whole seconds",
        ),
        (trigger(TriggerRule::Interval { every: Span::ZERO, repeats: None }), "at least 1s"),
        (trigger(TriggerRule::Interval { every: Span(u64::MAX), repeats: None }), "whole seconds"),
        (trigger(TriggerRule::FixedDelay { delay: Span(1) }), "whole seconds"),
        (
            trigger(TriggerRule::CalendarInterval { every: 0, unit: CalendarUnit::Day }),
            "must be 1 to",
        ),
        (trigger(window(90_000_000, Weekdays::ALL)), "at most 24h"),
        (trigger(window(1000, Weekdays(0))), "names no weekday"),
        (trigger(TriggerRule::Once { at: UtcMillis::MAX }), "is not an instant"),
        (
            trigger(TriggerRule::Cron { expression: "0 0".to_owned(), dialect: Dialect::Quartz }),
            "has 2 fields",
        ),
        (with(&|t| t.zone = Some("Nowhere".to_owned())), "not an IANA time zone"),
        (with(&|t| t.calendars = vec![Name::new("no").unwrap()]), "calendar no does not exist"),
        (with(&|t| t.jitter = Span::secs(86_401)), "at most 24h"),
        (with(&|t| t.start = Some(UtcMillis::MAX)), "is not an instant"),
        (with(&|t| t.start = Some(millis("1969-12-31T23:59:59Z"))), "1970 to 2299"),
        (with(&|t| t.end = Some(millis("2300-01-01T00:00:00Z"))), "1970 to 2299"),
        (with(&|t| t.end = Some(millis("2027-01-01T00:00:00.5Z"))), "whole second"),
        (trigger(TriggerRule::Once { at: UtcMillis(1) }), "whole second"),
        (
            with(&|t| {
                t.start = Some(UtcMillis(5_000));
                t.end = Some(UtcMillis(5_000));
            }),
            "not after the start",
        ),
    ];
    for (trigger, part) in cases {
        let error = read(&trigger).unwrap_err().to_string();
        assert!(error.contains(part), "{trigger:?}: {error}");
    }
}
