//! The worker's two clocks: time since boot, which leases are held in, and the
//! boot's id, which says whether such times may be compared.
//!
//! Wall clocks are not read here: a step of the wall clock must neither end nor
//! prolong a lease. `CLOCK_BOOTTIME` also counts while the machine is suspended.

use std::io;

use horai_raft::cluster_clock::BootTime;
use horai_raft::host::{Host, OsHost};

/// Milliseconds since boot, suspension included.
#[must_use]
pub fn boot_ms() -> u64 {
    millis(OsHost.boot_time())
}

/// A reading of a boot clock in the milliseconds that leases are held in.
#[must_use]
pub fn millis(at: BootTime) -> u64 {
    u64::try_from(at.0.as_millis()).unwrap_or(u64::MAX)
}

/// The kernel's random id of this boot.
///
/// # Errors
/// If `/proc` is not there or holds something else.
pub fn boot_id() -> io::Result<u128> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    uuid::Uuid::parse_str(text.trim()).map(|id| id.as_u128()).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_since_boot_does_not_go_back_and_the_boot_id_stays() {
        let first = boot_ms();
        assert!(first > 0 && boot_ms() >= first);
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
    }
}
