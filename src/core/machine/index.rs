//! What can be derived from the records, kept so that no step scans them.
//!
//! Never stored: a restored node rebuilds it, and [`super::invariants`] checks
//! that it equals a rebuild. So every entry is a function of records alone.

use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};

use super::files::FileIndex;
use super::kept::KeptIndex;
use super::parts::PartIndex;
use super::places::RunPlace;
use super::pools::PoolIndex;
use super::queue::Queue;
use super::secrets::SecretIndex;
use super::state::State;
use crate::ids::{
    ActionKey, BackfillId, GroupPath, JobId, Name, NodeId, Revision, RunId, WorkerId,
};
use crate::model::access::TokenHash;
use crate::model::action::{Action, ActionState, SkipReason, Upstream};
use crate::model::backfill::Backfill;
use crate::model::calendar::StoredCalendar;
use crate::model::job::{Job, JobSpec};
use crate::model::lock::{Holder, Lock};
use crate::model::resources::{Amounts, Resources};
use crate::model::run::{Run, RunState};
use crate::model::worker::Worker;
use crate::mutants::{self, Mutant};
use crate::time::{Span, UtcMillis};

/// What happens at an instant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A planned action is due.
    ActionDue(ActionKey),
    /// An action has waited too long.
    ActionExpiry(ActionKey),
    /// A retry may be dispatched.
    Backoff(RunId),
    /// An attempt should have been ended by its shim long ago.
    Timeout(RunId),
    /// Leases of a worker's attempts may have ended.
    Worker(WorkerId),
    /// A lease or a wait of a lock may have ended.
    Lock(Name),
    /// A run that no worker has may have taken or waited too long.
    Limit(RunId),
    /// The time for which a drain waits is over.
    Drain(WorkerId),
}

/// Something that is over and may be dropped one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Ended {
    /// A finished run, with its action if it has one.
    Run(RunId),
    /// A final action that never had a run.
    Action(ActionKey),
}

/// Whose history something that is over belongs to: that of a job, or of a back-fill,
/// which must not drive the job's own out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Job(JobId),
    Backfill(BackfillId),
}

impl Owner {
    pub(super) fn of(run: &Run) -> Self {
        run.backfill.map_or(Self::Job(run.job), Self::Backfill)
    }
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) job_names: OrdMap<Name, JobId>,
    /// (upstream, downstream).
    pub(super) dependants: OrdSet<(JobId, JobId)>,
    pub(super) live: OrdSet<ActionKey>,
    /// Actions that wait, and not for an upstream one: for a run of their own job, or for
    /// the end of a pause.
    pub(super) in_line: OrdSet<ActionKey>,
    /// (upstream, downstream) of live actions.
    pub(super) upstream: OrdSet<(ActionKey, ActionKey)>,
    pub(super) successes: OrdSet<ActionKey>,
    /// (upstream, downstream) of actions that failed, or were skipped with an upstream one.
    pub(super) revivable: OrdSet<(ActionKey, ActionKey)>,
    pub(super) queue: Queue,
    pub(super) timers: OrdSet<(UtcMillis, Timer)>,
    pub(super) running: OrdSet<(WorkerId, RunId)>,
    pub(super) used_slots: OrdMap<WorkerId, u32>,
    /// What live attempts reserve beside slots; nothing has no entry.
    pub(super) used_amounts: OrdMap<WorkerId, Amounts>,
    pub(super) job_runs: OrdSet<(JobId, RunId)>,
    /// Live runs of a job that its other runs may have to wait for.
    pub(super) turns: OrdMap<JobId, u32>,
    /// Live runs and back-fills pinned to a definition.
    pub(super) pins: OrdMap<(JobId, Revision), u32>,
    pub(super) live_runs: usize,
    pub(super) ended: OrdSet<(UtcMillis, Ended)>,
    /// Failures, marked by `true`, come after everything else of their owner.
    pub(super) ended_by_owner: OrdSet<(Owner, bool, UtcMillis, Ended)>,
    pub(super) ended_count: OrdMap<Owner, u32>,
    pub(super) worker_names: OrdMap<Name, WorkerId>,
    pub(super) request_ids: OrdMap<String, u64>,
    pub(super) missed_count: OrdMap<JobId, u32>,
    pub(super) token_hashes: OrdMap<TokenHash, Name>,
    pub(super) stores: OrdMap<u128, NodeId>,
    pub(super) group_jobs: OrdSet<(GroupPath, JobId)>,
    /// (calendar, job with a trigger that names it).
    pub(super) calendar_users: OrdSet<(Name, JobId)>,
    /// (base, calendar).
    pub(super) calendar_bases: OrdSet<(Name, Name)>,
    pub(super) live_backfills: OrdSet<BackfillId>,
    pub(super) job_backfills: OrdSet<(JobId, BackfillId)>,
    pub(super) pools: PoolIndex,
    pub(super) secrets: SecretIndex,
    pub(super) kept: KeptIndex,
    pub(super) files: FileIndex,
    /// Runs that are over and left something elsewhere that nobody has tried to end.
    pub(super) owing: OrdSet<RunId>,
    pub(super) parts: PartIndex,
}

