//! What a job does, as a person writes it: `shell`, `python`, `script` for an interpreter of
//! the workers, `exec`, `http` or `noop`, and the steps before and after it.
//!
//! All that can be told without a worker is checked here. What is a template is looked at
//! again when it has its values.

use std::collections::BTreeMap;

use axum::http::{HeaderName, HeaderValue, Uri};
use horai_core::model::executor::{Executor, HttpCall, HttpExpect, HttpTls, Steps};
use regex::RegexBuilder;
use serde::{Deserialize, Serialize};

use super::definition_parts::{at_most, name, span_or};
use super::one_or_many::{InterpreterDefinition, OneOrMany};
use super::process_definition::Scalar;
use crate::error::FieldError;

/// Compiled, a pattern takes no more than so many bytes.
const PATTERN_BYTES: usize = 1 << 20;
/// What follows from the body and the connection.
const OWN_HEADERS: [&str; 4] = ["connection", "content-length", "te", "transfer-encoding"];

/// One HTTP request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpDefinition {
    /// Default `GET`, and `POST` with a body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// `http://` or `https://`.
    pub url: String,
    /// By name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// What is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// What is a success; default any status below 400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<HttpExpectDefinition>,
    /// Until the connection stands; default `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<String>,
    /// Until the last byte of the answer; default `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// A file on the worker with certificates to trust beside the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// True to believe whoever answers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
}

/// What answer is a success.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpExpectDefinition {
    /// Codes and ranges, such as `[200, 202-204]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<OneOrMany<Scalar>>,
    /// A regular expression that the body matches somewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// What is written of a job's work; in a definition these are fields of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Work {
    pub(super) shell: Option<String>,
    pub(super) python: Option<String>,
    pub(super) script: Option<String>,
    pub(super) interpreter: Option<InterpreterDefinition>,
    pub(super) args: Vec<String>,
    pub(super) exec: Option<Vec<String>>,
    pub(super) http: Option<HttpDefinition>,
    pub(super) noop: bool,
    pub(super) pre: Option<OneOrMany<String>>,
    pub(super) post: Option<OneOrMany<String>>,
}

impl Work {
    /// Checks what is to be done.
    ///
    /// # Errors
    /// The first field that cannot be taken, with value and remedy.
    pub(super) fn executor(&self) -> Result<Executor, FieldError> {
        self.check_belongings()?;
        let Self { shell, python, script, exec, http, noop, .. } = self;
        match (shell, python, script, exec, http, noop) {
            (Some(text), None, None, None, None, false) => {
                let (interpreter, script) = (self.program(&Executor::SHELL)?, text.clone());
                filled("shell", text).map(|()| Executor::Shell { interpreter, script })
            }
            (None, Some(text), None, None, None, false) => {
                let (interpreter, script) = (self.program(&Executor::PYTHON)?, text.clone());
                filled("python", text).map(|()| Executor::Python { interpreter, script })
            }
            (None, None, Some(text), None, None, false) => self.interpreted(text),
            (None, None, None, Some(argv), None, false) => {
                program("exec", argv)?;
                Ok(Executor::Exec { argv: argv.clone() })
            }
            (None, None, None, None, Some(http), false) => {
                Ok(Executor::Http(Box::new(http.to_call()?)))
            }
            (None, None, None, None, None, true) => Ok(Executor::Noop),
            _ => Err(self.not_one()),
        }
    }

    /// Checks what is done before and after that.
    ///
    /// # Errors
    /// As [`Self::executor`].
    pub(super) fn steps(&self) -> Result<Steps, FieldError> {
        let read = |field: &str, written: &Option<OneOrMany<String>>| {
            let scripts = written.as_ref().map(|list| list.0.clone()).unwrap_or_default();
            at_most(field, scripts.len(), Steps::MAX)?;
            for (i, script) in scripts.iter().enumerate() {
                filled(&format!("{field}[{i}]"), script)?;
            }
            Ok(scripts)
        };
        let steps = Steps { pre: read("pre", &self.pre)?, post: read("post", &self.post)? };
        if self.noop && steps != Steps::default() {
            let field = if steps.pre.is_empty() { "post" } else { "pre" };
            let problem = "a noop is done inside the worker, where nothing else is run";
            return Err(FieldError::invalid(field, "given", problem, "write shell: 'true'"));
        }
        Ok(steps)
    }

