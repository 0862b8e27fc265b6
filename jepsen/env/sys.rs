//! The two system calls for which no safe wrapper exists.
//!
//! Everything else of the environment is done with safe calls or with the tools
//! of the system. Both calls are exercised by `jepsen doctor`.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Setter, ioctl, opcode};

/// A network interface that a process reads and writes packets of.
const IFF_TUN: u16 = 0x0001;
/// Packets come without a header of the driver.
const IFF_NO_PI: u16 = 0x1000;

/// `struct ifreq` as `TUNSETIFF` reads it.
#[repr(C)]
struct Ifreq {
    name: [u8; 16],
    flags: u16,
    unused: [u8; 22],
}

/// Makes an open `/dev/net/tun` the interface `name` of the calling thread's
/// network namespace.
pub(super) fn become_interface(tun: &File, name: &str) -> io::Result<()> {
    let mut request = Ifreq { name: [0; 16], flags: IFF_TUN | IFF_NO_PI, unused: [0; 22] };
    if name.len() >= request.name.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "an interface's name is too long"));
    }
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF, `_IOW('T', 202, int)`, reads a `struct ifreq` of 40 bytes,
    // which `Ifreq` is, whatever size its number names.
    #[allow(unsafe_code, reason = "rustix has no wrapper for TUNSETIFF")]
    unsafe {
        let set = Setter::<{ opcode::write::<i32>(b'T', 202) }, Ifreq>::new(request);
        ioctl(tun.as_fd(), set)?;
    }
    Ok(())
}

/// How a file system goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Down {
    /// Everything is written first; from then on all calls fail: a dead disk.
    AfterSync = 0,
    /// Nothing more is written, not even the journal: the power is gone.
    AtOnce = 2,
}

/// Shuts down the file system that holds an open folder (`EXT4_IOC_SHUTDOWN`).
pub(super) fn shut_down(folder: &File, how: Down) -> io::Result<()> {
    // SAFETY: EXT4_IOC_SHUTDOWN, `_IOR('X', 125, __u32)`, reads one u32 by pointer.
    #[allow(unsafe_code, reason = "rustix has no wrapper for EXT4_IOC_SHUTDOWN")]
    unsafe {
        let set = Setter::<{ opcode::read::<u32>(b'X', 125) }, u32>::new(how as u32);
        ioctl(folder.as_fd(), set)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_has_the_layout_of_the_kernel() {
        assert_eq!(size_of::<Ifreq>(), 40);
        assert_eq!(std::mem::offset_of!(Ifreq, flags), 16);
        assert_eq!(opcode::write::<i32>(b'T', 202), 0x4004_54ca);
        assert_eq!(opcode::read::<u32>(b'X', 125), 0x8004_587d);
    }

    #[test]
    fn what_is_no_device_is_refused() {
        let file = tempfile::tempfile().unwrap();
        assert!(become_interface(&file, "eth0").is_err());
        assert!(become_interface(&file, "a name of far too many letters").is_err());
        let memory = File::open("/proc/self").unwrap();
        assert!(shut_down(&memory, Down::AtOnce).is_err());
    }
}
