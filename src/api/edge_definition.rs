//! A dependency as a person writes it: the name of a job, or a map that says more.

use std::fmt;

use horai_core::ids::{JobId, Name};
use horai_core::model::edge::{Condition, EdgeProblem, EdgeSpec, Matching, OnNoMatch};
use horai_core::model::job::JobSpec;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::definition_parts::{at_most, name, word, word_of};
use crate::error::{ErrorCode, FieldError};

/// One dependency, as written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EdgeDefinition {
    /// The upstream job's name.
    pub job: String,
    /// Which of its actions: `nearest` (default), `same_time`, `latest_before`,
    /// `all_in_period`, `previous_period` or `hera`.
    pub matching: Option<String>,
    /// True if there is one action for each of that job's.
    pub base: bool,
    /// `wait` or `skip`, where nothing matches.
    pub on_no_match: Option<String>,
    /// How it must end: `success` (default), `failure`, `done` or `skipped_ok`.
    pub condition: Option<String>,
    /// True if it must only be over, however it ends, and need not be at all.
    pub soft: bool,
}

/// The form with more than a name.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Map {
    job: String,
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    matching: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    base: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on_no_match: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    condition: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    soft: bool,
}

impl Serialize for EdgeDefinition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if *self == Self::of_job(&self.job) {
            return serializer.serialize_str(&self.job);
        }
        let Self { job, matching, base, on_no_match, condition, soft } = self.clone();
        Map { job, matching, base, on_no_match, condition, soft }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for EdgeDefinition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = EdgeDefinition;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a job, or a map with job and match, base, on_no_match, condition or soft")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<EdgeDefinition, E> {
                Ok(EdgeDefinition::of_job(name))
            }

            /// A name of digits alone, which YAML takes for a number.
            fn visit_u64<E: Error>(self, name: u64) -> Result<EdgeDefinition, E> {
                Ok(EdgeDefinition::of_job(&name.to_string()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EdgeDefinition, A::Error> {
                let map = Map::deserialize(MapAccessDeserializer::new(map))?;
                let Map { job, matching, base, on_no_match, condition, soft } = map;
                Ok(EdgeDefinition { job, matching, base, on_no_match, condition, soft })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// The job, and how it is matched where that is said.
impl fmt::Display for EdgeDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.job)?;
        let missing = self.on_no_match.as_ref().map(|word| format!("on_no_match: {word}"));
        let said = [
            self.matching.as_deref(),
            self.condition.as_deref(),
            self.base.then_some("base"),
            self.soft.then_some("soft"),
            missing.as_deref(),
        ];
        let said: Vec<&str> = said.into_iter().flatten().collect();
        if said.is_empty() { Ok(()) } else { write!(f, " ({})", said.join(", ")) }
    }
}

impl EdgeDefinition {
    /// A job of which no more is said.
    #[must_use]
    pub fn of_job(job: &str) -> Self {
        Self { job: job.to_owned(), ..Self::default() }
    }

    /// Checks the words; `field` is where it stands, `job` the number of its job.
    ///
    /// # Errors
    /// The first word that there is not, with those that there are.
    pub(super) fn to_spec(&self, field: &str, job: JobId) -> Result<EdgeSpec, FieldError> {
        let matching = self.matching.as_deref();
        let matching = matching.map(|text| word(&format!("{field}.match"), text, &Matching::ALL));
        let missing = self.on_no_match.as_deref();
        let missing =
            missing.map(|text| word(&format!("{field}.on_no_match"), text, &OnNoMatch::ALL));
        let condition = self.condition.as_deref();
        let condition =
            condition.map(|text| word(&format!("{field}.condition"), text, &Condition::ALL));
        Ok(EdgeSpec {
            job,
            matching: matching.transpose()?.unwrap_or_default(),
            base: self.base,
            on_no_match: missing.transpose()?,
            condition: condition.transpose()?.unwrap_or_default(),
            soft: self.soft,
        })
    }

    /// Writes an edge down; defaults are left out.
    pub(super) fn of_spec(edge: &EdgeSpec, job: String) -> Self {
        let is_said = edge.matching != Matching::default();
        Self {
            job,
            matching: is_said.then(|| word_of(edge.matching, &Matching::ALL).to_owned()),
            base: edge.base,
            on_no_match: edge.on_no_match.map(|word| word_of(word, &OnNoMatch::ALL).to_owned()),
            condition: (edge.condition != Condition::default())
                .then(|| word_of(edge.condition, &Condition::ALL).to_owned()),
            soft: edge.soft,
        }
    }
}

/// Checks a job's dependencies. `job_number` finds an upstream job's number by its name.
///
/// # Errors
/// The first field that cannot be taken, with value and remedy.
pub(super) fn edges(
    written: &[EdgeDefinition],
    job_number: impl Fn(&Name) -> Option<JobId>,
) -> Result<Vec<EdgeSpec>, FieldError> {
    at_most("depends_on", written.len(), JobSpec::MAX_EDGES)?;
    let mut edges: Vec<EdgeSpec> = Vec::with_capacity(written.len());
    for (i, edge) in written.iter().enumerate() {
        let field = format!("depends_on[{i}]");
        let upstream = name(&field, &edge.job)?;
        let job = job_number(&upstream).ok_or_else(|| {
            FieldError::invalid(
                &field,
                &upstream,
                "there is no such job",
                "apply the upstream job first, or correct the name",
            )
            .with_code(ErrorCode::MissingUpstream)
        })?;
        if edges.iter().any(|edge| edge.job == job) {
            return Err(FieldError::invalid(
                &field,
                &upstream,
                "the job is listed twice",
                "list each upstream job once",
            ));
        }
        edges.push(edge.to_spec(&field, job)?);
    }
    Ok(edges)
}

/// What is wrong among a job's dependencies, with what stands there.
pub(super) fn edge_error(written: &[EdgeDefinition], wrong: &EdgeProblem) -> FieldError {
    let dot = if wrong.field.is_empty() { "" } else { "." };
    let field = format!("depends_on[{}]{dot}{}", wrong.edge, wrong.field);
    let value = written.get(wrong.edge).map(ToString::to_string).unwrap_or_default();
    FieldError::invalid(field, value, wrong.problem, wrong.remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_stays_one_and_a_map_says_more() {
        for text in [
            r#""load""#,
            r#"{"job":"load","match":"previous_period"}"#,
            r#"{"job":"load","match":"all_in_period","base":true,"on_no_match":"skip"}"#,
        ] {
            let edge: EdgeDefinition = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&edge).unwrap(), text);
            let spec = edge.to_spec("e", JobId(7)).unwrap();
            assert_eq!(EdgeDefinition::of_spec(&spec, "load".to_owned()), edge);
            let yaml = serde_saphyr::to_string(&edge).unwrap();
            assert_eq!(serde_saphyr::from_str::<EdgeDefinition>(&yaml).unwrap(), edge, "{yaml}");
        }
        let plain: EdgeDefinition = serde_json::from_str(r#"{"job":"load"}"#).unwrap();
        assert_eq!(plain, EdgeDefinition::of_job("load"));
        assert_eq!(plain.to_spec("e", JobId(7)).unwrap(), EdgeSpec::new(JobId(7)));
    }

    #[test]
    fn mistakes_say_what_there_is() {
        let read = |text: &str| serde_json::from_str::<EdgeDefinition>(text);
        assert!(read("[]").unwrap_err().to_string().contains("the name of a job, or a map"));
        assert!(read(r#"{"job":"a","mtch":"x"}"#).unwrap_err().to_string().contains("mtch"));
        for (text, field) in [
            (r#"{"job":"a","match":"closest"}"#, "e.match"),
            (r#"{"job":"a","match":"latest_before","on_no_match":"run"}"#, "e.on_no_match"),
        ] {
            let error = read(text).unwrap().to_spec("e", JobId(7)).unwrap_err();
            assert_eq!(error.field, field);
            assert!(error.remedy.starts_with("write "), "{error:?}");
        }
    }
}
