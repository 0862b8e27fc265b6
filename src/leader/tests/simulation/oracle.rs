//! What must be true, from what was committed and what really ran.
//!
//! It hears of every command and of every process on the modelled machines, and
//! keeps its own books. A record in the state is never its only evidence: a
//! success must have been a process that ended well, a loss one that has ended.

use std::collections::{BTreeMap, BTreeSet};

use horai_core::ids::{ActionKey, AttemptKey, Incarnation, LeaderId, Name, RunId, Token, WorkerId};
use horai_core::machine::command::{Actor, Command, Envelope};
use horai_core::machine::outcome::{Applied, Event, Outcome, Reject};
use horai_core::machine::state::State;
use horai_core::model::action::{Action, ActionState};
use horai_core::model::job::OnWorkerLost;
use horai_core::model::pause::{AfterPause, PauseTarget};
use horai_core::model::run::{Attempt, EndKind, Run, RunKind, RunResult, RunState};
use horai_core::model::worker::Worker;
use horai_core::time::{Span, UtcMillis};

use super::beside::Beside;
use super::fires::Fires;
use super::replicas::Problem;
use super::script::JobShape;

/// An attempt that was committed.
struct Given {
    key: AttemptKey,
    incarnation: Incarnation,
    action: Option<ActionKey>,
    /// Replicated time of its dispatch.
    since: i64,
    has_ended: bool,
}

/// A process that was started for it.
struct Process {
    shard: (RunId, u32),
    ended: Option<EndKind>,
}

#[derive(Default)]
struct RunSeen {
    last: u32,
    finished: Option<RunResult>,
}

/// Until when a client is sure to hold a lock.
struct Belief {
    name: Name,
    until: i64,
}

/// See the module.
pub(super) struct Oracle {
    shapes: BTreeMap<u64, JobShape>,
    pub(super) fires: Fires,
    beside: Beside,
    runs: BTreeMap<RunId, RunSeen>,
    given: BTreeMap<Token, Given>,
    processes: BTreeMap<Token, Process>,
    /// Of runs, and shards of them, whose process is alive.
    alive: BTreeMap<(RunId, u32), Token>,
    /// Actions of which a process ended well.
    done: BTreeSet<ActionKey>,
    /// Actions that were recorded as a success.
    recorded: BTreeSet<ActionKey>,
    highest: Token,
    /// Of each lock, every token that was given, and to whom.
    lock_tokens: BTreeMap<Name, BTreeMap<Token, String>>,
    beliefs: BTreeMap<usize, Belief>,
    requests: BTreeSet<String>,
    /// True time and cluster time of a proposal, since the last full stop.
    clock: Option<(i64, i64)>,
    /// Who leads by what is committed, and since when.
    leader: LeaderId,
    led_since: i64,
    /// When a worker's contact was committed last.
    contacts: BTreeMap<(WorkerId, Incarnation), i64>,
    /// A worker tells what it holds: that may prove that something is gone.
    is_told: bool,
}

fn ensure(holds: bool, problem: impl FnOnce() -> String) -> Result<(), Problem> {
    if holds { Ok(()) } else { Err(problem()) }
}

impl Oracle {
    pub(super) fn new() -> Self {
        Self {
            shapes: BTreeMap::new(),
            fires: Fires::default(),
            beside: Beside::default(),
            runs: BTreeMap::new(),
            given: BTreeMap::new(),
            processes: BTreeMap::new(),
            alive: BTreeMap::new(),
            done: BTreeSet::new(),
            recorded: BTreeSet::new(),
            highest: Token(0),
            lock_tokens: BTreeMap::new(),
            beliefs: BTreeMap::new(),
            requests: BTreeSet::new(),
            clock: None,
            leader: LeaderId::default(),
            led_since: 0,
            contacts: BTreeMap::new(),
            is_told: false,
        }
    }

    /// A user means to give this place such a job.
    pub(super) fn meant(&mut self, slot: u64, shape: JobShape) {
        for trigger in &shape.triggers {
            self.fires.crons.insert(trigger.cron.text(), trigger.cron.clone());
        }
        self.shapes.insert(slot, shape);
    }

    pub(super) fn shape(&self, slot: u64) -> JobShape {
        self.shapes[&slot].clone()
    }

