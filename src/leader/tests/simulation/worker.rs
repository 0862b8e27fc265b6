//! A worker as its cluster meets it: agent, journal, fence, and shims that hold
//! deadlines alone. A model, written after the code in `crate::worker`, because
//! that code lives on disks, processes and pipes.
//!
//! The machine, the agent and the shims die and stand still apart from each other.

use std::collections::{BTreeMap, VecDeque};

use horai_core::ids::{AttemptKey, Incarnation, LeaderId, Token};
use horai_core::machine::command::EndReport;
use horai_core::model::run::EndKind;
use horai_core::time::UtcMillis;
use horai_proto::worker as pb;
use horai_proto::worker::verdict::Decision;

use super::replicas::elapsed;
use super::shim::{Behaviour, Shim};
use crate::worker::attempts::is_too_late;
use crate::worker::wire;

/// Heartbeats after which results without an answer are sent again.
const RESEND_TICKS: u64 = 15;

/// What an attempt's end looks like on the wire.
pub(super) type Reported = (AttemptKey, Token, EndReport);

#[derive(Debug, Clone)]
pub(super) enum ToWorker {
    /// With cluster time.
    Lead(LeaderId, i64),
    Verdicts(Vec<pb::Verdict>),
    Cancels(Vec<pb::Cancel>),
    Starts(Vec<pb::Start>),
    Forgets(Vec<(AttemptKey, Token)>),
    /// With cluster time.
    Ack(u64, i64),
}

#[derive(Debug, Clone)]
pub(super) enum FromWorker {
    Hello {
        incarnation: Incarnation,
        boot_id: u128,
        highest: LeaderId,
        live: Vec<(AttemptKey, Token)>,
        results: Vec<Reported>,
    },
    Beat(u64),
    Results(Vec<Reported>),
}

/// What a worker waits for.
#[derive(Debug, Clone)]
pub(super) enum Due {
    Tick,
    /// The journal has taken the acceptance.
    Launch(Box<pb::Start>),
    /// A shim looks at its clocks.
    Shim(AttemptKey),
    /// The agent sees that a shim has ended.
    Collect(AttemptKey),
}

/// What happened to a process, for the oracle.
#[derive(Debug, Clone)]
pub(super) enum Seen {
    Started(AttemptKey, Token),
    Ended(Token, EndKind),
}

/// What a worker did in one turn.
#[derive(Default)]
pub(super) struct Turn {
    pub(super) said: Vec<(usize, FromWorker)>,
    pub(super) due: Vec<(i64, Due)>,
    pub(super) seen: Vec<Seen>,
}

/// What survives the agent.
struct Disk {
    incarnation: Incarnation,
    fence: LeaderId,
    journal: BTreeMap<AttemptKey, (Token, Option<EndReport>)>,
    /// What shims left, and the lease they were given.
    folders: BTreeMap<AttemptKey, (u64, Option<EndReport>)>,
}

struct Live {
    token: Token,
    lease_ms: u64,
    cancel: Option<u64>,
}

/// What is lost with the process.
struct Agent {
    active: Option<usize>,
    live: BTreeMap<AttemptKey, Live>,
    results: BTreeMap<AttemptKey, (Token, EndReport)>,
    held: Vec<(pb::Start, AttemptKey)>,
    /// When the last acknowledged heartbeat was sent; 0 if none was.
    lease_from: u64,
    /// Cluster time minus time since boot.
    ahead: i64,
    beat: u64,
    beats: BTreeMap<usize, VecDeque<(u64, u64)>>,
    ticks: u64,
}

/// See the module.
pub(super) struct Worker {
    pub(super) number: usize,
    rate: i64,
    booted: i64,
    pub(super) boots: u128,
    /// Counts agents: what was meant for an earlier one is dropped.
    pub(super) life: u64,
    pub(super) machine_frozen: i64,
    pub(super) agent_frozen: i64,
    disk: Disk,
    agent: Option<Agent>,
    shims: BTreeMap<AttemptKey, Shim>,
    pub(super) turn: Turn,
}

fn gone() -> EndReport {
    report(EndKind::Gone)
}

fn report(how: EndKind) -> EndReport {
    EndReport { how, started: None, ended: None, output_bytes: 0, output_crc: 0 }
}

impl Disk {
    fn new(incarnation: u128) -> Self {
        Self {
            incarnation: Incarnation(incarnation),
            fence: LeaderId::default(),
            journal: BTreeMap::new(),
            folders: BTreeMap::new(),
        }
    }
}

impl Worker {
    pub(super) fn new(number: usize, rate: i64) -> Self {
        Self {
            number,
            rate,
            booted: -1_000,
            boots: 1,
            life: 0,
            machine_frozen: 0,
            agent_frozen: 0,
            disk: Disk::new(1 + number as u128 * 1_000),
            agent: None,
            shims: BTreeMap::new(),
            turn: Turn::default(),
        }
    }

