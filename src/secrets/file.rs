//! The file of keys: a line each, of 32 random bytes as hexadecimal digits or base64, the
//! first for encrypting. Empty lines and lines that begin with `#` say nothing.
//!
//! A file that others than its owner can read is refused, unlike a token's: whoever has it
//! reads all secrets, those that were taken from a backup years later included.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::TryRngCore;
use rand::rngs::OsRng;

use super::{KEY, Keyring};
use crate::files;

/// The largest file, in bytes.
const MAX_FILE: u64 = 16 * 1024;
/// The most keys of a file.
const MAX_KEYS: usize = 16;

/// Why a file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read or written.
    #[error("secrets.key_file {}: check the path, and that its owner runs this", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than its owner may read or write it.
    #[error(
        "secrets.key_file {} has mode {mode:03o}, so that others can read the keys of all secrets: \
         chmod 600 {}", path.display(), path.display()
    )]
    Open {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It holds something else.
    #[error("secrets.key_file {}:{line}: {problem}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong, and what would be right.
        problem: &'static str,
    },
    /// There is one already.
    #[error(
        "{} exists, and a key that is lost makes secrets worthless: to change keys, print a new \
         one and write it as the first line", path.display()
    )]
    Exists {
        /// Which.
        path: PathBuf,
    },
}

impl Keyring {
    /// Reads the keys of a file.
    ///
    /// # Errors
    /// [`KeyFileError`]
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let io = |source| KeyFileError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Open { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(io)?;
        let malformed =
            |line, problem| KeyFileError::Malformed { path: path.to_owned(), line, problem };
        let mut keys: Vec<[u8; KEY]> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = key_of(line).ok_or_else(|| {
                malformed(
                    number,
                    "this is no key: write 64 hexadecimal digits, or 32 bytes in base64; horai \
                     secret keygen makes one",
                )
            })?;
            if keys.contains(&key) {
                return Err(malformed(number, "the key stands there already: take one away"));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(malformed(1, "it holds no key: horai secret keygen makes one"));
        }
        if keys.len() > MAX_KEYS || text.len() as u64 > MAX_FILE {
            return Err(malformed(
                1,
                "it holds more than 16 keys: take away what nothing is under",
            ));
        }
        Ok(Self::of(&keys))
    }
}

fn key_of(line: &str) -> Option<[u8; KEY]> {
    if line.len() == 2 * KEY && line.is_ascii() {
        let mut key = [0; KEY];
        for (at, byte) in key.iter_mut().enumerate() {
            *byte = u8::from_str_radix(line.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        return Some(key);
    }
    STANDARD.decode(line).ok()?.try_into().ok()
}

/// A new key from the system's randomness, as a line of such a file.
///
/// # Errors
/// If the system has none to give.
pub fn new_key() -> io::Result<String> {
    let mut key = [0; KEY];
    OsRng.try_fill_bytes(&mut key).map_err(io::Error::other)?;
    Ok(key.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Writes a file with a new key, for its owner alone, durably.
///
/// # Errors
/// [`KeyFileError`]; a file that is there is left as it is.
pub fn make(path: &Path) -> Result<(), KeyFileError> {
    let io = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.to_owned() },
        _ => KeyFileError::Io { path: path.to_owned(), source },
    };
    let key = new_key().map_err(io)?;
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    writeln!(file, "{key}").map_err(io)?;
    file.sync_all().map_err(io)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    files::sync_dir(folder).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("secrets.key");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        (home, path)
    }

    #[test]
    fn a_file_that_was_made_is_read_and_never_made_again() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("secrets.key");
        make(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let keys = Keyring::read(&path).unwrap();
        assert_eq!(keys.ids().count(), 1);
        assert!(matches!(make(&path), Err(KeyFileError::Exists { .. })));
        assert_eq!(Keyring::read(&path).unwrap().first(), keys.first());
        assert_ne!(new_key().unwrap(), new_key().unwrap());
    }

    #[test]
    fn keys_are_read_in_both_forms_and_the_first_one_encrypts() {
        let hex = "07".repeat(32);
        let base64 = STANDARD.encode([8; 32]);
        let (_home, path) = written(&format!("# new since March\n{base64}\n\n  {hex}  \n"));
        let keys = Keyring::read(&path).unwrap();
        let ids: Vec<_> = Keyring::of(&[[8; 32], [7; 32]]).ids().collect();
        assert_eq!(keys.ids().collect::<Vec<_>>(), ids);
        assert_eq!(keys.first(), Some(ids[0]));
    }

    #[test]
    fn what_holds_no_keys_is_refused_with_line_and_remedy() {
        let key = "0f".repeat(32);
        for (text, line, told) in [
            (String::new(), 1, "keygen"),
            ("# none\n".to_owned(), 1, "keygen"),
            (format!("{key}\nsecret\n"), 2, "64 hexadecimal"),
            ("0g".repeat(32), 1, "64 hexadecimal"),
            ("é".repeat(32), 1, "64 hexadecimal"),
            (STANDARD.encode([1; 31]), 1, "32 bytes"),
            (format!("{key}\n{}\n", key.to_uppercase()), 2, "already"),
            ((0..17).map(|n| format!("{n:064x}\n")).collect(), 1, "16 keys"),
        ] {
            let (_home, path) = written(&text);
            let error = Keyring::read(&path).unwrap_err();
            assert!(matches!(error, KeyFileError::Malformed { line: at, .. } if at == line));
            let error = error.to_string();
            assert!(error.contains(told) && error.contains("key_file"), "{error}");
            assert!(!error.contains(&key), "no key is shown");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let (_home, path) = written(&"0f".repeat(32));
        for mode in [0o640, 0o604, 0o666] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = Keyring::read(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600") && error.contains(&format!("{mode:03o}")));
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        assert!(Keyring::read(&path).is_ok());
        assert!(matches!(Keyring::read(Path::new("none")), Err(KeyFileError::Io { .. })));
    }
}
