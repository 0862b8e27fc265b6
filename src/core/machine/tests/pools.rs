//! Pools: never more at once than there are slots, and none is lost, whatever ends a run.

use super::super::command::*;
use super::super::outcome::{Outcome, Reject};
use super::super::snapshot::{Restore, records};
use super::super::state::Limits;
use super::support::*;
use crate::ids::*;
use crate::model::action::WaitReason;
use crate::model::backfill::BackfillOrder;
use crate::model::job::*;
use crate::model::run::{EndKind, RunOrder, RunState};
use crate::placement::explain::{Subject, explain};
use crate::placement::pools::first_to_go;
use crate::time::Span;

/// A machine with a pool `p` of that many slots and a large worker.
fn with_pool(slots: u32) -> (Machine, WorkerId) {
    let mut m = Machine::new();
    let worker = m.worker("w", 100);
    m.ok(put_pool("p", slots));
    (m, worker)
}

impl Machine {
    /// A run of the job, made by hand.
    fn begin(&mut self, job: JobId) -> RunId {
        match self.ok(Command::TriggerJob { job }) {
            Outcome::Run { run } => run,
            other => panic!("{other:?}"),
        }
    }

    /// Slots in use, and runs that wait.
    fn pool(&self, pool: &str) -> (u32, u32) {
        (self.state.pool_used(&name(pool)), self.state.pool_waiting(&name(pool)))
    }

    fn first(&self) -> Option<RunId> {
        first_to_go(&self.state, &default_group(), &|_| true)
    }

    fn why(&self, run: RunId) -> Option<WaitReason> {
        explain(&self.state, Subject::Run(run), &here)
    }

    #[track_caller]
    fn not_dispatched(&mut self, run: RunId, worker: WorkerId) -> Reject {
        let incarnation = self.state.worker(worker).unwrap().profile.incarnation;
        self.refused(Command::Dispatch { run, number: 1, worker, incarnation })
    }
}

#[test]
fn a_full_pool_refuses_until_a_slot_is_given_back() {
    let (mut m, worker) = with_pool(2);
    let job = m.job(taking("a", &[("p", 1)]));
    let runs: Vec<RunId> = (0..4).map(|_| m.begin(job)).collect();
    assert_eq!(m.pool("p"), (0, 4));
    let first = m.dispatch(runs[0], worker);
    m.dispatch(runs[1], worker);
    assert_eq!(m.pool("p"), (2, 2));
    assert_eq!(m.not_dispatched(runs[2], worker), Reject::PoolFull(name("p")));
    assert_eq!((m.first(), m.why(runs[2])), (None, Some(WaitReason::Pool)));
    m.complete(first, exit(0));
    assert_eq!((m.pool("p"), m.first()), ((1, 2), Some(runs[2])));
    assert_eq!(m.why(runs[2]), Some(WaitReason::Dispatching));
    assert_eq!(m.why(runs[3]), Some(WaitReason::Queue));
    m.dispatch(runs[2], worker);
}

#[test]
fn whatever_ends_a_run_gives_its_slots_back() {
    let retries = RetryPolicy { count: 1, backoff: Backoff::Fixed { delay: Span::secs(9) } };
    let (mut m, worker) = with_pool(3);
    let job = m.job(JobSpec { retries, ..taking("a", &[("p", 3)]) });
    // A failure that is tried again: nothing is held while it waits for that.
    let run = m.begin(job);
    let attempt = m.dispatch(run, worker);
    m.complete(attempt, exit(1));
    assert!(matches!(m.state.run(run).unwrap().state, RunState::Backoff { .. }));
    assert_eq!(m.pool("p"), (0, 0));
    let other = m.begin(job);
    let held = m.dispatch(other, worker);
    m.after(9_000);
    assert_eq!((m.pool("p"), m.why(run)), ((3, 1), Some(WaitReason::Pool)));
    // A cancel holds them until the attempt has ended.
    m.ok(Command::CancelRun { run: other });
    assert_eq!(m.pool("p"), (3, 1));
    m.complete(held, EndKind::Cancelled);
    assert_eq!(m.pool("p"), (0, 1));
    m.ok(Command::CancelRun { run });
    assert_eq!(m.pool("p"), (0, 0));
    // Losses: at once by another boot, else after lease and margin.
    let run = m.begin(job);
    m.dispatch(run, worker);
    m.ok(Command::AttachWorker(Box::new(profile("w", 2, 2, 100))));
    assert_eq!(m.pool("p"), (0, 1));
    let attempt = m.dispatch(run, worker);
    assert_eq!(m.pool("p"), (3, 0));
    m.after(69_000);
    assert_eq!(m.pool("p"), (3, 0), "it may be alive still");
    m.after(2_000);
    assert_eq!(m.pool("p"), (0, 1));
    assert!(matches!(
        m.send(complete(attempt.0, attempt.1, exit(0))),
        Outcome::Rejected(Reject::StaleAttempt(_))
    ));
    // What of a deleted job is live holds on; the rest is gone.
    m.ok(Command::AttachWorker(Box::new(profile("w", 3, 3, 100))));
    let attempt = m.dispatch(run, worker);
    m.begin(job);
    m.ok(Command::DeleteJob { job, expected: None });
    assert_eq!(m.pool("p"), (3, 0));
    m.complete(attempt, exit(0));
    assert_eq!(m.pool("p"), (0, 0));
}

