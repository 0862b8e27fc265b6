//! A node says which secrets it has no key for, so that everybody can be told why runs
//! wait while it leads.

use std::time::Duration;

use horai_core::ids::{Name, NodeId};
use horai_core::machine::command::{Actor, Command, Envelope};
use horai_core::machine::state::State;
use horai_raft::node::RaftNode;

use super::Keyring;

/// Between two looks at what the cluster believes.
const ROUND: Duration = Duration::from_secs(1);
/// How long one word of this node may take to be committed.
const LIMIT: Duration = Duration::from_secs(5);

/// Corrects what the cluster believes of this node whenever that is wrong, until dropped.
/// Reads the state again each time: a word that is lost is said again.
pub async fn announce(node: &RaftNode<State>, me: NodeId, keys: &Keyring) {
    let mut round = tokio::time::interval(ROUND);
    loop {
        round.tick().await;
        let Some(closed) = node.read(|state| to_say(state, me, keys)) else { continue };
        if let Some(first) = closed.first() {
            let (count, first) = (closed.len(), first.to_string());
            tracing::warn!(
                count,
                first,
                "keys of secrets are missing: runs that need them wait while this node leads, so \
                 add the key to secrets.key_file and start the node again"
            );
        }
        let actor = Actor::User(format!("node {me}"));
        let command = Command::CloseSecrets { node: me, closed };
        if let Err(error) = node.propose(&Envelope { actor, request: None, command }, LIMIT).await {
            tracing::debug!(%error, "the keys of this node are not known to the cluster yet");
        }
    }
}

/// The secrets that this node cannot open, if the cluster believes something else.
fn to_say(state: &State, me: NodeId, keys: &Keyring) -> Option<Vec<Name>> {
    let mut is_news = false;
    let mut closed = Vec::new();
    for (name, secret) in state.secrets_after(None) {
        let is_closed = !keys.has(secret.sealed.key);
        is_news |= is_closed != secret.closed_to.contains(&me);
        closed.extend(is_closed.then(|| name.clone()));
    }
    is_news.then_some(closed)
}

#[cfg(test)]
mod tests {
    use horai_core::machine::command::Entry;
    use horai_core::time::UtcMillis;

    use super::*;

    fn apply(state: &mut State, command: Command) {
        let actor = Actor::User("a".to_owned());
        let command = Envelope { actor, request: None, command };
        let index = state.applied_index() + 1;
        state.apply(Entry { index, now: UtcMillis(1), command: &command });
    }

    #[test]
    fn a_node_speaks_only_while_the_cluster_is_wrong_about_it() {
        let (mine, other) = (Keyring::of(&[[1; 32]]), Keyring::of(&[[2; 32]]));
        let (me, mut state) = (NodeId(3), State::default());
        assert_eq!(to_say(&state, me, &mine), None);
        for (name, keys) in [("a", &mine), ("b", &other)] {
            let name = Name::new(name).unwrap();
            let sealed = keys.seal(&name, "value").unwrap();
            let (description, expected) = (None, None);
            apply(&mut state, Command::PutSecret { name, sealed, description, expected });
        }
        let closed = to_say(&state, me, &mine).unwrap();
        assert_eq!(closed, [Name::new("b").unwrap()]);
        apply(&mut state, Command::CloseSecrets { node: me, closed });
        assert_eq!(to_say(&state, me, &mine), None);
        let both = Keyring::of(&[[1; 32], [2; 32]]);
        assert_eq!(to_say(&state, me, &both), Some(Vec::new()));
    }
}
