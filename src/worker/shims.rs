//! Attempts as processes under shims: what the worker writes for a shim, and what
//! it reads when that has ended.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use horai_core::ids::{AttemptKey, Name, RunId, Token};
use horai_core::model::confinement::{Confinement, Isolation};
use horai_core::model::handle::Handle;
use horai_core::model::output::write;
use horai_proto::worker as pb;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use rustix::io::Errno;
use tokio::io::AsyncWriteExt;
use xxhash_rust::xxh3::xxh3_64;

use super::attempts::gone;
use super::cgroup::group::Group;
use super::cgroup::home::Found;
use super::ending::Ending;
use super::executor::{self, Plan, Site};
use super::interpreters::Interpreters;
use super::jobs::{Control, Furniture, JobRunner, Started};
use super::retention::Retention;
use super::shim::dir::{self, Private, Spec};
use super::shim::handles;
use super::shim::kill::{self, Process};
use super::wire;
use crate::files;

/// Bytes of output kept of one attempt: the first half and the last.
const OUTPUT_LIMIT: u64 = 64 * 1024 * 1024;
/// How long processes of a dead shim may resist SIGKILL before they are reported gone anyway.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(5);
/// How long an empty group may take to go.
const GROUP_PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks at a shim that is no child of this process.
const ADOPT_STEP: Duration = Duration::from_millis(50);

/// The folder of an attempt below `attempts`.
fn folder(attempts: &Path, key: AttemptKey) -> PathBuf {
    attempts.join(in_words(key))
}

/// An attempt, as folders and groups are named.
fn in_words(key: AttemptKey) -> String {
    format!("{}-{}-{}", key.run, key.shard, key.number)
}

