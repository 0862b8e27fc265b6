//! What a reader of an output got, beside what it should have got.

use serde_json::{Value, json};

/// What an attempt of that name prints, whole.
pub(super) fn expected(attempt: &str, lines: u64) -> String {
    (0..lines).fold(String::new(), |mut text, n| {
        let body = format!("{attempt} {n}");
        text.push_str(&format!("{body} {:08x}\n", crc(&body)));
        text
    })
}

/// CRC-32 as the witness computes it.
fn crc(text: &str) -> u32 {
    let step = |crc: u32, byte: u8| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 }
        })
    };
    !text.bytes().fold(!0, step)
}

/// An event of a stream of events: its name and what is in it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    name: String,
    data: Value,
}

/// Takes the events that are there as a whole.
pub(super) fn events(bytes: &mut Vec<u8>) -> Vec<Event> {
    let mut found = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\n\n") {
        let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes.drain(..end + 2);
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        // Comments are signs of life.
        if let Some(name) = field("event: ") {
            let data = field("data: ").and_then(|data| serde_json::from_str(data).ok());
            found.push(Event { name: name.to_owned(), data: data.unwrap_or_default() });
        }
    }
    found
}

/// One output as it is read: nothing of it is kept but where it differs.
#[derive(Debug)]
pub(super) struct Tape {
    expected: String,
    from: u64,
    /// Where it goes on.
    at: u64,
    bytes: u64,
    /// The first byte that is another one.
    wrong_at: Option<u64>,
    /// Where something was left out or came twice without being marked so.
    torn_at: Option<u64>,
    gaps: Vec<(u64, u64)>,
    /// Where it ends, as its reader was told.
    total: Option<u64>,
}

impl Tape {
    /// Read from that byte on.
    pub(super) fn new(expected: String, from: u64) -> Self {
        let (wrong_at, torn_at) = (None, None);
        Self {
            expected,
            from,
            at: from,
            bytes: 0,
            wrong_at,
            torn_at,
            gaps: Vec::new(),
            total: None,
        }
    }

    /// Takes what came; true if that was the end.
    pub(super) fn take(&mut self, event: &Event) -> bool {
        let number = |name: &str| event.data[name].as_u64();
        match (event.name.as_str(), number("from"), number("to")) {
            ("output", Some(from), Some(to)) => {
                // Witnesses print ASCII alone.
                let text = event.data["text"].as_str().unwrap_or_default();
                self.join(from, to);
                if to.saturating_sub(from) != text.len() as u64 {
                    self.torn_at.get_or_insert(from);
                }
                self.compare(from, text.as_bytes());
            }
            ("gap", Some(from), Some(to)) => {
                self.join(from, to);
                self.gaps.push((from, to));
            }
            ("end", ..) => {
                self.total = number("total");
                return true;
            }
            _ => _ = self.torn_at.get_or_insert(self.at),
        }
        false
    }

    fn join(&mut self, from: u64, to: u64) {
        if from != self.at || to <= from {
            self.torn_at.get_or_insert(self.at);
        }
        self.at = to;
    }

    fn compare(&mut self, from: u64, got: &[u8]) {
        self.bytes += got.len() as u64;
        let start = usize::try_from(from).unwrap_or(usize::MAX);
        let rest = self.expected.as_bytes().get(start..).unwrap_or_default();
        let same = got.iter().zip(rest).take_while(|(a, b)| a == b).count();
        if same < got.len() {
            self.wrong_at.get_or_insert(from + same as u64);
        }
    }

    /// As it is written down.
    pub(super) fn told(&self) -> Value {
        json!({
            "from": self.from,
            "to": self.at,
            "bytes": self.bytes,
            "whole": self.expected.len(),
            "wrong_at": self.wrong_at,
            "torn_at": self.torn_at,
            "gaps": self.gaps,
            "total": self.total,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_known_beforehand() {
        assert_eq!(crc("123456789"), 0xcbf4_3926);
        let text = expected("r-7.1", 300);
        assert_eq!(text.lines().count(), 300);
        assert!(text.starts_with(&format!("r-7.1 0 {:08x}\n", crc("r-7.1 0"))));
    }

    /// What is told of an output of `0123456789` that came in these parts.
    fn told(parts: &[(u64, &str)]) -> Value {
        let mut tape = Tape::new("0123456789".to_owned(), 0);
        for (from, text) in parts {
            let to = from + text.len() as u64;
            let data = json!({"from": from, "to": to, "text": text});
            assert!(!tape.take(&Event { name: "output".to_owned(), data }));
        }
        assert!(tape.take(&Event { name: "end".to_owned(), data: json!({"total": 10}) }));
        tape.told()
    }

    #[test]
    fn what_differs_is_found() {
        let good = told(&[(0, "0123"), (4, "456789")]);
        assert_eq!((&good["wrong_at"], &good["torn_at"]), (&Value::Null, &Value::Null));
        assert_eq!(
            (&good["to"], &good["bytes"], &good["total"]),
            (&json!(10), &json!(10), &json!(10))
        );
        assert_eq!(told(&[(0, "0123"), (4, "4x6789")])["wrong_at"], 5);
        assert_eq!(told(&[(0, "0123"), (5, "56789")])["torn_at"], 4, "one is missing");
        assert_eq!(told(&[(0, "0123"), (3, "3456789")])["torn_at"], 4, "one comes twice");
        assert_eq!(told(&[(0, "0123456789abc")])["wrong_at"], 10, "more than there is");
    }

    #[test]
    fn events_are_read_however_they_are_cut() {
        let stream = b": alive\n\nevent: gap\nid: r-1.1@9\ndata: {\"from\":4,\"to\":9}\n\nevent: end\nid: x\ndata: {\"total\":9}\n\n";
        for cut in 0..stream.len() {
            let mut rest = stream[..cut].to_vec();
            let mut found = events(&mut rest);
            rest.extend_from_slice(&stream[cut..]);
            found.extend(events(&mut rest));
            assert_eq!(found.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["gap", "end"]);
            assert_eq!((found[0].data["to"].as_u64(), rest.len()), (Some(9), 0));
        }
        let mut tape = Tape::new("0123456789".to_owned(), 4);
        let mut bytes = stream.to_vec();
        let ends = events(&mut bytes).iter().map(|event| tape.take(event)).collect::<Vec<_>>();
        assert_eq!((ends, tape.told()["gaps"].clone()), (vec![false, true], json!([[4, 9]])));
    }
}
