//! The one thread, or task, that makes votes and appends durable.
//!
//! Callers write into the disk's memory in order and queue here; the thread
//! takes all that is queued, syncs once and then answers (group commit). It
//! never answers before the sync and stops answering well after the first
//! failure. Truncation and purging run here too, so that the identity file is
//! always lowered before and raised after the log it speaks of. On a host without
//! threads a task does the same, and the sync takes as long as the host says.

use std::io;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use horai_core::mutants::{self, Mutant};
use openraft::storage::IOFlushed;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::disk::{Disk, Space};
use crate::entry;
use crate::host::Host;
use crate::identity::{IdentityFile, Stage};
use crate::priority;
use crate::reserve::Reserve;
use crate::types::{LogId, TypeConfig, Vote};

/// Jobs that may wait; a caller beyond waits for the disk.
const QUEUE: usize = 4096;

/// How often the last synced index goes into the identity file.
const MARK_EVERY: Duration = Duration::from_secs(1);

/// How often damage that sled does not report is looked for.
const CHECK_EVERY: Duration = Duration::from_secs(60);

/// Purged keys deleted between two syncs, so that acknowledgements do not wait.
const PURGE_STEP: usize = 512;

pub(crate) type Done = oneshot::Sender<io::Result<()>>;

/// What can be asked of the thread.
pub(crate) enum Job {
    /// Entries up to this index were written.
    Appended { last: Option<u64>, done: IOFlushed<TypeConfig> },
    /// This vote was written.
    Voted { vote: Vote, done: Done },
    /// Delete all after this index.
    Truncate { keep: Option<u64>, done: Done },
    /// Delete all up to this one.
    Purge { upto: LogId, done: Done },
}

/// Set by the first failure, for ever.
#[derive(Default)]
pub(crate) struct Failure {
    first: Mutex<Option<(io::ErrorKind, String)>>,
    reserve: Option<Reserve>,
}

/// Whether an error says that there is no space; that can be helped.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Failure {
    /// None yet; `reserve` is given back when the disk is full.
    pub(crate) fn new(reserve: Option<Reserve>) -> Self {
        Self { first: Mutex::default(), reserve }
    }

    /// Refuses once anything has failed.
    pub(crate) fn check(&self) -> io::Result<()> {
        match &*self.first.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some((kind, text)) => Err(io::Error::new(*kind, text.clone())),
        }
    }

    /// Remembers a failure. A full disk can be freed; after anything else
    /// nobody knows what the disk holds, and the store is marked suspect.
    pub(crate) fn set(&self, error: &io::Error, identity: &IdentityFile) {
        let mut failed = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.is_some() {
            return;
        }
        let full = is_full(error);
        if let Some(reserve) = self.reserve.as_ref().filter(|_| full) {
            reserve.release();
        }
        let remedy = if full { "; free space on its disk and start the node again" } else { "" };
        let text = format!("the store failed and takes nothing more: {error}{remedy}");
        tracing::error!(%error, "storage failed");
        *failed = Some((error.kind(), text));
        let harmless = full || error.kind() == io::ErrorKind::ReadOnlyFilesystem;
        if !harmless && let Err(mark) = identity.update(|i| i.suspect = Some(error.to_string())) {
            tracing::error!(error = %mark, "cannot mark the store suspect");
        }
    }
}

/// The way to the thread or task.
enum Jobs {
    Thread(SyncSender<Job>),
    Task(mpsc::Sender<Job>),
}

/// The thread's handle; dropping the last one ends the thread.
pub(crate) struct Flusher {
    jobs: Option<Jobs>,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    pub(crate) fn start(
        disk: Arc<dyn Disk>,
        identity: Arc<IdentityFile>,
        failure: Arc<Failure>,
        host: Arc<dyn Host>,
    ) -> io::Result<Self> {
        let worker = Worker {
            disk,
            identity,
            failure,
            synced: None,
            purge: None,
            marked: Instant::now(),
            checked: Instant::now(),
        };
        if !host.has_threads() {
            let (jobs, queue) = mpsc::channel(QUEUE);
            tokio::spawn(worker.run_as_task(queue, host));
            return Ok(Self { jobs: Some(Jobs::Task(jobs)), thread: None });
        }
        let (jobs, queue) = sync_channel(QUEUE);
        let thread =
            std::thread::Builder::new().name("raft-flusher".to_owned()).spawn(move || {
                // Votes and appends wait for it. Not allowed is no fault.
                let _allowed = priority::raise();
                worker.run(&queue);
            })?;
        Ok(Self { jobs: Some(Jobs::Thread(jobs)), thread: Some(thread) })
    }