/// The calendars that a job's triggers name.
fn calendars_of(job: &Job) -> impl Iterator<Item = (Name, JobId)> + '_ {
    let rules = job.spec.triggers.iter().filter_map(|t| t.kind.rule());
    rules.flat_map(|rule| rule.calendars.iter()).map(|name| (name.clone(), job.id))
}

/// When time has something to do with an action.
fn timer_of(key: ActionKey, action: &Action, max_wait: Span) -> Option<(UtcMillis, Timer)> {
    match action.state {
        ActionState::Planned => Some((action.due, Timer::ActionDue(key))),
        ActionState::Waiting => Some((key.nominal.plus(max_wait), Timer::ActionExpiry(key))),
        _ => None,
    }
}

/// Counts one up or down; a count of zero has no entry.
pub(super) fn count<K: Ord + Clone>(counts: &mut OrdMap<K, u32>, key: &K, up: bool) -> u32 {
    count_by(counts, key, 1, up)
}

/// The same by so many.
pub(super) fn count_by<K>(counts: &mut OrdMap<K, u32>, key: &K, by: u32, up: bool) -> u32
where
    K: Ord + Clone,
{
    let old = counts.get(key).copied().unwrap_or(0);
    let new = if up { old.saturating_add(by) } else { old.saturating_sub(by) };
    if new == 0 {
        counts.remove(key);
    } else {
        counts.insert(key.clone(), new);
    }
    new
}

impl Index {
    /// Moves a timer.
    pub(super) fn set_timer(
        &mut self,
        old: Option<(UtcMillis, Timer)>,
        new: Option<(UtcMillis, Timer)>,
    ) {
        if old == new {
            return;
        }
        if let Some(old) = old {
            self.timers.remove(&old);
        }
        if let Some(new) = new {
            self.timers.insert(new);
        }
    }

    fn set_ended(
        &mut self,
        owner: Owner,
        ended: Ended,
        old: Option<(UtcMillis, bool)>,
        new: Option<(UtcMillis, bool)>,
    ) {
        if old == new {
            return;
        }
        if let Some((at, failed)) = old {
            self.ended.remove(&(at, ended));
            self.ended_by_owner.remove(&(owner, failed, at, ended));
            count(&mut self.ended_count, &owner, false);
        }
        if let Some((at, failed)) = new {
            self.ended.insert((at, ended));
            self.ended_by_owner.insert((owner, failed, at, ended));
            count(&mut self.ended_count, &owner, true);
        }
    }

