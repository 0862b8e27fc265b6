//! Planning and withdrawal of actions, and what one action's end means to others.

use std::collections::BTreeSet;

use super::super::command::{PlanBatch, PlanSource, PlannedAction};
use super::super::index::Owner;
use super::super::outcome::{Event, Outcome, Reject};
use super::super::state::State;
use super::at_most;
use super::overlap::Settled;
use crate::ids::{ActionKey, JobId, RunId, TriggerName};
use crate::model::action::{Action, ActionState, SkipReason, Upstream};
use crate::model::edge::Standing;
use crate::model::history::Notes;
use crate::model::job::{Job, JobSpec};
use crate::model::run::{Run, RunKind};
use crate::mutants::{self, Mutant};
use crate::time::UtcMillis;

impl State {
    pub(super) fn plan_actions(
        &mut self,
        batches: &[PlanBatch],
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        let total = batches.iter().map(|b| b.actions.len()).sum();
        at_most("actions of one command", total, PlanBatch::MAX_ACTIONS)?;
        at_most("batches of one command", batches.len(), PlanBatch::MAX_ACTIONS)?;
        let (mut created, mut refused) = (0, 0);
        for batch in batches {
            if self.accepts(batch) {
                created += self.plan_batch(batch, ev);
            } else {
                refused += 1;
            }
        }
        Ok(Outcome::Planned { created, refused })
    }

    /// The same, unless a calendar changed after the planner had looked: then its
    /// cursors may stand where they stood, and its instants be wrong.
    pub(super) fn plan_under(
        &mut self,
        seen: u64,
        batches: &[PlanBatch],
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        if self.calendars_changed() > seen && !mutants::on(Mutant::PlansUnderOldCalendars) {
            return Err(Reject::StalePlan(seen));
        }
        self.plan_actions(batches, ev)
    }

    /// True if nothing moved on since the batch was computed, and it is sound.
    fn accepts(&self, batch: &PlanBatch) -> bool {
        let Some(job) = self.jobs.get(&batch.job) else { return false };
        let is_current = job.revision == batch.revision
            && self.hold_of(job).is_none()
            && !self.is_source_at_rest(job, &batch.source)
            && has_source(&job.spec, &batch.source)
            && self.cursor(batch.job, &batch.source) == Some(batch.from)
            && batch.from <= batch.through;
        let has_room = self.live_actions() + batch.actions.len() <= self.limits.live_actions;
        let doubles = self.doubles_fixed_delay(job, batch);
        if !is_current || !has_room || doubles || self.passes_upstream(job, batch) {
            return false;
        }
        let mut last = batch.from;
        for planned in &batch.actions {
            let in_order = planned.nominal > last && planned.nominal <= batch.through;
            if !in_order || planned.due < planned.nominal || !self.has_upstream(job, planned) {
                return false;
            }
            last = planned.nominal;
        }
        batch.missed.as_ref().is_none_or(|m| {
            m.job == batch.job && PlanSource::Trigger(m.trigger.clone()) == batch.source
        })
    }

    /// True if a trigger that waits for the end of its last action would have two
    /// that are not over.
    fn doubles_fixed_delay(&self, job: &Job, batch: &PlanBatch) -> bool {
        let PlanSource::Trigger(name) = &batch.source else { return false };
        if job.spec.trigger(name).is_none_or(|t| t.kind.fixed_delay().is_none()) {
            return false;
        }
        let is_first = batch.actions.len() <= 1 && self.unfinished_of(batch.job, name).is_none();
        !is_first && !batch.actions.is_empty() && !mutants::on(Mutant::FixedDelayOverlaps)
    }

    /// The action of a trigger that is not over; the earliest of several.
    #[must_use]
    pub fn unfinished_of(&self, job: JobId, trigger: &TriggerName) -> Option<ActionKey> {
        let is_of_it = |key: &ActionKey| {
            self.actions.get(key).is_some_and(|action| action.triggers.contains(trigger))
        };
        self.live_actions_of(job).find(is_of_it)
    }

