//! Calendars as objects of the cluster: kept whole, and their changes planned anew.

use super::super::command::*;
use super::super::invariants;
use super::super::outcome::{Outcome, Reject};
use super::super::snapshot::{Restore, records};
use super::super::state::Limits;
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

#[test]
fn a_change_does_not_begin_a_delay_anew() {
    let mut m = Machine::new();
    m.ok(weekly("c", 1, None));
    let every = TriggerRule::FixedDelay { delay: Span::secs(60) };
    let rule = RuleSpec { calendars: vec![name("c")], ..RuleSpec::new(every) };
    let mut delayed = cron("bound");
    delayed.kind = TriggerKind::Rule(Box::new(rule));
    let job = m.job(JobSpec { triggers: vec![delayed], ..spec("j") });
    let begun = m.now;
    let plan = |m: &mut Machine, at: i64| {
        let batch = m.batch(job, source("bound"), &[(at, vec![])]);
        m.ok(Command::PlanActions(vec![batch]));
    };
    plan(&mut m, begun + 60_000);
    for days in 2..5 {
        m.after(15_000);
        m.ok(weekly("c", days, None));
        assert_eq!(m.state.cursor(job, &source("bound")), Some(UtcMillis(begun)));
        plan(&mut m, begun + 60_000);
    }
    // What is due stays, and is counted from its end.
    m.after(20_000);
    m.ok(weekly("c", 6, None));
    assert_eq!(m.state.cursor(job, &source("bound")), Some(UtcMillis(begun + 60_000)));
    assert_eq!(m.state.live_actions(), 1);
}

fn few_at_once() -> Limits {
    Limits { sweep: 3, ..Limits::default() }
}

/// Jobs under two calendars, one based on the other, each planned to the same instants.
fn many(m: &mut Machine, count: usize) -> Vec<JobId> {
    m.ok(weekly("base", 1, None));
    m.ok(weekly("top", 1, Some("base")));
    let spec = |n: usize| bound(&format!("j{n}"), ["base", "top"][n % 2]);
    let jobs: Vec<JobId> = (0..count).map(|n| m.job(spec(n))).collect();
    let at = m.now + 20_000;
    let planned = jobs.iter().map(|job| m.plan(*job, &[(at, vec![]), (at + 9_000, vec![])]));
    assert!(planned.into_iter().all(|outcome| outcome == (2, 0)));
    jobs
}

/// How many of them still have the plan that they had.
fn old(m: &Machine, jobs: &[JobId]) -> usize {
    jobs.iter().filter(|job| m.state.live_actions_of(**job).next().is_some()).count()
}

