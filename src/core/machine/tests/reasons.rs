//! Is the reason that is told for waiting true? A second opinion: each reason once more,
//! as plainly as it can be said, from the records alone, after every command of random
//! worlds. Whatever is not over and is not run has one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::command::*;
use super::super::state::State;
use super::random::{run_steps, steps};
use super::random_specs::has_labels;
use super::support::*;
use crate::ids::*;
use crate::model::action::{Action, ActionState, Upstream, WaitReason};
use crate::model::job::{Job, Overlap};
use crate::model::part::RunOn;
use crate::model::pause::PauseTarget;
use crate::model::run::{Run, RunKind, RunState};
use crate::model::worker::{Duty, Worker};
use crate::placement::explain::{Sight, Subject, explain, explain_trigger};
use crate::placement::load::Load;
use crate::time::UtcMillis;

/// The records, read by hand.
struct Opinion<'a> {
    state: &'a State,
    sight: Sight<'a>,
}

impl Opinion<'_> {
    fn job(&self, id: JobId) -> Option<&Job> {
        self.state.job(id)
    }

    /// A pause of this is on, or its begin or end is coming to one job after the other.
    fn is_on(&self, target: &PauseTarget) -> bool {
        self.state.pauses().any(|(on, _)| on == target) || self.is_moving(target)
    }

    fn is_moving(&self, target: &PauseTarget) -> bool {
        self.state.sweeps.iter().any(|(moving, _)| moving == target)
    }

    fn is_frozen(&self) -> bool {
        self.is_on(&PauseTarget::Cluster)
    }

    fn is_paused(&self, id: JobId) -> bool {
        let Some(job) = self.job(id) else { return false };
        let mut path = job.spec.group.as_ref().map(|group| group.as_str().to_owned());
        let mut is_paused = job.paused;
        while let Some(text) = path {
            is_paused |= self.is_on(&PauseTarget::Group(GroupPath::new(&text).unwrap()));
            path = text.rsplit_once('/').map(|(above, _)| above.to_owned());
        }
        is_paused
    }

    /// All its triggers are paused, each by itself.
    fn has_paused_triggers(&self, key: ActionKey) -> bool {
        let Some(action) = self.state.action(key) else { return false };
        let is_paused =
            |trigger: &TriggerName| self.is_on(&PauseTarget::Trigger(key.job, trigger.clone()));
        !action.triggers.is_empty() && action.triggers.iter().all(is_paused)
    }

    /// What an action waits for still. Where an edge found nothing there is nothing.
    fn open<'a>(&self, action: &'a Action) -> Vec<&'a Upstream> {
        let open = |up: &&Upstream| {
            let passed = up.met.is_some() || up.passed.is_some();
            !passed && up.none.is_none_or(|none| none != crate::model::edge::NoMatch::Satisfied)
        };
        action.upstream.iter().filter(open).collect()
    }

    fn state_of(&self, up: &Upstream) -> Option<ActionState> {
        up.none.is_none().then(|| self.state.action(up.action).map(|a| a.state))?
    }

    fn all_runs(&self) -> Vec<&Run> {
        self.state.runs_after(None).collect()
    }

    fn group_of(&self, run: &Run) -> Name {
        self.state.spec(run.job, run.revision).unwrap().worker_group.clone()
    }

    /// Connected workers that serve a run's group and have the labels that it asks for.
    fn crew(&self, run: &Run) -> Vec<&Worker> {
        let spec = self.state.spec(run.job, run.revision).unwrap();
        let serves = |worker: &&Worker| {
            let profile = &worker.profile;
            profile.groups.contains(&spec.worker_group)
                && has_labels(spec.workers.as_ref(), &profile.labels)
                && run.part.is_none_or(|part| part.worker == Some(worker.id))
        };
        let all = self.state.workers_after(None).filter(serves);
        all.filter(|worker| (self.sight)(worker.id).is_some()).collect()
    }

    /// What of a worker attempts take, counted by hand; `extra` is one more.
    fn taken(&self, id: WorkerId, extra: &Run) -> (u64, u64, u64, BTreeMap<Name, u64>) {
        let live = |run: &&Run| run.live_attempt().is_some_and(|a| a.worker == id);
        let (mut slots, mut memory, mut cpu) = (0, 0, 0);
        let mut counts: BTreeMap<Name, u64> = BTreeMap::new();
        for run in self.all_runs().into_iter().filter(live).chain([extra]) {
            let spec = self.state.spec(run.job, run.revision).unwrap();
            let Some(takes) = &spec.resources else {
                slots += 1;
                continue;
            };
            slots += u64::from(takes.slots);
            memory += takes.amounts.memory;
            cpu += u64::from(takes.amounts.cpu);
            for (name, count) in &takes.amounts.counts {
                *counts.entry(name.clone()).or_default() += u64::from(*count);
            }
        }
        (slots, memory, cpu, counts)
    }

    /// A worker has room for a run, beside what runs there or if nothing did.
    fn has_room(&self, worker: &Worker, run: &Run, is_empty: bool) -> bool {
        let nobody = WorkerId(u64::MAX);
        let (id, has) = (worker.id, &worker.profile);
        let takes = self.state.spec(run.job, run.revision).unwrap().resources.clone();
        let takes = takes.unwrap_or_default();
        let (slots, memory, cpu, counts) = self.taken(if is_empty { nobody } else { id }, run);
        let is_named = |name: &Name| takes.amounts.counts.contains_key(name);
        let count = |name: &Name| has.amounts.counts.get(name).copied().unwrap_or(0);
        slots <= u64::from(has.slots)
            && (takes.amounts.memory == 0 || memory <= has.amounts.memory)
            && (takes.amounts.cpu == 0 || cpu <= u64::from(has.amounts.cpu))
            && counts.iter().all(|(n, all)| !is_named(n) || *all <= u64::from(count(n)))
    }

    /// The same, and whether each has room; none of those that are to get nothing new.
    fn workers(&self, run: &Run) -> Vec<Option<bool>> {
        let open = |worker: &&Worker| {
            (worker.duty == Duty::Open && worker.leaving.is_none())
                .then(|| self.has_room(worker, run, false))
        };
        self.crew(run).iter().map(open).collect()
    }

    /// One of them is open, and large enough if nothing ran there.
    fn is_possible(&self, run: &Run) -> bool {
        let is_open = |worker: &&Worker| worker.duty == Duty::Open && worker.leaving.is_none();
        self.crew(run).into_iter().filter(is_open).any(|worker| self.has_room(worker, run, true))
    }

    /// One of them has room and is not busier than the group allows.
    fn has_fit(&self, run: &Run) -> bool {
        let group = self.state.worker_group(&self.group_of(run)).map(|group| &group.def);
        let is_busy = |load: Load| {
            let most = group.and_then(|def| def.thresholds);
            load.is_closed
                || most.is_some_and(|most| {
                    load.memory_permille > most.memory_permille
                        || load.per_core_permille > most.load_permille
                })
        };
        self.crew(run).into_iter().zip(self.workers(run)).any(|(worker, free)| {
            free.is_some_and(|has_room| has_room)
                && (self.sight)(worker.id).is_some_and(|l| !is_busy(l))
        })
    }

    /// The node that leads has said that it cannot read a secret of the run's.
    fn is_secret(&self, run: &Run) -> bool {
        let named = &self.state.spec(run.job, run.revision).unwrap().secrets;
        let leader = self.state.leader().node;
        named.iter().any(|name| {
            let secret = self.state.secrets.iter().find(|(known, _)| *known == name);
            secret.is_some_and(|(_, secret)| secret.closed_to.contains(&leader))
        })
    }

    /// Pools of which a run needs more than is free.
    fn lacks(&self, run: &Run) -> bool {
        let spec = |run: &Run| self.state.spec(run.job, run.revision).map(|spec| &spec.pools);
        let mut taken: BTreeMap<&Name, u32> = BTreeMap::new();
        for run in self.state.runs_after(None).filter(|run| run.live_attempt().is_some()) {
            for (pool, slots) in spec(run).into_iter().flatten() {
                *taken.entry(pool).or_default() += slots;
            }
        }
        spec(run).into_iter().flatten().any(|(pool, slots)| {
            let has = self.state.pool(pool).map_or(0, |pool| pool.def.slots);
            has < slots + taken.get(pool).copied().unwrap_or(0)
        })
    }

    /// Nothing that somebody paused holds the run.
    fn may_go(&self, run: &Run) -> bool {
        let is_held = self.is_paused(run.job) || self.is_of_paused(run);
        let is_frozen = self.state.pauses().any(|(on, _)| *on == PauseTarget::Cluster);
        !is_frozen && (run.kind == RunKind::Backfill || !is_held)
    }

    fn is_of_paused(&self, run: &Run) -> bool {
        let is_beside = matches!(run.kind, RunKind::Manual | RunKind::Debug);
        let is_beside = is_beside || run.part.is_some();
        run.action.is_some_and(|key| !is_beside && self.has_paused_triggers(key))
    }

    /// It is to be split, and takes nothing itself.
    fn is_to_split(&self, run: &Run) -> bool {
        let spec = self.state.spec(run.job, run.revision).unwrap();
        spec.run_on == RunOn::AllWorkers && run.part.is_none()
    }

    /// Others of the group that come before it, and could take one of its workers.
    fn are_before(&self, run: &Run) -> bool {
        let place = |run: &Run| (run.catch_up, Reverse(run.priority), run.ready_at, run.id);
        let group = self.group_of(run);
        let open = |run: &Run| -> BTreeSet<WorkerId> {
            if self.is_to_split(run) {
                return BTreeSet::new();
            }
            let crew = self
                .crew(run)
                .into_iter()
                .filter(|worker| worker.duty == Duty::Open && worker.leaving.is_none());
            crew.filter(|w| self.has_room(w, run, true)).map(|worker| worker.id).collect()
        };
        let own = open(run);
        let mut others = self.all_runs().into_iter().filter(|other| {
            // While a pause comes to one job after the other, their runs are there still.
            let is_there = self.may_go(other) || self.state.sweeps.len() > 0;
            let is_of_group = other.state == RunState::Queued && self.group_of(other) == group;
            is_there && is_of_group && !open(other).is_disjoint(&own)
        });
        others.any(|other| place(other) < place(run))
    }

    /// Is that why the action waits?
    fn of_action(&self, key: ActionKey, action: &Action, why: WaitReason) -> bool {
        let open = self.open(action);
        let is_due = action.state == ActionState::Waiting || action.due <= self.state.now();
        let is_held = self.is_paused(key.job) || self.has_paused_triggers(key);
        let is_failed = |up: &&Upstream| {
            matches!(self.state_of(up), Some(ActionState::Failed | ActionState::Cancelled))
        };
        match why {
            WaitReason::NotDue => action.state == ActionState::Planned && !is_due,
            WaitReason::UpstreamFailed => is_due && open.iter().any(is_failed),
            WaitReason::UpstreamPaused => {
                let is_held = |up: &&Upstream| {
                    let is_held =
                        self.is_paused(up.action.job) || self.has_paused_triggers(up.action);
                    let state = self.state_of(up);
                    up.none.is_none()
                        && is_held
                        && state.is_none_or(|s| !s.is_final() && s != ActionState::Running)
                };
                is_due && !open.iter().any(is_failed) && open.iter().any(is_held)
            }
            WaitReason::Upstream => is_due && !open.is_empty() && !open.iter().any(is_failed),
            WaitReason::Paused => is_due && open.is_empty() && is_held,
            WaitReason::Frozen => is_due && open.is_empty() && !is_held && self.is_frozen(),
            WaitReason::Overlap => {
                let counts = |run: &&Run| {
                    !matches!(run.state, RunState::Finished { .. })
                        && !matches!(run.kind, RunKind::Debug | RunKind::Backfill)
                };
                let mut live = self.state.runs_of_job(key.job, None).filter(counts);
                let says = self.job(key.job).map(|job| job.spec.overlap);
                is_due
                    && open.is_empty()
                    && !is_held
                    && says != Some(Overlap::Allow)
                    && live.next().is_some()
            }
            // Asked apart: it must be so for a moment only.
            WaitReason::Dispatching => is_due && open.is_empty() && !is_held,
            _ => false,
        }
    }

    /// Is that why the run waits?
    fn of_run(&self, run: &Run, why: WaitReason) -> bool {
        if let RunState::Backoff { .. } = run.state {
            return why == WaitReason::Backoff;
        }
        let is_held =
            run.kind != RunKind::Backfill && (self.is_paused(run.job) || self.is_of_paused(run));
        let free = self.workers(run);
        let is_open = free.iter().any(Option::is_some);
        let has_slot = free.iter().flatten().any(|has_room| *has_room);
        match why {
            WaitReason::Paused => is_held,
            WaitReason::Frozen => !self.may_go(run) && !is_held,
            _ if !self.may_go(run) => false,
            WaitReason::Secret => self.is_secret(run),
            _ if self.is_secret(run) => false,
            WaitReason::NoWorker => free.is_empty(),
            WaitReason::Cordoned => !free.is_empty() && !is_open,
            _ if self.is_to_split(run) => is_open && why == WaitReason::Dispatching,
            WaitReason::Resource if !self.is_possible(run) => is_open,
            _ if !self.is_possible(run) => false,
            WaitReason::Pool => self.lacks(run),
            WaitReason::CatchUp => run.catch_up && self.are_before(run),
            WaitReason::Queue => !run.catch_up && self.are_before(run),
            WaitReason::Resource => is_open && !has_slot && !self.lacks(run),
            WaitReason::Load => has_slot && !self.has_fit(run) && !self.lacks(run),
            WaitReason::Dispatching => self.has_fit(run) && !self.lacks(run),
            _ => false,
        }
    }

    fn of_trigger(&self, job: &Job, trigger: &TriggerName, why: WaitReason) -> bool {
        let paused = PauseTarget::Trigger(job.id, trigger.clone());
        let is_held = self.is_paused(job.id) || self.is_on(&paused);
        let has_one = self.state.live_actions_of(job.id).any(|key| {
            let action = self.state.action(key).unwrap();
            let is_ahead = action.state == ActionState::Planned && action.due > self.state.now();
            action.triggers.contains(trigger) && !is_ahead
        });
        let is_delayed = job.spec.trigger(trigger).unwrap().kind.fixed_delay().is_some();
        match why {
            WaitReason::Paused => is_held,
            WaitReason::Frozen => !is_held && self.is_frozen(),
            WaitReason::FixedDelay => !is_held && is_delayed && has_one,
            WaitReason::NotDue => !(is_held || is_delayed && has_one),
            _ => false,
        }
    }
}

