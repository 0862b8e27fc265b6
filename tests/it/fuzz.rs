//! Every parser against made-up input: no text and no bytes make it panic, and
//! what it takes it prints again as it was read.
//!
//! Each target runs for ten seconds, or for `HORAI_FUZZ_SECONDS`. Bytes choose
//! from parts of the grammar at hand, so that much of what is tried is nearly
//! right. What is found is printed, with a seed that gives it again.

use std::time::Duration;

use horai::api::calendar_definition::CalendarDefinition;
use horai::api::dto::{ActionRef, AttemptRef, RunRef, SpanText, Time};
use horai::api::job_definition::JobDefinition;
use horai::offline;
use horai_core::ids::{GroupPath, JobId, Name};
use horai_core::machine::command::{decode, encode};
use horai_core::machine::snapshot::Restore;
use horai_core::model::calendar::CalendarDate;
use horai_core::model::output;
use horai_core::model::trigger::{Dialect, DstPolicy, TimeOfDay, Weekdays};
use horai_core::time::UtcMillis;
use horai_core::timing::cron::{CronExpr, CronRule, Spread};
use horai_core::timing::next_fire::next_after;
use horai_core::timing::zone::Zone;

pub(crate) fn time() -> Duration {
    let wanted = std::env::var("HORAI_FUZZ_SECONDS").ok();
    let seconds = wanted.map(|text| {
        text.parse().unwrap_or_else(|_| panic!("HORAI_FUZZ_SECONDS={text}: write a number"))
    });
    Duration::from_secs(seconds.unwrap_or(10))
}

/// Tries texts put together from `parts`; now and then a byte stands for itself.
pub(crate) fn texts(
    parts: &'static [&'static str],
    try_it: impl Fn(&str) + std::panic::RefUnwindSafe,
) {
    bolero::check!().with_test_time(time()).with_max_len(60).for_each(|bytes: &[u8]| {
        let mut text = String::new();
        for byte in bytes {
            match parts.get(usize::from(*byte)) {
                Some(part) => text.push_str(part),
                None if *byte > 240 => text.push(char::from(*byte)),
                None => text.push_str(parts[usize::from(*byte) % parts.len()]),
            }
        }
        try_it(&text);
    });
}

const CRON: &[&str] = &[
    " ", " ", " ", "*", "*", "?", "?", "0", "0", "1", "2", "5", "9", "12", "23", "31", "59", "60",
    "7", ",", "-", "/", "L", "W", "#", "LW", "L-3", "15W", "MON", "fri", "SUN", "JAN", "Dec", "H",
    "H(1-9)", "@daily", "@every ", "90s", "@", "2024", "2099", "2300", "*/5", "0/15", "1-5", "6#3",
    "5L", "FRIL", "22-2", "\t", "ä",
];

fn cron(dialect: Dialect, text: &str) {
    match CronRule::parse(
        text,
        dialect,
        Spread::of(JobId(7), &horai_core::ids::TriggerName("t".into())),
    ) {
        Ok(CronRule::Clock(cron)) => {
            let again = CronRule::parse(cron.text(), dialect, Spread::default());
            // What is spread depends on who asks; all else means the same again.
            if !cron.text().contains('H') {
                assert_eq!(again, Ok(CronRule::Clock(cron.clone())), "{text:?}");
            }
            assert!(!cron.describe().is_empty());
            for (_, dst) in DstPolicy::ALL {
                let from = UtcMillis(1_711_846_800_000);
                let next = next_after(&cron, &Zone::UTC, dst, from);
                assert!(next.is_none_or(|next| next > from), "{text:?}");
            }
        }
        Ok(CronRule::Every(every)) => assert!(every.0 >= 1000, "{text:?}"),
        Err(error) => {
            let told = error.to_string();
            assert!(!told.is_empty() && told.len() < 2_000, "{text:?}: {told}");
            let _ = error.caret();
        }
    }
}

#[test]
fn quartz_expressions() {
    texts(CRON, |text| {
        cron(Dialect::Quartz, text);
        let strict = CronExpr::parse(text).and_then(CronExpr::strict);
        assert!(strict.is_err() || CronExpr::parse(text).is_ok());
    });
}

#[test]
fn crontab_expressions() {
    texts(CRON, |text| cron(Dialect::Unix, text));
}

#[test]
fn files_of_outputs() {
    const PARTS: &[&str] = &[
        "A", "B", "_", "1", "=", "=", "<<", "<", "END", "END", "E", "\n", "\n", "\n", " ", "\r",
        "ä", "\0", "value", "$(x)", "\"",
    ];
    texts(PARTS, |text| match output::parse(text.as_bytes()) {
        Ok(values) => {
            assert_eq!(output::check(&values), Ok(()), "{text:?}");
            assert_eq!(output::parse(output::write(&values).as_bytes()), Ok(values), "{text:?}");
        }
        Err(error) => assert!(!error.to_string().is_empty(), "{text:?}"),
    });
}

