//! The words of a Jinja text's tags, with their places, and bounds on them.
//!
//! The engine's parser and its values recurse: some thousand filters behind one another,
//! or lists in lists, overflow its stack, and that ends the process. So this reads a
//! text before the engine does and refuses what is longer or deeper than any script
//! needs; names are then checked on the same words. It follows the engine in where tags
//! begin and end, and leaves to it what is wrong with them.

use super::MAX_SIZE;
use super::error::{Fault, RAW, TemplateError};

/// Where a comment begins and ends; `{#` would be found in shell's `${#array[@]}`.
pub(super) const COMMENT: (&str, &str) = ("{%#", "#%}");

/// Words in one tag. An operator a word can be as many levels of recursion, of 1 KB each.
const MAX_WORDS: usize = 256;
/// Parentheses, brackets and braces in one another: 24 KB of stack each.
const MAX_PARENTHESES: usize = 12;
/// Blocks in one another: 10 KB of stack each.
const MAX_BLOCKS: usize = 16;
/// `elif` in all blocks that are open at one place: 3 KB of stack each.
const MAX_ELIFS: usize = 64;
/// Words in all tags that give a name to a value: each can put one more list around it.
const MAX_ASSIGNED: usize = 512;

/// What a word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word<'t> {
    /// A name or a keyword.
    Name(&'t str),
    /// A text as it stands between its quotes.
    Text(&'t str),
    /// A number.
    Number(&'t str),
    /// An operator or a parenthesis.
    Sign(&'t str),
}

/// A word at a place of the text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed<'t> {
    pub(super) word: Word<'t>,
    pub(super) at: usize,
}

/// What stands between `{{` and `}}`, or `{%` and `%}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag<'t> {
    /// True between `{%` and `%}`.
    pub(super) statement: bool,
    /// Where it begins, in bytes.
    pub(super) at: usize,
    pub(super) words: Vec<Placed<'t>>,
}

impl<'t> Tag<'t> {
    /// The word of that number, if it is there.
    pub(super) fn word(&self, number: usize) -> Option<Word<'t>> {
        self.words.get(number).map(|placed| placed.word)
    }

    /// True if the word of that number is this sign.
    pub(super) fn is_sign(&self, number: usize, sign: &str) -> bool {
        self.word(number) == Some(Word::Sign(sign))
    }

    /// The name that the word of that number is.
    pub(super) fn name(&self, number: usize) -> Option<&'t str> {
        match self.word(number)? {
            Word::Name(name) => Some(name),
            Word::Text(_) | Word::Number(_) | Word::Sign(_) => None,
        }
    }

    /// The word of a statement, such as `if`.
    pub(super) fn keyword(&self) -> Option<&'t str> {
        self.statement.then(|| self.name(0)).flatten()
    }
}

/// True if there is anything in the text to read.
pub(super) fn has_tags(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.windows(2).any(|pair| pair == b"{{" || pair == b"{%")
}

/// The tags of a text, without comments and what is raw.
///
/// # Errors
/// [`Fault::TooLarge`] beyond the bounds, [`Fault::Syntax`] for what cannot be bounded.
pub(super) fn tags(text: &str) -> Result<Vec<Tag<'_>>, TemplateError> {
    if text.len() > MAX_SIZE {
        let remedy = format!("write at most {MAX_SIZE} bytes");
        return Err(TemplateError::at(text, 0, Fault::TooLarge, "the text is too long", remedy));
    }
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(begin) = next_tag(text, at) {
        let rest = &text[begin..];
        if rest.starts_with(COMMENT.0) {
            let Some(end) = rest.find(COMMENT.1) else { break };
            at = begin + end + COMMENT.1.len();
            continue;
        }
        let statement = rest.starts_with("{%");
        let inner = begin + 2 + usize::from(rest[2..].starts_with(['-', '+']));
        if statement && let Some(raw) = basic_tag(&text[inner..], "raw") {
            let Some(end) = end_of_raw(text, inner + raw) else { break };
            at = end;
            continue;
        }
        let (words, end) = words(text, inner, statement)?;
        found.push(Tag { statement, at: begin, words });
        at = end;
    }
    bound(text, &found)?;
    Ok(found)
}

fn next_tag(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes().get(from..)?;
    let at = bytes.windows(2).position(|pair| pair == b"{{" || pair == b"{%")?;
    Some(from + at)
}

/// The length of a tag of one word, its end included.
fn basic_tag(inner: &str, word: &str) -> Option<usize> {
    let space = |text: &'_ str| text.len() - text.trim_ascii_start().len();
    let mut at = space(inner);
    inner[at..].starts_with(word).then(|| at += word.len())?;
    at += space(&inner[at..]);
    at += usize::from(inner[at..].starts_with(['-', '+']));
    inner[at..].starts_with("%}").then_some(at + 2)
}

fn end_of_raw(text: &str, from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += text[at..].find("{%")? + 2;
        let inner = at + usize::from(text[at..].starts_with(['-', '+']));
        if let Some(length) = basic_tag(&text[inner..], "endraw") {
            return Some(inner + length);
        }
    }
}

