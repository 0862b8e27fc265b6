//! One test for each rule of the machine.

use super::super::command::*;
use super::super::outcome::{Outcome, Reject};
use super::super::snapshot::{Restore, records};
use super::super::state::Limits;
use super::support::*;
use crate::ids::*;
use crate::model::action::{ActionState, SkipReason};
use crate::model::job::*;
use crate::model::run::{EndKind, RunResult, RunState};
use crate::time::{Span, UtcMillis};

#[test]
fn a_fire_goes_from_plan_to_success() {
    let mut m = Machine::new();
    let job = m.job(triggered("a"));
    let worker = m.worker("w", 1);
    let at = m.now + 1000;
    assert_eq!(m.plan(job, &[(at, vec![])]), (1, 0));
    assert_eq!(m.state.next_timer(), Some(UtcMillis(at)));
    m.after(1000);
    let queue = m.queue();
    assert_eq!(queue.len(), 1);
    let attempt = m.dispatch(queue[0], worker);
    assert_eq!(state_of(&m, key(job, at)), ActionState::Running);
    assert_eq!(m.state.free_slots(worker), 0);
    m.complete(attempt, exit(0));
    assert_eq!(state_of(&m, key(job, at)), ActionState::Success);
    assert_eq!(m.state.free_slots(worker), 1);
    let stale = m.refused(complete(attempt.0, attempt.1, exit(0)));
    assert_eq!(stale, Reject::StaleAttempt(attempt.0));
}

#[test]
fn a_dependant_waits_for_success_and_is_skipped_with_its_upstream() {
    let mut m = Machine::new();
    let up = m.job(triggered("up"));
    let down = m.job(after_jobs("down", &[up]));
    let worker = m.worker("w", 4);
    let at = m.now + 1000;
    m.plan(up, &[(at, vec![]), (at + 1000, vec![])]);
    let waits = [(at, vec![key(up, at)]), (at + 1000, vec![key(up, at + 1000)])];
    assert_eq!(m.plan(down, &waits), (2, 0));
    m.after(2000);
    assert_eq!(state_of(&m, key(down, at)), ActionState::Waiting);
    let queue = m.queue();
    assert_eq!(queue.len(), 2);
    let attempt = m.dispatch(queue[0], worker);
    m.complete(attempt, exit(0));
    assert_eq!(state_of(&m, key(down, at)), ActionState::Ready);
    let second = m.dispatch(queue[1], worker);
    m.complete(second, exit(1));
    m.after(10_000);
    assert_eq!(state_of(&m, key(up, at + 1000)), ActionState::Failed);
    assert_eq!(state_of(&m, key(down, at + 1000)), ActionState::Waiting);
    m.after(3 * 86_400_000);
    let expired = ActionState::Skipped(SkipReason::Expired);
    assert_eq!(state_of(&m, key(down, at + 1000)), expired);
}

#[test]
fn an_attempt_is_lost_after_lease_and_margin_or_by_a_new_boot() {
    let mut m = Machine::new();
    let job = m.job(JobSpec { lease: Span::secs(5), ..spec("a") });
    let worker = m.worker("w", 2);
    m.ok(Command::TriggerJob { job });
    let run = m.queue()[0];
    m.dispatch(run, worker);
    m.after(10_000);
    m.ok(Command::WorkersAlive(vec![(worker, Incarnation(1))]));
    m.after(15_000);
    assert_eq!(m.state.run(run).unwrap().state, RunState::Running, "the lease still holds");
    m.after(1);
    assert_eq!(m.state.run(run).unwrap().state, RunState::Queued);
    m.dispatch(run, worker);
    m.ok(Command::AttachWorker(Box::new(profile("w", 2, 1, 2))));
    assert_eq!(m.state.run(run).unwrap().state, RunState::Running, "no proof of death");
    m.ok(Command::AttachWorker(Box::new(profile("w", 3, 2, 2))));
    assert_eq!(m.state.run(run).unwrap().losses, 2);
    assert_eq!(m.queue(), [run]);
}

