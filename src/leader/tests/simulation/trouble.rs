//! The script's events, and what becomes of leaders.

use horai_core::ids::{ActionKey, JobId, LeaderId, NodeId};
use horai_core::machine::command::{Command, PlanBatch, PlanSource};
use horai_core::model::action::{Action, ActionState};

use super::clients::{Client, User, calendar_name, put_calendar};
use super::lead::{Lead, Purpose};
use super::links::{Body, Side};
use super::replicas::Problem;
use super::script::{Event, Fate, LeftOut, Moment, NODES};
use super::worker::ToWorker;
use super::world::{Happening, Loop, World};

/// A leader that never has under way what is waited for is followed by another after
/// this, in units of the scale.
const TRAP: i64 = 20;
/// So long there may be nothing that can be dropped, in units of the scale.
const DROP: i64 = 60;
/// Somebody looks at a cluster that has no time after this.
const OPERATOR: i64 = 2_000;
/// How long a proposal waits for its answer.
const PATIENCE: i64 = 10_000;

impl World {
    pub(super) fn on_script(&mut self, place: usize) -> Result<(), Problem> {
        let now = self.now();
        match self.script[place].event.clone() {
            Event::Put(..)
            | Event::Pause(_)
            | Event::Resume(_)
            | Event::ResumeLate(_)
            | Event::Hold(_)
            | Event::GoOn(..)
            | Event::OneTrigger(..)
            | Event::OneTriggerLate(..)
            | Event::Calendar(..)
            | Event::Delete(_)
            | Event::Trigger(_)
            | Event::Cancel(_) => self.on_user_event(place),
            Event::Beside(asked) => self.on_asked(asked),
            Event::Drop => {
                let unit = self.setup.scale.unit();
                let job = self.replicas.truth.jobs_after(None).find(|job| self.holds_up(job.id));
                match job.map(|job| job.id) {
                    Some(job) => self.user(Command::DeleteJob { job, expected: None }),
                    None if now < self.script[place].at + DROP * unit => {
                        self.agenda.after(unit, Happening::Script(place));
                    }
                    None => {}
                }
            }
            Event::Race(moment, long) => self.races.push((moment, long)),
            Event::RaceCalendar(number) => self.calendar_races.push(number),
            Event::Lock { name, slots, ttl, hold, wait } => {
                // Some want it at once: what nobody contends for shows nothing.
                for _ in 0..=self.draw(3) {
                    let number = self.clients.len();
                    self.clients.push(Client::new(number, name, slots, ttl, hold, wait));
                    self.agenda.after(0, Happening::Client(number));
                }
            }
            Event::Elect { when: Some(moment), .. } | Event::StallAt(moment, _) => {
                self.traps.push((moment, place));
                self.agenda.after(TRAP * self.setup.scale.unit(), Happening::Sprung(place));
            }
            Event::Elect { to, fate, kept, late, gap, when: None } => {
                return self.elect(to, fate, kept, late, gap);
            }
            Event::Stall(long) => self.stall(now + long),
            Event::FullStop(long) => return self.full_stop(long),
            Event::Services => {
                if let Some(serial) = self.current {
                    self.oracle.disturbed(now);
                    if let Some(lead) = self.lead_mut(serial) {
                        lead.end();
                    }
                    self.agenda.after(100, Happening::Begin(serial));
                }
            }
            Event::Snapshot => return self.replicas.restore(),
            Event::Clock { node, by } => self.nodes.of[node].wall_off += by,
            Event::KillAgent(w, long) => {
                self.workers[w].kill_agent();
                self.close_worker(w)?;
                let life = self.workers[w].life;
                self.agenda.after(long, Happening::AgentStarts(w, life));
                return self.take_turn(w);
            }
            Event::Reboot(w, long) => {
                self.workers[w].power_off();
                self.close_worker(w)?;
                let life = self.workers[w].life;
                self.agenda.after(long, Happening::PowerOn(w, life));
                return self.take_turn(w);
            }
            Event::Wipe(w, long) => {
                self.workers[w].wipe();
                self.close_worker(w)?;
                let life = self.workers[w].life;
                self.agenda.after(long, Happening::AgentStarts(w, life));
                return self.take_turn(w);
            }
            Event::FreezeAgent(w, long) => {
                let worker = &mut self.workers[w];
                worker.agent_frozen = worker.agent_frozen.max(now + long);
                (0..NODES).for_each(|n| self.frozen(w, n, Side::Worker, now + long));
            }
            Event::FreezeMachine(w, long) => {
                let worker = &mut self.workers[w];
                // Two in a row would be longer than what is assumed.
                if worker.machine_frozen + 10_000 < now {
                    worker.machine_frozen = now + long;
                    (0..NODES).for_each(|n| self.frozen(w, n, Side::Worker, now + long));
                }
            }
            Event::Cut(w, node, long) => {
                let nodes = node.map_or(0..NODES, |n| n..n + 1);
                nodes.for_each(|n| self.cut(w, n, long));
            }
            Event::Slow(w, by, long) => {
                for n in 0..NODES {
                    self.link(w, n).slow = by;
                    self.agenda.after(long, Happening::Unslow(w, n));
                }
            }
        }
        Ok(())
    }