/// Reasons that were told and judged, so that none is left out by chance.
type Seen = BTreeMap<&'static str, u32>;

/// Judges every reason that is told in this state.
fn judge(m: &Machine, sight: Sight<'_>, seen: &mut Seen) {
    if m.state.sweeps.len() > 0 {
        // Begin or end of a pause comes to one job after the other: until it has come to all,
        // records of some are of before and those of others of after.
        return;
    }
    let opinion = Opinion { state: &m.state, sight };
    let mut judged = |what: &dyn std::fmt::Debug, why: Option<WaitReason>, is_true: bool| {
        let why = why.unwrap_or_else(|| panic!("{what:?} waits for nothing that is told"));
        assert!(is_true, "{what:?} does not wait for {}", why.word());
        *seen.entry(why.word()).or_default() += 1;
    };
    for job in m.state.jobs_after(None) {
        for key in m.state.live_actions_of(job.id) {
            let action = m.state.action(key).unwrap();
            let why = explain(&m.state, Subject::Action(key), sight);
            if !matches!(action.state, ActionState::Planned | ActionState::Waiting) {
                continue;
            }
            let is_true = why.is_some_and(|why| opinion.of_action(key, action, why));
            judged(&(key, action), why, is_true);
            if why == Some(WaitReason::Dispatching) {
                begins_at_once(m, key);
            }
        }
        for trigger in &job.spec.triggers {
            let why = explain_trigger(&m.state, job, trigger);
            let is_true = why.is_some_and(|why| opinion.of_trigger(job, &trigger.name, why));
            judged(&(job.id, &trigger.name), why, is_true);
        }
    }
    for run in opinion.all_runs() {
        let why = explain(&m.state, Subject::Run(run.id), sight);
        if matches!(run.state, RunState::Queued | RunState::Backoff { .. }) {
            let is_true = why.is_some_and(|why| opinion.of_run(run, why));
            judged(&run, why, is_true);
            let of_it = run.decides().map(|key| explain(&m.state, Subject::Action(key), sight));
            assert!(of_it.is_none_or(|same| same == why), "run and action differ: {run:?}");
        } else {
            assert_eq!(why, None, "{run:?}");
        }
    }
}

