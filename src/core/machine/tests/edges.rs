//! Edges that say more than their job: what is refused, and what makes a revision.

use super::super::outcome::{Outcome, Reject};
use super::support::*;
use crate::model::edge::{EdgeSpec, Matching, OnNoMatch, PeriodUnit};
use crate::model::job::JobSpec;

#[test]
fn edges_are_checked_again_and_keep_what_they_say() {
    let mut m = Machine::new();
    let (a, b) = (m.job(spec("a")), m.job(spec("b")));
    let with = |edges: Vec<EdgeSpec>| JobSpec { depends_on: edges, ..spec("c") };
    let base = |job| EdgeSpec { base: true, ..EdgeSpec::new(job) };
    let skip = |job| EdgeSpec { on_no_match: Some(OnNoMatch::Skip), ..EdgeSpec::new(job) };
    for (bad, field) in [
        (with(vec![base(a), base(b)]), "depends_on[1].base"),
        (with(vec![skip(a)]), "depends_on[0].on_no_match"),
        (JobSpec { legacy_id: Some(1_000_000), ..spec("c") }, "legacy_id"),
    ] {
        let refused = m.refused(apply(bad));
        assert!(refused.to_string().contains(field), "{refused}");
    }
    let all = EdgeSpec { matching: Matching::AllInPeriod, ..skip(a) };
    let c = with(vec![base(b), all]);
    let id = m.job(c.clone());
    assert_eq!(m.state.job(id).unwrap().spec, c);
    let changed = |m: &mut Machine, spec: JobSpec| match m.ok(apply(spec)) {
        Outcome::Job { changed, .. } => changed,
        other => panic!("{other:?}"),
    };
    assert!(!changed(&mut m, c.clone()));
    assert!(changed(&mut m, with(vec![EdgeSpec::new(b), c.depends_on[1].clone()])));
    assert!(changed(&mut m, JobSpec { period: PeriodUnit::Week, ..c }));
    assert!(matches!(m.refused(apply(after_jobs("a", &[id]))), Reject::Cycle { .. }));
}
