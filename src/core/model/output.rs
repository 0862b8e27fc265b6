//! Outputs: what a run wrote down for those that follow it, and what a job keeps of that
//! for its own next run. The form of the files in which jobs write and read both.
//!
//! A file holds lines `KEY=VALUE`. A value of several lines begins with `KEY<<END`, where
//! `END` is any word, and goes on to a line that is that word and nothing else. Lines of
//! spaces are passed over, and of two values of one key the later one holds. Nothing is
//! taken off a value, no spaces and no quotes: what stands there is what others get.
//!
//! Reading is a pure function: whoever reads the same bytes gets the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::job::JobSpec;
use crate::ids::RunId;
use crate::time::UtcMillis;

/// Values by their keys.
pub type Values = BTreeMap<String, String>;

/// The longest file that is read, and the most that keys and values of one run, or of one
/// job's state, may have together, in bytes.
pub const MAX_BYTES: usize = 16 * 1024;

/// The most keys of one run, or of one job's state.
pub const MAX_KEYS: usize = 100;

/// What a run put out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOutputs {
    /// By key; empty if they were dropped.
    pub values: Values,
    /// The cluster held too much, and these gave way.
    pub dropped: bool,
}

impl RunOutputs {
    /// Counted for each run beside its keys and values, in bytes: about what the record
    /// itself takes.
    pub const OWN_BYTES: usize = 64;

    /// What they count in the cluster's budget, in bytes.
    #[must_use]
    pub fn held(&self) -> usize {
        if self.dropped { 0 } else { Self::OWN_BYTES + bytes_of(&self.values) }
    }
}

/// What a job keeps for its next run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobState {
    /// When it was written last.
    pub updated: UtcMillis,
    /// The run that wrote it last; none if a person did.
    pub run: Option<RunId>,
    /// By key.
    pub values: Values,
}

/// What is wrong with a file of outputs, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadOutput {
    /// It is longer than [`MAX_BYTES`].
    #[error("it has more than {MAX_BYTES} bytes")]
    TooLong,
    /// It is not text.
    #[error("line {line}: this is not UTF-8")]
    NotText {
        /// Which line, from 1.
        line: usize,
    },
    /// There is no key and no value.
    #[error("line {line}: write KEY=VALUE, or KEY<<END before a value of several lines")]
    NoValue {
        /// Which line, from 1.
        line: usize,
    },
    /// A key is no name.
    #[error(
        "line {line}: {name:?} is no key: use letters, digits and _, at most 64, no digit first"
    )]
    Key {
        /// Which line, from 1.
        line: usize,
        /// What stands there, or its begin.
        name: String,
    },
    /// A value of several lines does not end.
    #[error("line {line}: the value of {key} never ends: no line is {end:?} alone")]
    Endless {
        /// Where it begins, from 1.
        line: usize,
        /// Whose value.
        key: String,
        /// The word that ends it, or its begin.
        end: String,
    },
    /// There are more than [`MAX_KEYS`] keys.
    #[error("line {line}: these are more than {MAX_KEYS} keys")]
    TooMany {
        /// Which line, from 1.
        line: usize,
    },
}

/// Reads a file of outputs.
///
/// # Errors
/// The first line that breaks a rule.
pub fn parse(bytes: &[u8]) -> Result<Values, BadOutput> {
    if bytes.len() > MAX_BYTES {
        return Err(BadOutput::TooLong);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        BadOutput::NotText { line: before.iter().filter(|byte| **byte == b'\n').count() + 1 }
    })?;
    let mut values = Values::new();
    let mut lines = text.split('\n').zip(1_usize..);
    while let Some((text, line)) = lines.next() {
        if text.trim().is_empty() {
            continue;
        }
        let (key, value) = match mark_of(text) {
            None => return Err(BadOutput::NoValue { line }),
            Some(Mark::Plain(at)) => (key(&text[..at], line)?, text[at + 1..].to_owned()),
            Some(Mark::Lines(at)) => {
                let (key, end) = (key(&text[..at], line)?, &text[at + 2..]);
                if end.is_empty() {
                    return Err(BadOutput::NoValue { line });
                }
                let mut value: Vec<&str> = Vec::new();
                loop {
                    match lines.next() {
                        Some((text, _)) if text == end => break,
                        Some((text, _)) => value.push(text),
                        None => {
                            let (key, end) = (key.to_owned(), begin_of(end));
                            return Err(BadOutput::Endless { line, key, end });
                        }
                    }
                }
                (key, value.join("\n"))
            }
        };
        values.insert(key.to_owned(), value);
        if values.len() > MAX_KEYS {
            return Err(BadOutput::TooMany { line });
        }
    }
    Ok(values)
}

/// What follows a key, and at which byte.
enum Mark {
    Plain(usize),
    Lines(usize),
}

/// Whichever comes first.
fn mark_of(line: &str) -> Option<Mark> {
    match (line.find('='), line.find("<<")) {
        (Some(plain), lines) if lines.is_none_or(|lines| plain < lines) => Some(Mark::Plain(plain)),
        (_, lines) => lines.map(Mark::Lines),
    }
}

fn key(text: &str, line: usize) -> Result<&str, BadOutput> {
    let problem = || BadOutput::Key { line, name: begin_of(text) };
    JobSpec::is_param_name(text).then_some(text).ok_or_else(problem)
}

