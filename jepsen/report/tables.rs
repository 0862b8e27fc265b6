//! The tables of a report.

use std::collections::{BTreeMap, BTreeSet};

use super::page::{class_of, count};
use super::plots::Span;
use super::svg::escape;
use crate::check::fires::Fires;
use crate::check::recovery::{Recovery, recoveries};
use crate::check::{Checked, Results};
use crate::history::Kind;
use crate::store::{Evidence, Regime};
use crate::time::MS;

/// Findings shown of one checker.
const MOST_FINDINGS: usize = 12;
/// Rows of the table of single faults.
const MOST_FAULTS: usize = 500;

fn row(cells: &[String], class: &str) -> String {
    let cells: String =
        cells.iter().map(|cell| format!("<td class=\"{class}\">{cell}</td>")).collect();
    format!("<tr>{cells}</tr>\n")
}

fn head(names: &[&str], numbers_from: usize) -> String {
    let cell = |(at, name): (usize, &&str)| {
        let class = if at >= numbers_from { " class=\"num\"" } else { "" };
        format!("<th{class}>{name}</th>")
    };
    format!("<tr>{}</tr>\n", names.iter().enumerate().map(cell).collect::<String>())
}

/// A row for each checker, with what it counted and what it found.
pub(super) fn verdicts(results: &Results, span: Span) -> String {
    let mut table = format!("<table>{}", head(&["Checker", "Promise", "Verdict", "Counted"], 9));
    for checked in &results.checkers {
        let counts: Vec<String> = (checked.counts.iter())
            // Times of each kind of fault have a table of their own.
            .filter(|(what, _)| !what.contains(" first "))
            .map(|(what, n)| format!("{}\u{a0}{}", count(*n), escape(what).replace(' ', "\u{a0}")))
            .collect();
        let verdict = format!(
            "<span class=\"word-{}\">{}</span>{}",
            class_of(checked.verdict),
            checked.verdict,
            if checked.reason.is_empty() {
                String::new()
            } else {
                format!("<div class=\"small\">{}</div>", escape(&checked.reason))
            }
        );
        let cells = [
            escape(&checked.name),
            format!("<div class=\"promise\">{}</div>", escape(&checked.promise)),
            verdict,
            format!("<span class=\"small\">{}</span>", counts.join(" · ")),
        ];
        table.push_str(&row(&cells, ""));
        let found = findings(checked, span);
        if !found.is_empty() {
            table.push_str(&format!("<tr><td></td><td colspan=\"3\">{found}</td></tr>\n"));
        }
    }
    table + "</table>"
}

fn findings(checked: &Checked, span: Span) -> String {
    if checked.findings.is_empty() {
        return String::new();
    }
    let item = |finding: &crate::check::Finding| {
        let at = if finding.t == 0 {
            String::new()
        } else {
            format!(" <span class=\"small\">at {:.2} s</span>", span.seconds(finding.t))
        };
        let (what, key) = (escape(&finding.what), escape(&finding.key));
        format!("<li><b>{what}</b> {key}: {}{at}</li>", escape(&finding.detail))
    };
    let shown: String = checked.findings.iter().take(MOST_FINDINGS).map(item).collect();
    let more = checked.wrong.saturating_sub(checked.findings.len().min(MOST_FINDINGS));
    let more = if more > 0 { format!("<li>and {more} more</li>") } else { String::new() };
    format!(
        "<details open class=\"found\"><summary>{} findings</summary><ul>{shown}{more}</ul></details>",
        checked.wrong
    )
}

fn ms(value: Option<u64>) -> String {
    value.map_or_else(
        || "–".to_owned(),
        |ms| format!("{}\u{202f}ms", count(i64::try_from(ms).unwrap_or(i64::MAX))),
    )
}

