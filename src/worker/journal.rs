//! What this worker has accepted and what became of it, durable.
//!
//! An attempt is started only after its `Accepted` record is on disk, and its
//! result is reported only after its `Finished` record is: so that no crash of
//! the worker can start a token twice or lose a result. One thread writes; what
//! is asked while it syncs goes into the next frame together (group commit). On a
//! host without threads a task does the same.
//!
//! A frame is written by one append and synced before the next, so only the last
//! can be torn; a bad frame with a good one behind it is damage, and refused.
//! The journal does not decide what to run: [`super::agent`] does.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use horai_core::ids::{AttemptKey, Incarnation, LeaderId, Token};
use horai_core::machine::command::EndReport;
use horai_core::model::confinement::Usage;
use horai_core::model::output::Values;
use horai_raft::host::{Host, OsHost};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::ending::Ending;
use super::folder::{Folder, OsFolder};

#[path = "journal_file.rs"]
mod file;

use file::JournalFile;

/// The most attempts the journal holds.
pub const MAX_RECORDS: usize = 100_000;
/// The largest file, in bytes.
pub const MAX_BYTES: u64 = 256 * 1024 * 1024;
/// Above this many attempts none is accepted: the rest is kept for results.
const ACCEPT_RECORDS: usize = MAX_RECORDS / 10 * 9;
/// Above this many bytes none is accepted.
const ACCEPT_BYTES: u64 = MAX_BYTES / 10 * 9;
/// Requests that may wait for the writer.
const QUEUE: usize = 4096;
/// Requests that go into one frame.
const BATCH: usize = 1024;
/// Records that nobody waits for are written with others, or when there are so many.
const LAZY: usize = 4096;

/// One fact about an attempt. Stored: variants are only appended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// It may be started from now on, once.
    Accepted {
        /// Which.
        key: AttemptKey,
        /// Its fencing token.
        token: Token,
        /// The leader who sent it.
        fence: LeaderId,
    },
    /// It is over.
    Finished {
        /// Which.
        key: AttemptKey,
        /// Its fencing token.
        token: Token,
        /// How it ended.
        report: EndReport,
    },
    /// The leader has committed its result.
    Forgotten {
        /// Which.
        key: AttemptKey,
    },
    /// It is over, and put something out.
    FinishedWith {
        /// Which.
        key: AttemptKey,
        /// Its fencing token.
        token: Token,
        /// How it ended.
        report: EndReport,
        /// What it put out.
        outputs: Values,
    },
    /// It is over, and what it used was counted.
    FinishedUsing {
        /// Which.
        key: AttemptKey,
        /// Its fencing token.
        token: Token,
        /// How it ended.
        report: EndReport,
        /// What it put out.
        outputs: Values,
        /// What it used.
        usage: Usage,
    },
}

impl Record {
    /// An attempt's end.
    #[must_use]
    pub fn of_end(key: AttemptKey, token: Token, ending: Ending) -> Self {
        let Ending { report, outputs, usage } = ending;
        if usage != Usage::default() {
            return Self::FinishedUsing { key, token, report, outputs, usage };
        }
        if outputs.is_empty() {
            return Self::Finished { key, token, report };
        }
        Self::FinishedWith { key, token, report, outputs }
    }
}

/// What the journal holds of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its fencing token.
    pub token: Token,
    /// The leader who sent it.
    pub fence: LeaderId,
    /// How it ended; none while it may run.
    pub ending: Option<Ending>,
}

/// All attempts the journal holds.
pub type Entries = BTreeMap<AttemptKey, Entry>;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk refused.
    #[error("worker journal {path:?}: check the disk, its space and the permissions")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Bytes in the middle are not what was written.
    #[error(
        "worker journal {path:?} is damaged at byte {offset}: restore the file, or remove the \
         worker's whole data folder, which makes it a new worker whose attempts count as lost"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
    /// Written by a newer program, or not a journal.
    #[error("{path:?} is no worker journal of this program's version: upgrade, or move it away")]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// Too many attempts or bytes; results are still taken.
    #[error(
        "the worker journal holds {records} attempts in {bytes} bytes and accepts no more: \
         it empties when a leader has committed their results"
    )]
    Full {
        /// Attempts held.
        records: usize,
        /// Size of the file.
        bytes: u64,
    },
    /// An earlier write failed, and nothing after it can be trusted.
    #[error("the worker journal failed earlier: restart the worker once the disk is well")]
    Broken,
}

