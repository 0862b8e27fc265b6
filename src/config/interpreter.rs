//! What a worker gives scripts to, as its file says it.

use std::collections::BTreeMap;

use horai_core::ids::Name;
use horai_core::model::worker::WorkerProfile;
use regex::Regex;
use serde::Deserialize;

use super::load::Problem;

/// The most remote handles of one interpreter.
const MAX_HANDLES: usize = 16;
/// The longest pattern, in bytes.
const MAX_PATTERN: usize = 1_024;

/// Reads scripts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterpreterSection {
    /// Program and arguments: `{script}` in one stands for the script's path, and one that is
    /// `{args}` for the job's own. May be left out of an entry that is ready: `hive`,
    /// `spark-sql` and `spark-submit`.
    pub command: Option<Vec<String>>,
    /// How its output names work that it began elsewhere; at most 16. Of a ready entry the
    /// ready ones, where nothing is said.
    pub remote_handles: Option<Vec<HandleSection>>,
}

/// How a program's output names work that it began elsewhere, and how that is ended.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandleSection {
    /// A regular expression with at least one group, looked for in each line.
    pub pattern: String,
    /// Program and arguments; `{1}` stands for what the first group took.
    pub kill: Vec<String>,
}

/// Checks what can be told of each alone: which commands are left out is another's to know.
pub(super) fn check(all: &BTreeMap<Name, InterpreterSection>) -> Result<(), Problem> {
    if all.len() > WorkerProfile::MAX_INTERPRETERS / 2 {
        let most = WorkerProfile::MAX_INTERPRETERS / 2;
        return Err(Problem::new("interpreters", all.len(), format!("name at most {most}")));
    }
    for (name, section) in all {
        let field = |key: &str| format!("interpreters.{name}.{key}");
        if let Some(command) = &section.command {
            let is_whole = command.first().is_some_and(|program| !program.is_empty())
                && command.iter().any(|argument| argument.contains("{script}"))
                && command.iter().all(|argument| !argument.contains('\0'));
            if !is_whole {
                let remedy = "write the program and its arguments, with {script} where the \
                              script's path is to stand";
                return Err(Problem::new(&field("command"), command.join(" "), remedy));
            }
        }
        let handles = section.remote_handles.as_deref().unwrap_or_default();
        if handles.len() > MAX_HANDLES {
            let remedy = format!("write at most {MAX_HANDLES}");
            return Err(Problem::new(&field("remote_handles"), handles.len(), remedy));
        }
        for handle in handles {
            handle.check(&field("remote_handles"))?;
        }
    }
    Ok(())
}

impl HandleSection {
    fn check(&self, field: &str) -> Result<(), Problem> {
        let wrong = |value: &str, remedy: String| Err(Problem::new(field, value, remedy));
        let groups = match Regex::new(&self.pattern) {
            Ok(pattern) if self.pattern.len() <= MAX_PATTERN => pattern.captures_len(),
            Ok(_) => return wrong("a long pattern", format!("write at most {MAX_PATTERN} bytes")),
            Err(error) => {
                let said = error.to_string();
                let said = said.lines().last().unwrap_or_default().trim().to_owned();
                return wrong(&self.pattern, format!("correct the pattern: {said}"));
            }
        };
        if groups < 2 {
            let remedy = "put what names the work in round brackets, as in (application_\\d+)";
            return wrong(&self.pattern, remedy.to_owned());
        }
        let names_it = self.kill.iter().skip(1).any(|argument| argument.contains("{1}"));
        if self.kill.first().is_none_or(|program| program.is_empty()) || !names_it {
            let remedy = "write the program and its arguments, with {1} for what is ended";
            return wrong(&self.kill.join(" "), remedy.to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::{WorkerConfig, load};

    #[test]
    fn mistakes_name_file_line_and_remedy() {
        let worker = "[worker]\nname = \"w\"\ndata_dir = \"d\"\nnodes = [\"n:1\"]\n\
                      token_file = \"t\"\n[interpreters.pig]\n";
        let read = |line: &str| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            writeln!(file, "{worker}{line}").unwrap();
            load::<WorkerConfig>(file.path(), []).map_err(|error| error.to_string())
        };
        let good = "command = [\"pig\", \"-f\", \"{script}\"]\n\
                    remote_handles = [{ pattern = \"(job_1)\", kill = [\"kill\", \"{1}\"] }]";
        assert_eq!(read(good).unwrap().interpreters.len(), 1);
        let handle = |pattern: &str, kill: &str| {
            format!("remote_handles = [{{ pattern = '{pattern}', kill = {kill} }}]")
        };
        let bad = [
            ("command = []", "{script}"),
            ("command = ['pig']", "{script}"),
            ("colour = 1", "colour"),
            (&handle("(", "['kill', '{1}']"), "correct the pattern"),
            (&handle("job", "['kill', '{1}']"), "round brackets"),
            (&handle("(job)", "['kill']"), "{1}"),
            (&handle("(job)", "[]"), "{1}"),
        ];
        for (line, part) in bad {
            let refused = read(line).unwrap_err();
            assert!(refused.contains(":7") && refused.contains(part), "{line}: {refused}");
        }
    }
}
