//! The seam to what an attempt runs as.
//!
//! A worker's own rules (journal before start, result before report, leases) are
//! in `super::attempts` and the same for every runner. The product's runner is
//! `super::shims`; a simulation has one without processes.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use horai_core::ids::{AttemptKey, Name, Token};
use horai_core::model::confinement::Isolation;
use horai_core::model::handle::Handle;
use horai_proto::worker as pb;

use super::ending::Ending;

/// Runs attempts outside of this process, so that they outlive it.
pub trait JobRunner: Send + Sync + 'static {
    /// Starts an attempt that must end by `deadline_ms` since boot unless it is told
    /// a later one. `offset_ms` is cluster time minus time since boot. Its working folder
    /// holds these files before anything of the job runs.
    fn start(
        &self,
        order: pb::Start,
        key: AttemptKey,
        token: Token,
        files: Vec<Furniture>,
        deadline_ms: u64,
        offset_ms: i64,
    ) -> BoxFuture<'_, io::Result<Started>>;

    /// How well attempts are kept apart, and what they can be held to.
    fn isolation(&self) -> Isolation {
        Isolation::default()
    }

    /// Names of the interpreters that scripts may be given to here.
    fn interpreters(&self) -> BTreeSet<Name> {
        BTreeSet::new()
    }

    /// The journal knows these attempts; the answer is what else is left of earlier ones:
    /// their output. Blocks; called once, before anything else.
    fn adopt_all(&self, known: &BTreeSet<AttemptKey>) -> Vec<AttemptKey>;

    /// The way to an attempt that an earlier worker started, if it takes orders.
    fn adopt(&self, key: AttemptKey) -> Option<Box<dyn Control>>;

    /// The lease that it was started with, in milliseconds; 0 if that is not known.
    fn lease_ms(&self, key: AttemptKey) -> u64;

    /// How it ended, once nothing of it can be running or start any more. What left
    /// no result is ended, and is gone.
    fn collect(&self, key: AttemptKey, token: Token) -> BoxFuture<'_, Ending>;

    /// True if its output may name what it begins elsewhere. Blocks.
    fn has_handles(&self, _key: AttemptKey) -> bool {
        false
    }

    /// What it began elsewhere, as far as that is known. Blocks.
    fn handles(&self, _key: AttemptKey) -> Vec<Handle> {
        Vec::new()
    }

    /// Commands that end what attempts of that interpreter began elsewhere; none where this
    /// worker knows none.
    fn kills(&self, _interpreter: &str, left: &[String]) -> Vec<(String, Vec<String>)> {
        left.iter().map(|text| (text.clone(), Vec::new())).collect()
    }

    /// Its result is committed: only its output is kept, until it is delivered. Blocks.
    fn release(&self, key: AttemptKey);

    /// Nothing of it is needed any more. Blocks.
    fn discard(&self, key: AttemptKey);

    /// Where its output is, if it has some.
    fn output(&self, key: AttemptKey) -> Option<PathBuf>;
}

/// A file that an attempt finds in its working folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Furniture {
    /// A relative path that stays within the folder.
    pub name: String,
    /// Its permissions.
    pub mode: u16,
    /// What is in it.
    pub content: Bytes,
}

/// An attempt that was started.
pub struct Started {
    /// The way to it.
    pub control: Box<dyn Control>,
    /// Its output may name what it begins elsewhere.
    pub has_handles: bool,
    /// Ends when it may have ended.
    pub ended: BoxFuture<'static, ()>,
}

/// Orders to a running attempt. Those that do not get through are given again.
pub trait Control: Send {
    /// Its lease ends later.
    ///
    /// # Errors
    /// If it is gone or does not listen.
    fn extend(&self, deadline_ms: u64) -> io::Result<()>;

    /// It is to end, with so much grace.
    ///
    /// # Errors
    /// If it is gone or does not listen.
    fn cancel(&self, grace_ms: u64) -> io::Result<()>;
}
