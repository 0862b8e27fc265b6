//! Which instants each trigger of a job claims, and what had to become of them.
//!
//! Made of spans and of nothing that the cluster says, but for one thing: where a
//! rule is several that it may be, what ran says which one it is.

use std::collections::{BTreeMap, BTreeSet};

use super::raft::behind_ms;
use super::spans::{Hold, Span};
use super::timeline::Life;
use crate::rules::Policy;
use crate::store::{Band, CORE_ALONE, Evidence, Line, Poll};
use crate::time::MS;

/// Cluster time is not wall time: a new leader goes on from what it last heard, which
/// may be the length of a message and a busy moment behind. An instant so close to a
/// change may be on either side of it; closer, if nodes told a time that was behind.
const EDGE_MS: i64 = 500;
/// Nodes are asked so often that one told its time within this of any change.
const ASKED_MS: i64 = 2_000;

/// [`EDGE_MS`], and what clocks that lie may add.
pub(super) fn edge(evidence: &Evidence) -> i64 {
    EDGE_MS.saturating_add(millis_of(evidence.test.clock_bound_ms))
}

/// From when on a change that was asked for between these may have been so, by the time
/// of the cluster.
pub(super) fn earliest(evidence: &Evidence, from: i64, to: i64) -> i64 {
    let asked = from.saturating_sub(ASKED_MS)..=to.saturating_add(ASKED_MS);
    from.saturating_sub(edge(evidence)).saturating_sub(behind_ms(evidence, asked))
}

/// An instant that a trigger had, or may have had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    /// It had it, and nothing may have taken it away.
    pub(crate) sure: bool,
    /// It passed in a pause so long ago that the trigger's policy left it out.
    pub(crate) never: bool,
    /// The last millisecond in which it is not late.
    pub(crate) deadline: i64,
    /// A pause held it.
    pub(crate) held: bool,
    /// A fault or an earlier pause kept it from being planned before a pause, perhaps, and
    /// then it was left out and recorded with the instants of the pause.
    pub(crate) given_up: bool,
    /// The trigger's policy.
    pub(crate) policy: Policy,
}

/// Claims of one job, by trigger and instant.
pub(crate) type Claims = BTreeMap<String, BTreeMap<i64, Claim>>;

/// When everything that was due must have happened, and what is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Horizon {
    /// Later instants may have happened.
    pub(crate) last: i64,
    /// No start is expected after it.
    pub(crate) end: i64,
}

impl Horizon {
    /// Of a test.
    pub(crate) fn of(evidence: &Evidence) -> Self {
        let lines = evidence.witness.last().map(Line::utc_ms);
        let rows = evidence.ops.last().map(|op| op.end.as_ref().unwrap_or(&op.ask).utc);
        let end = lines.unwrap_or(i64::MIN).max(rows.unwrap_or(i64::MIN));
        // Without a mark the test did not come to its end: nothing is certain to have
        // had its time.
        Self { last: evidence.horizon().unwrap_or(i64::MIN), end: end.saturating_add(1_000) }
    }
}

pub(super) fn millis_of(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// What is in the way of nothing that is due: a majority that was mended is at work, and
/// a snapshot is written beside the work. All other faults are of nodes, workers, links,
/// disks, clocks or processors, and may be.
const IN_NO_WAY: [&str; 2] = [CORE_ALONE, "admin-snapshot"];
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
        let met = (evidence.bands.iter())
            .filter(|band| band.from <= to && felt_until(evidence, band, from) >= from);
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
const DEPOSING: [&str; 6] = [
    "kill-leader",
    "freeze-leader",
    "power-leader",
    "partition-leader",
    "partition-out",
    "partition-in",
];

/// So many answers before a fault tell the newest term.
const LATELY: usize = 100;

/// Until when a fault is in the way of what was due at a moment: where it took the leader away, until another was
/// seen, though everything may be mended before.
fn felt_until(evidence: &Evidence, band: &Band, from: u64) -> u64 {
    if band.to >= from || !DEPOSING.contains(&band.op.as_str()) {
        return band.to;
    }
    // For longer than that nobody may be without one.
    let most = band.from.saturating_add(evidence.test.recover_ms.saturating_mul(MS));
    if most < from {
        return band.to;
    }
    let (before, after) =
        evidence.polls.split_at(evidence.polls.partition_point(|poll| poll.t < band.from));
    let leads = |poll: &&Poll| poll.ok && poll.leader.is_some();
    let lately = before.iter().rev().take(LATELY).filter(leads);
    let term = lately.map(|poll| poll.term).max().unwrap_or(0);
    let next = after.iter().filter(leads).find(|poll| poll.term > term);
    band.to.max(next.map_or(most, |poll| poll.t).min(most))
}

/// From when on a fault is over, so that everything must soon be as before.
fn is_over(evidence: &Evidence, band: &Band) -> u64 {
    let overcome = OVERCOME.iter().any(|op| band.op.starts_with(op));
    if overcome && evidence.test.judges_times() { band.from } else { band.to }
}

/// Instants of a span.
struct Given<'a> {
    span: &'a Span,
    /// For each of the rules that it may be.
    possible: Vec<BTreeSet<i64>>,
    /// All lie within these.
    reach: (i64, i64),
    /// Within these nothing may have taken them away.
    sure: (i64, i64),
}

