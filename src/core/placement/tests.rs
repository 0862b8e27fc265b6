//! Choice and explanation over small states.

use super::explain::{Subject, explain};
use super::load::Load;
use super::{View, choose};
use crate::ids::{Incarnation, Revision, RunId, WorkerId};
use crate::machine::command::Command;
use crate::machine::outcome::{Outcome, Reject};
use crate::machine::state::Limits;
use crate::machine::tests::support::*;
use crate::model::action::WaitReason;
use crate::model::confinement::{Confinement, Power};
use crate::model::job::{Backoff, JobSpec, RetryPolicy, default_group};
use crate::model::resources::Resources;
use crate::model::retry::RetryWorker;
use crate::model::run::EndKind;
use crate::model::worker::{Duty, WorkerProfile};
use crate::model::worker_group::{Strategy, Thresholds};
use crate::time::Span;

/// What the leader sees of workers that are not busy.
fn view<'a>(connected: &'a [WorkerId], reserved: &'a dyn Fn(WorkerId) -> Resources) -> View<'a> {
    View { connected, reserved, load: &|_| Load::default() }
}

#[test]
fn work_goes_round_among_workers_with_free_slots() {
    let mut m = Machine::new();
    let job = m.job(spec("a"));
    let workers = [m.worker("x", 1), m.worker("y", 2), m.worker("z", 1)];
    m.ok(Command::TriggerJob { job });
    let run = m.queue()[0];
    let free = |_| Resources::slots(0);
    let s = &m.state;
    assert_eq!(choose(s, run, &view(&workers, &free), None, 0), Some(workers[0]));
    assert_eq!(choose(s, run, &view(&workers, &free), Some(workers[0]), 0), Some(workers[1]));
    assert_eq!(choose(s, run, &view(&workers, &free), Some(workers[2]), 0), Some(workers[0]));
    assert_eq!(
        choose(s, run, &view(&workers[..2], &|_| Resources::slots(1)), Some(workers[2]), 0),
        Some(workers[1])
    );
    assert_eq!(choose(s, run, &view(&[], &free), None, 0), None);
    assert_eq!(choose(s, RunId(99), &view(&workers, &free), None, 0), None);
}

#[test]
fn a_retry_goes_where_its_job_prefers_and_waits_for_nobody() {
    for wish in RetryWorker::ALL.map(|(_, wish)| wish) {
        let mut m = Machine::new();
        let backoff = Backoff::Fixed { delay: Span::ZERO };
        let retries = RetryPolicy { count: 9, backoff };
        let job = m.job(JobSpec { retries, retry_on_worker: wish, ..spec("a") });
        let all = [m.worker("x", 1), m.worker("y", 1), m.worker("z", 1)];
        m.ok(Command::TriggerJob { job });
        let run = m.queue()[0];
        let next = |m: &Machine, last: WorkerId| {
            choose(&m.state, run, &view(&all, &|_| Resources::slots(0)), Some(last), 0)
        };
        assert_eq!(next(&m, all[1]), Some(all[2]), "the first try goes round");
        for (worker, any, another) in
            [(all[2], all[0], all[0]), (all[0], all[1], all[1]), (all[1], all[2], all[2])]
        {
            let attempt = m.dispatch(run, worker);
            m.complete(attempt, exit(1));
            let wanted = match wish {
                RetryWorker::Any => any,
                RetryWorker::Same => worker,
                RetryWorker::Another => another,
            };
            assert_eq!(next(&m, worker), Some(wanted), "{wish:?}");
        }
        // As if the round were at another place.
        let wanted = if wish == RetryWorker::Same { all[1] } else { all[0] };
        assert_eq!(next(&m, all[2]), Some(wanted), "all have tried it: {wish:?}");
        let without = |worker: WorkerId| {
            let reserved = move |id| Resources::slots(u32::from(id == worker));
            choose(&m.state, run, &view(&all, &reserved), Some(all[2]), 0)
        };
        assert!(without(wanted).is_some(), "no wish is waited for: {wish:?}");
        // It has begun anew: nothing of the last try is there.
        m.ok(Command::AttachWorker(Box::new(profile("y", 2, 1, 1))));
        assert_eq!(next(&m, all[2]), Some(all[0]), "{wish:?}");
    }
    let mut m = Machine::new();
    let backoff = Backoff::Fixed { delay: Span::ZERO };
    let retries = RetryPolicy { count: 9, backoff };
    let job = m.job(JobSpec { retries, retry_on_worker: RetryWorker::Another, ..spec("a") });
    let all = [m.worker("x", 1), m.worker("y", 1), m.worker("z", 1)];
    m.ok(Command::TriggerJob { job });
    let run = m.queue()[0];
    for worker in [all[0], all[1]] {
        let attempt = m.dispatch(run, worker);
        m.complete(attempt, exit(1));
    }
    let chosen = |last| choose(&m.state, run, &view(&all, &|_| Resources::slots(0)), Some(last), 0);
    assert_eq!(all.map(chosen), [Some(all[2]); 3], "the one that has not tried it");
    assert_eq!(
        choose(&m.state, run, &view(&all[..2], &|_| Resources::slots(0)), None, 0),
        Some(all[0])
    );
    let explained = explain(&m.state, Subject::Run(run), &|id| (id != all[2]).then(Load::default));
    assert_eq!(explained, Some(WaitReason::Dispatching), "it goes to any then");
}

