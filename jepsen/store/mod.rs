//! The evidence of one test: what its rows mean, put together for those who judge.
//!
//! `files` has where it is kept and how it is written and read.

mod files;
mod line;
mod stalls;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use files::{gather_witness, history_rows, load, read_rows, write_row, write_test};
pub(crate) use line::{Line, Said};
pub(crate) use stalls::Stall;

use crate::history::Op;
use crate::time::{MS, Stamp};

/// A band in which a majority was mended and had to work without the rest.
pub(crate) const CORE_ALONE: &str = "core-alone";
/// A worker that was killed lost its journal, and with it what it was to do.
pub(crate) const JOURNAL_WIPED: &str = "journal-wiped";
/// How commands begin by which a worker is given nothing more.
pub(crate) const DUTY: &str = "duty-";

/// A band in which that rest was down or cut off.
pub(crate) const CORE_REST: &str = "core-rest";

/// A row of a node that met damage on its disk that was done to it before.
pub(crate) const DAMAGE_FOUND: &str = "damage-found";
/// What a node says that meets damage, or that was removed meanwhile.
const DAMAGE: [&str; 6] = ["store", "storage", "damage", "checksum", "corrupt", "was removed"];

/// True if what a node said last speaks of a damaged disk, so that it ended for that.
pub(crate) fn names_damage(said: &str) -> bool {
    let said = said.to_lowercase();
    DAMAGE.iter().any(|word| said.contains(word))
}

/// The parameters of a test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TestInfo {
    /// Its name, such as `set+partition`.
    pub(crate) name: String,
    /// Workloads that ran side by side.
    pub(crate) workloads: Vec<String>,
    /// Kinds of faults that were asked for.
    pub(crate) nemesis: Vec<String>,
    /// Kinds that must have been installed at least once.
    pub(crate) required: Vec<String>,
    /// All randomness comes from it.
    pub(crate) seed: u64,
    /// Seconds of the main phase.
    pub(crate) seconds: u64,
    /// What may be taken away, and so what is judged.
    pub(crate) regime: Regime,
    /// Version of the program under test.
    pub(crate) version: String,
    /// Its commit, if known.
    pub(crate) commit: String,
    /// Names of the nodes in the order of their numbers.
    pub(crate) nodes: Vec<String>,
    /// Names of the workers.
    pub(crate) workers: Vec<String>,
    /// Lease of attempts, in milliseconds.
    pub(crate) lease_ms: u64,
    /// What is waited beyond a lease.
    pub(crate) lease_margin_ms: u64,
    /// Older instants are misfires.
    pub(crate) misfire_after_ms: u64,
    /// Longest election.
    pub(crate) election_max_ms: u64,
    /// How far cluster time may be from true time.
    pub(crate) clock_bound_ms: u64,
    /// A fire this late without a fault is too late.
    pub(crate) late_ms: u64,
    /// How long after a fault has healed everything must be as before.
    pub(crate) recover_ms: u64,
    /// Phases in order.
    pub(crate) phases: Vec<Phase>,
    /// The command that runs the same again.
    pub(crate) rerun: String,
    /// Why the harness could not do its work; empty if it could.
    pub(crate) harness_error: String,
    /// Why the machine was too busy for times to mean anything; empty if it was not.
    pub(crate) busy: String,
}

impl Default for TestInfo {
    fn default() -> Self {
        Self {
            name: String::new(),
            workloads: Vec::new(),
            nemesis: Vec::new(),
            required: Vec::new(),
            seed: 0,
            seconds: 0,
            regime: Regime::Safe,
            version: String::new(),
            commit: String::new(),
            nodes: Vec::new(),
            workers: Vec::new(),
            lease_ms: 60_000,
            lease_margin_ms: 10_000,
            misfire_after_ms: 60_000,
            election_max_ms: 400,
            clock_bound_ms: 10,
            late_ms: 5_000,
            recover_ms: 30_000,
            phases: Vec::new(),
            rerun: String::new(),
            harness_error: String::new(),
            busy: String::new(),
        }
    }
}

