//! What runs tell, and what comes of many: pure, so that it can be tested.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::tiers::{CASES, Case, NOT_SEEN, Tier, WAITING, Where};
use crate::check::Verdict;

/// Of a mutant's runs so many in hundred must find it.
const ENOUGH: usize = 90;
/// The longest text of a finding in a table.
const WORDS: usize = 90;

/// What one run said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "said", content = "how")]
pub(super) enum Said {
    /// Nothing is wrong.
    Well,
    /// Something is, and what.
    Wrong(String),
    /// Too little was seen to say so.
    Unknown(String),
    /// The run itself did not work.
    Broken(String),
}

/// One run: a line of the results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    /// What was built: rows of other sources do not count.
    pub(super) source: String,
    pub(super) tier: String,
    /// Empty: nothing was put in.
    pub(super) mutant: String,
    pub(super) seed: u64,
    /// Kinds of faults, or arguments.
    pub(super) with: String,
    #[serde(flatten)]
    pub(super) said: Said,
    pub(super) seconds: u64,
}

/// What a run of this tier told, by how it ended and its output.
pub(super) fn read(tier: Tier, status: Option<i32>, text: &str) -> Said {
    let first = |mark: &str| text.lines().find_map(|line| line.split_once(mark)).map(|(_, it)| it);
    let last = || text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no output");
    let broken = || Said::Broken(format!("exit {status:?}: {}", short(last())));
    match (tier, status) {
        (Tier::L0, Some(0)) if text.contains("1 passed") => Said::Well,
        // `seed 7 fails: after 12 ms: …`
        (Tier::L0, Some(101)) => {
            let what = first(" fails: ").map(|it| it.split_once(" ms: ").map_or(it, |(_, it)| it));
            what.map_or_else(broken, |what| Said::Wrong(short(what)))
        }
        (Tier::L1, Some(0)) if text.lines().any(|line| line.starts_with("ok ")) => Said::Well,
        // `FAILED <sum> <lines> at 12 ms: …`
        (Tier::L1, Some(1)) => {
            let what = first("FAILED ").and_then(|it| it.splitn(3, ' ').nth(2));
            let what = what.map(|it| it.split_once(" ms: ").map_or(it, |(_, it)| it));
            what.map_or_else(broken, |what| Said::Wrong(short(what)))
        }
        // A library found that it cannot be so, and no more could be said: clearing up in
        // the middle of it ends the process.
        (Tier::L1, None) if text.contains("panicked at ") => {
            let mut lines = text.lines().skip_while(|line| !line.contains("panicked at "));
            Said::Wrong(short(&format!("panic: {}", lines.nth(1).unwrap_or_default())))
        }
        (Tier::L2, Some(code)) => {
            let verdict = last().strip_prefix("verdict: ");
            let why = verdict.and_then(|it| it.split_once(' ')).map_or("", |(_, it)| it);
            let why = short(why.trim_start_matches('(').trim_end_matches(')'));
            match verdict.and_then(|it| it.split_whitespace().next()) {
                Some("valid") if code == 0 => Said::Well,
                Some("invalid") if code == 1 => Said::Wrong(why),
                Some("unknown") if code == 3 => Said::Unknown(why),
                _ => broken(),
            }
        }
        _ => broken(),
    }
}

/// What came of the other tests of L0.
pub(super) fn rest(status: Option<i32>, text: &str) -> Said {
    let failed = text
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
        .map(|test| test.rsplit("::").next().unwrap_or(test))
        .min();
    match (status, failed) {
        (Some(0), None) if text.contains("test result: ok. ") => Said::Well,
        (Some(101), Some(test)) => Said::Wrong(short(&format!("test {test}"))),
        _ => Said::Broken(format!("exit {status:?} of the other tests")),
    }
}

fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().replace('|', "/");
    let mut cut: String = line.chars().take(WORDS).collect();
    if cut.len() < line.len() {
        cut.push('…');
    }
    cut
}

/// Whether that is what the fault was put in for.
pub(super) fn caught(place: Where, said: &Said) -> bool {
    match place {
        Where::Product => matches!(said, Said::Wrong(_)),
        Where::Harness => matches!(said, Said::Unknown(_)),
    }
}

/// Whether a clean run raised an alarm. One on a busy machine may say too little.
pub(super) fn is_alarm(said: &Said) -> bool {
    matches!(said, Said::Wrong(_) | Said::Broken(_))
}

/// What came of one case.
#[derive(Debug)]
pub(super) struct Tally<'a> {
    pub(super) case: &'a Case,
    pub(super) caught: usize,
    pub(super) runs: usize,
    /// What it was found by, and how often.
    pub(super) by: BTreeMap<String, usize>,
}

impl Tally<'_> {
    /// Whether it was found often enough.
    pub(super) fn is_enough(&self) -> bool {
        self.caught * 100 >= self.runs * ENOUGH
    }
}

