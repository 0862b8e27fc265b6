//! What can be said about a Jinja text before there are values: its syntax, its names,
//! and what it asks of times.

use std::collections::BTreeSet;

use super::error::{Fault, RAW, TemplateError, shown, suggest, write_one_of};
use super::scan::{Placed, Tag, Word, has_tags, tags};
use super::{engine, times_check};

/// What is known of the values that an attempt will have. None: nothing is.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// The parameters that a run can have.
    pub params: Option<BTreeSet<String>>,
    /// The variables that are inherited, `AREA.key` also under `key`.
    pub vars: Option<BTreeSet<String>>,
    /// The jobs whose outputs can be asked for.
    pub upstream: Option<BTreeSet<String>>,
    /// The secrets that the job may read.
    pub secrets: Option<BTreeSet<String>>,
    /// Whether the job keeps a state.
    pub state: Option<bool>,
}

/// The names that every text may use.
pub(super) const ROOTS: [&str; 12] = [
    "nominal", "due", "job", "action", "run", "attempt", "batch", "params", "vars", "outputs",
    "state", "secrets",
];

/// The functions that every text may call.
pub(super) const FUNCTIONS: [&str; 2] = ["range", "dict"];

/// Filters, for saying which there is when one is mistyped; a test compares them with
/// the engine's.
pub(super) const FILTERS: &str = "abs attr batch bool capitalize chain count d default dictsort \
    escape first float format groupby indent int items join last length lines list lower map max \
    min pprint reject rejectattr replace reverse round safe select selectattr slice sort split \
    string sum title tojson trim unique upper zip e";

/// Tests, likewise.
pub(super) const TESTS: &str = "boolean defined divisibleby endingwith eq equalto escaped even \
    false filter float ge greaterthan gt in int integer iterable le lessthan lower lt mapping ne \
    none number odd safe sameas sequence startingwith string test true undefined upper";

/// Words that are no names of values.
const KEYWORDS: [&str; 12] =
    ["and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False"];

/// Says whether the text is right as far as that is known.
pub(super) fn check(text: &str, known: &Names) -> Result<(), TemplateError> {
    if !has_tags(text) {
        return Ok(());
    }
    let tags = tags(text)?;
    let free = engine::free_names(text)?;
    let checker = Checker { text, known, free, own: own_names(&tags), asked: asked(&tags) };
    tags.iter().try_for_each(|tag| checker.tag(tag))
}

/// The secrets that a text names.
pub(super) fn secrets(text: &str) -> Result<BTreeSet<&str>, TemplateError> {
    let mut found = BTreeSet::new();
    // Most texts name none, and need not be read for that.
    if has_tags(text) && text.contains("secrets") {
        for tag in &tags(text)? {
            for number in 0..tag.words.len() {
                if tag.name(number) == Some("secrets")
                    && is_value(tag, number)
                    && let Key::Known(name, _) = key(tag, number)
                {
                    found.insert(name);
                }
            }
        }
    }
    Ok(found)
}

/// A text names a secret that is not there.
pub(super) fn no_secret(
    text: &str,
    at: usize,
    name: &str,
    known: &BTreeSet<String>,
) -> TemplateError {
    let name = shown(name);
    let message = format!("there is no secret `{name}`");
    let remedy = suggest(&name, known.iter().map(String::as_str), |_| {
        format!("make it: horai secret set {name}, or correct the name")
    });
    let name = format!("secrets[\"{name}\"]");
    TemplateError::at(text, at, Fault::Undefined { name }, message, remedy)
}

/// What a name is followed by that names one of its values: `.key` or `["key"]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key<'t> {
    /// This one; the number is that of the word behind.
    Known(&'t str, usize),
    /// One that is computed.
    Computed,
    /// It is used as a whole.
    Whole,
}

/// What the name at that word is asked for.
pub(super) fn key<'t>(tag: &Tag<'t>, root: usize) -> Key<'t> {
    if tag.is_sign(root + 1, ".") {
        return tag.name(root + 2).map_or(Key::Computed, |name| Key::Known(name, root + 3));
    }
    if !tag.is_sign(root + 1, "[") {
        return Key::Whole;
    }
    match tag.word(root + 2) {
        // An escaped character would have to be read as the engine does.
        Some(Word::Text(text)) if tag.is_sign(root + 3, "]") && !text.contains('\\') => {
            Key::Known(text, root + 4)
        }
        _ => Key::Computed,
    }
}

/// True if the word of that number names a value, not an attribute, a filter or an
/// argument.
pub(super) fn is_value(tag: &Tag<'_>, number: usize) -> bool {
    let Some(name) = tag.name(number) else { return false };
    let before = number.checked_sub(1);
    let after = |sign: &str| before.is_some_and(|before| tag.is_sign(before, sign));
    let argument = tag.is_sign(number + 1, "=") && (after("(") || after(","));
    let tested = before.and_then(|before| tag.name(before)).is_some_and(|word| word == "is");
    let keyword = tag.statement && number == 0;
    !(after(".") || after("|") || argument || tested || keyword || KEYWORDS.contains(&name))
}

