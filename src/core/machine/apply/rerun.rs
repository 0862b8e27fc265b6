//! What a person asks of an action: that it run again, that it count as a success, or
//! that it be skipped. Its dependants are told as if it had come to that by itself.
//!
//! A rerun of the whole tree below an action opens every action of it again, each once,
//! and has it wait for those of the tree that it follows: what was gathered before does
//! not count, and what is queued or running is left alone.

use std::collections::BTreeSet;

use super::super::command::Actor;
use super::super::outcome::{Event, Outcome, Reject};
use super::super::state::{HIGHEST, LOWEST, State};
use super::overlap::Settled;
use super::{invalid, room_for};
use crate::ids::{ActionKey, RunId};
use crate::model::action::{Action, ActionState, SkipReason, Upstream};
use crate::model::edge::Standing;
use crate::model::history::{Cause, Note};
use crate::model::run::{Run, RunKind};
use crate::time::UtcMillis;

impl State {
    /// Runs an action again, whatever it came to and whatever it waits for; with all that
    /// follows from it if `below`. Only another run of its job may be in its way, if the job
    /// says so: then it waits for its turn. Where its job has nothing to do in this area, it
    /// is a success once more, and no run is made.
    pub(super) fn rerun(
        &mut self,
        key: ActionKey,
        below: bool,
        actor: &Actor,
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        self.idle_action(key)?;
        if !self.is_job_elsewhere(key.job) {
            self.room_for_run()?;
            if !self.may_have_turn(key) {
                return Err(Reject::OutOfTurn(key));
            }
        }
        let kind = if below { RunKind::SuperRecover } else { RunKind::Recover };
        if below {
            let tree: BTreeSet<ActionKey> = self.tree_below(key)?.into_iter().collect();
            for down in &tree {
                let note = self.note(actor, Cause::RecoveredBelow(key, self.before(*down)));
                self.await_tree(*down, note, (key, &tree), ev);
            }
        }
        let note = self.note(actor, Cause::Recovered(self.before(key)));
        self.reopen(key, Some(kind), note, ev);
        let settled = self.start(key, self.meta.now, ev);
        if self.actions.get(&key).is_some_and(|action| action.state == ActionState::Waiting) {
            // It waits for its turn, and for nothing else.
            let now = self.meta.now;
            self.edit_action(key, |action| {
                let open = action.upstream.iter_mut().filter(|up| !up.is_met());
                open.for_each(|up| up.passed = Some(now));
            });
        }
        self.settle_all(settled, ev);
        let run = self.actions.get(&key).and_then(|action| action.run);
        Ok(run.map_or(Outcome::Done, |run| Outcome::Run { run }))
    }

    /// Says that an action has succeeded, or is skipped, without a run of it.
    pub(super) fn settle_by_hand(
        &mut self,
        key: ActionKey,
        success: bool,
        actor: &Actor,
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        let action = self.idle_action(key)?;
        match (action.state, success) {
            (ActionState::Success, true) => return Ok(Outcome::Done),
            (ActionState::Success, false) => {
                let problem = "it has succeeded; what has run cannot be skipped";
                return Err(invalid("action", problem));
            }
            _ => {}
        }
        let cause = if success { Cause::Forced } else { Cause::Skipped };
        let note = self.note(actor, cause(self.before(key)));
        self.edit_action(key, |action| {
            action.state = ActionState::Waiting;
            action.finished = None;
            action.forced = true;
            action.notes.add(note);
        });
        let state =
            if success { ActionState::Success } else { ActionState::Skipped(SkipReason::Person) };
        self.settle(key, state, ev);
        Ok(Outcome::Done)
    }

    /// An action that is there and of which nothing is queued or running.
    fn idle_action(&self, key: ActionKey) -> Result<&Action, Reject> {
        let action = self.actions.get(&key).ok_or(Reject::NoSuchAction(key))?;
        if !self.jobs.contains(&key.job) {
            return Err(Reject::NoSuchJob(key.job));
        }
        match (action.state, action.run) {
            (ActionState::Ready | ActionState::Running, Some(run)) => {
                Err(Reject::ActionActive { action: key, run })
            }
            _ => Ok(action),
        }
    }

    /// The actions that follow from one, by however many steps, in the order of their
    /// keys. It stops at what is queued or running, and at what is not due yet: those are
    /// told by themselves.
    ///
    /// # Errors
    /// [`Reject::Full`] if there are too many for one command.
    pub fn tree_below(&self, key: ActionKey) -> Result<Vec<ActionKey>, Reject> {
        let (mut tree, mut work) = (BTreeSet::new(), vec![key]);
        while let Some(up) = work.pop() {
            for down in self.followers_of(up) {
                if down == key || tree.contains(&down) {
                    continue;
                }
                room_for("actions of one recovery", tree.len() + 1, Self::MAX_TREE)?;
                tree.insert(down);
                work.push(down);
            }
        }
        Ok(tree.into_iter().collect())
    }

    /// The most actions of one recovery.
    pub const MAX_TREE: usize = 5_000;

    /// Actions that name this one as upstream and may be opened again.
    fn followers_of(&self, up: ActionKey) -> Vec<ActionKey> {
        let names = |action: &Action| action.upstream.iter().any(|u| u.awaited() == Some(up));
        let may_open = |state: ActionState| state.is_final() || state == ActionState::Waiting;
        let mut found = Vec::new();
        for job in self.dependants_of(up.job).filter(|job| *job != up.job) {
            let all = self.actions_of(job, UtcMillis(i64::MIN), UtcMillis::MAX);
            let open = all.filter(|(_, action)| may_open(action.state) && names(action));
            found.extend(open.map(|(key, _)| key));
        }
        found
    }

