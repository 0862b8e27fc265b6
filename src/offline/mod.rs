//! What-if questions that need no cluster: when an expression fires, what it
//! means, what Quartz would have done, what a set of jobs does on a day. Lines of
//! JSON in, lines of JSON out, or definitions in and an answer out.
//!
//! Everything here is a function of the line and of the zone data in the
//! program; nothing is read but what is asked, and no clock is looked at.

pub mod cron;
pub mod plan;
pub mod trigger;

use std::io::{self, BufRead, Write};

use horai_core::time::UtcMillis;

/// Answers each line that is not empty with one of its own, until the input ends.
///
/// # Errors
/// Only those of input and output: a question that is not understood is
/// answered with what is wrong with it.
pub fn answer_lines(
    input: impl BufRead,
    out: &mut impl Write,
    answer: impl Fn(&str) -> String,
) -> io::Result<()> {
    for line in input.split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if !line.trim().is_empty() {
            writeln!(out, "{}", answer(&line))?;
        }
    }
    out.flush()
}

/// `{"error":…}`.
fn error_line(problem: &str) -> String {
    serde_json::json!({ "error": problem }).to_string()
}

/// Reads an instant with its offset, such as `2026-11-21T03:00:00+01:00`.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub fn instant(text: &str) -> Result<UtcMillis, String> {
    match text.parse::<jiff::Timestamp>() {
        Ok(at) => Ok(UtcMillis(at.as_millisecond())),
        Err(_) => {
            let shown: String = text.chars().take(60).collect();
            Err(format!("{shown:?} is not an instant: write it as 2026-11-21T03:00:00+01:00 or …Z"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_an_answer_and_empty_ones_none() {
        let input: &[u8] = b"a\n\n \r\nb\xff\r\nlast";
        let mut out = Vec::new();
        answer_lines(input, &mut out, |line| line.trim().to_uppercase()).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "A\nB\u{fffd}\nLAST\n");
    }
}
