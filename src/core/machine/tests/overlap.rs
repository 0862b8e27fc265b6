//! Actions that are ready while another run of their job is live.

use super::super::command::*;
use super::super::outcome::{Outcome, Reject};
use super::support::*;
use crate::ids::{AttemptKey, JobId, RunId, Token, WorkerId};
use crate::model::action::{ActionState, SkipReason, WaitReason};
use crate::model::job::{Backoff, JobSpec, Overlap, RetryPolicy};
use crate::model::run::EndKind;
use crate::placement::explain::{Subject, explain};
use crate::time::Span;

const SKIPPED: ActionState = ActionState::Skipped(SkipReason::Overlap);

/// A job that says so, with an action each second.
struct Line {
    m: Machine,
    worker: WorkerId,
    job: JobId,
    begin: i64,
}

impl Line {
    fn new(overlap: Overlap, actions: i64) -> Self {
        let mut m = Machine::new();
        let worker = m.worker("w", 9);
        let job = m.job(JobSpec { overlap, ..triggered("a") });
        let begin = m.now;
        let instants: Vec<_> = (1..=actions).map(|n| (begin + n * 1000, vec![])).collect();
        m.plan(job, &instants);
        Self { m, worker, job, begin }
    }

    /// The states of the first actions.
    fn states(&self, count: i64) -> Vec<ActionState> {
        let state = |n| self.m.state.action(key(self.job, self.begin + n * 1000)).unwrap().state;
        (1..=count).map(state).collect()
    }

    fn second(&mut self) -> &mut Self {
        self.m.after(1000);
        self
    }

    /// The only queued run goes to a worker.
    fn runs(&mut self) -> (AttemptKey, Token) {
        let [run]: [RunId; 1] = self.m.queue().try_into().unwrap();
        self.m.dispatch(run, self.worker)
    }
}

#[test]
fn one_is_skipped_while_another_runs() {
    let mut line = Line::new(Overlap::Skip, 3);
    let attempt = line.second().runs();
    line.second();
    assert_eq!(line.states(2), [ActionState::Running, SKIPPED]);
    line.m.complete(attempt, exit(0));
    line.second();
    assert_eq!(line.states(3)[2], ActionState::Ready);
}

#[test]
fn the_newest_waits_and_takes_the_place_of_older_ones() {
    let mut line = Line::new(Overlap::QueueOne, 4);
    let attempt = line.second().runs();
    line.second().second().second();
    use ActionState::{Ready, Running, Success, Waiting};
    assert_eq!(line.states(4), [Running, SKIPPED, SKIPPED, Waiting]);
    let last = Subject::Action(key(line.job, line.begin + 4000));
    assert_eq!(explain(&line.m.state, last, &|_| true), Some(WaitReason::Overlap));
    line.m.complete(attempt, exit(0));
    assert_eq!(line.states(4), [Success, SKIPPED, SKIPPED, Ready]);
}

#[test]
fn all_wait_and_start_in_their_order_whatever_came_of_the_one_before() {
    let mut line = Line::new(Overlap::QueueAll, 4);
    let mut attempt = line.second().runs();
    line.second().second().second();
    for (n, code) in [(1, 0), (2, 1), (3, 0)] {
        line.m.complete(attempt, exit(code));
        let states = line.states(4);
        assert_eq!(states.iter().filter(|s| **s == ActionState::Ready).count(), 1, "{states:?}");
        assert_eq!(states[n], ActionState::Ready);
        attempt = line.runs();
    }
    // A manual run takes a turn, too, and is not held up itself.
    let mut line = Line::new(Overlap::QueueAll, 1);
    line.m.ok(Command::TriggerJob { job: line.job });
    let attempt = line.runs();
    line.second();
    assert_eq!(line.states(1), [ActionState::Waiting]);
    line.m.complete(attempt, exit(0));
    assert_eq!(line.states(1), [ActionState::Ready]);
}

