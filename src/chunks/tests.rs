//! The store by example: its form on disk, its thread, and disks that fail.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use horai_core::ids::{AttemptKey, RunId};
use horai_core::time::UtcMillis;

use super::frame::{self, Record};
use super::piece::{MAX_LEN, pack, unpack};
use super::*;

fn key(run: u64) -> AttemptKey {
    AttemptKey { run: RunId(run), shard: 0, number: 1 }
}

fn data(run: u64, from: u64, text: &str) -> Piece {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    let to = from + bytes.len() as u64;
    let marks = vec![Mark { at: from, time: UtcMillis(5), stream: Stream::Stdout }];
    Piece { key: key(run), from, to, content: Content::Data { bytes, marks } }
}

fn text(pieces: &[Piece]) -> String {
    let of = |piece: &Piece| match &piece.content {
        Content::Data { bytes, .. } => String::from_utf8(bytes.to_vec()).unwrap(),
        Content::Gap => "~".to_owned(),
    };
    pieces.iter().map(of).collect()
}

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    async fn open(&self, limits: Limits) -> Store {
        let store = Store::open(&self.0.path().join("logs"), limits).unwrap();
        store.opened().await;
        store
    }

    fn segments(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.0.path().join("logs")).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }
}

#[test]
fn a_piece_is_the_same_after_its_way_and_small_if_that_is_possible() {
    let line = "the same line again and again\n".repeat(100);
    let mut piece = data(7, 40, &line);
    if let Content::Data { marks, .. } = &mut piece.content {
        marks.push(Mark { at: 70, time: UtcMillis(4), stream: Stream::Stderr });
        marks.push(Mark { at: 100, time: UtcMillis(900), stream: Stream::Stdout });
    }
    let packed = pack(&piece);
    assert!(packed.zstd && packed.data.len() < line.len() / 5, "{}", packed.data.len());
    assert_eq!(unpack(&packed).unwrap(), piece);
    let part = piece.clip(60, 80).unwrap();
    assert_eq!((part.from, part.to), (60, 80));
    let Content::Data { bytes, marks } = part.content else { panic!("a gap") };
    assert_eq!(bytes, line.as_bytes()[20..40]);
    let told: Vec<_> = marks.iter().map(|mark| (mark.at, mark.time.0, mark.stream)).collect();
    assert_eq!(told, [(60, 5, Stream::Stdout), (70, 4, Stream::Stderr)]);
    assert_eq!(piece.clip(0, 40), None);
    for wrong in [
        horai_proto::logs::Piece { len: 3, ..packed.clone() },
        horai_proto::logs::Piece { len: MAX_LEN as u64 + 1, ..packed.clone() },
        horai_proto::logs::Piece { gap: true, ..packed.clone() },
        horai_proto::logs::Piece { marks: Vec::new(), ..packed.clone() },
        horai_proto::logs::Piece { offset: u64::MAX, ..packed.clone() },
        horai_proto::logs::Piece { zstd: false, ..packed },
    ] {
        assert!(unpack(&wrong).is_err(), "{wrong:?}");
    }
}

const GOLDEN: &str = "484f4c3115000000cc8fbe34010807180120282806320668656c6c6f0a48055200\
                      484f4c31090000003fcb735d020900000000000000";

/// What is on disks is read for ever.
#[test]
fn records_of_the_first_form_are_read() {
    let piece = Record::Piece(pack(&data(7, 40, "hello\n")));
    let mut bytes = Vec::new();
    frame::write(&piece, &mut bytes);
    frame::write(&Record::Gone(9), &mut bytes);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN);
    let scanned = frame::scan(&bytes);
    let records: Vec<Record> = scanned.records.into_iter().map(|(record, ..)| record).collect();
    assert_eq!(records, [piece, Record::Gone(9)]);
    assert_eq!((scanned.end, scanned.damaged), (bytes.len(), 0));
}

#[tokio::test]
async fn many_logs_share_a_sync() {
    let home = Home::new();
    let limits = Limits { sync: Duration::from_millis(100), ..Limits::default() };
    let store = home.open(limits).await;
    let before = store.stats().syncs;
    let begun = std::time::Instant::now();
    for round in 0..5 {
        let puts = (1..=200).map(|run| store.put(vec![pack(&data(run, round * 6, "line \n"))]));
        for put in futures_util::future::join_all(puts).await {
            put.unwrap();
        }
    }
    let syncs = store.stats().syncs - before;
    let most = begun.elapsed().as_millis() / 100 + 2;
    assert!(u128::from(syncs) <= most, "{syncs} syncs in {:?}", begun.elapsed());
    for run in 1..=200 {
        assert_eq!(store.held(key(run)), Ranges::of(0, 30));
    }
}

