//! What the log is asked for: from a cursor and the time to a batch of instants.
//!
//! Pure: the planner passes the replicated cursor and cluster time in and
//! proposes what comes out. Asked again with the same arguments it answers the
//! same, and with the cursor moved it never gives an instant twice. It decides
//! nothing about jobs that are paused or triggers that are disabled: those are
//! not asked about.

use std::collections::VecDeque;

use super::schedule::{Next, Schedule, at_most};
use crate::ids::{ActionKey, JobId, Revision, TriggerName};
use crate::machine::command::{PlanBatch, PlanSource, PlannedAction};
use crate::model::action::{Missed, MissedReason};
use crate::model::job::MisfirePolicy;
use crate::mutants::{self, Mutant};
use crate::time::{Span, UtcMillis};

/// Whose instants are planned, and how late ones are treated.
#[derive(Debug, Clone, Copy)]
pub struct TriggerSource<'a> {
    /// The job.
    pub job: JobId,
    /// The definition that `schedule` was read from.
    pub revision: Revision,
    /// The trigger's name.
    pub trigger: &'a TriggerName,
    /// Its rule and zone.
    pub schedule: &'a Schedule,
    /// What becomes of instants older than [`Limits::misfire_after`].
    pub misfire: MisfirePolicy,
}

/// How far a batch may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Instants up to this far ahead are always planned, within `max_ahead`.
    pub ahead: Span,
    /// The most instants planned ahead of now.
    pub max_ahead: usize,
    /// An instant later than this is a misfire.
    pub misfire_after: Span,
    /// The most actions of this batch.
    pub max_actions: usize,
}

impl Limits {
    /// How far ahead instants are always planned.
    pub const AHEAD: Span = Span::secs(15 * 60);
    /// The most instants of one trigger planned ahead.
    pub const MAX_AHEAD: usize = 64;

    /// The usual window, with the cluster's misfire threshold.
    #[must_use]
    pub fn new(misfire_after: Span) -> Self {
        Self {
            ahead: Self::AHEAD,
            max_ahead: Self::MAX_AHEAD,
            misfire_after,
            max_actions: PlanBatch::MAX_ACTIONS,
        }
    }
}

/// What to propose, and when to ask again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Nothing to propose if none.
    pub batch: Option<PlanBatch>,
    /// The time from which there will be something to propose once `batch` is
    /// applied; none if never. Not after `now` if the batch was cut short.
    pub again: Option<UtcMillis>,
}

impl Plan {
    const NEVER: Self = Self { batch: None, again: None };
}

/// `fire_all` runs no instants older than this.
pub const FIRE_ALL_SPAN: Span = Span::secs(24 * 60 * 60);
/// `fire_all` runs no more than this many, the latest ones.
pub const FIRE_ALL_COUNT: usize = 1_000;
/// The most instants looked at in one call: a long outage of a job that fires
/// each second is worked off in several batches, so that no call is long.
pub const MAX_LATE_STEPS: usize = 50_000;
/// No more late instants that calendars exclude are looked at in one call. Those of a
/// long outage should be seen together: a policy runs the latest that is not excluded.
pub const MAX_EXCLUDED_LATE: u32 = 50_000;
/// Ahead of now it is no more than these, about a day of minutes: a trigger that never
/// fires must not keep others waiting.
pub const MAX_EXCLUDED_AHEAD: u32 = 1_500;

