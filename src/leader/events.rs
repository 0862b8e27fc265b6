//! Who hears that something changed, without a queue that could run full.
//!
//! The state machine calls the hub's observer after each entry. Every receiver
//! has a mailbox that holds *what* changed and never *how*: a set of ids up to a
//! bound, and beyond it "anything may have". So a slow receiver loses nothing,
//! a fast one is told once for many events, and applying never waits. Receivers
//! read the state again; a hint that comes twice or too often is harmless.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use horai_core::ids::{JobId, RunId};
use horai_core::machine::outcome::Event;
use horai_raft::{Heard, Observer};
use tokio::sync::Notify;

/// Ids that a mailbox holds of one kind; with more it says "anything".
pub const MAILBOX: usize = 4_096;

/// Which things changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed<K> {
    /// These, in no order, some perhaps twice.
    Some(Vec<K>),
    /// Too many to name: look at everything.
    All,
}

impl<K> Default for Changed<K> {
    fn default() -> Self {
        Self::Some(Vec::new())
    }
}

impl<K: PartialEq> Changed<K> {
    /// True if nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Some(ids) if ids.is_empty())
    }

    fn add(&mut self, id: K) {
        if let Self::Some(ids) = self {
            // One command often names the same thing several times in a row.
            if ids.last() == Some(&id) {
                return;
            }
            if ids.len() >= MAILBOX {
                *self = Self::All;
            } else {
                ids.push(id);
            }
        }
    }
}

/// What happened since a receiver looked last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct News {
    /// Jobs whose definition, cursor or pause changed.
    pub jobs: Changed<JobId>,
    /// Runs that were made, moved or ended.
    pub runs: Changed<RunId>,
    /// A run may be dispatched, or a slot may be free.
    pub work: bool,
    /// Anything at all.
    pub any: bool,
}

impl News {
    fn everything() -> Self {
        Self { jobs: Changed::All, runs: Changed::All, work: true, any: true }
    }

    /// True if nothing happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.runs.is_empty() && !self.work && !self.any
    }
}

/// What a receiver wants to hear of; nothing else wakes it or fills its mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wants {
    /// [`News::jobs`].
    pub jobs: bool,
    /// [`News::runs`].
    pub runs: bool,
    /// [`News::work`].
    pub work: bool,
    /// [`News::any`].
    pub any: bool,
}

impl Wants {
    /// Jobs alone.
    pub const JOBS: Self = Self { jobs: true, runs: false, work: false, any: false };
    /// Runs alone.
    pub const RUNS: Self = Self { jobs: false, runs: true, work: false, any: false };
    /// That there may be something to dispatch.
    pub const WORK: Self = Self { jobs: false, runs: false, work: true, any: false };
    /// That anything happened.
    pub const ANY: Self = Self { jobs: false, runs: false, work: false, any: true };
}

#[derive(Debug)]
struct Mailbox {
    wants: Wants,
    news: Mutex<News>,
    bell: Notify,
}

impl Mailbox {
    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, events: &[Event]) {
        let rings = {
            let mut news = self.news();
            for event in events {
                note(&mut news, self.wants, *event);
            }
            !news.is_empty()
        };
        if rings {
            self.bell.notify_one();
        }
    }
}

fn note(news: &mut News, wants: Wants, event: Event) {
    news.any |= wants.any;
    match event {
        Event::Job(job) => {
            if wants.jobs {
                news.jobs.add(job);
            }
        }
        Event::Run(run) | Event::Ready(run) => {
            news.work |= wants.work;
            if wants.runs {
                news.runs.add(run);
            }
        }
        Event::Worker(_) | Event::WorkerGroup | Event::Pool => news.work |= wants.work,
        Event::Action(_) | Event::Lock => {}
    }
}

/// Hands events to whoever subscribed. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct EventHub {
    mailboxes: Arc<Mutex<Vec<Weak<Mailbox>>>>,
}

impl EventHub {
    /// A hub that nobody listens to yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What the state machine calls after each entry; it never blocks.
    #[must_use]
    pub fn observer(&self) -> Observer {
        let hub = self.clone();
        Arc::new(move |heard| match heard {
            Heard::Events(_, events) => hub.publish(events),
            Heard::Replaced => hub.publish_all(),
        })
    }

