//! A closer look at registers that no order explains.

use std::collections::BTreeMap;

use super::svg::Chart;
use crate::check::Results;
use crate::history::{Kind, Op};
use crate::store::Evidence;

/// More of them would say the same.
const MOST: usize = 3;
/// Height of a client's row.
const ROW: f64 = 26.0;

/// Jobs whose operations no order explains.
pub(super) fn failing(results: &Results) -> Vec<String> {
    let findings = results.checkers.iter().filter(|c| c.name == "register");
    let findings = findings.flat_map(|checked| &checked.findings);
    let failing = findings.filter(|finding| finding.what == "not linearizable");
    failing.map(|finding| finding.key.clone()).take(MOST).collect()
}

/// The operations of one register, a row for each client.
pub(super) fn view(evidence: &Evidence, job: &str) -> String {
    let is_of = |op: &&Op| op.ask.k == job && op.ask.f.starts_with("reg-");
    let ops: Vec<&Op> = evidence.ops.iter().filter(is_of).collect();
    let from = ops.iter().map(|op| op.ask.t).min().unwrap_or(0);
    let to = ops.iter().map(|op| op.end.as_ref().map_or(op.ask.t, |end| end.t)).max().unwrap_or(0);
    let mut rows: BTreeMap<u32, usize> = BTreeMap::new();
    for op in &ops {
        let next = rows.len();
        rows.entry(op.ask.p).or_insert(next);
    }
    let mut chart = Chart::new(from, to, ROW * rows.len().max(1) as f64);
    for op in &ops {
        let y = chart.y(1.0) + rows.get(&op.ask.p).copied().unwrap_or(0) as f64 * ROW;
        let (class, end) = match (&op.end, op.kind()) {
            (Some(end), Kind::Ok) => ("op ok", end.t),
            (Some(end), Kind::Fail) => ("op fail", end.t),
            _ => ("op info", to),
        };
        let word = word(op);
        chart.bar((op.ask.t, end), (y + 14.0, 8.0), class, &format!("{word} at {}", op.ask.node));
        chart.note(op.ask.t, y + 11.0, "word", &word);
    }
    for (p, row) in &rows {
        let y = chart.y(1.0) + *row as f64 * ROW + 20.0;
        chart.label(y, &format!("client {p}"));
    }
    chart.finish("operations on one register")
}

/// What was asked and seen, in a few words.
fn word(op: &Op) -> String {
    let (asked, told) = (&op.ask.v, op.result());
    let became = match op.kind() {
        Kind::Ok => format!("is {}", told["revision"]),
        Kind::Fail => "refused".to_owned(),
        Kind::Info | Kind::Invoke => "?".to_owned(),
    };
    match op.ask.f.as_str() {
        "reg-read" if op.is_ok() => format!("sees {} as {}", told["value"], told["revision"]),
        "reg-read" => "sees nothing".to_owned(),
        "reg-write" => format!("writes {}: {became}", asked["value"]),
        _ => format!("{} for {}: {became}", asked["value"], asked["expects"]),
    }
}
