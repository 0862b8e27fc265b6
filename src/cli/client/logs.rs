//! An attempt's output as it comes, over server-sent events.

use std::time::{Duration, Instant};

use reqwest::Response;

use super::transport::{Answer, Call, PAUSE};
use super::{ApiError, Client};
use crate::api::dto::{AttemptRef, LogEventDto, RunRef};
use crate::error::{ErrorCode, chain};

/// A stream that was silent so long is asked for again: the node may be frozen or cut
/// off, and then nothing would ever tell. A node that lives says so more often.
const SILENCE: Duration = Duration::from_secs(5);
/// The largest event that is taken, in bytes.
const MAX_EVENT: usize = 4 << 20;

/// Which part of an attempt's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogsQuery {
    /// Which shard, of a run that has several.
    pub shard: Option<u32>,
    /// Which try; the last if none is given.
    pub attempt: Option<u32>,
    /// From which byte.
    pub offset: u64,
    /// Stay until the attempt has ended.
    pub follow: bool,
}

/// An attempt's output. After a broken connection it goes on at another node where it
/// stopped.
#[derive(Debug)]
pub struct LogStream {
    client: Client,
    run: RunRef,
    query: LogsQuery,
    part: Option<Response>,
    /// What came of events that are not complete.
    buffer: Vec<u8>,
}

impl Client {
    /// An attempt's output. The first part has been asked for when this answers.
    ///
    /// # Errors
    /// If the cluster does not give it.
    pub async fn logs(&self, run: RunRef, query: LogsQuery) -> Result<LogStream, ApiError> {
        let (part, buffer) = (None, Vec::new());
        let mut logs = LogStream { client: self.clone(), run, query, part, buffer };
        logs.open().await?;
        Ok(logs)
    }
}

/// One event as it was sent.
#[derive(Debug, PartialEq)]
enum Sent {
    Said(LogEventDto),
    End,
    /// A sign of life, or of a kind that this program does not know.
    Nothing,
}

impl LogStream {
    /// The next stretch; none when all were told.
    ///
    /// # Errors
    /// If the output cannot be had for as long as the client's time limit.
    pub async fn next(&mut self) -> Result<Option<LogEventDto>, ApiError> {
        // A job may be silent for long; it is the nodes that may not.
        let mut deadline = Instant::now() + self.client.timeout;
        loop {
            while let Some(event) = take_event(&mut self.buffer) {
                match read_event(&event) {
                    Some(Sent::Said(said)) => {
                        self.query.offset = said.to;
                        return Ok(Some(said));
                    }
                    Some(Sent::End) => return Ok(None),
                    Some(Sent::Nothing) => {}
                    None => return Err(self.broken("an event cannot be read".to_owned())),
                }
            }
            let Some(part) = &mut self.part else {
                self.open().await?;
                continue;
            };
            let why = match tokio::time::timeout(SILENCE, part.chunk()).await {
                Ok(Ok(Some(bytes))) if self.buffer.len() + bytes.len() <= MAX_EVENT => {
                    self.buffer.extend_from_slice(&bytes);
                    deadline = Instant::now() + self.client.timeout;
                    continue;
                }
                Ok(Ok(Some(_))) => return Err(self.broken("an event is too long".to_owned())),
                Ok(Ok(None)) => "the node ended it".to_owned(),
                Ok(Err(error)) => chain(&error),
                Err(_) => "the node is silent".to_owned(),
            };
            self.part = None;
            if Instant::now() >= deadline {
                return Err(self.broken(why));
            }
            tokio::time::sleep(PAUSE.0).await;
        }
    }

    /// The byte that comes next.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.query.offset
    }

    fn broken(&self, why: String) -> ApiError {
        let remedy = format!("go on with --since-offset {}", self.query.offset);
        ApiError::new(ErrorCode::Unavailable, format!("the output breaks off: {why}"), remedy)
    }

    async fn open(&mut self) -> Result<(), ApiError> {
        let (run, query) = (self.run.to_string(), self.query);
        let path = ["runs", run.as_str(), "logs"];
        let call = Call { streams: true, accept: Some("text/event-stream"), ..Call::get(&path) }
            .with("shard", query.shard)
            .with("attempt", query.attempt)
            .with("offset", Some(query.offset))
            .with("follow", query.follow.then_some(true));
        self.buffer.clear();
        let Answer::Stream(part) = self.client.send(&call).await? else { return Ok(()) };
        // What follows after a break must be the same attempt's.
        let attempt = part.headers().get("horai-attempt").and_then(|id| id.to_str().ok());
        let attempt = attempt.and_then(|id| id.parse::<AttemptRef>().ok());
        self.query.attempt = attempt.map(|id| id.0.number).or(self.query.attempt);
        self.part = Some(part);
        Ok(())
    }
}

/// Cuts the first whole event off.
fn take_event(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = buffer.windows(2).position(|pair| pair == b"\n\n")?;
    let event = buffer[..end].to_vec();
    buffer.drain(..end + 2);
    Some(event)
}

/// None if it should be readable and is not.
fn read_event(event: &[u8]) -> Option<Sent> {
    let text = std::str::from_utf8(event).ok()?;
    let field = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(field, _)| *field == name).map(|(_, value)| value)
    };
    Some(match field("event") {
        Some("output" | "gap") => Sent::Said(serde_json::from_str(field("data")?).ok()?),
        Some("end") => Sent::End,
        Some(_) | None => Sent::Nothing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_cut_and_read() {
        let mut buffer = b": alive\n\nevent: output\nid: r-1.1@3\ndata: {\"from\":1,\"to\":3,\
            \"at\":\"2026-11-21T03:00:00.000Z\",\"stream\":\"stderr\",\"base64\":\"/3g=\"}\n\n\
            event: gap\nid: r-1.1@9\ndata: {\"from\":3,\"to\":9}\n\n\
            event: end\ndata: {\"total\":9}\n\nevent: out"
            .to_vec();
        let mut next = || take_event(&mut buffer).map(|event| read_event(&event).unwrap());
        assert_eq!(next(), Some(Sent::Nothing));
        let Some(Sent::Said(said)) = next() else { panic!("no output") };
        assert_eq!(said.bytes().unwrap(), b"\xffx");
        assert_eq!((said.stream.as_deref(), said.to), (Some("stderr"), 3));
        assert_eq!(next(), Some(Sent::Said(LogEventDto::gap(3, 9))));
        assert_eq!(next(), Some(Sent::End));
        assert_eq!(next(), None);
        assert_eq!(read_event(b"event: output\ndata: {"), None);
    }
}
