//! What a job takes of its worker, as a person writes it: `{slots: 2, memory: 2GiB, cpu: 1.5,
//! gpu: 1}`.

use std::collections::BTreeMap;
use std::fmt;

use horai_core::ids::Name;
use horai_core::model::resources::{Amounts, Bytes, Cores, Resources};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::definition_parts::name;
use crate::error::FieldError;

/// What each run takes, as written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ResourcesDefinition {
    /// Slots, 1 to 10,000; default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// Memory, such as `2GiB`, or a number of bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<BytesText>,
    /// Cores, such as `1.5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CoresNumber>,
    /// Anything that workers count, by name.
    #[serde(flatten)]
    pub counts: BTreeMap<String, u32>,
}

/// A number of bytes: written as a text, read from a number, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BytesText(pub Bytes);

/// A number of cores: written as a number, read from a text, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoresNumber(pub Cores);

impl Serialize for BytesText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for BytesText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_any(NumberOrText)?;
        text.parse().map(Self).map_err(de::Error::custom)
    }
}

impl Serialize for CoresNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0.0) / 1_000.0)
    }
}

impl<'de> Deserialize<'de> for CoresNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = deserializer.deserialize_any(NumberOrText)?;
        text.parse().map(Self).map_err(de::Error::custom)
    }
}

/// Takes a number as the text that it is written as.
struct NumberOrText;

impl de::Visitor<'_> for NumberOrText {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<String, E> {
        Ok(number.to_string())
    }
}

impl ResourcesDefinition {
    /// Checks it; none if it is one slot and nothing else, as if nothing were said.
    pub(super) fn to_spec(&self) -> Result<Option<Resources>, FieldError> {
        let slots = self.slots.unwrap_or(1);
        if !(1..=Resources::MAX_SLOTS).contains(&slots) {
            let remedy = format!("write 1 to {}", Resources::MAX_SLOTS);
            let problem = "no run takes so many slots";
            return Err(FieldError::invalid("resources.slots", slots, problem, remedy));
        }
        let counted = |(thing, count): (&String, &u32)| {
            Ok((name(&format!("resources.{thing}"), thing)?, *count))
        };
        let amounts = Amounts {
            memory: self.memory.map_or(0, |text| text.0.0),
            cpu: self.cpu.map_or(0, |cores| cores.0.0),
            counts: self.counts.iter().map(counted).collect::<Result<_, _>>()?,
        };
        if let Some((field, right)) = amounts.problem() {
            let (field, remedy) = (format!("resources.{field}"), format!("write {right}"));
            return Err(FieldError::invalid(field, "", "no worker has so much", remedy));
        }
        let resources = Resources { slots, amounts };
        Ok((!resources.is_plain()).then_some(resources))
    }

    /// As a person would write it.
    pub(super) fn of_spec(resources: &Resources) -> Self {
        let Amounts { memory, cpu, counts } = &resources.amounts;
        Self {
            slots: (resources.slots != 1).then_some(resources.slots),
            memory: (*memory > 0).then_some(BytesText(Bytes(*memory))),
            cpu: (*cpu > 0).then_some(CoresNumber(Cores(*cpu))),
            counts: counts.iter().map(|(name, count)| (name.to_string(), *count)).collect(),
        }
    }
}

impl ResourcesDefinition {
    /// What a worker has, or what of it is reserved: slots are said in any case.
    pub(super) fn exact(resources: &Resources) -> Self {
        Self { slots: Some(resources.slots), ..Self::of_spec(resources) }
    }
}

/// `2 slots, 2GiB of memory, 1.5 of CPU, 1 gpu`.
impl fmt::Display for ResourcesDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = |(name, count): (&String, &u32)| Some((Name::new(name).ok()?, *count));
        let amounts = Amounts {
            memory: self.memory.map_or(0, |text| text.0.0),
            cpu: self.cpu.map_or(0, |cores| cores.0.0),
            counts: self.counts.iter().filter_map(counted).collect(),
        };
        Resources { slots: self.slots.unwrap_or(1), amounts }.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Resources>, FieldError> {
        serde_saphyr::from_str::<ResourcesDefinition>(text).unwrap().to_spec()
    }

    #[test]
    fn it_is_read_as_it_is_written() {
        for text in ["{}", "{slots: 1}"] {
            assert_eq!(read(text).unwrap(), None, "{text}");
        }
        let whole = read("{slots: 2, memory: 2GiB, cpu: 1.5, gpu: 1}").unwrap().unwrap();
        assert_eq!(whole.to_string(), "2 slots, 2GiB of memory, 1.5 of CPU, 1 gpu");
        assert_eq!(read("{memory: 1048576}").unwrap(), read("{memory: 1MiB}").unwrap());
        assert_eq!(read("{cpu: 2}").unwrap(), read("{cpu: '2.0'}").unwrap());
        for text in ["{slots: 3, gpu: 2}", "{memory: 3MB, cpu: 0.025}"] {
            let spec = read(text).unwrap().unwrap();
            let written = ResourcesDefinition::of_spec(&spec);
            let json = serde_json::to_string(&written).unwrap();
            let again: ResourcesDefinition = serde_json::from_str(&json).unwrap();
            assert_eq!((again.to_spec().unwrap(), again), (Some(spec), written), "{json}");
        }
    }

    #[test]
    fn mistakes_name_their_field() {
        for (text, field) in [
            ("{slots: 0}", "resources.slots"),
            ("{slots: 10001}", "resources.slots"),
            ("{memory: 9999TiB}", "resources.memory"),
            ("{cpu: 100000}", "resources.cpu"),
            ("{gpu: 0}", "resources.gpu"),
            ("{GPU: 1}", "resources.GPU"),
        ] {
            assert_eq!(read(text).unwrap_err().field, field, "{text}");
        }
        for text in ["{memory: much}", "{memory: 1.5GiB}", "{cpu: -1}", "{cpu: 0.0001}", "{gpu: x}"]
        {
            assert!(serde_saphyr::from_str::<ResourcesDefinition>(text).is_err(), "{text}");
        }
    }
}
