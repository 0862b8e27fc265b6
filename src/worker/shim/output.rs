//! Keeps the job's output in its files, without its secrets: the first and the last of
//! it, up to a limit. The form is in `worker::output`.
//!
//! Never stops reading: a full disk or a reached limit must not block the job.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use horai_core::time::UtcMillis;
use rustix::event::{PollFd, PollFlags, poll};

use super::handles::Found;
use crate::chunks::Stream;
use crate::worker::clock::boot_ms;
use crate::worker::mask::Masker;
use crate::worker::output::{GAP, HEADER, MAX_FRAME, frame, path};

/// Files that the limit is divided into.
const FILES: u64 = 64;

/// What the job wrote, without its secrets, left out or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Total {
    pub(super) bytes: u64,
    pub(super) crc: u32,
}

/// Shared by the copier and who asks for the total.
#[derive(Clone)]
pub(super) struct Output {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    folder: PathBuf,
    /// Bytes on the disk at most.
    limit: u64,
    /// Cluster time minus time since boot.
    offset_ms: i64,
    total: Total,
    /// The file that is written, its first byte and its length.
    file: Option<(File, u64, u64)>,
    /// Length of the files that are kept for good.
    head: u64,
    /// Where the kept head ends, once it is full.
    head_end: Option<u64>,
    /// First bytes and lengths of the files that follow it.
    tail: VecDeque<(u64, u64)>,
    closed: bool,
    /// None: nothing to take out. So sizes, sums and offsets are of what is left.
    maskers: [Option<Masker>; 2],
    /// Looks through what is left.
    found: Option<Found>,
}

impl Output {
    /// In an attempt's folder. Times are of the cluster, `offset_ms` behind the boot's.
    #[cfg(test)]
    pub(super) fn new(folder: &Path, limit: u64, offset_ms: i64, masker: Option<Masker>) -> Self {
        Self::looked_through(folder, limit, offset_ms, masker, None)
    }

