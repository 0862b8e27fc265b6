//! Back-fills: every instant once, so many at a time, whatever happens meanwhile.

use super::super::command::*;
use super::super::outcome::{Outcome, Reject};
use super::super::state::Limits;
use super::support::*;
use crate::ids::*;
use crate::model::action::ActionState;
use crate::model::backfill::*;
use crate::model::job::{JobSpec, Overlap};
use crate::model::run::{Run, RunKind, RunResult};
use crate::time::UtcMillis;

fn begin(m: &mut Machine, order: BackfillOrder) -> BackfillId {
    match m.ok(Command::StartBackfill(Box::new(order))) {
        Outcome::Backfill { backfill } => backfill,
        other => panic!("{other:?}"),
    }
}

fn steer(backfill: BackfillId, to: Steer) -> Command {
    Command::SteerBackfill { backfill, to }
}

fn of(m: &Machine, id: BackfillId) -> &Backfill {
    m.state.backfill(id).unwrap()
}

fn queued(m: &Machine) -> Vec<&Run> {
    m.queue().into_iter().map(|id| m.state.run(id).unwrap()).collect()
}

fn nominals(m: &Machine) -> Vec<i64> {
    queued(m).iter().map(|run| run.nominal.0).collect()
}

/// The first of the queue runs and ends so.
fn next(m: &mut Machine, worker: WorkerId, code: i32) {
    let attempt = m.dispatch(m.queue()[0], worker);
    m.complete(attempt, exit(code));
}

#[test]
fn instants_run_in_order_so_many_at_once_and_keep_their_results() {
    let mut m = Machine::new();
    let worker = m.worker("w", 9);
    let job = m.job(spec("a"));
    let id = begin(&mut m, backfill_of(job, 5));
    assert_eq!(nominals(&m), [1_000, 2_000]);
    assert!(queued(&m).iter().all(|r| r.kind == RunKind::Backfill && r.backfill == Some(id)));
    next(&mut m, worker, 0);
    assert_eq!(nominals(&m), [2_000, 3_000]);
    for code in [1, 0, 0, 0] {
        next(&mut m, worker, code);
    }
    let done = of(&m, id);
    assert_eq!((done.state, done.finished.is_some()), (BackfillState::Done, true));
    assert_eq!((done.counts.success, done.counts.failed, done.counts.waiting()), (4, 1, 0));
    let state = |at| m.state.backfill_instants(id, None).find(|(t, _)| t.0 == at).unwrap().1.state;
    assert_eq!(state(2_000), InstantState::Over(RunResult::Failed));
    assert_eq!(state(3_000), InstantState::Over(RunResult::Success));
    assert_eq!(m.state.live_backfills().count(), 0);

    let id = begin(&mut m, BackfillOrder { newest_first: true, ..backfill_of(job, 5) });
    assert_eq!(nominals(&m), [5_000, 4_000]);
    assert_eq!(id, BackfillId(2));
}

#[test]
fn it_is_done_when_its_last_run_is_over_and_not_before() {
    let mut m = Machine::new();
    let worker = m.worker("w", 9);
    let job = m.job(spec("a"));
    let id = begin(&mut m, BackfillOrder { concurrency: 5, ..backfill_of(job, 2) });
    assert_eq!((of(&m, id).state, of(&m, id).counts.live), (BackfillState::Running, 2));
    next(&mut m, worker, 0);
    m.ok(steer(id, Steer::Pause));
    assert_eq!(of(&m, id).state, BackfillState::Paused);
    next(&mut m, worker, 0);
    assert_eq!((of(&m, id).state, of(&m, id).is_live()), (BackfillState::Done, false));

    // Outside its hours, too.
    let hours = Some(Hours { from: 60, until: 120 });
    let id = begin(&mut m, BackfillOrder { hours, ..backfill_of(job, 2) });
    let open = |open| Command::OpenBackfill { backfill: id, open };
    m.ok(open(true));
    m.ok(open(false));
    next(&mut m, worker, 0);
    next(&mut m, worker, 1);
    assert_eq!((of(&m, id).state, of(&m, id).is_live()), (BackfillState::Done, false));
}

