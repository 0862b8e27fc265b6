//! What a running node does all the time: follows who leads, keeps cluster
//! time, and answers the other nodes.
//!
//! Only [`crate::node`] and the transport reach it. It never forwards what
//! another node forwarded.

use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use horai_core::ids::{LeaderId, NodeId};
use horai_core::mutants::{self, Mutant};
use horai_core::time::UtcMillis;
use horai_proto::raft as pb;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::{Raft, ReadPolicy};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::answers::all_or_refusal;
use crate::batcher::{BATCH_COMMANDS, Intake};
use crate::cluster_clock::Reading;
use crate::identity::IdentityFile;
use crate::membership::{Closed, Step};
use crate::network::channels::Channels;
use crate::network::server::{Committed, Desk, Refusal};
use crate::network::{self, Shared, encode};
use crate::node::{Error, Leadership};
use crate::snapshot_store::SnapshotStore;
use crate::state_machine::{Machine, StateHandle, StateMachine};
use crate::types::{Member, TypeConfig};

/// How often the leader compares wall clocks.
const CLOCK_ROUND: Duration = Duration::from_secs(1);
/// The same while there is no cluster time yet.
const CLOCK_RETRY: Duration = Duration::from_millis(20);

pub(crate) struct Inner<M: Machine> {
    pub(crate) raft: Raft<TypeConfig, StateMachine<M>>,
    pub(crate) state: StateHandle<M>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) channels: Arc<Channels>,
    pub(crate) intake: Intake,
    pub(crate) led: watch::Sender<Leadership>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) closed: watch::Sender<Option<Closed>>,
    /// Set when the storage failed outside of what openraft does.
    pub(crate) broken: watch::Sender<Option<String>>,
    pub(crate) identity: Arc<IdentityFile>,
    /// Weak, so that the store is free as soon as the threads have ended.
    pub(crate) snapshots: Weak<SnapshotStore>,
    /// Held over a change of members: one at a time.
    pub(crate) changing: Mutex<()>,
    /// What is wrong with the clocks, as of the last look.
    pub(crate) alarms: std::sync::Mutex<Vec<String>>,
    /// For so long a leader that was heard is believed to live.
    pub(crate) lease: Duration,
    pub(crate) stop: CancellationToken,
}

pub(crate) fn write_error(error: &RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Error {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => Error::NoLeader(to.leader_id),
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => Error::OutcomeUnknown,
        RaftError::APIError(other) => Error::Refused(other.to_string()),
        RaftError::Fatal(_) => Error::Stopped,
    }
}

impl<M: Machine> Inner<M> {
    /// Whether this node leads and takes proposals.
    pub(crate) fn leads(&self) -> bool {
        self.leadership.borrow().own.is_some()
    }

    pub(crate) fn leader(&self) -> Option<u64> {
        self.raft.metrics().borrow_watched().current_leader
    }

    pub(crate) fn peer(&self, node: u64) -> Option<crate::network::channels::Client> {
        let metrics = self.raft.metrics();
        let member = metrics.borrow_watched().membership_config.get_node(&node).cloned()?;
        self.channels.quick(node, &member.raft_addr).ok()
    }

    /// What a linearizable read must have applied.
    pub(crate) async fn committed_index(&self, limit: Duration) -> Result<u64, Error> {
        match self.own_read_index().await {
            Err(Refusal::NotLeader(Some(leader))) if leader != self.shared.local.node => {
                let nobody = || Error::NoLeader(Some(leader));
                let mut client = self.peer(leader).ok_or_else(nobody)?;
                let mut request = tonic::Request::new(pb::ReadIndexRequest {
                    header: Some(self.shared.header(leader)),
                    deadline_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
                });
                request.set_timeout(limit);
                let reply = client.read_index(request).await.map_err(|_| nobody())?;
                match reply.into_inner().result {
                    Some(pb::read_index_reply::Result::Index(index)) => Ok(index),
                    Some(_) | None => Err(nobody()),
                }
            }
            Err(Refusal::NotLeader(leader)) => Err(Error::NoLeader(leader)),
            Err(refusal) => Err(Error::Refused(refusal.to_string())),
            Ok(index) => Ok(index),
        }
    }

