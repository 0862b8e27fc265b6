//! Planner, machine and dispatcher together: fixed delays, calendars that change
//! under a plan, and pauses of a whole cluster.

use std::sync::Arc;

use horai_core::ids::*;
use horai_core::machine::command::*;
use horai_core::machine::outcome::{Outcome, Reject};
use horai_core::model::calendar::{CalendarDef, CalendarRule};
use horai_core::model::job::*;
use horai_core::model::pause::{AfterPause, PauseTarget};
use horai_core::model::trigger::{RuleSpec, TimeOfDay, TriggerRule};
use horai_core::time::{Span, UtcMillis};

use super::planning::plan_all;
use super::support::*;
use crate::leader::events::{Receiver, Wants};
use crate::leader::picks::Picker;
use crate::leader::plan_book::PlanBook;
use crate::leader::ports::own;

pub(super) struct World {
    pub(super) fake: Arc<Fake>,
    pub(super) book: PlanBook,
    news: Receiver,
    worker: WorkerId,
    picker: Picker,
}

impl World {
    pub(super) fn new() -> Self {
        let fake = Fake::new(false);
        Self {
            book: PlanBook::default(),
            news: fake.hub.subscribe(Wants::JOBS),
            worker: fake.worker("w", &["default"], 1_000),
            picker: Picker::new(fake.now()),
            fake,
        }
    }

    /// The planner hears what changed and nothing else, and plans.
    pub(super) fn plan(&mut self) {
        let changed = self.news.take().jobs;
        self.book.changed(&self.fake.view(), &changed, self.fake.now());
        plan_all(&self.fake, &mut self.book);
    }

    /// One round of everything after `ms`; what was dispatched ends in the next.
    pub(super) fn pass(&mut self, ms: u64) {
        self.fake.pass(ms);
        self.plan();
        self.fake.apply(&own(leader(1), Command::Tick));
        self.fake.complete_all();
        let view = self.fake.view();
        let picks = self.picker.pick(&view, &[self.worker], self.fake.now(), 256);
        for pick in &picks {
            self.fake.apply(&pick.envelope(leader(1)));
        }
        self.picker.settle(&picks);
        self.plan();
    }

    /// Nominal time and end of a job's actions, in seconds after the start.
    fn ends(&self, job: JobId) -> Vec<(i64, Option<i64>)> {
        let second = |at: UtcMillis| (at.0 - START.0) / 1000;
        let view = self.fake.view();
        let all = view.actions_of(job, UtcMillis(0), UtcMillis::MAX);
        all.map(|(key, action)| (second(key.nominal), action.finished.map(second))).collect()
    }

    fn nominals(&self, job: JobId) -> Vec<i64> {
        self.ends(job).into_iter().map(|(nominal, _)| nominal).collect()
    }
}

pub(super) fn ruled(text: &str, rule: RuleSpec, misfire: MisfirePolicy) -> JobSpec {
    let mut spec = spec(text, &["x"], &[]);
    spec.triggers[0].kind = TriggerKind::Rule(Box::new(rule));
    spec.triggers[0].misfire = misfire;
    spec
}

fn delay(seconds: u64) -> RuleSpec {
    RuleSpec::new(TriggerRule::FixedDelay { delay: Span::secs(seconds) })
}

fn every(seconds: u64, calendar: &str) -> RuleSpec {
    let every = TriggerRule::Interval { every: Span::secs(seconds), repeats: None };
    RuleSpec { calendars: vec![name(calendar)], ..RuleSpec::new(every) }
}

/// Excludes some minutes of each hour that the tests pass through.
fn minutes(text: &str, excluded: std::ops::Range<u32>) -> Command {
    let (hour, minute) = (START.0 / 3_600_000 % 24, START.0 / 60_000 % 60);
    let at = |offset: u32| {
        let minutes = u32::try_from(hour * 60 + minute).unwrap() + offset;
        TimeOfDay::new(minutes / 60 % 24, minutes % 60, 0).unwrap()
    };
    let def = CalendarDef {
        name: name(text),
        description: String::new(),
        zone: Some("UTC".to_owned()),
        rule: CalendarRule::Daily(vec![(at(excluded.start), at(excluded.end))]),
        include_only: false,
        base: None,
    };
    Command::PutCalendar { def: Box::new(def), expected: None }
}

#[test]
fn a_fixed_delay_follows_the_end_of_its_last_action() {
    let mut world = World::new();
    let job = world.fake.job(ruled("j", delay(10), MisfirePolicy::FireAll));
    let down = world.fake.job(spec("down", &[], &[job]));
    world.plan();
    assert_eq!(world.ends(job), [(10, None)], "and never a second one");
    world.pass(12_000);
    // Dispatched at 12, and it takes until 15.
    assert_eq!(world.ends(job), [(10, None)]);
    world.pass(3_000);
    assert_eq!(world.ends(job), [(10, Some(15)), (25, None)]);
    assert_eq!(world.nominals(down), [10, 25]);
    // Another leader finds what it needs in the state.
    world.book = PlanBook::default();
    world.book.scan(&world.fake.view(), world.fake.now());
    world.pass(10_000);
    world.pass(500);
    assert_eq!(world.ends(job)[1..], [(25, Some(25)), (36, None)], "a whole second, not before");
    let before = world.fake.proposals.lock().unwrap().len();
    world.plan();
    assert_eq!(world.fake.proposals.lock().unwrap().len(), before);
}

