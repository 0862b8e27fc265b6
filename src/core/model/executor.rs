//! What a worker does for an attempt, and what it does before and after that.
//!
//! Stored by the numbers of variants: new ones are appended.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::Name;
use crate::time::Span;

/// What a worker does for an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Executor {
    /// A script's text, given to a shell as a file.
    Shell {
        /// Program and arguments before the script's path; default `["/bin/sh"]`.
        interpreter: Vec<String>,
        /// The script.
        script: String,
    },
    /// A program and its arguments, no shell between.
    Exec {
        /// At least the program.
        argv: Vec<String>,
    },
    /// Nothing, inside the worker process: for measuring.
    Noop,
    /// A Python script, given to Python as a file.
    Python {
        /// Program and arguments before the script's path; default `["python3", "-u"]`.
        interpreter: Vec<String>,
        /// The script.
        script: String,
    },
    /// A script for an interpreter that workers have by their configuration.
    Interpreter {
        /// Its name there: a run goes only to workers that have it.
        name: Name,
        /// What is put in for `{args}` of its command line.
        args: Vec<String>,
        /// The script.
        script: String,
    },
    /// One HTTP request.
    Http(Box<HttpCall>),
}

impl Executor {
    /// What runs a shell script, if nothing else is said.
    pub const SHELL: [&'static str; 1] = ["/bin/sh"];
    /// What runs a Python script, if nothing else is said: without a buffer, so that output
    /// can be followed.
    pub const PYTHON: [&'static str; 2] = ["python3", "-u"];

    /// The interpreter that a worker must have by its configuration.
    #[must_use]
    pub fn interpreter(&self) -> Option<&Name> {
        match self {
            Self::Interpreter { name, .. } => Some(name),
            Self::Shell { .. }
            | Self::Exec { .. }
            | Self::Noop
            | Self::Python { .. }
            | Self::Http(_) => None,
        }
    }

    /// What may be a template, with the fields of a definition that it stands in.
    #[must_use]
    pub fn texts(&self) -> Vec<(String, &str)> {
        match self {
            Self::Shell { interpreter, script: text } => {
                [named("shell", text), numbered("interpreter", interpreter)].concat()
            }
            Self::Python { interpreter, script: text } => {
                [named("python", text), numbered("interpreter", interpreter)].concat()
            }
            Self::Interpreter { args, script: text, .. } => {
                [named("script", text), numbered("args", args)].concat()
            }
            Self::Exec { argv } => numbered("exec", argv),
            Self::Noop => Vec::new(),
            Self::Http(call) => call.texts(),
        }
    }
}

fn named<'a>(field: &str, text: &'a str) -> Vec<(String, &'a str)> {
    vec![(field.to_owned(), text)]
}

fn numbered<'a>(field: &str, texts: &'a [String]) -> Vec<(String, &'a str)> {
    let texts = texts.iter().enumerate();
    texts.map(|(i, text)| (format!("{field}[{i}]"), text.as_str())).collect()
}

/// A request, and what counts as its success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpCall {
    /// Such as `GET`: capital letters.
    pub method: String,
    /// `http://` or `https://`; may be a template.
    pub url: String,
    /// By their names, in small letters; values may be templates.
    pub headers: BTreeMap<String, String>,
    /// May be a template; none sends none.
    pub body: Option<String>,
    /// What is a success.
    pub expect: HttpExpect,
    /// Until the connection stands, TLS included: 1 ms to 1 day.
    pub connect_timeout: Span,
    /// Until the last byte of the answer: 1 ms to 1 day.
    pub timeout: Span,
    /// How TLS is spoken.
    pub tls: HttpTls,
}

/// What answer is a success.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HttpExpect {
    /// First and last of ranges of status codes; none: all below 400.
    pub status: Vec<(u16, u16)>,
    /// A regular expression that the body must match somewhere.
    pub body: Option<String>,
}

/// How TLS is spoken.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HttpTls {
    /// A file of the worker's machine with certificates (PEM) to trust beside the system's.
    pub ca_file: Option<String>,
    /// Whoever answers is believed.
    pub insecure: bool,
}

impl HttpCall {
    /// The usual time until a connection stands.
    pub const CONNECT_TIMEOUT: Span = Span::secs(10);
    /// The usual time until the last byte of the answer.
    pub const TIMEOUT: Span = Span::secs(5 * 60);
    /// The longest of either.
    pub const MAX_TIMEOUT: Span = Span::secs(86_400);
    /// The most headers.
    pub const MAX_HEADERS: usize = 64;
    /// The most ranges of status codes.
    pub const MAX_RANGES: usize = 32;
    /// The longest pattern, in bytes.
    pub const MAX_PATTERN: usize = 4_096;

