//! Jobs: what to run, when, where, and what to do when it goes wrong.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::area::Area;
use super::batch::BatchSpec;
use super::confinement::{Confinement, Power};
use super::edge::{EdgeSpec, PeriodUnit};
pub use super::executor::Executor;
use super::executor::Steps;
use super::file::JobFile;
use super::limits::RunLimits;
use super::params::Params;
use super::part::RunOn;
use super::resources::Resources;
use super::retry::{RetryRules, RetryWorker};
use super::selector::Selector;
use super::stored::extended;
use super::syntax::Syntax;
use super::trigger::{RuleSpec, TriggerRule};
use crate::ids::{GroupPath, JobId, Name, Revision, RunId, TriggerName};
use crate::time::{Span, UtcMillis};

/// A definition with its number and revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Internal number, never reused.
    pub id: JobId,
    /// Counts the definitions that differed, from 1.
    pub revision: Revision,
    /// What the user wrote, with defaults filled in.
    pub spec: JobSpec,
    /// True while the job starts nothing new.
    pub paused: bool,
    /// When the first revision was committed.
    pub created: UtcMillis,
    /// When this revision was committed.
    pub updated: UtcMillis,
}

impl Job {
    /// Definitions before that of now which are kept, so that a run may be asked for of
    /// one of them.
    pub const KEPT_REVISIONS: u64 = 5;
}

/// What a user writes, with defaults filled in. Checked as a whole before it
/// is proposed, and again by the machine for what only the machine can know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSpec {
    /// Unique in the cluster.
    pub name: Name,
    /// For people; up to 1,000 bytes.
    pub description: String,
    /// IANA zone; the cluster's default where none is given.
    pub zone: Option<String>,
    /// Up to 32, each with its own name.
    pub triggers: Vec<TriggerSpec>,
    /// Up to 200 edges to jobs whose actions must succeed first.
    pub depends_on: Vec<EdgeSpec>,
    /// What a worker does.
    pub executor: Executor,
    /// Extra environment; keys must not begin with `HORAI_`.
    pub env: BTreeMap<String, String>,
    /// Workers of this group may run it.
    pub worker_group: Name,
    /// 9 goes first, 0 last; default 5.
    pub priority: u8,
    /// Tries after the first one failed.
    pub retries: RetryPolicy,
    /// Longest life of one attempt; none means no limit.
    pub timeout: Option<Span>,
    /// Between SIGTERM and SIGKILL; default 10 s.
    pub grace: Span,
    /// How long an attempt lives without contact to a leader: 1 s to 7 days, default 60 s.
    pub lease: Span,
    /// What follows when the worker is lost.
    pub on_worker_lost: OnWorkerLost,
    /// The folder it lies in.
    pub group: Option<GroupPath>,
    /// What its runs get as `HORAI_PARAM_*`, under names as [`super::params::is_name`] has them.
    pub params: BTreeMap<String, String>,
    /// In what periods its actions belong together.
    pub period: PeriodUnit,
    /// Its number in hera, 1 to 999,999: for `hera` edges.
    pub legacy_id: Option<u32>,
    /// Which failures are tried again, and how waits spread.
    pub retry_rules: RetryRules,
    /// How long after its nominal time an action may wait; 2 days where nothing is said.
    pub wait_limit: Option<Span>,
    /// What becomes of an action that is ready while another run of the job is live.
    pub overlap: Overlap,
    /// How its texts are read.
    pub syntax: Syntax,
    /// How long a run may take as a whole, and wait to begin.
    pub limits: RunLimits,
    /// On which worker a retry is made.
    pub retry_on_worker: RetryWorker,
    /// How many slots of which pools each of its runs takes while it runs; up to 8 pools.
    pub pools: BTreeMap<Name, u32>,
    /// The secrets that its texts name, up to 32. Read from the texts when the job is
    /// written: the machine reads none.
    pub secrets: BTreeSet<Name>,
    /// Where it has something to do, up to 32 areas; none means everywhere.
    pub areas: BTreeSet<Area>,
    /// How the batch key of its actions follows from their time.
    pub batch: Option<BatchSpec>,
    /// What its runs put out is kept for the next one.
    pub keep_state: bool,
    /// Which workers of its group may run it; all where nothing is said.
    pub workers: Option<Selector>,
    /// What each of its runs takes of its worker; one slot where nothing is said.
    pub resources: Option<Resources>,
    /// What the processes of an attempt may use, and as whom they run.
    pub confinement: Confinement,
    /// What its runs find in their working folder, by relative path; up to 32 files of up
    /// to 256 KiB in all.
    pub files: BTreeMap<String, JobFile>,
    /// What is done before and after that.
    pub steps: Steps,
    /// On one worker of those that may run it, or on each.
    pub run_on: RunOn,
}