struct Request {
    records: Vec<Record>,
    /// None: nobody waits until it is durable.
    done: Option<oneshot::Sender<Result<(), Error>>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Size {
    records: usize,
    bytes: u64,
}

/// A handle; the writer thread ends when the last one is dropped.
#[derive(Clone)]
pub struct Journal {
    queue: mpsc::Sender<Request>,
    incarnation: Incarnation,
    size: Arc<Mutex<Size>>,
}

impl Journal {
    /// Opens or creates the journal in `dir`, and reads what it holds. Blocks.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`] or [`Error::Foreign`].
    pub fn open(dir: &Path) -> Result<(Self, Entries), Error> {
        Self::open_in(Arc::new(OsFolder::new(dir)), Arc::new(OsHost))
    }

    /// [`Journal::open`] in any folder, on any host; one without threads needs a
    /// runtime around the call.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_in(folder: Arc<dyn Folder>, host: Arc<dyn Host>) -> Result<(Self, Entries), Error> {
        let (file, entries) = JournalFile::open(folder)?;
        let (path, incarnation) = (file.path(), file.incarnation());
        let size = Arc::new(Mutex::new(Size { records: entries.len(), bytes: file.len() }));
        let (queue, requests) = mpsc::channel(QUEUE);
        let writer = Writer { file, entries: entries.clone(), size: Arc::clone(&size) };
        if !host.has_threads() {
            tokio::spawn(writer.run_as_task(requests, host));
            return Ok((Self { queue, incarnation, size }, entries));
        }
        std::thread::Builder::new()
            .name("worker-journal".into())
            .spawn(move || writer.run(requests))
            .map_err(|source| Error::Io { path, source })?;
        Ok((Self { queue, incarnation, size }, entries))
    }

    /// The random id that this journal was created with.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// True if no attempt is accepted until others are forgotten.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let size = self.size();
        size.records >= ACCEPT_RECORDS || size.bytes >= ACCEPT_BYTES
    }

    /// Writes `records` and returns when they are durable.
    ///
    /// # Errors
    /// [`Error::Full`] for an `Accepted` beyond the bounds; [`Error::Io`] and, ever after,
    /// [`Error::Broken`] when the disk fails.
    pub async fn append(&self, records: Vec<Record>) -> Result<(), Error> {
        if self.is_full() && records.iter().any(|r| matches!(r, Record::Accepted { .. })) {
            let size = self.size();
            return Err(Error::Full { records: size.records, bytes: size.bytes });
        }
        let (done, durable) = oneshot::channel();
        let request = Request { records, done: Some(done) };
        self.queue.send(request).await.map_err(|_| Error::Broken)?;
        durable.await.map_err(|_| Error::Broken)?
    }

    /// Writes `records` with the next that must be durable, without a sync of their
    /// own: for what may be lost in a crash, such as [`Record::Forgotten`].
    ///
    /// # Errors
    /// [`Error::Broken`] after a failure of the disk.
    pub async fn append_lazily(&self, records: Vec<Record>) -> Result<(), Error> {
        let request = Request { records, done: None };
        self.queue.send(request).await.map_err(|_| Error::Broken)
    }

    fn size(&self) -> Size {
        *self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Writer {
    file: JournalFile,
    entries: Entries,
    size: Arc<Mutex<Size>>,
}

impl Writer {
    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut batch: Vec<Request> = Vec::new();
        let mut records: Vec<Record> = Vec::new();
        loop {
            let is_last = requests.blocking_recv_many(&mut batch, BATCH) == 0;
            if !gather(&mut batch, &mut records, is_last) {
                continue;
            }
            let written = self.write(&records).and_then(|()| self.settle(&records));
            records.clear();
            if !answer(&mut batch, written) || is_last {
                return;
            }
        }
    }

    /// The same where there are no threads: the sync takes as long as the host says.
    async fn run_as_task(mut self, mut requests: mpsc::Receiver<Request>, host: Arc<dyn Host>) {
        let mut batch: Vec<Request> = Vec::new();
        let mut records: Vec<Record> = Vec::new();
        loop {
            let is_last = requests.recv_many(&mut batch, BATCH).await == 0;
            if !gather(&mut batch, &mut records, is_last) {
                continue;
            }
            let mut written = self.write(&records);
            if written.is_ok() {
                tokio::time::sleep(host.sync_takes()).await;
                written = self.settle(&records);
            }
            records.clear();
            if !answer(&mut batch, written) || is_last {
                return;
            }
        }
    }

    /// Writes, and does not sync yet.
    fn write(&mut self, records: &[Record]) -> Result<(), Error> {
        if records.is_empty() { Ok(()) } else { self.file.append(records) }
    }

    /// Makes it durable.
    fn settle(&mut self, records: &[Record]) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        self.file.sync()?;
        for record in records {
            apply(&mut self.entries, record);
        }
        if self.file.wants_compaction(self.entries.len()) {
            self.file.rewrite(&self.entries)?;
        }
        *self.size.lock().unwrap_or_else(PoisonError::into_inner) =
            Size { records: self.entries.len(), bytes: self.file.len() };
        Ok(())
    }
}