#[test]
fn a_new_leader_extends_every_lease() {
    let mut m = Machine::new();
    let job = m.job(JobSpec { lease: Span::secs(5), ..spec("a") });
    let worker = m.worker("w", 1);
    m.ok(Command::TriggerJob { job });
    let run = m.queue()[0];
    m.dispatch(run, worker);
    m.ok(acquire("l", "me", 1, 0));
    m.now += 4000;
    m.ok(Command::LeaderStarted(leader(2)));
    m.after(5103);
    assert!(m.state.lock(&name("l")).is_some(), "5 s from the new term, by any clock");
    m.after(1);
    assert!(m.state.lock(&name("l")).is_none());
    m.after(9_896);
    assert_eq!(m.state.run(run).unwrap().state, RunState::Running);
    m.after(1);
    assert_eq!(m.state.run(run).unwrap().state, RunState::Queued);
    assert_eq!(m.refused(Command::LeaderStarted(leader(1))), Reject::StaleLeader(leader(1)));
}

#[test]
fn an_edit_leaves_unchanged_triggers_alone() {
    let mut m = Machine::new();
    let mut two = spec("a");
    two.triggers = vec![cron("x"), cron("y")];
    let job = m.job(two.clone());
    let down = m.job(after_jobs("b", &[job]));
    let at = m.now + 60_000;
    let source = |t: &str| PlanSource::Trigger(TriggerName(t.into()));
    let x = m.batch(job, source("x"), &[(at, vec![]), (at + 1, vec![])]);
    let y = m.batch(job, source("y"), &[(at, vec![]), (at + 2, vec![])]);
    let planned = m.ok(Command::PlanActions(vec![x, y]));
    assert_eq!(planned, Outcome::Planned { created: 3, refused: 0 });
    // The slowest cursor of the upstream job is the limit.
    assert_eq!(m.plan(down, &[(at + 2, vec![key(job, at + 2)])]), (0, 1));
    assert_eq!(m.plan(down, &[(at, vec![key(job, at)])]), (1, 0));
    two.triggers[1].misfire = MisfirePolicy::Skip;
    m.job(two.clone());
    let left: Vec<ActionKey> = m.state.live_actions_of(job).collect();
    assert_eq!(left, [key(job, at), key(job, at + 1)]);
    assert_eq!(m.state.action(key(job, at)).unwrap().triggers.len(), 1);
    assert_eq!(m.state.live_actions_of(down).count(), 1, "its upstream action is left");
    assert_eq!(
        m.state.cursor(down, &PlanSource::Dependencies),
        Some(UtcMillis(m.now)),
        "instants may come where it has been already"
    );
    assert_eq!(m.state.cursor(job, &source("x")), Some(UtcMillis(at + 1)));
    assert_eq!(m.state.cursor(job, &source("y")), Some(UtcMillis(m.now)));
    let same = m.ok(apply(two));
    assert_eq!(same, Outcome::Job { job, revision: Revision(2), changed: false });
}

#[test]
fn no_dependant_passes_its_upstreams() {
    let mut m = Machine::new();
    let a = m.job(triggered("a"));
    let b = m.job(triggered("b"));
    let down = m.job(after_jobs("down", &[a, b]));
    let below = m.job(after_jobs("below", &[down]));
    let (now, at) = (UtcMillis(m.now), m.now + 60_000);
    m.plan(a, &[(at, vec![]), (at + 1_000, vec![])]);
    m.plan(b, &[(at + 2_000, vec![])]);
    // Past an instant that only one of them has.
    let skip = |m: &Machine, job: JobId| PlanBatch {
        through: UtcMillis(at + 1_000),
        ..m.batch(job, PlanSource::Dependencies, &[])
    };
    let early = m.ok(Command::PlanActions(vec![skip(&m, below)]));
    assert_eq!(early, Outcome::Planned { created: 0, refused: 1 });
    let both = m.ok(Command::PlanActions(vec![skip(&m, down), skip(&m, below)]));
    assert_eq!(both, Outcome::Planned { created: 0, refused: 0 });
    // Now the other one may get that instant too.
    let mut changed = triggered("b");
    changed.triggers[0].misfire = MisfirePolicy::Skip;
    m.job(changed);
    for job in [b, down, below] {
        assert_eq!(m.state.planned_through(job), now, "job {job}");
    }
    let again = m.ok(Command::PlanActions(vec![skip(&m, down)]));
    assert_eq!(again, Outcome::Planned { created: 0, refused: 1 });
    assert_eq!(m.plan(b, &[(at + 1_000, vec![])]), (1, 0));
    let up = [a, b].map(|job| key(job, at + 1_000)).to_vec();
    assert_eq!(m.plan(down, &[(at + 1_000, up)]), (1, 0));
    m.ok(Command::PauseJob { job: a });
    assert_eq!(m.state.planned_through(down), now);
    assert_eq!(m.state.live_actions_of(down).count(), 0);
}