    /// The index up to which everything is committed, by a quorum that still follows.
    pub(crate) async fn own_read_index(&self) -> Result<u64, Refusal> {
        match self.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _)) => Ok(read.index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                Err(Refusal::NotLeader(to.leader_id))
            }
            // Who cannot reach a quorum does not lead for long: worth another try.
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(Refusal::NotLeader(None))
            }
            // Its storage has failed, and it ends: it leads nobody.
            Err(RaftError::Fatal(_)) => Err(Refusal::NotLeader(None)),
        }
    }

    /// Publishes who leads; a node that begins to lead continues cluster time.
    ///
    /// A leader leads from the moment when an entry of its own term is applied
    /// here. Before, openraft refuses writes for want of a quorum that heard of
    /// it, and entries of earlier leaders may wait to be applied: cluster time
    /// must not begin below their stamps.
    pub(crate) async fn follow(self: Arc<Self>) {
        let mut metrics = self.raft.metrics();
        let me = self.shared.local.node;
        let mut members = None;
        loop {
            let (leader, term, applied, newest) = {
                let now = metrics.borrow_watched();
                let newest = *now.membership_config.log_id();
                // A core that has ended still shows whom it knew last.
                let leader = now.current_leader.filter(|_| now.running_state.is_ok());
                (leader, now.current_term, now.last_applied, newest)
            };
            if members != Some(newest) {
                members = Some(newest);
                let known = self.members();
                if let Some((myself, _)) = known.get(&me) {
                    self.check_own_store(myself.store_uuid);
                }
                let known = known.into_iter();
                self.channels
                    .moved(known.map(|(id, (member, _))| (id, member.raft_addr)).collect());
            }
            let ready =
                applied.is_some_and(|id| id.leader_id.term == term && id.leader_id.node_id == me);
            let own = (leader == Some(me) && ready).then_some(LeaderId { term, node: NodeId(me) });
            let now = Leadership { leader: leader.map(NodeId), own };
            let before = *self.led.borrow();
            if now != before {
                if let Some(own) = own.filter(|_| before.own != own) {
                    let floor = self.state.read(Machine::now);
                    self.shared.clock(|clock, boot| clock.lead(own, floor, boot));
                }
                self.publish(now);
                if own.is_some() && before.own != own {
                    tokio::spawn(Arc::clone(&self).settle_members());
                }
            }
            if metrics.changed().await.is_err() {
                self.publish(Leadership::default());
                return;
            }
        }
    }

    /// A store that took the place of the one that the cluster knows must not go
    /// on: nobody counts what it says, and it would ask for votes for ever.
    fn check_own_store(&self, known: u128) {
        let local = self.shared.local;
        let is_other = known != 0 && known != local.store;
        if is_other && !mutants::on(Mutant::OtherStoreTaken) {
            let error = network::Error::Store { node: local.node, theirs: local.store, known };
            self.fail(error.to_string());
        }
    }

    fn publish(&self, now: Leadership) {
        // Under the channel's lock, so that nothing comes after `end_leadership`.
        self.led.send_if_modified(|led| {
            let publish = !self.stop.is_cancelled() && *led != now;
            if publish {
                *led = now;
            }
            publish
        });
    }

    /// Stops what runs here all the time; from now on nobody leads, as far as this
    /// node says.
    pub(crate) fn end_leadership(&self) {
        self.stop.cancel();
        self.led.send_replace(Leadership::default());
    }

    /// While leading: finds the time after a full stop, then leans towards the
    /// voters' wall clocks.
    pub(crate) async fn keep_time(self: Arc<Self>) {
        loop {
            let known = self.shared.clock(|clock, boot| clock.read(boot)).is_some();
            tokio::time::sleep(if known { CLOCK_ROUND } else { CLOCK_RETRY }).await;
            if !self.leads() {
                // Whoever leads looks at all clocks.
                self.alarm(Vec::new());
                continue;
            }
            let voters: Vec<u64> =
                self.raft.metrics().borrow_watched().membership_config.voter_ids().collect();
            let asked = voters.iter().map(|voter| self.ask_clock(*voter));
            let readings: Vec<Reading> =
                futures_util::future::join_all(asked).await.into_iter().flatten().collect();
            // It may have been deposed meanwhile.
            let Some(me) = self.leadership.borrow().own else { continue };
            let alarms = self.shared.clock(|clock, boot| {
                if known {
                    return Ok(clock.observe(&readings, voters.len(), boot));
                }
                let floor = self.state.read(Machine::now);
                let alarm = clock.establish(me, &readings, voters.len(), floor, boot)?;
                Ok::<_, crate::cluster_clock::Error>(alarm.into_iter().collect())
            });
            self.alarm(match alarms {
                Ok(alarms) => alarms.iter().map(ToString::to_string).collect(),
                Err(error) => vec![format!("the cluster has no time: {error}")],
            });
        }
    }

    /// Notes what is wrong; says it once, and not again in each round.
    fn alarm(&self, alarms: Vec<String>) {
        let mut known = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != alarms {
            for alarm in alarms.iter().filter(|alarm| !known.contains(alarm)) {
                tracing::warn!("{alarm}");
            }
            *known = alarms;
        }
    }

    async fn ask_clock(&self, voter: u64) -> Option<Reading> {
        let node = NodeId(voter);
        let (cluster, asked) = self.shared.clock(|clock, boot| (clock.read(boot), boot));
        if voter == self.shared.local.node {
            let wall = self.shared.host.wall_time();
            return Some(Reading { node, asked, answered: asked, wall, cluster });
        }
        let mut client = self.peer(voter)?;
        let mut request =
            tonic::Request::new(pb::StatusRequest { header: Some(self.shared.header(voter)) });
        request.set_timeout(Duration::from_millis(500));
        let reply = client.status(request).await.ok()?.into_inner();
        let cluster = reply.header?.time.map(|t| crate::cluster_clock::ClusterNanos(t.nanos));
        // Others may be silent for as long as anybody waits for them: that is no part of it.
        let answered = self.shared.clock(|_, boot| boot);
        Some(Reading { node, asked, answered, wall: UtcMillis(reply.wall_ms), cluster })
    }
}

