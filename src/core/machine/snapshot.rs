//! The whole state as a list of short records, and back.
//!
//! Each record is version byte, tag, "more follows" flag and bytes; what is
//! longer than a part is cut. The last one carries counts and hash, so that a
//! list that lacks anything is refused. The index is not stored but rebuilt.

use std::iter::once;

use serde::{Deserialize, Serialize};

use super::state::{Limits, META_TAG, Meta, State, each_table};
use super::table::encode_onto;

/// Version of the records.
const VERSION: u8 = 1;
/// The last record.
const TRAILER_TAG: u8 = 255;
/// Bytes of one part, so that a record stays below 300 KiB.
const PART: usize = 256 * 1024;
/// Bytes before a part.
const HEADER: usize = 3;

/// What must come out again.
#[derive(Debug, Serialize, Deserialize)]
struct Trailer {
    records: u64,
    hash: u128,
}

/// Why records are not a state.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Written by a newer program.
    #[error("snapshot of version {0}, this program knows {VERSION}: upgrade this node")]
    Newer(u8),
    /// Something that no snapshot holds.
    #[error("snapshot record {0} has an unknown form: fetch the snapshot again")]
    Unknown(u64),
    /// Damaged.
    #[error("snapshot record {record} is damaged: fetch the snapshot again")]
    Damaged {
        /// Which one, from 0.
        record: u64,
        /// How it was noticed.
        source: postcard::Error,
    },
    /// The last record is missing.
    #[error("the snapshot ends after {0} records, before its trailer: fetch it again")]
    Cut(u64),
    /// Records are missing.
    #[error("the snapshot has {actual} records, its trailer says {expected}: fetch it again")]
    Count {
        /// As the trailer says.
        expected: u64,
        /// As they came.
        actual: u64,
    },
    /// Another state came out than went in.
    #[error("the restored state has hash {actual:032x}, the snapshot says {expected:032x}")]
    Hash {
        /// As the trailer says.
        expected: u128,
        /// As computed.
        actual: u128,
    },
}

/// The state's records, in order.
pub fn records(state: &State) -> impl Iterator<Item = Vec<u8>> + '_ {
    let count = {
        macro_rules! sum {
            ($($table:ident)*) => { 1 $(+ state.$table.len())* };
        }
        each_table!(sum) as u64
    };
    let meta = once((META_TAG, encode_onto(Vec::new(), &state.meta)));
    let trailer = Trailer { records: count, hash: state.hash() };
    let trailer = once((TRAILER_TAG, encode_onto(Vec::new(), &trailer)));
    macro_rules! chain {
        ($($table:ident)*) => {
            meta $(.chain(state.$table.encoded().map(|row| (state.$table.tag(), row))))*
        };
    }
    each_table!(chain).chain(trailer).flat_map(|(tag, row)| parts(tag, row))
}

fn parts(tag: u8, row: Vec<u8>) -> impl Iterator<Item = Vec<u8>> {
    let last = row.len().saturating_sub(1) / PART;
    (0..=last).map(move |n| {
        let part = &row[n * PART..row.len().min((n + 1) * PART)];
        let mut record = Vec::with_capacity(HEADER + part.len());
        record.extend([VERSION, tag, u8::from(n < last)]);
        record.extend_from_slice(part);
        record
    })
}

/// Takes records up, one by one.
#[derive(Debug)]
pub struct Restore {
    state: State,
    open: Vec<u8>,
    records: u64,
    trailer: Option<Trailer>,
}

impl Default for Restore {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Restore {
    /// Nothing yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { state: State::new(limits), open: Vec::new(), records: 0, trailer: None }
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// [`RestoreError`] if it cannot be read; the restore is then of no use.
    pub fn push(&mut self, record: &[u8]) -> Result<(), RestoreError> {
        let [version, tag, more, part @ ..] = record else {
            return Err(RestoreError::Unknown(self.records));
        };
        if *version != VERSION {
            return Err(RestoreError::Newer(*version));
        }
        self.open.extend_from_slice(part);
        if *more != 0 {
            return Ok(());
        }
        let row = std::mem::take(&mut self.open);
        let number = self.records;
        let damaged = |source| RestoreError::Damaged { record: number, source };
        if *tag == TRAILER_TAG {
            self.trailer = Some(postcard::from_bytes(&row).map_err(damaged)?);
            return Ok(());
        }
        self.records += 1;
        if *tag == META_TAG {
            self.state.meta = postcard::from_bytes::<Meta>(&row).map_err(damaged)?;
            return Ok(());
        }
        macro_rules! put {
            ($($table:ident)*) => {
                $(if *tag == self.state.$table.tag() {
                    return self.state.$table.put_encoded(&row).map_err(damaged);
                })*
            };
        }
        each_table!(put);
        Err(RestoreError::Unknown(number))
    }

    /// The state, once every record was taken.
    ///
    /// # Errors
    /// [`RestoreError`] if something is missing or another state came out.
    pub fn finish(mut self) -> Result<State, RestoreError> {
        let trailer = self.trailer.ok_or(RestoreError::Cut(self.records))?;
        if trailer.records != self.records {
            let (expected, actual) = (trailer.records, self.records);
            return Err(RestoreError::Count { expected, actual });
        }
        // Every hash was computed anew as its record was put.
        let actual = self.state.hash();
        if actual != trailer.hash {
            return Err(RestoreError::Hash { expected: trailer.hash, actual });
        }
        self.state.index = self.state.rebuilt_index();
        Ok(self.state)
    }
}
