//! What a disk with a cache of its own has written for good, and what it has not.
//!
//! A write is acknowledged as soon as the cache has it; only a flush brings it to the
//! platter, the image file. Until then a power cut may leave any sectors of it: later
//! ones without earlier ones, older versions of one that was written twice. It knows
//! nothing of how it is asked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// What is written as a whole or not at all.
const SECTOR: usize = 512;
/// Versions of a sector that the cache has; older ones are gone.
const VERSIONS: usize = 3;
/// Sectors that the cache holds (32 MiB): beyond it writes some out by itself.
const CACHE: usize = 64 << 10;

type Sector = [u8; SECTOR];

/// How much of what was not flushed a power cut leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tear {
    /// So many sectors in a hundred.
    pub(crate) keep: u8,
    /// Which ones is drawn from it.
    pub(crate) seed: u64,
}

impl Tear {
    /// Everything that reached the disk stays, as if it had no cache.
    pub(crate) const NOTHING: Self = Self { keep: 100, seed: 0 };
}

/// What a power cut did to sectors that were not flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Torn {
    /// Their newest version is there.
    pub(crate) kept: u64,
    /// An older version is there that was not flushed either.
    pub(crate) older: u64,
    /// They are as they were at the last flush.
    pub(crate) dropped: u64,
}

/// The disk.
#[derive(Debug)]
pub(super) struct Platter {
    image: File,
    cache: BTreeMap<u64, Vec<Sector>>,
    /// Says that it flushed, and did not: only to see that this is found.
    lies: bool,
}

impl Platter {
    pub(super) fn new(image: File) -> Self {
        Self { image, cache: BTreeMap::new(), lies: false }
    }

    pub(super) fn set_lies(&mut self, lies: bool) {
        self.lies = lies;
    }

    /// Whether something waits to be flushed.
    pub(super) fn is_dirty(&self) -> bool {
        !self.cache.is_empty()
    }

    /// Reads what was written last, flushed or not.
    pub(super) fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.image.read_exact_at(into, offset)?;
        for (place, at, range) in pieces(offset, into.len()) {
            if let Some(newest) = self.cache.get(&place).and_then(|all| all.last()) {
                let length = range.len();
                into[range].copy_from_slice(&newest[at..at + length]);
            }
        }
        Ok(())
    }

    /// Takes a write into the cache.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        for (place, at, range) in pieces(offset, bytes.len()) {
            let mut sector = [0; SECTOR];
            if range.len() < SECTOR {
                self.read(place * SECTOR as u64, &mut sector[..])?;
            }
            sector[at..at + range.len()].copy_from_slice(&bytes[range]);
            let versions = self.cache.entry(place).or_default();
            if versions.len() == VERSIONS {
                versions.remove(0);
            }
            versions.push(sector);
        }
        while self.cache.len() > CACHE && !self.lies {
            if let Some((place, versions)) = self.cache.pop_first() {
                self.put(place, &versions)?;
            }
        }
        Ok(())
    }

    /// Brings everything to the platter.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.lies {
            return Ok(());
        }
        let mut run = Vec::new();
        let mut next = None;
        for (place, versions) in std::mem::take(&mut self.cache) {
            if next != Some(place) {
                self.put_run(next, &mut run)?;
            }
            run.extend_from_slice(newest(&versions));
            next = Some(place + 1);
        }
        self.put_run(next, &mut run)
    }

    /// The power goes. Of what was not flushed a random part stays.
    pub(super) fn cut(&mut self, tear: Tear) -> io::Result<Torn> {
        let mut rng = ChaCha12Rng::seed_from_u64(tear.seed);
        let mut torn = Torn::default();
        for (place, versions) in std::mem::take(&mut self.cache) {
            // From the newest on: the first that made it to the platter is there.
            let made_it = |_: &usize| rng.random_range(0..100) < tear.keep;
            match (0..versions.len()).rev().find(made_it) {
                Some(version) => {
                    self.put(place, &versions[..=version])?;
                    let is_newest = version + 1 == versions.len();
                    *(if is_newest { &mut torn.kept } else { &mut torn.older }) += 1;
                }
                None => torn.dropped += 1,
            }
        }
        Ok(torn)
    }

    fn put(&self, place: u64, versions: &[Sector]) -> io::Result<()> {
        self.image.write_all_at(newest(versions), place * SECTOR as u64)
    }

    /// Writes neighbours at once; they end before `next`.
    fn put_run(&self, next: Option<u64>, run: &mut Vec<u8>) -> io::Result<()> {
        if let Some(next) = next {
            self.image.write_all_at(run, next * SECTOR as u64 - run.len() as u64)?;
        }
        run.clear();
        Ok(())
    }
}

