//! Clock tests: jobs with every kind of trigger, planned, released, dispatched and
//! ended by simulated cluster time over both changes of Berlin's clocks in 2027. What
//! fires is compared with lists that were written by hand.
//!
//! 2027-03-28 at 01:00 UTC the clock goes from 02:00 to 03:00, and 2027-10-31 at
//! 01:00 UTC from 03:00 to 02:00. The rules stand at
//! [`horai_core::model::trigger::DstPolicy`].

use horai_core::ids::JobId;
use horai_core::machine::command::Command;
use horai_core::model::calendar::{CalendarDef, CalendarRule};
use horai_core::model::job::{JobSpec, MisfirePolicy};
use horai_core::model::trigger::{
    CalendarUnit, Dialect, DstPolicy, RuleSpec, TriggerRule, Weekdays,
};
use horai_core::time::{Span, UtcMillis};
use horai_core::timing::zone::Zone;

use super::holds::{World, ruled};
use super::support::{name, spec};
use crate::leader::plan_book::PlanBook;

const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;
const SUNDAY: Weekdays = Weekdays(1);

/// A job, its rule, and day, time and offset of what fires in Berlin.
type Wanted = (&'static str, RuleSpec, &'static [&'static str]);

fn at(text: &str) -> UtcMillis {
    UtcMillis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

fn cron(expression: &str, dst: DstPolicy) -> RuleSpec {
    let (expression, dialect) = (expression.to_owned(), Dialect::Quartz);
    RuleSpec { dst, ..RuleSpec::new(TriggerRule::Cron { expression, dialect }) }
}

fn crontab(expression: &str) -> RuleSpec {
    let (expression, dialect) = (expression.to_owned(), Dialect::Unix);
    RuleSpec::new(TriggerRule::Cron { expression, dialect })
}

fn interval(seconds: u64, repeats: u64) -> RuleSpec {
    let every = Span::secs(seconds);
    RuleSpec::new(TriggerRule::Interval { every, repeats: Some(repeats) })
}

fn each(every: u32, unit: CalendarUnit, dst: DstPolicy) -> RuleSpec {
    RuleSpec { dst, ..RuleSpec::new(TriggerRule::CalendarInterval { every, unit }) }
}

fn window(seconds: u64, from: &str, to: &str, weekdays: Weekdays) -> RuleSpec {
    let (every, from, to) = (Span::secs(seconds), from.parse().unwrap(), to.parse().unwrap());
    RuleSpec::new(TriggerRule::DailyWindow { every, from, to, weekdays })
}

fn delay(seconds: u64) -> RuleSpec {
    RuleSpec::new(TriggerRule::FixedDelay { delay: Span::secs(seconds) })
}

fn once(text: &str) -> RuleSpec {
    RuleSpec::new(TriggerRule::Once { at: at(text) })
}

fn from(start: &str, rule: RuleSpec) -> RuleSpec {
    RuleSpec { start: Some(at(start)), ..rule }
}

fn between(start: &str, end: &str, rule: RuleSpec) -> RuleSpec {
    RuleSpec { end: Some(at(end)), ..from(start, rule) }
}

fn under(calendar: &str, rule: RuleSpec) -> RuleSpec {
    RuleSpec { calendars: vec![name(calendar)], ..rule }
}

fn put_calendar(world: &World, text: &str, rule: CalendarRule, include_only: bool) {
    let (name, description) = (name(text), String::new());
    let def = CalendarDef { name, description, zone: None, rule, include_only, base: None };
    world.fake.user(Command::PutCalendar { def: Box::new(def), expected: None });
}

/// Lets time pass from one thing that is due to the next, to the millisecond.
fn drive(world: &mut World, until: UtcMillis) {
    for _ in 0..10_000 {
        let timers = [world.fake.view().next_timer(), world.book.next()];
        match timers.into_iter().flatten().min().filter(|next| *next <= until) {
            Some(next) => world.pass(next.since(world.fake.now()).0),
            None => return world.pass(until.since(world.fake.now()).0),
        }
        // What was dispatched takes no time.
        world.pass(0);
    }
    panic!("something is due for ever");
}

/// `28 03:00+02`.
fn shown(zone: &str, at: UtcMillis) -> String {
    let text = Zone::parse(zone).unwrap().rfc3339(at);
    assert_eq!(&text[17..19], "00", "{text}");
    format!("{} {}{}", &text[8..10], &text[11..16], &text[19..22])
}

/// Who leads changes at `middle`.
fn check([begin, middle, until]: [&str; 3], wanted: &[Wanted]) {
    let mut world = World::new();
    world.fake.pass(at(begin).since(world.fake.now()).0);
    let two_to_three = vec![("02:00".parse().unwrap(), "03:00".parse().unwrap())];
    put_calendar(&world, "not-at-two", CalendarRule::Daily(two_to_three), false);
    put_calendar(&world, "sundays", CalendarRule::Weekly(SUNDAY), true);
    let add = |(text, rule, _): &Wanted| {
        let mut job = ruled(text, rule.clone(), MisfirePolicy::FireAll);
        job.zone = Some("Europe/Berlin".to_owned());
        job.triggers[0].zone = (*text == "in-utc").then(|| "UTC".to_owned());
        world.fake.job(job)
    };
    let mut jobs: Vec<JobId> = wanted.iter().map(add).collect();
    // It fires when the first one does.
    let dependant = world.fake.job(JobSpec { zone: None, ..spec("after", &[], &[jobs[0]]) });
    jobs.push(dependant);
    let after: Wanted = ("after", wanted[0].1.clone(), wanted[0].2);
    world.plan();
    drive(&mut world, at(middle));
    world.book = PlanBook::default();
    world.book.scan(&world.fake.view(), world.fake.now());
    drive(&mut world, at(until));
    let view = world.fake.view();
    for ((text, rule, expected), job) in wanted.iter().chain([&after]).zip(jobs) {
        let zone = if *text == "in-utc" { "UTC" } else { "Europe/Berlin" };
        let runs: Vec<_> = view.runs_of_job_after(job, None).collect();
        let found: Vec<String> = runs.iter().map(|run| shown(zone, run.nominal)).collect();
        assert_eq!(found, *expected, "{text}");
        for run in runs {
            let late = run.attempts[0].dispatched.since(run.nominal);
            assert!(late <= rule.jitter, "{text} started {late} after {}", run.nominal);
            assert!(!run.catch_up && run.live_attempt().is_none(), "{text} at {}", run.nominal);
        }
        assert_eq!(view.missed_of(job).count(), 0, "{text}");
    }
}

#[test]
fn jobs_of_every_kind_fire_by_hand_written_lists_in_spring() {
    use DstPolicy::{Quartz, Skip, Smart, Twice};
    let nightly = "0 30 2 * * ?";
    let running =
        |dst| between("2027-03-28T00:30:00Z", "2027-03-28T02:00:00Z", cron("0 0/30 * * * ?", dst));
    let daily = |dst| from("2027-03-20T02:30:00+01:00", each(1, CalendarUnit::Day, dst));
    // Nothing but `smart` moves what the clock leaves out.
    let moved: &[&str] = &["28 03:00+02", "29 02:30+02"];
    let left_out: &[&str] = &["29 02:30+02"];
    let half_hours: &[&str] = &["28 01:30+01", "28 03:00+02", "28 03:30+02"];
    check(
        ["2027-03-27T12:00:00Z", "2027-03-28T00:59:59.999Z", "2027-03-29T12:00:00Z"],
        &[
            ("cron-smart", cron(nightly, Smart), moved),
            ("cron-quartz", cron(nightly, Quartz), left_out),
            ("cron-skip", cron(nightly, Skip), left_out),
            ("cron-twice", cron(nightly, Twice), left_out),
            ("running-smart", running(Smart), half_hours),
            ("running-quartz", running(Quartz), half_hours),
            ("running-skip", running(Skip), half_hours),
            ("running-twice", running(Twice), half_hours),
            ("crontab", crontab("30 2 * * SUN"), &["28 03:00+02"]),
            (
                "every",
                between("2027-03-28T00:30:00Z", "2027-03-28T03:00:00Z", crontab("@every 1h")),
                &["28 01:30+01", "28 03:30+02", "28 04:30+02"],
            ),
            ("in-utc", cron("0 30 1 * * ?", Smart), &["28 01:30+00", "29 01:30+00"]),
            ("jitter", RuleSpec { jitter: Span::secs(20 * MINUTE), ..cron(nightly, Smart) }, moved),
            (
                "interval",
                from("2027-03-27T23:00:00Z", interval(90 * MINUTE, 3)),
                &["28 00:00+01", "28 01:30+01", "28 04:00+02", "28 05:30+02"],
            ),
            ("daily-smart", daily(Smart), moved),
            ("daily-quartz", daily(Quartz), left_out),
            ("daily-skip", daily(Skip), left_out),
            ("daily-twice", daily(Twice), left_out),
            (
                "monthly",
                from("2027-01-28T02:30:00+01:00", each(1, CalendarUnit::Month, Smart)),
                &["28 03:00+02"],
            ),
            (
                "half-days",
                from("2027-03-27T14:30:00Z", each(12, CalendarUnit::Hour, Smart)),
                &["27 15:30+01", "28 04:30+02", "28 16:30+02", "29 04:30+02"],
            ),
            (
                "window",
                window(HOUR, "01:00", "04:00", Weekdays::ALL),
                &[
                    "28 01:00+01",
                    "28 03:00+02",
                    "28 04:00+02",
                    "29 01:00+02",
                    "29 02:00+02",
                    "29 03:00+02",
                    "29 04:00+02",
                ],
            ),
            (
                "sunday-window",
                window(30 * MINUTE, "02:15", "03:30", SUNDAY),
                &["28 03:00+02", "28 03:30+02"],
            ),
            (
                "delay",
                between("2027-03-28T00:15:00Z", "2027-03-28T02:45:00Z", delay(45 * MINUTE)),
                &["28 01:15+01", "28 03:00+02", "28 03:45+02", "28 04:30+02"],
            ),
            ("once", once("2027-03-28T01:00:00Z"), &["28 03:00+02"]),
            (
                "excluded",
                under("not-at-two", cron("0 0/30 1-3 * * ?", Twice)),
                &[
                    "28 01:00+01",
                    "28 01:30+01",
                    "28 03:00+02",
                    "28 03:30+02",
                    "29 01:00+02",
                    "29 01:30+02",
                    "29 03:00+02",
                    "29 03:30+02",
                ],
            ),
            ("included", under("sundays", cron(nightly, Smart)), &["28 03:00+02"]),
        ],
    );
}

#[test]
fn jobs_of_every_kind_fire_by_hand_written_lists_in_autumn() {
    use DstPolicy::{Quartz, Skip, Smart, Twice};
    let nightly = "0 30 2 * * ?";
    let running =
        |dst| between("2027-10-30T23:30:00Z", "2027-10-31T02:30:00Z", cron("0 0/30 * * * ?", dst));
    let daily = |dst| from("2027-10-20T02:30:00+02:00", each(1, CalendarUnit::Day, dst));
    let first: &[&str] = &["31 02:30+02", "01 02:30+01"];
    let second: &[&str] = &["31 02:30+01", "01 02:30+01"];
    let both: &[&str] = &["31 02:30+02", "31 02:30+01", "01 02:30+01"];
    let all_half_hours: &[&str] =
        &["31 01:30+02", "31 02:00+02", "31 02:30+02", "31 02:00+01", "31 02:30+01", "31 03:00+01"];
    check(
        // In the first pass.
        ["2027-10-30T12:00:00Z", "2027-10-31T00:45:00Z", "2027-11-01T12:00:00Z"],
        &[
            ("cron-smart", cron(nightly, Smart), first),
            ("cron-quartz", cron(nightly, Quartz), second),
            ("cron-skip", cron(nightly, Skip), first),
            ("cron-twice", cron(nightly, Twice), both),
            ("running-smart", running(Smart), all_half_hours),
            (
                "running-quartz",
                running(Quartz),
                &["31 01:30+02", "31 02:00+01", "31 02:30+01", "31 03:00+01"],
            ),
            (
                "running-skip",
                running(Skip),
                &["31 01:30+02", "31 02:00+02", "31 02:30+02", "31 03:00+01"],
            ),
            ("running-twice", running(Twice), all_half_hours),
            ("crontab", crontab("30 2 * * SUN"), &["31 02:30+02"]),
            (
                "every",
                between("2027-10-31T00:30:00Z", "2027-10-31T03:00:00Z", crontab("@every 1h")),
                &["31 02:30+02", "31 02:30+01", "31 03:30+01"],
            ),
            ("in-utc", cron("0 30 1 * * ?", Smart), &["31 01:30+00", "01 01:30+00"]),
            ("jitter", RuleSpec { jitter: Span::secs(20 * MINUTE), ..cron(nightly, Smart) }, first),
            (
                "interval",
                from("2027-10-30T22:00:00Z", interval(90 * MINUTE, 3)),
                &["31 00:00+02", "31 01:30+02", "31 02:00+01", "31 03:30+01"],
            ),
            ("daily-smart", daily(Smart), first),
            ("daily-quartz", daily(Quartz), second),
            ("daily-skip", daily(Skip), first),
            ("daily-twice", daily(Twice), both),
            (
                "monthly",
                from("2027-08-31T02:30:00+02:00", each(1, CalendarUnit::Month, Smart)),
                &["31 02:30+02"],
            ),
            (
                "half-days",
                from("2027-10-30T14:30:00Z", each(12, CalendarUnit::Hour, Smart)),
                &["30 16:30+02", "31 03:30+01", "31 15:30+01", "01 03:30+01"],
            ),
            (
                "window",
                window(HOUR, "01:00", "04:00", Weekdays::ALL),
                &[
                    "31 01:00+02",
                    "31 02:00+02",
                    "31 02:00+01",
                    "31 03:00+01",
                    "31 04:00+01",
                    "01 01:00+01",
                    "01 02:00+01",
                    "01 03:00+01",
                    "01 04:00+01",
                ],
            ),
            (
                "sunday-window",
                window(30 * MINUTE, "02:15", "03:30", SUNDAY),
                &["31 02:15+02", "31 02:45+02", "31 02:15+01", "31 02:45+01", "31 03:15+01"],
            ),
            (
                "delay",
                between("2027-10-30T23:45:00Z", "2027-10-31T02:45:00Z", delay(45 * MINUTE)),
                &["31 01:45+02", "31 02:30+02", "31 02:15+01", "31 03:00+01"],
            ),
            ("once", once("2027-10-31T01:00:00Z"), &["31 02:00+01"]),
            (
                "excluded",
                under("not-at-two", cron("0 0/30 1-3 * * ?", Twice)),
                &[
                    "31 01:00+02",
                    "31 01:30+02",
                    "31 03:00+01",
                    "31 03:30+01",
                    "01 01:00+01",
                    "01 01:30+01",
                    "01 03:00+01",
                    "01 03:30+01",
                ],
            ),
            ("included", under("sundays", cron(nightly, Smart)), &["31 02:30+02"]),
        ],
    );
}
