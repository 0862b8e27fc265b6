//! What workers say of their attempts, and what is kept of it.

use super::support::*;
use crate::model::run::AttemptEnd;

/// The end of an attempt that was dispatched at 1,000 and reported at 3,000, after
/// the start of the test.
fn kept(started: Option<i64>, ended: Option<i64>) -> (i64, AttemptEnd) {
    let mut m = Machine::new();
    let begin = m.now;
    let job = m.job(triggered("a"));
    let worker = m.worker("w", 1);
    m.plan(job, &[(begin + 1_000, vec![])]);
    m.after(1_000);
    let run = m.queue()[0];
    let (attempt, token) = m.dispatch(run, worker);
    m.after(2_000);
    let times = [started, ended].map(|at| at.map(|at| begin + at));
    m.ok(told(attempt, token, exit(0), times));
    let end = m.state.run(run).unwrap().attempts[0].end.clone().unwrap();
    (begin, end)
}

#[test]
fn a_workers_times_lie_between_dispatch_and_commit() {
    let cases = [
        // What is possible is kept.
        ((Some(1_200), Some(2_900)), (Some(1_200), Some(2_900))),
        ((None, None), (None, None)),
        // A worker behind the leader's time did not begin before it was told.
        ((Some(960), Some(980)), (Some(1_000), Some(1_000))),
        ((None, Some(980)), (None, Some(1_000))),
        // One ahead of it did not end in the future.
        ((Some(3_400), Some(3_500)), (Some(3_000), Some(3_000))),
        // And none ends before it begins.
        ((Some(2_000), Some(1_500)), (Some(2_000), Some(2_000))),
    ];
    for ((started, ended), want) in cases {
        let (begin, end) = kept(started, ended);
        let have = (end.started.map(|at| at.0 - begin), end.ended.map(|at| at.0 - begin));
        assert_eq!(have, want, "{started:?} {ended:?}");
    }
}
