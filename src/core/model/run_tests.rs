//! The stored form of runs.

use std::collections::BTreeMap;

use super::confinement::Usage;
use super::handle::Handle;
use super::history::{Cause, Note, Notes};
use super::part::{Part, Parts};
use super::run::*;
use crate::ids::*;
use crate::time::UtcMillis;

#[test]
fn a_run_that_says_nothing_new_keeps_its_bytes() {
    let at = UtcMillis(300);
    let plain = Run {
        id: RunId(7),
        kind: RunKind::Recover,
        job: JobId(3),
        revision: Revision(2),
        action: Some(ActionKey { job: JobId(3), nominal: at }),
        nominal: at,
        state: RunState::Finished { result: RunResult::Failed, at },
        priority: 5,
        catch_up: true,
        created: at,
        ready_at: at,
        retries: 1,
        losses: 2,
        cancel_requested: true,
        attempts: Vec::new(),
        params: BTreeMap::new(),
        backfill: None,
        waits_from: None,
        drained: None,
        notes: Notes::default(),
        usage: BTreeMap::new(),
        handles: BTreeMap::new(),
        part: None,
        parts: None,
    };
    // One behind the other, as they were before there were others.
    let first = (RunId(7), RunKind::Recover, JobId(3), Revision(2), plain.action, at);
    let then = (plain.state, 5_u8, true, at, at, 1_u32, 2_u32, true, &plain.attempts);
    let bytes = postcard::to_stdvec(&plain).unwrap();
    assert_eq!(bytes, postcard::to_stdvec(&(first, then)).unwrap());
    assert_eq!(postcard::from_bytes::<Run>(&bytes).unwrap(), plain);
    let mut notes = Notes::default();
    notes.add(Note { at, by: "ann".to_owned(), cause: Cause::CancelAsked });
    let usage = BTreeMap::from([(1, Usage { cpu_ms: 3, ..Usage::default() })]);
    let handles = BTreeMap::from([(1, vec![Handle::new("job_1")])]);
    let part = Part { of: RunId(6), index: 0, total: 2, worker: Some(WorkerId(4)) };
    let parts = Parts { first: RunId(8), total: 300, over: 1, at };
    let (part, parts) = (Some(part), Some(parts));
    let more = Run { waits_from: Some(at), notes, usage, handles, part, parts, ..plain };
    let bytes = postcard::to_stdvec(&more).unwrap();
    assert_eq!(postcard::from_bytes::<Run>(&bytes).unwrap(), more);
}