    pub(super) fn boot(&self, now: i64) -> u64 {
        elapsed(now - self.booted, self.rate)
    }

    pub(super) fn is_running(&self) -> bool {
        self.agent.is_some()
    }

    pub(super) fn incarnation(&self) -> Incarnation {
        self.disk.incarnation
    }

    /// Until when the agent does nothing.
    pub(super) fn frozen_until(&self) -> i64 {
        self.agent_frozen.max(self.machine_frozen)
    }

    /// Nothing runs here, and nothing waits for an answer.
    pub(super) fn is_idle(&self) -> bool {
        let is_idle = |a: &Agent| a.live.is_empty() && a.results.is_empty() && a.held.is_empty();
        self.shims.is_empty() && self.agent.as_ref().is_some_and(is_idle)
    }

    pub(super) fn describe(&self) -> String {
        let agent = self.agent.as_ref().map(|a| {
            let keys = |k: &AttemptKey| k.to_string();
            let live: Vec<String> = a.live.keys().map(keys).collect();
            let results: Vec<String> = a.results.keys().map(keys).collect();
            format!(
                "obeys {:?}, live {live:?}, results {results:?}, {} held",
                a.active,
                a.held.len()
            )
        });
        format!("w{}: {agent:?}, {} shims", self.number, self.shims.len())
    }

    /// The agent starts, and takes over what its predecessor left.
    pub(super) fn start_agent(&mut self) {
        self.life += 1;
        let mut agent = Agent {
            active: None,
            live: BTreeMap::new(),
            results: BTreeMap::new(),
            held: Vec::new(),
            lease_from: 0,
            ahead: 0,
            beat: 0,
            beats: BTreeMap::new(),
            ticks: 0,
        };
        for (key, (token, ended)) in &self.disk.journal {
            if let Some(ended) = ended {
                agent.results.insert(*key, (*token, ended.clone()));
                continue;
            }
            let lease_ms = self.disk.folders.get(key).map_or(0, |(lease, _)| *lease);
            agent.live.insert(*key, Live { token: *token, lease_ms, cancel: None });
            if !self.shims.contains_key(key) {
                self.turn.due.push((20, Due::Collect(*key)));
            }
        }
        self.agent = Some(agent);
        self.turn.due.push((1, Due::Tick));
    }

    pub(super) fn kill_agent(&mut self) {
        self.agent = None;
        self.agent_frozen = 0;
        self.life += 1;
    }

    /// The machine is gone, and every process with it.
    pub(super) fn power_off(&mut self) {
        self.kill_agent();
        self.machine_frozen = 0;
        for shim in std::mem::take(&mut self.shims).into_values() {
            self.turn.seen.push(Seen::Ended(shim.token, EndKind::Gone));
        }
    }

    pub(super) fn power_on(&mut self, now: i64) {
        self.booted = now - 1_000;
        self.boots += 1;
        self.start_agent();
    }

    /// Journal, fence and folders are gone; shims are not.
    pub(super) fn wipe(&mut self) {
        self.kill_agent();
        self.disk = Disk::new(self.disk.incarnation.0 + 1);
    }

    fn deadline(&self, lease_ms: u64) -> u64 {
        match self.agent.as_ref().map_or(0, |a| a.lease_from) {
            0 => 0,
            from => from.saturating_add(lease_ms),
        }
    }

    fn say(&mut self, node: usize, message: FromWorker) {
        self.turn.said.push((node, message));
    }

    fn say_results(&mut self, results: Vec<Reported>) {
        let active = self.agent.as_ref().and_then(|a| a.active);
        if let Some(node) = active.filter(|_| !results.is_empty()) {
            self.say(node, FromWorker::Results(results));
        }
    }

    /// A stream to a node stands; the agent keeps beating on all of them.
    pub(super) fn on_up(&mut self, node: usize) {
        if let Some(agent) = &mut self.agent {
            agent.beats.insert(node, VecDeque::new());
        }
    }

    pub(super) fn on_down(&mut self, node: usize) {
        if let Some(agent) = &mut self.agent {
            agent.beats.remove(&node);
            if agent.active == Some(node) {
                agent.active = None;
                agent.held.clear();
            }
        }
    }

