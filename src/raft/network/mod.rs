//! Node to node: who a message is from, how payloads are packed, what time it is.
//!
//! [`channels`] keeps connections apart by purpose, [`client`] is what openraft
//! calls, [`server`] answers. Nothing here decides anything about Raft; it
//! refuses messages of other clusters, other targets and unknown stores, and
//! hands the rest on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use horai_core::ids::{LeaderId, NodeId};
use horai_core::mutants::{self, Mutant};
use horai_proto::raft as pb;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::cluster_clock::{BootTime, ClusterClock, ClusterNanos};
use crate::host::Host;

pub mod channels;
pub mod client;
pub mod server;

/// Version of every payload's encoding.
const VERSION: u8 = 1;

/// Marks a refusal for ever: the sender was taken out of the cluster.
pub(crate) const RETIRED: &str = "horai-retired";

/// The largest message either side takes: an entry of 4 MiB with its frame, and room.
pub(crate) const MAX_MESSAGE: usize = 64 << 20;

/// Nodes whose clocks are kept in mind; a cluster has fewer.
const MAX_ECHOES: usize = 64;
/// Stores of refused nodes that are told of.
const MAX_STRANGERS: usize = 64;

/// Why a payload or header cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No bytes at all.
    #[error("empty payload")]
    Empty,
    /// Sent by a newer program.
    #[error("payload of version {0}, this program knows {VERSION}: upgrade this node")]
    Newer(u8),
    /// Not what it should be.
    #[error("damaged payload")]
    Damaged(#[from] postcard::Error),
    /// The header is missing or an id has not 16 bytes.
    #[error("message without a proper header")]
    Header,
    /// Of another cluster.
    #[error("message of cluster {theirs:032x}, this node belongs to {mine:032x}: check addresses")]
    Cluster {
        /// Of the sender.
        theirs: u128,
        /// Of this node.
        mine: u128,
    },
    /// Meant for somebody else.
    #[error("message for node {meant}, this is node {me}: check the member's raft address")]
    Target {
        /// In the header.
        meant: u64,
        /// This node.
        me: u64,
    },
    /// A node that was taken out speaks.
    #[error(
        "node {0} was removed from the cluster and cannot come back under its number: join it anew"
    )]
    Retired(u64),
    /// Not a member, as far as this node knows.
    #[error("node {0} is no member of the cluster: this node may not have heard of it yet")]
    Stranger(u64),
    /// A known id whose store was lost or swapped.
    #[error(
        "node {node} speaks with store {theirs:032x}, the cluster knows {known:032x}: its disk was \
         replaced; run `horai cluster replace {node}` and start it as a new node"
    )]
    Store {
        /// The known id.
        node: u64,
        /// As sent.
        theirs: u128,
        /// As in the membership.
        known: u128,
    },
}

/// A payload: a version byte, then postcard.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<bytes::Bytes, Error> {
    Ok(postcard::to_extend(value, vec![VERSION])?.into())
}

/// Reads [`encode`]'s form.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let (&version, body) = bytes.split_first().ok_or(Error::Empty)?;
    if version != VERSION {
        return Err(Error::Newer(version));
    }
    Ok(postcard::from_bytes(body)?)
}

/// Who this node is; fixed while its process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Local {
    /// The cluster's random id.
    pub cluster: u128,
    /// This node.
    pub node: u64,
    /// Its store's random id.
    pub store: u128,
}

/// What clients and server share: identity, the machine and the cluster clock.
#[derive(Debug)]
pub struct Shared {
    /// Who this node is.
    pub local: Local,
    /// What it runs on.
    pub host: Arc<dyn Host>,
    clock: Mutex<ClusterClock>,
    retired: watch::Sender<bool>,
    /// What other nodes' boot clocks said last, and when that was by ours.
    echoes: Mutex<BTreeMap<u64, (u64, BootTime)>>,
    /// Stores refused so far: each is told of once.
    strangers: Mutex<BTreeSet<u128>>,
}

impl Shared {
    /// With a clock that knows nothing yet.
    #[must_use]
    pub fn new(local: Local, host: Arc<dyn Host>) -> Self {
        let retired = watch::Sender::new(false);
        let (clock, strangers) = (Mutex::new(ClusterClock::new()), Mutex::default());
        Self { local, host, clock, retired, echoes: Mutex::default(), strangers }
    }

    /// Becomes true when the cluster says that it took this node out.
    #[must_use]
    pub fn retired(&self) -> watch::Receiver<bool> {
        self.retired.subscribe()
    }

    /// The cluster took this node out.
    pub fn retire(&self) {
        self.retired.send_replace(true);
    }

    /// Looks whether a refusal says that the cluster took this node out.
    pub fn heed(&self, status: &tonic::Status) -> bool {
        let gone = status.metadata().contains_key(RETIRED);
        if gone {
            self.retire();
        }
        gone
    }

