//! A disk that a test can fill: a file system in memory, mounted on a folder.
//!
//! It is taken away with the value, even under a process that still uses it.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Written at once while filling; what is left is less than a page.
const BLOCKS: [usize; 2] = [1 << 20, 4 << 10];

/// A mounted folder of a given size.
pub(crate) struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Makes the folder and mounts a disk of so many MiB on it.
    #[track_caller]
    pub(crate) fn mount(at: &Path, mib: u64) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let options = CString::new(format!("size={mib}m,mode=0700")).unwrap();
        let mounted = mount("none", at, "tmpfs", MountFlags::empty(), options.as_c_str());
        if let Err(error) = mounted {
            panic!(
                "cannot mount a tmpfs on {}: {error}. This test needs a really full disk: run it \
                 as root, in a container with CAP_SYS_ADMIN",
                at.display()
            );
        }
        Self { at: at.to_owned() }
    }

    /// Takes all that is free.
    #[track_caller]
    pub(crate) fn fill(&self, name: &str) {
        let mut file = File::create(self.at.join(name)).unwrap();
        for block in BLOCKS.map(|size| vec![1; size]) {
            let full = loop {
                if let Err(error) = file.write_all(&block) {
                    break error;
                }
            };
            assert_eq!(full.kind(), io::ErrorKind::StorageFull, "{full}");
        }
    }

    /// Takes so many bytes.
    #[track_caller]
    pub(crate) fn take(&self, name: &str, mib: usize) {
        std::fs::write(self.at.join(name), vec![1; mib << 20]).unwrap();
    }

    /// Gives back what was taken under a name.
    #[track_caller]
    pub(crate) fn free(&self, name: &str) {
        std::fs::remove_file(self.at.join(name)).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A process may have it open: it goes with the last of them.
        let _ = unmount(&self.at, UnmountFlags::DETACH);
    }
}
