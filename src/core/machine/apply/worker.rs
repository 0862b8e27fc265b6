//! Workers: attachment, signs of life, and attempts whose lease has ended.

use super::super::outcome::{Event, Outcome, Reject};
use super::super::state::{State, Watch};
use super::{at_most, invalid, room_for, within};
use crate::ids::{Incarnation, RunId, WorkerId};
use crate::model::confinement::Isolation;
use crate::model::run::{Attempt, EndKind, Run};
use crate::model::worker::{Duty, Leaving, Worker, WorkerProfile};
use crate::mutants::{self, Mutant};
use crate::time::UtcMillis;

/// Earlier incarnations remembered; older ones count as silent since attachment.
const MAX_PAST: usize = 16;
const MAX_GROUPS: usize = 64;
const MAX_LABELS: usize = 64;
const MAX_TEXT: usize = 256;
const MAX_SLOTS: u64 = 10_000;

impl State {
    pub(super) fn attach_worker(
        &mut self,
        profile: &WorkerProfile,
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        check_profile(profile)?;
        let now = self.meta.now;
        let known = self.index.worker_names.get(&profile.name).copied();
        let Some(id) = known else {
            room_for("workers", self.workers.len() + 1, self.limits.workers)?;
            let id = self.meta.last_worker.next();
            self.meta.last_worker = id;
            let leaving = leaving(profile, None, now);
            let (profile, duty) = (profile.clone(), Duty::Open);
            let worker =
                Worker { id, profile, last_heartbeat: now, registered: now, duty, leaving };
            self.put_worker(worker);
            ev.push(Event::Worker(id));
            return Ok(Outcome::Worker { worker: id });
        };
        if let Some(old) = self.workers.get(&id) {
            let was = (old.profile.incarnation, old.last_heartbeat);
            let has_rebooted = old.profile.boot_id != profile.boot_id;
            let is_other = was.0 != profile.incarnation;
            let has_rebooted =
                has_rebooted || (is_other && mutants::on(Mutant::IncarnationIsDeath));
            let leaving = leaving(profile, old.leaving, now);
            let declared = profile.clone();
            let worker = Worker { profile: declared, last_heartbeat: now, leaving, ..old.clone() };
            self.put_worker(worker);
            if has_rebooted {
                // No process survives a boot: proof, whoever started it.
                for run in self.running_on(id).map(|r| r.id).collect::<Vec<_>>() {
                    self.give_up(run, EndKind::WorkerLost, ev);
                }
                self.put_watch(id, Watch::default());
            } else if is_other {
                let mut watch = self.watches.get(&id).cloned().unwrap_or_default();
                watch.past.retain(|(past, _)| *past != was.0 && *past != profile.incarnation);
                watch.past.push(was);
                if watch.past.len() > MAX_PAST {
                    watch.past.remove(0);
                }
                self.put_watch(id, watch);
            }
            ev.push(Event::Worker(id));
        }
        Ok(Outcome::Worker { worker: id })
    }

    pub(super) fn workers_alive(
        &mut self,
        alive: &[(WorkerId, Incarnation)],
        ev: &mut Vec<Event>,
    ) -> Outcome {
        for (id, incarnation) in alive {
            let worker = self.workers.get(id).filter(|w| w.profile.incarnation == *incarnation);
            if let Some(worker) = worker.filter(|w| w.last_heartbeat < self.meta.now) {
                let worker = Worker { last_heartbeat: self.meta.now, ..worker.clone() };
                self.put_worker(worker);
                ev.push(Event::Worker(*id));
            }
        }
        Outcome::Done
    }

    /// Looks after a worker's attempts no later than then.
    pub(super) fn watch_until(&mut self, id: WorkerId, at: UtcMillis) {
        let watch = self.watches.get(&id);
        if watch.and_then(|w| w.check).is_none_or(|check| at < check) {
            let past = watch.map(|w| w.past.clone()).unwrap_or_default();
            self.put_watch(id, Watch { check: Some(at), past });
        }
    }

    /// Ends attempts whose lease and margin are over, and sets the next check.
    pub(super) fn check_worker(&mut self, id: WorkerId, ev: &mut Vec<Event>) {
        let watch = self.watches.get(&id).cloned().unwrap_or_default();
        let mut lost: Vec<RunId> = Vec::new();
        let mut next: Option<UtcMillis> = None;
        let mut incarnations = Vec::new();
        for run in self.running_on(id) {
            let Some(attempt) = run.live_attempt() else { continue };
            let end = self.deadline(run, attempt, &watch);
            if end < self.meta.now {
                lost.push(run.id);
            } else {
                incarnations.push(attempt.incarnation);
                // One later than the end: the lease still holds at the end itself.
                let at = UtcMillis(end.0.saturating_add(1));
                next = Some(next.map_or(at, |n| n.min(at)));
            }
        }
        let past = watch.past.into_iter().filter(|(past, _)| incarnations.contains(past)).collect();
        self.put_watch(id, Watch { check: next, past });
        for run in lost {
            self.give_up(run, EndKind::WorkerLost, ev);
        }
        ev.push(Event::Worker(id));
    }

    /// When an attempt counts as lost, as far as is known now.
    fn deadline(&self, run: &Run, attempt: &Attempt, watch: &Watch) -> UtcMillis {
        let worker = self.workers.get(&attempt.worker);
        let heard = match worker {
            Some(w) if w.profile.incarnation == attempt.incarnation => w.last_heartbeat,
            _ => watch
                .past
                .iter()
                .find(|(past, _)| *past == attempt.incarnation)
                .map_or(attempt.dispatched, |(_, heard)| *heard),
        };
        let floor = if mutants::on(Mutant::LeaseNotExtended) {
            UtcMillis(i64::MIN)
        } else {
            self.meta.lease_floor
        };
        heard.max(attempt.dispatched).max(floor).plus(self.allowance(run))
    }
}

/// Whoever is stopped says so each time it attaches, and the wait is not begun anew; the
/// next one under its name begins as if nothing had been.
fn leaving(profile: &WorkerProfile, old: Option<Leaving>, now: UtcMillis) -> Option<Leaving> {
    let wait = profile.stops_within?;
    Some(old.unwrap_or(Leaving { until: Some(now.plus(wait)) }))
}

fn check_profile(profile: &WorkerProfile) -> Result<(), Reject> {
    if profile.groups.is_empty() {
        return Err(invalid("groups", "a worker serves at least one group"));
    }
    at_most("groups", profile.groups.len(), MAX_GROUPS)?;
    at_most("labels", profile.labels.len(), MAX_LABELS)?;
    for (key, value) in &profile.labels {
        at_most("label", key.len().max(value.len()), MAX_TEXT)?;
    }
    at_most("host", profile.host.len(), MAX_TEXT)?;
    at_most("version", profile.version.len(), MAX_TEXT)?;
    if let Some(wait) = profile.stops_within {
        within("stops_within", wait.0, 0, WorkerProfile::MAX_STOP.0, "ms")?;
    }
    if let Some((field, right)) = profile.amounts.problem() {
        return Err(invalid(&field, format!("declare {right}")));
    }
    at_most("interpreters", profile.interpreters.len(), WorkerProfile::MAX_INTERPRETERS)?;
    at_most("isolation", profile.isolation.note.len(), Isolation::MAX_NOTE)?;
    within("slots", u64::from(profile.slots), 1, MAX_SLOTS, "slots")
}
