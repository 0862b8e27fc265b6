//! Tokens and the admission of nodes. Membership itself is Raft's: here is only
//! who may become a member, and that no number is given twice.

use super::super::outcome::{Outcome, Reject};
use super::super::state::State;
use super::{invalid, room_for};
use crate::ids::{Name, NodeId};
use crate::model::access::{AccessToken, NodeRecord, TokenHash};

impl State {
    pub(super) fn put_token(
        &mut self,
        name: &Name,
        token: &AccessToken,
    ) -> Result<Outcome, Reject> {
        let other = self.index.token_hashes.get(&token.hash);
        if let Some(other) = other.filter(|other| *other != name) {
            return Err(invalid("token", format!("{other} is the same token; make a new one")));
        }
        let limit = self.limits.tokens;
        if !self.tokens.contains(name) && self.tokens.len() >= limit {
            self.drop_expired_tokens();
            room_for("tokens", self.tokens.len() + 1, limit)?;
        }
        if let Some(old) = self.tokens.get(name) {
            self.index.token_hashes.remove(&old.hash);
        }
        self.index.token_hashes.insert(token.hash, name.clone());
        let created = self.meta.now;
        self.tokens.put(name.clone(), AccessToken { created, ..token.clone() });
        Ok(Outcome::Done)
    }

    pub(super) fn drop_token(&mut self, name: &Name) -> Result<Outcome, Reject> {
        let old = self.tokens.remove(name).ok_or_else(|| Reject::NoSuchToken(name.clone()))?;
        self.index.token_hashes.remove(&old.hash);
        Ok(Outcome::Done)
    }

    fn drop_expired_tokens(&mut self) {
        let now = self.meta.now;
        let is_over = |token: &AccessToken| token.expires.is_some_and(|at| at <= now);
        let over = self.tokens.iter().filter(|(_, token)| is_over(token));
        for (name, hash) in over.map(|(name, t)| (name.clone(), t.hash)).collect::<Vec<_>>() {
            self.tokens.remove(&name);
            self.index.token_hashes.remove(&hash);
        }
    }

    pub(super) fn admit_node(
        &mut self,
        token: &TokenHash,
        store: u128,
        replaces: Option<NodeId>,
    ) -> Result<Outcome, Reject> {
        if self.token_by_hash(token).is_none() {
            return Err(Reject::NotAdmitted);
        }
        if store == 0 {
            return Err(invalid("store", "a store has a random id, never 0"));
        }
        // A node that did not hear the answer asks again.
        let known = self.index.stores.get(&store);
        if let Some((id, record)) = known.and_then(|id| Some((*id, self.nodes.get(id)?))) {
            return match record.retired {
                Some(_) => Err(Reject::NodeRetired(id)),
                None if record.replaces == replaces => Ok(Outcome::Node { node: id }),
                None => Err(invalid("replaces", format!("node {id} was let in otherwise before"))),
            };
        }
        if let Some(lost) = replaces {
            match self.nodes.get(&lost) {
                Some(record) if record.retired.is_some() => {
                    return Err(Reject::NodeRetired(lost));
                }
                None if lost != NodeId::FOUNDER => return Err(Reject::NoSuchNode(lost)),
                Some(_) | None => {}
            }
        }
        room_for("nodes", self.nodes.len() + 1, self.limits.nodes)?;
        let node = self.meta.last_node.max(NodeId::FOUNDER).next();
        self.meta.last_node = node;
        self.index.stores.insert(store, node);
        let admitted = self.meta.now;
        self.nodes.put(node, NodeRecord { store, admitted, replaces, retired: None });
        Ok(Outcome::Node { node })
    }

    pub(super) fn retire_node(&mut self, node: NodeId) -> Result<Outcome, Reject> {
        let now = self.meta.now;
        let mut record = match self.nodes.get(&node) {
            Some(record) => record.clone(),
            None if node == NodeId::FOUNDER => {
                NodeRecord { store: 0, admitted: now, replaces: None, retired: None }
            }
            None => return Err(Reject::NoSuchNode(node)),
        };
        if record.retired.is_none() {
            record.retired = Some(now);
            self.nodes.put(node, record);
            // What it could not open is nobody's concern any more.
            self.close_secrets(node, &[]);
        }
        Ok(Outcome::Done)
    }
}
