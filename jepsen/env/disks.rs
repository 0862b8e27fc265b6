//! Disks that can fail: an ext4 file system of its own for each machine, in a file,
//! behind a loop device.
//!
//! The file has no name: it is unlinked at once and reached through our own file
//! descriptor, so that nothing stays behind whatever happens to the harness. A power
//! cut is the file system's own emergency shutdown without flushing its journal:
//! what was synced stays, what was not is gone. Where the disk has a cache of its own
//! (see [`super::torn`]), a cut may also tear what had reached the disk.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rand::Rng;

use super::sys::{Down, shut_down};
use super::torn::{Tear, TornDisk};
use super::{Error, at, tool};

/// Written at once while filling.
const BLOCKS: [usize; 3] = [1 << 20, 64 << 10, 4 << 10];
/// The name of what takes up the space of a full disk.
const FILLER: &str = "filler";
/// How long an unmount may find the disk in use by what was just killed.
const BUSY: Duration = Duration::from_secs(10);

/// One machine's disk.
#[derive(Debug)]
pub(crate) struct Disk {
    image: File,
    at: PathBuf,
    is_mounted: bool,
    /// What stands between the file system and the image, if it has a cache.
    cache: Option<TornDisk>,
}

impl Disk {
    /// Makes a disk of so many MiB, its bytes in `folder`, and mounts it on `at`. One
    /// that `can_tear` has a cache that a power cut tears; it is slower.
    pub(crate) fn make(
        folder: &Path,
        mount_on: &Path,
        mib: u64,
        can_tear: bool,
    ) -> Result<Self, Error> {
        std::fs::create_dir_all(mount_on).map_err(at(&mount_on.display().to_string()))?;
        let name = folder.join(format!(".disk-{:016x}", rand::rng().random::<u64>()));
        let what = name.display().to_string();
        let opened = File::options().read(true).write(true).create_new(true).open(&name);
        let image = opened.map_err(at(&what))?;
        std::fs::remove_file(&name).map_err(at(&what))?;
        image.set_len(mib << 20).map_err(at(&what))?;
        let mut disk = Self { image, at: mount_on.to_owned(), is_mounted: false, cache: None };
        if can_tear {
            let name = format!("{:016x}", rand::rng().random::<u64>());
            disk.cache = Some(TornDisk::start(&disk.path_of_image(), &name)?);
        }
        disk.format()?;
        disk.mount()?;
        Ok(disk)
    }

    fn path_of_image(&self) -> String {
        use std::os::fd::AsRawFd;
        if let Some(cache) = &self.cache {
            return cache.file().display().to_string();
        }
        format!("/proc/{}/fd/{}", std::process::id(), self.image.as_raw_fd())
    }

    fn format(&self) -> Result<(), Error> {
        // Tables written now, not in the background: nothing writes but the machine.
        let early = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        tool("mkfs.ext4", &["-q", "-F", "-E", early, &self.path_of_image()]).map(drop)
    }

    /// Where it is mounted.
    pub(crate) fn at(&self) -> &Path {
        &self.at
    }

    pub(crate) fn mount(&mut self) -> Result<(), Error> {
        let (image, on) = (self.path_of_image(), self.at.display().to_string());
        if let Some(cache) = &mut self.cache {
            cache.power_on()?;
        }
        tool("mount", &["-t", "ext4", "-o", "loop,errors=remount-ro,noatime", &image, &on])?;
        self.is_mounted = true;
        Ok(())
    }

    /// Mounts it where it is not.
    pub(crate) fn mount_if_not(&mut self) -> Result<(), Error> {
        if self.is_mounted { Ok(()) } else { self.mount() }
    }

