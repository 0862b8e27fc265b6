//! Workers that are given nothing more, emptied, or forgotten.

use super::super::command::*;
use super::super::outcome::Reject;
use super::support::*;
use crate::history::{What, of_run};
use crate::ids::*;
use crate::model::action::WaitReason;
use crate::model::job::*;
use crate::model::resources::Resources;
use crate::model::run::{AttemptCause, EndKind, Run, RunResult, RunState};
use crate::model::worker::{Duty, WorkerProfile};
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
fn what_a_worker_gives_back_is_begun_elsewhere_as_if_it_had_not_been_there() {
    let mut m = Machine::new();
    let (one, two) = (m.worker("one", 9), m.worker("two", 9));
    let fails = JobSpec { on_worker_lost: OnWorkerLost::Fail, ..spec("fails") };
    let run = queued(&mut m, fails);
    for worker in [one, two].repeat(usize::try_from(Run::MAX_LOSSES).unwrap()) {
        let attempt = m.dispatch(run, worker);
        m.complete(attempt, EndKind::declined("its disk is full"));
        assert_eq!(state_of_run(&m, run), RunState::Queued);
    }
    let attempt = m.dispatch(run, one);
    let found = m.state.run(run).unwrap();
    assert_eq!((found.retries, found.losses), (0, 0));
    assert!(found.attempts.iter().all(|attempt| attempt.cause == AttemptCause::First));
    m.complete(attempt, exit(0));
    assert!(matches!(state_of_run(&m, run), RunState::Finished { result: RunResult::Success, .. }));
    // A retry that is given back is still that one retry.
    let retries = RetryPolicy { count: 1, backoff: Backoff::Fixed { delay: Span(0) } };
    let run = queued(&mut m, JobSpec { retries, ..spec("retried") });
    for how in [exit(1), EndKind::declined("no inodes"), exit(1)] {
        let attempt = m.dispatch(run, one);
        m.complete(attempt, how);
    }
    let found = m.state.run(run).unwrap();
    let causes: Vec<AttemptCause> = found.attempts.iter().map(|attempt| attempt.cause).collect();
    assert_eq!(causes, [AttemptCause::First, AttemptCause::Retry, AttemptCause::Retry]);
    assert_eq!(found.retries, 1);
    let told: Vec<What> = of_run(&m.state, found).into_iter().map(|change| change.what).collect();
    let retries = told.iter().filter(|what| matches!(what, What::Backoff(..))).count();
    assert!(retries <= 1 && told.contains(&What::Queued(AttemptCause::Retry)), "{told:?}");
    assert!(matches!(found.state, RunState::Finished { result: RunResult::Failed, .. }));
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

#[test]
fn a_worker_that_is_stopped_drains_and_the_next_one_under_its_name_does_not() {
    let mut m = Machine::new();
    let (one, two) = (m.worker("one", 9), m.worker("two", 9));
    let keep = OnWorkerLost::Keep { keep_for: Span::secs(60) };
    let long = queued(&mut m, spec("long"));
    let kept = queued(&mut m, JobSpec { on_worker_lost: keep, ..spec("kept") });
    let (long_attempt, _) = (m.dispatch(long, one), m.dispatch(kept, one));
    let stops = |wait: Option<u64>| {
        let stops_within = wait.map(Span::secs);
        Command::AttachWorker(Box::new(WorkerProfile { stops_within, ..profile("one", 1, 1, 9) }))
    };
    m.ok(stops(Some(5)));
    let until = m.now + 5_000;
    let next = queued(&mut m, spec("next"));
    let order = |worker| {
        let incarnation = Incarnation(1);
        Command::Dispatch { run: next, number: 1, worker, incarnation }
    };
    let draining = |until| Duty::Draining { until };
    let refused = m.refused(order(one));
    assert_eq!(refused, Reject::NotOpen { worker: one, duty: draining(Some(UtcMillis(until))) });
    // A new leader asks it again; its time goes on, and so does what an operator wants of it.
    m.after(2_000);
    m.ok(stops(Some(3)));
    m.ok(duty(one, draining(Some(UtcMillis(until + 9_000)))));
    assert_eq!(m.state.worker(one).unwrap().drains_at(), Some(UtcMillis(until)));
    m.after(2_999);
    assert!(!m.state.run(long).unwrap().must_end());
    m.after(1);
    assert!(m.state.run(long).unwrap().must_end() && !m.state.run(kept).unwrap().must_end());
    m.complete(long_attempt, EndKind::Cancelled);
    assert_eq!(state_of_run(&m, long), RunState::Queued, "it runs again");
    assert_eq!(m.state.worker(one).unwrap().drains_at(), Some(UtcMillis(until + 9_000)));
    m.dispatch(long, two);
    // It comes back: what the operator said holds, and no more.
    m.ok(stops(None));
    m.ok(duty(one, Duty::Open));
    m.ok(order(one));
    let week = m.refused(stops(Some(8 * 86_400)));
    assert!(matches!(week, Reject::Invalid { field, .. } if field == "stops_within"));
}
