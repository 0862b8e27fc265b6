//! Moves replicated time when something is due and nothing else has moved it.
//!
//! It sleeps until the next timer of the state, not in steps, so that what is
//! due is released within milliseconds; any event may bring an earlier timer
//! and wakes it. The machine releases a bounded number of timers a command:
//! while more are due, several ticks are proposed together.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use horai_core::machine::command::Command;
use horai_core::machine::outcome::{Outcome, Reject};
use horai_core::time::{Span, UtcMillis};
use tokio::time::{sleep, timeout};

use super::events::Receiver;
use super::ports::{Replica, own};
use super::{Error, LIMIT, Term};

/// The longest sleep, should an event be missing.
const IDLE: Duration = Duration::from_secs(1);
/// Before the next try after a tick that failed.
const RETRY: Duration = Duration::from_millis(50);
/// Ticks proposed together at most.
const BURST: usize = 8;

/// Ticks until this node no longer leads, which is the one way it ends.
pub(super) async fn run<R: Replica>(term: Term<R>, mut news: Receiver) -> Result<(), Error> {
    let mut burst = 1;
    loop {
        news.take();
        let next = term.replica.read(|state| state.next_timer());
        let wait = match next_step(next, term.replica.cluster_now()) {
            Step::Tick => {
                tick(&term, burst).await?;
                let is_due_still = term
                    .replica
                    .read(|state| state.next_timer().is_some_and(|at| at <= state.now()));
                burst = if is_due_still { (2 * burst).min(BURST) } else { 1 };
                continue;
            }
            Step::Wait(span) => Duration::from_millis(span.0).min(IDLE),
            Step::AskAgain => RETRY,
            Step::Idle => IDLE,
        };
        // Woken or not, the next step is to look.
        let _woken = timeout(wait, news.changed()).await;
    }
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Something is due.
    Tick,
    /// Nothing is, for so long.
    Wait(Span),
    /// There is no cluster time at the moment.
    AskAgain,
    /// Nothing will be due unless something changes.
    Idle,
}

/// Pure: from the state's next timer and cluster time.
pub(super) fn next_step(next: Option<UtcMillis>, now: Option<UtcMillis>) -> Step {
    match (next, now) {
        (Some(at), Some(now)) if at <= now => Step::Tick,
        (Some(at), Some(now)) => Step::Wait(at.since(now)),
        (Some(_), None) => Step::AskAgain,
        (None, _) => Step::Idle,
    }
}

async fn tick<R: Replica>(term: &Term<R>, count: usize) -> Result<(), Error> {
    let ticks = vec![own(term.leader, Command::Tick); count];
    term.counters.ticks.fetch_add(count as u64, Relaxed);
    for answer in term.replica.propose_all(ticks, LIMIT).await {
        match answer {
            Ok(Outcome::Rejected(Reject::StaleLeader(leader))) => {
                return Err(Error::Deposed(leader));
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "tick failed");
                sleep(RETRY).await;
                return Ok(());
            }
        }
    }
    Ok(())
}