    /// What says more of a script needs one.
    fn check_belongings(&self) -> Result<(), FieldError> {
        let has_script = [&self.shell, &self.python, &self.script].iter().any(|s| s.is_some());
        if self.interpreter.is_some() && !has_script {
            return Err(FieldError::invalid(
                "interpreter",
                "given",
                "there is no script to interpret",
                "write the script under 'shell' or 'script', or leave 'interpreter' out",
            ));
        }
        if !self.args.is_empty() && self.script.is_none() {
            return Err(FieldError::invalid(
                "args",
                self.args.join(" "),
                "they are for the interpreter of a 'script', and there is none",
                "leave them out; 'exec' and 'interpreter' take arguments in their own lists",
            ));
        }
        Ok(())
    }

    fn not_one(&self) -> FieldError {
        let given = [
            (self.shell.is_some(), "shell"),
            (self.python.is_some(), "python"),
            (self.script.is_some(), "script"),
            (self.exec.is_some(), "exec"),
            (self.http.is_some(), "http"),
            (self.noop, "noop"),
        ];
        let given: Vec<&str> =
            given.into_iter().filter_map(|(given, what)| given.then_some(what)).collect();
        FieldError::invalid(
            "shell",
            given.join(" and "),
            "a job does exactly one thing",
            "give one of 'shell' or 'python' (a script), 'script' with 'interpreter', 'exec' \
             (program and arguments), 'http' (a request) or 'noop: true'",
        )
    }

    /// What runs a script of a kind that every worker knows.
    fn program(&self, usual: &[&str]) -> Result<Vec<String>, FieldError> {
        let usual = || usual.iter().map(|text| (*text).to_owned()).collect();
        match &self.interpreter {
            None => Ok(usual()),
            Some(InterpreterDefinition::Command(argv)) => {
                program("interpreter", argv)?;
                Ok(argv.clone())
            }
            Some(InterpreterDefinition::Name(name)) => Err(FieldError::invalid(
                "interpreter",
                name,
                "a name is that of an interpreter of the workers, which reads a 'script'",
                format!(
                    "write the text under 'script', or the program as a list: interpreter: [{name}]"
                ),
            )),
        }
    }

    fn interpreted(&self, script: &str) -> Result<Executor, FieldError> {
        filled("script", script)?;
        let field = "interpreter";
        match &self.interpreter {
            Some(InterpreterDefinition::Name(text)) => {
                let (name, args) = (name(field, text)?, self.args.clone());
                if let Some(bad) = args.iter().position(|arg| arg.contains('\0')) {
                    let problem = "an argument cannot hold a zero byte";
                    return Err(FieldError::invalid(
                        format!("args[{bad}]"),
                        "",
                        problem,
                        "leave it out",
                    ));
                }
                Ok(Executor::Interpreter { name, args, script: script.to_owned() })
            }
            Some(InterpreterDefinition::Command(argv)) => Err(FieldError::invalid(
                field,
                argv.join(" "),
                "a 'script' is for an interpreter that workers have by its name",
                "write its name, such as interpreter: hive; or write the text under 'shell'",
            )),
            None => Err(FieldError::invalid(
                field,
                "",
                "nothing says what reads the script",
                "name an interpreter of your workers, such as interpreter: hive",
            )),
        }
    }

