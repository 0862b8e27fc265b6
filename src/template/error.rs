//! What is wrong with a text, where, and how to mend it.
//!
//! No message may hold the value of a secret: messages name expressions as they are
//! written, and quote values only where no secret was read.

use horai_core::near;

/// Why a text cannot be rendered. Trying again unchanged gives the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (line {line}, column {column}): {remedy}")]
pub struct TemplateError {
    /// Of which kind.
    pub fault: Fault,
    /// The line in the text, from 1.
    pub line: u32,
    /// The column in the line, from 1, in characters.
    pub column: u32,
    /// What is wrong, in one sentence without its full stop.
    pub message: String,
    /// How to mend it.
    pub remedy: String,
}

/// Kinds of faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The text is not what its syntax allows, or uses a filter, a method or an
    /// argument that does not exist.
    Syntax,
    /// A name without a value.
    Undefined {
        /// As it is written, cut at 60 characters.
        name: String,
    },
    /// The text, or what it renders to, is longer than [`super::MAX_SIZE`], or it is
    /// nested too deep.
    TooLarge,
    /// Rendering takes more steps than [`super::MAX_STEPS`].
    TooLong,
    /// A value is not what an operation needs, such as a letter for a number.
    BadValue,
    /// Variables that refer to each other in a circle.
    Loop,
}

/// For whoever did not mean a template at all, such as with docker's `{{.ID}}`.
pub(super) const RAW: &str =
    "for braces that are not Horai's write {% raw %}…{% endraw %} around them, or `syntax: none`";

/// Longer pieces of a text are cut in messages, in characters.
const MAX_SHOWN: usize = 60;

impl TemplateError {
    /// At a place of the text, in bytes.
    pub(super) fn at(
        text: &str,
        offset: usize,
        fault: Fault,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (line, column) = place(text, offset);
        Self { fault, line, column, message: message.into(), remedy: remedy.into() }
    }

    /// What happened in a variable's value, told of where the variable is named.
    pub(super) fn within(mut self, variable: &str, text: &str, offset: usize) -> Self {
        // A circle names its variables.
        if self.fault != Fault::Loop {
            let place = format!("line {}, column {}", self.line, self.column);
            let variable = shown(variable);
            self.message = format!("in the variable `{variable}`, {place}: {}", self.message);
        }
        (self.line, self.column) = place(text, offset);
        self
    }
}

/// Line and column, from 1, of a byte of the text; behind its end is at its end.
fn place(text: &str, offset: usize) -> (u32, u32) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    (number(line), number(column))
}

/// A piece of the text for a message: on one line, and not too long.
pub(super) fn shown(piece: &str) -> String {
    let one_line = piece.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut cut: String = one_line.take(MAX_SHOWN + 1).collect();
    if let Some((end, _)) = cut.char_indices().nth(MAX_SHOWN) {
        cut.truncate(end);
        cut.push('…');
    }
    cut
}

/// "did you mean x?", or what may be written.
pub(super) fn suggest<'a>(
    wanted: &str,
    known: impl IntoIterator<Item = &'a str>,
    otherwise: impl FnOnce(&[&str]) -> String,
) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let near = near::near(wanted, known.iter().copied());
    near::hint(&near).unwrap_or_else(|| otherwise(&known))
}

/// "write a, b or c", of a short list.
pub(super) fn write_one_of(known: &[&str]) -> String {
    match known {
        [] => "take it out".to_owned(),
        [one] => format!("write {one}"),
        [most @ .., last] => format!("write {} or {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        for (offset, wanted) in [(0, (1, 1)), (2, (1, 2)), (3, (1, 3)), (4, (2, 1)), (99, (2, 3))] {
            assert_eq!(place("éa\nbc", offset), wanted, "{offset}");
        }
        // In the middle of a character.
        assert_eq!(place("éa", 1), (1, 1));
        assert_eq!(place("", 0), (1, 1));
    }

    #[test]
    fn long_pieces_are_cut_and_put_on_one_line() {
        assert_eq!(shown(" a\nb "), "a b");
        assert_eq!(shown(&"é".repeat(MAX_SHOWN)), "é".repeat(MAX_SHOWN));
        assert_eq!(shown(&"é".repeat(MAX_SHOWN + 1)), format!("{}…", "é".repeat(MAX_SHOWN)));
    }

    #[test]
    fn remedies_suggest_or_list() {
        assert_eq!(suggest("dy", ["day"], write_one_of), "did you mean day?");
        assert_eq!(suggest("qqqqq", ["day", "hour"], write_one_of), "write day or hour");
        assert_eq!(suggest("qqqqq", [], write_one_of), "take it out");
    }
}