/// Takes the records of a batch; false if they may wait for more.
fn gather(batch: &mut Vec<Request>, records: &mut Vec<Record>, is_last: bool) -> bool {
    records.extend(batch.iter_mut().flat_map(|r| std::mem::take(&mut r.records)));
    if !is_last && records.len() < LAZY && batch.iter().all(|r| r.done.is_none()) {
        batch.clear();
        return false;
    }
    true
}

/// Answers a batch; false if nothing more may be written.
fn answer(batch: &mut Vec<Request>, written: Result<(), Error>) -> bool {
    let failed = written.err();
    let is_well = failed.is_none();
    if let Some(error) = &failed {
        // What the disk holds now is unknown.
        tracing::error!(%error, "worker journal failed");
    }
    let mut first = failed;
    for done in batch.drain(..).filter_map(|request| request.done) {
        let answer = if is_well { Ok(()) } else { Err(first.take().unwrap_or(Error::Broken)) };
        // A caller that went away needs no answer.
        let _ = done.send(answer);
    }
    is_well
}

/// Adds one fact to what is known. An end without an acceptance is dropped:
/// its attempt was forgotten.
fn apply(entries: &mut Entries, record: &Record) {
    match record {
        Record::Accepted { key, token, fence } => {
            entries.entry(*key).or_insert(Entry { token: *token, fence: *fence, ending: None });
        }
        Record::Finished { key, token, report } => {
            end(entries, (*key, *token), || report.clone().into());
        }
        Record::FinishedWith { key, token, report, outputs } => {
            let outputs = || outputs.clone();
            let ending = || Ending { outputs: outputs(), ..report.clone().into() };
            end(entries, (*key, *token), ending);
        }
        Record::FinishedUsing { key, token, report, outputs, usage } => {
            let (report, outputs, usage) = (report.clone(), outputs.clone(), *usage);
            end(entries, (*key, *token), || Ending { report, outputs, usage });
        }
        Record::Forgotten { key } => {
            entries.remove(key);
        }
    }
}

/// The first end of an attempt is the one that counts.
fn end(entries: &mut Entries, (key, token): (AttemptKey, Token), ending: impl FnOnce() -> Ending) {
    if let Some(entry) = entries.get_mut(&key)
        && entry.token == token
        && entry.ending.is_none()
    {
        entry.ending = Some(ending());
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
