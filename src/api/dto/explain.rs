//! Why something has not run, and what became of it if it is over: one word of the core's
//! closed lists, and the same for people, with the names that belong to it.

use horai_core::ids::{ActionKey, Name};
use horai_core::machine::state::State;
use horai_core::model::action::{Action, ActionState, SkipReason, Upstream, WaitReason};
use horai_core::model::confinement::{IsolationKind, Power};
use horai_core::model::edge::{Condition, NoMatch, Standing};
use horai_core::model::history::Cause;
use horai_core::model::job::{Job, TriggerSpec};
use horai_core::model::run::{Run, RunState};
use horai_core::placement::explain::{Sight, awaited_by, crew, explain_trigger};
use serde::{Deserialize, Serialize};

use super::jobs::{ended_by, job_name};
use super::runs::{passed_limit, state_word, worker_name};
use super::text::{ActionRef, RunRef, Time};
use super::{shards, shortage};

/// Names that a sentence shows of a longer list.
const SHOWN: usize = 5;
/// So many runs before another one are counted; beyond that there are more.
const COUNTED: usize = 1_000;

/// Why something has not run yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainDto {
    /// The run or action asked about, or `JOB/TRIGGER`.
    pub id: String,
    /// Where it stands; a trigger is `enabled` or `disabled`.
    pub state: String,
    /// One word of a closed list; none if it does not wait. Of an action that is over, what
    /// its list has: why it was skipped, say.
    pub reason: Option<String>,
    /// The same for people.
    pub detail: String,
    /// What it waits for, if that is the reason.
    pub waits_for: Vec<ActionRef>,
}

impl ExplainDto {
    /// Why an action has not run, for that reason; or what became of it.
    #[must_use]
    pub fn of_action(
        state: &State,
        key: ActionKey,
        action: &Action,
        reason: Option<WaitReason>,
        sight: Sight<'_>,
    ) -> Self {
        let run = action.run.and_then(|run| state.run(run));
        let unmet = action.upstream.iter().filter(|up| !up.is_met() && !action.state.is_final());
        let detail = match reason {
            Some(reason @ (WaitReason::Upstream | WaitReason::UpstreamFailed)) => {
                unfinished(state, action, reason)
            }
            Some(WaitReason::Overlap) => overlapped(state, key),
            Some(reason) => Self::detail(state, run, reason, sight),
            None => ended(state, key, action),
        };
        let word = reason.map(WaitReason::word).or_else(|| ended_by(state, action));
        Self {
            id: ActionRef::of(state, key).to_string(),
            state: action.state.word().to_owned(),
            reason: word.map(str::to_owned),
            detail,
            waits_for: unmet
                .filter_map(Upstream::awaited)
                .map(|up| ActionRef::of(state, up))
                .collect(),
        }
    }

    /// Why a run is not executed, for that reason; or what became of it.
    #[must_use]
    pub fn of_run(state: &State, run: &Run, reason: Option<WaitReason>, sight: Sight<'_>) -> Self {
        let detail = match (reason, &run.state) {
            (Some(reason), _) => Self::detail(state, Some(run), reason, sight),
            (None, RunState::Finished { .. }) => {
                let limit = passed_limit(run).map(str::to_owned);
                limit
                    .or_else(|| shards::failed(state, run))
                    .unwrap_or_else(|| "it is over".to_owned())
            }
            (None, _) => runs_on(state, run),
        };
        Self {
            id: shards::name_of(run),
            state: state_word(run).to_owned(),
            reason: reason.map(|reason| reason.word().to_owned()),
            detail,
            waits_for: Vec::new(),
        }
    }

    /// Why a trigger gives no action at present.
    #[must_use]
    pub fn of_trigger(state: &State, job: &Job, trigger: &TriggerSpec) -> Self {
        let reason = explain_trigger(state, job, trigger);
        let awaited = awaited_by(state, job, trigger);
        let word = if trigger.enabled { "enabled" } else { "disabled" };
        let detail = match reason {
            None => "it is disabled",
            Some(WaitReason::NotDue) => "its next instant has not come",
            Some(WaitReason::Paused) => "it, its job or a group above is paused",
            Some(reason) => sentence(reason),
        };
        Self {
            id: format!("{}/{}", job.spec.name, trigger.name),
            state: word.to_owned(),
            reason: reason.map(|reason| reason.word().to_owned()),
            detail: detail.to_owned(),
            waits_for: awaited.map(|key| ActionRef::of(state, key)).into_iter().collect(),
        }
    }

