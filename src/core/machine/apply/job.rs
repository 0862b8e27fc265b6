//! Jobs: definitions and their checks. How one is deleted is told in [`super::delete`].

use std::collections::{BTreeMap, BTreeSet};

use super::super::command::PlanSource;
use super::super::outcome::{Event, Outcome, Reject};
use super::super::state::State;
use super::super::table::encode_onto;
use super::plan::sources_of;
use super::{at_most, invalid, room_for, within};
use crate::ids::{JobId, Name, Revision, TriggerName};
use crate::model::edge::{EdgeSpec, Matching};
use crate::model::executor::Steps;
use crate::model::job::{Backoff, Executor, Job, JobSpec, OnWorkerLost, TriggerKind};
use crate::model::limits::RunLimits;
use crate::model::params::is_name;
use crate::model::part::RunOn;
use crate::model::pool::PoolDef;
use crate::model::resources::Resources;
use crate::model::retry::{RetryRules, RetryWorker};
use crate::time::UtcMillis;

const WEEK_MS: u64 = 7 * 86_400_000;
const YEAR_MS: u64 = 366 * 86_400_000;

impl State {
    pub(super) fn apply_job(
        &mut self,
        spec: &JobSpec,
        expected: Option<Revision>,
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        let id = self.index.job_names.get(&spec.name).copied();
        let old = id.and_then(|id| self.jobs.shared(&id));
        let mut spec = anchored(spec, old.as_deref().map(|job| &job.spec), self.meta.now);
        let own = id.unwrap_or(self.meta.last_job.next());
        for edge in spec.depends_on.iter_mut().filter(|edge| edge.job == EdgeSpec::OWN) {
            edge.job = own;
        }
        let spec = &spec;
        check_revision(expected, old.as_deref().map_or(Revision(0), |j| j.revision))?;
        check_spec(own, spec)?;
        self.check_calendars(spec)?;
        self.check_pools(spec)?;
        self.check_secrets(spec)?;
        self.check_files(spec)?;
        self.check_edges(own, spec)?;
        self.check_unforeseen(own, spec)?;
        let Some(old) = old else { return self.create_job(spec, ev) };
        if old.spec == *spec {
            return Ok(Outcome::Job { job: old.id, revision: old.revision, changed: false });
        }
        let revision = self.edit_job(&old, spec, ev);
        Ok(Outcome::Job { job: old.id, revision, changed: true })
    }

    /// Gives a job another definition, which was checked.
    pub(super) fn edit_job(&mut self, old: &Job, spec: &JobSpec, ev: &mut Vec<Event>) -> Revision {
        let id = old.id;
        let held = self.end_by_edit(id);
        let has_new_edges = old.spec.depends_on != spec.depends_on;
        let kept: BTreeSet<PlanSource> = if has_new_edges {
            BTreeSet::new()
        } else {
            let same = |source: &PlanSource| is_same(source, &old.spec, spec);
            sources_of(spec).into_iter().filter(same).collect()
        };
        let lost: BTreeSet<TriggerName> = sources_of(&old.spec)
            .into_iter()
            .filter(|source| !kept.contains(source))
            .filter_map(|source| match source {
                PlanSource::Trigger(name) => Some(name),
                PlanSource::Dependencies => None,
            })
            .collect();
        let withdraws_all = has_new_edges || kept.is_empty();
        let decided = self.decided_through(id).min(self.meta.now);
        let has_new_sources = sources_of(spec).iter().any(|source| !kept.contains(source));
        if withdraws_all {
            self.withdraw(id, None, ev);
        } else if !lost.is_empty() || has_new_sources {
            self.withdraw(id, Some(&lost), ev);
        }
        for source in sources_of(&old.spec) {
            if !kept.contains(&source) {
                self.cursors.remove(&(id, source));
            }
        }
        for source in sources_of(spec) {
            if !kept.contains(&source) {
                self.cursors.put((id, source), self.meta.now);
            }
        }
        let pin = (id, old.revision);
        if self.specs.len() < self.limits.definitions || self.index.pins.contains_key(&pin) {
            self.keep_spec(pin, old.spec.clone());
        }
        let revision = old.revision.next();
        let job = Job { revision, spec: spec.clone(), updated: self.meta.now, ..old.clone() };
        if old.spec.group == spec.group {
            self.put_job(job);
        } else {
            self.put_job_and_queue(job);
        }
        self.drop_old_specs(id);
        self.after_edit(id, held, ev);
        self.decided_on(id, decided, ev);
        if old.spec.overlap != spec.overlap {
            for key in self.live_actions_of(id).collect::<Vec<_>>() {
                self.reconsider(key, ev);
            }
        }
        ev.push(Event::Job(id));
        revision
    }