    /// The way back.
    pub(super) fn of_spec(executor: &Executor, steps: &Steps) -> Self {
        let list =
            |scripts: &Vec<String>| (!scripts.is_empty()).then(|| OneOrMany(scripts.clone()));
        let command = |argv: &Vec<String>, usual: &[&str]| {
            let is_usual = argv.iter().map(String::as_str).eq(usual.iter().copied());
            (!is_usual).then(|| InterpreterDefinition::Command(argv.clone()))
        };
        let around = Self { pre: list(&steps.pre), post: list(&steps.post), ..Self::default() };
        match executor {
            Executor::Shell { interpreter, script } => Self {
                shell: Some(script.clone()),
                interpreter: command(interpreter, &Executor::SHELL),
                ..around
            },
            Executor::Python { interpreter, script } => Self {
                python: Some(script.clone()),
                interpreter: command(interpreter, &Executor::PYTHON),
                ..around
            },
            Executor::Interpreter { name, args, script } => Self {
                script: Some(script.clone()),
                interpreter: Some(InterpreterDefinition::Name(name.to_string())),
                args: args.clone(),
                ..around
            },
            Executor::Exec { argv } => Self { exec: Some(argv.clone()), ..around },
            Executor::Http(call) => Self { http: Some(HttpDefinition::of_call(call)), ..around },
            Executor::Noop => Self { noop: true, ..around },
        }
    }
}

/// A text that says something.
fn filled(field: &str, script: &str) -> Result<(), FieldError> {
    if !script.trim().is_empty() {
        return Ok(());
    }
    let remedy = "write what is to be run, or leave the field out";
    Err(FieldError::invalid(field, script, "the script is empty", remedy))
}

fn program(field: &str, argv: &[String]) -> Result<(), FieldError> {
    if argv.first().is_some_and(|program| !program.is_empty())
        && argv.iter().all(|argument| !argument.contains('\0'))
    {
        return Ok(());
    }
    Err(FieldError::invalid(
        field,
        argv.join(" "),
        "there is no program to run",
        "write the program, then its arguments, without zero bytes",
    ))
}

/// True if a text may be something else once it has its values.
fn may_change(text: &str) -> bool {
    ["{{", "{%", "${"].iter().any(|mark| text.contains(mark))
}

impl HttpDefinition {
    fn to_call(&self) -> Result<HttpCall, FieldError> {
        check_url(&self.url)?;
        let usual = self.usual_method();
        let expect = self.expect.as_ref().map(HttpExpectDefinition::to_spec).transpose()?;
        let call = HttpCall {
            method: self.method.clone().unwrap_or_else(|| usual.to_owned()),
            url: self.url.clone(),
            headers: self.to_headers()?,
            body: self.body.clone(),
            expect: expect.unwrap_or_default(),
            connect_timeout: span_or(
                "http.connect_timeout",
                self.connect_timeout.as_deref(),
                HttpCall::CONNECT_TIMEOUT,
            )?,
            timeout: span_or("http.timeout", self.timeout.as_deref(), HttpCall::TIMEOUT)?,
            tls: HttpTls { ca_file: self.ca_file.clone(), insecure: self.insecure },
        };
        if let Some(file) = self.ca_file.as_ref().filter(|file| !file.starts_with('/')) {
            let problem = "jobs have no folder that it could be relative to";
            let remedy = "write the whole path of a file on the worker";
            return Err(FieldError::invalid("http.ca_file", file, problem, remedy));
        }
        match call.problem() {
            None => Ok(call),
            Some((field, remedy)) => {
                let value = match field {
                    "method" => call.method.clone(),
                    "timeout" => call.timeout.to_string(),
                    "connect_timeout" => call.connect_timeout.to_string(),
                    "headers" => format!("{} of them", call.headers.len()),
                    _ => String::new(),
                };
                let problem = "no request can have this";
                Err(FieldError::invalid(format!("http.{field}"), value, problem, remedy))
            }
        }
    }

