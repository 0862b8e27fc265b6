//! Locks and pools: leases by replicated time, waiters in order.

use super::super::outcome::{Event, Outcome, Reject};
use super::super::state::State;
use super::{at_most, room_for, within};
use crate::ids::{Name, Token};
use crate::model::lock::{Holder, Lock, Waiter};
use crate::mutants::{self, Mutant};
use crate::time::{Span, UtcMillis};

const MAX_OWNER: usize = 200;
const MAX_SLOTS: u64 = 10_000;
const DAY_MS: u64 = 86_400_000;

impl State {
    pub(super) fn acquire_lock(
        &mut self,
        name: &Name,
        owner: &str,
        ttl: Span,
        slots: u32,
        wait: Span,
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        within("owner", owner.len() as u64, 1, MAX_OWNER as u64, "bytes")?;
        within("ttl", ttl.0, 1000, DAY_MS, "ms")?;
        within("wait", wait.0, 0, DAY_MS, "ms")?;
        within("slots", u64::from(slots), 1, MAX_SLOTS, "slots")?;
        let mut lock = match self.locks.get(name) {
            Some(lock) if lock.slots == slots => lock.clone(),
            Some(lock) => {
                let (name, actual) = (name.clone(), lock.slots);
                return Err(Reject::SlotsDiffer { name, actual, asked: slots });
            }
            None => {
                room_for("locks", self.locks.len() + 1, self.limits.locks)?;
                Lock { name: name.clone(), slots, holders: Vec::new(), waiters: Vec::new() }
            }
        };
        if let Some(held) = lock.holders.iter().find(|h| h.owner == owner) {
            return Ok(Outcome::LockHeld { token: held.token, expires: self.lease_end(held) });
        }
        let until = self.meta.now.plus(wait);
        if let Some(place) = lock.waiters.iter().position(|w| w.owner == owner) {
            // Asking again with no wait left gives the place up.
            if wait == Span::ZERO {
                lock.waiters.remove(place);
                self.put_lock(name, lock);
                return Err(Reject::LockTaken(name.clone()));
            }
            lock.waiters[place].until = until;
            self.put_lock(name, lock);
            return Ok(queued(place));
        }
        let has_room = lock.holders.len() < slots as usize && lock.waiters.is_empty();
        if has_room || mutants::on(Mutant::LockGivenTwice) {
            let holder = self.grant(&mut lock, owner.to_owned(), ttl);
            self.put_lock(name, lock);
            ev.push(Event::Lock);
            return Ok(holder);
        }
        if wait == Span::ZERO {
            return Err(Reject::LockTaken(name.clone()));
        }
        at_most("waiters", lock.waiters.len() + 1, Lock::MAX_WAITERS)?;
        lock.waiters.push(Waiter { owner: owner.to_owned(), ttl, until });
        let place = lock.waiters.len() - 1;
        self.put_lock(name, lock);
        ev.push(Event::Lock);
        Ok(queued(place))
    }

    fn grant(&mut self, lock: &mut Lock, owner: String, ttl: Span) -> Outcome {
        let mut token = self.meta.last_token.next();
        if mutants::on(Mutant::LockTokenStands) {
            token = self.meta.last_token;
        }
        self.meta.last_token = token;
        let acquired = self.meta.now;
        let expires = acquired.plus(ttl);
        lock.holders.push(Holder { owner, token, ttl, expires, acquired });
        Outcome::LockHeld { token, expires }
    }

    /// The end of a lease, as the newest leader's term extends it.
    fn lease_end(&self, holder: &Holder) -> UtcMillis {
        if mutants::on(Mutant::LockLeaseNotExtended) {
            return holder.expires;
        }
        holder.expires.max(self.meta.lease_floor.plus(holder.ttl))
    }

    pub(super) fn renew_lock(&mut self, name: &Name, token: Token) -> Result<Outcome, Reject> {
        let (mut lock, place) = self.held(name, token)?;
        let holder = &mut lock.holders[place];
        holder.expires = self.meta.now.plus(holder.ttl);
        if mutants::on(Mutant::LockEndsEarly) {
            holder.expires = self.meta.now.plus(Span(holder.ttl.0 / 2));
        }
        let outcome = Outcome::LockHeld { token, expires: holder.expires };
        self.put_lock(name, lock);
        Ok(outcome)
    }

    pub(super) fn release_lock(
        &mut self,
        name: &Name,
        token: Token,
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        let (mut lock, place) = self.held(name, token)?;
        lock.holders.remove(place);
        self.refill(name, lock, ev);
        Ok(Outcome::Done)
    }

    /// The lock and the place of the holder with that token.
    fn held(&self, name: &Name, token: Token) -> Result<(Lock, usize), Reject> {
        let lock = self.locks.get(name).ok_or_else(|| Reject::NoSuchLock(name.clone()))?;
        let place = lock.holders.iter().position(|h| h.token == token);
        let place = place.ok_or_else(|| Reject::NotHolder { name: name.clone(), token })?;
        Ok((lock.clone(), place))
    }

    pub(super) fn leave_lock(
        &mut self,
        name: &Name,
        owner: &str,
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        let lock = self.locks.get(name).ok_or_else(|| Reject::NoSuchLock(name.clone()))?;
        let mut lock = lock.clone();
        lock.waiters.retain(|w| w.owner != owner);
        self.refill(name, lock, ev);
        Ok(Outcome::Done)
    }

    /// Gives free slots to those who wait, first come first served.
    fn refill(&mut self, name: &Name, mut lock: Lock, ev: &mut Vec<Event>) {
        let free = (lock.slots as usize).saturating_sub(lock.holders.len());
        let served = free.min(lock.waiters.len());
        let next: Vec<Waiter> = lock.waiters.drain(..served).collect();
        for waiter in next {
            self.grant(&mut lock, waiter.owner, waiter.ttl);
        }
        self.put_lock(name, lock);
        ev.push(Event::Lock);
    }

    /// Drops leases and waits that have ended.
    pub(super) fn check_lock(&mut self, name: &Name, ev: &mut Vec<Event>) {
        let Some(lock) = self.locks.get(name) else { return };
        let mut lock = lock.clone();
        let now = self.meta.now;
        for holder in &mut lock.holders {
            holder.expires = self.lease_end(holder);
        }
        lock.holders.retain(|h| h.ends() > now);
        lock.waiters.retain(|w| w.until > now);
        self.refill(name, lock, ev);
    }
}

fn queued(place: usize) -> Outcome {
    Outcome::LockQueued { position: u32::try_from(place + 1).unwrap_or(u32::MAX) }
}
