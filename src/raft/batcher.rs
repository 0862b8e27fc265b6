//! Gathers proposals into entries, and hands those of another's to the leader.
//!
//! A proposal is a group of commands that travels as one: it is queued once and
//! answered once, and only a group larger than an entry is cut. Entries are
//! appended in the order in which groups came, many of them in flight. While
//! nothing is in flight a batch leaves at once, so that a quiet cluster pays no
//! wait; under load batches fill while others are written. An outcome that is
//! not known is never called a failure, and a group is forwarded at most once.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use horai_core::mutants::{self, Mutant};
use horai_proto::raft as pb;
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use openraft::raft::responder::ProgressResponder;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::answers::{Answer, Whole, all, spread};
use crate::inner::Inner;
use crate::network::decode;
use crate::node::Error;
use crate::state_machine::Machine;
use crate::types::{EncodedBatch, MAX_COMMAND, TypeConfig};

/// A batch closes at so many commands,
pub(crate) const BATCH_COMMANDS: usize = 256;
/// so many bytes,
const BATCH_BYTES: usize = 48 << 10;
/// or after this.
const BATCH_WAIT: Duration = Duration::from_millis(1);
/// Groups waiting for a batch; beyond that callers wait.
const WAITING_GROUPS: usize = 4_096;
/// Weight of all groups not yet answered; beyond that callers wait.
const WEIGHT: u32 = 1 << 18;
/// Bytes that weigh as much as one command does by being there.
const BYTES_A_UNIT: usize = 256;
/// Batches not yet answered.
const IN_FLIGHT: usize = 64;

/// Between two tries while nobody leads; one who begins to is noticed at once.
const RETRY: Duration = Duration::from_millis(20);

/// Where openraft puts an entry's outcome.
type Written = openraft::alias::OneshotReceiverOf<TypeConfig, ClientWriteResult<TypeConfig>>;

/// Commands that travel together.
struct Group {
    commands: Vec<Bytes>,
    bytes: usize,
    forward: bool,
    deadline: Instant,
    /// Set when the first of it leaves this node; until then nothing of it can be committed.
    sent: Arc<AtomicBool>,
    answer: oneshot::Sender<Vec<Answer>>,
    _weight: OwnedSemaphorePermit,
}

/// Where proposals are handed in.
pub(crate) struct Intake {
    groups: mpsc::Sender<Group>,
    weight: Arc<Semaphore>,
}

/// The other end, for [`Inner::batch`].
pub(crate) struct Queue(mpsc::Receiver<Group>);

/// An empty queue with both its ends.
pub(crate) fn queue() -> (Intake, Queue) {
    let (groups, queue) = mpsc::channel(WAITING_GROUPS);
    (Intake { groups, weight: Arc::new(Semaphore::new(WEIGHT as usize)) }, Queue(queue))
}

impl Intake {
    /// Queues commands as one group and waits for their outcomes, one for each.
    pub(crate) async fn submit(
        &self,
        commands: Vec<Bytes>,
        forward: bool,
        deadline: Instant,
    ) -> Vec<Answer> {
        let count = commands.len();
        if let Some(large) = commands.iter().map(Bytes::len).find(|size| *size > MAX_COMMAND) {
            return all(count, &Error::TooLarge(large));
        }
        if count == 0 {
            return Vec::new();
        }
        let bytes = commands.iter().map(Bytes::len).sum::<usize>();
        let weight = u32::try_from(count + bytes / BYTES_A_UNIT).unwrap_or(WEIGHT).min(WEIGHT);
        let sent = Arc::new(AtomicBool::new(false));
        let (answer, answered) = oneshot::channel();
        let wait = async {
            let weight = Arc::clone(&self.weight).acquire_many_owned(weight).await;
            let weight = weight.map_err(|_| Error::Stopped)?;
            let sent = Arc::clone(&sent);
            let group = Group { commands, bytes, forward, deadline, sent, answer, _weight: weight };
            self.groups.send(group).await.map_err(|_| Error::Stopped)?;
            answered.await.map_err(|_| Error::Stopped)
        };
        let error = match tokio::time::timeout_at(deadline, wait).await {
            Ok(Ok(answers)) => return answers,
            Ok(Err(error)) if Instant::now() < deadline => error,
            Ok(Err(_)) | Err(_) => Error::Busy,
        };
        // What never left is certainly not committed; of the rest nobody knows.
        let left = sent.swap(true, Ordering::AcqRel);
        all(count, if left { &Error::OutcomeUnknown } else { &error })
    }
}

