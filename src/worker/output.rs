//! Serves an attempt's output from an offset, while it runs and after.
//!
//! Reads the file that the shim writes; a replicated chunk store can take this
//! place without the callers seeing it. It never holds back a writer.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use horai_core::ids::{AttemptKey, RunId};
use horai_proto::worker as pb;
use tokio::sync::mpsc;

use super::jobs::JobRunner;
use super::shim::dir;

/// Bytes in one frame.
const CHUNK: u64 = 64 * 1024;
/// Between two looks at a file that is followed.
const FOLLOW_STEP: Duration = Duration::from_millis(100);

/// Bytes of an output, and how much there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// From the offset that was asked for.
    pub data: Vec<u8>,
    /// Bytes held when it was read.
    pub total: u64,
    /// The attempt was over before it was read: `total` is final.
    pub complete: bool,
}

/// Reads at most `max` bytes of the output in an attempt's `folder`.
///
/// # Errors
/// The system's; "not found" if the worker does not hold it.
pub fn read(folder: &Path, offset: u64, max: u64) -> io::Result<Piece> {
    // Asked before reading: what is then read is all there will be.
    let complete = folder.join(dir::RESULT).try_exists()?;
    let file = match File::open(folder.join(dir::OUTPUT)) {
        Ok(file) => file,
        // Started or about to, and nothing written yet.
        Err(e) if e.kind() == io::ErrorKind::NotFound && folder.try_exists()? => {
            return Ok(Piece { data: Vec::new(), total: 0, complete });
        }
        Err(e) => return Err(e),
    };
    let total = file.metadata()?.len();
    let len = total.saturating_sub(offset).min(max).min(CHUNK);
    let mut data = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    file.read_exact_at(&mut data, offset)?;
    Ok(Piece { data, total, complete })
}

/// Answers one request with as many frames as it takes.
pub(super) async fn serve(
    jobs: Arc<dyn JobRunner>,
    ask: pb::LogRead,
    to: mpsc::Sender<pb::FromWorker>,
) {
    let key = AttemptKey { run: RunId(ask.run), shard: ask.shard, number: ask.number };
    let mut offset = ask.offset;
    let mut left = if ask.max_bytes == 0 { u64::MAX } else { ask.max_bytes };
    loop {
        let piece = match jobs.read(key, offset, left).await {
            Ok(piece) => piece,
            Err(e) => {
                let error = format!("output of {key} at byte {offset}: {e}");
                let chunk = pb::LogChunk {
                    request_id: ask.request_id,
                    offset,
                    end: true,
                    error,
                    ..Default::default()
                };
                let _ = to.send(frame(chunk)).await;
                return;
            }
        };
        let len = piece.data.len() as u64;
        left -= len;
        let at_end = offset.saturating_add(len) >= piece.total;
        let end = left == 0 || (at_end && (piece.complete || !ask.follow));
        if len > 0 || end {
            let chunk = pb::LogChunk {
                request_id: ask.request_id,
                offset,
                data: piece.data.into(),
                total: piece.total,
                end,
                error: String::new(),
            };
            if to.send(frame(chunk)).await.is_err() || end {
                return;
            }
        } else {
            if to.is_closed() {
                return;
            }
            tokio::time::sleep(FOLLOW_STEP).await;
        }
        offset += len;
    }
}

pub(super) fn frame(chunk: pb::LogChunk) -> pb::FromWorker {
    pb::FromWorker { body: Some(pb::from_worker::Body::LogChunk(chunk)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::shims::Shims;

    #[tokio::test]
    async fn a_followed_output_is_served_whole_and_ends_with_the_attempt() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("5-0-1");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join(dir::OUTPUT), "first ").unwrap();
        let (to, mut from) = mpsc::channel(4);
        let ask = pb::LogRead {
            request_id: 1,
            run: 5,
            number: 1,
            follow: true,
            offset: 2,
            ..Default::default()
        };
        let name = horai_core::ids::Name::new("w").unwrap();
        let jobs = Shims::new(&name, home.path().to_owned(), "none".into());
        tokio::spawn(serve(Arc::new(jobs), ask, to));
        let mut text = Vec::new();
        loop {
            let Some(pb::from_worker::Body::LogChunk(chunk)) = from.recv().await.unwrap().body
            else {
                panic!("no chunk")
            };
            assert_eq!(chunk.offset, 2 + text.len() as u64);
            text.extend_from_slice(&chunk.data);
            if chunk.end {
                break;
            }
            std::fs::write(folder.join(dir::OUTPUT), "first second").unwrap();
            std::fs::write(folder.join(dir::RESULT), "{}").unwrap();
        }
        assert_eq!(text, b"rst second");
        assert!(read(&home.path().join("6-0-1"), 0, 1).is_err());
    }
}
