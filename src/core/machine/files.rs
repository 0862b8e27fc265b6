//! Files of jobs: reading only. Which contents somebody may still ask for.

use imbl::OrdMap;

use super::index::count;
use super::state::State;
use crate::model::file::{Digest, Upload};
use crate::model::job::JobSpec;

/// What can be derived of files, kept by [`super::index`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FileIndex {
    /// How many files of kept definitions have this content, of so many bytes.
    named: OrdMap<(Digest, u32), u32>,
}

impl FileIndex {
    /// A definition is kept, or no longer.
    pub(super) fn spec_changed(&mut self, spec: &JobSpec, is_there: bool) {
        for file in spec.files.values() {
            count(&mut self.named, &(file.digest, file.len), is_there);
        }
    }

    fn names(&self, digest: Digest) -> Option<u32> {
        let all = (digest, 0)..=(digest, u32::MAX);
        self.named.range(all).next().map(|((_, len), _)| *len)
    }
}

impl State {
    /// The bytes of a content that nodes must keep: of a kept definition, or said to be
    /// needed not long ago. None: nobody may ask for it any more.
    #[must_use]
    pub fn file_len(&self, digest: Digest) -> Option<u32> {
        let fresh = self.uploads.get(&digest).filter(|upload| upload.is_fresh(self.meta.now));
        self.index.files.names(digest).or(fresh.map(|upload| upload.len))
    }

    /// Contents that were said to be needed, whether or not that still counts.
    pub fn uploads(&self) -> impl Iterator<Item = (&Digest, &Upload)> {
        self.uploads.iter()
    }

    /// How many different contents kept definitions name.
    #[must_use]
    pub fn named_files(&self) -> usize {
        self.index.files.named.len()
    }
}
