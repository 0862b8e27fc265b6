//! Orders, built from the committed state and nothing else.

use std::collections::BTreeMap;

use horai_core::ids::{Incarnation, LeaderId, Name, RunId, WorkerId};
use horai_core::machine::state::State;
use horai_core::model::job::{JobSpec, OnWorkerLost};
use horai_core::model::run::{Attempt, Run};
use horai_core::model::syntax::Syntax;
use horai_core::mutants::{self, Mutant};
use horai_core::time::UtcMillis;
use horai_core::timing::batch;
use horai_core::timing::zone::Zone;
use horai_proto::worker as pb;
use prost::Message;

use super::texts::{Draft, Known, context_of, kept, params_of, zone_of};
use super::{FRAME, START_BYTES};
use crate::worker::wire;

/// Orders built under one reading of the state: applying waits meanwhile.
pub(super) const AT_ONCE: usize = 64;

/// The order for a run's live attempt, if it is this worker's and incarnation's, with
/// texts as the job wrote them.
pub(crate) fn build(
    state: &State,
    id: RunId,
    worker: WorkerId,
    incarnation: Incarnation,
    leader: LeaderId,
) -> Option<pb::Start> {
    let run = state.run(id)?;
    let attempt =
        run.live_attempt().filter(|a| a.worker == worker && a.incarnation == incarnation)?;
    let spec = state.spec(run.job, run.revision)?;
    let (keep, keep_for_ms) = match spec.on_worker_lost {
        OnWorkerLost::Keep { keep_for } => (true, keep_for.0),
        OnWorkerLost::Rerun | OnWorkerLost::Fail => (false, 0),
    };
    let zone = zone_of(state, spec);
    Some(pb::Start {
        attempt: Some(wire::attempt_id(attempt.key, attempt.token)),
        fence: Some(wire::fence(leader)),
        executor: Some(wire::executor(&spec.executor)),
        env: environment(state, spec, run, &zone),
        timeout_ms: time_out(state, run, attempt, spec),
        grace_ms: spec.grace.0,
        lease_ms: spec.lease.0,
        keep,
        keep_for_ms,
        job: spec.name.to_string(),
        action_id: action_id(spec, run),
        nominal_time: zone.rfc3339(run.nominal),
        due_time: zone.rfc3339(due(state, run)),
        cause: attempt.cause.word().to_owned(),
        begin_by_ms: state.begin_by(run, attempt, spec).0,
        state: kept(state, spec, run.job).map(|values| pb::State { values }),
        confinement: wire::confinement(&spec.confinement),
        files: wire::files(&spec.files),
        pre: spec.steps.pre.clone(),
        post: spec.steps.post.clone(),
        handles_left: run.handles_left().into_iter().map(str::to_owned).collect(),
        // They are put in with the values of the texts.
        secrets: Vec::new(),
        secret_script: false,
    })
}

/// The same before its texts have values, with what they need.
pub(super) fn draft(
    state: &State,
    id: RunId,
    worker: WorkerId,
    incarnation: Incarnation,
    leader: LeaderId,
) -> Option<Draft> {
    let start = build(state, id, worker, incarnation, leader)?;
    let run = state.run(id)?;
    let attempt = run.live_attempt()?;
    let (spec, key, token) = (state.spec(run.job, run.revision)?, attempt.key, attempt.token);
    let texts = (spec.syntax != Syntax::Plain).then(|| {
        let times = (run.nominal, due(state, run));
        let params = params_of(state, spec, run);
        let known = Known::of(state, spec, run.job, run.action).with(params);
        (spec.syntax, context_of(state, spec, key, times, known))
    });
    let stored = |name: &Name| (name.clone(), state.secret(name).map(|s| s.sealed.clone()));
    let sealed = spec.secrets.iter().map(stored).collect();
    Some(Draft { start, key, token, texts, sealed })
}

/// How long the attempt may live from now on; 0 is without a limit.
fn time_out(state: &State, run: &Run, attempt: &Attempt, spec: &JobSpec) -> u64 {
    let limit = state.time_out_of(run, attempt, spec, state.now());
    // Nothing left is not the same as no limit.
    limit.map_or(0, |span| span.0.max(1))
}

/// What the job declares, and what a worker does not know: the parameters that hold in
/// this area, the batch key, and how many shards the run has, none of which has a parameter.
fn environment(state: &State, spec: &JobSpec, run: &Run, zone: &Zone) -> BTreeMap<String, String> {
    // Those of groups first: what is nearer replaces them. A name with an area has served
    // where it does, and a shell could not read it.
    let params = state.group_params(spec).into_iter().chain(params_of(state, spec, run));
    let params = params.filter(|(name, _)| JobSpec::is_param_name(name));
    let params = params.map(|(name, value)| (format!("HORAI_PARAM_{name}"), value));
    let ours = [
        ("HORAI_BATCH_KEY", batch::key_of(spec, zone, run.nominal)),
        ("HORAI_SHARD_TOTAL", run.part.map_or(1, |part| part.total).to_string()),
        ("HORAI_SHARD_PARAM", String::new()),
    ];
    let ours = ours.map(|(key, value)| (key.to_owned(), value));
    spec.env.clone().into_iter().chain(params).chain(ours).collect()
}

/// `JOB@20261121T030000Z`; empty for a run that stands for no action. A back-fill's
/// stand for actions that may be long gone.
fn action_id(spec: &JobSpec, run: &Run) -> String {
    let stands = run.action.is_some() || run.backfill.is_some();
    if stands { format!("{}@{}", spec.name, run.nominal.compact()) } else { String::new() }
}

fn due(state: &State, run: &Run) -> UtcMillis {
    run.action.and_then(|key| state.action(key)).map_or(run.nominal, |action| action.due)
}

/// The order to end a run's live attempt, if it is this worker's and incarnation's:
/// another one knows nothing of it, and would say that it is gone while its processes
/// run on.
pub(crate) fn cancel(
    state: &State,
    id: RunId,
    worker: WorkerId,
    incarnation: Incarnation,
) -> Option<pb::Cancel> {
    let run = state.run(id)?;
    let is_of =
        |a: &&Attempt| a.incarnation == incarnation || mutants::on(Mutant::CancelAsksAnybody);
    let attempt = run.live_attempt().filter(|a| a.worker == worker).filter(is_of)?;
    let grace_ms = state.spec(run.job, run.revision).map_or(0, |spec| spec.grace.0);
    let id = wire::attempt_id(attempt.key, attempt.token);
    Some(pb::Cancel { attempt: Some(id), grace_ms })
}

/// Splits orders into frames by number and size.
pub(super) fn frames(starts: Vec<pb::Start>) -> Vec<Vec<pb::Start>> {
    let mut frames: Vec<Vec<pb::Start>> = Vec::new();
    let mut bytes = 0;
    for start in starts {
        let len = start.encoded_len();
        match frames.last_mut() {
            Some(last) if last.len() < FRAME && bytes + len <= START_BYTES => {
                bytes += len;
                last.push(start);
            }
            Some(_) | None => {
                bytes = len;
                frames.push(vec![start]);
            }
        }
    }
    frames
}