#[test]
fn an_instant_is_in_the_hand_of_one_backfill() {
    let mut m = Machine::new();
    let worker = m.worker("w", 9);
    let job = m.job(spec("a"));
    let first = begin(&mut m, backfill_of(job, 3));
    let again = m.refused(Command::StartBackfill(Box::new(backfill_of(job, 3))));
    assert!(matches!(&again, Reject::Invalid { field, .. } if field == "instants"), "{again:?}");
    let second = begin(&mut m, backfill_of(job, 5));
    let counts = of(&m, second).counts;
    assert_eq!((counts.total, counts.passed_over), (2, 3));
    assert_eq!(nominals(&m), [1_000, 2_000, 4_000, 5_000]);
    // What it will not take up is in nobody's hand; what still runs is.
    m.ok(steer(first, Steer::Stop));
    let third = begin(&mut m, backfill_of(job, 3));
    assert_eq!((of(&m, third).counts.total, of(&m, third).counts.passed_over), (1, 2));
    for _ in 0..5 {
        next(&mut m, worker, 0);
    }
    assert_eq!(m.state.live_backfills().count(), 0);
    begin(&mut m, backfill_of(job, 3));
    assert_eq!(nominals(&m), [1_000, 2_000]);
}

#[test]
fn a_pause_holds_it_and_a_stop_ends_it_but_a_pause_of_the_job_does_not() {
    let mut m = Machine::new();
    let worker = m.worker("w", 9);
    let job = m.job(spec("a"));
    let id = begin(&mut m, backfill_of(job, 5));
    m.ok(Command::PauseJob { job });
    next(&mut m, worker, 0);
    assert_eq!(of(&m, id).counts.live, 2, "the job's pause is not the back-fill's");
    m.ok(steer(id, Steer::Pause));
    next(&mut m, worker, 0);
    next(&mut m, worker, 0);
    assert_eq!((of(&m, id).counts.live, m.queue().len()), (0, 0));
    assert!(of(&m, id).is_live());
    m.ok(steer(id, Steer::Resume));
    assert_eq!(nominals(&m), [4_000, 5_000]);
    m.ok(steer(id, Steer::Stop));
    assert!(of(&m, id).is_live(), "two run on");
    next(&mut m, worker, 0);
    next(&mut m, worker, 0);
    assert_eq!(of(&m, id).state, BackfillState::Stopped);
    assert!(!of(&m, id).is_live());
    assert_eq!(m.refused(steer(id, Steer::Resume)), Reject::BackfillOver(id));
    m.ok(steer(id, Steer::Stop));
    let nobody = BackfillId(9);
    assert_eq!(m.refused(steer(nobody, Steer::Stop)), Reject::NoSuchBackfill(nobody));
}

#[test]
fn it_begins_nothing_outside_its_hours() {
    let mut m = Machine::new();
    let worker = m.worker("w", 9);
    let job = m.job(spec("a"));
    let hours = Some(Hours { from: 60, until: 120 });
    let id = begin(&mut m, BackfillOrder { hours, ..backfill_of(job, 5) });
    assert_eq!(nominals(&m), Vec::<i64>::new());
    let open = |open| Command::OpenBackfill { backfill: id, open };
    m.ok(open(true));
    assert_eq!(nominals(&m), [1_000, 2_000]);
    m.ok(open(false));
    next(&mut m, worker, 0);
    next(&mut m, worker, 0);
    assert_eq!((nominals(&m), of(&m, id).counts.waiting()), (vec![], 3));
    m.ok(open(true));
    assert_eq!(nominals(&m), [3_000, 4_000]);
}

#[test]
fn it_changes_no_action_unless_that_was_asked_for() {
    let mut m = Machine::new();
    let worker = m.worker("w", 9);
    let up = m.job(triggered("up"));
    let down = m.job(after_jobs("down", &[up]));
    let at = m.now + 1_000;
    m.plan(up, &[(at, vec![]), (at + 1_000, vec![])]);
    m.plan(down, &[(at, vec![key(up, at)]), (at + 1_000, vec![key(up, at + 1_000)])]);
    m.after(1_000);
    next(&mut m, worker, 1);
    assert_eq!(state_of(&m, key(up, at)), ActionState::Failed);
    let instants = vec![UtcMillis(1), UtcMillis(at), UtcMillis(at + 1_000)];
    let plain = BackfillOrder { instants: instants.clone(), ..backfill_of(up, 0) };
    let id = begin(&mut m, plain);
    next(&mut m, worker, 0);
    next(&mut m, worker, 0);
    assert_eq!(state_of(&m, key(up, at)), ActionState::Failed);
    // The last instant is planned, and runs by itself.
    let counts = of(&m, id).counts;
    assert_eq!((counts.success, counts.skipped), (2, 1));
    assert!(!of(&m, id).is_live());

    begin(&mut m, BackfillOrder { instants, downstream: true, ..backfill_of(up, 0) });
    next(&mut m, worker, 0);
    assert_eq!(state_of(&m, key(up, at)), ActionState::Ready);
    next(&mut m, worker, 0);
    assert_eq!(state_of(&m, key(up, at)), ActionState::Success);
    assert_eq!(state_of(&m, key(down, at)), ActionState::Ready);
}

