//! Runs on all workers: who gets a part, what becomes of each, and of the run.

use super::super::command::*;
use super::super::outcome::{Event, Outcome, Reject};
use super::super::state::{Limits, State};
use super::random_specs::has_labels;
use super::support::*;
use crate::ids::*;
use crate::model::action::WaitReason;
use crate::model::action::{ActionState, SkipReason};
use crate::model::job::*;
use crate::model::limits::RunLimits;
use crate::model::pause::PauseTarget;
use crate::model::retry::{RetryRules, RetryWorker};
use crate::model::run::{EndKind, Run, RunKind, RunResult, RunState};
use crate::model::worker::{Duty, Worker, WorkerProfile};
use crate::placement::explain::{Subject, explain};
use crate::placement::load::Load;
use crate::time::{Span, UtcMillis};

/// Runs that wait to be split over all workers.
pub(super) fn to_split(state: &State) -> Vec<RunId> {
    let is_whole = |id: &RunId| state.demand_of(state.run(*id).unwrap()).is_for_all();
    state.queue(&default_group()).filter(is_whole).collect()
}

/// Each worker that was there has one part of the run, and nobody else has.
pub(super) fn judge_split(before: &State, after: &State, run: RunId, now: i64) {
    let whole = after.run(run).unwrap();
    let spec = after.spec(whole.job, whole.revision).unwrap();
    let is_there = |worker: &&Worker| {
        let profile = &worker.profile;
        profile.groups.contains(&spec.worker_group)
            && has_labels(spec.workers.as_ref(), &profile.labels)
            && (worker.duty, worker.leaving) == (Duty::Open, None)
            && worker.last_heartbeat.0 + 20_000 > now
    };
    let there: Vec<_> = before.workers_after(None).filter(is_there).map(|w| Some(w.id)).collect();
    let parts: Vec<_> = after.parts_of(whole).map(|run| run.part.unwrap()).collect();
    assert_eq!(parts.iter().map(|part| part.worker).collect::<Vec<_>>(), there);
    let indexes: Vec<_> = parts.iter().map(|part| (part.index as usize, part.of)).collect();
    assert_eq!(indexes, (0..there.len()).map(|index| (index, run)).collect::<Vec<_>>());
    assert!(!there.is_empty() && after.parts_of(whole).all(Run::is_live));
}

/// A job on all workers, of which there are three, and an action of it.
struct Case {
    m: Machine,
    workers: [WorkerId; 3],
    action: ActionKey,
}

impl Case {
    fn of(spec: JobSpec) -> Self {
        let mut m = Machine::new();
        let workers = ["a", "b", "c"].map(|name| m.worker(name, 2));
        m.after(6_000);
        let job = m.job(JobSpec { triggers: vec![cron("t")], ..spec });
        let at = m.now + 1_000;
        m.plan(job, &[(at, vec![])]);
        m.after(1_000);
        Self { m, workers, action: key(job, at) }
    }

    /// The same, split.
    fn split(spec: JobSpec) -> Self {
        let mut case = Self::of(spec);
        let run = case.run().id;
        case.m.ok(Command::Spread { run });
        case
    }

    fn run(&self) -> &Run {
        let action = self.m.state.action(self.action).unwrap();
        self.m.state.run(action.run.unwrap()).unwrap()
    }

    fn part(&self, index: u32) -> &Run {
        self.m.state.part(self.run().id, index).unwrap()
    }

    fn begin(&mut self, index: u32) -> (AttemptKey, Token) {
        let run = self.part(index).id;
        self.m.dispatch(run, self.workers[index as usize])
    }

    /// One try of a shard, with its exit code.
    fn ends(&mut self, index: u32, code: i32) {
        let attempt = self.begin(index);
        self.m.complete(attempt, exit(code));
    }

    fn result(&self) -> Option<RunResult> {
        match self.run().state {
            RunState::Finished { result, .. } => Some(result),
            _ => None,
        }
    }

    fn state(&self) -> ActionState {
        state_of(&self.m, self.action)
    }
}