#[test]
fn bad_definitions_are_refused() {
    let mut m = Machine::new();
    let a = m.job(spec("a"));
    let b = m.job(after_jobs("b", &[a]));
    let c = m.job(after_jobs("c", &[b]));
    let cycle = m.refused(apply(after_jobs("a", &[c])));
    assert_eq!(cycle.to_string(), "dependency cycle: a → c → b → a");
    let own = m.refused(apply(after_jobs("a", &[a]))).to_string();
    assert!(own.contains("depends_on[0].match") && own.contains("previous_period"), "{own}");
    let missing = JobId(99);
    assert_eq!(m.refused(apply(after_jobs("d", &[missing]))), Reject::NoSuchUpstream(missing));
    let mut env = spec("d");
    env.env.insert("HORAI_X".to_owned(), String::new());
    let mut twice = spec("d");
    twice.triggers = vec![cron("t"), cron("t")];
    let lease = JobSpec { lease: Span::ZERO, ..spec("d") };
    for bad in [env, twice, lease] {
        assert!(matches!(m.refused(apply(bad)), Reject::Invalid { .. }));
    }
    let large = JobSpec { description: "x".repeat(1001), ..spec("d") };
    assert!(matches!(m.refused(apply(large)), Reject::TooLarge { .. }));
    let cas = Command::ApplyJob { spec: Box::new(spec("a")), expected: Some(Revision(0)) };
    let (expected, actual) = (Revision(0), Revision(1));
    assert_eq!(m.refused(cas), Reject::WrongRevision { expected, actual });
    let delete = m.refused(Command::DeleteJob { job: a, expected: None });
    assert_eq!(delete, Reject::HasDependants { dependants: vec![name("b")] });
}

#[test]
fn a_deleted_job_skips_what_waits_and_lets_live_runs_finish() {
    let mut m = Machine::new();
    let retries = RetryPolicy { count: 1, backoff: Backoff::Fixed { delay: Span::ZERO } };
    let job = m.job(JobSpec { retries, ..triggered("a") });
    let worker = m.worker("w", 1);
    let at = m.now + 1000;
    m.plan(job, &[(at, vec![]), (at + 1, vec![]), (at + 60_000, vec![])]);
    m.after(1001);
    let queue = m.queue();
    let attempt = m.dispatch(queue[0], worker);
    m.ok(Command::DeleteJob { job, expected: None });
    assert!(m.state.action(key(job, at + 60_000)).is_none());
    let skipped = ActionState::Skipped(SkipReason::Deleted);
    assert_eq!(state_of(&m, key(job, at + 1)), skipped);
    m.complete(attempt, exit(1));
    assert_eq!(m.queue(), [queue[0]], "the retry uses the pinned definition");
    let attempt = m.dispatch(queue[0], worker);
    m.complete(attempt, exit(0));
    assert_eq!(state_of(&m, key(job, at)), ActionState::Success);
    assert!(m.state.spec(job, Revision(1)).is_none(), "nothing refers to it any more");
}

#[test]
fn a_pause_holds_what_is_due_and_records_what_passes() {
    let mut m = Machine::new();
    let job = m.job(triggered("a"));
    let at = m.now + 1000;
    m.plan(job, &[(at, vec![]), (at + 9000, vec![])]);
    m.after(1000);
    m.ok(Command::PauseJob { job });
    assert!(m.queue().is_empty());
    assert!(m.state.action(key(job, at + 9000)).is_none());
    m.after(20_000);
    m.ok(Command::ResumeJob { job });
    assert_eq!(m.queue().len(), 1);
    let missed: Vec<_> = m.state.missed_of(job).collect();
    assert_eq!((missed[0].from, missed[0].to), (UtcMillis(at), UtcMillis(at + 20_000)));
}

