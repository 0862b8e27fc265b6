//! The template engine, set up alike for every text, and its errors in our words.

use std::collections::BTreeSet;
use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior};

use super::error::{Fault, RAW, TemplateError, shown};
use super::scan::{COMMENT, Tag, Word};
use super::{MAX_SIZE, MAX_STEPS};

/// What one rendering may still use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    /// Bytes of text.
    pub(super) bytes: usize,
    /// Steps of the engine.
    pub(super) steps: u64,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { bytes: MAX_SIZE, steps: MAX_STEPS }
    }
}

/// An environment without anything that a text could use to see more than its values,
/// or to nest values without bound.
fn environment<'t>(steps: u64) -> Result<Environment<'t>, Error> {
    let mut engine = Environment::new();
    let syntax = SyntaxConfig::builder()
        .comment_delimiters(COMMENT.0, COMMENT.1)
        .keep_trailing_newline(true)
        .build()?;
    engine.set_syntax(syntax);
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    // Else errors would carry the values that were in reach.
    engine.set_debug(false);
    engine.set_fuel(Some(steps));
    for name in ["debug", "namespace"] {
        engine.remove_global(name);
    }
    Ok(engine)
}

/// Reads the text, and gives the names that it asks its context for.
pub(super) fn free_names(text: &str) -> Result<BTreeSet<String>, TemplateError> {
    let read = |error: Error| told(text, &[], &error, true, false);
    let engine = environment(MAX_STEPS).map_err(read)?;
    let template = engine.template_from_str(text).map_err(read)?;
    Ok(template.undeclared_variables(false).into_iter().collect())
}

/// Renders a text whose tags are within bounds, and takes what that uses from what is
/// allowed. `quotable` says whether an error may quote a value.
pub(super) fn render(
    text: &str,
    tags: &[Tag<'_>],
    values: Value,
    allowed: &mut Allowance,
    quotable: impl Fn() -> bool,
) -> Result<String, TemplateError> {
    let mut out = Bounded { text: Vec::new(), bytes: allowed.bytes, full: false };
    let engine =
        environment(allowed.steps).map_err(|error| told(text, tags, &error, false, false))?;
    let template = engine.template_from_str(text);
    let captured = template.and_then(|template| template.render_captured_to(values, &mut out));
    let levels = captured.map(|captured| captured.state().fuel_levels());
    let levels = levels.map_err(|error| told(text, tags, &error, quotable(), out.full))?;
    allowed.bytes = allowed.bytes.saturating_sub(out.text.len());
    allowed.steps = levels.map_or(0, |(_, remaining)| remaining);
    String::from_utf8(out.text).map_err(|_| {
        let message = "the text is not UTF-8 any more";
        TemplateError::at(text, 0, Fault::BadValue, message, "cut texts between characters")
    })
}

/// Takes so many bytes and no more.
struct Bounded {
    text: Vec<u8>,
    bytes: usize,
    full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if self.text.len() + more.len() > self.bytes {
            self.full = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.text.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn too_large() -> (Fault, String, String) {
    let remedy = format!("it may become {MAX_SIZE} bytes long, variables included");
    (Fault::TooLarge, "the text becomes too long".to_owned(), remedy)
}

/// An error of the engine in our words.
fn told(text: &str, tags: &[Tag<'_>], error: &Error, quotable: bool, full: bool) -> TemplateError {
    let range = error.range().unwrap_or_else(|| {
        // The engine counts lines in 16 bits, so this is for texts that have fewer.
        let line = error.line().unwrap_or(1).saturating_sub(1);
        let begin = text.split_inclusive('\n').take(line).map(str::len).sum();
        begin..begin
    });
    let begin = path_begin(tags, range.start).unwrap_or(range.start);
    let piece = shown(text.get(begin..range.end.min(text.len())).unwrap_or_default());
    let detail = shown(error.detail().unwrap_or_default());
    let quoted = if quotable && !detail.is_empty() { format!(": {detail}") } else { String::new() };
    let (fault, message, remedy) = match error.kind() {
        _ if full => too_large(),
        ErrorKind::WriteFailure => too_large(),
        ErrorKind::UndefinedError => {
            let message = format!("`{piece}` has no value");
            let remedy = "see that it is given, or write …|default(\"\") for what may be missing";
            (Fault::Undefined { name: piece }, message, remedy.to_owned())
        }
        ErrorKind::OutOfFuel => {
            let message = "rendering takes too long".to_owned();
            let remedy = format!("it may take {MAX_STEPS} steps: compute it in the job itself");
            (Fault::TooLong, message, remedy)
        }
        // Found in the text, before any value was read.
        ErrorKind::SyntaxError | ErrorKind::BadEscape => {
            (Fault::Syntax, format!("this is no template: {detail}"), RAW.to_owned())
        }
        // The word may be a value: `[1]|map(secrets.x)` asks for a filter of that name.
        ErrorKind::UnknownFilter
        | ErrorKind::UnknownTest
        | ErrorKind::UnknownFunction
        | ErrorKind::UnknownMethod => {
            let message = format!("`{piece}` asks for what there is not{quoted}");
            (Fault::Syntax, message, "see how it is spelt".to_owned())
        }
        _ => {
            let message = format!("`{piece}` cannot be computed{quoted}");
            (Fault::BadValue, message, "see what its values are".to_owned())
        }
    };
    TemplateError::at(text, begin, fault, message, remedy)
}

/// Where the path `a.b["c"].d` begins, one of whose later parts begins there.
fn path_begin(tags: &[Tag<'_>], at: usize) -> Option<usize> {
    let tag = tags.iter().rev().find(|tag| tag.at <= at)?;
    let mut number = tag.words.iter().position(|placed| placed.at == at)?;
    while matches!(tag.word(number), Some(Word::Sign("." | "["))) {
        number = number.checked_sub(1)?;
        while let Some(Word::Sign(close @ (")" | "]"))) = tag.word(number) {
            let open = if close == ")" { "(" } else { "[" };
            number = (0..number).rev().find(|earlier| tag.is_sign(*earlier, open))?;
            number = number.checked_sub(1)?;
        }
        // The name of an attribute: its dot comes before it.
        if number > 0 && tag.is_sign(number - 1, ".") {
            number -= 1;
        }
    }
    tag.words.get(number).map(|placed| placed.at)
}
