//! Heartbeats: what they say of this worker, what their acknowledgement means for leases,
//! and what is sent again with their rhythm.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use horai_core::ids::{AttemptKey, Token};
use horai_core::model::run::EndKind;
use horai_proto::worker as pb;
use horai_proto::worker::from_worker::Body as Say;

use super::super::ending::Ending;
use super::super::sight::{self, Running};
use super::{Agent, BEATS, RESEND_TICKS};

impl Agent {
    pub(super) fn beat_all(&mut self) {
        for node in self.links.keys().copied().collect::<Vec<_>>() {
            self.beat(node);
        }
        while self.tasks.try_join_next().is_some() {}
        self.ticks += 1;
        if self.resend || self.ticks.is_multiple_of(RESEND_TICKS) {
            self.resend = false;
            self.say_handles();
            let all = self.results.iter().map(|(key, ended)| ended.wire(*key)).collect();
            self.say_results(all);
        }
        for live in self.live.values() {
            // A full FIFO took no order before: try again.
            if let (Some(control), Some(grace)) = (&live.control, live.cancel) {
                let _ = control.cancel(grace);
            }
        }
    }

    pub(super) fn beat(&mut self, node: usize) {
        self.beat += 1;
        let busy = u32::try_from(self.live.len() + self.held.len()).unwrap_or(u32::MAX);
        let sent = self.shared.boot_ms();
        let load = self.load.read();
        let disk = (load.disk_available, load.disk_total);
        let closed = self.intake.closed(sent, self.runner.journal.is_full(), disk);
        let slots_free = if closed.is_some() { 0 } else { self.config.slots.saturating_sub(busy) };
        let closed = closed.unwrap_or_default();
        let beat = pb::Heartbeat { seq: self.beat, slots_free, closed, ..load };
        if self.say(node, Say::Heartbeat(beat))
            && let Some(link) = self.links.get_mut(&node)
        {
            link.beats.push_back((self.beat, sent));
            if link.beats.len() > BEATS {
                link.beats.pop_front();
            }
        }
    }

    pub(super) fn on_ack(&mut self, node: usize, ack: &pb::HeartbeatAck) {
        let Some(link) = self.links.get_mut(&node) else { return };
        let Some(&(_, sent)) = link.beats.iter().find(|(seq, _)| *seq == ack.seq) else { return };
        link.beats.retain(|(seq, _)| *seq > ack.seq);
        self.set_time(ack.cluster_time_ms);
        if let Some(parting) = &mut self.parting {
            parting.acknowledged(ack.seq);
        }
        self.shared.lease_from.fetch_max(sent, Ordering::AcqRel);
        for live in self.live.values() {
            if let Some(control) = &live.control {
                // A shim that is frozen or gone needs no longer lease.
                let _ = control.extend(self.shared.deadline(live.lease_ms));
            }
        }
        let held = std::mem::take(&mut self.held);
        self.start(held);
    }

    /// Looks closely at what runs here, and tells the node that asked. Not answered while
    /// too many look, or on a host without threads.
    pub(super) fn look(&mut self, node: usize, number: u64) {
        let Some(to) = self.links.get(&node).map(|link| link.to.clone()) else { return };
        let Ok(permit) = Arc::clone(&self.looks).try_acquire_owned() else { return };
        if !self.host.has_threads() {
            return;
        }
        // What is done inside this process has no others.
        let running = self.live.iter().filter(|(_, live)| !live.noop).filter_map(|(key, live)| {
            let folder = self.runner.jobs.output(*key)?;
            Some(Running { key: *key, token: live.token, folder })
        });
        let running: Vec<Running> = running.take(sight::MAX_ATTEMPTS).collect();
        self.tasks.spawn(async move {
            let sight = tokio::task::spawn_blocking(move || sight::look(number, &running)).await;
            drop(permit);
            if let Ok(sight) = sight {
                // A stream that is gone asks again.
                let _ = to.send(pb::FromWorker { body: Some(Say::Sight(sight)) }).await;
            }
        });
    }

    /// What could not begin goes elsewhere: nobody sends more before it is told that
    /// nothing is taken here.
    pub(super) fn decline(&mut self, ended: &[(AttemptKey, Token, Ending)]) {
        let why = ended.iter().find_map(|(.., ending)| match &ending.report.how {
            EndKind::Declined { message } => Some(message),
            _ => None,
        });
        let Some(why) = why else { return };
        self.intake.declined(self.shared.boot_ms(), why);
        if let Some(node) = self.active {
            self.beat(node);
        }
    }
}