    pub(super) fn on_message(&mut self, node: usize, message: ToWorker, now: i64) {
        let boot = self.boot(now).cast_signed();
        let Some(agent) = &mut self.agent else { return };
        if let ToWorker::Lead(leader, cluster) = message {
            if leader < self.disk.fence {
                return;
            }
            agent.ahead = cluster - boot;
            self.disk.fence = leader;
            agent.active = Some(node);
            agent.held.clear();
            self.hello(node);
            return self.beat(node, now);
        }
        if agent.active != Some(node) {
            return;
        }
        match message {
            ToWorker::Starts(starts) => self.on_starts(starts, now),
            ToWorker::Cancels(cancels) => {
                for cancel in cancels {
                    let (key, token) = wire::attempt(cancel.attempt.as_ref()).unwrap();
                    self.cancel(key, token, cancel.grace_ms, now);
                }
            }
            ToWorker::Verdicts(verdicts) => {
                for verdict in verdicts {
                    let (key, token) = wire::attempt(verdict.attempt.as_ref()).unwrap();
                    match verdict.decision() {
                        Decision::Kill => self.cancel(key, token, 0, now),
                        Decision::Forget => self.forget(&[(key, token)]),
                        Decision::Keep | Decision::Unspecified => {}
                    }
                }
            }
            ToWorker::Forgets(ids) => self.forget(&ids),
            ToWorker::Ack(seq, cluster) => {
                agent.ahead = cluster - boot;
                self.on_ack(node, seq, now);
            }
            ToWorker::Lead(..) => {}
        }
    }

    fn hello(&mut self, node: usize) {
        let Some(agent) = &self.agent else { return };
        let results = agent.results.iter().map(|(key, (token, end))| (*key, *token, end.clone()));
        let hello = FromWorker::Hello {
            incarnation: self.disk.incarnation,
            boot_id: self.boots + 100 * self.number as u128,
            highest: self.disk.fence,
            live: agent.live.iter().map(|(key, live)| (*key, live.token)).collect(),
            results: results.collect(),
        };
        self.say(node, hello);
    }

    fn beat(&mut self, node: usize, now: i64) {
        let boot = self.boot(now);
        let Some(agent) = &mut self.agent else { return };
        agent.beat += 1;
        let seq = agent.beat;
        if let Some(beats) = agent.beats.get_mut(&node) {
            beats.push_back((seq, boot));
            if beats.len() > 64 {
                beats.pop_front();
            }
            self.say(node, FromWorker::Beat(seq));
        }
    }

    fn on_ack(&mut self, node: usize, seq: u64, now: i64) {
        let Some(agent) = &mut self.agent else { return };
        let Some(beats) = agent.beats.get_mut(&node) else { return };
        let Some((_, sent)) = beats.iter().find(|(s, _)| *s == seq).copied() else { return };
        beats.retain(|(s, _)| *s > seq);
        agent.lease_from = agent.lease_from.max(sent);
        let from = agent.lease_from;
        for (key, live) in &agent.live {
            if let Some(shim) = self.shims.get_mut(key) {
                shim.extend(from.saturating_add(live.lease_ms));
            }
        }
        let held = std::mem::take(&mut agent.held);
        self.start(held, now);
    }

    fn on_starts(&mut self, starts: Vec<pb::Start>, now: i64) {
        let Some(agent) = &self.agent else { return };
        let (mut fresh, mut again): (Vec<(pb::Start, AttemptKey)>, Vec<Reported>) =
            (Vec::new(), Vec::new());
        for start in starts {
            let (key, token) = wire::attempt(start.attempt.as_ref()).unwrap();
            let is_known = |list: &[(pb::Start, AttemptKey)]| list.iter().any(|(_, k)| *k == key);
            if wire::leader(start.fence.as_ref()).unwrap() != self.disk.fence {
                continue;
            }
            if let Some((had, end)) = agent.results.get(&key) {
                again.extend((*had == token).then(|| (key, token, end.clone())));
            } else if !agent.live.contains_key(&key) && !is_known(&fresh) && !is_known(&agent.held)
            {
                fresh.push((start, key));
            }
        }
        self.say_results(again);
        self.start(fresh, now);
    }

    fn start(&mut self, orders: Vec<(pb::Start, AttemptKey)>, now: i64) {
        for (start, key) in orders {
            let has_lease = self.boot(now) < self.deadline(start.lease_ms);
            let Some(agent) = &mut self.agent else { return };
            if !has_lease {
                agent.held.push((start, key));
                continue;
            }
            let (_, token) = wire::attempt(start.attempt.as_ref()).unwrap();
            agent.live.insert(key, Live { token, lease_ms: start.lease_ms, cancel: None });
            self.turn.due.push((3, Due::Launch(Box::new(start))));
        }
    }

