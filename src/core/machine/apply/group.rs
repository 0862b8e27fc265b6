//! Groups: their records, written and removed. Nothing else changes by that: what a group
//! gives its jobs is looked up when an attempt is sent.

use super::super::outcome::{Outcome, Reject};
use super::super::state::State;
use super::super::table::encode_onto;
use super::job::{check_params, check_revision};
use super::{at_most, room_for};
use crate::ids::{GroupPath, Revision};
use crate::model::group::{GroupDef, StoredGroup};

impl State {
    pub(super) fn put_group(
        &mut self,
        def: &GroupDef,
        expected: Option<Revision>,
    ) -> Result<Outcome, Reject> {
        let old = self.groups.shared(&def.path);
        check_revision(expected, old.as_deref().map_or(Revision(0), |group| group.revision))?;
        at_most("description", def.description.len(), GroupDef::MAX_DESCRIPTION)?;
        check_params("params", &def.params)?;
        at_most("definition", encode_onto(Vec::new(), def).len(), GroupDef::MAX_BYTES)?;
        if old.is_none() {
            room_for("groups", self.groups.len() + 1, self.limits.groups)?;
        }
        let updated = self.meta.now;
        let (revision, created) = match old.as_deref() {
            Some(old) if old.def == *def => {
                return Ok(Outcome::Group { revision: old.revision, changed: false });
            }
            Some(old) => (old.revision.next(), old.created),
            None => (Revision(1), updated),
        };
        let group = StoredGroup { def: def.clone(), revision, created, updated };
        self.groups.put(def.path.clone(), group);
        Ok(Outcome::Group { revision, changed: true })
    }

    pub(super) fn delete_group(
        &mut self,
        path: &GroupPath,
        expected: Option<Revision>,
    ) -> Result<Outcome, Reject> {
        let old = self.groups.get(path).ok_or_else(|| Reject::NoSuchGroup(path.clone()))?;
        check_revision(expected, old.revision)?;
        self.groups.remove(path);
        Ok(Outcome::Done)
    }
}
