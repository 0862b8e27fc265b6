//! Workers that are given nothing more, emptied, or forgotten.

use super::super::command::*;
use super::super::outcome::Reject;
use super::support::*;
use crate::ids::*;
use crate::model::action::WaitReason;
use crate::model::job::*;
use crate::model::resources::Resources;
use crate::model::run::{AttemptCause, EndKind, RunResult, RunState};
use crate::model::worker::Duty;
use crate::placement::explain::{Subject, explain};
use crate::placement::load::Load;
use crate::placement::{View, choose};
use crate::time::{Span, UtcMillis};

fn duty(worker: WorkerId, duty: Duty) -> Command {
    Command::SetDuty { worker, duty }
}

/// A run of a new job, in the queue.
fn queued(m: &mut Machine, spec: JobSpec) -> RunId {
    let job = m.job(spec);
    m.ok(Command::TriggerJob { job });
    *m.queue().last().unwrap()
}

fn state_of_run(m: &Machine, run: RunId) -> RunState {
    m.state.run(run).unwrap().state
}

#[test]
fn a_worker_that_is_not_open_is_given_nothing_and_keeps_what_it_has() {
    let mut m = Machine::new();
    let (one, two) = (m.worker("one", 2), m.worker("two", 2));
    let before = queued(&mut m, spec("a"));
    let attempt = m.dispatch(before, one);
    m.ok(duty(one, Duty::Cordoned));
    let run = queued(&mut m, spec("b"));
    let both = [one, two];
    let view =
        View { connected: &both, reserved: &|_| Resources::slots(0), load: &|_| Load::default() };
    assert_eq!(choose(&m.state, run, &view, None, 0), Some(two));
    let incarnation = m.state.worker(one).unwrap().profile.incarnation;
    let dispatch = Command::Dispatch { run, number: 1, worker: one, incarnation };
    let refused = m.refused(dispatch);
    assert_eq!(refused, Reject::NotOpen { worker: one, duty: Duty::Cordoned });
    // Nobody is left to whom it could go.
    m.ok(duty(two, Duty::Draining { until: None }));
    assert_eq!(choose(&m.state, run, &view, None, 0), None);
    let why = |m: &Machine| explain(&m.state, Subject::Run(run), &here);
    assert_eq!(why(&m), Some(WaitReason::Cordoned));
    m.complete(attempt, exit(0));
    m.ok(duty(one, Duty::Open));
    assert_eq!(why(&m), Some(WaitReason::Dispatching));
    m.dispatch(run, one);
}

#[test]
fn a_drain_whose_time_is_over_has_work_run_again_elsewhere() {
    let mut m = Machine::new();
    let (one, two) = (m.worker("one", 9), m.worker("two", 9));
    let policy = |name, on_worker_lost| JobSpec { on_worker_lost, ..spec(name) };
    let again = queued(&mut m, policy("again", OnWorkerLost::Rerun));
    let ends = queued(&mut m, policy("ends", OnWorkerLost::Fail));
    let keep_for = Span::secs(3600);
    let keeps = queued(&mut m, policy("keeps", OnWorkerLost::Keep { keep_for }));
    let by_hand = queued(&mut m, spec("by-hand"));
    let [first, second, _, fourth] = [again, ends, keeps, by_hand].map(|run| m.dispatch(run, one));
    let until = Some(UtcMillis(m.now + 5_000));
    m.ok(duty(one, Duty::Draining { until }));
    m.after(4_000).ok(Command::Tick);
    let must_end =
        |m: &Machine| [again, ends, keeps, by_hand].map(|run| m.state.run(run).unwrap().must_end());
    assert_eq!(must_end(&m), [false; 4]);
    m.after(1_000).ok(Command::Tick);
    assert_eq!(must_end(&m), [true, true, false, true]);
    assert_eq!(m.state.worker(one).unwrap().duty, Duty::Draining { until: None });

    m.complete(first, EndKind::Cancelled);
    m.complete(second, EndKind::Cancelled);
    assert_eq!(state_of_run(&m, again), RunState::Queued);
    let run = m.state.run(again).unwrap();
    let end = &run.attempts[0].end;
    assert_eq!((&end.as_ref().unwrap().how, run.losses), (&EndKind::Drained, 0));
    assert!(!run.must_end(), "the next attempt may live");
    assert!(matches!(state_of_run(&m, ends), RunState::Finished { result: RunResult::Failed, .. }));
    // Who asks for its end gets that, whatever else is.
    m.ok(Command::CancelRun { run: by_hand });
    m.complete(fourth, EndKind::Cancelled);
    let is_cancelled = RunResult::Cancelled;
    assert!(
        matches!(state_of_run(&m, by_hand), RunState::Finished { result, .. } if result == is_cancelled)
    );
    let next = m.dispatch(again, two);
    assert_eq!(m.state.run(again).unwrap().attempts[1].cause, AttemptCause::Drained);
    m.complete(next, exit(0));
}

#[test]
fn a_worker_is_forgotten_when_it_is_silent_and_empty() {
    let mut m = Machine::new();
    let worker = m.worker("one", 9);
    let run = queued(&mut m, spec("a"));
    m.dispatch(run, worker);
    let remove = |force| Command::RemoveWorker { worker, force };
    assert_eq!(m.refused(remove(true)), Reject::WorkerAlive(worker));
    m.after(10_000);
    assert_eq!(m.refused(remove(false)), Reject::WorkerBusy { worker, attempts: 1 });
    m.ok(remove(true));
    assert_eq!(state_of_run(&m, run), RunState::Queued);
    assert_eq!(m.refused(remove(true)), Reject::NoSuchWorker(worker));
    // The name comes back as another worker.
    let other = m.worker("one", 9);
    assert_ne!(other, worker);
    m.dispatch(run, other);
}
