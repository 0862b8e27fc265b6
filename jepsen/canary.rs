//! Whether the machine itself let anybody work: a small program, started again and
//! again beside the test, and a little work of our own.
//!
//! Times are judged only where this was quick. On a machine that takes long to start
//! anything or to sync a line of it, or gives us hardly any processor, a late fire says
//! nothing of the scheduler.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::env::{Error, at};

/// Between two starts.
const EVERY: Duration = Duration::from_millis(500);
/// Half of all starts must be quicker.
const MEDIAN: Duration = Duration::from_millis(100);
/// And nine of ten.
const MOST: Duration = Duration::from_millis(400);

/// At each so many starts a little work is done.
const STARTS: usize = 4;
/// So much of a processor: more than the system gives at once to one that has slept.
const WORK: Duration = Duration::from_millis(50);
/// Half of all times it must be had by then: a tenth of a processor.
const WORKED: Duration = Duration::from_millis(500);

/// What was measured.
#[derive(Debug, Default)]
struct Seen {
    /// How long the program took.
    starts: Vec<Duration>,
    /// How long the work took.
    works: Vec<Duration>,
}

/// Starts the program until it is stopped.
pub(crate) struct Canary {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

impl Canary {
    /// Begins; the witness writes and syncs below `folder`, which is on the file system
    /// that jobs write to, and belongs to nobody else.
    pub(crate) fn start(witness: PathBuf, folder: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(folder).map_err(at(&folder.display().to_string()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, folder) = (Arc::clone(&stop), folder.to_owned());
        let work = move || {
            let mut seen = Seen::default();
            for n in 0.. {
                if stopped.load(Ordering::Acquire) {
                    break;
                }
                let begun = Instant::now();
                let mut program = Command::new(&witness);
                program.arg("--to").arg(&folder).stdin(Stdio::null());
                // One that does not start at all fails the jobs too.
                if program.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok() {
                    seen.starts.push(begun.elapsed());
                }
                if n % STARTS == 0 {
                    seen.works.push(work_a_little());
                }
                std::thread::sleep(EVERY);
            }
            seen
        };
        let thread = std::thread::Builder::new().name("canary".into()).spawn(work);
        Ok(Self { stop, thread: thread.map_err(at("start the canary"))? })
    }

    /// Ends it, and says why times mean nothing; empty if they do.
    pub(crate) fn stop(self) -> String {
        self.stop.store(true, Ordering::Release);
        self.thread.join().map_or_else(|_| "the canary panicked".to_owned(), verdict)
    }
}

/// Uses a processor for so long as [`WORK`], and answers how long that took.
fn work_a_little() -> Duration {
    let used = || {
        let at = clock_gettime(ClockId::ThreadCPUTime);
        let (seconds, rest) = (u64::try_from(at.tv_sec), u32::try_from(at.tv_nsec));
        Duration::new(seconds.unwrap_or(0), rest.unwrap_or(0))
    };
    let (begun, before) = (Instant::now(), used());
    while used().saturating_sub(before) < WORK {
        std::hint::spin_loop();
    }
    begun.elapsed()
}

fn verdict(mut seen: Seen) -> String {
    seen.starts.sort_unstable();
    seen.works.sort_unstable();
    let of = |took: &[Duration], tenths: usize| {
        took.get(took.len() * tenths / 10).copied().unwrap_or_default()
    };
    let (median, most) = (of(&seen.starts, 5), of(&seen.starts, 9));
    let worked = of(&seen.works, 5);
    if median <= MEDIAN && most <= MOST && worked <= WORKED {
        return String::new();
    }
    format!(
        "the machine is too busy to judge times: starting a small program took {median:.1?} \
         (median) and {most:.1?} (nine of ten), to get {WORK:?} of a processor {worked:.1?} \
         (median); run it on a quieter one"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_machine_is_told_from_a_quiet_one() {
        let ms = |all: &[u64]| all.iter().map(|ms| Duration::from_millis(*ms)).collect::<Vec<_>>();
        let started = |starts| verdict(Seen { starts, works: ms(&[60; 20]) });
        assert_eq!(verdict(Seen::default()), "");
        assert_eq!(started(ms(&[3; 20])), "");
        // One hiccup is none.
        assert_eq!(started([ms(&[3; 19]), ms(&[2_000])].concat()), "");
        assert!(started(ms(&[150; 20])).contains("too busy"));
        assert!(started([ms(&[3; 16]), ms(&[900; 4])].concat()).contains("too busy"));
        // What starts small programs at once may yet leave no processor for work.
        let worked = |works| verdict(Seen { starts: ms(&[3; 20]), works });
        assert_eq!(worked([ms(&[120; 15]), ms(&[3_000; 5])].concat()), "");
        assert!(worked(ms(&[800; 20])).contains("too busy"));
    }

    #[test]
    fn work_takes_at_least_what_it_uses() {
        assert!(work_a_little() >= WORK);
    }
}
