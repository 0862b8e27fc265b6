//! Typed identities: what names a job, an action, a run, an attempt, a worker.
//!
//! Every id is its own type, so that a run number cannot be passed where a job
//! number is meant. Numbers come from counters in the replicated state and are
//! never reused; nothing here draws randomness or reads a clock.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::time::UtcMillis;

/// Declares a number that only the replicated state hands out.
macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        pub struct $name(pub u64);

        impl $name {
            /// The number that follows this one.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

/// Ways out of and into a type whose `new` checks a text: it is shown, read and stored
/// as that text. Its definition says `serde(try_from = "String", into = "String")`.
macro_rules! checked_text {
    ($name:ident, $error:ty) => {
        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0.as_ref().to_owned()
            }
        }
    };
}
pub(crate) use checked_text;

number_id! {
    /// A job's internal number; its name may change, this does not.
    JobId
}
number_id! {
    /// Counts a job's definitions from 1; 0 stands for "does not exist yet".
    Revision
}
number_id! {
    /// A request to execute, shown as `r-<n>`.
    RunId
}
number_id! {
    /// A back-fill's number, shown as `b-<n>`.
    BackfillId
}
number_id! {
    /// A worker's number, given when its name first attaches.
    WorkerId
}
number_id! {
    /// A fencing token: grows with every attempt and every lock grant, cluster-wide.
    Token
}
number_id! {
    /// A scheduler node's number, unique for the cluster's whole life.
    NodeId
}

impl NodeId {
    /// The node that founds a cluster: the only one that nobody lets in.
    pub const FOUNDER: Self = Self(1);
}

/// A committed leader: term and node as a pair, because openraft allows two
/// leaders of different nodes in one term. Ordered, and used as the fence that
/// workers keep.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct LeaderId {
    /// Raft term.
    pub term: u64,
    /// The node that leads in this term.
    pub node: NodeId,
}

impl fmt::Display for LeaderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.term, self.node)
    }
}

/// One version of a job: unique for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActionKey {
    /// Whose version this is.
    pub job: JobId,
    /// The instant it stands for, whatever the time it really runs.
    pub nominal: UtcMillis,
}

impl fmt::Display for ActionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}@{}", self.job, self.nominal.compact())
    }
}

/// One try of a run on one worker, shown as `r-<n>.<k>`, of a shard as
/// `r-<n>/<shard>.<k>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptKey {
    /// The run that is tried.
    pub run: RunId,
    /// One more than the index of its shard; 0 of a run that has no shards.
    pub shard: u32,
    /// Counts the tries of this shard from 1.
    pub number: u32,
}

impl AttemptKey {
    /// The index of its shard, if its run has shards.
    #[must_use]
    pub fn shard_index(self) -> Option<u32> {
        self.shard.checked_sub(1)
    }
}

impl fmt::Display for AttemptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shard_index() {
            None => write!(f, "r-{}.{}", self.run, self.number),
            Some(shard) => write!(f, "r-{}/{shard}.{}", self.run, self.number),
        }
    }
}

/// Why a text is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not of the form `[a-z0-9][a-z0-9._-]{0,127}`.
    #[error("{0:?} is not a name: use 1 to 128 of a-z 0-9 . _ - and begin with a letter or digit")]
    Name(String),
    /// Not of the form `r-<n>`.
    #[error("{0:?} is not a run: write it as r-17")]
    Run(String),
    /// Not names with slashes between.
    #[error("{0:?} is not a group: write names with slashes between, such as etl/nightly")]
    Group(String),
    /// Not of the form `r-<n>.<k>` or `r-<n>/<shard>.<k>`.
    #[error("{0:?} is not an attempt: write it as r-17.1")]
    Attempt(String),
}

/// Reads `r-<n>`.
pub fn parse_run(text: &str) -> Result<RunId, IdError> {
    let digits = text.strip_prefix("r-").ok_or_else(|| IdError::Run(text.to_owned()))?;
    parse_digits(digits).map(RunId).ok_or_else(|| IdError::Run(text.to_owned()))
}

