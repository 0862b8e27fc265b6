//! Everything that can be asked of the machine.
//!
//! Commands are stored in the log and sent between nodes: variants and fields
//! are only appended, and [`encode`] puts a version byte before them.

use serde::{Deserialize, Serialize};

use crate::ids::{
    ActionKey, AttemptKey, BackfillId, GroupPath, Incarnation, JobId, LeaderId, Name, NodeId,
    Revision, RunId, Token, TriggerName, WorkerId,
};
use crate::model::access::{AccessToken, TokenHash};
use crate::model::action::Missed;
use crate::model::area::Area;
use crate::model::backfill::{BackfillOrder, Steer};
use crate::model::calendar::CalendarDef;
use crate::model::cluster::ClusterSettings;
use crate::model::confinement::Usage;
use crate::model::edge::NoMatch;
use crate::model::file::Digest;
use crate::model::group::GroupDef;
use crate::model::handle::Handle;
use crate::model::job::JobSpec;
use crate::model::output::Values;
use crate::model::pause::{AfterPause, PauseTarget};
use crate::model::pool::PoolDef;
use crate::model::run::{EndKind, RunOrder};
use crate::model::secret::Sealed;
use crate::model::stored::extended;
use crate::model::worker::{Duty, WorkerProfile};
use crate::model::worker_group::WorkerGroupDef;
use crate::time::{Span, UtcMillis};

/// A command with who sent it and, where a client wants to send it again
/// safely, its request id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Who sent it.
    pub actor: Actor,
    /// Makes sending it twice the same as once.
    pub request: Option<Request>,
    /// What is asked.
    pub command: Command,
}

/// Who sent a command.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Actor {
    /// A leader's own service.
    Leader(LeaderId),
    /// A worker, through the leader.
    Worker(WorkerId),
    /// A person or program with a token; the token's name, at most 200 bytes.
    User(String),
}

/// A client's id for one write: remembered for 24 h, and among the last 200,000.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Request {
    /// 1 to 100 bytes, chosen by the client.
    pub id: String,
    /// Hash of the body: the same id with another body is refused.
    pub body_hash: u128,
    /// When the client made the id, if it says so (time-ordered ids do).
    pub issued: Option<UtcMillis>,
}

impl Request {
    /// The longest request id, in bytes.
    pub const MAX_LEN: usize = 100;
}

