//! Limits of attempts in the machine: what is refused, how such ends count, and what is kept
//! of what was used.

use super::super::command::*;
use super::super::outcome::Reject;
use super::support::*;
use crate::model::confinement::{Confinement, Power, Usage};
use crate::model::job::*;
use crate::model::run::{EndKind, Run, RunResult, RunState};
use crate::time::Span;

fn limited(memory: u64, tries: u32) -> JobSpec {
    let confinement = Confinement { memory: Some(memory), ..Confinement::default() };
    let backoff = Backoff::Fixed { delay: Span::ZERO };
    JobSpec { confinement, retries: RetryPolicy { count: tries - 1, backoff }, ..spec("a") }
}

fn used(cpu_ms: u64) -> Usage {
    Usage { cpu_ms, ..Usage::default() }
}

#[test]
fn limits_out_of_range_are_refused_with_their_field() {
    let mut m = Machine::new();
    let refused = m.refused(apply(limited(1, 1)));
    let Reject::Invalid { field, problem } = &refused else { panic!("{refused:?}") };
    assert_eq!(field, "limits.memory");
    assert!(problem.starts_with("1: ") && problem.contains("write 1048576 to"), "{problem}");
}

#[test]
fn an_attempt_killed_at_its_limit_is_a_failed_try() {
    let mut m = Machine::new();
    let job = m.job(limited(1 << 30, 2));
    let worker = m.able("w", Power::Memory);
    m.ok(Command::TriggerJob { job });
    let run = m.queue()[0];
    for how in [EndKind::OomKilled, EndKind::limits_unsupported("no")] {
        let (attempt, token) = m.dispatch(run, worker);
        m.ok(complete_using(attempt, token, how, used(7)));
    }
    let run = m.state.run(run).unwrap();
    assert!(matches!(run.state, RunState::Finished { result: RunResult::Failed, .. }), "{run:?}");
    assert_eq!((run.retries, run.losses), (1, 0));
    assert_eq!(run.usage, [(1, used(7)), (2, used(7))].into());
}

#[test]
fn what_was_used_is_kept_as_long_as_its_attempt() {
    let mut m = Machine::new();
    let tries = u32::try_from(Run::MAX_ATTEMPTS_KEPT).unwrap() + 2;
    let job = m.job(limited(1 << 30, tries));
    let worker = m.able("w", Power::Memory);
    m.ok(Command::TriggerJob { job });
    let run = m.queue()[0];
    for n in 1..=tries {
        let (attempt, token) = m.dispatch(run, worker);
        // Of an attempt that used nothing that was counted, nothing is kept.
        let usage = if n == tries { Usage::default() } else { used(n.into()) };
        m.ok(complete_using(attempt, token, exit(1), usage));
    }
    let run = m.state.run(run).unwrap();
    let kept: Vec<u32> = run.attempts.iter().map(|attempt| attempt.key.number).collect();
    assert_eq!(kept, (3..=tries).collect::<Vec<_>>());
    assert_eq!(run.usage.keys().copied().collect::<Vec<_>>(), (3..tries).collect::<Vec<_>>());
    assert_eq!(run.usage[&3], used(3));
}
