//! Deletion of jobs: refused, forced, with their live runs, and what is left of those
//! that depended on them.

use super::super::command::*;
use super::super::outcome::{Outcome, Reject};
use super::super::state::State;
use super::support::*;
use crate::ids::{JobId, Revision, TriggerName};
use crate::model::action::{ActionState, SkipReason};
use crate::model::edge::{EdgeSpec, Matching, NoMatch};
use crate::model::job::*;
use crate::model::run::{EndKind, RunResult, RunState};
use crate::model::trigger::{RuleSpec, TriggerRule};
use crate::time::Span;

fn remove(job: JobId, force: bool, cancel: bool) -> Command {
    Command::RemoveJob { job, expected: None, force, cancel }
}

/// Two jobs with a trigger, and three that wait for both, one or the other; each has an
/// action that is due, and those of the first two are with a worker.
struct Case {
    m: Machine,
    at: i64,
    /// `a`, `b`, after both, after `a` alone, after `a` with a trigger of its own.
    jobs: [JobId; 5],
}

impl Case {
    fn new() -> Self {
        let mut m = Machine::new();
        let worker = m.worker("w", 9);
        let [a, b] = ["a", "b"].map(|name| m.job(triggered(name)));
        let both = m.job(after_jobs("both", &[a, b]));
        let only = m.job(after_jobs("only", &[a]));
        let own = m.job(JobSpec { triggers: vec![cron("t")], ..after_jobs("own", &[a]) });
        let at = m.now + 1000;
        for job in [a, b] {
            m.plan(job, &[(at, vec![]), (at + 60_000, vec![])]);
        }
        for (job, ups) in [(both, vec![a, b]), (only, vec![a]), (own, vec![a])] {
            let of = |at| ups.iter().map(|up| key(*up, at)).collect();
            m.plan(job, &[(at, of(at)), (at + 60_000, of(at + 60_000))]);
        }
        m.after(1000);
        let jobs = [a, b, both, only, own];
        for run in m.queue() {
            m.dispatch(run, worker);
        }
        let case = Self { m, at, jobs };
        assert_eq!(case.states()[2..], [ActionState::Waiting; 3]);
        case
    }

    fn states(&self) -> [ActionState; 5] {
        self.jobs.map(|job| state_of(&self.m, key(job, self.at)))
    }

    /// The run of a job's due action ends.
    fn ends(&mut self, job: JobId, how: EndKind) {
        let run = self.m.state.action(key(job, self.at)).unwrap().run.unwrap();
        let attempt = self.m.state.run(run).unwrap().live_attempt().unwrap();
        let attempt = (attempt.key, attempt.token);
        self.m.complete(attempt, how);
    }
}

#[test]
fn a_job_that_others_depend_on_is_deleted_by_force_alone() {
    let mut case = Case::new();
    let [a, b, both, only, own] = case.jobs;
    let names = ["both", "only", "own"].map(name).to_vec();
    for command in [Command::DeleteJob { job: a, expected: None }, remove(a, false, true)] {
        assert_eq!(case.m.refused(command), Reject::HasDependants { dependants: names.clone() });
    }
    let command =
        Command::RemoveJob { job: a, expected: Some(Revision(7)), force: true, cancel: true };
    assert!(matches!(case.m.refused(command), Reject::WrongRevision { .. }));
    let freed = vec![both, only, own];
    assert_eq!(case.m.ok(remove(a, true, false)), Outcome::Removed { freed, cancelled: 0 });
    // Each is edited, and its action that is due waits no longer for what is gone.
    for (job, edges) in [(both, vec![b]), (only, vec![]), (own, vec![])] {
        let job = case.m.state.job(job).unwrap();
        let left: Vec<JobId> = job.spec.depends_on.iter().map(|edge| edge.job).collect();
        assert_eq!((job.revision, left), (Revision(2), edges));
    }
    use ActionState::{Ready, Running, Waiting};
    assert_eq!(case.states(), [Running, Running, Waiting, Ready, Ready]);
    // What was ahead is withdrawn, and planned from now on by what is left.
    let later = |job| case.m.state.action(key(job, case.at + 60_000)).is_none();
    assert!([a, both, only, own].into_iter().all(later) && !later(b));
    let now = case.m.state.now();
    let cursor = |job, source| case.m.state.cursor(job, &source);
    assert_eq!(cursor(both, PlanSource::Dependencies), Some(now));
    assert_eq!(cursor(only, PlanSource::Dependencies), None, "nothing gives it instants");
    assert_eq!(cursor(own, PlanSource::Trigger(TriggerName("t".into()))), Some(now));
    // The live run goes on, and what it comes to is nobody's matter.
    case.ends(a, exit(1));
    assert_eq!(case.states()[0], ActionState::Failed);
    case.ends(b, exit(0));
    assert_eq!(case.states()[2], ActionState::Ready);
    assert!(matches!(case.m.refused(remove(a, true, false)), Reject::NoSuchJob(_)));
}