#[test]
fn short_words() {
    const WORDS: &[&str] = &[
        "0",
        "1",
        "2",
        "9",
        "12",
        "23",
        "59",
        "60",
        "2024",
        "2299",
        "02",
        "29",
        "30",
        "-",
        "-",
        ":",
        ":",
        "/",
        ".",
        "@",
        "T",
        "Z",
        "r-",
        "a",
        "z",
        "etl",
        "MON",
        "fri",
        "SUN",
        ",",
        "ms",
        "s",
        "m",
        "h",
        "d",
        "+01:00",
        "Europe/Berlin",
        "UTC",
        " ",
        "_",
        "A",
        "é",
        "18446744073709551616",
    ];
    /// What is read prints as something that means the same.
    fn same<T: std::str::FromStr + ToString + PartialEq + std::fmt::Debug>(text: &str) {
        if let Ok(read) = text.parse::<T>() {
            let printed = read.to_string();
            assert_eq!(printed.parse::<T>().ok(), Some(read), "{text:?} as {printed:?}");
        }
    }
    texts(WORDS, |text| {
        same::<Name>(text);
        same::<GroupPath>(text);
        same::<TimeOfDay>(text);
        same::<Weekdays>(text);
        same::<CalendarDate>(text);
        same::<SpanText>(text);
        same::<Time>(text);
        same::<RunRef>(text);
        same::<AttemptRef>(text);
        same::<ActionRef>(text);
        let _ = offline::instant(text);
        if let Ok(zone) = Zone::parse(text) {
            assert_eq!(Zone::parse(zone.name()).ok(), Some(zone));
        }
    });
}

#[test]
fn definitions() {
    const PARTS: &[&str] = &[
        "name: a\n",
        "noop: true\n",
        "triggers:\n",
        "  - ",
        "    ",
        "cron: ",
        "'0 0 3 * * ?'\n",
        "interval: 5s\n",
        "fixed_delay: 5m\n",
        "once: 2026-12-24T17:00:00Z\n",
        "daily_window: ",
        "{every: 5m, from: 08:00}\n",
        "calendar_interval: 1 month\n",
        "calendars: [a, b]\n",
        "misfire: DO_NOTHING\n",
        "priority: 9\n",
        "params: {A: b}\n",
        "depends_on: [b]\n",
        "dates: ['2026-12-25']\n",
        "weekly: SUN\n",
        "monthly: [1]\n",
        "annual: ['12-24']\n",
        "daily: ['22:00-06:00']\n",
        "base: b\n",
        "include_only: true\n",
        "dialect: unix\n",
        "zone: Europe/Berlin\n",
        "group: a/b\n",
        "retries: {count: 2}\n",
        "timeout: 5m\n",
        "x: ",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "'",
        ",",
        "\n",
        ":",
        "&a ",
        "*a\n",
        "- ",
        "|",
        "#",
        "true",
    ];
    texts(PARTS, |text| {
        let yaml = serde_saphyr::from_str::<JobDefinition>(text).ok();
        let json = serde_json::from_str::<JobDefinition>(text).ok();
        let toml = toml::from_str::<JobDefinition>(text).ok();
        for job in [yaml, json, toml].into_iter().flatten() {
            let _ = job.notices();
            let Ok(spec) = job.to_spec(|_| Some(JobId(7))) else { continue };
            let written = JobDefinition::of_spec(&spec, |_| "b".to_owned());
            assert_eq!(written.to_spec(|_| Some(JobId(7))).unwrap(), spec, "{text:?}");
            let yaml = serde_saphyr::to_string(&written).unwrap();
            assert_eq!(serde_saphyr::from_str::<JobDefinition>(&yaml).unwrap(), written);
        }
        if let Ok(calendar) = serde_saphyr::from_str::<CalendarDefinition>(text)
            && let Ok(def) = calendar.to_def(&|_| None)
        {
            let written = CalendarDefinition::of_def(&def);
            assert_eq!(written.to_def(&|_| None).unwrap(), def, "{text:?}");
        }
    });
}

#[test]
fn questions_without_a_cluster() {
    const PARTS: &[&str] = &[
        "{",
        "}",
        "\"cron\":",
        "\"0 0 3 * * ?\"",
        "\"0 0/5 * * * ?\"",
        "\"* * * * *\"",
        ",",
        ",",
        "\"tz\":",
        "\"Europe/Berlin\"",
        "\"after\":",
        "\"2024-03-31T00:00:00Z\"",
        "\"count\":",
        "\"dst\":",
        "\"quartz\"",
        "\"dialect\":",
        "\"unix\"",
        "\"kind\":",
        "\"simple\"",
        "\"daily\"",
        "\"trigger\":",
        "\"now_off_ms\":",
        "\"misfire\":",
        "\"repeat\":",
        "\"interval_ms\":",
        "null",
        "true",
        "[",
        "]",
        "0",
        "1",
        "5",
        "1000",
        "-1",
        "1e308",
        "99999999999999999999",
        "\"",
        " ",
    ];
    texts(PARTS, |text| {
        for answer in [offline::cron::answer(text), offline::trigger::answer(text)] {
            let read: serde_json::Value = serde_json::from_str(&answer).unwrap();
            assert!(read.is_object(), "{text:?}: {answer}");
        }
    });
}

#[test]
fn stored_bytes() {
    /// Commands of every kind, to be changed here and there.
    const KNOWN: &str = include_str!("../golden/command_v1.txt");
    let known: Vec<Vec<u8>> = KNOWN
        .lines()
        .filter_map(|line| {
            let (_, hex) = line.split_once(' ')?;
            let byte = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
            (0..hex.len()).step_by(2).map(byte).collect()
        })
        .collect();
    assert!(known.len() > 30);
    bolero::check!().with_test_time(time()).with_max_len(200).for_each(|bytes: &[u8]| {
        let mut changed = known[bytes.first().map_or(0, |n| usize::from(*n) % known.len())].clone();
        for pair in bytes.get(1..).unwrap_or_default().chunks_exact(2) {
            let place = usize::from(pair[0]) % changed.len();
            changed[place] = pair[1];
        }
        for bytes in [bytes, &changed] {
            if let Ok(envelope) = decode(bytes) {
                // Numbers may have been written longer than need be; what they say stays.
                let again = encode(&envelope).unwrap();
                assert_eq!(decode(&again).unwrap(), envelope);
            }
            let mut restore = Restore::default();
            let _ = restore.push(bytes);
        }
    });
}
