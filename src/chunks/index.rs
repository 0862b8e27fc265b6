//! What is where: plain data that follows from the records, in whatever order they are
//! applied.

use std::collections::BTreeMap;

use horai_core::ids::{AttemptKey, RunId};
use horai_core::model::file::Digest;

use super::contents::Kept;
use super::ranges::Ranges;

/// Numbers segments; a later one is newer.
pub(super) type SegmentId = u32;

/// Counted for each record beside its bytes, so that many small ones weigh something.
pub(super) const RECORD_WEIGHT: u64 = 64;

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: SegmentId,
    pub(super) at: u32,
    pub(super) len: u32,
}

/// A stretch whose bytes are in one record, which may hold more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) place: Place,
}

impl Stretch {
    fn weight(&self) -> u64 {
        self.to - self.from + RECORD_WEIGHT
    }
}

/// One attempt's output.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Ascending, without overlaps, and outside of `gaps`.
    stretches: Vec<Stretch>,
    /// Left out for good.
    pub(super) gaps: Ranges,
    /// Bytes and gaps that were written.
    pub(super) known: Ranges,
    /// Of those, what is on the disk for sure.
    pub(super) held: Ranges,
}

impl Log {
    /// The stretch that holds `at`, or the first one behind it.
    pub(super) fn stretch(&self, at: u64) -> Option<Stretch> {
        self.stretches.get(self.stretches.partition_point(|s| s.to <= at)).copied()
    }
}

/// How much of a segment is of use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Segment {
    /// Length of the file.
    pub(super) size: u64,
    /// Weight of all records that came into it, and of those that are of use.
    pub(super) weight: u64,
    pub(super) live: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) logs: BTreeMap<AttemptKey, Log>,
    /// Runs that nothing is kept of; true if nobody will ask for them any more.
    pub(super) gone: BTreeMap<RunId, bool>,
    pub(super) segments: BTreeMap<SegmentId, Segment>,
    pub(super) contents: BTreeMap<Digest, Kept>,
    /// Counted up whenever somebody relies on a content.
    pub(super) touches: u64,
}

impl Index {
    /// Everything of a run that is not its attempts' keys.
    pub(super) fn of_run(&self, run: RunId) -> impl Iterator<Item = (&AttemptKey, &Log)> {
        let first = AttemptKey { run, shard: 0, number: 0 };
        let last = AttemptKey { run, shard: u32::MAX, number: u32::MAX };
        self.logs.range(first..=last)
    }

    pub(super) fn is_gone(&self, run: RunId) -> bool {
        self.gone.contains_key(&run)
    }

    /// What of a stretch is not known yet.
    pub(super) fn missing(&self, key: AttemptKey, from: u64, to: u64) -> Ranges {
        match self.logs.get(&key) {
            _ if self.is_gone(key.run) => Ranges::default(),
            Some(log) => log.known.missing_in(from, to),
            None => Ranges::of(from, to),
        }
    }

    /// A record with bytes was written; what was known before is left as it is.
    pub(super) fn add(&mut self, key: AttemptKey, from: u64, to: u64, place: Place) {
        let whole = Stretch { from, to, place };
        self.segment(place.segment).weight += whole.weight();
        let missing = self.missing(key, from, to);
        if missing.is_empty() {
            return;
        }
        let log = self.logs.entry(key).or_default();
        let mut live = 0;
        for range in missing.iter() {
            let stretch = Stretch { from: range.start, to: range.end, place };
            let at = log.stretches.partition_point(|s| s.from < stretch.from);
            log.stretches.insert(at, stretch);
            live += stretch.weight();
        }
        log.known.insert(from, to);
        self.segment(place.segment).live += live;
    }

