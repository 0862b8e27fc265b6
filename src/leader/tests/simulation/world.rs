//! A cluster as one value: what is to happen, what is committed, who leads, and
//! who waits for which answer. Streams are in `links`, sessions in `sessions`,
//! events of the script in `trouble`, people and programs in `clients`.

use std::collections::BTreeMap;

use horai_core::ids::LeaderId;
use horai_core::machine::command::{Command, Envelope};
use horai_core::machine::outcome::{Outcome, Reject};
use horai_core::machine::state::State;
use horai_core::time::UtcMillis;
use horai_raft::Error;

use super::clients::{Client, User};
use super::lead::{Answer, Lead, Proposal, Purpose, Want};
use super::links::{Frame, Link, Side};
use super::oracle::Oracle;
use super::replicas::{Nodes, Problem, Replicas};
use super::rng::mix;
use super::script::{Moment, NODES, Scale, Setup, Step};
use super::worker::{Due, Worker};
use crate::leader::ticker;

/// After this long without an answer a proposal's outcome counts as unknown.
const LIMIT: i64 = 10_000;

/// What a loop of the leader's wakes for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Loop {
    Planner,
    Ticker,
    Dispatcher,
    Cancels,
}

/// What is to happen.
#[derive(Debug, Clone)]
pub(super) enum Happening {
    Script(usize),
    /// A trap of the script springs, if it has not yet.
    Sprung(usize),
    /// The oldest proposal of a leader is committed.
    Commit(u64),
    /// A proposal has waited for too long.
    Expire(u64, u64),
    Answer(u64, Purpose, bool),
    Propose(u64, Envelope, Purpose),
    /// A proposal of an earlier leader arrives at the current one.
    Forward(Envelope),
    NewLeader(usize),
    /// A leader hears that another one leads.
    Learns(u64),
    /// The term of a leader is proposed, again if need be.
    Begin(u64),
    Wake(u64, Loop),
    Settle(u64),
    Beats(u64),
    Frame(Frame),
    Close(usize, usize, u64, Side),
    /// A cut is noticed, if it is that one still.
    Detect(usize, usize, u64, Side, u64),
    Uncut(usize, usize, u64),
    Unslow(usize, usize),
    Connect(usize, usize, u64),
    Worker(usize, u64, Due),
    AgentStarts(usize, u64),
    PowerOn(usize, u64),
    NodeUp(usize),
    Rejoins(usize),
    /// Nodes hear of each other's clocks.
    Contact,
    /// Somebody says what time it is, if a leader cannot find out.
    Operator(u64),
    User(usize),
    Client(usize),
}

/// See the module.
pub(super) struct World {
    pub(super) setup: Setup,
    pub(super) script: Vec<Step>,
    pub(super) agenda: super::agenda::Agenda<Happening>,
    pub(super) replicas: Replicas,
    pub(super) nodes: Nodes,
    pub(super) leads: Vec<Lead>,
    pub(super) current: Option<u64>,
    pub(super) term: LeaderId,
    pub(super) serial: u64,
    pub(super) stalled_until: i64,
    /// Nobody leads, and the next leader is on its way.
    pub(super) is_electing: bool,
    pub(super) workers: Vec<Worker>,
    pub(super) links: BTreeMap<(usize, usize), Link>,
    pub(super) users: Vec<User>,
    pub(super) clients: Vec<Client>,
    /// What is waited for, and the place in the script that waits.
    pub(super) traps: Vec<(Moment, usize)>,
    /// Pauses that wait for a moment, and how long they last.
    pub(super) races: Vec<(Moment, i64)>,
    /// Calendars that somebody changes just before something rests on them.
    pub(super) calendar_races: Vec<u8>,
    pub(super) oracle: Oracle,
    wakes: BTreeMap<(u64, Loop), i64>,
    proposals: u64,
    /// Found where it could not be returned.
    wrong: Option<Problem>,
    /// Told apart from all others, for draws while the world runs.
    draws: u64,
}

