//! The worker's one deciding task: obeys the leader, keeps leases, reports ends.
//!
//! Everything comes in through channels and is handled in turn, so that two
//! orders for one attempt cannot race. It starts nothing unless the order comes on
//! the stream of the highest leader it ever accepted, and under a lease that
//! counts from when an acknowledged heartbeat was *sent*.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use horai_core::ids::{AttemptKey, Incarnation, LeaderId, NodeId, Token};
use horai_core::model::handle::Handle;
use horai_core::model::run::EndKind;
use horai_core::mutants::{self, Mutant};
use horai_proto::worker as pb;
use horai_proto::worker::from_worker::Body as Say;
use horai_proto::worker::to_worker::Body as Hear;
use horai_raft::host::{Dial, Host};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::attach::{self, Event};
use super::attempts::{self, Notice, Runner, Shared};
use super::bring::Bring;
use super::ending::Ending;
pub use super::failure::Error;
use super::fence::{self, Fence};
use super::hello::{self, Told};
use super::home::Home;
use super::intake::Intake;
use super::jobs::Control;
use super::journal::{Journal, Record};
use super::links::Links;
use super::load::Load;
use super::place::Place;
use super::uplink::{Tell, Uplink};
use super::{Config, wire};

#[path = "agent_beats.rs"]
mod beats;
#[path = "agent_parting.rs"]
mod parting;

use parting::Parting;

/// Orders that may wait for a lease.
const HELD: usize = 4096;
/// Heartbeats that may wait for their acknowledgement on one stream.
const BEATS: usize = 64;
/// Results without an answer are sent again after this many rounds of heartbeats.
const RESEND_TICKS: u64 = 15;
/// Looks at what runs here that are under way at once; more are not answered.
const LOOKS: usize = 4;

/// Runs a worker until `stop` and until what runs there has had the configured time. Shims
/// and jobs that are left go on, and are adopted by the next.
///
/// # Errors
/// [`Error`]: nothing that a worker can do without.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), Error> {
    run_with(config, stop, || ()).await
}

/// The same; `ready` is called once it serves its nodes.
///
/// # Errors
/// As [`run`].
pub async fn run_with(
    config: Config,
    stop: CancellationToken,
    ready: impl FnOnce(),
) -> Result<(), Error> {
    let place = Place::of(&config)?;
    run_at(place, config, stop, ready).await
}

/// The same at any place.
///
/// # Errors
/// As [`run`].
pub async fn run_at(
    place: Place,
    config: Config,
    stop: CancellationToken,
    ready: impl FnOnce(),
) -> Result<(), Error> {
    let (node_events, mut from_nodes) = mpsc::channel(1024);
    let (notices, mut from_attempts) = mpsc::channel(1024);
    let mut agent = Agent::open(place, config, notices)?;
    let mut streams = Links::new(agent.identity(), node_events, &agent.config.nodes);
    let mut tick = tokio::time::interval(agent.config.heartbeat);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ready();
    loop {
        if agent.may_go() {
            return Ok(());
        }
        tokio::select! {
            () = stop.cancelled(), if agent.parting.is_none() => agent.begin_parting(),
            Some((node, event)) = from_nodes.recv() => match named_nodes(&event) {
                // What a stream that was let go had said before counts no more.
                _ if !streams.holds(node) => {}
                Some(nodes) => agent.on_nodes(node, nodes, &mut streams),
                None => agent.on_node(node, event).await?,
            },
            Some(notice) = from_attempts.recv() => agent.on_notice(notice)?,
            _ = tick.tick() => agent.beat_all(),
        }
        agent.uplink.lead(agent.active.and_then(|node| streams.address(node)));
    }
}

/// Set if the event is a node that names the cluster's nodes.
fn named_nodes(event: &Event) -> Option<&[String]> {
    match event {
        Event::Frame(pb::ToWorker { body: Some(Hear::Nodes(nodes)) }) => {
            Some(&nodes.grpc_addresses)
        }
        Event::Up(_) | Event::Down | Event::Frame(_) => None,
    }
}

/// A stream that stands.
struct Link {
    to: mpsc::Sender<pb::FromWorker>,
    /// Numbers and sending times of heartbeats that are not acknowledged.
    beats: VecDeque<(u64, u64)>,
}

