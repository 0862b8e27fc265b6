//! Whether faults were felt: a node that was killed, lost its power or stands still
//! answers nobody. The polls say so, and they know nothing of the nemesis.
//!
//! Partitions are not looked at here: datagrams show them before they count.

use super::Checked;
use crate::store::{Evidence, Fault, Stage};
use crate::time::MS;

/// Faults under which a node is silent.
const SILENT: [&str; 3] = ["kill-", "power-", "freeze-"];
/// Some of those kill again and again, or ask first.
const NOT: [&str; 2] = ["loop", "gently"];
/// An answer may have been on its way for so long.
const ON_ITS_WAY: u64 = 300 * MS;

/// The verdict.
pub(super) fn check(evidence: &Evidence) -> Checked {
    let promise = "nodes that were killed or stopped answered nobody meanwhile";
    let mut checked = Checked::new("effects", promise);
    let rows = &evidence.faults;
    for (at, row) in rows.iter().enumerate().filter(|(_, row)| row.stage == Stage::Installed) {
        let is_silent = SILENT.iter().any(|kind| row.op.starts_with(kind));
        if !is_silent || NOT.iter().any(|word| row.op.contains(word)) {
            continue;
        }
        let is_healed =
            |end: &&Fault| end.op == row.op && end.args == row.args && end.stage == Stage::Heal;
        // A majority may be mended alone before.
        let end = rows[at..].iter().find(|end| end.op.starts_with("core-") || is_healed(end));
        let end = end.map_or(u64::MAX, |end| end.t);
        let who = row.args["who"].as_array().map(Vec::as_slice).unwrap_or_default();
        for node in who.iter().filter_map(|name| name.as_str()) {
            checked.count("looked at", 1);
            let answers = evidence.polls.iter().filter(|poll| poll.node == node && poll.ok);
            let heard = answers.filter(|poll| poll.t > row.t + ON_ITS_WAY && poll.t < end).count();
            if heard > 0 {
                checked.unknown(format!("{} was not felt: {node} answered {heard} times", row.op));
            }
        }
    }
    checked
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Verdict;
    use super::super::planted::Planted;
    use super::*;

    fn verdict(op: &str, node: &str, answers_at: i64) -> Verdict {
        let mut planted = Planted::new();
        planted.fault(1_000, 5_000, op);
        planted.poll(500, node, 1, 1, "x");
        planted.poll(answers_at, node, 1, 1, "x");
        let mut evidence = planted.evidence();
        for row in &mut evidence.faults {
            row.args = json!({"who": ["n1"]});
            if row.stage == Stage::Healed {
                row.stage = Stage::Heal;
            }
        }
        check(&evidence).verdict
    }

    #[test]
    fn a_node_that_answers_while_it_is_dead_gives_an_idle_nemesis_away() {
        for op in ["kill-leader", "power-all", "freeze-one"] {
            assert_eq!(verdict(op, "n1", 3_000), Verdict::Unknown, "{op}");
            assert_eq!(verdict(op, "n1", 1_100), Verdict::Valid, "on its way");
            assert_eq!(verdict(op, "n1", 6_000), Verdict::Valid, "healed");
            assert_eq!(verdict(op, "n2", 3_000), Verdict::Valid, "another node");
        }
        let mut planted = Planted::new();
        planted.fault(1_000, 5_000, "power-all");
        planted.fault(2_000, 4_000, "core-alone");
        planted.poll(3_000, "n1", 1, 1, "x");
        let mut evidence = planted.evidence();
        evidence.faults.iter_mut().for_each(|row| row.args = json!({"who": ["n1"]}));
        evidence.faults.sort_by_key(|row| row.t);
        assert_eq!(check(&evidence).verdict, Verdict::Valid, "mended alone");
        for op in ["partition-one", "kill-loop", "clock-jump"] {
            assert_eq!(verdict(op, "n1", 3_000), Verdict::Valid, "{op}");
        }
    }
}