    /// Drops the job's earlier definitions that are of no use any more.
    pub(super) fn drop_old_specs(&mut self, id: JobId) {
        let all = self.specs.range((id, Revision(0))..=(id, Revision(u64::MAX)));
        for pin in all.map(|(pin, _)| *pin).collect::<Vec<_>>() {
            self.drop_spec(pin);
        }
    }

    /// The names of jobs, as many as a refusal names.
    pub(super) fn names_of(&self, jobs: impl Iterator<Item = JobId>) -> Vec<Name> {
        let named = |id| Some(self.jobs.get(&id)?.spec.name.clone());
        jobs.take(Reject::MOST_NAMED).filter_map(named).collect()
    }

    fn create_job(&mut self, spec: &JobSpec, ev: &mut Vec<Event>) -> Result<Outcome, Reject> {
        room_for("jobs", self.jobs.len() + 1, self.limits.jobs)?;
        let id = self.meta.last_job.next();
        self.meta.last_job = id;
        let now = self.meta.now;
        for source in sources_of(spec) {
            self.cursors.put((id, source), now);
        }
        let (revision, spec) = (Revision(1), spec.clone());
        self.put_job(Job { id, revision, spec, paused: false, created: now, updated: now });
        ev.push(Event::Job(id));
        Ok(Outcome::Job { job: id, revision, changed: true })
    }

    /// Upstream jobs exist, and no path leads back; but a job may wait for its own earlier
    /// actions.
    fn check_edges(&self, id: JobId, spec: &JobSpec) -> Result<(), Reject> {
        let mut seen = BTreeSet::new();
        for edge in &spec.depends_on {
            if edge.job != id && !self.jobs.contains(&edge.job) {
                return Err(Reject::NoSuchUpstream(edge.job));
            }
            if !seen.insert(edge.job) {
                return Err(invalid("depends_on", format!("job {} is named twice", edge.job)));
            }
        }
        seen.remove(&id);
        let mut came_from: BTreeMap<JobId, JobId> = seen.iter().map(|up| (*up, id)).collect();
        let mut work: Vec<JobId> = seen.into_iter().collect();
        while let Some(at) = work.pop() {
            if at == id {
                return Err(Reject::Cycle { path: self.path(&came_from, id, spec) });
            }
            let edges = self.jobs.get(&at).map_or(&[][..], |job| &job.spec.depends_on);
            for edge in edges.iter().filter(|edge| edge.job != at) {
                if let std::collections::btree_map::Entry::Vacant(free) = came_from.entry(edge.job)
                {
                    free.insert(at);
                    work.push(edge.job);
                }
            }
        }
        Ok(())
    }

