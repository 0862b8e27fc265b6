//! What runs put out: who gets it, what gives way when there is too much, and what a job
//! keeps of it.

use super::super::outcome::{Outcome, Reject};
use super::super::state::{Limits, State};
use super::support::*;
use crate::ids::*;
use crate::model::action::{ActionState, Upstream};
use crate::model::job::*;
use crate::model::output::{MAX_BYTES, RunOutputs, Values};
use crate::model::run::*;
use crate::time::{Span, UtcMillis};

use super::super::command::Command;

/// Who needs what, by another way than the index has: a look at everything.
pub(super) fn read_by_hand(state: &State) -> Result<(), String> {
    let held = |run: &RunId| state.outputs(*run).is_some_and(|outputs| !outputs.dropped);
    for run in state.runs_after(None).filter(|run| held(&run.id)) {
        let needed = run.decides().is_some_and(|key| {
            let of_action = |other: &&Run| other.decides() == Some(key) && held(&other.id);
            let newest = state.runs_after(None).filter(of_action).last();
            let awaits = |action: &crate::model::action::Action| {
                let awaited = action.upstream.iter().filter_map(Upstream::awaited);
                !action.state.is_final() && awaited.into_iter().any(|up| up == key)
            };
            let (first, last) = (UtcMillis(i64::MIN), UtcMillis::MAX);
            let all = (0..20).flat_map(|job| state.actions_of(JobId(job), first, last));
            let is_awaited = all.into_iter().any(|(_, action)| awaits(action));
            let mut own = state.actions_of(key.job, first, last).rev();
            let success = own.find(|(_, action)| action.state == ActionState::Success);
            let is_last = state.job(key.job).is_some() && success.is_some_and(|(k, _)| k == key);
            newest.is_some_and(|newest| newest.id == run.id) && (is_awaited || is_last)
        });
        if needed != state.outputs_are_needed(run.id) {
            return Err(format!("outputs of run {} are needed: {needed}", run.id));
        }
    }
    Ok(())
}

/// Runs the next of the queue, which puts this out.
fn put_out(m: &mut Machine, worker: WorkerId, outputs: &[(&str, &str)]) -> RunId {
    let run = m.queue()[0];
    let (attempt, token) = m.dispatch(run, worker);
    m.ok(complete_with(attempt, token, outputs));
    run
}

fn held(m: &Machine, run: RunId) -> Option<Values> {
    m.state.outputs(run).map(|outputs| outputs.values.clone())
}

fn is_dropped(m: &Machine, run: RunId) -> bool {
    m.state.outputs(run).is_some_and(|outputs| outputs.dropped)
}

/// A job that fires at each of so many seconds from now, and one that waits for it.
fn chain(m: &mut Machine, count: i64) -> (JobId, JobId) {
    let up = m.job(triggered("up"));
    let down = m.job(after_jobs("down", &[up]));
    let at: Vec<i64> = (1..=count).map(|n| m.now + n * 1_000).collect();
    m.plan(up, &at.iter().map(|at| (*at, vec![])).collect::<Vec<_>>());
    m.plan(down, &at.iter().map(|at| (*at, vec![key(up, *at)])).collect::<Vec<_>>());
    m.after(count * 1_000);
    (up, down)
}

#[test]
fn a_dependant_gets_what_the_run_put_out_that_satisfied_its_edge() {
    let mut m = Machine::new();
    let worker = m.worker("w", 9);
    let (up, down) = chain(&mut m, 1);
    let (above, below) = (key(up, m.now), key(down, m.now));
    assert!(m.state.outputs_above(below).is_empty());
    let first = put_out(&mut m, worker, &[("ROWS", "1")]);
    assert_eq!(m.state.outputs_above(below)[&up]["ROWS"], "1");
    // Run again while the dependant has not ended: it gets what the newer run put out.
    m.ok(Command::Rerun { action: above, below: false });
    assert_eq!(m.state.outputs_above(below)[&up]["ROWS"], "1");
    let again = m.queue().into_iter().find(|run| m.state.run(*run).unwrap().job == up).unwrap();
    let (attempt, token) = m.dispatch(again, worker);
    m.ok(complete_with(attempt, token, &[("ROWS", "2")]));
    assert_eq!(m.state.outputs_above(below)[&up]["ROWS"], "2");
    // A success without any is the one that counts, too.
    m.ok(Command::Rerun { action: above, below: false });
    let again = m.queue().into_iter().find(|run| m.state.run(*run).unwrap().job == up).unwrap();
    let attempt = m.dispatch(again, worker);
    m.complete(attempt, exit(0));
    assert!(m.state.outputs_above(below).is_empty());
    assert_eq!(held(&m, first), Some(values(&[("ROWS", "1")])));
}

