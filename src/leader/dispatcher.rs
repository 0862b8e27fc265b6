//! Gives waiting runs to workers while this node leads.
//!
//! Level-triggered: whatever woke it, it reads the queue again. Commit before
//! act: a worker is told only after its dispatch is committed. Several groups
//! of proposals are under way at once, so that the log is never idle while
//! runs wait; there is no task, no log line and no allocation of note per run.
//! Which run goes where is decided in [`super::picks`], what an answer means in
//! [`super::answers`].

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use horai_core::ids::{RunId, WorkerId};
use horai_core::machine::command::Command;
use horai_core::machine::outcome::{Outcome, Reject};
use horai_core::time::UtcMillis;
use tokio::time::{Instant, sleep, sleep_until};

use super::answers::{self, Answers};
use super::events::Receiver;
use super::picks::{Pick, Picker};
use super::ports::{Orders, Replica, propose};
use super::{Error, LIMIT, Term};

/// Dispatches proposed together: as many as one batch of the log takes.
const GROUP: usize = 256;
/// Groups under way at once.
const GROUPS: usize = 8;
/// The queue is read this often, should an event be missing.
const ROUND: Duration = Duration::from_secs(1);
/// Before the next try after proposals that failed.
const RETRY: Duration = Duration::from_millis(50);

/// Dispatches until this node no longer leads, which is the one way it ends.
pub(super) async fn run<R: Replica, O: Orders>(
    term: Term<R>,
    orders: O,
    mut news: Receiver,
) -> Result<(), Error> {
    let mut workers = orders.changed();
    let begin = term.replica.cluster_now().unwrap_or_default();
    let mut picker = Picker::new(begin);
    let mut groups = FuturesUnordered::new();
    let mut held_until: Option<Instant> = None;
    loop {
        // Marked as heard before reading, so that nothing in between is missed.
        news.take();
        workers.borrow_and_update();
        held_until = held_until.filter(|until| *until > Instant::now());
        while groups.len() < GROUPS && held_until.is_none() {
            let connected = orders.connected();
            picker.look_at_loads(orders.loads());
            let time = term.replica.cluster_now().unwrap_or_default();
            let picks = term.replica.read(|state| {
                let now: UtcMillis = time.max(state.now());
                picker.look_at_keys(state, &|key| orders.has_key(key));
                picker.pick(state, &connected, now, GROUP)
            });
            let is_last = picks.len() < GROUP;
            if !picks.is_empty() {
                groups.push(send(&term, &orders, picks));
            }
            if is_last {
                break;
            }
        }
        let may_fill = groups.len() < GROUPS && held_until.is_none();
        let wait = picker.wait().map_or(ROUND, |span| Duration::from_millis(span.0));
        let wake_at = held_until.unwrap_or_else(|| Instant::now() + wait);
        tokio::select! {
            Some(done) = groups.next() => {
                let Sent { picks, failed } = done?;
                picker.settle(&picks);
                if failed {
                    held_until = Some(Instant::now() + RETRY);
                }
            }
            () = news.changed(), if may_fill => {}
            changed = workers.changed(), if may_fill => {
                changed.map_err(|_| Error::Closed)?;
            }
            () = sleep_until(wake_at) => {}
        }
    }
}

/// A group that was answered.
struct Sent {
    picks: Vec<Pick>,
    /// Nothing can be committed at the moment, or nothing was.
    failed: bool,
}

/// Proposes a group, and tells the workers of what was committed.
async fn send<R: Replica, O: Orders>(
    term: &Term<R>,
    orders: &O,
    picks: Vec<Pick>,
) -> Result<Sent, Error> {
    let counters = &term.counters;
    let envelopes = picks.iter().map(|pick| pick.envelope(term.leader)).collect();
    let answers = term.replica.propose_all(envelopes, LIMIT).await;
    let Answers { starts, unsure, failed, duplicates, outrun, error } =
        answers::read(&picks, answers).map_err(Error::Deposed)?;
    counters.duplicates.fetch_add(duplicates, Relaxed);
    counters.outrun.fetch_add(outrun, Relaxed);
    if let Some(error) = error {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "dispatches were not committed");
    }
    tell(term, orders, starts);
    if !unsure.is_empty() {
        tracing::warn!(count = unsure.len(), "outcome of dispatches is unknown");
        counters.unsure.fetch_add(unsure.len() as u64, Relaxed);
        pass_barrier(term).await?;
        let starts = term.replica.read(|state| answers::committed(state, &unsure));
        tell(term, orders, starts);
    }
    Ok(Sent { picks, failed })
}

fn tell<R: Replica, O: Orders>(term: &Term<R>, orders: &O, starts: BTreeMap<WorkerId, Vec<RunId>>) {
    for (worker, runs) in starts {
        term.counters.dispatched.fetch_add(runs.len() as u64, Relaxed);
        orders.start(worker, runs);
    }
}

/// Once a later command of this leader is committed, what became of the
/// earlier ones is seen in the state.
async fn pass_barrier<R: Replica>(term: &Term<R>) -> Result<(), Error> {
    loop {
        match propose(&*term.replica, term.leader, Command::Tick, LIMIT).await {
            Ok(Outcome::Rejected(Reject::StaleLeader(leader))) => {
                return Err(Error::Deposed(leader));
            }
            Ok(_) => return Ok(()),
            Err(_) => sleep(RETRY).await,
        }
    }
}
