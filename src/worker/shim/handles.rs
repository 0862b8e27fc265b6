//! What a job begins elsewhere, as its output names it, and how that is ended.
//!
//! The output is looked through line by line, without its secrets, in bounded memory. What is
//! found is on the disk at once, so that whoever comes after this shim finds it too. A command
//! to end something is a list of arguments that no shell reads, and what an output put into
//! one stays one argument: one that looks like an option is not taken.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use horai_core::model::handle::{Handle, HandleEnd};
use regex::{Captures, Regex};

use super::dir::{self, HandlePattern};
use crate::chunks::Stream;

/// The longest line that is looked at, in bytes: of a longer one the first part.
const MAX_LINE: usize = 4_096;

/// The way to end something, if a text is what one of the patterns takes.
#[must_use]
pub(in crate::worker) fn kill_of(
    patterns: &[(Regex, Vec<String>)],
    text: &str,
) -> Option<Vec<String>> {
    patterns.iter().find_map(|(pattern, kill)| filled(&pattern.captures(text)?, kill))
}

/// A command with what the pattern's groups took; none if that is nothing to put into one.
fn filled(taken: &Captures<'_>, kill: &[String]) -> Option<Vec<String>> {
    let is_plain = |text: &str| {
        !text.is_empty() && !text.starts_with('-') && !text.chars().any(char::is_control)
    };
    let fill = |argument: &String| {
        let mut filled = argument.clone();
        for place in 0..taken.len() {
            let mark = format!("{{{place}}}");
            if argument.contains(&mark) {
                let text = taken.get(place).map(|text| text.as_str()).filter(|t| is_plain(t))?;
                filled = filled.replace(&mark, text);
            }
        }
        Some(filled)
    };
    kill.iter().map(fill).collect()
}

/// What was found, shared by who reads the output and who ends it.
#[derive(Clone)]
pub(super) struct Found(Arc<Mutex<Inner>>);

struct Inner {
    file: PathBuf,
    patterns: Vec<(Regex, Vec<String>)>,
    known: Vec<(Handle, Vec<String>)>,
    lines: [Vec<u8>; 2],
    closed: bool,
}

impl Found {
    /// Of a job whose interpreter has such handles; none if it has none.
    pub(super) fn new(folder: &Path, patterns: &[HandlePattern]) -> Option<Self> {
        let read = |of: &HandlePattern| Some((Regex::new(&of.pattern).ok()?, of.kill.clone()));
        let patterns: Vec<_> = patterns.iter().filter_map(read).collect();
        let file = folder.join(dir::HANDLES);
        let inner =
            Inner { file, patterns, known: Vec::new(), lines: Default::default(), closed: false };
        (!inner.patterns.is_empty()).then(|| Self(Arc::new(Mutex::new(inner))))
    }

    /// Looks through what the job wrote.
    pub(super) fn look(&self, stream: Stream, data: &[u8]) {
        let mut inner = self.lock();
        if inner.closed {
            return;
        }
        for (i, part) in data.split(|byte| *byte == b'\n').enumerate() {
            if i > 0 {
                inner.end_line(stream);
            }
            let line = &mut inner.lines[stream as usize];
            let room = MAX_LINE.saturating_sub(line.len());
            line.extend_from_slice(part.get(..room).unwrap_or(part));
        }
    }

    /// The job says nothing more: its last line may have had no end.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.end_line(Stream::Stdout);
        inner.end_line(Stream::Stderr);
        inner.closed = true;
    }

    /// All that nobody has ended, with the commands that do.
    pub(super) fn left(&self) -> Vec<(String, Vec<String>)> {
        let inner = self.lock();
        let left = inner.known.iter().filter(|(handle, _)| handle.end.is_none());
        left.map(|(handle, kill)| (handle.text.clone(), kill.clone())).collect()
    }

    /// What an attempt before this one left.
    pub(super) fn take_over(&self, text: &str) {
        self.lock().add(text, Vec::new());
    }

    /// What a command to end it came to.
    pub(super) fn ended(&self, text: &str, end: HandleEnd) {
        let mut inner = self.lock();
        if let Some((handle, _)) = inner.known.iter_mut().find(|(known, _)| known.text == text) {
            handle.end = Some(end);
        }
        inner.save();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn end_line(&mut self, stream: Stream) {
        let line = std::mem::take(&mut self.lines[stream as usize]);
        let line = String::from_utf8_lossy(&line);
        let mut found = Vec::new();
        for (pattern, kill) in &self.patterns {
            for taken in pattern.captures_iter(&line) {
                // Without a command there is nothing that could be done.
                let (Some(kill), Some(text)) = (filled(&taken, kill), taken.get(0)) else {
                    continue;
                };
                found.push((text.as_str().to_owned(), kill));
            }
        }
        for (text, kill) in found {
            self.add(&text, kill);
        }
    }

    fn add(&mut self, text: &str, kill: Vec<String>) {
        let handle = Handle::new(text);
        let is_known = self.known.iter().any(|(known, _)| known.text == text);
        if !is_known && handle.is_sound() && self.known.len() < Handle::MAX {
            self.known.push((handle, kill));
            self.save();
        }
    }

    /// A disk that does not take it costs what comes after this shim, not the job.
    fn save(&self) {
        let handles: Vec<&Handle> = self.known.iter().map(|(handle, _)| handle).collect();
        let written = || -> io::Result<()> {
            let new = self.file.with_extension("tmp");
            let mut options = OpenOptions::new();
            let mut file =
                options.create(true).write(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&serde_json::to_vec(&handles).map_err(io::Error::other)?)?;
            fs::rename(new, &self.file)
        };
        let _ = written();
    }
}

