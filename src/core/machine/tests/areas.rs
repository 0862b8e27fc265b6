//! Areas: a job that has nothing to do here counts as done, and those behind it go on.

use super::super::command::*;
use super::super::outcome::{Outcome, Reject};
use super::super::state::Limits;
use super::support::*;
use crate::ids::*;
use crate::model::action::{Action, ActionState};
use crate::model::backfill::{BackfillOrder, BackfillState, InstantState};
use crate::model::batch::{BatchSpec, BatchUnit};
use crate::model::job::*;
use crate::model::run::{RunKind, RunOrder, RunResult};
use crate::time::UtcMillis;

fn action(m: &Machine, job: JobId, at: i64) -> &Action {
    m.state.action(key(job, at)).unwrap()
}

/// A success without a run.
fn is_passed(m: &Machine, job: JobId, at: i64) -> bool {
    let action = action(m, job, at);
    action.by_area && action.run.is_none() && action.state == ActionState::Success
}

/// A machine of area EU with `load` (of these areas) and `report` behind it, each with an
/// action in a second.
fn chain(areas: &[&str]) -> (Machine, JobId, JobId, i64) {
    let mut m = Machine::new();
    m.ok(set_area(Some("EU")));
    let load = m.job(only_in(areas, triggered("load")));
    let report = m.job(after_jobs("report", &[load]));
    let at = m.now + 1_000;
    assert_eq!(m.plan(load, &[(at, vec![])]), (1, 0));
    assert_eq!(m.plan(report, &[(at, vec![key(load, at)])]), (1, 0));
    (m, load, report, at)
}

#[test]
fn an_action_of_another_area_succeeds_when_it_is_due_and_tells_on() {
    let (mut m, load, report, at) = chain(&["US", "ASIA"]);
    assert_eq!(state_of(&m, key(load, at)), ActionState::Planned, "not before it is due");
    m.after(1_000);
    assert!(is_passed(&m, load, at));
    assert_eq!(action(&m, load, at).finished, Some(UtcMillis(m.now)));
    assert_eq!(state_of(&m, key(report, at)), ActionState::Ready);
    assert_eq!(m.queue().len(), 1);
    // Nothing of it waits, and asking for the same again changes nothing.
    let action = key(load, at);
    assert_eq!(m.ok(Command::SettleAction { action, success: true }), Outcome::Done);
}

#[test]
fn a_cluster_without_an_area_and_a_job_without_areas_leave_nothing_out() {
    for (area, areas) in [(None, &["US"][..]), (Some("EU"), &[]), (Some("EU"), &["US", "EU"])] {
        let (mut m, load, _, at) = chain(areas);
        m.ok(set_area(area));
        m.after(1_000);
        assert_eq!(state_of(&m, key(load, at)), ActionState::Ready, "{area:?} {areas:?}");
    }
}

#[test]
fn a_chain_of_such_jobs_is_over_at_once_and_a_pause_holds_it() {
    let mut m = Machine::new();
    m.ok(set_area(Some("EU")));
    let mut jobs = vec![m.job(only_in(&["US"], triggered("j0")))];
    for n in 1..5 {
        jobs.push(m.job(only_in(&["US"], after_jobs(&format!("j{n}"), &[jobs[n - 1]]))));
    }
    let at = m.now + 1_000;
    m.plan(jobs[0], &[(at, vec![])]);
    for n in 1..5 {
        m.plan(jobs[n], &[(at, vec![key(jobs[n - 1], at)])]);
    }
    m.ok(Command::PauseJob { job: jobs[2] });
    // Its planned action is withdrawn, and those behind it, until it goes on.
    m.after(1_000);
    assert!(is_passed(&m, jobs[0], at) && is_passed(&m, jobs[1], at));
    m.ok(Command::ResumeJob { job: jobs[2] });
    let next = m.now + 1_000;
    for (n, job) in jobs.iter().enumerate() {
        let up = n.checked_sub(1).map(|up| key(jobs[up], next));
        m.plan(*job, &[(next, up.into_iter().collect())]);
    }
    m.after(1_000);
    assert!(jobs.iter().all(|job| is_passed(&m, *job, next)));
    assert_eq!(m.state.live_actions(), 0);
}

#[test]
fn what_is_queued_runs_and_what_waits_is_judged_when_it_would_start() {
    let (mut m, load, report, at) = chain(&["EU"]);
    m.after(1_000);
    m.ok(set_area(Some("US")));
    let run = m.queue()[0];
    let worker = m.worker("w", 1);
    let attempt = m.dispatch(run, worker);
    m.complete(attempt, exit(0));
    assert!(!action(&m, load, at).by_area);
    assert_eq!(state_of(&m, key(report, at)), ActionState::Ready);
    // The next one is not run here any more; but what somebody asks for by hand is.
    let next = m.now + 1_000;
    m.plan(load, &[(next, vec![])]);
    m.after(1_000);
    assert!(is_passed(&m, load, next));
    for debug in [false, true] {
        let order = RunOrder { debug, action: Some(UtcMillis(next)), ..RunOrder::default() };
        let outcome = m.ok(Command::RunJob { job: load, order: Box::new(order) });
        assert!(matches!(outcome, Outcome::Run { .. }), "{outcome:?}");
    }
    assert!(is_passed(&m, load, next), "such a run changes no action");
}

