//! The batches of one job, from its cursors, its rules and its upstream jobs.
//!
//! Pure. No instant is planned beyond what the upstream jobs are planned to, so that
//! an upstream action can never appear behind a dependant's cursor. What a job waits
//! for is computed from definitions ([`horai_core::derivation`]); what is there decides
//! only whether an upstream action can still come.

use horai_core::derivation::plans::Plans;
use horai_core::derivation::{self, EdgeMatch, Found};
use horai_core::ids::{ActionKey, JobId};
use horai_core::machine::command::{PlanBatch, PlanSource, PlannedAction};
use horai_core::machine::state::State;
use horai_core::model::edge::{EdgeSpec, NoMatch};
use horai_core::model::job::{Job, JobSpec, TriggerSpec};
use horai_core::mutants::{self, Mutant};
use horai_core::time::UtcMillis;
use horai_core::timing::plan::{
    Limits, Plan, TriggerSource, UpstreamAction, UpstreamActions, derive, plan_delay, plan_trigger,
};
use horai_core::timing::schedule::{Context, Schedule, ScheduleError};

use crate::error::chain;

/// Upstream actions looked at in one go; a longer list is worked off in several.
const UPSTREAM_ACTIONS: usize = 2_000;
/// Instants computed in one go, of all jobs that a job rests on: a long outage of jobs
/// that fire each second is worked off day by day.
const COMPUTED: usize = 200_000;

/// What still fits into the command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Actions.
    pub(super) actions: usize,
    /// Encoded bytes, by estimate.
    pub(super) bytes: usize,
}

impl Room {
    /// Of an action without upstreams, encoded.
    pub(super) const ACTION: usize = 16;
    /// Of each upstream of an action.
    const UPSTREAM: usize = 12;
    /// Of a batch without its trigger's name: numbers and a missed range.
    const BATCH: usize = 80;

    /// The most actions with so many upstreams that fit; at least one, so that
    /// whatever the definition, planning gets on.
    fn most(self, upstreams: usize) -> usize {
        let each = Self::ACTION + Self::UPSTREAM * upstreams;
        self.actions.min((self.bytes / each).max(1))
    }

    /// With less than this a command is closed rather than a window cut.
    pub(super) fn is_small(&self) -> bool {
        self.actions < Limits::MAX_AHEAD || self.bytes < Limits::MAX_AHEAD * Self::ACTION
    }

    /// What an action takes.
    fn bytes_of(planned: &PlannedAction) -> usize {
        let edges = planned.upstream.len() + planned.unmatched.len();
        Self::ACTION + Self::UPSTREAM * edges
    }

