//! A stretch of a log, with when and on which stream each part of it came.
//!
//! On the wire and on disk it is a [`pb::Piece`]; [`pack`] and [`unpack`] are the only
//! way between the two, and what cannot be unpacked is never stored.

use bytes::Bytes;
use horai_core::ids::{AttemptKey, RunId};
use horai_core::time::UtcMillis;
use horai_proto::logs as pb;

/// The most bytes of output in one piece.
pub const MAX_LEN: usize = 256 << 10;
/// The most marks in one: more than that are of one time.
pub const MAX_MARKS: usize = 8_192;
/// Below this, compressing costs more than it saves.
const WORTH: usize = 256;
/// Of zstd: the quickest that still halves text.
const LEVEL: i32 = 1;

/// Where a job wrote something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Stream {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The word in the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// From here on, output came at this time and on this stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Offset in the log.
    pub at: u64,
    /// When the worker's machine took it from the job, by cluster time.
    pub time: UtcMillis,
    /// Where the job wrote it.
    pub stream: Stream,
}

/// A stretch of one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Whose output.
    pub key: AttemptKey,
    /// Its first byte.
    pub from: u64,
    /// Behind its last byte.
    pub to: u64,
    /// What is there.
    pub content: Content,
}

/// What is in a stretch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Output.
    Data {
        /// As many bytes as the stretch is long.
        bytes: Bytes,
        /// Ascending; the first is where the stretch begins.
        marks: Vec<Mark>,
    },
    /// Left out for good: the job wrote more than is kept.
    Gap,
}

impl Piece {
    /// The part of it from `from` to `to`; none if there is nothing.
    #[must_use]
    pub fn clip(&self, from: u64, to: u64) -> Option<Self> {
        let (from, to) = (from.max(self.from), to.min(self.to));
        if from >= to {
            return None;
        }
        let content = match &self.content {
            Content::Gap => Content::Gap,
            Content::Data { bytes, marks } => {
                // Both are within the bytes, which are in memory.
                let place = |at: u64| usize::try_from(at - self.from).unwrap_or(usize::MAX);
                let first = marks.partition_point(|mark| mark.at <= from).saturating_sub(1);
                let marks = marks[first..].iter().take_while(|mark| mark.at < to);
                let marks = marks.map(|mark| Mark { at: mark.at.max(from), ..*mark }).collect();
                Content::Data { bytes: bytes.slice(place(from)..place(to)), marks }
            }
        };
        Some(Self { key: self.key, from, to, content })
    }
}

/// Why something is no piece.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a piece of the output of {key} at byte {offset} cannot be taken: {problem}")]
pub struct BadPiece {
    /// Whose output it says to be.
    pub key: AttemptKey,
    /// Where it says to begin.
    pub offset: u64,
    /// What is wrong.
    pub problem: &'static str,
}

/// Names an attempt.
#[must_use]
pub fn attempt_ref(key: AttemptKey) -> pb::AttemptRef {
    pb::AttemptRef { run: key.run.0, shard: key.shard, number: key.number }
}

/// Reads [`attempt_ref`]'s form; a missing one is of no attempt.
#[must_use]
pub fn attempt_key(attempt: Option<pb::AttemptRef>) -> AttemptKey {
    let pb::AttemptRef { run, shard, number } = attempt.unwrap_or_default();
    AttemptKey { run: RunId(run), shard, number }
}

/// Whose output a piece is.
#[must_use]
pub fn key_of(piece: &pb::Piece) -> AttemptKey {
    AttemptKey { run: RunId(piece.run), shard: piece.shard, number: piece.number }
}

/// As it is sent and stored: compressed if that is worth it.
#[must_use]
pub fn pack(piece: &Piece) -> pb::Piece {
    let AttemptKey { run, shard, number } = piece.key;
    let (offset, len) = (piece.from, piece.to - piece.from);
    let packed = pb::Piece { run: run.0, shard, number, offset, len, ..pb::Piece::default() };
    let Content::Data { bytes, marks } = &piece.content else {
        return pb::Piece { gap: true, ..packed };
    };
    let time_ms = marks.first().map_or(0, |mark| mark.time.0);
    let mark = |mark: &Mark| pb::Mark {
        // Within a piece, which is shorter.
        at: u32::try_from(mark.at - offset).unwrap_or(u32::MAX),
        after_ms: mark.time.0.saturating_sub(time_ms),
        stderr: mark.stream == Stream::Stderr,
    };
    let marks = marks.iter().map(mark).collect();
    let small = (bytes.len() >= WORTH)
        .then(|| zstd::bulk::compress(bytes, LEVEL).ok())
        .flatten()
        .filter(|small| small.len() < bytes.len() - bytes.len() / 8);
    let zstd = small.is_some();
    let data = small.map_or_else(|| bytes.clone(), Bytes::from);
    pb::Piece { data, zstd, time_ms, marks, ..packed }
}

/// Checks a piece and makes it readable.
///
/// # Errors
/// [`BadPiece`]
pub fn unpack(piece: &pb::Piece) -> Result<Piece, BadPiece> {
    let (key, from) = (key_of(piece), piece.offset);
    let bad = |problem| BadPiece { key, offset: from, problem };
    let to = from.checked_add(piece.len).ok_or_else(|| bad("it ends behind the last offset"))?;
    if piece.len == 0 || piece.run == 0 || piece.number == 0 {
        return Err(bad("it is empty or of no attempt"));
    }
    if piece.gap {
        if !piece.data.is_empty() || !piece.marks.is_empty() {
            return Err(bad("it is a gap and has content"));
        }
        return Ok(Piece { key, from, to, content: Content::Gap });
    }
    let len = usize::try_from(piece.len).ok().filter(|len| *len <= MAX_LEN);
    let len = len.ok_or_else(|| bad("it is too long"))?;
    let bytes = if piece.zstd {
        let whole = zstd::bulk::decompress(&piece.data, len);
        Bytes::from(whole.map_err(|_| bad("it cannot be decompressed"))?)
    } else {
        piece.data.clone()
    };
    if bytes.len() != len {
        return Err(bad("its length is another one than it says"));
    }
    let first_at_begin = piece.marks.first().is_some_and(|mark| mark.at == 0);
    let ascends = piece.marks.windows(2).all(|pair| pair[0].at < pair[1].at);
    let within = piece.marks.last().is_some_and(|mark| u64::from(mark.at) < piece.len);
    if piece.marks.len() > MAX_MARKS || !first_at_begin || !ascends || !within {
        return Err(bad("its marks are too many or out of place"));
    }
    let mark = |mark: &pb::Mark| Mark {
        at: from + u64::from(mark.at),
        time: UtcMillis(piece.time_ms.saturating_add(mark.after_ms)),
        stream: if mark.stderr { Stream::Stderr } else { Stream::Stdout },
    };
    let marks = piece.marks.iter().map(mark).collect();
    Ok(Piece { key, from, to, content: Content::Data { bytes, marks } })
}
