//! A worker attaches: what it declares is committed, what it holds is compared
//! with the state, and what it lacks is sent again.
//!
//! The stream counts as attached *before* the state is compared. So a dispatch
//! that is committed meanwhile is either seen by the comparison or sent by its
//! dispatcher, perhaps both; a worker ignores the second order.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use horai_core::ids::{AttemptKey, IdError, Incarnation, Name, RunId, Token, WorkerId};
use horai_core::machine::command::{Actor, Command, Envelope};
use horai_core::machine::outcome::{Outcome, Reject};
use horai_core::machine::state::State;
use horai_core::model::resources::Amounts;
use horai_core::model::worker::WorkerProfile;
use horai_core::mutants::{self, Mutant};
use horai_core::time::Span;
use horai_proto::worker as pb;
use horai_proto::worker::to_worker::Body as Say;
use horai_proto::worker::verdict::Decision;

use super::access::Refusal;
use super::registry::{Leading, StreamId};
use super::stream::{Reported, at_most_a_frame};
use super::{FRAME, Sessions, origin, start};
use crate::error::ErrorCode;
use crate::worker::wire;

/// Frames of one Hello: more than a full journal needs.
const MAX_PARTS: usize = 1024;
/// The most slots a worker may declare.
const MAX_SLOTS: u32 = 10_000;
/// How long one proposal may take,
const LIMIT: Duration = Duration::from_secs(5);
/// and the pause before it is made again.
const PAUSE: Duration = Duration::from_millis(100);

/// The frames of one Hello so far.
#[derive(Default)]
pub(crate) struct Parts {
    frames: usize,
    /// Attempts that may be running there.
    pub(crate) live: Vec<(AttemptKey, Token)>,
    /// Results that no leader has committed yet, as far as the worker knows.
    pub(crate) results: Vec<Reported>,
}

impl Parts {
    fn add(&mut self, hello: &pb::Hello) -> Result<(), Refusal> {
        self.frames += 1;
        if self.frames > MAX_PARTS {
            let message = format!("a Hello of more than {MAX_PARTS} frames: upgrade the worker");
            return Err(Refusal::new(ErrorCode::TooLarge, message));
        }
        at_most_a_frame("attempts and results", hello.live.len() + hello.results.len())?;
        let malformed = |missing| Refusal::new(ErrorCode::Malformed, missing);
        for id in &hello.live {
            self.live.push(wire::attempt(Some(id)).map_err(malformed)?);
        }
        for result in &hello.results {
            self.results.push(wire::report(result).map_err(malformed)?);
        }
        Ok(())
    }
}

impl Sessions {
    pub(super) async fn on_hello(
        self: &Arc<Self>,
        id: StreamId,
        parts: &mut Parts,
        hello: pb::Hello,
    ) -> Result<(), Refusal> {
        parts.add(&hello)?;
        if hello.more {
            return Ok(());
        }
        let parts = std::mem::take(parts);
        let (leading, identity) = {
            let registry = self.registry();
            (registry.leading().cloned(), registry.identity(id))
        };
        // Without leadership it is an answer to a Lead that is no longer true.
        let (Some(leading), Some((name, incarnation))) = (leading, identity) else {
            return Ok(());
        };
        let here = self.here();
        let holds = parts.live.len() + parts.results.len() > 0;
        origin::check(&hello, &name, &here, holds)?;
        let profile = profile(&hello, &name, incarnation)?;
        if wire::leader(hello.highest.as_ref()).is_ok_and(|highest| highest > leading.id) {
            // It obeys a later leader, of whom this node will hear.
            return Ok(());
        }
        let isolation = profile.isolation.clone();
        let Some(worker) = self.commit_attachment(&leading, profile).await? else { return Ok(()) };
        if !self.registry().attach(id, leading.id, worker) {
            return Ok(());
        }
        tracing::info!(worker = %name, live = parts.live.len(), results = parts.results.len(),
            isolation = isolation.kind.word(), "worker attached");
        if !isolation.note.is_empty() {
            tracing::warn!(worker = %name, note = isolation.note, "worker without full isolation");
        }
        self.answer(id, &leading, worker, incarnation, &parts).await;
        self.on_results(id, parts.results).await;
        Ok(())
    }

