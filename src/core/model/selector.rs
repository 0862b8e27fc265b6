//! Which workers a job wants, by their labels: `zone == "a" && ssd`.
//!
//! A selector is stored as it was written, and read where it comes into memory: so one
//! meaning of a text is kept in one place. Plain logic over text values; numbers are
//! compared as text, so a worker that has `cores: 8` is chosen by `cores == "8"`.
//!
//! ```text
//! any   = all { "||" all }
//! all   = one { "&&" one }
//! one   = "!" one | "(" any ")" | KEY [ ("==" | "!=") TEXT | "in" "[" TEXT { "," TEXT } "]" ]
//! ```
//!
//! A key alone is true if the label is there and is neither empty nor `false`. A label that
//! is not there is unlike every text, so `zone != "a"` takes workers without a zone.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a worker's labels must be. Cheap to clone: it is part of each waiting run's place in
/// the queue. Two are equal if they are written the same.
#[derive(Debug, Clone)]
pub struct Selector(Arc<Read>);

/// A text and what it means.
#[derive(Debug)]
struct Read {
    text: String,
    test: Test,
}

#[derive(Debug, PartialEq, Eq)]
enum Test {
    Has(String),
    Is(String, Vec<String>),
    Not(Box<Test>),
    All(Vec<Test>),
    Any(Vec<Test>),
}

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectorError {
    /// Where, in characters from 1.
    pub column: usize,
    /// What is wrong there.
    pub problem: String,
}

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column, self.problem)
    }
}

impl std::error::Error for SelectorError {}

impl Selector {
    /// The longest text, in bytes.
    pub const MAX_LEN: usize = 1_000;
    /// The deepest nesting: reading a text and asking it cost so many calls at most.
    pub const MAX_DEPTH: usize = 32;

    /// Reads a selector.
    ///
    /// # Errors
    /// [`SelectorError`] with the place of what cannot be read.
    pub fn read(text: &str) -> Result<Self, SelectorError> {
        if text.len() > Self::MAX_LEN {
            let problem = format!("{} bytes; write at most {}", text.len(), Self::MAX_LEN);
            return Err(SelectorError { column: 1, problem });
        }
        let mut reader = Reader { tokens: tokens(text)?, next: 0, depth: 0 };
        let test = reader.any()?;
        match reader.peek() {
            Token::End => Ok(Self(Arc::new(Read { text: text.to_owned(), test }))),
            other => Err(reader.wrong(&format!("{other} is not expected here; write && or ||"))),
        }
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// True if a worker with these labels is one of those that are meant.
    #[must_use]
    pub fn takes(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.test.holds(labels)
    }

    /// The labels that it asks about, in their order in the text; one may come twice.
    #[must_use]
    pub fn keys(&self) -> Vec<&str> {
        let mut keys = Vec::new();
        self.0.test.keys(&mut keys);
        keys
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Selector {}

impl PartialOrd for Selector {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Selector {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Serialize for Selector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::read(&text).map_err(serde::de::Error::custom)
    }
}

impl Test {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Has(key) => labels.get(key).is_some_and(|v| !v.is_empty() && v != "false"),
            Self::Is(key, texts) => labels.get(key).is_some_and(|value| texts.contains(value)),
            Self::Not(test) => !test.holds(labels),
            Self::All(tests) => tests.iter().all(|test| test.holds(labels)),
            Self::Any(tests) => tests.iter().any(|test| test.holds(labels)),
        }
    }

    fn keys<'a>(&'a self, into: &mut Vec<&'a str>) {
        match self {
            Self::Has(key) | Self::Is(key, _) => into.push(key),
            Self::Not(test) => test.keys(into),
            Self::All(tests) | Self::Any(tests) => tests.iter().for_each(|test| test.keys(into)),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Mark(&'static str),
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => f.write_str(word),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Mark(mark) => f.write_str(mark),
            Self::End => f.write_str("the end"),
        }
    }
}

/// Longer ones before those that they begin with.
const MARKS: [&str; 10] = ["&&", "||", "==", "!=", "!", "(", ")", "[", "]", ","];

/// Tokens with their columns; the last is the end.
fn tokens(text: &str) -> Result<Vec<(usize, Token)>, SelectorError> {
    let mut found = Vec::new();
    let (mut rest, mut column) = (text, 1);
    loop {
        let trimmed = rest.trim_start();
        column += rest.chars().count() - trimmed.chars().count();
        rest = trimmed;
        let Some(first) = rest.chars().next() else {
            found.push((column, Token::End));
            return Ok(found);
        };
        let (token, length) = if let Some(mark) = MARKS.iter().find(|m| rest.starts_with(**m)) {
            (Token::Mark(mark), mark.len())
        } else if matches!(first, '"' | '\'') {
            let Some(inner) = rest.get(1..).and_then(|rest| Some(&rest[..rest.find(first)?]))
            else {
                let problem = format!("a text that begins with {first} does not end");
                return Err(SelectorError { column, problem });
            };
            (Token::Text(inner.to_owned()), inner.len() + 2)
        } else if is_in_key(first) {
            let word = &rest[..rest.find(|c| !is_in_key(c)).unwrap_or(rest.len())];
            (Token::Word(word.to_owned()), word.len())
        } else {
            let problem = format!("{first:?} is not known; texts stand in quotes");
            return Err(SelectorError { column, problem });
        };
        let (taken, after) = rest.split_at(length);
        found.push((column, token));
        column += taken.chars().count();
        rest = after;
    }
}

/// What names of labels are made of.
fn is_in_key(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/')
}

struct Reader {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

impl Reader {
    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(_, token)| token)
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn wrong(&self, problem: &str) -> SelectorError {
        let column = self.tokens.get(self.next).or(self.tokens.last()).map_or(1, |(at, _)| *at);
        SelectorError { column, problem: problem.to_owned() }
    }