extended! {
    JobSpec (Name)
    [name description zone triggers depends_on executor env worker_group priority retries
        timeout grace lease on_worker_lost]
    [1 group 2 params 3 period 4 legacy_id 5 retry_rules 6 wait_limit 7 overlap
        8 limits 9 pools 10 retry_on_worker 11 keep_state 12 syntax 13 areas 14 batch
        15 workers 16 resources 21 secrets 22 confinement 31 steps 41 files 51 run_on]
}

impl JobSpec {
    /// Worker group of jobs that name none.
    pub const DEFAULT_GROUP: &'static str = "default";
    /// Priority of jobs that name none.
    pub const DEFAULT_PRIORITY: u8 = 5;
    /// Grace of jobs that name none.
    pub const DEFAULT_GRACE: Span = Span::secs(10);
    /// Lease of jobs that name none.
    pub const DEFAULT_LEASE: Span = Span::secs(60);
    /// The shortest lease.
    pub const MIN_LEASE: Span = Span::secs(1);
    /// The longest lease.
    pub const MAX_LEASE: Span = Span::secs(7 * 86_400);
    /// The priority that goes first.
    pub const MAX_PRIORITY: u8 = 9;
    /// The most retries of a run.
    pub const MAX_RETRIES: u32 = 100;
    /// The longest description, in bytes.
    pub const MAX_DESCRIPTION: usize = 1_000;
    /// The most triggers one job may have.
    pub const MAX_TRIGGERS: usize = 32;
    /// The most dependencies one job may have.
    pub const MAX_EDGES: usize = 200;
    /// The most parameters of a job or a trigger.
    pub const MAX_PARAMS: usize = 100;
    /// The longest value of a parameter, in bytes.
    pub const MAX_PARAM: usize = 8 * 1024;
    /// The largest number of a job in hera: six digits of a version's number.
    pub const MAX_LEGACY_ID: u32 = 999_999;
    /// The longest wait of an action.
    pub const MAX_WAIT: Span = Span::secs(366 * 86_400);
    /// The most secrets of one job.
    pub const MAX_SECRETS: usize = 32;
    /// The most pools of one job.
    pub const MAX_POOLS: usize = 8;
    /// The most areas of one job.
    pub const MAX_AREAS: usize = 32;
    /// The largest definition, encoded, in bytes.
    pub const MAX_BYTES: usize = 256 * 1024;

    /// A job that does nothing, never by itself: for tests and as a base to fill in.
    #[must_use]
    pub fn noop(name: Name) -> Self {
        Self {
            name,
            description: String::new(),
            zone: None,
            triggers: Vec::new(),
            depends_on: Vec::new(),
            executor: Executor::Noop,
            env: BTreeMap::new(),
            worker_group: default_group(),
            priority: Self::DEFAULT_PRIORITY,
            retries: RetryPolicy::default(),
            timeout: None,
            grace: Self::DEFAULT_GRACE,
            lease: Self::DEFAULT_LEASE,
            on_worker_lost: OnWorkerLost::Rerun,
            group: None,
            params: BTreeMap::new(),
            period: PeriodUnit::Day,
            legacy_id: None,
            retry_rules: RetryRules::default(),
            wait_limit: None,
            overlap: Overlap::Allow,
            syntax: Syntax::Plain,
            limits: RunLimits::default(),
            retry_on_worker: RetryWorker::Any,
            pools: BTreeMap::new(),
            secrets: BTreeSet::new(),
            areas: BTreeSet::new(),
            batch: None,
            keep_state: false,
            workers: None,
            resources: None,
            confinement: Confinement::default(),
            files: BTreeMap::new(),
            steps: Steps::default(),
            run_on: RunOn::OneWorker,
        }
    }