    /// A gap was written: bytes in it are of no use any more.
    pub(super) fn add_gap(&mut self, key: AttemptKey, from: u64, to: u64, place: Place) {
        let segment = self.segment(place.segment);
        segment.weight += RECORD_WEIGHT;
        segment.live += RECORD_WEIGHT;
        if self.is_gone(key.run) {
            return;
        }
        let log = self.logs.entry(key).or_default();
        log.gaps.insert(from, to);
        log.known.insert(from, to);
        let (mut freed, mut left) = (Vec::new(), Vec::new());
        let mut stretches = Vec::with_capacity(log.stretches.len());
        for stretch in log.stretches.drain(..) {
            if stretch.to <= from || to <= stretch.from {
                stretches.push(stretch);
                continue;
            }
            freed.push((stretch.place.segment, stretch.weight()));
            for (begin, end) in [(stretch.from, from), (to, stretch.to)] {
                if begin < end {
                    let part = Stretch { from: begin, to: end, ..stretch };
                    left.push((part.place.segment, part.weight()));
                    stretches.push(part);
                }
            }
        }
        log.stretches = stretches;
        self.free(freed);
        for (segment, weight) in left {
            self.segment(segment).live += weight;
        }
    }

    pub(super) fn free(&mut self, freed: Vec<(SegmentId, u64)>) {
        for (segment, weight) in freed {
            let segment = self.segment(segment);
            segment.live = segment.live.saturating_sub(weight);
        }
    }

    /// Nothing of a run is of use any more.
    pub(super) fn drop_run(&mut self, run: RunId) {
        self.gone.entry(run).or_default();
        let keys: Vec<AttemptKey> = self.of_run(run).map(|(key, _)| *key).collect();
        for key in keys {
            let Some(log) = self.logs.remove(&key) else { continue };
            self.free(log.stretches.iter().map(|s| (s.place.segment, s.weight())).collect());
        }
    }

    /// A record cannot be read: what it held is not known any more.
    pub(super) fn lose(&mut self, key: AttemptKey, place: Place) {
        let Some(log) = self.logs.get_mut(&key) else { return };
        let lost: Vec<Stretch> =
            log.stretches.extract_if(.., |stretch| stretch.place == place).collect();
        for stretch in &lost {
            log.known.remove(stretch.from, stretch.to);
            log.held.remove(stretch.from, stretch.to);
        }
        self.free(lost.iter().map(|s| (s.place.segment, s.weight())).collect());
    }

    /// Whether a record is of use.
    pub(super) fn uses(&self, key: AttemptKey, from: u64, to: u64, place: Place) -> bool {
        let Some(log) = self.logs.get(&key) else { return false };
        let first = log.stretches.partition_point(|s| s.to <= from);
        log.stretches[first..].iter().take_while(|s| s.from < to).any(|s| s.place == place)
    }

    /// A record was copied.
    pub(super) fn move_to(&mut self, key: AttemptKey, from: u64, to: u64, old: Place, new: Place) {
        let Some(log) = self.logs.get_mut(&key) else { return };
        let first = log.stretches.partition_point(|s| s.to <= from);
        let mut moved = 0;
        for stretch in log.stretches[first..].iter_mut().take_while(|s| s.from < to) {
            if stretch.place == old {
                stretch.place = new;
                moved += stretch.weight();
            }
        }
        let segment = self.segment(new.segment);
        segment.weight += moved;
        segment.live += moved;
        self.free(vec![(old.segment, moved)]);
    }

    pub(super) fn segment(&mut self, id: SegmentId) -> &mut Segment {
        self.segments.entry(id).or_default()
    }

    /// Of these bytes, about how many are of use.
    pub(super) fn useful(&self) -> u64 {
        let useful = |segment: &Segment| {
            let Segment { size, weight, live } = *segment;
            let share = u128::from(size) * u128::from(live) / u128::from(weight.max(1));
            u64::try_from(share).unwrap_or(size)
        };
        self.segments.values().map(useful).sum()
    }

    /// Bytes of all files.
    pub(super) fn size(&self) -> u64 {
        self.segments.values().map(|segment| segment.size).sum()
    }
}
