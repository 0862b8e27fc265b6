//! What a job says of its processes, as a person writes it: limits, user, umask, rlimits.

use std::collections::BTreeMap;
use std::fmt;

use horai_core::model::confinement::{Confinement, ConfinementProblem, Rlimit};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::FieldError;

/// Limits of all processes of an attempt together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsDefinition {
    /// Memory, such as `512MiB`; more is the end of a process (`oom_killed`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Scalar>,
    /// Cores, such as `1.5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Scalar>,
    /// Processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
}

impl LimitsDefinition {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A number or a text, as it is written: `100`, `1.5`, `512MiB`, `unlimited`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar(String);

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scalar {
    pub(super) fn of(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// What is a whole number goes out as one.
impl Serialize for Scalar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.parse::<u32>() {
            Ok(number) => serializer.serialize_u32(number),
            Err(_) => serializer.serialize_str(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;

        impl Visitor<'_> for Written {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a text such as 512MiB")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar(value.to_owned()))
            }
        }

        deserializer.deserialize_any(Written)
    }
}

/// What is written of a job's processes.
#[derive(Debug, Default)]
pub(super) struct Written<'a> {
    pub(super) limits: Option<&'a LimitsDefinition>,
    pub(super) run_as: Option<&'a str>,
    pub(super) umask: Option<&'a str>,
    pub(super) rlimits: Option<&'a BTreeMap<String, Scalar>>,
}

impl Written<'_> {
    /// Checks it.
    ///
    /// # Errors
    /// The first field that cannot be taken, with value and remedy.
    pub(super) fn to_spec(&self) -> Result<Confinement, FieldError> {
        let none = LimitsDefinition::default();
        let LimitsDefinition { memory, cpu, pids } = self.limits.unwrap_or(&none);
        let confinement = Confinement {
            memory: memory.as_ref().map(|text| size("limits.memory", text)).transpose()?,
            cpu: cpu.as_ref().map(cores).transpose()?,
            pids: *pids,
            run_as: self.run_as.map(str::to_owned),
            umask: self.umask.map(mask).transpose()?,
            rlimits: self.rlimits.map(rlimits).transpose()?.unwrap_or_default(),
        };
        match confinement.problem() {
            None => Ok(confinement),
            Some(ConfinementProblem { field, value, problem, remedy }) => {
                Err(FieldError::invalid(field, value, problem, remedy))
            }
        }
    }
}

const SIZE: &str = "write bytes, or a whole number with KiB, MiB, GiB or TiB, such as 512MiB";
/// Units of sizes, largest first.
const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];

/// Bytes.
fn size(field: &str, written: &Scalar) -> Result<u64, FieldError> {
    let text = written.0.as_str();
    let split = UNITS.iter().find_map(|(unit, bits)| Some((text.strip_suffix(unit)?, *bits)));
    let (number, bits) = split.unwrap_or((text, 0));
    let bytes = number.trim().parse::<u64>().ok().and_then(|n| n.checked_mul(1 << bits));
    bytes.ok_or_else(|| FieldError::invalid(field, text, "this is not a size", SIZE))
}

/// A size as it is best read.
fn sized(bytes: u64) -> Scalar {
    let fits = |(_, bits): &&(&str, u32)| bytes > 0 && bytes.is_multiple_of(1 << bits);
    match UNITS.iter().find(fits) {
        Some((unit, bits)) => Scalar(format!("{}{unit}", bytes >> bits)),
        None => Scalar(bytes.to_string()),
    }
}

/// Thousandths of a core.
fn cores(written: &Scalar) -> Result<u32, FieldError> {
    let text = written.0.as_str();
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let milli = (is_number(whole) && is_number(part) && part.len() <= 3 && !whole.is_empty())
        .then(|| format!("{whole}{part:0<3}").parse::<u32>().ok());
    milli.flatten().ok_or_else(|| {
        let problem = "this is not a number of cores";
        let remedy = "write a number with up to three decimals, such as 1.5";
        FieldError::invalid("limits.cpu", text, problem, remedy)
    })
}

fn cores_of(milli: u32) -> Scalar {
    let text = format!("{}.{:03}", milli / 1_000, milli % 1_000);
    Scalar(text.trim_end_matches('0').trim_end_matches('.').to_owned())
}

/// Octal, whether or not it begins with a zero: nobody writes one in another way.
fn mask(text: &str) -> Result<u32, FieldError> {
    let is_octal = (1..=4).contains(&text.len()) && text.bytes().all(|b| b"01234567".contains(&b));
    let bits = is_octal.then(|| u32::from_str_radix(text, 8).ok());
    bits.flatten().ok_or_else(|| {
        let problem = "this is not a umask";
        FieldError::invalid("umask", text, problem, "write octal digits, such as \"027\"")
    })
}

