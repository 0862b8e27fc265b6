//! What happened, as one number and, if asked for, as text.
//!
//! Two runs of one seed must give the same number: everything that can differ
//! between them shows here sooner or later, because every packet is noted with the
//! sum of its bytes.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::xxh3_64_with_seed;

#[derive(Default)]
struct Inner {
    sum: u64,
    lines: u64,
    line: String,
    file: Option<BufWriter<File>>,
    recent: std::collections::VecDeque<String>,
}

/// Lines kept for the report of a failure.
const RECENT: usize = 60;

/// The trace; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Trace(Arc<Mutex<Inner>>);

impl Trace {
    /// One that is also written to `file`.
    pub(crate) fn to_file(file: &Path) -> io::Result<Self> {
        let file = Some(BufWriter::new(File::create(file)?));
        Ok(Self(Arc::new(Mutex::new(Inner { file, ..Inner::default() }))))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line.
    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        let inner = &mut *self.lock();
        inner.line.clear();
        // Writing to a string cannot fail.
        let _ = inner.line.write_fmt(what);
        inner.sum = xxh3_64_with_seed(inner.line.as_bytes(), inner.sum);
        inner.lines += 1;
        if let Some(file) = &mut inner.file {
            // A trace that cannot be written is seen to be short.
            let _ = writeln!(file, "{}", inner.line);
        }
    }

    /// Adds a line that a person wants to see when a run fails.
    pub(crate) fn event(&self, what: fmt::Arguments<'_>) {
        self.note(what);
        let inner = &mut *self.lock();
        if inner.recent.len() == RECENT {
            inner.recent.pop_front();
        }
        inner.recent.push_back(inner.line.clone());
    }

    /// The last events.
    pub(crate) fn recent(&self) -> Vec<String> {
        self.lock().recent.iter().cloned().collect()
    }

    /// The sum of all lines and how many there are.
    pub(crate) fn sum(&self) -> (u64, u64) {
        let inner = &mut *self.lock();
        if let Some(file) = &mut inner.file {
            let _ = file.flush();
        }
        (inner.sum, inner.lines)
    }
}