    fn any(&mut self) -> Result<Test, SelectorError> {
        self.joined("||", Self::all, Test::Any)
    }

    fn all(&mut self) -> Result<Test, SelectorError> {
        self.joined("&&", Self::one, Test::All)
    }

    fn joined(
        &mut self,
        mark: &'static str,
        part: impl Fn(&mut Self) -> Result<Test, SelectorError>,
        join: impl Fn(Vec<Test>) -> Test,
    ) -> Result<Test, SelectorError> {
        let first = part(self)?;
        let mut parts = vec![first];
        while *self.peek() == Token::Mark(mark) {
            self.take();
            parts.push(part(self)?);
        }
        match parts.pop() {
            Some(only) if parts.is_empty() => Ok(only),
            last => Ok(join(parts.into_iter().chain(last).collect())),
        }
    }

    fn one(&mut self) -> Result<Test, SelectorError> {
        if self.depth == Selector::MAX_DEPTH {
            let problem = format!("nested deeper than {}; write it plainer", Selector::MAX_DEPTH);
            return Err(self.wrong(&problem));
        }
        self.depth += 1;
        let test = self.plain();
        self.depth -= 1;
        test
    }

    fn plain(&mut self) -> Result<Test, SelectorError> {
        match self.peek().clone() {
            Token::Mark("!") => {
                self.take();
                Ok(Test::Not(Box::new(self.one()?)))
            }
            Token::Mark("(") => {
                self.take();
                let inner = self.any()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Word(key) => {
                self.take();
                self.about(key)
            }
            other => Err(self.wrong(&format!("{other} stands where a label is expected"))),
        }
    }

    fn about(&mut self, key: String) -> Result<Test, SelectorError> {
        match self.peek() {
            Token::Mark("==") => {
                self.take();
                Ok(Test::Is(key, vec![self.text()?]))
            }
            Token::Mark("!=") => {
                self.take();
                Ok(Test::Not(Box::new(Test::Is(key, vec![self.text()?]))))
            }
            Token::Word(word) if word == "in" => {
                self.take();
                self.expect("[")?;
                let mut texts = vec![self.text()?];
                while *self.peek() == Token::Mark(",") {
                    self.take();
                    texts.push(self.text()?);
                }
                self.expect("]")?;
                Ok(Test::Is(key, texts))
            }
            _ => Ok(Test::Has(key)),
        }
    }

    fn text(&mut self) -> Result<String, SelectorError> {
        match self.peek().clone() {
            Token::Text(text) => {
                self.take();
                Ok(text)
            }
            Token::Word(word) => Err(self.wrong(&format!("write {word:?} in quotes"))),
            other => Err(self.wrong(&format!("{other} stands where a text is expected"))),
        }
    }

    fn expect(&mut self, mark: &'static str) -> Result<(), SelectorError> {
        if *self.peek() == Token::Mark(mark) {
            self.take();
            return Ok(());
        }
        Err(self.wrong(&format!("{} stands where {mark} is expected", self.peek())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn takes(text: &str, pairs: &[(&str, &str)]) -> bool {
        Selector::read(text).unwrap().takes(&labels(pairs))
    }

    #[test]
    fn labels_are_compared_and_joined() {
        let worker = [("zone", "a"), ("ssd", "true"), ("gpu", "false"), ("host/rack", "7")];
        for text in [
            "ssd",
            "zone == \"a\" && ssd",
            "zone == 'b' || host/rack == '7'",
            "zone != 'b' && !gpu && !tape",
            "zone in ['b', 'a']",
            "!(zone == 'b' || gpu)",
            // `&&` binds closer.
            "ssd || gpu && tape",
            "tape != 'x'",
        ] {
            assert!(takes(text, &worker), "{text}");
        }
        for text in ["gpu", "tape", "zone == 'A'", "zone in ['b']", "!ssd", "(ssd || gpu) && tape"]
        {
            assert!(!takes(text, &worker), "{text}");
        }
        let read = Selector::read("zone == 'a' && !(ssd || zone in ['b'])").unwrap();
        assert_eq!(read.keys(), ["zone", "ssd", "zone"]);
    }

    #[test]
    fn what_cannot_be_read_is_shown_with_its_place() {
        for (text, column, words) in [
            ("", 1, "the end stands where a label is expected"),
            ("zone = 'a'", 6, "'=' is not known"),
            ("zone == a", 9, "write \"a\" in quotes"),
            ("zone == 'a", 9, "does not end"),
            ("zone == 'é' ssd", 13, "ssd is not expected here; write && or ||"),
            ("(zone", 6, "the end stands where ) is expected"),
            ("zone in []", 10, "] stands where a text is expected"),
            ("ssd &&", 7, "the end stands where a label is expected"),
        ] {
            let error = Selector::read(text).unwrap_err();
            assert_eq!(error.column, column, "{text}: {error}");
            assert!(error.problem.contains(words), "{text}: {error}");
        }
        let deep = "!".repeat(Selector::MAX_DEPTH) + "a";
        assert!(Selector::read(&deep).unwrap_err().problem.contains("nested deeper than 32"));
        assert!(Selector::read(&"a".repeat(1_001)).unwrap_err().problem.contains("1001 bytes"));
    }

    fn any_test() -> impl Strategy<Value = Test> {
        let key = || "[a-c]{1,2}".prop_map(|key| if key == "in" { "x".to_owned() } else { key });
        let leaf = prop_oneof![
            key().prop_map(Test::Has),
            (key(), prop::collection::vec("[a-c ]{0,2}", 1..3)).prop_map(|(k, t)| Test::Is(k, t)),
        ];
        leaf.prop_recursive(4, 20, 3, |inner| {
            prop_oneof![
                inner.clone().prop_map(|test| Test::Not(Box::new(test))),
                prop::collection::vec(inner.clone(), 2..4).prop_map(Test::All),
                prop::collection::vec(inner, 2..4).prop_map(Test::Any),
            ]
        })
    }

    fn written(test: &Test) -> String {
        let join = |tests: &[Test], mark| {
            tests.iter().map(|t| format!("({})", written(t))).collect::<Vec<_>>().join(mark)
        };
        match test {
            Test::Has(key) => key.clone(),
            Test::Is(key, texts) => {
                let texts: Vec<_> = texts.iter().map(|text| format!("'{text}'")).collect();
                format!("{key} in [{}]", texts.join(", "))
            }
            Test::Not(test) => format!("!({})", written(test)),
            Test::All(tests) => join(tests, " && "),
            Test::Any(tests) => join(tests, "||"),
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(test in any_test()) {
            let text = written(&test);
            let read = Selector::read(&text).unwrap();
            prop_assert_eq!(&read.0.test, &test);
            let stored = postcard::to_stdvec(&read).unwrap();
            prop_assert_eq!(&stored, &postcard::to_stdvec(&text).unwrap());
            prop_assert_eq!(postcard::from_bytes::<Selector>(&stored).unwrap(), read);
        }

        #[test]
        fn any_text_is_read_or_refused_at_a_place_in_it(text in "[a-c!&|()\\[\\]='\", in]{0,40}") {
            if let Err(error) = Selector::read(&text) {
                prop_assert!((1..=text.chars().count() + 1).contains(&error.column), "{}", error);
            }
        }
    }
}
