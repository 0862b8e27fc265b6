//! What clients asked and what came of it: the rows of `history.jsonl`.
//!
//! A row is written before a request is sent (`invoke`) and after its outcome is
//! known (`ok`, `fail`) or certainly unknown (`info`). `fail` means that it did
//! certainly not happen. All times come from one monotonic clock of this machine,
//! so that rows of different clients and lines of different witnesses can be put
//! in order; the wall clock is written beside it, because fires are promised in it.
//! This file judges nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::store::write_row;
use crate::time::Stamp;

/// What a row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// About to be asked.
    Invoke,
    /// It happened.
    Ok,
    /// It certainly did not happen.
    Fail,
    /// Nobody knows.
    Info,
}

/// One line of the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Counts the rows.
    pub(crate) i: u64,
    /// Monotonic nanoseconds.
    pub(crate) t: u64,
    /// Wall clock milliseconds.
    pub(crate) utc: i64,
    /// Which logical process: it never has two requests open, and ends with an `info`.
    pub(crate) p: u32,
    /// What the row says.
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    /// Which operation.
    pub(crate) f: String,
    /// On what.
    pub(crate) k: String,
    /// Argument or result.
    #[serde(default)]
    pub(crate) v: Value,
    /// The node asked.
    #[serde(default)]
    pub(crate) node: String,
    /// Why it is not `ok`.
    #[serde(default)]
    pub(crate) err: Option<String>,
    /// The revision the answer named.
    #[serde(default)]
    pub(crate) ver: Option<u64>,
    /// The phase of the test.
    #[serde(default)]
    pub(crate) phase: String,
}

/// What is about to be asked.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// Who.
    pub(crate) p: u32,
    /// Which operation.
    pub(crate) f: &'static str,
    /// On what.
    pub(crate) k: String,
    /// Argument.
    pub(crate) v: Value,
    /// The node asked.
    pub(crate) node: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Came {
    /// `Ok`, `Fail` or `Info`.
    pub(crate) kind: Kind,
    /// The result.
    pub(crate) v: Value,
    /// The revision the answer named.
    pub(crate) ver: Option<u64>,
    /// Why it is not `Ok`.
    pub(crate) err: Option<String>,
}

impl Came {
    /// It happened, with this result.
    pub(crate) fn ok(v: Value) -> Self {
        Self { kind: Kind::Ok, v, ver: None, err: None }
    }

    /// It certainly did not happen.
    pub(crate) fn fail(why: String) -> Self {
        Self { kind: Kind::Fail, v: Value::Null, ver: None, err: Some(why) }
    }

    /// Nobody knows whether it happened.
    pub(crate) fn info(why: String) -> Self {
        Self { kind: Kind::Info, v: Value::Null, ver: None, err: Some(why) }
    }
}

/// Writes the history. Shared by all clients; a row is one write.
pub(crate) struct Writer {
    file: Mutex<File>,
    next: AtomicU64,
    process: AtomicU32,
    phase: Mutex<String>,
}

impl Writer {
    /// Creates the file.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: Mutex::new(File::create(path)?),
            next: AtomicU64::new(0),
            process: AtomicU32::new(0),
            phase: Mutex::new("bootstrap".to_owned()),
        })
    }

    /// A process id that nobody had.
    pub(crate) fn process(&self) -> u32 {
        self.process.fetch_add(1, Ordering::Relaxed)
    }

    /// Rows written from now on belong to this phase.
    pub(crate) fn enter(&self, phase: &str) {
        phase.clone_into(&mut self.phase.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Writes that something is about to be asked; the answer is when.
    ///
    /// # Errors
    /// The file cannot be written: the run is worth nothing then.
    pub(crate) fn invoke(&self, ask: &Ask) -> io::Result<Stamp> {
        let came = Came { kind: Kind::Invoke, v: ask.v.clone(), ver: None, err: None };
        self.write(ask, came)
    }

    /// Writes what came of it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn complete(&self, ask: &Ask, came: Came) -> io::Result<Stamp> {
        self.write(ask, came)
    }

    fn write(&self, ask: &Ask, came: Came) -> io::Result<Stamp> {
        let phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Under the lock, so that numbers, times and lines have one order.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let at = Stamp::now();
        let row = Row {
            i: self.next.fetch_add(1, Ordering::Relaxed),
            t: at.t,
            utc: at.utc,
            p: ask.p,
            kind: came.kind,
            f: ask.f.to_owned(),
            k: ask.k.clone(),
            v: came.v,
            node: ask.node.clone(),
            err: came.err,
            ver: came.ver,
            phase,
        };
        write_row(&mut *file, &row)?;
        Ok(at)
    }
}

