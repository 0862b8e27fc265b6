//! Which streams stand, whose they are, and which of them are attached.
//!
//! One lock's worth of plain data: nothing here waits or proposes. A stream whose
//! queue is full is cut off at once, so that a slow worker costs only itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use horai_core::ids::{Incarnation, LeaderId, Name, WorkerId};
use horai_core::placement::load::Load;
use horai_proto::worker as pb;
use horai_proto::worker::to_worker::Body as Say;
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::access::Refusal;
use super::beats::Beat;
use super::results::Finished;
use crate::error::ErrorCode;

/// Streams that stand at once.
const MAX_STREAMS: usize = 10_000;
/// Frames that wait for one worker,
const MAX_QUEUED: usize = 4_096;
/// and their bytes.
const MAX_QUEUED_BYTES: usize = 64 << 20;

/// Refused workers that are remembered.
const MAX_REFUSED: usize = 1_000;

/// Numbers streams; a later one is newer.
pub(crate) type StreamId = u64;

/// How busy a worker says it is. Volatile, and different on each node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkerLoad {
    /// Bytes.
    pub memory_total: u64,
    /// Bytes.
    pub memory_available: u64,
    /// Load of one minute per core, in thousandths.
    pub load_per_core_permille: u32,
    /// Use of all cores together, in thousandths.
    pub cpu_permille: u32,
    /// Bytes of the disk that holds its folder.
    pub disk_total: u64,
    /// Bytes of the same that are free.
    pub disk_available: u64,
    /// Slots that it would give; 0 if it takes nothing new.
    pub slots_free: u32,
    /// Why it takes nothing new; empty if it does.
    pub closed: String,
}

impl WorkerLoad {
    /// As whoever chooses workers looks at it.
    #[must_use]
    pub fn seen(&self) -> Load {
        let used = u128::from(self.memory_total.saturating_sub(self.memory_available)) * 1_000;
        // Without a total nothing is known of its memory.
        let memory = used.checked_div(u128::from(self.memory_total)).unwrap_or(0);
        Load {
            memory_permille: u32::try_from(memory).unwrap_or(u32::MAX),
            per_core_permille: self.load_per_core_permille,
            is_closed: !self.closed.is_empty(),
        }
    }
}

/// This node leads: where heartbeats and results go.
#[derive(Clone)]
pub(super) struct Leading {
    pub(super) id: LeaderId,
    pub(super) beats: mpsc::Sender<Beat>,
    pub(super) results: mpsc::Sender<Finished>,
    /// Cancelled when the leadership ends.
    pub(super) stop: CancellationToken,
}

/// Where frames for one worker go.
#[derive(Clone)]
pub(super) struct Outbox {
    frames: mpsc::Sender<pb::ToWorker>,
    bytes: Arc<AtomicUsize>,
}

impl Outbox {
    /// False if the worker does not read, or is gone.
    fn push(&self, body: Say) -> bool {
        let frame = pb::ToWorker { body: Some(body) };
        let len = frame.encoded_len();
        let queued = self.bytes.fetch_add(len, Ordering::AcqRel);
        // A frame larger than the bound may go alone.
        (queued == 0 || queued.saturating_add(len) <= MAX_QUEUED_BYTES)
            && self.frames.try_send(frame).is_ok()
    }

    /// Waits for room; false if the stream is gone.
    pub(super) async fn push_waiting(&self, body: Say) -> bool {
        let frame = pb::ToWorker { body: Some(body) };
        let Ok(permit) = self.frames.reserve().await else { return false };
        self.bytes.fetch_add(frame.encoded_len(), Ordering::AcqRel);
        permit.send(frame);
        true
    }
}

/// The other end of an [`Outbox`].
pub(super) struct Inbox {
    pub(super) frames: mpsc::Receiver<pb::ToWorker>,
    pub(super) bytes: Arc<AtomicUsize>,
}

impl Inbox {
    /// The next frame on its way to the worker.
    pub(super) async fn next(&mut self) -> Option<pb::ToWorker> {
        let frame = self.frames.recv().await?;
        self.bytes.fetch_sub(frame.encoded_len(), Ordering::AcqRel);
        Some(frame)
    }
}

/// A stream that was just opened.
pub(super) struct Opened {
    pub(super) id: StreamId,
    pub(super) inbox: Inbox,
    /// Cancelled when the stream was taken out: stop reading from it.
    pub(super) gone: CancellationToken,
    /// Cancelled when also nothing more is to be written.
    pub(super) cut: CancellationToken,
}