    /// What a reason means for a run, if there is one already, in a sentence.
    fn detail(state: &State, run: Option<&Run>, reason: WaitReason, sight: Sight<'_>) -> String {
        let told = run.and_then(|run| match (reason, &run.state) {
            (WaitReason::Secret, _) => Some(lacks_key(state, run)),
            (WaitReason::Pool, _) => lacks_slots(state, run),
            (WaitReason::Interpreter, _) => lacks_interpreter(state, run),
            (WaitReason::Limits, _) => lacks_powers(state, run),
            (WaitReason::Backoff, RunState::Backoff { until }) => {
                Some(format!("it waits before a retry, until {}", Time(*until)))
            }
            (WaitReason::Queue | WaitReason::CatchUp, _) => behind(state, run, reason),
            (WaitReason::Resource, _) => Some(shortage::told(state, run, sight)),
            (WaitReason::Load, _) => Some(of_labels(state, run, too_busy(state, run, sight))),
            (WaitReason::NoWorker | WaitReason::Cordoned, _) => {
                Some(of_labels(state, run, sentence(reason).to_owned()))
            }
            _ => None,
        });
        told.unwrap_or_else(|| sentence(reason).to_owned())
    }
}

/// Which secrets cannot be opened, and what helps.
fn lacks_key(state: &State, run: &Run) -> String {
    let names = state.closed_secrets(run);
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    format!(
        "node {} leads and has not the key of its secrets {}: add the key to that node's \
         secrets.key_file and start it again, or let another node lead: horai cluster transfer",
        state.leader().node,
        names.join(", ")
    )
}

/// Which pools have too little left.
fn lacks_slots(state: &State, run: &Run) -> Option<String> {
    let demand = state.demand_of(run);
    let lacking = demand.pools().filter(|(name, slots)| state.pool_free(name) < *slots);
    let told = lacking.map(|(name, slots)| {
        let (has, used) = (state.pool(name).map_or(0, |p| p.def.slots), state.pool_used(name));
        format!("pool {name} has {has} slots and {used} are in use; it takes {slots}")
    });
    told.reduce(|all, next| format!("{all}; {next}"))
}

/// Above what its workers are, and which of them take nothing at all.
fn too_busy(state: &State, run: &Run, sight: Sight<'_>) -> String {
    let mut told = sentence(WaitReason::Load).to_owned();
    let group = state.spec(run.job, run.revision).map(|spec| &spec.worker_group);
    if let Some((group, most)) = group.and_then(|group| Some((group, state.thresholds_of(group)?)))
    {
        let share = |permille: u32| format!("{}.{:03}", permille / 1_000, permille % 1_000);
        let (memory, load) = (share(most.memory_permille), share(most.load_permille));
        told.push_str(&format!(", for group {group} memory {memory} and load {load} per core"));
    }
    let demand = state.demand_of(run);
    let crew = group.into_iter().flat_map(|group| crew(state, group, &demand, sight));
    let closed = crew.filter(|(_, load)| load.is_closed);
    let closed: Vec<String> = closed.map(|(worker, _)| worker.profile.name.to_string()).collect();
    if let (Some(names), Some(first)) = (listed(&closed), closed.first()) {
        told.push_str(&format!(
            "; nothing new is taken by {names}: horai worker show {first} says why"
        ));
    }
    told
}

/// The same, with the labels that its worker must have.
fn of_labels(state: &State, run: &Run, told: String) -> String {
    if let Some(worker) = state.demand_of(run).only() {
        return shards::waits_for(state, worker, told);
    }
    match state.demand_of(run).workers() {
        Some(wanted) => {
            format!("{told}; of those workers it takes the ones with the labels {wanted}")
        }
        None => told,
    }
}

/// Which of its limits each worker of its group cannot hold it to, and why not.
fn lacks_powers(state: &State, run: &Run) -> Option<String> {
    let spec = state.spec(run.job, run.revision)?;
    let (group, needs) = (&spec.worker_group, spec.needs());
    let serving = state.workers_after(None).filter(|w| w.profile.groups.contains(group));
    let told: Vec<String> = serving
        .filter_map(|worker| {
            let profile = &worker.profile;
            let lacks: Vec<&str> =
                profile.isolation.lacks(&needs).into_iter().map(Power::word).collect();
            let why = match (profile.isolation.kind, profile.isolation.note.as_str()) {
                (IsolationKind::Unknown, _) => ": it is of an earlier version".to_owned(),
                (_, "") => String::new(),
                (_, note) => format!(": {note}"),
            };
            let words = lacks.join(", ");
            (!lacks.is_empty()).then(|| format!("{} cannot enforce {words}{why}", profile.name))
        })
        .collect();
    listed(&told)
}

