//! Snapshots as checked chunks in their own database.
//!
//! A snapshot is written under a new generation and is invisible until the
//! pointer to it is flipped, after all its chunks are synced. Older generations
//! are deleted afterwards, unless somebody still reads them. What a snapshot
//! means is the state machine's matter.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use horai_core::mutants::{self, Mutant};
use serde::{Deserialize, Serialize};

use crate::disk::{Disk, MAX_VALUE, Space};
use crate::entry::{self, Fault};
use crate::flusher::Failure;
use crate::host::{Host, blocking};
use crate::identity::IdentityFile;
use crate::types::SnapshotMeta;

const POINTER: &[u8] = b"current";

/// Content bytes of a chunk: key, CRC and version come on top.
pub const CHUNK: usize = MAX_VALUE - 12 - 5;

/// Write rate of a snapshot built in the background.
const BYTES_PER_SECOND: u64 = 20_000_000;

/// A sync in the middle of a long snapshot, so that the last one is short.
const SYNC_EVERY: u64 = 8 << 20;

/// Names the snapshot that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pointer {
    generation: u64,
    shape: Shape,
    meta: SnapshotMeta,
}

/// What a complete snapshot must add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// How many chunks.
    pub chunks: u32,
    /// How many bytes of content.
    pub bytes: u64,
    /// CRC32C of the content.
    pub crc: u32,
}

struct Inner {
    current: Option<Pointer>,
    next: u64,
    pins: BTreeMap<u64, usize>,
}

/// The snapshots of one node.
pub struct SnapshotStore {
    disk: Arc<dyn Disk>,
    identity: Arc<IdentityFile>,
    failure: Arc<Failure>,
    host: Arc<dyn Host>,
    closing: AtomicBool,
    inner: Mutex<Inner>,
}

fn chunk_key(generation: u64, chunk: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&generation.to_be_bytes());
    key[8..].copy_from_slice(&chunk.to_be_bytes());
    key
}

impl SnapshotStore {
    /// Reads the pointer, checks the chunks it names and deletes all others.
    ///
    /// # Errors
    /// [`Fault`] as the error's source if the current snapshot is damaged.
    pub(crate) fn load(
        disk: Arc<dyn Disk>,
        identity: Arc<IdentityFile>,
        failure: Arc<Failure>,
        host: Arc<dyn Host>,
    ) -> io::Result<Arc<Self>> {
        let current: Option<Pointer> = match disk.get(Space::Meta, POINTER)? {
            Some(sealed) => Some(entry::unseal_value(POINTER, &sealed)?),
            None => None,
        };
        let generations = generations(&*disk)?;
        let next = generations.last().map_or(1, |g| g.saturating_add(1));
        let next = next.max(current.as_ref().map_or(1, |p| p.generation.saturating_add(1)));
        let inner = Mutex::new(Inner { current, next, pins: BTreeMap::new() });
        let closing = AtomicBool::new(false);
        let store = Arc::new(Self { disk, identity, failure, host, closing, inner });
        if let Some((_, handle)) = store.current() {
            handle.verify()?;
        }
        store.collect()?;
        Ok(store)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a write; its failure ends the life of all this node's stores.
    fn write(&self, write: impl FnOnce(&dyn Disk) -> io::Result<()>) -> io::Result<()> {
        self.failure.check()?;
        let written = write(&*self.disk);
        if mutants::on(Mutant::DiskErrorsIgnored) {
            return Ok(());
        }
        written.inspect_err(|error| self.failure.set(error, &self.identity))
    }

    /// Does work on snapshots where blocking is allowed.
    ///
    /// # Errors
    /// Those of the work; a panic is one, too.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        blocking(&*self.host, work).await
    }

    pub(crate) fn has_threads(&self) -> bool {
        self.host.has_threads()
    }

    /// The node stops: what is being written breaks off, and never counts.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Looks for damage that the disk does not report itself.
    ///
    /// # Errors
    /// What was found; it ends the life of all this node's stores.
    pub fn check(&self) -> io::Result<()> {
        self.write(Disk::check)
    }

    /// What ended the life of this node's stores, if anything did.
    #[must_use]
    pub fn failed(&self) -> Option<String> {
        self.failure.check().err().map(|error| error.to_string())
    }

    /// The snapshot that counts.
    #[must_use]
    pub fn current(self: &Arc<Self>) -> Option<(SnapshotMeta, SnapshotHandle)> {
        let mut inner = self.lock();
        let Pointer { generation, shape, meta } = inner.current.clone()?;
        let pin = self.pin(&mut inner, generation);
        Some((meta, SnapshotHandle { pin, shape }))
    }

    /// Begins a new snapshot, at full speed or at the background rate.
    #[must_use]
    pub fn writer(self: &Arc<Self>, paced: bool) -> SnapshotWriter {
        let mut inner = self.lock();
        let generation = inner.next;
        inner.next += 1;
        SnapshotWriter {
            pin: self.pin(&mut inner, generation),
            shape: Shape::default(),
            buffer: Vec::with_capacity(CHUNK),
            unsynced: 0,
            // Pacing is sleeping, which only a thread may.
            pace: (paced && self.has_threads()).then(Instant::now),
        }
    }