    /// True if due actions wait for one of this job that has not begun.
    fn holds_up(&self, job: JobId) -> bool {
        let state = &self.replicas.truth;
        let is_idle = |key: &ActionKey| {
            let idle = |a: &Action| matches!(a.state, ActionState::Waiting | ActionState::Ready);
            state.action(*key).is_some_and(idle)
        };
        let is_waiting = |a: &Action, up: ActionKey| {
            a.state == ActionState::Waiting && a.upstream.iter().any(|u| u.awaited() == Some(up))
        };
        let mut idle = state.live_actions_of(job).filter(is_idle);
        idle.any(|up| {
            let mut downs = state.dependants_of(job).flat_map(|down| state.live_actions_of(down));
            downs.any(|key| state.action(key).is_some_and(|a| is_waiting(a, up)))
        })
    }

    /// The moment has come, or is waited for no longer.
    pub(super) fn on_sprung(&mut self, place: usize) -> Result<(), Problem> {
        let before = self.traps.len();
        self.traps.retain(|(_, other)| *other != place);
        match self.script[place].event {
            Event::Elect { to, fate, kept, late, gap, .. } if self.traps.len() < before => {
                self.elect(to, fate, kept, late, gap)
            }
            Event::StallAt(_, long) if self.traps.len() < before => {
                self.stall(self.now() + long);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A pause is in the log before the dispatch of a run of its job, or before what is
    /// planned for a job that depends on it.
    pub(super) fn race(&mut self, command: &Command) {
        let state = &self.replicas.truth;
        let (moment, job) = match command {
            Command::Dispatch { run, .. } => (Moment::Dispatch, state.run(*run).map(|run| run.job)),
            Command::PlanActions(batches) => {
                let jobs = batches.iter().filter_map(|batch| state.job(batch.job));
                let mut ups = jobs.flat_map(|job| &job.spec.depends_on).map(|up| up.job);
                (Moment::Plan, ups.next_back())
            }
            _ => return,
        };
        let place = self.races.iter().position(|(waited, _)| *waited == moment);
        let (Some(job), Some(place)) = (job, place) else { return };
        let (_, long) = self.races.remove(place);
        let users = self.users.len();
        self.users.push(User::new(Command::PauseJob { job }));
        self.users.push(User::new(Command::ResumeJob { job }));
        self.on_user(users).expect("asking finds nothing out");
        if moment == Moment::Plan {
            self.on_user(users + 1).expect("asking finds nothing out");
        } else {
            self.agenda.after(long, Happening::User(users + 1));
        }
    }

    /// A change of a calendar is in the log before what is planned under it. The cursor
    /// of that plan is not ahead, so that the change does not move it.
    pub(super) fn race_calendar(&mut self, command: &Command) {
        let Command::PlanUnder { batches, .. } = command else { return };
        let state = &self.replicas.truth;
        let is_bound = |batch: &PlanBatch, number: u8| {
            let PlanSource::Trigger(name) = &batch.source else { return false };
            let trigger = state.job(batch.job).and_then(|job| job.spec.trigger(name));
            let rule = trigger.and_then(|trigger| trigger.kind.rule());
            batch.from <= state.now()
                && rule.is_some_and(|rule| rule.calendars.contains(&calendar_name(number)))
        };
        let mut races = self.calendar_races.iter().enumerate();
        let found = races.find_map(|(place, number)| {
            let batch = batches.iter().find(|batch| is_bound(batch, *number))?;
            Some((place, *number, batch.actions.last()?.nominal))
        });
        let Some((place, number, nominal)) = found else { return };
        self.calendar_races.remove(place);
        let second = nominal.0.div_euclid(1000).rem_euclid(86_400);
        let left_out = LeftOut::Times(second, (second + 3_600) % 86_400);
        let user = self.users.len();
        self.users.push(User::new(put_calendar(number, &left_out)));
        self.on_user(user).expect("asking finds nothing out");
    }

    /// The leader has this under way: it may be what is waited for.
    pub(super) fn spring(&mut self, purpose: &Purpose) {
        let moment = match purpose {
            Purpose::Plan => Moment::Plan,
            Purpose::Dispatch { .. } => Moment::Dispatch,
            Purpose::Result(..) => Moment::Result,
            Purpose::Attach(_) => Moment::Attach,
            Purpose::User(_) | Purpose::Client(_) => Moment::Ask,
            Purpose::Begin
            | Purpose::Tick
            | Purpose::Barrier { .. }
            | Purpose::Spread
            | Purpose::Beats(_)
            | Purpose::Nobody => return,
        };
        // After all that it proposes in one go, and before any of it is committed.
        for (_, place) in self.traps.iter().filter(|(waited, _)| *waited == moment) {
            self.agenda.after(0, Happening::Sprung(*place));
        }
    }

    /// What the leader had under way is committed in part, in its order; the rest
    /// may come late. The copy of the leader that does not know goes on behind.
    fn hand_over(
        &mut self,
        serial: u64,
        kept: u64,
        late: bool,
        knows: bool,
    ) -> Result<(), Problem> {
        let Some(lead) = self.leads.iter_mut().find(|lead| lead.serial == serial) else {
            return Ok(());
        };
        let log: Vec<_> = lead.log.iter().cloned().collect();
        if !knows {
            lead.behind = Some(self.replicas.truth.clone());
        }
        self.current = None;
        let kept = usize::try_from(log.len() as u64 * kept / 1000).unwrap();
        for proposal in &log[..kept] {
            self.commit(proposal)?;
        }
        for proposal in log {
            if late && self.draw(2) == 0 {
                let wait = self.draw(3_000);
                self.agenda.after(wait, Happening::Forward(proposal.envelope.clone()));
            }
            match proposal.purpose {
                _ if proposal.is_answered => {}
                _ if !knows => {
                    self.agenda.after(PATIENCE, Happening::Expire(serial, proposal.id));
                }
                // Who asked sees the connection break.
                Purpose::User(user) => self.ask_again(user),
                Purpose::Client(client) => self.client_unanswered(client),
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn elect(
        &mut self,
        to: usize,
        fate: Fate,
        kept: u64,
        late: bool,
        gap: i64,
    ) -> Result<(), Problem> {
        let now = self.now();
        let Some(serial) = self.current else { return Ok(()) };
        self.oracle.disturbed(now);
        let (id, node) = self.lead(serial).map(|l| (l.id, l.node)).expect("the leader is known");
        self.nodes.contact(id, node, now);
        let knows = matches!(fate, Fate::Yields | Fate::Crashes(_));
        self.hand_over(serial, kept, late, knows)?;
        match fate {
            Fate::Yields => {
                self.leads.retain(|lead| lead.serial != serial);
            }
            Fate::Crashes(long) => {
                self.leads.retain(|lead| lead.serial != serial);
                self.nodes.of[node].is_up = false;
                self.nodes.of[node].has = Some(self.replicas.index);
                self.nodes.of[node].clock = horai_raft::cluster_clock::ClusterClock::new();
                self.agenda.after(long, Happening::NodeUp(node));
                self.close_node(node)?;
            }
            Fate::CutOff(long) => {
                self.nodes.of[node].is_alone = true;
                self.nodes.of[node].has = Some(self.replicas.index);
                self.agenda.after(long, Happening::Rejoins(node));
                self.agenda.after(long + 50, Happening::Learns(serial));
            }
            Fate::Freezes(long) => {
                self.nodes.of[node].is_alone = true;
                self.nodes.of[node].has = Some(self.replicas.index);
                if let Some(lead) = self.lead_mut(serial) {
                    lead.frozen_until = now + long;
                }
                self.agenda.after(long, Happening::Rejoins(node));
                // It acts once more before it hears.
                self.agenda.after(long + 200, Happening::Learns(serial));
                (0..self.setup.workers).for_each(|w| self.frozen(w, node, Side::Node, now + long));
            }
        }
        self.is_electing = true;
        self.agenda.after(gap, Happening::NewLeader(to));
        Ok(())
    }

    fn full_stop(&mut self, long: i64) -> Result<(), Problem> {
        self.oracle.stopped(self.now(), long);
        if let Some(serial) = self.current {
            let kept = u64::try_from(self.draw(1001)).unwrap();
            self.hand_over(serial, kept, false, true)?;
        }
        for serial in self.leads.iter().map(|lead| lead.serial).collect::<Vec<_>>() {
            self.on_learns(serial)?;
        }
        for node in 0..NODES {
            self.nodes.of[node].is_up = false;
            self.nodes.of[node].has.get_or_insert(self.replicas.index);
            self.nodes.of[node].clock = horai_raft::cluster_clock::ClusterClock::new();
            self.agenda.after(long, Happening::NodeUp(node));
            self.close_node(node)?;
        }
        if !std::mem::replace(&mut self.is_electing, true) {
            self.agenda.after(long + 300, Happening::NewLeader(0));
        }
        Ok(())
    }

    pub(super) fn on_new_leader(&mut self, to: usize) -> Result<(), Problem> {
        if self.current.is_some() {
            return Ok(());
        }
        let able: Vec<usize> = (0..NODES).filter(|n| self.nodes.can_lead(*n)).collect();
        if able.len() < 2 {
            self.agenda.after(self.setup.scale.unit() / 5, Happening::NewLeader(to));
            return Ok(());
        }
        // Nobody votes for one that has fewer entries.
        let most = able.iter().map(|node| self.nodes.has(*node)).max();
        let whole: Vec<usize> =
            able.into_iter().filter(|node| Some(self.nodes.has(*node)) == most).collect();
        let node = if whole.contains(&to) { to } else { whole[0] };
        // A node that comes back as leader has heard of its end before.
        if let Some(old) = self.leads.iter().find(|lead| lead.node == node).map(|l| l.serial) {
            self.on_learns(old)?;
        }
        let has_higher = NodeId(node as u64 + 1) > self.term.node;
        let same_term = self.term.term > 0 && has_higher && self.draw(4) == 0;
        let term = self.term.term + u64::from(!same_term);
        self.term = LeaderId { term, node: NodeId(node as u64 + 1) };
        self.serial += 1;
        if self.draw(3) == 0 {
            self.replicas.restore()?;
        }
        if self.draw(2) == 0 {
            self.replicas.swap();
        }
        let (now, serial) = (self.now(), self.serial);
        let committed = self.replicas.truth.now();
        self.nodes.lead(self.term, node, committed, now)?;
        if self.nodes.cluster_now(node, now).is_none() {
            self.agenda.after(OPERATOR, Happening::Operator(serial));
        }
        self.leads.push(Lead::new(self.term, node, serial));
        self.current = Some(serial);
        self.is_electing = false;
        self.oracle.disturbed(now);
        self.agenda.after(1, Happening::Begin(serial));
        Ok(())
    }

    /// The term is committed: the services start, and workers are asked to attach.
    pub(super) fn on_begun(&mut self, serial: u64) {
        let now = self.now();
        let node = self.lead(serial).map_or(0, |lead| lead.node);
        let time = self.nodes.cluster_now(node, now).unwrap_or_default();
        let begun = self.with_view(serial, |lead, state| {
            let is_own = state.leader() == lead.id;
            if is_own && !lead.has_begun() {
                lead.begin(state, time.max(state.now()));
            }
            is_own
        });
        if begun != Some(true) {
            return;
        }
        for which in [Loop::Planner, Loop::Ticker, Loop::Dispatcher, Loop::Cancels] {
            self.wake(serial, which, 0);
        }
        let Some(id) = self.lead(serial).map(|lead| lead.id) else { return };
        let time = self.cluster_now(serial).unwrap_or_default().0;
        for w in 0..self.setup.workers {
            let epoch = self.link(w, node).epoch;
            self.send(w, node, epoch, Body::To(ToWorker::Lead(id, time)));
        }
    }

    /// A leader that was followed by another hears of it.
    pub(super) fn on_learns(&mut self, serial: u64) -> Result<(), Problem> {
        if self.current == Some(serial) {
            return Ok(());
        }
        let Some(place) = self.leads.iter().position(|lead| lead.serial == serial) else {
            return Ok(());
        };
        let lead = self.leads.remove(place);
        for proposal in lead.log {
            match proposal.purpose {
                _ if proposal.is_answered => {}
                Purpose::User(user) => self.ask_again(user),
                Purpose::Client(client) => self.client_unanswered(client),
                _ => {}
            }
            if self.draw(3) == 0 {
                let wait = self.draw(500);
                self.agenda.after(wait, Happening::Forward(proposal.envelope));
            }
        }
        Ok(())
    }

    /// Clocks that do not agree: an operator says what time it is.
    pub(super) fn on_operator(&mut self, serial: u64) -> Result<(), Problem> {
        let leader = self.lead(serial).map(|lead| (lead.id, lead.node));
        let Some((id, node)) = leader.filter(|_| self.current == Some(serial)) else {
            return Ok(());
        };
        let (now, committed) = (self.now(), self.replicas.truth.now());
        if self.nodes.cluster_now(node, now).is_none() {
            self.nodes.establish(id, node, committed, now, true)?;
        }
        Ok(())
    }

    pub(super) fn on_contact(&mut self) -> Result<(), Problem> {
        let now = self.now();
        self.agenda.after(self.beat(), Happening::Contact);
        let Some(serial) = self.current else { return Ok(()) };
        let Some((id, node)) = self.lead(serial).map(|l| (l.id, l.node)) else { return Ok(()) };
        if now >= self.stalled_until {
            self.nodes.contact(id, node, now);
        }
        Ok(())
    }

    pub(super) fn on_agent_starts(&mut self, w: usize, life: u64) -> Result<(), Problem> {
        if self.workers[w].life == life && !self.workers[w].is_running() {
            self.workers[w].start_agent();
            (0..NODES).for_each(|n| self.connect_soon(w, n));
        }
        self.take_turn(w)
    }

    pub(super) fn on_power_on(&mut self, w: usize, life: u64) -> Result<(), Problem> {
        if self.workers[w].life == life && !self.workers[w].is_running() {
            let now = self.now();
            self.workers[w].power_on(now);
            (0..NODES).for_each(|n| self.connect_soon(w, n));
        }
        self.take_turn(w)
    }
}
