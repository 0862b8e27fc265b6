//! Until when something that was due is not late, whatever faults were there.

use super::claims::millis_of;
use crate::store::{Band, CORE_ALONE, DUTY, Evidence, JOURNAL_WIPED, Line, Poll, Said};
use crate::time::MS;

/// What is in the way of nothing that is due: a majority that was mended is at work, a
/// snapshot is written beside the work, and what one worker is not given another gets. All
/// other faults are of nodes, workers, links, disks, clocks or processors, and may be.
const IN_NO_WAY: [&str; 3] = [CORE_ALONE, "admin-snapshot", DUTY];
/// Faults that others overcome while they last, if a quorum is left: a node is gone or
/// cut off once, and workers still reach all others. What flaps, what slows links or
/// processors down, and what cuts workers off is over when it has healed.
const OVERCOME: [&str; 16] = [
    "kill-leader",
    "kill-one",
    "kill-gently",
    "freeze-leader",
    "freeze-one",
    "power-leader",
    "power-one",
    "power-torn-one",
    "partition-leader",
    "partition-out",
    "partition-in",
    "disk-",
    "member-",
    "node-",
    "damage-found",
    "admin-transfer",
];
/// How many faults one after the other may keep one instant waiting where a quorum is
/// left: the one that it met, and one that came while it was made up for.
const IN_A_ROW: usize = 2;

/// The last millisecond in which what was due is not late: [`TestInfo::late_ms`] after
/// it, or [`TestInfo::recover_ms`] after a fault that it met in this time, when
/// everything has to be as before. That counts from where the fault was [over](is_over).
///
/// With a quorum left all the time another fault may come while it is made up for, and
/// then it is made up for anew; once, or a test that breaks something every few seconds
/// would have no deadline at all. Without a quorum, or a processor, times are not judged:
/// there the answer says after what nothing more can come, whatever was in the way.
///
/// [`TestInfo::late_ms`]: crate::store::TestInfo::late_ms
/// [`TestInfo::recover_ms`]: crate::store::TestInfo::recover_ms
pub(crate) fn deadline(evidence: &Evidence, nominal: i64) -> i64 {
    let mut last = nominal.saturating_add(millis_of(evidence.test.late_ms));
    let links = if evidence.test.judges_times() { IN_A_ROW } else { usize::MAX };
    for _ in 0..links {
        let (from, to) = (evidence.mono_of_utc(nominal), evidence.mono_of_utc(last));
        let felt = evidence.felt.get_or_init(|| felt(evidence));
        let met = evidence.bands.iter().zip(felt).filter(|(band, _)| band.from <= to);
        let met = met.filter(|(_, until)| **until >= from).map(|(band, _)| band);
        let met = met.filter(|band| IN_NO_WAY.iter().all(|op| !band.op.starts_with(op)));
        let Some(over) = met.map(|band| is_over(evidence, band)).max() else { return last };
        if over == u64::MAX {
            return i64::MAX;
        }
        let over = evidence.utc_of_mono(over);
        let before = last;
        last = last.max(over.saturating_add(millis_of(evidence.test.recover_ms)));
        if last == before {
            return last;
        }
    }
    last
}

/// Faults that take the leader away.
const DEPOSING: [&str; 7] = [
    "kill-leader",
    "freeze-leader",
    "power-leader",
    "partition-leader",
    "partition-out",
    "partition-in",
    "member-lose-leader",
];

/// Of each band until when it is in the way of what is due.
fn felt(evidence: &Evidence) -> Vec<u64> {
    let firsts = |line: &&Line| line.e == Said::Start && line.attempt == 1;
    let starts = evidence.witness.iter().filter(firsts);
    let starts: Vec<(u64, u64)> = starts
        .filter_map(|line| Some((evidence.mono_of_utc(line.nominal_ms()?), line.t)))
        .collect();
    evidence.bands.iter().map(|band| felt_until(evidence, &starts, band)).collect()
}

/// Where a fault took the leader away it is felt until another was seen, though everything
/// may be mended before; and then until what had become due meanwhile was started, which
/// goes first. `starts` are instants and when they began.
fn felt_until(evidence: &Evidence, starts: &[(u64, u64)], band: &Band) -> u64 {
    // Without answers nobody knows who led; then nothing is excused by that.
    if !DEPOSING.contains(&band.op.as_str()) || evidence.polls.is_empty() {
        return band.to;
    }
    let leads = |poll: &&Poll| poll.ok && poll.leader.is_some();
    let (before, after): (Vec<&Poll>, Vec<&Poll>) =
        evidence.polls.iter().filter(leads).partition(|poll| poll.t < band.from);
    let term = before.iter().map(|poll| poll.term).max().unwrap_or(0);
    let led = after.iter().filter(|poll| poll.term > term).map(|poll| poll.t).min();
    // Everything has to be as before by then.
    let most = band.from.saturating_add(evidence.test.recover_ms.saturating_mul(MS));
    let led = led.unwrap_or(most).min(most);
    let waited = starts.iter().filter(|(due, _)| (band.from..=led).contains(due));
    let drained = waited.map(|(_, began)| *began).filter(|began| *began <= most).max();
    band.to.max(led).max(drained.unwrap_or(0))
}

/// From when on a fault is over, so that everything must soon be as before.
fn is_over(evidence: &Evidence, band: &Band) -> u64 {
    let overcome = OVERCOME.iter().any(|op| band.op.starts_with(op));
    if overcome && evidence.test.judges_times() {
        band.from
    } else if band.op == JOURNAL_WIPED {
        // Nobody knows what a worker without a journal had: it is waited for as if it were
        // silent.
        let lease = (evidence.test.lease_ms + evidence.test.lease_margin_ms) * MS;
        band.to.saturating_add(lease)
    } else {
        band.to
    }
}

