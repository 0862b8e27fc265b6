//! How a node enters a running cluster, alone or in the place of a lost one.
//!
//! A token gives it a number over the Raft port of any node; then its store is
//! made, and its starts announce it until it votes. The random id of the store is
//! noted before anything is asked, so that asking again gives the same number.
//! An old store is moved aside, never deleted.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use horai_core::ids::NodeId;
use horai_raft::host::OsHost;
use horai_raft::identity::{IdentityFile, OsFile};
use horai_raft::membership::admission::{self, AskError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::config::NodeConfig;
use crate::files;
use crate::founding::{self, IDENTITY, holds_store, store_dir};

/// The note of an admission that is under way, and of the seeds.
const NOTE: &str = "joining.json";
/// How long the cluster may take to let a node in.
const LIMIT: Duration = Duration::from_secs(30);
/// The most folders moved aside.
const MAX_OLD: u32 = 1_000;

/// Why a node cannot enter.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node has a store.
    #[error(
        "{} holds node {node} of a cluster already: start it with `horai node`, or choose an \
         empty data_dir", dir.display()
    )]
    Exists {
        /// The data folder.
        dir: PathBuf,
        /// Whose store it is.
        node: u64,
    },
    /// A cluster was begun there.
    #[error("{} holds the beginning of a cluster: choose an empty data_dir", .0.display())]
    Founding(PathBuf),
    /// What a crash left cannot be removed.
    #[error("the place of the store cannot be cleared")]
    Place(#[from] founding::Error),
    /// The cluster.
    #[error("the cluster does not let this node in")]
    Ask(#[from] AskError),
    /// The store.
    #[error("the store cannot be made")]
    Store(#[from] horai_raft::open::Error),
    /// The identity file beside an old store.
    #[error("the identity of the old store cannot be read")]
    Identity(#[from] horai_raft::identity::Error),
    /// Files or folders.
    #[error("cannot use {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The note is not what was written.
    #[error("{} is damaged: remove it and join again", .0.display())]
    Damaged(PathBuf),
}

/// Who the node is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinedAs {
    /// The cluster it belongs to.
    pub cluster: Uuid,
    /// Its number, for ever.
    pub node: NodeId,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    store: Uuid,
    replaces: Option<NodeId>,
    seeds: Vec<String>,
    joined: Option<JoinedAs>,
}

/// Asks the cluster behind `seeds` (Raft addresses) to let this node in, in the
/// place of a lost one if `replaces` says so, and makes its store. The node must
/// not run.
///
/// # Errors
/// [`Error`]; what was begun is gone on with when it is called again.
pub async fn join(
    config: &NodeConfig,
    seeds: &[String],
    token: &str,
    replaces: Option<NodeId>,
) -> Result<JoinedAs, Error> {
    let data_dir = &config.node.data_dir;
    finish_move(data_dir)?;
    let store = store_dir(config);
    let old = old_store(&store)?;
    let known = read(data_dir)?.filter(|note| note.replaces == replaces);
    if let Some(node) = old {
        match known.as_ref().and_then(|note| note.joined) {
            Some(joined) if joined.node.0 == node => return Ok(joined),
            _ if replaces.map(|lost| lost.0) != Some(node) => {
                return Err(Error::Exists { dir: data_dir.clone(), node });
            }
            _ => not_in_use(&store)?,
        }
    } else if founding::is_pending(config)? {
        return Err(Error::Founding(data_dir.clone()));
    }
    let mut note = known.unwrap_or_else(|| Note {
        store: Uuid::new_v4(),
        replaces,
        seeds: Vec::new(),
        joined: None,
    });
    note.seeds = seeds.to_vec();
    write(data_dir, &note)?;
    let admitted = admission::ask(&OsHost, seeds, token, note.store, replaces, LIMIT).await?;
    let joined = JoinedAs { cluster: admitted.cluster, node: admitted.node };
    note.joined = Some(joined);
    if old.is_some() {
        // Only now: a refusal leaves everything as it was.
        move_aside(data_dir, &note)?;
    } else {
        write(data_dir, &note)?;
        founding::remove_unfinished(&store, &data_dir.join(NOTE))?;
    }
    drop(horai_raft::open::create_as(&store, joined.cluster, joined.node.0, note.store)?);
    files::sync_dir(data_dir).map_err(io(data_dir))?;
    Ok(joined)
}

/// Raft addresses that this node was told when it joined; none once it votes.
///
/// # Errors
/// [`Error`] if the note cannot be read.
pub fn seeds(config: &NodeConfig) -> Result<Vec<String>, Error> {
    Ok(read(&config.node.data_dir)?.map(|note| note.seeds).unwrap_or_default())
}

/// The node votes: it knows the others without the note.
///
/// # Errors
/// [`Error::Io`]
pub fn entered(config: &NodeConfig) -> Result<(), Error> {
    let data_dir = &config.node.data_dir;
    let note = data_dir.join(NOTE);
    match std::fs::remove_file(&note) {
        Ok(()) => files::sync_dir(data_dir).map_err(io(data_dir)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(io(&note)(e)),
    }
}

fn io(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}

fn read(data_dir: &Path) -> Result<Option<Note>, Error> {
    let path = data_dir.join(NOTE);
    let content = files::read_optional(&path).map_err(io(&path))?;
    let parse = |bytes: Vec<u8>| serde_json::from_slice(&bytes).map_err(|_| Error::Damaged(path));
    content.map(parse).transpose()
}

fn write(dir: &Path, note: &Note) -> Result<(), Error> {
    let path = dir.join(NOTE);
    std::fs::create_dir_all(dir).map_err(io(dir))?;
    let content = serde_json::to_vec_pretty(note).map_err(|e| io(&path)(e.into()))?;
    files::write_durably(&path, &content).map_err(io(&path))
}

/// Whose store is there, if there is a whole one.
fn old_store(store: &Path) -> Result<Option<u64>, Error> {
    if !holds_store(store).map_err(io(store))? {
        return Ok(None);
    }
    let identity = IdentityFile::load(Box::new(OsFile::new(store, IDENTITY)))?;
    Ok(identity.map(|identity| identity.get().node))
}

/// A store that is damaged or was taken out may be moved; one that runs may not.
fn not_in_use(store: &Path) -> Result<(), Error> {
    match horai_raft::open::open(store) {
        Err(error @ horai_raft::open::Error::InUse(_)) => Err(error.into()),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// `<data_dir>.<suffix>`.
fn beside(data_dir: &Path, suffix: &str) -> PathBuf {
    let mut name = data_dir.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// Gives the node a new, empty data folder with the note, and keeps the old one as
/// `<data_dir>.old-<n>`.
fn move_aside(data_dir: &Path, note: &Note) -> Result<(), Error> {
    let new = beside(data_dir, "new");
    write(&new, note)?;
    let free = (1..=MAX_OLD)
        .map(|n| beside(data_dir, &format!("old-{n}")))
        .find(|old| !old.exists())
        .ok_or_else(|| {
            io(data_dir)(io::Error::other(format!("{MAX_OLD} old folders beside it")))
        })?;
    std::fs::rename(data_dir, &free).map_err(io(data_dir))?;
    tracing::info!(to = %free.display(), "old store moved aside");
    finish_move(data_dir)
}

/// Puts the new folder in its place, also after a crash between the two renames.
fn finish_move(data_dir: &Path) -> Result<(), Error> {
    let new = beside(data_dir, "new");
    if data_dir.exists() || !new.exists() {
        return Ok(());
    }
    std::fs::rename(&new, data_dir).map_err(io(&new))?;
    let parent = data_dir.parent().filter(|p| !p.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    files::sync_dir(parent).map_err(io(parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_folder_is_moved_aside_whole_even_over_a_crash() {
        let home = tempfile::tempdir().unwrap();
        let data_dir = home.path().join("node");
        let note = Note { store: Uuid::new_v4(), replaces: None, seeds: vec![], joined: None };
        for n in 1..=2 {
            std::fs::create_dir_all(&data_dir).unwrap();
            std::fs::write(data_dir.join("old"), n.to_string()).unwrap();
            move_aside(&data_dir, &note).unwrap();
            let kept = beside(&data_dir, &format!("old-{n}")).join("old");
            assert_eq!(std::fs::read_to_string(kept).unwrap(), n.to_string());
            assert_eq!(read(&data_dir).unwrap().unwrap().store, note.store);
            assert!(!data_dir.join("old").exists());
        }
        // A crash between the two renames.
        std::fs::rename(&data_dir, beside(&data_dir, "new")).unwrap();
        finish_move(&data_dir).unwrap();
        assert_eq!(read(&data_dir).unwrap().unwrap().store, note.store);
        // With both there, nothing is overwritten.
        write(&beside(&data_dir, "new"), &note).unwrap();
        finish_move(&data_dir).unwrap();
        assert!(beside(&data_dir, "new").exists());
    }
}
