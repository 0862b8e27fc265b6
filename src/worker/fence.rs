//! The highest leader this worker has accepted, kept across its restarts.
//!
//! A deposed leader that does not know it yet must not start anything here.
//! The file is replaced before a leader is obeyed, so that a crash in between
//! can only make the worker stricter.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use horai_core::ids::{LeaderId, NodeId};
use horai_core::mutants::{self, Mutant};

use super::folder::{Folder, OsFolder};

const NAME: &str = "fence";

/// Why a leader was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An older leader than one obeyed before.
    #[error("leader {offered} is older than {highest}, which this worker has accepted")]
    Older {
        /// Who asked.
        offered: LeaderId,
        /// Whom it obeys.
        highest: LeaderId,
    },
    /// The file cannot be read or written.
    #[error("fence file {path:?}: check the disk and the permissions")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else.
    #[error(
        "fence file {path:?} is damaged: restore it, or remove the worker's whole data folder, \
         which makes it a new worker"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
}

/// The file and what it holds.
#[derive(Debug)]
pub struct Fence {
    folder: Arc<dyn Folder>,
    highest: LeaderId,
}

impl Fence {
    /// Reads the file in `dir`; a missing one accepts any leader.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Damaged`].
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Self::open_in(Arc::new(OsFolder::new(dir)))
    }

    /// [`Fence::open`] in any folder.
    ///
    /// # Errors
    /// As [`Fence::open`].
    pub fn open_in(folder: Arc<dyn Folder>) -> Result<Self, Error> {
        let path = folder.path(NAME);
        let io = |source| Error::Io { path: path.clone(), source };
        let highest = match folder.read(NAME).map_err(io)? {
            None => LeaderId::default(),
            Some(bytes) => decode(&bytes).ok_or_else(|| Error::Damaged { path: path.clone() })?,
        };
        Ok(Self { folder, highest })
    }

    /// The highest leader accepted so far.
    #[must_use]
    pub fn highest(&self) -> LeaderId {
        self.highest
    }

    /// Accepts `leader`, durably, unless it is older than the highest.
    ///
    /// # Errors
    /// [`Error::Older`], or [`Error::Io`] when it could not be made durable.
    pub fn accept(&mut self, leader: LeaderId) -> Result<(), Error> {
        if leader < self.highest && !mutants::on(Mutant::OlderLeaderObeyed) {
            return Err(Error::Older { offered: leader, highest: self.highest });
        }
        if leader > self.highest {
            let replaced = self.folder.replace(NAME, encode(leader).as_bytes());
            replaced.map_err(|source| Error::Io { path: self.folder.path(NAME), source })?;
            self.highest = leader;
        }
        Ok(())
    }
}

fn encode(leader: LeaderId) -> String {
    let body = format!("horai-fence 1 {} {}", leader.term, leader.node);
    format!("{body} {:08x}\n", crc32c::crc32c(body.as_bytes()))
}

fn decode(bytes: &[u8]) -> Option<LeaderId> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let (body, crc) = text.rsplit_once(' ')?;
    if u32::from_str_radix(crc, 16).ok()? != crc32c::crc32c(body.as_bytes()) {
        return None;
    }
    let (term, node) = body.strip_prefix("horai-fence 1 ")?.split_once(' ')?;
    Some(LeaderId { term: term.parse().ok()?, node: NodeId(node.parse().ok()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader(term: u64, node: u64) -> LeaderId {
        LeaderId { term, node: NodeId(node) }
    }

    #[test]
    fn an_older_leader_is_refused_across_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let mut fence = Fence::open(dir.path()).unwrap();
        fence.accept(leader(3, 2)).unwrap();
        fence.accept(leader(3, 2)).unwrap();
        drop(fence);
        let mut fence = Fence::open(dir.path()).unwrap();
        assert_eq!(fence.highest(), leader(3, 2));
        for older in [leader(3, 1), leader(2, 9)] {
            assert!(matches!(fence.accept(older), Err(Error::Older { .. })));
        }
        fence.accept(leader(3, 3)).unwrap();
        fence.accept(leader(4, 1)).unwrap();
        assert_eq!(Fence::open(dir.path()).unwrap().highest(), leader(4, 1));
    }

    #[test]
    fn a_damaged_file_is_refused_at_every_byte() {
        let good = encode(leader(12, 34));
        for i in 0..good.len() {
            let mut bad = good.clone().into_bytes();
            bad[i] ^= 1;
            assert_ne!(decode(&bad), Some(leader(12, 34)), "byte {i}");
            assert_eq!(decode(&good.as_bytes()[..i]), None, "cut at {i}");
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("fence"), "nonsense").unwrap();
        assert!(matches!(Fence::open(dir.path()), Err(Error::Damaged { .. })));
    }
}
