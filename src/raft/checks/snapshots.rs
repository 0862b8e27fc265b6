//! Snapshots: invisible until whole, kept while read, restored as they were.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream;
use openraft::RaftSnapshotBuilder;
use openraft::storage::RaftStateMachine;

use super::support::{Indexes, Sim, entry, log_id};
use crate::disk::Space;
use crate::sim_disk::FailMode;
use crate::snapshot_store::CHUNK;
use crate::state_machine::{Machine, StateMachine};
use crate::types::SnapshotMeta;

fn meta(index: u64) -> SnapshotMeta {
    SnapshotMeta { last_log_id: Some(log_id(1, index)), ..Default::default() }
}

#[tokio::test]
async fn a_built_snapshot_restores_state_and_position() {
    let sim = Sim::default();
    let stores = sim.create().unwrap();
    let mut machine = StateMachine::new(Indexes::default(), stores.snapshots.clone(), None);
    let handle = machine.handle();
    let applied = handle.applied();
    let entries: Vec<_> = (0..20_000).map(|index| Ok((entry(1, index, 1), None))).collect();
    machine.apply(stream::iter(entries)).await.unwrap();
    assert_eq!(*applied.borrow(), Some(log_id(1, 19_999)));

    let mut builder = machine.try_create_snapshot_builder(false).await.unwrap();
    // What comes after the view is not in it.
    machine.apply(stream::iter([Ok((entry(1, 20_000, 1), None))])).await.unwrap();
    let built = builder.build_snapshot().await.unwrap();
    assert_eq!(built.meta.last_log_id, Some(log_id(1, 19_999)));
    assert!(built.snapshot.shape().chunks > 1);
    drop((machine, builder, built, stores));

    sim.snapshots.crash(0);
    let stores = sim.open().unwrap();
    let mut machine = StateMachine::new(Indexes::default(), stores.snapshots, None);
    let current = machine.get_current_snapshot().await.unwrap().unwrap();
    machine.install_snapshot(&current.meta, current.snapshot).await.unwrap();
    assert_eq!(machine.applied_state().await.unwrap().0, Some(log_id(1, 19_999)));
    let all: Vec<u64> = (0..20_000).collect();
    machine.handle().read(|m| assert_eq!(*m.0, all));
}

#[tokio::test]
async fn a_half_written_snapshot_is_invisible_at_any_call() {
    let old = Indexes(Arc::new((0..7).collect()));
    let new = Indexes(Arc::new((0..20_000).collect()));
    let write = |stores: &crate::open::Stores, content: &Indexes, index| -> io::Result<()> {
        let mut writer = stores.snapshots.writer(false);
        Indexes::write(content, &mut |record| writer.record(record))?;
        stores.snapshots.publish(&meta(index), &writer.finish()?)
    };
    let mut seen = (false, false);
    for call in 1.. {
        for keep in [0, 2, usize::MAX] {
            let sim = Sim::default();
            let stores = sim.create().unwrap();
            write(&stores, &old, 7).unwrap();
            sim.snapshots.fail_at(
                sim.snapshots.calls() + call,
                FailMode::Before,
                io::ErrorKind::StorageFull,
            );
            let done = write(&stores, &new, 20_000).is_ok();
            drop(stores);
            sim.snapshots.crash(keep);
            let stores = sim.open().unwrap();
            let (found, handle) = stores.snapshots.current().unwrap();
            let content = Indexes::restore(&mut handle.records()).unwrap();
            if found == meta(7) {
                assert!(!done, "call {call}: an acknowledged snapshot is gone");
                assert_eq!(content, old);
                seen.0 = true;
            } else {
                assert_eq!((found, &content), (meta(20_000), &new));
                seen.1 = true;
            }
            if done && keep == usize::MAX {
                assert_eq!(seen, (true, true));
                return;
            }
        }
    }
}

#[tokio::test]
async fn an_old_generation_stays_while_it_is_read_and_then_goes() {
    let sim = Sim::default();
    let stores = sim.create().unwrap();
    let publish = |index: u64| {
        let mut writer = stores.snapshots.writer(false);
        writer.write(&vec![u8::try_from(index).unwrap(); 3 * CHUNK]).unwrap();
        stores.snapshots.publish(&meta(index), &writer.finish().unwrap()).unwrap();
    };
    publish(1);
    let (_, reading) = stores.snapshots.current().unwrap();
    publish(2);
    reading.verify().unwrap();
    drop(reading);
    publish(3);
    let (_, last) = stores.snapshots.current().unwrap();
    last.verify().unwrap();
    let mut chunks = 0;
    crate::disk::Disk::scan(&sim.snapshots, Space::Chunks, &[], None, &mut |_, _| {
        chunks += 1;
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(chunks, 3, "older generations were kept");
}

#[tokio::test]
async fn a_snapshot_built_in_the_background_leaves_the_disk_to_others() {
    const BYTES: usize = 4_000_000;
    let stores = Sim::default().create().unwrap();
    let write = |paced| {
        let began = Instant::now();
        let mut writer = stores.snapshots.writer(paced);
        writer.write(&vec![1; BYTES]).unwrap();
        writer.finish().unwrap();
        began.elapsed()
    };
    let took = write(true);
    // 20 MB/s at most; the last chunk does not wait.
    assert!(took > Duration::from_millis(190), "{took:?}");
    assert!(write(false) < took, "one that is waited for is paced too");
}

#[tokio::test]
async fn a_damaged_snapshot_is_refused_at_open() {
    let sim = Sim::default();
    let stores = sim.create().unwrap();
    let mut writer = stores.snapshots.writer(false);
    writer.write(&vec![1; CHUNK + 1]).unwrap();
    stores.snapshots.publish(&meta(1), &writer.finish().unwrap()).unwrap();
    drop(stores);
    let mut key = [0; 12];
    key[7] = 1;
    sim.snapshots.corrupt(Space::Chunks, &key, |value| {
        value[100] ^= 1;
        true
    });
    assert!(matches!(sim.open(), Err(crate::open::Error::Damaged { .. })));
}