#[test]
fn each_worker_that_is_there_gets_one_part_and_no_other_may_run_it() {
    let mut case = Case::of(everywhere("all"));
    let run = case.run().id;
    let (m, workers) = (&mut case.m, case.workers);
    // Not for it: another group, one that is cordoned, one that was not heard of for long.
    let elsewhere = WorkerProfile { groups: vec![name("other")], ..profile("d", 1, 1, 2) };
    m.attach(elsewhere);
    let cordoned = m.worker("e", 2);
    m.ok(Command::SetDuty { worker: cordoned, duty: Duty::Cordoned });
    m.worker("silent", 2);
    m.after(19_999);
    m.worker("late", 2);
    let alive = workers.map(|id| (id, Incarnation(1))).to_vec();
    m.ok(Command::WorkersAlive(alive));
    m.after(1);
    assert_eq!(
        m.refused(Command::Dispatch {
            run,
            number: 1,
            worker: workers[0],
            incarnation: Incarnation(1),
        }),
        Reject::NotDispatchable(run),
        "it is split first"
    );
    m.ok(Command::Spread { run });
    assert_eq!(m.refused(Command::Spread { run }), Reject::NotDispatchable(run));
    assert_eq!((case.run().state, case.state()), (RunState::Spread, ActionState::Running));
    let parts: Vec<_> = case.m.state.parts_of(case.run()).map(|p| p.part.unwrap()).collect();
    let late = case.m.state.worker_by_name(&name("late")).unwrap().id;
    let [a, b, c] = workers;
    let wanted = [a, b, c, late].map(Some).to_vec();
    assert_eq!(parts.iter().map(|part| part.worker).collect::<Vec<_>>(), wanted);
    // Who comes later has no part in it, and nobody runs what is another's.
    let newest = case.m.worker("newest", 9);
    let part = case.part(1).id;
    for worker in [newest, a] {
        let wrong = Command::Dispatch { run: part, number: 1, worker, incarnation: Incarnation(1) };
        assert_eq!(case.m.refused(wrong), Reject::NotDispatchable(part));
    }
    let (attempt, token) = case.begin(1);
    assert_eq!(attempt.to_string(), format!("r-{run}/1.1"));
    let none = AttemptKey { shard: 0, ..attempt };
    let wrong = complete(none, token, exit(0));
    assert_eq!(case.m.refused(wrong), Reject::StaleAttempt(none));
    case.m.complete((attempt, token), exit(0));
    for index in [0, 2] {
        case.ends(index, 0);
        assert_eq!(case.result(), None);
    }
    let part = case.part(3).id;
    let attempt = case.m.dispatch(part, late);
    case.m.complete(attempt, exit(0));
    assert_eq!((case.result(), case.state()), (Some(RunResult::Success), ActionState::Success));
}

#[test]
fn nothing_is_split_before_workers_had_time_to_find_a_new_leader_nor_without_any() {
    let mut case = Case::of(everywhere("all"));
    let run = case.run().id;
    case.m.ok(Command::LeaderStarted(leader(2)));
    case.m.after(4_999);
    assert_eq!(case.m.refused(Command::Spread { run }), Reject::NotDispatchable(run));
    case.m.after(1);
    case.m.ok(Command::Spread { run });
    let mut case = Case::of(everywhere("all"));
    let run = case.run().id;
    for worker in case.workers {
        case.m.ok(Command::SetDuty { worker, duty: Duty::Cordoned });
    }
    assert_eq!(case.m.refused(Command::Spread { run }), Reject::NotDispatchable(run));
    let why = explain(&case.m.state, Subject::Run(run), &here);
    assert_eq!(why, Some(WaitReason::Cordoned));
    let plain = case.m.job(spec("plain"));
    case.m.ok(Command::TriggerJob { job: plain });
    let run = *case.m.queue().last().unwrap();
    assert_eq!(case.m.refused(Command::Spread { run }), Reject::NotDispatchable(run));
    assert_eq!(case.m.refused(Command::Spread { run: RunId(99) }), Reject::NoSuchRun(RunId(99)));
}

#[test]
fn a_run_is_what_its_parts_come_to() {
    let skip = RetryRules { skip_on: vec![9], ..RetryRules::default() };
    let spec = || JobSpec { retry_rules: skip.clone(), ..everywhere("all") };
    for (codes, result) in [
        ([0, 0, 0], RunResult::Success),
        ([0, 9, 9], RunResult::Success),
        ([9, 9, 9], RunResult::Skipped),
        ([0, 1, 9], RunResult::Failed),
    ] {
        let mut case = Case::split(spec());
        for (index, code) in (0..).zip(codes) {
            assert_eq!(case.result(), None, "{codes:?}");
            case.ends(index, code);
        }
        assert_eq!(case.result(), Some(result), "{codes:?}");
    }
    let mut case = Case::split(spec());
    for index in 0..3 {
        case.ends(index, 9);
    }
    assert_eq!(case.state(), ActionState::Skipped(SkipReason::Job));
}

