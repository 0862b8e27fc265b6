//! The leader's side of the streams, around the product's own comparison,
//! orders and readings of results.

use std::collections::BTreeMap;

use horai_core::ids::{Incarnation, Name, RunId};
use horai_core::machine::command::Command;
use horai_core::machine::outcome::{Outcome, Reject};
use horai_core::machine::state::State;
use horai_core::model::worker::WorkerProfile;
use horai_proto::worker as pb;

use super::lead::{Answer, Attached, Attachment, Beat, Lead, Purpose, Stream};
use super::links::Body;
use super::replicas::Problem;
use super::shim::Behaviour;
use super::worker::{Due, FromWorker, Reported, Seen, ToWorker};
use super::world::{Happening, Loop, World};
use crate::leader::answers::Starts;
use crate::session::pure::{self, Finished, Parts};
use crate::worker::wire;

/// Between the beginnings of two rounds of heartbeats.
const ROUND: i64 = 50;
/// Before a proposal that was not committed is made again.
const PAUSE: i64 = 100;

fn profile(w: usize, slots: u32, incarnation: Incarnation, boot_id: u128) -> WorkerProfile {
    WorkerProfile {
        name: Name::new(&format!("w{w}")).unwrap(),
        incarnation,
        boot_id,
        groups: vec![horai_core::model::job::default_group()],
        labels: BTreeMap::new(),
        slots,
        host: String::new(),
        version: String::new(),
        amounts: Default::default(),
        stops_within: None,
        isolation: Box::default(),
        interpreters: std::collections::BTreeSet::new(),
    }
}

impl World {
    /// A worker said something to a node.
    pub(super) fn on_said(
        &mut self,
        (w, n): (usize, usize),
        epoch: u64,
        message: FromWorker,
    ) -> Result<(), Problem> {
        let slots = self.setup.slots;
        let Some(lead) = self.leads.iter_mut().find(|l| l.node == n && l.has_begun()) else {
            return Ok(());
        };
        let (serial, stream) = (lead.serial, (w, epoch));
        match message {
            FromWorker::Hello { incarnation, boot_id, highest, live, results } => {
                if highest <= lead.id {
                    let command =
                        Command::AttachWorker(Box::new(profile(w, slots, incarnation, boot_id)));
                    let envelope = lead.own(command);
                    let attachment = Attachment { stream, incarnation, live, results };
                    self.propose(serial, envelope, Purpose::Attach(Box::new(attachment)));
                }
            }
            FromWorker::Beat(seq) => {
                let Some(Attached { worker, incarnation }) = lead.attached.get(&stream).copied()
                else {
                    return Ok(());
                };
                lead.beats.insert(stream, Beat { stream, worker, incarnation, seq });
                if !std::mem::replace(&mut lead.is_beating, true) {
                    self.agenda.after(1, Happening::Beats(serial));
                }
            }
            FromWorker::Results(results) => self.on_results(serial, stream, results),
        }
        Ok(())
    }

    fn is_open(&self, serial: u64, stream: Stream) -> bool {
        let Some(lead) = self.lead(serial).filter(|lead| lead.has_begun()) else { return false };
        let link = &self.links[&(stream.0, lead.node)];
        link.node_open && link.epoch == stream.1
    }

    pub(super) fn say(&mut self, serial: u64, stream: Stream, message: ToWorker) {
        if let Some(node) = self.lead(serial).map(|lead| lead.node) {
            self.send(stream.0, node, stream.1, Body::To(message));
        }
    }

