//! Amounts of what a machine has, as a worker's file says them: a number, a text, or `auto`
//! for whatever the machine has.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::{Deserializer, de};

/// An amount that was written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount<T>(pub T);

/// None if it is `auto`.
pub(super) fn read<'de, T, D>(deserializer: D) -> Result<Option<Amount<T>>, D::Error>
where
    T: FromStr,
    T::Err: fmt::Display,
    D: Deserializer<'de>,
{
    deserializer.deserialize_any(Reader(PhantomData))
}

struct Reader<T>(PhantomData<T>);

impl<T> de::Visitor<'_> for Reader<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    type Value = Option<Amount<T>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an amount, or \"auto\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        if text == "auto" {
            return Ok(None);
        }
        text.parse().map(|amount| Some(Amount(amount))).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        self.visit_str(&number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use horai_core::model::resources::{Bytes, Cores};

    use super::*;
    use crate::config::WorkerConfig;

    #[test]
    fn amounts_are_numbers_texts_or_whatever_there_is() {
        let read = |rest: &str| {
            let text = format!(
                "[worker]\nname = \"w\"\ndata_dir = \"d\"\nnodes = [\"n:1\"]\ntoken_file = \"t\"\n{rest}"
            );
            let config: Result<WorkerConfig, toml::de::Error> = toml::from_str(&text);
            config.map(|config| (config.worker.memory, config.worker.cpu))
        };
        let has = |memory: u64, cpu: u32| (Some(Amount(Bytes(memory))), Some(Amount(Cores(cpu))));
        assert_eq!(read("").unwrap(), (None, None));
        assert_eq!(read("memory = \"auto\"\ncpu = \"auto\"").unwrap(), (None, None));
        assert_eq!(read("memory = \"1GiB\"\ncpu = 7.5").unwrap(), has(1 << 30, 7_500));
        assert_eq!(read("memory = 1024\ncpu = \"2\"").unwrap(), has(1_024, 2_000));
        for bad in ["memory = \"much\"", "memory = -1", "cpu = 0.0001", "cpu = [1]"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
