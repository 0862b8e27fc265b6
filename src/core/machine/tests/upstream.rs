//! Actions that wait for upstream actions which are not planned yet, and what becomes
//! of them when those never come.

use super::super::command::*;
use super::super::outcome::Outcome;
use super::support::*;
use crate::ids::{ActionKey, JobId, TriggerName};
use crate::model::action::{ActionState, SkipReason, Upstream};
use crate::model::edge::{Condition, EdgeSpec, Matching, NoMatch, OnNoMatch};
use crate::model::job::{JobSpec, MisfirePolicy};
use crate::time::UtcMillis;

const HOUR: i64 = 3_600_000;

fn edge(job: JobId, matching: Matching, on_no_match: Option<OnNoMatch>) -> EdgeSpec {
    EdgeSpec { matching, on_no_match, ..EdgeSpec::new(job) }
}

/// A job with a trigger that waits for others.
fn waits(text: &str, edges: Vec<EdgeSpec>) -> JobSpec {
    JobSpec { depends_on: edges, ..triggered(text) }
}

/// One action and what it waits for, as a batch up to its instant.
fn one(m: &Machine, job: JobId, at: i64, upstream: Vec<ActionKey>) -> PlanBatch {
    m.batch(job, PlanSource::Trigger(TriggerName("t".into())), &[(at, upstream)])
}

fn plan(m: &mut Machine, batch: PlanBatch) -> (u32, u32) {
    match m.ok(Command::PlanActions(vec![batch])) {
        Outcome::Planned { created, refused } => (created, refused),
        other => panic!("{other:?}"),
    }
}

/// Moves a trigger's cursor, with nothing up to there.
fn pass(m: &mut Machine, job: JobId, to: i64) {
    let batch = m.batch(job, PlanSource::Trigger(TriggerName("t".into())), &[]);
    m.ok(Command::PlanActions(vec![PlanBatch { through: UtcMillis(to), ..batch }]));
}

#[test]
fn an_upstream_action_may_come_later_and_is_waited_for() {
    let mut m = Machine::new();
    let worker = m.worker("w", 4);
    let up = m.job(triggered("up"));
    let down = m.job(waits("down", vec![edge(up, Matching::Nearest, None)]));
    let (early, late) = (m.now + HOUR, m.now + 2 * HOUR);
    pass(&mut m, up, early);
    let batch = one(&m, down, early, vec![key(up, late)]);
    assert_eq!(plan(&mut m, batch), (1, 0));
    m.after(HOUR);
    assert_eq!(state_of(&m, key(down, early)), ActionState::Waiting);
    // One that cannot come any more is not planned for.
    let batch = one(&m, down, early + 1000, vec![key(up, early - 1000)]);
    pass(&mut m, up, early + 1000);
    assert_eq!(plan(&mut m, batch), (0, 1));
    let batch = one(&m, up, late, vec![]);
    assert_eq!(plan(&mut m, batch), (1, 0));
    m.after(HOUR);
    let attempt = m.dispatch(m.queue()[0], worker);
    m.complete(attempt, exit(0));
    assert_eq!(state_of(&m, key(down, early)), ActionState::Ready);
}

#[test]
fn what_never_comes_is_taken_as_the_edge_says() {
    let cases = [
        (Matching::Nearest, None, ActionState::Skipped(SkipReason::Upstream)),
        (Matching::LatestBefore, None, ActionState::Ready),
        (Matching::AllInPeriod, Some(OnNoMatch::Wait), ActionState::Waiting),
        (
            Matching::AllInPeriod,
            Some(OnNoMatch::Skip),
            ActionState::Skipped(SkipReason::NoUpstream),
        ),
    ];
    for (matching, on_no_match, wanted) in cases {
        let mut m = Machine::new();
        let up = m.job(triggered("up"));
        let down = m.job(waits("down", vec![edge(up, matching, on_no_match)]));
        let at = m.now + HOUR;
        pass(&mut m, up, at);
        let batch = one(&m, down, at, vec![key(up, at + HOUR), key(up, at + 2 * HOUR)]);
        assert_eq!(plan(&mut m, batch), (1, 0));
        m.after(HOUR);
        pass(&mut m, up, at + HOUR + 1000);
        if matching != Matching::Nearest {
            assert_eq!(state_of(&m, key(down, at)), ActionState::Waiting, "the other may come");
            assert_eq!(m.state.action(key(down, at)).unwrap().upstream.len(), 1);
        }
        pass(&mut m, up, at + 3 * HOUR);
        assert_eq!(state_of(&m, key(down, at)), wanted, "{matching:?}");
        if wanted == ActionState::Waiting {
            m.after(3 * 24 * HOUR);
            assert_eq!(state_of(&m, key(down, at)), ActionState::Skipped(SkipReason::Expired));
        }
    }
}

