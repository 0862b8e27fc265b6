//! The types that openraft is instantiated with, and names for them.
//!
//! Nothing here does I/O. Entries carry commands encoded once by the proposer:
//! a batch is one shared buffer, so that log, replication and apply hand it on
//! without decoding it three times.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use horai_core::machine::outcome::Outcome;
use horai_core::time::UtcMillis;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

openraft::declare_raft_types!(
    /// Horai's choice of openraft's types; the leader id is the (term, node) pair.
    pub TypeConfig:
        D = EncodedBatch,
        R = Vec<Outcome>,
        NodeId = u64,
        Node = Member,
);

/// Position in the log, with the leader that proposed it.
pub type LogId = openraft::alias::LogIdOf<TypeConfig>;
/// A vote given or a leadership accepted.
pub type Vote = openraft::alias::VoteOf<TypeConfig>;
/// A log entry.
pub type Entry = openraft::alias::EntryOf<TypeConfig>;
/// What a log entry carries.
pub type EntryPayload = openraft::EntryPayload<EncodedBatch, u64, Member>;
/// A membership with the log id that set it.
pub type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
/// What a snapshot covers.
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;

/// The largest command, encoded: it must fit one entry.
pub const MAX_COMMAND: usize = 4 << 20;

/// A member of the cluster, as membership entries keep it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Member {
    /// Where its Raft port listens, `host:port`.
    pub raft_addr: String,
    /// Where its HTTP API listens, `host:port`.
    pub http_addr: String,
    /// Where its worker port listens, `host:port`.
    pub grpc_addr: String,
    /// The random id of its store: a known node id with another store is refused.
    pub store_uuid: u128,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.raft_addr)
    }
}

/// Why commands do not make a batch, or bytes are not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// One command is larger than an entry may be.
    #[error("a command of {0} bytes is larger than {MAX_COMMAND}: split it")]
    TooLarge(usize),
    /// The lengths do not add up.
    #[error("the batch is damaged: its commands do not fill its {0} bytes")]
    Damaged(usize),
}

/// Commands that share one entry and one instant of cluster time. Cheap to clone.
///
/// The buffer is a sequence of (u32 length, encoded command), checked once when
/// the batch is made or read, so that iterating cannot fail.
#[derive(Clone, PartialEq, Eq)]
pub struct EncodedBatch {
    now: UtcMillis,
    body: Bytes,
}

impl EncodedBatch {
    /// Gathers commands, each in the form of `command::encode`, stamped with the
    /// leader's cluster time.
    ///
    /// # Errors
    /// [`BatchError::TooLarge`] if one of them exceeds [`MAX_COMMAND`].
    pub fn new<B: AsRef<[u8]>>(
        now: UtcMillis,
        commands: impl IntoIterator<Item = B>,
    ) -> Result<Self, BatchError> {
        let mut body = BytesMut::new();
        for command in commands {
            let command = command.as_ref();
            let length = u32::try_from(command.len())
                .ok()
                .filter(|_| command.len() <= MAX_COMMAND)
                .ok_or(BatchError::TooLarge(command.len()))?;
            body.put_u32_le(length);
            body.put_slice(command);
        }
        Ok(Self { now, body: body.freeze() })
    }

    /// Takes a buffer that [`EncodedBatch::body`] gave.
    ///
    /// # Errors
    /// [`BatchError::Damaged`] if its lengths do not fill it exactly.
    pub fn from_parts(now: UtcMillis, body: Bytes) -> Result<Self, BatchError> {
        let mut rest = body.as_ref();
        while !rest.is_empty() {
            rest = split_command(rest).ok_or(BatchError::Damaged(body.len()))?.1;
        }
        Ok(Self { now, body })
    }

    /// The leader's cluster time at proposal.
    #[must_use]
    pub fn now(&self) -> UtcMillis {
        self.now
    }

    /// The commands with their lengths, as stored and sent.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Each command's encoded form, in order.
    pub fn commands(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.body.as_ref();
        std::iter::from_fn(move || {
            let (command, tail) = split_command(rest)?;
            rest = tail;
            Some(command)
        })
    }
}

/// The first command of a batch's buffer, and what follows it.
fn split_command(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = body.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

impl fmt::Debug for EncodedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodedBatch({self})")
    }
}

impl fmt::Display for EncodedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} commands at {}", self.commands().count(), self.now)
    }
}

/// Borrows the buffer, so that writing and reading a batch are plain copies.
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

struct Owned(Bytes);

impl<'de> Deserialize<'de> for Owned {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Owned;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Owned, E> {
                Ok(Owned(Bytes::copy_from_slice(bytes)))
            }

            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Owned, E> {
                Ok(Owned(Bytes::from(bytes)))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

impl Serialize for EncodedBatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.now, Raw(&self.body)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for EncodedBatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (now, Owned(body)) = Deserialize::deserialize(deserializer)?;
        Self::from_parts(now, body).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_gives_back_what_it_took() {
        let commands: [&[u8]; 3] = [b"one", b"", b"three"];
        let batch = EncodedBatch::new(UtcMillis(7), commands).unwrap();
        assert_eq!(batch.commands().collect::<Vec<_>>(), commands);
        let bytes = postcard::to_stdvec(&batch).unwrap();
        assert_eq!(postcard::from_bytes::<EncodedBatch>(&bytes).unwrap(), batch);
    }

    #[test]
    fn damaged_and_oversized_batches_are_refused() {
        let short = Bytes::from_static(&[9, 0, 0, 0, 1]);
        assert_eq!(EncodedBatch::from_parts(UtcMillis(0), short), Err(BatchError::Damaged(5)));
        let large = vec![0; MAX_COMMAND + 1];
        assert!(matches!(EncodedBatch::new(UtcMillis(0), [large]), Err(BatchError::TooLarge(_))));
    }
}