#[test]
fn parts_are_tried_again_on_their_own_worker() {
    let retries = RetryPolicy { count: 1, backoff: Backoff::Fixed { delay: Span::secs(2) } };
    let mut case = Case::split(JobSpec { retries, lease: Span::secs(5), ..everywhere("all") });
    case.ends(0, 1);
    assert!(matches!(case.part(0).state, RunState::Backoff { .. }));
    assert_eq!(case.result(), None);
    case.m.after(2_000);
    let (attempt, token) = case.begin(0);
    assert_eq!(attempt.number, 2);
    case.m.complete((attempt, token), exit(0));
    // Its worker begins anew after a boot: the part waits for nobody else.
    case.begin(1);
    case.m.attach(profile("b", 2, 2, 2));
    let part = case.part(1);
    assert_eq!((part.state, part.losses), (RunState::Queued, 1));
    let gone = case.workers[1];
    let sight = |id: WorkerId| (id != gone).then(Load::default);
    let why = explain(&case.m.state, Subject::Run(part.id), &sight);
    assert_eq!(why, Some(WaitReason::NoWorker));
    case.ends(1, 0);
    case.ends(2, 0);
    assert_eq!(case.result(), Some(RunResult::Success));
    // Where the job says so, a loss fails its part, and the run with it.
    let fail = OnWorkerLost::Fail;
    let mut case = Case::split(JobSpec { on_worker_lost: fail, ..everywhere("all") });
    case.begin(1);
    case.m.attach(profile("b", 2, 2, 2));
    case.ends(0, 0);
    case.ends(2, 0);
    assert_eq!(case.result(), Some(RunResult::Failed));
}

#[test]
fn a_part_waits_for_its_worker_until_that_is_removed_or_its_time_is_over() {
    let mut case = Case::split(everywhere("all"));
    case.ends(0, 0);
    case.ends(2, 0);
    case.m.after(3_600_000);
    assert_eq!((case.result(), case.part(1).state), (None, RunState::Queued));
    let worker = case.workers[1];
    case.m.ok(Command::RemoveWorker { worker, force: false });
    let RunState::Finished { result, .. } = case.part(1).state else { panic!() };
    assert_eq!((result, case.result()), (RunResult::WorkerRemoved, Some(RunResult::Failed)));
    assert_eq!(result.reason(), Some("worker_removed"));

    let limits = RunLimits { run: None, queue: Some(Span::secs(30)) };
    let mut case = Case::of(JobSpec { limits, ..everywhere("all") });
    case.m.after(19_000);
    case.m.ok(Command::WorkersAlive(case.workers.map(|id| (id, Incarnation(1))).to_vec()));
    let run = case.run().id;
    case.m.ok(Command::Spread { run });
    case.ends(0, 0);
    case.ends(1, 0);
    case.m.after(29_999);
    assert_eq!(case.result(), None, "a part waits from the moment at which it was made");
    case.m.after(1);
    assert_eq!(case.result(), Some(RunResult::Failed));

    let limits = RunLimits { run: Some(Span::secs(60)), queue: None };
    let mut case = Case::split(JobSpec { limits, ..everywhere("all") });
    case.ends(0, 0);
    case.begin(1);
    case.m.after(60_000);
    assert_eq!(
        case.part(2).state,
        RunState::Finished { result: RunResult::RunTimedOut, at: UtcMillis(case.m.now) }
    );
    assert_eq!(case.result(), None, "its shim ends the other");
    let live = case.part(1).live_attempt().unwrap();
    let attempt = (live.key, live.token);
    case.m.complete(attempt, EndKind::TimedOut);
    assert_eq!(case.result(), Some(RunResult::RunTimedOut));
}