/// `u64::from_str` also takes a plus sign; an id has digits only.
fn parse_digits<N: FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl FromStr for AttemptKey {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError::Attempt(text.to_owned());
        let (left, number) = text.rsplit_once('.').ok_or_else(wrong)?;
        let (run, shard) = match left.split_once('/') {
            None => (left, 0),
            Some((run, index)) => {
                let index = parse_digits::<u32>(index).ok_or_else(wrong)?;
                (run, index.checked_add(1).ok_or_else(wrong)?)
            }
        };
        Ok(Self {
            run: parse_run(run).map_err(|_| wrong())?,
            shard,
            number: parse_digits(number).ok_or_else(wrong)?,
        })
    }
}

/// A name that a person gives: of a job, a worker, a group, a lock.
/// `[a-z0-9][a-z0-9._-]{0,127}`; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

impl Name {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 128;

    /// Checks the form.
    ///
    /// # Errors
    /// [`IdError::Name`] if `text` has another form.
    pub fn new(text: &str) -> Result<Self, IdError> {
        let mut bytes = text.bytes();
        let first_is_good =
            bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let rest_is_good = bytes.all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-')
        });
        if first_is_good && rest_is_good && text.len() <= Self::MAX_LEN {
            Ok(Self(Arc::from(text)))
        } else {
            Err(IdError::Name(text.chars().take(Self::MAX_LEN + 1).collect()))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

checked_text! { Name, IdError }

/// A folder of jobs: names with slashes between, from the outermost on, 128
/// bytes in all. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GroupPath(Arc<str>);

impl GroupPath {
    /// Checks the form.
    ///
    /// # Errors
    /// [`IdError::Group`] if `text` has another form.
    pub fn new(text: &str) -> Result<Self, IdError> {
        let is_good = text.len() <= Name::MAX_LEN && text.split('/').all(|p| Name::new(p).is_ok());
        if is_good {
            Ok(Self(Arc::from(text)))
        } else {
            Err(IdError::Group(text.chars().take(Name::MAX_LEN + 1).collect()))
        }
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This group, the one it lies in, and so on to the outermost.
    pub fn and_above(&self) -> impl Iterator<Item = Self> {
        let slashes = self.0.rmatch_indices('/').map(|(at, _)| Self(Arc::from(&self.0[..at])));
        std::iter::once(self.clone()).chain(slashes)
    }

    /// True if it is `other` or lies in it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        let rest = self.0.strip_prefix(other.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

checked_text! { GroupPath, IdError }

/// A trigger's name inside its job: free text up to 200 bytes, because it
/// defaults to kind and text (`cron 0 0 3 * * ?`). Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TriggerName(pub Arc<str>);

impl TriggerName {
    /// The longest trigger name, in bytes.
    pub const MAX_LEN: usize = 200;
}

impl fmt::Display for TriggerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Random id that a worker keeps with its journal: a worker that lost its
/// journal comes back as another incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub u128);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_form() {
        for good in ["a", "0", "load.daily", "a_b-c.9", &"x".repeat(128)] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", ".a", "A", "a b", "ä", &"x".repeat(129)] {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn groups_lie_in_groups() {
        let group = |text| GroupPath::new(text).unwrap();
        let above: Vec<String> = group("a/b-1/c").and_above().map(String::from).collect();
        assert_eq!(above, ["a/b-1/c", "a/b-1", "a"]);
        assert!(group("a/b").is_within(&group("a")) && group("a").is_within(&group("a")));
        assert!(!group("a-b").is_within(&group("a")) && !group("a").is_within(&group("a/b")));
        for bad in ["", "/", "a/", "/a", "a//b", "A", &"x/".repeat(80)] {
            assert!(GroupPath::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn attempts_print_as_they_are_read() {
        for text in ["r-17.1", "r-17/3.2", "r-17/0.2"] {
            assert_eq!(text.parse::<AttemptKey>().unwrap().to_string(), text);
        }
        let first = "r-17/0.2".parse::<AttemptKey>().unwrap();
        assert_eq!(
            (first.shard_index(), "r-17.2".parse::<AttemptKey>().unwrap().shard_index()),
            (Some(0), None)
        );
        for bad in ["17.1", "r-17", "r-.1", "r-+1.1", "r-1.x", "r-1/.1", "r-1/4294967295.1", ""] {
            assert!(bad.parse::<AttemptKey>().is_err(), "{bad:?}");
        }
        assert_eq!(parse_run("r-9").unwrap(), RunId(9));
        assert!(parse_run("r-18446744073709551616").is_err());
    }
}