    /// Something keeps the leader's services from their work.
    pub(super) fn disturbed(&mut self, now: i64) {
        self.fires.calm_since = self.fires.calm_since.max(now);
    }

    /// All nodes are down: cluster time is set anew afterwards.
    pub(super) fn stopped(&mut self, now: i64, long: i64) {
        self.disturbed(now + long);
        self.clock = None;
    }

    /// Processes started, actions seen, attempts committed: so that a world in
    /// which nothing happens is noticed.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        (self.processes.len(), self.fires.count(), self.given.len())
    }

    /// A leader stamps a proposal: cluster time leans, and never steps. Nodes hear of
    /// it each `beat`, and may lean apart in between.
    pub(super) fn on_stamp(
        &mut self,
        stamp: UtcMillis,
        now: i64,
        beat: i64,
    ) -> Result<(), Problem> {
        if let Some((then, told)) = self.clock {
            let (passed, shown) = (now - then, stamp.0 - told);
            ensure((shown - passed).abs() <= (passed + 2 * beat) / 40 + 50, || {
                format!("cluster time moved by {shown} ms in {passed} ms")
            })?;
        }
        self.clock = Some((now, stamp.0));
        Ok(())
    }

    pub(super) fn on_commit(
        &mut self,
        (before, state): (&State, &State),
        envelope: &Envelope,
        applied: &Applied,
        now: i64,
    ) -> Result<(), Problem> {
        ensure(state.now() >= before.now(), || "replicated time went back".to_owned())?;
        let request = envelope.request.as_ref();
        let is_new = request.is_none_or(|request| self.requests.insert(request.id.clone()));
        self.on_fences(before, state.now().0, envelope, &applied.outcome, is_new)?;
        if is_new {
            self.on_command(&envelope.command, (before, state), &applied.outcome, now)?;
            let opened = self.beside.on_commit((before, state), envelope, &applied.outcome)?;
            self.fires.reopened.extend(opened);
        }
        let is_leaders = matches!(envelope.actor, Actor::Leader(leader) if leader == self.leader);
        self.fires.take_turns((before, state), is_leaders, now)?;
        for event in &applied.events {
            match event {
                Event::Action(key) => {
                    self.fires.on_action(*key, state, now)?;
                    check_skip(*key, state)?;
                }
                Event::Run(id) | Event::Ready(id) => {
                    if let Some(run) = state.run(*id) {
                        self.on_run(run, state)?;
                    }
                }
                Event::Job(job) => {
                    for missed in state.missed_of(*job) {
                        self.fires.on_missed(missed)?;
                    }
                }
                Event::Lock => self.on_locks(state)?,
                Event::Worker(_) | Event::WorkerGroup | Event::Pool => {}
            }
        }
        Ok(())
    }

    /// What a leader that was followed by another says changes nothing, and so does a
    /// result of another attempt than the one that lives.
    fn on_fences(
        &mut self,
        before: &State,
        now: i64,
        envelope: &Envelope,
        outcome: &Outcome,
        is_new: bool,
    ) -> Result<(), Problem> {
        self.is_told = matches!(envelope.command, Command::AttachWorker(_));
        if let Actor::Leader(leader) = envelope.actor {
            let is_stale = matches!(outcome, Outcome::Rejected(Reject::StaleLeader(_)));
            let is_begun = matches!(envelope.command, Command::LeaderStarted(_));
            let may = if is_begun { leader >= self.leader } else { leader == self.leader };
            ensure(may || is_stale, || {
                let (command, current) = (&envelope.command, self.leader);
                format!("{leader} is obeyed, but {current} leads: {command:?}")
            })?;
            // Services that begin anew under the same leader extend no lease.
            if is_begun && leader > self.leader {
                (self.leader, self.led_since) = (leader, now);
            }
        }
        match (&envelope.command, outcome) {
            (Command::WorkersAlive(workers), Outcome::Done) => {
                self.contacts.extend(workers.iter().map(|worker| (*worker, now)));
            }
            (Command::AttachWorker(profile), Outcome::Worker { worker }) => {
                self.contacts.insert((*worker, profile.incarnation), now);
            }
            (Command::Complete { attempt, token, .. }, Outcome::Done) if is_new => {
                let live = before.run_of(*attempt).and_then(Run::live_attempt);
                ensure(live.is_some_and(|a| a.key == *attempt && a.token == *token), || {
                    format!("a result of {attempt} (token {token}) is taken for {live:?}")
                })?;
            }
            _ => {}
        }
        Ok(())
    }

    fn on_command(
        &mut self,
        command: &Command,
        (before, state): (&State, &State),
        outcome: &Outcome,
        now: i64,
    ) -> Result<(), Problem> {
        let at = state.now().0;
        match (command, outcome) {
            (Command::ApplyJob { spec, .. }, Outcome::Job { job, changed: true, .. }) => {
                self.fires.on_job(*job, spec, before, at, now)
            }
            (Command::PauseJob { job } | Command::DeleteJob { job, .. }, Outcome::Done) => {
                self.fires.on_end(*job, before, at, now)
            }
            (Command::ResumeJob { job }, Outcome::Done) => {
                self.fires.on_resume(*job, AfterPause::Skip, before, at, now)
            }
            (Command::Resume { target: PauseTarget::Job(job), missed }, Outcome::Done) => {
                self.fires.on_resume(*job, *missed, before, at, now)
            }
            (Command::Pause { target: PauseTarget::Trigger(job, name) }, Outcome::Done) => {
                self.fires.on_trigger((*job, name), None, before, (at, now))
            }
            (
                Command::Resume { target: PauseTarget::Trigger(job, name), missed },
                Outcome::Done,
            ) => self.fires.on_trigger((*job, name), Some(*missed), before, (at, now)),
            (Command::Pause { target }, Outcome::Done) => {
                self.fires.on_pause(target, None, before, (at, now))
            }
            (Command::Resume { target, missed }, Outcome::Done) => {
                self.fires.on_pause(target, Some(*missed), before, (at, now))
            }
            (Command::Spread { run }, Outcome::Done) => self.on_split(*run, state),
            (Command::PutCalendar { def, .. }, Outcome::Calendar { changed: true, .. }) => {
                self.fires.on_calendar(def, now);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A run is split: each worker that was heard of just now has one part of it.
    fn on_split(&self, run: RunId, state: &State) -> Result<(), Problem> {
        let now = state.now().0;
        let is_there = |worker: &&Worker| {
            let contact = self.contacts.get(&(worker.id, worker.profile.incarnation));
            contact.is_some_and(|contact| contact + 20_000 > now)
        };
        let there = state.workers_after(None).filter(is_there).map(|worker| Some(worker.id));
        let there: Vec<_> = there.collect();
        let parts = state.run(run).into_iter().flat_map(|run| state.parts_of(run));
        let parts: Vec<_> = parts.map(|part| part.part.and_then(|part| part.worker)).collect();
        ensure(parts == there && !there.is_empty() && now >= self.led_since + 5_000, || {
            format!("run {run} is split over {parts:?}, and there are {there:?}")
        })
    }

    fn on_run(&mut self, run: &Run, state: &State) -> Result<(), Problem> {
        let id = run.id;
        self.beside.on_run(run, state)?;
        let seen = self.runs.entry(id).or_default();
        let finished = match run.state {
            RunState::Finished { result, .. } => Some(result),
            _ => None,
        };
        ensure(seen.finished.is_none() || seen.finished == finished, || {
            format!("run {id} was {:?}, is {:?}", seen.finished, run.state)
        })?;
        let is_new_end = finished.is_some() && seen.finished.is_none();
        seen.finished = finished;
        for attempt in &run.attempts {
            let (token, number) = (attempt.token, attempt.key.number);
            if !self.given.contains_key(&token) {
                ensure(token > self.highest && number == seen.last + 1, || {
                    format!("attempt {} has token {token} after {}", attempt.key, self.highest)
                })?;
                let failed = |a: &&Attempt| a.end.as_ref().is_some_and(|end| !end.how.is_loss());
                let failed = run.attempts.iter().filter(failed).count();
                let allowed = state.spec(run.job, run.revision).map(|spec| spec.retries.count);
                let is_one_of = allowed.is_some_and(|most| failed <= most as usize);
                ensure(is_one_of, || format!("{} is retry {failed} of {allowed:?}", attempt.key))?;
                // A run beside the plan is no fire of its action's triggers.
                let action = run.decides().and_then(|key| state.action(key));
                let triggers = action.map_or(&[][..], |action| &action.triggers);
                let is_held = state.job(run.job).is_some()
                    && run.kind != RunKind::Backfill
                    && self.fires.is_action_held(run.job, triggers);
                ensure(!is_held, || format!("{} is dispatched, but its job pauses", attempt.key))?;
                let (key, incarnation) = (attempt.key, attempt.incarnation);
                let decides = !matches!(run.kind, RunKind::Manual | RunKind::Debug);
                let action = run.action.filter(|_| decides);
                let since = state.now().0;
                let given = Given { key, incarnation, action, since, has_ended: false };
                (self.highest, seen.last) = (token, number);
                self.given.insert(token, given);
            }
            let Some(end) = &attempt.end else { continue };
            let given = self.given.get_mut(&token).expect("it was given just now or before");
            if !std::mem::replace(&mut given.has_ended, true) {
                let spec = state.spec(run.job, run.revision);
                let keeps = spec.map(|s| matches!(s.on_worker_lost, OnWorkerLost::Keep { .. }));
                let process = self.processes.get(&token).map(|p| p.ended.clone());
                check_end(&end.how, process, keeps != Some(false))
                    .map_err(|e| format!("attempt {}: {e}", attempt.key))?;
                if end.how == EndKind::WorkerLost && keeps == Some(false) && !self.is_told {
                    let contact = self.contacts.get(&(attempt.worker, attempt.incarnation));
                    let since = self.led_since.max(given.since).max(contact.copied().unwrap_or(0));
                    let silent = UtcMillis(state.now().0 - since);
                    let lease = spec.map_or(Span(0), |spec| spec.lease);
                    let least = UtcMillis(0).plus(lease).plus(state.lease_margin());
                    ensure(silent >= least, || {
                        let key = attempt.key;
                        format!("{key} counts as lost after {silent:?} of silence, not {least:?}")
                    })?;
                }
            }
        }
        if is_new_end && finished == Some(RunResult::Success) {
            let has_process = |run: &Run| {
                run.attempts.iter().any(|a| {
                    let process = self.processes.get(&a.token).and_then(|p| p.ended.as_ref());
                    process.is_some_and(EndKind::is_success)
                })
            };
            let is_real = match run.parts {
                None => has_process(run),
                Some(parts) => {
                    self.done.extend(run.action);
                    state.parts_of(run).filter(|part| has_process(part)).count()
                        == parts.total as usize
                }
            };
            ensure(is_real, || format!("run {id} is a success, and no process was"))?;
            let is_first =
                matches!(run.kind, RunKind::Schedule | RunKind::Dependency) && run.part.is_none();
            let is_open = |key: &ActionKey| self.fires.reopened.contains(key);
            if let Some(key) = run.action.filter(|key| is_first && !is_open(key)) {
                ensure(self.recorded.insert(key), || format!("{key} succeeded twice"))?;
            }
        }
        Ok(())
    }

    /// A process starts on a machine.
    pub(super) fn on_started(
        &mut self,
        key: AttemptKey,
        token: Token,
        incarnation: Incarnation,
        state: &State,
    ) -> Result<(), Problem> {
        let given = self.given.get(&token);
        let given = given.filter(|g| g.key == key && g.incarnation == incarnation);
        let given = given.ok_or_else(|| format!("{key} runs under {token}, not committed"))?;
        if let Some(other) = self.alive.get(&(key.run, key.shard)) {
            return Err(format!("{key} (token {token}) runs while token {other} still does"));
        }
        let reopened = &self.fires.reopened;
        if let Some(action) = given.action.filter(|action| !reopened.contains(action)) {
            ensure(state.now() >= action.nominal, || format!("{action} runs early"))?;
            let seen = self.fires.seen(action);
            let edges = seen.map_or(&[][..], |seen| &seen.edges);
            for up in edges {
                let up = ActionKey { job: *up, nominal: action.nominal };
                let is_there = self.fires.seen(up).is_some_and(|seen| !seen.is_gone);
                ensure(!is_there || self.done.contains(&up), || {
                    format!("{action} runs before {up} has succeeded")
                })?;
            }
        }
        let process = Process { shard: (key.run, key.shard), ended: None };
        let old = self.processes.insert(token, process);
        ensure(old.is_none(), || format!("{key} was started twice under token {token}"))?;
        self.alive.insert((key.run, key.shard), token);
        Ok(())
    }

    /// A process is gone.
    pub(super) fn on_ended(&mut self, token: Token, how: EndKind) {
        let Some(process) = self.processes.get_mut(&token) else { return };
        self.alive.remove(&process.shard);
        if how.is_success()
            && let Some(given) = self.given.get(&token)
            // One shard is not the whole.
            && let Some(action) = given.action.filter(|_| given.key.shard_index().is_none())
        {
            self.done.insert(action);
        }
        process.ended = Some(how);
    }

    fn on_locks(&mut self, state: &State) -> Result<(), Problem> {
        for lock in state.locks_after(None) {
            let known = self.lock_tokens.entry(lock.name.clone()).or_default();
            for holder in &lock.holders {
                let owner = known.get(&holder.token).cloned();
                let is_next = known.last_key_value().is_none_or(|(last, _)| holder.token > *last);
                ensure(
                    owner.as_ref() == Some(&holder.owner) || (owner.is_none() && is_next),
                    || {
                        let (name, owner) = (&lock.name, &holder.owner);
                        format!("{name} is given to {owner} with a token that does not grow")
                    },
                )?;
                known.insert(holder.token, holder.owner.clone());
            }
        }
        Ok(())
    }

    /// A client is sure to hold a lock from now on until then.
    pub(super) fn holds(
        &mut self,
        client: usize,
        name: &Name,
        slots: u32,
        token: Token,
        (now, until): (i64, i64),
    ) -> Result<(), Problem> {
        self.beliefs.insert(client, Belief { name: name.clone(), until });
        let others = self.beliefs.values().filter(|b| b.name == *name && b.until > now).count();
        ensure(others <= slots as usize, || {
            format!("{others} hold {name}, which has {slots} slots; the last has token {token}")
        })
    }

    pub(super) fn believes(&self, client: usize, now: i64) -> bool {
        self.beliefs.get(&client).is_some_and(|belief| belief.until > now)
    }

    pub(super) fn let_go(&mut self, client: usize) {
        self.beliefs.remove(&client);
    }

    /// Nothing runs any more, and everything that was due is accounted for.
    pub(super) fn check_all(&self, state: &State) -> Result<(), Problem> {
        if let Some(((run, _), token)) = self.alive.first_key_value() {
            return Err(format!("run {run} is alive under token {token}"));
        }
        for run in state.runs_after(None) {
            let seen = self.runs.get(&run.id);
            ensure(seen.is_some(), || format!("run {} came without an event", run.id))?;
        }
        self.fires.check_all(state.now().0)
    }
}

/// What waits for an action that is skipped is skipped with it.
fn check_skip(key: ActionKey, state: &State) -> Result<(), Problem> {
    let is_skipped = |action: &Action| matches!(action.state, ActionState::Skipped(_));
    if !state.action(key).is_some_and(is_skipped) {
        return Ok(());
    }
    for job in state.jobs_after(None) {
        for down in state.live_actions_of(job.id) {
            let waits = state
                .action(down)
                .is_some_and(|a| a.upstream.iter().any(|up| up.awaited() == Some(key)));
            ensure(!waits, || format!("{down} waits for {key}, which is skipped"))?;
        }
    }
    Ok(())
}

/// What is recorded of an attempt's end against what became of its process:
/// none, one that lives, or one that has ended.
fn check_end(
    recorded: &EndKind,
    process: Option<Option<EndKind>>,
    may_live_on: bool,
) -> Result<(), Problem> {
    match (recorded, process) {
        (EndKind::Exited { .. } | EndKind::Signaled { .. }, Some(Some(ended))) => {
            ensure(*recorded == ended, || format!("recorded {recorded:?}, was {ended:?}"))
        }
        (EndKind::Exited { .. } | EndKind::Signaled { .. }, other) => {
            Err(format!("recorded {recorded:?}, its process is {other:?}"))
        }
        (_, Some(None)) if !may_live_on => {
            Err(format!("recorded {recorded:?}, and its process is alive"))
        }
        _ => Ok(()),
    }
}