/// True if somebody holds the lock of an attempt's folder.
fn has_shim(folder: &Path) -> bool {
    let lock = File::options().append(true).open(folder.join(dir::LOCK));
    lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Whose folder it is.
fn key_of(folder: &Path) -> Option<AttemptKey> {
    let mut numbers = folder.file_name()?.to_str()?.splitn(3, '-');
    let run = RunId(numbers.next()?.parse().ok()?);
    let (shard, number) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    Some(AttemptKey { run, shard, number })
}

/// Runs attempts under shims, each in a folder of its own.
pub(super) struct Shims {
    attempts: PathBuf,
    program: PathBuf,
    /// What names of groups begin with: this worker's, and no other's on this machine.
    prefix: String,
    found: Found,
    interpreters: Arc<Interpreters>,
    retention: Mutex<Retention>,
}

impl Shims {
    /// Below the folder `attempts` of the worker `name`, by `program`'s verb `shim`. Looks
    /// for what keeps attempts apart. Blocks.
    pub(super) fn new(
        name: &Name,
        attempts: PathBuf,
        program: PathBuf,
        interpreters: Interpreters,
    ) -> Self {
        let found = Found::here();
        let isolation = found.isolation.kind.word();
        match found.isolation.note.as_str() {
            "" => tracing::info!(isolation, "attempts are kept apart"),
            note => tracing::warn!(isolation, note, "attempts are not kept apart as they could be"),
        }
        // Workers of two clusters may have one name, but never one folder.
        let folder = xxh3_64(attempts.as_os_str().as_bytes());
        let prefix = format!("horai-{name}-{folder:016x}-");
        let interpreters = Arc::new(interpreters);
        Self { attempts, program, prefix, found, interpreters, retention: Mutex::default() }
    }

    fn folder(&self, key: AttemptKey) -> PathBuf {
        folder(&self.attempts, key)
    }

    /// The group of an attempt of those limits, where there are groups.
    fn group(&self, key: AttemptKey, limits: &Confinement) -> Option<Group> {
        let home = self.found.home.as_ref()?;
        Some(home.group(&format!("{}{}", self.prefix, in_words(key)), limits))
    }

    /// Ends what is left of attempts that the journal does not know. One that has a shim
    /// still is that one's to end.
    fn clear_groups(&self, known: &BTreeSet<AttemptKey>) {
        let Some(home) = &self.found.home else { return };
        let known: BTreeSet<String> = known.iter().map(|key| in_words(*key)).collect();
        home.clear(&self.prefix, |name| {
            let words = name.strip_prefix(&self.prefix).unwrap_or_default();
            known.contains(words) || has_shim(&self.attempts.join(words))
        });
    }
}

impl JobRunner for Shims {
    fn start(
        &self,
        order: pb::Start,
        key: AttemptKey,
        token: Token,
        files: Vec<Furniture>,
        deadline_ms: u64,
        offset_ms: i64,
    ) -> BoxFuture<'_, io::Result<Started>> {
        async move {
            let folder = self.folder(key);
            let at = folder.clone();
            let confinement =
                wire::confinement_of(order.confinement.as_ref()).map_err(io::Error::other)?;
            let group = self.group(key, &confinement);
            let interpreters = Arc::clone(&self.interpreters);
            let bounds = Bounds { deadline_ms, offset_ms, confinement, group };
            let has_handles = {
                let site = Site { folder: &folder, interpreters: &interpreters };
                !executor::handles(&order, &site).is_empty()
            };
            let (control, private) =
                blocking(move || prepare(&at, &order, (key, token), &files, bounds, &interpreters))
                    .await?;
            let mut command = tokio::process::Command::new(&self.program);
            let stdin = if private.is_some() { Stdio::piped() } else { Stdio::null() };
            command.arg("shim").arg(&folder).stdin(stdin).stdout(Stdio::null());
            command.stderr(Stdio::null());
            let mut shim = command.spawn()?;
            if let (Some(private), Some(mut stdin)) = (private, shim.stdin.take()) {
                // A shim that does not listen is over, and what it left behind tells.
                let _ = stdin.write_all(&private).await;
            }
            // However it ended, what it left on disk tells.
            let ended = async move { drop(shim.wait().await) }.boxed();
            Ok(Started { control: Box::new(control), has_handles, ended })
        }
        .boxed()
    }

    fn isolation(&self) -> Isolation {
        self.found.isolation.clone()
    }

    fn interpreters(&self) -> BTreeSet<Name> {
        self.interpreters.at_hand()
    }

    fn adopt_all(&self, known: &BTreeSet<AttemptKey>) -> Vec<AttemptKey> {
        self.clear_groups(known);
        let known: BTreeSet<PathBuf> = known.iter().map(|key| self.folder(*key)).collect();
        let retention = &mut *self.retention.lock().unwrap_or_else(PoisonError::into_inner);
        let left = retention.adopt(&self.attempts, |folder| known.contains(folder));
        left.iter().filter_map(|folder| key_of(folder)).collect()
    }

    fn adopt(&self, key: AttemptKey) -> Option<Box<dyn Control>> {
        let control = Fifo::open(&self.folder(key)).ok()?;
        Some(Box::new(control))
    }

    fn lease_ms(&self, key: AttemptKey) -> u64 {
        dir::read_spec(&self.folder(key)).map_or(0, |spec| spec.lease_ms)
    }

    /// Waits until no shim can be there, and reads what it left.
    fn collect(&self, key: AttemptKey, token: Token) -> BoxFuture<'_, Ending> {
        async move {
            let folder = self.folder(key);
            loop {
                let at = folder.clone();
                let seen = blocking(move || settle(&at, key, token)).await;
                match seen {
                    Ok(Some(ending)) => return ending,
                    Ok(None) => wait_for_shim(&folder).await,
                    Err(error) => {
                        tracing::error!(attempt = %key, %error, "cannot read an attempt's folder");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        }
        .boxed()
    }

    fn release(&self, key: AttemptKey) {
        let retention = &mut *self.retention.lock().unwrap_or_else(PoisonError::into_inner);
        retention.keep(self.folder(key));
    }

    fn discard(&self, key: AttemptKey) {
        let retention = &mut *self.retention.lock().unwrap_or_else(PoisonError::into_inner);
        retention.discard(&self.folder(key));
    }

    fn kills(&self, interpreter: &str, left: &[String]) -> Vec<(String, Vec<String>)> {
        let handles = self.interpreters.named(interpreter).map(|known| known.handles.clone());
        executor::kills(handles.unwrap_or_default(), left)
    }

    fn has_handles(&self, key: AttemptKey) -> bool {
        dir::read_spec(&self.folder(key)).is_ok_and(|spec| !spec.handles.is_empty())
    }

    fn handles(&self, key: AttemptKey) -> Vec<Handle> {
        handles::read(&self.folder(key))
    }

    fn output(&self, key: AttemptKey) -> Option<PathBuf> {
        Some(self.folder(key))
    }
}

/// The writing end of a shim's FIFO. Open for reading too, so that writing
/// neither waits for the shim nor fails before it has opened its end.
struct Fifo(File);

impl Fifo {
    fn open(folder: &Path) -> io::Result<Self> {
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
        let path = folder.join(dir::CONTROL);
        Ok(Self(OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?))
    }
}

impl Control for Fifo {
    fn extend(&self, deadline_ms: u64) -> io::Result<()> {
        (&self.0).write_all(format!("extend {deadline_ms}\n").as_bytes())
    }

    fn cancel(&self, grace_ms: u64) -> io::Result<()> {
        (&self.0).write_all(format!("cancel {grace_ms}\n").as_bytes())
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// What an attempt is held to.
struct Bounds {
    deadline_ms: u64,
    /// Cluster time minus time since boot.
    offset_ms: i64,
    confinement: Confinement,
    group: Option<Group>,
}

/// Writes everything a shim needs, durably; but what holds secrets is given back, to be
/// handed over in memory.
fn prepare(
    folder: &Path,
    start: &pb::Start,
    (key, token): (AttemptKey, Token),
    files: &[Furniture],
    bounds: Bounds,
    interpreters: &Interpreters,
) -> io::Result<(Fifo, Option<Vec<u8>>)> {
    fs::create_dir_all(folder)?;
    let is_private = !start.secrets.is_empty();
    let site = Site { folder, interpreters };
    let plan = executor::plan(start, &site).map_err(io::Error::other)?;
    let Plan::Process { mut argv, mut script } = plan else {
        return Err(io::Error::other("a noop needs no process"));
    };
    let mut env = executor::environment(start, key, token, folder);
    let [mut pre, mut post] = executor::steps(start, folder);
    let private = is_private.then(|| Private {
        argv: std::mem::take(&mut argv),
        env: std::mem::take(&mut env),
        script: start.secret_script.then(|| script.take()).flatten(),
        secrets: start.secrets.clone(),
        pre: std::mem::take(&mut pre),
        post: std::mem::take(&mut post),
    });
    for step in pre.iter_mut().chain(&mut post) {
        if let (Some(script), Some(place)) = (step.script.take(), step.argv.last()) {
            fs::write(place, script)?;
        }
    }
    if let Some(script) = script {
        fs::write(folder.join(dir::SCRIPT), script)?;
    }
    fs::write(folder.join(dir::OUTPUTS), "")?;
    if let Some(state) = &start.state {
        fs::write(folder.join(dir::STATE), write(&state.values))?;
    }
    if !files.is_empty() {
        furnish(&folder.join(dir::WORK), files)?;
    }
    let fifo = folder.join(dir::CONTROL);
    mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR)?;
    let spec = Spec {
        argv,
        env,
        timeout_ms: (start.timeout_ms > 0).then_some(start.timeout_ms),
        grace_ms: start.grace_ms,
        deadline_ms: bounds.deadline_ms,
        lease_ms: start.lease_ms,
        keep_for_ms: if start.keep { start.keep_for_ms } else { 0 },
        output_limit: OUTPUT_LIMIT,
        cluster_offset_ms: bounds.offset_ms,
        private: is_private,
        confinement: bounds.confinement,
        group: bounds.group,
        pre,
        post,
        handles: executor::handles(start, &site),
        left: executor::left(start, &site),
    };
    dir::write_spec(folder, &spec)?;
    if let Some(parent) = folder.parent() {
        files::sync_dir(parent)?;
    }
    let private = private.as_ref().map(dir::write_private).transpose()?;
    Ok((Fifo::open(folder)?, private))
}

/// Puts the job's files into its working folder. Who they belong to, the shim sees to.
fn furnish(work: &Path, files: &[Furniture]) -> io::Result<()> {
    fs::create_dir_all(work)?;
    for Furniture { name, mode, content } in files {
        let path = work.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(u32::from(*mode)))?;
    }
    Ok(())
}

/// The result, once no shim is there; without one, ends what is left and says
/// "gone" on disk, so that a shim that comes late starts nothing. None while a
/// shim holds the lock.
fn settle(folder: &Path, key: AttemptKey, token: Token) -> io::Result<Option<Ending>> {
    fs::create_dir_all(folder)?;
    let lock = File::options().create(true).append(true).open(folder.join(dir::LOCK))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(e)) => return Err(e),
    }
    if let Some(ending) = dir::read_result(folder)? {
        return Ok(Some(ending));
    }
    if let Some(group) = dir::read_spec(folder).ok().and_then(|spec| spec.group) {
        if !group.kill_all(ORPHAN_PATIENCE) {
            tracing::error!(attempt = %key, "the group of an attempt without a shim resists");
        }
        if let Err(error) = group.remove(GROUP_PATIENCE) {
            tracing::warn!(attempt = %key, %error, "the group of an attempt stays");
        }
    }
    let job = read_process(&folder.join(dir::JOB));
    if !kill::kill_orphans(job, &executor::marks(key, token), folder, ORPHAN_PATIENCE) {
        tracing::error!(attempt = %key, "processes of an attempt without a shim resist being killed");
    }
    let ending = Ending::from(gone());
    dir::write_result(folder, &ending)?;
    Ok(Some(ending))
}

fn read_process(path: &Path) -> Option<Process> {
    fs::read_to_string(path).ok()?.parse().ok()
}

/// Returns when the shim may have ended: at its exit, or after a moment if it
/// has not told its pid. Looks at the pidfd now and then, because the runtime
/// takes a foreign descriptor only through unsafe code; it concerns adopted
/// attempts only, a child's exit is waited for.
async fn wait_for_shim(folder: &Path) {
    let Some(handle) = read_process(&folder.join(dir::PID)).and_then(Process::open) else {
        return tokio::time::sleep(ADOPT_STEP).await;
    };
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        tokio::time::sleep(ADOPT_STEP).await;
        let mut ends = [PollFd::new(&handle, PollFlags::IN)];
        // Readable means ended; an error is for the caller to look at.
        if !matches!(poll(&mut ends, Some(&now)), Ok(0) | Err(Errno::INTR)) {
            return;
        }
    }
}
