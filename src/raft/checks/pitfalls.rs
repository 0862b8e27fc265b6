//! What openraft asks of its storage, each seen by itself: `PITFALLS.md` tells why.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::RaftLogReader;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use uuid::Uuid;

use super::support::{Sim, append, entry, log_id};
use crate::disk::{Disk, Space, Visit};
use crate::host::OsHost;
use crate::identity::Identity;
use crate::open::{self, Stores};
use crate::sim_disk::{FailMode, SimDisk};
use crate::types::{LogId, SnapshotMeta, TypeConfig, Vote};

/// A disk whose sync waits for a gate.
#[derive(Clone, Default)]
struct Gated {
    disk: SimDisk,
    is_shut: Arc<AtomicBool>,
}

impl Disk for Gated {
    fn put(&self, space: Space, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.disk.put(space, key, value)
    }

    fn remove(&self, space: Space, key: &[u8]) -> io::Result<()> {
        self.disk.remove(space, key)
    }

    fn get(&self, space: Space, key: &[u8]) -> io::Result<Option<Bytes>> {
        self.disk.get(space, key)
    }

    fn scan(
        &self,
        space: Space,
        from: &[u8],
        to: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> io::Result<()> {
        self.disk.scan(space, from, to, visit)
    }

    fn last_key(&self, space: Space) -> io::Result<Option<Bytes>> {
        self.disk.last_key(space)
    }

    fn sync(&self) -> io::Result<()> {
        while self.is_shut.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.disk.sync()
    }

    fn check(&self) -> io::Result<()> {
        self.disk.check()
    }
}

/// Not so long that a test gets slow, long enough for an answer that comes too early.
const MOMENT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn entries_are_readable_at_once_and_acknowledged_only_when_durable() {
    let log = Gated::default();
    let identity = Identity::new(Uuid::from_u128(1), 1, Uuid::from_u128(11));
    let (disk, snapshots) = (Arc::new(log.clone()), Arc::new(SimDisk::new()));
    let file = Box::new(SimDisk::new());
    let mut stores = open::create_on(Arc::new(OsHost), disk, snapshots, file, identity).unwrap();

    log.is_shut.store(true, Ordering::Release);
    let (done, mut answer) = TypeConfig::oneshot();
    let entries = vec![entry(1, 0, 1), entry(1, 1, 100_000)];
    stores.log.append(entries.clone(), IOFlushed::<TypeConfig>::signal(done)).await.unwrap();
    let mut reader = stores.log.get_log_reader().await;
    assert_eq!(reader.try_get_log_entries(0..2).await.unwrap(), entries);
    let vote = Vote::new(3, 1);
    let saved = tokio::time::timeout(MOMENT, stores.log.save_vote(&vote)).await;
    assert!(saved.is_err(), "a vote was given before it was durable");
    let answered = tokio::time::timeout(MOMENT, &mut answer).await;
    assert!(answered.is_err(), "entries were acknowledged before they were durable");
    log.is_shut.store(false, Ordering::Release);
    answer.await.unwrap().unwrap();
    assert_eq!(log.disk.pending(), 0);
}

/// Closed, with a snapshot that covers all, a vote and ten entries of which some have parts.
async fn used() -> (Sim, Stores) {
    let sim = Sim::default();
    let mut stores = sim.create().unwrap();
    stores.log.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    let sizes = [1, 1, 60_000, 1, 1, 120_000, 1, 1, 1, 60_000];
    let entries = sizes.iter().zip(0..).map(|(size, index)| entry(1, index, *size)).collect();
    assert!(append(&mut stores, entries).await);
    let handle = stores.snapshots.writer(false).finish().unwrap();
    let meta = SnapshotMeta { last_log_id: Some(log_id(1, 9)), ..Default::default() };
    stores.snapshots.publish(&meta, &handle).unwrap();
    (sim, stores)
}

#[tokio::test]
async fn neither_a_purge_nor_a_truncation_leaves_a_hole_wherever_it_stops() {
    for purge in [true, false] {
        for call in 1.. {
            let mut whole = true;
            for keep in [0, 1, 2, usize::MAX] {
                let (sim, mut stores) = used().await;
                let before = sim.log.calls();
                let kind = io::ErrorKind::StorageFull;
                sim.log.fail_at(before + call, FailMode::Before, kind);
                let at = log_id(1, 5);
                // Whether it is told of the failure depends on the call: deleting goes on behind.
                let _ = match purge {
                    true => stores.log.purge(at).await,
                    false => stores.log.truncate_after(Some(at)).await,
                };
                drop(stores);
                whole &= sim.log.calls() < before + call;
                sim.log.crash(keep);
                let context = format!("purge {purge}, call {call}, keep {keep}");
                let mut stores = sim.open().unwrap_or_else(|e| panic!("{context}: {e}"));
                let state = stores.log.get_log_state().await.unwrap();
                let (purged, last) = (state.last_purged_log_id, state.last_log_id);
                let first = purged.map_or(0, |p| p.index + 1);
                assert!(purged.is_none() || purged == Some(at), "{context}: {purged:?}");
                assert!(last >= Some(at) && last <= Some(log_id(1, 9)), "{context}: {last:?}");
                let mut reader = stores.log.get_log_reader().await;
                let entries = reader.try_get_log_entries(..).await.unwrap();
                let found: Vec<u64> = entries.iter().map(|e| e.log_id.index).collect();
                let dense: Vec<u64> = (first..=last.unwrap().index).collect();
                assert_eq!(found, dense, "{context}");
            }
            if whole {
                assert!(call > 5, "only {call} calls");
                break;
            }
        }
    }
}

#[tokio::test]
async fn the_committed_mark_costs_no_sync_and_is_there_after_a_restart() {
    let (sim, mut stores) = used().await;
    let syncs = sim.log.syncs();
    stores.log.save_committed(Some(log_id(1, 8))).await.unwrap();
    assert_eq!(sim.log.syncs(), syncs);
    assert_eq!(stores.log.read_committed().await.unwrap(), Some(log_id(1, 8)));
    assert!(append(&mut stores, vec![entry(1, 10, 1)]).await);
    drop(stores);
    sim.log.crash(0);
    let mut stores = sim.open().unwrap();
    assert_eq!(stores.log.read_committed().await.unwrap(), Some(log_id(1, 8)));
    // One that runs ahead of a log whose end was lost is cut to it.
    stores.log.save_committed(Some(log_id(1, 10))).await.unwrap();
    stores.log.truncate_after(Some(log_id(1, 9))).await.unwrap();
    drop(stores);
    let mut stores = sim.open().unwrap();
    assert_eq!(stores.log.read_committed().await.unwrap(), Some(log_id(1, 9)));
}

#[test]
fn leaders_of_one_term_are_told_apart() {
    let id = |node| -> LogId { LogId::new(*Vote::new_committed(3, node).leader_id(), 7) };
    assert!(id(1) < id(2), "a term has one leader only: the ids are textbook Raft's");
}

/// Everything in a folder, in bytes that the disk holds.
fn used_space(dir: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => used_space(&entry.path()),
            Ok(found) => found.blocks() * 512,
            // One of sled's own, gone meanwhile.
            Err(_) => 0,
        })
        .sum()
}

#[tokio::test]
async fn a_purged_log_gives_its_space_back() {
    const ENTRY: usize = 40_000;
    const KEPT: u64 = 400;
    const ROUNDS: u64 = 12;
    /// What is kept, twice over, and the segments that sled has in work.
    const MOST: u64 = 2 * KEPT * ENTRY as u64 + (96 << 20);
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("node");
    let mut stores = open::create(&dir, Uuid::from_u128(1), 1).unwrap();
    let mut sizes = Vec::new();
    for round in 0..ROUNDS {
        for index in round * KEPT..(round + 1) * KEPT {
            assert!(append(&mut stores, vec![entry(1, index, ENTRY)]).await);
        }
        if let Some(upto) = (round * KEPT).checked_sub(1) {
            stores.log.purge(log_id(1, upto)).await.unwrap();
        }
        sizes.push(used_space(&dir.join("log")));
    }
    let largest = sizes.iter().copied().max().unwrap_or(0);
    assert!(largest < MOST, "it grew to {largest}: {sizes:?}");
}