    /// The trigger of that name.
    #[must_use]
    pub fn trigger(&self, name: &TriggerName) -> Option<&TriggerSpec> {
        self.triggers.iter().find(|t| t.name == *name)
    }

    /// The rules of those triggers that are still there, in the order of the definition.
    fn rules<'a>(&'a self, triggers: &'a [TriggerName]) -> impl Iterator<Item = &'a RuleSpec> {
        let named = self.triggers.iter().filter(|t| triggers.contains(&t.name));
        named.filter_map(|t| t.kind.rule())
    }

    /// The priority of an action of these triggers: the highest of theirs, where
    /// one that says nothing has the job's.
    #[must_use]
    pub fn priority_of(&self, triggers: &[TriggerName]) -> u8 {
        let named = self.triggers.iter().filter(|t| triggers.contains(&t.name));
        let own = named.map(|t| t.kind.rule().and_then(|r| r.priority).unwrap_or(self.priority));
        own.max().unwrap_or(self.priority)
    }

    /// The parameters that these triggers give to an action: of two of them those of the
    /// later one. They go before the job's.
    #[must_use]
    pub fn trigger_params(&self, triggers: &[TriggerName]) -> Params {
        self.rules(triggers).flat_map(|rule| rule.params.clone()).collect()
    }

    /// What may be a template, with the fields it stands in: what its executor is told, the
    /// steps around it, and the values of its environment.
    pub fn texts(&self) -> impl Iterator<Item = (String, &str)> {
        let env = self.env.iter().map(|(key, text)| (format!("env.{key}"), text.as_str()));
        self.executor.texts().into_iter().chain(self.steps.texts()).chain(env)
    }

    /// What its worker must be able to do.
    #[must_use]
    pub fn needs(&self) -> BTreeSet<Power> {
        let files = (!self.files.is_empty()).then_some(Power::Files);
        self.confinement.needs().into_iter().chain(files).collect()
    }

    /// True if one of its triggers, disabled or not, waits for the end of its last action.
    #[must_use]
    pub fn has_fixed_delay(&self) -> bool {
        self.triggers.iter().any(|t| t.kind.fixed_delay().is_some())
    }

    /// When a run's retry `number`, from 1, may begin after a try that ended then.
    #[must_use]
    pub fn retry_at(&self, run: RunId, number: u32, ended: UtcMillis) -> UtcMillis {
        let jitter = self.retry_rules.jitter_of(run, number);
        ended.plus(self.retries.backoff.delay(number)).plus(jitter)
    }

    /// What can be the plain name of a parameter: as that of a variable in a shell.
    #[must_use]
    pub fn is_param_name(text: &str) -> bool {
        let mut bytes = text.bytes();
        text.len() <= 64
            && bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
    }
}

/// The group of workers and jobs that name none.
#[must_use]
pub fn default_group() -> Name {
    Name::new(JobSpec::DEFAULT_GROUP).expect("a literal of the right form")
}

/// One rule that gives a job its instants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerSpec {
    /// Unique in the job; identity across edits together with the content.
    pub name: TriggerName,
    /// The rule.
    pub kind: TriggerKind,
    /// IANA zone; the job's where none is given.
    pub zone: Option<String>,
    /// What becomes of instants that could not be planned in time.
    pub misfire: MisfirePolicy,
    /// A disabled trigger plans nothing.
    pub enabled: bool,
}

/// The kinds of triggers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TriggerKind {
    /// Seconds minutes hours day-of-month month day-of-week, and optionally a year.
    Cron {
        /// The expression as written.
        expression: String,
    },
    /// Every other rule, and a cron of which more is said than its expression.
    Rule(Box<RuleSpec>),
}

impl TriggerKind {
    /// All that is said of it; none of a cron that is its expression alone.
    #[must_use]
    pub fn rule(&self) -> Option<&RuleSpec> {
        match self {
            Self::Cron { .. } => None,
            Self::Rule(rule) => Some(rule),
        }
    }

    /// The delay of a trigger that waits for the end of its last action.
    #[must_use]
    pub fn fixed_delay(&self) -> Option<Span> {
        match self.rule()?.rule {
            TriggerRule::FixedDelay { delay } => Some(delay),
            _ => None,
        }
    }
}

