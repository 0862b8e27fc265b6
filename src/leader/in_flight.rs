//! What is proposed and not answered yet, so that nothing is proposed twice.
//!
//! Volatile: a new leader starts with none, and the machine refuses whatever
//! was committed already. Bounded: beyond the bound nothing new is proposed
//! until answers come.

use std::collections::HashMap;

use horai_core::ids::{RunId, WorkerId};

/// Dispatches under way, and the slots they will take.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    runs: HashMap<RunId, WorkerId>,
    reserved: HashMap<WorkerId, u32>,
}

impl InFlight {
    /// The most dispatches under way.
    pub(super) const MAX: usize = 4_096;

    /// How many more may be under way.
    pub(super) fn room(&self) -> usize {
        Self::MAX.saturating_sub(self.runs.len())
    }

    /// True if the run is being dispatched.
    pub(super) fn contains(&self, run: RunId) -> bool {
        self.runs.contains_key(&run)
    }

    /// Slots of a worker that dispatches under way will take.
    pub(super) fn reserved(&self, worker: WorkerId) -> u32 {
        self.reserved.get(&worker).copied().unwrap_or(0)
    }

    /// A dispatch is under way; false if there is no room or it was already.
    pub(super) fn begin(&mut self, run: RunId, worker: WorkerId) -> bool {
        if self.room() == 0 || self.contains(run) {
            return false;
        }
        self.runs.insert(run, worker);
        *self.reserved.entry(worker).or_default() += 1;
        true
    }

    /// It was answered, one way or the other.
    pub(super) fn end(&mut self, run: RunId) {
        let Some(worker) = self.runs.remove(&run) else { return };
        if let Some(slots) = self.reserved.get_mut(&worker) {
            *slots = slots.saturating_sub(1);
            if *slots == 0 {
                self.reserved.remove(&worker);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_reserved_until_the_answer_and_the_set_is_bounded() {
        let mut set = InFlight::default();
        assert!(set.begin(RunId(1), WorkerId(1)) && set.begin(RunId(2), WorkerId(1)));
        assert!(!set.begin(RunId(2), WorkerId(3)), "a run is under way once");
        assert_eq!((set.reserved(WorkerId(1)), set.reserved(WorkerId(3))), (2, 0));
        set.end(RunId(1));
        set.end(RunId(1));
        assert_eq!(set.reserved(WorkerId(1)), 1);
        for n in 0..InFlight::MAX as u64 {
            set.begin(RunId(10 + n), WorkerId(2));
        }
        assert_eq!(set.room(), 0);
        assert!(!set.begin(RunId(3), WorkerId(1)));
        set.end(RunId(2));
        assert!(set.begin(RunId(3), WorkerId(1)));
    }
}
