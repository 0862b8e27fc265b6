//! The store's thread: reads what is on the disk, appends, syncs, rewrites.
//!
//! The only one that writes. After a failure of the disk it writes nothing any more and
//! says so: what a failed sync left on the disk cannot be known.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use horai_core::ids::{AttemptKey, RunId};
use horai_core::model::file::Digest;
use horai_core::mutants::{self, Mutant};
use horai_proto::logs as pb;

use super::frame::{self, Record, Scanned};
use super::index::{Place, SegmentId};
use super::piece::{Content, key_of, unpack};
use super::store::{Done, Error, Job, Limits, Shared};

/// Between two looks for a segment that is worth rewriting.
const TIDY: Duration = Duration::from_secs(1);
/// The suffix of segments.
const SUFFIX: &str = "log";

/// A stretch that was written and not synced.
type Fresh = (AttemptKey, u64, u64);

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    limits: Limits,
    active: Option<Active>,
    /// Whoever waits for the next sync.
    waiting: Vec<Done>,
    fresh: Vec<Fresh>,
    pub(super) fresh_contents: Vec<Digest>,
    dirty: bool,
    /// When the last sync and the last look for what to rewrite were; none: long ago.
    synced: Option<Instant>,
    tidied: Option<Instant>,
    /// Bytes that the files should not exceed.
    most: u64,
}

