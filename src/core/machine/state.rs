//! The replicated state and how to read it.
//!
//! A clone is cheap and stays as it is: readers and snapshots take one and work
//! on it while the machine moves on. Only the commands in `apply` write.

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::command::PlanSource;
use super::index::{Ended, Index};
pub use super::limits::Limits;
use super::outcome::Outcome;
use super::table::{Table, record_hash};
use crate::ids::{
    ActionKey, BackfillId, GroupPath, Incarnation, JobId, LeaderId, Name, NodeId, Revision, RunId,
    Token, WorkerId,
};
use crate::model::access::{AccessToken, NodeRecord, TokenHash};
use crate::model::action::{Action, Missed};
use crate::model::backfill::{Backfill, BackfillInstant};
use crate::model::calendar::{Replan, StoredCalendar};
use crate::model::cluster::ClusterSettings;
use crate::model::file::{Digest, Upload};
use crate::model::group::StoredGroup;
use crate::model::job::{Job, JobSpec};
use crate::model::lock::Lock;
use crate::model::output::{JobState, RunOutputs};
use crate::model::pause::{Pause, PauseTarget, Sweep};
use crate::model::pool::Pool;
use crate::model::resources::Resources;
use crate::model::run::Run;
use crate::model::secret::StoredSecret;
use crate::model::worker::Worker;
use crate::model::worker_group::WorkerGroup;
use crate::time::{DRIFT, Span, UtcMillis};

/// What there is once.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) settings: Option<ClusterSettings>,
    pub(super) now: UtcMillis,
    pub(super) applied_index: u64,
    pub(super) last_job: JobId,
    pub(super) last_run: RunId,
    pub(super) last_worker: WorkerId,
    pub(super) last_token: Token,
    pub(super) last_request: u64,
    pub(super) last_missed: u64,
    pub(super) leader: LeaderId,
    pub(super) lease_floor: UtcMillis,
    pub(super) request_floor: UtcMillis,
    pub(super) last_node: NodeId,
    /// Where retention goes on looking.
    pub(super) swept: Option<(UtcMillis, Ended)>,
}

/// A write that may be sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    pub(super) id: String,
    pub(super) body_hash: u128,
    pub(super) at: UtcMillis,
    pub(super) outcome: Outcome,
}

/// When to look after the attempts of a worker again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Watch {
    /// None while the worker has no live attempt. May lie before the first
    /// lease's end: heartbeats do not move it, the check does.
    pub(super) check: Option<UtcMillis>,
    /// Earlier incarnations on the same boot with their last heartbeats, while
    /// attempts of theirs may live; newest last.
    pub(super) past: Vec<(Incarnation, UtcMillis)>,
}

/// Everything that is replicated.
#[derive(Debug, Clone)]
pub struct State {
    pub(super) limits: Limits,
    pub(super) meta: Meta,
    pub(super) jobs: Table<JobId, Job>,
    /// Earlier definitions: the last few, and those that live runs are pinned to.
    pub(super) specs: Table<(JobId, Revision), JobSpec>,
    pub(super) cursors: Table<(JobId, PlanSource), UtcMillis>,
    /// Instants at or below are never planned: retention may have dropped their actions.
    pub(super) floors: Table<JobId, UtcMillis>,
    pub(super) actions: Table<ActionKey, Action>,
    pub(super) runs: Table<RunId, Run>,
    pub(super) workers: Table<WorkerId, Worker>,
    pub(super) watches: Table<WorkerId, Watch>,
    pub(super) locks: Table<Name, Lock>,
    pub(super) requests: Table<u64, Remembered>,
    pub(super) missed: Table<(JobId, u64), Missed>,
    pub(super) tokens: Table<Name, AccessToken>,
    pub(super) nodes: Table<NodeId, NodeRecord>,
    pub(super) calendars: Table<Name, StoredCalendar>,
    pub(super) pauses: Table<PauseTarget, Pause>,
    pub(super) sweeps: Table<PauseTarget, Sweep>,
    pub(super) replans: Table<Name, Replan>,
    pub(super) backfills: Table<BackfillId, Backfill>,
    pub(super) backfill_instants: Table<(BackfillId, UtcMillis), BackfillInstant>,
    pub(super) secrets: Table<Name, StoredSecret>,
    pub(super) outputs: Table<RunId, RunOutputs>,
    pub(super) job_states: Table<JobId, JobState>,
    pub(super) pools: Table<Name, Pool>,
    pub(super) groups: Table<GroupPath, StoredGroup>,
    pub(super) worker_groups: Table<Name, WorkerGroup>,
    /// Contents of files that definitions are about to name.
    pub(super) uploads: Table<Digest, Upload>,
    pub(super) index: Index,
}

