//! Reruns, forced successes and skips: who is told, and what is left alone.

use super::super::command::*;
use super::super::outcome::{Outcome, Reject};
use super::super::state::Limits;
use super::support::*;
use crate::ids::{ActionKey, JobId, RunId, WorkerId};
use crate::model::action::{ActionState, SkipReason, Upstream};
use crate::model::job::{Backoff, JobSpec, RetryPolicy};
use crate::model::run::RunKind;
use crate::time::Span;

const SKIPPED: ActionState = ActionState::Skipped(SkipReason::Upstream);

/// Jobs that wait for each other, each with one action at the same instant, which has come.
struct Graph {
    m: Machine,
    worker: WorkerId,
    at: i64,
}

impl Graph {
    /// The first job has a trigger, the others wait for those that are named.
    fn new(jobs: &[(&str, &[usize])]) -> (Self, Vec<JobId>) {
        let mut m = Machine::new();
        let worker = m.worker("w", 50);
        let at = m.now + 1000;
        let mut ids: Vec<JobId> = Vec::new();
        for (name, ups) in jobs {
            let ups: Vec<JobId> = ups.iter().map(|up| ids[*up]).collect();
            let spec = if ups.is_empty() { triggered(name) } else { after_jobs(name, &ups) };
            ids.push(m.job(spec));
        }
        for (id, (_, ups)) in ids.iter().zip(jobs) {
            let upstream = ups.iter().map(|up| key(ids[*up], at)).collect();
            assert_eq!(m.plan(*id, &[(at, upstream)]), (1, 0));
        }
        m.after(1000);
        (Self { m, worker, at }, ids)
    }

    fn state(&self, job: JobId) -> ActionState {
        self.m.state.action(key(job, self.at)).unwrap().state
    }

    /// The kind of the run that waits for a worker.
    fn queued(&self, job: JobId) -> Option<(RunId, RunKind)> {
        let run = self.m.state.action(key(job, self.at)).unwrap().run?;
        let run = self.m.state.run(run).unwrap();
        self.m.queue().contains(&run.id).then_some((run.id, run.kind))
    }

    /// Its queued run ends.
    fn ends(&mut self, job: JobId, code: i32) -> RunKind {
        let (run, kind) =
            self.queued(job).unwrap_or_else(|| panic!("{job}: {:?}", self.state(job)));
        let attempt = self.m.dispatch(run, self.worker);
        self.m.complete(attempt, exit(code));
        kind
    }

    fn key(&self, job: JobId) -> ActionKey {
        key(job, self.at)
    }