#[test]
fn a_cancel_is_for_all_parts_or_for_one() {
    let mut case = Case::split(everywhere("all"));
    let (run, live) = (case.run().id, case.begin(0));
    case.m.by("ann", Command::CancelRun { run });
    assert!(case.part(0).must_end() && case.result().is_none());
    case.m.complete(live, EndKind::Cancelled);
    assert_eq!((case.result(), case.state()), (Some(RunResult::Cancelled), ActionState::Cancelled));
    // Nothing of it runs: it is over at once.
    let mut case = Case::split(everywhere("all"));
    let run = case.run().id;
    case.m.by("ann", Command::CancelRun { run });
    assert_eq!(case.result(), Some(RunResult::Cancelled));
    assert_eq!(case.m.refused(Command::CancelRun { run }), Reject::RunOver(run));
    // One of its parts alone: the others go on.
    let mut case = Case::split(everywhere("all"));
    let part = case.part(1).id;
    case.m.by("ann", Command::CancelRun { run: part });
    case.ends(0, 0);
    assert_eq!(case.result(), None);
    case.ends(2, 0);
    assert_eq!(case.result(), Some(RunResult::Cancelled));
    // What has been done is no less done because somebody asked too late.
    let mut case = Case::split(everywhere("all"));
    let run = case.run().id;
    let all = [0, 1, 2].map(|index| case.begin(index));
    case.m.by("ann", Command::CancelRun { run });
    for attempt in all {
        case.m.complete(attempt, exit(0));
    }
    assert_eq!(case.result(), Some(RunResult::Success));
}

#[test]
fn turns_are_taken_by_whole_runs() {
    for (overlap, waiting) in [
        (Overlap::Skip, ActionState::Skipped(SkipReason::Overlap)),
        (Overlap::QueueOne, ActionState::Waiting),
        (Overlap::CancelRunning, ActionState::Ready),
    ] {
        let mut case = Case::split(JobSpec { overlap, ..everywhere("all") });
        let (job, at) = (case.action.job, case.m.now + 1_000);
        case.m.plan(job, &[(at, vec![])]);
        case.m.after(1_000);
        let next = key(job, at);
        assert_eq!(state_of(&case.m, next), waiting, "{overlap:?}");
        let was_cancelled = case.result() == Some(RunResult::Cancelled);
        assert_eq!(was_cancelled, overlap == Overlap::CancelRunning);
        if overlap == Overlap::QueueOne {
            for index in 0..3 {
                assert_eq!(state_of(&case.m, next), ActionState::Waiting);
                case.ends(index, 0);
            }
            assert_eq!(state_of(&case.m, next), ActionState::Ready);
        }
    }
}

#[test]
fn who_has_it_run_again_gets_new_parts_over_the_workers_of_then() {
    let mut case = Case::split(everywhere("all"));
    for index in 0..3 {
        case.ends(index, 1);
    }
    let first = case.run().id;
    let fourth = case.m.worker("d", 2);
    case.m.by("ann", Command::Rerun { action: case.action, below: false });
    let run = case.run().id;
    assert_ne!(run, first);
    case.m.ok(Command::Spread { run });
    assert_eq!((case.run().kind, case.run().parts.unwrap().total), (RunKind::Recover, 4));
    for index in 0..3 {
        case.ends(index, 0);
    }
    let part = case.part(3).id;
    let attempt = case.m.dispatch(part, fourth);
    case.m.complete(attempt, exit(0));
    assert_eq!(case.state(), ActionState::Success);
}

#[test]
fn pauses_hold_parts_and_a_freeze_does() {
    let mut case = Case::of(everywhere("all"));
    let (run, job) = (case.run().id, case.action.job);
    case.m.ok(Command::PauseJob { job });
    assert_eq!(case.m.refused(Command::Spread { run }), Reject::NotDispatchable(run));
    case.m.ok(Command::ResumeJob { job });
    case.m.ok(Command::Pause { target: PauseTarget::Cluster });
    assert_eq!(case.m.refused(Command::Spread { run }), Reject::NotDispatchable(run));
    let missed = crate::model::pause::AfterPause::Skip;
    case.m.ok(Command::Resume { target: PauseTarget::Cluster, missed });
    case.m.ok(Command::Spread { run });
    assert_eq!(case.m.queue().len(), 3);
    case.m.ok(Command::PauseJob { job });
    assert!(case.m.queue().is_empty());
    case.m.ok(Command::ResumeJob { job });
    assert_eq!(case.m.queue().len(), 3);
}

