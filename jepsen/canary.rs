//! Whether the machine itself let anybody work: a small program, started again and
//! again beside the test.
//!
//! Times are judged only where this was quick. On a machine that takes long to start
//! anything, a late fire says nothing of the scheduler.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::env::{Error, at};

/// Between two starts.
const EVERY: Duration = Duration::from_millis(500);
/// Half of all starts must be quicker.
const MEDIAN: Duration = Duration::from_millis(100);
/// And nine of ten.
const MOST: Duration = Duration::from_millis(400);

/// Starts the program until it is stopped.
pub(crate) struct Canary {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Canary {
    /// Begins; the witness writes below `folder`, which belongs to nobody else.
    pub(crate) fn start(witness: PathBuf, folder: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(folder).map_err(at(&folder.display().to_string()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, folder) = (Arc::clone(&stop), folder.to_owned());
        let work = move || {
            let mut took = Vec::new();
            while !stopped.load(Ordering::Acquire) {
                let begun = Instant::now();
                let mut program = Command::new(&witness);
                program.arg("--to").arg(&folder).stdin(Stdio::null());
                // One that does not start at all fails the jobs too.
                if program.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok() {
                    took.push(begun.elapsed());
                }
                std::thread::sleep(EVERY);
            }
            took
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

fn verdict(mut took: Vec<Duration>) -> String {
    took.sort_unstable();
    let at = |of_ten: usize| took.get(took.len() * of_ten / 10).copied().unwrap_or_default();
    let (median, most) = (at(5), at(9));
    if median <= MEDIAN && most <= MOST {
        return String::new();
    }
    format!(
        "the machine is too busy to judge times: starting a small program took {median:.1?} \
         (median) and {most:.1?} (nine of ten); run it on a quieter one"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_machine_is_told_from_a_quiet_one() {
        let ms = |all: &[u64]| all.iter().map(|ms| Duration::from_millis(*ms)).collect::<Vec<_>>();
        assert_eq!(verdict(Vec::new()), "");
        assert_eq!(verdict(ms(&[3; 20])), "");
        // One hiccup is none.
        assert_eq!(verdict([ms(&[3; 19]), ms(&[2_000])].concat()), "");
        assert!(verdict(ms(&[150; 20])).contains("too busy"));
        assert!(verdict([ms(&[3; 16]), ms(&[900; 4])].concat()).contains("too busy"));
    }
}
