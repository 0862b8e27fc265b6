//! Who is a member: nodes come, go and take each other's place.
//!
//! A node is first let in by a token (`admission`), which gives it a number;
//! then it makes its store, starts, and announces itself until it is a voter
//! (`verbs`). The leader alone changes the membership, one change at a time
//! (`leader`). A number is given once: a node that was taken out is told so by
//! the leader or, if it was away, by whomever it talks to (`closing`), and its
//! store never starts again. Every step can be asked again, so that a leader
//! that dies in between leaves nothing that the next request does not finish.

use horai_proto::raft as pb;

use crate::state_machine::Machine;

pub mod admission;
pub(crate) mod closing;
mod leader;
mod verbs;

pub use closing::Closed;

/// What one try at a change came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Done,
    /// Ask this node, if anybody is known to lead.
    NotLeader(Option<u64>),
    /// Not yet, and why.
    Again(String),
    /// For good, and why.
    Refused(String),
}

impl<M: Machine> crate::inner::Inner<M> {
    /// Where a node's Raft port listens; empty if that is not known.
    pub(crate) fn address_of(&self, node: Option<u64>) -> String {
        let members = self.members();
        node.and_then(|node| members.get(&node))
            .map_or_else(String::new, |(member, _)| member.raft_addr.clone())
    }

    pub(crate) fn not_leader_at(&self, leader: Option<u64>) -> pb::NotLeaderAt {
        // Its own address would send the caller in a circle.
        let leader = leader.filter(|leader| *leader != self.shared.local.node);
        pb::NotLeaderAt { raft_address: self.address_of(leader) }
    }

    pub(crate) fn step_reply(&self, step: Step) -> pb::ChangeReply {
        use pb::change_reply::Result as Answer;
        let result = match step {
            Step::Done => Answer::Done(pb::ChangeDone {}),
            Step::NotLeader(leader) => Answer::NotLeader(self.not_leader_at(leader)),
            Step::Again(text) => Answer::Again(text),
            Step::Refused(text) => Answer::Refused(text),
        };
        pb::ChangeReply { result: Some(result) }
    }
}