impl World {
    pub(super) fn new(setup: Setup, script: Vec<Step>) -> Self {
        let worker = |n: usize| Worker::new(n, setup.rates[NODES + n]);
        let pairs = (0..setup.workers).flat_map(|w| (0..NODES).map(move |n| (w, n)));
        let mut world = Self {
            agenda: super::agenda::Agenda::new(),
            replicas: Replicas::new(setup.scale),
            nodes: Nodes::new(&setup),
            leads: Vec::new(),
            current: None,
            term: LeaderId::default(),
            serial: 0,
            stalled_until: 0,
            is_electing: true,
            workers: (0..setup.workers).map(worker).collect(),
            links: pairs.map(|pair| (pair, Link::default())).collect(),
            users: Vec::new(),
            clients: Vec::new(),
            traps: Vec::new(),
            races: Vec::new(),
            calendar_races: Vec::new(),
            oracle: Oracle::new(),
            wakes: BTreeMap::new(),
            proposals: 0,
            wrong: None,
            draws: 0,
            script,
            setup,
        };
        for (place, step) in world.script.iter().enumerate() {
            world.agenda.at(step.at, Happening::Script(place));
        }
        world.agenda.after(0, Happening::NewLeader(0));
        world.agenda.after(world.beat(), Happening::Contact);
        world.user(Command::InitCluster(horai_core::model::cluster::ClusterSettings::new(7)));
        for w in 0..world.setup.workers {
            world.agenda.after(5, Happening::AgentStarts(w, 0));
        }
        world
    }

    pub(super) fn now(&self) -> i64 {
        self.agenda.now
    }

    /// Between two heartbeats of a worker.
    pub(super) fn beat(&self) -> i64 {
        match self.setup.scale {
            Scale::Minutes => 2_000,
            Scale::Days => 60_000,
            Scale::Years => 12 * 3_600_000,
        }
    }

    /// A number below `end` that depends on the seed and how many were drawn.
    pub(super) fn draw(&mut self, end: i64) -> i64 {
        self.draws += 1;
        let drawn = mix(&[self.setup.seed, 11, self.draws]);
        i64::try_from(drawn % end.max(1).unsigned_abs()).unwrap()
    }

    pub(super) fn lead(&self, serial: u64) -> Option<&Lead> {
        self.leads.iter().find(|lead| lead.serial == serial)
    }

    pub(super) fn lead_mut(&mut self, serial: u64) -> Option<&mut Lead> {
        self.leads.iter_mut().find(|lead| lead.serial == serial)
    }

    /// The leader and the state as it knows it.
    pub(super) fn with_view<T>(
        &mut self,
        serial: u64,
        look: impl FnOnce(&mut Lead, &State) -> T,
    ) -> Option<T> {
        let Self { leads, replicas, .. } = self;
        let lead = leads.iter_mut().find(|lead| lead.serial == serial)?;
        let behind = lead.behind.take();
        let found = look(lead, behind.as_ref().unwrap_or(&replicas.truth));
        lead.behind = behind;
        Some(found)
    }

    pub(super) fn cluster_now(&self, serial: u64) -> Option<UtcMillis> {
        self.nodes.cluster_now(self.lead(serial)?.node, self.now())
    }

    /// Takes the next step in time.
    pub(super) fn step(&mut self) -> Result<(), Problem> {
        let Some(next) = self.agenda.next() else { return Ok(()) };
        self.happen(next)?;
        self.wrong.take().map_or(Ok(()), Err)
    }