/// What becomes of instants planned later than `misfire_after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum MisfirePolicy {
    /// Run each, within 24 h and 1,000 instants.
    #[default]
    FireAll,
    /// Run the latest under its own nominal time, record the others.
    FireNow,
    /// Run none, record all.
    Skip,
}

/// Tries after a failed one. Worker losses are counted apart, with their own limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// 0 to 100 tries after the first.
    pub count: u32,
    /// Between the end of a try and the next.
    pub backoff: Backoff,
}

/// What becomes of an action that is ready while another run of its job is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Overlap {
    /// It starts.
    #[default]
    Allow,
    /// It is skipped.
    Skip,
    /// It waits; a newer one takes its place.
    QueueOne,
    /// It waits; all that wait start one after the other, by nominal time.
    QueueAll,
    /// The live run is cancelled, and it starts when that is over.
    CancelRunning,
}

impl Overlap {
    /// Each with its word in definitions; the first is the default.
    pub const ALL: [(&'static str, Self); 5] = [
        ("allow", Self::Allow),
        ("skip", Self::Skip),
        ("queue_one", Self::QueueOne),
        ("queue_all", Self::QueueAll),
        ("cancel_running", Self::CancelRunning),
    ];
}

/// How long to wait before retry `n` (from 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backoff {
    /// The same each time.
    Fixed {
        /// Waited before every retry.
        delay: Span,
    },
    /// Doubles each time up to a cap.
    Exponential {
        /// Waited before the first retry.
        initial: Span,
        /// Never longer than this.
        cap: Span,
    },
}

impl Default for Backoff {
    fn default() -> Self {
        Self::Fixed { delay: Span::secs(10) }
    }
}

impl Backoff {
    /// The wait before retry number `retry`, counted from 1.
    #[must_use]
    pub fn delay(self, retry: u32) -> Span {
        match self {
            Self::Fixed { delay } => delay,
            Self::Exponential { initial, cap } => {
                let doublings = retry.saturating_sub(1).min(63);
                initial.times(1 << doublings).min(cap)
            }
        }
    }
}

/// What follows when the worker that ran an attempt is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnWorkerLost {
    /// The shim ends the attempt at its deadline; after lease and margin it runs elsewhere.
    Rerun,
    /// The shim ends the attempt at its deadline; the run fails.
    Fail,
    /// The process goes on and nobody reruns it, until its result or `keep_for`.
    Keep {
        /// After this the attempt counts as lost and its late result moves nothing.
        keep_for: Span,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_have_what_their_triggers_say() {
        let trigger = |name: &str, priority, params: &[(&str, &str)]| {
            let at = UtcMillis(1000);
            let params = params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let rule = RuleSpec { priority, params, ..RuleSpec::new(TriggerRule::Once { at }) };
            let (name, kind) = (TriggerName(name.into()), TriggerKind::Rule(Box::new(rule)));
            let misfire = MisfirePolicy::FireAll;
            TriggerSpec { name, kind, zone: None, misfire, enabled: true }
        };
        let mut spec = JobSpec::noop(Name::new("j").unwrap());
        spec.params = BTreeMap::from([("A".to_owned(), "job".to_owned())]);
        let triggers =
            [trigger("low", Some(2), &[("A", "low")]), trigger("plain", None, &[("B", "b")])];
        spec.triggers = triggers.to_vec();
        let names = |names: &[&str]| -> Vec<TriggerName> {
            names.iter().map(|name| TriggerName((*name).into())).collect()
        };
        let (none, low, both) = (names(&[]), names(&["low"]), names(&["plain", "low"]));
        let gone = names(&["gone"]);
        assert_eq!([&none, &low, &both, &gone].map(|t| spec.priority_of(t)), [5, 2, 5, 5]);
        assert_eq!(spec.trigger_params(&none), Params::new());
        assert_eq!(spec.trigger_params(&both)["A"], "low");
        let counts = [&both, &low].map(|triggers| spec.trigger_params(triggers).len());
        assert_eq!(counts, [2, 1]);
    }

    #[test]
    fn exponential_backoff_doubles_up_to_its_cap() {
        let b = Backoff::Exponential { initial: Span::secs(1), cap: Span::secs(5) };
        let waits: Vec<u64> = (1..=5).map(|n| b.delay(n).0 / 1000).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5]);
        assert_eq!(b.delay(u32::MAX), Span::secs(5));
    }
}
