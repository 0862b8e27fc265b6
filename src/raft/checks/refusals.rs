//! Every store that must not be opened, and what its owner is told.

use std::io;
use std::sync::Arc;

use openraft::RaftLogReader;
use openraft::storage::RaftLogStorage;
use uuid::Uuid;

use super::support::{Sim, append, entry, log_id};
use crate::disk::{Disk, SmallFile, Space};
use crate::entry::{key, seal_value};
use crate::host::OsHost;
use crate::identity::IdentityFile;
use crate::open::{Error, create, open};
use crate::sim_disk::{FailMode, SimDisk};
use crate::types::Vote;

/// A closed store with a vote and five entries, two of them in parts.
async fn used() -> Sim {
    let sim = Sim::default();
    let mut stores = sim.create().unwrap();
    stores.log.save_vote(&Vote::new_committed(2, 1)).await.unwrap();
    let entries = [1, 100_000, 1, 1, 100_000];
    let entries = entries.iter().zip(0..).map(|(size, index)| entry(2, index, *size)).collect();
    assert!(append(&mut stores, entries).await);
    sim
}

fn refusal(sim: &Sim) -> Error {
    match sim.open() {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

fn identity(disk: &SimDisk) -> IdentityFile {
    IdentityFile::load(Box::new(disk.clone())).unwrap().unwrap()
}

fn says_replace(error: &Error) {
    assert!(error.to_string().contains("horai cluster replace"), "{error}");
}

#[tokio::test]
async fn an_emptied_store_is_refused() {
    let sim = used().await;
    sim.log.wipe();
    let error = refusal(&sim);
    assert!(matches!(error, Error::Empty("log")), "{error}");
    says_replace(&error);

    // The header alone is no less empty.
    let sim = used().await;
    let header = sim.log.get(Space::Meta, b"header").unwrap().unwrap();
    sim.log.wipe();
    sim.log.put(Space::Meta, b"header", &header).unwrap();
    sim.log.sync().unwrap();
    assert!(matches!(refusal(&sim), Error::Empty("log")));

    let sim = used().await;
    sim.snapshots.wipe();
    assert!(matches!(refusal(&sim), Error::Empty("snapshots")));
}

#[tokio::test]
async fn a_store_below_its_identity_is_refused() {
    for (what, raise) in [
        ("vote", (|i| i.vote = Some(Vote::new(3, 1))) as fn(&mut crate::identity::Identity)),
        ("purge marker", |i| i.purged = Some(1)),
        ("last entry", |i| i.synced = Some(5)),
        ("snapshot", |i| i.snapshot = Some(3)),
    ] {
        let sim = used().await;
        identity(&sim.log).update(raise).unwrap();
        let error = refusal(&sim);
        assert!(
            matches!(&error, Error::BelowIdentity { what: found, .. } if *found == what),
            "{error}"
        );
        says_replace(&error);
    }
}

#[tokio::test]
async fn entries_purged_without_a_snapshot_are_refused() {
    let sim = used().await;
    let mut stores = sim.open().unwrap();
    stores.log.purge(log_id(2, 1)).await.unwrap();
    drop(stores);
    assert!(matches!(refusal(&sim), Error::BelowIdentity { what: "snapshot", .. }));
}

#[tokio::test]
async fn foreign_and_newer_stores_are_refused() {
    let (sim, other) = (used().await, used().await);
    let mixed = Sim { log: sim.log.clone(), snapshots: other.snapshots };
    let error = refusal(&mixed);
    assert!(matches!(error, Error::Foreign { which: "snapshots", .. }), "{error}");

    let newer = (2_u32, Uuid::from_u128(1));
    sim.log.put(Space::Meta, b"header", &seal_value(b"header", &newer).unwrap()).unwrap();
    sim.log.sync().unwrap();
    let error = refusal(&sim);
    assert!(matches!(error, Error::Newer { found: 2 }), "{error}");
    assert!(error.to_string().contains("start the newer program"));
}

#[tokio::test]
async fn damage_is_refused() {
    // A flipped bit, a missing entry, a part missing in the middle.
    let flip = |value: &mut Vec<u8>| {
        let middle = value.len() / 2;
        value[middle] ^= 1;
        true
    };
    let sim = used().await;
    sim.log.corrupt(Space::Log, &key(2, 0), flip);
    let error = refusal(&sim);
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    says_replace(&error);

    for (index, part) in [(2, 0), (1, 0), (1, 1), (0, 0)] {
        let sim = used().await;
        sim.log.corrupt(Space::Log, &key(index, part), |_| false);
        assert!(matches!(refusal(&sim), Error::Damaged { .. }), "{index} {part}");
    }

    let sim = used().await;
    sim.log.corrupt(Space::Meta, b"vote", flip);
    assert!(matches!(refusal(&sim), Error::Damaged { .. }));

    let sim = used().await;
    sim.log.replace(b"horai identity crc32c=00000000\n{}").unwrap();
    assert!(matches!(refusal(&sim), Error::Damaged { .. }));
}

#[tokio::test]
async fn an_incomplete_last_entry_is_cut() {
    let sim = used().await;
    // It was never acknowledged: the identity file does not know it.
    identity(&sim.log).update(|i| i.synced = Some(3)).unwrap();
    let last = sim.log.last_key(Space::Log).unwrap().unwrap();
    sim.log.corrupt(Space::Log, &last, |_| false);
    let mut stores = sim.open().unwrap();
    let state = stores.log.get_log_state().await.unwrap();
    assert_eq!(state.last_log_id, Some(log_id(2, 3)));
    // A shorter entry takes its place without mixing with the old parts.
    assert!(append(&mut stores, vec![entry(2, 4, 1)]).await);
    drop(stores);
    let mut stores = sim.open().unwrap();
    let log = stores.log.get_log_reader().await.try_get_log_entries(4..).await.unwrap();
    assert_eq!(log, vec![entry(2, 4, 1)]);
}

#[tokio::test]
async fn after_an_io_error_the_store_stays_suspect() {
    let sim = Sim::default();
    let file = SimDisk::new();
    // The identity file on another disk, so that the mark can be written.
    let open = || {
        crate::open::open_on(
            Arc::new(OsHost),
            Arc::new(sim.log.clone()),
            Arc::new(sim.snapshots.clone()),
            Box::new(file.clone()),
        )
    };
    let mut stores = crate::open::create_on(
        Arc::new(OsHost),
        Arc::new(sim.log.clone()),
        Arc::new(sim.snapshots.clone()),
        Box::new(file.clone()),
        crate::identity::Identity::new(Uuid::from_u128(1), 1, Uuid::from_u128(11)),
    )
    .unwrap();
    sim.log.fail_at(sim.log.calls() + 2, FailMode::Before, io::ErrorKind::Other);
    assert!(!append(&mut stores, vec![entry(1, 0, 1)]).await);
    drop(stores);
    sim.log.crash(0);
    for _ in 0..2 {
        let Err(error) = open() else { panic!("it was opened") };
        assert!(matches!(error, Error::Suspect { .. }), "{error}");
        says_replace(&error);
    }
}

#[tokio::test]
async fn sled_stores_are_refused_with_words_not_panics() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("node");
    let refused = || match open(&dir) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    };
    assert!(matches!(refused(), Error::NotCreated(_)));
    let mut stores = create(&dir, Uuid::from_u128(1), 1).unwrap();
    stores.log.save_vote(&Vote::new_committed(2, 1)).await.unwrap();
    let entries = (0..40).map(|index| entry(2, index, 48_000)).collect();
    assert!(append(&mut stores, entries).await);
    assert!(matches!(create(&dir, Uuid::from_u128(1), 1), Err(Error::Exists(_))));
    assert!(matches!(refused(), Error::InUse(_)));
    drop(stores);

    let mut stores = open(&dir).unwrap();
    assert_eq!(stores.log.get_log_state().await.unwrap().last_log_id, Some(log_id(2, 39)));
    drop(stores);
    let blobs = std::fs::read_dir(dir.join("log").join("blobs")).map_or(0, Iterator::count);
    assert_eq!(blobs, 0);

    // A lost tail, as power cuts leave it: sled alone would open it as empty.
    let db = dir.join("log").join("db");
    let whole = std::fs::read(&db).unwrap();
    for length in [0, 100, whole.len() / 3] {
        std::fs::write(&db, &whole[..length]).unwrap();
        let error = refused();
        assert!(
            matches!(error, Error::Empty(_) | Error::BelowIdentity { .. } | Error::Damaged { .. }),
            "{length}: {error}"
        );
        says_replace(&error);
    }
    std::fs::remove_file(&db).unwrap();
    assert!(matches!(refused(), Error::Empty("log")));
    std::fs::remove_file(dir.join("identity")).unwrap();
    assert!(matches!(refused(), Error::NoIdentity));
}
