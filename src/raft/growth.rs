//! How far the log has grown, and when that calls for a snapshot.
//!
//! openraft counts entries; an entry holds between one small command and many
//! large ones. So commands and bytes are counted as they are applied, on every
//! node for itself, and a snapshot is triggered and the log purged from here.
//! Nothing is purged that a synced snapshot does not cover, and some log is kept
//! behind it, so that a node that was away for a moment needs no snapshot. A person
//! may ask for a snapshot, too; only the log that it covers is then kept as before.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::time::Instant;

use crate::inner::Inner;
use crate::node::{Error, RaftNode};
use crate::state_machine::Machine;
use crate::types::LogId;

/// What an entry takes in the log beside its commands.
const ENTRY_BYTES: u64 = 64;
/// Marks are at most so far apart,
const MARK_BYTES: u64 = 1 << 20;
/// and at least so many fit into what is kept.
const MARKS_KEPT: u64 = 16;

/// openraft drops what it is asked while it writes one: so often it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// How often damage that sled does not report is looked for.
const CHECK_EVERY: Duration = Duration::from_secs(60);

/// When snapshots are taken and how much log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// After so many commands,
    pub commands: u64,
    /// or so many bytes of log,
    pub bytes: u64,
    /// but not more often than this.
    pub every: Duration,
    /// Bytes of log kept for nodes that lag behind.
    pub keep_bytes: u64,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        Self {
            commands: 300_000,
            bytes: 64 << 20,
            every: Duration::from_secs(15),
            keep_bytes: 64 << 20,
        }
    }
}

/// Everything applied up to an index, since counting began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Mark {
    index: u64,
    commands: u64,
    bytes: u64,
}

/// Counts what is applied, with marks by which log can be measured.
#[derive(Debug, Default)]
pub(crate) struct Growth {
    apart: u64,
    now: Mark,
    marks: VecDeque<Mark>,
}

impl Growth {
    /// Marks fine enough for `keep_bytes`.
    pub(crate) fn for_keeping(keep_bytes: u64) -> Self {
        let apart = MARK_BYTES.min(keep_bytes / MARKS_KEPT);
        Self { apart, ..Self::default() }
    }

    /// Counting begins here: what came before is in a snapshot and not in the log.
    pub(crate) fn restart(&mut self, index: Option<u64>) {
        self.now = Mark { index: index.unwrap_or(0), ..Mark::default() };
        self.marks = [self.now].into();
    }

    /// An entry was applied.
    pub(crate) fn note(&mut self, index: u64, commands: usize, bytes: usize) {
        self.now.index = index;
        self.now.commands += commands as u64;
        self.now.bytes += bytes as u64 + ENTRY_BYTES;
        if self.marks.back().is_none_or(|mark| self.now.bytes - mark.bytes >= self.apart) {
            self.marks.push_back(self.now);
        }
    }

    /// Commands and bytes after an index, at most a mark's distance too many.
    fn since(&self, index: u64) -> (u64, u64) {
        let below = self.marks.iter().rev().find(|mark| mark.index <= index);
        let from = below.copied().unwrap_or_default();
        (self.now.commands - from.commands, self.now.bytes - from.bytes)
    }

    /// Up to here the log may go, for at most `keep_bytes` to remain.
    fn purgeable(&self, keep_bytes: u64) -> Option<u64> {
        let spare = self.now.bytes.saturating_sub(keep_bytes);
        let at = self.marks.partition_point(|mark| mark.bytes < spare);
        self.marks.get(at).filter(|_| spare > 0).map(|mark| mark.index)
    }

    /// The log up to here is gone.
    fn forget(&mut self, purged: u64) {
        // The last mark at or below it stays: `since` counts from there.
        while self.marks.get(1).is_some_and(|mark| mark.index <= purged) {
            self.marks.pop_front();
        }
    }
}