/// Plans one trigger: late instants by its misfire policy, then those of the
/// window (at least the next one, `ahead` long, at most `max_ahead` of them).
///
/// A window is filled again when half of its instants are used up or it is
/// shorter than `ahead`, a third longer than it must be, so that a trigger
/// that fires each second costs one batch in half a minute.
#[must_use]
pub fn plan_trigger(
    source: TriggerSource<'_>,
    from: UtcMillis,
    now: UtcMillis,
    limits: Limits,
) -> Plan {
    let mut ahead = planned(source.schedule, from, now, limits);
    let looked_at_enough = from.minus(limits.ahead);
    if ahead.is_empty() && looked_at_enough > now {
        return Plan { batch: None, again: Some(looked_at_enough) };
    }
    let mut search = Search::new(source.schedule, now);
    let mut next = search.next(from);
    if next.is_none() && search.none_up_to.is_none() {
        return Plan::NEVER;
    }
    if let Some(again) = next.and_then(|next| refill_at(&ahead, next, limits))
        && again > now
    {
        return Plan { batch: None, again: Some(again) };
    }
    let mut builder = Builder::new(source, from, now, limits);
    // Late ones first: those that are misfires, then those that are just late.
    let mut late = LateInstants::new(source.misfire, now);
    let mut steps = 0;
    while let Some(instant) = next.filter(|t| now.since(*t) > limits.misfire_after) {
        if steps == MAX_LATE_STEPS {
            // The latest of a policy are not known yet: give up only those
            // that cannot be among them, and come back for the others.
            builder.miss(&late);
            return builder.finish(Some(now));
        }
        steps += 1;
        late.push(instant);
        next = search.next(instant);
    }
    builder.miss(&late);
    for instant in late.kept {
        if !builder.add(instant, true) {
            return builder.finish(Some(now));
        }
    }
    while let Some(instant) = next.filter(|t| *t <= now) {
        if !builder.add(instant, false) {
            return builder.finish(Some(now));
        }
        next = search.next(instant);
    }
    // Then the window. What was planned ahead before counts in it.
    let reach = now.plus(Span(limits.ahead.0.saturating_add(limits.ahead.0 / 3)));
    while let Some(instant) = next {
        let in_window = instant <= reach && ahead.len() < limits.max_ahead;
        if !ahead.is_empty() && !in_window {
            break;
        }
        if !builder.add(instant, false) {
            return builder.finish(Some(now));
        }
        ahead.push(instant);
        next = search.next(instant);
    }
    if let Some(to) = search.none_up_to {
        builder.pass(to);
        let again = refill_at(&ahead, to, limits).unwrap_or(to.minus(limits.ahead));
        return builder.finish(Some(again.max(now)));
    }
    let again = next.and_then(|next| refill_at(&ahead, next, limits));
    builder.finish(again)
}

/// Steps from instant to instant, and does not look for one for ever.
struct Search<'a> {
    schedule: &'a Schedule,
    now: UtcMillis,
    /// How many excluded ones may still be passed over behind now, and ahead of it.
    left: [u32; 2],
    /// There is none up to here, and it was not looked further.
    none_up_to: Option<UtcMillis>,
}

impl<'a> Search<'a> {
    fn new(schedule: &'a Schedule, now: UtcMillis) -> Self {
        let left = [MAX_EXCLUDED_LATE, MAX_EXCLUDED_AHEAD];
        Self { schedule, now, left, none_up_to: None }
    }

    fn next(&mut self, after: UtcMillis) -> Option<UtcMillis> {
        let Self { schedule, now, left, .. } = self;
        let passes = |at: UtcMillis| {
            let left = &mut left[usize::from(at > *now)];
            *left = left.saturating_sub(1);
            *left > 0
        };
        match schedule.look_after(after, UtcMillis::MAX, passes) {
            Next::At(at) => Some(at),
            Next::Never => None,
            Next::NoneUpTo(to) => {
                self.none_up_to = Some(to);
                None
            }
        }
    }
}

/// Plans a trigger that waits for the end of its last action, once that is over
/// and the cursor stands where it ended: one instant, and the next one when its
/// action is over.
///
/// There is never more than one that could be late, so `fire_all` and `fire_now`
/// run it; `skip` leaves it out, and counts the delay from now.
#[must_use]
pub fn plan_delay(
    source: TriggerSource<'_>,
    from: UtcMillis,
    now: UtcMillis,
    limits: Limits,
) -> Plan {
    let Some(mut instant) = source.schedule.next_after(from) else { return Plan::NEVER };
    if limits.max_actions == 0 {
        return Plan { batch: None, again: Some(now) };
    }
    let mut builder = Builder::new(source, from, now, limits);
    let is_misfire = |at: UtcMillis| now.since(at) > limits.misfire_after;
    if is_misfire(instant) && source.misfire == MisfirePolicy::Skip {
        let dropped = Some((instant, instant, 1));
        builder.miss(&LateInstants { dropped, ..LateInstants::new(source.misfire, now) });
        match source.schedule.next_after(now) {
            Some(next) => instant = next,
            None => return builder.finish(Some(now)),
        }
    }
    builder.add(instant, is_misfire(instant));
    builder.finish(None)
}

