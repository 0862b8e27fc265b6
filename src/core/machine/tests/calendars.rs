//! Calendars as objects of the cluster: kept whole, and their changes planned anew.

use super::super::command::*;
use super::super::outcome::{Outcome, Reject};
use super::super::snapshot::{Restore, records};
use super::support::*;
use crate::ids::*;
use crate::model::action::ActionState;
use crate::model::calendar::{CalendarDef, CalendarRule};
use crate::model::job::{JobSpec, TriggerKind};
use crate::model::trigger::{RuleSpec, TriggerRule, Weekdays};
use crate::time::{Span, UtcMillis};

fn weekly(text: &str, days: u8, base: Option<&str>) -> Command {
    let def = CalendarDef {
        name: name(text),
        description: String::new(),
        zone: None,
        rule: CalendarRule::Weekly(Weekdays(days)),
        include_only: false,
        base: base.map(name),
    };
    Command::PutCalendar { def: Box::new(def), expected: None }
}

/// A job with a trigger under a calendar, `bound`, and one without, `free`.
fn bound(text: &str, calendar: &str) -> JobSpec {
    let every = TriggerRule::Interval { every: Span::secs(10), repeats: None };
    let rule = RuleSpec { calendars: vec![name(calendar)], ..RuleSpec::new(every) };
    let mut bound = cron("bound");
    bound.kind = TriggerKind::Rule(Box::new(rule));
    JobSpec { triggers: vec![bound, cron("free")], ..spec(text) }
}

fn source(name: &str) -> PlanSource {
    PlanSource::Trigger(TriggerName(name.into()))
}

fn drop_calendar(text: &str) -> Command {
    Command::DeleteCalendar { name: name(text), expected: None }
}

#[test]
fn calendars_stay_whole() {
    let mut m = Machine::new();
    assert_eq!(m.refused(weekly("b", 1, Some("a"))), Reject::NoSuchCalendar(name("a")));
    let made = |revision, changed| Outcome::Calendar {
        revision: Revision(revision),
        changed,
        replanned: 0,
    };
    assert_eq!(m.ok(weekly("a", 1, None)), made(1, true));
    assert_eq!(m.ok(weekly("a", 1, None)), made(1, false));
    assert_eq!(m.ok(weekly("a", 2, None)), made(2, true));
    m.ok(weekly("b", 1, Some("a")));
    m.ok(weekly("c", 1, Some("b")));
    let Reject::CalendarCycle { path } = m.refused(weekly("a", 1, Some("c"))) else {
        panic!("a circle was taken");
    };
    assert_eq!(path, ["a", "c", "b", "a"].map(name));
    assert!(matches!(m.refused(weekly("a", 1, Some("a"))), Reject::CalendarCycle { .. }));
    // One in use cannot be deleted.
    let job = m.job(bound("j", "c"));
    let in_use = m.refused(drop_calendar("c"));
    assert_eq!(in_use.to_string(), "calendar c is in use by jobs j");
    assert_eq!(m.refused(drop_calendar("b")).to_string(), "calendar b is in use by calendars c");
    assert_eq!(m.refused(drop_calendar("x")), Reject::NoSuchCalendar(name("x")));
    let unknown = m.refused(apply(bound("k", "x")));
    assert!(matches!(unknown, Reject::Invalid { field, .. } if field == "triggers[0].calendars"));
    // A revision that is another one.
    let stale = Command::DeleteCalendar { name: name("c"), expected: Some(Revision(7)) };
    assert!(matches!(m.refused(stale), Reject::WrongRevision { .. }));
    let mut restore = Restore::default();
    for record in records(&m.state) {
        restore.push(&record).unwrap();
    }
    let restored = restore.finish().unwrap();
    assert_eq!(restored.calendars_after(None).count(), 3);
    assert_eq!(restored.index, m.state.index);
    m.ok(Command::DeleteJob { job, expected: None });
    for calendar in ["c", "b", "a"] {
        m.ok(drop_calendar(calendar));
    }
    assert_eq!(m.state.calendars_after(None).count(), 0);
}

#[test]
fn a_chain_has_an_end() {
    let mut m = Machine::new();
    m.ok(weekly("c0", 1, None));
    for n in 1..CalendarDef::MAX_CHAIN {
        m.ok(weekly(&format!("c{n}"), 1, Some(&format!("c{}", n - 1))));
    }
    let last = format!("c{}", CalendarDef::MAX_CHAIN - 1);
    assert!(matches!(m.refused(weekly("over", 1, Some(&last))), Reject::TooLarge { .. }));
    // Nor can it grow at the other end.
    m.ok(weekly("below", 1, None));
    assert!(matches!(m.refused(weekly("c0", 1, Some("below"))), Reject::TooLarge { .. }));
}

#[test]
fn a_change_plans_anew_what_is_not_due() {
    let mut m = Machine::new();
    m.ok(weekly("base", 1, None));
    m.ok(weekly("top", 2, Some("base")));
    let job = m.job(bound("j", "top"));
    let down = m.job(after_jobs("down", &[job]));
    let base = m.now;
    let plan = |m: &mut Machine, name: &str, at: &[i64]| {
        let instants: Vec<_> = at.iter().map(|at| (*at, vec![])).collect();
        let batch = m.batch(job, source(name), &instants);
        let seen = m.state.applied_index();
        m.ok(Command::PlanUnder { seen, batches: vec![batch] })
    };
    plan(&mut m, "bound", &[base + 1_000, base + 20_000, base + 30_000]);
    plan(&mut m, "free", &[base + 5_000, base + 30_000]);
    let ups = [20_000, 30_000].map(|at| (base + at, vec![key(job, base + at)]));
    m.plan(down, &ups);
    m.after(2_000);
    let late = m.batch(job, source("bound"), &[(base + 40_000, vec![])]);
    let seen = m.state.applied_index();
    let outcome = m.ok(weekly("base", 3, None));
    assert!(matches!(outcome, Outcome::Calendar { replanned: 1, .. }), "{outcome:?}");
    // What is due stays, and so does what another trigger claims.
    let state_of = |m: &Machine, at: i64| m.state.action(key(job, base + at)).map(|a| a.state);
    assert_eq!(state_of(&m, 1_000), Some(ActionState::Ready));
    assert_eq!(state_of(&m, 20_000), None);
    let shared = m.state.action(key(job, base + 30_000)).unwrap();
    assert_eq!(shared.triggers, [TriggerName("free".into())]);
    assert_eq!(m.state.cursor(job, &source("bound")), Some(UtcMillis(m.now)));
    assert_eq!(m.state.cursor(job, &source("free")), Some(UtcMillis(base + 30_000)));
    assert!(m.state.action(key(down, base + 20_000)).is_none(), "its upstream is gone");
    assert_eq!(m.state.cursor(down, &PlanSource::Dependencies), Some(UtcMillis(m.now)));
    // What was computed before the change is refused, whatever the cursors say.
    let stale = Command::PlanUnder { seen, batches: vec![late] };
    assert_eq!(m.refused(stale), Reject::StalePlan(seen));
    assert_eq!(
        plan(&mut m, "bound", &[base + 40_000]),
        Outcome::Planned { created: 1, refused: 0 }
    );
}
