//! Lets the threads on which elections depend go before the rest of the machine.
//!
//! Heartbeats are due every 50 ms, and a follower waits a few hundred: on a
//! machine whose cores have a hundred jobs each, a thread of the same rank comes
//! too late, the cluster elects instead of working, and the jobs pile up. These
//! threads do little, so nobody else notices. It needs a right that not every
//! process has; without it they go like all others.
//!
//! A runtime's threads for blocking work start like its others: [`background`],
//! through [`crate::host::blocking`], is how such work is done in this package.

use std::io;

use tokio::task::JoinHandle;

/// As `nice` counts: 0 is usual, -20 the first of all.
const NICE: i32 = -10;

/// Does long work where blocking is allowed, at the usual priority.
pub(crate) fn background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    tokio::task::spawn_blocking(|| {
        // Going back is always allowed.
        let _ = rustix::process::setpriority_process(None, 0);
        work()
    })
}

/// The same for work on storage, waited for; a panic becomes an error.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    background(work).await.map_err(io::Error::other)?
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

    #[test]
    fn background_work_is_not_raised_and_its_panic_is_an_error() {
        let raised = || {
            let _allowed = super::raise();
        };
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).on_thread_start(raised).build().unwrap();
        runtime.block_on(async {
            let priority = super::background(|| getpriority_process(None).unwrap()).await.unwrap();
            assert_eq!(priority, 0);
            let failed = super::blocking(|| -> std::io::Result<()> { panic!("on purpose") }).await;
            assert!(failed.unwrap_err().to_string().contains("panic"));
        });
    }
}
