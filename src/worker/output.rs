//! The form in which a shim keeps a job's output, and how a worker reads it while it
//! grows.
//!
//! Frames in files of about a 64th of the limit. Each frame is what came at one time on
//! one stream, and says at which byte of the whole output it begins; a file is named by
//! its first byte. The first half of the limit is kept for good; of what follows, files
//! are removed as newer ones need their room, and [`GAP`] says what that has come to. So
//! offsets are those of what the job wrote, whatever is left out, and a job can neither
//! fill the disk nor lose its last words.
//!
//! Neither side waits for the other: a reader that is slower than the job finds a gap.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use horai_core::ids::AttemptKey;
use horai_core::time::UtcMillis;

use crate::chunks::piece::MAX_MARKS;
use crate::chunks::{Content, Mark, Piece, Stream};

/// Before the first byte in a file's name.
pub const PREFIX: &str = "output-";
/// Holds the first byte that is left out and the one behind the last, in digits.
pub const GAP: &str = "left-out";
/// Offset, time, length with the stream in its highest bit: 8, 8 and 4 bytes.
pub const HEADER: usize = 20;
/// Set in the length of what came on standard error.
const STDERR: u32 = 1 << 31;
/// The most bytes in a frame.
pub const MAX_FRAME: usize = 64 << 10;

/// The file that begins with this byte.
#[must_use]
pub fn path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{PREFIX}{first:020}"))
}

/// The files of an output by their first bytes, ascending.
///
/// # Errors
/// The system's.
pub fn files(folder: &Path) -> io::Result<Vec<u64>> {
    let mut firsts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let first = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        firsts.extend(first.and_then(|first| first.parse::<u64>().ok()));
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// One frame.
#[must_use]
pub fn frame(at: u64, time: UtcMillis, stream: Stream, bytes: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER + bytes.len());
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX) & !STDERR;
    let stream = if stream == Stream::Stderr { STDERR } else { 0 };
    frame.extend_from_slice(&at.to_le_bytes());
    frame.extend_from_slice(&time.0.to_le_bytes());
    frame.extend_from_slice(&(len | stream).to_le_bytes());
    frame.extend_from_slice(bytes);
    frame
}

/// What is left out, if something is.
///
/// # Errors
/// The system's, or that the file is no such thing.
pub fn left_out(folder: &Path) -> io::Result<Option<(u64, u64)>> {
    let Some(text) = crate::files::read_optional(&folder.join(GAP))? else { return Ok(None) };
    let text = String::from_utf8_lossy(&text);
    let gap =
        text.split_once(' ').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    gap.map(Some).ok_or_else(|| io::Error::other(format!("{GAP} holds {text:?}")))
}

/// Reads an output from some byte on. Blocks.
#[derive(Debug)]
pub struct Reader {
    key: AttemptKey,
    folder: PathBuf,
    /// The byte that is read next.
    at: u64,
    /// First byte, file, and where its next frame is.
    file: Option<(u64, File, u64)>,
}

/// One frame's head.
struct Head {
    at: u64,
    time: UtcMillis,
    stream: Stream,
    len: u64,
}

impl Reader {
    /// Of the attempt `key` in `folder`, from byte `at` on.
    #[must_use]
    pub fn new(key: AttemptKey, folder: PathBuf, at: u64) -> Self {
        Self { key, folder, at, file: None }
    }

    /// The attempt's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The byte that is read next.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Goes on at a later byte.
    pub fn skip_to(&mut self, at: u64) {
        self.at = self.at.max(at);
    }

    /// What comes next, at most `max` bytes of it; none if there is nothing yet.
    ///
    /// # Errors
    /// The system's; "not found" if the folder is gone.
    pub fn next(&mut self, max: usize) -> io::Result<Option<Piece>> {
        let (from, mut bytes, mut marks) = (self.at, BytesMut::new(), Vec::<Mark>::new());
        while bytes.len() < max && marks.len() < MAX_MARKS {
            let Some((head, body)) = self.head()? else { break };
            if head.at > self.at {
                if !bytes.is_empty() {
                    break;
                }
                let (key, to) = (self.key, head.at);
                self.at = to;
                return Ok(Some(Piece { key, from, to, content: Content::Gap }));
            }
            let Some((_, file, place)) = &mut self.file else { break };
            let begun = self.at - head.at;
            let room = (max - bytes.len()) as u64;
            let len = head.len.saturating_sub(begun).min(room);
            if len > 0 {
                let old = bytes.len();
                bytes.resize(old + usize::try_from(len).map_err(io::Error::other)?, 0);
                file.read_exact_at(&mut bytes[old..], body + begun)?;
                let mark = Mark { at: self.at, time: head.time, stream: head.stream };
                let is_same =
                    marks.last().is_some_and(|m| (m.time, m.stream) == (mark.time, mark.stream));
                if !is_same {
                    marks.push(mark);
                }
                self.at += len;
            }
            if begun + len >= head.len {
                *place = body + head.len;
            }
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        let (key, to, bytes) = (self.key, self.at, Bytes::from(bytes));
        Ok(Some(Piece { key, from, to, content: Content::Data { bytes, marks } }))
    }

    /// The next frame that does not end before the byte that is wanted, and where its
    /// bytes are in the file; none if it is not there yet.
    fn head(&mut self) -> io::Result<Option<(Head, u64)>> {
        loop {
            let Some((first, file, place)) = &mut self.file else {
                if !self.open(None)? {
                    return Ok(None);
                }
                continue;
            };
            if let Some(head) = read_head(file, *place)? {
                let body = *place + HEADER as u64;
                if head.at + head.len <= self.at {
                    *place = body + head.len;
                    continue;
                }
                return Ok(Some((head, body)));
            }
            // A later file is begun only when this one is complete: look once more.
            let (first, place) = (*first, *place);
            let later = files(&self.folder)?.into_iter().find(|other| *other > first);
            let Some(later) = later else { return Ok(None) };
            if read_head(file, place)?.is_none() {
                self.file = None;
                // The file may have been removed meanwhile.
                if !self.open(Some(later))? {
                    return Ok(None);
                }
            }
        }
    }

    /// Opens the file that holds the wanted byte, or the one behind it.
    fn open(&mut self, at_least: Option<u64>) -> io::Result<bool> {
        let firsts = files(&self.folder)?;
        let firsts =
            firsts.into_iter().filter(|first| at_least.is_none_or(|least| *first >= least));
        let firsts: Vec<u64> = firsts.collect();
        let before = firsts.iter().rev().find(|first| **first <= self.at);
        let Some(first) = before.or(firsts.first()) else { return Ok(false) };
        match File::open(path(&self.folder, *first)) {
            Ok(file) => {
                self.file = Some((*first, file, 0));
                Ok(true)
            }
            // Removed since: newer ones are found the next time.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// The frame at `place`, if all of it is there.
fn read_head(file: &File, place: u64) -> io::Result<Option<Head>> {
    let mut header = [0; HEADER];
    match file.read_exact_at(&mut header, place) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    }
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&header[at..at + 8]);
        word
    };
    let mut len = [0; 4];
    len.copy_from_slice(&header[16..]);
    let len = u32::from_le_bytes(len);
    let stream = if len & STDERR == 0 { Stream::Stdout } else { Stream::Stderr };
    let (at, time) = (u64::from_le_bytes(word(0)), UtcMillis(i64::from_le_bytes(word(8))));
    let head = Head { at, time, stream, len: u64::from(len & !STDERR) };
    let end = place + HEADER as u64 + head.len;
    Ok((file.metadata()?.len() >= end).then_some(head))
}