    /// One that says nothing but where to.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self {
            method: "GET".to_owned(),
            url: url.to_owned(),
            headers: BTreeMap::new(),
            body: None,
            expect: HttpExpect::default(),
            connect_timeout: Self::CONNECT_TIMEOUT,
            timeout: Self::TIMEOUT,
            tls: HttpTls::default(),
        }
    }

    fn texts(&self) -> Vec<(String, &str)> {
        let url = ("http.url".to_owned(), self.url.as_str());
        let headers =
            self.headers.iter().map(|(name, text)| (format!("http.headers.{name}"), text.as_str()));
        let body = self.body.iter().map(|text| ("http.body".to_owned(), text.as_str()));
        std::iter::once(url).chain(headers).chain(body).collect()
    }

    /// What is wrong with it: the field behind `http`, and what to write.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let is_method = (1..=32).contains(&self.method.len())
            && self.method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
        if !is_method {
            return Some(("method", "write it in capital letters, such as POST".to_owned()));
        }
        if self.headers.len() > Self::MAX_HEADERS {
            return Some(("headers", format!("give at most {}", Self::MAX_HEADERS)));
        }
        if self.expect.status.len() > Self::MAX_RANGES {
            return Some(("expect.status", format!("give at most {} ranges", Self::MAX_RANGES)));
        }
        let is_range = |(first, last): &(u16, u16)| *first >= 100 && first <= last && *last <= 599;
        if !self.expect.status.iter().all(is_range) {
            return Some(("expect.status", "write codes of 100 to 599, or 200-299".to_owned()));
        }
        if self.expect.body.as_ref().is_some_and(|text| text.len() > Self::MAX_PATTERN) {
            return Some(("expect.body", format!("write at most {} bytes", Self::MAX_PATTERN)));
        }
        let is_time = |span: Span| (Span(1)..=Self::MAX_TIMEOUT).contains(&span);
        for (field, span) in [("connect_timeout", self.connect_timeout), ("timeout", self.timeout)]
        {
            if !is_time(span) {
                return Some((field, format!("write 1ms to {}", Self::MAX_TIMEOUT)));
            }
        }
        None
    }
}

impl HttpExpect {
    /// True if such a status is a success.
    #[must_use]
    pub fn takes(&self, status: u16) -> bool {
        match self.status.as_slice() {
            [] => status < 400,
            ranges => ranges.iter().any(|(first, last)| (*first..=*last).contains(&status)),
        }
    }
}

/// Shell scripts beside the main part of a job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Steps {
    /// Before it, one after the other: one that fails is the attempt's end.
    pub pre: Vec<String>,
    /// After it, one after the other, however it ended; they know how.
    pub post: Vec<String>,
}

impl Steps {
    /// The most of each.
    pub const MAX: usize = 8;

    /// What may be a template, with the fields of a definition that it stands in.
    #[must_use]
    pub fn texts(&self) -> Vec<(String, &str)> {
        [numbered("pre", &self.pre), numbered("post", &self.post)].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_judged_by_ranges_or_by_the_rule_of_400() {
        let expect = |ranges: &[(u16, u16)]| HttpExpect { status: ranges.to_vec(), body: None };
        let taken = |expect: &HttpExpect| -> Vec<u16> {
            [200, 204, 302, 399, 400, 404, 500].into_iter().filter(|s| expect.takes(*s)).collect()
        };
        assert_eq!(taken(&expect(&[])), [200, 204, 302, 399]);
        assert_eq!(taken(&expect(&[(204, 204), (400, 499)])), [204, 400, 404]);
    }

    #[test]
    fn a_problem_names_its_field() {
        let plain = || HttpCall::new("http://a");
        assert_eq!(plain().problem(), None);
        let status = |status| HttpExpect { status: vec![status], body: None };
        let bad = [
            (HttpCall { method: "get".into(), ..plain() }, "method"),
            (HttpCall { method: String::new(), ..plain() }, "method"),
            (HttpCall { expect: status((99, 200)), ..plain() }, "expect.status"),
            (HttpCall { expect: status((300, 200)), ..plain() }, "expect.status"),
            (HttpCall { expect: status((200, 600)), ..plain() }, "expect.status"),
            (HttpCall { timeout: Span(0), ..plain() }, "timeout"),
            (HttpCall { connect_timeout: Span::secs(86_401), ..plain() }, "connect_timeout"),
        ];
        for (call, field) in bad {
            assert_eq!(call.problem().map(|(field, _)| field), Some(field));
        }
    }

    #[test]
    fn every_text_says_where_it_stands() {
        let mut call = HttpCall::new("u");
        call.headers = BTreeMap::from([("accept".to_owned(), "h".to_owned())]);
        call.body = Some("b".to_owned());
        let texts = |executor: &Executor| -> Vec<String> {
            executor.texts().into_iter().map(|(field, text)| format!("{field}={text}")).collect()
        };
        assert_eq!(
            texts(&Executor::Http(Box::new(call))),
            ["http.url=u", "http.headers.accept=h", "http.body=b"]
        );
        let name = Name::new("hive").unwrap();
        let hive = Executor::Interpreter { name, args: vec!["a".into()], script: "s".into() };
        assert_eq!(texts(&hive), ["script=s", "args[0]=a"]);
        let steps = Steps { pre: vec!["x".into()], post: vec!["y".into(), "z".into()] };
        let fields: Vec<String> = steps.texts().into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["pre[0]", "post[0]", "post[1]"]);
    }
}
