//! Templates in scripts, arguments and variables: what they may say, what is wrong
//! with one, and what one attempt makes of it.
//!
//! A pure function of a text and of the values it is given: no clock, no I/O, no
//! globals. So a text renders alike on every node and at every attempt, a preview
//! shows what will run, and there is no `now` to name: a job that runs late or again
//! must see the time it stands for. Nothing here may hang or end a node: sizes, steps
//! and depths are bounded before the engine sees a text. Nothing here may show a
//! secret: values go into the rendered text alone, which says which it holds.
//!
//! # `syntax: jinja`
//!
//! Jinja by `minijinja`: `{{ expression }}`, `{% if %}`, `{% for %}`, `{% set %}`, filters
//! and tests. Comments are `{%# … #%}`, because shell's `${#array[@]}` holds Jinja's
//! own `{#`. A text without `{{` and `{%` is what it was. Names:
//!
//! - `nominal`, `due`: times in the job's zone, see [`times`];
//! - `job`, `action`, `run`, `attempt`: texts; `attempt.number` is a number;
//! - `batch`: the batch key, a text;
//! - `params.x`: of the run, its triggers, its job or a group, the nearest of them, as it
//!   is written; `vars.x`: of groups alone. `AREA.x` among either serves as `x` in that
//!   area, unless there is an `x` as near or nearer;
//! - `outputs.JOB.x`, `outputs["job-name"].x`: what upstream jobs put out;
//! - `state.x`: what the job's last run kept;
//! - `secrets.x`, `secrets["db-password"]`: the name is written out, never computed, so
//!   that whoever gives a run its parameters cannot choose a secret.
//!
//! Values of variables are templates too; those of params, outputs and state are not:
//! whoever may give those is not whoever wrote the job.
//!
//! # `syntax: hera`
//!
//! hera's `${key}`, `${zdt…}` and `${yesterday}`, see [`hera`].

mod context;
mod engine;
mod error;
pub mod hera;
mod jinja;
mod names;
mod patterns;
mod scan;
mod times_check;
pub mod times;
mod zdt;

#[cfg(test)]
mod hera_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use horai_core::model::syntax::Syntax;

pub use self::context::{Context, Secret};
pub use self::error::{Fault, TemplateError};
pub use self::names::Names;

/// The longest text, and the longest that one renders to, variables included: bytes.
pub const MAX_SIZE: usize = 1 << 20;

/// Steps of rendering: an operation each, and one for 64 bytes that are made.
pub const MAX_STEPS: u64 = 200_000;

/// A text with its values in place.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered<'t> {
    /// The text; borrowed if nothing was to be replaced.
    pub text: Cow<'t, str>,
    /// The secrets that rendering read, by name, whether or not they are in the text
    /// as they are: `secrets.x|upper` puts in what no search for the value finds.
    pub secrets: Vec<(String, Secret)>,
}

/// Without the text, which may hold secrets.
impl std::fmt::Debug for Rendered<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rendered")
            .field("bytes", &self.text.len())
            .field("secrets", &self.secrets)
            .finish_non_exhaustive()
    }
}

/// Says whether a text can be rendered, as far as that is known without its values.
///
/// # Errors
/// The first fault: syntax, names, filters, methods and arguments of times, patterns.
pub fn check(text: &str, syntax: Syntax, known: &Names) -> Result<(), TemplateError> {
    match syntax {
        Syntax::Jinja => names::check(text, known),
        Syntax::Hera => hera::check(text, known),
        Syntax::Plain => Ok(()),
    }
}

/// Parameters of a definition whose values lead back to themselves, where values may hold
/// texts; from the first to itself again.
#[must_use]
pub fn circle_of(params: &BTreeMap<String, String>, syntax: Syntax) -> Option<Vec<&str>> {
    match syntax {
        Syntax::Hera => hera::circle_in(params),
        Syntax::Plain | Syntax::Jinja => None,
    }
}

/// The names of the secrets that a text reads.
///
/// # Errors
/// If the text cannot be read; [`check`] gives the same error.
pub fn secrets_of(text: &str, syntax: Syntax) -> Result<BTreeSet<&str>, TemplateError> {
    match syntax {
        Syntax::Jinja => names::secrets(text),
        Syntax::Hera => Ok(hera::secrets(text).map(|(_, name)| name).collect()),
        Syntax::Plain => Ok(BTreeSet::new()),
    }
}

/// Puts the values of one attempt into a text.
///
/// # Errors
/// Why that cannot be done; the same text and values give the same error.
pub fn render<'t>(
    text: &'t str,
    syntax: Syntax,
    context: &Arc<Context>,
) -> Result<Rendered<'t>, TemplateError> {
    match syntax {
        Syntax::Jinja => jinja::render(text, context),
        Syntax::Hera => hera::render(text, context),
        Syntax::Plain => Ok(Rendered { text: Cow::Borrowed(text), secrets: Vec::new() }),
    }
}
