//! Clocks that lie: each machine's wall clock is true plus what a file says.
//!
//! libfaketime is loaded into the machine's programs and reads the file at each
//! look at the clock. It cannot reach programs that are linked statically: the
//! witness tells true times. Monotonic clocks stay true, as on a real machine whose
//! wall clock is set.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Error, at};

/// Where Debian's package puts it, for this kind of processor.
const LIBRARY: &str = if cfg!(target_arch = "aarch64") {
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1"
} else {
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
};

/// One machine's wall clock.
#[derive(Debug)]
pub(crate) struct Clock {
    file: PathBuf,
}

impl Clock {
    /// Makes the file; the clock is true.
    pub(crate) fn make(folder: &Path, machine: &str) -> Result<Self, Error> {
        let clock = Self { file: folder.join(format!("{machine}.clock")) };
        clock.set(0, 1000)?;
        Ok(clock)
    }

    /// Whether the library is there.
    pub(crate) fn check() -> Result<(), Error> {
        let missing = |e| Error::missing(LIBRARY, "libfaketime", e);
        fs::metadata(LIBRARY).map(drop).map_err(missing)
    }

    /// What a program's environment needs, for its clock to be this one.
    pub(crate) fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("LD_PRELOAD", LIBRARY.to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }

    /// Sets it off by so many milliseconds; from then on it goes at so many
    /// thousandths of the true rate.
    pub(crate) fn set(&self, off_ms: i64, rate: u32) -> Result<(), Error> {
        let sign = if off_ms < 0 { '-' } else { '+' };
        let (whole, rest) = (off_ms.unsigned_abs() / 1000, off_ms.unsigned_abs() % 1000);
        let mut text = format!("{sign}{whole}.{rest:03}");
        if rate != 1000 {
            text.push_str(&format!(" x{}.{:03}", rate / 1000, rate % 1000));
        }
        // By rename: the library must never read half a number.
        let new = self.file.with_extension("new");
        let done = fs::write(&new, text).and_then(|()| fs::rename(&new, &self.file));
        done.map_err(at(&self.file.display().to_string()))
    }
}
