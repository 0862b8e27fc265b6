//! What came of a campaign, as Markdown.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use super::goals::{GOALS, installed, tells};
use super::rounds::{Round, rounds};
use crate::check::Verdict;
use crate::error::Failure;

/// Rows of the table: what is promised, or was let off, and the counts that tell of it.
const TOTALS: [(&str, &[&str]); 25] = [
    ("fires expected", &["fires: expected"]),
    ("fires lost", &["fires: missed", "fires: unmatched-window"]),
    ("fires doubled", &["fires: doubled", "fires: phantom", "fires: unmatched-start"]),
    ("fires early", &["fires: early"]),
    ("fires late beyond the deadline", &["fires: late"]),
    (
        "fires that began after it where times are not judged",
        &["fires: late where times are not judged"],
    ),
    ("fires in the window of a change, not judged", &["fires: in the window of a change"]),
    ("fires lost with four workers one after the other", &["fires: lost with their workers"]),
    (
        "delays that stopped, came early or late",
        &["delays: stopped", "delays: too early", "delays: too late"],
    ),
    ("attempts that overlapped", &["attempts: overlap", "attempts: two successes"]),
    (
        "overlaps of a worker frozen beyond its lease, as documented",
        &["attempts: overlaps of a frozen worker"],
    ),
    ("lock grants", &["locks: grants"]),
    (
        "locks violated",
        &[
            "locks: two holders",
            "locks: token did not grow",
            "locks: fenced while holding",
            "locks: not a mutex",
        ],
    ),
    ("acknowledged writes", &["set: acknowledged"]),
    ("acknowledged writes lost", &["set: lost", "set: stale"]),
    ("log bytes served", &["logs: bytes served"]),
    ("log bytes that workers were told to be safe", &["logs: bytes acknowledged"]),
    ("outputs compared on all nodes", &["logs: attempts compared on all nodes"]),
    (
        "outputs with bytes lost or wrong, or not on all nodes",
        &[
            "logs: wrong byte",
            "logs: torn",
            "logs: left out",
            "logs: cut short",
            "logs: gone",
            "logs: not on all nodes",
        ],
    ),
    (
        "attempts ended for limits that they overstepped",
        &["ends: killed for their memory", "ends: held to their processes"],
    ),
    ("attempts given back by a worker without room", &["ends: given back"]),
    (
        "attempts ended or given back for no reason",
        &[
            "ends: killed within its limits",
            "ends: limit not kept",
            "ends: given back without a reason",
        ],
    ),
    ("recoveries too slow, or never", &["recovery: slow", "recovery: majority alone"]),
    ("nodes or workers not back when all was mended", &["raft: not healed"]),
    (
        "nodes that ended by themselves or refused to start",
        &["coverage: node-exit", "coverage: node-refused", "coverage: worker-exit"],
    ),
];

