//! Calls between nodes that are not Raft's: who makes one, and whether to believe it.
//!
//! The same header as in Raft's own messages, so that a node of another cluster, a wiped
//! store under a known number, or a node that was taken out is refused here too.

use bytes::Bytes;
use horai_core::ids::NodeId;
use horai_proto::raft as pb;
use openraft::async_runtime::WatchReceiver;
use prost::Message;

use crate::network;
use crate::node::RaftNode;
use crate::state_machine::Machine;

impl<M: Machine> RaftNode<M> {
    /// What a call to another node says of its caller; none if that is no member.
    #[must_use]
    pub fn credentials(&self, to: NodeId) -> Option<Bytes> {
        let store = self.store_of(to.0)?;
        Some(self.inner.shared.header_for(to.0, store).encode_to_vec().into())
    }

    /// Which member makes a call with these [`RaftNode::credentials`].
    ///
    /// # Errors
    /// Why nobody does whom this node believes.
    pub fn admit(&self, credentials: &[u8]) -> Result<NodeId, network::Error> {
        let header = pb::Header::decode(credentials).map_err(|_| network::Error::Header)?;
        let header = self.inner.shared.check(Some(&header), |node| self.store_of(node))?;
        match self.store_of(header.from_node) {
            Some(_) => Ok(NodeId(header.from_node)),
            // Raft must hear of new members from strangers; nobody else must.
            None => Err(network::Error::Stranger(header.from_node)),
        }
    }

    fn store_of(&self, node: u64) -> Option<u128> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.get_node(&node).map(|member| member.store_uuid)
    }
}
