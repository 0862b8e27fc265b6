//! The seam under everything that is stored: ordered keys and values, and a
//! sync that means it.
//!
//! The log and the snapshots see only these traits, so that the simulated disk
//! of the crash suite or another engine can take sled's place. An
//! implementation must apply writes in the order of the calls and, after a
//! crash, show all that was synced and at most a prefix of what was not.

use std::io;
use std::ops::ControlFlow;

use bytes::Bytes;

/// The largest value, key and checksums included: larger messages make sled
/// write files that it never syncs.
pub const MAX_VALUE: usize = 48 * 1024;

/// Independent key ranges of one disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Log entries and their parts.
    Log,
    /// Single values: header, vote, purge marker, committed, snapshot pointer.
    Meta,
    /// Snapshot chunks.
    Chunks,
}

impl Space {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Log, Self::Meta, Self::Chunks];

    /// Its name on disk.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Meta => "meta",
            Self::Chunks => "chunks",
        }
    }
}

/// What a scan calls for each key and value; it may end the scan.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// Ordered keys and values with an explicit sync.
pub trait Disk: Send + Sync + 'static {
    /// Writes a value; visible at once, durable after [`Disk::sync`].
    ///
    /// # Errors
    /// If the engine fails, or the value exceeds [`MAX_VALUE`].
    fn put(&self, space: Space, key: &[u8], value: &[u8]) -> io::Result<()>;

    /// Removes a key, if it is there.
    ///
    /// # Errors
    /// If the engine fails.
    fn remove(&self, space: Space, key: &[u8]) -> io::Result<()>;

    /// Reads one value.
    ///
    /// # Errors
    /// If the engine fails.
    fn get(&self, space: Space, key: &[u8]) -> io::Result<Option<Bytes>>;

    /// Visits keys of `[from, to)` in ascending order, to the end without `to`.
    ///
    /// # Errors
    /// If the engine fails.
    fn scan(
        &self,
        space: Space,
        from: &[u8],
        to: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> io::Result<()>;

    /// The greatest key.
    ///
    /// # Errors
    /// If the engine fails.
    fn last_key(&self, space: Space) -> io::Result<Option<Bytes>>;

    /// Makes every write that returned before this call durable.
    ///
    /// # Errors
    /// If anything may not have reached the platter. The disk must not be
    /// trusted afterwards.
    fn sync(&self) -> io::Result<()>;

    /// Looks for damage that the engine does not report itself.
    ///
    /// # Errors
    /// What was found.
    fn check(&self) -> io::Result<()>;
}

/// One small file that is replaced as a whole.
pub trait SmallFile: Send + Sync + 'static {
    /// Its content, if it exists.
    ///
    /// # Errors
    /// If it cannot be read.
    fn load(&self) -> io::Result<Option<Vec<u8>>>;

    /// Puts `content` in its place, durably and all or nothing.
    ///
    /// # Errors
    /// If it may not be durable.
    fn replace(&self, content: &[u8]) -> io::Result<()>;
}

/// Refuses what would become a blob.
pub(crate) fn check_size(space: Space, key: &[u8], value: &[u8]) -> io::Result<()> {
    let size = key.len() + value.len();
    if size > MAX_VALUE {
        let text = format!(
            "a value of {size} bytes in {:?} exceeds the limit of {MAX_VALUE}",
            space.name()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(())
}