impl<M: Machine> Inner<M> {
    /// Takes snapshots and purges the log behind them.
    pub(crate) async fn keep_log_short(self: Arc<Self>, options: SnapshotOptions) {
        // A tenth of the least distance between two snapshots is soon enough.
        let look = (options.every / 10).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let mut taken: Option<(Instant, u64)> = None;
        let mut checked = Instant::now();
        loop {
            tokio::time::sleep(look).await;
            if checked.elapsed() >= CHECK_EVERY {
                checked = Instant::now();
                self.check_snapshots().await;
            }
            let (snapshot, purged, applied) = {
                let metrics = self.raft.metrics();
                let now = metrics.borrow_watched();
                let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
                (index(now.snapshot), index(now.purged), index(now.last_applied))
            };
            let (commands, bytes) = self.state.growth(|growth| {
                growth.forget(purged);
                growth.since(snapshot)
            });
            let large = commands >= options.commands || bytes >= options.bytes;
            // One that was begun and is not there yet is being written.
            let soon = taken.is_some_and(|(at, upto)| {
                at.elapsed() < options.every
                    || (snapshot < upto && at.elapsed() < 40 * options.every)
            });
            if large && !soon && applied > snapshot {
                taken = Some((Instant::now(), applied));
                tracing::info!(commands, bytes, applied, "taking a snapshot");
                if self.raft.trigger().snapshot().await.is_err() {
                    return;
                }
            }
            let upto = self.state.growth(|growth| growth.purgeable(options.keep_bytes));
            let upto = upto.map_or(0, |upto| upto.min(snapshot));
            if upto > purged && self.raft.trigger().purge_log(upto).await.is_err() {
                return;
            }
        }
    }
}

impl<M: Machine> RaftNode<M> {
    /// Takes a snapshot on this node of what is applied here now, waits until it is on
    /// the disk, and says up to which index the log is covered. If there is such a
    /// snapshot already, nothing is written.
    ///
    /// # Errors
    /// [`Error::Refused`] if nothing is applied here yet; [`Error::SnapshotLate`] if it
    /// is not there within `limit`: it is then still being written.
    pub async fn take_snapshot(&self, limit: Duration) -> Result<u64, Error> {
        let deadline = Instant::now() + limit;
        let applied = *self.inner.state.applied().borrow();
        let Some(applied) = applied.map(|id| id.index) else {
            return Err(Error::Refused("nothing is applied on this node yet".to_owned()));
        };
        let mut metrics = self.inner.raft.metrics();
        loop {
            let snapshot = metrics.borrow_watched().snapshot.map(|id| id.index);
            if let Some(index) = snapshot.filter(|index| *index >= applied) {
                return Ok(index);
            }
            if self.inner.raft.trigger().snapshot().await.is_err() {
                return Err(Error::Stopped);
            }
            let again = deadline.min(Instant::now() + ASK_AGAIN);
            let covered = async {
                while metrics.borrow_watched().snapshot.is_none_or(|id| id.index < applied) {
                    if metrics.changed().await.is_err() {
                        return Err(Error::Stopped);
                    }
                }
                Ok(())
            };
            match tokio::time::timeout_at(again, covered).await {
                Ok(done) => done?,
                Err(_) if again == deadline => return Err(Error::SnapshotLate { applied, limit }),
                // It takes long, or was not begun because another was being written.
                Err(_) => {}
            }
        }
    }
}

impl<M: Machine> Inner<M> {
    /// The log's thread looks after its own database; this is the other one.
    async fn check_snapshots(&self) {
        let Some(snapshots) = self.snapshots.upgrade() else { return };
        let store = Arc::clone(&snapshots);
        if let Err(error) = snapshots.blocking(move || store.check()).await {
            self.fail(error.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_measured_between_marks_and_bounded_by_what_is_kept() {
        let mut growth = Growth::for_keeping(1_600);
        growth.restart(Some(10));
        assert_eq!(growth.since(10), (0, 0));
        for index in 11..=110 {
            growth.note(index, 2, 36);
        }
        assert_eq!(growth.since(10), (200, 10_000));
        assert_eq!(growth.since(60), (100, 5_000));
        assert_eq!(growth.since(110), (0, 0));
        assert_eq!(growth.purgeable(20_000), None);
        let upto = growth.purgeable(1_600).unwrap();
        assert_eq!(growth.since(upto), (32, 1_600));
        growth.forget(upto);
        assert_eq!(growth.since(upto), (32, 1_600));
        assert_eq!(growth.marks.len(), 17);
    }

    #[test]
    fn wide_marks_count_a_little_too_much_and_never_too_little() {
        let mut growth = Growth::for_keeping(64 << 20);
        growth.restart(None);
        for index in 1..=5_000 {
            growth.note(index, 256, 48 << 10);
        }
        let (commands, bytes) = growth.since(4_000);
        assert!((256_000..=256_000 + 256 * 22).contains(&commands), "{commands}");
        assert!(bytes >= 1_000 * (48 << 10), "{bytes}");
        let upto = growth.purgeable(64 << 20).unwrap();
        let (_, kept) = growth.since(upto);
        assert!(kept <= 64 << 20 && kept > 62 << 20, "{kept}");
    }
}
