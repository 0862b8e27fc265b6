//! Why a worker stops by itself: without these things it can keep no promise.

use std::io;
use std::path::PathBuf;

use super::{fence, journal};

/// Why the worker stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal cannot be used.
    #[error("the worker cannot keep its journal")]
    Journal(#[from] journal::Error),
    /// The fence cannot be used.
    #[error("the worker cannot keep its fence")]
    Fence(#[from] fence::Error),
    /// The data folder or the machine's facts cannot be read.
    #[error("the worker cannot use {what}")]
    Io {
        /// What it needed.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// Another worker runs there.
    #[error("{path:?} is used by another worker: stop it, or choose another data folder")]
    InUse {
        /// The data folder.
        path: PathBuf,
    },
}
