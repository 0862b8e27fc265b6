//! Which instants each trigger of a job claims, and what had to become of them.
//!
//! Made of spans and of nothing that the cluster says, but for one thing: where a
//! rule is several that it may be, what ran says which one it is.

use std::collections::{BTreeMap, BTreeSet};

use super::deadlines::deadline;
use super::raft::behind_ms;
use super::spans::{Hold, Span};
use super::timeline::Life;
use crate::rules::Policy;
use crate::store::{Evidence, Line};

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
