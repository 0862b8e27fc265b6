//! What clients know of locks, and what may not be said to them of one another's.
//!
//! Leases are promised in replicated time, and answers tell it: so it is judged by
//! that, and no clock of a machine makes it less exact.

use std::collections::{BTreeMap, BTreeSet};

use horai_core::ids::{Name, Token};
use horai_core::time::{Span, UtcMillis};

/// One grant, as far as answers tell.
#[derive(Debug, Clone)]
struct Lease {
    owner: String,
    /// Known only if the answer is surely that of the grant itself.
    acquired: Option<UtcMillis>,
    /// It ends then or later, unless it was given back.
    expires: UtcMillis,
    /// Somebody asked to give it back: it may be over at any time.
    is_given_back: bool,
}

/// Asking for a lock.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) name: Name,
    pub(crate) owner: String,
    pub(crate) ttl: Span,
    /// The highest token that anybody knew when it was asked for.
    floor: Option<Token>,
    /// Nothing else of this owner may have taken it meanwhile.
    is_only: bool,
}

/// All locks.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    of: BTreeMap<Name, BTreeMap<Token, Lease>>,
    /// Wishes without an answer, or with one that leaves open what came of it.
    open: BTreeSet<(Name, String)>,
}

impl Leases {
    /// The latest token of a lock.
    pub(crate) fn last(&self, name: &Name) -> Option<Token> {
        Some(*self.of.get(name)?.last_key_value()?.0)
    }

    /// An owner asks for a lock.
    pub(crate) fn wish(&mut self, name: Name, owner: String, ttl: Span) -> Wish {
        let is_only = self.open.insert((name.clone(), owner.clone()));
        Wish { floor: self.last(&name), name, owner, ttl, is_only }
    }

    /// A wish was refused: it has taken nothing.
    pub(crate) fn refused(&mut self, wish: &Wish) {
        if wish.is_only {
            self.open.remove(&(wish.name.clone(), wish.owner.clone()));
        }
    }

    /// Somebody asks to give a lock back.
    pub(crate) fn give_back(&mut self, name: &Name, token: Token) {
        if let Some(lease) = self.of.get_mut(name).and_then(|all| all.get_mut(&token)) {
            lease.is_given_back = true;
        }
    }

    /// A lease was begun anew.
    pub(crate) fn renewed(&mut self, name: &Name, token: Token, expires: UtcMillis) {
        if let Some(lease) = self.of.get_mut(name).and_then(|all| all.get_mut(&token)) {
            lease.expires = lease.expires.max(expires);
        }
    }

    /// A wish was granted.
    ///
    /// # Errors
    /// If the token did not grow, is another's, or the lock was somebody else's still.
    pub(crate) fn granted(
        &mut self,
        wish: &Wish,
        token: Token,
        expires: UtcMillis,
    ) -> Result<(), String> {
        self.refused(wish);
        let (name, owner) = (&wish.name, &wish.owner);
        let elsewhere =
            self.of.iter().find(|(other, all)| *other != name && all.contains_key(&token));
        if let Some((other, _)) = elsewhere {
            return Err(format!("token {token} is of {name} and of {other}"));
        }
        let all = self.of.entry(name.clone()).or_default();
        if let Some(known) = all.get_mut(&token) {
            known.expires = known.expires.max(expires);
            return if known.owner == *owner {
                Ok(())
            } else {
                Err(format!("token {token} of {name} is {owner}'s and {}'s", known.owner))
            };
        }
        if let Some(floor) = wish.floor.filter(|floor| *floor > token) {
            return Err(format!("{name}: token {token} came after {floor}"));
        }
        let acquired =
            wish.is_only.then(|| UtcMillis(expires.0.saturating_sub_unsigned(wish.ttl.0)));
        let lease = Lease { owner: owner.clone(), acquired, expires, is_given_back: false };
        all.insert(token, lease.clone());
        // Answers come in any order: it is compared with those before and after it.
        let before =
            all.range(..token).next_back().map(|(_, before)| (before.clone(), lease.clone()));
        let after = all.range(token..).nth(1).map(|(_, after)| (lease, after.clone()));
        for (first, second) in before.into_iter().chain(after) {
            let overlaps = second.acquired.is_some_and(|at| at < first.expires);
            if overlaps && !first.is_given_back {
                return Err(format!("{name} is held twice: {first:?} and {second:?}"));
            }
        }
        Ok(())
    }
}
