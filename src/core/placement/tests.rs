//! Choice and explanation over small states.

use super::choose;
use super::explain::{Subject, explain};
use crate::ids::{RunId, WorkerId};
use crate::machine::command::Command;
use crate::machine::tests::support::*;
use crate::model::action::WaitReason;
use crate::model::job::{Backoff, JobSpec, RetryPolicy};
use crate::time::Span;

#[test]
fn work_goes_round_among_workers_with_free_slots() {
    let mut m = Machine::new();
    let job = m.job(spec("a"));
    let workers = [m.worker("x", 1), m.worker("y", 2), m.worker("z", 1)];
    m.ok(Command::TriggerJob { job });
    let run = m.queue()[0];
    let free = |_| 0;
    let s = &m.state;
    assert_eq!(choose(s, run, &workers, None, &free), Some(workers[0]));
    assert_eq!(choose(s, run, &workers, Some(workers[0]), &free), Some(workers[1]));
    assert_eq!(choose(s, run, &workers, Some(workers[2]), &free), Some(workers[0]));
    assert_eq!(choose(s, run, &workers[..2], Some(workers[2]), &|_| 1), Some(workers[1]));
    assert_eq!(choose(s, run, &[], None, &free), None);
    assert_eq!(choose(s, RunId(99), &workers, None, &free), None);
}

#[test]
fn every_wait_has_its_reason() {
    let mut m = Machine::new();
    let retries = RetryPolicy { count: 1, backoff: Backoff::Fixed { delay: Span::secs(9) } };
    let up = m.job(JobSpec { retries, ..triggered("up") });
    let down = m.job(after_jobs("down", &[up]));
    let at = m.now + 1000;
    m.plan(up, &[(at, vec![])]);
    m.plan(down, &[(at, vec![key(up, at)])]);
    let all = |_: WorkerId| true;
    let why = |m: &Machine, job| explain(&m.state, Subject::Action(key(job, at)), &all);
    assert_eq!(why(&m, up), Some(WaitReason::NotDue));
    m.after(1000);
    assert_eq!(why(&m, down), Some(WaitReason::Upstream));
    assert_eq!(why(&m, up), Some(WaitReason::NoWorker));
    let worker = m.worker("w", 1);
    assert_eq!(why(&m, up), Some(WaitReason::Dispatching));
    let none = |_: WorkerId| false;
    let reason = explain(&m.state, Subject::Action(key(up, at)), &none);
    assert_eq!(reason, Some(WaitReason::NoWorker));
    m.ok(Command::TriggerJob { job: down });
    let run = m.queue()[0];
    let second = m.queue()[1];
    let attempt = m.dispatch(run, worker);
    assert_eq!(why(&m, up), None);
    assert_eq!(explain(&m.state, Subject::Run(second), &all), Some(WaitReason::Resource));
    m.complete(attempt, exit(1));
    assert_eq!(why(&m, up), Some(WaitReason::Backoff));
    m.after(9000);
    m.ok(Command::PauseJob { job: up });
    assert_eq!(why(&m, up), Some(WaitReason::Paused));
    assert_eq!(why(&m, down), Some(WaitReason::UpstreamPaused));
    m.ok(Command::ResumeJob { job: up });
    assert_eq!(why(&m, up), Some(WaitReason::Queue));
    let attempt = m.dispatch(run, worker);
    m.complete(attempt, exit(1));
    assert_eq!(why(&m, down), Some(WaitReason::UpstreamFailed));
}