/// Of one mutant.
pub(super) fn tally<'a>(case: &'a Case, rows: &[Row]) -> Tally<'a> {
    let mut tally = Tally { case, caught: 0, runs: 0, by: BTreeMap::new() };
    for row in rows.iter().filter(|row| row.mutant == case.name) {
        tally.runs += 1;
        if caught(case.place, &row.said) {
            tally.caught += 1;
            if let Said::Wrong(how) | Said::Unknown(how) = &row.said {
                *tally.by.entry(kind(how)).or_default() += 1;
            }
        }
    }
    tally
}

/// A finding without its numbers, so that like ones are counted together.
fn kind(how: &str) -> String {
    let mut told = String::new();
    let mut is_number = false;
    for letter in how.chars() {
        if letter.is_ascii_digit() {
            if !is_number {
                told.push('…');
            }
            is_number = true;
        } else {
            is_number = false;
            told.push(letter);
        }
    }
    told
}

/// The verdict on the gate, of which so many runs were wanted: fewer say too little, and
/// so does a clean run that says nothing.
pub(super) fn verdict(cases: &[Case], rows: &[Row], wanted: usize) -> Verdict {
    let tallies: Vec<Tally> = cases.iter().map(|case| tally(case, rows)).collect();
    let clean: Vec<&Row> = rows.iter().filter(|row| row.mutant.is_empty()).collect();
    let missed = |tally: &Tally| tally.runs > 0 && !tally.is_enough();
    if tallies.iter().any(missed) || clean.iter().any(|row| is_alarm(&row.said)) {
        Verdict::Invalid
    } else if rows.len() < wanted
        || clean.is_empty()
        || clean.iter().any(|row| row.said != Said::Well)
    {
        Verdict::Unknown
    } else {
        Verdict::Valid
    }
}

/// The table, as Markdown.
pub(super) fn table(cases: &[Case], rows: &[Row]) -> String {
    let mut text =
        String::from("| bug | mutant | tier | caught | most often by |\n|---|---|---|---|---|\n");
    for tally in cases.iter().map(|case| tally(case, rows)).filter(|tally| tally.runs > 0) {
        let Case { name, bug, tier, .. } = tally.case;
        let bug = bug.map_or_else(String::new, |bug| bug.to_string());
        let by = tally.by.iter().max_by_key(|(_, count)| **count).map_or("", |(how, _)| how);
        let mark = if tally.is_enough() { "" } else { " **missed**" };
        let (caught, runs) = (tally.caught, tally.runs);
        // Writing to a string cannot fail.
        let _ =
            writeln!(text, "| {bug} | `{name}` | {} | {caught}/{runs}{mark} | {by} |", tier.name());
    }
    for tier in Tier::ALL {
        let clean = rows.iter().filter(|row| row.mutant.is_empty() && row.tier == tier.name());
        let said: Vec<&Said> = clean.map(|row| &row.said).collect();
        if !said.is_empty() {
            let alarms = said.iter().filter(|said| is_alarm(said)).count();
            let (tier, runs) = (tier.name(), said.len());
            let _ = writeln!(text, "| | *none* | {tier} | {alarms}/{runs} alarms | |");
        }
    }
    text
}

/// What is not in the table, and why.
pub(super) fn waiting() -> String {
    let mut text = String::new();
    for (bug, what, until) in WAITING {
        let _ = writeln!(text, "- {bug}, {what}: waits for {until}.");
    }
    for (bug, why) in NOT_SEEN {
        let _ = writeln!(text, "- {bug}, in part: {why}.");
    }
    text
}

