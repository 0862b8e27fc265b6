//! How late fires start at a given rate: from the instant they are due to the
//! worker's start, by cluster time.
//!
//! Triggers have whole seconds, so all fires of a second are due at once: the
//! figures include the wait of the last behind the first.

use serde::Serialize;

use super::balance::Balance;
use super::bed::{Bed, Cost};
use super::fires::{Window, window_length};
use super::stats::Times;
use super::{Error, Options};

/// The figures.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Lateness {
    /// Noop jobs, each due every second, all at its begin.
    pub(super) rate: u32,
    /// Length of the window.
    pub(super) seconds: f64,
    /// From due to started.
    pub(super) started: Option<Times>,
    /// From due to the commit of the end.
    pub(super) completed: Option<Times>,
    /// Was each action of the window run exactly once?
    pub(super) balance: Balance,
    /// False if runs were still waiting a minute after the last was due.
    pub(super) drained: bool,
    /// Each process in the window.
    pub(super) processes: Vec<Cost>,
}

/// Measures on a fresh cluster.
pub(super) async fn measure(options: &Options, bed: &mut Bed) -> Result<Lateness, Error> {
    bed.jobs(options.rate).await?;
    tokio::time::sleep(super::SETTLE).await;
    let window = Window::hold(bed, window_length(options.fires_for(), options.rate)).await?;
    Ok(Lateness {
        rate: options.rate,
        seconds: window.seconds(),
        started: window.lateness(),
        completed: window.done_after(),
        balance: window.balance(options.rate),
        drained: window.drained(),
        processes: window.costs(),
    })
}