/// What was found of an attempt, whether or not its shim lives.
#[must_use]
pub(in crate::worker) fn read(folder: &Path) -> Vec<Handle> {
    let bytes = fs::read(folder.join(dir::HANDLES)).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(pattern: &str, kill: &[&str]) -> HandlePattern {
        let kill = kill.iter().map(|text| (*text).to_owned()).collect();
        HandlePattern { pattern: pattern.to_owned(), kill }
    }

    fn found(folder: &Path) -> Found {
        let yarn = pattern(r"Submitted (application_\d+)", &["yarn", "-kill", "{1}"]);
        let any = pattern(r"began <(.*?)>", &["end", "--id={1}"]);
        Found::new(folder, &[yarn, any]).unwrap()
    }

    fn texts(folder: &Path) -> Vec<String> {
        read(folder).into_iter().map(|handle| handle.text).collect()
    }

    #[test]
    fn handles_are_found_in_lines_however_they_come_and_kept_once() {
        let home = tempfile::tempdir().unwrap();
        let found = found(home.path());
        assert!(texts(home.path()).is_empty());
        found.look(Stream::Stdout, b"x Submitted applic");
        found.look(Stream::Stderr, b"Submitted application_2 now\n");
        found
            .look(Stream::Stdout, b"ation_1\nSubmitted application_1\nand Submitted application_3");
        assert_eq!(texts(home.path()), ["Submitted application_2", "Submitted application_1"]);
        found.close();
        assert_eq!(texts(home.path()).len(), 3);
        found.look(Stream::Stdout, b"Submitted application_4\n");
        assert_eq!(found.left()[0].1, ["yarn", "-kill", "application_2"]);
        let end = HandleEnd { done: true, said: "exit 0".into() };
        found.ended("Submitted application_2", end.clone());
        assert_eq!(found.left().len(), 2);
        assert_eq!(read(home.path())[0].end, Some(end));
        assert!(Found::new(home.path(), &[]).is_none());
    }

    #[test]
    fn what_an_output_says_stays_one_argument_and_no_option() {
        let home = tempfile::tempdir().unwrap();
        let found = found(home.path());
        found.look(Stream::Stdout, b"began <$(reboot); a b> began <-rf> began <>\nbegan <\x07>\n");
        let left = found.left();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(left[0].1, ["end", "--id=$(reboot); a b"]);
    }

    #[test]
    fn a_flood_has_bounds() {
        let home = tempfile::tempdir().unwrap();
        let found = found(home.path());
        found.look(Stream::Stdout, "x".repeat(10 * MAX_LINE).as_bytes());
        found.look(Stream::Stdout, b"Submitted application_1\n");
        assert_eq!(texts(home.path()), [""; 0]);
        let lines: String = (0..99).map(|n| format!("Submitted application_{n}\n")).collect();
        found.look(Stream::Stdout, lines.as_bytes());
        assert_eq!(texts(home.path()).len(), Handle::MAX);
        found.look(Stream::Stderr, format!("began <{}>\n", "x".repeat(300)).as_bytes());
        assert_eq!(texts(home.path()).len(), Handle::MAX);
    }

    #[test]
    fn another_worker_finds_the_way_in_the_text_alone() {
        let kill = vec!["kill".to_owned(), "{1}".to_owned(), "{0}".to_owned()];
        let patterns = [(Regex::new(r"job_(\d+)").unwrap(), kill)];
        assert_eq!(kill_of(&patterns, "job_7").unwrap(), ["kill", "7", "job_7"]);
        assert_eq!(kill_of(&patterns, "nothing"), None);
    }
}