    fn rerun(&mut self, job: JobId, below: bool) -> RunId {
        let action = self.key(job);
        match self.m.ok(Command::Rerun { action, below }) {
            Outcome::Run { run } => run,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_waited_for_a_failure_goes_on_after_a_recovery() {
    let (mut g, jobs) = Graph::new(&[("a", &[]), ("b", &[0]), ("c", &[1])]);
    let [a, b, c] = jobs[..] else { unreachable!() };
    assert_eq!(g.ends(a, 1), RunKind::Schedule);
    assert_eq!((g.state(a), g.state(b)), (ActionState::Failed, ActionState::Waiting));
    let run = g.rerun(a, false);
    assert_eq!(g.queued(a), Some((run, RunKind::Recover)));
    let action = g.key(a);
    let again = g.m.refused(Command::Rerun { action, below: false });
    assert_eq!(again, Reject::ActionActive { action, run });
    assert_eq!(g.ends(a, 0), RunKind::Recover);
    assert_eq!(g.ends(b, 0), RunKind::Dependency);
    assert_eq!(g.ends(c, 0), RunKind::Dependency);
    // Its runs are kept, and go with the action's newest one.
    assert_eq!(g.m.state.runs_of_job(a, None).count(), 2);
}

#[test]
fn a_failed_dependant_runs_at_once_when_its_upstream_is_recovered() {
    // hera's G15: the map of what is ready stays full until the dependant succeeds.
    let (mut g, jobs) = Graph::new(&[("a", &[]), ("b", &[]), ("c", &[0, 1])]);
    let [a, b, c] = jobs[..] else { unreachable!() };
    g.ends(a, 0);
    assert_eq!(g.state(c), ActionState::Waiting);
    g.ends(b, 0);
    assert_eq!(g.ends(c, 1), RunKind::Dependency);
    // A manual run of the job changes nothing.
    let Outcome::Run { run } = g.m.ok(Command::TriggerJob { job: a }) else { unreachable!() };
    let attempt = g.m.dispatch(run, g.worker);
    g.m.complete(attempt, exit(0));
    assert_eq!(g.state(c), ActionState::Failed);
    g.rerun(a, false);
    g.ends(a, 0);
    assert_eq!(g.ends(c, 0), RunKind::Recover);
}

#[test]
fn a_success_gathers_anew_what_it_waits_for() {
    // hera's G15: a success of the dependant empties the map of what is ready.
    let (mut g, jobs) = Graph::new(&[("a", &[]), ("b", &[]), ("c", &[0, 1]), ("d", &[2])]);
    let [a, b, c, d] = jobs[..] else { unreachable!() };
    for job in [a, b, c, d] {
        g.ends(job, 0);
    }
    let met = |g: &Graph| -> Vec<bool> {
        g.m.state.action(g.key(c)).unwrap().upstream.iter().map(Upstream::is_met).collect()
    };
    assert_eq!(met(&g), [false, false]);
    g.rerun(a, false);
    g.ends(a, 0);
    assert_eq!((g.state(c), met(&g)), (ActionState::Success, vec![true, false]));
    // The same one again says no more.
    g.rerun(a, false);
    g.ends(a, 0);
    assert_eq!((g.state(c), met(&g)), (ActionState::Success, vec![true, false]));
    g.rerun(b, false);
    g.ends(b, 1);
    assert_eq!(g.state(c), ActionState::Success, "it failed");
    g.rerun(b, false);
    g.ends(b, 0);
    assert_eq!(g.ends(c, 0), RunKind::Recover);
    assert_eq!(met(&g), [false, false]);
    assert_eq!(g.ends(d, 0), RunKind::Recover, "and on to the end of the chain");
    let runs = |job| g.m.state.runs_of_job(job, None).count();
    assert_eq!([a, b, c, d].map(runs), [3, 3, 2, 2]);
}

#[test]
fn a_soft_edge_runs_nothing_anew() {
    let mut m = Machine::new();
    let worker = m.worker("w", 9);
    let at = m.now + 1000;
    let a = m.job(triggered("a"));
    let b = m.job(after_jobs("b", &[a]));
    let mut soft = after_jobs("soft", &[a]);
    soft.depends_on[0].soft = true;
    let soft = m.job(soft);
    m.plan(a, &[(at, vec![])]);
    for down in [b, soft] {
        assert_eq!(m.plan(down, &[(at, vec![key(a, at)])]), (1, 0));
    }
    m.after(1000);
    let mut g = Graph { m, worker, at };
    for job in [a, b, soft] {
        g.ends(job, 0);
    }
    g.rerun(a, false);
    g.ends(a, 0);
    assert_eq!(g.queued(b).map(|(_, kind)| kind), Some(RunKind::Recover));
    assert_eq!((g.state(soft), g.queued(soft)), (ActionState::Success, None));
}

#[test]
fn a_recovery_of_the_tree_runs_each_of_it_once_after_what_it_follows() {
    // A diamond with a tail, a side that somebody else holds up, and one that runs.
    let shape: [(&str, &[usize]); 7] = [
        ("a", &[]),
        ("left", &[0]),
        ("right", &[0]),
        ("tail", &[1, 2]),
        ("other", &[]),
        ("held", &[3, 4]),
        ("busy", &[0]),
    ];
    let (mut g, jobs) = Graph::new(&shape);
    let [a, left, right, tail, other, held, busy] = jobs[..] else { unreachable!() };
    for job in [a, left, right] {
        g.ends(job, 0);
    }
    g.ends(tail, 1);
    assert_eq!(g.state(held), ActionState::Waiting);
    let before = g.queued(busy);
    let tree = g.m.state.tree_below(g.key(a)).unwrap();
    assert_eq!(tree, [left, right, tail, held].map(|job| g.key(job)));
    let run = g.rerun(a, true);
    assert_eq!(g.m.queue().iter().filter(|queued| **queued == run).count(), 1);
    for job in [left, right, tail, held] {
        assert_eq!(g.state(job), ActionState::Waiting, "{job}");
    }
    assert_eq!(g.queued(busy), before, "it is left alone");
    assert_eq!(g.ends(a, 0), RunKind::SuperRecover);
    assert_eq!(g.ends(left, 0), RunKind::SuperRecover);
    assert_eq!(g.state(tail), ActionState::Waiting, "it waits for both halves");
    assert_eq!(g.ends(right, 0), RunKind::SuperRecover);
    assert_eq!(g.ends(tail, 0), RunKind::SuperRecover);
    assert_eq!(g.ends(held, 0), RunKind::SuperRecover, "whatever else it waited for");
    g.ends(other, 0);
    let runs = |job| g.m.state.runs_of_job(job, None).count();
    assert_eq!([a, left, right, tail, held, busy].map(runs), [2, 2, 2, 2, 1, 1]);
}

#[test]
fn a_tree_that_fails_half_way_goes_on_when_that_is_recovered() {
    let (mut g, jobs) = Graph::new(&[("a", &[]), ("b", &[0]), ("c", &[1])]);
    let [a, b, c] = jobs[..] else { unreachable!() };
    for job in [a, b, c] {
        g.ends(job, 0);
    }
    g.rerun(a, true);
    g.ends(a, 0);
    g.ends(b, 1);
    assert_eq!((g.state(b), g.state(c)), (ActionState::Failed, ActionState::Waiting));
    g.rerun(b, false);
    g.ends(b, 0);
    assert_eq!(g.ends(c, 0), RunKind::SuperRecover);
}

#[test]
fn a_forced_success_and_a_skip_are_told_on() {
    let (mut g, jobs) = Graph::new(&[("a", &[]), ("b", &[0]), ("c", &[1])]);
    let [a, b, c] = jobs[..] else { unreachable!() };
    let settle = |g: &mut Graph, job, success| {
        let action = g.key(job);
        g.m.ok(Command::SettleAction { action, success })
    };
    let action = g.key(a);
    let busy = g.m.refused(Command::SettleAction { action, success: true });
    assert!(matches!(busy, Reject::ActionActive { .. }), "{busy:?}");
    g.ends(a, 1);
    settle(&mut g, a, true);
    assert_eq!(g.state(a), ActionState::Success);
    assert!(g.m.state.action(action).unwrap().forced);
    let waits = g.m.state.action(g.key(b)).unwrap().upstream[0];
    assert!(waits.is_met() && waits.met.is_none(), "no run did it: {waits:?}");
    g.ends(b, 1);
    settle(&mut g, b, false);
    assert_eq!(g.state(b), ActionState::Skipped(SkipReason::Person));
    assert_eq!(g.state(c), SKIPPED, "and what waits for it");
    // It comes back with its upstream.
    g.rerun(b, false);
    assert_eq!(g.state(c), SKIPPED);
    g.ends(b, 0);
    assert_eq!(g.ends(c, 0), RunKind::Dependency);
    // What has succeeded is not skipped, and success twice is one.
    let action = g.key(b);
    assert_eq!(settle(&mut g, b, true), Outcome::Done);
    let refused = g.m.refused(Command::SettleAction { action, success: false });
    assert!(matches!(refused, Reject::Invalid { .. }), "{refused:?}");
    let nowhere = key(a, g.at + 1);
    let missing = g.m.refused(Command::Rerun { action: nowhere, below: true });
    assert_eq!(missing, Reject::NoSuchAction(nowhere));
}

#[test]
fn what_is_not_due_may_be_settled_and_run_before_its_time() {
    let mut m = Machine::new();
    let worker = m.worker("w", 5);
    let (a, at) = (m.job(triggered("a")), m.now + 3_600_000);
    let b = m.job(JobSpec { ..after_jobs("b", &[a]) });
    m.plan(a, &[(at, vec![]), (at + 1000, vec![])]);
    m.plan(b, &[(at, vec![key(a, at)]), (at + 1000, vec![key(a, at + 1000)])]);
    m.ok(Command::SettleAction { action: key(a, at), success: true });
    assert_eq!(m.state.action(key(b, at)).unwrap().state, ActionState::Planned, "not due either");
    let action = key(a, at + 1000);
    let Outcome::Run { run } = m.ok(Command::Rerun { action, below: false }) else { panic!() };
    let attempt = m.dispatch(run, worker);
    m.complete(attempt, exit(0));
    m.after(3_600_000);
    assert_eq!(m.state.action(key(b, at)).unwrap().state, ActionState::Ready);
    m.after(1000);
    assert_eq!(m.state.action(key(b, at + 1000)).unwrap().state, ActionState::Ready);
    assert_eq!(m.state.runs_of_job(a, None).count(), 1, "its time brings no second run");
}

#[test]
fn a_run_that_somebody_asked_for_is_not_skipped_with_its_upstream() {
    let (mut g, ids) = Graph::new(&[("up", &[]), ("down", &[0])]);
    let (up, down) = (g.key(ids[0]), g.key(ids[1]));
    g.m.ok(Command::Rerun { action: down, below: false });
    let (run, _) = g.queued(ids[0]).unwrap();
    g.m.ok(Command::CancelRun { run });
    g.m.ok(Command::SettleAction { action: up, success: false });
    assert_eq!(g.state(ids[1]), ActionState::Ready);
    assert_eq!(g.ends(ids[1], 0), RunKind::Recover);
    assert_eq!(g.state(ids[1]), ActionState::Success);
}

#[test]
fn a_run_that_somebody_asked_for_goes_on_when_its_upstream_is_taken_away() {
    let mut m = Machine::new();
    let worker = m.worker("w", 5);
    let (up, at) = (m.job(triggered("up")), m.now + 1000);
    let down = m.job(after_jobs("down", &[up]));
    m.plan(up, &[(at, vec![])]);
    m.plan(down, &[(at, vec![key(up, at)])]);
    m.ok(Command::Rerun { action: key(down, at), below: false });
    m.ok(Command::PauseJob { job: up });
    m.after(2000);
    // What was planned in the pause never comes.
    m.ok(Command::ResumeJob { job: up });
    assert_eq!(state_of(&m, key(down, at)), ActionState::Ready);
    let attempt = m.dispatch(m.queue()[0], worker);
    m.complete(attempt, exit(0));
    assert_eq!(state_of(&m, key(down, at)), ActionState::Success);
}

#[test]
fn what_ended_while_an_action_was_over_counts_when_it_is_run_again() {
    let (mut g, ids) = Graph::new(&[("up", &[]), ("down", &[0])]);
    let down = g.key(ids[1]);
    g.m.ok(Command::SettleAction { action: down, success: true });
    g.ends(ids[0], 0);
    g.m.ok(Command::Rerun { action: down, below: false });
    assert!(g.m.state.action(down).unwrap().upstream[0].is_met());
}

#[test]
fn a_retry_is_of_the_kind_of_its_run_and_its_wait_stands_whoever_leads() {
    let retries = RetryPolicy { count: 1, backoff: Backoff::Fixed { delay: Span::secs(60) } };
    let mut m = Machine::new();
    let worker = m.worker("w", 9);
    let job = m.job(JobSpec { retries, ..triggered("a") });
    let at = m.now + 1000;
    m.plan(job, &[(at, vec![])]);
    m.after(1000);
    let first = m.queue()[0];
    let attempt = m.dispatch(first, worker);
    m.complete(attempt, exit(0));
    let action = key(job, at);
    let Outcome::Run { run } = m.ok(Command::Rerun { action, below: false }) else { panic!() };
    let attempt = m.dispatch(run, worker);
    m.complete(attempt, exit(1));
    m.after(30_000);
    m.ok(Command::LeaderStarted(leader(2)));
    m.after(29_000);
    assert_eq!(m.queue(), []);
    m.after(1_000);
    assert_eq!(m.queue(), [run]);
    assert_eq!(m.state.run(run).unwrap().kind, RunKind::Recover);
}

#[test]
fn an_action_whose_upstream_is_forgotten_runs_again() {
    let mut m = Machine::with(Limits { ended_per_job: 2, ..Limits::default() });
    let worker = m.worker("w", 9);
    let up = m.job(triggered("a"));
    let down = m.job(after_jobs("b", &[up]));
    let first = m.now + 1000;
    let instants: Vec<_> = (0..6).map(|n| (first + n * 1000, vec![])).collect();
    m.plan(up, &instants);
    m.plan(down, &[(first, vec![key(up, first)])]);
    for _ in 0..6 {
        m.after(1000);
        while let Some(run) = m.queue().first().copied() {
            let attempt = m.dispatch(run, worker);
            m.complete(attempt, exit(0));
        }
    }
    assert!(m.state.action(key(up, first)).is_none(), "it is forgotten");
    m.ok(Command::Rerun { action: key(down, first), below: true });
    let run = m.queue()[0];
    let attempt = m.dispatch(run, worker);
    m.complete(attempt, exit(0));
    assert_eq!(m.state.action(key(down, first)).unwrap().state, ActionState::Success);
}