/// What can be asked of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Moves replicated time and releases what is due, nothing else.
    Tick,
    /// First command of a cluster's life.
    InitCluster(ClusterSettings),
    /// First command of a leader's term: every lease runs anew from here.
    LeaderStarted(LeaderId),

    /// Creates or changes a job.
    ApplyJob {
        /// The definition, checked.
        spec: Box<JobSpec>,
        /// Compare-and-set: the revision it must have; 0 = must not exist.
        expected: Option<Revision>,
    },
    /// Removes a job, withdraws its plan, lets live runs finish, keeps history.
    DeleteJob {
        /// Which.
        job: JobId,
        /// The revision it must have.
        expected: Option<Revision>,
    },
    /// Starts nothing new of a job: planned actions are withdrawn, due ones held.
    PauseJob {
        /// Which.
        job: JobId,
    },
    /// Ends a pause: held actions go on, missed instants are recorded.
    ResumeJob {
        /// Which.
        job: JobId,
    },

    /// Instants of triggers and derived actions, computed by the leader.
    PlanActions(Vec<PlanBatch>),
    /// Runs a job now, outside its plan.
    TriggerJob {
        /// Which.
        job: JobId,
    },
    /// Asks for the end of a run that is not over.
    CancelRun {
        /// Which.
        run: RunId,
    },

    /// Gives a queued run to a worker. Committed before the worker is told.
    Dispatch {
        /// Which run.
        run: RunId,
        /// The number the attempt must get: a second dispatch of one try is refused.
        number: u32,
        /// To whom.
        worker: WorkerId,
        /// The incarnation that is attached.
        incarnation: Incarnation,
    },
    /// A worker's report of an attempt's end.
    Complete {
        /// Which attempt.
        attempt: AttemptKey,
        /// The token it was given.
        token: Token,
        /// What happened.
        report: EndReport,
    },

    /// A worker attaches to the leader.
    AttachWorker(Box<WorkerProfile>),
    /// Heartbeats that arrived at the leader since the last such command.
    WorkersAlive(Vec<(WorkerId, Incarnation)>),

    /// Takes a lock or pool slot, or waits for one.
    AcquireLock {
        /// Which; created when first taken.
        name: Name,
        /// Who; 1 to 200 bytes. Asking again while holding or waiting changes nothing but the wait.
        owner: String,
        /// Length of the lease, 1 s to 24 h.
        ttl: Span,
        /// Slots it must have; 1 is a lock.
        slots: u32,
        /// How long to stay in the queue if it is taken; zero does not queue.
        wait: Span,
    },
    /// Starts a lease anew.
    RenewLock {
        /// Which.
        name: Name,
        /// The token that was given.
        token: Token,
    },
    /// Gives a slot back.
    ReleaseLock {
        /// Which.
        name: Name,
        /// The token that was given.
        token: Token,
    },
    /// Gives a place in the queue up.
    LeaveLock {
        /// Which.
        name: Name,
        /// Who waits.
        owner: String,
    },

    /// Makes a token known, in place of one of the same name.
    PutToken {
        /// Its name, shown where it is used.
        name: Name,
        /// Hash, purpose and end; `created` is set by the machine.
        token: AccessToken,
    },
    /// Makes a token worthless.
    DropToken {
        /// Which.
        name: Name,
    },
    /// Lets a node in: gives it a number, the same again for the same store.
    AdmitNode {
        /// Of a token that lets nodes in.
        token_hash: TokenHash,
        /// Random id of the node's store.
        store: u128,
        /// The lost node whose place it takes.
        replaces: Option<NodeId>,
    },
    /// Says that a node was taken out for good.
    RetireNode {
        /// Which.
        node: NodeId,
    },

    /// Creates or changes a calendar; what rests on it and is not due is planned anew.
    PutCalendar {
        /// The definition, checked.
        def: Box<CalendarDef>,
        /// Compare-and-set: the revision it must have; 0 = must not exist.
        expected: Option<Revision>,
    },
    /// Removes a calendar that nothing names.
    DeleteCalendar {
        /// Which.
        name: Name,
        /// The revision it must have.
        expected: Option<Revision>,
    },
    /// [`Command::PlanActions`], computed from calendars as they were at a log
    /// index: refused as a whole if one has changed since.
    PlanUnder {
        /// The last index that the planner had seen.
        seen: u64,
        /// The same.
        batches: Vec<PlanBatch>,
    },
    /// Starts nothing new: planned actions are withdrawn, due ones held.
    Pause {
        /// Of what.
        target: PauseTarget,
    },
    /// Ends a pause: held actions go on.
    Resume {
        /// Of what.
        target: PauseTarget,
        /// What becomes of the instants of the pause.
        missed: AfterPause,
    },
    /// Runs an action again, with all that follows from it if `below`.
    Rerun {
        /// Which.
        action: ActionKey,
        /// Everything below it too, each action once.
        below: bool,
    },
    /// Says what an action has come to.
    SettleAction {
        /// Which.
        action: ActionKey,
        /// It counts as a success; else it is skipped.
        success: bool,
    },
    /// Runs a job now, outside its plan, as somebody wants it.
    RunJob {
        /// Which.
        job: JobId,
        /// What is said of the run.
        order: Box<RunOrder>,
    },
    /// Runs a job for instants of the past.
    StartBackfill(Box<BackfillOrder>),
    /// Holds a back-fill, lets it go on or ends it.
    SteerBackfill {
        /// Which.
        backfill: BackfillId,
        /// What is asked of it.
        to: Steer,
    },
    /// The hours in which a back-fill may start runs begin or end.
    OpenBackfill {
        /// Which.
        backfill: BackfillId,
        /// They begin.
        open: bool,
    },
    /// Removes a job as [`Command::DeleteJob`] does, and more if that is asked for.
    RemoveJob {
        /// Which.
        job: JobId,
        /// The revision it must have.
        expected: Option<Revision>,
        /// Even if others depend on it: their edges to it are dropped.
        force: bool,
        /// Its live runs are asked to end.
        cancel: bool,
    },
    /// Creates or changes a pool; what runs keeps the slots that it has.
    PutPool {
        /// The definition, checked.
        def: Box<PoolDef>,
        /// Compare-and-set: the revision it must have; 0 = must not exist.
        expected: Option<Revision>,
    },
    /// Removes a pool that nothing names.
    DeletePool {
        /// Which.
        name: Name,
        /// The revision it must have.
        expected: Option<Revision>,
    },
    /// Creates a secret, or gives it another value.
    PutSecret {
        /// Its name, which the value is bound to.
        name: Name,
        /// The value.
        sealed: Sealed,
        /// For people; none keeps the one that it has.
        description: Option<String>,
        /// Compare-and-set: the revision it must have; 0 = must not exist.
        expected: Option<Revision>,
    },
    /// Writes a secret's value under another key.
    ResealSecret {
        /// Which.
        name: Name,
        /// The same value.
        sealed: Sealed,
        /// The revision it must have: else it has another value meanwhile.
        expected: Revision,
    },
    /// Removes a secret that no job names.
    DeleteSecret {
        /// Which.
        name: Name,
        /// The revision it must have.
        expected: Option<Revision>,
    },
    /// A node says which secrets it has no key for.
    CloseSecrets {
        /// Who says so.
        node: NodeId,
        /// All of them, ascending.
        closed: Vec<Name>,
    },
    /// Says where the cluster stands. What is queued already runs all the same.
    SetArea {
        /// The area; none leaves no job out.
        area: Option<Area>,
    },
    /// Creates or changes the record of a group.
    PutGroup {
        /// The definition, checked.
        def: Box<GroupDef>,
        /// Compare-and-set: the revision it must have; 0 = must not exist.
        expected: Option<Revision>,
    },
    /// Removes the record of a group; its jobs stay where they are.
    DeleteGroup {
        /// Which.
        path: GroupPath,
        /// The revision it must have.
        expected: Option<Revision>,
    },
    /// Says what a worker is given from now on.
    SetDuty {
        /// Which.
        worker: WorkerId,
        /// What.
        duty: Duty,
    },
    /// Forgets a worker.
    RemoveWorker {
        /// Which.
        worker: WorkerId,
        /// Even if attempts are alive there, as far as is known: they count as lost.
        force: bool,
    },
    /// [`Command::Complete`], of an attempt that put something out.
    CompleteWith {
        /// Which attempt.
        attempt: AttemptKey,
        /// The token it was given.
        token: Token,
        /// What happened.
        report: EndReport,
        /// What it put out; of no interest unless it succeeded.
        outputs: Values,
    },
    /// Changes what a job keeps for its next run, key by key: a run that ends meanwhile
    /// loses nothing.
    EditState {
        /// Whose.
        job: JobId,
        /// Everything that is kept goes first.
        clear: bool,
        /// Written then.
        set: Values,
        /// Keys that go; those that are not there count as gone.
        unset: Vec<String>,
    },
    /// Says how a worker of a group is chosen.
    PutWorkerGroup {
        /// The definition, checked.
        def: Box<WorkerGroupDef>,
        /// Compare-and-set: the revision it must have; 0 = must not exist.
        expected: Option<Revision>,
    },
    /// Takes that away: the group goes on with the defaults.
    DeleteWorkerGroup {
        /// Which.
        name: Name,
        /// The revision it must have.
        expected: Option<Revision>,
    },
    /// [`Command::CompleteWith`], of an attempt whose worker counted what it used.
    CompleteUsing {
        /// Which attempt.
        attempt: AttemptKey,
        /// The token it was given.
        token: Token,
        /// What happened.
        report: EndReport,
        /// What it put out; of no interest unless it succeeded.
        outputs: Values,
        /// What it used.
        usage: Usage,
    },
    /// Contents of files are about to be named by definitions: nodes keep what they have of
    /// them for some hours.
    NoteFiles {
        /// Each with its length in bytes; at most 10,000.
        files: Vec<(Digest, u32)>,
    },
    /// A worker says what an attempt began elsewhere, and what became of it: of one that is
    /// over, too.
    NoteHandles {
        /// Which attempt.
        attempt: AttemptKey,
        /// The token it was given.
        token: Token,
        /// Those that are known are said again, or what became of them.
        handles: Vec<Handle>,
    },
    /// Splits a waiting run of a job that runs on all workers: over those that are there
    /// when it is applied.
    Spread {
        /// Which.
        run: RunId,
    },
}