    fn plan_batch(&mut self, batch: &PlanBatch, ev: &mut Vec<Event>) -> u32 {
        let mut created = 0;
        let before = self.decided_through(batch.job);
        let floor = self.floor(batch.job).unwrap_or(UtcMillis(i64::MIN));
        let trigger = match &batch.source {
            PlanSource::Trigger(name) => Some(name),
            PlanSource::Dependencies => None,
        };
        for planned in batch.actions.iter().filter(|p| p.nominal > floor) {
            let mut key = ActionKey { job: batch.job, nominal: planned.nominal };
            if mutants::on(Mutant::NamedByCommitTime) {
                key.nominal = key.nominal.max(self.meta.now);
            }
            if let Some(old) = self.actions.get(&key) {
                if let Some(name) = trigger.filter(|name| !old.triggers.contains(name)) {
                    // Its run may have been held with the triggers that were paused.
                    let runs: Vec<RunId> = old.run.into_iter().collect();
                    self.move_places(&runs, |state| {
                        state.edit_action(key, |a| a.triggers.push(name.clone()));
                    });
                    self.wait_anew(&runs);
                    ev.push(Event::Action(key));
                }
                continue;
            }
            self.create_action(key, batch, planned, trigger, ev);
            created += 1;
        }
        self.cursors.put((batch.job, batch.source.clone()), batch.through);
        if let Some(missed) = &batch.missed {
            self.put_or_extend_missed(batch.from, missed);
        }
        self.decided_on(batch.job, before, ev);
        ev.push(Event::Job(batch.job));
        created
    }

    fn create_action(
        &mut self,
        key: ActionKey,
        batch: &PlanBatch,
        planned: &PlannedAction,
        trigger: Option<&TriggerName>,
        ev: &mut Vec<Event>,
    ) {
        let (upstream, skipped) = self.upstream_of(key, planned);
        let action = Action {
            state: ActionState::Planned,
            due: planned.due,
            revision: batch.revision,
            triggers: trigger.cloned().into_iter().collect(),
            upstream,
            run: None,
            catch_up: planned.catch_up,
            finished: None,
            next_kind: None,
            forced: false,
            notes: Notes::default(),
            by_area: false,
        };
        self.put_action(key, action);
        ev.push(Event::Action(key));
        if let Some(reason) = skipped {
            self.settle(key, ActionState::Skipped(reason), ev);
        }
    }

    /// A planned action's time has come.
    pub(super) fn action_due(&mut self, key: ActionKey, ev: &mut Vec<Event>) {
        let Some(action) = self.actions.get(&key) else { return };
        if self.may_start(key, action) {
            let ready_at = action.due;
            let settled = self.start(key, ready_at, ev);
            self.settle_all(settled, ev);
        } else {
            self.edit_action(key, |a| a.state = ActionState::Waiting);
            ev.push(Event::Action(key));
        }
    }

    pub(super) fn may_start(&self, key: ActionKey, action: &Action) -> bool {
        action.upstream.iter().all(Upstream::is_met)
            && self.jobs.get(&key.job).is_some_and(|job| self.hold_of(job).is_none())
            && !self.is_action_paused(key.job, action)
    }

    pub(super) fn start_run(&mut self, key: ActionKey, ready_at: UtcMillis, ev: &mut Vec<Event>) {
        let Some(job) = self.jobs.get(&key.job) else { return };
        let Some(action) = self.actions.get(&key) else { return };
        let id = self.meta.last_run.next();
        let is_derived = action.triggers.is_empty();
        let first = if is_derived { RunKind::Dependency } else { RunKind::Schedule };
        let kind = action.next_kind.unwrap_or(first);
        let mut run = Run::new(id, kind, job, key.nominal, self.meta.now);
        run.action = Some(key);
        run.priority = job.spec.priority_of(&action.triggers);
        (run.catch_up, run.ready_at) = (action.catch_up, ready_at);
        if action.next_kind.is_some() {
            self.note_asker(key, &mut run);
        }
        self.meta.last_run = id;
        self.put_run(run);
        self.edit_action(key, |a| {
            a.state = ActionState::Ready;
            a.run = Some(id);
            a.next_kind = None;
        });
        ev.extend([Event::Action(key), Event::Ready(id)]);
    }

    /// Gives an action its final state, and tells those that wait for it. A work
    /// list instead of recursion: chains may be longer than a stack.
    pub(super) fn settle(&mut self, key: ActionKey, state: ActionState, ev: &mut Vec<Event>) {
        self.settle_all(vec![(key, state)], ev);
    }

    /// The same for several.
    pub(super) fn settle_all(&mut self, mut work: Settled, ev: &mut Vec<Event>) {
        let mut not_run = BTreeSet::new();
        while let Some((key, state)) = work.pop() {
            let now = self.meta.now;
            let Some(action) = self.actions.get(&key) else { continue };
            if action.state.is_final() {
                continue;
            }
            let run = action.run_behind();
            let is_elsewhere = action.by_area;
            if run.is_none() {
                not_run.insert(key.job);
            }
            self.edit_action(key, |a| {
                a.by_area &= state == ActionState::Success;
                a.state = state;
                a.finished = Some(now);
                if state == ActionState::Success && !mutants::on(Mutant::ReadinessStays) {
                    a.upstream.iter_mut().for_each(Upstream::clear);
                }
            });
            ev.push(Event::Action(key));
            self.count_delay(key, ev);
            if self.tells_nobody(key) {
                continue;
            }
            work.extend(self.tell_dependants((key, state, run), ev));
            work.extend(self.gather_anew((key, state, run), ev));
            if state == ActionState::Success {
                work.extend(self.revive_dependants(key, ev));
            }
            if is_elsewhere {
                // There is no run whose end would be another's turn.
                work.extend(self.next_in_line(key.job, ev));
            }
            if state == ActionState::Success && mutants::on(Mutant::SuperVisitsTwice) {
                self.visit_again(key, ev);
            }
        }
        // Such jobs may never have a run whose end makes room.
        for job in not_run {
            self.retain(Owner::Job(job));
        }
    }