/// An attempt that may be running.
struct Live {
    token: Token,
    lease_ms: u64,
    control: Option<Box<dyn Control>>,
    /// Asked to end, with this grace; told to the shim as soon as it listens.
    cancel: Option<u64>,
    /// Done inside this process: there is no folder of it.
    noop: bool,
}

/// An attempt that is over, until a leader has committed its result.
struct Ended {
    token: Token,
    ending: Ending,
    has_folder: bool,
}

impl Ended {
    fn wire(&self, key: AttemptKey) -> pb::Result {
        wire::result(key, self.token, &self.ending)
    }
}

fn identity(config: &Config, incarnation: Incarnation, dial: Option<Dial>) -> attach::Identity {
    let (name, token) = (config.name.clone(), config.token.clone());
    attach::Identity { name, incarnation, token, dial }
}

struct Agent {
    config: Config,
    host: Arc<dyn Host>,
    boot_id: u128,
    fence: Fence,
    runner: Runner,
    shared: Arc<Shared>,
    links: BTreeMap<usize, Link>,
    active: Option<usize>,
    live: BTreeMap<AttemptKey, Live>,
    results: BTreeMap<AttemptKey, Ended>,
    /// What attempts began elsewhere that are not forgotten.
    handles: BTreeMap<AttemptKey, (Token, Vec<Handle>)>,
    /// Orders that came before the first acknowledged heartbeat.
    held: Vec<(pb::Start, AttemptKey, Token)>,
    /// Attempts being run or adopted; they end with the agent, their shims do not.
    tasks: JoinSet<()>,
    /// Delivers their output.
    uplink: Uplink,
    load: Box<dyn Load>,
    intake: Intake,
    /// How many may look closely at what runs here, at once.
    looks: Arc<Semaphore>,
    beat: u64,
    ticks: u64,
    /// Some results could not be sent.
    resend: bool,
    /// What nodes said last when they refused this worker.
    refused: BTreeMap<usize, String>,
    home: Home,
    /// It was told to stop.
    parting: Option<Parting>,
    /// Held while this worker lives: two would share one journal.
    _lock: Option<File>,
}

impl Agent {
    fn open(place: Place, config: Config, notices: mpsc::Sender<Notice>) -> Result<Self, Error> {
        let Place { host, folder, jobs, load, boot_id, lock } = place;
        let fence = Fence::open_in(Arc::clone(&folder))?;
        let home = Home::open_in(Arc::clone(&folder));
        let home = home.map_err(|source| Error::Io { what: "the file cluster".into(), source })?;
        let (journal, entries) = Journal::open_in(folder, Arc::clone(&host))?;
        let shared = Arc::new(Shared::new(Arc::clone(&host)));
        let shared_too = Arc::clone(&shared);
        let identity = identity(&config, journal.incarnation(), host.dial());
        let bring = Arc::new(Bring::new(identity.clone(), config.nodes.clone()));
        let uplink = Uplink::new(identity, Arc::clone(&jobs));
        let runner = Runner { jobs, journal, bring, shared: shared_too, notices };
        let intake = Intake::new(config.disk_reserve);
        let mut agent = Self {
            config,
            host,
            boot_id,
            fence,
            runner,
            shared,
            links: BTreeMap::new(),
            active: None,
            live: BTreeMap::new(),
            results: BTreeMap::new(),
            handles: BTreeMap::new(),
            held: Vec::new(),
            tasks: JoinSet::new(),
            _lock: lock,
            uplink,
            load,
            intake,
            looks: Arc::new(Semaphore::new(LOOKS)),
            beat: 0,
            ticks: 0,
            resend: false,
            refused: BTreeMap::new(),
            home,
            parting: None,
        };
        for left in agent.runner.jobs.adopt_all(&entries.keys().copied().collect()) {
            agent.uplink.tell(Tell::Found(left));
            agent.uplink.tell(Tell::Forgotten(left));
        }
        for (key, entry) in entries {
            agent.uplink.tell(Tell::Found(key));
            let handles = agent.runner.jobs.handles(key);
            if !handles.is_empty() {
                agent.handles.insert(key, (entry.token, handles));
            }
            if let Some(ending) = entry.ending {
                agent.uplink.tell(Tell::Ended(key));
                let ended = Ended { token: entry.token, ending, has_folder: true };
                agent.results.insert(key, ended);
                continue;
            }
            let lease_ms = agent.runner.jobs.lease_ms(key);
            let token = entry.token;
            let live = Live { token, lease_ms, control: None, cancel: None, noop: false };
            agent.live.insert(key, live);
            agent.tasks.spawn(agent.runner.clone().adopt(key, entry.token));
        }
        Ok(agent)
    }