#[test]
fn a_kept_attempt_of_a_lost_worker_keeps_its_slots() {
    let (mut m, worker) = with_pool(1);
    let keep_for = Span::secs(600);
    let on_worker_lost = OnWorkerLost::Keep { keep_for };
    let job = m.job(JobSpec { on_worker_lost, ..taking("a", &[("p", 1)]) });
    let (kept, next) = (m.begin(job), m.begin(job));
    let attempt = m.dispatch(kept, worker);
    m.ok(Command::LeaderStarted(leader(2)));
    m.after(300_000);
    let other = m.worker("v", 9);
    assert_eq!((m.pool("p"), m.why(next)), ((1, 1), Some(WaitReason::Pool)));
    assert_eq!(m.not_dispatched(next, other), Reject::PoolFull(name("p")));
    m.complete(attempt, exit(0));
    assert_eq!(m.pool("p"), (0, 1));
    m.dispatch(next, worker);
    m.after(590_000);
    assert_eq!(m.pool("p"), (1, 0));
    m.after(11_000);
    assert_eq!(m.pool("p"), (0, 0), "it is waited for no longer");
}

#[test]
fn another_leader_and_a_restored_node_know_what_is_in_use() {
    let (mut m, worker) = with_pool(2);
    let job = m.job(taking("a", &[("p", 1)]));
    for _ in 0..2 {
        let run = m.begin(job);
        m.dispatch(run, worker);
    }
    let waiting = m.begin(job);
    let mut restore = Restore::new(Limits::default());
    for record in records(&m.state) {
        restore.push(&record).unwrap();
    }
    m.state = restore.finish().unwrap();
    m.ok(Command::LeaderStarted(leader(2)));
    assert_eq!(m.pool("p"), (2, 1));
    assert_eq!(m.not_dispatched(waiting, worker), Reject::PoolFull(name("p")));
}

#[test]
fn a_run_of_several_pools_needs_all_of_them() {
    let (mut m, worker) = with_pool(2);
    m.ok(put_pool("q", 1));
    let both = m.job(taking("both", &[("p", 2), ("q", 1)]));
    let q = m.job(taking("q", &[("q", 1)]));
    let plain = m.job(spec("plain"));
    let (first, of_q) = (m.begin(both), m.begin(q));
    let attempt = m.dispatch(first, worker);
    assert_eq!((m.pool("p").0, m.pool("q").0), (2, 1));
    let second = m.begin(both);
    assert_eq!(m.not_dispatched(second, worker), Reject::PoolFull(name("p")));
    assert_eq!(m.not_dispatched(of_q, worker), Reject::PoolFull(name("q")));
    // Who needs none of them is not held up.
    let free = m.begin(plain);
    assert_eq!((m.first(), m.why(free)), (Some(free), Some(WaitReason::Dispatching)));
    m.complete(attempt, exit(0));
    assert_eq!(m.first(), Some(of_q));
    m.dispatch(of_q, worker);
    assert_eq!(m.why(second), Some(WaitReason::Pool));
}

