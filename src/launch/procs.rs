//! What processes cost: CPU time and memory, as the kernel counts them.

use std::fs;

/// The unit of CPU time in `/proc`: Linux shows it to programs in hundredths of
/// a second on every machine, whatever its own tick is.
const TICKS_PER_SECOND: u64 = 100;

/// What one process has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// CPU time of all its threads, user and system, in milliseconds.
    pub cpu_ms: u64,
    /// Memory now, in bytes.
    pub rss: u64,
    /// The most memory it ever had, in bytes.
    pub peak: u64,
}

/// The usage of process `pid`; none if it is gone.
#[must_use]
pub fn usage(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(Usage {
        cpu_ms: cpu_ms(&stat)?,
        rss: kilobytes(&status, "VmRSS:")? * 1024,
        peak: kilobytes(&status, "VmHWM:")? * 1024,
    })
}

fn cpu_ms(stat: &str) -> Option<u64> {
    // The name in parentheses may hold anything, a parenthesis too.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * 1000 / TICKS_PER_SECOND)
}

fn kilobytes(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "42 (a) b) c) S 7 9 9 0 -1 0 11 12 13 14 250 31 17 18 20 0 1 0 12345 0 0";
        assert_eq!(cpu_ms(stat), Some(2_810));
        let status = "Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n";
        assert_eq!(kilobytes(status, "VmRSS:"), Some(1024));
        assert_eq!(kilobytes(status, "VmSwap:"), None);
    }

    #[test]
    fn this_process_uses_something_and_a_missing_one_nothing() {
        let me = usage(std::process::id()).unwrap();
        assert!(me.rss > 0 && me.peak >= me.rss);
        assert_eq!(usage(u32::MAX), None);
    }
}
