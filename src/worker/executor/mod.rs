//! Executors: how an order becomes something that runs, one file for each kind.
//!
//! The seam for further kinds: a process under a shim, or something that this
//! process does itself. Journalling, limits, output and reporting are the same for all, and
//! so are the steps before and after.

mod exec;
mod http;
mod interpreter;
mod noop;
mod python;
mod shell;

use std::collections::BTreeMap;
use std::path::Path;

use horai_core::ids::{AttemptKey, Token};
use horai_core::model::handle::Handle;
use horai_proto::worker as pb;

use super::interpreters::{Interpreters, RemoteHandle};
use super::shim::dir::{self, HandlePattern, Step};
use super::shim::handles::kill_of;

/// Where programs are looked for unless the job says otherwise.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What runs a shell script, where nothing is said.
const SHELL: &str = "/bin/sh";
/// This very program, even if an upgrade has taken its name away.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// One kind of work.
trait Executor {
    /// How it is run at that place.
    ///
    /// # Errors
    /// Why it cannot be run by this worker, for people.
    fn plan(&self, site: &Site<'_>) -> Result<Plan, String>;

    /// How its output names what it begins elsewhere.
    fn handles(&self, _site: &Site<'_>) -> Vec<RemoteHandle> {
        Vec::new()
    }

    /// What runs the shell scripts around it, before their paths; empty where nothing is said.
    fn shell(&self) -> &[String] {
        &[]
    }
}

/// Where an attempt is run, and by what means.
pub(super) struct Site<'a> {
    /// The attempt's folder.
    pub(super) folder: &'a Path,
    /// What this worker can give scripts to.
    pub(super) interpreters: &'a Interpreters,
}

impl Site<'_> {
    /// Where a script will be, or be said to be.
    fn script(&self) -> String {
        path(self.folder, dir::SCRIPT)
    }
}

/// How an attempt is run.
#[derive(Debug, PartialEq, Eq)]
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

/// The kind of an order.
fn executor(start: &pb::Start) -> Result<&dyn Executor, String> {
    use pb::start::Executor as Order;
    Ok(match &start.executor {
        Some(Order::Shell(shell)) => shell,
        Some(Order::Python(python)) => python,
        Some(Order::Interpreted(interpreted)) => interpreted,
        Some(Order::Exec(exec)) => exec,
        Some(Order::Http(http)) => http,
        Some(Order::Noop(noop)) => noop,
        None => return Err("this worker does not know the job's executor: upgrade it".into()),
    })
}

/// The plan for `start`.
///
/// # Errors
/// Why there is none, for people.
pub(super) fn plan(start: &pb::Start, site: &Site<'_>) -> Result<Plan, String> {
    executor(start)?.plan(site)
}

/// The steps before and after it, with their scripts' texts.
pub(super) fn steps(start: &pb::Start, folder: &Path) -> [Vec<Step>; 2] {
    let shell = executor(start).map_or(&[][..], Executor::shell);
    let usual = [SHELL.to_owned()];
    let shell = if shell.is_empty() { &usual } else { shell };
    let of = |scripts: &[String], name: fn(usize) -> String| {
        let of = |(i, script): (usize, &String)| {
            let place = path(folder, &name(i));
            let argv = shell.iter().cloned().chain([place]).collect();
            Step { argv, script: Some(script.clone()) }
        };
        scripts.iter().enumerate().map(of).collect()
    };
    [of(&start.pre, dir::pre), of(&start.post, dir::post)]
}

/// How its output names what it begins elsewhere.
pub(super) fn handles(start: &pb::Start, site: &Site<'_>) -> Vec<HandlePattern> {
    let handles = executor(start).map(|executor| executor.handles(site)).unwrap_or_default();
    let of = |handle: RemoteHandle| HandlePattern {
        pattern: handle.pattern.as_str().to_owned(),
        kill: handle.kill,
    };
    handles.into_iter().map(of).collect()
}

/// What attempts before it began elsewhere, with the commands that end it; none where this
/// worker's interpreter knows nothing of such work.
pub(super) fn left(start: &pb::Start, site: &Site<'_>) -> Vec<(String, Vec<String>)> {
    let handles = executor(start).map(|executor| executor.handles(site)).unwrap_or_default();
    kills(handles, &start.handles_left)
}

/// Each with the command that ends it, by the pattern that takes it; none where none does.
pub(super) fn kills(handles: Vec<RemoteHandle>, left: &[String]) -> Vec<(String, Vec<String>)> {
    let handles: Vec<_> = handles.into_iter().map(|handle| (handle.pattern, handle.kill)).collect();
    let of = |text: &String| (text.clone(), kill_of(&handles, text).unwrap_or_default());
    left.iter().take(Handle::MAX).map(of).collect()
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_string_lossy().into_owned()
}

/// A script behind the program that runs it; `usual` where nothing is said.
fn script(interpreter: &[String], usual: &[&str], script: &str, site: &Site<'_>) -> Plan {
    let mut argv = interpreter.to_vec();
    if argv.is_empty() {
        argv.extend(usual.iter().map(|text| (*text).to_owned()));
    }
    argv.push(site.script());
    Plan::Process { argv, script: Some(script.to_owned()) }
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
    let state = start.state.as_ref().map(|_| ("HORAI_STATE", path(folder, dir::STATE)));
    let files = [("HORAI_OUTPUT", path(folder, dir::OUTPUTS))].into_iter().chain(state);
    let ours = ours.into_iter().chain(marks(key, token)).chain(files);
    env.extend(ours.map(|(k, v)| (k.to_owned(), v)));
    env
}

#[cfg(test)]
mod tests;