#[test]
fn an_action_that_has_succeeded_gets_it_again_when_it_runs_again() {
    let mut m = Machine::new();
    let worker = m.worker("w", 9);
    let (up, down) = chain(&mut m, 1);
    let (above, below) = (key(up, m.now), key(down, m.now));
    put_out(&mut m, worker, &[("ROWS", "1")]);
    put_out(&mut m, worker, &[]);
    assert_eq!(m.state.action(below).unwrap().state, ActionState::Success);
    assert!(
        m.state.action(below).unwrap().upstream[0].met.is_none(),
        "a success forgets what it gathered"
    );
    assert_eq!(m.state.outputs_above(below)[&up]["ROWS"], "1");
    m.ok(Command::Rerun { action: below, below: false });
    assert_eq!(m.state.outputs_above(below)[&up]["ROWS"], "1");
    // While the upstream action runs again, there is what it put out before.
    m.ok(Command::Rerun { action: above, below: false });
    assert_eq!(m.state.outputs_above(below)[&up]["ROWS"], "1");
    let again = m.queue().into_iter().find(|run| m.state.run(*run).unwrap().job == up).unwrap();
    let (attempt, token) = m.dispatch(again, worker);
    m.ok(complete_with(attempt, token, &[("ROWS", "2")]));
    assert_eq!(m.state.outputs_above(below)[&up]["ROWS"], "2");
}

#[test]
fn of_several_actions_it_is_the_newest_success() {
    let mut m = Machine::new();
    let worker = m.worker("w", 9);
    let up = m.job(triggered("up"));
    let down = m.job(JobSpec { triggers: vec![cron("t")], ..after_jobs("down", &[up]) });
    let at = m.now + 2_000;
    m.plan(up, &[(at - 1_000, vec![]), (at, vec![])]);
    m.plan(down, &[(at, vec![key(up, at), key(up, at - 1_000)])]);
    m.after(2_000);
    // The later action ends first.
    let runs = m.queue();
    for (run, rows) in [(runs[1], "late"), (runs[0], "early")] {
        let (attempt, token) = m.dispatch(run, worker);
        m.ok(complete_with(attempt, token, &[("ROWS", rows)]));
    }
    assert_eq!(m.state.outputs_above(key(down, at))[&up]["ROWS"], "late");
}

#[test]
fn failures_put_nothing_out_and_what_breaks_a_rule_is_one() {
    let mut m = Machine::new();
    let worker = m.worker("w", 9);
    let backoff = Backoff::Fixed { delay: Span::secs(1) };
    let job = m.job(JobSpec { retries: RetryPolicy { count: 1, backoff }, ..spec("a") });
    m.ok(Command::TriggerJob { job });
    let run = m.queue()[0];
    let (attempt, token) = m.dispatch(run, worker);
    let long = "x".repeat(MAX_BYTES);
    m.ok(complete_with(attempt, token, &[("A", &long)]));
    let end = |m: &Machine| m.state.run(run).unwrap().attempts.last().unwrap().end.clone().unwrap();
    let wanted = EndKind::bad_output("16385 bytes, at most 16384");
    assert_eq!(end(&m).how, wanted);
    assert_eq!(held(&m, run), None);
    m.after(1_000);
    let (attempt, token) = m.dispatch(run, worker);
    let Command::Complete { report, .. } = complete(attempt, token, exit(3)) else { panic!() };
    let outputs = values(&[("A", "1")]);
    m.ok(Command::CompleteWith { attempt, token, report, outputs });
    assert_eq!((end(&m).how, held(&m, run)), (exit(3), None));
}

