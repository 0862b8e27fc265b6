//! What a running node does all the time: gathers commands into batches,
//! follows who leads, keeps cluster time, and answers the other nodes.
//!
//! Only [`crate::node`] and the transport reach it. A batch is forwarded at
//! most once, and an outcome that is not known is never called a failure.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use horai_core::ids::{LeaderId, NodeId};
use horai_core::machine::outcome::Outcome;
use horai_core::time::UtcMillis;
use horai_proto::raft as pb;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::raft::ClientWriteResult;
use openraft::raft::responder::ProgressResponder;
use openraft::{Raft, ReadPolicy};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::cluster_clock::Reading;
use crate::network::channels::Channels;
use crate::network::server::{Committed, Desk, Refusal};
use crate::network::{Shared, decode, encode, wall_time};
use crate::state_machine::{Machine, StateHandle, StateMachine};
use crate::types::{EncodedBatch, MAX_COMMAND, TypeConfig};

use crate::node::{Error, Leadership};

/// A batch closes at so many commands,
const BATCH_COMMANDS: usize = 256;
/// so many bytes,
const BATCH_BYTES: usize = 48 << 10;
/// or after this.
const BATCH_WAIT: Duration = Duration::from_millis(1);
/// Proposals waiting for a batch; beyond that callers wait.
pub(crate) const WAITING: usize = 4_096;
/// Batches not yet answered.
const IN_FLIGHT: usize = 64;
/// How often the leader compares wall clocks.
const CLOCK_ROUND: Duration = Duration::from_secs(1);
/// The same while there is no cluster time yet.
const CLOCK_RETRY: Duration = Duration::from_millis(20);

/// Where openraft puts an entry's outcome.
type Written = openraft::alias::OneshotReceiverOf<TypeConfig, ClientWriteResult<TypeConfig>>;

pub(crate) struct Proposal {
    command: Bytes,
    forward: bool,
    answer: oneshot::Sender<Result<(Outcome, u64), Error>>,
}

