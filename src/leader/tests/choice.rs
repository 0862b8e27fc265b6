//! The picker and worker groups: who is too busy gets nothing, and what the group says of
//! the choice is done.

use std::collections::BTreeMap;

use horai_core::ids::*;
use horai_core::machine::command::Command;
use horai_core::machine::outcome::Outcome;
use horai_core::model::job::JobSpec;
use horai_core::model::resources::{Amounts, Resources};
use horai_core::model::worker::WorkerProfile;
use horai_core::model::worker_group::{Strategy, Thresholds, WorkerGroupDef};
use horai_core::placement::load::Load;

use super::support::*;
use crate::leader::picks::{Pick, Picker};

fn trigger(fake: &Fake, job: JobId) -> RunId {
    match fake.user(Command::TriggerJob { job }) {
        Outcome::Run { run } => run,
        other => panic!("{other:?}"),
    }
}

fn put_group(group: &str, strategy: Strategy, thresholds: Option<Thresholds>) -> Command {
    let (name, description) = (name(group), String::new());
    let def = WorkerGroupDef { name, strategy, thresholds, description };
    Command::PutWorkerGroup { def: Box::new(def), expected: None }
}

fn workers(picks: &[Pick]) -> Vec<WorkerId> {
    picks.iter().map(|pick| pick.worker).collect()
}

#[test]
fn who_is_too_busy_gets_nothing_until_it_is_not() {
    let fake = Fake::new(false);
    let all = [fake.worker("x", &["default"], 9), fake.worker("y", &["default", "other"], 9)];
    fake.user(put_group("default", Strategy::RoundRobin, Some(Thresholds::default())));
    let job = fake.job(spec("a", &[], &[]));
    let elsewhere = JobSpec { worker_group: name("other"), ..spec("b", &[], &[]) };
    let elsewhere = fake.job(elsewhere);
    for _ in 0..3 {
        trigger(&fake, job);
    }
    let mut picker = Picker::new(fake.now());
    let mut pick = |memory: [u32; 2]| {
        let load =
            |memory_permille| Load { memory_permille, per_core_permille: 999, is_closed: false };
        picker.look_at_loads(all.into_iter().zip(memory.map(load)).collect());
        let picks = picker.pick(&fake.view(), &all, fake.now(), 1);
        let chosen = workers(&picks);
        picker.settle(&picks);
        chosen
    };
    assert_eq!(pick([701, 701]), []);
    assert_eq!(pick([701, 700]), [all[1]]);
    assert_eq!(pick([701, 100]), [all[1]], "though it had its turn");
    assert_eq!(pick([100, 100]), [all[0]]);
    // A group whose workers are too busy for it holds up no other.
    trigger(&fake, elsewhere);
    assert_eq!(pick([900, 900]), [all[1]], "the other group has no limits");
}

#[test]
fn chance_and_load_choose_among_those_who_may() {
    let fake = Fake::new(false);
    let all: Vec<WorkerId> =
        ["w", "x", "y", "z"].iter().map(|name| fake.worker(name, &["default"], 30)).collect();
    let job = fake.job(spec("a", &[], &[]));
    for _ in 0..60 {
        trigger(&fake, job);
    }
    let counts = |picks: &[Pick]| -> Vec<usize> {
        let chosen = workers(picks);
        all.iter().map(|id| chosen.iter().filter(|worker| *worker == id).count()).collect()
    };
    fake.user(put_group("default", Strategy::Random, None));
    let by_chance = Picker::new(fake.now()).pick(&fake.view(), &all, fake.now(), 60);
    let spread = counts(&by_chance);
    assert!(spread.iter().all(|count| (5..=25).contains(count)), "{spread:?}");
    let in_turns: Vec<WorkerId> = (0..60).map(|n| all[n % 4]).collect();
    assert_ne!(workers(&by_chance), in_turns);
    // What is under way counts at once: the least busy is not sent everything.
    fake.user(put_group("default", Strategy::LeastLoaded, None));
    let mut picker = Picker::new(fake.now());
    let busy = |(place, id): (usize, &WorkerId)| {
        let memory_permille = if place == 0 { 950 } else { 100 };
        (*id, Load { memory_permille, ..Load::default() })
    };
    picker.look_at_loads(all.iter().enumerate().map(busy).collect());
    let picks = picker.pick(&fake.view(), &all, fake.now(), 60);
    assert_eq!(counts(&picks), [0, 20, 20, 20]);
}

