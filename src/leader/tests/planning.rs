//! Planner and picker, called step by step.

use std::collections::BTreeMap;
use std::sync::Arc;

use horai_core::ids::*;
use horai_core::machine::command::*;
use horai_core::machine::outcome::Outcome;
use horai_core::model::action::Upstream;
use horai_core::model::job::*;
use horai_core::time::{Span, UtcMillis};

use super::support::*;
use crate::leader::picks::{Pick, Picker};
use crate::leader::plan_book::PlanBook;
use crate::leader::ports::own;

/// Plans until the book has nothing to do now; returns the commands it took.
pub(super) fn plan_all(fake: &Fake, book: &mut PlanBook) -> usize {
    for commands in 0..10_000 {
        let view = fake.view();
        let now = fake.now().max(view.now());
        let round = book.plan(&view, now);
        assert!(
            round.batches.iter().map(|b| b.actions.len()).sum::<usize>() <= PlanBatch::MAX_ACTIONS
        );
        if round.batches.is_empty() {
            match book.next() {
                Some(at) if at <= now => {}
                Some(at) if at.since(now) == Span(1) => fake.pass(1),
                Some(_) | None => return commands,
            }
            continue;
        }
        let command = own(leader(1), round.command());
        let size = encode(&command).unwrap().len();
        assert!(size <= 48 << 10, "{size} bytes in one command");
        fake.apply(&command);
        book.settle(&fake.view(), round, now);
    }
    panic!("planning does not come to rest");
}

pub(super) fn fresh(fake: &Fake) -> PlanBook {
    let mut book = PlanBook::default();
    book.scan(&fake.view(), fake.now());
    book
}

fn planned(fake: &Fake, job: JobId) -> Vec<i64> {
    let view = fake.view();
    let all = view.actions_of(job, UtcMillis(0), UtcMillis::MAX);
    all.map(|(key, _)| (key.nominal.0 - START.0) / 1000).collect()
}

#[test]
fn windows_of_many_jobs_share_commands() {
    let fake = Fake::new(false);
    let jobs: Vec<JobId> =
        (0..300).map(|n| fake.job(spec(&format!("j{n}"), &["0 * * * * ?"], &[]))).collect();
    let mut book = fresh(&fake);
    let commands = plan_all(&fake, &mut book);
    for job in &jobs {
        assert_eq!(planned(&fake, *job), (1..=20).map(|m| m * 60).collect::<Vec<i64>>());
    }
    // 6,000 actions of 16 bytes and 300 batches are at most four values of 48 KiB, and
    // the first instant of each goes before.
    assert!((3..=5).contains(&commands), "{commands} commands");
    assert_eq!(plan_all(&fake, &mut book), 0, "nothing is planned twice");
    assert_eq!(plan_all(&fake, &mut fresh(&fake)), 0, "nor by the next leader");
    let next = book.next().unwrap();
    assert!(next > fake.now(), "{next}");
    fake.pass(next.since(fake.now()).0);
    assert!(plan_all(&fake, &mut book) > 0, "windows are filled again");
}

#[test]
fn near_instants_of_all_jobs_come_before_far_ones_of_some() {
    let fake = Fake::new(false);
    let jobs: Vec<JobId> =
        (0..1_200).map(|n| fake.job(spec(&format!("j{n}"), &["* * * * * ?"], &[]))).collect();
    let mut book = fresh(&fake);
    // With their whole windows they take 27 commands.
    for _ in 0..5 {
        let view = fake.view();
        let round = book.plan(&view, fake.now());
        fake.apply(&own(leader(1), Command::PlanActions(round.batches.clone())));
        book.settle(&fake.view(), round, fake.now());
    }
    for job in &jobs {
        assert!(planned(&fake, *job).starts_with(&[1, 2, 3, 4]), "the last of many is not late");
    }
    fake.pass(1);
    plan_all(&fake, &mut book);
    for job in &jobs {
        assert_eq!(planned(&fake, *job), (1..=64).collect::<Vec<i64>>(), "whole windows follow");
    }
}

#[test]
fn whole_windows_of_many_triggers_follow_their_first_instants() {
    let fake = Fake::new(false);
    let crons: Vec<String> = (4..14).map(|minute| format!("* {minute} * * * ?")).collect();
    let crons: Vec<&str> = crons.iter().map(String::as_str).collect();
    let jobs: Vec<JobId> =
        (0..100).map(|n| fake.job(spec(&format!("j{n}"), &crons, &[]))).collect();
    let mut book = fresh(&fake);
    plan_all(&fake, &mut book);
    for job in &jobs {
        assert_eq!(planned(&fake, *job).len(), 600);
    }
}