    /// None if the leadership ended before it was committed.
    async fn commit_attachment(
        &self,
        leading: &Leading,
        profile: WorkerProfile,
    ) -> Result<Option<WorkerId>, Refusal> {
        let command = Command::AttachWorker(Box::new(profile));
        let envelope = Envelope { actor: Actor::Leader(leading.id), request: None, command };
        loop {
            let proposed = self.node.propose(&envelope, LIMIT);
            match leading.stop.run_until_cancelled(proposed).await {
                None | Some(Ok(Outcome::Rejected(Reject::StaleLeader(_)))) => return Ok(None),
                Some(Ok(Outcome::Worker { worker })) => return Ok(Some(worker)),
                Some(Ok(Outcome::Rejected(reject @ Reject::Full { .. }))) => {
                    return Err(Refusal::new(ErrorCode::LimitReached, reject));
                }
                Some(Ok(Outcome::Rejected(reject))) => {
                    return Err(Refusal::new(ErrorCode::InvalidValue, reject));
                }
                Some(Ok(other)) => {
                    let message = format!("unexpected answer to an attachment: {other:?}");
                    return Err(Refusal::new(ErrorCode::Internal, message));
                }
                // Made again: attaching twice is the same as once.
                Some(Err(error)) => tracing::debug!(%error, "attachment is not committed yet"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn answer(
        &self,
        id: StreamId,
        leading: &Leading,
        worker: WorkerId,
        incarnation: Incarnation,
        parts: &Parts,
    ) {
        let Some(outbox) = self.registry().outbox(id) else { return };
        let answer = self.node.read(|state| compare(state, worker, incarnation, parts));
        let cluster = self.here().cluster;
        let welcome = Say::Welcome(pb::Welcome {
            cluster: format!("{cluster:032x}"),
            node: leading.id.node.0,
            cluster_time_ms: self.time().0,
        });
        let mut frames = vec![welcome];
        for verdicts in answer.verdicts.chunks(FRAME) {
            frames.push(Say::Verdicts(pb::Verdicts { verdicts: verdicts.to_vec() }));
        }
        for cancels in answer.cancels.chunks(FRAME) {
            frames.push(Say::Cancels(pb::Cancels { cancels: cancels.to_vec() }));
        }
        for frame in frames {
            if !outbox.push_waiting(frame).await {
                return;
            }
        }
        for runs in answer.missing.chunks(FRAME) {
            let starts = self.build(runs, worker, incarnation, leading.id);
            for starts in start::frames(starts) {
                if !outbox.push_waiting(Say::Starts(pb::Starts { starts })).await {
                    return;
                }
            }
        }
    }
}

/// What a worker that attached is told.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) verdicts: Vec<pb::Verdict>,
    pub(crate) cancels: Vec<pb::Cancel>,
    /// Runs whose live attempt the worker does not know.
    pub(crate) missing: Vec<RunId>,
}

/// Pure: what the worker holds against what the state wants of it.
pub(crate) fn compare(
    state: &State,
    worker: WorkerId,
    incarnation: Incarnation,
    parts: &Parts,
) -> Answer {
    let mut answer = Answer::default();
    let results = parts.results.iter().map(|(key, token, _)| (*key, *token));
    let known: BTreeSet<(AttemptKey, Token)> = parts.live.iter().copied().chain(results).collect();
    for (key, token) in &parts.live {
        let live = state.run_of(*key).and_then(|run| run.live_attempt());
        let is_wanted = live.is_some_and(|a| a.key == *key && a.token == *token);
        let decision = if is_wanted { Decision::Keep } else { Decision::Kill };
        let attempt = Some(wire::attempt_id(*key, *token));
        answer.verdicts.push(pb::Verdict { attempt, decision: decision.into() });
    }
    for run in state.running_on(worker) {
        let Some(attempt) = run.live_attempt().filter(|a| a.incarnation == incarnation) else {
            continue;
        };
        if run.must_end() {
            // One that it does not know is reported as gone, and so ends.
            answer.cancels.extend(start::cancel(state, run.id, worker, incarnation));
        } else if !known.contains(&(attempt.key, attempt.token))
            && !mutants::on(Mutant::AttachTellsNothing)
        {
            answer.missing.push(run.id);
        }
    }
    answer
}

/// What the worker declares; what the machine cannot know is checked here.
fn profile(
    hello: &pb::Hello,
    name: &Name,
    incarnation: Incarnation,
) -> Result<WorkerProfile, Refusal> {
    let invalid = |message: String| Refusal::new(ErrorCode::InvalidValue, message);
    let id = |bytes: &[u8], what: &str| {
        let id = <[u8; 16]>::try_from(bytes).map(u128::from_be_bytes);
        id.map_err(|_| invalid(format!("{what} has {} bytes, not 16", bytes.len())))
    };
    if hello.name != name.as_str() || id(&hello.incarnation, "incarnation")? != incarnation.0 {
        return Err(invalid(format!("Hello is of {:?}, the stream of {name}", hello.name)));
    }
    if !(1..=MAX_SLOTS).contains(&hello.slots) {
        return Err(invalid(format!("slots = {}: declare 1 to {MAX_SLOTS}", hello.slots)));
    }
    let groups = hello.groups.iter().map(|group| Name::new(group)).collect::<Result<_, _>>();
    let interpreters =
        hello.interpreters.iter().map(|name| Name::new(name)).collect::<Result<_, _>>();
    Ok(WorkerProfile {
        name: name.clone(),
        incarnation,
        boot_id: id(&hello.boot_id, "boot id")?,
        groups: groups.map_err(|e| invalid(format!("group {e}")))?,
        labels: hello.labels.clone(),
        slots: hello.slots,
        host: hello.host.clone(),
        version: hello.version.clone(),
        amounts: amounts(hello)?,
        stops_within: hello.stopping.then_some(Span(hello.stops_within_ms)),
        isolation: Box::new(wire::isolation_of(hello.isolation.as_ref())),
        interpreters: interpreters.map_err(|e| invalid(format!("interpreter {e}")))?,
    })
}

/// What attempts may reserve there; a worker of an earlier version declares nothing.
fn amounts(hello: &pb::Hello) -> Result<Amounts, Refusal> {
    let counted = |(thing, count): (&String, &u32)| Ok((Name::new(thing)?, *count));
    let counts = hello.counts.iter().map(counted).collect::<Result<_, IdError>>();
    let counts = counts.map_err(|error| {
        Refusal::new(ErrorCode::InvalidValue, format!("what it counts: {error}"))
    })?;
    Ok(Amounts { memory: hello.memory, cpu: hello.cpu_millicores, counts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_taken_is_named() {
        let name = Name::new("w1").unwrap();
        let bytes = |n: u128| n.to_be_bytes().to_vec();
        let good = pb::Hello {
            name: "w1".into(),
            incarnation: bytes(7).into(),
            boot_id: bytes(8).into(),
            groups: vec!["default".into()],
            slots: 4,
            ..Default::default()
        };
        let taken = profile(&good, &name, Incarnation(7)).unwrap();
        assert_eq!((taken.boot_id, taken.slots), (8, 4));
        let bad = [
            ("\"w2\"", pb::Hello { name: "w2".into(), ..good.clone() }),
            ("w1", pb::Hello { incarnation: bytes(9).into(), ..good.clone() }),
            ("boot id", pb::Hello { boot_id: vec![1].into(), ..good.clone() }),
            ("10001", pb::Hello { slots: 10_001, ..good.clone() }),
            ("slots = 0", pb::Hello { slots: 0, ..good.clone() }),
            ("\"No\"", pb::Hello { groups: vec!["No".into()], ..good.clone() }),
            ("\"GPU\"", pb::Hello { counts: [("GPU".into(), 1)].into(), ..good.clone() }),
        ];
        for (part, hello) in bad {
            let refusal = profile(&hello, &name, Incarnation(7)).unwrap_err();
            assert!(refusal.message.contains(part), "{refusal:?}");
            assert_eq!(refusal.code, ErrorCode::InvalidValue);
        }
    }

    #[test]
    fn a_hello_is_bounded() {
        let mut parts = Parts::default();
        let wide =
            pb::Hello { live: vec![pb::AttemptId::default(); FRAME + 1], ..Default::default() };
        assert_eq!(parts.add(&wide).unwrap_err().code, ErrorCode::TooLarge);
        let mut parts = Parts::default();
        let fit = (0..=MAX_PARTS).take_while(|_| parts.add(&pb::Hello::default()).is_ok()).count();
        assert_eq!(fit, MAX_PARTS);
    }
}