    /// A job is written, or removed.
    pub(super) fn job_changed(&mut self, old: Option<&Job>, new: Option<&Job>) {
        self.job_known(old, new);
        if let Some(job) = old {
            self.job_names.remove(&job.spec.name);
            for edge in &job.spec.depends_on {
                self.dependants.remove(&(edge.job, job.id));
            }
            if let Some(group) = &job.spec.group {
                self.group_jobs.remove(&(group.clone(), job.id));
            }
            for user in calendars_of(job) {
                self.calendar_users.remove(&user);
            }
            self.pools.job_removed(job);
            self.secrets.job_changed(job, false);
            self.files.spec_changed(&job.spec, false);
        }
        if let Some(job) = new {
            self.job_names.insert(job.spec.name.clone(), job.id);
            for edge in &job.spec.depends_on {
                self.dependants.insert((edge.job, job.id));
            }
            if let Some(group) = &job.spec.group {
                self.group_jobs.insert((group.clone(), job.id));
            }
            for user in calendars_of(job) {
                self.calendar_users.insert(user);
            }
            self.pools.job_put(job);
            self.secrets.job_changed(job, true);
            self.files.spec_changed(&job.spec, true);
        }
    }

    /// A calendar is written, or removed.
    pub(super) fn calendar_changed(
        &mut self,
        old: Option<&StoredCalendar>,
        new: Option<&StoredCalendar>,
    ) {
        let edge = |c: &StoredCalendar| Some((c.def.base.clone()?, c.def.name.clone()));
        if let Some(edge) = old.and_then(edge) {
            self.calendar_bases.remove(&edge);
        }
        if let Some(edge) = new.and_then(edge) {
            self.calendar_bases.insert(edge);
        }
    }

    /// A worker is written, or removed.
    pub(super) fn worker_changed(&mut self, old: Option<&Worker>, new: Option<&Worker>) {
        if let Some(gone) = old.filter(|_| new.is_none()) {
            self.worker_names.remove(&gone.profile.name);
        }
        if let Some(made) = new.filter(|_| old.is_none()) {
            self.worker_names.insert(made.profile.name.clone(), made.id);
        }
        let timer = |worker: Option<&Worker>| {
            let worker = worker?;
            Some((worker.drains_at()?, Timer::Drain(worker.id)))
        };
        self.set_timer(timer(old), timer(new));
    }

    /// A back-fill is written, or removed.
    pub(super) fn backfill_changed(&mut self, old: Option<&Backfill>, new: Option<&Backfill>) {
        if let Some(gone) = old.filter(|_| new.is_none()) {
            self.job_backfills.remove(&(gone.job, gone.id));
        }
        if let Some(made) = new.filter(|_| old.is_none()) {
            self.job_backfills.insert((made.job, made.id));
        }
        match (old.filter(|b| b.is_live()), new.filter(|b| b.is_live())) {
            (Some(over), None) => {
                self.live_backfills.remove(&over.id);
                count(&mut self.pins, &(over.job, over.revision), false);
            }
            (None, Some(live)) => {
                self.live_backfills.insert(live.id);
                count(&mut self.pins, &(live.job, live.revision), true);
            }
            _ => {}
        }
    }

    /// A definition is kept beside its job's own, or who is pinned to it has changed.
    pub(super) fn spec_pinned(&mut self, pin: (JobId, Revision), spec: &JobSpec) {
        let is_pinned = self.pins.contains_key(&pin);
        self.pools.pinned(pin, spec, is_pinned);
    }

