//! The picker and pools: none is overfilled by what is under way, and a full one
//! holds up nobody else.

use horai_core::ids::*;
use horai_core::machine::command::Command;
use horai_core::machine::outcome::Outcome;
use horai_core::model::job::JobSpec;
use horai_core::model::selector::Selector;

use super::support::*;
use crate::leader::picks::{Pick, Picker};

fn trigger(fake: &Fake, job: JobId) -> RunId {
    match fake.user(Command::TriggerJob { job }) {
        Outcome::Run { run } => run,
        other => panic!("{other:?}"),
    }
}

fn runs(picks: &[Pick]) -> Vec<RunId> {
    picks.iter().map(|pick| pick.run).collect()
}

/// Commits what was picked.
fn commit(fake: &Fake, picker: &mut Picker, picks: &[Pick]) {
    for pick in picks {
        let outcome = fake.apply(&pick.envelope(leader(1)));
        assert!(matches!(outcome, Outcome::Dispatched { .. }), "{pick:?}: {outcome:?}");
    }
    picker.settle(picks);
}

#[test]
fn what_is_under_way_counts_and_others_go_on() {
    let fake = Fake::new(false);
    fake.user(put_pool("p", 2));
    let worker = fake.worker("w", &["default"], 100);
    let (pooled, plain) = (fake.job(taking("a", &[("p", 1)])), fake.job(spec("b", &[], &[])));
    let waiting: Vec<RunId> = (0..4).map(|_| trigger(&fake, pooled)).collect();
    let behind = trigger(&fake, plain);
    let mut picker = Picker::new(fake.now());
    let pick = |picker: &mut Picker| picker.pick(&fake.view(), &[worker], fake.now(), 99);
    let first = pick(&mut picker);
    assert_eq!(runs(&first), [waiting[0], waiting[1], behind]);
    assert_eq!(pick(&mut picker), [], "two are under way");
    // What was not committed is tried again.
    picker.settle(&first);
    assert_eq!(pick(&mut picker), first);
    commit(&fake, &mut picker, &first);
    assert_eq!(pick(&mut picker), []);
    fake.complete_all();
    let next = pick(&mut picker);
    assert_eq!(runs(&next), waiting[2..]);
    assert_eq!(picker.wait(), None);
}

#[test]
fn a_run_that_takes_much_is_not_passed_for_ever() {
    let fake = Fake::new(false);
    fake.user(put_pool("p", 2));
    let worker = fake.worker("w", &["default"], 100);
    let (one, both) = (fake.job(taking("one", &[("p", 1)])), fake.job(taking("both", &[("p", 2)])));
    let mut picker = Picker::new(fake.now());
    let first = trigger(&fake, one);
    let picks = picker.pick(&fake.view(), &[worker], fake.now(), 1);
    assert_eq!(runs(&picks), [first]);
    commit(&fake, &mut picker, &picks);
    let large = trigger(&fake, both);
    let small = trigger(&fake, one);
    assert_eq!(picker.pick(&fake.view(), &[worker], fake.now(), 9), [], "kept for who is before");
    // Without a worker for it, nothing is kept.
    let elsewhere = JobSpec { worker_group: name("a"), ..taking("elsewhere", &[("p", 2)]) };
    trigger(&fake, fake.job(elsewhere));
    fake.complete_all();
    let picks = picker.pick(&fake.view(), &[worker], fake.now(), 9);
    assert_eq!(runs(&picks), [large]);
    commit(&fake, &mut picker, &picks);
    fake.complete_all();
    assert_eq!(runs(&picker.pick(&fake.view(), &[worker], fake.now(), 9)), [small]);
}

#[test]
fn thousands_behind_a_full_pool_cost_one_look_and_many_lines_take_turns() {
    let fake = Fake::new(false);
    let worker = fake.worker("w", &["default"], 10_000);
    let pools: Vec<String> = (0..=1_000).map(|n| format!("p{n:04}")).collect();
    let jobs: Vec<JobId> = pools
        .iter()
        .map(|pool| {
            fake.user(put_pool(pool, 1));
            fake.job(taking(pool, &[(pool, 1)]))
        })
        .collect();
    let (last, full) = jobs.split_last().unwrap();
    let mut picker = Picker::new(fake.now());
    for job in full {
        trigger(&fake, *job);
    }
    let picks = picker.pick(&fake.view(), &[worker], fake.now(), 1_000);
    assert_eq!(picks.len(), 1_000);
    commit(&fake, &mut picker, &picks);
    for job in full.iter().chain(std::iter::repeat_n(&full[0], 4_000)) {
        trigger(&fake, *job);
    }
    // A thousand lines are looked at, and none of them can go.
    assert_eq!(picker.pick(&fake.view(), &[worker], fake.now(), 9), []);
    assert_eq!(picker.wait(), None);
    let run = trigger(&fake, *last);
    let mut found = Vec::new();
    for _ in 0..2 {
        found.extend(runs(&picker.pick(&fake.view(), &[worker], fake.now(), 9)));
        assert!(picker.wait().is_some(), "there are others to look at");
    }
    assert_eq!(found, [run]);
}

#[test]
fn a_label_that_no_worker_has_holds_up_nobody() {
    let fake = Fake::new(false);
    let worker = fake.worker("w", &["default"], 10);
    fake.user(put_pool("p", 1));
    let wanted = Some(Selector::read("gpu").unwrap());
    let stuck = fake.job(JobSpec { workers: wanted, ..taking("stuck", &[("p", 1)]) });
    let plain = fake.job(taking("plain", &[("p", 1)]));
    for _ in 0..9 {
        trigger(&fake, stuck);
    }
    let run = trigger(&fake, plain);
    let mut picker = Picker::new(fake.now());
    // Nothing of the pool is kept for those that may never run.
    assert_eq!(runs(&picker.pick(&fake.view(), &[worker], fake.now(), 9)), [run]);
}