/// Cuts commands into entries, in order; none is empty.
fn cut(commands: &[Bytes]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, command) in commands.iter().enumerate() {
        let full = at - start == BATCH_COMMANDS || bytes + command.len() > BATCH_BYTES;
        if full && at > start {
            ranges.push(start..at);
            (start, bytes) = (at, 0);
        }
        bytes += command.len();
    }
    ranges.push(start..commands.len());
    ranges
}

impl<M: Machine> Inner<M> {
    /// Gathers proposals and commits them in the order in which they came.
    pub(crate) async fn batch(self: Arc<Self>, queue: Queue) {
        let Queue(mut queue) = queue;
        let room = Arc::new(Semaphore::new(IN_FLIGHT));
        let idle = Arc::new(Notify::new());
        let mut held: Option<Group> = None;
        loop {
            let first = match held.take() {
                Some(group) => group,
                None => match queue.recv().await {
                    Some(group) => group,
                    None => return,
                },
            };
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            let permit = Flight { permit: Some(permit), idle: Arc::clone(&idle) };
            if first.commands.len() > BATCH_COMMANDS || first.bytes > BATCH_BYTES {
                self.send_large(first, permit, &room, &idle).await;
                continue;
            }
            let batch = gather(first, &mut queue, &mut held, &room, &idle).await;
            self.send_batch(batch, permit).await;
        }
    }

