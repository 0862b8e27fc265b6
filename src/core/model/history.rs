//! What people and others did to a run or an action, kept with its record.
//!
//! Only that. What the record of a normal run tells already is not written down
//! once more: [`crate::history`] reads both together. Most runs were touched by
//! nobody, so that their records say nothing here and take no room for it.

use serde::{Deserialize, Serialize};

use super::action::ActionState;
use crate::ids::{ActionKey, BackfillId, RunId};
use crate::time::UtcMillis;

/// The notes of one record: the first, and the latest of those after it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Notes(Option<Box<Kept>>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// Oldest first, at least one.
    notes: Vec<Note>,
    /// How many were dropped behind the first.
    left_out: u32,
}

impl Notes {
    /// The most that are kept of one run or action.
    pub const MAX: usize = 16;

    /// Adds one; of too many the second oldest gives way.
    pub fn add(&mut self, note: Note) {
        let kept = self.0.get_or_insert_with(|| Box::new(Kept { notes: Vec::new(), left_out: 0 }));
        if kept.notes.len() >= Self::MAX {
            kept.notes.remove(1);
            kept.left_out = kept.left_out.saturating_add(1);
        }
        kept.notes.push(note);
    }

    /// Those that are kept, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Note> {
        self.0.iter().flat_map(|kept| &kept.notes)
    }

    /// How many are missing between the first and the second.
    #[must_use]
    pub fn left_out(&self) -> u32 {
        self.0.as_ref().map_or(0, |kept| kept.left_out)
    }
}

/// Something that was done, when and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// When it was committed.
    pub at: UtcMillis,
    /// By whom, as people read it; at most 200 bytes.
    pub by: String,
    /// What.
    pub cause: Cause,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// Somebody asked for the run.
    Asked,
    /// Somebody asked for the end of the run.
    CancelAsked,
    /// The run is to end because another action of its job is to run in its place.
    Displaced(ActionKey),
    /// The job was deleted.
    JobDeleted,
    /// The action is run again.
    Recovered(Before),
    /// The action is run again with all that follows from this one.
    RecoveredBelow(ActionKey, Before),
    /// This upstream action has succeeded after all, and so the action is run again.
    Revived(ActionKey, Before),
    /// A back-fill runs the action again.
    Backfilled(BackfillId, Before),
    /// The action counts as a success without a run.
    Forced(Before),
    /// The action was skipped.
    Skipped(Before),
}

/// What an action was before somebody said otherwise. Its record forgets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// Where it stood.
    pub state: ActionState,
    /// Since when, if that was final.
    pub since: Option<UtcMillis>,
    /// Its run.
    pub run: Option<RunId>,
}

impl Cause {
    /// The word in API and CLI.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::CancelAsked => "cancel_asked",
            Self::Displaced(_) => "displaced",
            Self::JobDeleted => "job_deleted",
            Self::Recovered(_) => "recovered",
            Self::RecoveredBelow(..) => "super_recovered",
            Self::Revived(..) => "revived",
            Self::Backfilled(..) => "backfilled",
            Self::Forced(_) => "forced",
            Self::Skipped(_) => "skipped",
        }
    }

    /// What the action was before, if it was an action's.
    #[must_use]
    pub fn before(self) -> Option<Before> {
        match self {
            Self::Asked | Self::CancelAsked | Self::Displaced(_) | Self::JobDeleted => None,
            Self::Recovered(before)
            | Self::RecoveredBelow(_, before)
            | Self::Revived(_, before)
            | Self::Backfilled(_, before)
            | Self::Forced(before)
            | Self::Skipped(before) => Some(before),
        }
    }

    /// True if the next run of the action is somebody's wish.
    #[must_use]
    pub fn asks_for_a_run(self) -> bool {
        matches!(self, Self::Recovered(_) | Self::RecoveredBelow(..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(n: i64) -> Note {
        Note { at: UtcMillis(n), by: "ann".to_owned(), cause: Cause::CancelAsked }
    }

    #[test]
    fn the_first_note_and_the_latest_are_kept() {
        let mut notes = Notes::default();
        assert_eq!((notes.iter().count(), notes.left_out()), (0, 0));
        assert_eq!(postcard::to_stdvec(&notes).unwrap(), [0], "nothing takes next to no room");
        for n in 1..=20 {
            notes.add(note(n));
        }
        let kept: Vec<i64> = notes.iter().map(|note| note.at.0).collect();
        assert_eq!(kept.len(), Notes::MAX);
        assert_eq!((kept[0], kept[1], *kept.last().unwrap()), (1, 6, 20));
        assert_eq!(notes.left_out(), 4);
        let bytes = postcard::to_stdvec(&notes).unwrap();
        assert_eq!(postcard::from_bytes::<Notes>(&bytes).unwrap(), notes);
    }
}