/// Names that the text itself gives to values, anywhere.
fn own_names<'t>(tags: &[Tag<'t>]) -> BTreeSet<&'t str> {
    let mut own = BTreeSet::new();
    for tag in tags {
        let names = |words: &[Placed<'t>]| -> Vec<&'t str> {
            words
                .iter()
                .filter_map(|placed| match placed.word {
                    Word::Name(name) => Some(name),
                    Word::Text(_) | Word::Number(_) | Word::Sign(_) => None,
                })
                .collect()
        };
        let until = |end: Word<'_>| {
            let stop = tag.words.iter().position(|placed| placed.word == end);
            stop.unwrap_or(tag.words.len())
        };
        match tag.keyword() {
            Some("set") => own.extend(names(&tag.words[1..until(Word::Sign("=")).max(1)])),
            Some("for") => own.extend(names(&tag.words[1..until(Word::Name("in")).max(1)])),
            Some("with") => {
                let given = (1..tag.words.len()).filter(|number| tag.is_sign(number + 1, "="));
                own.extend(given.filter_map(|number| tag.name(number)));
            }
            _ => {}
        }
    }
    own
}

/// Values that the text asks for with `is defined` or gives a default, anywhere: those
/// may be missing.
fn asked<'t>(tags: &[Tag<'t>]) -> BTreeSet<(&'t str, &'t str)> {
    let mut asked = BTreeSet::new();
    for tag in tags {
        for number in 0..tag.words.len() {
            let Some(root) = tag.name(number) else { continue };
            let Key::Known(key, behind) = key(tag, number) else { continue };
            let defaulted =
                tag.is_sign(behind, "|") && matches!(tag.name(behind + 1), Some("default" | "d"));
            let word = behind + 1 + usize::from(tag.name(behind + 1) == Some("not"));
            let tested = tag.name(behind) == Some("is")
                && matches!(tag.name(word), Some("defined" | "undefined"));
            if defaulted || tested {
                asked.insert((root, key));
            }
        }
    }
    asked
}

struct Checker<'t> {
    text: &'t str,
    known: &'t Names,
    /// Names that the engine will ask the context for.
    free: BTreeSet<String>,
    own: BTreeSet<&'t str>,
    asked: BTreeSet<(&'t str, &'t str)>,
}

impl<'t> Checker<'t> {
    fn tag(&self, tag: &Tag<'t>) -> Result<(), TemplateError> {
        for (number, placed) in tag.words.iter().enumerate() {
            let Word::Name(name) = placed.word else { continue };
            let piped = number > 0 && tag.is_sign(number - 1, "|");
            if piped || (number == 1 && tag.keyword() == Some("filter")) {
                self.word("filter", name, placed.at, FILTERS)?;
            }
            let negated = number > 1 && tag.name(number - 1) == Some("not");
            let asks = number.checked_sub(if negated { 2 } else { 1 });
            if asks.is_some_and(|asks| tag.name(asks) == Some("is")) && name != "not" {
                self.word("test", name, placed.at, TESTS)?;
            }
            if is_value(tag, number) {
                self.value(tag, number, name)?;
            }
        }
        Ok(())
    }

    /// A filter or a test.
    fn word(&self, kind: &str, name: &str, at: usize, known: &str) -> Result<(), TemplateError> {
        if known.split(' ').any(|known| known == name) {
            return Ok(());
        }
        let message = format!("there is no {kind} `{}`", shown(name));
        let remedy = suggest(name, known.split(' '), |_| format!("take it out; {RAW}"));
        Err(TemplateError::at(self.text, at, Fault::Syntax, message, remedy))
    }

    fn undefined(
        &self,
        at: usize,
        name: String,
        message: String,
        remedy: String,
    ) -> Result<(), TemplateError> {
        Err(TemplateError::at(self.text, at, Fault::Undefined { name }, message, remedy))
    }