    fn take(&mut self, batch: &PlanBatch) {
        let name = match &batch.source {
            PlanSource::Trigger(name) => name.0.len(),
            PlanSource::Dependencies => 0,
        };
        let actions: usize = batch.actions.iter().map(Self::bytes_of).sum();
        let bytes = Self::BATCH + 2 * name + actions;
        self.actions = self.actions.saturating_sub(batch.actions.len());
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// What is proposed for one job.
#[derive(Debug, Default)]
pub(super) struct JobPlan {
    /// One for each source that has something.
    pub(super) batches: Vec<PlanBatch>,
    /// When to look again once they are applied; none: when something changes.
    pub(super) again: Option<UtcMillis>,
}

impl JobPlan {
    fn look_again(&mut self, at: Option<UtcMillis>) {
        self.again = match (self.again, at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}

/// Where a definition takes its instants from, in the order of the definition.
pub(super) fn sources(spec: &JobSpec) -> impl Iterator<Item = PlanSource> {
    let is_derived = spec.triggers.is_empty() && !spec.depends_on.is_empty();
    let enabled = spec.triggers.iter().filter(|trigger| trigger.enabled);
    is_derived
        .then_some(PlanSource::Dependencies)
        .into_iter()
        .chain(enabled.map(|trigger| PlanSource::Trigger(trigger.name.clone())))
}

/// Why a job cannot be planned.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// One of its triggers.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// What it waits for.
    #[error(transparent)]
    Derivation(#[from] derivation::Error),
    /// It would wait for more than an action can hold.
    #[error(
        "its action at {nominal} would wait for {found} upstream actions, and one can wait for {}: \
         match fewer, or give it a shorter period",
        PlannedAction::MAX_UPSTREAM
    )]
    TooManyUpstream {
        /// The action's instant.
        nominal: UtcMillis,
        /// How many.
        found: usize,
    },
}

/// Plans a job; also says what is wrong with it. What is right is planned all the same.
pub(super) fn plan_job(
    state: &State,
    plans: &mut Plans<'_>,
    job: JobId,
    now: UtcMillis,
    limits: Limits,
    room: &mut Room,
) -> (JobPlan, Option<String>) {
    let mut plan = JobPlan::default();
    let is_free = |job: &&Job| state.hold_of(job).is_none();
    let Some(job) = state.job(job).filter(is_free) else { return (plan, None) };
    if job.spec.triggers.is_empty() {
        let batch = if job.spec.copies_instants() {
            Ok(copied(state, job, *room))
        } else {
            derived(state, plans, job, *room)
        };
        return match batch {
            Ok(Some(batch)) => {
                room.take(&batch);
                plan.batches.push(batch);
                plan.look_again(Some(now));
                (plan, None)
            }
            Ok(None) => (plan, None),
            Err(error) => (plan, Some(chain(&error))),
        };
    }
    let mut trouble = None;
    for trigger in job.spec.triggers.iter().filter(|trigger| trigger.enabled) {
        let is_first = plan.batches.is_empty();
        if room.most(job.spec.depends_on.len()) == 0 || (room.is_small() && !is_first) {
            plan.look_again(Some(now));
            break;
        }
        match triggered(state, plans, (job, trigger), now, limits, *room) {
            Ok(Plan { batch, again }) => {
                if let Some(batch) = batch {
                    room.take(&batch);
                    plan.batches.push(batch);
                }
                plan.look_again(again);
            }
            Err(error) => {
                trouble = Some(format!("trigger {:?}: {}", trigger.name.0, chain(&error)))
            }
        }
    }
    (plan, trouble)
}

fn triggered(
    state: &State,
    plans: &mut Plans<'_>,
    (job, trigger): (&Job, &TriggerSpec),
    now: UtcMillis,
    limits: Limits,
    room: Room,
) -> Result<Plan, Trouble> {
    let nothing = Plan { batch: None, again: None };
    let source = PlanSource::Trigger(trigger.name.clone());
    let cursor = state.cursor(job.id, &source);
    let Some((from, settings)) = cursor.zip(state.settings()) else { return Ok(nothing) };
    if from == UtcMillis::MAX || state.is_source_at_rest(job, &source) {
        return Ok(nothing);
    }
    let is_delay = trigger.kind.fixed_delay().is_some();
    let waits = is_delay && !mutants::on(Mutant::FixedDelayOverlaps);
    if waits && state.unfinished_of(job.id, &trigger.name).is_some() {
        // Its end moves the cursor, and that is heard of.
        return Ok(nothing);
    }
    let context = Context {
        job: job.id,
        job_zone: job.spec.zone.as_deref(),
        default_zone: &settings.default_zone,
        anchor: job.created,
        calendars: &|name| state.calendar(name).map(|calendar| &calendar.def),
    };
    let schedule = Schedule::read(trigger, context)?;
    let of = TriggerSource {
        job: job.id,
        revision: job.revision,
        trigger: &trigger.name,
        schedule: &schedule,
        misfire: trigger.misfire,
    };
    let limits = Limits { max_actions: room.most(job.spec.depends_on.len()), ..limits };
    let plan = if is_delay { plan_delay } else { plan_trigger };
    let mut plan = plan(of, from, now, limits);
    if plan.batch.is_none() && plan.again.is_none() {
        // No instant is left. The cursor says so, because others wait until
        // all cursors have passed: retention, and jobs that depend on this one.
        plan.batch = Some(PlanBatch {
            job: job.id,
            revision: job.revision,
            source,
            from,
            through: UtcMillis::MAX,
            actions: Vec::new(),
            missed: None,
        });
        return Ok(plan);
    }
    if plan.again.is_none() && !is_delay {
        // The last instant is in this batch; then the cursor goes to the end.
        plan.again = Some(now);
    }
    if !job.spec.depends_on.is_empty() {
        wait_for_upstreams(state, plans, (job, is_delay), now, &mut plan, room)?;
    }
    Ok(plan)
}

/// What instants of a job with triggers wait for. One for which an edge finds nothing,
/// and needs to, has no action; but a delay goes on from the end of its last action, so
/// there it is one that is skipped.
fn wait_for_upstreams(
    state: &State,
    plans: &mut Plans<'_>,
    (job, is_delay): (&Job, bool),
    now: UtcMillis,
    plan: &mut Plan,
    room: Room,
) -> Result<(), Trouble> {
    let Some(batch) = &mut plan.batch else { return Ok(()) };
    let reach = reach(state, job);
    if batch.through > reach {
        // The rest comes when the slowest upstream job has been planned on:
        // that is an event of its own.
        plan.again = None;
        let is_missed_beyond = batch.missed.as_ref().is_some_and(|missed| missed.to > reach);
        if is_missed_beyond || reach <= batch.from {
            plan.batch = None;
            return Ok(());
        }
        // Up to there it has no other instants, and jobs that wait for this one
        // need not wait for its next.
        batch.actions.retain(|action| action.nominal <= reach);
        batch.through = reach;
    }
    let instants: Vec<UtcMillis> = batch.actions.iter().map(|action| action.nominal).collect();
    let found = plans.at(job.id, &instants)?;
    let (mut kept, mut bytes) = (Vec::with_capacity(instants.len()), room.bytes);
    for (mut action, edges) in std::mem::take(&mut batch.actions).into_iter().zip(found) {
        let lacks = |edge: &EdgeMatch| edge.found == Found::None(NoMatch::Skips);
        let needs = |edge: &EdgeMatch| job.spec.edge_to(edge.job).is_some_and(EdgeSpec::needs_one);
        if !is_delay && edges.iter().any(|edge| lacks(edge) && needs(edge)) {
            continue;
        }
        wait_for(state, job, &mut action, &edges)?;
        let takes = Room::bytes_of(&action);
        if takes > bytes && !kept.is_empty() {
            // What does not fit comes with the next command.
            batch.through = kept.last().map_or(batch.from, |last: &PlannedAction| last.nominal);
            plan.again = Some(now);
            break;
        }
        bytes = bytes.saturating_sub(takes);
        kept.push(action);
    }
    batch.actions = kept;
    Ok(())
}

/// Up to where the job may be planned.
fn reach(state: &State, job: &Job) -> UtcMillis {
    let bounds = job.spec.depends_on.iter().filter(|edge| state.is_bound_by(job.id, edge));
    bounds.map(|edge| state.planned_through(edge.job)).min().unwrap_or(UtcMillis::MAX)
}

/// Notes what an action waits for: of what its edges found, what is there or may come.
fn wait_for(
    state: &State,
    job: &Job,
    action: &mut PlannedAction,
    edges: &[EdgeMatch],
) -> Result<(), Trouble> {
    for found in edges {
        let Some(edge) = job.spec.edge_to(found.job) else { continue };
        let key = |nominal| ActionKey { job: edge.job, nominal };
        let before = action.upstream.len();
        let mut none = NoMatch::from(edge.on_no_match);
        if state.looks_at_actions(edge) {
            let mut known = state.actions_of(edge.job, UtcMillis(i64::MIN), action.nominal);
            action.upstream.extend(known.next_back().map(|(key, _)| key));
        } else {
            match &found.found {
                Found::These(instants) => {
                    let keys = instants.iter().map(|at| key(*at));
                    action.upstream.extend(keys.filter(|key| state.may_come(*key)));
                }
                Found::None(what) => none = *what,
            }
        }
        if action.upstream.len() == before {
            // The one that it needs was left out, or taken away by an edit.
            let none = if edge.needs_one() { NoMatch::Skips } else { none };
            action.unmatched.push((edge.job, none));
        }
    }
    let (nominal, found) = (action.nominal, action.upstream.len());
    if found > PlannedAction::MAX_UPSTREAM {
        return Err(Trouble::TooManyUpstream { nominal, found });
    }
    Ok(())
}

/// Actions of a job without triggers, as its base job's rules give them.
fn derived(
    state: &State,
    plans: &mut Plans<'_>,
    job: &Job,
    room: Room,
) -> Result<Option<PlanBatch>, Trouble> {
    let Some(from) = state.cursor(job.id, &PlanSource::Dependencies) else { return Ok(None) };
    let reach = reach(state, job);
    if reach <= from {
        return Ok(None);
    }
    let after = |at: UtcMillis| UtcMillis(at.0.saturating_add(1));
    // Where no upstream job has further instants, the last one is among their actions.
    let last = || {
        let last = |edge: &EdgeSpec| state.actions_of(edge.job, from, UtcMillis::MAX).next_back();
        let last = job.spec.depends_on.iter().filter_map(last).map(|(key, _)| key.nominal);
        last.max().unwrap_or(from)
    };
    let end = if reach == UtcMillis::MAX { last() } else { reach };
    let (found, known) = plans.between_in_part(job.id, (after(from), after(end)), COMPUTED)?;
    let mut batch = PlanBatch {
        job: job.id,
        revision: job.revision,
        source: PlanSource::Dependencies,
        from,
        // All up to there was looked at, and jobs that wait for this one need not wait
        // for its next.
        through: if known > end { reach } else { UtcMillis(known.0 - 1) },
        actions: Vec::new(),
        missed: None,
    };
    let mut bytes = room.bytes;
    for action in found {
        let Some(base) = action.edges.first() else { continue };
        let base = ActionKey { job: base.job, nominal: action.nominal };
        if !state.may_come(base) {
            continue;
        }
        let above = state.action(base);
        let mut planned = PlannedAction {
            nominal: action.nominal,
            due: above.map_or(action.due, |above| above.due),
            upstream: Vec::new(),
            catch_up: above.is_some_and(|above| above.catch_up),
            unmatched: Vec::new(),
        };
        wait_for(state, job, &mut planned, &action.edges)?;
        let takes = Room::bytes_of(&planned);
        let is_full = batch.actions.len() >= room.actions || takes > bytes;
        if let Some(last) = batch.actions.last().filter(|_| is_full) {
            batch.through = last.nominal;
            break;
        }
        bytes = bytes.saturating_sub(takes);
        batch.actions.push(planned);
    }
    Ok((batch.through > from).then_some(batch))
}

/// Actions of a job whose instants are those that all its upstream jobs have: they are
/// read off what is there.
fn copied(state: &State, job: &Job, room: Room) -> Option<PlanBatch> {
    let edges = &job.spec.depends_on;
    let first = edges.first()?;
    let from = state.cursor(job.id, &PlanSource::Dependencies)?;
    let through: Vec<UtcMillis> =
        edges.iter().map(|edge| state.planned_through(edge.job)).collect();
    let reach = through.iter().copied().min()?;
    if reach <= from {
        return None;
    }
    let upstream_action = |key: ActionKey| {
        let action = state.action(key)?;
        let (nominal, due, catch_up) = (key.nominal, action.due, action.catch_up);
        Some(UpstreamAction { nominal, due, catch_up })
    };
    // Only instants of the first upstream job matter; the others are asked for those.
    let base: Vec<UpstreamAction> = state
        .actions_of(first.job, UtcMillis(from.0.saturating_add(1)), reach)
        .take(UPSTREAM_ACTIONS)
        .filter_map(|(key, _)| upstream_action(key))
        .collect();
    let actions: Vec<Vec<UpstreamAction>> = edges
        .iter()
        .map(|edge| {
            let keys = base.iter().map(|a| ActionKey { job: edge.job, nominal: a.nominal });
            keys.filter_map(upstream_action).collect()
        })
        .collect();
    let upstream: Vec<UpstreamActions<'_>> = edges
        .iter()
        .zip(through)
        .zip(&actions)
        .map(|((edge, through), actions)| UpstreamActions { job: edge.job, through, actions })
        .collect();
    let most = room.most(edges.len());
    let batch = derive(job.id, job.revision, &upstream, from, most);
    let is_cut = base.len() == UPSTREAM_ACTIONS
        || batch.as_ref().is_some_and(|batch| batch.actions.len() == most);
    if is_cut || reach == UtcMillis::MAX {
        return batch;
    }
    // Every upstream instant up to there was looked at, and jobs that wait for
    // this one need not wait for its next.
    let nothing = || PlanBatch {
        job: job.id,
        revision: job.revision,
        source: PlanSource::Dependencies,
        from,
        through: reach,
        actions: Vec::new(),
        missed: None,
    };
    Some(PlanBatch { through: reach, ..batch.unwrap_or_else(nothing) })
}
