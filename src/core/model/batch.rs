//! Batch keys: which stretch of data an action is about, in a word that people and
//! tables use, such as `2024-01-30` for what runs in the night after.
//!
//! Plain data; [`crate::timing::batch`] computes the key.

use serde::{Deserialize, Serialize};

/// How the key of an action follows from its nominal time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchSpec {
    /// What the time is cut to.
    pub unit: BatchUnit,
    /// How many units the time is moved before that; negative is earlier.
    pub offset: i32,
}

/// What a nominal time is cut to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BatchUnit {
    /// `2024`.
    Year,
    /// `2024-01`.
    Month,
    /// `2024-01-30`.
    Day,
    /// `2024-01-30 23`.
    Hour,
    /// `2024-01-30 23:59`.
    Minute,
    /// `2024-01-30 23:59:59`.
    Second,
    /// Nothing: the key is the action's own name, as where no batch is given.
    Other,
}

impl BatchUnit {
    /// Each with its word in definitions.
    pub const ALL: [(&'static str, Self); 7] = [
        ("year", Self::Year),
        ("month", Self::Month),
        ("day", Self::Day),
        ("hour", Self::Hour),
        ("minute", Self::Minute),
        ("second", Self::Second),
        ("other", Self::Other),
    ];

    /// How far a time may be moved in either direction, in units: about a thousand years
    /// of the longer ones, so that every key has a year of four digits.
    #[must_use]
    pub fn max_offset(self) -> i32 {
        match self {
            Self::Year => 1_000,
            Self::Month => 12_000,
            Self::Day | Self::Hour | Self::Minute | Self::Second => 100_000,
            Self::Other => 0,
        }
    }
}