fn newest(versions: &[Sector]) -> &Sector {
    versions.last().expect("a sector is in the cache because it was written")
}

/// The sectors of a stretch: which, from where in it, and which part of the stretch.
fn pieces(
    offset: u64,
    length: usize,
) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let here = offset + done as u64;
        let at = (here % SECTOR as u64) as usize;
        let part = done..length.min(done + SECTOR - at);
        done = part.end;
        Some((here / SECTOR as u64, at, part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTORS: usize = 64;

    fn platter() -> Platter {
        let image = tempfile::tempfile().unwrap();
        image.set_len((SECTORS * SECTOR) as u64).unwrap();
        Platter::new(image)
    }

    fn read(platter: &Platter, place: usize) -> u8 {
        let mut sector = [9; SECTOR];
        platter.read((place * SECTOR) as u64, &mut sector).unwrap();
        assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is torn in itself");
        sector[0]
    }

    fn fill(platter: &mut Platter, value: u8) {
        platter.write(0, &vec![value; SECTORS * SECTOR]).unwrap();
    }

    #[test]
    fn what_is_written_is_read_whole_and_in_part() {
        let mut platter = platter();
        platter.write(500, &[7; 1_000]).unwrap();
        let mut bytes = [1; 2_048];
        platter.read(0, &mut bytes).unwrap();
        let is_right = |(at, byte): (usize, &u8)| *byte == u8::from((500..1_500).contains(&at)) * 7;
        assert!(bytes.iter().enumerate().all(is_right));
        platter.flush().unwrap();
        assert!(platter.cache.is_empty());
        platter.write(512, &[8; 3]).unwrap();
        platter.read(510, &mut bytes[..6]).unwrap();
        assert_eq!(bytes[..6], [7, 7, 8, 8, 8, 7]);
        let beyond = (SECTORS * SECTOR) as u64;
        assert!(platter.read(beyond, &mut bytes).is_err());
    }

    #[test]
    fn what_was_flushed_outlives_a_cut_and_of_the_rest_a_part_does() {
        for (keep, most, least) in [(0, 0, 0), (100, SECTORS, SECTORS), (50, 50, 14)] {
            let mut platter = platter();
            fill(&mut platter, 1);
            platter.flush().unwrap();
            fill(&mut platter, 2);
            assert!(platter.is_dirty());
            let torn = platter.cut(Tear { keep, seed: 5 }).unwrap();
            assert_eq!((torn.kept + torn.dropped, torn.older), (SECTORS as u64, 0));
            assert!(!platter.is_dirty());
            let new = (0..SECTORS).filter(|place| read(&platter, *place) == 2).count();
            assert!((least..=most).contains(&new), "{new} at {keep} %");
            assert_eq!(new as u64, torn.kept);
            let old = (0..SECTORS).filter(|place| read(&platter, *place) == 1).count();
            assert_eq!(new + old, SECTORS, "nothing else may be there");
        }
    }

    #[test]
    fn the_same_seed_keeps_the_same_and_older_versions_may_be_left() {
        let left = |seed| {
            let mut platter = platter();
            (1..=5).for_each(|value| fill(&mut platter, value));
            let torn = platter.cut(Tear { keep: 40, seed }).unwrap();
            (torn, (0..SECTORS).map(|place| read(&platter, place)).collect::<Vec<_>>())
        };
        let (torn, values) = left(3);
        assert_eq!((torn, values.clone()), left(3));
        assert_ne!(values, left(4).1);
        assert!(torn.older > 0 && torn.kept > 0 && torn.dropped > 0, "{torn:?}");
        assert!(values.iter().all(|value| [0, 3, 4, 5].contains(value)), "{values:?}");
    }

    #[test]
    fn a_disk_that_lies_loses_what_it_said_it_flushed() {
        let mut platter = platter();
        fill(&mut platter, 1);
        platter.flush().unwrap();
        platter.set_lies(true);
        fill(&mut platter, 2);
        platter.flush().unwrap();
        platter.cut(Tear { keep: 0, seed: 1 }).unwrap();
        assert_eq!(read(&platter, 7), 1);
    }

    #[test]
    fn the_cache_is_bounded() {
        let mut platter = platter();
        platter.image.set_len(((CACHE + 10) * SECTOR) as u64).unwrap();
        platter.write(0, &vec![3; (CACHE + 10) * SECTOR]).unwrap();
        assert_eq!(platter.cache.len(), CACHE);
        platter.cut(Tear { keep: 0, seed: 1 }).unwrap();
        assert_eq!((read(&platter, 9), read(&platter, 10)), (3, 0));
    }
}
