//! A panic ends the process: a part that is gone leaves a node that answers and
//! does nothing, and its supervisor can bring a whole one back.

use std::io::Write;
use std::panic::PanicHookInfo;

/// A thread whose panics are caught on purpose: opening a damaged store.
const CAUGHT: &str = "raft-open";

/// From now on.
pub(super) fn abort_on_panic() {
    std::panic::set_hook(Box::new(|info| {
        let report = report(info);
        if std::thread::current().name() == Some(CAUGHT) {
            tracing::warn!(report, "panic was caught");
            return;
        }
        tracing::error!(report, "panic, the process ends");
        // Also if the log is off or the panic was inside it.
        let _ = writeln!(std::io::stderr(), "horai {}: {report}", env!("CARGO_PKG_VERSION"));
        std::process::abort();
    }));
}

fn report(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("no reason given");
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    match info.location() {
        Some(at) => format!("panic in thread {thread} at {at}: {text}"),
        None => format!("panic in thread {thread}: {text}"),
    }
}
