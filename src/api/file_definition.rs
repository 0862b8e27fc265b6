//! Files of a job, as a person writes them: where the content of each comes from, and its
//! permissions.
//!
//! A `path` is for whoever reads the file that the definition stands in: the command line
//! puts the content in its place before anything is sent.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use horai_core::model::file::{Digest, FileProblem, JobFile};
use serde::{Deserialize, Serialize};

use super::process_definition::Scalar;
use crate::chunks::content::digest_of;
use crate::error::{ErrorCode, FieldError};

/// One file: a content, and who may do what with it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDefinition {
    /// Where the content is, from the folder of the file that this stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The content, if it is text,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// and otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// A content that the cluster has already, by its hash; with `size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Bytes of that content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// Permissions in octal digits; default 644.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Scalar>,
}

/// What a definition says of a file's content.
pub(super) enum Said {
    /// All of it.
    Content(Bytes),
    /// Which one it is.
    Known(Digest, u32),
}

impl FileDefinition {
    /// A content in the form in which it is best read.
    #[must_use]
    pub fn of_content(bytes: Vec<u8>, mode: Option<Scalar>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self { text: Some(text), mode, ..Self::default() },
            Err(error) => {
                let base64 = Some(STANDARD.encode(error.as_bytes()));
                Self { base64, mode, ..Self::default() }
            }
        }
    }

    fn of_spec(file: &JobFile) -> Self {
        Self {
            sha256: Some(file.digest.to_string()),
            size: Some(file.len),
            mode: (file.mode != JobFile::MODE).then(|| Scalar::of(format!("{:o}", file.mode))),
            ..Self::default()
        }
    }

    /// What it says; `field` is where it stands.
    fn said(&self, field: &str) -> Result<Said, FieldError> {
        let invalid = |inner: &str, value: &str, problem: String, remedy: &str| {
            let shown: String = value.chars().take(80).collect();
            Err(FieldError::invalid(format!("{field}.{inner}"), shown, problem, remedy))
        };
        let Self { path, text, base64, sha256, size, .. } = self;
        if size.is_some() && sha256.is_none() {
            let problem = "the size follows from the content".to_owned();
            return invalid("size", &size.unwrap_or(0).to_string(), problem, "leave it out");
        }
        match (path, text, base64, sha256) {
            (None, Some(text), None, None) => {
                Ok(Said::Content(Bytes::copy_from_slice(text.as_bytes())))
            }
            (None, None, Some(base64), None) => {
                // Long ones are written in lines.
                let digits: String = base64.split_ascii_whitespace().collect();
                match STANDARD.decode(digits) {
                    Ok(bytes) => Ok(Said::Content(Bytes::from(bytes))),
                    Err(error) => invalid("base64", base64, error.to_string(), "encode it anew"),
                }
            }
            (None, None, None, Some(sha256)) => {
                let digest = match sha256.parse::<Digest>() {
                    Ok(digest) => digest,
                    Err(error) => {
                        let remedy = "write it as horai job get shows it, or send the content";
                        return invalid("sha256", sha256, error.to_string(), remedy);
                    }
                };
                match size {
                    Some(size) => Ok(Said::Known(digest, *size)),
                    None => {
                        let problem = "a hash alone does not say how much it stands for".to_owned();
                        invalid("size", "", problem, "add the size of the content in bytes")
                    }
                }
            }
            (Some(path), None, None, None) => {
                let problem = "nobody has read this file: only the command line does".to_owned();
                invalid("path", path, problem, "send its content as 'text' or 'base64'")
            }
            _ => {
                let given = [
                    (path.is_some(), "path"),
                    (text.is_some(), "text"),
                    (base64.is_some(), "base64"),
                    (sha256.is_some(), "sha256"),
                ];
                let given = given.iter().filter(|(is_given, _)| *is_given).map(|(_, word)| *word);
                Err(FieldError::invalid(
                    field,
                    given.collect::<Vec<_>>().join(" and "),
                    "a file has exactly one content",
                    "give one of 'path' (of a file beside this one), 'text', 'base64', or \
                     'sha256' with 'size'",
                ))
            }
        }
    }

    fn mode(&self, field: &str) -> Result<u16, FieldError> {
        let Some(written) = &self.mode else { return Ok(JobFile::MODE) };
        let text = written.to_string();
        let is_octal =
            (3..=4).contains(&text.len()) && text.bytes().all(|b| b"01234567".contains(&b));
        let bits = is_octal.then(|| u16::from_str_radix(&text, 8).ok());
        bits.flatten().ok_or_else(|| {
            let problem = "these are no permissions";
            let remedy = "write octal digits, such as \"0644\" or \"0755\"";
            FieldError::invalid(format!("{field}.mode"), &text, problem, remedy)
        })
    }
}

