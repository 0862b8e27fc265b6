//! Random days: jobs are edited, time passes, leaders change, events and
//! answers get lost. Every instant is planned once, every run dispatched once.

use std::collections::{BTreeMap, BTreeSet};

use horai_core::ids::*;
use horai_core::machine::command::*;
use horai_core::machine::outcome::Outcome;
use horai_core::time::UtcMillis;
use horai_core::timing::schedule::Schedule;
use proptest::prelude::*;

use super::planning::plan_all;
use super::support::*;
use crate::leader::events::{Changed, Wants};
use crate::leader::picks::Picker;
use crate::leader::plan_book::PlanBook;
use crate::leader::ports::own;

const CRONS: [&str; 5] =
    ["* * * * * ?", "0/7 * * * * ?", "0 * * * * ?", "0 0/10 * * * ?", "0 0 * * * ?"];

#[derive(Debug, Clone)]
enum Step {
    /// A job of its own instants.
    Job(usize),
    /// A job that depends on some of those there are.
    Derived(Vec<usize>),
    Pass(u64),
    /// The planner hears its events, and plans.
    Plan,
    /// The planner's proposal is applied, and it never hears of it.
    PlanUnheard,
    /// Another leader: nothing but the state is left.
    NewLeader,
    /// A mailbox ran over.
    Overflow,
    Tick,
    /// Dispatches are chosen, and so many of them are applied.
    Dispatch(usize),
    Complete,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..CRONS.len()).prop_map(Step::Job),
        1 => prop::collection::vec(0..6_usize, 1..3).prop_map(Step::Derived),
        4 => prop_oneof![0..500_u64, 0..30_000_u64, 0..900_000_u64].prop_map(Step::Pass),
        4 => Just(Step::Plan),
        1 => Just(Step::PlanUnheard),
        1 => Just(Step::NewLeader),
        1 => Just(Step::Overflow),
        4 => Just(Step::Tick),
        4 => (0..300_usize).prop_map(Step::Dispatch),
        3 => Just(Step::Complete),
    ];
    prop::collection::vec(step, 1..60)
}

fn dispatch(fake: &Fake, picker: &mut Picker, worker: WorkerId, most: usize) -> Vec<RunId> {
    let picks = picker.pick(&fake.view(), &[worker], fake.now(), 256);
    let mut started = Vec::new();
    for pick in picks.iter().take(most) {
        match fake.apply(&pick.envelope(leader(1))) {
            Outcome::Dispatched { .. } => started.push(pick.run),
            other => panic!("{pick:?}: {other:?}"),
        }
    }
    picker.settle(&picks);
    started
}

/// What was promised of one job's instants up to now.
fn check_instants(fake: &Fake, job: JobId, cron: &str) -> Result<(), TestCaseError> {
    let view = fake.view();
    let created = view.job(job).unwrap().created;
    let schedule = Schedule::of(&self::cron(cron), None, "UTC").unwrap();
    let missed: Vec<(UtcMillis, UtcMillis)> =
        view.missed_of(job).map(|missed| (missed.from, missed.to)).collect();
    let wanted: BTreeSet<UtcMillis> = schedule
        .after(created)
        .take_while(|at| *at <= fake.now())
        .filter(|at| !missed.iter().any(|(from, to)| (*from..=*to).contains(at)))
        .collect();
    let actions = view.actions_of(job, UtcMillis(0), fake.now());
    let have: BTreeSet<UtcMillis> = actions.map(|(key, _)| key.nominal).collect();
    let floor = view.floor(job).unwrap_or_default();
    let kept: BTreeSet<UtcMillis> = wanted.into_iter().filter(|at| *at > floor).collect();
    let have: BTreeSet<UtcMillis> = have.into_iter().filter(|at| *at > floor).collect();
    prop_assert_eq!(have, kept, "job {} {}", job, cron);
    Ok(())
}

