//! What became of runs and actions: each change once, when, and by whom.

use proptest::prelude::*;

use super::super::command::*;
use super::random::{run_steps, steps};
use super::support::*;
use crate::history::{By, Change, What, of_action, of_run};
use crate::ids::*;
use crate::model::action::{ActionState, SkipReason};
use crate::model::backfill::BackfillOrder;
use crate::model::history::{Before, Cause, Notes};
use crate::model::job::{Backoff, JobSpec, Overlap, RetryPolicy};
use crate::model::run::{AttemptCause, EndKind, Run, RunKind, RunOrder, RunResult};
use crate::model::worker::Duty;
use crate::time::{Span, UtcMillis};

const WORKER: By = By::Worker(WorkerId(1));

fn said(by: &str) -> By {
    By::Said(by.to_owned())
}

/// What is told of a run, its times counted from `begin`.
fn run_from(m: &Machine, run: RunId, begin: i64) -> Vec<(i64, What, By)> {
    since(of_run(&m.state, m.state.run(run).unwrap()), begin)
}

fn action_from(m: &Machine, key: ActionKey, begin: i64) -> Vec<(i64, What, By)> {
    since(of_action(&m.state, key, m.state.action(key).unwrap()), begin)
}

fn since(changes: Vec<Change>, begin: i64) -> Vec<(i64, What, By)> {
    changes.into_iter().map(|c| (c.at.0 - begin, c.what, c.by)).collect()
}

fn retried(count: u32, delay: Span) -> JobSpec {
    let backoff = Backoff::Exponential { initial: delay, cap: Span::secs(3_600) };
    JobSpec { retries: RetryPolicy { count, backoff }, ..triggered("a") }
}

/// A job with one action that is due, one that waits for it, and a worker.
fn pair(spec: JobSpec) -> (Machine, [ActionKey; 2], RunId, i64) {
    let mut m = Machine::new();
    m.worker("w", 9);
    let up = m.job(spec);
    let down = m.job(after_jobs("down", &[up]));
    let at = m.now + 1000;
    m.plan(up, &[(at, vec![])]);
    m.plan(down, &[(at, vec![key(up, at)])]);
    m.after(1000);
    let run = m.queue()[0];
    (m, [key(up, at), key(down, at)], run, at)
}

#[test]
fn a_request_to_end_comes_before_the_end_in_the_same_millisecond() {
    let (mut m, _, run, at) = due(triggered("a"));
    let (attempt, token) = m.dispatch(run, WorkerId(1));
    m.ok(Command::CancelRun { run });
    m.ok(complete(attempt, token, EndKind::Cancelled));
    let told = run_from(&m, run, at);
    assert!(told.iter().all(|(after, ..)| *after == told[0].0), "{told:?}");
    let place = |is_it: fn(&What) -> bool| told.iter().position(|(_, what, _)| is_it(what));
    let asked = place(|what| matches!(what, What::Noted(Cause::CancelAsked)));
    let ended = place(|what| matches!(what, What::Ended(..)));
    let finished = place(|what| matches!(what, What::Finished(_)));
    assert!(asked.is_some() && asked < ended && ended < finished, "{told:?}");
}

/// The first of them.
fn due(spec: JobSpec) -> (Machine, JobId, RunId, i64) {
    let (mut m, [up, down], run, at) = pair(spec);
    m.ok(Command::DeleteJob { job: down.job, expected: None });
    (m, up.job, run, at)
}

