//! A node that must not go on stops itself, and says why.
//!
//! Two reasons: it was taken out of the cluster, or its storage failed. Both
//! are final for this process; the first for the store, too.

use std::sync::Arc;

use openraft::async_runtime::WatchReceiver;

use crate::host::blocking;
use crate::inner::Inner;
use crate::state_machine::Machine;

/// Why a node stopped by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// It was taken out of the cluster and cannot come back under its number.
    #[error("this node was removed from the cluster")]
    Removed,
    /// Its disk failed or is full; the text says what it said.
    #[error("the storage of this node failed: {0}")]
    StorageFailed(String),
    /// Raft ended for another reason.
    #[error("raft stopped on this node: {0}")]
    RaftStopped(String),
}

impl<M: Machine> Inner<M> {
    /// The storage failed outside of what openraft does.
    pub(crate) fn fail(&self, problem: String) {
        self.broken.send_replace(Some(problem));
    }

    /// Waits for a reason to stop, and stops.
    pub(crate) async fn guard(self: Arc<Self>) {
        let mut metrics = self.raft.metrics();
        let mut retired = self.shared.retired();
        let mut broken = self.broken.subscribe();
        let closed = loop {
            // A core that stops because it was told to is no failure.
            if self.stop.is_cancelled() {
                return;
            }
            let failed = metrics.borrow_watched().running_state.clone().err();
            if let Some(fatal) = failed {
                break self.reason(fatal.to_string());
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                changed = metrics.changed() => if changed.is_err() {
                    break self.reason("its core has ended".to_owned());
                },
                problem = broken.wait_for(Option::is_some) => if let Ok(problem) = problem {
                    break Closed::StorageFailed(problem.clone().unwrap_or_default());
                },
                told = retired.wait_for(|told| *told) => if told.is_ok() {
                    break Closed::Removed;
                },
            }
        };
        if closed == Closed::Removed {
            let identity = Arc::clone(&self.identity);
            let mark = move || identity.update(|i| i.retired = true);
            if let Err(error) = blocking(&*self.shared.host, mark).await {
                // It is refused again by whomever it talks to.
                tracing::warn!(%error, "cannot write down that this node was removed");
            }
        }
        tracing::error!("{closed}");
        self.end_leadership();
        self.closed.send_replace(Some(closed));
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "raft core did not stop cleanly");
        }
    }

    /// Why the core ended: its storage, if that failed.
    fn reason(&self, fatal: String) -> Closed {
        match self.snapshots.upgrade().and_then(|store| store.failed()) {
            Some(text) => Closed::StorageFailed(text),
            None => Closed::RaftStopped(fatal),
        }
    }
}
