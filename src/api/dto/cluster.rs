//! The cluster, its nodes and its tokens.

use horai_core::ids::NodeId;
use horai_raft::types::Member;
use serde::{Deserialize, Serialize};

use super::text::{SpanText, Time};

/// One node's view of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterDto {
    /// The cluster's id.
    pub cluster: String,
    /// The node that answers.
    pub node: u64,
    /// Version of its program.
    pub version: String,
    /// Who led last, as this node knows; `/readyz` says whether a leader answers.
    pub leader: Option<LeaderDto>,
    /// Cluster time, if it is known.
    pub time: Option<Time>,
    /// What a person should know of the clocks. Only the leader compares them: empty
    /// at every other node.
    #[serde(default)]
    pub alarms: Vec<String>,
    /// Where it stands: jobs whose `areas` do not name it are not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub area: Option<String>,
    /// Since when the whole cluster starts nothing new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Time>,
    /// All members, by number.
    pub members: Vec<MemberDto>,
    /// How much the cluster holds.
    pub counts: CountsDto,
    /// Log index of the last command applied here.
    pub applied_index: u64,
    /// Equal on two nodes at one index exactly if their states are equal.
    pub state_hash: String,
}

/// Who leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderDto {
    /// Which node.
    pub node: u64,
    /// In which term of Raft.
    pub term: u64,
}

/// A member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberDto {
    /// Its number, never given twice.
    pub node: u64,
    /// The id of its store.
    pub store: String,
    /// Where its Raft port listens.
    pub raft: String,
    /// Where its HTTP API listens.
    pub http: String,
    /// Where its worker port listens.
    pub grpc: String,
    /// True if it votes; false while it catches up.
    pub voter: bool,
    /// True if it leads.
    pub leader: bool,
}

impl MemberDto {
    /// A member as Raft knows it.
    #[must_use]
    pub fn of(node: NodeId, member: &Member, voter: bool, leader: bool) -> Self {
        Self {
            node: node.0,
            store: format!("{:032x}", member.store_uuid),
            raft: member.raft_addr.clone(),
            http: member.http_addr.clone(),
            grpc: member.grpc_addr.clone(),
            voter,
            leader,
        }
    }
}

/// How much the cluster holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CountsDto {
    /// Jobs.
    pub jobs: u64,
    /// Runs kept, live and finished.
    pub runs: u64,
    /// Actions that are not final.
    pub live_actions: u64,
    /// Runs that may be dispatched.
    pub queued: u64,
}

/// Says where the cluster stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AreaRequest {
    /// The area; `null` for none. It must be said: nobody takes an area away by leaving
    /// it out.
    #[serde(deserialize_with = "Option::deserialize")]
    pub area: Option<String>,
}

/// Hands leadership to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferRequest {
    /// To which node.
    pub to: u64,
}

/// A snapshot that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotDto {
    /// The node that has it.
    pub node: u64,
    /// It covers the log up to this index.
    pub index: u64,
}

/// Takes a node out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeRequest {
    /// Which node.
    pub node: u64,
    /// Even if logs are lost with it.
    #[serde(default)]
    pub lose_logs: bool,
}

/// Asks for a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTokenDto {
    /// What it is for: `join`.
    pub purpose: String,
    /// How long it is good; default `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<SpanText>,
}

/// A token, shown once: the cluster keeps only its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenDto {
    /// The secret.
    pub token: String,
    /// When it ends.
    pub expires: Option<Time>,
}

/// An operator vouches for the time after a full stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeRequest {
    /// The time it is.
    pub time: Time,
}
