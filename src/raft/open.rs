//! Makes and opens a node's stores, and refuses those that cannot be trusted.
//!
//! A store that forgot a vote or an acknowledged entry would break the promise
//! of the quorum, and sled can forget silently. So everything is compared with
//! the identity file before any of it is answered. Nothing is repaired here but
//! what a crash legally leaves: an incomplete last entry and purged leftovers.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use horai_core::mutants::{self, Mutant};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::disk::{Disk, SmallFile, Space};
use crate::entry::{self, Fault, Joiner};
use crate::flusher::{Failure, delete_upto, is_full};
use crate::host::{Host, OsHost};
use crate::identity::{self, FORMAT, Identity, IdentityFile, OsFile, Stage};
use crate::log_store::{COMMITTED, LogStore, Marks, PURGED, VOTE};
use crate::reserve::{RESERVE, Reserve};
use crate::sled_disk::SledDisk;
use crate::snapshot_store::SnapshotStore;
use crate::types::LogId;

const HEADER: &[u8] = b"header";
const IDENTITY: &str = "identity";
const LOG_CACHE: u64 = 32 << 20;
const SNAPSHOT_CACHE: u64 = 8 << 20;

/// Why a node's stores cannot be used. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing to open.
    #[error("{dir} holds no store: run `horai cluster init` or `horai cluster join` first", dir = .0.display())]
    NotCreated(PathBuf),
    /// There is something where a store was to be made.
    #[error("{dir} holds a store already: start the node, or choose an empty directory", dir = .0.display())]
    Exists(PathBuf),
    /// Databases without the identity file.
    #[error("the identity file is missing beside the store: {REPLACE}")]
    NoIdentity,
    /// The database opened empty, and once was not.
    #[error("the {0} store is empty although it held data: the disk lost it; {REPLACE}")]
    Empty(&'static str),
    /// The store holds less than was acknowledged.
    #[error(
        "the store's {what} is {found}, below {known} in the identity file: the disk lost \
         acknowledged data, or an old copy was put in place; {REPLACE}"
    )]
    BelowIdentity {
        /// Vote, purge marker, snapshot or last entry.
        what: &'static str,
        /// In the store.
        found: String,
        /// In the identity file.
        known: String,
    },
    /// The store belongs to another identity file.
    #[error(
        "the {which} store has id {found}, the identity file {known}: put this node's own \
         files back; if they are gone: {REPLACE}"
    )]
    Foreign {
        /// Log or snapshot store.
        which: &'static str,
        /// In the store.
        found: Uuid,
        /// In the identity file.
        known: Uuid,
    },
    /// A newer program wrote it.
    #[error("the store has format {found}, this program knows {FORMAT}: start the newer program")]
    Newer {
        /// The format found.
        found: u64,
    },
    /// A checksum, a hole or sled's own complaint.
    #[error("the store is damaged: {what}; {REPLACE}")]
    Damaged {
        /// What was found.
        what: String,
    },
    /// The disk failed under it before.
    #[error("the store is suspect since the disk failed ({why}): check the disk; {REPLACE}")]
    Suspect {
        /// What the disk said.
        why: String,
    },
    /// It was taken out of its cluster.
    #[error(
        "node {0} was removed from the cluster and cannot come back under its number: take an empty \
         directory and run `horai cluster join`, or `horai cluster replace` for a lost node"
    )]
    Retired(u64),
    /// No space to start with.
    #[error(
        "the disk of {dir} is full: free {mib} MiB or more and start the node again",
        dir = .0.display(), mib = RESERVE >> 20
    )]
    Full(PathBuf),
    /// Another process has it open.
    #[error("another process uses the store in {dir}: stop it first", dir = .0.display())]
    InUse(PathBuf),
    /// The operating system refuses.
    #[error("cannot read or write the store: check permissions and free space of its disk")]
    Io(#[source] io::Error),
}

/// What remains when a store is lost.
const REPLACE: &str = "a node never comes back under its number with another store: run `horai cluster replace` with \
     that number, which makes a new store under a new one";

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::InvalidData {
            Self::Damaged { what: error.to_string() }
        } else {
            Self::Io(error)
        }
    }
}