    fn pin(self: &Arc<Self>, inner: &mut Inner, generation: u64) -> Arc<Pin> {
        *inner.pins.entry(generation).or_default() += 1;
        Arc::new(Pin { store: Arc::clone(self), generation })
    }

    /// Makes a finished snapshot the one that counts.
    ///
    /// # Errors
    /// If it may not be durable; then the former one still counts.
    pub fn publish(
        self: &Arc<Self>,
        meta: &SnapshotMeta,
        handle: &SnapshotHandle,
    ) -> io::Result<()> {
        if !Arc::ptr_eq(self, &handle.pin.store) {
            // From another store: only its content can be taken over.
            let mut writer = self.writer(false);
            for chunk in 0..handle.shape.chunks {
                writer.write(&handle.chunk(chunk)?)?;
            }
            return self.publish(meta, &writer.finish()?);
        }
        let pointer =
            Pointer { generation: handle.pin.generation, shape: handle.shape, meta: meta.clone() };
        if self.lock().current.as_ref() == Some(&pointer) {
            return Ok(());
        }
        let sealed = entry::seal_value(POINTER, &pointer)?;
        let index = meta.last_log_id.map(|id| id.index);
        self.write(|disk| {
            disk.put(Space::Meta, POINTER, &sealed)?;
            if !mutants::on(Mutant::SnapshotNotSynced) {
                disk.sync()?;
            }
            self.identity.update(|i| i.snapshot = i.snapshot.max(index))
        })?;
        self.lock().current = Some(pointer);
        self.collect()
    }

    /// Deletes generations that nobody needs.
    fn collect(&self) -> io::Result<()> {
        for generation in generations(&*self.disk)? {
            let needed = {
                let inner = self.lock();
                inner.pins.contains_key(&generation)
                    || inner.current.as_ref().is_some_and(|p| p.generation == generation)
            };
            if !needed {
                self.delete(generation)?;
            }
        }
        Ok(())
    }

    fn delete(&self, generation: u64) -> io::Result<()> {
        let end = generation.checked_add(1).map(|next| chunk_key(next, 0));
        let mut from = chunk_key(generation, 0);
        loop {
            let found = first_key(&*self.disk, &from)?;
            let Some(key) = found.filter(|k| end.is_none_or(|end| *k < end)) else {
                return Ok(());
            };
            self.write(|disk| disk.remove(Space::Chunks, &key))?;
            from = key;
        }
    }
}

/// The first chunk's key at or after `from`.
fn first_key(disk: &dyn Disk, from: &[u8]) -> io::Result<Option<[u8; 12]>> {
    let mut found = None;
    disk.scan(Space::Chunks, from, None, &mut |key, _| {
        found = Some(<[u8; 12]>::try_from(key));
        ControlFlow::Break(())
    })?;
    found.transpose().map_err(|_| Fault::Content.into())
}

/// Generations that have chunks, ascending; one look each.
fn generations(disk: &dyn Disk) -> io::Result<Vec<u64>> {
    let mut all = Vec::new();
    let mut from = chunk_key(0, 0);
    while let Some(key) = first_key(disk, &from)? {
        let (generation, _) = key.split_first_chunk::<8>().ok_or(Fault::Content)?;
        let generation = u64::from_be_bytes(*generation);
        all.push(generation);
        let Some(next) = generation.checked_add(1) else { break };
        from = chunk_key(next, 0);
    }
    Ok(all)
}

/// Keeps a generation from being deleted.
struct Pin {
    store: Arc<SnapshotStore>,
    generation: u64,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut inner = self.store.lock();
        if let Some(count) = inner.pins.get_mut(&self.generation) {
            *count -= 1;
            if *count == 0 {
                inner.pins.remove(&self.generation);
            }
        }
    }
}

/// A complete snapshot that can be read, sent or installed. Cheap to clone; its
/// chunks stay while a clone lives.
#[derive(Clone)]
pub struct SnapshotHandle {
    pin: Arc<Pin>,
    shape: Shape,
}

impl std::fmt::Debug for SnapshotHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SnapshotHandle({}, {:?})", self.pin.generation, self.shape)
    }
}

impl SnapshotHandle {
    /// What its chunks add up to.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// [`SnapshotHandle::chunk`] for async code.
    pub(crate) async fn read_chunk(&self, chunk: u32) -> io::Result<Bytes> {
        let from = self.clone();
        self.pin.store.blocking(move || from.chunk(chunk)).await
    }

    /// One chunk, checked; at most [`CHUNK`] bytes.
    ///
    /// # Errors
    /// If it is missing or damaged; that ends the life of all this node's stores.
    pub fn chunk(&self, chunk: u32) -> io::Result<Bytes> {
        let store = &self.pin.store;
        self.load(chunk).inspect_err(|error| store.failure.set(error, &store.identity))
    }

    fn load(&self, chunk: u32) -> io::Result<Bytes> {
        let key = chunk_key(self.pin.generation, chunk);
        let sealed = self.pin.store.disk.get(Space::Chunks, &key)?.ok_or(Fault::Incomplete)?;
        let body = entry::unseal(&key, &sealed)?;
        Ok(sealed.slice_ref(body))
    }

