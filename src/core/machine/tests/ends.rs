//! How runs and waits end: retries, exit codes, limits, and what is recorded of instants
//! that do not run.

use super::super::command::*;
use super::support::*;
use crate::ids::*;
use crate::model::action::{ActionState, Missed, MissedReason, SkipReason};
use crate::model::edge::{EdgeSpec, NoMatch};
use crate::model::job::*;
use crate::model::retry::RetryRules;
use crate::model::run::{EndKind, RunResult, RunState};
use crate::time::{Span, UtcMillis};

#[test]
fn an_exit_code_may_end_a_run_or_have_its_action_skipped() {
    let cases = [
        (1, ActionState::Ready),
        (2, ActionState::Failed),
        (99, ActionState::Skipped(SkipReason::Job)),
    ];
    for (code, wanted) in cases {
        let mut m = Machine::new();
        let worker = m.worker("w", 1);
        let backoff = Backoff::Fixed { delay: Span::secs(10) };
        let retry_rules = RetryRules {
            never_on: vec![2],
            skip_on: vec![99],
            jitter: Span::secs(5),
            ..RetryRules::default()
        };
        let retries = RetryPolicy { count: 3, backoff };
        let job = m.job(JobSpec { retries, retry_rules: retry_rules.clone(), ..triggered("a") });
        let down = m.job(after_jobs("down", &[job]));
        let at = m.now + 1000;
        m.plan(job, &[(at, vec![])]);
        m.plan(down, &[(at, vec![key(job, at)])]);
        m.after(1000);
        let run = m.queue()[0];
        let attempt = m.dispatch(run, worker);
        m.complete(attempt, exit(code));
        assert_eq!(state_of(&m, key(job, at)), wanted, "{code}");
        if wanted == ActionState::Ready {
            let until = UtcMillis(m.now).plus(Span::secs(10)).plus(retry_rules.jitter_of(run, 1));
            assert_eq!(m.state.run(run).unwrap().state, RunState::Backoff { until });
        }
        let skipped = ActionState::Skipped(SkipReason::Upstream);
        assert_eq!(state_of(&m, key(down, at)) == skipped, code == 99);
    }
    let mut m = Machine::new();
    for (bad, told) in [
        (RetryRules { skip_on: vec![0], ..RetryRules::default() }, "skip_exit_codes"),
        (RetryRules { retry_on: vec![1; 65], ..RetryRules::default() }, "exit codes of one list"),
        (RetryRules { jitter: Span::secs(90_000), ..RetryRules::default() }, "retries.jitter"),
    ] {
        let refused = m.refused(apply(JobSpec { retry_rules: bad, ..spec("bad") })).to_string();
        assert!(refused.contains(told), "{refused}");
    }
}

#[test]
fn an_action_waits_no_longer_than_its_job_says() {
    let mut m = Machine::new();
    let up = m.job(spec("up"));
    let job = m.job(JobSpec { depends_on: vec![EdgeSpec::new(up)], ..triggered("a") });
    let at = m.now + 1000;
    let mut batch = m.batch(
        job,
        PlanSource::Trigger(TriggerName("t".into())),
        &[(at, vec![]), (at + 1, vec![])],
    );
    for action in &mut batch.actions {
        action.unmatched = vec![(up, NoMatch::Waits)];
    }
    m.ok(Command::PlanActions(vec![batch]));
    m.after(2000);
    assert_eq!(state_of(&m, key(job, at)), ActionState::Waiting);
    // What waits already waits as the definition says now.
    let spec = m.state.job(job).unwrap().spec.clone();
    let limit = |secs| JobSpec { wait_limit: Some(Span::secs(secs)), ..spec.clone() };
    m.ok(apply(limit(3600)));
    m.after(3_590_000);
    assert_eq!(state_of(&m, key(job, at)), ActionState::Waiting);
    m.after(10_000);
    assert_eq!(state_of(&m, key(job, at)), ActionState::Skipped(SkipReason::Expired));
    assert!(m.refused(apply(limit(0))).to_string().contains("wait_limit"));
}

#[test]
fn what_several_batches_leave_out_in_a_row_is_one_range() {
    let mut m = Machine::new();
    let job = m.job(triggered("a"));
    let begin = m.now;
    let at = |second: i64| UtcMillis(begin + second * 1000);
    m.after(1_000_000);
    let name = TriggerName("t".into());
    let mut leave_out = |(from, to): (i64, i64), through: i64, reason: MissedReason| {
        let source = PlanSource::Trigger(name.clone());
        let count = u64::try_from(to - from + 1).unwrap();
        let (from, to, trigger) = (at(from), at(to), name.clone());
        let missed = Missed { job, trigger, from, to, count, reason, at: UtcMillis(m.now) };
        let batch =
            PlanBatch { through: at(through), missed: Some(missed), ..m.batch(job, source, &[]) };
        m.ok(Command::PlanActions(vec![batch]));
        let ranges = m.state.missed_of(job);
        let ranges = ranges.map(|r| ((r.from.0 - begin) / 1000, (r.to.0 - begin) / 1000, r.count));
        ranges.collect::<Vec<_>>()
    };
    let by_policy = MissedReason::by(MisfirePolicy::Skip);
    assert_eq!(leave_out((1, 50), 50, by_policy), [(1, 50, 50)]);
    assert_eq!(leave_out((51, 60), 60, by_policy), [(1, 60, 60)], "it goes on where that one ends");
    assert_eq!(leave_out((61, 62), 70, MissedReason::Paused).len(), 2, "for another reason");
    assert_eq!(leave_out((71, 72), 72, MissedReason::Paused).len(), 3, "the cursor was elsewhere");
}

#[test]
fn retries_wait_and_losses_are_counted_apart() {
    let mut m = Machine::new();
    let backoff = Backoff::Fixed { delay: Span::secs(2) };
    let retries = RetryPolicy { count: 1, backoff };
    let job = m.job(JobSpec { retries, ..spec("a") });
    let worker = m.worker("w", 1);
    m.ok(Command::TriggerJob { job });
    let run = m.queue()[0];
    let attempt = m.dispatch(run, worker);
    m.complete(attempt, exit(3));
    assert!(matches!(m.state.run(run).unwrap().state, RunState::Backoff { .. }));
    m.after(2000);
    for loss in 1..=3 {
        let attempt = m.dispatch(run, worker);
        m.complete(attempt, EndKind::Gone);
        assert_eq!(m.state.run(run).unwrap().losses, loss);
        assert_eq!(m.state.run(run).unwrap().state, RunState::Queued);
    }
    let attempt = m.dispatch(run, worker);
    m.complete(attempt, EndKind::Gone);
    let over = m.state.run(run).unwrap().state;
    assert!(matches!(over, RunState::Finished { result: RunResult::Failed, .. }), "{over:?}");
}
