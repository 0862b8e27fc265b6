//! Folders of attempts whose results are committed, and whose output is not delivered
//! yet: bounded in number and bytes, oldest removed first, because a worker that cannot
//! deliver must not fill its disk.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
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
    let refused = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    let removed = match fs::remove_dir_all(folder) {
        Err(error) if refused(&error) => {
            open_all(folder);
            fs::remove_dir_all(folder)
        }
        removed => removed,
    };
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "cannot remove an attempt's folder");
    }
}

/// Gives the worker its rights back in folders where a job took them from all.
fn open_all(folder: &Path) {
    // What cannot be opened is said when it cannot be removed.
    let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_all(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Uid, geteuid};
    use rustix::thread::set_thread_res_uid;

    use super::*;

    #[test]
    fn a_working_folder_goes_whatever_its_job_made_of_it() {
        let removed = std::thread::spawn(|| {
            // Tests run as root, from whom no permission keeps anything: this thread is not.
            if geteuid().is_root() {
                let nobody = Uid::from_raw(65_534);
                set_thread_res_uid(nobody, nobody, nobody).unwrap();
            }
            let home = tempfile::tempdir().unwrap();
            let attempt = home.path().join("r-1-0-1");
            let inner = attempt.join(dir::WORK).join("a/b");
            fs::create_dir_all(&inner).unwrap();
            fs::write(output::path(&attempt, 0), "said").unwrap();
            fs::write(inner.join("file"), "").unwrap();
            for folder in [inner.as_path(), inner.parent().unwrap()] {
                fs::set_permissions(folder, fs::Permissions::from_mode(0o000)).unwrap();
            }
            Retention::default().keep(attempt.clone());
            let said = fs::read_to_string(output::path(&attempt, 0)).unwrap();
            (attempt.join(dir::WORK).exists(), said)
        });
        assert_eq!(removed.join().unwrap(), (false, "said".to_owned()));
    }
}
