//! Whether the machine itself let anybody work: a small program, started again and
//! again beside the test, and a little work of our own.
//!
//! It has what each machine of the test has: a share of the processors of its own. One
//! that is started beside them would be served at once where a worker with a hundred jobs
//! waits for its turn.
//!
//! Times are judged only where this was quick. On a machine that takes long to start
//! anything or to sync a line of it, or gives us hardly any processor, a late fire says
//! nothing of the scheduler.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::env::cgroups::Group;
use crate::env::{Error, at, namespaces};

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

/// The hidden verb of the process that measures.
pub(crate) const VERB: &str = "canary";

/// A process that measures until it is stopped, with as much of the processors as each
/// machine of the test may have.
pub(crate) struct Canary {
    process: Child,
    thread: JoinHandle<Seen>,
    /// Its share of the processors; goes with the harness's.
    _group: Group,
}

impl Canary {
    /// Begins; the witness writes and syncs below `folder`, which is on the file system
    /// that jobs write to, and belongs to nobody else.
    pub(crate) fn start(witness: &Path, folder: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(folder).map_err(at(&folder.display().to_string()))?;
        let group = Group::make(&namespaces::group(), VERB)?;
        let me = std::env::current_exe().map_err(at("find the own program"))?;
        let mut command = Command::new(me);
        command.arg(VERB).arg(witness).arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().map_err(at("start the canary"))?;
        for entrance in group.entrances() {
            let number = process.id().to_string();
            std::fs::write(&entrance, number).map_err(at(&entrance.display().to_string()))?;
        }
        let piped = || Error::Misuse("the canary has no pipes".into());
        // It waits for this, and so does nothing outside its group.
        drop(process.stdin.take().ok_or_else(piped)?);
        let lines = BufReader::new(process.stdout.take().ok_or_else(piped)?).lines();
        let read = move || {
            let mut seen = Seen::default();
            lines.map_while(Result::ok).for_each(|line| seen.note(&line));
            seen
        };
        let thread = std::thread::Builder::new().name(VERB.into()).spawn(read);
        Ok(Self { process, thread: thread.map_err(at("listen to the canary"))?, _group: group })
    }

    /// Ends it, and says why times mean nothing; empty if they do.
    pub(crate) fn stop(mut self) -> String {
        // One that has ended by itself has said too little, which is seen below.
        let _ = self.process.kill();
        let _ = self.process.wait();
        match self.thread.join() {
            Ok(seen) if seen.starts.is_empty() => "the canary measured nothing".to_owned(),
            Ok(seen) => verdict(seen),
            Err(_) => "the canary panicked".to_owned(),
        }
    }
}

impl Seen {
    /// Takes a line of [`measure`].
    fn note(&mut self, line: &str) {
        let Some((what, took)) = line.split_once(' ') else { return };
        let Ok(took) = took.parse().map(Duration::from_micros) else { return };
        match what {
            STARTED => self.starts.push(took),
            WORKED_OFF => self.works.push(took),
            _ => {}
        }
    }
}

/// A line's word for a start of the program.
const STARTED: &str = "start";
/// A line's word for a little work.
const WORKED_OFF: &str = "work";

/// What the process of its own does: it starts the program until it is killed, and says
/// how many microseconds each start took.
pub(crate) fn measure(witness: &Path, folder: &Path, out: &mut impl Write) -> io::Result<()> {
    // Who started it says by the end of this that it is where it belongs.
    io::copy(&mut io::stdin(), &mut io::sink())?;
    for n in 0.. {
        let begun = Instant::now();
        let mut program = Command::new(witness);
        program.arg("--to").arg(folder).stdin(Stdio::null());
        // One that does not start at all fails the jobs too.
        if program.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok() {
            writeln!(out, "{STARTED} {}", begun.elapsed().as_micros())?;
        }
        if n % STARTS == 0 {
            writeln!(out, "{WORKED_OFF} {}", work_a_little().as_micros())?;
        }
        std::thread::sleep(EVERY);
    }
    Ok(())
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
    fn what_it_says_is_read() {
        let mut seen = Seen::default();
        for line in ["start 1500", "work 60000", "start x", "", "other 5"] {
            seen.note(line);
        }
        let (start, work) = (Duration::from_micros(1_500), Duration::from_millis(60));
        assert_eq!((seen.starts, seen.works), (vec![start], vec![work]));
    }

    #[test]
    fn work_takes_at_least_what_it_uses() {
        assert!(work_a_little() >= WORK);
    }
}