struct Stream {
    name: Name,
    incarnation: Incarnation,
    outbox: Outbox,
    gone: CancellationToken,
    cut: CancellationToken,
    /// Set while attached under the current leadership.
    worker: Option<WorkerId>,
    load: Option<WorkerLoad>,
}

/// Everything that changes with streams and leadership.
#[derive(Default)]
pub(super) struct Registry {
    streams: BTreeMap<StreamId, Stream>,
    names: BTreeMap<Name, StreamId>,
    attached: BTreeMap<WorkerId, StreamId>,
    /// Why workers were refused last.
    refused: BTreeMap<Name, String>,
    leading: Option<Leading>,
    /// Worker ports of the cluster's members, told to every worker.
    nodes: Vec<String>,
    last_stream: StreamId,
    closed: bool,
    changed: watch::Sender<u64>,
}

impl Registry {
    /// A new stream takes the place of an older one of the same worker; another
    /// incarnation under a name that is in use is refused, because two workers
    /// would push each other out for ever.
    pub(super) fn open(
        &mut self,
        name: Name,
        incarnation: Incarnation,
        lead: impl FnOnce(LeaderId) -> Say,
    ) -> Result<Opened, Refusal> {
        if self.closed {
            return Err(Refusal::new(ErrorCode::Unavailable, "this node stops"));
        }
        if let Some(old) = self.names.get(&name).copied() {
            if self.streams.get(&old).is_some_and(|s| s.incarnation != incarnation) {
                let message = format!("another worker is attached as {name}: choose another name");
                return Err(Refusal::new(ErrorCode::Conflict, message));
            }
            self.cut(old);
        }
        if self.streams.len() >= MAX_STREAMS {
            let message = format!("this node serves {MAX_STREAMS} workers, the most it can");
            return Err(Refusal::new(ErrorCode::LimitReached, message));
        }
        self.last_stream += 1;
        let id = self.last_stream;
        let (frames, queue) = mpsc::channel(MAX_QUEUED);
        let bytes = Arc::new(AtomicUsize::new(0));
        let (gone, cut) = (CancellationToken::new(), CancellationToken::new());
        let stream = Stream {
            name: name.clone(),
            incarnation,
            outbox: Outbox { frames, bytes: Arc::clone(&bytes) },
            gone: gone.clone(),
            cut: cut.clone(),
            worker: None,
            load: None,
        };
        self.streams.insert(id, stream);
        self.names.insert(name, id);
        if let Some(leader) = self.leading.as_ref().map(|l| l.id) {
            self.send(id, lead(leader));
        }
        if !self.nodes.is_empty() {
            self.send(id, self.nodes_frame());
        }
        Ok(Opened { id, inbox: Inbox { frames: queue, bytes }, gone, cut })
    }

    /// Takes a stream out; what is queued for it is still written.
    pub(super) fn remove(&mut self, id: StreamId) -> Option<CancellationToken> {
        let stream = self.streams.remove(&id)?;
        if self.names.get(&stream.name) == Some(&id) {
            self.names.remove(&stream.name);
        }
        if let Some(worker) = stream.worker
            && self.attached.get(&worker) == Some(&id)
        {
            self.attached.remove(&worker);
            self.bump();
        }
        stream.gone.cancel();
        Some(stream.cut)
    }

    /// Takes a stream out and writes no more.
    pub(super) fn cut(&mut self, id: StreamId) {
        if let Some(cut) = self.remove(id) {
            cut.cancel();
        }
    }

    /// Queues a frame; a stream that does not take it is cut off. False if the
    /// frame went nowhere.
    pub(super) fn send(&mut self, id: StreamId, body: Say) -> bool {
        let Some(stream) = self.streams.get(&id) else { return false };
        let is_sent = stream.outbox.push(body);
        if !is_sent {
            tracing::warn!(worker = %stream.name, "worker does not read its stream, cut off");
            self.cut(id);
        }
        is_sent
    }

    pub(super) fn outbox(&self, id: StreamId) -> Option<Outbox> {
        self.streams.get(&id).map(|stream| stream.outbox.clone())
    }

    /// False if this leadership is known already.
    pub(super) fn lead(&mut self, leading: Leading, frame: &Say) -> bool {
        if self.leading.as_ref().is_some_and(|known| known.id >= leading.id) || self.closed {
            return false;
        }
        if let Some(old) = self.leading.as_ref().map(|l| l.id) {
            self.stop_leading(old);
        }
        self.leading = Some(leading);
        for id in self.streams.keys().copied().collect::<Vec<_>>() {
            self.send(id, frame.clone());
        }
        true
    }