/// Which interpreter is missing, and what the workers of its group have.
fn lacks_interpreter(state: &State, run: &Run) -> Option<String> {
    let spec = state.spec(run.job, run.revision)?;
    let (group, wanted) = (&spec.worker_group, spec.executor.interpreter()?);
    let serving = state.workers_after(None).filter(|w| w.profile.groups.contains(group));
    let told: Vec<String> = serving
        .map(|worker| {
            let has: Vec<&str> = worker.profile.interpreters.iter().map(Name::as_str).collect();
            let has = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
            format!("{} has {has}", worker.profile.name)
        })
        .collect();
    let told = listed(&told).unwrap_or_default();
    Some(format!(
        "no connected worker of group {group} has the interpreter {wanted} ({told}): install its \
         program there, or give it a command in [interpreters.{wanted}] of the worker's file"
    ))
}

/// How many go before it, if that is soon counted.
fn behind(state: &State, run: &Run, reason: WaitReason) -> Option<String> {
    let group = &state.spec(run.job, run.revision)?.worker_group;
    let before = state.queue(group).take(COUNTED).position(|id| id == run.id);
    let count = match before {
        Some(0) => return None,
        Some(1) => "1 is before it".to_owned(),
        Some(count) => format!("{count} are before it"),
        None => format!("{COUNTED} or more are before it"),
    };
    Some(format!("{} ({count})", sentence(reason)))
}

/// Which run of its job is live.
fn overlapped(state: &State, key: ActionKey) -> String {
    let live = state.runs_of_job(key.job, None).find(|run| run.is_live() && run.part.is_none());
    live.map_or_else(
        || sentence(WaitReason::Overlap).to_owned(),
        |run| format!("run {} of its job is live, and the job runs once at a time", RunRef(run.id)),
    )
}

/// Which upstream actions have not ended as they must, and of which jobs there are none.
fn unfinished(state: &State, action: &Action, reason: WaitReason) -> String {
    let unmet = || action.upstream.iter().filter(|up| !up.is_met());
    let mut parts = Vec::new();
    let awaited = unmet().filter_map(Upstream::awaited).filter_map(|key| {
        let up = state.action(key)?.state;
        let is_meant = reason == WaitReason::Upstream
            || matches!(up, ActionState::Failed | ActionState::Cancelled);
        is_meant.then(|| format!("{} is {}", ActionRef::of(state, key), up.word()))
    });
    let awaited: Vec<String> = awaited.collect();
    if unmet().any(|up| up.awaited().is_some()) {
        parts.push(match listed(&awaited) {
            Some(list) => format!("{}: {list}", sentence(reason)),
            None => sentence(reason).to_owned(),
        });
    }
    let missing = unmet().filter(|up| up.none == Some(NoMatch::Waits));
    let missing: Vec<String> = missing.map(|up| job_name(state, up.action.job)).collect();
    let missing = listed(&missing);
    parts.extend(missing.map(|jobs| format!("none of {jobs} was found (on_no_match: wait)")));
    parts.join("; ")
}

/// `a, b and 3 more`; none of none.
fn listed(names: &[String]) -> Option<String> {
    let shown = names.get(..SHOWN).unwrap_or(names).join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => (!names.is_empty()).then_some(shown),
        more => Some(format!("{shown} and {more} more")),
    }
}

/// What there is to say of an action that does not wait.
fn ended(state: &State, key: ActionKey, action: &Action) -> String {
    let run = action.run_behind().and_then(|run| state.run(run));
    match action.state {
        ActionState::Skipped(reason) => skipped(state, key, action, reason),
        ActionState::Success if action.by_area => {
            "it succeeded without a run: its job has nothing to do in this area".to_owned()
        }
        _ if action.forced => format!("it is over: {} said so", person(action)),
        ActionState::Success | ActionState::Failed | ActionState::Cancelled => {
            let limit = run.and_then(passed_limit).map(str::to_owned);
            let limit = limit.or_else(|| run.and_then(|run| shards::failed(state, run)));
            limit.unwrap_or_else(|| match action.run {
                Some(run) => format!("it is over: see run {}", RunRef(run)),
                None => "it is over".to_owned(),
            })
        }
        _ => run.map_or_else(|| "it does not wait".to_owned(), |run| runs_on(state, run)),
    }
}