    /// An action is written, or removed.
    pub(super) fn action_changed(
        &mut self,
        key: ActionKey,
        old: Option<&Action>,
        new: Option<&Action>,
        max_wait: Span,
    ) {
        let is_live = |a: Option<&Action>| a.is_some_and(|a| !a.state.is_final());
        let is_success = |a: Option<&Action>| a.is_some_and(|a| a.state == ActionState::Success);
        match (is_live(old), is_live(new)) {
            (true, false) => {
                self.live.remove(&key);
                for up in old.iter().flat_map(|a| &a.upstream).filter_map(Upstream::awaited) {
                    self.awaits_no_longer(up, key);
                }
            }
            (false, true) => {
                self.live.insert(key);
                for up in new.iter().flat_map(|a| &a.upstream).filter_map(Upstream::awaited) {
                    self.upstream.insert((up, key));
                    self.need_changed(up);
                }
            }
            (true, true) | (false, false) => {}
        }
        let is_in_line = |a: Option<&Action>| {
            a.is_some_and(|a| {
                a.state == ActionState::Waiting && a.upstream.iter().all(Upstream::is_met)
            })
        };
        match (is_in_line(old), is_in_line(new)) {
            (true, false) => drop(self.in_line.remove(&key)),
            (false, true) => drop(self.in_line.insert(key)),
            _ => {}
        }
        let is_revivable = |a: &&Action| {
            use ActionState::{Failed, Skipped};
            matches!(a.state, Failed | Skipped(SkipReason::Upstream))
        };
        match (old.filter(is_revivable), new.filter(is_revivable)) {
            (Some(old), None) => {
                for up in old.upstream.iter().filter_map(Upstream::awaited) {
                    self.revivable.remove(&(up, key));
                }
            }
            (None, Some(new)) => {
                self.revivable
                    .extend(new.upstream.iter().filter_map(Upstream::awaited).map(|up| (up, key)));
            }
            _ => {}
        }
        if is_success(old) != is_success(new) {
            self.success_changed(key, is_success(new));
        }
        let ended = |a: Option<&Action>| Some((a.filter(|a| a.run.is_none())?.finished?, false));
        self.set_ended(Owner::Job(key.job), Ended::Action(key), ended(old), ended(new));
        let timer = |a: Option<&Action>| timer_of(key, a?, max_wait);
        self.set_timer(timer(old), timer(new));
    }

    /// The job's actions may wait for another length of time.
    pub(super) fn wait_changed(
        &mut self,
        key: ActionKey,
        action: &Action,
        before: Span,
        after: Span,
    ) {
        self.set_timer(timer_of(key, action, before), timer_of(key, action, after));
    }

    /// An attempt on a worker begins, or ends.
    fn reserve(&mut self, worker: WorkerId, what: &Resources, on: bool) {
        count_by(&mut self.used_slots, &worker, what.slots, on);
        if what.amounts.is_empty() {
            return;
        }
        let mut used = self.used_amounts.get(&worker).cloned().unwrap_or_default();
        used.change(&what.amounts, if on { u64::saturating_add } else { u64::saturating_sub });
        if used.is_empty() {
            self.used_amounts.remove(&worker);
        } else {
            self.used_amounts.insert(worker, used);
        }
    }

    /// A run is written, or removed. `places` are queue and timer, old and new.
    pub(super) fn run_changed(
        &mut self,
        (old, old_place): (Option<&Run>, RunPlace),
        (new, new_place): (Option<&Run>, RunPlace),
    ) {
        for (run, owes) in [(old, false), (new, true)] {
            match run.filter(|run| run.owes_an_end()) {
                Some(run) if owes => drop(self.owing.insert(run.id)),
                Some(run) => drop(self.owing.remove(&run.id)),
                None => {}
            }
        }
        let Some(id) = old.or(new).map(|r| r.id) else { return };
        let Some((job, owner)) = old.or(new).map(|r| (r.job, Owner::of(r))) else { return };
        if old_place.queue != new_place.queue {
            if let Some(place) = old_place.queue {
                self.pools.wait(&place.demand, false);
                self.queue.remove(&place);
            }
            if let Some(place) = new_place.queue {
                self.pools.wait(&place.demand, true);
                self.queue.insert(place);
            }
        }
        if old_place.holds != new_place.holds {
            self.pools.hold(&old_place.holds, false);
            self.pools.hold(&new_place.holds, true);
        }
        self.set_timer(old_place.timer, new_place.timer);
        let on = |r: Option<&Run>| r.and_then(Run::live_attempt).map(|a| a.worker);
        if on(old) != on(new) || old_place.holds != new_place.holds {
            if let Some(worker) = on(old) {
                self.running.remove(&(worker, id));
                self.reserve(worker, old_place.holds.resources(), false);
            }
            if let Some(worker) = on(new) {
                self.running.insert((worker, id));
                self.reserve(worker, new_place.holds.resources(), true);
            }
        }
        if old.is_none() {
            self.job_runs.insert((job, id));
        } else if new.is_none() {
            self.job_runs.remove(&(job, id));
        }
        // A part is dropped with its run.
        let ended = |r: Option<&Run>| match r.filter(|r| r.part.is_none())?.state {
            RunState::Finished { at, result } => Some((at, result.is_failure())),
            _ => None,
        };
        self.parts.run_changed(old, new);
        self.set_ended(owner, Ended::Run(id), ended(old), ended(new));
        match (old.is_some_and(Run::has_turn), new.is_some_and(Run::has_turn)) {
            (true, false) => drop(count(&mut self.turns, &job, false)),
            (false, true) => drop(count(&mut self.turns, &job, true)),
            _ => {}
        }
        let live = |r: Option<&Run>| r.filter(|r| r.is_live()).map(|r| (r.job, r.revision));
        if live(old) != live(new) {
            if let Some(pin) = live(old) {
                count(&mut self.pins, &pin, false);
                self.live_runs = self.live_runs.saturating_sub(1);
            }
            if let Some(pin) = live(new) {
                count(&mut self.pins, &pin, true);
                self.live_runs += 1;
            }
        }
    }

