//! The process behind one disk: it shows the disk as a file of a file system of its
//! own (FUSE), and takes orders, a line each.
//!
//! A process of its own, because whoever waits for a disk cannot be killed until the
//! disk answers: inside the harness it could keep the harness itself from ending.
//! When it ends, however that happens, the kernel fails whatever waits for it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyWrite,
    Request, TimeOrNow, WriteFlags,
};

use super::drive::Drive;
use super::platter::{Platter, Tear};
use super::{FILE, Order};

/// The file's number; the folder's is the root's.
const DISK: INodeNo = INodeNo(2);
/// So many requests are worked on at once.
const THREADS: usize = 4;
/// Nothing about the file ever changes but its content.
const FOR_EVER: Duration = Duration::from_secs(1 << 30);

/// Serves the disk whose bytes are in `image` below `at`, until nobody orders any more.
pub(crate) fn serve(image: &Path, at: &Path, out: &mut impl Write) -> io::Result<()> {
    let image = File::options().read(true).write(true).open(image)?;
    let size = image.metadata()?.len();
    let drive = Arc::new(Drive::new(Platter::new(image)));
    let mut config = fuser::Config::default();
    config.mount_options =
        vec![MountOption::FSName("torn".to_owned()), MountOption::NoDev, MountOption::NoSuid];
    config.n_threads = Some(THREADS);
    let disk = Disk { drive: Arc::clone(&drive), size };
    let session = fuser::spawn_mount(disk, at, &config)?;
    let notifier = session.notifier();
    answer(out, "ready")?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let done = match Order::read(&line) {
            Some(Order::Cut(keep, seed)) => {
                let torn = drive.cut(Tear { keep, seed })?;
                format!("{} {} {}", torn.kept, torn.older, torn.dropped)
            }
            Some(Order::Off) => {
                drive.power_off();
                "off".to_owned()
            }
            Some(Order::On) => {
                // What the system remembers of the file is not what the disk holds.
                if let Err(error) = notifier.inval_inode(DISK, 0, 0)
                    && error.kind() != io::ErrorKind::NotFound
                {
                    return Err(error);
                }
                drive.power_on();
                "on".to_owned()
            }
            Some(Order::Lie(lies)) => {
                drive.set_lies(lies);
                "lie".to_owned()
            }
            None => format!("no order: {line}"),
        };
        answer(out, &done)?;
    }
    Ok(())
}

fn answer(out: &mut impl Write, text: &str) -> io::Result<()> {
    writeln!(out, "{text}")?;
    out.flush()
}

/// One file in one folder.
struct Disk {
    drive: Arc<Drive>,
    size: u64,
}

impl Disk {
    fn about(&self, number: INodeNo) -> Option<FileAttr> {
        let (kind, perm, nlink, size) = match number {
            INodeNo::ROOT => (FileType::Directory, 0o700, 2, 0),
            DISK => (FileType::RegularFile, 0o600, 1, self.size),
            _ => return None,
        };
        Some(FileAttr {
            ino: number,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl Filesystem for Disk {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let is_it = parent == INodeNo::ROOT && name == OsStr::new(FILE);
        match self.about(DISK).filter(|_| is_it) {
            Some(about) => reply.entry(&FOR_EVER, &about, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.about(number) {
            Some(about) => reply.attr(&FOR_EVER, &about),
            None => reply.error(Errno::ENOENT),
        }
    }

    /// Times are all that may be set, and they mean nothing.
    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<std::time::SystemTime>,
        _: Option<FileHandle>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        match self.about(number) {
            Some(about) if size.is_none_or(|size| size == about.size) => {
                reply.attr(&FOR_EVER, &about);
            }
            Some(_) => reply.error(Errno::EPERM),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let end = self.size.min(offset.saturating_add(size.into()));
        let length = usize::try_from(end.saturating_sub(offset)).unwrap_or(0);
        let mut bytes = vec![0; length];
        match self.drive.read(offset, &mut bytes) {
            Ok(()) => reply.data(&bytes),
            Err(error) => reply.error(error.into()),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if offset.saturating_add(length.into()) > self.size {
            return reply.error(Errno::ENOSPC);
        }
        match self.drive.write(offset, bytes) {
            Ok(()) => reply.written(length),
            Err(error) => reply.error(error.into()),
        }
    }

    /// Of a file descriptor that is closed, which promises nothing.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        match self.drive.flush() {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error.into()),
        }
    }
}
