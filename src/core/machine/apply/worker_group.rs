//! Worker groups: what is said of them. Who serves them, workers say themselves, and who
//! names them, jobs: so a definition may come and go at any time.

use super::super::outcome::{Event, Outcome, Reject};
use super::super::state::State;
use super::job::check_revision;
use super::{at_most, within};
use crate::ids::{Name, Revision};
use crate::model::worker_group::{Thresholds, WorkerGroup, WorkerGroupDef};

impl State {
    pub(super) fn put_worker_group(
        &mut self,
        def: &WorkerGroupDef,
        expected: Option<Revision>,
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        let old = self.worker_groups.shared(&def.name);
        check_revision(expected, old.as_deref().map_or(Revision(0), |group| group.revision))?;
        at_most("description", def.description.len(), WorkerGroupDef::MAX_DESCRIPTION)?;
        if let Some(Thresholds { memory_permille, load_permille }) = def.thresholds {
            let most = u64::from(Thresholds::MAX_LOAD_PERMILLE);
            within("thresholds.memory", u64::from(memory_permille), 1, 1_000, "thousandths")?;
            within("thresholds.load", u64::from(load_permille), 1, most, "thousandths")?;
        }
        let limit = self.limits.worker_groups;
        if old.is_none() && self.worker_groups.len() >= limit {
            return Err(Reject::Full { what: "worker groups".to_owned(), limit: limit as u64 });
        }
        let now = self.meta.now;
        let (revision, created) = match old.as_deref() {
            Some(old) if old.def == *def => {
                return Ok(Outcome::WorkerGroup { revision: old.revision, changed: false });
            }
            Some(old) => (old.revision.next(), old.created),
            None => (Revision(1), now),
        };
        let group = WorkerGroup { def: def.clone(), revision, created, updated: now };
        self.worker_groups.put(def.name.clone(), group);
        ev.push(Event::WorkerGroup);
        Ok(Outcome::WorkerGroup { revision, changed: true })
    }

    pub(super) fn delete_worker_group(
        &mut self,
        name: &Name,
        expected: Option<Revision>,
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        let old = self.worker_groups.get(name);
        let old = old.ok_or_else(|| Reject::NoSuchWorkerGroup(name.clone()))?;
        check_revision(expected, old.revision)?;
        self.worker_groups.remove(name);
        ev.push(Event::WorkerGroup);
        Ok(Outcome::Done)
    }
}
