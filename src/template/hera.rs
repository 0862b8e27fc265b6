//! hera's `${…}`, as its scripts are written.
//!
//! - `${key}`: the run's parameter of that name, or else of `AREA.key`; or else the same
//!   of its groups' variables. Their values may hold `${…}` too; variables in a circle are
//!   refused.
//! - `${zdt.addDay(-1).format("yyyy-MM-dd")}`: the nominal time in the job's zone, moved and
//!   written. `add(field, n)` and `set(field, n)` take the numbers of Java's `Calendar`:
//!   1 year, 2 month (`set` from 0), 3 and 4 week, 5 to 7 day, 10 and 11 hour, 12 minute,
//!   13 second, 14 millisecond. `get(field)`, `getTime()` and `getMillis()` are numbers.
//! - `${yesterday}`: the day before, as `yyyyMMdd`.
//! - `${secret.x}`: a secret, but not in a value of a parameter: whoever may give those
//!   may not read it.
//!
//! What is not known stays as it is, because it may be the shell's. A text that begins
//! as `${zdt.` is nobody else's, so what is wrong in it is an error. Two of hera's words
//! are refused: `getNowMillis` and `getToday` say what time it is, and would differ when
//! the job runs late or again. Here `set` keeps the last day of a shorter month, where
//! Java goes on into the next one.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use horai_core::timing::local::{LocalTime, Shift};

use super::context::{Context, Used, in_area};
use super::error::{Fault, TemplateError};
use super::jinja::circle;
use super::names::{Names, no_secret};
use super::zdt::{self, chain};
use super::{MAX_SIZE, Rendered, patterns};

/// Values in one another.
const MAX_DEPTH: usize = 32;

/// `${` that one text is made of, those in values counted each time.
const MAX_PIECES: usize = 100_000;

/// The longest name of a value, in bytes.
const MAX_KEY: usize = 256;

/// What begins the name of a secret.
const SECRET: &str = "${secret.";

/// Says whether each `${zdt.…}` can be computed, and whether each secret is there.
pub(super) fn check(text: &str, known: &Names) -> Result<(), TemplateError> {
    bounded(text)?;
    if let Some(known) = &known.secrets {
        let missing = secrets(text).find(|(_, name)| !known.contains(*name));
        if let Some((at, name)) = missing {
            return Err(no_secret(text, at, name, known));
        }
    }
    let mut from = 0;
    while let Some(found) = text[from..].find(zdt::BEGIN) {
        from = chain(text, from + found)?.end;
    }
    Ok(())
}

/// The secrets that a text names, with the places where it does.
pub(super) fn secrets(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices(SECRET).filter_map(|(at, _)| {
        let inner = &text[at + 2..];
        let close = inner.bytes().take(MAX_KEY).position(|byte| byte == b'}')?;
        Some((at, &inner[SECRET.len() - 2..close]))
    })
}

/// Parameters whose values lead back to themselves, from the first to itself again; none
/// if there are no such ones. Names that an area has its own value for are left to the
/// run: what they lead to depends on where it is.
pub(super) fn circle_in(params: &BTreeMap<String, String>) -> Option<Vec<&str>> {
    let by_area: BTreeSet<&str> =
        params.keys().filter_map(|name| Some(name.split_once('.')?.1)).collect();
    let followed = |name: &str| !name.contains('.') && !by_area.contains(name);
    let named = |value: &str| {
        let inner = value.match_indices("${").map(|(at, _)| &value[at + 2..]);
        let names = inner.filter_map(|inner| Some(inner.split_once('}')?.0));
        let known = names.filter_map(|name| Some(params.get_key_value(name)?.0.as_str()));
        known.filter(|name| followed(name)).collect::<Vec<&str>>()
    };
    let mut done = BTreeSet::new();
    for first in params.keys().filter(|name| followed(name)) {
        let mut path = vec![first.as_str()];
        let mut ahead = vec![named(&params[first])];
        while let Some(next) = ahead.last_mut() {
            let Some(name) = next.pop() else {
                ahead.pop();
                done.extend(path.pop());
                continue;
            };
            if let Some(place) = path.iter().position(|open| *open == name) {
                path.drain(..place);
                path.push(name);
                return Some(path);
            }
            if !done.contains(name) {
                path.push(name);
                ahead.push(named(&params[name]));
            }
        }
    }
    None
}

/// Puts the values into the text.
pub(super) fn render<'t>(
    text: &'t str,
    context: &Arc<Context>,
) -> Result<Rendered<'t>, TemplateError> {
    bounded(text)?;
    let mut expansion = Expansion {
        context,
        used: Used::default(),
        out: String::new(),
        open: Vec::new(),
        pieces: 0,
        replaced: false,
    };
    if text.contains("${") {
        expansion.expand(text, Origin::Job)?;
    }
    let text = if expansion.replaced { Cow::Owned(expansion.out) } else { Cow::Borrowed(text) };
    Ok(Rendered { text, secrets: expansion.used.secrets(context) })
}