fn rlimits(written: &BTreeMap<String, Scalar>) -> Result<BTreeMap<Rlimit, u64>, FieldError> {
    let mut limits = BTreeMap::new();
    for (word, value) in written {
        let field = format!("rlimits.{word}");
        let Some((_, of)) = Rlimit::ALL.iter().find(|(known, _)| known == word) else {
            let known: Vec<&str> = Rlimit::ALL.iter().map(|(word, _)| *word).collect();
            let remedy = format!("write one of {}", known.join(", "));
            return Err(FieldError::invalid(field, value, "there is no such limit", remedy));
        };
        let number = match value.0.as_str() {
            "unlimited" => Confinement::UNLIMITED,
            _ if of.is_size() => size(&field, value)?,
            text => text.parse().map_err(|_| {
                let remedy = "write a whole number, or unlimited";
                FieldError::invalid(&field, text, "this is not a number", remedy)
            })?,
        };
        limits.insert(*of, number);
    }
    Ok(limits)
}

/// What is written of these: limits, user, umask and rlimits.
pub(super) fn of_spec(
    spec: &Confinement,
) -> (Option<LimitsDefinition>, Option<String>, Option<String>, BTreeMap<String, Scalar>) {
    let limits = LimitsDefinition {
        memory: spec.memory.map(sized),
        cpu: spec.cpu.map(cores_of),
        pids: spec.pids,
    };
    let value = |of: Rlimit, n: u64| match n {
        Confinement::UNLIMITED => Scalar("unlimited".to_owned()),
        n if of.is_size() => sized(n),
        n => Scalar(n.to_string()),
    };
    let rlimits = spec.rlimits.iter().map(|(of, n)| (of.word().to_owned(), value(*of, *n)));
    let umask = spec.umask.map(|mask| format!("{mask:03o}"));
    let limits = Some(limits).filter(|limits| !limits.is_empty());
    (limits, spec.run_as.clone(), umask, rlimits.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalar(text: &str) -> Scalar {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn sizes_and_cores_are_read_as_they_are_written() {
        for (text, bytes) in
            [("512MiB", 512 << 20), ("1GiB", 1 << 30), ("4096", 4096), ("3 KiB", 3 << 10)]
        {
            assert_eq!(size("f", &scalar(text)).unwrap(), bytes, "{text}");
        }
        for bad in ["512MB", "1.5GiB", "-1", "GiB", "99999999TiB", "x"] {
            assert_eq!(size("f", &scalar(bad)).unwrap_err().field, "f", "{bad}");
        }
        for (text, milli) in [("1.5", 1_500), ("2", 2_000), ("0.05", 50), ("'0.125'", 125)] {
            assert_eq!(cores(&scalar(text)).unwrap(), milli, "{text}");
            assert_eq!(cores(&cores_of(milli)).unwrap(), milli, "{text}");
        }
        for bad in ["-1", "1.2345", "two", "'.5'", "''"] {
            assert_eq!(cores(&scalar(bad)).unwrap_err().field, "limits.cpu", "{bad}");
        }
        for (text, bits) in [("027", 0o27), ("0022", 0o22), ("2", 2)] {
            assert_eq!(mask(text).unwrap(), bits, "{text}");
        }
        assert!(["8", "00022", "", "+2", "0o2"].iter().all(|bad| mask(bad).is_err()));
        assert_eq!(sized(1 << 30).0, "1GiB");
        assert_eq!(sized(1500 << 20).0, "1500MiB");
        assert_eq!(sized(0).0, "0");
    }

    #[test]
    fn each_mistake_names_its_field_and_a_remedy() {
        let cases = [
            ("limits: {memory: 1}", "limits.memory"),
            ("limits: {memory: 2000TiB}", "limits.memory"),
            ("limits: {cpu: 0.001}", "limits.cpu"),
            ("limits: {pids: 0}", "limits.pids"),
            ("umask: '1777'", "umask"),
            ("umask: 9", "umask"),
            ("run_as: a:b", "run_as"),
            ("run_as: ''", "run_as"),
            ("rlimits: {files: 1}", "rlimits.files"),
            ("rlimits: {nofile: 1k}", "rlimits.nofile"),
            ("rlimits: {core: 1x}", "rlimits.core"),
        ];
        for (text, field) in cases {
            let job = format!("name: a\nnoop: true\n{text}");
            let job: super::super::job_definition::JobDefinition =
                serde_saphyr::from_str(&job).unwrap();
            let error = job.to_spec(|_| None).unwrap_err();
            assert_eq!(error.field, field, "{text}: {error:?}");
            assert!(!error.remedy.is_empty(), "{text}");
        }
    }
}