#[cfg(test)]
mod tests {
    use super::super::planted::{BASE_UTC, Planted};
    use super::*;
    use crate::history::Kind;
    use crate::store::Regime;

    /// A fault every eight seconds, of five seconds each, for two minutes.
    fn broken(op: &str) -> Evidence {
        let mut planted = Planted::new();
        planted.op(0, Some(1), "x", "", serde_json::Value::Null, Kind::Ok, serde_json::Value::Null);
        (1..=15).for_each(|n| planted.fault(n * 8_000, n * 8_000 + 5_000, op));
        let mut evidence = planted.evidence();
        (evidence.test.late_ms, evidence.test.recover_ms) = (3_000, 30_000);
        evidence
    }

    #[test]
    fn what_a_worker_without_a_journal_had_is_waited_for() {
        let mut planted = Planted::new();
        planted.op(0, Some(1), "x", "", serde_json::Value::Null, Kind::Ok, serde_json::Value::Null);
        planted.fault(8_000, 13_000, JOURNAL_WIPED);
        let mut evidence = planted.evidence();
        (evidence.test.late_ms, evidence.test.recover_ms) = (3_000, 30_000);
        (evidence.test.lease_ms, evidence.test.lease_margin_ms) = (60_000, 10_000);
        assert_eq!(of(&evidence, 9_000), 13_000 + 70_000 + 30_000);
        assert_eq!(of(&evidence, 14_000), 17_000);
    }

    fn of(evidence: &Evidence, at: i64) -> i64 {
        deadline(evidence, BASE_UTC + at) - BASE_UTC
    }

    #[test]
    fn faults_in_a_row_excuse_what_they_are_in_the_way_of_and_not_everything_to_the_end() {
        // The fault of 8 s, and the last one before 38 s.
        assert_eq!(of(&broken("kill-leader"), 9_000), 32_000 + 30_000);
        // A worker is gone until it is back: until 13 s, and then that of 40 s.
        assert_eq!(of(&broken("worker-kill"), 9_000), 45_000 + 30_000);
        // Healed, but the next one comes before it is late.
        assert_eq!(of(&broken("worker-kill"), 13_500), 53_000 + 30_000);
        let mut calm = broken("kill-leader");
        calm.bands.truncate(1);
        assert_eq!((of(&calm, 2_000), of(&calm, 13_500)), (5_000, 16_500));
        assert_eq!(of(&calm, 8_000), 38_000);
    }

    #[test]
    fn without_a_leader_nothing_can_be_on_time_even_if_all_is_mended() {
        let mut planted = Planted::new();
        planted.op(0, Some(1), "x", "", serde_json::Value::Null, Kind::Ok, serde_json::Value::Null);
        planted.fault(8_000, 9_000, "kill-leader");
        for (at, term) in [(7_900, 1), (8_500, 1), (10_400, 2), (60_000, 3)] {
            planted.poll(at, "n2", term, 7, "");
        }
        let mut evidence = planted.evidence();
        (evidence.test.late_ms, evidence.test.recover_ms) = (3_000, 30_000);
        assert_eq!((of(&evidence, 10_300), of(&evidence, 10_500)), (38_000, 13_500));
        evidence.bands[0].op = "kill-one".to_owned();
        evidence.felt.take();
        assert_eq!(of(&evidence, 10_300), 13_300, "somebody else led all the time");
        // What became due before goes first; what comes after that is not in its way.
        evidence.bands[0].op = "kill-leader".to_owned();
        for (due, run, began) in [(9_500, 1, 12_600), (10_500, 2, 12_900)] {
            let mut planted = Planted::new();
            planted.line(began, Said::Start, "j", Some(due), run, 1);
            evidence.witness.extend(planted.evidence().witness);
        }
        evidence.felt.take();
        assert_eq!((of(&evidence, 12_500), of(&evidence, 12_700)), (38_000, 15_700));
        evidence.witness.clear();
        // Nobody was ever seen to lead again: that is no excuse for ever.
        evidence.bands[0].op = "kill-leader".to_owned();
        evidence.polls.truncate(2);
        evidence.felt.take();
        assert_eq!((of(&evidence, 37_000), of(&evidence, 39_000)), (40_000, 42_000));
    }

    #[test]
    fn without_a_quorum_the_deadline_is_where_nothing_more_can_come() {
        let mut brutal = broken("power-all");
        brutal.test.regime = Regime::Brutal;
        assert_eq!(of(&brutal, 9_000), 125_000 + 30_000);
        let mut busy = broken("kill-leader");
        busy.test.busy = "too busy".to_owned();
        assert_eq!(of(&busy, 9_000), 125_000 + 30_000);
        busy.bands[14].to = u64::MAX;
        busy.felt.take();
        assert_eq!(deadline(&busy, BASE_UTC + 9_000), i64::MAX);
    }

    #[test]
    fn what_a_node_is_gone_for_excuses_only_until_others_have_taken_over() {
        let mut long = broken("disk-dead");
        long.bands.truncate(1);
        long.bands[0].to += 100_000 * 1_000_000;
        assert_eq!((of(&long, 9_000), of(&long, 50_000)), (38_000, 53_000));
        long.bands[0].op = "partition-workers".to_owned();
        long.felt.take();
        assert_eq!(of(&long, 50_000), 143_000);
    }

    #[test]
    fn snapshots_and_a_majority_at_work_excuse_nothing() {
        for op in ["admin-snapshot", "admin-snapshot-leader", CORE_ALONE] {
            assert_eq!(of(&broken(op), 9_000), 12_000, "{op}");
        }
    }
}
