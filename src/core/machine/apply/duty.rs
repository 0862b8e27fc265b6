//! What an operator says of a worker: that it is given nothing more, that it is emptied,
//! that it is gone for good.

use super::super::outcome::{Event, Outcome, Reject};
use super::super::state::State;
use crate::ids::{RunId, WorkerId};
use crate::model::job::OnWorkerLost;
use crate::model::run::{EndKind, Run};
use crate::model::worker::{Duty, Leaving, Worker};
use crate::time::Span;

/// Who was heard of within this time is alive.
const ALIVE: Span = Span::secs(10);

impl State {
    pub(super) fn set_duty(
        &mut self,
        id: WorkerId,
        duty: Duty,
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        let worker = self.workers.get(&id).ok_or(Reject::NoSuchWorker(id))?;
        if worker.duty != duty {
            let worker = Worker { duty, ..worker.clone() };
            self.put_worker(worker);
            ev.push(Event::Worker(id));
        }
        Ok(Outcome::Done)
    }

    /// A drain has waited for as long as it was to: what may run again elsewhere is ended,
    /// and what may not be ended goes on. As many as the worker has slots.
    pub(super) fn drain_time_over(&mut self, id: WorkerId, ev: &mut Vec<Event>) {
        let Some(worker) = self.workers.get(&id) else { return };
        let now = self.meta.now;
        let (duty, leaving) = match (worker.duty, worker.leaving) {
            (Duty::Draining { until: Some(at) }, leaving) if at <= now => {
                (Duty::Draining { until: None }, leaving)
            }
            (duty, leaving) => (duty, leaving.map(|_| Leaving { until: None })),
        };
        let worker = Worker { duty, leaving, ..worker.clone() };
        self.put_worker(worker);
        let ends = |run: &&Run| {
            let spec = self.spec(run.job, run.revision);
            spec.is_some_and(|s| !matches!(s.on_worker_lost, OnWorkerLost::Keep { .. }))
        };
        for mut run in self.running_on(id).filter(ends).cloned().collect::<Vec<_>>() {
            run.drained = run.live_attempt().map(|live| live.key.number);
            ev.push(Event::Run(run.id));
            self.put_run(run);
        }
        ev.push(Event::Worker(id));
    }

    /// Forgets a worker. By force, what was running there counts as lost with it: who says
    /// so vouches for its being gone.
    pub(super) fn remove_worker(
        &mut self,
        id: WorkerId,
        force: bool,
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        let worker = self.workers.get(&id).ok_or(Reject::NoSuchWorker(id))?;
        if worker.last_heartbeat.plus(ALIVE) > self.meta.now {
            return Err(Reject::WorkerAlive(id));
        }
        let live: Vec<RunId> = self.running_on(id).map(|run| run.id).collect();
        if !live.is_empty() && !force {
            return Err(Reject::WorkerBusy { worker: id, attempts: live.len() as u64 });
        }
        for run in live {
            self.give_up(run, EndKind::WorkerLost, ev);
        }
        self.fail_parts_for(id, ev);
        self.remove_worker_record(id);
        ev.push(Event::Worker(id));
        Ok(Outcome::Done)
    }
}