#[test]
fn what_a_run_lacks_is_kept_for_it() {
    let (mut m, worker) = with_pool(3);
    let (one, all) = (m.job(taking("one", &[("p", 1)])), m.job(taking("all", &[("p", 3)])));
    let small = m.begin(one);
    let attempt = m.dispatch(small, worker);
    let (large, later) = (m.begin(all), m.begin(one));
    assert_eq!((m.first(), m.why(large)), (None, Some(WaitReason::Pool)));
    assert_eq!(m.why(later), Some(WaitReason::Queue), "two are free, for those before it");
    m.complete(attempt, exit(0));
    assert_eq!(m.first(), Some(large));
    // A higher priority goes before it.
    let urgent = m.job(JobSpec { priority: 9, ..taking("urgent", &[("p", 1)]) });
    let urgent = m.begin(urgent);
    assert_eq!(m.first(), Some(urgent));
}

#[test]
fn a_definition_takes_what_there_is() {
    let mut m = Machine::new();
    let job = taking("a", &[("p", 3)]);
    let told = m.refused(apply(job.clone())).to_string();
    assert_eq!(told, "pools.p: pool p does not exist; horai pool set p --slots 3");
    m.ok(put_pool("p", 2));
    let told = m.refused(apply(job.clone())).to_string();
    assert!(told.contains("2 slots, fewer than 3; take at most 2"), "{told}");
    m.ok(put_pool("p", 3));
    m.ok(apply(job));
    let bad = m.refused(apply(taking("b", &[("p", 0)]))).to_string();
    assert!(bad.contains("pools.p") && bad.contains("1 to 10000"), "{bad}");
    let names: Vec<String> = (0..9).map(|n| format!("p{n}")).collect();
    let many: Vec<(&str, u32)> = names.iter().map(|pool| (pool.as_str(), 1)).collect();
    assert!(matches!(m.refused(apply(taking("b", &many))), Reject::TooLarge { limit: 8, .. }));
    for slots in [0, 10_001] {
        let bad = m.refused(put_pool("q", slots)).to_string();
        assert!(bad.contains("slots") && bad.contains("1 to 10000"), "{bad}");
    }
}

#[test]
fn a_pool_in_use_is_neither_deleted_nor_made_too_small() {
    let (mut m, worker) = with_pool(4);
    let delete = Command::DeletePool { name: name("p"), expected: None };
    let job = m.job(taking("a", &[("p", 3)]));
    for n in 0..6 {
        m.job(taking(&format!("b{n}"), &[("p", 1)]));
    }
    let told = m.refused(delete.clone()).to_string();
    assert_eq!(told, "pool p is in use by 7 jobs: b0, b1, b2, b3, b4, …");
    let told = m.refused(put_pool("p", 2)).to_string();
    assert_eq!(told, "2 slots of pool p are fewer than a run takes of 1 job: a");
    // An edit leaves the runs that there are as they were.
    let run = m.begin(job);
    let attempt = m.dispatch(run, worker);
    m.ok(apply(taking("a", &[])));
    for n in 0..6 {
        m.ok(apply(taking(&format!("b{n}"), &[])));
    }
    assert_eq!(m.pool("p"), (3, 0));
    let told = m.refused(put_pool("p", 2)).to_string();
    assert!(told.ends_with("runs of earlier definitions: r-1"), "{told}");
    let told = m.refused(delete.clone()).to_string();
    assert_eq!(told, "pool p is in use by runs of earlier definitions: r-1");
    m.complete(attempt, exit(0));
    m.ok(put_pool("p", 2));
    m.ok(delete.clone());
    assert_eq!(m.refused(delete), Reject::NoSuchPool(name("p")));
}