#[test]
fn what_nobody_needs_gives_way_the_oldest_first() {
    // Room for four.
    let room = 4 * (RunOutputs::OWN_BYTES + 3);
    let mut m = Machine::with(Limits { output_bytes: room, ..Limits::default() });
    let worker = m.worker("w", 9);
    let (up, down) = chain(&mut m, 3);
    let runs: Vec<RunId> = (0..3).map(|_| put_out(&mut m, worker, &[("A", "10")])).collect();
    let by_hand = |m: &mut Machine| {
        m.ok(Command::TriggerJob { job: up });
        let run = *m.queue().last().unwrap();
        let (attempt, token) = m.dispatch(run, worker);
        m.ok(complete_with(attempt, token, &[("A", "99")]));
        run
    };
    let first = by_hand(&mut m);
    let second = by_hand(&mut m);
    // Three are waited for, and the first that is not is gone.
    assert!(is_dropped(&m, first) && held(&m, first) == Some(Values::new()));
    assert!(!is_dropped(&m, second));
    // The dependants end, except the one of the first: then two are spare, but one is
    // the job's newest success.
    for run in m.queue().into_iter().skip(1) {
        let attempt = m.dispatch(run, worker);
        m.complete(attempt, exit(0));
    }
    let third = by_hand(&mut m);
    assert!(is_dropped(&m, runs[1]) && !is_dropped(&m, runs[0]) && !is_dropped(&m, runs[2]));
    let fourth = by_hand(&mut m);
    assert!(is_dropped(&m, second) && !is_dropped(&m, third));
    // All that is left is needed, or newer than what comes; then it is that itself.
    m.ok(Command::RemoveJob { job: down, expected: None, force: true, cancel: true });
    assert_eq!(read_by_hand(&m.state), Ok(()));
    assert!(!is_dropped(&m, fourth));
}

#[test]
fn what_comes_last_is_dropped_where_everything_else_is_needed() {
    let room = 2 * (RunOutputs::OWN_BYTES + 3);
    let mut m = Machine::with(Limits { output_bytes: room, ..Limits::default() });
    let worker = m.worker("w", 9);
    chain(&mut m, 3);
    let runs: Vec<RunId> = (0..3).map(|_| put_out(&mut m, worker, &[("A", "10")])).collect();
    let dropped: Vec<bool> = runs.iter().map(|run| is_dropped(&m, *run)).collect();
    assert_eq!(dropped, [false, false, true]);
    assert!(m.state.run(runs[2]).unwrap().has_succeeded());
}

#[test]
fn outputs_go_with_their_run_unless_a_live_action_may_read_them() {
    let mut m = Machine::with(Limits { ended_per_job: 1, ..Limits::default() });
    let worker = m.worker("w", 9);
    let (up, down) = chain(&mut m, 1);
    let above = key(up, m.now);
    let other = m.job(spec("other"));
    let first = put_out(&mut m, worker, &[("ROWS", "1")]);
    m.ok(Command::PauseJob { job: down });
    for _ in 0..3 {
        m.ok(Command::Rerun { action: above, below: false });
        let again = m.state.action(above).unwrap().run.unwrap();
        let attempt = m.dispatch(again, worker);
        m.complete(attempt, exit(1));
    }
    assert_eq!(m.state.outputs_above(key(down, above.nominal.0))[&up]["ROWS"], "1");
    assert!(held(&m, first).is_some());
    for _ in 0..3 {
        m.ok(Command::TriggerJob { job: other });
        put_out(&mut m, worker, &[("A", "1")]);
    }
    let runs: Vec<RunId> = m.state.runs_of_job(other, None).map(|run| run.id).collect();
    assert_eq!(runs.len(), 1);
    assert_eq!(held(&m, runs[0]), Some(values(&[("A", "1")])));
    assert_eq!(held(&m, RunId(runs[0].0 - 1)), None);
}