    /// Works on the clock. The boot clock is read under the lock, so that
    /// readings are handed in in order.
    pub fn clock<T>(&self, work: impl FnOnce(&mut ClusterClock, BootTime) -> T) -> T {
        // The clock's methods leave it whole at every step, so a panic of
        // another holder left nothing half-done.
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut clock, self.host.boot_time())
    }

    /// The header of a message to `target`.
    #[must_use]
    pub fn header(&self, target: u64) -> pb::Header {
        let (time, leader, boot) =
            self.clock(|clock, boot| (clock.read(boot), clock.leader(), boot));
        let (echo, heard) = self.echoes().get(&target).copied().unwrap_or((0, boot));
        pb::Header {
            cluster: self.local.cluster.to_be_bytes().to_vec().into(),
            from_node: self.local.node,
            from_store: self.local.store.to_be_bytes().to_vec().into(),
            to_node: target,
            to_store: bytes::Bytes::new(),
            boot_nanos: nanos(boot.0),
            echo_nanos: echo,
            held_nanos: nanos(boot.0.saturating_sub(heard.0)),
            time: time.map(|ClusterNanos(nanos)| pb::ClusterTime {
                nanos,
                leader_term: leader.term,
                leader_node: leader.node.0,
            }),
        }
    }

    /// [`Shared::header`] that also says which store is meant; 0 leaves it open. A
    /// node whose store was swapped hears so from the first message.
    #[must_use]
    pub fn header_for(&self, target: u64, store: u128) -> pb::Header {
        let to_store = if store == 0 { Vec::new() } else { store.to_be_bytes().to_vec() };
        pb::Header { to_store: to_store.into(), ..self.header(target) }
    }

    /// Checks a header; `known` gives the store that the membership holds for an id.
    ///
    /// An id that is not known here may speak: a new node learns the membership
    /// from just those messages.
    ///
    /// # Errors
    /// Another cluster, another target, or another store under a known id.
    pub fn check<'h>(
        &self,
        header: Option<&'h pb::Header>,
        known: impl FnOnce(u64) -> Option<u128>,
    ) -> Result<&'h pb::Header, Error> {
        let header = header.ok_or(Error::Header)?;
        let theirs = uuid(&header.cluster)?;
        let store = uuid(&header.from_store)?;
        let Local { cluster, node, store: mine } = self.local;
        if theirs != cluster {
            return Err(Error::Cluster { theirs, mine: cluster });
        }
        if header.to_node != node {
            return Err(Error::Target { meant: header.to_node, me: node });
        }
        if mutants::on(Mutant::OtherStoreTaken) {
            return Ok(header);
        }
        if !header.to_store.is_empty() {
            let meant = uuid(&header.to_store)?;
            if meant != mine {
                return Err(Error::Store { node, theirs: mine, known: meant });
            }
        }
        match known(header.from_node) {
            Some(known) if known != store => {
                let error = Error::Store { node: header.from_node, theirs: store, known };
                self.tell_once(store, &error);
                Err(error)
            }
            Some(_) | None => {
                self.note_clock(header);
                Ok(header)
            }
        }
    }

    /// Keeps what its sender's clock says, for the next message there.
    fn note_clock(&self, header: &pb::Header) {
        let heard = self.host.boot_time();
        let mut echoes = self.echoes();
        if echoes.len() < MAX_ECHOES || echoes.contains_key(&header.from_node) {
            echoes.insert(header.from_node, (header.boot_nanos, heard));
        }
    }

    fn echoes(&self) -> MutexGuard<'_, BTreeMap<u64, (u64, BootTime)>> {
        self.echoes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks the header of a reply: what a store that the cluster does not know
    /// says must not count, least of all for a quorum. `known` is 0 if the
    /// membership names none.
    ///
    /// # Errors
    /// As [`Shared::check`].
    pub fn check_reply(&self, header: Option<&pb::Header>, known: u128) -> Result<(), Error> {
        self.check(header, |_| (known != 0).then_some(known)).map(drop)
    }

    fn tell_once(&self, store: u128, error: &Error) {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        if strangers.len() < MAX_STRANGERS && strangers.insert(store) {
            tracing::warn!("{error}");
        }
    }

    /// Takes the time out of a leader's message. One that was deposed and knows it goes
    /// on for a moment: what it tells is not the other's time.
    pub fn learn(&self, header: &pb::Header) {
        if let Some(time) = header.time.filter(|time| time.leader_node == header.from_node) {
            let leader = LeaderId { term: time.leader_term, node: NodeId(time.leader_node) };
            let told = ClusterNanos(time.nanos);
            self.clock(|clock, boot| clock.learn(leader, told, age(header, boot), boot));
        }
    }
}

/// Boot clocks of two machines run less than one part in this apart.
const RATES: u64 = 100;