    /// Queues a job; its `done` is dropped unanswered only if the thread is gone.
    pub(crate) fn send(&self, job: Job) -> io::Result<()> {
        let gone = || io::Error::other("the flusher thread is gone");
        match self.jobs.as_ref().ok_or_else(gone)? {
            Jobs::Thread(jobs) => jobs.send(job).map_err(|_| gone()),
            // openraft has far fewer under way than fit.
            Jobs::Task(jobs) => jobs.try_send(job).map_err(|_| gone()),
        }
    }

    /// Queues a job and waits for its answer.
    pub(crate) async fn run(&self, job: impl FnOnce(Done) -> Job) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        self.send(job(done))?;
        answer.await.map_err(|_| io::Error::other("the flusher thread is gone"))?
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the flusher thread panicked");
        }
    }
}

/// An answer that waits for the sync.
enum Waiting {
    Append(IOFlushed<TypeConfig>),
    Call(Done),
}

impl Waiting {
    fn answer(self, result: io::Result<()>) {
        match self {
            Self::Append(done) => done.io_completed(result),
            // A caller that gave up needs no answer.
            Self::Call(done) => drop(done.send(result)),
        }
    }
}

struct Worker {
    disk: Arc<dyn Disk>,
    identity: Arc<IdentityFile>,
    failure: Arc<Failure>,
    /// Last index known durable.
    synced: Option<u64>,
    /// Entries up to here are to be deleted.
    purge: Option<u64>,
    marked: Instant,
    checked: Instant,
}

