//! Stops at every k-th call to the disk, forgets what was not synced, opens
//! again and compares with what was acknowledged.

use std::io;

use openraft::RaftLogReader;
use openraft::storage::RaftLogStorage;

use super::support::{Sim, append, entry, log_id};
use crate::open::Stores;
use crate::sim_disk::FailMode;
use crate::types::{Entry, LogId, Vote};

/// What was acknowledged, and what was asked for last.
#[derive(Debug, Clone, Default, PartialEq)]
struct Promise {
    vote: Option<Vote>,
    log: Vec<Entry>,
    purged: Option<LogId>,
    /// The log as it would be had the call in flight succeeded.
    asked: Vec<Entry>,
    asked_purge: Option<LogId>,
    asked_vote: Option<Vote>,
}

/// A life with every kind of write; ends at the first failure.
async fn live(stores: &mut Stores, promise: &mut Promise) -> Option<()> {
    for term in 1..=3_u64 {
        let vote = Vote::new_committed(term, 1);
        promise.asked_vote = Some(vote);
        stores.log.save_vote(&vote).await.ok()?;
        promise.vote = Some(vote);
        for round in 0..3_u64 {
            let next = promise.log.last().map_or(0, |e| e.log_id.index + 1);
            // Every third entry needs several parts.
            let sizes = [10, 20, if round == 1 { 120_000 } else { 30 }];
            let entries: Vec<Entry> =
                sizes.iter().zip(next..).map(|(size, index)| entry(term, index, *size)).collect();
            promise.asked = promise.log.iter().chain(&entries).cloned().collect();
            append(stores, entries).await.then_some(())?;
            promise.log = promise.asked.clone();
            stores.log.save_committed(promise.log.last().map(|e| e.log_id)).await.ok()?;
        }
        // The end is replaced, as a new leader does.
        promise.asked.truncate(promise.log.len() - 2);
        stores.log.truncate_after(promise.asked.last().map(|e| e.log_id)).await.ok()?;
        promise.log = promise.asked.clone();
    }
    let upto = promise.log[4].log_id;
    promise.asked_purge = Some(upto);
    stores.log.purge(upto).await.ok()?;
    promise.purged = Some(upto);
    Some(())
}

async fn stored(stores: &mut Stores) -> Vec<Entry> {
    stores.log.get_log_reader().await.try_get_log_entries(..).await.unwrap()
}

/// The snapshot without which a purge would be a loss.
fn snapshot(sim: &Sim) {
    let stores = sim.create().unwrap();
    let handle = stores.snapshots.writer(false).finish().unwrap();
    let meta =
        crate::types::SnapshotMeta { last_log_id: Some(log_id(9, 1000)), ..Default::default() };
    stores.snapshots.publish(&meta, &handle).unwrap();
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_at_any_call() {
    let calls = {
        let sim = Sim::default();
        snapshot(&sim);
        let mut stores = sim.open().unwrap();
        assert!(live(&mut stores, &mut Promise::default()).await.is_some());
        sim.log.calls()
    };
    assert!(calls > 60, "only {calls} calls");
    for mode in [FailMode::Before, FailMode::After] {
        for call in 1..=calls {
            for keep in [0, 1, 3, usize::MAX] {
                let sim = Sim::default();
                snapshot(&sim);
                let mut stores = sim.open().unwrap();
                sim.log.fail_at(sim.log.calls() + call, mode, io::ErrorKind::StorageFull);
                let mut promise = Promise::default();
                let whole = live(&mut stores, &mut promise).await.is_some();
                drop(stores);
                sim.log.crash(keep);

                let context = format!("call {call} {mode:?}, keep {keep}, whole {whole}");
                let mut stores = match sim.open() {
                    Ok(stores) => stores,
                    Err(e) => panic!("{context}: {e}"),
                };
                let vote = stores.log.get_log_reader().await.read_vote().await.unwrap();
                assert!(vote == promise.vote || vote == promise.asked_vote, "{context}: {vote:?}");
                let state = stores.log.get_log_state().await.unwrap();
                let purged = state.last_purged_log_id;
                assert!(
                    purged == promise.purged || purged == promise.asked_purge,
                    "{context}: purged {purged:?}"
                );
                let log = stored(&mut stores).await;
                let first = purged.map_or(0, |p| p.index + 1);
                for (entry, index) in log.iter().zip(first..) {
                    assert_eq!(entry.log_id.index, index, "{context}: hole");
                }
                // All that was acknowledged and not asked to be cut is there.
                let kept = promise.log.iter().filter(|e| promise.asked.contains(e));
                for entry in kept.filter(|e| e.log_id.index >= first) {
                    assert!(log.contains(entry), "{context}: lost {}", entry.log_id);
                }
                // And nothing that nobody wrote.
                for entry in &log {
                    let known = promise.asked.contains(entry) || promise.log.contains(entry);
                    assert!(known, "{context}: invented {}", entry.log_id);
                }
                // It goes on from here.
                let next = state.last_log_id.map_or(0, |l| l.index + 1);
                let vote = Vote::new_committed(9, 1);
                stores.log.save_vote(&vote).await.unwrap();
                assert!(append(&mut stores, vec![super::support::entry(9, next, 1)]).await);
            }
        }
    }
}

#[tokio::test]
async fn an_acknowledgement_has_a_sync_after_its_last_write() {
    let sim = Sim::default();
    let mut stores = sim.create().unwrap();
    for index in 0..20 {
        let before = sim.log.syncs();
        assert!(append(&mut stores, vec![entry(1, index, 60_000)]).await);
        assert!(sim.log.syncs() > before);
        assert_eq!(sim.log.pending(), 0, "a write after the sync was acknowledged");
        stores.log.save_vote(&Vote::new(index + 1, 1)).await.unwrap();
        assert_eq!(sim.log.pending(), 0, "a vote was acknowledged before its sync");
    }
}

#[tokio::test]
async fn after_a_failure_nothing_is_acknowledged() {
    let sim = Sim::default();
    let mut stores = sim.create().unwrap();
    assert!(append(&mut stores, vec![entry(1, 0, 1)]).await);
    // The write passes, its sync fails.
    sim.log.fail_at(sim.log.calls() + 2, FailMode::Before, io::ErrorKind::StorageFull);
    assert!(!append(&mut stores, vec![entry(1, 1, 1)]).await);
    sim.log.crash(usize::MAX);
    assert!(!append(&mut stores, vec![entry(1, 2, 1)]).await, "it went on after a failed sync");
    assert!(stores.log.save_vote(&Vote::new(5, 1)).await.is_err());
    drop(stores);
    // A full disk that was freed takes the node again.
    let mut stores = sim.open().unwrap();
    assert_eq!(stored(&mut stores).await.len(), 2);
}

#[tokio::test]
async fn one_read_for_replication_is_bounded_in_bytes() {
    let sim = Sim::default();
    let mut stores = sim.create().unwrap();
    let entries = (0..10).map(|index| entry(1, index, 300_000)).collect();
    assert!(append(&mut stores, entries).await);
    let mut reader = stores.log.get_log_reader().await;
    assert_eq!(reader.limited_get_log_entries(0, 10).await.unwrap().len(), 3);
    assert_eq!(reader.try_get_log_entries(0..10).await.unwrap().len(), 10);
    assert!(append(&mut stores, vec![entry(1, 10, 3 << 20)]).await);
    assert_eq!(reader.limited_get_log_entries(10, 11).await.unwrap().len(), 1, "never empty");
}
