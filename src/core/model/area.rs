//! Areas: where a cluster stands, and where a job has something to do.
//!
//! Several clusters, one for each part of the world, may be given the same jobs. A job
//! that has nothing to do where it is counts as done, so that those behind it go on; a
//! parameter can have a value of its own for each area. Only names: what follows from
//! them is decided by [`crate::machine`] and [`super::params`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::checked_text;

/// An area's name: 1 to 32 of `A-Z a-z 0-9 _ -`, as it is written. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Area(Arc<str>);

/// Not the name of an area.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an area: use 1 to 32 letters, digits, _ and -, such as EU")]
pub struct AreaError(String);

impl Area {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 32;

    /// Checks the form.
    ///
    /// # Errors
    /// [`AreaError`] if `text` has another form.
    pub fn new(text: &str) -> Result<Self, AreaError> {
        if Self::is_name(text) {
            Ok(Self(Arc::from(text)))
        } else {
            Err(AreaError(text.chars().take(Self::MAX_LEN + 1).collect()))
        }
    }

    /// True if an area may be called so.
    #[must_use]
    pub fn is_name(text: &str) -> bool {
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(is_good)
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

checked_text! { Area, AreaError }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_keep_to_their_form() {
        for good in ["EU", "eu", "us-east_1", "0", &"x".repeat(32)] {
            assert_eq!(Area::new(good).unwrap().to_string(), good);
        }
        for bad in ["", "E U", "EU.x", "é", &"x".repeat(33)] {
            let error = Area::new(bad).unwrap_err().to_string();
            assert!(error.contains("such as EU"), "{error}");
        }
    }
}