#[test]
fn dependants_follow_their_upstreams_to_any_depth() {
    let fake = Fake::new(false);
    let mut chain = vec![fake.job(spec("j0", &["0 * * * * ?"], &[]))];
    for n in 1..20 {
        let up = *chain.last().unwrap();
        chain.push(fake.job(spec(&format!("j{n}"), &[], &[up])));
    }
    let slow = fake.job(spec("slow", &["0 0/10 * * * ?"], &[]));
    let both = fake.job(spec("both", &[], &[chain[19], slow]));
    let mut book = fresh(&fake);
    plan_all(&fake, &mut book);
    for job in &chain {
        assert_eq!(planned(&fake, *job).len(), 20, "job {job}");
    }
    assert_eq!(planned(&fake, both), [600, 1200]);
    // A job with its own instants waits for the newest upstream action, where there is one.
    let own = fake.job(spec("own", &["0 0/5 * * * ?"], &[slow]));
    book.changed(&fake.view(), &crate::leader::events::Changed::All, fake.now());
    plan_all(&fake, &mut book);
    assert_eq!(planned(&fake, own), [300, 600, 900, 1200]);
    let view = fake.view();
    let waits: Vec<usize> = view
        .actions_of(own, UtcMillis(0), UtcMillis::MAX)
        .map(|(_, action)| action.upstream.iter().filter_map(Upstream::awaited).count())
        .collect();
    assert_eq!(waits, [0, 1, 1, 1]);
}

#[test]
fn a_trigger_that_has_ended_holds_nobody_up() {
    let fake = Fake::new(false);
    let twice = fake.job(spec("twice", &["0 0 0 * * ? 2020", "0 * * * * ?"], &[]));
    let down = fake.job(spec("down", &[], &[twice]));
    plan_all(&fake, &mut fresh(&fake));
    assert_eq!((planned(&fake, twice).len(), planned(&fake, down).len()), (20, 20));
    let ended = PlanSource::Trigger(TriggerName("0 0 0 * * ? 2020".into()));
    assert_eq!(fake.view().cursor(twice, &ended), Some(UtcMillis::MAX));
}

#[test]
fn one_bad_job_stops_no_other() {
    let fake = Fake::new(false);
    let bad = fake.job(spec("bad", &["never", "0 0 * * * ?"], &[]));
    let good = fake.job(spec("good", &["0 0 * * * ?"], &[]));
    let mut book = fresh(&fake);
    let round = book.plan(&fake.view(), fake.now());
    assert_eq!(round.troubles.iter().map(|(job, _)| *job).collect::<Vec<_>>(), [bad]);
    plan_all(&fake, &mut fresh(&fake));
    assert_eq!(planned(&fake, good), [3600]);
    assert_eq!(planned(&fake, bad), [3600], "its good trigger goes on");
    // Tried again with growing pauses, and told once.
    let mut book = fresh(&fake);
    let mut tries = 0;
    let mut told = 0;
    let begin = fake.now();
    while fake.now().since(begin) < Span::secs(600) {
        let now = fake.now();
        let round = book.plan(&fake.view(), now);
        told += round.troubles.len();
        tries += 1;
        fake.pass(book.next().unwrap().since(now).0.max(1));
    }
    assert_eq!(told, 1);
    assert!((8..=20).contains(&tries), "{tries} tries in ten minutes");
}

#[test]
fn paused_jobs_and_disabled_triggers_are_left_alone() {
    let fake = Fake::new(false);
    let mut off = spec("off", &["0 * * * * ?"], &[]);
    off.triggers[0].enabled = false;
    let off = fake.job(off);
    let paused = fake.job(spec("paused", &["0 * * * * ?"], &[]));
    fake.user(Command::PauseJob { job: paused });
    let mut book = fresh(&fake);
    assert_eq!(plan_all(&fake, &mut book), 0);
    assert!(planned(&fake, off).is_empty() && planned(&fake, paused).is_empty());
    fake.user(Command::ResumeJob { job: paused });
    let jobs = crate::leader::events::Changed::Some(vec![paused, off]);
    book.changed(&fake.view(), &jobs, fake.now());
    plan_all(&fake, &mut book);
    assert_eq!(planned(&fake, paused).len(), 20);
}

#[test]
fn a_refused_plan_is_made_anew() {
    let fake = Fake::new(false);
    let job = fake.job(spec("a", &["0 * * * * ?"], &[]));
    let mut book = fresh(&fake);
    let now = fake.now();
    let round = book.plan(&fake.view(), now);
    // Edited while the plan is under way.
    fake.job(spec("a", &["0 0/2 * * * ?"], &[]));
    let command = own(leader(1), round.command());
    assert_eq!(fake.apply(&command), Outcome::Planned { created: 0, refused: 1 });
    assert_eq!(book.settle(&fake.view(), round, now), 1);
    assert_eq!(book.next(), Some(now), "the first new try is at once");
    plan_all(&fake, &mut book);
    assert_eq!(planned(&fake, job), (1..=10).map(|n| n * 120).collect::<Vec<i64>>());
}

