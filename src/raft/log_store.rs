//! openraft's log storage on a [`Disk`].
//!
//! Entries are readable when `append` returns and acknowledged by the flusher
//! after the sync. Reading goes to the disk's own cache: no second copy of the
//! log is kept here. It must not be opened without the checks of
//! [`crate::open`].

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, ControlFlow, RangeBounds};
use std::sync::{Arc, Mutex, PoisonError};

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};

use crate::disk::{Disk, Space};
use crate::entry::{self, Fault, Joiner};
use crate::flusher::{Failure, Flusher, Job};
use crate::host::Host;
use crate::identity::IdentityFile;
use crate::types::{Entry, LogId, TypeConfig, Vote};

pub(crate) const VOTE: &[u8] = b"vote";
pub(crate) const PURGED: &[u8] = b"purged";
pub(crate) const COMMITTED: &[u8] = b"committed";

/// Bytes of entries in one replication message: openraft counts entries only,
/// and a message over the transport's limit would be sent again for ever.
const READ_BYTES: usize = 1 << 20;

/// What is known of the log without reading it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) vote: Option<Vote>,
    pub(crate) purged: Option<LogId>,
    pub(crate) committed: Option<LogId>,
    /// Last entry, or the last purged one.
    pub(crate) last: Option<LogId>,
    /// Where the log began; 0 but in openraft's suite, which begins anywhere.
    pub(crate) first: u64,
}

struct Shared {
    disk: Arc<dyn Disk>,
    identity: Arc<IdentityFile>,
    failure: Arc<Failure>,
    marks: Mutex<Marks>,
}

impl Shared {
    fn marks(&self) -> Marks {
        *self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Marks)) {
        change(&mut self.marks.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Runs a write; its failure ends the store's life.
    fn write(&self, write: impl FnOnce(&dyn Disk) -> io::Result<()>) -> io::Result<()> {
        self.failure.check()?;
        write(&*self.disk).inspect_err(|error| self.failure.set(error, &self.identity))
    }

    /// Reads entries. A failure ends the store's life as that of a write does: sled
    /// may tell a reader first that its disk is full, and entries that cannot be
    /// read are lost.
    fn read(&self, start: u64, end: u64, limit: usize) -> io::Result<Vec<Entry>> {
        let entries = self.entries(start, end, limit);
        entries.inspect_err(|error| self.failure.set(error, &self.identity))
    }

    /// Entries of `[start, end)` that exist, at least one and then up to `limit`
    /// bytes.
    fn entries(&self, start: u64, end: u64, limit: usize) -> io::Result<Vec<Entry>> {
        let marks = self.marks();
        let purged = marks.purged.map_or(0, |p| p.index.saturating_add(1));
        let start = start.max(purged).max(marks.first);
        let end = marks.last.map_or(0, |l| end.min(l.index.saturating_add(1)));
        if start >= end {
            return Ok(Vec::new());
        }
        let mut joiner = Joiner::default();
        let mut entries = Vec::new();
        let mut size = 0;
        let mut fault = None;
        let visit = &mut |key: &[u8], value: &[u8]| match joiner.take(key, value) {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some(joined)) => {
                size += joined.size;
                if size > limit && !entries.is_empty() {
                    return ControlFlow::Break(());
                }
                entries.push(joined.entry);
                ControlFlow::Continue(())
            }
            Err(found) => {
                fault = Some(found);
                ControlFlow::Break(())
            }
        };
        self.disk.scan(Space::Log, &entry::key(start, 0), Some(&entry::key(end, 0)), visit)?;
        if let Some(fault) = fault {
            return Err(fault.into());
        }
        let whole = limit < usize::MAX || entries.len() as u64 == end - start;
        let dense = entries.iter().zip(start..).all(|(entry, index)| entry.log_id.index == index);
        // A purge or truncation may have come between; then the range is not
        // wanted any more. Otherwise something was lost.
        if (!whole || !dense) && self.marks() == marks {
            return Err(Fault::Incomplete.into());
        }
        Ok(entries)
    }
}

/// The log, the vote and their marks. Dropping it stops its thread.
pub struct LogStore {
    shared: Arc<Shared>,
    flusher: Flusher,
}

impl LogStore {
    pub(crate) fn start(
        disk: Arc<dyn Disk>,
        identity: Arc<IdentityFile>,
        failure: Arc<Failure>,
        marks: Marks,
        host: Arc<dyn Host>,
    ) -> io::Result<Self> {
        let flusher =
            Flusher::start(Arc::clone(&disk), Arc::clone(&identity), Arc::clone(&failure), host)?;
        let shared = Shared { disk, identity, failure, marks: Mutex::new(marks) };
        Ok(Self { shared: Arc::new(shared), flusher })
    }
}

/// Reads entries and vote while the store is written.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&last) => last.saturating_add(1),
        Bound::Excluded(&end) => end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let (start, end) = bounds(&range);
        self.shared.read(start, end, usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.marks().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.shared.read(start, end, READ_BYTES)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let marks = self.shared.marks();
        Ok(LogState { last_purged_log_id: marks.purged, last_log_id: marks.last })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader { shared: Arc::clone(&self.shared) }
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let sealed = entry::seal_value(VOTE, vote)?;
        self.shared.write(|disk| disk.put(Space::Meta, VOTE, &sealed))?;
        let vote = *vote;
        self.flusher.run(|done| Job::Voted { vote, done }).await?;
        self.shared.change(|m| m.vote = Some(vote));
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        // Never synced for its own sake: the next append carries it along.
        self.shared.write(|disk| match committed {
            Some(id) => disk.put(Space::Meta, COMMITTED, &entry::seal_value(COMMITTED, &id)?),
            None => disk.remove(Space::Meta, COMMITTED),
        })?;
        self.shared.change(|m| m.committed = committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.shared.marks().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let Marks { mut last, mut first, .. } = self.shared.marks();
        for entry in entries {
            let index = entry.log_id.index;
            if last.is_some_and(|l| l.index.checked_add(1) != Some(index)) {
                let text = format!("entry {index} would leave a hole after {last:?}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            let parts = entry::to_parts(&entry)?;
            self.shared.write(|disk| {
                parts.iter().try_for_each(|(key, value)| disk.put(Space::Log, key, value))
            })?;
            if last.is_none() {
                first = index;
            }
            last = Some(entry.log_id);
        }
        self.shared.change(|m| (m.last, m.first) = (last, first));
        self.flusher.send(Job::Appended { last: last.map(|l| l.index), done: callback })
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        // Hidden first, so that no reader meets the half-deleted end.
        self.shared.change(|m| m.last = m.last.min(last_log_id).max(m.purged));
        let keep = last_log_id.map(|id| id.index);
        self.flusher.run(|done| Job::Truncate { keep, done }).await
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.flusher.run(|done| Job::Purge { upto: log_id, done }).await?;
        self.shared.change(|m| {
            m.purged = m.purged.max(Some(log_id));
            m.last = m.last.max(Some(log_id));
        });
        Ok(())
    }
}
