//! Output of attempts, in events.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::text::Time;

/// What a node holds of the output of jobs, and of their files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsDto {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Attempts with output.
    pub attempts: u64,
    /// Different contents of files.
    #[serde(default)]
    pub files: u64,
    /// Records that could not be read since the node started.
    pub damaged: u64,
    /// Why it takes nothing, if it does not.
    pub shut: Option<String>,
    /// Attempts that some voter lacks something of; only the node that leads knows.
    pub behind: Option<usize>,
}

/// A stretch of an attempt's output that came at one time on one stream, or that is left
/// out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEventDto {
    /// Its first byte.
    pub from: u64,
    /// Behind its last byte.
    pub to: u64,
    /// When it came; none if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
    /// `stdout` or `stderr`; none if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// The bytes, if they are UTF-8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// and otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

impl LogEventDto {
    /// A stretch of output.
    #[must_use]
    pub fn of(from: u64, bytes: &[u8], at: Time, stream: &str) -> Self {
        let text = std::str::from_utf8(bytes).ok().map(str::to_owned);
        let base64 = text.is_none().then(|| STANDARD.encode(bytes));
        let to = from + bytes.len() as u64;
        Self { from, to, at: Some(at), stream: Some(stream.to_owned()), text, base64 }
    }

    /// A stretch that is left out.
    #[must_use]
    pub fn gap(from: u64, to: u64) -> Self {
        Self { from, to, at: None, stream: None, text: None, base64: None }
    }

    /// The bytes; none if they are left out, or not to be read.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match (&self.text, &self.base64) {
            (Some(text), _) => Some(text.clone().into_bytes()),
            (None, Some(base64)) => STANDARD.decode(base64).ok(),
            (None, None) => None,
        }
    }
}

/// What is shown in the place of bytes that are left out.
#[must_use]
pub fn left_out(from: u64, to: u64) -> String {
    format!("\n[horai: {} bytes of output are left out here]\n", to - from)
}
