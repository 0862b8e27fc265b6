//! Files of jobs: their contents are said to be needed before a definition names them.
//!
//! From then on every node keeps what it has of them, and a definition that comes while
//! they are kept finds them. One that comes later is refused: some node may have dropped
//! them meanwhile, as each decides from this state alone.

use super::super::outcome::{Outcome, Reject};
use super::super::state::State;
use super::{at_most, invalid, room_for};
use crate::model::file::{Digest, FileProblem, JobFile, Upload};
use crate::model::job::JobSpec;

/// Contents of one command.
const MOST: usize = 10_000;

impl State {
    /// These contents are about to be named.
    pub(super) fn note_files(&mut self, files: &[(Digest, u32)]) -> Result<Outcome, Reject> {
        at_most("files", files.len(), MOST)?;
        for (digest, len) in files {
            if u64::from(*len) > JobFile::MAX_BYTES {
                return Err(invalid("files", format!("{digest} has {len} bytes; send less")));
            }
            if self.file_len(*digest).is_some_and(|known| known != *len) {
                return Err(invalid("files", format!("{digest} has not {len} bytes; send it")));
            }
        }
        let now = self.meta.now;
        let stale = self.uploads.iter().filter(|(_, upload)| !upload.is_fresh(now));
        for digest in stale.map(|(digest, _)| *digest).collect::<Vec<_>>() {
            self.uploads.remove(&digest);
        }
        let fresh = files.iter().filter(|(digest, _)| !self.uploads.contains(digest)).count();
        room_for("uploads of files", self.uploads.len() + fresh, self.limits.uploads)?;
        for (digest, len) in files {
            self.uploads.put(*digest, Upload { len: *len, at: now });
        }
        Ok(Outcome::Done)
    }

    /// The contents that a definition names are kept.
    pub(super) fn check_files(&self, spec: &JobSpec) -> Result<(), Reject> {
        if let Some(FileProblem { field, value, problem, remedy }) = JobFile::problem(&spec.files) {
            return Err(invalid(&field, format!("{value}: {problem}; {remedy}")));
        }
        let is_kept = |file: &JobFile| self.file_len(file.digest) == Some(file.len);
        match spec.files.iter().find(|(_, file)| !is_kept(file)) {
            None => Ok(()),
            Some((name, file)) => {
                let problem = format!(
                    "the cluster has no content of {} bytes with hash {}; send the content itself",
                    file.len, file.digest
                );
                Err(invalid(&format!("files.{name}"), problem))
            }
        }
    }
}
