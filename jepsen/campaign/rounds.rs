//! The rounds of a campaign, one line each in `campaign.jsonl`: read, appended, mended
//! after a stop half way, and replaced as a whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::check::Verdict;
use crate::error::Failure;
use crate::store::{read_rows, write_row};

/// One line a round.
pub(super) const ROUNDS: &str = "campaign.jsonl";

/// What came of one round.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Round {
    /// When it ended, RFC 3339.
    pub(super) at: String,
    pub(super) goal: String,
    /// Which source the program was built from.
    pub(super) source: String,
    pub(super) commit: String,
    pub(super) version: String,
    pub(super) seed: u64,
    pub(super) seconds: u64,
    pub(super) verdict: Verdict,
    /// The verdict is of later checkers than the round's own.
    #[serde(default)]
    pub(super) judged_again: bool,
    /// The folder of its evidence, below the store.
    pub(super) folder: String,
    /// Faults that were there, by kind.
    pub(super) installed: BTreeMap<String, u64>,
    /// `checker: count` as the checkers have it.
    pub(super) counts: BTreeMap<String, i64>,
    /// Milliseconds from a fault of that kind to the next acknowledged write.
    pub(super) write_after_ms: BTreeMap<String, Vec<u64>>,
    /// Milliseconds from a fault of that kind to the next start of a job.
    pub(super) start_after_ms: BTreeMap<String, Vec<u64>>,
    pub(super) rerun: String,
}

/// Takes a last line away that was not written whole.
pub(super) fn mend(store: &Path) -> Result<(), Failure> {
    let file = store.join(ROUNDS);
    let text = match fs::read(&file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        read => read?,
    };
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if whole < text.len() {
        File::options().write(true).open(file)?.set_len(whole as u64)?;
    }
    Ok(())
}

/// All rounds of a store.
pub(super) fn rounds(store: &Path) -> Result<Vec<Round>, Failure> {
    let read = read_rows::<Round>(&store.join(ROUNDS))?;
    match read.damaged.first() {
        None => Ok(read.rows),
        Some(line) => Err(format!("{} holds a line that is no round: {line}", ROUNDS).into()),
    }
}

/// Appends a row, which is there for good when this returns.
pub(super) fn append(store: &Path, round: &Round) -> Result<(), Failure> {
    let mut file = File::options().create(true).append(true).open(store.join(ROUNDS))?;
    write_row(&mut file, round)?;
    Ok(file.sync_data()?)
}

/// Writes all rows anew: those of now, or all of the new ones, whatever happens.
pub(super) fn replace(store: &Path, all: &[Round]) -> Result<(), Failure> {
    let (file, new) = (store.join(ROUNDS), store.join("campaign.new"));
    let mut rows = File::create(&new)?;
    for round in all {
        write_row(&mut rows, round)?;
    }
    rows.sync_data()?;
    Ok(fs::rename(new, file)?)
}
