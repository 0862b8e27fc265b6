//! [`Disk`] and [`SmallFile`] in memory, for crash tests.
//!
//! It keeps what is durable apart from what only was written, can fail at a
//! chosen call or refuse to read and, at a crash, forgets the writes that were not synced or keeps
//! a prefix of them. Test code of any crate may use it; the product does not.

use std::collections::BTreeMap;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::disk::{Disk, SmallFile, Space, Visit, check_size};
use crate::entry::to_bytes;

type Map = BTreeMap<(Space, Vec<u8>), Vec<u8>>;

/// A write that was not synced yet.
#[derive(Debug, Clone)]
enum Op {
    Put(Space, Vec<u8>, Vec<u8>),
    Remove(Space, Vec<u8>),
}

/// What the failing call leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailMode {
    /// Nothing: the machine stopped before it.
    Before,
    /// All of it: the machine stopped before the caller heard.
    After,
}

#[derive(Debug, Default)]
struct Inner {
    durable: Map,
    view: Map,
    pending: Vec<Op>,
    file: Option<Vec<u8>>,
    calls: u64,
    fail_at: Option<(u64, FailMode, io::ErrorKind)>,
    stopped: Option<io::ErrorKind>,
    unreadable: Option<io::ErrorKind>,
    unsyncable: Option<io::ErrorKind>,
    syncs: u64,
}

impl Inner {
    /// Counts a call that changes something; says whether it takes effect and
    /// what the caller hears.
    fn call(&mut self) -> (bool, io::Result<()>) {
        if let Some(kind) = self.stopped {
            return (false, Err(kind.into()));
        }
        self.calls += 1;
        match self.fail_at {
            Some((at, mode, kind)) if at == self.calls => {
                self.stopped = Some(kind);
                (mode == FailMode::After, Err(kind.into()))
            }
            _ => (true, Ok(())),
        }
    }
}

fn apply(map: &mut Map, op: Op) {
    match op {
        Op::Put(space, key, value) => drop(map.insert((space, key), value)),
        Op::Remove(space, key) => drop(map.remove(&(space, key))),
    }
}

/// A disk in memory with one small file beside it; clones share it.
#[derive(Debug, Clone, Default)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
}

impl SimDisk {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Calls so far that change something: puts, removes, syncs, replacements.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.with(|i| i.calls)
    }

    /// Syncs so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.with(|i| i.syncs)
    }

    /// Writes that a crash could lose.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.with(|i| i.pending.len())
    }

    /// Lets the call with this number, and all after it, fail.
    pub fn fail_at(&self, call: u64, mode: FailMode, kind: io::ErrorKind) {
        self.with(|i| i.fail_at = Some((call, mode, kind)));
    }

    /// Lets all reads fail from now on, while writes go on.
    pub fn fail_reads(&self, kind: io::ErrorKind) {
        self.with(|i| i.unreadable = Some(kind));
    }

    /// Lets all syncs fail from now on, while writes are taken as ever.
    pub fn fail_syncs(&self, kind: io::ErrorKind) {
        self.with(|i| i.unsyncable = Some(kind));
    }

    /// Reads, unless reads fail.
    fn read<T>(&self, f: impl FnOnce(&Inner) -> T) -> io::Result<T> {
        self.with(|i| match i.unreadable {
            Some(kind) => Err(kind.into()),
            None => Ok(f(i)),
        })
    }

    /// Power loss and restart: of the writes that were not synced only the
    /// first `keep` survive. Clears a failure.
    pub fn crash(&self, keep: usize) {
        self.with(|i| {
            let kept: Vec<Op> = std::mem::take(&mut i.pending).into_iter().take(keep).collect();
            for op in kept {
                apply(&mut i.durable, op);
            }
            i.view = i.durable.clone();
            i.fail_at = None;
            i.stopped = None;
            i.unreadable = None;
            i.unsyncable = None;
        });
    }

    /// Forgets everything on the disk but not the small file, as a truncated
    /// database does.
    pub fn wipe(&self) {
        self.with(|i| {
            i.durable.clear();
            i.view.clear();
            i.pending.clear();
        });
    }

    /// Changes durable bytes behind the store's back; `None` deletes.
    pub fn corrupt(&self, space: Space, key: &[u8], change: impl FnOnce(&mut Vec<u8>) -> bool) {
        self.with(|i| {
            let key = (space, key.to_vec());
            if let Some(value) = i.durable.get_mut(&key)
                && !change(value)
            {
                i.durable.remove(&key);
            }
            i.view = i.durable.clone();
        });
    }
}

impl Disk for SimDisk {
    fn put(&self, space: Space, key: &[u8], value: &[u8]) -> io::Result<()> {
        check_size(space, key, value)?;
        self.with(|i| {
            let (effect, result) = i.call();
            if effect {
                let op = Op::Put(space, key.to_vec(), value.to_vec());
                apply(&mut i.view, op.clone());
                i.pending.push(op);
            }
            result
        })
    }

    fn remove(&self, space: Space, key: &[u8]) -> io::Result<()> {
        self.with(|i| {
            let (effect, result) = i.call();
            if effect {
                let op = Op::Remove(space, key.to_vec());
                apply(&mut i.view, op.clone());
                i.pending.push(op);
            }
            result
        })
    }

    fn get(&self, space: Space, key: &[u8]) -> io::Result<Option<Bytes>> {
        self.read(|i| i.view.get(&(space, key.to_vec())).map(|v| to_bytes(v)))
    }

    fn scan(
        &self,
        space: Space,
        from: &[u8],
        to: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> io::Result<()> {
        let mut next = Bound::Included((space, from.to_vec()));
        loop {
            // One key at a time, so that the visitor may use the disk.
            let found = self.read(|i| {
                let (key, value) = i.view.range((next.clone(), Bound::Unbounded)).next()?;
                (key.0 == space && to.is_none_or(|to| key.1.as_slice() < to))
                    .then(|| (key.clone(), value.clone()))
            })?;
            let Some((key, value)) = found else { return Ok(()) };
            if let ControlFlow::Break(()) = visit(&key.1, &value) {
                return Ok(());
            }
            next = Bound::Excluded(key);
        }
    }

    fn last_key(&self, space: Space) -> io::Result<Option<Bytes>> {
        self.read(|i| {
            let last = i.view.keys().rev().find(|(s, _)| *s == space);
            last.map(|(_, key)| to_bytes(key))
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|i| {
            if let Some(kind) = i.unsyncable {
                return Err(kind.into());
            }
            let (effect, result) = i.call();
            if effect {
                i.syncs += 1;
                for op in std::mem::take(&mut i.pending) {
                    apply(&mut i.durable, op);
                }
            }
            result
        })
    }

    fn check(&self) -> io::Result<()> {
        Ok(())
    }
}

impl SmallFile for SimDisk {
    fn load(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.with(|i| i.file.clone()))
    }

    fn replace(&self, content: &[u8]) -> io::Result<()> {
        self.with(|i| {
            let (effect, result) = i.call();
            if effect {
                i.file = Some(content.to_vec());
            }
            result
        })
    }
}