#[test]
fn the_live_run_is_cancelled_for_the_next() {
    use ActionState::{Cancelled, Ready, Running, Waiting};
    let mut line = Line::new(Overlap::CancelRunning, 3);
    line.second().second();
    assert_eq!(line.states(2), [Cancelled, Ready], "no worker had it: it is over at once");
    let attempt = line.runs();
    line.second();
    assert_eq!(line.states(3), [Cancelled, Running, Waiting]);
    assert!(line.m.state.run(attempt.0.run).unwrap().cancel_requested);
    line.m.complete(attempt, EndKind::Cancelled);
    assert_eq!(line.states(3), [Cancelled, Cancelled, Ready]);
}

#[test]
fn all_that_wait_pass_where_their_job_has_nothing_to_do_any_more() {
    let mut line = Line::new(Overlap::QueueAll, 4);
    let attempt = line.second().runs();
    line.second().second();
    let overlap = Overlap::QueueAll;
    line.m.ok(apply(only_in(&["EU"], JobSpec { overlap, ..triggered("a") })));
    line.m.ok(set_area(Some("US")));
    line.m.complete(attempt, exit(0));
    assert_eq!(line.states(3), [ActionState::Success; 3]);
    assert_eq!(line.m.queue(), []);
}

#[test]
fn an_edit_that_allows_it_lets_all_go() {
    let mut line = Line::new(Overlap::QueueAll, 3);
    line.second().runs();
    line.second().second();
    line.m.ok(apply(triggered("a")));
    assert_eq!(line.states(3)[1..], [ActionState::Ready; 2]);
}

#[test]
fn a_run_that_waits_for_a_retry_is_in_the_way_too() {
    let mut line = Line::new(Overlap::Skip, 0);
    let retries = RetryPolicy { count: 1, backoff: Backoff::Fixed { delay: Span::secs(9) } };
    line.job = line.m.job(JobSpec { retries, overlap: Overlap::Skip, ..triggered("b") });
    line.m.plan(line.job, &[(line.begin + 1000, vec![]), (line.begin + 2000, vec![])]);
    let attempt = line.second().runs();
    line.m.complete(attempt, exit(1));
    line.second();
    assert_eq!(line.states(2)[1], SKIPPED);
}

/// The first action has succeeded, and the second one runs.
fn one_over_and_one_live(overlap: Overlap) -> (Line, AttemptKey, Token) {
    let mut line = Line::new(overlap, 4);
    let attempt = line.second().runs();
    line.m.complete(attempt, exit(0));
    let (attempt, token) = line.second().runs();
    (line, attempt, token)
}

#[test]
fn whoever_has_an_action_run_again_waits_for_its_turn_too() {
    let again =
        |line: &Line| Command::Rerun { action: key(line.job, line.begin + 1000), below: false };
    let (mut line, attempt, token) = one_over_and_one_live(Overlap::QueueAll);
    assert_eq!(line.m.ok(again(&line)), Outcome::Done, "there is no run yet");
    assert_eq!(line.states(2), [ActionState::Waiting, ActionState::Running]);
    line.m.complete((attempt, token), exit(0));
    assert_eq!(line.states(2), [ActionState::Ready, ActionState::Success]);

    let (mut line, attempt, token) = one_over_and_one_live(Overlap::CancelRunning);
    assert_eq!(line.m.ok(again(&line)), Outcome::Done);
    line.m.complete((attempt, token), EndKind::Cancelled);
    assert_eq!(line.states(2), [ActionState::Ready, ActionState::Cancelled]);

    let (mut line, ..) = one_over_and_one_live(Overlap::Allow);
    assert!(matches!(line.m.ok(again(&line)), Outcome::Run { .. }));
}

#[test]
fn whoever_would_be_left_out_is_told_so() {
    let again =
        |line: &Line| Command::Rerun { action: key(line.job, line.begin + 1000), below: false };
    let out = |line: &Line| Reject::OutOfTurn(key(line.job, line.begin + 1000));
    let (mut line, ..) = one_over_and_one_live(Overlap::Skip);
    assert_eq!(line.m.refused(again(&line)), out(&line));
    assert_eq!(line.states(2), [ActionState::Success, ActionState::Running]);
    let (mut line, ..) = one_over_and_one_live(Overlap::QueueOne);
    line.second();
    assert_eq!(line.m.refused(again(&line)), out(&line), "the third one waits, and is newer");
}
