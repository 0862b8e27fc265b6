//! Triggers and calendars of every kind, with values of all sizes: written as a
//! definition in each of its three forms and read again, they are what they were.

use std::collections::BTreeMap;

use horai_core::ids::{JobId, Name, TriggerName};
use horai_core::model::calendar::{CalendarDate, CalendarDef, CalendarRule};
use horai_core::model::job::{JobSpec, MisfirePolicy, TriggerKind, TriggerSpec};
use horai_core::model::trigger::{
    CalendarUnit, Dialect, DstPolicy, RuleSpec, TimeOfDay, TriggerRule, Weekdays,
};
use horai_core::time::{Span, UtcMillis};
use proptest::prelude::*;

use crate::api::calendar_definition::CalendarDefinition;
use crate::api::job_definition::JobDefinition;

/// 1970 to 2299.
const YEARS: std::ops::Range<i64> = 0..10_413_792_000;

fn any_span(most: u64) -> impl Strategy<Value = Span> {
    let factor = prop::sample::select(vec![1, 60, 3_600, 86_400]);
    (1..=most, factor).prop_map(move |(n, factor)| Span::secs((n * factor).min(most)))
}

fn any_time() -> impl Strategy<Value = TimeOfDay> {
    let second = prop_oneof![Just(0), 0..60_u32];
    (0..24_u32, 0..60_u32, second).prop_map(|(h, m, s)| TimeOfDay::new(h, m, s).unwrap())
}

fn any_instant() -> impl Strategy<Value = UtcMillis> {
    YEARS.prop_map(|second| UtcMillis(second * 1000))
}

fn any_weekdays() -> impl Strategy<Value = Weekdays> {
    (1..0x80_u8).prop_map(Weekdays)
}

fn any_cron() -> impl Strategy<Value = (String, Dialect)> {
    prop::sample::select(vec![
        ("0 30 2 * * ?", Dialect::Quartz),
        ("0  0/5 8-17 ? * MON-FRI 2026-2030", Dialect::Quartz),
        ("0 0 0 L-3W * ?", Dialect::Quartz),
        ("30 2 * * 0", Dialect::Unix),
        ("H H(0-7) * * MON", Dialect::Unix),
        ("@daily", Dialect::Unix),
        ("@every 90s", Dialect::Unix),
    ])
    .prop_map(|(text, dialect)| (text.to_owned(), dialect))
}

fn any_rule() -> impl Strategy<Value = TriggerRule> {
    let units = prop::sample::select(CalendarUnit::ALL.map(|(_, unit)| unit).to_vec());
    let window = (any_span(86_400), any_time(), any_time(), any_weekdays());
    prop_oneof![
        any_cron().prop_map(|(expression, dialect)| TriggerRule::Cron { expression, dialect }),
        (any_span(1 << 31), prop::option::of(0..1_000_000_u64))
            .prop_map(|(every, repeats)| TriggerRule::Interval { every, repeats }),
        any_span(1 << 31).prop_map(|delay| TriggerRule::FixedDelay { delay }),
        (1..=1_000_000_u32, units)
            .prop_map(|(every, unit)| TriggerRule::CalendarInterval { every, unit }),
        window.prop_map(|(every, from, to, weekdays)| TriggerRule::DailyWindow {
            every,
            from,
            to,
            weekdays,
        }),
        any_instant().prop_map(|at| TriggerRule::Once { at }),
    ]
}

/// Words that YAML or TOML would take for something else, and any others.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "no",
            "true",
            "null",
            "~",
            "1e5",
            "0x1F",
            "012",
            "12:30",
            "2026-11-21",
            "- a",
            "a: b",
            "#",
            "'",
            "\"",
            "&a",
            "*a",
            "|",
            "\\",
            "%",
            "{",
            "[",
            " a ",
            "",
            "=",
            "<<",
            "é",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,20}",
        "[a-z\n\t ]{0,12}",
    ]
}

