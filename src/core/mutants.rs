//! Faults put in on purpose, to see whether the simulations and the chaos
//! harness find them.
//!
//! Without the feature `mutants` [`on`] is `false` at compile time, and nothing
//! of a fault is left in the program; release builds with the feature do not
//! compile. With it, `HORAI_MUTANT=name` chooses one fault for the whole process.
//! The variable is read once, the first time anybody asks: applying a command
//! asks no environment, and two replicas in one process have the same fault.
//!
//! A fault stands where the right code stands, as `if mutants::on(...)`, so that
//! moving the code moves the fault along. Other packages use this list too.

/// The faults there are. What each does is said where it is named.
macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// A fault put in on purpose.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mutant {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Mutant {
            /// Every fault.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// What chooses it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it does, in a sentence.
            #[must_use]
            pub fn what(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

mutants! {
    /// A deposed leader's commands are still obeyed.
    StaleLeaderObeyed = "stale-leader-obeyed",
    /// A new leader puts running attempts back into the queue without asking workers.
    RedispatchAtTakeover = "redispatch-at-takeover",
    /// A new leader plans from now on instead of from the cursors.
    PlansFromNow = "plans-from-now",
    /// An action is named after the time of its commit, not after its instant.
    NamedByCommitTime = "named-by-commit-time",
    /// Of late instants the latest hundred are run, and the others are not recorded.
    SilentMisfireCap = "silent-misfire-cap",
    /// Of late instants that are all to run the latest alone runs.
    FireAllRunsOne = "fire-all-runs-one",
    /// Of late instants of which the latest is to run all run.
    FireNowRunsAll = "fire-now-runs-all",
    /// Of late instants that are to be left out the latest runs.
    SkipRunsOne = "skip-runs-one",
    /// A lock is given to whoever asks, held or not.
    LockGivenTwice = "lock-given-twice",
    /// A new leader does not let the leases of locks run anew.
    LockLeaseNotExtended = "lock-lease-not-extended",
    /// A lock's lease ends after half of its length.
    LockEndsEarly = "lock-ends-early",
    /// A lock is given with the token that was given last.
    LockTokenStands = "lock-token-stands",
    /// A restored node does not know who waits for whom.
    WaitersNotRestored = "waiters-not-restored",
    /// A success counts for every version of the job that waits.
    AnyVersionSatisfies = "any-version-satisfies",
    /// Applying a command asks something outside of state and command.
    ApplyLooksAround = "apply-looks-around",
    /// A result is taken whatever its token, and after the attempt was given up.
    LateResultTaken = "late-result-taken",
    /// A request that is sent again is executed again.
    RequestsForgotten = "requests-forgotten",
    /// An attempt counts as lost when its lease ends, without the margin.
    NoLeaseMargin = "no-lease-margin",
    /// A new leader does not let the leases of attempts run anew.
    LeaseNotExtended = "lease-not-extended",
    /// Another incarnation counts as proof of death without another boot.
    IncarnationIsDeath = "incarnation-is-death",
    /// A worker that lost its folder is asked to cancel what it never knew.
    CancelAsksAnybody = "cancel-asks-anybody",
    /// A paused job's runs are dispatched.
    PauseDoesNotHold = "pause-does-not-hold",
    /// After a pause the instants that passed meanwhile are planned.
    ResumeReplays = "resume-replays",
    /// A pause of many jobs comes to the first ones only.
    PauseStopsHalfWay = "pause-stops-half-way",
    /// A change of a calendar comes to the first jobs that rest on it only.
    ReplanStopsHalfWay = "replan-stops-half-way",
    /// An edit leaves the old definition's planned actions.
    EditKeepsPlan = "edit-keeps-plan",
    /// What depends on a skipped action is not skipped.
    SkipStaysAlone = "skip-stays-alone",
    /// Retention forgets up to where instants were dropped, and the cursor too.
    CursorGoesBack = "cursor-goes-back",
    /// A retry is not counted.
    RetriesNotCounted = "retries-not-counted",
    /// Dispatches whose outcome is unknown are never looked up.
    UnsureNeverTold = "unsure-never-told",
    /// A worker that attaches is not told what it lacks.
    AttachTellsNothing = "attach-tells-nothing",
    /// The dispatcher does not settle dispatches that were refused.
    RefusedStaysInFlight = "refused-stays-in-flight",
    /// The planner believes that what it proposed was accepted.
    PlannerTrustsItself = "planner-trusts-itself",
    /// Instants computed before a calendar changed are planned all the same.
    PlansUnderOldCalendars = "plans-under-old-calendars",
    /// A fixed delay gets its next action before the last one is over.
    FixedDelayOverlaps = "fixed-delay-overlaps",
    /// A retry makes a run one of its schedule.
    RetryIsSchedule = "retry-is-schedule",
    /// A wait before a retry begins anew with each leader.
    BackoffBeginsAnew = "backoff-begins-anew",
    /// A run by hand that stands for an action sets its state and tells its dependants.
    ManualTells = "manual-tells",
    /// A run that tries something out sets the state of the action that it stands for.
    DebugSetsState = "debug-sets-state",
    /// A back-fill sets the states of actions and tells those that wait, asked to or not.
    BackfillTells = "backfill-tells",
    /// A back-fill that goes on after a pause begins where it had begun before.
    BackfillRepeats = "backfill-repeats",
    /// A recovery tells nobody.
    RecoverTellsNobody = "recover-tells-nobody",
    /// A recovery of all below visits an action once for each of its edges.
    SuperVisitsTwice = "super-visits-twice",
    /// What was gathered for a success counts for the next one, too.
    ReadinessStays = "readiness-stays",
    /// A run that waits for a retry is not in the way of others of its job.
    BackoffLetsOthers = "backoff-lets-others",
    /// Of those that wait for a live run the oldest stays.
    QueueOneKeepsOldest = "queue-one-keeps-oldest",
    /// A dispatch does not look whether a pool has the slots.
    PoolOverfull = "pool-overfull",
    /// Entries are acknowledged before they are synced.
    AckBeforeSync = "ack-before-sync",
    /// A sync is sled's flush alone, which is none.
    PlainFlush = "plain-flush",
    /// A vote is answered before it is synced.
    VoteNotSynced = "vote-not-synced",
    /// A snapshot counts, and log is purged under it, before it is synced.
    SnapshotNotSynced = "snapshot-not-synced",
    /// Errors of the disk at a sync are ignored.
    DiskErrorsIgnored = "disk-errors-ignored",
    /// A store that lost everything is opened under its old number.
    WipedStoreOpens = "wiped-store-opens",
    /// Another store under a known number is spoken with.
    OtherStoreTaken = "other-store-taken",
    /// A founder that restarts asks the members that it knows whether it has founded.
    FoundsAgain = "founds-again",
    /// Linearizable reads are served from what is applied here.
    LocalReads = "local-reads",
    /// Clocks that were read long ago set and correct cluster time.
    OldClocksCount = "old-clocks-count",
    /// What wall clocks say when there is no cluster time counts from when they were asked.
    QuestionsTakeTime = "questions-take-time",
    /// What is handed to the leader is handed again, without a request id, if the answer is late.
    ForwardedAgain = "forwarded-again",
    /// Calls of other nodes have no deadline, and connections no keepalive.
    NoDeadlines = "no-deadlines",
    /// A cancel is recorded, and the worker does not pass it on.
    CancelOnlyMarks = "cancel-only-marks",
    /// Of a job that is to end only its first process is killed.
    ChildrenSurvive = "children-survive",
    /// A worker obeys a leader that it knows to be followed by another.
    OlderLeaderObeyed = "older-leader-obeyed",
    /// An attempt begins however long its order was on its way.
    LateOrdersBegin = "late-orders-begin",
    /// The process that holds an attempt's lease lets it live when that is over.
    LeaseNeverEnds = "lease-never-ends",
    /// A worker is taken that belongs to another cluster.
    StrangeWorkerTaken = "strange-worker-taken",
    /// Output is said to be safe as soon as one node has it.
    LogAckedByOne = "log-acked-by-one",
    /// Output counts as stored before it is synced.
    LogNotSynced = "log-not-synced",
    /// What a node lacks of an output is not copied to it.
    LogsNotRepaired = "logs-not-repaired",
}

#[cfg(all(feature = "mutants", not(debug_assertions)))]
compile_error!("the feature `mutants` puts faults in: it is not for release builds");

/// True if this fault was chosen for the process.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
#[must_use]
pub const fn on(_: Mutant) -> bool {
    false
}

/// True if this fault was chosen for the process.
///
/// # Panics
/// If `HORAI_MUTANT` names no fault: a harness that chose none would report that
/// nothing was found.
#[cfg(feature = "mutants")]
#[must_use]
pub fn on(mutant: Mutant) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<Mutant>> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(chosen) == Some(mutant)
}

#[cfg(feature = "mutants")]
#[expect(clippy::disallowed_methods, reason = "read once, and only in builds that have faults")]
fn chosen() -> Option<Mutant> {
    let name = std::env::var("HORAI_MUTANT").ok().filter(|name| !name.is_empty())?;
    let found = Mutant::ALL.iter().copied().find(|mutant| mutant.name() == name);
    Some(found.unwrap_or_else(|| panic!("HORAI_MUTANT={name}: there is no such mutant")))
}

/// Differs from one call to the next: what [`Mutant::ApplyLooksAround`] looks at.
#[cfg(feature = "mutants")]
pub(crate) fn around() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    static CALLS: AtomicU64 = AtomicU64::new(0);
    CALLS.fetch_add(1, Relaxed)
}

/// Differs from one call to the next: what [`Mutant::ApplyLooksAround`] looks at.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) const fn around() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::Mutant;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Mutant::ALL.len());
    }
}
