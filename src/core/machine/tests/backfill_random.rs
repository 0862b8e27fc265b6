//! A back-fill that is interrupted in every way: paused, stopped, closed for the night,
//! its workers lost, its leader followed by another, its job edited or paused, its state
//! read back from a snapshot. Each instant is run once, with the definition of its begin.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::command::*;
use super::super::outcome::Outcome;
use super::super::snapshot::{Restore, records};
use super::support::*;
use crate::ids::*;
use crate::model::backfill::*;
use crate::model::job::{Backoff, JobSpec, RetryPolicy};
use crate::model::run::Run;
use crate::time::{Span, UtcMillis};

const INSTANTS: i64 = 12;
const AT_ONCE: u32 = 3;

#[derive(Debug, Clone)]
enum Step {
    Dispatch(usize),
    Complete(usize, i32),
    /// The worker's machine begins anew, and has nothing of what ran there.
    Lost,
    Steer(Steer),
    Open(bool),
    Leader,
    Edit(u8),
    PauseJob,
    ResumeJob,
    Cancel(usize),
    Pass(i64),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..9_usize).prop_map(Step::Dispatch),
        5 => (0..9_usize, 0..2_i32).prop_map(|(nth, code)| Step::Complete(nth, code)),
        1 => Just(Step::Lost),
        1 => Just(Step::Steer(Steer::Pause)),
        2 => Just(Step::Steer(Steer::Resume)),
        1 => prop::bool::weighted(0.7).prop_map(Step::Open),
        1 => Just(Step::Leader),
        1 => (0..10_u8).prop_map(Step::Edit),
        1 => Just(Step::PauseJob),
        1 => Just(Step::ResumeJob),
        1 => (0..9_usize).prop_map(Step::Cancel),
        3 => (0..3_000_i64).prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ];
    let stop = prop_oneof![5 => Just(None), 1 => (0..60_usize).prop_map(Some)];
    (prop::collection::vec(step, 1..90), stop).prop_map(|(mut steps, stop)| {
        if let Some(place) = stop {
            steps.insert(place.min(steps.len()), Step::Steer(Steer::Stop));
        }
        steps
    })
}

struct World {
    m: Machine,
    job: JobId,
    id: BackfillId,
    boots: u128,
    term: u64,
}

fn definition(priority: u8) -> JobSpec {
    let backoff = Backoff::Fixed { delay: Span::secs(1) };
    JobSpec { retries: RetryPolicy { count: 1, backoff }, priority, ..spec("a") }
}

impl World {
    fn new(newest_first: bool) -> Self {
        let mut m = Machine::new();
        m.worker("w", 2);
        let job = m.job(definition(5));
        let hours = Some(Hours { from: 0, until: 60 });
        let order = BackfillOrder {
            newest_first,
            hours,
            concurrency: AT_ONCE,
            ..backfill_of(job, INSTANTS)
        };
        let Outcome::Backfill { backfill: id } = m.ok(Command::StartBackfill(Box::new(order)))
        else {
            panic!("not begun")
        };
        m.ok(Command::OpenBackfill { backfill: id, open: true });
        Self { m, job, id, boots: 1, term: 1 }
    }

    fn of(&self) -> &Backfill {
        self.m.state.backfill(self.id).unwrap()
    }

    fn runs(&self) -> Vec<&Run> {
        let all = self.m.state.runs_after(None);
        all.filter(|run| run.backfill == Some(self.id)).collect()
    }

    fn live(&self) -> Vec<(AttemptKey, Token)> {
        let live = self.runs().into_iter().filter_map(Run::live_attempt);
        live.map(|attempt| (attempt.key, attempt.token)).collect()
    }

