//! What is to happen when, in one order: by time, then as it was entered.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

struct Entry<T> {
    at: i64,
    number: u64,
    what: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// See the module.
pub(super) struct Agenda<T> {
    entries: BinaryHeap<Reverse<Entry<T>>>,
    last: u64,
    /// True time in milliseconds since the start.
    pub(super) now: i64,
}

impl<T> Agenda<T> {
    pub(super) fn new() -> Self {
        Self { entries: BinaryHeap::new(), last: 0, now: 0 }
    }

    pub(super) fn after(&mut self, wait: i64, what: T) {
        self.at(self.now.saturating_add(wait), what);
    }

    pub(super) fn at(&mut self, at: i64, what: T) {
        self.last += 1;
        let entry = Entry { at: at.max(self.now), number: self.last, what };
        self.entries.push(Reverse(entry));
    }

    /// Moves time on to what is next.
    pub(super) fn next(&mut self) -> Option<T> {
        let Reverse(entry) = self.entries.pop()?;
        self.now = entry.at;
        Some(entry.what)
    }

    pub(super) fn next_at(&self) -> Option<i64> {
        self.entries.peek().map(|Reverse(entry)| entry.at)
    }
}