    /// Where the next instant comes after the end of the last action, nobody knows
    /// it before. So who depends on such a job has one action for each of its own, or
    /// takes the newest one that there is.
    pub(super) fn check_unforeseen(&self, id: JobId, spec: &JobSpec) -> Result<(), Reject> {
        for edge in spec.depends_on.iter().filter(|edge| edge.job != id) {
            let Some(up) = self.jobs.get(&edge.job).map(|job| &job.spec) else { continue };
            if !self.is_unforeseen(up) || is_newest(spec, edge) {
                continue;
            }
            if !follows(spec) {
                let problem = format!(
                    "instants of {} follow from the ends of actions, so they are not known ahead; \
                     depend on it alone and without triggers, or match latest_before",
                    up.name
                );
                return Err(invalid("depends_on", problem));
            }
            if up.has_fixed_delay() && up.triggers.len() > 1 {
                let problem = format!(
                    "{} has a fixed delay and other triggers; to depend on it, leave it the fixed \
                     delay alone, or match latest_before",
                    up.name
                );
                return Err(invalid("depends_on", problem));
            }
        }
        if !self.is_unforeseen(spec) {
            return Ok(());
        }
        let mut work = vec![id];
        while let Some(up) = work.pop() {
            let below = self.dependants_of(up).filter(|down| *down != id && *down != up);
            for down in below.filter_map(|down| self.jobs.get(&down)) {
                let edge = down.spec.edge_to(up);
                if edge.is_some_and(|edge| is_newest(&down.spec, edge)) {
                    continue;
                }
                if up == id && spec.triggers.len() > 1 {
                    let problem =
                        "jobs depend on this one; a fixed delay must be its only trigger then";
                    return Err(invalid("triggers", problem));
                }
                if !follows(&down.spec) {
                    let problem = format!(
                        "{} depends on this job and has other instants of its own or of other \
                         jobs; a fixed delay gives none that could be matched",
                        down.spec.name
                    );
                    return Err(invalid("triggers", problem));
                }
                work.push(down.id);
            }
        }
        Ok(())
    }

    fn path(&self, came_from: &BTreeMap<JobId, JobId>, id: JobId, spec: &JobSpec) -> Vec<Name> {
        let mut path = vec![spec.name.clone()];
        let mut at = came_from.get(&id).copied();
        while let Some(job) = at.filter(|job| *job != id) {
            path.extend(self.jobs.get(&job).map(|j| j.spec.name.clone()));
            at = came_from.get(&job).copied();
        }
        path.push(spec.name.clone());
        path.reverse();
        path
    }
}

/// One action for each of its only upstream job's.
fn follows(spec: &JobSpec) -> bool {
    spec.copies_instants() && spec.depends_on.len() == 1
}

/// The edge asks for the newest action that there is, and gives no instants.
fn is_newest(spec: &JobSpec, edge: &EdgeSpec) -> bool {
    let base = spec.base_edge().and_then(|place| spec.depends_on.get(place));
    let is_base = spec.triggers.is_empty() && base.is_some_and(|base| base.job == edge.job);
    edge.matching == Matching::LatestBefore && !is_base
}

/// The definition with the time from which its rates are counted: of the commit
/// that first held the rule, whatever else an edit changes.
fn anchored(spec: &JobSpec, old: Option<&JobSpec>, now: UtcMillis) -> JobSpec {
    let mut spec = spec.clone();
    for trigger in &mut spec.triggers {
        let TriggerKind::Rule(rule) = &mut trigger.kind else { continue };
        let before = match old.and_then(|old| old.trigger(&trigger.name)).map(|t| &t.kind) {
            Some(TriggerKind::Rule(before)) if before.says_the_same(rule) => before.anchor,
            _ => None,
        };
        rule.anchor = before.or(Some(now));
    }
    spec
}

/// True if both definitions give the same instants by this source.
fn is_same(source: &PlanSource, old: &JobSpec, new: &JobSpec) -> bool {
    match source {
        PlanSource::Trigger(name) => match (old.trigger(name), new.trigger(name)) {
            (Some(a), Some(b)) => a == b && (a.zone.is_some() || old.zone == new.zone),
            _ => false,
        },
        PlanSource::Dependencies => old.triggers.is_empty() && old.depends_on == new.depends_on,
    }
}

pub(super) fn check_revision(expected: Option<Revision>, actual: Revision) -> Result<(), Reject> {
    match expected {
        Some(expected) if expected != actual => Err(Reject::WrongRevision { expected, actual }),
        _ => Ok(()),
    }
}

