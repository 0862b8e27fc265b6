//! Triggers with a fixed delay: one unfinished action, and the next one counted
//! from its end; and what parameters and priorities triggers give.

use super::super::command::*;
use super::super::outcome::Reject;
use super::support::*;
use crate::ids::*;
use crate::model::action::ActionState;
use crate::model::edge::{EdgeSpec, Matching};
use crate::model::job::{JobSpec, RetryPolicy, TriggerKind};
use crate::model::trigger::{RuleSpec, TriggerRule};
use crate::time::{Span, UtcMillis};

fn delayed(text: &str) -> JobSpec {
    let mut spec = triggered(text);
    let rule = TriggerRule::FixedDelay { delay: Span::secs(60) };
    spec.triggers[0].kind = TriggerKind::Rule(Box::new(RuleSpec::new(rule)));
    spec
}

fn source() -> PlanSource {
    PlanSource::Trigger(TriggerName("t".into()))
}

#[test]
fn the_delay_counts_from_the_end_with_all_retries() {
    let mut m = Machine::new();
    let worker = m.worker("w", 5);
    let retries = RetryPolicy { count: 1, ..RetryPolicy::default() };
    let job = m.job(JobSpec { retries, ..delayed("j") });
    let first = m.now + 60_000;
    // Never two that are not over.
    assert_eq!(m.plan(job, &[(first, vec![]), (first + 60_000, vec![])]), (0, 1));
    assert_eq!(m.plan(job, &[(first, vec![])]), (1, 0));
    assert_eq!(m.plan(job, &[(first + 60_000, vec![])]), (0, 1));
    assert_eq!(m.state.unfinished_of(job, &TriggerName("t".into())), Some(key(job, first)));
    m.after(61_000);
    let run = m.queue()[0];
    let attempt = m.dispatch(run, worker);
    m.after(5_000);
    m.complete(attempt, exit(1));
    // A try is left: it is not over.
    assert_eq!(m.plan(job, &[(m.now + 60_000, vec![])]), (0, 1));
    m.after(20_000);
    let attempt = m.dispatch(run, worker);
    m.after(5_000);
    m.complete(attempt, exit(0));
    assert_eq!(m.state.cursor(job, &source()), Some(UtcMillis(m.now)));
    assert_eq!(m.state.unfinished_of(job, &TriggerName("t".into())), None);
    assert_eq!(m.plan(job, &[(m.now + 60_000, vec![])]), (1, 0));
    // One that is cancelled is over, too.
    m.after(61_000);
    let run = m.queue()[0];
    m.ok(Command::CancelRun { run });
    assert_eq!(m.state.cursor(job, &source()), Some(UtcMillis(m.now)));
    assert_eq!(m.plan(job, &[(m.now + 60_000, vec![])]), (1, 0));
}

#[test]
fn a_pause_and_an_edit_count_it_anew() {
    let mut m = Machine::new();
    let job = m.job(delayed("j"));
    m.plan(job, &[(m.now + 60_000, vec![])]);
    m.after(10_000);
    m.ok(Command::PauseJob { job });
    assert_eq!(m.state.live_actions(), 0);
    m.after(10_000);
    m.ok(Command::ResumeJob { job });
    assert_eq!(m.state.cursor(job, &source()), Some(UtcMillis(m.now)));
    assert_eq!(m.plan(job, &[(m.now + 60_000, vec![])]), (1, 0));
    m.after(5_000);
    m.ok(apply(JobSpec { zone: Some("Asia/Tokyo".to_owned()), ..delayed("j") }));
    assert_eq!(m.state.live_actions(), 0);
    assert_eq!(m.plan(job, &[(m.now + 60_000, vec![])]), (1, 0));
}

#[test]
fn dependants_have_one_action_for_each_of_its_own() {
    let mut m = Machine::new();
    let worker = m.worker("w", 5);
    let up = m.job(delayed("up"));
    let other = m.job(triggered("other"));
    let field = |reject: Reject| match reject {
        Reject::Invalid { field, .. } => field,
        other => panic!("{other:?}"),
    };
    let own = JobSpec { triggers: vec![cron("t")], ..after_jobs("own", &[up]) };
    assert_eq!(field(m.refused(apply(own))), "depends_on");
    assert_eq!(field(m.refused(apply(after_jobs("both", &[other, up])))), "depends_on");
    let down = m.job(after_jobs("down", &[up]));
    let at = m.now + 60_000;
    m.plan(up, &[(at, vec![])]);
    assert_eq!(m.plan(down, &[(at, vec![key(up, at)])]), (1, 0));
    m.after(61_000);
    let run = m.queue()[0];
    let attempt = m.dispatch(run, worker);
    m.complete(attempt, exit(0));
    let state = m.state.action(key(down, at)).unwrap().state;
    assert_eq!(state, ActionState::Ready);
    // What others depend on has no other instants, and no others' dependants.
    let mixed =
        JobSpec { triggers: vec![delayed("x").triggers.remove(0), cron("c")], ..spec("up") };
    assert_eq!(field(m.refused(apply(mixed))), "triggers");
    // Nor can one come to a job that has others.
    let two = JobSpec { triggers: vec![delayed("x").triggers.remove(0), cron("c")], ..spec("two") };
    let two = m.job(two);
    assert_eq!(field(m.refused(apply(after_jobs("after", &[two])))), "depends_on");
    // Nor are those of a job that copies them known ahead.
    assert_eq!(field(m.refused(apply(after_jobs("both", &[other, down])))), "depends_on");
    let newest = |job| EdgeSpec { matching: Matching::LatestBefore, ..EdgeSpec::new(job) };
    let edges = vec![EdgeSpec::new(other), newest(down), newest(two)];
    let both = m.job(JobSpec { depends_on: edges, ..spec("both") });
    assert_eq!(field(m.refused(apply(delayed("other")))), "triggers");
    m.ok(Command::DeleteJob { job: both, expected: None });
    m.ok(apply(delayed("other")));
    // Only the newest: it gives no instants.
    let only = JobSpec { depends_on: vec![newest(up)], ..spec("only") };
    assert_eq!(field(m.refused(apply(only))), "depends_on");
}

#[test]
fn a_run_has_the_priority_of_its_triggers() {
    let mut m = Machine::new();
    let with = |priority| RuleSpec {
        priority,
        ..RuleSpec::new(TriggerRule::Interval { every: Span::secs(60), repeats: None })
    };
    let kind = |priority| TriggerKind::Rule(Box::new(with(priority)));
    let mut triggers = vec![cron("high"), cron("plain")];
    (triggers[0].kind, triggers[1].kind) = (kind(Some(8)), kind(None));
    let job = m.job(JobSpec { triggers: triggers.clone(), priority: 3, ..spec("j") });
    let base = m.now;
    for (name, offsets) in [("high", [1_000, 3_000]), ("plain", [2_000, 3_000])] {
        let name = PlanSource::Trigger(TriggerName(name.into()));
        let batch = m.batch(job, name, &offsets.map(|at| (base + at, vec![])));
        m.ok(Command::PlanActions(vec![batch]));
    }
    m.after(5_000);
    let priority = |at: i64| {
        let run = m.state.action(key(job, base + at)).unwrap().run.unwrap();
        m.state.run(run).unwrap().priority
    };
    assert_eq!([1_000, 2_000, 3_000].map(priority), [8, 3, 8]);
    triggers[0].kind = kind(Some(10));
    let bad = JobSpec { triggers, ..spec("bad") };
    let Reject::Invalid { field, .. } = m.refused(apply(bad)) else { panic!("it was taken") };
    assert_eq!(field, "triggers[0].priority");
}
