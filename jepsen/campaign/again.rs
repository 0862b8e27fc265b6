//! Rounds in which something was wrong, judged again with the checkers of now.
//!
//! A mistake of a checker is found by looking into such a round, whose evidence is
//! kept whole. When it is mended the round need not be played again: what happened is
//! known. A round keeps its row and gets another verdict, and the table says how many
//! did. It is never dropped.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::{ROUNDS, Round, folder_of_test, rounds, summarise, thin};
use crate::check::Verdict;
use crate::error::Failure;
use crate::judge;
use crate::store::write_row;

/// Judges rounds of this source anew that were found wrong, and tells which.
pub(super) fn judge_again(store: &Path, source: &str, out: &mut impl Write) -> Result<(), Failure> {
    let mut all = rounds(store)?;
    let mut has_changed = false;
    for round in &mut all {
        let was = round.verdict;
        if round.source != source || !matches!(was, Verdict::Invalid | Verdict::HarnessFailure) {
            continue;
        }
        let Some(folder) = folder_of_test(&store.join(&round.folder)) else { continue };
        // One whose evidence cannot be read stays what it is.
        if judge::check(&folder, &mut std::io::sink()).is_err() {
            continue;
        }
        let anew = Round {
            judged_again: true,
            installed: Default::default(),
            counts: Default::default(),
            write_after_ms: Default::default(),
            start_after_ms: Default::default(),
            ..round.clone()
        };
        *round = anew;
        summarise(&folder, round)?;
        if matches!(round.verdict, Verdict::Valid | Verdict::Unknown) {
            thin(&folder)?;
        }
        writeln!(out, "{} was {was}, is {}", round.folder, round.verdict)?;
        has_changed = true;
    }
    if has_changed {
        replace(store, &all)?;
    }
    Ok(())
}

/// Writes all rows anew: those of now, or all of the new ones, whatever happens.
fn replace(store: &Path, all: &[Round]) -> Result<(), Failure> {
    let (file, new) = (store.join(ROUNDS), store.join("campaign.new"));
    let mut rows = File::create(&new)?;
    for round in all {
        write_row(&mut rows, round)?;
    }
    rows.sync_data()?;
    Ok(fs::rename(new, file)?)
}

#[cfg(test)]
mod tests {
    use super::super::append;
    use super::super::tests::round;
    use super::*;

    #[test]
    fn only_what_was_wrong_and_has_its_evidence_is_judged_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path();
        for (name, verdict) in [("a", Verdict::Valid), ("b", Verdict::Invalid)] {
            let round =
                Round { folder: name.into(), ..round("disk", verdict, &[("disk-full", 2)]) };
            append(store, &round).unwrap();
        }
        let other = Round { source: "older".into(), ..round("disk", Verdict::Invalid, &[]) };
        append(store, &other).unwrap();
        let mut told = Vec::new();
        judge_again(store, "s", &mut told).unwrap();
        assert!(told.is_empty(), "nobody has the evidence of the second");
        // Of a test in which nothing was written down nothing can be said.
        let test = store.join("b/name/time");
        fs::create_dir_all(&test).unwrap();
        fs::write(test.join("test.json"), "{}").unwrap();
        judge_again(store, "s", &mut told).unwrap();
        let told = String::from_utf8(told).unwrap();
        assert_eq!(told, "b was invalid, is harness-failure\n");
        let now = rounds(store).unwrap();
        let said: Vec<_> = now.iter().map(|r| (r.verdict, r.judged_again)).collect();
        let [valid, failed] = [Verdict::Valid, Verdict::HarnessFailure];
        assert_eq!(said, [(valid, false), (failed, true), (Verdict::Invalid, false)]);
        assert!(now[1].installed.is_empty() && now[1].counts["fires: missed"] == 0);
    }
}
