//! Choice and explanation over small states.

use super::explain::{Subject, explain};
use super::{choose, has_room};
use crate::ids::{RunId, WorkerId};
use crate::machine::command::Command;
use crate::machine::outcome::Reject;
use crate::machine::tests::support::*;
use crate::model::action::WaitReason;
use crate::model::confinement::{Confinement, Power};
use crate::model::job::{Backoff, JobSpec, RetryPolicy, default_group};
use crate::model::retry::RetryWorker;
use crate::model::run::EndKind;
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
fn a_retry_goes_where_its_job_prefers_and_waits_for_nobody() {
    for wish in RetryWorker::ALL.map(|(_, wish)| wish) {
        let mut m = Machine::new();
        let backoff = Backoff::Fixed { delay: Span::ZERO };
        let retries = RetryPolicy { count: 9, backoff };
        let job = m.job(JobSpec { retries, retry_on_worker: wish, ..spec("a") });
        let all = [m.worker("x", 1), m.worker("y", 1), m.worker("z", 1)];
        m.ok(Command::TriggerJob { job });
        let run = m.queue()[0];
        let next = |m: &Machine, last: WorkerId| choose(&m.state, run, &all, Some(last), &|_| 0);
        assert_eq!(next(&m, all[1]), Some(all[2]), "the first try goes round");
        for (worker, any, another) in
            [(all[2], all[0], all[0]), (all[0], all[1], all[1]), (all[1], all[2], all[2])]
        {
            let attempt = m.dispatch(run, worker);
            m.complete(attempt, exit(1));
            let wanted = match wish {
                RetryWorker::Any => any,
                RetryWorker::Same => worker,
                RetryWorker::Another => another,
            };
            assert_eq!(next(&m, worker), Some(wanted), "{wish:?}");
        }
        // As if the round were at another place.
        let wanted = if wish == RetryWorker::Same { all[1] } else { all[0] };
        assert_eq!(next(&m, all[2]), Some(wanted), "all have tried it: {wish:?}");
        let without = |worker: WorkerId| {
            let reserved = move |id| u32::from(id == worker);
            choose(&m.state, run, &all, Some(all[2]), &reserved)
        };
        assert!(without(wanted).is_some(), "no wish is waited for: {wish:?}");
        // It has begun anew: nothing of the last try is there.
        m.ok(Command::AttachWorker(profile("y", 2, 1, 1)));
        assert_eq!(next(&m, all[2]), Some(all[0]), "{wish:?}");
    }
    let mut m = Machine::new();
    let backoff = Backoff::Fixed { delay: Span::ZERO };
    let retries = RetryPolicy { count: 9, backoff };
    let job = m.job(JobSpec { retries, retry_on_worker: RetryWorker::Another, ..spec("a") });
    let all = [m.worker("x", 1), m.worker("y", 1), m.worker("z", 1)];
    m.ok(Command::TriggerJob { job });
    let run = m.queue()[0];
    for worker in [all[0], all[1]] {
        let attempt = m.dispatch(run, worker);
        m.complete(attempt, exit(1));
    }
    let chosen = |last| choose(&m.state, run, &all, Some(last), &|_| 0);
    assert_eq!(all.map(chosen), [Some(all[2]); 3], "the one that has not tried it");
    assert_eq!(choose(&m.state, run, &all[..2], None, &|_| 0), Some(all[0]));
    let explained = explain(&m.state, Subject::Run(run), &|id| id != all[2]);
    assert_eq!(explained, Some(WaitReason::Dispatching), "it goes to any then");
}

#[test]
fn a_run_with_limits_goes_where_they_are_enforced() {
    let mut m = Machine::new();
    let confinement = Confinement { memory: Some(1 << 30), ..Confinement::default() };
    let retries = RetryPolicy { count: 9, backoff: Backoff::Fixed { delay: Span::ZERO } };
    let (limited, plain) = (m.job(JobSpec { confinement, retries, ..spec("a") }), m.job(spec("b")));
    let weak = m.worker("weak", 9);
    let able: Vec<WorkerId> = ["x", "y"].into_iter().map(|w| m.able(w, Power::Memory)).collect();
    let other = m.able("other", Power::Pids);
    let all = [weak, able[0], able[1], other];
    for job in [limited, plain] {
        m.ok(Command::TriggerJob { job });
    }
    let (run, plain) = (m.queue()[0], m.queue()[1]);
    let chosen = |m: &Machine, last| choose(&m.state, run, &all, last, &|_| 0);
    assert_eq!(chosen(&m, None), Some(able[0]));
    assert_eq!(chosen(&m, Some(able[1])), Some(able[0]));
    assert_eq!(choose(&m.state, run, &[weak, other], None, &|_| 0), None);
    assert_eq!(choose(&m.state, plain, &all, None, &|_| 0), Some(weak));
    for worker in [weak, other] {
        let incarnation = m.state.worker(worker).unwrap().profile.incarnation;
        let refused = m.refused(Command::Dispatch { run, number: 1, worker, incarnation });
        assert_eq!(refused, Reject::NotDispatchable(run), "a leader that is mistaken");
    }
    // What it said of itself was not true: the retry goes to another one, if there is one.
    let attempt = m.dispatch(run, able[0]);
    m.complete(attempt, EndKind::limits_unsupported("no such user"));
    assert_eq!(chosen(&m, Some(able[1])), Some(able[1]));
    assert_eq!(choose(&m.state, run, &all[..2], None, &|_| 0), Some(able[0]));
    let used = |id: WorkerId| if id == able[0] || id == able[1] { 1 } else { 0 };
    assert!(has_room(&m.state, &default_group(), &all, &used));
    assert!(!has_room(&m.state, &default_group(), &able, &used));
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