pub(crate) struct Inner<M: Machine> {
    pub(crate) raft: Raft<TypeConfig, StateMachine<M>>,
    pub(crate) state: StateHandle<M>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) channels: Arc<Channels>,
    pub(crate) proposals: mpsc::Sender<Proposal>,
    pub(crate) leadership: watch::Receiver<Leadership>,
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
    pub(crate) fn leader(&self) -> Option<u64> {
        self.raft.metrics().borrow_watched().current_leader
    }

    fn peer(&self, node: u64) -> Option<crate::network::channels::Client> {
        let metrics = self.raft.metrics();
        let member = metrics.borrow_watched().membership_config.get_node(&node).cloned()?;
        self.channels.quick(node, &member.raft_addr).ok()
    }

    pub(crate) async fn submit(
        &self,
        command: Bytes,
        forward: bool,
        limit: Duration,
    ) -> Result<(Outcome, u64), Error> {
        if command.len() > MAX_COMMAND {
            return Err(Error::TooLarge(command.len()));
        }
        let (answer, answered) = oneshot::channel();
        let wait = async {
            let proposal = Proposal { command, forward, answer };
            self.proposals.send(proposal).await.map_err(|_| Error::Stopped)?;
            answered.await.unwrap_or(Err(Error::OutcomeUnknown))
        };
        tokio::time::timeout(limit, wait).await.unwrap_or(Err(Error::OutcomeUnknown))
    }

    /// Gathers proposals and commits them in the order in which they came.
    pub(crate) async fn batch(self: Arc<Self>, mut queue: mpsc::Receiver<Proposal>) {
        let room = Arc::new(Semaphore::new(IN_FLIGHT));
        let mut held: Option<Proposal> = None;
        loop {
            let first = match held.take() {
                Some(proposal) => proposal,
                None => match queue.recv().await {
                    Some(proposal) => proposal,
                    None => return,
                },
            };
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            let closes = tokio::time::Instant::now() + BATCH_WAIT;
            let mut bytes = first.command.len();
            let forward = first.forward;
            let mut batch = vec![first];
            while batch.len() < BATCH_COMMANDS && bytes < BATCH_BYTES {
                let Ok(Some(next)) = tokio::time::timeout_at(closes, queue.recv()).await else {
                    break;
                };
                if next.forward != forward || bytes + next.command.len() > BATCH_BYTES {
                    held = Some(next);
                    break;
                }
                bytes += next.command.len();
                batch.push(next);
            }
            if self.leader() != Some(self.shared.local.node) {
                let node = Arc::clone(&self);
                tokio::spawn(async move {
                    let done = node.forward(&batch, forward).await;
                    settle(batch, done);
                    drop(permit);
                });
                continue;
            }
            match self.append(&batch).await {
                Err(error) => settle(batch, Err(error)),
                Ok(written) => {
                    tokio::spawn(async move {
                        let done = match written.await {
                            Ok(Ok(done)) => Ok((done.data, done.log_id.index)),
                            // A leader that steps down says "not the leader" of entries
                            // that its successor may still commit.
                            Ok(Err(_)) => Err(Error::OutcomeUnknown),
                            Err(_) => Err(Error::OutcomeUnknown),
                        };
                        settle(batch, done);
                        drop(permit);
                    });
                }
            }
        }
    }

    async fn append(&self, batch: &[Proposal]) -> Result<Written, Error> {
        let now = self.shared.clock(|clock, boot| clock.stamp(boot)).ok_or(Error::NoTime)?;
        let entry = EncodedBatch::new(now, batch.iter().map(|p| &p.command));
        let entry = entry.map_err(|e| Error::Refused(e.to_string()))?;
        let (responder, _, written) = ProgressResponder::new();
        let sent = self.raft.client_write_ff(entry, Some(responder)).await;
        sent.map_err(|_| Error::Stopped)?;
        Ok(written)
    }

    /// Hands a batch to the leader, once.
    async fn forward(
        &self,
        batch: &[Proposal],
        allowed: bool,
    ) -> Result<(Vec<Outcome>, u64), Error> {
        let leader = self.leader();
        let nobody = || Error::NoLeader(leader);
        let leader = leader.filter(|_| allowed).ok_or_else(nobody)?;
        let mut client = self.peer(leader).ok_or_else(nobody)?;
        let limit = Duration::from_secs(10);
        let mut request = tonic::Request::new(pb::ProposeRequest {
            header: Some(self.shared.header(leader)),
            commands: batch.iter().map(|p| p.command.clone()).collect(),
            hops: 1,
            deadline_ms: 10_000,
        });
        request.set_timeout(limit);
        // Once it is sent, a broken call says nothing about the commands.
        let reply = client.propose(request).await.map_err(|_| Error::OutcomeUnknown)?;
        match reply.into_inner().result {
            Some(pb::propose_reply::Result::Done(done)) => {
                let outcomes = done.outcomes.iter().map(|o| decode(o)).collect::<Result<_, _>>();
                Ok((outcomes.map_err(|_| Error::OutcomeUnknown)?, done.index))
            }
            Some(pb::propose_reply::Result::NotLeader(_)) => Err(nobody()),
            Some(pb::propose_reply::Result::Refused(text)) => Err(Error::Refused(text)),
            None => Err(Error::OutcomeUnknown),
        }
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

    async fn own_read_index(&self) -> Result<u64, Refusal> {
        match self.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _)) => Ok(read.index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                Err(Refusal::NotLeader(to.leader_id))
            }
            Err(other) => Err(Refusal::Other(other.to_string())),
        }
    }

    /// Publishes who leads; a node that begins to lead continues cluster time.
    pub(crate) async fn follow(self: Arc<Self>, led: watch::Sender<Leadership>) {
        let mut metrics = self.raft.metrics();
        let me = self.shared.local.node;
        loop {
            let (leader, term) = {
                let now = metrics.borrow_watched();
                (now.current_leader, now.current_term)
            };
            let own = (leader == Some(me)).then_some(LeaderId { term, node: NodeId(me) });
            let now = Leadership { leader: leader.map(NodeId), own };
            let before = *led.borrow();
            if now != before {
                if let Some(own) = own.filter(|_| before.own != own) {
                    let floor = self.state.read(Machine::now);
                    self.shared.clock(|clock, boot| clock.lead(own, floor, boot));
                }
                led.send_replace(now);
            }
            if metrics.changed().await.is_err() {
                return;
            }
        }
    }

    /// While leading: finds the time after a full stop, then leans towards the
    /// voters' wall clocks.
    pub(crate) async fn keep_time(self: Arc<Self>) {
        loop {
            let known = self.shared.clock(|clock, boot| clock.read(boot)).is_some();
            tokio::time::sleep(if known { CLOCK_ROUND } else { CLOCK_RETRY }).await;
            if self.leader() != Some(self.shared.local.node) {
                continue;
            }
            let voters: Vec<u64> =
                self.raft.metrics().borrow_watched().membership_config.voter_ids().collect();
            let asked = voters.iter().map(|voter| self.ask_clock(*voter));
            let readings: Vec<Reading> =
                futures_util::future::join_all(asked).await.into_iter().flatten().collect();
            let alarms = self.shared.clock(|clock, boot| {
                if known {
                    return Ok(clock.observe(&readings, voters.len(), boot));
                }
                let floor = self.state.read(Machine::now);
                let alarm = clock.establish(&readings, voters.len(), floor, boot)?;
                Ok::<_, crate::cluster_clock::Error>(alarm.into_iter().collect())
            });
            match alarms {
                Ok(alarms) => {
                    for alarm in alarms {
                        tracing::warn!(%alarm, "clocks disagree");
                    }
                }
                Err(error) => tracing::warn!(%error, "cluster has no time"),
            }
        }
    }

    async fn ask_clock(&self, voter: u64) -> Option<Reading> {
        let node = NodeId(voter);
        if voter == self.shared.local.node {
            let cluster = self.shared.clock(|clock, boot| clock.read(boot));
            return Some(Reading { node, wall: wall_time(), cluster });
        }
        let mut client = self.peer(voter)?;
        let mut request =
            tonic::Request::new(pb::StatusRequest { header: Some(self.shared.header(voter)) });
        request.set_timeout(Duration::from_millis(500));
        let reply = client.status(request).await.ok()?.into_inner();
        let cluster = reply.header?.time.map(|t| crate::cluster_clock::ClusterNanos(t.nanos));
        Some(Reading { node, wall: UtcMillis(reply.wall_ms), cluster })
    }
}

