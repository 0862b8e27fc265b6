//! What the processes of an attempt may use, and as whom they run. The machine keeps and
//! checks it; the kernel of the worker's machine holds them to it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Of each attempt of a job; nothing where nothing is said.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Confinement {
    /// Bytes of memory of all its processes together: 1 MiB to 1 PiB.
    pub memory: Option<u64>,
    /// Thousandths of a core that all its processes together may use: 10 to 1,024,000.
    pub cpu: Option<u32>,
    /// Processes and threads that there may be at once: 1 to 4,194,304.
    pub pids: Option<u32>,
    /// The user of the worker's machine as whom they run; the worker's own where none is said.
    pub run_as: Option<String>,
    /// Which permissions files they make do not get: 0 to 0o777.
    pub umask: Option<u32>,
    /// Limits of each single process, soft and hard; [`Confinement::UNLIMITED`] is none.
    pub rlimits: BTreeMap<Rlimit, u64>,
}

/// A field that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfinementProblem {
    /// By its name in a definition.
    pub field: String,
    /// As given.
    pub value: String,
    /// What is wrong with it.
    pub problem: &'static str,
    /// What to write instead.
    pub remedy: String,
}

impl Confinement {
    /// The least and the most memory.
    pub const MEMORY: (u64, u64) = (1 << 20, 1 << 50);
    /// The least and the most thousandths of a core: less is no quota that a kernel knows.
    pub const CPU: (u32, u32) = (10, 1_024_000);
    /// The least and the most processes.
    pub const PIDS: (u32, u32) = (1, 1 << 22);
    /// The most bits of a umask.
    pub const UMASK: u32 = 0o777;
    /// The longest name of a user.
    pub const MAX_USER: usize = 64;
    /// The value of a limit that is none.
    pub const UNLIMITED: u64 = u64::MAX;

    /// What a worker must be able to do for it.
    #[must_use]
    pub fn needs(&self) -> BTreeSet<Power> {
        let process = self.umask.is_some() || !self.rlimits.is_empty();
        [
            (self.memory.is_some(), Power::Memory),
            (self.cpu.is_some(), Power::Cpu),
            (self.pids.is_some(), Power::Pids),
            (self.run_as.is_some(), Power::RunAs),
            (process, Power::Process),
        ]
        .into_iter()
        .filter_map(|(is_needed, power)| is_needed.then_some(power))
        .collect()
    }

    /// The first field that cannot be taken.
    #[must_use]
    pub fn problem(&self) -> Option<ConfinementProblem> {
        let outside = |field: &str, value: u64, (least, most): (u64, u64), unit: &str| {
            (!(least..=most).contains(&value)).then(|| ConfinementProblem {
                field: field.to_owned(),
                value: value.to_string(),
                problem: "it is out of range",
                remedy: format!("write {least} to {most} {unit}"),
            })
        };
        let wide = |(least, most): (u32, u32)| (u64::from(least), u64::from(most));
        let memory = self.memory.and_then(|n| outside("limits.memory", n, Self::MEMORY, "bytes"));
        let cpu = self.cpu.map(u64::from);
        let cpu =
            cpu.and_then(|n| outside("limits.cpu", n, wide(Self::CPU), "thousandths of a core"));
        let pids = self.pids.map(u64::from);
        let pids = pids.and_then(|n| outside("limits.pids", n, wide(Self::PIDS), "processes"));
        let umask = self.umask.filter(|mask| *mask > Self::UMASK).map(|mask| ConfinementProblem {
            field: "umask".to_owned(),
            value: format!("{mask:o}"),
            problem: "these are no permissions",
            remedy: "write three octal digits, such as \"027\"".to_owned(),
        });
        memory.or(cpu).or(pids).or(umask).or_else(|| self.user_problem())
    }

    fn user_problem(&self) -> Option<ConfinementProblem> {
        let name = self.run_as.as_ref()?;
        let is_name = !name.is_empty()
            && name.len() <= Self::MAX_USER
            && !name.starts_with('-')
            && name.chars().all(|c| !c.is_whitespace() && !c.is_control() && !":/,".contains(c));
        (!is_name).then(|| ConfinementProblem {
            field: "run_as".to_owned(),
            value: name.clone(),
            problem: "no user has such a name",
            remedy: format!("write a name of a user, up to {} bytes", Self::MAX_USER),
        })
    }
}

/// Something that not every worker can hold an attempt to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Power {
    /// Limits of memory.
    Memory,
    /// Limits of CPU time.
    Cpu,
    /// Limits of the number of processes.
    Pids,
    /// Running as somebody else.
    RunAs,
    /// Umask, and limits of single processes.
    Process,
    /// Files that the job brings along: a worker of an earlier version would run without.
    Files,
}

impl Power {
    /// Every one with the field of a definition that needs it.
    pub const ALL: [(&'static str, Self); 6] = [
        ("limits.memory", Self::Memory),
        ("limits.cpu", Self::Cpu),
        ("limits.pids", Self::Pids),
        ("run_as", Self::RunAs),
        ("umask and rlimits", Self::Process),
        ("files", Self::Files),
    ];

    /// The field of a definition that needs it.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, power)| *power == self).map_or("", |(word, _)| *word)
    }
}