    /// What must not be: a recovery after which nothing goes on. The fault is asked first,
    /// so that nothing is looked up without it.
    fn tells_nobody(&self, key: ActionKey) -> bool {
        if !mutants::on(Mutant::RecoverTellsNobody) {
            return false;
        }
        let run = self.actions.get(&key).and_then(|action| action.run);
        run.and_then(|run| self.runs.get(&run)).is_some_and(|run| run.kind == RunKind::Recover)
    }

    /// Tells those that wait for an action how it ended; says what that means for some.
    fn tell_dependants(
        &mut self,
        (key, state, run): (ActionKey, ActionState, Option<RunId>),
        ev: &mut Vec<Event>,
    ) -> Settled {
        let is_it = |up: &Upstream| {
            up.awaited() == Some(key)
                || (mutants::on(Mutant::AnyVersionSatisfies) && up.action.job == key.job)
        };
        let mut waiting: Vec<ActionKey> = self.waiting_for(key).collect();
        if mutants::on(Mutant::AnyVersionSatisfies) {
            let waits = |down: &ActionKey| {
                self.actions.get(down).is_some_and(|a| a.upstream.iter().any(is_it))
            };
            waiting = self.index.live.iter().copied().filter(waits).collect();
        }
        let mut settled = Settled::new();
        for down in waiting {
            let up = self.actions.get(&down).and_then(|a| a.upstream.iter().find(|up| is_it(up)));
            match up.map_or(Standing::Open, |up| up.judge(state)) {
                Standing::Open => {}
                Standing::Passed => {
                    let now = self.meta.now;
                    self.edit_action(down, |a| {
                        a.upstream
                            .iter_mut()
                            .filter(|up| is_it(up))
                            .for_each(|up| up.pass(now, run));
                    });
                    settled.extend(self.let_go(down, ev));
                }
                Standing::Closed if mutants::on(Mutant::SkipStaysAlone) => {}
                // Somebody asked for a run of it, whatever it waits for.
                Standing::Closed if self.is_under_way(down) => {}
                Standing::Closed => {
                    settled.push((down, ActionState::Skipped(SkipReason::Upstream)));
                }
            }
        }
        settled
    }

    /// True if a run of the action is queued or running: what becomes of it is for the
    /// run to say.
    pub(super) fn is_under_way(&self, key: ActionKey) -> bool {
        let state = self.actions.get(&key).map(|action| action.state);
        matches!(state, Some(ActionState::Ready | ActionState::Running))
    }

    /// Triggers that wait for the end of this action count their delay from now.
    fn count_delay(&mut self, key: ActionKey, ev: &mut Vec<Event>) {
        let Some(job) = self.jobs.get(&key.job).filter(|job| job.spec.has_fixed_delay()) else {
            return;
        };
        let Some(action) = self.actions.get(&key) else { return };
        let is_delayed = |name: &&TriggerName| {
            job.spec.trigger(name).is_some_and(|t| t.enabled && t.kind.fixed_delay().is_some())
        };
        let delayed: Vec<TriggerName> =
            action.triggers.iter().filter(is_delayed).cloned().collect();
        for name in delayed {
            let source = PlanSource::Trigger(name);
            if self.cursor(key.job, &source).is_some_and(|cursor| cursor < self.meta.now) {
                self.cursors.put((key.job, source), self.meta.now);
            }
            ev.push(Event::Job(key.job));
        }
    }

    /// Withdraws a job's planned actions whose instant has not come: all of them, or those
    /// that nothing but the `lost` triggers claims; and planned actions of other
    /// jobs that wait for withdrawn ones. The job's cursors will go back to now:
    /// so do those of all jobs that depend on it, because new instants may lie
    /// where they have been already.
    pub(super) fn withdraw(
        &mut self,
        job: JobId,
        lost: Option<&BTreeSet<TriggerName>>,
        ev: &mut Vec<Event>,
    ) {
        let mut gone = Vec::new();
        for key in self.live_actions_of(job).collect::<Vec<_>>() {
            if mutants::on(Mutant::EditKeepsPlan) {
                continue;
            }
            let Some(action) = self.actions.get(&key).filter(|a| self.is_ahead(key, a)) else {
                continue;
            };
            let Some(lost) = lost else {
                gone.push(key);
                continue;
            };
            let is_claimed = |t: &TriggerName| !lost.contains(t);
            if !action.triggers.iter().any(is_claimed) {
                gone.push(key);
            } else if !action.triggers.iter().all(is_claimed) {
                self.edit_action(key, |a| a.triggers.retain(is_claimed));
                ev.push(Event::Action(key));
            }
        }
        self.withdraw_actions(gone, job, ev);
    }

