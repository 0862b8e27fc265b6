//! One state, a clock that tests move, and workers that note what they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use horai_core::ids::*;
use horai_core::machine::command::*;
use horai_core::machine::outcome::Outcome;
use horai_core::machine::state::State;
use horai_core::model::cluster::ClusterSettings;
use horai_core::model::edge::{EdgeSpec, Matching};
use horai_core::model::job::*;
use horai_core::model::pool::PoolDef;
use horai_core::model::run::EndKind;
use horai_core::model::worker::WorkerProfile;
use horai_core::time::{Span, UtcMillis};
use horai_raft::node::{Error, Leadership};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::leader::events::EventHub;
use crate::leader::ports::{Orders, Replica};

pub(super) const START: UtcMillis = UtcMillis(1_795_230_000_000);

pub(super) fn leader(term: u64) -> LeaderId {
    LeaderId { term, node: NodeId(1) }
}

/// A replica of one, whose log is a function call.
pub(super) struct Fake {
    pub(super) state: RwLock<State>,
    pub(super) hub: EventHub,
    /// Moved by hand, plus what has passed if it runs: for the runtime, whose clock
    /// may be virtual.
    time: AtomicU64,
    runs_since: Option<Instant>,
    index: AtomicU64,
    led: watch::Sender<Leadership>,
    /// Answers that get lost although the command was applied.
    pub(super) lose_answers: AtomicUsize,
    /// Commands that are refused before anything is applied.
    pub(super) fail: AtomicUsize,
    /// A reading of the state panics so many times.
    pub(super) panic: AtomicUsize,
    pub(super) proposals: Mutex<BTreeMap<&'static str, u64>>,
}

impl Fake {
    pub(super) fn new(runs: bool) -> Arc<Self> {
        let fake = Self {
            state: RwLock::default(),
            hub: EventHub::new(),
            time: AtomicU64::new(START.0.unsigned_abs()),
            runs_since: runs.then(Instant::now),
            index: AtomicU64::new(0),
            led: watch::Sender::new(Leadership::default()),
            lose_answers: AtomicUsize::new(0),
            fail: AtomicUsize::new(0),
            panic: AtomicUsize::new(0),
            proposals: Mutex::default(),
        };
        fake.user(Command::InitCluster(ClusterSettings::new(7)));
        fake.user(Command::LeaderStarted(leader(1)));
        Arc::new(fake)
    }

    pub(super) fn now(&self) -> UtcMillis {
        let passed = self.runs_since.map_or(0, |since| since.elapsed().as_millis());
        UtcMillis(i64::try_from(u128::from(self.time.load(Relaxed)) + passed).unwrap())
    }

    pub(super) fn pass(&self, ms: u64) {
        self.time.fetch_add(ms, Relaxed);
    }

    pub(super) fn apply(&self, envelope: &Envelope) -> Outcome {
        let index = self.index.fetch_add(1, Relaxed);
        let entry = Entry { index, now: self.now(), command: envelope };
        let applied = self.state.write().unwrap().apply(entry);
        self.hub.publish(&applied.events);
        applied.outcome
    }

    pub(super) fn user(&self, command: Command) -> Outcome {
        self.apply(&Envelope { actor: Actor::User("test".to_owned()), request: None, command })
    }

    pub(super) fn job(&self, spec: JobSpec) -> JobId {
        let command = Command::ApplyJob { spec: Box::new(spec), expected: None };
        match self.user(command) {
            Outcome::Job { job, .. } => job,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn worker(&self, text: &str, groups: &[&str], slots: u32) -> WorkerId {
        match self.user(Command::AttachWorker(Box::new(profile(text, groups, slots)))) {
            Outcome::Worker { worker } => worker,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn view(&self) -> State {
        self.state.read().unwrap().clone()
    }

    pub(super) fn set_leader(&self, own: Option<LeaderId>) {
        self.led.send_replace(Leadership { leader: own.map(|id| id.node), own });
    }

    /// Ends every live attempt with success.
    pub(super) fn complete_all(&self) -> usize {
        let view = self.view();
        let live: Vec<(AttemptKey, Token)> = view
            .workers_after(None)
            .flat_map(|worker| view.running_on(worker.id))
            .filter_map(|run| run.live_attempt().map(|a| (a.key, a.token)))
            .collect();
        for (attempt, token) in &live {
            let report = EndReport {
                how: EndKind::Exited { code: 0 },
                started: None,
                ended: None,
                output_bytes: 0,
                output_crc: 0,
            };
            self.user(Command::Complete { attempt: *attempt, token: *token, report });
        }
        live.len()
    }
}

fn take_one(counter: &AtomicUsize) -> bool {
    counter.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1)).is_ok()
}

impl Replica for Fake {
    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        assert!(!take_one(&self.panic), "a service is made to panic");
        look(&self.state.read().unwrap())
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.led.subscribe()
    }

    fn cluster_now(&self) -> Option<UtcMillis> {
        Some(self.now())
    }

    async fn propose_all(
        &self,
        envelopes: Vec<Envelope>,
        _limit: Duration,
    ) -> Vec<Result<Outcome, Error>> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let answer = |envelope: &Envelope| {
            if take_one(&self.fail) {
                return Err(Error::NoLeader(None));
            }
            let word = match envelope.command {
                Command::Dispatch { .. } => "dispatch",
                Command::PlanActions(_) | Command::PlanUnder { .. } => "plan",
                Command::Tick => "tick",
                _ => "other",
            };
            *self.proposals.lock().unwrap().entry(word).or_default() += 1;
            let outcome = self.apply(envelope);
            if take_one(&self.lose_answers) { Err(Error::OutcomeUnknown) } else { Ok(outcome) }
        };
        envelopes.iter().map(answer).collect()
    }
}