#[test]
fn a_late_delay_fires_once_or_is_left_out() {
    for (policy, nominals) in [
        (MisfirePolicy::FireAll, vec![10]),
        (MisfirePolicy::FireNow, vec![10]),
        // Left out, and the delay is counted from when that was decided.
        (MisfirePolicy::Skip, vec![310]),
    ] {
        let mut world = World::new();
        let job = world.fake.job(ruled("j", delay(10), policy));
        world.fake.pass(300_000);
        world.plan();
        assert_eq!(world.nominals(job), nominals, "{policy:?}");
        let view = world.fake.view();
        let missed: Vec<u64> = view.missed_of(job).map(|missed| missed.count).collect();
        let expected: &[u64] = if policy == MisfirePolicy::Skip { &[1] } else { &[] };
        assert_eq!(missed, expected, "{policy:?}");
        let is_late = view.actions_of(job, UtcMillis(0), UtcMillis::MAX).all(|(_, a)| a.catch_up);
        assert_eq!(is_late, policy != MisfirePolicy::Skip);
    }
}

#[test]
fn a_calendar_that_changes_changes_what_is_planned() {
    let mut world = World::new();
    assert_eq!(
        world.fake.user(minutes("c", 2..4)),
        Outcome::Calendar { revision: Revision(1), changed: true, replanned: 0 }
    );
    let job = world.fake.job(ruled("j", every(60, "c"), MisfirePolicy::FireAll));
    world.plan();
    let all = |excluded: std::ops::Range<i64>| -> Vec<i64> {
        (1..=40).filter(|n| !excluded.contains(n)).map(|n| n * 60).collect()
    };
    let planned = world.nominals(job);
    assert_eq!(planned, all(2..4)[..planned.len()]);
    // A round is under way while the calendar changes: it is refused, although no
    // cursor was moved by the change.
    let mut fresh = World { book: PlanBook::default(), ..World::new() };
    fresh.fake.user(minutes("c", 2..4));
    let job_there = fresh.fake.job(ruled("j", every(60, "c"), MisfirePolicy::FireAll));
    fresh.book.scan(&fresh.fake.view(), fresh.fake.now());
    let round = fresh.book.plan(&fresh.fake.view(), fresh.fake.now());
    fresh.fake.user(minutes("c", 5..9));
    let outcome = fresh.fake.apply(&own(leader(1), round.command()));
    assert!(matches!(outcome, Outcome::Rejected(Reject::StalePlan(_))), "{outcome:?}");
    fresh.book.settle(&fresh.fake.view(), round, fresh.fake.now());
    fresh.plan();
    let planned = fresh.nominals(job_there);
    assert_eq!(planned, all(5..9)[..planned.len()]);
    // And so is a plan that stands: what is due stays, what is ahead is other.
    world.pass(61_000);
    world.fake.user(minutes("c", 5..9));
    world.plan();
    let planned = world.nominals(job);
    assert_eq!(planned, all(5..9)[..planned.len()]);
}

#[test]
fn a_frozen_cluster_wakes_to_what_its_people_choose() {
    let run = |missed: AfterPause| {
        let mut world = World::new();
        let rule = TriggerRule::Interval { every: Span::secs(60), repeats: None };
        let jobs: Vec<JobId> =
            [MisfirePolicy::FireAll, MisfirePolicy::FireNow, MisfirePolicy::Skip]
                .iter()
                .enumerate()
                .map(|(n, policy)| {
                    world.fake.job(ruled(&format!("j{n}"), RuleSpec::new(rule.clone()), *policy))
                })
                .collect();
        world.plan();
        let target = PauseTarget::Cluster;
        world.fake.user(Command::Pause { target: target.clone() });
        world.pass(310_000);
        assert!(jobs.iter().all(|job| world.nominals(*job).is_empty()));
        world.fake.user(Command::Resume { target, missed });
        world.plan();
        let view = world.fake.view();
        let planned = |job: &JobId| -> Vec<i64> {
            world.nominals(*job).into_iter().filter(|at| *at <= 310).collect()
        };
        let recorded = |job: &JobId| view.missed_of(*job).map(|m| m.count).collect::<Vec<u64>>();
        jobs.iter().map(|job| (planned(job), recorded(job))).collect::<Vec<_>>()
    };
    // Nobody counted what passed; all of it is recorded.
    let nothing = (vec![], vec![0]);
    assert_eq!(run(AfterPause::Skip), [nothing.clone(), nothing.clone(), nothing]);
    // The last one is late by less than a minute: no misfire.
    assert_eq!(
        run(AfterPause::Misfire),
        [(vec![60, 120, 180, 240, 300], vec![]), (vec![240, 300], vec![3]), (vec![300], vec![4]),]
    );
}