impl TestInfo {
    /// Whether how long things take is judged: where survivors formed a quorum all the
    /// time, on a machine that let them work.
    pub(crate) fn judges_times(&self) -> bool {
        self.regime == Regime::Safe && self.busy.is_empty()
    }
}

/// What may be taken away, and so what is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Regime {
    /// Survivors always form a quorum: being available is judged too
    #[default]
    Safe,
    /// Majorities are taken away: only safety is judged
    Brutal,
}

impl fmt::Display for Regime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Safe => "safe",
            Self::Brutal => "brutal",
        })
    }
}

/// A part of a test.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Phase {
    /// `bootstrap main heal converge final`.
    pub(crate) name: String,
    /// Monotonic nanoseconds.
    pub(crate) from: u64,
    /// Monotonic nanoseconds.
    pub(crate) to: u64,
}

/// Writes the phases of a test down as they end; one begins where another ended.
pub(crate) struct Phases<'a> {
    /// The test that they belong to.
    pub(crate) test: &'a mut TestInfo,
    began: Stamp,
}

impl<'a> Phases<'a> {
    /// The first one begins now.
    pub(crate) fn begin(test: &'a mut TestInfo) -> Self {
        Self { test, began: Stamp::now() }
    }

    /// The phase that has just ended.
    pub(crate) fn ended(&mut self, name: &str) {
        let now = Stamp::now();
        self.test.phases.push(Phase { name: name.to_owned(), from: self.began.t, to: now.t });
        self.began = now;
    }

    /// How long the phase has lasted.
    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_nanos(Stamp::now().t.saturating_sub(self.began.t))
    }
}

/// What one node told when it was asked.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Poll {
    /// Monotonic nanoseconds.
    pub(crate) t: u64,
    /// Wall clock milliseconds.
    pub(crate) utc: i64,
    /// Name of the node.
    pub(crate) node: String,
    /// True if it answered.
    pub(crate) ok: bool,
    /// Its own number.
    pub(crate) number: Option<u64>,
    /// Number of the node that leads, as far as it knows.
    pub(crate) leader: Option<u64>,
    /// In which term.
    pub(crate) term: u64,
    /// Index of the last command applied.
    pub(crate) applied: u64,
    /// Of its state.
    pub(crate) state_hash: String,
    /// How many members it knows.
    pub(crate) members: Value,
    /// How much it holds.
    pub(crate) counts: Value,
    /// Cluster time, as it has it.
    pub(crate) time: Value,
    /// Why it did not answer.
    pub(crate) error: Option<String>,
}

/// How far a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stage {
    /// It is about to be done.
    #[default]
    Start,
    /// It was seen to be there.
    Installed,
    /// It is about to be undone.
    Heal,
    /// Everything is as before.
    Healed,
    /// Nothing was done.
    Skipped,
    /// Something was done, and nobody knows what of it is there.
    Indeterminate,
}

/// A step of a fault.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Fault {
    /// Monotonic nanoseconds.
    pub(crate) t: u64,
    /// Wall clock milliseconds.
    pub(crate) utc: i64,
    /// Such as `partition-ring`.
    pub(crate) op: String,
    /// On whom and how much.
    pub(crate) args: Value,
    /// How far it is.
    pub(crate) stage: Stage,
    /// More about it.
    pub(crate) detail: Value,
}

/// The stretch in which a fault may have been felt.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Band {
    /// Which.
    pub(crate) op: String,
    /// On whom.
    pub(crate) args: Value,
    /// Monotonic nanoseconds.
    pub(crate) from: u64,
    /// Monotonic nanoseconds; `u64::MAX` if it never healed.
    pub(crate) to: u64,
    /// True if it was seen to be there.
    pub(crate) installed: bool,
}

impl Band {
    /// True if it was done to this machine.
    pub(crate) fn hits(&self, machine: &str) -> bool {
        let who = self.args["who"].as_array();
        who.is_some_and(|who| who.iter().any(|name| name == machine))
    }