#[test]
fn a_run_with_limits_goes_where_they_are_enforced() {
    let mut m = Machine::new();
    let confinement = Confinement { memory: Some(1 << 30), ..Confinement::default() };
    let retries = RetryPolicy { count: 9, backoff: Backoff::Fixed { delay: Span::ZERO } };
    let (limited, plain) = (m.job(JobSpec { confinement, retries, ..spec("a") }), m.job(spec("b")));
    let weak = m.worker("weak", 9);
    let able: Vec<WorkerId> = ["x", "y"].into_iter().map(|w| m.able(w, Power::Memory)).collect();
    let other = m.able("other", Power::Pids);
    let all = [weak, able[0], able[1], other];
    for job in [limited, plain] {
        m.ok(Command::TriggerJob { job });
    }
    let (run, plain) = (m.queue()[0], m.queue()[1]);
    let none = |_| Resources::slots(0);
    let choose = |m: &Machine, run, among: &[WorkerId], last| {
        super::choose(&m.state, run, &view(among, &none), last, 0)
    };
    let chosen = |m: &Machine, last| choose(m, run, &all, last);
    assert_eq!(chosen(&m, None), Some(able[0]));
    assert_eq!(chosen(&m, Some(able[1])), Some(able[0]));
    assert_eq!(choose(&m, run, &[weak, other], None), None);
    assert_eq!(choose(&m, plain, &all, None), Some(weak));
    for worker in [weak, other] {
        let incarnation = m.state.worker(worker).unwrap().profile.incarnation;
        let refused = m.refused(Command::Dispatch { run, number: 1, worker, incarnation });
        assert_eq!(refused, Reject::NotDispatchable(run), "a leader that is mistaken");
    }
    // What it said of itself was not true: the retry goes to another one, if there is one.
    let attempt = m.dispatch(run, able[0]);
    m.complete(attempt, EndKind::limits_unsupported("no such user"));
    assert_eq!(chosen(&m, Some(able[1])), Some(able[1]));
    assert_eq!(choose(&m, run, &all[..2], None), Some(able[0]));
}

