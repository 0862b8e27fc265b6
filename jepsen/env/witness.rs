//! Builds the witness, and checks that no preloaded library can reach it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Error, at};

/// Part of this program, so that a harness moved elsewhere still has it.
const SOURCE: &str = include_str!("../witness.rs");
/// Program header of an ELF file that names its dynamic loader.
const PT_INTERP: u32 = 3;

/// Compiles the witness into a folder and answers where it is.
pub(crate) fn build(folder: &Path) -> Result<PathBuf, Error> {
    let source = folder.join("witness.rs");
    let program = folder.join("witness");
    fs::write(&source, SOURCE).map_err(at(&source.display().to_string()))?;
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-o"]);
    rustc.arg(&program).arg(&source);
    let out = rustc.output().map_err(|e| Error::missing("rustc", "rustc (or rustup)", e))?;
    if !out.status.success() {
        return Err(Error::failed("rustc witness.rs", &out));
    }
    check_static(&program)?;
    Ok(program)
}

/// Refuses a program that a dynamic loader would load: its clock could be faked.
pub(crate) fn check_static(program: &Path) -> Result<(), Error> {
    let bytes = fs::read(program).map_err(at(&program.display().to_string()))?;
    match interpreter(&bytes) {
        Some(false) => Ok(()),
        Some(true) => Err(Error::Misuse(format!(
            "{} is linked dynamically: a preloaded library could change its clock",
            program.display()
        ))),
        None => Err(Error::Misuse(format!("{} is no ELF file of 64 bits", program.display()))),
    }
}

/// Whether an ELF file names a dynamic loader; none if it is no such file.
fn interpreter(elf: &[u8]) -> Option<bool> {
    let number = |from: usize, length: usize| -> Option<u64> {
        let bytes = elf.get(from..from.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let is_64_bits_little_endian = elf.starts_with(b"\x7fELF\x02\x01");
    if !is_64_bits_little_endian {
        return None;
    }
    let table = usize::try_from(number(32, 8)?).ok()?;
    let (size, count) = (number(54, 2)?, number(56, 2)?);
    for n in 0..count {
        let at = table.checked_add(usize::try_from(n * size).ok()?)?;
        if number(at, 4)? == u64::from(PT_INTERP) {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Stamp;

    #[test]
    fn the_witness_is_static_and_others_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let program = build(folder.path()).unwrap();
        check_static(&program).unwrap();
        // The shell is loaded by the dynamic loader.
        let shell = fs::canonicalize("/bin/sh").unwrap();
        assert!(check_static(&shell).unwrap_err().to_string().contains("linked dynamically"));
        let text = folder.path().join("witness.rs");
        assert!(check_static(&text).unwrap_err().to_string().contains("no ELF"));
    }

    #[test]
    fn the_witness_says_what_it_saw() {
        let folder = tempfile::tempdir().unwrap();
        let program = build(folder.path()).unwrap();
        let before = Stamp::now().t;
        let out = Command::new(program)
            .args(["--to", folder.path().to_str().unwrap(), "--ms", "60", "--tick", "20"])
            .args(["--exit", "1,7", "--lines", "3", "--label", "a \"b\""])
            .arg("--resource")
            .arg(folder.path())
            .env_clear()
            .env("HORAI_OUTPUT", "/x/machines/w2/data/y")
            .env("HORAI_ATTEMPT", "r-5.2")
            .env("HORAI_JOB", "load")
            .env("HORAI_FENCING_TOKEN", "12")
            .output()
            .unwrap();
        assert_eq!(out.status.code(), Some(7), "{out:?}");
        assert_eq!(String::from_utf8(out.stdout).unwrap().lines().count(), 3);
        let text = fs::read_to_string(folder.path().join("w2.jsonl")).unwrap();
        let rows = text.lines().filter(|line| !line.is_empty());
        let lines: Vec<serde_json::Value> =
            rows.map(|line| serde_json::from_str(line).unwrap()).collect();
        let events: Vec<&str> = lines.iter().map(|l| l["e"].as_str().unwrap()).collect();
        assert_eq!(events[..2], ["start", "token"]);
        assert_eq!(events.last(), Some(&"end"));
        assert!(events.contains(&"tick"));
        for line in &lines {
            assert_eq!((&line["attempt"], &line["token"]), (&2.into(), &12.into()));
            assert_eq!((&line["worker"], &line["label"]), (&"w2".into(), &"a \"b\"".into()));
            let t = line["t"].as_u64().unwrap();
            assert!(t >= before && t <= Stamp::now().t, "{t} is not of our clock");
        }
        assert_eq!(lines[1]["accepted"], true);
        assert_eq!(lines.last().unwrap()["exit"], 7);
    }
}
