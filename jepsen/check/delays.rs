//! Fixed delays: never two actions that are not over, and the next one comes so long
//! after the end of the last, retries included, not sooner and not much later.

use std::collections::BTreeMap;

use super::Checked;
use super::claims::{Horizon, earliest, edge, millis_of};
use super::deadlines::deadline;
use super::records::Records;
use super::timeline::{Life, lives};
use crate::store::{Evidence, Said};
use crate::time::shown;

/// An action, as its job wrote it.
#[derive(Debug, Clone, Default)]
struct Action {
    run: String,
    /// Milliseconds of the first start.
    start: i64,
    /// Milliseconds of the last line.
    last: i64,
    /// Milliseconds of the end that was good.
    end: Option<i64>,
}

/// The verdict.
pub(crate) fn check(evidence: &Evidence, records: &Records) -> Checked {
    let promise = "an action with a fixed delay comes so long after the end of the last";
    let mut checked = Checked::new("delays", promise);
    for what in ["overlap", "too early", "too late", "stopped"] {
        checked.count(what, 0);
    }
    let Some(lives) = checked.taken(lives(evidence)) else { return checked };
    let delayed: BTreeMap<&String, &Life> =
        lives.iter().filter(|(_, life)| life.has_delay()).collect();
    let mut actions: BTreeMap<(&str, i64), Action> = BTreeMap::new();
    // Lines come in the order of time: the first of an attempt is its begin.
    let mut begun: BTreeMap<(&str, u32), u64> = BTreeMap::new();
    for line in evidence.witness.iter().filter(|line| delayed.contains_key(&line.job)) {
        let Some(nominal) = line.nominal_ms().filter(|_| !line.action.is_empty()) else { continue };
        let at = line.utc_ms();
        let action = actions.entry((&line.job, nominal)).or_insert_with(|| Action {
            run: line.run.clone(),
            start: at,
            ..Action::default()
        });
        if action.run != line.run {
            let told = format!("{} and {} ran for {}", action.run, line.run, shown(nominal));
            checked.wrong("overlap", &line.job, told, line.t);
        }
        let from = *begun.entry((&line.run, line.attempt)).or_insert(line.t);
        // What a frozen lease could not end in time lives on a little, as documented.
        if evidence.outlived_lease(&line.worker, from, line.t) {
            continue;
        }
        action.last = action.last.max(at);
        if line.e == Said::End && line.exit == Some(0) {
            action.end = Some(action.end.map_or(at, |end: i64| end.min(at)));
        }
    }
    for (job, life) in delayed {
        if life.changes.iter().any(|c| c.after.exists && c.after.triggers.len() != 1) {
            checked.damaged(format!("{job} has other triggers, too"));
            continue;
        }
        let of = actions.range((job.as_str(), i64::MIN)..=(job, i64::MAX));
        let of: Vec<(i64, &Action)> = of.map(|((_, nominal), action)| (*nominal, action)).collect();
        Judge { evidence, records, job, life }.judge(&mut checked, &of);
    }
    checked
}

struct Judge<'a> {
    evidence: &'a Evidence,
    records: &'a Records,
    job: &'a str,
    life: &'a Life,
}

