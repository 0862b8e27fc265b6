//! What the machine answers.

use serde::{Deserialize, Serialize};

use crate::ids::{
    ActionKey, AttemptKey, BackfillId, GroupPath, JobId, LeaderId, Name, NodeId, Revision, RunId,
    Token, WorkerId,
};
use crate::model::worker::Duty;
use crate::time::UtcMillis;

/// What one command did, and what changed on the way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// The answer.
    pub outcome: Outcome,
    /// Hints for watchers: a lost one changes nothing, because leader services
    /// read the state again in each round.
    pub events: Vec<Event>,
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Outcome {
    /// Done; there is nothing more to say.
    #[default]
    Done,
    /// A job has this definition.
    Job {
        /// Its number.
        job: JobId,
        /// Its revision now.
        revision: Revision,
        /// False if the definition was the same already.
        changed: bool,
    },
    /// A run was made.
    Run {
        /// Its number.
        run: RunId,
    },
    /// Actions were planned.
    Planned {
        /// How many are new.
        created: u32,
        /// How many batches were refused because cursor or revision had moved on.
        refused: u32,
    },
    /// An attempt may be sent.
    Dispatched {
        /// Its token.
        token: Token,
    },
    /// A worker is attached.
    Worker {
        /// Its number.
        worker: WorkerId,
    },
    /// A lock was granted or renewed.
    LockHeld {
        /// Shown to the protected resource.
        token: Token,
        /// Replicated time at which the lease ends unless renewed.
        expires: UtcMillis,
    },
    /// Others hold it; the owner has a place in the queue.
    LockQueued {
        /// 1 is next.
        position: u32,
    },
    /// Refused; the state is as it was.
    Rejected(Reject),
    /// A node was let in.
    Node {
        /// Its number.
        node: NodeId,
    },
    /// A calendar has this definition.
    Calendar {
        /// Its revision now.
        revision: Revision,
        /// False if the definition was the same already.
        changed: bool,
        /// How many jobs are planned anew by this command; others follow.
        replanned: u32,
    },
    /// A back-fill was begun.
    Backfill {
        /// Its number.
        backfill: BackfillId,
    },
    /// A job was removed.
    Removed {
        /// Jobs whose edges to it were dropped, by number.
        freed: Vec<JobId>,
        /// How many of its live runs were asked to end.
        cancelled: u32,
    },
    /// A pool has this definition.
    Pool {
        /// Its revision now.
        revision: Revision,
        /// False if the definition was the same already.
        changed: bool,
    },
    /// A secret is stored.
    Secret {
        /// Its revision now.
        revision: Revision,
    },
    /// A group has this record.
    Group {
        /// Its revision now.
        revision: Revision,
        /// False if it was the same already.
        changed: bool,
    },
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Reject {
    /// The cluster has its settings already.
    #[error("the cluster is initialised already")]
    AlreadyInitialised,
    /// A leader of an earlier term.
    #[error("leader {0} is not the newest")]
    StaleLeader(LeaderId),
    /// No such job.
    #[error("job {0} does not exist")]
    NoSuchJob(JobId),
    /// Compare-and-set failed.
    #[error("the job has revision {actual}, not {expected}")]
    WrongRevision {
        /// As the caller thought.
        expected: Revision,
        /// As it is; 0 = it does not exist.
        actual: Revision,
    },
    /// Definition larger than allowed, or a list longer than allowed.
    #[error("{what} is too large: {actual}, at most {limit}")]
    TooLarge {
        /// Which field.
        what: String,
        /// As given.
        actual: u64,
        /// The most allowed.
        limit: u64,
    },
    /// An edge names a job that does not exist.
    #[error("upstream job {0} does not exist")]
    NoSuchUpstream(JobId),
    /// The edges would close a circle.
    #[error("dependency cycle: {}", path.iter().map(Name::as_str).collect::<Vec<_>>().join(" → "))]
    Cycle {
        /// From the job back to itself.
        path: Vec<Name>,
    },
    /// Others depend on the job.
    #[error("{} depend on it: {}", dependants.len(), dependants.iter().map(Name::as_str).collect::<Vec<_>>().join(", "))]
    HasDependants {
        /// Who, up to 100.
        dependants: Vec<Name>,
    },
    /// A value that the machine cannot hold.
    #[error("{field}: {problem}")]
    Invalid {
        /// Which field.
        field: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// No such run.
    #[error("run r-{0} does not exist")]
    NoSuchRun(RunId),
    /// The run is over.
    #[error("run r-{0} is over")]
    RunOver(RunId),
    /// The run does not wait for a dispatch of that number.
    #[error("run r-{0} does not wait for this dispatch")]
    NotDispatchable(RunId),
    /// No such worker, or another incarnation of it.
    #[error("worker {0} is not attached with this incarnation")]
    NoSuchWorker(WorkerId),
    /// The worker's slots are all taken.
    #[error("worker {0} has no free slot")]
    NoSlot(WorkerId),
    /// The attempt is not live under that token.
    #[error("attempt {0} has ended or carries another token")]
    StaleAttempt(AttemptKey),
    /// There is room for no more of it.
    #[error("the cluster holds {limit} {what} already")]
    Full {
        /// Of what.
        what: String,
        /// The most allowed.
        limit: u64,
    },
    /// No such lock.
    #[error("lock {0} is not held by anyone")]
    NoSuchLock(Name),
    /// The lock is taken, and the caller did not want to wait.
    #[error("lock {0} is taken")]
    LockTaken(Name),
    /// The token holds nothing: the lease ended, or it never was.
    #[error("token {token} does not hold lock {name}")]
    NotHolder {
        /// Which lock.
        name: Name,
        /// Which token.
        token: Token,
    },
    /// The lock has another number of slots.
    #[error("lock {name} has {actual} slots, not {asked}")]
    SlotsDiffer {
        /// Which lock.
        name: Name,
        /// As it is.
        actual: u32,
        /// As asked.
        asked: u32,
    },
    /// The request id was used with another body.
    #[error("request id {0:?} was used with another body")]
    RequestReused(String),
    /// The request id is older than what is remembered.
    #[error("request id {0:?} is older than what is remembered")]
    RequestExpired(String),
    /// No such token.
    #[error("token {0} does not exist")]
    NoSuchToken(Name),
    /// The token given lets no node in.
    #[error("the token does not let nodes in, or has expired")]
    NotAdmitted,
    /// No such node.
    #[error("node {0} does not exist")]
    NoSuchNode(NodeId),
    /// The node was taken out for good.
    #[error("node {0} was removed and cannot come back under its number")]
    NodeRetired(NodeId),
    /// No such calendar.
    #[error("calendar {0} does not exist")]
    NoSuchCalendar(Name),
    /// Triggers or other calendars name it.
    #[error("calendar {name} is in use by {}", users(jobs, calendars))]
    CalendarInUse {
        /// Which.
        name: Name,
        /// Jobs with such triggers, up to 100.
        jobs: Vec<Name>,
        /// Calendars based on it, up to 100.
        calendars: Vec<Name>,
    },
    /// The bases would close a circle.
    #[error("calendars based on each other: {}", path.iter().map(Name::as_str).collect::<Vec<_>>().join(" → "))]
    CalendarCycle {
        /// From the calendar back to itself.
        path: Vec<Name>,
    },
    /// No such trigger.
    #[error("job {job} has no trigger {trigger:?}")]
    NoSuchTrigger {
        /// Whose.
        job: Name,
        /// As asked for.
        trigger: String,
    },
    /// Calendars changed after the plan was computed.
    #[error("calendars have changed since log index {0}")]
    StalePlan(u64),
    /// No such action.
    #[error("action {0} does not exist")]
    NoSuchAction(ActionKey),
    /// Something of the action is queued or running.
    #[error("run r-{run} of action {action} is not over")]
    ActionActive {
        /// Which action.
        action: ActionKey,
        /// Which run of it.
        run: RunId,
    },
    /// No such back-fill.
    #[error("back-fill b-{0} does not exist")]
    NoSuchBackfill(BackfillId),
    /// The back-fill is over.
    #[error("back-fill b-{0} is over")]
    BackfillOver(BackfillId),
    /// No such pool.
    #[error("pool {0} does not exist")]
    NoSuchPool(Name),
    /// Definitions name it.
    #[error("pool {name} is in use by {users}")]
    PoolInUse {
        /// Which.
        name: Name,
        /// Who.
        users: PoolUsers,
    },
    /// Definitions take more slots than it would have.
    #[error("{slots} slots of pool {name} are fewer than a run takes of {users}")]
    PoolTooSmall {
        /// Which.
        name: Name,
        /// As asked for.
        slots: u32,
        /// Whose runs take more.
        users: PoolUsers,
    },
    /// A pool has not as many free slots as the run takes.
    #[error("pool {0} has no free slot")]
    PoolFull(Name),
    /// No such secret.
    #[error("secret {0} does not exist")]
    NoSuchSecret(Name),
    /// Jobs name it.
    #[error("secret {name} is in use by {}", users(jobs, &[]))]
    SecretInUse {
        /// Which.
        name: Name,
        /// Jobs whose texts name it, up to 100.
        jobs: Vec<Name>,
    },
    /// The group has no record.
    #[error("group {0} has no parameters of its own")]
    NoSuchGroup(GroupPath),
    /// A worker that is given nothing new.
    #[error("worker {worker} is {}", duty.word())]
    NotOpen {
        /// Which.
        worker: WorkerId,
        /// Why.
        duty: Duty,
    },
    /// It was heard of only just now.
    #[error("worker {0} is alive")]
    WorkerAlive(WorkerId),
    /// Attempts are alive there, as far as is known.
    #[error("{attempts} attempts run on worker {worker}")]
    WorkerBusy {
        /// Which.
        worker: WorkerId,
        /// How many.
        attempts: u64,
    },
    /// A live or newer one of its job would have the action left out.
    #[error(
        "action {0} cannot wait for its turn: another run of its job is live or waits, and its `overlap` leaves this one out"
    )]
    OutOfTurn(ActionKey),
}