    pub(super) fn stop_leading(&mut self, leader: LeaderId) {
        let Some(leading) = self.leading.take_if(|leading| leading.id == leader) else { return };
        leading.stop.cancel();
        for stream in self.streams.values_mut() {
            stream.worker = None;
        }
        if !self.attached.is_empty() {
            self.attached.clear();
            self.bump();
        }
    }

    /// Tells every worker who the cluster's nodes are, if that has changed.
    pub(super) fn set_nodes(&mut self, nodes: Vec<String>) {
        if self.nodes == nodes {
            return;
        }
        self.nodes = nodes;
        let frame = self.nodes_frame();
        for id in self.streams.keys().copied().collect::<Vec<_>>() {
            self.send(id, frame.clone());
        }
    }

    fn nodes_frame(&self) -> Say {
        Say::Nodes(pb::Nodes { grpc_addresses: self.nodes.clone() })
    }

    pub(super) fn leading(&self) -> Option<&Leading> {
        self.leading.as_ref()
    }

    /// The worker's attachment is committed: it may be given orders.
    pub(super) fn attach(&mut self, id: StreamId, leader: LeaderId, worker: WorkerId) -> bool {
        let is_current = self.leading.as_ref().is_some_and(|leading| leading.id == leader);
        let Some(stream) = self.streams.get_mut(&id).filter(|_| is_current) else { return false };
        stream.worker = Some(worker);
        self.refused.remove(&stream.name);
        self.attached.insert(worker, id);
        self.bump();
        true
    }

    pub(super) fn attached(&self) -> Vec<WorkerId> {
        self.attached.keys().copied().collect()
    }

    /// Whom a stream belongs to, and under which leadership it is attached.
    pub(super) fn attachment(&self, id: StreamId) -> Option<(WorkerId, Incarnation, &Leading)> {
        let stream = self.streams.get(&id)?;
        Some((stream.worker?, stream.incarnation, self.leading.as_ref()?))
    }

    /// The stream on which a worker takes orders now, and whose orders.
    pub(super) fn order_to(&self, worker: WorkerId) -> Option<(StreamId, Incarnation, LeaderId)> {
        let id = *self.attached.get(&worker)?;
        let (_, incarnation, leading) = self.attachment(id)?;
        Some((id, incarnation, leading.id))
    }

