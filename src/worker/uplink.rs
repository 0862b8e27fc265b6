//! Brings the output of attempts to the node that leads, and knows when it is safe there.
//!
//! On a connection of its own, so that a job's flood delays neither orders nor
//! heartbeats. What was sent and is not stored by a majority is bounded, for each attempt
//! and for all: a job that writes faster than that finds the middle of its output left
//! out, and takes no other's share. Where to go on after a change of leader is the
//! leader's word; an output is kept here until all of it is stored and the attempt is
//! forgotten.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use horai_core::ids::AttemptKey;
use horai_core::model::run::EndKind;
use horai_proto::logs as pb;
use horai_proto::logs::from_worker::Body as Say;
use horai_proto::logs::to_worker::Body as Hear;
use horai_proto::logs::worker_logs_client::WorkerLogsClient;
use horai_raft::host;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use super::attach::{Identity, identified};
use super::jobs::JobRunner;
use super::output::{Reader, left_out};
use super::shim::dir;
use crate::chunks::piece::{attempt_key, attempt_ref, pack};
use crate::chunks::{Content, Piece};

/// Bytes of output in one piece,
const PIECE: usize = 64 << 10;
/// under way of one attempt,
const OF_ONE: u64 = 512 << 10;
/// and of all.
const OF_ALL: u64 = 4 << 20;
/// Between two looks for new output.
const LOOK: Duration = Duration::from_millis(100);
/// An output that was silent for some looks is looked at less often: at most so many
/// looks are left out.
const MOST_IDLE: u32 = 8;
/// Before another connection is tried.
const PAUSE: Duration = Duration::from_millis(300);
const CONNECT: Duration = Duration::from_secs(2);
/// The other side is asked for a sign of life.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Frames that wait for the network.
const FRAMES: usize = 64;

/// What the agent knows of an attempt's output.
#[derive(Debug)]
pub(super) enum Tell {
    /// It may grow.
    Begun(AttemptKey),
    /// It is of an earlier worker: some of it may have been sent.
    Found(AttemptKey),
    /// It grows no more.
    Ended(AttemptKey),
    /// Its result is committed.
    Forgotten(AttemptKey),
}

/// The agent's end.
pub(super) struct Uplink {
    tells: mpsc::UnboundedSender<Tell>,
    leader: watch::Sender<Option<String>>,
}

impl Uplink {
    /// Begins to deliver, on the current runtime, until it is dropped.
    pub(super) fn new(identity: Identity, jobs: Arc<dyn JobRunner>) -> Self {
        // As many as there are attempts.
        let (tells, told) = mpsc::unbounded_channel();
        let (leader, led) = watch::channel(None);
        tokio::spawn(Work { identity, jobs, told, led, outputs: BTreeMap::new() }.run());
        Self { tells, leader }
    }

    pub(super) fn tell(&self, tell: Tell) {
        // Fails only when the runtime ends.
        let _ = self.tells.send(tell);
    }

    /// The address of the node that leads, if one does.
    pub(super) fn lead(&self, address: Option<&str>) {
        self.leader.send_if_modified(|known| {
            let is_new = known.as_deref() != address;
            if is_new {
                *known = address.map(str::to_owned);
            }
            is_new
        });
    }
}

/// One attempt's output.
struct Out {
    folder: PathBuf,
    /// Set once the leader said where to begin.
    reader: Option<Reader>,
    /// Asked for that, on this connection.
    asked: bool,
    /// Nothing of it was ever sent.
    fresh: bool,
    /// A majority has all below.
    stored: u64,
    /// The leader knew all below when it was asked, stored or not.
    known: u64,
    /// Left out up to here, as the leader was told.
    left_out: u64,
    ended: bool,
    forgotten: bool,
    /// Length of the whole output, once it is known.
    total: Option<u64>,
    /// Nobody wants it.
    unwanted: bool,
    /// Looks in a row that found nothing, and those that are still to be left out.
    idle: u32,
    pass: u32,
}

impl Out {
    fn is_delivered(&self) -> bool {
        self.unwanted || self.total.is_some_and(|total| self.stored >= total)
    }

    fn under_way(&self) -> u64 {
        let least = self.stored.max(self.known);
        self.reader.as_ref().map_or(0, |reader| reader.at().saturating_sub(least))
    }
}

struct Work {
    identity: Identity,
    jobs: Arc<dyn JobRunner>,
    told: mpsc::UnboundedReceiver<Tell>,
    led: watch::Receiver<Option<String>>,
    outputs: BTreeMap<AttemptKey, Out>,
}

/// Why a connection ended.
type Broken = Box<dyn std::error::Error + Send + Sync>;

