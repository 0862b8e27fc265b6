//! What a job says of areas and of its batch key, as a person writes it.

use std::collections::BTreeSet;

use horai_core::model::area::Area;
use horai_core::model::batch::{BatchSpec, BatchUnit};
use horai_core::model::job::JobSpec;
use serde::{Deserialize, Serialize};

use super::definition_parts::{at_most, word, word_of};
use crate::error::FieldError;

/// The name of an area.
pub(super) fn area(field: &str, text: &str) -> Result<Area, FieldError> {
    Area::new(text).map_err(|_| {
        let remedy = "use 1 to 32 letters, digits, _ and -, such as EU";
        FieldError::invalid(field, text, "this is not the name of an area", remedy)
    })
}

/// Where a job has something to do.
pub(super) fn areas(given: &[String]) -> Result<BTreeSet<Area>, FieldError> {
    at_most("areas", given.len(), JobSpec::MAX_AREAS)?;
    let mut areas = BTreeSet::new();
    for (i, text) in given.iter().enumerate() {
        let field = format!("areas[{i}]");
        if !areas.insert(area(&field, text)?) {
            return Err(FieldError::invalid(field, text, "it is named twice", "name it once"));
        }
    }
    Ok(areas)
}

/// How the batch key of an action follows from its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchDefinition {
    /// What the time is cut to: `year`, `month`, `day`, `hour`, `minute`, `second`, or
    /// `other`: the action's own name.
    pub unit: String,
    /// How many units the time is moved before that; negative is earlier; default 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub offset: i32,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature is serde's
fn is_zero(value: &i32) -> bool {
    *value == 0
}

impl BatchDefinition {
    /// Checks the definition.
    ///
    /// # Errors
    /// The field that cannot be taken, with value and remedy.
    pub fn to_spec(&self) -> Result<BatchSpec, FieldError> {
        let unit = word("batch.unit", &self.unit, &BatchUnit::ALL)?;
        let most = unit.max_offset();
        if (-most..=most).contains(&self.offset) {
            return Ok(BatchSpec { unit, offset: self.offset });
        }
        let remedy = if most == 0 {
            "leave it out: there is nothing to count".to_owned()
        } else {
            format!("write -{most} to {most}")
        };
        let problem = "no time is moved so far";
        Err(FieldError::invalid("batch.offset", self.offset, problem, remedy))
    }

    /// The definition that means this.
    #[must_use]
    pub fn of_spec(spec: BatchSpec) -> Self {
        let unit = word_of(spec.unit, &BatchUnit::ALL).to_owned();
        Self { unit, offset: spec.offset }
    }
}

/// In a few words.
impl std::fmt::Display for BatchDefinition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.offset {
            0 => f.write_str(&self.unit),
            offset => write!(f, "{} {offset:+}", self.unit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_name_their_field() {
        let batch = |text: &str| serde_saphyr::from_str::<BatchDefinition>(text).unwrap();
        assert_eq!(batch("unit: day\noffset: -1").to_string(), "day -1");
        for (text, field) in [
            ("unit: week", "batch.unit"),
            ("unit: year\noffset: 1001", "batch.offset"),
            ("unit: other\noffset: 1", "batch.offset"),
            ("unit: day\noffset: -2147483648", "batch.offset"),
        ] {
            assert_eq!(batch(text).to_spec().unwrap_err().field, field, "{text}");
        }
        let given = |areas: &[&str]| -> Vec<String> {
            areas.iter().map(|area| (*area).to_owned()).collect()
        };
        assert_eq!(areas(&given(&["EU", "US"])).unwrap().len(), 2);
        assert_eq!(areas(&given(&["EU", "US", "EU"])).unwrap_err().field, "areas[2]");
        assert_eq!(areas(&given(&["EU", "U S"])).unwrap_err().field, "areas[1]");
        assert_eq!(areas(&given(&["A"; 33])).unwrap_err().field, "areas");
    }
}
