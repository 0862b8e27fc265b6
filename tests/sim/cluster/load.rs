//! What clients do, and what they may count on afterwards.
//!
//! Each ask has an id of its own and is sent once, to one node. What was
//! acknowledged must be remembered by every node at the end; what was refused as
//! certainly not committed must not be; of the rest nobody knows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use horai_core::ids::{JobId, Name, RunId, Token, TriggerName};
use horai_core::machine::command::{Actor, Command, Envelope, Request};
use horai_core::machine::outcome::Outcome;
use horai_core::machine::state::State;
use horai_core::model::edge::EdgeSpec;
use horai_core::model::job::{
    Backoff, Executor, JobSpec, MisfirePolicy, RetryPolicy, TriggerKind, TriggerSpec,
};
use horai_core::model::run::{Run, RunKind, RunState};
use horai_core::model::trigger::{
    CalendarUnit, Dialect, RuleSpec, TimeOfDay, TriggerRule, Weekdays,
};
use horai_core::time::{Span, UtcMillis};
use horai_raft::Error;
use rand_seeded::rngs::StdRng;
use rand_seeded::{RngExt, SeedableRng};
use tokio::sync::oneshot;

use super::leases::{Leases, Wish};
use super::node::{Ask, Live};

/// How long an ask may take.
const LIMIT: Duration = Duration::from_secs(3);
/// Jobs that are never changed: every one of their instants must fire.
pub(crate) const STEADY: usize = 4;
/// What a read is to show: so many of the latest asks.
const RECENT: usize = 20;
/// Jobs that are edited, paused and deleted.
const LOOSE: usize = 6;

enum What {
    Steady(usize, u64),
    Job(JobId, bool),
    Lock(Wish),
    Renewal(Name, Token),
    /// A run by hand that may be cancelled.
    Run,
    Cancel(RunId),
    /// A run by hand, without a request id: at most once is all that it may be.
    Once(JobId),
    Other,
}

struct Pending {
    id: String,
    what: What,
    answer: oneshot::Receiver<Result<Outcome, Error>>,
}

struct Reading {
    ids: Vec<String>,
    answer: oneshot::Receiver<Result<Vec<bool>, Error>>,
}

/// A job whose instants are all to fire.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steady {
    /// Its number.
    pub(crate) job: JobId,
    /// Seconds between its instants.
    pub(crate) every: u64,
}

/// The clients.
pub(crate) struct Load {
    rng: StdRng,
    next: u64,
    pending: Vec<Pending>,
    reading: Vec<Reading>,
    /// Acknowledged requests.
    acked: BTreeSet<String>,
    /// The latest of them.
    recent: VecDeque<String>,
    /// Requests that are certainly not committed.
    refused: BTreeSet<String>,
    unknown: u64,
    /// Steady jobs, once they are acknowledged.
    pub(crate) steady: BTreeMap<usize, Steady>,
    loose: BTreeSet<JobId>,
    /// Runs of steady jobs that may have been made by hand.
    by_hand: BTreeMap<JobId, usize>,
    leases: Leases,
    /// Runs by hand of jobs that are changed.
    runs: Vec<RunId>,
    /// Those that were asked to end, and that was acknowledged.
    cancelled: BTreeSet<RunId>,
    /// Outcomes by kind.
    pub(crate) tally: BTreeMap<String, u64>,
}

/// A kind of trigger for each number; those of the steady jobs all fire in the
/// seconds that the number divides.
fn trigger(every: u64) -> TriggerSpec {
    let span = Span::secs(every);
    let expression = format!("*/{every} * * * * ?");
    let rule = match every {
        2 => TriggerRule::Interval { every: span, repeats: None },
        3 => TriggerRule::CalendarInterval { every: 3, unit: CalendarUnit::Second },
        5 => {
            let (from, to) = (TimeOfDay::MIDNIGHT, TimeOfDay::LAST);
            TriggerRule::DailyWindow { every: span, from, to, weekdays: Weekdays::ALL }
        }
        _ if every % 2 == 1 && every > 5 => TriggerRule::FixedDelay { delay: span },
        _ => TriggerRule::Cron { expression, dialect: Dialect::Quartz },
    };
    let start = Some(UtcMillis(0));
    TriggerSpec {
        name: TriggerName(format!("every {every}").into()),
        kind: TriggerKind::Rule(Box::new(RuleSpec { start, ..RuleSpec::new(rule) })),
        zone: None,
        misfire: MisfirePolicy::FireAll,
        enabled: true,
    }
}