/// An operation: what was asked, and what came of it if that was ever known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Op {
    /// The `invoke` row.
    pub(crate) ask: Row,
    /// The completion; none if the harness ended before.
    pub(crate) end: Option<Row>,
}

impl Op {
    /// `Info` where nothing is known.
    pub(crate) fn kind(&self) -> Kind {
        self.end.as_ref().map_or(Kind::Info, |end| end.kind)
    }

    /// True if it happened.
    pub(crate) fn is_ok(&self) -> bool {
        self.kind() == Kind::Ok
    }

    /// When its outcome was known; never, for `info`.
    pub(crate) fn known_at(&self) -> u64 {
        match (&self.end, self.kind()) {
            (Some(end), Kind::Ok | Kind::Fail) => end.t,
            _ => u64::MAX,
        }
    }

    /// The same on the wall clock.
    pub(crate) fn known_utc(&self) -> i64 {
        match (&self.end, self.kind()) {
            (Some(end), Kind::Ok | Kind::Fail) => end.utc,
            _ => i64::MAX,
        }
    }

    /// The result, null if there is none.
    pub(crate) fn result(&self) -> &Value {
        self.end.as_ref().map_or(&Value::Null, |end| &end.v)
    }
}

/// Rows that cannot come from a sound harness.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PairError {
    /// A process asked while its last request was open.
    #[error("row {0}: process {1} asks again before its last answer")]
    Overlap(u64, u32),
    /// An answer to nothing.
    #[error("row {0}: process {1} completes what it did not ask")]
    Stray(u64, u32),
}

/// Pairs the rows.
///
/// # Errors
/// [`PairError`]: the history cannot be judged.
pub(crate) fn pair(rows: &[Row]) -> Result<Vec<Op>, PairError> {
    let mut ops: Vec<Op> = Vec::new();
    let mut open: BTreeMap<u32, usize> = BTreeMap::new();
    for row in rows {
        match row.kind {
            Kind::Invoke => {
                if open.insert(row.p, ops.len()).is_some() {
                    return Err(PairError::Overlap(row.i, row.p));
                }
                ops.push(Op { ask: row.clone(), end: None });
            }
            Kind::Ok | Kind::Fail | Kind::Info => {
                let at = open.remove(&row.p).ok_or(PairError::Stray(row.i, row.p))?;
                ops[at].end = Some(row.clone());
            }
        }
    }
    Ok(ops)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_paired() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        let writer = Writer::create(&path).unwrap();
        let ask =
            |p, k: &str| Ask { p, f: "add", k: k.to_owned(), v: json!(1), node: "n1".to_owned() };
        let (a, b) = (ask(writer.process(), "a"), ask(writer.process(), "b"));
        let first = writer.invoke(&a).unwrap();
        writer.invoke(&b).unwrap();
        writer.enter("main");
        writer.complete(&b, Came::info("late".into())).unwrap();
        let last = writer.complete(&a, Came::ok(json!([1, 2]))).unwrap();
        assert!(last.t > first.t && last.utc >= first.utc);
        let rows = crate::store::read_rows::<Row>(&path).unwrap();
        let ops = pair(&rows.rows).unwrap();
        assert_eq!(ops.len(), 2);
        assert_eq!((ops[0].ask.k.as_str(), ops[0].kind()), ("a", Kind::Ok));
        assert_eq!(ops[0].result(), &json!([1, 2]));
        assert_eq!((ops[1].kind(), ops[1].known_at()), (Kind::Info, u64::MAX));
        assert_eq!(ops[1].end.as_ref().unwrap().phase, "main");
    }

    #[test]
    fn rows_that_no_sound_harness_writes_are_refused() {
        let row = |i, kind| Row {
            i,
            t: i,
            utc: 0,
            p: 4,
            kind,
            f: "add".to_owned(),
            k: String::new(),
            v: Value::Null,
            node: String::new(),
            err: None,
            ver: None,
            phase: String::new(),
        };
        let twice = [row(0, Kind::Invoke), row(1, Kind::Invoke)];
        assert_eq!(pair(&twice), Err(PairError::Overlap(1, 4)));
        assert_eq!(pair(&[row(0, Kind::Ok)]), Err(PairError::Stray(0, 4)));
        let open = [row(0, Kind::Invoke)];
        assert_eq!(pair(&open).unwrap()[0].kind(), Kind::Info);
    }
}
