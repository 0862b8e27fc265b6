//! What a node can be asked about members, whoever leads.
//!
//! Each verb is tried at the leader, over one hop at most, until it is done or
//! refused for good: all of them can be asked twice.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use horai_core::ids::NodeId;
use horai_proto::raft as pb;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Closed, Step};
use crate::inner::Inner;
use crate::network::channels::Client;
use crate::node::{Error, RaftNode};
use crate::state_machine::Machine;
use crate::types::Member;

/// Between two tries.
const RETRY: Duration = Duration::from_millis(50);
/// One try's time.
const TRY: Duration = Duration::from_secs(5);
/// Removing a node, with a transfer before it.
const REMOVE: Duration = Duration::from_secs(30);
/// Handing leadership over.
const TRANSFER: Duration = Duration::from_secs(10);
/// Hints to a leader followed in one round of announcing.
const HINTS: usize = 4;

#[derive(Debug, Clone, Copy)]
enum Verb {
    Remove(u64),
    Transfer(u64),
}

impl<M: Machine> RaftNode<M> {
    /// Announces this node to the leader until it votes, and whenever it starts
    /// again, so that a new address gets known. `me` is how others reach it;
    /// `seeds` are Raft addresses of nodes, beside the members known here.
    ///
    /// # Errors
    /// [`Error::Refused`] if the cluster will never take it: it was not let in,
    /// was removed, or has another store than the cluster knows.
    pub async fn enter(&self, seeds: &[String], me: Member) -> Result<(), Error> {
        let inner = &self.inner;
        let mut clients = BTreeMap::new();
        let mut told = String::new();
        loop {
            if inner.stop.is_cancelled() {
                return Err(Error::Stopped);
            }
            match inner.announce(&mut clients, seeds, &me).await {
                Step::Done => return Ok(()),
                Step::Refused(text) => return Err(Error::Refused(text)),
                Step::NotLeader(_) => {}
                Step::Again(text) => {
                    if text != told {
                        tracing::info!("not a voter yet: {text}");
                        told = text;
                    }
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Takes a node out for good, this one included; asked of any node. A leader
    /// hands over first.
    ///
    /// # Errors
    /// [`Error::Refused`] if it is the last voter, or the others are not enough
    /// for a quorum now; [`Error::NoLeader`] if nobody could be asked.
    pub async fn remove(&self, node: NodeId) -> Result<(), Error> {
        self.inner.carry(Verb::Remove(node.0), Instant::now() + REMOVE).await
    }

    /// Hands leadership to a voter; asked of any node. Returns when it leads.
    ///
    /// # Errors
    /// [`Error::Refused`] if that node has no vote, is not reachable or did not
    /// take over; [`Error::NoLeader`] if nobody could be asked.
    pub async fn transfer(&self, node: NodeId) -> Result<(), Error> {
        self.inner.carry(Verb::Transfer(node.0), Instant::now() + TRANSFER).await
    }

    /// Before a planned stop: lets another voter lead, if this node does. Returns
    /// at once if it does not, or is the only voter.
    ///
    /// # Errors
    /// [`Error::Refused`] if nobody took over; stopping is safe nevertheless.
    pub async fn hand_over(&self) -> Result<(), Error> {
        match self.inner.hand_over(Instant::now() + TRANSFER).await {
            Step::Done | Step::NotLeader(_) => Ok(()),
            Step::Again(text) | Step::Refused(text) => Err(Error::Refused(text)),
        }
    }

    /// Set once this node has stopped by itself, with the reason.
    #[must_use]
    pub fn closed(&self) -> watch::Receiver<Option<Closed>> {
        self.inner.closed.subscribe()
    }
}

impl<M: Machine> Inner<M> {
    async fn announce(
        &self,
        clients: &mut BTreeMap<String, Client>,
        seeds: &[String],
        me: &Member,
    ) -> Step {
        let local = self.shared.local;
        if self.leads() {
            let deadline = Instant::now() + TRY;
            let me = Member { store_uuid: local.store, ..me.clone() };
            return self.enter_here(local.node, me, deadline).await;
        }
        let mut addresses: VecDeque<String> = [self.address_of(self.leader())].into();
        addresses.extend(self.members().into_values().map(|(member, _)| member.raft_addr));
        addresses.extend(seeds.iter().cloned());
        let mut tried = Vec::new();
        let mut last = Step::NotLeader(None);
        while let Some(address) = addresses.pop_front() {
            if address.is_empty() || address == me.raft_addr || tried.contains(&address) {
                continue;
            }
            let client = match clients.get(&address) {
                Some(client) => client.clone(),
                None => match self.channels.own(&address) {
                    Ok(client) => client,
                    Err(error) => return Step::Refused(error.to_string()),
                },
            };
            clients.insert(address.clone(), client.clone());
            let request = pb::EnterRequest {
                header: Some(self.shared.header(0)),
                raft_address: me.raft_addr.clone(),
                api_address: me.http_addr.clone(),
                grpc_address: me.grpc_addr.clone(),
                deadline_ms: millis(TRY),
            };
            match step(
                self,
                async move |request| {
                    let mut client = client;
                    client.enter(request).await
                },
                request,
            )
            .await
            {
                Hop::Step(Step::NotLeader(_)) => {}
                Hop::Step(step) => return step,
                Hop::Elsewhere(leader) if tried.len() < HINTS + seeds.len() => {
                    addresses.push_front(leader);
                }
                Hop::Elsewhere(_) => {}
                Hop::Silent(text) => last = Step::Again(format!("{address}: {text}")),
            }
            tried.push(address);
        }
        last
    }

    /// Tries a verb at the leader until it is done, refused or out of time.
    async fn carry(&self, verb: Verb, deadline: Instant) -> Result<(), Error> {
        let mut last = None;
        loop {
            let mut leadership = self.leadership.clone();
            leadership.mark_unchanged();
            match self.once(verb, deadline).await {
                Step::Done => return Ok(()),
                Step::Refused(text) => return Err(Error::Refused(text)),
                Step::Again(text) => last = Some(text),
                Step::NotLeader(_) => {}
            }
            if self.stop.is_cancelled() {
                return Err(Error::Stopped);
            }
            if Instant::now() + RETRY >= deadline {
                let nobody = Error::NoLeader(self.leader());
                return Err(last.map_or(nobody, Error::Refused));
            }
            let _ = tokio::time::timeout(RETRY, leadership.changed()).await;
        }
    }

    async fn once(&self, verb: Verb, deadline: Instant) -> Step {
        if self.leads() {
            return match verb {
                Verb::Remove(node) => self.remove_here(node, deadline).await,
                Verb::Transfer(to) => self.transfer_here(to, deadline).await,
            };
        }
        let me = self.shared.local.node;
        let Some(leader) = self.leader().filter(|leader| *leader != me) else {
            return Step::NotLeader(None);
        };
        let Some(client) = self.peer(leader) else { return Step::NotLeader(Some(leader)) };
        let change = match verb {
            Verb::Remove(node) => pb::change_request::Change::Remove(node),
            Verb::Transfer(to) => pb::change_request::Change::Transfer(to),
        };
        let limit = deadline.saturating_duration_since(Instant::now()).min(TRY);
        let request = pb::ChangeRequest {
            header: Some(self.shared.header(leader)),
            change: Some(change),
            deadline_ms: millis(limit),
        };
        let call = async move |request| {
            let mut client = client;
            client.change(request).await
        };
        match step(self, call, request).await {
            Hop::Step(step) => step,
            Hop::Elsewhere(_) => Step::NotLeader(None),
            Hop::Silent(text) => Step::Again(format!("node {leader}: {text}")),
        }
    }
}

/// What one hop brought.
enum Hop {
    Step(Step),
    Elsewhere(String),
    Silent(String),
}

async fn step<M: Machine, Q>(
    inner: &Inner<M>,
    call: impl AsyncFnOnce(tonic::Request<Q>) -> Result<tonic::Response<pb::ChangeReply>, tonic::Status>,
    request: Q,
) -> Hop {
    use pb::change_reply::Result as Answer;
    let mut request = tonic::Request::new(request);
    // The answer needs its time on the way, too.
    let limit = TRY + RETRY;
    request.set_timeout(limit);
    let reply = match tokio::time::timeout(limit, call(request)).await {
        Ok(Ok(reply)) => reply.into_inner(),
        Ok(Err(status)) => {
            let text = status.message().to_owned();
            let gone = inner.shared.heed(&status);
            return if gone { Hop::Step(Step::Refused(text)) } else { Hop::Silent(text) };
        }
        Err(_) => return Hop::Silent(format!("no answer within {limit:?}")),
    };
    match reply.result {
        Some(Answer::Done(_)) => Hop::Step(Step::Done),
        Some(Answer::Refused(text)) => Hop::Step(Step::Refused(text)),
        Some(Answer::Again(text)) => Hop::Step(Step::Again(text)),
        Some(Answer::NotLeader(at)) if !at.raft_address.is_empty() => {
            Hop::Elsewhere(at.raft_address)
        }
        Some(Answer::NotLeader(_)) => Hop::Step(Step::NotLeader(None)),
        None => Hop::Silent("an empty answer".to_owned()),
    }
}

fn millis(limit: Duration) -> u64 {
    u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
}