impl From<identity::Error> for Error {
    fn from(error: identity::Error) -> Self {
        match error {
            identity::Error::Io(e) => Self::Io(e),
            identity::Error::Newer(found) => Self::Newer { found },
            identity::Error::Damaged(_) => Self::Damaged { what: error.to_string() },
        }
    }
}

/// A node's stores, checked.
pub struct Stores {
    /// Votes and entries.
    pub log: LogStore,
    /// Snapshots.
    pub snapshots: Arc<SnapshotStore>,
    /// Who the node is.
    pub identity: Arc<IdentityFile>,
    /// The machine under it.
    pub host: Arc<dyn Host>,
}

/// First value of both databases.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Header {
    format: u32,
    store: Uuid,
}

/// Makes the stores of a new node, with a random id.
///
/// # Errors
/// [`Error::Exists`] if anything is there already.
pub fn create(dir: &Path, cluster: Uuid, node: u64) -> Result<Stores, Error> {
    create_as(dir, cluster, node, Uuid::new_v4())
}

/// [`create`] with the store id under which the node was admitted.
///
/// # Errors
/// As [`create`].
pub fn create_as(dir: &Path, cluster: Uuid, node: u64, store: Uuid) -> Result<Stores, Error> {
    let exists = dir.exists() && std::fs::read_dir(dir).map_err(Error::Io)?.next().is_some();
    if exists {
        return Err(Error::Exists(dir.to_owned()));
    }
    std::fs::create_dir_all(dir).map_err(Error::Io)?;
    let reserve = reserve(dir)?;
    let (log, snapshots) = open_sled(dir)?;
    let identity = Identity::new(cluster, node, store);
    let file = Box::new(OsFile::new(dir, IDENTITY));
    create_with(Arc::new(OsHost), log, snapshots, file, identity, Some(reserve))
}

fn reserve(dir: &Path) -> Result<Reserve, Error> {
    Reserve::ensure(dir).map_err(|error| {
        if is_full(&error) { Error::Full(dir.to_owned()) } else { Error::Io(error) }
    })
}

/// Opens and checks the stores of a node.
///
/// # Errors
/// [`Error`] says why they cannot be used, and what to do.
pub fn open(dir: &Path) -> Result<Stores, Error> {
    let file = OsFile::new(dir, IDENTITY);
    if file.load().map_err(Error::Io)?.is_none() {
        let bare = !dir.join("log").exists() && !dir.join("snapshots").exists();
        return Err(if bare { Error::NotCreated(dir.to_owned()) } else { Error::NoIdentity });
    }
    // A missing database must not be made anew and then look empty.
    for which in ["log", "snapshots"] {
        if !dir.join(which).join("db").exists() {
            return Err(Error::Empty(which));
        }
    }
    let reserve = reserve(dir)?;
    let (log, snapshots) = open_sled(dir)?;
    // Reading a damaged sled can panic too.
    let host = Arc::new(OsHost);
    caught(move || open_with(host, log, snapshots, Box::new(file), Some(reserve)))?
}

/// A closed database is locked until sled's own threads have let go of it, which
/// may be after whoever closed it was told that it is.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_STEP: Duration = Duration::from_millis(20);

/// Log and snapshots.
type Disks = (Arc<dyn Disk>, Arc<dyn Disk>);

fn open_sled(dir: &Path) -> Result<Disks, Error> {
    let open = |name: &str, cache: u64| -> Result<Arc<dyn Disk>, Error> {
        let began = Instant::now();
        loop {
            let path = dir.join(name);
            match caught(move || SledDisk::open(&path, cache))? {
                Ok(disk) => return Ok(Arc::new(disk)),
                // sled flattens the lock's error into a text.
                Err(e) if e.to_string().contains("could not acquire lock") => {
                    if began.elapsed() > LOCK_WAIT {
                        return Err(Error::InUse(dir.to_owned()));
                    }
                    std::thread::sleep(LOCK_STEP);
                }
                Err(e) => return Err(e.into()),
            }
        }
    };
    Ok((open("log", LOG_CACHE)?, open("snapshots", SNAPSHOT_CACHE)?))
}

/// Name of the thread on which a store is opened. A damaged one makes sled panic
/// there, which is caught: a hook that ends the process must let it be.
pub const OPENER: &str = "raft-open";

/// Runs on a thread of its own, whose panic becomes an error.
fn caught<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let thread =
        std::thread::Builder::new().name(OPENER.to_owned()).spawn(work).map_err(Error::Io)?;
    thread.join().map_err(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no reason given");
        Error::Damaged { what: format!("sled panicked: {text}") }
    })
}