impl Work {
    async fn run(mut self) {
        loop {
            let address = self.led.borrow_and_update().clone();
            let Some(address) = address.filter(|_| self.waits()) else {
                tokio::select! {
                    biased;
                    told = self.told.recv() => match told {
                        Some(tell) => self.hear(tell).await,
                        None => return,
                    },
                    changed = self.led.changed() => if changed.is_err() { return },
                }
                continue;
            };
            if let Err(error) = self.deliver(&address).await {
                tracing::debug!(%error, "output is not delivered for now");
            }
            if self.told.is_closed() {
                return;
            }
            for out in self.outputs.values_mut() {
                (out.reader, out.asked) = (None, false);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// True if there is something to deliver.
    fn waits(&self) -> bool {
        self.outputs.values().any(|out| !out.is_delivered())
    }

    async fn hear(&mut self, tell: Tell) {
        let (Tell::Begun(key) | Tell::Found(key) | Tell::Ended(key) | Tell::Forgotten(key)) = tell;
        let is_new = !self.outputs.contains_key(&key);
        if is_new {
            // One that is forgotten and not known was delivered.
            let Some(folder) = self.jobs.output(key) else { return };
            let out = Out {
                folder,
                reader: None,
                asked: false,
                fresh: matches!(tell, Tell::Begun(_)),
                stored: 0,
                known: 0,
                left_out: 0,
                ended: false,
                forgotten: false,
                total: None,
                unwanted: false,
                idle: 0,
                pass: 0,
            };
            self.outputs.insert(key, out);
        }
        let Some(out) = self.outputs.get_mut(&key) else { return };
        match tell {
            Tell::Begun(_) => {}
            Tell::Found(_) => out.fresh = false,
            Tell::Ended(_) => out.ended = true,
            Tell::Forgotten(_) => (out.ended, out.forgotten) = (true, true),
        }
        (out.idle, out.pass) = (0, 0);
        self.settle(key).await;
    }

    /// Learns how long an output is that has ended, and lets go of what is done.
    async fn settle(&mut self, key: AttemptKey) {
        let Some(out) = self.outputs.get_mut(&key) else { return };
        if out.ended && out.total.is_none() {
            let (folder, reader) = (out.folder.clone(), Reader::new(key, out.folder.clone(), 0));
            let read = tokio::task::spawn_blocking(move || total(&folder, reader)).await;
            out.total = read.ok().flatten();
            out.unwanted |= out.total.is_none();
        }
        if !out.is_delivered() || !out.ended {
            return;
        }
        out.reader = None;
        if out.forgotten {
            self.outputs.remove(&key);
            let jobs = Arc::clone(&self.jobs);
            // Removed at the next start if this one ends before.
            tokio::task::spawn_blocking(move || jobs.discard(key));
        }
    }

    /// Serves one connection to the leader until it breaks or another node leads.
    async fn deliver(&mut self, address: &str) -> Result<(), Broken> {
        let endpoint = Endpoint::from_shared(address.to_owned())?
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .tcp_nodelay(true);
        let channel = host::connect(&endpoint, self.identity.dial.as_ref()).await?;
        let (to, queue) = mpsc::channel(FRAMES);
        let request = identified(&self.identity, ReceiverStream::new(queue))?;
        let mut answers = WorkerLogsClient::new(channel).deliver(request).await?.into_inner();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let waits = self.waits();
            tokio::select! {
                biased;
                changed = self.led.changed() => {
                    changed?;
                    return Ok(());
                }
                tell = self.told.recv() => match tell {
                    Some(tell) => self.hear(tell).await,
                    None => return Ok(()),
                },
                answer = answers.message() => match answer?.and_then(|answer| answer.body) {
                    Some(body) => {
                        let key = self.answered(body).await?;
                        // There is room again.
                        self.send(&to, Some(key)).await?;
                    }
                    None => return Err("the node ended the stream".into()),
                },
                _ = look.tick(), if waits => self.send(&to, None).await?,
            }
        }
    }

    /// Which attempt the answer is about.
    async fn answered(&mut self, body: Hear) -> Result<AttemptKey, Broken> {
        match body {
            Hear::Resume(resume) => {
                let key = attempt_key(resume.attempt);
                if let Some(out) = self.outputs.get_mut(&key) {
                    out.reader = Some(Reader::new(key, out.folder.clone(), resume.offset));
                    out.known = resume.offset;
                    (out.idle, out.pass) = (0, 0);
                }
                Ok(key)
            }
            Hear::Stored(stored) => {
                let key = attempt_key(stored.attempt);
                if let Some(out) = self.outputs.get_mut(&key) {
                    tracing::debug!(attempt = %key, below = stored.below, "output is safe");
                    out.stored = out.stored.max(stored.below);
                    out.unwanted |= stored.unwanted;
                    self.settle(key).await;
                }
                Ok(key)
            }
            Hear::Refused(refused) => Err(refused.message.into()),
        }
    }

    /// Sends what there is of one output, or of each in turn, as long as there is room.
    async fn send(
        &mut self,
        to: &mpsc::Sender<pb::FromWorker>,
        only: Option<AttemptKey>,
    ) -> Result<(), Broken> {
        let mut under_way: u64 = self.outputs.values().map(Out::under_way).sum();
        let mut turn: Vec<AttemptKey> = match only {
            Some(key) => vec![key],
            None => self.outputs.keys().copied().collect(),
        };
        while !turn.is_empty() {
            let mut again = Vec::new();
            for key in turn {
                let Some(out) = self.outputs.get_mut(&key) else { continue };
                if out.is_delivered() || !has_room(out.under_way(), under_way) {
                    continue;
                }
                if out.pass > 0 {
                    out.pass -= u32::from(only.is_none());
                    continue;
                }
                let Some(reader) = out.reader.take() else {
                    if !out.asked && has_output(&out.folder).await {
                        out.asked = true;
                        let fresh = std::mem::replace(&mut out.fresh, false);
                        let begin = pb::Begin { attempt: Some(attempt_ref(key)), fresh };
                        say(to, Say::Begin(begin)).await?;
                    } else if !out.asked {
                        rest(out);
                    }
                    continue;
                };
                let before = reader.at();
                let limits = (out.left_out, out.total);
                let read = tokio::task::spawn_blocking(move || read(reader, key, limits)).await?;
                let (reader, pieces) = match read {
                    Ok(read) => read,
                    Err(error) => {
                        tracing::warn!(attempt = %key, %error, "output cannot be read");
                        out.unwanted = error.kind() == io::ErrorKind::NotFound;
                        out.asked = false;
                        rest(out);
                        continue;
                    }
                };
                under_way += reader.at() - before;
                out.reader = Some(reader);
                if pieces.is_empty() {
                    rest(out);
                } else {
                    out.idle = 0;
                    again.push(key);
                }
                for piece in pieces {
                    if piece.gap {
                        out.left_out = out.left_out.max(piece.offset + piece.len);
                    }
                    say(to, Say::Piece(piece)).await?;
                }
            }
            turn = again;
        }
        Ok(())
    }
}

/// Whether more of an output may be sent, by what is under way of it and of all. A piece
/// of each always may: any number of floods takes no other's turn.
fn has_room(own: u64, all: u64) -> bool {
    own == 0 || (own < OF_ONE && all < OF_ALL)
}

/// Looked at less often while it is silent.
fn rest(out: &mut Out) {
    out.idle = (out.idle + 1).min(MOST_IDLE * 8);
    out.pass = if out.ended { 0 } else { out.idle / 8 };
}

async fn say(to: &mpsc::Sender<pb::FromWorker>, body: Say) -> Result<(), Broken> {
    Ok(to.send(pb::FromWorker { body: Some(body) }).await?)
}

async fn has_output(folder: &std::path::Path) -> bool {
    let folder = folder.to_owned();
    let look = move || super::output::files(&folder).is_ok_and(|files| !files.is_empty());
    tokio::task::spawn_blocking(look).await.unwrap_or(false)
}

/// The next piece, and what was left out since the last look. Blocks.
fn read(
    mut reader: Reader,
    key: AttemptKey,
    (told, total): (u64, Option<u64>),
) -> io::Result<(Reader, Vec<pb::Piece>)> {
    let mut pieces = Vec::new();
    let gap = |from, to| Piece { key, from, to, content: Content::Gap };
    // Made before the files went: what is read now is behind it, or still there.
    if let Some((from, to)) =
        left_out(reader.folder())?.filter(|(from, to)| *to > told && *from <= reader.at())
    {
        reader.skip_to(to);
        pieces.push(gap(from, to));
    }
    match reader.next(PIECE)? {
        Some(piece) => pieces.push(piece),
        None => {
            // The disk did not take the end of it.
            if let Some(total) = total.filter(|total| *total > reader.at()) {
                pieces.push(gap(reader.at(), total));
                reader.skip_to(total);
            }
        }
    }
    Ok((reader, pieces.iter().map(pack).collect()))
}

/// How long an output is that has ended; none if its folder is gone. What a shim left
/// that was killed is as long as what can be read of it.
fn total(folder: &std::path::Path, mut reader: Reader) -> Option<u64> {
    let ending = dir::read_result(folder).ok().flatten();
    let report = ending.map(|ending| ending.report);
    if let Some(report) = report.filter(|report| report.how != EndKind::Gone) {
        return Some(report.output_bytes);
    }
    folder.try_exists().ok().filter(|exists| *exists)?;
    while reader.next(PIECE).ok()?.is_some() {}
    Some(reader.at())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floods_leave_others_their_turn() {
        assert!(has_room(0, 0) && has_room(OF_ONE - 1, OF_ALL - 1));
        assert!(!has_room(OF_ONE, OF_ONE), "one takes no more than its share");
        assert!(!has_room(1, OF_ALL), "nor do all");
        assert!(has_room(0, OF_ALL + OF_ONE), "one that has nothing under way goes on");
    }
}