    /// The acceptance is durable: the shim is started, or the result is there at once.
    pub(super) fn launch(&mut self, start: &pb::Start, how: &Behaviour, now: i64) {
        let (key, token) = wire::attempt(start.attempt.as_ref()).unwrap();
        self.disk.journal.insert(key, (token, None));
        let deadline = self.deadline(start.lease_ms);
        if matches!(start.executor, Some(pb::start::Executor::Noop(_))) {
            let end = EndKind::Exited { code: 0 };
            self.turn.seen.extend([Seen::Started(key, token), Seen::Ended(token, end.clone())]);
            return self.finish(key, report(end));
        }
        let boot = self.boot(now);
        let ahead = self.agent.as_ref().map_or(0, |agent| agent.ahead);
        let cluster_now = UtcMillis(boot.cast_signed() + ahead);
        if boot >= deadline || is_too_late(start, cluster_now) {
            return self.finish(key, report(EndKind::LeaseExpired));
        }
        if how.cannot_start {
            let message = "no such program".to_owned();
            return self.finish(key, report(EndKind::NotStarted { message }));
        }
        self.disk.folders.insert(key, (start.lease_ms, None));
        self.turn.seen.push(Seen::Started(key, token));
        let mut shim = Shim::new(start, token, deadline, boot, now, how);
        let live = self.agent.as_ref().and_then(|a| a.live.get(&key));
        if let Some(grace) = live.and_then(|live| live.cancel) {
            shim.end(EndKind::Cancelled, grace, boot, now);
        }
        self.turn.due.push((shim.wait(boot, now), Due::Shim(key)));
        self.shims.insert(key, shim);
    }

    /// A shim looks at its clocks, and ends if it must.
    pub(super) fn on_shim(&mut self, key: AttemptKey, now: i64) {
        let boot = self.boot(now);
        let Some(shim) = self.shims.get_mut(&key) else { return };
        let Some(how) = shim.check(boot, now) else {
            let wait = shim.wait(boot, now);
            return self.turn.due.push((wait, Due::Shim(key)));
        };
        let token = shim.token;
        self.shims.remove(&key);
        self.turn.seen.push(Seen::Ended(token, how.clone()));
        if let Some((_, left)) = self.disk.folders.get_mut(&key) {
            *left = Some(report(how));
            self.turn.due.push((5, Due::Collect(key)));
        }
    }

    /// No shim is there: what it left, or that it is gone, is the result.
    pub(super) fn collect(&mut self, key: AttemptKey) {
        let is_live = self.agent.as_ref().is_some_and(|agent| agent.live.contains_key(&key));
        if is_live && !self.shims.contains_key(&key) {
            let left = self.disk.folders.get(&key).and_then(|(_, left)| left.clone());
            self.finish(key, left.unwrap_or_else(gone));
        }
    }

    fn finish(&mut self, key: AttemptKey, end: EndReport) {
        let Some((token, ended)) = self.disk.journal.get_mut(&key) else { return };
        let token = *token;
        *ended = Some(end.clone());
        let Some(agent) = &mut self.agent else { return };
        agent.live.remove(&key);
        agent.results.insert(key, (token, end.clone()));
        self.say_results(vec![(key, token, end)]);
    }

    fn cancel(&mut self, key: AttemptKey, token: Token, grace: u64, now: i64) {
        let boot = self.boot(now);
        let Some(agent) = &mut self.agent else { return };
        if let Some(live) = agent.live.get_mut(&key) {
            if live.token == token {
                live.cancel = Some(live.cancel.map_or(grace, |g| g.min(grace)));
                if let Some(shim) = self.shims.get_mut(&key) {
                    shim.end(EndKind::Cancelled, grace, boot, now);
                    self.turn.due.push((shim.wait(boot, now), Due::Shim(key)));
                }
            }
        } else if let Some((had, end)) = agent.results.get(&key) {
            let again = (*had == token).then(|| (key, token, end.clone()));
            self.say_results(again.into_iter().collect());
        } else {
            let before = agent.held.len();
            agent.held.retain(|(_, held)| *held != key);
            let was_held = agent.held.len() < before;
            let how = if was_held { EndKind::Cancelled } else { EndKind::Gone };
            self.say_results(vec![(key, token, report(how))]);
        }
    }

    fn forget(&mut self, ids: &[(AttemptKey, Token)]) {
        let Some(agent) = &mut self.agent else { return };
        for (key, token) in ids {
            if agent.results.get(key).is_some_and(|(had, _)| had == token) {
                agent.results.remove(key);
                self.disk.journal.remove(key);
                self.disk.folders.remove(key);
            }
        }
    }

    /// A round of heartbeats.
    pub(super) fn tick(&mut self, now: i64, every: i64) {
        let Some(agent) = &mut self.agent else { return };
        agent.ticks += 1;
        let nodes: Vec<usize> = agent.beats.keys().copied().collect();
        let is_turn = agent.ticks.is_multiple_of(RESEND_TICKS);
        let again: Vec<Reported> = if is_turn {
            agent.results.iter().map(|(key, (token, end))| (*key, *token, end.clone())).collect()
        } else {
            Vec::new()
        };
        for node in nodes {
            self.beat(node, now);
        }
        self.say_results(again);
        self.turn.due.push((every, Due::Tick));
    }
}
