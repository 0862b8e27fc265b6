//! The stored form of log entries and single values.
//!
//! A sealed value is CRC32C, version byte, body; the CRC covers the key too, so
//! that a value under a wrong key is found. An entry over the value limit is
//! cut into parts keyed (index, part) and is complete only with its last part,
//! which carries length and CRC of the whole.

use std::io;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::disk::MAX_VALUE;
use crate::types::Entry;

/// Version of everything sealed here.
pub const VERSION: u8 = 1;

/// Bytes of a part's key: u64 index and u16 part, big-endian.
pub const KEY_LEN: usize = 10;

/// CRC, version, kind, and for a last part length and CRC of the whole.
const OVERHEAD: usize = 4 + 1 + 1 + 8;

/// Entry bytes in one part.
const PART: usize = MAX_VALUE - KEY_LEN - OVERHEAD;

const MIDDLE: u8 = 0;
const LAST: u8 = 1;

/// What is wrong with stored bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The CRC does not match, or the bytes are too short to have one.
    #[error("checksum mismatch")]
    Checksum,
    /// Written by a newer program.
    #[error("format {0} is newer than {VERSION}")]
    Newer(u8),
    /// The checksum is right, the content is not.
    #[error("content does not decode")]
    Content,
    /// Parts are missing before the end of the entry.
    #[error("parts of the entry are missing")]
    Incomplete,
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        Self::new(io::ErrorKind::InvalidData, fault)
    }
}

/// Key of a part of an entry.
#[must_use]
pub fn key(index: u64, part: u16) -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    key[..8].copy_from_slice(&index.to_be_bytes());
    key[8..].copy_from_slice(&part.to_be_bytes());
    key
}

/// Index and part of a key.
#[must_use]
pub fn parse_key(key: &[u8]) -> Option<(u64, u16)> {
    let (index, part) = key.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*index), u16::from_be_bytes(part.try_into().ok()?)))
}

/// Puts CRC and version before a body.
#[must_use]
pub fn seal(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(5 + body.len());
    sealed.extend_from_slice(&[0; 4]);
    sealed.push(VERSION);
    sealed.extend_from_slice(body);
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), &sealed[4..]);
    sealed[..4].copy_from_slice(&crc.to_le_bytes());
    sealed
}

/// Checks what [`seal`] made.
///
/// # Errors
/// [`Fault`] says what is wrong.
pub fn unseal<'a>(key: &[u8], sealed: &'a [u8]) -> Result<&'a [u8], Fault> {
    let (crc, rest) = sealed.split_first_chunk::<4>().ok_or(Fault::Checksum)?;
    if u32::from_le_bytes(*crc) != crc32c::crc32c_append(crc32c::crc32c(key), rest) {
        return Err(Fault::Checksum);
    }
    match rest.split_first() {
        Some((&VERSION, body)) => Ok(body),
        Some((&version, _)) => Err(Fault::Newer(version)),
        None => Err(Fault::Content),
    }
}

/// Seals a value in postcard's form.
///
/// # Errors
/// Only if the value cannot be serialised.
pub fn seal_value<T: Serialize>(key: &[u8], value: &T) -> io::Result<Vec<u8>> {
    Ok(seal(key, &postcard::to_stdvec(value).map_err(io::Error::other)?))
}

/// Reads what [`seal_value`] made.
///
/// # Errors
/// [`Fault`] says what is wrong.
pub fn unseal_value<T: DeserializeOwned>(key: &[u8], sealed: &[u8]) -> Result<T, Fault> {
    postcard::from_bytes(unseal(key, sealed)?).map_err(|_| Fault::Content)
}

/// An entry as keys and values, in the order in which they must be written.
///
/// # Errors
/// If the entry needs more parts than can be counted.
pub fn to_parts(entry: &Entry) -> io::Result<Vec<([u8; KEY_LEN], Vec<u8>)>> {
    let bytes = postcard::to_stdvec(entry).map_err(io::Error::other)?;
    let whole = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let count = bytes.len().div_ceil(PART);
    let mut parts = Vec::with_capacity(count);
    for (number, chunk) in bytes.chunks(PART).enumerate() {
        let key = key(entry.log_id.index, u16::try_from(number).map_err(io::Error::other)?);
        let mut body = Vec::with_capacity(OVERHEAD + chunk.len());
        if number + 1 == count {
            body.push(LAST);
            body.extend_from_slice(&whole.to_le_bytes());
            body.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        } else {
            body.push(MIDDLE);
        }
        body.extend_from_slice(chunk);
        parts.push((key, seal(&key, &body)));
    }
    Ok(parts)
}

/// Puts the parts of one entry after another together, in ascending order.
#[derive(Debug, Default)]
pub struct Joiner {
    open: Option<(u64, u16)>,
    bytes: Vec<u8>,
}