fn bounded(text: &str) -> Result<(), TemplateError> {
    if text.len() <= MAX_SIZE {
        return Ok(());
    }
    let remedy = format!("write at most {MAX_SIZE} bytes");
    Err(TemplateError::at(text, 0, Fault::TooLarge, "the text is too long", remedy))
}

/// Who wrote what is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Whoever wrote the job and its variables.
    Job,
    /// Whoever asked for the run, or what that names.
    Run,
}

/// What stands for a name.
enum Found<'c> {
    Text(&'c str, Origin),
    /// Put in as it is.
    Plain(Cow<'c, str>),
}

struct Expansion<'c> {
    context: &'c Context,
    used: Used,
    out: String,
    /// Names whose values are being read, the outermost first.
    open: Vec<String>,
    pieces: usize,
    replaced: bool,
}

impl<'c> Expansion<'c> {
    fn expand(&mut self, text: &str, origin: Origin) -> Result<(), TemplateError> {
        let mut at = 0;
        while let Some(found) = text[at..].find("${") {
            let begin = at + found;
            self.push(text, begin, &text[at..begin])?;
            self.pieces += 1;
            if self.pieces > MAX_PIECES {
                let remedy = format!("it may have {MAX_PIECES} places, those in values included");
                let message = "there is too much to replace";
                return Err(TemplateError::at(text, begin, Fault::TooLong, message, remedy));
            }
            if text[begin..].starts_with(zdt::BEGIN) {
                let chain = chain(text, begin)?;
                let written = chain.written(text, self.nominal())?;
                self.push(text, begin, &written)?;
                at = chain.end;
                self.replaced = true;
                continue;
            }
            let inner = &text[begin + 2..];
            let close = inner.bytes().take(MAX_KEY).position(|byte| byte == b'}');
            let key = close.map_or("", |close| &inner[..close]);
            let Some(value) = self.find(key, origin) else {
                // The shell's, perhaps with one of ours in it, as in ${a:-${b}}.
                self.push(text, begin, "${")?;
                at = begin + 2;
                continue;
            };
            self.replaced = true;
            self.value(text, begin, key, value)?;
            at = begin + 2 + key.len() + 1;
        }
        self.push(text, at, &text[at..])
    }

    fn value(
        &mut self,
        text: &str,
        begin: usize,
        key: &str,
        value: Found<'c>,
    ) -> Result<(), TemplateError> {
        let (value, origin) = match value {
            Found::Plain(value) => return self.push(text, begin, &value),
            Found::Text(value, origin) => (value, origin),
        };
        let own = self.open.iter().position(|open| open == key);
        self.open.push(key.to_owned());
        if own.is_some() || self.open.len() > MAX_DEPTH {
            return Err(circle(text, begin, &self.open[own.unwrap_or(0)..]));
        }
        self.expand(value, origin).map_err(|error| error.within(key, text, begin))?;
        self.open.pop();
        Ok(())
    }

    fn find(&self, key: &str, origin: Origin) -> Option<Found<'c>> {
        let context = self.context;
        let area = context.area.as_deref();
        let of_run = |value| Found::Text(value, Origin::Run);
        let of_job = |value| Found::Text(value, origin);
        // What is nearer goes first, under its own name or the area's.
        let param = in_area(&context.params, area, key).map(of_run);
        let var = || in_area(&context.vars, area, key).map(of_job);
        param.or_else(var).or_else(|| match key.strip_prefix("secret.") {
            Some(name) if origin == Origin::Job => {
                let secret = self.used.read(context, name)?;
                Some(Found::Plain(Cow::Borrowed(secret.expose())))
            }
            Some(_) => None,
            None if key == "yesterday" => {
                let day = self.nominal()?.shift(&Shift { days: -1, ..Shift::default() })?;
                patterns::java(&day, "yyyyMMdd").ok().map(|day| Found::Plain(Cow::Owned(day)))
            }
            None => None,
        })
    }

    fn nominal(&self) -> Option<LocalTime> {
        self.context.local(self.context.nominal)
    }

    fn push(&mut self, text: &str, at: usize, more: &str) -> Result<(), TemplateError> {
        if self.out.len() + more.len() > MAX_SIZE {
            let remedy = format!("it may become {MAX_SIZE} bytes long");
            let message = "the text becomes too long";
            return Err(TemplateError::at(text, at, Fault::TooLarge, message, remedy));
        }
        self.out.push_str(more);
        Ok(())
    }
}
