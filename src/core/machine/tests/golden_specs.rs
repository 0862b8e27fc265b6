//! Definitions, orders and profiles of the golden bytes: each says all of something.

use std::collections::BTreeMap;

use super::support::*;
use crate::ids::*;
use crate::model::backfill::{BackfillOrder, Hours};
use crate::model::batch::{BatchSpec, BatchUnit};
use crate::model::confinement::{Confinement, Isolation, IsolationKind, Power, Rlimit, Usage};
use crate::model::edge::{Condition, EdgeSpec};
use crate::model::executor::{HttpCall, HttpExpect, HttpTls, Steps};
use crate::model::handle::{Handle, HandleEnd};
use crate::model::job::*;
use crate::model::limits::RunLimits;
use crate::model::retry::{RetryRules, RetryWorker};
use crate::model::run::RunOrder;
use crate::model::worker::WorkerProfile;
use crate::time::{Span, UtcMillis};

/// Limits of runs.
pub(super) fn limited_spec() -> JobSpec {
    let limits = RunLimits { run: Some(Span::secs(7200)), queue: Some(Span::secs(600)) };
    JobSpec { limits, ..spec("limited") }
}

/// A wish for the worker of a retry.
pub(super) fn picky_spec() -> JobSpec {
    JobSpec { retry_on_worker: RetryWorker::Another, ..spec("picky") }
}

/// Edges that say how an action must end, and rules for exit codes.
pub(super) fn strict_spec() -> JobSpec {
    let conditions = (1..).zip(Condition::ALL);
    let mut edges: Vec<EdgeSpec> = conditions
        .map(|(n, (_, condition))| EdgeSpec { condition, ..EdgeSpec::new(JobId(n)) })
        .collect();
    edges.push(EdgeSpec { soft: true, ..EdgeSpec::new(JobId(9)) });
    let retry_rules = RetryRules {
        retry_on: vec![75],
        never_on: vec![2, 64],
        skip_on: vec![99],
        jitter: Span::secs(5),
    };
    let wait_limit = Some(Span::secs(3600));
    let overlap = Overlap::CancelRunning;
    JobSpec { depends_on: edges, retry_rules, wait_limit, overlap, ..spec("strict") }
}

pub(super) fn run_order() -> RunOrder {
    RunOrder {
        debug: true,
        action: Some(UtcMillis(2_000)),
        nominal: Some(UtcMillis(2_000)),
        revision: Some(Revision(1)),
        params: BTreeMap::from([("DAY".to_owned(), "1".to_owned())]),
        priority: Some(4),
    }
}

pub(super) fn backfill_order(job: JobId) -> BackfillOrder {
    BackfillOrder {
        job,
        revision: Some(Revision(1)),
        instants: vec![UtcMillis(1_000), UtcMillis(2_000)],
        passed_over: 7,
        newest_first: true,
        concurrency: 1,
        hours: Some(Hours { from: 1_320, until: 360 }),
        downstream: true,
        params: BTreeMap::from([("DAY".to_owned(), "1".to_owned())]),
        priority: Some(1),
        again: Some(BackfillId(1)),
    }
}

/// A job of two areas, with a batch key and a parameter of one of them.
pub(super) fn local_spec() -> JobSpec {
    let batch = Some(BatchSpec { unit: BatchUnit::Day, offset: -1 });
    let params = BTreeMap::from([("EU.WHERE".to_owned(), "there".to_owned())]);
    JobSpec { batch, params, ..only_in(&["EU", "US"], spec("local")) }
}

/// A job that says all that can be said of its processes.
pub(super) fn confined_spec() -> JobSpec {
    let confinement = Confinement {
        memory: Some(512 << 20),
        cpu: Some(1_500),
        pids: Some(100),
        run_as: Some("etl".to_owned()),
        umask: Some(0o027),
        rlimits: [(Rlimit::Nofile, 1_024), (Rlimit::Core, Confinement::UNLIMITED)].into(),
    };
    JobSpec { confinement, ..spec("confined") }
}

/// A worker that can hold attempts to all limits.
pub(super) fn able(profile: WorkerProfile) -> WorkerProfile {
    use Power::{Cpu, Memory, Pids, Process, RunAs};
    let powers = [Memory, Cpu, Pids, RunAs, Process].into();
    let isolation = Isolation { kind: IsolationKind::Cgroup2, powers, note: "n".to_owned() };
    WorkerProfile { isolation: Box::new(isolation), ..profile }
}

pub(super) fn usage() -> Usage {
    Usage { peak_memory_kib: 524_288, cpu_ms: 1_500, oom_kills: 1, refused_forks: 2 }
}

/// A job whose runs take slots of two pools.
pub(super) fn pooled_spec() -> JobSpec {
    taking("pooled", &[("licences", 1), ("warehouse", 300)])
}

/// What an attempt began elsewhere, and what became of it.
pub(super) fn ended_handle() -> Handle {
    let end = Some(HandleEnd { done: true, said: "x".to_owned() });
    Handle { end, ..Handle::new("a") }
}

/// What else a worker can do: a script for Python, one for an interpreter of its own, with
/// steps around it, and a request.
pub(super) fn executing_specs() -> [JobSpec; 3] {
    let script = "print(1)".to_owned();
    let python = Executor::Python { interpreter: vec!["python3".to_owned()], script };
    let (args, script) = (vec!["-v".to_owned()], "select 1".to_owned());
    let hive = Executor::Interpreter { name: name("hive"), args, script };
    let steps = Steps { pre: vec!["test -d /d".to_owned()], post: vec!["true".to_owned()] };
    let request = HttpCall {
        method: "POST".to_owned(),
        url: "https://h/x".to_owned(),
        headers: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        body: Some("b".to_owned()),
        expect: HttpExpect { status: vec![(200, 204)], body: Some("ok".to_owned()) },
        connect_timeout: Span::secs(1),
        timeout: Span::secs(2),
        tls: HttpTls { ca_file: Some("/ca.pem".to_owned()), insecure: true },
    };
    [
        JobSpec { executor: python, ..spec("python") },
        JobSpec { executor: hive, steps, ..spec("hive") },
        JobSpec { executor: Executor::Http(Box::new(request)), ..spec("http") },
    ]
}

/// A worker that has interpreters.
pub(super) fn versed(profile: WorkerProfile) -> WorkerProfile {
    WorkerProfile { interpreters: [name("hive"), name("pig")].into(), ..profile }
}