/// Workers that are connected, and what they were told.
#[derive(Clone)]
pub(super) struct Told(Arc<Inner>);

struct Inner {
    connected: Mutex<BTreeSet<WorkerId>>,
    changed: watch::Sender<u64>,
    starts: Mutex<Vec<(WorkerId, RunId)>>,
    cancels: Mutex<Vec<RunId>>,
    leads: Mutex<Vec<(bool, LeaderId)>>,
}

impl Told {
    pub(super) fn new() -> Self {
        Self(Arc::new(Inner {
            connected: Mutex::default(),
            changed: watch::Sender::new(0),
            starts: Mutex::default(),
            cancels: Mutex::default(),
            leads: Mutex::default(),
        }))
    }

    pub(super) fn connect(&self, worker: WorkerId) {
        self.0.connected.lock().unwrap().insert(worker);
        self.0.changed.send_modify(|n| *n += 1);
    }

    pub(super) fn starts(&self) -> Vec<(WorkerId, RunId)> {
        self.0.starts.lock().unwrap().clone()
    }

    pub(super) fn cancels(&self) -> Vec<RunId> {
        self.0.cancels.lock().unwrap().clone()
    }

    pub(super) fn leads(&self) -> Vec<(bool, LeaderId)> {
        self.0.leads.lock().unwrap().clone()
    }
}

impl Orders for Told {
    fn lead(&self, leader: LeaderId) {
        self.0.leads.lock().unwrap().push((true, leader));
    }

    fn stop_leading(&self, leader: LeaderId) {
        self.0.leads.lock().unwrap().push((false, leader));
    }

    fn connected(&self) -> Vec<WorkerId> {
        self.0.connected.lock().unwrap().iter().copied().collect()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    fn start(&self, worker: WorkerId, runs: Vec<RunId>) {
        self.0.starts.lock().unwrap().extend(runs.into_iter().map(|run| (worker, run)));
    }

    fn cancel(&self, run: RunId) {
        self.0.cancels.lock().unwrap().push(run);
    }
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(super) fn profile(text: &str, groups: &[&str], slots: u32) -> WorkerProfile {
    WorkerProfile {
        name: name(text),
        incarnation: Incarnation(5),
        boot_id: 6,
        groups: groups.iter().map(|group| name(group)).collect(),
        labels: BTreeMap::new(),
        slots,
        host: String::new(),
        version: String::new(),
        amounts: Default::default(),
        stops_within: None,
        isolation: Box::default(),
        interpreters: std::collections::BTreeSet::new(),
    }
}

pub(super) fn cron(text: &str) -> TriggerSpec {
    TriggerSpec {
        name: TriggerName(text.into()),
        kind: TriggerKind::Cron { expression: text.to_owned() },
        zone: None,
        misfire: MisfirePolicy::FireAll,
        enabled: true,
    }
}

/// A job that does nothing, with these triggers and upstream jobs: with triggers it fires
/// whatever those do, else where all of them do.
pub(super) fn spec(text: &str, triggers: &[&str], upstream: &[JobId]) -> JobSpec {
    let is_derived = triggers.is_empty();
    let matching = if is_derived { Matching::SameTime } else { Matching::LatestBefore };
    let edge = |job: &JobId| EdgeSpec { matching, ..EdgeSpec::new(*job) };
    JobSpec {
        triggers: triggers.iter().map(|text| cron(text)).collect(),
        depends_on: upstream.iter().map(edge).collect(),
        lease: Span::secs(86_400),
        ..JobSpec::noop(name(text))
    }
}

/// Creates or changes a pool.
pub(super) fn put_pool(pool: &str, slots: u32) -> Command {
    let def = PoolDef { name: name(pool), slots, description: String::new() };
    Command::PutPool { def: Box::new(def), expected: None }
}

/// A job without instants whose runs take slots of pools.
pub(super) fn taking(text: &str, pools: &[(&str, u32)]) -> JobSpec {
    let pools = pools.iter().map(|(pool, slots)| (name(pool), *slots)).collect();
    JobSpec { pools, ..spec(text, &[], &[]) }
}

/// Waits until something holds; fails loudly after ten seconds.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(10), "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
