//! What the cluster may hold: bounds that every command keeps to.

use crate::time::Span;

/// What the cluster may hold. The same on every node of a cluster: tests alone set another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Jobs.
    pub jobs: usize,
    /// Earlier definitions that nothing is pinned to.
    pub definitions: usize,
    /// Actions that are not final.
    pub live_actions: usize,
    /// Runs that are not over.
    pub live_runs: usize,
    /// Parts of one run.
    pub parts: usize,
    /// Finished runs with their parts, and skipped actions without a run.
    pub ended: usize,
    /// The same of one job.
    pub ended_per_job: usize,
    /// How long what is over is kept at most.
    pub ended_age: Span,
    /// How long a failure is kept at least, unless the cluster is full.
    pub failure_age: Span,
    /// Workers.
    pub workers: usize,
    /// Locks.
    pub locks: usize,
    /// Access tokens.
    pub tokens: usize,
    /// Nodes ever let in.
    pub nodes: usize,
    /// Remembered request ids.
    pub requests: usize,
    /// How long they are remembered.
    pub request_age: Span,
    /// Missed ranges of one job.
    pub missed_per_job: usize,
    /// Calendars.
    pub calendars: usize,
    /// Pauses of groups and triggers.
    pub pauses: usize,
    /// Back-fills, those that are over included.
    pub backfills: usize,
    /// Instants of all of them.
    pub backfill_instants: usize,
    /// Pools.
    pub pools: usize,
    /// Worker groups with a definition.
    pub worker_groups: usize,
    /// Secrets.
    pub secrets: usize,
    /// Contents of files that were said to be needed in the last hours.
    pub uploads: usize,
    /// Groups with a record.
    pub groups: usize,
    /// Bytes of what runs put out, as they are counted by each of them.
    pub output_bytes: usize,
    /// Bytes of what jobs keep for their next runs.
    pub state_bytes: usize,
    /// Timers released by one command.
    pub timers: usize,
    /// Jobs that one command withdraws the plan of, or lets go on, when many are
    /// paused or resumed at once, or rest on a calendar that changes.
    pub sweep: usize,
    /// How long after its nominal time an action may wait.
    pub max_wait: Span,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            jobs: 200_000,
            definitions: 100_000,
            live_actions: 500_000,
            live_runs: 500_000,
            parts: 1_000,
            ended: 500_000,
            ended_per_job: 200,
            ended_age: Span::secs(30 * 86_400),
            failure_age: Span::secs(7 * 86_400),
            workers: 10_000,
            locks: 100_000,
            tokens: 1_000,
            nodes: 10_000,
            requests: 200_000,
            request_age: Span::secs(86_400),
            missed_per_job: 1_000,
            calendars: 1_000,
            pauses: 100_000,
            backfills: 1_000,
            backfill_instants: 500_000,
            output_bytes: 64 << 20,
            state_bytes: 64 << 20,
            pools: 10_000,
            worker_groups: 1_000,
            secrets: 1_000,
            uploads: 50_000,
            groups: 10_000,
            timers: 2_000,
            sweep: 500,
            max_wait: Span::secs(2 * 86_400),
        }
    }
}
