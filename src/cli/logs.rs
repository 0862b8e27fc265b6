//! How an output is shown: as it was written, or line by line.

use std::io::{self, Write};

use crate::api::dto::{LogEventDto, left_out};

/// A line that is longer is shown in parts: bytes.
const MAX_LINE: usize = 1 << 20;

/// A line that has begun, on one stream.
#[derive(Debug, Default)]
struct Line {
    head: String,
    bytes: Vec<u8>,
}

/// Shows events in turn.
#[derive(Debug)]
pub(super) struct Shown {
    as_json: bool,
    heads: bool,
    grep: Option<String>,
    /// By stream; only where lines are told apart.
    lines: [Line; 2],
}

impl Shown {
    /// As JSON, an event a line; or lines with time and stream before each, and only
    /// those that contain a text.
    pub(super) fn new(as_json: bool, heads: bool, grep: Option<String>) -> Self {
        Self { as_json, heads, grep, lines: Default::default() }
    }

    /// One event.
    ///
    /// # Errors
    /// Those of `out`.
    pub(super) fn show(&mut self, event: &LogEventDto, out: &mut impl Write) -> io::Result<()> {
        if self.as_json {
            serde_json::to_writer(&mut *out, event)?;
            return writeln!(out);
        }
        let Some(bytes) = event.bytes() else {
            self.end(out)?;
            return out.write_all(left_out(event.from, event.to).as_bytes());
        };
        if !self.heads && self.grep.is_none() {
            return out.write_all(&bytes);
        }
        let stream = event.stream.as_deref().unwrap_or_default();
        let which = usize::from(stream == "stderr");
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let line = &mut self.lines[which];
            if line.bytes.is_empty() && self.heads {
                let at = event.at.map(|at| at.to_string()).unwrap_or_default();
                line.head = format!("{at} {stream} ");
            }
            line.bytes.extend_from_slice(part);
            if part.ends_with(b"\n") || line.bytes.len() >= MAX_LINE {
                self.finish(which, out)?;
            }
        }
        Ok(())
    }

    /// What has no end of line is shown too.
    ///
    /// # Errors
    /// Those of `out`.
    pub(super) fn end(&mut self, out: &mut impl Write) -> io::Result<()> {
        (0..self.lines.len()).try_for_each(|which| self.finish(which, out))
    }

    fn finish(&mut self, which: usize, out: &mut impl Write) -> io::Result<()> {
        let Line { head, bytes } = std::mem::take(&mut self.lines[which]);
        let contains = |text: &String| {
            let text = text.as_bytes();
            text.is_empty() || bytes.windows(text.len()).any(|window| window == text)
        };
        if bytes.is_empty() || !self.grep.as_ref().is_none_or(contains) {
            return Ok(());
        }
        out.write_all(head.as_bytes())?;
        out.write_all(&bytes)?;
        if bytes.ends_with(b"\n") { Ok(()) } else { writeln!(out) }
    }
}

#[cfg(test)]
mod tests {
    use horai_core::time::UtcMillis;

    use super::*;
    use crate::api::dto::Time;

    fn shown(mut shown: Shown) -> String {
        let event = |from: u64, at: i64, stream: &str, text: &str| {
            LogEventDto::of(from, text.as_bytes(), Time(UtcMillis(at)), stream)
        };
        let mut out = Vec::new();
        for event in [
            event(0, 0, "stdout", "one\ntw"),
            event(6, 1_000, "stderr", "oops\n"),
            event(11, 2_000, "stdout", "o\nthree"),
            LogEventDto::gap(18, 118),
            event(118, 3_000, "stdout", "last"),
        ] {
            shown.show(&event, &mut out).unwrap();
        }
        shown.end(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_have_the_time_at_which_they_began_and_are_chosen_whole() {
        let gap = "\n[horai: 100 bytes of output are left out here]\n";
        let plain = shown(Shown::new(false, false, None));
        assert_eq!(plain, format!("one\ntwoops\no\nthree{gap}last"));
        let heads = shown(Shown::new(false, true, None));
        assert_eq!(
            heads,
            format!(
                "1970-01-01T00:00:00.000Z stdout one\n1970-01-01T00:00:01.000Z stderr oops\n\
                 1970-01-01T00:00:00.000Z stdout two\n1970-01-01T00:00:02.000Z stdout three\n\
                 {gap}1970-01-01T00:00:03.000Z stdout last\n"
            )
        );
        let some = shown(Shown::new(false, false, Some("t".to_owned())));
        assert_eq!(some, format!("two\nthree\n{gap}last\n"));
        let json = shown(Shown::new(true, false, None));
        assert_eq!(json.lines().count(), 5);
        assert!(json.contains("{\"from\":18,\"to\":118}\n"), "{json}");
    }
}