/// Writes the state of a campaign, in one store or several, as a table for people.
pub(crate) fn table(
    stores: &[PathBuf],
    source: &str,
    out: &mut impl Write,
) -> Result<Verdict, Failure> {
    let mut all = Vec::new();
    for store in stores {
        all.extend(rounds(store)?);
    }
    all.sort_by(|a, b| a.at.cmp(&b.at));
    let every: Vec<&Round> =
        all.iter().filter(|r| source.is_empty() || r.source == source).collect();
    // What was counted in a round that tells nothing is no evidence.
    let rounds: Vec<&Round> = every.iter().copied().filter(|round| tells(round)).collect();
    let Some(last) = rounds.last().or(every.last()) else {
        let names: Vec<String> = stores.iter().map(|store| store.display().to_string()).collect();
        return Err(format!("no round of this source in {}", names.join(", ")).into());
    };
    let hours = rounds.iter().map(|round| round.seconds).sum::<u64>() as f64 / 3600.0;
    let date = last.at.split('T').next().unwrap_or_default();
    writeln!(
        out,
        "{} rounds that count, with {hours:.1} hours of faults, of {} at commit {}, until {date}:\n",
        rounds.len(),
        last.version,
        last.commit
    )?;
    writeln!(out, "| what | count |\n|---|---|")?;
    for verdict in [Verdict::Valid, Verdict::Invalid, Verdict::Unknown, Verdict::HarnessFailure] {
        let count = every.iter().filter(|round| round.verdict == verdict).count();
        writeln!(out, "| rounds {verdict} | {count} |")?;
    }
    for (what, names) in TOTALS {
        let of = |round: &&Round| names.iter().filter_map(|name| round.counts.get(*name)).sum();
        let count: i64 = rounds.iter().map(|round| -> i64 { of(round) }).sum();
        writeln!(out, "| {what} | {count} |")?;
    }
    writeln!(
        out,
        "\n| fault | installed | next acknowledged write, ms (median, worst) | next start of a job, ms \
         (median, worst) |\n|---|---|---|---|"
    )?;
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    for (op, count) in rounds.iter().flat_map(|round| &round.installed) {
        *kinds.entry(op).or_default() += count;
    }
    for (op, count) in kinds {
        let write = spread(rounds.iter().filter_map(|round| round.write_after_ms.get(op)));
        let start = spread(rounds.iter().filter_map(|round| round.start_after_ms.get(op)));
        writeln!(out, "| {op} | {count} | {write} | {start} |")?;
    }
    asked_and_reached(&rounds, out)?;
    let again = every.iter().filter(|round| round.judged_again).count();
    if again > 0 {
        writeln!(
            out,
            "\nRounds that were found wrong and judged again, with checkers mended since: {again}."
        )?;
    }
    let wrong = rounds.iter().any(|round| round.verdict == Verdict::Invalid);
    Ok(if wrong { Verdict::Invalid } else { Verdict::Valid })
}

/// The goals of these rounds, and how far they came: what was asked for need not be there.
fn asked_and_reached(rounds: &[&Round], out: &mut impl Write) -> Result<(), Failure> {
    writeln!(out, "\n| goal | what | asked | there | reached |\n|---|---|---|---|---|")?;
    for goal in &GOALS {
        let mine: Vec<&Round> =
            rounds.iter().copied().filter(|round| round.goal == goal.name).collect();
        let seconds: u64 = mine.iter().map(|round| round.seconds).sum();
        let faults = goal.faults.iter().map(|(name, asked)| {
            (*name, *asked, mine.iter().map(|round| installed(round, name)).sum::<u64>())
        });
        let time = (goal.seconds > 0).then_some(("seconds", goal.seconds, seconds));
        for (what, asked, there) in faults.chain(time) {
            let reached = if there >= asked { "yes" } else { "no" };
            writeln!(out, "| {} | {what} | {asked} | {there} | {reached} |", goal.name)?;
        }
    }
    Ok(())
}

fn spread<'a>(times: impl Iterator<Item = &'a Vec<u64>>) -> String {
    let mut all: Vec<u64> = times.flatten().copied().collect();
    all.sort_unstable();
    match all.last() {
        Some(worst) => format!("{}, {worst}", all[all.len() / 2]),
        None => "–".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written of each checker that the table names.
    const SOURCES: [(&str, &str); 10] = [
        ("fires", include_str!("../check/fires.rs")),
        ("attempts", include_str!("../check/attempts.rs")),
        ("delays", include_str!("../check/delays.rs")),
        ("locks", include_str!("../check/locks.rs")),
        ("set", include_str!("../check/set_full.rs")),
        ("logs", include_str!("../check/logs.rs")),
        ("ends", include_str!("../check/ends.rs")),
        ("recovery", include_str!("../check/recovery.rs")),
        ("raft", include_str!("../check/healed.rs")),
        ("coverage", include_str!("../check/coverage.rs")),
    ];

    #[test]
    fn the_table_asks_only_for_what_checkers_count() {
        for name in TOTALS.iter().flat_map(|(_, names)| *names) {
            let (checker, count) = name.split_once(": ").unwrap();
            let source = SOURCES.iter().find(|(of, _)| *of == checker);
            let (_, source) = source.unwrap_or_else(|| panic!("{name}: no such checker"));
            let source = source.split("#[cfg(test)]").next().unwrap();
            assert!(source.contains(&format!("\"{count}\"")), "{name} is counted by nobody");
        }
    }
}
