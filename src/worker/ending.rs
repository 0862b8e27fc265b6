//! How an attempt ended, with what it put out: what the shim leaves on disk, the journal
//! keeps, and the leader is told.
//!
//! The shim reads what the job wrote, once nothing of it runs any more, and writes both
//! down as one: there is no end without its outputs, whichever process dies next.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use horai_core::machine::command::EndReport;
use horai_core::model::confinement::Usage;
use horai_core::model::output::{MAX_BYTES, Values, parse};
use horai_core::model::run::EndKind;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::mask::Masker;

/// An attempt's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// What happened.
    #[serde(flatten)]
    pub report: EndReport,
    /// What it put out; nothing unless it succeeded.
    #[serde(default, skip_serializing_if = "Values::is_empty")]
    pub outputs: Values,
    /// What it used, as far as that was counted.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub usage: Usage,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature is serde's
fn is_nothing(usage: &Usage) -> bool {
    *usage == Usage::default()
}

/// The end of an attempt that put nothing out.
impl From<EndReport> for Ending {
    fn from(report: EndReport) -> Self {
        Self { report, outputs: Values::new(), usage: Usage::default() }
    }
}

impl Ending {
    /// The end of an attempt whose job wrote what it puts out to the file `path`. What is
    /// no success puts nothing out, and one whose file cannot be taken is none.
    #[must_use]
    pub fn of(mut report: EndReport, path: &Path) -> Self {
        if !report.how.is_success() {
            return report.into();
        }
        match read(path) {
            Ok(outputs) => Self { report, outputs, usage: Usage::default() },
            Err(why) => {
                report.how = EndKind::bad_output(&why);
                report.into()
            }
        }
    }
}

impl Ending {
    /// The same with what it used.
    #[must_use]
    pub fn using(self, usage: Usage) -> Self {
        Self { usage, ..self }
    }

    /// Takes secrets out of what others may read. What stands for one is never longer.
    pub fn mask(&mut self, masker: &Masker) {
        for value in self.outputs.values_mut() {
            *value = masker.mask(value);
        }
        if let EndKind::BadOutput { message } = &mut self.report.how {
            *message = masker.mask(message);
        }
    }
}

/// What the file says; nothing, if there is none any more.
fn read(path: &Path) -> Result<Values, String> {
    let told = |error: io::Error| format!("it cannot be read: {error}");
    // A job may have put something in its place that nobody ever writes to.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Values::new()),
        Err(error) => return Err(told(error)),
    };
    if !file.metadata().map_err(told)?.is_file() {
        return Err("it is no file any more".to_owned());
    }
    let mut bytes = Vec::new();
    // One more says that there are too many.
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(told)?;
    parse(&bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited(code: i32) -> EndReport {
        let how = EndKind::Exited { code };
        EndReport { how, started: None, ended: None, output_bytes: 0, output_crc: 0 }
    }

    #[test]
    fn a_success_has_what_its_job_wrote() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("outputs");
        assert_eq!(Ending::of(exited(0), &path), exited(0).into());
        std::fs::write(&path, "ROWS=17\nTEXT<<E\na\nb\nE\n").unwrap();
        let ending = Ending::of(exited(0), &path);
        assert_eq!(
            (ending.outputs["ROWS"].as_str(), ending.outputs["TEXT"].as_str()),
            ("17", "a\nb")
        );
        assert_eq!(Ending::of(exited(1), &path), exited(1).into());
    }

    #[test]
    fn what_cannot_be_taken_fails_the_attempt_with_its_reason() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("outputs");
        let why = |path: &Path| match Ending::of(exited(0), path).report.how {
            EndKind::BadOutput { message } => message,
            other => panic!("{other:?}"),
        };
        std::fs::write(&path, "A=1\nhello\n").unwrap();
        assert!(why(&path).starts_with("line 2: write KEY=VALUE"));
        std::fs::write(&path, "x".repeat(MAX_BYTES + 1)).unwrap();
        assert_eq!(why(&path), "it has more than 16384 bytes");
        assert_eq!(why(home.path()), "it is no file any more");
        assert_eq!(why(Path::new("/dev/zero")), "it is no file any more");
        let fifo = home.path().join("fifo");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
        assert_eq!(why(&fifo), "it is no file any more");
    }

    #[test]
    fn secrets_do_not_get_out() {
        let outputs = Values::from([("A".to_owned(), "key=hunter2".to_owned())]);
        let mut ending = Ending { outputs, ..exited(0).into() };
        let masker = Masker::new(["hunter2"]).unwrap();
        ending.mask(&masker);
        assert_eq!(ending.outputs["A"], "key=***");
        let how = EndKind::bad_output("line 1: \"hunter2\" is no key");
        let mut ending = Ending::from(EndReport { how, ..exited(0) });
        ending.mask(&masker);
        assert_eq!(ending.report.how, EndKind::bad_output("line 1: \"***\" is no key"));
    }

    #[test]
    fn the_form_on_disk_is_a_reports_and_more() {
        let plain = serde_json::to_string(&exited(0)).unwrap();
        assert_eq!(serde_json::from_str::<Ending>(&plain).unwrap(), exited(0).into());
        assert_eq!(serde_json::to_string(&Ending::from(exited(0))).unwrap(), plain);
        let outputs = Values::from([("A".to_owned(), "1".to_owned())]);
        let usage = Usage { cpu_ms: 3, ..Usage::default() };
        let ending = Ending { outputs, usage, ..exited(0).into() };
        let text = serde_json::to_string(&ending).unwrap();
        assert_eq!(serde_json::from_str::<Ending>(&text).unwrap(), ending);
    }
}
