//! How long the next fire takes, beside the `cron` and `croner` crates on
//! expressions that all three read alike: `cargo bench -p horai-core`.
//!
//! Each figure is the median of several rounds, in nanoseconds an instant. A
//! round steps from instant to instant, as a planner does, and all three must
//! find the same ones.

#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "it measures time")]

use std::hint::black_box;
use std::io::{self, Write};
use std::str::FromStr;
use std::time::Instant;

use chrono::TimeZone;
use horai_core::ids::{JobId, Name, TriggerName};
use horai_core::model::job::{MisfirePolicy, TriggerKind, TriggerSpec};
use horai_core::model::trigger::DstPolicy;
use horai_core::time::UtcMillis;
use horai_core::timing::cron::CronExpr;
use horai_core::timing::next_fire::fires_after;
use horai_core::timing::schedule::{Context, Schedule};
use horai_core::timing::zone::Zone;

/// 2026-01-01.
const FROM: i64 = 1_767_225_600;
const ROUNDS: usize = 7;

/// Expressions, and how many instants a round takes.
const SHARED: [(&str, usize); 8] = [
    ("* * * * * *", 20_000),
    ("0 */5 * * * *", 20_000),
    ("0 0 * * * *", 20_000),
    ("0 30 5 * * *", 5_000),
    ("0 0 9-17 * * MON-FRI", 10_000),
    ("0 15 10 1,15 * *", 500),
    ("0 0 0 29 2 *", 15),
    ("0 59 23 31 12 *", 50),
];

/// What only Quartz's grammar can say.
const QUARTZ: [(&str, usize); 3] =
    [("0 0 3 LW * ?", 500), ("0 0 12 ? * FRI#2", 500), ("0 0 12 15W * ?", 500)];

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{:26} {:>12} {:>12} {:>12}", "ns an instant, UTC", "horai", "cron", "croner")?;
    for (text, count) in SHARED {
        // Quartz asks for a question mark in one of the two fields for days.
        let fields: Vec<&str> = text.split(' ').collect();
        let (month_day, weekday) =
            if fields[5] == "*" { (fields[3], "?") } else { ("?", fields[5]) };
        let quartz = [fields[0], fields[1], fields[2], month_day, fields[4], weekday].join(" ");
        let (own, a) = median(|| horai(&quartz, count));
        let (theirs, b) = median(|| cron_crate(text, count));
        let (others, c) = median(|| croner_crate(text, count));
        assert!(a == b && b == c, "{text}: they differ: {a} {b} {c}");
        let per = |nanos: u128| nanos / count as u128;
        writeln!(out, "{text:26} {:>12} {:>12} {:>12}", per(own), per(theirs), per(others))?;
    }
    for (text, count) in QUARTZ {
        let (own, _) = median(|| horai(text, count));
        writeln!(out, "{text:26} {:>12}", own / count as u128)?;
    }
    writeln!(out)?;
    let (parse, _) = median(|| {
        (0..1000)
            .map(|_| black_box(CronExpr::parse("0 0/5 9-17 ? * MON-FRI")).map_or(0, |_| 1))
            .sum()
    });
    writeln!(out, "read an expression: {} ns", parse / 1000)?;
    let schedules = hourly(100_000);
    let (five, sum) = median(|| next_five(&schedules));
    writeln!(
        out,
        "next five of 100,000 hourly triggers in Europe/Berlin: {} ms on one core ({} instants)",
        five / 1_000_000,
        sum
    )?;
    Ok(())
}

/// The median time of some rounds, and what they found.
fn median(round: impl Fn() -> i64) -> (u128, i64) {
    let mut found = round();
    let mut times: Vec<u128> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            found = black_box(round());
            start.elapsed().as_nanos()
        })
        .collect();
    times.sort_unstable();
    (times[ROUNDS / 2], found)
}

/// The last instant of so many.
fn horai(text: &str, count: usize) -> i64 {
    let Ok(cron) = CronExpr::parse(text) else { return -1 };
    let after = UtcMillis(FROM * 1000);
    let last = fires_after(&cron, &Zone::UTC, DstPolicy::Smart, after).take(count).last();
    last.map_or(0, |at| at.0 / 1000)
}

fn cron_crate(text: &str, count: usize) -> i64 {
    let Ok(schedule) = cron::Schedule::from_str(text) else { return -2 };
    let Some(from) = chrono::Utc.timestamp_opt(FROM, 0).single() else { return -2 };
    schedule.after(&from).take(count).last().map_or(0, |at| at.timestamp())
}

fn croner_crate(text: &str, count: usize) -> i64 {
    let parser =
        croner::parser::CronParser::builder().seconds(croner::parser::Seconds::Required).build();
    let Ok(cron) = parser.parse(text) else { return -3 };
    let Ok(from) = jiff::Timestamp::from_second(FROM) else { return -3 };
    let from = from.to_zoned(jiff::tz::TimeZone::UTC);
    cron.iter_after(from).take(count).last().map_or(0, |at| at.timestamp().as_second())
}

/// So many triggers that fire each hour, at minutes and seconds of their own.
fn hourly(count: u64) -> Vec<Schedule> {
    let read = |n: u64| {
        let expression = format!("{} {} * * * ?", n % 60, n / 60 % 60);
        let trigger = TriggerSpec {
            name: TriggerName("hourly".into()),
            kind: TriggerKind::Cron { expression },
            zone: None,
            misfire: MisfirePolicy::FireAll,
            enabled: true,
        };
        let context = Context {
            job: JobId(n),
            job_zone: Some("Europe/Berlin"),
            default_zone: "UTC",
            anchor: UtcMillis(FROM * 1000),
            calendars: &|_: &Name| None,
        };
        Schedule::read(&trigger, context).ok()
    };
    (0..count).filter_map(read).collect()
}

fn next_five(schedules: &[Schedule]) -> i64 {
    let after = UtcMillis(FROM * 1000);
    let count: usize = schedules.iter().map(|s| s.after(after).take(5).count()).sum();
    i64::try_from(count).unwrap_or(0)
}
