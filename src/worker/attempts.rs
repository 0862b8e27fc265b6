//! One attempt's life on this worker: journal, shim, result; and adoption.
//!
//! Each attempt is one task that reports to the agent. It never decides whether
//! an attempt may run: the agent has checked fence, token and lease.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use horai_core::ids::{AttemptKey, LeaderId, Token};
use horai_core::machine::command::EndReport;
use horai_core::model::run::EndKind;
use horai_core::time::UtcMillis;
use horai_proto::worker as pb;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use rustix::io::Errno;
use tokio::sync::mpsc;

use super::clock::boot_ms;
use super::executor::{self, Plan};
use super::journal::{self, Journal, Record};
use super::shim::dir::{self, Spec};
use super::shim::kill::{self, Process};
use crate::files;

/// Output kept of one attempt.
const OUTPUT_LIMIT: u64 = 64 * 1024 * 1024;
/// How long processes of a dead shim may resist SIGKILL before they are reported gone anyway.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at a shim that is no child of this process.
const ADOPT_STEP: Duration = Duration::from_millis(50);

/// What an attempt's task tells the agent.
pub(super) enum Notice {
    /// Its shim takes orders now.
    Started(AttemptKey, Control),
    /// It is over, and its result is in the journal.
    Ended(Vec<(AttemptKey, Token, EndReport)>),
    /// The journal failed: the worker must stop.
    Broken(journal::Error),
}

/// The clocks that all attempts share with the agent.
#[derive(Default)]
pub(super) struct Shared {
    /// When the last acknowledged heartbeat was sent, since boot.
    pub(super) lease_from: AtomicU64,
    /// Cluster time minus time since boot.
    pub(super) offset: AtomicI64,
}

impl Shared {
    pub(super) fn deadline(&self, lease_ms: u64) -> u64 {
        match self.lease_from.load(Ordering::Acquire) {
            0 => 0,
            from => from.saturating_add(lease_ms),
        }
    }

    fn cluster_now(&self) -> UtcMillis {
        UtcMillis(self.offset.load(Ordering::Acquire).saturating_add_unsigned(boot_ms()))
    }
}

/// The writing end of a shim's FIFO. Open for reading too, so that writing
/// neither waits for the shim nor fails before it has opened its end.
pub(super) struct Control(File);

impl Control {
    fn open(folder: &Path) -> io::Result<Self> {
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
        let path = folder.join(dir::CONTROL);
        Ok(Self(OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?))
    }

    pub(super) fn extend(&self, deadline_ms: u64) -> io::Result<()> {
        (&self.0).write_all(format!("extend {deadline_ms}\n").as_bytes())
    }

    pub(super) fn cancel(&self, grace_ms: u64) -> io::Result<()> {
        (&self.0).write_all(format!("cancel {grace_ms}\n").as_bytes())
    }
}

/// What every attempt's task needs.
#[derive(Clone)]
pub(super) struct Runner {
    pub(super) attempts: PathBuf,
    pub(super) program: PathBuf,
    pub(super) journal: Journal,
    pub(super) shared: Arc<Shared>,
    pub(super) notices: mpsc::Sender<Notice>,
}

/// The folder of an attempt below `attempts`.
pub(super) fn folder(attempts: &Path, key: AttemptKey) -> PathBuf {
    attempts.join(format!("{}-{}-{}", key.run, key.shard, key.number))
}

impl Runner {
    /// Records a batch of noops as accepted and finished, by one sync.
    pub(super) async fn noops(self, batch: Vec<(AttemptKey, Token, LeaderId)>) {
        let now = self.shared.cluster_now();
        let report = ended(EndKind::Exited { code: 0 }, Some(now), now);
        let accepted = batch.iter().map(|(key, token, fence)| Record::Accepted {
            key: *key,
            token: *token,
            fence: *fence,
        });
        let finished = batch.iter().map(|(key, token, _)| Record::Finished {
            key: *key,
            token: *token,
            report: report.clone(),
        });
        let records = accepted.chain(finished).collect();
        let notice = match self.journal.append(records).await {
            Ok(()) => Notice::Ended(
                batch.into_iter().map(|(key, token, _)| (key, token, report.clone())).collect(),
            ),
            Err(error) => refused(error, batch),
        };
        self.tell(notice).await;
    }