/// Instants of one source of a job: a trigger, or its dependencies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanBatch {
    /// Whose instants.
    pub job: JobId,
    /// Definition they were computed from.
    pub revision: Revision,
    /// What gave them.
    pub source: PlanSource,
    /// Where the cursor must stand: a batch computed from another place is refused.
    pub from: UtcMillis,
    /// Where the cursor stands afterwards; every instant lies in `(from, through]`.
    pub through: UtcMillis,
    /// The instants, ascending.
    pub actions: Vec<PlannedAction>,
    /// Instants in the same range that will not run.
    pub missed: Option<Missed>,
}

impl PlanBatch {
    /// The most actions of one command, over all its batches.
    pub const MAX_ACTIONS: usize = 2_000;
}

/// What gives a job its instants; also names its cursor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PlanSource {
    /// One of its triggers.
    Trigger(TriggerName),
    /// Its dependencies: one action per action of the first upstream job.
    Dependencies,
}

/// One instant, decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedAction {
    /// The instant it stands for.
    pub nominal: UtcMillis,
    /// When it may start; never before `nominal`.
    pub due: UtcMillis,
    /// What it waits for.
    pub upstream: Vec<ActionKey>,
    /// Late enough to go behind what is due now.
    pub catch_up: bool,
    /// Upstream jobs of which there is no action to wait for.
    pub unmatched: Vec<(JobId, NoMatch)>,
}