#[test]
fn a_stale_batch_is_refused_and_counted() {
    let mut m = Machine::new();
    let job = m.job(triggered("a"));
    let at = m.now + 1000;
    let source = PlanSource::Trigger(TriggerName("t".into()));
    let batch = m.batch(job, source, &[(at, vec![])]);
    let twice = m.ok(Command::PlanActions(vec![batch.clone(), batch]));
    assert_eq!(twice, Outcome::Planned { created: 1, refused: 1 });
}

#[test]
fn a_cancel_ends_waiting_runs_at_once_and_running_ones_at_their_end() {
    let mut m = Machine::new();
    let job = m.job(spec("a"));
    let worker = m.worker("w", 1);
    m.ok(Command::TriggerJob { job });
    m.ok(Command::TriggerJob { job });
    let queue = m.queue();
    let attempt = m.dispatch(queue[0], worker);
    for run in &queue {
        m.ok(Command::CancelRun { run: *run });
    }
    assert_eq!(m.refused(Command::CancelRun { run: queue[1] }), Reject::RunOver(queue[1]));
    assert!(m.state.run(queue[0]).unwrap().cancel_requested);
    m.complete(attempt, EndKind::Signaled { signal: 15 });
    let over = m.state.run(queue[0]).unwrap().state;
    assert!(matches!(over, RunState::Finished { result: RunResult::Cancelled, .. }));
}

#[test]
fn a_lock_has_one_holder_and_waiters_in_order() {
    let mut m = Machine::new();
    let Outcome::LockHeld { token, .. } = m.ok(acquire("l", "a", 1, 0)) else { panic!() };
    assert_eq!(m.refused(acquire("l", "b", 1, 0)), Reject::LockTaken(name("l")));
    assert_eq!(m.ok(acquire("l", "b", 1, 60)), Outcome::LockQueued { position: 1 });
    assert_eq!(m.ok(acquire("l", "c", 1, 60)), Outcome::LockQueued { position: 2 });
    assert!(matches!(m.refused(acquire("l", "b", 2, 0)), Reject::SlotsDiffer { .. }));
    m.ok(Command::ReleaseLock { name: name("l"), token });
    let lock = m.state.lock(&name("l")).unwrap();
    assert_eq!(lock.holders[0].owner, "b");
    assert!(lock.holders[0].token > token);
    let not_mine = m.refused(Command::RenewLock { name: name("l"), token });
    assert!(matches!(not_mine, Reject::NotHolder { .. }));
    m.after(5000);
    let held = m.state.lock(&name("l")).unwrap().holders[0].clone();
    assert_eq!((held.owner.as_str(), held.expires), ("b", UtcMillis(m.now)));
    m.after(104);
    assert_eq!(m.state.lock(&name("l")).unwrap().holders[0].owner, "c", "b counts no more on it");
    m.after(5104);
    assert!(m.state.lock(&name("l")).is_none());
}

#[test]
fn a_request_is_answered_once() {
    let mut m = Machine::new();
    let job = m.job(spec("a"));
    let request = |body_hash, issued| Request { id: "r".to_owned(), body_hash, issued };
    let first = m.send_as(Command::TriggerJob { job }, Some(request(1, None)));
    let again = m.send_as(Command::TriggerJob { job }, Some(request(1, None)));
    assert_eq!(first, again);
    assert_eq!(m.state.run_count(), 1);
    let other = m.send_as(Command::TriggerJob { job }, Some(request(2, None)));
    assert_eq!(other, Outcome::Rejected(Reject::RequestReused("r".to_owned())));
    let issued = Some(UtcMillis(m.now));
    m.after(25 * 3_600_000);
    let late = m.send_as(Command::TriggerJob { job }, Some(request(1, issued)));
    assert_eq!(late, Outcome::Rejected(Reject::RequestExpired("r".to_owned())));
}