    /// Runs one attempt under a shim.
    pub(super) async fn run(
        self,
        start: pb::Start,
        key: AttemptKey,
        token: Token,
        fence: LeaderId,
    ) {
        if let Err(e) = self.journal.append(vec![Record::Accepted { key, token, fence }]).await {
            return self.tell(refused(e, vec![(key, token, fence)])).await;
        }
        let folder = folder(&self.attempts, key);
        let deadline_ms = self.shared.deadline(start.lease_ms);
        if boot_ms() >= deadline_ms {
            let report = ended(EndKind::LeaseExpired, None, self.shared.cluster_now());
            return self.finish(key, token, report).await;
        }
        let offset = self.shared.offset.load(Ordering::Acquire);
        let prepared = blocking({
            let folder = folder.clone();
            move || prepare(&folder, &start, key, token, deadline_ms, offset)
        })
        .await;
        let mut command = tokio::process::Command::new(&self.program);
        command.arg("shim").arg(&folder).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null());
        let spawned = prepared.and_then(|control| Ok((control, command.spawn()?)));
        match spawned {
            Ok((control, mut shim)) => {
                self.tell(Notice::Started(key, control)).await;
                // However it ended, what it left on disk tells.
                let _ = shim.wait().await;
                self.collect(key, token).await;
            }
            Err(e) => {
                let how = EndKind::not_started(&format!("the worker could not start it: {e}"));
                let now = self.shared.cluster_now();
                self.finish(key, token, ended(how, None, now)).await;
            }
        }
    }

    /// Takes over an attempt that this worker's predecessor started.
    pub(super) async fn adopt(self, key: AttemptKey, token: Token) {
        let folder = folder(&self.attempts, key);
        if let Ok(control) = Control::open(&folder) {
            self.tell(Notice::Started(key, control)).await;
        }
        self.collect(key, token).await;
    }

    /// Waits until no shim can be there, and reports what it left.
    async fn collect(self, key: AttemptKey, token: Token) {
        let folder = folder(&self.attempts, key);
        loop {
            let at = folder.clone();
            let seen = blocking(move || settle(&at, key, token)).await;
            match seen {
                Ok(Some(report)) => return self.finish(key, token, report).await,
                Ok(None) => wait_for_shim(&folder).await,
                Err(error) => {
                    tracing::error!(attempt = %key, %error, "cannot read an attempt's folder");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn finish(self, key: AttemptKey, token: Token, report: EndReport) {
        let record = Record::Finished { key, token, report: report.clone() };
        let notice = match self.journal.append(vec![record]).await {
            Ok(()) => Notice::Ended(vec![(key, token, report)]),
            Err(error) => Notice::Broken(error),
        };
        self.tell(notice).await;
    }

    async fn tell(&self, notice: Notice) {
        // The agent is gone when the worker stops: the journal has it.
        let _ = self.notices.send(notice).await;
    }
}

/// An acceptance that the journal did not take: a full one means that nothing was
/// started, any other error that nothing may be any more.
fn refused(error: journal::Error, batch: Vec<(AttemptKey, Token, LeaderId)>) -> Notice {
    if !matches!(error, journal::Error::Full { .. }) {
        return Notice::Broken(error);
    }
    tracing::warn!(%error, attempts = batch.len(), "attempts refused");
    Notice::Ended(batch.into_iter().map(|(key, token, _)| (key, token, gone())).collect())
}

/// When a lost process ended is not known.
fn gone() -> EndReport {
    EndReport { how: EndKind::Gone, started: None, ended: None, output_bytes: 0, output_crc: 0 }
}

pub(super) fn ended(how: EndKind, started: Option<UtcMillis>, at: UtcMillis) -> EndReport {
    EndReport { how, started, ended: Some(at), output_bytes: 0, output_crc: 0 }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Writes everything a shim needs, durably.
fn prepare(
    folder: &Path,
    start: &pb::Start,
    key: AttemptKey,
    token: Token,
    deadline_ms: u64,
    cluster_offset_ms: i64,
) -> io::Result<Control> {
    fs::create_dir_all(folder)?;
    let plan = executor::plan(start, folder).map_err(io::Error::other)?;
    let Plan::Process { argv, script } = plan else {
        return Err(io::Error::other("a noop needs no process"));
    };
    if let Some(script) = script {
        fs::write(folder.join(dir::SCRIPT), script)?;
    }
    let fifo = folder.join(dir::CONTROL);
    mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR)?;
    let spec = Spec {
        argv,
        env: executor::environment(start, key, token, folder),
        timeout_ms: (start.timeout_ms > 0).then_some(start.timeout_ms),
        grace_ms: start.grace_ms,
        deadline_ms,
        lease_ms: start.lease_ms,
        keep_for_ms: if start.keep { start.keep_for_ms } else { 0 },
        output_limit: OUTPUT_LIMIT,
        cluster_offset_ms,
    };
    dir::write_spec(folder, &spec)?;
    if let Some(parent) = folder.parent() {
        files::sync_dir(parent)?;
    }
    Control::open(folder)
}

/// The result, once no shim is there; without one, ends what is left and says
/// "gone" on disk, so that a shim that comes late starts nothing. None while a
/// shim holds the lock.
fn settle(folder: &Path, key: AttemptKey, token: Token) -> io::Result<Option<EndReport>> {
    fs::create_dir_all(folder)?;
    let lock = File::options().create(true).append(true).open(folder.join(dir::LOCK))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(e)) => return Err(e),
    }
    if let Some(report) = dir::read_result(folder)? {
        return Ok(Some(report));
    }
    let job = read_process(&folder.join(dir::JOB));
    if !kill::kill_orphans(job, &key.to_string(), token.0, ORPHAN_PATIENCE) {
        tracing::error!(attempt = %key, "processes of an attempt without a shim resist being killed");
    }
    let report = gone();
    dir::write_result(folder, &report)?;
    Ok(Some(report))
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
