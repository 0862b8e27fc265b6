//! Rounds judged again with the checkers of now: those in which something was wrong,
//! and on demand all others whose evidence is whole.
//!
//! A mistake of a checker is found by looking into such a round. When it is mended, or
//! when a checker has learnt to see more, the round need not be played again: what
//! happened is known. A round keeps its row and gets another verdict, and the table says
//! how many were found wrong before. It is never dropped.

use std::io::Write;

use super::rounds::{Round, replace, rounds};
use super::{Options, folder_of_test, summarise, thin_out};
use crate::check::Verdict;
use crate::error::Failure;
use crate::judge;

/// Only in evidence that is whole.
const RAW: &str = "history.jsonl";

/// Judges rounds of this source anew that were found wrong, or all, and tells which have
/// another verdict.
pub(super) fn judge_again(options: &Options, out: &mut impl Write) -> Result<(), Failure> {
    let (store, source) = (&options.store, &options.source);
    let mut all = rounds(store)?;
    let mut has_changed = false;
    for round in &mut all {
        let was = round.verdict;
        let was_wrong = matches!(was, Verdict::Invalid | Verdict::HarnessFailure);
        if round.source != *source || !(was_wrong || options.again) {
            continue;
        }
        let Some(folder) = folder_of_test(&store.join(&round.folder)) else { continue };
        if !was_wrong && !folder.join(RAW).exists() {
            continue;
        }
        // One whose evidence cannot be read stays what it is.
        if judge::check(&folder, &mut std::io::sink()).is_err() {
            continue;
        }
        let anew = Round {
            judged_again: round.judged_again || was_wrong,
            installed: Default::default(),
            counts: Default::default(),
            write_after_ms: Default::default(),
            start_after_ms: Default::default(),
            ..round.clone()
        };
        *round = anew;
        summarise(&folder, round)?;
        thin_out(options, round, &folder)?;
        if was_wrong || round.verdict != was {
            writeln!(out, "{} was {was}, is {}", round.folder, round.verdict)?;
        }
        has_changed = true;
    }
    if has_changed {
        replace(store, &all)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::rounds::append;
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
        let options = |again| Options { again, ..super::super::tests::options(store) };
        judge_again(&options(false), &mut told).unwrap();
        assert!(told.is_empty(), "nobody has the evidence of the second");
        // Of a test in which nothing was written down nothing can be said.
        let test = store.join("b/name/time");
        fs::create_dir_all(&test).unwrap();
        fs::write(test.join("test.json"), "{}").unwrap();
        judge_again(&options(false), &mut told).unwrap();
        let told = String::from_utf8(told).unwrap();
        assert_eq!(told, "b was invalid, is harness-failure\n");
        let now = rounds(store).unwrap();
        let said: Vec<_> = now.iter().map(|r| (r.verdict, r.judged_again)).collect();
        let [valid, failed] = [Verdict::Valid, Verdict::HarnessFailure];
        assert_eq!(said, [(valid, false), (failed, true), (Verdict::Invalid, false)]);
        assert!(now[1].installed.is_empty() && now[1].counts["fires: missed"] == 0);
        // What was valid is judged again on demand, if it is all there.
        let test = store.join("a/name/time");
        fs::create_dir_all(&test).unwrap();
        fs::write(test.join("test.json"), "{}").unwrap();
        let verdict = || rounds(store).unwrap()[0].verdict;
        judge_again(&options(true), &mut Vec::new()).unwrap();
        assert_eq!(verdict(), Verdict::Valid, "thinned out");
        fs::write(test.join(RAW), "").unwrap();
        judge_again(&options(false), &mut Vec::new()).unwrap();
        assert_eq!(verdict(), Verdict::Valid, "nobody asked");
        judge_again(&options(true), &mut Vec::new()).unwrap();
        assert_eq!(verdict(), Verdict::HarnessFailure);
        assert!(!rounds(store).unwrap()[0].judged_again, "it was not wrong before");
    }
}