fn ready(fake: &Arc<Fake>, jobs: &[(&str, &str, u8)]) -> BTreeMap<RunId, String> {
    let mut runs = BTreeMap::new();
    for (text, group, priority) in jobs {
        let job = fake.job(JobSpec {
            worker_group: name(group),
            priority: *priority,
            ..spec(text, &[], &[])
        });
        match fake.user(Command::TriggerJob { job }) {
            Outcome::Run { run } => runs.insert(run, (*text).to_owned()),
            other => panic!("{other:?}"),
        };
        fake.pass(1);
    }
    runs
}

fn picked(picks: &[Pick], names: &BTreeMap<RunId, String>) -> Vec<String> {
    picks.iter().map(|pick| names[&pick.run].clone()).collect()
}

#[test]
fn groups_take_turns_and_a_starved_one_blocks_nobody() {
    let fake = Fake::new(false);
    let names = ready(
        &fake,
        &[("a1", "a", 5), ("a2", "a", 5), ("b1", "b", 5), ("c1", "c", 5), ("c2", "c", 9)],
    );
    let (a, c) = (fake.worker("wa", &["a"], 5), fake.worker("wc", &["c"], 1));
    let mut picker = Picker::new(fake.now());
    let view = fake.view();
    // Nobody serves b, and c has one slot: priority 9 gets it.
    let picks = picker.pick(&view, &[a, c], fake.now(), 2);
    assert_eq!(picked(&picks, &names), ["a1", "a2"]);
    let picks = picker.pick(&view, &[a, c], fake.now(), 2);
    assert_eq!(picked(&picks, &names), ["c2"]);
    assert_eq!(picker.pick(&view, &[a, c], fake.now(), 9), [], "all others are under way");
    picker.settle(&picks);
    let again = picker.pick(&view, &[a, c], fake.now(), 9);
    assert_eq!(picked(&again, &names), ["c2"], "what was not committed is tried again");
}

#[test]
fn each_tenth_is_the_oldest() {
    let fake = Fake::new(false);
    let low: Vec<String> = (0..3).map(|n| format!("low{n}")).collect();
    let high: Vec<String> = (0..40).map(|n| format!("high{n}")).collect();
    let low = low.iter().map(|text| (text.as_str(), "g", 0));
    let jobs: Vec<(&str, &str, u8)> =
        low.chain(high.iter().map(|text| (text.as_str(), "g", 9))).collect();
    let names = ready(&fake, &jobs);
    let worker = fake.worker("w", &["g"], 100);
    let picks = Picker::new(fake.now()).pick(&fake.view(), &[worker], fake.now(), 25);
    let order = picked(&picks, &names);
    let low: Vec<usize> =
        order.iter().enumerate().filter(|(_, n)| n.starts_with("low")).map(|(i, _)| i).collect();
    assert_eq!(low, [9, 19], "{order:?}");
    assert!(picks.iter().all(|pick| pick.number == 1));
}

#[test]
fn late_runs_come_last_and_at_a_pace() {
    let fake = Fake::new(false);
    let job = fake.job(spec("late", &["0/10 * * * * ?"], &[]));
    let worker = fake.worker("w", &["default"], 10_000);
    let mut book = fresh(&fake);
    fake.pass(3 * 3_600_000);
    plan_all(&fake, &mut book);
    fake.apply(&own(leader(1), Command::Tick));
    let waiting = fake.view().queue_len();
    assert!(waiting > 700, "{waiting} runs of job {job} wait");
    let mut picker = Picker::new(fake.now());
    let mut count = |ms: u64| {
        fake.pass(ms);
        picker.pick(&fake.view(), &[worker], fake.now(), 1_000).len()
    };
    // Seven are late by less than a minute, and are not held back.
    let first = count(0);
    assert_eq!(first, 7);
    assert_eq!([count(5), count(5), count(1_000)], [0, 1, 10]);
    // However often it is looked: no second has more than 200, and most have nearly so many.
    let steps: Vec<usize> = (0..3_000 / 20).map(|_| count(20)).collect();
    let seconds: Vec<usize> = steps.windows(1_000 / 20).map(|w| w.iter().sum()).collect();
    assert!(seconds.iter().all(|n| (180..=200).contains(n)), "{seconds:?}");
    assert!(picker.wait().is_some());
}
