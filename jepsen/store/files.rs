//! The folder of one test, as files.
//!
//! `test.json` (parameters), `options.json` and `schedule.json` (for a replay),
//! `history.jsonl` (clients), `witness/*.jsonl` and together `witness.jsonl` (jobs),
//! `nodes.jsonl` (polls of each node), `nemesis.jsonl` (faults as they happened),
//! `network.jsonl` (packets), `nodes/*/log`, `results.json`, `report.html`, and
//! `canary/`, whose lines nobody reads. A line that cannot be read is counted, never
//! skipped in silence: evidence that is damaged makes a run a failure of the harness.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Evidence, Fault, Line, Poll, TestInfo, bands, stalls};
use crate::history::{PairError, Row, pair};

/// Why a store cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// A file is missing or cannot be read.
    #[error("{} cannot be read", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not what it should be.
    #[error("{} is not what a test writes", path.display())]
    Form {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A line that is no row.
    #[error("the history is not whole: {0}")]
    Damaged(String),
    /// Nothing was asked.
    #[error("{} holds no history", .0.display())]
    Empty(PathBuf),
    /// A history that no sound harness writes.
    #[error("the history cannot be judged")]
    History(#[from] PairError),
}

/// Rows of a file and the lines that were none.
pub(crate) struct Rows<T> {
    /// In the order of the file.
    pub(crate) rows: Vec<T>,
    /// Number and text of each other line.
    pub(crate) damaged: Vec<String>,
    /// Of them, those that are right as far as they go.
    pub(crate) cut: Vec<String>,
}

impl<T> Rows<T> {
    /// Takes away the lines that were cut short, and says how many they were.
    fn forgive(&mut self) -> usize {
        self.damaged.retain(|line| !self.cut.contains(line));
        self.cut.len()
    }
}

/// Writes a row as one line, in one write: a reader never meets half of one.
///
/// # Errors
/// It cannot be written: the evidence is not whole then.
pub(crate) fn write_row(to: &mut impl Write, row: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(row)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// Reads JSON lines; a file that is not there has none.
///
/// # Errors
/// [`StoreError::Io`]
pub(crate) fn read_rows<T: DeserializeOwned>(path: &Path) -> Result<Rows<T>, StoreError> {
    let mut read = Rows { rows: Vec::new(), damaged: Vec::new(), cut: Vec::new() };
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(read),
        Err(source) => return Err(StoreError::Io { path: path.to_owned(), source }),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        match serde_json::from_slice(line) {
            Ok(row) => read.rows.push(row),
            Err(error) => {
                let shown: String = String::from_utf8_lossy(line).chars().take(120).collect();
                let told = format!("{name}:{}: {error}: {shown}", at + 1);
                if error.is_eof() {
                    read.cut.push(told.clone());
                }
                read.damaged.push(told);
            }
        }
    }
    Ok(read)
}

/// Writes the parameters of a test.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write_test(folder: &Path, test: &TestInfo) -> io::Result<()> {
    fs::write(folder.join("test.json"), serde_json::to_vec_pretty(test)?)
}

/// Puts what the workers' jobs wrote, a file for each worker, into one.
///
/// # Errors
/// Not all of it can be read, or the file not be written.
pub(crate) fn gather_witness(folder: &Path) -> io::Result<()> {
    let mut all = File::create(folder.join("witness.jsonl"))?;
    for entry in fs::read_dir(folder.join("witness"))? {
        let path = entry?.path();
        // Resources keep their tokens beside the lines.
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            all.write_all(&fs::read(path)?)?;
        }
    }
    Ok(())
}

/// What clients and the nemesis did, row by row.
///
/// # Errors
/// [`StoreError`]: there is none, or a line of it cannot be read.
pub(crate) fn history_rows(folder: &Path) -> Result<(Vec<Row>, Vec<Fault>), StoreError> {
    let history = read_rows::<Row>(&folder.join("history.jsonl"))?;
    let faults = read_rows::<Fault>(&folder.join("nemesis.jsonl"))?;
    match history.damaged.into_iter().chain(faults.damaged).next() {
        Some(line) => Err(StoreError::Damaged(line)),
        None if history.rows.is_empty() => Err(StoreError::Empty(folder.to_owned())),
        None => Ok((history.rows, faults.rows)),
    }
}

