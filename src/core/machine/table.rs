//! One table of records: a persistent ordered map with an incremental hash.
//!
//! A clone shares everything and is the view a snapshot is written from while
//! the original moves on. Every record is hashed once, when it is put; the
//! table's hash is the wrapping sum of those hashes, so that removing one needs
//! no encoding and the order of writes does not matter. Tables know nothing of
//! what they hold: rules between records live in [`super::apply`].

use std::ops::RangeBounds;
use std::sync::Arc;

use imbl::OrdMap;
use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// Changes every hash, should the way of hashing ever change.
const SEED: u64 = 0x484f_5241_4931;

/// Hash of one encoded record of the table with that tag.
pub(super) fn record_hash<T: Serialize>(tag: u8, record: &T) -> u128 {
    let mut bytes = Vec::with_capacity(256);
    bytes.push(tag);
    xxh3_128_with_seed(&encode_onto(bytes, record), SEED)
}

/// Postcard behind what `bytes` holds already.
pub(super) fn encode_onto<T: Serialize>(bytes: Vec<u8>, record: &T) -> Vec<u8> {
    postcard::to_extend(record, bytes)
        .expect("our records are plain data, and a vector takes every byte")
}

/// A record with its hash.
#[derive(Debug)]
struct Row<V> {
    hash: u128,
    value: Arc<V>,
}

/// By hand: a derived one would ask for `V: Clone`, and rows share their values.
impl<V> Clone for Row<V> {
    fn clone(&self) -> Self {
        Self { hash: self.hash, value: Arc::clone(&self.value) }
    }
}

/// Records of one kind, in the order of their keys.
#[derive(Debug, Clone)]
pub(super) struct Table<K: Ord, V> {
    tag: u8,
    rows: OrdMap<K, Row<V>>,
    sum: u128,
}

impl<K, V> Table<K, V>
where
    K: Ord + Clone + Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    /// An empty table; the tag is its own in the whole state.
    pub(super) fn new(tag: u8) -> Self {
        Self { tag, rows: OrdMap::new(), sum: 0 }
    }

    /// The table's tag.
    pub(super) fn tag(&self) -> u8 {
        self.tag
    }

    /// How many records it holds.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The record of that key.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key).map(|row| row.value.as_ref())
    }

    /// The record of that key, to be held while the table changes.
    pub(super) fn shared(&self, key: &K) -> Option<Arc<V>> {
        self.rows.get(key).map(|row| Arc::clone(&row.value))
    }

    /// True if there is such a record.
    pub(super) fn contains(&self, key: &K) -> bool {
        self.rows.contains_key(key)
    }

    /// Writes a record over the one there was.
    pub(super) fn put(&mut self, key: K, value: V) {
        let hash = record_hash(self.tag, &(&key, &value));
        let row = Row { hash, value: Arc::new(value) };
        if let Some(old) = self.rows.insert(key, row) {
            self.sum = self.sum.wrapping_sub(old.hash);
        }
        self.sum = self.sum.wrapping_add(hash);
    }

    /// Removes a record.
    pub(super) fn remove(&mut self, key: &K) -> Option<Arc<V>> {
        let old = self.rows.remove(key)?;
        self.sum = self.sum.wrapping_sub(old.hash);
        Some(old.value)
    }

    /// All records, ascending.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.iter().map(|(key, row)| (key, row.value.as_ref()))
    }

    /// The records of a range of keys, ascending.
    pub(super) fn range<R: RangeBounds<K>>(
        &self,
        range: R,
    ) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.range(range).map(|(key, row)| (key, row.value.as_ref()))
    }

    /// The hash, as kept along the way.
    pub(super) fn sum(&self) -> u128 {
        self.sum
    }

    /// The hash, computed from all records again.
    pub(super) fn recompute(&self) -> u128 {
        self.iter().fold(0, |sum, record| sum.wrapping_add(record_hash(self.tag, &record)))
    }

    /// Each record in the form that [`Self::put_encoded`] reads.
    pub(super) fn encoded(&self) -> impl Iterator<Item = Vec<u8>> {
        self.iter().map(|record| encode_onto(Vec::new(), &record))
    }

    /// Writes a record that [`Self::encoded`] gave.
    pub(super) fn put_encoded(&mut self, bytes: &[u8]) -> Result<(), postcard::Error> {
        let (key, value) = postcard::from_bytes(bytes)?;
        self.put(key, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_follows_the_content_and_not_the_way_there() {
        let mut one: Table<u64, String> = Table::new(1);
        let mut two = Table::new(1);
        for key in 0..50 {
            one.put(key, format!("v{key}"));
            two.put(49 - key, "to be overwritten".to_owned());
        }
        for key in (0..50).rev() {
            two.put(key, format!("v{key}"));
        }
        two.put(99, "to be removed".to_owned());
        two.remove(&99);
        assert_eq!(one.sum(), two.sum());
        assert_eq!(one.sum(), one.recompute());
        let view = one.clone();
        one.put(3, "other".to_owned());
        assert_ne!(one.sum(), view.sum());
        assert_eq!(view.get(&3).unwrap(), "v3");
        let other_tag: Table<u64, String> = view.iter().fold(Table::new(2), |mut t, (k, v)| {
            t.put(*k, v.clone());
            t
        });
        assert_ne!(other_tag.sum(), view.sum(), "the tag keys the hash");
    }
}