/// Nothing holds the action: the leader's next commands release it, without any time.
fn begins_at_once(m: &Machine, key: ActionKey) {
    let mut state = m.state.clone();
    let actor = Actor::Leader(state.leader());
    let tick = Envelope { actor, request: None, command: Command::Tick };
    for index in 1..50 {
        let now = UtcMillis(m.now);
        state.apply(Entry { index: m.index + index, now, command: &tick });
        let why = explain(&state, Subject::Action(key), &here);
        let action = state.action(key).map(|action| action.state);
        let waits = matches!(action, Some(ActionState::Planned | ActionState::Waiting));
        if !waits || why != Some(WaitReason::Dispatching) {
            return;
        }
    }
    panic!("{key} is held by something");
}

#[test]
fn every_reason_that_is_told_is_true() {
    let seen = std::cell::RefCell::new(Seen::new());
    let config =
        ProptestConfig { cases: cases(64), failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in steps())| {
        run_steps(&steps, &mut |m| {
            let busy = |worker: WorkerId| {
                let memory_permille = if worker.0 == 1 { 800 } else { 100 };
                Load { memory_permille, per_core_permille: 800, is_closed: false }
            };
            let closed = |worker: WorkerId| Load { is_closed: worker.0 != 1, ..busy(worker) };
            judge(m, &here, &mut seen.borrow_mut());
            judge(m, &|worker| Some(busy(worker)), &mut seen.borrow_mut());
            judge(m, &|worker| Some(closed(worker)), &mut seen.borrow_mut());
            judge(m, &|worker| (worker.0 == 1).then(|| busy(worker)), &mut seen.borrow_mut());
            judge(m, &|_| None, &mut seen.borrow_mut());
        });
    });
    // What random worlds come to so often that it is no chance; the others are made by hand
    // (`placement::explain_tests`).
    for word in [
        "not_due",
        "upstream",
        "upstream_failed",
        "paused",
        "frozen",
        "overlap",
        "backoff",
        "queue",
        "load",
        "no_worker",
        "dispatching",
        "fixed_delay",
    ] {
        assert!(seen.borrow().contains_key(word), "{word} was never told: {:?}", seen.borrow());
    }
}
