//! A panic ends the process: a part that is gone leaves a node that answers and
//! does nothing, and its supervisor can bring a whole one back.
//!
//! Two kinds do not. One is a panic inside a request that is answered on its own,
//! and whose caller is told. The other is one inside a leader's service, which
//! begins anew: what one leader stumbles over, a job that cannot be planned, the
//! next one would as well. Neither a request nor a job may end node after node.

use std::future::Future;
use std::io::Write;
use std::panic::PanicHookInfo;

use horai_raft::open::OPENER;

tokio::task_local! {
    /// Set while a future is polled whose panics are caught.
    static SURVIVABLE: ();
}

/// The same future; its panics end only itself. Whoever awaits it must catch them.
pub fn survivable<F: Future>(work: F) -> impl Future<Output = F::Output> {
    SURVIVABLE.scope((), work)
}

fn is_caught() -> bool {
    std::thread::current().name() == Some(OPENER) || SURVIVABLE.try_with(|()| ()).is_ok()
}

/// From now on.
pub(crate) fn abort_on_panic() {
    std::panic::set_hook(Box::new(|info| {
        let report = report(info);
        if is_caught() {
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

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::panic::AssertUnwindSafe;
    use std::process::Command;

    use futures_util::FutureExt;

    use super::*;

    /// Set in the process that is to end.
    const CHILD: &str = "TEST_OF_PANICS";

    /// A test that starts itself as a process of its own: the hook is the whole process's.
    #[test]
    fn a_panic_ends_the_process_unless_a_request_brought_it_about() {
        if std::env::var_os(CHILD).is_some() {
            abort_on_panic();
            let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
            let caught = runtime.block_on(async {
                let request = survivable(async { panic!("in a request") });
                AssertUnwindSafe(request).catch_unwind().await
            });
            assert!(caught.is_err());
            writeln!(std::io::stderr(), "survived").unwrap();
            runtime.block_on(async { panic!("in a part of the node") });
        }
        let name =
            "telemetry::panic::tests::a_panic_ends_the_process_unless_a_request_brought_it_about";
        let child = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said = String::from_utf8(child.stderr).unwrap();
        assert_eq!(child.status.signal(), Some(6), "SIGABRT: {said}");
        let (before, after) = said.split_once("survived").unwrap();
        assert!(!before.contains("horai 0"), "{before}");
        assert!(after.contains("in a part of the node"), "{after}");
    }
}