fn runs_on(state: &State, run: &Run) -> String {
    if let Some(told) = shards::under_way(run) {
        return told;
    }
    run.attempts.last().map_or_else(
        || "it does not wait".to_owned(),
        |attempt| format!("it runs on worker {}", worker_name(state, attempt.worker)),
    )
}

/// Who said last what the action is.
fn person(action: &Action) -> String {
    let said = action.notes.iter().rev();
    let mut said = said.filter(|n| matches!(n.cause, Cause::Forced(_) | Cause::Skipped(_)));
    let by = said.next();
    by.map_or_else(|| "somebody".to_owned(), |note| note.by.clone())
}

/// Why an action was skipped.
fn skipped(state: &State, key: ActionKey, action: &Action, reason: SkipReason) -> String {
    let job = state.job(key.job);
    match reason {
        SkipReason::Upstream => lost(state, action),
        SkipReason::Expired => {
            let limit = job.and_then(|job| job.spec.wait_limit);
            let limit = limit.map_or_else(|| "2d".to_owned(), |limit| limit.to_string());
            format!("it was skipped: it waited longer than its job's wait_limit ({limit}) allows")
        }
        SkipReason::Deleted => "it was skipped: its job was deleted while it waited".to_owned(),
        SkipReason::NoUpstream => {
            let found = action.upstream.iter().filter(|up| up.none == Some(NoMatch::Skips));
            let jobs: Vec<String> = found.map(|up| job_name(state, up.action.job)).collect();
            let jobs = listed(&jobs).unwrap_or_else(|| "an upstream job".to_owned());
            format!("it was skipped: none of {jobs} was found (on_no_match: skip)")
        }
        SkipReason::Job => {
            let run = action.run.map(|run| format!("run {}", RunRef(run)));
            let run = run.unwrap_or_else(|| "its run".to_owned());
            format!("it was skipped: {run} ended with an exit code of skip_exit_codes")
        }
        SkipReason::Person => format!("it was skipped: {} said so", person(action)),
        SkipReason::Overlap => "it was skipped: another run of its job was live, or a newer \
                                action took its place (overlap)"
            .to_owned(),
    }
}

/// Which upstream action took the last hope from it.
fn lost(state: &State, action: &Action) -> String {
    let closed = action.upstream.iter().filter_map(|up| {
        let key = up.awaited().filter(|_| !up.is_met())?;
        let ended = state.action(key)?.state;
        if up.judge(ended) != Standing::Closed {
            return None;
        }
        let ended = ended.word();
        let name = ActionRef::of(state, key);
        Some(match up.condition {
            Condition::Failure => format!("{name} is {ended}, and it runs after a failure"),
            _ => format!("{name} is {ended}"),
        })
    });
    let closed: Vec<String> = closed.collect();
    match listed(&closed) {
        Some(list) => format!("it was skipped: {list}"),
        None => "it was skipped with an upstream action".to_owned(),
    }
}

fn sentence(reason: WaitReason) -> &'static str {
    match reason {
        WaitReason::NotDue => "its time has not come",
        WaitReason::Upstream => "an upstream action has not finished",
        WaitReason::UpstreamFailed => "an upstream action failed or was cancelled",
        WaitReason::UpstreamPaused => "an upstream job is paused",
        WaitReason::Paused => "its job is paused",
        WaitReason::Frozen => "the whole cluster is frozen",
        WaitReason::Overlap => "another run of its job is live",
        WaitReason::Pool => "its pool has no free slot",
        WaitReason::Backoff => "it waits before a retry",
        WaitReason::CatchUp => "it was planned late, and what is due now goes first",
        WaitReason::Queue => "others of its worker group go first",
        WaitReason::NoWorker => "no worker that may run it is connected",
        WaitReason::Cordoned => "all connected workers that may run it are cordoned",
        WaitReason::Resource => "no worker that may run it has a free slot",
        WaitReason::Load => {
            "all workers that may run it are above their load limits, or take nothing new"
        }
        WaitReason::Dispatching => "a worker is being told",
        WaitReason::FixedDelay => "the earlier run of its trigger has not ended",
        WaitReason::Limits => "no worker of its group can hold it to its limits",
        WaitReason::Interpreter => "no worker of its group has the interpreter of its script",
        WaitReason::Secret => "the node that leads has not the key of a secret of it",
    }
}