    /// Planned, and its instant has not come. One whose instant has passed and that
    /// starts later only because of jitter stays: cursors go back to now at most, so it
    /// would not be planned again.
    pub(super) fn is_ahead(&self, key: ActionKey, action: &Action) -> bool {
        action.state == ActionState::Planned && key.nominal > self.meta.now
    }

    fn withdraw_actions(&mut self, mut work: Vec<ActionKey>, job: JobId, ev: &mut Vec<Event>) {
        let (mut rewound, mut replanned) = (BTreeSet::new(), BTreeSet::new());
        let mut moved = vec![job];
        loop {
            while let Some(key) = work.pop() {
                let waiting: Vec<ActionKey> = self.waiting_for(key).collect();
                self.remove_action(key);
                ev.push(Event::Action(key));
                for down in waiting {
                    if self.actions.get(&down).is_some_and(|a| self.is_ahead(down, a)) {
                        if rewound.insert(down.job) {
                            self.rewind_cursors(down.job, self.meta.now);
                            ev.push(Event::Job(down.job));
                            moved.push(down.job);
                        }
                        work.push(down);
                    }
                    // One that is due already waits: what is planned anew says whether
                    // that instant comes again.
                }
            }
            let Some(up) = moved.pop() else { break };
            for down in self.dependants_of(up).collect::<Vec<_>>() {
                // One whose cursors went back above was ahead as well.
                let was_ahead = rewound.contains(&down)
                    || self.cursors_of(down).iter().any(|(_, cursor)| *cursor > self.meta.now);
                if !was_ahead || !replanned.insert(down) {
                    continue;
                }
                self.rewind_cursors(down, self.meta.now);
                ev.push(Event::Job(down));
                moved.push(down);
                // Those that would not go with the instants they copy are planned again,
                // to wait for what will come.
                let copies = |job: &Job| job.spec.copies_instants();
                if !self.jobs.get(&down).is_some_and(copies) {
                    let is_ahead = |key: &ActionKey| {
                        self.actions.get(key).is_some_and(|a| self.is_ahead(*key, a))
                    };
                    work.extend(self.live_actions_of(down).filter(is_ahead));
                }
            }
        }
    }

    /// No cursor of the job stays ahead of `to`.
    pub(super) fn rewind_cursors(&mut self, job: JobId, to: UtcMillis) {
        for (source, _) in self.cursors_of(job) {
            self.rewind(job, source, to);
        }
    }

    /// The cursor, if there is one, does not stay ahead of `to`.
    pub(super) fn rewind(&mut self, job: JobId, source: PlanSource, to: UtcMillis) {
        if self.cursor(job, &source).is_some_and(|cursor| cursor > to) {
            self.cursors.put((job, source), to);
        }
    }

    /// A job's cursors.
    pub(super) fn cursors_of(&self, job: JobId) -> Vec<(PlanSource, UtcMillis)> {
        let Some(found) = self.jobs.get(&job) else { return Vec::new() };
        let sources = sources_of(&found.spec);
        sources
            .into_iter()
            .filter_map(|source| {
                let cursor = self.cursor(job, &source)?;
                Some((source, cursor))
            })
            .collect()
    }

    /// Ends a final run's action, if it has one.
    pub(super) fn settle_run(&mut self, run: RunId, state: ActionState, ev: &mut Vec<Event>) {
        if let Some(key) = self.runs.get(&run).and_then(Run::decides) {
            self.settle(key, state, ev);
        }
    }
}

/// Where a definition takes its instants from: its triggers alone, if it has any.
pub(super) fn sources_of(spec: &JobSpec) -> Vec<PlanSource> {
    if spec.triggers.is_empty() && !spec.depends_on.is_empty() {
        return vec![PlanSource::Dependencies];
    }
    let enabled = spec.triggers.iter().filter(|t| t.enabled);
    enabled.map(|t| PlanSource::Trigger(t.name.clone())).collect()
}

fn has_source(spec: &JobSpec, source: &PlanSource) -> bool {
    match source {
        PlanSource::Trigger(name) => spec.trigger(name).is_some_and(|t| t.enabled),
        PlanSource::Dependencies => spec.triggers.is_empty() && !spec.depends_on.is_empty(),
    }
}
