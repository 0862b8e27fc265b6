//! All services together, with the clock running.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use horai_core::ids::*;
use horai_core::machine::command::*;
use horai_core::machine::outcome::Outcome;
use horai_core::model::run::RunState;
use horai_core::time::Span;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::support::*;
use crate::leader::{Counters, run};

struct World {
    fake: Arc<Fake>,
    told: Told,
    counters: Arc<Counters>,
    stop: CancellationToken,
    services: JoinHandle<()>,
}

impl World {
    fn new() -> Self {
        let (fake, told) = (Fake::new(true), Told::new());
        let counters = Arc::new(Counters::default());
        let stop = CancellationToken::new();
        let services = tokio::spawn(run(
            Arc::clone(&fake),
            told.clone(),
            fake.hub.clone(),
            Arc::clone(&counters),
            stop.clone(),
        ));
        Self { fake, told, counters, stop, services }
    }

    async fn end(self) {
        self.stop.cancel();
        self.services.await.unwrap();
    }

    fn trigger(&self, job: JobId) -> RunId {
        match self.fake.user(Command::TriggerJob { job }) {
            Outcome::Run { run } => run,
            other => panic!("{other:?}"),
        }
    }
}

/// In virtual time, which passes only while all services wait: a busy machine makes
/// nothing late here, and what waits for its next look instead of the event is late by
/// up to a second.
#[tokio::test(start_paused = true)]
async fn due_actions_are_released_in_time_and_reach_a_worker_once() {
    /// A proposal takes a millisecond: so much have the tick and the dispatch.
    const LATE: Span = Span(2);
    let world = World::new();
    let worker = world.fake.worker("w", &["default"], 100);
    world.told.connect(worker);
    world.fake.set_leader(Some(leader(2)));
    let job = world.fake.job(spec("each-second", &["* * * * * ?"], &[]));
    until("five fires", || world.told.starts().len() >= 5).await;
    let view = world.fake.view();
    let runs: Vec<_> = view.runs_of_job_after(job, None).collect();
    for run in &runs {
        assert_eq!(run.attempts.len(), 1, "{run:?}");
        let late = run.attempts[0].dispatched.since(run.nominal);
        assert!(late <= LATE, "{late} after {}", run.nominal);
    }
    let seconds: Vec<i64> = runs.iter().map(|run| run.nominal.0 / 1000).collect();
    assert!(seconds.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seconds:?}");
    let wanted: Vec<(WorkerId, RunId)> = runs.iter().map(|run| (worker, run.id)).collect();
    assert_eq!(world.told.starts(), wanted, "each run is told once, in order");
    assert_eq!(world.counters.duplicates.load(Relaxed), 0);
    assert_eq!(world.told.leads(), [(true, leader(2))]);
    // Another node leads: nothing more happens here.
    world.fake.set_leader(None);
    until("the end of the term", || world.told.leads().contains(&(false, leader(2)))).await;
    let run = world.trigger(job);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(world.told.starts(), wanted);
    world.fake.set_leader(Some(leader(3)));
    until("the new term's dispatch", || world.told.starts().contains(&(worker, run))).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_outcome_is_looked_up() {
    let world = World::new();
    let worker = world.fake.worker("w", &["default"], 100);
    let job = world.fake.job(spec("by-hand", &[], &[]));
    world.fake.set_leader(Some(leader(2)));
    until("leading", || !world.told.leads().is_empty()).await;
    world.fake.lose_answers.store(1, Relaxed);
    let run = world.trigger(job);
    world.told.connect(worker);
    until("the start", || !world.told.starts().is_empty()).await;
    assert_eq!(world.told.starts(), [(worker, run)]);
    // Refused for certain: tried again.
    world.fake.fail.store(1, Relaxed);
    let second = world.trigger(job);
    until("the second start", || world.told.starts().len() == 2).await;
    assert_eq!(world.told.starts()[1], (worker, second));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_failed_or_is_unknown_is_looked_at_again() {
    let world = World::new();
    world.fake.set_leader(Some(leader(2)));
    until("leading", || !world.told.leads().is_empty()).await;
    let actions = |job| world.fake.view().live_actions_of(job).count();
    world.fake.fail.store(2, Relaxed);
    let refused = world.fake.job(spec("refused", &["0 0 0 1 * ?"], &[]));
    until("a plan after failures", || actions(refused) > 0).await;
    world.fake.lose_answers.store(1, Relaxed);
    let unheard = world.fake.job(spec("unheard", &["0 0 0 1 * ?"], &[]));
    let down = world.fake.job(spec("down", &[], &[unheard]));
    until("the plan of the dependant", || actions(down) > 0).await;
    assert_eq!((actions(refused), actions(unheard), actions(down)), (1, 1, 1));
    assert_eq!(world.counters.restarts.load(Relaxed), 0);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_ends_the_set_and_it_begins_anew() {
    let world = World::new();
    let worker = world.fake.worker("w", &["default"], 100);
    world.told.connect(worker);
    world.fake.set_leader(Some(leader(2)));
    until("leading", || !world.told.leads().is_empty()).await;
    world.fake.panic.store(1, Relaxed);
    let job = world.fake.job(spec("by-hand", &[], &[]));
    until("a restart", || world.counters.restarts.load(Relaxed) > 0).await;
    let run = world.trigger(job);
    until("the start", || world.told.starts().contains(&(worker, run))).await;
    let again = [(true, leader(2)), (false, leader(2)), (true, leader(2))];
    assert_eq!(world.told.leads(), again);
    world.end().await;
}

/// Set in the process that runs with the hook of a node.
const CHILD: &str = "TEST_OF_SERVICE_PANICS";

/// The same as a node meets it, whose hook ends the process at other panics. A
/// process of its own, because the hook is the whole process's.
#[test]
fn a_panic_of_a_service_ends_no_node() {
    if std::env::var_os(CHILD).is_some() {
        crate::telemetry::abort_on_panic();
        return a_panic_ends_the_set_and_it_begins_anew();
    }
    let name = "leader::tests::services::a_panic_of_a_service_ends_no_node";
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let out = child.args([name, "--exact", "--nocapture"]).env(CHILD, "1").output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_to_end_a_run_are_passed_on() {
    let world = World::new();
    let worker = world.fake.worker("w", &["default"], 100);
    world.told.connect(worker);
    world.fake.set_leader(Some(leader(2)));
    let job = world.fake.job(spec("by-hand", &[], &[]));
    let run = world.trigger(job);
    until("the start", || !world.told.starts().is_empty()).await;
    world.fake.user(Command::CancelRun { run });
    until("the cancel", || world.told.cancels().contains(&run)).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_of_a_pool_are_given_on_at_once_and_never_twice() {
    let world = World::new();
    let worker = world.fake.worker("w", &["default"], 100);
    world.told.connect(worker);
    world.fake.set_leader(Some(leader(2)));
    world.fake.user(put_pool("p", 2));
    let job = world.fake.job(taking("a", &[("p", 1)]));
    let begun = std::time::Instant::now();
    for _ in 0..30 {
        world.trigger(job);
    }
    for done in (0..30).step_by(2) {
        until("two more", || world.told.starts().len() == done + 2).await;
        assert_eq!(world.fake.view().pool_used(&name("p")), 2);
        world.fake.complete_all();
    }
    // Each end wakes the dispatcher: nothing waits for the next look.
    assert!(begun.elapsed() < Duration::from_secs(10));
    // So does a pool that is made larger.
    for _ in 0..3 {
        world.trigger(job);
    }
    until("two of three", || world.told.starts().len() == 32).await;
    world.fake.user(put_pool("p", 3));
    until("the third", || world.told.starts().len() == 33).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_due_at_once_are_all_dispatched() {
    let world = World::new();
    let workers = ["w1", "w2"].map(|text| world.fake.worker(text, &["default"], 3_000));
    for worker in workers {
        world.told.connect(worker);
    }
    world.fake.set_leader(Some(leader(2)));
    let at = world.fake.now().plus(Span::secs(3));
    let second = (at.0 / 1000) % 60;
    for n in 0..5_000 {
        world.fake.job(spec(&format!("j{n}"), &[&format!("{second} * * * * ?")], &[]));
    }
    until("all of them", || world.told.starts().len() >= 5_000).await;
    assert_eq!(world.told.starts().len(), 5_000);
    let view = world.fake.view();
    assert!(view.runs_after(None).all(|run| run.state == RunState::Running));
    for worker in workers {
        let slots = view.used_slots(worker);
        assert!((2_000..=3_000).contains(&slots), "worker {worker} has {slots}");
    }
    let proposals = world.fake.proposals.lock().unwrap().clone();
    assert_eq!(proposals["dispatch"], 5_000, "none is proposed twice");
    assert!(proposals["plan"] < 500, "{proposals:?}");
    world.end().await;
}
