//! Lets the threads on which elections depend go before the rest of the machine.
//!
//! Heartbeats are due every 50 ms, and a follower waits a few hundred: on a
//! machine whose cores have a hundred jobs each, a thread of the same rank comes
//! too late, the cluster elects instead of working, and the jobs pile up. These
//! threads do little, so nobody else notices. It needs a right that not every
//! process has; without it they go like all others.

/// As `nice` counts: 0 is usual, -20 the first of all.
const NICE: i32 = -10;

/// Long work that nobody waits for is the exception, wherever it runs.
pub(crate) fn lower() {
    // Going back is always allowed.
    let _ = rustix::process::setpriority_process(None, 0);
}

/// Raises the calling thread; the answer says whether it was allowed.
pub(crate) fn raise() -> bool {
    // On Linux "process none" is the calling thread alone.
    rustix::process::setpriority_process(None, NICE).is_ok()
}

#[cfg(test)]
mod tests {
    use rustix::process::{geteuid, getpriority_process};

    #[test]
    fn only_the_calling_thread_is_raised() {
        let before = getpriority_process(None).unwrap();
        let inner = std::thread::spawn(|| {
            let allowed = super::raise();
            (allowed, getpriority_process(None).unwrap())
        });
        let (allowed, priority) = inner.join().unwrap();
        if geteuid().is_root() {
            assert!(allowed, "root may raise its threads");
        }
        assert_eq!(priority, if allowed { super::NICE } else { before });
        assert_eq!(getpriority_process(None).unwrap(), before);
    }
}