/// [`create`] on any disks and host. A host without threads needs a runtime around
/// the call.
///
/// # Errors
/// If they are not empty or cannot be written.
pub fn create_on(
    host: Arc<dyn Host>,
    log: Arc<dyn Disk>,
    snapshots: Arc<dyn Disk>,
    file: Box<dyn SmallFile>,
    identity: Identity,
) -> Result<Stores, Error> {
    create_with(host, log, snapshots, file, identity, None)
}

fn create_with(
    host: Arc<dyn Host>,
    log: Arc<dyn Disk>,
    snapshots: Arc<dyn Disk>,
    file: Box<dyn SmallFile>,
    identity: Identity,
    reserve: Option<Reserve>,
) -> Result<Stores, Error> {
    let header = Header { format: FORMAT, store: identity.store };
    for disk in [&log, &snapshots] {
        disk.put(Space::Meta, HEADER, &entry::seal_value(HEADER, &header)?)?;
        disk.sync()?;
    }
    // Last: before it there is no node, and nothing was promised.
    let identity = Arc::new(IdentityFile::create(file, identity)?);
    start(host, log, snapshots, identity, Marks::default(), reserve)
}

/// [`open`] on any disks and host. A host without threads needs a runtime around the
/// call.
///
/// # Errors
/// As [`open`].
pub fn open_on(
    host: Arc<dyn Host>,
    log: Arc<dyn Disk>,
    snapshots: Arc<dyn Disk>,
    file: Box<dyn SmallFile>,
) -> Result<Stores, Error> {
    open_with(host, log, snapshots, file, None)
}

fn open_with(
    host: Arc<dyn Host>,
    log: Arc<dyn Disk>,
    snapshots: Arc<dyn Disk>,
    file: Box<dyn SmallFile>,
    reserve: Option<Reserve>,
) -> Result<Stores, Error> {
    let file = IdentityFile::load(file)?.ok_or(Error::NoIdentity)?;
    if mutants::on(Mutant::WipedStoreOpens) && log.get(Space::Meta, HEADER)?.is_none() {
        let Identity { cluster, node, store, .. } = file.get();
        file.update(|i| *i = Identity::new(cluster, node, store))?;
        let header = entry::seal_value(HEADER, &Header { format: FORMAT, store })?;
        log.put(Space::Meta, HEADER, &header)?;
        snapshots.put(Space::Meta, HEADER, &header)?;
    }
    let known = file.get();
    if let Some(why) = known.suspect {
        return Err(Error::Suspect { why });
    }
    if known.retired {
        return Err(Error::Retired(known.node));
    }
    check_header("log", &*log, &known)?;
    check_header("snapshots", &*snapshots, &known)?;
    // What was only in the page cache must not be shown before it is durable.
    log.sync()?;
    snapshots.sync()?;
    log.check()?;
    snapshots.check()?;
    let marks = check_log(&*log)?;
    compare(&marks, &known)?;
    let identity = Arc::new(file);
    let stores = start(host, log, snapshots, identity, marks, reserve)?;
    let snapshot =
        stores.snapshots.current().and_then(|(meta, _)| meta.last_log_id).map(|id| id.index);
    not_below("snapshot", snapshot, known.snapshot)?;
    // Entries are purged only under a snapshot; without it they are lost.
    not_below("snapshot", snapshot, marks.purged.map(|id| id.index))?;
    Ok(stores)
}

fn start(
    host: Arc<dyn Host>,
    log: Arc<dyn Disk>,
    snapshots: Arc<dyn Disk>,
    identity: Arc<IdentityFile>,
    marks: Marks,
    reserve: Option<Reserve>,
) -> Result<Stores, Error> {
    // One failure for both: a node whose snapshots fail must not go on voting.
    let failure = Arc::new(Failure::new(reserve));
    let (own, on) = (Arc::clone(&identity), Arc::clone(&host));
    let snapshots = SnapshotStore::load(snapshots, own, Arc::clone(&failure), on)?;
    let log = LogStore::start(log, Arc::clone(&identity), failure, marks, Arc::clone(&host))?;
    Ok(Stores { log, snapshots, identity, host })
}