    /// True if it was there at some time between these.
    pub(crate) fn meets(&self, from: u64, to: u64) -> bool {
        self.from <= to && self.to >= from
    }
}

/// Cuts that part workers from nodes, too.
const FROM_WORKERS: [&str; 4] =
    ["partition-workers", "partition-halves", "partition-one", "partition-flap"];
/// Faults that may leave no quorum where none has to be left, each or several at once.
const FROM_QUORUM: [&str; 7] =
    ["kill", "freeze", "power", "partition", "disk", "member", CORE_REST];

/// True for what is no fault but a command of an operator.
fn is_command(op: &str) -> bool {
    op.starts_with("admin-")
}

/// Stretches of faults, from rows in order.
pub(crate) fn bands(faults: &[Fault]) -> Vec<Band> {
    let mut bands: Vec<Band> = Vec::new();
    for row in faults {
        let open = bands
            .iter_mut()
            .rev()
            .find(|band| band.op == row.op && band.to == u64::MAX && band.args == row.args);
        match (row.stage, open) {
            (Stage::Start | Stage::Installed | Stage::Indeterminate, None) => bands.push(Band {
                op: row.op.clone(),
                args: row.args.clone(),
                from: row.t,
                to: u64::MAX,
                installed: row.stage == Stage::Installed,
            }),
            (Stage::Installed, Some(band)) => band.installed = true,
            (Stage::Healed, Some(band)) => band.to = row.t,
            // An operator's command that failed or took too long leaves nothing behind.
            (Stage::Indeterminate, Some(band)) if is_command(&row.op) => band.to = row.t,
            // Nothing was done: nothing can be felt.
            (Stage::Skipped, Some(band)) if !band.installed => band.to = band.from,
            _ => {}
        }
    }
    bands.retain(|band| band.to > band.from);
    bands
}

/// Everything that is known of a test.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    /// Parameters.
    pub(crate) test: TestInfo,
    /// What clients asked and got.
    pub(crate) ops: Vec<Op>,
    /// What jobs wrote, in the order of the monotonic clock.
    pub(crate) witness: Vec<Line>,
    /// What nodes told.
    pub(crate) polls: Vec<Poll>,
    /// Steps of faults.
    pub(crate) faults: Vec<Fault>,
    /// Stretches of faults.
    pub(crate) bands: Vec<Band>,
    /// Logs of nodes and workers, by their name.
    pub(crate) logs: BTreeMap<String, String>,
    /// Where jobs stood still, and no fault explains it.
    pub(crate) stalls: Vec<Stall>,
    /// Lines of files that could not be read.
    pub(crate) damaged: Vec<String>,
    /// Lines that jobs were writing when they were killed.
    pub(crate) cut: usize,
    /// Of each band until when it was felt, once somebody has asked.
    pub(crate) felt: OnceLock<Vec<u64>>,
}

impl Evidence {
    /// True if the nemesis has any fault of a kind that begins so.
    pub(crate) fn has_fault(&self, start: &str) -> bool {
        self.bands.iter().any(|band| band.op.starts_with(start))
    }

    /// The wall clock at a monotonic time, by the rows around it.
    pub(crate) fn mono_of_utc(&self, utc: i64) -> u64 {
        let (t0, utc0) = self.origin();
        let delta = utc.saturating_sub(utc0);
        let shift = delta.unsigned_abs().saturating_mul(MS);
        if delta < 0 { t0.saturating_sub(shift) } else { t0.saturating_add(shift) }
    }

    /// The other way round.
    pub(crate) fn utc_of_mono(&self, t: u64) -> i64 {
        let (t0, utc0) = self.origin();
        let ms = i64::try_from(t.abs_diff(t0) / MS).unwrap_or(i64::MAX);
        if t < t0 { utc0.saturating_sub(ms) } else { utc0.saturating_add(ms) }
    }