/// A complete entry and its stored size.
#[derive(Debug)]
pub struct Joined {
    /// The entry.
    pub entry: Entry,
    /// Its size in bytes, before it was cut.
    pub size: usize,
}

impl Joiner {
    /// Takes the next key and value; gives an entry when it is complete.
    ///
    /// # Errors
    /// [`Fault`] if the part is damaged or not the one that must come.
    pub fn take(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Joined>, Fault> {
        let (index, part) = parse_key(key).ok_or(Fault::Content)?;
        let expected = match self.open {
            Some((open, next)) if open == index => next,
            Some(_) => return Err(Fault::Incomplete),
            None => 0,
        };
        if part != expected {
            return Err(Fault::Incomplete);
        }
        let (&kind, body) = unseal(key, value)?.split_first().ok_or(Fault::Content)?;
        if kind == MIDDLE {
            self.bytes.extend_from_slice(body);
            self.open = Some((index, part.checked_add(1).ok_or(Fault::Content)?));
            return Ok(None);
        }
        let (head, chunk) = body.split_first_chunk::<8>().ok_or(Fault::Content)?;
        let (length, crc) = head.split_first_chunk::<4>().ok_or(Fault::Content)?;
        // An entry in one part, which nearly all are, is decoded where it lies.
        let bytes = if part == 0 {
            chunk
        } else {
            self.bytes.extend_from_slice(chunk);
            &self.bytes
        };
        if bytes.len() as u64 != u64::from(u32::from_le_bytes(*length))
            || crc32c::crc32c(bytes).to_le_bytes() != crc
        {
            return Err(Fault::Checksum);
        }
        let entry: Entry = postcard::from_bytes(bytes).map_err(|_| Fault::Content)?;
        if entry.log_id.index != index {
            return Err(Fault::Content);
        }
        let size = bytes.len();
        self.open = None;
        self.bytes = Vec::new();
        Ok(Some(Joined { entry, size }))
    }

    /// Index of an entry whose last part has not come.
    #[must_use]
    pub fn unfinished(&self) -> Option<u64> {
        self.open.map(|(index, _)| index)
    }
}

/// Copies a value out of an engine's buffer.
pub(crate) fn to_bytes(value: &[u8]) -> Bytes {
    Bytes::copy_from_slice(value)
}

#[cfg(test)]
mod tests {
    use horai_core::time::UtcMillis;

    use super::*;
    use crate::types::{EncodedBatch, EntryPayload, LogId, Vote};

    fn sample(command: &[u8]) -> Entry {
        let batch = EncodedBatch::new(UtcMillis(5), [command]).unwrap();
        let log_id = LogId::new(*Vote::new_committed(3, 2).leader_id(), 258);
        Entry { log_id, payload: EntryPayload::Normal(batch) }
    }

    #[test]
    fn the_stored_form_stays_readable() {
        let parts = to_parts(&sample(b"go")).unwrap();
        let (key, value) = &parts[0];
        assert_eq!(key, &[0, 0, 0, 0, 0, 0, 1, 2, 0, 0]);
        // Version, kind, length, CRC of the whole; then term, node, index 258,
        // payload kind, time 5, six bytes of batch.
        let body = [3, 2, 130, 2, 1, 10, 6, 2, 0, 0, 0, b'g', b'o'];
        assert_eq!(value[4..10], [1, 1, 13, 0, 0, 0]);
        assert_eq!(value[14..], body);
        let joined = Joiner::default().take(key, value).unwrap().unwrap();
        assert_eq!((joined.entry, joined.size), (sample(b"go"), 13));
    }

    #[test]
    fn parts_fit_and_join_in_order_only() {
        let large = sample(&vec![7; 2 * PART]);
        let parts = to_parts(&large).unwrap();
        assert_eq!(parts.len(), 3);
        assert!(parts.iter().all(|(key, value)| key.len() + value.len() <= MAX_VALUE));
        let mut joiner = Joiner::default();
        assert!(joiner.take(&parts[0].0, &parts[0].1).unwrap().is_none());
        assert_eq!(joiner.unfinished(), Some(258));
        assert_eq!(joiner.take(&parts[2].0, &parts[2].1).unwrap_err(), Fault::Incomplete);
        assert!(joiner.take(&parts[1].0, &parts[1].1).unwrap().is_none());
        let joined = joiner.take(&parts[2].0, &parts[2].1).unwrap().unwrap();
        assert_eq!(joined.entry, large);
        // Under another key it is no entry.
        let other = Joiner::default().take(&key(1, 0), &parts[0].1).unwrap_err();
        assert_eq!(other, Fault::Checksum);
    }
}
