//! The leader's side of every change of members.
//!
//! One change at a time, under one lock. A change is made in openraft first,
//! through a joint membership, and recorded in the state afterwards; what a
//! dying leader left between the two is finished when the change is asked for
//! again. A change that would leave a quorum that does not answer is refused
//! before anything is done.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use horai_core::ids::NodeId;
use horai_core::machine::command::{Actor, Command, Envelope};
use horai_core::machine::outcome::Outcome;
use horai_core::mutants::{self, Mutant};
use horai_proto::raft as pb;
use openraft::async_runtime::WatchReceiver;
use openraft::{ChangeMembers, Instant as _};
use tokio::time::Instant;

use super::Step;
use crate::inner::{Inner, write_error};
use crate::network::server::Refusal;
use crate::node::Error;
use crate::state_machine::Machine;
use crate::types::Member;

/// A learner so few entries behind may vote.
const CLOSE: u64 = 256;
/// How long one announcement waits for the learner; then it announces again.
const CATCH_UP: Duration = Duration::from_secs(2);
/// How long a transfer may take before it has failed.
const TRANSFER: Duration = Duration::from_secs(3);
/// A voter that was silent for so many leases does not count as reachable.
const SILENT_LEASES: u32 = 2;
/// Between two looks at who answers.
const LOOK: Duration = Duration::from_millis(20);
/// Finishing what another leader began.
const SETTLE: Duration = Duration::from_secs(30);
/// A removed node is told so often, so far apart.
const NOTICES: (u32, Duration) = (20, Duration::from_millis(250));

type Change = ChangeMembers<u64, Member>;

