//! Runs that a person asks for beside the plan.

use std::collections::BTreeMap;

use super::support::*;
use crate::ids::*;
use crate::machine::command::Command;
use crate::machine::outcome::{Outcome, Reject};
use crate::model::action::ActionState;
use crate::model::job::{Backoff, Job, JobSpec, Overlap, RetryPolicy};
use crate::model::run::{Run, RunKind, RunOrder, RunState};
use crate::time::{Span, UtcMillis};

fn order(m: &mut Machine, job: JobId, order: RunOrder) -> RunId {
    match m.ok(Command::RunJob { job, order: Box::new(order) }) {
        Outcome::Run { run } => run,
        other => panic!("{other:?}"),
    }
}

fn run(m: &Machine, id: RunId) -> &Run {
    m.state.run(id).unwrap()
}

#[test]
fn a_manual_run_changes_no_action_and_tells_nobody() {
    let mut m = Machine::new();
    let up = m.job(triggered("up"));
    let down = m.job(after_jobs("down", &[up]));
    let at = m.now + 1_000;
    m.plan(up, &[(at, vec![])]);
    m.plan(down, &[(at, vec![key(up, at)])]);
    m.after(1_000);
    let worker = m.worker("w", 4);
    let scheduled = m.queue()[0];
    let attempt = m.dispatch(scheduled, worker);
    m.complete(attempt, exit(1));
    assert_eq!(state_of(&m, key(up, at)), ActionState::Failed);

    let action = Some(UtcMillis(at));
    for debug in [false, true] {
        let manual = order(&mut m, up, RunOrder { action, debug, ..RunOrder::default() });
        assert_eq!(run(&m, manual).nominal, UtcMillis(at));
        assert_eq!(run(&m, manual).action, Some(key(up, at)));
        let attempt = m.dispatch(manual, worker);
        assert_eq!(state_of(&m, key(up, at)), ActionState::Failed, "while it runs");
        m.complete(attempt, exit(0));
        assert_eq!(state_of(&m, key(up, at)), ActionState::Failed, "after its success");
        assert_eq!(state_of(&m, key(down, at)), ActionState::Waiting);
    }
    assert_eq!(m.state.action(key(up, at)).unwrap().run, Some(scheduled));
}

#[test]
fn what_is_asked_for_is_checked() {
    let mut m = Machine::new();
    let job = m.job(triggered("j"));
    let ask = |order: RunOrder| Command::RunJob { job, order: Box::new(order) };
    let at = UtcMillis(m.now + 1_000);
    let nowhere = m.refused(ask(RunOrder { action: Some(at), ..RunOrder::default() }));
    assert_eq!(nowhere, Reject::NoSuchAction(key(job, at.0)));
    let field = |reject: Reject| match reject {
        Reject::Invalid { field, .. } => field,
        other => panic!("{other:?}"),
    };
    m.plan(job, &[(at.0, vec![])]);
    let both = RunOrder { action: Some(at), nominal: Some(UtcMillis(5)), ..RunOrder::default() };
    assert_eq!(field(m.refused(ask(both))), "nominal");
    let params = BTreeMap::from([("a b".to_owned(), String::new())]);
    assert_eq!(field(m.refused(ask(RunOrder { params, ..RunOrder::default() }))), "params");
    let priority = Some(10);
    assert_eq!(field(m.refused(ask(RunOrder { priority, ..RunOrder::default() }))), "priority");
    let revision = Some(Revision(2));
    assert_eq!(field(m.refused(ask(RunOrder { revision, ..RunOrder::default() }))), "revision");
}

#[test]
fn a_run_may_be_of_one_of_the_last_definitions() {
    let mut m = Machine::new();
    let job = m.job(JobSpec { priority: 1, ..spec("j") });
    for priority in 2..=8 {
        m.job(JobSpec { priority, ..spec("j") });
    }
    assert_eq!(m.state.job(job).unwrap().revision, Revision(8));
    let of = |revision| RunOrder { revision: Some(Revision(revision)), ..RunOrder::default() };
    let first = 8 - Job::KEPT_REVISIONS;
    let older = Command::RunJob { job, order: Box::new(of(first - 1)) };
    let Reject::Invalid { problem, .. } = m.refused(older) else { panic!("not of a field") };
    assert_eq!(problem, "2 is not kept; use 3 to 8");
    let pinned = order(&mut m, job, of(first));
    assert_eq!((run(&m, pinned).revision, run(&m, pinned).priority), (Revision(first), 3));
    // It keeps its definition, however often the job is edited.
    for priority in [1, 2, 3, 4, 5, 6, 7] {
        m.job(JobSpec { priority, ..spec("j") });
    }
    assert_eq!(m.state.spec(job, Revision(first)).unwrap().priority, 3);
    m.ok(Command::CancelRun { run: pinned });
    assert!(m.state.spec(job, Revision(first)).is_none());
    m.ok(Command::DeleteJob { job, expected: None });
    assert!(m.state.spec(job, Revision(14)).is_none());
}

#[test]
fn debugging_is_tried_once_and_in_nobodys_way() {
    let mut m = Machine::new();
    let retries = RetryPolicy { count: 3, backoff: Backoff::Fixed { delay: Span::secs(1) } };
    let once = JobSpec { retries, overlap: Overlap::Skip, ..triggered("j") };
    let job = m.job(once);
    let at = m.now + 1_000;
    m.plan(job, &[(at, vec![])]);
    let worker = m.worker("w", 4);
    let debug = order(&mut m, job, RunOrder { debug: true, ..RunOrder::default() });
    assert_eq!(run(&m, debug).kind, RunKind::Debug);
    let attempt = m.dispatch(debug, worker);
    m.after(1_000);
    assert_eq!(state_of(&m, key(job, at)), ActionState::Ready, "it does not wait for it");
    m.complete(attempt, exit(1));
    assert!(matches!(run(&m, debug).state, RunState::Finished { .. }), "no retry");
}
