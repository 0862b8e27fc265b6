//! What runs take of their workers, and what workers have: slots, memory, CPU, and anything
//! else that can be counted, such as `gpu`.
//!
//! As with pools there is no record that something was taken: it follows from the attempts
//! that are live. Nothing here limits a process: a job that says too little of itself takes
//! more than it has reserved.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::Name;

/// What a run takes of its worker while an attempt of it is live.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Resources {
    /// Slots, 1 to 10,000.
    pub slots: u32,
    /// All else.
    pub amounts: Amounts,
}

/// Amounts of what machines have beside slots. What is 0 is not asked for, or not there.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Amounts {
    /// Bytes of memory.
    pub memory: u64,
    /// Thousandths of a core.
    pub cpu: u32,
    /// Anything that can be counted, by name.
    pub counts: BTreeMap<Name, u32>,
}

/// What a run takes that says nothing of it.
impl Default for Resources {
    fn default() -> Self {
        Self::slots(1)
    }
}

impl Resources {
    /// The most slots that a run takes.
    pub const MAX_SLOTS: u32 = 10_000;
    /// The most of what is counted by name.
    pub const MAX_COUNT: u32 = 1_000_000;
    /// The most kinds of things that are counted by name.
    pub const MAX_COUNTS: usize = 32;
    /// The most memory, in bytes.
    pub const MAX_MEMORY: u64 = 1 << 50;
    /// The most CPU, in thousandths of a core.
    pub const MAX_CPU: u32 = 10_000_000;

    /// So many slots and nothing else.
    #[must_use]
    pub const fn slots(slots: u32) -> Self {
        Self { slots, amounts: Amounts { memory: 0, cpu: 0, counts: BTreeMap::new() } }
    }

    /// True if it is one slot and nothing else.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.slots == 1 && self.amounts.is_empty()
    }

    /// Adds what something takes.
    pub fn add(&mut self, more: &Self) {
        self.slots = self.slots.saturating_add(more.slots);
        self.amounts.change(&more.amounts, u64::saturating_add);
    }

    /// Takes away what something took.
    pub fn less(&mut self, gone: &Self) {
        self.slots = self.slots.saturating_sub(gone.slots);
        self.amounts.change(&gone.amounts, u64::saturating_sub);
    }

    /// What is missing of it where so much is free; nothing, if it fits.
    #[must_use]
    pub fn lacks(&self, free: &Self) -> Self {
        let Amounts { memory, cpu, counts } = &self.amounts;
        let short = |(name, wanted): (&Name, &u32)| {
            let free = free.amounts.counts.get(name).copied().unwrap_or(0);
            (*wanted > free).then(|| (name.clone(), wanted - free))
        };
        Self {
            slots: self.slots.saturating_sub(free.slots),
            amounts: Amounts {
                memory: memory.saturating_sub(free.amounts.memory),
                cpu: cpu.saturating_sub(free.amounts.cpu),
                counts: counts.iter().filter_map(short).collect(),
            },
        }
    }

    /// True if it is nothing at all.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.slots == 0 && self.amounts.is_empty()
    }
}

impl Amounts {
    /// True if nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.memory == 0 && self.cpu == 0 && self.counts.is_empty()
    }

    /// Adds or takes away; what is zero then has no entry.
    pub(crate) fn change(&mut self, by: &Self, how: fn(u64, u64) -> u64) {
        let narrow = |wide: u64| u32::try_from(wide).unwrap_or(u32::MAX);
        self.memory = how(self.memory, by.memory);
        self.cpu = narrow(how(self.cpu.into(), by.cpu.into()));
        for (name, count) in &by.counts {
            let old = self.counts.get(name).copied().unwrap_or(0);
            match narrow(how(old.into(), (*count).into())) {
                0 => drop(self.counts.remove(name)),
                count => drop(self.counts.insert(name.clone(), count)),
            }
        }
    }

    /// True if what is asked for is there beside what is used. What is not asked for may be
    /// used up, and more than that.
    #[must_use]
    pub fn fit(&self, has: &Self, used: &Self) -> bool {
        let is_there = |wanted: u64, has: u64, used: u64| {
            wanted == 0 || used.checked_add(wanted).is_some_and(|all| all <= has)
        };
        let count =
            |amounts: &Self, name: &Name| u64::from(amounts.counts.get(name).copied().unwrap_or(0));
        is_there(self.memory, has.memory, used.memory)
            && is_there(self.cpu.into(), has.cpu.into(), used.cpu.into())
            && self.counts.iter().all(|(name, wanted)| {
                is_there((*wanted).into(), count(has, name), count(used, name))
            })
    }

    /// The first that is too large, or has an impossible name, and what would be right.
    #[must_use]
    pub fn problem(&self) -> Option<(String, String)> {
        let wrong = |field: &str, most: String| Some((field.to_owned(), format!("at most {most}")));
        if self.memory > Resources::MAX_MEMORY {
            return wrong("memory", Bytes(Resources::MAX_MEMORY).to_string());
        }
        if self.cpu > Resources::MAX_CPU {
            return wrong("cpu", (Resources::MAX_CPU / 1_000).to_string());
        }
        if self.counts.len() > Resources::MAX_COUNTS {
            return wrong("counts", format!("{} names", Resources::MAX_COUNTS));
        }
        let is_wrong = |(_, count): &(&Name, &u32)| !(1..=Resources::MAX_COUNT).contains(*count);
        let (name, _) = self.counts.iter().find(is_wrong)?;
        Some((name.to_string(), format!("1 to {}", Resources::MAX_COUNT)))
    }
}

