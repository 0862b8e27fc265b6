//! `jepsen check` and `jepsen report`: a store is judged, and what came of it shown.
//! It may be judged again at any time: a verdict depends on nothing else.

use std::fs;
use std::io::Write;
use std::path::Path;

use crate::check::{self, Checked, Results, Verdict};
use crate::error::Failure;
use crate::{report, store};

/// Findings of one checker that are printed; the files have more.
const MOST_SHOWN: usize = 10;
/// What the checkers say, beside the evidence.
const RESULTS: &str = "results.json";

/// Judges a store and writes `results.json` and `report.html` beside the evidence.
///
/// # Errors
/// The store cannot be read, or the results not be written.
pub(crate) fn check(folder: &Path, out: &mut impl Write) -> Result<Verdict, Failure> {
    let results = judge(folder)?;
    fs::write(folder.join(RESULTS), serde_json::to_vec_pretty(&results)?)?;
    for checked in &results.checkers {
        show(checked, out)?;
    }
    writeln!(out, "{}", results.line())?;
    Ok(results.verdict)
}

/// Draws the report of a store anew; the verdict is judged anew too, and kept nowhere
/// else.
///
/// # Errors
/// The store cannot be read, or the report not be written.
pub(crate) fn report(folder: &Path, out: &mut impl Write) -> Result<Verdict, Failure> {
    let results = judge(folder)?;
    writeln!(out, "{}", folder.join(report::FILE).display())?;
    writeln!(out, "{}", results.line())?;
    Ok(results.verdict)
}

/// What was said when a store was last judged.
///
/// # Errors
/// It never was, or what was written is damaged.
pub(crate) fn results(folder: &Path) -> Result<Results, Failure> {
    Ok(serde_json::from_slice(&fs::read(folder.join(RESULTS))?)?)
}

/// Judges a store and draws its report.
fn judge(folder: &Path) -> Result<Results, Failure> {
    let evidence = store::load(folder)?;
    let results = check::all(&evidence);
    report::write(folder, &evidence, &results)?;
    Ok(results)
}

fn show(checked: &Checked, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "{:<16} {:<16} {}", checked.verdict, checked.name, checked.promise)?;
    for (what, count) in &checked.counts {
        writeln!(out, "{count:>34}  {what}")?;
    }
    for finding in checked.findings.iter().take(MOST_SHOWN) {
        writeln!(out, "    {} {}: {}", finding.what, finding.key, finding.detail)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{TestInfo, write_test};

    #[test]
    fn a_store_is_judged_and_shown_as_often_as_asked() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path();
        assert!(check(store, &mut Vec::new()).is_err());
        assert!(results(store).is_err());
        let harness_error = "the test did not come to its end".to_owned();
        write_test(store, &TestInfo { harness_error, ..TestInfo::default() }).unwrap();
        let mut text = Vec::new();
        assert_eq!(check(store, &mut text).unwrap(), Verdict::HarnessFailure);
        let text = String::from_utf8(text).unwrap();
        assert!(text.lines().last().unwrap().starts_with("verdict: harness-failure ("), "{text}");
        assert_eq!(results(store).unwrap().verdict, Verdict::HarnessFailure);
        fs::remove_file(store.join(report::FILE)).unwrap();
        assert_eq!(report(store, &mut Vec::new()).unwrap(), Verdict::HarnessFailure);
        assert!(store.join(report::FILE).exists());
    }
}
