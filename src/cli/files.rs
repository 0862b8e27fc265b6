//! Files that people write, YAML, TOML or JSON: read into what a command takes. A mistake
//! is told with its line and column, the field, what stands there, and what would be right.

use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;

use super::failure::Failure;
use crate::api::misfit::misfit;
use crate::api::write::at;
use crate::error::exit;

/// The largest file, in bytes.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Why a text is not what it should be.
#[derive(Debug, Default)]
struct Wrong {
    /// From 1; none where the reader does not say.
    place: Option<(u64, u64)>,
    /// Path of the field; empty if it is the text as a whole.
    field: String,
    /// In the reader's words.
    text: String,
}

/// What a file holds, in the form that its name says; `hint` says what it should be.
pub(super) fn read_file<T: DeserializeOwned>(file: &Path, hint: &str) -> Result<T, Failure> {
    let shown = file.display();
    let unreadable = |e: std::io::Error| {
        Failure::new(format!("{shown}: {e}"), "check the path and its permissions", exit::NOT_FOUND)
    };
    let size = fs::metadata(file).map_err(unreadable)?.len();
    if size > MAX_FILE {
        return Err(Failure::new(
            format!("{shown}: {size} bytes are too many"),
            format!("split it: a file has at most {MAX_FILE} bytes"),
            exit::USAGE,
        ));
    }
    let text = fs::read_to_string(file).map_err(unreadable)?;
    let form = file.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let wrong = match read(form, &text) {
        Ok(read) => return Ok(read),
        Err(wrong) => wrong,
    };
    let place = wrong.place.map(|(line, column)| format!("line {line} column {column}: "));
    let place = format!("{shown}: {}", place.unwrap_or_default());
    if wrong.field.is_empty() {
        return Err(Failure::new(format!("{place}{}", wrong.text), hint, exit::USAGE));
    }
    let whole = read::<serde_json::Value>(form, &text).ok();
    let value = whole.map(|whole| at(&whole, &wrong.field)).unwrap_or_default();
    let told = misfit(&wrong.text, &wrong.field, &value);
    let value = if value.is_empty() { String::new() } else { format!(" ({value:?})") };
    let message = format!("{place}{}: {}{value}", wrong.field, told.problem);
    Err(Failure::new(message, told.remedy, told.code.exit()))
}

fn read<T: DeserializeOwned>(form: &str, text: &str) -> Result<T, Wrong> {
    match form {
        "yaml" | "yml" => yaml(text),
        "toml" => toml(text),
        "json" => json(text),
        _ => Err(Wrong {
            text: "the name does not say what it holds: use .yaml, .yml, .toml or .json".to_owned(),
            ..Wrong::default()
        }),
    }
}

fn yaml<T: DeserializeOwned>(text: &str) -> Result<T, Wrong> {
    let mut field = String::new();
    let read = serde_saphyr::with_deserializer_from_str(text, |reader| {
        serde_path_to_error::deserialize(reader).map_err(|error| {
            field = path(&error);
            error.into_inner()
        })
    });
    read.map_err(|error| {
        let text = error.without_snippet().to_string();
        let place = error.location().map(|place| (place.line(), place.column()));
        // The place is told apart.
        let text = text.lines().next().unwrap_or_default();
        let text = text.strip_prefix("error: ").unwrap_or(text);
        let text = text.rsplit_once(" at line ").map_or(text, |(text, _)| text);
        let text = match text.split_once(": ") {
            Some((before, text)) if before.starts_with("line ") => text,
            _ => text,
        };
        Wrong { place, field, text: text.to_owned() }
    })
}

fn toml<T: DeserializeOwned>(text: &str) -> Result<T, Wrong> {
    let wrong = |field: String, error: &toml::de::Error| {
        let place = error.span().map(|span| place_of(text, span.start));
        Wrong { place, field, text: error.message().to_owned() }
    };
    let reader = toml::Deserializer::parse(text).map_err(|error| wrong(String::new(), &error))?;
    serde_path_to_error::deserialize(reader).map_err(|error| wrong(path(&error), error.inner()))
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T, Wrong> {
    let wrong = |field: String, error: &serde_json::Error| {
        let place = Some((error.line() as u64, error.column() as u64));
        let text = error.to_string();
        let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
        let field = if error.is_data() { field } else { String::new() };
        Wrong { place, field, text: text.to_owned() }
    };
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| wrong(path(&error), error.inner()))?;
    reader.end().map_err(|error| wrong(String::new(), &error))?;
    Ok(read)
}

fn path<E>(error: &serde_path_to_error::Error<E>) -> String {
    match error.path().to_string() {
        all if all == "." => String::new(),
        path => path,
    }
}

/// Line and column of a byte, from 1.
fn place_of(text: &str, byte: usize) -> (u64, u64) {
    let before = text.get(..byte).unwrap_or(text);
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
    (before.matches('\n').count() as u64 + 1, column as u64 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::job_definition::JobDefinition;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Jobs {
        #[serde(rename = "jobs")]
        _jobs: Vec<JobDefinition>,
    }

    fn told(name: &str, text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        let failure = read_file::<Jobs>(&file, "a list under 'jobs'").unwrap_err();
        let mut said = Vec::new();
        let _ = failure.report(&mut said);
        let said = String::from_utf8(said).unwrap();
        said.replace(&format!("{}/", folder.path().display()), "")
    }

    #[test]
    fn a_mistake_is_told_with_place_field_value_and_remedy() {
        for (name, text, said) in [
            (
                "a.yaml",
                "jobs:\n  - name: a\n    retries: {count: -1}\n",
                "error: a.yaml: line 3 column 22: jobs[0].retries.count: the number is negative \
                 (\"-1\")\nhint: write 0 to 100\n",
            ),
            (
                "a.yml",
                "jobs:\n  - name: a\n    retris: 3\n",
                "error: a.yml: line 3 column 5: jobs[0].retris: there is no such field (\"3\")\n\
                 hint: did you mean retries?\n",
            ),
            (
                "a.yaml",
                "jobs:\n  - name: a\n    triggers: [{corn: x}]\n",
                "error: a.yaml: line 3 column 17: jobs[0].triggers[0].corn: there is no such \
                 field (\"x\")\nhint: did you mean cron?\n",
            ),
            (
                "a.yaml",
                "jobs:\n  - name: a\n    noop: maybe\n",
                "error: a.yaml: line 3 column 11: jobs[0].noop: true or false is expected \
                 (\"maybe\")\nhint: write true or false\n",
            ),
            (
                "a.toml",
                "[[jobs]]\nname = \"x\"\nretries = {count = -1}\n",
                "error: a.toml: line 3 column 20: jobs[0].retries.count: the number is negative \
                 (\"-1\")\nhint: write 0 to 100\n",
            ),
            (
                "a.json",
                "{\"jobs\": [{\"name\": \"x\",\n \"priority\": 700}]}",
                "error: a.json: line 2 column 16: jobs[0].priority: the number is too large \
                 (\"700\")\nhint: write 0 to 9; 9 goes first\n",
            ),
            (
                "a.json",
                "{\"job\": []}",
                "error: a.json: line 1 column 6: job: there is no such field\n\
                 hint: did you mean jobs?\n",
            ),
            ("a.toml", "jobs = [", "hint: a list under 'jobs'\n"),
            ("a.yaml", "x", "hint: a list under 'jobs'\n"),
            ("a.txt", "x", "hint: a list under 'jobs'\n"),
        ] {
            let heard = told(name, text);
            assert!(heard.ends_with(said), "{heard}");
        }
    }
}
