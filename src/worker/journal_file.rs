//! The journal's file: header, frames, recovery, compaction. All of it blocks.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use horai_core::ids::Incarnation;

use super::{Entries, Error, MAX_BYTES, Record, apply};
use crate::worker::folder::{Folder, Tail};

const NAME: &str = "journal";

const HEADER_MAGIC: &[u8; 8] = b"HORAIJN1";
/// Magic, incarnation, CRC.
const HEADER: usize = 8 + 16 + 4;
const FRAME_MAGIC: &[u8; 4] = b"HJF1";
/// Magic, length, CRC.
const FRAME_HEADER: usize = 12;
/// Records in one frame of a rewritten file.
const REWRITE_FRAME: usize = 1024;
/// A file smaller than this is not worth rewriting.
const COMPACT_FROM: u64 = 4 * 1024 * 1024;
/// An attempt takes about this much: acceptance and result.
const BYTES_PER_ENTRY: u64 = 200;

/// The open file, positioned at its end.
pub(super) struct JournalFile {
    folder: Arc<dyn Folder>,
    file: Box<dyn Tail>,
    len: u64,
    /// Size after the last rewrite: the next comes when it has doubled.
    base: u64,
    incarnation: Incarnation,
}

impl JournalFile {
    pub(super) fn open(folder: Arc<dyn Folder>) -> Result<(Self, Entries), Error> {
        let path = &folder.path(NAME);
        let io = |source| Error::Io { path: path.to_owned(), source };
        let Some(bytes) = folder.read(NAME).map_err(io)? else {
            // The rename makes it whole or absent, so a short header is damage.
            let incarnation = Incarnation(uuid::Uuid::new_v4().as_u128());
            folder.replace(NAME, &header(incarnation)).map_err(io)?;
            let file = folder.tail(NAME).map_err(io)?;
            let len = HEADER as u64;
            let journal = Self { folder, file, len, base: len, incarnation };
            return Ok((journal, Entries::new()));
        };
        let incarnation =
            read_header(&bytes).ok_or_else(|| Error::Foreign { path: path.to_owned() })?;
        let (entries, good) = replay(path, &bytes)?;
        let mut file = folder.tail(NAME).map_err(io)?;
        if good < bytes.len() {
            tracing::warn!(path = %path.display(), good, cut = bytes.len() - good,
                "cut the torn end of the worker journal");
        }
        // What was read may have been in memory only: make it what it claims to be.
        let len = good as u64;
        file.cut(len).map_err(io)?;
        Ok((Self { folder, file, len, base: len, incarnation }, entries))
    }

    pub(super) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path(NAME)
    }

    /// One frame, not synced yet.
    pub(super) fn append(&mut self, records: &[Record]) -> Result<(), Error> {
        let frame = frame(records).map_err(|e| self.io(e))?;
        self.file.append(&frame).map_err(|e| self.io(e))?;
        self.len += frame.len() as u64;
        Ok(())
    }

    pub(super) fn sync(&mut self) -> Result<(), Error> {
        self.file.sync().map_err(|e| self.io(e))
    }

    pub(super) fn wants_compaction(&self, entries: usize) -> bool {
        let live = entries as u64 * BYTES_PER_ENTRY;
        let worth_it = self.len > 2 * self.base && self.len > 4 * live;
        self.len > COMPACT_FROM
            && (worth_it || (self.len > MAX_BYTES / 2 && self.len > 2 * self.base))
    }

    /// Replaces the file by one that holds only `entries`.
    pub(super) fn rewrite(&mut self, entries: &Entries) -> Result<(), Error> {
        let mut bytes = header(self.incarnation);
        let records: Vec<Record> = entries
            .iter()
            .flat_map(|(key, entry)| {
                let accepted =
                    Record::Accepted { key: *key, token: entry.token, fence: entry.fence };
                let finished = entry.ending.clone();
                let finished = finished.map(|end| Record::of_end(*key, entry.token, end));
                std::iter::once(accepted).chain(finished)
            })
            .collect();
        for chunk in records.chunks(REWRITE_FRAME) {
            bytes.extend(frame(chunk).map_err(|e| self.io(e))?);
        }
        self.folder.replace(NAME, &bytes).map_err(|e| self.io(e))?;
        self.file = self.folder.tail(NAME).map_err(|e| self.io(e))?;
        self.len = bytes.len() as u64;
        self.base = self.len;
        Ok(())
    }

    fn io(&self, source: io::Error) -> Error {
        Error::Io { path: self.path(), source }
    }
}

