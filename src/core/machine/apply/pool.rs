//! Pools: written, removed, and asked for slots.
//!
//! A pool is not taken from under a definition that names it, nor made too
//! small for one: what could never run again is refused where it is written.
//! Who takes slots is never written here: that follows from the runs.

use super::super::outcome::{Event, Outcome, PoolUsers, Reject};
use super::super::state::State;
use super::job::check_revision;
use super::{at_most, invalid, room_for, within};
use crate::ids::{Name, Revision};
use crate::model::job::JobSpec;
use crate::model::pool::{Demand, Pool, PoolDef};

impl State {
    pub(super) fn put_pool(
        &mut self,
        def: &PoolDef,
        expected: Option<Revision>,
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        let old = self.pools.shared(&def.name);
        check_revision(expected, old.as_deref().map_or(Revision(0), |pool| pool.revision))?;
        at_most("description", def.description.len(), PoolDef::MAX_DESCRIPTION)?;
        within("slots", u64::from(def.slots), 1, u64::from(PoolDef::MAX_SLOTS), "slots")?;
        if old.is_none() {
            room_for("pools", self.pools.len() + 1, self.limits.pools)?;
        }
        let now = self.meta.now;
        let (revision, created) = match old.as_deref() {
            Some(old) if old.def == *def => {
                return Ok(Outcome::Pool { revision: old.revision, changed: false });
            }
            Some(old) => (old.revision.next(), old.created),
            None => (Revision(1), now),
        };
        let users = self.pool_users(&def.name, def.slots + 1);
        if !users.is_empty() {
            let (name, slots) = (def.name.clone(), def.slots);
            return Err(Reject::PoolTooSmall { name, slots, users });
        }
        self.pools
            .put(def.name.clone(), Pool { def: def.clone(), revision, created, updated: now });
        ev.push(Event::Pool);
        Ok(Outcome::Pool { revision, changed: true })
    }

    pub(super) fn delete_pool(
        &mut self,
        name: &Name,
        expected: Option<Revision>,
    ) -> Result<Outcome, Reject> {
        let old = self.pools.get(name).ok_or_else(|| Reject::NoSuchPool(name.clone()))?;
        check_revision(expected, old.revision)?;
        let users = self.pool_users(name, 0);
        if !users.is_empty() {
            return Err(Reject::PoolInUse { name: name.clone(), users });
        }
        self.pools.remove(name);
        Ok(Outcome::Done)
    }

    /// Who takes at least so many slots.
    fn pool_users(&self, name: &Name, least: u32) -> PoolUsers {
        let most = Reject::MOST_NAMED;
        PoolUsers {
            job_count: self.jobs_with_pool(name, least).count() as u64,
            jobs: self.names_of(self.jobs_with_pool(name, least)),
            runs: self.runs_with_pool(name, least).take(most).collect(),
            backfills: self.backfills_with_pool(name, least).take(most).collect(),
        }
    }

    /// The pools that a definition names exist, and have so many slots.
    pub(super) fn check_pools(&self, spec: &JobSpec) -> Result<(), Reject> {
        for (name, slots) in &spec.pools {
            let problem = match self.pools.get(name).map(|pool| pool.def.slots) {
                None => {
                    format!("pool {name} does not exist; horai pool set {name} --slots {slots}")
                }
                Some(has) if has < *slots => format!(
                    "pool {name} has {has} slots, fewer than {slots}; take at most {has}, or \
                     horai pool set {name} --slots {slots}"
                ),
                Some(_) => continue,
            };
            return Err(invalid(&format!("pools.{name}"), problem));
        }
        Ok(())
    }

    /// The first pool that has not as much as a run needs.
    pub(super) fn full_pool(&self, demand: &Demand) -> Option<Name> {
        let mut short = demand.iter().filter(|(name, slots)| self.pool_free(name) < *slots);
        short.next().map(|(name, _)| name.clone())
    }
}
