//! Contents in the store: put, read, dropped, damaged, and after crashes; by example, and at
//! random against a model.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use horai_core::ids::RunId;
use horai_core::model::file::Digest;
use proptest::prelude::*;

use super::content::{digest_of, pack};
use super::*;

/// Small segments, so that some are rewritten.
const LIMITS: Limits = Limits { segment: 600, sync: Duration::ZERO };

fn content(number: u8) -> Bytes {
    Bytes::from(format!("{number} ").repeat(60 + usize::from(number)))
}

fn digest(number: u8) -> Digest {
    digest_of(&content(number))
}

async fn open(home: &Path) -> Store {
    let store = Store::open(home, LIMITS).unwrap();
    store.opened().await;
    store
}

fn segments(home: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        fs::read_dir(home).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn held(store: &Store) -> BTreeSet<Digest> {
    store.contents().into_iter().map(|(digest, _)| digest).collect()
}

async fn put(store: &Store, number: u8) {
    store.put_contents(vec![pack(&content(number))]).await.unwrap();
}

#[tokio::test]
async fn a_content_is_there_once_and_after_a_start_too() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path()).await;
    put(&store, 1).await;
    let size = store.stats().bytes;
    put(&store, 1).await;
    assert_eq!(store.stats().bytes, size, "put again it costs nothing");
    assert_eq!(store.content(digest(1)).unwrap().1, content(1));
    assert!(store.content(digest(2)).is_none());
    let bad = horai_proto::logs::Content { data: Bytes::from_static(b"x"), ..pack(&content(2)) };
    assert!(matches!(store.put_contents(vec![bad]).await, Err(Error::BadContent(_))));
    drop(store);
    let store = open(home.path()).await;
    assert_eq!(held(&store), [digest(1)].into());
    assert_eq!((store.content(digest(1)).unwrap().1, store.stats().files), (content(1), 1));
}

#[tokio::test]
async fn what_somebody_relies_on_since_it_was_listed_is_not_dropped() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path()).await;
    for number in 0..3 {
        put(&store, number).await;
    }
    let listed = store.contents();
    put(&store, 0).await;
    assert_eq!(store.touch_contents(&[digest(1), digest(9)]), [digest(1)]);
    store.drop_contents(&listed);
    assert_eq!(held(&store), [digest(0), digest(1)].into());
    store.drop_contents(&store.contents());
    assert!(held(&store).is_empty());
    put(&store, 2).await;
    assert_eq!(store.content(digest(2)).unwrap().1, content(2), "it may come back");
}

#[tokio::test]
async fn a_damaged_content_is_not_served_and_may_be_put_again() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path()).await;
    put(&store, 1).await;
    let file = File::options().write(true).open(&segments(home.path())[0]).unwrap();
    file.write_all_at(b"#", 60).unwrap();
    assert!(store.content(digest(1)).is_none());
    assert_eq!((store.stats().damaged, held(&store).len()), (1, 0));
    put(&store, 1).await;
    assert_eq!(store.content(digest(1)).unwrap().1, content(1));
    // Found when it is put again, too.
    let last = segments(home.path()).pop().unwrap();
    let len = fs::metadata(&last).unwrap().len();
    File::options().write(true).open(&last).unwrap().write_all_at(b"#", len - 2).unwrap();
    put(&store, 1).await;
    assert_eq!(store.content(digest(1)).unwrap().1, content(1));
}

#[tokio::test]
async fn room_of_dropped_contents_is_given_back_and_the_rest_is_kept() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path()).await;
    for number in 0..60 {
        put(&store, number).await;
    }
    let many = segments(home.path()).len();
    let spare: Vec<_> = store.contents().into_iter().filter(|(of, _)| *of != digest(7)).collect();
    store.drop_contents(&spare);
    for _ in 0..200 {
        store.tidy(0);
        // Told once what was asked before is done.
        store.drop_runs(vec![RunId(1)]).await.unwrap();
        if segments(home.path()).len() < many / 4 {
            break;
        }
    }
    assert!(segments(home.path()).len() < many / 4, "of {many} segments");
    assert_eq!(store.content(digest(7)).unwrap().1, content(7));
    drop(store);
    let store = open(home.path()).await;
    assert!(held(&store).contains(&digest(7)));
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8),
    Drop(u8),
    Tidy,
    Reopen,
    /// A byte somewhere is another, or what follows it is lost.
    Harm {
        at: usize,
        cut: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..8u8).prop_map(Step::Put),
        3 => (0..8u8).prop_map(Step::Drop),
        3 => Just(Step::Tidy),
        2 => Just(Step::Reopen),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(at, cut)| Step::Harm { at, cut }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// What was put and is wanted is served, whole, unless the disk was harmed; nothing else
    /// than what was put is ever served.
    #[test]
    fn what_is_wanted_is_served(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let home = tempfile::tempdir().unwrap();
        runtime.block_on(async {
            let mut store = open(home.path()).await;
            let (mut wanted, mut harmed) = (BTreeSet::new(), false);
            for step in steps {
                match step {
                    Step::Put(number) => {
                        put(&store, number).await;
                        prop_assert_eq!(store.content(digest(number)).unwrap().1, content(number));
                        wanted.insert(number);
                    }
                    Step::Drop(number) => {
                        let listed = store.contents();
                        let spare: Vec<_> =
                            listed.into_iter().filter(|(of, _)| *of == digest(number)).collect();
                        store.drop_contents(&spare);
                        prop_assert!(store.content(digest(number)).is_none());
                        wanted.remove(&number);
                    }
                    Step::Tidy => store.tidy(0),
                    Step::Reopen => {
                        drop(store);
                        store = open(home.path()).await;
                    }
                    Step::Harm { at, cut } => {
                        drop(store);
                        let paths = segments(home.path());
                        if let Some(path) = paths.get(at % paths.len().max(1)) {
                            let file = File::options().write(true).open(path).unwrap();
                            let place = at as u64 % file.metadata().unwrap().len().max(1);
                            if cut {
                                file.set_len(place).unwrap();
                            } else {
                                file.write_all_at(b"#", place).unwrap();
                            }
                            harmed = true;
                        }
                        store = open(home.path()).await;
                    }
                }
                for number in 0..8 {
                    match store.content(digest(number)) {
                        Some((_, bytes)) => prop_assert_eq!(bytes, content(number)),
                        None => prop_assert!(harmed || !wanted.contains(&number), "{} is lost", number),
                    }
                }
            }
            Ok(())
        })?;
    }
}