    pub(super) fn on_attach_answer(
        &mut self,
        serial: u64,
        attachment: Attachment,
        answer: Answer,
    ) -> Result<(), Problem> {
        let stream = attachment.stream;
        if !self.is_open(serial, stream) {
            return Ok(());
        }
        let worker = match answer {
            Ok(Outcome::Worker { worker }) => worker,
            Ok(Outcome::Rejected(Reject::StaleLeader(_))) => return Ok(()),
            Ok(other) => return Err(format!("an attachment is answered with {other:?}")),
            Err(_) => {
                let w = stream.0;
                let boots = self.workers[w].boots + 100 * w as u128;
                let slots = self.setup.slots;
                let declared = profile(w, slots, attachment.incarnation, boots);
                let command = Command::AttachWorker(Box::new(declared));
                let Some(envelope) = self.lead(serial).map(|lead| lead.own(command)) else {
                    return Ok(());
                };
                let again = Purpose::Attach(Box::new(attachment));
                self.agenda.after(PAUSE, Happening::Propose(serial, envelope, again));
                return Ok(());
            }
        };
        let Attachment { incarnation, live, results, .. } = attachment;
        let found = self.with_view(serial, |lead, state| {
            lead.attached.insert(stream, Attached { worker, incarnation });
            let mut parts = Parts::default();
            parts.live = live;
            let ended = results.iter().cloned();
            parts.results = ended.map(|(key, token, end)| (key, token, end.into())).collect();
            let found = pure::compare(state, worker, incarnation, &parts);
            let build = |run: &RunId| pure::build(state, *run, worker, incarnation, lead.id);
            let starts: Vec<pb::Start> = found.missing.iter().filter_map(build).collect();
            (found, starts)
        });
        let Some((found, starts)) = found else { return Ok(()) };
        self.say(serial, stream, ToWorker::Verdicts(found.verdicts));
        self.say(serial, stream, ToWorker::Cancels(found.cancels));
        self.say(serial, stream, ToWorker::Starts(starts));
        self.on_results(serial, stream, results);
        self.wake(serial, Loop::Dispatcher, 1);
        Ok(())
    }

    /// A stream is taken out at its node.
    pub(super) fn detach(&mut self, w: usize, n: usize, epoch: u64) {
        let Some(lead) = self.leads.iter_mut().find(|lead| lead.node == n) else { return };
        lead.beats.remove(&(w, epoch));
        lead.attached.remove(&(w, epoch));
        let serial = lead.serial;
        self.wake(serial, Loop::Dispatcher, 1);
    }

    pub(super) fn on_beats(&mut self, serial: u64) -> Result<(), Problem> {
        let Some(lead) = self.lead_mut(serial).filter(|lead| lead.has_begun()) else {
            return Ok(());
        };
        let beats: Vec<Beat> = std::mem::take(&mut lead.beats).into_values().collect();
        if beats.is_empty() {
            lead.is_beating = false;
            return Ok(());
        }
        let alive = beats.iter().map(|beat| (beat.worker, beat.incarnation)).collect();
        let envelope = lead.own(Command::WorkersAlive(alive));
        self.propose(serial, envelope, Purpose::Beats(beats));
        Ok(())
    }

    pub(super) fn on_beats_answer(
        &mut self,
        serial: u64,
        beats: &[Beat],
        answer: &Answer,
    ) -> Result<(), Problem> {
        let is_committed =
            matches!(answer, Ok(outcome) if !matches!(outcome, Outcome::Rejected(_)));
        let time = self.cluster_now(serial).unwrap_or_default().0;
        for beat in beats.iter().filter(|_| is_committed) {
            let is_attached = |lead: &Lead| lead.attached.contains_key(&beat.stream);
            if self.lead(serial).is_some_and(is_attached) {
                self.say(serial, beat.stream, ToWorker::Ack(beat.seq, time));
            }
        }
        self.agenda.after(ROUND, Happening::Beats(serial));
        Ok(())
    }

    fn on_results(&mut self, serial: u64, stream: Stream, results: Vec<Reported>) {
        for (key, token, report) in results {
            let open = self.with_view(serial, |lead, state| {
                let worker = lead.attached.get(&stream)?.worker;
                if !lead.busy.insert((key, token)) {
                    return None;
                }
                let ending = report.into();
                let finished = Finished { stream: stream.1, worker, key, token, ending };
                let is_known = pure::is_known(state, &finished);
                if is_known {
                    lead.busy.remove(&(key, token));
                }
                Some((finished, is_known))
            });
            match open.flatten() {
                Some((_, true)) => self.say(serial, stream, ToWorker::Forgets(vec![(key, token)])),
                Some((finished, false)) => {
                    let envelope = pure::envelope(&finished);
                    let purpose = Purpose::Result(Box::new(finished), stream);
                    self.propose(serial, envelope, purpose);
                }
                None => {}
            }
        }
    }