/// The instants that are planned ahead, as many as count.
fn planned(schedule: &Schedule, from: UtcMillis, now: UtcMillis, limits: Limits) -> Vec<UtcMillis> {
    let mut ahead = Vec::new();
    let mut last = now;
    // What was excluded when it was planned is passed over again.
    let mut passes = at_most(MAX_EXCLUDED_LATE);
    while last < from && ahead.len() < limits.max_ahead {
        let Next::At(at) = schedule.look_after(last, from, &mut passes) else { break };
        ahead.push(at);
        last = at;
    }
    ahead
}

/// When a window that holds `ahead` must be filled again with `next`: when the
/// last planned instant has come, or when `next` comes within reach and half of
/// the instants that may be planned are used up.
fn refill_at(ahead: &[UtcMillis], next: UtcMillis, limits: Limits) -> Option<UtcMillis> {
    let last = ahead.last()?;
    let half = limits.max_ahead / 2;
    // With more than half left, the one whose passing leaves half.
    let room = ahead.len().checked_sub(half + 1).map_or(UtcMillis(i64::MIN), |i| ahead[i]);
    Some(next.minus(limits.ahead).max(room).min(*last))
}

/// How many misfires a policy runs, and how old.
fn kept(policy: MisfirePolicy) -> (usize, Span) {
    let (all, one) = ((FIRE_ALL_COUNT, FIRE_ALL_SPAN), (1, Span(u64::MAX)));
    match policy {
        MisfirePolicy::FireAll if mutants::on(Mutant::FireAllRunsOne) => one,
        MisfirePolicy::FireAll => all,
        MisfirePolicy::FireNow if mutants::on(Mutant::FireNowRunsAll) => all,
        MisfirePolicy::FireNow => one,
        MisfirePolicy::Skip if mutants::on(Mutant::SkipRunsOne) => one,
        MisfirePolicy::Skip => (0, Span::ZERO),
    }
}

/// Misfires, of which a policy runs the latest.
struct LateInstants {
    policy: MisfirePolicy,
    now: UtcMillis,
    kept: VecDeque<UtcMillis>,
    dropped: Option<(UtcMillis, UtcMillis, u64)>,
}

impl LateInstants {
    fn new(policy: MisfirePolicy, now: UtcMillis) -> Self {
        Self { policy, now, kept: VecDeque::new(), dropped: None }
    }

    fn push(&mut self, instant: UtcMillis) {
        let (count, span) = kept(self.policy);
        self.kept.push_back(instant);
        while let Some(oldest) = self.kept.front().copied() {
            if mutants::on(Mutant::SilentMisfireCap) && self.kept.len() > 100 {
                self.kept.pop_front();
                continue;
            }
            if self.kept.len() <= count && self.now.since(oldest) <= span {
                break;
            }
            self.kept.pop_front();
            self.dropped = Some(match self.dropped {
                None => (oldest, oldest, 1),
                Some((first, _, dropped)) => (first, oldest, dropped + 1),
            });
        }
    }
}

/// A batch under construction.
struct Builder<'a> {
    batch: PlanBatch,
    schedule: &'a Schedule,
    trigger: TriggerName,
    now: UtcMillis,
    max_actions: usize,
}

