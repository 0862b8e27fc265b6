//! Limits of a run as a whole and of its wait to begin.

use super::super::command::*;
use super::super::outcome::Reject;
use super::support::*;
use crate::ids::*;
use crate::model::action::ActionState;
use crate::model::job::*;
use crate::model::limits::RunLimits;
use crate::model::pause::{AfterPause, PauseTarget};
use crate::model::run::{EndKind, Run, RunResult, RunState};
use crate::time::{Span, UtcMillis};

const MINUTE: i64 = 60_000;

fn minutes(count: u64) -> Option<Span> {
    Some(Span::secs(count * 60))
}

/// A job that is tried often, with a wait of a minute between.
fn limited(run: Option<Span>, queue: Option<Span>) -> JobSpec {
    let backoff = Backoff::Fixed { delay: Span::secs(60) };
    let retries = RetryPolicy { count: 9, backoff };
    JobSpec { retries, limits: RunLimits { run, queue }, ..triggered("a") }
}

/// A run of an action of such a job, waiting for a worker since just now.
struct Case {
    m: Machine,
    worker: WorkerId,
    job: JobId,
    action: ActionKey,
    run: RunId,
}

impl Case {
    fn of(spec: JobSpec) -> Self {
        let mut m = Machine::new();
        let worker = m.worker("w", 9);
        let job = m.job(spec);
        let at = m.now + 1000;
        m.plan(job, &[(at, vec![])]);
        m.after(1000);
        let run = m.queue()[0];
        Self { m, worker, job, action: key(job, at), run }
    }

    fn run(&self) -> &Run {
        self.m.state.run(self.run).unwrap()
    }

    fn result(&self) -> Option<RunResult> {
        match self.run().state {
            RunState::Finished { result, .. } => Some(result),
            _ => None,
        }
    }

    /// The worker keeps in touch while time passes.
    fn lives(&mut self, minutes: i64) {
        for _ in 0..minutes * 2 {
            self.heard();
            self.m.after(MINUTE / 2);
        }
    }

    fn heard(&mut self) {
        self.m.ok(Command::WorkersAlive(vec![(self.worker, Incarnation(1))]));
    }

    fn fails_after(&mut self, minutes: i64, how: EndKind) {
        let attempt = self.m.dispatch(self.run, self.worker);
        self.lives(minutes);
        self.m.complete(attempt, how);
    }
}

#[test]
fn a_run_ends_with_all_its_retries_when_its_time_is_over() {
    // 3 minutes of work, 1 of waiting, 3, 1: two minutes are left for the third try.
    let mut case = Case::of(limited(minutes(10), None));
    for _ in 0..2 {
        case.fails_after(3, exit(1));
        case.lives(1);
    }
    let attempt = case.m.dispatch(case.run, case.worker);
    let (run, spec) = (case.run(), &case.m.state.job(case.job).unwrap().spec);
    let live = run.live_attempt().unwrap();
    let left = |after: u64| {
        let from = UtcMillis(case.m.now).plus(Span::secs(after));
        case.m.state.time_out_of(run, live, spec, from)
    };
    assert_eq!(left(0), minutes(2));
    assert_eq!(left(60), minutes(1), "an order that is built later says less");
    assert_eq!(left(600), Some(Span::ZERO));
    let short = JobSpec { timeout: minutes(1), ..spec.clone() };
    assert_eq!(case.m.state.time_out_of(run, live, &short, live.dispatched), minutes(1));
    let begin_by = case.m.state.begin_by(run, live, spec);
    assert_eq!(begin_by, live.dispatched.plus(JobSpec::DEFAULT_LEASE));
    // By its clock the shim is a little early, and no retry is made of what is left.
    case.lives(1);
    case.heard();
    case.m.after(MINUTE - 500);
    case.m.complete(attempt, EndKind::TimedOut);
    assert_eq!(case.result(), Some(RunResult::RunTimedOut));
    assert_eq!((case.run().retries, case.run().attempts.len()), (2, 3));
    assert_eq!(state_of(&case.m, case.action), ActionState::Failed);
}

