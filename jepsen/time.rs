//! Times as the evidence has them: monotonic nanoseconds, which everything is put in
//! order by, and milliseconds of the wall clock, which fires are promised in.
//!
//! Nothing else asks these clocks or reads an instant, so that all rows agree.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds in a millisecond.
pub(crate) const MS: u64 = 1_000_000;

/// One instant on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Monotonic, in nanoseconds.
    pub(crate) t: u64,
    /// Wall clock, in milliseconds.
    pub(crate) utc: i64,
}

impl Stamp {
    /// Now. The clocks are asked by system call, which no preloaded library alters.
    pub(crate) fn now() -> Self {
        let mono = clock_gettime(ClockId::Monotonic);
        let wall = clock_gettime(ClockId::Realtime);
        let positive = |n: i64| u64::try_from(n).unwrap_or_default();
        Self {
            t: positive(mono.tv_sec) * 1_000_000_000 + positive(mono.tv_nsec),
            utc: wall.tv_sec * 1_000 + wall.tv_nsec / 1_000_000,
        }
    }
}

/// Milliseconds of an instant in RFC 3339; none if the text is no such instant.
pub(crate) fn millis(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

/// An instant for people.
pub(crate) fn shown(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_as_they_are_shown() {
        assert_eq!(millis("2026-11-21T10:00:05.250Z"), Some(1_795_255_205_250));
        assert_eq!(millis("2026-11-21T11:00:05.25+01:00"), Some(1_795_255_205_250));
        assert_eq!(millis(&shown(1_795_255_205_250)), Some(1_795_255_205_250));
        assert_eq!(millis("yesterday"), None);
    }

    #[test]
    fn a_stamp_is_of_the_machines_clocks() {
        let (first, second) = (Stamp::now(), Stamp::now());
        assert!(second.t >= first.t);
        let wall = jiff::Timestamp::now().as_millisecond();
        assert!((wall - second.utc).abs() < 60_000, "{wall} {}", second.utc);
    }
}