    fn value(&self, tag: &Tag<'t>, number: usize, name: &str) -> Result<(), TemplateError> {
        let at = tag.words[number].at;
        if name == "secrets" {
            // Nothing else has this name, and secrets have no other, by which one could be
            // read unnoticed.
            return self.secret(key(tag, number), at);
        }
        if !self.free.contains(name) || FUNCTIONS.contains(&name) {
            return Ok(());
        }
        if !ROOTS.contains(&name) {
            let message = format!("`{}` is not known", shown(name));
            let dashed = number > 1
                && tag.is_sign(number - 1, "-")
                && tag.words[..number].iter().any(|word| word.word == Word::Name("outputs"));
            let remedy = if dashed {
                "for a job whose name has a dash write outputs[\"the-job\"].key".to_owned()
            } else {
                suggest(name, ROOTS.into_iter().chain(FUNCTIONS), |all| {
                    format!("{}; {RAW}", write_one_of(all))
                })
            };
            return self.undefined(at, shown(name), message, remedy);
        }
        if self.own.contains(name) {
            return Ok(());
        }
        if name == "outputs" {
            self.dashed(tag, number, at)?;
        }
        let key = key(tag, number);
        match name {
            "nominal" | "due" => times_check::chain(self.text, tag, number),
            "params" => self.key(name, key, at, "parameter", self.known.params.as_ref()),
            "vars" => self.key(name, key, at, "variable", self.known.vars.as_ref()),
            "outputs" => self.key(name, key, at, "upstream job", self.known.upstream.as_ref()),
            "state" if self.known.state == Some(false) => {
                let message = "the job keeps no state".to_owned();
                let remedy = "add keep_state: true to the job".to_owned();
                self.undefined(at, name.to_owned(), message, remedy)
            }
            "attempt" => self.attempt(key, at),
            "job" | "action" | "run" | "batch" => self.plain(name, key, at),
            _ => Ok(()),
        }
    }

    /// One of values whose names are known.
    fn key(
        &self,
        root: &str,
        key: Key<'_>,
        at: usize,
        kind: &str,
        known: Option<&BTreeSet<String>>,
    ) -> Result<(), TemplateError> {
        let (Key::Known(key, _), Some(known)) = (key, known) else { return Ok(()) };
        // `vars.items` and the like are no methods: values are found first.
        if known.contains(key) || self.asked.contains(&(root, key)) {
            return Ok(());
        }
        let plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let key_shown = shown(key);
        let name = if plain { format!("{root}.{key}") } else { format!("{root}[\"{key_shown}\"]") };
        let message = format!("there is no {kind} `{key_shown}`");
        let remedy = suggest(key, known.iter().map(String::as_str), |_| match root {
            "outputs" => format!("add `{key_shown}` to depends_on"),
            "params" => format!("declare it in params, or write {name}|default(\"\")"),
            _ => format!("declare it, or write {name}|default(\"\")"),
        });
        self.undefined(at, name, message, remedy)
    }

    /// `outputs.the-job.key`, which is read as a difference.
    fn dashed(&self, tag: &Tag<'t>, root: usize, at: usize) -> Result<(), TemplateError> {
        let (Some(jobs), Key::Known(first, mut behind)) = (&self.known.upstream, key(tag, root))
        else {
            return Ok(());
        };
        if jobs.contains(first) || !tag.is_sign(root + 1, ".") {
            return Ok(());
        }
        let mut name = first.to_owned();
        while tag.is_sign(behind, "-")
            && let Some(Word::Name(part) | Word::Number(part)) = tag.word(behind + 1)
        {
            name.push('-');
            name.push_str(part);
            behind += 2;
            if jobs.contains(&name) {
                let wanted = format!("outputs[\"{name}\"]");
                let message =
                    format!("`{}` is a difference, not a job", shown(&format!("outputs.{name}")));
                return self.undefined(at, wanted.clone(), message, format!("write {wanted}"));
            }
        }
        Ok(())
    }

    /// One that is there, whatever else the text says of it: a job whose secret may be
    /// missing would run without it one day.
    fn secret(&self, key: Key<'_>, at: usize) -> Result<(), TemplateError> {
        let message = match key {
            Key::Known(key, _) => {
                let missing = self.known.secrets.as_ref().filter(|known| !known.contains(key));
                return missing.map_or(Ok(()), |known| Err(no_secret(self.text, at, key, known)));
            }
            Key::Computed => "the name of a secret cannot be computed",
            Key::Whole => "secrets cannot be used as a whole",
        };
        let remedy = "name the one that is needed, as in secrets.x or secrets[\"db-password\"]";
        Err(TemplateError::at(self.text, at, Fault::Syntax, message, remedy))
    }

    fn attempt(&self, key: Key<'_>, at: usize) -> Result<(), TemplateError> {
        match key {
            Key::Known("number", _) | Key::Whole => Ok(()),
            Key::Known(..) | Key::Computed => {
                let message = "an attempt has `number` and nothing else".to_owned();
                let remedy = "write attempt or attempt.number".to_owned();
                self.undefined(at, "attempt".to_owned(), message, remedy)
            }
        }
    }

    /// A text, which has no parts with names.
    fn plain(&self, name: &str, key: Key<'_>, at: usize) -> Result<(), TemplateError> {
        let Key::Known(part, _) = key else { return Ok(()) };
        let message = format!("`{name}` is a text and has no `{}`", shown(part));
        self.undefined(at, format!("{name}.{}", shown(part)), message, format!("write {name}"))
    }
}