#[test]
fn a_job_keeps_what_its_own_runs_put_out_and_no_others() {
    let mut m = Machine::new();
    let worker = m.worker("w", 9);
    let job = m.job(JobSpec { triggers: vec![cron("t")], ..keeping("a") });
    let state = |m: &Machine| m.state.job_state(job).map(|state| state.values.clone());
    let at = m.now + 1_000;
    m.plan(job, &[(at, vec![])]);
    m.after(1_000);
    let first = put_out(&mut m, worker, &[("N", "1"), ("OLD", "x")]);
    assert_eq!(state(&m), Some(values(&[("N", "1"), ("OLD", "x")])));
    assert_eq!(m.state.job_state(job).unwrap().run, Some(first));
    for order in [RunOrder::default(), RunOrder { debug: true, ..RunOrder::default() }] {
        m.ok(Command::RunJob { job, order: Box::new(order) });
        let run = put_out(&mut m, worker, &[("N", "99")]);
        assert_eq!(held(&m, run), Some(values(&[("N", "99")])));
    }
    m.ok(Command::StartBackfill(Box::new(backfill_of(job, 1))));
    put_out(&mut m, worker, &[("N", "98")]);
    assert_eq!(state(&m).unwrap()["N"], "1");
    m.ok(Command::Rerun { action: key(job, at), below: false });
    put_out(&mut m, worker, &[("N", "2")]);
    assert_eq!(state(&m), Some(values(&[("N", "2"), ("OLD", "x")])));
    m.ok(Command::DeleteJob { job, expected: None });
    assert_eq!(state(&m), None);
}

#[test]
fn a_success_whose_state_has_no_room_is_none() {
    let mut m = Machine::with(Limits { state_bytes: 20_000, ..Limits::default() });
    let worker = m.worker("w", 9);
    let jobs = ["a", "b"].map(|name| m.job(JobSpec { triggers: vec![cron("t")], ..keeping(name) }));
    let ran = |m: &mut Machine, job: JobId, outputs: &[(&str, &str)]| {
        m.plan(job, &[(m.now + 1_000, vec![])]);
        m.after(1_000);
        let run = put_out(m, worker, outputs);
        m.state.run(run).unwrap().attempts[0].end.clone().unwrap().how
    };
    let long = "x".repeat(10_000);
    assert_eq!(ran(&mut m, jobs[0], &[("A", &long)]), exit(0));
    let told = ran(&mut m, jobs[0], &[("B", &long)]);
    let wanted = "the job's state would have 20002 bytes, at most 16384";
    assert_eq!(told, EndKind::bad_output(wanted));
    assert_eq!(ran(&mut m, jobs[0], &[("A", "2")]), exit(0));
    assert_eq!(ran(&mut m, jobs[0], &[("A", &long)]), exit(0));
    let told = ran(&mut m, jobs[1], &[("A", &long)]);
    assert_eq!(
        told,
        EndKind::bad_output("the states of all jobs would have more than 20000 bytes")
    );
    assert!(m.state.job_state(jobs[1]).is_none());
}

#[test]
fn a_state_is_edited_key_by_key() {
    let mut m = Machine::with(Limits { state_bytes: 20_000, ..Limits::default() });
    let job = m.job(keeping("a"));
    let state = |m: &Machine| m.state.job_state(job).map(|state| state.values.clone());
    m.ok(edit_state(job, false, &[("A", "1"), ("B", "2")], &["NONE"]));
    assert_eq!(m.state.job_state(job).unwrap().run, None);
    m.ok(edit_state(job, false, &[("A", "3")], &["B"]));
    assert_eq!(state(&m), Some(values(&[("A", "3")])));
    m.ok(edit_state(job, true, &[("C", "4")], &[]));
    assert_eq!(state(&m), Some(values(&[("C", "4")])));
    let field = |reject: Reject| match reject {
        Reject::Invalid { field, .. } => field,
        Reject::TooLarge { what, .. } | Reject::Full { what, .. } => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(m.refused(edit_state(job, false, &[("no key", "")], &[]))), "state.no key");
    let long = "x".repeat(MAX_BYTES);
    assert_eq!(field(m.refused(edit_state(job, false, &[("A", &long)], &[]))), "state");
    let other = m.job(keeping("b"));
    m.ok(edit_state(job, false, &[("A", &long[..16_000])], &[]));
    let refused = m.refused(edit_state(other, false, &[("A", &long[..16_000])], &[]));
    assert_eq!(field(refused), "bytes of jobs' states");
    // What a definition that keeps none has left can be taken away, and nothing added.
    m.ok(apply(spec("a")));
    assert_eq!(field(m.refused(edit_state(job, false, &[("A", "1")], &[]))), "state");
    m.ok(edit_state(job, false, &[], &["A"]));
    assert_eq!(m.ok(edit_state(job, true, &[], &[])), Outcome::Done);
    assert_eq!(state(&m), None);
    assert!(matches!(m.refused(edit_state(JobId(9), true, &[], &[])), Reject::NoSuchJob(_)));
}