/// A limit of each single process, as `setrlimit` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Rlimit {
    /// Bytes of address space.
    As,
    /// Bytes of a core file.
    Core,
    /// Seconds of CPU time.
    Cpu,
    /// Bytes of data.
    Data,
    /// Bytes of a file that is written.
    Fsize,
    /// Bytes that may be locked into memory.
    Memlock,
    /// Open files.
    Nofile,
    /// Processes of the user.
    Nproc,
    /// Bytes of stack.
    Stack,
}

impl Rlimit {
    /// Each with its word in definitions.
    pub const ALL: [(&'static str, Self); 9] = [
        ("as", Self::As),
        ("core", Self::Core),
        ("cpu", Self::Cpu),
        ("data", Self::Data),
        ("fsize", Self::Fsize),
        ("memlock", Self::Memlock),
        ("nofile", Self::Nofile),
        ("nproc", Self::Nproc),
        ("stack", Self::Stack),
    ];

    /// The word in definitions.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, limit)| *limit == self).map_or("", |(word, _)| *word)
    }

    /// True if it counts bytes.
    #[must_use]
    pub fn is_size(self) -> bool {
        match self {
            Self::As | Self::Core | Self::Data | Self::Fsize | Self::Memlock | Self::Stack => true,
            Self::Cpu | Self::Nofile | Self::Nproc => false,
        }
    }
}

/// How well a worker keeps attempts apart, as it says when it attaches.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Isolation {
    /// What it does it by.
    pub kind: IsolationKind,
    /// What it can hold an attempt to.
    pub powers: BTreeSet<Power>,
    /// Why it is no better, for people; up to 256 bytes.
    pub note: String,
}

impl Isolation {
    /// The longest note, in bytes.
    pub const MAX_NOTE: usize = 256;

    /// What is needed and cannot be had.
    #[must_use]
    pub fn lacks(&self, wanted: &BTreeSet<Power>) -> BTreeSet<Power> {
        wanted.difference(&self.powers).copied().collect()
    }
}

/// By what an attempt's processes are kept together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum IsolationKind {
    /// A worker of an earlier version, which does not say.
    #[default]
    Unknown,
    /// Descent alone: without limits.
    ProcessGroup,
    /// A cgroup in each hierarchy of version 1 that could be had.
    Cgroup1,
    /// A cgroup of version 2.
    Cgroup2,
}

impl IsolationKind {
    /// Each with its word on the wire, in API and CLI.
    pub const ALL: [(&'static str, Self); 4] = [
        ("unknown", Self::Unknown),
        ("process_group", Self::ProcessGroup),
        ("cgroup1", Self::Cgroup1),
        ("cgroup2", Self::Cgroup2),
    ];

    /// The word on the wire, in API and CLI.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| *word)
    }
}

/// What an attempt has used, as far as its worker could count; 0 is nothing or unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// The most memory at any time, in KiB: of all processes together in a cgroup, else of
    /// the largest one.
    pub peak_memory_kib: u64,
    /// CPU time of all processes, in milliseconds.
    pub cpu_ms: u64,
    /// Processes that the kernel killed because there was no memory left.
    pub oom_kills: u64,
    /// Processes that the kernel refused because there were as many as there may be.
    pub refused_forks: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_what_a_worker_must_be_able_to_do() {
        assert!(Confinement::default().needs().is_empty());
        let memory = Confinement { memory: Some(1 << 30), ..Confinement::default() };
        let user = Confinement { run_as: Some("etl".into()), umask: Some(0o27), ..memory.clone() };
        let able = |powers: &[Power]| Isolation {
            powers: powers.iter().copied().collect(),
            ..Isolation::default()
        };
        assert!(able(&[]).lacks(&Confinement::default().needs()).is_empty());
        assert!(able(&[Power::Memory]).lacks(&memory.needs()).is_empty());
        let lacking: Vec<_> = able(&[Power::Memory]).lacks(&user.needs()).into_iter().collect();
        assert_eq!(lacking, [Power::RunAs, Power::Process]);
    }

    #[test]
    fn a_problem_names_its_field() {
        let field = |c: Confinement| c.problem().map(|wrong| wrong.field);
        let none = Confinement::default;
        assert_eq!(field(none()), None);
        for memory in [1 << 20, 1 << 50] {
            assert_eq!(field(Confinement { memory: Some(memory), ..none() }), None);
        }
        let bad = [
            (Confinement { memory: Some(4096), ..none() }, "limits.memory"),
            (Confinement { cpu: Some(9), ..none() }, "limits.cpu"),
            (Confinement { pids: Some(0), ..none() }, "limits.pids"),
            (Confinement { umask: Some(0o1000), ..none() }, "umask"),
            (Confinement { run_as: Some("a b".into()), ..none() }, "run_as"),
            (Confinement { run_as: Some(String::new()), ..none() }, "run_as"),
        ];
        for (confinement, wanted) in bad {
            assert_eq!(field(confinement).as_deref(), Some(wanted));
        }
    }
}
