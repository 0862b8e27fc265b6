//! The two things leader services talk to: the replicated state and the
//! workers' streams. As traits, so that all of them run against one state in
//! one process, with any clock and any failure, in tests and simulations.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use horai_core::ids::{LeaderId, RunId, WorkerId};
use horai_core::machine::command::{Actor, Command, Envelope};
use horai_core::machine::outcome::Outcome;
use horai_core::machine::state::State;
use horai_core::model::secret::KeyId;
use horai_core::placement::load::Load;
use horai_core::time::UtcMillis;
use horai_raft::{Error, Leadership, RaftNode};
use tokio::sync::watch;

use crate::session::Sessions;

/// The replicated state, and the way to change it.
pub trait Replica: Send + Sync + 'static {
    /// Looks at this node's state. Applying waits meanwhile: be short, or clone.
    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T;

    /// Who leads.
    fn leadership(&self) -> watch::Receiver<Leadership>;

    /// Cluster time, if it is known.
    fn cluster_now(&self) -> Option<UtcMillis>;

    /// Commits commands in their order and answers for each. A later proposal
    /// that was committed proves of an earlier one that it is applied by then,
    /// or never will be.
    fn propose_all(
        &self,
        envelopes: Vec<Envelope>,
        limit: Duration,
    ) -> impl Future<Output = Vec<Result<Outcome, Error>>> + Send;
}

/// The leader's side of the workers' streams; a clone is the same.
pub trait Orders: Clone + Send + Sync + 'static {
    /// This node leads: workers are told, and attach.
    fn lead(&self, leader: LeaderId);

    /// It no longer does: no orders, acknowledgements or results from now on.
    fn stop_leading(&self, leader: LeaderId);

    /// Workers that are attached and whose streams stand, ascending.
    fn connected(&self) -> Vec<WorkerId>;

    /// Changes whenever [`Orders::connected`] does.
    fn changed(&self) -> watch::Receiver<u64>;

    /// Tells a worker to start what is dispatched to it. A broken stream is no
    /// error: the worker is told when it attaches again.
    fn start(&self, worker: WorkerId, runs: Vec<RunId>);

    /// Tells the worker of a run's live attempt to end it.
    fn cancel(&self, run: RunId);

    /// What connected workers said last of how busy they are.
    fn loads(&self) -> Vec<(WorkerId, Load)> {
        Vec::new()
    }

    /// True if orders can be built of secrets under that key.
    fn has_key(&self, _key: KeyId) -> bool {
        true
    }
}

/// A command of a leader's own service.
pub(super) fn own(leader: LeaderId, command: Command) -> Envelope {
    Envelope { actor: Actor::Leader(leader), request: None, command }
}

/// Commits one command of a leader's own service.
pub(super) async fn propose<R: Replica>(
    replica: &R,
    leader: LeaderId,
    command: Command,
    limit: Duration,
) -> Result<Outcome, Error> {
    let mut done = replica.propose_all(vec![own(leader, command)], limit).await;
    done.pop().unwrap_or(Err(Error::OutcomeUnknown))
}

impl Replica for RaftNode<State> {
    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        Self::read(self, look)
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        Self::leadership(self)
    }

    fn cluster_now(&self) -> Option<UtcMillis> {
        Self::cluster_now(self)
    }

    async fn propose_all(
        &self,
        envelopes: Vec<Envelope>,
        limit: Duration,
    ) -> Vec<Result<Outcome, Error>> {
        Self::propose_all(self, envelopes, limit).await
    }
}

impl Orders for Arc<Sessions> {
    fn lead(&self, leader: LeaderId) {
        Sessions::lead(self, leader);
    }

    fn stop_leading(&self, leader: LeaderId) {
        Sessions::stop_leading(self, leader);
    }

    fn connected(&self) -> Vec<WorkerId> {
        Sessions::connected(self)
    }

    fn changed(&self) -> watch::Receiver<u64> {
        Sessions::changed(self)
    }

    fn start(&self, worker: WorkerId, runs: Vec<RunId>) {
        Sessions::start(self, worker, runs);
    }

    fn cancel(&self, run: RunId) {
        Sessions::cancel(self, run);
    }

    fn loads(&self) -> Vec<(WorkerId, Load)> {
        Sessions::loads(self)
    }

    fn has_key(&self, key: KeyId) -> bool {
        self.keys().has(key)
    }
}