#[test]
fn an_edge_that_found_nothing_is_kept_and_shown() {
    let cases = [
        (NoMatch::Satisfied, ActionState::Ready),
        (NoMatch::Waits, ActionState::Waiting),
        (NoMatch::Skips, ActionState::Skipped(SkipReason::NoUpstream)),
    ];
    for (none, wanted) in cases {
        let mut m = Machine::new();
        let up = m.job(triggered("up"));
        let down = m.job(waits("down", vec![edge(up, Matching::AllInPeriod, None)]));
        let at = m.now + 1000;
        pass(&mut m, up, at);
        let mut batch = one(&m, down, at, vec![]);
        batch.actions[0].unmatched = vec![(up, none)];
        let bytes = postcard::to_stdvec(&batch).unwrap();
        assert_eq!(postcard::from_bytes::<PlanBatch>(&bytes).unwrap(), batch);
        assert_eq!(plan(&mut m, batch), (1, 0));
        m.after(1000);
        assert_eq!(state_of(&m, key(down, at)), wanted);
        let shown = Upstream { none: Some(none), ..Upstream::on(key(up, at), None) };
        assert_eq!(m.state.action(key(down, at)).unwrap().upstream, [shown]);
    }
}

#[test]
fn a_job_may_wait_for_its_own_earlier_actions_alone() {
    let mut m = Machine::new();
    let worker = m.worker("w", 4);
    let own = edge(EdgeSpec::OWN, Matching::LatestBefore, None);
    let job = m.job(waits("chain", vec![own.clone()]));
    assert_eq!(m.state.job(job).unwrap().spec.depends_on[0].job, job, "it has its number now");
    let again = m.ok(apply(waits("chain", vec![own])));
    assert!(matches!(again, Outcome::Job { changed: false, .. }), "{again:?}");
    let (first, second) = (m.now + 1000, m.now + 2000);
    let ahead = one(&m, job, first, vec![key(job, second)]);
    assert_eq!(plan(&mut m, ahead), (0, 1), "a later one");
    let source = PlanSource::Trigger(TriggerName("t".into()));
    let mut batch = m.batch(job, source, &[(first, vec![]), (second, vec![key(job, first)])]);
    batch.actions[0].unmatched = vec![(job, NoMatch::Satisfied)];
    assert_eq!(plan(&mut m, batch), (2, 0));
    m.after(2000);
    assert_eq!(state_of(&m, key(job, second)), ActionState::Waiting);
    let attempt = m.dispatch(m.queue()[0], worker);
    m.complete(attempt, exit(0));
    assert_eq!(state_of(&m, key(job, second)), ActionState::Ready);
    m.ok(Command::DeleteJob { job, expected: None });
}

#[test]
fn an_edit_upstream_has_all_below_matched_anew() {
    let mut m = Machine::new();
    let up = m.job(triggered("up"));
    let middle = m.job(waits("middle", vec![edge(up, Matching::Nearest, None)]));
    let below = m.job(waits("below", vec![edge(middle, Matching::Nearest, None)]));
    let (past, ahead, far) = (m.now + HOUR, m.now + 2 * HOUR, m.now + 5 * HOUR);
    for job in [up, middle, below] {
        let source = PlanSource::Trigger(TriggerName("t".into()));
        let upstream = match job {
            _ if job == up => [vec![], vec![]],
            _ if job == middle => [vec![key(up, far)], vec![key(up, ahead)]],
            _ => [vec![key(middle, past)], vec![key(middle, past)]],
        };
        let [a, b] = upstream;
        let batch = m.batch(job, source, &[(past, a), (ahead, b)]);
        assert_eq!(plan(&mut m, batch), (2, 0));
    }
    m.after(HOUR + 1000);
    assert_eq!(state_of(&m, key(middle, past)), ActionState::Waiting);
    let mut other = triggered("up");
    other.triggers[0].misfire = MisfirePolicy::Skip;
    m.ok(apply(other));
    for job in [up, middle, below] {
        assert!(m.state.action(key(job, ahead)).is_none(), "{job}: matched by what was");
        assert_eq!(m.state.planned_through(job), UtcMillis(m.now));
    }
    // What was due waits on: the new definition may have that instant, too.
    assert_eq!(state_of(&m, key(middle, past)), ActionState::Waiting);
    pass(&mut m, up, far + 1);
    let skipped = ActionState::Skipped(SkipReason::Upstream);
    assert_eq!(state_of(&m, key(middle, past)), skipped);
    assert_eq!(state_of(&m, key(below, past)), skipped, "and so does who waited for it");
}