    fn happen(&mut self, next: Happening) -> Result<(), Problem> {
        match next {
            Happening::Script(place) => self.on_script(place),
            Happening::Sprung(place) => self.on_sprung(place),
            Happening::Commit(serial) => self.on_commit(serial),
            Happening::Expire(serial, id) => self.on_expire(serial, id),
            Happening::Answer(serial, purpose, is_unknown) => {
                let error = if is_unknown { Error::OutcomeUnknown } else { Error::NoTime };
                self.answer(serial, purpose, Err(error))
            }
            Happening::Propose(serial, envelope, purpose) => {
                if self.lead(serial).is_some_and(Lead::has_begun) {
                    self.propose(serial, envelope, purpose);
                }
                Ok(())
            }
            Happening::Forward(envelope) => {
                // Who leads nothing refuses.
                if let Some(current) = self.current {
                    self.propose(current, envelope, Purpose::Nobody);
                }
                Ok(())
            }
            Happening::NewLeader(to) => self.on_new_leader(to),
            Happening::Learns(serial) => self.on_learns(serial),
            Happening::Begin(serial) => {
                if let Some(lead) = self.lead(serial).filter(|lead| !lead.has_begun()) {
                    let envelope = lead.own(Command::LeaderStarted(lead.id));
                    self.propose(serial, envelope, Purpose::Begin);
                }
                Ok(())
            }
            Happening::Wake(serial, which) => self.on_wake(serial, which),
            Happening::Settle(serial) => {
                let time = self.cluster_now(serial).unwrap_or_default();
                self.with_view(serial, |lead, state| lead.settle(state, time));
                self.wake(serial, Loop::Planner, 0);
                Ok(())
            }
            Happening::Beats(serial) => self.on_beats(serial),
            Happening::Frame(frame) => self.on_frame(frame),
            Happening::Close(w, n, epoch, side) => self.on_close(w, n, epoch, side),
            Happening::Detect(w, n, epoch, side, cut) => self.on_detect(w, n, epoch, side, cut),
            Happening::Uncut(w, n, cut) => self.on_uncut(w, n, cut),
            Happening::Unslow(w, n) => {
                self.link(w, n).slow = 0;
                Ok(())
            }
            Happening::Connect(w, n, life) => self.on_connect(w, n, life),
            Happening::Worker(w, life, due) => self.on_worker(w, life, due),
            Happening::AgentStarts(w, life) => self.on_agent_starts(w, life),
            Happening::PowerOn(w, life) => self.on_power_on(w, life),
            Happening::NodeUp(node) => {
                self.nodes.of[node].is_up = true;
                Ok(())
            }
            Happening::Rejoins(node) => {
                self.nodes.of[node].is_alone = false;
                Ok(())
            }
            Happening::Contact => self.on_contact(),
            Happening::Operator(serial) => self.on_operator(serial),
            Happening::User(user) => self.on_user(user),
            Happening::Client(client) => self.on_client(client),
        }
    }

    /// Wakes a loop, if it does not wake earlier by itself.
    pub(super) fn wake(&mut self, serial: u64, which: Loop, wait: i64) {
        let at = self.now().saturating_add(wait);
        if self.wakes.get(&(serial, which)).is_none_or(|pending| at < *pending) {
            self.wakes.insert((serial, which), at);
            self.agenda.at(at, Happening::Wake(serial, which));
        }
    }

    fn on_wake(&mut self, serial: u64, which: Loop) -> Result<(), Problem> {
        if self.wakes.get(&(serial, which)) != Some(&self.now()) {
            return Ok(());
        }
        self.wakes.remove(&(serial, which));
        let Some(lead) = self.lead(serial).filter(|lead| lead.has_begun()) else { return Ok(()) };
        if lead.frozen_until > self.now() {
            let wait = lead.frozen_until - self.now();
            self.wake(serial, which, wait);
            return Ok(());
        }
        let (time, now) = (self.cluster_now(serial), self.now());
        let wants = match which {
            Loop::Planner => {
                let Some(time) = time else {
                    self.wake(serial, which, 50);
                    return Ok(());
                };
                let want = self.with_view(serial, |lead, state| lead.plan(state, time));
                want.flatten().into_iter().collect()
            }
            Loop::Ticker => {
                let next = self.with_view(serial, |_, state| state.next_timer()).flatten();
                match ticker::next_step(next, time) {
                    ticker::Step::Tick => vec![Want::Propose(Command::Tick, Purpose::Tick)],
                    ticker::Step::Wait(span) => {
                        vec![Want::Wait(i64::try_from(span.0).unwrap_or(i64::MAX))]
                    }
                    ticker::Step::AskAgain => vec![Want::Wait(50)],
                    ticker::Step::Idle => Vec::new(),
                }
            }
            Loop::Dispatcher => {
                let time = time.unwrap_or_default();
                let look = |lead: &mut Lead, state: &State| lead.dispatch(state, time, now);
                self.with_view(serial, look).unwrap_or_default()
            }
            Loop::Cancels => {
                let runs = self.with_view(serial, Lead::cancels).unwrap_or_default();
                for run in runs {
                    self.tell_to_cancel(serial, run);
                }
                Vec::new()
            }
        };
        self.follow(serial, which, wants)
    }