    pub(super) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn bump(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    pub(super) fn by_name(&self, name: &Name) -> Option<StreamId> {
        self.names.get(name).copied()
    }

    pub(super) fn load(&self, name: &Name) -> Option<WorkerLoad> {
        self.streams.get(self.names.get(name)?)?.load.clone()
    }

    /// What attached workers said last; nothing of those that said nothing yet.
    pub(super) fn loads(&self) -> Vec<(WorkerId, WorkerLoad)> {
        let said = |(worker, id): (&WorkerId, &StreamId)| {
            Some((*worker, self.streams.get(id)?.load.clone()?))
        };
        self.attached.iter().filter_map(said).collect()
    }

    pub(super) fn set_load(&mut self, id: StreamId, load: WorkerLoad) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.load = Some(load);
        }
    }

    /// True if a worker was not refused for that reason just before.
    pub(super) fn is_news(&mut self, worker: &Name, reason: &str) -> bool {
        if self.refused.get(worker).is_some_and(|known| known == reason) {
            return false;
        }
        if self.refused.len() >= MAX_REFUSED {
            self.refused.clear();
        }
        self.refused.insert(worker.clone(), reason.to_owned());
        true
    }

    /// Whose stream it is.
    pub(super) fn identity(&self, id: StreamId) -> Option<(Name, Incarnation)> {
        self.streams.get(&id).map(|stream| (stream.name.clone(), stream.incarnation))
    }

    /// Ends all streams, and opens none any more.
    pub(super) fn close(&mut self) {
        self.closed = true;
        if let Some(leader) = self.leading.as_ref().map(|l| l.id) {
            self.stop_leading(leader);
        }
        for id in self.streams.keys().copied().collect::<Vec<_>>() {
            self.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn open(registry: &mut Registry, text: &str, incarnation: u128) -> Result<Opened, Refusal> {
        let lead = |l: LeaderId| Say::Lead(pb::Lead { term: l.term, ..Default::default() });
        registry.open(name(text), Incarnation(incarnation), lead)
    }

    fn leading(term: u64) -> Leading {
        let id = LeaderId { term, ..LeaderId::default() };
        let stop = CancellationToken::new();
        Leading { id, beats: mpsc::channel(1).0, results: mpsc::channel(1).0, stop }
    }

    #[test]
    fn a_worker_that_does_not_read_is_cut_off_and_no_one_else() {
        let mut registry = Registry::default();
        let (slow, mut good) =
            (open(&mut registry, "slow", 1).ok().unwrap(), open(&mut registry, "good", 2).ok());
        let ack = || Say::HeartbeatAck(pb::HeartbeatAck::default());
        let lead = leading(1);
        assert!(registry.lead(lead.clone(), &ack()));
        assert!(registry.attach(slow.id, lead.id, WorkerId(1)));
        let sent = (0..=MAX_QUEUED).take_while(|_| registry.send(slow.id, ack())).count();
        assert_eq!(sent, MAX_QUEUED - 1, "the frame with Lead took one place");
        assert!(slow.gone.is_cancelled() && slow.cut.is_cancelled());
        assert!(registry.attached().is_empty());
        let good = good.as_mut().unwrap();
        assert!(registry.send(good.id, ack()) && !good.gone.is_cancelled());
        assert!(good.inbox.frames.try_recv().is_ok());
    }

    #[test]
    fn bytes_are_bounded_but_one_large_frame_passes() {
        let mut registry = Registry::default();
        let opened = open(&mut registry, "w", 1).ok().unwrap();
        let large = |len| Say::Refused(pb::Refused { code: "x".repeat(len), message: "".into() });
        assert!(registry.send(opened.id, large(MAX_QUEUED_BYTES + 1)));
        assert!(!registry.send(opened.id, large(1)));
    }

    #[test]
    fn load_is_told_in_thousandths_and_of_attached_workers_alone() {
        let mut registry = Registry::default();
        let [one, two] = ["one", "two"].map(|text| open(&mut registry, text, 1).ok().unwrap());
        let half = WorkerLoad { memory_total: 3, memory_available: 2, ..WorkerLoad::default() };
        for stream in [&one, &two] {
            registry.set_load(stream.id, half.clone());
        }
        let lead = leading(1);
        registry.lead(lead.clone(), &Say::Lead(pb::Lead::default()));
        assert!(registry.attach(two.id, lead.id, WorkerId(7)));
        assert_eq!(registry.loads(), [(WorkerId(7), half.clone())]);
        assert_eq!(half.seen(), Load { memory_permille: 333, ..Load::default() });
        let closed = WorkerLoad { closed: "its disk".to_owned(), ..WorkerLoad::default() };
        assert!(closed.seen().is_closed);
        assert_eq!(WorkerLoad::default().seen(), Load::default());
    }

    #[test]
    fn the_same_worker_replaces_its_stream_and_another_is_refused() {
        let mut registry = Registry::default();
        let first = open(&mut registry, "w", 1).ok().unwrap();
        let second = open(&mut registry, "w", 1).ok().unwrap();
        assert!(first.gone.is_cancelled() && !second.gone.is_cancelled());
        assert_eq!(open(&mut registry, "w", 2).err().unwrap().code, ErrorCode::Conflict);
        // The end of the old one does not take the new one's place away.
        registry.remove(first.id);
        assert_eq!(registry.by_name(&name("w")), Some(second.id));
        registry.remove(second.id);
        assert!(open(&mut registry, "w", 2).is_ok());
    }

    #[test]
    fn leadership_begins_and_ends_everything_that_hangs_on_it() {
        let mut registry = Registry::default();
        let frame = Say::Lead(pb::Lead::default());
        let mut early = open(&mut registry, "early", 1).ok().unwrap();
        let (old, new) = (leading(1), leading(2));
        assert!(registry.lead(old.clone(), &frame));
        assert!(!registry.lead(old.clone(), &frame), "known already");
        let mut late = open(&mut registry, "late", 2).ok().unwrap();
        for stream in [&mut early, &mut late] {
            assert!(matches!(stream.inbox.frames.try_recv().unwrap().body, Some(Say::Lead(_))));
        }
        let changed = registry.changed();
        assert!(registry.attach(early.id, old.id, WorkerId(4)));
        assert!(changed.has_changed().unwrap());
        assert_eq!(registry.order_to(WorkerId(4)).unwrap().2, old.id);
        assert!(registry.lead(new.clone(), &frame));
        assert!(old.stop.is_cancelled() && registry.attached().is_empty());
        assert!(!registry.attach(early.id, old.id, WorkerId(4)), "of an old leadership");
        registry.stop_leading(old.id);
        assert!(registry.leading().is_some(), "an old leader's end ends only its own");
        registry.close();
        assert!(new.stop.is_cancelled() && early.gone.is_cancelled());
        assert_eq!(open(&mut registry, "w", 1).err().unwrap().code, ErrorCode::Unavailable);
    }
}
