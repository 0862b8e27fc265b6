//! The store as others see it: put, read, what is held, what it costs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use horai_core::ids::{AttemptKey, RunId};
use horai_proto::logs as pb;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::content::BadContent;
use super::frame::{self, Record};
use super::index::{Index, Place, SegmentId};
use super::piece::{BadPiece, Content, Piece, unpack};
use super::ranges::Ranges;
use super::writer::Writer;

/// Bytes that wait to be written.
const WAITING: usize = 16 << 20;
/// Counted for each piece that waits beside its bytes.
const PIECE_COSTS: usize = 256;

/// Why something was not stored or cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The disk failed before: nothing that it says can be trusted.
    #[error("the store of logs takes nothing any more: {0}; replace the disk and the node")]
    Broken(String),
    /// Other bytes are known there.
    #[error("the output of {key} has other bytes from byte {from} on: not stored")]
    Conflict {
        /// Whose output.
        key: AttemptKey,
        /// Where what was put begins.
        from: u64,
    },
    /// For now: what is dropped makes room.
    #[error("the disk of the store of logs is full: free some of it, or lower logs.max_bytes")]
    Full,
    /// Not a piece.
    #[error(transparent)]
    Bad(#[from] BadPiece),
    /// Not a content.
    #[error(transparent)]
    BadContent(#[from] BadContent),
    /// It is read from the disk.
    #[error("the store of logs is being opened: try again")]
    Opening,
    /// The node stops.
    #[error("the store of logs is closed")]
    Closed,
}

/// How it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a segment until the next one is begun, at most 1 GiB.
    pub segment: u64,
    /// All that comes within this time is synced at once.
    pub sync: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { segment: 32 << 20, sync: Duration::from_millis(100) }
    }
}

/// What the store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes on the disk.
    pub bytes: u64,
    /// About how many of them would be left if all that is of no use were given back.
    pub useful: u64,
    /// Attempts with output.
    pub attempts: u64,
    /// Contents of files.
    pub files: u64,
    /// Records that could not be read since the store was opened.
    pub damaged: u64,
    /// Syncs since then.
    pub syncs: u64,
}

/// For the thread that writes.
pub(super) enum Job {
    Put {
        pieces: Vec<pb::Piece>,
        done: Done,
        _room: OwnedSemaphorePermit,
    },
    PutContents {
        contents: Vec<pb::Content>,
        done: Done,
        _room: OwnedSemaphorePermit,
    },
    Drop {
        runs: Vec<RunId>,
        done: Done,
    },
    /// Runs that nobody will ask for any more.
    Forget(Vec<RunId>),
    Tidy {
        most: u64,
    },
}

pub(super) type Done = oneshot::Sender<Result<(), Error>>;

/// Shared by callers and the thread.
pub(super) struct Shared {
    pub(super) dir: PathBuf,
    pub(super) index: Mutex<Index>,
    pub(super) files: Mutex<BTreeMap<SegmentId, Arc<File>>>,
    pub(super) stats: Mutex<Stats>,
    /// None: open. Some: why not.
    pub(super) shut: watch::Sender<Option<Error>>,
    pub(super) changed: watch::Sender<u64>,
    /// Set by tests: the next sync fails.
    #[cfg(test)]
    pub(super) fails: std::sync::atomic::AtomicBool,
}

impl Shared {
    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        // Its methods do not panic half-way.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stats(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn files(&self) -> MutexGuard<'_, BTreeMap<SegmentId, Arc<File>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The piece in a record; what cannot be read is lost from here on.
    pub(super) fn piece(&self, key: AttemptKey, place: Place) -> Option<Piece> {
        let file = self.files().get(&place.segment).map(Arc::clone);
        let read = || -> Option<Piece> {
            let mut bytes = vec![0; usize::try_from(place.len).ok()?];
            file?.read_exact_at(&mut bytes, u64::from(place.at)).ok()?;
            let (Record::Piece(piece), _) = frame::read(&bytes)? else { return None };
            unpack(&piece).ok().filter(|piece| piece.key == key)
        };
        let piece = read();
        if piece.is_none() {
            tracing::error!(attempt = %key, ?place, "a record of a log is damaged, its bytes are not held any more");
            self.stats().damaged += 1;
            self.index().lose(key, place);
        }
        piece
    }
}