fn any_trigger() -> impl Strategy<Value = TriggerSpec> {
    let bounds = (prop::option::of(any_instant()), prop::option::of(any_instant()));
    let dst = prop::sample::select(DstPolicy::ALL.map(|(_, dst)| dst).to_vec());
    let calendars = prop::collection::vec("[a-z][a-z0-9]{0,8}", 0..4);
    let jitter = prop_oneof![Just(Span::ZERO), any_span(86_400)];
    let params = prop::collection::btree_map("[A-Z_][A-Z0-9_]{0,8}", any_text(), 0..3);
    let said = (dst, calendars, jitter, prop::option::of(0..=9_u8), params);
    let zone = prop::option::of(prop::sample::select(vec!["UTC", "Europe/Berlin"]));
    let policies = [MisfirePolicy::FireAll, MisfirePolicy::FireNow, MisfirePolicy::Skip];
    let misfire = prop::sample::select(policies.to_vec());
    let name = "\\PC{1,20}";
    (any_rule(), bounds, said, zone, misfire, any::<bool>(), name).prop_map(
        |(rule, (start, end), said, zone, misfire, enabled, name)| {
            let (dst, calendars, jitter, priority, params) = said;
            let calendars = calendars.iter().map(|text| Name::new(text).unwrap()).collect();
            let bounded = RuleSpec { start, end, dst, calendars, ..RuleSpec::new(rule) };
            let rule = RuleSpec { jitter, priority, params, ..bounded };
            let kind = match &rule.rule {
                // Of such a one its short form is kept.
                TriggerRule::Cron { expression, dialect: Dialect::Quartz }
                    if rule == RuleSpec::new(rule.rule.clone()) =>
                {
                    TriggerKind::Cron { expression: expression.clone() }
                }
                _ => TriggerKind::Rule(Box::new(rule)),
            };
            let (name, zone) = (TriggerName(name.into()), zone.map(str::to_owned));
            TriggerSpec { name, kind, zone, misfire, enabled }
        },
    )
}

fn any_calendar() -> impl Strategy<Value = CalendarDef> {
    let day = (1970..2300_i16, 1..=12_u8, 1..=28_u8).prop_map(|(year, month, day)| CalendarDate {
        year,
        month,
        day,
    });
    let range = (any_time(), any_time()).prop_filter("two ends", |(from, to)| from != to);
    let cron = any_cron().prop_filter("times on the clock", |(text, _)| !text.contains("every"));
    let rule = prop_oneof![
        prop::collection::btree_set(day, 1..9).prop_map(CalendarRule::Dates),
        any_weekdays().prop_map(CalendarRule::Weekly),
        prop::collection::btree_set(1..=31_u8, 1..9).prop_map(CalendarRule::Monthly),
        prop::collection::btree_set((1..=12_u8, 1..=28_u8), 1..9).prop_map(CalendarRule::Annual),
        prop::collection::vec(range, 1..4).prop_map(CalendarRule::Daily),
        cron.prop_map(|(expression, dialect)| CalendarRule::Cron { expression, dialect }),
    ];
    let zone = prop::option::of(prop::sample::select(vec!["UTC", "Asia/Kathmandu"]));
    ("[a-z][a-z0-9]{0,8}", any_text(), zone, rule, any::<bool>()).prop_map(
        |(name, description, zone, rule, include_only)| {
            let (name, zone) = (Name::new(&name).unwrap(), zone.map(str::to_owned));
            CalendarDef { name, description, zone, rule, include_only, base: None }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn triggers_are_read_as_they_are_written(
        triggers in prop::collection::vec(any_trigger(), 1..4), params in any_text(),
    ) {
        let mut spec = JobSpec::noop(Name::new("a").unwrap());
        spec.params = BTreeMap::from([("A".to_owned(), params)]);
        for trigger in triggers {
            // Each name once.
            if spec.trigger(&trigger.name).is_none() {
                spec.triggers.push(trigger);
            }
        }
        let written = JobDefinition::of_spec(&spec, |_| "b".to_owned());
        prop_assert_eq!(&written.to_spec(|_| Some(JobId(7))).unwrap(), &spec);
        let yaml = serde_saphyr::to_string(&written).unwrap();
        let read: JobDefinition = serde_saphyr::from_str(&yaml).unwrap();
        prop_assert_eq!(&read, &written, "{}", yaml);
        let toml = toml::to_string(&written).unwrap();
        let read: JobDefinition = toml::from_str(&toml).unwrap();
        prop_assert_eq!(&read, &written, "{}", toml);
        let json = serde_json::to_string(&written).unwrap();
        let read: JobDefinition = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(&read, &written, "{}", json);
    }

    #[test]
    fn calendars_are_read_as_they_are_written(def in any_calendar()) {
        let written = CalendarDefinition::of_def(&def);
        prop_assert_eq!(&written.to_def(&|_| None).unwrap(), &def);
        let yaml = serde_saphyr::to_string(&written).unwrap();
        let read: CalendarDefinition = serde_saphyr::from_str(&yaml).unwrap();
        prop_assert_eq!(&read, &written, "{}", yaml);
        let toml = toml::to_string(&written).unwrap();
        let read: CalendarDefinition = toml::from_str(&toml).unwrap();
        prop_assert_eq!(&read, &written, "{}", toml);
        let json = serde_json::to_string(&written).unwrap();
        let read: CalendarDefinition = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(&read, &written, "{}", json);
    }
}
