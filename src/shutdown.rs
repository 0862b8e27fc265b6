//! How a process is told to stop: once kindly, twice at once.
//!
//! It decides neither the order in which parts stop nor how long they may take;
//! whoever built them does.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What signals ask for.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Cancelled by the first SIGTERM or SIGINT: finish and stop.
    pub kindly: CancellationToken,
    /// Cancelled by the second: stop as you are.
    pub at_once: CancellationToken,
}

impl Stop {
    /// Listens from now on, inside the current runtime.
    ///
    /// # Errors
    /// If the system does not let it.
    pub fn on_signals() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = Self::default();
        let told = stop.clone();
        tokio::spawn(async move {
            for token in [told.kindly, told.at_once] {
                tokio::select! {
                    _ = terminate.recv() => tracing::info!("SIGTERM received"),
                    _ = interrupt.recv() => tracing::info!("SIGINT received"),
                }
                token.cancel();
            }
        });
        Ok(stop)
    }
}
