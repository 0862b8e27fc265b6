//! What a Jinja text asks of a time, checked before there is one.

use horai_core::near;
use horai_core::time::UtcMillis;
use horai_core::timing::local::LocalTime;
use horai_core::timing::zone::Zone;

use super::error::{Fault, TemplateError, shown, suggest, write_one_of};
use super::patterns;
use super::scan::{Tag, Word};
use super::times::{self, ATTRIBUTES, METHODS, Takes, UNITS};

/// Follows `nominal.add(days=1).format("…")` from the name at that word.
pub(super) fn chain(text: &str, tag: &Tag<'_>, root: usize) -> Result<(), TemplateError> {
    let mut dot = root + 1;
    while tag.is_sign(dot, ".") {
        let (Some(name), Some(placed)) = (tag.name(dot + 1), tag.words.get(dot + 1)) else {
            return Ok(());
        };
        let takes = METHODS.iter().find(|(method, _)| *method == name).map(|(_, takes)| *takes);
        let called = tag.is_sign(dot + 2, "(");
        let takes = match takes {
            Some(takes) if called => takes,
            Some(_) => {
                let message = format!("`{name}` is called with parentheses");
                let fault = Fault::Syntax;
                return Err(TemplateError::at(
                    text,
                    placed.at,
                    fault,
                    message,
                    format!("write {name}(…)"),
                ));
            }
            None if !called && ATTRIBUTES.contains(&name) => return Ok(()),
            None => return Err(unknown(text, name, placed.at)),
        };
        let Some(end) = closing(tag, dot + 2) else { return Ok(()) };
        arguments(text, tag, (dot + 3, end), name, takes)?;
        if !takes.gives_time() {
            return Ok(());
        }
        dot = end + 1;
    }
    Ok(())
}

/// A method or an attribute that no time has.
fn unknown(text: &str, name: &str, at: usize) -> TemplateError {
    let methods: Vec<String> = METHODS.iter().map(|(method, _)| format!("{method}(…)")).collect();
    let all = || methods.iter().map(String::as_str).chain(ATTRIBUTES);
    let bare = METHODS.iter().map(|(method, _)| *method).chain(ATTRIBUTES);
    let near = near::hint(&near::near(name, bare));
    let remedy = near.unwrap_or_else(|| write_one_of(&all().collect::<Vec<_>>()));
    let message = format!("a time has no `{}`", shown(name));
    TemplateError::at(text, at, Fault::Undefined { name: shown(name) }, message, remedy)
}

/// The parenthesis that closes the one at that word.
fn closing(tag: &Tag<'_>, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    (open..tag.words.len()).find(|number| {
        match tag.word(*number) {
            Some(Word::Sign("(" | "[" | "{")) => depth += 1,
            Some(Word::Sign(")" | "]" | "}")) => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0
    })
}

/// The words between the parentheses, as far as they are written out.
fn arguments(
    text: &str,
    tag: &Tag<'_>,
    (begin, end): (usize, usize),
    method: &str,
    takes: Takes,
) -> Result<(), TemplateError> {
    let at = |number: usize| tag.words.get(number).map_or(tag.at, |placed| placed.at);
    let fault = |number, fault, message: String, remedy: String| {
        Err(TemplateError::at(text, at(number), fault, message, remedy))
    };
    let units = |all: &[&str]| format!("write days=1, or another of {}", all.join(", "));
    match takes {
        Takes::Units => {
            let mut next = begin;
            while next < end {
                let Some(name) = tag.name(next).filter(|_| tag.is_sign(next + 1, "=")) else {
                    let message = format!("`{method}` takes each number by its unit");
                    return fault(next, Fault::Syntax, message, units(&UNITS));
                };
                if !UNITS.contains(&name) {
                    let message = format!("`{method}` knows no `{}`", shown(name));
                    let remedy = suggest(name, UNITS, units);
                    return fault(next, Fault::Syntax, message, remedy);
                }
                next = argument_end(tag, next, end) + 1;
            }
            Ok(())
        }
        Takes::Nothing if begin < end => {
            let message = format!("`{method}` takes nothing");
            fault(begin, Fault::Syntax, message, format!("write {method}()"))
        }
        Takes::Nothing => Ok(()),
        Takes::Number | Takes::Start | Takes::Zone | Takes::Pattern if begin == end => {
            let wanted = match takes {
                Takes::Number => "1",
                Takes::Start => "\"day\"",
                Takes::Zone => "\"Europe/Berlin\"",
                _ => "\"yyyy-MM-dd\"",
            };
            let message = format!("`{method}` is told nothing");
            fault(begin, Fault::Syntax, message, format!("write as {method}({wanted})"))
        }
        Takes::Number => Ok(()),
        Takes::Start | Takes::Zone | Takes::Pattern => {
            let Some(Word::Text(given)) = tag.word(begin).filter(|_| begin + 1 == end) else {
                return Ok(());
            };
            // What is escaped is read by the engine alone.
            if given.contains('\\') {
                return Ok(());
            }
            let wrong = match takes {
                Takes::Start => times::start(given).err(),
                Takes::Zone => times::zone(given).err(),
                _ => pattern(given),
            };
            wrong.map_or(Ok(()), |(message, remedy)| fault(begin, Fault::BadValue, message, remedy))
        }
    }
}

/// The comma behind an argument, or the end.
fn argument_end(tag: &Tag<'_>, from: usize, end: usize) -> usize {
    let mut next = from;
    while next < end && !tag.is_sign(next, ",") {
        let opens = matches!(tag.word(next), Some(Word::Sign("(" | "[" | "{")));
        next = match closing(tag, next).filter(|_| opens) {
            Some(close) => close + 1,
            None => next + 1,
        };
    }
    next
}

/// What is wrong with a pattern, found by using it on some time.
fn pattern(given: &str) -> Option<times::Refusal> {
    let some = LocalTime::new(&Zone::UTC, UtcMillis(0))?;
    let error = patterns::format(&some, given).err()?;
    Some((error.message, error.remedy))
}