    pub(super) fn on_result_answer(
        &mut self,
        serial: u64,
        finished: Finished,
        stream: Stream,
        answer: Answer,
    ) -> Result<(), Problem> {
        let Some(lead) = self.lead_mut(serial).filter(|lead| lead.has_begun()) else {
            return Ok(());
        };
        let id = (finished.key, finished.token);
        match pure::Step::after(answer) {
            pure::Step::Forget => {
                lead.busy.remove(&id);
                self.say(serial, stream, ToWorker::Forgets(vec![id]));
            }
            pure::Step::GiveUp(reject) => return Err(format!("a result is refused: {reject}")),
            pure::Step::Again(_) => {
                let envelope = pure::envelope(&finished);
                let purpose = Purpose::Result(Box::new(finished), stream);
                self.agenda.after(PAUSE, Happening::Propose(serial, envelope, purpose));
            }
        }
        Ok(())
    }

    /// Tells workers to start what is dispatched to them.
    pub(super) fn tell(&mut self, serial: u64, starts: Starts) {
        for (worker, runs) in starts {
            let orders = self.with_view(serial, |lead, state| {
                let found = lead.attached.iter().find(|(_, attached)| attached.worker == worker);
                let (stream, attached) = found?;
                let build =
                    |run: &RunId| pure::build(state, *run, worker, attached.incarnation, lead.id);
                Some((*stream, runs.iter().filter_map(build).collect::<Vec<_>>()))
            });
            if let Some((stream, starts)) = orders.flatten() {
                self.say(serial, stream, ToWorker::Starts(starts));
            }
        }
    }

    pub(super) fn tell_to_cancel(&mut self, serial: u64, run: RunId) {
        let order = self.with_view(serial, |lead, state: &State| {
            let worker = state.run(run)?.live_attempt()?.worker;
            let found = lead.attached.iter().find(|(_, attached)| attached.worker == worker);
            let (stream, attached) = found?;
            Some((*stream, pure::cancel(state, run, worker, attached.incarnation)?))
        });
        if let Some((stream, cancel)) = order.flatten() {
            self.say(serial, stream, ToWorker::Cancels(vec![cancel]));
        }
    }

    /// Something that a worker waited for.
    pub(super) fn on_worker(&mut self, w: usize, life: u64, due: Due) -> Result<(), Problem> {
        let now = self.now();
        let beat = self.beat();
        let worker = &mut self.workers[w];
        let is_shims = matches!(due, Due::Shim(_));
        if !is_shims && worker.life != life {
            return Ok(());
        }
        let stands_still = if is_shims { worker.machine_frozen } else { worker.frozen_until() };
        if stands_still > now {
            self.agenda.at(stands_still, Happening::Worker(w, life, due));
            return Ok(());
        }
        match due {
            Due::Tick => worker.tick(now, beat),
            Due::Launch(start) => {
                let how = self.behaviour(&start);
                self.workers[w].launch(&start, &how, now);
            }
            Due::Shim(key) => worker.on_shim(key, now),
            Due::Collect(key) => worker.collect(key),
        }
        self.take_turn(w)
    }

    fn behaviour(&self, start: &pb::Start) -> Behaviour {
        let (key, _) = wire::attempt(start.attempt.as_ref()).unwrap();
        let run = self.replicas.truth.run(key.run);
        let nominal = run.map_or(0, |run| run.nominal.0).unsigned_abs();
        let slot = start.job.trim_start_matches('j').parse().unwrap_or(0);
        let shape = self.oracle.shape(slot);
        let seed = [self.setup.seed, slot, nominal, u64::from(key.number)];
        Behaviour::of(&shape, &seed)
    }

    /// Takes up what a worker said, waits for and did.
    pub(super) fn take_turn(&mut self, w: usize) -> Result<(), Problem> {
        let turn = std::mem::take(&mut self.workers[w].turn);
        let life = self.workers[w].life;
        let incarnation = self.workers[w].incarnation();
        for seen in turn.seen {
            match seen {
                Seen::Started(key, token) => {
                    self.oracle.on_started(key, token, incarnation, &self.replicas.truth)?;
                }
                Seen::Ended(token, how) => self.oracle.on_ended(token, how),
            }
        }
        for (wait, due) in turn.due {
            self.agenda.after(wait, Happening::Worker(w, life, due));
        }
        for (node, message) in turn.said {
            let epoch = self.link(w, node).epoch;
            self.send(w, node, epoch, Body::From(message));
        }
        Ok(())
    }
}