/// The words from a place to the end of their tag, and where that is.
fn words(
    text: &str,
    from: usize,
    statement: bool,
) -> Result<(Vec<Placed<'_>>, usize), TemplateError> {
    let end = if statement { "%}" } else { "}}" };
    let mut found = Vec::new();
    let mut depth = 0_isize;
    let mut at = from;
    loop {
        at += text[at..].len() - text[at..].trim_ascii_start().len();
        let rest = &text[at..];
        let signed = rest.strip_prefix(['-', '+']).is_some_and(|rest| rest.starts_with(end));
        if depth == 0 && (signed || rest.starts_with(end)) {
            return Ok((found, at + end.len() + usize::from(signed)));
        }
        let Some(word) = word(rest) else { return Ok((found, text.len())) };
        let (word, length) = word;
        depth += match word {
            Word::Sign("(" | "[" | "{") => 1,
            Word::Sign(")" | "]" | "}") => -1,
            Word::Sign(_) | Word::Name(_) | Word::Text(_) | Word::Number(_) => 0,
        };
        let deep = usize::try_from(depth).is_ok_and(|depth| depth > MAX_PARENTHESES);
        if deep || found.len() >= MAX_WORDS {
            let message = if deep {
                format!("more than {MAX_PARENTHESES} parentheses are open in one another")
            } else {
                format!("more than {MAX_WORDS} words are in one tag")
            };
            let remedy = format!("split it with {{% set %}}; {RAW}");
            return Err(TemplateError::at(text, at, Fault::TooLarge, message, remedy));
        }
        found.push(Placed { word, at });
        at += length;
    }
}

/// The first word, and its length in bytes; none at the end or if it does not end.
fn word(rest: &str) -> Option<(Word<'_>, usize)> {
    let first = rest.chars().next()?;
    let run = |more: fn(char) -> bool| rest.find(|c| !more(c)).unwrap_or(rest.len());
    if first.is_ascii_alphabetic() || first == '_' {
        let length = run(|c| c.is_ascii_alphanumeric() || c == '_');
        return Some((Word::Name(&rest[..length]), length));
    }
    if first.is_ascii_digit() {
        let mut length = run(|c| c.is_ascii_alphanumeric() || c == '_');
        let fraction = rest[length..].strip_prefix('.').unwrap_or_default();
        if fraction.starts_with(|c: char| c.is_ascii_digit()) {
            let more = fraction.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            length += 1 + more.unwrap_or(fraction.len());
        }
        return Some((Word::Number(&rest[..length]), length));
    }
    if first == '"' || first == '\'' {
        let mut escaped = false;
        let end = rest[1..].find(|c: char| {
            let closes = c == first && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        })?;
        return Some((Word::Text(&rest[1..=end]), end + 2));
    }
    let pairs = ["//", "**", "==", "!=", ">=", "<="];
    let length = match pairs.iter().any(|pair| rest.starts_with(pair)) {
        true => 2,
        false => first.len_utf8(),
    };
    Some((Word::Sign(&rest[..length]), length))
}

/// Refuses what could overflow the engine's stack.
fn bound(text: &str, tags: &[Tag<'_>]) -> Result<(), TemplateError> {
    let mut open: Vec<usize> = Vec::new();
    let (mut elifs, mut assigned) = (0, 0);
    let too_large = |tag: &Tag<'_>, message: String| {
        let remedy = "split the text, or compute it in the job itself";
        Err(TemplateError::at(text, tag.at, Fault::TooLarge, message, remedy))
    };
    for tag in tags {
        let Some(keyword) = tag.keyword() else { continue };
        let assigns = tag.words.iter().any(|placed| placed.word == Word::Sign("="));
        match keyword {
            "elif" => {
                elifs += 1;
                if let Some(own) = open.last_mut() {
                    *own += 1;
                }
            }
            _ if keyword.starts_with("end") => elifs -= open.pop().unwrap_or(0),
            "if" | "for" | "with" | "filter" | "autoescape" => open.push(0),
            "set" if !assigns => open.push(0),
            _ => {}
        }
        if keyword == "for" || assigns && (keyword == "set" || keyword == "with") {
            assigned += tag.words.len();
        }
        let recurses = |placed: &&Placed<'_>| placed.word == Word::Name("recursive");
        if keyword == "for"
            && let Some(word) = tag.words.iter().find(recurses)
        {
            let message = "loops that call themselves are not offered";
            let remedy = "write one loop in another";
            return Err(TemplateError::at(text, word.at, Fault::Syntax, message, remedy));
        }
        if open.len() > MAX_BLOCKS {
            return too_large(tag, format!("more than {MAX_BLOCKS} blocks are in one another"));
        }
        if elifs > MAX_ELIFS {
            return too_large(tag, format!("more than {MAX_ELIFS} `elif` are in one another"));
        }
        if assigned > MAX_ASSIGNED {
            let all = "`set`, `with` and `for`";
            return too_large(tag, format!("more than {MAX_ASSIGNED} words are in {all}"));
        }
    }
    Ok(())
}
