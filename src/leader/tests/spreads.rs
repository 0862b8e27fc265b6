//! Runs on all workers: when they are split, and who is given their parts.

use horai_core::ids::*;
use horai_core::machine::command::Command;
use horai_core::machine::outcome::Outcome;
use horai_core::model::job::JobSpec;
use horai_core::model::part::RunOn;

use super::support::*;
use crate::leader::picks::Picker;
use crate::leader::spreads::steps;

fn trigger(fake: &Fake, job: JobId) -> RunId {
    match fake.user(Command::TriggerJob { job }) {
        Outcome::Run { run } => run,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_run_is_split_once_workers_are_there_and_each_part_goes_to_its_own() {
    let fake = Fake::new(false);
    let everywhere = fake.job(JobSpec { run_on: RunOn::AllWorkers, ..spec("all", &[], &[]) });
    let plain = fake.job(spec("plain", &[], &[]));
    let [whole, other] = [everywhere, plain].map(|job| trigger(&fake, job));
    fake.pass(6_000);
    assert_eq!(steps(&fake.view(), fake.now()), [], "there is nobody");
    let [a, b, c] = ["a", "b", "c"].map(|name| fake.worker(name, &["default"], 1));
    // What is not split yet is given to nobody, and holds up nobody.
    let mut picker = Picker::new(fake.now());
    let picks = picker.pick(&fake.view(), &[a, b, c], fake.now(), 9);
    assert_eq!(picks.iter().map(|pick| pick.run).collect::<Vec<_>>(), [other]);
    picker.settle(&picks);
    assert_eq!(steps(&fake.view(), fake.now()), [Command::Spread { run: whole }]);
    assert_eq!(fake.user(Command::Spread { run: whole }), Outcome::Done);
    assert_eq!(steps(&fake.view(), fake.now()), []);
    let part = |index| fake.view().part(whole, index).unwrap().id;
    // The second worker is away: its part waits, and the others go.
    let mut picker = Picker::new(fake.now());
    let picks = picker.pick(&fake.view(), &[a, c], fake.now(), 9);
    let mut places: Vec<_> = picks.iter().map(|pick| (pick.run, pick.worker)).collect();
    places.retain(|(run, _)| *run != other);
    places.sort_unstable();
    assert!(places.iter().all(|place| [(part(0), a), (part(2), c)].contains(place)));
    assert!(!places.is_empty(), "one of them has the slot that the plain run has not");
    for pick in &picks {
        fake.apply(&pick.envelope(leader(1)));
    }
    picker.settle(&picks);
    fake.complete_all();
    let picks = picker.pick(&fake.view(), &[a, b, c], fake.now(), 9);
    assert!(picks.iter().any(|pick| (pick.run, pick.worker) == (part(1), b)), "{picks:?}");
}