#[test]
fn a_run_that_nobody_touched_tells_all_of_itself_and_keeps_no_note() {
    let (mut m, job, run, at) = due(retried(3, Span::secs(10)));
    let key = |number| AttemptKey { run, shard: 0, number };
    let fails = |m: &mut Machine, after: i64| {
        let (attempt, token) = m.dispatch(run, WorkerId(1));
        let began = m.now + 10;
        m.now += after;
        m.ok(told(attempt, token, exit(1), [Some(began), Some(m.now - 5)]));
    };
    fails(&mut m, 500);
    let wait = m.state.run(run).unwrap();
    assert_eq!(wait.retries, 1);
    let told = run_from(&m, run, at);
    assert_eq!(
        told.last().unwrap().1,
        What::Backoff(1, Some(UtcMillis(at + 10_500))),
        "it waits still: {told:?}"
    );
    m.after(10_000);
    fails(&mut m, 500);
    m.after(20_000);
    // Its machine has begun anew.
    m.dispatch(run, WorkerId(1));
    m.ok(Command::AttachWorker(Box::new(profile("w", 2, 2, 9))));
    m.after(100);
    let last = m.dispatch(run, WorkerId(1));
    m.now += 50;
    m.complete(last, exit(0));

    use AttemptCause::{First, Retry, WorkerLost};
    let failed = |n| What::Ended(key(n), exit(1));
    let on = |n, cause| What::Dispatched(key(n), WorkerId(1), cause);
    let back = |n, at: i64| What::Backoff(n, Some(UtcMillis(at)));
    let trigger = vec![TriggerName("t".into())];
    let wanted = vec![
        (0, What::Created(RunKind::Schedule, trigger), By::Leader),
        (0, What::Queued(First), By::Leader),
        (0, on(1, First), By::Leader),
        (10, What::Began(key(1)), WORKER),
        (500, failed(1), WORKER),
        (500, back(1, at + 10_500), By::Leader),
        (10_500, What::Queued(Retry), By::Leader),
        (10_500, on(2, Retry), By::Leader),
        (10_510, What::Began(key(2)), WORKER),
        (11_000, failed(2), WORKER),
        (11_000, back(2, at + 31_000), By::Leader),
        (31_000, What::Queued(Retry), By::Leader),
        (31_000, on(3, Retry), By::Leader),
        (31_000, What::Lost(key(3), EndKind::WorkerLost), By::Leader),
        (31_000, What::Queued(WorkerLost), By::Leader),
        (31_100, on(4, WorkerLost), By::Leader),
        (31_150, What::Ended(key(4), exit(0)), WORKER),
        (31_150, What::Finished(RunResult::Success), WORKER),
    ];
    let found = run_from(&m, run, at);
    assert_eq!(found, wanted);
    assert_eq!(m.state.run(run).unwrap().notes, Notes::default());
    let action = ActionKey { job, nominal: UtcMillis(at) };
    assert_eq!(m.state.action(action).unwrap().notes, Notes::default());
    assert_eq!(
        action_from(&m, action, at),
        [
            (0, What::Due, By::Leader),
            (0, What::RunMade(run, RunKind::Schedule), By::Leader),
            (31_150, What::Settled(ActionState::Success), WORKER),
        ]
    );
}

#[test]
fn a_drained_attempt_is_made_again_and_that_is_no_retry() {
    let (mut m, _, run, at) = due(retried(3, Span::secs(10)));
    let (worker, attempt) = (WorkerId(1), m.dispatch(run, WorkerId(1)));
    let duty = Duty::Draining { until: Some(UtcMillis(m.now + 1_000)) };
    m.by("ann", Command::SetDuty { worker, duty });
    m.after(2_000);
    m.complete(attempt, EndKind::Cancelled);
    let found = run_from(&m, run, at);
    let ended = What::Ended(attempt.0, EndKind::Drained);
    let queued = What::Queued(AttemptCause::Drained);
    assert_eq!(found[3..], [(2_000, ended, WORKER), (2_000, queued, By::Leader)]);
}

#[test]
fn of_many_attempts_it_says_that_the_first_are_not_kept() {
    let (mut m, _, run, at) = due(retried(30, Span::ZERO));
    for _ in 0..20 {
        let attempt = m.dispatch(run, WorkerId(1));
        m.now += 1000;
        m.complete(attempt, exit(1));
        m.after(3_600_000);
    }
    let found = run_from(&m, run, at);
    let kept = AttemptKey { run, shard: 0, number: 5 };
    assert!(matches!(found[0].1, What::Created(..)));
    assert_eq!(found[1].1, What::NotKept(kept));
    assert!(matches!(found[2].1, What::Dispatched(key, ..) if key == kept));
    let dispatched = found.iter().filter(|c| matches!(c.1, What::Dispatched(..))).count();
    assert_eq!(dispatched, Run::MAX_ATTEMPTS_KEPT);
    let queued = found.iter().filter(|c| c.1 == What::Queued(AttemptCause::Retry)).count();
    assert_eq!(queued, Run::MAX_ATTEMPTS_KEPT, "the first was queued before the fifth");
}

#[test]
fn the_number_of_a_retry_is_right_though_older_attempts_are_gone() {
    let (mut m, _, run, _) = due(retried(30, Span(1)));
    for _ in 0..18 {
        let attempt = m.dispatch(run, WorkerId(1));
        m.now += 1000;
        m.complete(attempt, exit(1));
        m.after(3_600_000);
    }
    let found = run_from(&m, run, 0);
    let ended = |n| {
        let key = AttemptKey { run, shard: 0, number: n };
        let mut all = found.iter();
        all.find(|c| c.1 == What::Ended(key, exit(1))).map(|c| c.0)
    };
    for number in 3..=18_u32 {
        let at = ended(number).unwrap();
        let wait = 1_i64 << (number - 1);
        let until = UtcMillis(at + wait.min(3_600_000));
        let back = (at, What::Backoff(number, Some(until)), By::Leader);
        assert!(found.contains(&back), "{number}: {found:#?}");
        assert!(found.contains(&(until.0, What::Queued(AttemptCause::Retry), By::Leader)));
    }
}