/// How an upstream action may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Well,
    Badly,
    Cancelled,
    Skipped,
}

/// Lets the action of `up` end so; `at` has come.
fn end(m: &mut Machine, up: JobId, at: i64, how: End) {
    let run = m.state.action(key(up, at)).unwrap().run;
    match (how, run) {
        (End::Skipped, None) => {}
        (End::Cancelled, Some(run)) => drop(m.ok(Command::CancelRun { run })),
        (End::Well | End::Badly, Some(run)) => {
            let worker = m.worker("w", 4);
            let attempt = m.dispatch(run, worker);
            m.complete(attempt, exit(i32::from(how == End::Badly)));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_edge_says_how_an_upstream_action_must_end() {
    use ActionState::{Ready, Waiting};
    let skipped = ActionState::Skipped(SkipReason::Upstream);
    // Ends well, badly, cancelled, skipped.
    let table = [
        (Condition::Success, false, [Ready, Waiting, Waiting, skipped]),
        (Condition::Failure, false, [skipped, Ready, Waiting, skipped]),
        (Condition::Done, false, [Ready, Ready, Ready, Ready]),
        (Condition::SkippedOk, false, [Ready, Waiting, Waiting, Ready]),
        (Condition::Success, true, [Ready, Ready, Ready, Ready]),
    ];
    for (condition, soft, wanted) in table {
        for (how, wanted) in
            [End::Well, End::Badly, End::Cancelled, End::Skipped].into_iter().zip(wanted)
        {
            // It is planned before that end, or after it.
            for is_late in [false, true] {
                let what = format!("{condition:?}, soft {soft}, {how:?}, late {is_late}");
                let mut m = Machine::new();
                let before = m.job(triggered("before"));
                let up = m.job(waits("up", vec![edge(before, Matching::AllInPeriod, None)]));
                let edge = EdgeSpec { condition, soft, ..EdgeSpec::new(up) };
                let down = m.job(waits("down", vec![edge]));
                let at = m.now + 1000;
                pass(&mut m, before, at);
                let mut batch = one(&m, up, at, vec![]);
                if how == End::Skipped {
                    batch.actions[0].unmatched = vec![(before, NoMatch::Skips)];
                }
                let batch_down = one(&m, down, at, vec![key(up, at)]);
                if is_late {
                    plan(&mut m, batch);
                    m.after(1000);
                    end(&mut m, up, at, how);
                    assert_eq!(plan(&mut m, batch_down), (1, 0), "{what}");
                } else {
                    let both = vec![batch, batch_down];
                    m.ok(Command::PlanActions(both));
                    m.after(1000);
                    end(&mut m, up, at, how);
                }
                m.after(1);
                assert_eq!(state_of(&m, key(down, at)), wanted, "{what}");
                let waits = m.state.action(key(down, at)).unwrap().upstream[0];
                assert_eq!(waits.is_met(), wanted == Ready, "{what}: {waits:?}");
                let bytes = postcard::to_stdvec(&waits).unwrap();
                assert_eq!(postcard::from_bytes::<Upstream>(&bytes).unwrap(), waits);
            }
        }
    }
}

#[test]
fn a_soft_edge_needs_no_action_at_all() {
    let mut m = Machine::new();
    let up = m.job(triggered("up"));
    let soft = EdgeSpec { soft: true, ..EdgeSpec::new(up) };
    let down = m.job(waits("down", vec![soft.clone()]));
    let at = m.now + HOUR;
    pass(&mut m, up, at);
    let batch = one(&m, down, at, vec![key(up, at + HOUR)]);
    assert_eq!(plan(&mut m, batch), (1, 0));
    m.after(HOUR);
    assert_eq!(state_of(&m, key(down, at)), ActionState::Waiting);
    pass(&mut m, up, at + HOUR);
    assert_eq!(state_of(&m, key(down, at)), ActionState::Ready, "that one never comes");
    for (bad, field) in [
        (EdgeSpec { condition: Condition::Done, ..soft.clone() }, "condition"),
        (EdgeSpec { base: true, ..soft }, "base"),
    ] {
        let refused =
            m.refused(apply(JobSpec { depends_on: vec![bad], ..spec("bad") })).to_string();
        assert!(refused.contains(field), "{refused}");
    }
}