    fn apply(&mut self, step: &Step) {
        let (job, backfill) = (self.job, self.id);
        match step {
            Step::Dispatch(nth) => {
                let queue = self.m.queue();
                let worker = WorkerId(1);
                if !queue.is_empty() && self.m.state.free_slots(worker) > 0 {
                    self.m.dispatch(queue[nth % queue.len()], worker);
                }
            }
            Step::Complete(nth, code) => {
                let live = self.live();
                if !live.is_empty() {
                    self.m.complete(live[nth % live.len()], exit(*code));
                }
            }
            Step::Lost => {
                self.boots += 1;
                self.m.ok(Command::AttachWorker(Box::new(profile("w", self.boots, self.boots, 2))));
            }
            Step::Steer(to) => {
                self.m.send(Command::SteerBackfill { backfill, to: *to });
            }
            Step::Open(open) => {
                self.m.send(Command::OpenBackfill { backfill, open: *open });
            }
            Step::Leader => {
                self.term += 1;
                self.m.ok(Command::LeaderStarted(leader(self.term)));
            }
            Step::Edit(priority) => {
                self.m.ok(apply(definition(*priority)));
            }
            Step::PauseJob => {
                self.m.ok(Command::PauseJob { job });
            }
            Step::ResumeJob => {
                self.m.ok(Command::ResumeJob { job });
            }
            Step::Cancel(nth) => {
                let runs: Vec<RunId> =
                    self.runs().iter().filter(|run| run.is_live()).map(|run| run.id).collect();
                if !runs.is_empty() {
                    self.m.ok(Command::CancelRun { run: runs[nth % runs.len()] });
                }
            }
            Step::Pass(ms) => drop(self.m.after(*ms)),
            Step::Restart => {
                let mut restore = Restore::new(*self.m.state.limits());
                for record in records(&self.m.state) {
                    restore.push(&record).unwrap();
                }
                self.m.state = restore.finish().unwrap();
            }
        }
    }

    /// What holds at any time.
    fn check(&self) {
        let mut once: BTreeMap<UtcMillis, RunId> = BTreeMap::new();
        for run in self.runs() {
            let other = once.insert(run.nominal, run.id);
            assert_eq!(other, None, "{} is run by {} too", run.nominal, run.id);
            assert_eq!(run.revision, Revision(1), "an edit does not change what was begun");
        }
        let live = self.runs().iter().filter(|run| run.is_live()).count();
        assert!(live <= AT_ONCE as usize, "{live} at once");
    }

    /// Everybody does what is to be done.
    fn finish(&mut self) {
        self.apply(&Step::Steer(Steer::Resume));
        self.apply(&Step::Open(true));
        for _ in 0..200 {
            self.apply(&Step::Dispatch(0));
            self.apply(&Step::Complete(0, 0));
            self.apply(&Step::Pass(1_000));
            self.check();
        }
    }
}

#[test]
fn an_interrupted_back_fill_runs_each_instant_once() {
    let config =
        ProptestConfig { cases: cases(96), failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in steps(), newest_first in prop::bool::ANY)| {
        let mut world = World::new(newest_first);
        let mut stopped_with = None;
        for step in &steps {
            let before = world.runs().len();
            let was_held = world.of().state != BackfillState::Running || !world.of().is_open;
            world.apply(step);
            world.check();
            let begins = matches!(step, Step::Steer(Steer::Resume) | Step::Open(true));
            prop_assert!(!was_held || begins || world.runs().len() == before, "{:?}", step);
            if world.of().state == BackfillState::Stopped && stopped_with.is_none() {
                stopped_with = Some(world.runs().len());
            }
        }
        world.finish();
        let counts = world.of().counts;
        prop_assert!(!world.of().is_live(), "{:?}", world.of());
        prop_assert_eq!(counts.total, INSTANTS as u32);
        if let Some(begun) = stopped_with {
            prop_assert_eq!(world.runs().len(), begun, "nothing begins after a stop");
        } else {
            prop_assert_eq!(world.of().state, BackfillState::Done);
            prop_assert_eq!(world.runs().len(), INSTANTS as usize);
            prop_assert_eq!(counts.waiting(), 0);
        }
        // In its order, whatever came between.
        let order: Vec<UtcMillis> = world.runs().iter().map(|run| run.nominal).collect();
        let in_order = |a: &UtcMillis, b: &UtcMillis| if newest_first { a > b } else { a < b };
        prop_assert!(order.is_sorted_by(in_order), "{:?}", order);
    });
}