impl Judge<'_> {
    fn judge(&self, checked: &mut Checked, actions: &[(i64, &Action)]) {
        let bound = millis_of(self.evidence.test.clock_bound_ms);
        let mut wrong = |what: &str, told: String, at: i64| {
            checked.wrong(what, self.job, told, self.evidence.mono_of_utc(at));
        };
        for (nominal, action) in actions {
            if action.start < nominal - bound {
                let told = format!("{} began before {}", action.run, shown(*nominal));
                wrong("too early", told, action.start);
            }
        }
        for pair in actions.windows(2) {
            let [(_, before), (nominal, action)] = pair else { continue };
            if action.start < before.last {
                let told = format!("{} began, and {} was not over", action.run, before.run);
                wrong("overlap", told, action.start);
            }
            let Some((end, delay)) = self.expected(before, action.start) else { continue };
            // The end was known after it was there; but cluster time may be behind the
            // clock on the wall by as much as instants near a change may be off.
            if *nominal < earliest(self.evidence, end, end) + delay {
                let told = format!("{} is {} ms after the end", shown(*nominal), nominal - end);
                wrong("too early", told, action.start);
            }
            // Under a fault that never healed there is no last time.
            let known = deadline(self.evidence, end);
            let is_late = *nominal > known.saturating_add(delay + 1_000);
            if is_late && self.evidence.test.judges_times() && !self.is_misfire(end, *nominal) {
                let told = format!("{} is {} ms after the end", shown(*nominal), nominal - end);
                wrong("too late", told, action.start);
            }
        }
        checked.count("delays", actions.len().saturating_sub(1));
        self.judge_end(checked, actions.last().map(|(_, action)| *action));
    }

    /// After the last one there must have been another, if there was time for it.
    fn judge_end(&self, checked: &mut Checked, last: Option<&Action>) {
        let horizon = Horizon::of(self.evidence).last;
        let begun = self.life.changes.iter().find(|change| change.after.exists);
        let Some(begun) = begun else { return };
        let nothing = Action { end: Some(begun.at.to), ..Action::default() };
        let Some((end, delay)) = self.expected(last.unwrap_or(&nothing), horizon) else { return };
        let due = deadline(self.evidence, end).saturating_add(delay + 1_000);
        if deadline(self.evidence, due) < horizon {
            let told =
                format!("nothing came after {}, {} ms before the end", shown(end), horizon - end);
            checked.wrong("stopped", self.job, told, self.evidence.mono_of_utc(end));
        }
    }

    /// The end from which the next one is counted, and the delay; none where a change
    /// came between, or nobody knows the end.
    fn expected(&self, before: &Action, until: i64) -> Option<(i64, i64)> {
        let (end, edge) = (before.end?, edge(self.evidence));
        let is_between = |at: i64| at.saturating_add(edge) > before.start && at < until + edge;
        let changed = self.life.changes.iter().any(|change| {
            is_between(change.at.from)
                || is_between(change.at.to)
                || (change.at.from <= before.start && change.at.to > until)
        });
        if changed && before.start > 0 {
            return None;
        }
        let now = self.life.changes.iter().rev().find(|change| change.at.from <= until)?;
        let after = &now.after;
        let is_open = after.exists && !after.is_paused() && !after.frozen && now.at.is_known();
        let delay = after.triggers.first().and_then(crate::rules::Rule::delay);
        // Before the first action only the change that made the job may have come.
        let alone = before.start > 0 || self.life.changes.len() == 1;
        delay.filter(|_| is_open && alone).map(|delay| (end, delay))
    }

    fn is_misfire(&self, from: i64, to: i64) -> bool {
        let all = self.records.missed.get(self.job).into_iter().flatten();
        all.into_iter()
            .any(|range| range.reason == "misfire" && range.to >= from && range.from <= to)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::planted::{BASE_UTC, Planted};
    use super::*;
    use crate::history::Kind;

    /// A job with a delay of two seconds whose actions take 300 ms; `starts` in
    /// milliseconds, for the second they lie in. Judged up to 30 s.
    fn planted(starts: &[i64]) -> Planted {
        let mut planted = Planted::new();
        let job =
            json!({"definition": {"name": "d", "triggers": [{"name": "t", "fixed_delay": "2s"}]}});
        planted.op(1_000, Some(1_010), "apply", "d", job, Kind::Ok, json!({}));
        for (start, run) in starts.iter().zip(1..) {
            let nominal = Some(start / 1_000 * 1_000);
            planted.line(*start, Said::Start, "d", nominal, run, 1);
            planted.line(start + 300, Said::End, "d", nominal, run, 1);
        }
        planted
    }

    fn found(mut planted: Planted) -> Vec<String> {
        let utc = json!({"utc": BASE_UTC + 30_000});
        planted.op(30_000, Some(30_001), "horizon", "", json!(null), Kind::Ok, utc);
        let mut evidence = planted.evidence();
        evidence.test.late_ms = 3_000;
        let checked = check(&evidence, &Records::of(&evidence));
        checked.findings.into_iter().map(|finding| finding.what).collect()
    }

    const GOOD: [i64; 9] = [4_010, 7_010, 10_010, 13_010, 16_010, 19_010, 22_010, 25_010, 28_010];
    const NONE: [&str; 0] = [];

    #[test]
    fn delays_that_are_kept_are_accepted() {
        assert_eq!(found(planted(&GOOD)), NONE);
        // The end of the test is too near for another.
        assert_eq!(found(planted(&GOOD[..8])), NONE);
        // A retry counts to the action, and the next one from its end.
        let mut retried = planted(&GOOD[..2]);
        retried.line(9_000, Said::Start, "d", Some(7_000), 2, 2);
        retried.line(9_400, Said::End, "d", Some(7_000), 2, 2);
        for (start, run) in [12_010, 15_010, 18_010, 21_010, 24_010, 27_010].into_iter().zip(9..) {
            retried.line(start, Said::Start, "d", Some(start - 10), run, 1);
            retried.line(start + 100, Said::End, "d", Some(start - 10), run, 1);
        }
        // The first try of it did not end well.
        let first = found_first_try_failed(retried);
        assert_eq!(first, NONE);
    }

    fn found_first_try_failed(mut planted: Planted) -> Vec<String> {
        planted.edit_lines(|line| {
            if line.run == "r-2" && line.attempt == 1 && line.e == Said::End {
                line.exit = Some(1);
            }
        });
        found(planted)
    }

    #[test]
    fn each_kind_of_bad_delay_is_found() {
        // One second after the end instead of two.
        let early =
            [&GOOD[..2], &[8_010, 11_010, 14_010, 17_010, 20_010, 23_010, 26_010, 29_010]].concat();
        assert_eq!(found(planted(&early)), ["too early"]);
        let mut overlap = planted(&GOOD);
        overlap.line(10_200, Said::Tick, "d", Some(7_000), 2, 1);
        assert_eq!(found(overlap), ["overlap"]);
        let mut twice = planted(&GOOD);
        twice.line(7_100, Said::Start, "d", Some(7_000), 99, 1);
        assert_eq!(found(twice), ["overlap"]);
        let late = [&GOOD[..2], &[18_010, 21_010, 24_010, 27_010]].concat();
        assert_eq!(found(planted(&late)), ["too late"]);
        assert_eq!(found(planted(&GOOD[..4])), ["stopped"]);
        let mut broken = planted(&GOOD[..4]);
        broken.fault_until(14_000, None, "kill-leader");
        assert_eq!(found(broken), NONE, "under a fault that never healed");
        assert_eq!(found(planted(&[])), ["stopped"]);
    }

    #[test]
    fn what_a_frozen_lease_could_not_end_may_live_on_a_little() {
        let frozen = |who: &str, lasts: i64| {
            let mut planted = planted(&GOOD);
            // The first try of the second action, whose worker was frozen meanwhile.
            planted.line(7_000, Said::Start, "d", Some(7_000), 2, 0);
            planted.line(18_010, Said::Tick, "d", Some(7_000), 2, 0);
            planted.edit_lines(|line| {
                line.worker = if line.attempt == 0 { "w1" } else { "w2" }.to_owned();
            });
            planted.fault_on(18_000 - lasts, Some(18_000), "worker-freeze", json!({"who": [who]}));
            found(planted)
        };
        assert_eq!(frozen("w1", 10_900), NONE);
        assert_eq!(frozen("w2", 10_900), ["overlap"], "the one that was not frozen");
        assert_eq!(frozen("w1", 1_000), ["overlap"], "not for longer than the margin");
    }

    #[test]
    fn an_end_is_earlier_where_cluster_time_was_behind() {
        let early = [&GOOD[..2], &[8_010, 11_010, 14_010, 17_010, 20_010, 23_010, 26_010]].concat();
        let told = |behind: i64| {
            let mut planted = planted(&early);
            for at in (0..30).map(|n| n * 1_000 + 7) {
                planted.poll(at, "n1", 3, 7, "h");
            }
            let polls = planted.polls.iter_mut();
            polls.for_each(|poll| poll.time = shown(poll.utc - behind).into());
            found(planted)
        };
        assert_eq!(told(0), ["too early"]);
        assert_eq!(told(900), NONE);
    }

    #[test]
    fn a_pause_explains_what_is_late_and_nothing_else() {
        let paused = |starts: &[i64]| {
            let mut planted = planted(starts);
            let key = |key: &str| json!({"key": key});
            planted.op(8_000, Some(8_010), "pause", "d", key("p"), Kind::Ok, json!(null));
            planted.op(20_000, Some(20_010), "resume", "d", key("r"), Kind::Ok, json!(null));
            found(planted)
        };
        assert_eq!(paused(&[4_010, 7_010, 22_010, 25_010, 28_010]), NONE);
        assert_eq!(paused(&[4_010, 7_010, 22_010, 23_010, 26_010, 29_010]), ["too early"]);
    }
}