impl<M: Machine> Inner<M> {
    /// All members, and whether each votes.
    pub(crate) fn members(&self) -> BTreeMap<u64, (Member, bool)> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = &metrics.membership_config;
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        membership.nodes().map(|(id, m)| (*id, (m.clone(), voters.contains(id)))).collect()
    }

    /// Runs one change under the lock, if this node leads, until the deadline.
    async fn alone(&self, deadline: Instant, work: impl Future<Output = Step>) -> Step {
        let change = async {
            let _one = self.changing.lock().await;
            if !self.leads() {
                return Step::NotLeader(self.leader());
            }
            // Left by a leader that died between the two halves of a change.
            match self.finish_joint().await {
                Step::Done => work.await,
                other => other,
            }
        };
        let late = || Step::Again("the members' change was not committed in time".to_owned());
        tokio::time::timeout_at(deadline, change).await.unwrap_or_else(|_| late())
    }

    /// Finishes what an earlier leader began: a joint membership, and the record
    /// of a node whose place was taken.
    pub(crate) async fn settle_members(self: Arc<Self>) {
        let deadline = Instant::now() + SETTLE;
        let settle = async {
            let members = self.members();
            for (_, taken) in self.taken_places(&members) {
                match self.retire(taken, None, deadline).await {
                    Step::Done => {}
                    other => return other,
                }
            }
            Step::Done
        };
        match self.alone(deadline, settle).await {
            Step::Done | Step::NotLeader(_) => {}
            Step::Again(text) | Step::Refused(text) => {
                tracing::warn!(
                    "a change of members begun by another leader is not finished: {text}"
                );
            }
        }
    }

    /// Voters, each with the node that it replaced and that is not recorded as gone.
    fn taken_places(&self, members: &BTreeMap<u64, (Member, bool)>) -> Vec<(u64, u64)> {
        self.state.read(|machine| {
            let lost = |node: &u64| Some((*node, machine.admission(NodeId(*node))?.replaces?.0));
            let gone = |node: u64| machine.admission(NodeId(node)).is_some_and(|a| a.retired);
            let pairs = voters(members).iter().filter_map(lost).collect::<Vec<_>>();
            pairs.into_iter().filter(|(_, l)| !members.contains_key(l) && !gone(*l)).collect()
        })
    }

    /// Lets another voter lead, if this node leads and there is one.
    pub(crate) async fn hand_over(&self, deadline: Instant) -> Step {
        if voters(&self.members()).len() < 2 {
            return Step::Done;
        }
        match self.alone(deadline, self.step_aside(None)).await {
            Step::NotLeader(_) => Step::Done,
            other => other,
        }
    }

    async fn finish_joint(&self) -> Step {
        let joint = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.membership().get_joint_config().len() > 1
        };
        if joint { self.change(Change::AddVoterIds(BTreeSet::new())).await } else { Step::Done }
    }

    async fn change(&self, change: Change) -> Step {
        match self.raft.change_membership(change, false).await {
            Ok(_) => Step::Done,
            Err(error) => step_of(write_error(&error)),
        }
    }

    /// This node knows of no admission. That is final only if it still leads: another
    /// leader may have let the node in while this one was cut off.
    async fn unknown(&self, node: u64) -> Step {
        match self.own_read_index().await {
            Ok(_) => Step::Refused(format!(
                "node {node} was never let in: run `horai cluster join` with a token"
            )),
            Err(Refusal::NotLeader(leader)) => Step::NotLeader(leader),
            Err(other) => Step::Again(other.to_string()),
        }
    }

    /// Takes an admitted node in, gives it a vote, and takes the node out whose
    /// place it takes.
    pub(crate) async fn enter_here(&self, node: u64, member: Member, deadline: Instant) -> Step {
        if member.raft_addr.is_empty() || member.store_uuid == 0 {
            return Step::Refused("the node's raft address or store id is missing".to_owned());
        }
        self.alone(deadline, self.enter(node, member, deadline)).await
    }

    async fn enter(&self, node: u64, member: Member, deadline: Instant) -> Step {
        let members = self.members();
        let admission = self.state.read(|machine| machine.admission(NodeId(node)));
        let known = members.get(&node).map(|(known, _)| known.store_uuid);
        let known = known.or(admission.map(|a| a.store).filter(|store| *store != 0));
        if admission.is_some_and(|a| a.retired) {
            return Step::Refused(crate::open::Error::Retired(node).to_string());
        }
        match known {
            None => return self.unknown(node).await,
            Some(known) if known != member.store_uuid && !mutants::on(Mutant::OtherStoreTaken) => {
                let theirs = member.store_uuid;
                let wiped = crate::network::Error::Store { node, theirs, known };
                return Step::Refused(wiped.to_string());
            }
            Some(_) => {}
        }
        let replaced = admission.and_then(|a| a.replaces).map(|lost| lost.0);
        let votes = members.get(&node).is_some_and(|(_, votes)| *votes);
        let moved = members.get(&node).is_some_and(|(known, _)| *known != member);
        let step = match (members.contains_key(&node), moved) {
            (false, _) => self.change(Change::AddNodes([(node, member)].into())).await,
            (true, true) => self.change(Change::SetNodes([(node, member)].into())).await,
            (true, false) => Step::Done,
        };
        if step != Step::Done {
            return step;
        }
        let lost = replaced.filter(|lost| members.contains_key(lost));
        if !votes || lost.is_some() {
            if lost == Some(self.shared.local.node) {
                return self.step_aside(None).await;
            }
            let until = deadline.min(Instant::now() + CATCH_UP);
            if let Err(text) = self.caught_up(node, until).await {
                return Step::Again(text);
            }
            let mut changes = vec![Change::AddVoterIds([node].into())];
            match lost.and_then(|lost| Some((lost, members.get(&lost)?.1))) {
                Some((lost, true)) => changes.push(Change::RemoveVoters([lost].into())),
                Some((lost, false)) => changes.push(Change::RemoveNodes([lost].into())),
                None => {}
            }
            let step = self.change(Change::Batch(changes)).await;
            if step != Step::Done {
                return step;
            }
        }
        match replaced {
            Some(lost) => self.retire(lost, members.get(&lost), deadline).await,
            None => Step::Done,
        }
    }

    /// Waits until a learner has nearly all entries.
    async fn caught_up(&self, node: u64, until: Instant) -> Result<(), String> {
        let mut metrics = self.raft.metrics();
        loop {
            let (last, matched) = {
                let now = metrics.borrow_watched();
                let matched = now.replication.as_ref().and_then(|all| all.get(&node).copied());
                (now.last_log_index.unwrap_or(0), matched.flatten().map(|id| id.index))
            };
            if matched.is_some_and(|matched| matched + CLOSE >= last) {
                return Ok(());
            }
            let more = tokio::time::timeout_at(until, metrics.changed()).await;
            if !matches!(more, Ok(Ok(()))) {
                let has = matched.map_or_else(|| "nothing".to_owned(), |index| index.to_string());
                return Err(format!("node {node} is catching up: it has {has} of {last}"));
            }
        }
    }

    /// Takes a node out for good.
    pub(crate) async fn remove_here(&self, node: u64, deadline: Instant) -> Step {
        self.alone(deadline, self.remove(node, deadline)).await
    }

    async fn remove(&self, node: u64, deadline: Instant) -> Step {
        let members = self.members();
        let Some((_, votes)) = members.get(&node) else {
            let admission = self.state.read(|machine| machine.admission(NodeId(node)));
            return match admission {
                Some(admission) if admission.retired => Step::Done,
                Some(_) => self.retire(node, None, deadline).await,
                // It was a member once, and leaves no record before it is retired.
                None if node == NodeId::FOUNDER.0 => self.retire(node, None, deadline).await,
                None => Step::Refused(format!("node {node} is no member of this cluster")),
            };
        };
        if *votes {
            let mut rest = voters(&members);
            rest.remove(&node);
            if rest.is_empty() {
                return Step::Refused(format!(
                    "node {node} is the last voter and holds all that the cluster knows: let \
                     another node join first"
                ));
            }
            let needed = rest.len() / 2 + 1;
            let enough = |live: &BTreeSet<u64>| rest.intersection(live).count() >= needed;
            if !self.hears(enough).await {
                let answering = rest.intersection(&self.reachable()).count();
                return Step::Refused(format!(
                    "without node {node}, {needed} of {} voters must answer, and only {answering} \
                     do: bring the others back, or replace those that are lost",
                    rest.len()
                ));
            }
            if node == self.shared.local.node {
                return self.step_aside(None).await;
            }
        }
        let change: Change = if *votes {
            Change::RemoveVoters([node].into())
        } else {
            Change::RemoveNodes([node].into())
        };
        match self.change(change).await {
            Step::Done => self.retire(node, members.get(&node), deadline).await,
            other => other,
        }
    }

    /// Records that a node was taken out, and lets it know.
    async fn retire(&self, node: u64, was: Option<&(Member, bool)>, deadline: Instant) -> Step {
        let gone = self.state.read(|machine| machine.admission(NodeId(node)));
        if !gone.is_some_and(|admission| admission.retired) {
            let envelope = Envelope {
                // No leader service: it may run before those have begun.
                actor: Actor::User("cluster membership".to_owned()),
                request: None,
                command: Command::RetireNode { node: NodeId(node) },
            };
            match self.propose_here(&envelope, deadline).await {
                Ok(Outcome::Rejected(reject)) => return Step::Refused(reject.to_string()),
                Ok(_) => {}
                Err(error) => return step_of(error),
            }
        }
        self.channels.retain(|known| known != node);
        if let Some((member, _)) = was {
            self.notify(node, member);
        }
        Step::Done
    }

    /// Tells a removed node, as long as there is hope that it hears.
    fn notify(&self, node: u64, member: &Member) {
        let Ok(mut client) = self.channels.own(&member.raft_addr) else { return };
        let notice = pb::RetireNotice { header: Some(self.shared.header(node)) };
        let stop = self.stop.clone();
        tokio::spawn(async move {
            let (times, apart) = NOTICES;
            for _ in 0..times {
                let mut request = tonic::Request::new(notice.clone());
                request.set_timeout(apart);
                if client.retire(request).await.is_ok() {
                    return;
                }
                if stop.run_until_cancelled(tokio::time::sleep(apart)).await.is_none() {
                    return;
                }
            }
            // It learns from whomever it talks to when it comes back.
            tracing::info!(node, "a removed node could not be told");
        });
    }

    /// Hands leadership to a voter.
    pub(crate) async fn transfer_here(&self, to: u64, deadline: Instant) -> Step {
        let transfer = async {
            if to == self.shared.local.node {
                return Step::Done;
            }
            match self.members().get(&to) {
                Some((_, true)) => {}
                Some((_, false)) => {
                    return Step::Refused(format!("node {to} has no vote yet: wait for it"));
                }
                None => return Step::Refused(format!("node {to} is no member of this cluster")),
            }
            if !self.hears(|live| live.contains(&to)).await {
                return Step::Refused(format!("node {to} does not answer: start it first"));
            }
            match self.step_aside(Some(to)).await {
                Step::NotLeader(Some(leader)) if leader == to => Step::Done,
                Step::NotLeader(leader) => Step::Again(format!(
                    "node {to} did not take over; known to lead now: {leader:?}"
                )),
                other => other,
            }
        };
        self.alone(deadline, transfer).await
    }

    /// Lets another voter lead: the one asked for, or whoever is furthest.
    async fn step_aside(&self, to: Option<u64>) -> Step {
        let Some(to) = to.or_else(|| self.successor()) else {
            return Step::Again("no other voter answers that could lead".to_owned());
        };
        if self.raft.trigger().transfer_leader(to).await.is_err() {
            return step_of(Error::Stopped);
        }
        let me = self.shared.local.node;
        let mut leadership = self.leadership.clone();
        let moved = leadership.wait_for(|now| now.leader.is_some_and(|leader| leader.0 != me));
        match tokio::time::timeout(TRANSFER, moved).await {
            Ok(Ok(now)) => Step::NotLeader(now.leader.map(|leader| leader.0)),
            Ok(Err(_)) => step_of(Error::Stopped),
            Err(_) => Step::Again(format!("node {to} did not take over: it may be behind")),
        }
    }

    fn successor(&self) -> Option<u64> {
        let live = self.reachable();
        let me = self.shared.local.node;
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let matched = metrics.replication.as_ref()?;
        let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
        let others = voters.into_iter().filter(|voter| *voter != me && live.contains(voter));
        others.max_by_key(|voter| matched.get(voter).copied().flatten().map(|id| id.index))
    }

    /// Waits until enough members answer. A leader of a moment has heard nobody
    /// yet, and must not call them silent.
    async fn hears(&self, enough: impl Fn(&BTreeSet<u64>) -> bool) -> bool {
        let until = Instant::now() + self.lease * SILENT_LEASES;
        while !enough(&self.reachable()) {
            if Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
        true
    }

    /// Members that answered this leader a moment ago, itself among them.
    fn reachable(&self) -> BTreeSet<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let silent = self.lease * SILENT_LEASES;
        let heard = metrics
            .heartbeat
            .iter()
            .flatten()
            .filter(|(_, at)| at.is_some_and(|at| at.elapsed() < silent));
        heard.map(|(node, _)| *node).chain([self.shared.local.node]).collect()
    }
}

fn voters(members: &BTreeMap<u64, (Member, bool)>) -> BTreeSet<u64> {
    members.iter().filter(|(_, (_, votes))| *votes).map(|(id, _)| *id).collect()
}

fn step_of(error: Error) -> Step {
    match error {
        Error::NoLeader(leader) => Step::NotLeader(leader),
        Error::Refused(text) => Step::Again(text),
        other => Step::Again(other.to_string()),
    }
}
