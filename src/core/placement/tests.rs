//! Choice and explanation over small states.

use super::choose;
use super::explain::{Subject, explain};
use crate::ids::{RunId, WorkerId};
use crate::machine::command::Command;
use crate::machine::outcome::Reject;
use crate::machine::tests::support::*;
use crate::model::action::WaitReason;
use crate::model::job::{Backoff, JobSpec, RetryPolicy};
use crate::model::retry::RetryWorker;
use crate::model::worker::Duty;
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

#[test]
fn labels_choose_workers_and_a_job_that_none_suits_holds_up_nobody() {
    let mut m = Machine::new();
    let plain = m.attach(labelled("plain", 1, &[("zone", "b")]));
    let fast = m.attach(labelled("fast", 1, &[("zone", "a"), ("ssd", "true")]));
    let both = [plain, fast];
    let (nowhere, picky, any) = (
        m.job(choosy("nowhere", "zone == 'c'")),
        m.job(choosy("picky", "zone == 'a' && ssd")),
        m.job(spec("any")),
    );
    for job in [nowhere, picky, any, any] {
        m.ok(Command::TriggerJob { job });
    }
    let runs = m.queue();
    let chosen = |m: &Machine, n: usize| choose(&m.state, runs[n], &both, None, &|_| 0);
    assert_eq!([0, 1, 2].map(|n| chosen(&m, n)), [None, Some(fast), Some(plain)]);
    let why = |m: &Machine, n: usize| explain(&m.state, Subject::Run(runs[n]), &|_| true);
    assert_eq!(why(&m, 0), Some(WaitReason::NoWorker));
    assert_eq!(
        [1, 2].map(|n| why(&m, n)),
        [Some(WaitReason::Dispatching), Some(WaitReason::Queue)]
    );
    // The machine knows labels, too.
    let incarnation = m.state.worker(plain).unwrap().profile.incarnation;
    let wrong = Command::Dispatch { run: runs[1], number: 1, worker: plain, incarnation };
    assert_eq!(m.refused(wrong), Reject::NotDispatchable(runs[1]));
    m.dispatch(runs[2], fast);
    assert_eq!(why(&m, 1), Some(WaitReason::Resource), "the other worker is of no use to it");
    assert_eq!(why(&m, 3), Some(WaitReason::Dispatching), "nobody before it wants that worker");
    m.ok(Command::SetDuty { worker: fast, duty: Duty::Cordoned });
    assert_eq!(why(&m, 1), Some(WaitReason::Cordoned));
    m.attach(labelled("fast", 1, &[("zone", "a")]));
    assert_eq!(why(&m, 1), Some(WaitReason::NoWorker));
}