#[tokio::test]
async fn what_is_known_stays_and_other_bytes_are_refused() {
    let home = Home::new();
    let limits = Limits { sync: Duration::ZERO, ..Limits::default() };
    let store = home.open(limits).await;
    let put = async |piece: Piece| store.put(vec![pack(&piece)]).await;
    put(data(1, 0, "abcdef")).await.unwrap();
    put(data(1, 0, "abcdef")).await.unwrap();
    put(data(1, 3, "defghi")).await.unwrap();
    let other = put(data(1, 4, "eXghij")).await.unwrap_err();
    assert_eq!(other, Error::Conflict { key: key(1), from: 4 });
    assert_eq!(text(&store.read(key(1), 2, 100)), "cdefghi");
    assert_eq!(text(&store.read(key(1), 9, 100)), "");
    put(Piece { key: key(1), from: 4, to: 7, content: Content::Gap }).await.unwrap();
    // Too late, and no error.
    put(data(1, 4, "XXX")).await.unwrap();
    assert_eq!(text(&store.read(key(1), 0, 100)), "abcd~hi");
    store.drop_runs(vec![RunId(1)]).await.unwrap();
    put(data(1, 0, "abcdef")).await.unwrap();
    assert!(store.held(key(1)).is_empty() && store.is_gone(RunId(1)));
    drop(store);
    let store = home.open(limits).await;
    assert!(store.held(key(1)).is_empty() && store.is_gone(RunId(1)));
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_taken_and_it_says_why() {
    let home = Home::new();
    let store = home.open(Limits { sync: Duration::ZERO, ..Limits::default() }).await;
    store.put(vec![pack(&data(1, 0, "kept"))]).await.unwrap();
    store.shared().fails.store(true, Ordering::Release);
    let failed = store.put(vec![pack(&data(1, 4, "lost"))]).await.unwrap_err();
    assert!(matches!(&failed, Error::Broken(why) if why.contains("as the test says")), "{failed}");
    store.shared().fails.store(false, Ordering::Release);
    assert_eq!(store.put(vec![pack(&data(2, 0, "more"))]).await, Err(failed.clone()));
    assert_eq!(store.shut(), Some(failed));
    assert_eq!(store.held(key(1)), Ranges::of(0, 4));
    assert_eq!(text(&store.read(key(1), 0, 100)), "kept");
}

#[tokio::test]
async fn what_is_gone_gives_its_room_back() {
    let home = Home::new();
    let limits = Limits { segment: 4_096, sync: Duration::ZERO };
    let store = home.open(limits).await;
    let noise = |run: u64| -> String {
        let hash = |n: u64| xxhash_rust::xxh3::xxh3_64(&(run * 1_000 + n).to_le_bytes());
        (0..60).map(|n| format!("{:016x}", hash(n))).collect()
    };
    for run in 1..=40 {
        store.put(vec![pack(&data(run, 0, &noise(run)))]).await.unwrap();
    }
    let full = store.stats().bytes;
    let gone: Vec<RunId> = (1..=40).filter(|run| run % 4 != 0).map(RunId).collect();
    assert!(store.stats().useful > full / 10 * 9);
    store.drop_runs(gone.clone()).await.unwrap();
    // It is known at once what will be given back.
    assert!(store.stats().useful < full / 3);
    store.forget_runs(gone);
    let on_disk = || home.segments().iter().map(|s| fs::metadata(s).map_or(0, |m| m.len())).sum();
    // The store's thread may have a segment in hand: then its numbers are behind the disk.
    let small = |store: &Store| {
        let (bytes, files): (u64, u64) = (store.stats().bytes, on_disk());
        bytes < full / 2 && store.gone().is_empty() && files == bytes
    };
    tokio::time::timeout(Duration::from_secs(30), async {
        while !small(&store) {
            store.tidy(0);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .unwrap();
    drop(store);
    let store = home.open(limits).await;
    for run in 1..=40 {
        let wanted = if run % 4 == 0 { noise(run) } else { String::new() };
        assert_eq!(text(&store.read(key(run), 0, 10_000)), wanted, "{run}");
    }
}
