//! Executors: how an order becomes something that runs.
//!
//! The seam for further kinds: a process under a shim, or something that this
//! process does itself. Journalling and reporting are the same for all.

use std::collections::BTreeMap;
use std::path::Path;

use horai_core::ids::{AttemptKey, Token};
use horai_proto::worker as pb;

use super::shim::dir;

/// Where programs are looked for unless the job says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How an attempt is run.
pub(super) enum Plan {
    /// Inside this process, and done at once.
    Noop,
    /// Under a shim.
    Process {
        /// Program and arguments.
        argv: Vec<String>,
        /// Written to the attempt's folder first.
        script: Option<String>,
    },
}

/// The plan for `start`, whose folder is `folder`; an error text if it names none.
pub(super) fn plan(start: &pb::Start, folder: &Path) -> Result<Plan, String> {
    match &start.executor {
        Some(pb::start::Executor::Noop(_)) => Ok(Plan::Noop),
        Some(pb::start::Executor::Exec(exec)) if exec.argv.is_empty() => {
            Err("exec needs a program: its argv is empty".into())
        }
        Some(pb::start::Executor::Exec(exec)) => {
            Ok(Plan::Process { argv: exec.argv.clone(), script: None })
        }
        Some(pb::start::Executor::Shell(shell)) => {
            let path = folder.join(dir::SCRIPT).to_string_lossy().into_owned();
            let mut argv = shell.interpreter.clone();
            if argv.is_empty() {
                argv.push("/bin/sh".into());
            }
            argv.push(path);
            Ok(Plan::Process { argv, script: Some(shell.script.clone()) })
        }
        None => Err("this worker does not know the job's executor: upgrade it".into()),
    }
}

/// What the environment of an attempt's processes has and no other's of this worker: its
/// name and token.
pub(super) fn marks(key: AttemptKey, token: Token) -> [(&'static str, String); 2] {
    [("HORAI_ATTEMPT", key.to_string()), ("HORAI_FENCING_TOKEN", token.to_string())]
}

/// The whole environment: what the job declares, a `PATH`, and `HORAI_*`.
pub(super) fn environment(
    start: &pb::Start,
    key: AttemptKey,
    token: Token,
    folder: &Path,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
    env.extend(start.env.iter().map(|(k, v)| (k.clone(), v.clone())));
    let ours = [
        ("HORAI_JOB", start.job.clone()),
        ("HORAI_ACTION_ID", start.action_id.clone()),
        ("HORAI_RUN_ID", format!("r-{}", key.run)),
        ("HORAI_ATTEMPT_CAUSE", start.cause.clone()),
        ("HORAI_NOMINAL_TIME", start.nominal_time.clone()),
        ("HORAI_DUE_TIME", start.due_time.clone()),
        ("HORAI_SHARD_INDEX", key.shard_index().unwrap_or(0).to_string()),
    ];
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let state = start.state.as_ref().map(|_| ("HORAI_STATE", path(dir::STATE)));
    let files = [("HORAI_OUTPUT", path(dir::OUTPUTS))].into_iter().chain(state);
    let ours = ours.into_iter().chain(marks(key, token)).chain(files);
    env.extend(ours.map(|(k, v)| (k.to_owned(), v)));
    env
}
