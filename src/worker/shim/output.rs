//! Copies the job's output to its file, without its secrets, up to a limit.
//!
//! Never stops reading: a full disk or a reached limit must not block the job.

use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::worker::mask::Masker;

/// What the file holds so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Total {
    pub(super) bytes: u64,
    pub(super) crc: u32,
    dropped: u64,
}

/// Shared by the copier and who asks for the total.
#[derive(Clone)]
pub(super) struct Output {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    file: File,
    total: Total,
    limit: u64,
    closed: bool,
    /// None: nothing to take out. So sizes, sums and offsets are of what is left.
    masker: Option<Masker>,
}

impl Output {
    pub(super) fn create(path: &Path, limit: u64, masker: Option<Masker>) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).write(true).truncate(true).open(path)?;
        let inner = Inner { file, total: Total::default(), limit, closed: false, masker };
        Ok(Self { inner: Arc::new(Mutex::new(inner)) })
    }

    /// Reads until nobody holds the pipe's other end.
    pub(super) fn copy(&self, mut pipe: PipeReader) {
        let mut buffer = vec![0; 64 * 1024];
        let mut shown = Vec::new();
        loop {
            match pipe.read(&mut buffer) {
                Ok(0) => return,
                Ok(n) => self.lock().mask(&buffer[..n], &mut shown),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Notes what was dropped, syncs, and takes nothing more.
    pub(super) fn close(&self) -> Total {
        let mut inner = self.lock();
        inner.end_masking();
        if inner.total.dropped > 0 {
            let note = format!(
                "\n[horai: output limit of {} bytes reached, {} bytes dropped]\n",
                inner.limit, inner.total.dropped
            );
            inner.write(note.as_bytes());
        }
        inner.closed = true;
        // A disk that does not take it is seen by whoever compares length and sum.
        let _ = inner.file.sync_all();
        inner.total
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Takes what is left of it without secrets; `shown` is room for that.
    fn mask(&mut self, data: &[u8], shown: &mut Vec<u8>) {
        let Some(masker) = &mut self.masker else { return self.take(data) };
        shown.clear();
        masker.push(data, shown);
        self.take(shown);
    }

    /// What was held back is no secret, as nothing follows it.
    fn end_masking(&mut self) {
        if let Some(masker) = &mut self.masker {
            let mut shown = Vec::new();
            masker.finish(&mut shown);
            self.take(&shown);
        }
    }

    fn take(&mut self, data: &[u8]) {
        let room =
            usize::try_from(self.limit.saturating_sub(self.total.bytes)).unwrap_or(usize::MAX);
        // Once something was dropped, what follows is too: no silent hole.
        let kept = if self.closed || self.total.dropped > 0 { 0 } else { data.len().min(room) };
        let written = self.write(&data[..kept]);
        self.total.dropped += (data.len() - written) as u64;
    }

    fn write(&mut self, mut data: &[u8]) -> usize {
        let all = data.len();
        while !data.is_empty() {
            match self.file.write(data) {
                Ok(n) if n > 0 => {
                    self.total.crc = crc32c::crc32c_append(self.total.crc, &data[..n]);
                    self.total.bytes += n as u64;
                    data = &data[n..];
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => break,
            }
        }
        all - data.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_beyond_the_limit_is_dropped_with_a_note_and_the_sum_is_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("output");
        let output = Output::create(&path, 10, None).unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"0123456789abcdef").unwrap();
        drop(writer);
        output.copy(reader);
        let total = output.close();
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.starts_with(b"0123456789\n[horai: output limit of 10 bytes reached, 6 "));
        assert_eq!(total.bytes, bytes.len() as u64);
        assert_eq!(total.crc, crc32c::crc32c(&bytes));
    }

    #[test]
    fn secrets_are_not_in_the_file_and_what_was_held_back_comes_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("output");
        let masker = Masker::new(["hunter2"]);
        let output = Output::create(&path, 20, masker).unwrap();
        let mut shown = Vec::new();
        for piece in ["user hunt", "er2 and hunt"] {
            output.lock().mask(piece.as_bytes(), &mut shown);
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"user *** and ");
        let total = output.close();
        assert_eq!(std::fs::read(&path).unwrap(), b"user *** and hunt");
        assert_eq!((total.bytes, total.crc), (17, crc32c::crc32c(b"user *** and hunt")));
        output.lock().mask(b"too late", &mut shown);
        assert_eq!(std::fs::read(&path).unwrap().len(), 17);
    }
}
