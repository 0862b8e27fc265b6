//! What is missing of workers for a run, in a sentence.

use horai_core::machine::state::State;
use horai_core::model::resources::Resources;
use horai_core::model::run::Run;
use horai_core::model::worker::Worker;
use horai_core::placement::explain::{Sight, crew};

use super::shards;

/// Workers that are named.
const SHOWN: usize = 5;

/// What the workers lack that may run it and are given work.
pub(super) fn told(state: &State, run: &Run, sight: Sight<'_>) -> String {
    let demand = state.demand_of(run);
    let (wanted, none) = (demand.resources(), Resources::slots(0));
    let labels = demand.workers().map(|labels| format!(" with the labels {labels}"));
    let labels = labels.unwrap_or_default();
    let Some(spec) = state.spec(run.job, run.revision) else { return String::new() };
    let all = crew(state, &spec.worker_group, &demand, sight).map(|(worker, _)| worker);
    let open: Vec<&Worker> = all.filter(|worker| worker.is_open()).collect();
    let is_possible = open.iter().any(|worker| demand.suits(worker));
    if let Some(worker) = demand.only().filter(|_| wanted.is_plain()) {
        return shards::waits_for(state, worker, "it has no free slot".to_owned());
    }
    if wanted.is_plain() {
        return format!("no worker of group {}{labels} has a free slot", spec.worker_group);
    }
    let lacks = |worker: &&Worker| {
        let used = if is_possible { state.used_of(worker.id) } else { none.clone() };
        let mut free = worker.profile.resources();
        free.less(&used);
        format!("{} lacks {}", worker.profile.name, wanted.lacks(&free))
    };
    let mut told: Vec<String> = open.iter().take(SHOWN).map(lacks).collect();
    if open.len() > SHOWN {
        told.push(format!("and {} others", open.len() - SHOWN));
    }
    let told = told.join("; ");
    let group = &spec.worker_group;
    match is_possible {
        true => format!("no worker of group {group}{labels} has {wanted} left: {told}"),
        false => format!(
            "no worker of group {group}{labels} that is connected is large enough for {wanted}, \
             even if nothing else ran there: {told}"
        ),
    }
}
