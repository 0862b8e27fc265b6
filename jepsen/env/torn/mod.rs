//! A disk with a cache that a power cut leaves torn: of the sectors that were written
//! and not flushed, some are there afterwards and some are not.
//!
//! `platter` is what it holds, `drive` how it works and stops, `server` the process
//! behind it; here is the harness's end.
//! The disk is one file, which serves like an image does: behind a loop device, whose
//! barriers arrive as flushes.

mod drive;
mod platter;
mod server;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use super::namespaces::PRIVATE;
use super::{Error, at};

pub(crate) use platter::{Tear, Torn};
pub(crate) use server::serve;

/// The verb of the own program that serves a disk.
pub(crate) const VERB: &str = "serve-disk";
/// The disk's name; the loop devices of the harness are known by it.
const FILE: &str = ".disk-torn";
/// How long the process may take for an answer.
const ANSWER: Duration = Duration::from_secs(30);

/// What the process is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// The power goes: keep so many sectors in a hundred, drawn from a seed.
    Cut(u8, u64),
    /// Whoever waited for it sees it fail.
    Off,
    /// The power is back.
    On,
    /// Say that it was flushed, and do not; or no longer.
    Lie(bool),
}

impl Order {
    fn text(self) -> String {
        match self {
            Self::Cut(keep, seed) => format!("cut {keep} {seed}"),
            Self::Off => "off".to_owned(),
            Self::On => "on".to_owned(),
            Self::Lie(lies) => format!("lie {lies}"),
        }
    }

    fn read(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["cut", keep, seed] => Some(Self::Cut(keep.parse().ok()?, seed.parse().ok()?)),
            ["off"] => Some(Self::Off),
            ["on"] => Some(Self::On),
            ["lie", lies] => Some(Self::Lie(lies.parse().ok()?)),
            _ => None,
        }
    }
}

/// The process behind a disk.
#[derive(Debug)]
pub(super) struct TornDisk {
    file: PathBuf,
    process: Child,
    orders: ChildStdin,
    answers: Receiver<String>,
}

impl TornDisk {
    /// Shows the bytes of `image` as a disk.
    pub(super) fn start(image: &str, name: &str) -> Result<Self, Error> {
        let folder = Path::new(PRIVATE).join("torn").join(name);
        std::fs::create_dir_all(&folder).map_err(at(&folder.display().to_string()))?;
        let me = std::env::current_exe().map_err(at("find the own program"))?;
        let mut command = Command::new(me);
        command.args([VERB, image]).arg(&folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().map_err(at("start the process behind a disk"))?;
        let piped = || Error::Misuse("the process behind a disk has no pipes".into());
        let orders = process.stdin.take().ok_or_else(piped)?;
        let lines = BufReader::new(process.stdout.take().ok_or_else(piped)?).lines();
        let (tell, answers) = channel();
        std::thread::spawn(move || {
            // It ends with the process, or when nobody asks any more.
            let _ = lines.map_while(Result::ok).try_for_each(|line| tell.send(line));
        });
        let disk = Self { file: folder.join(FILE), process, orders, answers };
        match disk.answer()?.as_str() {
            "ready" => Ok(disk),
            said => Err(Error::Misuse(format!("the process behind a disk said {said:?}"))),
        }
    }

    /// What stands for the disk.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    fn answer(&self) -> Result<String, Error> {
        self.answers.recv_timeout(ANSWER).map_err(|error| {
            let how = match error {
                RecvTimeoutError::Timeout => "does not answer",
                RecvTimeoutError::Disconnected => "has ended: is /dev/fuse there?",
            };
            Error::Misuse(format!("the process behind the disk {} {how}", self.file.display()))
        })
    }

    fn tell(&mut self, order: Order) -> Result<(), Error> {
        let told = writeln!(self.orders, "{}", order.text());
        told.map_err(at("give an order to the process behind a disk"))
    }

    fn order(&mut self, order: Order) -> Result<String, Error> {
        self.tell(order)?;
        self.answer()
    }

    /// The power is about to go, in the middle of what the disk does. Until
    /// [`TornDisk::power_off`] it then answers nobody.
    pub(super) fn begin_cut(&mut self, tear: Tear) -> Result<(), Error> {
        self.tell(Order::Cut(tear.keep, tear.seed))
    }

    /// The power has gone, and with it some of what was not flushed.
    pub(super) fn end_cut(&mut self) -> Result<Torn, Error> {
        let said = self.answer()?;
        let counts: Vec<u64> = said.split(' ').filter_map(|count| count.parse().ok()).collect();
        match counts[..] {
            [kept, older, dropped] => Ok(Torn { kept, older, dropped }),
            _ => Err(Error::Misuse(format!("a disk that was cut said {said:?}"))),
        }
    }

    /// Whoever waits for the disk sees it fail: those who must not, have ended.
    pub(super) fn power_off(&mut self) -> Result<(), Error> {
        self.order(Order::Off).map(drop)
    }

    /// The power is back.
    pub(super) fn power_on(&mut self) -> Result<(), Error> {
        self.order(Order::On).map(drop)
    }

    /// From now on it says that it flushed, and does not; or it is honest again.
    pub(super) fn lie(&mut self, lies: bool) -> Result<(), Error> {
        self.order(Order::Lie(lies)).map(drop)
    }
}

impl Drop for TornDisk {
    fn drop(&mut self) {
        // Gone already is as good; nobody is left who could be told.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_they_are_written() {
        for order in
            [Order::Cut(37, u64::MAX), Order::Cut(0, 0), Order::Off, Order::On, Order::Lie(true)]
        {
            assert_eq!(Order::read(&order.text()), Some(order));
        }
        for bad in ["", "cut", "cut 300 1", "cut 3", "of", "lie 1", "on on"] {
            assert_eq!(Order::read(bad), None, "{bad}");
        }
    }
}