    fn identity(&self) -> attach::Identity {
        identity(&self.config, self.runner.journal.incarnation(), self.host.dial())
    }

    fn on_nodes(&mut self, node: usize, nodes: &[String], streams: &mut Links) {
        for gone in streams.learn(nodes, self.active == Some(node)) {
            self.on_down(gone);
        }
        self.runner.bring.know(streams.addresses());
    }

    fn on_down(&mut self, node: usize) {
        self.links.remove(&node);
        if self.active == Some(node) {
            self.active = None;
            // The next leader sends again what it does not find in Hello.
            self.held.clear();
        }
    }

    async fn on_node(&mut self, node: usize, event: Event) -> Result<(), Error> {
        match event {
            Event::Up(to) => {
                self.links.insert(node, Link { to, beats: VecDeque::new() });
                Ok(())
            }
            Event::Down => {
                self.on_down(node);
                Ok(())
            }
            Event::Frame(frame) => match frame.body {
                Some(body) => self.on_frame(node, body).await,
                None => Ok(()),
            },
        }
    }

    async fn on_frame(&mut self, node: usize, body: Hear) -> Result<(), Error> {
        if let Hear::Lead(lead) = body {
            return self.on_lead(node, &lead);
        }
        if let Hear::Refused(refused) = body {
            // Said once: it is repeated at each new stream.
            if self.refused.get(&node) != Some(&refused.message) {
                tracing::warn!(node, code = %refused.code, message = %refused.message,
                    "node refused this worker");
                self.refused.insert(node, refused.message);
            }
            return Ok(());
        }
        if let Hear::Look(look) = body {
            self.look(node, look.number);
            return Ok(());
        }
        // The rest is for a leader to say.
        if self.active != Some(node) {
            tracing::warn!(node, "order from a node that does not lead is ignored");
            return Ok(());
        }
        match body {
            Hear::Welcome(welcome) => return self.on_welcome(node, &welcome),
            Hear::Starts(starts) => self.on_starts(starts.starts),
            Hear::Cancels(_) if mutants::on(Mutant::CancelOnlyMarks) => {}
            Hear::Cancels(cancels) => {
                for cancel in cancels.cancels {
                    if let Ok((key, token)) = wire::attempt(cancel.attempt.as_ref()) {
                        self.cancel(key, token, cancel.grace_ms);
                    }
                }
            }
            Hear::Verdicts(verdicts) => {
                let mut forget = Vec::new();
                for verdict in verdicts.verdicts {
                    let Ok((key, token)) = wire::attempt(verdict.attempt.as_ref()) else {
                        continue;
                    };
                    match verdict.decision() {
                        pb::verdict::Decision::Kill => self.cancel(key, token, 0),
                        pb::verdict::Decision::Forget => forget.push((key, token)),
                        pb::verdict::Decision::Keep | pb::verdict::Decision::Unspecified => {}
                    }
                }
                self.forget(forget).await?;
            }
            Hear::Forgets(forgets) => {
                let ids = forgets.attempts.iter().filter_map(|id| wire::attempt(Some(id)).ok());
                self.forget(ids.collect()).await?;
            }
            Hear::Kill(kill) => {
                if let Ok((key, token)) = wire::attempt(kill.attempt.as_ref()) {
                    let left = self.runner.jobs.kills(&kill.interpreter, &kill.handles);
                    self.tasks.spawn(self.runner.clone().end_elsewhere(key, token, left));
                }
            }
            Hear::HeartbeatAck(ack) => self.on_ack(node, &ack),
            Hear::Lead(_) | Hear::Refused(_) | Hear::Nodes(_) | Hear::Look(_) => {}
        }
        Ok(())
    }

