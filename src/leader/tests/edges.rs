//! Jobs that wait for others, planned by what definitions say: which action each waits
//! for, whether or not that is planned yet, and what becomes of it when those change.

use horai_core::ids::*;
use horai_core::machine::command::Command;
use horai_core::model::calendar::{CalendarDef, CalendarRule};
use horai_core::model::edge::{EdgeSpec, Matching, OnNoMatch};
use horai_core::model::job::{JobSpec, TriggerKind, TriggerSpec};
use horai_core::model::trigger::{Dialect, RuleSpec, TriggerRule, Weekdays};
use horai_core::time::UtcMillis;

use super::planning::{fresh, plan_all};
use super::support::*;
use crate::leader::events::Changed;
use crate::leader::plan_book::PlanBook;

const HOUR: u64 = 3_600_000;

fn edge(job: JobId, matching: Matching) -> EdgeSpec {
    EdgeSpec { matching, ..EdgeSpec::new(job) }
}

fn waits(text: &str, triggers: &[&str], edges: Vec<EdgeSpec>) -> JobSpec {
    JobSpec { depends_on: edges, ..spec(text, triggers, &[]) }
}

/// The job's actions and what each waits for, as hours and minutes, `-` where an edge
/// found nothing. It begins on a Saturday at 03:00.
fn plan_of(fake: &Fake, job: JobId) -> Vec<String> {
    let clock = |at: UtcMillis| {
        let minutes = at.0 / 60_000 - (START.0 / 60_000 - 180);
        let (day, minutes) = (minutes.div_euclid(1440), minutes.rem_euclid(1440));
        let day = if day == 0 { String::new() } else { format!("{day}d") };
        format!("{day}{:02}:{:02}", minutes / 60, minutes % 60)
    };
    let view = fake.view();
    let actions = view.actions_of(job, UtcMillis(0), UtcMillis::MAX);
    let shown = actions.map(|(key, action)| {
        let waits = action.upstream.iter().map(|up| {
            let name = &view.job(up.action.job).unwrap().spec.name;
            let at = up.awaited().map_or("-".to_owned(), |key| clock(key.nominal));
            format!(" {name}@{at}")
        });
        format!("{}{}", clock(key.nominal), waits.collect::<String>())
    });
    shown.collect()
}

fn plan_on(fake: &Fake, book: &mut PlanBook) {
    book.changed(&fake.view(), &Changed::All, fake.now());
    plan_all(fake, book);
}

/// Time goes on in steps of some minutes, as a planner would look.
fn go_on(fake: &Fake, book: &mut PlanBook, hours: u64) {
    for _ in 0..hours * 6 {
        fake.pass(HOUR / 6);
        fake.user(Command::Tick);
        plan_on(fake, book);
    }
}

#[test]
fn the_base_gives_the_instants_and_others_are_the_nearest_of_the_day() {
    let fake = Fake::new(false);
    let daily = fake.job(spec("daily", &["0 30 6 * * ?"], &[]));
    let hourly = fake.job(spec("hourly", &["0 0 * * * ?"], &[]));
    // Whichever is written first.
    let one = fake.job(waits("one", &[], vec![EdgeSpec::new(hourly), EdgeSpec::new(daily)]));
    let two = fake.job(waits("two", &[], vec![EdgeSpec::new(daily), EdgeSpec::new(hourly)]));
    let below = fake.job(waits("below", &[], vec![edge(one, Matching::Nearest)]));
    let mut book = fresh(&fake);
    go_on(&fake, &mut book, 4);
    assert_eq!(plan_of(&fake, one), ["06:30 daily@06:30 hourly@06:00"]);
    assert_eq!(plan_of(&fake, two), plan_of(&fake, one));
    assert_eq!(plan_of(&fake, below), ["06:30 one@06:30"]);
    assert_eq!(plan_all(&fake, &mut fresh(&fake)), 0, "the next leader finds nothing to do");
}

