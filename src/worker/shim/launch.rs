//! What a shim runs, and by what means: from the attempt's folder, or, where secrets are
//! in it, from memory alone.
//!
//! A script that holds secrets is a file without a name or a disk, which the job inherits
//! open: its interpreter reads it as `/proc/self/fd/N`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;

use rustix::fs::{MemfdFlags, memfd_create};

use super::dir::{Private, Spec};
use crate::worker::mask::Masker;

/// What is started, and what is taken out of its output.
pub(super) struct Means {
    pub(super) argv: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    /// A script without a disk: must be open when the job is started.
    pub(super) script: Option<File>,
    pub(super) masker: Option<Masker>,
    /// Nothing of it may be told, in an error for instance.
    pub(super) is_private: bool,
}

impl Means {
    /// Takes what is to be run out of the spec, or has it from memory.
    pub(super) fn of(spec: &mut Spec, private: Option<Private>) -> io::Result<Self> {
        let Some(Private { mut argv, env, script, secrets }) = private else {
            let (argv, env) = (std::mem::take(&mut spec.argv), std::mem::take(&mut spec.env));
            return Ok(Self { argv, env, script: None, masker: None, is_private: false });
        };
        let script = script.map(|text| in_memory(&text)).transpose()?;
        if let (Some(script), Some(place)) = (&script, argv.last_mut()) {
            *place = format!("/proc/self/fd/{}", script.as_raw_fd());
        }
        let masker = Masker::new(secrets.iter().map(String::as_str));
        Ok(Self { argv, env, script, masker, is_private: true })
    }
}

/// A file in memory that programs which are started inherit.
fn in_memory(text: &str) -> io::Result<File> {
    let mut file = File::from(memfd_create("script", MemfdFlags::empty())?);
    file.write_all(text.as_bytes())?;
    Ok(file)
}