/// Enough of a text to find it by.
fn begin_of(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Writes a file that [`parse`] reads as these values.
#[must_use]
pub fn write(values: &Values) -> String {
    let mut text = String::with_capacity(bytes_of(values) + 2 * values.len());
    for (key, value) in values {
        if value.contains('\n') {
            let end = end_of(value);
            text.extend([key.as_str(), "<<", &end, "\n", value, "\n", &end, "\n"]);
        } else {
            text.extend([key.as_str(), "=", value, "\n"]);
        }
    }
    text
}

/// A word that is no line of the value.
fn end_of(value: &str) -> String {
    let mut end = "END".to_owned();
    while value.split('\n').any(|line| line == end) {
        end.push('_');
    }
    end
}

/// Bytes of keys and values.
#[must_use]
pub fn bytes_of(values: &Values) -> usize {
    values.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// Says why these can be neither a run's outputs nor a job's state, if they cannot.
///
/// # Errors
/// The rule that they break, in words.
pub fn check(values: &Values) -> Result<(), String> {
    if let Some(key) = values.keys().find(|key| !JobSpec::is_param_name(key)) {
        return Err(format!("{:?} is no key", begin_of(key)));
    }
    if values.len() > MAX_KEYS {
        return Err(format!("{} keys, at most {MAX_KEYS}", values.len()));
    }
    let bytes = bytes_of(values);
    if bytes > MAX_BYTES {
        return Err(format!("{bytes} bytes, at most {MAX_BYTES}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        parse(text.as_bytes()).unwrap().into_iter().collect()
    }

    fn told(bytes: &[u8]) -> String {
        parse(bytes).unwrap_err().to_string()
    }

    #[test]
    fn values_are_read_as_they_stand() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(read(""), []);
        assert_eq!(read("\n  \nA=1\n\n"), [pair("A", "1")]);
        assert_eq!(read("A=1\nB= x y \r\nA=2"), [pair("A", "2"), pair("B", " x y \r")]);
        assert_eq!(
            read("A=b=c<<d\nB=<<x\nC="),
            [pair("A", "b=c<<d"), pair("B", "<<x"), pair("C", "")]
        );
        assert_eq!(
            read("_a1<<E=F\none\n\n E=F\ntwo=2\nE=F\nB=1"),
            [pair("B", "1"), pair("_a1", "one\n\n E=F\ntwo=2")]
        );
        assert_eq!(read("A<<X\nX\n"), [pair("A", "")]);
    }

    #[test]
    fn what_breaks_a_rule_is_told_with_its_line() {
        for (text, wanted) in [
            (
                "A=1\nhello\n",
                "line 2: write KEY=VALUE, or KEY<<END before a value of several lines",
            ),
            ("A<<\nx", "line 1: write KEY=VALUE, or KEY<<END before a value of several lines"),
            (
                "\n1A=1",
                "line 2: \"1A\" is no key: use letters, digits and _, at most 64, no digit first",
            ),
            (
                " A=1",
                "line 1: \" A\" is no key: use letters, digits and _, at most 64, no digit first",
            ),
            ("=1", "line 1: \"\" is no key: use letters, digits and _, at most 64, no digit first"),
            ("A=1\nB<<END\nx\nEND ", "line 2: the value of B never ends: no line is \"END\" alone"),
        ] {
            assert_eq!(told(text.as_bytes()), wanted, "{text:?}");
        }
        assert_eq!(told(b"A=1\nB=\xff\n"), "line 2: this is not UTF-8");
        let long = format!("A={}", "x".repeat(MAX_BYTES - 2));
        assert_eq!(read(&long)[0].1.len(), MAX_BYTES - 2);
        assert_eq!(told(format!("{long}x").as_bytes()), "it has more than 16384 bytes");
        let many = |count: usize| (0..count).map(|n| format!("K{n}=\n")).collect::<String>();
        assert_eq!(read(&many(MAX_KEYS)).len(), MAX_KEYS);
        assert_eq!(told(many(MAX_KEYS + 1).as_bytes()), "line 101: these are more than 100 keys");
        let endless = parse(b"A<<END\nx").unwrap_err();
        assert!(matches!(endless, BadOutput::Endless { line: 1, .. }), "{endless:?}");
    }

    #[test]
    fn what_no_run_may_put_out_is_refused() {
        let values = |key: &str, value: String| Values::from([(key.to_owned(), value)]);
        assert_eq!(check(&values("A", "x".repeat(MAX_BYTES - 1))), Ok(()));
        assert!(check(&values("A", "x".repeat(MAX_BYTES))).unwrap_err().contains("16385 bytes"));
        assert!(check(&values("a b", String::new())).unwrap_err().contains("\"a b\""));
        let many: Values = (0..=MAX_KEYS).map(|n| (format!("K{n}"), String::new())).collect();
        assert!(check(&many).unwrap_err().contains("101 keys"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            values in prop::collection::btree_map("[A-Za-z_][A-Za-z0-9_]{0,9}", "(?s)[=<END_\n x\r]{0,20}|.{0,20}", 0..9)
        ) {
            prop_assert_eq!(parse(write(&values).as_bytes()), Ok(values));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(values) = parse(&bytes) {
                prop_assert_eq!(check(&values), Ok(()));
            }
        }
    }
}