#[test]
fn who_takes_much_of_a_worker_gets_it_one_day_and_what_never_fits_keeps_nothing() {
    let fake = Fake::new(false);
    let all = [fake.worker("x", &["default"], 3), fake.worker("y", &["default"], 2)];
    let takes = |text: &str, slots: u32| {
        fake.job(JobSpec { resources: Some(Resources::slots(slots)), ..spec(text, &[], &[]) })
    };
    let (one, three, four) = (takes("one", 1), takes("three", 3), takes("four", 4));
    let mut picker = Picker::new(fake.now());
    let mut pick = || {
        let picks = picker.pick(&fake.view(), &all, fake.now(), 99);
        for pick in &picks {
            let outcome = fake.apply(&pick.envelope(leader(1)));
            assert!(matches!(outcome, Outcome::Dispatched { .. }), "{pick:?}: {outcome:?}");
        }
        picker.settle(&picks);
        picks.iter().map(|pick| (pick.run, pick.worker)).collect::<Vec<_>>()
    };
    let [a, b] = [trigger(&fake, one), trigger(&fake, one)];
    assert_eq!(pick(), [(a, all[0]), (b, all[1])]);
    // Of these two the first never fits; for the second a worker is kept.
    trigger(&fake, four);
    let large = trigger(&fake, three);
    let small: Vec<RunId> = (0..3).map(|_| trigger(&fake, one)).collect();
    assert_eq!(pick(), [(small[0], all[1])], "the other worker is kept");
    assert_eq!(pick(), []);
    fake.complete_all();
    let picks = pick();
    assert_eq!(picks[0], (large, all[0]));
    assert_eq!(picks[1..], [(small[1], all[1]), (small[2], all[1])]);
}

#[test]
fn what_is_kept_for_one_is_no_more_than_it_takes() {
    let fake = Fake::new(false);
    let (gpu, memory) = (name("gpu"), 1 << 30);
    let amounts = |memory, gpus: u32| {
        let counts = BTreeMap::from([(gpu.clone(), gpus)]);
        Amounts { memory, cpu: 0, counts: if gpus > 0 { counts } else { BTreeMap::new() } }
    };
    let profile =
        WorkerProfile { amounts: amounts(4 * memory, 1), ..profile("w", &["default"], 4) };
    let Outcome::Worker { worker } = fake.user(Command::AttachWorker(Box::new(profile))) else {
        panic!("not attached")
    };
    let takes = |text: &str, amounts: Amounts| {
        let resources = Some(Resources { slots: 1, amounts });
        fake.job(JobSpec { resources, ..spec(text, &[], &[]) })
    };
    let on_gpu = takes("gpu", amounts(2 * memory, 1));
    let (small, large) = (takes("small", amounts(0, 0)), takes("large", amounts(memory, 0)));
    let mut picker = Picker::new(fake.now());
    let mut pick = || {
        let picks = picker.pick(&fake.view(), &[worker], fake.now(), 99);
        for pick in &picks {
            fake.apply(&pick.envelope(leader(1)));
        }
        picker.settle(&picks);
        picks.iter().map(|pick| pick.run).collect::<Vec<_>>()
    };
    let first = trigger(&fake, on_gpu);
    assert_eq!(pick(), [first]);
    // The next one waits for the GPU. Of what it takes besides, a slot and all memory that is
    // left are kept for it; the other two slots are not.
    trigger(&fake, on_gpu);
    trigger(&fake, large);
    let others = [trigger(&fake, small), trigger(&fake, small)];
    trigger(&fake, small);
    assert_eq!(pick(), others);
}
