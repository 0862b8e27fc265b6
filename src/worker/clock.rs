//! The worker's two clocks: time since boot, which leases are held in, and the
//! boot's id, which says whether such times may be compared.
//!
//! Wall clocks are not read here: a step of the wall clock must neither end nor
//! prolong a lease. `CLOCK_BOOTTIME` also counts while the machine is suspended.

use std::io;

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since boot, suspension included.
#[must_use]
pub fn boot_ms() -> u64 {
    let t = clock_gettime(ClockId::Boottime);
    let secs = u64::try_from(t.tv_sec).unwrap_or(0);
    let millis = u64::try_from(t.tv_nsec).unwrap_or(0) / 1_000_000;
    secs.saturating_mul(1000).saturating_add(millis)
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