/// Loads a store.
///
/// # Errors
/// [`StoreError`]: it cannot be judged at all.
pub(crate) fn load(folder: &Path) -> Result<Evidence, StoreError> {
    let path = folder.join("test.json");
    let text = fs::read(&path).map_err(|source| StoreError::Io { path: path.clone(), source })?;
    let mut test: TestInfo =
        serde_json::from_slice(&text).map_err(|source| StoreError::Form { path, source })?;
    let history = read_rows::<Row>(&folder.join("history.jsonl"))?;
    let mut witness = read_rows::<Line>(&folder.join("witness.jsonl"))?;
    // Jobs are killed while they write.
    let cut = witness.forgive();
    let polls = read_rows::<Poll>(&folder.join("nodes.jsonl"))?;
    let faults = read_rows::<Fault>(&folder.join("nemesis.jsonl"))?;
    let mut lines = witness.rows;
    lines.sort_by_key(|line| line.t);
    let damaged = [history.damaged, witness.damaged, polls.damaged, faults.damaged].concat();
    let bands = bands(&faults.rows);
    let stalls = stalls::find(&lines, &bands);
    if test.judges_times() {
        test.busy = stalls::verdict(&stalls);
    }
    Ok(Evidence {
        test,
        stalls,
        ops: pair(&history.rows)?,
        witness: lines,
        polls: polls.rows,
        bands,
        faults: faults.rows,
        logs: read_logs(&folder.join("nodes"))?,
        damaged,
        cut,
        felt: OnceLock::new(),
    })
}

/// `nodes/NAME/log` by name; a server that never started has none. Bytes that are no
/// text are shown as such.
fn read_logs(folder: &Path) -> Result<BTreeMap<String, String>, StoreError> {
    let wrong = |path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Io { path, source }
    };
    let mut logs = BTreeMap::new();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(logs),
        entries => entries.map_err(wrong(folder))?,
    };
    for entry in entries {
        let entry = entry.map_err(wrong(folder))?;
        let path = entry.path().join("log");
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => {
                let name = entry.file_name().to_string_lossy().into_owned();
                let bytes = read.map_err(wrong(&path))?;
                logs.insert(name, String::from_utf8_lossy(&bytes).into_owned());
            }
        }
    }
    Ok(logs)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn torn_lines_are_counted_and_forms_of_numbers_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("witness.jsonl");
        let good = json!({"e": "end", "t": 5, "attempt": "r-17.2", "token": "9", "exit": 0});
        fs::write(&path, format!("{good}\n{{\"e\":\"sta\n")).unwrap();
        let read = read_rows::<Line>(&path).unwrap();
        assert_eq!((read.rows.len(), read.damaged.len()), (1, 1));
        assert_eq!((read.rows[0].attempt, read.rows[0].token), (2, 9));
        assert!(read.damaged[0].starts_with("witness.jsonl:2"), "{:?}", read.damaged);
        // A job that is killed in a write leaves the begin of a line; nothing else is forgiven.
        fs::write(&path, format!("{good}\n{{\"e\":\"sta\n{good}\nsta\n")).unwrap();
        let mut read = read_rows::<Line>(&path).unwrap();
        assert_eq!((read.rows.len(), read.forgive(), read.damaged.len()), (2, 1, 1));
    }

    #[test]
    fn a_store_without_parameters_cannot_be_judged() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(load(folder.path()), Err(StoreError::Io { .. })));
        fs::write(folder.path().join("test.json"), "{}").unwrap();
        assert_eq!(load(folder.path()).unwrap().test, TestInfo::default());
    }

    #[test]
    fn lines_of_all_workers_are_gathered_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        assert!(gather_witness(folder.path()).is_err());
        let witness = folder.path().join("witness");
        fs::create_dir(&witness).unwrap();
        for (name, text) in [("w1.jsonl", "{}\n"), ("w2.jsonl", "{}\n"), ("token", "12")] {
            fs::write(witness.join(name), text).unwrap();
        }
        gather_witness(folder.path()).unwrap();
        let all = fs::read_to_string(folder.path().join("witness.jsonl")).unwrap();
        assert_eq!(all, "{}\n{}\n");
    }

    #[test]
    fn logs_are_read_whole_or_the_store_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read_logs(&folder.path().join("nodes")).unwrap().is_empty());
        for name in ["n1", "w1"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("n1/log"), "up\n").unwrap();
        let logs = read_logs(folder.path()).unwrap();
        assert_eq!(logs, BTreeMap::from([("n1".to_owned(), "up\n".to_owned())]));
        fs::create_dir(folder.path().join("w1/log")).unwrap();
        assert!(matches!(read_logs(folder.path()), Err(StoreError::Io { .. })));
    }
}