impl Worker {
    fn run(mut self, queue: &Receiver<Job>) {
        loop {
            let wait = if self.purge.is_some() { Duration::ZERO } else { MARK_EVERY };
            let mut group = Group::default();
            match queue.recv_timeout(wait) {
                Ok(job) => {
                    self.take(job, &mut group);
                    while let Ok(job) = queue.try_recv() {
                        self.take(job, &mut group);
                    }
                    self.commit(&mut group);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.after_a_group();
        }
        self.end();
    }

    /// The same where there are no threads: what came by the time that the sync
    /// begins is answered after it.
    async fn run_as_task(mut self, mut queue: mpsc::Receiver<Job>, host: Arc<dyn Host>) {
        let mut jobs = Vec::new();
        loop {
            let wait = if self.purge.is_some() { Duration::ZERO } else { MARK_EVERY };
            match tokio::time::timeout(wait, queue.recv_many(&mut jobs, QUEUE)).await {
                Ok(0) => break,
                Ok(_) => {
                    tokio::time::sleep(host.sync_takes()).await;
                    let mut group = Group::default();
                    for job in jobs.drain(..) {
                        self.take(job, &mut group);
                    }
                    self.commit(&mut group);
                }
                Err(_) => {}
            }
            self.after_a_group();
        }
        self.end();
    }

    fn after_a_group(&mut self) {
        if self.failure.check().is_ok()
            && let Err(error) = self.keep_house()
        {
            self.failure.set(&error, &self.identity);
        }
    }

    /// A clean stop leaves an exact mark.
    fn end(&mut self) {
        if self.failure.check().is_ok()
            && let Err(error) = self.mark()
        {
            tracing::warn!(%error, "cannot write the identity file at the end");
        }
    }

    fn take(&mut self, job: Job, group: &mut Group) {
        match job {
            Job::Appended { last, done } => {
                group.last = last.or(group.last);
                group.waiting.push(Waiting::Append(done));
            }
            Job::Voted { vote, done } => {
                group.vote = Some(vote);
                group.waiting.push(Waiting::Call(done));
            }
            Job::Truncate { keep, done } => {
                self.commit(group);
                let result = self.guarded(|w| w.truncate(keep));
                Waiting::Call(done).answer(result);
            }
            Job::Purge { upto, done } => {
                self.commit(group);
                let result = self.guarded(|w| w.set_purged(upto));
                Waiting::Call(done).answer(result);
            }
        }
    }

    fn guarded(&mut self, work: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        self.failure.check()?;
        work(self).inspect_err(|error| self.failure.set(error, &self.identity))
    }

    /// One sync for all that wait, then the answers.
    fn commit(&mut self, group: &mut Group) {
        let Group { last, vote, waiting } = std::mem::take(group);
        if waiting.is_empty() {
            return;
        }
        // Votes do not go into the identity file either: that would give the fault away.
        let vote = vote.filter(|_| !mutants::on(Mutant::VoteNotSynced));
        let is_lazy = match last {
            Some(_) => mutants::on(Mutant::AckBeforeSync),
            None => mutants::on(Mutant::VoteNotSynced),
        };
        let result = self.guarded(|w| {
            if !is_lazy {
                w.sync()?;
            }
            w.synced = last.or(w.synced);
            // The identity claims only what is durable, and before the answer.
            w.identity.update(|i| {
                i.stage = Stage::HasData;
                i.vote = vote.or(i.vote);
            })
        });
        for waiting in waiting {
            waiting.answer(match &result {
                Ok(()) => Ok(()),
                Err(e) => Err(io::Error::new(e.kind(), e.to_string())),
            });
        }
    }

    fn sync(&self) -> io::Result<()> {
        match self.disk.sync() {
            Err(_) if mutants::on(Mutant::DiskErrorsIgnored) => Ok(()),
            done => done,
        }
    }

    /// From the back, so that no crash leaves a hole.
    fn truncate(&mut self, keep: Option<u64>) -> io::Result<()> {
        self.identity.update(|i| i.synced = i.synced.min(keep))?;
        self.synced = self.synced.min(keep);
        while let Some(key) = self.disk.last_key(Space::Log)? {
            let (index, _) = entry::parse_key(&key).ok_or(entry::Fault::Content)?;
            if keep.is_some_and(|keep| index <= keep) {
                break;
            }
            self.disk.remove(Space::Log, &key)?;
        }
        self.sync()
    }

    /// The marker is durable before anything is deleted.
    fn set_purged(&mut self, upto: LogId) -> io::Result<()> {
        let key = crate::log_store::PURGED;
        self.disk.put(Space::Meta, key, &entry::seal_value(key, &upto)?)?;
        self.sync()?;
        self.identity.update(|i| {
            i.stage = Stage::HasData;
            i.purged = i.purged.max(Some(upto.index));
        })?;
        self.purge = self.purge.max(Some(upto.index));
        Ok(())
    }

    fn keep_house(&mut self) -> io::Result<()> {
        if let Some(upto) = self.purge
            && delete_upto(&*self.disk, upto, PURGE_STEP)?
        {
            self.purge = None;
        }
        if self.marked.elapsed() >= MARK_EVERY {
            self.mark()?;
        }
        if self.checked.elapsed() >= CHECK_EVERY {
            self.checked = Instant::now();
            self.disk.check()?;
        }
        Ok(())
    }

    fn mark(&mut self) -> io::Result<()> {
        self.marked = Instant::now();
        self.identity.update(|i| i.synced = self.synced.or(i.synced))
    }
}

#[derive(Default)]
struct Group {
    last: Option<u64>,
    vote: Option<Vote>,
    waiting: Vec<Waiting>,
}

/// Deletes entries up to an index from the front, at most `step` keys; true when
/// none is left.
pub(crate) fn delete_upto(disk: &dyn Disk, upto: u64, step: usize) -> io::Result<bool> {
    let mut keys = Vec::new();
    let end = upto.checked_add(1).map(|next| entry::key(next, 0));
    let visit = &mut |key: &[u8], _: &[u8]| {
        keys.push(key.to_vec());
        if keys.len() < step { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    disk.scan(Space::Log, &[], end.as_ref().map(<[u8; entry::KEY_LEN]>::as_slice), visit)?;
    for key in &keys {
        disk.remove(Space::Log, key)?;
    }
    Ok(keys.len() < step)
}