#[test]
fn a_definition_that_is_only_kept_uses_no_pool_and_a_back_fill_of_it_does() {
    let (mut m, worker) = with_pool(2);
    let delete = Command::DeletePool { name: name("p"), expected: None };
    let job = m.job(taking("a", &[("p", 1)]));
    m.ok(apply(taking("a", &[])));
    // Nobody is pinned to revision 1, though it may be asked for.
    let earlier = RunOrder { revision: Some(Revision(1)), ..RunOrder::default() };
    let run = |order: &RunOrder| Command::RunJob { job, order: Box::new(order.clone()) };
    let order =
        BackfillOrder { revision: Some(Revision(1)), concurrency: 1, ..backfill_of(job, 2) };
    let fill = Command::StartBackfill(Box::new(order));
    m.ok(fill.clone());
    let told = m.refused(delete.clone()).to_string();
    let by_run = "pool p is in use by runs of earlier definitions: r-1";
    assert_eq!(told, format!("{by_run}; back-fills of earlier definitions: b-1"));
    for run in [RunId(1), RunId(2)] {
        let attempt = m.dispatch(run, worker);
        m.complete(attempt, exit(0));
    }
    m.ok(delete);
    // What runs of that definition would take is gone.
    for command in [run(&earlier), fill] {
        let told = m.refused(command).to_string();
        assert!(told.contains("pools.p") && told.contains("horai pool set p"), "{told}");
    }
    assert!(matches!(m.ok(run(&RunOrder::default())), Outcome::Run { .. }));
}

#[test]
fn a_pool_made_smaller_ends_nothing_and_gives_nothing_until_it_is_below() {
    let (mut m, worker) = with_pool(3);
    let job = m.job(taking("a", &[("p", 1)]));
    let live: Vec<_> = (0..3).map(|_| m.begin(job)).collect();
    let live: Vec<_> = live.into_iter().map(|run| m.dispatch(run, worker)).collect();
    let next = m.begin(job);
    m.ok(put_pool("p", 1));
    assert_eq!(m.pool("p"), (3, 1));
    for attempt in &live[..2] {
        m.complete(*attempt, exit(0));
        assert_eq!(m.not_dispatched(next, worker), Reject::PoolFull(name("p")));
    }
    m.complete(live[2], exit(0));
    m.dispatch(next, worker);
    let more = m.begin(job);
    assert_eq!(m.first(), None);
    m.ok(put_pool("p", 2));
    assert_eq!(m.first(), Some(more));
}

#[test]
fn pools_are_bounded_and_count_their_revisions() {
    let mut m = Machine::with(Limits { pools: 2, ..Limits::default() });
    for pool in ["a", "b"] {
        m.ok(put_pool(pool, 1));
    }
    assert!(matches!(m.refused(put_pool("c", 1)), Reject::Full { limit: 2, .. }));
    let set = |m: &mut Machine, slots, expected| match put_pool("a", slots) {
        Command::PutPool { def, .. } => m.send(Command::PutPool { def, expected }),
        other => panic!("{other:?}"),
    };
    let same = Outcome::Pool { revision: Revision(1), changed: false };
    assert_eq!(set(&mut m, 1, None), same);
    let changed = Outcome::Pool { revision: Revision(2), changed: true };
    assert_eq!(set(&mut m, 5, Some(Revision(1))), changed);
    let wrong = Reject::WrongRevision { expected: Revision(1), actual: Revision(2) };
    assert_eq!(set(&mut m, 6, Some(Revision(1))), Outcome::Rejected(wrong.clone()));
    let delete = Command::DeletePool { name: name("a"), expected: Some(Revision(1)) };
    assert_eq!(m.refused(delete), wrong);
    let names: Vec<&str> = m.state.pools_after(None).map(|pool| pool.def.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(m.state.pools_after(Some(name("a"))).count(), 1);
}

#[test]
fn lines_are_read_in_turns_where_there_are_too_many() {
    let mut m = Machine::new();
    let mut runs = Vec::new();
    for n in 0..5 {
        let pool = format!("p{n}");
        m.ok(put_pool(&pool, 1));
        let job = m.job(taking(&format!("j{n}"), &[(&pool, 1)]));
        runs.push(m.begin(job));
    }
    let (mut from, mut seen) = (None, Vec::new());
    for _ in 0..3 {
        let read = m.state.queue_lanes(&default_group(), from.as_ref(), 3);
        from = read.cut;
        seen.extend(read.lanes.into_iter().flat_map(|lane| lane.runs).map(|(run, _)| run));
    }
    assert_eq!(m.state.queue_lanes(&default_group(), None, 5).cut, None);
    let wanted: Vec<RunId> = (0..9).map(|n| runs[n % 5]).collect();
    assert_eq!(seen, wanted);
    assert_eq!((m.queue(), m.state.queue_len()), (runs, 5));
}