#[test]
fn runs_stay_with_the_definition_and_are_in_nobodys_way() {
    let mut m = Machine::new();
    let worker = m.worker("w", 9);
    let job = m.job(JobSpec { overlap: Overlap::Skip, ..triggered("a") });
    let at = m.now + 1_000;
    let id = begin(&mut m, backfill_of(job, 5));
    for priority in 1..9 {
        m.job(JobSpec { priority, overlap: Overlap::Skip, ..triggered("a") });
    }
    m.plan(job, &[(at, vec![])]);
    m.after(1_000);
    assert_eq!(state_of(&m, key(job, at)), ActionState::Ready);
    let backfilled = queued(&m).into_iter().find(|r| r.kind == RunKind::Backfill).unwrap();
    assert_eq!((backfilled.revision, backfilled.priority), (Revision(1), 2));
    // Its own runs go first: they have a higher priority.
    next(&mut m, worker, 0);
    for _ in 0..5 {
        next(&mut m, worker, 0);
    }
    assert!(!of(&m, id).is_live());
    assert!(m.state.spec(job, Revision(1)).is_none(), "nothing needs it any more");
}

#[test]
fn the_end_of_the_job_ends_it() {
    let mut m = Machine::new();
    let worker = m.worker("w", 9);
    let job = m.job(spec("a"));
    let id = begin(&mut m, backfill_of(job, 5));
    let attempt = m.dispatch(m.queue()[0], worker);
    m.ok(Command::DeleteJob { job, expected: None });
    assert_eq!((of(&m, id).state, of(&m, id).counts.cancelled), (BackfillState::Stopped, 1));
    assert!(of(&m, id).is_live());
    m.complete(attempt, exit(0));
    assert_eq!((of(&m, id).is_live(), of(&m, id).counts.success), (false, 1));
}

#[test]
fn the_oldest_that_are_over_give_way() {
    let limits = Limits { backfills: 2, backfill_instants: 6, ..Limits::default() };
    let mut m = Machine::with(limits);
    let job = m.job(spec("a"));
    let first = begin(&mut m, backfill_of(job, 3));
    let second = begin(&mut m, backfill_of(job, 6));
    let another = BackfillOrder { instants: vec![UtcMillis(9_000)], ..backfill_of(job, 0) };
    let full = Command::StartBackfill(Box::new(another));
    assert!(matches!(m.refused(full.clone()), Reject::Full { limit: 2, .. }));
    for run in m.queue() {
        m.ok(steer(second, Steer::Stop));
        m.ok(Command::CancelRun { run });
    }
    assert!(!of(&m, second).is_live());
    // The newest one stays: its number must not come again.
    assert!(matches!(m.refused(full.clone()), Reject::Full { .. }));
    m.ok(steer(first, Steer::Stop));
    for run in m.queue() {
        m.ok(Command::CancelRun { run });
    }
    m.ok(full);
    let held: Vec<u64> = m.state.backfills_before(None).map(|b| b.id.0).collect();
    assert_eq!(held, [3, 2]);
}

#[test]
fn what_is_asked_for_is_checked() {
    let mut m = Machine::new();
    let job = m.job(spec("a"));
    let mut field = |order: BackfillOrder| match m.refused(Command::StartBackfill(Box::new(order)))
    {
        Reject::Invalid { field, .. } => field,
        Reject::TooLarge { what, .. } => what,
        other => panic!("{other:?}"),
    };
    let twice = vec![UtcMillis(1), UtcMillis(1)];
    assert_eq!(field(backfill_of(job, 0)), "instants");
    assert_eq!(field(backfill_of(job, 20_001)), "instants");
    assert_eq!(field(BackfillOrder { instants: twice, ..backfill_of(job, 1) }), "instants");
    assert_eq!(field(BackfillOrder { concurrency: 0, ..backfill_of(job, 1) }), "concurrency");
    assert_eq!(field(BackfillOrder { concurrency: 101, ..backfill_of(job, 1) }), "concurrency");
    let hours = Some(Hours { from: 7, until: 7 });
    assert_eq!(field(BackfillOrder { hours, ..backfill_of(job, 1) }), "hours");
    assert_eq!(field(BackfillOrder { priority: Some(10), ..backfill_of(job, 1) }), "priority");
    let revision = Some(Revision(4));
    assert_eq!(field(BackfillOrder { revision, ..backfill_of(job, 1) }), "revision");
}