#[test]
fn every_wait_has_its_reason() {
    let mut m = Machine::new();
    let retries = RetryPolicy { count: 1, backoff: Backoff::Fixed { delay: Span::secs(9) } };
    let up = m.job(JobSpec { retries, ..triggered("up") });
    let down = m.job(after_jobs("down", &[up]));
    let at = m.now + 1000;
    m.plan(up, &[(at, vec![])]);
    m.plan(down, &[(at, vec![key(up, at)])]);
    let all = here;
    let why = |m: &Machine, job| explain(&m.state, Subject::Action(key(job, at)), &all);
    assert_eq!(why(&m, up), Some(WaitReason::NotDue));
    m.after(1000);
    assert_eq!(why(&m, down), Some(WaitReason::Upstream));
    assert_eq!(why(&m, up), Some(WaitReason::NoWorker));
    let worker = m.worker("w", 1);
    assert_eq!(why(&m, up), Some(WaitReason::Dispatching));
    let none = |_: WorkerId| None;
    let reason = explain(&m.state, Subject::Action(key(up, at)), &none);
    assert_eq!(reason, Some(WaitReason::NoWorker));
    m.ok(Command::TriggerJob { job: down });
    let run = m.queue()[0];
    let second = m.queue()[1];
    let attempt = m.dispatch(run, worker);
    assert_eq!(why(&m, up), None);
    assert_eq!(explain(&m.state, Subject::Run(second), &all), Some(WaitReason::Resource));
    m.complete(attempt, exit(1));
    assert_eq!(why(&m, up), Some(WaitReason::Backoff));
    m.after(9000);
    m.ok(Command::PauseJob { job: up });
    assert_eq!(why(&m, up), Some(WaitReason::Paused));
    assert_eq!(why(&m, down), Some(WaitReason::UpstreamPaused));
    m.ok(Command::ResumeJob { job: up });
    assert_eq!(why(&m, up), Some(WaitReason::Queue));
    let attempt = m.dispatch(run, worker);
    m.complete(attempt, exit(1));
    assert_eq!(why(&m, down), Some(WaitReason::UpstreamFailed));
}

#[test]
fn labels_choose_workers_and_a_job_that_none_suits_holds_up_nobody() {
    let mut m = Machine::new();
    let plain = m.attach(labelled("plain", 1, &[("zone", "b")]));
    let fast = m.attach(labelled("fast", 1, &[("zone", "a"), ("ssd", "true")]));
    let both = [plain, fast];
    let (nowhere, picky, any) = (
        m.job(choosy("nowhere", "zone == 'c'")),
        m.job(choosy("picky", "zone == 'a' && ssd")),
        m.job(spec("any")),
    );
    for job in [nowhere, picky, any, any] {
        m.ok(Command::TriggerJob { job });
    }
    let runs = m.queue();
    let chosen = |m: &Machine, n: usize| {
        choose(&m.state, runs[n], &view(&both, &|_| Resources::slots(0)), None, 0)
    };
    assert_eq!([0, 1, 2].map(|n| chosen(&m, n)), [None, Some(fast), Some(plain)]);
    let why = |m: &Machine, n: usize| explain(&m.state, Subject::Run(runs[n]), &here);
    assert_eq!(why(&m, 0), Some(WaitReason::NoWorker));
    assert_eq!(
        [1, 2].map(|n| why(&m, n)),
        [Some(WaitReason::Dispatching), Some(WaitReason::Queue)]
    );
    // The machine knows labels, too.
    let incarnation = m.state.worker(plain).unwrap().profile.incarnation;
    let wrong = Command::Dispatch { run: runs[1], number: 1, worker: plain, incarnation };
    assert_eq!(m.refused(wrong), Reject::NotDispatchable(runs[1]));
    m.dispatch(runs[2], fast);
    assert_eq!(why(&m, 1), Some(WaitReason::Resource), "the other worker is of no use to it");
    assert_eq!(why(&m, 3), Some(WaitReason::Dispatching), "nobody before it wants that worker");
    m.ok(Command::SetDuty { worker: fast, duty: Duty::Cordoned });
    assert_eq!(why(&m, 1), Some(WaitReason::Cordoned));
    m.attach(labelled("fast", 1, &[("zone", "a")]));
    assert_eq!(why(&m, 1), Some(WaitReason::NoWorker));
}