/// `2 slots, 2GiB of memory, 1.5 cores, 1 gpu`; what is 0 is left out.
impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Amounts { memory, cpu, counts } = &self.amounts;
        let many = |count: u32| if count == 1 { "" } else { "s" };
        let slots = (self.slots > 0).then(|| format!("{} slot{}", self.slots, many(self.slots)));
        let memory = (*memory > 0).then(|| format!("{} of memory", Bytes(*memory)));
        let cpu = (*cpu > 0).then(|| format!("{} of CPU", Cores(*cpu)));
        let counts = counts.iter().map(|(name, count)| format!("{count} {name}"));
        let parts: Vec<String> = slots.into_iter().chain(memory).chain(cpu).chain(counts).collect();
        f.write_str(if parts.is_empty() { "nothing" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

/// A number of bytes as people write it: `512MiB`, `2GB`, `1048576`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// The largest first: the first that divides a number is the one it is written with.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, size): &&(&str, u64)| self.0 > 0 && self.0.is_multiple_of(*size);
        let (unit, size) = UNITS.iter().find(fits).copied().unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / size)
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a number of bytes: write it as 512MiB or 2GiB");
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let unit = if unit.is_empty() { "B" } else { unit };
        let (_, size) = UNITS.iter().find(|(known, _)| *known == unit).ok_or_else(wrong)?;
        number.checked_mul(*size).map(Self).ok_or_else(wrong)
    }
}

/// Thousandths of a core as people write them: `1.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cores(pub u32);

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03}", self.0 / 1_000, self.0 % 1_000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl FromStr for Cores {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a number of cores: write it as 2 or 1.5");
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !is_number(whole) || !is_number(part) || part.len() > 3 {
            return Err(wrong());
        }
        let part: u32 = format!("{part:0<3}").parse().map_err(|_| wrong())?;
        let whole: u32 = whole.parse().map_err(|_| wrong())?;
        whole.checked_mul(1_000).and_then(|w| w.checked_add(part)).map(Self).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(slots: u32, memory: u64, cpu: u32, counts: &[(&str, u32)]) -> Resources {
        let counts = counts.iter().map(|(name, count)| (Name::new(name).unwrap(), *count));
        Resources { slots, amounts: Amounts { memory, cpu, counts: counts.collect() } }
    }

    #[test]
    fn what_is_taken_comes_back_and_what_is_missing_is_named() {
        let (gpu, none) = (some(2, 1 << 30, 1_500, &[("gpu", 1)]), Resources::slots(0));
        let mut used = none.clone();
        used.add(&gpu);
        used.add(&gpu);
        assert_eq!(used, some(4, 2 << 30, 3_000, &[("gpu", 2)]));
        used.less(&gpu);
        used.less(&gpu);
        assert_eq!(used, none, "a count of zero has no entry");
        let lacks = gpu.lacks(&some(9, 1 << 29, 1_500, &[("tape", 7)]));
        assert_eq!(lacks.to_string(), "512MiB of memory, 1 gpu");
        assert!(gpu.lacks(&gpu).is_nothing());
        assert_eq!(gpu.to_string(), "2 slots, 1GiB of memory, 1.5 of CPU, 1 gpu");
        assert_eq!(
            (Resources::default().to_string(), none.to_string()),
            ("1 slot".into(), "nothing".into())
        );
    }

    #[test]
    fn what_is_not_asked_for_may_be_used_up() {
        let has = some(0, 100, 1_000, &[("gpu", 2)]).amounts;
        let fits = |wanted: Resources, used: Resources| wanted.amounts.fit(&has, &used.amounts);
        assert!(fits(some(1, 0, 0, &[]), some(0, 900, 9_000, &[("gpu", 9)])));
        assert!(fits(some(1, 60, 400, &[("gpu", 1)]), some(0, 40, 600, &[("gpu", 1)])));
        for wanted in [some(1, 61, 0, &[]), some(1, 0, 401, &[]), some(1, 0, 0, &[("gpu", 2)])] {
            assert!(!fits(wanted, some(0, 40, 600, &[("gpu", 1)])));
        }
        assert!(!fits(some(1, 0, 0, &[("tape", 1)]), some(0, 0, 0, &[])));
        assert!(!fits(some(1, u64::MAX, 0, &[]), some(0, 1, 0, &[])));
    }

    #[test]
    fn sizes_print_as_they_are_read() {
        for text in ["0B", "1B", "1000B", "3kB", "7MB", "512MiB", "2GiB", "5GB", "1TiB"] {
            let bytes: Bytes = text.parse().unwrap();
            assert_eq!(bytes.to_string().parse::<Bytes>().unwrap(), bytes, "{text}");
        }
        assert_eq!(Bytes(2 << 30).to_string(), "2GiB");
        assert_eq!("1048576".parse::<Bytes>().unwrap().to_string(), "1MiB");
        for bad in ["", "GiB", "1.5GiB", "-1", "1 GiB", "2gib", "99999999TiB"] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
        for (text, cores) in [("0", 0), ("2", 2_000), ("1.5", 1_500), ("0.025", 25)] {
            assert_eq!(text.parse::<Cores>().unwrap(), Cores(cores));
            assert_eq!(Cores(cores).to_string(), text);
        }
        for bad in ["", ".5", "1.", "1.0005", "-1", "1e3", "5000000"] {
            assert!(bad.parse::<Cores>().is_err(), "{bad}");
        }
    }
}
