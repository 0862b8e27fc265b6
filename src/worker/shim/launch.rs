//! What a shim runs, and by what means: from the attempt's folder, or, where secrets are
//! in it, from memory alone.
//!
//! A script that holds secrets is a file without a name or a disk, which the job inherits
//! open: its interpreter reads it as `/proc/self/fd/N`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{MemfdFlags, memfd_create};

use super::dir::{self, Private, Spec, Step};
use crate::worker::mask::Masker;

/// One of the programs that an attempt consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// A command that ends what an attempt began elsewhere.
    Kill,
    /// A step before the main part.
    Pre(usize),
    /// What the job is.
    Main,
    /// A step after it.
    Post(usize),
}

impl Part {
    /// The file of its script.
    fn file(self) -> String {
        match self {
            Self::Pre(place) => dir::pre(place),
            Self::Kill | Self::Main => dir::SCRIPT.to_owned(),
            Self::Post(place) => dir::post(place),
        }
    }

    /// Its name in a definition; none for the main part.
    pub(super) fn field(self) -> Option<String> {
        match self {
            Self::Pre(place) => Some(format!("pre[{place}]")),
            Self::Kill | Self::Main => None,
            Self::Post(place) => Some(format!("post[{place}]")),
        }
    }
}

/// What is started, and what is taken out of its output.
pub(super) struct Means {
    /// In the order in which they run.
    pub(super) parts: Vec<(Part, Step)>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) masker: Option<Masker>,
    /// Nothing of it may be told, in an error for instance.
    pub(super) is_private: bool,
}

impl Means {
    /// Takes what is to be run out of the spec, or has it from memory.
    pub(super) fn of(spec: &mut Spec, private: Option<Private>) -> Self {
        let is_private = private.is_some();
        let Private { argv, env, script, secrets, pre, post } = match private {
            Some(private) => private,
            None => Private {
                argv: std::mem::take(&mut spec.argv),
                env: std::mem::take(&mut spec.env),
                pre: std::mem::take(&mut spec.pre),
                post: std::mem::take(&mut spec.post),
                ..Private::default()
            },
        };
        let pre = pre.into_iter().enumerate().map(|(i, step)| (Part::Pre(i), step));
        let post = post.into_iter().enumerate().map(|(i, step)| (Part::Post(i), step));
        let parts = pre.chain([(Part::Main, Step { argv, script })]).chain(post).collect();
        let masker = Masker::new(secrets.iter().map(String::as_str)).filter(|_| is_private);
        Self { parts, env, masker, is_private }
    }
}

/// Program and arguments of a part, and its script if that is in memory: it must be open
/// when the program is started.
pub(super) fn opened(
    folder: &Path,
    part: Part,
    step: Step,
) -> io::Result<(Vec<String>, Option<File>)> {
    let Step { mut argv, script } = step;
    let script = script.map(|text| in_memory(&text)).transpose()?;
    if let Some(script) = &script {
        let place = folder.join(part.file()).to_string_lossy().into_owned();
        let now = format!("/proc/self/fd/{}", script.as_raw_fd());
        for argument in &mut argv {
            *argument = argument.replace(&place, &now);
        }
    }
    Ok((argv, script))
}

/// A file in memory that programs which are started inherit.
fn in_memory(text: &str) -> io::Result<File> {
    let mut file = File::from(memfd_create("script", MemfdFlags::empty())?);
    file.write_all(text.as_bytes())?;
    Ok(file)
}