#[test]
fn live_runs_are_cancelled_with_it_if_that_is_asked() {
    let mut case = Case::new();
    let a = case.jobs[0];
    case.m.ok(Command::TriggerJob { job: a });
    let queued = *case.m.queue().last().unwrap();
    let outcome = case.m.ok(remove(a, true, true));
    assert!(matches!(outcome, Outcome::Removed { cancelled: 1, .. }), "{outcome:?}");
    let over = case.m.state.run(queued).unwrap().state;
    assert!(matches!(over, RunState::Finished { result: RunResult::Deleted, .. }), "{over:?}");
    let run = case.m.state.action(key(a, case.at)).unwrap().run.unwrap();
    assert!(case.m.state.run(run).unwrap().cancel_requested);
    case.ends(a, EndKind::Cancelled);
    assert_eq!(case.states()[0], ActionState::Cancelled);
    // Without dependants no force is needed.
    let lone = case.m.job(spec("lone"));
    let outcome = case.m.ok(remove(lone, false, true));
    assert_eq!(outcome, Outcome::Removed { freed: Vec::new(), cancelled: 0 });
}

#[test]
fn an_edge_that_found_nothing_is_waited_for_no_longer_either() {
    let mut m = Machine::new();
    let up = m.job(spec("up"));
    let job = m.job(JobSpec { depends_on: vec![EdgeSpec::new(up)], ..triggered("a") });
    let at = m.now + 1000;
    let mut batch = m.batch(job, PlanSource::Trigger(TriggerName("t".into())), &[(at, vec![])]);
    batch.actions[0].unmatched = vec![(up, NoMatch::Waits)];
    m.ok(Command::PlanActions(vec![batch]));
    m.after(1000);
    assert_eq!(state_of(&m, key(job, at)), ActionState::Waiting);
    m.ok(remove(up, true, false));
    assert_eq!(state_of(&m, key(job, at)), ActionState::Ready);
}

#[test]
fn what_would_be_left_of_a_definition_must_be_one() {
    let mut m = Machine::new();
    let mut delayed = triggered("delayed");
    let rule = TriggerRule::FixedDelay { delay: Span::secs(60) };
    delayed.triggers[0].kind = TriggerKind::Rule(Box::new(RuleSpec::new(rule)));
    let (base, delayed) = (m.job(triggered("base")), m.job(delayed));
    let newest = EdgeSpec { matching: Matching::LatestBefore, ..EdgeSpec::new(delayed) };
    let depends_on = vec![EdgeSpec::new(base), newest];
    let down = m.job(JobSpec { depends_on, ..spec("down") });
    let refused = m.refused(remove(base, true, false)).to_string();
    assert!(refused.starts_with("force: job down cannot be without it"), "{refused}");
    // The same with a job that would have to take its instants from itself.
    let back = |job| EdgeSpec { matching: Matching::LatestBefore, ..EdgeSpec::new(job) };
    let own = JobSpec { depends_on: vec![EdgeSpec::new(base), back(EdgeSpec::OWN)], ..spec("own") };
    m.ok(Command::RemoveJob { job: down, expected: None, force: false, cancel: false });
    m.job(own);
    let refused = m.refused(remove(base, true, false)).to_string();
    assert!(refused.contains("job own") && refused.contains("from itself"), "{refused}");
    assert!(m.state.job(base).is_some());
}

#[test]
fn so_many_edges_at_once_are_too_many() {
    let mut m = Machine::new();
    let up = m.job(triggered("up"));
    for n in 0..=State::MAX_FREED {
        // Without the checks of every command, which look at everything.
        let command = apply(after_jobs(&format!("j{n}"), &[up]));
        m.index += 1;
        let envelope = Envelope { actor: Actor::Leader(leader(1)), request: None, command };
        let now = m.state.now();
        m.state.apply(Entry { index: m.index, now, command: &envelope });
    }
    let refused = m.refused(remove(up, true, false)).to_string();
    assert!(refused.starts_with("force: 1001 jobs depend on it directly"), "{refused}");
    let last = m.state.jobs_after(None).last().unwrap().id;
    m.ok(remove(last, false, false));
    let outcome = m.ok(remove(up, true, false));
    assert!(matches!(outcome, Outcome::Removed { freed, .. } if freed.len() == State::MAX_FREED));
}

#[test]
fn nothing_of_a_deleted_job_takes_the_turn_of_what_is_dropped() {
    for overlap in [Overlap::QueueAll, Overlap::QueueOne] {
        let mut m = Machine::new();
        let job = m.job(JobSpec { overlap, ..triggered("a") });
        let at = m.now + 1000;
        m.plan(job, &[(at, vec![]), (at + 1000, vec![])]);
        m.after(2000);
        assert_eq!(state_of(&m, key(job, at + 1000)), ActionState::Waiting);
        m.ok(Command::DeleteJob { job, expected: None });
        let deleted = ActionState::Skipped(SkipReason::Deleted);
        assert_eq!(state_of(&m, key(job, at)), deleted);
        assert_eq!(state_of(&m, key(job, at + 1000)), deleted);
        assert!(m.queue().is_empty(), "{overlap:?}");
    }
}

#[test]
fn a_job_that_waits_for_itself_has_no_dependants() {
    let mut m = Machine::new();
    let back = EdgeSpec { matching: Matching::LatestBefore, ..EdgeSpec::new(EdgeSpec::OWN) };
    let job = m.job(JobSpec { depends_on: vec![back], ..triggered("a") });
    let freed = Vec::new();
    assert_eq!(m.ok(remove(job, true, false)), Outcome::Removed { freed, cancelled: 0 });
}