impl Default for State {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

/// The tag of [`Meta`]; tables have the numbers from 1.
pub(super) const META_TAG: u8 = 0;

/// Calls a macro with every table, in the order of their records in a snapshot.
macro_rules! each_table {
    ($call:ident) => {
        $call!(
            jobs specs cursors floors actions runs workers watches locks requests missed tokens nodes
            calendars pauses sweeps replans pools backfills backfill_instants
            secrets groups outputs job_states worker_groups uploads
        )
    };
}
pub(super) use each_table;

impl State {
    /// The state before the first command.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            meta: Meta::default(),
            jobs: Table::new(1),
            specs: Table::new(2),
            cursors: Table::new(3),
            floors: Table::new(4),
            actions: Table::new(5),
            runs: Table::new(6),
            workers: Table::new(7),
            watches: Table::new(8),
            locks: Table::new(9),
            requests: Table::new(10),
            missed: Table::new(11),
            tokens: Table::new(12),
            nodes: Table::new(13),
            calendars: Table::new(14),
            pauses: Table::new(15),
            sweeps: Table::new(16),
            replans: Table::new(17),
            pools: Table::new(18),
            backfills: Table::new(19),
            backfill_instants: Table::new(20),
            secrets: Table::new(21),
            outputs: Table::new(22),
            job_states: Table::new(23),
            groups: Table::new(25),
            worker_groups: Table::new(26),
            uploads: Table::new(41),
            index: Index::default(),
        }
    }

    /// The bounds it keeps to.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Equal on two nodes exactly if their states are equal.
    #[must_use]
    pub fn hash(&self) -> u128 {
        let meta = record_hash(META_TAG, &self.meta);
        macro_rules! sum {
            ($($table:ident)*) => { meta $(.wrapping_add(self.$table.sum()))* };
        }
        each_table!(sum)
    }

    /// [`Self::hash`] computed from all records again.
    #[must_use]
    pub fn full_hash(&self) -> u128 {
        let meta = record_hash(META_TAG, &self.meta);
        macro_rules! sum {
            ($($table:ident)*) => { meta $(.wrapping_add(self.$table.recompute()))* };
        }
        each_table!(sum)
    }

    /// Settings, once the cluster is initialised.
    #[must_use]
    pub fn settings(&self) -> Option<&ClusterSettings> {
        self.meta.settings.as_ref()
    }

    /// Replicated time.
    #[must_use]
    pub fn now(&self) -> UtcMillis {
        self.meta.now
    }

    /// Log index of the last command.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        self.meta.applied_index
    }

    /// The newest leader that began its term.
    #[must_use]
    pub fn leader(&self) -> LeaderId {
        self.meta.leader
    }

    /// No lease counts from before this.
    #[must_use]
    pub fn lease_floor(&self) -> UtcMillis {
        self.meta.lease_floor
    }

    /// When a tick would release something; a time that has passed means: tick now.
    #[must_use]
    pub fn next_timer(&self) -> Option<UtcMillis> {
        if self.sweeps.len() + self.replans.len() > 0 {
            return Some(self.meta.now);
        }
        self.index.timers.get_min().map(|(at, _)| *at)
    }

    /// A job by its number.
    #[must_use]
    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id)
    }

    /// A job by its name.
    #[must_use]
    pub fn job_by_name(&self, name: &Name) -> Option<&Job> {
        self.jobs.get(self.index.job_names.get(name)?)
    }

    /// Jobs by number, after one (from the first if none is given).
    pub fn jobs_after(&self, after: Option<JobId>) -> impl Iterator<Item = &Job> {
        self.jobs.range(above(after)).map(|(_, job)| job)
    }

    /// Jobs by name, after one (from the first if none is given).
    pub fn jobs_by_name_after(&self, after: Option<Name>) -> impl Iterator<Item = &Job> {
        self.index.job_names.range(above(after)).filter_map(|(_, id)| self.jobs.get(id))
    }

    /// How many jobs there are.
    #[must_use]
    pub fn job_count(&self) -> usize {
        self.jobs.len()
    }

    /// A definition: the job's own, one of the last few before it, or an earlier one that a
    /// live run is pinned to.
    #[must_use]
    pub fn spec(&self, job: JobId, revision: Revision) -> Option<&JobSpec> {
        match self.jobs.get(&job) {
            Some(current) if current.revision == revision => Some(&current.spec),
            _ => self.specs.get(&(job, revision)),
        }
    }

    /// Jobs that depend on this one directly.
    pub fn dependants_of(&self, job: JobId) -> impl Iterator<Item = JobId> {
        let range = (job, JobId(0))..=(job, JobId(u64::MAX));
        self.index.dependants.range(range).map(|(_, down)| *down)
    }

    /// How far a source is planned; none if the job has no such source.
    #[must_use]
    pub fn cursor(&self, job: JobId, source: &PlanSource) -> Option<UtcMillis> {
        self.cursors.get(&(job, source.clone())).copied()
    }

    /// Instants of a job at or below this are never planned.
    #[must_use]
    pub fn floor(&self, job: JobId) -> Option<UtcMillis> {
        self.floors.get(&job).copied()
    }

    /// An action.
    #[must_use]
    pub fn action(&self, key: ActionKey) -> Option<&Action> {
        self.actions.get(&key)
    }

    /// A job's actions between two instants, both included, ascending.
    pub fn actions_of(
        &self,
        job: JobId,
        from: UtcMillis,
        to: UtcMillis,
    ) -> impl DoubleEndedIterator<Item = (ActionKey, &Action)> {
        let to = to.max(from);
        let range = ActionKey { job, nominal: from }..=ActionKey { job, nominal: to };
        self.actions.range(range).map(|(key, action)| (*key, action))
    }

    /// How many actions are not final.
    #[must_use]
    pub fn live_actions(&self) -> usize {
        self.index.live.len()
    }

    /// A job's actions that are not final, ascending.
    pub fn live_actions_of(&self, job: JobId) -> impl Iterator<Item = ActionKey> {
        self.index.live.range(all_of(job)).copied()
    }

    /// Live actions that wait, or waited, for this one.
    pub fn waiting_for(&self, key: ActionKey) -> impl Iterator<Item = ActionKey> {
        self.index.upstream.range((key, LOWEST)..=(key, HIGHEST)).map(|(_, down)| *down)
    }

    /// Runs that are over and left something elsewhere that nobody has tried to end.
    pub fn runs_that_owe(&self) -> impl Iterator<Item = &Run> {
        self.index.owing.iter().filter_map(|id| self.runs.get(id))
    }

    /// A run.
    #[must_use]
    pub fn run(&self, id: RunId) -> Option<&Run> {
        self.runs.get(&id)
    }

    /// How many runs are kept, live and finished.
    #[must_use]
    pub fn run_count(&self) -> usize {
        self.runs.len()
    }

    /// Runs after one, oldest first.
    pub fn runs_after(&self, after: Option<RunId>) -> impl Iterator<Item = &Run> {
        self.runs.range(above(after)).map(|(_, run)| run)
    }

    /// Runs before one, newest first.
    pub fn runs_before(&self, before: Option<RunId>) -> impl Iterator<Item = &Run> {
        let end = before.map_or(Bound::Unbounded, Bound::Excluded);
        self.runs.range((Bound::Unbounded, end)).rev().map(|(_, run)| run)
    }

    /// A job's runs before one, newest first.
    pub fn runs_of_job(&self, job: JobId, before: Option<RunId>) -> impl Iterator<Item = &Run> {
        let first = Bound::Included((job, RunId(0)));
        let end = match before {
            Some(run) => Bound::Excluded((job, run)),
            None => Bound::Included((job, RunId(u64::MAX))),
        };
        self.index.job_runs.range((first, end)).rev().filter_map(|(_, id)| self.runs.get(id))
    }

    /// A job's runs after one, oldest first.
    pub fn runs_of_job_after(
        &self,
        job: JobId,
        after: Option<RunId>,
    ) -> impl Iterator<Item = &Run> {
        let first = match after {
            Some(run) => Bound::Excluded((job, run)),
            None => Bound::Included((job, RunId(0))),
        };
        let end = Bound::Included((job, RunId(u64::MAX)));
        self.index.job_runs.range((first, end)).filter_map(|(_, id)| self.runs.get(id))
    }

    /// A back-fill.
    #[must_use]
    pub fn backfill(&self, id: BackfillId) -> Option<&Backfill> {
        self.backfills.get(&id)
    }

    /// Back-fills before one, newest first.
    pub fn backfills_before(&self, before: Option<BackfillId>) -> impl Iterator<Item = &Backfill> {
        let end = before.map_or(Bound::Unbounded, Bound::Excluded);
        self.backfills.range((Bound::Unbounded, end)).rev().map(|(_, backfill)| backfill)
    }

    /// Back-fills that are not over.
    pub fn live_backfills(&self) -> impl Iterator<Item = &Backfill> {
        self.index.live_backfills.iter().filter_map(|id| self.backfills.get(id))
    }

    /// A back-fill's instants after one, ascending.
    pub fn backfill_instants(
        &self,
        id: BackfillId,
        after: Option<UtcMillis>,
    ) -> impl DoubleEndedIterator<Item = (UtcMillis, &BackfillInstant)> {
        let first = match after {
            Some(at) => Bound::Excluded((id, at)),
            None => Bound::Included((id, UtcMillis(i64::MIN))),
        };
        let all = self.backfill_instants.range((first, Bound::Included((id, UtcMillis::MAX))));
        all.map(|((_, at), instant)| (*at, instant))
    }

    /// What a write with that request id came to, and the hash of its body.
    #[must_use]
    pub fn remembered(&self, request: &str) -> Option<(u128, &Outcome)> {
        let found = self.requests.get(self.index.request_ids.get(request)?)?;
        Some((found.body_hash, &found.outcome))
    }

    /// A worker.
    #[must_use]
    pub fn worker(&self, id: WorkerId) -> Option<&Worker> {
        self.workers.get(&id)
    }

    /// A worker by its name.
    #[must_use]
    pub fn worker_by_name(&self, name: &Name) -> Option<&Worker> {
        self.workers.get(self.index.worker_names.get(name)?)
    }

    /// Workers after one, in the order in which they first attached.
    pub fn workers_after(&self, after: Option<WorkerId>) -> impl Iterator<Item = &Worker> {
        self.workers.range(above(after)).map(|(_, worker)| worker)
    }

    /// Runs with a live attempt on a worker, of whatever incarnation.
    pub fn running_on(&self, worker: WorkerId) -> impl Iterator<Item = &Run> {
        let range = (worker, RunId(0))..=(worker, RunId(u64::MAX));
        self.index.running.range(range).filter_map(|(_, id)| self.runs.get(id))
    }

    /// Slots of a worker that live attempts take.
    #[must_use]
    pub fn used_slots(&self, worker: WorkerId) -> u32 {
        self.index.used_slots.get(&worker).copied().unwrap_or(0)
    }

    /// Slots of a worker that nothing takes; 0 if there is no such worker.
    #[must_use]
    pub fn free_slots(&self, worker: WorkerId) -> u32 {
        let slots = self.workers.get(&worker).map_or(0, |w| w.profile.slots);
        slots.saturating_sub(self.used_slots(worker))
    }

    /// What of a worker live attempts take.
    #[must_use]
    pub fn used_of(&self, worker: WorkerId) -> Resources {
        let amounts = self.index.used_amounts.get(&worker).cloned().unwrap_or_default();
        Resources { slots: self.used_slots(worker), amounts }
    }

    /// True if a worker has so much that nothing takes, beside what is `reserved`.
    #[must_use]
    pub fn has_room(&self, worker: &Worker, wanted: &Resources, reserved: &Resources) -> bool {
        let slots = wanted.slots.saturating_add(reserved.slots);
        if self.free_slots(worker.id) < slots {
            return false;
        }
        if wanted.amounts.is_empty() {
            return true;
        }
        let mut used = self.used_of(worker.id);
        used.add(reserved);
        wanted.amounts.fit(&worker.profile.amounts, &used.amounts)
    }

    /// A lock or pool that someone holds or waits for.
    #[must_use]
    pub fn lock(&self, name: &Name) -> Option<&Lock> {
        self.locks.get(name)
    }

    /// Locks by name, after one.
    pub fn locks_after(&self, after: Option<Name>) -> impl Iterator<Item = &Lock> {
        self.locks.range(above(after)).map(|(_, lock)| lock)
    }

    /// A token that is worth something now, with its name.
    #[must_use]
    pub fn token_by_hash(&self, hash: &TokenHash) -> Option<(&Name, &AccessToken)> {
        let name = self.index.token_hashes.get(hash)?;
        let token = self.tokens.get(name)?;
        token.expires.is_none_or(|at| self.meta.now < at).then_some((name, token))
    }

    /// Tokens by name, expired ones too.
    pub fn tokens(&self) -> impl Iterator<Item = (&Name, &AccessToken)> {
        self.tokens.iter()
    }

    /// A node that was let in or taken out.
    #[must_use]
    pub fn node_record(&self, node: NodeId) -> Option<&NodeRecord> {
        self.nodes.get(&node)
    }

    /// Nodes that were let in or taken out, by number.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &NodeRecord)> {
        self.nodes.iter().map(|(id, record)| (*id, record))
    }

    /// Ranges of a job's instants that were not run, oldest first.
    pub fn missed_of(&self, job: JobId) -> impl DoubleEndedIterator<Item = &Missed> {
        self.missed.range((job, 0)..=(job, u64::MAX)).map(|(_, missed)| missed)
    }

    /// Waited beyond a lease before it counts as over.
    #[must_use]
    pub fn lease_margin(&self) -> Span {
        self.meta.settings.as_ref().map_or(DEFAULT_MARGIN, |s| s.lease_margin)
    }

    /// How long cluster time must count until a span is over for certain that a
    /// worker counts by its own clock: with the margin, and with what a long span
    /// may drift beyond it.
    pub(super) fn outlasting(&self, span: Span) -> Span {
        let margin = self.lease_margin();
        let drift = Span((span.0 / DRIFT).saturating_sub(margin.0 / MARGIN_FOR_DRIFT));
        span.plus(drift).plus(margin)
    }
}

/// So much of the margin is there for drift; a long span gets more.
const MARGIN_FOR_DRIFT: u64 = 8;

/// The margin of a cluster that has no settings yet.
const DEFAULT_MARGIN: Span = Span::secs(10);

/// Below every action.
pub(super) const LOWEST: ActionKey = ActionKey { job: JobId(0), nominal: UtcMillis(i64::MIN) };
/// Above every action.
pub(super) const HIGHEST: ActionKey = ActionKey { job: JobId(u64::MAX), nominal: UtcMillis::MAX };

/// Every instant of a job.
pub(super) fn all_of(job: JobId) -> std::ops::RangeInclusive<ActionKey> {
    ActionKey { job, nominal: UtcMillis(i64::MIN) }..=ActionKey { job, nominal: UtcMillis::MAX }
}

/// The range behind a key, or everything.
pub(super) fn above<K>(after: Option<K>) -> (Bound<K>, Bound<K>) {
    (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}