#[test]
fn actions_in_line_behind_a_live_run_are_over_when_their_turn_comes() {
    let mut m = Machine::new();
    m.ok(set_area(Some("EU")));
    let worker = m.worker("w", 1);
    let job = m.job(only_in(&["EU"], JobSpec { overlap: Overlap::QueueAll, ..triggered("a") }));
    let at = m.now + 1_000;
    m.plan(job, &[(at, vec![]), (at + 1_000, vec![]), (at + 2_000, vec![])]);
    m.after(3_000);
    assert_eq!(m.queue().len(), 1);
    m.ok(set_area(Some("US")));
    assert_eq!(state_of(&m, key(job, at + 1_000)), ActionState::Waiting);
    let run = m.queue()[0];
    let attempt = m.dispatch(run, worker);
    m.complete(attempt, exit(0));
    assert!(is_passed(&m, job, at + 1_000) && is_passed(&m, job, at + 2_000));
}

#[test]
fn a_recovery_is_a_success_without_a_run_and_those_below_run_again() {
    let (mut m, load, report, at) = chain(&["US"]);
    let worker = m.worker("w", 1);
    m.after(1_000);
    let attempt = m.dispatch(m.queue()[0], worker);
    m.complete(attempt, exit(1));
    let rerun = |below| Command::Rerun { action: key(load, at), below };
    m.after(500);
    assert_eq!(m.ok(rerun(false)), Outcome::Done);
    assert!(is_passed(&m, load, at));
    assert_eq!(action(&m, load, at).finished, Some(UtcMillis(m.now)));
    // What failed behind it gets another chance, as after any success.
    let kind = |m: &Machine| m.state.run(m.queue()[0]).unwrap().kind;
    assert_eq!(kind(&m), RunKind::Recover);
    let attempt = m.dispatch(m.queue()[0], worker);
    m.complete(attempt, exit(0));
    assert_eq!(m.ok(rerun(true)), Outcome::Done);
    assert_eq!((m.queue().len(), kind(&m)), (1, RunKind::SuperRecover));
    assert_eq!(state_of(&m, key(report, at)), ActionState::Ready);
    // In its own area again, it runs.
    m.ok(set_area(Some("US")));
    assert!(matches!(m.ok(rerun(false)), Outcome::Run { .. }));
    assert!(!action(&m, load, at).by_area);
}

#[test]
fn a_back_fill_takes_each_instant_as_done() {
    let (mut m, load, report, at) = chain(&["US"]);
    let worker = m.worker("w", 1);
    m.after(1_000);
    let attempt = m.dispatch(m.queue()[0], worker);
    m.complete(attempt, exit(1));
    let mut order = BackfillOrder { downstream: true, ..backfill_of(load, 450) };
    order.instants.push(UtcMillis(at));
    let Outcome::Backfill { backfill } = m.ok(Command::StartBackfill(Box::new(order))) else {
        unreachable!()
    };
    // So many instants a command; the leader asks it to go on.
    for _ in 0..2 {
        m.ok(Command::OpenBackfill { backfill, open: true });
    }
    let done = m.state.backfill(backfill).unwrap();
    assert_eq!((done.state, done.counts.success), (BackfillState::Done, 451));
    let mut instants = m.state.backfill_instants(backfill, None);
    let over = InstantState::Over(RunResult::Success);
    assert!(instants.all(|(_, instant)| instant.state == over && instant.run.is_none()));
    assert!(is_passed(&m, load, at));
    assert_eq!(state_of(&m, key(report, at)), ActionState::Ready);
}

#[test]
fn a_fixed_delay_counts_on_and_history_stays_bounded() {
    let limits = Limits { ended_per_job: 5, ..Limits::default() };
    let mut m = Machine::with(limits);
    m.ok(set_area(Some("EU")));
    let job = m.job(only_in(&["US"], triggered("a")));
    let behind = m.job(only_in(&["US"], after_jobs("b", &[job])));
    for _ in 0..40 {
        let at = m.now + 1_000;
        m.plan(job, &[(at, vec![])]);
        m.plan(behind, &[(at, vec![key(job, at)])]);
        m.after(1_000);
    }
    for job in [job, behind] {
        let kept = m.state.actions_of(job, UtcMillis(i64::MIN), UtcMillis::MAX).count();
        assert!(kept <= 8, "{kept} actions of job {job}");
    }
}

#[test]
fn areas_and_batches_of_a_job_keep_to_their_bounds() {
    let mut m = Machine::new();
    let names: Vec<String> = (0..=JobSpec::MAX_AREAS).map(|n| format!("A{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    m.job(only_in(&names[1..], spec("a")));
    let refused = m.refused(apply(only_in(&names, spec("a"))));
    assert!(matches!(refused, Reject::TooLarge { what, .. } if what == "areas"));
    for (unit, offset, is_good) in [
        (BatchUnit::Year, 1_000, true),
        (BatchUnit::Year, -1_001, false),
        (BatchUnit::Other, 1, false),
        (BatchUnit::Second, i32::MIN, false),
    ] {
        let batch = Some(BatchSpec { unit, offset });
        let outcome = m.send(apply(JobSpec { batch, ..spec("a") }));
        assert_eq!(!matches!(outcome, Outcome::Rejected(_)), is_good, "{unit:?} {offset}");
    }
}