impl Reject {
    /// The most of a kind that a refusal names.
    pub const MOST_NAMED: usize = 100;
}

/// `jobs a, b; calendars c`.
fn users(jobs: &[Name], calendars: &[Name]) -> String {
    let list = |what: &str, names: &[Name]| {
        let names: Vec<&str> = names.iter().map(Name::as_str).collect();
        (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")))
    };
    let parts = [list("jobs", jobs), list("calendars", calendars)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// Who takes slots of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PoolUsers {
    /// How many jobs.
    pub job_count: u64,
    /// Up to 100 of them.
    pub jobs: Vec<Name>,
    /// Live runs of definitions that are not their job's any more, up to 100.
    pub runs: Vec<RunId>,
    /// Back-fills of such definitions, up to 100.
    pub backfills: Vec<BackfillId>,
}

impl PoolUsers {
    /// The most that are shown of a kind.
    const SHOWN: usize = 5;

    /// True if nobody does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.runs.is_empty() && self.backfills.is_empty()
    }
}

/// `7 jobs: a, b, c, d, e, …; runs of earlier definitions: r-1`.
impl std::fmt::Display for PoolUsers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |what: &str, names: Vec<String>| {
            let cut = if names.len() > Self::SHOWN { ", …" } else { "" };
            let shown: Vec<&str> = names.iter().take(Self::SHOWN).map(String::as_str).collect();
            (!shown.is_empty()).then(|| format!("{what}: {}{cut}", shown.join(", ")))
        };
        let many = if self.job_count == 1 { "job" } else { "jobs" };
        let jobs = self.jobs.iter().map(ToString::to_string).collect();
        let runs = self.runs.iter().map(|run| format!("r-{run}")).collect();
        let backfills = self.backfills.iter().map(|id| format!("b-{id}")).collect();
        let parts = [
            list(&format!("{} {many}", self.job_count), jobs),
            list("runs of earlier definitions", runs),
            list("back-fills of earlier definitions", backfills),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
    }
}

/// Something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A job's definition, cursor or pause.
    Job(JobId),
    /// An action's state.
    Action(ActionKey),
    /// A run's state, or an attempt of it.
    Run(RunId),
    /// A run may be dispatched.
    Ready(RunId),
    /// A worker's profile or heartbeat.
    Worker(WorkerId),
    /// A lock's holders or waiters changed.
    Lock,
    /// A pool has another number of slots.
    Pool,
}