/// Tells each proposer its outcome; one that left has stopped caring.
fn settle(batch: Vec<Proposal>, done: Result<(Vec<Outcome>, u64), Error>) {
    match done {
        Ok((outcomes, index)) => {
            let mut outcomes = outcomes.into_iter();
            for proposal in batch {
                let outcome = outcomes.next().map(|o| (o, index)).ok_or(Error::OutcomeUnknown);
                let _ = proposal.answer.send(outcome);
            }
        }
        Err(error) => {
            for proposal in batch {
                let _ = proposal.answer.send(Err(error.again()));
            }
        }
    }
}

impl Error {
    /// The same for the next proposer of a batch.
    fn again(&self) -> Self {
        match self {
            Self::NoLeader(leader) => Self::NoLeader(*leader),
            Self::NoTime => Self::NoTime,
            Self::Stopped => Self::Stopped,
            Self::OutcomeUnknown => Self::OutcomeUnknown,
            Self::TooLarge(size) => Self::TooLarge(*size),
            Self::Encode(_) | Self::Refused(_) | Self::Io(_) => Self::Refused(match self {
                Self::Refused(text) => text.clone(),
                other => other.to_string(),
            }),
        }
    }
}

/// The answers to several commands as one: a plain refusal only if certainly none
/// of them was committed.
fn all_or_refusal(
    answers: Vec<Result<(Outcome, u64), Error>>,
) -> Result<Vec<(Outcome, u64)>, Refusal> {
    let count = answers.len();
    let mut done = Vec::with_capacity(count);
    let mut none_committed = Vec::new();
    for answer in answers {
        match answer {
            Ok(outcome) => done.push(outcome),
            Err(Error::NoLeader(leader)) => none_committed.push(Refusal::NotLeader(leader)),
            Err(error @ (Error::Encode(_) | Error::TooLarge(_) | Error::NoTime)) => {
                none_committed.push(Refusal::Other(error.to_string()));
            }
            Err(Error::OutcomeUnknown | Error::Stopped | Error::Refused(_) | Error::Io(_)) => {
                return Err(Refusal::OutcomeUnknown);
            }
        }
    }
    match none_committed.pop() {
        None => Ok(done),
        Some(refusal) if none_committed.len() + 1 == count => Err(refusal),
        Some(_) => Err(Refusal::OutcomeUnknown),
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
            let all = commands.into_iter().map(|command| self.submit(command, false, limit));
            let done = all_or_refusal(futures_util::future::join_all(all).await)?;
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

    fn join(&self, _request: pb::JoinRequest) -> BoxFuture<'_, pb::JoinReply> {
        let text = "nodes are added at the leader: run `horai cluster join` there".to_owned();
        let result = Some(pb::join_reply::Result::Refused(text));
        std::future::ready(pb::JoinReply { result }).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_refused_plainly_only_if_none_of_it_was_committed() {
        let done = || Ok((Outcome::Done, 7));
        let elsewhere = || Err(Error::NoLeader(Some(2)));
        assert_eq!(all_or_refusal(vec![done(), done()]).unwrap().len(), 2);
        for (answers, refusal) in [
            (vec![elsewhere(), elsewhere()], Refusal::NotLeader(Some(2))),
            (vec![done(), elsewhere()], Refusal::OutcomeUnknown),
            (vec![elsewhere(), Err(Error::OutcomeUnknown)], Refusal::OutcomeUnknown),
            (vec![Err(Error::Stopped)], Refusal::OutcomeUnknown),
            (vec![Err(Error::NoTime)], Refusal::Other(Error::NoTime.to_string())),
        ] {
            assert_eq!(all_or_refusal(answers).unwrap_err(), refusal);
        }
    }
}
