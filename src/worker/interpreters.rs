//! Programs that scripts may be given to, by names of the worker's configuration, and what
//! they say of work that they begin elsewhere.
//!
//! A pure table: it starts nothing. Commands are lists of arguments, and what is put into
//! one stays one argument: no shell reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use horai_core::ids::Name;
use regex::Regex;

use super::executor::PATH;

/// Stands for the script's path.
const SCRIPT: &str = "{script}";
/// An argument that is this stands for the job's own arguments.
const ARGS: &str = "{args}";

/// What reads a script.
#[derive(Debug, Clone)]
pub struct Interpreter {
    /// Program and arguments; `{script}` in one stands for the script's path, and one that
    /// is `{args}` for the arguments of the job.
    pub command: Vec<String>,
    /// What it says of work that it begins elsewhere.
    pub handles: Vec<RemoteHandle>,
}

/// How a program's output names work that it began elsewhere, and how that is ended.
#[derive(Debug, Clone)]
pub struct RemoteHandle {
    /// Looked for in each line of the output.
    pub pattern: Regex,
    /// Program and arguments; `{1}` stands for what the pattern's first group took.
    pub kill: Vec<String>,
}

/// All that a worker has, by name.
#[derive(Debug, Clone, Default)]
pub struct Interpreters(BTreeMap<Name, Interpreter>);

impl Interpreters {
    /// Those that need no configuration, if their programs are there.
    #[must_use]
    pub fn ready() -> Self {
        let handle = |pattern: &str, kill: [&str; 3]| RemoteHandle {
            pattern: Regex::new(pattern).expect("a test builds it"),
            kill: kill.into_iter().chain(["{1}"]).map(str::to_owned).collect(),
        };
        let submitted =
            r"(?:Submitted application|Submitting application|App id) (application_\d+_\d+)";
        let handles = vec![
            handle(submitted, ["yarn", "application", "-kill"]),
            handle(r"Starting Job = (job_\d+_\d+)", ["hadoop", "job", "-kill"]),
        ];
        let entry = |name: &str, command: &[&str]| {
            let command = command.iter().map(|text| (*text).to_owned()).collect();
            let name = Name::new(name).expect("a literal of the right form");
            (name, Interpreter { command, handles: handles.clone() })
        };
        Self(BTreeMap::from([
            entry("hive", &["hive", ARGS, "-f", SCRIPT]),
            entry("spark-sql", &["spark-sql", ARGS, "-f", SCRIPT]),
            entry("spark-submit", &["spark-submit", ARGS, SCRIPT]),
        ]))
    }

    /// The same with others, which go before those of the same name.
    #[must_use]
    pub fn with(mut self, others: impl IntoIterator<Item = (Name, Interpreter)>) -> Self {
        self.0.extend(others);
        self
    }

    /// The one of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Interpreter> {
        self.0
            .iter()
            .find_map(|(known, interpreter)| (known.as_str() == name).then_some(interpreter))
    }

    /// Names of those whose programs are on this machine now.
    #[must_use]
    pub fn at_hand(&self) -> BTreeSet<Name> {
        let at_hand = self.0.iter().filter(|(_, interpreter)| interpreter.is_at_hand());
        at_hand.map(|(name, _)| name.clone()).collect()
    }
}

impl Interpreter {
    /// The command for a script at that path.
    ///
    /// # Errors
    /// If the job gives arguments and the command has no place for them.
    pub fn command(&self, script: &str, args: &[String]) -> Result<Vec<String>, String> {
        if !args.is_empty() && !self.command.iter().any(|argument| argument == ARGS) {
            return Err(format!(
                "its interpreter takes no args: give its command a place {ARGS} in the worker's \
                 file"
            ));
        }
        let mut argv = Vec::with_capacity(self.command.len() + args.len());
        for argument in &self.command {
            match argument.as_str() {
                ARGS => argv.extend_from_slice(args),
                _ => argv.push(argument.replace(SCRIPT, script)),
            }
        }
        Ok(argv)
    }

    /// True if its program can be found, as an attempt would look for it.
    fn is_at_hand(&self) -> bool {
        self.command.first().is_some_and(|program| is_program(program))
    }
}

fn is_program(program: &str) -> bool {
    let can_run = |path: &Path| {
        let file = path.metadata();
        file.is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    match program.contains('/') {
        true => can_run(Path::new(program)),
        false => PATH.split(':').any(|folder| can_run(&Path::new(folder).join(program))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn arguments_stay_whole_and_need_a_place() {
        let with = |command: &[&str]| Interpreter { command: words(command), handles: vec![] };
        let argv = with(&["a", ARGS, "-f{script}"]).command("/s", &words(&["x y", "$(z)"]));
        assert_eq!(argv.unwrap(), ["a", "x y", "$(z)", "-f/s"]);
        assert!(with(&["a", SCRIPT]).command("/s", &words(&["x"])).is_err());
        assert_eq!(with(&["a", ARGS, SCRIPT]).command("/s", &[]).unwrap(), ["a", "/s"]);
    }

    #[test]
    fn only_what_can_be_run_here_is_told() {
        let name = |text: &str| Name::new(text).unwrap();
        let plain = |program: &str| Interpreter { command: words(&[program]), handles: vec![] };
        let all = Interpreters::default().with([
            (name("sh"), plain("sh")),
            (name("whole"), plain("/bin/sh")),
            (name("none"), plain("no-such-program")),
            (name("folder"), plain("/bin")),
        ]);
        assert_eq!(all.at_hand(), BTreeSet::from([name("sh"), name("whole")]));
        assert!(Interpreters::ready().named("hive").is_some());
        assert!(all.named("hive").is_none());
    }
}