#[test]
fn what_is_not_planned_yet_is_waited_for_and_what_never_was_is_not() {
    let fake = Fake::new(false);
    let hourly = fake.job(spec("hourly", &["0 0 * * * ?"], &[]));
    let all = fake.job(waits("all", &["0 30 4 * * ?"], vec![edge(hourly, Matching::AllInPeriod)]));
    let before = vec![edge(hourly, Matching::PreviousPeriod)];
    let before = fake.job(waits("before", &["0 30 4 * * ?"], before));
    let skip =
        EdgeSpec { on_no_match: Some(OnNoMatch::Skip), ..edge(hourly, Matching::PreviousPeriod) };
    let skip = fake.job(waits("skip", &["0 30 4 * * ?"], vec![skip]));
    let mut book = fresh(&fake);
    go_on(&fake, &mut book, 1);
    // Jobs were made at 03:00: of that day there are 04:00 to 23:00, of the day before none.
    let hours: String = (4..24).map(|hour| format!(" hourly@{hour:02}:00")).collect();
    assert_eq!(plan_of(&fake, all), [format!("04:30{hours}")]);
    assert_eq!(plan_of(&fake, before), ["04:30 hourly@-"]);
    go_on(&fake, &mut book, 1);
    let key = ActionKey { job: skip, nominal: UtcMillis(START.0 + 5_400_000) };
    let state = fake.view().action(key).unwrap().state;
    assert_eq!(state.word(), "skipped");
}

#[test]
fn a_job_waits_for_its_own_last_action() {
    let fake = Fake::new(false);
    let own = vec![edge(EdgeSpec::OWN, Matching::LatestBefore)];
    let job = fake.job(waits("own", &["0 0 4,5 * * ?"], own));
    let mut book = fresh(&fake);
    go_on(&fake, &mut book, 26);
    assert_eq!(
        plan_of(&fake, job),
        [
            "04:00 own@-",
            "05:00 own@04:00",
            "1d04:00 own@05:00",
            "1d05:00 own@1d04:00",
            "2d04:00 own@1d05:00"
        ]
    );
}

#[test]
fn an_edit_or_a_calendar_has_what_is_ahead_matched_anew() {
    let fake = Fake::new(false);
    let calendar = |days: &str| Command::PutCalendar {
        def: Box::new(CalendarDef {
            name: name("days"),
            description: String::new(),
            zone: None,
            rule: CalendarRule::Weekly(days.parse::<Weekdays>().unwrap()),
            include_only: false,
            base: None,
        }),
        expected: None,
    };
    fake.user(calendar("SAT"));
    let bound = |hour: u32| {
        let rule =
            TriggerRule::Cron { expression: format!("0 0 {hour} * * ?"), dialect: Dialect::Quartz };
        let rule = RuleSpec { calendars: vec![name("days")], ..RuleSpec::new(rule) };
        let kind = TriggerKind::Rule(Box::new(rule));
        let triggers = vec![TriggerSpec { kind, ..cron("t") }];
        JobSpec { triggers, ..spec("up", &[], &[]) }
    };
    let up = fake.job(bound(6));
    let down = fake.job(waits("down", &["0 0 5 * * ?"], vec![edge(up, Matching::Nearest)]));
    let below = fake.job(waits("below", &["0 50 4 * * ?"], vec![edge(down, Matching::Nearest)]));
    let mut book = fresh(&fake);
    plan_all(&fake, &mut book);
    assert_eq!(plan_of(&fake, down), [""; 0], "there is nothing to wait for on a Saturday");
    fake.user(calendar("SUN"));
    fake.pass(1);
    fake.user(Command::Tick);
    plan_on(&fake, &mut book);
    assert_eq!(plan_of(&fake, down), ["05:00 up@06:00"]);
    assert_eq!(plan_of(&fake, below), ["04:50 down@05:00"]);
    fake.pass(1000);
    fake.job(bound(7));
    plan_on(&fake, &mut book);
    assert_eq!(plan_of(&fake, down), ["05:00 up@07:00"]);
    assert_eq!(plan_of(&fake, below), ["04:50 down@05:00"]);
}

#[test]
fn a_job_that_would_wait_for_too_much_stops_no_other() {
    let fake = Fake::new(false);
    let often = fake.job(spec("often", &["0/20 * * * * ?"], &[]));
    let all = fake.job(waits("all", &["0 5 3 * * ?"], vec![edge(often, Matching::AllInPeriod)]));
    let good = fake.job(waits("good", &["0 5 3 * * ?"], vec![edge(often, Matching::LatestBefore)]));
    let mut book = fresh(&fake);
    let mut troubles = Vec::new();
    for _ in 0..10 {
        let round = book.plan(&fake.view(), fake.now());
        troubles.extend(round.troubles.clone());
        if round.batches.is_empty() {
            break;
        }
        fake.apply(&crate::leader::ports::own(leader(1), round.command()));
        book.settle(&fake.view(), round, fake.now());
    }
    assert_eq!(plan_of(&fake, good), ["03:05 often@03:05"]);
    assert_eq!(troubles.len(), 1, "{troubles:?}");
    assert_eq!(troubles[0].0, all);
    assert!(troubles[0].1.contains("2000"), "{troubles:?}");
}