/// How long ago a message was written at most: this machine wrote the one that is
/// echoed, the sender had it for a while, and the rest of the time both were under way.
fn age(header: &pb::Header, boot: BootTime) -> Option<Duration> {
    let echo = Some(header.echo_nanos).filter(|echo| *echo != 0)?;
    // A machine that was started anew counts anew.
    let since = boot.0.checked_sub(Duration::from_nanos(echo))?;
    // By the sender's clock, which may be the faster one.
    let held = header.held_nanos - header.held_nanos / RATES;
    Some(since.saturating_sub(Duration::from_nanos(held)))
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

fn uuid(bytes: &[u8]) -> Result<u128, Error> {
    bytes.try_into().map(u128::from_be_bytes).map_err(|_| Error::Header)
}

#[cfg(test)]
mod tests {
    use horai_core::time::UtcMillis;

    use super::*;
    use crate::host::OsHost;

    fn shared(node: u64) -> Shared {
        Shared::new(Local { cluster: 7, node, store: 100 + u128::from(node) }, Arc::new(OsHost))
    }

    #[test]
    fn only_the_right_cluster_target_and_store_pass() {
        let (one, two) = (shared(1), shared(2));
        let header = one.header(2);
        assert!(two.check(Some(&header), |_| Some(101)).is_ok());
        assert!(two.check(Some(&header), |_| None).is_ok());
        assert!(matches!(two.check(None, |_| None), Err(Error::Header)));
        let swapped = two.check(Some(&header), |_| Some(999)).unwrap_err();
        assert!(swapped.to_string().contains("horai cluster replace 1"), "{swapped}");
        assert!(two.check(Some(&one.header_for(2, 102)), |_| None).is_ok());
        assert!(two.check(Some(&one.header_for(2, 0)), |_| None).is_ok());
        let for_another = one.header_for(2, 999);
        let swapped = two.check(Some(&for_another), |_| None);
        assert!(matches!(swapped, Err(Error::Store { node: 2, theirs: 102, known: 999 })));
        assert!(two.check_reply(Some(&header), 101).is_ok());
        assert!(two.check_reply(Some(&header), 0).is_ok());
        let swapped = two.check_reply(Some(&header), 999);
        assert!(matches!(swapped, Err(Error::Store { node: 1, .. })), "{swapped:?}");
        let elsewhere = one.header(3);
        let wrong = two.check(Some(&elsewhere), |_| None);
        assert!(matches!(wrong, Err(Error::Target { meant: 3, me: 2 })));
        let foreign = Local { cluster: 8, node: 1, store: 101 };
        let foreign = Shared::new(foreign, Arc::new(OsHost)).header(2);
        let wrong = two.check(Some(&foreign), |_| None);
        assert!(matches!(wrong, Err(Error::Cluster { theirs: 8, mine: 7 })));
    }

    /// Makes it the leader of the first term, with a cluster time that somebody confirmed.
    fn lead(one: &Shared) -> UtcMillis {
        let at = UtcMillis(1_790_000_000_000);
        let confirmed = one.clock(|clock, boot| {
            clock.lead(LeaderId { term: 1, node: NodeId(1) }, UtcMillis(0), boot);
            clock.confirm(at, UtcMillis(0), boot)
        });
        confirmed.unwrap();
        at
    }

    #[test]
    fn time_travels_with_messages() {
        let (one, two) = (shared(1), shared(2));
        let at = lead(&one);
        // How old the first message is nobody knows; the next is an answer.
        let first = one.header(2);
        two.check(Some(&first), |_| None).unwrap();
        two.learn(&first);
        assert_eq!(two.clock(|clock, boot| clock.read(boot)), None);
        one.check_reply(Some(&two.header(1)), 0).unwrap();
        two.learn(&one.header(2));
        let heard = two.clock(|clock, boot| clock.stamp(boot)).unwrap();
        assert!(heard >= at);
    }

    #[test]
    fn only_the_leaders_own_word_sets_the_time() {
        let (one, two) = (shared(1), shared(2));
        lead(&one);
        one.check_reply(Some(&two.header(1)), 0).unwrap();
        let mut header = one.header(2);
        if let Some(time) = &mut header.time {
            time.leader_node = 3;
        }
        two.learn(&header);
        assert_eq!(two.clock(|clock, boot| clock.read(boot)), None);
    }

    #[test]
    fn the_age_of_a_message_is_what_it_and_its_question_were_under_way() {
        let millis = |ms: u64| ms * 1_000_000;
        let header = |held: u64| pb::Header {
            echo_nanos: millis(5_000),
            held_nanos: millis(held),
            ..shared(1).header(2)
        };
        let boot = BootTime(Duration::from_millis(8_000));
        let of = |held| age(&header(held), boot);
        assert_eq!(of(0), Some(Duration::from_millis(3_000)));
        // A hundredth of the 2.9 s may be the sender's clock.
        assert_eq!(of(2_900), Some(Duration::from_millis(129)));
        assert_eq!(of(9_000), Some(Duration::ZERO));
        assert_eq!(age(&header(0), BootTime(Duration::from_millis(10))), None);
        assert_eq!(age(&pb::Header { echo_nanos: 0, ..header(0) }, boot), None);
    }

    #[test]
    fn payloads_name_their_version() {
        let bytes = encode(&(1_u64, "x".to_owned())).unwrap();
        assert_eq!(decode::<(u64, String)>(&bytes).unwrap(), (1, "x".to_owned()));
        assert!(matches!(decode::<u64>(&[9, 1]), Err(Error::Newer(9))));
        assert!(matches!(decode::<u64>(&[]), Err(Error::Empty)));
    }
}
