//! How commands reach a cluster: addresses, token, time limit.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use horai_core::time::Span;

use super::client::{ApiError, Client};
use super::failure::Failure;
use super::output::Output;
use crate::config::read_token;
use crate::error::{chain, exit};

/// Which cluster, as whom, and how to print.
#[derive(Debug, Clone, Args)]
pub(super) struct Remote {
    /// HTTP address of a node; several with commas: the next is asked if one is silent
    #[arg(
        long = "url",
        value_name = "URL",
        env = "HORAI_URL",
        hide_env_values = true,
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7600",
        global = true,
        help_heading = "Cluster"
    )]
    urls: Vec<String>,
    /// The bearer token
    #[arg(
        long,
        env = "HORAI_TOKEN",
        hide_env_values = true,
        global = true,
        help_heading = "Cluster"
    )]
    token: Option<String>,
    /// A file that holds the bearer token; goes before --token and HORAI_TOKEN
    #[arg(long, value_name = "FILE", global = true, help_heading = "Cluster")]
    token_file: Option<PathBuf>,
    /// How long to ask, all nodes and tries together [default: 10s; for `cluster remove` and `snapshot` 60s]
    #[arg(long, value_name = "TIME", global = true, help_heading = "Cluster")]
    timeout: Option<Span>,
    #[command(flatten)]
    pub(super) output: Output,
}

impl Remote {
    /// A client of that cluster.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        self.client_at(self.urls.clone())
    }

    /// The same, which asks for so long unless the user said how long.
    pub(super) fn client_for(&self, usual: Duration) -> Result<Client, Failure> {
        let client = self.client()?;
        Ok(if self.timeout.is_none() { client.with_timeout(usual) } else { client })
    }

    /// The same at other addresses.
    pub(super) fn client_at(&self, urls: Vec<String>) -> Result<Client, Failure> {
        // Most variables are set for all commands; a file is named for this one.
        let token = match (&self.token_file, &self.token) {
            (Some(file), _) => token_of(file)?,
            (None, Some(token)) => token.trim().to_owned(),
            (None, None) => {
                let hint = "give --token-file or --token, or set HORAI_TOKEN";
                return Err(Failure::new("no token is given", hint, exit::DENIED));
            }
        };
        let client = Client::new(urls, token)?;
        Ok(match self.timeout {
            Some(timeout) => client.with_timeout(Duration::from_millis(timeout.0)),
            None => client,
        })
    }
}

/// What a token file holds.
pub(super) fn token_of(file: &Path) -> Result<String, Failure> {
    let read = read_token(file).map_err(|error| {
        Failure::new(chain(&error), "check the path and its permissions", exit::DENIED)
    })?;
    Ok(read.text().to_owned())
}

/// Runs work that waits for answers.
pub(super) fn wait<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::new(format!("the process cannot run: {error}"), "free resources", exit::FAILED)
    })?;
    runtime.block_on(work)
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let exit = error.code().exit();
        let problem = *error.problem;
        // Many a problem holds the value already.
        let value = problem.errors.first().filter(|field| !holds(&field.problem, &field.value));
        let value = value.map(|field| field.value.as_str()).unwrap_or_default();
        let message = match value {
            "" => problem.detail,
            value => format!("{} ({value:?})", problem.detail),
        };
        let (hint, caret) = match problem.errors.into_iter().next() {
            Some(field) => (field.remedy, field.caret),
            None => (String::new(), None),
        };
        let hint = if hint.is_empty() { problem.remedy } else { hint };
        Self::new(message, as_typed(&hint), exit).marked(caret.as_deref())
    }
}

/// True if a text says the value, not only as a part of a word.
fn holds(text: &str, value: &str) -> bool {
    let is_end = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
    value.is_empty()
        || text.match_indices(value).any(|(at, _)| {
            is_end(text[..at].chars().next_back())
                && is_end(text[at + value.len()..].chars().next())
        })
}

/// A remedy of the API, whose words are headers and parameters, as it is typed here.
fn as_typed(remedy: &str) -> String {
    const WORDS: [(&str, &str); 7] = [
        ("?force=true", "--force"),
        ("leave If-None-Match out", "leave --revision 0 out"),
        ("leave If-Match out", "leave --revision out"),
        ("use a new Idempotency-Key for another request", "give the command again"),
        ("then use a new Idempotency-Key", "then give the command again"),
        (
            "ask again with the same Idempotency-Key, or look first",
            "look what it did before you ask again",
        ),
        ("under another Idempotency-Key", "by the same command"),
    ];
    let mut typed = remedy.to_owned();
    for (sent, word) in WORDS {
        typed = typed.replace(sent, word);
    }
    match typed.split_once("If-Match: \"") {
        Some((before, after)) => format!("{before}--revision {}", after.replacen('"', "", 1)),
        None => typed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorCode, FieldError};

    fn said(error: ApiError) -> String {
        let mut said = Vec::new();
        let _ = Failure::from(error).report(&mut said);
        String::from_utf8(said).unwrap()
    }

    #[test]
    fn an_error_shows_the_value_once_and_names_what_can_be_typed() {
        let wrong = |field: &str, value: &str, problem: &str| {
            let mut error =
                ApiError::from(FieldError::invalid(field, value, problem, "correct it"));
            // As `apply` tells of which file's job it is.
            error.problem.detail.insert_str(0, "a.yaml: jobs[0] (Dd): ");
            said(error)
        };
        for (field, value) in [("name", "Dd"), ("legacy_id", "0")] {
            let told = wrong(field, value, "it cannot be");
            assert!(told.contains(&format!("it cannot be ({value:?})\n")), "{told}");
        }
        let told = wrong("zone", "Mars", "there is no zone \"Mars\"");
        assert!(!told.contains("(\"Mars\")"), "{told}");
        for (remedy, typed) in [
            ("take it away; ?force=true does that", "take it away; --force does that"),
            ("and ask for it: If-Match: \"3\"", "and ask for it: --revision 3"),
            ("leave If-Match out to create it", "leave --revision out to create it"),
        ] {
            let told = said(ApiError::new(ErrorCode::Conflict, "no", remedy));
            assert_eq!(told, format!("error: no\nhint: {typed}\n"));
        }
    }
}