/// See the module. Ends its thread when it is dropped, once all is synced.
pub struct Store {
    shared: Arc<Shared>,
    jobs: Option<mpsc::Sender<Job>>,
    room: Arc<Semaphore>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Store {
    /// Opens the store in the folder `dir`, which is made if it is missing. What is in
    /// it is read by the store's own thread: until then it says [`Error::Opening`].
    ///
    /// # Errors
    /// If the folder or the thread cannot be made.
    pub fn open(dir: &Path, limits: Limits) -> io::Result<Self> {
        if !dir.try_exists()? {
            fs::create_dir_all(dir)?;
            if let Some(parent) = dir.parent() {
                File::open(parent)?.sync_all()?;
            }
        }
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            index: Mutex::default(),
            files: Mutex::default(),
            stats: Mutex::default(),
            shut: watch::Sender::new(Some(Error::Opening)),
            changed: watch::Sender::new(0),
            #[cfg(test)]
            fails: std::sync::atomic::AtomicBool::new(false),
        });
        let (jobs, inbox) = mpsc::channel();
        let writer = Writer::new(Arc::clone(&shared), limits);
        let thread = std::thread::Builder::new().name("logs".to_owned());
        let thread = Some(thread.spawn(move || writer.run(&inbox))?);
        let room = Arc::new(Semaphore::new(WAITING));
        Ok(Self { shared, jobs: Some(jobs), room, thread })
    }

    /// Waits until everything on the disk is known.
    pub async fn opened(&self) {
        let mut shut = self.shared.shut.subscribe();
        // The sender lives in this store.
        let _ = shut.wait_for(|shut| *shut != Some(Error::Opening)).await;
    }

    /// Why it takes nothing, if it does not.
    #[must_use]
    pub fn shut(&self) -> Option<Error> {
        self.shared.shut.borrow().clone()
    }

    /// Stores pieces; they are on the disk when this returns. What is known already,
    /// left out or gone costs nothing and is no error.
    ///
    /// # Errors
    /// [`Error`]; of several pieces those before the bad one may be stored.
    pub async fn put(&self, pieces: Vec<pb::Piece>) -> Result<(), Error> {
        let room = self.room(pieces.iter().map(|piece| piece.data.len())).await?;
        self.ask(|done| Job::Put { pieces, done, _room: room }).await
    }

    /// Room for what is to be written, of these lengths in bytes.
    pub(super) async fn room(
        &self,
        lengths: impl Iterator<Item = usize>,
    ) -> Result<OwnedSemaphorePermit, Error> {
        let size: usize = lengths.map(|len| len + PIECE_COSTS).sum();
        let size = u32::try_from(size.min(WAITING)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(size).await;
        room.map_err(|_| Error::Closed)
    }

    /// Nothing of these runs is wanted any more, whatever is put later.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn drop_runs(&self, runs: Vec<RunId>) -> Result<(), Error> {
        self.ask(|done| Job::Drop { runs, done }).await
    }

    /// Nobody will ever put anything of these runs again: that they are gone need not
    /// be kept for ever.
    pub fn forget_runs(&self, runs: Vec<RunId>) {
        self.tell(Job::Forget(runs));
    }

    /// Gives back room, down to `most` bytes if that is possible without dropping runs.
    pub fn tidy(&self, most: u64) {
        self.tell(Job::Tidy { most });
    }

    fn tell(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // Fails only if the thread has ended, which is said by everything else.
            let _ = jobs.send(job);
        }
    }

    pub(super) async fn ask(&self, job: impl FnOnce(Done) -> Job) -> Result<(), Error> {
        if let Some(error) = self.shut() {
            return Err(error);
        }
        let (done, answer) = oneshot::channel();
        self.tell(job(done));
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// What is on the disk of an attempt's output, gaps included.
    #[must_use]
    pub fn held(&self, key: AttemptKey) -> Ranges {
        self.shared.index().logs.get(&key).map(|log| log.held.clone()).unwrap_or_default()
    }

    /// True if nothing of this run is wanted here any more.
    #[must_use]
    pub fn is_gone(&self, run: RunId) -> bool {
        self.shared.index().is_gone(run)
    }

    /// What is held of the runs from `first` on: `limit` attempts and the rest of the
    /// last one's run; and with which run the next page begins.
    #[must_use]
    pub fn page(&self, first: RunId, limit: usize) -> (Vec<(AttemptKey, Ranges)>, Option<RunId>) {
        let index = self.shared.index();
        let begin = AttemptKey { run: first, shard: 0, number: 0 };
        let mut page: Vec<(AttemptKey, Ranges)> = Vec::new();
        for (key, log) in index.logs.range(begin..) {
            if page.len() >= limit && page.last().is_some_and(|(last, _)| last.run != key.run) {
                return (page, Some(key.run));
            }
            page.push((*key, log.held.clone()));
        }
        (page, None)
    }

    /// Runs from `first` on that something is known of, ascending, each with the bytes of
    /// its output.
    #[must_use]
    pub fn runs(&self, first: RunId, limit: usize) -> Vec<(RunId, u64)> {
        let index = self.shared.index();
        let begin = AttemptKey { run: first, shard: 0, number: 0 };
        let mut runs: Vec<(RunId, u64)> = Vec::new();
        for (key, log) in index.logs.range(begin..) {
            let bytes = log.known.len() - log.gaps.len();
            if let Some((run, sum)) = runs.last_mut()
                && *run == key.run
            {
                *sum += bytes;
            } else if runs.len() >= limit {
                break;
            } else {
                runs.push((key.run, bytes));
            }
        }
        runs
    }

    /// Runs that are gone and not forgotten.
    #[must_use]
    pub fn gone(&self) -> Vec<RunId> {
        let index = self.shared.index();
        index.gone.iter().filter(|(_, forgotten)| !**forgotten).map(|(run, _)| *run).collect()
    }

    /// Reads from `offset` on, as long as it is held without a hole, at most `max` bytes
    /// and one piece. Blocks.
    #[must_use]
    pub fn read(&self, key: AttemptKey, offset: u64, max: u64) -> Vec<Piece> {
        let (mut pieces, mut at, mut left) = (Vec::new(), offset, max);
        while left > 0 {
            let next = {
                let index = self.shared.index();
                let Some(log) = index.logs.get(&key) else { break };
                let Some(end) = log.held.end_of(at) else { break };
                match log.gaps.end_of(at) {
                    Some(gap) => Err(gap.min(end)),
                    None => match log.stretch(at).filter(|stretch| stretch.from <= at) {
                        Some(stretch) => Ok((stretch, end)),
                        None => break,
                    },
                }
            };
            let piece = match next {
                Err(to) => Some(Piece { key, from: at, to, content: Content::Gap }),
                Ok((stretch, end)) => {
                    let piece = self.shared.piece(key, stretch.place);
                    piece.and_then(|piece| piece.clip(at, stretch.to.min(end)))
                }
            };
            let Some(piece) = piece else { break };
            at = piece.to;
            // A gap costs nothing, but ends an answer some time too.
            left = left.saturating_sub(match &piece.content {
                Content::Data { bytes, .. } => bytes.len() as u64,
                Content::Gap => 1,
            });
            pieces.push(piece);
        }
        pieces
    }

    /// Changes its number when something more is held.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// What it holds and did.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (bytes, useful, attempts, files) = {
            let index = self.shared.index();
            (index.size(), index.useful(), index.logs.len() as u64, index.contents.len() as u64)
        };
        Stats { bytes, useful, attempts, files, ..*self.shared.stats() }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // The thread writes and syncs what it was given, and ends.
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of it was told by the hook.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}