#[test]
fn each_part_takes_of_pools_for_itself_so_that_one_may_go_after_the_other() {
    let mut m = Machine::new();
    m.ok(put_pool("one", 1));
    let workers = ["a", "b"].map(|name| m.worker(name, 2));
    m.after(6_000);
    let pools = [(name("one"), 1)].into();
    let job = m.job(JobSpec { pools, ..everywhere("rolling") });
    m.ok(Command::TriggerJob { job });
    let run = m.queue()[0];
    m.ok(Command::Spread { run });
    assert_eq!(m.state.pool_used(&name("one")), 0, "the whole takes nothing");
    let [first, second] = [0, 1].map(|index| m.state.part(run, index).unwrap().id);
    let attempt = m.dispatch(first, workers[0]);
    let (worker, incarnation) = (workers[1], Incarnation(1));
    let next = Command::Dispatch { run: second, number: 1, worker, incarnation };
    assert_eq!(m.refused(next.clone()), Reject::PoolFull(name("one")));
    m.complete(attempt, exit(0));
    m.ok(next);
}

#[test]
fn what_cannot_be_with_shards_is_refused_and_outputs_are() {
    let mut m = Machine::new();
    let keeps = JobSpec { keep_state: true, ..everywhere("a") };
    let Reject::Invalid { field, .. } = m.refused(apply(keeps)) else { panic!() };
    assert_eq!(field, "keep_state");
    let picky = JobSpec { retry_on_worker: RetryWorker::Another, ..everywhere("a") };
    let Reject::Invalid { field, .. } = m.refused(apply(picky)) else { panic!() };
    assert_eq!(field, "retry_on_worker");
    let mut case = Case::split(everywhere("all"));
    let (attempt, token) = case.begin(0);
    case.m.ok(complete_with(attempt, token, &[("ROWS", "1")]));
    let how = &case.part(0).attempts[0].end.as_ref().unwrap().how;
    assert_eq!(how.word(), "bad_output");
}

#[test]
fn a_deletion_ends_what_has_not_begun_and_the_whole_with_the_rest() {
    let mut case = Case::split(everywhere("all"));
    let (job, run, live) = (case.action.job, case.run().id, case.begin(0));
    case.m.ok(Command::DeleteJob { job, expected: None });
    assert_eq!(case.m.state.run(run).unwrap().state, RunState::Spread);
    case.m.complete(live, exit(0));
    let state = case.m.state.run(run).unwrap().state;
    assert!(matches!(state, RunState::Finished { result: RunResult::Deleted, .. }), "{state:?}");
    let mut case = Case::split(everywhere("all"));
    let (job, run, live) = (case.action.job, case.run().id, case.begin(0));
    let (force, cancel) = (false, true);
    let gone = case.m.ok(Command::RemoveJob { job, expected: None, force, cancel });
    assert_eq!(gone, Outcome::Removed { freed: Vec::new(), cancelled: 1 });
    case.m.complete(live, EndKind::Cancelled);
    let state = case.m.state.run(run).unwrap().state;
    assert!(matches!(state, RunState::Finished { result: RunResult::Cancelled, .. }), "{state:?}");
}

#[test]
fn there_are_bounds_and_parts_are_dropped_with_their_run() {
    let limits = Limits { parts: 2, ended_per_job: 2, ..Limits::default() };
    let mut m = Machine::with(limits);
    let workers = ["a", "b"].map(|name| m.worker(name, 9));
    m.after(6_000);
    let job = m.job(everywhere("all"));
    for _ in 0..4 {
        m.ok(Command::TriggerJob { job });
        let run = m.queue()[0];
        m.ok(Command::Spread { run });
        for (index, worker) in (0..).zip(workers) {
            let part = m.state.part(run, index).unwrap().id;
            let attempt = m.dispatch(part, worker);
            m.complete(attempt, exit(0));
        }
    }
    assert_eq!(m.state.run_count(), 2 * 3);
    m.worker("c", 9);
    m.ok(Command::TriggerJob { job });
    let run = m.queue()[0];
    m.ok(Command::Spread { run });
    let state = m.state.run(run).unwrap().state;
    let RunState::Finished { result, .. } = state else { panic!("{state:?}") };
    assert_eq!(result.reason(), Some("too_many_workers"));
}

#[test]
fn whoever_dispatches_hears_of_each_part() {
    let mut case = Case::of(everywhere("all"));
    let run = case.run().id;
    let command = Envelope {
        actor: Actor::Leader(case.m.state.leader()),
        request: None,
        command: Command::Spread { run },
    };
    let now = UtcMillis(case.m.now);
    let index = case.m.index + 1;
    let applied = case.m.state.apply(Entry { index, now, command: &command });
    let ready = applied.events.iter().filter(|event| matches!(event, Event::Ready(_)));
    assert_eq!(ready.count(), 3);
}
