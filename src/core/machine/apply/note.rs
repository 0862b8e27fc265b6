//! Who did what to runs and actions: kept with their records, for history. Only what
//! the records do not tell by themselves is noted; nothing is decided by it.

use super::super::command::Actor;
use super::super::state::State;
use super::pause::by;
use crate::ids::ActionKey;
use crate::model::action::ActionState;
use crate::model::history::{Before, Cause, Note};
use crate::model::run::Run;

impl State {
    /// What somebody did in this command.
    pub(super) fn note(&self, actor: &Actor, cause: Cause) -> Note {
        Note { at: self.meta.now, by: by(actor), cause }
    }

    /// What follows by itself: the newest leader's doing.
    pub(super) fn own_note(&self, cause: Cause) -> Note {
        self.note(&Actor::Leader(self.meta.leader), cause)
    }

    /// What an action is, to be remembered when somebody says otherwise.
    pub(super) fn before(&self, key: ActionKey) -> Before {
        let action = self.actions.get(&key);
        Before {
            state: action.map_or(ActionState::Planned, |action| action.state),
            since: action.and_then(|action| action.finished),
            run: action.and_then(|action| action.run),
        }
    }

    /// The run of an action that somebody wants to be run: who that is.
    pub(super) fn note_asker(&self, key: ActionKey, run: &mut Run) {
        let notes = self.actions.get(&key).map(|action| &action.notes);
        let last = notes.and_then(|notes| notes.iter().next_back());
        if let Some(note) = last.filter(|note| note.cause.asks_for_a_run()) {
            run.notes.add(Note { cause: Cause::Asked, ..note.clone() });
        }
    }
}