/// A derived job has an action for each instant that all its upstreams have.
fn check_derived(fake: &Fake, job: JobId) -> Result<(), TestCaseError> {
    let view = fake.view();
    let found = view.job(job).unwrap();
    let has = |up: JobId, at: UtcMillis| {
        view.action(ActionKey { job: up, nominal: at }).is_some()
            || view.floor(up).is_some_and(|floor| at <= floor)
    };
    let first = found.spec.depends_on[0].job;
    let floor = view.floor(job).unwrap_or_default();
    for (key, _) in view.actions_of(first, found.created, fake.now()) {
        let at = key.nominal;
        if at <= found.created || at <= floor {
            continue;
        }
        let wanted = found.spec.depends_on.iter().all(|edge| has(edge.job, at));
        let have = view.action(ActionKey { job, nominal: at }).is_some();
        prop_assert!(have || !wanted, "job {} has no action at {}", job, at);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_instant_is_planned_once_and_every_run_dispatched_once(steps in steps()) {
        let fake = Fake::new(false);
        let worker = fake.worker("w", &["default"], 10_000);
        let mut book = PlanBook::default();
        let mut news = fake.hub.subscribe(Wants::JOBS);
        let mut picker = Picker::new(fake.now());
        let mut started: BTreeMap<RunId, u32> = BTreeMap::new();
        let mut jobs: Vec<(JobId, Option<&str>)> = Vec::new();
        let hear = |book: &mut PlanBook, news: &mut crate::leader::events::Receiver| {
            book.changed(&fake.view(), &news.take().jobs, fake.now());
        };
        let end = [Step::Plan, Step::Tick, Step::Dispatch(256), Step::Complete];
        let calm = std::iter::repeat_n(end, 40).flatten().chain([Step::Pass(500)]);
        for step in steps.iter().cloned().chain(calm) {
            match step {
                Step::Job(which) if jobs.len() < 8 => {
                    let cron = CRONS[which];
                    let job = fake.job(spec(&format!("j{}", jobs.len()), &[cron], &[]));
                    jobs.push((job, Some(cron)));
                }
                Step::Derived(ups) if jobs.len() < 8 && !jobs.is_empty() => {
                    let ups: BTreeSet<JobId> =
                        ups.iter().map(|up| jobs[up % jobs.len()].0).collect();
                    let ups: Vec<JobId> = ups.into_iter().collect();
                    let job = fake.job(spec(&format!("j{}", jobs.len()), &[], &ups));
                    jobs.push((job, None));
                }
                Step::Job(_) | Step::Derived(_) => {}
                Step::Pass(ms) => fake.pass(ms),
                Step::Plan => {
                    hear(&mut book, &mut news);
                    plan_all(&fake, &mut book);
                }
                Step::PlanUnheard => {
                    hear(&mut book, &mut news);
                    let round = book.plan(&fake.view(), fake.now());
                    if !round.batches.is_empty() {
                        let before = fake.view();
                        fake.apply(&own(leader(1), Command::PlanActions(round.batches.clone())));
                        // The answer is lost, and what is looked at is behind: the
                        // event will say so.
                        book.settle(&before, round, fake.now());
                    }
                }
                Step::NewLeader => {
                    book = PlanBook::default();
                    news = fake.hub.subscribe(Wants::JOBS);
                    book.scan(&fake.view(), fake.now());
                    picker = Picker::new(fake.now());
                }
                Step::Overflow => {
                    news.take();
                    book.changed(&fake.view(), &Changed::All, fake.now());
                }
                Step::Tick => {
                    fake.apply(&own(leader(1), Command::Tick));
                }
                Step::Dispatch(most) => {
                    for run in dispatch(&fake, &mut picker, worker, most) {
                        *started.entry(run).or_default() += 1;
                    }
                }
                Step::Complete => {
                    fake.complete_all();
                }
            }
        }
        // Whatever is late but for the pace goes now.
        hear(&mut book, &mut news);
        plan_all(&fake, &mut book);
        for _ in 0..600 {
            fake.apply(&own(leader(1), Command::Tick));
            if fake.view().queue_len() == 0 && fake.complete_all() == 0 {
                break;
            }
            fake.pass(250);
            for run in dispatch(&fake, &mut picker, worker, 256) {
                *started.entry(run).or_default() += 1;
            }
        }
        hear(&mut book, &mut news);
        plan_all(&fake, &mut book);
        for (job, cron) in &jobs {
            match cron {
                Some(cron) => check_instants(&fake, *job, cron)?,
                None => check_derived(&fake, *job)?,
            }
        }
        let twice: Vec<_> = started.iter().filter(|(_, times)| **times > 1).collect();
        prop_assert!(twice.is_empty(), "dispatched twice: {twice:?}");
        let view = fake.view();
        let waiting = view.queue_len();
        let never = view.runs_after(None).filter(|run| !started.contains_key(&run.id)).count();
        prop_assert!(never <= waiting, "{never} runs never started, {waiting} wait");
    }
}
