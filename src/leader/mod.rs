//! What a node does while it leads: plan, release, split, dispatch, cancel, see to back-fills.
//!
//! Each service is a loop that reads the state and proposes; none keeps
//! anything that a new leader would miss. They start after this leader's term
//! was committed and stop with it. A service that fails or panics ends the set,
//! which begins anew after a pause: the node and its vote go on.
//!
//! Reading order: [`ports`] and [`events`], what the services talk to;
//! `planner` with `plan_book` and `plan_job`; `ticker`; `dispatcher` with
//! `picks`, `answers` and `in_flight`; `spreads`; `cancels`; `backfills`.

pub mod events;
pub mod ports;
mod answers;
mod backfills;
mod cancels;
mod dispatcher;
mod in_flight;
mod picks;
mod plan_book;
mod plan_job;
mod planner;
mod spreads;
mod ticker;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use horai_core::ids::LeaderId;
use horai_core::machine::command::Command;
use horai_core::machine::outcome::{Outcome, Reject};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use events::{EventHub, Wants};
use ports::{Orders, Replica, propose};

use crate::telemetry::survivable;

/// How long a proposal may take before its outcome counts as unknown.
const LIMIT: Duration = Duration::from_secs(10);
/// Between tries to begin a term.
const BEGIN_RETRY: Duration = Duration::from_millis(20);
/// Before services begin anew after a failure; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A set that ran this long was well: the next pause is the first again.
const WELL: Duration = Duration::from_secs(30);

/// What the services of this node did since it started. Never decides anything.
#[derive(Debug, Default)]
pub struct Counters {
    /// Actions that were planned.
    pub planned: AtomicU64,
    /// Proposals that planned them.
    pub plan_commands: AtomicU64,
    /// Jobs whose batches were refused because something had moved on.
    pub refused_batches: AtomicU64,
    /// Jobs that could not be planned.
    pub bad_jobs: AtomicU64,
    /// Dispatches that were committed, and whose worker was told.
    pub dispatched: AtomicU64,
    /// Dispatches refused because the run was dispatched or over already.
    pub duplicates: AtomicU64,
    /// Dispatches refused because their worker had gone or filled up.
    pub outrun: AtomicU64,
    /// Dispatches whose outcome had to be looked up.
    pub unsure: AtomicU64,
    /// Ticks proposed.
    pub ticks: AtomicU64,
    /// Requests to end an attempt that were passed on.
    pub cancels: AtomicU64,
    /// Terms that this node began.
    pub terms: AtomicU64,
    /// Times the services began anew after a failure.
    pub restarts: AtomicU64,
}

/// Why the services of a term ended.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// Another leader has begun its term.
    #[error("the commands of leader {0} are refused: another one leads")]
    Deposed(LeaderId),
    /// The sessions are gone.
    #[error("the sessions have ended")]
    Closed,
    /// A service panicked.
    #[error("a service panicked")]
    Panicked(#[source] tokio::task::JoinError),
    /// A service returned, which none does by itself.
    #[error("a service ended")]
    Ended,
}

/// What every service of one term has.
struct Term<R> {
    replica: Arc<R>,
    leader: LeaderId,
    counters: Arc<Counters>,
}

/// By hand: a derived one would ask for `R: Clone`.
impl<R> Clone for Term<R> {
    fn clone(&self) -> Self {
        let (replica, counters) = (Arc::clone(&self.replica), Arc::clone(&self.counters));
        Self { replica, leader: self.leader, counters }
    }
}

/// Leads whenever this node is the leader, until `stop`.
pub async fn run<R: Replica, O: Orders>(
    replica: Arc<R>,
    orders: O,
    events: EventHub,
    counters: Arc<Counters>,
    stop: CancellationToken,
) {
    let mut leadership = replica.leadership();
    let mut pause = FIRST_PAUSE;
    loop {
        let leader = tokio::select! {
            () = stop.cancelled() => return,
            led = leadership.wait_for(|now| now.own.is_some()) => match led {
                Ok(now) => now.own,
                // The node is gone.
                Err(_) => return,
            },
        };
        let Some(leader) = leader else { continue };
        let term = Term { replica: Arc::clone(&replica), leader, counters: Arc::clone(&counters) };
        let began = Instant::now();
        let mut set = JoinSet::new();
        let ended = tokio::select! {
            () = stop.cancelled() => None,
            _ = leadership.wait_for(|now| now.own != Some(leader)) => None,
            error = lead(&term, &orders, &events, &mut set) => Some(error),
        };
        // At once: an acknowledgement given now would not be this leader's to give.
        orders.stop_leading(leader);
        // Nothing of this term may act once the next one begins.
        set.shutdown().await;
        let Some(error) = ended else {
            tracing::info!(%leader, "no longer leading");
            pause = FIRST_PAUSE;
            continue;
        };
        counters.restarts.fetch_add(1, Relaxed);
        report(leader, &error);
        if began.elapsed() > WELL {
            pause = FIRST_PAUSE;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn report(leader: LeaderId, error: &Error) {
    let error = error as &dyn std::error::Error;
    tracing::error!(%leader, error, "leader services ended; they begin anew");
}

/// Begins a term and runs its services; returns when one of them has ended.
async fn lead<R: Replica, O: Orders>(
    term: &Term<R>,
    orders: &O,
    events: &EventHub,
    set: &mut JoinSet<Result<(), Error>>,
) -> Error {
    if let Err(error) = begin(term).await {
        return error;
    }
    term.counters.terms.fetch_add(1, Relaxed);
    tracing::info!(leader = %term.leader, "leading");
    // Subscribed before anything is read, so that no change falls in between. The
    // set catches a panic, and so does the planner for the sake of other jobs.
    set.spawn(survivable(ticker::run(term.clone(), events.subscribe(Wants::ANY))));
    set.spawn(survivable(planner::run(term.clone(), events.subscribe(Wants::JOBS))));
    let work = events.subscribe(Wants::WORK);
    set.spawn(survivable(dispatcher::run(term.clone(), orders.clone(), work)));
    let runs = events.subscribe(Wants::RUNS);
    set.spawn(survivable(cancels::run(term.clone(), orders.clone(), runs)));
    set.spawn(survivable(backfills::run(term.clone())));
    set.spawn(survivable(spreads::run(term.clone(), events.subscribe(Wants::WORK))));
    orders.lead(term.leader);
    match set.join_next().await {
        Some(Ok(Err(error))) => error,
        Some(Err(panicked)) => Error::Panicked(panicked),
        Some(Ok(Ok(()))) | None => Error::Ended,
    }
}

/// Commits that this leader leads: from here on every lease runs anew, and
/// commands of leaders before it are refused.
async fn begin<R: Replica>(term: &Term<R>) -> Result<(), Error> {
    let mut is_told = false;
    loop {
        let command = Command::LeaderStarted(term.leader);
        match propose(&*term.replica, term.leader, command, LIMIT).await {
            Ok(Outcome::Rejected(Reject::StaleLeader(leader))) => {
                return Err(Error::Deposed(leader));
            }
            Ok(_) if term.replica.read(|state| state.leader() == term.leader) => return Ok(()),
            Ok(_) => {}
            Err(error) => {
                if !std::mem::replace(&mut is_told, true) {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, leader = %term.leader, "term cannot begin yet");
                }
            }
        }
        sleep(BEGIN_RETRY).await;
    }
}