    /// Unmounts it; its machine's processes must be gone.
    pub(crate) fn unmount(&mut self) -> Result<(), Error> {
        let on = self.at.display().to_string();
        let end = Instant::now() + BUSY;
        while self.is_mounted {
            match tool("umount", &[&on]) {
                Ok(_) => self.is_mounted = false,
                Err(error) if Instant::now() > end => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        Ok(())
    }

    fn folder(&self) -> Result<File, Error> {
        File::open(&self.at).map_err(at(&self.at.display().to_string()))
    }

    /// The file system is gone, as if without power: nothing more is written. The
    /// machine's processes should be stopped before and killed after it; then
    /// [`Disk::mount`] again.
    pub(super) fn shut_down(&self) -> Result<(), Error> {
        shut_down(&self.folder()?, Down::AtOnce).map_err(at("cut the power of a disk"))
    }

    /// What a power cut tears, if it is such a disk.
    pub(super) fn cache(&mut self) -> Option<&mut TornDisk> {
        self.cache.as_mut()
    }

    /// From now on the disk answers nobody, as in a power cut that does not go on.
    pub(crate) fn stop_answering(&mut self) -> Result<(), Error> {
        let none = || Error::Misuse("a disk without a cache always answers".into());
        let cache = self.cache.as_mut().ok_or_else(none)?;
        cache.begin_cut(Tear::NOTHING)?;
        cache.end_cut().map(drop)
    }

    /// From now on the disk says that it flushed, and does not; or it is honest again.
    pub(crate) fn lie(&mut self, lies: bool) -> Result<(), Error> {
        match &mut self.cache {
            Some(cache) => cache.lie(lies),
            None => Err(Error::Misuse("a disk without a cache cannot lie".into())),
        }
    }

    /// From now on each call to the disk fails with EIO, until it is mounted again.
    pub(crate) fn die(&self) -> Result<(), Error> {
        shut_down(&self.folder()?, Down::AfterSync).map_err(at("let a disk die"))
    }

    /// The loop device behind it, such as `7:3` and `loop3`.
    pub(crate) fn device(&self) -> Result<(String, String), Error> {
        let table =
            std::fs::read_to_string("/proc/self/mountinfo").map_err(at("read the mounts"))?;
        let on = self.at.display().to_string();
        let line = table.lines().rev().find(|line| line.split(' ').nth(4) == Some(on.as_str()));
        let number = line.and_then(|line| line.split(' ').nth(2));
        let name = line.and_then(|line| line.split(" - ").nth(1)?.split(' ').nth(1));
        match (number, name.and_then(|name| name.strip_prefix("/dev/"))) {
            (Some(number), Some(name)) => Ok((number.to_owned(), name.to_owned())),
            _ => Err(Error::Misuse(format!("{on} is not mounted"))),
        }
    }

    /// Makes the file system find a fault in itself: it turns read-only.
    pub(crate) fn turn_read_only(&self) -> Result<(), Error> {
        let (_, name) = self.device()?;
        let file = format!("/sys/fs/ext4/{name}/trigger_fs_error");
        std::fs::write(&file, "1").map_err(at(&file))
    }

    /// Checks and mends what [`Disk::turn_read_only`] marked; it must not be mounted.
    pub(crate) fn mend(&self) -> Result<(), Error> {
        let checked = Command::new("e2fsck").args(["-f", "-y", &self.path_of_image()]).output();
        let out = checked.map_err(|e| Error::missing("e2fsck", "e2fsprogs", e))?;
        // 1 and 2 say that something was mended.
        match out.status.code() {
            Some(0..=2) => Ok(()),
            _ => Err(Error::failed("e2fsck", &out)),
        }
    }

    /// Writes block until [`Disk::thaw`].
    pub(crate) fn hang(&self) -> Result<(), Error> {
        tool("fsfreeze", &["-f", &self.at.display().to_string()]).map(drop)
    }

    pub(crate) fn thaw(&self) -> Result<(), Error> {
        tool("fsfreeze", &["-u", &self.at.display().to_string()]).map(drop)
    }

    /// Takes all that is free but so many bytes.
    pub(crate) fn fill(&self, leave: u64) -> Result<(), Error> {
        let path = self.at.join(FILLER);
        let what = path.display().to_string();
        let mut file = File::create(&path).map_err(at(&what))?;
        for block in BLOCKS.map(|size| vec![1; size]) {
            let full = loop {
                if let Err(error) = file.write_all(&block) {
                    break error;
                }
            };
            if full.kind() != std::io::ErrorKind::StorageFull {
                return Err(at(&what)(full));
            }
        }
        let length = file.metadata().map_err(at(&what))?.len();
        file.set_len(length.saturating_sub(leave)).map_err(at(&what))?;
        Ok(())
    }

    /// Gives back what [`Disk::fill`] took.
    pub(crate) fn free(&self) -> Result<(), Error> {
        let path = self.at.join(FILLER);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(at(&path.display().to_string())(error))
            }
            _ => Ok(()),
        }
    }

    /// A new, empty disk in its place.
    pub(crate) fn wipe(&mut self) -> Result<(), Error> {
        self.unmount()?;
        self.format()?;
        self.mount()
    }

    /// Turns single bits of the largest files under `folder` over. Answers which.
    pub(crate) fn flip_bits(
        &self,
        folder: &str,
        count: u32,
        rng: &mut impl Rng,
    ) -> Result<Vec<String>, Error> {
        let mut files = Vec::new();
        let below = self.at.join(folder);
        files_below(&below, &mut files).map_err(at(&format!("list {}", below.display())))?;
        files.sort_by_key(|(path, length)| (std::cmp::Reverse(*length), path.clone()));
        files.truncate(2);
        files.retain(|(_, length)| *length > 0);
        if files.is_empty() {
            return Err(Error::Misuse(format!("{folder} holds nothing to damage")));
        }
        let mut done = Vec::new();
        for _ in 0..count {
            let (path, length) = &files[rng.random_range(0..files.len())];
            let (offset, bit) = (rng.random_range(0..*length), rng.random_range(0..8_u8));
            flip(path, offset, bit).map_err(at(&path.display().to_string()))?;
            done.push(format!("{} byte {offset} bit {bit}", path.display()));
        }
        Ok(done)
    }
}

fn flip(path: &Path, offset: u64, bit: u8) -> std::io::Result<()> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(&mut byte)?;
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(&[byte[0] ^ (1 << bit)])?;
    file.sync_all()
}

fn files_below(folder: &Path, found: &mut Vec<(PathBuf, u64)>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_dir() {
            files_below(&entry.path(), found)?;
        } else if meta.is_file() {
            found.push((entry.path(), meta.len()));
        }
    }
    Ok(())
}
