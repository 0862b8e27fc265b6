//! The batches of one job, from its cursors, its rules and its upstream jobs.
//!
//! Pure, and blind to all jobs but this one and its direct upstreams. No
//! instant is planned beyond what the upstream jobs are planned to, so that an
//! upstream action can never appear behind a dependant's cursor.

use horai_core::ids::{ActionKey, JobId};
use horai_core::machine::command::{PlanBatch, PlanSource};
use horai_core::machine::state::State;
use horai_core::model::job::{Job, JobSpec, TriggerSpec};
use horai_core::mutants::{self, Mutant};
use horai_core::time::UtcMillis;
use horai_core::timing::plan::{
    Limits, Plan, TriggerSource, UpstreamAction, UpstreamActions, derive, plan_delay, plan_trigger,
};
use horai_core::timing::schedule::{Context, Schedule, ScheduleError};

/// Upstream actions looked at in one go; a longer list is worked off in several.
const UPSTREAM_ACTIONS: usize = 2_000;

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

    fn take(&mut self, batch: &PlanBatch) {
        let upstreams: usize = batch.actions.iter().map(|action| action.upstream.len()).sum();
        let name = match &batch.source {
            PlanSource::Trigger(name) => name.0.len(),
            PlanSource::Dependencies => 0,
        };
        let actions = batch.actions.len();
        let bytes = Self::BATCH + 2 * name + actions * Self::ACTION + upstreams * Self::UPSTREAM;
        self.actions = self.actions.saturating_sub(actions);
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

/// Plans a job; also says what is wrong with it. What is right is planned all the same.
pub(super) fn plan_job(
    state: &State,
    job: JobId,
    now: UtcMillis,
    limits: Limits,
    room: &mut Room,
) -> (JobPlan, Option<String>) {
    let mut plan = JobPlan::default();
    let is_free = |job: &&Job| state.hold_of(job).is_none();
    let Some(job) = state.job(job).filter(is_free) else { return (plan, None) };
    if job.spec.triggers.is_empty() {
        if let Some(batch) = derived(state, job, *room) {
            room.take(&batch);
            plan.batches.push(batch);
            plan.look_again(Some(now));
        }
        return (plan, None);
    }
    let mut trouble = None;
    for trigger in job.spec.triggers.iter().filter(|trigger| trigger.enabled) {
        let is_first = plan.batches.is_empty();
        if room.most(job.spec.depends_on.len()) == 0 || (room.is_small() && !is_first) {
            plan.look_again(Some(now));
            break;
        }
        match triggered(state, job, trigger, now, limits, *room) {
            Ok(Plan { batch, again }) => {
                if let Some(batch) = batch {
                    room.take(&batch);
                    plan.batches.push(batch);
                }
                plan.look_again(again);
            }
            Err(error) => trouble = Some(format!("trigger {:?}: {error}", trigger.name.0)),
        }
    }
    (plan, trouble)
}

fn triggered(
    state: &State,
    job: &Job,
    trigger: &TriggerSpec,
    now: UtcMillis,
    limits: Limits,
    room: Room,
) -> Result<Plan, ScheduleError> {
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
        wait_for_upstreams(state, job, &mut plan);
    }
    Ok(plan)
}

/// An instant of a job with triggers and dependencies waits for those upstream
/// actions that stand for the same instant.
fn wait_for_upstreams(state: &State, job: &Job, plan: &mut Plan) {
    let Some(batch) = &mut plan.batch else { return };
    let reach = job.spec.depends_on.iter().map(|edge| state.planned_through(edge.job)).min();
    let reach = reach.unwrap_or(UtcMillis::MAX);
    if batch.through > reach {
        // The rest comes when the slowest upstream job has been planned on:
        // that is an event of its own.
        plan.again = None;
        let is_missed_beyond = batch.missed.as_ref().is_some_and(|missed| missed.to > reach);
        if is_missed_beyond || reach <= batch.from {
            plan.batch = None;
            return;
        }
        // Up to there it has no other instants, and jobs that wait for this one
        // need not wait for its next.
        batch.actions.retain(|action| action.nominal <= reach);
        batch.through = reach;
    }
    for action in &mut batch.actions {
        let keys = job.spec.depends_on.iter();
        let keys = keys.map(|edge| ActionKey { job: edge.job, nominal: action.nominal });
        action.upstream = keys.filter(|key| state.action(*key).is_some()).collect();
    }
}

fn derived(state: &State, job: &Job, room: Room) -> Option<PlanBatch> {
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