    /// Reads all of it and compares it with its shape.
    ///
    /// # Errors
    /// If a chunk is missing or damaged, or the sum differs.
    pub fn verify(&self) -> io::Result<()> {
        let mut found = Shape { chunks: self.shape.chunks, ..Shape::default() };
        for chunk in 0..self.shape.chunks {
            // At open nothing has been promised yet: it is refused, not marked.
            let content = self.load(chunk)?;
            found.bytes += content.len() as u64;
            found.crc = crc32c::crc32c_append(found.crc, &content);
        }
        if found == self.shape { Ok(()) } else { Err(Fault::Checksum.into()) }
    }

    /// The records that [`SnapshotWriter::record`] wrote, in order.
    #[must_use]
    pub fn records(&self) -> Records {
        Records { handle: self.clone(), next: 0, buffer: Vec::new(), at: 0, failed: false }
    }
}

/// Writes a snapshot that nobody sees until it is published.
pub struct SnapshotWriter {
    pin: Arc<Pin>,
    shape: Shape,
    buffer: Vec<u8>,
    unsynced: u64,
    pace: Option<Instant>,
}

impl SnapshotWriter {
    /// Adds content. Blocks on the disk and, if paced, sleeps: not for async code.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn write(&mut self, mut content: &[u8]) -> io::Result<()> {
        while !content.is_empty() {
            let (now, later) = content.split_at(content.len().min(CHUNK - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            content = later;
            if self.buffer.len() == CHUNK {
                self.end_chunk()?;
            }
        }
        Ok(())
    }

    /// Adds one record with its length.
    ///
    /// # Errors
    /// If the disk fails or the record exceeds 4 GiB.
    pub fn record(&mut self, record: &[u8]) -> io::Result<()> {
        let length = u32::try_from(record.len()).map_err(io::Error::other)?;
        self.write(&length.to_le_bytes())?;
        self.write(record)
    }

    fn end_chunk(&mut self) -> io::Result<()> {
        if self.pin.store.closing.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "the node is stopping"));
        }
        let key = chunk_key(self.pin.generation, self.shape.chunks);
        let sealed = entry::seal(&key, &self.buffer);
        self.pin.store.write(|disk| disk.put(Space::Chunks, &key, &sealed))?;
        self.shape.chunks = self.shape.chunks.checked_add(1).ok_or(Fault::Content)?;
        self.shape.bytes += self.buffer.len() as u64;
        self.shape.crc = crc32c::crc32c_append(self.shape.crc, &self.buffer);
        self.unsynced += self.buffer.len() as u64;
        self.buffer.clear();
        if self.unsynced >= SYNC_EVERY {
            self.unsynced = 0;
            self.pin.store.write(|disk| disk.sync())?;
        }
        if let Some(start) = self.pace {
            let due = Duration::from_micros(self.shape.bytes * 1_000_000 / BYTES_PER_SECOND);
            std::thread::sleep(due.saturating_sub(start.elapsed()));
        }
        Ok(())
    }

    /// Syncs all chunks. The snapshot still does not count.
    ///
    /// # Errors
    /// If the chunks may not be durable.
    pub fn finish(mut self) -> io::Result<SnapshotHandle> {
        if !self.buffer.is_empty() {
            self.end_chunk()?;
        }
        if !mutants::on(Mutant::SnapshotNotSynced) {
            self.pin.store.write(|disk| disk.sync())?;
        }
        Ok(SnapshotHandle { pin: self.pin, shape: self.shape })
    }
}

/// Records of a snapshot, read chunk by chunk; ends after the first error.
pub struct Records {
    handle: SnapshotHandle,
    next: u32,
    buffer: Vec<u8>,
    at: usize,
    failed: bool,
}

impl Records {
    /// Makes `want` bytes available; false at a clean end.
    fn fill(&mut self, want: usize) -> io::Result<bool> {
        while self.buffer.len() - self.at < want {
            if self.next == self.handle.shape.chunks {
                let clean = self.at == self.buffer.len();
                return if clean { Ok(false) } else { Err(Fault::Incomplete.into()) };
            }
            self.buffer.drain(..self.at);
            self.at = 0;
            self.buffer.extend_from_slice(&self.handle.chunk(self.next)?);
            self.next += 1;
        }
        Ok(true)
    }

    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        if !self.fill(4)? {
            return Ok(None);
        }
        let head = self.buffer[self.at..].first_chunk::<4>().ok_or(Fault::Incomplete)?;
        let length = usize::try_from(u32::from_le_bytes(*head)).map_err(io::Error::other)?;
        self.at += 4;
        if length > 0 && !self.fill(length)? {
            return Err(Fault::Incomplete.into());
        }
        let record = self.buffer[self.at..self.at + length].to_vec();
        self.at += length;
        Ok(Some(record))
    }
}

impl Iterator for Records {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let record = self.read().transpose();
        self.failed = matches!(record, Some(Err(_)));
        record
    }
}