impl Load {
    /// With its own randomness.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            next: 0,
            pending: Vec::new(),
            reading: Vec::new(),
            acked: BTreeSet::new(),
            recent: VecDeque::new(),
            refused: BTreeSet::new(),
            unknown: 0,
            steady: BTreeMap::new(),
            loose: BTreeSet::new(),
            by_hand: BTreeMap::new(),
            leases: Leases::default(),
            runs: Vec::new(),
            cancelled: BTreeSet::new(),
            tally: BTreeMap::new(),
        }
    }

    /// Makes the next ask of one of the nodes.
    pub(crate) fn ask(&mut self, nodes: &[Live]) {
        if nodes.is_empty() {
            return;
        }
        let missing = (0..STEADY).find(|n| !self.steady.contains_key(n));
        // The steady jobs are made again until one of the asks is acknowledged.
        let (what, command) = match missing.filter(|_| self.rng.random_bool(0.5)) {
            Some(n) => self.make_steady(n),
            None => self.draw(),
        };
        let Some(live) = self.pick(nodes) else { return };
        self.next += 1;
        let id = format!("sim-{}", self.next);
        let mut request = Some(Request { id: id.clone(), body_hash: 0, issued: None });
        if let What::Once(job) = what {
            request = None;
            *self.by_hand.entry(job).or_default() += 1;
        }
        let envelope = Envelope { actor: Actor::User("sim".to_owned()), request, command };
        let (reply, answer) = oneshot::channel();
        // A node that is gone drops the ask: then nobody knows.
        let _ = live.asks.send(Ask::Propose(Box::new(envelope), LIMIT, reply));
        self.pending.push(Pending { id, what, answer });
    }

    /// Reads, which must show what was acknowledged before.
    pub(crate) fn read(&mut self, nodes: &[Live]) {
        let ids: Vec<String> = self.recent.iter().cloned().collect();
        let Some(live) = self.pick(nodes) else { return };
        let (reply, answer) = oneshot::channel();
        let _ = live.asks.send(Ask::Read(ids.clone(), LIMIT, reply));
        self.reading.push(Reading { ids, answer });
    }

    fn pick<'a>(&mut self, nodes: &'a [Live]) -> Option<&'a Live> {
        (!nodes.is_empty()).then(|| &nodes[self.rng.random_range(0..nodes.len())])
    }

    fn spec(&mut self, name: &str, every: u64) -> JobSpec {
        // Some are over before an order that was sent again arrives.
        let longest = if self.rng.random_bool(0.5) { 40 } else { 1_500 };
        let run_for = self.rng.random_range(0..longest).to_string();
        let fails = if self.rng.random_bool(0.2) { "300" } else { "0" };
        let argv = vec!["sim".to_owned(), run_for, fails.to_owned()];
        let backoff = Backoff::Fixed { delay: Span::secs(1) };
        JobSpec {
            triggers: vec![trigger(every)],
            executor: if self.rng.random_bool(0.2) {
                Executor::Noop
            } else {
                Executor::Exec { argv }
            },
            lease: Span::secs(self.rng.random_range(3..7)),
            grace: Span(300),
            retries: RetryPolicy { count: 20, backoff },
            ..JobSpec::noop(Name::new(name).expect("a literal of the right form"))
        }
    }

    fn make_steady(&mut self, n: usize) -> (What, Command) {
        let every = [1, 2, 3, 5][n % 4];
        let spec = Box::new(self.spec(&format!("steady-{n}"), every));
        (What::Steady(n, every), Command::ApplyJob { spec, expected: None })
    }

    fn draw(&mut self) -> (What, Command) {
        let loose: Vec<JobId> = self.loose.iter().copied().collect();
        let job = (!loose.is_empty()).then(|| loose[self.rng.random_range(0..loose.len())]);
        let steady: Vec<JobId> = self.steady.values().map(|steady| steady.job).collect();
        match (self.rng.random_range(0..100), job) {
            (0..10, _) if !steady.is_empty() => {
                let job = steady[self.rng.random_range(0..steady.len())];
                (What::Once(job), Command::TriggerJob { job })
            }
            (0..20, Some(job)) => (What::Run, Command::TriggerJob { job }),
            (20..24, _) if !self.runs.is_empty() => {
                let run = self.runs[self.rng.random_range(0..self.runs.len())];
                (What::Cancel(run), Command::CancelRun { run })
            }
            (0..28, Some(job)) => (What::Other, Command::PauseJob { job }),
            (28..40, Some(job)) => (What::Other, Command::ResumeJob { job }),
            (40..44, Some(job)) => {
                (What::Job(job, true), Command::DeleteJob { job, expected: None })
            }
            (0..65, _) => {
                let (name, every) = (self.rng.random_range(0..LOOSE), self.rng.random_range(1..20));
                let mut spec = Box::new(self.spec(&format!("loose-{name}"), every));
                if self.rng.random_bool(0.2) {
                    // It has the instants of its upstream job, and runs after it.
                    spec.triggers.clear();
                    spec.depends_on.extend(steady.first().map(|job| EdgeSpec::new(*job)));
                }
                (What::Job(JobId(0), false), Command::ApplyJob { spec, expected: None })
            }
            _ => self.lock(),
        }
    }

    fn lock(&mut self) -> (What, Command) {
        let name = Name::new(&format!("lock-{}", self.rng.random_range(0..3)));
        let name = name.expect("a literal of the right form");
        let owner = format!("owner-{}", self.rng.random_range(0..4));
        let held = self.leases.last(&name);
        let ttl = Span(self.rng.random_range(1_000..5_000));
        match (self.rng.random_range(0..3), held) {
            (0, Some(token)) => {
                self.leases.give_back(&name, token);
                (What::Other, Command::ReleaseLock { name, token })
            }
            (1, Some(token)) => {
                (What::Renewal(name.clone(), token), Command::RenewLock { name, token })
            }
            _ => {
                let wish = self.leases.wish(name.clone(), owner.clone(), ttl);
                let take = Command::AcquireLock { name, owner, ttl, slots: 1, wait: Span(0) };
                (What::Lock(wish), take)
            }
        }
    }

    /// Takes in what was answered; true if a client wants to see it at once.
    ///
    /// # Errors
    /// If a read does not show what was acknowledged before it was made.
    pub(crate) fn hear(&mut self) -> Result<bool, String> {
        let mut still = Vec::new();
        let mut looks = false;
        for mut ask in std::mem::take(&mut self.pending) {
            match ask.answer.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => still.push(ask),
                Err(oneshot::error::TryRecvError::Closed) => {
                    self.unknown += 1;
                    self.count("gone");
                }
                Ok(Ok(outcome)) => {
                    self.count(word(&outcome));
                    let is_once = matches!(ask.what, What::Once(_));
                    if !matches!(outcome, Outcome::Rejected(_)) && !is_once {
                        self.recent.push_back(ask.id.clone());
                        if self.recent.len() > RECENT {
                            self.recent.pop_front();
                        }
                        self.acked.insert(ask.id);
                        looks |= self.rng.random_bool(0.4);
                    }
                    self.acknowledged(ask.what, &outcome)?;
                }
                Ok(Err(error)) => {
                    let is_certain = match error {
                        Error::NoLeader(_)
                        | Error::NoTime
                        | Error::Busy
                        | Error::Refused(_)
                        | Error::TooLarge(_)
                        | Error::Encode(_)
                        | Error::SnapshotLate { .. } => true,
                        Error::OutcomeUnknown | Error::Stopped | Error::Io(_) => false,
                    };
                    self.count(if is_certain { "refused" } else { "unknown" });
                    match (is_certain, &ask.what) {
                        (false, _) => self.unknown += 1,
                        (true, What::Once(job)) => {
                            let made = self.by_hand.entry(*job).or_default();
                            *made = made.saturating_sub(1);
                        }
                        (true, what) => {
                            if let What::Lock(wish) = what {
                                self.leases.refused(wish);
                            }
                            self.refused.insert(ask.id);
                        }
                    }
                }
            }
        }
        self.pending = still;
        let mut still = Vec::new();
        for mut read in std::mem::take(&mut self.reading) {
            match read.answer.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => still.push(read),
                Ok(Ok(found)) => {
                    self.count("read");
                    if let Some(at) = found.iter().position(|found| !found) {
                        return Err(format!("a read does not show {}", read.ids[at]));
                    }
                }
                Ok(Err(_)) | Err(oneshot::error::TryRecvError::Closed) => self.count("unread"),
            }
        }
        self.reading = still;
        Ok(looks)
    }

    fn count(&mut self, word: &str) {
        *self.tally.entry(word.to_owned()).or_default() += 1;
    }

    fn acknowledged(&mut self, what: What, outcome: &Outcome) -> Result<(), String> {
        match (what, outcome) {
            (What::Steady(n, every), Outcome::Job { job, .. }) => {
                self.steady.entry(n).or_insert(Steady { job: *job, every });
            }
            (What::Job(job, true), Outcome::Done) => {
                self.loose.remove(&job);
            }
            (What::Job(_, false), Outcome::Job { job, .. }) => {
                self.loose.insert(*job);
            }
            (What::Run, Outcome::Run { run, .. }) => self.runs.push(*run),
            (What::Cancel(run), Outcome::Done) => {
                self.cancelled.insert(run);
            }
            // Whoever asks again while holding hears the same token again.
            (What::Lock(wish), Outcome::LockHeld { token, expires }) => {
                self.leases.granted(&wish, *token, *expires)?;
            }
            (What::Lock(wish), Outcome::Rejected(_)) => self.leases.refused(&wish),
            (What::Renewal(name, token), Outcome::LockHeld { expires, .. }) => {
                self.leases.renewed(&name, token, *expires);
            }
            _ => {}
        }
        Ok(())
    }

    /// True if every ask has been answered.
    pub(crate) fn is_quiet(&self) -> bool {
        self.pending.is_empty() && self.reading.is_empty()
    }

    /// How many asks were acknowledged.
    pub(crate) fn acked(&self) -> usize {
        self.acked.len()
    }

    /// Compares a node's state with what clients were told.
    ///
    /// # Errors
    /// What was acknowledged and is not there, or was refused and is.
    pub(crate) fn judge(&self, name: &str, state: &State) -> Result<(), String> {
        if let Some(lost) = self.acked.iter().find(|id| state.remembered(id).is_none()) {
            return Err(format!("{name}: {lost} was acknowledged, and is lost"));
        }
        for (job, most) in &self.by_hand {
            let runs = state.runs_of_job(*job, None);
            let made = runs.filter(|run| run.kind == RunKind::Manual).count();
            if made > *most {
                return Err(format!("{name}: {most} runs of {job} were asked for, {made} made"));
            }
        }
        // It may have been over by then, whatever came of it; it does not go on.
        let goes_on = |id: &&RunId| {
            let live = |run: &Run| !matches!(run.state, RunState::Finished { .. });
            state.run(**id).is_some_and(live)
        };
        if let Some(run) = self.cancelled.iter().find(goes_on) {
            return Err(format!("{name}: {run} was cancelled, and is {:?}", state.run(*run)));
        }
        if let Some(ghost) = self.refused.iter().find(|id| state.remembered(id).is_some()) {
            return Err(format!("{name}: {ghost} was refused as certain, and is committed"));
        }
        Ok(())
    }

    /// Instants of a steady job that must have an action by `now`.
    pub(crate) fn instants(steady: Steady, created: UtcMillis, now: UtcMillis) -> Vec<UtcMillis> {
        let every = i64::try_from(steady.every * 1_000).unwrap_or(i64::MAX);
        let minute = 60_000;
        // Seconds divisible by the step, counted anew in each minute.
        let first = created.0.div_euclid(1_000) * 1_000 + 1_000;
        (0..)
            .map(|n| first + n * 1_000)
            .take_while(|at| *at <= now.0)
            .filter(|at| at.rem_euclid(minute) % every == 0)
            .map(UtcMillis)
            .collect()
    }
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Rejected(_) => "rejected",
        Outcome::Job { .. } => "job",
        Outcome::Run { .. } => "run",
        Outcome::LockHeld { .. } => "lock",
        _ => "done",
    }
}
