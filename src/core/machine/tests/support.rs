//! A machine under test: short words for commands, and a check after each.

use std::collections::BTreeMap;

use super::super::command::*;
use super::super::invariants;
use super::super::outcome::{Outcome, Reject};
use super::super::state::{Limits, State};
use crate::ids::*;
use crate::model::access::{AccessToken, TokenPurpose};
use crate::model::action::ActionState;
use crate::model::area::Area;
use crate::model::backfill::BackfillOrder;
use crate::model::cluster::ClusterSettings;
use crate::model::confinement::{Isolation, Power, Usage};
use crate::model::edge::EdgeSpec;
use crate::model::file::{Digest, JobFile};
use crate::model::group::GroupDef;
use crate::model::job::*;
use crate::model::output::Values;
use crate::model::part::RunOn;
use crate::model::pool::PoolDef;
use crate::model::resources::{Amounts, Resources};
use crate::model::run::EndKind;
use crate::model::secret::{KeyId, Sealed};
use crate::model::selector::Selector;
use crate::model::worker::WorkerProfile;
use crate::model::worker_group::{Strategy, Thresholds, WorkerGroupDef};
use crate::placement::load::Load;
use crate::time::{Span, UtcMillis};

pub(crate) struct Machine {
    pub(crate) state: State,
    pub(crate) now: i64,
    pub(crate) index: u64,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        let mut m = Self { state: State::new(limits), now: 1_000_000, index: 0 };
        m.ok(Command::InitCluster(ClusterSettings::new(7)));
        m.ok(Command::LeaderStarted(leader(1)));
        m
    }

    pub(crate) fn send(&mut self, command: Command) -> Outcome {
        self.send_as(command, None)
    }

    pub(crate) fn send_as(&mut self, command: Command, request: Option<Request>) -> Outcome {
        let actor = Actor::Leader(self.state.leader());
        self.apply(Envelope { actor, request, command })
    }

    /// Somebody asks for it.
    #[track_caller]
    pub(crate) fn by(&mut self, user: &str, command: Command) -> Outcome {
        let actor = Actor::User(user.to_owned());
        let outcome = self.apply(Envelope { actor, request: None, command });
        assert!(!matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
        outcome
    }

    fn apply(&mut self, command: Envelope) -> Outcome {
        self.index += 1;
        let entry = Entry { index: self.index, now: UtcMillis(self.now), command: &command };
        let applied = self.state.apply(entry);
        if let Err(problem) = invariants::check(&self.state) {
            panic!("after {command:?}: {problem}");
        }
        applied.outcome
    }

    #[track_caller]
    pub(crate) fn ok(&mut self, command: Command) -> Outcome {
        let outcome = self.send(command);
        assert!(!matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
        outcome
    }

    #[track_caller]
    pub(crate) fn refused(&mut self, command: Command) -> Reject {
        match self.send(command) {
            Outcome::Rejected(reject) => reject,
            other => panic!("not refused: {other:?}"),
        }
    }

    pub(crate) fn after(&mut self, ms: i64) -> &mut Self {
        self.now += ms;
        self.ok(Command::Tick);
        self
    }

    pub(crate) fn job(&mut self, spec: JobSpec) -> JobId {
        match self.ok(apply(spec)) {
            Outcome::Job { job, .. } => job,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn worker(&mut self, name: &str, slots: u32) -> WorkerId {
        self.attach(profile(name, 1, 1, slots))
    }

    pub(crate) fn attach(&mut self, profile: WorkerProfile) -> WorkerId {
        match self.ok(Command::AttachWorker(Box::new(profile))) {
            Outcome::Worker { worker } => worker,
            other => panic!("{other:?}"),
        }
    }

    /// Plans instants of a job's first source, up to the last.
    /// A worker of one slot that can hold attempts to that alone.
    pub(crate) fn able(&mut self, text: &str, power: Power) -> WorkerId {
        let isolation = Isolation { powers: [power].into(), ..Isolation::default() };
        let profile = WorkerProfile { isolation: Box::new(isolation), ..profile(text, 1, 1, 1) };
        match self.ok(Command::AttachWorker(Box::new(profile))) {
            Outcome::Worker { worker } => worker,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn plan(&mut self, job: JobId, instants: &[(i64, Vec<ActionKey>)]) -> (u32, u32) {
        let spec = &self.state.job(job).unwrap().spec;
        let source = match spec.triggers.first() {
            Some(trigger) => PlanSource::Trigger(trigger.name.clone()),
            None => PlanSource::Dependencies,
        };
        let batch = self.batch(job, source, instants);
        match self.ok(Command::PlanActions(vec![batch])) {
            Outcome::Planned { created, refused } => (created, refused),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn batch(
        &self,
        job: JobId,
        source: PlanSource,
        instants: &[(i64, Vec<ActionKey>)],
    ) -> PlanBatch {
        let from = self.state.cursor(job, &source).unwrap_or_default();
        let action = |(at, upstream): &(i64, Vec<ActionKey>)| PlannedAction {
            nominal: UtcMillis(*at),
            due: UtcMillis(*at),
            upstream: upstream.clone(),
            catch_up: false,
            unmatched: Vec::new(),
        };
        PlanBatch {
            job,
            revision: self.state.job(job).unwrap().revision,
            source,
            from,
            through: instants.last().map_or(from, |(at, _)| UtcMillis(*at)),
            actions: instants.iter().map(action).collect(),
            missed: None,
        }
    }

    pub(crate) fn dispatch(&mut self, run: RunId, worker: WorkerId) -> (AttemptKey, Token) {
        let number = self.state.run(run).unwrap().attempts.last().map_or(1, |a| a.key.number + 1);
        let incarnation = self.state.worker(worker).unwrap().profile.incarnation;
        match self.ok(Command::Dispatch { run, number, worker, incarnation }) {
            Outcome::Dispatched { token } => {
                (State::key_of(self.state.run(run).unwrap(), number), token)
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn complete(&mut self, (attempt, token): (AttemptKey, Token), how: EndKind) {
        self.ok(complete(attempt, token, how));
    }

    pub(crate) fn queue(&self) -> Vec<RunId> {
        self.state.queue(&default_group()).collect()
    }
}

pub(crate) fn state_of(m: &Machine, key: ActionKey) -> ActionState {
    m.state.action(key).unwrap().state
}

pub(crate) fn leader(term: u64) -> LeaderId {
    LeaderId { term, node: NodeId(1) }
}

pub(crate) fn apply(spec: JobSpec) -> Command {
    Command::ApplyJob { spec: Box::new(spec), expected: None }
}

pub(crate) fn complete(attempt: AttemptKey, token: Token, how: EndKind) -> Command {
    told(attempt, token, how, [None, None])
}

/// As [`complete`], by a worker that says when it began and ended.
pub(crate) fn told(
    attempt: AttemptKey,
    token: Token,
    how: EndKind,
    times: [Option<i64>; 2],
) -> Command {
    let [started, ended] = times.map(|at| at.map(UtcMillis));
    let report = EndReport { how, started, ended, output_bytes: 3, output_crc: 4 };
    Command::Complete { attempt, token, report }
}

/// As [`complete`], of an attempt that succeeded and put something out.
pub(crate) fn complete_with(
    attempt: AttemptKey,
    token: Token,
    outputs: &[(&str, &str)],
) -> Command {
    let Command::Complete { report, .. } = complete(attempt, token, exit(0)) else {
        panic!("a report is a report")
    };
    Command::CompleteWith { attempt, token, report, outputs: values(outputs) }
}

pub(crate) fn complete_using(
    attempt: AttemptKey,
    token: Token,
    how: EndKind,
    usage: Usage,
) -> Command {
    let Command::Complete { report, .. } = complete(attempt, token, how) else {
        panic!("a report is a report")
    };
    Command::CompleteUsing { attempt, token, report, outputs: Values::new(), usage }
}

pub(crate) fn values(pairs: &[(&str, &str)]) -> Values {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn edit_state(job: JobId, clear: bool, set: &[(&str, &str)], unset: &[&str]) -> Command {
    let unset = unset.iter().map(|key| (*key).to_owned()).collect();
    Command::EditState { job, clear, set: values(set), unset }
}

/// A job that keeps what its runs put out.
pub(crate) fn keeping(text: &str) -> JobSpec {
    JobSpec { keep_state: true, ..spec(text) }
}

pub(crate) fn exit(code: i32) -> EndKind {
    EndKind::Exited { code }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn spec(text: &str) -> JobSpec {
    JobSpec::noop(name(text))
}

pub(crate) fn cron(text: &str) -> TriggerSpec {
    TriggerSpec {
        name: TriggerName(text.into()),
        kind: TriggerKind::Cron { expression: "* * * * * *".to_owned() },
        zone: None,
        misfire: MisfirePolicy::FireAll,
        enabled: true,
    }
}

pub(crate) fn triggered(text: &str) -> JobSpec {
    JobSpec { triggers: vec![cron("t")], ..spec(text) }
}

pub(crate) fn after_jobs(text: &str, jobs: &[JobId]) -> JobSpec {
    JobSpec { depends_on: jobs.iter().map(|job| EdgeSpec::new(*job)).collect(), ..spec(text) }
}

pub(crate) fn profile(text: &str, incarnation: u128, boot_id: u128, slots: u32) -> WorkerProfile {
    WorkerProfile {
        name: name(text),
        incarnation: Incarnation(incarnation),
        boot_id,
        groups: vec![default_group()],
        labels: std::collections::BTreeMap::new(),
        slots,
        host: String::new(),
        version: String::new(),
        amounts: Amounts::default(),
        stops_within: None,
        isolation: Box::default(),
        interpreters: std::collections::BTreeSet::new(),
    }
}

pub(crate) fn key(job: JobId, at: i64) -> ActionKey {
    ActionKey { job, nominal: UtcMillis(at) }
}

pub(crate) fn acquire(lock: &str, owner: &str, slots: u32, wait: u64) -> Command {
    Command::AcquireLock {
        name: name(lock),
        owner: owner.to_owned(),
        ttl: Span::secs(5),
        slots,
        wait: Span::secs(wait),
    }
}

/// A token that lets nodes in; its hash is one byte repeated.
pub(crate) fn token_of(byte: u8, expires: Option<i64>) -> AccessToken {
    AccessToken {
        purpose: TokenPurpose::Join,
        hash: [byte; 32],
        expires: expires.map(UtcMillis),
        created: UtcMillis(0),
    }
}

pub(crate) fn put_pool(pool: &str, slots: u32) -> Command {
    let def = PoolDef { name: name(pool), slots, description: String::new() };
    Command::PutPool { def: Box::new(def), expected: None }
}

pub(crate) fn put_group(
    path: GroupPath,
    params: &[(&str, &str)],
    expected: Option<Revision>,
) -> Command {
    let params = params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let def = GroupDef { path, description: String::new(), params: params.collect() };
    Command::PutGroup { def: Box::new(def), expected }
}

/// A job that has something to do in these areas alone.
pub(crate) fn only_in(areas: &[&str], spec: JobSpec) -> JobSpec {
    JobSpec { areas: areas.iter().map(|area| Area::new(area).unwrap()).collect(), ..spec }
}

pub(crate) fn set_area(area: Option<&str>) -> Command {
    Command::SetArea { area: area.map(|area| Area::new(area).unwrap()) }
}

/// A job whose runs take slots of pools.
pub(crate) fn taking(text: &str, pools: &[(&str, u32)]) -> JobSpec {
    let pools = pools.iter().map(|(pool, slots)| (name(pool), *slots)).collect();
    JobSpec { pools, ..spec(text) }
}

/// Amounts of memory, CPU and things that are counted.
pub(crate) fn amounts(memory: u64, cpu: u32, counts: &[(&str, u32)]) -> Amounts {
    let counts = counts.iter().map(|(thing, count)| (name(thing), *count)).collect();
    Amounts { memory, cpu, counts }
}

/// A job whose runs take so much of their worker.
pub(crate) fn heavy(text: &str, slots: u32, amounts: Amounts) -> JobSpec {
    JobSpec { resources: Some(Resources { slots, amounts }), ..spec(text) }
}

pub(crate) fn put_worker_group(
    group: &str,
    strategy: Strategy,
    thresholds: Option<Thresholds>,
) -> Command {
    let (name, description) = (name(group), String::new());
    let def = WorkerGroupDef { name, strategy, thresholds, description };
    Command::PutWorkerGroup { def: Box::new(def), expected: None }
}

/// Every worker is connected, and none is busy.
#[expect(clippy::unnecessary_wraps, reason = "it is asked which are connected")]
pub(crate) fn here(_: WorkerId) -> Option<Load> {
    Some(Load::default())
}

/// A job that takes workers of these labels alone.
pub(crate) fn choosy(text: &str, labels: &str) -> JobSpec {
    JobSpec { workers: Some(Selector::read(labels).unwrap()), ..spec(text) }
}

/// What a worker with labels declares.
pub(crate) fn labelled(text: &str, slots: u32, labels: &[(&str, &str)]) -> WorkerProfile {
    WorkerProfile { labels: values(labels), ..profile(text, 1, 1, slots) }
}

/// A back-fill of instants 1 s apart, long ago, two at once.
pub(crate) fn backfill_of(job: JobId, count: i64) -> BackfillOrder {
    BackfillOrder {
        job,
        revision: None,
        instants: (1..=count).map(|n| UtcMillis(n * 1_000)).collect(),
        passed_over: 0,
        newest_first: false,
        concurrency: 2,
        hours: None,
        downstream: false,
        params: BTreeMap::new(),
        priority: None,
        again: None,
    }
}

/// A job that runs on all workers.
pub(crate) fn everywhere(text: &str) -> JobSpec {
    JobSpec { run_on: RunOn::AllWorkers, ..spec(text) }
}

/// A value that nobody can read, under a key of that number.
pub(crate) fn sealed(key: u8) -> Sealed {
    Sealed { key: KeyId([key; 8]), nonce: [9; 12], ciphertext: vec![key; 20] }
}

pub(crate) fn put_secret(secret: &str, key: u8, description: Option<&str>) -> Command {
    let description = description.map(str::to_owned);
    Command::PutSecret { name: name(secret), sealed: sealed(key), description, expected: None }
}

/// A job whose texts name secrets.
pub(crate) fn knowing(job: &str, secrets: &[&str]) -> JobSpec {
    JobSpec { secrets: secrets.iter().map(|secret| name(secret)).collect(), ..spec(job) }
}

/// The content of that number, of five bytes.
pub(crate) fn digest(number: u8) -> Digest {
    Digest([number; 32])
}

/// Contents with their lengths.
pub(crate) fn note_files(files: &[(u8, u32)]) -> Command {
    let files = files.iter().map(|(number, len)| (digest(*number), *len)).collect();
    Command::NoteFiles { files }
}

/// A job with files: names, and numbers of their contents of five bytes each.
pub(crate) fn furnished(job: &str, files: &[(&str, u8)]) -> JobSpec {
    let file = |number: u8| JobFile { digest: digest(number), len: 5, mode: JobFile::MODE };
    let files = files.iter().map(|(name, number)| ((*name).to_owned(), file(*number)));
    JobSpec { files: files.collect(), ..spec(job) }
}

/// How many cases a property gets: `HORAI_CORE_CASES=N` for N times as many.
#[expect(clippy::disallowed_methods, reason = "how long to test is no configuration of the core")]
pub(crate) fn cases(count: u32) -> u32 {
    let times = std::env::var("HORAI_CORE_CASES").ok();
    count * times.map_or(1, |text| text.parse().unwrap())
}