impl<'a> Builder<'a> {
    fn new(source: TriggerSource<'a>, from: UtcMillis, now: UtcMillis, limits: Limits) -> Self {
        Self {
            batch: PlanBatch {
                job: source.job,
                revision: source.revision,
                source: PlanSource::Trigger(source.trigger.clone()),
                from,
                through: from,
                actions: Vec::new(),
                missed: None,
            },
            schedule: source.schedule,
            trigger: source.trigger.clone(),
            now,
            max_actions: limits.max_actions,
        }
    }

    /// Records what will not run; before any action is added.
    fn miss(&mut self, late: &LateInstants) {
        if let Some((from, to, count)) = late.dropped {
            self.batch.through = to;
            self.batch.missed = Some(Missed {
                job: self.batch.job,
                trigger: self.trigger.clone(),
                from,
                to,
                count,
                reason: MissedReason::by(late.policy),
                at: self.now,
            });
        }
    }

    /// False if the batch is full; the cursor then stays before `nominal`.
    fn add(&mut self, nominal: UtcMillis, catch_up: bool) -> bool {
        if self.batch.actions.len() >= self.max_actions {
            return false;
        }
        self.batch.through = nominal;
        self.batch.actions.push(PlannedAction {
            nominal,
            due: self.schedule.due(nominal),
            upstream: Vec::new(),
            catch_up,
            unmatched: Vec::new(),
        });
        true
    }

    /// There is nothing up to there.
    fn pass(&mut self, to: UtcMillis) {
        self.batch.through = self.batch.through.max(to);
    }

    fn finish(self, again: Option<UtcMillis>) -> Plan {
        let moves = self.batch.through > self.batch.from;
        Plan { batch: moves.then_some(self.batch), again }
    }
}

/// One upstream job's actions, for a job that depends on it.
#[derive(Debug, Clone, Copy)]
pub struct UpstreamActions<'a> {
    /// The upstream job.
    pub job: JobId,
    /// How far all of its own cursors have come.
    pub through: UtcMillis,
    /// Its actions after the dependant's cursor, ascending.
    pub actions: &'a [UpstreamAction],
}

/// What a derived action takes over from an upstream one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamAction {
    /// The instant it stands for.
    pub nominal: UtcMillis,
    /// When it may start.
    pub due: UtcMillis,
    /// Whether it goes behind what is due now.
    pub catch_up: bool,
}

/// Plans a job from its dependencies, given in the order of its definition:
/// one action for each action of the first upstream job whose nominal time
/// every other one has too, waiting for all of them.
///
/// Looks no further than the slowest upstream cursor, so that an upstream
/// action cannot appear behind the dependant's cursor. None if nothing lies
/// between; a batch without actions moves the cursor past instants that not
/// all have.
#[must_use]
pub fn derive(
    job: JobId,
    revision: Revision,
    upstream: &[UpstreamActions<'_>],
    from: UtcMillis,
    max_actions: usize,
) -> Option<PlanBatch> {
    let (first, others) = upstream.split_first()?;
    let reach = upstream.iter().map(|u| u.through).min()?;
    let mut through = from;
    let mut actions = Vec::new();
    let in_range = first.actions.iter().filter(|a| a.nominal > from && a.nominal <= reach);
    for base in in_range {
        let found: Option<Vec<UpstreamAction>> = others
            .iter()
            .map(|other| {
                let place = other.actions.binary_search_by_key(&base.nominal, |a| a.nominal);
                place.ok().map(|index| other.actions[index])
            })
            .collect();
        if let Some(found) = found {
            if actions.len() >= max_actions {
                break;
            }
            let due = found.iter().map(|a| a.due).fold(base.due, UtcMillis::max);
            actions.push(PlannedAction {
                nominal: base.nominal,
                due,
                upstream: upstream
                    .iter()
                    .map(|u| ActionKey { job: u.job, nominal: base.nominal })
                    .collect(),
                catch_up: base.catch_up || found.iter().any(|a| a.catch_up),
                unmatched: Vec::new(),
            });
        }
        through = base.nominal;
    }
    (through > from).then_some(PlanBatch {
        job,
        revision,
        source: PlanSource::Dependencies,
        from,
        through,
        actions,
        missed: None,
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
