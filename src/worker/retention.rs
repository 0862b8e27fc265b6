//! Folders of attempts whose results are committed, and whose output is not delivered
//! yet: bounded in number and bytes, oldest removed first, because a worker that cannot
//! deliver must not fill its disk.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use super::output;
use super::shim::dir;

/// Folders kept at most.
const MAX_FOLDERS: usize = 2_000;
/// Bytes of output kept at most.
const MAX_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// Files that nobody needs any more.
const USED_UP: [&str; 8] =
    [dir::SPEC, dir::SCRIPT, dir::CONTROL, dir::LOCK, dir::PID, dir::JOB, dir::OUTPUTS, dir::STATE];

/// What is kept, oldest first.
#[derive(Debug, Default)]
pub(super) struct Retention {
    kept: VecDeque<(PathBuf, u64)>,
    bytes: u64,
}

impl Retention {
    /// Takes over the folders below `attempts` that the journal no longer knows, and says
    /// which are kept. Blocks.
    pub(super) fn adopt(
        &mut self,
        attempts: &Path,
        is_known: impl Fn(&Path) -> bool,
    ) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(attempts) else { return Vec::new() };
        let mut left: Vec<_> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
            })
            .filter(|(_, folder)| !is_known(folder))
            .collect();
        left.sort();
        for (_, folder) in left {
            self.keep(folder);
        }
        self.kept.iter().map(|(folder, _)| folder.clone()).collect()
    }

    /// Removes a folder. Blocks.
    pub(super) fn discard(&mut self, folder: &Path) {
        if let Some(at) = self.kept.iter().position(|(kept, _)| kept == folder)
            && let Some((_, bytes)) = self.kept.remove(at)
        {
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        remove(folder);
    }

    /// Keeps `folder`'s output, drops its other content and whatever is too old. Blocks.
    pub(super) fn keep(&mut self, folder: PathBuf) {
        let firsts = output::files(&folder).unwrap_or_default();
        if firsts.is_empty() {
            remove(&folder);
            return;
        }
        let size = |first: &u64| fs::metadata(output::path(&folder, *first)).map(|file| file.len());
        let bytes: u64 = firsts.iter().filter_map(|first| size(first).ok()).sum();
        for name in USED_UP {
            // Not every attempt has all of them.
            let _ = fs::remove_file(folder.join(name));
        }
        remove(&folder.join(dir::WORK));
        self.bytes += bytes;
        self.kept.push_back((folder, bytes));
        while self.kept.len() > MAX_FOLDERS || self.bytes > MAX_BYTES {
            let Some((oldest, bytes)) = self.kept.pop_front() else { return };
            self.bytes = self.bytes.saturating_sub(bytes);
            tracing::warn!(folder = %oldest.display(), "output that no node has taken is removed: too much waits");
            remove(&oldest);
        }
    }
}

fn remove(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "cannot remove an attempt's folder");
    }
}