fn replanned(m: &mut Machine, days: u8) -> u32 {
    match m.ok(weekly("base", days, None)) {
        Outcome::Calendar { replanned, .. } => replanned,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_change_that_many_jobs_rest_on_comes_to_a_few_a_command() {
    let mut m = Machine::with(few_at_once());
    let jobs = many(&mut m, 8);
    assert_eq!((replanned(&mut m, 2), old(&m, &jobs)), (3, 5));
    assert_eq!(m.state.jobs_under(&name("base")), 8);
    assert_eq!(m.state.next_timer(), Some(UtcMillis(m.now)), "a tick goes on with it");
    // Whom it has not come to gets no more by cursors that go back, and whom it has come
    // to is planned again. The command that asks comes to three more.
    let at = m.now + 50_000;
    let batches = jobs.iter().map(|job| m.batch(*job, source("bound"), &[(at, vec![])]));
    let plan = Command::PlanActions(batches.collect());
    assert_eq!(m.ok(plan), Outcome::Planned { created: 3, refused: 5 });
    assert_eq!(m.state.cursor(jobs[7], &source("bound")), Some(UtcMillis(m.now + 29_000)));
    assert!(m.state.is_replanning(&name("base")));
    // What comes due meanwhile fires by the plan that its job has.
    let stands = |m: &Machine, job: JobId| m.state.action(key(job, m.now + 20_000)).is_some();
    assert_eq!(jobs.iter().filter(|job| stands(&m, **job)).count(), 2);
    // A trigger without the calendar is not held up.
    let free = m.batch(jobs[7], source("free"), &[(at, vec![])]);
    assert_eq!(m.ok(Command::PlanActions(vec![free])), Outcome::Planned { created: 1, refused: 0 });
    assert!(!m.state.is_replanning(&name("base")));
    assert_ne!(m.state.next_timer(), Some(UtcMillis(m.now)));
    let stands = |m: &Machine, job: JobId| m.state.action(key(job, m.now + 20_000)).is_some();
    assert!(!jobs.iter().any(|job| stands(&m, *job)));
    for job in &jobs[3..] {
        assert_eq!(m.plan(*job, &[(m.now + 70_000, vec![])]).1, 0);
    }
}

#[test]
fn a_step_is_short_even_if_each_job_has_much() {
    let mut m = Machine::new();
    m.ok(weekly("base", 1, None));
    let jobs: Vec<JobId> = (0..5).map(|n| m.job(bound(&format!("j{n}"), "base"))).collect();
    for job in &jobs {
        let instants: Vec<_> = (1..=900).map(|n| (m.now + n * 1_000, vec![])).collect();
        assert_eq!(m.plan(*job, &instants), (900, 0));
    }
    // Each withdrawn action counts: the third job is the last that fits.
    assert_eq!((replanned(&mut m, 2), old(&m, &jobs)), (3, 2));
    m.after(1);
    assert_eq!((m.state.is_replanning(&name("base")), old(&m, &jobs)), (false, 0));
}

#[test]
fn a_change_of_a_change_and_a_change_of_leader_leave_nobody_out() {
    let mut m = Machine::with(few_at_once());
    let jobs = many(&mut m, 8);
    replanned(&mut m, 2);
    // The first ones are planned by the second definition when the third comes.
    let batches = jobs[..6].iter().step_by(2);
    let batches = batches.map(|job| m.batch(*job, source("bound"), &[(m.now + 50_000, vec![])]));
    let plan = Command::PlanActions(batches.collect());
    assert_eq!(m.ok(plan), Outcome::Planned { created: 3, refused: 0 });
    assert_eq!(old(&m, &jobs), 5, "two by the first definition, three by the second");
    // The leader's own command is a step of the old change before it begins the new one.
    assert_eq!((replanned(&mut m, 4), old(&m, &jobs)), (3, 0));
    assert!(m.state.is_replanning(&name("base")));
    // Another leader goes on, from a snapshot as well as from the log.
    let mut restore = Restore::new(few_at_once());
    for record in records(&m.state) {
        restore.push(&record).unwrap();
    }
    let restored = restore.finish().unwrap();
    assert_eq!(restored.hash(), m.state.hash());
    m.state = restored;
    m.now += 5_000;
    m.ok(Command::LeaderStarted(leader(2)));
    assert!(m.state.is_replanning(&name("base")));
    m.after(1).after(1);
    assert!(!m.state.is_replanning(&name("base")));
    for job in &jobs {
        assert_eq!(m.plan(*job, &[(m.now + 50_000, vec![])]), (1, 0));
    }
}

/// As a person's command: it makes no step of what is under way.
fn by_user(m: &mut Machine, command: Command) -> Outcome {
    m.index += 1;
    let envelope = Envelope { actor: Actor::User("ann".to_owned()), request: None, command };
    let now = UtcMillis(m.now);
    let applied = m.state.apply(Entry { index: m.index, now, command: &envelope });
    assert!(!matches!(applied.outcome, Outcome::Rejected(_)), "{:?}", applied.outcome);
    assert_eq!(invariants::check(&m.state), Ok(()));
    applied.outcome
}

#[test]
fn edits_and_deletions_in_the_middle_of_a_change_fit_in() {
    let mut m = Machine::with(few_at_once());
    let jobs = many(&mut m, 8);
    m.ok(weekly("other", 1, None));
    // Each change comes to three at once, and begins anew for the next one.
    for days in [2, 4] {
        by_user(&mut m, weekly("base", days, None));
        assert_eq!(old(&m, &jobs), 5);
    }
    // Before their turn one goes to another calendar, one is deleted, one comes.
    by_user(&mut m, apply(bound("j7", "other")));
    by_user(&mut m, Command::DeleteJob { job: jobs[5], expected: None });
    by_user(&mut m, apply(bound("late", "top")));
    let late = m.state.job_by_name(&name("late")).unwrap().id;
    assert_eq!(old(&m, &jobs), 3);
    let ask = [jobs[7], late, jobs[3]].map(|job| {
        let at = m.now + 50_000;
        m.batch(job, source("bound"), &[(at, vec![])])
    });
    for (batch, created) in ask.into_iter().zip([1, 0, 0]) {
        let outcome = by_user(&mut m, Command::PlanActions(vec![batch]));
        assert_eq!(outcome, Outcome::Planned { created, refused: 1 - created });
    }
    m.after(1).after(1);
    assert!(!m.state.is_replanning(&name("base")));
    for job in [late, jobs[3]] {
        assert_eq!(m.plan(job, &[(m.now + 50_000, vec![])]), (1, 0));
    }
    assert_eq!(old(&m, &[jobs[7]]), 1, "no change of its calendar");
    // What nobody names any more can go while its change is still on its way.
    by_user(&mut m, weekly("base", 1, None));
    assert!(m.state.is_replanning(&name("base")));
    let rest: Vec<JobId> = m.state.jobs_after(None).map(|job| job.id).collect();
    for job in rest {
        by_user(&mut m, Command::DeleteJob { job, expected: None });
    }
    by_user(&mut m, drop_calendar("top"));
    by_user(&mut m, drop_calendar("base"));
    assert!(!m.state.is_replanning(&name("base")));
}