fn check_header(which: &'static str, disk: &dyn Disk, known: &Identity) -> Result<(), Error> {
    let Some(sealed) = disk.get(Space::Meta, HEADER)? else { return Err(Error::Empty(which)) };
    let header: Header = match entry::unseal_value(HEADER, &sealed) {
        Ok(header) => header,
        Err(Fault::Newer(found)) => return Err(Error::Newer { found: u64::from(found) }),
        Err(fault) => return Err(io::Error::from(fault).into()),
    };
    if header.format > FORMAT {
        return Err(Error::Newer { found: u64::from(header.format) });
    }
    if header.store != known.store {
        return Err(Error::Foreign { which, found: header.store, known: known.store });
    }
    Ok(())
}

fn mark<T: serde::de::DeserializeOwned>(disk: &dyn Disk, key: &[u8]) -> Result<Option<T>, Error> {
    let Some(sealed) = disk.get(Space::Meta, key)? else { return Ok(None) };
    entry::unseal_value(key, &sealed).map(Some).map_err(|fault| Error::Damaged {
        what: format!("value {:?}: {fault}", String::from_utf8_lossy(key)),
    })
}

/// Reads the whole log; cuts what a crash legally leaves.
fn check_log(disk: &dyn Disk) -> Result<Marks, Error> {
    let mut marks = Marks {
        vote: mark(disk, VOTE)?,
        purged: mark(disk, PURGED)?,
        committed: mark(disk, COMMITTED)?,
        last: None,
        first: 0,
    };
    marks.last = marks.purged;
    if let Some(purged) = marks.purged {
        while !delete_upto(disk, purged.index, 4096)? {}
    }
    let mut joiner = Joiner::default();
    let mut problem = None;
    let mut last: Option<LogId> = marks.last;
    disk.scan(Space::Log, &[], None, &mut |key, value| {
        let expected = last.map_or(0, |l| l.index.saturating_add(1));
        match joiner.take(key, value) {
            Ok(None) => return ControlFlow::Continue(()),
            Ok(Some(joined)) if joined.entry.log_id.index == expected => {
                last = Some(joined.entry.log_id);
                return ControlFlow::Continue(());
            }
            Ok(Some(joined)) => {
                let found = joined.entry.log_id.index;
                problem = Some(format!("entry {expected} is missing before {found}"));
            }
            Err(fault) => problem = Some(format!("entry {expected}: {fault}")),
        }
        ControlFlow::Break(())
    })?;
    if let Some(what) = problem {
        return Err(Error::Damaged { what });
    }
    marks.last = last;
    if let Some(cut) = joiner.unfinished() {
        if cut != last.map_or(0, |l| l.index.saturating_add(1)) {
            return Err(Error::Damaged { what: format!("entry before {cut} is missing") });
        }
        tracing::warn!(index = cut, "cut an incomplete last entry, which was not acknowledged");
        let mut parts = Vec::new();
        disk.scan(Space::Log, &entry::key(cut, 0), None, &mut |key, _| {
            parts.push(key.to_vec());
            ControlFlow::Continue(())
        })?;
        for key in parts.iter().rev() {
            disk.remove(Space::Log, key)?;
        }
    }
    disk.sync()?;
    marks.committed = marks.committed.min(marks.last);
    Ok(marks)
}

fn compare(marks: &Marks, known: &Identity) -> Result<(), Error> {
    let empty = marks.vote.is_none() && marks.last.is_none();
    if empty && known.stage == Stage::HasData {
        return Err(Error::Empty("log"));
    }
    if marks.vote < known.vote {
        return Err(Error::BelowIdentity {
            what: "vote",
            found: marks.vote.map_or_else(|| "missing".to_owned(), |v| v.to_string()),
            known: known.vote.map_or_else(|| "missing".to_owned(), |v| v.to_string()),
        });
    }
    not_below("purge marker", marks.purged.map(|id| id.index), known.purged)?;
    not_below("last entry", marks.last.map(|id| id.index), known.synced)
}

fn not_below(what: &'static str, found: Option<u64>, known: Option<u64>) -> Result<(), Error> {
    if found >= known {
        return Ok(());
    }
    let text = |index: Option<u64>| index.map_or_else(|| "missing".to_owned(), |i| i.to_string());
    Err(Error::BelowIdentity { what, found: text(found), known: text(known) })
}