/// How soon things went on after each kind of fault, and after each single one.
pub(super) fn faults(evidence: &Evidence, span: Span) -> String {
    let found = recoveries(evidence);
    if found.is_empty() {
        return String::new();
    }
    let names = [
        "Fault",
        "Begun",
        "First write after",
        "First fire after",
        "Write after healing",
        "Fire after healing",
    ];
    let mut table = kinds_of_faults(&found);
    let more = found.len().saturating_sub(MOST_FAULTS);
    let more = if more > 0 { format!(", without the last {more}") } else { String::new() };
    let told = format!("Each of {} faults{more}", found.len());
    table.push_str(&format!("<details><summary>{told}</summary><table>{}", head(&names, 1)));
    for one in found.iter().take(MOST_FAULTS) {
        let cells = [
            format!("{:.1}\u{202f}s", span.seconds(one.from)),
            ms(one.write_ms),
            ms(one.fire_ms),
            ms(one.healed_write_ms),
            ms(one.healed_fire_ms),
        ];
        table.push_str(&numbers(&one.op, &cells));
    }
    table + "</table></details>"
}

/// Half within, and at most, of each kind.
fn kinds_of_faults(found: &[Recovery]) -> String {
    let names = [
        "Fault",
        "times",
        "first write: half within",
        "at most",
        "first fire: half within",
        "at most",
        "write after healing: at most",
        "fire after healing: at most",
    ];
    let kinds: BTreeSet<&str> = found.iter().map(|one| one.op.as_str()).collect();
    let mut table = format!("<table>{}", head(&names, 1));
    for kind in kinds {
        let of = |what: fn(&Recovery) -> Option<u64>| {
            let mut all: Vec<u64> =
                found.iter().filter(|one| one.op == kind).filter_map(what).collect();
            all.sort_unstable();
            let shares = quantiles(&all);
            [shares.map(|[half, ..]| half), shares.map(|[.., most]| most)].map(ms)
        };
        let times = found.iter().filter(|one| one.op == kind).count().to_string();
        let [write, most_write] = of(|one| one.write_ms);
        let [fire, most_fire] = of(|one| one.fire_ms);
        let [_, healed_write] = of(|one| one.healed_write_ms);
        let [_, healed_fire] = of(|one| one.healed_fire_ms);
        let cells = [times, write, most_write, fire, most_fire, healed_write, healed_fire];
        table.push_str(&numbers(kind, &cells));
    }
    table + "</table>"
}

/// A row of a name and numbers.
fn numbers(name: &str, cells: &[String]) -> String {
    let cells: String = cells.iter().map(|cell| format!("<td class=\"num\">{cell}</td>")).collect();
    format!("<tr><td>{}</td>{cells}</tr>\n", escape(name))
}

/// Shares of a sorted list.
fn quantiles<T: Copy>(sorted: &[T]) -> Option<[T; 5]> {
    let last = sorted.len().checked_sub(1)?;
    let at = |share: usize| sorted[(sorted.len() * share / 1000).min(last)];
    Some([at(500), at(900), at(990), at(999), sorted[last]])
}

/// How late fires were: shares, and a histogram of bars.
pub(super) fn lateness(fires: &Fires) -> String {
    let late = fires.lateness();
    let Some(shares) = quantiles(&late) else { return String::new() };
    let names = ["half within", "90 %", "99 %", "99.9 %", "latest"];
    let mut table = format!("<table>{}<tr>", head(&names, 0));
    for value in shares {
        table.push_str(&format!("<td class=\"num\">{}\u{202f}ms</td>", count(value)));
    }
    table.push_str("</tr></table>");
    let edges = [5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, i64::MAX];
    let mut below = 0;
    let bins: Vec<(String, usize)> = edges
        .iter()
        .map(|edge| {
            let upto = late.partition_point(|ms| ms < edge);
            let bin = upto - below;
            below = upto;
            let name = if *edge == i64::MAX { "more".to_owned() } else { format!("< {edge} ms") };
            (name, bin)
        })
        .collect();
    let most = bins.iter().map(|(_, n)| *n).max().unwrap_or(1).max(1);
    let mut drawn = String::new();
    for (at, (name, n)) in bins.iter().enumerate() {
        let height = 70.0 * *n as f64 / most as f64;
        let x = 118.0 + at as f64 * 85.0;
        let (y, middle, upper) = (86.0 - height, x + 35.0, 82.0 - height);
        drawn.push_str(&format!(
            "<rect class=\"fire ran\" x=\"{x}\" y=\"{y:.1}\" width=\"70\" height=\"{height:.1}\"/>\
             <text class=\"tick\" x=\"{middle}\" y=\"101\">{}</text>\
             <text class=\"tick\" x=\"{middle}\" y=\"{upper:.1}\">{n}</text>",
            escape(name)
        ));
    }
    let svg = "<svg viewBox=\"0 0 1160 106\" role=\"img\" aria-label=\"histogram of lateness\">";
    format!("{svg}{drawn}</svg>{table}")
}