    /// Opens an action of a tree again: it waits for what it follows in it, and for
    /// nothing else.
    fn await_tree(
        &mut self,
        key: ActionKey,
        note: Note,
        (root, tree): (ActionKey, &BTreeSet<ActionKey>),
        ev: &mut Vec<Event>,
    ) {
        self.reopen(key, Some(RunKind::SuperRecover), note, ev);
        let now = self.meta.now;
        self.edit_action(key, |action| {
            for up in &mut action.upstream {
                let is_of_tree = up.awaited().is_some_and(|up| up == root || tree.contains(&up));
                if is_of_tree {
                    (up.met, up.passed) = (None, None);
                } else if !up.is_met() {
                    up.passed = Some(now);
                }
            }
        });
    }

    /// What must not be: an action below a recovery runs again until it has run once for
    /// each of its edges.
    pub(super) fn visit_again(&mut self, key: ActionKey, ev: &mut Vec<Event>) {
        let is_it = |run: &&Run| run.action == Some(key) && run.kind == RunKind::SuperRecover;
        let visits = self.runs.iter().map(|(_, run)| run).filter(is_it).count();
        let edges = self.actions.get(&key).map_or(0, |action| action.upstream.len());
        if edges > 1 && visits % edges != 0 {
            let note = self.own_note(Cause::Recovered(self.before(key)));
            self.reopen(key, Some(RunKind::SuperRecover), note, ev);
            self.start_run(key, self.meta.now, ev);
        }
    }

    /// It is as if the action had never run; the next run of it is of this kind. Nobody
    /// told it what ended while it was over itself.
    pub(super) fn reopen(
        &mut self,
        key: ActionKey,
        kind: Option<RunKind>,
        note: Note,
        ev: &mut Vec<Event>,
    ) {
        let Some(action) = self.actions.get(&key) else { return };
        let upstream: Vec<Upstream> =
            action.upstream.iter().map(|up| self.as_it_stands(key, up)).collect();
        self.edit_action(key, |action| {
            action.upstream = upstream;
            action.state = ActionState::Waiting;
            action.finished = None;
            action.run = None;
            action.forced = false;
            action.by_area = false;
            action.next_kind = kind;
            action.notes.add(note);
        });
        ev.push(Event::Action(key));
    }

    /// An action has ended once more, as an edge asks: dependants that have succeeded since
    /// gather anew what they wait for, and run again when all of it is there. Soft edges
    /// only order. A job's own later actions are left alone, as in a recovery of the tree.
    pub(super) fn gather_anew(
        &mut self,
        (key, state, run): (ActionKey, ActionState, Option<RunId>),
        ev: &mut Vec<Event>,
    ) -> Settled {
        let mut settled = Settled::new();
        if !self.has_ended_before(key) {
            return settled;
        }
        let now = self.meta.now;
        let is_told = |up: &Upstream| {
            up.awaited() == Some(key) && !up.soft && up.judge(state) == Standing::Passed
        };
        for down in self.followers_of(key) {
            let Some(action) = self.actions.get(&down) else { continue };
            let is_it = action.state == ActionState::Success && action.upstream.iter().any(is_told);
            if !is_it {
                continue;
            }
            self.edit_action(down, |action| {
                let told = action.upstream.iter_mut().filter(|up| is_told(up));
                told.for_each(|up| up.pass(now, run));
            });
            let is_full = |action: &Action| action.upstream.iter().all(|up| up.is_met() || up.soft);
            if self.actions.get(&down).is_some_and(is_full) {
                settled.extend(self.run_anew(down, key, ev));
            }
        }
        settled
    }

    /// True if somebody had the action run, or end, after it had ended already.
    fn has_ended_before(&self, key: ActionKey) -> bool {
        let last = self.actions.get(&key).and_then(|action| action.notes.iter().next_back());
        last.and_then(|note| note.cause.before()).is_some_and(|before| before.state.is_final())
    }

    /// What an upstream action came to has an action run that was over.
    fn run_anew(&mut self, key: ActionKey, up: ActionKey, ev: &mut Vec<Event>) -> Settled {
        // One that has run already runs as what it is now: a recovery.
        let has_run = self.actions.get(&key).is_some_and(|action| action.run.is_some());
        let note = self.own_note(Cause::Revived(up, self.before(key)));
        self.reopen(key, has_run.then_some(RunKind::Recover), note, ev);
        let now = self.meta.now;
        self.edit_action(key, |action| {
            if action.due > now {
                action.state = ActionState::Planned;
            }
        });
        self.let_go(key, ev)
    }

    /// An action has succeeded once more: those that failed after it, or were skipped
    /// because it was, get another chance.
    pub(super) fn revive_dependants(&mut self, key: ActionKey, ev: &mut Vec<Event>) -> Settled {
        let mut settled = Settled::new();
        let run = self.actions.get(&key).and_then(Action::run_behind);
        let now = self.meta.now;
        let over = self.index.revivable.range((key, LOWEST)..=(key, HIGHEST));
        for down in over.map(|(_, down)| *down).collect::<Vec<_>>() {
            let Some(action) = self.actions.get(&down) else { continue };
            let is_closed = action.upstream.iter().any(|up| {
                let above = up.awaited().and_then(|up| self.actions.get(&up));
                above.is_some_and(|above| up.judge(above.state) == Standing::Closed)
            });
            if is_closed {
                continue;
            }
            self.edit_action(down, |action| {
                let named = action.upstream.iter_mut().filter(|up| up.awaited() == Some(key));
                named.for_each(|up| up.pass(now, run));
            });
            settled.extend(self.run_anew(down, key, ev));
        }
        settled
    }
}
