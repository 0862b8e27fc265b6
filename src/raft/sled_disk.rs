//! [`Disk`] on sled 0.34.7.
//!
//! sled's `flush` is no fsync on Linux, so [`SledDisk::sync`] also calls
//! `sync_data` on its own handle of the database file; at creation the file, its
//! configuration, the directory and the parent are synced as well. Single
//! ordered inserts only: batches and transactions take a lock that the flush
//! holds, and `flush_async` can hang. Nothing may become a blob, because sled
//! never syncs those.

use std::fs::{self, File};
use std::io;
use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use horai_core::mutants::{self, Mutant};

use crate::disk::{Disk, Space, Visit, check_size};
use crate::entry::to_bytes;

/// A message over a quarter of this becomes a blob.
const SEGMENT: usize = 8 << 20;

/// sled's own background sync, which also collects old segments.
const FLUSH_EVERY_MS: u64 = 500;

/// One sled database.
#[derive(Debug)]
pub struct SledDisk {
    path: PathBuf,
    db: sled::Db,
    trees: [sled::Tree; 3],
    file: File,
}

impl SledDisk {
    /// Opens or creates the database in the directory `path`.
    ///
    /// sled may panic on damaged files: call this where a panic is caught.
    ///
    /// # Errors
    /// If sled cannot open it or what was created cannot be synced.
    pub fn open(path: &Path, cache_bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let db = sled::Config::new()
            .path(path)
            .segment_size(SEGMENT)
            .mode(sled::Mode::HighThroughput)
            .cache_capacity(cache_bytes)
            .flush_every_ms(Some(FLUSH_EVERY_MS))
            .use_compression(false)
            .open()
            .map_err(io_error)?;
        let tree = |space: Space| db.open_tree(space.name()).map_err(io_error);
        let trees = [tree(Space::Log)?, tree(Space::Meta)?, tree(Space::Chunks)?];
        let file = File::options().read(true).write(true).open(path.join("db"))?;
        let disk = Self { path: path.to_owned(), db, trees, file };
        disk.sync()?;
        disk.file.sync_all()?;
        File::open(path.join("conf"))?.sync_all()?;
        File::open(path)?.sync_all()?;
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        disk.check()?;
        Ok(disk)
    }

    fn tree(&self, space: Space) -> &sled::Tree {
        match space {
            Space::Log => &self.trees[0],
            Space::Meta => &self.trees[1],
            Space::Chunks => &self.trees[2],
        }
    }
}

impl Disk for SledDisk {
    fn put(&self, space: Space, key: &[u8], value: &[u8]) -> io::Result<()> {
        check_size(space, key, value)?;
        self.tree(space).insert(key, value).map(drop).map_err(io_error)
    }

    fn remove(&self, space: Space, key: &[u8]) -> io::Result<()> {
        self.tree(space).remove(key).map(drop).map_err(io_error)
    }

    fn get(&self, space: Space, key: &[u8]) -> io::Result<Option<Bytes>> {
        let value = self.tree(space).get(key).map_err(io_error)?;
        Ok(value.map(|v| to_bytes(&v)))
    }

    fn scan(
        &self,
        space: Space,
        from: &[u8],
        to: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> io::Result<()> {
        let end = to.map_or(Bound::Unbounded, Bound::Excluded);
        for item in self.tree(space).range::<&[u8], _>((Bound::Included(from), end)) {
            let (key, value) = item.map_err(io_error)?;
            if let ControlFlow::Break(()) = visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn last_key(&self, space: Space) -> io::Result<Option<Bytes>> {
        let last = self.tree(space).last().map_err(io_error)?;
        Ok(last.map(|(key, _)| to_bytes(&key)))
    }

    fn sync(&self) -> io::Result<()> {
        self.db.flush().map_err(io_error)?;
        if !mutants::on(Mutant::PlainFlush) {
            self.file.sync_data()?;
        }
        #[cfg(test)]
        self.check()?;
        Ok(())
    }

    fn check(&self) -> io::Result<()> {
        let blobs = match fs::read_dir(self.path.join("blobs")) {
            Ok(entries) => entries.count(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) => return Err(e),
        };
        if blobs == 0 {
            return Ok(());
        }
        let text = format!(
            "sled wrote {blobs} blob files in {}, which are never synced: \
             this store cannot be trusted, replace the node",
            self.path.display()
        );
        Err(io::Error::new(io::ErrorKind::InvalidData, text))
    }
}

/// Keeps the operating system's error kind, by which a full disk is told from
/// a broken one.
fn io_error(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(e) => e,
        sled::Error::Corruption { .. } => io::Error::new(io::ErrorKind::InvalidData, error),
        other => io::Error::other(other),
    }
}
