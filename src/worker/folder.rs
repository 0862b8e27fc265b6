//! The few small files of a worker's own: journal and fence.
//!
//! A seam, so that a simulation can lose what was not synced. It knows nothing of
//! what the files mean. Everything here blocks.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::files;

/// A folder of small files.
pub trait Folder: fmt::Debug + Send + Sync + 'static {
    /// Where a file is, for whoever reads an error.
    fn path(&self, name: &str) -> PathBuf;

    /// Reads a file; none if there is no such file.
    ///
    /// # Errors
    /// The system's, except "not found".
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Replaces a file, durably and all or nothing.
    ///
    /// # Errors
    /// The system's; the old content is then still there.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Opens a file to write at its end.
    ///
    /// # Errors
    /// The system's.
    fn tail(&self, name: &str) -> io::Result<Box<dyn Tail>>;
}

/// A file's end.
pub trait Tail: Send {
    /// Writes; a crash may keep any part of it until [`Tail::sync`] returns.
    ///
    /// # Errors
    /// The system's.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes all of it durable.
    ///
    /// # Errors
    /// The system's; what the disk holds is then not known.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file to a length and makes that durable.
    ///
    /// # Errors
    /// The system's.
    fn cut(&mut self, len: u64) -> io::Result<()>;
}

/// A folder of the operating system.
#[derive(Debug, Clone)]
pub struct OsFolder(PathBuf);

impl OsFolder {
    /// The folder `dir`, which exists.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self(dir.to_owned())
    }
}

impl Folder for OsFolder {
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        files::read_optional(&self.path(name))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        files::write_durably(&self.path(name), bytes)
    }

    fn tail(&self, name: &str) -> io::Result<Box<dyn Tail>> {
        Ok(Box::new(OpenOptions::new().append(true).open(self.path(name))?))
    }
}

impl Tail for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)?;
        self.sync_all()
    }
}
