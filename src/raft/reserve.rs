//! Disk space that is kept for stopping and starting.
//!
//! A full disk is no damage: the node stops, and starts again once there is
//! space. Closing a database and opening it need some space themselves, so a
//! file beside the stores holds some; it is given back when the disk is full,
//! and a node starts only with it in place.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

/// How much is kept.
pub(crate) const RESERVE: u64 = 16 << 20;

const NAME: &str = "reserve";

/// The file that holds the space.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// Takes the space, unless it is held already.
    pub(crate) fn ensure(dir: &Path) -> io::Result<Self> {
        let path = dir.join(NAME);
        let held = fs::metadata(&path).is_ok_and(|found| found.len() == RESERVE);
        if !held && let Err(error) = fill(&path) {
            // Half of it helps nobody.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(Self { path })
    }

    /// Gives the space back.
    pub(crate) fn release(&self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, "cannot give the reserve's space back");
        }
    }
}

fn fill(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, RESERVE) {
        Ok(()) => {}
        // Not every file system can.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            let block = [0; 64 << 10];
            for _ in 0..RESERVE / block.len() as u64 {
                file.write_all(&block)?;
            }
        }
        Err(error) => return Err(error.into()),
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_taken_once_and_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::ensure(dir.path()).unwrap();
        let size = || fs::metadata(dir.path().join(NAME)).map(|found| found.len()).ok();
        assert_eq!(size(), Some(RESERVE));
        File::options().write(true).open(dir.path().join(NAME)).unwrap().set_len(5).unwrap();
        Reserve::ensure(dir.path()).unwrap();
        assert_eq!(size(), Some(RESERVE));
        reserve.release();
        assert_eq!(size(), None);
        assert!(Reserve::ensure(&dir.path().join("missing")).is_err());
    }
}
