//! The bearer token in its file: made once, readable by its owner alone.
//!
//! The cluster keeps only the hash. A file that others can read is used all the
//! same, with a warning: to refuse it would stop a cluster over a mode bit.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use horai_core::model::access::TokenHash;
use horai_raft::membership::admission::token_hash;
use rand::TryRngCore;
use rand::rngs::OsRng;

use crate::files::sync_dir;

/// The longest token taken from a file, in bytes.
const MAX_LEN: usize = 512;
/// Random bytes of a token made here.
const RANDOM: usize = 32;

/// A bearer token. Its text does not show up where it is printed for debugging.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A new one: 64 hexadecimal digits from the system's randomness.
    ///
    /// # Errors
    /// If the system has none to give.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; RANDOM];
        OsRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// The text that is sent.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// What the cluster knows of it.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        token_hash(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Why a token file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read or written.
    #[error("token file {}: check the path, and that its owner runs this", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It holds something else.
    #[error(
        "token file {} holds no token: it must have one line of 16 to {MAX_LEN} letters, digits \
         or signs, without blanks", path.display()
    )]
    Malformed {
        /// Which.
        path: PathBuf,
    },
}

/// Reads the token; warns if others than its owner can read the file too.
///
/// # Errors
/// [`TokenError`]
pub fn read_token(path: &Path) -> Result<Token, TokenError> {
    let io = |source| TokenError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let mode = file.metadata().map_err(io)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), mode = format!("{:03o}", mode & 0o777),
            "token file is open to others than its owner, set its mode to 600");
    }
    let mut text = String::new();
    let limit = MAX_LEN as u64 + 2;
    file.take(limit).read_to_string(&mut text).map_err(io)?;
    let text = text.trim();
    let is_good =
        (16..=MAX_LEN).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if !is_good {
        return Err(TokenError::Malformed { path: path.to_owned() });
    }
    Ok(Token(text.to_owned()))
}

/// Makes a token and its file, durably. One that is there is kept and read.
///
/// # Errors
/// [`TokenError`]
pub fn make_token(path: &Path) -> Result<Token, TokenError> {
    let io = |source| TokenError::Io { path: path.to_owned(), source };
    if path.try_exists().map_err(io)? {
        return read_token(path);
    }
    let token = Token::random().map_err(io)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(io)?;
    // Written aside and linked into place: a crash leaves no half token, and a
    // token that somebody else made meanwhile is not lost.
    let aside = folder.join(format!(".token-{}", std::process::id()));
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        writeln!(file, "{}", token.text())?;
        file.sync_all()?;
        std::fs::hard_link(&aside, path)?;
        sync_dir(folder)
    };
    let written = write();
    // Left behind by a failure before it was made, it is not there.
    let _ = std::fs::remove_file(&aside);
    match written {
        Ok(()) => Ok(token),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => read_token(path),
        Err(e) => Err(io(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_for_its_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("etc/token");
        let made = make_token(&path).unwrap();
        assert_eq!(made.text().len(), 2 * RANDOM);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(make_token(&path).unwrap(), made, "the one that is there is kept");
        assert_eq!(read_token(&path).unwrap().hash(), token_hash(made.text()));
        assert_ne!(Token::random().unwrap(), made);
        assert!(!format!("{made:?}").contains(made.text()));
        let left: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn what_is_no_token_is_refused_with_a_remedy() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("token");
        for bad in ["", "short", "with blanks between words", &"x".repeat(MAX_LEN + 1)] {
            std::fs::write(&path, bad).unwrap();
            let error = read_token(&path).unwrap_err().to_string();
            assert!(error.contains("one line"), "{error}");
            assert!(make_token(&path).is_err(), "never overwritten");
        }
        let missing = read_token(&home.path().join("none")).unwrap_err();
        assert!(missing.to_string().contains("none"));
    }
}