#[test]
fn a_manual_run_says_who_asked_and_a_cancelled_one_who_did_that() {
    let (mut m, job, _, _) = due(triggered("a"));
    let order = Box::new(RunOrder { debug: true, ..RunOrder::default() });
    m.by("ann", Command::RunJob { job, order });
    let run = *m.queue().last().unwrap();
    let at = m.now;
    m.dispatch(run, WorkerId(1));
    m.now += 100;
    m.by("bob", Command::CancelRun { run });
    m.now += 100;
    let (attempt, token) = {
        let live = m.state.run(run).unwrap().live_attempt().unwrap();
        (live.key, live.token)
    };
    m.complete((attempt, token), EndKind::Cancelled);
    assert_eq!(
        run_from(&m, run, at),
        [
            (0, What::Created(RunKind::Debug, vec![]), said("ann")),
            (0, What::Queued(AttemptCause::First), By::Leader),
            (0, What::Dispatched(attempt, WorkerId(1), AttemptCause::First), By::Leader),
            (100, What::Noted(Cause::CancelAsked), said("bob")),
            (200, What::Ended(attempt, EndKind::Cancelled), WORKER),
            (200, What::Finished(RunResult::Cancelled), said("bob")),
        ]
    );
}

#[test]
fn a_recovery_is_told_of_the_action_and_of_its_run() {
    let (mut m, [up, down], first, at) = pair(triggered("a"));
    let attempt = m.dispatch(first, WorkerId(1));
    m.now += 10;
    m.complete(attempt, exit(1));
    m.now += 10;
    m.by("ann", Command::Rerun { action: up, below: true });
    let again = m.queue()[0];
    let attempt = m.dispatch(again, WorkerId(1));
    m.now += 10;
    m.complete(attempt, exit(0));
    let below = m.queue()[0];

    let was =
        Before { state: ActionState::Failed, since: Some(UtcMillis(at + 10)), run: Some(first) };
    assert_eq!(
        action_from(&m, up, at),
        [
            (0, What::Due, By::Leader),
            (20, What::Noted(Cause::Recovered(was)), said("ann")),
            (20, What::RunMade(again, RunKind::SuperRecover), said("ann")),
            (30, What::Settled(ActionState::Success), WORKER),
        ]
    );
    let made = |m: &Machine, run| run_from(m, run, at).remove(0);
    assert_eq!(made(&m, again), (20, What::Created(RunKind::SuperRecover, vec![]), said("ann")));
    // What follows from it was asked for then, and could begin now.
    let waited = Before { state: ActionState::Waiting, since: None, run: None };
    let found = action_from(&m, down, at);
    let noted = Cause::RecoveredBelow(up, waited);
    assert_eq!(found[1], (20, What::Noted(noted), said("ann")));
    assert_eq!(found[2], (30, What::Met(up, Some(again)), By::Leader));
    assert_eq!(made(&m, below), (20, What::Noted(Cause::Asked), said("ann")));
    assert_eq!(
        run_from(&m, below, at)[1],
        (30, What::Created(RunKind::SuperRecover, vec![]), By::Leader)
    );
}

#[test]
fn what_a_person_says_of_an_action_and_what_follows_from_that_is_told() {
    let (mut m, [_, down], first, at) = pair(triggered("a"));
    let attempt = m.dispatch(first, WorkerId(1));
    m.complete(attempt, exit(0));
    let second = m.queue()[0];
    let attempt = m.dispatch(second, WorkerId(1));
    m.complete(attempt, exit(1));
    m.now += 10;
    m.by("ann", Command::SettleAction { action: down, success: true });
    let was = Before { state: ActionState::Failed, since: Some(UtcMillis(at)), run: Some(second) };
    let found = action_from(&m, down, at);
    assert_eq!(found[found.len() - 2], (10, What::Noted(Cause::Forced(was)), said("ann")));
    assert_eq!(found[found.len() - 1], (10, What::Settled(ActionState::Success), said("ann")));

    // One that is skipped by hand is run again once what it waits for succeeds once more.
    let (mut m, [up, down], first, at) = pair(triggered("a"));
    m.by("ann", Command::CancelRun { run: first });
    m.by("bob", Command::SettleAction { action: up, success: false });
    let skipped = ActionState::Skipped(SkipReason::Person);
    let found = action_from(&m, up, at);
    assert_eq!(found.last().unwrap(), &(0, What::Settled(skipped), said("bob")));
    m.now += 10;
    m.by("eve", Command::SettleAction { action: up, success: true });
    let found = action_from(&m, down, at);
    let was = Before {
        state: ActionState::Skipped(SkipReason::Upstream),
        since: Some(UtcMillis(at)),
        run: None,
    };
    let leader = said("leader 1/1");
    assert!(found.contains(&(10, What::Noted(Cause::Revived(up, was)), leader)), "{found:?}");
}