/// Checks the files of a job, and says of each which content it has.
///
/// # Errors
/// The first field that cannot be taken, with value and remedy.
pub(super) fn files(
    written: &BTreeMap<String, FileDefinition>,
) -> Result<BTreeMap<String, JobFile>, FieldError> {
    let mut files = BTreeMap::new();
    for (name, file) in written {
        let field = format!("files.{name}");
        let (digest, len) = match file.said(&field)? {
            // What is longer is refused below, whatever it is.
            Said::Content(bytes) => {
                (digest_of(&bytes), u32::try_from(bytes.len()).unwrap_or(u32::MAX))
            }
            Said::Known(digest, len) => (digest, len),
        };
        files.insert(name.clone(), JobFile { digest, len, mode: file.mode(&field)? });
    }
    match JobFile::problem(&files) {
        None => Ok(files),
        Some(FileProblem { field, value, problem, remedy }) => {
            let is_size = value.ends_with(" bytes");
            let error = FieldError::invalid(field, value, problem, remedy);
            Err(if is_size { error.with_code(ErrorCode::TooLarge) } else { error })
        }
    }
}

/// Every content that is said, with the field that says it.
pub(super) fn contents(
    written: &BTreeMap<String, FileDefinition>,
) -> impl Iterator<Item = Result<(String, Said), FieldError>> {
    written.iter().map(|(name, file)| {
        let field = format!("files.{name}");
        file.said(&field).map(|said| (field, said))
    })
}

/// The way back: contents are named, not written out.
pub(super) fn of_spec(files: &BTreeMap<String, JobFile>) -> BTreeMap<String, FileDefinition> {
    files.iter().map(|(name, file)| (name.clone(), FileDefinition::of_spec(file))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<BTreeMap<String, JobFile>, [String; 3]> {
        let written: BTreeMap<String, FileDefinition> = serde_saphyr::from_str(text).unwrap();
        files(&written).map_err(|error| [error.field, error.value, error.remedy])
    }

    #[test]
    fn contents_and_permissions_are_read_in_each_form() {
        let text =
            "a: {text: \"hi\\n\"}\nb: {base64: aGkK, mode: 0755}\nc: {text: '', mode: '0400'}";
        let read = read(text).unwrap();
        assert_eq!(read["a"].digest, read["b"].digest);
        assert_eq!(
            [&read["a"], &read["b"], &read["c"]].map(|f| (f.len, f.mode)),
            [(3, 0o644), (3, 0o755), (0, 0o400)]
        );
        let again = of_spec(&read);
        assert_eq!(files(&again).unwrap(), read);
        let json = r#"{"a": {"text": "x", "mode": 755}}"#;
        let json: BTreeMap<String, FileDefinition> = serde_json::from_str(json).unwrap();
        assert_eq!(files(&json).unwrap()["a"].mode, 0o755);
        let binary = FileDefinition::of_content(vec![0xff, 0], None);
        assert_eq!(binary.base64.as_deref(), Some("/wA="));
    }

    #[test]
    fn what_cannot_be_taken_is_named() {
        let hash = "0".repeat(64);
        for (text, field, value) in [
            ("a: {}", "files.a", ""),
            ("a: {text: x, base64: eA==}", "files.a", "text and base64"),
            ("a: {base64: '*'}", "files.a.base64", "*"),
            ("a: {path: ./x}", "files.a.path", "./x"),
            ("a: {sha256: abc, size: 1}", "files.a.sha256", "abc"),
            (format!("a: {{sha256: '{hash}'}}").as_str(), "files.a.size", ""),
            ("a: {text: x, size: 1}", "files.a.size", "1"),
            ("a: {text: x, mode: rwx}", "files.a.mode", "rwx"),
            ("a: {text: x, mode: '0200'}", "files.a.mode", "0200"),
            ("../a: {text: x}", "files.../a", "../a"),
            (format!("a: {{sha256: '{hash}', size: 262145}}").as_str(), "files", "262145 bytes"),
        ] {
            let [told_field, told_value, remedy] = read(text).unwrap_err();
            assert_eq!((told_field.as_str(), told_value.as_str()), (field, value), "{text}");
            assert!(!remedy.is_empty());
        }
    }
}