#[test]
fn the_cluster_ends_an_attempt_that_its_shim_did_not() {
    let mut case = Case::of(limited(minutes(10), None));
    case.m.dispatch(case.run, case.worker);
    // Lease, margin, drift beyond it, and grace come on top, as for an attempt's own time.
    case.lives(11);
    assert_eq!(case.run().state, RunState::Running);
    case.lives(1);
    assert_eq!(case.result(), Some(RunResult::RunTimedOut));
    let end = case.run().attempts[0].end.as_ref().unwrap();
    assert_eq!(end.how, EndKind::TimedOut);
}

#[test]
fn an_attempts_own_time_out_is_tried_again_while_there_is_time() {
    let mut case = Case::of(JobSpec { timeout: minutes(2), ..limited(minutes(10), None) });
    case.fails_after(2, EndKind::TimedOut);
    assert_eq!(case.run().retries, 1);
    assert!(matches!(case.run().state, RunState::Backoff { .. }));
}

#[test]
fn a_retry_that_would_come_too_late_is_not_waited_for() {
    let mut case = Case::of(limited(minutes(10), None));
    case.fails_after(9, exit(1));
    assert_eq!(case.result(), Some(RunResult::RunTimedOut));
    assert_eq!(case.run().retries, 0, "it was not made");
    // Where another try would have been, there is no time left for it either.
    let mut case = Case::of(limited(minutes(10), None));
    case.fails_after(11, EndKind::Gone);
    assert_eq!((case.result(), case.run().losses), (Some(RunResult::RunTimedOut), 0));
    // What has succeeded in spite of all has succeeded.
    let mut case = Case::of(limited(minutes(10), None));
    case.fails_after(11, exit(0));
    assert_eq!(case.result(), Some(RunResult::Success));
    // And without a try left it has simply failed.
    let spec = JobSpec { retries: RetryPolicy::default(), ..limited(minutes(10), None) };
    let mut case = Case::of(spec);
    case.fails_after(9, exit(1));
    assert_eq!(case.result(), Some(RunResult::Failed));
}

#[test]
fn a_run_that_no_worker_has_is_over_at_once() {
    let mut case = Case::of(limited(minutes(10), None));
    case.fails_after(3, exit(1));
    case.lives(6);
    assert_eq!(case.run().state, RunState::Queued);
    case.m.after(MINUTE);
    assert_eq!(case.result(), Some(RunResult::RunTimedOut));
    assert_eq!(state_of(&case.m, case.action), ActionState::Failed);
    // Time that a pause took is not given back.
    let mut case = Case::of(limited(minutes(10), None));
    case.m.ok(Command::PauseJob { job: case.job });
    case.m.after(10 * MINUTE);
    assert_eq!(case.result(), Some(RunResult::RunTimedOut));
}

#[test]
fn a_run_waits_to_begin_no_longer_than_it_may() {
    let mut case = Case::of(limited(None, minutes(10)));
    case.m.after(10 * MINUTE - 1);
    assert_eq!(case.result(), None);
    case.m.after(1);
    assert_eq!(case.result(), Some(RunResult::QueueTimedOut));
    assert_eq!(state_of(&case.m, case.action), ActionState::Failed);
    assert!(case.m.queue().is_empty());
    // Once it was tried, it may wait for the next try.
    let mut case = Case::of(limited(None, minutes(10)));
    case.m.after(9 * MINUTE);
    case.fails_after(1, exit(1));
    case.m.after(60 * MINUTE);
    assert_eq!(case.run().state, RunState::Queued);
    // What is asked for by hand waits no longer either.
    let job = case.job;
    case.m.ok(Command::TriggerJob { job });
    let by_hand = *case.m.queue().last().unwrap();
    case.m.after(10 * MINUTE);
    let over = case.m.state.run(by_hand).unwrap().state;
    assert!(matches!(over, RunState::Finished { result: RunResult::QueueTimedOut, .. }));
}