    fn usual_method(&self) -> &'static str {
        if self.body.is_some() { "POST" } else { "GET" }
    }

    fn to_headers(&self) -> Result<BTreeMap<String, String>, FieldError> {
        let mut headers = BTreeMap::new();
        for (written, value) in &self.headers {
            let field = format!("http.headers.{written}");
            let wrong = |problem, remedy| Err(FieldError::invalid(&field, value, problem, remedy));
            let Ok(name) = HeaderName::from_bytes(written.as_bytes()) else {
                return wrong("no header has such a name", "use letters, digits and -");
            };
            if OWN_HEADERS.contains(&name.as_str()) {
                return wrong("it follows from the request itself", "leave it out");
            }
            if !may_change(value) && HeaderValue::from_str(value).is_err() {
                return wrong("no header has such a value", "write one line of visible characters");
            }
            if headers.insert(name.as_str().to_owned(), value.clone()).is_some() {
                return wrong(
                    "it is there twice: names are the same in capital letters",
                    "give one",
                );
            }
        }
        Ok(headers)
    }

    fn of_call(call: &HttpCall) -> Self {
        let mut written = Self {
            url: call.url.clone(),
            headers: call.headers.clone(),
            body: call.body.clone(),
            expect: HttpExpectDefinition::of_spec(&call.expect),
            connect_timeout: (call.connect_timeout != HttpCall::CONNECT_TIMEOUT)
                .then(|| call.connect_timeout.to_string()),
            timeout: (call.timeout != HttpCall::TIMEOUT).then(|| call.timeout.to_string()),
            ca_file: call.tls.ca_file.clone(),
            insecure: call.tls.insecure,
            method: None,
        };
        written.method = (call.method != written.usual_method()).then(|| call.method.clone());
        written
    }
}

/// A template may become another one; what is told is looked at.
fn check_url(url: &str) -> Result<(), FieldError> {
    let wrong =
        |problem: String, remedy: &str| Err(FieldError::invalid("http.url", url, problem, remedy));
    if may_change(url) {
        return Ok(());
    }
    let uri = match url.parse::<Uri>() {
        Ok(uri) => uri,
        Err(error) => {
            let remedy =
                "write it whole, such as https://example.org/path; other characters as %20";
            return wrong(format!("this is not a URL: {error}"), remedy);
        }
    };
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        let remedy = "begin with http:// or https:// and a host";
        return wrong("this is not the URL of a web server".to_owned(), remedy);
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        let remedy = "give the header authorization instead, with a secret";
        return wrong("a user and a password in it would be shown to everybody".to_owned(), remedy);
    }
    Ok(())
}

impl HttpExpectDefinition {
    fn to_spec(&self) -> Result<HttpExpect, FieldError> {
        let status = self.status.iter().flat_map(|list| &list.0);
        let status = status.map(range).collect::<Result<Vec<_>, _>>()?;
        if let Some(pattern) = &self.body {
            pattern_of("http.expect.body", pattern)?;
        }
        Ok(HttpExpect { status, body: self.body.clone() })
    }

    fn of_spec(expect: &HttpExpect) -> Option<Self> {
        let of = |(first, last): &(u16, u16)| match first == last {
            true => Scalar::of(first.to_string()),
            false => Scalar::of(format!("{first}-{last}")),
        };
        let status: Vec<Scalar> = expect.status.iter().map(of).collect();
        let status = (!status.is_empty()).then_some(OneOrMany(status));
        (*expect != HttpExpect::default()).then(|| Self { status, body: expect.body.clone() })
    }
}

/// `200`, `200-299` or `2xx`.
fn range(written: &Scalar) -> Result<(u16, u16), FieldError> {
    let text = written.to_string();
    let code = |text: &str| text.parse::<u16>().ok().filter(|code| (100..=599).contains(code));
    let read = match (text.split_once('-'), text.strip_suffix("xx")) {
        (Some((first, last)), _) => code(first.trim()).zip(code(last.trim())),
        (None, Some(hundred)) => code(&format!("{hundred}00")).map(|first| (first, first + 99)),
        (None, None) => code(&text).map(|code| (code, code)),
    };
    read.filter(|(first, last)| first <= last).ok_or_else(|| {
        let remedy = "write codes of 100 to 599, or ranges such as 200-299 or 2xx";
        FieldError::invalid("http.expect.status", text, "this is not a status code", remedy)
    })
}

/// What it looks for.
fn pattern_of(field: &str, text: &str) -> Result<(), FieldError> {
    let built = RegexBuilder::new(text).size_limit(PATTERN_BYTES).build();
    built.map(drop).map_err(|error| {
        // The engine's message shows the pattern over several lines; its last says what is wrong.
        let said = error.to_string();
        let said = said.lines().last().unwrap_or_default().trim().to_owned();
        let problem = format!("this is not a regular expression: {said}");
        FieldError::invalid(field, text, problem, "correct it; \\ takes a character literally")
    })
}

#[cfg(test)]
#[path = "executor_definition_tests.rs"]
mod tests;