impl<'a> Given<'a> {
    fn of(span: &'a Span, horizon: Horizon, evidence: &Evidence) -> Self {
        let edge = edge(evidence);
        // What a calendar changes is planned again from where it was planned to.
        let since = span.planned_from.unwrap_or(span.since);
        let from = earliest(evidence, since.from, since.to);
        let ended = span.until.map_or(i64::MAX, |until| until.to.saturating_add(edge));
        let anchor = (
            span.anchor.from.saturating_sub(edge),
            span.anchor.to.saturating_add(edge).min(horizon.end),
        );
        let reach = (from, ended.min(horizon.end));
        let possible = span.rule.instants(anchor, reach.0, reach.1);
        let sure = (
            span.since.to.saturating_add(edge),
            span.until.map_or(i64::MAX, |until| earliest(evidence, until.from, until.to)),
        );
        let possible = possible.into_iter().map(BTreeSet::from_iter).collect();
        Self { span, possible, reach, sure }
    }

    fn is_sure(&self, at: i64) -> bool {
        at > self.sure.0 && at < self.sure.1
    }

    fn may_have(&self, at: i64) -> bool {
        self.possible.iter().any(|one| one.contains(&at))
    }

    /// True if both count one rate from one commit: then they are one rule.
    fn is_one_with(&self, other: &Self) -> bool {
        let (own, other) = (self.span, other.span);
        (&own.rule.name, &own.rule.rate, own.anchor)
            == (&other.rule.name, &other.rule.rate, other.anchor)
    }
}

/// Leaves of all rules that each may be those that gave what ran: while nothing could
/// take anything away, and then near the changes that bound it.
fn settle(all: &mut [Given<'_>], ran: &BTreeSet<i64>, is_recorded: &dyn Fn(&str, i64) -> bool) {
    let mut settled = BTreeSet::new();
    for first in 0..all.len() {
        let count = all[first].possible.len();
        if count < 2 || settled.contains(&first) {
            continue;
        }
        let is_one =
            |at: &usize| all[*at].possible.len() == count && all[*at].is_one_with(&all[first]);
        let group: Vec<usize> = (first..all.len()).filter(is_one).collect();
        let name = &all[first].span.rule.name;
        let of_others =
            |at: &i64| all.iter().any(|other| other.span.rule.name != *name && other.may_have(*at));
        let near = |given: &Given<'_>| -> Vec<i64> {
            let (from, to) = given.reach;
            let near = ran.range(from..=to.max(from)).copied();
            near.filter(|at| !of_others(at)).collect()
        };
        let gave = |nth: usize, only_sure: bool| {
            group.iter().map(|at| &all[*at]).all(|given| {
                let mut ran = near(given).into_iter().filter(|at| !only_sure || given.is_sure(*at));
                ran.all(|at| given.possible[nth].contains(&at))
            })
        };
        let mut left: Vec<usize> = (0..count).filter(|nth| gave(*nth, true)).collect();
        if left.is_empty() || group.iter().all(|at| near(&all[*at]).is_empty()) {
            // One of them it was: what it gave did not run, or what ran it did not give.
            let expected = |nth: &usize| -> usize {
                let of = |given: &Given<'_>| {
                    let due = given.possible[*nth].iter().filter(|at| given.is_sure(**at));
                    due.filter(|at| !is_recorded(name, **at)).count()
                };
                group.iter().map(|at| of(&all[*at])).sum()
            };
            left = (0..count).min_by_key(expected).into_iter().collect();
        } else if left.iter().any(|nth| gave(*nth, false)) {
            left.retain(|nth| gave(*nth, false));
        }
        for at in group {
            let possible = std::mem::take(&mut all[at].possible).into_iter().enumerate();
            let kept = possible.filter(|(nth, _)| left.contains(nth)).map(|(_, one)| one);
            all[at].possible = kept.collect();
            settled.insert(at);
        }
    }
}