#[test]
fn a_group_says_how_its_workers_are_chosen() {
    let mut m = Machine::new();
    let job = m.job(spec("a"));
    let all = [m.worker("x", 4), m.worker("y", 4), m.worker("z", 2)];
    let ran_on = all[1];
    m.ok(Command::TriggerJob { job });
    let attempt = m.dispatch(m.queue()[0], ran_on);
    m.complete(attempt, exit(0));
    m.ok(Command::TriggerJob { job });
    let run = m.queue()[0];
    let busy = |memory_permille| Load { memory_permille, per_core_permille: 10, is_closed: false };
    let pick = |m: &Machine, loads: [u32; 3], taken: [u32; 3], chance: u64| {
        let place = |id: WorkerId| all.iter().position(|known| *known == id).unwrap();
        let load = |id| busy(loads[place(id)]);
        let reserved = |id| Resources::slots(taken[place(id)]);
        let view = View { connected: &all, reserved: &reserved, load: &load };
        let chosen = choose(&m.state, run, &view, Some(all[2]), chance)?;
        Some(place(chosen))
    };
    for (strategy, idle, loaded, taken) in [
        (Strategy::RoundRobin, [0, 0, 0], 0, 1),
        (Strategy::Random, [0, 1, 2], 0, 1),
        // Its slots are known at once, its load later.
        (Strategy::LeastLoaded, [0, 0, 0], 2, 1),
        (Strategy::Sticky, [1, 1, 1], 1, 1),
    ] {
        m.ok(put_worker_group("default", strategy, None));
        let told = [0, 1, 2].map(|chance| pick(&m, [0; 3], [0; 3], chance).unwrap());
        assert_eq!(told, idle, "{strategy:?}");
        assert_eq!(pick(&m, [900, 800, 100], [0; 3], 0), Some(loaded), "{strategy:?}");
        assert_eq!(pick(&m, [0; 3], [4, 1, 2], 0), Some(taken), "{strategy:?}");
        assert_eq!(pick(&m, [0; 3], [4, 4, 2], 7), None, "{strategy:?}");
    }
    // Who stuck to a worker goes elsewhere while that one may not.
    assert_eq!(pick(&m, [0; 3], [0, 4, 0], 0), Some(0));
    m.ok(put_worker_group("default", Strategy::Sticky, Some(Thresholds::default())));
    assert_eq!(pick(&m, [0, 701, 0], [0; 3], 0), Some(0));
    assert_eq!(pick(&m, [700, 700, 700], [0; 3], 0), Some(1));
    assert_eq!(pick(&m, [701; 3], [0; 3], 0), None);
    // And that is told.
    let why = |memory| explain(&m.state, Subject::Run(run), &|_| Some(busy(memory)));
    assert_eq!([700, 701].map(why), [Some(WaitReason::Dispatching), Some(WaitReason::Load)]);
    m.ok(Command::DeleteWorkerGroup { name: default_group(), expected: None });
    assert_eq!(pick(&m, [701; 3], [0; 3], 0), Some(0));
}

#[test]
fn a_definition_of_a_worker_group_comes_and_goes() {
    let mut m = Machine::with(Limits { worker_groups: 1, ..Limits::default() });
    let made = |changed, revision| Outcome::WorkerGroup { revision: Revision(revision), changed };
    let limits = Some(Thresholds::default());
    assert_eq!(m.ok(put_worker_group("g", Strategy::Random, limits)), made(true, 1));
    assert_eq!(m.ok(put_worker_group("g", Strategy::Random, limits)), made(false, 1));
    assert_eq!(m.ok(put_worker_group("g", Strategy::Random, None)), made(true, 2));
    let full = m.refused(put_worker_group("h", Strategy::Random, None));
    assert!(matches!(full, Reject::Full { limit: 1, .. }), "{full:?}");
    for (memory_permille, load_permille) in [(0, 1), (1_001, 1), (1, 0), (1, 1_000_001)] {
        let limits = Some(Thresholds { memory_permille, load_permille });
        let wrong = m.refused(put_worker_group("g", Strategy::Random, limits));
        assert!(matches!(wrong, Reject::Invalid { .. }), "{wrong:?}");
    }
    let delete = |expected| Command::DeleteWorkerGroup { name: name("g"), expected };
    assert!(matches!(m.refused(delete(Some(Revision(1)))), Reject::WrongRevision { .. }));
    m.ok(delete(Some(Revision(2))));
    assert_eq!(m.refused(delete(None)), Reject::NoSuchWorkerGroup(name("g")));
}