/// The cases that were asked for by name; all, if none was.
///
/// # Errors
/// The name that is none.
pub(super) fn chosen(only: &[String]) -> Result<Vec<Case>, String> {
    let is_tier = |name: &str, case: &Case| case.tier.name().eq_ignore_ascii_case(name);
    let unknown = only
        .iter()
        .find(|name| !CASES.iter().any(|case| case.name == **name || is_tier(name, case)));
    if let Some(name) = unknown {
        return Err(format!("--only {name}: there is no such mutant and no such tier"));
    }
    let is_chosen = |case: &&Case| {
        only.is_empty() || only.iter().any(|name| case.name == *name || is_tier(name, case))
    };
    Ok(CASES.iter().filter(is_chosen).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_say_is_read() {
        let l0 = "seed 7 fails: after 42 ms: run 3 ran twice\nthread panicked\n";
        assert_eq!(read(Tier::L0, Some(101), l0), Said::Wrong("run 3 ran twice".to_owned()));
        let good = "test result: ok. 1 passed; 0 failed;\n";
        assert_eq!(read(Tier::L0, Some(0), good), Said::Well);
        // A filter that matches nothing is no success.
        assert!(matches!(read(Tier::L0, Some(0), "0 passed"), Said::Broken(_)));
        assert!(matches!(read(Tier::L0, Some(101), "HORAI_MUTANT=x: no"), Said::Broken(_)));
        let failed = "test a::b ... ok\ntest a::x_holds ... FAILED\n";
        assert_eq!(rest(Some(101), failed), Said::Wrong("test x_holds".to_owned()));
        assert_eq!(rest(Some(0), "test result: ok. 9 passed"), Said::Well);
        for (status, text) in [(Some(0), failed), (Some(101), ""), (None, failed)] {
            assert!(matches!(rest(status, text), Said::Broken(_)), "{status:?} {text}");
        }
        let l1 = "FAILED 00ff 12 at 9 ms: n1: sim-3 was acknowledged, and is lost\n  plan: x\n";
        let lost = Said::Wrong("n1: sim-3 was acknowledged, and is lost".to_owned());
        assert_eq!(read(Tier::L1, Some(1), l1), lost);
        assert_eq!(read(Tier::L1, Some(0), "ok 00ff 12 30 s"), Said::Well);
        assert!(matches!(read(Tier::L1, Some(1), "unknown: --x"), Said::Broken(_)));
        assert!(matches!(read(Tier::L1, None, "ok"), Said::Broken(_)));
        let l1 = "noise\nthread 'main' (7) panicked at log.rs:4:1:\nentry 63 is lost\nstack:\n";
        assert_eq!(read(Tier::L1, None, l1), Said::Wrong("panic: entry 63 is lost".to_owned()));
        let l2 = "up\nverdict: invalid (set: 4 wrong)\n";
        assert_eq!(read(Tier::L2, Some(1), l2), Said::Wrong("set: 4 wrong".to_owned()));
        assert_eq!(read(Tier::L2, Some(0), "verdict: valid (9 checkers)"), Said::Well);
        let few = read(Tier::L2, Some(3), "verdict: unknown (judges: nobody)");
        assert_eq!(few, Said::Unknown("judges: nobody".to_owned()));
        for (code, text) in
            [(4, "verdict: harness-failure (x)"), (1, "verdict: valid (x)"), (0, "")]
        {
            assert!(matches!(read(Tier::L2, Some(code), text), Said::Broken(_)), "{text}");
        }
    }

    fn row(mutant: &str, seed: u64, said: Said) -> Row {
        let (source, tier) = ("a".to_owned(), "L1".to_owned());
        let (mutant, with) = (mutant.to_owned(), String::new());
        Row { source, tier, mutant, seed, with, said, seconds: 1 }
    }

    fn wrong(how: &str) -> Said {
        Said::Wrong(how.to_owned())
    }

    #[test]
    fn nine_of_ten_are_enough_and_eight_are_not() {
        let case = chosen(&["ack-before-sync".to_owned()]).unwrap();
        let mut rows: Vec<Row> = (0..9)
            .map(|seed| row("ack-before-sync", seed, wrong(&format!("{seed} lost"))))
            .collect();
        rows.push(row("ack-before-sync", 9, Said::Well));
        // Without a clean run nobody knows whether the judge cries at everything.
        assert_eq!(verdict(&case, &rows, 10), Verdict::Unknown);
        rows.push(row("", 1, Said::Well));
        assert_eq!(verdict(&case, &rows, 11), Verdict::Valid);
        assert_eq!(verdict(&case, &rows, 12), Verdict::Unknown, "one is still to be made");
        assert_eq!(tally(&case[0], &rows).by, BTreeMap::from([("… lost".to_owned(), 9)]));
        rows[0].said = Said::Broken("killed".to_owned());
        assert_eq!(verdict(&case, &rows, 11), Verdict::Invalid);
        assert!(table(&case, &rows).contains("| 1 | `ack-before-sync` | L1 | 8/10 **missed** |"));
    }

    #[test]
    fn one_false_alarm_fails_the_gate() {
        let case = chosen(&["local-reads".to_owned()]).unwrap();
        let caught = row("local-reads", 1, wrong("stale"));
        for (said, expected) in [
            (Said::Well, Verdict::Valid),
            (Said::Unknown("busy".to_owned()), Verdict::Unknown),
            (wrong("x"), Verdict::Invalid),
            (Said::Broken("x".to_owned()), Verdict::Invalid),
        ] {
            assert_eq!(verdict(&case, &[caught.clone(), row("", 1, said)], 2), expected);
        }
        assert_eq!(verdict(&case, &[row("", 1, Said::Well)], 2), Verdict::Unknown);
    }

    #[test]
    fn a_fault_of_the_harness_is_caught_by_not_passing() {
        assert!(caught(Where::Harness, &Said::Unknown("x".to_owned())));
        assert!(!caught(Where::Harness, &Said::Well));
        assert!(!caught(Where::Harness, &wrong("by chance")));
        assert!(!caught(Where::Product, &Said::Unknown("x".to_owned())));
        assert!(caught(Where::Product, &wrong("x")));
    }

    #[test]
    fn rows_are_read_back_and_names_are_checked() {
        for said in [Said::Well, wrong("a"), Said::Unknown("b".into()), Said::Broken("c".into())] {
            let row = row("x", 3, said);
            let text = serde_json::to_string(&row).unwrap();
            assert_eq!(serde_json::from_str::<Row>(&text).unwrap(), row);
        }
        assert!(chosen(&["no-such".to_owned()]).is_err());
        assert_eq!(chosen(&[]).unwrap().len(), CASES.len());
        assert!(chosen(&["l2".to_owned()]).unwrap().iter().all(|case| case.tier == Tier::L2));
    }
}