/// What a definition must keep to, whatever else there is.
fn check_spec(own: JobId, spec: &JobSpec) -> Result<(), Reject> {
    at_most("description", spec.description.len(), JobSpec::MAX_DESCRIPTION)?;
    at_most("triggers", spec.triggers.len(), JobSpec::MAX_TRIGGERS)?;
    at_most("depends_on", spec.depends_on.len(), JobSpec::MAX_EDGES)?;
    let bytes = encode_onto(Vec::new(), spec).len();
    at_most("definition", bytes, JobSpec::MAX_BYTES)?;
    let mut names = BTreeSet::new();
    for trigger in &spec.triggers {
        let name = trigger.name.0.as_ref();
        within("trigger name", name.len() as u64, 1, TriggerName::MAX_LEN as u64, "bytes")?;
        if !names.insert(name) {
            return Err(invalid("triggers", format!("two are named {name:?}; rename one")));
        }
    }
    within("priority", u64::from(spec.priority), 0, u64::from(JobSpec::MAX_PRIORITY), "")?;
    check_times(spec)?;
    check_params("params", &spec.params)?;
    at_most("areas", spec.areas.len(), JobSpec::MAX_AREAS)?;
    if let Some(batch) = spec.batch {
        let (offset, most) = (batch.offset.unsigned_abs(), batch.unit.max_offset().unsigned_abs());
        within("batch.offset", u64::from(offset), 0, u64::from(most), "units in either direction")?;
    }
    at_most("pools", spec.pools.len(), JobSpec::MAX_POOLS)?;
    for (pool, slots) in &spec.pools {
        let most = u64::from(PoolDef::MAX_SLOTS);
        within(&format!("pools.{pool}"), u64::from(*slots), 1, most, "slots")?;
    }
    if let Some(Resources { slots, amounts }) = &spec.resources {
        let most = u64::from(Resources::MAX_SLOTS);
        within("resources.slots", u64::from(*slots), 1, most, "slots")?;
        if let Some((field, right)) = amounts.problem() {
            return Err(invalid(&format!("resources.{field}"), format!("write {right}")));
        }
    }
    if let Err(wrong) = spec.check_edges(Some(own)) {
        let dot = if wrong.field.is_empty() { "" } else { "." };
        let field = format!("depends_on[{}]{dot}{}", wrong.edge, wrong.field);
        return Err(invalid(&field, format!("{}; {}", wrong.problem, wrong.remedy)));
    }
    if let Some(limit) = spec.wait_limit {
        within("wait_limit", limit.0, 1000, JobSpec::MAX_WAIT.0, "ms")?;
    }
    check_retry_rules(&spec.retry_rules)?;
    check_run_on(spec)?;
    if let Some(id) = spec.legacy_id {
        within("legacy_id", u64::from(id), 1, u64::from(JobSpec::MAX_LEGACY_ID), "")?;
    }
    for (place, trigger) in spec.triggers.iter().enumerate() {
        let Some(rule) = trigger.kind.rule() else { continue };
        check_params(&format!("triggers[{place}].params"), &rule.params)?;
        if let Some(priority) = rule.priority {
            let field = format!("triggers[{place}].priority");
            within(&field, u64::from(priority), 0, u64::from(JobSpec::MAX_PRIORITY), "")?;
        }
    }
    check_process(spec)
}

/// Retries, and how long things may take.
fn check_times(spec: &JobSpec) -> Result<(), Reject> {
    within(
        "retries.count",
        u64::from(spec.retries.count),
        0,
        u64::from(JobSpec::MAX_RETRIES),
        "tries",
    )?;
    let longest_wait = match spec.retries.backoff {
        Backoff::Fixed { delay } => delay,
        Backoff::Exponential { initial, cap } => initial.max(cap),
    };
    within("retries.backoff", longest_wait.0, 0, WEEK_MS, "ms")?;
    if let Some(timeout) = spec.timeout {
        within("timeout", timeout.0, 1, YEAR_MS, "ms")?;
    }
    for (field, limit) in [("run_timeout", spec.limits.run), ("queue_timeout", spec.limits.queue)] {
        if let Some(limit) = limit {
            within(field, limit.0, RunLimits::MIN.0, RunLimits::MAX.0, "ms")?;
        }
    }
    within("grace", spec.grace.0, 0, 3_600_000, "ms")?;
    within("lease", spec.lease.0, JobSpec::MIN_LEASE.0, JobSpec::MAX_LEASE.0, "ms")?;
    if let OnWorkerLost::Keep { keep_for } = spec.on_worker_lost {
        within("keep_for", keep_for.0, 1000, YEAR_MS, "ms")?;
    }
    Ok(())
}

