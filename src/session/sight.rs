//! Questions to workers about what runs there now, and their answers.
//!
//! Nothing of it is kept: an answer goes to who asked, and a question that nobody waits
//! for any more is forgotten.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use horai_core::ids::AttemptKey;
use horai_proto::worker as pb;
use tokio::sync::oneshot;

use super::FRAME;
use super::registry::StreamId;
use crate::worker::wire;

/// The most processes that are taken from one answer.
const MAX_PROCESSES: usize = 64;
/// Characters of a process's name.
const MAX_NAME: usize = 64;

/// What ran on a worker's machine at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sight {
    /// Attempts that ran there.
    pub attempts: Vec<AttemptUse>,
    /// The busiest processes, busiest first.
    pub processes: Vec<ProcessUse>,
}

/// What the living processes of an attempt took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptUse {
    /// Which.
    pub key: AttemptKey,
    /// Processes that live.
    pub processes: u32,
    /// Milliseconds of CPU time that those have used.
    pub cpu_ms: u64,
    /// Of one core, in thousandths.
    pub cpu_permille: u32,
    /// Bytes.
    pub rss: u64,
}

/// A process, of an attempt or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessUse {
    /// Its number there.
    pub pid: u32,
    /// Its name, without arguments.
    pub name: String,
    /// Of one core, in thousandths.
    pub cpu_permille: u32,
    /// Bytes.
    pub rss: u64,
    /// Whose it is; none of this worker's attempts' otherwise.
    pub attempt: Option<AttemptKey>,
}

impl Sight {
    /// What a worker said; what makes no sense is left out.
    fn of(said: pb::Sight) -> Self {
        let key = |id: Option<&pb::AttemptId>| Some(wire::attempt(id).ok()?.0);
        let attempt = |used: pb::AttemptUse| {
            let pb::AttemptUse { attempt, processes, cpu_ms, cpu_permille, rss_bytes } = used;
            let key = key(attempt.as_ref())?;
            Some(AttemptUse { key, processes, cpu_ms, cpu_permille, rss: rss_bytes })
        };
        let process = |used: pb::ProcessUse| ProcessUse {
            pid: used.pid,
            name: used.name.chars().take(MAX_NAME).collect(),
            cpu_permille: used.cpu_permille,
            rss: used.rss_bytes,
            attempt: key(used.attempt.as_ref()),
        };
        Self {
            attempts: said.attempts.into_iter().take(FRAME).filter_map(attempt).collect(),
            processes: said.processes.into_iter().take(MAX_PROCESSES).map(process).collect(),
        }
    }
}

type Waiting = BTreeMap<u64, (StreamId, oneshot::Sender<Sight>)>;

/// Questions that somebody waits for the answer of.
#[derive(Default)]
pub(super) struct Questions {
    last: AtomicU64,
    waiting: Arc<Mutex<Waiting>>,
}

/// A question that was asked; forgotten when this is dropped.
pub(super) struct Question {
    number: u64,
    waiting: Arc<Mutex<Waiting>>,
}

impl Questions {
    /// The next question, to the worker at the end of `stream`, and where its answer comes.
    pub(super) fn ask(&self, stream: StreamId) -> (Question, oneshot::Receiver<Sight>) {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (to, answer) = oneshot::channel();
        lock(&self.waiting).insert(number, (stream, to));
        (Question { number, waiting: Arc::clone(&self.waiting) }, answer)
    }

    /// An answer came; one that nobody of that stream was asked for is dropped.
    pub(super) fn answer(&self, stream: StreamId, said: pb::Sight) {
        let mut waiting = lock(&self.waiting);
        if waiting.get(&said.number).is_none_or(|(asked, _)| *asked != stream) {
            return;
        }
        if let Some((_, to)) = waiting.remove(&said.number) {
            // Who asked may have gone.
            let _ = to.send(Sight::of(said));
        }
    }
}

impl Question {
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        lock(&self.waiting).remove(&self.number);
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_stream_that_was_asked_answers_and_only_once() {
        let questions = Questions::default();
        let (first, mut answer) = questions.ask(7);
        let (second, other) = questions.ask(8);
        assert_ne!(first.number(), second.number());
        let said = pb::Sight { number: first.number(), ..pb::Sight::default() };
        questions.answer(8, said.clone());
        assert!(answer.try_recv().is_err(), "another stream's answer");
        questions.answer(7, said.clone());
        assert_eq!(answer.try_recv(), Ok(Sight::default()));
        questions.answer(7, said);
        drop((second, other));
        assert!(lock(&questions.waiting).is_empty());
    }
}