#[test]
fn what_is_planned_late_has_its_whole_wait() {
    let mut m = Machine::new();
    let job = m.job(limited(None, minutes(10)));
    let at = m.now + 1000;
    m.after(60 * MINUTE);
    m.plan(job, &[(at, vec![])]);
    m.after(0);
    let run = m.queue()[0];
    assert!(m.state.run(run).unwrap().ready_at < m.state.run(run).unwrap().created);
    m.after(9 * MINUTE);
    assert_eq!(m.state.run(run).unwrap().state, RunState::Queued);
    m.after(MINUTE);
    assert_eq!(state_of(&m, key(job, at)), ActionState::Failed);
}

#[test]
fn a_pause_is_no_wait_and_afterwards_it_counts_anew() {
    let group = PauseTarget::Group(GroupPath::new("g").unwrap());
    let trigger = |job| PauseTarget::Trigger(job, TriggerName("t".into()));
    for what in 0..4 {
        let spec =
            JobSpec { group: Some(GroupPath::new("g/in").unwrap()), ..limited(None, minutes(10)) };
        let mut case = Case::of(spec);
        let targets =
            [PauseTarget::Cluster, group.clone(), PauseTarget::Job(case.job), trigger(case.job)];
        let target = targets[what].clone();
        case.m.after(9 * MINUTE);
        case.m.ok(Command::Pause { target: target.clone() });
        for _ in 0..7 {
            case.m.after(3 * MINUTE);
        }
        assert_eq!(case.run().state, RunState::Queued, "{target:?}");
        let ready_at = case.run().ready_at;
        case.m.ok(Command::Resume { target: target.clone(), missed: AfterPause::Skip });
        case.m.after(10 * MINUTE - 1);
        assert_eq!(case.run().state, RunState::Queued, "{target:?}");
        assert_eq!(case.run().ready_at, ready_at, "its place in the queue is as it was");
        case.m.after(1);
        assert_eq!(case.result(), Some(RunResult::QueueTimedOut), "{target:?}");
    }
}

#[test]
fn an_edit_that_takes_a_paused_trigger_away_lets_its_run_wait_anew() {
    let mut case = Case::of(limited(None, minutes(10)));
    let target = PauseTarget::Trigger(case.job, TriggerName("t".into()));
    case.m.ok(Command::Pause { target });
    case.m.after(30 * MINUTE);
    let spec = JobSpec { triggers: vec![cron("other")], ..limited(None, minutes(10)) };
    case.m.ok(apply(spec));
    case.m.after(9 * MINUTE);
    assert_eq!(case.m.queue(), [case.run]);
    case.m.after(MINUTE);
    assert_eq!(case.result(), Some(RunResult::QueueTimedOut));
}

#[test]
fn a_run_whose_time_is_over_is_given_to_nobody() {
    let mut case = Case::of(limited(minutes(10), None));
    // Somebody else's command moves time and releases nothing.
    case.m.now += 10 * MINUTE;
    let command = Command::Dispatch {
        run: case.run,
        number: 1,
        worker: case.worker,
        incarnation: Incarnation(1),
    };
    let envelope = Envelope { actor: Actor::User("ann".to_owned()), request: None, command };
    let entry = Entry { index: 99, now: UtcMillis(case.m.now), command: &envelope };
    let outcome = case.m.state.apply(entry).outcome;
    let refused = Reject::NotDispatchable(case.run);
    assert_eq!(outcome, super::super::outcome::Outcome::Rejected(refused));
}

#[test]
fn limits_have_bounds() {
    let mut m = Machine::new();
    let (short, long) = (Some(Span(999)), Some(Span::secs(367 * 86_400)));
    for bad in [short, long] {
        for (spec, field) in
            [(limited(bad, None), "run_timeout"), (limited(None, bad), "queue_timeout")]
        {
            let refused = m.refused(apply(spec)).to_string();
            assert!(refused.starts_with(field), "{refused}");
        }
    }
}