fn header(incarnation: Incarnation) -> Vec<u8> {
    let mut bytes = HEADER_MAGIC.to_vec();
    bytes.extend(incarnation.0.to_be_bytes());
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

fn read_header(bytes: &[u8]) -> Option<Incarnation> {
    let (body, crc) = bytes.get(..HEADER)?.split_at(HEADER - 4);
    let id = body.strip_prefix(HEADER_MAGIC)?;
    if crc32c::crc32c(body).to_le_bytes() != crc {
        return None;
    }
    Some(Incarnation(u128::from_be_bytes(id.try_into().ok()?)))
}

fn frame(records: &[Record]) -> io::Result<Vec<u8>> {
    let body = postcard::to_stdvec(records).map_err(io::Error::other)?;
    let len = u32::try_from(body.len()).map_err(io::Error::other)?.to_le_bytes();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&len), &body).to_le_bytes();
    let mut bytes = Vec::with_capacity(FRAME_HEADER + body.len());
    bytes.extend(FRAME_MAGIC);
    bytes.extend(len);
    bytes.extend(crc);
    bytes.extend(body);
    Ok(bytes)
}

/// The records of the frame at the front of `bytes`, and its length.
fn read_frame(bytes: &[u8]) -> Option<(Vec<Record>, usize)> {
    let rest = bytes.strip_prefix(FRAME_MAGIC)?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let body = rest.get(..u32::from_le_bytes(*len) as usize)?;
    if crc32c::crc32c_append(crc32c::crc32c(len), body).to_le_bytes() != *crc {
        return None;
    }
    Some((postcard::from_bytes(body).ok()?, FRAME_HEADER + body.len()))
}

/// Reads all frames; returns what they say and where the last good one ends.
fn replay(path: &Path, bytes: &[u8]) -> Result<(Entries, usize), Error> {
    let mut entries = Entries::new();
    let mut at = HEADER;
    while at < bytes.len() {
        let Some((records, len)) = read_frame(&bytes[at..]) else {
            // The last write may be torn; one with a good frame behind it was synced.
            let behind = bytes[at + 1..]
                .windows(FRAME_MAGIC.len())
                .enumerate()
                .filter(|(_, window)| *window == FRAME_MAGIC)
                .any(|(i, _)| read_frame(&bytes[at + 1 + i..]).is_some());
            if behind {
                return Err(Error::Damaged { path: path.to_owned(), offset: at as u64 });
            }
            break;
        };
        for record in &records {
            apply(&mut entries, record);
        }
        at += len;
    }
    Ok((entries, at))
}

#[cfg(test)]
mod tests {
    use horai_core::ids::{AttemptKey, LeaderId, RunId, Token};

    use super::*;
    use crate::worker::folder::OsFolder;

    fn open(dir: &Path) -> Result<(JournalFile, Entries), Error> {
        JournalFile::open(Arc::new(OsFolder::new(dir)))
    }

    fn accepted(run: u64) -> Record {
        Record::Accepted {
            key: AttemptKey { run: RunId(run), shard: 0, number: 1 },
            token: Token(run),
            fence: LeaderId::default(),
        }
    }

    #[test]
    fn a_cut_at_any_byte_keeps_every_whole_frame_and_can_be_written_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (mut file, _) = open(dir.path()).unwrap();
        let mut ends = vec![];
        for run in 1..=5 {
            file.append(&[accepted(run), accepted(run + 100)]).unwrap();
            ends.push(file.len() as usize);
        }
        let whole = std::fs::read(&path).unwrap();
        for cut in HEADER..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (mut file, entries) = open(dir.path()).unwrap();
            let frames = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(entries.len(), frames * 2, "cut at {cut}");
            file.append(&[accepted(999)]).unwrap();
            assert_eq!(open(dir.path()).unwrap().1.len(), frames * 2 + 1);
        }
        for cut in 0..HEADER {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(matches!(open(dir.path()), Err(Error::Foreign { .. })));
        }
    }

    #[test]
    fn a_flipped_byte_is_refused_unless_it_is_in_the_last_frame() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let (mut file, _) = open(dir.path()).unwrap();
        file.append(&[accepted(1)]).unwrap();
        let last = file.len() as usize;
        file.append(&[accepted(2)]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for i in HEADER..whole.len() {
            let mut bad = whole.clone();
            bad[i] ^= 0x55;
            std::fs::write(&path, &bad).unwrap();
            match open(dir.path()) {
                Err(Error::Damaged { offset, .. }) => {
                    assert!(i < last && offset == HEADER as u64, "byte {i}");
                }
                Ok((_, entries)) => assert!(i >= last && entries.len() == 1, "byte {i}"),
                Err(other) => panic!("byte {i}: {other}"),
            }
        }
    }

    #[test]
    fn a_rewrite_keeps_what_is_live_and_the_incarnation() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, mut entries) = open(dir.path()).unwrap();
        for run in 1..=50 {
            file.append(&[accepted(run)]).unwrap();
        }
        apply(&mut entries, &accepted(7));
        let before = file.len();
        file.rewrite(&entries).unwrap();
        assert!(file.len() < before);
        file.append(&[accepted(8)]).unwrap();
        let (again, read) = open(dir.path()).unwrap();
        assert_eq!(again.incarnation(), file.incarnation());
        let runs: Vec<u64> = read.keys().map(|k| k.run.0).collect();
        assert_eq!(runs, [7, 8]);
    }
}