    /// Does what a loop wants.
    fn follow(&mut self, serial: u64, which: Loop, wants: Vec<Want>) -> Result<(), Problem> {
        for want in wants {
            match want {
                Want::Propose(command, purpose) => {
                    let Some(envelope) = self.lead(serial).map(|lead| lead.own(command)) else {
                        return Ok(());
                    };
                    self.propose(serial, envelope, purpose);
                }
                Want::Wait(wait) => self.wake(serial, which, wait),
                Want::Tell(starts) => self.tell(serial, starts),
                Want::Deposed => self.on_deposed(serial),
            }
        }
        Ok(())
    }

    /// Another leader has begun its term: the services end, and perhaps try again.
    fn on_deposed(&mut self, serial: u64) {
        if let Some(lead) = self.lead_mut(serial) {
            lead.end();
            self.agenda.after(100, Happening::Begin(serial));
        }
    }

    /// Writes a command to a leader's log.
    pub(super) fn propose(&mut self, serial: u64, envelope: Envelope, purpose: Purpose) {
        let now = self.now();
        let Some(node) = self.lead(serial).map(|lead| lead.node) else { return };
        if self.current == Some(serial) {
            self.race(&envelope.command);
            self.race_calendar(&envelope.command);
        }
        let Some(stamp) = self.nodes.stamp(node, now) else {
            self.agenda.after(20, Happening::Answer(serial, purpose, false));
            return;
        };
        self.proposals += 1;
        let id = self.proposals;
        let latency = 1 + self.draw(8);
        let is_current = self.current == Some(serial);
        if is_current && self.wrong.is_none() {
            self.wrong = self.oracle.on_stamp(stamp, now, self.beat()).err();
        }
        if is_current {
            self.spring(&purpose);
        }
        let Some(lead) = self.lead_mut(serial) else { return };
        lead.log.push_back(Proposal { id, envelope, stamp, purpose, is_answered: false });
        if is_current {
            self.agenda.at(now.max(self.stalled_until) + latency, Happening::Commit(serial));
        }
        if !is_current || self.stalled_until > now {
            self.agenda.after(LIMIT, Happening::Expire(serial, id));
        }
    }

    /// Nothing is committed until then; who waits gives up before.
    pub(super) fn stall(&mut self, until: i64) {
        self.stalled_until = self.stalled_until.max(until);
        // And for some time after it.
        self.oracle.disturbed(self.stalled_until);
        let Some(serial) = self.current else { return };
        let ids: Vec<u64> =
            self.lead(serial).map_or(Vec::new(), |l| l.log.iter().map(|p| p.id).collect());
        for id in ids {
            self.agenda.after(LIMIT, Happening::Expire(serial, id));
        }
    }

    fn on_commit(&mut self, serial: u64) -> Result<(), Problem> {
        if self.current != Some(serial) {
            return Ok(());
        }
        if self.now() < self.stalled_until {
            self.agenda.at(self.stalled_until + 1, Happening::Commit(serial));
            return Ok(());
        }
        let Some(proposal) = self.lead_mut(serial).and_then(|lead| lead.log.pop_front()) else {
            return Ok(());
        };
        let outcome = self.commit(&proposal)?;
        if proposal.is_answered {
            return Ok(());
        }
        self.answer(serial, proposal.purpose, Ok(outcome))
    }

