//! Worker groups as a person writes them: how a worker is chosen, and when it is too busy.

use horai_core::ids::Name;
use horai_core::model::worker_group::{Strategy, Thresholds, WorkerGroupDef};
use serde::{Deserialize, Serialize};

use super::definition_parts::{name, word, word_of};
use crate::error::{ErrorCode, FieldError};

/// A worker group, as written.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerGroupDefinition {
    /// Its name; may be left out where the address has it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `round_robin` (default), `random`, `least_loaded` or `sticky`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    /// Workers above these get nothing new; default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<ThresholdsDefinition>,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// How busy a worker may be and still get work.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThresholdsDefinition {
    /// Share of its memory in use, 0.001 to 1; default 0.7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<f64>,
    /// Load of the last minute for each core, 0.001 to 1000; default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
}

impl WorkerGroupDefinition {
    /// Checks the definition and fills in defaults.
    ///
    /// # Errors
    /// The first field that cannot be taken, with value and remedy.
    pub fn to_def(&self) -> Result<WorkerGroupDef, FieldError> {
        if self.description.len() > WorkerGroupDef::MAX_DESCRIPTION {
            let (problem, most) = ("the description is too long", WorkerGroupDef::MAX_DESCRIPTION);
            let value = format!("{} bytes", self.description.len());
            let remedy = format!("write at most {most} bytes");
            return Err(FieldError::invalid("description", value, problem, remedy)
                .with_code(ErrorCode::TooLarge));
        }
        Ok(WorkerGroupDef {
            name: name("name", &self.name)?,
            strategy: match self.strategy.as_deref() {
                Some(text) => word("strategy", text, &Strategy::ALL)?,
                None => Strategy::default(),
            },
            thresholds: self.thresholds.map(ThresholdsDefinition::to_def).transpose()?,
            description: self.description.clone(),
        })
    }

    /// A definition as a person would write it.
    #[must_use]
    pub fn of_def(def: &WorkerGroupDef) -> Self {
        let is_default = def.strategy == Strategy::default();
        Self {
            name: def.name.to_string(),
            strategy: (!is_default).then(|| word_of(def.strategy, &Strategy::ALL).to_owned()),
            thresholds: def.thresholds.map(ThresholdsDefinition::of_def),
            description: def.description.clone(),
        }
    }

    /// What a group is that has no definition.
    #[must_use]
    pub fn of_none(name: &Name) -> Self {
        Self { name: name.to_string(), ..Self::default() }
    }
}

impl ThresholdsDefinition {
    fn to_def(self) -> Result<Thresholds, FieldError> {
        let usual = Thresholds::default();
        Ok(Thresholds {
            memory_permille: match self.memory {
                Some(share) => permille("thresholds.memory", share, 1_000)?,
                None => usual.memory_permille,
            },
            load_permille: match self.load {
                Some(load) => permille("thresholds.load", load, Thresholds::MAX_LOAD_PERMILLE)?,
                None => usual.load_permille,
            },
        })
    }

    fn of_def(def: Thresholds) -> Self {
        let ratio = |permille: u32| Some(f64::from(permille) / 1_000.0);
        Self { memory: ratio(def.memory_permille), load: ratio(def.load_permille) }
    }
}

/// A decimal number as thousandths, of which there may be so many.
fn permille(field: &str, given: f64, most: u32) -> Result<u32, FieldError> {
    let thousandths = (given * 1_000.0).round();
    if thousandths >= 1.0 && thousandths <= f64::from(most) {
        // In range by the line above.
        return Ok(thousandths as u32);
    }
    let remedy = format!("write 0.001 to {}", f64::from(most) / 1_000.0);
    Err(FieldError::invalid(field, given, "no worker is measured so", remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rest: &str) -> Result<WorkerGroupDef, FieldError> {
        let text = format!("name: etl\n{rest}");
        serde_saphyr::from_str::<WorkerGroupDefinition>(&text).unwrap().to_def()
    }

    #[test]
    fn what_is_not_said_has_a_default_and_means_the_same_when_it_is_written() {
        let plain = read("").unwrap();
        assert_eq!((plain.strategy, plain.thresholds), (Strategy::RoundRobin, None));
        let limits = |rest: &str| {
            let Thresholds { memory_permille, load_permille } = read(rest).unwrap().thresholds?;
            Some((memory_permille, load_permille))
        };
        assert_eq!(limits("thresholds: {}"), Some((700, 1_000)));
        assert_eq!(limits("thresholds: {memory: 0.8255}"), Some((826, 1_000)));
        assert_eq!(limits("thresholds: {memory: 1, load: 2.5}"), Some((1_000, 2_500)));
        for text in ["", "strategy: sticky", "thresholds: {load: 3}\ndescription: d"] {
            let def = read(text).unwrap();
            assert_eq!(WorkerGroupDefinition::of_def(&def).to_def().unwrap(), def, "{text}");
        }
    }

    #[test]
    fn mistakes_name_their_field() {
        let long = format!("description: {}", "x".repeat(1_001));
        for (text, field) in [
            ("strategy: fastest", "strategy"),
            ("thresholds: {memory: 1.1}", "thresholds.memory"),
            ("thresholds: {memory: 0}", "thresholds.memory"),
            ("thresholds: {load: -1}", "thresholds.load"),
            ("thresholds: {load: .nan}", "thresholds.load"),
            ("thresholds: {load: 1001}", "thresholds.load"),
            (&long, "description"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.field, field, "{text}");
            assert!(!error.remedy.is_empty(), "{text}");
        }
    }
}
