//! What attempts begin elsewhere, in the machine: with which attempt it is kept, and who has
//! to end it.

use super::super::command::*;
use super::super::outcome::Reject;
use super::support::*;
use crate::ids::{AttemptKey, Name, Token};
use crate::model::executor::Executor;
use crate::model::handle::{Handle, HandleEnd};
use crate::model::job::*;
use crate::model::run::EndKind;
use crate::model::worker::WorkerProfile;
use crate::time::Span;

fn note(attempt: AttemptKey, token: Token, handles: &[Handle]) -> Command {
    Command::NoteHandles { attempt, token, handles: handles.to_vec() }
}

fn ended(text: &str, done: bool) -> Handle {
    let end = Some(HandleEnd { done, said: "kill".to_owned() });
    Handle { end, ..Handle::new(text) }
}

fn retried(count: u32) -> JobSpec {
    let backoff = Backoff::Fixed { delay: Span::ZERO };
    JobSpec { retries: RetryPolicy { count, backoff }, ..spec("a") }
}

#[test]
fn a_next_attempt_has_to_end_what_those_before_it_left() {
    let mut m = Machine::new();
    let (job, worker) = (m.job(retried(3)), m.worker("w", 1));
    m.ok(Command::TriggerJob { job });
    let run = m.queue()[0];
    let (first, token) = m.dispatch(run, worker);
    m.ok(note(first, token, &[Handle::new("a"), Handle::new("b")]));
    let left = |m: &Machine| -> Vec<String> {
        m.state.run(run).unwrap().handles_left().into_iter().map(str::to_owned).collect()
    };
    assert_eq!(left(&m), [""; 0], "it may end by itself");
    m.ok(complete(first, token, EndKind::Gone));
    assert_eq!(left(&m), ["a", "b"]);
    assert_eq!(m.state.runs_that_owe().count(), 0, "another attempt follows");
    let (second, next) = m.dispatch(run, worker);
    m.ok(note(second, next, &[ended("a", true), ended("b", false)]));
    assert_eq!(left(&m), ["b"]);
    // The first one may be heard of once more.
    m.ok(note(first, token, &[Handle::new("c")]));
    assert_eq!(left(&m), ["b", "c"]);
    let stale = m.refused(note(first, next, &[Handle::new("d")]));
    assert!(matches!(stale, Reject::StaleAttempt(_)), "{stale:?}");
    m.ok(complete(second, next, exit(0)));
    assert_eq!(m.state.runs_that_owe().count(), 0, "it has succeeded");
}

#[test]
fn a_run_that_is_over_owes_what_nobody_has_tried_to_end() {
    let mut m = Machine::new();
    let (job, worker) = (m.job(retried(0)), m.worker("w", 1));
    m.ok(Command::TriggerJob { job });
    let run = m.queue()[0];
    let (attempt, token) = m.dispatch(run, worker);
    m.ok(note(attempt, token, &[Handle::new("a"), Handle::new("b")]));
    m.ok(complete(attempt, token, EndKind::TimedOut));
    let owing: Vec<_> = m.state.runs_that_owe().map(|run| run.id).collect();
    assert_eq!(owing, [run]);
    m.ok(note(attempt, token, &[ended("a", true)]));
    assert_eq!(m.state.runs_that_owe().count(), 1);
    m.ok(note(attempt, token, &[ended("b", false)]));
    assert_eq!(m.state.runs_that_owe().count(), 0);
    let many: Vec<Handle> = (0..=Handle::MAX).map(|n| Handle::new(&n.to_string())).collect();
    assert!(matches!(m.refused(note(attempt, token, &many)), Reject::TooLarge { .. }));
}

#[test]
fn a_run_goes_only_where_its_interpreter_is() {
    let mut m = Machine::new();
    let name = Name::new("hive").unwrap();
    let executor =
        Executor::Interpreter { name: name.clone(), args: Vec::new(), script: "x".into() };
    let job = m.job(JobSpec { executor, ..spec("a") });
    let worker = m.worker("w", 1);
    m.ok(Command::TriggerJob { job });
    let run = m.queue()[0];
    let incarnation = m.state.worker(worker).unwrap().profile.incarnation;
    let dispatch = || Command::Dispatch { run, number: 1, worker, incarnation };
    assert!(matches!(m.refused(dispatch()), Reject::NotDispatchable(_)));
    let old = m.state.worker(worker).unwrap().profile.clone();
    m.ok(Command::AttachWorker(Box::new(WorkerProfile { interpreters: [name].into(), ..old })));
    m.ok(dispatch());
}