    /// A monotonic time and the wall clock at it. The machine's clock is not moved
    /// in a test, so that one pair stands for all.
    pub(crate) fn origin(&self) -> (u64, i64) {
        if let Some(op) = self.ops.first() {
            return (op.ask.t, op.ask.utc);
        }
        self.witness.first().map_or((0, 0), |line| (line.t, line.utc_ms()))
    }

    /// True if what began on a worker at `from` could not be ended in time, and may have
    /// been alive at `to`: the worker was frozen as a whole for longer than the margin, with
    /// all that ends attempts.
    pub(crate) fn outlived_lease(&self, worker: &str, from: u64, to: u64) -> bool {
        let margin = self.test.lease_margin_ms * MS;
        self.bands.iter().any(|band| {
            band.op.starts_with("worker-freeze")
                && band.hits(worker)
                && band.to.saturating_sub(band.from) >= margin
                && band.meets(from, to)
        })
    }

    /// True if the machine let jobs stand still at some time between these, or so shortly
    /// before that a lease may have run out by it. All workers are on one machine.
    pub(crate) fn stood_still(&self, from: u64, to: u64) -> bool {
        let lease = (self.test.lease_ms + self.test.lease_margin_ms) * MS;
        let is_it = |stall: &Stall| stall.from <= to && stall.to.saturating_add(lease) >= from;
        self.stalls.len() >= stalls::SEVERAL && self.stalls.iter().any(is_it)
    }

    /// True if nobody may have been able to tell a worker anything, or hear of it: it was
    /// done to the worker, cut workers off, or may have taken the quorum away.
    pub(crate) fn parts(&self, band: &Band, worker: &str) -> bool {
        let is_of = |ops: &[&str]| ops.iter().any(|op| band.op.starts_with(op));
        let brutal = self.test.regime == Regime::Brutal;
        // Of a cut the plan says whom it hits: a number that is counted round.
        let count = u64::try_from(self.test.workers.len()).unwrap_or(0);
        let number = band.args["fault"]["partition"]["worker"].as_u64();
        let chosen = number.and_then(|number| number.checked_rem(count));
        let chosen = chosen.and_then(|at| self.test.workers.get(usize::try_from(at).ok()?));
        (band.hits(worker) && !band.op.starts_with(DUTY))
            || chosen.is_some_and(|chosen| chosen == worker)
            || is_of(&FROM_WORKERS)
            || (brutal && is_of(&FROM_QUORUM))
    }

    /// Operations of one kind.
    pub(crate) fn ops_of<'a>(&'a self, f: &'a str) -> impl Iterator<Item = &'a Op> {
        self.ops.iter().filter(move |op| op.ask.f == f)
    }

    /// The last instant that had its time to run, in milliseconds; none if the test did
    /// not come to its end.
    pub(crate) fn horizon(&self) -> Option<i64> {
        self.ops_of("horizon").filter_map(|op| op.result()["utc"].as_i64()).last()
    }

    /// True if the workload ran, alone or as a part of the mix.
    pub(crate) fn ran(&self, workload: &str) -> bool {
        self.test.workloads.iter().any(|name| name == workload || name == "mixed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_become_stretches() {
        let row = |t, op: &str, stage| Fault { t, op: op.to_owned(), stage, ..Fault::default() };
        let rows = [
            row(1, "kill", Stage::Start),
            row(2, "kill", Stage::Installed),
            row(3, "freeze", Stage::Start),
            row(4, "freeze", Stage::Skipped),
            row(5, "kill", Stage::Heal),
            row(6, "kill", Stage::Healed),
            row(7, "kill", Stage::Start),
        ];
        let found = bands(&rows);
        let shown: Vec<_> = found.iter().map(|b| (b.from, b.to, b.installed)).collect();
        assert_eq!(shown, [(1, 6, true), (7, u64::MAX, false)]);
        // Nobody knows what is there still; of a command nothing is.
        let failed = |op: &str| {
            let rows = [row(1, op, Stage::Start), row(5, op, Stage::Indeterminate)];
            bands(&rows)[0].to
        };
        assert_eq!((failed("kill"), failed("admin-transfer")), (u64::MAX, 5));
    }
}