impl<M: Machine> Desk for Inner<M> {
    fn propose(
        &self,
        commands: Vec<Bytes>,
        limit: Duration,
    ) -> BoxFuture<'_, Result<Committed, Refusal>> {
        async move {
            if commands.len() > BATCH_COMMANDS {
                let text = format!("{} commands at once, at most {BATCH_COMMANDS}", commands.len());
                return Err(Refusal::Other(text));
            }
            // The answer needs a part of the caller's time for its way back.
            let deadline = Instant::now() + (limit - limit / 10);
            let done = self.propose(&commands, false, deadline).await;
            let done = all_or_refusal(done)?;
            let index = done.iter().map(|(_, index)| *index).max().unwrap_or(0);
            let outcomes =
                done.iter().map(|(outcome, _)| encode(outcome)).collect::<Result<_, _>>();
            // They are committed; only the answer cannot be written down.
            let outcomes = outcomes.map_err(|_| Refusal::OutcomeUnknown)?;
            Ok(Committed { outcomes, index })
        }
        .boxed()
    }

    fn read_index(&self, limit: Duration) -> BoxFuture<'_, Result<u64, Refusal>> {
        async move {
            let asked = tokio::time::timeout(limit, self.own_read_index()).await;
            asked.unwrap_or_else(|_| Err(Refusal::Other("no quorum answered in time".to_owned())))
        }
        .boxed()
    }

    fn join(&self, request: pb::JoinRequest, limit: Duration) -> BoxFuture<'_, pb::JoinReply> {
        self.admit(request, limit).boxed()
    }

    fn enter(&self, request: pb::EnterRequest, limit: Duration) -> BoxFuture<'_, pb::ChangeReply> {
        async move {
            let Some(header) = request.header else {
                return self.step_reply(Step::Refused("no header".to_owned()));
            };
            let store = <[u8; 16]>::try_from(header.from_store.as_ref()).map(u128::from_be_bytes);
            let member = Member {
                raft_addr: request.raft_address,
                http_addr: request.api_address,
                grpc_addr: request.grpc_address,
                store_uuid: store.unwrap_or(0),
            };
            let deadline = Instant::now() + limit;
            let step = self.enter_here(header.from_node, member, deadline).await;
            self.step_reply(step)
        }
        .boxed()
    }

    fn change(
        &self,
        request: pb::ChangeRequest,
        limit: Duration,
    ) -> BoxFuture<'_, pb::ChangeReply> {
        use pb::change_request::Change;
        async move {
            let deadline = Instant::now() + limit;
            let step = match request.change {
                Some(Change::Remove(node)) => self.remove_here(node, deadline).await,
                Some(Change::Transfer(to)) => self.transfer_here(to, deadline).await,
                None => Step::Refused("the request names no change".to_owned()),
            };
            self.step_reply(step)
        }
        .boxed()
    }

    fn is_retired(&self, node: u64) -> bool {
        let admission = self.state.read(|machine| machine.admission(NodeId(node)));
        admission.is_some_and(|admission| admission.retired)
    }

    fn disowned(&self, problem: String) {
        self.fail(problem);
    }
}
