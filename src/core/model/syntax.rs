//! How a job's texts are read: as they are, or as templates. What templates mean is no
//! affair of the machine; it keeps which they are.

use serde::{Deserialize, Serialize};

/// How a job's script, arguments and variables are read.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub enum Syntax {
    /// As they are written.
    #[default]
    Plain,
    /// `{{ … }}` and `{% … %}`.
    Jinja,
    /// hera's `${…}`.
    Hera,
}

impl Syntax {
    /// The words in definitions.
    pub const ALL: [(&'static str, Self); 3] =
        [("jinja", Self::Jinja), ("hera", Self::Hera), ("none", Self::Plain)];

    /// True if something in a text would be replaced.
    #[must_use]
    pub fn marks(self, text: &str) -> bool {
        match self {
            Self::Plain => false,
            Self::Jinja => text.contains("{{") || text.contains("{%"),
            Self::Hera => text.contains("${"),
        }
    }
}