#[test]
fn retention_keeps_the_newest_and_the_floor() {
    let limits = Limits { ended_per_job: 3, failure_age: Span::ZERO, ..Limits::default() };
    let mut m = Machine::with(limits);
    let job = m.job(triggered("a"));
    let worker = m.worker("w", 1);
    let first = m.now + 1000;
    for n in 0..8 {
        m.plan(job, &[(m.now + 1000, vec![])]);
        m.after(1000);
        let attempt = m.dispatch(m.queue()[0], worker);
        m.complete(attempt, exit(i32::from(n > 0)));
    }
    assert_eq!(state_of(&m, key(job, first)), ActionState::Success, "the newest success stays");
    let kept = m.state.actions_of(job, UtcMillis(0), UtcMillis::MAX).count();
    assert_eq!(kept, 3);
    assert_eq!(m.state.floor(job), Some(UtcMillis(first + 5000)));
}

#[test]
fn a_snapshot_gives_the_same_state() {
    let mut m = Machine::new();
    let script = "x".repeat(250_000);
    let executor = Executor::Shell { interpreter: vec!["/bin/sh".to_owned()], script };
    let job = m.job(JobSpec { executor, ..triggered("a") });
    m.plan(job, &[(m.now + 1000, vec![])]);
    for owner in 0..2000 {
        m.state.apply(Entry {
            index: 9,
            now: UtcMillis(m.now),
            command: &Envelope {
                actor: Actor::Leader(leader(1)),
                request: None,
                command: acquire("l", &format!("{owner:0200}"), 1, 60),
            },
        });
    }
    let all: Vec<Vec<u8>> = records(&m.state).collect();
    assert!(all.iter().all(|record| record.len() <= 300 * 1024));
    let restore = |records: &[Vec<u8>]| {
        let mut restore = Restore::default();
        records.iter().try_for_each(|record| restore.push(record))?;
        restore.finish()
    };
    let restored = restore(&all).unwrap();
    assert_eq!(restored.hash(), m.state.hash());
    super::super::invariants::check(&restored).unwrap();
    assert!(restore(&all[..all.len() - 1]).is_err(), "no trailer");
    assert!(restore(&all[1..]).is_err(), "a record less");
    let mut damaged = all;
    damaged[0][5] ^= 1;
    assert!(restore(&damaged).is_err());
}

#[test]
fn a_followed_leader_decides_nothing_any_more() {
    let mut m = Machine::new();
    let job = m.job(triggered("j"));
    m.ok(Command::LeaderStarted(leader(4)));
    let command = Envelope {
        actor: Actor::Leader(leader(1)),
        request: None,
        command: Command::TriggerJob { job },
    };
    let entry = Entry { index: 99, now: UtcMillis(m.now), command: &command };
    let outcome = m.state.apply(entry).outcome;
    assert_eq!(outcome, Outcome::Rejected(Reject::StaleLeader(leader(1))));
    assert_eq!(m.state.run_count(), 0);
}

#[test]
fn nodes_are_let_in_once_and_numbers_never_come_again() {
    let mut m = Machine::new();
    let admit = |store, replaces| Command::AdmitNode { token_hash: [7; 32], store, replaces };
    assert_eq!(m.refused(admit(20, None)), Reject::NotAdmitted);
    m.ok(Command::PutToken { name: name("join"), token: token_of(7, Some(m.now + 5_000)) });
    let second = Outcome::Node { node: NodeId(2) };
    assert_eq!(m.ok(admit(20, None)), second);
    assert_eq!(m.ok(admit(20, None)), second, "the same store asks again");
    m.ok(Command::RetireNode { node: NodeId(2) });
    assert_eq!(m.refused(admit(20, None)), Reject::NodeRetired(NodeId(2)));
    assert_eq!(m.refused(admit(21, Some(NodeId(2)))), Reject::NodeRetired(NodeId(2)));
    assert_eq!(m.ok(admit(21, Some(NodeId(1)))), Outcome::Node { node: NodeId(3) });
    assert_eq!(m.refused(admit(22, Some(NodeId(9)))), Reject::NoSuchNode(NodeId(9)));
    m.after(5_000);
    assert_eq!(m.refused(admit(22, None)), Reject::NotAdmitted, "expired");
    assert!(m.state.token_by_hash(&[7; 32]).is_none());
}