    /// Commits commands and waits while there is no cluster time, and, if it may
    /// forward them, while nobody leads: what certainly was not committed is
    /// asked again.
    pub(crate) async fn propose(
        &self,
        commands: &[Bytes],
        forward: bool,
        deadline: Instant,
    ) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(commands.len());
        let mut leadership = self.leadership.clone();
        loop {
            leadership.mark_unchanged();
            let rest = commands[answers.len()..].to_vec();
            let mut round = self.intake.submit(rest, forward, deadline).await;
            let refused = |answer: &Answer| match answer {
                Err(Error::NoTime) => true,
                Err(Error::NoLeader(_)) => forward,
                _ => false,
            };
            let taken = round.iter().rposition(|answer| !refused(answer)).map_or(0, |at| at + 1);
            let sure = round.iter().all(|answer| answer.as_ref().err().is_none_or(Error::certain));
            if taken == round.len() || !sure || Instant::now() + RETRY >= deadline {
                answers.append(&mut round);
                return answers;
            }
            round.truncate(taken);
            answers.append(&mut round);
            let _ = tokio::time::timeout(RETRY, leadership.changed()).await;
        }
    }

    /// One entry of whole groups.
    async fn send_batch(self: &Arc<Self>, mut batch: Vec<Group>, flight: Flight) {
        batch.retain(leave);
        if batch.is_empty() {
            return;
        }
        let commands: Vec<Bytes> = batch.iter().flat_map(|g| g.commands.iter().cloned()).collect();
        let forward = batch.iter().all(|group| group.forward);
        let deadline = batch.iter().map(|g| g.deadline).max().unwrap_or_else(Instant::now);
        if !self.leads() {
            let node = Arc::clone(self);
            tokio::spawn(async move {
                let done = node.forward(&commands, forward, deadline).await;
                settle(batch, done);
                drop(flight);
            });
            return;
        }
        match self.append(&commands).await {
            Err(error) => settle(batch, Err(error)),
            Ok(written) => {
                tokio::spawn(async move {
                    settle(batch, outcome(written).await);
                    drop(flight);
                });
            }
        }
    }

    /// A group that needs several entries: they stay in order, and after the
    /// first that fails none is sent.
    async fn send_large(
        self: &Arc<Self>,
        group: Group,
        flight: Flight,
        room: &Arc<Semaphore>,
        idle: &Arc<Notify>,
    ) {
        if !leave(&group) {
            return;
        }
        let ranges = cut(&group.commands);
        if !self.leads() {
            let node = Arc::clone(self);
            tokio::spawn(async move {
                let mut answers = Vec::with_capacity(group.commands.len());
                let mut broken = None;
                for range in ranges {
                    let part = &group.commands[range];
                    let done = node.forward(part, group.forward, group.deadline).await;
                    broken = spread(part.len(), done, &mut answers);
                    if broken.is_some() {
                        break;
                    }
                }
                let error = broken.filter(Error::certain).unwrap_or(Error::NoLeader(None));
                answers.extend(all(group.commands.len() - answers.len(), &error));
                let _ = group.answer.send(answers);
                drop(flight);
            });
            return;
        }
        let mut answers = Vec::with_capacity(group.commands.len());
        let mut flight = Some(flight);
        let mut written: VecDeque<(usize, Written, Flight)> = VecDeque::new();
        let mut broken = None;
        for range in ranges {
            // With every place taken, the group's own entries make room for its next.
            if room.available_permits() == 0
                && let Some((count, entry, through)) = written.pop_front()
            {
                broken = spread(count, outcome(entry).await, &mut answers);
                drop(through);
            }
            if broken.is_some() {
                break;
            }
            let flight = match flight.take() {
                Some(flight) => flight,
                None => match Arc::clone(room).acquire_owned().await {
                    Ok(permit) => Flight { permit: Some(permit), idle: Arc::clone(idle) },
                    Err(_) => return,
                },
            };
            match self.append(&group.commands[range.clone()]).await {
                Ok(entry) => written.push_back((range.len(), entry, flight)),
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            }
        }
        tokio::spawn(async move {
            for (count, entry, flight) in written {
                spread(count, outcome(entry).await, &mut answers);
                drop(flight);
            }
            // Only after an error is there a rest, and none of it was handed on.
            let error = broken.filter(Error::certain).unwrap_or(Error::NoLeader(None));
            answers.extend(all(group.commands.len() - answers.len(), &error));
            let _ = group.answer.send(answers);
        });
    }

    async fn append(&self, commands: &[Bytes]) -> Result<Written, Error> {
        let now = self.shared.clock(|clock, boot| clock.stamp(boot)).ok_or(Error::NoTime)?;
        let entry = EncodedBatch::new(now, commands);
        let entry = entry.map_err(|e| Error::Refused(e.to_string()))?;
        let (responder, written) = ProgressResponder::complete_only();
        let sent = self.raft.client_write_ff(entry, Some(responder)).await;
        sent.map_err(|_| Error::Stopped)?;
        Ok(written)
    }

    /// Hands commands to the leader, once.
    async fn forward(&self, commands: &[Bytes], allowed: bool, deadline: Instant) -> Whole {
        let leader = self.leader();
        let nobody = || Error::NoLeader(leader);
        let me = self.shared.local.node;
        let leader = leader.filter(|leader| allowed && *leader != me).ok_or_else(nobody)?;
        let mut client = self.peer(leader).ok_or_else(nobody)?;
        let request = |limit: Duration| {
            let mut request = tonic::Request::new(pb::ProposeRequest {
                header: Some(self.shared.header(leader)),
                commands: commands.to_vec(),
                hops: 1,
                deadline_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
            });
            request.set_timeout(limit);
            request
        };
        let limit = deadline.saturating_duration_since(Instant::now());
        let mut sent = if mutants::on(Mutant::ForwardedAgain) {
            client.propose(request(limit / 8)).await
        } else {
            client.propose(request(limit)).await
        };
        if mutants::on(Mutant::ForwardedAgain) && sent.is_err() {
            sent = client.propose(request(limit / 2)).await;
        }
        let reply = sent.map_err(|status| {
            // Once it is sent, a broken call says nothing about the commands.
            if never_sent(&status) { nobody() } else { Error::OutcomeUnknown }
        })?;
        match reply.into_inner().result {
            Some(pb::propose_reply::Result::Done(done)) => {
                let outcomes = done.outcomes.iter().map(|o| decode(o)).collect::<Result<_, _>>();
                Ok((outcomes.map_err(|_| Error::OutcomeUnknown)?, done.index))
            }
            Some(pb::propose_reply::Result::NotLeader(_)) => Err(nobody()),
            Some(pb::propose_reply::Result::Refused(text)) => Err(Error::Refused(text)),
            None => Err(Error::OutcomeUnknown),
        }
    }
}

