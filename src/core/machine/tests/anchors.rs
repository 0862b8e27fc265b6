//! From when rates are counted: the commit that first held their rule.

use super::support::*;
use crate::ids::{JobId, TriggerName};
use crate::machine::command::PlanSource;
use crate::model::job::{JobSpec, MisfirePolicy, TriggerKind};
use crate::model::trigger::{RuleSpec, TriggerRule};
use crate::time::{Span, UtcMillis};

fn every(seconds: u64) -> JobSpec {
    let mut spec = triggered("rate");
    let rule = TriggerRule::Interval { every: Span::secs(seconds), repeats: None };
    spec.triggers[0].kind = TriggerKind::Rule(Box::new(RuleSpec::new(rule)));
    spec
}

fn anchor(m: &Machine, job: JobId) -> UtcMillis {
    match &m.state.job(job).unwrap().spec.triggers[0].kind {
        TriggerKind::Rule(rule) => rule.anchor.unwrap(),
        TriggerKind::Cron { .. } => panic!("the job's trigger is a rate"),
    }
}

#[test]
fn rates_are_counted_from_the_commit_that_first_held_them() {
    let mut m = Machine::new();
    let job = m.job(every(60));
    let first = UtcMillis(m.now);
    assert_eq!(anchor(&m, job), first);
    let cursor =
        |m: &Machine| m.state.cursor(job, &PlanSource::Trigger(TriggerName("t".into()))).unwrap();
    assert_eq!(cursor(&m), first);
    // Applied again: nothing changes, whatever a client says of the anchor.
    m.after(5_000);
    let mut again = every(60);
    if let TriggerKind::Rule(rule) = &mut again.triggers[0].kind {
        rule.anchor = Some(UtcMillis(7));
    }
    m.ok(apply(again));
    assert_eq!(m.state.job(job).unwrap().revision.0, 1);
    // Another policy for late instants: the rate goes on as it was.
    let mut edited = every(60);
    edited.triggers[0].misfire = MisfirePolicy::Skip;
    m.after(5_000);
    m.ok(apply(edited));
    assert_eq!((m.state.job(job).unwrap().revision.0, anchor(&m, job)), (2, first));
    assert_eq!(cursor(&m), UtcMillis(m.now));
    // Another rate begins anew.
    m.after(5_000);
    m.ok(apply(every(90)));
    assert_eq!(anchor(&m, job), UtcMillis(m.now));
    // And so does one that replaces a cron.
    m.ok(apply(triggered("rate")));
    m.after(5_000);
    m.ok(apply(every(90)));
    assert_eq!(anchor(&m, job), UtcMillis(m.now));
}