extended! {
    PlannedAction (UtcMillis)
    [nominal due upstream catch_up]
    [1 unmatched]
}

impl PlannedAction {
    /// The most upstream actions of one action: about half of what a command holds.
    pub const MAX_UPSTREAM: usize = 2_000;
}

/// What a worker says of an attempt's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndReport {
    /// What happened.
    pub how: EndKind,
    /// When it started, by the worker's estimate of cluster time.
    pub started: Option<UtcMillis>,
    /// When it ended, by the same estimate.
    pub ended: Option<UtcMillis>,
    /// Bytes of output that the worker holds.
    pub output_bytes: u64,
    /// CRC32C of that output.
    pub output_crc: u32,
}

/// A command as the log hands it over.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Raft log index; several commands may share one.
    pub index: u64,
    /// The leader's cluster time at proposal. The machine never lets time go back.
    pub now: UtcMillis,
    /// What is asked, and by whom.
    pub command: &'a Envelope,
}

/// Version of the encoding below.
const VERSION: u8 = 1;

/// Why bytes are not commands.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// No bytes at all.
    #[error("empty command")]
    Empty,
    /// Written by a newer program.
    #[error("command of version {0}, this program knows {VERSION}: upgrade this node")]
    Newer(u8),
    /// Damaged.
    #[error("damaged command")]
    Damaged(#[from] postcard::Error),
}

/// A command's stored and sent form: a version byte, then postcard.
///
/// # Errors
/// Only if memory cannot be had.
pub fn encode(envelope: &Envelope) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_extend(envelope, vec![VERSION])
}

/// Reads [`encode`]'s form.
///
/// # Errors
/// [`DecodeError`] if the bytes are of a newer version or damaged.
pub fn decode(bytes: &[u8]) -> Result<Envelope, DecodeError> {
    let (&version, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if version != VERSION {
        return Err(DecodeError::Newer(version));
    }
    Ok(postcard::from_bytes(body)?)
}