#[test]
fn a_deletion_an_overlap_and_a_back_fill_say_whose_doing_it_is() {
    let (mut m, job, run, at) = due(JobSpec { overlap: Overlap::CancelRunning, ..triggered("a") });
    m.plan(job, &[(at + 1000, vec![]), (at + 2000, vec![])]);
    m.after(1000);
    let found = run_from(&m, run, at);
    let displaced = What::Noted(Cause::Displaced(key(job, at + 1000)));
    assert_eq!(found[found.len() - 2], (1000, displaced, said("leader 1/1")));
    let over = What::Finished(RunResult::Cancelled);
    assert_eq!(found[found.len() - 1], (1000, over, said("leader 1/1")));
    let instants = vec![UtcMillis(at)];
    let order = BackfillOrder { instants, downstream: true, ..backfill_of(job, 1) };
    m.by("eve", Command::StartBackfill(Box::new(order)));
    let filled = m.state.action(key(job, at)).unwrap().run.unwrap();
    assert_eq!(run_from(&m, filled, at)[0].2, said("eve"));
    let noted = &action_from(&m, key(job, at), at)[1];
    assert!(matches!(noted.1, What::Noted(Cause::Backfilled(..))) && noted.2 == said("eve"));

    let second = *m.queue().iter().find(|id| **id != filled).unwrap();
    m.by("ann", Command::DeleteJob { job, expected: None });
    let found = run_from(&m, second, at);
    let deleted = (1000, What::Finished(RunResult::Deleted), said("ann"));
    assert_eq!(found.last(), Some(&deleted), "{found:?}");
}

#[test]
fn limits_and_backstops_are_the_leaders_doing() {
    let (mut m, job, run, _) = due(JobSpec { timeout: Some(Span::secs(1)), ..triggered("a") });
    let worker = WorkerId(1);
    m.dispatch(run, worker);
    for _ in 0..40 {
        let incarnation = Incarnation(1);
        m.ok(Command::WorkersAlive(vec![(worker, incarnation)]));
        m.after(5_000);
    }
    let found = run_from(&m, run, 0);
    let key = AttemptKey { run, shard: 0, number: 1 };
    let ended = found.iter().find(|c| matches!(c.1, What::Ended(..))).unwrap();
    assert_eq!((&ended.1, &ended.2), (&What::Ended(key, EndKind::TimedOut), &By::Leader));
    // Names are cut, and of many requests the first and the last are told.
    m.by(&"x".repeat(4_000), Command::TriggerJob { job });
    let run = m.queue()[0];
    m.dispatch(run, worker);
    for n in 0..40 {
        m.by(&format!("u{n}"), Command::CancelRun { run });
    }
    let run = m.state.run(run).unwrap();
    assert!(run.notes.iter().all(|note| note.by.len() <= 200));
    assert_eq!((run.notes.iter().count(), run.notes.left_out()), (16, 25));
    let told = of_run(&m.state, run);
    assert!(told.iter().any(|change| change.what == What::NotesNotKept(25)));
    assert_eq!(told.last().unwrap().by, said("u39"));
}

#[test]
fn any_history_is_in_order_and_whole() {
    let cases = cases(32);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in steps())| {
        let m = run_steps(&steps, &mut |_| {});
        for run in m.state.runs_after(None) {
            let told = of_run(&m.state, run);
            prop_assert!(told.is_sorted_by_key(|change| change.at), "{:?}", told);
            prop_assert!(told.iter().all(|change| change.at <= m.state.now()), "{:?}", told);
            let count = |is_it: fn(&What) -> bool| told.iter().filter(|c| is_it(&c.what)).count();
            prop_assert_eq!(count(|what| matches!(what, What::Created(..))), 1);
            let attempts = run.attempts.len();
            prop_assert_eq!(count(|what| matches!(what, What::Dispatched(..))), attempts);
            let ended = run.attempts.iter().filter(|attempt| attempt.end.is_some()).count();
            let is_end = |what: &What| matches!(what, What::Ended(..) | What::Lost(..));
            prop_assert_eq!(count(is_end), ended);
            let is_last = matches!(told.last().map(|c| &c.what), Some(What::Finished(_)));
            prop_assert_eq!(is_last, !run.is_live(), "{:?}", told);
        }
        for job in m.state.jobs_after(None) {
            for (key, action) in m.state.actions_of(job.id, UtcMillis(i64::MIN), UtcMillis::MAX) {
                let told = of_action(&m.state, key, action);
                prop_assert!(told.is_sorted_by_key(|change| change.at), "{:?}", told);
                let is_end = |c: &&Change| matches!(c.what, What::Settled(_) | What::Elsewhere);
                let ends = told.iter().filter(is_end).count();
                prop_assert_eq!(ends, usize::from(action.state.is_final()), "{:?}", told);
            }
        }
    });
}
