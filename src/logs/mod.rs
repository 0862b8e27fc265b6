//! Logs that outlive machines: output of attempts on the disks of all nodes; and the files
//! of jobs, which are kept there in the same way.
//!
//! A worker brings its output to the node that leads (`intake`). That node stores each
//! piece and hands it to the other voters (`peers`); once a majority of the voters has
//! synced everything below a byte, the worker is told so. A new leader asks a majority
//! what it holds and has the worker go on behind that, so nothing that was acknowledged is
//! missing and nothing is there twice: each byte has one place. `repair` copies what some
//! voter lacks, `retention` removes what is old, too much, or of a run that is gone, and
//! `read` serves any of it on any node. `leaving` keeps a voter until its copies are with
//! others; `compare` asks the voters what they hold. `files` does all of that for files.
//!
//! No consensus is needed for bytes that have a place of their own and never change
//! (see [`crate::chunks`]): a leader that was deposed can do no harm by storing more of
//! them. What is acknowledged is what a majority holds, whoever counts it.
//!
//! Nothing here holds up the rest of a node: connections and queues of its own, bounded in
//! bytes; a node that is slow or away is left behind, and repaired later.

mod compare;
mod files;
mod intake;
mod leaving;
mod peers;
mod read;
mod repair;
mod retention;
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use horai_core::ids::{AttemptKey, LeaderId, NodeId, RunId};
use horai_core::machine::state::State;
use horai_core::model::run::{Attempt, RunState};
use horai_core::time::UtcMillis;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::chunks::Store;
use crate::session::Node;

pub use files::FilesError;
pub use leaving::Needed;
pub use read::{LogError, LogPart, LogRequest};
pub use retention::Keep;

use intake::Uplinks;
use peers::Peers;

/// The logs of one node.
pub struct Logs {
    node: Arc<Node>,
    store: Arc<Store>,
    peers: Peers,
    /// What workers deliver, while this node leads.
    uplinks: Mutex<Uplinks>,
    /// Attempts that some voter lacks something of, as far as it was noticed.
    behind: Mutex<Behind>,
    /// Rings when there is something to repair.
    bell: Notify,
    keep: Keep,
    /// Another one each time that the store is opened: it may have lost something.
    epoch: u64,
    end: CancellationToken,
}

/// What is to be repaired.
#[derive(Debug, Default)]
struct Behind {
    attempts: BTreeSet<AttemptKey>,
    /// Everything is to be looked at, or is just being.
    all: bool,
    /// There were more attempts than are named.
    more: bool,
}

/// Attempts that are named as behind; with more, everything is looked at.
const MOST_BEHIND: usize = 20_000;

impl Logs {
    /// Of a node with its store.
    #[must_use]
    pub fn new(node: Arc<Node>, store: Arc<Store>, keep: Keep) -> Arc<Self> {
        Arc::new(Self {
            peers: Peers::new(Arc::clone(&node)),
            node,
            store,
            uplinks: Mutex::default(),
            behind: Mutex::default(),
            bell: Notify::new(),
            keep,
            epoch: uuid::Uuid::new_v4().as_u64_pair().0,
            end: CancellationToken::new(),
        })
    }

    /// What the worker port serves for it.
    #[must_use]
    pub fn routes(self: &Arc<Self>) -> Routes {
        service::routes(self)
    }

    /// Repairs while this node leads, and removes what is not to be kept; until dropped.
    pub async fn run(self: &Arc<Self>) {
        self.store.opened().await;
        tokio::join!(Arc::clone(self).follow(), Arc::clone(self).retain());
    }

    /// Ends all streams of workers.
    pub fn close(&self) {
        self.end.cancel();
    }

    /// The store below.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Reads an attempt's output from wherever it is.
    ///
    /// # Errors
    /// [`LogError`] if it is not to be had.
    pub async fn read(
        self: &Arc<Self>,
        request: LogRequest,
    ) -> Result<tokio::sync::mpsc::Receiver<LogPart>, LogError> {
        read::read(Arc::clone(self), request).await
    }

    /// Attempts that some voter lacks something of, as the leader knows; none elsewhere.
    #[must_use]
    pub fn behind(&self) -> Option<usize> {
        self.leader()?;
        let behind = self.lock_behind();
        Some(behind.attempts.len() + usize::from(behind.all || behind.more))
    }

    /// Set while this node leads.
    fn leader(&self) -> Option<LeaderId> {
        self.node.leadership().borrow().own
    }

    /// This node, and the voters with their worker ports.
    fn voters(&self) -> (NodeId, BTreeMap<NodeId, String>) {
        let status = self.node.status();
        let voters = status.members.into_iter().filter(|(_, (_, votes))| *votes);
        (status.node, voters.map(|(id, (member, _))| (id, member.grpc_addr)).collect())
    }

    /// Some voter lacks something of these.
    fn is_behind(&self, attempts: impl IntoIterator<Item = AttemptKey>) {
        {
            let behind = &mut *self.lock_behind();
            for attempt in attempts {
                if behind.attempts.len() < MOST_BEHIND {
                    behind.attempts.insert(attempt);
                } else {
                    behind.more = true;
                }
            }
        }
        self.bell.notify_one();
    }

    fn lock_behind(&self) -> MutexGuard<'_, Behind> {
        // Whole at every step.
        self.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn uplinks(&self) -> MutexGuard<'_, Uplinks> {
        // Whole at every step.
        self.uplinks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the replicated state says of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// It may still write.
    Alive,
    /// It is over, and its output is as long as this, if that is known: what a lost
    /// worker had is not.
    Over(Option<u64>),
    /// Its run is gone.
    Gone,
}

fn known(state: &State, key: AttemptKey) -> Known {
    let Some(run) = state.run_of(key) else { return Known::Gone };
    let of = |attempt: &&Attempt| attempt.key == key;
    match run.attempts.iter().find(of).map(|attempt| attempt.end.as_ref()) {
        Some(None) => Known::Alive,
        // Without its worker's word nobody knows when it ended, or how much it wrote.
        Some(Some(end)) => Known::Over(end.ended.map(|_| end.output_bytes)),
        // Only the last attempts of a run are kept in its record.
        None => Known::Over(None),
    }
}

/// True if a run was there and is no more. Numbers of runs only grow.
fn is_removed(state: &State, run: RunId) -> bool {
    state.run(run).is_none() && state.runs_before(None).next().is_some_and(|newest| newest.id > run)
}

/// When a run ended.
fn ended(state: &State, run: RunId) -> Option<UtcMillis> {
    match state.run(run)?.state {
        RunState::Finished { at, .. } => Some(at),
        _ => None,
    }
}