#[test]
fn a_hash_names_one_token() {
    let mut m = Machine::new();
    m.ok(Command::PutToken { name: name("a"), token: token_of(7, None) });
    m.refused(Command::PutToken { name: name("b"), token: token_of(7, None) });
    m.ok(Command::PutToken { name: name("a"), token: token_of(8, None) });
    m.ok(Command::PutToken { name: name("b"), token: token_of(7, None) });
    assert_eq!(m.state.token_by_hash(&[7; 32]).map(|(n, _)| n.clone()), Some(name("b")));
    m.ok(Command::DropToken { name: name("b") });
    assert_eq!(m.refused(Command::DropToken { name: name("b") }), Reject::NoSuchToken(name("b")));
}

/// Ends one manual run of the job each `gap`, as said.
fn runs_ended(m: &mut Machine, job: JobId, ends: &[i32], gap: i64) -> Vec<RunId> {
    let worker = m.worker("w", 1);
    let mut runs = Vec::new();
    for code in ends {
        let Outcome::Run { run } = m.ok(Command::TriggerJob { job }) else { panic!("no run") };
        let attempt = m.dispatch(run, worker);
        m.complete(attempt, exit(*code));
        m.after(gap);
        runs.push(run);
    }
    runs
}

#[test]
fn retention_keeps_young_failures_and_drops_what_is_old() {
    let mut m = Machine::with(Limits { ended_per_job: 3, ..Limits::default() });
    let job = m.job(spec("j"));
    let runs = runs_ended(&mut m, job, &[1, 1, 1, 1, 0, 0, 0], 1_000);
    let kept: Vec<RunId> = m.state.runs_after(None).map(|r| r.id).collect();
    assert_eq!(kept, runs[..4], "failures younger than a week outlive successes");
    m.after(8 * 86_400_000);
    runs_ended(&mut m, job, &[0], 1_000);
    assert_eq!(m.state.run_count(), 3, "older ones are counted like the rest");
    let other = m.job(spec("k"));
    m.after(31 * 86_400_000);
    runs_ended(&mut m, other, &[0, 0], 1_000);
    assert!(m.state.runs_of_job(job, None).next().is_none(), "nothing is kept over 30 days");
}

#[test]
fn records_that_stay_do_not_hold_the_clusters_bound_up() {
    let mut m = Machine::with(Limits { ended: 100, ..Limits::default() });
    let worker = m.worker("w", 1);
    // The newest success of each of many jobs must stay, and they are the oldest.
    for n in 0..90 {
        let job = m.job(triggered(&format!("j{n}")));
        m.plan(job, &[(m.now + 1_000, vec![])]);
        m.after(1_000);
        let run = m.queue()[0];
        let attempt = m.dispatch(run, worker);
        m.complete(attempt, exit(0));
    }
    let busy = m.job(spec("busy"));
    runs_ended(&mut m, busy, &[0; 60], 1_000);
    assert!(m.state.run_count() <= 101, "{} runs", m.state.run_count());
}

#[test]
fn an_edit_upstream_plans_all_of_a_dependants_own_instants_again() {
    let mut m = Machine::new();
    let up = m.job(triggered("up"));
    let down = m.job(JobSpec { triggers: vec![cron("t")], ..after_jobs("down", &[up]) });
    let (first, second) = (m.now + 1_000, m.now + 2_000);
    m.plan(up, &[(first, vec![])]);
    let through = UtcMillis(second);
    let ahead =
        PlanBatch { through, ..m.batch(up, PlanSource::Trigger(TriggerName("t".into())), &[]) };
    m.ok(Command::PlanActions(vec![ahead]));
    assert_eq!(m.plan(down, &[(first, vec![key(up, first)]), (second, vec![])]), (2, 0));
    let mut other = triggered("up");
    other.triggers[0].kind = TriggerKind::Cron { expression: "0/2 * * * * *".to_owned() };
    m.ok(apply(other));
    // The second waited for nothing, and may have to wait for what `up` gets now.
    assert_eq!(m.state.live_actions_of(down).count(), 0);
}