/// What all triggers of a job claim; `ran` are the instants that something ran for, and
/// of others a record may say that they were left out.
pub(crate) fn claims(
    evidence: &Evidence,
    life: &Life,
    horizon: Horizon,
    ran: &BTreeSet<i64>,
    is_recorded: &dyn Fn(&str, i64) -> bool,
) -> Claims {
    let mut all: Vec<Given<'_>> =
        life.spans.all.iter().map(|span| Given::of(span, horizon, evidence)).collect();
    settle(&mut all, ran, is_recorded);
    let gone = life.changes.iter().filter(|change| !change.after.exists);
    let gone: Vec<i64> = gone.map(|change| change.at.from).collect();
    let mut claims = Claims::new();
    for given in &all {
        let rule = &given.span.rule;
        let holds = life.spans.holds.get(&rule.name).map_or(&[][..], Vec::as_slice);
        let of_rule = claims.entry(rule.name.clone()).or_default();
        let instants: BTreeSet<i64> = given.possible.iter().flatten().copied().collect();
        for at in &instants {
            let in_all = given.possible.iter().all(|one| one.contains(at));
            let mut claim = Claim {
                sure: in_all && given.is_sure(*at) && *at <= horizon.last,
                never: false,
                deadline: deadline(evidence, at.saturating_add(rule.jitter)),
                held: false,
                given_up: false,
                policy: rule.policy,
            };
            if !claim.pass_faults(evidence, life, given.span, *at) {
                continue;
            }
            claim.pass_late(evidence, life, given, &instants, *at);
            claim.pass_holds(evidence, holds, *at);
            // What waits when its job is deleted is dropped.
            claim.sure &= !gone.iter().any(|gone| at < gone && claim.deadline >= *gone);
            let known = of_rule.entry(*at).or_insert(claim);
            if claim.sure && !known.sure {
                *known = claim;
            } else {
                known.never &= claim.never;
            }
        }
    }
    claims
}

impl Claim {
    /// What was not planned when its trigger changed, because of a fault, is planned by
    /// what the trigger is then, or given up. False if it is no instant of the span.
    fn pass_faults(&mut self, evidence: &Evidence, life: &Life, span: &Span, at: i64) -> bool {
        let alone =
            at.saturating_add(span.rule.jitter).saturating_add(millis_of(evidence.test.late_ms));
        let was_kept = self.deadline > alone || !evidence.test.busy.is_empty();
        if was_kept {
            self.pass_end(life, span);
        }
        let since = earliest(evidence, span.since.from, span.since.to);
        at >= since || (was_kept && self.deadline >= since)
    }

    /// It was not planned in time: the end of its span may have come first.
    fn pass_end(&mut self, life: &Life, span: &Span) {
        let Some(until) = span.until.filter(|until| self.deadline >= until.from) else { return };
        let mut pauses = life.spans.left_out.iter();
        self.given_up = pauses.any(|left| left.trigger == span.rule.name && left.from == until);
        self.sure &= self.given_up;
    }

    /// Pauses that its span went through, and after which it was planned late.
    fn pass_late(
        &mut self,
        evidence: &Evidence,
        life: &Life,
        given: &Given<'_>,
        instants: &BTreeSet<i64>,
        at: i64,
    ) {
        let (misfire, edge) = (millis_of(evidence.test.misfire_after_ms), edge(evidence));
        for (from, to) in &given.span.late {
            let is_in = at > from.from.saturating_sub(edge) && at <= to.to.saturating_add(edge);
            if !is_in {
                continue;
            }
            self.held = true;
            self.sure &= to.is_known();
            self.deadline = self.deadline.max(deadline(evidence, to.to));
            self.pass_end(life, given.span);
            let old = to.from.saturating_sub(edge).saturating_sub(misfire);
            let is_old = |at: i64| at > from.to.saturating_add(edge) && at < old;
            let later = instants.range(at + 1..).next();
            self.never |= is_old(at)
                && match self.policy {
                    Policy::All => false,
                    Policy::Now => later.is_some_and(|later| is_old(*later)),
                    Policy::Skip => true,
                };
        }
        self.sure &= !self.never;
    }

    /// Pauses that began before it had to run: it waited for their end, if there was one.
    fn pass_holds(&mut self, evidence: &Evidence, holds: &[Hold], at: i64) {
        for hold in holds {
            if at >= hold.from.from || self.deadline < hold.from.from {
                continue;
            }
            match hold.to.filter(|to| to.is_known()) {
                Some(to) => {
                    self.deadline = self.deadline.max(deadline(evidence, to.to));
                    self.held = true;
                }
                None => self.sure = false,
            }
        }
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
        assert_eq!(of(&evidence, 10_300), 13_300, "somebody else led all the time");
        // Nobody was ever seen to lead again: that is no excuse for ever.
        evidence.bands[0].op = "kill-leader".to_owned();
        evidence.polls.truncate(2);
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
        assert_eq!(deadline(&busy, BASE_UTC + 9_000), i64::MAX);
    }

    #[test]
    fn what_a_node_is_gone_for_excuses_only_until_others_have_taken_over() {
        let mut long = broken("disk-dead");
        long.bands.truncate(1);
        long.bands[0].to += 100_000 * 1_000_000;
        assert_eq!((of(&long, 9_000), of(&long, 50_000)), (38_000, 53_000));
        long.bands[0].op = "partition-workers".to_owned();
        assert_eq!(of(&long, 50_000), 143_000);
    }

    #[test]
    fn snapshots_and_a_majority_at_work_excuse_nothing() {
        for op in ["admin-snapshot", "admin-snapshot-leader", CORE_ALONE] {
            assert_eq!(of(&broken(op), 9_000), 12_000, "{op}");
        }
    }
}
