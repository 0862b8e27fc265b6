//! The identity file: who this store is and what it must at least hold.
//!
//! It lies outside sled, because sled can open a truncated database as an empty
//! one without an error. It is replaced as a whole and synced, and it only ever
//! claims what the stores held durably before. It decides nothing: the checks
//! are in [`crate::open`].

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::disk::SmallFile;
use crate::types::Vote;

/// Version of the file and of the stores beside it.
pub const FORMAT: u32 = 1;

/// Whether the store ever acknowledged anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Made, and still without vote or entry.
    Created,
    /// Held a vote or an entry: it can never be empty again.
    HasData,
}

/// Content of the identity file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Version of this and of the stores.
    pub format: u32,
    /// The cluster it belongs to.
    pub cluster: Uuid,
    /// The node's number in it.
    pub node: u64,
    /// Random id of the stores, also written into them.
    pub store: Uuid,
    /// Whether it ever held anything.
    pub stage: Stage,
    /// The last vote that was acknowledged.
    pub vote: Option<Vote>,
    /// Last log index of the last published snapshot.
    pub snapshot: Option<u64>,
    /// Last purged log index.
    pub purged: Option<u64>,
    /// A log index known durable, renewed once a second.
    pub synced: Option<u64>,
    /// Set for ever when the disk failed: what it said.
    pub suspect: Option<String>,
    /// Set for ever when the node was taken out of the cluster.
    #[serde(default)]
    pub retired: bool,
}

impl Identity {
    /// That of a store just made, with its random id.
    #[must_use]
    pub fn new(cluster: Uuid, node: u64, store: Uuid) -> Self {
        Self {
            format: FORMAT,
            cluster,
            node,
            store,
            stage: Stage::Created,
            vote: None,
            snapshot: None,
            purged: None,
            synced: None,
            suspect: None,
            retired: false,
        }
    }
}

/// Why an identity file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read or written.
    #[error("cannot read the identity file")]
    Io(#[from] io::Error),
    /// Its checksum or content is wrong.
    #[error("the identity file is damaged: {0}")]
    Damaged(&'static str),
    /// Written by a newer program.
    #[error("the identity file has format {0}, this program knows {FORMAT}")]
    Newer(u64),
}

/// The file with what it holds now.
pub struct IdentityFile {
    file: Box<dyn SmallFile>,
    current: Mutex<Identity>,
}

impl IdentityFile {
    /// Reads it; `None` if there is no such file.
    ///
    /// # Errors
    /// [`Error`] if it cannot be read, is damaged or newer.
    pub fn load(file: Box<dyn SmallFile>) -> Result<Option<Self>, Error> {
        let Some(content) = file.load()? else { return Ok(None) };
        let current = Mutex::new(decode(&content)?);
        Ok(Some(Self { file, current }))
    }

    /// Writes the first one.
    ///
    /// # Errors
    /// If it may not be durable.
    pub fn create(file: Box<dyn SmallFile>, identity: Identity) -> io::Result<Self> {
        file.replace(&encode(&identity)?)?;
        Ok(Self { file, current: Mutex::new(identity) })
    }

    /// What it holds.
    #[must_use]
    pub fn get(&self) -> Identity {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes it durably; writes nothing if nothing changes.
    ///
    /// # Errors
    /// If the change may not be durable.
    pub fn update(&self, change: impl FnOnce(&mut Identity)) -> io::Result<()> {
        // Held over the write, so that the file never goes back.
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = current.clone();
        change(&mut next);
        if next != *current {
            self.file.replace(&encode(&next)?)?;
            *current = next;
        }
        Ok(())
    }
}

/// A line with the CRC of what follows, then JSON that a person can read.
fn encode(identity: &Identity) -> io::Result<Vec<u8>> {
    let body = serde_json::to_string_pretty(identity).map_err(io::Error::other)?;
    let crc = crc32c::crc32c(body.as_bytes());
    Ok(format!("horai identity crc32c={crc:08x}\n{body}").into_bytes())
}

fn decode(content: &[u8]) -> Result<Identity, Error> {
    let text = std::str::from_utf8(content).map_err(|_| Error::Damaged("not text"))?;
    let (head, body) = text.split_once('\n').ok_or(Error::Damaged("no second line"))?;
    let crc = head.strip_prefix("horai identity crc32c=").ok_or(Error::Damaged("first line"))?;
    if crc != format!("{:08x}", crc32c::crc32c(body.as_bytes())) {
        return Err(Error::Damaged("checksum"));
    }
    // The format first: a newer one may have other fields.
    let value: serde_json::Value =
        serde_json::from_str(body).map_err(|_| Error::Damaged("not JSON"))?;
    match value.get("format").and_then(serde_json::Value::as_u64) {
        Some(format) if format > u64::from(FORMAT) => return Err(Error::Newer(format)),
        Some(_) => {}
        None => return Err(Error::Damaged("no format")),
    }
    serde_json::from_value(value).map_err(|_| Error::Damaged("fields"))
}

/// A [`SmallFile`] of the operating system: written beside, synced, renamed, and
/// the directory synced.
#[derive(Debug, Clone)]
pub struct OsFile {
    path: PathBuf,
    beside: PathBuf,
    dir: PathBuf,
}

impl OsFile {
    /// The file `name` in `dir`.
    #[must_use]
    pub fn new(dir: &Path, name: &str) -> Self {
        Self { path: dir.join(name), beside: dir.join(format!("{name}.tmp")), dir: dir.to_owned() }
    }
}

impl SmallFile for OsFile {
    fn load(&self) -> io::Result<Option<Vec<u8>>> {
        match fs::read(&self.path) {
            Ok(content) => Ok(Some(content)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn replace(&self, content: &[u8]) -> io::Result<()> {
        let mut file = File::create(&self.beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&self.beside, &self.path)?;
        File::open(&self.dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_survives_and_refuses_damage() {
        let dir = tempfile::tempdir().unwrap();
        let os = OsFile::new(dir.path(), "identity");
        assert!(IdentityFile::load(Box::new(os.clone())).unwrap().is_none());
        let made = Identity::new(Uuid::from_u128(7), 3, Uuid::from_u128(70));
        let file = IdentityFile::create(Box::new(os.clone()), made).unwrap();
        file.update(|i| i.vote = Some(Vote::new(4, 3))).unwrap();
        let again = IdentityFile::load(Box::new(os.clone())).unwrap().unwrap();
        assert_eq!(again.get(), file.get());
        assert_eq!(again.get().vote, Some(Vote::new(4, 3)));

        let mut bytes = os.load().unwrap().unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        os.replace(&bytes).unwrap();
        assert!(matches!(IdentityFile::load(Box::new(os.clone())), Err(Error::Damaged(_))));

        let newer = encode(&Identity { format: FORMAT + 1, ..file.get() }).unwrap();
        os.replace(&newer).unwrap();
        assert!(matches!(IdentityFile::load(Box::new(os)), Err(Error::Newer(2))));
    }
}
