//! The `http` verb: one request, its answer on standard output, and whether that is as
//! expected as the exit code.
//!
//! A job's process like every other. It follows no redirection and asks no proxy: what is
//! asked is what the job says, and the answer tells where to go on. What it prints of the
//! request is the method and the URL; header fields and body may be secret.

mod ask;
mod tls;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use horai_core::model::executor::HttpExpect;
use serde::{Deserialize, Serialize};

/// The answer is not as expected.
const UNEXPECTED: u8 = 1;
/// There is no such request.
const NO_REQUEST: u8 = 2;
/// Nobody answered, not in time, or nobody who could be believed.
const NO_ANSWER: u8 = 3;

/// What to ask and what to expect; times in milliseconds.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Option<String>,
    /// Ranges of codes; none: all below 400.
    pub(crate) status: Vec<(u16, u16)>,
    /// A regular expression.
    pub(crate) body_matches: Option<String>,
    pub(crate) connect_timeout_ms: u64,
    pub(crate) timeout_ms: u64,
    pub(crate) ca_file: Option<String>,
    pub(crate) insecure: bool,
}

impl Request {
    fn expect(&self) -> HttpExpect {
        HttpExpect { status: self.status.clone(), body: self.body_matches.clone() }
    }
}

/// Why it is no success.
#[derive(Debug, PartialEq, Eq)]
struct Failure {
    exit: u8,
    why: String,
}

impl Failure {
    fn new(exit: u8, why: impl Into<String>) -> Self {
        Self { exit, why: why.into() }
    }
}

/// Asks what the file says.
#[must_use]
pub(crate) fn main(request: &Path) -> ExitCode {
    let (mut out, mut log) = (io::stdout().lock(), io::stderr());
    match run(request, &mut out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { exit, why }) => {
            // Who cannot write has nobody to tell.
            let _ = out.flush().and_then(|()| writeln!(log, "http: {why}"));
            ExitCode::from(exit)
        }
    }
}

fn run(request: &Path, out: &mut impl Write) -> Result<(), Failure> {
    let read = std::fs::read(request).map_err(|error| error.to_string());
    let read = read.and_then(|bytes| {
        // The parser's words could show a part of what it read.
        serde_json::from_slice::<Request>(&bytes).map_err(|_| "it is damaged".to_owned())
    });
    let request =
        read.map_err(|why| Failure::new(NO_REQUEST, format!("the request cannot be read: {why}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(NO_REQUEST, error.to_string()))?;
    let done = runtime.block_on(ask::ask(&request, out));
    // A name that is still being looked up is nobody's any more.
    runtime.shutdown_background();
    done
}
