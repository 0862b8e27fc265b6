//! Names and definitions of the random commands: few, so that commands meet.

use std::collections::BTreeMap;

use super::support::*;
use crate::ids::*;
use crate::model::area::Area;
use crate::model::job::*;
use crate::model::limits::RunLimits;
use crate::model::part::RunOn;
use crate::model::resources::{Amounts, Resources};
use crate::model::retry::RetryWorker;
use crate::model::selector::Selector;
use crate::model::trigger::{RuleSpec, TriggerRule};
use crate::time::Span;

/// The second trigger's kind: a fixed delay, one with a calendar, or a cron.
pub(super) fn kind_of(rule: u8) -> TriggerKind {
    let rule = match rule {
        0 | 1 => {
            let delay = Span::secs(2);
            let params = [("A".to_owned(), "b".to_owned())].into();
            RuleSpec { params, ..RuleSpec::new(TriggerRule::FixedDelay { delay }) }
        }
        2 | 3 => {
            let calendars = vec![calendar_name(rule - 2)];
            let every = Span::secs(1);
            let interval = TriggerRule::Interval { every, repeats: None };
            RuleSpec { calendars, priority: Some(9), ..RuleSpec::new(interval) }
        }
        _ => return cron("y").kind,
    };
    TriggerKind::Rule(Box::new(rule))
}

pub(super) fn secret_name(number: u8) -> Name {
    name(&format!("s{number}"))
}

pub(super) fn calendar_name(number: u8) -> Name {
    name(&format!("c{number}"))
}

/// What runs take of pools: of none, of one, of two, and of one that may not be there.
pub(super) fn pools_of(pools: u8) -> JobSpec {
    match pools {
        0 | 1 => taking("j", &[]),
        2 | 3 => taking("j", &[("p0", 1)]),
        4 => taking("j", &[("p0", 2)]),
        5 => taking("j", &[("p0", 1), ("p1", 1)]),
        6 => taking("j", &[("p1", 3)]),
        _ => taking("j", &[("p2", 1)]),
    }
}

/// Which workers a job takes: mostly all of them.
pub(super) fn selector_of(number: u8) -> Option<Selector> {
    let text = [None, None, Some("ssd"), Some("zone == 'a'"), Some("zone != 'b' && ssd")];
    text[usize::from(number) % text.len()].map(|text| Selector::read(text).unwrap())
}

/// What runs take of their worker: mostly a slot, and never more than the largest has.
pub(super) fn resources_of(number: u8) -> Option<Resources> {
    let (slots, amounts) = match number {
        3 => (2, amounts(0, 0, &[])),
        4 => (1, amounts(60, 0, &[])),
        5 => (1, amounts(10, 700, &[("gpu", 1)])),
        6 => (3, amounts(0, 0, &[("gpu", 2)])),
        _ => return None,
    };
    Some(Resources { slots, amounts })
}

/// What a worker has beside slots, by the number in its name.
pub(super) fn amounts_of(number: u8) -> Amounts {
    match number {
        0 => Amounts::default(),
        1 => amounts(100, 1_000, &[("gpu", 1)]),
        _ => amounts(1_000_000, 1_000_000, &[("gpu", 1_000), ("tape", 1)]),
    }
}

/// What a worker's labels are, by the number in its name.
pub(super) fn labels_of(number: u8) -> BTreeMap<String, String> {
    let zone = if number.is_multiple_of(2) { "a" } else { "b" };
    if number == 2 { values(&[("zone", zone), ("ssd", "yes")]) } else { values(&[("zone", zone)]) }
}

/// By hand: does a worker with these labels do?
pub(super) fn has_labels(wanted: Option<&Selector>, labels: &BTreeMap<String, String>) -> bool {
    let has = |key: &str, value: &str| labels.get(key).is_some_and(|v| v == value);
    match wanted.map(Selector::as_str) {
        None => true,
        Some("ssd") => has("ssd", "yes"),
        Some("zone == 'a'") => has("zone", "a"),
        Some("zone != 'b' && ssd") => has("zone", "a") && has("ssd", "yes"),
        Some(other) => panic!("no selector of these tests: {other}"),
    }
}

pub(super) fn group_path(path: u8) -> GroupPath {
    GroupPath::new(["g", "g/in", "g-2"][usize::from(path)]).unwrap()
}

pub(super) fn area_name(area: u8) -> Area {
    Area::new(["XX", "EU", "US"][usize::from(area)]).unwrap()
}

pub(super) fn grown((group, rule, pools): (u8, u8, u8), spec: JobSpec) -> JobSpec {
    // Half of them have something to do in one area alone.
    let areas = (group > 3).then(|| area_name(1 + pools % 2)).into_iter().collect();
    let secrets = (group % 4 == 1).then(|| secret_name(rule % 3)).into_iter().collect();
    let group = (group % 4 < 3).then(|| group_path(group % 4));
    let takes = pools + rule;
    let pools = pools_of(pools).pools;
    let workers = selector_of(rule);
    let resources = resources_of(takes);
    let mut spec = JobSpec { group, pools, areas, secrets, workers, resources, ..spec };
    if let Some(second) = spec.triggers.get_mut(1) {
        second.kind = kind_of(rule);
    }
    spec
}

pub(super) fn spec_of(number: u8, triggers: u8, upstream: &[u64], policy: u8) -> JobSpec {
    let edges: Vec<JobId> = upstream.iter().map(|n| JobId(*n)).collect();
    let delay = Span(u64::from(policy) * 1000);
    let overlap = usize::from(number + policy) % Overlap::ALL.len();
    JobSpec {
        triggers: (0..triggers).map(|n| cron(["x", "y"][usize::from(n)])).collect(),
        retries: RetryPolicy {
            count: u32::from(policy + number / 3),
            backoff: Backoff::Fixed { delay },
        },
        timeout: (policy > 1).then(|| Span::secs(3)),
        limits: RunLimits {
            run: (policy == 3).then(|| Span::secs(20)),
            queue: policy.is_multiple_of(2).then(|| Span::secs(6)),
        },
        retry_on_worker: RetryWorker::ALL[usize::from(policy) % 3].1,
        lease: Span::secs(5),
        keep_state: policy > 1,
        run_on: if policy == 0 && number % 2 == 1 { RunOn::AllWorkers } else { RunOn::OneWorker },
        on_worker_lost: match policy {
            0 if number == 3 => OnWorkerLost::Rerun,
            0 => OnWorkerLost::Fail,
            1 => OnWorkerLost::Keep { keep_for: Span::secs(30) },
            _ => OnWorkerLost::Rerun,
        },
        overlap: Overlap::ALL[overlap].1,
        ..after_jobs(&format!("j{number}"), &edges)
    }
}