    /// Commits one command, and lets everybody look at what it did.
    pub(super) fn commit(&mut self, proposal: &Proposal) -> Result<Outcome, Problem> {
        let Proposal { envelope, stamp, .. } = proposal;
        let now = self.now();
        let before = self.replicas.truth.clone();
        let applied = self.replicas.commit(envelope, *stamp)?;
        self.oracle.on_commit((&before, &self.replicas.truth), envelope, &applied, now)?;
        if let Some(serial) = self.current {
            if let Some(lead) = self.lead_mut(serial) {
                lead.hub.publish(&applied.events);
            }
            self.wake(serial, Loop::Ticker, 0);
            self.wake(serial, Loop::Dispatcher, 1);
            self.wake(serial, Loop::Planner, 5);
            self.wake(serial, Loop::Cancels, 20);
        }
        Ok(applied.outcome)
    }

    fn on_expire(&mut self, serial: u64, id: u64) -> Result<(), Problem> {
        let now = self.now();
        let Some(lead) = self.lead_mut(serial) else { return Ok(()) };
        if lead.frozen_until > now {
            let thaw = lead.frozen_until;
            self.agenda.at(thaw, Happening::Expire(serial, id));
            return Ok(());
        }
        let found = lead.log.iter_mut().find(|p| p.id == id && !p.is_answered);
        let Some(proposal) = found else { return Ok(()) };
        proposal.is_answered = true;
        let purpose = proposal.purpose.clone();
        self.answer(serial, purpose, Err(Error::OutcomeUnknown))
    }

    /// Whoever proposed it hears what became of it.
    fn answer(&mut self, serial: u64, purpose: Purpose, answer: Answer) -> Result<(), Problem> {
        let now = self.now();
        if let Purpose::User(user) = purpose {
            return self.on_user_answer(user, answer);
        }
        if let Purpose::Client(client) = purpose {
            return self.on_client_answer(client, answer);
        }
        let Some(lead) = self.lead_mut(serial) else { return Ok(()) };
        match purpose {
            Purpose::Begin => {
                match answer {
                    Ok(Outcome::Rejected(Reject::StaleLeader(_))) => {}
                    Ok(_) => self.on_begun(serial),
                    Err(_) => self.agenda.after(20, Happening::Begin(serial)),
                }
                Ok(())
            }
            Purpose::Plan => match lead.planned(&answer) {
                Want::Deposed => {
                    self.on_deposed(serial);
                    Ok(())
                }
                Want::Wait(wait) if wait > 0 => {
                    self.agenda.after(wait, Happening::Settle(serial));
                    Ok(())
                }
                _ => {
                    let time = self.cluster_now(serial).unwrap_or_default();
                    self.with_view(serial, |lead, state| lead.settle(state, time));
                    self.wake(serial, Loop::Planner, 0);
                    Ok(())
                }
            },
            Purpose::Tick => {
                match answer {
                    Ok(Outcome::Rejected(Reject::StaleLeader(_))) => self.on_deposed(serial),
                    Ok(_) => self.wake(serial, Loop::Ticker, 0),
                    Err(_) => self.wake(serial, Loop::Ticker, 50),
                }
                Ok(())
            }
            Purpose::Dispatch { group, place } => {
                let wants = lead.dispatched(group, place, answer, now);
                self.follow(serial, Loop::Dispatcher, wants)
            }
            Purpose::Spread => {
                let wants = lead.spread(&answer);
                self.follow(serial, Loop::Dispatcher, wants)
            }
            Purpose::Barrier { group } => {
                let wants = match answer {
                    Ok(Outcome::Rejected(Reject::StaleLeader(_))) => vec![Want::Deposed],
                    Ok(_) => self
                        .with_view(serial, |lead, state| lead.passed(group, state))
                        .unwrap_or_default(),
                    Err(_) => {
                        let again = lead.own(Command::Tick);
                        let purpose = Purpose::Barrier { group };
                        self.agenda.after(50, Happening::Propose(serial, again, purpose));
                        Vec::new()
                    }
                };
                self.follow(serial, Loop::Dispatcher, wants)
            }
            Purpose::Beats(beats) => self.on_beats_answer(serial, &beats, &answer),
            Purpose::Result(finished, stream) => {
                self.on_result_answer(serial, *finished, stream, answer)
            }
            Purpose::Attach(attachment) => self.on_attach_answer(serial, *attachment, answer),
            Purpose::User(_) | Purpose::Client(_) | Purpose::Nobody => Ok(()),
        }
    }
}
