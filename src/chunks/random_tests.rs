//! Random work on a store that is cut off and damaged, against a model.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use horai_core::ids::{AttemptKey, RunId};
use horai_core::time::UtcMillis;
use proptest::prelude::*;

use super::piece::pack;
use super::*;

const LIMITS: Limits = Limits { segment: 700, sync: Duration::ZERO };

#[derive(Debug, Clone)]
enum Step {
    Put {
        log: u8,
        from: u64,
        len: u64,
    },
    Gap {
        log: u8,
        from: u64,
        len: u64,
    },
    Drop {
        run: u8,
    },
    Tidy,
    Reopen,
    /// Cut somewhere behind what was synced before the last put.
    Cut {
        keep: usize,
    },
    /// Some byte is another.
    Flip {
        at: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let stretch = || (0..6u8, 0..300u64, 1..120u64);
    prop_oneof![
        12 => stretch().prop_map(|(log, from, len)| Step::Put { log, from, len }),
        2 => stretch().prop_map(|(log, from, len)| Step::Gap { log, from, len }),
        1 => (0..3u8).prop_map(|run| Step::Drop { run }),
        3 => Just(Step::Tidy),
        2 => Just(Step::Reopen),
        2 => any::<usize>().prop_map(|keep| Step::Cut { keep }),
        1 => any::<usize>().prop_map(|at| Step::Flip { at }),
    ]
}

/// Two attempts of each of three runs.
fn key(log: u8) -> AttemptKey {
    AttemptKey { run: RunId(1 + u64::from(log) / 2), shard: 0, number: 1 + u32::from(log) % 2 }
}

/// A log has one byte at each place, for ever.
fn byte(key: AttemptKey, at: u64) -> u8 {
    let seed = key.run.0 * 31 + u64::from(key.number) * 7 + at;
    xxhash_rust::xxh3::xxh3_64(&seed.to_le_bytes()).to_le_bytes()[0]
}

fn piece(key: AttemptKey, from: u64, len: u64) -> Piece {
    let bytes: Bytes = (from..from + len).map(|at| byte(key, at)).collect();
    let stream = if from.is_multiple_of(2) { Stream::Stdout } else { Stream::Stderr };
    let marks = vec![Mark { at: from, time: UtcMillis(9), stream }];
    Piece { key, from, to: from + len, content: Content::Data { bytes, marks } }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Known {
    Byte,
    Gap,
}

/// What was acknowledged.
#[derive(Debug, Default, Clone)]
struct Model {
    logs: BTreeMap<AttemptKey, BTreeMap<u64, Known>>,
    gone: BTreeSet<RunId>,
}

fn last_segment(dir: &Path) -> Option<PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).max()
}

async fn open(dir: &Path) -> Store {
    let store = Store::open(dir, LIMITS).unwrap();
    store.opened().await;
    assert_eq!(store.shut(), None);
    store
}

/// What is held is right; if nothing was damaged, it is also all.
fn check(store: &Store, model: &Model, is_whole: bool) {
    for log in 0..6 {
        let key = key(log);
        let held = store.held(key);
        let known = model.logs.get(&key).cloned().unwrap_or_default();
        if is_whole {
            let wanted: BTreeSet<u64> = known.keys().copied().collect();
            assert_eq!(held.iter().flatten().collect::<BTreeSet<u64>>(), wanted, "{key}");
        }
        for range in held.iter() {
            let mut at = range.start;
            for piece in store.read(key, range.start, u64::MAX) {
                assert_eq!(piece.from, at, "no hole in what is held");
                if let Content::Data { bytes, .. } = &piece.content {
                    for (at, found) in (piece.from..).zip(bytes) {
                        assert_eq!(*found, byte(key, at), "{key} at {at}");
                        assert!(!is_whole || known[&at] == Known::Byte);
                    }
                } else if is_whole {
                    assert!((piece.from..piece.to).all(|at| known[&at] == Known::Gap));
                }
                at = piece.to;
            }
            assert_eq!(at, range.end, "what is held can be read");
        }
    }
}

async fn run(steps: Vec<Step>) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("logs");
    let mut store = open(&dir).await;
    let mut model = Model::default();
    let mut is_whole = true;
    for step in steps {
        match step {
            Step::Put { log, from, len } => {
                let key = key(log);
                store.put(vec![pack(&piece(key, from, len))]).await.unwrap();
                if !model.gone.contains(&key.run) {
                    let known = model.logs.entry(key).or_default();
                    for at in from..from + len {
                        known.entry(at).or_insert(Known::Byte);
                    }
                }
            }
            Step::Gap { log, from, len } => {
                let key = key(log);
                let gap = Piece { key, from, to: from + len, content: Content::Gap };
                store.put(vec![pack(&gap)]).await.unwrap();
                if !model.gone.contains(&key.run) {
                    let known = model.logs.entry(key).or_default();
                    known.extend((from..from + len).map(|at| (at, Known::Gap)));
                }
            }
            Step::Drop { run } => {
                let run = RunId(1 + u64::from(run));
                store.drop_runs(vec![run]).await.unwrap();
                model.gone.insert(run);
                model.logs.retain(|key, _| key.run != run);
            }
            Step::Tidy => {
                store.tidy(0);
                // Behind it in the queue.
                store.drop_runs(Vec::new()).await.unwrap();
            }
            Step::Reopen => {
                drop(store);
                store = open(&dir).await;
            }
            Step::Cut { keep } => {
                // What follows is written and synced, but the power goes before that.
                let before =
                    last_segment(&dir).map(|path| (fs::metadata(&path).unwrap().len(), path));
                let key = AttemptKey { run: RunId(50), shard: 0, number: 1 };
                let at = 1_000 * store.stats().syncs;
                store.put(vec![pack(&piece(key, at, 90))]).await.unwrap();
                drop(store);
                if let Some((synced, path)) = before
                    && let Ok(file) = File::options().write(true).open(&path)
                {
                    let len = file.metadata().unwrap().len();
                    file.set_len(synced + keep as u64 % (len - synced + 1)).unwrap();
                }
                store = open(&dir).await;
            }
            Step::Flip { at } => {
                drop(store);
                let path = last_segment(&dir);
                let len = path.as_ref().map_or(0, |path| fs::metadata(path).unwrap().len());
                if let Some(path) = path.filter(|_| len > 0) {
                    let file = File::options().read(true).write(true).open(path).unwrap();
                    let (at, mut byte) = (at as u64 % len, [0]);
                    file.read_exact_at(&mut byte, at).unwrap();
                    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
                    is_whole = false;
                }
                store = open(&dir).await;
            }
        }
        check(&store, &model, is_whole);
    }
    // What was lost is taken again.
    let of = |key: AttemptKey, at: u64, known: Known| match known {
        Known::Byte => piece(key, at, 1),
        Known::Gap => Piece { key, from: at, to: at + 1, content: Content::Gap },
    };
    let all = model.logs.iter().flat_map(|(key, known)| known.iter().map(|at| (*key, at)));
    let all = all.map(|(key, (at, known))| pack(&of(key, *at, *known))).collect();
    store.put(all).await.unwrap();
    store.drop_runs(model.gone.iter().copied().collect()).await.unwrap();
    check(&store, &model, true);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_what_is_held_is_right(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}
