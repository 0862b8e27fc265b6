//! Durable small files: whole or absent after a crash, never half.
//!
//! Knows nothing of what the files mean. Everything here blocks.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Makes names created in or removed from `dir` durable.
///
/// # Errors
/// The system's.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Replaces `path` by `bytes`: temporary file, fsync, rename, fsync of the folder.
///
/// # Errors
/// The system's; the old content is then still there.
pub fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or_else(|| io::Error::other("a file needs a folder"))?;
    let tmp = path.with_extension("tmp");
    let mut file = File::create(&tmp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&tmp, path)?;
    sync_dir(dir)
}

/// Reads `path`; none if there is no such file.
///
/// # Errors
/// The system's, except "not found".
pub fn read_optional(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
