//! Small files that a job brings along: what a definition may say of them.
//!
//! The state holds names, hashes, lengths and modes. The contents are elsewhere, found by
//! their hash, and are never part of an entry or of a snapshot.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::time::{Span, UtcMillis};

/// SHA-256 of a content, by which it is found wherever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

/// In 64 hexadecimal digits.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A text that is no hash of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a SHA-256: it has 64 hexadecimal digits")]
pub struct NoDigest;

impl FromStr for Digest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
        let digits = digits.filter(|digits| digits.len() == 64).ok_or(NoDigest)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            *byte = u8::try_from(pair[0] * 16 + pair[1]).map_err(|_| NoDigest)?;
        }
        Ok(Self(bytes))
    }
}

/// One file of a job, as its runs find it in their working folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFile {
    /// Of its content.
    pub digest: Digest,
    /// Bytes of its content.
    pub len: u32,
    /// Its permissions: 0o400 to 0o777, readable by its owner.
    pub mode: u16,
}

/// A file that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileProblem {
    /// By its name in a definition.
    pub field: String,
    /// As given.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to write instead.
    pub remedy: String,
}

impl JobFile {
    /// The most files of one job.
    pub const MAX_COUNT: usize = 32;
    /// The most bytes of all files of one job.
    pub const MAX_BYTES: u64 = 256 * 1024;
    /// The longest name, in bytes.
    pub const MAX_NAME: usize = 200;
    /// The most parts of a name, with the file's own.
    pub const MAX_LEVELS: usize = 4;
    /// Permissions where nothing is said.
    pub const MODE: u16 = 0o644;

    /// The first thing that is wrong with the files of a job.
    #[must_use]
    pub fn problem(files: &BTreeMap<String, Self>) -> Option<FileProblem> {
        let wrong = |field: String, value: String, problem: &str, remedy: String| {
            Some(FileProblem { field, value, problem: problem.to_owned(), remedy })
        };
        if files.len() > Self::MAX_COUNT {
            let (value, remedy) = (files.len().to_string(), format!("at most {}", Self::MAX_COUNT));
            return wrong("files".to_owned(), value, "there are too many files", remedy);
        }
        for (name, file) in files {
            let field = format!("files.{name}");
            if let Some((problem, remedy)) = name_problem(name) {
                return wrong(field, name.clone(), problem, remedy);
            }
            if let Some(folder) = folders(name).find(|folder| files.contains_key(*folder)) {
                let problem = format!("{folder} is a file itself, and cannot be a folder, too");
                let remedy = "give one of the two another name".to_owned();
                return wrong(field, name.clone(), &problem, remedy);
            }
            if file.mode & !0o777 != 0 || file.mode & 0o400 == 0 {
                let (value, problem) = (format!("{:04o}", file.mode), "nobody could read it");
                let remedy = "write octal digits, such as \"0644\" or \"0755\"".to_owned();
                return wrong(format!("{field}.mode"), value, problem, remedy);
            }
        }
        let bytes: u64 = files.values().map(|file| u64::from(file.len)).sum();
        if bytes > Self::MAX_BYTES {
            let (value, most) = (format!("{bytes} bytes"), Self::MAX_BYTES);
            let remedy = format!("at most {most} bytes in all; fetch larger ones in the script");
            return wrong("files".to_owned(), value, "the files are too large", remedy);
        }
        None
    }
}

/// The folders that a file's name leads through.
fn folders(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('/').map(|(at, _)| &name[..at])
}

fn name_problem(name: &str) -> Option<(&'static str, String)> {
    let remedy = || "write a relative path, such as lookup.csv or lib/common.sh".to_owned();
    if name.is_empty() || name.len() > JobFile::MAX_NAME {
        return Some(("such a name is too short or too long", remedy()));
    }
    if name.chars().any(|c| c.is_control() || c == '\\') {
        return Some(("it holds a character that no name should", remedy()));
    }
    let is_odd = |part: &str| part.is_empty() || part == "." || part == "..";
    if name.split('/').any(is_odd) {
        return Some(("it leads out of the working folder, or nowhere", remedy()));
    }
    let levels = name.split('/').count();
    let most = JobFile::MAX_LEVELS;
    (levels > most).then(|| ("it is too deep", format!("use at most {most} levels")))
}

/// A content that somebody is about to name in a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Its bytes.
    pub len: u32,
    /// When that was said last.
    pub at: UtcMillis,
}

impl Upload {
    /// How long a content is kept that no definition names.
    pub const KEPT_FOR: Span = Span::secs(6 * 3_600);

    /// True as long as it is kept, whether or not a definition names it.
    #[must_use]
    pub fn is_fresh(&self, now: UtcMillis) -> bool {
        self.at.plus(Self::KEPT_FOR) > now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(len: u32, mode: u16) -> JobFile {
        JobFile { digest: Digest([7; 32]), len, mode }
    }

    fn of(names: &[&str]) -> BTreeMap<String, JobFile> {
        names.iter().map(|name| ((*name).to_owned(), file(1, JobFile::MODE))).collect()
    }

    #[test]
    fn a_digest_is_read_as_it_is_shown() {
        let digest = Digest(std::array::from_fn(|i| u8::try_from(i * 8).unwrap()));
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(digest.to_string().to_uppercase().parse(), Ok(digest));
        for wrong in ["", "00", &"0".repeat(63), &"g".repeat(64), &"é".repeat(64)] {
            assert_eq!(wrong.parse::<Digest>(), Err(NoDigest), "{wrong}");
        }
    }

    #[test]
    fn names_stay_within_the_working_folder() {
        let fine = ["a", "lookup.csv", "lib/common.sh", "a/b/c/d", "..a", "a b", "größe.txt"];
        assert_eq!(JobFile::problem(&of(&fine[1..])), None);
        let long = "x".repeat(201);
        for wrong in [
            "",
            "/etc/passwd",
            "..",
            "a/../b",
            "./a",
            "a//b",
            "a/",
            "a/b/c/d/e",
            "a\nb",
            "a\\b",
            &long,
        ] {
            let problem = JobFile::problem(&of(&[wrong])).unwrap();
            assert_eq!(problem.field, format!("files.{wrong}"));
        }
        let clash = JobFile::problem(&of(&["a", "a/b"])).unwrap();
        assert_eq!((clash.field.as_str(), clash.value.as_str()), ("files.a/b", "a/b"));
        assert!(JobFile::problem(&of(&["a", "a.b", "ab/c"])).is_none());
    }

    #[test]
    fn number_size_and_permissions_are_bounded() {
        let many: Vec<String> = (0..33).map(|n| format!("f{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(JobFile::problem(&of(&many[1..])), None);
        assert_eq!(JobFile::problem(&of(&many)).unwrap().value, "33");
        let two = |len| {
            BTreeMap::from([("a".to_owned(), file(len, 0o400)), ("b".to_owned(), file(1, 0o777))])
        };
        assert_eq!(JobFile::problem(&two(256 * 1024 - 1)), None);
        let large = JobFile::problem(&two(256 * 1024)).unwrap();
        assert_eq!((large.field.as_str(), large.value.as_str()), ("files", "262145 bytes"));
        for mode in [0, 0o244, 0o4755] {
            let files = BTreeMap::from([("a".to_owned(), file(1, mode))]);
            assert_eq!(JobFile::problem(&files).unwrap().field, "files.a.mode");
        }
    }
}
