//! Records in a segment: each with a mark, a length and a checksum of its own, so that
//! a damaged one costs only itself.
//!
//! `"HOL1"`, length and CRC32C of the body (4 bytes each, little-endian), body: a kind
//! and a message. A later form would have another mark; what is unknown is skipped as if
//! it were damaged, so no form is ever used before all nodes know it.

use horai_proto::logs as pb;
use prost::Message;

/// Where a record begins.
const MAGIC: [u8; 4] = *b"HOL1";
/// Mark, length, checksum.
pub(super) const HEADER: usize = 12;
/// A record is never longer: a piece and its marks.
pub(super) const MAX_BODY: usize = 1 << 20;

const PIECE: u8 = 1;
const GONE: u8 = 2;
const CONTENT: u8 = 3;

/// What a record says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Record {
    /// Bytes of a log, or that they are left out.
    Piece(pb::Piece),
    /// Nothing of this run is wanted any more.
    Gone(u64),
    /// A content, found by its hash.
    Content(pb::Content),
}

/// Appends a record.
pub(super) fn write(record: &Record, out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(&[0; HEADER]);
    match record {
        Record::Piece(piece) => {
            out.push(PIECE);
            out.extend_from_slice(&piece.encode_to_vec());
        }
        Record::Gone(run) => {
            out.push(GONE);
            out.extend_from_slice(&run.to_le_bytes());
        }
        Record::Content(content) => {
            out.push(CONTENT);
            out.extend_from_slice(&content.encode_to_vec());
        }
    }
    let body = &out[begin + HEADER..];
    // What is appended was checked: it is shorter than 4 GiB by far.
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let crc = crc32c::crc32c(body);
    let header = &mut out[begin..begin + HEADER];
    header[..4].copy_from_slice(&MAGIC);
    header[4..8].copy_from_slice(&len.to_le_bytes());
    header[8..].copy_from_slice(&crc.to_le_bytes());
}

/// The record that begins here and how long it is with its header; none if there is
/// none that is whole.
pub(super) fn read(bytes: &[u8]) -> Option<(Record, usize)> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let word = |at: usize| Some(u32::from_le_bytes(header.get(at..at + 4)?.try_into().ok()?));
    if header[..4] != MAGIC {
        return None;
    }
    let len = usize::try_from(word(4)?).ok().filter(|len| *len <= MAX_BODY)?;
    let body = rest.get(..len)?;
    if crc32c::crc32c(body) != word(8)? {
        return None;
    }
    let (kind, message) = body.split_first()?;
    let record = match *kind {
        PIECE => Record::Piece(pb::Piece::decode(message).ok()?),
        CONTENT => Record::Content(pb::Content::decode(message).ok()?),
        GONE => Record::Gone(u64::from_le_bytes(message.try_into().ok()?)),
        _ => return None,
    };
    Some((record, HEADER + len))
}

/// What a segment holds.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    /// Records with their place and length.
    pub(super) records: Vec<(Record, usize, usize)>,
    /// Behind the last whole record.
    pub(super) end: usize,
    /// Bytes before that end that are of no whole record.
    pub(super) damaged: usize,
}

/// Finds all whole records.
pub(super) fn scan(bytes: &[u8]) -> Scanned {
    let mut scanned = Scanned::default();
    let mut at = 0;
    while at < bytes.len() {
        if let Some((record, len)) = read(&bytes[at..]) {
            scanned.damaged += at - scanned.end;
            scanned.records.push((record, at, len));
            at += len;
            scanned.end = at;
        } else {
            // The next place that looks like a record.
            let rest = &bytes[at + 1..];
            let next = rest.windows(MAGIC.len()).position(|window| *window == MAGIC);
            let Some(next) = next else { break };
            at += 1 + next;
        }
    }
    scanned
}
