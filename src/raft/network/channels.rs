//! Connections to the other nodes, kept apart by purpose.
//!
//! A snapshot or a full replication stream must not hold up a heartbeat behind
//! HTTP/2's flow control, so votes, heartbeats and small calls share one
//! connection per peer, and replication and snapshots open their own. Nothing
//! connects before it is used.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use horai_core::mutants::{self, Mutant};
use horai_proto::raft::raft_link_client::RaftLinkClient;
use tonic::transport::{Channel, Endpoint};

use super::MAX_MESSAGE;
use crate::host::{self, Dial};

/// How long a connection may take to be made.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
/// How often an idle connection is probed, and how long the answer may take.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// A client of another node.
pub(crate) type Client = RaftLinkClient<Channel>;

/// Why no connection can be made.
#[derive(Debug, thiserror::Error)]
#[error("{address:?} is no address of a node: write host:port")]
pub struct Error {
    address: String,
    source: tonic::transport::Error,
}

/// Where each peer is, and the shared connection to it.
#[derive(Default)]
pub struct Channels {
    dial: Option<Dial>,
    quick: Mutex<BTreeMap<u64, (String, Client)>>,
    addresses: Mutex<BTreeMap<u64, String>>,
}

impl std::fmt::Debug for Channels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channels").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Channels {
    /// Nobody is known yet; connections are made with `dial`, if there is one.
    #[must_use]
    pub fn new(dial: Option<Dial>) -> Self {
        Self { dial, ..Self::default() }
    }

    /// Notes where members are now. openraft keeps the clients that it has when
    /// a member moves: they must look here.
    pub(crate) fn moved(&self, addresses: BTreeMap<u64, String>) {
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// Where a member is now, if it is one.
    pub(crate) fn address(&self, node: u64) -> Option<String> {
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.get(&node).cloned()
    }

    /// The shared connection for votes, heartbeats and small calls. A peer that
    /// moved gets a new one.
    ///
    /// # Errors
    /// If `address` is not one.
    pub(crate) fn quick(&self, node: u64, address: &str) -> Result<Client, Error> {
        // A map insert is whole or not there: another holder's panic left nothing half-done.
        let mut quick = self.quick.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, client)) = quick.get(&node)
            && known == address
        {
            return Ok(client.clone());
        }
        let client = self.own(address)?;
        quick.insert(node, (address.to_owned(), client.clone()));
        Ok(client)
    }

    /// A connection of one's own, for replication or a snapshot.
    ///
    /// # Errors
    /// If `address` is not one.
    pub(crate) fn own(&self, address: &str) -> Result<Client, Error> {
        own(address, self.dial.as_ref())
    }

    /// Forgets peers that are no members any more.
    pub fn retain(&self, member: impl Fn(u64) -> bool) {
        let mut quick = self.quick.lock().unwrap_or_else(PoisonError::into_inner);
        quick.retain(|node, _| member(*node));
    }
}

/// A connection of one's own.
pub(crate) fn own(address: &str, dial: Option<&Dial>) -> Result<Client, Error> {
    let is_silent = mutants::on(Mutant::NoDeadlines);
    let keepalive = if is_silent { Duration::from_secs(86_400) } else { KEEPALIVE };
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|source| Error { address: address.to_owned(), source })?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(keepalive)
        .keep_alive_timeout(keepalive)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(8 << 20);
    let channel = host::connect_lazy(&endpoint, dial);
    Ok(RaftLinkClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE))
}