/// What a job cannot ask for that runs on all workers.
fn check_run_on(spec: &JobSpec) -> Result<(), Reject> {
    if spec.run_on == RunOn::OneWorker {
        return Ok(());
    }
    if spec.keep_state {
        let problem = "shards of one run would write over each other; leave it out, or use \
                       run_on: one_worker";
        return Err(invalid("keep_state", problem));
    }
    if spec.retry_on_worker != RetryWorker::Any {
        let problem = "each shard has its own worker, and is tried there again; leave it out, or \
                       use run_on: one_worker";
        return Err(invalid("retry_on_worker", problem));
    }
    Ok(())
}

/// Exit codes that say more than success or failure, and how waits spread.
fn check_retry_rules(rules: &RetryRules) -> Result<(), Reject> {
    within("retries.jitter", rules.jitter.0, 0, RetryRules::MAX_JITTER.0, "ms")?;
    let RetryRules { retry_on, never_on, skip_on, .. } = rules;
    let codes = retry_on.len().max(never_on.len()).max(skip_on.len());
    at_most("exit codes of one list", codes, RetryRules::MAX_CODES)?;
    if let Some(wrong) = rules.problem() {
        let said = format!("{}: {}; {}", wrong.code, wrong.problem, wrong.remedy);
        return Err(invalid(wrong.list, said));
    }
    Ok(())
}

/// What a process can be started with.
fn check_process(spec: &JobSpec) -> Result<(), Reject> {
    for (key, value) in &spec.env {
        if key.starts_with("HORAI_") {
            return Err(invalid("env", format!("{key} is Horai's own; use another prefix")));
        }
        if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
            return Err(invalid("env", format!("{key:?} has no form that a process can take")));
        }
    }
    if let Some(wrong) = spec.confinement.problem() {
        let said = format!("{}: {}; {}", wrong.value, wrong.problem, wrong.remedy);
        return Err(invalid(&wrong.field, said));
    }
    at_most("pre", spec.steps.pre.len(), Steps::MAX)?;
    at_most("post", spec.steps.post.len(), Steps::MAX)?;
    match &spec.executor {
        Executor::Shell { interpreter, .. } | Executor::Python { interpreter, .. } => {
            check_argv("interpreter", interpreter)
        }
        Executor::Exec { argv } => check_argv("argv", argv),
        Executor::Interpreter { args, .. } => check_arguments("args", args),
        Executor::Http(call) => match call.problem() {
            Some((field, remedy)) => Err(invalid(&format!("http.{field}"), remedy)),
            None => Ok(()),
        },
        Executor::Noop => Ok(()),
    }
}

pub(super) fn check_params(field: &str, params: &BTreeMap<String, String>) -> Result<(), Reject> {
    at_most(field, params.len(), JobSpec::MAX_PARAMS)?;
    for (name, value) in params {
        if !is_name(name) {
            let problem = format!(
                "{name:?} is no name of a parameter; use letters, digits and _, perhaps behind an \
                 area and a dot"
            );
            return Err(invalid(field, problem));
        }
        at_most(&format!("{field}.{name}"), value.len(), JobSpec::MAX_PARAM)?;
        if value.contains('\0') {
            return Err(invalid(
                &format!("{field}.{name}"),
                "it holds a zero byte; leave that out",
            ));
        }
    }
    Ok(())
}

fn check_argv(field: &str, argv: &[String]) -> Result<(), Reject> {
    if argv.first().is_none_or(String::is_empty) {
        return Err(invalid(field, "give at least the program"));
    }
    check_arguments(field, argv)
}

fn check_arguments(field: &str, argv: &[String]) -> Result<(), Reject> {
    if argv.iter().any(|arg| arg.contains('\0')) {
        return Err(invalid(field, "an argument cannot hold a NUL byte"));
    }
    Ok(())
}
