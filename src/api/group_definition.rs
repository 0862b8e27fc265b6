//! A group as a person writes it. What it lies in is not looked at: any path may be given
//! parameters, before a job lies there and after.

use std::collections::BTreeMap;

use horai_core::ids::GroupPath;
use horai_core::model::group::GroupDef;
use serde::{Deserialize, Serialize};

use super::definition_parts::params;
use crate::error::{ErrorCode, FieldError};

/// A group, as written; its path is in the address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupDefinition {
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What jobs in it get, and in the groups in it; nearer ones replace it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
}

impl GroupDefinition {
    /// Checks the definition.
    ///
    /// # Errors
    /// The first field that cannot be taken, with value and remedy.
    pub fn to_def(&self, path: &GroupPath) -> Result<GroupDef, FieldError> {
        let (length, most) = (self.description.len(), GroupDef::MAX_DESCRIPTION);
        if length > most {
            let (problem, remedy) =
                ("the description is too long", format!("write at most {most} bytes"));
            let value = format!("{length} bytes");
            return Err(FieldError::invalid("description", value, problem, remedy)
                .with_code(ErrorCode::TooLarge));
        }
        let (path, description) = (path.clone(), self.description.clone());
        Ok(GroupDef { path, description, params: params("params", &self.params)? })
    }
}