    /// A lock is written, or removed.
    pub(super) fn lock_changed(&mut self, old: Option<&Lock>, new: Option<&Lock>) {
        let timer = |lock: Option<&Lock>| {
            let lock = lock?;
            let leases = lock.holders.iter().map(Holder::ends);
            let waits = lock.waiters.iter().map(|w| w.until);
            Some((leases.chain(waits).min()?, Timer::Lock(lock.name.clone())))
        };
        self.set_timer(timer(old), timer(new));
    }
}

impl State {
    /// The index that the records give.
    pub(super) fn rebuilt_index(&self) -> Index {
        let mut index = Index::default();
        for (_, job) in self.jobs.iter() {
            index.job_changed(None, Some(job));
        }
        for (key, action) in self.actions.iter() {
            index.action_changed(*key, None, Some(action), self.max_wait_of(key.job));
        }
        if mutants::on(Mutant::WaitersNotRestored) {
            index.upstream.clear();
        }
        for (_, run) in self.runs.iter() {
            let old = (None, RunPlace::default());
            index.run_changed(old, (Some(run), self.place_of(run)));
        }
        for (_, worker) in self.workers.iter() {
            index.worker_changed(None, Some(worker));
        }
        for (id, watch) in self.watches.iter() {
            index.set_timer(None, watch.check.map(|at| (at, Timer::Worker(*id))));
        }
        for (_, lock) in self.locks.iter() {
            index.lock_changed(None, Some(lock));
        }
        for (seq, request) in self.requests.iter() {
            index.request_ids.insert(request.id.clone(), *seq);
        }
        for (name, token) in self.tokens.iter() {
            index.token_hashes.insert(token.hash, name.clone());
        }
        for (id, node) in self.nodes.iter().filter(|(_, node)| node.store != 0) {
            index.stores.insert(node.store, *id);
        }
        for (_, calendar) in self.calendars.iter() {
            index.calendar_changed(None, Some(calendar));
        }
        for (_, backfill) in self.backfills.iter() {
            index.backfill_changed(None, Some(backfill));
        }
        for (_, secret) in self.secrets.iter() {
            index.secrets.changed(None, Some(secret));
        }
        // After runs and back-fills: they say which definitions are pinned.
        for (pin, spec) in self.specs.iter() {
            index.spec_pinned(*pin, spec);
            index.files.spec_changed(spec, true);
        }
        for ((job, _), _) in self.missed.iter() {
            count(&mut index.missed_count, job, true);
        }
        for (id, outputs) in self.outputs.iter() {
            let of = self.runs.get(id).and_then(Run::decides);
            index.outputs_changed((*id, of), None, Some(outputs));
        }
        for (_, state) in self.job_states.iter() {
            index.kept.state_changed(None, Some(state));
        }
        index
    }
}