    /// Obeys this node from now on, unless a later leader is known.
    fn on_lead(&mut self, node: usize, lead: &pb::Lead) -> Result<(), Error> {
        let leader = LeaderId { term: lead.term, node: NodeId(lead.node) };
        match self.fence.accept(leader) {
            Ok(()) => {}
            Err(error @ fence::Error::Older { .. }) => {
                tracing::warn!(node, %error, "leader ignored");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        self.active = Some(node);
        self.refused.clear();
        self.held.clear();
        self.set_time(lead.cluster_time_ms);
        self.hello(node);
        self.beat(node);
        Ok(())
    }

    fn set_time(&self, cluster_ms: i64) {
        let boot = i64::try_from(self.shared.boot_ms()).unwrap_or(i64::MAX);
        self.shared.offset.store(cluster_ms.saturating_sub(boot), Ordering::Release);
    }

    fn hello(&mut self, node: usize) {
        let stopping = self.parting.is_some();
        let left = self.parting.map_or(0, |parting| parting.left(self.shared.boot_ms()));
        if let Some(parting) = &mut self.parting {
            parting.ask();
        }
        let live = self.live.iter().map(|(key, live)| wire::attempt_id(*key, live.token));
        let ended = self.results.iter().map(|(key, ended)| ended.wire(*key));
        let is_early = |result: &pb::Result| {
            let id = wire::attempt(result.attempt.as_ref());
            id.is_ok_and(|(key, _)| !self.handles.contains_key(&key)) && result.outputs.is_empty()
        };
        let Told { live, results, later } = hello::told(live.collect(), ended.collect(), is_early);
        let whole = pb::Hello {
            incarnation: self.runner.journal.incarnation().0.to_be_bytes().to_vec().into(),
            boot_id: self.boot_id.to_be_bytes().to_vec().into(),
            highest: Some(wire::fence(self.fence.highest())),
            stopping,
            stops_within_ms: left,
            cluster: self.home.told(),
            wall_ms: self.host.wall_time().0,
            live,
            results,
            interpreters: self.runner.jobs.interpreters().iter().map(ToString::to_string).collect(),
            ..hello::of(&self.config, &self.runner.jobs.isolation())
        };
        for frame in hello::frames(whole) {
            if !self.say(node, Say::Hello(frame)) {
                return;
            }
        }
        self.say_handles();
        self.say_results(later);
    }

    /// What attempts began elsewhere: before their results, so that these cannot overtake it.
    fn say_handles(&self) {
        for (key, (token, handles)) in &self.handles {
            self.say_handles_of(*key, *token, handles);
        }
    }

    fn say_handles_of(&self, key: AttemptKey, token: Token, handles: &[Handle]) {
        if let Some(node) = self.active {
            // What does not get through is said again.
            self.say(node, Say::Handles(wire::handles_said(key, token, handles)));
        }
    }

    fn on_starts(&mut self, starts: Vec<pb::Start>) {
        let mut fresh = Vec::new();
        let mut again = Vec::new();
        let mut seen: BTreeSet<AttemptKey> = self.held.iter().map(|(_, key, _)| *key).collect();
        for start in starts {
            let (Ok((key, token)), Ok(fence)) =
                (wire::attempt(start.attempt.as_ref()), wire::leader(start.fence.as_ref()))
            else {
                tracing::warn!("order without attempt or fence is ignored");
                continue;
            };
            let is_other = fence != self.fence.highest();
            if is_other && !mutants::on(Mutant::OlderLeaderObeyed) {
                tracing::warn!(attempt = %key, %fence, "order of another leader is ignored");
            } else if let Some(ended) = self.results.get(&key) {
                again.extend((ended.token == token).then(|| ended.wire(key)));
            } else if !self.live.contains_key(&key) && seen.insert(key) {
                fresh.push((start, key, token));
            }
        }
        self.say_results(again);
        self.start(fresh);
    }

    /// Starts what has an unexpired lease, holds the rest until one is confirmed.
    fn start(&mut self, orders: Vec<(pb::Start, AttemptKey, Token)>) {
        let fence = self.fence.highest();
        let mut noops = Vec::new();
        for (start, key, token) in orders {
            if self.shared.boot_ms() >= self.shared.deadline(start.lease_ms) {
                if self.held.len() < HELD {
                    self.held.push((start, key, token));
                }
                continue;
            }
            let lease_ms = start.lease_ms;
            let noop = matches!(start.executor, Some(pb::start::Executor::Noop(_)));
            self.live.insert(key, Live { token, lease_ms, control: None, cancel: None, noop });
            if noop {
                noops.push((key, token, fence));
            } else {
                self.tasks.spawn(self.runner.clone().run(start, key, token, fence));
            }
        }
        if !noops.is_empty() {
            self.tasks.spawn(self.runner.clone().noops(noops));
        }
    }

    fn cancel(&mut self, key: AttemptKey, token: Token, grace_ms: u64) {
        if let Some(live) = self.live.get_mut(&key) {
            if live.token == token {
                live.cancel = Some(live.cancel.map_or(grace_ms, |g| g.min(grace_ms)));
                if let Some(control) = &live.control {
                    // Repeated at each heartbeat until it has ended.
                    let _ = control.cancel(grace_ms);
                }
            }
        } else if let Some(ended) = self.results.get(&key) {
            if ended.token == token {
                self.say_results(vec![ended.wire(key)]);
            }
        } else {
            // Never accepted here, and if it waits for a lease it now never will be.
            let before = self.held.len();
            self.held.retain(|(_, held, _)| *held != key);
            let waited = self.held.len() < before;
            let how = if waited { EndKind::Cancelled } else { EndKind::Gone };
            let now = self.shared.cluster_now();
            let ending = attempts::ended(how, None, now).into();
            self.say_results(vec![wire::result(key, token, &ending)]);
        }
    }

    /// Not waited for: a result that comes back after a crash is reported once more.
    async fn forget(&mut self, ids: Vec<(AttemptKey, Token)>) -> Result<(), Error> {
        let mut records = Vec::new();
        for (key, token) in ids {
            if self.results.get(&key).is_some_and(|ended| ended.token == token) {
                records.push(Record::Forgotten { key });
                let ended = self.results.remove(&key);
                self.handles.remove(&key);
                if ended.is_some_and(|ended| ended.has_folder) {
                    self.runner.jobs.release(key);
                    self.uplink.tell(Tell::Forgotten(key));
                }
            }
        }
        if !records.is_empty() {
            self.runner.journal.append_lazily(records).await?;
        }
        Ok(())
    }

    fn on_notice(&mut self, notice: Notice) -> Result<(), Error> {
        match notice {
            Notice::Started(key, control) => {
                self.uplink.tell(Tell::Begun(key));
                if let Some(live) = self.live.get_mut(&key) {
                    // The lease may have been renewed, and a cancel come, meanwhile.
                    let deadline = self.shared.deadline(live.lease_ms);
                    if deadline > 0 {
                        let _ = control.extend(deadline);
                    }
                    if let Some(grace) = live.cancel {
                        let _ = control.cancel(grace);
                    }
                    live.control = Some(control);
                }
            }
            Notice::Ended(ended) => {
                self.decline(&ended);
                self.on_ended(ended);
            }
            Notice::Unfurnished(key, token, ending) => self.on_ended(vec![(key, token, ending)]),
            Notice::Handles(key, token, handles) => {
                self.say_handles_of(key, token, &handles);
                self.handles.insert(key, (token, handles));
            }
            Notice::EndedElsewhere(key, token, handles) => {
                // A leader that does not hear of it asks again.
                self.say_handles_of(key, token, &handles);
            }
            Notice::Broken(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn on_ended(&mut self, ended: Vec<(AttemptKey, Token, Ending)>) {
        let mut wired = Vec::with_capacity(ended.len());
        for (key, token, ending) in ended {
            let has_folder = self.live.remove(&key).is_none_or(|live| !live.noop);
            if has_folder {
                self.uplink.tell(Tell::Ended(key));
            }
            let ended = Ended { token, ending, has_folder };
            wired.push(ended.wire(key));
            self.results.insert(key, ended);
        }
        self.say_results(wired);
    }

    fn say_results(&mut self, results: Vec<pb::Result>) {
        let Some(node) = self.active else { return };
        for results in hello::result_frames(results) {
            if !self.say(node, Say::Results(pb::Results { results })) {
                self.resend = true;
                return;
            }
        }
    }

    /// False if the stream is gone or does not take more.
    fn say(&self, node: usize, body: Say) -> bool {
        let frame = pb::FromWorker { body: Some(body) };
        self.links.get(&node).is_some_and(|link| link.to.try_send(frame).is_ok())
    }
}
