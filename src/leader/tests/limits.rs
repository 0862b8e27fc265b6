//! The picker and limits of jobs: runs wait for workers that can hold them to these, and hold
//! up nobody else meanwhile.

use horai_core::ids::*;
use horai_core::machine::command::Command;
use horai_core::machine::outcome::Outcome;
use horai_core::model::confinement::{Confinement, Isolation, Power};
use horai_core::model::job::JobSpec;
use horai_core::model::worker::WorkerProfile;

use super::support::*;
use crate::leader::picks::{Pick, Picker};

fn trigger(fake: &Fake, job: JobId) -> RunId {
    match fake.user(Command::TriggerJob { job }) {
        Outcome::Run { run } => run,
        other => panic!("{other:?}"),
    }
}

fn able(fake: &Fake, text: &str, slots: u32, powers: &[Power]) -> WorkerId {
    let powers = powers.iter().copied().collect();
    let isolation = Box::new(Isolation { powers, ..Isolation::default() });
    let profile = WorkerProfile { isolation, ..profile(text, &["default"], slots) };
    match fake.user(Command::AttachWorker(Box::new(profile))) {
        Outcome::Worker { worker } => worker,
        other => panic!("{other:?}"),
    }
}

fn places(picks: &[Pick]) -> Vec<(RunId, WorkerId)> {
    picks.iter().map(|pick| (pick.run, pick.worker)).collect()
}

#[test]
fn a_run_with_limits_waits_for_who_enforces_them_and_holds_up_nobody() {
    let fake = Fake::new(false);
    let weak = able(&fake, "weak", 3, &[Power::Process]);
    let strong = able(&fake, "strong", 2, &[Power::Memory, Power::Pids]);
    let all = [weak, strong];
    let none = Confinement::default();
    let limited = |text: &str, confinement| JobSpec { confinement, ..spec(text, &[], &[]) };
    let memory = fake.job(limited("memory", Confinement { memory: Some(1 << 30), ..none.clone() }));
    let pids = fake.job(limited("pids", Confinement { pids: Some(9), ..none.clone() }));
    let umask = fake.job(limited("umask", Confinement { umask: Some(0), ..none }));
    let plain = fake.job(spec("plain", &[], &[]));
    let order = [memory, memory, pids, umask, plain, memory, plain];
    let runs: Vec<RunId> = order.into_iter().map(|job| trigger(&fake, job)).collect();
    let pick = |picker: &mut Picker, connected: &[WorkerId], most| {
        picker.pick(&fake.view(), connected, fake.now(), most)
    };
    // Nobody who could: others go on.
    let mut picker = Picker::new(fake.now());
    let picks = pick(&mut picker, &[weak], 9);
    assert_eq!(places(&picks), [3, 4, 6].map(|n: usize| (runs[n], weak)));
    picker.settle(&picks);
    // Who can is full after two; the others pass.
    let mut picker = Picker::new(fake.now());
    let picks = pick(&mut picker, &all, 9);
    let wanted = [(0, strong), (1, strong), (3, weak), (4, weak), (6, weak)];
    assert_eq!(places(&picks), wanted.map(|(n, worker): (usize, _)| (runs[n], worker)));
    for pick in &picks {
        fake.apply(&pick.envelope(leader(1)));
    }
    picker.settle(&picks);
    assert_eq!(pick(&mut picker, &all, 9), []);
    assert_eq!(picker.wait(), None, "there is nothing to look for");
    fake.complete_all();
    let picks = pick(&mut picker, &all, 9);
    assert_eq!(places(&picks), [2, 5].map(|n: usize| (runs[n], strong)));
}