#[test]
fn what_a_run_takes_is_reserved_until_its_attempt_is_over() {
    let mut m = Machine::new();
    let retries = RetryPolicy { count: 1, backoff: Backoff::Fixed { delay: Span::secs(9) } };
    let gpu = amounts(60, 1_500, &[("gpu", 1)]);
    let heavy_job = m.job(JobSpec { retries, ..heavy("heavy", 2, gpu.clone()) });
    let small = m.job(heavy("small", 1, amounts(40, 0, &[])));
    let large = m.job(heavy("large", 1, amounts(101, 0, &[])));
    let has = amounts(100, 2_000, &[("gpu", 2)]);
    let worker = m.attach(WorkerProfile { amounts: has, ..profile("w", 1, 1, 5) });
    let bare = m.worker("bare", 9);
    let all = [worker, bare];
    for job in [heavy_job, small, small, heavy_job, large] {
        m.ok(Command::TriggerJob { job });
    }
    let runs = m.queue();
    let none = |_| Resources::slots(0);
    let chosen = |m: &Machine, n: usize| choose(&m.state, runs[n], &view(&all, &none), None, 0);
    let why = |m: &Machine, n: usize| explain(&m.state, Subject::Run(runs[n]), &here);
    assert_eq!(chosen(&m, 0), Some(worker), "the other one declares no memory");
    assert_eq!(chosen(&m, 4), None);
    assert_eq!(why(&m, 4), Some(WaitReason::Resource), "it never fits, whoever is before it");
    // What is under way counts.
    let under_way = |id: WorkerId| match id == worker {
        true => Resources { slots: 1, amounts: amounts(41, 0, &[]) },
        false => Resources::slots(0),
    };
    assert_eq!(choose(&m.state, runs[0], &view(&all, &under_way), None, 0), None);
    let attempt = m.dispatch(runs[0], worker);
    assert_eq!(m.state.used_of(worker), Resources { slots: 2, amounts: gpu });
    assert_eq!([1, 2, 3].map(|n| chosen(&m, n)), [Some(worker), Some(worker), None]);
    m.dispatch(runs[1], worker);
    assert_eq!(why(&m, 2), Some(WaitReason::Resource));
    assert_eq!(why(&m, 3), Some(WaitReason::Queue));
    let order = Command::Dispatch { run: runs[2], number: 1, worker, incarnation: Incarnation(1) };
    assert_eq!(m.refused(order), Reject::NoRoom(worker));
    // Nothing is held while it waits for its retry.
    m.complete(attempt, exit(1));
    assert_eq!(m.state.used_of(worker), Resources { slots: 1, amounts: amounts(40, 0, &[]) });
    assert_eq!(why(&m, 2), Some(WaitReason::Dispatching));
    // One that came back smaller gives nothing until there is room.
    m.attach(WorkerProfile { amounts: amounts(70, 0, &[]), ..profile("w", 1, 1, 5) });
    assert_eq!(why(&m, 2), Some(WaitReason::Resource));
    m.attach(WorkerProfile { amounts: amounts(80, 0, &[]), ..profile("w", 1, 1, 1) });
    let order = Command::Dispatch { run: runs[2], number: 1, worker, incarnation: Incarnation(1) };
    assert_eq!(m.refused(order), Reject::NoSlot(worker));
    let slots = m.refused(apply(heavy("none", 0, amounts(0, 0, &[]))));
    assert!(matches!(slots, Reject::Invalid { field, .. } if field == "resources.slots"));
    let count = m.refused(apply(heavy("none", 1, amounts(0, 0, &[("gpu", 0)]))));
    assert!(matches!(count, Reject::Invalid { field, .. } if field == "resources.gpu"));
}
