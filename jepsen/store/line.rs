//! A line that a job wrote itself, with numbers in every form that writers use.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::time::millis;

/// What a line of a witness says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Said {
    /// The job began.
    Start,
    /// It is alive.
    Tick,
    /// It is about to exit.
    End,
    /// It showed its fencing token to the resource.
    Token,
    /// A process that it left behind is alive.
    Child,
}

/// A line that a job wrote itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Line {
    /// What it says.
    pub(crate) e: Said,
    /// Wall clock, nanoseconds.
    pub(crate) utc_ns: i64,
    /// Monotonic nanoseconds.
    pub(crate) t: u64,
    /// Name of the job.
    pub(crate) job: String,
    /// `JOB@20261121T030000Z`; empty for a run by hand.
    pub(crate) action: String,
    /// Nominal time, RFC 3339.
    pub(crate) nominal: String,
    /// `r-17`.
    pub(crate) run: String,
    /// 2 of `r-17.2`.
    #[serde(deserialize_with = "attempt_number")]
    pub(crate) attempt: u32,
    /// Which part.
    #[serde(deserialize_with = "number")]
    pub(crate) shard: u64,
    /// Fencing token.
    #[serde(deserialize_with = "number")]
    pub(crate) token: u64,
    /// Where.
    pub(crate) worker: String,
    /// Process id.
    pub(crate) pid: u32,
    /// Boot id.
    pub(crate) boot: String,
    /// Exit code of an `end`.
    pub(crate) exit: Option<i32>,
    /// `first retry worker_lost`.
    pub(crate) cause: String,
    /// Whether the resource took a shown token.
    pub(crate) accepted: Option<bool>,
    /// The largest token that the resource had seen before.
    pub(crate) largest: Option<u64>,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            e: Said::Start,
            utc_ns: 0,
            t: 0,
            job: String::new(),
            action: String::new(),
            nominal: String::new(),
            run: String::new(),
            attempt: 1,
            shard: 0,
            token: 0,
            worker: String::new(),
            pid: 0,
            boot: String::new(),
            exit: None,
            cause: String::new(),
            accepted: None,
            largest: None,
        }
    }
}

impl Line {
    /// The nominal time in milliseconds, if the line has one that can be read.
    pub(crate) fn nominal_ms(&self) -> Option<i64> {
        millis(&self.nominal)
    }

    /// When it was written, in milliseconds of the wall clock.
    pub(crate) fn utc_ms(&self) -> i64 {
        self.utc_ns / 1_000_000
    }
}

/// A number, written as such or as text.
fn number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    match Value::deserialize(from)? {
        Value::Number(n) => n.as_u64().ok_or_else(|| serde::de::Error::custom("negative")),
        Value::String(text) => text.parse().map_err(serde::de::Error::custom),
        other => Err(serde::de::Error::custom(format!("{other} is no number"))),
    }
}

/// The number in `2`, `"2"`, `"r-17.2"`.
fn attempt_number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    match Value::deserialize(from)? {
        Value::Number(n) => {
            let number = n.as_u64().and_then(|n| u32::try_from(n).ok());
            number.ok_or_else(|| serde::de::Error::custom("no attempt number"))
        }
        Value::String(text) => {
            let last = text.rsplit('.').next().unwrap_or_default();
            last.parse().map_err(serde::de::Error::custom)
        }
        other => Err(serde::de::Error::custom(format!("{other} is no attempt"))),
    }
}