/// Latency of each kind of operation.
pub(super) fn latency(evidence: &Evidence) -> String {
    let mut kinds: BTreeMap<&str, (Vec<u64>, usize, usize)> = BTreeMap::new();
    for op in &evidence.ops {
        if matches!(op.ask.node.as_str(), "resource" | "harness") {
            continue;
        }
        let entry = kinds.entry(&op.ask.f).or_default();
        match (&op.end, op.kind()) {
            (Some(end), Kind::Ok) => entry.0.push((end.t - op.ask.t) / MS),
            (_, Kind::Fail) => entry.1 += 1,
            _ => entry.2 += 1,
        }
    }
    let names = ["Operation", "done", "not done", "unknown", "p50", "p90", "p99", "p99.9", "max"];
    let mut table = format!("<table>{}", head(&names, 1));
    for (name, (mut done, failed, unknown)) in kinds {
        done.sort_unstable();
        let mut cells = vec![done.len().to_string(), failed.to_string(), unknown.to_string()];
        match quantiles(&done) {
            Some(shares) => cells.extend(shares.map(|share| ms(Some(share)))),
            None => cells.extend(["–"; 5].map(str::to_owned)),
        }
        table.push_str(&numbers(name, &cells));
    }
    table + "</table>"
}

/// What each node said of itself in the end.
pub(super) fn states(evidence: &Evidence) -> String {
    let mut rows = String::new();
    for op in evidence.ops_of("final-cluster") {
        let told = op.result();
        let cells = if op.is_ok() {
            let leader =
                told["leader"]["node"].as_u64().map_or_else(|| "–".to_owned(), |n| n.to_string());
            [
                told["applied_index"].to_string(),
                escape(told["state_hash"].as_str().unwrap_or("–")),
                leader,
                told["leader"]["term"].to_string(),
            ]
        } else {
            ["no answer", "–", "–", "–"].map(str::to_owned)
        };
        let cells = cells.map(|cell| format!("<td>{cell}</td>")).concat();
        rows.push_str(&format!("<tr><td>{}</td>{cells}</tr>\n", escape(&op.ask.k)));
    }
    if rows.is_empty() {
        return String::new();
    }
    let names = ["Node in the end", "Applied", "Hash of its state", "Leader", "Term"];
    format!("<table>{}{rows}</table>", head(&names, 9))
}

/// What a reader must not conclude.
pub(super) fn limits(evidence: &Evidence) -> String {
    let test = &evidence.test;
    let mut items = vec![
        "One machine, one kernel, one true clock: what differs between machines is not seen here."
            .to_owned(),
        format!(
            "An instant that falls into the time of a change (from the request to its answer) \
             need not run; it may run once. A start counts as early if it is more than {} ms before its time.",
            test.clock_bound_ms
        ),
        format!(
            "A fire is late after {} ms, or {} ms after the last fault that it met has healed; \
             what is late but ran is counted, not hidden.",
            test.late_ms, test.recover_ms
        ),
        "An attempt is known to live from its first line to its last. What it did between two lines \
         is not seen."
            .to_owned(),
        "Effects are at least once: after a lost worker a run is tried again. Only a resource that \
         checks fencing tokens sees each effect once."
            .to_owned(),
        "Runs with the same seed are similar, not identical: processes and disks have their own time."
            .to_owned(),
    ];
    if test.regime == Regime::Brutal {
        items.push(
            "In this regime no quorum was promised, so that slowness is not judged.".to_owned(),
        );
    }
    if !test.busy.is_empty() {
        items.push(format!("Slowness is not judged: {}.", test.busy));
    }
    let items: String = items.iter().map(|item| format!("<li>{}</li>", escape(item))).collect();
    format!("<ul>{items}</ul>")
}