    /// The same, in which somebody looks for something.
    pub(super) fn looked_through(
        folder: &Path,
        limit: u64,
        offset_ms: i64,
        masker: Option<Masker>,
        found: Option<Found>,
    ) -> Self {
        let inner = Inner {
            folder: folder.to_owned(),
            limit,
            offset_ms,
            total: Total::default(),
            file: None,
            head: 0,
            head_end: None,
            tail: VecDeque::new(),
            closed: false,
            maskers: [masker.clone(), masker],
            found,
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Reads until nobody holds the pipes' other ends. What the job writes to both at the
    /// same time may come in another order than it was written.
    pub(super) fn copy(&self, stdout: PipeReader, stderr: PipeReader) {
        let mut buffer = vec![0; MAX_FRAME];
        let mut shown = Vec::new();
        let mut pipes = vec![(Stream::Stdout, stdout), (Stream::Stderr, stderr)];
        while !pipes.is_empty() {
            let mut ends: Vec<_> =
                pipes.iter().map(|(_, pipe)| PollFd::new(pipe, PollFlags::IN)).collect();
            match poll(&mut ends, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return,
            }
            let ready: Vec<bool> = ends.iter().map(|end| !end.revents().is_empty()).collect();
            let mut ready = ready.into_iter();
            // Each in its turn: a flood on one must not stop the other.
            pipes.retain_mut(|(stream, pipe)| {
                if ready.next() != Some(true) {
                    return true;
                }
                match pipe.read(&mut buffer) {
                    Ok(0) => false,
                    Ok(n) => {
                        self.lock().mask(*stream, &buffer[..n], &mut shown);
                        true
                    }
                    Err(e) => e.kind() == io::ErrorKind::Interrupted,
                }
            });
        }
    }

    /// Syncs, and takes nothing more.
    pub(super) fn close(&self) -> Total {
        let mut inner = self.lock();
        inner.end_masking();
        inner.closed = true;
        inner.sync();
        inner.total
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Takes what is left of it without secrets; `shown` is room for that.
    fn mask(&mut self, stream: Stream, data: &[u8], shown: &mut Vec<u8>) {
        let Some(masker) = &mut self.maskers[stream as usize] else {
            return self.take(stream, data);
        };
        shown.clear();
        masker.push(data, shown);
        self.take(stream, shown);
    }

    /// What was held back is no secret, as nothing follows it.
    fn end_masking(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if let Some(masker) = &mut self.maskers[stream as usize] {
                let mut shown = Vec::new();
                masker.finish(&mut shown);
                self.take(stream, &shown);
            }
        }
    }

    fn take(&mut self, stream: Stream, data: &[u8]) {
        if self.closed {
            return;
        }
        if let Some(found) = &self.found {
            found.look(stream, data);
        }
        let time = UtcMillis(self.offset_ms.saturating_add_unsigned(boot_ms()));
        for data in data.chunks(MAX_FRAME) {
            // What a full disk does not take is a gap: the next frame begins behind it.
            if self.write(time, stream, data).is_err() {
                self.file = None;
            }
            self.total.crc = crc32c::crc32c_append(self.total.crc, data);
            self.total.bytes += data.len() as u64;
        }
    }

    fn write(&mut self, time: UtcMillis, stream: Stream, data: &[u8]) -> io::Result<()> {
        let len = (HEADER + data.len()) as u64;
        let most = self.limit / FILES;
        if self.file.as_ref().is_none_or(|(_, _, size)| *size > 0 && size + len > most) {
            self.begin(len)?;
        }
        let at = self.total.bytes;
        let Some((file, first, size)) = &mut self.file else { return Ok(()) };
        // A reader takes a frame only if all of it is there.
        file.write_all(&frame(at, time, stream, data))?;
        *size += len;
        match self.tail.back_mut() {
            Some((newest, known)) if newest == first => *known = *size,
            _ => self.head += len,
        }
        Ok(())
    }

    /// Begins the next file, with room for a frame of `len` bytes.
    fn begin(&mut self, len: u64) -> io::Result<()> {
        let first = self.total.bytes;
        if self.head_end.is_none() && self.head + len > self.limit / 2 {
            self.head_end = Some(first);
        }
        if let Some(from) = self.head_end {
            let room = (self.limit / 2).saturating_sub(self.limit / FILES);
            let mut kept: u64 = self.tail.iter().map(|(_, size)| size).sum();
            let mut removed = false;
            while kept > room
                && let Some((oldest, size)) = self.tail.pop_front()
            {
                kept -= size;
                removed = true;
                fs::remove_file(path(&self.folder, oldest))?;
            }
            if removed {
                let to = self.tail.front().map_or(first, |(oldest, _)| *oldest);
                let new = self.folder.join(GAP).with_extension("tmp");
                fs::write(&new, format!("{from} {to}"))?;
                fs::rename(new, self.folder.join(GAP))?;
            }
            self.tail.push_back((first, 0));
        }
        // The job may run as somebody else: what it said is not its to read or change.
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path(&self.folder, first))?;
        self.file = Some((file, first, 0));
        Ok(())
    }

    /// A disk that does not take it is seen by whoever compares length and sum.
    fn sync(&self) {
        let Some((file, ..)) = &self.file else { return };
        let _ = file.sync_all();
        // A job with little output has this one alone.
        for first in crate::worker::output::files(&self.folder).unwrap_or_default() {
            if self.total.bytes >= self.limit / FILES {
                let _ = File::open(path(&self.folder, first)).and_then(|file| file.sync_all());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use horai_core::ids::{AttemptKey, RunId};

    use super::*;
    use crate::chunks::{Content, Piece};
    use crate::worker::output::{Reader, left_out};

    const KEY: AttemptKey = AttemptKey { run: RunId(1), shard: 0, number: 1 };

    fn read(folder: &Path, from: u64) -> Vec<Piece> {
        let mut reader = Reader::new(KEY, folder.to_owned(), from);
        std::iter::from_fn(|| reader.next(1 << 20).unwrap()).collect()
    }

    fn text(pieces: &[Piece]) -> String {
        let of = |piece: &Piece| match &piece.content {
            Content::Data { bytes, .. } => String::from_utf8(bytes.to_vec()).unwrap(),
            Content::Gap => format!("~{}-{}~", piece.from, piece.to),
        };
        pieces.iter().map(of).collect()
    }

    #[test]
    fn of_a_flood_the_first_and_the_last_are_kept_at_their_places() {
        let folder = tempfile::tempdir().unwrap();
        let limit = 512 << 10;
        let output = Output::new(folder.path(), limit, 0, None);
        let (stdout, mut writer) = io::pipe().unwrap();
        let (stderr, none) = io::pipe().unwrap();
        drop(none);
        let copier = output.clone();
        let copying = std::thread::spawn(move || copier.copy(stdout, stderr));
        let line = |n: u64| format!("line {n:08}\n");
        for n in 0..100_000 {
            writer.write_all(line(n).as_bytes()).unwrap();
        }
        drop(writer);
        copying.join().unwrap();
        let total = output.close();
        assert_eq!(total.bytes, 1_400_000);
        let on_disk: u64 = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        // One frame may be larger than a file.
        assert!(on_disk <= limit + 2 * MAX_FRAME as u64, "{on_disk}");
        let pieces = read(folder.path(), 0);
        assert_eq!((pieces[0].from, pieces.last().unwrap().to), (0, total.bytes));
        let gaps: Vec<_> = pieces.iter().filter(|p| p.content == Content::Gap).collect();
        assert_eq!(gaps.len(), 1);
        assert!(gaps[0].from > limit / 4 && total.bytes - gaps[0].to > limit / 4);
        let gap = left_out(folder.path()).unwrap().unwrap();
        assert_eq!((gaps[0].from, gaps[0].to), gap);
        for piece in &pieces {
            let Content::Data { bytes, .. } = &piece.content else { continue };
            for (at, byte) in (piece.from..).zip(bytes) {
                let wanted = line(at / 14).as_bytes()[usize::try_from(at % 14).unwrap()];
                assert_eq!(*byte, wanted, "at {at}");
            }
        }
        assert!(text(&read(folder.path(), total.bytes - 5)).ends_with("9999\n"));
    }

    #[test]
    fn streams_and_times_are_marked_and_a_reader_follows() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::new(folder.path(), 1 << 20, 1_000_000_000_000, None);
        let mut reader = Reader::new(KEY, folder.path().to_owned(), 0);
        assert_eq!(reader.next(100).unwrap(), None);
        let (mut seen, mut marks) = (String::new(), Vec::new());
        for (stream, said) in
            [(Stream::Stdout, "out\n"), (Stream::Stderr, "err\n"), (Stream::Stdout, "more\n")]
        {
            output.lock().take(stream, said.as_bytes());
            let piece = reader.next(100).unwrap().unwrap();
            let Content::Data { bytes, marks: new } = piece.content else { panic!("a gap") };
            seen.push_str(std::str::from_utf8(&bytes).unwrap());
            marks.extend(new);
            assert_eq!(reader.next(100).unwrap(), None);
        }
        assert_eq!(seen, "out\nerr\nmore\n");
        let told: Vec<_> = marks.iter().map(|mark| (mark.at, mark.stream)).collect();
        assert_eq!(told, [(0, Stream::Stdout), (4, Stream::Stderr), (8, Stream::Stdout)]);
        assert!(marks.iter().all(|mark| mark.time.0 > 1_000_000_000_000));
        assert_eq!(text(&read(folder.path(), 5)), "rr\nmore\n");
        // A shim that was killed left half a frame.
        let file = path(folder.path(), 0);
        let len = fs::metadata(&file).unwrap().len();
        OpenOptions::new().write(true).open(&file).unwrap().set_len(len - 2).unwrap();
        assert_eq!(text(&read(folder.path(), 0)), "out\nerr\n");
    }

    #[test]
    fn secrets_are_not_in_the_files_and_what_was_held_back_comes_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let masker = Masker::new(["hunter2"]);
        let output = Output::new(folder.path(), 1 << 20, 0, masker);
        let mut shown = Vec::new();
        let mut say = |stream, text: &str| output.lock().mask(stream, text.as_bytes(), &mut shown);
        say(Stream::Stdout, "user hunt");
        // What comes on the other stream in between hides nothing.
        say(Stream::Stderr, "!");
        say(Stream::Stdout, "er2 and hunt");
        assert_eq!(text(&read(folder.path(), 0)), "user !*** and ");
        let total = output.close();
        assert_eq!(text(&read(folder.path(), 0)), "user !*** and hunt");
        let sum = crc32c::crc32c(b"user !*** and hunt");
        assert_eq!((total.bytes, total.crc), (18, sum));
        output.lock().mask(Stream::Stdout, b"too late", &mut shown);
        assert_eq!(text(&read(folder.path(), 0)).len(), 18);
    }
}