    /// Tells everybody.
    pub fn publish(&self, events: &[Event]) {
        if events.is_empty() {
            return;
        }
        for mailbox in self.mailboxes().iter().filter_map(Weak::upgrade) {
            mailbox.put(events);
        }
    }

    /// Tells everybody that anything may have changed: after a snapshot was
    /// installed there are no events of what it brought.
    pub fn publish_all(&self) {
        for mailbox in self.mailboxes().iter().filter_map(Weak::upgrade) {
            let everything = News::everything();
            let wants = mailbox.wants;
            *mailbox.news() = News {
                jobs: if wants.jobs { everything.jobs } else { Changed::default() },
                runs: if wants.runs { everything.runs } else { Changed::default() },
                work: wants.work,
                any: wants.any,
            };
            mailbox.bell.notify_one();
        }
    }

    /// A mailbox that is empty now: look at everything once after subscribing.
    #[must_use]
    pub fn subscribe(&self, wants: Wants) -> Receiver {
        let mailbox =
            Arc::new(Mailbox { wants, news: Mutex::new(News::default()), bell: Notify::new() });
        let mut mailboxes = self.mailboxes();
        mailboxes.retain(|old| old.strong_count() > 0);
        mailboxes.push(Arc::downgrade(&mailbox));
        Receiver { mailbox }
    }

    fn mailboxes(&self) -> MutexGuard<'_, Vec<Weak<Mailbox>>> {
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One subscriber's end.
#[derive(Debug)]
pub struct Receiver {
    mailbox: Arc<Mailbox>,
}

impl Receiver {
    /// Empties the mailbox without waiting.
    pub fn take(&mut self) -> News {
        std::mem::take(&mut *self.mailbox.news())
    }

    /// Waits until there is something in the mailbox, and leaves it there, so
    /// that giving up the wait loses nothing.
    pub async fn changed(&mut self) {
        while self.mailbox.news().is_empty() {
            self.mailbox.bell.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_holds_what_was_asked_for() {
        let hub = EventHub::new();
        let mut jobs = hub.subscribe(Wants::JOBS);
        let mut runs = hub.subscribe(Wants::RUNS);
        let mut work = hub.subscribe(Wants::WORK);
        let mut any = hub.subscribe(Wants::ANY);
        let tell = hub.observer();
        tell(Heard::Events(1, &[Event::Job(JobId(3)), Event::Job(JobId(3)), Event::Lock]));
        assert_eq!(jobs.take().jobs, Changed::Some(vec![JobId(3)]));
        assert!(jobs.take().is_empty() && runs.take().is_empty() && work.take().is_empty());
        assert!(any.take().any);
        tell(Heard::Events(2, &[Event::Ready(RunId(1)), Event::Run(RunId(2))]));
        assert_eq!(runs.take().runs, Changed::Some(vec![RunId(1), RunId(2)]));
        assert!(work.take().work && jobs.take().is_empty());
    }

    #[test]
    fn too_many_to_name_means_all() {
        let hub = EventHub::new();
        let mut runs = hub.subscribe(Wants::RUNS);
        let many: Vec<Event> = (0..=MAILBOX as u64).map(|n| Event::Run(RunId(n))).collect();
        hub.publish(&many[1..]);
        assert!(matches!(runs.take().runs, Changed::Some(ids) if ids.len() == MAILBOX));
        hub.publish(&many);
        assert_eq!(runs.take().runs, Changed::All);
        hub.observer()(Heard::Replaced);
        let news = runs.take();
        assert_eq!((news.runs, news.jobs), (Changed::All, Changed::default()));
    }

    #[tokio::test]
    async fn a_wait_that_was_given_up_loses_nothing() {
        let hub = EventHub::new();
        let mut work = hub.subscribe(Wants::WORK);
        hub.publish(&[Event::Ready(RunId(1))]);
        work.changed().await;
        work.changed().await;
        assert!(work.take().work);
        let gone = hub.subscribe(Wants::ANY);
        drop(gone);
        let _other = hub.subscribe(Wants::ANY);
        assert_eq!(hub.mailboxes().len(), 2, "dropped receivers leave no mailbox");
    }
}