/// One batch's place among those in flight.
struct Flight {
    permit: Option<OwnedSemaphorePermit>,
    idle: Arc<Notify>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        // Given back first: whoever is woken looks at how many are left.
        drop(self.permit.take());
        self.idle.notify_one();
    }
}

/// Marks a group as leaving; false if its proposer has given up and was told
/// that nothing of it left.
fn leave(group: &Group) -> bool {
    group.deadline > Instant::now() && !group.sent.swap(true, Ordering::AcqRel)
}

/// Fills a batch: until it is full, a while has passed, or nothing is in flight
/// that it could wait for.
async fn gather(
    first: Group,
    queue: &mut mpsc::Receiver<Group>,
    held: &mut Option<Group>,
    room: &Semaphore,
    idle: &Notify,
) -> Vec<Group> {
    let closes = Instant::now() + BATCH_WAIT;
    let (mut count, mut bytes) = (first.commands.len(), first.bytes);
    let forward = first.forward;
    let mut batch = vec![first];
    let mut yielded = false;
    while count < BATCH_COMMANDS && bytes < BATCH_BYTES {
        let next = match queue.try_recv() {
            Ok(next) => next,
            Err(mpsc::error::TryRecvError::Disconnected) => break,
            // The batch itself holds the one place that is taken.
            Err(mpsc::error::TryRecvError::Empty) if room.available_permits() + 1 >= IN_FLIGHT => {
                if yielded {
                    break;
                }
                // Those who propose at this very moment may come along.
                yielded = true;
                tokio::task::yield_now().await;
                continue;
            }
            Err(mpsc::error::TryRecvError::Empty) => tokio::select! {
                biased;
                next = queue.recv() => match next {
                    Some(next) => next,
                    None => break,
                },
                () = idle.notified() => continue,
                () = tokio::time::sleep_until(closes) => break,
            },
        };
        let fits = count + next.commands.len() <= BATCH_COMMANDS
            && bytes + next.bytes <= BATCH_BYTES
            && next.forward == forward;
        if !fits {
            *held = Some(next);
            break;
        }
        count += next.commands.len();
        bytes += next.bytes;
        batch.push(next);
    }
    batch
}

/// The fate of an entry that was handed to openraft.
async fn outcome(written: Written) -> Whole {
    match written.await {
        Ok(Ok(done)) => Ok((done.data, done.log_id.index)),
        // Refused before it was appended.
        Ok(Err(ClientWriteError::ForwardToLeader(to))) => Err(Error::NoLeader(to.leader_id)),
        // Appended and then cut away or covered by a snapshot: another leader
        // may have committed it.
        Ok(Err(_)) | Err(_) => Err(Error::OutcomeUnknown),
    }
}

/// A connection that was never made carried nothing.
fn never_sent(status: &tonic::Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Tells each proposer its outcomes; one that left has stopped caring.
fn settle(batch: Vec<Group>, done: Whole) {
    let count = batch.iter().map(|group| group.commands.len()).sum();
    let mut answers = Vec::with_capacity(count);
    spread(count, done, &mut answers);
    let mut answers = answers.into_iter();
    for group in batch {
        let own = answers.by_ref().take(group.commands.len()).collect();
        let _ = group.answer.send(own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_cut_by_count_and_by_bytes() {
        let small = vec![Bytes::from_static(b"x"); 600];
        assert_eq!(cut(&small), [0..256, 256..512, 512..600]);
        let mut mixed = vec![Bytes::from(vec![0; 30 << 10]); 3];
        mixed.push(Bytes::from(vec![0; 1 << 20]));
        mixed.push(Bytes::from_static(b"x"));
        assert_eq!(cut(&mixed), [0..1, 1..2, 2..3, 3..4, 4..5]);
    }

    #[tokio::test]
    async fn a_connection_that_was_refused_carried_nothing() {
        // Bound and dropped: nobody listens there.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let mut client = crate::network::channels::own(&address, None).unwrap();
        let status = client.propose(pb::ProposeRequest::default()).await.unwrap_err();
        assert!(never_sent(&status), "{status:?}");
        assert!(!never_sent(&tonic::Status::unknown("broke off")));
    }
}