/// The segment that is appended to.
struct Active {
    id: SegmentId,
    file: Arc<File>,
    size: u64,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, limits: Limits) -> Self {
        Self {
            shared,
            limits,
            active: None,
            waiting: Vec::new(),
            fresh: Vec::new(),
            fresh_contents: Vec::new(),
            dirty: false,
            synced: None,
            tidied: Some(Instant::now()),
            most: u64::MAX,
        }
    }

    /// Until nobody can give it work any more.
    pub(super) fn run(mut self, inbox: &Receiver<Job>) {
        if let Err(error) = self.open() {
            self.fail("it cannot be opened", &error);
        } else {
            self.shared.shut.send_replace(None);
            self.bump();
        }
        loop {
            let wait = if self.dirty {
                left(self.synced, self.limits.sync)
            } else {
                left(self.tidied, TIDY)
            };
            match inbox.recv_timeout(wait) {
                Ok(job) => {
                    self.handle(job);
                    // Whatever is there goes with the same sync, until that is due.
                    while !left(self.synced, self.limits.sync).is_zero()
                        && let Ok(job) = inbox.try_recv()
                    {
                        self.handle(job);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.sync();
                    self.shared.shut.send_replace(Some(Error::Closed));
                    return;
                }
            }
            if self.dirty && left(self.synced, self.limits.sync).is_zero() {
                self.sync();
            }
            if !self.dirty && left(self.tidied, TIDY).is_zero() {
                self.tidied = Some(Instant::now());
                if let Err(error) = self.tidy() {
                    self.fail("a segment cannot be rewritten", &error);
                }
            }
        }
    }

    fn path(&self, id: SegmentId) -> PathBuf {
        self.shared.dir.join(format!("{id:010}.{SUFFIX}"))
    }

    fn open(&mut self) -> io::Result<()> {
        let mut ids = BTreeSet::new();
        for entry in fs::read_dir(&self.shared.dir)? {
            let path = entry?.path();
            let is_segment = path.extension().is_some_and(|suffix| suffix == SUFFIX);
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            if let Some(id) = stem.filter(|_| is_segment).and_then(|stem| stem.parse().ok()) {
                ids.insert(id);
            }
        }
        let last = ids.last().copied();
        for id in ids {
            let path = self.path(id);
            let mut file = File::options().read(true).append(true).open(&path)?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let scanned = frame::scan(&bytes);
            let torn = bytes.len() - scanned.end;
            if scanned.damaged > 0 {
                let (segment, bytes) = (path.display(), scanned.damaged);
                tracing::error!(%segment, bytes, "logs: a segment is damaged, what was there is not held any more");
                self.shared.stats().damaged += 1;
            }
            if torn > 0 {
                tracing::warn!(segment = %path.display(), bytes = torn, "logs: a torn end is cut off");
                file.set_len(scanned.end as u64)?;
                file.sync_all()?;
            }
            let size = scanned.end as u64;
            let file = Arc::new(file);
            self.shared.files().insert(id, Arc::clone(&file));
            self.learn(id, size, scanned);
            if Some(id) == last && size < self.limits.segment {
                self.active = Some(Active { id, file, size });
            }
        }
        // What a process that was killed had written may be in memory alone.
        if let Some(active) = &self.active {
            active.file.sync_all()?;
        }
        File::open(&self.shared.dir)?.sync_all()?;
        let index = &mut *self.shared.index();
        for log in index.logs.values_mut() {
            log.held = log.known.clone();
        }
        Ok(())
    }

    /// Applies what a segment says.
    fn learn(&self, id: SegmentId, size: u64, scanned: Scanned) {
        let index = &mut *self.shared.index();
        index.segment(id).size = size;
        for (record, at, len) in scanned.records {
            // A segment is far smaller than 4 GiB.
            let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let place = Place { segment: id, at: small(at), len: small(len) };
            match record {
                Record::Piece(piece) => {
                    let (key, to) = (key_of(&piece), piece.offset.saturating_add(piece.len));
                    if piece.gap {
                        index.add_gap(key, piece.offset, to, place);
                    } else {
                        index.add(key, piece.offset, to, place);
                    }
                }
                Record::Gone(run) => index.drop_run(RunId(run)),
                Record::Content(content) => index.learn_content(&content, place),
            }
        }
    }

    fn handle(&mut self, job: Job) {
        match job {
            Job::Put { pieces, done, .. } => {
                let put = pieces.into_iter().try_for_each(|piece| self.put(piece));
                self.answer(put, done);
            }
            Job::PutContents { contents, done, .. } => {
                let put = contents.into_iter().try_for_each(|content| self.put_content(content));
                self.answer(put, done);
            }
            Job::Drop { runs, done } => {
                let fresh = |run: &RunId| !self.shared.index().is_gone(*run);
                let runs: Vec<RunId> = runs.into_iter().filter(fresh).collect();
                let dropped = runs.into_iter().try_for_each(|run| {
                    self.append(&Record::Gone(run.0))?;
                    self.shared.index().drop_run(run);
                    Ok(())
                });
                self.answer(dropped, done);
            }
            Job::Forget(runs) => {
                let index = &mut *self.shared.index();
                for run in runs {
                    index.gone.entry(run).and_modify(|forgotten| *forgotten = true);
                }
            }
            Job::Tidy { most } => {
                self.most = most;
                self.tidied = None;
            }
        }
    }

    /// Told after the sync, unless it failed or there is none to wait for.
    fn answer(&mut self, outcome: Result<(), Error>, done: Done) {
        if outcome.is_ok() && self.dirty {
            self.waiting.push(done);
        } else {
            // Whoever asked may have gone.
            let _ = done.send(outcome);
        }
    }

    fn put(&mut self, packed: pb::Piece) -> Result<(), Error> {
        let piece = unpack(&packed)?;
        let (key, from, to) = (piece.key, piece.from, piece.to);
        if piece.content == Content::Gap {
            let known = {
                let index = self.shared.index();
                let gaps = index.logs.get(&key).map(|log| log.gaps.missing_in(from, to));
                index.is_gone(key.run) || gaps.is_some_and(|missing| missing.is_empty())
            };
            if !known {
                let place = self.append(&Record::Piece(packed))?;
                self.shared.index().add_gap(key, from, to, place);
                self.fresh.push((key, from, to));
            }
            return Ok(());
        }
        let (is_gone, missing) = {
            let index = self.shared.index();
            (index.is_gone(key.run), index.missing(key, from, to))
        };
        if is_gone {
            return Ok(());
        }
        let whole = missing.len() == to - from;
        if !whole {
            self.compare(&piece)?;
        }
        if !missing.is_empty() {
            let place = self.append(&Record::Piece(packed))?;
            self.shared.index().add(key, from, to, place);
            self.fresh.push((key, from, to));
        }
        Ok(())
    }

    /// What is known where the piece is must be the same.
    fn compare(&self, piece: &super::Piece) -> Result<(), Error> {
        let Content::Data { bytes, .. } = &piece.content else { return Ok(()) };
        let mut at = piece.from;
        while at < piece.to {
            let found = self.shared.index().logs.get(&piece.key).and_then(|log| log.stretch(at));
            let Some(stretch) = found.filter(|stretch| stretch.from < piece.to) else { break };
            let (from, to) = (stretch.from.max(at), stretch.to.min(piece.to));
            // What cannot be read is lost, and put anew by this very piece.
            if let Some(there) = self.shared.piece(piece.key, stretch.place)
                && let Some(Content::Data { bytes: known, .. }) =
                    there.clip(from, to).map(|there| there.content)
            {
                let place = |at: u64| usize::try_from(at - piece.from).unwrap_or(usize::MAX);
                if bytes[place(from)..place(to)] != known {
                    return Err(Error::Conflict { key: piece.key, from: piece.from });
                }
            }
            at = to;
        }
        Ok(())
    }

    /// Appends a record to the active segment, or to a new one.
    pub(super) fn append(&mut self, record: &Record) -> Result<Place, Error> {
        if let Some(Error::Broken(why)) = &*self.shared.shut.borrow() {
            return Err(Error::Broken(why.clone()));
        }
        match self.try_append(record) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Err(Error::Full),
            appended => appended.map_err(|error| self.fail("a record cannot be written", &error)),
        }
    }

    pub(super) fn try_append(&mut self, record: &Record) -> io::Result<Place> {
        if self.active.as_ref().is_some_and(|active| active.size >= self.limits.segment) {
            // Nothing of a segment is left to be synced once another is begun.
            self.try_sync()?;
            self.active = None;
        }
        if self.active.is_none() {
            self.active = Some(self.begin()?);
        }
        let Some(active) = &mut self.active else { return Err(io::ErrorKind::NotFound.into()) };
        let mut bytes = Vec::new();
        frame::write(record, &mut bytes);
        if let Err(error) = (&*active.file).write_all(&bytes) {
            // So that what follows is where it is said to be.
            active.file.set_len(active.size)?;
            return Err(error);
        }
        let at = active.size;
        active.size += bytes.len() as u64;
        let small = |n: u64| u32::try_from(n).map_err(io::Error::other);
        let place = Place { segment: active.id, at: small(at)?, len: small(bytes.len() as u64)? };
        let (id, size) = (active.id, active.size);
        self.shared.index().segment(id).size = size;
        self.dirty = true;
        Ok(place)
    }

    fn begin(&self) -> io::Result<Active> {
        let id = self.shared.files().last_key_value().map_or(1, |(last, _)| last + 1);
        let file = File::options().read(true).append(true).create_new(true).open(self.path(id))?;
        file.sync_all()?;
        File::open(&self.shared.dir)?.sync_all()?;
        let file = Arc::new(file);
        self.shared.files().insert(id, Arc::clone(&file));
        Ok(Active { id, file, size: 0 })
    }

    fn sync(&mut self) {
        let outcome = if self.dirty { self.try_sync() } else { Ok(()) };
        let outcome = outcome.map_err(|error| self.fail("a sync failed", &error));
        for done in self.waiting.drain(..) {
            let _ = done.send(outcome.clone());
        }
    }

    fn try_sync(&mut self) -> io::Result<()> {
        #[cfg(test)]
        if self.shared.fails.load(std::sync::atomic::Ordering::Acquire) {
            return Err(io::Error::other("as the test says"));
        }
        if let Some(active) = &self.active
            && !mutants::on(Mutant::LogNotSynced)
        {
            active.file.sync_data()?;
        }
        self.synced = Some(Instant::now());
        self.dirty = false;
        self.shared.stats().syncs += 1;
        {
            let index = &mut *self.shared.index();
            for (key, from, to) in self.fresh.drain(..) {
                if let Some(log) = index.logs.get_mut(&key) {
                    // Only what is still known: damage may have been found meanwhile.
                    let mut held = super::Ranges::of(from, to);
                    for lost in log.known.missing_in(from, to).iter() {
                        held.remove(lost.start, lost.end);
                    }
                    log.held.union(&held);
                }
            }
        }
        for digest in self.fresh_contents.drain(..) {
            self.shared.content_synced(digest);
        }
        for done in self.waiting.drain(..) {
            let _ = done.send(Ok(()));
        }
        self.bump();
        Ok(())
    }

    fn bump(&self) {
        self.shared.changed.send_modify(|count| *count += 1);
    }

    /// From here on nothing is taken.
    fn fail(&mut self, what: &str, error: &io::Error) -> Error {
        let broken = Error::Broken(format!("{what}: {error}"));
        tracing::error!(error = %broken, "logs: the store takes nothing any more");
        self.shared.shut.send_replace(Some(broken.clone()));
        self.dirty = false;
        self.fresh.clear();
        self.fresh_contents.clear();
        for done in self.waiting.drain(..) {
            let _ = done.send(Err(broken.clone()));
        }
        broken
    }

    /// Rewrites the segment that gives back the most, if one is worth it.
    fn tidy(&mut self) -> io::Result<()> {
        if self.shared.shut.borrow().is_some() {
            return Ok(());
        }
        let active = self.active.as_ref().map(|active| active.id);
        let (worst, oldest) = {
            let index = self.shared.index();
            let is_over = index.size() > self.most;
            // Half of it is of no use; a tenth, where there is too much.
            let worth = |dead: u64, all: u64| dead * 2 > all || (is_over && dead * 10 > all);
            let sealed = index.segments.iter().filter(|(id, _)| Some(**id) != active);
            let dead = sealed
                .map(|(id, segment)| {
                    (segment.weight.saturating_sub(segment.live), *id, segment.weight)
                })
                .filter(|(dead, _, all)| *all == 0 || worth(*dead, *all));
            (dead.max().map(|(_, id, _)| id), index.segments.keys().next().copied())
        };
        match worst {
            Some(id) => self.rewrite(id, Some(id) == oldest),
            None => Ok(()),
        }
    }

    /// Copies what is of use to the end, then removes the segment. A crash in between
    /// leaves some records twice, which means the same as once.
    fn rewrite(&mut self, id: SegmentId, is_oldest: bool) -> io::Result<()> {
        let bytes = fs::read(self.path(id))?;
        let mut gaps = BTreeSet::new();
        for (record, at, len) in frame::scan(&bytes).records {
            let small = |n: usize| u32::try_from(n).map_err(io::Error::other);
            let old = Place { segment: id, at: small(at)?, len: small(len)? };
            match record {
                Record::Piece(piece) if piece.gap => {
                    // All that is known to be left out there, once.
                    let (key, gap) = {
                        let index = self.shared.index();
                        let key = key_of(&piece);
                        let log = index.logs.get(&key);
                        let gaps = log.map(|log| log.gaps.clone()).unwrap_or_default();
                        let found = gaps.iter().find(|gap| gap.contains(&piece.offset));
                        (key, found)
                    };
                    let Some(gap) = gap else { continue };
                    if gaps.insert((key, gap.start)) {
                        let (offset, len) = (gap.start, gap.end - gap.start);
                        let whole = pb::Piece { offset, len, ..piece };
                        let place = self.try_append(&Record::Piece(whole))?;
                        self.shared.index().add_gap(key, gap.start, gap.end, place);
                    }
                }
                Record::Piece(piece) => {
                    let (key, from) = (key_of(&piece), piece.offset);
                    let to = from.saturating_add(piece.len);
                    if self.shared.index().uses(key, from, to, old) {
                        let new = self.try_append(&Record::Piece(piece))?;
                        self.shared.index().move_to(key, from, to, old, new);
                    }
                }
                Record::Content(content) => self.copy_content(content, old)?,
                Record::Gone(run) => {
                    let run = RunId(run);
                    let forgotten = self.shared.index().gone.get(&run).copied();
                    // What it makes gone is in older segments, or in none.
                    if is_oldest && forgotten == Some(true) {
                        self.shared.index().gone.remove(&run);
                    } else if forgotten.is_some() {
                        self.try_append(&Record::Gone(run.0))?;
                    }
                }
            }
        }
        self.try_sync()?;
        fs::remove_file(self.path(id))?;
        File::open(&self.shared.dir)?.sync_all()?;
        self.shared.files().remove(&id);
        self.shared.index().segments.remove(&id);
        Ok(())
    }
}

/// What is left of `span` since `since`.
fn left(since: Option<Instant>, span: Duration) -> Duration {
    since.map_or(Duration::ZERO, |since| (since + span).saturating_duration_since(Instant::now()))
}
